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

#include "engine/plog.h"

struct engine_done;
struct local;
struct object;

#define LOCAL_FLUSHERS 2 /* threads that sync: one slow disk request does not hold up all others */

/* One call that waits for syncs, on any number of points. */
struct sync_call {
	struct engine_done *done;
	uint32_t left; /* lock, as are those below */
	int result;
	bool here; /* the caller is still there, and takes the result itself */
};

struct sync_wait {
	struct sync_wait *next;
	struct sync_call *call;
};

/*
 * Something that is synced: a log, or the journal. Who asks while a sync runs is served by the next one. begin is called
 * before what is there is looked at; run does it all, begin too.
 */
struct sync_point {
	int (*run)(struct sync_point *point);
	void (*begin)(struct sync_point *point); /* of a log */
	struct plog *_Atomic *log;               /* whose end may be noted in the journal; NULL: the journal itself */
	struct object *object;                   /* kept by a reference while queued; NULL for the journal */
	struct warm *warm;                       /* of a log: to be touched before run; NULL for the journal */
	struct sync_point *next;                 /* in a queue, or in a round; flusher.lock */
	struct sync_wait *waits;                 /* for the next run; flusher.lock */
	struct sync_wait *served;                /* by this one; who runs it */
	bool queued, running, again;             /* flusher.lock */
	bool alone, by_journal;                  /* how this round does it; who runs it */
	struct plog_tail to;                     /* noted in this round; who runs it */
	uint64_t log_id;                         /* of a log; never changes, as index: partition or priority */
	uint32_t index;
	struct plog_known known; /* and where it was known to end: local_end.c */
	struct plog_known kept;  /* of that, what the catalog has */
	_Atomic bool noted;      /* the journal has something that the log's own files may not have on disk */
};

struct flusher {
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	struct sync_point *head, **tail; /* asked for; lock */
	struct sync_point *alone;        /* of these, those that are to run by themselves; lock */
	unsigned int working;            /* threads in a round; lock */
	bool stop;                       /* lock: the threads end when nothing is asked for */
	pthread_t threads[LOCAL_FLUSHERS];
	unsigned int running; /* threads started; life only */
};

#define NOTE_MAX (48u << 10) /* bytes of a log that go through the journal at a time; more is worth two syncs */

int flusher_start(struct local *local);
void flusher_stop(struct local *local); /* syncs what is queued, then ends */
/* Asks for a sync of point. wait may be NULL; it is freed by the flusher and completes its call. */
void flusher_request(struct local *local, struct sync_point *point, struct sync_wait *wait);
/*
 * Asks for syncs of all points. If nobody else is at it the calling thread does the first round itself, and returns the
 * result if that is all; else it returns ENGINE_PENDING, and done is completed when the last is over, with the first
 * error. count 0: returns 0. ENOMEM. In a round, calls of others are completed too: hold no lock that these may take.
 */
int flusher_run(struct local *local, struct sync_point *const *points, size_t count); /* waits until they are synced */
int flusher_wait_for(struct local *local, struct sync_point *const *points, size_t count, struct engine_done *done);

/* Asks for something that ends with a struct engine_done, and waits for that: the result. */
int flusher_await(int (*begin)(void *ctx, struct engine_done *done), void *ctx);

#endif
