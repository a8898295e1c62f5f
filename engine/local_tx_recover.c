/*
 * local_tx_recover - transactions that were committed, and of which a crash kept a part from being done.
 *
 * Cursors are set while the journal is replayed, when it comes to the note: what comes after it counts more. What is to be settled
 * is looked at afterwards: a message that still stands where it was, delivered as often as it was, is what the crash left, whether
 * nothing was done or the journal lost it behind the note. Acks are done before any queue is opened, since that takes
 * leases back; nacks and rejects then, as these go into logs, and dead letters that went on through an exchange. Messages are local_commit_recover.c's.
 */
#define HASH_NONFATAL_OOM 1

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/failpoint.h"
#include "engine/io.h"
#include "engine/local_commit_note.h"
#include "engine/local_tx.h"

/* It is committed, whatever the catalog says. */
static void set_committed(struct local *local, uint64_t id, int64_t ts_ms)
{
	struct object *object = registry_get(local, id);
	struct tx *tx = tx_of_object(object);

	if (object != NULL && object->kind == ENGINE_TX) {
		tx->dirty = tx->dirty || tx->state != ENGINE_TX_COMMITTED;
		tx->state = ENGINE_TX_COMMITTED;
		tx->why = ENGINE_TX_NOT;
		tx->ended_ms = ts_ms;
	}
	object_put(object);
}

/* The tail of a note that is whole. */
static bool read_tail(const struct commit_pending *pending, struct tx_note *ret_note)
{
	uint32_t size;

	if (!commit_is_whole(pending))
		return false;
	size = bytes_get32(pending->note + 4);
	return size > 0 && size <= pending->size - NOTE_HEAD &&
	       tx_note_read(pending->note + pending->size - size, size, ret_note) == 0;
}

/* ---- in the replay ---- */

static void replay_cursor(struct local *local, const struct staged_cursor *staged)
{
	struct object *object = registry_get(local, staged->group);
	struct group *group = group_of_object(object);
	const struct cursor *cursor;

	if (object != NULL && object->kind == ENGINE_GROUP && staged->partition < group->cursor_count) {
		cursor = &group->cursors[staged->partition];
		checkpoint_restore(group,
		    &(struct catalog_cursor){ .group_id = staged->group,
			.partition = staged->partition,
			.committed = staged->offset,
			.given = staged->seek || cursor->given < staged->offset ? staged->offset : cursor->given,
			.lost = cursor->lost },
		    true);
	}
	object_put(object);
}

/* The journal lost a record before the note, of the queue that it takes from: so it was not synced, and nothing followed. */
static bool is_torn_off(struct local *local, const struct tx_note *note)
{
	bool torn = false;

	for (uint32_t i = 0; i < note->settle_count && !torn; i++) {
		const struct staged_settle settle = tx_note_settle(note, i);
		struct object *object = registry_get(local, settle.queue);

		torn = (uint32_t)settle.how == TX_TAKEN && object != NULL && object->kind == ENGINE_QUEUE &&
		       queue_of_object(object)->change < settle.consumer;
		object_put(object);
	}
	return torn;
}

int tx_replay(struct local *local, struct commit_pending *pending)
{
	struct tx_note note;

	if (!read_tail(pending, &note))
		return 0;
	if (is_torn_off(local, &note)) {
		pending->next = 0;
		pending->size = 0;
		return 0;
	}
	set_committed(local, note.tx_id, note.ts_ms);
	for (uint32_t i = 0; i < note.cursor_count; i++) {
		const struct staged_cursor cursor = tx_note_cursor(&note, i);

		replay_cursor(local, &cursor);
	}
	return 0;
}

/* ---- before queues are opened ---- */

static int recover_ack(struct local *local, const struct staged_settle *settle)
{
	const struct span_set gone = { .state = SPAN_GONE };
	struct object *object = registry_get(local, settle->queue);
	uint32_t priority = TX_PRIORITY(settle->place);
	struct lane *lane = NULL;
	struct span *span = NULL;
	int rc = 0;

	if (object != NULL && object->kind == ENGINE_QUEUE && priority < ENGINE_PRIORITIES)
		lane = queue_lane(queue_of_object(object), priority);
	if (lane != NULL)
		span = span_at(lane, TX_OFFSET(settle->place));
	if (span != NULL && span->state == SPAN_UNACKED && span->deliveries == settle->deliveries) {
		pthread_mutex_lock(&lane->queue->lock);
		rc = lane_set(lane, TX_OFFSET(settle->place), 1, &gone, NULL, WHY_ACKED, NULL);
		pthread_mutex_unlock(&lane->queue->lock);
		local->recovered_moves = true;
	}
	object_put(object);
	return rc;
}

int tx_recover(struct local *local)
{
	struct commit_pending *pending, *next;
	struct tx_note note;
	int rc = 0;

	HASH_ITER (hh, local->commits.pending, pending, next) {
		if (!read_tail(pending, &note))
			continue;
		for (uint32_t i = 0; i < note.settle_count && rc == 0; i++) {
			const struct staged_settle settle = tx_note_settle(&note, i);

			if (settle.how == ENGINE_ACK)
				rc = recover_ack(local, &settle);
		}
	}
	return rc;
}

/* ---- afterwards ---- */

/* Both locks. What became of the lease when the queue was opened is no settling; READY, it is as good as nacked. */
static int settle_again(
    struct lane *lane, const struct staged_settle *settle, struct queue *target, struct wake_list *wake)
{
	uint64_t offset = TX_OFFSET(settle->place);
	struct span *span = NULL;
	enum span_state state = offset < lane->end ? lane_state(lane, offset, &span) : SPAN_GONE;

	if (state == SPAN_GONE || span == NULL || span->deliveries != settle->deliveries)
		return 0;
	queue_local(lane->queue)->recovered_moves = true;
	if (settle->how == ENGINE_REJECT)
		return lane_kill(lane, offset, 1, ENGINE_REJECTED, ENDED_SETTLED, target, wake);
	return state == SPAN_UNACKED ? span_return(span, offset, 1, ENDED_SETTLED, target, WHY_NOTHING, wake) : 0;
}

/* Locked. One that is damaged stays. */
static int take_read(struct lane *lane, uint64_t offset)
{
	static const struct span_set gone = { .state = SPAN_GONE };
	struct engine_scratch scratch = { 0 };
	struct engine_view view;
	uint64_t id;
	int rc = lane_read(lane, offset, 1, &scratch, &view, &id);

	if (rc == 0) {
		struct span_facts facts = facts_of(&view, id);

		rc = lane_set(lane, offset, 1, &gone, &facts, WHY_MOVED_OUT, NULL);
		queue_local(lane->queue)->recovered_moves = true;
	} else if (lane_lost(rc)) {
		rc = 0;
	}
	engine_scratch_release(&scratch);
	return rc;
}

/* A dead letter went on through an exchange: wherever in its dlq it is now, it is gone. */
static int take_again(struct local *local, const struct staged_settle *settle)
{
	struct object *object = registry_get(local, settle->queue);
	struct queue *queue = queue_of_object(object);
	struct lane *lane;
	uint64_t offset;
	struct span *span;
	int rc = 0;

	if (object == NULL || object->kind != ENGINE_QUEUE)
		goto out;
	rc = queue_open(queue);
	if (rc == 0)
		rc = queue_find(queue, settle->id, &lane, &offset);
	if (rc < 0) {
		rc = rc == -ENOENT ? 0 : rc;
		goto out;
	}
	rc = queue_lock(queue);
	assert(rc == 0); /* nobody removes it yet */
	if (lane_state(lane, offset, &span) != SPAN_GONE)
		rc = take_read(lane, offset);
	queue_unlock(queue);
out:
	object_put(object);
	return rc;
}

static int recover_other(struct local *local, const struct staged_settle *settle)
{
	struct object *object = registry_get(local, settle->queue);
	struct queue *queue = queue_of_object(object), *target = NULL;
	struct wake_list wake = { 0 };
	struct lane *lane = NULL;
	int rc = 0;

	if (object == NULL || object->kind != ENGINE_QUEUE || TX_PRIORITY(settle->place) >= ENGINE_PRIORITIES)
		goto out;
	rc = queue_open(queue);
	lane = queue_lane(queue, TX_PRIORITY(settle->place));
	if (rc < 0 || lane == NULL)
		goto out;
	target = queue_dead_target(queue);
	rc = queue_lock_both(queue, target);
	assert(rc == 0);
	rc = settle_again(lane, settle, target, &wake);
	queue_unlock_both(queue, target);
	wake_run(&wake);
out:
	if (target != NULL)
		object_put(&target->object);
	object_put(object);
	return rc;
}

/* Afterwards its messages are all that is left of a note. */
int tx_recover_rest(struct local *local)
{
	struct commit_pending *pending, *next;
	struct tx_note note;

	HASH_ITER (hh, local->commits.pending, pending, next) {
		int rc = 0;

		if (!read_tail(pending, &note))
			continue;
		CRASHPOINT("recover_tx");
		for (uint32_t i = 0; i < note.settle_count && rc == 0; i++) {
			const struct staged_settle settle = tx_note_settle(&note, i);

			if ((uint32_t)settle.how == TX_TAKEN)
				rc = take_again(local, &settle);
			else if (settle.how != ENGINE_ACK)
				rc = recover_other(local, &settle);
		}
		if (rc == 0) {
			bytes_put32(pending->note + 4, 0);
			continue;
		}
		atomic_store(&local->commits.stuck, true);
		local_fault(local, -rc, "a transaction that is committed could not be carried out: %s", strerror(-rc));
	}
	return 0;
}
