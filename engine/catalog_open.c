/*
 * catalog_open - making and opening the environment of the catalog.
 *
 * Making one is not crash-atomic in LMDB, so it is made under another name and renamed. All of its pages are looked at before it is
 * opened: catalog_pages.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/catalog_copy.h"
#include "engine/clock.h"
#include "engine/io.h"

#define CATALOG_MAP_FIRST ((size_t)64 << 20)
#define READERS 512u
#define LOCK_BYTES (READERS * 64 + 4096) /* LMDB's lock file: a cache line for each reader, and a few more */

/* ---- the first rows ---- */

static int put_first_rows(struct catalog_txn *txn, void *arg)
{
	struct catalog_object root = { .id = ENGINE_ROOT_ID, .kind = ENGINE_STORE };
	const struct engine_owner *owner = arg;
	uint8_t format[4], next_id[8];
	struct catalog_key key;
	int err;

	bytes_put32(format, CATALOG_FORMAT);
	catalog_fact_key(&key, "format");
	err = catalog_put_row(txn, &key, format, sizeof(format));
	if (err)
		return err;
	bytes_put64(next_id, ENGINE_ROOT_ID + 1);
	catalog_fact_key(&key, "next_id");
	err = catalog_put_row(txn, &key, next_id, sizeof(next_id));
	if (err)
		return err;
	root.owner = root.birth = *owner;
	root.ctime_ms = root.mtime_ms = clock_wall_ms();
	return catalog_insert_object(txn, &root);
}

static int read_format(struct catalog_txn *txn, void *arg)
{
	struct engine_span value;
	struct catalog_key key;
	int err;

	catalog_fact_key(&key, "format");
	err = catalog_get_row(txn, &key, &value);
	if (err)
		return err;
	if (value.len != 4)
		return catalog_damaged_row(txn, key.bytes);
	*(uint32_t *)arg = bytes_get32((const uint8_t *)value.ptr);
	return 0;
}

/* ---- making and opening ---- */

static struct catalog *catalog_new(bool read_only)
{
	struct catalog *catalog = calloc(1, sizeof(*catalog));
	pthread_rwlockattr_t attr;

	if (catalog == NULL)
		return NULL;
	catalog->read_only = read_only;
	catalog->dirfd = -1;
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(
	    &attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP); /* growth is not to starve */
	pthread_rwlock_init(&catalog->lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	pthread_mutex_init(&catalog->reserve_lock, NULL);
	pthread_mutex_init(&catalog->ids_lock, NULL);
	pthread_mutex_init(&catalog->copy_lock, NULL);
	return catalog;
}

void catalog_close(struct catalog *catalog)
{
	if (catalog == NULL)
		return;
	if (catalog->env != NULL)
		mdb_env_close(catalog->env);
	catalog_copy_close(catalog->copy);
	pthread_mutex_destroy(&catalog->copy_lock);
	pthread_mutex_destroy(&catalog->ids_lock);
	pthread_mutex_destroy(&catalog->reserve_lock);
	pthread_rwlock_destroy(&catalog->lock);
	free(catalog);
}

/*
 * LMDB writes to its lock file through a map: where a full disk has no room for that, SIGBUS ends the process. So it gets its room
 * before. ENOSPC: there is none for its first page; for more of it, which many readers at a time take, it goes without.
 */
static int give_lock_room(int dirfd, const char *name)
{
	char lock[64];
	struct stat st;
	int fd, err = 0;

	snprintf(lock, sizeof(lock), "%s-lock", name);
	fd = io->open(dirfd, lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return 0; /* LMDB has the same, and says so */
	if (fstat(fd, &st) == 0 && st.st_blocks * 512 < LOCK_BYTES)
		err = io->fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, LOCK_BYTES);
	close(fd);
	return err == -ENOSPC && st.st_blocks == 0 ? ENOSPC : 0;
}

/*
 * Read-only it needs no lock file, since no one can write while the store is locked. Readers are not tied to threads (MDB_NOTLS), of which
 * there may be many.
 */
int catalog_open_env(struct catalog *catalog, int dirfd, const char *name, uint64_t file_size, bool read_only)
{
	unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | (read_only ? MDB_RDONLY | MDB_NOLOCK : 0);
	char path[64];
	MDB_txn *txn;
	int rc;

	catalog->map_size = CATALOG_MAP_FIRST;
	while (catalog->map_size < file_size + CATALOG_RESERVE)
		catalog->map_size *= 2;
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dirfd, name);
	rc = read_only ? 0 : give_lock_room(dirfd, name);
	if (!rc)
		rc = mdb_env_create(&catalog->env);
	if (rc)
		return rc;
	rc = mdb_env_set_mapsize(catalog->env, catalog->map_size);
	if (!rc)
		rc = mdb_env_set_maxreaders(catalog->env, READERS);
	if (!rc)
		rc = mdb_env_open(catalog->env, path, flags, 0600);
	if (!rc)
		rc = mdb_txn_begin(catalog->env, NULL, MDB_RDONLY, &txn);
	if (rc)
		return rc;
	rc = mdb_dbi_open(txn, NULL, 0, &catalog->dbi);
	mdb_txn_abort(txn);
	return rc;
}

int catalog_build(int store_dirfd, int (*fill)(struct catalog *catalog, void *arg), void *arg)
{
	struct catalog *catalog;
	int err = io->unlink(store_dirfd, CATALOG_NEW_FILE, 0); /* what a crash left */

	if (err && err != -ENOENT)
		return err;
	catalog = catalog_new(false);
	if (catalog == NULL)
		return -ENOMEM;
	err = catalog_errno(catalog_open_env(catalog, store_dirfd, CATALOG_NEW_FILE, 0, false));
	if (!err)
		err = catalog_errno(mdb_env_set_flags(catalog->env, MDB_NOSYNC, 1)); /* once, at the end */
	if (!err)
		err = fill(catalog, arg);
	if (!err)
		err = catalog_errno(mdb_env_sync(catalog->env, 1));
	catalog_close(catalog);
	if (err)
		io->unlink(store_dirfd, CATALOG_NEW_FILE, 0);
	io->unlink(store_dirfd, CATALOG_NEW_FILE "-lock", 0);
	return err;
}

static int fill_first(struct catalog *catalog, void *arg)
{
	return catalog_change(catalog, CATALOG_GROWS, put_first_rows, arg);
}

int catalog_create(int store_dirfd, const struct engine_owner *root_owner)
{
	struct stat st;
	int err;

	if (fstatat(store_dirfd, CATALOG_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	err = catalog_build(store_dirfd, fill_first, (void *)(uintptr_t)root_owner);
	if (err)
		return err;
	err = io->rename(store_dirfd, CATALOG_NEW_FILE, store_dirfd, CATALOG_FILE);
	if (!err)
		return io->fsync(store_dirfd);
	io->unlink(store_dirfd, CATALOG_NEW_FILE, 0);
	return err;
}

static int look_at_row(void *ctx, struct engine_span key, struct engine_span value)
{
	MDB_val k = { .mv_size = key.len, .mv_data = (void *)(uintptr_t)key.ptr };
	MDB_val data = { .mv_size = value.len, .mv_data = (void *)(uintptr_t)value.ptr };
	uint8_t front[9] = { 0 }; /* table and id */

	memcpy(front, key.ptr, key.len < sizeof(front) ? key.len : sizeof(front));
	if (!catalog_row_is_whole(&k, &data))
		catalog_damaged_row(ctx, front);
	return 0;
}

/* All pages of it. A change that LMDB took back, as its last write failed, is one that the copy has not got. */
static int check_pages(struct catalog *catalog, int store_dirfd)
{
	struct catalog_copied copied;
	uint64_t undone;
	int err = catalog_check_pages(store_dirfd, CATALOG_FILE, look_at_row, &catalog->found, &undone);

	if (err || undone == 0)
		return err;
	if (catalog_look_at_copy(store_dirfd, &copied) == 0 && copied.change == undone - 1)
		return 0;
	return engine_explain(-EUCLEAN, "the catalog is damaged: the number of its last transaction");
}

/* Opens the environment of an existing file and looks whether it is one of ours. */
static int open_checked(struct catalog *catalog, int store_dirfd, uint64_t file_size)
{
	uint32_t format;
	int rc, err;

	if (file_size == 0) /* LMDB would make a new one of it */
		return engine_explain(-EUCLEAN, "the catalog is empty");
	err = check_pages(catalog, store_dirfd);
	if (err)
		return err;
	rc = catalog_open_env(catalog, store_dirfd, CATALOG_FILE, file_size, catalog->read_only);
	if (rc > 0 && rc != EINVAL) /* EINVAL: LMDB's word for a first page that is none */
		return engine_explain(-rc, "the catalog cannot be opened: %s", mdb_strerror(rc));
	if (rc)
		return engine_explain(-EUCLEAN, "the catalog is damaged: %s", mdb_strerror(rc));
	err = catalog_view(catalog, read_format, &format);
	if (err == -ENODATA || err == -EIO)
		return engine_explain(-EUCLEAN, "the catalog is damaged: its format cannot be read");
	catalog->newer = !err && format > CATALOG_FORMAT;
	if (catalog->newer)
		err = engine_explain(
		    -EUCLEAN, "the catalog is of format %u, and this program knows up to %u", format, CATALOG_FORMAT);
	return err;
}

int catalog_open(int store_dirfd, bool read_only, struct catalog **ret_catalog)
{
	struct catalog *catalog;
	struct stat st;
	int err;

	if (fstatat(store_dirfd, CATALOG_FILE, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return engine_explain(-errno, "the catalog cannot be opened: %s", strerror(errno));
	catalog = catalog_new(read_only);
	if (catalog == NULL)
		return -ENOMEM;
	err = open_checked(catalog, store_dirfd, S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0);
	if (err) {
		catalog_close(catalog);
		return err;
	}
	if (!read_only) {
		catalog->dirfd = store_dirfd;
		catalog->copy = catalog_copy_open(store_dirfd, catalog_last_change(catalog));
		err = catalog->copy == NULL ? -ENOMEM : 0;
	}
	if (err)
		catalog_close(catalog);
	else
		*ret_catalog = catalog;
	return err;
}

int catalog_check_newer(int store_dirfd)
{
	struct catalog *catalog = catalog_new(true);
	struct stat st;
	int err = 0;

	if (catalog == NULL)
		return -ENOMEM;
	if (fstatat(store_dirfd, CATALOG_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
		err = open_checked(catalog, store_dirfd, (uint64_t)st.st_size);
	err = catalog->newer ? err : 0;
	catalog_close(catalog);
	return err;
}
