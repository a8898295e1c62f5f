/*
 * store - opening the directory of a store. See store.h.
 *
 * Looking comes before touching: the file system and FORMAT are checked before anything is made, and a directory that is
 * neither a store nor fillable stays as it is. store_guard.c does the looking and locking, store_make.c the making.
 */
#include "engine/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/io.h"
#include "engine/store_guard.h"
#include "engine/store_make.h"

#define TRIES 3 /* two processes that make the same store at the same time get on after one */

static const struct store store_closed = {
	.dirfd = -1, .logs_dirfd = -1, .journal_dirfd = -1, .spool_dirfd = -1, .lock_fd = -1
};

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

void store_close(struct store *store)
{
	close_if_open(store->spool_dirfd);
	close_if_open(store->journal_dirfd);
	close_if_open(store->logs_dirfd);
	close_if_open(store->dirfd);
	close_if_open(store->lock_fd); /* last: now others may have it */
	*store = store_closed;
}

static int open_part(const struct store *store, const char *path, const char *name, int *ret_fd)
{
	int fd = io_open_existing(store->dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);

	if (fd == -ENOENT || fd == -ENOTDIR)
		return engine_explain(-EUCLEAN, "the store at %s has no directory %s", path, name);
	if (fd < 0)
		return engine_explain(fd, "%s/%s cannot be opened: %s", path, name, strerror(-fd));
	*ret_fd = fd;
	return 0;
}

static bool store_lacks(const struct store *store, const char *name)
{
	struct stat st;

	return store->logs_dirfd >= 0 && store->journal_dirfd >= 0 &&
	       fstatat(store->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}

static int open_parts(struct store *store, const char *path)
{
	int err;

	err = open_part(store, path, "logs", &store->logs_dirfd);
	if (!err)
		err = open_part(store, path, "journal", &store->journal_dirfd);
	if (!err && !store->read_only)
		io->mkdir(store->dirfd, "spool", 0700); /* what is in it does not outlive a daemon, so nor must it */
	if (!err)
		err = open_part(store, path, "spool", &store->spool_dirfd);
	if (err == -EUCLEAN && store->read_only && store_lacks(store, "spool")) {
		engine_reason_clear(); /* who only reads does not want it */
		err = 0;
	}
	return err;
}

/* Makes a store of the directory, which has no FORMAT. */
static int fill(struct store *store, const char *path, bool create, const struct engine_owner *root_owner)
{
	int err;

	err = store_check_fillable(store->dirfd, path);
	if (err) { /* unless another process has filled it just now, and uses it */
		int again = store_read_format(store->dirfd, path, store->uuid);

		return again == -ENOENT ? err : again;
	}
	if (!create)
		return engine_explain(-ENOENT, "there is no store at %s", path);
	err = store_lock(store->dirfd, path, &store->lock_fd);
	if (err)
		return err;
	err = store_read_format(store->dirfd, path, store->uuid); /* as above */
	if (err != -ENOENT)
		return err;
	err = store_fill(store->dirfd, path, root_owner);
	return err ? err : store_read_format(store->dirfd, path, store->uuid);
}

/* Opens what is in store->dirfd. On failure the caller closes what is open. */
static int open_dir(struct store *store, const char *path, bool create, const struct engine_owner *root_owner)
{
	int err;

	err = store_check_fs(store->dirfd, path);
	if (err)
		return err;
	err = store_read_format(store->dirfd, path, store->uuid);
	if (err == -ENOENT)
		err = fill(store, path, create && !store->read_only, root_owner);
	if (!err && store->lock_fd < 0)
		err = store->read_only ? store_lock_shared(store->dirfd, path, &store->lock_fd)
				       : store_lock(store->dirfd, path, &store->lock_fd);
	return err ? err : open_parts(store, path);
}

/* Opens the directory at path. ENOENT (not explained) if nothing is there. */
static int open_path(struct store *store, const char *path, bool create, const struct engine_owner *root_owner)
{
	int err;

	store->dirfd = io_open_existing(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
	if (store->dirfd >= 0)
		return open_dir(store, path, create, root_owner);
	err = store->dirfd;
	if (err == -ENOENT)
		return err;
	if (err == -ENOTDIR)
		return engine_explain(err, "%s is not a directory, as a store is", path);
	return engine_explain(err, "the store at %s cannot be opened: %s", path, strerror(-err));
}

/* Copies path without the slashes at its end. */
static int trim_path(const char *path, char ret_path[PATH_MAX])
{
	size_t len = strlen(path);

	while (len > 1 && path[len - 1] == '/')
		len--;
	if (len == 0)
		return engine_explain(-ENOENT, "the path of the store is empty");
	if (len >= PATH_MAX)
		return engine_explain(-ENAMETOOLONG, "the path of the store is too long");
	memcpy(ret_path, path, len);
	ret_path[len] = '\0';
	return 0;
}

int store_open(
    const char *path, bool create, bool read_only, const struct engine_owner *root_owner, struct store *ret_store)
{
	struct store store;
	char trimmed[PATH_MAX];
	int err;

	err = trim_path(path, trimmed);
	if (err)
		return err;
	for (int i = 0; i < TRIES; i++) {
		store = store_closed;
		store.read_only = read_only;
		err = open_path(&store, trimmed, create, root_owner);
		if (err != -ENOENT || store.dirfd >= 0 || !create || read_only)
			break;
		err = store_make(trimmed, root_owner);
		if (err && err != -EEXIST)
			break;
	}
	if (!err) {
		*ret_store = store;
		return 0;
	}
	if (err == -ENOENT && store.dirfd < 0 && (!create || read_only))
		err = engine_explain(-ENOENT, "there is no store at %s", trimmed);
	store_close(&store);
	return err;
}
