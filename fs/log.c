/*
 * log - a partition as a file: log, and log.json and log.nul.
 *
 * `log` is the bytes of the segments one after the other, so a read is a read of those. Retention and purge take bytes
 * away from the front; then `log` is another file, with another inode (the node's variant is the position of its first
 * byte). Compaction moves what it keeps, and then `log` is another file too; one still open is ESTALE where bytes have
 * moved. One still open keeps its positions: what is gone is ESTALE, what is there and what comes is read, so a
 * tail -f goes on. That is why the kernel keeps no pages of it: it reads whole pages, and the one with both gone and
 * present bytes in it would be either all an error or half a lie. In the other framings the messages are rendered one
 * after the other (reader.h), and the size is not known.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "fs/reader.h"
#include "fs/reply.h"

struct logfile {
	struct handle handle;
	struct engine_object *topic;
};

static int plain_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	struct logfile *file = calloc(1, sizeof *file);
	if (!file)
		return -ENOMEM;
	int err = fs->engine->ops->get(fs->engine, node->object, &file->topic);
	if (err)
		goto err_file;
	err = handle_init(&file->handle, fs, node, flags, cred);
	if (err)
		goto err_topic;
	*ret_handle = &file->handle;
	return 0;

err_topic:
	fs->engine->ops->put(file->topic);
err_file:
	free(file);
	return err;
}

static int log_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	if ((flags & O_ACCMODE) != O_RDONLY)
		return engine_explain(-EPERM, "the log is written through `in`");
	if (node->framing != FRAME_LINE)
		return reader_open(fs, node, flags, cred, true, ret_handle);
	return plain_open(fs, node, flags, cred, ret_handle);
}

/* Has compaction put other bytes at this position since it was opened? */
static bool is_shifted(const struct logfile *file, uint64_t pos)
{
	struct engine_partition_stat stat;
	return !file->handle.fs->engine->ops->partition_stat(file->topic, file->handle.partition, &stat) &&
	       file->handle.variant < stat.shifted_start && pos < stat.shifted_pos;
}

static void log_read(struct handle *handle, fuse_req_t req, size_t size, off_t offset, unsigned flags)
{
	if (handle->framing != FRAME_LINE) {
		reader_read(handle, req, size, offset, flags);
		return;
	}
	struct logfile *file = (struct logfile *)handle;
	char *buf = malloc(size);
	if (!buf) {
		reply_handle_error(handle, req, -ENOMEM, NULL);
		return;
	}
	uint64_t pos = handle->variant + (uint64_t)offset;
	ssize_t got = handle->fs->engine->ops->partition_pread(file->topic, handle->partition, pos, buf, size);
	if (got > 0 && is_shifted(file, pos)) /* looked at afterwards: so what was read is from before */
		got = -ESTALE;
	if (got < 0)
		reply_handle_error(handle, req, (int)got,
		    got == -ESTALE ? "retention, a purge or compaction has taken these messages" : NULL);
	else
		fuse_reply_buf(req, buf, (size_t)got);
	free(buf);
}

static bool log_owes(struct handle *handle)
{
	(void)handle;
	return false; /* it only looks */
}

static void log_release(struct handle *handle)
{
	if (handle->framing != FRAME_LINE) {
		reader_release(handle);
		return;
	}
	struct logfile *file = (struct logfile *)handle;
	handle_release(handle);
	handle->fs->engine->ops->put(file->topic);
	free(file);
}

static int log_attr(struct fs *fs, const struct node *node, struct stat *st)
{
	struct engine_object *topic;
	struct engine_partition_stat stat;
	int err = fs->engine->ops->get(fs->engine, node->object, &topic);
	if (err)
		return err;
	err = fs->engine->ops->partition_stat(topic, node->partition, &stat);
	fs->engine->ops->put(topic);
	if (err)
		return err;
	if (node->framing == FRAME_LINE) {
		/* Of who has it open since before a purge, too: its positions stay, and what is gone cannot be read. */
		st->st_size = (off_t)(stat.end_pos - node->variant);
		st->st_blocks = (st->st_size + 511) / 512;
	}
	st->st_mtim.tv_sec = stat.mtime_ms / 1000;
	st->st_mtim.tv_nsec = stat.mtime_ms % 1000 * 1000000;
	return 0;
}

const struct file_class class_log = {
	.open = log_open,
	.read = log_read,
	.owes = log_owes,
	.release = log_release,
	.attr = log_attr,
};
