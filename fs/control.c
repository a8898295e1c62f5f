/*
 * control - the files that are commands when written: ack, offset, purge, and the settings.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fs/command.h"
#include "fs/events.h"
#include "fs/exchange.h"
#include "fs/find.h"
#include "fs/reply.h"
#include "fs/text.h"

static int get_object(struct fs *fs, uint64_t id, struct engine_object **ret_object)
{
	int err = fs->engine->ops->get(fs->engine, id, ret_object);
	return err == -ENOENT ? -EIDRM : err;
}

/* What is written below tx/NAME/ is staged. *ret_tx is NULL if the file is not there. */
static int get_tx(const struct handle *handle, struct engine_object **ret_tx)
{
	*ret_tx = NULL;
	if (handle->tx == 0)
		return 0;
	int err = FAILPOINT("command_before_stage");
	return err ? err : get_object(handle->fs, handle->tx, ret_tx);
}

static int stage_command(struct handle *handle, struct engine_object *tx, struct engine_object *object,
    const struct command *command, bool rejects)
{
	const struct engine_tx_ops *ops = handle->fs->engine->ops->tx;
	int64_t count;
	switch (command->verb) {
	case COMMAND_ALL:
		count = rejects ? ops->reject_all(tx, object, handle->partition)
				: ops->ack_all(tx, object, handle->partition);
		return count < 0 ? (int)count : 0;
	case COMMAND_ACK:
		return rejects ? ops->reject(tx, object, command->partition, command->offset)
			       : ops->ack(tx, object, command->partition, command->offset);
	case COMMAND_SEEK: return ops->seek(tx, object, command->partition, command->how, command->value);
	default: return -EINVAL;
	}
}

static int run_command(struct fs *fs, struct engine_object *object, const struct command *command, bool rejects)
{
	const struct engine_ops *ops = fs->engine->ops;
	switch (command->verb) {
	case COMMAND_ACK:
		return rejects ? ops->member->reject(object, command->partition, command->offset)
			       : ops->ack(object, command->partition, command->offset);
	case COMMAND_SEEK: return ops->seek(object, command->partition, command->how, command->value);
	case COMMAND_BEFORE: return ops->partition_purge(object, command->partition, command->offset);
	default: return -EINVAL;
	}
}

/* Parses and executes a line of a kind of command; `all` means something else for each, so all() does it. */
static int execute(struct handle *handle, enum command_kind kind, const char *line, size_t len,
    int (*all)(struct fs *fs, struct engine_object *object, uint32_t partition), char reason[TEXT_REASON_MAX])
{
	struct command command;
	struct engine_object *object;
	int err = command_parse(kind, handle->partition, line, len, &command, reason);
	if (err)
		return err;
	struct engine_object *tx;
	err = get_tx(handle, &tx);
	if (!err)
		err = get_object(handle->fs, handle->object, &object);
	if (err) {
		handle->fs->engine->ops->put(tx);
		return err;
	}
	if (tx)
		err = stage_command(handle, tx, object, &command, handle->arg != 0);
	else if (command.verb == COMMAND_ALL)
		err = all(handle->fs, object, handle->partition);
	else
		err = run_command(handle->fs, object, &command, handle->arg != 0);
	if (err < 0)
		snprintf(reason, TEXT_REASON_MAX, "%s", engine_reason());
	handle->fs->engine->ops->put(object);
	handle->fs->engine->ops->put(tx);
	return err < 0 ? err : 0;
}

/* ---------------------------------------------------------------------------------------------------- ack */

static int ack_all(struct fs *fs, struct engine_object *object, uint32_t partition)
{
	return fs->engine->ops->ack_all(object, partition);
}

static int reject_all(struct fs *fs, struct engine_object *object, uint32_t partition)
{
	int64_t count = fs->engine->ops->member->reject_all(object, partition);
	return count < 0 ? (int)count : 0;
}

static enum command_kind ack_kind(const struct handle *handle)
{
	return handle->partition == ENGINE_ANY ? COMMAND_ACK_GROUP : COMMAND_ACK_PARTITION;
}

static int ack_line(struct handle *handle, const char *line, size_t len, char reason[TEXT_REASON_MAX])
{
	return execute(handle, ack_kind(handle), line, len, handle->arg ? reject_all : ack_all, reason);
}

static int ack_part(struct handle *handle, const char *part, size_t len, char reason[TEXT_REASON_MAX])
{
	return command_check_prefix(ack_kind(handle), part, len, reason);
}

static int group_sync(struct handle *handle, struct engine_done *done)
{
	if (handle->tx != 0)
		return 0; /* the commit is what makes it durable */
	struct engine_object *group;
	int err = get_object(handle->fs, handle->object, &group);
	if (err)
		return err;
	err = handle->fs->engine->ops->group_sync(group, done);
	handle->fs->engine->ops->put(group);
	return err;
}

static const struct text_calls ack_calls = { .line = ack_line, .part = ack_part, .sync = group_sync };

static int ack_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	if (node->row->arg && !fs->engine->ops->member)
		return engine_explain(-ENOTSUP, "this engine keeps no dead letters of groups");
	return text_open(fs, node, flags, cred, &ack_calls, ret_handle);
}

const struct file_class class_ack = { .open = ack_open, TEXT_CLASS };

/* ------------------------------------------------------------------------------------------------- offset */

static int print_offsets(struct fs *fs, const struct node *node, struct buffer *out)
{
	const struct engine_ops *ops = fs->engine->ops;
	struct engine_object *group;
	struct engine_stat stat;
	int err = get_object(fs, node->object, &group);
	if (err)
		return err;
	err = ops->stat(group, &stat);
	for (uint32_t p = 0; !err && p < stat.partitions; p++) {
		struct engine_cursor_stat cursor;
		if (node->partition != ENGINE_ANY && node->partition != p)
			continue;
		err = ops->cursor_stat(group, p, &cursor);
		if (err)
			break;
		if (node->partition == ENGINE_ANY)
			buffer_printf(out, "%" PRIu32 " ", p);
		buffer_printf(out, "%" PRIu64 "\n", cursor.committed);
	}
	ops->put(group);
	return err;
}

static enum command_kind offset_kind(const struct handle *handle)
{
	return handle->partition == ENGINE_ANY ? COMMAND_OFFSET_GROUP : COMMAND_OFFSET_PARTITION;
}

static int offset_line(struct handle *handle, const char *line, size_t len, char reason[TEXT_REASON_MAX])
{
	return execute(handle, offset_kind(handle), line, len, NULL, reason);
}

static int offset_part(struct handle *handle, const char *part, size_t len, char reason[TEXT_REASON_MAX])
{
	return command_check_prefix(offset_kind(handle), part, len, reason);
}

static const struct text_calls offset_calls = { print_offsets, offset_line, offset_part, false, group_sync };

static int offset_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	return text_open(fs, node, flags, cred, &offset_calls, ret_handle);
}

const struct file_class class_offset = { .open = offset_open, TEXT_CLASS };

/* -------------------------------------------------------------------------------------------------- purge */

static int purge_all(struct fs *fs, struct engine_object *object, uint32_t partition)
{
	struct engine_identity identity;
	int err = fs->engine->ops->identity(object, &identity);
	if (err)
		return err;
	if (identity.kind == ENGINE_QUEUE)
		return fs->engine->ops->queue->purge(object);
	return fs->engine->ops->partition_purge(object, partition, ENGINE_OFFSET_NONE);
}

static enum command_kind purge_kind(const struct handle *handle)
{
	return handle->partition == ENGINE_ANY ? COMMAND_PURGE_TOPIC : COMMAND_PURGE_PARTITION;
}

static int purge_line(struct handle *handle, const char *line, size_t len, char reason[TEXT_REASON_MAX])
{
	int err = execute(handle, purge_kind(handle), line, len, purge_all, reason);
	if (!err)
		events_add(handle->fs, handle->object, handle->path, "purged %.*s", (int)len, line);
	return err;
}

static int purge_part(struct handle *handle, const char *part, size_t len, char reason[TEXT_REASON_MAX])
{
	return command_check_prefix(purge_kind(handle), part, len, reason);
}

static const struct text_calls purge_calls = { .line = purge_line, .part = purge_part };

static int purge_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	return text_open(fs, node, flags, cred, &purge_calls, ret_handle);
}

const struct file_class class_purge = { .open = purge_open, TEXT_CLASS };

/* --------------------------------------------------------------------------------- ack, nack, reject of queues */

static int64_t settle(
    struct handle *handle, struct engine_object *tx, struct engine_object *consumer, const struct command *command)
{
	const struct engine_ops *ops = handle->fs->engine->ops;
	enum engine_settle how = (enum engine_settle)handle->arg;
	if (command->verb == COMMAND_ALL)
		return tx ? ops->tx->settle_all(tx, consumer, how) : ops->queue->settle_all(consumer, how);
	return tx ? ops->tx->settle(tx, consumer, how, command->first, command->last)
		  : ops->queue->settle(consumer, how, command->first, command->last);
}

static int settle_line(struct handle *handle, const char *line, size_t len, char reason[TEXT_REASON_MAX])
{
	struct command command;
	struct engine_object *consumer, *tx;
	int err = command_parse(COMMAND_SETTLE, ENGINE_ANY, line, len, &command, reason);
	if (err)
		return err;
	err = get_tx(handle, &tx);
	if (!err)
		err = get_object(handle->fs, handle->object, &consumer);
	if (err) {
		handle->fs->engine->ops->put(tx);
		return err;
	}
	int64_t count = settle(handle, tx, consumer, &command);
	if (count < 0)
		snprintf(reason, TEXT_REASON_MAX, "%s", engine_reason());
	handle->fs->engine->ops->put(consumer);
	handle->fs->engine->ops->put(tx);
	return count < 0 ? (int)count : 0;
}

static int settle_part(struct handle *handle, const char *part, size_t len, char reason[TEXT_REASON_MAX])
{
	(void)handle;
	return command_check_prefix(COMMAND_SETTLE, part, len, reason);
}

static int settle_sync(struct handle *handle, struct engine_done *done)
{
	if (handle->tx != 0)
		return 0; /* the commit is what makes it durable */
	struct engine_object *object, *queue;
	uint64_t consumer;
	int err = get_object(handle->fs, handle->object, &object);
	if (err)
		return err;
	err = find_queue(object, &queue, &consumer);
	handle->fs->engine->ops->put(object);
	if (err)
		return err;
	err = handle->fs->engine->ops->queue->settle_sync(queue, done);
	handle->fs->engine->ops->put(queue);
	return err;
}

static const struct text_calls settle_calls = { .line = settle_line, .part = settle_part, .sync = settle_sync };

static int settle_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	return text_open(fs, node, flags, cred, &settle_calls, ret_handle);
}

const struct file_class class_settle = { .open = settle_open, TEXT_CLASS };

static int redrive_line(struct handle *handle, const char *line, size_t len, char reason[TEXT_REASON_MAX])
{
	struct command command;
	struct engine_object *dlq;
	int err = command_parse(COMMAND_SETTLE, ENGINE_ANY, line, len, &command, reason);
	if (err)
		return err;
	err = get_object(handle->fs, handle->object, &dlq);
	if (err)
		return err;
	bool all = command.verb == COMMAND_ALL;
	int64_t count =
	    handle->fs->engine->ops->queue->redrive(dlq, all ? 0 : command.first, all ? UINT64_MAX : command.last);
	if (count < 0)
		snprintf(reason, TEXT_REASON_MAX, "%s", engine_reason());
	handle->fs->engine->ops->put(dlq);
	return count < 0 ? (int)count : 0;
}

static const struct text_calls redrive_calls = { .line = redrive_line, .part = settle_part };

static int redrive_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	return text_open(fs, node, flags, cred, &redrive_calls, ret_handle);
}

const struct file_class class_redrive = { .open = redrive_open, TEXT_CLASS };

/* ----------------------------------------------------------------------------------------------- settings */

/* A setting file below the root is a default of new objects; elsewhere it is the object's own. */
static bool is_default(uint64_t object)
{
	return object == ENGINE_ROOT_ID;
}

/* Of which kind of objects config/KINDS/SETTING at the root is the default. */
static enum engine_kind default_kind(const char *path)
{
	static const struct {
		const char *prefix;
		enum engine_kind kind;
	} kinds[] = { { "config/topics/", ENGINE_TOPIC }, { "config/groups/", ENGINE_GROUP },
		{ "config/queues/", ENGINE_QUEUE }, { "config/exchanges/", ENGINE_EXCHANGE },
		{ "config/tx/", ENGINE_TX } };
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (strncmp(path, kinds[i].prefix, strlen(kinds[i].prefix)) == 0)
			return kinds[i].kind;
	return ENGINE_STORE;
}

static int kind_of(struct fs *fs, struct engine_object *object, enum engine_kind *ret_kind)
{
	struct engine_identity identity;
	int err = fs->engine->ops->identity(object, &identity);
	if (!err)
		*ret_kind = identity.kind;
	return err;
}

/* The setting a file stands for, and whose it is; done with by put_setting_object. */
static int setting_of(struct fs *fs, uint64_t id, const char *path, const struct engine_setting **ret_setting,
    struct engine_object **ret_object)
{
	enum engine_kind kind = default_kind(path);
	if (is_default(id)) {
		*ret_object = fs->engine->ops->defaults(fs->engine, kind);
	} else {
		int err = get_object(fs, id, ret_object);
		if (err)
			return err;
		err = kind_of(fs, *ret_object, &kind);
		if (err) {
			fs->engine->ops->put(*ret_object);
			return err;
		}
	}
	*ret_setting = engine_setting_find(kind, strrchr(path, '/') + 1);
	return 0;
}

static void put_setting_object(struct fs *fs, uint64_t id, struct engine_object *object)
{
	if (!is_default(id))
		fs->engine->ops->put(object);
}

static int print_setting(struct fs *fs, const struct node *node, struct buffer *out)
{
	const struct engine_setting *setting;
	struct engine_object *object;
	char value[ENGINE_VALUE_MAX];
	int err = setting_of(fs, node->object, node->path, &setting, &object);
	if (err)
		return err;
	err = fs->engine->ops->get_setting(object, setting, value);
	put_setting_object(fs, node->object, object);
	if (!err)
		buffer_printf(out, "%s\n", value);
	return err;
}

static int set_setting(struct handle *handle, const char *line, size_t len, char reason[TEXT_REASON_MAX])
{
	struct fs *fs = handle->fs;
	const struct engine_setting *setting;
	struct engine_object *object;
	char text[4 * ENGINE_VALUE_MAX], value[ENGINE_VALUE_MAX];
	if (len >= sizeof text || memchr(line, '\0', len)) {
		snprintf(reason, TEXT_REASON_MAX, "that is no value of a setting: it is too long, or holds a NUL");
		return -EINVAL;
	}
	memcpy(text, line, len);
	text[len] = '\0';
	int err = setting_of(fs, handle->object, handle->path, &setting, &object);
	if (err)
		return err;
	err = engine_setting_parse(setting, text, value);
	if (!err)
		err = fs->engine->ops->set_setting(object, setting, value);
	if (err)
		snprintf(reason, TEXT_REASON_MAX, "%s", engine_reason());
	else
		events_add(fs, handle->object, handle->path, "set to %s", value);
	put_setting_object(fs, handle->object, object);
	return err;
}

static const struct text_calls setting_calls = { .generate = print_setting, .line = set_setting, .whole = true };

/* A value that names a place where messages go takes the right to produce there. */
static int check_named(struct handle *handle, fuse_req_t req, const char *buf, size_t size)
{
	char text[4 * ENGINE_VALUE_MAX + 1], value[ENGINE_VALUE_MAX]; /* with the newline: see set_setting */
	const struct engine_setting *setting;
	struct engine_object *object;
	if (size >= sizeof text || memchr(buf, '\0', size))
		return 0; /* no value of such a setting */
	memcpy(text, buf, size);
	text[size] = '\0';
	int err = setting_of(handle->fs, handle->object, handle->path, &setting, &object);
	if (err)
		return err;
	put_setting_object(handle->fs, handle->object, object);
	if (setting->type != ENGINE_TEXT || engine_setting_parse(setting, text, value) || !strchr(value, '/'))
		return 0; /* it names none; what is wrong with it, set_setting says */
	return exchange_may_name(req, &handle->cred, value);
}

static void setting_write(struct handle *handle, fuse_req_t req, const char *buf, size_t size, off_t offset)
{
	int err = check_named(handle, req, buf, size);
	if (err)
		reply_handle_error(handle, req, err, NULL);
	else
		text_write(handle, req, buf, size, offset);
}

static int setting_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	return text_open(fs, node, flags, cred, &setting_calls, ret_handle);
}

static int setting_attr(struct fs *fs, const struct node *node, struct stat *st)
{
	struct buffer out = BUFFER_INIT;
	int err = print_setting(fs, node, &out);
	st->st_size = (off_t)out.len;
	st->st_blocks = 1;
	buffer_release(&out);
	return err;
}

const struct file_class class_setting = { .open = setting_open,
	.read = text_read,
	.write = setting_write,
	.fsync = text_fsync,
	.owes = text_owes,
	.release = text_release,
	.attr = setting_attr };
