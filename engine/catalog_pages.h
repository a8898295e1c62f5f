/*
 * catalog_pages - the pages of the catalog's file, read without LMDB. For catalog*.c only.
 *
 * LMDB trusts its file: its pages have no checksums, and one turned bit can make it read beyond its map, overwrite pages that are
 * in use, or go back to an old state without a word. So before it gets the file, all that it would follow is looked at here.
 */
#ifndef MQFS_CATALOG_PAGES_H
#define MQFS_CATALOG_PAGES_H

#include "engine/engine.h"

/* A row as it is in the file: value with its CRC. Nonzero ends the walk. */
typedef int catalog_raw_row(void *ctx, struct engine_span key, struct engine_span value);

/*
 * 0, EUCLEAN in words, EIO, ENOMEM. That rows are in their places is checked; their CRCs are for row, which may be NULL.
 *
 * ret_undone: 0, or the number of a transaction whose last write failed, so that LMDB took it back: it puts the old number over the new
 * one, beside the new roots (mdb_env_write_meta of 0.9). A turned bit in the number of a good one looks the same; who knows that there was
 * no such transaction may go on with the one before. NULL: that is damage.
 */
int catalog_check_pages(int dirfd, const char *name, catalog_raw_row *row, void *ctx, uint64_t *ret_undone);

/* One of the two metas as it was, so that it can be put back. */
struct catalog_meta {
	bool saved;
	off_t at;
	uint8_t bytes[152]; /* all that LMDB has in it */
};

/* Of the transaction with this number, before it is committed: the meta that it will be written over. Not saved: it could not be read. */
void catalog_save_meta(int fd, uint32_t page_size, uint64_t txn, struct catalog_meta *ret_meta);
int catalog_put_meta_back(
    int dirfd, const char *name, const struct catalog_meta *meta); /* synced; ENODATA: not saved */

#endif
