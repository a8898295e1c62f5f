/*
 * catalog - the LMDB environment: its transactions, the growth of its map, the reserve.
 *
 * It is made and opened in catalog_open.c. What is stored is in catalog_objects.c and catalog_rows.c; how rows look, in
 * catalog_internal.h and catalog_table.c.
 *
 * LMDB 0.9.24 is used in the way that lost nothing in an enumeration of power-loss states: its default durability, small
 * write transactions, none nested, no duplicates. A commit that fails leaves the one before it in force, and the next one writes all its pages
 * anew, so a failed sync is an error of that change only. If the meta page itself cannot be written, LMDB refuses every transaction from
 * then on, and it is opened anew: catalog_panic.c.
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
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/catalog_copy.h"
#include "engine/catalog_internal.h"
#include "engine/failpoint.h"
#include "engine/io.h"

#define CATALOG_IDS_AT_ONCE 64u /* numbers taken by one commit */

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

bool catalog_has_failed(const struct catalog *catalog)
{
	return atomic_load(&catalog->failed);
}

static void report_failure(struct catalog *catalog)
{
	if (catalog_has_failed(catalog) && !atomic_exchange(&catalog->told, true) && catalog->notify.fn != NULL)
		catalog->notify.fn(catalog->notify.ctx, EIO, CATALOG_FAILED);
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

#define PANICKED (-100001) /* LMDB does nothing more */

/* Begins a transaction. PANICKED and what catalog_errno() has. */
static int begin_txn(struct catalog *catalog, bool write, MDB_txn **ret_mdb)
{
	int rc = mdb_txn_begin(catalog->env, NULL, write ? 0 : MDB_RDONLY, ret_mdb);

	if (rc != MDB_PANIC)
		return catalog_errno(rc);
	atomic_store(&catalog->panicked, true);
	return PANICKED;
}

/* After a commit that failed. */
static void look_for_panic(struct catalog *catalog)
{
	MDB_txn *txn;

	if (begin_txn(catalog, false, &txn) == 0)
		mdb_txn_abort(txn);
}

static int commit(struct catalog *catalog, struct catalog_txn *txn)
{
	MDB_stat stat;
	int fd, err;

	catalog->before.saved = false;
	if (catalog->dirfd >= 0 && mdb_env_stat(catalog->env, &stat) == 0 && mdb_env_get_fd(catalog->env, &fd) == 0)
		catalog_save_meta(fd, stat.ms_psize, mdb_txn_id(txn->mdb), &catalog->before);
	err = catalog_errno(mdb_txn_commit(txn->mdb));
	CRASHPOINT("catalog_after_commit");
	if (err)
		look_for_panic(catalog);
	if (!err && txn->batch != NULL)
		catalog_copy_append(catalog->copy, catalog_last_change(catalog));
	return err;
}

/* One try at a transaction. catalog->lock held for reading, and copy_lock if it writes. */
static int run_txn(struct catalog *catalog, bool write, enum catalog_room room, struct catalog_txn *txn,
    int (*fn)(struct catalog_txn *txn, void *arg), void *arg)
{
	int err;

	if (catalog->broken || (write && catalog_has_failed(catalog)))
		return -EIO;
	if (write && room == CATALOG_GROWS) {
		pthread_mutex_lock(&catalog->reserve_lock);
		err = keep_reserve(catalog);
		pthread_mutex_unlock(&catalog->reserve_lock);
		if (err)
			return err;
	}
	err = begin_txn(catalog, write, &txn->mdb);
	if (err)
		return err;
	err = fn(txn, arg);
	if (!err && write)
		err = FAILPOINT("catalog_before_commit");
	if (err || !write) {
		mdb_txn_abort(txn->mdb);
		return err;
	}
	return commit(catalog, txn);
}

static int run_change(struct catalog *catalog, enum catalog_room room, struct catalog_txn *txn,
    int (*fn)(struct catalog_txn *txn, void *arg), void *arg)
{
	int err;

	pthread_mutex_lock(&catalog->copy_lock);
	txn->batch = catalog_copy_begin(catalog->copy);
	err = run_txn(catalog, true, room, txn, fn, arg);
	pthread_mutex_unlock(&catalog->copy_lock);
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
		err = write ? run_change(catalog, room, &txn, fn, arg) : run_txn(catalog, false, room, &txn, fn, arg);
		pthread_rwlock_unlock(&catalog->lock);
		catalog_recover(catalog);
		catalog_report_damage(catalog, txn.damaged, txn.damaged_table, txn.damaged_id);
		report_failure(catalog);
		if (err == CATALOG_MAP_FULL)
			err = grow_map(catalog, size);
		else if (err != PANICKED)
			return err;
	} while (!err || err == PANICKED);
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

/* ----------------------------------------------------------------------------------------------- the copy */

static int keep_copy(struct catalog *catalog, uint64_t journal)
{
	struct catalog_txn txn = { .dbi = catalog->dbi };
	int err;

	if (catalog->broken)
		return -EIO;
	err = begin_txn(catalog, false, &txn.mdb);
	if (err)
		return err == PANICKED ? -EIO : err; /* the next change or look puts that right */
	err = catalog_copy_keep(catalog->copy, &txn, journal);
	mdb_txn_abort(txn.mdb);
	return err;
}

int catalog_keep_copy(struct catalog *catalog, uint64_t journal)
{
	int err;

	if (catalog->read_only)
		return -EROFS;
	pthread_rwlock_rdlock(&catalog->lock);
	pthread_mutex_lock(&catalog->copy_lock);
	err = keep_copy(catalog, journal);
	pthread_mutex_unlock(&catalog->copy_lock);
	pthread_rwlock_unlock(&catalog->lock);
	return err;
}

uint64_t catalog_last_change(struct catalog *catalog)
{
	MDB_envinfo info;

	return mdb_env_info(catalog->env, &info) == 0 ? info.me_last_txnid : 0;
}

/* ---------------------------------------------------------------------------------------------------- facts */

void catalog_fact_key(struct catalog_key *key, const char *name)
{
	catalog_key_init(key, CATALOG_FACT, 0);
	catalog_key_add_text(key, name, strlen(name));
}

static int take_ids(struct catalog_txn *txn, void *arg)
{
	struct engine_span value;
	struct catalog_key key;
	uint8_t next_id[8];
	int err;

	catalog_fact_key(&key, "next_id");
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
