/*
 * memory_queue_produce - taking batches in.
 *
 * A send checks and copies every message, then looks whether all of them have room, then puts them in, which can no longer
 * fail: so a batch is taken whole or not at all.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/memory_queue.h"

struct memory_queue_producer {
	struct memory_object *queue; /* a reference; first, as in all producers: see memory_calls.c */
	uint32_t priority;           /* or ENGINE_ANY */
	bool head;
};

static struct memory_queue_producer *producer_of(struct engine_producer *producer)
{
	return (struct memory_queue_producer *)producer;
}

int memory_queue_producer_open(
    struct engine_object *queue, uint32_t priority, bool head, struct engine_producer **ret_producer)
{
	struct memory_object *self = memory_of(queue);
	struct memory_queue_producer *producer = calloc(1, sizeof(*producer));
	int rc = producer != NULL ? memory_enter(self, ENGINE_QUEUE) : -ENOMEM;

	if (rc == 0 && priority != ENGINE_ANY && priority >= ENGINE_PRIORITIES) {
		rc = engine_explain(-EINVAL, "priorities are 0 to %u", ENGINE_PRIORITIES - 1);
		memory_leave(self->memory);
	}
	if (rc < 0) {
		free(producer);
		return rc;
	}
	*producer = (struct memory_queue_producer){ self, priority, head };
	self->refs++;
	self->queue->producers++;
	memory_leave(self->memory);
	*ret_producer = (struct engine_producer *)producer;
	return 0;
}

void memory_queue_producer_close(struct engine_producer *producer)
{
	struct memory_queue_producer *self = producer_of(producer);
	struct memory_engine *memory = self->queue->memory;

	memory_lock_quietly(memory);
	self->queue->queue->producers--;
	self->queue->queue->used_mono = clock_mono_ms();
	memory_look_again(self->queue);
	memory_unref(self->queue);
	memory_leave(memory);
	free(self);
}

/* ---- sending ---- */

static uint32_t choose_priority(const struct memory_queue_producer *producer, const struct engine_props *props)
{
	if (producer->priority != ENGINE_ANY)
		return producer->priority;
	return props->priority >= 0 ? (uint32_t)props->priority : 0;
}

/* One message of the batch, checked and copied. */
static int make_item(struct memory_object *queue, const char *data, uint32_t len, const struct engine_props *props,
    const struct engine_batch *batch, bool again, struct memory_item **ret_item)
{
	struct memory_item *item;
	int rc = again ? 0 : memory_check_size(queue, len);

	if (rc < 0)
		return rc;
	item = calloc(1, sizeof(*item));
	if (item == NULL)
		return -ENOMEM;
	rc = memory_make_message(data, len, props, (struct engine_span){ NULL, 0 }, batch, &item->message);
	if (rc < 0) {
		free(item);
		return rc;
	}
	item->message.batch = queue->memory->next_batch;
	*ret_item = item;
	return 0;
}

/* All messages of the batch as a list, made so far: the caller frees them if it fails. */
static int make_items(
    struct memory_object *queue, const struct engine_batch *batch, bool again, struct memory_item **ret_first)
{
	const char *data = batch->data;
	size_t left = batch->len;
	struct memory_item **link = ret_first;

	for (uint32_t i = 0; i < batch->count; i++) {
		const struct engine_props *props = batch->props != NULL ? &batch->props[i] : NULL;
		uint32_t len = 0;
		int rc = memory_payload_length(batch, i, data, left, &len);

		if (rc == 0)
			rc = make_item(queue, data, len, props, batch, again, link);
		if (rc < 0)
			return rc;
		link = &(*link)->next;
		data += len + 1;
		left -= len + 1;
	}
	return left == 0 ? 0 : -EINVAL;
}

static int64_t ready_at(const struct memory_item *item)
{
	int64_t at = item->message.batch_ts_ms, delay = item->message.props.delay_ms;

	return delay > 0 && __builtin_add_overflow(at, delay, &at) ? INT64_MAX : at;
}

static bool is_delayed(const struct memory_item *item)
{
	return item->message.props.delay_ms > 0 && ready_at(item) > clock_wall_ms();
}

/* Does what is full go to dead letters? */
static bool dead_letters_excess(const struct memory_object *queue)
{
	return strcmp(memory_setting(queue, "overflow"), "reject-publish-dlx") == 0 &&
	       strcmp(memory_setting(queue, "dead.letter.to"), "none") != 0;
}

static int explain_full(const struct memory_object *queue)
{
	return engine_explain(-EDQUOT, "the queue %s is full: %" PRIu64 " messages of %" PRIu64 " bytes are ready",
	    queue->name, queue->queue->ready_count, queue->queue->ready_bytes);
}

void memory_queue_weigh(const struct memory_item *first, uint64_t *count, uint64_t *bytes)
{
	for (const struct memory_item *item = first; item != NULL; item = item->next) {
		*count += !is_delayed(item);
		*bytes += is_delayed(item) ? 0 : item->message.len;
	}
}

int memory_queue_check_weight(const struct memory_object *queue, uint64_t count, uint64_t bytes)
{
	if (!memory_refuses(queue) || dead_letters_excess(queue))
		return 0;
	return count == 0 || memory_has_room(queue, count, bytes) ? 0 : explain_full(queue);
}

static int check_room(const struct memory_object *queue, const struct memory_item *first)
{
	uint64_t count = 0, bytes = 0;

	memory_queue_weigh(first, &count, &bytes);
	return memory_queue_check_weight(queue, count, bytes);
}

int memory_queue_check_room(struct memory_object *queue, uint64_t bytes, const struct engine_props *props)
{
	if (!memory_refuses(queue) || dead_letters_excess(queue) || memory_has_room(queue, 1, bytes))
		return 0;
	if (props != NULL && (props->delay_ms > 0 || memory_dedup_has(queue, props)))
		return 0;
	return explain_full(queue);
}

int memory_queue_room(struct engine_object *queue, uint64_t bytes, const struct engine_props *props)
{
	struct memory_object *self = memory_of(queue);
	int rc = memory_enter(self, ENGINE_QUEUE);

	if (rc < 0)
		return rc;
	rc = memory_queue_check_room(self, bytes, props);
	memory_leave(self->memory);
	return rc;
}

static void put_in(const struct memory_queue_producer *producer, struct memory_item *item)
{
	struct memory_object *queue = producer->queue;
	bool excess = dead_letters_excess(queue) && !is_delayed(item) && !memory_has_room(queue, 1, item->message.len);

	item->id = ++queue->memory->last_message_id;
	HASH_ADD(by_id, queue->memory->items, id, sizeof(item->id), item);
	item->alive_ms = ready_at(item);
	memory_item_place(item, queue, choose_priority(producer, &item->message.props), producer->head);
	queue->queue->totals.published++;
	queue->published++;
	queue->published_bytes += item->message.len + 1;
	if (excess)
		memory_die(item, ENGINE_MAXLEN);
	else if (is_delayed(item))
		memory_make_delayed(item, ready_at(item));
	else
		memory_put_ready(item);
}

static void drop_all(struct memory_item *first)
{
	struct memory_item *next;

	for (; first != NULL; first = next) {
		next = first->next;
		memory_item_free(first);
	}
}

static void put_all(const struct memory_queue_producer *producer, struct memory_item *first)
{
	struct memory_item *next;

	for (; first != NULL; first = next) {
		next = first->next;
		first->next = NULL;
		put_in(producer, first);
	}
	memory_sweep_one(producer->queue); /* of what was made long ago the time may be over */
	producer->queue->memory->next_batch++;
	memory_queue_used(producer->queue);
}

int memory_queue_begin(
    struct memory_object *queue, const struct engine_batch *batch, bool again, struct memory_item **ret_first)
{
	struct engine_batch stamped = *batch;
	struct memory_item *first = NULL;
	int rc;

	if (stamped.ts_ms < 0)
		stamped.ts_ms = clock_wall_ms();
	rc = make_items(queue, &stamped, again, &first);
	if (rc == 0 && !again)
		rc = check_room(queue, first);
	if (rc == 0)
		*ret_first = first;
	else
		drop_all(first);
	return rc;
}

static int send_locked(struct memory_queue_producer *producer, const struct engine_batch *batch)
{
	struct memory_item *first = NULL;
	int rc = memory_queue_begin(producer->queue, batch, false, &first);

	if (rc == 0)
		put_all(producer, first);
	return rc;
}

void memory_queue_end(struct memory_object *queue, struct memory_item *first, bool head, bool take)
{
	const struct memory_queue_producer producer = { queue, ENGINE_ANY, head };

	if (take)
		put_all(&producer, first);
	else
		drop_all(first);
}

int memory_queue_producer_send(struct engine_producer *producer, const struct engine_batch *batch)
{
	struct memory_queue_producer *self = producer_of(producer);
	struct dedup_pass pass;
	int rc = memory_enter(self->queue, ENGINE_QUEUE);

	if (rc < 0)
		return rc;
	if (self->queue->memory->read_only)
		rc = -EROFS;
	else
		rc = batch->count > 0 ? memory_dedup_begin(self->queue, batch, &pass) : -EINVAL;
	if (rc == 0) {
		rc = pass.batch.count > 0 ? send_locked(self, &pass.batch) : 0;
		memory_dedup_end(self->queue, &pass, rc);
	}
	memory_leave(self->queue->memory);
	return rc;
}

int memory_queue_producer_sync(struct engine_producer *producer)
{
	struct memory_queue_producer *self = producer_of(producer);
	int rc = memory_enter(self->queue, ENGINE_QUEUE);

	if (rc == 0)
		memory_leave(self->queue->memory);
	return rc;
}

/* As it was produced, but for what belongs to queues. */
int memory_bury(struct memory_object *dlq, const struct memory_message *message, const char *name)
{
	const struct engine_batch batch = { .cred = message->cred, .ts_ms = clock_wall_ms() };
	struct engine_props props = message->props;
	struct memory_item *item = calloc(1, sizeof(*item));
	int rc;

	if (item == NULL)
		return -ENOMEM;
	props.priority = -1;
	props.ttl_ms = props.delay_ms = -1;
	rc = memory_make_message(
	    message->data, message->len, &props, (struct engine_span){ NULL, 0 }, &batch, &item->message);
	if (rc < 0) {
		free(item);
		return rc;
	}
	item->message.batch = dlq->memory->next_batch++;
	item->id = ++dlq->memory->last_message_id;
	HASH_ADD(by_id, dlq->memory->items, id, sizeof(item->id), item);
	item->alive_ms = batch.ts_ms;
	memory_item_place(item, dlq, 0, false);
	memory_note_death(item, name, ENGINE_REJECTED);
	dlq->queue->totals.published++;
	dlq->published++;
	dlq->published_bytes += item->message.len + 1;
	memory_make_ready(item);
	memory_queue_used(dlq);
	return 0;
}
