/*
 * local_group - where a group stands in each partition, and how that survives.
 *
 * A cursor is committed <= given. It is written whole to the journal whenever one of the two moves, so that after the
 * death of the daemon `ack` still knows what was handed out; and to the catalog by checkpoints. What was given and not
 * committed is taken back by a seek and by a new owner (local_assign.c): then given falls to committed and the epoch
 * of the cursor rises, by which consumers that read before that know that they no longer move it. Epochs, streams and
 * positions die with the daemon, as its consumers do.
 *
 * When messages go from the front of a partition, nobody tells the groups: whoever looks at a cursor next brings it
 * forward (cursor_refresh). What retention took before it was given counts as lost; what a purge took does not.
 *
 * In the journal and the catalog a group that nothing was ever given to has given = ENGINE_OFFSET_NONE in all its
 * cursors: until it has had something, writing auto.offset.reset still moves it.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/local_internal.h"

#ifdef MQFS_DEBUG
void group_check_invariants(struct group *group)
{
	uint32_t dirty = 0;

	for (uint32_t i = 0; i < group->cursor_count; i++) {
		const struct cursor *c = &group->cursors[i];

		assert(c->committed <= c->given);
		assert(c->owner == NULL || (c->position <= c->given && consumer_owns(c->owner, i)));
		dirty += c->dirty;
	}
	assert(dirty == group->dirty_count);
}
#else
void group_check_invariants(struct group *group)
{
	(void)group;
}
#endif

/* ---- life ---- */

struct group *group_new(struct local *local, uint64_t id, struct topic *topic)
{
	struct group *group = calloc(1, sizeof(*group));

	if (group == NULL)
		return NULL;
	object_init(local, &group->object, ENGINE_GROUP, id, &topic->object);
	pthread_mutex_init(&group->lock, NULL);
	if (settings_init(&group->object, local->defaults[ENGINE_GROUP]) < 0) {
		group_free(group);
		return NULL;
	}
	return group;
}

void group_free(struct group *group)
{
	free(group->cursors);
	pthread_mutex_destroy(&group->lock);
	object_release(&group->object);
}

/* lock */
static int fit_cursors(struct group *group)
{
	uint32_t partitions = atomic_load(&group_topic(group)->partitions);
	struct cursor *cursors;

	if (group->cursor_count == partitions)
		return 0;
	cursors = realloc(group->cursors, partitions * sizeof(*cursors));
	if (cursors == NULL)
		return -ENOMEM;
	/* New partitions begin at 0 for everyone. */
	memset(cursors + group->cursor_count, 0, (partitions - group->cursor_count) * sizeof(*cursors));
	group->cursors = cursors;
	group->cursor_count = partitions;
	return 0;
}

int group_lock(struct group *group)
{
	int rc;

	pthread_mutex_lock(&group->lock);
	rc = atomic_load(&group->object.removed) ? -EIDRM : fit_cursors(group);
	if (rc < 0)
		pthread_mutex_unlock(&group->lock);
	else
		group_check_invariants(group);
	return rc;
}

void group_unlock(struct group *group)
{
	group_check_invariants(group);
	pthread_mutex_unlock(&group->lock);
}

/* ---- cursors; lock, as for all that follow up to the next heading ---- */

static void mark_dirty(struct group *group, struct cursor *cursor)
{
	if (!cursor->dirty)
		group->dirty_count++;
	cursor->dirty = true;
}

/* What was given below `earliest` is not there to be committed any more, and what was not is lost, or was purged. */
static void advance_to(struct group *group, struct cursor *cursor, uint64_t earliest, uint64_t purged)
{
	uint64_t had = cursor->given > purged ? cursor->given : purged;

	if (cursor->committed >= earliest)
		return;
	if (had < earliest)
		cursor->lost += earliest - had;
	cursor->committed = earliest;
	if (cursor->given < earliest)
		cursor->given = earliest;
	if (cursor->position < earliest)
		cursor->position = earliest;
	mark_dirty(group, cursor);
}

struct cursor *cursor_refresh(struct group *group, uint32_t partition, uint64_t *ret_earliest, uint64_t *ret_end)
{
	struct partition *of = topic_partition(group_topic(group), partition);
	struct cursor *cursor = &group->cursors[partition];

	partition_bounds(of, ret_earliest, ret_end);
	advance_to(group, cursor, *ret_earliest, atomic_load(&of->purged));
	return cursor;
}

void cursor_take_back(struct cursor *cursor)
{
	cursor->given = cursor->position = cursor->committed;
	cursor->epoch++;
}

static int append(struct group *group, uint32_t partition, const struct cursor *next)
{
	struct local *local = local_of(&group->object);
	struct journal_cursor record = { .group_id = group->object.id,
		.partition = partition,
		.committed = next->committed,
		.given = group->touched ? next->given : ENGINE_OFFSET_NONE,
		.lost = next->lost };
	bool again = false;
	uint64_t pos = 0;
	int rc;

	do
		rc = journal_append_cursor(local->journal, &record, &pos);
	while (reserve_again(local, rc, &again));
	if (rc == 0)
		checkpoint_note(local, pos);
	return rc;
}

int cursor_store(struct group *group, uint32_t partition, const struct cursor *next)
{
	struct cursor *cursor = &group->cursors[partition];
	bool dirty = cursor->dirty;
	int rc = append(group, partition, next);

	if (rc < 0)
		return engine_explain(rc, "the journal takes no more: %s", strerror(-rc));
	*cursor = *next;
	cursor->dirty = dirty;
	mark_dirty(group, cursor);
	return 0;
}

void cursor_give(struct group *group, uint32_t partition, uint64_t given)
{
	struct cursor *cursor = &group->cursors[partition];

	group->touched = true;
	if (cursor->given >= given)
		return;
	cursor->given = given;
	mark_dirty(group, cursor);
	/* Reading goes on when the disk is full or read-only: only an ack after a restart would not know of it. */
	append(group, partition, cursor);
}

void cursor_skip(struct group *group, uint32_t partition, uint64_t offset)
{
	struct cursor *cursor = &group->cursors[partition];

	if (cursor->committed >= offset)
		return;
	cursor->lost += offset - cursor->committed;
	cursor->committed = offset;
	if (cursor->given < offset)
		cursor->given = offset;
	if (cursor->position < offset)
		cursor->position = offset;
	mark_dirty(group, cursor);
	append(group, partition, cursor); /* if that fails the same damage is met again after a restart */
}

static struct cursor committed_at(const struct cursor *cursor, uint64_t committed)
{
	struct cursor next = *cursor;

	next.committed = committed;
	if (next.given < committed)
		next.given = committed;
	if (next.position < committed)
		next.position = committed;
	return next;
}

int cursor_commit(struct group *group, uint32_t partition, uint64_t committed)
{
	struct cursor next = committed_at(&group->cursors[partition], committed);
	uint64_t acked = committed - group->cursors[partition].committed;
	int rc;

	if (committed <= group->cursors[partition].committed)
		return 0;
	group->touched = true;
	rc = cursor_store(group, partition, &next);
	if (rc < 0)
		return rc;
	group->acked_total += acked;
	return 1;
}

void cursor_noted(struct group *group, uint32_t partition, uint64_t committed)
{
	struct cursor *cursor = &group->cursors[partition];

	group->touched = true;
	group->acked_total += committed - cursor->committed;
	*cursor = committed_at(cursor, committed);
	mark_dirty(group, cursor);
}

void group_advance_turn(struct group *group)
{
	group->turn = (group->turn + 1) % group->cursor_count;
}

/* ---- what happens to a group ---- */

void group_cut(struct group *group, uint32_t partition, uint64_t end)
{
	struct cursor *cursor;

	pthread_mutex_lock(&group->lock);
	if (partition < group->cursor_count) {
		cursor = &group->cursors[partition];
		if (cursor->given > end) {
			cursor->given = end;
			cursor->committed = cursor->committed < end ? cursor->committed : end;
			cursor_take_back(cursor);
			mark_dirty(group, cursor);
			if (!local_of(&group->object)->read_only)
				append(group, partition, cursor);
		}
	}
	pthread_mutex_unlock(&group->lock);
}

/* Where a group begins that was given nothing yet. lock */
static uint64_t beginning(struct group *group, uint32_t partition)
{
	uint64_t earliest, end;

	partition_bounds(topic_partition(group_topic(group), partition), &earliest, &end);
	return setting_value(&group->object, SET_AUTO_OFFSET_RESET) == RESET_LATEST ? end : earliest;
}

int group_start(struct group *group)
{
	struct catalog_cursor *rows;
	int rc;

	topic_open_logs(group_topic(group), ENGINE_ANY);
	rc = group_lock(group);
	if (rc < 0)
		return rc;
	rows = calloc(group->cursor_count, sizeof(*rows));
	for (uint32_t i = 0; rows != NULL && i < group->cursor_count; i++) {
		struct cursor *cursor = &group->cursors[i];

		cursor->committed = cursor->given = beginning(group, i);
		rows[i] = (struct catalog_cursor){ .group_id = group->object.id,
			.partition = i,
			.committed = cursor->committed,
			.given = ENGINE_OFFSET_NONE };
	}
	rc = rows != NULL ? catalog_put_cursors(local_of(&group->object)->catalog, rows, group->cursor_count) : -ENOMEM;
	group_unlock(group);
	free(rows);
	return rc;
}

void group_reset(struct group *group)
{
	topic_open_logs(group_topic(group), ENGINE_ANY);
	if (group_lock(group) < 0)
		return;
	for (uint32_t i = 0; i < group->cursor_count && !group->touched; i++) {
		struct cursor next = group->cursors[i];

		next.committed = beginning(group, i);
		cursor_take_back(&next);
		cursor_store(group, i, &next);
	}
	group_unlock(group);
	topic_wake(group_topic(group), group);
}

void topic_clamp_groups(struct topic *topic, uint32_t partition)
{
	struct local *local = local_of(&topic->object);
	uint64_t after = 0, earliest, end;
	struct object *object;

	while ((object = registry_next(local, &topic->object, ENGINE_GROUP, after)) != NULL) {
		struct group *group = group_of_object(object);

		after = object->id;
		if (group_lock(group) == 0) {
			uint64_t before = group->cursors[partition].committed;
			const struct cursor *cursor = cursor_refresh(group, partition, &earliest, &end);

			if (cursor->committed != before)
				append(group, partition, cursor);
			group_unlock(group);
		}
		object_put(object);
	}
}
