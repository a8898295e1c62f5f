/*
 * holder - consumers/NAME/session and members/NAME/session: as long as it is open for writing, the consumer's leases last,
 * and the member is one of its group.
 *
 * A shell opens it once (exec 9>session) and keeps it. Its leases go back the instant the one who opened it exits,
 * however it dies, even if a child has inherited the descriptor and lives on: so it is not the release that ends the
 * session but the flush that the kernel sends when an exiting process closes its files (process_is_ending). A flush of
 * a process that is not the opener, or not exiting, means nothing. Whoever opens it for reading only holds nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>

#include "fs/class.h"
#include "fs/process.h"
#include "fs/reply.h"

struct holder {
	struct handle handle;
	pthread_mutex_t lock;
	struct engine_session *session; /* lock; NULL: for reading, or over */
	void (*close)(struct engine_session *session);
};

static int open_session(struct holder *holder, struct fs *fs, uint64_t id)
{
	const struct engine_ops *ops = fs->engine->ops;
	struct engine_identity identity;
	struct engine_object *object;
	int err = ops->get(fs->engine, id, &object);
	if (err)
		return err;
	err = ops->identity(object, &identity);
	bool member = !err && identity.kind == ENGINE_MEMBER;
	holder->close = member ? ops->member->session_close : ops->queue->session_close;
	if (!err)
		err = member ? ops->member->session_open(object, &holder->session)
			     : ops->queue->session_open(object, &holder->session);
	ops->put(object);
	return err;
}

static int holder_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	struct holder *holder = calloc(1, sizeof *holder);
	if (!holder)
		return -ENOMEM;
	pthread_mutex_init(&holder->lock, NULL);
	int err = (flags & O_ACCMODE) == O_RDONLY ? 0 : open_session(holder, fs, node->object);
	if (!err)
		err = handle_init(&holder->handle, fs, node, flags, cred);
	if (err) {
		if (holder->session)
			holder->close(holder->session);
		pthread_mutex_destroy(&holder->lock);
		free(holder);
		return err;
	}
	*ret_handle = &holder->handle;
	return 0;
}

static void end_session(struct holder *holder)
{
	pthread_mutex_lock(&holder->lock);
	struct engine_session *session = holder->session;
	holder->session = NULL;
	pthread_mutex_unlock(&holder->lock);
	if (session)
		holder->close(session);
}

/* What is written there is nobody's business. */
static void holder_write(struct handle *handle, fuse_req_t req, const char *buf, size_t size, off_t offset)
{
	(void)buf;
	(void)offset;
	(void)handle;
	fuse_reply_write(req, size);
}

static int holder_flush(struct handle *handle, uint32_t pid)
{
	if (process_is_ending(pid) && process_is_same(pid, handle->cred.pid))
		end_session((struct holder *)handle);
	return 0;
}

static void holder_release(struct handle *handle)
{
	struct holder *holder = (struct holder *)handle;
	end_session(holder);
	handle_release(handle);
	pthread_mutex_destroy(&holder->lock);
	free(holder);
}

const struct file_class class_session = {
	.open = holder_open,
	.write = holder_write,
	.flush = holder_flush,
	.release = holder_release,
};
