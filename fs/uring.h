/*
 * uring - requests by io_uring instead of reads of /dev/fuse (Linux 6.14): a queue for each processor, which the thread of ours that is
 * bound there serves. A client and who answers it are on one processor then, and neither wakes another one.
 *
 * An entry of a queue is room for one request and its answer. The kernel has it, and fills it with a request; then we have it, until
 * the answer is committed, which gives it back. Only the queue's own thread talks to the kernel. It executes what is quick itself. What is not
 * goes to a crew (crew.h); an answer that another thread gives (of the crew; of who produced for a read that waits) is put on
 * the queue's list, and its thread is woken by an eventfd. libfuse knows nothing of this: its answers come to uring_answer(), which
 * finds the entry by the request's number. owed.h tells how closing stays in order.
 *
 * A read that waits holds its entry; so that the processor is served further, only so many may wait (uring_park).
 *
 * INTERRUPT comes by /dev/fuse. The kernel sends it once the request is in its entry, where we may not have seen it yet; so
 * the entry is found by what the kernel wrote there, and the queue's thread tells libfuse when it has begun with the request. A signal that
 * comes before the kernel has filled the entry is never told of. So of each request that is not answered soon, /proc is asked once
 * whether its process has a signal.
 *
 * What follows is at most once per process, and does nothing before uring_start.
 */
#ifndef MQFS_FS_URING_H
#define MQFS_FS_URING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "fs/fuse.h"

struct uring_calls {
	/* Executes a request, of which the bytes are the caller's again when it returns; it is answered then or later. */
	void (*process)(void *ctx, char *request, size_t size);
	/* May the queue's thread do it? alone: nobody else had one on this processor for some time. */
	bool (*is_quick)(const char *request, size_t size, bool alone);
	void *ctx;
};

/*
 * Makes the queues and their threads, and a crew of so many. The session must be mounted and not served yet. On failure the
 * mount is as it would be without, and uring_state() has the reason.
 */
void uring_start(struct fuse_session *session, unsigned crew, const struct uring_calls *calls);

/* What the kernel's FUSE_INIT says, before it is answered: false is that it does not have this, or that it is switched off. */
void uring_offered(bool offered);

/* Sends an answer, as writev(2) to /dev/fuse does. */
ssize_t uring_answer(int fd, struct iovec *iov, int count, void *userdata);

/* How requests come, in words: "io_uring", or "/dev/fuse" and perhaps why. */
const char *uring_state(void);
bool uring_is_active(void);

/* An INTERRUPT of a request. False: it did not come by a queue. */
bool uring_interrupt(uint64_t unique);

/* The request that the calling thread executes is going to wait. EDQUOT, with engine_reason(): too many do. */
int uring_park(void);

/* Waits until no request is executed any more, and none will be. Answers can still be given. */
void uring_quiesce(void);

/* Ends the threads: after uring_quiesce, before the session is destroyed. Nobody answers any more. */
void uring_stop(void);

#endif
