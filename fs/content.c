/*
 * content - what the files that only report have in them: README, info, status/health, errors, version, at/OFFSET.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "fs/content.h"
#include "fs/render.h"
#include "fs/ring.h"
#include "fs/text.h"
#include "fs/version.h"

/* ------------------------------------------------------------------------------------------------- README */

static const char readme[] =
    "mqfs: message topics as files. man 7 mqfs has all of it.\n"
    "\n"
    "  mkdir topics/orders                      create a topic\n"
    "  echo hello >> topics/orders/in           produce: one message per line\n"
    "  mkdir topics/orders/groups/billing       create a consumer group\n"
    "  cat topics/orders/groups/billing/out     read from the group's stored offset\n"
    "  echo all > topics/orders/groups/billing/ack   commit what was read\n"
    "  echo earliest > topics/orders/groups/billing/offset   replay\n"
    "\n"
    "  in in.json in.nul    line, JSON object or NUL-ended; put/FILE: a whole file is one message\n"
    "  keys/KEY             produce with a key; 0/in 1/in: into a partition\n"
    "  0/log 0/at/17        every retained message; one by its offset (at/17.json with metadata)\n"
    "  next wait out stream of a group: one; one, waiting; all there is; all that comes\n"
    "  ack                  all, or PARTITION:OFFSET; offset: PARTITION OFFSET, earliest, latest, @UNIXTIME\n"
    "  config/SETTING       read or write; config/topics/ and config/groups/ hold the defaults of new ones\n"
    "  info                 the state in \"name value\" lines; status/health status/metrics status/events\n"
    "  purge                echo all > purge empties a topic; then rmdir deletes it\n"
    "\n"
    "What went wrong stands in status/errors. Walking over this tree (grep -r, find, tar) consumes nothing.\n";

static int print_readme(struct fs *fs, const struct node *node, struct buffer *out)
{
	(void)fs;
	(void)node;
	buffer_add_text(out, readme);
	return 0;
}

static const struct text_calls readme_calls = { .generate = print_readme };

static int readme_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	return text_open(fs, node, flags, cred, &readme_calls, ret_handle);
}

static int readme_attr(struct fs *fs, const struct node *node, struct stat *st)
{
	(void)fs;
	(void)node;
	st->st_size = sizeof readme - 1;
	st->st_blocks = (st->st_size + 511) / 512;
	return 0;
}

const struct file_class class_readme = { .open = readme_open, TEXT_CLASS, .attr = readme_attr };

/* --------------------------------------------------------------------------------------------------- info */

static int print_topic(struct engine_object *topic, const struct engine_stat *stat, struct buffer *out)
{
	const struct engine_ops *ops = topic->engine->ops;
	buffer_printf(out, "messages %" PRIu64 "\nbytes %" PRIu64 "\npartitions %" PRIu32 "\n", stat->messages,
	    stat->bytes, stat->partitions);
	buffer_printf(out, "producers %" PRIu32 "\npublished %" PRIu64 "\npublished_bytes %" PRIu64 "\n",
	    stat->producers, stat->published_total, stat->published_bytes_total);
	for (uint32_t p = 0; p < stat->partitions; p++) {
		struct engine_partition_stat part;
		int err = ops->partition_stat(topic, p, &part);
		if (err)
			return err;
		buffer_printf(out,
		    "partition.%" PRIu32 ".earliest %" PRIu64 "\npartition.%" PRIu32 ".end %" PRIu64
		    "\npartition.%" PRIu32 ".synced %" PRIu64 "\n",
		    p, part.earliest, p, part.end, p, part.synced);
	}
	return 0;
}

static int print_group(struct engine_object *group, const struct engine_stat *stat, struct buffer *out)
{
	const struct engine_ops *ops = group->engine->ops;
	buffer_printf(
	    out, "lag %" PRIu64 "\nlost %" PRIu64 "\nreaders %" PRIu32 "\n", stat->messages, stat->lost, stat->readers);
	buffer_printf(out, "delivered %" PRIu64 "\nacked %" PRIu64 "\n", stat->delivered_total, stat->acked_total);
	for (uint32_t p = 0; p < stat->partitions; p++) {
		struct engine_cursor_stat cursor;
		int err = ops->cursor_stat(group, p, &cursor);
		if (err)
			return err;
		buffer_printf(out,
		    "partition.%" PRIu32 ".offset %" PRIu64 "\npartition.%" PRIu32 ".given %" PRIu64
		    "\npartition.%" PRIu32 ".lag %" PRIu64 "\n",
		    p, cursor.committed, p, cursor.given, p, cursor.end - cursor.committed);
	}
	return 0;
}

static int print_info(struct fs *fs, const struct node *node, struct buffer *out)
{
	const struct engine_ops *ops = fs->engine->ops;
	struct engine_object *object;
	struct engine_identity identity;
	struct engine_stat stat;
	int err = ops->get(fs->engine, node->object, &object);
	if (err)
		return err;
	err = ops->identity(object, &identity);
	if (!err)
		err = ops->stat(object, &stat);
	if (!err)
		err = identity.kind == ENGINE_TOPIC ? print_topic(object, &stat, out) : print_group(object, &stat, out);
	ops->put(object);
	return err;
}

static const struct text_calls info_calls = { .generate = print_info };

static int info_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	return text_open(fs, node, flags, cred, &info_calls, ret_handle);
}

const struct file_class class_info = { .open = info_open, TEXT_CLASS };

/* ------------------------------------------------------------------------------------------------- status */

static int print_health(struct fs *fs, const struct node *node, struct buffer *out)
{
	char text[4096];
	(void)node;
	size_t len = fs->engine->ops->health(fs->engine, text, sizeof text);
	buffer_add(out, text, len);
	return 0;
}

static const struct text_calls health_calls = { .generate = print_health };

static int health_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	return text_open(fs, node, flags, cred, &health_calls, ret_handle);
}

const struct file_class class_health = { .open = health_open, TEXT_CLASS };

static int print_errors(struct fs *fs, const struct node *node, struct buffer *out)
{
	uint64_t next, lost;
	(void)node;
	int count = ring_read(fs->errors, 0, 0, out, &next, &lost);
	return count < 0 ? count : 0;
}

static const struct text_calls errors_calls = { .generate = print_errors };

static int errors_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	return text_open(fs, node, flags, cred, &errors_calls, ret_handle);
}

const struct file_class class_errors = { .open = errors_open, TEXT_CLASS };

static int print_version(struct fs *fs, const struct node *node, struct buffer *out)
{
	struct utsname kernel;
	(void)node;
	buffer_printf(out, "mqfs %s\nlibfuse %s\n", MQFS_VERSION, fuse_pkgversion());
	if (uname(&kernel) == 0)
		buffer_printf(out, "kernel %s\n", kernel.release);
	buffer_printf(out, "engine %s\nthreads %u\n", fs->engine->ops->name, fs->threads);
	buffer_add_text(out, "producing direct\n"); /* every write goes through the daemon */
	return 0;
}

static const struct text_calls version_calls = { .generate = print_version };

static int version_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	return text_open(fs, node, flags, cred, &version_calls, ret_handle);
}

const struct file_class class_version = { .open = version_open, TEXT_CLASS };

/* ---------------------------------------------------------------------------------------------- at/OFFSET */

int content_message(
    struct fs *fs, const struct node *node, struct engine_scratch *scratch, struct engine_view *ret_view)
{
	struct engine_object *topic;
	int err = fs->engine->ops->get(fs->engine, node->object, &topic);
	if (err)
		return err;
	err = fs->engine->ops->partition_read(topic, node->partition, node->offset, 1, scratch, ret_view);
	fs->engine->ops->put(topic);
	return err == -ENODATA || err == -ESTALE ? -ENOENT : err;
}

static int print_message(struct fs *fs, const struct node *node, struct buffer *out)
{
	struct engine_scratch scratch = { 0 };
	struct engine_view view;
	struct engine_object *topic;
	struct engine_identity identity;
	int err = content_message(fs, node, &scratch, &view);
	if (err)
		goto out;
	err = fs->engine->ops->get(fs->engine, node->object, &topic);
	if (err)
		goto out;
	err = fs->engine->ops->identity(topic, &identity);
	fs->engine->ops->put(topic);
	if (!err)
		err =
		    render_view(node->framing == FRAME_JSON ? FRAME_JSON : FRAME_RAW, &view, identity.name, 0, 1, out);
out:
	engine_scratch_release(&scratch);
	return err;
}

static const struct text_calls message_calls = { .generate = print_message };

static int message_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	return text_open(fs, node, flags, cred, &message_calls, ret_handle);
}

static int message_attr(struct fs *fs, const struct node *node, struct stat *st)
{
	struct engine_scratch scratch = { 0 };
	struct engine_view view;
	int err = content_message(fs, node, &scratch, &view);
	if (!err) {
		int64_t ts_ms = view.batch.props ? view.batch.props[0].ts_ms : view.batch.ts_ms;
		if (node->framing != FRAME_JSON)
			st->st_size = view.batch.lengths[0];
		st->st_blocks = (st->st_size + 511) / 512;
		st->st_mtim.tv_sec = ts_ms / 1000;
		st->st_mtim.tv_nsec = ts_ms % 1000 * 1000000;
	}
	engine_scratch_release(&scratch);
	return err;
}

const struct file_class class_message = { .open = message_open, TEXT_CLASS, .attr = message_attr };
