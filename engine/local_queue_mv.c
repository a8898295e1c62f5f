/*
 * local_queue_mv - mv of a message: to another state, another priority, another queue, to a consumer that claims it.
 *
 * What stays in its lane changes its state there; else it moves (local_queue_move.c). A nack that gives another priority
 * is such a move too.
 */
#include <errno.h>
#include <inttypes.h>

#include "engine/local_queue_move.h"
#include "engine/local_queue_span.h"

struct mv {
	struct queue *from, *to;
	struct holder *holder; /* claimed for it, or NULL */
	uint32_t uid;          /* and who is charged for that */
	uint32_t priority;     /* or ENGINE_ANY */
	enum engine_message_state state;
	struct span *own; /* the lease that it had, whose charge went over to the new one; or NULL */
	struct wake_list wake;
};

static bool is_full(struct queue *queue, uint64_t bytes)
{
	int64_t length = setting_value(&queue->object, SET_QUEUE_MAX_LENGTH);
	int64_t length_bytes = setting_value(&queue->object, SET_QUEUE_MAX_LENGTH_BYTES);

	return setting_value(&queue->object, SET_QUEUE_OVERFLOW) != OVERFLOW_DROP_HEAD &&
	       ((length >= 0 && queue->messages[SPAN_READY] + 1 > (uint64_t)length) ||
		   (length_bytes >= 0 && queue->bytes[SPAN_READY] + bytes > (uint64_t)length_bytes));
}

/* Who claims what he has leased already goes on with one lease: it is not charged again, and his limit does not matter. */
static int charge(struct queue *queue, struct mv *mv, struct span *span, uint64_t offset, struct span_set *set)
{
	int64_t granted;
	int rc;

	if (span == NULL || span->lessee != LESSEE_OF(mv->uid)) {
		granted = lease_charge(queue, mv->uid, 1, &set->lessee);
		return granted < 0 ? (int)granted : 0;
	}
	rc = span_reserve(span->lane);
	if (rc < 0)
		return rc;
	mv->own = span_cut_out(span, offset, 1);
	set->lessee = mv->own->lessee;
	mv->own->lessee = 0;
	return 0;
}

/* The lease did not begin. */
static void uncharge(struct queue *queue, struct mv *mv, const struct span_set *set)
{
	if (mv->own != NULL)
		mv->own->lessee = set->lessee;
	else
		lease_uncharge(queue, set->lessee, 1);
	mv->own = NULL;
}

/* What a message is that the holder has claimed. EDQUOT; else who claims it is charged. */
static int lease_to(struct queue *queue, struct mv *mv, struct span *span, uint64_t offset, struct span_set *set)
{
	const struct holder *holder = mv->holder;
	int rc = charge(queue, mv, span, offset, set);

	if (rc < 0)
		return rc;
	set->state = SPAN_UNACKED;
	set->deliveries++;
	set->held = holder->sessions > 0;
	set->holder_id = holder->id;
	set->leased_ms = queue_now(queue_local(queue));
	set->delivered = queue_next_delivery(queue);
	set->due_ms = set->leased_ms +
		      setting_value(&queue->object, set->held ? SET_QUEUE_CONSUMER_TIMEOUT : SET_QUEUE_ACK_TIMEOUT);
	return 0;
}

/* Who holds it claims it again: the lease begins anew. lock */
static int renew(struct queue *queue, struct span *span, uint64_t offset, struct span_set *set)
{
	struct holder *holder = span->holder;
	struct queue_reader *stream = span->stream;
	int rc;

	set->leased_ms = queue_now(queue_local(queue));
	set->due_ms = set->leased_ms +
		      setting_value(&queue->object, set->held ? SET_QUEUE_CONSUMER_TIMEOUT : SET_QUEUE_ACK_TIMEOUT);
	rc = lane_set(span->lane, offset, 1, set, NULL, WHY_NOTHING, &span);
	if (rc == 0)
		span_hold(span, holder, stream);
	return rc;
}

/* It stays in its lane. Both locks */
static int move_in_place(
    struct mv *mv, struct lane *lane, uint64_t offset, struct span *span, const struct span_facts *facts)
{
	struct span_set set = { .place = (int64_t)offset, .due_ms = QUEUE_NEVER, .expires_ms = QUEUE_NEVER };
	int rc = 0;

	if (span != NULL) {
		set = span_as(span);
		set.place += (int64_t)(offset - span->first);
	}
	if (mv->state == ENGINE_UNACKED && mv->holder == span->holder)
		return renew(mv->from, span, offset, &set);
	if (mv->state == ENGINE_UNACKED) {
		set.ended = ENDED_LOST;
		set.ended_by = span->holder_id;
	} else if (mv->state == ENGINE_READY && mv->holder == NULL) {
		return 0;
	}
	if (mv->holder != NULL)
		rc = lease_to(mv->from, mv, span, offset, &set);
	else
		set.state = SPAN_READY;
	if (rc < 0)
		return rc;
	rc = lane_set(lane, offset, 1, &set, facts, mv->holder != NULL ? WHY_DELIVERED : WHY_NOTHING, &span);
	if (rc < 0) {
		uncharge(mv->from, mv, &set);
		return rc;
	}
	if (mv->holder != NULL) {
		span_hold(span, mv->holder, NULL);
		queue_due(mv->from, set.due_ms);
	} else {
		queue_ready(mv->from, span, &mv->wake);
	}
	return 0;
}

/* Is it a nack that gives another priority, too? */
static bool is_nack(const struct mv *mv)
{
	return mv->state == ENGINE_UNACKED && mv->from == mv->to && mv->holder == NULL;
}

/* What comes back waits for redelivery.delay.ms. */
static void come_back_to(struct queue *queue, struct span_set *set)
{
	int64_t delay = setting_value(&queue->object, SET_QUEUE_REDELIVERY_DELAY);

	if (delay <= 0)
		return;
	set->state = SPAN_DELAYED;
	set->due_ms = queue_now(queue_local(queue)) + delay;
}

/* It goes to another lane. Both locks */
static int move_away(
    struct mv *mv, struct lane *lane, uint64_t offset, struct span *span, const struct engine_view *view, uint64_t id)
{
	bool within = mv->from == mv->to;
	struct lane_move m = { .from = lane,
		.offset = offset,
		.view = view,
		.id = id,
		.why = within ? WHY_MOVED_WITHIN : WHY_MOVED_OUT,
		.set = { .state = SPAN_READY, .due_ms = QUEUE_NEVER, .expires_ms = QUEUE_NEVER } };
	uint64_t at = 0;
	int rc = 0;

	if (mv->holder == NULL && queue_is_dlq(mv->to) && mv->to->object.parent == &mv->from->object)
		return lane_kill(lane, offset, 1, ENGINE_REJECTED,
		    mv->state == ENGINE_UNACKED ? ENDED_SETTLED
		    : span != NULL              ? (enum span_ended)span->ended
						: ENDED_NEVER,
		    mv->to, &mv->wake);
	m.to = queue_lane(mv->to, mv->priority);
	if (m.to == NULL)
		return -EAGAIN;
	if (!within && mv->holder == NULL && is_full(mv->to, view->batch.len - 1))
		return engine_explain(-EDQUOT, "the queue is full");
	if (within && span != NULL) {
		m.set.deliveries = span->deliveries;
		m.set.expires_ms = span->expires_ms;
		m.set.ended = mv->state == ENGINE_UNACKED ? ENDED_LOST : span->ended;
		m.set.ended_by = mv->state == ENGINE_UNACKED ? span->holder_id : span->ended_by;
	}
	if (is_nack(mv)) {
		m.set.ended = ENDED_SETTLED;
		come_back_to(mv->to, &m.set);
	}
	if (mv->holder != NULL)
		rc = lease_to(mv->to, mv, span, offset, &m.set);
	if (rc < 0)
		return rc;
	if (!within)
		queue_remember_gone(mv->from, id,
		    mv->state == ENGINE_UNACKED ? ENDED_SETTLED
		    : span != NULL              ? (enum span_ended)span->ended
						: ENDED_NEVER);
	rc = lane_move(&m, &at);
	if (rc < 0) {
		uncharge(mv->to, mv, &m.set);
		return rc;
	}
	if (mv->holder != NULL) {
		count_why(mv->to, WHY_DELIVERED, 1, m.set.deliveries);
		span_hold(span_at(m.to, at), mv->holder, NULL);
		queue_due(mv->to, m.set.due_ms);
	} else if (m.set.state == SPAN_DELAYED) {
		queue_due(mv->to, m.set.due_ms);
	} else {
		lane_move_arrived(m.to, at, &mv->wake);
	}
	return 0;
}

static bool is_over_limit(const struct span *span)
{
	int64_t limit = setting_value(&span->lane->queue->object, SET_QUEUE_DELIVERY_LIMIT);

	return limit >= 0 && span->deliveries > limit;
}

/* Both locks. EAGAIN: it is a nack and nothing else. */
static int move_locked(struct mv *mv, struct lane *lane, uint64_t offset, uint64_t id)
{
	struct engine_view view;
	struct span_facts facts;
	struct span *span;
	uint64_t first_id;
	int rc;

	if ((int)lane_state(lane, offset, &span) != (int)mv->state)
		return -ENOENT;
	rc = lane_read(lane, offset, 1, &mv->from->scratch, &view, &first_id);
	if (rc < 0)
		return rc == -ESTALE || rc == -ENODATA ? -ENOENT : rc;
	facts = facts_of(&view, first_id);
	if (is_nack(mv) && (lane->priority == mv->priority || is_over_limit(span)))
		return -EAGAIN;
	if (mv->from == mv->to && lane->priority == mv->priority)
		return move_in_place(mv, lane, offset, span, &facts);
	return move_away(mv, lane, offset, span, &view, id);
}

/* Is there such a message in that state? Else that is what is said, before anything of the place. */
static int check_there(struct queue *queue, uint64_t id, enum engine_message_state state)
{
	struct lane *lane;
	struct span *span;
	uint64_t offset;
	int rc = queue_find(queue, id, &lane, &offset);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&queue->lock);
	if ((int)lane_state(lane, offset, &span) != (int)state)
		rc = -ENOENT;
	pthread_mutex_unlock(&queue->lock);
	return rc;
}

/* The place's own checks. */
static int find_place(struct mv *mv, const struct engine_place *to)
{
	struct object *consumer;

	if (to->state != ENGINE_READY && to->state != ENGINE_UNACKED)
		return engine_explain(-EINVAL, "messages are moved to be ready, or to be claimed");
	if (to->priority != ENGINE_ANY && to->priority >= ENGINE_PRIORITIES)
		return engine_explain(-EINVAL, "priorities are 0 to %u", ENGINE_PRIORITIES - 1);
	if (to->priority != ENGINE_ANY && to->priority != queue_lower(mv->to, to->priority))
		return engine_explain(-EINVAL, "the highest priority of the queue is %" PRId64,
		    setting_value(&mv->to->object, SET_QUEUE_MAX_PRIORITY));
	if (to->state == ENGINE_READY)
		return 0;
	if (to->consumer == NULL)
		return -EINVAL;
	consumer = object_of(to->consumer);
	if (consumer == &mv->to->object)
		mv->holder = &mv->to->anonymous;
	else if (consumer->kind == ENGINE_CONSUMER && consumer->parent == &mv->to->object)
		mv->holder = &queue_consumer_of(consumer)->holder;
	else
		return engine_explain(-EPERM, "it is a consumer of another queue");
	return atomic_load(&consumer->removed) ? -EIDRM : 0;
}

static int mv_message(struct mv *mv, uint64_t id)
{
	struct lane *lane, *target;
	uint64_t offset;
	int rc = queue_find(mv->from, id, &lane, &offset);

	if (rc < 0)
		return rc;
	mv->priority = mv->priority == ENGINE_ANY && mv->from == mv->to ? lane->priority
		       : mv->priority == ENGINE_ANY                     ? queue_lower(mv->to, lane->priority)
									: mv->priority;
	rc = queue_make_lane(mv->to, mv->priority, &target);
	if (rc == 0 && mv->to->object.parent == &mv->from->object) /* a reject: it keeps its own */
		rc = queue_make_lane(mv->to, queue_lower(mv->to, lane->priority), &target);
	if (rc == 0)
		rc = queue_lock_both(mv->from, mv->to);
	if (rc < 0)
		return rc;
	rc = move_locked(mv, lane, offset, id);
	queue_used(mv->from);
	queue_used(mv->to);
	queue_room(mv->from, &mv->wake);
	queue_unlock_both(mv->from, mv->to);
	return rc;
}

int queue_message_move(
    struct engine_object *base, uint64_t id, enum engine_message_state state, const struct engine_place *to)
{
	struct mv mv = { .state = state, .priority = to->priority, .uid = to->uid };
	int rc = queue_enter(base, true, &mv.from);

	if (rc == 0)
		rc = check_there(mv.from, id, state);
	if (rc == 0)
		rc = queue_enter(to->queue, true, &mv.to);
	if (rc == 0)
		rc = find_place(&mv, to);
	if (rc < 0)
		return rc;
	rc = mv_message(&mv, id);
	wake_run(&mv.wake);
	/* Too many deliveries make a nack a death, which needs the queue where dead letters go: that is a settling. */
	if (rc == -EAGAIN && is_nack(&mv))
		rc = queue_nack_any(mv.from, id);
	queue_enforce_length(mv.to);
	queue_catch_up(queue_local(mv.to)); /* its time to live may be over where it came to */
	return rc;
}
