/*
 * memory_produce - taking batches in, and dealing them to partitions.
 *
 * A send has three steps: every message is checked and given its partition; all are copied and room is made for them;
 * then they are appended, which can no longer fail. So a batch is taken whole or not at all. The running turn of unkeyed
 * messages is worked out on a copy and kept only with the last step.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/memory_internal.h"
#include "engine/partitioner.h"

/* A run of unkeyed messages that go to one partition. */
struct turn {
	bool running;
	uint32_t partition;
	uint64_t bytes;
	int64_t since_ms; /* clock_mono_ms() */
};

struct memory_producer {
	struct memory_object *topic; /* a reference; first, as in all producers: see memory_calls.c */
	uint32_t partition;          /* or ENGINE_ANY */
	struct engine_span key;      /* owned; ptr NULL if there is none */
	struct turn turn;
};

/* One send on its way through the three steps. */
struct memory_sending {
	struct memory_producer *producer;
	const struct engine_batch *batch;
	bool again;                      /* its size does not matter */
	struct engine_batch stamped;     /* the batch with its time resolved */
	struct turn turn;                /* as it will be */
	uint32_t next_turn;              /* of the topic, as it will be */
	struct memory_message *messages; /* batch->count of them, those made so far */
	uint32_t made;
	uint32_t *partitions; /* of each message */
	uint32_t *counts;     /* by partition */
	bool promised;        /* of the partitions, that they have room for these */
};

static struct memory_producer *producer_of(struct engine_producer *producer)
{
	return (struct memory_producer *)producer;
}

int memory_producer_open(
    struct engine_object *topic, uint32_t partition, struct engine_span key, struct engine_producer **ret_producer)
{
	struct memory_object *self = memory_of(topic);
	struct memory_producer *producer = calloc(1, sizeof(*producer));
	char *key_copy = key.ptr != NULL ? malloc(key.len + 1) : NULL;
	int rc;

	if (producer == NULL || (key.ptr != NULL && key_copy == NULL)) {
		rc = -ENOMEM;
		goto err;
	}
	rc = memory_enter(self, ENGINE_TOPIC);
	if (rc < 0)
		goto err;
	rc = partition != ENGINE_ANY ? memory_check_partition(self, partition) : 0;
	if (rc < 0) {
		memory_leave(self->memory);
		goto err;
	}
	if (key_copy != NULL)
		memcpy(key_copy, key.ptr, key.len);
	producer->topic = self;
	producer->partition = partition;
	producer->key = (struct engine_span){ key_copy, key.len };
	self->refs++;
	self->producers++;
	memory_leave(self->memory);
	*ret_producer = (struct engine_producer *)producer;
	return 0;
err:
	free(key_copy);
	free(producer);
	return rc;
}

void memory_producer_close(struct engine_producer *producer)
{
	struct memory_producer *self = producer_of(producer);
	struct memory_engine *memory;

	if (producer == NULL)
		return;
	memory = self->topic->memory;
	memory_lock_quietly(memory);
	self->topic->producers--;
	memory_unref(self->topic);
	memory_leave(memory);
	free((char *)self->key.ptr);
	free(self);
}

/* ---- step 1: checking, and choosing partitions ---- */

static uint32_t deal(struct memory_sending *s, uint32_t len)
{
	const struct memory_object *topic = s->producer->topic;

	if (s->turn.running && s->turn.bytes >= (uint64_t)memory_setting_int(topic, "batch.size"))
		s->turn.running = false;
	if (!s->turn.running) {
		s->turn = (struct turn){ true, s->next_turn % topic->partition_count, 0, clock_mono_ms() };
		s->next_turn = (s->turn.partition + 1) % topic->partition_count;
	}
	s->turn.bytes += len + 1;
	return s->turn.partition;
}

static int choose_partition(
    struct memory_sending *s, uint32_t len, const struct engine_props *props, uint32_t *ret_partition)
{
	const struct memory_object *topic = s->producer->topic;
	struct engine_span key = props != NULL && props->key.ptr != NULL ? props->key : s->producer->key;
	uint32_t asked = props != NULL ? props->partition : ENGINE_ANY;

	if (asked != ENGINE_ANY && memory_check_partition(topic, asked) < 0)
		return -ERANGE;
	if (s->producer->partition != ENGINE_ANY)
		asked = s->producer->partition;
	if (asked != ENGINE_ANY)
		*ret_partition = asked;
	else if (key.ptr != NULL)
		*ret_partition = partitioner_pick(key.ptr, key.len, topic->partition_count);
	else
		*ret_partition = deal(s, len);
	return 0;
}

int memory_payload_length(
    const struct engine_batch *batch, uint32_t i, const char *data, size_t left, uint32_t *ret_len)
{
	const char *end;

	if (batch->lengths != NULL) {
		*ret_len = batch->lengths[i];
		return *ret_len < left && data[*ret_len] == '\n' ? 0 : -EINVAL;
	}
	end = memchr(data, '\n', left);
	if (end == NULL || (size_t)(end - data) > UINT32_MAX)
		return -EINVAL;
	*ret_len = (uint32_t)(end - data);
	return 0;
}

int memory_check_size(const struct memory_object *object, uint64_t len)
{
	uint64_t max_bytes = (uint64_t)memory_setting_int(object, "max.message.bytes");

	if (len <= max_bytes)
		return 0;
	return engine_explain(-EMSGSIZE,
	    "a message of %" PRIu64 " bytes is over max.message.bytes, which is %" PRIu64 " for the %s %s", len,
	    max_bytes, engine_kind_word(object->kind), object->name);
}

/* Step 1 and the copying of step 2 in one go, message by message. */
static int prepare(struct memory_sending *s)
{
	const struct engine_batch *batch = s->batch;
	const char *data = batch->data;
	size_t left = batch->len;

	for (uint32_t i = 0; i < batch->count; i++) {
		const struct engine_props *props = batch->props != NULL ? &batch->props[i] : NULL;
		uint32_t len = 0;
		int rc = memory_payload_length(batch, i, data, left, &len);

		if (rc == 0 && !s->again)
			rc = memory_check_size(s->producer->topic, len);
		if (rc == 0)
			rc = choose_partition(s, len, props, &s->partitions[i]);
		if (rc == 0)
			rc = memory_make_message(data, len, props, s->producer->key, &s->stamped, &s->messages[i]);
		if (rc < 0)
			return rc;
		s->made++;
		rc = memory_check_key(s->producer->topic, &s->messages[i]);
		if (rc < 0)
			return rc;
		s->counts[s->partitions[i]]++;
		data += len + 1;
		left -= len + 1;
	}
	return left == 0 ? 0 : -EINVAL;
}

/* ---- steps 2 and 3 ---- */

static int make_room(struct memory_sending *s)
{
	struct memory_object *topic = s->producer->topic;

	for (uint32_t p = 0; p < topic->partition_count; p++) {
		struct memory_partition *partition = &topic->partitions[p];

		if (s->counts[p] > 0 && memory_reserve(partition, partition->promised + s->counts[p]) < 0)
			return -ENOMEM;
	}
	for (uint32_t p = 0; p < topic->partition_count; p++)
		topic->partitions[p].promised += s->counts[p];
	s->promised = true;
	return 0;
}

static void append_all(struct memory_sending *s)
{
	struct memory_object *topic = s->producer->topic;

	for (uint32_t i = 0; i < s->made; i++)
		memory_append(&topic->partitions[s->partitions[i]], &s->messages[i]);
	s->made = 0;
	for (uint32_t p = 0; p < topic->partition_count; p++)
		memory_end_batch(&topic->partitions[p]);
	topic->published += s->batch->count;
	topic->published_bytes += s->batch->len;
	topic->mtime_ms = clock_wall_ms();
	topic->next_turn = s->next_turn;
	s->producer->turn = s->turn;
	memory_expire(topic);
	memory_wake_topic(topic);
}

/* Steps 1 and 2, under the lock. linger.ms ends a turn by its age: at 0 every send has a turn of its own. */
static int begin(struct memory_sending *s)
{
	struct memory_object *topic = s->producer->topic;
	int rc;

	s->stamped = *s->batch;
	if (s->stamped.ts_ms < 0)
		s->stamped.ts_ms = clock_wall_ms();
	s->turn = s->producer->turn;
	s->next_turn = topic->next_turn;
	if (s->turn.running && clock_mono_ms() - s->turn.since_ms >= memory_setting_int(topic, "linger.ms"))
		s->turn.running = false;
	s->messages = calloc(s->batch->count, sizeof(*s->messages));
	s->partitions = calloc(s->batch->count, sizeof(*s->partitions));
	s->counts = calloc(topic->partition_count, sizeof(*s->counts));
	rc = s->messages != NULL && s->partitions != NULL && s->counts != NULL ? prepare(s) : -ENOMEM;
	return rc == 0 ? make_room(s) : rc;
}

static void release(struct memory_sending *s)
{
	for (uint32_t p = 0; s->promised && p < s->producer->topic->partition_count; p++)
		s->producer->topic->partitions[p].promised -= s->counts[p];
	while (s->made > 0)
		free(s->messages[--s->made].block);
	free(s->counts);
	free(s->partitions);
	free(s->messages);
}

static int send_locked(struct memory_sending *s)
{
	int rc = begin(s);

	if (rc == 0)
		append_all(s);
	release(s);
	return rc;
}

/* ---- in two steps, for exchanges ---- */

int memory_topic_begin(
    struct memory_object *topic, const struct engine_batch *batch, bool again, struct memory_sending **ret_sending)
{
	struct memory_sending *s = calloc(1, sizeof(*s) + sizeof(struct memory_producer));
	int rc;

	if (s == NULL)
		return -ENOMEM;
	s->producer = (struct memory_producer *)(s + 1);
	s->producer->topic = topic;
	s->producer->partition = ENGINE_ANY;
	s->batch = batch;
	s->again = again;
	rc = begin(s);
	if (rc < 0) {
		release(s);
		free(s);
		return rc;
	}
	*ret_sending = s;
	return 0;
}

void memory_topic_end(struct memory_sending *s, bool take)
{
	if (take)
		append_all(s);
	release(s);
	free(s);
}

int memory_producer_send(struct engine_producer *producer, const struct engine_batch *batch, struct engine_done *done)
{
	struct memory_sending sending = { .producer = producer_of(producer), .batch = batch };
	struct memory_object *topic = sending.producer->topic;
	struct dedup_pass pass;
	int rc = memory_enter(topic, ENGINE_TOPIC);

	(void)done; /* what is in memory is taken at once */
	if (rc < 0)
		return rc;
	rc = batch->count > 0 ? memory_dedup_begin(topic, batch, &pass) : -EINVAL;
	if (rc == 0) {
		sending.batch = &pass.batch;
		rc = pass.batch.count > 0 ? send_locked(&sending) : 0;
		memory_dedup_end(topic, &pass, rc);
	}
	memory_leave(topic->memory);
	return rc;
}

/* Ends the turn; there is no disk to wait for. */
int memory_producer_sync(struct engine_producer *producer, struct engine_done *done)
{
	struct memory_producer *self = producer_of(producer);
	int rc = memory_enter(self->topic, ENGINE_TOPIC);

	(void)done;
	if (rc < 0)
		return rc;
	self->turn.running = false;
	memory_leave(self->topic->memory);
	return 0;
}
