#include "fs/exchange.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "fs/attr.h"
#include "fs/find.h"
#include "fs/name.h"
#include "fs/reply.h"
#include "fs/text.h"

/* What can be bound, and where it stands. */
static const struct {
	const char *directory;
	enum engine_kind kind;
	enum tree_kind what;
	const char *in; /* whose permission to write is that to produce */
} places[] = { { "topics", ENGINE_TOPIC, DIR_TOPIC, "in" }, { "queues", ENGINE_QUEUE, DIR_QUEUE, "in" },
	{ "exchanges", ENGINE_EXCHANGE, DIR_EXCHANGE, "in.json" } };
#define PLACES (sizeof places / sizeof *places)
#define LINKS_AT_ONCE 64u /* whose text the kernel is told to forget: no memory is asked for, so none can be missing */

static int get_exchange(struct fs *fs, const struct node *node, struct engine_object **ret_exchange)
{
	int err = fs->engine->ops->get(fs->engine, node->object, ret_exchange);
	return err == -EIDRM ? -ENOENT : err;
}

/* ------------------------------------------------------------------------------------------------ patterns */

int exchange_add_pattern(struct fs *fs, const struct node *parent, const char *pattern)
{
	struct engine_object *exchange;
	int err = key_check(pattern);
	if (err)
		return engine_explain(
		    err, "not a pattern: 1 to %u bytes of UTF-8 without control characters", ENGINE_PATTERN_MAX);
	err = get_exchange(fs, parent, &exchange);
	if (err)
		return err;
	err = fs->engine->ops->exchange->pattern_add(exchange, pattern);
	fs->engine->ops->put(exchange);
	return err;
}

int exchange_remove_pattern(struct fs *fs, const struct node *parent, const char *pattern)
{
	struct engine_object *exchange;
	int err = get_exchange(fs, parent, &exchange);
	if (err)
		return err;
	err = fs->engine->ops->exchange->pattern_remove(exchange, pattern);
	if (err == -ENOTEMPTY)
		engine_explain(err, "there are bindings under it");
	fs->engine->ops->put(exchange);
	return err;
}

/* --------------------------------------------------------------------------------------- what a link leads to */

/* Appends the parts of a path to clean, without ".", "..", and doubled slashes. ENAMETOOLONG. */
static int add_parts(char *clean, size_t size, const char *path)
{
	while (*path) {
		size_t len = strcspn(path, "/"), used = strlen(clean);
		if (len == 2 && memcmp(path, "..", 2) == 0)
			*(strrchr(clean, '/') ? strrchr(clean, '/') : clean) = '\0';
		else if (len > 0 && !(len == 1 && *path == '.')) {
			if (used + len + 2 > size)
				return -ENAMETOOLONG;
			snprintf(clean + used, size - used, "/%.*s", (int)len, path);
		}
		path += len + (path[len] == '/');
	}
	return 0;
}

/* The path below the mount that a link's text leads to, as "queues/jobs". */
static int below_mount(struct fs *fs, const struct node *parent, const char *target, char ret_path[PATH_MAX])
{
	char clean[PATH_MAX] = "", mount[PATH_MAX] = "", here[1024];
	int err = add_parts(mount, sizeof mount, fs->mountpoint);
	if (!err && *target != '/') {
		reply_path(fs, 0, parent->object, parent->path, FRAME_LINE, here, sizeof here);
		strcpy(clean, mount);
		err = add_parts(clean, sizeof clean, here);
	}
	if (!err)
		err = add_parts(clean, sizeof clean, target);
	if (err)
		return err;
	size_t len = strlen(mount);
	if (strncmp(clean, mount, len) != 0 || (clean[len] != '/' && clean[len] != '\0'))
		return engine_explain(-EINVAL, "%s is not below this mount", target);
	strcpy(ret_path, clean + len + (clean[len] == '/'));
	return 0;
}

/* What stands at a path: *ret_place is its row in places. */
static int find_target(struct fs *fs, const char *path, struct engine_object **ret_object, size_t *ret_place)
{
	const char *name = strchr(path, '/');
	struct engine_object *root;
	size_t place = 0;
	while (name && place < PLACES &&
	       (strlen(places[place].directory) != (size_t)(name - path) ||
		   strncmp(places[place].directory, path, (size_t)(name - path)) != 0))
		place++;
	if (!name || place == PLACES)
		return engine_explain(-EINVAL, "a binding leads to a topic, queue or exchange, and %s is none", path);
	bool deeper = strchr(name + 1, '/') != NULL;
	if (deeper && places[place].kind != ENGINE_EXCHANGE)
		return engine_explain(-EINVAL, "a binding leads to a topic, queue or exchange, and %s is none", path);
	/* Below an exchange is where a path ends that was meant to be as seen from here. */
	int err = deeper ? -ENOENT : fs->engine->ops->get(fs->engine, ENGINE_ROOT_ID, &root);
	if (!err) {
		err = fs->engine->ops->lookup(fs->engine, root, places[place].kind, name + 1, ret_object);
		fs->engine->ops->put(root);
	}
	*ret_place = place;
	if (err == -ENOENT)
		return engine_explain(err,
		    "there is no topic, queue or exchange %s: write it as seen from the link "
		    "(../../../../queues/NAME) or as an absolute path",
		    path);
	return err;
}

/* ------------------------------------------------------------------------------------------------- permission */

static bool in_group(fuse_req_t req, gid_t gid)
{
	gid_t groups[256];
	if (fuse_req_ctx(req)->gid == gid)
		return true;
	int count = fuse_req_getgroups(req, 256, groups);
	for (int i = 0; i < count && i < 256; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

/* May they, and, if somebody else gave them their open file, he? Of him no more is known than uid and gid. */
static bool may_write(fuse_req_t req, const struct engine_cred *opener, const struct stat *st)
{
	const struct engine_cred *creds[] = { opener,
		&(const struct engine_cred){ fuse_req_ctx(req)->uid, fuse_req_ctx(req)->gid, 0 } };
	for (size_t i = 0; i < 2; i++) {
		bool in = creds[i]->gid == st->st_gid || (creds[i]->uid == creds[1]->uid && in_group(req, st->st_gid));
		mode_t bit = creds[i]->uid == st->st_uid ? 0200 : in ? 0020 : 0002;
		if (creds[i]->uid != 0 && !(st->st_mode & bit))
			return false;
	}
	return true;
}

/* May they write to an entry of a directory of this kind? Also if the kernel cannot know that it is about this one. */
static int check_write(
    fuse_req_t req, const struct engine_cred *opener, enum tree_kind what, const char *entry, uint64_t object)
{
	enum framing framing;
	char stem[ENGINE_KEY_MAX + 1];
	struct stat st;
	const struct tree_row *row = tree_find_row(what, entry, &framing, stem);
	const struct node node = {
		.row = row, .object = object, .partition = ENGINE_ANY, .framing = framing, .path = stem, .name = stem
	};
	int err = attr_get(request_fs(req), &node, &st);
	return err ? err : may_write(req, opener, &st) ? 0 : -EACCES;
}

/* Binding sends messages there for ever after, so it takes the right to produce there. */
static int check_permission(
    fuse_req_t req, const struct engine_cred *opener, struct engine_object *target, size_t place)
{
	struct engine_identity identity;
	int err = request_fs(req)->engine->ops->identity(target, &identity);
	if (!err)
		err = check_write(req, opener, places[place].what, places[place].in, identity.id);
	if (err == -EACCES)
		engine_explain(
		    err, "you may not write to %s/%s/%s", places[place].directory, identity.name, places[place].in);
	return err;
}

int exchange_may_name(fuse_req_t req, const struct engine_cred *opener, const char *path)
{
	struct engine_object *object;
	size_t place = 0;
	int err = find_target(request_fs(req), path, &object, &place);
	if (err == -ENOENT) {
		err = check_write(req, opener, DIR_ROOT, places[place].directory, ENGINE_ROOT_ID);
		return err == -EACCES ? engine_explain(err, "there is no %s, nor may you make it", path) : err;
	}
	if (err)
		return err;
	err = check_permission(req, opener, object, place);
	request_fs(req)->engine->ops->put(object);
	return err;
}

/* ----------------------------------------------------------------------------------------------------- links */

static int bind_to(fuse_req_t req, const struct node *parent, const char *name, struct engine_object *target)
{
	struct fs *fs = request_fs(req);
	struct engine_object *exchange;
	int err = get_exchange(fs, parent, &exchange);
	if (err)
		return err;
	err = fs->engine->ops->exchange->bind(exchange, parent->name, name, target);
	fs->engine->ops->put(exchange);
	return err;
}

int exchange_bind(fuse_req_t req, const struct node *parent, const char *name, const char *target)
{
	struct fs *fs = request_fs(req);
	struct engine_object *object;
	char path[PATH_MAX];
	size_t place = 0;
	int err = name_check(name, ENGINE_NAME_MAX);
	if (err)
		return engine_explain(err, "not a name for a binding");
	err = below_mount(fs, parent, target, path);
	if (!err)
		err = find_target(fs, path, &object, &place);
	if (err)
		return err;
	const struct engine_cred cred = request_cred(req);
	err = check_permission(req, &cred, object, place);
	if (!err)
		err = FAILPOINT("bind_after_check");
	if (!err)
		err = bind_to(req, parent, name, object);
	fs->engine->ops->put(object);
	return err;
}

int exchange_unbind(struct fs *fs, const struct node *parent, const char *name)
{
	struct engine_object *exchange;
	int err = get_exchange(fs, parent, &exchange);
	if (err)
		return err;
	err = fs->engine->ops->exchange->unbind(exchange, parent->name, name);
	fs->engine->ops->put(exchange);
	return err;
}

int exchange_rename(struct fs *fs, const struct node *parent, const char *name, const char *new_name, bool replace)
{
	struct engine_object *exchange;
	int err = name_check(new_name, ENGINE_NAME_MAX);
	if (err)
		return engine_explain(err, "not a name for a binding");
	err = get_exchange(fs, parent, &exchange);
	if (err)
		return err;
	err = fs->engine->ops->exchange->rename(exchange, parent->name, name, new_name, replace);
	fs->engine->ops->put(exchange);
	return err;
}

void exchange_renamed(struct fs *fs, uint64_t object)
{
	uint64_t ids[LINKS_AT_ONCE], after = 0;
	for (size_t count; (count = node_links_to(fs->nodes, object, after, ids, LINKS_AT_ONCE)) > 0;) {
		for (size_t i = 0; i < count; i++)
			fuse_lowlevel_notify_inval_inode(fs->session, ids[i], 0, 0);
		after = ids[count - 1];
	}
}

int exchange_read_link(struct fs *fs, const struct node *node, char ret_target[EXCHANGE_LINK_MAX])
{
	struct engine_identity target;
	int err = find_identity(fs, node->variant, &target);
	if (err)
		return err == -EIDRM ? -ENOENT : err;
	for (size_t i = 0; i < PLACES; i++)
		if (places[i].kind == target.kind)
			snprintf(ret_target, EXCHANGE_LINK_MAX, "../../../../%s/%s", places[i].directory, target.name);
	return 0;
}

int exchange_link_attr(struct fs *fs, const struct node *node, struct stat *st)
{
	char target[EXCHANGE_LINK_MAX];
	int err = exchange_read_link(fs, node, target);
	st->st_mode = S_IFLNK | 0777;
	st->st_size = err ? 0 : (off_t)strlen(target);
	return err;
}

/* ------------------------------------------------------------------------------------------------------ type */

static const char *const type_names[] = { [ENGINE_TOPIC_EXCHANGE] = "topic",
	[ENGINE_DIRECT] = "direct",
	[ENGINE_FANOUT] = "fanout",
	[ENGINE_HEADERS] = "headers" };
#define TYPES (sizeof type_names / sizeof *type_names)

static int print_type(struct fs *fs, const struct node *node, struct buffer *out)
{
	struct engine_object *exchange;
	enum engine_exchange_type type;
	int err = get_exchange(fs, node, &exchange);
	if (err)
		return err;
	err = fs->engine->ops->exchange->get_type(exchange, &type);
	fs->engine->ops->put(exchange);
	if (!err)
		buffer_printf(out, "%s\n", type_names[type]);
	return err;
}

static int type_line(struct handle *handle, const char *line, size_t len, char reason[TEXT_REASON_MAX])
{
	struct fs *fs = handle->fs;
	struct engine_object *exchange;
	size_t type = 0;
	while (len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\t'))
		len--;
	while (type < TYPES && (strlen(type_names[type]) != len || memcmp(type_names[type], line, len) != 0))
		type++;
	if (type == TYPES) {
		snprintf(reason, TEXT_REASON_MAX, "an exchange is of type topic, direct, fanout or headers");
		return -EINVAL;
	}
	int err = fs->engine->ops->get(fs->engine, handle->object, &exchange);
	if (err)
		return err == -ENOENT ? -EIDRM : err;
	err = fs->engine->ops->exchange->set_type(exchange, (enum engine_exchange_type)type);
	snprintf(reason, TEXT_REASON_MAX, "%s", engine_reason());
	fs->engine->ops->put(exchange);
	return err;
}

static const struct text_calls type_calls = { .generate = print_type, .line = type_line, .whole = true };

static int type_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	return text_open(fs, node, flags, cred, &type_calls, ret_handle);
}

static int type_attr(struct fs *fs, const struct node *node, struct stat *st)
{
	struct buffer out = BUFFER_INIT;
	int err = print_type(fs, node, &out);
	st->st_size = (off_t)out.len;
	st->st_blocks = 1;
	buffer_release(&out);
	return err;
}

const struct file_class class_type = { .open = type_open, TEXT_CLASS, .attr = type_attr };
