#include "fs/attr.h"

#include <errno.h>
#include <string.h>

#include "fs/class.h"
#include "fs/exchange.h"
#include "fs/find.h"
#include "fs/key.h"
#include "fs/spool.h"

#define KEPT_SECONDS 60.0 /* names and attributes that change through this mount only, whose kernel then knows */
/*
 * Attributes of which no more than a time can be old: directories of objects, on the way to every file, and the nodes that
 * are made anew by each lookup, whose attributes are those of this moment.
 */
#define SHORT_SECONDS 1.0

static void set_ms(struct timespec *time, int64_t ms)
{
	time->tv_sec = ms / 1000;
	time->tv_nsec = ms % 1000 * 1000000;
}

/* A directory that shares the owner of a file may be entered and listed by whoever may read or write that. */
static uint32_t directory_mode(uint32_t mode)
{
	return mode | ((mode | mode << 1) >> 2 & 0111);
}

/* What the engine has, or else what follows from the object's birth. */
static int owner_of(struct fs *fs, struct engine_object *object, const struct node *node,
    const struct engine_stat *stat, struct engine_owner *ret_owner)
{
	char path[NODE_PATH_MAX];
	const struct tree_row *row = node->row;
	if (!node_owner_path(node, path, sizeof path))
		return -ENAMETOOLONG;
	if (*path == '\0') { /* the object's own directory */
		*ret_owner = stat->owner;
		return 0;
	}
	int err = fs->engine->ops->get_owner(object, path, ret_owner);
	if (!err && S_ISDIR(row->mode) && row->owner && row->what != DIR_MESSAGES)
		ret_owner->mode = directory_mode(ret_owner->mode);
	if (!err && S_ISREG(row->mode))
		ret_owner->mode &= 0666; /* a message has that of the directory it stands in */
	if (err == -ENODATA) {
		err = 0;
		*ret_owner = stat->birth;
		ret_owner->mode = row->mode & 07777;
		if (!(row->flags & TREE_UNMASKED))
			ret_owner->mode &= stat->birth.mode;
	}
	if (err == -EIO && node->object == ENGINE_ROOT_ID) { /* the catalog has failed: status/ says so to the owner */
		err = 0;
		*ret_owner = stat->owner;
		ret_owner->mode = row->mode & 0700;
	}
	if (!err && (row->match == MATCH_KEY || row->what == DIR_KEYS))
		key_limit_reading(object, node, stat, ret_owner);
	if (row->match == MATCH_ID) { /* it belongs to who has the queue, or the consumer that holds it */
		ret_owner->uid = stat->owner.uid;
		ret_owner->gid = stat->owner.gid;
	}
	return err;
}

/* How many messages of a queue a directory holds. */
/* What a named consumer holds. */
static int held_by(struct engine_object *consumer, off_t *ret_count)
{
	struct engine_stat stat;
	int err = consumer->engine->ops->stat(consumer, &stat);
	if (!err)
		*ret_count = (off_t)stat.messages;
	return err;
}

static int messages_in(struct engine_object *object, const struct node *node, off_t *ret_count)
{
	struct engine_queue_stat stat;
	struct engine_object *queue;
	uint64_t consumer;
	int err = find_queue(object, &queue, &consumer);
	if (err)
		return err;
	err = object->engine->ops->queue->queue_stat(queue, &stat);
	object->engine->ops->put(queue);
	if (!err && consumer != 0)
		return held_by(object, ret_count);
	if (err)
		return err;
	uint64_t count = stat.ready;
	if (node->row->what == DIR_MESSAGES) {
		const uint64_t counts[ENGINE_STATE_COUNT] = {
			[ENGINE_READY] = stat.ready, [ENGINE_UNACKED] = stat.unacked, [ENGINE_DELAYED] = stat.delayed
		};
		count = counts[node->row->arg];
	}
	if (node->partition != ENGINE_ANY)
		count = stat.ready_by_priority[node->partition];
	*ret_count = (off_t)count;
	return 0;
}

/* The size and time of a directory: the messages in it, its last change. */
static int directory_attr(struct fs *fs, struct engine_object *object, const struct node *node,
    const struct engine_stat *stat, struct stat *st)
{
	struct engine_partition_stat part;
	struct engine_cursor_stat cursor;
	int err = 0;
	switch (node->row->what) {
	case DIR_TOPIC:
	case DIR_GROUP:
	case DIR_MEMBER: st->st_size = (off_t)stat->messages; break;
	case DIR_QUEUE:
	case DIR_DLQ:
	case DIR_PRIORITY:
	case DIR_MESSAGES: err = messages_in(object, node, &st->st_size); break;
	case DIR_PARTITION:
		err = fs->engine->ops->partition_stat(object, node->partition, &part);
		if (!err) {
			st->st_size = (off_t)(part.end - part.earliest);
			set_ms(&st->st_mtim, part.mtime_ms);
		}
		break;
	case DIR_GROUP_PARTITION:
		err = fs->engine->ops->cursor_stat(object, node->partition, &cursor);
		if (!err)
			st->st_size = (off_t)(cursor.end - cursor.committed);
		break;
	default: break;
	}
	return err;
}

int attr_get(struct fs *fs, const struct node *node, struct stat *ret_st)
{
	struct engine_object *object;
	struct engine_stat stat;
	struct engine_owner owner = { 0 };
	struct stat st = { .st_ino = node->ino, .st_nlink = 1, .st_blksize = 4096 };
	int err = fs->engine->ops->get(fs->engine, node->object, &object);
	if (err)
		return err == -EIDRM ? -ENOENT : err;
	err = fs->engine->ops->stat(object, &stat);
	if (!err)
		err = owner_of(fs, object, node, &stat, &owner);
	if (err)
		goto out;
	st.st_mode = (node->row->mode & S_IFMT) | owner.mode;
	st.st_uid = owner.uid;
	st.st_gid = owner.gid;
	/* A directory that the kernel keeps must not change behind it: tar would say that it changed under its hands. */
	bool fixed = S_ISDIR(node->row->mode) && attr_timeout(node) > 0 && node->object != ENGINE_ROOT_ID;
	set_ms(&st.st_ctim, fixed ? stat.ctime_ms : stat.mtime_ms);
	set_ms(&st.st_mtim, fixed ? stat.ctime_ms : stat.mtime_ms);
	if (S_ISDIR(st.st_mode))
		err = directory_attr(fs, object, node, &stat, &st);
	else if (node->row->what == FILE_BINDING)
		err = exchange_link_attr(fs, node, &st);
	else if (S_ISLNK(st.st_mode))
		st.st_size = (off_t)(1 + strlen(node->name) + strlen(name_suffix(node->framing)));
	else if (node->row->class->attr)
		err = node->row->class->attr(fs, node, &st);
	st.st_atim = st.st_mtim;
	if (!err)
		*ret_st = st;
out:
	fs->engine->ops->put(object);
	return err == -EIDRM ? -ENOENT : err;
}

static int set_owner(struct fs *fs, const struct node *node, const struct stat *attr, int to_set)
{
	char path[NODE_PATH_MAX];
	struct stat now;
	struct engine_object *object;
	int err = attr_get(fs, node, &now);
	if (err)
		return err;
	struct engine_owner owner = { now.st_uid, now.st_gid, now.st_mode & 07777 };
	if (to_set & FUSE_SET_ATTR_UID)
		owner.uid = attr->st_uid;
	if (to_set & FUSE_SET_ATTR_GID)
		owner.gid = attr->st_gid;
	if (to_set & FUSE_SET_ATTR_MODE)
		owner.mode = attr->st_mode & 07777;
	bool shared_file = S_ISDIR(node->row->mode) && node->row->owner && strcmp(node->row->owner, "/in") == 0;
	owner.mode &= shared_file ? 0666 : S_ISDIR(node->row->mode) ? 01777 : 0777;
	if (!node_owner_path(node, path, sizeof path))
		return -ENAMETOOLONG;
	err = fs->engine->ops->get(fs->engine, node->object, &object);
	if (err)
		return err;
	err = fs->engine->ops->set_owner(object, path, &owner);
	fs->engine->ops->put(object);
	return err;
}

/* touch: renews a lease; a time to come delays a message, one that is past makes it ready. */
static int touch_message(struct fs *fs, const struct node *node, const struct stat *attr, int to_set)
{
	struct engine_object *object, *queue;
	uint64_t consumer;
	int64_t until_ms = attr->st_mtim.tv_sec * 1000 + attr->st_mtim.tv_nsec / 1000000;
	if (!(to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)))
		return 0;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		until_ms = clock_wall_ms();
	int err = fs->engine->ops->get(fs->engine, node->object, &object);
	if (err)
		return err;
	err = find_queue(object, &queue, &consumer);
	fs->engine->ops->put(object);
	if (err)
		return err;
	err = fs->engine->ops->queue->message_touch(queue, node->offset, node_state(node), until_ms);
	fs->engine->ops->put(queue);
	return err;
}

/*
 * A message belongs to its queue. chown is taken and changes nothing, for chown -R comes here before it comes to the queue;
 * so is a mode that it has anyway.
 */
static int set_message(
    struct fs *fs, const struct node *node, const struct stat *attr, int to_set, const char **ret_why)
{
	struct stat now;
	int err = to_set & FUSE_SET_ATTR_MODE ? attr_get(fs, node, &now) : 0;
	if (err)
		return err;
	if ((to_set & FUSE_SET_ATTR_MODE) && (attr->st_mode & 07777) != (now.st_mode & 07777)) {
		*ret_why = "a message has the mode of the directory it is in";
		return -EPERM;
	}
	return touch_message(fs, node, attr, to_set);
}

int attr_set(struct fs *fs, const struct node *node, const struct stat *attr, int to_set, const char **ret_why)
{
	*ret_why = NULL;
	if (node->row->what == FILE_SPOOL)
		return spool_setattr(fs, node->object, node->tx, node->name, attr, to_set);
	if (to_set & FUSE_SET_ATTR_SIZE) {
		*ret_why = "it cannot be cut: messages go by retention and by `echo all > purge`";
		return -EPERM;
	}
	if (node->row->match == MATCH_ID)
		return set_message(fs, node, attr, to_set, ret_why);
	if (node->tx != 0 && to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) {
		*ret_why = "in a transaction owner and mode are those of the file outside of it";
		return -EPERM;
	}
	if (to_set & (FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		return set_owner(fs, node, attr, to_set);
	return 0; /* times are those of messages: touch is accepted and changes nothing */
}

double attr_timeout(const struct node *node)
{
	if (node->row->flags & TREE_FIXED)
		return KEPT_SECONDS;
	if (node->row->flags & TREE_FRESH)
		return SHORT_SECONDS;
	/* A message stays as it is while it is there: by name it is looked up each time, and who has opened it need not ask again. */
	if (node->row->match == MATCH_ID)
		return SHORT_SECONDS;
	switch (node->row->what) {
	case DIR_ROOT:
	case DIR_TOPICS:
	case DIR_GROUPS:
	case DIR_MEMBERS:
	case DIR_QUEUES:
	case DIR_EXCHANGES:
	case DIR_TXS:
	case DIR_CONSUMERS: return SHORT_SECONDS;
	default: return 0;
	}
}

double entry_timeout(const struct node *node)
{
	if (node->row->flags & TREE_FRESH)
		return 0;
	switch (node->row->match) {
	case MATCH_OFFSET:
	case MATCH_ID:
	case MATCH_KEY:
	case MATCH_BINDING: /* its name may lead elsewhere, which makes it another node */
	case MATCH_SPOOL: return 0;
	default: return node->row->class == &class_log ? 0 : KEPT_SECONDS;
	}
}
