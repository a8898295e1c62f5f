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

	if (head == NULL || bytes_get32(head + 8) == 0)
		return -EBADMSG;
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

	if (pending->next != pending->pieces || pending->size < NOTE_HEAD)
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

/* ---- the head ---- */

static int add_head(struct local *local, uint64_t queue, uint64_t mark, uint32_t count)
{
	struct commit_heads *heads = &local->commits.heads;
	struct commit_head *grown;

	if (heads->count == heads->room) {
		grown = realloc(heads->list, (heads->room * 2 + 8) * sizeof(*grown));
		if (grown == NULL)
			return -ENOMEM;
		heads->list = grown;
		heads->room = heads->room * 2 + 8;
	}
	heads->list[heads->count++] = (struct commit_head){ mark, queue, count };
	return 0;
}

static int by_mark(const void *a, const void *b)
{
	const struct commit_head *x = a, *y = b;

	return x->mark < y->mark ? -1 : x->mark > y->mark;
}

int commit_find_heads(struct local *local)
{
	struct commit_heads *heads = &local->commits.heads;
	struct commit_pending *pending, *next;
	int rc = 0;

	HASH_ITER (hh, local->commits.pending, pending, next) {
		struct noted_parts parts = { 0 };

		if (rc == 0)
			rc = noted_parts_add(&parts, pending);
		if (rc == -EBADMSG) /* commit_finish() tells */
			rc = 0;
		for (uint32_t i = 0; i < parts.count; i++) {
			const struct noted_part *part = &parts.list[i];

			for (uint32_t t = 0; t < part->target_count && rc == 0; t++) {
				if (part->targets[t].head)
					rc = add_head(local, part->targets[t].id, part->mark, part->batch.count);
			}
		}
		noted_parts_release(&parts);
	}
	if (heads->count > 0)
		qsort(heads->list, heads->count, sizeof(*heads->list), by_mark);
	return rc;
}

bool commit_is_for_head(const struct local *local, uint64_t queue, uint64_t mark)
{
	const struct commit_heads *heads = &local->commits.heads;
	size_t low = 0, high = heads->count;

	while (low < high) { /* the first that begins above */
		size_t mid = low + (high - low) / 2;

		if (heads->list[mid].mark <= mark)
			low = mid + 1;
		else
			high = mid;
	}
	for (; low > 0 && mark - heads->list[low - 1].mark < heads->list[low - 1].count; low--) {
		if (heads->list[low - 1].queue == queue)
			return true;
	}
	return false;
}

void commit_forget_heads(struct local *local)
{
	free(local->commits.heads.list);
	local->commits.heads = (struct commit_heads){ 0 };
}
