/*
 * plog_ids - the ids for idempotent producing that a log knows of.
 *
 * They are in the meta records of the messages, so that an id is on disk if and only if its message is: what a crash leaves
 * of the one it leaves of the other. Messages that are trimmed away while their ids still count leave them behind: before
 * the trim takes effect their hashes are written to a file BEFORE.ids beside the segments, where BEFORE is the offset at
 * which the log then begins. If a crash comes between, the log has them too, which does no harm. A small file is taken into the
 * next one, and one whose ids are all too old is removed at the next trim.
 *
 *   header   0  "MQFSIDS1"
 *            8  u32 version (1)
 *           12  16 bytes uuid of the store
 *           28  u64 log id
 *           36  u64 before
 *           44  i64 time of the newest, ms
 *           52  u32 count
 *           56  u32 crc of the ids
 *           60  u32 crc of these 60 bytes
 *   each id  0  u64, u64 XXH3-128, low and high half
 *           16  i64 time, ms
 *
 * Only meta records are read, and entries of the index: no payload.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/clock.h"
#include "engine/crc32c.h"
#include "engine/dedup.h"
#include "engine/io.h"
#include "engine/meta.h"
#include "engine/plog_internal.h"

#define VERSION 1u
#define HEADER 64u
#define ID_BYTES 24u
#define COUNT_MAX (1u << 24)    /* of one file: far more than all tables of what was seen have room for (dedup.h) */
#define JOIN_BYTES (256u << 10) /* a file smaller than this is taken into the next */
#define SLOTS_AT_ONCE 256u

static const char magic[8] = "MQFSIDS1";

typedef int (*each_id)(void *ctx, const struct dedup_hash *hash, uint32_t uid, int64_t ts_ms);

void plog_keep_ids(struct plog *plog, int64_t window_ms)
{
	pthread_mutex_lock(&plog->mutex);
	plog->ids_window_ms = window_ms;
	pthread_mutex_unlock(&plog->mutex);
}

/* ---- ids in messages ---- */

struct walk {
	struct plog *plog;
	int64_t since_ms;
	uint64_t from, to; /* offsets */
	each_id each;
	int (*each_props)(void *ctx, uint64_t offset, int64_t ts_ms, const struct engine_props *props);
	void *ctx;
	struct index_entry entry; /* where it is */
	uint8_t *meta;
	size_t room;
};

static int visit(void *ctx, uint32_t i, const struct engine_props *props)
{
	struct walk *walk = ctx;
	uint64_t offset = walk->entry.base_offset + i;
	struct dedup_hash hash;

	if (offset < walk->from || offset >= walk->to)
		return 0;
	if (walk->each_props != NULL)
		return walk->each_props(walk->ctx, offset, walk->entry.ts_ms, props);
	if (props->id.ptr == NULL)
		return 0;
	hash = dedup_hash_of(props->id);
	return walk->each(walk->ctx, &hash, walk->entry.cred.uid, walk->entry.ts_ms);
}

/* A meta record that is damaged is passed over: who reads its messages is told. */
static int walk_entry(struct walk *walk, int meta_fd)
{
	const struct index_entry *entry = &walk->entry;
	int rc;

	if (entry->meta_len == 0 || entry->ts_ms <= walk->since_ms)
		return 0;
	if (walk->room < entry->meta_len) {
		free(walk->meta);
		walk->meta = malloc(entry->meta_len);
		walk->room = walk->meta != NULL ? entry->meta_len : 0;
		if (walk->meta == NULL)
			return -ENOMEM;
	}
	rc = io_pread_all(meta_fd, walk->meta, entry->meta_len, entry->meta_pos);
	if (rc < 0)
		return io_is_damage(rc) ? 0 : rc;
	rc = meta_each(walk->meta, entry->meta_len, entry->count, entry->length, entry->data_crc, visit, walk);
	return rc == -EBADMSG ? 0 : rc;
}

/* The entries of a pinned segment from slot on, read some at a time. */
static int walk_segment(struct walk *walk, const struct segment_reader *reader, uint32_t slot)
{
	uint8_t slots[SLOTS_AT_ONCE * INDEX_SLOT];
	int rc;

	for (uint32_t count; slot < reader->slots; slot += count) {
		count = reader->slots - slot < SLOTS_AT_ONCE ? reader->slots - slot : SLOTS_AT_ONCE;
		rc = io_pread_all(
		    reader->index_fd, slots, (size_t)count * INDEX_SLOT, (off_t)INDEX_FIRST + (off_t)slot * INDEX_SLOT);
		if (rc < 0)
			return io_is_damage(rc) ? 0 : rc;
		for (uint32_t i = 0; i < count; i++) {
			if (slot + i == reader->slots - 1 && reader->last.count > 0)
				walk->entry = reader->last;
			else if (index_get_entry(slots + (size_t)i * INDEX_SLOT, &walk->entry) < 0)
				continue;
			if (walk->entry.base_offset >= walk->to)
				return 0;
			rc = walk_entry(walk, reader->meta_fd);
			if (rc != 0)
				return rc;
		}
	}
	return 0;
}

/* Pins the segment that offset is in, and tells where the next begins. ERANGE: there is none. */
static int pin_at(struct plog *plog, uint64_t offset, struct segment_reader *ret_reader, uint64_t *ret_next)
{
	size_t i;
	int rc = -ERANGE;

	pthread_mutex_lock(&plog->mutex);
	if (offset < plog->start_offset)
		offset = plog->start_offset;
	if (offset < plog->end_offset) {
		i = plog_find(plog, offset);
		*ret_next = plog_segment_end(plog, i);
		rc = plog_pin(plog, i, ret_reader);
	}
	pthread_mutex_unlock(&plog->mutex);
	return rc;
}

static bool begins_by(const struct index_entry *entry, uint64_t offset)
{
	return entry->base_offset <= offset;
}

static int walk_messages(struct walk *walk)
{
	struct segment_reader reader;
	struct index_entry entry;
	uint64_t next = 0;
	uint32_t slot;
	int rc = 0;

	for (uint64_t offset = walk->from; offset < walk->to && rc == 0; offset = next) {
		rc = pin_at(walk->plog, offset, &reader, &next);
		if (rc < 0 && !io_is_damage(rc))
			break;
		if (rc < 0) {
			rc = 0; /* damaged: readers are told */
			continue;
		}
		rc = segment_search(&reader, begins_by, offset, &slot, &entry);
		if (rc == -ENOENT)
			slot = 0;
		if (rc == 0 || rc == -ENOENT)
			rc = walk_segment(walk, &reader, slot);
		pthread_mutex_lock(&walk->plog->mutex);
		plog_unpin(walk->plog, reader.segment);
		pthread_mutex_unlock(&walk->plog->mutex);
	}
	free(walk->meta);
	return rc == -ERANGE ? 0 : rc;
}

int plog_each_props(struct plog *plog, uint64_t from, uint64_t to,
    int (*each)(void *ctx, uint64_t offset, int64_t ts_ms, const struct engine_props *props), void *ctx)
{
	struct walk walk = {
		.plog = plog, .since_ms = INT64_MIN, .from = from, .to = to, .each_props = each, .ctx = ctx
	};

	return walk_messages(&walk);
}

/* ---- files ---- */

struct ids_file {
	uint64_t before;
	int64_t newest_ms;
	uint32_t count;
	uint32_t crc;
};

static void put_header(uint8_t out[HEADER], const struct plog *plog, const struct ids_file *file)
{
	memcpy(out, magic, 8);
	bytes_put32(out + 8, VERSION);
	memcpy(out + 12, plog->options.store_uuid, 16);
	bytes_put64(out + 28, plog->options.id);
	bytes_put64(out + 36, file->before);
	bytes_put64(out + 44, (uint64_t)file->newest_ms);
	bytes_put32(out + 52, file->count);
	bytes_put32(out + 56, file->crc);
	bytes_put32(out + 60, crc32c(0, out, 60));
}

static int get_header(const uint8_t in[HEADER], const struct plog *plog, uint64_t before, struct ids_file *ret_file)
{
	if (memcmp(in, magic, 8) || bytes_get32(in + 60) != crc32c(0, in, 60) || bytes_get32(in + 8) != VERSION ||
	    memcmp(in + 12, plog->options.store_uuid, 16) || bytes_get64(in + 28) != plog->options.id ||
	    bytes_get64(in + 36) != before || bytes_get32(in + 52) > COUNT_MAX)
		return -EBADMSG;
	*ret_file = (struct ids_file){ .before = before,
		.newest_ms = (int64_t)bytes_get64(in + 44),
		.count = bytes_get32(in + 52),
		.crc = bytes_get32(in + 56) };
	return 0;
}

static void file_name(char out[SEGMENT_NAME_SIZE], uint64_t before)
{
	segment_name(out, before, "ids");
}

/* Header and, if ret_ids is not NULL, the ids, which are the caller's to free. EBADMSG: damaged; ENOMEM and what else says nothing of it. */
static int read_file(const struct plog *plog, int dirfd, uint64_t before, struct ids_file *ret_file, uint8_t **ret_ids)
{
	uint8_t header[HEADER], *ids = NULL;
	char name[SEGMENT_NAME_SIZE];
	struct ids_file file = { 0 };
	int fd, rc;

	file_name(name, before);
	fd = io_open_existing(dirfd, name, O_RDONLY | O_NOFOLLOW);
	if (fd < 0)
		return fd;
	rc = io_pread_all(fd, header, sizeof(header), 0);
	if (!rc)
		rc = get_header(header, plog, before, &file);
	if (!rc && ret_ids) {
		size_t size = (size_t)file.count * ID_BYTES;

		ids = malloc(size + 1);
		rc = ids ? io_pread_all(fd, ids, size, HEADER) : -ENOMEM;
		if (!rc && crc32c(0, ids, size) != file.crc)
			rc = -EBADMSG;
	}
	close(fd);
	if (rc) {
		free(ids);
		return io_is_damage(rc) ? -EBADMSG : rc;
	}
	*ret_file = file;
	if (ret_ids)
		*ret_ids = ids;
	return 0;
}

/* The files there are, in no order; the caller frees the list. */
static int list_files(int dirfd, uint64_t **ret_list, size_t *ret_count)
{
	uint64_t *list = NULL, *more, before;
	struct dirent *entry;
	size_t count = 0;
	int rc, end;
	DIR *dir;

	rc = io_open_dir(dirfd, ".", &dir);
	if (rc)
		return rc;
	while (!rc && (errno = 0, entry = readdir(dir)) != NULL) {
		end = 0;
		if (sscanf(entry->d_name, "%20" SCNu64 ".ids%n", &before, &end) != 1 || end != 24 || entry->d_name[24])
			continue;
		more = realloc(list, (count + 1) * sizeof(*list));
		if (more) {
			list = more;
			list[count++] = before;
		} else {
			rc = -ENOMEM;
		}
	}
	if (!rc)
		rc = -errno; /* 0 at the end */
	closedir(dir);
	if (rc) {
		free(list);
		return rc;
	}
	*ret_list = list;
	*ret_count = count;
	return 0;
}

/* ---- keeping ---- */

/* Ids that are gathered for a file. */
struct gathered {
	uint8_t *mem; /* HEADER bytes, and the ids */
	size_t room;
	uint32_t count, max;
	uint64_t left_out; /* beyond max */
	int64_t newest_ms;
};

static int gather(void *ctx, const struct dedup_hash *hash, uint32_t uid, int64_t ts_ms)
{
	struct gathered *g = ctx;
	size_t need = HEADER + ((size_t)g->count + 1) * ID_BYTES;
	uint8_t *at;

	(void)uid;
	if (g->count >= g->max) {
		g->left_out++;
		return 0;
	}
	if (need > g->room) {
		size_t room = need * 2;
		uint8_t *mem = realloc(g->mem, room);

		if (!mem)
			return -ENOMEM;
		g->mem = mem;
		g->room = room;
	}
	at = g->mem + need - ID_BYTES;
	bytes_put64(at, hash->low);
	bytes_put64(at + 8, hash->high);
	bytes_put64(at + 16, (uint64_t)ts_ms);
	g->count++;
	if (ts_ms > g->newest_ms)
		g->newest_ms = ts_ms;
	return 0;
}

/* Ids of a file that are not too old go to each. */
static int give_file(const uint8_t *ids, uint32_t count, int64_t since_ms, each_id each, void *ctx)
{
	int rc = 0;

	for (uint32_t i = 0; i < count && rc == 0; i++) {
		const uint8_t *at = ids + (size_t)i * ID_BYTES;
		struct dedup_hash hash = { bytes_get64(at), bytes_get64(at + 8) };
		int64_t ts_ms = (int64_t)bytes_get64(at + 16);

		if (ts_ms > since_ms)
			rc = each(ctx, &hash, DEDUP_NOBODY, ts_ms);
	}
	return rc;
}

static int write_file(struct plog *plog, int dirfd, uint64_t before, struct gathered *g)
{
	size_t size = (size_t)g->count * ID_BYTES;
	struct ids_file file = {
		.before = before, .newest_ms = g->newest_ms, .count = g->count, .crc = crc32c(0, g->mem + HEADER, size)
	};
	char name[SEGMENT_NAME_SIZE];

	put_header(g->mem, plog, &file);
	file_name(name, before);
	return io_write_file(dirfd, name, g->mem, HEADER + size);
}

/* What becomes of a file when another is about to be written: it stays, is taken into that, or goes. */
static int look_at_file(
    struct plog *plog, int dirfd, uint64_t before, bool replaced, int64_t since_ms, struct gathered *g, bool *ret_goes)
{
	struct ids_file file;
	uint8_t *ids;
	int rc = read_file(plog, dirfd, before, &file, NULL);

	*ret_goes = rc == 0 && file.newest_ms <= since_ms;
	if (rc == -EBADMSG) /* told of when it is to be used */
		return 0;
	if (rc || *ret_goes || (!replaced && (size_t)file.count * ID_BYTES >= JOIN_BYTES))
		return rc;
	rc = read_file(plog, dirfd, before, &file, &ids);
	if (rc)
		return rc == -EBADMSG ? 0 : rc;
	rc = give_file(ids, file.count, since_ms, gather, g);
	free(ids);
	*ret_goes = !rc;
	return rc;
}

/* Writes what was gathered, with small older files in it, and removes these. */
static int replace_files(struct plog *plog, int dirfd, uint64_t before, int64_t since_ms, struct gathered *g)
{
	uint64_t *files = NULL;
	size_t count = 0, going = 0;
	char name[SEGMENT_NAME_SIZE];
	bool goes;
	int rc = list_files(dirfd, &files, &count);

	for (size_t i = 0; i < count && !rc; i++) {
		rc = look_at_file(plog, dirfd, files[i], files[i] == before, since_ms, g, &goes);
		if (goes && files[i] != before)
			files[going++] = files[i];
	}
	if (!rc && g->count > 0)
		rc = write_file(plog, dirfd, before, g);
	for (size_t i = 0; i < going && !rc; i++) {
		file_name(name, files[i]);
		rc = io->unlink(dirfd, name, 0);
	}
	free(files);
	return rc;
}

int plog_save_ids_from(struct plog *plog, int dirfd, uint64_t from, uint64_t before)
{
	struct gathered g = { .newest_ms = INT64_MIN,
		.max = plog->options.ids_max ? plog->options.ids_max : COUNT_MAX };
	struct walk walk = { .plog = plog, .from = from, .to = before, .each = gather, .ctx = &g };
	int64_t window_ms;
	int rc;

	pthread_mutex_lock(&plog->mutex);
	window_ms = plog->ids_window_ms;
	pthread_mutex_unlock(&plog->mutex);
	if (window_ms <= 0)
		return 0;
	walk.since_ms = clock_wall_ms() - window_ms;
	rc = walk_messages(&walk);
	if (!rc)
		rc = replace_files(plog, dirfd, before, walk.since_ms, &g);
	if (!rc && g.left_out > 0)
		plog_notify(plog, EFBIG,
		    "%" PRIu64 " ids of messages that go are not kept, as there are so many: what was sent with them "
		    "may come twice",
		    g.left_out);
	free(g.mem);
	return rc;
}

int plog_save_ids(struct plog *plog, int dirfd, uint64_t before)
{
	uint64_t start;

	pthread_mutex_lock(&plog->mutex);
	start = plog->start_offset;
	pthread_mutex_unlock(&plog->mutex);
	return plog_save_ids_from(plog, dirfd, start, before);
}

/* ---- all there are ---- */

static int each_kept(struct plog *plog, int64_t since_ms, each_id each, void *ctx)
{
	int dirfd = plog_open_dir(&plog->options);
	struct ids_file file;
	uint64_t *files = NULL;
	size_t count = 0;
	uint8_t *ids;
	int rc = dirfd < 0 ? dirfd : list_files(dirfd, &files, &count);

	for (size_t i = 0; i < count && !rc; i++) {
		rc = read_file(plog, dirfd, files[i], &file, &ids);
		if (rc == -EBADMSG) {
			plog_notify(plog, EIO,
			    "%020" PRIu64
			    ".ids is damaged: what was sent with ids and is no longer here may come twice",
			    files[i]);
			rc = 0;
		} else if (!rc) {
			rc = give_file(ids, file.count, since_ms, each, ctx);
			free(ids);
		}
	}
	free(files);
	if (dirfd >= 0)
		close(dirfd);
	return rc;
}

int plog_each_id(struct plog *plog, int64_t since_ms, bool in_order,
    int (*each)(void *ctx, const struct dedup_hash *hash, uint32_t uid, int64_t ts_ms), void *ctx)
{
	struct walk walk = { .plog = plog, .since_ms = since_ms, .to = UINT64_MAX, .each = each, .ctx = ctx };
	int rc;

	/* No trim meanwhile: what is not in a message any more is in a file. */
	pthread_mutex_lock(&plog->trim_mutex);
	rc = each_kept(plog, since_ms, each, ctx);
	if (!rc && in_order)
		rc = plog_find_time(plog, since_ms, &walk.from);
	if (!rc)
		rc = walk_messages(&walk);
	pthread_mutex_unlock(&plog->trim_mutex);
	return rc;
}
