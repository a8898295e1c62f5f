/*
 * memory_keys - the keys of a compacted topic. Nothing is kept for them: who asks has all messages looked through. Nor is
 * anything compacted, which the contract leaves to the engine; but what compaction would refuse is refused.
 */
#include <errno.h>
#include <string.h>

#include "engine/memory_internal.h"

bool memory_is_compacted(const struct memory_object *topic)
{
	return strcmp(memory_setting(topic, "cleanup.policy"), "delete") != 0;
}

int memory_check_key(const struct memory_object *topic, const struct memory_message *message)
{
	if (message->props.key.ptr == NULL && memory_is_compacted(topic))
		return engine_explain(
		    -EINVAL, "a message of a compacted topic needs a key: write to keys/KEY, or to in.json");
	if (message->props.tombstone && (message->props.key.ptr == NULL || message->len > 0))
		return engine_explain(-EINVAL, "a tombstone has a key and no payload");
	return 0;
}

static int compare(struct engine_span a, struct engine_span b)
{
	int order = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);

	return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* The last message of a key in a partition; NULL: there is none. */
static const struct memory_message *find_last(
    const struct memory_partition *of, struct engine_span key, uint64_t *ret_offset)
{
	for (size_t i = of->count; i > 0; i--) {
		const struct memory_message *message = &of->messages[of->first + i - 1];

		if (message->props.key.ptr == NULL || compare(message->props.key, key) != 0)
			continue;
		*ret_offset = of->earliest + i - 1;
		return message;
	}
	return NULL;
}

/* The latest message of a key in all partitions. ENOENT: there is none, or it is a tombstone. */
static int find(const struct memory_object *topic, struct engine_span key, struct engine_key *ret_key)
{
	const struct memory_message *best = NULL;

	for (uint32_t p = 0; p < topic->partition_count; p++) {
		uint64_t offset;
		const struct memory_message *last = find_last(&topic->partitions[p], key, &offset);

		if (last == NULL || (best != NULL && last->batch_ts_ms < best->batch_ts_ms))
			continue;
		best = last;
		*ret_key = (struct engine_key){ last->props.key, p, offset, last->batch_ts_ms };
	}
	return best != NULL && !best->props.tombstone ? 0 : -ENOENT;
}

int memory_key_find(struct engine_object *topic, struct engine_span key, struct engine_key *ret_key)
{
	struct memory_object *self = memory_of(topic);
	struct engine_key found;
	int rc = memory_enter(self, ENGINE_TOPIC);

	if (rc < 0)
		return rc;
	rc = memory_is_compacted(self) ? find(self, key, &found) : -ENOENT;
	memory_leave(self->memory);
	if (rc == 0) {
		found.key = key;
		*ret_key = found;
	}
	return rc;
}

/* The lowest key above `after` that any message has; ptr NULL: there is none. */
static struct engine_span next_key(const struct memory_object *topic, struct engine_span after)
{
	struct engine_span next = { NULL, 0 };

	for (uint32_t p = 0; p < topic->partition_count; p++) {
		const struct memory_partition *of = &topic->partitions[p];

		for (size_t i = 0; i < of->count; i++) {
			struct engine_span key = of->messages[of->first + i].props.key;

			if (key.ptr != NULL && (after.ptr == NULL || compare(key, after) > 0) &&
			    (next.ptr == NULL || compare(key, next) < 0))
				next = key;
		}
	}
	return next;
}

int memory_key_list(struct engine_object *topic, struct engine_span after,
    bool (*each)(void *ctx, const struct engine_key *key), void *ctx)
{
	struct memory_object *self = memory_of(topic);
	struct engine_key found;
	int rc = memory_enter(self, ENGINE_TOPIC);

	if (rc < 0)
		return rc;
	while (memory_is_compacted(self) && (after = next_key(self, after)).ptr != NULL) {
		if (find(self, after, &found) == 0 && !each(ctx, &found))
			break;
	}
	memory_leave(self->memory);
	return 0;
}
