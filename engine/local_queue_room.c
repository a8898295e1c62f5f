/*
 * local_queue_room - is there room for more in a queue that has limits, and refuses what is beyond them? Room that is claimed
 * (queue_claim() in local_queue_produce.c) counts as taken.
 */
#include <errno.h>
#include <inttypes.h>

#include "engine/local_queue_send.h"

bool queue_has_room(const struct queue *queue, uint64_t count, uint64_t bytes)
{
	int64_t length = setting_value(&queue->object, SET_QUEUE_MAX_LENGTH);
	int64_t length_bytes = setting_value(&queue->object, SET_QUEUE_MAX_LENGTH_BYTES);

	return (length < 0 || queue->messages[SPAN_READY] + queue->claimed_messages + count <= (uint64_t)length) &&
	       (length_bytes < 0 || queue->bytes[SPAN_READY] + queue->claimed_bytes + bytes <= (uint64_t)length_bytes);
}

int queue_explain_full(struct queue *queue)
{
	char name[ENGINE_NAME_MAX + 1];

	object_name(&queue->object, name);
	return engine_explain(-EDQUOT, "the queue %s is full: %" PRIu64 " messages of %" PRIu64 " bytes are ready",
	    name, queue->messages[SPAN_READY], queue->bytes[SPAN_READY]);
}

bool queue_refuses(int64_t overflow, int64_t length, int64_t length_bytes)
{
	return overflow != OVERFLOW_DROP_HEAD && (length >= 0 || length_bytes >= 0);
}

void queue_end_claim(struct queue *queue, const struct queue_claim *claim)
{
	queue->claimed_messages -= claim->messages;
	queue->claimed_bytes -= claim->bytes;
}

void queue_unclaim(struct queue *queue, const struct queue_claim *claim)
{
	pthread_mutex_lock(&queue->lock);
	queue_end_claim(queue, claim);
	pthread_mutex_unlock(&queue->lock);
}

int queue_has_room_for(struct engine_object *base, uint64_t bytes, const struct engine_props *props)
{
	struct queue *queue = NULL, *target = NULL;
	int rc = queue_enter_to_produce(base, &queue);
	int64_t overflow;

	if (rc < 0)
		return rc;
	overflow = setting_value(&queue->object, SET_QUEUE_OVERFLOW);
	if (overflow == OVERFLOW_REJECT_DLX)
		target = queue_dead_target(queue);
	if (target != NULL)
		object_put(&target->object);
	if (overflow == OVERFLOW_DROP_HEAD || target != NULL || (props != NULL && props->delay_ms > 0))
		return 0;
	pthread_mutex_lock(&queue->lock);
	rc = queue_has_room(queue, 1, bytes) ? 0 : queue_explain_full(queue);
	pthread_mutex_unlock(&queue->lock);
	if (rc == 0 || props == NULL)
		return rc;
	int has = local_dedup_has(&queue->object, props);
	return has < 0 ? has : has > 0 ? 0 : rc;
}
