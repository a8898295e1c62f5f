/*
 * local_flush - group commit: few syncs for many who ask.
 *
 * What can be synced is a struct sync_point: every partition, and the journal. Who wants one synced asks, and is
 * served by the next sync that begins after the question; all who ask before it begins share it. A point is synced by
 * one thread at a time, and while it is, questions collect for the next round. So N writers that confirm each message
 * cost about one sync per disk round trip, not N.
 *
 * A call may wait for several points (a topic's confirm covers all its partitions): a struct sync_call counts those
 * that are left, keeps the first error, and completes the caller's engine_done when none is left.
 *
 * Two threads take points from one queue. They hold a reference to the topic of a partition while it is queued, so
 * that it is there when its turn comes. At the end of the engine what is queued is synced, not dropped.
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "engine/local_internal.h"

#ifdef MQFS_DEBUG
static void check_invariants(const struct flusher *flusher)
{
	struct sync_point *const *tail = &flusher->head;

	for (const struct sync_point *p = flusher->head; p != NULL; p = p->next) {
		assert(p->queued && !p->running);
		tail = &p->next;
	}
	assert(tail == flusher->tail);
}
#else
static void check_invariants(const struct flusher *flusher)
{
	(void)flusher;
}
#endif

/* lock */
static void enqueue(struct flusher *flusher, struct sync_point *point)
{
	if (point->object != NULL)
		object_ref(point->object);
	point->queued = true;
	point->next = NULL;
	*flusher->tail = point;
	flusher->tail = &point->next;
	check_invariants(flusher);
	pthread_cond_signal(&flusher->wanted);
}

/* lock */
static struct sync_point *dequeue(struct flusher *flusher)
{
	struct sync_point *point = flusher->head;

	flusher->head = point->next;
	if (flusher->head == NULL)
		flusher->tail = &flusher->head;
	point->queued = false;
	check_invariants(flusher);
	return point;
}

void flusher_request(struct local *local, struct sync_point *point, struct sync_wait *wait)
{
	struct flusher *flusher = &local->flusher;

	pthread_mutex_lock(&flusher->lock);
	if (wait != NULL) {
		wait->next = point->waits;
		point->waits = wait;
	}
	if (point->running)
		point->again = true;
	else if (!point->queued)
		enqueue(flusher, point);
	pthread_mutex_unlock(&flusher->lock);
}

/* One of the syncs that call waits for is over. */
static void call_finish(struct sync_call *call, int result)
{
	int none = 0;

	if (result < 0)
		atomic_compare_exchange_strong(&call->result, &none, result);
	if (atomic_fetch_sub(&call->left, 1) > 1)
		return;
	call->done->fn(call->done, atomic_load(&call->result));
	free(call);
}

static void finish_waits(struct sync_wait *waits, int result)
{
	struct sync_wait *next;

	for (; waits != NULL; waits = next) {
		next = waits->next;
		call_finish(waits->call, result);
		free(waits);
	}
}

int flusher_wait_for(struct local *local, struct sync_point *const *points, size_t count, struct engine_done *done)
{
	struct sync_wait *waits = NULL, *next;
	struct sync_call *call;

	if (count == 0)
		return 0;
	call = malloc(sizeof(*call));
	if (call == NULL)
		return -ENOMEM;
	*call = (struct sync_call){ .done = done };
	atomic_init(&call->left, (uint32_t)count);
	for (size_t i = 0; i < count; i++) {
		struct sync_wait *wait = malloc(sizeof(*wait));

		if (wait == NULL)
			goto err_free;
		*wait = (struct sync_wait){ waits, call };
		waits = wait;
	}
	for (size_t i = 0; i < count; i++) {
		next = waits->next; /* the flusher's from here on */
		flusher_request(local, points[i], waits);
		waits = next;
	}
	return ENGINE_PENDING;

err_free:
	for (; waits != NULL; waits = next) {
		next = waits->next;
		free(waits);
	}
	free(call);
	return -ENOMEM;
}

static void *run(void *ctx)
{
	struct local *local = ctx;
	struct flusher *flusher = &local->flusher;

	pthread_mutex_lock(&flusher->lock);
	while (flusher->head != NULL || !flusher->stop) {
		struct sync_point *point;
		struct sync_wait *waits;
		struct object *object;
		int result;

		if (flusher->head == NULL) {
			pthread_cond_wait(&flusher->wanted, &flusher->lock);
			continue;
		}
		point = dequeue(flusher);
		object = point->object;
		waits = point->waits;
		point->waits = NULL;
		point->running = true;
		point->again = false;
		pthread_mutex_unlock(&flusher->lock);
		result = point->run(point);
		pthread_mutex_lock(&flusher->lock);
		point->running = false;
		if (point->again)
			enqueue(flusher, point);
		pthread_mutex_unlock(&flusher->lock);
		finish_waits(waits, result);
		object_put(object);
		pthread_mutex_lock(&flusher->lock);
	}
	pthread_mutex_unlock(&flusher->lock);
	return NULL;
}

int flusher_start(struct local *local)
{
	struct flusher *flusher = &local->flusher;
	sigset_t all, old;
	int rc = 0;

	/* Signals are the program's: its own threads handle them. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (rc == 0 && flusher->running < LOCAL_FLUSHERS) {
		rc = -pthread_create(&flusher->threads[flusher->running], NULL, run, local);
		if (rc == 0)
			flusher->running++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

void flusher_stop(struct local *local)
{
	struct flusher *flusher = &local->flusher;

	pthread_mutex_lock(&flusher->lock);
	flusher->stop = true;
	pthread_cond_broadcast(&flusher->wanted);
	pthread_mutex_unlock(&flusher->lock);
	while (flusher->running > 0)
		pthread_join(flusher->threads[--flusher->running], NULL);
}
