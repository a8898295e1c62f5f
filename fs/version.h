/*
 * version - of the program.
 */
#ifndef MQFS_FS_VERSION_H
#define MQFS_FS_VERSION_H

#define MQFS_VERSION "0.1.0"

#endif
