#include "fs/patience.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/engine.h"
#include "fs/open.h"
#include "fs/parked.h"

#define LEAST_S 15   /* a shorter limit is this one (FUSE_TIMEOUT_TIMER_FREQ of the kernel) */
#define AGAIN_MS 100 /* one that somebody has just then, and may give back */

struct patience {
	pthread_mutex_t lock; /* the rest; a leaf */
	pthread_cond_t changed;
	struct parked *first, **last; /* in the order in which they came, and so in that in which they are due */
	int64_t ms;
	bool begun, over;
	pthread_t thread;
};

static long read_seconds(const char *directory, const char *name)
{
	char path[256], text[32];
	snprintf(path, sizeof path, "%s/%s", directory, name);
	int fd = open_file(path);
	if (fd < 0)
		return 0; /* an older kernel: there is no limit */
	ssize_t got = read(fd, text, sizeof text - 1);
	close(fd);
	text[got > 0 ? got : 0] = '\0';
	return strtol(text, NULL, 10);
}

int64_t patience_limit(const char *directory)
{
	long seconds = read_seconds(directory, "default_request_timeout");
	long most = read_seconds(directory, "max_request_timeout");
	if (most > 0 && (seconds <= 0 || seconds > most))
		seconds = most;
	if (seconds <= 0)
		return 0;
	return (seconds < LEAST_S ? LEAST_S : seconds) * INT64_C(1000);
}

struct patience *patience_new(void)
{
	struct patience *patience = calloc(1, sizeof *patience);
	if (!patience)
		return NULL;
	pthread_mutex_init(&patience->lock, NULL);
	pthread_cond_init(&patience->changed, NULL);
	patience->last = &patience->first;
	return patience;
}

int64_t patience_ms(const struct patience *patience)
{
	return patience->ms;
}

static void unlink_locked(struct patience *patience, struct parked *parked)
{
	*parked->watch_link = parked->watch_next;
	if (parked->watch_next)
		parked->watch_next->watch_link = parked->watch_link;
	else
		patience->last = parked->watch_link;
	parked->watch_link = NULL;
}

void patience_watch(struct patience *patience, struct parked *parked)
{
	if (patience->ms == 0)
		return;
	pthread_mutex_lock(&patience->lock);
	parked->until_ms = clock_mono_ms() + patience->ms;
	parked->watch_next = NULL;
	parked->watch_link = patience->last;
	*patience->last = parked;
	patience->last = &parked->watch_next;
	if (patience->first == parked)
		pthread_cond_signal(&patience->changed);
	pthread_mutex_unlock(&patience->lock);
}

void patience_forget(struct patience *patience, struct parked *parked)
{
	if (patience->ms == 0)
		return;
	pthread_mutex_lock(&patience->lock);
	if (parked->watch_link)
		unlink_locked(patience, parked);
	pthread_mutex_unlock(&patience->lock);
}

/* Those that are due and that nobody else has, now the caller's, by watch_next; ret_wait_ms: until there may be more, -1: no request is watched. */
static struct parked *claim_due_locked(struct patience *patience, int64_t *ret_wait_ms)
{
	int64_t now_ms = clock_mono_ms();
	struct parked *due = NULL;
	*ret_wait_ms = -1;
	for (struct parked *parked = patience->first, *next; parked; parked = next) {
		next = parked->watch_next;
		int64_t left_ms = parked->until_ms - now_ms;
		if (left_ms > 0) {
			if (*ret_wait_ms < 0 || left_ms < *ret_wait_ms)
				*ret_wait_ms = left_ms;
			break;
		}
		if (!parked_claim(parked)) {
			*ret_wait_ms = AGAIN_MS;
			continue;
		}
		unlink_locked(patience, parked);
		parked->watch_next = due;
		due = parked;
	}
	return due;
}

static void *watch(void *arg)
{
	struct patience *patience = arg;
	pthread_mutex_lock(&patience->lock);
	while (!patience->over) {
		int64_t wait_ms;
		struct parked *due = claim_due_locked(patience, &wait_ms);
		if (due) {
			pthread_mutex_unlock(&patience->lock);
			for (struct parked *next; due; due = next) {
				next = due->watch_next;
				parked_interrupt(due);
			}
			pthread_mutex_lock(&patience->lock);
		} else if (wait_ms < 0) {
			pthread_cond_wait(&patience->changed, &patience->lock);
		} else {
			clock_wait(&patience->changed, &patience->lock, wait_ms);
		}
	}
	pthread_mutex_unlock(&patience->lock);
	return NULL;
}

int patience_begin(struct patience *patience, int64_t limit_ms)
{
	if (limit_ms == 0)
		return 0;
	patience->ms = limit_ms / 3;
	int err = -pthread_create(&patience->thread, NULL, watch, patience);
	patience->begun = err == 0;
	return err;
}

void patience_end(struct patience *patience)
{
	if (!patience->begun)
		return;
	pthread_mutex_lock(&patience->lock);
	patience->over = true;
	pthread_cond_signal(&patience->changed);
	pthread_mutex_unlock(&patience->lock);
	pthread_join(patience->thread, NULL);
	patience->begun = false;
}

void patience_free(struct patience *patience)
{
	if (!patience)
		return;
	patience_end(patience);
	pthread_cond_destroy(&patience->changed);
	pthread_mutex_destroy(&patience->lock);
	free(patience);
}
