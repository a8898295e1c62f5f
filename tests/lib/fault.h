/*
 * fault - makes the n-th change, or read, of a file fail, whichever it is.
 *
 * fault_arm() puts itself in the place of the engine's io table. A test runs what it tests with n = 1, 2, 3, ... until
 * fault_disarm() says that the n-th call was never reached; so every call fails once, in every place.
 */
#ifndef MQFS_TEST_FAULT_H
#define MQFS_TEST_FAULT_H

#include <stdbool.h>
#include <stdint.h>

enum fault_op {
	FAULT_OPEN = 1,
	FAULT_MKDIR = 2, /* and fchmod */
	FAULT_WRITE = 4,
	FAULT_SYNC = 8,      /* fdatasync, fsync and syncfs */
	FAULT_TRUNCATE = 16, /* ftruncate and fallocate */
	FAULT_RENAME = 32,
	FAULT_UNLINK = 64,
	FAULT_ANY = 127,
	FAULT_READ = 256,
	FAULT_MINE = 128, /* of these kinds, only what the thread does that armed it: the same calls in every run */
};

/*
 * From now on calls of these kinds are counted, and the n-th (from 1) gives -err, without doing anything; but a write does
 * half of its work first, or, for even n, all of it, so that something torn or something refused is left. err 0, of FAULT_WRITE
 * and FAULT_READ: it does a part, and says how much. sticky: all calls after it fail as well. n 0: only count.
 */
void fault_arm(unsigned ops, uint64_t n, int err, bool sticky);

/* What was there before again. Returns how many were counted. */
uint64_t fault_disarm(void);

#endif
