#define HASH_NONFATAL_OOM 1

#include "fs/node.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define ROOT_NODE 1u
#define FRESH_BIT (1ull << 63)

/* The public part comes first, so that a struct node leads to its entry. */
struct entry {
	struct node node;
	uint64_t nlookup; /* table->lock */
	/* of openings; table->lock */
	uint32_t opens;
	int32_t backing;
	bool claimed;
	bool handed;            /* given to a lookup, and not opened and closed since */
	UT_hash_handle by_name; /* in table->latest, by node.ino; of TREE_FRESH rows */
	UT_hash_handle hh;
	char path[];
};

struct node_table {
	pthread_rwlock_t lock; /* entries, next_fresh */
	struct entry *entries;
	struct entry *latest; /* of those of one name the last that was made */
	uint64_t next_fresh;
};

struct node_table *node_table_new(void)
{
	struct node_table *table = calloc(1, sizeof *table);
	struct entry *root = calloc(1, sizeof *root + 1);
	if (!table || !root) {
		free(table);
		free(root);
		return NULL;
	}
	pthread_rwlock_init(&table->lock, NULL);
	root->node = (struct node){ .id = ROOT_NODE,
		.ino = ROOT_NODE,
		.row = &tree_root,
		.object = ENGINE_ROOT_ID,
		.partition = ENGINE_ANY,
		.path = root->path,
		.name = root->path };
	root->nlookup = 1;
	HASH_ADD(hh, table->entries, node.id, sizeof root->node.id, root);
	if (!root->hh.tbl) {
		free(root);
		free(table);
		return NULL;
	}
	return table;
}

void node_table_free(struct node_table *table)
{
	if (!table)
		return;
	struct entry *entry, *next;
	HASH_CLEAR(by_name, table->latest);
	HASH_ITER (hh, table->entries, entry, next) {
		HASH_DEL(table->entries, entry);
		free(entry);
	}
	pthread_rwlock_destroy(&table->lock);
	free(table);
}

static struct entry *find_locked(struct node_table *table, uint64_t id)
{
	struct entry *entry;
	HASH_FIND(hh, table->entries, &id, sizeof id, entry);
	return entry;
}

const struct node *node_find(struct node_table *table, uint64_t id)
{
	pthread_rwlock_rdlock(&table->lock);
	struct entry *entry = find_locked(table, id);
	pthread_rwlock_unlock(&table->lock);
	return entry ? &entry->node : NULL;
}

/* ------------------------------------------------------------------------------------------------ openings */

void node_opened(struct node_table *table, uint64_t id)
{
	pthread_rwlock_wrlock(&table->lock);
	struct entry *entry = find_locked(table, id);
	if (entry)
		entry->opens++;
	pthread_rwlock_unlock(&table->lock);
}

void node_closed(struct node_table *table, uint64_t id)
{
	pthread_rwlock_wrlock(&table->lock);
	struct entry *entry = find_locked(table, id);
	if (entry && --entry->opens == 0) {
		entry->claimed = entry->handed = false;
		entry->backing = 0;
	}
	pthread_rwlock_unlock(&table->lock);
}

bool node_claim(struct node_table *table, uint64_t id)
{
	pthread_rwlock_wrlock(&table->lock);
	struct entry *entry = find_locked(table, id);
	bool first = entry && !entry->claimed;
	if (entry)
		entry->claimed = true;
	pthread_rwlock_unlock(&table->lock);
	return first;
}

void node_unclaim(struct node_table *table, uint64_t id)
{
	pthread_rwlock_wrlock(&table->lock);
	struct entry *entry = find_locked(table, id);
	if (entry)
		entry->claimed = false;
	pthread_rwlock_unlock(&table->lock);
}

bool node_is_claimed(struct node_table *table, uint64_t id)
{
	pthread_rwlock_rdlock(&table->lock);
	struct entry *entry = find_locked(table, id);
	bool claimed = entry && entry->claimed;
	pthread_rwlock_unlock(&table->lock);
	return claimed;
}

void node_set_backing(struct node_table *table, uint64_t id, int32_t backing)
{
	pthread_rwlock_wrlock(&table->lock);
	struct entry *entry = find_locked(table, id);
	if (entry)
		entry->backing = backing;
	pthread_rwlock_unlock(&table->lock);
}

int32_t node_backing(struct node_table *table, uint64_t id)
{
	pthread_rwlock_rdlock(&table->lock);
	struct entry *entry = find_locked(table, id);
	int32_t backing = entry ? entry->backing : 0;
	pthread_rwlock_unlock(&table->lock);
	return backing;
}

/* --------------------------------------------------------------------------------------------------- making */

/* Path of an entry below its object: objects start anew. Returns its length; ret may be NULL to learn that. */
static size_t child_path(
    const struct node *parent, const struct tree_row *row, const char *stem, char *ret, size_t size)
{
	if (row->match == MATCH_OBJECT || row->match == MATCH_DLQ)
		return (size_t)snprintf(ret, size, "%s", "");
	return (size_t)snprintf(ret, size, "%s%s%s", parent->path, *parent->path ? "/" : "", stem);
}

static bool begins_tree(const struct node *parent, const struct tree_row *row)
{
	return parent->row->what == DIR_TX && row->what < DIR_COUNT;
}

uint64_t node_child_tx(const struct node *parent, const struct tree_row *row)
{
	return begins_tree(parent, row) ? parent->object : parent->tx;
}

uint64_t node_child_object(const struct node *parent, const struct tree_row *row)
{
	return begins_tree(parent, row) ? ENGINE_ROOT_ID : parent->object;
}

static uint64_t hash_identity(uint64_t object, uint64_t tx, const char *path, enum framing framing, uint64_t variant)
{
	uint64_t facts[4] = { object, (uint64_t)framing, variant, tx };
	uint64_t hash =
	    XXH3_64bits_withSeed(path, strlen(path), XXH3_64bits(facts, tx != 0 ? sizeof facts : 3 * sizeof facts[0]));
	hash &= ~FRESH_BIT;
	return hash > ROOT_NODE ? hash : hash + 2;
}

uint64_t node_ino(const struct node *parent, const struct tree_row *row, enum framing framing, const char *stem,
    uint64_t object, uint64_t variant)
{
	char path[NODE_PATH_MAX];
	child_path(parent, row, stem, path, sizeof path);
	return hash_identity(object, node_child_tx(parent, row), path, framing, variant);
}

static bool same(const struct node *a, const struct node *b)
{
	return a->row == b->row && a->object == b->object && a->tx == b->tx && a->framing == b->framing &&
	       strcmp(a->path, b->path) == 0;
}

static uint64_t number_of(const char *stem)
{
	return strtoull(stem, NULL, 10);
}

/* A directory of a partition or a priority says which one all below it is of; an object begins anew. */
static uint32_t partition_of(const struct node *parent, const struct tree_row *row, const char *stem)
{
	switch (row->match) {
	case MATCH_PARTITION:
	case MATCH_PRIORITY: return (uint32_t)number_of(stem);
	case MATCH_OBJECT:
	case MATCH_DLQ: return ENGINE_ANY;
	default: return parent->partition;
	}
}

static struct entry *new_entry(const struct node *parent, const struct tree_row *row, enum framing framing,
    const char *stem, uint64_t object, uint64_t variant)
{
	size_t length = child_path(parent, row, stem, NULL, 0);
	struct entry *entry = calloc(1, sizeof *entry + length + 1);
	if (!entry)
		return NULL;
	child_path(parent, row, stem, entry->path, length + 1);
	const char *slash = strrchr(entry->path, '/');
	entry->node = (struct node){
		.row = row,
		.object = object,
		.tx = node_child_tx(parent, row),
		.partition = partition_of(parent, row, stem),
		.offset = row->match == MATCH_OFFSET || row->match == MATCH_ID ? number_of(stem) : 0,
		.variant = variant,
		.framing = framing,
		.path = entry->path,
		.name = slash ? slash + 1 : entry->path,
	};
	return entry;
}

/* The latest node of the name that fresh is made for, if nobody has it; else fresh becomes the latest. */
static struct entry *reuse_locked(struct node_table *table, struct entry *fresh)
{
	struct entry *there;
	HASH_FIND(by_name, table->latest, &fresh->node.ino, sizeof fresh->node.ino, there);
	if (there && !there->handed && same(&there->node, &fresh->node)) {
		there->handed = true;
		return there;
	}
	if (there)
		HASH_DELETE(by_name, table->latest, there);
	HASH_ADD(by_name, table->latest, node.ino, sizeof fresh->node.ino, fresh);
	fresh->handed = true;
	return NULL;
}

static void forget_latest_locked(struct node_table *table, struct entry *entry)
{
	struct entry *there;
	HASH_FIND(by_name, table->latest, &entry->node.ino, sizeof entry->node.ino, there);
	if (there == entry)
		HASH_DELETE(by_name, table->latest, entry);
}

/* Finds the id for a new entry, or the entry that is there already. Call with table->lock held for writing. */
static struct entry *place_locked(struct node_table *table, struct entry *fresh, uint64_t *ret_id)
{
	uint64_t id = fresh->node.ino;
	if (fresh->node.row->flags & TREE_FRESH) {
		struct entry *there = reuse_locked(table, fresh);
		if (!there)
			*ret_id = FRESH_BIT | ++table->next_fresh;
		return there;
	}
	for (;; id++) { /* two nodes with one hash: the second takes the next free id */
		struct entry *there = find_locked(table, id);
		if (!there)
			break;
		if (there->node.ino == fresh->node.ino && same(&there->node, &fresh->node))
			return there;
	}
	*ret_id = id;
	return NULL;
}

const struct node *node_child(struct node_table *table, const struct node *parent, const struct tree_row *row,
    enum framing framing, const char *stem, uint64_t object, uint64_t variant)
{
	struct entry *entry = new_entry(parent, row, framing, stem, object, variant);
	if (!entry)
		return NULL;
	entry->node.ino = hash_identity(object, entry->node.tx, entry->path, framing, variant);
	pthread_rwlock_wrlock(&table->lock);
	uint64_t id = 0;
	struct entry *there = place_locked(table, entry, &id);
	if (there) {
		free(entry);
		entry = there;
	} else {
		entry->node.id = id;
		HASH_ADD(hh, table->entries, node.id, sizeof entry->node.id, entry);
		if (!entry->hh.tbl) {
			forget_latest_locked(table, entry);
			free(entry);
			entry = NULL;
		}
	}
	if (entry)
		entry->nlookup++;
	pthread_rwlock_unlock(&table->lock);
	return entry ? &entry->node : NULL;
}

void node_forget(struct node_table *table, uint64_t id, uint64_t count)
{
	if (id == ROOT_NODE)
		return;
	pthread_rwlock_wrlock(&table->lock);
	struct entry *entry = find_locked(table, id);
	if (entry && entry->nlookup > count) {
		entry->nlookup -= count;
		entry = NULL;
	} else if (entry) {
		HASH_DEL(table->entries, entry);
		forget_latest_locked(table, entry);
	}
	pthread_rwlock_unlock(&table->lock);
	free(entry);
}

static bool leads_to(const struct node *node, uint64_t object)
{
	return node->row->what == FILE_BINDING && node->variant == object;
}

/* Puts an id into its place among the lowest that were seen, of which the highest may have to go. */
static size_t keep_lowest(uint64_t *ids, size_t count, size_t max, uint64_t id)
{
	size_t at = count < max ? count : max - 1;
	if (count == max && ids[at] < id)
		return count;
	for (; at > 0 && ids[at - 1] > id; at--)
		ids[at] = ids[at - 1];
	ids[at] = id;
	return count < max ? count + 1 : max;
}

size_t node_links_to(struct node_table *table, uint64_t object, uint64_t after, uint64_t *ret_ids, size_t max)
{
	struct entry *entry, *next;
	size_t count = 0;
	pthread_rwlock_rdlock(&table->lock);
	HASH_ITER (hh, table->entries, entry, next)
		if (leads_to(&entry->node, object) && entry->node.id > after)
			count = keep_lowest(ret_ids, count, max, entry->node.id);
	pthread_rwlock_unlock(&table->lock);
	return count;
}

enum engine_message_state node_state(const struct node *node)
{
	if (strncmp(node->path, "unacked/", strlen("unacked/")) == 0)
		return ENGINE_UNACKED;
	return strncmp(node->path, "delayed/", strlen("delayed/")) == 0 ? ENGINE_DELAYED : ENGINE_READY;
}

bool node_owner_path(const struct node *node, char *ret_path, size_t size)
{
	const char *rule = node->row->owner;
	const char *path = node->path;
	if (node->row->match == MATCH_ID && node_state(node) != ENGINE_READY) /* a message: the directory it is in */
		return (size_t)snprintf(ret_path, size, "%.*s", (int)strcspn(path, "/"), path) < size;
	if (!rule) /* its own */
		return (size_t)snprintf(ret_path, size, "%s", path) < size;
	if (rule[0] == '/') /* a file at the top of the object */
		return (size_t)snprintf(ret_path, size, "%s", rule + 1) < size;
	int up = strncmp(rule, "../", 3) == 0;
	size_t length = strlen(path);
	for (int level = 0; level <= up; level++) { /* the directory it is in, or the one above */
		while (length > 0 && path[length - 1] != '/')
			length--;
		if (level < up && length > 0)
			length--;
	}
	return (size_t)snprintf(ret_path, size, "%.*s%s", (int)length, path, up ? rule + 3 : rule) < size;
}
