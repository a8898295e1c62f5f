/*
 * segment_read - finding a batch in the index of a segment. See segment.h.
 *
 * Entries are read one by one with pread: the index of an active log is in the page cache, and a mapping would turn a disk
 * error into a signal. An entry that is damaged is stepped over; what it covered follows from its neighbours.
 */
#include <errno.h>

#include "engine/io.h"
#include "engine/segment.h"

int segment_read_entry(const struct segment_reader *reader, uint32_t slot, struct index_entry *ret_entry)
{
	uint8_t bytes[INDEX_SLOT];
	struct index_entry entry;
	int rc;

	if (slot >= reader->slots)
		return -EBADMSG;
	if (slot == reader->slots - 1 && reader->last.count > 0) {
		*ret_entry = reader->last;
		return 0;
	}
	rc = io_pread_all(reader->index_fd, bytes, sizeof(bytes), (off_t)INDEX_FIRST + (off_t)slot * INDEX_SLOT);
	if (rc)
		return io_is_damage(rc) ? -EBADMSG : rc;
	if (index_get_entry(bytes, &entry))
		return -EBADMSG;
	if (entry.base_offset < reader->base || entry.base_offset + entry.count > reader->end_offset)
		return -EBADMSG;
	*ret_entry = entry;
	return 0;
}

int segment_read_entry_before(
    const struct segment_reader *reader, uint32_t slot, uint32_t *ret_slot, struct index_entry *ret_entry)
{
	for (uint32_t left = slot + 1; left > 0; left--) {
		int rc = segment_read_entry(reader, left - 1, ret_entry);

		if (rc == -EBADMSG)
			continue;
		if (!rc)
			*ret_slot = left - 1;
		return rc;
	}
	return -ENOENT;
}

/* The next entry from slot on, below end, that is not damaged; end if there is none; negative errno. */
static int64_t next_readable(
    const struct segment_reader *reader, int64_t slot, int64_t end, struct index_entry *ret_entry)
{
	for (; slot < end; slot++) {
		int rc = segment_read_entry(reader, (uint32_t)slot, ret_entry);

		if (rc != -EBADMSG)
			return rc ? rc : slot;
	}
	return slot;
}

/* One above the last entry below slot, and not below end, that is not damaged; negative errno. */
static int64_t last_readable(
    const struct segment_reader *reader, int64_t slot, int64_t end, struct index_entry *ret_entry)
{
	for (; slot > end; slot--) {
		int rc = segment_read_entry(reader, (uint32_t)slot - 1, ret_entry);

		if (rc != -EBADMSG)
			return rc ? rc : slot;
	}
	return slot;
}

int segment_search(const struct segment_reader *reader, bool (*before)(const struct index_entry *entry, uint64_t key),
    uint64_t key, uint32_t *ret_slot, struct index_entry *ret_entry)
{
	int64_t low = 0, high = reader->slots; /* true below low, false from high on */
	struct index_entry entry, best = { 0 };
	uint32_t best_slot = 0;

	while (low < high) {
		int64_t middle = low + (high - low) / 2;
		int64_t found = next_readable(reader, middle, high, &entry);

		if (found < 0)
			return (int)found;
		if (found == high) { /* the upper half is lost */
			high = last_readable(reader, middle, low, &entry);
			if (high < 0)
				return (int)high;
			if (high == low)
				break;
			found = high - 1;
			if (!before(&entry, key)) {
				high = found;
				continue;
			}
		} else if (!before(&entry, key)) {
			high = middle;
			continue;
		}
		best = entry;
		best_slot = (uint32_t)found;
		low = found + 1;
	}
	if (best.count == 0)
		return -ENOENT;
	*ret_slot = best_slot;
	*ret_entry = best;
	return 0;
}

static bool begins_by(const struct index_entry *entry, uint64_t offset)
{
	return entry->base_offset <= offset;
}

int segment_locate(const struct segment_reader *reader, uint64_t offset, uint32_t hint, uint32_t *ret_slot,
    struct index_entry *ret_entry, struct segment_lost *ret_lost)
{
	struct index_entry entry;
	struct segment_lost lost = { .from = reader->base };
	uint32_t slot = hint;
	int64_t next = 0, first;
	int rc;

	if (reader->last.count > 0 && offset >= reader->last.base_offset)
		slot = reader->slots - 1;
	rc = segment_read_entry(reader, slot, &entry);
	if (!rc && index_covers(&entry, offset))
		goto found;
	if (!rc || rc == -EBADMSG)
		rc = segment_search(reader, begins_by, offset, &slot, &entry);
	if (rc && rc != -ENOENT)
		return rc;
	if (!rc) {
		if (index_covers(&entry, offset))
			goto found;
		lost.from = entry.base_offset + entry.count;
		lost.pos = entry.pos + entry.length;
		next = (int64_t)slot + 1;
	}
	first = next;
	next = next_readable(reader, next, reader->slots, &entry);
	if (next < 0)
		return (int)next;
	lost.to = next < reader->slots ? entry.base_offset : reader->end_offset;
	*ret_lost = lost;
	/* Nothing is missing between the entries around it: compaction took it. */
	return reader->gaps && next == first ? -ENOENT : -EBADMSG;

found:
	*ret_slot = slot;
	*ret_entry = entry;
	return 0;
}
