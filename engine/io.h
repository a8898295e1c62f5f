/*
 * io - the one seam through which files of a store are opened, read and changed, by the engine and by put/ of the tree.
 *
 * Every call that creates, writes, syncs, cuts, renames or removes a file of the store goes through this table, so that
 * a test can count, fail or shorten the n-th one (tests/lib/fault.h) and a recorder can replay what a power cut leaves.
 * Reads go through it too; opening what is there does not, nor does looking at names and sizes. (LMDB has its own file itself.)
 *
 * All return 0 or a count, or a negative errno; EINTR is retried inside, and io_pwrite_all writes everything or fails.
 */
#ifndef MQFS_IO_H
#define MQFS_IO_H

#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/* It failed for want of memory or descriptors, or by a signal: that says nothing of the files, and the next try may do. */
static inline bool io_wants_means(int rc)
{
	return rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE || rc == -EINTR;
}

/*
 * What an error of opening or reading says of the file: that it is not there (ESTALE: any more), is something else, or ends before, or
 * that the disk, or the file system by its own sums, cannot read it. Any other error says nothing of it, and what is in it is not given
 * up for that.
 */
static inline bool io_is_damage(int rc)
{
	switch (rc) {
	case -EIO:
	case -EILSEQ:
	case -EBADMSG:
	case -EUCLEAN:
	case -ENODATA:
	case -ENOENT:
	case -ENOTDIR:
	case -EISDIR:
	case -ELOOP:
	case -ENXIO:
	case -ESTALE: return true;
	default: return false;
	}
}

struct io_ops {
	int (*open)(int dirfd, const char *name, int flags, mode_t mode);
	int (*mkdir)(int dirfd, const char *name, mode_t mode);
	ssize_t (*pwritev)(int fd, const struct iovec *iov, int count, off_t pos);
	ssize_t (*pread)(int fd, void *buf, size_t size, off_t pos);
	int (*fdatasync)(int fd);
	int (*fsync)(int fd); /* of a directory: after create, rename, unlink */
	int (*ftruncate)(int fd, off_t size);
	int (*fallocate)(int fd, int mode, off_t pos, off_t size);
	int (*rename)(int old_dirfd, const char *old_name, int new_dirfd, const char *new_name);
	int (*unlink)(int dirfd, const char *name, int flags);
	int (*syncfs)(int fd); /* of the whole file system; an error since fd was opened, of any file of it */
	int (*fchmod)(int fd, mode_t mode);
};

/* The real ones, and those in force (a test points it elsewhere before it opens an engine). */
extern const struct io_ops io_posix;
extern const struct io_ops *io;

/* Opens a file that is there. flags: O_CLOEXEC is added. A descriptor. */
int io_open_existing(int dirfd, const char *name, int flags);

/*
 * A file without a name in a directory, for what does not outlive the process; in memory, under this name for who looks, where the file
 * system has none of these, or there is no such directory. A descriptor to write and read.
 */
int io_open_unnamed(int dirfd, const char *dir, const char *memory_name);

/* A directory that is there, to go through its names. ENOTDIR: it is something else, or a link. */
int io_open_dir(int dirfd, const char *name, DIR **ret_dir);

/* Writes all of the bytes at pos. A short write is continued; 0 or negative errno. */
int io_pwrite_all(int fd, const void *buf, size_t size, off_t pos);
int io_pwritev_all(int fd, struct iovec *iov, int count, off_t pos); /* iov is used up */

/* Reads exactly size bytes: 0; -ENODATA if the file ends before, or fd is -1; negative errno. */
int io_pread_all(int fd, void *buf, size_t size, off_t pos);

/* Writes a small file so that it is there whole or not at all, and durable: name.tmp, sync, rename, sync of the directory. */
int io_write_file(int dirfd, const char *name, const void *buf, size_t size);

#endif
