#include "fs/iouring.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SQE_SIZE 128u /* with room for a command */

static char *map(int fd, size_t size, off_t which)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, which);
}

static void unmap(char *memory, size_t size)
{
	if (memory && memory != MAP_FAILED)
		munmap(memory, size);
}

int iouring_open(struct iouring *ring, unsigned entries)
{
	*ring = (struct iouring){ .params.flags =
				      IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN };
	int fd = (int)syscall(SYS_io_uring_setup, entries, &ring->params);
	if (fd < 0)
		return -errno;
	ring->fd = fd;
	ring->sq_size = ring->params.sq_off.array + ring->params.sq_entries * sizeof(unsigned);
	ring->cq_size = ring->params.cq_off.cqes + ring->params.cq_entries * sizeof(struct io_uring_cqe);
	ring->sqes_size = (size_t)ring->params.sq_entries * SQE_SIZE;
	ring->sq = map(fd, ring->sq_size, IORING_OFF_SQ_RING);
	ring->cq = map(fd, ring->cq_size, (off_t)IORING_OFF_CQ_RING);
	ring->sqes = map(fd, ring->sqes_size, (off_t)IORING_OFF_SQES);
	if (ring->sq != MAP_FAILED && ring->cq != MAP_FAILED && ring->sqes != MAP_FAILED)
		return 0;
	iouring_close(ring);
	return -ENOMEM;
}

void iouring_close(struct iouring *ring)
{
	unmap(ring->sq, ring->sq_size);
	unmap(ring->cq, ring->cq_size);
	unmap(ring->sqes, ring->sqes_size);
	if (ring->fd > 0)
		close(ring->fd);
	*ring = (struct iouring){ 0 };
}

static unsigned *number(char *memory, unsigned offset)
{
	return (unsigned *)(void *)(memory + offset);
}

struct io_uring_sqe *iouring_add(struct iouring *ring)
{
	unsigned *tail = number(ring->sq, ring->params.sq_off.tail);
	unsigned slot = *tail & *number(ring->sq, ring->params.sq_off.ring_mask);
	number(ring->sq, ring->params.sq_off.array)[slot] = slot;
	struct io_uring_sqe *sqe = (struct io_uring_sqe *)(void *)(ring->sqes + (size_t)slot * SQE_SIZE);
	memset(sqe, 0, SQE_SIZE);
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE); /* read at the next system call, not before */
	ring->unsent++;
	return sqe;
}

static int enter(struct iouring *ring, unsigned wanted, unsigned flags, void *arg, size_t size)
{
	long sent = syscall(SYS_io_uring_enter, ring->fd, ring->unsent, wanted, flags, arg, size);
	if (sent > 0)
		ring->unsent -= (unsigned)sent;
	return sent < 0 ? -errno : 0;
}

int iouring_submit(struct iouring *ring)
{
	return ring->unsent > 0 ? enter(ring, 0, 0, NULL, 0) : 0;
}

int iouring_wait(struct iouring *ring, bool wait, int64_t timeout_ns)
{
	struct __kernel_timespec limit = { .tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000 };
	struct io_uring_getevents_arg arg = { .ts = (uintptr_t)&limit };
	int err = timeout_ns >= 0 ? enter(ring, wait, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof arg)
				  : enter(ring, wait, IORING_ENTER_GETEVENTS, NULL, 0);
	return err == -EINTR || err == -ETIME || err == -EAGAIN || err == -EBUSY ? 0 : err;
}

bool iouring_has_next(const struct iouring *ring)
{
	return *number(ring->cq, ring->params.cq_off.head) !=
	       __atomic_load_n(number(ring->cq, ring->params.cq_off.tail), __ATOMIC_ACQUIRE);
}

bool iouring_next(struct iouring *ring, uint64_t *ret_data, int *ret_result)
{
	if (!iouring_has_next(ring))
		return false;
	unsigned *head = number(ring->cq, ring->params.cq_off.head);
	unsigned slot = *head & *number(ring->cq, ring->params.cq_off.ring_mask);
	const struct io_uring_cqe *cqe =
	    (const struct io_uring_cqe *)(const void *)(ring->cq + ring->params.cq_off.cqes) + slot;
	*ret_data = cqe->user_data;
	*ret_result = cqe->res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return true;
}
