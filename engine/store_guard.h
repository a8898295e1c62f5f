/*
 * store_guard - may this directory be opened as a store, and by us now: its FORMAT, its lock, its file system.
 *
 * For store*.c. What is where: store.h. `path` is for the sentences of engine_reason() only.
 */
#ifndef MQFS_STORE_GUARD_H
#define MQFS_STORE_GUARD_H

#include "engine/engine.h"

#define STORE_FORMAT 1u
#define STORE_FORMAT_NAME "FORMAT"
#define STORE_LOCK_NAME "lock"
#define STORE_RESERVE_NAME "reserve"

/* Writes FORMAT, durable; then the directory is a store. */
int store_write_format(int dirfd, const uint8_t uuid[16]);

/* Reads it. ENOENT (not explained): there is none. EUCLEAN: not such a text, or a newer format. */
int store_read_format(int dirfd, const char *path, uint8_t ret_uuid[16]);

bool store_format_is_newer(int dirfd); /* of a FORMAT that is refused */

/*
 * Locks the directory for us alone (its lock file is made if need be) and leaves our pid in the lock, or shares it for
 * reading (a store without a lock file is in no one's use: then *ret_fd is -1). EBUSY names the pid of who has it.
 */
int store_lock(int dirfd, const char *path, int *ret_fd);
int store_lock_shared(int dirfd, const char *path, int *ret_fd);

/* ENOTSUP if the directory is on a file system that LMDB, flock or fsync cannot rely on. */
int store_check_fs(int dirfd, const char *path);

#endif
