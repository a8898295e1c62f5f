/*
 * catalog_copy - a second form of the catalog, from which fsck.mqfs makes it anew. For catalog*.c only.
 *
 * The file `catalog.copy` begins with all rows there were when it was written, and goes on with the rows that each change has put or
 * removed since: it is in step with the catalog, at the price of one write for each change. That write is not synced; a checkpoint
 * syncs it before the journal drops what the catalog has taken over (catalog_keep_copy). So with the journal it holds all that the
 * catalog does, but for changes of which a power cut has taken the copy; and the catalog itself has those. When the copy has grown to
 * twice its size it is written anew, aside, synced and renamed.
 *
 * Nothing depends on it: where it cannot be written, or is not in step when the catalog is opened (a crash between the two), it
 * is behind until it is written anew. Key indexes of compacted topics are not in it; they follow from the logs.
 *
 * Numbers are little-endian. 64 bytes, then batches:
 *
 *    0  8  "MQFSCOPY"                   0  4  CRC-32C of: that of the batch before (4 bytes; of the first: bytes 24 to 31 of
 *    8  4  version: 1                         the header), and this batch from byte 4 to its end
 *   12  4  zero                         4  4  bytes of rows
 *   16  8  bytes of the file in which   8  8  number of the change: LMDB's of its transaction
 *          all rows are                16  8  journal: what its files below this number say is in here
 *   24  8  time it was made            24  8  time
 *   32 16  uuid of the store            32     rows: 2 length of the key, 2 length of the value, or ffff: it is removed; key, value
 *   48 12  zero
 *   60  4  CRC of these
 *
 * Keys and values are those of the catalog, with their CRCs. A uuid of zeros is that of a copy from before it was there: any store's; it
 * is written anew when it is opened.
 */
#ifndef MQFS_CATALOG_COPY_H
#define MQFS_CATALOG_COPY_H

#include "engine/catalog_internal.h"

#define COPY_NAME "catalog.copy"
#define COPY_NEW_NAME "catalog.copy.new"

/* Rows on their way into the copy. Starts as {0}. */
struct catalog_batch {
	uint8_t *bytes; /* begins with room for what is before the rows */
	size_t len, room;
	bool failed; /* no memory: the copy falls behind */
};

/* value NULL: it was removed. batch NULL: does nothing. */
void catalog_batch_add(struct catalog_batch *batch, const MDB_val *key, const MDB_val *value);
void catalog_batch_release(struct catalog_batch *batch);

/* A copy that is written. dirfd is borrowed; change: the last of the catalog. Threads: the caller's lock. */
struct copy;
struct copy *catalog_copy_open(int dirfd, uint64_t change); /* NULL: no memory */
void catalog_copy_close(struct copy *copy);                 /* NULL allowed */

void catalog_copy_fall_behind(struct copy *copy); /* so that it is written anew */

/* Where the rows of a change are put (NULL for no copy), and, once it was committed, written. That cannot fail: it falls behind. */
struct catalog_batch *catalog_copy_begin(struct copy *copy);
void catalog_copy_append(struct copy *copy, uint64_t change);

/* Brings it in step, says that the journal's files below this number are in it, and syncs it. txn reads the last state. */
int catalog_copy_keep(struct copy *copy, const struct catalog_txn *txn, uint64_t journal);

/*
 * Reads it: each row as it stands there, one that is removed with value.ptr NULL; nonzero ends that, and is returned. row may be NULL.
 * ENOENT; EUCLEAN in words: the rows it began with are not whole, or it is of another store. What follows them is read up to the first that is not whole.
 */
typedef int catalog_copy_row(void *ctx, uint64_t change, struct engine_span key, struct engine_span value);
int catalog_copy_read(int dirfd, catalog_copy_row *row, void *ctx, struct catalog_copied *ret_copied);

#endif
