/*
 * staged - see staged.h.
 */
#include "fs/staged.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

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

static int register_file(fuse_req_t req, int fd)
{
	return fuse_passthrough_open(req, fd);
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
	return 0;
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

/* What the kernel knows the file by, asking it if need be; 0: it will not know it, nor the next one unless we had no descriptor. */
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
	if (id <= 0)
		fs->staging = false;
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
