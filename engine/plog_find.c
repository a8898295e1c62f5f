/*
 * plog_find - messages are found by their id, and what the index says of one by its offset.
 *
 * The ids of a log rise with its offsets, but for messages that came from elsewhere with a lower id than the log already
 * had: their entries are marked INDEX_STRAY, and a search by id steps over them. Who appends them remembers where they are.
 * Runs of them can be long (dead letters that go back one by one), so the longest that were met are remembered.
 */
#include <errno.h>

#include "engine/io.h"
#include "engine/plog_internal.h"

/* The remembered run that entry slot is in or just behind; or NULL. mutex, as below */
static struct plog_strays *run_at(struct plog *plog, uint64_t base, uint32_t slot)
{
	for (uint32_t i = 0; i < PLOG_STRAYS; i++) {
		struct plog_strays *run = &plog->strays[i];

		if (run->base == base && run->from < run->to && slot >= run->from && slot <= run->to)
			return run;
	}
	return NULL;
}

/* from..to-1 are strays: instead of the shortest that are remembered, if that is shorter. */
static void remember(struct plog *plog, uint64_t base, uint32_t from, uint32_t to)
{
	struct plog_strays *shortest = &plog->strays[0];

	for (uint32_t i = 1; i < PLOG_STRAYS; i++) {
		if (plog->strays[i].to - plog->strays[i].from < shortest->to - shortest->from)
			shortest = &plog->strays[i];
	}
	if (to - from > shortest->to - shortest->from)
		*shortest = (struct plog_strays){ base, from, to };
}

/* The first entry from slot on, below end, that is not a stray; end if there is none; negative errno: that cannot be told now. */
static int64_t next_regular(
    struct plog *plog, const struct segment_reader *reader, uint32_t slot, uint32_t end, struct index_entry *ret_entry)
{
	struct plog_strays *known = NULL, *run;
	uint32_t from = slot;
	int rc;

	while (slot < end) {
		run = run_at(plog, reader->base, slot);
		if (run != NULL && run->to > slot) {
			known = known != NULL ? known : run;
			slot = run->to < end ? run->to : end;
			continue;
		}
		rc = segment_read_entry(reader, slot, ret_entry);
		if (rc && rc != -EBADMSG)
			return rc;
		if (rc)
			from = slot + 1; /* it may be readable another time */
		else if (!(ret_entry->flags & INDEX_STRAY))
			break;
		slot++;
	}
	if (known == NULL)
		remember(plog, reader->base, from, slot);
	if (known != NULL && from < known->from)
		known->from = from;
	if (known != NULL && from <= known->to && slot > known->to)
		known->to = slot;
	return slot;
}

/* The last regular entry whose first id is at most id. ENOENT. */
static int search(struct plog *plog, const struct segment_reader *reader, uint64_t id, struct index_entry *ret_entry)
{
	uint32_t low = 0,
		 high = reader->slots; /* entries below low are at most id, those from high on above it or strays */
	struct index_entry entry, best = { 0 };

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int64_t found = next_regular(plog, reader, middle, high, &entry);

		if (found < 0)
			return (int)found;
		if (found == high || entry.first_id > id) {
			high = middle;
		} else {
			best = entry;
			low = (uint32_t)found + 1;
		}
	}
	if (best.count == 0)
		return -ENOENT;
	*ret_entry = best;
	return 0;
}

/* The segment that id would be in: the last whose first regular entry is at most id. ENOENT. */
static int find_segment(struct plog *plog, uint64_t id, size_t *ret_i)
{
	size_t low = 0, high = plog->count;
	bool have = false;

	while (low < high) {
		size_t middle = low + (high - low) / 2, i = middle;
		struct segment_reader reader;
		struct index_entry entry;
		bool found = false;

		for (; i < high && !found; i++) {
			int64_t rc = plog_reader(plog, i, &reader);

			if (io_is_damage((int)rc))
				continue;
			if (!rc)
				rc = next_regular(plog, &reader, 0, reader.slots, &entry);
			if (rc < 0)
				return (int)rc;
			found = rc < reader.slots;
		}
		if (found && entry.first_id <= id) {
			have = true;
			*ret_i = i - 1;
			low = i;
		} else {
			high = middle;
		}
	}
	return have ? 0 : -ENOENT;
}

int plog_find_id(struct plog *plog, uint64_t id, uint64_t *ret_offset)
{
	struct segment_reader reader;
	struct index_entry entry = { 0 };
	uint64_t offset;
	size_t i = 0;
	int rc;

	pthread_mutex_lock(&plog->mutex);
	rc = find_segment(plog, id, &i);
	if (!rc) {
		rc = plog_reader(plog, i, &reader);
		rc = io_is_damage(rc) ? -ENOENT : rc;
	}
	if (!rc)
		rc = search(plog, &reader, id, &entry);
	if (!rc && id - entry.first_id >= entry.count)
		rc = -ENOENT;
	if (!rc) {
		offset = entry.base_offset + (id - entry.first_id);
		if (offset < plog->start_offset)
			rc = -ENOENT;
		else
			*ret_offset = offset;
	}
	pthread_mutex_unlock(&plog->mutex);
	return rc;
}

int plog_entry(struct plog *plog, uint64_t offset, struct index_entry *ret_entry)
{
	struct segment_reader reader;
	struct segment_lost lost;
	uint32_t slot;
	int rc;

	pthread_mutex_lock(&plog->mutex);
	if (offset < plog->start_offset) {
		rc = -ESTALE;
	} else if (offset >= plog->end_offset) {
		rc = -ENODATA;
	} else {
		rc = plog_reader(plog, plog_find(plog, offset), &reader);
		rc = io_is_damage(rc) ? -EIO : rc;
		if (!rc)
			rc = segment_locate(&reader, offset, UINT32_MAX, &slot, ret_entry, &lost);
		rc = rc == -EBADMSG ? -EIO : rc;
	}
	pthread_mutex_unlock(&plog->mutex);
	return rc;
}

int plog_last_id(struct plog *plog, uint64_t *ret_id)
{
	uint64_t last = 0;
	int rc = 0;

	pthread_mutex_lock(&plog->mutex);
	for (size_t i = plog->count; i > 0 && last == 0 && !rc; i--) {
		struct segment_reader reader;
		struct index_entry entry;

		rc = plog_reader(plog, i - 1, &reader);
		if (rc < 0 && (i == plog->count || !io_is_damage(rc)))
			break;
		if (rc < 0) { /* it is damaged, and was told of */
			rc = 0;
			continue;
		}
		for (uint32_t slot = reader.slots; slot > 0 && last == 0 && !rc; slot--) {
			rc = segment_read_entry(&reader, slot - 1, &entry);
			if (!rc && !(entry.flags & INDEX_STRAY))
				last = entry.first_id + entry.count - 1;
			rc = rc == -EBADMSG ? 0 : rc;
		}
	}
	pthread_mutex_unlock(&plog->mutex);
	if (rc == 0)
		*ret_id = last;
	return rc;
}

uint64_t plog_segment_base(struct plog *plog, uint64_t offset)
{
	uint64_t base;

	pthread_mutex_lock(&plog->mutex);
	base = plog->segments[plog_find(plog, offset)]->base;
	pthread_mutex_unlock(&plog->mutex);
	return base;
}
