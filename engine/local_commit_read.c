/*
 * local_commit_read - notes of commits, read: their parts, and what was to go to the head. The format is said in local_commit_journal.c.
 */
#define HASH_NONFATAL_OOM 1

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/local_commit_note.h"
#include "engine/meta.h"

/* Takes len bytes of what is left. NULL: there are not so many. */
static const uint8_t *take(const uint8_t **at, const uint8_t *end, uint64_t len)
{
	const uint8_t *taken = *at;

	if (len > (uint64_t)(end - taken))
		return NULL;
	*at = taken + len;
	return taken;
}

uint32_t noted_index(const struct noted_target *target, uint32_t i)
{
	return target->which != NULL ? bytes_get32(target->which + (size_t)i * 4) : i;
}

static int read_target(const uint8_t **at, const uint8_t *end, uint32_t count, struct noted_target *target)
{
	const uint8_t *head = take(at, end, TARGET_HEAD);

	if (head == NULL)
		return -EBADMSG;
	target->id = bytes_get64(head);
	target->head = bytes_get32(head + 8) & TO_HEAD;
	target->log_count = bytes_get32(head + 12);
	target->logs = take(at, end, (uint64_t)target->log_count * LOG_BYTES);
	target->count = bytes_get32(head + 16);
	if (target->logs == NULL || target->count > count)
		return -EBADMSG;
	if (bytes_get32(head + 8) & SOME_ONLY) {
		target->which = take(at, end, (uint64_t)target->count * 4);
		if (target->which == NULL)
			return -EBADMSG;
	}
	target->places = take(at, end, (uint64_t)target->count * 4);
	if (target->places == NULL)
		return -EBADMSG;
	target->there = malloc(count * sizeof(*target->there));
	if (target->there == NULL)
		return -ENOMEM;
	memset(target->there, NOTED_FOR_OTHERS, count * sizeof(*target->there));
	for (uint32_t i = 0; i < target->count; i++) {
		if (noted_index(target, i) >= count)
			return -EBADMSG;
		target->there[noted_index(target, i)] =
		    bytes_get32(target->places + (size_t)i * 4) == PLACE_GONE ? NOTED_GONE : 0;
	}
	return 0;
}

static int read_targets(const uint8_t **at, const uint8_t *end, uint32_t count, struct noted_part *part)
{
	int rc = 0;

	if (count > (uint64_t)(end - *at) / TARGET_HEAD)
		return -EBADMSG;
	part->targets = calloc((size_t)count + 1, sizeof(*part->targets));
	if (part->targets == NULL)
		return -ENOMEM;
	for (; part->target_count < count && rc == 0; part->target_count++)
		rc = read_target(at, end, part->batch.count, &part->targets[part->target_count]);
	return rc;
}

static int read_messages(
    const uint8_t **at, const uint8_t *end, uint64_t meta_len, uint64_t len, struct noted_part *part)
{
	const uint8_t *meta = take(at, end, meta_len);
	const uint8_t *data = meta != NULL ? take(at, end, len) : NULL;
	uint32_t count = part->batch.count;
	struct meta_shape shape;

	if (data == NULL || meta_check(meta, (uint32_t)meta_len, count, (uint32_t)len, NOTE_CRC, &shape) < 0)
		return -EBADMSG;
	part->lengths = calloc(count, sizeof(*part->lengths));
	part->props = calloc(count, sizeof(*part->props));
	part->headers = calloc((size_t)shape.header_count + 1, sizeof(*part->headers));
	part->deaths = calloc((size_t)shape.death_count + 1, sizeof(*part->deaths));
	if (part->lengths == NULL || part->props == NULL || part->headers == NULL || part->deaths == NULL)
		return -ENOMEM;
	meta_get(meta, (uint32_t)meta_len, count, part->batch.ts_ms, part->lengths, part->props, part->headers,
	    part->deaths);
	part->batch.data = (const char *)data;
	part->batch.len = len;
	part->batch.lengths = part->lengths;
	part->batch.props = part->props;
	return 0;
}

static int read_part(const uint8_t **at, const uint8_t *end, struct noted_part *part)
{
	const uint8_t *head = take(at, end, PART_HEAD);
	int rc;

	if (head == NULL || bytes_get32(head + 8) == 0 || bytes_get32(head + 8) > (uint64_t)(end - *at))
		return -EBADMSG; /* each message has a byte at least: no memory is had for what cannot be there */
	part->mark = bytes_get64(head);
	part->batch = (struct engine_batch){ .count = bytes_get32(head + 8),
		.cred = { bytes_get32(head + 24), bytes_get32(head + 28), bytes_get32(head + 32) },
		.ts_ms = (int64_t)bytes_get64(head + 16) };
	rc = read_targets(at, end, bytes_get32(head + 12), part);
	return rc == 0 ? read_messages(at, end, bytes_get64(head + 40), bytes_get64(head + 48), part) : rc;
}

static void release_part(struct noted_part *part)
{
	for (uint32_t i = 0; i < part->target_count; i++)
		free(part->targets[i].there);
	free(part->targets);
	free(part->lengths);
	free(part->props);
	free(part->headers);
	free(part->deaths);
}
static int add_part(struct noted_parts *parts, const struct noted_part *part)
{
	struct noted_part *grown;

	if (parts->count == parts->room) {
		grown = realloc(parts->list, (parts->room * 2 + 8) * sizeof(*grown));
		if (grown == NULL)
			return -ENOMEM;
		parts->list = grown;
		parts->room = parts->room * 2 + 8;
	}
	parts->list[parts->count++] = *part;
	return 0;
}

int noted_parts_add(struct noted_parts *parts, struct commit_pending *pending)
{
	const uint8_t *at = pending->note + NOTE_HEAD, *end = pending->note + pending->size;
	uint32_t count;
	int rc = 0;

	if (!commit_is_whole(pending))
		return 0;
	count = bytes_get32(pending->note);
	for (uint32_t i = 0; i < count && rc == 0; i++) {
		struct noted_part part = { .pending = pending };

		rc = read_part(&at, end, &part);
		if (rc == 0)
			rc = add_part(parts, &part);
		if (rc < 0)
			release_part(&part);
	}
	return rc;
}

void noted_parts_release(struct noted_parts *parts)
{
	for (uint32_t i = 0; i < parts->count; i++)
		release_part(&parts->list[i]);
	free(parts->list);
	*parts = (struct noted_parts){ 0 };
}
