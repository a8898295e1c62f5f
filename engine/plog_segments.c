/*
 * plog_segments - the list of segments of a partition log. See plog_internal.h.
 *
 * A sealed segment costs its struct until somebody reads it: then its front is read (where it begins in the life of the
 * log, how many entries it has) and its files are opened. They are closed again after use, but for the few that were used
 * last, the active one, and what is not synced yet: closing a file before its sync could lose the error of a write-back.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/failpoint.h"
#include "engine/io.h"
#include "engine/plog_internal.h"

int plog_dir(struct plog *plog)
{
	if (plog->dirfd < 0) {
		int fd = plog_open_dir(&plog->options);

		if (fd < 0)
			return fd;
		plog->dirfd = fd;
	}
	return plog->dirfd;
}

void plog_put_dir(struct plog *plog)
{
	if (!plog->known || plog->dirfd < 0)
		return;
	close(plog->dirfd);
	plog->dirfd = -1;
}

static int home_of(struct plog *plog, struct segment_home *ret_home)
{
	int dirfd = plog_dir(plog);

	if (dirfd < 0)
		return dirfd;
	*ret_home =
	    (struct segment_home){ .dirfd = dirfd, .log_id = plog->options.id, .uuid = plog->options.store_uuid };
	return 0;
}

/* Room for one more. */
static int reserve(struct plog *plog)
{
	size_t room = plog->room ? plog->room * 2 : 1;
	struct segment **segments;

	if (plog->count < plog->room)
		return 0;
	segments = realloc(plog->segments, room * sizeof(*segments));
	if (!segments)
		return -ENOMEM;
	plog->segments = segments;
	plog->room = room;
	return 0;
}

int plog_push(struct plog *plog, struct segment *segment)
{
	int rc = reserve(plog);

	if (!rc)
		plog->segments[plog->count++] = segment;
	return rc;
}

size_t plog_find(const struct plog *plog, uint64_t offset)
{
	size_t low = 0, high = plog->count;

	if (offset >= plog_active(plog)->base)
		return plog->count - 1;
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (plog->segments[middle]->base <= offset)
			low = middle;
		else
			high = middle;
	}
	return low;
}

int plog_find_pos(struct plog *plog, uint64_t pos, size_t *ret_i)
{
	size_t low = 0, high = plog->count;

	if (pos >= plog_active(plog)->base_pos)
		low = plog->count - 1;
	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;
		int rc = plog_load(plog, middle, NULL);

		if (rc)
			return rc;
		if (plog->segments[middle]->base_pos <= pos)
			low = middle;
		else
			high = middle;
	}
	*ret_i = low;
	return plog_load(plog, low, NULL);
}

uint64_t plog_segment_end(const struct plog *plog, size_t i)
{
	return i + 1 < plog->count ? plog->segments[i + 1]->base : plog->end_offset;
}

int plog_data_size(struct plog *plog, size_t i, uint64_t *ret_size)
{
	struct segment *segment = plog->segments[i];
	struct segment_reader reader = { .base = segment->base, .end_offset = UINT64_MAX, .slots = segment->slots };
	struct index_entry entry = { 0 };
	uint32_t slot;
	int rc = segment_open_files(segment, plog->dirfd, !plog->options.read_only);

	if (rc)
		return rc;
	reader.index_fd = segment->index_fd;
	*ret_size = 0;
	if (segment->slots > 0)
		rc = segment_read_entry_before(&reader, segment->slots - 1, &slot, &entry);
	if (!rc && segment->slots > 0)
		*ret_size = (uint64_t)entry.pos + entry.length;
	return rc == -ENOENT ? 0 : rc;
}

/*
 * Header and mark of segment i are lost: where it begins follows from the one after it, or else from those before it. What
 * was read so far, its number of entries, is right.
 */
static int derive_base_pos(struct plog *plog, size_t i, const struct segment_home *home)
{
	struct segment *segment = plog->segments[i];
	struct index_mark unused;
	uint64_t size;
	int rc = -ENOENT;

	if (i + 1 < plog->count)
		rc = segment_load(plog->segments[i + 1], home, &unused);
	if (rc && !io_is_damage(rc))
		return rc;
	if (!rc) {
		rc = plog_data_size(plog, i, &size);
		if (!rc)
			segment->base_pos = plog->segments[i + 1]->base_pos - size;
	} else if (i > 0) {
		rc = plog_load(plog, i - 1, NULL);
		if (!rc)
			rc = plog_data_size(plog, i - 1, &size);
		if (!rc)
			segment->base_pos = plog->segments[i - 1]->base_pos + size;
	} else {
		rc = 0;
		segment->base_pos = plog->start_pos;
	}
	segment->loaded = !rc;
	return rc;
}

int plog_load(struct plog *plog, size_t i, struct index_mark *ret_mark)
{
	struct segment *segment = plog->segments[i];
	struct segment_home home;
	struct index_mark mark;
	int rc;

	if (segment->loaded && !ret_mark)
		return 0;
	rc = home_of(plog, &home);
	if (!rc)
		rc = segment_load(segment, &home, &mark);
	if (rc == -EBADMSG)
		rc = derive_base_pos(plog, i, &home);
	if (rc)
		return rc;
	if (ret_mark)
		*ret_mark = mark;
	return 0;
}

/* Whether the files of segment stay open when nobody uses them. */
static bool keeps(const struct plog *plog, const struct segment *segment)
{
	if (segment == plog_active(plog))
		return true;
	for (size_t k = 0; k < LIMIT_OPEN_SEALED; k++)
		if (plog->kept[k] == segment)
			return true;
	return plog_segment_end(plog, plog_find(plog, segment->base)) > plog->synced;
}

static void close_if_idle(struct plog *plog, struct segment *segment)
{
	if (segment->users == 0 && !keeps(plog, segment))
		segment_close_files(segment);
}

/* Puts segment among those kept, in the place of the one that came first. */
static void keep(struct plog *plog, struct segment *segment)
{
	struct segment *old = plog->kept[plog->kept_next];

	for (size_t k = 0; k < LIMIT_OPEN_SEALED; k++)
		if (plog->kept[k] == segment)
			return;
	plog->kept[plog->kept_next] = segment;
	plog->kept_next = (plog->kept_next + 1) % LIMIT_OPEN_SEALED;
	if (old)
		close_if_idle(plog, old);
}

int plog_reader(struct plog *plog, size_t i, struct segment_reader *ret_reader)
{
	struct segment *segment = plog->segments[i];
	bool active = segment == plog_active(plog);
	int rc = plog_load(plog, i, NULL);

	if (!rc && !segment->opened)
		rc = plog_dir(plog);
	if (rc >= 0)
		rc = segment_open_files(segment, plog->dirfd, !plog->options.read_only);
	if (rc < 0)
		return rc;
	if (!active)
		keep(plog, segment);
	*ret_reader = (struct segment_reader){
		.data_fd = segment->data_fd,
		.index_fd = segment->index_fd,
		.meta_fd = segment->meta_fd,
		.base = segment->base,
		.base_pos = segment->base_pos,
		.end_offset = plog_segment_end(plog, i),
		.slots = segment->slots,
		.gaps = segment->gaps,
		.segment = segment,
	};
	if (active)
		ret_reader->last = plog->last;
	return 0;
}

int plog_pin(struct plog *plog, size_t i, struct segment_reader *ret_reader)
{
	int rc = plog_reader(plog, i, ret_reader);

	if (!rc)
		plog->segments[i]->users++;
	plog_put_dir(plog);
	return rc;
}

void plog_unpin(struct plog *plog, struct segment *segment)
{
	segment->users--;
	if (!segment->removed)
		close_if_idle(plog, segment);
	else if (segment->users == 0)
		segment_free(segment);
}

void plog_forget(struct plog *plog, struct segment *segment)
{
	for (size_t k = 0; k < LIMIT_OPEN_SEALED; k++)
		if (plog->kept[k] == segment)
			plog->kept[k] = NULL;
	segment->removed = true;
	if (segment->users == 0)
		segment_free(segment);
}

void plog_detach(struct plog *plog, size_t n)
{
	for (size_t i = 0; i < n; i++)
		plog_forget(plog, plog->segments[i]);
	plog->count -= n;
	memmove(plog->segments, plog->segments + n, plog->count * sizeof(*plog->segments));
}

int plog_roll(struct plog *plog, uint64_t base, uint64_t base_pos)
{
	struct segment *old = plog_active(plog), *segment;
	struct segment_home home;
	int rc = plog_repair(plog);

	if (!rc)
		rc = home_of(plog, &home);
	if (!rc)
		rc = reserve(plog);
	if (rc)
		return rc;
	segment = segment_new(base);
	if (!segment)
		return -ENOMEM;
	rc = FAILPOINT("roll_before_create");
	if (!rc)
		rc = segment_create(segment, &home, base_pos, clock_wall_ms());
	if (rc)
		goto err_after_new;
	rc = FAILPOINT("roll_after_create");
	if (!rc)
		rc = io->fsync(home.dirfd);
	if (rc)
		goto err_after_create;
	if (plog->last.count > 0)
		old->last_ms = plog->last.ts_ms;
	plog->segments[plog->count++] = segment;
	plog->end_offset = base;
	plog->frozen = 0;
	plog->last = (struct index_entry){ 0 };
	keep(plog, old);
	return 0;

err_after_create:
	segment_unlink(base, home.dirfd);
err_after_new:
	segment_free(segment);
	return rc;
}

/* The time of a segment's last message that is not damaged. ENOENT: there is none. */
static int read_last_ms(struct plog *plog, size_t i, int64_t *ret_ms)
{
	struct segment_reader reader;
	struct index_entry entry = { 0 };
	uint32_t slot;
	int rc = plog_reader(plog, i, &reader);

	if (!rc)
		rc = reader.slots > 0 ? segment_read_entry_before(&reader, reader.slots - 1, &slot, &entry) : -ENOENT;
	if (!rc)
		*ret_ms = entry.ts_ms;
	return rc;
}

int plog_last_ms(struct plog *plog, size_t i, int64_t *ret_ms)
{
	struct segment *segment = plog->segments[i];
	int rc = 0;

	if (segment == plog_active(plog) && plog->last.count > 0) {
		*ret_ms = plog->last.ts_ms;
		return 0;
	}
	if (segment->last_ms == SEGMENT_TIME_UNKNOWN)
		rc = read_last_ms(plog, i, &segment->last_ms);
	if (rc && !io_is_damage(rc))
		return rc;
	if (rc == -ENOENT && segment->loaded && segment != plog_active(plog))
		segment->last_ms = segment->created_ms;
	*ret_ms = segment->last_ms == SEGMENT_TIME_UNKNOWN ? segment->created_ms : segment->last_ms;
	return 0;
}

int plog_repair(struct plog *plog)
{
	struct segment *active = plog_active(plog);
	uint8_t slot[INDEX_SLOT];
	int rc;

	if (!plog->repair)
		return 0;
	rc = plog_dir(plog);
	if (rc >= 0)
		rc = segment_open_files(active, plog->dirfd, true);
	if (rc >= 0)
		rc = segment_truncate(active);
	if (!rc && plog->last.count > 0) { /* it may have been about to be extended */
		index_put_entry(slot, &plog->last);
		rc = segment_write_slots(active, active->slots - 1, slot, 1);
	}
	if (rc < 0)
		return rc;
	plog->repair = false;
	return 0;
}
