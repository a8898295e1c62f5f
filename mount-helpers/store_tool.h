/*
 * store_tool - mkfs.mqfs and fsck.mqfs: one program, which looks at the name it was called by.
 *
 * mkfs(8) and fsck(8) look for these names in /sbin, call them with the store as the last argument, and hand their exit status on.
 * Unlike the mount helpers they know the storage layer of the engine, and no daemon: they take the store's lock.
 */
#ifndef MQFS_HELPERS_STORE_TOOL_H
#define MQFS_HELPERS_STORE_TOOL_H

/* Those of fsck(8); they are or'ed. mkfs.mqfs uses the first, and 1 for any failure. */
enum fsck_status {
	FSCK_OK = 0,
	FSCK_CORRECTED = 1,
	FSCK_UNCORRECTED = 4,
	FSCK_FAILED = 8, /* it could not be checked */
	FSCK_USAGE = 16,
	FSCK_CANCELLED = 32,
};

int tool_mkfs(int argc, char **argv);
int tool_fsck(int argc, char **argv);

#endif
