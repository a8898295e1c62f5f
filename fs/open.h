/*
 * open - reading files that are no part of the tree: of /proc, the lock of a store.
 */
#ifndef MQFS_FS_OPEN_H
#define MQFS_FS_OPEN_H

/* Once more when a signal came in between: what is not read then is taken not to be there. A descriptor, or -errno. */
int open_file(const char *path);

#endif
