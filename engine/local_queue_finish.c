/*
 * local_queue_finish - moves that a crash cut off are finished at the start.
 *
 * The journal knows of a move before the log does that the message comes to. So the replay remembers every move that it
 * meets, and what became of the message there. One that is not in the log it was to come to, and is not settled, is
 * appended again, from wherever it still is: the log it came from last, or, if that has lost it as well, the one before. What is
 * settled stays in a log until a checkpoint, which first sees to it that messages that came by moves are on disk.
 *
 * A move that is done again is noted again, with where it comes to now, and that is on disk before the message is.
 */
#define HASH_NONFATAL_OOM 1

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/local_queue_move.h"

struct pending_move {
	struct queue_pending pending;
	struct pending_move *before; /* of the same message */
	bool settled;                /* it was, where it came to */
	bool has_span;               /* there, as the journal says: set */
	struct span_set set;
	UT_hash_handle hh; /* by the id; the last move of each message */
};

int queue_remember_move(struct local *local, const struct queue_pending *pending)
{
	struct pending_move *move = calloc(1, sizeof(*move)), *before;

	if (move == NULL)
		return -ENOMEM;
	move->pending = *pending;
	HASH_FIND(hh, local->moves, &pending->id, sizeof(pending->id), before);
	if (before != NULL)
		HASH_DELETE(hh, local->moves, before);
	move->before = before;
	HASH_ADD(hh, local->moves, pending.id, sizeof(move->pending.id), move);
	return move->hh.tbl != NULL ? 0 : -ENOMEM; /* the engine is not opened */
}

void queue_forget_move(struct local *local, uint64_t id)
{
	struct pending_move *move, *before;

	HASH_FIND(hh, local->moves, &id, sizeof(id), move);
	if (move == NULL)
		return;
	HASH_DELETE(hh, local->moves, move);
	before = move->before;
	free(move);
	if (before != NULL)
		HASH_ADD(hh, local->moves, pending.id, sizeof(before->pending.id), before);
}

void queue_forget_moves(struct local *local)
{
	struct pending_move *move, *next;

	HASH_ITER (hh, local->moves, move, next) {
		HASH_DELETE(hh, local->moves, move);
		while (move != NULL) {
			struct pending_move *before = move->before;

			free(move);
			move = before;
		}
	}
}

/* ---- what became of them; no queue is open yet ---- */

static void look(struct local *local, struct pending_move *move)
{
	struct lane *to = queue_find_lane(local, move->pending.to_queue, move->pending.to_priority);
	struct span *span = to != NULL ? span_at(to, move->pending.to_offset) : NULL;

	if (span != NULL && span->state != SPAN_GONE) {
		move->has_span = true;
		move->set = span_as(span);
	} else {
		move->settled = to == NULL || span != NULL || move->pending.to_offset < to->next;
	}
}

/* ---- again ---- */

/* Is the message where it was to go? */
static bool has_arrived(struct lane *lane, const struct queue_pending *move)
{
	struct engine_scratch scratch = { 0 };
	struct engine_view view;
	uint64_t id = 0;
	bool arrived;

	if (move->to_offset >= lane->end)
		return false;
	arrived = lane_read(lane, move->to_offset, 1, &scratch, &view, &id) < 0 || id == move->id;
	engine_scratch_release(&scratch);
	return arrived; /* what cannot be read was there */
}

/* Reads it from where it still is, the last place first, and says which move took it from there. ENODATA: nowhere. */
static int find(struct local *local, const struct pending_move *move, struct engine_scratch *scratch,
    struct engine_view *ret_view, const struct pending_move **ret_found)
{
	int rc = -ENODATA;

	for (; move != NULL; move = move->before) {
		struct lane *from = queue_find_lane(local, move->pending.from_queue, move->pending.from_priority);
		uint64_t id = 0;

		if (from == NULL || queue_open(from->queue) < 0)
			continue;
		*ret_found = move;
		if (lane_read(from, move->pending.from_offset, 1, scratch, ret_view, &id) == 0 &&
		    id == move->pending.id)
			return 0;
		if (move->pending.from_offset < from->end) /* else it had come just before, and was never on the disk */
			rc = -EIO;
	}
	return rc;
}

/* A message as its moves made it. */
struct moved {
	struct engine_props props;
	struct death_list deaths[2 * DEATHS_MAX]; /* each refers to names of those before it */
	uint32_t count;
};

/* What the moves from found on did to it, the oldest first. */
static void redo(
    struct local *local, const struct pending_move *move, const struct pending_move *found, struct moved *moved)
{
	const struct queue_pending *pending = &move->pending;
	struct lane *from = queue_find_lane(local, pending->from_queue, pending->from_priority);
	struct death_list *deaths;

	if (move != found)
		redo(local, move->before, found, moved);
	if (pending->death == 0 || from == NULL || moved->count == 2 * DEATHS_MAX)
		return;
	deaths = &moved->deaths[moved->count++];
	death_list_add(deaths, &moved->props, from->queue, (enum engine_death_reason)(pending->death - 1));
	moved->props.deaths = deaths->list;
	moved->props.death_count = deaths->count;
	moved->props.ttl_ms = -1;
}

static void make_moved(struct local *local, const struct pending_move *move, const struct pending_move *found,
    struct engine_view *view, struct moved *moved)
{
	moved->count = 0;
	moved->props = view->batch.props != NULL ? view->batch.props[0] : ENGINE_PROPS_INIT;
	moved->props.partition = ENGINE_ANY;
	moved->props.delay_ms = -1;
	moved->props.mark = 0;
	if (view->batch.props == NULL)
		moved->props.ts_ms = view->batch.ts_ms;
	redo(local, move, found, moved);
	view->batch.props = &moved->props;
	if (move->pending.from_queue != move->pending.to_queue)
		view->batch.ts_ms = queue_now(local); /* it arrives anew */
}

/* It counts nothing: the move did. */
static int append_again(
    struct local *local, struct lane *to, const struct pending_move *move, const struct engine_view *view)
{
	struct span_set set = { .state = SPAN_READY, .due_ms = QUEUE_NEVER, .expires_ms = QUEUE_NEVER };
	struct queue_move_note note = { .from = queue_find_lane(
					    local, move->pending.from_queue, move->pending.from_priority),
		.to = to,
		.from_offset = move->pending.from_offset,
		.to_offset = to->end,
		.id = move->pending.id,
		.why = WHY_MOVED_WITHIN,
		.death = move->pending.death,
		.set = move->has_span ? move->set : set };
	struct span_facts facts = facts_of(view, move->pending.id);
	struct holder *holder;
	struct span *span = NULL;
	uint64_t offset;
	int rc;

	note.set.id = move->pending.id <= to->last_id ? move->pending.id : 0;
	note.set.place = (int64_t)to->end;
	note.fresh = note.set.id == 0 && !move->has_span;
	rc = note.from != NULL ? queue_note_move(&note) : 0;
	if (rc == 0)
		rc = journal_sync(local->journal);
	if (rc == 0)
		rc = lane_append(to, &view->batch, note.id | PLOG_MOVED | (note.set.id != 0 ? PLOG_STRAY : 0), &offset);
	if (rc < 0)
		return rc;
	to->moved_in = true;
	rc = note.fresh ? 0 : lane_set(to, offset, 1, &note.set, &facts, WHY_UNTOLD, &span);
	if (rc < 0 || note.set.state != SPAN_UNACKED)
		return rc;
	holder = queue_find_holder(to->queue, span);
	if (holder != NULL)
		span_hold(span, holder, NULL);
	else
		queue_lease_over(span);
	return 0;
}

static int finish(struct local *local, const struct pending_move *move)
{
	struct lane *to = queue_find_lane(local, move->pending.to_queue, move->pending.to_priority);
	const struct pending_move *found = NULL;
	struct engine_scratch scratch = { 0 };
	struct engine_view view;
	struct moved *moved;
	int rc;

	if (move->settled || to == NULL || queue_open(to->queue) < 0 || has_arrived(to, &move->pending))
		return 0;
	moved = malloc(sizeof(*moved));
	if (moved == NULL)
		return -ENOMEM;
	rc = find(local, move, &scratch, &view, &found);
	if (rc == 0)
		make_moved(local, move, found, &view, moved);
	if (rc == 0)
		rc = append_again(local, to, move, &view);
	else if (rc == -EIO)
		local_fault(local, EIO, "message %" PRIu64 " was being moved when the machine died, and is lost",
		    move->pending.id);
	local->recovered_moves = true;
	engine_scratch_release(&scratch);
	free(moved);
	return rc == -EIO || rc == -ENODATA ? 0 : rc;
}

int queue_finish_moves(struct local *local)
{
	struct pending_move *move, *next;
	int rc = 0;

	HASH_ITER (hh, local->moves, move, next)
		look(local, move);
	HASH_ITER (hh, local->moves, move, next) {
		rc = finish(local, move);
		if (rc < 0)
			break;
	}
	queue_forget_moves(local);
	return rc;
}
