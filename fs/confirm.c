#include "fs/confirm.h"

#include <errno.h>
#include <stdlib.h>

#include "fs/reply.h"

struct waiting {
	struct engine_done done; /* first: synced finds the rest by it */
	struct handle *handle;
	fuse_req_t req;
};

static void synced(struct engine_done *done, int result)
{
	struct waiting waiting = *(struct waiting *)done;
	struct fs *fs = waiting.handle->fs;
	free(done);
	if (result < 0) /* the answer comes last: then the file may be closed under our feet */
		reply_handle_error(waiting.handle, waiting.req, result, NULL);
	else
		reply_quiet(waiting.req, 0);
	fs_pending_end(fs);
}

void confirm(struct handle *handle, fuse_req_t req, int (*sync)(struct handle *handle, struct engine_done *done))
{
	struct waiting *waiting = malloc(sizeof *waiting);
	if (!waiting) {
		reply_handle_error(handle, req, -ENOMEM, NULL);
		return;
	}
	*waiting = (struct waiting){ { synced }, handle, req };
	fs_pending_begin(handle->fs);
	int result = sync(handle, &waiting->done);
	if (result != ENGINE_PENDING)
		synced(&waiting->done, result);
}
