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

/* 0, EUCLEAN in words, EIO, ENOMEM. That rows are in their places is checked; their CRCs are for row, which may be NULL. */
int catalog_check_pages(int dirfd, const char *name, catalog_raw_row *row, void *ctx);

#endif
