/*
 * fuse - the one place that says which libfuse we speak to, and what it can do.
 */
#ifndef MQFS_FS_FUSE_H
#define MQFS_FS_FUSE_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#endif
