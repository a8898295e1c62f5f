#include "tests/lib/fault.h"

#include <pthread.h>
#include <stdatomic.h>

#include "engine/io.h"

static struct {
	unsigned ops;
	uint64_t n;
	int err;
	bool sticky;
	pthread_t thread; /* who armed it, for FAULT_MINE */
	_Atomic uint64_t count;
	const struct io_ops *real; /* what was in force before */
} fault;

static bool hit(unsigned op)
{
	if (!(fault.ops & op) || ((fault.ops & FAULT_MINE) && !pthread_equal(fault.thread, pthread_self())))
		return false;
	uint64_t count = atomic_fetch_add(&fault.count, 1) + 1;
	return fault.n && (count == fault.n || (fault.sticky && count > fault.n));
}

static int fault_open(int dirfd, const char *name, int flags, mode_t mode)
{
	return hit(FAULT_OPEN) ? -fault.err : fault.real->open(dirfd, name, flags, mode);
}

static int fault_mkdir(int dirfd, const char *name, mode_t mode)
{
	return hit(FAULT_MKDIR) ? -fault.err : fault.real->mkdir(dirfd, name, mode);
}

/* A part of it, for even n a single byte, as a signal or a nearly full disk may leave it. */
static ssize_t write_some(int fd, struct iovec part, off_t pos)
{
	if (part.iov_len > 1)
		part.iov_len = fault.n % 2 ? part.iov_len / 2 : 1;
	return fault.real->pwritev(fd, &part, 1, pos);
}

static ssize_t fault_pwritev(int fd, const struct iovec *iov, int count, off_t pos)
{
	if (hit(FAULT_WRITE)) {
		struct iovec part = *iov;

		if (fault.err == 0)
			return write_some(fd, part, pos);
		if (fault.n % 2)
			part.iov_len /= 2;
		if (part.iov_len > 0)
			fault.real->pwritev(fd, &part, 1, pos);
		return -fault.err;
	}
	return fault.real->pwritev(fd, iov, count, pos);
}

static ssize_t fault_pread(int fd, void *buf, size_t size, off_t pos)
{
	if (!hit(FAULT_READ))
		return fault.real->pread(fd, buf, size, pos);
	return fault.err ? -fault.err : fault.real->pread(fd, buf, size > 1 ? size / 2 : size, pos);
}

static int fault_fdatasync(int fd)
{
	return hit(FAULT_SYNC) ? -fault.err : fault.real->fdatasync(fd);
}

static int fault_fsync(int fd)
{
	return hit(FAULT_SYNC) ? -fault.err : fault.real->fsync(fd);
}

static int fault_ftruncate(int fd, off_t size)
{
	return hit(FAULT_TRUNCATE) ? -fault.err : fault.real->ftruncate(fd, size);
}

static int fault_fallocate(int fd, int mode, off_t pos, off_t size)
{
	return hit(FAULT_TRUNCATE) ? -fault.err : fault.real->fallocate(fd, mode, pos, size);
}

static int fault_rename(int old_dirfd, const char *old_name, int new_dirfd, const char *new_name)
{
	return hit(FAULT_RENAME) ? -fault.err : fault.real->rename(old_dirfd, old_name, new_dirfd, new_name);
}

static int fault_unlink(int dirfd, const char *name, int flags)
{
	return hit(FAULT_UNLINK) ? -fault.err : fault.real->unlink(dirfd, name, flags);
}

static int fault_syncfs(int fd)
{
	return hit(FAULT_SYNC) ? -fault.err : fault.real->syncfs(fd);
}

static int fault_fchmod(int fd, mode_t mode)
{
	return hit(FAULT_MKDIR) ? -fault.err : fault.real->fchmod(fd, mode);
}

static const struct io_ops io_fault = {
	.open = fault_open,
	.mkdir = fault_mkdir,
	.pwritev = fault_pwritev,
	.pread = fault_pread,
	.fdatasync = fault_fdatasync,
	.fsync = fault_fsync,
	.ftruncate = fault_ftruncate,
	.fallocate = fault_fallocate,
	.rename = fault_rename,
	.unlink = fault_unlink,
	.syncfs = fault_syncfs,
	.fchmod = fault_fchmod,
};

void fault_arm(unsigned ops, uint64_t n, int err, bool sticky)
{
	if (io != &io_fault)
		fault.real = io;
	fault.ops = ops;
	fault.n = n;
	fault.err = err;
	fault.sticky = sticky;
	fault.thread = pthread_self();
	atomic_store(&fault.count, 0);
	io = &io_fault;
}

uint64_t fault_disarm(void)
{
	if (io == &io_fault)
		io = fault.real;
	return atomic_load(&fault.count);
}
