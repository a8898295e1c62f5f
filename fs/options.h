/*
 * options - the command line of the program.
 */
#ifndef MQFS_FS_OPTIONS_H
#define MQFS_FS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "fs/awake.h"
#include "fs/quota.h"

struct options {
	const char *source, *mountpoint;
	bool foreground, debug;
	bool read_only, allow_other;
	bool staging;       /* producers may write past the program, where the kernel can do that */
	const char *fsname; /* NULL: the source */
	bool io_uring;
	unsigned threads;
	unsigned busy_poll;          /* us: fs/receive.h */
	enum awake_want awake;       /* fs/awake.h */
	uint64_t quota[QUOTA_KINDS]; /* of one user, 0: no limit */
};

void options_standard(struct options *ret_options); /* what holds where nothing is said */

/*
 * Applies the words of one -o argument, which is changed and pointed into; a later word wins. Commas within double quotes do not
 * separate. 0, or EINVAL with a sentence, and what came before is applied.
 */
#define OPTIONS_PROBLEM 256
int options_apply(struct options *options, char *list, char ret_problem[OPTIONS_PROBLEM]);

/*
 * Parses; exits by itself for --help and --version (0) and for what it does not understand (1, with the option named). Strings
 * point into argv, which is changed.
 */
void options_parse(int argc, char **argv, struct options *ret_options);

#endif
