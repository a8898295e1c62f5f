/*
 * plog_tail - what a log has and its disk may not, as one small record that goes to another file; and back.
 *
 * To have the end of a log on disk takes two syncs, of its data and of its index. A record of both in the journal takes one,
 * which everybody shares who wants something on disk at that moment, whichever log it is in. So a confirm of a few messages
 * goes that way; a log that has got many since its last sync is synced itself. The record is physical: bytes, and where in
 * which file they are. At the start each record is compared with the files, and written to them where they have not got it; that
 * can be done any number of times. The files are synced by the checkpoint that drops the record.
 *
 * What a record holds is not changed any more: the last entry, which later messages may extend in place, is frozen, as a
 * sync does it. A whole entry of the file that has other data is left alone, and the record with it: it is newer. So is a
 * segment whose own sync came later, as its mark says.
 *
 * A record, little-endian:
 *
 *    0  8  id of the log             8  8  offset at which the segment begins
 *   16  4  first slot               20  4  slots
 *   24  4  position of the data     28  4  bytes of it
 *   32  4  position of the meta     36  4  bytes of it
 *   40     the slots as in index.h, the meta, the data
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/crc32c.h"
#include "engine/io.h"
#include "engine/plog_internal.h"

#define HEAD 40u

struct tail {
	uint64_t id, base;
	uint32_t slot, slots, data_pos, data_len, meta_pos, meta_len;
	const uint8_t *slot_bytes, *meta, *data;
};

/* ---- to the record ---- */

struct plog_tail plog_tail_end(const struct plog *plog)
{
	const struct segment *active = plog_active(plog);

	return (struct plog_tail){ .base = active->base,
		.offset = plog->end_offset,
		.slots = active->slots,
		.data_end = active->data_end,
		.meta_end = active->meta_end };
}

/* Where the next record begins. EFBIG: in a segment that is not the active one any more. mutex */
static int tail_begin(const struct plog *plog, struct plog_tail *ret_from)
{
	const struct segment *active = plog_active(plog);
	uint64_t known = plog->tail.offset > plog->synced ? plog->tail.offset : plog->synced;

	if (plog->tail.base == active->base && plog->tail.offset >= plog->synced)
		*ret_from = plog->tail;
	else if (known <= active->base)
		*ret_from = (struct plog_tail){ .base = active->base, .offset = active->base };
	else
		return -EFBIG;
	return known >= active->base ? 0 : -EFBIG;
}

static int put_tail(const struct plog *plog, const struct plog_tail *from, const struct plog_tail *to, uint8_t *record,
    size_t room, size_t *ret_size)
{
	const struct segment *active = plog_active(plog);
	uint32_t slots = to->slots - from->slots, meta = to->meta_end - from->meta_end,
		 data = to->data_end - from->data_end;
	uint64_t size = HEAD + (uint64_t)slots * INDEX_SLOT + meta + data;
	uint8_t *at = record + HEAD;
	int rc;

	if (size > room)
		return -EFBIG;
	bytes_put64(record, plog->options.id);
	bytes_put64(record + 8, active->base);
	bytes_put32(record + 16, from->slots);
	bytes_put32(record + 20, slots);
	bytes_put32(record + 24, from->data_end);
	bytes_put32(record + 28, data);
	bytes_put32(record + 32, from->meta_end);
	bytes_put32(record + 36, meta);
	rc = io_pread_all(
	    active->index_fd, at, (size_t)slots * INDEX_SLOT, (off_t)INDEX_FIRST + (off_t)from->slots * INDEX_SLOT);
	at += (size_t)slots * INDEX_SLOT;
	if (!rc && meta > 0)
		rc = io_pread_all(active->meta_fd, at, meta, from->meta_end);
	at += meta;
	if (!rc)
		rc = io_pread_all(active->data_fd, at, data, from->data_end);
	*ret_size = (size_t)size;
	return rc;
}

int plog_tail(struct plog *plog, uint8_t *record, size_t room, size_t *ret_size, struct plog_tail *ret_to)
{
	struct plog_tail from, to;
	int rc;

	pthread_mutex_lock(&plog->mutex);
	rc = plog->failed || plog->options.read_only ? -EROFS : plog_repair(plog);
	to = plog_tail_end(plog);
	if (!rc && plog->synced < to.offset && plog->durable < to.offset) {
		rc = tail_begin(plog, &from);
		*ret_size = 0;
		if (!rc && from.slots < to.slots)
			rc = put_tail(plog, &from, &to, record, room, ret_size);
		if (!rc) {
			plog->frozen = to.slots;
			*ret_to = to;
			rc = 1;
		}
	}
	pthread_mutex_unlock(&plog->mutex);
	return rc;
}

void plog_tail_noted(struct plog *plog, const struct plog_tail *to)
{
	pthread_mutex_lock(&plog->mutex);
	if (plog->tail.offset < to->offset)
		plog->tail = *to;
	pthread_mutex_unlock(&plog->mutex);
}

void plog_tail_synced(struct plog *plog, const struct plog_tail *to)
{
	pthread_mutex_lock(&plog->mutex);
	if (plog->durable < to->offset)
		plog->durable = to->offset;
	pthread_mutex_unlock(&plog->mutex);
}

uint64_t plog_durable(struct plog *plog)
{
	uint64_t durable;

	pthread_mutex_lock(&plog->mutex);
	durable = plog->durable > plog->synced ? plog->durable : plog->synced;
	pthread_mutex_unlock(&plog->mutex);
	return durable;
}

/* ---- and back ---- */

static int get_tail(const uint8_t *record, size_t size, struct tail *ret_tail)
{
	struct tail tail = { .id = bytes_get64(record), .base = bytes_get64(record + 8) };
	uint64_t want;

	tail.slot = bytes_get32(record + 16);
	tail.slots = bytes_get32(record + 20);
	tail.data_pos = bytes_get32(record + 24);
	tail.data_len = bytes_get32(record + 28);
	tail.meta_pos = bytes_get32(record + 32);
	tail.meta_len = bytes_get32(record + 36);
	want = HEAD + (uint64_t)tail.slots * INDEX_SLOT + tail.meta_len + tail.data_len;
	if (want != size || tail.slots == 0)
		return -EBADMSG;
	tail.slot_bytes = record + HEAD;
	tail.meta = tail.slot_bytes + (size_t)tail.slots * INDEX_SLOT;
	tail.data = tail.meta + tail.meta_len;
	*ret_tail = tail;
	return 0;
}

int plog_record_end(const void *record, size_t size, struct plog_tail_end *ret_end)
{
	struct index_entry last;
	struct tail tail;

	if (size < HEAD || get_tail(record, size, &tail) < 0 ||
	    index_get_entry(tail.slot_bytes + (size_t)(tail.slots - 1) * INDEX_SLOT, &last) < 0)
		return -EBADMSG;
	*ret_end = (struct plog_tail_end){ tail.id, tail.base, last.base_offset + last.count, tail.data_len };
	return 0;
}

/* What the files have where the record belongs; zeros where they end before. */
static int read_there(const struct plog_redo *redo, const struct tail *tail, uint8_t *out)
{
	const struct {
		int fd;
		off_t pos;
		size_t len;
	} parts[] = {
		{ redo->index_fd, (off_t)INDEX_FIRST + (off_t)tail->slot * INDEX_SLOT,
		    (size_t)tail->slots * INDEX_SLOT },
		{ redo->meta_fd, tail->meta_pos, tail->meta_len },
		{ redo->data_fd, tail->data_pos, tail->data_len },
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		size_t done = 0;
		ssize_t n = 1;

		while (parts[i].fd >= 0 && done < parts[i].len && n != 0) {
			n = io->pread(parts[i].fd, out + done, parts[i].len - done, parts[i].pos + (off_t)done);
			if (n < 0)
				return (int)n;
			done += (size_t)n;
		}
		memset(out + done, 0, parts[i].len - done);
		out += parts[i].len;
	}
	return 0;
}

/* Whether the data of an entry is in the file, whole: 1, 0 or negative errno. */
static int is_whole(const struct plog_redo *redo, const struct index_entry *entry)
{
	uint8_t data[4096];
	uint32_t crc = 0;

	for (uint32_t at = 0, len; at < entry->length; at += len) {
		len = entry->length - at < sizeof(data) ? entry->length - at : (uint32_t)sizeof(data);

		int rc = io_pread_all(redo->data_fd, data, len, (off_t)entry->pos + at);

		if (rc)
			return rc == -ENODATA ? 0 : rc;
		crc = crc32c(crc, data, len);
	}
	return crc == entry->data_crc;
}

/*
 * Whether an entry of the file was written after the record: it is whole, and its data is not what the record begins with. (An
 * append that was taken back, and another in its place.) data: the file's where the record has its own. 1, 0 or negative errno.
 */
static int is_newer(const struct plog_redo *redo, const struct tail *tail, const uint8_t *slot, const uint8_t *data)
{
	struct index_entry entry;
	uint32_t skip;
	int rc = 0;

	if (!index_get_entry(slot, &entry) && entry.pos >= tail->data_pos)
		rc = is_whole(redo, &entry);
	if (rc <= 0)
		return rc;
	skip = entry.pos - tail->data_pos;
	return (uint64_t)skip + entry.length > tail->data_len ||
	       memcmp(data + skip, tail->data + skip, entry.length) != 0;
}

/* Whether the files want what the record has: 1, 0 or negative errno. */
static int is_missing(const struct plog_redo *redo, const struct tail *tail)
{
	size_t slots = (size_t)tail->slots * INDEX_SLOT, size = slots + tail->meta_len + tail->data_len;
	uint8_t *there = malloc(size);
	int rc = there != NULL ? read_there(redo, tail, there) : -ENOMEM;

	if (!rc)
		rc = memcmp(there, tail->slot_bytes, size) != 0;
	for (size_t i = 0; i < slots && rc == 1; i += INDEX_SLOT) {
		int newer = is_newer(redo, tail, there + i, there + slots + tail->meta_len);

		if (newer != 0)
			rc = newer < 0 ? newer : 0;
	}
	free(there);
	return rc;
}

static int open_one(int dirfd, uint64_t base, const char *suffix, int flags, int *ret_fd)
{
	char name[SEGMENT_NAME_SIZE];
	int fd;

	segment_name(name, base, suffix);
	fd = flags & O_CREAT ? io->open(dirfd, name, flags, 0600) : io_open_existing(dirfd, name, flags | O_NOFOLLOW);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

/* ENOENT: it is another, or none. */
static int check_segment(const struct plog_redo *redo, const uint8_t store_uuid[16])
{
	uint8_t bytes[INDEX_SLOT];
	struct index_header header;
	int rc = io_pread_all(redo->index_fd, bytes, sizeof(bytes), 0);

	if (rc < 0)
		return rc == -ENODATA ? -ENOENT : rc;
	return !index_get_header(bytes, &header) && header.log_id == redo->id && header.base_offset == redo->base &&
		       memcmp(header.uuid, store_uuid, sizeof(header.uuid)) == 0
		   ? 0
		   : -ENOENT;
}

void plog_redo_close(struct plog_redo *redo)
{
	int *fds[] = { &redo->dirfd, &redo->index_fd, &redo->data_fd, &redo->meta_fd };

	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	redo->id = redo->base = UINT64_MAX;
}

/* ENOENT: the log or the segment has gone since, or is not what the record is of. */
int plog_redo_open(struct plog_redo *redo, const struct plog_options *options, uint64_t base)
{
	int rc;

	if (redo->id == options->id && redo->base == base)
		return 0;
	plog_redo_close(redo);
	rc = plog_open_dir(options);
	if (rc < 0)
		return rc;
	redo->dirfd = rc;
	redo->id = options->id;
	redo->base = base;
	rc = open_one(redo->dirfd, base, "index", O_RDWR, &redo->index_fd);
	if (!rc)
		rc = check_segment(redo, options->store_uuid);
	if (!rc)
		rc = open_one(redo->dirfd, base, "data", O_RDWR, &redo->data_fd);
	if (!rc) {
		rc = open_one(redo->dirfd, base, "meta", O_RDWR, &redo->meta_fd);
		rc = rc == -ENOENT ? 0 : rc; /* it may have none */
	}
	if (rc)
		plog_redo_close(redo);
	return rc;
}

/*
 * Whether the mark of the segment covers what the record has: then its files are on disk, and may have become others since (a
 * compacted segment has the name of one that it replaced).
 */
static int is_synced(const struct plog_redo *redo, const struct tail *tail)
{
	uint8_t bytes[INDEX_SLOT];
	struct index_entry last;
	struct index_mark mark;
	int rc = io_pread_all(redo->index_fd, bytes, sizeof(bytes), INDEX_SLOT);

	if (rc < 0)
		return rc == -ENODATA ? 0 : rc;
	return !index_get_entry(tail->slot_bytes + (size_t)(tail->slots - 1) * INDEX_SLOT, &last) &&
	       !index_get_mark(bytes, &mark) && mark.end_offset >= last.base_offset + last.count;
}

static int write_tail(struct plog_redo *redo, const struct tail *tail)
{
	int rc = io_pwrite_all(redo->data_fd, tail->data, tail->data_len, tail->data_pos);

	if (!rc && tail->meta_len > 0 && redo->meta_fd < 0) {
		rc = open_one(redo->dirfd, redo->base, "meta", O_RDWR | O_CREAT, &redo->meta_fd);
		if (!rc)
			rc = io->fsync(redo->dirfd);
	}
	if (!rc && tail->meta_len > 0)
		rc = io_pwrite_all(redo->meta_fd, tail->meta, tail->meta_len, tail->meta_pos);
	if (!rc)
		rc = io_pwrite_all(redo->index_fd, tail->slot_bytes, (size_t)tail->slots * INDEX_SLOT,
		    (off_t)INDEX_FIRST + (off_t)tail->slot * INDEX_SLOT);
	return rc;
}

int plog_redo(struct plog_redo *redo, const struct plog_options *options, const void *record, size_t size)
{
	struct plog_options of = *options;
	struct tail tail;
	int rc;

	if (size < HEAD || get_tail(record, size, &tail) < 0)
		return -EBADMSG;
	of.id = tail.id;
	rc = plog_redo_open(redo, &of, tail.base);
	if (!rc)
		rc = is_synced(redo, &tail);
	if (rc)
		return rc < 0 ? rc : 0;
	rc = is_missing(redo, &tail);
	if (rc <= 0)
		return rc;
	return options->read_only ? 0 : write_tail(redo, &tail);
}

int plog_redo_sync(struct plog_redo *redo)
{
	int rc = io->fdatasync(redo->data_fd);

	if (!rc && redo->meta_fd >= 0)
		rc = io->fdatasync(redo->meta_fd);
	if (!rc)
		rc = io->fdatasync(redo->index_fd);
	return rc;
}
