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

/* 1; or 0: the file ends before, or is gone. What a disk cannot read is no end of a file, and is not cut off: its error. */
static int read_part(int fd, uint8_t *out, uint32_t len, off_t pos)
{
	int rc = fd >= 0 ? io_pread_all(fd, out, len, pos) : -ENODATA;

	return rc == -ENODATA ? 0 : rc < 0 ? rc : 1;
}

/* 1; 0: it is not. Negative errno: it cannot be read. So do all that are called so. */
static int data_is_whole(const struct check *check, const struct index_entry *entry)
{
	uint32_t crc = 0;

	for (uint32_t done = 0, part; done < entry->length; done += part) {
		int rc;

		part = entry->length - done < LIMIT_CHECK_BYTES ? entry->length - done : LIMIT_CHECK_BYTES;
		rc = read_part(check->segment->data_fd, check->data, part, (off_t)entry->pos + done);
		if (rc <= 0)
			return rc;
		crc = crc32c(crc, check->data, part);
	}
	return crc == entry->data_crc;
}

/* The CRC and the length; what is in it is for readers. */
static int meta_is_whole(const struct check *check, const struct index_entry *entry)
{
	uint32_t crc = meta_crc_seed(entry->data_crc), want = 0;

	if (entry->meta_len == 0)
		return 1;
	if (entry->meta_len < META_FIXED)
		return 0;
	for (uint32_t done = 0, part; done < entry->meta_len; done += part) {
		uint32_t skip = done == 0 ? 4 : 0;
		int rc;

		part = entry->meta_len - done < LIMIT_CHECK_BYTES ? entry->meta_len - done : LIMIT_CHECK_BYTES;
		rc = read_part(check->segment->meta_fd, check->data, part, (off_t)entry->meta_pos + done);
		if (rc <= 0)
			return rc;
		if (done == 0) {
			want = bytes_get32(check->data);
			if (bytes_get32(check->data + 4) != entry->meta_len)
				return 0;
		}
		crc = crc32c(crc, check->data + skip, part - skip);
	}
	return crc == want;
}

static int entry_is_whole(const struct check *check, const struct index_entry *entry)
{
	const struct segment_whole *at = &check->at;
	int rc;

	if (entry->base_offset != at->end_offset || entry->pos != at->data_end ||
	    (entry->meta_len > 0 && entry->meta_pos != at->meta_end))
		return 0;
	rc = data_is_whole(check, entry);
	return rc > 0 ? meta_is_whole(check, entry) : rc;
}

static int look_at_mark(void *ctx, uint32_t i, const struct engine_props *props)
{
	const struct check *check = ctx;

	(void)i;
	return props->mark != 0 && check->is_lost(check->ctx, props->mark);
}

/* Of one that is whole. ENOMEM, or it cannot be read. */
static int has_lost(struct check *check, const struct index_entry *entry)
{
	uint8_t *meta;
	int rc = 0;

	if (check->is_lost == NULL || entry->meta_len == 0)
		return 0;
	meta = malloc(entry->meta_len);
	if (meta == NULL)
		return -ENOMEM;
	rc = read_part(check->segment->meta_fd, meta, entry->meta_len, (off_t)entry->meta_pos);
	if (rc > 0) {
		rc =
		    meta_each(meta, entry->meta_len, entry->count, entry->length, entry->data_crc, look_at_mark, check);
		rc = rc == 1; /* what is not right in it is for readers */
	}
	free(meta);
	return rc;
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

/* Stops at the first entry that is not whole, or has a message that is lost. */
static int check_slots(struct check *check)
{
	uint32_t end = check->segment->slots;
	int rc;

	while (check->at.slots < end) {
		uint32_t count = end - check->at.slots < SLOTS_AT_ONCE ? end - check->at.slots : SLOTS_AT_ONCE;

		rc = read_part(check->segment->index_fd, check->slots, count * INDEX_SLOT,
		    (off_t)INDEX_FIRST + (off_t)check->at.slots * INDEX_SLOT);
		if (rc <= 0)
			return rc;
		for (uint32_t i = 0; i < count; i++) {
			struct index_entry entry;

			if (index_get_entry(check->slots + (size_t)i * INDEX_SLOT, &entry))
				return 0;
			rc = entry_is_whole(check, &entry);
			if (rc <= 0)
				return rc;
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
