/*
 * turn - whose turn it is to read requests.
 *
 * One thread at a time reads. Handing that on to another for each request would cost more than most requests do: a futex,
 * and a switch to another processor. So who has the turn executes what is quick itself, and reads on; what is known to take
 * long it executes without the turn (turn_pass()). Something quick may turn out slow, since a disk or a lock is: then a
 * watchman, who looks every millisecond while there is anything to do, takes the turn away and gives it to the next.
 */
#ifndef MQFS_TURN_H
#define MQFS_TURN_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct awake;

struct turn {
	pthread_mutex_t lock; /* taken and ended; a leaf */
	pthread_cond_t free;  /* taken is false */
	pthread_cond_t watch; /* watched or ended is true */
	bool taken, ended;
	bool has_watchman;
	pthread_t watchman;
	struct awake *awake;   /* which the watchman ticks */
	_Atomic bool watched;  /* the watchman looks; false: he sleeps */
	_Atomic uint64_t word; /* odd: who has the turn executes something. Never the same odd number again */
};

/* -errno of what cannot be had. awake counts what is read: as long as it does, there is something to watch. */
int turn_init(struct turn *turn, struct awake *awake);

/* Nobody may be in another call, or come. */
void turn_destroy(struct turn *turn);

/* A request that came another way, and is no turn: has the watchman tick. */
void turn_watch(struct turn *turn);

/* Waits until it is the caller's turn. */
void turn_take(struct turn *turn);

/* The caller has it, and gives it to another. */
void turn_pass(struct turn *turn);

/* The caller has it, and begins something that must not be long. Returns what turn_end() wants. */
uint64_t turn_begin(struct turn *turn);

/* False: it took long, and the turn is another's by now. */
bool turn_end(struct turn *turn, uint64_t begun);

#endif
