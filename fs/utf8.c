#include "fs/utf8.h"

/* Continuation bytes are 10xxxxxx. */
static bool continues(const unsigned char *bytes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if ((bytes[i] & 0xc0) != 0x80)
			return false;
	return true;
}

size_t utf8_char(const char *ptr, size_t len, uint32_t *ret_code)
{
	const unsigned char *byte = (const unsigned char *)ptr;
	if (byte[0] < 0x80) {
		*ret_code = byte[0];
		return 1;
	}
	/* 0xc0 and 0xc1 would only begin overlong forms, above 0xf4 everything is beyond U+10FFFF */
	size_t size = byte[0] < 0xc2 ? 0 : byte[0] < 0xe0 ? 2 : byte[0] < 0xf0 ? 3 : byte[0] < 0xf5 ? 4 : 0;
	if (size == 0 || size > len || !continues(byte + 1, size - 1))
		return 0;
	uint32_t code = byte[0] & (0x7fu >> size);
	for (size_t i = 1; i < size; i++)
		code = code << 6 | (byte[i] & 0x3fu);
	if ((size == 3 && code < 0x800) || (size == 4 && code < 0x10000)) /* overlong */
		return 0;
	if ((code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff)
		return 0;
	*ret_code = code;
	return size;
}

bool utf8_valid(const char *ptr, size_t len)
{
	uint32_t code;
	for (size_t at = 0, size; at < len; at += size) {
		size = utf8_char(ptr + at, len - at, &code);
		if (size == 0)
			return false;
	}
	return true;
}
