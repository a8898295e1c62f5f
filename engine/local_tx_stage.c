/*
 * local_tx_stage - messages that a transaction will produce, and those it will settle in queues.
 *
 * A batch is made what it will be when it is sent: the key of its channel is in its messages, and so is a priority. What it
 * leads to through an exchange is found out by the commit. Here is checked what can be: sizes, partitions, whether there
 * is a way at all.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/local_exchange.h"
#include "engine/local_tx.h"
#include "engine/packed.h"

struct tx_producer {
	enum engine_kind of;   /* first, as in struct producer: ENGINE_TX */
	struct tx *tx;         /* a reference */
	struct object *target; /* a reference */
	uint32_t partition;    /* of a topic; of a queue, the priority; or ENGINE_ANY */
	bool head;
	struct engine_span key; /* ptr NULL: none; owned */
};

static struct tx_producer *producer_of(struct engine_producer *handle)
{
	return (struct tx_producer *)handle;
}

/* ---- opening and closing ---- */

static int check_target(struct object *object, uint32_t partition)
{
	struct partition *found;

	switch (object->kind) {
	case ENGINE_TOPIC: return partition != ENGINE_ANY ? topic_find(topic_of_object(object), partition, &found) : 0;
	case ENGINE_QUEUE:
		if (partition != ENGINE_ANY && partition >= ENGINE_PRIORITIES)
			return engine_explain(-EINVAL, "priorities are 0 to %u", ENGINE_PRIORITIES - 1);
		return 0;
	case ENGINE_EXCHANGE: return partition != ENGINE_ANY ? -EINVAL : 0;
	default: return -EINVAL;
	}
}

static struct tx_producer *new_producer(struct engine_span key)
{
	struct tx_producer *producer = calloc(1, sizeof(*producer));
	char *copy = key.ptr != NULL ? malloc(key.len + 1) : NULL;

	if (producer == NULL || (key.ptr != NULL && copy == NULL)) {
		free(producer);
		free(copy);
		return NULL;
	}
	if (copy != NULL)
		memcpy(copy, key.ptr, key.len);
	producer->key = (struct engine_span){ copy, key.len };
	return producer;
}

int tx_producer_open(struct engine_object *base, struct engine_object *target, uint32_t partition, bool head,
    struct engine_span key, struct engine_producer **ret_producer)
{
	struct tx_producer *producer;
	struct object *object = NULL;
	struct tx *tx = NULL;
	int rc = object_enter_any(target, &object);

	if (rc == 0)
		rc = check_target(object, partition);
	if (rc == 0)
		rc = tx_enter_open(base, &tx);
	if (rc < 0)
		return rc;
	producer = new_producer(key);
	if (producer != NULL) {
		producer->of = ENGINE_TX;
		producer->tx = tx_of_object(object_ref(&tx->object));
		producer->target = object_ref(object);
		producer->partition = partition;
		producer->head = head;
		*ret_producer = (struct engine_producer *)producer;
	}
	tx_leave_open(tx);
	return producer != NULL ? 0 : -ENOMEM;
}

void tx_producer_close(struct engine_producer *handle)
{
	struct tx_producer *producer = producer_of(handle);

	object_put(producer->target);
	object_put(&producer->tx->object);
	free((char *)(uintptr_t)producer->key.ptr);
	free(producer);
}

/* ---- messages ---- */

/* What the channel says of each message goes into its properties. NULL: nothing does, and there are none. */
static int make_props(
    const struct tx_producer *producer, const struct engine_batch *batch, struct engine_props **ret_props)
{
	bool queue = producer->target->kind == ENGINE_QUEUE;
	struct engine_props *props;

	*ret_props = NULL;
	if (batch->props == NULL && producer->key.ptr == NULL && !(queue && producer->partition != ENGINE_ANY))
		return 0;
	props = calloc(batch->count, sizeof(*props));
	if (props == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < batch->count; i++) {
		props[i] = batch->props != NULL ? batch->props[i] : ENGINE_PROPS_INIT;
		if (producer->target->kind == ENGINE_TOPIC && props[i].key.ptr == NULL)
			props[i].key = producer->key;
		if (producer->target->kind == ENGINE_EXCHANGE && props[i].routing_key.ptr == NULL)
			props[i].routing_key = producer->key;
		if (producer->target->kind != ENGINE_TOPIC)
			props[i].partition = ENGINE_ANY;
		if (queue && producer->partition != ENGINE_ANY)
			props[i].priority = (int32_t)producer->partition;
	}
	*ret_props = props;
	return 0;
}

static int check_size(struct object *object, uint32_t len)
{
	int64_t max_bytes =
	    setting_value(object, object->kind == ENGINE_QUEUE ? SET_QUEUE_MAX_MESSAGE_BYTES : SET_MAX_MESSAGE_BYTES);

	if (len <= max_bytes)
		return 0;
	return object_explain_size(object, len, max_bytes);
}

/* Is there a way for a message of that size through the exchange, now? */
static int check_route(struct exchange *exchange, const struct engine_props *props, uint32_t len)
{
	struct local *local = local_of(&exchange->object);
	struct routing_match match = { 0 };
	int rc;

	pthread_rwlock_rdlock(&local->routes);
	rc = exchange_route(exchange, props->routing_key, props->headers, props->header_count, &match);
	if (rc == 0)
		rc = exchange_check_routed(exchange, &match, props->routing_key);
	for (size_t i = 0; i < match.count && rc == 0; i++) {
		struct object *target = registry_get(local, match.targets[i]); /* what is bound is not removed */

		rc = check_size(target, len);
		object_put(target);
	}
	pthread_rwlock_unlock(&local->routes);
	routing_match_release(&match);
	return rc;
}

static int check_message(const struct tx_producer *producer, const struct engine_props *props, uint32_t len)
{
	const struct engine_props none = ENGINE_PROPS_INIT;
	struct object *target = producer->target;
	struct partition *found;

	if (target->kind == ENGINE_EXCHANGE)
		return check_route(exchange_of_object(target), props != NULL ? props : &none, len);
	if (target->kind == ENGINE_TOPIC && props != NULL && props->partition != ENGINE_ANY &&
	    topic_find(topic_of_object(target), props->partition, &found) < 0)
		return engine_explain(-ERANGE, "there is no partition %" PRIu32 ": the topic has %" PRIu32,
		    props->partition, atomic_load(&topic_of_object(target)->partitions));
	if (target->kind == ENGINE_TOPIC &&
	    topic_check_key(topic_of_object(target), props != NULL ? props : &none, len) < 0)
		return -EINVAL;
	return check_size(target, len);
}

/* tx.lock, a look */
static int stage(const struct tx_producer *producer, const struct engine_batch *batch)
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
	for (uint32_t i = 0; i < batch->count && rc == 0; i++)
		rc = check_message(producer, props != NULL ? &props[i] : NULL, lengths[i]);
	if (rc == 0)
		rc = staged_add_send(&producer->tx->staged, &like, &whole,
		    producer->target->kind == ENGINE_EXCHANGE && batch->props != NULL);
	if (rc == 0)
		tx_name(producer->tx, like.target, producer->target);
	free(props);
	free(lengths);
	return rc;
}

int tx_producer_send(struct engine_producer *handle, const struct engine_batch *batch)
{
	struct tx_producer *producer = producer_of(handle);
	struct tx *tx = NULL;
	unsigned int tries = 0;
	int rc = tx_enter_open(&producer->tx->object.base, &tx);

	if (rc < 0)
		return rc == -EIDRM ? engine_explain(-ECANCELED, "the transaction was removed") : rc;
	rc = atomic_load(&producer->target->removed) ? -EIDRM : reserve_check(local_of(&tx->object));
	if (rc == 0) {
		do
			rc = stage(producer, batch);
		while (warm_again(local_of(&tx->object), rc, &tries));
	}
	tx_leave_open(tx);
	return rc;
}

/* ---- what is settled ---- */

/* tx.lock, a look */
static int stage_settle(struct tx *tx, struct queue *queue, const struct holder *holder, enum engine_settle how,
    const struct queue_lease *lease)
{
	const struct staged_settle settle = { .id = lease->id,
		.queue = queue->object.id,
		.consumer = holder->id,
		.how = how,
		.deliveries = lease->deliveries,
		.place = TX_PLACE(lease->priority, lease->offset) };
	int rc = queue_lock(queue);

	if (rc < 0)
		return rc;
	rc = queue_has_lease(queue, holder->id, lease)
		 ? queue_pin(queue, lease->id)
		 : engine_explain(-ESTALE, "the lease of message %" PRIu64 " is over", lease->id);
	queue_unlock(queue);
	if (rc < 0)
		return rc;
	rc = staged_add_settle(&tx->staged, &settle);
	if (rc < 0) {
		pthread_mutex_lock(&queue->lock);
		queue_unpin(queue, lease->id);
		pthread_mutex_unlock(&queue->lock);
	}
	return rc;
}

static int64_t settle_one(
    struct tx *tx, struct queue *queue, struct holder *holder, enum engine_settle how, uint64_t id)
{
	struct queue_lease lease;
	int rc;

	if (staged_find_settle(&tx->staged, id) != NULL)
		return engine_explain(-EALREADY, "message %" PRIu64 " is settled in this transaction already", id);
	rc = queue_find_lease(queue, holder, id, &lease);
	if (rc == 0)
		rc = stage_settle(tx, queue, holder, how, &lease);
	return rc < 0 ? rc : 1;
}

static int64_t settle_range(
    struct tx *tx, struct queue *queue, struct holder *holder, enum engine_settle how, uint64_t first, uint64_t last)
{
	struct queue_lease *leases = NULL;
	size_t count = 0;
	int64_t staged = 0;
	int rc = queue_list_leases(queue, holder, first, last, &leases, &count);

	for (size_t i = 0; i < count && rc == 0; i++) {
		if (staged_find_settle(&tx->staged, leases[i].id) != NULL)
			continue;
		rc = stage_settle(tx, queue, holder, how, &leases[i]);
		staged += rc == 0;
		if (rc == -ESTALE) /* it ended just now */
			rc = 0;
	}
	free(leases);
	return staged > 0 ? staged : rc;
}

int64_t tx_settle(
    struct engine_object *base, struct engine_object *consumer, enum engine_settle how, uint64_t first, uint64_t last)
{
	struct holder *holder;
	struct queue *queue;
	struct tx *tx = NULL;
	int64_t rc = tx_enter_open(base, &tx);

	if (rc < 0)
		return rc;
	rc = queue_enter_holder(consumer, &queue, &holder);
	if (rc == 0 && first > last)
		rc = engine_explain(-EINVAL, "%" PRIu64 " is above %" PRIu64, first, last);
	else if (rc == 0 && first == last)
		rc = settle_one(tx, queue, holder, how, first);
	else if (rc == 0) {
		rc = settle_range(tx, queue, holder, how, first, last);
		if (rc == 0)
			rc = settle_one(tx, queue, holder, how, first);
	}
	tx_leave_open(tx);
	return rc;
}

int64_t tx_settle_all(struct engine_object *base, struct engine_object *consumer, enum engine_settle how)
{
	struct holder *holder;
	struct queue *queue;
	struct tx *tx = NULL;
	int64_t rc = tx_enter_open(base, &tx);

	if (rc < 0)
		return rc;
	rc = queue_enter_holder(consumer, &queue, &holder);
	if (rc == 0 && object_of(consumer)->kind == ENGINE_QUEUE)
		rc = engine_explain(-EINVAL, "the queue's own files serve many: name the messages");
	if (rc == 0)
		rc = settle_range(tx, queue, holder, how, 0, UINT64_MAX);
	tx_leave_open(tx);
	return rc;
}

void tx_unpin(struct tx *tx)
{
	struct local *local = local_of(&tx->object);

	if (tx->staged.settle_count == 0)
		return;
	visible_enter(local);
	for (size_t i = 0; i < tx->staged.settle_count; i++) {
		struct object *object = registry_get(local, tx->staged.settles[i].queue);

		if (object == NULL)
			continue;
		pthread_mutex_lock(&queue_of_object(object)->lock);
		queue_unpin(queue_of_object(object), tx->staged.settles[i].id);
		pthread_mutex_unlock(&queue_of_object(object)->lock);
		object_put(object);
	}
	visible_leave(local);
}
