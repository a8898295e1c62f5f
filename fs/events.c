#include "fs/events.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/parked.h"
#include "fs/reply.h"
#include "fs/ring.h"

#define EVENTS_KEPT 1024u
#define WINDOW_KEPT 4096u /* bytes of earlier lines a reader may seek back over */

struct events {
	struct ring ring;
	pthread_mutex_t lock; /* readers, and everything in them */
	struct event_reader *readers;
};

struct event_reader {
	struct handle handle;
	uint64_t next;        /* number of the next line */
	struct buffer window; /* bytes window_start.. of the file */
	off_t window_start;
	struct parked_list parked;
	struct fuse_pollhandle *poll;
	struct event_reader *next_reader, **link;
};

struct events *events_new(void)
{
	struct events *events = calloc(1, sizeof *events);
	if (!events)
		return NULL;
	if (ring_init(&events->ring, EVENTS_KEPT)) {
		free(events);
		return NULL;
	}
	pthread_mutex_init(&events->lock, NULL);
	return events;
}

void events_free(struct events *events)
{
	if (!events)
		return;
	ring_release(&events->ring);
	pthread_mutex_destroy(&events->lock);
	free(events);
}

/* Adds the lines that came since to the window. True: there were some. Call with the lock held. */
static bool refill_locked(struct event_reader *reader)
{
	struct buffer *window = &reader->window;
	uint64_t lost = 0;
	if (window->len > WINDOW_KEPT) {
		size_t drop = window->len - WINDOW_KEPT;
		memmove(window->ptr, window->ptr + drop, WINDOW_KEPT);
		window->len = WINDOW_KEPT;
		reader->window_start += (off_t)drop;
	}
	struct buffer lines = BUFFER_INIT;
	int count = ring_read(&reader->handle.fs->events->ring, reader->next, 0, &lines, &reader->next, &lost);
	if (lost > 0)
		buffer_printf(window, "%llu events lost: the reader was too slow\n", (unsigned long long)lost);
	buffer_add(window, lines.ptr, lines.len);
	buffer_release(&lines);
	return count > 0;
}

/* 1: answered; 0: nothing there yet. Call with the lock held. */
static int serve_locked(struct event_reader *reader, fuse_req_t req, size_t size, off_t offset)
{
	off_t end = reader->window_start + (off_t)reader->window.len;
	if (offset < reader->window_start || offset > end)
		return -ESPIPE;
	if (offset == end && !refill_locked(reader))
		return 0;
	size_t skip = (size_t)(offset - reader->window_start);
	size_t left = reader->window.len - skip;
	fuse_reply_buf(req, reader->window.ptr + skip, left < size ? left : size);
	return 1;
}

static void serve_parked_locked(struct event_reader *reader)
{
	struct parked *parked;
	while ((parked = parked_take(&reader->parked)) != NULL) {
		int got = serve_locked(reader, parked->req, parked->size, parked->offset);
		if (got == 0) {
			got = parked_return(parked);
			if (got == 0)
				return;
		}
		if (got < 0)
			reply_quiet(parked->req, got);
		parked_free(parked);
	}
}

void events_add_line(struct fs *fs, const char *line)
{
	struct events *events = fs->events;
	if (ring_add(&events->ring, line, strlen(line), NULL))
		return;
	pthread_mutex_lock(&events->lock);
	for (struct event_reader *reader = events->readers; reader; reader = reader->next_reader) {
		serve_parked_locked(reader);
		if (reader->poll) {
			fuse_lowlevel_notify_poll(reader->poll);
			fuse_pollhandle_destroy(reader->poll);
			reader->poll = NULL;
		}
	}
	pthread_mutex_unlock(&events->lock);
}

void events_add(struct fs *fs, uint64_t object, const char *path, const char *format, ...)
{
	char line[RING_LINE_MAX], where[700], shown[700], what[256], time_text[32] = "";
	const int64_t now_ms = clock_wall_ms();
	const time_t now = now_ms / 1000;
	struct tm tm;
	va_list args;
	va_start(args, format);
	vsnprintf(what, sizeof what, format, args);
	va_end(args);
	if (gmtime_r(&now, &tm))
		strftime(time_text, sizeof time_text, "%Y-%m-%dT%H:%M:%S", &tm);
	reply_path(fs, 0, object, path, FRAME_LINE, where, sizeof where);
	name_escape(where, strlen(where), shown, sizeof shown);
	snprintf(line, sizeof line, "%s.%03ldZ %s: %s", time_text, (long)(now_ms % 1000), *shown ? shown : "/", what);
	events_add_line(fs, line);
}

static int events_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	if ((flags & O_ACCMODE) != O_RDONLY)
		return engine_explain(-EPERM, "it can only be read");
	struct event_reader *reader = calloc(1, sizeof *reader);
	if (!reader)
		return -ENOMEM;
	int err = handle_init(&reader->handle, fs, node, flags, cred);
	if (err) {
		free(reader);
		return err;
	}
	struct events *events = fs->events;
	parked_list_init(&reader->parked, &events->lock, reader->handle.user, fs->patience);
	reader->next = ring_end(&events->ring);
	pthread_mutex_lock(&events->lock);
	reader->link = &events->readers;
	reader->next_reader = events->readers;
	if (reader->next_reader)
		reader->next_reader->link = &reader->next_reader;
	events->readers = reader;
	pthread_mutex_unlock(&events->lock);
	*ret_handle = &reader->handle;
	return 0;
}

static void events_read(struct handle *handle, fuse_req_t req, size_t size, off_t offset, unsigned flags)
{
	struct event_reader *reader = (struct event_reader *)handle;
	pthread_mutex_lock(&handle->fs->events->lock);
	int got = serve_locked(reader, req, size, offset);
	if (got == 0)
		got = flags & O_NONBLOCK ? -EAGAIN : parked_add(&reader->parked, req, size, offset);
	pthread_mutex_unlock(&handle->fs->events->lock);
	if (got == -EDQUOT) /* told as an event, too: without the lock */
		reply_handle_error(handle, req, got, NULL);
	else if (got < 0)
		reply_quiet(req, got);
}

static unsigned events_poll(struct handle *handle, struct fuse_pollhandle *ph)
{
	struct event_reader *reader = (struct event_reader *)handle;
	pthread_mutex_lock(&handle->fs->events->lock);
	if (ph && reader->poll)
		fuse_pollhandle_destroy(reader->poll);
	if (ph)
		reader->poll = ph;
	bool ready = ring_end(&handle->fs->events->ring) > reader->next;
	pthread_mutex_unlock(&handle->fs->events->lock);
	return ready ? POLLIN | POLLRDNORM : 0;
}

static void events_release(struct handle *handle)
{
	struct event_reader *reader = (struct event_reader *)handle;
	pthread_mutex_lock(&handle->fs->events->lock);
	*reader->link = reader->next_reader;
	if (reader->next_reader)
		reader->next_reader->link = reader->link;
	for (struct parked *parked; (parked = parked_take(&reader->parked)) != NULL; parked_free(parked))
		reply_quiet(parked->req, EINTR); /* only when the mount ends */
	pthread_mutex_unlock(&handle->fs->events->lock);
	if (reader->poll)
		fuse_pollhandle_destroy(reader->poll);
	handle_release(handle);
	buffer_release(&reader->window);
	free(reader);
}

const struct file_class class_events = {
	.open = events_open,
	.read = events_read,
	.poll = events_poll,
	.release = events_release,
};
