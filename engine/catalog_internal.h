/*
 * catalog_internal - what the files of the catalog share: transactions, rows and their keys. For catalog*.c only.
 *
 * All rows live in LMDB's one main database. A key is a letter for the table, the big-endian id of the object the row
 * belongs to, and what tells it from the object's other rows; so a table, or an object's part of it, is one range.
 * A value is little-endian, and ends in the CRC-32C of key and value, which is added and checked here: LMDB has none.
 *
 *   table  id      rest of the key        value
 *   'f'    0       name                   facts: "format" u32, "next_id" u64 (the lowest id that is free for sure),
 *                                         "next_message_id" u64, "journal" u64 (files below it are in the catalog),
 *                                         "uuid" 16 bytes, of the store
 *   'o'    object  -                      0 parent u64, 8 ctime_ms i64, 16 mtime_ms i64, 24 owner uid, gid, mode u32,
 *                                         36 birth uid, gid, mode u32, 48 kind u8, 49 seven zero bytes, 56 name
 *   'n'    parent  kind u8, name          id u64
 *   'c'    parent  kind u8, id BE64       empty
 *   'w'    object  node                   uid, gid, mode u32
 *   's'    object  kind u8, name          text; of the defaults: id 0 and their kind, otherwise kind 0
 *   'p'    topic   partition BE32         log id u64
 *   'p'    queue   priority BE32          log id u64
 *   'e'    topic   partition BE32         where the log was known to end: offset, position u64; to begin: u64
 *   'e'    queue   priority BE32          the same
 *   'u'    group   partition BE32         committed, given, lost u64
 *   'b'    exchange pattern, 0, name       target id u64; of a pattern itself: name empty, 0
 *   'k'    topic   key, partition BE32    where the latest message of a key is in a partition: offset u64, time i64,
 *                                         tombstone u8
 *   'y'    topic   partition BE32         below this offset the rows 'k' know all messages: u64
 *   'q'    queue   -                      the last change, totals: see local_queue_store.c, as for the next two
 *   'q'    queue   priority u8            the cursor of a lane
 *   'q'    queue   priority u8, first BE64  a span of a lane
 *
 * To change a value's layout: raise CATALOG_FORMAT, keep reading the old one, say so in mqfs-format(5).
 */
#ifndef MQFS_CATALOG_INTERNAL_H
#define MQFS_CATALOG_INTERNAL_H

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>

#include "engine/catalog.h"
#include "engine/catalog_pages.h"

#define CATALOG_FILE "catalog"
#define CATALOG_NEW_FILE "catalog.new"
#define CATALOG_FORMAT 1u
#define CATALOG_RESERVE ((size_t)1 << 20)
#define CATALOG_KEY_MAX 500u /* below LMDB's 511 */
#define CATALOG_ROW_MAX (CATALOG_VALUE_MAX + 4u)

_Static_assert(1 + 8 + CATALOG_NODE_MAX <= CATALOG_KEY_MAX, "a node's name fits into a key");
_Static_assert(1 + 8 + CATALOG_PATTERN_MAX + 1 + ENGINE_NAME_MAX <= CATALOG_KEY_MAX, "a binding fits into a key");
_Static_assert(56 + ENGINE_NAME_MAX <= CATALOG_VALUE_MAX, "an object fits into a value");

enum catalog_table {
	CATALOG_FACT = 'f',
	CATALOG_OBJECT = 'o',
	CATALOG_NAME = 'n',
	CATALOG_CHILD = 'c',
	CATALOG_OWNER = 'w',
	CATALOG_SETTING = 's',
	CATALOG_PARTITION = 'p',
	CATALOG_END = 'e',
	CATALOG_CURSOR = 'u',
	CATALOG_QUEUE = 'q',
	CATALOG_BINDING = 'b',
	CATALOG_KEY = 'k',
	CATALOG_KEYED = 'y',
};

/* ------------------------------------------------------------------------------------- transactions (catalog.c) */

struct catalog_key;

struct catalog_txn {
	MDB_txn *mdb;
	MDB_dbi dbi;
	struct catalog_batch *batch; /* what a change does, for the copy; or NULL */
	uint32_t damaged;            /* rows met whose CRC or layout is wrong; reported when the transaction is over */
	uint8_t damaged_table;       /* of the first of them */
	uint64_t damaged_id;
};

struct catalog {
	MDB_env *env;
	MDB_dbi dbi;
	bool read_only;
	struct engine_notify notify; /* set before the catalog is shared */
	struct catalog_txn found;    /* what was damaged at the opening */
	bool newer;                  /* its format is one that we do not know */

	pthread_mutex_t copy_lock;  /* for a whole change: the copy has them in their order. Taken after `lock` */
	struct copy *copy;          /* copy_lock; NULL: read-only, or being made */
	struct catalog_meta before; /* copy_lock: what the commit that is made writes over */

	pthread_rwlock_t lock; /* read: a transaction may be open; write: none is */
	size_t map_size;       /* lock */
	int dirfd;             /* of the store, borrowed; -1: it is being made */
	bool broken;           /* lock: the map was lost in growing it, or the file could not be opened anew */
	_Atomic bool panicked; /* LMDB does nothing more until it is opened anew */
	_Atomic bool failed;   /* nor could that be put right: it is read, and not changed any more */
	_Atomic bool told;     /* of that */

	pthread_mutex_t reserve_lock;
	uint64_t allocated; /* reserve_lock: bytes of the file that have disk space, as far as we know */

	pthread_mutex_t ids_lock;
	uint64_t next_id, ids_end; /* ids_lock: numbers taken from the database and not given yet */
};

void catalog_fact_key(struct catalog_key *key, const char *name);

/* May the change use the room kept for removals and checkpoints? */
enum catalog_room { CATALOG_GROWS, CATALOG_MAY_USE_RESERVE };

/*
 * Runs change in a write transaction and commits it if change returns 0; else nothing has changed and its error is
 * returned. change may be run again after the map was grown, so it must not depend on having run before. view is the same
 * for reading. Neither may be nested.
 */
int catalog_change(
    struct catalog *catalog, enum catalog_room room, int (*change)(struct catalog_txn *txn, void *arg), void *arg);
int catalog_view(struct catalog *catalog, int (*view)(struct catalog_txn *txn, void *arg), void *arg);

/* Makes the file CATALOG_NEW_FILE, with what fill puts into it; on disk, but for its name. */
int catalog_build(int store_dirfd, int (*fill)(struct catalog *catalog, void *arg), void *arg);

/*
 * Opens the environment in the file `name`, of file_size bytes, or makes it. LMDB's code. In any case catalog->env is to be closed, if it is
 * not NULL.
 */
int catalog_open_env(struct catalog *catalog, int dirfd, const char *name, uint64_t file_size, bool read_only);

/* After a panic: see catalog_panic.c. No transaction is open in this thread. */
void catalog_recover(struct catalog *catalog);

/* LMDB's code as 0 or a negative errno, or as CATALOG_MAP_FULL, which catalog_change() answers by growing the map. */
#define CATALOG_MAP_FULL (-100000)
int catalog_errno(int rc);

/* ---------------------------------------------------------------------------------------- rows (catalog_table.c) */

struct catalog_key {
	size_t len;
	uint8_t bytes[CATALOG_KEY_MAX];
};

void catalog_key_init(struct catalog_key *key, enum catalog_table table, uint64_t id);
void catalog_key_add_u8(struct catalog_key *key, uint8_t value);
void catalog_key_add_be32(struct catalog_key *key, uint32_t value);
void catalog_key_add_be64(struct catalog_key *key, uint64_t value);
uint64_t catalog_key_get_be64(const char *p);                                     /* the same back */
void catalog_key_add_text(struct catalog_key *key, const char *text, size_t len); /* that it fits was checked */

/* Value without its CRC, in the map: valid until the next change or the end of txn. ENODATA, EIO (damaged). */
int catalog_get_row(struct catalog_txn *txn, const struct catalog_key *key, struct engine_span *ret_value);
int catalog_put_row(struct catalog_txn *txn, const struct catalog_key *key, const void *value, size_t len);
int catalog_del_row(struct catalog_txn *txn, const struct catalog_key *key); /* ENODATA */
int catalog_has_row(struct catalog_txn *txn, const struct catalog_key *key); /* 0 or 1, damaged or not */

/* Removes all rows whose keys begin with prefix. */
int catalog_del_rows(struct catalog_txn *txn, const struct catalog_key *prefix);

/* Is this a row, with the CRC that key and value have? */
bool catalog_row_is_whole(const MDB_val *key, const MDB_val *data);

/* Counts a row as damaged and returns -EIO. */
int catalog_damaged_row(struct catalog_txn *txn, const void *key);

/* Rows copied out of a transaction. Starts as {0}. */
struct catalog_rows {
	uint8_t *mem;
	size_t len, size;
};
struct catalog_row {
	struct engine_span key, value; /* key: what follows table and id */
	uint64_t id;
};

/* Adds the whole rows whose keys begin with prefix, at most max of them, in order of key. */
int catalog_copy_rows(struct catalog_txn *txn, const struct catalog_key *prefix, size_t max, struct catalog_rows *rows);
/* The same for rows above the key `after`, which begins with prefix. */
int catalog_copy_rows_after(struct catalog_txn *txn, const struct catalog_key *prefix, const struct catalog_key *after,
    size_t max, struct catalog_rows *rows);
/* The row at *pos, which starts as 0 and is advanced; false after the last. */
bool catalog_next_row(const struct catalog_rows *rows, size_t *pos, struct catalog_row *ret_row);
void catalog_rows_release(struct catalog_rows *rows);

/* A snapshot of the rows under prefix, in a transaction of its own. */
int catalog_snapshot(struct catalog *catalog, const struct catalog_key *prefix, struct catalog_rows *rows);

/* Reports rows that catalog_next_row gave and whose layout is not what their table says. No lock may be held. */
void catalog_report_damage(struct catalog *catalog, uint32_t count, uint8_t table, uint64_t id);

/* -------------------------------------------------------------------------------------- objects (catalog_objects.c) */

int catalog_insert_object(
    struct catalog_txn *txn, const struct catalog_object *object); /* does not look for the parent */
int catalog_has_object(struct catalog_txn *txn, uint64_t id);      /* 0 or 1 */

/* ----------------------------------------------------------------------------------------- rows (catalog_rows.c) */

int catalog_put_end(struct catalog_txn *txn, const struct catalog_end *end); /* does not look for the object */

#endif
