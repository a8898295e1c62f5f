#include "fs/text.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/command.h"
#include "fs/confirm.h"
#include "fs/quota.h"
#include "fs/reply.h"

struct text {
	struct handle handle;
	const struct text_calls *calls;
	struct buffer content; /* fixed at open */
	uint64_t charged;      /* of it, to who opened the file */
	pthread_mutex_t lock;  /* lines */
	struct line_buffer lines;
};

/* What line_calls get: the handle, and where a reason goes. */
struct line_context {
	struct text *text;
	char reason[TEXT_REASON_MAX];
};

int text_open(struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred,
    const struct text_calls *calls, struct handle **ret_handle)
{
	unsigned access = flags & O_ACCMODE;
	if (access != O_RDONLY && !calls->line)
		return engine_explain(-EPERM, "it can only be read");
	if (access != O_RDONLY && fs->read_only)
		return -EROFS;
	struct text *text = calloc(1, sizeof *text);
	if (!text)
		return -ENOMEM;
	text->calls = calls;
	pthread_mutex_init(&text->lock, NULL);
	int err = 0;
	if (access != O_WRONLY && calls->generate) {
		err = calls->generate(fs, node, &text->content);
		if (!err)
			err = buffer_error(&text->content);
	}
	bool is_long = text->content.len > QUOTA_READ_FREE;
	if (!err && is_long)
		err = quota_look(fs->quota, cred->uid, QUOTA_READ_BYTES);
	if (!err)
		err = handle_init(&text->handle, fs, node, flags, cred);
	if (err) {
		buffer_release(&text->content);
		pthread_mutex_destroy(&text->lock);
		free(text);
		return err;
	}
	buffer_fit(&text->content);
	if (is_long)
		quota_hold(text->handle.user, QUOTA_READ_BYTES, &text->charged, text->content.cap);
	*ret_handle = &text->handle;
	return 0;
}

void text_read(struct handle *handle, fuse_req_t req, size_t size, off_t offset, unsigned flags)
{
	(void)flags;
	struct text *text = (struct text *)handle;
	size_t len = text->content.len;
	if (offset < 0 || (size_t)offset >= len) {
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	size_t left = len - (size_t)offset;
	fuse_reply_buf(req, text->content.ptr + offset, left < size ? left : size);
}

static int call_line(void *ctx, const char *line, size_t len)
{
	struct line_context *context = ctx;
	return context->text->calls->line(&context->text->handle, line, len, context->reason);
}

static int call_part(void *ctx, const char *part, size_t len)
{
	struct line_context *context = ctx;
	return context->text->calls->part(&context->text->handle, part, len, context->reason);
}

static ssize_t write_whole(struct line_context *context, const char *buf, size_t size)
{
	size_t len = size > 0 && buf[size - 1] == '\n' ? size - 1 : size;
	int err = call_line(context, buf, len);
	return err ? err : (ssize_t)size;
}

void text_write(struct handle *handle, fuse_req_t req, const char *buf, size_t size, off_t offset)
{
	(void)offset;
	struct text *text = (struct text *)handle;
	struct line_context context = { text, "" };
	const struct line_calls calls = { call_line, call_part, &context };
	pthread_mutex_lock(&text->lock);
	ssize_t took =
	    text->calls->whole ? write_whole(&context, buf, size) : line_buffer_write(&text->lines, buf, size, &calls);
	pthread_mutex_unlock(&text->lock);
	CRASHPOINT("command_before_answer");
	if (took < 0)
		reply_handle_error(handle, req, (int)took, context.reason);
	else
		fuse_reply_write(req, (size_t)took);
}

void text_fsync(struct handle *handle, fuse_req_t req)
{
	struct text *text = (struct text *)handle;
	if (text->calls->sync)
		confirm(handle, req, text->calls->sync);
	else
		reply_quiet(req, 0);
}

bool text_owes(struct handle *handle)
{
	struct text *text = (struct text *)handle;
	pthread_mutex_lock(&text->lock);
	bool owes = text->lines.len > 0;
	pthread_mutex_unlock(&text->lock);
	return owes;
}

void text_release(struct handle *handle)
{
	struct text *text = (struct text *)handle;
	struct line_context context = { text, "" };
	const struct line_calls calls = { call_line, call_part, &context };
	int err = handle->fs->ending ? 0 : line_buffer_finish(&text->lines, &calls);
	if (err < 0) {
		char path[1024];
		reply_path(handle->fs, handle->tx, handle->object, handle->path, handle->framing, path, sizeof path);
		report_error(handle->fs, err, &handle->cred, path, context.reason);
	}
	quota_hold(handle->user, QUOTA_READ_BYTES, &text->charged, 0);
	handle_release(handle);
	line_buffer_release(&text->lines);
	buffer_release(&text->content);
	pthread_mutex_destroy(&text->lock);
	free(text);
}
