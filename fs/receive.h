/*
 * receive - waits for the next request of the kernel, looking for a moment before it sleeps.
 *
 * Who writes and waits for the answer, writes the next as soon as he has it. If his processor is not ours, each answer and
 * each request wakes one that sleeps, which takes longer than all else (20 us each on a virtual machine). So if requests
 * have come at such distances, a reader looks for the next one for a while (busy_poll, as that of sockets in socket(7)) and
 * need not be woken. Who is on our own processor is not: he comes at once, or not before we sleep.
 */
#ifndef MQFS_RECEIVE_H
#define MQFS_RECEIVE_H

#include <stdbool.h>
#include <stdint.h>

struct fuse_buf;
struct fuse_session;

#define BUSY_POLL_DEFAULT 30u /* us */
#define BUSY_POLL_MAX 1000ul  /* us */

/* Of the reader: one thread at a time. */
struct receive {
	struct fuse_session *fuse;
	int flags;           /* of /dev/fuse */
	int64_t look_ns;     /* how long to look; 0: never */
	unsigned apart;      /* requests in a row for which it paid to look, or would have */
	int64_t rests_until; /* CLOCK_MONOTONIC, ns: others want the processor, so that nobody looks */
};

/* After fuse_session_mount(). busy_poll: us; 0, and where there is but one processor: sleeps at once. */
void receive_init(struct receive *receive, struct fuse_session *fuse, unsigned busy_poll);

/* As fuse_session_receive_buf(): bytes, 0 at the end, -EINTR after a signal, or another error. */
int receive_request(struct receive *receive, struct fuse_buf *buf);

/*
 * What it goes by. How long somebody slept until a request came; whether there was one when he looked, and how long the last step of
 * that took: who looks uses up his share of the processor, and if others want it is put behind them when a request comes.
 */
void receive_slept(struct receive *receive, int64_t waited_ns);
void receive_looked(struct receive *receive, bool found, int64_t now, int64_t step_ns);
bool receive_looks(const struct receive *receive, int64_t now);

#endif
