#include "fs/uring_queue.h"

#include <errno.h>
#include <linux/fuse.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/engine.h"
#include "fs/owed.h"
#include "fs/process.h"

#define ALONE 8u                /* requests in a row from one client: nobody else waits just now */
#define TOUCHED_MAX (16u << 20) /* bytes of payload that a queue keeps in memory */
#define NS_PER_MS INT64_C(1000000)
#define CHECK_MS 50 /* a request that is not answered by then is looked at, for a signal */
#define HINTS 4096u
#define COMMAND_REGISTER 1u /* of the kernel: enum fuse_uring_cmd */
#define COMMAND_COMMIT 2u

/* As the kernel has it, struct fuse_uring_cmd_req. */
struct ring_command {
	uint64_t flags, commit_id;
	uint16_t queue;
	uint8_t padding[6];
};

struct ring_queues uring_queues;
_Thread_local struct entry *uring_current;

/* Where a request is, by its number; may have been overwritten by another's. */
static struct entry *_Atomic hints[HINTS];

static struct entry *_Atomic *hint_of(uint64_t unique)
{
	return &hints[unique / 2 % HINTS];
}

struct entry *ring_find(uint64_t unique)
{
	if (uring_current && uring_current->queue->uniques[uring_current->index] == unique)
		return uring_current;
	struct entry *entry = atomic_load(hint_of(unique));
	if (entry && entry->queue->uniques[entry->index] == unique)
		return entry;
	for (unsigned i = 0; i < uring_queues.count; i++)
		for (unsigned j = 0; j < uring_queues.queues[i].depth; j++)
			if (atomic_load_explicit(&uring_queues.queues[i].uniques[j], memory_order_relaxed) == unique)
				return &uring_queues.queues[i].entries[j];
	return NULL;
}

void ring_wake(struct ring_queue *queue)
{
	uint64_t one = 1;
	ssize_t put = write(queue->event, &one, sizeof one);
	(void)put; /* it fails when it is woken 2^64 times over */
}

/* ------------------------------------------------------------------------------------------ to the kernel */

static void command(struct entry *entry, unsigned what, uint64_t commit_id)
{
	struct ring_queue *queue = entry->queue;
	struct ring_command command = { .commit_id = commit_id, .queue = (uint16_t)queue->number };
	struct io_uring_sqe *sqe = iouring_add(&queue->ring);
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = queue->fuse;
	sqe->cmd_op = what;
	sqe->user_data = (uintptr_t)entry;
	if (what == COMMAND_REGISTER) {
		sqe->addr = (uintptr_t)entry->iov;
		sqe->len = 2;
	}
	memcpy(sqe->cmd, &command, sizeof command);
}

static void read_event(struct ring_queue *queue)
{
	struct io_uring_sqe *sqe = iouring_add(&queue->ring);
	sqe->opcode = IORING_OP_READ;
	sqe->fd = queue->event;
	sqe->addr = (uintptr_t)&queue->event_value;
	sqe->len = sizeof queue->event_value;
}

static void touch(struct entry *entry, size_t bytes)
{
	if (bytes <= entry->touched)
		return;
	entry->queue->touched += bytes - entry->touched;
	entry->touched = bytes;
}

static void commit(struct entry *entry)
{
	touch(entry, entry->header->ent.payload);
	entry->held = false;
	entry->queue->held--;
	command(entry, COMMAND_COMMIT, entry->header->ent.commit_id);
}

static void commit_done(struct ring_queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	struct entry *done = queue->done;
	queue->done = NULL;
	pthread_mutex_unlock(&queue->lock);
	for (struct entry *next; done; done = next) {
		next = done->next;
		commit(done);
	}
}

static _Thread_local struct ring_queue *own; /* whose thread this is */

void ring_answered(struct entry *entry)
{
	struct ring_queue *queue = entry->queue;
	pthread_mutex_lock(&queue->lock);
	if (entry->parked)
		atomic_fetch_sub(&queue->parked, 1);
	entry->parked = false;
	atomic_store(&queue->uniques[entry->index], 0);
	bool first = !queue->done;
	if (own != queue) {
		entry->next = queue->done;
		queue->done = entry;
	}
	pthread_mutex_unlock(&queue->lock);
	if (own == queue)
		commit(entry);
	else if (first)
		ring_wake(queue);
}

/* --------------------------------------------------------------------------------------------- executing */

static void deliver_interrupt(uint64_t unique)
{
	struct {
		struct fuse_in_header header;
		struct fuse_interrupt_in in;
	} request = { { .opcode = FUSE_INTERRUPT, .unique = unique | 1 }, { .unique = unique } };
	request.header.len = sizeof request;
	uring_queues.calls.process(uring_queues.calls.ctx, (char *)&request, sizeof request);
}

/* True: it waits for its answer. */
static bool execute(struct entry *entry)
{
	struct ring_queue *queue = entry->queue;
	uint64_t unique = atomic_load(&queue->uniques[entry->index]);
	uring_current = entry;
	uring_queues.calls.process(uring_queues.calls.ctx, entry->request, entry->size);
	uring_current = NULL;
	if (atomic_load(&queue->uniques[entry->index]) != unique)
		return false;
	pthread_mutex_lock(&queue->lock);
	bool waits = atomic_load(&queue->uniques[entry->index]) == unique; /* else the entry may be another's already */
	bool interrupted = waits && entry->interrupted;
	if (waits)
		entry->begun = true;
	pthread_mutex_unlock(&queue->lock);
	if (interrupted)
		deliver_interrupt(unique);
	return waits;
}

void ring_work(struct job *job)
{
	execute((struct entry *)job);
}

static bool has_begun(struct entry *entry, uint64_t unique, bool interrupt)
{
	pthread_mutex_lock(&entry->queue->lock);
	bool same = atomic_load(&entry->queue->uniques[entry->index]) == unique;
	bool begun = same && entry->begun;
	if (same && interrupt)
		entry->interrupted = true;
	pthread_mutex_unlock(&entry->queue->lock);
	return begun;
}

/* All that the kernel had filled in when it sent the INTERRUPT has been taken. */
static void pass_interrupts(struct ring_queue *queue)
{
	if (!atomic_exchange(&queue->has_interrupt, false))
		return;
	for (unsigned i = 0; i < queue->depth; i++) {
		uint64_t unique = atomic_exchange(&queue->entries[i].interrupt, 0);
		if (unique && has_begun(&queue->entries[i], unique, true))
			deliver_interrupt(unique);
	}
}

static void watch_for_signal(struct ring_queue *queue)
{
	if (!queue->check_ms)
		queue->check_ms = clock_mono_ms() + CHECK_MS;
}

static void check_signals(struct ring_queue *queue)
{
	if (!queue->check_ms || clock_mono_ms() < queue->check_ms)
		return;
	queue->check_ms = 0;
	for (unsigned i = 0; i < queue->depth; i++) {
		struct entry *entry = &queue->entries[i];
		uint64_t unique = atomic_load(&queue->uniques[i]);
		if (!unique || entry->checked)
			continue;
		entry->checked = has_begun(entry, unique, false);
		if (!entry->checked)
			watch_for_signal(queue);
		else if (process_has_signal(entry->pid))
			deliver_interrupt(unique);
	}
}

/* ------------------------------------------------------------------------------------------------ taking */

/* A request is in the entry: puts it together. */
static void take(struct entry *entry)
{
	struct ring_queue *queue = entry->queue;
	struct fuse_in_header header;
	memcpy(&header, entry->header->in_out, sizeof header);
	size_t op = header.len - sizeof header - entry->header->ent.payload;
	entry->request = entry->payload - op - sizeof header;
	memcpy(entry->request, &header, sizeof header);
	memcpy(entry->request + sizeof header, entry->header->op_in, op);
	entry->size = header.len;
	entry->pid = header.pid;
	touch(entry, entry->header->ent.payload);
	entry->held = entry->used = true;
	entry->checked = false;
	queue->held++;
	pthread_mutex_lock(&queue->lock);
	entry->begun = entry->interrupted = false;
	atomic_store(&queue->uniques[entry->index], header.unique);
	pthread_mutex_unlock(&queue->lock);
	atomic_store_explicit(hint_of(header.unique), entry, memory_order_relaxed);
	if (header.opcode == FUSE_RELEASE && !atomic_load(&uring_queues.ending)) {
		execute(entry);
		return;
	}
	entry->next = NULL;
	*queue->backlog_last = entry;
	queue->backlog_last = &entry->next;
}

static void completed(struct ring_queue *queue, struct entry *entry, int result, unsigned *count)
{
	if (!entry) {
		read_event(queue);
	} else if (result < 0) {
		queue->alive--; /* the mount is gone, or the kernel never took it */
		if (!entry->used)
			uring_queues.refused();
	} else {
		++*count;
		take(entry);
	}
}

/* Takes what there is, if `wait` when there is something. Returns how many requests. */
static unsigned pump(struct ring_queue *queue, bool wait)
{
	int64_t limit_ms = wait && queue->check_ms ? queue->check_ms - clock_mono_ms() : -1;
	if (wait && queue->check_ms && limit_ms < 0)
		limit_ms = 0;
	if (iouring_wait(&queue->ring, wait, limit_ms * NS_PER_MS))
		queue->alive = 0;
	unsigned count = 0;
	uint64_t data;
	for (int result; iouring_next(&queue->ring, &data, &result);)
		completed(queue, (struct entry *)(uintptr_t)data, result, &count);
	commit_done(queue);
	return count;
}

/* ------------------------------------------------------------------------------------- settling, see owed.h */

static void tell_waiting(void)
{
	for (unsigned i = 0; i < uring_queues.count; i++)
		if (atomic_load(&uring_queues.queues[i].waiting))
			ring_wake(&uring_queues.queues[i]);
}

/* Settles the queue, if others wait for that. */
static void settle_own(struct ring_queue *queue)
{
	uint64_t asked = atomic_load(&queue->asked);
	if (asked == atomic_load(&queue->settled))
		return;
	unsigned available;
	do
		available = queue->alive - queue->held; /* with what pump() submits first */
	while (pump(queue, false) > 0);
	if (available == 0 && queue->alive > 0)
		return; /* more may wait in the kernel; again when one was given back */
	atomic_store(&queue->settled, asked);
	tell_waiting();
}

static bool are_settled(const struct ring_queue *queue)
{
	for (unsigned i = 0; i < queue->count; i++)
		if (i != queue->number && atomic_load(&uring_queues.queues[i].settled) < queue->wanted[i])
			return false;
	return true;
}

static void settle_others(struct ring_queue *queue)
{
	atomic_store(&queue->waiting, true);
	for (unsigned i = 0; i < queue->count; i++) {
		struct ring_queue *other = &uring_queues.queues[i];
		if (i == queue->number)
			continue;
		queue->wanted[i] = atomic_fetch_add(&other->asked, 1) + 1;
		ring_wake(other);
	}
	for (;;) {
		settle_own(queue);
		if (are_settled(queue) || atomic_load(&uring_queues.ending))
			break;
		pump(queue, true);
	}
	atomic_store(&queue->waiting, false);
}

/* ----------------------------------------------------------------------------------------------- serving */

static bool is_alone(struct ring_queue *queue, uint32_t client)
{
	queue->in_a_row = client == queue->client ? queue->in_a_row + 1 : 0;
	queue->client = client;
	return queue->in_a_row >= ALONE;
}

static void run(struct ring_queue *queue, struct entry *entry)
{
	for (struct entry *next; entry; entry = next) {
		next = entry->next;
		if (atomic_load(&uring_queues.ending))
			return; /* nobody gets an answer any more */
		bool waits = true;
		if (uring_queues.calls.is_quick(entry->request, entry->size, is_alone(queue, entry->pid)))
			waits = execute(entry);
		else
			crew_add(&uring_queues.crew, &entry->job);
		if (waits)
			watch_for_signal(queue);
		if (next)
			iouring_submit(&queue->ring); /* who has an answer need not wait for the others */
		settle_own(queue);
	}
}

/* Gives back memory that large payloads have used. What the kernel has can only be filled by iouring_submit() and iouring_wait(). */
static void trim(struct ring_queue *queue)
{
	if (queue->touched <= TOUCHED_MAX || iouring_submit(&queue->ring) || queue->ring.unsent > 0 ||
	    iouring_has_next(&queue->ring))
		return;
	for (unsigned i = 0; i < queue->depth; i++) {
		struct entry *entry = &queue->entries[i];
		if (entry->held || entry->touched == 0 || madvise(entry->payload, PAYLOAD, MADV_DONTNEED))
			continue;
		queue->touched -= entry->touched;
		entry->touched = 0;
	}
}

void ring_serve(struct ring_queue *queue)
{
	own = queue;
	for (unsigned i = 0; i < queue->depth; i++)
		command(&queue->entries[i], COMMAND_REGISTER, 0);
	queue->alive = queue->depth;
	read_event(queue);
	while (!atomic_load(&uring_queues.quit)) {
		bool ending = atomic_load(&uring_queues.ending);
		if (ending && !queue->idle) {
			queue->idle = true;
			uring_queues.idle();
		}
		pump(queue, !queue->backlog || ending);
		if (ending)
			continue;
		settle_own(queue);
		pass_interrupts(queue);
		struct entry *batch = queue->backlog;
		queue->backlog = NULL;
		queue->backlog_last = &queue->backlog;
		if (batch && owed_any())
			settle_others(queue);
		run(queue, batch);
		check_signals(queue);
		trim(queue);
	}
}

/* -------------------------------------------------------------------------------------------------- life */

static void init_entry(struct ring_queue *queue, unsigned index, size_t page)
{
	struct entry *entry = &queue->entries[index];
	entry->queue = queue;
	entry->index = index;
	entry->header = (struct ring_header *)(void *)(queue->memory + index * queue->stride);
	entry->payload = queue->memory + index * queue->stride + page;
	entry->iov[0] = (struct iovec){ entry->header, sizeof *entry->header };
	entry->iov[1] = (struct iovec){ entry->payload, PAYLOAD };
}

static unsigned depth_of(const struct ring_queue *queue)
{
	unsigned depth = DEPTH_ALL / queue->count;
	return depth > DEPTH_MAX ? DEPTH_MAX : depth < DEPTH_MIN ? DEPTH_MIN : depth;
}

int ring_open(struct ring_queue *queue)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	cpu_set_t *set = CPU_ALLOC(queue->count);
	queue->depth = DEPTH_ABSENT;
	if (set) {
		CPU_ZERO_S(CPU_ALLOC_SIZE(queue->count), set);
		CPU_SET_S(queue->number, CPU_ALLOC_SIZE(queue->count), set);
		if (sched_setaffinity(0, CPU_ALLOC_SIZE(queue->count), set) == 0)
			queue->depth = depth_of(queue);
		CPU_FREE(set);
	}
	queue->backlog_last = &queue->backlog;
	queue->stride = page + PAYLOAD;
	queue->wanted = calloc(queue->count, sizeof *queue->wanted);
	queue->uniques = calloc(queue->depth, sizeof *queue->uniques);
	queue->entries = calloc(queue->depth, sizeof *queue->entries);
	queue->event = eventfd(0, EFD_CLOEXEC);
	if (queue->event < 0)
		return -errno;
	if (!queue->wanted || !queue->uniques || !queue->entries)
		return -ENOMEM;
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	char *memory = mmap(NULL, queue->stride * queue->depth, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (memory == MAP_FAILED)
		return -errno;
	madvise(memory, queue->stride * queue->depth, MADV_NOHUGEPAGE); /* what is not used is not there */
	queue->memory = memory;
	for (unsigned i = 0; i < queue->depth; i++)
		init_entry(queue, i, page);
	return iouring_open(&queue->ring, queue->depth + 1);
}

void ring_close(struct ring_queue *queue)
{
	iouring_close(&queue->ring);
	if (queue->memory)
		munmap(queue->memory, queue->stride * queue->depth);
	if (queue->event >= 0)
		close(queue->event);
	free(queue->wanted);
	free((void *)queue->uniques);
	free(queue->entries);
	pthread_mutex_destroy(&queue->lock);
}
