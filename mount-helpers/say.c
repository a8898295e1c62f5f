#include "mount-helpers/say.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static int verbose; /* set once, by the command line */

static void line(FILE *file, const char *format, va_list arguments)
{
	fprintf(file, "%s: ", program_invocation_short_name);
	vfprintf(file, format, arguments);
	fputc('\n', file);
	fflush(file);
}

void say(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	line(stderr, format, arguments);
	va_end(arguments);
}

void say_steps(int on)
{
	verbose = on;
}

void say_step(const char *format, ...)
{
	va_list arguments;

	if (!verbose)
		return;
	va_start(arguments, format);
	line(stdout, format, arguments);
	va_end(arguments);
}
