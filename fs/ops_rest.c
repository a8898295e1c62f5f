/*
 * ops_rest - operations that have a short answer: what the tree does not have is refused with the errno that programs
 * expect, never with ENOSYS.
 */
#include <errno.h>
#include <string.h>

#include "fs/class.h"
#include "fs/ops.h"
#include "fs/reply.h"

#define BLOCK 4096u

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = request_fs(req);
	uint64_t total = 0, left = 0;
	(void)ino;
	int err = fs->engine->ops->space(fs->engine, &total, &left);
	if (err) {
		reply_quiet(req, err);
		return;
	}
	const struct statvfs st = { .f_bsize = BLOCK,
		.f_frsize = BLOCK,
		.f_blocks = total / BLOCK,
		.f_bfree = left / BLOCK,
		.f_bavail = left / BLOCK,
		.f_namemax = ENGINE_KEY_MAX };
	fuse_reply_statfs(req, &st);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino;
	(void)datasync;
	(void)fi;
	reply_quiet(req, 0); /* what mkdir, rmdir and rename did was on disk when they returned */
}

/*
 * cp -p, mv and tar set the ACL that says the same as the mode: accepted where a file is being made. Elsewhere there are
 * no extended attributes.
 */
static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	const struct node *node = node_find(request_fs(req)->nodes, ino);
	(void)name;
	(void)value;
	(void)size;
	(void)flags;
	reply_quiet(req, node->row->what == FILE_SPOOL ? 0 : EOPNOTSUPP);
}

/*
 * The one ENOSYS there is: the kernel then says EOPNOTSUPP itself, and for the life of the mount. Else it asks before each
 * write to a staging file whether the file has capabilities to lose, which makes the write ten times as long.
 */
static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	(void)ino;
	(void)name;
	(void)size;
	reply_quiet(req, ENOSYS);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	(void)ino;
	if (size == 0)
		fuse_reply_xattr(req, 0);
	else
		fuse_reply_buf(req, NULL, 0);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	(void)ino;
	(void)name;
	reply_quiet(req, ENODATA);
}

static void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi, unsigned flags,
    const void *in, size_t in_size, size_t out_size)
{
	(void)ino;
	(void)cmd;
	(void)arg;
	(void)fi;
	(void)flags;
	(void)in;
	(void)in_size;
	(void)out_size;
	reply_quiet(req, ENOTTY);
}

static void op_fallocate(
    fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
	const struct node *node = node_find(request_fs(req)->nodes, ino);
	(void)mode;
	(void)offset;
	(void)length;
	(void)fi;
	/* Whoever is told EOPNOTSUPP may write zeros instead, and in a channel these are messages. */
	reply_quiet(req, node->row->what == FILE_SPOOL ? EOPNOTSUPP : EPERM);
}

/* The kernel then copies by reading and writing. */
static void op_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t in_offset, struct fuse_file_info *in_fi,
    fuse_ino_t out, off_t out_offset, struct fuse_file_info *out_fi, size_t size, int flags)
{
	(void)in;
	(void)in_offset;
	(void)in_fi;
	(void)out;
	(void)out_offset;
	(void)out_fi;
	(void)size;
	(void)flags;
	reply_quiet(req, EOPNOTSUPP);
}

void ops_rest_fill(struct fuse_lowlevel_ops *ops)
{
	ops->statfs = op_statfs;
	ops->fsyncdir = op_fsyncdir;
	ops->setxattr = op_setxattr;
	ops->getxattr = op_getxattr;
	ops->listxattr = op_listxattr;
	ops->removexattr = op_removexattr;
	ops->ioctl = op_ioctl;
	ops->fallocate = op_fallocate;
	ops->copy_file_range = op_copy_file_range;
}
