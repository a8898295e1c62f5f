/*
 * local_queue_timer - what happens to a queue because time goes by: leases end, delays are over, messages expire, an unused
 * queue goes.
 *
 * Each queue has one timer, set to what is due first. When it fires, everything that is due is done, and it is set
 * anew. The sweep runs as well when a fetch meets a message that should not be there any more.
 *
 * Times of queues are Unix times that go on evenly: the wall clock when the engine was opened, plus what the clock that
 * nobody sets has counted since. So a step of the wall clock ends no lease early.
 *
 * A lease that ends by time and a delay that is over are not noted in the journal: after a restart the time has passed
 * just the same.
 */
#include <errno.h>

#include "engine/clock.h"
#include "engine/index.h"
#include "engine/local_queue.h"

#define SPAN_IN(node, member) ((struct span *)((char *)(node)-offsetof(struct span, member)))
#define SWEEP_AT_ONCE 1024u /* messages that expire before others have a turn at the lock */
#define SWEEP_AGAIN_MS 20

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t add_ms(int64_t a, int64_t b)
{
	int64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? QUEUE_NEVER : sum;
}

int64_t span_expiry(const struct span *span)
{
	int64_t ttl = setting_value(&span->lane->queue->object, SET_QUEUE_TTL);

	return earlier(ttl >= 0 ? add_ms(span->ts_ms, ttl) : QUEUE_NEVER, span->expires_ms);
}

/* ---- setting the timer; lock ---- */

void queue_due(struct queue *queue, int64_t due_ms)
{
	struct local *local = queue_local(queue);

	if (due_ms >= queue->timer_due || local->read_only)
		return;
	queue->timer_due = due_ms;
	timer_set_earlier(local, &queue->timer, due_ms - local->wall_base_ms);
}

/* When an unused queue goes. A queue of dead letters goes with its own. */
static int64_t unused_end(const struct queue *queue)
{
	int64_t expires_ms = setting_value(&queue->object, SET_QUEUE_EXPIRES);

	if (expires_ms < 0 || queue->readers != NULL || queue->producers > 0 || queue_is_dlq(queue))
		return QUEUE_NEVER;
	return add_ms(queue->used_ms, expires_ms);
}

void queue_set_timer(struct queue *queue)
{
	struct tree_node *node = tree_first(&queue->deadlines);
	int64_t due_ms = earlier(queue->ttl_due, unused_end(queue));

	if (node != NULL)
		due_ms = earlier(due_ms, SPAN_IN(node, by_due)->due_ms);
	node = tree_first(&queue->delayed);
	if (node != NULL)
		due_ms = earlier(due_ms, SPAN_IN(node, by_order)->due_ms);
	node = tree_first(&queue->expiring);
	if (node != NULL)
		due_ms = earlier(due_ms, SPAN_IN(node, by_due)->expires_ms);
	queue_due(queue, due_ms);
}

void queue_ready(struct queue *queue, const struct span *span, struct wake_list *wake)
{
	int64_t expiry = span_expiry(span);

	if (expiry != QUEUE_NEVER)
		queue_due(queue, expiry);
	queue_wake(queue, span->count, wake);
}

/* ---- the sweep; both locks ---- */

static void end_leases(struct queue *queue, struct queue *target, int64_t now, struct wake_list *wake)
{
	struct tree_node *node;

	while ((node = tree_first(&queue->deadlines)) != NULL) {
		struct span *span = SPAN_IN(node, by_due);

		if (span->due_ms > now ||
		    span_return(span, span->first, span->count, ENDED_LOST, target, WHY_UNTOLD, wake) < 0)
			return;
	}
}

static void end_delays(struct queue *queue, struct queue *target, int64_t now, struct wake_list *wake)
{
	struct tree_node *node;

	while ((node = tree_first(&queue->delayed)) != NULL) {
		struct span *span = SPAN_IN(node, by_order);
		struct span_set set = span_as(span);
		int rc;

		if (span->due_ms > now)
			return;
		if (span_expiry(span) <= now) {
			rc = lane_kill(span->lane, span->first, span->count, ENGINE_EXPIRED, target, wake);
		} else {
			set.state = SPAN_READY;
			rc = lane_set(span->lane, span->first, span->count, &set, NULL, WHY_UNTOLD, &span);
			if (rc == 0)
				queue_ready(queue, span, wake);
		}
		if (rc < 0)
			return;
	}
}

static void expire_own(struct queue *queue, struct queue *target, int64_t now, struct wake_list *wake)
{
	struct tree_node *node;

	while ((node = tree_first(&queue->expiring)) != NULL) {
		struct span *span = SPAN_IN(node, by_due);

		if (span->expires_ms > now ||
		    lane_kill(span->lane, span->first, span->count, ENGINE_EXPIRED, target, wake) < 0)
			return;
	}
}

/* Messages of a lane that the queue's own time to live ends; notes when the next one is. */
static void expire_lane(struct lane *lane, struct queue *target, int64_t ttl, int64_t now, struct wake_list *wake)
{
	struct queue *queue = lane->queue;
	struct tree_node *node = tree_first(&lane->ready), *next;
	struct index_entry entry;
	uint64_t offset, end;

	for (; node != NULL; node = next) {
		struct span *span = SPAN_IN(node, by_order);

		next = tree_next(node);
		if (span_expiry(span) > now)
			queue->ttl_due = earlier(queue->ttl_due, span_expiry(span));
		else if (lane_kill(lane, span->first, span->count, ENGINE_EXPIRED, target, wake) < 0)
			return;
	}
	for (uint32_t killed = 0; lane_fresh(lane, lane->next, &offset);) {
		uint32_t run;

		if (plog_entry(atomic_load(&lane->plog), offset, &entry) < 0)
			return;
		if (add_ms(entry.ts_ms, ttl) > now || killed >= SWEEP_AT_ONCE) {
			queue->ttl_due = earlier(queue->ttl_due, add_ms(entry.ts_ms, ttl));
			return;
		}
		end = entry.base_offset + entry.count;
		run = lane_ready_run(lane, offset, (uint32_t)(end - offset));
		if (run > SWEEP_AT_ONCE)
			run = SWEEP_AT_ONCE;
		if (run == 0 || lane_kill(lane, offset, run, ENGINE_EXPIRED, target, wake) < 0)
			return;
		killed += run;
	}
}

static void sweep(struct queue *queue, struct queue *target, struct wake_list *wake)
{
	int64_t now = queue_now(queue_local(queue)), ttl = setting_value(&queue->object, SET_QUEUE_TTL);

	end_leases(queue, target, now, wake);
	end_delays(queue, target, now, wake);
	expire_own(queue, target, now, wake);
	queue->ttl_due = QUEUE_NEVER;
	for (uint32_t p = 0; p < ENGINE_PRIORITIES && ttl >= 0; p++) {
		struct lane *lane = queue_lane(queue, p);

		if (lane != NULL && lane->ready_count > 0)
			expire_lane(lane, target, ttl, now, wake);
	}
	queue->timer_due = QUEUE_NEVER;
	queue_set_timer(queue);
	if (queue->timer_due <= now) { /* something could not be done, or there is more: others first */
		queue->timer_due = now + SWEEP_AGAIN_MS;
		timer_set(queue_local(queue), &queue->timer, clock_mono_ms() + SWEEP_AGAIN_MS);
	}
}

void queue_sweep(struct queue *queue)
{
	struct queue *target = queue_dead_target(queue);
	struct wake_list wake = { 0 };

	if (queue_lock_both(queue, target) == 0) {
		sweep(queue, target, &wake);
		queue_unlock_both(queue, target);
		wake_run(&wake);
		queue_enforce_length(queue);
	}
	if (target != NULL)
		object_put(&target->object);
}

void queue_timer_fire(struct timer *timer)
{
	struct queue *queue = (struct queue *)((char *)timer - offsetof(struct queue, timer));
	bool unused;
	int64_t used_ms;

	if (atomic_load(&queue->object.removed) || queue_open(queue) < 0)
		return;
	pthread_mutex_lock(&queue->lock);
	used_ms = queue->used_ms;
	unused = unused_end(queue) <= queue_now(queue_local(queue));
	pthread_mutex_unlock(&queue->lock);
	if (unused) {
		queue_expire(queue);
		return;
	}
	queue_sweep(queue);
	pthread_mutex_lock(&queue->lock);
	queue->used_ms = used_ms; /* that was nobody's use */
	queue_set_timer(queue);
	pthread_mutex_unlock(&queue->lock);
}

void queue_setting_changed(struct queue *queue)
{
	struct wake_list wake = { 0 };

	if (queue_open(queue) < 0)
		return;
	queue_sweep(queue);
	queue_enforce_length(queue);
	pthread_mutex_lock(&queue->lock);
	queue_wake(queue, UINT64_MAX, &wake);
	pthread_mutex_unlock(&queue->lock);
	wake_run(&wake);
}
