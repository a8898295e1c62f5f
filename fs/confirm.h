/*
 * confirm - fsync(2) of a file whose engine call may be answered later.
 */
#ifndef MQFS_FS_CONFIRM_H
#define MQFS_FS_CONFIRM_H

#include "fs/fuse.h"
#include "fs/handle.h"

/*
 * Answers the request with what sync says: at once, or when it completes done (ENGINE_PENDING). The handle stays open until
 * then, since the kernel closes nothing under an fsync; the end of the mount waits for it (fs_pending_wait).
 */
void confirm(struct handle *handle, fuse_req_t req, int (*sync)(struct handle *handle, struct engine_done *done));

#endif
