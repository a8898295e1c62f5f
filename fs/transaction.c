/*
 * transaction - tx/NAME/state: one word when read; `commit` or `rollback` when written.
 *
 * What is staged goes through the other classes: a node below tx/NAME/ knows its transaction, see node.h.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs/text.h"

static int get_tx_object(struct fs *fs, uint64_t id, struct engine_object **ret_tx)
{
	int err = fs->engine->ops->get(fs->engine, id, ret_tx);
	return err == -ENOENT ? -EIDRM : err;
}

static int generate_state(struct fs *fs, const struct node *node, struct buffer *out)
{
	static const char *const words[] = { "open", "committed", "aborted" };
	struct engine_tx_stat stat;
	struct engine_object *tx;
	int err = get_tx_object(fs, node->object, &tx);
	if (err)
		return err;
	err = fs->engine->ops->tx->tx_stat(tx, &stat);
	fs->engine->ops->put(tx);
	if (!err)
		buffer_printf(out, "%s\n", words[stat.state]);
	return err;
}

static int state_line(struct handle *handle, const char *line, size_t len, char reason[TEXT_REASON_MAX])
{
	const struct engine_ops *ops = handle->fs->engine->ops;
	struct engine_object *tx;
	bool commit = len == strlen("commit") && memcmp(line, "commit", len) == 0;
	if (!commit && !(len == strlen("rollback") && memcmp(line, "rollback", len) == 0)) {
		snprintf(reason, TEXT_REASON_MAX, "write commit or rollback");
		return -EINVAL;
	}
	int err = get_tx_object(handle->fs, handle->object, &tx);
	if (err)
		return err;
	err = FAILPOINT("tx_before_end");
	if (!err)
		err = commit ? ops->tx->commit(tx) : ops->tx->rollback(tx);
	CRASHPOINT("tx_after_end");
	if (err < 0)
		snprintf(reason, TEXT_REASON_MAX, "%s", engine_reason());
	ops->put(tx);
	return err;
}

static const struct text_calls state_calls = { .generate = generate_state, .line = state_line, .whole = true };

static int state_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	return text_open(fs, node, flags, cred, &state_calls, ret_handle);
}

const struct file_class class_tx_state = { .open = state_open, TEXT_CLASS };
