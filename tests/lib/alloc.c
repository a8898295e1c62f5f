#include "tests/lib/alloc.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local struct {
	bool armed;
	uint64_t n, count;
} alloc;

void alloc_arm(uint64_t n)
{
	alloc.armed = true;
	alloc.n = n;
	alloc.count = 0;
}

uint64_t alloc_disarm(void)
{
	alloc.armed = false;
	return alloc.count;
}

static bool fails(void)
{
	if (!alloc.armed)
		return false;
	if (++alloc.count != alloc.n)
		return false;
	errno = ENOMEM;
	return true;
}

void *alloc_malloc(size_t size)
{
	return fails() ? NULL : malloc(size);
}

void *alloc_calloc(size_t count, size_t size)
{
	return fails() ? NULL : calloc(count, size);
}

void *alloc_realloc(void *old, size_t size)
{
	return fails() ? NULL : realloc(old, size);
}

char *alloc_strdup(const char *text)
{
	return fails() ? NULL : strdup(text);
}

int alloc_asprintf(char **ret_text, const char *format, ...)
{
	va_list args;
	int rc;

	if (fails())
		return -1;
	va_start(args, format);
	rc = vasprintf(ret_text, format, args);
	va_end(args);
	return rc;
}

DIR *alloc_fdopendir(int fd)
{
	return fails() ? NULL : fdopendir(fd);
}

int alloc_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *arg), void *arg)
{
	return fails() ? ENOMEM : pthread_create(thread, attr, run, arg);
}
