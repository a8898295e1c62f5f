/*
 * ops - the FUSE operations: decode, find the node, do one thing, answer.
 *
 * ops_dir.c has those on names, ops_list.c those that list, ops_file.c those on open files, ops_rest.c those that have little or
 * nothing to do here but must not be answered ENOSYS (the kernel would stop asking for the life of the mount).
 */
#ifndef MQFS_FS_OPS_H
#define MQFS_FS_OPS_H

#include "fs/fuse.h"

void ops_dir_fill(struct fuse_lowlevel_ops *ops);
void ops_list_fill(struct fuse_lowlevel_ops *ops);
void ops_file_fill(struct fuse_lowlevel_ops *ops);
void ops_rest_fill(struct fuse_lowlevel_ops *ops);

#endif
