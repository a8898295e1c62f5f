/*
 * local_queue_count - counters of a queue, and the law that they obey.
 *
 * Counters are of what is there now, by state, and move with each change. Before a queue is open they mean nothing;
 * queue_count() then sets them from the logs. What was published is in no counter: it follows from the ends of the logs
 * and from published_base, which is set once, when the queue is opened, so that the conservation law holds from there on:
 * published = ready + unacked + delayed + acked + dead + expired + dropped + moved away - moved in.
 *
 * Builds with MQFS_DEBUG, as those with a sanitizer are, count all anew whenever a call is done with a queue (queue_unlock).
 */
#include <assert.h>
#include <string.h>

#include "engine/local_queue_span.h"

static int measure(struct lane *lane, uint64_t from, uint64_t to, uint64_t *ret_bytes)
{
	struct plog *plog = atomic_load(&lane->plog);
	uint64_t from_pos = 0, to_pos = 0;
	int rc = from < to ? plog_pos_of(plog, from, &from_pos) : 0;

	if (rc == 0 && from < to)
		rc = plog_pos_of(plog, to, &to_pos);
	*ret_bytes = rc == 0 && from < to && to_pos - from_pos >= to - from ? to_pos - from_pos - (to - from) : 0;
	return rc;
}

uint64_t lane_payload_bytes(struct lane *lane, uint64_t from, uint64_t to)
{
	uint64_t bytes;

	(void)measure(lane, from, to, &bytes);
	return bytes;
}

/* What cannot be read for good is of no bytes. */
static int count_lane(struct lane *lane)
{
	uint64_t fresh = lane->end - lane->next, ahead = 0, bytes, gone;
	int rc = measure(lane, lane->next, lane->end, &bytes);

	if (rc < 0 && !lane_lost(rc))
		return rc;
	lane->ready_count = 0;
	for (struct tree_node *node = tree_first(&lane->spans); node != NULL; node = tree_next(node)) {
		struct span *span = SPAN_OF(node, by_offset);

		span_tally(span, true);
		if (span->first < lane->next)
			continue;
		fresh -= span->count;
		gone = span->bytes;
		if (span->state == SPAN_GONE)
			rc = measure(lane, span->first, span->first + span->count, &gone);
		if (rc < 0 && !lane_lost(rc))
			return rc;
		ahead += gone;
	}
	lane_tally_fresh(lane, fresh, bytes > ahead ? bytes - ahead : 0, true);
	return 0;
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

int queue_count(struct queue *queue)
{
	int rc = 0;

	memset(queue->messages, 0, sizeof(queue->messages));
	memset(queue->bytes, 0, sizeof(queue->bytes));
	atomic_store(&queue->open, true);
	for (uint32_t p = 0; p < ENGINE_PRIORITIES && rc == 0; p++) {
		struct lane *lane = queue_lane(queue, p);

		if (lane != NULL)
			rc = count_lane(lane);
	}
	if (rc < 0) { /* it is tried again, from nothing */
		atomic_store(&queue->open, false);
		return rc;
	}
	/* Differs from what it was only if the machine died, and logs and journal did not lose the same. */
	queue->published_base = (int64_t)(accounted(queue) - published_in_logs(queue));
	return 0;
}

#ifdef MQFS_DEBUG
static void check_span(const struct span *span, uint64_t *unacked)
{
	const struct lane *lane = span->lane;

	assert(span->count > 0 && span->first + span->count <= lane->end);
	assert(span->first >= lane->next || span->first + span->count <= lane->next);
	assert(span->state != SPAN_GONE || span->first > lane->next);
	assert(tree_has(&span->by_order) == (span->state != SPAN_GONE));
	assert(span->holder == NULL || span->state == SPAN_UNACKED); /* NULL: it is gone, see queue_lease_over() */
	assert(span->id == 0 || span->count == 1);
	if (span->state == SPAN_UNACKED)
		*unacked += span->count;
}

/* Each change of a queue with few spans, every 64th of another: a check looks at all of them. */
static bool is_time_to_check(const struct queue *queue)
{
	static _Atomic unsigned turn;
	size_t spans = 0;

	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++)
		spans += queue_lane(queue, p) != NULL ? queue_lane(queue, p)->spans.count : 0;
	return spans <= 256 || atomic_fetch_add(&turn, 1) % 64 == 0;
}

void queue_check_invariants(struct queue *queue)
{
	uint64_t messages[SPAN_GONE] = { 0 }, unacked = 0;

	if (!atomic_load(&queue->open) || !is_time_to_check(queue))
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
