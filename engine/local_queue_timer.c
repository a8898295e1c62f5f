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
 * just the same. Only if a delay follows the lease, when that began is noted.
 */
#include <errno.h>

#include "engine/clock.h"
#include "engine/index.h"
#include "engine/local_queue.h"
#include "engine/local_visible.h"

#define SPAN_IN(node, member) ((struct span *)((char *)(node)-offsetof(struct span, member)))
#define SWEEP_AT_ONCE 1024u /* messages that expire before others have a turn at the lock */
#define SWEEP_AGAIN_MS 20

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static int64_t later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

int64_t span_expiry(const struct span *span)
{
	int64_t ttl = setting_value(&span->lane->queue->object, SET_QUEUE_TTL);

	/* Of a queue that is not open yet the times of its messages are not known. */
	return earlier(ttl >= 0 && span->ts_ms > 0 ? queue_add_ms(span->ts_ms, ttl) : QUEUE_NEVER, span->expires_ms);
}

/* ---- setting the timer; lock ---- */

static void note_due(struct local *local, int64_t due_ms)
{
	int64_t known = atomic_load(&local->queues_due_ms);

	while (due_ms < known && !atomic_compare_exchange_weak(&local->queues_due_ms, &known, due_ms))
		;
}

void queue_due(struct queue *queue, int64_t due_ms)
{
	struct local *local = queue_local(queue);

	if (due_ms >= queue->timer_due || local->read_only)
		return;
	queue->timer_due = due_ms;
	note_due(local, due_ms);
	timer_set_earlier(local, &queue->timer, due_ms - local->wall_base_ms);
}

/* When an unused queue goes. A queue of dead letters goes with its own. */
static int64_t unused_end(const struct queue *queue)
{
	int64_t expires_ms = setting_value(&queue->object, SET_QUEUE_EXPIRES);

	if (expires_ms < 0 || queue->readers != NULL || queue->producers > 0 ||
	    atomic_load(&queue->object.staged) > 0 || queue_is_dlq(queue) || atomic_load(&queue->object.bound) > 0)
		return QUEUE_NEVER;
	if (atomic_load(&queue->dlq_present) > 0)
		return QUEUE_NEVER;
	return queue_add_ms(later(queue->used_ms, atomic_load(&queue->dlq_used_ms)), expires_ms);
}

void queue_set_timer(struct queue *queue)
{
	struct tree_node *node = tree_first(&queue->deadlines);
	int64_t due_ms = earlier(earlier(queue->ttl_due, queue->forward_due), unused_end(queue));

	if (node != NULL)
		due_ms = earlier(due_ms, SPAN_IN(node, by_due)->due_ms);
	node = tree_first(&queue->delayed);
	if (node != NULL)
		due_ms = earlier(due_ms, SPAN_IN(node, by_order)->due_ms);
	node = tree_first(&queue->expiring);
	if (node != NULL)
		due_ms = earlier(due_ms, SPAN_IN(node, by_due)->expiry_ms);
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

enum due_kind { DUE_LEASE, DUE_DELAY, DUE_EXPIRY, DUE_FRESH, DUE_NOTHING };

struct due {
	enum due_kind kind;
	int64_t at_ms;
	uint64_t id; /* of the first message: of those due at the same time the older goes first */
	struct span *span;
	struct lane *lane; /* FRESH: a run that nobody touched and that expires */
	uint64_t offset;
	uint32_t count;
};

static uint32_t some_of(uint64_t count)
{
	return count < SWEEP_AT_ONCE ? (uint32_t)count : SWEEP_AT_ONCE;
}

static void consider(struct due *due, enum due_kind kind, int64_t at_ms, struct span *span)
{
	if (at_ms < due->at_ms || (at_ms == due->at_ms && span->first_id < due->id))
		*due = (struct due){
			.kind = kind, .at_ms = at_ms, .id = span->first_id, .span = span, .count = some_of(span->count)
		};
}

/* The first fresh messages of a lane that the queue's own time to live ends. */
static void consider_fresh(struct due *due, struct lane *lane, int64_t ttl)
{
	struct index_entry entry;
	uint64_t offset, left, id;
	int64_t at_ms;
	int rc;

	if (!lane_fresh(lane, lane->next, &offset))
		return;
	rc = plog_entry(atomic_load(&lane->plog), offset, &entry);
	if (rc == -EIO) /* when it came is not known: it goes now, or what is behind it would never expire */
		*due = (struct due){ .kind = DUE_FRESH, .lane = lane, .offset = offset, .count = 1 };
	if (rc < 0)
		return;
	id = entry.first_id + (offset - entry.base_offset);
	at_ms = queue_add_ms(entry.ts_ms, ttl);
	if (at_ms > due->at_ms || (at_ms == due->at_ms && id > due->id))
		return;
	left = entry.base_offset + entry.count - offset;
	*due = (struct due){ .kind = DUE_FRESH,
		.at_ms = at_ms,
		.id = id,
		.lane = lane,
		.offset = offset,
		.count = lane_ready_run(lane, offset, some_of(left)) };
}

/* What is due first. */
static struct due find_due(struct queue *queue, int64_t ttl)
{
	struct due due = { .kind = DUE_NOTHING, .at_ms = QUEUE_NEVER };
	struct tree_node *node = tree_first(&queue->deadlines);

	if (node != NULL)
		consider(&due, DUE_LEASE, SPAN_IN(node, by_due)->due_ms, SPAN_IN(node, by_due));
	node = tree_first(&queue->delayed);
	if (node != NULL)
		consider(&due, DUE_DELAY, SPAN_IN(node, by_order)->due_ms, SPAN_IN(node, by_order));
	node = tree_first(&queue->expiring);
	if (node != NULL)
		consider(&due, DUE_EXPIRY, SPAN_IN(node, by_due)->expiry_ms, SPAN_IN(node, by_due));
	for (uint32_t p = 0; p < ENGINE_PRIORITIES && ttl >= 0; p++) {
		struct lane *lane = queue_lane(queue, p);

		if (lane != NULL && lane->ready_count > 0)
			consider_fresh(&due, lane, ttl);
	}
	return due;
}

static int end_delay(struct span *span, struct queue *target, int64_t now, struct wake_list *wake)
{
	struct span_set set = span_as(span);
	int rc;

	if (span_expiry(span) <= now)
		return lane_kill(
		    span->lane, span->first, span->count, ENGINE_EXPIRED, (enum span_ended)span->ended, target, wake);
	set.state = SPAN_READY;
	rc = lane_set(span->lane, span->first, span->count, &set, NULL, WHY_UNTOLD, &span);
	if (rc == 0)
		queue_ready(span->lane->queue, span, wake);
	return rc;
}

static int do_due(const struct due *due, struct queue *target, int64_t now, struct wake_list *wake)
{
	struct span *span = due->span;

	switch (due->kind) {
	case DUE_LEASE: return queue_end_lease(span, target, wake);
	case DUE_DELAY: return end_delay(span, target, now, wake);
	case DUE_EXPIRY:
		return lane_kill(
		    span->lane, span->first, due->count, ENGINE_EXPIRED, (enum span_ended)span->ended, target, wake);
	case DUE_FRESH: return lane_kill(due->lane, due->offset, due->count, ENGINE_EXPIRED, ENDED_NEVER, target, wake);
	case DUE_NOTHING: break;
	}
	return 0;
}

/* In the order in which it was due; at most so much at a time, then others have a turn. */
void queue_do_due(struct queue *queue, struct queue *target, struct wake_list *wake)
{
	int64_t now = queue_now(queue_local(queue)), ttl = setting_value(&queue->object, SET_QUEUE_TTL);
	struct due due = find_due(queue, ttl);

	for (uint32_t done = 0; due.at_ms <= now && done < SWEEP_AT_ONCE; done += due.count + 1) {
		if (do_due(&due, target, now, wake) < 0)
			break;
		due = find_due(queue, ttl);
	}
	queue->ttl_due = due.at_ms;
	queue->timer_due = QUEUE_NEVER;
	queue_set_timer(queue);
	if (earlier(due.at_ms, unused_end(queue)) <=
	    now) { /* something could not be done, or there is more: others first */
		queue->timer_due = now + SWEEP_AGAIN_MS;
		note_due(queue_local(queue), queue->timer_due);
		timer_set(queue_local(queue), &queue->timer, clock_mono_ms() + SWEEP_AGAIN_MS);
	}
}

void queue_sweep(struct queue *queue)
{
	struct queue *target = queue_dead_target(queue);
	struct wake_list wake = { 0 };

	if (queue_lock_both(queue, target) == 0) {
		queue_do_due(queue, target, &wake);
		queue_unlock_both(queue, target);
		wake_run(&wake);
		queue_enforce_length(queue);
	}
	if (target != NULL) {
		queue_enforce_length(target);
		object_put(&target->object);
	}
}

/* Does what is due, but for what goes on through an exchange. No lock */
static bool run(struct queue *queue)
{
	bool unused;

	if (atomic_load(&queue->object.removed) || queue_open(queue) < 0)
		return false;
	pthread_mutex_lock(&queue->lock);
	unused = unused_end(queue) <= queue_now(queue_local(queue));
	pthread_mutex_unlock(&queue->lock);
	if (unused)
		queue_expire(queue);
	else
		queue_sweep(queue);
	return true;
}

/* True: dead letters went on, which may have made something due elsewhere. */
static bool forward(struct queue *queue)
{
	return !atomic_load(&queue->object.removed) && atomic_load(&queue->open) && queue_forward(queue);
}

void queue_timer_fire(struct timer *timer)
{
	struct queue *queue = (struct queue *)((char *)timer - offsetof(struct queue, timer));

	visible_enter(queue_local(queue));
	run(queue);
	forward(queue);
	visible_leave(queue_local(queue));
}

/* Those of which something is due, the older first. Has one answered true? */
static bool each_due(struct local *local, int64_t now, bool (*what)(struct queue *queue))
{
	struct object *object;
	uint64_t after = 0;
	bool any = false;

	atomic_store(&local->queues_due_ms, QUEUE_NEVER);
	while ((object = registry_next(local, NULL, ENGINE_QUEUE, after)) != NULL) {
		struct queue *queue = queue_of_object(object);
		int64_t due_ms;

		after = object->id;
		pthread_mutex_lock(&queue->lock);
		due_ms = queue->timer_due;
		pthread_mutex_unlock(&queue->lock);
		if (due_ms <= now)
			any |= what(queue);
		pthread_mutex_lock(&queue->lock);
		note_due(local, queue->timer_due);
		pthread_mutex_unlock(&queue->lock);
		object_put(object);
	}
	return any;
}

static bool is_due(struct local *local, int64_t now)
{
	return atomic_load_explicit(&local->queues_due_ms, memory_order_relaxed) <= now;
}

void queue_catch_up(struct local *local)
{
	static _Thread_local bool is_at_it; /* calls that it makes are not to do it again */
	int64_t now = queue_now(local);

	if (!is_due(local, now) || local->read_only || is_at_it)
		return;
	if (!visible_try_enter(
		local)) /* who produces does not wait for a commit: then nothing is due before it is over */
		return;
	is_at_it = true;
	do
		each_due(local, now, run);
	while (is_due(local, now) && each_due(local, now, forward) && is_due(local, now));
	is_at_it = false;
	visible_leave(local);
}

void queue_refile_leases(struct queue *queue)
{
	for (struct tree_node *node = tree_first(&queue->leased); node != NULL; node = tree_next(node)) {
		struct span *span = SPAN_IN(node, by_order);

		if (span->holder == NULL && queue_find_holder(queue, span) == NULL) /* it is over already */
			continue;
		tree_remove(&queue->deadlines, &span->by_due);
		span->due_ms = queue_add_ms(span->leased_ms,
		    setting_value(&queue->object, span->held ? SET_QUEUE_CONSUMER_TIMEOUT : SET_QUEUE_ACK_TIMEOUT));
		tree_insert(&queue->deadlines, &span->by_due);
		span_mark(span);
	}
}

/* How long leases last and messages live may have changed. lock */
static void refile_all(struct queue *queue)
{
	struct tree_node *node;

	queue_refile_leases(queue);
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		struct lane *lane = queue_lane(queue, p);

		for (node = lane != NULL ? tree_first(&lane->spans) : NULL; node != NULL; node = tree_next(node)) {
			if (SPAN_IN(node, by_offset)->state == SPAN_READY)
				span_refile(SPAN_IN(node, by_offset));
		}
	}
}

void queue_setting_changed(struct queue *queue)
{
	struct wake_list wake = { 0 };

	if (queue_open(queue) < 0)
		return;
	pthread_mutex_lock(&queue->lock);
	queue_used(queue);
	refile_all(queue);
	queue_set_timer(queue);
	pthread_mutex_unlock(&queue->lock);
	queue_sweep(queue);
	queue_enforce_length(queue);
	pthread_mutex_lock(&queue->lock);
	queue_wake(queue, UINT64_MAX, &wake);
	pthread_mutex_unlock(&queue->lock);
	wake_run(&wake);
}
