/*
 * memory_partition - the messages of a partition: storing and reading them, and retention.
 *
 * A partition is an array of messages, each in a block of memory of its own. What is deleted goes from the front. There are
 * no segments, so retention works message by message; and there is no background work, so it is applied by whoever looks:
 * every call that reads, counts or appends calls memory_expire() first.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/memory_internal.h"
#include "engine/scratch.h"

/* ---- copying properties ---- */

size_t memory_text_size(const struct engine_props *props)
{
	size_t size = props->key.len + props->id.len + props->routing_key.len + 1;

	for (uint32_t i = 0; i < props->header_count; i++)
		size += props->headers[i].name.len + props->headers[i].value.len;
	return size;
}

static struct engine_span copy_span(struct engine_span span, char **text)
{
	struct engine_span copy = { NULL, 0 };

	if (span.ptr == NULL)
		return copy;
	copy = (struct engine_span){ *text, span.len };
	memcpy(*text, span.ptr, span.len);
	*text += span.len;
	return copy;
}

struct engine_props memory_copy_props(const struct engine_props *props, struct engine_header **headers, char **text)
{
	struct engine_props copy = *props;

	copy.key = copy_span(props->key, text);
	copy.id = copy_span(props->id, text);
	copy.routing_key = copy_span(props->routing_key, text);
	copy.headers = props->header_count > 0 ? *headers : NULL;
	for (uint32_t i = 0; i < props->header_count; i++) {
		(*headers)->name = copy_span(props->headers[i].name, text);
		(*headers)->value = copy_span(props->headers[i].value, text);
		(*headers)++;
	}
	return copy;
}

static bool has_props(const struct engine_props *props)
{
	return props->key.ptr != NULL || props->id.ptr != NULL || props->routing_key.ptr != NULL ||
	       props->header_count > 0 || props->ts_ms >= 0 || props->ttl_ms >= 0 || props->delay_ms >= 0 ||
	       props->priority >= 0 || props->tombstone;
}

/* ---- storing ---- */

int memory_make_message(const char *payload, uint32_t len, const struct engine_props *props, struct engine_span key,
    const struct engine_batch *batch, struct memory_message *ret_message)
{
	struct engine_props own = props != NULL ? *props : ENGINE_PROPS_INIT;
	struct memory_message message = { .len = len, .batch_ts_ms = batch->ts_ms, .cred = batch->cred };
	struct engine_header *headers;
	char *text;

	if (own.key.ptr == NULL)
		own.key = key;
	own.partition = ENGINE_ANY; /* where it is, is known by where it is read */
	message.has_props = has_props(&own);
	if (own.ts_ms < 0)
		own.ts_ms = batch->ts_ms;
	headers = malloc(own.header_count * sizeof(*headers) + len + 1 + memory_text_size(&own));
	if (headers == NULL)
		return -ENOMEM;
	message.block = headers;
	text = (char *)(headers + own.header_count);
	message.data = text;
	memcpy(text, payload, len);
	text[len] = '\n';
	text += len + 1;
	message.props = memory_copy_props(&own, &headers, &text);
	*ret_message = message;
	return 0;
}

int memory_reserve(struct memory_partition *partition, size_t count)
{
	struct memory_message *grown;
	size_t room = partition->count + count;

	if (partition->first + partition->count + count <= partition->room)
		return 0;
	room += room / 2; /* so that moving what is there costs little per message */
	grown = malloc(room * sizeof(*grown));
	if (grown == NULL)
		return -ENOMEM;
	if (partition->count > 0)
		memcpy(grown, partition->messages + partition->first, partition->count * sizeof(*grown));
	free(partition->messages);
	partition->messages = grown;
	partition->first = 0;
	partition->room = room;
	return 0;
}

void memory_append(struct memory_partition *partition, const struct memory_message *message)
{
	struct memory_message *stored = &partition->messages[partition->first + partition->count++];

	*stored = *message;
	stored->batch = partition->next_batch;
	stored->pos = partition->end_pos;
	partition->end_pos += stored->len + 1;
	partition->mtime_ms = stored->batch_ts_ms;
}

void memory_end_batch(struct memory_partition *partition)
{
	partition->next_batch++;
}

/* ---- deleting ---- */

static void drop_first(struct memory_partition *partition)
{
	free(partition->messages[partition->first].block);
	partition->first++;
	partition->count--;
	partition->earliest++;
}

void memory_clear_partition(struct memory_partition *partition)
{
	while (partition->count > 0)
		drop_first(partition);
	free(partition->messages);
	partition->messages = NULL;
	partition->first = partition->room = 0;
}

static bool is_expired(
    const struct memory_partition *partition, int64_t retention_ms, int64_t retention_bytes, int64_t now)
{
	const struct memory_message *first = &partition->messages[partition->first];
	uint64_t bytes_after = partition->end_pos - first->pos - first->len - 1;

	if (retention_ms >= 0 && first->batch_ts_ms < now - retention_ms)
		return true;
	return retention_bytes >= 0 && bytes_after >= (uint64_t)retention_bytes;
}

void memory_expire(struct memory_object *topic)
{
	bool keeps = strcmp(memory_setting(topic, "cleanup.policy"), "compact") == 0;
	int64_t retention_ms = memory_setting_int(topic, "retention.ms");
	int64_t retention_bytes = memory_setting_int(topic, "retention.bytes");
	int64_t now = clock_wall_ms();
	bool any = false;

	for (uint32_t p = 0; p < topic->partition_count && !keeps; p++) {
		struct memory_partition *partition = &topic->partitions[p];

		while (partition->count > 0 && is_expired(partition, retention_ms, retention_bytes, now)) {
			drop_first(partition);
			any = true;
		}
	}
	if (any)
		memory_clamp_cursors(topic, true);
}

/* ---- reading ---- */

const struct memory_message *memory_message_at(const struct memory_partition *partition, uint64_t offset)
{
	return &partition->messages[partition->first + (size_t)(offset - partition->earliest)];
}

/* How many messages from this one on may be given together, and what they need. */
static struct scratch_need count_view(
    const struct memory_message *first, size_t available, uint64_t max_count, size_t max_bytes)
{
	struct scratch_need need = { 0 };
	bool any_props = false;

	for (size_t i = 0; i < available && need.count < max_count && need.count < UINT32_MAX; i++) {
		const struct memory_message *message = &first[i];

		if (i > 0 && (message->batch != first->batch || need.data + message->len + 1 > max_bytes))
			break;
		need.count++;
		need.data += message->len + 1;
		need.headers += message->props.header_count;
		need.text += memory_text_size(&message->props);
		any_props = any_props || message->has_props;
	}
	if (any_props)
		need.props = need.count;
	else
		need.headers = need.text = 0;
	return need;
}

int memory_view(struct memory_object *topic, uint32_t partition, uint64_t offset, uint64_t max_count, size_t max_bytes,
    struct engine_scratch *scratch, struct engine_view *ret_view)
{
	const struct memory_partition *self = &topic->partitions[partition];
	const struct memory_message *first = memory_message_at(self, offset);
	struct scratch_need need = count_view(first, (size_t)(memory_end(self) - offset), max_count, max_bytes);
	struct scratch_room room;
	char *data;
	int rc = scratch_lay_out(scratch, &need, &room);

	if (rc < 0)
		return rc;
	*ret_view = (struct engine_view){ .partition = partition, .offset = offset };
	ret_view->batch = (struct engine_batch){ .data = room.data,
		.len = need.data,
		.count = need.count,
		.lengths = room.lengths,
		.props = room.props,
		.cred = first->cred,
		.ts_ms = first->batch_ts_ms };
	data = room.data;
	for (uint32_t i = 0; i < need.count; i++) {
		memcpy(data, first[i].data, first[i].len + 1);
		data += first[i].len + 1;
		room.lengths[i] = first[i].len;
		if (need.props > 0)
			room.props[i] = memory_copy_props(&first[i].props, &room.headers, &room.text);
	}
	return 0;
}

uint64_t memory_find_time(const struct memory_partition *partition, int64_t ts_ms)
{
	uint64_t offset = partition->earliest;

	while (offset < memory_end(partition) && memory_message_at(partition, offset)->batch_ts_ms < ts_ms)
		offset++;
	return offset;
}

/* Index of the message that holds the byte at pos, which is within what is retained. */
static size_t find_pos(const struct memory_partition *partition, uint64_t pos)
{
	size_t low = partition->first, high = partition->first + partition->count;

	while (high - low > 1) {
		size_t mid = low + (high - low) / 2;

		if (partition->messages[mid].pos <= pos)
			low = mid;
		else
			high = mid;
	}
	return low;
}

/* ---- the calls ---- */

int memory_check_partition(const struct memory_object *topic, uint32_t partition)
{
	if (partition < topic->partition_count)
		return 0;
	return engine_explain(
	    -ENOENT, "there is no partition %" PRIu32 ": the topic has %" PRIu32, partition, topic->partition_count);
}

/* Takes the lock for a call on a partition as it is now, retention applied. */
static int enter_partition(struct memory_object *topic, uint32_t partition)
{
	int rc = memory_enter(topic, ENGINE_TOPIC);

	if (rc < 0)
		return rc;
	rc = memory_check_partition(topic, partition);
	if (rc < 0) {
		memory_leave(topic->memory);
		return rc;
	}
	memory_expire(topic);
	return 0;
}

static uint64_t start_pos(const struct memory_partition *partition)
{
	return partition->count > 0 ? partition->messages[partition->first].pos : partition->end_pos;
}

int memory_partition_stat(struct engine_object *topic, uint32_t partition, struct engine_partition_stat *ret_stat)
{
	struct memory_object *self = memory_of(topic);
	const struct memory_partition *of;
	int rc = enter_partition(self, partition);

	if (rc < 0)
		return rc;
	of = &self->partitions[partition];
	*ret_stat = (struct engine_partition_stat){ .earliest = of->earliest,
		.end = memory_end(of),
		.start_pos = start_pos(of),
		.end_pos = of->end_pos,
		.mtime_ms = of->mtime_ms,
		.synced = memory_end(of) };
	memory_leave(self->memory);
	return 0;
}

int memory_partition_read(struct engine_object *topic, uint32_t partition, uint64_t offset, uint32_t max_count,
    struct engine_scratch *scratch, struct engine_view *ret_view)
{
	struct memory_object *self = memory_of(topic);
	int rc = enter_partition(self, partition);

	if (rc < 0)
		return rc;
	if (offset < self->partitions[partition].earliest)
		rc = -ESTALE;
	else if (offset >= memory_end(&self->partitions[partition]))
		rc = -ENODATA;
	else
		rc = memory_view(self, partition, offset, max_count > 0 ? max_count : 1, SIZE_MAX, scratch, ret_view);
	memory_leave(self->memory);
	return rc;
}

static size_t copy_bytes(const struct memory_partition *partition, uint64_t pos, char *buf, size_t size)
{
	size_t done = 0;

	for (size_t i = find_pos(partition, pos); done < size && i < partition->first + partition->count; i++) {
		const struct memory_message *message = &partition->messages[i];
		size_t skip = (size_t)(pos + done - message->pos), len = message->len + 1 - skip;

		if (len > size - done)
			len = size - done;
		memcpy(buf + done, message->data + skip, len);
		done += len;
	}
	return done;
}

ssize_t memory_partition_pread(struct engine_object *topic, uint32_t partition, uint64_t pos, void *buf, size_t size)
{
	struct memory_object *self = memory_of(topic);
	const struct memory_partition *of;
	ssize_t rc = enter_partition(self, partition);

	if (rc < 0)
		return rc;
	of = &self->partitions[partition];
	if (pos < start_pos(of))
		rc = -ESTALE;
	else if (pos < of->end_pos)
		rc = (ssize_t)copy_bytes(of, pos, buf, size);
	memory_leave(self->memory);
	return rc;
}

int memory_partition_find_time(struct engine_object *topic, uint32_t partition, int64_t ts_ms, uint64_t *ret_offset)
{
	struct memory_object *self = memory_of(topic);
	int rc = enter_partition(self, partition);

	if (rc < 0)
		return rc;
	*ret_offset = memory_find_time(&self->partitions[partition], ts_ms);
	memory_leave(self->memory);
	return 0;
}

static int purge_one(struct memory_partition *partition, uint64_t before)
{
	if (before == ENGINE_OFFSET_NONE)
		before = memory_end(partition);
	if (before > memory_end(partition))
		return engine_explain(
		    -ERANGE, "offset %" PRIu64 " is beyond the end, which is %" PRIu64, before, memory_end(partition));
	while (partition->earliest < before)
		drop_first(partition);
	return 0;
}

/* All partitions, or one of them, before anything is changed. */
static int check_purge(const struct memory_object *topic, uint32_t partition, uint64_t before)
{
	if (topic->memory->read_only)
		return -EROFS;
	if (partition != ENGINE_ANY)
		return memory_check_partition(topic, partition);
	return before == ENGINE_OFFSET_NONE ? 0 : -EINVAL;
}

int memory_partition_purge(struct engine_object *topic, uint32_t partition, uint64_t before)
{
	struct memory_object *self = memory_of(topic);
	int rc = memory_enter(self, ENGINE_TOPIC);

	if (rc < 0)
		return rc;
	rc = check_purge(self, partition, before);
	if (rc == 0) {
		memory_expire(self);
		for (uint32_t p = 0; rc == 0 && p < self->partition_count; p++) {
			if (partition == ENGINE_ANY || partition == p)
				rc = purge_one(&self->partitions[p], before);
		}
		self->mtime_ms = clock_wall_ms();
		memory_clamp_cursors(self, false);
	}
	memory_leave(self->memory);
	return rc;
}
