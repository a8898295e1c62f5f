/*
 * channel - an open file that produces: in, in.json, in.nul, keys/KEY.
 *
 * Each write is cut into messages (frame.h), and those that are complete go to the engine as one batch before the write is
 * answered; so a write that returned has its messages in the log. What has no end yet stays in the framer, which belongs
 * to the open file: a shell's children that share the descriptor write on into the same message. A file opened with
 * O_SYNC or O_DSYNC answers when the messages are on disk, and all that wait then share one sync.
 *
 * Where the kernel can, and a topic or queue lingers, writes go past all this to a staging file (staged.h), and the engine does the
 * cutting.
 *
 * The kernel sends one write at a time for an inode, and a channel's inode is its own; the lock is for the closing of
 * descriptors (flush), which comes whenever it likes, and for a second open of the same inode through /dev/stdout.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/class.h"
#include "fs/confirm.h"
#include "fs/frame.h"
#include "fs/key.h"
#include "fs/process.h"
#include "fs/quota.h"
#include "fs/record.h"
#include "fs/reply.h"
#include "fs/staged.h"

struct channel {
	struct handle handle;
	struct engine_object *object; /* topic, queue or exchange */
	enum engine_kind kind;
	char *key; /* keys/KEY; or NULL */
	uint64_t node;
	struct engine_producer *producer;
	struct engine_stage *stage;  /* its writes go to a staging file; NULL: they come here */
	size_t limit;                /* max.message.bytes as last read; lock */
	struct framer framer;        /* lock */
	struct record_batch records; /* of in.json; lock */
	uint64_t charged;            /* to the user, for the framer's part; lock */
	bool refused;                /* the last write: what it began with is no message by itself; lock */
	pthread_mutex_t lock;
};

/* One write that the engine has not finished yet: its send, or the sync behind it. */
struct pending_write {
	struct engine_done done;
	struct channel *channel;
	fuse_req_t req;
	struct frame_scan scan;
	bool sending; /* else syncing */
	size_t answer;
};

static int read_limit(struct channel *channel)
{
	const struct engine_ops *ops = channel->handle.fs->engine->ops;
	struct engine *engine = channel->handle.fs->engine;
	char value[ENGINE_VALUE_MAX];
	/* The targets of an exchange have limits of their own: this one keeps a message that does not end from growing for ever. */
	bool routed = channel->kind == ENGINE_EXCHANGE;
	int err = ops->get_setting(routed ? ops->defaults(engine, ENGINE_TOPIC) : channel->object,
	    engine_setting_find(routed ? ENGINE_TOPIC : channel->kind, "max.message.bytes"), value);
	if (!err)
		channel->limit = (size_t)strtoull(value, NULL, 10);
	return err;
}

static void free_channel(struct channel *channel)
{
	const struct engine_ops *ops = channel->handle.fs->engine->ops;
	ops->producer_close(channel->producer);
	ops->put(channel->object);
	framer_release(&channel->framer);
	record_batch_release(&channel->records);
	free(channel->key);
	pthread_mutex_destroy(&channel->lock);
	free(channel);
}

/* Below tx/NAME/ what is produced is staged. */
static int open_staging(struct channel *channel, const struct node *node, struct engine_span key)
{
	const struct engine_ops *ops = channel->handle.fs->engine->ops;
	struct engine_object *tx;
	int err = ops->get(channel->handle.fs->engine, node->tx, &tx);
	if (err)
		return err == -ENOENT ? -EIDRM : err;
	err = FAILPOINT("channel_before_stage");
	if (!err)
		err = ops->tx->producer_open(
		    tx, channel->object, node->partition, node->row->arg == CHANNEL_HEAD, key, &channel->producer);
	ops->put(tx);
	return err;
}

static int open_producer(struct channel *channel, const struct node *node)
{
	struct fs *fs = channel->handle.fs;
	int err = fs->engine->ops->get(fs->engine, node->object, &channel->object);
	if (err)
		return err;
	struct engine_identity identity;
	err = fs->engine->ops->identity(channel->object, &identity);
	if (err)
		return err;
	channel->kind = identity.kind;
	if (identity.kind == ENGINE_QUEUE && node->tx == 0)
		return fs->engine->ops->queue->producer_open(
		    channel->object, node->partition, node->row->arg == CHANNEL_HEAD, &channel->producer);
	struct engine_span key = { NULL, 0 };
	if (node->row->match == MATCH_KEY) {
		channel->key = strdup(node->name);
		if (!channel->key)
			return -ENOMEM;
		key = (struct engine_span){ channel->key, strlen(channel->key) };
	}
	return node->tx != 0
		   ? open_staging(channel, node, key)
		   : fs->engine->ops->producer_open(channel->object, node->partition, key, &channel->producer);
}

static int channel_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	if ((flags & O_ACCMODE) == O_RDWR && node_is_claimed(fs->nodes, node->id))
		return engine_explain(-EBUSY, "it is open for appending: through /dev/fd it can be opened for writing");
	struct channel *channel = calloc(1, sizeof *channel);
	if (!channel)
		return -ENOMEM;
	pthread_mutex_init(&channel->lock, NULL);
	channel->handle.fs = fs;
	framer_init(&channel->framer, node->framing);
	int err = 0;
	if (!fs->read_only) /* also for who only reads: `sync FILE` opens it so, and syncs */
		err = open_producer(channel, node);
	if (err)
		goto err_channel;
	err = handle_init(&channel->handle, fs, node, flags, cred);
	if (err)
		goto err_channel;
	channel->node = node->id;
	node_opened(fs->nodes, node->id);
	if (channel->producer)
		channel->stage = staged_open(fs, node, channel->producer, flags, cred);
	*ret_handle = &channel->handle;
	return 0;

err_channel:
	free_channel(channel);
	return err;
}

static bool channel_pass(struct handle *handle, fuse_req_t req, struct fuse_file_info *fi)
{
	struct channel *channel = (struct channel *)handle;
	if (!staged_pass(handle->fs, channel->node, channel->stage, req, fi))
		channel->stage = NULL;
	return channel->stage != NULL;
}

/* ------------------------------------------------------------------------------------------------ writing */

static bool wants_sync(const struct channel *channel)
{
	return (channel->handle.open_flags & (O_SYNC | O_DSYNC)) != 0;
}

/* Charges the user for what the framer keeps now. Call with the lock held. */
static int charge_part(struct channel *channel)
{
	return quota_charge(channel->handle.user, QUOTA_PART_BYTES, &channel->charged, channel->framer.part_len);
}

static void drop_part(struct channel *channel)
{
	framer_drop(&channel->framer);
	charge_part(channel); /* less: cannot fail */
}

static void write_done(struct engine_done *done, int result);

static struct pending_write *new_pending(struct channel *channel, fuse_req_t req)
{
	struct pending_write *pending = calloc(1, sizeof *pending);
	if (!pending)
		return NULL;
	*pending = (struct pending_write){ .done = { write_done }, .channel = channel, .req = req };
	fs_pending_begin(channel->handle.fs);
	return pending;
}

/* Makes the JSON lines of a scan records; at the first that is none the scan is cut, or the error is the answer. */
static int parse_records(struct channel *channel, struct frame_scan *scan, char reason[RECORD_REASON_MAX])
{
	const char *line = scan->batch.data;
	record_batch_clear(&channel->records);
	for (uint32_t i = 0; i < scan->batch.count; i++) {
		const char *end = scan->batch.lengths
				      ? line + scan->batch.lengths[i]
				      : memchr(line, '\n', (size_t)(scan->batch.data + scan->batch.len - line));
		int err = record_batch_add_line(&channel->records, line, (size_t)(end - line), channel->limit, reason);
		if (err < 0)
			return framer_refuse(&channel->framer, scan, i, err);
		line = end + 1;
	}
	return 0;
}

/* The scan of a write and, in *ret_batch, what is to be sent for it; count 0: nothing is. */
static int scan_write(struct channel *channel, const char *buf, size_t size, struct frame_scan *scan,
    struct engine_batch *ret_batch, char reason[RECORD_REASON_MAX])
{
	bool json = channel->framer.framing == FRAME_JSON;
	/* Read anew before it can matter: a setting takes effect at once, and a refused scan drops the part. */
	int err = channel->framer.part_len + size > channel->limit ? read_limit(channel) : 0;
	if (err)
		return err;
	err = framer_scan(&channel->framer, buf, size, json ? RECORD_LINE_MAX(channel->limit) : channel->limit, scan);
	if (err == -EMSGSIZE)
		snprintf(reason, RECORD_REASON_MAX, "the message is over max.message.bytes (%zu)", channel->limit);
	if (err)
		return err;
	*ret_batch = scan->batch;
	if (json && scan->batch.count > 0) {
		err = parse_records(channel, scan, reason);
		if (err)
			return err;
		ret_batch->count = channel->records.count;
		if (channel->records.count > 0)
			record_batch_get(&channel->records, ret_batch);
	}
	ret_batch->cred = channel->handle.cred;
	ret_batch->ts_ms = -1;
	return 0;
}

/*
 * The engine takes all of a batch or none. If one record of several is refused (a partition there is not), those
 * before it are sent one by one, and the scan is cut at the one that is refused. Call with the lock held.
 */
static int send_one_by_one(struct channel *channel, struct frame_scan *scan, const struct engine_batch *batch)
{
	const struct engine_ops *ops = channel->handle.fs->engine->ops;
	const char *data = batch->data;
	bool json = channel->framer.framing == FRAME_JSON;
	for (uint32_t i = 0; i < batch->count; i++) {
		struct engine_batch one = *batch;
		one.data = data;
		one.len =
		    batch->lengths
			? (size_t)batch->lengths[i] + 1
			: (size_t)((const char *)memchr(data, '\n', (size_t)(batch->data + batch->len - data)) - data) +
			      1;
		one.count = 1;
		one.lengths = batch->lengths ? &batch->lengths[i] : NULL;
		one.props = batch->props ? &batch->props[i] : NULL;
		int err = FAILPOINT("write_one_of_many");
		if (!err)
			err = ops->producer_send(channel->producer, &one, NULL);
		if (err < 0)
			return framer_refuse(&channel->framer, scan, json ? channel->records.line_of[i] : i, err);
		data += one.len;
	}
	return 0;
}

static void finish_write(struct channel *channel, fuse_req_t req, struct pending_write *pending, size_t answer)
{
	const struct engine_ops *ops = channel->handle.fs->engine->ops;
	struct fs *fs = channel->handle.fs;
	int err = 0;
	if (wants_sync(channel)) {
		pending->sending = false;
		pending->answer = answer;
		err = ops->producer_sync(channel->producer, &pending->done);
		if (err == ENGINE_PENDING)
			return;
	}
	free(pending);
	CRASHPOINT("write_before_answer");
	if (err < 0)
		reply_handle_error(&channel->handle, req, err, NULL);
	else
		fuse_reply_write(req, answer);
	fs_pending_end(fs);
}

static void write_done(struct engine_done *done, int result)
{
	struct pending_write *pending = (struct pending_write *)done; /* its first member */
	struct channel *channel = pending->channel;
	struct fs *fs = channel->handle.fs;
	if (result >= 0 && pending->sending) {
		size_t answer = pending->scan.taken;
		pthread_mutex_lock(&channel->lock);
		framer_commit(&channel->framer, &pending->scan, request_cred(pending->req).pid);
		if (charge_part(channel)) { /* a short write: what follows the messages is written again, and refused */
			answer -= channel->framer.part_len;
			drop_part(channel);
		}
		pthread_mutex_unlock(&channel->lock);
		finish_write(channel, pending->req, pending, answer);
		return;
	}
	fuse_req_t req = pending->req;
	size_t answer = pending->answer;
	free(pending);
	if (result < 0) /* the answer comes last: then the file may be closed under our feet */
		reply_handle_error(&channel->handle, req, result, NULL);
	else
		fuse_reply_write(req, answer);
	fs_pending_end(fs);
}

/* Would the target take what has no delimiter yet, if it were all? props: what is known of it, or NULL. */
static int ask_room(struct channel *channel, uint64_t bytes, const struct engine_props *props)
{
	const struct engine_ops *ops = channel->handle.fs->engine->ops;
	struct engine_props own = props ? *props : ENGINE_PROPS_INIT;
	if (channel->kind == ENGINE_QUEUE)
		return ops->queue->room(channel->object, bytes, props);
	if (channel->kind != ENGINE_EXCHANGE)
		return 0;
	if (channel->key)
		own.routing_key = (struct engine_span){ channel->key, strlen(channel->key) };
	return ops->exchange->room(channel->object, bytes, &own);
}

static int refuse_keyless(void)
{
	return engine_explain(-EINVAL, "a message of a compacted topic needs a key: write to keys/KEY, or to in.json");
}

/* What its topic would refuse of a whole record. */
static int check_of_topic(struct channel *channel, const struct engine_props *props)
{
	struct engine_stat stat;
	if (channel->kind != ENGINE_TOPIC)
		return 0;
	if (!props->key.ptr && !channel->key && key_is_compacted(channel->object))
		return refuse_keyless();
	if (props->partition == ENGINE_ANY)
		return 0;
	int err = channel->handle.fs->engine->ops->stat(channel->object, &stat);
	if (!err && props->partition >= stat.partitions)
		err = engine_explain(-ERANGE, "there is no partition %" PRIu32 ": the topic has %" PRIu32,
		    props->partition, stat.partitions);
	return err;
}

/* Whether a record is one, and what it asks for, is known when it is whole. */
static int check_record(struct channel *channel, char reason[RECORD_REASON_MAX])
{
	struct record_batch *records = &channel->records;
	struct engine_batch batch = { 0 };
	record_batch_clear(records);
	int whole = record_check_part(records, channel->framer.part, channel->framer.part_len, channel->limit, reason);
	if (whole <= 0)
		return whole;
	if (records->count > 0) {
		record_batch_get(records, &batch);
		int err = check_of_topic(channel, &batch.props[0]);
		if (err)
			return err;
	}
	if (channel->handle.tx != 0) /* the commit asks for room */
		return 0;
	if (records->count > 0)
		return ask_room(channel, batch.lengths[0], &batch.props[0]);
	return channel->kind == ENGINE_QUEUE ? ask_room(channel, 0, NULL) : 0;
}

static int check_message(struct channel *channel)
{
	if (channel->handle.tx != 0)
		return 0;
	int err = ask_room(channel, channel->framer.part_len, NULL);
	if (!err && !channel->key && key_is_compacted(channel->object))
		err = refuse_keyless();
	return err;
}

/*
 * What has no delimiter yet may be all there will be: `printf x >> in`. So that its refusal is an error of the write, and not
 * only of the close, it is looked at as far as it goes. A write that brought more is short then, and the rest is
 * written again. Call with the lock held, after the commit.
 */
static int check_part(
    struct channel *channel, const struct frame_scan *scan, size_t *answer, char reason[RECORD_REASON_MAX])
{
	struct framer *framer = &channel->framer;
	int err = charge_part(channel);
	if (framer->part_len == 0)
		return 0;
	if (!err && channel->handle.tx == 0)
		err = channel->handle.fs->engine->ops->room(channel->handle.fs->engine, framer->part_len);
	if (!err)
		err = framer->framing == FRAME_JSON ? check_record(channel, reason) : check_message(channel);
	if (!err)
		return 0;
	*answer = framer_refuse_part(framer, scan);
	charge_part(channel);
	return *answer > 0 ? 0 : err;
}

/*
 * Sends what is complete and makes the write's effect last. Returns 0 with *ret_answer, ENGINE_PENDING if the engine answers
 * later (then pending has what is needed), or the error. Call with the lock held.
 */
static int take_write(struct channel *channel, const char *buf, size_t size, struct pending_write *pending,
    uint32_t pid, size_t *ret_answer, char reason[RECORD_REASON_MAX])
{
	const struct engine_ops *ops = channel->handle.fs->engine->ops;
	struct frame_scan *scan = &pending->scan;
	struct engine_batch batch;
	bool json = channel->framer.framing == FRAME_JSON;
	int err = scan_write(channel, buf, size, scan, &batch, reason);
	if (err && channel->framer.skipping)
		channel->framer.part_pid = pid; /* whose message it is that is too long */
	if (err)
		return err;
	if (batch.count > 0) {
		pending->sending = true;
		err = ops->producer_send(channel->producer, &batch, &pending->done);
		CRASHPOINT("write_after_send");
		if (err < 0 && batch.count > 1)
			err = send_one_by_one(channel, scan, &batch);
		else if (err < 0)
			err = framer_refuse(&channel->framer, scan, json ? channel->records.line_of[0] : 0, err);
		if (err)
			return err;
	}
	*ret_answer = scan->taken;
	struct frame_scan taken = *scan;
	framer_commit(&channel->framer, scan, pid);
	return check_part(channel, &taken, ret_answer, reason);
}

static void channel_write(struct handle *handle, fuse_req_t req, const char *buf, size_t size, off_t offset)
{
	(void)offset; /* everything is appended */
	struct channel *channel = (struct channel *)handle;
	struct fs *fs = handle->fs;
	char reason[RECORD_REASON_MAX] = "";
	size_t answer = 0;
	struct pending_write *pending = new_pending(channel, req);
	if (!pending) {
		reply_handle_error(handle, req, -ENOMEM, NULL);
		return;
	}
	pthread_mutex_lock(&channel->lock);
	int err = take_write(channel, buf, size, pending, request_cred(req).pid, &answer, reason);
	if (err)
		charge_part(channel); /* what the error dropped */
	channel->refused = err < 0;
	pthread_mutex_unlock(&channel->lock);
	if (err == ENGINE_PENDING)
		return;
	if (err) {
		free(pending);
		reply_handle_error(handle, req, err, *reason ? reason : NULL);
		fs_pending_end(fs);
		return;
	}
	finish_write(channel, req, pending, answer);
}

/* ------------------------------------------------------------------------------------- confirming, closing */

static int sync_producer(struct handle *handle, struct engine_done *done)
{
	struct channel *channel = (struct channel *)handle;
	const struct engine_ops *ops = handle->fs->engine->ops;
	int err = channel->stage ? ops->stage->take(channel->stage) : 0;
	if (err)
		return err;
	return channel->producer ? ops->producer_sync(channel->producer, done) : 0;
}

static void channel_fsync(struct handle *handle, fuse_req_t req)
{
	confirm(handle, req, sync_producer);
}

/* reason "": the engine's. */
static void report(struct channel *channel, int err, const char *reason)
{
	struct handle *handle = &channel->handle;
	char path[1024], sentence[RECORD_REASON_MAX];
	snprintf(sentence, sizeof sentence, "%s", *reason ? reason : engine_reason()); /* before it is asked again */
	reply_path(handle->fs, handle->tx, handle->object, handle->path, handle->framing, path, sizeof path);
	report_error(handle->fs, err, &handle->cred, path, sentence);
}

static int channel_flush(struct handle *handle, uint32_t pid)
{
	struct channel *channel = (struct channel *)handle;
	if (channel->stage) {
		int err = staged_flush(handle->fs, channel->stage, pid);
		if (err && err != -EMSGSIZE) /* of that the engine has told */
			report(channel, err, "");
		return err;
	}
	pthread_mutex_lock(&channel->lock);
	uint32_t writer = channel->framer.part_len > 0 || channel->framer.skipping ? channel->framer.part_pid : 0;
	pthread_mutex_unlock(&channel->lock);
	if (writer == 0 || !process_is_killed(pid) || !process_is_same(pid, writer))
		return 0;
	pthread_mutex_lock(&channel->lock);
	drop_part(channel);
	pthread_mutex_unlock(&channel->lock);
	return 0;
}

/* Of a transaction, its end may wait for the producer. */
static bool channel_owes(struct handle *handle)
{
	struct channel *channel = (struct channel *)handle;
	pthread_mutex_lock(&channel->lock);
	bool owes = channel->stage || handle->tx || channel->framer.part_len > 0 || channel->framer.skipping;
	pthread_mutex_unlock(&channel->lock);
	return owes;
}

/* The last message, which had no end: a JSON line is parsed first. */
static int send_last(struct channel *channel, char reason[RECORD_REASON_MAX])
{
	struct engine_batch batch;
	if (channel->refused || !framer_finish(&channel->framer, &batch))
		return 0;
	int err;
	if (channel->framer.framing == FRAME_JSON) {
		record_batch_clear(&channel->records);
		err = record_batch_add_line(&channel->records, batch.data, batch.len - 1, channel->limit, reason);
		if (err <= 0)
			return err;
		record_batch_get(&channel->records, &batch);
	}
	batch.cred = channel->handle.cred;
	batch.ts_ms = -1;
	return channel->handle.fs->engine->ops->producer_send(channel->producer, &batch, NULL);
}

static void channel_release(struct handle *handle)
{
	struct channel *channel = (struct channel *)handle;
	struct fs *fs = handle->fs;
	char reason[RECORD_REASON_MAX] = "";
	int err = 0;
	if (channel->stage)
		err = fs->engine->ops->stage->close(channel->stage, !fs->ending);
	else if (channel->producer && !fs->ending)
		err = send_last(channel, reason);
	if (err < 0 && !(channel->stage && err == -EMSGSIZE))
		report(channel, err, reason);
	node_closed(fs->nodes, channel->node);
	drop_part(channel);
	handle_release(handle);
	free_channel(channel);
}

static int channel_attr(struct fs *fs, const struct node *node, struct stat *st)
{
	struct engine_object *topic;
	struct engine_stat stat;
	int err = fs->engine->ops->get(fs->engine, node->object, &topic);
	if (err)
		return err;
	err = fs->engine->ops->stat(topic, &stat);
	fs->engine->ops->put(topic);
	if (!err)
		st->st_mtim.tv_sec = stat.mtime_ms / 1000, st->st_mtim.tv_nsec = stat.mtime_ms % 1000 * 1000000;
	return err;
}

const struct file_class class_channel = {
	.open = channel_open,
	.write = channel_write,
	.pass = channel_pass,
	.flush = channel_flush,
	.fsync = channel_fsync,
	.owes = channel_owes,
	.release = channel_release,
	.attr = channel_attr,
};
