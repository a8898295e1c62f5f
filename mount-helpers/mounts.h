/*
 * mounts - what is mounted where, from /proc/self/mountinfo.
 *
 * Nothing here touches a mount itself: a path on one whose daemon hangs would hang us too.
 */
#ifndef MQFS_HELPERS_MOUNTS_H
#define MQFS_HELPERS_MOUNTS_H

#include <limits.h>
#include <stdbool.h>

#define MOUNTS_TYPE "fuse.mqfs"

struct mount_row {
	char point[PATH_MAX];
	char source[PATH_MAX]; /* of our mounts: the store */
	char type[64];
	unsigned long flags;  /* MS_... of this mount */
	bool super_read_only; /* the file system itself is, not just this mount of it */
};

/* The topmost mount at a path (absolute, without links). 0, -ENOENT, or another negative errno. */
int mounts_find_point(const char *point, struct mount_row *ret_row);

/* The last mount of ours with this source. 0, -ENOENT, or another negative errno. */
int mounts_find_source(const char *source, struct mount_row *ret_row);

/* One line of mountinfo, as proc(5) has it. 0, or -EINVAL. */
int mounts_parse(char *line, struct mount_row *ret_row);

/* path made absolute and free of links in all but its last component, which may hang or be dead. 0 or negative errno. */
int mounts_resolve(const char *path, char ret_path[PATH_MAX]);

#endif
