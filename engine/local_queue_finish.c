/*
 * local_queue_finish - moves that a crash cut off are finished at the start.
 *
 * The journal knows of a move before the log does that the message comes to. So the replay remembers every move that it
 * meets, and what became of the message there. One that is not in the log it was to come to, and is not settled, is
 * appended again, from wherever it still is: the log it came from last, or, if that has lost it as well, the one before. What is
 * settled stays in a log until a checkpoint, which first sees to it that messages that came by moves are on disk. One that is
 * nowhere is given again where it came to first, if it is a commit's (local_queue_placed.c).
 *
 * It comes as it would have: with the deaths of the moves from there on, and marked if it is to go on through an exchange.
 * A move that is done again is noted again, with where it comes to now. As of any move, that is on disk before the log is synced
 * (lane_follow()); a message that the kernel wrote without it does not count (finish_message()), and the next start does it again.
 */
#define HASH_NONFATAL_OOM 1

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/failpoint.h"
#include "engine/io.h"
#include "engine/local_queue_move.h"
#include "engine/local_queue_span.h"

struct pending_move {
	struct queue_pending pending;
	struct pending_move *before; /* of the same message */
	bool cut;                    /* the log it came to has lost it: what follows is the last word */
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
	if (move->hh.tbl != NULL)
		return 0;
	for (; move != NULL; move = before) { /* the engine is not opened */
		before = move->before;
		free(move);
	}
	return -ENOMEM;
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

	if (move->cut)
		return;
	if (span != NULL && span->state != SPAN_GONE) {
		move->has_span = true;
		move->set = span_as(span);
	} else {
		move->settled = to == NULL || span != NULL || move->pending.to_offset < to->next;
	}
}

void queue_moves_cut(struct lane *lane, uint64_t end)
{
	struct local *local = queue_local(lane->queue);
	struct pending_move *last, *next;

	if (lane->moves_end <= end)
		return;
	HASH_ITER (hh, local->moves, last, next) {
		for (struct pending_move *move = last; move != NULL; move = move->before) {
			if (move->pending.to_queue != lane->queue->object.id ||
			    move->pending.to_priority != lane->priority || move->pending.to_offset < end)
				continue;
			look(local, move);
			move->cut = true;
		}
	}
}

/* ---- again ---- */

/* Is the message where it was to go? What is damaged there was. */
static int has_arrived(struct lane *lane, const struct queue_pending *move, bool *ret_arrived)
{
	struct engine_scratch scratch = { 0 };
	struct engine_view view;
	uint64_t id = 0;
	int rc;

	*ret_arrived = false;
	if (move->to_offset >= lane->end)
		return 0;
	rc = lane_read(lane, move->to_offset, 1, &scratch, &view, &id);
	*ret_arrived = lane_lost(rc) || (rc == 0 && id == move->id);
	engine_scratch_release(&scratch);
	return lane_lost(rc) ? 0 : rc;
}

/* Reads it from where it still is, the last place first: that which the move found went from. ENODATA: nowhere; EIO: it is lost; EBUSY: that is not known, as a queue cannot be opened. */
static int find(struct local *local, const struct pending_move *move, struct engine_scratch *scratch,
    struct engine_view *ret_view, const struct pending_move **ret_found)
{
	int lost = -ENODATA;

	for (; move != NULL; move = move->before) {
		struct lane *from = queue_find_lane(local, move->pending.from_queue, move->pending.from_priority);
		uint64_t id = 0;
		int rc = from != NULL ? queue_open(from->queue) : 0;

		if (from == NULL)
			continue;
		if (rc < 0 && !io_wants_means(rc)) {
			lost = -EBUSY;
			continue;
		}
		if (rc == 0)
			rc = lane_read(from, move->pending.from_offset, 1, scratch, ret_view, &id);
		if (rc < 0 && !lane_lost(rc) && rc != -ENODATA)
			return rc;
		if (rc == 0 && id == move->pending.id) {
			*ret_found = move;
			return 0;
		}
		/* Else it had come just before, and was never on the disk. */
		if (lost == -ENODATA && move->pending.from_offset < from->end)
			lost = -EIO;
	}
	return lost;
}

/* It is nowhere: will the commit that it came by give it again? */
static bool is_given_again(const struct pending_move *move)
{
	bool given = false;

	for (; move != NULL; move = move->before) {
		if (move->pending.gone == NULL)
			continue;
		*move->pending.gone = false;
		given = true;
	}
	return given;
}

/* What a move makes of a message's properties. */
static void apply(
    struct local *local, const struct pending_move *move, struct engine_props *props, struct death_list *deaths)
{
	const struct queue_pending *pending = &move->pending;
	struct lane *from = queue_find_lane(local, pending->from_queue, pending->from_priority);

	props->delay_ms = -1;
	if (!pending->within)
		props->mark = 0;
	if (pending->forward)
		props->mark = QUEUE_FORWARD;
	if (pending->death == 0 || from == NULL)
		return;
	props->ttl_ms = -1;
	queue_add_death(deaths, props, from->queue, (enum engine_death_reason)(pending->death - 1));
	props->deaths = deaths->list;
	props->death_count = deaths->count;
}

/* All moves since the one found, that first. */
static int apply_all(struct local *local, const struct pending_move *last, const struct pending_move *found,
    struct engine_props *props, struct death_list **ret_deaths)
{
	const struct pending_move *move;
	struct death_list *deaths;
	size_t count = 1;

	for (move = last; move != found; move = move->before)
		count++;
	deaths = calloc(count, sizeof(*deaths)); /* each has a name that the next may still need */
	if (deaths == NULL)
		return -ENOMEM;
	for (; count > 0; count--) {
		move = last;
		for (size_t i = 1; i < count; i++)
			move = move->before;
		if (move == found || !move->pending.again) /* it stands for the one before */
			apply(local, move, props, &deaths[count - 1]);
	}
	*ret_deaths = deaths;
	return 0;
}

/* It counts nothing: the move did. */
static int append_again(
    struct local *local, struct lane *to, const struct pending_move *move, const struct engine_batch *batch)
{
	struct span_set set = { .state = SPAN_READY, .due_ms = QUEUE_NEVER, .expires_ms = QUEUE_NEVER };
	struct queue_move_note note = { .from = queue_find_lane(
					    local, move->pending.from_queue, move->pending.from_priority),
		.to = to,
		.from_offset = move->pending.from_offset,
		.to_offset = to->end,
		.id = move->pending.id,
		.why = move->pending.within ? WHY_MOVED_WITHIN : WHY_MOVED_OUT,
		.forward = batch->props[0].mark == QUEUE_FORWARD,
		.again = true,
		.death = move->pending.death,
		.set = move->has_span ? move->set : set };
	struct span_facts facts = { batch->ts_ms, move->pending.id, batch->len - 1, NULL };
	struct holder *holder;
	struct span *span = NULL;
	uint64_t offset;
	int rc;

	note.set.id = move->pending.id <= to->last_id ? move->pending.id : 0;
	note.set.place = (int64_t)to->end;
	note.fresh = note.set.id == 0 && !move->has_span;
	rc = span_reserve(to); /* what comes after the note needs no memory */
	if (rc == 0 && note.from != NULL)
		rc = queue_note_move(&note);
	lane_follow(to);
	if (rc == 0)
		rc = lane_append(to, batch, note.id | PLOG_MOVED | (note.set.id != 0 ? PLOG_STRAY : 0), &offset);
	if (rc < 0)
		return rc;
	to->moved_in = true;
	if (!note.fresh)
		lane_set(to, offset, 1, &note.set, &facts, WHY_UNTOLD, &span);
	if (queue_is_too_long(to->queue))
		queue_due(to->queue, queue_now(local));
	if (note.set.state != SPAN_UNACKED)
		return 0;
	holder = queue_find_holder(to->queue, span);
	if (holder != NULL)
		span_hold(span, holder, NULL);
	else
		queue_lease_over(span);
	return 0;
}

static int move_again(struct local *local, struct lane *to, const struct pending_move *move,
    const struct pending_move *found, const struct engine_view *view)
{
	struct engine_batch batch = view->batch;
	struct engine_props props = batch.props != NULL ? batch.props[0] : ENGINE_PROPS_INIT;
	struct death_list *deaths = NULL;
	int rc = apply_all(local, move, found, &props, &deaths);

	props.partition = ENGINE_ANY;
	if (batch.props == NULL)
		props.ts_ms = batch.ts_ms;
	if (!move->pending.within)
		batch.ts_ms = queue_now(local); /* as lane_move does */
	batch.props = &props;
	if (rc == 0)
		rc = append_again(local, to, move, &batch);
	free(deaths);
	return rc;
}

/* The journal stays as it is: no checkpoint drops it. */
static void try_later(struct local *local, const struct pending_move *move)
{
	local_fault(local, EIO,
	    "message %" PRIu64
	    " was being moved when the daemon died, and one of its queues cannot be opened; the next start "
	    "tries again, and until then the journal grows",
	    move->pending.id);
	atomic_store(&local->commits.stuck, true);
}

/* It is not where it was to go. */
static int find_and_move(struct local *local, struct lane *to, const struct pending_move *move)
{
	const struct pending_move *found = NULL;
	struct engine_scratch scratch = { 0 };
	struct engine_view view;
	int rc = find(local, move, &scratch, &view, &found);

	CRASHPOINT("recover_move");
	local->recovered_moves = true;
	if (rc == 0) {
		rc = move_again(local, to, move, found, &view);
		if (rc < 0)
			rc = engine_explain(rc,
			    "message %" PRIu64 " was being moved when the daemon died, and cannot be yet: %s",
			    move->pending.id, strerror(-rc));
	} else if (rc == -EBUSY) {
		try_later(local, move);
		rc = 0;
	} else if (rc == -ENODATA || rc == -EIO) {
		if (!is_given_again(move) && rc == -EIO)
			local_fault(local, EIO,
			    "message %" PRIu64 " was being moved when the machine died, and is lost", move->pending.id);
		rc = 0;
	}
	engine_scratch_release(&scratch);
	return rc;
}

/* An error: it can be finished by a later start only, for which the journal has to stay as it is. */
static int finish(struct local *local, const struct pending_move *move)
{
	struct lane *to = queue_find_lane(local, move->pending.to_queue, move->pending.to_priority);
	bool arrived = false;
	int rc;

	if (move->settled) /* so it counts as well if there is no such queue any more */
		return 0;
	rc = queue_open(to->queue);
	if (rc < 0 && !io_wants_means(rc)) {
		try_later(local, move);
		return 0;
	}
	if (rc == 0 && !move->cut)
		rc = has_arrived(to, &move->pending, &arrived);
	return rc < 0 || arrived ? rc : find_and_move(local, to, move);
}

int queue_finish_moves(struct local *local)
{
	struct pending_move *move, *next;
	int rc = 0;

	queue_placed_end(local);
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
