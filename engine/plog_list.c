/*
 * plog_list - what the directory of a log holds: its segments, its start, and strays. See plog_internal.h.
 *
 * Nothing is changed here, and nothing is believed but names and `start`: whether the segments are those of this log is
 * for recovery to find out, before it removes anything.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/io.h"
#include "engine/plog_internal.h"

static int add_base(struct plog_bases *bases, uint64_t base)
{
	if (bases->count == bases->room) {
		size_t room = bases->room ? bases->room * 2 : 8;
		uint64_t *list = realloc(bases->list, room * sizeof(*list));

		if (!list)
			return -ENOMEM;
		bases->list = list;
		bases->room = room;
	}
	bases->list[bases->count++] = base;
	return 0;
}

static int compare_bases(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

/* The offset in a name of 20 digits, a dot and this suffix. */
static bool parse_name(const char *name, const char *suffix, uint64_t *ret_base)
{
	uint64_t base = 0;

	for (int i = 0; i < 20; i++) {
		if (name[i] < '0' || name[i] > '9' || base > (uint64_t)INT64_MAX / 10)
			return false;
		base = base * 10 + (uint64_t)(name[i] - '0');
	}
	if (name[20] != '.' || strcmp(name + 21, suffix) || base > INT64_MAX)
		return false;
	*ret_base = base;
	return true;
}

static int list_dir(int dirfd, struct plog_bases *indexes, struct plog_bases *datas)
{
	struct dirent *entry;
	uint64_t base;
	DIR *dir;
	int rc;

	rc = io_open_dir(dirfd, ".", &dir);
	if (rc)
		return rc;
	errno = 0;
	while (!rc && (entry = readdir(dir))) {
		if (parse_name(entry->d_name, "index", &base))
			rc = add_base(indexes, base);
		else if (parse_name(entry->d_name, "data", &base))
			rc = add_base(datas, base);
		errno = 0;
	}
	if (!rc && errno)
		rc = -errno;
	closedir(dir);
	return rc;
}

/* Data files before the first or after the last segment are what a removal or a creation left; without any, all are. */
static int add_strays(struct plog_bases *strays, const struct plog_bases *indexes, const struct plog_bases *datas)
{
	int rc = 0;

	for (size_t i = 0; i < datas->count && !rc; i++)
		if (indexes->count == 0 || datas->list[i] < indexes->list[0] ||
		    datas->list[i] > indexes->list[indexes->count - 1])
			rc = add_base(strays, datas->list[i]);
	return rc;
}

/* Fills the list of segments, which is empty if all are lost and it is known where the log ended; what is to be removed goes to strays. */
int plog_list(struct plog *plog, struct plog_bases *strays)
{
	struct plog_bases indexes = { 0 }, datas = { 0 };
	int rc = list_dir(plog->dirfd, &indexes, &datas);

	if (!rc && indexes.count == 0 && (plog->options.read_only || !plog->options.known.is_known))
		rc = engine_explain(-EUCLEAN, "log %016" PRIx64 " has no segment", plog->options.id);
	if (!rc && indexes.count > 0)
		qsort(indexes.list, indexes.count, sizeof(*indexes.list), compare_bases);
	if (!rc)
		rc = add_strays(strays, &indexes, &datas);
	for (size_t i = 0; i < indexes.count && !rc; i++) {
		struct segment *segment = segment_new(indexes.list[i]);

		rc = segment ? plog_push(plog, segment) : -ENOMEM;
		if (rc)
			segment_free(segment);
	}
	free(indexes.list);
	free(datas.list);
	return rc;
}

/* `start`, if there is one. A damaged one is reported and ignored: then what had been purged may come back. */
int plog_read_start(struct plog *plog)
{
	uint8_t bytes[INDEX_SLOT];
	struct index_start start;
	int rc, fd = io_open_existing(plog->dirfd, PLOG_START_NAME, O_RDONLY | O_NOFOLLOW);

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	rc = io_pread_all(fd, bytes, sizeof(bytes), 0);
	close(fd);
	if (rc && !io_is_damage(rc))
		return rc;
	if (!rc)
		rc = index_get_start(bytes, &start);
	if (rc == -EUCLEAN)
		return engine_explain(-EUCLEAN, "log %016" PRIx64 " is of a newer format", plog->options.id);
	if (rc || start.offset > INT64_MAX) {
		plog_notify(plog, EIO, "the file that says where it begins is damaged; it begins at its first segment");
		return 0;
	}
	if (memcmp(start.uuid, plog->options.store_uuid, sizeof(start.uuid)) || start.log_id != plog->options.id)
		return engine_explain(
		    -EUCLEAN, "log %016" PRIx64 ": its start is that of another log", plog->options.id);
	plog->start_offset = start.offset;
	plog->start_pos = start.pos;
	return 0;
}
