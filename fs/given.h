/*
 * given - which messages of a queue an open file has given, so that they can go back if its reader is killed.
 *
 * Kept as runs of ids, which follow one another as long as a queue is read in order of arrival. Without memory a run is
 * forgotten: those messages come back when their lease is over. Not thread-safe.
 */
#ifndef MQFS_FS_GIVEN_H
#define MQFS_FS_GIVEN_H

#include "engine/engine.h"

struct given_run {
	uint64_t first, last;
	uint32_t deliveries; /* of each: which delivery it was */
};

/* All zero is none. Private. */
struct given {
	struct given_run *runs;
	size_t count, cap;
};

void given_add(struct given *given, const struct engine_view *view);
bool given_some(const struct given *given);

/*
 * Puts those back in their place that the consumer still holds by this very delivery, and forgets all. queue: of the
 * consumer, or the same.
 */
void given_back(struct given *given, struct engine_object *queue, struct engine_object *consumer);

void given_release(struct given *given);

#endif
