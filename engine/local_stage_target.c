/*
 * local_stage_target - what staging files are of, a topic or a queue, and where these two differ.
 *
 * A topic's messages go to a partition, by key or turn; a queue's to the lane of a priority, which may have to be made, so
 * that is done before stage.lock is taken (target_prepare). What follows from a message of a queue, that others are dropped
 * for length or expire, takes locks of other queues: it is done after stage.lock is given up (target_arrived).
 */
#include <errno.h>
#include <string.h>

#include "engine/local_queue.h"
#include "engine/local_queue_move.h"
#include "engine/local_stage.h"

static bool is_queue(const struct object *target)
{
	return target->kind == ENGINE_QUEUE;
}

/* ---- whether, and how ---- */

static struct object *of_topic(const struct producer *producer, struct stage_header *header)
{
	if (producer->key.len > ENGINE_KEY_MAX)
		return NULL;
	header->partition = producer->partition;
	header->has_key = producer->key.ptr != NULL;
	if (header->has_key) {
		header->key_len = (uint8_t)producer->key.len;
		memcpy(header->key, producer->key.ptr, producer->key.len);
	}
	return &producer->topic->object;
}

struct object *target_of_producer(struct engine_producer *handle, struct stage_header *ret_header)
{
	const struct producer *producer = (const struct producer *)handle;
	struct object *target;

	if (producer->of == ENGINE_TOPIC) {
		target = of_topic(producer, ret_header);
	} else {
		struct queue *queue = queue_of_producer(handle, &ret_header->partition);

		target = queue != NULL ? &queue->object : NULL;
	}
	if (target == NULL)
		return NULL;
	ret_header->target = target->id;
	ret_header->of_queue = is_queue(target);
	return target;
}

bool target_lingers(const struct object *target)
{
	int64_t batch_size;

	if (target_linger_ms(target, &batch_size) == 0)
		return false;
	if (!is_queue(target))
		return setting_value(target, SET_CLEANUP_POLICY) == POLICY_DELETE;
	return target->parent->kind == ENGINE_STORE &&
	       !queue_refuses(setting_value(target, SET_QUEUE_OVERFLOW), setting_value(target, SET_QUEUE_MAX_LENGTH),
		   setting_value(target, SET_QUEUE_MAX_LENGTH_BYTES));
}

bool target_has_failed(struct object *target, uint32_t index)
{
	uint32_t count = is_queue(target) ? ENGINE_PRIORITIES : atomic_load(&topic_of_object(target)->partitions);
	bool failed = false;

	for (uint32_t i = 0; i < count && !failed; i++) {
		if (!is_queue(target) && (index == ENGINE_ANY || index == i))
			failed = atomic_load(&topic_partition(topic_of_object(target), i)->failed);
		else if (is_queue(target) && queue_lane(queue_of_object(target), i) != NULL)
			failed = atomic_load(&queue_lane(queue_of_object(target), i)->failed);
	}
	return failed;
}

int64_t target_linger_ms(const struct object *target, int64_t *ret_batch_size)
{
	*ret_batch_size = setting_value(target, is_queue(target) ? SET_QUEUE_BATCH_SIZE : SET_BATCH_SIZE);
	return setting_value(target, is_queue(target) ? SET_QUEUE_LINGER_MS : SET_LINGER_MS);
}

size_t target_limit(const struct object *target)
{
	return (size_t)setting_value(target, is_queue(target) ? SET_QUEUE_MAX_MESSAGE_BYTES : SET_MAX_MESSAGE_BYTES);
}

/* ---- taking in ---- */

int target_prepare(struct object *target, uint32_t partition, uint32_t *ret_priority)
{
	struct lane *lane;
	int rc;

	if (!is_queue(target))
		return 0;
	rc = queue_open(queue_of_object(target));
	*ret_priority = queue_lower(queue_of_object(target), partition != ENGINE_ANY ? partition : 0);
	return rc == 0 ? queue_make_lane(queue_of_object(target), *ret_priority, &lane) : rc;
}

int target_append(
    struct object *target, uint32_t index, const struct engine_batch *batch, const struct append_note *note, bool lent)
{
	if (is_queue(target))
		return queue_take_in(queue_of_object(target), index, batch, note, lent);
	return partition_append(topic_partition(topic_of_object(target), index), batch, note, lent);
}

void target_arrived(struct object *target)
{
	if (is_queue(target))
		queue_arrived(queue_of_object(target));
}

void target_left(struct object *target)
{
	struct queue *queue = queue_of_object(target);

	if (!is_queue(target))
		return;
	pthread_mutex_lock(&queue->lock);
	queue_set_timer(queue); /* nobody may be using it any more */
	pthread_mutex_unlock(&queue->lock);
}

/* ---- who waits ---- */

bool target_is_awaited(struct object *target)
{
	return is_queue(target) ? atomic_load(&queue_of_object(target)->waiting) > 0
				: topic_is_awaited(topic_of_object(target));
}

bool target_has_waiters(struct object *target, const uint64_t woken[STAGE_WORDS])
{
	bool any = false, has = false;

	if (is_queue(target))
		return stage_has_any(woken) && target_is_awaited(target);
	for (uint32_t i = 0; i < ENGINE_PARTITIONS_MAX && !has; i++) {
		if (woken[i / 64] == 0) {
			i |= 63;
		} else if (woken[i / 64] >> (i % 64) & 1) {
			any = true;
			has = atomic_load(&topic_partition(topic_of_object(target), i)->waiters.count) > 0;
		}
	}
	return has || (any && atomic_load(&topic_of_object(target)->waiters.count) > 0);
}

/* As many as there are messages: those that nobody was woken for may be of several takes. */
static void wake_queue(struct queue *queue)
{
	struct wake_list wake = { 0 };

	pthread_mutex_lock(&queue->lock);
	queue_wake(queue, UINT64_MAX, &wake);
	pthread_mutex_unlock(&queue->lock);
	wake_run(&wake);
}

void target_wake(struct object *target, const uint64_t woken[STAGE_WORDS])
{
	if (is_queue(target)) {
		if (stage_has_any(woken))
			wake_queue(queue_of_object(target));
		return;
	}
	for (uint32_t i = 0; i < ENGINE_PARTITIONS_MAX; i++) {
		if (woken[i / 64] == 0)
			i |= 63;
		else if (woken[i / 64] >> (i % 64) & 1)
			partition_wake(topic_partition(topic_of_object(target), i));
	}
}

/* ---- its logs ---- */

static int find_lane(struct queue *queue, const struct stage_state *state, struct plog **ret_plog)
{
	struct lane *lane;
	int rc = queue_open(queue);

	if (rc < 0)
		return rc;
	lane = state->partition < ENGINE_PRIORITIES ? queue_lane(queue, state->partition) : NULL;
	if (lane == NULL || lane->log_id != state->log_id)
		return -ENOENT;
	*ret_plog = atomic_load(&lane->plog);
	return 0;
}

int target_find_log(struct object *target, const struct stage_state *state, struct plog **ret_plog)
{
	struct partition *partition;
	int rc;

	if (is_queue(target))
		return find_lane(queue_of_object(target), state, ret_plog);
	rc = topic_find(topic_of_object(target), state->partition, &partition);
	if (rc == 0 && partition->log_id != state->log_id)
		rc = -ENOENT;
	return rc == 0 ? partition_open_log(partition, ret_plog) : rc;
}

size_t target_sync_points(struct object *target, struct sync_point **points)
{
	uint32_t count;

	if (is_queue(target))
		return queue_sync_points(queue_of_object(target), points);
	count = atomic_load(&topic_of_object(target)->partitions);
	for (uint32_t i = 0; i < count; i++)
		points[i] = &topic_partition(topic_of_object(target), i)->sync;
	return count;
}
