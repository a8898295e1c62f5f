/*
 * local_reserve - room on the disk for what must work when it is full. How it works is said in local_reserve.c.
 */
#ifndef MQFS_LOCAL_RESERVE_H
#define MQFS_LOCAL_RESERVE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/local_timer.h"

struct local;

enum reserve_state {
	RESERVE_NONE,  /* there is none to be had: a read-only store, or a file system that cannot allocate */
	RESERVE_WHOLE, /* its room is in STORE/reserve */
	RESERVE_USED,  /* its room was given back to the disk, or could not be had yet */
};

struct reserve {
	pthread_rwlock_t lock;    /* read: a message is being written; write: for all that follows */
	int fd;                   /* lock; -1: not open */
	uint64_t bytes;           /* never changes */
	enum reserve_state state; /* lock */
	uint32_t users;           /* operations that are being tried once more; lock */
	int failure;              /* why there is none, if that is an error; lock */
	struct timer timer;
	bool told_used, told_failure; /* timer thread only */
};

void reserve_init(struct reserve *reserve); /* no file yet: RESERVE_NONE */
void reserve_release(struct reserve *reserve);

/* Makes it, if there is room, or finds it used up, which is no error. Before anything that may need it. ENOMEM. */
int reserve_open(struct local *local);

/*
 * Does what must work on a full disk:
 *
 *	bool again = false;
 *
 *	do
 *		rc = plog_trim(plog, before);
 *	while (reserve_again(local, rc, &again));
 *
 * True once, if rc says that the disk is full and there is a reserve, which is then given back. What is tried must not
 * have changed anything when it fails so. No partition.lock may be held, nor any lock of a log, the catalog or the journal.
 */
bool reserve_again(struct local *local, int rc, bool *again);

/*
 * For what has to be done, as it is noted already: when there is no memory, or no descriptor, some may be free in a moment. As reserve_again(), with
 * tries 0 at first; gives up after half a second.
 */
bool memory_again(int rc, unsigned int *tries);

/*
 * Around each write of messages: until reserve_leave() the reserve is not given back. ENOSPC, with a sentence: it is used
 * up, and there is no room to make it again. What takes room once asks reserve_check(). Any locks may be held.
 */
int reserve_enter(struct local *local);
void reserve_leave(struct local *local);
int reserve_check(struct local *local);
/* Has the disk so many bytes (>= 1) beside the reserve, and so many files? True if it does not say. */
bool reserve_leaves(struct local *local, uint64_t bytes, uint64_t files);

bool reserve_is_used(struct local *local);

#endif
