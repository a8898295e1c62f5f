/*
 * node - what the kernel calls an inode: one file or directory of the tree, known by a 64-bit node id.
 *
 * A node is plain data: its row of the tree, the id of the engine's object it belongs to, and where below that it
 * stands. It holds no engine handle, so an object may be removed under it: whoever needs the object asks the engine for
 * the id and gets ENOENT.
 *
 * Node ids follow from what the node is (a hash of object id, transaction, path, framing and variant), so a name always leads to the
 * same node, whoever looks it up. The exception are TREE_FRESH rows: the kernel serialises all writes, and all fsyncs, of
 * one node, so every lookup of a channel makes a node of its own, with the same st_ino. Then producers run side by
 * side, and a group commit can form. Their ids are counted up and have the top bit set. One that was opened and is closed again
 * is given to the next lookup, which spares the kernel a second lookup each time a shell opens the channel.
 *
 * Life: made by node_child with one kernel reference (nlookup), freed when node_forget takes the last. The kernel sends no
 * forget while a request for the node is under way or a file of it is open, so a handler may use the pointer that
 * node_find gave it until it replies; a handle copies what it needs.
 */
#ifndef MQFS_FS_NODE_H
#define MQFS_FS_NODE_H

#include <stdint.h>

#include "fs/tree.h"

struct node {
	uint64_t id;  /* the kernel's nodeid */
	uint64_t ino; /* st_ino */
	const struct tree_row *row;
	uint64_t object;    /* engine id: the topic, the group, or the store */
	uint64_t tx;        /* below tx/NAME/: the transaction, in which all that is written is staged; else 0 */
	uint32_t partition; /* ENGINE_ANY above a partition directory; below priority/N: N */
	uint64_t offset;    /* of at/OFFSET; id of a message of a queue */
	uint64_t variant;   /* which life of its content it is of: of `log`, the first byte's pos */
	enum framing framing;
	const char *path; /* below the object's directory: "", "in", "0/at/17"; no suffix */
	const char *name; /* last part of path: a key, a setting, a spool name */
};

#define NODE_PATH_MAX (ENGINE_KEY_MAX + ENGINE_KEY_MAX + 64u) /* bindings/PATTERN/NAME */

struct node_table;

struct node_table *node_table_new(void); /* holds the root, id 1; NULL: no memory */
void node_table_free(struct node_table *table);

/* The node of an id the kernel holds. Never NULL for such an id. */
const struct node *node_find(struct node_table *table, uint64_t id);

/* The transaction that an entry of parent is in, and the object it belongs to unless it is one: below tx/NAME/ the tree begins anew. */
uint64_t node_child_tx(const struct node *parent, const struct tree_row *row);
uint64_t node_child_object(const struct node *parent, const struct tree_row *row);

/*
 * Openings of a node of a TREE_FRESH row, see staged.h: node_opened before, node_closed after. The kernel keeps one backing
 * file for a node as long as it is open; node_claim is true for the one opening that may choose it, node_backing is
 * what that chose, 0 if none has, until the last is closed.
 */
void node_opened(struct node_table *table, uint64_t id);
void node_closed(struct node_table *table, uint64_t id);
bool node_claim(struct node_table *table, uint64_t id);
void node_unclaim(struct node_table *table, uint64_t id);
bool node_is_claimed(struct node_table *table, uint64_t id);
void node_set_backing(struct node_table *table, uint64_t id, int32_t backing);
int32_t node_backing(struct node_table *table, uint64_t id);

/*
 * The node of an entry of `parent`, with one kernel reference more: an existing one, or a new one. stem is the name without
 * suffix; object is the id of the engine's object if the row matches one, else that of the parent's; variant tells
 * apart the lives of a file whose content is not the same any more (0 where there is but one). NULL: no memory.
 */
const struct node *node_child(struct node_table *table, const struct node *parent, const struct tree_row *row,
    enum framing framing, const char *stem, uint64_t object, uint64_t variant);

/* Takes count kernel references back. */
void node_forget(struct node_table *table, uint64_t id, uint64_t count);

/* The lowest ids, up to max of those above `after`, of links that the kernel holds and that lead to an object; ascending. Returns how many. */
size_t node_links_to(struct node_table *table, uint64_t object, uint64_t after, uint64_t *ret_ids, size_t max);

/* What st_ino an entry has without making a node of it: for readdir. */
uint64_t node_ino(const struct node *parent, const struct tree_row *row, enum framing framing, const char *stem,
    uint64_t object, uint64_t variant);

/* The state a message's directory is of: ready/17, unacked/17, delayed/17. */
enum engine_message_state node_state(const struct node *node);

/*
 * The name under which the owner and mode of a node are kept with its object (see tree_row.owner): "" is the object's
 * directory. Returns false if it does not fit.
 */
bool node_owner_path(const struct node *node, char *ret_path, size_t size);

#endif
