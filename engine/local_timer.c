/*
 * local_timer - the thread that keeps time: deadlines in a heap, each fired once and set again by who wants it again.
 *
 * What the engine does by itself at some time (syncing at flush.ms, retention, checkpoints, closing idle descriptors)
 * has a struct timer, embedded in the object that it is about. Setting one never fails and never allocates (deadline.h); it is done under
 * producers' locks.
 *
 * Life. A set timer does not keep its object alive. When it is due, the thread takes a reference to the object, under
 * the heap's lock and only if there still is one to take; when an object goes, it releases its timers under the same
 * lock. So a timer is either never fired, or fired with its object there.
 *
 * Deadlines are in clock_mono_ms. The thread sleeps at most a minute before it looks at the clock again, for the sake
 * of a clock that a test moves or of a machine that was suspended.
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "engine/clock.h"
#include "engine/local_internal.h"

#define SLEEP_MAX_MS 60000

/* lock */
static void set(struct timers *timers, struct timer *timer, int64_t due_ms)
{
	deadline_set(&timers->deadlines, &timer->due, due_ms);
	if (deadline_first(&timers->deadlines) == &timer->due)
		pthread_cond_signal(&timers->changed);
}

int timer_init(struct local *local, struct timer *timer, void (*fire)(struct timer *timer), struct object *object)
{
	struct timers *timers = &local->timers;
	int rc;

	*timer = (struct timer){ .fire = fire, .object = object };
	pthread_mutex_lock(&timers->lock);
	rc = deadline_init(&timers->deadlines, &timer->due);
	if (rc < 0)
		timer->fire = NULL;
	pthread_mutex_unlock(&timers->lock);
	return rc;
}

void timer_release(struct local *local, struct timer *timer)
{
	struct timers *timers = &local->timers;

	if (timer->fire == NULL)
		return;
	pthread_mutex_lock(&timers->lock);
	deadline_release(&timers->deadlines, &timer->due);
	timer->fire = NULL;
	pthread_mutex_unlock(&timers->lock);
}

void timer_set(struct local *local, struct timer *timer, int64_t due_ms)
{
	pthread_mutex_lock(&local->timers.lock);
	set(&local->timers, timer, due_ms);
	pthread_mutex_unlock(&local->timers.lock);
}

void timer_set_earlier(struct local *local, struct timer *timer, int64_t due_ms)
{
	pthread_mutex_lock(&local->timers.lock);
	if (timer->due.slot == DEADLINE_UNSET || timer->due.ms > due_ms)
		set(&local->timers, timer, due_ms);
	pthread_mutex_unlock(&local->timers.lock);
}

/* Sleeps until the first deadline, or until it changes. lock. */
static void sleep_until_due(struct timers *timers, int64_t now_ms)
{
	const struct deadline *first = deadline_first(&timers->deadlines);
	int64_t wait_ms = SLEEP_MAX_MS;

	if (first != NULL && first->ms - now_ms < wait_ms)
		wait_ms = first->ms - now_ms;
	clock_wait(&timers->changed, &timers->lock, wait_ms);
}

static void *run(void *ctx)
{
	struct local *local = ctx;
	struct timers *timers = &local->timers;

	pthread_mutex_lock(&timers->lock);
	while (!timers->stop) {
		int64_t now_ms = clock_mono_ms();
		struct deadline *due = deadline_first(&timers->deadlines);
		void (*fire)(struct timer *);
		struct object *object;
		struct timer *timer;

		if (due == NULL || due->ms > now_ms) {
			sleep_until_due(timers, now_ms);
			continue;
		}
		timer = (struct timer *)((char *)due - offsetof(struct timer, due));
		deadline_clear(&timers->deadlines, due);
		fire = timer->fire;
		object = timer->object;
		if (object != NULL && !object_try_ref(object))
			continue;
		pthread_mutex_unlock(&timers->lock);
		fire(timer);
		object_put(object);
		pthread_mutex_lock(&timers->lock);
	}
	pthread_mutex_unlock(&timers->lock);
	return NULL;
}

int timers_start(struct local *local)
{
	sigset_t all, old;
	int rc;

	/* Signals are the program's: its own threads handle them. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = -pthread_create(&local->timers.thread, NULL, run, local);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	local->timers.running = rc == 0;
	return rc;
}

void timers_stop(struct local *local)
{
	struct timers *timers = &local->timers;

	if (!timers->running)
		return;
	pthread_mutex_lock(&timers->lock);
	timers->stop = true;
	pthread_cond_signal(&timers->changed);
	pthread_mutex_unlock(&timers->lock);
	pthread_join(timers->thread, NULL);
	timers->running = false;
}

void timers_init(struct timers *timers)
{
	pthread_mutex_init(&timers->lock, NULL);
	pthread_cond_init(&timers->changed, NULL);
}

void timers_release(struct timers *timers)
{
	assert(!timers->running);
	deadlines_release(&timers->deadlines);
	pthread_cond_destroy(&timers->changed);
	pthread_mutex_destroy(&timers->lock);
}
