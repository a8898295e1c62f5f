/*
 * reader - an open file that gives messages one after the other (reader.c tells how).
 */
#ifndef MQFS_FS_READER_H
#define MQFS_FS_READER_H

#include "fs/class.h"

/* log: a walk over a partition from its earliest message to its end as of now, for nobody; else a consumer of the group. */
int reader_open(struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, bool log,
    struct handle **ret_handle);
void reader_read(struct handle *handle, fuse_req_t req, size_t size, off_t offset, unsigned flags);
void reader_release(struct handle *handle);

#endif
