/*
 * fs - one mount: what all its parts share.
 *
 * Set up by main.c before the first request and torn down after the last; everything in it has its own locking, so the
 * struct itself never changes while requests run.
 */
#ifndef MQFS_FS_FS_H
#define MQFS_FS_FS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"

struct fuse_session;
struct node_table;
struct handle_table;
struct ring;
struct events;
struct spool;
struct quota;
struct patience;

struct fs {
	struct engine *engine;
	struct fuse_session *session;
	struct node_table *nodes;
	struct handle_table *handles;
	struct errors *errors;     /* status/errors */
	struct events *events;     /* status/events */
	struct spool *spool;       /* put/ */
	struct quota *quota;       /* of users */
	struct patience *patience; /* of reads that wait */
	const char *source, *mountpoint;
	struct engine_owner owner; /* of what belongs to no object's creator: who mounted */
	int64_t started_ms;
	bool read_only;
	unsigned threads;
	_Atomic bool staging;        /* channels may get a staging file: the kernel sends their writes there */
	_Atomic int staging_refused; /* negative errno by which the kernel has ended that; 0: it has not */
	_Atomic bool ending;         /* the mount is gone: what is half written is dropped, not finished */
	pthread_mutex_t lock;        /* pending */
	pthread_cond_t settled;      /* pending became 0 */
	unsigned pending;            /* requests the engine will answer: each keeps its open file */
};

/* Around every asynchronous call of the engine that leads back to an open file. */
void fs_pending_begin(struct fs *fs);
void fs_pending_end(struct fs *fs);
void fs_pending_wait(struct fs *fs); /* until there is none */

#endif
