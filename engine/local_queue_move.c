/*
 * local_queue_move - a message goes from one lane to another: dead letters, mv, redrive.
 *
 * Both queues are locked. The move is noted first, then the message is appended to the log it comes to, with its id, its
 * time and its deaths as properties; then it is settled where it was. What a crash cuts off in between the start finishes
 * (queue_finish_moves). If the append fails, the note is taken back by another.
 *
 * Ids in a log rise. A message that comes with an id below the last of the log is a stray: its entry is marked as one, and
 * a span remembers its id as long as it is there.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/local_queue.h"

#define DEATHS_MAX 32u /* entries a message keeps; the oldest go */

/* ---- where dead letters go ---- */

static struct queue *find_target(struct queue *queue)
{
	struct local *local = queue_local(queue);
	int64_t to = setting_value(&queue->object, SET_QUEUE_DEAD_LETTER);
	const char *name = settings_text(to);
	struct object *found = NULL;

	if (to == DEAD_LETTER_NONE)
		return NULL;
	if (name != NULL)
		found = registry_find(local, local->root->id, ENGINE_QUEUE, name + strlen("queues/"));
	if (found == NULL)
		found = registry_find(local, queue->object.id, ENGINE_QUEUE, "dlq");
	return found != NULL ? queue_of_object(found) : NULL;
}

static uint32_t lower(const struct queue *queue, uint32_t priority)
{
	uint32_t max = (uint32_t)setting_value(&queue->object, SET_QUEUE_MAX_PRIORITY);

	return priority < max ? priority : max;
}

struct queue *queue_dead_target(struct queue *queue)
{
	struct queue *target = find_target(queue);
	struct lane *lane;
	int rc = target != NULL ? queue_open(target) : 0;

	for (uint32_t p = 0; p < ENGINE_PRIORITIES && target != NULL && rc == 0; p++) {
		if (queue_lane(queue, p) != NULL)
			rc = queue_make_lane(target, lower(target, p), &lane);
	}
	(void)rc; /* where there is no lane nothing dies: kill_one() */
	return target;
}

void queue_name(struct queue *queue, char name[QUEUE_NAME_MAX])
{
	struct object *above = queue->object.parent;
	char own[ENGINE_NAME_MAX + 1], first[ENGINE_NAME_MAX + 1], second[ENGINE_NAME_MAX + 1];

	object_name(&queue->object, own);
	if (above->kind == ENGINE_STORE) {
		snprintf(name, QUEUE_NAME_MAX, "%s", own);
		return;
	}
	object_name(above, first);
	if (above->kind == ENGINE_GROUP) {
		object_name(above->parent, second);
		snprintf(name, QUEUE_NAME_MAX, "%s/groups/%s/dlq", second, first);
		return;
	}
	snprintf(name, QUEUE_NAME_MAX, "%s/dlq", first);
}

/* ---- deaths ---- */

struct deaths {
	struct engine_death list[DEATHS_MAX + 1];
	uint32_t count;
	char name[QUEUE_NAME_MAX];
};

/* Those of props, with one more in front. */
static void add_death(
    struct deaths *deaths, const struct engine_props *props, struct queue *queue, enum engine_death_reason reason)
{
	struct engine_death death = { .reason = reason, .count = 1, .ts_ms = clock_wall_ms() };

	queue_name(queue, deaths->name);
	death.queue = (struct engine_span){ deaths->name, strlen(deaths->name) };
	deaths->count = 1;
	for (uint32_t i = 0; i < props->death_count; i++) {
		const struct engine_death *old = &props->deaths[i];

		if (old->reason == reason && old->queue.len == death.queue.len &&
		    memcmp(old->queue.ptr, death.queue.ptr, death.queue.len) == 0)
			death.count += old->count;
		else if (deaths->count < DEATHS_MAX)
			deaths->list[deaths->count++] = *old;
	}
	deaths->list[0] = death;
}

/* Was it in target before, and in none since from which somebody rejected it? */
static bool is_circle(const struct deaths *deaths, struct queue *target)
{
	char name[QUEUE_NAME_MAX];
	size_t len;

	queue_name(target, name);
	len = strlen(name);
	for (uint32_t i = 0; i < deaths->count; i++) {
		const struct engine_death *death = &deaths->list[i];

		if (death->reason == ENGINE_REJECTED)
			return false;
		if (death->queue.len == len && memcmp(death->queue.ptr, name, len) == 0)
			return true;
	}
	return false;
}

/* ---- moving; both locks ---- */

struct moving {
	struct lane *from, *to;
	uint64_t offset;
	enum queue_why why;
	const struct engine_view *view; /* of the message */
	uint64_t id;
	const struct deaths *deaths; /* NULL: those it has */
	bool dies;                   /* its own time to live ends with it */
	struct span_set set;         /* READY or UNACKED; place and id follow */
};

/* The message as it is appended. */
static struct engine_batch make_batch(const struct moving *m, struct engine_props *props)
{
	struct engine_batch batch = m->view->batch;

	*props = batch.props != NULL ? batch.props[0] : ENGINE_PROPS_INIT;
	props->partition = ENGINE_ANY;
	if (batch.props == NULL)
		props->ts_ms = batch.ts_ms;
	props->delay_ms = -1;
	props->mark = 0; /* it did not come here by an exchange */
	if (m->dies)
		props->ttl_ms = -1;
	if (m->deaths != NULL) {
		props->deaths = m->deaths->list;
		props->death_count = m->deaths->count;
	}
	if (m->why != WHY_MOVED_WITHIN) /* a dead letter of a queue may come to that queue */
		batch.ts_ms = queue_now(queue_local(m->to->queue)); /* its times to live begin anew */
	else if (span_at(m->from, m->offset) != NULL)
		batch.ts_ms = span_at(m->from, m->offset)->ts_ms;
	batch.props = props;
	return batch;
}

static int append_moved(const struct moving *m, const struct queue_move_note *note, const struct engine_batch *batch)
{
	struct lane *to = m->to;
	struct span_facts facts = { batch->ts_ms, m->id, batch->len - 1, NULL };
	bool again = false;
	uint64_t offset;
	int rc;

	do /* dying and moving free room where it was, in the end */
		rc = lane_append(to, batch, m->id | (note->set.id != 0 ? PLOG_STRAY : 0), &offset);
	while (reserve_again(queue_local(to->queue), rc, &again));
	if (rc < 0)
		return rc;
	to->arrived++;
	queue_forget_gone(to->queue, m->id);
	to->moved_in = true;
	if (note->why != WHY_MOVED_WITHIN)
		count_why(to->queue, WHY_MOVED_IN, 1, 0);
	return note->fresh ? 0 : lane_set(to, offset, 1, &note->set, &facts, WHY_UNTOLD, NULL);
}

/* Returns where it is now. */
static int move(const struct moving *m, uint64_t *ret_offset)
{
	static const struct span_set gone = { .state = SPAN_GONE };
	struct engine_props props;
	struct engine_batch batch = make_batch(m, &props);
	struct span_facts facts = { batch.ts_ms, m->id, batch.len - 1, NULL };
	struct queue_move_note note = { .from = m->from,
		.to = m->to,
		.from_offset = m->offset,
		.to_offset = m->to->end,
		.id = m->id,
		.why = m->why,
		.set = m->set };
	int rc;

	note.set.place = (int64_t)m->to->end;
	note.set.id = m->id <= m->to->last_id ? m->id : 0;
	if (props.ttl_ms >= 0 && m->from->queue != m->to->queue)
		note.set.expires_ms = batch.ts_ms + props.ttl_ms;
	note.fresh = note.set.id == 0 && note.set.state == SPAN_READY && note.set.deliveries == 0 &&
		     note.set.expires_ms == QUEUE_NEVER;
	rc = queue_note_move(&note);
	if (rc < 0)
		return rc;
	rc = append_moved(m, &note, &batch);
	if (rc < 0) {
		queue_note_unmove(&note);
		return rc;
	}
	count_why(m->from->queue, m->why, 1, 0);
	*ret_offset = note.to_offset;
	return lane_set(m->from, m->offset, 1, &gone, &facts, WHY_UNTOLD, NULL);
}

static void arrived(struct lane *lane, uint64_t offset, struct wake_list *wake)
{
	struct span *span;
	struct queue *queue = lane->queue;
	int64_t ttl = setting_value(&queue->object, SET_QUEUE_TTL);

	if (lane_state(lane, offset, &span) != SPAN_READY)
		return;
	if (span != NULL) {
		queue_ready(queue, span, wake);
		return;
	}
	if (ttl >= 0) {
		int64_t due_ms = queue_now(queue_local(queue)) + ttl;

		if (due_ms < queue->ttl_due)
			queue->ttl_due = due_ms;
		queue_set_timer(queue);
	}
	queue_wake(queue, 1, wake);
}

/* ---- dying ---- */

static enum queue_why why_dropped(enum engine_death_reason reason)
{
	return reason == ENGINE_EXPIRED ? WHY_EXPIRED : WHY_DROPPED;
}

static int kill_one(struct lane *lane, uint64_t offset, enum engine_death_reason reason, struct queue *target,
    const struct engine_view *view, uint64_t id, struct wake_list *wake)
{
	static const struct span_set gone = { .state = SPAN_GONE };
	const struct engine_props none = ENGINE_PROPS_INIT;
	struct span_facts facts = facts_of(view, id);
	struct moving m = { .from = lane,
		.offset = offset,
		.why = WHY_DEAD,
		.view = view,
		.id = id,
		.dies = true,
		.set = { .state = SPAN_READY, .due_ms = QUEUE_NEVER, .expires_ms = QUEUE_NEVER } };
	struct deaths deaths;
	uint64_t now_at = 0;
	int rc;

	add_death(&deaths, view->batch.props != NULL ? view->batch.props : &none, lane->queue, reason);
	if (target == NULL)
		return lane_set(lane, offset, 1, &gone, &facts, why_dropped(reason), NULL);
	if (is_circle(&deaths, target))
		return lane_set(lane, offset, 1, &gone, &facts, WHY_DROPPED, NULL);
	m.to = atomic_load(&target->open) ? queue_lane(target, lower(target, lane->priority)) : NULL;
	m.deaths = &deaths;
	if (m.to == NULL) /* the disk failed or is full: it stays what it is, and is tried again */
		return engine_explain(-EIO, "where its dead letters go cannot be written");
	rc = move(&m, &now_at);
	if (rc == 0)
		arrived(m.to, now_at, wake);
	return rc;
}

int lane_kill(struct lane *lane, uint64_t first, uint32_t count, enum engine_death_reason reason, enum span_ended ended,
    struct queue *target, struct wake_list *wake)
{
	static const struct span_set gone = { .state = SPAN_GONE };
	const struct span_facts none = { 0 };
	struct queue *queue = lane->queue;
	int rc = 0;

	for (uint64_t offset = first; offset < first + count && rc == 0; offset++) {
		struct engine_view view;
		uint64_t id = 0;

		rc = lane_read(lane, offset, 1, &queue->scratch, &view, &id);
		if (rc == -EIO || rc == -ESTALE)
			rc = lane_set(lane, offset, 1, &gone, &none, WHY_DROPPED, NULL);
		else if (rc == 0)
			rc = kill_one(lane, offset, reason, target, &view, id, wake);
		if (rc == 0 && span_of_id(queue, id) == NULL) /* else it has come back to the queue it died in */
			queue_remember_gone(queue, id, ended);
	}
	return rc;
}

/* ---- the length ---- */

/* lock */
static bool is_too_long(struct queue *queue)
{
	int64_t length = setting_value(&queue->object, SET_QUEUE_MAX_LENGTH);
	int64_t length_bytes = setting_value(&queue->object, SET_QUEUE_MAX_LENGTH_BYTES);

	return setting_value(&queue->object, SET_QUEUE_OVERFLOW) == OVERFLOW_DROP_HEAD &&
	       ((length >= 0 && queue->messages[SPAN_READY] > (uint64_t)length) ||
		   (length_bytes >= 0 && queue->bytes[SPAN_READY] > (uint64_t)length_bytes));
}

/* Drops the oldest message of the lowest priority: what was put to the head comes last. Both locks. */
static int drop_one(struct queue *queue, struct queue *target, struct wake_list *wake)
{
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		struct lane *lane = queue_lane(queue, p);
		struct span *span;
		uint64_t offset;
		int64_t place;

		if (lane == NULL || lane->ready_count == 0)
			continue;
		if (!lane_peek(lane, -1, &offset, &place)) { /* only those at the head */
			struct tree_node *node = tree_first(&lane->ready);

			while (tree_next(node) != NULL)
				node = tree_next(node);
			offset = ((struct span *)((char *)node - offsetof(struct span, by_order)))->first;
		}
		span = span_at(lane, offset);
		return lane_kill(lane, offset, 1, ENGINE_MAXLEN,
		    span != NULL ? (enum span_ended)span->ended : ENDED_NEVER, target, wake);
	}
	return -ENOENT;
}

void queue_enforce_length(struct queue *queue)
{
	struct wake_list wake = { 0 };
	struct queue *target;
	bool over;

	if (setting_value(&queue->object, SET_QUEUE_MAX_LENGTH) < 0 &&
	    setting_value(&queue->object, SET_QUEUE_MAX_LENGTH_BYTES) < 0)
		return;
	pthread_mutex_lock(&queue->lock);
	over = atomic_load(&queue->open) && is_too_long(queue);
	pthread_mutex_unlock(&queue->lock);
	if (!over)
		return;
	target = queue_dead_target(queue);
	if (queue_lock_both(queue, target) == 0) {
		queue_do_due(queue, target, &wake); /* what is over anyway makes room */
		while (is_too_long(queue) && drop_one(queue, target, &wake) == 0)
			;
		queue_unlock_both(queue, target);
		wake_run(&wake);
	}
	if (target != NULL) {
		queue_enforce_length(target);
		object_put(&target->object);
	}
}

/* ---- mv ---- */

struct mv {
	struct queue *from, *to;
	struct holder *holder; /* claimed for it, or NULL */
	uint32_t priority;     /* or ENGINE_ANY */
	enum engine_message_state state;
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

/* What a message is that holder has claimed. */
static void lease_to(struct queue *queue, const struct holder *holder, struct span_set *set)
{
	set->state = SPAN_UNACKED;
	set->deliveries++;
	set->held = holder->sessions > 0;
	set->holder_id = holder->id;
	set->leased_ms = queue_now(queue_local(queue));
	set->delivered = queue_next_delivery(queue);
	set->due_ms = set->leased_ms +
		      setting_value(&queue->object, set->held ? SET_QUEUE_CONSUMER_TIMEOUT : SET_QUEUE_ACK_TIMEOUT);
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
	int rc;

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
		lease_to(mv->from, mv->holder, &set);
	else
		set.state = SPAN_READY;
	rc = lane_set(lane, offset, 1, &set, facts, mv->holder != NULL ? WHY_DELIVERED : WHY_NOTHING, &span);
	if (rc < 0)
		return rc;
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
	struct moving m = { .from = lane,
		.offset = offset,
		.view = view,
		.id = id,
		.why = within ? WHY_MOVED_WITHIN : WHY_MOVED_OUT,
		.set = { .state = SPAN_READY, .due_ms = QUEUE_NEVER, .expires_ms = QUEUE_NEVER } };
	uint64_t at = 0;
	int rc;

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
		lease_to(mv->to, mv->holder, &m.set);
	if (!within)
		queue_remember_gone(mv->from, id,
		    mv->state == ENGINE_UNACKED ? ENDED_SETTLED
		    : span != NULL              ? (enum span_ended)span->ended
						: ENDED_NEVER);
	rc = move(&m, &at);
	if (rc < 0)
		return rc;
	if (mv->holder != NULL) {
		count_why(mv->to, WHY_DELIVERED, 1, m.set.deliveries);
		span_hold(span_at(m.to, at), mv->holder, NULL);
		queue_due(mv->to, m.set.due_ms);
	} else if (m.set.state == SPAN_DELAYED) {
		queue_due(mv->to, m.set.due_ms);
	} else {
		arrived(m.to, at, &mv->wake);
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
		return rc == -EIO || rc == -ENOMEM ? rc : -ENOENT;
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
	if (to->priority != ENGINE_ANY && to->priority != lower(mv->to, to->priority))
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
		       : mv->priority == ENGINE_ANY                     ? lower(mv->to, lane->priority)
									: mv->priority;
	rc = queue_make_lane(mv->to, mv->priority, &target);
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
	struct mv mv = { .state = state, .priority = to->priority };
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
	return rc;
}

/* ---- redrive ---- */

/* Where a redrive is: what comes back to the dead letters meanwhile lies behind the ends they had, and stays. */
struct redrive {
	uint64_t first, last; /* ids */
	uint32_t priority;
	int64_t place;
	uint64_t ends[ENGINE_PRIORITIES];
};

/* The next message that is READY behind the place, of an id in the range. lock of the dlq */
static bool next_of_range(struct queue *dlq, struct redrive *r, uint64_t *ret_id)
{
	for (;; r->place = INT64_MIN) {
		struct lane *lane = queue_lane(dlq, r->priority);
		uint64_t offset, id;
		int64_t place;

		while (lane != NULL && lane_peek(lane, r->place, &offset, &place)) {
			struct engine_view view;

			r->place = place;
			if (offset < r->ends[r->priority] &&
			    lane_read(lane, offset, 1, &dlq->scratch, &view, &id) == 0 && id >= r->first &&
			    id <= r->last) {
				*ret_id = id;
				return true;
			}
		}
		if (r->priority == 0)
			return false;
		r->priority--;
	}
}

static int begin_redrive(struct queue *dlq, struct redrive *r)
{
	int rc = queue_lock(dlq);

	if (rc < 0)
		return rc;
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++)
		r->ends[p] = queue_lane(dlq, p) != NULL ? queue_lane(dlq, p)->end : 0;
	queue_unlock(dlq);
	return 0;
}

/* A dead letter of a group goes to the topic again, with its key; then it is removed. A crash in between leaves it in both. */
static int produce_again(struct queue *dlq, uint64_t id, struct engine_producer *producer)
{
	struct engine_scratch scratch = { 0 };
	struct engine_props props = ENGINE_PROPS_INIT;
	struct engine_view view = { 0 };
	int rc = queue_message_read(&dlq->object.base, id, &scratch, &view);

	if (rc == 0) {
		if (view.batch.props != NULL)
			props = view.batch.props[0];
		props.partition = ENGINE_ANY;
		props.priority = -1;
		props.ts_ms = -1;
		props.deaths = NULL;
		props.death_count = 0;
		view.batch.props = &props;
		view.batch.ts_ms = -1;
		rc = local_producer_send(producer, &view.batch, NULL);
	}
	if (rc == 0)
		rc = queue_message_remove(&dlq->object.base, id, ENGINE_READY);
	engine_scratch_release(&scratch);
	return rc;
}

int64_t queue_redrive(struct engine_object *base, uint64_t first, uint64_t last)
{
	struct redrive r = { .first = first, .last = last, .priority = ENGINE_PRIORITIES - 1, .place = INT64_MIN };
	const struct engine_span none = { NULL, 0 };
	struct engine_producer *producer = NULL; /* of the topic whose group these are of */
	struct queue *dlq = NULL;
	int64_t count = 0;
	uint64_t id;
	int rc = queue_enter(base, true, &dlq);

	if (rc < 0)
		return rc;
	if (!queue_is_dlq(dlq) || first > last)
		return engine_explain(-EINVAL, "only dead letters can go back to where they came from");
	if (dlq->object.parent->kind == ENGINE_GROUP)
		rc = local_producer_open(&dlq->object.parent->parent->base, ENGINE_ANY, none, &producer);
	if (rc < 0)
		return rc;
	rc = begin_redrive(dlq, &r);
	while (rc == 0) {
		struct engine_place to = {
			.queue = &dlq->object.parent->base, .state = ENGINE_READY, .priority = ENGINE_ANY
		};
		bool more;

		rc = queue_lock(dlq);
		if (rc < 0)
			break;
		more = next_of_range(dlq, &r, &id);
		queue_unlock(dlq);
		if (!more)
			break;
		rc = producer != NULL ? produce_again(dlq, id, producer)
				      : queue_message_move(base, id, ENGINE_READY, &to);
		if (rc == 0)
			count++;
		else if (rc == -ENOENT)
			rc = 0; /* somebody was quicker */
	}
	local_producer_close(producer);
	if (count > 0)
		return count;
	if (rc == 0 && !(first == 0 && last == UINT64_MAX))
		return engine_explain(-ENOENT, "none of these is among the dead letters");
	return rc;
}
