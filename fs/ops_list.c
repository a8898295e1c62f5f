/*
 * ops_list - the operations that list directories.
 *
 * A listing goes through the rows of the table that stand in the directory, and for each through the names it matches. Where
 * it goes on is a number that the kernel keeps, so it needs no snapshot and, but for messages, no state.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/class.h"
#include "fs/find.h"
#include "fs/name.h"
#include "fs/ops.h"
#include "fs/reply.h"
#include "fs/spool.h"

static const struct node *request_node(fuse_req_t req, fuse_ino_t ino)
{
	return node_find(request_fs(req)->nodes, ino);
}

/*
 * Where a listing goes on, as the kernel keeps it: (row + FIRST_ROW) in the upper bits, and how far in what the row
 * matches in the lower: the id of the last object, the next partition. So a listing needs no state and no snapshot.
 */
#define ROW_SHIFT 48
#define FIRST_ROW 3u
#define ITEM_MASK ((1ull << ROW_SHIFT) - 1)

struct listing {
	fuse_req_t req;
	struct fs *fs;
	const struct node *node;
	const struct tree_row *row;
	char *buf;
	size_t size, used;
	bool full;
	struct message_walk *walk; /* of a directory of messages, or of keys */
};

/*
 * An open directory of messages, or of bindings. Where the engine's list goes on does not fit into the number that the kernel keeps,
 * so it is kept here, with the item it belongs to; a seek starts over and goes forward.
 */
struct message_walk {
	struct handle handle;
	pthread_mutex_t lock;
	uint64_t cursor[2], item;           /* lock */
	char after[ENGINE_PATTERN_MAX + 1]; /* the name that came last; lock */
	char key[ENGINE_KEY_MAX];           /* of keys/: the last one; lock */
	size_t key_len;                     /* lock */
};

static bool list_add(struct listing *listing, const char *name, mode_t mode, uint64_t ino, uint64_t next)
{
	struct stat st = { .st_ino = ino, .st_mode = mode };
	size_t need = fuse_add_direntry(
	    listing->req, listing->buf + listing->used, listing->size - listing->used, name, &st, (off_t)next);
	if (need > listing->size - listing->used) {
		listing->full = true;
		return false;
	}
	listing->used += need;
	return true;
}

static bool list_named(
    struct listing *listing, const char *name, const char *stem, uint64_t object, uint64_t variant, uint64_t item)
{
	const struct tree_row *row = listing->row;
	uint64_t ino = node_ino(listing->node, row, FRAME_LINE, stem, object, variant);
	return list_add(listing, name, row->mode, ino, ((uint64_t)(row - tree_rows) + FIRST_ROW) << ROW_SHIFT | item);
}

/* A file that has framings only, without the plain name, is listed with the first of them: in.json. */
static bool list_literal(struct listing *listing, const struct found *found, const char *name)
{
	const struct tree_row *row = listing->row;
	uint64_t ino = node_ino(listing->node, row, found->framing, found->stem, found->object, found->variant);
	return list_add(listing, name, row->mode, ino, ((uint64_t)(row - tree_rows) + FIRST_ROW) << ROW_SHIFT | 1);
}

static bool list_item(struct listing *listing, const char *name, uint64_t object, uint64_t variant, uint64_t item)
{
	return list_named(listing, name, name, object, variant, item);
}

static bool list_object(void *ctx, const struct engine_dirent *entry)
{
	return list_item(ctx, entry->name, entry->id, 0, entry->id);
}

static bool list_spool(void *ctx, const char *name, uint64_t next)
{
	struct listing *listing = ctx;
	return list_item(listing, name, listing->node->object, 0, next);
}

static void list_partitions(struct listing *listing, struct engine_object *object, uint64_t item)
{
	struct engine_stat stat;
	char name[16];
	if (listing->fs->engine->ops->stat(object, &stat))
		return;
	for (uint64_t p = item; p < stat.partitions; p++) {
		snprintf(name, sizeof name, "%" PRIu64, p);
		if (!list_item(listing, name, listing->node->object, 0, p + 1))
			return;
	}
}

/* The first message there is from an offset on. */
static uint64_t find_first(struct engine_object *topic, uint32_t partition, uint64_t offset)
{
	struct engine_scratch scratch = { 0 };
	struct engine_view view;
	int err = topic->engine->ops->partition_read(topic, partition, offset, 1, &scratch, &view);
	engine_scratch_release(&scratch);
	return err ? offset : view.offset;
}

/* The first and the last message; all others are found too. */
static void list_offsets(struct listing *listing, struct engine_object *object, uint64_t item)
{
	struct engine_partition_stat stat;
	char name[24];
	if (listing->fs->engine->ops->partition_stat(object, listing->node->partition, &stat) ||
	    stat.earliest == stat.end)
		return;
	uint64_t first = stat.has_gaps ? find_first(object, listing->node->partition, stat.earliest) : stat.earliest;
	for (uint64_t i = item; i < (stat.end - first > 1 ? 2 : 1); i++) {
		snprintf(name, sizeof name, "%" PRIu64, i == 0 ? first : stat.end - 1);
		if (!list_item(listing, name, listing->node->object, 0, i + 1))
			return;
	}
}

static void list_settings(struct listing *listing, uint64_t item)
{
	enum engine_kind kind = (enum engine_kind)listing->node->row->arg;
	for (uint64_t i = item; engine_settings[i].name; i++)
		if (engine_settings[i].kind == kind &&
		    !list_item(listing, engine_settings[i].name, listing->node->object, 0, i + 1))
			return;
}

static void list_priorities(struct listing *listing, uint64_t item)
{
	char name[8];
	struct found found;
	for (uint64_t p = item; p < ENGINE_PRIORITIES; p++) {
		snprintf(name, sizeof name, "%" PRIu64, p);
		if (find_name(listing->fs, listing->node, name, 0, &found) == 0 &&
		    !list_item(listing, name, listing->node->object, 0, p + 1))
			return;
	}
}

struct message_step {
	struct listing *listing;
	uint64_t skip; /* messages to pass over first */
};

static bool list_message(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct message_step *step = ctx;
	struct message_walk *walk = step->listing->walk;
	char name[24], stem[24];
	snprintf(name, sizeof name, "%020" PRIu64, stat->id); /* sorts by id, and is found without zeros too */
	snprintf(stem, sizeof stem, "%" PRIu64, stat->id);
	if (step->skip > 0)
		step->skip--;
	else if (!list_named(step->listing, name, stem, step->listing->node->object, 0, walk->item + 1))
		return false;
	walk->item++;
	walk->cursor[0] = next[0];
	walk->cursor[1] = next[1];
	return true;
}

static void list_messages(struct listing *listing, struct engine_object *object, uint64_t item)
{
	struct fs *fs = listing->fs;
	struct message_walk *walk = listing->walk;
	struct message_step step = { listing, 0 };
	struct engine_object *queue;
	uint64_t consumer, from[2];
	if (!walk || find_queue(object, &queue, &consumer))
		return;
	pthread_mutex_lock(&walk->lock);
	if (item != walk->item) {
		walk->cursor[0] = walk->cursor[1] = walk->item = 0;
		step.skip = item;
	}
	memcpy(from, walk->cursor, sizeof from);
	fs->engine->ops->queue->message_list(queue, (enum engine_message_state)listing->node->row->arg,
	    listing->node->partition, consumer ? object : NULL, from, list_message, &step);
	pthread_mutex_unlock(&walk->lock);
	fs->engine->ops->put(queue);
}

static enum framing first_framing(const struct tree_row *row)
{
	enum framing framing = FRAME_LINE;
	while (row->framings != 0 && !(row->framings & FRAMING_BIT(framing)))
		framing++;
	return framing;
}

static bool list_binding(void *ctx, const char *name, uint64_t target)
{
	struct message_step *step = ctx;
	struct message_walk *walk = step->listing->walk;
	if (step->skip > 0)
		step->skip--;
	else if (!list_named(step->listing, name, name, step->listing->node->object, target, walk->item + 1))
		return false;
	walk->item++;
	snprintf(walk->after, sizeof walk->after, "%s", name);
	return true;
}

static void list_bindings(struct listing *listing, struct engine_object *exchange, uint64_t item)
{
	struct message_step step = { listing, 0 };
	struct message_walk *walk = listing->walk;
	char after[ENGINE_PATTERN_MAX + 1];
	if (!walk)
		return;
	pthread_mutex_lock(&walk->lock);
	if (item != walk->item) {
		walk->item = 0;
		walk->after[0] = '\0';
		step.skip = item;
	}
	strcpy(after, walk->after);
	exchange->engine->ops->exchange->list(exchange,
	    listing->row->match == MATCH_BINDING ? listing->node->name : NULL, *after ? after : NULL, list_binding,
	    &step);
	pthread_mutex_unlock(&walk->lock);
}

static bool list_key(void *ctx, const struct engine_key *key)
{
	struct message_step *step = ctx;
	struct message_walk *walk = step->listing->walk;
	char name[ENGINE_KEY_MAX + 1];
	memcpy(name, key->key.ptr, key->key.len);
	name[key->key.len] = '\0';
	if (step->skip > 0)
		step->skip--;
	else if (strlen(name) == key->key.len && key_check(name) == 0 && /* else no file can have it as its name */
		 !list_item(step->listing, name, step->listing->node->object, 0, walk->item + 1))
		return false;
	walk->item++;
	memcpy(walk->key, name, key->key.len);
	walk->key_len = key->key.len;
	return true;
}

/* Keys in order: a listing goes on above the last one. */
static void list_keys(struct listing *listing, struct engine_object *object, uint64_t item)
{
	struct message_walk *walk = listing->walk;
	struct message_step step = { listing, 0 };
	char last[ENGINE_KEY_MAX];
	if (!walk)
		return;
	pthread_mutex_lock(&walk->lock);
	if (item != walk->item) {
		walk->item = 0;
		step.skip = item;
	}
	memcpy(last, walk->key, walk->key_len);
	struct engine_span after = { walk->item > 0 ? last : NULL, walk->key_len };
	listing->fs->engine->ops->key_list(object, after, list_key, &step);
	pthread_mutex_unlock(&walk->lock);
}

/* In a transaction: those for which, or below which, something is staged. */
static void list_staged(struct listing *listing, struct engine_object *parent, uint64_t item)
{
	const struct engine_ops *ops = parent->engine->ops;
	struct engine_object *tx;
	if (ops->get(parent->engine, listing->node->tx, &tx))
		return;
	ops->tx->list(tx, parent, (enum engine_kind)listing->row->arg, item, list_object, listing);
	ops->put(tx);
}

/* The names that a row matches, from an item on. */
static void list_row(struct listing *listing, uint64_t item)
{
	struct fs *fs = listing->fs;
	const struct node *node = listing->node;
	struct engine_object *object;
	struct found found;
	char name[64];
	if (listing->row->match == MATCH_PRIORITY)
		list_priorities(listing, item);
	if (listing->row->match == MATCH_LITERAL || listing->row->match == MATCH_DLQ) {
		snprintf(name, sizeof name, "%s%s", listing->row->name, name_suffix(first_framing(listing->row)));
		if (item == 0 && find_name(fs, node, name, 0, &found) == 0)
			list_literal(listing, &found, name);
		return;
	}
	if (listing->row->match == MATCH_SETTING)
		list_settings(listing, item);
	if (listing->row->match == MATCH_SPOOL)
		spool_list(fs->spool, node->object, node->tx, item, list_spool, listing);
	if (fs->engine->ops->get(fs->engine, node->object, &object))
		return;
	if (listing->row->match == MATCH_OBJECT && node->tx != 0)
		list_staged(listing, object, item);
	else if (listing->row->match == MATCH_OBJECT)
		fs->engine->ops->list(
		    fs->engine, object, (enum engine_kind)listing->row->arg, item, list_object, listing);
	if (listing->row->match == MATCH_PARTITION)
		list_partitions(listing, object, item);
	if (listing->row->match == MATCH_OFFSET)
		list_offsets(listing, object, item);
	if (listing->row->match == MATCH_PATTERN || listing->row->match == MATCH_BINDING)
		list_bindings(listing, object, item);
	if (listing->row->match == MATCH_ID)
		list_messages(listing, object, item);
	if (listing->row->match == MATCH_KEY && node->tx == 0)
		list_keys(listing, object, item);
	fs->engine->ops->put(object);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct listing listing = { .req = req, .fs = request_fs(req), .node = request_node(req, ino), .size = size };
	uint64_t row = (uint64_t)offset >> ROW_SHIFT, item = (uint64_t)offset & ITEM_MASK;
	listing.walk = (struct message_walk *)handle_get(listing.fs->handles, fi->fh);
	listing.buf = malloc(size);
	if (!listing.buf) {
		reply_quiet(req, ENOMEM);
		return;
	}
	if (row == 0)
		row = 1, list_add(&listing, ".", S_IFDIR, listing.node->ino, 1ull << ROW_SHIFT);
	if (offset <= (off_t)(1ull << ROW_SHIFT) && !listing.full)
		row = FIRST_ROW, list_add(&listing, "..", S_IFDIR, 1, (uint64_t)FIRST_ROW << ROW_SHIFT);
	for (; !listing.full && tree_rows[row - FIRST_ROW].name; row++, item = 0) {
		listing.row = &tree_rows[row - FIRST_ROW];
		if (tree_stands_in(listing.row, listing.node->row->what) && !(listing.row->flags & TREE_HIDDEN) &&
		    (listing.node->tx == 0 || listing.row->flags & TREE_STAGED))
			list_row(&listing, item);
	}
	fuse_reply_buf(req, listing.buf, listing.used);
	free(listing.buf);
}

static void walk_release(struct handle *handle)
{
	struct message_walk *walk = (struct message_walk *)handle;
	handle_release(handle);
	pthread_mutex_destroy(&walk->lock);
	free(walk);
}

static const struct file_class class_walk = { .release = walk_release };

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = request_fs(req);
	const struct node *node = request_node(req, ino);
	const struct engine_cred cred = request_cred(req);
	struct message_walk *walk = NULL;
	fi->fh = UINT64_MAX;
	if (node->row->what == DIR_MESSAGES || node->row->what == DIR_BINDINGS || node->row->what == DIR_PATTERN ||
	    node->row->what == DIR_KEYS) {
		walk = calloc(1, sizeof *walk);
		int err = walk ? handle_init(&walk->handle, fs, node, 0, &cred) : -ENOMEM;
		if (err) {
			free(walk);
			reply_node_error(req, err, node, NULL, NULL);
			return;
		}
		walk->handle.class = &class_walk;
		pthread_mutex_init(&walk->lock, NULL);
		fi->fh = walk->handle.index;
	}
	if (fuse_reply_open(req, fi) == -ENOENT && walk)
		walk_release(&walk->handle);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct handle *walk = handle_get(request_fs(req)->handles, fi->fh);
	(void)ino;
	if (walk)
		walk_release(walk);
	reply_quiet(req, 0);
}

void ops_list_fill(struct fuse_lowlevel_ops *ops)
{
	ops->opendir = op_opendir;
	ops->readdir = op_readdir;
	ops->releasedir = op_releasedir;
}
