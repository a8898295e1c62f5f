/*
 * memory_queue_settle - ack, nack and reject.
 */
#include <errno.h>
#include <inttypes.h>

#include "engine/memory_queue.h"

/* Takes the lock for a call on a consumer, which is a queue or a named one. */
static int enter_consumer(struct memory_object *consumer)
{
	int rc = memory_enter(consumer, ENGINE_KIND_COUNT);

	if (rc == 0 && consumer->kind != ENGINE_QUEUE && consumer->kind != ENGINE_CONSUMER)
		rc = -EINVAL;
	else if (rc == 0 && consumer->memory->read_only)
		rc = -EROFS;
	else
		return rc;
	memory_leave(consumer->memory);
	return rc;
}

void memory_settle_item(struct memory_item *item, enum engine_settle how)
{
	struct memory_queue *queue = item->queue->queue;
	struct memory_object *consumer = item->consumer;

	memory_item_take(item);
	item->ended = MEMORY_SETTLED;
	item->ended_by = consumer->id;
	switch (how) {
	case ENGINE_ACK:
		consumer->acked++;
		memory_discard(item, &queue->totals.acked);
		break;
	case ENGINE_NACK: memory_come_back(item, MEMORY_SETTLED); break;
	case ENGINE_REJECT: memory_die(item, ENGINE_REJECTED); break;
	}
}

/* Settles what the consumer holds of first..last. Newly leased is nothing meanwhile, so the list is gone through once. */
static int64_t settle_range(struct memory_object *consumer, enum engine_settle how, uint64_t first, uint64_t last)
{
	struct memory_item *item = memory_queue_of(consumer)->queue->unacked.first, *next;
	int64_t count = 0;

	for (; item != NULL; item = next) {
		next = item->next;
		if (item->consumer != consumer || item->id < first || item->id > last)
			continue;
		memory_settle_item(item, how);
		count++;
	}
	if (count > 0)
		memory_queue_used(memory_queue_of(consumer));
	return count;
}

/* Why the consumer may not settle this message, of which there is no lease of its own. */
static int explain(const struct memory_object *consumer, const struct memory_item *item, uint64_t id)
{
	const struct memory_queue *queue = memory_queue_of((struct memory_object *)consumer)->queue;
	int rc;

	if (item == NULL)
		rc = memory_gone_errno(queue, id);
	else if (item->state == ENGINE_UNACKED &&
		 (item->ended == MEMORY_NEVER_LEASED || item->ended_by != consumer->id))
		rc = -EPERM;
	else if (item->ended == MEMORY_NEVER_LEASED)
		rc = -ENOENT;
	else
		rc = item->ended == MEMORY_SETTLED ? -EALREADY : -ESTALE;
	switch (rc) {
	case -EPERM: return engine_explain(rc, "message %" PRIu64 " is leased to another consumer", id);
	case -EALREADY: return engine_explain(rc, "message %" PRIu64 " is settled already", id);
	case -ESTALE: return engine_explain(rc, "the lease of message %" PRIu64 " is over", id);
	default: return engine_explain(rc, "message %" PRIu64 " is not leased here", id);
	}
}

int memory_find_lease(const struct memory_object *consumer, uint64_t id, struct memory_item **ret_item)
{
	struct memory_object *queue = memory_queue_of((struct memory_object *)consumer);
	struct memory_item *item = memory_item_find(queue->memory, id);

	if (item != NULL && item->queue != queue)
		item = NULL;
	if (item == NULL || item->state != ENGINE_UNACKED || item->consumer != consumer)
		return explain(consumer, item, id);
	*ret_item = item;
	return 0;
}

static int64_t settle_single(struct memory_object *consumer, enum engine_settle how, uint64_t id)
{
	struct memory_item *item = NULL;
	int rc = memory_find_lease(consumer, id, &item);

	if (rc < 0)
		return rc;
	memory_settle_item(item, how);
	memory_queue_used(memory_queue_of(consumer));
	return 1;
}

int64_t memory_settle(struct engine_object *consumer, enum engine_settle how, uint64_t first, uint64_t last)
{
	struct memory_object *self = memory_of(consumer);
	int64_t rc = enter_consumer(self);

	if (rc < 0)
		return rc;
	if (first > last)
		rc = engine_explain(-EINVAL, "%" PRIu64 " is above %" PRIu64, first, last);
	else
		rc = first == last ? settle_single(self, how, first) : settle_range(self, how, first, last);
	if (rc == 0)
		rc = settle_single(self, how, first);
	memory_leave(self->memory);
	return rc;
}

int64_t memory_settle_all(struct engine_object *consumer, enum engine_settle how)
{
	struct memory_object *self = memory_of(consumer);
	int64_t rc = enter_consumer(self);

	if (rc < 0)
		return rc;
	if (self->kind == ENGINE_QUEUE)
		rc = engine_explain(-EINVAL, "the queue's own files serve many: name the messages");
	else
		rc = settle_range(self, how, 0, UINT64_MAX);
	memory_leave(self->memory);
	return rc;
}

/* There is no disk to wait for. */
int memory_settle_sync(struct engine_object *queue, struct engine_done *done)
{
	int rc = memory_enter(memory_of(queue), ENGINE_QUEUE);

	(void)done;
	if (rc == 0)
		memory_leave(memory_of(queue)->memory);
	return rc;
}
