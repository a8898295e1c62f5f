/*
 * open - opening files that are no part of the tree: of /proc, of the store's directory.
 */
#ifndef MQFS_FS_OPEN_H
#define MQFS_FS_OPEN_H

#include <sys/types.h>

/* open(2), once more when a signal came in between: what is not read then is taken not to be there. O_CLOEXEC is added. A descriptor, or -errno. */
int open_file(const char *path, int flags, mode_t mode);

#endif
