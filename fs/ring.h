/*
 * ring - the last so many lines of text, numbered, for status/events.
 *
 * Every line gets the next number, from 0, for the life of the ring. Readers keep the number they want next and ask
 * for what there is from there on; who comes too late for some is told how many are gone. The ring has no waiters: who
 * wants to wait does so elsewhere, and who adds wakes them.
 *
 * Thread-safe: one mutex, private, held for copying only.
 */
#ifndef MQFS_FS_RING_H
#define MQFS_FS_RING_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/buffer.h"

#define RING_LINE_MAX 1024u /* bytes of a line; what is longer is cut, at a character */

struct ring {
	pthread_mutex_t lock;
	size_t size;  /* fixed */
	uint64_t end; /* number of the next line; guarded by lock */
	char **lines; /* line n is lines[n % size]; guarded by lock */
};

/* Keeps the last size (>= 1) lines. ENOMEM. */
int ring_init(struct ring *ring, size_t size);
void ring_release(struct ring *ring);

/*
 * A line of len bytes as it is kept: at most RING_LINE_MAX, control characters made blanks, a newline and a zero behind it. The
 * caller's to free; NULL: no memory.
 */
char *ring_line(const char *text, size_t len);

/*
 * Adds a line of len bytes without its newline; control characters in it become blanks. ENOMEM: not added.
 * ret_number (may be NULL): the line's number.
 */
int ring_add(struct ring *ring, const char *text, size_t len, uint64_t *ret_number);

/* The number the next line will get. */
uint64_t ring_end(struct ring *ring);

/*
 * Appends to out, each with a newline, the lines from number `from` on, at most max of them (0: no limit), and sets
 * *ret_next to the number to go on with and *ret_lost to how many from `from` on are gone. Returns the count of lines
 * appended, 0 if from is the end or beyond it. ENOMEM: out is as before.
 */
int ring_read(
    struct ring *ring, uint64_t from, uint32_t max, struct buffer *out, uint64_t *ret_next, uint64_t *ret_lost);

#endif
