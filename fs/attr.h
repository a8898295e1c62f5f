/*
 * attr - what stat(2) shows of a node, and what chmod, chown and touch do to it.
 *
 * Owner and mode are kept by the engine with the object, under the name node_owner_path gives; until one is set they follow
 * from who made the object and with which mode. Sizes and times are those of what the node stands for.
 */
#ifndef MQFS_FS_ATTR_H
#define MQFS_FS_ATTR_H

#include "fs/fs.h"
#include "fs/fuse.h"
#include "fs/node.h"

/* ENOENT or ESTALE: what it stands for is gone. */
int attr_get(struct fs *fs, const struct node *node, struct stat *ret_st);

/* to_set: FUSE_SET_ATTR_ bits. Returns 0, or the error with a sentence for status/errors (or NULL) in *ret_why. */
int attr_set(struct fs *fs, const struct node *node, const struct stat *attr, int to_set, const char **ret_why);

/* How long the kernel may keep the attributes and the name of a node, in seconds. */
double attr_timeout(const struct node *node);
double entry_timeout(const struct node *node);

#endif
