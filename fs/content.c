/*
 * content - what the files that only report have in them: README, info, status/health, errors, version, at/OFFSET.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "fs/content.h"
#include "fs/errors.h"
#include "fs/errtext.h"
#include "fs/find.h"
#include "fs/render.h"
#include "fs/text.h"
#include "fs/uring.h"
#include "fs/version.h"

/* ------------------------------------------------------------------------------------------------- README */

static const char readme[] =
    "mqfs: message topics and queues as files. man 7 mqfs has all of it.\n"
    "\n"
    "  mkdir topics/orders                      create a topic\n"
    "  echo hello >> topics/orders/in           produce: one message per line\n"
    "  mkdir topics/orders/groups/billing       create a consumer group\n"
    "  cat topics/orders/groups/billing/out     read from the group's stored offset\n"
    "  echo all > topics/orders/groups/billing/ack   commit what was read\n"
    "  echo earliest > topics/orders/groups/billing/offset   replay\n"
    "  mkdir topics/orders/groups/billing/members/a          share the partitions with members/b\n"
    "\n"
    "  mkdir queues/jobs queues/jobs/consumers/me            a work queue, and a consumer of it\n"
    "  echo urgent >> queues/jobs/priority/9/in              produce; 9 goes first, in: priority 0\n"
    "  cat queues/jobs/consumers/me/next                     lease one; then echo all > ack, nack or reject there\n"
    "  mv queues/jobs/dlq/ready/* queues/jobs/ready/         a message is a file: rm, mv, touch, cat\n"
    "\n"
    "  mkdir -p 'exchanges/events/bindings/order.*'          route by patterns\n"
    "  ln -s ../../../../queues/jobs 'exchanges/events/bindings/order.*/'\n"
    "  echo hi >> exchanges/events/keys/order.created        publish with a routing key\n"
    "  mkdir tx/t1; echo hi >> tx/t1/topics/orders/in        stage in a transaction; acks too\n"
    "  echo commit > tx/t1/state                             all of it happens at once\n"
    "\n"
    "  in in.json in.nul    line, JSON object or NUL-ended; put/FILE: a whole file is one message\n"
    "  keys/KEY             produce with a key, in a compacted topic its value; 0/in 1/in: into a partition\n"
    "  0/log 0/at/17        every retained message; one by its offset (at/17.json with metadata)\n"
    "  next wait out stream of a group: one; one, waiting; all there is; all that comes\n"
    "  ack                  all, or PARTITION:OFFSET; offset: PARTITION OFFSET, earliest, latest, @UNIXTIME\n"
    "  config/SETTING       read or write; config/topics/ and others there: defaults\n"
    "  info                 the state in \"name value\" lines; status/health, metrics, events, dashboard.html\n"
    "  purge                echo all > purge empties a topic or queue; then rmdir deletes it\n"
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
	buffer_printf(out, "deduplicated %" PRIu64 "\n", stat->deduplicated);
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

static void print_member(struct engine_object *member, const char *name, struct buffer *out)
{
	struct engine_member_stat stat;
	char shown[4 * ENGINE_NAME_MAX + 1], *comma = "";
	if (member->engine->ops->member->member_stat(member, &stat))
		return;
	name_escape(name, strlen(name), shown, sizeof shown);
	buffer_printf(out, "member %s partitions ", shown);
	for (uint32_t p = 0; p < ENGINE_PARTITIONS_MAX; p++) {
		if (!(stat.owned[p / 64] >> (p % 64) & 1))
			continue;
		buffer_printf(out, "%s%" PRIu32, comma, p);
		comma = ",";
	}
	buffer_printf(
	    out, "%s sessions %" PRIu32 " readers %" PRIu32 "\n", *comma ? "" : "-", stat.sessions, stat.readers);
}

static bool note_member(void *ctx, const struct engine_dirent *entry)
{
	*(struct engine_dirent *)ctx = *entry;
	return false;
}

/* One line for each member with a name. */
static void print_members(struct engine_object *group, struct buffer *out)
{
	const struct engine_ops *ops = group->engine->ops;
	struct engine_dirent entry = { .id = 0 };
	struct engine_object *member;
	struct engine_identity identity;
	for (uint64_t after = 0; ops->member; after = entry.id) {
		entry.id = 0;
		if (ops->list(group->engine, group, ENGINE_MEMBER, after, note_member, &entry) || entry.id == 0)
			return;
		if (ops->get(group->engine, entry.id, &member))
			continue;
		if (ops->identity(member, &identity) == 0)
			print_member(member, identity.name, out);
		ops->put(member);
	}
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
	print_members(group, out);
	return 0;
}

static void print_count(struct buffer *out, const char *name, uint64_t count)
{
	buffer_printf(out, "%s %" PRIu64 "\n", name, count);
}

/* How long ago, in ms; a queue that has none has no such line. */
static void print_age(struct buffer *out, const char *name, int64_t then_ms)
{
	if (then_ms > 0)
		buffer_printf(out, "%s %" PRIi64 "\n", name, clock_wall_ms() - then_ms);
}

static int print_queue(struct engine_object *queue, struct buffer *out)
{
	struct engine_queue_stat stat;
	int err = queue->engine->ops->queue->queue_stat(queue, &stat);
	if (err)
		return err;
	print_count(out, "ready", stat.ready);
	print_count(out, "unacked", stat.unacked);
	print_count(out, "delayed", stat.delayed);
	print_count(out, "dead", stat.dead);
	print_count(out, "bytes", stat.bytes);
	print_count(out, "consumers", stat.consumers);
	print_count(out, "published", stat.published);
	print_count(out, "delivered", stat.delivered);
	print_count(out, "redelivered", stat.redelivered);
	print_count(out, "acked", stat.acked);
	print_count(out, "dead_lettered", stat.dead_lettered);
	print_count(out, "expired", stat.expired);
	print_count(out, "dropped", stat.dropped);
	print_count(out, "moved_in", stat.moved_in);
	print_count(out, "moved_out", stat.moved_out);
	print_count(out, "deduplicated", stat.deduplicated);
	print_age(out, "oldest_ready_ms", stat.oldest_ready_ms);
	print_age(out, "oldest_unacked_ms", stat.oldest_unacked_ms);
	return 0;
}

static int print_exchange(struct engine_object *exchange, struct buffer *out)
{
	struct engine_exchange_stat stat;
	int err = exchange->engine->ops->exchange->exchange_stat(exchange, &stat);
	if (err)
		return err;
	print_count(out, "patterns", stat.patterns);
	print_count(out, "bindings", stat.bindings);
	print_count(out, "published", stat.published);
	print_count(out, "routed", stat.routed);
	print_count(out, "unroutable", stat.unroutable);
	print_count(out, "refused", stat.refused);
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
		err = identity.kind == ENGINE_QUEUE      ? print_queue(object, out)
		      : identity.kind == ENGINE_EXCHANGE ? print_exchange(object, out)
		      : identity.kind == ENGINE_TOPIC    ? print_topic(object, &stat, out)
							 : print_group(object, &stat, out);
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
	char text[4096], shown[sizeof text];
	(void)node;
	size_t len = fs->engine->ops->health(fs->engine, text, sizeof text);
	len = len < sizeof text ? len : sizeof text - 1;
	for (size_t at = 0; at < len;) {
		const char *end = memchr(text + at, '\n', len - at);
		size_t line = end ? (size_t)(end - text) - at : len - at;
		buffer_add(out, shown, name_escape_text(text + at, line, shown, sizeof shown));
		if (end)
			buffer_add_char(out, '\n');
		at += line + 1;
	}
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
	(void)node;
	int count = errors_read(fs->errors, ERRORS_KEPT, out);
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
	buffer_printf(out, "requests %s\n", uring_state());
	/* direct: every write goes through the daemon; staged: those that may linger go to a file of the store */
	int refused = atomic_load(&fs->staging_refused);
	if (refused)
		buffer_printf(out, "producing direct: the kernel takes no backing file (%s)\n", errtext_name(refused));
	else
		buffer_add_text(out, fs->staging ? "producing direct staged\n" : "producing direct\n");
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

/* A message of a queue, by its id; object: the queue, or a consumer of it. */
static int queue_message(
    struct engine_object *object, uint64_t id, struct engine_scratch *scratch, struct engine_view *ret_view)
{
	struct engine_object *queue;
	uint64_t consumer;
	int err = find_queue(object, &queue, &consumer);
	if (err)
		return err;
	err = object->engine->ops->queue->message_read(queue, id, scratch, ret_view);
	object->engine->ops->put(queue);
	return err;
}

int content_message(
    struct fs *fs, const struct node *node, struct engine_scratch *scratch, struct engine_view *ret_view)
{
	struct engine_object *object;
	int err = fs->engine->ops->get(fs->engine, node->object, &object);
	if (err)
		return err;
	if (node->row->match == MATCH_ID)
		err = queue_message(object, node->offset, scratch, ret_view);
	else
		err = fs->engine->ops->partition_read(object, node->partition, node->offset, 1, scratch, ret_view);
	fs->engine->ops->put(object);
	if (!err && node->row->match != MATCH_ID && ret_view->offset != node->offset)
		return -ENOENT; /* compaction took it */
	return err == -ENODATA || err == -ESTALE ? -ENOENT : err;
}

static int print_message(struct fs *fs, const struct node *node, struct buffer *out)
{
	struct engine_scratch scratch = { 0 };
	struct engine_view view;
	char name[FIND_RECORD_NAME_MAX];
	int err = content_message(fs, node, &scratch, &view);
	if (!err)
		err = find_record_name(fs, node->object, name);
	if (!err)
		err = render_view(node->framing == FRAME_JSON ? FRAME_JSON : FRAME_RAW, &view, name, 0, 1, out);
	engine_scratch_release(&scratch);
	return err;
}

/* touch(1) opens what it touches for writing; nothing is ever written. */
static int refuse_line(struct handle *handle, const char *line, size_t len, char reason[TEXT_REASON_MAX])
{
	(void)handle;
	(void)line;
	(void)len;
	snprintf(reason, TEXT_REASON_MAX, "a message does not change: remove it and produce another");
	return -EPERM;
}

static const struct text_calls message_calls = { .generate = print_message };
static const struct text_calls queue_message_calls = { .generate = print_message, .line = refuse_line, .whole = true };

static int message_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	if (node->row->match != MATCH_ID)
		return text_open(fs, node, flags, cred, &message_calls, ret_handle);
	if (flags & O_TRUNC)
		return engine_explain(-EPERM, "a message does not change: remove it and produce another");
	return text_open(fs, node, flags, cred, &queue_message_calls, ret_handle);
}

static void set_facts(const struct node *node, uint64_t size, int64_t ts_ms, struct stat *st)
{
	if (node->framing != FRAME_JSON)
		st->st_size = (off_t)size;
	st->st_blocks = (st->st_size + 511) / 512;
	st->st_mtim.tv_sec = ts_ms / 1000;
	st->st_mtim.tv_nsec = ts_ms % 1000 * 1000000;
}

/* Of a message of a queue: without reading it. */
static int queue_message_attr(struct fs *fs, const struct node *node, struct stat *st)
{
	struct engine_message_stat stat;
	struct engine_object *queue;
	int err = find_queue_by_id(fs, node->object, &queue);
	if (err)
		return err;
	err = fs->engine->ops->queue->message_stat(queue, node->offset, &stat);
	fs->engine->ops->put(queue);
	if (!err)
		set_facts(node, stat.size, stat.ts_ms, st);
	return err;
}

static int message_attr(struct fs *fs, const struct node *node, struct stat *st)
{
	if (node->row->match == MATCH_ID)
		return queue_message_attr(fs, node, st);
	struct engine_scratch scratch = { 0 };
	struct engine_view view;
	int err = content_message(fs, node, &scratch, &view);
	if (!err) {
		set_facts(
		    node, view.batch.lengths[0], view.batch.props ? view.batch.props[0].ts_ms : view.batch.ts_ms, st);
	}
	engine_scratch_release(&scratch);
	return err;
}

const struct file_class class_message = { .open = message_open, TEXT_CLASS, .attr = message_attr };
