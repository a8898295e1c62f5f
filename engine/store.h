/*
 * store - the directory of an embedded engine: its layout, its identity, and the lock that keeps a second daemon out.
 *
 *   STORE/FORMAT      one line: "mqfs store, format 1, UUID"; written first, checked at every opening
 *   STORE/lock        flock'ed by the daemon that has the store; holds its pid
 *   STORE/catalog     LMDB (catalog.h)
 *   STORE/journal/    journal.h
 *   STORE/logs/       one directory per partition log (plog.h)
 *   STORE/spool/      unnamed files of messages that are being written into put/
 *
 * A store is made aside (STORE.new-PID) and renamed into place, so that a crash leaves it whole or absent; an empty directory
 * that is already there (a mount point's, a package's) is filled instead, FORMAT last. Mode 0700, whatever the umask.
 */
#ifndef MQFS_STORE_H
#define MQFS_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"

struct store {
	int dirfd, logs_dirfd, journal_dirfd, spool_dirfd, lock_fd;
	uint8_t uuid[16];
	bool read_only;
};

/*
 * Opens the store at path, making it first if create is set and there is nothing there. engine_reason() says what was wrong:
 * ENOENT, ENOTEMPTY (a directory with other things in it), EBUSY (its daemon's pid is named), EUCLEAN (FORMAT unknown
 * or newer), ENOTSUP (NFS, CIFS, FUSE: by statfs magic), EACCES, EIO.
 */
int store_open(const char *path, bool create, bool read_only, const struct engine_owner *root_owner, struct store *ret_store);
void store_close(struct store *store);

#endif
