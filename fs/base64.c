#include "fs/base64.h"

#include <errno.h>
#include <stdint.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const void *in, size_t len, char *out)
{
	const unsigned char *byte = in;
	for (; len >= 3; len -= 3, byte += 3) {
		uint32_t bits = (uint32_t)byte[0] << 16 | (uint32_t)byte[1] << 8 | byte[2];
		*out++ = alphabet[bits >> 18];
		*out++ = alphabet[bits >> 12 & 63];
		*out++ = alphabet[bits >> 6 & 63];
		*out++ = alphabet[bits & 63];
	}
	if (len == 0)
		return;
	uint32_t bits = (uint32_t)byte[0] << 16 | (len == 2 ? (uint32_t)byte[1] << 8 : 0);
	*out++ = alphabet[bits >> 18];
	*out++ = alphabet[bits >> 12 & 63];
	*out++ = len == 2 ? alphabet[bits >> 6 & 63] : '=';
	*out++ = '=';
}

/* The six bits a character stands for, or -1. */
static int value_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

ssize_t base64_decode(const char *in, size_t len, void *out)
{
	if (len % 4 != 0)
		return -EINVAL;
	size_t padding = len == 0 || in[len - 1] != '=' ? 0 : in[len - 2] != '=' ? 1 : 2;
	unsigned char *byte = out;
	for (size_t at = 0; at < len; at += 4) {
		size_t chars = at + 4 == len ? 4 - padding : 4;
		uint32_t bits = 0;
		for (size_t i = 0; i < 4; i++) {
			int value = i < chars ? value_of(in[at + i]) : 0;
			if (value < 0)
				return -EINVAL;
			bits = bits << 6 | (uint32_t)value;
		}
		if ((chars == 3 && (bits & 0xff) != 0) || (chars == 2 && (bits & 0xffff) != 0))
			return -EINVAL;
		*byte++ = (unsigned char)(bits >> 16);
		if (chars > 2)
			*byte++ = (unsigned char)(bits >> 8);
		if (chars > 3)
			*byte++ = (unsigned char)bits;
	}
	return byte - (unsigned char *)out;
}
