/*
 * catalog - the LMDB environment: making and opening it, its transactions, the growth of its map, the reserve.
 *
 * What is stored is in catalog_objects.c and catalog_rows.c; how rows look, in catalog_internal.h and catalog_table.c.
 *
 * LMDB 0.9.24 is used in the way that lost nothing in an enumeration of power-loss states: its default durability, small
 * write transactions, none nested, no duplicates. Making an environment is not crash-atomic, so it is made under another
 * name and renamed. A commit that fails leaves the one before it in force, and the next one writes all its pages
 * anew, so a failed sync is an error of that change only; if the meta page itself cannot be written, LMDB refuses every
 * transaction from then on, which is EIO here.
 *
 * The map starts at 64 MiB of address space (not of memory or disk) and doubles when it is full, for which no transaction
 * may be open in the process: transactions hold `lock` for reading, growth holds it for writing.
 *
 * The reserve: disk space is allocated CATALOG_RESERVE beyond the end of the file before a change that grows it. If that
 * fails, and there is not as much free within the file, the change is refused with ENOSPC, while removals and
 * checkpoints go on and use what is there.
 */
#include "engine/catalog.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/catalog_internal.h"
#include "engine/catalog_pages.h"
#include "engine/clock.h"
#include "engine/failpoint.h"
#include "engine/io.h"

#define CATALOG_NAME "catalog"
#define CATALOG_NEW_NAME "catalog.new"
#define CATALOG_MAP_FIRST ((size_t)64 << 20)
#define CATALOG_RESERVE ((size_t)1 << 20)
#define CATALOG_IDS_AT_ONCE 64u /* numbers taken by one commit */

struct catalog {
	MDB_env *env;
	MDB_dbi dbi;
	bool read_only;
	struct engine_notify notify; /* set before the catalog is shared */
	struct catalog_txn found;    /* what was damaged at the opening */

	pthread_rwlock_t lock; /* read: a transaction may be open; write: none is */
	size_t map_size;       /* lock */
	bool broken;           /* lock: the map was lost in growing it */

	pthread_mutex_t reserve_lock;
	uint64_t allocated; /* reserve_lock: bytes of the file that have disk space, as far as we know */

	pthread_mutex_t ids_lock;
	uint64_t next_id, ids_end; /* ids_lock: numbers taken from the database and not given yet */
};

/* ------------------------------------------------------------------------------------------------- errors */

int catalog_errno(int rc)
{
	switch (rc) {
	case MDB_SUCCESS: return 0;
	case MDB_NOTFOUND: return -ENODATA;
	case MDB_KEYEXIST: return -EEXIST;
	case MDB_MAP_FULL: return CATALOG_MAP_FULL;
	case MDB_READERS_FULL: return -EAGAIN;
	case MDB_TXN_FULL: return -EFBIG;
	default: return rc > 0 ? -rc : -EIO; /* errno as it is; PANIC, CORRUPTED, PAGE_NOTFOUND and the rest */
	}
}

void catalog_report_damage(struct catalog *catalog, uint32_t count, uint8_t table, uint64_t id)
{
	char text[160];

	if (count == 0 || catalog->notify.fn == NULL)
		return;
	snprintf(text, sizeof(text), "catalog: %u damaged row%s left out, the first in table '%c' of object %llu",
	    count, count == 1 ? "" : "s", table >= ' ' && table < 0x7f ? table : '?', (unsigned long long)id);
	catalog->notify.fn(catalog->notify.ctx, EIO, text);
}

void catalog_set_notify(struct catalog *catalog, struct engine_notify notify)
{
	catalog->notify = notify;
	catalog_report_damage(catalog, catalog->found.damaged, catalog->found.damaged_table, catalog->found.damaged_id);
}

uint32_t catalog_damaged(const struct catalog *catalog)
{
	return catalog->found.damaged;
}

/* ------------------------------------------------------------------------------------------- transactions */

/* Would a map of this size be had? LMDB unmaps the old one before it finds out. */
static bool map_can_be(struct catalog *catalog, size_t size)
{
	void *map;
	int fd;

	if (mdb_env_get_fd(catalog->env, &fd))
		return false;
	map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return false;
	munmap(map, size);
	return true;
}

/* Doubles the map, unless another thread has grown it since it had `seen` bytes. */
static int grow_map(struct catalog *catalog, size_t seen)
{
	int err = 0;

	pthread_rwlock_wrlock(&catalog->lock);
	if (catalog->broken) {
		err = -EIO;
	} else if (catalog->map_size == seen) {
		if (seen > SIZE_MAX / 2 || !map_can_be(catalog, seen * 2)) {
			err = -ENOSPC;
		} else if (mdb_env_set_mapsize(catalog->env, seen * 2)) {
			catalog->broken = mdb_env_set_mapsize(catalog->env, seen) != 0;
			err = -ENOSPC;
		} else {
			catalog->map_size = seen * 2;
		}
	}
	pthread_rwlock_unlock(&catalog->lock);
	return err;
}

/* Bytes of pages within the file that are free to be used again; 0 if that cannot be told. */
static uint64_t free_bytes(struct catalog *catalog, unsigned page_size)
{
	MDB_val key, data;
	MDB_cursor *cursor;
	uint64_t pages = 0;
	MDB_txn *txn;

	if (mdb_txn_begin(catalog->env, NULL, MDB_RDONLY, &txn))
		return 0;
	if (mdb_cursor_open(txn, 0, &cursor) == 0) { /* 0: LMDB's list of them; each row begins with a count */
		while (mdb_cursor_get(cursor, &key, &data, MDB_NEXT) == 0 && data.mv_size >= sizeof(size_t))
			pages += *(const size_t *)data.mv_data;
		mdb_cursor_close(cursor);
	}
	mdb_txn_abort(txn);
	return pages * page_size;
}

/*
 * Sees to disk space beyond the end of the file, or as much that is free within it. A file system that cannot allocate has
 * no reserve. reserve_lock held; no transaction open in this thread.
 */
static int keep_reserve(struct catalog *catalog)
{
	MDB_envinfo info;
	MDB_stat stat;
	uint64_t used;
	int fd, err;

	if (mdb_env_info(catalog->env, &info) || mdb_env_stat(catalog->env, &stat) || mdb_env_get_fd(catalog->env, &fd))
		return -EIO;
	used = (uint64_t)(info.me_last_pgno + 1) * stat.ms_psize;
	if (catalog->allocated >= used + CATALOG_RESERVE / 2)
		return 0;
	err = io->fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)(used + CATALOG_RESERVE));
	if (err == -ENOSPC || err == -EDQUOT)
		return free_bytes(catalog, stat.ms_psize) >= CATALOG_RESERVE ? 0 : -ENOSPC;
	catalog->allocated = err ? UINT64_MAX : used + CATALOG_RESERVE;
	return 0;
}

/* One try at a transaction. catalog->lock held for reading. */
static int run_txn(struct catalog *catalog, bool write, enum catalog_room room, struct catalog_txn *txn,
    int (*fn)(struct catalog_txn *txn, void *arg), void *arg)
{
	int err;

	if (catalog->broken)
		return -EIO;
	if (write && room == CATALOG_GROWS) {
		pthread_mutex_lock(&catalog->reserve_lock);
		err = keep_reserve(catalog);
		pthread_mutex_unlock(&catalog->reserve_lock);
		if (err)
			return err;
	}
	err = catalog_errno(mdb_txn_begin(catalog->env, NULL, write ? 0 : MDB_RDONLY, &txn->mdb));
	if (err)
		return err;
	err = fn(txn, arg);
	if (!err && write)
		err = FAILPOINT("catalog_before_commit");
	if (err || !write) {
		mdb_txn_abort(txn->mdb);
		return err;
	}
	err = catalog_errno(mdb_txn_commit(txn->mdb));
	CRASHPOINT("catalog_after_commit");
	return err;
}

static int transact(struct catalog *catalog, bool write, enum catalog_room room,
    int (*fn)(struct catalog_txn *txn, void *arg), void *arg)
{
	int err;

	do {
		struct catalog_txn txn = { .dbi = catalog->dbi };
		size_t size;

		pthread_rwlock_rdlock(&catalog->lock);
		size = catalog->map_size;
		err = run_txn(catalog, write, room, &txn, fn, arg);
		pthread_rwlock_unlock(&catalog->lock);
		catalog_report_damage(catalog, txn.damaged, txn.damaged_table, txn.damaged_id);
		if (err != CATALOG_MAP_FULL)
			return err;
		err = grow_map(catalog, size);
	} while (!err);
	return err;
}

int catalog_change(
    struct catalog *catalog, enum catalog_room room, int (*change)(struct catalog_txn *txn, void *arg), void *arg)
{
	if (catalog->read_only)
		return -EROFS;
	return transact(catalog, true, room, change, arg);
}

int catalog_view(struct catalog *catalog, int (*view)(struct catalog_txn *txn, void *arg), void *arg)
{
	return transact(catalog, false, CATALOG_MAY_USE_RESERVE, view, arg);
}

/* ---------------------------------------------------------------------------------------------------- facts */

static void fact_key(struct catalog_key *key, const char *name)
{
	catalog_key_init(key, CATALOG_FACT, 0);
	catalog_key_add_text(key, name, strlen(name));
}

static int put_first_rows(struct catalog_txn *txn, void *arg)
{
	struct catalog_object root = { .id = ENGINE_ROOT_ID, .kind = ENGINE_STORE };
	const struct engine_owner *owner = arg;
	uint8_t format[4], next_id[8];
	struct catalog_key key;
	int err;

	bytes_put32(format, CATALOG_FORMAT);
	fact_key(&key, "format");
	err = catalog_put_row(txn, &key, format, sizeof(format));
	if (err)
		return err;
	bytes_put64(next_id, ENGINE_ROOT_ID + 1);
	fact_key(&key, "next_id");
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

	fact_key(&key, "format");
	err = catalog_get_row(txn, &key, &value);
	if (err)
		return err;
	if (value.len != 4)
		return catalog_damaged_row(txn, key.bytes);
	*(uint32_t *)arg = bytes_get32((const uint8_t *)value.ptr);
	return 0;
}

static int take_ids(struct catalog_txn *txn, void *arg)
{
	struct engine_span value;
	struct catalog_key key;
	uint8_t next_id[8];
	int err;

	fact_key(&key, "next_id");
	err = catalog_get_row(txn, &key, &value);
	if (err)
		return err;
	if (value.len != sizeof(next_id))
		return catalog_damaged_row(txn, key.bytes);
	*(uint64_t *)arg = bytes_get64((const uint8_t *)value.ptr);
	bytes_put64(next_id, *(uint64_t *)arg + CATALOG_IDS_AT_ONCE);
	return catalog_put_row(txn, &key, next_id, sizeof(next_id));
}

int catalog_next_id(struct catalog *catalog, uint64_t *ret_id)
{
	uint64_t first;
	int err = 0;

	pthread_mutex_lock(&catalog->ids_lock);
	if (catalog->next_id == catalog->ids_end) {
		err = catalog_change(catalog, CATALOG_GROWS, take_ids, &first);
		if (!err) {
			catalog->next_id = first;
			catalog->ids_end = first + CATALOG_IDS_AT_ONCE;
		}
	}
	if (!err)
		*ret_id = catalog->next_id++;
	pthread_mutex_unlock(&catalog->ids_lock);
	return err;
}

/* ------------------------------------------------------------------------------------------ making and opening */

static struct catalog *catalog_new(bool read_only)
{
	struct catalog *catalog = calloc(1, sizeof(*catalog));
	pthread_rwlockattr_t attr;

	if (catalog == NULL)
		return NULL;
	catalog->read_only = read_only;
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(
	    &attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP); /* growth is not to starve */
	pthread_rwlock_init(&catalog->lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	pthread_mutex_init(&catalog->reserve_lock, NULL);
	pthread_mutex_init(&catalog->ids_lock, NULL);
	return catalog;
}

void catalog_close(struct catalog *catalog)
{
	if (catalog == NULL)
		return;
	if (catalog->env != NULL)
		mdb_env_close(catalog->env);
	pthread_mutex_destroy(&catalog->ids_lock);
	pthread_mutex_destroy(&catalog->reserve_lock);
	pthread_rwlock_destroy(&catalog->lock);
	free(catalog);
}

/*
 * Opens the environment in the file `name`, of file_size bytes, or makes it. Read-only it needs no lock file, since no one
 * can write while the store is locked. Readers are not tied to threads (MDB_NOTLS), of which there may be many.
 */
static int open_env(struct catalog *catalog, int dirfd, const char *name, uint64_t file_size)
{
	unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | (catalog->read_only ? MDB_RDONLY | MDB_NOLOCK : 0);
	char path[64];
	MDB_txn *txn;
	int rc;

	catalog->map_size = CATALOG_MAP_FIRST;
	while (catalog->map_size < file_size + CATALOG_RESERVE)
		catalog->map_size *= 2;
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dirfd, name);
	rc = mdb_env_create(&catalog->env);
	if (rc)
		return rc;
	rc = mdb_env_set_mapsize(catalog->env, catalog->map_size);
	if (!rc)
		rc = mdb_env_set_maxreaders(catalog->env, 512);
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

int catalog_create(int store_dirfd, const struct engine_owner *root_owner)
{
	struct catalog *catalog;
	struct stat st;
	int err;

	if (fstatat(store_dirfd, CATALOG_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	err = io->unlink(store_dirfd, CATALOG_NEW_NAME, 0); /* what a crash left */
	if (err && err != -ENOENT)
		return err;
	catalog = catalog_new(false);
	if (catalog == NULL)
		return -ENOMEM;
	err = catalog_errno(open_env(catalog, store_dirfd, CATALOG_NEW_NAME, 0));
	if (!err)
		err = catalog_change(catalog, CATALOG_GROWS, put_first_rows, (void *)(uintptr_t)root_owner);
	if (!err)
		err = catalog_errno(mdb_env_sync(catalog->env, 1));
	catalog_close(catalog);
	if (!err)
		err = io->rename(store_dirfd, CATALOG_NEW_NAME, store_dirfd, CATALOG_NAME);
	if (!err)
		err = io->fsync(store_dirfd);
	else
		io->unlink(store_dirfd, CATALOG_NEW_NAME, 0);
	io->unlink(store_dirfd, CATALOG_NEW_NAME "-lock", 0);
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

/* Opens the environment of an existing file and looks whether it is one of ours. */
static int open_checked(struct catalog *catalog, int store_dirfd, uint64_t file_size)
{
	uint32_t format;
	int rc, err;

	if (file_size == 0) /* LMDB would make a new one of it */
		return engine_explain(-EUCLEAN, "the catalog is empty");
	err = catalog_check_pages(store_dirfd, CATALOG_NAME, look_at_row, &catalog->found);
	if (err)
		return err;
	rc = open_env(catalog, store_dirfd, CATALOG_NAME, file_size);
	if (rc > 0 && rc != EINVAL) /* EINVAL: LMDB's word for a first page that is none */
		return engine_explain(-rc, "the catalog cannot be opened: %s", mdb_strerror(rc));
	if (rc)
		return engine_explain(-EUCLEAN, "the catalog is damaged: %s", mdb_strerror(rc));
	err = catalog_view(catalog, read_format, &format);
	if (err == -ENODATA || err == -EIO)
		return engine_explain(-EUCLEAN, "the catalog is damaged: its format cannot be read");
	if (!err && format > CATALOG_FORMAT)
		err = engine_explain(
		    -EUCLEAN, "the catalog is of format %u, and this program knows up to %u", format, CATALOG_FORMAT);
	return err;
}

int catalog_open(int store_dirfd, bool read_only, struct catalog **ret_catalog)
{
	struct catalog *catalog;
	struct stat st;
	int err;

	if (fstatat(store_dirfd, CATALOG_NAME, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return engine_explain(-errno, "the catalog cannot be opened: %s", strerror(errno));
	catalog = catalog_new(read_only);
	if (catalog == NULL)
		return -ENOMEM;
	err = open_checked(catalog, store_dirfd, S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0);
	if (err) {
		catalog_close(catalog);
		return err;
	}
	*ret_catalog = catalog;
	return 0;
}
