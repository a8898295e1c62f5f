/*
 * store_make - making a store. See store_make.h.
 *
 * store_fill() is a list of steps, each of which does nothing if a crash came after it the last time: the three
 * directories, the catalog (itself there whole or not at all), and FORMAT, before which all else is synced. Nothing is
 * ever removed, so that whatever is wrong with a directory, making a store there cannot cost data.
 *
 * store_make() does that in .NAME.mqfs-new beside NAME and renames it. The name is fixed, so what a crash leaves is
 * taken up by the next one; two at the same time meet at its lock.
 */
#include "engine/store_make.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/catalog.h"
#include "engine/failpoint.h"
#include "engine/io.h"
#include "engine/store_guard.h"

static const char *const store_dirs[] = { "logs", "journal", "spool" };
#define STORE_DIRS (sizeof(store_dirs) / sizeof(store_dirs[0]))

/* What else store_fill() and what it calls may leave, in case of a crash. */
static const char *const store_files[] = { STORE_LOCK_NAME, STORE_FORMAT_NAME ".tmp", "catalog", "catalog-lock",
	"catalog.new", "catalog.new-lock", STORE_RESERVE_NAME, "lost+found" };
#define STORE_FILES (sizeof(store_files) / sizeof(store_files[0]))

static bool is_one_of(const char *name, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(name, names[i]) == 0)
			return true;
	}
	return false;
}

/* Calls each for every name but . and .. until it returns nonzero, which is returned. */
static int each_name(int dirfd, const char *dir_name, int (*each)(void *ctx, const char *name), void *ctx)
{
	struct dirent *entry;
	DIR *dir;
	int err;

	err = io_open_dir(dirfd, dir_name, &dir);
	if (err)
		return err;
	while (!err && (errno = 0, entry = readdir(dir)) != NULL) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			err = each(ctx, entry->d_name);
	}
	if (!err && errno)
		err = -errno;
	closedir(dir);
	return err;
}

struct look {
	int dirfd;
	const char *path;
};

static int refuse_content(void *ctx, const char *name)
{
	const struct look *look = ctx;

	(void)name;
	return engine_explain(-EUCLEAN, "%s holds the data of a store whose %s is missing; fsck.mqfs -y makes it anew",
	    look->path, STORE_FORMAT_NAME);
}

static int check_name(void *ctx, const char *name)
{
	const struct look *look = ctx;
	int err;

	if (is_one_of(name, store_files, STORE_FILES))
		return 0;
	if (!is_one_of(name, store_dirs, STORE_DIRS))
		return engine_explain(-ENOTEMPTY, "%s is not a store, and not empty: it has %s", look->path, name);
	err = each_name(look->dirfd, name, refuse_content, ctx);
	if (err == -ENOTDIR)
		return engine_explain(-ENOTEMPTY, "%s is not a store, and not empty: it has %s", look->path, name);
	return err;
}

int store_check_fillable(int dirfd, const char *path)
{
	struct look look = { .dirfd = dirfd, .path = path };
	int err = each_name(dirfd, ".", check_name, &look);

	if (err && err != -ENOTEMPTY && err != -EUCLEAN)
		return engine_explain(err, "%s cannot be listed: %s", path, strerror(-err));
	return err;
}

/* The umask may have taken what we need, an existing directory may give what others should not have. */
static int make_private(int fd)
{
	struct stat st;
	int err;

	if (fstat(fd, &st) < 0)
		return -errno;
	err = (st.st_mode & 07777) != 0700 ? io->fchmod(fd, 0700) : 0;
	return err == -EPERM ? 0 : err;
}

/* Makes a directory, if it is not there. Returns its descriptor. */
static int make_dir(int dirfd, const char *name)
{
	int fd, err;

	err = io->mkdir(dirfd, name, 0700);
	if (err && err != -EEXIST)
		return err;
	fd = io_open_existing(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	if (fd < 0)
		return fd;
	err = make_private(fd);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

static int make_dirs(int dirfd)
{
	for (size_t i = 0; i < STORE_DIRS; i++) {
		int fd = make_dir(dirfd, store_dirs[i]), err;

		if (fd < 0)
			return fd;
		err = io->fsync(fd);
		close(fd);
		if (err)
			return err;
	}
	return 0;
}

/* Random, of version 4 (RFC 4122). */
static int make_uuid(uint8_t ret_uuid[16])
{
	if (getrandom(ret_uuid, 16, 0) != 16)
		return -EIO;
	ret_uuid[6] = (uint8_t)((ret_uuid[6] & 0x0f) | 0x40);
	ret_uuid[8] = (uint8_t)((ret_uuid[8] & 0x3f) | 0x80);
	return 0;
}

int store_fill(int dirfd, const char *path, const struct engine_owner *root_owner)
{
	uint8_t uuid[16];
	int err;

	err = make_private(dirfd);
	if (!err)
		err = make_dirs(dirfd);
	if (!err)
		err = catalog_create(dirfd, root_owner);
	if (!err || err == -EEXIST)
		err = io->fsync(dirfd);
	if (!err)
		err = make_uuid(uuid);
	if (!err)
		err = FAILPOINT("store_before_format");
	if (!err)
		err = store_write_format(dirfd, uuid);
	return err ? engine_explain(err, "the store at %s cannot be made: %s", path, strerror(-err)) : 0;
}

/* ------------------------------------------------------------------------------------------------ making aside */

/* Splits "a/b" into "a" and "b", "/b" into "/" and "b", "b" into "." and "b". path has no slash at its end. Returns the name. */
static const char *split_path(const char *path, char parent[PATH_MAX])
{
	const char *slash = strrchr(path, '/');
	size_t len = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);

	assert(len < PATH_MAX); /* store_open() has looked */
	memcpy(parent, len ? path : ".", len ? len : 1);
	parent[len ? len : 1] = '\0';
	return slash == NULL ? path : slash + 1;
}

/* Another process has made the store meanwhile: this one, which never had the name, goes. What cannot be removed is of no harm. */
static void remove_aside(int parent_fd, int aside_fd, const char *aside)
{
	io->unlink(aside_fd, STORE_FORMAT_NAME, 0); /* first, so that what is left is no store */
	for (size_t i = 0; i < STORE_DIRS; i++)
		io->unlink(aside_fd, store_dirs[i], AT_REMOVEDIR);
	for (size_t i = 0; i < STORE_FILES; i++)
		io->unlink(aside_fd, store_files[i], 0);
	io->unlink(parent_fd, aside, AT_REMOVEDIR);
}

/* Makes a whole store in the directory aside, unless one was left there whole, and renames it. aside_fd is locked. */
static int make_and_rename(int parent_fd, int aside_fd, const char *aside, const char *name, const char *path,
    const struct engine_owner *root_owner)
{
	uint8_t uuid[16];
	int err;

	err = store_read_format(aside_fd, path, uuid);
	if (err == -ENOENT) {
		err = store_check_fillable(aside_fd, path);
		if (!err)
			err = store_fill(aside_fd, path, root_owner);
	}
	if (!err)
		err = FAILPOINT("store_before_name");
	if (err)
		return err;
	err = io->rename(parent_fd, aside, parent_fd, name);
	if (err == -ENOTEMPTY)
		remove_aside(parent_fd, aside_fd, aside);
	if (err == -ENOENT || err == -ENOTEMPTY)
		return -EEXIST; /* another process has renamed it, or has made one of its own */
	if (!err)
		err = io->fsync(parent_fd);
	return err ? engine_explain(err, "the store at %s cannot be made: %s", path, strerror(-err)) : 0;
}

static int make_in(int parent_fd, const char *name, const char *path, const struct engine_owner *root_owner)
{
	char aside[NAME_MAX + 1];
	int fd, lock_fd, err;

	if ((size_t)snprintf(aside, sizeof(aside), ".%s.mqfs-new", name) >= sizeof(aside))
		return engine_explain(-ENAMETOOLONG, "the name of the store is too long: %s", path);
	fd = make_dir(parent_fd, aside);
	if (fd == -ENOENT)
		return -EEXIST; /* another process has taken it up just now, and renamed it */
	if (fd < 0)
		return engine_explain(fd, "the store at %s cannot be made: %s", path, strerror(-fd));
	err = store_lock(fd, path, &lock_fd);
	if (!err) {
		err = make_and_rename(parent_fd, fd, aside, name, path, root_owner);
		close(lock_fd);
	}
	close(fd);
	return err == -ENOENT ? -EEXIST : err; /* another process has removed it, as there was a store by then */
}

int store_make(const char *path, const struct engine_owner *root_owner)
{
	char parent[PATH_MAX];
	const char *name = split_path(path, parent);
	int fd, err;

	fd = io_open_existing(AT_FDCWD, parent, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return engine_explain(
		    fd, "the store at %s cannot be made, as %s cannot be opened: %s", path, parent, strerror(-fd));
	err = store_check_fs(fd, parent);
	if (!err)
		err = make_in(fd, name, path, root_owner);
	close(fd);
	return err;
}
