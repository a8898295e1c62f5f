/*
 * What follows -o, as mount.mqfs takes it and as the program does: taken, or refused with a sentence. What the helper passes on it passes on
 * again as it is, and the program knows every word of it; what the program takes the helper takes.
 *
 * The input is one list; a zero byte begins the next.
 */
#include <string.h>

#include "fs/options.h"
#include "fs/receive.h"
#include "mount-helpers/options.h"
#include "tests/fuzz/fuzz.h"

/* The program's answer to a list, which it changes. */
static int apply(struct options *options, const char *list, char problem[OPTIONS_PROBLEM])
{
	char *copy = strdup(list);
	int err;

	FUZZ_ASSERT(copy != NULL);
	problem[0] = '\0';
	err = options_apply(options, copy, problem);
	FUZZ_ASSERT((err == 0) == (problem[0] == '\0'));
	FUZZ_ASSERT(options->threads >= 2 && options->threads <= 64 && options->busy_poll <= BUSY_POLL_MAX);
	FUZZ_ASSERT(options->fsname == NULL || options->fsname[0] != '\0');
	options->fsname = NULL;
	free(copy);
	return err;
}

static void try_again(const struct mount_options *first)
{
	struct mount_options again;
	char problem[512] = "";

	options_init(&again);
	FUZZ_ASSERT(options_add(&again, first->passed, false, problem, sizeof(problem)) == 0);
	FUZZ_ASSERT(strcmp(again.passed, first->passed) == 0);
}

static void try_list(struct mount_options *options, struct options *of_program, const char *list, bool sloppy)
{
	char problem[512] = "", of_other[OPTIONS_PROBLEM];
	struct options program;
	int err = options_add(options, list, sloppy, problem, sizeof(problem));

	FUZZ_ASSERT((err == 0) == (problem[0] == '\0'));
	FUZZ_ASSERT(strlen(options->passed) < OPTIONS_MAX);
	FUZZ_ASSERT(options->timeout_s >= 1 && (options->set_flags & options->clear_flags) == 0);
	try_again(options);
	options_standard(&program);
	if (apply(&program, options->passed, of_other) != 0)
		FUZZ_ASSERT(strncmp(of_other, "unknown", 7) != 0);
	if (apply(of_program, list, of_other) == 0 && strlen(list) < OPTIONS_MAX / 2 &&
	    strlen(options->passed) < OPTIONS_MAX / 2)
		FUZZ_ASSERT(err == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mount_options options;
	struct options of_program;
	char *text = malloc(size + 1);

	FUZZ_ASSERT(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	options_init(&options);
	options_standard(&of_program);
	for (size_t at = 0; at <= size; at += strlen(text + at) + 1)
		try_list(&options, &of_program, text + at, at % 2 == 1);
	free(text);
	return 0;
}
