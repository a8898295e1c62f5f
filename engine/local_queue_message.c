/*
 * local_queue_message - messages one by one, and all of them together: looking, removing, delaying, purging.
 *
 * A message is found by its id: in a tree if it is in a span, else in the index of a lane's log, in which ids rise. Where
 * a message is, how large it is and when it was produced never changes, so that is looked up without the lock; what
 * state it is in is asked under it.
 *
 * Whoever settles a message late is told what became of it. For one that is gone that is "settled already" unless it went
 * in another way; the last of these are remembered by id (a message may have been in several lanes), in memory only. The log
 * tells of the others, and where its front is trimmed, the last of these are remembered, too: as runs of ids, of which there
 * are few.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/index.h"
#include "engine/local_queue.h"

/* ---- what went ---- */

void queue_remember_gone(struct queue *queue, uint64_t id, enum span_ended ended)
{
	if (queue->gone == NULL)
		queue->gone = calloc(QUEUE_GONE, sizeof(*queue->gone));
	if (queue->gone == NULL)
		return;
	queue->gone[queue->gone_next] = (struct queue_gone){ id, ended };
	queue->gone_next = (queue->gone_next + 1) % QUEUE_GONE;
}

void queue_forget_gone(struct queue *queue, uint64_t id)
{
	for (uint32_t i = 0; queue->gone != NULL && i < QUEUE_GONE; i++) {
		if (queue->gone[i].id == id)
			queue->gone[i].id = 0;
	}
}

/* The run that has a number, or NULL. */
static const struct queue_run *find_run(const struct queue_run *runs, size_t count, uint64_t number)
{
	for (size_t i = 0; i < count; i++) {
		if (number - runs[i].first < runs[i].count)
			return &runs[i];
	}
	return NULL;
}

/* What nobody had leased goes with a purge: the last of it. What cannot be read is left out. lock */
static void remember_fresh(struct lane *lane, uint64_t first, uint64_t count)
{
	uint64_t end = first + count, offset = count > QUEUE_GONE ? end - QUEUE_GONE : first;
	struct index_entry entry;

	while (offset < end && plog_entry(atomic_load(&lane->plog), offset, &entry) == 0) {
		uint64_t next = entry.base_offset + entry.count;

		if (next <= offset)
			return;
		for (; offset < next && offset < end; offset++)
			queue_remember_gone(lane->queue, entry.first_id + (offset - entry.base_offset), ENDED_NEVER);
	}
}

/* Runs of ids, the last first. */
struct runs {
	struct queue_run list[QUEUE_GONE];
	size_t count;
	uint64_t ids;
};

/* A run that comes before those that are there; false: there are enough. */
static bool add_run(struct runs *runs, struct queue_run run)
{
	struct queue_run *last = runs->count > 0 ? &runs->list[runs->count - 1] : NULL;

	if (runs->ids >= QUEUE_GONE)
		return false;
	runs->ids += run.count;
	if (last != NULL && run.first + run.count == last->first) {
		last->first = run.first;
		last->count += run.count;
	} else {
		runs->list[runs->count++] = run;
	}
	return true;
}

/* Those of the log, back from offset. What cannot be read is left out. */
static void collect_trimmed(struct lane *lane, uint64_t offset, struct runs *runs)
{
	struct index_entry entry;
	bool more = true;

	while (more && offset > 0 && plog_entry(atomic_load(&lane->plog), offset - 1, &entry) == 0) {
		more = add_run(runs, (struct queue_run){ entry.first_id, offset - entry.base_offset });
		offset = entry.base_offset;
	}
}

void queue_remember_trimmed(struct lane *lane, uint64_t offset)
{
	struct runs *runs = calloc(1, sizeof(*runs));
	struct queue_run *list;

	if (runs == NULL)
		return;
	collect_trimmed(lane, offset, runs);
	pthread_mutex_lock(&lane->queue->lock);
	for (size_t i = 0; i < lane->trimmed_count && add_run(runs, lane->trimmed[i]); i++)
		;
	list = runs->count > 0 ? malloc(runs->count * sizeof(*list)) : NULL;
	if (list != NULL) {
		memcpy(list, runs->list, runs->count * sizeof(*list));
		free(lane->trimmed);
		lane->trimmed = list;
		lane->trimmed_count = runs->count;
	}
	pthread_mutex_unlock(&lane->queue->lock);
	free(runs);
}

/* lock */
static bool was_trimmed(const struct queue *queue, uint64_t id)
{
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		const struct lane *lane = queue_lane(queue, p);

		if (lane != NULL && find_run(lane->trimmed, lane->trimmed_count, id) != NULL)
			return true;
	}
	return false;
}

int queue_gone_errno(struct queue *queue, uint64_t id, bool in_log)
{
	for (uint32_t i = 0; queue->gone != NULL && i < QUEUE_GONE; i++) {
		if (id == 0 || queue->gone[i].id != id) /* 0 is nobody's, and marks what is free here */
			continue;
		switch (queue->gone[i].ended) {
		case ENDED_NEVER: return -ENOENT;
		case ENDED_SETTLED: return -EALREADY;
		case ENDED_LOST: return -ESTALE;
		}
	}
	return in_log || was_trimmed(queue, id) ? -EALREADY : -ENOENT;
}

/* ---- finding ---- */

int queue_find(struct queue *queue, uint64_t id, struct lane **ret_lane, uint64_t *ret_offset)
{
	struct span *span;
	bool stray;

	pthread_mutex_lock(&queue->lock);
	span = span_of_id(queue, id);
	stray = span != NULL;
	if (stray) {
		*ret_lane = span->lane;
		*ret_offset = span->first + (id - span->first_id);
	}
	pthread_mutex_unlock(&queue->lock);
	if (stray)
		return 0;
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		struct lane *lane = queue_lane(queue, p);
		uint64_t offset;
		struct span *unused;
		bool there;
		int rc = lane != NULL ? plog_find_id(atomic_load(&lane->plog), id, &offset) : -ENOENT;

		if (rc == -ENOENT)
			continue;
		if (rc < 0)
			return rc;
		pthread_mutex_lock(&queue->lock);
		there = lane_state(lane, offset, &unused) != SPAN_GONE;
		pthread_mutex_unlock(&queue->lock);
		*ret_lane = lane;
		*ret_offset = offset;
		if (there)
			return 0;
		stray = true; /* gone from here: it may be in another lane */
	}
	return stray ? 0 : -ENOENT;
}

/* A message and what it is now. lock is held if this succeeds. */
struct found {
	struct queue *queue;
	struct lane *lane;
	uint64_t offset;
	enum span_state state;
	struct span *span;
};

static int find_locked(struct engine_object *base, uint64_t id, bool change, struct found *ret_found)
{
	struct found f = { 0 };
	int rc = queue_enter(base, change, &f.queue);

	if (rc == 0)
		rc = queue_find(f.queue, id, &f.lane, &f.offset);
	if (rc == 0)
		rc = queue_lock(f.queue);
	if (rc < 0)
		return rc;
	f.state = lane_state(f.lane, f.offset, &f.span);
	if (f.state == SPAN_GONE) {
		queue_unlock(f.queue);
		return -ENOENT;
	}
	*ret_found = f;
	return 0;
}

/* The i-th message of view; span may be NULL. lock */
void message_fill_stat(struct lane *lane, const struct span *span, const struct engine_view *view, uint32_t i,
    uint64_t id, struct engine_message_stat *stat)
{
	int64_t ttl = setting_value(&lane->queue->object, SET_QUEUE_TTL);

	*stat = (struct engine_message_stat){ .id = id,
		.state = ENGINE_READY,
		.priority = lane->priority,
		.size = view->batch.lengths[i],
		.ts_ms = view->batch.props != NULL ? view->batch.props[i].ts_ms : view->batch.ts_ms,
		.due_ms = ttl >= 0 ? view->batch.ts_ms + ttl : INT64_MAX };
	if (span == NULL)
		return;
	stat->state = (enum engine_message_state)span->state;
	stat->deliveries = span->deliveries;
	stat->due_ms = span->state == SPAN_READY ? span_expiry(span) : span->due_ms;
	if (span->state == SPAN_UNACKED) {
		stat->consumer_id = span->holder_id;
		if (span->held)
			stat->due_ms = INT64_MAX;
	}
}

/* ---- calls on one ---- */

int queue_message_stat(struct engine_object *base, uint64_t id, struct engine_message_stat *ret_stat)
{
	struct engine_view view;
	struct found f;
	uint64_t first_id;
	int rc = find_locked(base, id, false, &f);

	if (rc < 0)
		return rc;
	rc = lane_read(f.lane, f.offset, 1, &f.queue->scratch, &view, &first_id);
	if (rc == 0)
		message_fill_stat(f.lane, f.span, &view, 0, id, ret_stat);
	queue_unlock(f.queue);
	return rc;
}

int queue_message_read(
    struct engine_object *base, uint64_t id, struct engine_scratch *scratch, struct engine_view *ret_view)
{
	struct engine_view view;
	struct engine_delivery *to;
	struct found f;
	uint64_t first_id;
	uint32_t deliveries;
	bool leased;
	int rc = find_locked(base, id, false, &f);

	if (rc < 0)
		return rc;
	deliveries = f.span != NULL ? f.span->deliveries : 0;
	leased = f.span != NULL && f.span->state == SPAN_UNACKED;
	queue_unlock(f.queue);
	rc = lane_read(f.lane, f.offset, 1, scratch, &view, &first_id);
	if (rc < 0)
		return rc == -ESTALE ? -ENOENT : rc;
	to = (struct engine_delivery *)(uintptr_t)view.deliveries;
	*to = (struct engine_delivery){ id, f.lane->priority, deliveries, deliveries > leased };
	view.partition = f.lane->priority;
	view.offset = 0;
	*ret_view = view;
	return 0;
}

/* Of what was leased and is no stray the log says that it is settled. lock */
static void remember_removed(const struct found *f, uint64_t id)
{
	if (f->state != SPAN_UNACKED)
		queue_remember_gone(f->queue, id, f->span != NULL ? (enum span_ended)f->span->ended : ENDED_NEVER);
	else if (f->span->id != 0)
		queue_remember_gone(f->queue, id, ENDED_SETTLED);
}

/* The same of one in this state that is to be changed, with what its spans have of it. ENOENT: it is in another. Locked if 0. */
static int find_facts(struct engine_object *base, uint64_t id, enum engine_message_state state, struct found *ret_found,
    struct span_facts *ret_facts)
{
	struct engine_view view;
	uint64_t first_id;
	int rc = find_locked(base, id, true, ret_found);

	if (rc < 0)
		return rc;
	rc = (int)ret_found->state != (int)state
		 ? -ENOENT
		 : lane_read(ret_found->lane, ret_found->offset, 1, &ret_found->queue->scratch, &view, &first_id);
	if (rc == 0)
		*ret_facts = facts_of(&view, first_id);
	else
		queue_unlock(ret_found->queue);
	return rc;
}

int queue_message_remove(struct engine_object *base, uint64_t id, enum engine_message_state state)
{
	static const struct span_set gone = { .state = SPAN_GONE };
	struct wake_list wake = { 0 };
	struct span_facts facts;
	struct found f;
	int rc = find_facts(base, id, state, &f, &facts);

	if (rc < 0)
		return rc;
	remember_removed(&f, id);
	rc = lane_set(f.lane, f.offset, 1, &gone, &facts, state == ENGINE_UNACKED ? WHY_ACKED : WHY_DROPPED, NULL);
	queue_used(f.queue);
	queue_room(f.queue, &wake);
	queue_unlock(f.queue);
	wake_run(&wake);
	return rc;
}

/* lock */
static int touch(struct found *f, int64_t until_ms, const struct span_facts *facts, struct wake_list *wake)
{
	struct queue *queue = f->queue;
	int64_t now = queue_now(queue_local(queue));
	struct span_set set = { .state = SPAN_READY, .place = (int64_t)f->offset, .expires_ms = QUEUE_NEVER };
	struct holder *holder = NULL;
	struct queue_reader *stream = NULL;
	int rc;

	if (f->span != NULL) {
		set = span_as(f->span);
		set.place += (int64_t)(f->offset - f->span->first);
		holder = f->span->holder;
		stream = f->span->stream;
	}
	if (f->state == SPAN_UNACKED) {
		set.leased_ms = now;
		set.due_ms =
		    now + setting_value(&queue->object, set.held ? SET_QUEUE_CONSUMER_TIMEOUT : SET_QUEUE_ACK_TIMEOUT);
	} else {
		set.state = until_ms > now ? SPAN_DELAYED : SPAN_READY;
		set.due_ms = until_ms;
		if (set.state == SPAN_READY && f->state == SPAN_READY)
			return 0;
	}
	rc = lane_set(f->lane, f->offset, 1, &set, facts, WHY_NOTHING, &f->span);
	if (rc < 0)
		return rc;
	queue_used(queue);
	if (set.state == SPAN_UNACKED)
		span_hold(f->span, holder, stream);
	if (set.state == SPAN_READY)
		queue_ready(queue, f->span, wake);
	else
		queue_due(queue, set.due_ms);
	return 0;
}

int queue_message_touch(struct engine_object *base, uint64_t id, enum engine_message_state state, int64_t until_ms)
{
	struct wake_list wake = { 0 };
	struct span_facts facts;
	struct found f;
	int rc = find_facts(base, id, state, &f, &facts);

	if (rc < 0)
		return rc;
	rc = touch(&f, until_ms, &facts, &wake);
	queue_unlock(f.queue);
	wake_run(&wake);
	if (rc == 0 && state == ENGINE_DELAYED)
		queue_enforce_length(f.queue);
	return rc;
}

/* ---- purge ---- */

static void remember_span(const struct span *span)
{
	for (uint32_t i = 0; i < span->count; i++)
		queue_remember_gone(span->lane->queue, span->first_id + i, (enum span_ended)span->ended);
}

/* All READY of a lane. lock */
static int purge_lane(struct lane *lane)
{
	static const struct span_set gone = { .state = SPAN_GONE };
	struct span_facts facts = { 0 };
	uint64_t offset;
	int64_t place;
	int rc = 0;

	while (rc == 0 && lane_peek(lane, INT64_MIN, &offset, &place)) {
		uint32_t run = lane_ready_run(lane, offset, UINT32_MAX);
		struct span *span = span_at(lane, offset);

		if (span != NULL)
			remember_span(span);
		else
			remember_fresh(lane, offset, run);
		/* The bytes of a fresh run are all that is ready in the lane and in no span: see below. */
		rc = lane_set(lane, offset, run, &gone, &facts, WHY_DROPPED, NULL);
	}
	return rc;
}

static int purge(struct queue *queue)
{
	static const struct span_set gone = { .state = SPAN_GONE };
	struct tree_node *node;
	int rc = 0;

	for (uint32_t p = 0; p < ENGINE_PRIORITIES && rc == 0; p++) {
		if (queue_lane(queue, p) != NULL)
			rc = purge_lane(queue_lane(queue, p));
	}
	if (rc == 0)
		queue->bytes[SPAN_READY] = 0; /* none is ready, so no message's size had to be looked up */
	while (rc == 0 && (node = tree_first(&queue->delayed)) != NULL) {
		struct span *span = (struct span *)((char *)node - offsetof(struct span, by_order));

		remember_span(span);
		rc = lane_set(span->lane, span->first, span->count, &gone, NULL, WHY_DROPPED, NULL);
	}
	return rc;
}

int queue_purge(struct engine_object *base)
{
	struct queue *queue = NULL;
	int rc = queue_enter(base, true, &queue);

	if (rc == 0)
		rc = queue_lock(queue);
	if (rc < 0)
		return rc;
	rc = purge(queue);
	queue_used(queue);
	queue_unlock(queue);
	if (rc == 0)
		rc = journal_sync(queue_local(queue)->journal);
	if (rc == 0)
		object_changed(&queue->object);
	checkpoint_hurry(queue_local(queue)); /* for the room of what went */
	return rc;
}
