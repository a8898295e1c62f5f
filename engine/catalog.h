/*
 * catalog - names, owners, settings and checkpoints: the LMDB database of a store.
 *
 * The only file that includes lmdb.h is catalog.c, and LMDB's codes are translated there. Every change is one
 * transaction, committed with LMDB's default, safe durability before the call returns (about 0.4 ms); none is on the path
 * of a message. No read transaction outlives a call. A map that is full is grown and the call tried again.
 *
 * Keys are at most 8 + 1 + 200 bytes, big-endian numbers so that they sort; names never become paths. The tables are
 * described in catalog.c, and in mqfs-format(5).
 *
 * Threads: any call from any thread.
 */
#ifndef MQFS_CATALOG_H
#define MQFS_CATALOG_H

#include "engine/engine.h"

struct catalog;

/* What the catalog knows of an object. partitions is of a topic: log ids are in its partition rows. */
struct catalog_object {
	uint64_t id, parent_id;
	enum engine_kind kind;
	struct engine_owner owner, birth;
	int64_t ctime_ms, mtime_ms;
	char name[ENGINE_NAME_MAX + 1];
};

struct catalog_cursor {
	uint64_t group_id;
	uint32_t partition;
	uint64_t committed, given, lost;
};

/* Opens (or makes, whole or not at all) the database `catalog` in the store directory. */
int catalog_create(int store_dirfd, const struct engine_owner *root_owner);
int catalog_open(int store_dirfd, bool read_only, struct catalog **ret_catalog);
void catalog_close(struct catalog *catalog); /* NULL allowed */

/* A number never given before, not even over restarts: for objects and logs. Durable with the change that uses it. */
int catalog_next_id(struct catalog *catalog, uint64_t *ret_id);

int catalog_put_object(struct catalog *catalog, const struct catalog_object *object); /* new; EEXIST if parent, kind and name are taken */
int catalog_set_owner(struct catalog *catalog, uint64_t id, const struct engine_owner *owner, int64_t mtime_ms); /* of its directory */
int catalog_rename(struct catalog *catalog, uint64_t id, const char *name, int64_t mtime_ms); /* EEXIST, ENOENT */

/* Removes the object and, with it, its children, owners, settings, partitions and cursors, in one transaction. */
int catalog_remove(struct catalog *catalog, uint64_t id);

/* Calls each for every object in ascending order of id (parents come before their children). Nonzero ends it and is returned. */
int catalog_each_object(struct catalog *catalog, int (*each)(void *ctx, const struct catalog_object *object), void *ctx);

/* Owner of a file below the object, "" excepted. ENODATA. */
int catalog_get_node_owner(struct catalog *catalog, uint64_t id, const char *node, struct engine_owner *ret_owner);
int catalog_set_node_owner(struct catalog *catalog, uint64_t id, const char *node, const struct engine_owner *owner);

/*
 * Settings that were set: id is an object's, or 0 for the defaults of `kind` (kind is ignored otherwise). each gets name and
 * value. put_settings writes all rows or none.
 */
struct catalog_setting {
	const char *name, *value;
};
int catalog_each_setting(struct catalog *catalog, uint64_t id, enum engine_kind kind, int (*each)(void *ctx, const char *name, const char *value), void *ctx);
int catalog_put_settings(struct catalog *catalog, uint64_t id, enum engine_kind kind, const struct catalog_setting *settings, size_t count);

/* The logs of a topic, by partition. add_partition: partition is the next one; log_id from catalog_next_id. */
int catalog_add_partition(struct catalog *catalog, uint64_t topic_id, uint32_t partition, uint64_t log_id);
int catalog_each_partition(struct catalog *catalog, uint64_t topic_id, int (*each)(void *ctx, uint32_t partition, uint64_t log_id), void *ctx);

/* Checkpoints of cursors; put writes all rows or none. */
int catalog_each_cursor(struct catalog *catalog, uint64_t group_id, int (*each)(void *ctx, const struct catalog_cursor *cursor), void *ctx);
int catalog_put_cursors(struct catalog *catalog, const struct catalog_cursor *cursors, size_t count);

#endif
