/*
 * store_make - making the directory of a store, so that a crash leaves nothing that cannot be opened or made again.
 *
 * For store.c. What is where: store.h. Errors are explained (engine_reason()), with path as the name.
 */
#ifndef MQFS_STORE_MAKE_H
#define MQFS_STORE_MAKE_H

#include "engine/engine.h"

/*
 * Is there nothing in the directory, which has no FORMAT, but what a crash of store_fill() leaves (and lost+found)? 0;
 * ENOTEMPTY; EUCLEAN if it holds the data of a store that has lost its FORMAT.
 */
int store_check_fillable(int dirfd, const char *path);

/* Makes, or completes, a store in a directory that is fillable and locked. FORMAT is its last act. */
int store_fill(int dirfd, const char *path, const struct engine_owner *root_owner);

/* Makes a store at path, where nothing is, beginning aside. EEXIST: somebody else has been quicker. */
int store_make(const char *path, const struct engine_owner *root_owner);

#endif
