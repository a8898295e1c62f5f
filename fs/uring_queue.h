/*
 * uring_queue - one queue of uring.h: its entries, its thread, and how it is settled (owed.h).
 */
#ifndef MQFS_FS_URING_QUEUE_H
#define MQFS_FS_URING_QUEUE_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "fs/crew.h"
#include "fs/iouring.h"
#include "fs/uring.h"

#define DEPTH_MAX 2048u /* entries of a processor: so many of all together, and yet not fewer than MIN of each */
#define DEPTH_MIN 512u
#define DEPTH_ALL 4096u
#define DEPTH_ABSENT 80u   /* of one that is not there: the kernel wants a queue for each that may ever be */
#define DEPTH_KEPT 64u     /* of these, for what does not wait */
#define PAYLOAD (1u << 20) /* bytes of a request or an answer, beside its headers: the kernel's limit */

/* As the kernel has it, struct fuse_uring_req_header. */
struct ring_header {
	uint64_t in_out[16]; /* fuse_in_header, then fuse_out_header; both have the number second */
	uint64_t op_in[16];
	struct {
		uint64_t flags, commit_id;
		uint32_t payload, padding;
		uint64_t reserved;
	} ent;
};

struct ring_queue;

struct entry {
	struct job job; /* first: of the crew */
	struct ring_queue *queue;
	unsigned index;
	struct ring_header *header;
	char *payload; /* behind the header's page: what a request has before its payload is put together there */
	struct iovec iov[2];
	/* of the queue's thread */
	char *request;        /* what we have: the bytes, as a read of /dev/fuse would give them */
	size_t size, touched; /* touched: bytes of payload that are in memory */
	uint32_t pid;
	bool held;    /* we have it */
	bool used;    /* the kernel has taken it */
	bool checked; /* for a signal */
	/* by lock */
	bool begun;       /* libfuse knows of the request */
	bool interrupted; /* tell it when it does */
	bool parked;
	struct entry *next;         /* backlog (of the thread) or done (by lock) */
	_Atomic uint64_t interrupt; /* the number of the request to interrupt */
};

struct ring_queue {
	unsigned number, depth, count; /* count: of queues */
	int fuse, event;
	uint64_t event_value;
	pthread_t thread;
	struct iouring ring;
	char *memory;
	size_t stride;
	/* of the thread */
	unsigned alive, held; /* entries: that the kernel knows; of these, that we have */
	size_t touched;
	struct entry *backlog, **backlog_last;
	uint32_t client;
	unsigned in_a_row;
	int64_t check_ms; /* when to look for signals; 0: not needed */
	uint64_t *wanted; /* of each queue, while others are being settled */
	bool idle;
	pthread_mutex_t lock; /* done, and what is said above; a leaf */
	struct entry *done;
	_Atomic unsigned parked;
	_Atomic bool has_interrupt, waiting;
	_Atomic uint64_t asked, settled;
	_Atomic uint64_t *uniques; /* of each entry: the request it has; 0: none, or it is answered */
	struct entry *entries;
};

/* What the queues of a mount share. */
struct ring_queues {
	struct ring_queue *queues;
	unsigned count;
	struct uring_calls calls;
	struct crew crew;
	_Atomic bool ending, quit;
	void (*refused)(void); /* the kernel does not take an entry */
	void (*idle)(void);    /* a thread executes nothing more: ending */
};
extern struct ring_queues uring_queues;

extern _Thread_local struct entry *uring_current; /* that the thread executes */

/* The thread calls both before it serves. -errno. */
int ring_open(struct ring_queue *queue);
void ring_serve(struct ring_queue *queue);
void ring_close(struct ring_queue *queue);

void ring_wake(struct ring_queue *queue);
struct entry *ring_find(uint64_t unique); /* NULL: it is none's */
/* The answer is in the entry. Any thread, once. */
void ring_answered(struct entry *entry);
void ring_work(struct job *job); /* of the crew */

#endif
