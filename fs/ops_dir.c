/*
 * ops_dir - the operations on names: lookup, listing, mkdir, rmdir, unlink, rename, create, and attributes.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/attr.h"
#include "fs/class.h"
#include "fs/events.h"
#include "fs/exchange.h"
#include "fs/find.h"
#include "fs/key.h"
#include "fs/name.h"
#include "fs/ops.h"
#include "fs/quota.h"
#include "fs/reply.h"
#include "fs/spool.h"

static const struct node *request_node(fuse_req_t req, fuse_ino_t ino)
{
	return node_find(request_fs(req)->nodes, ino);
}

/* Makes the node of what was found, and the kernel's entry of it; the reference is the kernel's if the answer arrives. */
static int make_entry(
    struct fs *fs, const struct node *parent, const struct found *found, struct fuse_entry_param *ret_entry)
{
	struct fuse_entry_param entry = { .generation = 1 };
	const struct node *node =
	    node_child(fs->nodes, parent, found->row, found->framing, found->stem, found->object, found->variant);
	if (!node)
		return -ENOMEM;
	int err = attr_get(fs, node, &entry.attr);
	if (err) {
		node_forget(fs->nodes, node->id, 1);
		return err;
	}
	entry.ino = node->id;
	entry.attr_timeout = attr_timeout(node);
	entry.entry_timeout = entry_timeout(node);
	*ret_entry = entry;
	return 0;
}

static void reply_entry(fuse_req_t req, const struct fuse_entry_param *entry)
{
	struct fs *fs = request_fs(req);
	uint64_t id = entry->ino;
	if (fuse_reply_entry(req, entry) == -ENOENT) /* interrupted: the kernel did not take the reference */
		node_forget(fs->nodes, id, 1);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent_ino, const char *name)
{
	struct fs *fs = request_fs(req);
	const struct node *parent = request_node(req, parent_ino);
	struct found found;
	struct fuse_entry_param entry;
	int err = find_name(fs, parent, name, request_cred(req).pid, &found);
	if (!err)
		err = make_entry(fs, parent, &found, &entry);
	if (err == -ENOENT || err == -ESTALE)
		reply_quiet(req, err == -ESTALE ? ENOENT : err);
	else if (err)
		reply_node_error(req, err, parent, name, err == -ENAMETOOLONG ? "a name has at most 255 bytes" : NULL);
	else
		reply_entry(req, &entry);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	node_forget(request_fs(req)->nodes, ino, nlookup);
	fuse_reply_none(req);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;
	const struct node *node = request_node(req, ino);
	(void)fi;
	int err = attr_get(request_fs(req), node, &st);
	if (err == -ENOENT && node->row->what == FILE_PLAIN)
		err = -EIDRM; /* only who has it open can still ask for it */
	if (err)
		reply_quiet(req, err);
	else
		fuse_reply_attr(req, &st, attr_timeout(node));
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct fs *fs = request_fs(req);
	const struct node *node = request_node(req, ino);
	struct stat st;
	const char *why;
	(void)fi;
	int err = attr_set(fs, node, attr, to_set, &why);
	if (!err)
		err = attr_get(fs, node, &st);
	if (err)
		reply_node_error(req, err, node, NULL, why);
	else
		fuse_reply_attr(req, &st, attr_timeout(node));
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	const struct node *node = request_node(req, ino);
	char target[EXCHANGE_LINK_MAX];
	int err = 0;
	if (node->row->what == FILE_BINDING)
		err = exchange_read_link(request_fs(req), node, target);
	else
		snprintf(target, sizeof target, ".%s%s", node->name, name_suffix(node->framing));
	if (err)
		reply_quiet(req, err);
	else
		fuse_reply_readlink(req, target);
}

/* ----------------------------------------------------------------------------------------- making, removing */

static int make_object(struct fs *fs, const struct node *parent, enum engine_kind kind, const char *name, mode_t mode,
    const struct engine_cred *cred)
{
	struct engine_object *parent_object, *object;
	const struct engine_owner owner = { cred->uid, cred->gid, mode & 01777 };
	int err = name_check(name, ENGINE_NAME_MAX);
	if (err)
		return engine_explain(err,
		    err == -ENAMETOOLONG ? "a name has at most %u bytes"
					 : "not a name: 1 to %u bytes of UTF-8, no control characters, no leading "
					   "dot, not *~, *.swp or 4913",
		    ENGINE_NAME_MAX);
	err = fs->engine->ops->get(fs->engine, parent->object, &parent_object);
	if (err)
		return err;
	err = fs->engine->ops->create(fs->engine, parent_object, kind, name, &owner, &object);
	if (!err)
		fs->engine->ops->put(object);
	fs->engine->ops->put(parent_object);
	return err;
}

/* mkdir topics/T/N: one partition more, whose number must be the next. */
static int make_partition(struct fs *fs, const struct node *parent, const char *name)
{
	const struct engine_setting *setting = engine_setting_find(ENGINE_TOPIC, "partitions");
	struct engine_object *topic;
	struct engine_stat stat;
	char value[ENGINE_VALUE_MAX];
	int err = fs->engine->ops->get(fs->engine, parent->object, &topic);
	if (err)
		return err;
	err = fs->engine->ops->stat(topic, &stat);
	snprintf(value, sizeof value, "%" PRIu32, stat.partitions);
	if (!err && strcmp(name, value) != 0)
		err = engine_explain(-EINVAL, "partitions are numbered in turn: the next one is %s", value);
	if (!err) {
		snprintf(value, sizeof value, "%" PRIu32, stat.partitions + 1);
		err = fs->engine->ops->set_setting(topic, setting, value);
	}
	fs->engine->ops->put(topic);
	return err;
}

static int make_directory(
    struct fs *fs, const struct node *parent, const char *name, mode_t mode, const struct engine_cred *cred)
{
	if (parent->tx != 0)
		return engine_explain(-EPERM, "no directory can be made in a transaction");
	switch (parent->row->what) {
	case DIR_TXS: return make_object(fs, parent, ENGINE_TX, name, mode & 0700, cred); /* nobody else commits it */
	case DIR_TOPICS: return make_object(fs, parent, ENGINE_TOPIC, name, mode, cred);
	case DIR_GROUPS: return make_object(fs, parent, ENGINE_GROUP, name, mode, cred);
	case DIR_QUEUES: return make_object(fs, parent, ENGINE_QUEUE, name, mode, cred);
	case DIR_CONSUMERS: return make_object(fs, parent, ENGINE_CONSUMER, name, mode, cred);
	case DIR_MEMBERS: return make_object(fs, parent, ENGINE_MEMBER, name, mode, cred);
	case DIR_EXCHANGES: return make_object(fs, parent, ENGINE_EXCHANGE, name, mode, cred);
	case DIR_BINDINGS: return exchange_add_pattern(fs, parent, name);
	case DIR_TOPIC:
		if (*name && name[strspn(name, "0123456789")] == '\0')
			return make_partition(fs, parent, name);
		break;
	default: break;
	}
	return engine_explain(-EPERM,
	    "no directory can be made here: mkdir makes topics in topics/, queues in queues/, "
	    "groups in groups/, members in members/, consumers in consumers/, partitions in a topic, "
	    "exchanges in exchanges/, patterns in bindings/ and transactions in tx/");
}

/* Calls on an object found by name; removing and renaming share the way there. */
static int find_entry_object(
    struct fs *fs, const struct node *parent, const char *name, uint32_t pid, struct engine_object **ret_object)
{
	struct found found;
	int err = find_name(fs, parent, name, pid, &found);
	if (err)
		return err;
	if (parent->tx != 0)
		return engine_explain(
		    -EPERM, "in a transaction nothing is removed or renamed: rmdir of tx/NAME rolls it back");
	if (found.row->match != MATCH_OBJECT)
		return engine_explain(-EPERM, "it is part of the interface and cannot be removed or renamed");
	return fs->engine->ops->get(fs->engine, found.object, ret_object);
}

static int remove_object(struct fs *fs, const struct node *parent, const char *name, uint32_t pid)
{
	struct engine_object *object;
	int err = find_entry_object(fs, parent, name, pid, &object);
	if (err)
		return err;
	err = fs->engine->ops->remove(object);
	if (err == -ENOTEMPTY && *engine_reason() == '\0')
		engine_explain(err, "it holds messages: `echo all > purge` empties it first%s",
		    parent->row->what == DIR_QUEUES ? ", and `rm unacked/*` takes what is leased" : "");
	char reason[256];
	snprintf(reason, sizeof reason, "%s", engine_reason());
	fs->engine->ops->put(object);
	return err ? engine_explain(err, "%s", reason) : 0;
}

/* The kernel's entry of what was just made. */
static int made_entry(
    struct fs *fs, const struct node *parent, const char *name, uint32_t pid, struct fuse_entry_param *ret_entry)
{
	struct found found;
	int err = FAILPOINT("made_before_entry");
	if (!err)
		err = find_name(fs, parent, name, pid, &found);
	return err ? err : make_entry(fs, parent, &found, ret_entry);
}

/* What was made and cannot be told of, which is err, goes again, unless it has gone; but not a partition. Returns err. */
static int unmake(struct fs *fs, const struct node *parent, const char *name, uint32_t pid, int err)
{
	char reason[256];
	snprintf(reason, sizeof reason, "%s", engine_reason());
	if (err == -ENOENT)
		return err;
	if (parent->row->what == DIR_PATTERN)
		(void)exchange_unbind(fs, parent, name);
	else if (parent->row->what == DIR_BINDINGS)
		(void)exchange_remove_pattern(fs, parent, name);
	else if (parent->row->what != DIR_TOPIC)
		(void)remove_object(fs, parent, name, pid);
	return engine_explain(err, "%s", reason);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent_ino, const char *name, mode_t mode)
{
	struct fs *fs = request_fs(req);
	const struct node *parent = request_node(req, parent_ino);
	const struct engine_cred cred = request_cred(req);
	struct fuse_entry_param entry;
	int err = strlen(name) > ENGINE_KEY_MAX ? -ENAMETOOLONG : make_directory(fs, parent, name, mode, &cred);
	if (!err) {
		err = made_entry(fs, parent, name, cred.pid, &entry);
		if (err)
			err = unmake(fs, parent, name, cred.pid, err);
	}
	if (err) {
		reply_node_error(req, err, parent, name, NULL);
		return;
	}
	char path[NODE_PATH_MAX + ENGINE_KEY_MAX];
	snprintf(path, sizeof path, "%s/%s", parent->path, name);
	events_add(fs, parent->object, path, "created");
	CRASHPOINT("mkdir_before_answer");
	reply_entry(req, &entry);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent_ino, const char *name)
{
	struct fs *fs = request_fs(req);
	const struct node *parent = request_node(req, parent_ino);
	int err = parent->row->what == DIR_BINDINGS ? exchange_remove_pattern(fs, parent, name)
						    : remove_object(fs, parent, name, request_cred(req).pid);
	if (err) {
		reply_node_error(req, err, parent, name, NULL);
		return;
	}
	char path[NODE_PATH_MAX + ENGINE_KEY_MAX];
	snprintf(path, sizeof path, "%s/%s", parent->path, name);
	events_add(fs, parent->object, path, "removed");
	CRASHPOINT("rmdir_before_answer");
	reply_quiet(req, 0);
}

/* rm of a message discards it, or acknowledges what is leased. */
static int remove_message(struct fs *fs, const struct node *parent, const char *name, uint32_t pid)
{
	struct found found;
	struct engine_object *queue;
	int err = find_name(fs, parent, name, pid, &found);
	if (err)
		return err;
	err = find_queue_by_id(fs, parent->object, &queue);
	if (err)
		return err;
	err = fs->engine->ops->queue->message_remove(
	    queue, strtoull(found.stem, NULL, 10), (enum engine_message_state)parent->row->arg);
	fs->engine->ops->put(queue);
	return err;
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent_ino, const char *name)
{
	struct fs *fs = request_fs(req);
	const struct node *parent = request_node(req, parent_ino);
	const struct engine_cred cred = request_cred(req);
	int err = -EPERM;
	if (parent->row->what == DIR_PUT)
		err = spool_unlink(fs->spool, parent->object, parent->tx, name);
	else if (parent->row->what == DIR_MESSAGES)
		err = remove_message(fs, parent, name, request_cred(req).pid);
	else if (parent->row->what == DIR_PATTERN)
		err = exchange_unbind(fs, parent, name);
	else if (parent->row->what == DIR_KEYS && strlen(name) <= ENGINE_KEY_MAX)
		err = key_remove(fs, parent, name, &cred);
	CRASHPOINT("unlink_before_answer");
	if (err)
		reply_node_error(
		    req, err, parent, name, err == -EPERM ? "it is part of the interface and cannot be removed" : NULL);
	else
		reply_quiet(req, 0);
}

static int rename_object(struct fs *fs, const struct node *parent, const char *name, const char *new_name, uint32_t pid,
    struct engine_identity *ret_identity)
{
	struct engine_object *object;
	int err = find_entry_object(fs, parent, name, pid, &object);
	if (err)
		return err;
	err = name_check(new_name, ENGINE_NAME_MAX);
	if (err)
		engine_explain(err, "not a name for an object");
	else
		err = fs->engine->ops->rename(object, new_name);
	if (!err)
		fs->engine->ops->identity(object, ret_identity);
	fs->engine->ops->put(object);
	return err;
}

/* In put/ a name may begin with a dot, and then waits; what editors leave behind is no message there either. */
static int put_name_check(const char *name)
{
	return name_check(name + strspn(name, "."), ENGINE_NAME_MAX);
}

/* Where mv takes a message: ready/ of a queue or a priority, or unacked/ of a consumer that claims it. */
static int place_of(struct fs *fs, const struct node *directory, struct engine_place *ret_place)
{
	struct engine_place place = { .state = (enum engine_message_state)directory->row->arg,
		.priority = directory->partition };
	if (place.state == ENGINE_DELAYED)
		return engine_explain(-EPERM, "a message is delayed by touch -d, not by mv");
	int err = find_queue_by_id(fs, directory->object, &place.queue);
	if (err)
		return err;
	if (place.state == ENGINE_UNACKED)
		err = fs->engine->ops->get(fs->engine, directory->object, &place.consumer);
	if (err)
		fs->engine->ops->put(place.queue);
	else
		*ret_place = place;
	return err;
}

/* mv of a message: nack, reject, claim, retry, another priority, another queue; its name is its id and stays. */
static int move_message(struct fs *fs, const struct node *parent, const char *name, const struct node *new_parent,
    const char *new_name, const struct engine_cred *cred)
{
	struct found found, there;
	struct engine_place place;
	struct engine_object *queue;
	int err = find_name(fs, parent, name, cred->pid, &found);
	if (err)
		return err;
	uint64_t id = strtoull(found.stem, NULL, 10);
	bool same = new_name[strspn(new_name, "0123456789")] == '\0' && strtoull(new_name, NULL, 10) == id;
	if (find_name(fs, new_parent, new_name, cred->pid, &there) == 0 && !(same && parent->id == new_parent->id))
		return -EEXIST;
	if (!same || found.framing != FRAME_LINE)
		return engine_explain(-EPERM, "a message keeps its id: its name cannot change");
	err = place_of(fs, new_parent, &place);
	if (err)
		return err;
	place.uid = cred->uid;
	err = find_queue_by_id(fs, parent->object, &queue);
	if (!err) {
		err = fs->engine->ops->queue->message_move(
		    queue, id, (enum engine_message_state)parent->row->arg, &place);
		fs->engine->ops->put(queue);
	}
	fs->engine->ops->put(place.consumer);
	fs->engine->ops->put(place.queue);
	return err;
}

static const char *cannot_rename(enum tree_kind what)
{
	switch (what) {
	case DIR_BINDINGS: return "a pattern cannot be renamed: make another, bind there, and remove this one";
	case DIR_PATTERN: return "a binding is renamed under its pattern only: make one there, and remove this one";
	case DIR_KEYS: return "a key cannot be renamed: produce with the other, and remove this one";
	default: return "an object is renamed within its directory only";
	}
}

/* *ret_identity is set if an object was renamed. */
static int rename_entry(struct fs *fs, const struct node *parent, const char *name, const struct node *new_parent,
    const char *new_name, unsigned flags, const struct engine_cred *cred, struct engine_identity *ret_identity)
{
	if (flags & ~(unsigned)RENAME_NOREPLACE)
		return engine_explain(-EINVAL, "names cannot be exchanged");
	if (strlen(new_name) > ENGINE_KEY_MAX)
		return -ENAMETOOLONG;
	enum tree_kind what = parent->row->what;
	if (what == DIR_PUT && new_parent->row->what == DIR_PUT) {
		if (parent->object != new_parent->object || parent->tx != new_parent->tx)
			return -EXDEV; /* mv then copies, which produces there */
		int err = key_check(new_name);
		if (!err)
			err = put_name_check(new_name);
		return err ? err
			   : spool_rename(fs, parent->object, parent->tx, name, new_name, flags & RENAME_NOREPLACE);
	}
	if (what == DIR_MESSAGES && new_parent->row->what == DIR_MESSAGES)
		return move_message(fs, parent, name, new_parent, new_name, cred);
	if (what == DIR_PATTERN && parent->id == new_parent->id)
		return exchange_rename(fs, parent, name, new_name, !(flags & RENAME_NOREPLACE));
	if (parent->id != new_parent->id ||
	    !(what == DIR_TOPICS || what == DIR_GROUPS || what == DIR_QUEUES || what == DIR_CONSUMERS ||
		what == DIR_MEMBERS || what == DIR_EXCHANGES || what == DIR_TXS))
		return engine_explain(-EPERM, cannot_rename(what));
	return rename_object(fs, parent, name, new_name, cred->pid, ret_identity);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent_ino, const char *name, fuse_ino_t new_parent_ino,
    const char *new_name, unsigned flags)
{
	struct fs *fs = request_fs(req);
	const struct node *parent = request_node(req, parent_ino);
	const struct node *new_parent = request_node(req, new_parent_ino);
	struct engine_identity renamed = { 0 };
	struct engine_cred cred = request_cred(req);
	int err = rename_entry(fs, parent, name, new_parent, new_name, flags, &cred, &renamed);
	CRASHPOINT("rename_before_answer");
	if (err == -EXDEV) {
		reply_quiet(req, err);
		return;
	}
	if (err) {
		reply_node_error(req, err, parent, name, NULL);
		return;
	}
	char path[NODE_PATH_MAX + ENGINE_KEY_MAX], shown[2 * ENGINE_KEY_MAX];
	if (parent->row->what == DIR_MESSAGES) { /* no event: there may be thousands a second */
		reply_quiet(req, 0);
		return;
	}
	snprintf(path, sizeof path, "%s/%s", parent->path, new_name);
	name_escape(name, strlen(name), shown, sizeof shown);
	events_add(fs, parent->object, path, "renamed from %s", shown);
	if (renamed.id != 0)
		exchange_renamed(fs, renamed.id);
	reply_quiet(req, 0);
}

/* ------------------------------------------------------------------------------------------------ creating */

/* Opens the node of an entry as a class would and answers both at once. made: the file in put/ is of this request. */
static void reply_create(fuse_req_t req, const struct fuse_entry_param *entry, struct fuse_file_info *fi, bool made)
{
	struct fs *fs = request_fs(req);
	const struct engine_cred cred = request_cred(req);
	const struct node *node = node_find(fs->nodes, entry->ino);
	const struct file_class *class = node->row->class;
	struct handle *handle;
	int err = class->open(fs, node, (unsigned)fi->flags, &cred, &handle);
	if (err) {
		reply_node_error(req, err, node, NULL, NULL);
		if (made)
			spool_unlink(fs->spool, node->object, node->tx, node->name);
		node_forget(fs->nodes, entry->ino, 1);
		return;
	}
	fi->fh = handle->index;
	fi->direct_io = !class->pass || !class->pass(handle, req, fi);
	if (fuse_reply_create(req, entry, fi) == -ENOENT) {
		class->release(handle);
		node_forget(fs->nodes, entry->ino, 1);
	}
}

static void op_create(fuse_req_t req, fuse_ino_t parent_ino, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct fs *fs = request_fs(req);
	const struct node *parent = request_node(req, parent_ino);
	const struct engine_cred cred = request_cred(req);
	struct found found = { .row = find_creatable(parent), .framing = FRAME_LINE, .object = parent->object };
	struct fuse_entry_param entry;
	if (!found.row) {
		reply_node_error(req, -EPERM, parent, name, "no file can be created here");
		return;
	}
	int err = key_check(name);
	if (!err && found.row->what == FILE_SPOOL)
		err = put_name_check(name);
	if (err) {
		reply_node_error(req, err, parent, name,
		    "not a name: 1 to 255 bytes of UTF-8 without control characters; in put/ not *~, *.swp or 4913");
		return;
	}
	snprintf(found.stem, sizeof found.stem, "%s", name);
	err = quota_look(fs->quota, cred.uid, QUOTA_HANDLES); /* else there would be a file that nobody has open */
	if (!err && found.row->what == FILE_SPOOL)
		err = spool_create(fs, parent->object, parent->tx, name, mode, &cred);
	bool made = !err && found.row->what == FILE_SPOOL;
	if (err == -EEXIST && !(fi->flags & O_EXCL))
		err = 0;
	if (!err)
		err = FAILPOINT("create_before_entry");
	if (!err)
		err = make_entry(fs, parent, &found, &entry);
	if (err) {
		reply_node_error(req, err, parent, name, NULL);
		if (made)
			spool_unlink(fs->spool, parent->object, parent->tx, name);
	} else
		reply_create(req, &entry, fi, made);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	(void)mode;
	(void)rdev;
	reply_node_error(req, -EPERM, request_node(req, parent), name, "no special file can be made here");
}

/* ln -s: binds. */
static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent_ino, const char *name)
{
	struct fs *fs = request_fs(req);
	const struct node *parent = request_node(req, parent_ino);
	const uint32_t pid = request_cred(req).pid;
	struct fuse_entry_param entry;
	if (parent->row->what != DIR_PATTERN) {
		reply_node_error(
		    req, -EPERM, parent, name, "a link can be made in a pattern of an exchange only: it binds");
		return;
	}
	int err = exchange_bind(req, parent, name, target);
	if (!err) {
		err = made_entry(fs, parent, name, pid, &entry);
		if (err)
			err = unmake(fs, parent, name, pid, err);
	}
	if (err) {
		reply_node_error(req, err, parent, name, NULL);
		return;
	}
	char path[NODE_PATH_MAX + ENGINE_KEY_MAX];
	snprintf(path, sizeof path, "%s/%s", parent->path, name);
	events_add(fs, parent->object, path, "bound");
	CRASHPOINT("bind_before_answer");
	reply_entry(req, &entry);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	(void)ino;
	reply_node_error(req, -EPERM, request_node(req, parent), name, "no link can be made here");
}

void ops_dir_fill(struct fuse_lowlevel_ops *ops)
{
	ops->lookup = op_lookup;
	ops->forget = op_forget;
	ops->getattr = op_getattr;
	ops->setattr = op_setattr;
	ops->readlink = op_readlink;
	ops->mkdir = op_mkdir;
	ops->rmdir = op_rmdir;
	ops->unlink = op_unlink;
	ops->rename = op_rename;
	ops->create = op_create;
	ops->mknod = op_mknod;
	ops->symlink = op_symlink;
	ops->link = op_link;
}
