/*
 * crew - threads for what takes long: each takes the job that waits longest, and does it.
 */
#ifndef MQFS_FS_CREW_H
#define MQFS_FS_CREW_H

#include <pthread.h>
#include <stdbool.h>

#define CREW_MAX 64u

/* The first member of what a job is. */
struct job {
	struct job *next;
};

struct crew {
	pthread_mutex_t lock; /* the jobs and ending; a leaf */
	pthread_cond_t changed;
	struct job *first, **last;
	bool ending;
	void (*work)(struct job *job);
	pthread_t threads[CREW_MAX];
	unsigned count;
};

/* -errno if not even one thread can be had; fewer than `count` will do. */
int crew_start(struct crew *crew, unsigned count, void (*work)(struct job *job));
void crew_add(struct crew *crew, struct job *job);
/* Waits for the jobs that are being done; those that wait are not done. Also of one that was not started, all zero. */
void crew_stop(struct crew *crew);

#endif
