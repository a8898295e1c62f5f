/*
 * segment_check - finding the end of a segment that a crash may have torn. See segment.h.
 *
 * Bytes reach a disk in any order, so beyond the mark nothing follows from what comes after it: every entry is checked
 * with the data and meta it points to, until one is not whole. An entry is whole if its own CRC is right, if it begins
 * where its predecessor ended (offset, data, meta), and if the CRCs of data and meta are right.
 *
 * What the mark covers is not read here. A damaged byte there costs its batch, not all that came after it.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/bytes.h"
#include "engine/crc32c.h"
#include "engine/io.h"
#include "engine/limits.h"
#include "engine/meta.h"
#include "engine/segment.h"

#define SLOTS_AT_ONCE 1024u

struct check {
	const struct segment *segment;
	uint8_t *slots;                /* SLOTS_AT_ONCE of them */
	uint8_t *data;                 /* LIMIT_CHECK_BYTES */
	struct segment_whole at;       /* end of the entries that are whole */
	struct segment_whole complete; /* end of the last whole append */
	bool (*is_lost)(void *ctx, uint64_t mark);
	void *ctx;
};

static bool data_is_whole(const struct check *check, const struct index_entry *entry)
{
	uint32_t crc = 0;

	for (uint32_t done = 0, part; done < entry->length; done += part) {
		part = entry->length - done < LIMIT_CHECK_BYTES ? entry->length - done : LIMIT_CHECK_BYTES;
		if (io_pread_all(check->segment->data_fd, check->data, part, (off_t)entry->pos + done))
			return false;
		crc = crc32c(crc, check->data, part);
	}
	return crc == entry->data_crc;
}

/* The CRC and the length; what is in it is for readers. */
static bool meta_is_whole(const struct check *check, const struct index_entry *entry)
{
	uint32_t crc = meta_crc_seed(entry->data_crc), want = 0;

	if (entry->meta_len == 0)
		return true;
	if (entry->meta_len < META_FIXED)
		return false;
	for (uint32_t done = 0, part; done < entry->meta_len; done += part) {
		uint32_t skip = done == 0 ? 4 : 0;

		part = entry->meta_len - done < LIMIT_CHECK_BYTES ? entry->meta_len - done : LIMIT_CHECK_BYTES;
		if (io_pread_all(check->segment->meta_fd, check->data, part, (off_t)entry->meta_pos + done))
			return false;
		if (done == 0) {
			want = bytes_get32(check->data);
			if (bytes_get32(check->data + 4) != entry->meta_len)
				return false;
		}
		crc = crc32c(crc, check->data + skip, part - skip);
	}
	return crc == want;
}

static bool entry_is_whole(const struct check *check, const struct index_entry *entry)
{
	const struct segment_whole *at = &check->at;

	return entry->base_offset == at->end_offset && entry->pos == at->data_end &&
	       (entry->meta_len == 0 || entry->meta_pos == at->meta_end) && data_is_whole(check, entry) &&
	       meta_is_whole(check, entry);
}

static int look_at_mark(void *ctx, uint32_t i, const struct engine_props *props)
{
	const struct check *check = ctx;

	(void)i;
	return props->mark != 0 && check->is_lost(check->ctx, props->mark);
}

/* Of one that is whole. ENOMEM. */
static int has_lost(struct check *check, const struct index_entry *entry)
{
	uint8_t *meta;
	int rc = 0;

	if (check->is_lost == NULL || entry->meta_len == 0)
		return 0;
	meta = malloc(entry->meta_len);
	if (meta == NULL)
		return -ENOMEM;
	if (!io_pread_all(check->segment->meta_fd, meta, entry->meta_len, (off_t)entry->meta_pos))
		rc =
		    meta_each(meta, entry->meta_len, entry->count, entry->length, entry->data_crc, look_at_mark, check);
	free(meta);
	return rc == 1; /* what is not right in it is for readers */
}

static void go_past(struct check *check, const struct index_entry *entry)
{
	check->at.slots++;
	check->at.end_offset += entry->count;
	check->at.data_end += entry->length;
	check->at.meta_end += entry->meta_len;
	if (!(entry->flags & INDEX_MORE))
		check->complete = check->at;
}

/* Stops at the first entry that is not whole, or has a message that is lost. ENOMEM. */
static int check_slots(struct check *check)
{
	uint32_t end = check->segment->slots;
	int rc;

	while (check->at.slots < end) {
		uint32_t count = end - check->at.slots < SLOTS_AT_ONCE ? end - check->at.slots : SLOTS_AT_ONCE;

		if (io_pread_all(check->segment->index_fd, check->slots, (size_t)count * INDEX_SLOT,
			(off_t)INDEX_FIRST + (off_t)check->at.slots * INDEX_SLOT))
			return 0;
		for (uint32_t i = 0; i < count; i++) {
			struct index_entry entry;

			if (index_get_entry(check->slots + (size_t)i * INDEX_SLOT, &entry) ||
			    !entry_is_whole(check, &entry))
				return 0;
			rc = has_lost(check, &entry);
			if (rc != 0)
				return rc < 0 ? rc : 0;
			go_past(check, &entry);
		}
	}
	return 0;
}

int segment_check(const struct segment *segment, const struct index_mark *mark,
    bool (*is_lost)(void *ctx, uint64_t mark), void *ctx, struct segment_whole *ret_whole)
{
	struct check check = { .segment = segment, .is_lost = is_lost, .ctx = ctx };
	int rc = 0;

	check.at.slots = (mark->index_end - INDEX_FIRST) / INDEX_SLOT;
	check.at.end_offset = mark->end_offset;
	check.at.data_end = mark->data_end;
	check.at.meta_end = mark->meta_end;
	check.complete = check.at;
	if (check.at.slots > segment->slots) {
		check.complete.slots = segment->slots;
		check.complete.short_index = true;
	} else if (check.at.slots < segment->slots) {
		check.slots = malloc((size_t)SLOTS_AT_ONCE * INDEX_SLOT);
		check.data = malloc(LIMIT_CHECK_BYTES);
		rc = check.slots && check.data ? check_slots(&check) : -ENOMEM;
		free(check.slots);
		free(check.data);
	}
	*ret_whole = check.complete;
	return rc;
}
