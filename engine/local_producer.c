/*
 * local_producer - taking batches in, and dealing them to partitions.
 *
 * A send first checks everything that the user can get wrong, in all of its messages, and finds the partition of each;
 * then it appends, one batch per partition. Most sends go to one partition as they came and copy nothing; a batch of
 * several partitions is sorted by them first, so that it stays in order within each.
 *
 * Messages without a key are dealt out in turns: a turn sticks to a partition until it holds batch.size bytes or is
 * linger.ms old, and the next one, of whichever producer, takes the next partition.
 *
 * Producers of different partitions wait for no lock of each other: a producer has its own, a partition has its own, the
 * number of the next turn is an atomic, and that of the reserve is taken for reading.
 *
 * A batch for several partitions is noted in the journal first, so that all of them get their part or none does
 * (local_whole.h).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/io.h"
#include "engine/local_commit.h"
#include "engine/local_exchange.h"
#include "engine/local_queue.h"
#include "engine/local_stage.h"
#include "engine/local_tx.h"
#include "engine/local_whole.h"
#include "engine/partitioner.h"

static struct producer *producer_of(struct engine_producer *handle)
{
	return (struct producer *)handle;
}

/* ---- opening and closing ---- */

/* Nothing that is sent there could be taken: who opens it is told, not only who writes. EIO */
static int check_disk(struct topic *topic, uint32_t index)
{
	uint32_t partitions = atomic_load(&topic->partitions), failed = 0;

	if (index != ENGINE_ANY && atomic_load(&topic_partition(topic, index)->failed))
		return engine_explain(-EIO, "partition %" PRIu32 " takes no more messages: its disk failed", index);
	for (uint32_t i = 0; i < partitions && index == ENGINE_ANY; i++)
		failed += atomic_load(&topic_partition(topic, i)->failed);
	if (failed > 0 && failed == partitions)
		return engine_explain(-EIO, "the topic takes no more messages: its disk failed");
	return 0;
}

int local_producer_open(
    struct engine_object *base, uint32_t index, struct engine_span key, struct engine_producer **ret_producer)
{
	struct partition *partition;
	struct object *object = NULL;
	struct producer *producer;
	char *copy = NULL;
	int rc;

	if (object_of(base)->kind == ENGINE_EXCHANGE)
		return route_producer_open(base, index, key, ret_producer);
	rc = object_enter(base, ENGINE_TOPIC, &object);
	if (rc == 0 && index != ENGINE_ANY)
		rc = topic_find(topic_of_object(object), index, &partition);
	if (rc == 0)
		rc = check_disk(topic_of_object(object), index);
	if (rc < 0)
		return rc;
	producer = calloc(1, sizeof(*producer));
	if (producer == NULL)
		return -ENOMEM;
	if (key.ptr != NULL) {
		copy = malloc(key.len + 1);
		if (copy == NULL)
			goto err_free;
		memcpy(copy, key.ptr, key.len);
	}
	producer->of = ENGINE_TOPIC;
	producer->topic = topic_of_object(object_ref(object));
	producer->partition = index;
	producer->key = (struct engine_span){ copy, key.len };
	pthread_mutex_init(&producer->lock, NULL);
	atomic_fetch_add(&producer->topic->producers, 1);
	*ret_producer = (struct engine_producer *)producer;
	return 0;

err_free:
	free(producer);
	return -ENOMEM;
}

void local_producer_close(struct engine_producer *handle)
{
	struct producer *producer = producer_of(handle);

	if (producer == NULL)
		return;
	if (producer->of == ENGINE_QUEUE) {
		queue_producer_close(handle);
		return;
	}
	if (producer->of == ENGINE_TX) {
		tx_producer_close(handle);
		return;
	}
	if (producer->of == ENGINE_EXCHANGE) {
		route_producer_close(handle);
		return;
	}
	atomic_fetch_sub(&producer->topic->producers, 1);
	object_put(&producer->topic->object);
	pthread_mutex_destroy(&producer->lock);
	free((char *)(uintptr_t)producer->key.ptr);
	free(producer);
}

/* ---- appending to one partition ---- */

static bool is_compacted(const struct topic *topic)
{
	return setting_value(&topic->object, SET_CLEANUP_POLICY) != POLICY_DELETE;
}

/* Sees to it that the partition is synced and cleaned up in time. partition.lock */
static void plan_upkeep(struct partition *partition, uint64_t first_unsynced, size_t len)
{
	struct object *object = &partition->topic->object;
	struct local *local = local_of(object);
	int64_t flush_ms = setting_value(object, SET_FLUSH_MS),
		flush_messages = setting_value(object, SET_FLUSH_MESSAGES);
	int64_t retention_bytes = setting_value(object, SET_RETENTION_BYTES), now_ms = clock_mono_ms();

	if (first_unsynced == 0) {
		partition->unsynced_since_ms = now_ms;
		if (flush_ms >= 0)
			timer_set_earlier(local, &partition->flush_timer, now_ms + flush_ms);
	}
	if (flush_messages >= 0 && partition->unsynced_messages >= (uint64_t)flush_messages &&
	    !partition->flush_asked) {
		partition->flush_asked = true;
		flusher_request(local, &partition->sync, NULL);
	}
	partition->retain_bytes += len;
	if (is_compacted(partition->topic) &&
	    partition->retain_bytes >= (uint64_t)setting_value(object, SET_SEGMENT_BYTES)) {
		partition->retain_bytes = 0;
		cleaner_request(local, partition->topic);
	}
	if (retention_bytes >= 0 && partition->retain_bytes >= (uint64_t)setting_value(object, SET_SEGMENT_BYTES)) {
		partition->retain_bytes = 0;
		partition->retain_set = true;
		timer_set_earlier(local, &partition->retain_timer, now_ms);
	} else if (!partition->retain_set) {
		partition->retain_set = true;
		timer_set_earlier(local, &partition->retain_timer, now_ms + retain_delay(object));
	}
}

/* A checkpoint of the journal will have to sync it. */
static void note_marked(struct partition *partition)
{
	atomic_store(&partition->marked, true);
	atomic_store(&partition->topic->marked, true);
}

/* partition.lock */
static int append_locked(struct partition *partition, struct plog *plog, const struct engine_batch *batch,
    const struct append_note *note, bool lent)
{
	struct object *object = &partition->topic->object;
	uint64_t segment_bytes = (uint64_t)setting_value(object, SET_SEGMENT_BYTES), offset, before, pos;
	struct engine_partition_stat stat;
	int rc = lent ? 0 : reserve_enter(local_of(object));

	if (rc < 0)
		return rc;
	if (note != NULL) {
		plog_stat(plog, &stat);
		rc = note->begin(note->ctx, partition->log_id, partition->index, stat.end, &pos);
		if (rc == 0) {
			atomic_store(&partition->staged_pos, pos);
			plog_follow(plog);
		}
	}
	if (rc == 0) {
		rc = plog_append(plog, batch, 0, segment_bytes, &offset);
		if (rc < 0 && note != NULL)
			note->cancel(note->ctx);
	}
	if (!lent)
		reserve_leave(local_of(object));
	if (rc < 0)
		return rc;
	if (batch->props != NULL && batch->props[0].mark != 0)
		note_marked(partition);
	before = partition->unsynced_messages;
	partition->unsynced_messages += batch->count;
	partition->published_total += batch->count;
	partition->published_bytes_total += batch->len;
	partition->produced_ms = clock_wall_ms();
	plan_upkeep(partition, before, batch->len);
	return 0;
}

int partition_append(
    struct partition *partition, const struct engine_batch *batch, const struct append_note *note, bool lent)
{
	struct plog *plog;
	int rc = partition_open_log(partition, &plog);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&partition->lock);
	while (partition->frozen)
		pthread_cond_wait(&partition->changed, &partition->lock);
	rc = partition->dead ? -EIDRM : append_locked(partition, plog, batch, note, lent);
	pthread_mutex_unlock(&partition->lock);
	if (rc == -EROFS && engine_reason()[0] == '\0')
		return engine_explain(
		    rc, "partition %" PRIu32 " takes no more messages: its disk failed", partition->index);
	return rc;
}

void partition_wake(struct partition *partition)
{
	wait_list_wake(&partition->waiters, NULL, partition->index);
	wait_list_wake(&partition->topic->waiters, NULL, partition->index);
}

static int append(struct partition *partition, const struct engine_batch *batch)
{
	int rc = partition_append(partition, batch, NULL, false);

	if (rc == 0)
		partition_wake(partition);
	return rc;
}

/* ---- turns ---- */

/* The partition of len more bytes without a key. producer.lock */
static uint32_t deal(struct producer *producer, size_t len)
{
	struct topic *topic = producer->topic;
	int64_t batch_size = setting_value(&topic->object, SET_BATCH_SIZE);

	if (producer->turn_runs && producer->turn_bytes >= (uint64_t)batch_size)
		producer->turn_runs = false;
	if (!producer->turn_runs) {
		producer->turn_runs = true;
		producer->turn_partition = atomic_fetch_add(&topic->turn, 1) % atomic_load(&topic->partitions);
		producer->turn_bytes = 0;
		producer->turn_began_ms = clock_mono_ms();
	}
	producer->turn_bytes += len;
	return producer->turn_partition;
}

/* A turn ends by its age between sends only, so that with linger.ms 0 every send is one. producer.lock */
static void end_old_turn(struct producer *producer)
{
	int64_t linger_ms = setting_value(&producer->topic->object, SET_LINGER_MS);

	if (producer->turn_runs && clock_mono_ms() - producer->turn_began_ms >= linger_ms)
		producer->turn_runs = false;
}

size_t producer_room(struct producer *producer)
{
	uint64_t batch_size = (uint64_t)setting_value(&producer->topic->object, SET_BATCH_SIZE), used = 0;

	if (producer->partition != ENGINE_ANY || producer->key.ptr != NULL ||
	    atomic_load(&producer->topic->partitions) == 1)
		return SIZE_MAX;
	pthread_mutex_lock(&producer->lock);
	end_old_turn(producer);
	if (producer->turn_runs && producer->turn_bytes < batch_size)
		used = producer->turn_bytes;
	pthread_mutex_unlock(&producer->lock);
	return (size_t)(batch_size - used);
}

uint32_t producer_choose(struct producer *producer, size_t len)
{
	uint32_t partitions = atomic_load(&producer->topic->partitions), index = 0;

	if (producer->partition != ENGINE_ANY)
		return producer->partition;
	if (producer->key.ptr != NULL)
		return partitioner_pick(producer->key.ptr, producer->key.len, partitions);
	if (partitions > 1) {
		pthread_mutex_lock(&producer->lock);
		index = deal(producer, len);
		pthread_mutex_unlock(&producer->lock);
	}
	return index;
}

/* ---- checking ---- */

static int refuse_keyless(void)
{
	return engine_explain(-EINVAL, "a message of a compacted topic needs a key: write to keys/KEY, or to in.json");
}

/* Length of the payload at data, of which left bytes are in the batch. EINVAL: the batch contradicts itself. */
static int payload_length(
    const struct engine_batch *batch, uint32_t i, const char *data, size_t left, uint32_t *ret_len)
{
	const char *end;
	size_t len;

	if (batch->lengths != NULL) {
		*ret_len = batch->lengths[i];
		return *ret_len < left && data[*ret_len] == '\n' ? 0 : -EINVAL;
	}
	end = left > 0 ? memchr(data, '\n', left) : NULL;
	len = end != NULL ? (size_t)(end - data) : SIZE_MAX;
	if (len > UINT32_MAX)
		return -EINVAL;
	*ret_len = (uint32_t)len;
	return 0;
}

/* Checks every message. ret_lengths may be NULL. */
static int check_batch(struct topic *topic, int64_t max_bytes, const struct engine_batch *batch, uint32_t *ret_lengths)
{
	const char *data = batch->data;
	size_t left = batch->len;

	for (uint32_t i = 0; i < batch->count; i++) {
		uint32_t len = 0;
		int rc = payload_length(batch, i, data, left, &len);

		if (rc < 0)
			return rc;
		if (len > max_bytes)
			return object_explain_size(&topic->object, len, max_bytes);
		if (ret_lengths != NULL)
			ret_lengths[i] = len;
		data += (size_t)len + 1;
		left -= (size_t)len + 1;
	}
	return batch->count > 0 && left == 0 ? 0 : -EINVAL;
}

/* ---- a batch as it came ---- */

/* Is the batch for one partition, and can it be stored as it is? Then *ret_index is that partition. */
static bool is_plain(struct producer *producer, const struct engine_batch *batch, uint32_t *ret_index)
{
	struct topic *topic = producer->topic;
	bool plain = true;

	if (batch->props != NULL || producer->key.ptr != NULL)
		return false;
	*ret_index = producer->partition;
	if (producer->partition != ENGINE_ANY)
		return true;
	pthread_mutex_lock(&producer->lock);
	end_old_turn(producer);
	if (atomic_load(&topic->partitions) == 1)
		*ret_index = 0;
	else if ((producer->turn_runs ? producer->turn_bytes : 0) + batch->len <=
		 (uint64_t)setting_value(&topic->object, SET_BATCH_SIZE))
		*ret_index = deal(producer, batch->len);
	else
		plain = false; /* the turn may end within the batch */
	pthread_mutex_unlock(&producer->lock);
	return plain;
}

/* ---- a batch that is sorted by partition ---- */

/* A send of messages that differ. Arrays have an entry per message, first has one per partition and one more. */
struct sorting {
	struct producer *producer;
	struct engine_batch batch;   /* as it came, with its time resolved */
	uint32_t partitions;         /* of the topic, as they were when it began */
	uint32_t *lengths, *targets; /* of the messages as they came */
	uint32_t *first;             /* of each partition: index of its first message after sorting */
	uint32_t done;               /* partitions that have their part */
	char *data;                  /* sorted, as the following */
	uint32_t *sorted_lengths;
	struct engine_props *props;
};

static int sorting_init(struct sorting *s, struct producer *producer, const struct engine_batch *batch)
{
	size_t count = batch->count;

	*s = (struct sorting){
		.producer = producer, .batch = *batch, .partitions = atomic_load(&producer->topic->partitions)
	};
	s->lengths = malloc(count * sizeof(*s->lengths));
	s->targets = malloc(count * sizeof(*s->targets));
	s->first = calloc(s->partitions + 1, sizeof(*s->first));
	s->data = malloc(batch->len);
	s->sorted_lengths = malloc(count * sizeof(*s->sorted_lengths));
	s->props = malloc(count * sizeof(*s->props));
	return s->lengths && s->targets && s->first && s->data && s->sorted_lengths && s->props ? 0 : -ENOMEM;
}

static void sorting_release(struct sorting *s)
{
	free(s->lengths);
	free(s->targets);
	free(s->first);
	free(s->data);
	free(s->sorted_lengths);
	free(s->props);
}

/* The properties message i is stored with: its own, and the producer's key if it brings none. */
static struct engine_props props_of(const struct sorting *s, uint32_t i)
{
	struct engine_props props = s->batch.props != NULL ? s->batch.props[i] : ENGINE_PROPS_INIT;

	if (props.key.ptr == NULL)
		props.key = s->producer->key;
	return props;
}

int topic_check_key(const struct topic *topic, const struct engine_props *props, uint32_t len)
{
	if (props->key.ptr == NULL && is_compacted(topic))
		return refuse_keyless();
	if (props->tombstone && (props->key.ptr == NULL || len > 0))
		return engine_explain(-EINVAL, "a tombstone has a key and no payload");
	return 0;
}

/* The partition of message i. producer.lock */
static int choose(struct sorting *s, uint32_t i, uint32_t *ret_target)
{
	const struct engine_props props = props_of(s, i);
	int rc = topic_check_key(s->producer->topic, &props, s->lengths[i]);

	if (rc < 0)
		return rc;
	if (props.partition != ENGINE_ANY && props.partition >= s->partitions)
		return engine_explain(-ERANGE, "there is no partition %" PRIu32 ": the topic has %" PRIu32,
		    props.partition, s->partitions);
	if (s->producer->partition != ENGINE_ANY)
		*ret_target = s->producer->partition;
	else if (props.partition != ENGINE_ANY)
		*ret_target = props.partition;
	else if (props.key.ptr != NULL)
		*ret_target = partitioner_pick(props.key.ptr, props.key.len, s->partitions);
	else
		*ret_target = deal(s->producer, (size_t)s->lengths[i] + 1) % s->partitions;
	return 0;
}

static int choose_all(struct sorting *s)
{
	int rc = 0;

	pthread_mutex_lock(&s->producer->lock);
	end_old_turn(s->producer);
	for (uint32_t i = 0; i < s->batch.count && rc == 0; i++)
		rc = choose(s, i, &s->targets[i]);
	pthread_mutex_unlock(&s->producer->lock);
	return rc;
}

/* A counting sort: stable, so that order within a partition stays. next[p] is where p's next message goes. */
static int sort(struct sorting *s)
{
	uint32_t *next = calloc(s->partitions + 1, sizeof(*next));
	uint32_t *at = malloc(s->batch.count * sizeof(*at));
	const char *from = s->batch.data;
	size_t *pos = malloc(s->batch.count * sizeof(*pos)), total = 0;
	int rc = next != NULL && at != NULL && pos != NULL ? 0 : -ENOMEM;

	if (rc < 0)
		goto out;
	for (uint32_t i = 0; i < s->batch.count; i++)
		s->first[s->targets[i] + 1]++;
	for (uint32_t p = 0; p < s->partitions; p++)
		s->first[p + 1] += s->first[p];
	memcpy(next, s->first, s->partitions * sizeof(*next));
	for (uint32_t i = 0; i < s->batch.count; i++) {
		at[i] = next[s->targets[i]]++;
		s->sorted_lengths[at[i]] = s->lengths[i];
		s->props[at[i]] = props_of(s, i);
	}
	for (uint32_t i = 0; i < s->batch.count; i++) {
		pos[i] = total;
		total += (size_t)s->sorted_lengths[i] + 1;
	}
	for (uint32_t i = 0; i < s->batch.count; i++) {
		memcpy(s->data + pos[at[i]], from, (size_t)s->lengths[i] + 1);
		from += (size_t)s->lengths[i] + 1;
	}
out:
	free(next);
	free(at);
	free(pos);
	return rc;
}

/* What can be known to fail does so before the first append. */
static int open_targets(const struct sorting *s)
{
	struct plog *plog;
	int rc = 0;

	for (uint32_t p = 0; p < s->partitions && rc == 0; p++) {
		if (s->first[p] < s->first[p + 1])
			rc = partition_open_log(topic_partition(s->producer->topic, p), &plog);
	}
	return rc;
}

static int append_sorted(struct sorting *s)
{
	bool has_props = s->batch.props != NULL || s->producer->key.ptr != NULL;
	const char *data = s->data;
	unsigned int tries = 0;
	int rc = open_targets(s);

	for (uint32_t p = 0; p < s->partitions && rc == 0; p++, s->done = rc == 0 && s->first[p] > 0 ? p : s->done) {
		struct engine_batch part = s->batch;

		if (s->first[p] == s->first[p + 1])
			continue;
		part.data = data;
		part.len = 0;
		part.count = s->first[p + 1] - s->first[p];
		part.lengths = s->sorted_lengths + s->first[p];
		part.props = has_props ? s->props + s->first[p] : NULL;
		for (uint32_t i = 0; i < part.count; i++)
			part.len += (size_t)part.lengths[i] + 1;
		data += part.len;
		/* Without a '\n' in a payload the newlines say it all, and nothing needs to be stored for them. */
		if (s->batch.lengths == NULL)
			part.lengths = NULL;
		do
			rc = append(topic_partition(s->producer->topic, p), &part);
		while (s->done > 0 && memory_again(rc, &tries)); /* others have their parts */
	}
	return io_wants_means(rc) && s->done > 0 ? -EIO : rc;
}

/* Those parts that were stored, though others were not. */
static void keep_ids(const struct sorting *s, struct dedup_send *dedup)
{
	if (s->batch.props != NULL && s->done > 0)
		local_dedup_kept(dedup, s->props, s->first[s->done]);
}

static int send_sorted(
    struct producer *producer, int64_t max_bytes, const struct engine_batch *batch, struct dedup_send *dedup)
{
	struct sorting sorting;
	int rc = sorting_init(&sorting, producer, batch);

	if (rc == 0)
		rc = check_batch(producer->topic, max_bytes, batch, sorting.lengths);
	if (rc == 0)
		rc = choose_all(&sorting);
	if (rc == 0)
		rc = sort(&sorting);
	if (rc == 0)
		rc = append_sorted(&sorting);
	if (rc < 0) {
		local_dedup_failed(dedup);
		keep_ids(&sorting, dedup);
	}
	sorting_release(&sorting);
	return rc;
}

/* ---- calls ---- */

/* The partition of all messages; ENGINE_ANY: they differ. */
static uint32_t common_target(const struct sorting *s)
{
	for (uint32_t i = 1; i < s->batch.count; i++) {
		if (s->targets[i] != s->targets[0])
			return ENGINE_ANY;
	}
	return s->targets[0];
}

/* Sends a batch that goes to several partitions: 0. One that does not it leaves: 1, and which partition it is. */
static int send_divided(struct producer *producer, struct object *object, int64_t max_bytes,
    const struct engine_batch *batch, uint32_t *ret_index)
{
	struct sorting s;
	int rc = sorting_init(&s, producer, batch);

	if (rc == 0)
		rc = check_batch(producer->topic, max_bytes, batch, s.lengths);
	if (rc == 0)
		rc = choose_all(&s);
	if (rc == 0)
		*ret_index = common_target(&s);
	if (rc == 0 && *ret_index != ENGINE_ANY)
		rc = 1;
	else if (rc == 0)
		rc = whole_send(object, ENGINE_ANY, false, batch, producer->key, s.targets);
	sorting_release(&s);
	return rc;
}

/* May it go to several partitions? */
static bool may_divide(const struct producer *producer, const struct engine_batch *batch)
{
	return batch->count > 1 && producer->partition == ENGINE_ANY && atomic_load(&producer->topic->partitions) > 1;
}

static int send_to_one(
    struct producer *producer, struct object *object, int64_t max_bytes, const struct engine_batch *batch)
{
	struct dedup_send dedup = { .pass = { .batch = *batch } };
	int rc = local_dedup_begin(object, batch, &dedup);

	if (rc == 0 && dedup.pass.batch.count > 0)
		rc = send_sorted(producer, max_bytes, &dedup.pass.batch, &dedup);
	local_dedup_end(&dedup);
	return rc;
}

/* A batch with properties or a key, or one in which a turn may end. Messages with ids are in none other. */
static int send_props(struct producer *producer, struct object *object, const struct engine_batch *batch)
{
	int64_t max_bytes = setting_value(object, SET_MAX_MESSAGE_BYTES);
	struct producer one = { .of = ENGINE_TOPIC, .topic = producer->topic, .key = producer->key };
	int rc;

	if (!may_divide(producer, batch))
		return send_to_one(producer, object, max_bytes, batch);
	rc = send_divided(producer, object, max_bytes, batch, &one.partition);
	if (rc <= 0)
		return rc;
	pthread_mutex_init(&one.lock, NULL);
	rc = send_to_one(&one, object, max_bytes, batch);
	pthread_mutex_destroy(&one.lock);
	return rc;
}

static int send_once(struct producer *producer, const struct engine_batch *batch)
{
	struct engine_batch stamped = *batch;
	struct object *object = NULL;
	int64_t max_bytes;
	uint32_t index;
	int rc;

	rc = object_enter_change(&producer->topic->object.base, ENGINE_TOPIC, &object);
	if (rc < 0)
		return rc;
	if (batch->count == 0)
		return -EINVAL;
	stages_take(object); /* what was written before, by whomever, comes first */
	if (stamped.ts_ms < 0)
		stamped.ts_ms = clock_wall_ms();
	max_bytes = setting_value(object, SET_MAX_MESSAGE_BYTES);
	if (batch->props != NULL || producer->key.ptr != NULL)
		return send_props(producer, object, &stamped);
	if (is_compacted(producer->topic))
		return refuse_keyless();
	rc = check_batch(producer->topic, max_bytes, &stamped, NULL);
	if (rc < 0)
		return rc;
	if (!is_plain(producer, &stamped, &index))
		return send_props(producer, object, &stamped);
	return append(topic_partition(producer->topic, index), &stamped);
}

static int topic_producer_send(struct producer *producer, const struct engine_batch *batch)
{
	unsigned int tries = 0;
	int rc;

	do
		rc = send_once(producer, batch);
	while (warm_again(local_of(&producer->topic->object), rc, &tries));
	if (rc == -ENOSPC)
		checkpoint_hurry(local_of(&producer->topic->object));
	return rc;
}

int local_producer_send(struct engine_producer *handle, const struct engine_batch *batch, struct engine_done *done)
{
	struct producer *producer = producer_of(handle);

	(void)done; /* the page cache has it at once */
	switch (producer->of) {
	case ENGINE_QUEUE: return queue_producer_send(handle, batch);
	case ENGINE_EXCHANGE: return route_producer_send(handle, batch);
	case ENGINE_TX: return tx_producer_send(handle, batch);
	default: return topic_producer_send(producer, batch);
	}
}

/* ---- in two steps ---- */

/* The partition of message i; *turn is that of those without a key, UINT32_MAX if it is not chosen yet. */
static int place_of(struct topic *topic, const struct engine_props *props, uint32_t *turn, uint32_t *ret_place)
{
	uint32_t partitions = atomic_load(&topic->partitions);

	if (props->partition != ENGINE_ANY && props->partition >= partitions)
		return engine_explain(
		    -ERANGE, "there is no partition %" PRIu32 ": the topic has %" PRIu32, props->partition, partitions);
	if (props->partition != ENGINE_ANY)
		*ret_place = props->partition;
	else if (props->key.ptr != NULL)
		*ret_place = partitioner_pick(props->key.ptr, props->key.len, partitions);
	else if (*turn == UINT32_MAX)
		*ret_place = *turn = atomic_fetch_add(&topic->turn, 1) % partitions;
	else
		*ret_place = *turn;
	return 0;
}

int topic_claim(struct topic *topic, const struct engine_batch *batch, bool again, uint32_t *places)
{
	struct object *object = NULL;
	struct partition *partition;
	uint32_t turn = UINT32_MAX;
	struct plog *plog;
	int rc = object_enter_change(&topic->object.base, ENGINE_TOPIC, &object);

	if (rc == 0)
		rc = check_batch(topic, again ? INT64_MAX : setting_value(object, SET_MAX_MESSAGE_BYTES), batch, NULL);
	if (rc == 0)
		rc = reserve_check(local_of(object));
	for (uint32_t i = 0; i < batch->count && rc == 0; i++) {
		rc = topic_check_key(topic, &batch->props[i], batch->lengths[i]);
		if (rc == 0)
			rc = place_of(topic, &batch->props[i], &turn, &places[i]);
		if (rc < 0 || (i > 0 && places[i] == places[i - 1]))
			continue;
		partition = topic_partition(topic, places[i]);
		rc = partition_open_log(partition, &plog);
		if (rc == 0 && atomic_load(&partition->failed))
			rc = engine_explain(
			    -EROFS, "partition %" PRIu32 " takes no more messages: its disk failed", partition->index);
	}
	return rc;
}

int topic_send_claimed(struct topic *topic, const struct engine_batch *batch, struct dedup_send *dedup)
{
	struct producer producer = { .of = ENGINE_TOPIC, .topic = topic, .partition = ENGINE_ANY };
	struct object *object = NULL;
	int rc = object_enter_change(&topic->object.base, ENGINE_TOPIC, &object);

	if (rc < 0)
		return rc;
	pthread_mutex_init(&producer.lock, NULL);
	rc = send_sorted(&producer, INT64_MAX, batch, dedup);
	pthread_mutex_destroy(&producer.lock);
	return rc;
}

/* Adds the partition's point if it has something that is not on disk. */
size_t partition_add_point(struct partition *partition, struct sync_point **points, size_t count)
{
	struct engine_partition_stat stat;
	struct plog *plog = atomic_load(&partition->plog);

	if (plog == NULL)
		return count;
	plog_stat(plog, &stat);
	if (stat.synced < stat.end)
		points[count++] = &partition->sync;
	return count;
}

int local_producer_sync(struct engine_producer *handle, struct engine_done *done)
{
	struct producer *producer = producer_of(handle);
	struct topic *topic;
	struct sync_point *points[ENGINE_PARTITIONS_MAX + 1];
	struct object *object = NULL;
	uint32_t partitions;
	size_t count = 0;
	int rc;

	if (producer->of == ENGINE_QUEUE)
		return queue_producer_sync(handle, done);
	if (producer->of == ENGINE_EXCHANGE)
		return route_producer_sync(handle, done);
	if (producer->of == ENGINE_TX)
		return 0; /* the commit makes it durable */
	topic = producer->topic;
	rc = object_enter(&topic->object.base, ENGINE_TOPIC, &object);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&producer->lock);
	producer->turn_runs = false;
	pthread_mutex_unlock(&producer->lock);
	if (local_of(object)->read_only)
		return 0;
	stages_take(object);
	topic_open_logs(topic, producer->partition);
	partitions = atomic_load(&topic->partitions);
	for (uint32_t i = 0; i < partitions; i++) {
		if (producer->partition == ENGINE_ANY || producer->partition == i)
			count = partition_add_point(topic_partition(topic, i), points, count);
	}
	/* What a partition could not take yet, the journal has. */
	if (commit_keeps_some(local_of(object)) &&
	    journal_synced(local_of(object)->journal) < journal_end(local_of(object)->journal))
		points[count++] = &local_of(object)->journal_sync;
	return flusher_wait_for(local_of(object), points, count, done);
}
