/*
 * parked - reads that wait: requests kept without a thread until there is something to answer.
 *
 * A handler never waits in its thread: ten that do stop a whole mount. It parks the request in the list of its open file
 * and returns; whoever brings news takes requests out of the list and answers them. The kernel's INTERRUPT (Ctrl-C,
 * kill -9 of the reader) may come at any moment, even before the request is in the list; whoever claims a request first, the
 * interrupt or the one with the news, answers it, and nobody else.
 *
 * The list is guarded by the lock of its open file, which is also given to parked_add, since an interrupt takes it to
 * take the request out.
 */
#ifndef MQFS_FS_PARKED_H
#define MQFS_FS_PARKED_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "fs/fuse.h"
#include "fs/patience.h"
#include "fs/quota.h"

struct parked {
	fuse_req_t req;
	size_t size;
	off_t offset;
	_Atomic int state; /* enum in parked.c: who may answer */
	struct parked_list *list;
	uint64_t charged;            /* to the list's user: 1 */
	struct parked *next, **link; /* list->lock; link is NULL once it is out */
	int64_t until_ms;            /* of patience.c, as the next two */
	struct parked *watch_next, **watch_link;
};

struct parked_list {
	pthread_mutex_t *lock; /* of the open file; guards first, last and count */
	struct parked *first, **last;
	unsigned count;
	struct quota_user *user;
	struct patience *patience;
};

/* user: of the open file, who is charged for each. patience: of the mount. */
void parked_list_init(
    struct parked_list *list, pthread_mutex_t *lock, struct quota_user *user, struct patience *patience);

/*
 * Parks a read. Call with the list's lock held. 0: parked, and it is no longer the caller's. EINTR: it was interrupted
 * already; ENOMEM; EDQUOT: the user has too many, with engine_reason(). In all of these the request is still the caller's to answer.
 */
int parked_add(struct parked_list *list, fuse_req_t req, size_t size, off_t offset);

/*
 * The first request that nobody has claimed, now the caller's: out of the list, to be answered and given to
 * parked_free. NULL: none. Call with the lock held.
 */
struct parked *parked_take(struct parked_list *list);
void parked_free(struct parked *parked);

/* Without the lock, by a thread that has no part in serving: takes a request that nobody has, or says that somebody has it. */
bool parked_claim(struct parked *parked);
/* Answers what was claimed so with EINTR, and frees it. */
void parked_interrupt(struct parked *parked);

/* Puts a request that parked_take gave back at the head, for there was nothing for it. As parked_add: 0 or EINTR (then still the caller's). */
int parked_return(struct parked *parked);

#endif
