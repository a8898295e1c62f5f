/*
 * store - the directory of an embedded engine: its layout, its identity, and the lock that keeps a second daemon out.
 *
 *   STORE/FORMAT      one line: "mqfs store, format 1, UUID"; written last, checked at every opening
 *   STORE/lock        flock'ed by the daemon that has the store; holds its pid
 *   STORE/catalog     LMDB (catalog.h)
 *   STORE/journal/    journal.h
 *   STORE/logs/       one directory per partition log (plog.h)
 *   STORE/reserve     room for what must work on a full disk (local_reserve.h); may be missing
 *   STORE/spool/      unnamed files of messages that are being written into put/
 *
 * A store is made aside (.STORE.mqfs-new) and renamed into place, so that a crash leaves it whole or absent; an empty
 * directory that is already there (a mount point's, a package's) is filled instead, FORMAT last. What a crash left of
 * either is completed by the next one that makes the store. Mode 0700, whatever the umask.
 *
 * The lock is flock's: it goes with the process, however that dies, and is shared by its forked children. A store is
 * opened after the last fork.
 */
#ifndef MQFS_STORE_H
#define MQFS_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"

struct store {
	int dirfd, logs_dirfd, journal_dirfd, lock_fd;
	int spool_dirfd; /* -1 if it is not there, and read_only */
	uint8_t uuid[16];
	bool read_only;
};

/*
 * Opens the store at path, making it first if create is set and there is nothing there; its parent must be there. Does not
 * wait for a daemon that is just ending: who wants to tries EBUSY again. read_only changes nothing and shares the
 * store with other readers. engine_reason() says what was wrong: ENOENT, ENOTDIR, ENOTEMPTY (a directory with other
 * things in it), EBUSY (in use; the daemon's pid is named), EUCLEAN (FORMAT unknown or newer, or a part is missing),
 * ENOTSUP (NFS, CIFS, FUSE and the like: by statfs magic), EROFS, EACCES, ENOSPC, EIO.
 */
int store_open(
    const char *path, bool create, bool read_only, const struct engine_owner *root_owner, struct store *ret_store);
/*
 * Of a store whose FORMAT is missing or damaged: the uuid that all its other parts have; and FORMAT made anew by it, under the lock. EEXIST: it has one. EUCLEAN: no
 * part has a uuid, or not all the same, or FORMAT is of a newer format. engine_reason() says which.
 */
int store_find_uuid(const char *path, uint8_t ret_uuid[16]);
int store_remake_format(const char *path);
void store_close(struct store *store); /* *store is to be opened again, or forgotten */

#endif
