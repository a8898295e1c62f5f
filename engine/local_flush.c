/*
 * local_flush - group commit: few syncs for many who ask.
 *
 * What can be synced is a struct sync_point: every log, and the journal. Who wants one synced asks, and is served by the
 * next round that begins after the question; all who ask before it begins share it. In a round, each log that has little
 * that is not on disk has it noted in the journal (plog_tail.c), and then one sync of that serves them all, and whoever
 * waits for the journal itself. What is too much for that is synced by itself, one log at a time. So N writers that
 * confirm each message cost about one sync per disk round trip, not N, whichever logs they write to.
 *
 * A call may wait for several points (a topic's confirm covers all its partitions): a struct sync_call counts those
 * that are left, keeps the first error, and completes the caller's engine_done when none is left.
 *
 * Two threads do rounds; so does the caller itself if nobody else is at it: a single writer then waits for the disk only, and
 * not for another thread to be woken and to wake it. A point is in one round at a time, and while it is, questions
 * collect for the next. Threads hold a reference to the topic of a partition while it is queued, so that it is there
 * when its turn comes. At the end of the engine what is queued is synced, not dropped.
 *
 * A log that was noted has its files synced by the checkpoint, before that drops the record: flusher_settle_notes().
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
}

/* lock */
static void ask(struct flusher *flusher, struct sync_point *point, struct sync_wait *wait)
{
	if (wait != NULL) {
		wait->next = point->waits;
		point->waits = wait;
	}
	if (point->running)
		point->again = true;
	else if (!point->queued)
		enqueue(flusher, point);
}

void flusher_request(struct local *local, struct sync_point *point, struct sync_wait *wait)
{
	struct flusher *flusher = &local->flusher;

	pthread_mutex_lock(&flusher->lock);
	ask(flusher, point, wait);
	pthread_cond_signal(&flusher->wanted);
	pthread_mutex_unlock(&flusher->lock);
}

/* ---- a round ---- */

/* Takes all that is asked for. lock */
static struct sync_point *begin_round(struct flusher *flusher)
{
	struct sync_point *list = flusher->head;

	for (struct sync_point *p = list; p != NULL; p = p->next) {
		p->queued = false;
		p->running = true;
		p->again = false;
		p->served = p->waits;
		p->waits = NULL;
	}
	flusher->head = NULL;
	flusher->tail = &flusher->head;
	check_invariants(flusher);
	return list;
}

/*
 * Notes what logs have and the disk has not; those that cannot be noted are to run alone. Whether the journal is to be
 * synced for the others.
 */
static bool note_all(struct local *local, struct sync_point *list)
{
	uint8_t *record = malloc(NOTE_MAX);
	bool sync = false;

	for (struct sync_point *p = list; p != NULL; p = p->next) {
		if (p->log != NULL)
			p->begin(p);
		int rc = p->log == NULL ? 1 : record != NULL ? note_log(local, p, record, &p->to) : -ENOMEM;

		p->alone = rc < 0;
		p->by_journal = rc == 1;
		sync |= rc == 1;
	}
	free(record);
	return sync;
}

/* Takes those out of the list that are to run alone. */
static struct sync_point *split(struct sync_point **list)
{
	struct sync_point *alone = NULL, **link = &alone, **keep = list;

	while (*keep != NULL) {
		struct sync_point *p = *keep;

		if (!p->alone) {
			keep = &p->next;
			continue;
		}
		*keep = p->next;
		*link = p;
		link = &p->next;
	}
	*link = NULL;
	return alone;
}

/* One of the syncs that call waits for is over; NULL, or what is to be told. lock */
static struct sync_call *count_down(struct sync_call *call, int result)
{
	if (result < 0 && call->result == 0)
		call->result = result;
	return --call->left == 0 && !call->here ? call : NULL;
}

static void tell(struct sync_call *call)
{
	call->done->fn(call->done, call->result);
	free(call);
}

/* It is over: who waited is told, and what was asked meanwhile is asked for. No lock. */
static void finish(struct flusher *flusher, struct sync_point *point, int result)
{
	struct sync_wait *waits = point->served, *next;
	struct object *object = point->object;

	pthread_mutex_lock(&flusher->lock);
	point->running = false;
	if (point->again) {
		enqueue(flusher, point);
		pthread_cond_signal(&flusher->wanted);
	}
	pthread_mutex_unlock(&flusher->lock);
	for (; waits != NULL; waits = next) {
		struct sync_call *call;

		next = waits->next;
		pthread_mutex_lock(&flusher->lock);
		call = count_down(waits->call, result);
		pthread_mutex_unlock(&flusher->lock);
		free(waits);
		if (call != NULL)
			tell(call);
	}
	object_put(object);
}

/* What was noted is on disk with the journal. If the sync of that has failed, its own may still help. */
static void finish_noted(struct flusher *flusher, struct sync_point *list, int result)
{
	struct sync_point *next;

	for (; list != NULL; list = next) {
		next = list->next;
		if (list->log != NULL && list->by_journal)
			plog_tail_synced(atomic_load(list->log), &list->to);
		finish(flusher, list, list->by_journal ? result : 0);
	}
}

/* Does what is asked for; lock is held at both ends, and let go between. */
static void do_round(struct local *local)
{
	struct flusher *flusher = &local->flusher;
	struct sync_point *list = begin_round(flusher), *alone, **last = &flusher->alone;
	int result = 0;

	flusher->working++;
	pthread_mutex_unlock(&flusher->lock);
	if (note_all(local, list))
		result = local->journal_sync.run(&local->journal_sync);
	for (struct sync_point *p = list; p != NULL && result < 0; p = p->next)
		p->alone = p->alone || (p->log != NULL && p->by_journal);
	alone = split(&list);
	finish_noted(flusher, list, result);
	pthread_mutex_lock(&flusher->lock);
	while (*last != NULL)
		last = &(*last)->next;
	*last = alone;
	if (alone != NULL)
		pthread_cond_signal(&flusher->wanted);
	flusher->working--;
}

/* One of those that run by themselves; lock is held at both ends, and let go between. */
static void run_alone(struct local *local)
{
	struct flusher *flusher = &local->flusher;
	struct sync_point *point = flusher->alone;
	int result;

	flusher->alone = point->next;
	flusher->working++;
	pthread_mutex_unlock(&flusher->lock);
	if (point->warm != NULL)
		warm_touch(point->warm);
	result = point->run(point);
	if (result == 0 && point->log != NULL)
		ends_note(local, point);
	finish(flusher, point, result);
	pthread_mutex_lock(&flusher->lock);
	flusher->working--;
}

static void *run(void *ctx)
{
	struct local *local = ctx;
	struct flusher *flusher = &local->flusher;

	pthread_mutex_lock(&flusher->lock);
	while (flusher->head != NULL || flusher->alone != NULL || !flusher->stop) {
		if (flusher->head != NULL)
			do_round(local);
		else if (flusher->alone != NULL)
			run_alone(local);
		else
			pthread_cond_wait(&flusher->wanted, &flusher->lock);
	}
	pthread_mutex_unlock(&flusher->lock);
	return NULL;
}

/* ---- calls ---- */

/* Does a round in this thread, or has others do it; then whether the call is over, whose result it takes. */
static int serve(struct local *local, struct sync_call *call)
{
	struct flusher *flusher = &local->flusher;
	int rc = ENGINE_PENDING;

	if (flusher->working == 0 && flusher->head != NULL)
		do_round(local);
	if (flusher->head != NULL)
		pthread_cond_signal(&flusher->wanted);
	if (call->left == 0)
		rc = call->result;
	call->here = false;
	pthread_mutex_unlock(&flusher->lock);
	if (rc != ENGINE_PENDING)
		free(call);
	return rc;
}

int flusher_wait_for(struct local *local, struct sync_point *const *points, size_t count, struct engine_done *done)
{
	struct flusher *flusher = &local->flusher;
	struct sync_wait *waits = NULL, *next;
	struct sync_call *call;

	if (count == 0)
		return 0;
	call = malloc(sizeof(*call));
	if (call == NULL)
		return -ENOMEM;
	*call = (struct sync_call){ .done = done, .left = (uint32_t)count, .here = true };
	for (size_t i = 0; i < count; i++) {
		struct sync_wait *wait = malloc(sizeof(*wait));

		if (wait == NULL)
			goto err_free;
		*wait = (struct sync_wait){ waits, call };
		waits = wait;
	}
	pthread_mutex_lock(&flusher->lock);
	for (size_t i = 0; i < count; i++) {
		next = waits->next; /* the flusher's from here on */
		ask(flusher, points[i], waits);
		waits = next;
	}
	return serve(local, call);

err_free:
	for (; waits != NULL; waits = next) {
		next = waits->next;
		free(waits);
	}
	free(call);
	return -ENOMEM;
}

/* ---- life ---- */

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

/* ---- waiting for it in this thread ---- */

struct waiting {
	struct engine_done done; /* first */
	pthread_mutex_t lock;
	pthread_cond_t over;
	bool is_over; /* lock, as is result */
	int result;
};

static void wake_waiting(struct engine_done *done, int result)
{
	struct waiting *waiting = (struct waiting *)done;

	pthread_mutex_lock(&waiting->lock);
	waiting->is_over = true;
	waiting->result = result;
	pthread_cond_signal(&waiting->over);
	pthread_mutex_unlock(&waiting->lock);
}

int flusher_await(int (*begin)(void *ctx, struct engine_done *done), void *ctx)
{
	struct waiting waiting = {
		.done = { wake_waiting }, .lock = PTHREAD_MUTEX_INITIALIZER, .over = PTHREAD_COND_INITIALIZER
	};
	int rc = begin(ctx, &waiting.done);

	if (rc == ENGINE_PENDING) {
		pthread_mutex_lock(&waiting.lock);
		while (!waiting.is_over)
			pthread_cond_wait(&waiting.over, &waiting.lock);
		rc = waiting.result;
		pthread_mutex_unlock(&waiting.lock);
	}
	pthread_cond_destroy(&waiting.over);
	pthread_mutex_destroy(&waiting.lock);
	return rc;
}

struct run {
	struct local *local;
	struct sync_point *const *points;
	size_t count;
};

static int ask_run(void *ctx, struct engine_done *done)
{
	const struct run *run = ctx;

	return flusher_wait_for(run->local, run->points, run->count, done);
}

int flusher_run(struct local *local, struct sync_point *const *points, size_t count)
{
	struct run run = { local, points, count };

	return flusher_await(ask_run, &run);
}
