/*
 * progress - how far a long work is: a bar on a terminal, a line every ten seconds elsewhere.
 */
#ifndef MQFS_HELPERS_PROGRESS_H
#define MQFS_HELPERS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	const char *what;
	uint64_t done, total; /* bytes */
	int fd;               /* where it is shown; -1: nowhere */
	bool terminal;
	int64_t shown_ms; /* when it was last, by the monotonic clock */
};

/* fd: -1 shows nothing. total may turn out to be too low. */
void progress_start(struct progress *progress, const char *what, uint64_t total, int fd);
void progress_add(struct progress *progress, uint64_t bytes);
void progress_hide(const struct progress *progress); /* takes the bar away until it is shown again */
void progress_end(struct progress *progress);        /* and for ever */

#endif
