/*
 * staged - see staged.h.
 */
#include "fs/staged.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "fs/errtext.h"
#include "fs/events.h"
#include "fs/process.h"

#if defined(FUSE_CAP_PASSTHROUGH) && FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)

void staged_negotiate(struct fs *fs, struct fuse_conn_info *conn)
{
	if (!fs->staging || !(conn->capable & FUSE_CAP_PASSTHROUGH) || !fs->engine->ops->stage || geteuid() != 0) {
		fs->staging = false;
		return;
	}
	conn->want |= FUSE_CAP_PASSTHROUGH;
	conn->max_backing_stack_depth = 1;
}

/* What the kernel knows it by from now on, or the negative errno by which it refused; EIO where libfuse has kept that to itself. */
static int register_file(fuse_req_t req, int fd)
{
	errno = 0;
	int id = fuse_passthrough_open(req, fd);
	return id > 0 ? id : errno ? -errno : -EIO;
}

static void set_backing(struct fuse_file_info *fi, int32_t id)
{
	fi->backing_id = id;
}

#else

void staged_negotiate(struct fs *fs, struct fuse_conn_info *conn)
{
	(void)conn;
	fs->staging = false;
}

static int register_file(fuse_req_t req, int fd)
{
	(void)req;
	(void)fd;
	return -EOPNOTSUPP;
}

static void set_backing(struct fuse_file_info *fi, int32_t id)
{
	(void)fi;
	(void)id;
}

#endif

struct engine_stage *staged_open(struct fs *fs, const struct node *node, struct engine_producer *producer,
    unsigned flags, const struct engine_cred *cred)
{
	struct engine_stage *stage;
	if (!fs->staging || (flags & O_ACCMODE) != O_WRONLY || !(flags & O_APPEND) ||
	    (flags & (O_SYNC | O_DSYNC | O_DIRECT)))
		return NULL;
	if ((node->framing != FRAME_LINE && node->framing != FRAME_NUL) || !node_claim(fs->nodes, node->id))
		return NULL;
	if (fs->engine->ops->stage->open(producer, node->framing == FRAME_NUL ? '\0' : '\n', cred, &stage) == 0)
		return stage;
	node_unclaim(fs->nodes, node->id);
	return NULL;
}

/* Would the kernel refuse every other backing file as well? Else it was short of something, or it was this file. */
static bool is_for_good(int err)
{
	switch (err) {
	case -ENOTTY: /* it does not know the call */
	case -ENOSYS:
	case -EOPNOTSUPP: /* it was built without it */
	case -EPERM:      /* we lack CAP_SYS_ADMIN */
	case -ELOOP: /* the store is on a file system that is stacked on others */ return true;
	default: return false;
	}
}

/* From now on every write is a request. */
static void stop_staging(struct fs *fs, int err)
{
	if (!atomic_exchange(&fs->staging, false))
		return;
	atomic_store(&fs->staging_refused, err);
	events_add(fs, ENGINE_ROOT_ID, "", "the kernel takes no backing file (%s): all writes go through the daemon",
	    errtext_name(err));
}

/* What the kernel knows the file by, asking it if need be; 0: it does not know it. */
static int32_t backing_of(struct fs *fs, struct engine_stage *stage, fuse_req_t req)
{
	if (stage->backing > 0)
		return stage->backing;
	int fd = fs->engine->ops->stage->descriptor(stage);
	if (fd < 0)
		return 0;
	int id = FAILPOINT("staged_before_register");
	if (id == 0)
		id = register_file(req, fd);
	close(fd);
	if (is_for_good(id))
		stop_staging(fs, id);
	stage->backing = id > 0 ? id : 0;
	return stage->backing;
}

bool staged_pass(struct fs *fs, uint64_t node, struct engine_stage *stage, fuse_req_t req, struct fuse_file_info *fi)
{
	if (!stage) {
		set_backing(fi, node_backing(fs->nodes, node));
		return false;
	}
	int32_t id = backing_of(fs, stage, req);
	if (id == 0) {
		fs->engine->ops->stage->close(stage, true);
		node_unclaim(fs->nodes, node);
		set_backing(fi, 0);
		return false;
	}
	set_backing(fi, id);
	node_set_backing(fs->nodes, node, id);
	return true;
}

int staged_flush(struct fs *fs, struct engine_stage *stage, uint32_t pid)
{
	const struct engine_stage_ops *ops = fs->engine->ops->stage;
	struct engine_stage_part part;
	int err = ops->take(stage);
	CRASHPOINT("staged_after_take");
	if (ops->part(stage, &part) == 0 && part.len > 0 && process_is_killed(pid) &&
	    process_may_have_written(pid, part.len, part.written_ms))
		ops->drop_part(stage, part.len);
	return err;
}
