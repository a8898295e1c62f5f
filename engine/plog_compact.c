/*
 * plog_compact - older messages of a key go.
 *
 * Sealed segments are read from the first to the last, and those messages that are to be kept are written to new files aside, as
 * many segments into one as fit into segment_bytes; then that takes their place (plog_swap.c). The active segment is left
 * alone. Nobody is held up: the reading and writing runs without a lock, on pinned segments, and appends go on.
 *
 * From the first to the last, because a tombstone may go only when nothing older of its key is left that could come to
 * life again. So if a group cannot be read, it stays as it is, and no tombstone goes in this run.
 *
 * The last message of the sealed segments stays, whatever it is: the log has no gap at its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/crc32c.h"
#include "engine/failpoint.h"
#include "engine/io.h"
#include "engine/meta.h"
#include "engine/plog_internal.h"

#define BUFFER (128u << 10)

/* A file aside, written through a buffer. */
struct stream {
	int fd;
	uint64_t end; /* with what is in the buffer */
	size_t used;
	uint8_t *buf;
};

struct output {
	struct stream data, meta, index;
	uint32_t slots;
	uint64_t dropped; /* messages that were not taken over */
};

struct run {
	struct plog *plog;
	int dirfd;
	struct plog_compaction *how;
	uint64_t end;         /* where the first segment begins that is left alone */
	uint64_t last_offset; /* that stays */
	uint64_t start_offset;
	struct engine_scratch scratch;
	bool *keep; /* of the messages of a batch */
	uint32_t keep_room;
};

/* ---- writing ---- */

static int stream_open(struct stream *stream, int dirfd, uint64_t base, const char *suffix)
{
	char name[SEGMENT_NAME_SIZE];
	int rc;

	*stream = (struct stream){ .fd = -1, .buf = malloc(BUFFER) };
	if (!stream->buf)
		return -ENOMEM;
	plog_aside_name(name, base, suffix);
	rc = io->open(dirfd, name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (rc < 0)
		return rc;
	stream->fd = rc;
	return 0;
}

static int stream_flush(struct stream *stream)
{
	int rc = io_pwrite_all(stream->fd, stream->buf, stream->used, (off_t)(stream->end - stream->used));

	stream->used = 0;
	return rc;
}

static int stream_write(struct stream *stream, const void *bytes, size_t size)
{
	int rc = stream->used + size > BUFFER ? stream_flush(stream) : 0;

	if (!rc && size > BUFFER) {
		rc = io_pwrite_all(stream->fd, bytes, size, (off_t)stream->end);
	} else if (!rc) {
		memcpy(stream->buf + stream->used, bytes, size);
		stream->used += size;
	}
	stream->end += size;
	return rc;
}

static int stream_sync(struct stream *stream)
{
	int rc = stream_flush(stream);

	return rc ? rc : io->fdatasync(stream->fd);
}

static void stream_close(struct stream *stream)
{
	if (stream->fd >= 0)
		close(stream->fd);
	free(stream->buf);
}

static int output_open(struct output *out, int dirfd, uint64_t base)
{
	static const uint8_t front[INDEX_FIRST];
	int rc;

	memset(out, 0, sizeof(*out));
	out->data.fd = out->meta.fd = out->index.fd = -1;
	rc = stream_open(&out->data, dirfd, base, "data");
	if (!rc)
		rc = stream_open(&out->meta, dirfd, base, "meta");
	if (!rc)
		rc = stream_open(&out->index, dirfd, base, "index");
	return rc ? rc : stream_write(&out->index, front, sizeof(front)); /* room for header and mark */
}

static void output_close(struct output *out)
{
	stream_close(&out->data);
	stream_close(&out->meta);
	stream_close(&out->index);
}

/* Header and mark, then all to the disk. */
static int output_finish(const struct run *run, struct output *out, const struct plog_group *group)
{
	uint8_t front[INDEX_FIRST];
	struct index_header header = { .log_id = run->plog->options.id,
		.base_offset = group->base,
		.created_ms = group->created_ms,
		.gaps = true };
	struct index_mark mark = { .end_offset = group->end,
		.index_end = (uint32_t)out->index.end,
		.data_end = (uint32_t)out->data.end,
		.meta_end = (uint32_t)out->meta.end,
		.gaps = true };
	int rc;

	memcpy(header.uuid, run->plog->options.store_uuid, sizeof(header.uuid));
	header.base_pos = mark.base_pos = group->old[0]->base_pos;
	index_put_header(front, &header);
	index_put_mark(front + INDEX_SLOT, &mark);
	rc = stream_sync(&out->data);
	if (!rc)
		rc = stream_sync(&out->meta);
	if (!rc)
		rc = stream_flush(&out->index);
	if (!rc)
		rc = io_pwrite_all(out->index.fd, front, sizeof(front), 0);
	if (!rc)
		rc = io->fdatasync(out->index.fd);
	return rc ? rc : io->fsync(run->dirfd);
}

/* ---- copying ---- */

/* The messages first..first + count of a batch, which begin at pos of its data, as one entry. */
static int copy_messages(struct output *out, const struct engine_view *view, uint32_t first, uint32_t count, size_t pos)
{
	const struct engine_batch *batch = &view->batch;
	struct index_entry entry = { .base_offset = view->offset + first,
		.ts_ms = batch->ts_ms,
		.pos = (uint32_t)out->data.end,
		.count = count,
		.cred = batch->cred };
	uint8_t slot[INDEX_SLOT], flags, *meta = NULL;
	bool newlines = false;
	size_t len = 0;
	uint64_t size;
	int rc;

	for (uint32_t i = first; i < first + count; i++) {
		newlines = newlines || memchr(batch->data + pos + len, '\n', batch->lengths[i]) != NULL;
		len += (size_t)batch->lengths[i] + 1;
	}
	entry.length = (uint32_t)len;
	entry.data_crc = crc32c(0, batch->data + pos, len);
	flags = meta_flags(batch, first, count, newlines);
	size = flags ? meta_size(batch, first, count, flags) : 0;
	if (out->meta.end + size > LIMIT_SEGMENT_META || out->slots >= LIMIT_SEGMENT_SLOTS)
		return -EFBIG;
	if (size > 0) {
		meta = malloc(size);
		if (!meta)
			return -ENOMEM;
		entry.meta_pos = (uint32_t)out->meta.end;
		entry.meta_len = (uint32_t)size;
		meta_put(meta, (uint32_t)size, batch, first, count, flags, entry.data_crc);
	}
	index_put_entry(slot, &entry);
	rc = stream_write(&out->data, batch->data + pos, len);
	if (!rc && size > 0)
		rc = stream_write(&out->meta, meta, size);
	if (!rc)
		rc = stream_write(&out->index, slot, sizeof(slot));
	free(meta);
	out->slots++;
	return rc;
}

static int decide(struct run *run, const struct engine_view *view, uint32_t i)
{
	struct plog_compaction *how = run->how;
	uint64_t offset = view->offset + i;
	int keep;

	if (offset < run->start_offset)
		return 0;
	if (offset == run->last_offset || view->batch.props == NULL)
		return 1;
	keep = how->keep(how, offset, view->batch.ts_ms, &view->batch.props[i]);
	return keep == 0 && view->batch.props[i].tombstone && how->keep_tombstones == PLOG_KEEP_LATEST ? 1 : keep;
}

static int copy_batch(struct run *run, struct output *out, const struct engine_view *view)
{
	const struct engine_batch *batch = &view->batch;
	size_t pos = 0;
	bool *grown;
	int rc = 0;

	if (batch->count > run->keep_room) {
		grown = realloc(run->keep, batch->count * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		run->keep = grown;
		run->keep_room = batch->count;
	}
	for (uint32_t i = 0; i < batch->count; i++) {
		rc = decide(run, view, i);
		if (rc < 0)
			return rc;
		run->keep[i] = rc > 0;
		out->dropped += rc == 0;
	}
	rc = 0;
	for (uint32_t i = 0, count; i < batch->count && !rc; i += count) {
		size_t len = 0;

		for (count = 0; i + count < batch->count && run->keep[i + count] == run->keep[i]; count++)
			len += (size_t)batch->lengths[i + count] + 1;
		if (run->keep[i])
			rc = copy_messages(out, view, i, count, pos);
		pos += len;
	}
	return rc;
}

/* EBADMSG: something of it is damaged. */
static int copy_segment(struct run *run, struct output *out, const struct segment_reader *reader)
{
	struct index_entry entry;
	struct engine_view view;
	int rc = 0;

	for (uint32_t slot = 0; slot < reader->slots && !rc; slot++) {
		rc = segment_read_entry(reader, slot, &entry);
		if (!rc)
			rc = plog_fetch(reader, &entry, &run->scratch, &view);
		if (!rc)
			rc = copy_batch(run, out, &view);
	}
	return rc;
}

/* ---- groups ---- */

/* Pins the next segment of the group, if there is one that fits. 1: pinned; 0: the group is complete. */
static int pin_next(struct run *run, struct plog_group *group, const struct output *out, struct segment_reader *reader)
{
	struct plog *plog = run->plog;
	struct segment **old;
	uint64_t size;
	size_t at;
	int rc = 0;

	pthread_mutex_lock(&plog->mutex);
	at = plog_find(plog, group->end);
	if (plog->start_offset != group->start_offset || plog->segments[at]->base != group->end) {
		rc = -EAGAIN;
	} else if (group->end < run->end && at + 1 < plog->count) {
		rc = plog_load(plog, at, NULL);
		size = plog->segments[at + 1]->base_pos - plog->segments[at]->base_pos;
		old = !rc ? realloc(group->old, (group->count + 1) * sizeof(struct segment *)) : NULL;
		if (old)
			group->old = old;
		if (!rc && !old)
			rc = -ENOMEM;
		if (!rc && (group->count == 0 || out->data.end + size <= run->how->segment_bytes)) {
			rc = plog_pin(plog, at, reader);
			if (!rc) {
				group->old[group->count++] = plog->segments[at];
				group->end = reader->end_offset;
				rc = 1;
			}
		}
	}
	pthread_mutex_unlock(&plog->mutex);
	return rc;
}

static void unpin_all(struct plog *plog, struct plog_group *group)
{
	pthread_mutex_lock(&plog->mutex);
	for (size_t i = 0; i < group->count; i++)
		plog_unpin(plog, group->old[i]);
	pthread_mutex_unlock(&plog->mutex);
	free(group->old);
}

static int copy_group(struct run *run, struct plog_group *group, struct output *out)
{
	struct segment_reader reader;
	int rc = output_open(out, run->dirfd, group->base);

	while (rc == 0) {
		rc = pin_next(run, group, out, &reader);
		if (rc <= 0)
			break;
		rc = copy_segment(run, out, &reader);
	}
	if (rc)
		return rc;
	group->created_ms = group->old[0]->created_ms;
	group->slots = out->slots;
	group->data_end = (uint32_t)out->data.end;
	group->has_meta = out->meta.end > 0;
	return 0;
}

/* One group from offset base on; *ret_end is where the next one begins. */
static int compact_group(struct run *run, uint64_t base, uint64_t *ret_end)
{
	struct plog_group group = { .base = base, .end = base, .start_offset = run->start_offset };
	struct output out;
	bool changes;
	int rc = copy_group(run, &group, &out);

	changes = !rc && (out.dropped > 0 || group.count > 1);
	if (changes)
		rc = output_finish(run, &out, &group);
	output_close(&out);
	if (changes && !rc)
		rc = FAILPOINT("compact_after_copy");
	if (changes && !rc)
		rc = plog_swap(run->plog, run->dirfd, &group);
	if ((!changes || rc) && rc != -EROFS) /* then the next opening may need them */
		plog_remove_aside(run->dirfd, base);
	if (changes && !rc)
		run->how->removed += out.dropped;
	*ret_end = group.end;
	if (rc == -EROFS) /* they stay pinned: see plog_swap.c */
		free(group.old);
	else
		unpin_all(run->plog, &group);
	return rc;
}

/* Where the run begins and ends: before the segment that is not synced to its end. ENODATA: there is nothing before it. */
static int begin(struct run *run, uint64_t *ret_base)
{
	struct plog *plog = run->plog;
	struct segment_reader reader;
	struct index_entry last;
	uint32_t slot;
	size_t end;
	int rc = 0;

	pthread_mutex_lock(&plog->mutex);
	end = plog_find(plog, plog->synced < run->how->before ? plog->synced : run->how->before);
	run->end = plog->segments[end]->base;
	run->start_offset = plog->start_offset;
	run->last_offset = ENGINE_OFFSET_NONE;
	*ret_base = plog->segments[0]->base;
	if (plog->failed || plog->options.read_only)
		rc = -EROFS;
	else if (plog->swap_left)
		rc = -EIO;
	else if (end == 0)
		rc = -ENODATA;
	for (size_t i = 0; i < plog->count && !rc; i++)
		rc = plog_load(plog, i, NULL); /* from now on where they begin is kept in memory */
	for (size_t i = end; i > 0 && !rc && run->last_offset == ENGINE_OFFSET_NONE; i--) {
		rc = plog_reader(plog, i - 1, &reader);
		if (rc || reader.slots == 0)
			continue;
		rc = segment_read_entry_before(&reader, reader.slots - 1, &slot, &last);
		if (!rc)
			run->last_offset = last.base_offset + last.count - 1;
		rc = rc == -ENOENT ? 0 : rc;
	}
	pthread_mutex_unlock(&plog->mutex);
	return rc;
}

static int compact(struct run *run)
{
	uint64_t base = 0, next = 0;
	bool damaged = false;
	int rc = begin(run, &base);

	if (!rc && !run->plog->has_gaps)
		rc = plog_write_clean(run->plog, run->dirfd, 0);
	for (; !rc && base < run->end; base = next) {
		rc = compact_group(run, base, &next);
		if (rc != -EBADMSG)
			continue;
		damaged = true; /* those who read are told */
		run->how->keep_tombstones = PLOG_KEEP_LATEST;
		rc = next > base ? 0 : -EIO;
	}
	if (!rc && run->plog->clean_offset < run->end)
		rc = plog_write_clean(run->plog, run->dirfd, run->end);
	run->how->clean_offset = damaged ? 0 : run->end;
	return rc;
}

int plog_compact(struct plog *plog, struct plog_compaction *how)
{
	struct run run = { .plog = plog, .how = how, .dirfd = plog_open_dir(&plog->options) };
	int rc;

	how->removed = how->clean_offset = 0;
	if (run.dirfd < 0)
		return run.dirfd;
	rc = compact(&run);
	engine_scratch_release(&run.scratch);
	free(run.keep);
	close(run.dirfd);
	return rc == -ENODATA ? 0 : rc;
}

void plog_dirty(struct plog *plog, uint64_t *ret_dirty, uint64_t *ret_sealed)
{
	uint64_t end_pos, clean_pos;

	pthread_mutex_lock(&plog->mutex);
	end_pos = plog_active(plog)->base_pos;
	*ret_sealed = end_pos - (plog->start_pos < end_pos ? plog->start_pos : end_pos);
	clean_pos = plog->start_pos;
	if (plog->clean_offset > plog->start_offset && !plog_load(plog, plog_find(plog, plog->clean_offset), NULL))
		clean_pos = plog->segments[plog_find(plog, plog->clean_offset)]->base_pos;
	*ret_dirty = end_pos - (clean_pos < end_pos ? clean_pos : end_pos);
	pthread_mutex_unlock(&plog->mutex);
}
