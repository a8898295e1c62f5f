/*
 * iouring - io_uring(7), as much of it as a queue of FUSE needs, by its system calls: liburing has nothing else that would be wanted.
 *
 * The ring belongs to the thread that opens it (SINGLE_ISSUER), and the kernel gives it nothing outside of iouring_wait()
 * (DEFER_TASKRUN). Linux 6.1.
 */
#ifndef MQFS_FS_IOURING_H
#define MQFS_FS_IOURING_H

#include <linux/io_uring.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero is none. Private, but for reading unsent. */
struct iouring {
	int fd;
	char *sq, *cq, *sqes;
	size_t sq_size, cq_size, sqes_size;
	struct io_uring_params params;
	unsigned unsent; /* added and not submitted */
};

/* -errno: there is none. */
int iouring_open(struct iouring *ring, unsigned entries);
void iouring_close(struct iouring *ring); /* also of one that was not opened */

/* The next of at most `entries` commands that are unsent, all zero: to be filled in. */
struct io_uring_sqe *iouring_add(struct iouring *ring);

/* Submits what was added. 0 or -errno; then it is still unsent. */
int iouring_submit(struct iouring *ring);

/*
 * Submits what was added, lets the kernel give what it has, and waits until there is something if `wait`, at most timeout_ns (-1: for
 * ever). 0, also without anything, or -errno.
 */
int iouring_wait(struct iouring *ring, bool wait, int64_t timeout_ns);

/* The next completion that is here; false: there is none. */
bool iouring_next(struct iouring *ring, uint64_t *ret_data, int *ret_result);
bool iouring_has_next(const struct iouring *ring);

#endif
