/*
 * reply - the answers to FUSE requests, and the reason behind each error.
 *
 * All errors that a user may wonder about pass here: the errno goes to the caller, and a line with the path, who it was
 * and a sentence goes to status/errors.
 */
#ifndef MQFS_FS_REPLY_H
#define MQFS_FS_REPLY_H

#include "fs/fuse.h"
#include "fs/handle.h"

struct fs *request_fs(fuse_req_t req);
struct engine_cred request_cred(fuse_req_t req);

/*
 * Path of a node below the mount, e.g. topics/orders/groups/billing/ack, and if tx is not 0 below that transaction; "?" for what was
 * removed.
 */
void reply_path(
    struct fs *fs, uint64_t tx, uint64_t object, const char *path, enum framing framing, char *ret, size_t size);

/*
 * Writes the line for status/errors. err is positive or negative; sentence may be NULL or "": then that of the errno. path is
 * below the mount.
 */
void report_error(struct fs *fs, int err, const struct engine_cred *cred, const char *path, const char *sentence);

/* Answers with an error and reports it. sentence NULL: engine_reason(), else the errno's. err: negative errno. */
void reply_error(fuse_req_t req, int err, const char *path, const char *sentence);
void reply_node_error(fuse_req_t req, int err, const struct node *node, const char *name, const char *sentence);
void reply_handle_error(struct handle *handle, fuse_req_t req, int err, const char *sentence);

/* Answers with an error that needs no line: ENOENT of a lookup, EAGAIN, EINTR, ENODATA. */
void reply_quiet(fuse_req_t req, int err);

#endif
