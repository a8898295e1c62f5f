/*
 * segment - making, opening, loading, writing and removing the files of one segment. See segment.h.
 */
#include "engine/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/io.h"
#include "engine/limits.h"

struct segment *segment_new(uint64_t base)
{
	struct segment *segment = calloc(1, sizeof(*segment));

	if (!segment)
		return NULL;
	segment->base = base;
	segment->last_ms = SEGMENT_TIME_UNKNOWN;
	segment->own = UINT32_MAX;
	segment->data_fd = segment->index_fd = segment->meta_fd = -1;
	return segment;
}

void segment_free(struct segment *segment)
{
	if (!segment)
		return;
	segment_close_files(segment);
	free(segment);
}

void segment_name(char out[SEGMENT_NAME_SIZE], uint64_t base, const char *suffix)
{
	snprintf(out, SEGMENT_NAME_SIZE, "%020" PRIu64 ".%s", base, suffix);
}

static _Atomic size_t files_open;
static _Atomic int last_fd;

size_t segment_files_open(void)
{
	return atomic_load_explicit(&files_open, memory_order_relaxed);
}

int segment_last_fd(void)
{
	return atomic_load_explicit(&last_fd, memory_order_relaxed);
}

static void close_fd(int *fd)
{
	if (*fd >= 0) {
		close(*fd);
		atomic_fetch_sub_explicit(&files_open, 1, memory_order_relaxed);
		atomic_store_explicit(&last_fd, 0, memory_order_relaxed);
	}
	*fd = -1;
}

void segment_set_fd(int *fd, int opened)
{
	*fd = opened;
	atomic_store_explicit(&last_fd, opened, memory_order_relaxed);
	atomic_fetch_add_explicit(&files_open, 1, memory_order_relaxed);
}

void segment_close_files(struct segment *segment)
{
	close_fd(&segment->data_fd);
	close_fd(&segment->index_fd);
	close_fd(&segment->meta_fd);
	segment->opened = false;
}

static int open_file(const struct segment *segment, int dirfd, const char *suffix, int flags)
{
	char name[SEGMENT_NAME_SIZE];

	segment_name(name, segment->base, suffix);
	return flags & O_CREAT ? io->open(dirfd, name, flags, 0600) : io_open_existing(dirfd, name, flags | O_NOFOLLOW);
}

/* Opens one file unless it is open. missing: it need not be there. */
static int ensure_open(const struct segment *segment, int dirfd, const char *suffix, int flags, bool missing, int *fd)
{
	int rc;

	if (*fd >= 0)
		return 0;
	rc = open_file(segment, dirfd, suffix, flags);
	if (rc == -ENOENT && missing)
		return 0;
	if (rc < 0)
		return rc;
	segment_set_fd(fd, rc);
	return 0;
}

int segment_open_files(struct segment *segment, int dirfd, bool writable)
{
	int flags = writable ? O_RDWR : O_RDONLY, rc;

	if (segment->opened)
		return 0;
	rc = ensure_open(segment, dirfd, "index", flags, false, &segment->index_fd);
	if (!rc)
		rc = ensure_open(segment, dirfd, "data", flags, true, &segment->data_fd);
	if (!rc)
		rc = ensure_open(segment, dirfd, "meta", flags, true, &segment->meta_fd);
	segment->opened = !rc;
	return rc;
}

int segment_unlink(uint64_t base, int dirfd)
{
	static const char *const suffixes[] = { "index", "meta", "data" };

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++) {
		char name[SEGMENT_NAME_SIZE];
		int rc;

		segment_name(name, base, suffixes[i]);
		rc = io->unlink(dirfd, name, 0);
		if (rc && rc != -ENOENT)
			return rc;
	}
	return 0;
}

static int write_front(const struct segment *segment, const struct segment_home *home, int64_t now_ms)
{
	uint8_t front[INDEX_FIRST];
	struct index_header header = {
		.log_id = home->log_id, .base_offset = segment->base, .base_pos = segment->base_pos
	};
	struct index_mark mark = {
		.end_offset = segment->base, .base_pos = segment->base_pos, .index_end = INDEX_FIRST
	};

	header.created_ms = now_ms;
	memcpy(header.uuid, home->uuid, sizeof(header.uuid));
	index_put_header(front, &header);
	index_put_mark(front + INDEX_SLOT, &mark);
	return io_pwrite_all(segment->index_fd, front, sizeof(front), 0);
}

int segment_create(struct segment *segment, const struct segment_home *home, uint64_t base_pos, int64_t now_ms)
{
	int flags = O_RDWR | O_CREAT | O_TRUNC, rc;

	segment->base_pos = base_pos;
	segment->created_ms = now_ms;
	segment->own = 0;
	rc = open_file(segment, home->dirfd, "data", flags);
	if (rc < 0)
		return rc;
	segment_set_fd(&segment->data_fd, rc);
	rc = open_file(segment, home->dirfd, "index", flags);
	if (rc < 0)
		goto err_after_open;
	segment_set_fd(&segment->index_fd, rc);
	rc = write_front(segment, home, now_ms);
	if (!rc)
		rc = io->fdatasync(segment->index_fd);
	if (rc)
		goto err_after_open;
	segment->loaded = true;
	return 0;

err_after_open:
	segment_close_files(segment);
	segment_unlink(segment->base, home->dirfd);
	return rc;
}

int segment_remake(struct segment *segment, const struct segment_home *home, uint64_t base_pos, int64_t now_ms)
{
	int rc;

	segment_close_files(segment);
	segment->base_pos = base_pos;
	segment->created_ms = now_ms;
	segment->slots = segment->data_end = segment->meta_end = segment->own = 0;
	rc = ensure_open(segment, home->dirfd, "data", O_RDWR | O_CREAT, false, &segment->data_fd);
	if (!rc)
		rc = segment_open_files(segment, home->dirfd, true);
	if (!rc)
		rc = segment_truncate(segment);
	if (!rc)
		rc = write_front(segment, home, now_ms);
	if (!rc)
		rc = io->fdatasync(segment->index_fd);
	segment->loaded = !rc;
	return rc;
}

int segment_create_meta(struct segment *segment, int dirfd)
{
	int rc;

	if (segment->meta_fd >= 0)
		return 0;
	rc = open_file(segment, dirfd, "meta", O_RDWR | O_CREAT);
	if (rc < 0)
		return rc;
	segment_set_fd(&segment->meta_fd, rc);
	rc = io->fsync(dirfd);
	if (rc)
		close_fd(&segment->meta_fd);
	return rc;
}

/* Whether a header that can be read is that of this segment. */
static int check_header(
    const struct segment *segment, const struct segment_home *home, const struct index_header *header)
{
	if (memcmp(header->uuid, home->uuid, sizeof(header->uuid)))
		return engine_explain(-EUCLEAN, "log %016" PRIx64 ": segment %020" PRIu64 " is of another store",
		    home->log_id, segment->base);
	if (header->log_id != home->log_id || header->base_offset != segment->base)
		return engine_explain(-EUCLEAN,
		    "log %016" PRIx64 ": segment %020" PRIu64 " is segment %020" PRIu64 " of log %016" PRIx64,
		    home->log_id, segment->base, header->base_offset, header->log_id);
	return 0;
}

/* The file's front; of one that is too short to have been finished, zeros. */
static int read_front(int fd, uint8_t front[INDEX_FIRST], uint32_t *ret_slots)
{
	struct stat st;
	uint64_t slots;

	if (fstat(fd, &st))
		return -errno;
	memset(front, 0, INDEX_FIRST);
	*ret_slots = 0;
	if (st.st_size < INDEX_FIRST)
		return 0;
	slots = (uint64_t)(st.st_size - INDEX_FIRST) / INDEX_SLOT;
	*ret_slots = slots < LIMIT_SEGMENT_SLOTS ? (uint32_t)slots : LIMIT_SEGMENT_SLOTS;
	return io_pread_all(fd, front, INDEX_FIRST, 0);
}

int segment_load(struct segment *segment, const struct segment_home *home, struct index_mark *ret_mark)
{
	uint8_t front[INDEX_FIRST];
	struct index_header header = { 0 };
	struct index_mark mark;
	int rc, header_rc, fd = segment->index_fd;

	if (fd < 0)
		fd = open_file(segment, home->dirfd, "index", O_RDONLY);
	if (fd < 0)
		return fd;
	rc = read_front(fd, front, &segment->slots);
	if (fd != segment->index_fd)
		close(fd);
	if (rc)
		return rc;
	header_rc = index_get_header(front, &header);
	if (header_rc == -EUCLEAN)
		return engine_explain(-EUCLEAN, "log %016" PRIx64 ": segment %020" PRIu64 " is of a newer format",
		    home->log_id, segment->base);
	if (!header_rc && (rc = check_header(segment, home, &header)))
		return rc;
	segment->base_pos = header.base_pos;
	segment->created_ms = header.created_ms;
	segment->gaps = header.gaps;
	rc = index_get_mark(front + INDEX_SLOT, &mark);
	if (rc || mark.end_offset < segment->base)
		mark = (struct index_mark){
			.end_offset = segment->base, .base_pos = header.base_pos, .index_end = INDEX_FIRST
		};
	segment->gaps = segment->gaps || mark.gaps;
	*ret_mark = mark;
	if (header_rc && rc)
		return -EBADMSG;
	if (header_rc)
		segment->base_pos = mark.base_pos;
	segment->loaded = true;
	return 0;
}

int segment_write_data(const struct segment *segment, const char *data, uint32_t size)
{
	return io_pwrite_all(segment->data_fd, data, size, segment->data_end);
}

int segment_write_meta(const struct segment *segment, const uint8_t *meta, uint32_t size)
{
	return io_pwrite_all(segment->meta_fd, meta, size, segment->meta_end);
}

static off_t slot_pos(uint32_t slot)
{
	return (off_t)INDEX_FIRST + (off_t)slot * INDEX_SLOT;
}

int segment_write_slots(const struct segment *segment, uint32_t first, const uint8_t *slots, uint32_t count)
{
	return io_pwrite_all(segment->index_fd, slots, (size_t)count * INDEX_SLOT, slot_pos(first));
}

int segment_truncate(const struct segment *segment)
{
	int rc = io->ftruncate(segment->index_fd, slot_pos(segment->slots));

	if (!rc && segment->data_fd >= 0)
		rc = io->ftruncate(segment->data_fd, segment->data_end);
	if (!rc && segment->meta_fd >= 0)
		rc = io->ftruncate(segment->meta_fd, segment->meta_end);
	return rc;
}

void segment_put_mark(const struct segment_reader *reader, const struct index_mark *mark)
{
	uint8_t slot[INDEX_SLOT];

	index_put_mark(slot, mark);
	(void)io_pwrite_all(reader->index_fd, slot, sizeof(slot), INDEX_SLOT);
}

int segment_sync(const struct segment_reader *reader, const struct index_mark *mark)
{
	int rc = reader->data_fd >= 0 ? io->fdatasync(reader->data_fd) : 0;

	if (!rc && reader->meta_fd >= 0)
		rc = io->fdatasync(reader->meta_fd);
	if (!rc)
		rc = io->fdatasync(reader->index_fd);
	if (rc)
		return rc;
	segment_put_mark(reader, mark);
	return 0;
}
