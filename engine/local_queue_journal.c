/*
 * local_queue_journal - changes of queues as records of the journal, and their replay.
 *
 * A record says what a range of a lane is now, whatever it was before. Counters are the exception: they move by what the
 * record counts. So every record of a queue has a number, rising by one, and the catalog's rows of a queue say up to which
 * number they include what the journal says: what is replayed is just what comes after, as far as no number is missing. A
 * power cut may leave records and not those before them; what follows a gap is then as lost as what was in it, in both
 * queues of a move, or a message could be in two of them, or in none. It stays in its file until a checkpoint, so its numbers
 * are not given again: the start says where those go on (queue_go_on). Numbers are little-endian:
 *
 *   JOURNAL_QUEUE                                JOURNAL_MOVE
 *    0  8  id of the queue                        0  8  id of the queue it leaves
 *    8  8  number of the change                   8  8  number of the change there
 *   16  8  first offset                          16  8  offset there
 *   24  4  count                                 24  1  priority there
 *   28  1  priority                              25  1  priority where it comes to
 *   29  1  why, enum queue_why                   26  1  why, of the queue it leaves
 *   30  2  zero                                  27  1  1: READY as it comes, without a span; 2: the
 *                                                       append failed: the span is that of the source; 4: it
 *                                                       is claimed where it comes to; 8: it is to go on through
 *                                                       an exchange; 16: a start does a move again that was noted
 *                                                       before: that was counted, and settled what it leaves,
 *                                                       whose offset may be another's by now
 *   32     the span, 0 or 80 bytes; or 8        28  4  zero
 *                                                32  8  id of the queue it comes to
 *   JOURNAL_CUT                                  40  8  number of the change there
 *    0  8  id of the queue                       48  8  offset it gets there
 *    8  8  number of the change                  56  8  id of the message
 *   16  8  offset of the end                     64     the span there, 80 bytes
 *   24  1  priority
 *   25  7  zero
 *
 *   span: 0 u8 state, 1 u8 flags (1: held), 2 u8 how its last lease ended, 3 five zero bytes, 8 u32 deliveries, 12 u32 zero,
 *         16 u64 id of a stray or 0, 24 u64 id of the holder, 32 i64 place, 40 i64 due, 48 i64 expires, 56 i64 number of the delivery
 *         (Unix time in ms, or the largest number for never), 64 u64 whose its last lease was, 72 i64 when the lease began. Without span the range is
 *         settled; with the 8 bytes instead nothing changes yet: they are the mark of the message of a commit that gets the
 *         first offset, and those of the others follow on it (local_queue_placed.c). A count of 0: after the change with
 *         this number comes the one after that with the number at 16.
 *
 * A move is noted before the message is appended to the log it comes to. If the daemon dies in between, the start finds the
 * record and no such message, and appends it again from where it was (queue_finish_moves): what is settled is kept in its
 * log until a checkpoint, which first sees to it that messages that came by moves are on disk. A power cut may leave the
 * message and not the record: then it is still where it was, and what came is dropped (finish_lane).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/clock.h"
#include "engine/limits.h"
#include "engine/local_commit.h"
#include "engine/local_queue.h"

#define QUEUE_BYTES 32u
#define MOVE_BYTES (QUEUE_MOVE_RECORD - SPAN_BYTES)
#define PLACED_BYTES (QUEUE_BYTES + 8u)
#define CUT_BYTES 32u
#define HELD 1u
#define MOVE_FRESH 1u
#define MOVE_UNDO 2u
#define MOVE_DELIVERS 4u
#define MOVE_FORWARD 8u
#define MOVE_AGAIN 16u

/* ---- counting ---- */

void count_why(struct queue *queue, enum queue_why why, int64_t messages, uint32_t deliveries)
{
	struct queue_totals *t = &queue->totals;
	uint64_t count = (uint64_t)messages;

	switch (why) {
	case WHY_DELIVERED:
	case WHY_TAKEN:
		t->delivered += count;
		t->redelivered += deliveries > 1 ? count : 0;
		t->acked += why == WHY_TAKEN ? count : 0;
		break;
	case WHY_ACKED: t->acked += count; break;
	case WHY_DEAD: t->dead_lettered += count; break;
	case WHY_EXPIRED: t->expired += count; break;
	case WHY_DROPPED: t->dropped += count; break;
	case WHY_MOVED_OUT: t->moved_out += count; break;
	case WHY_MOVED_IN: t->moved_in += count; break;
	case WHY_MOVED_WITHIN:
	case WHY_NOTHING:
	case WHY_COUNT: break;
	}
}

/* ---- spans as bytes ---- */

void span_encode(uint8_t out[SPAN_BYTES], const struct span_set *set)
{
	memset(out, 0, SPAN_BYTES);
	out[0] = (uint8_t)set->state;
	out[1] = set->held ? HELD : 0;
	out[2] = set->ended;
	bytes_put32(out + 8, set->deliveries);
	bytes_put64(out + 16, set->id);
	bytes_put64(out + 24, set->holder_id);
	bytes_put64(out + 32, (uint64_t)set->place);
	bytes_put64(out + 40, (uint64_t)set->due_ms);
	bytes_put64(out + 48, (uint64_t)set->expires_ms);
	bytes_put64(out + 56, (uint64_t)set->delivered);
	bytes_put64(out + 64, set->ended_by);
	bytes_put64(out + 72, (uint64_t)set->leased_ms);
}

int span_decode(const uint8_t *in, struct span_set *ret_set)
{
	if (in[0] > SPAN_GONE || in[2] > ENDED_LOST)
		return -EBADMSG;
	*ret_set = (struct span_set){ .state = (enum span_state)in[0],
		.held = in[1] & HELD,
		.ended = in[2],
		.ended_by = bytes_get64(in + 64),
		.deliveries = bytes_get32(in + 8),
		.id = bytes_get64(in + 16),
		.holder_id = bytes_get64(in + 24),
		.place = (int64_t)bytes_get64(in + 32),
		.due_ms = (int64_t)bytes_get64(in + 40),
		.expires_ms = (int64_t)bytes_get64(in + 48),
		.delivered = (int64_t)bytes_get64(in + 56),
		.leased_ms = (int64_t)bytes_get64(in + 72) };
	return 0;
}

/* ---- writing ---- */

static int append_record(struct local *local, enum journal_type type, const uint8_t *record, size_t size)
{
	bool again = false;
	uint64_t pos;
	int rc;

	do
		rc = journal_append(local->journal, type, record, size, &pos);
	while (reserve_again(local, rc, &again));
	if (rc < 0)
		return engine_explain(rc, "the journal takes no more: %s", strerror(-rc));
	checkpoint_note(local, pos);
	return 0;
}

int queue_note_owed(struct local *local)
{
	struct lane *lane;
	int rc = 0;

	if (atomic_load(&local->unmoved.lanes) == NULL)
		return 0;
	pthread_mutex_lock(&local->unmoved.lock);
	while (rc == 0 && (lane = atomic_load(&local->unmoved.lanes)) != NULL) {
		rc = append_record(local, JOURNAL_MOVE, lane->unmove, sizeof(lane->unmove));
		if (rc == 0)
			atomic_store(&local->unmoved.lanes, lane->unmoved_next);
	}
	pthread_mutex_unlock(&local->unmoved.lock);
	return rc;
}

/* What is owed comes first. */
static int append(struct queue *queue, enum journal_type type, const uint8_t *record, size_t size)
{
	int rc = queue_note_owed(queue_local(queue));

	return rc < 0 ? rc : append_record(queue_local(queue), type, record, size);
}

/* record has room for a span, and from QUEUE_BYTES on what is to follow. */
static int note_range(
    struct lane *lane, uint64_t first, uint32_t count, enum queue_why why, uint8_t *record, size_t size)
{
	struct queue *queue = lane->queue;
	int rc;

	memset(record, 0, QUEUE_BYTES);
	bytes_put64(record, queue->object.id);
	bytes_put64(record + 8, queue->change + 1);
	bytes_put64(record + 16, first);
	bytes_put32(record + 24, count);
	record[28] = (uint8_t)lane->priority;
	record[29] = (uint8_t)why;
	rc = append(queue, JOURNAL_QUEUE, record, size);
	if (rc == 0)
		queue->change++;
	return rc;
}

int queue_note(struct lane *lane, uint64_t first, uint32_t count, const struct span_set *set, enum queue_why why)
{
	uint8_t record[QUEUE_BYTES + SPAN_BYTES];
	size_t size = QUEUE_BYTES;

	if (set->state != SPAN_GONE) {
		span_encode(record + QUEUE_BYTES, set);
		size += SPAN_BYTES;
	}
	return note_range(lane, first, count, why, record, size);
}

int queue_note_placed(struct lane *lane, uint64_t first, uint32_t count, uint64_t mark)
{
	uint8_t record[PLACED_BYTES];

	bytes_put64(record + QUEUE_BYTES, mark);
	return note_range(lane, first, count, WHY_NOTHING, record, sizeof(record));
}

int queue_note_cut(struct lane *lane, uint64_t end)
{
	struct queue *queue = lane->queue;
	uint8_t record[CUT_BYTES] = { 0 };
	int rc;

	bytes_put64(record, queue->object.id);
	bytes_put64(record + 8, queue->change + 1);
	bytes_put64(record + 16, end);
	record[24] = (uint8_t)lane->priority;
	rc = append(queue, JOURNAL_CUT, record, sizeof(record));
	if (rc == 0)
		queue->change++;
	lane_follow(lane);
	lane->cut_owed = rc < 0;
	return rc;
}

int queue_note_owed_cut(struct lane *lane)
{
	return lane->cut_owed ? queue_note_cut(lane, lane->end) : 0;
}

static void put_move(uint8_t record[QUEUE_MOVE_RECORD], const struct queue_move_note *note, bool undo)
{
	const struct queue *from = note->from->queue, *to = note->to->queue;

	memset(record, 0, QUEUE_MOVE_RECORD);
	bytes_put64(record, from->object.id);
	bytes_put64(record + 8, from->change + 1);
	bytes_put64(record + 16, note->from_offset);
	record[24] = (uint8_t)note->from->priority;
	record[25] = (uint8_t)note->to->priority;
	record[26] = (uint8_t)note->why;
	record[27] = note->fresh ? MOVE_FRESH : 0;
	if (note->delivers)
		record[27] |= MOVE_DELIVERS;
	if (undo)
		record[27] |= MOVE_UNDO;
	if (note->forward)
		record[27] |= MOVE_FORWARD;
	if (note->again)
		record[27] |= MOVE_AGAIN;
	record[28] = (uint8_t)note->death;
	bytes_put64(record + 32, to->object.id);
	bytes_put64(record + 40, to->change + (from == to ? 2 : 1));
	bytes_put64(record + 48, note->to_offset);
	bytes_put64(record + 56, note->id);
	span_encode(record + MOVE_BYTES, &note->set);
}

int queue_note_move(const struct queue_move_note *note)
{
	uint8_t record[QUEUE_MOVE_RECORD];
	int rc;

	put_move(record, note, false);
	rc = append(note->from->queue, JOURNAL_MOVE, record, sizeof(record));
	if (rc < 0)
		return rc;
	note->from->queue->change++;
	note->to->queue->change++;
	if (note->to->moves_end <= note->to_offset)
		note->to->moves_end = note->to_offset + 1;
	return 0;
}

/* Both locks */
static void owe_unmove(struct lane *to)
{
	struct local *local = queue_local(to->queue);

	pthread_mutex_lock(&local->unmoved.lock);
	to->unmoved_next = atomic_load(&local->unmoved.lanes);
	atomic_store(&local->unmoved.lanes, to);
	pthread_mutex_unlock(&local->unmoved.lock);
	to->cut_owed = true; /* so that nothing comes there before */
}

/*
 * If this cannot be written either, it is owed: it has its numbers, and no queue notes anything before it is in the journal. If the daemon dies before, nothing
 * has happened to the message since, and the start finishes the move.
 */
void queue_note_unmove(const struct queue_move_note *note)
{
	struct lane *to = note->to;
	struct queue_move_note undo = *note;
	struct span *span = span_at(note->from, note->from_offset);

	undo.fresh = span == NULL;
	undo.set = span != NULL ? span_as(span) : (struct span_set){ .state = SPAN_READY };
	undo.set.place =
	    span != NULL ? span->place + (int64_t)(note->from_offset - span->first) : (int64_t)note->from_offset;
	if (span == NULL)
		undo.set.due_ms = undo.set.expires_ms = QUEUE_NEVER;
	put_move(to->unmove, &undo, true);
	if (append(note->from->queue, JOURNAL_MOVE, to->unmove, sizeof(to->unmove)) < 0)
		owe_unmove(to);
	note->from->queue->change++;
	to->queue->change++;
	to->moves_end = note->to_offset;
}

/* ---- replay; no other thread is there yet ---- */

struct lane *queue_find_lane(struct local *local, uint64_t queue_id, uint32_t priority)
{
	struct object *object = registry_get(local, queue_id);
	struct lane *lane = NULL;

	if (object != NULL && object->kind == ENGINE_QUEUE && priority < ENGINE_PRIORITIES)
		lane = queue_lane(queue_of_object(object), priority);
	object_put(object);
	return lane;
}

/* The number of a change that the journal tells of, whether or not it counts. */
static void see_change(struct queue *queue, uint64_t change)
{
	if (change > queue->seen_change && change < INT64_MAX)
		queue->seen_change = change;
}

/* Was the record lost that comes before this change of the queue? Then it is as if this one had been lost as well. */
static bool is_torn_off(const struct lane *lane, uint64_t change)
{
	if (lane != NULL)
		see_change(lane->queue, change);
	return lane != NULL && change > lane->queue->change + 1;
}

/* Is the change with this number news? */
static bool is_new(struct queue *queue, uint64_t change)
{
	see_change(queue, change);
	if (change != queue->change + 1)
		return false;
	queue->change = change;
	return true;
}

/* Numbers go on above those of what was torn off. */
static void replay_going_on(struct local *local, const uint8_t *record)
{
	struct object *object = registry_get(local, bytes_get64(record));
	struct queue *queue = object != NULL && object->kind == ENGINE_QUEUE ? queue_of_object(object) : NULL;
	uint64_t on = bytes_get64(record + 16);

	if (queue != NULL && queue->change == bytes_get64(record + 8) && on > queue->change && on < INT64_MAX)
		queue->change = on;
	object_put(object);
}

static int replay_range(struct local *local, const uint8_t *record, size_t size)
{
	struct span_set set = { .state = SPAN_GONE };
	uint32_t count = bytes_get32(record + 24), deliveries;
	uint64_t first = bytes_get64(record + 16);
	struct lane *lane = queue_find_lane(local, bytes_get64(record), record[28]);
	struct span *span;

	if (size > QUEUE_BYTES && size != PLACED_BYTES &&
	    (size != QUEUE_BYTES + SPAN_BYTES || span_decode(record + QUEUE_BYTES, &set) < 0))
		return 0;
	if (count == 0 && size == QUEUE_BYTES)
		replay_going_on(local, record);
	if (lane != NULL && size == PLACED_BYTES && commit_lost(local, bytes_get64(record + QUEUE_BYTES))) {
		see_change(lane->queue, bytes_get64(record + 8)); /* it has lost its note, which came before */
		return 0;
	}
	if (lane == NULL || count == 0 || first > INT64_MAX || !is_new(lane->queue, bytes_get64(record + 8)))
		return 0;
	if (size == PLACED_BYTES && count > LIMIT_SEGMENT_DATA / 16)
		return 0; /* no batch has so many */
	if (size == PLACED_BYTES)
		return queue_remember_placed(lane, first, count, bytes_get64(record + QUEUE_BYTES));
	span = span_at(lane, first);
	deliveries = record[29] == WHY_TAKEN && span != NULL ? span->deliveries + 1 : set.deliveries;
	if (record[29] < WHY_COUNT)
		count_why(lane->queue, (enum queue_why)record[29], count, deliveries);
	return lane_replay(lane, first, count, &set);
}

static int replay_cut(struct local *local, const uint8_t *record)
{
	struct lane *lane = queue_find_lane(local, bytes_get64(record), record[24]);

	if (lane != NULL && is_new(lane->queue, bytes_get64(record + 8))) {
		queue_placed_cut(lane, bytes_get64(record + 16));
		queue_moves_cut(lane, bytes_get64(record + 16));
		lane_cut(lane, bytes_get64(record + 16));
	}
	return 0;
}

/* The move just before it did not come about. */
static int replay_unmove(
    struct local *local, struct lane *from, struct lane *to, const uint8_t *record, const struct span_set *set)
{
	int rc = 0;

	if (from != NULL && is_new(from->queue, bytes_get64(record + 8))) {
		queue_forget_move(local, bytes_get64(record + 56));
		if (record[26] < WHY_COUNT)
			count_why(from->queue, (enum queue_why)record[26], -1, 0);
		rc = lane_replay(from, bytes_get64(record + 16), 1, set);
	}
	if (to != NULL && is_new(to->queue, bytes_get64(record + 40))) {
		if (record[26] != WHY_MOVED_WITHIN)
			to->queue->totals.moved_in--;
		if (record[27] & MOVE_DELIVERS)
			count_why(to->queue, WHY_DELIVERED, -1,
			    from != NULL && from->queue == to->queue ? set->deliveries + 1 : 1);
		lane_cut(to, bytes_get64(record + 48));
	}
	return rc;
}

static int remember_move(struct local *local, struct lane *from, const uint8_t *record)
{
	const struct queue_pending pending = { .id = bytes_get64(record + 56),
		.from_queue = bytes_get64(record),
		.from_offset = bytes_get64(record + 16),
		.from_priority = record[24],
		.to_queue = bytes_get64(record + 32),
		.to_offset = bytes_get64(record + 48),
		.to_priority = record[25],
		.death = record[28] <= DEATH_OF(ENGINE_DELIVERY_LIMIT) ? record[28] : 0,
		.within = record[26] == WHY_MOVED_WITHIN,
		.forward = record[27] & MOVE_FORWARD,
		.again = record[27] & MOVE_AGAIN,
		.gone = record[27] & MOVE_AGAIN ? NULL : queue_find_placed(from, bytes_get64(record + 16)) };

	return queue_remember_move(local, &pending);
}

static int replay_move(struct local *local, const uint8_t *record)
{
	struct lane *from = queue_find_lane(local, bytes_get64(record), record[24]);
	struct lane *to = queue_find_lane(local, bytes_get64(record + 32), record[25]);
	struct span_set set, gone = { .state = SPAN_GONE };
	bool again = record[27] & MOVE_AGAIN;
	int rc = 0;

	if (span_decode(record + MOVE_BYTES, &set) < 0 || is_torn_off(from, bytes_get64(record + 8)) ||
	    (to != NULL && from != NULL && to->queue != from->queue && is_torn_off(to, bytes_get64(record + 40))))
		return 0;
	if (record[27] & MOVE_UNDO)
		return replay_unmove(local, from, to, record, &set);
	if (from != NULL && is_new(from->queue, bytes_get64(record + 8))) {
		if (record[26] < WHY_COUNT && !again)
			count_why(from->queue, (enum queue_why)record[26], 1, 0);
		if (!again)
			rc = lane_replay(from, bytes_get64(record + 16), 1, &gone);
		if (rc == 0)
			rc = remember_move(local, from, record);
	}
	if (rc == 0 && to != NULL && is_new(to->queue, bytes_get64(record + 40))) {
		if (record[26] != WHY_MOVED_WITHIN && !again)
			count_why(to->queue, WHY_MOVED_IN, 1, 0);
		if (record[27] & MOVE_DELIVERS)
			count_why(to->queue, WHY_DELIVERED, 1, set.deliveries);
		if (to->moves_end <= bytes_get64(record + 48))
			to->moves_end = bytes_get64(record + 48) + 1;
		if (!(record[27] & MOVE_FRESH))
			rc = lane_replay(to, bytes_get64(record + 48), 1, &set);
	}
	return rc;
}

int queue_replay(struct local *local, enum journal_type type, const void *record, size_t size)
{
	switch (type) {
	case JOURNAL_QUEUE: return size >= QUEUE_BYTES ? replay_range(local, record, size) : 0;
	case JOURNAL_CUT: return size == CUT_BYTES ? replay_cut(local, record) : 0;
	case JOURNAL_MOVE: return size == QUEUE_MOVE_RECORD ? replay_move(local, record) : 0;
	default: return 0;
	}
}

static void tell_of_lost(struct queue *queue)
{
	char name[ENGINE_NAME_MAX + 1];

	object_name(&queue->object, name);
	local_notify(queue_local(queue), 0,
	    "queue %s: its last %" PRIu64 " changes in the journal are lost or left out, as one of them is damaged or "
	    "did not come to the disk: what they settled may be delivered again",
	    name, queue->seen_change - queue->change);
}

static int go_on(struct queue *queue)
{
	uint8_t record[QUEUE_BYTES] = { 0 };
	int rc;

	if (queue->seen_change <= queue->change)
		return 0;
	tell_of_lost(queue);
	bytes_put64(record, queue->object.id);
	bytes_put64(record + 8, queue->change);
	bytes_put64(record + 16, queue->seen_change);
	rc = append(queue, JOURNAL_QUEUE, record, sizeof(record));
	if (rc == 0)
		queue->change = queue->seen_change;
	return rc;
}

int queue_go_on(struct local *local)
{
	struct object *object;
	uint64_t after = 0;
	int rc = 0;

	while (rc == 0 && (object = registry_next(local, NULL, ENGINE_QUEUE, after)) != NULL) {
		after = object->id;
		rc = go_on(queue_of_object(object));
		object_put(object);
	}
	return rc;
}
