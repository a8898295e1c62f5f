/*
 * local_queue_dead - messages die: they expired, were rejected, delivered too often, or the queue is too long.
 *
 * A dead letter moves to where dead.letter.to says, with one more entry in its deaths; without such a place, or where it
 * would go in a circle, it is dropped, and counted. Where dead letters cannot be written the message stays what it is.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/local_queue_move.h"

/* ---- where dead letters go ---- */

/* Where dead letters are to go is not there, so they stay. That is told once, until it is there again. */
static void tell_of_missing(struct queue *queue, const char *to)
{
	char name[QUEUE_NAME_MAX];

	if (atomic_exchange(&queue->told_of_missing, true))
		return;
	queue_name(queue, name);
	local_notify(queue_local(queue), ENOENT,
	    "queue %s: dead.letter.to is %s, which is not there: dead letters stay in %s%s", name, to, name,
	    queue_is_dlq(queue) ? "" : "/dlq");
}

static struct queue *find_target(struct queue *queue)
{
	struct local *local = queue_local(queue);
	int64_t to = setting_value(&queue->object, SET_QUEUE_DEAD_LETTER);
	const char *name = settings_text(to);
	struct object *found = NULL;

	if (to == DEAD_LETTER_NONE)
		return NULL;
	if (name != NULL && !queue_forwards(queue))
		found = registry_find(local, local->root->id, ENGINE_QUEUE, name + strlen("queues/"));
	if (name != NULL && found == NULL && !queue_forwards_now(queue))
		tell_of_missing(queue, name);
	else if (atomic_load_explicit(&queue->told_of_missing, memory_order_relaxed))
		atomic_store(&queue->told_of_missing, false);
	if (found == NULL)
		found = queue_is_dlq(queue) ? object_ref(&queue->object)
					    : registry_find(local, queue->object.id, ENGINE_QUEUE, "dlq");
	return found != NULL ? queue_of_object(found) : NULL;
}

struct queue *queue_dead_target(struct queue *queue)
{
	struct queue *target = find_target(queue);
	struct lane *lane;
	int rc = target != NULL ? queue_open(target) : 0;

	for (uint32_t p = 0; p < ENGINE_PRIORITIES && target != NULL && rc == 0; p++) {
		if (queue_lane(queue, p) != NULL)
			rc = queue_make_lane(target, queue_lower(target, p), &lane);
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

void queue_add_death(
    struct death_list *deaths, const struct engine_props *props, struct queue *queue, enum engine_death_reason reason)
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

bool queue_is_circle(struct queue *target, const struct engine_death *deaths, uint32_t count)
{
	char name[QUEUE_NAME_MAX];
	size_t len;

	queue_name(target, name);
	len = strlen(name);
	for (uint32_t i = 0; i < count; i++) {
		const struct engine_death *death = &deaths[i];

		if (death->reason == ENGINE_REJECTED)
			return false;
		if (death->queue.len == len && memcmp(death->queue.ptr, name, len) == 0)
			return true;
	}
	return false;
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
	struct lane_move m = { .from = lane,
		.offset = offset,
		.why = WHY_DEAD,
		.view = view,
		.id = id,
		.dies = true,
		.set = { .state = SPAN_READY, .due_ms = QUEUE_NEVER, .expires_ms = QUEUE_NEVER } };
	struct death_list deaths;
	uint64_t now_at = 0;
	int rc;

	queue_add_death(&deaths, view->batch.props != NULL ? view->batch.props : &none, lane->queue, reason);
	if (target == NULL)
		return lane_set(lane, offset, 1, &gone, &facts, why_dropped(reason), NULL);
	if (queue_is_circle(target, deaths.list, deaths.count))
		return lane_set(lane, offset, 1, &gone, &facts, WHY_DROPPED, NULL);
	m.to = atomic_load(&target->open) ? queue_lane(target, queue_lower(target, lane->priority)) : NULL;
	m.deaths = &deaths;
	m.reason = reason;
	m.forward = target->object.parent == &lane->queue->object && queue_forwards_now(lane->queue);
	if (m.to == NULL) /* the disk failed or is full: it stays what it is, and is tried again */
		return engine_explain(-EIO, "where its dead letters go cannot be written");
	rc = lane_move(&m, &now_at);
	if (rc == 0)
		lane_move_arrived(m.to, now_at, wake);
	if (rc == 0 && m.forward)
		queue_forward_soon(target);
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

bool queue_is_too_long(struct queue *queue)
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
	over = atomic_load(&queue->open) && queue_is_too_long(queue);
	pthread_mutex_unlock(&queue->lock);
	if (!over)
		return;
	queue_touch(queue);
	target = queue_dead_target(queue);
	if (queue_lock_both(queue, target) == 0) {
		queue_do_due(queue, target, &wake); /* what is over anyway makes room */
		while (queue_is_too_long(queue) && drop_one(queue, target, &wake) == 0)
			;
		queue_unlock_both(queue, target);
		wake_run(&wake);
	}
	if (target != NULL) {
		queue_enforce_length(target);
		object_put(&target->object);
	}
}
