/*
 * local_queue_lane - what a range of a lane is becomes something else: spans and the cursor.
 *
 * Everything that happens to messages of a queue ends in lane_set(). It cuts spans so that one is just the range, notes the
 * change in the journal, and files the span under its new state; or, if the range is at the cursor and is settled, only
 * moves the cursor. What is settled ahead of the cursor is a span in state GONE until the cursor comes by; such spans
 * are joined with their neighbours. All memory is had before the journal is written, so that what it says comes true.
 *
 * No span lies on both sides of next: the cursor passes a span as a whole. Below next, a message without span is gone.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/local_queue_span.h"

/* ---- the cursor ---- */

/* Passes what is not fresh. */
static void advance(struct lane *lane)
{
	struct span *span;

	while ((span = span_at(lane, lane->next)) != NULL) {
		lane->next = span->first + span->count;
		if (span->state == SPAN_GONE)
			span_free(span);
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
		span_free(span);
		span = other;
	}
	node = tree_next(&span->by_offset);
	other = node != NULL ? SPAN_OF(node, by_offset) : NULL;
	if (other != NULL && other->state == SPAN_GONE && span->first + span->count == other->first &&
	    other->count <= UINT32_MAX - span->count) {
		uint32_t count = other->count;

		span_free(other);
		span->count += count;
		span_mark(span);
	}
}

/* ---- changing ---- */

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

/* A lease ends or begins, if it is not the one that was there: each delivery has its number. */
static void change_lessee(struct span *span, const struct span_set *set)
{
	bool leased = set->state == SPAN_UNACKED;

	if (leased && span->state == SPAN_UNACKED && span->delivered == set->delivered)
		return;
	span_uncharge(span);
	span->lessee = leased ? set->lessee : 0;
}

static void apply_set(struct span *span, const struct span_set *set)
{
	change_lessee(span, set);
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
	struct span *span = span_take_spare(lane->queue);

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
	span_file(span);
	span_mark(span);
	return span;
}

/* The range of an existing span is settled. */
static void end_span(struct span *span)
{
	struct lane *lane = span->lane;

	if (span->first < lane->next) {
		span_free(span);
		return;
	}
	span_unfile(span);
	span_hold(span, NULL, NULL);
	span_uncharge(span);
	span_drop_sizes(span);
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

	lane_tally_fresh(lane, count, facts != NULL ? facts->bytes : 0, false);
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

int64_t queue_next_delivery(struct queue *queue)
{
	int64_t number = queue_now(queue_local(queue)) << DELIVERED_SHIFT;

	return number > queue->delivered ? number : queue->delivered + 1;
}

int lane_set(struct lane *lane, uint64_t first, uint32_t count, const struct span_set *set,
    const struct span_facts *facts, enum queue_why why, struct span **ret_span)
{
	struct span *span = span_at(lane, first);
	struct span_sizes *sizes = NULL;
	uint32_t deliveries = why == WHY_TAKEN && span != NULL ? span->deliveries + 1 : set->deliveries;
	int rc = span_reserve(lane);

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
		span = span_cut_out(span, first, count);
		if (set->state == SPAN_GONE) {
			end_span(span);
			span = NULL;
		} else {
			span_unfile(span);
			span_hold(span, NULL, NULL);
			apply_set(span, set);
			span_file(span);
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
		rc = span_reserve(lane);
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

	while ((span = span_from(lane, end)) != NULL && span_reserve(lane) == 0) {
		if (span->first < end)
			span = span_split(span, (uint32_t)(end - span->first));
		span_free(span);
	}
	if (lane->next > end)
		lane->next = end;
	if (lane->moves_end > end)
		lane->moves_end = end;
	if (lane->placed_end > end)
		lane->placed_end = end;
}

void lane_skip(struct lane *lane, uint64_t earliest)
{
	struct tree_node *node;

	while ((node = tree_first(&lane->spans)) != NULL && SPAN_OF(node, by_offset)->first < earliest &&
	       span_reserve(lane) == 0) {
		struct span *span = SPAN_OF(node, by_offset);

		if (span->first + span->count > earliest)
			span_split(span, (uint32_t)(earliest - span->first));
		span_free(span);
	}
	if (lane->next < earliest) {
		lane->next = earliest;
		advance(lane);
	}
}

void lane_appended(struct lane *lane, uint32_t count, uint64_t bytes)
{
	lane->end += count;
	lane_tally_fresh(lane, count, bytes, true);
}

void lane_taken_back(struct lane *lane, uint64_t end, uint64_t fresh, uint64_t bytes)
{
	lane->end = end;
	lane_tally_fresh(lane, fresh, bytes, false);
}

void lane_release(struct lane *lane)
{
	struct queue *queue = lane->queue;
	struct tree_node *node;

	lane->gone_count = 0;
	while ((node = tree_first(&lane->spans)) != NULL) {
		SPAN_OF(node, by_offset)->stored = false;
		SPAN_OF(node, by_offset)->holder = NULL; /* it may be gone before its queue */
		span_free(SPAN_OF(node, by_offset));
	}
	while (queue->spare != NULL)
		free(span_take_spare(queue));
	free(lane->placed);
	free(lane->trimmed);
	lane->trimmed = NULL;
	lane->trimmed_count = 0;
	free(lane->gone_rows);
	lane->gone_rows = NULL;
	lane->gone_room = 0;
}

void lane_row_gone(struct lane *lane, uint64_t first)
{
	if (span_reserve(lane) ==
	    0) /* without memory the row stays, and is taken for damage that does no harm: it is settled */
		lane->gone_rows[lane->gone_count++] = first;
}

int lane_restore(struct lane *lane, uint64_t first, uint32_t count, const struct span_set *set)
{
	struct span *next = span_from(lane, first);
	int rc = span_reserve(lane);

	if (rc < 0)
		return rc;
	if (next == NULL || next->first >= first + count) /* rows that overlap are damaged */
		new_span(lane, first, count, set, NULL, NULL);
	return 0;
}
