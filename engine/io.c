/*
 * io - the real system calls behind the seam, and the loops around them. See io.h.
 *
 * EINTR is retried here, so that no caller has to know of signals. A write that wrote nothing and gave no error would
 * make the loops spin; it is told as EIO.
 */
#include "engine/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RETRY(type, call)                                                                                              \
	type rc;                                                                                                       \
	do                                                                                                             \
		rc = (call);                                                                                           \
	while (rc < 0 && errno == EINTR);                                                                              \
	return rc < 0 ? -errno : rc

static int posix_open(int dirfd, const char *name, int flags, mode_t mode)
{
	RETRY(int, openat(dirfd, name, flags | O_CLOEXEC | O_NOFOLLOW, mode));
}

static int posix_mkdir(int dirfd, const char *name, mode_t mode)
{
	RETRY(int, mkdirat(dirfd, name, mode));
}

static ssize_t posix_pwritev(int fd, const struct iovec *iov, int count, off_t pos)
{
	RETRY(ssize_t, pwritev(fd, iov, count, pos));
}

static ssize_t posix_pread(int fd, void *buf, size_t size, off_t pos)
{
	RETRY(ssize_t, pread(fd, buf, size, pos));
}

static int posix_fdatasync(int fd)
{
	RETRY(int, fdatasync(fd));
}

static int posix_fsync(int fd)
{
	RETRY(int, fsync(fd));
}

static int posix_ftruncate(int fd, off_t size)
{
	RETRY(int, ftruncate(fd, size));
}

static int posix_fallocate_(int fd, int mode, off_t pos, off_t size)
{
	RETRY(int, fallocate(fd, mode, pos, size));
}

static int posix_rename(int old_dirfd, const char *old_name, int new_dirfd, const char *new_name)
{
	RETRY(int, renameat(old_dirfd, old_name, new_dirfd, new_name));
}

static int posix_unlink(int dirfd, const char *name, int flags)
{
	RETRY(int, unlinkat(dirfd, name, flags));
}

static int posix_syncfs(int fd)
{
	RETRY(int, syncfs(fd));
}

static int posix_fchmod(int fd, mode_t mode)
{
	RETRY(int, fchmod(fd, mode));
}

const struct io_ops io_posix = {
	.open = posix_open,
	.mkdir = posix_mkdir,
	.pwritev = posix_pwritev,
	.pread = posix_pread,
	.fdatasync = posix_fdatasync,
	.fsync = posix_fsync,
	.ftruncate = posix_ftruncate,
	.fallocate = posix_fallocate_,
	.rename = posix_rename,
	.unlink = posix_unlink,
	.syncfs = posix_syncfs,
	.fchmod = posix_fchmod,
};
const struct io_ops *io = &io_posix;

int io_open_existing(int dirfd, const char *name, int flags)
{
	RETRY(int, openat(dirfd, name, flags | O_CLOEXEC));
}

int io_open_unnamed(int dirfd, const char *dir, const char *memory_name)
{
	int fd = io->open(dirfd, dir, O_TMPFILE | O_RDWR, 0600);

	if (fd != -EOPNOTSUPP && fd != -EISDIR && fd != -ENOENT)
		return fd;
	fd = memfd_create(memory_name, MFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int io_open_dir(int dirfd, const char *name, DIR **ret_dir)
{
	int rc, fd = io_open_existing(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);

	if (fd < 0)
		return fd;
	*ret_dir = fdopendir(fd);
	if (*ret_dir != NULL)
		return 0;
	rc = -errno;
	close(fd);
	return rc;
}

int io_pwrite_all(int fd, const void *buf, size_t size, off_t pos)
{
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = size };

	return io_pwritev_all(fd, &iov, 1, pos);
}

int io_pwritev_all(int fd, struct iovec *iov, int count, off_t pos)
{
	while (count > 0) {
		if (iov->iov_len == 0) {
			iov++;
			count--;
			continue;
		}
		ssize_t n = io->pwritev(fd, iov, count < IOV_MAX ? count : IOV_MAX, pos);
		if (n <= 0)
			return n < 0 ? (int)n : -EIO;
		pos += n;
		for (size_t left = (size_t)n; left > 0;) {
			size_t take = left < iov->iov_len ? left : iov->iov_len;
			iov->iov_base = (char *)iov->iov_base + take;
			iov->iov_len -= take;
			left -= take;
			if (iov->iov_len == 0) {
				iov++;
				count--;
			}
		}
	}
	return 0;
}

int io_pread_all(int fd, void *buf, size_t size, off_t pos)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = fd < 0 ? 0 : io->pread(fd, (char *)buf + done, size - done, pos + (off_t)done);

		if (n <= 0)
			return n < 0 ? (int)n : -ENODATA;
		done += (size_t)n;
	}
	return 0;
}

int io_write_file(int dirfd, const char *name, const void *buf, size_t size)
{
	char tmp[NAME_MAX + 1];
	int rc, fd;

	if ((size_t)snprintf(tmp, sizeof(tmp), "%s.tmp", name) >= sizeof(tmp))
		return -ENAMETOOLONG;
	fd = io->open(dirfd, tmp, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		return fd;
	rc = io_pwrite_all(fd, buf, size, 0);
	if (!rc)
		rc = io->fsync(fd);
	close(fd);
	if (!rc)
		rc = io->rename(dirfd, tmp, dirfd, name);
	if (rc) {
		io->unlink(dirfd, tmp, 0);
		return rc;
	}
	return io->fsync(dirfd);
}
