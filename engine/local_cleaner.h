/*
 * local_cleaner - the thread that compacts. How it works is said in local_cleaner.c.
 */
#ifndef MQFS_LOCAL_CLEANER_H
#define MQFS_LOCAL_CLEANER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct local;
struct topic;

struct cleaner {
	pthread_mutex_t lock; /* a leaf */
	pthread_cond_t changed;
	struct topic *head, **tail; /* that are to be looked at, linked by clean_next, each with a reference; lock */
	_Atomic bool stop;
	pthread_t thread;
	bool running; /* the thread was started; life only */
};

void cleaner_init(struct cleaner *cleaner);
int cleaner_start(struct local *local);
void cleaner_stop(struct local *local); /* a compaction that runs is broken off */
void cleaner_release(struct cleaner *cleaner);
/* What the thread does with each topic it is asked for; never beside it. */
void cleaner_run(struct topic *topic);
/* The topic may have something to compact. */
void cleaner_request(struct local *local, struct topic *topic);
/* The same when a setting has changed: tombstones may be due by now. */
void cleaner_look_again(struct topic *topic);

#endif
