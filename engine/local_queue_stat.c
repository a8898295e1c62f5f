/*
 * local_queue_stat - what there is to know of a queue. Counters are kept; only the oldest messages are looked for.
 */
#include <errno.h>

#include "engine/index.h"
#include "engine/local_queue.h"

#define SPAN_BY_ORDER(node) ((struct span *)((char *)(node)-offsetof(struct span, by_order)))

/* When the message that is delivered next of a lane was produced; INT64_MAX: none. lock */
static int64_t oldest_ready(struct lane *lane)
{
	struct engine_view view;
	uint64_t offset, id;
	int64_t place;

	if (!lane_peek(lane, -1, &offset, &place) && !lane_peek(lane, INT64_MIN, &offset, &place))
		return INT64_MAX;
	if (lane_read(lane, offset, 1, &lane->queue->scratch, &view, &id) < 0)
		return INT64_MAX;
	return view.batch.props != NULL ? view.batch.props[0].ts_ms : view.batch.ts_ms;
}

static uint64_t published(const struct queue *queue)
{
	const struct queue_totals *t = &queue->totals;

	return queue->messages[SPAN_READY] + queue->messages[SPAN_UNACKED] + queue->messages[SPAN_DELAYED] + t->acked +
	       t->dead_lettered + t->expired + t->dropped + t->moved_out - t->moved_in;
}

/* lock */
static void fill(struct queue *queue, struct engine_queue_stat *stat)
{
	const struct queue_totals *t = &queue->totals;
	struct tree_node *node = tree_first(&queue->leased);
	int64_t oldest_ms = INT64_MAX;

	*stat = (struct engine_queue_stat){ .ready = queue->messages[SPAN_READY],
		.unacked = queue->messages[SPAN_UNACKED],
		.delayed = queue->messages[SPAN_DELAYED],
		.bytes = queue->bytes[SPAN_READY] + queue->bytes[SPAN_UNACKED] + queue->bytes[SPAN_DELAYED],
		.published = published(queue),
		.delivered = t->delivered,
		.redelivered = t->redelivered,
		.acked = t->acked,
		.dead_lettered = t->dead_lettered,
		.expired = t->expired,
		.dropped = t->dropped,
		.moved_in = t->moved_in,
		.moved_out = t->moved_out,
		.deduplicated = atomic_load(&queue->dedup.dropped),
		.consumers = queue_count_consumers(queue) };
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		struct lane *lane = queue_lane(queue, p);
		int64_t ms;

		if (lane == NULL || lane->ready_count == 0)
			continue;
		stat->ready_by_priority[p] = lane->ready_count;
		ms = oldest_ready(lane);
		if (ms < oldest_ms)
			oldest_ms = ms;
	}
	stat->oldest_ready_ms = oldest_ms != INT64_MAX ? oldest_ms : 0;
	stat->oldest_unacked_ms = node != NULL ? SPAN_BY_ORDER(node)->delivered >> DELIVERED_SHIFT : 0;
}

int queue_stat_call(struct engine_object *base, struct engine_queue_stat *ret_stat)
{
	struct object *dlq;
	struct queue *queue = NULL;
	int rc = queue_enter(base, false, &queue);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&queue->lock);
	fill(queue, ret_stat);
	pthread_mutex_unlock(&queue->lock);
	dlq = registry_find(queue_local(queue), queue->object.id, ENGINE_QUEUE, "dlq");
	if (dlq != NULL) {
		struct queue *dead = queue_of_object(dlq);

		if (queue_open(dead) == 0) {
			pthread_mutex_lock(&dead->lock);
			ret_stat->dead =
			    dead->messages[SPAN_READY] + dead->messages[SPAN_UNACKED] + dead->messages[SPAN_DELAYED];
			pthread_mutex_unlock(&dead->lock);
		}
		object_put(dlq);
	}
	return 0;
}

void queue_sum(struct queue *queue, struct engine_stat *stat)
{
	if (queue_open(queue) < 0)
		return;
	pthread_mutex_lock(&queue->lock);
	stat->messages += queue->messages[SPAN_READY];
	stat->bytes += queue->bytes[SPAN_READY] + queue->bytes[SPAN_UNACKED] + queue->bytes[SPAN_DELAYED];
	stat->published_total += published(queue);
	stat->published_bytes_total += queue->published_bytes;
	stat->delivered_total += queue->totals.delivered;
	stat->acked_total += queue->totals.acked;
	stat->producers += queue->producers;
	stat->deduplicated += atomic_load(&queue->dedup.dropped);
	for (const struct queue_reader *r = queue->readers; r != NULL; r = r->next)
		stat->readers += !r->is_session;
	if (queue->changed_ms > stat->mtime_ms)
		stat->mtime_ms = queue->changed_ms;
	pthread_mutex_unlock(&queue->lock);
}

void queue_sum_consumer(struct queue_consumer *consumer, struct engine_stat *stat)
{
	struct queue *queue = queue_of_object(consumer->object.parent);

	if (queue_open(queue) < 0)
		return;
	pthread_mutex_lock(&queue->lock);
	stat->messages = consumer->holder.unacked;
	stat->readers = consumer->holder.readers;
	pthread_mutex_unlock(&queue->lock);
}

const struct engine_queue_ops local_queue_ops = {
	.producer_open = queue_producer_open,
	.consumer_open = queue_reader_open,
	.session_open = queue_session_open,
	.session_close = queue_session_close,
	.settle = queue_settle,
	.settle_all = queue_settle_all,
	.message_stat = queue_message_stat,
	.message_read = queue_message_read,
	.message_remove = queue_message_remove,
	.message_move = queue_message_move,
	.message_touch = queue_message_touch,
	.message_list = queue_message_list,
	.queue_stat = queue_stat_call,
	.room = queue_has_room_for,
	.purge = queue_purge,
	.redrive = queue_redrive,
	.settle_sync = queue_settle_sync,
};
