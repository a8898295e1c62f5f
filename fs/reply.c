#include "fs/reply.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/errors.h"
#include "fs/errtext.h"
#include "fs/events.h"
#include "fs/find.h"
#include "fs/ring.h"

#define PATH_SHOWN 600u /* bytes of a path in a line of status/errors, escaped */

struct fs *request_fs(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

struct engine_cred request_cred(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	return (struct engine_cred){ .uid = ctx->uid, .gid = ctx->gid, .pid = (uint32_t)ctx->pid };
}

/* Path of an object's directory below the mount: "?" for what is gone. The tree of objects is four deep. */
static void object_path(struct fs *fs, uint64_t id, char *ret, size_t size)
{
	static const char *const directory[ENGINE_KIND_COUNT] = { [ENGINE_TOPIC] = "topics/",
		[ENGINE_GROUP] = "groups/",
		[ENGINE_QUEUE] = "queues/",
		[ENGINE_CONSUMER] = "consumers/",
		[ENGINE_EXCHANGE] = "exchanges/",
		[ENGINE_MEMBER] = "members/",
		[ENGINE_TX] = "tx/" };
	struct engine_identity self;
	char above[4 * ENGINE_NAME_MAX + 64];
	if (find_identity(fs, id, &self)) {
		snprintf(ret, size, "?");
		return;
	}
	*ret = '\0';
	if (self.kind == ENGINE_STORE)
		return;
	object_path(fs, self.parent_id, above, sizeof above);
	bool dlq = self.kind == ENGINE_QUEUE && self.parent_id != ENGINE_ROOT_ID;
	int length =
	    snprintf(ret, size, "%s%s%s%s", above, *above ? "/" : "", dlq ? "" : directory[self.kind], self.name);
	if (length < 0 || (size_t)length >= size)
		snprintf(ret, size, "..."); /* cannot be: there is room for four names */
}

void reply_path(
    struct fs *fs, uint64_t tx, uint64_t object, const char *path, enum framing framing, char *ret, size_t size)
{
	char above[ENGINE_NAME_MAX + 64] = "", directory[4 * ENGINE_NAME_MAX + 64];
	if (tx != 0)
		object_path(fs, tx, above, sizeof above);
	object_path(fs, object, directory, sizeof directory);
	snprintf(ret, size, "%s%s%s%s%s%s", above, *above && (*directory || *path) ? "/" : "", directory,
	    *directory && *path ? "/" : "", path, name_suffix(framing));
}

void report_error(struct fs *fs, int err, const struct engine_cred *cred, const char *path, const char *sentence)
{
	char time_text[32] = "", path_text[PATH_SHOWN], line[RING_LINE_MAX];
	const int64_t now_ms = clock_wall_ms();
	const time_t now = now_ms / 1000;
	struct tm tm;
	if (gmtime_r(&now, &tm))
		strftime(time_text, sizeof time_text, "%Y-%m-%dT%H:%M:%S", &tm);
	name_escape(path, strlen(path), path_text, sizeof path_text);
	if (!sentence || !*sentence)
		sentence = errtext_sentence(err);
	int length = snprintf(line, sizeof line, "%s.%03ldZ %s uid=%u pid=%u %s: %s", time_text, (long)(now_ms % 1000),
	    errtext_name(err), cred->uid, cred->pid, path_text, sentence);
	size_t size = length < 0 ? 0 : (size_t)length;
	if (size >= sizeof line)
		size = sizeof line - 1;
	errors_add(fs->errors, cred->uid, line, size); /* without memory there is no line; the errno was still told */
	events_add_line(fs, line);
}

void reply_quiet(fuse_req_t req, int err)
{
	fuse_reply_err(req, err < 0 ? -err : err);
}

void reply_error(fuse_req_t req, int err, const char *path, const char *sentence)
{
	char reason[256];
	struct engine_cred cred = request_cred(req);
	snprintf(reason, sizeof reason, "%s", sentence ? sentence : engine_reason());
	report_error(request_fs(req), err, &cred, path, reason);
	reply_quiet(req, err);
}

void reply_node_error(fuse_req_t req, int err, const struct node *node, const char *name, const char *sentence)
{
	char path[1024], reason[256];
	snprintf(reason, sizeof reason, "%s", sentence ? sentence : engine_reason());
	reply_path(request_fs(req), node->tx, node->object, node->path, node->framing, path, sizeof path);
	if (name && *name) {
		size_t length = strlen(path);
		snprintf(path + length, sizeof path - length, "%s%s", length ? "/" : "", name);
	}
	reply_error(req, err, path, reason);
}

void reply_handle_error(struct handle *handle, fuse_req_t req, int err, const char *sentence)
{
	char path[1024], reason[256];
	snprintf(reason, sizeof reason, "%s", sentence ? sentence : engine_reason());
	reply_path(handle->fs, handle->tx, handle->object, handle->path, handle->framing, path, sizeof path);
	reply_error(req, err, path, reason);
}
