/*
 * plog_bytes - the data of a log as the bytes of one file.
 *
 * What the disk gives is checked the first time that it is read since the log was opened: each batch that a read touches, all of it, by the
 * CRC in its entry. A read ends before the first batch that is not what was written, and one that begins in it is EIO, so that what
 * is around it can be read. What is known to be right is remembered in each segment as two ranges, which is one who reads from the front and one
 * who follows the end; what this process wrote needs no look. Reads are done outside of the mutex, as in plog_read.c.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "engine/crc32c.h"
#include "engine/io.h"
#include "engine/plog_internal.h"

#define PIECE (16u << 10) /* of a batch that is not read whole */

/* A read within one segment; positions are those in its data file. */
struct bytes {
	struct plog *plog;
	struct segment_reader reader; /* pinned */
	struct segment_range right[2];
	uint32_t own; /* of the segment, when it was pinned */
	const char *data;
	uint32_t from, to; /* of what was read */
};

static bool is_in(const struct segment_range *range, uint32_t pos)
{
	return range->from <= pos && pos < range->to;
}

/* Where what is known to be right from pos on ends; pos: it is not. */
static uint32_t end_of_right(const struct bytes *b, uint32_t pos)
{
	for (unsigned i = 0; i < 2; i++)
		if (is_in(&b->right[i], pos))
			return b->right[i].to;
	return pos < b->own ? pos : UINT32_MAX;
}

/* CRC of a part of the file, of what was read and of the rest. EBADMSG: it cannot be read. */
static int sum_up(const struct bytes *b, uint32_t from, uint32_t to, uint32_t *ret_crc)
{
	char piece[PIECE];
	uint32_t crc = 0, count;

	for (uint32_t pos = from; pos < to; pos += count) {
		bool is_here = pos >= b->from && pos < b->to;
		uint32_t end = is_here ? b->to : pos < b->from ? b->from : UINT32_MAX;

		count = (end < to ? end : to) - pos;
		if (!is_here) {
			int rc;

			count = count < PIECE ? count : PIECE;
			rc = io_pread_all(b->reader.data_fd, piece, count, pos);
			if (rc)
				return io_is_damage(rc) ? -EBADMSG : rc;
		}
		crc = crc32c(crc, is_here ? b->data + (pos - b->from) : piece, count);
	}
	*ret_crc = crc;
	return 0;
}

static bool begins_by_pos(const struct index_entry *entry, uint64_t pos)
{
	return entry->pos <= pos;
}

/* Checks the batch that pos is in. EBADMSG: ret_lost is what is damaged. */
static int check_batch(
    const struct bytes *b, uint32_t pos, uint32_t *slot, struct index_entry *ret_entry, struct segment_lost *ret_lost)
{
	uint32_t crc = 0, hint = *slot;
	int rc = segment_read_entry(&b->reader, hint, ret_entry);

	if (!rc && (pos < ret_entry->pos || pos - ret_entry->pos >= ret_entry->length))
		rc = -EBADMSG;
	if (rc == -EBADMSG)
		rc = segment_search(&b->reader, begins_by_pos, pos, slot, ret_entry);
	if (rc && rc != -ENOENT)
		return rc;
	if (rc || pos - ret_entry->pos >= ret_entry->length) { /* no entry that can be read tells of it */
		uint64_t offset = rc ? b->reader.base : ret_entry->base_offset + ret_entry->count;

		*ret_lost = (struct segment_lost){ offset, b->reader.end_offset, pos };
		rc = segment_locate(&b->reader, offset, UINT32_MAX, slot, ret_entry, ret_lost);
		return rc == 0 || rc == -ENOENT ? -EBADMSG : rc;
	}
	*ret_lost =
	    (struct segment_lost){ ret_entry->base_offset, ret_entry->base_offset + ret_entry->count, ret_entry->pos };
	rc = sum_up(b, ret_entry->pos, ret_entry->pos + ret_entry->length, &crc);
	return rc || crc == ret_entry->data_crc ? rc : -EBADMSG;
}

/* What is right now, beside what was before. mutex */
static void remember(struct segment *segment, struct segment_range found)
{
	struct segment_range *right = segment->right, *shorter;

	for (unsigned i = 0; i < 2; i++) {
		if (found.from > right[i].to || found.to < right[i].from || right[i].to == right[i].from)
			continue;
		found.from = found.from < right[i].from ? found.from : right[i].from;
		found.to = found.to > right[i].to ? found.to : right[i].to;
		right[i] = (struct segment_range){ 0, 0 };
	}
	shorter = right[0].to - right[0].from <= right[1].to - right[1].from ? &right[0] : &right[1];
	*shorter = found;
}

/* How many of the bytes that were read are what was written, from the first on. EIO: that is not; or another error. */
static ssize_t check(struct bytes *b)
{
	struct segment_range found = { b->from, b->from };
	struct segment_lost lost;
	struct index_entry entry;
	uint32_t pos = b->from, slot = UINT32_MAX;
	int rc = 0;

	while (pos < b->to) {
		uint32_t end = end_of_right(b, pos);

		if (end == pos) {
			rc = check_batch(b, pos, &slot, &entry, &lost);
			if (rc)
				break;
			if (found.to == found.from)
				found.from = entry.pos;
			found.to = end = entry.pos + entry.length;
			slot++;
		} else if (found.to > found.from) {
			found.to = end < b->to ? end : b->to;
		}
		pos = end;
	}
	if (rc == -EBADMSG)
		plog_report_lost(b->plog, &lost);
	if (found.to > found.from) {
		pthread_mutex_lock(&b->plog->mutex);
		remember(b->reader.segment, found);
		pthread_mutex_unlock(&b->plog->mutex);
	}
	if (pos > b->from)
		return (pos < b->to ? pos : b->to) - b->from;
	return rc == -EBADMSG ? -EIO : rc;
}

/* Reads within one segment: what is there between pos and end, at most size. mutex is released meanwhile. */
static ssize_t pread_segment(struct plog *plog, uint64_t pos, uint64_t end, void *buf, size_t size)
{
	struct bytes b = { .plog = plog, .data = buf };
	ssize_t n;
	size_t i;
	int rc;

	if (pos < plog->start_pos)
		return -ESTALE;
	rc = plog_find_pos(plog, pos, &i);
	if (!rc && i + 1 < plog->count) {
		rc = plog_load(plog, i + 1, NULL);
		end = plog->segments[i + 1]->base_pos;
	}
	if (!rc)
		rc = plog_pin(plog, i, &b.reader);
	if (rc)
		return plog_damage_as_eio(rc);
	if (pos - b.reader.base_pos >
	    LIMIT_SEGMENT_DATA) { /* what it has ends before, and a segment that is lost began */
		plog_unpin(plog, b.reader.segment);
		return -EIO;
	}
	if (size > end - pos)
		size = (size_t)(end - pos);
	b.own = b.reader.segment->own;
	memcpy(b.right, b.reader.segment->right, sizeof(b.right));
	b.from = (uint32_t)(pos - b.reader.base_pos);
	pthread_mutex_unlock(&plog->mutex);
	n = b.reader.data_fd < 0 ? 0 : io->pread(b.reader.data_fd, buf, size, b.from);
	if (n > 0) {
		b.to = b.from + (uint32_t)n;
		n = check(&b);
	}
	pthread_mutex_lock(&plog->mutex);
	plog_unpin(plog, b.reader.segment);
	return n == 0 ? -EIO : n < 0 ? plog_damage_as_eio((int)n) : n; /* there must be something */
}

ssize_t plog_pread(struct plog *plog, uint64_t pos, void *buf, size_t size)
{
	uint64_t end;
	size_t done = 0;
	ssize_t n = 0;

	pthread_mutex_lock(&plog->mutex);
	end = plog_end_pos(plog);
	if (size > SSIZE_MAX)
		size = SSIZE_MAX;
	if (pos < plog->start_pos)
		n = -ESTALE;
	if (pos < end && size > end - pos)
		size = (size_t)(end - pos);
	while (n >= 0 && pos + done < end && done < size) {
		n = pread_segment(plog, pos + done, end, (char *)buf + done, size - done);
		if (n > 0)
			done += (size_t)n;
	}
	pthread_mutex_unlock(&plog->mutex);
	return done > 0 ? (ssize_t)done : n;
}
