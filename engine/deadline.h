/*
 * deadline - deadlines in a binary heap, each embedded in what it is about.
 *
 * The heap has room for every deadline that was initialised, so that setting one never fails and never allocates. Nothing here
 * locks.
 */
#ifndef MQFS_DEADLINE_H
#define MQFS_DEADLINE_H

#include <stddef.h>
#include <stdint.h>

struct deadline {
	int64_t ms;  /* clock_mono_ms */
	size_t slot; /* place in the heap, DEADLINE_UNSET if not set */
};
#define DEADLINE_UNSET SIZE_MAX

struct deadlines {
	struct deadline **heap;
	size_t count, room, known; /* known deadlines never exceed room */
};

int deadline_init(struct deadlines *deadlines, struct deadline *due);     /* ENOMEM */
void deadline_release(struct deadlines *deadlines, struct deadline *due); /* not set from then on */
void deadline_set(struct deadlines *deadlines, struct deadline *due, int64_t ms);
void deadline_clear(struct deadlines *deadlines, struct deadline *due);
struct deadline *deadline_first(const struct deadlines *deadlines); /* NULL: none is set */
void deadlines_release(struct deadlines *deadlines);

#endif
