/*
 * handle - one open file: what open(2) made and dup and fork share.
 *
 * Each class of file has a handle struct of its own that begins with struct handle. The kernel is given an index into the
 * mount's table, never a pointer. A handle copies from its node what it needs, because the node may be forgotten while
 * the release of its last file is still under way.
 */
#ifndef MQFS_FS_HANDLE_H
#define MQFS_FS_HANDLE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fs/fs.h"
#include "fs/node.h"

struct file_class;
struct quota_user;

struct handle {
	struct fs *fs;
	const struct file_class *class;
	uint64_t index;  /* in the table; what the kernel calls fh */
	uint64_t object; /* engine id */
	uint64_t tx;     /* of the node */
	uint32_t partition;
	uint64_t offset;
	uint64_t variant;
	enum framing framing;
	int arg;                 /* of the row */
	unsigned open_flags;     /* of open(2) */
	struct engine_cred cred; /* of who opened it */
	struct quota_user *user; /* the same: what is charged to them */
	char *path;              /* below the object, without suffix */
	_Atomic bool owed;       /* see owed.h */
	pthread_rwlock_t in_use; /* for reading: by each handler of the file; see handle_settle */
};

struct handle_table;

struct handle_table *handle_table_new(void);
void handle_table_free(struct handle_table *table); /* no handle is left in it */

/* Fills in the common part from a node and enters it into the table. ENOMEM, ENFILE; EMFILE: the user has too many. */
int handle_init(
    struct handle *handle, struct fs *fs, const struct node *node, unsigned open_flags, const struct engine_cred *cred);
/* Takes it out of the table and frees what handle_init made; the struct itself is its class's. */
void handle_release(struct handle *handle);

/*
 * The handle of an open file, for a handler of a request on it, which ends with handle_done. The table is read without a
 * lock: it is on the path of every write.
 */
struct handle *handle_use(struct handle_table *table, uint64_t index);
void handle_done(struct handle *handle);

/*
 * Before a class's release: waits for handlers that have answered but not returned. A client that has its answer may close the
 * file before the thread that gave it is scheduled again.
 */
void handle_settle(struct handle *handle);
struct handle *handle_get(struct handle_table *table, uint64_t index); /* NULL: not in use */
uint64_t handle_count(struct handle_table *table);

/* Releases all that are open, when the mount is gone and no request runs any more. */
void handle_release_all(struct handle_table *table);

#endif
