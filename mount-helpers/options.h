/*
 * options - what mount(8) hands to the helper in -o, and what becomes of each word.
 *
 * mount(8) passes nearly everything from the command line and from fstab: some of it is meant for others (nofail is systemd's,
 * user is mount(8)'s own) and is dropped here, some of it goes on to the program, and a few words are the helper's. A word
 * that nobody knows is an error that names it and the nearest known one: a mistyped `allow_othr` must not mount
 * something else than was asked for. All of it is one table, in options.c.
 */
#ifndef MQFS_HELPERS_OPTIONS_H
#define MQFS_HELPERS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#define OPTIONS_MAX 4096 /* bytes of a list; mount(2) takes a page */

struct mount_options {
	char passed[OPTIONS_MAX];  /* for the program, separated by commas; may be empty */
	unsigned long set_flags;   /* MS_... asked for with words such as ro and nodev */
	unsigned long clear_flags; /* MS_... asked off with words such as rw and dev */
	int timeout_s;             /* mount-timeout= */
	bool remount;
};

void options_init(struct mount_options *options);

/*
 * Adds the words of one -o argument; a later word wins over an earlier one. Commas within double quotes do not separate.
 * sloppy (mount -s) drops unknown words. 0, or -EINVAL with a sentence in ret_problem.
 */
int options_add(struct mount_options *options, const char *list, bool sloppy, char *ret_problem, size_t problem_size);

/* The known name that is nearest to an unknown one, or NULL if none is near. */
const char *options_nearest(const char *name, size_t length);

#endif
