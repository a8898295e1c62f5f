/*
 * local_queue_placed - at the start: what became of messages of commits that the disk lost.
 *
 * The note of a commit (local_commit.h) brings back what is in no log of its targets: what a power cut took. But a log may lose
 * a message that was settled, or moved on, before the power went, and of that the journal may well tell: it would come back
 * beside what it has become. So the journal says as well which offset a message with a mark gets, before the log has it. The
 * replay remembers these, and looks what was made of them by the end, or by when their part of the lane was cut off. What has gone
 * from there by a record of the journal, the commit does not miss. A mark may be placed more than once, as a start that
 * gave a message again may have died: then the last place counts.
 *
 * No other thread is there yet.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/local_queue.h"

int queue_remember_placed(struct lane *lane, uint64_t first, uint32_t count, uint64_t mark)
{
	struct local *local = queue_local(lane->queue);
	struct queue_placed *placed = calloc(1, sizeof(*placed) + count), **grown;

	if (placed == NULL)
		return -ENOMEM;
	queue_placed_cut(lane, first); /* what is said of offsets that are given again was never there */
	if (lane->placed_count == lane->placed_room) {
		grown = realloc(lane->placed, (lane->placed_room * 2 + 16) * sizeof(*grown));
		if (grown == NULL) {
			free(placed);
			return -ENOMEM;
		}
		lane->placed = grown;
		lane->placed_room = lane->placed_room * 2 + 16;
	}
	placed->queue_id = lane->queue->object.id;
	placed->mark = mark;
	placed->first = first;
	placed->count = placed->open = count;
	lane->placed[lane->placed_count++] = placed;
	lane->placed_end = first + count;
	if (local->placed_tail != NULL)
		local->placed_tail->next = placed;
	else
		local->placed = placed;
	local->placed_tail = placed;
	return 0;
}

bool *queue_find_placed(struct lane *lane, uint64_t offset)
{
	size_t low = 0, high = lane->placed_count;
	struct queue_placed *placed;

	while (low < high) { /* the first that begins above */
		size_t mid = low + (high - low) / 2;

		if (lane->placed[mid]->first <= offset)
			low = mid + 1;
		else
			high = mid;
	}
	placed = low > 0 ? lane->placed[low - 1] : NULL;
	return placed != NULL && offset - placed->first < placed->open ? &placed->gone[offset - placed->first] : NULL;
}

/* By what the journal says: where the log ends is not known yet. */
static bool is_gone(struct lane *lane, uint64_t offset)
{
	struct span *span = span_at(lane, offset);

	return span != NULL ? span->state == SPAN_GONE : offset < lane->next;
}

void queue_placed_cut(struct lane *lane, uint64_t end)
{
	for (; lane->placed_count > 0; lane->placed_count--) {
		struct queue_placed *placed = lane->placed[lane->placed_count - 1];
		uint32_t left = placed->first < end ? placed->open : 0;

		if (placed->first < end && end - placed->first < left)
			left = (uint32_t)(end - placed->first);
		for (uint32_t i = left; i < placed->open; i++)
			placed->gone[i] = is_gone(lane, placed->first + i);
		placed->open = left;
		if (left > 0)
			break;
	}
}

void queue_placed_end(struct local *local)
{
	struct object *object;
	uint64_t after = 0;

	while ((object = registry_next(local, NULL, ENGINE_QUEUE, after)) != NULL) {
		after = object->id;
		for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
			if (queue_lane(queue_of_object(object), p) != NULL)
				queue_placed_cut(queue_lane(queue_of_object(object), p), 0);
		}
		object_put(object);
	}
}

void queue_forget_placed(struct local *local)
{
	while (local->placed != NULL) {
		struct queue_placed *placed = local->placed;

		local->placed = placed->next;
		free(placed);
	}
	local->placed_tail = NULL;
}
