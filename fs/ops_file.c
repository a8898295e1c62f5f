/*
 * ops_file - the operations on open files: they find the handle and hand on to its class.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "fs/attr.h"
#include "fs/class.h"
#include "fs/ops.h"
#include "fs/owed.h"
#include "fs/quota.h"
#include "fs/reply.h"
#include "fs/uring.h"

static struct handle *request_handle(fuse_req_t req, const struct fuse_file_info *fi)
{
	struct handle *handle = handle_use(request_fs(req)->handles, fi->fh);
	owed_unmark(handle);
	return handle;
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = request_fs(req);
	const struct engine_cred cred = request_cred(req);
	const struct node *node = node_find(fs->nodes, ino);
	const struct file_class *class = node->row->class;
	struct handle *handle;
	int err = quota_look(fs->quota, cred.uid, QUOTA_HANDLES); /* before an open that shows, of a session */
	if (!err)
		err = class->open(fs, node, (unsigned)fi->flags, &cred, &handle);
	if (err) {
		reply_node_error(req, err, node, NULL, NULL);
		return;
	}
	fi->fh = handle->index;
	/* What a file gives is made for each open, or grows, or goes: the kernel keeps no pages. */
	fi->direct_io = !class->pass || !class->pass(handle, req, fi);
	CRASHPOINT("open_before_answer");
	/* One request less for each file of a grep -r: who only looked has nothing to be told at close. By io_uring it marks what is owed. */
	fi->noflush = !class->flush && (fi->flags & O_ACCMODE) == O_RDONLY && !uring_is_active();
	if (fuse_reply_open(req, fi) == -ENOENT) /* interrupted: no release will come */
		class->release(handle);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct handle *handle = request_handle(req, fi);
	(void)ino;
	if (handle->class->read)
		handle->class->read(handle, req, size, offset, (unsigned)fi->flags);
	else
		fuse_reply_buf(req, NULL, 0);
	handle_done(handle);
}

static void op_write(
    fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct handle *handle = request_handle(req, fi);
	(void)ino;
	if (handle->class->write)
		handle->class->write(handle, req, buf, size, offset);
	else
		reply_handle_error(handle, req, -EPERM, "it can only be read");
	handle_done(handle);
}

/* A descriptor was closed, perhaps by a process that is dying. Not the end of anything: others may hold it too. */
static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct handle *handle = handle_use(request_fs(req)->handles, fi->fh);
	(void)ino;
	int err = handle->class->flush ? handle->class->flush(handle, request_cred(req).pid) : 0;
	if (uring_is_active() && (!handle->class->owes || handle->class->owes(handle)))
		owed_mark(handle);
	reply_quiet(req, err);
	handle_done(handle);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct handle *handle = request_handle(req, fi);
	(void)ino;
	(void)datasync;
	if (handle->class->fsync)
		handle->class->fsync(handle, req);
	else
		reply_quiet(req, 0);
	handle_done(handle);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct handle *handle = handle_get(request_fs(req)->handles, fi->fh);
	(void)ino;
	handle_settle(handle);
	bool marked = atomic_load(&handle->owed);
	handle->class->release(handle);
	owed_paid(marked);
	reply_quiet(req, 0);
}

static void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *ph)
{
	struct handle *handle = request_handle(req, fi);
	unsigned ready = POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM;
	(void)ino;
	if (handle->class->poll)
		ready = handle->class->poll(handle, ph);
	else if (ph)
		fuse_pollhandle_destroy(ph);
	fuse_reply_poll(req, ready);
	handle_done(handle);
}

/* No file here has holes: data up to the end, and then the one at the end. */
static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi)
{
	struct stat st;
	(void)fi;
	int err = attr_get(request_fs(req), node_find(request_fs(req)->nodes, ino), &st);
	if (!err && whence != SEEK_DATA && whence != SEEK_HOLE)
		err = -EINVAL;
	if (!err && offset >= st.st_size)
		err = -ENXIO;
	if (err)
		reply_quiet(req, err);
	else
		fuse_reply_lseek(req, whence == SEEK_DATA ? offset : st.st_size);
}

void ops_file_fill(struct fuse_lowlevel_ops *ops)
{
	ops->open = op_open;
	ops->read = op_read;
	ops->write = op_write;
	ops->flush = op_flush;
	ops->fsync = op_fsync;
	ops->release = op_release;
	ops->poll = op_poll;
	ops->lseek = op_lseek;
}
