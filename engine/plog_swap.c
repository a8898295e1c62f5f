/*
 * plog_swap - compacted segments take the place of others, and what a crash leaves of that.
 *
 * A group of sealed segments is replaced by one, whose files were put aside as BASE.cdata, BASE.cmeta and BASE.cindex and
 * synced. The file `swap`, written whole or not at all, is the step that decides: without it what is aside is thrown away at
 * the next opening, and with it the rest is finished, as often as it takes:
 *
 *   1. BASE.cdata, .cmeta, .cindex are renamed over BASE.data, .meta, .index
 *   2. the other segments of the group are removed: those whose names are between base and end
 *   3. swap is removed
 *
 * In memory the new segment takes its place in the list between 1 and 2, under the mutex; who reads an old one has it pinned,
 * with open files, and reads on.
 *
 * Offsets stay as they are. Positions do not: those of all that is not compacted stay, so that whoever follows the end is
 * not disturbed, and what is before moves up. So the position at which a compacted log's segment begins does not follow from its
 * header, but from where the next one begins and from its own size: plog_settle_positions().
 *
 *   swap     0  "MQFSSWAP"                clean    0  "MQFSCLEN"
 *            8  u32 version (1)                    8  u32 version (1)
 *           12  16 bytes uuid                     12  16 bytes uuid
 *           28  u64 log id                        28  u64 log id
 *           36  u64 base                          36  u64 clean offset
 *           44  u64 end                           44  16 bytes, 0
 *           52  u32 is there a meta file          60  u32 crc
 *           56  4 bytes, 0
 *           60  u32 crc
 *
 * `clean` is there before the first swap, and says that there are gaps, and below which offset no key has two messages.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/crc32c.h"
#include "engine/failpoint.h"
#include "engine/io.h"
#include "engine/plog_internal.h"

#define VERSION 1u
#define SWAP_NAME "swap"
#define CLEAN_NAME "clean"

static const char swap_magic[8] = "MQFSSWAP", clean_magic[8] = "MQFSCLEN";
static const char *const suffixes[] = { "data", "meta", "index" }; /* in the order in which they are renamed */

void plog_aside_name(char out[SEGMENT_NAME_SIZE], uint64_t base, const char *suffix)
{
	snprintf(out, SEGMENT_NAME_SIZE, "%020" PRIu64 ".c%s", base, suffix);
}

static int remove_name(int dirfd, const char *name)
{
	int rc = io->unlink(dirfd, name, 0);

	return rc == -ENOENT ? 0 : rc;
}

void plog_remove_aside(int dirfd, uint64_t base)
{
	char name[SEGMENT_NAME_SIZE];

	for (size_t i = 0; i < 3; i++) {
		plog_aside_name(name, base, suffixes[i]);
		remove_name(dirfd, name); /* if not, then at the next opening */
	}
}

/* ---- records ---- */

static void put_record(uint8_t out[INDEX_SLOT], const struct plog *plog, const char magic[8])
{
	memset(out, 0, INDEX_SLOT);
	memcpy(out, magic, 8);
	bytes_put32(out + 8, VERSION);
	memcpy(out + 12, plog->options.store_uuid, 16);
	bytes_put64(out + 28, plog->options.id);
}

static void seal(uint8_t out[INDEX_SLOT])
{
	bytes_put32(out + 60, crc32c(0, out, 60));
}

/* ENOENT: there is none; EBADMSG: damaged; EUCLEAN: of a newer version, or another log. */
static int read_record(const struct plog *plog, const char *name, const char magic[8], uint8_t out[INDEX_SLOT])
{
	int rc, fd = io_open_existing(plog->dirfd, name, O_RDONLY | O_NOFOLLOW);

	if (fd < 0)
		return fd;
	rc = io_pread_all(fd, out, INDEX_SLOT, 0);
	close(fd);
	if (rc == -ENODATA || (!rc && (memcmp(out, magic, 8) || bytes_get32(out + 60) != crc32c(0, out, 60))))
		return -EBADMSG;
	if (rc)
		return rc;
	if (bytes_get32(out + 8) != VERSION || memcmp(out + 12, plog->options.store_uuid, 16) ||
	    bytes_get64(out + 28) != plog->options.id)
		return engine_explain(
		    -EUCLEAN, "log %016" PRIx64 ": %s is of another log or of a newer format", plog->options.id, name);
	return 0;
}

int plog_write_clean(struct plog *plog, int dirfd, uint64_t clean_offset)
{
	uint8_t bytes[INDEX_SLOT];
	int rc;

	put_record(bytes, plog, clean_magic);
	bytes_put64(bytes + 36, clean_offset);
	seal(bytes);
	rc = io_write_file(dirfd, CLEAN_NAME, bytes, sizeof(bytes));
	if (rc)
		return rc;
	pthread_mutex_lock(&plog->mutex);
	plog->has_gaps = true;
	plog->clean_offset = clean_offset;
	pthread_mutex_unlock(&plog->mutex);
	return 0;
}

int plog_read_clean(struct plog *plog)
{
	uint8_t bytes[INDEX_SLOT];
	int rc = read_record(plog, CLEAN_NAME, clean_magic, bytes);

	if (rc == -ENOENT)
		return 0;
	if (rc && rc != -EBADMSG && rc != -EIO)
		return rc;
	plog->has_gaps = true; /* a damaged one says as much, and all is compacted again */
	plog->clean_offset = rc ? 0 : bytes_get64(bytes + 36);
	return 0;
}

/* ---- taking the place; trim_mutex ---- */

/* Index in the list of the group's first segment, if the list still has the group, whose segments follow each other. mutex */
static int find_group(const struct plog *plog, const struct plog_group *group, size_t *ret_at)
{
	size_t at = plog_find(plog, group->base);

	if (plog->start_offset != group->start_offset || at + group->count >= plog->count)
		return -EAGAIN;
	for (size_t i = 0; i < group->count; i++) {
		if (plog->segments[at + i] != group->old[i])
			return -EAGAIN;
	}
	*ret_at = at;
	return 0;
}

static int write_swap(const struct plog *plog, int dirfd, const struct plog_group *group)
{
	uint8_t bytes[INDEX_SLOT];

	put_record(bytes, plog, swap_magic);
	bytes_put64(bytes + 36, group->base);
	bytes_put64(bytes + 44, group->end);
	bytes_put32(bytes + 52, group->has_meta);
	seal(bytes);
	return io_write_file(dirfd, SWAP_NAME, bytes, sizeof(bytes));
}

/* Step 1, as far as it was not done yet. */
static int rename_files(int dirfd, uint64_t base, bool has_meta)
{
	char aside[SEGMENT_NAME_SIZE], name[SEGMENT_NAME_SIZE];
	int rc = 0;

	for (size_t i = 0; i < 3 && !rc; i++) {
		plog_aside_name(aside, base, suffixes[i]);
		segment_name(name, base, suffixes[i]);
		if (i == 1 && !has_meta)
			rc = remove_name(dirfd, name);
		else
			rc = io->rename(dirfd, aside, dirfd, name);
		if (rc == -ENOENT)
			rc = 0;
		CRASHPOINT("swap_after_rename");
	}
	return rc;
}

/* Puts the new segment where the group was, and moves what is before it up. mutex */
static void replace(struct plog *plog, const struct plog_group *group, size_t at, struct segment *segment)
{
	uint64_t end_pos = plog->segments[at + group->count]->base_pos;
	uint64_t freed = end_pos - plog->segments[at]->base_pos - group->data_end;

	segment->base_pos = end_pos - group->data_end;
	segment->created_ms = group->created_ms;
	segment->slots = group->slots;
	segment->loaded = segment->gaps = true;
	for (size_t i = 0; i < at; i++)
		plog->segments[i]->base_pos += freed;
	for (size_t i = 0; i < group->count; i++)
		plog_forget(plog, group->old[i]);
	plog->segments[at] = segment;
	memmove(plog->segments + at + 1, plog->segments + at + group->count,
	    (plog->count - at - group->count) * sizeof(*plog->segments));
	plog->count -= group->count - 1;
	plog->start_pos = at > 0 ? plog->start_pos + freed : segment->base_pos;
	if (freed == 0)
		return;
	plog->shifted_start = plog->start_pos;
	if (plog->shifted_pos < end_pos)
		plog->shifted_pos = end_pos;
}

/* Steps 2 and 3. */
static int finish(int dirfd, const uint64_t *bases, size_t count)
{
	int rc = 0;

	for (size_t i = 0; i < count && !rc; i++)
		rc = segment_unlink(bases[i], dirfd);
	if (!rc)
		rc = io->fsync(dirfd);
	CRASHPOINT("swap_before_end");
	if (!rc)
		rc = remove_name(dirfd, SWAP_NAME);
	return rc ? rc : io->fsync(dirfd);
}

/* It may be on the disk though it could not be written: then what it says would be done at the next opening. */
static int take_back(struct plog *plog, int dirfd)
{
	int rc = remove_name(dirfd, SWAP_NAME);

	if (!rc)
		rc = io->fsync(dirfd);
	if (!rc)
		return 0;
	pthread_mutex_lock(&plog->mutex);
	plog->failed = true;
	pthread_mutex_unlock(&plog->mutex);
	return -EROFS;
}

/* trim_mutex */
static int swap(struct plog *plog, int dirfd, const struct plog_group *group, struct segment *segment, uint64_t *bases)
{
	size_t at = 0;
	int rc;

	pthread_mutex_lock(&plog->mutex);
	rc = plog->failed ? -EROFS : find_group(plog, group, &at);
	pthread_mutex_unlock(&plog->mutex);
	if (!rc)
		rc = plog_save_ids_from(plog, dirfd, group->base, group->end);
	if (rc)
		return rc;
	rc = write_swap(plog, dirfd, group);
	if (rc) {
		return take_back(plog, dirfd) ? -EROFS : rc;
	}
	CRASHPOINT("swap_after_note");
	/* Nobody else takes segments out meanwhile, and new ones come at the end: it is where it was. */
	for (size_t i = 1; i < group->count; i++)
		bases[i - 1] = group->old[i]->base;
	pthread_mutex_lock(&plog->mutex);
	rc = rename_files(dirfd, group->base, group->has_meta);
	if (rc)
		plog->failed = true; /* the next opening finishes it; until then who has the old ones open reads them */
	else
		replace(plog, group, at, segment);
	pthread_mutex_unlock(&plog->mutex);
	if (rc) {
		plog_notify(plog, -rc, "compacted files could not take the place of the old ones: %s", strerror(-rc));
		return -EROFS;
	}
	rc = finish(dirfd, bases, group->count - 1);
	if (rc) {
		pthread_mutex_lock(&plog->mutex);
		plog->swap_left = true;
		pthread_mutex_unlock(&plog->mutex);
		plog_notify(plog, -rc, "what compaction has replaced could not be removed: %s", strerror(-rc));
	}
	return 0;
}

int plog_swap(struct plog *plog, int dirfd, const struct plog_group *group)
{
	struct segment *segment = segment_new(group->base);
	uint64_t *bases = malloc(group->count * sizeof(*bases));
	int rc = segment && bases ? 0 : -ENOMEM;

	if (!rc) {
		pthread_mutex_lock(&plog->trim_mutex);
		rc = swap(plog, dirfd, group, segment, bases);
		pthread_mutex_unlock(&plog->trim_mutex);
	}
	if (rc)
		segment_free(segment);
	free(bases);
	return rc;
}

/* ---- opening ---- */

/* The base in a name of 20 digits and this suffix. */
static bool parse_name(const char *name, const char *suffix, uint64_t *ret_base)
{
	if (strspn(name, "0123456789") != 20 || strcmp(name + 20, suffix) != 0)
		return false;
	*ret_base = strtoull(name, NULL, 10);
	return true;
}

/* Calls each for the base of each file with this suffix; the files may be removed by it. */
static int each_base(
    struct plog *plog, const char *suffix, int (*each)(struct plog *plog, uint64_t base, void *ctx), void *ctx)
{
	struct dirent *entry;
	uint64_t base;
	DIR *dir;
	int rc;

	rc = io_open_dir(plog->dirfd, ".", &dir);
	if (rc)
		return rc;
	while (!rc && (errno = 0, entry = readdir(dir)) != NULL) {
		if (parse_name(entry->d_name, suffix, &base))
			rc = each(plog, base, ctx);
	}
	if (!rc)
		rc = -errno; /* 0 at the end */
	closedir(dir);
	return rc;
}

struct leftover {
	uint64_t base, end;
};

static int remove_replaced(struct plog *plog, uint64_t base, void *ctx)
{
	const struct leftover *leftover = ctx;

	return base > leftover->base && base < leftover->end ? segment_unlink(base, plog->dirfd) : 0;
}

static int remove_aside(struct plog *plog, uint64_t base, void *ctx)
{
	(void)ctx;
	plog_remove_aside(plog->dirfd, base);
	return 0;
}

/* Of a log that must not be changed: it is as before if no file was renamed yet, the first of which is the data. */
static int look_at_swap(const struct plog *plog, uint64_t base)
{
	char name[SEGMENT_NAME_SIZE];

	plog_aside_name(name, base, suffixes[0]);
	if (faccessat(plog->dirfd, name, F_OK, 0) == 0)
		return 0;
	return engine_explain(-EINPROGRESS,
	    "log %016" PRIx64 ": a compaction was cut off; opened for writing once, it is finished", plog->options.id);
}

static int finish_swap(struct plog *plog, const uint8_t record[INDEX_SLOT])
{
	struct leftover leftover = { bytes_get64(record + 36), bytes_get64(record + 44) };
	int rc;

	if (plog->options.read_only)
		return look_at_swap(plog, leftover.base);
	CRASHPOINT("recover_swap");
	rc = rename_files(plog->dirfd, leftover.base, bytes_get32(record + 52) != 0);
	if (!rc)
		rc = each_base(plog, ".data", remove_replaced, &leftover); /* which is removed last */
	return rc ? rc : finish(plog->dirfd, NULL, 0);
}

int plog_finish_swap(struct plog *plog)
{
	uint8_t record[INDEX_SLOT];
	int rc = read_record(plog, SWAP_NAME, swap_magic, record);

	if (!rc)
		return finish_swap(plog, record);
	if (rc == -EBADMSG) {
		plog_notify(plog, EIO, "the file that says which segments were compacted is damaged");
		return engine_explain(-EUCLEAN, "log %016" PRIx64 ": swap is damaged", plog->options.id);
	}
	if (rc != -ENOENT || plog->options.read_only)
		return rc == -ENOENT ? 0 : rc;
	for (size_t i = 0; i < 3 && (rc == -ENOENT || !rc); i++) {
		char suffix[8];

		snprintf(suffix, sizeof(suffix), ".c%s", suffixes[i]);
		rc = each_base(plog, suffix, remove_aside, NULL);
	}
	return rc;
}

int plog_settle_positions(struct plog *plog)
{
	struct index_mark mark;
	uint64_t size, pos = 0;
	int rc = 0;

	for (size_t i = plog->count - 1; i > 0; i--) {
		rc = plog_load(plog, i - 1, &mark);
		if (rc)
			return rc;
		size = mark.data_end;
		if (mark.end_offset != plog->segments[i]->base)
			rc = plog_data_size(plog, i - 1, &size);
		if (rc)
			return rc;
		plog->segments[i - 1]->base_pos = plog->segments[i]->base_pos - size;
	}
	plog->start_pos = plog->segments[0]->base_pos;
	if (plog->start_offset <= plog->segments[0]->base)
		return 0;
	rc = plog_position(plog, plog->start_offset, &pos);
	if (!rc)
		plog->start_pos = pos;
	return rc;
}
