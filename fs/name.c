#include "fs/name.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "fs/utf8.h"

static const char *const suffixes[FRAME_COUNT] = {
	[FRAME_LINE] = "",
	[FRAME_JSON] = ".json",
	[FRAME_NUL] = ".nul",
	[FRAME_RAW] = ".raw",
};

static bool is_control(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code <= 0x9f);
}

/* Not to be shown as it is: it ends a line or turns the direction of writing (U+061C, U+200E.., U+2028.., U+2066..). */
static bool is_misleading(uint32_t code)
{
	return code == 0x61c || code == 0x200e || code == 0x200f || (code >= 0x2028 && code <= 0x202e) ||
	       (code >= 0x2066 && code <= 0x2069);
}

static bool ends_with(const char *name, const char *ending)
{
	size_t len = strlen(name), ending_len = strlen(ending);
	return len >= ending_len && strcmp(name + len - ending_len, ending) == 0;
}

/* UTF-8 of 1..max bytes without control characters and slashes. */
static int check_bytes(const char *name, size_t max)
{
	size_t len = strnlen(name, max + 1);
	if (len > max)
		return -ENAMETOOLONG;
	if (len == 0)
		return -EINVAL;
	uint32_t code;
	for (size_t at = 0, size; at < len; at += size) {
		size = utf8_char(name + at, len - at, &code);
		if (size == 0 || is_control(code) || code == '/')
			return -EINVAL;
	}
	return 0;
}

int name_check(const char *name, size_t max)
{
	int err = check_bytes(name, max);
	if (err)
		return err;
	/* vi asks whether it may create files by creating "4913" */
	if (name[0] == '.' || ends_with(name, "~") || ends_with(name, ".swp") || strcmp(name, "4913") == 0)
		return -EINVAL;
	return 0;
}

int key_check(const char *key)
{
	int err = check_bytes(key, ENGINE_KEY_MAX);
	if (err)
		return err;
	return strcmp(key, ".") == 0 || strcmp(key, "..") == 0 ? -EINVAL : 0;
}

bool name_waits(const char *name)
{
	return name[0] == '.' || ends_with(name, ".tmp") || ends_with(name, ".part");
}

bool name_split(const char *name, unsigned framings, char ret_stem[ENGINE_KEY_MAX + 1], enum framing *ret_framing)
{
	size_t len = strnlen(name, ENGINE_KEY_MAX + 1);
	if (len > ENGINE_KEY_MAX)
		return false;
	enum framing framing = FRAME_COUNT;
	while (--framing != FRAME_LINE) {
		if ((framings & FRAMING_BIT(framing)) && ends_with(name, suffixes[framing]) &&
		    len > strlen(suffixes[framing]))
			break;
	}
	if (!(framings & FRAMING_BIT(framing)))
		return false;
	len -= strlen(suffixes[framing]);
	memcpy(ret_stem, name, len);
	ret_stem[len] = '\0';
	*ret_framing = framing;
	return true;
}

const char *name_suffix(enum framing framing)
{
	assert(framing < FRAME_COUNT);
	return suffixes[framing];
}

/* quoted: for between quotes, so that these and the backslash are escaped as well. */
static size_t escape(const char *in, size_t len, bool quoted, char *out, size_t size)
{
	static const char hex[] = "0123456789abcdef";
	assert(size >= 1);
	size_t end = 0;
	uint32_t code = 0;
	for (size_t at = 0, step; at < len; at += step) {
		step = utf8_char(in + at, len - at, &code);
		bool plain = step > 0 && !is_control(code) && !is_misleading(code) &&
			     !(quoted && code < 0x80 && strchr("\"'\\", (int)code));
		const char *from = in + at;
		if (!quoted && step > 0 && (code < 0x20 || code == 0x7f))
			plain = true, from = " ";
		step = step > 0 ? step : 1;
		if ((plain ? step : 4 * step) >= size - end)
			break;
		if (plain) {
			memcpy(out + end, from, step);
			end += step;
			continue;
		}
		for (size_t i = 0; i < step; i++) {
			unsigned char byte = (unsigned char)in[at + i];
			memcpy(out + end, (char[4]){ '\\', 'x', hex[byte >> 4], hex[byte & 15] }, 4);
			end += 4;
		}
	}
	out[end] = '\0';
	return end;
}

size_t name_escape(const char *in, size_t len, char *out, size_t size)
{
	return escape(in, len, true, out, size);
}

size_t name_escape_text(const char *in, size_t len, char *out, size_t size)
{
	return escape(in, len, false, out, size);
}
