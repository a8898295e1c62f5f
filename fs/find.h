/*
 * find - from a name in a directory to the node behind it: what lookup and listing share.
 */
#ifndef MQFS_FS_FIND_H
#define MQFS_FS_FIND_H

#include "fs/fs.h"
#include "fs/node.h"

/* What a name leads to, before it is a node. */
struct found {
	const struct tree_row *row;
	enum framing framing;
	char stem[ENGINE_KEY_MAX + 1]; /* offsets without leading zeros */
	uint64_t object, variant;
};

/* Looks a name up as process pid sees it. ENOENT, ENAMETOOLONG. */
int find_name(struct fs *fs, const struct node *parent, const char *name, uint32_t pid, struct found *ret_found);

/* The row alone, and whether a file of that name could be created there (put/NAME, keys/KEY): for CREATE. */
const struct tree_row *find_creatable(const struct node *parent);

int find_identity(struct fs *fs, uint64_t id, struct engine_identity *ret_identity);

/*
 * The queue of an object that consumes: itself, or what a named consumer is of (then *ret_consumer is its id, else 0).
 * ret_queue is a reference to be put.
 */
int find_queue(struct engine_object *object, struct engine_object **ret_queue, uint64_t *ret_consumer);

int find_queue_by_id(struct fs *fs, uint64_t id, struct engine_object **ret_queue);

/*
 * The name that a record shows of where it comes from: a topic's for its groups too, a queue's for its consumers too, QUEUE/dlq
 * for the dead letters of one, and TOPIC/groups/GROUP/dlq for those of a group.
 */
#define FIND_RECORD_NAME_MAX (2 * ENGINE_NAME_MAX + sizeof "/groups//dlq")
int find_record_name(struct fs *fs, uint64_t id, char ret_name[FIND_RECORD_NAME_MAX]);

#endif
