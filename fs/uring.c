#include "fs/uring.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"
#include "fs/uring_queue.h"

#define QUEUES_MAX 1024u
#define FLAG_OVER_IO_URING (UINT64_C(1) << 41) /* of FUSE_INIT */
#define FLAG_INIT_EXT (1u << 30)               /* of FUSE_INIT: flags2 means something */

/* What the whole is doing: it only ever gets further. */
enum state { ABSENT, PREPARED, ACTIVE, FAILED };

static struct {
	pthread_mutex_t lock; /* the next four */
	pthread_cond_t changed;
	unsigned prepared, idle; /* queues */
	int err;                 /* of one that could not be prepared */
	bool decided;            /* whether they serve */
	unsigned threads;        /* not joined */
	_Atomic int state;
	_Atomic bool refused; /* by the kernel: an entry */
	bool offered;
	char reason[256];
} the = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

/* ----------------------------------------------------------------------------------------------- answers */

/* The answer to FUSE_INIT: says that we take requests by queues, and has these begin. */
static ssize_t answer_init(int fd, struct iovec *iov, int count)
{
	struct fuse_init_out *init = iov[1].iov_base;
	init->flags |= FLAG_INIT_EXT;
	init->flags2 |= (uint32_t)(FLAG_OVER_IO_URING >> 32);
	atomic_store(&the.state, ACTIVE);
	ssize_t sent = writev(fd, iov, count);
	if (sent < 0)
		return sent;
	pthread_mutex_lock(&the.lock);
	the.decided = true;
	pthread_cond_broadcast(&the.changed);
	pthread_mutex_unlock(&the.lock);
	return sent;
}

static ssize_t answer_entry(struct entry *entry, struct fuse_out_header *out, const struct iovec *iov, int count)
{
	size_t used = 0;
	for (int i = 1; i < count && !out->error; used += iov[i++].iov_len) {
		if (iov[i].iov_len > PAYLOAD - used) { /* cannot be: the kernel asks for no more */
			out->error = -EIO;
			out->len = sizeof *out;
			used = 0;
			break;
		}
		memcpy(entry->payload + used, iov[i].iov_base, iov[i].iov_len);
	}
	ssize_t len = out->len;
	/* Length and error. The number behind them stands there from the request, and uring_interrupt() looks at it. */
	memcpy(entry->header->in_out, out, offsetof(struct fuse_out_header, unique));
	entry->header->ent.payload = (uint32_t)used;
	ring_answered(entry);
	return len;
}

ssize_t uring_answer(int fd, struct iovec *iov, int count, void *userdata)
{
	struct fuse_out_header *out = iov[0].iov_base;
	struct entry *entry = NULL;
	(void)userdata;
	if (the.state == PREPARED && the.offered && !out->error && count == 2 &&
	    out->len == sizeof *out + sizeof(struct fuse_init_out))
		return answer_init(fd, iov, count);
	if (the.state == ACTIVE && out->unique && out->unique % 2 == 0)
		entry = ring_find(out->unique);
	if (entry)
		return answer_entry(entry, out, iov, count);
	return writev(fd, iov, count);
}

static ssize_t receive(int fd, void *buf, size_t size, void *userdata)
{
	(void)userdata;
	return read(fd, buf, size);
}

/* ------------------------------------------------------------------------------------- from other threads */

bool uring_interrupt(uint64_t unique)
{
	if (the.state != ACTIVE)
		return false;
	for (unsigned i = 0; i < uring_queues.count; i++) {
		struct ring_queue *queue = &uring_queues.queues[i];
		for (unsigned j = 0; j < queue->depth; j++) {
			/* Only a thread of the kernel writes there, and only before it sends what we were called for. */
			if (__atomic_load_n(&queue->entries[j].header->in_out[1], __ATOMIC_ACQUIRE) != unique)
				continue;
			atomic_store(&queue->entries[j].interrupt, unique);
			atomic_store(&queue->has_interrupt, true);
			ring_wake(queue);
			return true;
		}
	}
	return false;
}

int uring_park(void)
{
	struct entry *entry = uring_current;
	if (!entry)
		return 0;
	struct ring_queue *queue = entry->queue;
	unsigned limit = queue->depth - DEPTH_KEPT;
	int err = 0;
	pthread_mutex_lock(&queue->lock);
	if (!entry->parked && atomic_load(&queue->parked) >= limit)
		err = -EDQUOT;
	else if (!entry->parked)
		atomic_fetch_add(&queue->parked, 1);
	entry->parked = entry->parked || !err;
	pthread_mutex_unlock(&queue->lock);
	return err ? engine_explain(err, "%u reads wait on this processor, and with io_uring no more can", limit) : 0;
}

const char *uring_state(void)
{
	static const char *const words[] = { "/dev/fuse", "/dev/fuse", "io_uring", the.reason };
	return the.refused ? "/dev/fuse: the kernel refused entries of io_uring" : words[the.state];
}

bool uring_is_active(void)
{
	return the.state == ACTIVE;
}

/* -------------------------------------------------------------------------------------------------- life */

static void fail(const char *why)
{
	snprintf(the.reason, sizeof the.reason, "/dev/fuse: %s", why);
	atomic_store(&the.state, FAILED);
}

/* Not when the mount ends. Then it goes on by /dev/fuse. */
static void refused(void)
{
	if (!uring_queues.ending)
		atomic_store(&the.refused, true);
}

static void one_is_idle(void)
{
	pthread_mutex_lock(&the.lock);
	the.idle++;
	pthread_cond_broadcast(&the.changed);
	pthread_mutex_unlock(&the.lock);
}

static void *serve(void *arg)
{
	struct ring_queue *queue = arg;
	int err = ring_open(queue);
	pthread_mutex_lock(&the.lock);
	the.prepared++;
	if (err)
		the.err = err;
	pthread_cond_broadcast(&the.changed);
	while (!the.decided)
		pthread_cond_wait(&the.changed, &the.lock);
	pthread_mutex_unlock(&the.lock);
	if (!uring_queues.quit)
		ring_serve(queue);
	return NULL;
}

/* The kernel wants a queue for each processor that there may ever be. */
static unsigned possible_processors(void)
{
	char text[256] = "";
	FILE *file = fopen("/sys/devices/system/cpu/possible", "re");
	if (!file)
		return 0;
	if (!fgets(text, sizeof text, file))
		text[0] = '\0';
	fclose(file);
	char *last = text + strcspn(text, "\n"); /* 0-3, or 0,2-3: they begin with 0, and the last number is the last */
	while (last > text && last[-1] >= '0' && last[-1] <= '9')
		last--;
	return *last >= '0' && *last <= '9' ? (unsigned)strtoul(last, NULL, 10) + 1 : 0;
}

static int start_threads(unsigned crew)
{
	int err = crew_start(&uring_queues.crew, crew, ring_work);
	for (unsigned i = 0; !err && i < uring_queues.count; i++) {
		struct ring_queue *queue = &uring_queues.queues[i];
		queue->number = i;
		queue->count = uring_queues.count;
		queue->event = -1;
		pthread_mutex_init(&queue->lock, NULL);
		err = -pthread_create(&queue->thread, NULL, serve, queue);
		if (!err)
			the.threads++;
	}
	pthread_mutex_lock(&the.lock);
	while (the.prepared < the.threads)
		pthread_cond_wait(&the.changed, &the.lock);
	if (!err)
		err = the.err;
	pthread_mutex_unlock(&the.lock);
	return err;
}

void uring_start(struct fuse_session *session, unsigned crew, const struct uring_calls *calls)
{
	static const struct fuse_custom_io custom = { .writev = uring_answer, .read = receive };
	char why[128];
	unsigned count = possible_processors();
	if (count == 0 || count > QUEUES_MAX) {
		fail("it cannot be found out how many processors there are, or there are too many");
		return;
	}
	uring_queues = (struct ring_queues){ .calls = *calls, .refused = refused, .idle = one_is_idle };
	uring_queues.queues = calloc(count, sizeof *uring_queues.queues);
	uring_queues.count = uring_queues.queues ? count : 0;
	int err = uring_queues.queues ? start_threads(crew) : -ENOMEM;
	for (unsigned i = 0; !err && i < count; i++)
		uring_queues.queues[i].fuse = fuse_session_fd(session);
	if (!err)
		err = fuse_session_custom_io(session, &custom, fuse_session_fd(session));
	if (!err) {
		atomic_store(&the.state, PREPARED);
		return;
	}
	uring_stop();
	snprintf(why, sizeof why, "io_uring cannot be had: %s", strerror(-err));
	fail(why);
}

void uring_offered(bool offered)
{
	the.offered = offered;
	if (offered || the.state != PREPARED)
		return;
	uring_stop();
	fail("the kernel does not offer io_uring: it takes Linux 6.14, and Y in "
	     "/sys/module/fuse/parameters/enable_uring");
}

void uring_quiesce(void)
{
	atomic_store(&uring_queues.ending, true);
	pthread_mutex_lock(&the.lock);
	bool serving = the.decided && !uring_queues.quit;
	pthread_mutex_unlock(&the.lock);
	for (unsigned i = 0; serving && i < the.threads; i++)
		ring_wake(&uring_queues.queues[i]);
	pthread_mutex_lock(&the.lock);
	while (serving && the.idle < the.threads)
		pthread_cond_wait(&the.changed, &the.lock);
	pthread_mutex_unlock(&the.lock);
	crew_stop(&uring_queues.crew);
}

void uring_stop(void)
{
	atomic_store(&uring_queues.quit, true);
	pthread_mutex_lock(&the.lock);
	the.decided = true;
	pthread_cond_broadcast(&the.changed);
	pthread_mutex_unlock(&the.lock);
	crew_stop(&uring_queues.crew);
	for (unsigned i = 0; i < the.threads; i++) {
		ring_wake(&uring_queues.queues[i]);
		pthread_join(uring_queues.queues[i].thread, NULL);
		ring_close(&uring_queues.queues[i]);
	}
	the.threads = 0;
	uring_queues.count = 0;
	free(uring_queues.queues);
	uring_queues.queues = NULL;
	atomic_store(&the.state, ABSENT);
}
