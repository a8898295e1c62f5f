/*
 * helper - what mount(8) and umount(8) call: mount.mqfs, mount.fuse.mqfs, umount.mqfs, umount.fuse.mqfs.
 *
 * The four names lead to one program, which looks at the one it was called by. mount(8) calls
 *
 *	mount.mqfs SPEC DIR [-sfnv] [-N namespace] [-o options] [-t type]
 *
 * with the flags after the operands, and hands our exit status on as its own; umount(8) the same with DIR [-flnrv].
 */
#ifndef MQFS_HELPERS_HELPER_H
#define MQFS_HELPERS_HELPER_H

/*
 * Mounts: checks everything that can be checked, takes away a dead mount that is in the way, waits for a daemon of the
 * store that is about to end, starts the program, and returns when that has said that the mount answers.
 */
int helper_mount(int argc, char **argv);

/*
 * Unmounts, and returns only when the daemon has ended: the store is then at rest, and can be copied or mounted again. When the
 * mount is busy, says who uses it.
 */
int helper_umount(int argc, char **argv);

#endif
