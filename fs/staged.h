/*
 * staged - the fast path of a channel: its writes go to a staging file of the engine (engine_stage.h) without a request
 * to this program, by what the kernel calls passthrough.
 *
 * Taken are openings with O_WRONLY and O_APPEND and without O_SYNC, O_DSYNC and O_DIRECT, of plain and .nul channels of
 * topics that linger. Every other opening, and every one where passthrough cannot be had (a kernel before 6.9, a libfuse before
 * 3.17, not root, a store on an overlay of overlays), has the same semantics write by write. What decides is asked at each opening,
 * cheapest first. Of what the kernel refuses, only that turns the fast path off for the mount which it would refuse of every file; where it is short of
 * something, or of descriptors, that one opening goes write by write, and the next one asks again. What the kernel finds after our answer (that
 * it has no memory to open the file) is EIO of that open(2), whoever answers what.
 *
 * The kernel keeps one backing file for a node that is open. Every lookup of a channel makes a node of its own (TREE_FRESH),
 * so only an opening through /dev/stdout or /proc/PID/fd meets a node that has one. That opening has to name the same file, but
 * with direct I/O, which sends its writes to the daemon; and as a send takes in what is staged first, its messages come after
 * those that were written before. To read and write at once it is refused: mmap would reach the file itself.
 *
 * What the daemon does not see is who wrote. When a process dies of a signal, its half message is to go with it, and that
 * of another holder of the file to stay. The part is taken for the dying process's if that was there when the part was
 * written, and has written at least as many bytes, to whatever file.
 */
#ifndef MQFS_FS_STAGED_H
#define MQFS_FS_STAGED_H

#include "fs/fuse.h"
#include "fs/handle.h"

/* While the mount is negotiated: asks the kernel for passthrough. wanted: unless the user said no. */
void staged_negotiate(struct fs *fs, struct fuse_conn_info *conn);

/* A staging file for an opening, or NULL: write by write. */
struct engine_stage *staged_open(struct fs *fs, const struct node *node, struct engine_producer *producer,
    unsigned flags, const struct engine_cred *cred);

/*
 * Before the answer to an opening of node id. With a staging file: tells the kernel to send its writes there; false if it does
 * not, and nobody has the file then. Without one (stage NULL): false, and fi is as the node needs it.
 */
bool staged_pass(struct fs *fs, uint64_t node, struct engine_stage *stage, fuse_req_t req, struct fuse_file_info *fi);

/* A descriptor was closed by process pid, which may be dying. 0, or what is to be told. */
int staged_flush(struct fs *fs, struct engine_stage *stage, uint32_t pid);

#endif
