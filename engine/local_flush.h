/*
 * local_flush - group commit for the embedded engine: syncs that are shared. How it works is said in local_flush.c.
 */
#ifndef MQFS_LOCAL_FLUSH_H
#define MQFS_LOCAL_FLUSH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct engine_done;
struct local;
struct object;

#define LOCAL_FLUSHERS 2 /* threads that sync: one slow disk request does not hold up all others */

/* One call that waits for syncs, on any number of points. */
struct sync_call {
	struct engine_done *done;
	_Atomic uint32_t left;
	_Atomic int result;
};

struct sync_wait {
	struct sync_wait *next;
	struct sync_call *call;
};

/* Something that is synced: a partition, or the journal. Who asks while a sync runs is served by the next one. */
struct sync_point {
	int (*run)(struct sync_point *point);
	struct object *object;       /* kept by a reference while queued; NULL for the journal */
	struct sync_point *next;     /* in the queue; flusher.lock */
	struct sync_wait *waits;     /* for the next run; flusher.lock */
	bool queued, running, again; /* flusher.lock */
};

struct flusher {
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	struct sync_point *head, **tail; /* lock */
	bool stop;                       /* lock: the threads end when the queue is empty */
	pthread_t threads[LOCAL_FLUSHERS];
	unsigned int running; /* threads started; life only */
};

int flusher_start(struct local *local);
void flusher_stop(struct local *local); /* syncs what is queued, then ends */
/* Asks for a sync of point. wait may be NULL; it is freed by the flusher and completes its call. */
void flusher_request(struct local *local, struct sync_point *point, struct sync_wait *wait);
/*
 * Asks for syncs of all points and returns ENGINE_PENDING; done is completed when the last is over, with the first
 * error. count 0: returns 0. ENOMEM.
 */
int flusher_wait_for(struct local *local, struct sync_point *const *points, size_t count, struct engine_done *done);

#endif
