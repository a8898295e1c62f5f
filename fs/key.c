/*
 * key - keys/KEY: producing with a key, and in a compacted topic the value of the key.
 *
 * A file that is opened for writing is a channel (channel.c) in every topic. In a compacted one a key that has a value is
 * also there to be looked up, listed, read and removed: what is read is the payload of its latest message, exactly, as in
 * at/OFFSET; rm produces a tombstone.
 */
#include "fs/key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "fs/class.h"
#include "fs/find.h"
#include "fs/render.h"
#include "fs/text.h"

#define TRIES 10 /* a value may be followed by another, and compacted away, before it is read */

static struct engine_span key_of(const char *name)
{
	return (struct engine_span){ name, strlen(name) };
}

/* The message that is the value of a key now. */
static int read_value(struct engine_object *topic, const char *name, struct engine_scratch *scratch,
    struct engine_key *ret_key, struct engine_view *ret_view)
{
	const struct engine_ops *ops = topic->engine->ops;
	int err = -ENOENT;
	for (int i = 0; key_is_compacted(topic) && i < TRIES; i++) {
		err = ops->key_find(topic, key_of(name), ret_key);
		if (err)
			return err;
		err = ops->partition_read(topic, ret_key->partition, ret_key->offset, 1, scratch, ret_view);
		if (err && err != -ESTALE && err != -ENODATA)
			return err;
		if (!err && ret_view->offset == ret_key->offset)
			return 0;
	}
	return err ? err : -ENOENT;
}

static int with_value(
    struct fs *fs, const struct node *node, int (*use)(const struct engine_view *view, void *ctx), void *ctx)
{
	struct engine_scratch scratch = { 0 };
	struct engine_object *topic;
	struct engine_view view;
	struct engine_key key;
	int err = fs->engine->ops->get(fs->engine, node->object, &topic);
	if (err)
		return err;
	err = read_value(topic, node->name, &scratch, &key, &view);
	if (!err)
		err = use(&view, ctx);
	engine_scratch_release(&scratch);
	fs->engine->ops->put(topic);
	return err;
}

static int render_value(const struct engine_view *view, void *ctx)
{
	return render_view(FRAME_RAW, view, "", 0, 1, ctx);
}

static int print_value(struct fs *fs, const struct node *node, struct buffer *out)
{
	return with_value(fs, node, render_value, out);
}

static int sync_topic(struct handle *handle, struct engine_done *done)
{
	const struct engine_ops *ops = handle->fs->engine->ops;
	struct engine_producer *producer;
	struct engine_object *topic;
	int err = ops->get(handle->fs->engine, handle->object, &topic);
	if (err)
		return err;
	err = ops->producer_open(topic, ENGINE_ANY, (struct engine_span){ NULL, 0 }, &producer);
	if (!err) {
		err = ops->producer_sync(producer, done);
		ops->producer_close(producer);
	}
	ops->put(topic);
	return err;
}

static const struct text_calls value_calls = { .generate = print_value, .sync = sync_topic };
static const struct file_class class_value = { TEXT_CLASS };

static int key_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	int err =
	    (flags & O_ACCMODE) == O_RDONLY ? text_open(fs, node, flags, cred, &value_calls, ret_handle) : -ENOENT;
	if (!err)
		(*ret_handle)->class = &class_value;
	if (err != -ENOENT)
		return err;
	err = class_channel.open(fs, node, flags, cred, ret_handle); /* which reads as empty */
	if (!err)
		(*ret_handle)->class = &class_channel;
	return err;
}

/* Only of who did not learn that it is open: it has a class of its own by then. */
static void key_release(struct handle *handle)
{
	handle->class->release(handle);
}

static int fill_attr(const struct engine_view *view, void *ctx)
{
	struct stat *st = ctx;
	int64_t ts_ms = view->batch.props ? view->batch.props[0].ts_ms : view->batch.ts_ms;
	st->st_size = (off_t)view->batch.lengths[0];
	st->st_blocks = (st->st_size + 511) / 512;
	st->st_mtim.tv_sec = ts_ms / 1000;
	st->st_mtim.tv_nsec = ts_ms % 1000 * 1000000;
	return 0;
}

static int key_attr(struct fs *fs, const struct node *node, struct stat *st)
{
	int err = with_value(fs, node, fill_attr, st);
	return err == -ENOENT ? class_channel.attr(fs, node, st) : err;
}

const struct file_class class_key = { .open = key_open, .release = key_release, .attr = key_attr };

int key_remove(struct fs *fs, const struct node *parent, const char *name, const struct engine_cred *cred)
{
	const struct engine_ops *ops = fs->engine->ops;
	struct engine_props props = ENGINE_PROPS_INIT;
	struct engine_batch batch = { .data = "\n", .len = 1, .count = 1, .props = &props, .cred = *cred, .ts_ms = -1 };
	struct engine_producer *producer;
	struct engine_object *topic;
	struct engine_key key;
	int err = ops->get(fs->engine, parent->object, &topic);
	if (err)
		return err;
	props.tombstone = true;
	err = key_is_compacted(topic) ? ops->key_find(topic, key_of(name), &key) : -ENOENT;
	if (!err)
		err = ops->producer_open(topic, ENGINE_ANY, key_of(name), &producer);
	if (!err) {
		err = ops->producer_send(producer, &batch, NULL);
		ops->producer_close(producer);
	}
	ops->put(topic);
	return err;
}

bool key_is_compacted(struct engine_object *object)
{
	const struct engine_ops *ops = object->engine->ops;
	struct engine_identity identity;
	char value[ENGINE_VALUE_MAX];
	return !ops->identity(object, &identity) && identity.kind == ENGINE_TOPIC &&
	       !ops->get_setting(object, engine_setting_find(ENGINE_TOPIC, "cleanup.policy"), value) &&
	       strcmp(value, "delete") != 0;
}

/*
 * Values may be read by who may read the log of their partition, and keys be listed by who may read that of partition 0. The
 * owner is that of `in`; if the log has another, its bits for the owner do not count.
 */
void key_limit_reading(
    struct engine_object *topic, const struct node *node, const struct engine_stat *stat, struct engine_owner *owner)
{
	const struct engine_ops *ops = topic->engine->ops;
	struct engine_owner log;
	struct engine_key key = { .partition = 0 };
	char path[32];
	if (!key_is_compacted(topic))
		return;
	if (node->row->match == MATCH_KEY && ops->key_find(topic, key_of(node->name), &key))
		return; /* there is nothing to read */
	snprintf(path, sizeof path, "%u/log", key.partition);
	int err = ops->get_owner(topic, path, &log);
	if (err == -ENODATA) {
		log = stat->birth;
		log.mode = 0444 & stat->birth.mode;
	} else if (err) {
		log = (struct engine_owner){ 0 };
	}
	uint32_t read = log.mode & 0444;
	if (log.uid != owner->uid)
		read &= ~0400u;
	if (log.gid != owner->gid)
		read &= ~0040u;
	owner->mode = (owner->mode & ~0444u) | read;
}
