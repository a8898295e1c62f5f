#include "fs/buffer.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_FIRST 256u /* bytes of the first allocation */

int buffer_error(const struct buffer *buf)
{
	return buf->failed ? -ENOMEM : 0;
}

void buffer_clear(struct buffer *buf)
{
	buf->len = 0;
	buf->failed = false;
}

void buffer_fit(struct buffer *buf)
{
	char *ptr = buf->len > 0 ? realloc(buf->ptr, buf->len) : NULL;
	if (!ptr)
		return;
	buf->ptr = ptr;
	buf->cap = buf->len;
}

void buffer_release(struct buffer *buf)
{
	free(buf->ptr);
	*buf = BUFFER_INIT;
}

char *buffer_room(struct buffer *buf, size_t size)
{
	if (buf->failed)
		return NULL;
	if (size <= buf->cap - buf->len && buf->ptr)
		return buf->ptr + buf->len;
	size_t needed, cap = buf->cap > 0 ? buf->cap : BUFFER_FIRST;
	if (__builtin_add_overflow(buf->len, size, &needed) || needed > SIZE_MAX / 2) {
		buf->failed = true;
		return NULL;
	}
	while (cap < needed)
		cap *= 2;
	char *ptr = realloc(buf->ptr, cap);
	if (!ptr) {
		buf->failed = true;
		return NULL;
	}
	buf->ptr = ptr;
	buf->cap = cap;
	return ptr + buf->len;
}

void buffer_add(struct buffer *buf, const void *ptr, size_t len)
{
	char *room = buffer_room(buf, len);
	if (!room || len == 0)
		return;
	memcpy(room, ptr, len);
	buf->len += len;
}

void buffer_add_char(struct buffer *buf, char c)
{
	buffer_add(buf, &c, 1);
}

void buffer_add_text(struct buffer *buf, const char *text)
{
	buffer_add(buf, text, strlen(text));
}

void buffer_add_u64(struct buffer *buf, uint64_t value)
{
	char digits[20];
	size_t at = sizeof(digits);
	do
		digits[--at] = (char)('0' + value % 10);
	while ((value /= 10) > 0);
	buffer_add(buf, digits + at, sizeof(digits) - at);
}

void buffer_add_i64(struct buffer *buf, int64_t value)
{
	if (value < 0)
		buffer_add_char(buf, '-');
	buffer_add_u64(buf, value < 0 ? -(uint64_t)value : (uint64_t)value);
}

void buffer_printf(struct buffer *buf, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int len = vsnprintf(NULL, 0, format, args);
	va_end(args);
	assert(len >= 0);
	char *room = buffer_room(buf, (size_t)len + 1);
	if (!room)
		return;
	va_start(args, format);
	vsnprintf(room, (size_t)len + 1, format, args);
	va_end(args);
	buf->len += (size_t)len;
}
