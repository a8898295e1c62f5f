/*
 * exchange - bindings as symbolic links: bindings/PATTERN/NAME leads to the directory of a queue, topic or exchange.
 *
 * What a link says is worked out when it is read, from the id of what is bound: so it is right whatever is renamed. What
 * is written is taken as the path it is, without following links: relative to the link, or absolute below the mount.
 */
#ifndef MQFS_FS_EXCHANGE_H
#define MQFS_FS_EXCHANGE_H

#include <sys/stat.h>

#include "fs/fs.h"
#include "fs/fuse.h"
#include "fs/node.h"

#define EXCHANGE_LINK_MAX (ENGINE_NAME_MAX + 64u)

/* mkdir and rmdir in bindings/. */
int exchange_add_pattern(struct fs *fs, const struct node *parent, const char *pattern);
int exchange_remove_pattern(struct fs *fs, const struct node *parent, const char *pattern);

/*
 * ln -s in a pattern. EINVAL: it does not lead to a queue, topic or exchange of this mount; ENOENT: there is none of that name;
 * EACCES: whoever binds may not produce there.
 */
int exchange_bind(fuse_req_t req, const struct node *parent, const char *name, const char *target);
int exchange_unbind(struct fs *fs, const struct node *parent, const char *name);
/* mv in a pattern, and so ln -sf: what has the new name is replaced. */
int exchange_rename(struct fs *fs, const struct node *parent, const char *name, const char *new_name, bool replace);

/*
 * Whether a setting (dead.letter.to, alternate.exchange) may name "queues/NAME" or "exchanges/NAME", to which messages then go as
 * by a binding: EACCES if whoever writes it, or whoever opened it, may not produce there; of what is not there, make it.
 */
int exchange_may_name(fuse_req_t req, const struct engine_cred *opener, const char *path);

/* An object has another name: the kernel, which keeps what links say, is told of those that lead to it. */
void exchange_renamed(struct fs *fs, uint64_t object);

/* Of the node of a binding. */
int exchange_read_link(struct fs *fs, const struct node *node, char ret_target[EXCHANGE_LINK_MAX]);
int exchange_link_attr(struct fs *fs, const struct node *node, struct stat *st);

#endif
