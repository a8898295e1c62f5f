/*
 * memory_tx_stage - messages that a transaction will produce, and those it will settle in queues.
 *
 * A batch is made what it will be when it is sent: the key of its channel is in its messages, and so is a priority. What can be
 * known to be refused is: by a trial that is not taken for a topic, by size for a queue, by the way of each message for an exchange.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/memory_exchange.h"
#include "engine/memory_queue.h"
#include "engine/memory_tx.h"

struct memory_tx_producer {
	struct memory_object *tx;     /* a reference; first, as in all producers: see memory_calls.c */
	struct memory_object *target; /* a reference */
	uint32_t partition;           /* of a topic; of a queue, the priority; or ENGINE_ANY */
	bool head;
	struct engine_span key; /* ptr NULL: none; behind this struct */
};

static struct memory_tx_producer *producer_of(struct engine_producer *producer)
{
	return (struct memory_tx_producer *)producer;
}

static int check_target(const struct memory_object *target, uint32_t partition)
{
	if (target->removed)
		return -EIDRM;
	if (target->is_defaults)
		return -EINVAL;
	switch (target->kind) {
	case ENGINE_TOPIC: return partition != ENGINE_ANY ? memory_check_partition(target, partition) : 0;
	case ENGINE_QUEUE:
		if (partition != ENGINE_ANY && partition >= ENGINE_PRIORITIES)
			return engine_explain(-EINVAL, "priorities are 0 to %u", ENGINE_PRIORITIES - 1);
		return 0;
	case ENGINE_EXCHANGE: return partition != ENGINE_ANY ? -EINVAL : 0;
	default: return -EINVAL;
	}
}

int memory_tx_producer_open(struct engine_object *tx, struct engine_object *target, uint32_t partition, bool head,
    struct engine_span key, struct engine_producer **ret_producer)
{
	struct memory_tx_producer *producer = calloc(1, sizeof(*producer) + (key.ptr != NULL ? key.len : 0) + 1);
	struct memory_object *object = NULL;
	int rc = producer != NULL ? memory_tx_enter(tx, &object) : -ENOMEM;

	if (rc == 0) {
		rc = check_target(memory_of(target), partition);
		if (rc < 0)
			memory_leave(object->memory);
	}
	if (rc < 0) {
		free(producer);
		return rc;
	}
	producer->tx = object;
	producer->target = memory_of(target);
	producer->partition = partition;
	producer->head = head;
	if (key.ptr != NULL)
		producer->key = (struct engine_span){ memcpy(producer + 1, key.ptr, key.len), key.len };
	object->refs++;
	producer->target->refs++;
	memory_leave(object->memory);
	*ret_producer = (struct engine_producer *)producer;
	return 0;
}

void memory_tx_producer_close(struct engine_producer *handle)
{
	struct memory_tx_producer *producer = producer_of(handle);
	struct memory_engine *memory = producer->tx->memory;

	memory_lock_quietly(memory);
	memory_unref(producer->target);
	memory_unref(producer->tx);
	memory_leave(memory);
	free(producer);
}

/* ---- messages ---- */

/* What the channel says of each message goes into its properties. NULL: nothing does, and there are none. */
static int make_props(
    const struct memory_tx_producer *producer, const struct engine_batch *batch, struct engine_props **ret_props)
{
	enum engine_kind kind = producer->target->kind;
	struct engine_props *props;

	*ret_props = NULL;
	if (batch->props == NULL && producer->key.ptr == NULL && producer->partition == ENGINE_ANY)
		return 0;
	props = calloc(batch->count, sizeof(*props));
	if (props == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < batch->count; i++) {
		props[i] = batch->props != NULL ? batch->props[i] : ENGINE_PROPS_INIT;
		if (kind == ENGINE_TOPIC && props[i].key.ptr == NULL)
			props[i].key = producer->key;
		if (kind == ENGINE_EXCHANGE && props[i].routing_key.ptr == NULL)
			props[i].routing_key = producer->key;
		if (kind != ENGINE_TOPIC || producer->partition != ENGINE_ANY)
			props[i].partition = kind == ENGINE_TOPIC ? producer->partition : ENGINE_ANY;
		if (kind == ENGINE_QUEUE && producer->partition != ENGINE_ANY)
			props[i].priority = (int32_t)producer->partition;
	}
	*ret_props = props;
	return 0;
}

static int check_batch(struct memory_object *target, const struct engine_batch *batch)
{
	struct memory_sending *sending = NULL;
	int rc = 0;

	if (target->kind == ENGINE_EXCHANGE)
		return memory_route_check(target, batch);
	if (target->kind == ENGINE_TOPIC) {
		rc = memory_topic_begin(target, batch, false, &sending);
		if (rc == 0)
			memory_topic_end(sending, false);
		return rc;
	}
	for (uint32_t i = 0; i < batch->count && rc == 0; i++)
		rc = memory_check_size(target, batch->lengths[i]);
	return rc;
}

static int stage(const struct memory_tx_producer *producer, const struct engine_batch *batch)
{
	const struct staged_send like = { .target = producer->target->id,
		.partition = producer->target->kind == ENGINE_TOPIC ? producer->partition : ENGINE_ANY,
		.head = producer->head };
	struct engine_batch whole = *batch;
	struct engine_props *props = NULL;
	uint32_t *lengths = NULL;
	int rc = packed_lengths(batch, &lengths);

	if (rc < 0)
		return rc;
	rc = make_props(producer, batch, &props);
	whole.props = props;
	whole.lengths = lengths;
	if (rc == 0)
		rc = check_batch(producer->target, &whole);
	if (rc == 0)
		rc = staged_add_send(&producer->tx->tx->staged, &like, &whole, false);
	if (rc == 0 && staged_wants_name(&producer->tx->tx->staged, like.target))
		staged_name(&producer->tx->tx->staged, like.target, producer->target->kind, producer->target->name);
	free(props);
	free(lengths);
	return rc;
}

int memory_tx_producer_send(struct engine_producer *handle, const struct engine_batch *batch)
{
	struct memory_tx_producer *producer = producer_of(handle);
	struct memory_object *object;
	int rc = memory_tx_enter(&producer->tx->base, &object);

	if (rc < 0)
		return rc == -EIDRM ? engine_explain(-ECANCELED, "the transaction was removed") : rc;
	if (batch->count == 0)
		rc = -EINVAL;
	else
		rc = producer->target->removed ? -EIDRM : stage(producer, batch);
	memory_leave(object->memory);
	return rc;
}

/* ---- what is settled ---- */

static int stage_settle(
    struct memory_object *object, struct memory_object *consumer, enum engine_settle how, struct memory_item *item)
{
	const struct staged_settle settle = { .id = item->id,
		.queue = item->queue->id,
		.consumer = consumer->id,
		.how = how,
		.deliveries = item->deliveries,
		.place = item->delivery };
	int rc = staged_add_settle(&object->tx->staged, &settle);

	if (rc == 0)
		item->pins++;
	return rc;
}

static int64_t stage_range(
    struct memory_object *object, struct memory_object *consumer, enum engine_settle how, uint64_t first, uint64_t last)
{
	struct memory_item *item = memory_queue_of(consumer)->queue->unacked.first;
	int64_t count = 0;
	int rc = 0;

	for (; item != NULL && rc == 0; item = item->next) {
		if (item->consumer != consumer || item->id < first || item->id > last ||
		    staged_find_settle(&object->tx->staged, item->id) != NULL)
			continue;
		rc = stage_settle(object, consumer, how, item);
		count += rc == 0;
	}
	return count > 0 ? count : rc;
}

static int64_t stage_one(
    struct memory_object *object, struct memory_object *consumer, enum engine_settle how, uint64_t id)
{
	struct memory_item *item = NULL;
	int rc;

	if (staged_find_settle(&object->tx->staged, id) != NULL)
		return engine_explain(-EALREADY, "message %" PRIu64 " is settled in this transaction already", id);
	rc = memory_find_lease(consumer, id, &item);
	if (rc == 0)
		rc = stage_settle(object, consumer, how, item);
	return rc < 0 ? rc : 1;
}

static int check_consumer(const struct memory_object *consumer)
{
	if (consumer->is_defaults || (consumer->kind != ENGINE_QUEUE && consumer->kind != ENGINE_CONSUMER))
		return -EINVAL;
	return consumer->removed ? -EIDRM : 0;
}

int64_t memory_tx_settle(
    struct engine_object *tx, struct engine_object *base, enum engine_settle how, uint64_t first, uint64_t last)
{
	struct memory_object *consumer = memory_of(base), *object;
	int64_t rc = memory_tx_enter(tx, &object);

	if (rc < 0)
		return rc;
	rc = check_consumer(consumer);
	if (rc == 0 && first > last)
		rc = engine_explain(-EINVAL, "%" PRIu64 " is above %" PRIu64, first, last);
	else if (rc == 0 && first == last)
		rc = stage_one(object, consumer, how, first);
	else if (rc == 0) {
		rc = stage_range(object, consumer, how, first, last);
		if (rc == 0)
			rc = stage_one(object, consumer, how, first);
	}
	memory_leave(object->memory);
	return rc;
}

int64_t memory_tx_settle_all(struct engine_object *tx, struct engine_object *base, enum engine_settle how)
{
	struct memory_object *consumer = memory_of(base), *object;
	int64_t rc = memory_tx_enter(tx, &object);

	if (rc < 0)
		return rc;
	rc = check_consumer(consumer);
	if (rc == 0 && consumer->kind == ENGINE_QUEUE)
		rc = engine_explain(-EINVAL, "the queue's own files serve many: name the messages");
	if (rc == 0)
		rc = stage_range(object, consumer, how, 0, UINT64_MAX);
	memory_leave(object->memory);
	return rc;
}
