/*
 * errors - the lines of status/errors: the last ones, in order.
 *
 * They are of all users. When there are as many as are kept, the oldest goes of the user who has the most, so that who is refused
 * without end pushes out lines of his own only, and everybody finds the last ones of his.
 *
 * Thread-safe: one mutex, private, held for copying only.
 */
#ifndef MQFS_FS_ERRORS_H
#define MQFS_FS_ERRORS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/buffer.h"

#define ERRORS_KEPT 256u

struct errors {
	pthread_mutex_t lock;
	size_t count; /* this and what follows: lock */
	struct error_line {
		char *text; /* with its newline */
		uint32_t uid;
	} lines[ERRORS_KEPT]; /* the oldest first */
};

void errors_init(struct errors *errors);
void errors_release(struct errors *errors);

/* Adds a line of len bytes without its newline, of a user, as ring_line() makes it. ENOMEM: not added. */
int errors_add(struct errors *errors, uint32_t uid, const char *text, size_t len);

/* Appends to out the last lines, at most max of them, and returns how many. ENOMEM: out is as before. */
int errors_read(struct errors *errors, size_t max, struct buffer *out);

#endif
