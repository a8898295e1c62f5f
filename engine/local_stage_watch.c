/*
 * local_stage_watch - when staging files are taken in without anyone asking.
 *
 * One thread looks after all of them. Each file has a time when it comes to it next (deadline.h), so that it costs what it has to do, not
 * what there is. A file that is being written to it looks at every linger.ms, 20 ms at most, and takes in what is there when that
 * is linger.ms old, or has batch.size bytes. It does not ask to be told of each write: an armed inotify watch halves
 * the rate of the writer. A file in which there is nothing new it looks at less and less often, a few times, which cost about as much
 * as to ask; then it asks, for one event, and does not look until that comes; so a thousand idle writers cost nothing. Where inotify
 * cannot be had the thread goes on looking.
 *
 * While somebody waits for messages of a topic or queue nothing of it lingers: its files are armed, also by who is about to wait, and
 * what comes is taken in at once. No wake is lost for that, as each of the four who are in it does things in this order, and
 * of two that run beside each other one sees the other:
 *
 *   a writer (the kernel)     the size of the file grows; is there a watch?
 *   who arms (stages.lock)    the watch; is the size what was taken in last? If so the file is ARMED, else it stays POLLED
 *   who comes to wait         counts among the waiters; is a file POLLED? It arms it, or if that fails has the thread come;
 *                             is there something in the log?
 *   who opens a file          it is in the target's list, and POLLED; does somebody wait? It arms it
 *
 * So of what is written while somebody waits an event comes, or the thread finds it: an event makes the file POLLED
 * before the thread looks, and what is POLLED the thread looks at within LOOK_MAX_MS, as it is due until it is ARMED: the thread
 * takes the time away, looks, and sets the next. Until when it sleeps is told under the same lock as times are set, and who sets
 * an earlier one wakes it. A watch goes with its event (IN_ONESHOT); who arms between the event and that gets the watch that
 * goes, and IN_IGNORED tells of it. Who comes to wait takes nothing in: see settle_wakes() for why it could not wake.
 *
 * The thread also tries again what could not be taken, empties files that lie idle, and looks after orphans. With nothing
 * to do it sleeps until a channel is opened; just after there was something it stays up for a moment, so that a
 * shell that opens a channel for each echo does not have to wake it each time.
 */
#define HASH_NONFATAL_OOM 1

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/local_stage.h"

#define LOOK_MIN_MS 1
#define LOOK_MAX_MS 20
#define QUIET_LOOKS 4u   /* each after twice the time; then it is armed */
#define LINGERING_MS 500 /* it stays up after the last file that was polled */
#define ORPHAN_MS 50
#define FOREVER_MS 3600000

/* ---- when it comes ---- */

static void wake(struct stages *stages)
{
	const uint64_t one = 1;
	ssize_t sent;

	stages->watch.wakes_ms = 0;
	sent = stages->watch.event_fd >= 0 ? eventfd_write(stages->watch.event_fd, one) : 0;
	(void)sent; /* full: it will wake */
}

void watch_due(struct stage *stage, int64_t ms)
{
	struct stages *stages = stage->local->stages;

	if (stage->due.slot == DEADLINE_UNSET || stage->due.ms > ms)
		deadline_set(&stages->watch.deadlines, &stage->due, ms);
	if (stages->watch.wakes_ms > ms)
		wake(stages);
}

static void come(struct stage *stage, int64_t ms)
{
	pthread_mutex_lock(&stage->local->stages->lock);
	watch_due(stage, ms);
	pthread_mutex_unlock(&stage->local->stages->lock);
}

void watch_now(struct stage *stage)
{
	come(stage, 0);
}

/* ---- inotify ---- */

/* So that its event finds it. stages.lock */
static bool remember(struct stage *stage, int wd)
{
	struct stages *stages = stage->local->stages;

	if (wd == stage->wd)
		return wd >= 0;
	if (stage->wd >= 0)
		HASH_DEL(stages->watch.armed, stage);
	stage->wd = wd;
	if (wd < 0)
		return false;
	HASH_ADD_INT(stages->watch.armed, wd, stage);
	if (stage->hh.tbl == NULL)
		stage->wd = -1;
	return stage->wd >= 0;
}

/*
 * Asks to be told of the next write. False: it cannot be, or something was written that is not taken in. stages.lock, so that
 * an event finds the file armed that comes before this has returned.
 */
static bool arm_locked(struct stage *stage)
{
	struct stages *stages = stage->local->stages;
	char path[64];

	if (stages->watch.inotify_fd < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", stage->fd);
	if (!remember(stage, inotify_add_watch(stages->watch.inotify_fd, path, IN_MODIFY | IN_ONESHOT)) ||
	    stage_size(stage) != atomic_load(&stage->seen))
		return false;
	stage->watching = STAGE_ARMED;
	return true;
}

/* Whether it is to be looked at until it is armed. stages.lock */
static bool is_polled(const struct stage *stage)
{
	return stage->use == STAGE_OPEN && stage->watching == STAGE_POLLED;
}

/* stages.lock */
static void on_write(struct stage *stage, int64_t now_ms)
{
	if (stage == NULL || stage->watching != STAGE_ARMED)
		return;
	stage->watching = STAGE_POLLED;
	stage->quiet = 0;
	stage->burst_ms = now_ms;
	watch_due(stage, now_ms);
}

/* stages.lock */
static void on_event(struct stages *stages, const struct inotify_event *event, int64_t now_ms)
{
	struct stage *stage;

	if (event->mask & IN_Q_OVERFLOW) { /* events were lost: it may have been any */
		for (size_t i = 0; i < stages->count; i++)
			on_write(stages->all[i], now_ms);
		return;
	}
	/* IGNORED: the watch is gone. Who arms just after an event may still get the one that goes with it. */
	if (!(event->mask & (IN_MODIFY | IN_IGNORED)))
		return;
	HASH_FIND_INT(stages->watch.armed, &event->wd, stage);
	on_write(stage, now_ms);
}

static void read_events(struct stages *stages)
{
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t got;

	while ((got = read(stages->watch.inotify_fd, buf, sizeof(buf))) > 0) {
		int64_t now_ms = clock_mono_ms();

		pthread_mutex_lock(&stages->lock);
		for (char *at = buf; at < buf + got;) {
			const struct inotify_event *event = (const struct inotify_event *)at;

			on_event(stages, event, now_ms);
			at += sizeof(*event) + event->len;
		}
		pthread_mutex_unlock(&stages->lock);
	}
}

/* ---- from outside ---- */

void watch_begin(struct stage *stage)
{
	struct stages *stages = stage->local->stages;
	int64_t now_ms = clock_mono_ms();

	pthread_mutex_lock(&stages->lock);
	stage->watching = STAGE_POLLED;
	stage->quiet = 0;
	stage->burst_ms = 0;
	stage->looked_ms = now_ms;
	if (!target_is_awaited(stage->target) || !arm_locked(stage))
		watch_due(stage, now_ms + LOOK_MAX_MS);
	pthread_mutex_unlock(&stages->lock);
}

void watch_hurry(struct object *target)
{
	struct local *local = local_of(target);

	if (atomic_load(&target->staged) == 0)
		return;
	pthread_mutex_lock(&local->stages->lock);
	for (struct stage *stage = target->stages; stage != NULL; stage = stage->next_of_target) {
		if (is_polled(stage) && !arm_locked(stage))
			watch_due(stage, 0);
	}
	pthread_mutex_unlock(&local->stages->lock);
}

/* ---- looking ---- */

/* How old what is in a file may become, 0 if somebody waits for it, and how much may be there by then. */
static int64_t linger_of(struct stage *stage, int64_t *ret_batch_size)
{
	int64_t linger_ms = 0;

	pthread_mutex_lock(&stage->lock);
	*ret_batch_size = 0;
	if (stage->target != NULL && !target_is_awaited(stage->target))
		linger_ms = target_linger_ms(stage->target, ret_batch_size);
	pthread_mutex_unlock(&stage->lock);
	return linger_ms;
}

/* Nothing was new in it: it is looked at later, or not until something is. */
static void rest(struct stage *stage, int64_t now_ms, int64_t step_ms)
{
	struct stages *stages = stage->local->stages;
	uint32_t quiet = ++stage->quiet;
	int64_t later_ms = quiet < QUIET_LOOKS ? step_ms << quiet : LOOK_MAX_MS;

	pthread_mutex_lock(&stages->lock);
	if (is_polled(stage) && ((quiet < QUIET_LOOKS && step_ms > 0) || !arm_locked(stage)))
		watch_due(stage, now_ms + (later_ms < LOOK_MIN_MS      ? LOOK_MIN_MS
					      : later_ms > LOOK_MAX_MS ? LOOK_MAX_MS
								       : later_ms));
	pthread_mutex_unlock(&stages->lock);
}

/* Whether what there is, if anything, may become older and bigger. */
static bool may_wait(struct stage *stage, int64_t now_ms, int64_t linger_ms, int64_t batch_size)
{
	uint64_t size, seen = atomic_load(&stage->seen);

	if (linger_ms > 0 && stage->burst_ms == now_ms)
		return true; /* an event has told just now */
	if (stage->burst_ms == 0 ? linger_ms <= LOOK_MAX_MS : now_ms - stage->burst_ms >= linger_ms)
		return false; /* the next look would be too late */
	size = stage_size(stage);
	if (size != seen && stage->burst_ms == 0)
		stage->burst_ms = atomic_load(&stage->looked_ms); /* it may have been written just after */
	return size != seen && now_ms - stage->burst_ms < linger_ms && size - seen < (uint64_t)batch_size;
}

static void look(struct stage *stage, int64_t now_ms)
{
	int64_t batch_size, linger_ms = linger_of(stage, &batch_size), retry_ms = atomic_load(&stage->retry_ms);
	int64_t step_ms = linger_ms < LOOK_MAX_MS ? linger_ms : LOOK_MAX_MS;
	uint64_t seen = atomic_load(&stage->seen);

	if (now_ms < retry_ms || may_wait(stage, now_ms, linger_ms, batch_size)) {
		come(stage, now_ms < retry_ms ? retry_ms : now_ms + step_ms);
		return;
	}
	(void)stage_take(stage, STAGE_WHOLE);
	stage->burst_ms = 0;
	stage->looked_ms = now_ms;
	if (atomic_load(&stage->seen) == seen && atomic_load(&stage->retry_ms) == 0) {
		rest(stage, now_ms, step_ms);
		return;
	}
	stage->quiet = 0;
	come(stage, now_ms + (step_ms < LOOK_MIN_MS ? LOOK_MIN_MS : step_ms));
}

/* Of a channel that is closed. */
static void try_again(struct stage *stage, int64_t now_ms)
{
	int rc = now_ms < atomic_load(&stage->retry_ms) ? -EAGAIN : stage_take(stage, STAGE_FINISH);

	if (rc == 0 || rc == -EIDRM)
		stage_detach(stage, STAGE_IDLE);
	else
		come(stage, now_ms + STAGE_RETRY_MS);
}

/* The thread has come to it, and it is not due any more. */
static void look_after(struct stage *stage, enum stage_use use, int64_t now_ms)
{
	if (atomic_load(&stage->owes))
		(void)stage_take(stage, STAGE_WHOLE);
	switch (use) {
	case STAGE_OPEN: look(stage, now_ms); break;
	case STAGE_ENDED: try_again(stage, now_ms); break;
	case STAGE_ORPHAN:
		if (!stage_look_after(stage))
			come(stage, now_ms + ORPHAN_MS);
		break;
	case STAGE_IDLE: stages_clean(stage->local, now_ms - STAGE_IDLE_MS); break;
	default: break;
	}
}

/* What there is to do with a file that is due. stages.lock */
static enum stage_use task_of(struct stage *stage, int64_t now_ms)
{
	if (stage->use == STAGE_OPEN && stage->watching != STAGE_POLLED)
		return STAGE_GONE;
	if (stage->use == STAGE_IDLE && now_ms - stage->idle_ms < STAGE_IDLE_MS) {
		watch_due(stage, stage->idle_ms + STAGE_IDLE_MS); /* it was due for what it was before */
		return STAGE_GONE;
	}
	return stage->use;
}

/* Takes the next file that is due; false: none is. */
static bool next_due(struct stages *stages, int64_t now_ms, struct stage **ret_stage, enum stage_use *ret_use)
{
	struct deadline *due;

	pthread_mutex_lock(&stages->lock);
	stages->watch.wakes_ms = 0;
	due = deadline_first(&stages->watch.deadlines);
	if (due != NULL && due->ms > now_ms)
		due = NULL;
	if (due != NULL) {
		deadline_clear(&stages->watch.deadlines, due);
		*ret_stage = (struct stage *)((char *)due - offsetof(struct stage, due));
		*ret_use = task_of(*ret_stage, now_ms);
	}
	pthread_mutex_unlock(&stages->lock);
	return due != NULL;
}

/* What is due, each file once. */
static void look_after_all(struct local *local)
{
	int64_t now_ms = clock_mono_ms();
	enum stage_use use;
	struct stage *stage;

	while (next_due(local->stages, now_ms, &stage, &use))
		look_after(stage, use, now_ms);
}

/* ---- the thread ---- */

/* How long to sleep, which others know from then on; -1: it is to stop. busy_ms: when a file was polled last */
static int64_t begin_sleep(struct stages *stages, int64_t *busy_ms)
{
	int64_t now_ms = clock_mono_ms(), wait_ms = FOREVER_MS;
	const struct deadline *due;

	pthread_mutex_lock(&stages->lock);
	due = deadline_first(&stages->watch.deadlines);
	if (due != NULL)
		wait_ms = due->ms > now_ms ? due->ms - now_ms : 0;
	if (wait_ms <= LOOK_MAX_MS)
		*busy_ms = now_ms;
	else if (now_ms - *busy_ms < LINGERING_MS)
		wait_ms = LOOK_MAX_MS;
	if (stages->watch.stop)
		wait_ms = -1;
	stages->watch.wakes_ms = now_ms + wait_ms;
	pthread_mutex_unlock(&stages->lock);
	return wait_ms;
}

static void *run(void *arg)
{
	struct local *local = arg;
	struct stages *stages = local->stages;
	struct pollfd fds[2] = { { .fd = stages->watch.inotify_fd, .events = POLLIN },
		{ .fd = stages->watch.event_fd, .events = POLLIN } };
	int64_t busy_ms = clock_mono_ms(), wait_ms;
	eventfd_t count;

	while ((wait_ms = begin_sleep(stages, &busy_ms)) >= 0) {
		if (poll(fds, 2, (int)wait_ms) > 0) {
			if (fds[0].revents)
				read_events(stages);
			if (fds[1].revents)
				eventfd_read(stages->watch.event_fd, &count);
		}
		look_after_all(local);
	}
	return NULL;
}

int watch_init(struct local *local)
{
	struct stages *stages = local->stages;

	stages->watch.inotify_fd = stages->watch.event_fd = -1;
	if (local->read_only)
		return 0;
	stages->watch.inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	stages->watch.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return stages->watch.event_fd < 0 ? -errno : 0;
}

int watch_start(struct local *local)
{
	struct stages *stages = local->stages;
	int rc;

	if (stages->dirfd < 0)
		return 0;
	rc = -pthread_create(&stages->watch.thread, NULL, run, local);
	stages->watch.running = rc == 0;
	return rc;
}

void watch_stop(struct local *local)
{
	struct stages *stages = local->stages;

	if (stages->watch.running) {
		pthread_mutex_lock(&stages->lock);
		stages->watch.stop = true;
		wake(stages);
		pthread_mutex_unlock(&stages->lock);
		pthread_join(stages->watch.thread, NULL);
		stages->watch.running = false;
	}
	if (stages->watch.inotify_fd >= 0)
		close(stages->watch.inotify_fd);
	if (stages->watch.event_fd >= 0)
		close(stages->watch.event_fd);
	stages->watch.inotify_fd = stages->watch.event_fd = -1;
}

void watch_release(struct stages *stages)
{
	HASH_CLEAR(hh, stages->watch.armed);
	deadlines_release(&stages->watch.deadlines);
}
