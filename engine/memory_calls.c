/*
 * memory_calls - producers are of topics, of queues, of exchanges or of transactions, consumers of topics or of queues: sends each call on to the
 * right one.
 *
 * All of them begin with a reference to their object, whose kind tells.
 */
#include <errno.h>

#include "engine/memory_queue.h"
#include "engine/memory_tx.h"

/* What every producer and consumer begins with. */
struct handle {
	struct memory_object *object;
};

static bool is_of_queue(const void *handle)
{
	enum engine_kind kind = ((const struct handle *)handle)->object->kind;

	return kind == ENGINE_QUEUE || kind == ENGINE_CONSUMER;
}

static bool is_of_exchange(const void *handle)
{
	return ((const struct handle *)handle)->object->kind == ENGINE_EXCHANGE;
}

static bool is_of_tx(const void *handle)
{
	return ((const struct handle *)handle)->object->kind == ENGINE_TX;
}

int memory_any_producer_open(
    struct engine_object *object, uint32_t partition, struct engine_span key, struct engine_producer **ret_producer)
{
	if (memory_of(object)->kind == ENGINE_EXCHANGE)
		return memory_route_producer_open(object, partition, key, ret_producer);
	return memory_producer_open(object, partition, key, ret_producer);
}

int memory_any_send(struct engine_producer *producer, const struct engine_batch *batch, struct engine_done *done)
{
	if (is_of_queue(producer))
		return memory_queue_producer_send(producer, batch);
	if (is_of_exchange(producer))
		return memory_route_producer_send(producer, batch);
	if (is_of_tx(producer))
		return memory_tx_producer_send(producer, batch);
	return memory_producer_send(producer, batch, done);
}

int memory_any_sync(struct engine_producer *producer, struct engine_done *done)
{
	if (is_of_tx(producer))
		return 0; /* there is nothing to wait for before the commit */
	if (is_of_exchange(producer))
		return memory_route_producer_sync(producer);
	return is_of_queue(producer) ? memory_queue_producer_sync(producer) : memory_producer_sync(producer, done);
}

void memory_any_producer_close(struct engine_producer *producer)
{
	if (producer != NULL && is_of_queue(producer))
		memory_queue_producer_close(producer);
	else if (producer != NULL && is_of_exchange(producer))
		memory_route_producer_close(producer);
	else if (producer != NULL && is_of_tx(producer))
		memory_tx_producer_close(producer);
	else
		memory_producer_close(producer);
}

int memory_any_fetch(struct engine_consumer *consumer, uint32_t max_count, size_t max_bytes,
    struct engine_scratch *scratch, struct engine_view *ret_view)
{
	if (is_of_queue(consumer))
		return memory_queue_consumer_fetch(consumer, max_count, max_bytes, scratch, ret_view);
	return memory_consumer_fetch(consumer, max_count, max_bytes, scratch, ret_view);
}

int memory_any_rewind(struct engine_consumer *consumer)
{
	if (!is_of_queue(consumer))
		return memory_consumer_rewind(consumer);
	engine_reason_clear();
	return -ESPIPE;
}

int memory_any_arm(struct engine_consumer *consumer, struct engine_waiter *waiter)
{
	return is_of_queue(consumer) ? memory_queue_consumer_arm(consumer, waiter)
				     : memory_consumer_arm(consumer, waiter);
}

bool memory_any_disarm(struct engine_consumer *consumer, struct engine_waiter *waiter)
{
	return is_of_queue(consumer) ? memory_queue_consumer_disarm(consumer, waiter)
				     : memory_consumer_disarm(consumer, waiter);
}

void memory_any_consumer_close(struct engine_consumer *consumer)
{
	if (consumer != NULL && is_of_queue(consumer))
		memory_queue_consumer_close(consumer);
	else
		memory_consumer_close(consumer);
}

const struct engine_queue_ops memory_queue_ops = {
	.producer_open = memory_queue_producer_open,
	.consumer_open = memory_queue_consumer_open,
	.session_open = memory_session_open,
	.session_close = memory_session_close,
	.settle = memory_settle,
	.settle_all = memory_settle_all,
	.message_stat = memory_message_stat,
	.message_read = memory_message_read,
	.message_remove = memory_message_remove,
	.message_move = memory_message_move,
	.message_touch = memory_message_touch,
	.message_list = memory_message_list,
	.queue_stat = memory_queue_stat,
	.room = memory_queue_room,
	.purge = memory_purge,
	.redrive = memory_redrive,
	.settle_sync = memory_settle_sync,
};
