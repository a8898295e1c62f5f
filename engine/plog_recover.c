/*
 * plog_recover - opening a log, and what a crash or a damaged disk left of it.
 *
 * The names of the index files say which segments there are and at which offsets they begin. Only the last needs to be
 * looked at, and those before it that had been rolled but not synced: their tails are checked (segment_check.c).
 *   - The last one is cut at its first entry that is not whole.
 *   - If one before it is torn and nothing after it was ever synced, that is the power cut: the log ends there. If something
 *     after it was synced, then so had it been: it is damaged, and readers will be told batch by batch.
 *   - A last segment whose front cannot be read and that has no entry was just being made: it goes. Its data, should there
 *     be any, has lost its index; it is not ours to throw away, and is set aside as BASE.lost.
 *   - Entries that had been synced are missing at the end of the index: their offsets must not be given again, so the log
 *     goes on in a new segment at the offset the mark tells. Likewise if `start` is beyond the end.
 *
 * Where more is known to have been on disk than the log has (struct plog_known), its last segments are gone: files that somebody removed,
 * or that a repair of the file system did not find again. It goes on at the end that is known; the segment before says so in
 * its mark, as one does whose index is short, so that what follows is not taken for a crash's at the next opening.
 *
 * Leftovers of a trim that was under way (segments below `start`, data files without index) are removed. Another data file
 * without an index, before the first segment or after the last, has lost it if there is something in it, and is set aside as well:
 * a new segment has its index on disk before it has data.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/failpoint.h"
#include "engine/io.h"
#include "engine/plog_internal.h"

#define TOKEN_MAGIC 0xc3b1f8625d9e0a00u /* nothing that chance or another engine would put there */

static void drop_below_start(struct plog *plog)
{
	size_t n = 0;

	for (; n + 1 < plog->count && plog->segments[n + 1]->base <= plog->start_offset; n++)
		if (!plog->options.read_only)
			plog_unlink_segment(plog, plog->dirfd, plog->segments[n]->base);
	if (n > 0)
		plog_detach(plog, n);
}

/* ------------------------------------------------------------------------------------- the last one */

static off_t file_size(int fd)
{
	struct stat st;

	return fd >= 0 && !fstat(fd, &st) ? st.st_size : 0;
}

/* Data whose index is lost is not ours to throw away. */
static int set_aside(struct plog *plog, uint64_t base)
{
	char data[SEGMENT_NAME_SIZE], lost[SEGMENT_NAME_SIZE];
	int rc = 0;

	segment_name(data, base, "data");
	segment_name(lost, base, "lost");
	if (!plog->options.read_only)
		rc = io->rename(plog->dirfd, data, plog->dirfd, lost);
	if (!rc)
		plog_notify(
		    plog, EIO, "the index of segment %020" PRIu64 " is lost; its data is kept in %s", base, lost);
	return rc;
}

/* What data the last segment has, whose front is lost. */
static int keep_data(struct plog *plog)
{
	const struct segment *segment = plog_active(plog);

	return file_size(segment->data_fd) > 0 ? set_aside(plog, segment->base) : 0;
}

/* A data file before the first segment, or after the last. What cannot be looked at stays. */
static int settle_stray(struct plog *plog, uint64_t base)
{
	bool trimmed =
	    plog->count > 0 && base < plog->segments[0]->base && plog->segments[0]->base <= plog->start_offset;
	char name[SEGMENT_NAME_SIZE];
	off_t size;
	int fd, rc = 0;

	segment_name(name, base, "data");
	fd = trimmed ? -ENOENT : io_open_existing(plog->dirfd, name, O_RDONLY | O_NOFOLLOW);
	if (fd < 0 && fd != -ENOENT)
		return io_wants_means(fd) ? fd : 0;
	size = file_size(fd);
	if (fd >= 0)
		close(fd);
	if (size > 0)
		rc = set_aside(plog, base);
	if (!rc && !plog->options.read_only)
		plog_unlink_segment(plog, plog->dirfd, base);
	return rc;
}

/* Takes it out of the log, which has others. */
static int drop_last(struct plog *plog)
{
	struct segment *segment = plog_active(plog);
	int rc = plog->options.read_only ? 0 : segment_unlink(segment->base, plog->dirfd);

	if (!rc && !plog->options.read_only)
		rc = io->fsync(plog->dirfd);
	if (rc)
		return rc;
	plog->count--;
	segment_free(segment);
	return 0;
}

/* Or makes an empty one of it, if it is the only one: a log always has one, whatever fails. */
static int remake_only(struct plog *plog, const struct segment_home *home)
{
	struct segment *segment = plog_active(plog);
	uint64_t base_pos = segment->base == plog->start_offset ? plog->start_pos : 0;
	int rc = segment_remake(segment, home, base_pos, clock_wall_ms());

	return rc ? rc : io->fsync(home->dirfd);
}

/* 1, 0 or negative errno. */
static int has_entry(const struct segment *segment)
{
	struct segment_reader reader = {
		.index_fd = segment->index_fd, .base = segment->base, .end_offset = UINT64_MAX
	};
	struct index_entry entry;
	uint32_t slot;
	int rc = -ENOENT;

	reader.slots = segment->slots;
	if (segment->slots > 0)
		rc = segment_read_entry_before(&reader, segment->slots - 1, &slot, &entry);
	return rc == -ENOENT ? 0 : rc ? rc : 1;
}

/* Drops last segments that were just being made. Also finds out whether this is a log of this store at all. */
static int drop_unborn(struct plog *plog)
{
	const struct segment_home home = {
		.dirfd = plog->dirfd, .log_id = plog->options.id, .uuid = plog->options.store_uuid
	};
	bool read_only = plog->options.read_only;

	for (;;) {
		struct segment *last = plog_active(plog);
		struct index_mark mark;
		int rc = segment_open_files(last, plog->dirfd, !read_only);

		if (!rc)
			rc = segment_load(last, &home, &mark);
		if (rc != -EBADMSG)
			return rc;
		rc = has_entry(last);
		if (rc || (plog->count == 1 && read_only))
			return rc < 0 ? rc : 0;
		rc = keep_data(plog);
		if (!rc && plog->count == 1)
			return remake_only(plog, &home);
		if (!rc)
			rc = drop_last(plog);
		if (rc)
			return rc;
	}
}

/* --------------------------------------------------------------------------------------- the tail */

/* The first segment whose end may not have been synced. */
static int find_unsynced(struct plog *plog, size_t *ret_i)
{
	size_t i = plog->count - 1;
	struct index_mark mark;

	for (; i > 0; i--) {
		int rc = plog_load(plog, i - 1, &mark);

		if (rc)
			return rc;
		if (mark.end_offset == plog->segments[i]->base)
			break;
	}
	*ret_i = i;
	return 0;
}

/* Whether something of the segments from i on was ever synced: 1, 0, or negative errno if one cannot be read, which is no answer. */
static int was_synced(struct plog *plog, size_t i)
{
	struct index_mark mark;

	for (; i < plog->count; i++) {
		int rc = plog_load(plog, i, &mark);

		if (rc)
			return rc;
		if (mark.end_offset > plog->segments[i]->base)
			return 1;
	}
	return 0;
}

/* The log ends in segment i: what comes after it goes. */
static int drop_after(struct plog *plog, size_t i)
{
	size_t n = plog->count - 1 - i;

	if (n == 0)
		return 0;
	for (; plog->count - 1 > i; plog->count--) {
		struct segment *segment = plog_active(plog);
		char data[SEGMENT_NAME_SIZE];
		int rc = 0;

		/* First its data, which without an index would be taken for one that has lost it. */
		segment_name(data, segment->base, "data");
		if (!plog->options.read_only)
			rc = io->unlink(plog->dirfd, data, 0);
		if ((!rc || rc == -ENOENT) && !plog->options.read_only)
			rc = segment_unlink(segment->base, plog->dirfd);
		if (rc)
			return rc;
		segment_free(segment);
	}
	plog_notify(plog, 0, "dropped %zu segments that a crash left behind a torn one", n);
	return plog->options.read_only ? 0 : io->fsync(plog->dirfd);
}

/* So that what is cut off does not come back behind what is appended from now on. */
static int truncate_durably(struct segment *segment)
{
	int rc = segment_truncate(segment);

	if (!rc)
		rc = io->fdatasync(segment->index_fd);
	if (!rc && segment->data_fd >= 0)
		rc = io->fdatasync(segment->data_fd);
	if (!rc && segment->meta_fd >= 0)
		rc = io->fdatasync(segment->meta_fd);
	return rc;
}

/* Cuts the last segment to what is whole of it and says what that costs. */
static int cut(struct plog *plog, const struct segment_whole *whole)
{
	struct segment *active = plog_active(plog);
	off_t index_end = (off_t)INDEX_FIRST + (off_t)whole->slots * INDEX_SLOT, over = 0, size;
	uint32_t entries = active->slots - whole->slots;
	bool differs = file_size(active->index_fd) > index_end;

	size = file_size(active->data_fd);
	over = size > whole->data_end ? size - whole->data_end : 0;
	differs = differs || over > 0 || file_size(active->meta_fd) > whole->meta_end;
	active->slots = whole->slots;
	active->data_end = whole->data_end;
	active->meta_end = whole->meta_end;
	plog->end_offset = whole->end_offset;
	if (!differs)
		return 0;
	plog_notify(plog, 0,
	    "cut %" PRIu32 " batches and %jd bytes that a crash left unfinished behind offset %" PRIu64, entries,
	    (intmax_t)over, whole->end_offset);
	CRASHPOINT("recover_tail");
	return plog->options.read_only ? 0 : truncate_durably(active);
}

/* Looks at segments i to the last, all of which may be torn. */
static int recover_tail(struct plog *plog, size_t i, bool *ret_short)
{
	struct segment_whole whole;
	struct index_mark mark;
	int rc;

	for (;; i++) {
		struct segment *segment = plog->segments[i];

		rc = plog_load(plog, i, &mark);
		if (!rc)
			rc = segment_open_files(segment, plog->dirfd, !plog->options.read_only);
		if (!rc)
			rc = segment_check(segment, &mark, plog->options.is_lost, plog->options.ctx, &whole);
		if (rc)
			return rc;
		if (plog->synced == segment->base)
			plog->synced = mark.end_offset;
		if (i + 1 == plog->count)
			break;
		segment->data_end = whole.data_end;
		segment->meta_end = whole.meta_end;
		if (whole.end_offset == plog->segments[i + 1]->base)
			continue;
		rc = was_synced(plog, i + 1);
		if (rc < 0)
			return rc;
		if (rc == 0)
			break;
		plog->synced = plog->segments[i + 1]->base;
	}
	rc = drop_after(plog, i);
	if (!rc)
		rc = cut(plog, &whole);
	*ret_short = whole.short_index;
	return rc;
}

/* ------------------------------------------------------------------------------------------ opening */

/* What is known of the active segment from its last entry; and the time of the last message there is. */
static int load_last(struct plog *plog)
{
	struct segment_reader reader;
	int rc = plog_reader(plog, plog->count - 1, &reader);

	if (!rc && reader.slots > 0) {
		rc = segment_read_entry(&reader, reader.slots - 1, &plog->last);
		rc = rc == -EBADMSG ? 0 : rc;
	}
	if (rc)
		return rc;
	plog->frozen = reader.slots;
	return plog_last_ms(
	    plog, reader.slots == 0 && plog->count > 1 ? plog->count - 2 : plog->count - 1, &plog->mtime_ms);
}

/* A data file that somebody removed: its messages are lost, but new ones need a file to go to. */
static int ensure_data(struct plog *plog)
{
	struct segment *active = plog_active(plog);
	char name[SEGMENT_NAME_SIZE];
	int fd;

	if (active->data_fd >= 0 || plog->options.read_only)
		return 0;
	segment_name(name, active->base, "data");
	fd = io->open(plog->dirfd, name, O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		return fd;
	segment_set_fd(&active->data_fd, fd);
	plog_notify(plog, EIO, "the data of segment %020" PRIu64 " is lost", active->base);
	return io->fsync(plog->dirfd);
}

/* Where the log begins, now that its end is known. */
static int settle_start(struct plog *plog)
{
	int rc;

	if (plog->start_offset > plog->end_offset) {
		if (plog->options.read_only) {
			plog->start_offset = plog->end_offset;
			plog->start_pos = plog_end_pos(plog);
			return 0;
		}
		rc = plog_roll(plog, plog->start_offset, plog->start_pos);
		plog->synced = plog->start_offset;
		if (!rc)
			drop_below_start(plog);
		return rc;
	}
	if (plog->segments[0]->base < plog->start_offset)
		return 0;
	rc = plog_load(plog, 0, NULL);
	plog->start_offset = plog->segments[0]->base;
	plog->start_pos = plog->segments[0]->base_pos;
	return rc;
}

/* ------------------------------------------------------------------------------- files that are gone */

/* The mark of the last segment says that the log had messages up to this offset. */
static int put_known_mark(struct plog *plog, uint64_t end)
{
	struct segment *active = plog_active(plog);
	struct segment_reader reader;
	struct index_mark mark;
	int rc = plog_load(plog, plog->count - 1, &mark);

	if (!rc)
		rc = plog_reader(plog, plog->count - 1, &reader);
	if (rc)
		return rc;
	if (mark.index_end < INDEX_FIRST + active->slots * INDEX_SLOT)
		mark.index_end = INDEX_FIRST + active->slots * INDEX_SLOT;
	mark.end_offset = end;
	mark.base_pos = active->base_pos;
	mark.data_end = active->data_end;
	mark.meta_end = active->meta_end;
	mark.gaps = active->gaps;
	segment_put_mark(&reader, &mark);
	return io->fdatasync(active->index_fd);
}

/* Goes on at the end that is known, if that is beyond the end there is. */
static int go_on_at_known(struct plog *plog)
{
	const struct plog_known *known = &plog->options.known;
	uint64_t pos = plog_end_pos(plog) > plog->start_pos ? plog_end_pos(plog) : plog->start_pos;
	int rc;

	if (!known->is_known || known->end <= plog->end_offset || known->end <= plog->start_offset)
		return 0;
	plog->lost_from = plog->end_offset > plog->start_offset ? plog->end_offset : plog->start_offset;
	plog->lost_to = known->end;
	if (plog->options.read_only)
		return 0;
	rc = put_known_mark(plog, known->end);
	if (!rc)
		rc = plog_roll(plog, known->end, known->pos > pos ? known->pos : pos);
	if (!rc)
		plog->synced = known->end;
	return rc;
}

/* All segments are gone: the first of those to come. */
static int make_first(struct plog *plog)
{
	const struct segment_home home = {
		.dirfd = plog->dirfd, .log_id = plog->options.id, .uuid = plog->options.store_uuid
	};
	const struct plog_known *known = &plog->options.known;
	uint64_t base = known->end > plog->start_offset ? known->end : plog->start_offset;
	uint64_t pos = known->pos > plog->start_pos ? known->pos : plog->start_pos;
	struct segment *segment = segment_new(base);
	int rc = segment ? plog_push(plog, segment) : -ENOMEM;

	if (rc) {
		segment_free(segment);
		return rc;
	}
	rc = segment_create(segment, &home, pos, clock_wall_ms());
	if (!rc)
		rc = io->fsync(plog->dirfd);
	if (rc)
		return rc;
	plog_notify(plog, EIO, "all its segments are gone; it begins anew at offset %" PRIu64, base);
	plog->lost_from = plog->start_offset;
	plog->lost_to = plog->end_offset = plog->synced = plog->start_offset = base;
	plog->start_pos = pos;
	return load_last(plog);
}

static int settle_strays(struct plog *plog, const struct plog_bases *strays)
{
	int rc = 0;

	for (size_t i = 0; i < strays->count && !rc; i++)
		rc = settle_stray(plog, strays->list[i]);
	return rc;
}

static int recover(struct plog *plog, const struct plog_bases *strays)
{
	size_t unsynced = 0;
	bool is_short = false;
	int rc = 0;

	if (plog->count == 0) { /* before, as one may have the name that is made now */
		rc = settle_strays(plog, strays);
		return rc ? rc : make_first(plog);
	}
	rc = drop_unborn(plog);
	if (!rc)
		rc = settle_strays(plog, strays);
	if (rc)
		return rc;
	drop_below_start(plog);
	rc = find_unsynced(plog, &unsynced);
	if (rc)
		return rc;
	plog->synced = plog->segments[unsynced]->base;
	rc = recover_tail(plog, unsynced, &is_short);
	if (!rc)
		rc = ensure_data(plog);
	if (!rc && is_short) {
		plog_notify(
		    plog, EIO, "the end of an index is lost, with the messages before %" PRIu64, plog->end_offset);
		if (!plog->options.read_only)
			rc = plog_roll(plog, plog->end_offset, plog_end_pos(plog));
	}
	if (!rc)
		rc = go_on_at_known(plog);
	if (!rc)
		rc = settle_start(plog);
	if (!rc)
		rc = load_last(plog);
	plog_active(plog)->own = plog_active(plog)->data_end;
	return rc;
}

static struct plog *plog_new(const struct plog_options *options)
{
	static _Atomic uint64_t opened;
	struct plog *plog = calloc(1, sizeof(*plog));

	if (!plog)
		return NULL;
	plog->options = *options;
	plog->token = TOKEN_MAGIC + atomic_fetch_add(&opened, 1);
	plog->dirfd = -1;
	pthread_mutex_init(&plog->mutex, NULL);
	pthread_mutex_init(&plog->trim_mutex, NULL);
	return plog;
}

/* Its directory is gone. */
static int remake_dir(struct plog *plog)
{
	const struct plog_options *options = &plog->options;
	char name[PLOG_NAME_SIZE];
	int rc;

	plog_name(name, options->id);
	if (!options->remake || options->read_only || !options->known.is_known)
		return engine_explain(-ENOENT, "log %s is not there%s", name,
		    options->known.is_known ? "; fsck.mqfs -y makes it anew, empty" : "");
	rc = io->mkdir(options->logs_dirfd, name, 0700);
	if (!rc)
		rc = io->fsync(options->logs_dirfd);
	return rc ? rc : plog_dir(plog);
}

int plog_open(const struct plog_options *options, struct plog **ret_plog)
{
	struct plog *plog = plog_new(options);
	struct plog_bases strays = { 0 };
	int rc;

	if (!plog)
		return -ENOMEM;
	rc = plog_dir(plog);
	if (rc == -ENOENT)
		rc = remake_dir(plog);
	if (rc >= 0)
		rc = plog_finish_swap(plog);
	if (!rc)
		rc = plog_list(plog, &strays);
	if (!rc)
		rc = plog_read_start(plog);
	if (!rc)
		rc = plog_read_clean(plog);
	if (!rc)
		rc = recover(plog, &strays);
	if (!rc && plog->has_gaps)
		rc = plog_settle_positions(plog);
	free(strays.list);
	if (rc) {
		plog_free(plog);
		return rc;
	}
	plog->known = true;
	plog_release_files(plog);
	*ret_plog = plog;
	return 0;
}
