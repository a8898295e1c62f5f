/*
 * local_queue_span - what a range of a lane is becomes something else: spans, cursors and counters.
 *
 * Everything that happens to messages of a queue ends in lane_set(). It cuts spans so that one is just the range, notes the
 * change in the journal, and files the span under its new state; or, if the range is at the cursor and is settled, only
 * moves the cursor. What is settled ahead of the cursor is a span in state GONE until the cursor comes by; such spans
 * are joined with their neighbours. All memory is had before the journal is written, so that what it says comes true.
 *
 * No span lies on both sides of next: the cursor passes a span as a whole. Below next, a message without span is gone.
 *
 * Counters are of what is there now, by state, and move with each change. Before a queue is open they mean nothing;
 * queue_count() then sets them from the logs.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/local_queue.h"

#define SPARE_NEED 3u /* spans a change may need: the parts before and behind the range, and the range */
#define SPARE_MAX 32u

/* ---- orders ---- */

#define SPAN_OF(node, member) ((struct span *)((char *)(uintptr_t)(node)-offsetof(struct span, member)))

static bool offset_before(const struct tree_node *a, const struct tree_node *b)
{
	return SPAN_OF(a, by_offset)->first < SPAN_OF(b, by_offset)->first;
}

static bool place_before(const struct tree_node *a, const struct tree_node *b)
{
	return SPAN_OF(a, by_order)->place < SPAN_OF(b, by_order)->place;
}

/* By time, then by age. */
static bool time_before(const struct span *a, const struct span *b, int64_t time_a, int64_t time_b)
{
	return time_a != time_b ? time_a < time_b : a->first_id < b->first_id;
}

static bool delivered_before(const struct tree_node *a, const struct tree_node *b)
{
	const struct span *x = SPAN_OF(a, by_order), *y = SPAN_OF(b, by_order);

	return time_before(x, y, x->delivered, y->delivered);
}

static bool delay_before(const struct tree_node *a, const struct tree_node *b)
{
	const struct span *x = SPAN_OF(a, by_order), *y = SPAN_OF(b, by_order);

	return time_before(x, y, x->due_ms, y->due_ms);
}

static bool due_before(const struct tree_node *a, const struct tree_node *b)
{
	const struct span *x = SPAN_OF(a, by_due), *y = SPAN_OF(b, by_due);

	return time_before(x, y, x->due_ms, y->due_ms);
}

static bool expiry_before(const struct tree_node *a, const struct tree_node *b)
{
	const struct span *x = SPAN_OF(a, by_due), *y = SPAN_OF(b, by_due);

	return time_before(x, y, x->expiry_ms, y->expiry_ms);
}

static bool id_before(const struct tree_node *a, const struct tree_node *b)
{
	return SPAN_OF(a, by_id)->first_id < SPAN_OF(b, by_id)->first_id;
}

void span_trees_init(struct queue *queue)
{
	queue->ids.before = id_before;
	queue->leased.before = delivered_before;
	queue->deadlines.before = due_before;
	queue->delayed.before = delay_before;
	queue->expiring.before = expiry_before;
}

void lane_trees_init(struct lane *lane)
{
	lane->spans.before = offset_before;
	lane->ready.before = place_before;
}

/* ---- memory ---- */

static struct span *take_spare(struct queue *queue)
{
	struct span *span = queue->spare;

	assert(span != NULL);
	queue->spare = span->held_next;
	queue->spare_count--;
	memset(span, 0, sizeof(*span));
	return span;
}

static void give_spare(struct queue *queue, struct span *span)
{
	if (queue->spare_count >= SPARE_MAX) {
		free(span);
		return;
	}
	span->held_next = queue->spare;
	queue->spare = span;
	queue->spare_count++;
}

/* Spans and room for rows, for one change. */
static int reserve(struct lane *lane)
{
	struct queue *queue = lane->queue;

	while (queue->spare_count < SPARE_NEED) {
		struct span *span = malloc(sizeof(*span));

		if (span == NULL)
			return -ENOMEM;
		give_spare(queue, span);
	}
	/* Any number of spans may go with the cursor that passes them, and each may have a row. */
	if (lane->gone_room < lane->gone_count + lane->spans.count + SPARE_NEED) {
		size_t room = (lane->gone_count + lane->spans.count + SPARE_NEED) * 2;
		uint64_t *rows = realloc(lane->gone_rows, room * sizeof(*rows));

		if (rows == NULL)
			return -ENOMEM;
		lane->gone_rows = rows;
		lane->gone_room = room;
	}
	return 0;
}

static void drop_sizes(struct span *span)
{
	if (span->sizes != NULL && --span->sizes->refs == 0)
		free(span->sizes);
	span->sizes = NULL;
}

/* Sizes of count payloads; NULL in *ret_sizes for one. */
static int copy_sizes(const struct span_facts *facts, uint32_t count, struct span_sizes **ret_sizes)
{
	struct span_sizes *sizes;

	*ret_sizes = NULL;
	if (count == 1 || facts == NULL || facts->sizes == NULL)
		return 0;
	sizes = malloc(sizeof(*sizes) + count * sizeof(sizes->each[0]));
	if (sizes == NULL)
		return -ENOMEM;
	sizes->refs = 1;
	memcpy(sizes->each, facts->sizes, count * sizeof(sizes->each[0]));
	*ret_sizes = sizes;
	return 0;
}

/* ---- counters ---- */

static void tally(struct span *span, bool add)
{
	struct queue *queue = span->lane->queue;
	uint64_t count = add ? span->count : -(uint64_t)span->count, bytes = add ? span->bytes : -span->bytes;

	if (span->state == SPAN_GONE || !atomic_load_explicit(&queue->open, memory_order_relaxed))
		return;
	queue->messages[span->state] += count;
	queue->bytes[span->state] += bytes;
	if (span->state == SPAN_READY)
		span->lane->ready_count += count;
}

static void tally_fresh(struct lane *lane, uint64_t count, uint64_t bytes, bool add)
{
	struct queue *queue = lane->queue;

	if (!atomic_load_explicit(&queue->open, memory_order_relaxed))
		return;
	queue->messages[SPAN_READY] += add ? count : -count;
	queue->bytes[SPAN_READY] += add ? bytes : -bytes;
	lane->ready_count += add ? count : -count;
}

/* ---- filing ---- */

void span_hold(struct span *span, struct holder *holder, struct queue_reader *stream)
{
	if (span->holder != NULL) {
		*span->held_link = span->held_next;
		if (span->held_next != NULL)
			span->held_next->held_link = span->held_link;
		span->holder->unacked -= span->count;
	}
	span->holder = holder;
	span->stream = stream;
	if (holder == NULL)
		return;
	span->held_next = holder->spans;
	span->held_link = &holder->spans;
	if (holder->spans != NULL)
		holder->spans->held_link = &span->held_next;
	holder->spans = span;
	holder->unacked += span->count;
}

static void file_span(struct span *span)
{
	struct lane *lane = span->lane;
	struct queue *queue = lane->queue;

	if (span->state == SPAN_READY) {
		tree_insert(&lane->ready, &span->by_order);
		span->expiry_ms = span_expiry(span);
		if (span->expiry_ms != QUEUE_NEVER)
			tree_insert(&queue->expiring, &span->by_due);
	} else if (span->state == SPAN_UNACKED) {
		tree_insert(&queue->leased, &span->by_order);
		tree_insert(&queue->deadlines, &span->by_due);
	} else if (span->state == SPAN_DELAYED) {
		tree_insert(&queue->delayed, &span->by_order);
	}
	if (span->state != SPAN_GONE && span->first_id != 0)
		tree_insert(&queue->ids, &span->by_id);
	tally(span, true);
}

static void unfile_span(struct span *span)
{
	struct lane *lane = span->lane;
	struct queue *queue = lane->queue;

	if (span->state == SPAN_READY) {
		tree_remove(&lane->ready, &span->by_order);
		tree_remove(&queue->expiring, &span->by_due);
	} else if (span->state == SPAN_UNACKED) {
		tree_remove(&queue->leased, &span->by_order);
		tree_remove(&queue->deadlines, &span->by_due);
	} else if (span->state == SPAN_DELAYED) {
		tree_remove(&queue->delayed, &span->by_order);
	}
	tree_remove(&queue->ids, &span->by_id);
	tally(span, false);
}

void span_mark(struct span *span)
{
	span->dirty = true;
}

void span_unfile(struct span *span)
{
	unfile_span(span);
}

void span_refile(struct span *span)
{
	unfile_span(span);
	file_span(span);
}

/* The catalog's row for where the span begins is wrong. There is room. */
static void forget_row(struct span *span)
{
	struct lane *lane = span->lane;

	if (span->stored)
		lane->gone_rows[lane->gone_count++] = span->first;
	span->stored = false;
}

static void free_span(struct span *span)
{
	struct queue *queue = span->lane->queue;

	unfile_span(span);
	span_hold(span, NULL, NULL);
	forget_row(span);
	tree_remove(&span->lane->spans, &span->by_offset);
	drop_sizes(span);
	give_spare(queue, span);
}

/* ---- finding ---- */

static bool ends_by(const struct tree_node *node, const void *key)
{
	const struct span *span = SPAN_OF(node, by_offset);

	return span->first + span->count <= *(const uint64_t *)key;
}

static bool has_lower_ids(const struct tree_node *node, const void *key)
{
	const struct span *span = SPAN_OF(node, by_id);

	return span->first_id + span->count <= *(const uint64_t *)key;
}

struct span *span_of_id(struct queue *queue, uint64_t id)
{
	struct tree_node *node = tree_find(&queue->ids, has_lower_ids, &id);

	return node != NULL && SPAN_OF(node, by_id)->first_id <= id ? SPAN_OF(node, by_id) : NULL;
}

struct span *span_from(struct lane *lane, uint64_t offset)
{
	struct tree_node *node = tree_find(&lane->spans, ends_by, &offset);

	return node != NULL ? SPAN_OF(node, by_offset) : NULL;
}

struct span *span_at(struct lane *lane, uint64_t offset)
{
	struct span *span = span_from(lane, offset);

	return span != NULL && span->first <= offset ? span : NULL;
}

enum span_state lane_state(struct lane *lane, uint64_t offset, struct span **ret_span)
{
	struct span *span = span_at(lane, offset);

	*ret_span = span;
	if (span != NULL)
		return span->state;
	return offset >= lane->next && offset < lane->end ? SPAN_READY : SPAN_GONE;
}

uint32_t lane_ready_run(struct lane *lane, uint64_t offset, uint32_t max)
{
	struct span *span = span_from(lane, offset);
	uint64_t end = lane->end;

	if (span != NULL && span->first <= offset) {
		if (span->state != SPAN_READY)
			return 0;
		end = span->first + span->count;
	} else if (offset < lane->next) {
		return 0;
	} else if (span != NULL && span->first < end) {
		end = span->first;
	}
	if (offset >= end)
		return 0;
	return end - offset < max ? (uint32_t)(end - offset) : max;
}

uint64_t lane_lowest(struct lane *lane)
{
	struct tree_node *node = tree_first(&lane->spans);
	uint64_t lowest = lane->next;

	for (; node != NULL && SPAN_OF(node, by_offset)->state == SPAN_GONE; node = tree_next(node))
		;
	if (node != NULL && SPAN_OF(node, by_offset)->first < lowest)
		lowest = SPAN_OF(node, by_offset)->first;
	return lowest;
}

/* ---- cutting ---- */

static uint64_t sum_sizes(const struct span *span, uint32_t from, uint32_t count)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; span->sizes != NULL && i < count; i++)
		sum += span->sizes->each[span->sizes_at + from + i];
	return sum;
}

/* Makes two of a span, the second from its n-th message on. A spare is there. */
static struct span *split(struct span *span, uint32_t n)
{
	struct lane *lane = span->lane;
	struct holder *holder = span->holder;
	struct queue_reader *stream = span->stream;
	struct span *tail = take_spare(lane->queue);

	assert(n > 0 && n < span->count && span->id == 0);
	unfile_span(span);
	span_hold(span, NULL, NULL);
	*tail = *span;
	tail->by_offset = tail->by_order = tail->by_due = tail->by_id = (struct tree_node){ 0 };
	tail->stored = false;
	tail->first += n;
	tail->place += n;
	tail->first_id += n;
	tail->count -= n;
	tail->sizes_at += n;
	tail->bytes = sum_sizes(span, n, tail->count);
	if (tail->sizes != NULL)
		tail->sizes->refs++;
	span->count = n;
	span->bytes -= tail->bytes;
	span_mark(span);
	span_mark(tail);
	tree_insert(&lane->spans, &tail->by_offset);
	file_span(span);
	file_span(tail);
	span_hold(span, holder, stream);
	span_hold(tail, holder, stream);
	return tail;
}

/* The span that is just [first, first + count), which is a part of span. */
static struct span *cut_out(struct span *span, uint64_t first, uint32_t count)
{
	if (span->first < first)
		span = split(span, (uint32_t)(first - span->first));
	if (span->count > count)
		split(span, count);
	return span;
}

/* ---- the cursor ---- */

/* Passes what is not fresh. */
static void advance(struct lane *lane)
{
	struct span *span;

	while ((span = span_at(lane, lane->next)) != NULL) {
		lane->next = span->first + span->count;
		if (span->state == SPAN_GONE)
			free_span(span);
	}
}

/* Joins a GONE span with those that lie next to it. */
static void join(struct span *span)
{
	struct tree_node *node = tree_prev(&span->by_offset);
	struct span *other = node != NULL ? SPAN_OF(node, by_offset) : NULL;

	if (other != NULL && other->state == SPAN_GONE && other->first + other->count == span->first &&
	    other->count <= UINT32_MAX - span->count) {
		other->count += span->count;
		span_mark(other);
		free_span(span);
		span = other;
	}
	node = tree_next(&span->by_offset);
	other = node != NULL ? SPAN_OF(node, by_offset) : NULL;
	if (other != NULL && other->state == SPAN_GONE && span->first + span->count == other->first &&
	    other->count <= UINT32_MAX - span->count) {
		uint32_t count = other->count;

		free_span(other);
		span->count += count;
		span_mark(span);
	}
}

/* ---- changing ---- */

static void apply_set(struct span *span, const struct span_set *set)
{
	span->state = set->state;
	span->held = set->held;
	span->ended = set->ended;
	span->ended_by = set->ended_by;
	span->deliveries = set->deliveries;
	span->place = set->place;
	span->due_ms = set->due_ms;
	span->expires_ms = set->expires_ms;
	span->delivered = set->delivered;
	span->leased_ms = set->leased_ms;
	if (set->delivered > span->lane->queue->delivered)
		span->lane->queue->delivered = set->delivered;
	span->holder_id = set->holder_id;
	if (set->place < span->lane->head_place)
		span->lane->head_place = set->place;
}

struct span_set span_as(const struct span *span)
{
	return (struct span_set){ .state = span->state,
		.held = span->held,
		.ended = span->ended,
		.ended_by = span->ended_by,
		.deliveries = span->deliveries,
		.id = span->id,
		.holder_id = span->holder_id,
		.place = span->place,
		.due_ms = span->due_ms,
		.expires_ms = span->expires_ms,
		.delivered = span->delivered,
		.leased_ms = span->leased_ms };
}

/* A new span for a range that has none. */
static struct span *new_span(struct lane *lane, uint64_t first, uint32_t count, const struct span_set *set,
    const struct span_facts *facts, struct span_sizes *sizes)
{
	struct span *span = take_spare(lane->queue);

	span->lane = lane;
	span->first = first;
	span->count = count;
	span->id = set->id;
	span->sizes = sizes;
	if (facts != NULL) {
		span->ts_ms = facts->ts_ms;
		span->first_id = facts->first_id;
		span->bytes = facts->bytes;
	}
	apply_set(span, set);
	tree_insert(&lane->spans, &span->by_offset);
	file_span(span);
	span_mark(span);
	return span;
}

/* The range of an existing span is settled. */
static void end_span(struct span *span)
{
	struct lane *lane = span->lane;

	if (span->first < lane->next) {
		free_span(span);
		return;
	}
	unfile_span(span);
	span_hold(span, NULL, NULL);
	drop_sizes(span);
	span->id = 0;
	span->bytes = 0;
	span->state = SPAN_GONE;
	span_mark(span);
	if (span->first == lane->next)
		advance(lane);
	else
		join(span);
}

/* The range has no span. */
static struct span *set_fresh(struct lane *lane, uint64_t first, uint32_t count, const struct span_set *set,
    const struct span_facts *facts, struct span_sizes *sizes)
{
	struct span *span;

	tally_fresh(lane, count, facts != NULL ? facts->bytes : 0, false);
	if (set->state == SPAN_GONE && first == lane->next) {
		lane->next += count;
		advance(lane);
		return NULL;
	}
	span = new_span(lane, first, count, set, facts, sizes);
	if (set->state == SPAN_GONE)
		span->bytes = 0;
	if (first == lane->next)
		advance(lane);
	else if (set->state == SPAN_GONE)
		join(span);
	return set->state != SPAN_GONE ? span : NULL;
}

int lane_set(struct lane *lane, uint64_t first, uint32_t count, const struct span_set *set,
    const struct span_facts *facts, enum queue_why why, struct span **ret_span)
{
	struct span *span = span_at(lane, first);
	struct span_sizes *sizes = NULL;
	uint32_t deliveries = why == WHY_TAKEN && span != NULL ? span->deliveries + 1 : set->deliveries;
	int rc = reserve(lane);

	if (rc == 0 && span == NULL && set->state != SPAN_GONE)
		rc = copy_sizes(facts, count, &sizes);
	if (rc == 0 && why != WHY_UNTOLD)
		rc = queue_note(lane, first, count, set, why);
	if (rc < 0) {
		free(sizes);
		return rc;
	}
	if (why != WHY_UNTOLD)
		count_why(lane->queue, why, count, deliveries);
	if (span == NULL) {
		assert(first >= lane->next);
		span = set_fresh(lane, first, count, set, facts, sizes);
	} else {
		span = cut_out(span, first, count);
		if (set->state == SPAN_GONE) {
			end_span(span);
			span = NULL;
		} else {
			unfile_span(span);
			span_hold(span, NULL, NULL);
			apply_set(span, set);
			file_span(span);
			span_mark(span);
		}
	}
	if (ret_span != NULL)
		*ret_span = span;
	return 0;
}

/* ---- replay ---- */

int lane_replay(struct lane *lane, uint64_t first, uint32_t count, const struct span_set *set)
{
	uint64_t at = first, end = first + count;
	int rc = 0;

	while (at < end && rc == 0) {
		struct span *span = span_from(lane, at);
		struct span_set part = *set;
		uint64_t to = end;

		part.place += (int64_t)(at - first);
		if (span != NULL && span->first + span->count < to)
			to = span->first + span->count;
		if (span != NULL && span->first > at && span->first < to)
			to = span->first;
		rc = reserve(lane);
		if (rc < 0)
			break;
		if ((span == NULL || span->first > at) && at < lane->next) {
			/* It was settled. That nothing undoes, unless the record that did it was damaged. */
			to = to < lane->next ? to : lane->next;
			if (set->state != SPAN_GONE)
				new_span(lane, at, (uint32_t)(to - at), &part, NULL, NULL);
		} else {
			rc = lane_set(lane, at, (uint32_t)(to - at), &part, NULL, WHY_UNTOLD, NULL);
		}
		at = to;
	}
	return rc;
}

void lane_cut(struct lane *lane, uint64_t end)
{
	struct span *span;

	while ((span = span_from(lane, end)) != NULL && reserve(lane) == 0) {
		if (span->first < end)
			span = split(span, (uint32_t)(end - span->first));
		free_span(span);
	}
	if (lane->next > end)
		lane->next = end;
}

void lane_skip(struct lane *lane, uint64_t earliest)
{
	struct tree_node *node;

	while ((node = tree_first(&lane->spans)) != NULL && SPAN_OF(node, by_offset)->first < earliest &&
	       reserve(lane) == 0) {
		struct span *span = SPAN_OF(node, by_offset);

		if (span->first + span->count > earliest)
			split(span, (uint32_t)(earliest - span->first));
		free_span(span);
	}
	if (lane->next < earliest) {
		lane->next = earliest;
		advance(lane);
	}
}

void lane_appended(struct lane *lane, uint32_t count, uint64_t bytes)
{
	lane->end += count;
	tally_fresh(lane, count, bytes, true);
}

void lane_release(struct lane *lane)
{
	struct queue *queue = lane->queue;
	struct tree_node *node;

	lane->gone_count = 0;
	while ((node = tree_first(&lane->spans)) != NULL) {
		SPAN_OF(node, by_offset)->stored = false;
		SPAN_OF(node, by_offset)->holder = NULL; /* it may be gone before its queue */
		free_span(SPAN_OF(node, by_offset));
	}
	while (queue->spare != NULL)
		free(take_spare(queue));
	free(lane->gone_rows);
	lane->gone_rows = NULL;
	lane->gone_room = 0;
}

void lane_row_gone(struct lane *lane, uint64_t first)
{
	if (reserve(lane) ==
	    0) /* without memory the row stays, and is taken for damage that does no harm: it is settled */
		lane->gone_rows[lane->gone_count++] = first;
}

int lane_restore(struct lane *lane, uint64_t first, uint32_t count, const struct span_set *set)
{
	struct span *next = span_from(lane, first);
	int rc = reserve(lane);

	if (rc < 0)
		return rc;
	if (next == NULL || next->first >= first + count) /* rows that overlap are damaged */
		new_span(lane, first, count, set, NULL, NULL);
	return 0;
}

/* ---- counting ---- */

/* Bytes of payloads between two offsets; 0 if that cannot be told. */
static uint64_t payload_bytes(struct lane *lane, uint64_t from, uint64_t to)
{
	struct plog *plog = atomic_load(&lane->plog);
	uint64_t from_pos, to_pos;

	if (from >= to || plog_pos_of(plog, from, &from_pos) < 0 || plog_pos_of(plog, to, &to_pos) < 0)
		return 0;
	return to_pos - from_pos >= to - from ? to_pos - from_pos - (to - from) : 0;
}

static void count_lane(struct lane *lane)
{
	uint64_t fresh = lane->end - lane->next, bytes = payload_bytes(lane, lane->next, lane->end), ahead = 0;

	lane->ready_count = 0;
	for (struct tree_node *node = tree_first(&lane->spans); node != NULL; node = tree_next(node)) {
		struct span *span = SPAN_OF(node, by_offset);

		tally(span, true);
		if (span->first < lane->next)
			continue;
		fresh -= span->count;
		ahead += span->state == SPAN_GONE ? payload_bytes(lane, span->first, span->first + span->count)
						  : span->bytes;
	}
	tally_fresh(lane, fresh, bytes > ahead ? bytes - ahead : 0, true);
}

/* What was published, if nothing got lost. */
static uint64_t published_in_logs(const struct queue *queue)
{
	uint64_t sum = 0;

	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		const struct lane *lane = queue_lane(queue, p);

		if (lane != NULL)
			sum += lane->end - lane->arrived;
	}
	return sum;
}

static uint64_t accounted(const struct queue *queue)
{
	const struct queue_totals *t = &queue->totals;

	return queue->messages[SPAN_READY] + queue->messages[SPAN_UNACKED] + queue->messages[SPAN_DELAYED] + t->acked +
	       t->dead_lettered + t->expired + t->dropped + t->moved_out - t->moved_in;
}

void queue_count(struct queue *queue)
{
	memset(queue->messages, 0, sizeof(queue->messages));
	memset(queue->bytes, 0, sizeof(queue->bytes));
	atomic_store(&queue->open, true);
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		struct lane *lane = queue_lane(queue, p);

		if (lane != NULL)
			count_lane(lane);
	}
	/* Differs from what it was only if the machine died, and logs and journal did not lose the same. */
	queue->published_base = (int64_t)(accounted(queue) - published_in_logs(queue));
}

int64_t queue_next_delivery(struct queue *queue)
{
	int64_t number = queue_now(queue_local(queue)) << DELIVERED_SHIFT;

	return number > queue->delivered ? number : queue->delivered + 1;
}

#ifdef MQFS_DEBUG
static void check_span(const struct span *span, uint64_t *unacked)
{
	const struct lane *lane = span->lane;

	assert(span->count > 0 && span->first + span->count <= lane->end);
	assert(span->first >= lane->next || span->first + span->count <= lane->next);
	assert(span->state != SPAN_GONE || span->first > lane->next);
	assert(tree_has(&span->by_order) == (span->state != SPAN_GONE));
	assert((span->holder != NULL) == (span->state == SPAN_UNACKED));
	assert(span->id == 0 || span->count == 1);
	if (span->state == SPAN_UNACKED)
		*unacked += span->count;
}

void queue_check_invariants(struct queue *queue)
{
	uint64_t messages[SPAN_GONE] = { 0 }, unacked = 0;

	if (!atomic_load(&queue->open))
		return;
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		struct lane *lane = queue_lane(queue, p);
		uint64_t ready = 0, at = 0;

		if (lane == NULL)
			continue;
		ready = lane->end - lane->next;
		for (struct tree_node *n = tree_first(&lane->spans); n != NULL; n = tree_next(n)) {
			const struct span *span = SPAN_OF(n, by_offset);

			assert(span->first >= at);
			at = span->first + span->count;
			check_span(span, &unacked);
			if (span->first >= lane->next)
				ready -= span->count;
			if (span->state == SPAN_READY)
				ready += span->count;
			else if (span->state != SPAN_GONE)
				messages[span->state] += span->count;
		}
		assert(ready == lane->ready_count);
		messages[SPAN_READY] += ready;
	}
	for (int s = 0; s < SPAN_GONE; s++)
		assert(messages[s] == queue->messages[s]);
	assert(unacked == queue->messages[SPAN_UNACKED]);
	assert(accounted(queue) == published_in_logs(queue) + (uint64_t)queue->published_base);
}
#else
void queue_check_invariants(struct queue *queue)
{
	(void)queue;
}
#endif
