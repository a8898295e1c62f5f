/*
 * local_stage_watch - when staging files are taken in without anyone asking.
 *
 * One thread looks after all of them. A file that is being written to it looks at (fstat) every linger.ms, 20 ms at
 * most, and takes in what is there when that is linger.ms old, or has batch.size bytes. It does not ask to be told of each
 * write: an armed inotify watch halves the rate of the writer. A file that was quiet for a while gets a watch, for one
 * event, and is not looked at any more until that comes; so a thousand idle writers cost nothing. Where inotify cannot be
 * had the thread goes on looking.
 *
 * While somebody waits for messages of a topic nothing of it lingers: its files are armed, also by who is about to wait, and
 * what comes is taken in at once. No wake is lost for that, as each of the four who are in it does things in this order, and
 * of two that run beside each other one sees the other:
 *
 *   a writer (the kernel)     the size of the file grows; is there a watch?
 *   who arms (stages.lock)    the watch; is the size what was taken in last? If so the file is ARMED, else it stays POLLED
 *   who comes to wait         counts among the waiters; is a file POLLED? It arms it, or if that fails wakes the thread;
 *                             is there something in the log?
 *   who opens a file          it is in the topic's list, and POLLED; does somebody wait? It arms it
 *
 * So of what is written while somebody waits an event comes, or the thread finds it: an event makes the file POLLED
 * before the thread looks, and what is POLLED the thread looks at within LOOK_MAX_MS. That holds as it says before each round that it
 * sleeps for ever (wakes_ms), and who makes a file POLLED looks at that afterwards: if the round went past the file already, it
 * reads this, and wakes the thread. A watch goes with its event (IN_ONESHOT); who arms between the event and that gets the watch that
 * goes, and IN_IGNORED tells of it. Who comes to wait takes nothing in: see settle_wakes() for why it could not wake.
 *
 * The thread also tries again what could not be taken, empties files that lie idle, and looks after orphans. With nothing
 * to do it sleeps until a channel is opened; just after there was something it stays up for a moment, so that a
 * shell that opens a channel for each echo does not have to wake it each time.
 */
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
#define QUIET_LOOKS 16u  /* then it is armed */
#define LINGERING_MS 500 /* it stays up after the last file that was polled */
#define IDLE_MS 1000     /* then an idle file is emptied */
#define ORPHAN_MS 50
#define FOREVER_MS 3600000

struct round {
	int64_t now_ms, wait_ms; /* until the next */
	bool idle;               /* there are such */
};

/* ---- waking ---- */

void watch_wake(struct local *local)
{
	const uint64_t one = 1;
	ssize_t sent;

	atomic_store(&local->stages->watch.wakes_ms, 0);
	sent = local->stages->watch.event_fd >= 0 ? eventfd_write(local->stages->watch.event_fd, one) : 0;
	(void)sent; /* full: it will wake */
}

/* ---- inotify ---- */

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
	stage->wd = inotify_add_watch(stages->watch.inotify_fd, path, IN_MODIFY | IN_ONESHOT);
	if (stage->wd < 0 || stage_size(stage) != atomic_load(&stage->seen))
		return false;
	stage->watching = STAGE_ARMED;
	return true;
}

/* Whether it is to be looked at until it is armed. stages.lock */
static bool is_polled(const struct stage *stage)
{
	return stage->use == STAGE_OPEN && stage->watching == STAGE_POLLED;
}

static void arm(struct stage *stage)
{
	struct stages *stages = stage->local->stages;

	pthread_mutex_lock(&stages->lock);
	if (is_polled(stage))
		(void)arm_locked(stage);
	pthread_mutex_unlock(&stages->lock);
}

/* wd -1: events were lost, so it may have been any. */
static void on_event(struct stages *stages, int wd, int64_t now_ms)
{
	pthread_mutex_lock(&stages->lock);
	for (size_t i = 0; i < stages->count; i++) {
		struct stage *stage = stages->all[i];

		if (stage->watching != STAGE_ARMED || (wd >= 0 && stage->wd != wd))
			continue;
		stage->watching = STAGE_POLLED;
		stage->quiet = 0;
		stage->burst_ms = now_ms;
	}
	pthread_mutex_unlock(&stages->lock);
}

static void read_events(struct stages *stages)
{
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t got;

	while ((got = read(stages->watch.inotify_fd, buf, sizeof(buf))) > 0) {
		int64_t now_ms = clock_mono_ms();

		for (char *at = buf; at < buf + got;) {
			const struct inotify_event *event = (const struct inotify_event *)at;

			/* IGNORED: the watch is gone. Who arms just after an event may still get the one that goes with it. */
			if (event->mask & (IN_MODIFY | IN_Q_OVERFLOW | IN_IGNORED))
				on_event(stages, event->wd, now_ms);
			at += sizeof(*event) + event->len;
		}
	}
}

/* ---- from outside ---- */

void watch_begin(struct stage *stage)
{
	struct stages *stages = stage->local->stages;
	bool armed;

	pthread_mutex_lock(&stages->lock);
	stage->watching = STAGE_POLLED;
	stage->quiet = 0;
	stage->burst_ms = 0;
	armed = topic_is_awaited(stage->producer.topic) && arm_locked(stage);
	pthread_mutex_unlock(&stages->lock);
	if (!armed && atomic_load(&stages->watch.wakes_ms) > clock_mono_ms() + LOOK_MAX_MS)
		watch_wake(stage->local);
}

void watch_hurry(struct topic *topic)
{
	struct local *local = local_of(&topic->object);
	bool left = false;

	if (atomic_load(&topic->staged) == 0)
		return;
	pthread_mutex_lock(&local->stages->lock);
	for (struct stage *stage = topic->stages; stage != NULL; stage = stage->next_of_topic) {
		if (is_polled(stage) && !arm_locked(stage))
			left = true;
	}
	pthread_mutex_unlock(&local->stages->lock);
	if (left)
		watch_wake(local);
}

/* ---- looking ---- */

static void wait_at_most(struct round *round, int64_t ms)
{
	if (ms < round->wait_ms)
		round->wait_ms = ms;
}

/* How old what is in a file may become, 0 if somebody waits for it, and how much may be there by then. */
static int64_t linger_of(struct stage *stage, int64_t *ret_batch_size)
{
	struct topic *topic;
	int64_t linger_ms = 0;

	pthread_mutex_lock(&stage->lock);
	topic = stage->producer.topic;
	*ret_batch_size = 0;
	if (topic != NULL && !topic_is_awaited(topic)) {
		linger_ms = setting_value(&topic->object, SET_LINGER_MS);
		*ret_batch_size = setting_value(&topic->object, SET_BATCH_SIZE);
	}
	pthread_mutex_unlock(&stage->lock);
	return linger_ms;
}

static void look(struct stage *stage, struct round *round)
{
	int64_t batch_size, linger_ms = linger_of(stage, &batch_size), step_ms = linger_ms;
	uint64_t size = stage_size(stage), seen = atomic_load(&stage->seen);

	step_ms = step_ms < LOOK_MIN_MS ? LOOK_MIN_MS : step_ms > LOOK_MAX_MS ? LOOK_MAX_MS : step_ms;
	wait_at_most(round, step_ms);
	if (size == seen && atomic_load(&stage->retry_ms) == 0) {
		if (++stage->quiet >= QUIET_LOOKS || linger_ms == 0)
			arm(stage);
		return;
	}
	stage->quiet = 0;
	if (stage->burst_ms == 0)
		stage->burst_ms = round->now_ms - step_ms; /* it may have been written just after the last look */
	if (round->now_ms < atomic_load(&stage->retry_ms) ||
	    (round->now_ms - stage->burst_ms < linger_ms && size - seen < (uint64_t)batch_size))
		return;
	stage->burst_ms = 0;
	(void)stage_take(stage, STAGE_WHOLE);
}

/* Of a channel that is closed. */
static void try_again(struct stage *stage, struct round *round)
{
	int rc;

	wait_at_most(round, STAGE_RETRY_MS);
	if (round->now_ms < atomic_load(&stage->retry_ms))
		return;
	rc = stage_take(stage, STAGE_FINISH);
	if (rc == 0 || rc == -EIDRM)
		stage_detach(stage, STAGE_IDLE);
}

static void look_after_one(struct stage *stage, enum stage_use use, struct round *round)
{
	if (atomic_load(&stage->owes))
		(void)stage_take(stage, STAGE_WHOLE);
	switch (use) {
	case STAGE_OPEN: look(stage, round); break;
	case STAGE_ENDED: try_again(stage, round); break;
	case STAGE_ORPHAN:
		wait_at_most(round, ORPHAN_MS);
		stage_look_after(stage);
		break;
	case STAGE_IDLE:
		wait_at_most(round, IDLE_MS);
		round->idle = true;
		break;
	default: break;
	}
}

/* The next file after *i there is something to do for; what it is for, or STAGE_GONE at the end. */
static enum stage_use next_stage(struct stages *stages, size_t *i, struct stage **ret_stage)
{
	enum stage_use use = STAGE_GONE;

	pthread_mutex_lock(&stages->lock);
	for (; *i < stages->count && use == STAGE_GONE; ++*i) {
		struct stage *stage = stages->all[*i];

		if (stage->use == STAGE_ENDED || stage->use == STAGE_ORPHAN ||
		    (stage->use == STAGE_OPEN && (stage->watching == STAGE_POLLED || atomic_load(&stage->owes))) ||
		    (stage->use == STAGE_IDLE && stage->header.id != 0)) {
			use = stage->use;
			*ret_stage = stage;
		}
	}
	pthread_mutex_unlock(&stages->lock);
	return use;
}

/* Returns how long to wait for the next. */
static int64_t look_after_all(struct local *local)
{
	struct round round = { .now_ms = clock_mono_ms(), .wait_ms = FOREVER_MS };
	enum stage_use use;
	struct stage *stage;
	size_t i = 0;

	while ((use = next_stage(local->stages, &i, &stage)) != STAGE_GONE)
		look_after_one(stage, use, &round);
	if (round.idle)
		stages_clean(local, round.now_ms - IDLE_MS);
	return round.wait_ms;
}

/* ---- the thread ---- */

static bool stopping(struct stages *stages)
{
	bool stop;

	pthread_mutex_lock(&stages->lock);
	stop = stages->watch.stop;
	pthread_mutex_unlock(&stages->lock);
	return stop;
}

static void *run(void *arg)
{
	struct local *local = arg;
	struct stages *stages = local->stages;
	struct pollfd fds[2] = { { .fd = stages->watch.inotify_fd, .events = POLLIN },
		{ .fd = stages->watch.event_fd, .events = POLLIN } };
	int64_t busy_ms = clock_mono_ms();
	eventfd_t count;

	while (!stopping(stages)) {
		int64_t wait_ms, now_ms;

		atomic_store(&stages->watch.wakes_ms, INT64_MAX); /* before it looks: see above */
		wait_ms = look_after_all(local);
		now_ms = clock_mono_ms();
		if (wait_ms <= LOOK_MAX_MS)
			busy_ms = now_ms;
		else if (now_ms - busy_ms < LINGERING_MS)
			wait_ms = LOOK_MAX_MS;
		atomic_store(&stages->watch.wakes_ms, now_ms + wait_ms);
		if (poll(fds, 2, (int)wait_ms) <= 0)
			continue;
		if (fds[0].revents)
			read_events(stages);
		if (fds[1].revents)
			eventfd_read(stages->watch.event_fd, &count);
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
		pthread_mutex_unlock(&stages->lock);
		watch_wake(local);
		pthread_join(stages->watch.thread, NULL);
		stages->watch.running = false;
	}
	if (stages->watch.inotify_fd >= 0)
		close(stages->watch.inotify_fd);
	if (stages->watch.event_fd >= 0)
		close(stages->watch.event_fd);
	stages->watch.inotify_fd = stages->watch.event_fd = -1;
}
