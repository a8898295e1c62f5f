/*
 * local_checkpoint - bringing cursors from the journal into the catalog, and back at the start.
 *
 * A checkpoint is: begin a new file of the journal; write all cursors that changed since the last one to the catalog,
 * in one transaction; sync the logs whose ends the journal has (local_note.c), and write where logs end (local_end.c); write what changed of the queues; sync the copy of the
 * catalog; drop the files before the new one. A record is appended and its cursor changed under the group's
 * lock, so whatever the old files say is in memory, and marked dirty, by the time that lock is taken here. If the
 * catalog cannot take it, the old files stay, and so do the marks: the next checkpoint tries again.
 *
 * What the old files say of cursors, logs and transactions may be replayed over a catalog that has it already; but not what they say of
 * queues: what became of a message that a commit brought is passed over then, and the commit brings it again. So the rows of
 * queues come last, and in their transaction it is noted that the files before the new one do not count any more.
 *
 * It runs when the journal has grown by LOCAL_JOURNAL_BYTES (but not more than once a second, until it is much more), LOCAL_CHECKPOINT_MS after the first change, and at close.
 *
 * At the start the journal is replayed over what the catalog said. No log needs to be open for that.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/failpoint.h"
#include "engine/local_commit.h"
#include "engine/local_queue.h"
#include "engine/local_stage.h"
#include "engine/local_tx.h"

/* Cursors on their way to the catalog. */
struct collection {
	struct catalog_cursor *rows;
	size_t count, room;
};

static int reserve(struct collection *c, size_t more)
{
	size_t room = c->room > 0 ? c->room : 64;
	struct catalog_cursor *rows;

	while (room - c->count < more)
		room *= 2;
	if (room == c->room)
		return 0;
	rows = realloc(c->rows, room * sizeof(*rows));
	if (rows == NULL)
		return -ENOMEM;
	c->rows = rows;
	c->room = room;
	return 0;
}

static int collect_group(struct collection *c, struct group *group)
{
	int rc;

	pthread_mutex_lock(&group->lock);
	rc = reserve(c, group->dirty_count);
	for (uint32_t i = 0; rc == 0 && group->dirty_count > 0 && i < group->cursor_count; i++) {
		struct cursor *cursor = &group->cursors[i];

		if (!cursor->dirty)
			continue;
		cursor->dirty = false;
		group->dirty_count--;
		c->rows[c->count++] = (struct catalog_cursor){ .group_id = group->object.id,
			.partition = i,
			.committed = cursor->committed,
			.given = group->touched ? cursor->given : ENGINE_OFFSET_NONE,
			.lost = cursor->lost };
	}
	pthread_mutex_unlock(&group->lock);
	return rc;
}

static int collect_all(struct local *local, struct collection *c)
{
	struct object *group;
	uint64_t after = 0;
	int rc = 0;

	while (rc == 0 && (group = registry_next(local, NULL, ENGINE_GROUP, after)) != NULL) {
		after = group->id;
		rc = collect_group(c, group_of_object(group));
		object_put(group);
	}
	return rc;
}

/* They are not in the catalog after all. */
static void mark_again(struct local *local, const struct collection *c)
{
	for (size_t i = 0; i < c->count; i++) {
		struct object *object = registry_get(local, c->rows[i].group_id);
		struct cursor *cursor;
		struct group *group;

		if (object == NULL)
			continue;
		group = group_of_object(object);
		pthread_mutex_lock(&group->lock);
		cursor = &group->cursors[c->rows[i].partition];
		if (!cursor->dirty)
			group->dirty_count++;
		cursor->dirty = true;
		pthread_mutex_unlock(&group->lock);
		object_put(object);
	}
}

static int put_cursors(struct local *local, const struct collection *c)
{
	bool again = false;
	int rc;

	do
		rc = catalog_put_cursors(local->catalog, c->rows, c->count);
	while (reserve_again(local, rc, &again));
	return rc;
}

/* What goes wrong with the copy is told of, and hurts nothing else. */
static void keep_copy(struct local *local, uint64_t journal)
{
	int rc = catalog_keep_copy(local->catalog, journal);

	if (rc < 0 && !(rc == -ENOSPC && reserve_is_used(local)) && !atomic_exchange(&local->copy_failed, true))
		local_fault(local, -rc, "the copy of the catalog, which fsck.mqfs repairs it by, cannot be written: %s",
		    strerror(-rc));
}

void checkpoint_keep_copy(struct local *local)
{
	uint64_t oldest;

	if (journal_oldest(local->store.journal_dirfd, &oldest) < 0)
		return;
	keep_copy(local, oldest > local->journal_from ? oldest : local->journal_from);
	if (oldest < local->journal_from)
		journal_drop(local->journal, local->journal_from); /* if not, then the next time */
}

/* checkpoint_lock */
static int run(struct local *local)
{
	struct collection c = { 0 };
	bool again = false;
	uint64_t number;
	int rc;

	do
		rc = journal_rotate(local->journal, &number);
	while (reserve_again(local, rc, &again));
	if (rc < 0)
		return rc;
	atomic_store(&local->checkpoint_pos, journal_end(local->journal));
	rc = commit_checkpoint(local);
	if (rc < 0)
		return rc;
	CRASHPOINT("checkpoint_after_commits");
	rc = collect_all(local, &c);
	if (rc == 0 && c.count > 0)
		rc = put_cursors(local, &c);
	if (rc < 0)
		mark_again(local, &c);
	free(c.rows);
	if (rc == 0)
		rc = tx_checkpoint(local);
	if (rc == 0)
		rc = commit_sync(local);
	if (rc == 0)
		rc = FAILPOINT("checkpoint_before_notes");
	if (rc == 0)
		rc = notes_settle(local);
	if (rc == 0)
		rc = FAILPOINT("checkpoint_before_ends");
	if (rc == 0)
		rc = ends_checkpoint(local);
	if (rc == 0)
		rc = stages_checkpoint(local);
	if (rc == 0)
		rc = FAILPOINT("checkpoint_before_queues");
	if (rc == 0)
		rc = queue_checkpoint(local, number);
	if (rc == 0)
		rc = FAILPOINT("checkpoint_before_drop");
	if (rc == 0)
		keep_copy(local, number);
	if (rc == 0)
		rc = journal_drop(local->journal, number);
	CRASHPOINT("checkpoint_after_drop");
	if (rc == 0)
		queue_trim_all(local);
	return rc;
}

int checkpoint_run(struct local *local)
{
	int rc;

	if (local->read_only)
		return 0;
	pthread_mutex_lock(&local->checkpoint_lock);
	atomic_store(&local->checkpoint_set, false);
	atomic_store(&local->checkpoint_soon, false);
	atomic_store(&local->checkpoint_ms, clock_mono_ms());
	rc = run(local);
	pthread_mutex_unlock(&local->checkpoint_lock);
	return rc;
}

void checkpoint_fire(struct timer *timer)
{
	struct local *local = (struct local *)((char *)timer - offsetof(struct local, checkpoint_timer));
	unsigned int tries = 0;
	int rc;

	do
		rc = checkpoint_run(local);
	while (warm_again(local, rc, &tries));
	if (rc == 0)
		return;
	/* A full disk is told of by the reserve, for as long as it is full. */
	if (!(rc == -ENOSPC && reserve_is_used(local)) && !atomic_exchange(&local->checkpoint_failed, true))
		local_fault(local, -rc, "a checkpoint of the cursors failed: %s", strerror(-rc));
	atomic_store(&local->checkpoint_set, true);
	timer_set_earlier(local, timer, clock_mono_ms() + LOCAL_CHECKPOINT_MS);
}

void checkpoint_note(struct local *local, uint64_t pos)
{
	uint64_t last = atomic_load_explicit(&local->checkpoint_pos, memory_order_relaxed);

	if (!atomic_exchange(&local->checkpoint_set, true))
		timer_set_earlier(local, &local->checkpoint_timer, clock_mono_ms() + LOCAL_CHECKPOINT_MS);
	if (pos > last && pos - last >= LOCAL_JOURNAL_MAX) {
		/* Once: what comes before that checkpoint ran counts for the next. */
		if (atomic_compare_exchange_strong(&local->checkpoint_pos, &last, pos))
			timer_set_earlier(local, &local->checkpoint_timer, clock_mono_ms());
	} else if (pos > last && pos - last >= LOCAL_JOURNAL_BYTES && !atomic_exchange(&local->checkpoint_soon, true)) {
		timer_set_earlier(
		    local, &local->checkpoint_timer, atomic_load(&local->checkpoint_ms) + LOCAL_CHECKPOINT_MIN_MS);
	}
}

void checkpoint_hurry(struct local *local)
{
	if (atomic_load(&local->checkpoint_set))
		timer_set_earlier(
		    local, &local->checkpoint_timer, atomic_load(&local->checkpoint_ms) + LOCAL_CHECKPOINT_MIN_MS);
}

/* ---- replay ---- */

/* Brings a stored cursor into memory. No other thread is there yet. */
void checkpoint_restore(struct group *group, const struct catalog_cursor *row, bool dirty)
{
	struct cursor *cursor;

	if (row->partition >= group->cursor_count)
		return;
	cursor = &group->cursors[row->partition];
	cursor->committed = row->committed;
	cursor->given = row->committed;
	cursor->lost = row->lost;
	if (row->given != ENGINE_OFFSET_NONE) {
		group->touched = true;
		cursor->given = row->given > row->committed ? row->given : row->committed;
	}
	cursor->position = cursor->given;
	if (dirty && !cursor->dirty) {
		cursor->dirty = true;
		group->dirty_count++;
	}
}

int checkpoint_replay(void *ctx, enum journal_type type, const void *record, size_t size)
{
	struct replaying *replaying = ctx;
	struct local *local = replaying->local;
	struct journal_cursor cursor;
	struct object *object;

	if (type == JOURNAL_STAGE)
		return stage_replay(local, record, size);
	local->replayed_some = true;
	if (type != JOURNAL_CURSOR) {
		atomic_store(&local->checkpoint_set, true);
		if (type == JOURNAL_ROUTE)
			return commit_replay(local, record, size);
		if (type == JOURNAL_END)
			return ends_replay(local, record, size);
		return type == JOURNAL_LOG ? note_replay(local, &replaying->redo, record, size)
					   : queue_replay(local, type, record, size);
	}
	if (journal_decode_cursor(record, size, &cursor) < 0)
		return 0;
	object = registry_get(local, cursor.group_id);
	if (object != NULL && object->kind == ENGINE_GROUP) {
		const struct catalog_cursor row = { .group_id = cursor.group_id,
			.partition = cursor.partition,
			.committed = cursor.committed,
			.given = cursor.given,
			.lost = cursor.lost };

		checkpoint_restore(group_of_object(object), &row, true);
		atomic_store(&local->checkpoint_set, true);
	}
	object_put(object); /* none: the group was removed since */
	return 0;
}
