/*
 * plog - the life of a partition log, and its figures. See plog.h, and plog_internal.h for how it is divided.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/io.h"
#include "engine/plog_internal.h"

void plog_name(char out[PLOG_NAME_SIZE], uint64_t id)
{
	snprintf(out, PLOG_NAME_SIZE, "%016" PRIx64, id);
}

int plog_open_dir(const struct plog_options *options)
{
	char name[PLOG_NAME_SIZE];

	plog_name(name, options->id);
	return io_open_existing(options->logs_dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

void plog_notify(const struct plog *plog, int err, const char *format, ...)
{
	const struct engine_notify *notify = &plog->options.notify;
	char text[256];
	size_t used;
	va_list args;

	if (!notify->fn)
		return;
	used = (size_t)snprintf(text, sizeof(text), "log %016" PRIx64 ": ", plog->options.id);
	va_start(args, format);
	vsnprintf(text + used, sizeof(text) - used, format, args);
	va_end(args);
	notify->fn(notify->ctx, err, text);
}

/* Calls each for every name in the directory but . and .., until it gives an error. */
static int each_name(int dirfd, int (*each)(int dirfd, const char *name))
{
	struct dirent *entry;
	DIR *dir;
	int rc;

	rc = io_open_dir(dirfd, ".", &dir);
	if (rc)
		return rc;
	errno = 0;
	while (!rc && (entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			rc = each(dirfd, entry->d_name);
		errno = 0;
	}
	if (!rc && errno)
		rc = -errno;
	closedir(dir);
	return rc;
}

static int unlink_name(int dirfd, const char *name)
{
	int rc = io->unlink(dirfd, name, 0);

	return rc == -ENOENT ? 0 : rc;
}

static int refuse_data(int dirfd, const char *name)
{
	size_t len = strlen(name);
	struct stat st;

	if (len < 5 || strcmp(name + len - 5, ".data"))
		return 0;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW))
		return -errno;
	return st.st_size > 0 ? -EEXIST : 0;
}

static int each_name_of_log(int logs_dirfd, uint64_t id, int (*each)(int dirfd, const char *name))
{
	const struct plog_options options = { .logs_dirfd = logs_dirfd, .id = id };
	int rc, dirfd = plog_open_dir(&options);

	if (dirfd < 0)
		return dirfd;
	rc = each_name(dirfd, each);
	close(dirfd);
	return rc;
}

int plog_destroy(int logs_dirfd, uint64_t id)
{
	char name[PLOG_NAME_SIZE];
	int rc = each_name_of_log(logs_dirfd, id, unlink_name);

	if (rc)
		return rc == -ENOENT ? 0 : rc;
	plog_name(name, id);
	rc = io->unlink(logs_dirfd, name, AT_REMOVEDIR);
	return rc ? rc : io->fsync(logs_dirfd);
}

/* The directory; one that a crash left before it was used, which holds no message, is made anew. */
static int make_dir(const struct plog_options *options)
{
	char name[PLOG_NAME_SIZE];
	int rc;

	plog_name(name, options->id);
	rc = io->mkdir(options->logs_dirfd, name, 0700);
	if (rc != -EEXIST)
		return rc;
	rc = each_name_of_log(options->logs_dirfd, options->id, refuse_data);
	if (!rc)
		rc = plog_destroy(options->logs_dirfd, options->id);
	return rc ? rc : io->mkdir(options->logs_dirfd, name, 0700);
}

int plog_create(const struct plog_options *options)
{
	struct segment *segment;
	struct segment_home home = { .log_id = options->id, .uuid = options->store_uuid };
	int rc = make_dir(options);

	if (rc)
		return rc;
	segment = segment_new(0);
	if (!segment) {
		rc = -ENOMEM;
		goto err_after_mkdir;
	}
	home.dirfd = rc = plog_open_dir(options);
	if (rc >= 0) {
		rc = segment_create(segment, &home, 0, clock_wall_ms());
		if (!rc)
			rc = io->fsync(home.dirfd);
		close(home.dirfd);
	}
	segment_free(segment);
	if (rc >= 0)
		rc = io->fsync(options->logs_dirfd);
	if (rc < 0)
		goto err_after_mkdir;
	return 0;

err_after_mkdir:
	plog_destroy(options->logs_dirfd, options->id);
	return rc;
}

void plog_free(struct plog *plog)
{
	for (size_t i = 0; i < plog->count; i++)
		segment_free(plog->segments[i]);
	if (plog->dirfd >= 0)
		close(plog->dirfd);
	pthread_mutex_destroy(&plog->mutex);
	pthread_mutex_destroy(&plog->trim_mutex);
	plog_recent_drop(&plog->recent);
	free(plog->segments);
	free(plog->damage);
	free(plog);
}

int plog_close(struct plog *plog)
{
	int rc;

	if (!plog)
		return 0;
	rc = plog_sync(plog);
	plog_free(plog);
	return rc;
}

bool plog_release_files(struct plog *plog)
{
	bool all = true;
	uint64_t kept; /* up to here it is on disk, or noted where it outlives the next sync of the log */

	pthread_mutex_lock(&plog->mutex);
	kept = plog->synced > plog->tail.offset ? plog->synced : plog->tail.offset;
	for (size_t i = 0; i < plog->count; i++) {
		struct segment *segment = plog->segments[i];

		if (segment->users == 0 && plog_segment_end(plog, i) <= kept)
			segment_close_files(segment);
		else if (segment->users == 0)
			all = false;
	}
	memset(plog->kept, 0, sizeof(plog->kept));
	plog_recent_drop(&plog->recent);
	plog_put_dir(plog);
	pthread_mutex_unlock(&plog->mutex);
	return all;
}

void plog_stat(struct plog *plog, struct engine_partition_stat *ret_stat)
{
	pthread_mutex_lock(&plog->mutex);
	ret_stat->earliest = plog->start_offset;
	ret_stat->end = plog->end_offset;
	ret_stat->start_pos = plog->start_pos;
	ret_stat->end_pos = plog_end_pos(plog);
	ret_stat->mtime_ms = plog->mtime_ms;
	ret_stat->synced = plog->synced > plog->durable ? plog->synced : plog->durable;
	ret_stat->has_gaps = plog->has_gaps;
	ret_stat->shifted_start = plog->shifted_start;
	ret_stat->shifted_pos = plog->shifted_pos;
	pthread_mutex_unlock(&plog->mutex);
}

void plog_see_durable(struct plog *plog, struct plog_known *ret_known)
{
	pthread_mutex_lock(&plog->mutex);
	ret_known->end = plog->synced > plog->durable ? plog->synced : plog->durable;
	ret_known->pos = plog_end_pos(plog);
	ret_known->start = plog->start_offset;
	ret_known->is_known = true;
	pthread_mutex_unlock(&plog->mutex);
}

bool plog_lost_end(const struct plog *plog, uint64_t *ret_from, uint64_t *ret_to)
{
	*ret_from = plog->lost_from;
	*ret_to = plog->lost_to;
	return plog->lost_from < plog->lost_to;
}

uint64_t plog_synced(struct plog *plog)
{
	uint64_t synced;

	pthread_mutex_lock(&plog->mutex);
	synced = plog->synced;
	pthread_mutex_unlock(&plog->mutex);
	return synced;
}
