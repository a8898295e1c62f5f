/*
 * deadline - see deadline.h.
 */
#include "engine/deadline.h"

#include <errno.h>
#include <stdlib.h>

#ifdef MQFS_DEBUG
#include <assert.h>

static void check_invariants(const struct deadlines *deadlines)
{
	assert(deadlines->count <= deadlines->known && deadlines->known <= deadlines->room);
	for (size_t i = 0; i < deadlines->count; i++) {
		assert(deadlines->heap[i]->slot == i);
		assert(i == 0 || deadlines->heap[(i - 1) / 2]->ms <= deadlines->heap[i]->ms);
	}
}
#else
static void check_invariants(const struct deadlines *deadlines)
{
	(void)deadlines;
}
#endif

static void place(struct deadlines *deadlines, struct deadline *due, size_t slot)
{
	deadlines->heap[slot] = due;
	due->slot = slot;
}

static void sift_up(struct deadlines *deadlines, struct deadline *due, size_t slot)
{
	while (slot > 0 && deadlines->heap[(slot - 1) / 2]->ms > due->ms) {
		place(deadlines, deadlines->heap[(slot - 1) / 2], slot);
		slot = (slot - 1) / 2;
	}
	place(deadlines, due, slot);
}

static void sift_down(struct deadlines *deadlines, struct deadline *due, size_t slot)
{
	size_t child;

	while ((child = slot * 2 + 1) < deadlines->count) {
		if (child + 1 < deadlines->count && deadlines->heap[child + 1]->ms < deadlines->heap[child]->ms)
			child++;
		if (deadlines->heap[child]->ms >= due->ms)
			break;
		place(deadlines, deadlines->heap[child], slot);
		slot = child;
	}
	place(deadlines, due, slot);
}

int deadline_init(struct deadlines *deadlines, struct deadline *due)
{
	*due = (struct deadline){ .slot = DEADLINE_UNSET };
	if (deadlines->known == deadlines->room) {
		size_t room = deadlines->room > 0 ? deadlines->room * 2 : 64;
		struct deadline **heap = realloc(deadlines->heap, room * sizeof(*heap));

		if (heap == NULL)
			return -ENOMEM;
		deadlines->heap = heap;
		deadlines->room = room;
	}
	deadlines->known++;
	return 0;
}

void deadline_release(struct deadlines *deadlines, struct deadline *due)
{
	deadline_clear(deadlines, due);
	deadlines->known--;
}

void deadline_clear(struct deadlines *deadlines, struct deadline *due)
{
	size_t slot = due->slot;
	struct deadline *last;

	if (slot == DEADLINE_UNSET)
		return;
	due->slot = DEADLINE_UNSET;
	last = deadlines->heap[--deadlines->count];
	if (last == due)
		return;
	if (slot > 0 && deadlines->heap[(slot - 1) / 2]->ms > last->ms)
		sift_up(deadlines, last, slot);
	else
		sift_down(deadlines, last, slot);
}

void deadline_set(struct deadlines *deadlines, struct deadline *due, int64_t ms)
{
	deadline_clear(deadlines, due);
	due->ms = ms;
	sift_up(deadlines, due, deadlines->count++);
	check_invariants(deadlines);
}

struct deadline *deadline_first(const struct deadlines *deadlines)
{
	return deadlines->count > 0 ? deadlines->heap[0] : NULL;
}

void deadlines_release(struct deadlines *deadlines)
{
	free(deadlines->heap);
	*deadlines = (struct deadlines){ 0 };
}
