/*
 * session - the FUSE session: mounted, served by a few threads, ended.
 */
#ifndef MQFS_FS_SESSION_H
#define MQFS_FS_SESSION_H

#include "fs/awake.h"
#include "fs/fs.h"

struct session_options {
	bool read_only, allow_other;
	const char *fsname; /* first column of mount and df; NULL: the source */
	unsigned threads;
	unsigned busy_poll; /* us: receive.h */
	enum awake_want awake;
	bool debug;
	bool io_uring; /* requests come by io_uring, if that can be had: uring.h */
};

/*
 * Mounts fs at fs->mountpoint, starts the threads, and returns when the kernel has been
 * answered (FUSE_INIT). On failure nothing is
 * mounted, and engine_reason() says what failed.
 */
int session_start(struct fs *fs, const struct session_options *options);

/* Waits until the mount is gone: by umount, or because session_stop was called. Joins the threads. */
void session_wait(struct fs *fs);

/*
 * Ends the mount: unmounts it, lazily if it is busy, and lets the threads end. To be called from a thread of its own
 * or a signal waiting one, not from a request.
 */
void session_stop(struct fs *fs);

/* After session_wait: frees the session. */
void session_free(struct fs *fs);

#endif
