/*
 * reader - an open file that gives messages: next, wait, out, stream, log.json, log.nul.
 *
 * A read that goes on where the last one ended gets new messages: a small one (under BULK bytes) at most one message, so
 * that a shell that reads 4 KiB and seeks back over what it did not want was given no more than it used; a larger one as
 * many whole messages as are there and fit. What was given stays in the window, the text of the last answer, from which
 * a read of any size or a seek back gets the same bytes again. A file whose content is fixed at open (out, log.json)
 * can also be read again from the start: the messages are fetched anew. A large answer is not kept as window.
 *
 * Where the messages come from is a struct source: a consumer of a group, or a plain walk over a partition. Reads that find
 * nothing and may wait are parked (parked.h), and the engine's waiter serves them from the thread that produced.
 *
 * Of a queue, a process that dies of a signal with the file still open may never have seen what it was given last: the answer
 * and the signal cross. So what this opening gave it goes back at once (given.h); what a stream gave does so at any closing.
 *
 * The reader is freed by whoever drops the last reference: the open file has one, an armed waiter another, since its wake
 * may be under way when the file is closed.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "fs/buffer.h"
#include "fs/class.h"
#include "fs/find.h"
#include "fs/given.h"
#include "fs/parked.h"
#include "fs/process.h"
#include "fs/quota.h"
#include "fs/reader.h"
#include "fs/render.h"
#include "fs/reply.h"

#define BULK (64u << 10) /* a read of this size gets many messages */
/* Longest answer kept for reading it again; one message is kept whatever its size. */
#define WINDOW_KEPT QUOTA_READ_FREE

struct reader {
	struct engine_waiter waiter; /* first: reader_wake finds the reader by it */
	struct handle handle;
	struct engine_object *object;     /* group, or topic for a log */
	struct engine_consumer *consumer; /* NULL: a walk over the partition from `position` to `end` */
	uint64_t position, end;           /* lock */
	bool waits, single;               /* wait and stream; next and wait */
	char topic[FIND_RECORD_NAME_MAX]; /* or queue; for JSON */
	pthread_mutex_t lock;             /* everything below */
	struct parked_list parked;
	struct fuse_pollhandle *poll;   /* to be told when there is something */
	struct buffer window;           /* bytes window_start.. of the file */
	off_t window_start, window_end; /* _end: where new messages go; the window may be empty before it */
	off_t served_end;               /* up to where a read has been answered */
	bool given_one;                 /* single: had its message */
	bool bulky;                     /* the last answer was too long to be kept, and so the next may be */
	struct given given;             /* of a queue */
	uint32_t reader_pid;            /* who read last */
	bool armed, closed;
	unsigned refs;
	struct engine_scratch scratch;
	uint64_t charged; /* of window and scratch, to who opened the file */
	bool holds;       /* held, in scratch, was fetched and could not be rendered, for want of memory */
	struct engine_view held;
};

static struct reader *reader_of(struct handle *handle)
{
	return (struct reader *)((char *)handle - offsetof(struct reader, handle));
}

static const struct engine_ops *ops_of(const struct reader *reader)
{
	return reader->handle.fs->engine->ops;
}

/* ------------------------------------------------------------------------------------------------- source */

static int walk_fetch(struct reader *reader, uint32_t max_count, struct engine_view *ret_view)
{
	for (;;) {
		if (reader->position >= reader->end)
			return 0;
		uint64_t left = reader->end - reader->position;
		uint32_t count = left < max_count ? (uint32_t)left : max_count;
		int err = ops_of(reader)->partition_read(
		    reader->object, reader->handle.partition, reader->position, count, &reader->scratch, ret_view);
		if (err == -EIO) { /* damaged and reported; what comes after is still good */
			reader->position = ret_view->offset + ret_view->batch.count;
			continue;
		}
		if (err)
			return err;
		reader->position = ret_view->offset + ret_view->batch.count;
		return 1;
	}
}

/* As consumer_fetch: 1, 0 or an error. */
static int fetch(struct reader *reader, uint32_t max_count, size_t max_bytes, struct engine_view *ret_view)
{
	if (reader->holds) {
		*ret_view = reader->held;
		reader->holds = false;
		return 1;
	}
	if (reader->single && reader->given_one)
		return 0;
	int got = reader->consumer ? ops_of(reader)->consumer_fetch(
					 reader->consumer, max_count, max_bytes, &reader->scratch, ret_view)
				   : walk_fetch(reader, max_count, ret_view);
	if (got == 1)
		reader->given_one = true;
	if (got == 1 && ret_view->deliveries && !(reader->waits && !reader->single))
		given_add(&reader->given, ret_view);
	return got;
}

static int start_walk(struct reader *reader)
{
	struct engine_partition_stat stat;
	int err = ops_of(reader)->partition_stat(reader->object, reader->handle.partition, &stat);
	if (err)
		return err;
	reader->position = stat.earliest;
	reader->end = stat.end;
	return 0;
}

/* Starts over, for a seek back beyond the window. */
static int start_over(struct reader *reader)
{
	if (reader->waits || reader->single)
		return -ESPIPE;
	int err = reader->consumer ? ops_of(reader)->consumer_rewind(reader->consumer) : start_walk(reader);
	if (err)
		return err;
	reader->holds = false;
	reader->window_start = reader->window_end = 0;
	buffer_release(&reader->window);
	return 0;
}

/* ------------------------------------------------------------------------------------------------- reading */

/* Fetches what comes next to the end of out, if that is where the engine can put it as it is to be read, and else renders it there. */
static int fetch_to(struct reader *reader, uint32_t most, size_t room, struct buffer *out)
{
	struct engine_view view;
	bool lend = reader->bulky && reader->handle.framing == FRAME_LINE && !reader->holds;
	reader->scratch.lent = lend ? buffer_room(out, room) : NULL;
	reader->scratch.lent_size = room;
	int got = fetch(reader, most, room, &view);
	char *lent = reader->scratch.lent;
	reader->scratch.lent = NULL;
	if (got <= 0)
		return got;
	size_t before = out->len;
	if (lent && view.batch.data == lent) {
		out->len += view.batch.len;
		return 1;
	}
	int err = render_view(reader->handle.framing, &view, reader->topic, 0, view.batch.count, out);
	if (!err)
		return 1;
	out->len = before; /* it is given already, so the next read has to have it */
	reader->held = view;
	reader->holds = true;
	return err;
}

/*
 * Appends messages to out: one, or (bulk) as many whole ones as fit into size. 1: some; 0: none there. An error after
 * the first is left for the next read to meet.
 */
static int gather(struct reader *reader, size_t size, bool bulk, struct buffer *out)
{
	bool some = false;
	if (bulk && reader->waits)
		size--; /* the kernel asks for more if an answer is full, and would wait with this one in its hands */
	do {
		size_t room = size - out->len;
		uint32_t most = bulk ? UINT32_MAX : 1;
		if (bulk && reader->handle.framing == FRAME_JSON) /* longer than its payload, by at least this */
			room /= 4, most = (uint32_t)(room / 48) + 1;
		int got = fetch_to(reader, most, room, out);
		if (got <= 0)
			return some ? 1 : got;
		some = true;
	} while (bulk && out->len + BULK / 2 < size);
	return 1;
}

/* Answers from the window what of it lies at offset. */
static void reply_window(struct reader *reader, fuse_req_t req, size_t size, off_t offset)
{
	size_t skip = (size_t)(offset - reader->window_start);
	size_t left = reader->window.len - skip;
	size_t count = left < size ? left : size;
	if (offset + (off_t)count > reader->served_end)
		reader->served_end = offset + (off_t)count;
	CRASHPOINT("read_before_answer");
	fuse_reply_buf(req, reader->window.ptr + skip, count);
}

/* Makes text, which begins at window_end, the new window. */
static void advance_window(struct reader *reader, struct buffer *text)
{
	struct buffer old = reader->window;
	reader->window = *text;
	*text = old;
	reader->window_start = reader->window_end;
	reader->window_end += (off_t)reader->window.len;
}

/*
 * Gets new messages and answers with them: 1. 0: there are none now, the window stays, and the request is still to be
 * answered. Call with the lock held, and offset at window_end.
 */
static int serve_new(struct reader *reader, fuse_req_t req, size_t size)
{
	bool bulk = size >= BULK && !reader->single;
	struct buffer text = BUFFER_INIT;
	int got = quota_room(reader->handle.user, QUOTA_READ_BYTES, reader->charged);
	if (got == 0)
		got = gather(reader, size, bulk, &text);
	if (got <= 0)
		goto out;
	off_t offset = reader->window_end;
	advance_window(reader, &text);
	bool whole = reader->window.len <= size;
	reader->bulky = bulk && whole && reader->window.len > WINDOW_KEPT;
	reply_window(reader, req, size, offset);
	if (reader->bulky) { /* too much to keep for each of a thousand readers */
		buffer_release(&reader->window);
		reader->window_start = reader->window_end;
	} else if (reader->window.cap > WINDOW_KEPT) { /* there was room for a long one */
		buffer_fit(&reader->window);
	}
out:
	buffer_release(&text);
	return got;
}

/* Goes forward over messages that a seek jumps over, after a start over. */
static int skip_to(struct reader *reader, off_t offset)
{
	while (offset > reader->window_end) {
		struct buffer text = BUFFER_INIT;
		int got = gather(reader, BULK, true, &text);
		if (got > 0)
			advance_window(reader, &text);
		buffer_release(&text);
		if (got <= 0)
			return got;
	}
	return 1;
}

/* Gives back what was needed for a long message only, and has what is kept of it charged to who opened the file. */
static void account(struct reader *reader)
{
	if (!reader->holds && reader->scratch.size > QUOTA_READ_FREE)
		engine_scratch_release(&reader->scratch);
	size_t window = reader->window.cap, scratch = reader->scratch.size;
	size_t bytes = (window > QUOTA_READ_FREE ? window : 0) + (scratch > QUOTA_READ_FREE ? scratch : 0);
	if (bytes != reader->charged)
		quota_hold(reader->handle.user, QUOTA_READ_BYTES, &reader->charged, bytes);
}

static int answer(struct reader *reader, fuse_req_t req, size_t size, off_t offset)
{
	if (offset < reader->window_start) {
		int err = start_over(reader);
		if (err)
			return err;
	}
	if (offset > reader->window_end && reader->waits)
		return -ESPIPE;
	if (offset > reader->window_end) {
		int got = skip_to(reader, offset);
		if (got <= 0)
			return got;
	}
	if (offset < reader->window_end) {
		reply_window(reader, req, size, offset);
		return 1;
	}
	return serve_new(reader, req, size);
}

/* Tries to answer: 1 done, 0 nothing there, or an error to answer with. Call with the lock held. */
static int serve(struct reader *reader, fuse_req_t req, size_t size, off_t offset)
{
	int got = answer(reader, req, size, offset);
	account(reader);
	return got;
}

static bool at_end(const struct reader *reader)
{
	return !reader->waits || (reader->single && reader->given_one);
}

/* ------------------------------------------------------------------------------------------------- waiting */

static void unref_locked(struct reader *reader)
{
	bool last = --reader->refs == 0;
	pthread_mutex_unlock(&reader->lock);
	if (!last)
		return;
	ops_of(reader)->consumer_close(reader->consumer);
	ops_of(reader)->put(reader->object);
	buffer_release(&reader->window);
	given_release(&reader->given);
	engine_scratch_release(&reader->scratch);
	pthread_mutex_destroy(&reader->lock);
	free(reader);
}

/* 0: a wake will come; 1: there is something now; or an error. Call with the lock held. */
static int arm_locked(struct reader *reader)
{
	if (reader->armed)
		return 0;
	int ready = ops_of(reader)->consumer_arm(reader->consumer, &reader->waiter);
	if (ready == 0) {
		reader->armed = true;
		reader->refs++;
	}
	return ready;
}

/* Answers parked reads as long as there is something for them; the others stay. Call with the lock held. */
static void serve_parked_locked(struct reader *reader)
{
	struct parked *parked;
	while ((parked = parked_take(&reader->parked)) != NULL) {
		int got = serve(reader, parked->req, parked->size, parked->offset);
		if (got == 0 && at_end(reader)) {
			fuse_reply_buf(parked->req, NULL, 0);
			got = 1;
		}
		int ready = got == 0 ? arm_locked(reader) : 0;
		if (got == 0 && ready >= 0) {
			got = parked_return(parked);
			if (got == 0 && ready == 0)
				return;
			if (got == 0)
				continue; /* something came meanwhile */
			reply_quiet(parked->req, got);
		} else if (got < 0 || ready < 0) {
			reply_handle_error(&reader->handle, parked->req, got < 0 ? got : ready, NULL);
		}
		parked_free(parked);
	}
}

static void notify_poll_locked(struct reader *reader)
{
	if (!reader->poll)
		return;
	fuse_lowlevel_notify_poll(reader->poll);
	fuse_pollhandle_destroy(reader->poll);
	reader->poll = NULL;
}

static void reader_wake(struct engine_waiter *waiter)
{
	struct reader *reader = (struct reader *)waiter; /* its first member */
	pthread_mutex_lock(&reader->lock);
	reader->armed = false;
	if (!reader->closed) {
		serve_parked_locked(reader);
		notify_poll_locked(reader);
	}
	unref_locked(reader);
}

static void park(struct reader *reader, fuse_req_t req, size_t size, off_t offset)
{
	int err = parked_add(&reader->parked, req, size, offset);
	if (err == -EINTR) {
		reply_quiet(req, err);
		return;
	}
	if (err) {
		reply_handle_error(&reader->handle, req, err, NULL);
		return;
	}
	int ready = arm_locked(reader);
	if (ready != 0) /* something came meanwhile, or the group is gone */
		serve_parked_locked(reader);
}

void reader_read(struct handle *handle, fuse_req_t req, size_t size, off_t offset, unsigned flags)
{
	struct reader *reader = reader_of(handle);
	pthread_mutex_lock(&reader->lock);
	reader->reader_pid = request_cred(req).pid;
	int got = serve(reader, req, size, offset);
	if (got == 0 && at_end(reader))
		fuse_reply_buf(req, NULL, 0);
	else if (got == 0 && (flags & O_NONBLOCK)) {
		reply_quiet(req, EAGAIN);
		if (reader->poll && arm_locked(reader) != 0) /* an edge-triggered poller does not ask again */
			notify_poll_locked(reader);
	} else if (got == 0)
		park(reader, req, size, offset);
	else if (got < 0)
		reply_handle_error(handle, req, got, NULL);
	pthread_mutex_unlock(&reader->lock);
}

static unsigned reader_poll(struct handle *handle, struct fuse_pollhandle *ph)
{
	struct reader *reader = reader_of(handle);
	unsigned ready = POLLIN | POLLRDNORM;
	pthread_mutex_lock(&reader->lock);
	bool unread = reader->window_end > reader->served_end;
	if (!unread && !at_end(reader) && arm_locked(reader) == 0)
		ready = 0;
	if (ph && reader->poll)
		fuse_pollhandle_destroy(reader->poll);
	if (ph)
		reader->poll = ph;
	pthread_mutex_unlock(&reader->lock);
	return ready;
}

/* ------------------------------------------------------------------------------------------ opening, closing */

static int open_source(struct reader *reader, const struct node *node, uint32_t uid, bool log)
{
	struct fs *fs = reader->handle.fs;
	int err = fs->engine->ops->get(fs->engine, node->object, &reader->object);
	if (!err)
		err = find_record_name(fs, node->object, reader->topic);
	if (err)
		return err;
	if (log)
		return start_walk(reader);
	bool take = reader->handle.arg == READER_TAKE;
	enum engine_consume how = take ? ENGINE_CONSUME_ONE : (enum engine_consume)reader->handle.arg;
	struct engine_identity identity;
	err = fs->engine->ops->identity(reader->object, &identity);
	if (err)
		return err;
	if (identity.kind == ENGINE_QUEUE || identity.kind == ENGINE_CONSUMER)
		return fs->engine->ops->queue->consumer_open(reader->object, how, take, uid, &reader->consumer);
	if (how == ENGINE_CONSUME_WAIT)
		how = ENGINE_CONSUME_ONE;
	return fs->engine->ops->consumer_open(reader->object, node->partition, how, &reader->consumer);
}

int reader_open(struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, bool log,
    struct handle **ret_handle)
{
	if ((flags & O_ACCMODE) != O_RDONLY)
		return engine_explain(-EPERM, "it gives messages and takes none: open it for reading only");
	struct reader *reader = calloc(1, sizeof *reader);
	if (!reader)
		return -ENOMEM;
	pthread_mutex_init(&reader->lock, NULL);
	reader->waiter.wake = reader_wake;
	reader->refs = 1;
	reader->waits = !log && (node->row->arg == ENGINE_CONSUME_STREAM || node->row->arg == ENGINE_CONSUME_WAIT);
	reader->single = !log && (node->row->arg == ENGINE_CONSUME_ONE || node->row->arg == ENGINE_CONSUME_WAIT ||
				     node->row->arg == READER_TAKE);
	int err = handle_init(&reader->handle, fs, node, flags, cred);
	if (err)
		goto err_reader;
	parked_list_init(&reader->parked, &reader->lock, reader->handle.user, fs->patience);
	err = open_source(reader, node, cred->uid, log);
	if (err)
		goto err_handle;
	*ret_handle = &reader->handle;
	return 0;

err_handle:
	handle_release(&reader->handle);
err_reader:
	reader->handle.fs = fs;
	pthread_mutex_lock(&reader->lock);
	unref_locked(reader);
	return err;
}

static int consuming_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	return reader_open(fs, node, flags, cred, false, ret_handle);
}

static int reader_flush(struct handle *handle, uint32_t pid)
{
	struct reader *reader = reader_of(handle);
	pthread_mutex_lock(&reader->lock);
	uint32_t last = given_some(&reader->given) ? reader->reader_pid : 0;
	pthread_mutex_unlock(&reader->lock);
	if (last == 0 || !process_is_killed(pid) || !process_is_same(pid, last))
		return 0;
	struct engine_object *queue;
	uint64_t consumer;
	if (find_queue(reader->object, &queue, &consumer))
		return 0;
	pthread_mutex_lock(&reader->lock);
	given_back(&reader->given, queue, reader->object);
	pthread_mutex_unlock(&reader->lock);
	ops_of(reader)->put(queue);
	return 0;
}

void reader_release(struct handle *handle)
{
	struct reader *reader = reader_of(handle);
	pthread_mutex_lock(&reader->lock);
	reader->closed = true;
	for (struct parked *parked; (parked = parked_take(&reader->parked)) != NULL; parked_free(parked))
		reply_quiet(
		    parked->req, EINTR); /* only when the mount ends: else the kernel closes nothing that is read */
	if (reader->poll)
		fuse_pollhandle_destroy(reader->poll);
	reader->poll = NULL;
	quota_hold(handle->user, QUOTA_READ_BYTES, &reader->charged, 0); /* both go with the last reference */
	bool armed = reader->armed;
	pthread_mutex_unlock(&reader->lock);
	bool disarmed = armed && ops_of(reader)->consumer_disarm(reader->consumer, &reader->waiter);
	handle_release(handle);
	pthread_mutex_lock(&reader->lock);
	if (disarmed)
		reader->refs--; /* the waiter's; else its wake drops it */
	unref_locked(reader);
}

const struct file_class class_reader = {
	.open = consuming_open,
	.read = reader_read,
	.flush = reader_flush,
	.release = reader_release,
	.poll = reader_poll,
};
