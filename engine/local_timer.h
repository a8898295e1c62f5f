/*
 * local_timer - deadlines of the embedded engine, and the thread that keeps them. How it works is said in
 * local_timer.c.
 */
#ifndef MQFS_LOCAL_TIMER_H
#define MQFS_LOCAL_TIMER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/deadline.h"

struct local;
struct object;

/* A deadline. fire runs in the timer thread with no lock held, while a reference keeps object. */
struct timer {
	void (*fire)(struct timer *timer);
	struct object *object; /* NULL: fire needs the engine only */
	struct deadline due;   /* timers.lock */
};

struct timers {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct deadlines deadlines; /* lock */
	bool stop;                  /* lock */
	pthread_t thread;
	bool running; /* the thread was started; life only */
};

void timers_init(struct timers *timers);
int timers_start(struct local *local);
void timers_stop(struct local *local); /* fires nothing any more */
int timer_init(struct local *local, struct timer *timer, void (*fire)(struct timer *timer), struct object *object);
void timer_release(struct local *local, struct timer *timer); /* not set from then on; allowed on a zeroed one */
void timer_set(struct local *local, struct timer *timer, int64_t due_ms);
void timer_set_earlier(struct local *local, struct timer *timer, int64_t due_ms); /* unless it is due before */
void timers_release(struct timers *timers);                                       /* after timers_stop */

#endif
