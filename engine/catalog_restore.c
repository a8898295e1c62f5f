/*
 * catalog_restore - making a damaged catalog anew from its copy. For fsck.mqfs; no daemon has the store.
 *
 * The new one is made aside, as a first one is. The old one is kept under another name, then the new one is renamed; after a crash in
 * between there is none, which is restored in the same way. Numbers that were given out when the power went may not be in the copy,
 * so those of objects, logs and messages go on well above it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/catalog_copy.h"
#include "engine/catalog_pages.h"
#include "engine/io.h"

#define IDS_BEYOND 4096u
#define MESSAGE_IDS_BEYOND ((uint64_t)1 << 32) /* more than a machine takes in between two checkpoints */
#define LANE_KEY 10u                           /* letter, id, priority */
#define LANE_VALUE 20u
#define KEPT_MAX 1000u

struct restoring {
	struct catalog *catalog;
	int dirfd;
	uint64_t least_id, oldest_journal;
	struct catalog_copied copied;
};

/* ---- rows ---- */

struct raw_row {
	struct engine_span key, value;
};

static int put_raw(struct catalog_txn *txn, void *arg)
{
	const struct raw_row *row = arg;
	MDB_val key = { .mv_size = row->key.len, .mv_data = (void *)(uintptr_t)row->key.ptr };
	MDB_val data = { .mv_size = row->value.len, .mv_data = (void *)(uintptr_t)row->value.ptr };
	int rc;

	if (row->value.ptr != NULL)
		return catalog_errno(mdb_put(txn->mdb, txn->dbi, &key, &data, 0));
	rc = mdb_del(txn->mdb, txn->dbi, &key, NULL);
	return rc == MDB_NOTFOUND ? 0 : catalog_errno(rc);
}

static int on_row(void *ctx, uint64_t change, struct engine_span key, struct engine_span value)
{
	struct restoring *restoring = ctx;
	struct raw_row row = { key, value };

	(void)change;
	return catalog_change(restoring->catalog, CATALOG_MAY_USE_RESERVE, put_raw, &row);
}

/* ---- numbers go on above what may have been given ---- */

static int raise_fact(struct catalog_txn *txn, const char *name, uint64_t by, uint64_t least)
{
	struct engine_span value;
	struct catalog_key key;
	uint8_t bytes[8];
	uint64_t next;
	int err;

	catalog_fact_key(&key, name);
	err = catalog_get_row(txn, &key, &value);
	if (err && err != -ENODATA)
		return err;
	next = (!err && value.len == 8 ? bytes_get64((const uint8_t *)value.ptr) : 1) + by;
	bytes_put64(bytes, next > least ? next : least);
	return catalog_put_row(txn, &key, bytes, sizeof(bytes));
}

static int raise_ids(struct catalog_txn *txn, void *arg)
{
	const struct restoring *restoring = arg;
	int err = raise_fact(txn, "next_id", IDS_BEYOND, restoring->least_id);

	return err ? err : raise_fact(txn, "next_message_id", MESSAGE_IDS_BEYOND, 0);
}

/*
 * The copy is from before a checkpoint whose journal is gone: moves to a lane that came then are known to nobody, and their
 * messages must not pass for those of moves that never happened. The lane sets this right when it is opened.
 */
static int allow_moves(struct catalog_txn *txn, void *arg)
{
	struct catalog_rows rows = { 0 };
	struct catalog_key prefix;
	struct catalog_row row;
	size_t pos = 0;
	int err;

	(void)arg;
	catalog_key_init(&prefix, CATALOG_QUEUE, 0);
	prefix.len = 1; /* of every id */
	err = catalog_copy_rows(txn, &prefix, SIZE_MAX, &rows);
	while (!err && catalog_next_row(&rows, &pos, &row)) {
		struct catalog_key key;
		uint8_t value[LANE_VALUE - 4];

		if (row.key.len + 9 != LANE_KEY || row.value.len != sizeof(value))
			continue;
		memcpy(value, row.value.ptr, sizeof(value));
		bytes_put64(value + 8, INT64_MAX);
		catalog_key_init(&key, CATALOG_QUEUE, row.id);
		catalog_key_add_text(&key, row.key.ptr, row.key.len);
		err = catalog_put_row(txn, &key, value, sizeof(value));
	}
	catalog_rows_release(&rows);
	return err;
}

static int fill(struct catalog *catalog, void *arg)
{
	struct restoring *restoring = arg;
	int err;

	restoring->catalog = catalog;
	err = catalog_copy_read(restoring->dirfd, on_row, restoring, &restoring->copied);
	if (err)
		return err;
	restoring->copied.lacks = restoring->copied.journal < restoring->oldest_journal;
	err = catalog_change(catalog, CATALOG_MAY_USE_RESERVE, raise_ids, restoring);
	if (!err && restoring->copied.lacks)
		err = catalog_change(catalog, CATALOG_MAY_USE_RESERVE, allow_moves, NULL);
	return err;
}

/* ---- files ---- */

/* The damaged one gets a name that is free. ENOENT: there is none. */
static int set_aside(int dirfd, char kept[CATALOG_KEPT_SIZE])
{
	struct stat st;

	snprintf(kept, CATALOG_KEPT_SIZE, "catalog.damaged");
	for (unsigned i = 2; fstatat(dirfd, kept, &st, AT_SYMLINK_NOFOLLOW) == 0; i++) {
		if (i > KEPT_MAX)
			return -EEXIST;
		snprintf(kept, CATALOG_KEPT_SIZE, "catalog.damaged-%u", i);
	}
	return io->rename(dirfd, CATALOG_FILE, dirfd, kept);
}

static int put_in_place(int dirfd, char kept[CATALOG_KEPT_SIZE])
{
	int err = set_aside(dirfd, kept);

	if (err == -ENOENT)
		kept[0] = '\0';
	else if (err)
		return err;
	err = io->rename(dirfd, CATALOG_NEW_FILE, dirfd, CATALOG_FILE);
	if (!err)
		err = io->fsync(dirfd);
	io->unlink(dirfd, CATALOG_FILE "-lock", 0); /* of the old one */
	return err;
}

int catalog_restore(int store_dirfd, uint64_t oldest_journal, uint64_t least_id, struct catalog_copied *ret_copied,
    char ret_kept[CATALOG_KEPT_SIZE])
{
	struct restoring restoring = { .dirfd = store_dirfd, .least_id = least_id, .oldest_journal = oldest_journal };
	char kept[CATALOG_KEPT_SIZE];
	struct catalog *catalog;
	int err = catalog_check_newer(store_dirfd);

	if (!err)
		engine_reason_clear(); /* that the old one is damaged is known */
	if (!err)
		err = catalog_build(store_dirfd, fill, &restoring);
	if (!err)
		err = catalog_check_pages(store_dirfd, CATALOG_NEW_FILE, NULL, NULL, NULL);
	if (!err)
		err = put_in_place(store_dirfd, kept);
	if (!err)
		err = catalog_open(store_dirfd, false, &catalog);
	if (err)
		return err;
	catalog_copy_fall_behind(catalog->copy); /* its numbers of changes are not those of the copy */
	err = catalog_keep_copy(catalog, restoring.copied.journal);
	catalog_close(catalog);
	*ret_copied = restoring.copied;
	memcpy(ret_kept, kept, sizeof(kept));
	return err;
}
