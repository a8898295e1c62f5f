/*
 * key - what the files of keys/ need besides their class: see key.c.
 */
#ifndef MQFS_FS_KEY_H
#define MQFS_FS_KEY_H

#include "fs/fs.h"
#include "fs/node.h"

/* rm keys/NAME: produces a tombstone. ENOENT: the key has no value, or the topic is not compacted. */
int key_remove(struct fs *fs, const struct node *parent, const char *name, const struct engine_cred *cred);

/* Is it a topic that is compacted? */
bool key_is_compacted(struct engine_object *object);

/* Takes the right to read a key, or to list keys/, from who may not read the log. */
void key_limit_reading(
    struct engine_object *topic, const struct node *node, const struct engine_stat *stat, struct engine_owner *owner);

#endif
