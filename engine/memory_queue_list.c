/*
 * memory_queue_list - listing messages, and the numbers of a queue.
 *
 * A listing holds no lock while it calls back. It collects a few messages under the lock, then gives them out, and goes on
 * behind the last one: by its place in READY, its time in DELAYED, the turn of its delivery in UNACKED. None of these changes
 * while a message stays, so it is seen once.
 */
#include <errno.h>

#include "engine/memory_queue.h"

#define CHUNK 64u

struct entry {
	struct engine_message_stat stat;
	uint64_t next[2];
};

struct listing {
	struct memory_object *queue, *consumer;
	enum engine_message_state state;
	uint32_t priority;
	uint64_t cursor[2];
	struct entry entries[CHUNK];
	size_t count;
};

/* A number that may be negative, in the same order as one that may not. */
static uint64_t ordered(int64_t number)
{
	return (uint64_t)number ^ (UINT64_C(1) << 63);
}

static void place_of(const struct memory_item *item, uint64_t place[2])
{
	switch (item->state) {
	case ENGINE_READY:
		place[0] = ENGINE_PRIORITIES - 1 - item->priority;
		place[1] = ordered(item->rank);
		break;
	case ENGINE_UNACKED:
		place[0] = item->delivery;
		place[1] = 0;
		break;
	default:
		place[0] = ordered(item->due_ms);
		place[1] = item->id;
		break;
	}
}

static void collect(struct listing *l, const struct memory_items *items)
{
	for (const struct memory_item *item = items->first; item != NULL && l->count < CHUNK; item = item->next) {
		uint64_t place[2];

		place_of(item, place);
		if (place[0] < l->cursor[0] || (place[0] == l->cursor[0] && place[1] < l->cursor[1]))
			continue;
		if (l->priority != ENGINE_ANY && item->priority != l->priority)
			continue;
		if (l->consumer != NULL && (item->state != ENGINE_UNACKED || item->consumer != l->consumer))
			continue;
		memory_fill_stat(item, &l->entries[l->count].stat);
		l->entries[l->count].next[0] = place[0];
		l->entries[l->count].next[1] = place[1] + 1;
		l->count++;
	}
}

static int collect_chunk(struct listing *l)
{
	const struct memory_queue *queue = l->queue->queue;
	int rc = memory_enter(l->queue, ENGINE_QUEUE);

	if (rc < 0)
		return rc;
	l->count = 0;
	if (l->state == ENGINE_READY) {
		for (uint32_t p = ENGINE_PRIORITIES; p-- > 0;)
			collect(l, &queue->ready[p]);
	} else {
		collect(l, l->state == ENGINE_UNACKED ? &queue->unacked : &queue->delayed);
	}
	memory_leave(l->queue->memory);
	return 0;
}

int memory_message_list(struct engine_object *queue, enum engine_message_state state, uint32_t priority,
    struct engine_object *consumer, uint64_t cursor[2],
    bool (*each)(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2]), void *ctx)
{
	struct listing l = { .queue = memory_of(queue),
		.consumer = consumer != NULL ? memory_of(consumer) : NULL,
		.state = state,
		.priority = priority,
		.cursor = { cursor[0], cursor[1] } };

	if (state >= ENGINE_STATE_COUNT)
		return -EINVAL;
	do {
		int rc = collect_chunk(&l);

		if (rc < 0)
			return rc;
		for (size_t i = 0; i < l.count; i++) {
			cursor[0] = l.cursor[0] = l.entries[i].next[0];
			cursor[1] = l.cursor[1] = l.entries[i].next[1];
			if (!each(ctx, &l.entries[i].stat, l.entries[i].next))
				return 0;
		}
	} while (l.count == CHUNK);
	return 0;
}

/* ---- numbers ---- */

static int64_t lower(int64_t a, int64_t b)
{
	return a == 0 || b < a ? b : a;
}

static void find_oldest(const struct memory_queue *queue, struct engine_queue_stat *stat)
{
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		for (const struct memory_item *item = queue->ready[p].first; item != NULL; item = item->next)
			stat->oldest_ready_ms = lower(stat->oldest_ready_ms, item->message.props.ts_ms);
	}
	for (const struct memory_item *item = queue->unacked.first; item != NULL; item = item->next)
		stat->oldest_unacked_ms = lower(stat->oldest_unacked_ms, item->delivered_ms);
}

static uint64_t all_messages(const struct memory_queue *queue)
{
	return queue->ready_count + queue->unacked.count + queue->delayed.count;
}

int memory_queue_stat(struct engine_object *queue, struct engine_queue_stat *ret_stat)
{
	struct memory_object *self = memory_of(queue);
	const struct memory_queue *of;
	struct engine_queue_stat stat;
	int rc = memory_enter(self, ENGINE_QUEUE);

	if (rc < 0)
		return rc;
	of = self->queue;
	stat = of->totals;
	stat.ready = of->ready_count;
	stat.unacked = of->unacked.count;
	stat.delayed = of->delayed.count;
	stat.dead = of->dlq != NULL ? all_messages(of->dlq->queue) : 0;
	stat.bytes = of->bytes;
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++)
		stat.ready_by_priority[p] = of->ready[p].count;
	stat.consumers = memory_count_consumers(self);
	find_oldest(of, &stat);
	*ret_stat = stat;
	memory_leave(self->memory);
	return 0;
}
