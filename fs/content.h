/*
 * content - reading the one message that a file stands for.
 */
#ifndef MQFS_FS_CONTENT_H
#define MQFS_FS_CONTENT_H

#include "fs/fs.h"
#include "fs/node.h"

/* The message of an at/OFFSET node; ret_view points into scratch. ENOENT: it is not retained (any more). */
int content_message(
    struct fs *fs, const struct node *node, struct engine_scratch *scratch, struct engine_view *ret_view);

#endif
