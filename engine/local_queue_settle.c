/*
 * local_queue_settle - who holds messages settles them, or loses them.
 *
 * An ack needs the queue alone. A nack and a reject, and whatever else takes leases back, may make dead letters, so they
 * take the lock of the queue these go to as well; which one that is, is found out before.
 */
#include <errno.h>
#include <inttypes.h>

#include "engine/clock.h"
#include "engine/local_queue.h"

#define SPAN_BY_ORDER(node) ((struct span *)((char *)(node)-offsetof(struct span, by_order)))

/* ---- coming back; both locks ---- */

int span_return(struct span *span, uint64_t first, uint32_t count, enum span_ended ended, struct queue *target,
    enum queue_why why, struct wake_list *wake)
{
	struct lane *lane = span->lane;
	struct queue *queue = lane->queue;
	int64_t limit = setting_value(&queue->object, SET_QUEUE_DELIVERY_LIMIT);
	int64_t delay = setting_value(&queue->object, SET_QUEUE_REDELIVERY_DELAY), now = queue_now(queue_local(queue));
	struct span_set set = span_as(span);
	int rc;

	if (limit >= 0 && span->deliveries > limit)
		return lane_kill(lane, first, count, ENGINE_DELIVERY_LIMIT, ended, target, wake);
	if (delay <= 0 && span_expiry(span) <= now)
		return lane_kill(lane, first, count, ENGINE_EXPIRED, ended, target, wake);
	set.state = delay > 0 ? SPAN_DELAYED : SPAN_READY;
	set.ended = (uint8_t)ended;
	set.ended_by = span->holder_id;
	set.held = false;
	set.holder_id = 0;
	set.place += (int64_t)(first - span->first);
	set.due_ms = delay > 0 ? now + delay : QUEUE_NEVER;
	if (delay > 0 && why == WHY_UNTOLD)
		why = WHY_NOTHING; /* a restart would find the lease over and begin the delay anew */
	rc = lane_set(lane, first, count, &set, NULL, why, &span);
	if (rc < 0)
		return rc;
	if (delay > 0)
		queue_due(queue, set.due_ms);
	else
		queue_ready(queue, span, wake);
	return 0;
}

void holder_return(struct queue *queue, struct holder *holder, const struct queue_reader *stream)
{
	struct queue *target = queue_dead_target(queue);
	struct wake_list wake = { 0 };
	struct tree_node *node, *next;

	if (queue_lock_both(queue, target) == 0) {
		for (node = tree_first(&queue->leased); node != NULL; node = next) {
			struct span *span = SPAN_BY_ORDER(node);

			next = tree_next(node);
			if (span->holder == holder && (stream == NULL || span->stream == stream))
				span_return(span, span->first, span->count, ENDED_LOST, target, WHY_NOTHING, &wake);
		}
		queue_unlock_both(queue, target);
		wake_run(&wake);
		queue_enforce_length(queue);
	}
	/* What could not be put back (a full disk) must not point to who is gone: its deadline brings it back. */
	pthread_mutex_lock(&queue->lock);
	for (struct span *span = holder->spans; span != NULL; span = span->held_next) {
		if (stream != NULL && span->stream == stream)
			span->stream = NULL;
	}
	pthread_mutex_unlock(&queue->lock);
	if (target != NULL) {
		queue_enforce_length(target);
		object_put(&target->object);
	}
}

/* ---- settling; lock, and both for what is no ack ---- */

static int settle_part(struct span *span, uint64_t first, uint32_t count, enum engine_settle how, struct queue *target,
    struct wake_list *wake)
{
	const struct span_set gone = { .state = SPAN_GONE };

	switch (how) {
	case ENGINE_ACK:
		if (span->id != 0) /* the log does not find it again */
			queue_remember_gone(span->lane->queue, span->id, ENDED_SETTLED);
		return lane_set(span->lane, first, count, &gone, NULL, WHY_ACKED, NULL);
	case ENGINE_NACK: return span_return(span, first, count, ENDED_SETTLED, target, WHY_NOTHING, wake);
	case ENGINE_REJECT: return lane_kill(span->lane, first, count, ENGINE_REJECTED, ENDED_SETTLED, target, wake);
	}
	return -EINVAL;
}

/* Why holder may not settle a message, of which it has no lease. */
static int refuse(int rc, uint64_t id)
{
	switch (rc) {
	case -EPERM: return engine_explain(rc, "message %" PRIu64 " is leased to another consumer", id);
	case -EALREADY: return engine_explain(rc, "message %" PRIu64 " is settled already", id);
	case -ESTALE: return engine_explain(rc, "the lease of message %" PRIu64 " is over", id);
	default: return engine_explain(rc, "message %" PRIu64 " is not leased here", id);
	}
}

static int explain(struct lane *lane, uint64_t offset, const struct holder *holder, uint64_t id)
{
	struct span *span;
	enum span_state state = lane_state(lane, offset, &span);
	int ended;

	if (state == SPAN_GONE)
		return refuse(queue_gone_errno(lane->queue, id, true), id);
	ended = span != NULL ? span->ended : ENDED_NEVER;
	if (state == SPAN_UNACKED && (ended == ENDED_NEVER || span->ended_by != holder->id))
		return refuse(-EPERM, id);
	return refuse(ended == ENDED_NEVER ? -ENOENT : ended == ENDED_SETTLED ? -EALREADY : -ESTALE, id);
}

int queue_find_lease(struct queue *queue, struct holder *holder, uint64_t id, struct queue_lease *ret_lease)
{
	struct lane *lane;
	struct span *span;
	uint64_t offset;
	int rc = queue_find(queue, id, &lane, &offset);
	bool found = rc == 0;

	if (found || rc == -ENOENT)
		rc = queue_lock(queue);
	if (rc < 0)
		return rc;
	if (!found)
		rc = refuse(queue_gone_errno(queue, id, false), id);
	else if (lane_state(lane, offset, &span) == SPAN_UNACKED && span->holder == holder)
		*ret_lease = (struct queue_lease){ id, lane->priority, offset, span->deliveries };
	else
		rc = explain(lane, offset, holder, id);
	queue_used(queue);
	queue_unlock(queue);
	return rc;
}

int queue_list_leases(struct queue *queue, const struct holder *holder, uint64_t first, uint64_t last,
    struct queue_lease **ret_leases, size_t *ret_count)
{
	struct queue_lease *leases;
	struct tree_node *node;
	size_t count = 0;
	int rc = queue_lock(queue);

	if (rc < 0)
		return rc;
	leases = calloc(holder->unacked + 1, sizeof(*leases));
	for (node = tree_first(&queue->leased); node != NULL && leases != NULL; node = tree_next(node)) {
		const struct span *span = SPAN_BY_ORDER(node);

		for (uint32_t i = 0; span->holder == holder && i < span->count; i++) {
			if (span->first_id + i >= first && span->first_id + i <= last)
				leases[count++] = (struct queue_lease){ span->first_id + i, span->lane->priority,
					span->first + i, span->deliveries };
		}
	}
	queue_used(queue);
	queue_unlock(queue);
	if (leases == NULL)
		return -ENOMEM;
	*ret_leases = leases;
	*ret_count = count;
	return 0;
}

bool queue_has_lease(struct queue *queue, uint64_t holder_id, const struct queue_lease *lease)
{
	const struct span *span = span_of_id(queue, lease->id);

	return span != NULL && span->state == SPAN_UNACKED && span->holder_id == holder_id &&
	       span->deliveries == lease->deliveries && span->lane->priority == lease->priority &&
	       span->first + (lease->id - span->first_id) == lease->offset;
}

int queue_settle_lease(struct queue *queue, const struct queue_lease *lease, enum engine_settle how,
    struct queue *target, struct wake_list *wake)
{
	struct lane *lane = queue_lane(queue, lease->priority);
	struct span *span = NULL;
	int rc = -ESTALE;

	if (lane != NULL && lane_state(lane, lease->offset, &span) == SPAN_UNACKED)
		rc = settle_part(span, lease->offset, 1, how, target, wake);
	queue_used(queue);
	queue_room(queue, wake);
	return rc;
}

static int64_t settle_one(struct queue *queue, struct holder *holder, enum engine_settle how, uint64_t id,
    struct queue *target, struct wake_list *wake)
{
	struct lane *lane;
	struct span *span;
	uint64_t offset;
	int rc = queue_find(queue, id, &lane, &offset);
	bool found = rc == 0;

	if (found || rc == -ENOENT)
		rc = queue_lock_both(queue, target);
	if (rc < 0)
		return rc;
	if (!found)
		rc = refuse(queue_gone_errno(queue, id, false), id);
	else if (lane_state(lane, offset, &span) == SPAN_UNACKED && span->holder == holder)
		rc = settle_part(span, offset, 1, how, target, wake);
	else
		rc = explain(lane, offset, holder, id);
	if (rc == 0)
		queue_used(queue);
	queue_room(queue, wake);
	queue_unlock_both(queue, target);
	return rc < 0 ? rc : 1;
}

/* Those of first..last that holder has, in order of delivery. Nothing is newly leased meanwhile. */
static int64_t settle_range(struct queue *queue, struct holder *holder, enum engine_settle how, uint64_t first,
    uint64_t last, struct queue *target, struct wake_list *wake)
{
	struct tree_node *node, *next;
	int64_t count = 0;
	int rc = queue_lock_both(queue, target);

	if (rc < 0)
		return rc;
	for (node = tree_first(&queue->leased); node != NULL && rc == 0; node = next) {
		struct span *span = SPAN_BY_ORDER(node);
		uint64_t from = span->first_id > first ? span->first_id : first;
		uint64_t to = span->first_id + span->count - 1 < last ? span->first_id + span->count - 1 : last;

		next = tree_next(node);
		if (span->holder != holder || from > to)
			continue;
		rc = settle_part(
		    span, span->first + (from - span->first_id), (uint32_t)(to - from) + 1, how, target, wake);
		if (rc == 0)
			count += (int64_t)(to - from) + 1;
	}
	if (count > 0)
		queue_used(queue);
	queue_room(queue, wake);
	queue_unlock_both(queue, target);
	return count > 0 ? count : rc;
}

static int64_t settle(struct queue *queue, struct holder *holder, enum engine_settle how, uint64_t first, uint64_t last)
{
	struct queue *target = how != ENGINE_ACK ? queue_dead_target(queue) : NULL;
	struct wake_list wake = { 0 };
	int64_t rc = first == last ? settle_one(queue, holder, how, first, target, &wake)
				   : settle_range(queue, holder, how, first, last, target, &wake);

	wake_run(&wake);
	if (how == ENGINE_NACK)
		queue_enforce_length(queue);
	if (target != NULL) {
		if (how == ENGINE_REJECT || how == ENGINE_NACK)
			queue_enforce_length(target);
		object_put(&target->object);
	}
	return rc;
}

int queue_nack_any(struct queue *queue, uint64_t id)
{
	struct queue *target = queue_dead_target(queue);
	struct wake_list wake = { 0 };
	struct lane *lane;
	struct span *span;
	uint64_t offset;
	int rc = queue_find(queue, id, &lane, &offset);

	if (rc == 0)
		rc = queue_lock_both(queue, target);
	if (rc == 0) {
		rc = -ENOENT;
		if (lane_state(lane, offset, &span) == SPAN_UNACKED)
			rc = span_return(span, offset, 1, ENDED_SETTLED, target, WHY_NOTHING, &wake);
		queue_room(queue, &wake);
		queue_unlock_both(queue, target);
		wake_run(&wake);
		queue_enforce_length(queue);
	}
	if (target != NULL) {
		queue_enforce_length(target);
		object_put(&target->object);
	}
	return rc;
}

/* ---- calls ---- */

int64_t queue_settle(struct engine_object *base, enum engine_settle how, uint64_t first, uint64_t last)
{
	struct holder *holder;
	struct queue *queue;
	int64_t rc = queue_enter_holder(base, &queue, &holder);

	if (rc < 0)
		return rc;
	if (first > last)
		return engine_explain(-EINVAL, "%" PRIu64 " is above %" PRIu64, first, last);
	rc = settle(queue, holder, how, first, last);
	return rc != 0 ? rc : settle(queue, holder, how, first, first);
}

int64_t queue_settle_all(struct engine_object *base, enum engine_settle how)
{
	struct holder *holder;
	struct queue *queue;
	int64_t rc = queue_enter_holder(base, &queue, &holder);

	if (rc < 0)
		return rc;
	if (object_of(base)->kind == ENGINE_QUEUE)
		return engine_explain(-EINVAL, "the queue's own files serve many: name the messages");
	return settle(queue, holder, how, 0, UINT64_MAX);
}

/* A sync that has begun, or is about to, has done nothing yet. */
static bool is_behind(struct lane *lane)
{
	struct plog *plog = atomic_load(&lane->plog);

	return plog != NULL && plog_durable(plog) < lane->end;
}

/* Lanes with messages that the journal would bring back if the machine died, settled or not. */
static size_t noted_points(struct queue *queue, struct sync_point **points)
{
	size_t count = 0;

	pthread_mutex_lock(&queue->lock);
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		struct lane *lane = queue_lane(queue, p);

		if (lane != NULL && (lane->noted || lane->noted_syncs > 0) && is_behind(lane))
			points[count++] = &lane->sync;
	}
	pthread_mutex_unlock(&queue->lock);
	return count;
}

int queue_settle_sync(struct engine_object *base, struct engine_done *done)
{
	struct sync_point *points[ENGINE_PRIORITIES + 1];
	struct queue *queue = NULL;
	struct local *local;
	size_t count;
	int rc = queue_enter(base, false, &queue);

	if (rc < 0)
		return rc;
	local = queue_local(queue);
	count = noted_points(queue, points);
	if (count == 0 && journal_synced(local->journal) >= journal_end(local->journal))
		return 0;
	points[count++] = &local->journal_sync;
	return flusher_wait_for(local, points, count, done);
}
