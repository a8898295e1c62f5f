/*
 * local_queue_span - spans of a queue: the memory they are of, the trees they are filed in, how they are found and cut.
 *
 * A span is in the tree of its lane by offset, and in one or two more by what its state is ordered by: filing does that,
 * and counts it. Whoever changes what a span is filed by unfiles it first. Spans come from a few spare ones, so that a
 * change that has begun needs no memory (span_reserve).
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/local_queue_span.h"

#define SPARE_NEED 3u /* spans a change may need: the parts before and behind the range, and the range */
#define SPARE_MAX 32u

/* ---- orders ---- */

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

struct span *span_take_spare(struct queue *queue)
{
	struct span *span = queue->spare;

	assert(span != NULL);
	queue->spare = span->held_next;
	queue->spare_count--;
	memset(span, 0, sizeof(*span));
	return span;
}

void span_give_spare(struct queue *queue, struct span *span)
{
	if (queue->spare_count >= SPARE_MAX) {
		free(span);
		return;
	}
	span->held_next = queue->spare;
	queue->spare = span;
	queue->spare_count++;
}

/* Spans and room for rows. */
static int reserve(struct lane *lane, uint32_t changes)
{
	struct queue *queue = lane->queue;
	uint32_t need = changes * SPARE_NEED;

	while (queue->spare_count < need) {
		struct span *span = malloc(sizeof(*span));

		if (span == NULL)
			return -ENOMEM;
		span_give_spare(queue, span);
	}
	/* Any number of spans may go with the cursor that passes them, and each may have a row. */
	if (lane->gone_room < lane->gone_count + lane->spans.count + need) {
		size_t room = (lane->gone_count + lane->spans.count + need) * 2;
		uint64_t *rows = realloc(lane->gone_rows, room * sizeof(*rows));

		if (rows == NULL)
			return -ENOMEM;
		lane->gone_rows = rows;
		lane->gone_room = room;
	}
	return 0;
}

int span_reserve(struct lane *lane)
{
	return reserve(lane, 1);
}

int span_reserve_twice(struct lane *lane)
{
	return reserve(lane, 2);
}

void span_drop_sizes(struct span *span)
{
	if (span->sizes != NULL && --span->sizes->refs == 0)
		free(span->sizes);
	span->sizes = NULL;
}

/* ---- counters ---- */

void span_tally(struct span *span, bool add)
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

void lane_tally_fresh(struct lane *lane, uint64_t count, uint64_t bytes, bool add)
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
	struct queue *queue = span->lane->queue;

	if (span->holder != NULL) {
		*span->held_link = span->held_next;
		if (span->held_next != NULL)
			span->held_next->held_link = span->held_link;
		span->holder->unacked -= span->count;
		if (queue->waiters != NULL && setting_value(&queue->object, SET_QUEUE_SINGLE_ACTIVE) != 0)
			timer_set_earlier(queue_local(queue), &queue->nudge, clock_mono_ms()); /* whose turn is it? */
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

int64_t lease_charge(struct queue *queue, uint32_t uid, uint32_t count, uint64_t *ret_lessee)
{
	const struct engine_users *users = &queue_local(queue)->users;
	int64_t granted = users->lease != NULL ? users->lease(users->ctx, uid, count) : (int64_t)count;

	if (granted > 0)
		*ret_lessee = LESSEE_OF(uid);
	return granted;
}

void lease_uncharge(struct queue *queue, uint64_t lessee, uint32_t count)
{
	const struct engine_users *users = &queue_local(queue)->users;

	if (lessee != 0 && users->lease != NULL)
		users->unlease(users->ctx, (uint32_t)(lessee - 1), count);
}

void span_uncharge(struct span *span)
{
	lease_uncharge(span->lane->queue, span->lessee, span->count);
	span->lessee = 0;
}

void span_file(struct span *span)
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
	span_tally(span, true);
}

void span_unfile(struct span *span)
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
	span_tally(span, false);
}

void span_mark(struct span *span)
{
	span->dirty = true;
}

void span_refile(struct span *span)
{
	span_unfile(span);
	span_file(span);
}

/* The catalog's row for where the span begins is wrong. There is room. */
static void forget_row(struct span *span)
{
	struct lane *lane = span->lane;

	if (span->stored)
		lane->gone_rows[lane->gone_count++] = span->first;
	span->stored = false;
}

void span_free(struct span *span)
{
	struct queue *queue = span->lane->queue;

	span_unfile(span);
	span_hold(span, NULL, NULL);
	span_uncharge(span);
	forget_row(span);
	tree_remove(&span->lane->spans, &span->by_offset);
	span_drop_sizes(span);
	span_give_spare(queue, span);
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
struct span *span_split(struct span *span, uint32_t n)
{
	struct lane *lane = span->lane;
	struct holder *holder = span->holder;
	struct queue_reader *stream = span->stream;
	struct span *tail = span_take_spare(lane->queue);

	assert(n > 0 && n < span->count && span->id == 0);
	span_unfile(span);
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
	span_file(span);
	span_file(tail);
	span_hold(span, holder, stream);
	span_hold(tail, holder, stream);
	return tail;
}

/* The span that is just [first, first + count), which is a part of span. */
struct span *span_cut_out(struct span *span, uint64_t first, uint32_t count)
{
	if (span->first < first)
		span = span_split(span, (uint32_t)(first - span->first));
	if (span->count > count)
		span_split(span, count);
	return span;
}
