/*
 * catalog - names, owners, settings and checkpoints: the LMDB database of a store.
 *
 * Only catalog*.c see LMDB, and its codes are translated in catalog.c. Every change is one transaction, committed with
 * LMDB's default, safe durability before the call returns (about 0.4 ms); none is on the path of a message. No read
 * transaction outlives a call. A map that is full is grown and the call tried again. Some room on the disk is reserved,
 * into which only removals and checkpoints may grow, so that they work when the disk is full.
 *
 * Every row carries a CRC-32C. One that is damaged is reported and left out where rows are listed, and is EIO where it is
 * asked for by itself. Rows are described in catalog_internal.h and mqfs-format(5).
 *
 * Errors common to all: EIO (also when the database is damaged), ENOSPC, ENOMEM; EROFS for changes if it is open
 * read-only. A change that fails has changed nothing.
 *
 * Threads: any call from any thread. The catalog belongs to one process: it is opened after the last fork.
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

#define CATALOG_NODE_MAX 300u   /* bytes in the name of a node that has an owner: keys/KEY and the like */
#define CATALOG_VALUE_MAX 1024u /* bytes in the value of a setting */

/* Makes the database `catalog` in the store directory, whole or not at all, with the root object in it. EEXIST. */
int catalog_create(int store_dirfd, const struct engine_owner *root_owner);

/*
 * Looks at all of the file first: LMDB trusts what it finds there. ENOENT: there is none. EUCLEAN: not a catalog, damaged in more
 * than rows, cut short, or of a newer format; engine_reason() says which.
 */
int catalog_open(int store_dirfd, bool read_only, struct catalog **ret_catalog);
void catalog_close(struct catalog *catalog); /* NULL allowed */

/*
 * The copy of the catalog (catalog_copy.h), of which each change of a catalog that is not read-only writes down what it does.
 * keep: brings it in step if it is not, and on disk; all that files of the journal below this number say is in the catalog. Where
 * it fails nothing but the copy is the worse for it. look: ENOENT; EUCLEAN in words: it is damaged.
 */
struct catalog_copied {
	uint64_t change;  /* number of the last change in it */
	uint64_t journal; /* what files of the journal below this number say is in it */
	int64_t time_ms;
	uint64_t size, cut; /* bytes that were read, and bytes behind them that are no whole change */
	bool lacks;         /* of a restored one: what the catalog had from journal files that are gone */
};
int catalog_keep_copy(struct catalog *catalog, uint64_t journal);
int catalog_look_at_copy(int store_dirfd, struct catalog_copied *ret_copied);
uint64_t catalog_last_change(struct catalog *catalog); /* by the number that the copy has for it */
int catalog_check_newer(int store_dirfd); /* EUCLEAN in words if there is a catalog of a newer format, else 0 */

/*
 * Makes the catalog anew from its copy, and the old one, if there is one, is kept under the name in ret_kept ("": there was none).
 * oldest_journal: number of the oldest file of the journal; least_id: no object or log has this number or a higher one.
 * EUCLEAN in words: it is of a newer format, or the copy is damaged; ENOENT: there is no copy.
 */
#define CATALOG_KEPT_SIZE 32u
int catalog_restore(int store_dirfd, uint64_t oldest_journal, uint64_t least_id, struct catalog_copied *ret_copied,
    char ret_kept[CATALOG_KEPT_SIZE]);

/*
 * catalog_identity.c. claim: EUCLEAN in words: it is that of another store than the one with this uuid. One that does not say is this store's, and
 * says so from then on, if it is open to be written to. uuid: what it says; ENODATA. copy_uuid: the same of the copy, whatever else is in it; ENOENT, EUCLEAN.
 */
int catalog_claim(struct catalog *catalog, const uint8_t uuid[16]);
int catalog_uuid(struct catalog *catalog, uint8_t ret_uuid[16]);
int catalog_copy_uuid(int store_dirfd, uint8_t ret_uuid[16]);

/* Who is told of damaged rows, and now of those there were at the opening; to be set before other threads use the catalog. */
void catalog_set_notify(struct catalog *catalog, struct engine_notify notify);
uint32_t catalog_damaged(const struct catalog *catalog); /* how many rows were at the opening */

/*
 * It is told of this, once, when the disk failed in the last write of a commit, and failed again when that was to be put right
 * (catalog_panic.c). Each change is EIO from then on; what is there can be read.
 */
#define CATALOG_FAILED                                                                                                 \
	"the disk failed under the catalog, which is not changed any more: unmount, and mount again; if that is "      \
	"refused, after fsck.mqfs -y"
bool catalog_has_failed(const struct catalog *catalog);

/* A number never given before, whether or not it was used, not even over restarts: for objects and logs. */
int catalog_next_id(struct catalog *catalog, uint64_t *ret_id);

/* A new object. EEXIST if the id, or parent, kind and name, are taken; ENOENT if there is no such parent. */
int catalog_put_object(struct catalog *catalog, const struct catalog_object *object);
int catalog_set_owner(struct catalog *catalog, uint64_t id, const struct engine_owner *owner,
    int64_t mtime_ms); /* of its directory; ENOENT */
int catalog_rename(
    struct catalog *catalog, uint64_t id, const char *name, int64_t mtime_ms); /* EEXIST, ENOENT; 0 if it is its own */

/*
 * Removes the object and, with it, its children, owners, settings, partitions, lanes and checkpoints, in one transaction. ENOENT;
 * EPERM for the root. The logs its partition rows named are the caller's to destroy.
 */
int catalog_remove(struct catalog *catalog, uint64_t id);

/*
 * The catalog_each_* take a snapshot first and then call each with no lock held, for as long as it likes; nonzero from it
 * ends the walk and is returned. Objects come in ascending order of id, so parents before their children.
 */
int catalog_each_object(
    struct catalog *catalog, int (*each)(void *ctx, const struct catalog_object *object), void *ctx);

/*
 * Owner of a file below the object ("" is EINVAL: that is set_owner's). get, drop: ENODATA if there is none; set: ENOENT
 * if there is no such object, ENAMETOOLONG.
 */
int catalog_get_node_owner(struct catalog *catalog, uint64_t id, const char *node, struct engine_owner *ret_owner);
int catalog_set_node_owner(struct catalog *catalog, uint64_t id, const char *node, const struct engine_owner *owner);
int catalog_drop_node_owner(struct catalog *catalog, uint64_t id, const char *node);

/*
 * Settings that were set: id is an object's, or 0 for the defaults of `kind` (kind is ignored otherwise). each gets name and
 * value, by name. put_settings writes all rows or none; a value of NULL removes its row. ENOENT, ENAMETOOLONG, E2BIG.
 */
struct catalog_setting {
	const char *name, *value;
};
int catalog_each_setting(struct catalog *catalog, uint64_t id, enum engine_kind kind,
    int (*each)(void *ctx, const char *name, const char *value), void *ctx);
int catalog_put_settings(
    struct catalog *catalog, uint64_t id, enum engine_kind kind, const struct catalog_setting *settings, size_t count);

/*
 * The logs of a topic, by partition. add_partition: partition is the next one (else EINVAL, or EEXIST if it is there);
 * log_id from catalog_next_id. ENOENT.
 */
int catalog_add_partition(struct catalog *catalog, uint64_t topic_id, uint32_t partition, uint64_t log_id);
int catalog_each_partition(
    struct catalog *catalog, uint64_t topic_id, int (*each)(void *ctx, uint32_t partition, uint64_t log_id), void *ctx);

/*
 * Where the log of a partition, or of a priority of a queue, was known to end: its offset, and a position that the messages below do not go
 * beyond; and the offset where it began. A log has such a row from its making on, with 0. put writes all rows or none, except those of objects that are gone.
 */
struct catalog_end {
	uint64_t object_id, end, pos, start;
	uint32_t index;
};
int catalog_each_end(
    struct catalog *catalog, uint64_t object_id, int (*each)(void *ctx, const struct catalog_end *end), void *ctx);
int catalog_put_ends(struct catalog *catalog, const struct catalog_end *ends, size_t count);

/* The log of one priority of a queue; listed by catalog_each_partition. log_id from catalog_next_id. ENOENT. */
int catalog_add_lane(struct catalog *catalog, uint64_t queue_id, uint32_t priority, uint64_t log_id);

/* Numbers for messages of queues, never given before: count of them from *ret_first on. */
int catalog_next_message_ids(struct catalog *catalog, uint64_t count, uint64_t *ret_first);
/* The first that was not given: takes none. */
int catalog_see_message_ids(struct catalog *catalog, uint64_t *ret_next);

/*
 * Checkpoints of queues: rows whose values are the caller's. put writes (or, with len 0, removes) all of them or none, except
 * those of queues that are gone; each gives the queue's own row first, then each lane's before those of its spans. With them, unless
 * journal is 0, put notes that the catalog has all that the journal's files below this number say. catalog_journal: that number; 0 if
 * none was noted.
 */
enum catalog_queue_what { CATALOG_OF_QUEUE, CATALOG_OF_LANE, CATALOG_OF_SPAN };
struct catalog_queue_row {
	uint64_t queue_id;
	uint64_t first; /* of a span */
	enum catalog_queue_what what;
	uint32_t len;
	uint8_t priority; /* of a lane or span */
	uint8_t value[95];
};
int catalog_put_queue_rows(
    struct catalog *catalog, const struct catalog_queue_row *rows, size_t count, uint64_t journal);
int catalog_journal(struct catalog *catalog, uint64_t *ret_number);
int catalog_each_queue_row(
    struct catalog *catalog, uint64_t queue_id, int (*each)(void *ctx, const struct catalog_queue_row *row), void *ctx);

/*
 * Bindings of exchanges: a pattern alone has name "" and target 0. put: ENOENT if there is no such exchange; drop: ENODATA. each
 * gives the patterns in ascending order of their bytes, each before its bindings, which come by name.
 */
#define CATALOG_PATTERN_MAX 255u
struct catalog_binding {
	uint64_t exchange_id, target_id;
	char pattern[CATALOG_PATTERN_MAX + 1], name[ENGINE_NAME_MAX + 1];
};
int catalog_put_binding(struct catalog *catalog, const struct catalog_binding *binding);
int catalog_drop_binding(struct catalog *catalog, const struct catalog_binding *binding);
/* The binding gets the name new_name, which may be that of another: that is replaced. */
int catalog_rename_binding(struct catalog *catalog, const struct catalog_binding *binding, const char *new_name);
int catalog_each_binding(struct catalog *catalog, uint64_t exchange_id,
    int (*each)(void *ctx, const struct catalog_binding *binding), void *ctx);

/* Checkpoints of cursors; put writes all rows or none, except those of groups that are gone: these it passes over. */
int catalog_each_cursor(
    struct catalog *catalog, uint64_t group_id, int (*each)(void *ctx, const struct catalog_cursor *cursor), void *ctx);
int catalog_put_cursors(struct catalog *catalog, const struct catalog_cursor *cursors, size_t count);

/*
 * Key indexes of compacted topics. put writes rows (offset ENGINE_OFFSET_NONE removes one) and, unless covered is NULL, up to
 * where in each partition the rows know all messages; all or nothing. ENOENT: no such topic.
 */
struct catalog_keyed {
	struct engine_span key;
	uint32_t partition;
	uint64_t offset; /* of the latest message of the key in this partition */
	int64_t ts_ms;
	bool tombstone;
};
int catalog_put_keys(struct catalog *catalog, uint64_t topic_id, const struct catalog_keyed *rows, size_t count,
    const uint64_t *covered, uint32_t partitions);
/* The rows of one key, by partition, of those that are wanted (NULL: all); offset ENGINE_OFFSET_NONE: there is none. */
int catalog_get_keys(struct catalog *catalog, uint64_t topic_id, struct engine_span key, const bool *wanted,
    uint32_t partitions, struct catalog_keyed *ret_rows);
/* At most max rows after this key (ptr NULL: from the start) and partition, in order of both; each as above. */
int catalog_list_keys(struct catalog *catalog, uint64_t topic_id, struct engine_span after, uint32_t partition,
    size_t max, int (*each)(void *ctx, const struct catalog_keyed *row), void *ctx);
int catalog_each_keyed(struct catalog *catalog, uint64_t topic_id,
    int (*each)(void *ctx, uint32_t partition, uint64_t covered), void *ctx);

/*
 * For fsck.mqfs (catalog_links.c): what rows say of objects beside their own. Each object has one link by its name and one as a
 * child; root is a child of 0. owner: each table, by its letter, and each id above 0 that has rows there.
 */
struct catalog_link {
	uint64_t parent_id, id;
	enum engine_kind kind;
	bool is_name; /* else it lists a child, and name is "" */
	char name[ENGINE_NAME_MAX + 1];
};
int catalog_each_link(struct catalog *catalog, int (*each)(void *ctx, const struct catalog_link *link), void *ctx);
int catalog_each_owner(struct catalog *catalog, int (*each)(void *ctx, char table, uint64_t id), void *ctx);
int catalog_see_next_id(struct catalog *catalog, uint64_t *ret_next); /* the first that was not given; ENODATA */

/* Takes all of them away, some at a time. */
int catalog_drop_keys(struct catalog *catalog, uint64_t topic_id);

#endif
