/*
 * local_queue_list - the messages of a queue in one state, in order of delivery, in constant memory.
 *
 * A listing goes on from a place, not from a message: the next in order behind it is looked for each time, under the
 * lock, a batch at most; then they are handed out without it. So it costs the same however much there is, and what comes
 * or goes meanwhile does no harm.
 *
 * A place is two numbers. READY: 10 - priority (so that 0 is before all), and the place in the lane above its lowest.
 * DELAYED: the time and, of those of the same, the id. UNACKED: the number of the delivery, and the id.
 */
#include <errno.h>
#include <string.h>

#include "engine/local_queue.h"

#define LIST_AT_ONCE 64u
#define PLACE_BIAS ((uint64_t)1 << 63)
#define SPAN_BY_ORDER(node) ((struct span *)((char *)(uintptr_t)(node)-offsetof(struct span, by_order)))

struct page {
	struct engine_message_stat stats[LIST_AT_ONCE];
	uint64_t next[LIST_AT_ONCE][2];
	uint32_t count;
};

struct listing {
	struct queue *queue;
	enum engine_message_state state;
	uint32_t priority;
	const struct object *consumer;
	uint64_t at[2];
	struct page page;
	int rc; /* it cannot be told what is there, for now */
};

/* ---- READY; lock ---- */

/* Messages of one run, from offset on. */
static void add_run(struct listing *l, struct lane *lane, uint64_t offset, int64_t place, uint32_t run)
{
	struct span *span = span_at(lane, offset);
	struct engine_view view;
	uint64_t first_id;
	int rc = lane_read(lane, offset, run, &l->queue->scratch, &view, &first_id);
	uint32_t count = view.batch.count > 0 && view.batch.count < run ? view.batch.count : run;

	if (rc < 0 && !lane_lost(rc))
		l->rc = rc;

	for (uint32_t i = 0; i < count && l->page.count < LIST_AT_ONCE; i++, place++) {
		l->at[0] = ENGINE_PRIORITIES - lane->priority;
		l->at[1] = (uint64_t)place + PLACE_BIAS;
		if (rc < 0)
			continue; /* damaged: it cannot be told about */
		message_fill_stat(lane, span, &view, i, first_id + i, &l->page.stats[l->page.count]);
		memcpy(l->page.next[l->page.count++], l->at, sizeof(l->at));
	}
}

static void page_ready(struct listing *l)
{
	for (uint32_t p = ENGINE_PRIORITIES; p-- > 0 && l->page.count < LIST_AT_ONCE;) {
		struct lane *lane = queue_lane(l->queue, p);
		uint64_t stage = ENGINE_PRIORITIES - p, offset;
		int64_t place;

		if (lane == NULL || stage < l->at[0] || (l->priority != ENGINE_ANY && l->priority != p))
			continue;
		while (l->page.count < LIST_AT_ONCE &&
		       lane_peek(
			   lane, l->at[0] == stage ? (int64_t)(l->at[1] - PLACE_BIAS) : INT64_MIN, &offset, &place)) {
			uint32_t run = lane_ready_run(lane, offset, LIST_AT_ONCE - l->page.count);

			if (run == 0)
				break;
			add_run(l, lane, offset, place, run);
		}
	}
}

/* ---- by time; lock ---- */

struct time_place {
	int64_t time_ms;
	uint64_t tie;
	bool unacked;
};

static uint64_t tie_of(const struct span *span, uint32_t i)
{
	return span->first_id + i;
}

/* Does the span end at or before the place? */
static bool is_before(const struct tree_node *node, const void *key)
{
	const struct span *span = SPAN_BY_ORDER(node);
	const struct time_place *at = key;
	int64_t time_ms = at->unacked ? span->delivered : span->due_ms;

	return time_ms != at->time_ms ? time_ms < at->time_ms : tie_of(span, span->count - 1) <= at->tie;
}

static void add_span(struct listing *l, struct span *span, const struct time_place *from)
{
	int64_t time_ms = from->unacked ? span->delivered : span->due_ms;
	uint32_t i = 0;

	while (i < span->count && time_ms == from->time_ms && tie_of(span, i) <= from->tie)
		i++;
	while (i < span->count && l->page.count < LIST_AT_ONCE) {
		struct engine_view view;
		uint64_t first_id;
		int rc = lane_read(span->lane, span->first + i, span->count - i, &l->queue->scratch, &view, &first_id);
		uint32_t count = rc == 0 ? view.batch.count : 1;

		if (rc < 0 && !lane_lost(rc))
			l->rc = rc;

		for (uint32_t k = 0; k < count && l->page.count < LIST_AT_ONCE; k++, i++) {
			l->at[0] = (uint64_t)time_ms;
			l->at[1] = tie_of(span, i);
			if (rc < 0)
				continue;
			message_fill_stat(span->lane, span, &view, k, first_id + k, &l->page.stats[l->page.count]);
			memcpy(l->page.next[l->page.count++], l->at, sizeof(l->at));
		}
	}
}

static void page_by_time(struct listing *l)
{
	struct tree *tree = l->state == ENGINE_UNACKED ? &l->queue->leased : &l->queue->delayed;
	struct time_place from = { (int64_t)l->at[0], l->at[1], l->state == ENGINE_UNACKED };
	struct tree_node *node = tree_find(tree, is_before, &from);

	for (; node != NULL && l->page.count < LIST_AT_ONCE; node = tree_next(node)) {
		struct span *span = SPAN_BY_ORDER(node);

		if ((l->priority == ENGINE_ANY || l->priority == span->lane->priority) &&
		    (l->consumer == NULL || span->holder_id == l->consumer->id))
			add_span(l, span, &from);
	}
}

/* ---- the call ---- */

int queue_message_list(struct engine_object *base, enum engine_message_state state, uint32_t priority,
    struct engine_object *consumer, uint64_t cursor[2],
    bool (*each)(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2]), void *ctx)
{
	struct listing l = { .state = state, .priority = priority, .at = { cursor[0], cursor[1] } };
	int rc = queue_enter(base, false, &l.queue);

	if (rc < 0)
		return rc;
	if (state >= ENGINE_STATE_COUNT)
		return -EINVAL;
	l.consumer = consumer != NULL ? object_of(consumer) : NULL;
	do {
		l.page.count = 0;
		rc = queue_lock(l.queue);
		if (rc < 0)
			return rc;
		if (state == ENGINE_READY)
			page_ready(&l);
		else
			page_by_time(&l);
		queue_unlock(l.queue);
		if (l.rc < 0)
			return l.rc;
		for (uint32_t i = 0; i < l.page.count; i++) {
			memcpy(cursor, l.page.next[i], 2 * sizeof(cursor[0]));
			if (!each(ctx, &l.page.stats[i], l.page.next[i]))
				return 0;
		}
	} while (l.page.count > 0);
	return 0;
}
