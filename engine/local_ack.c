/*
 * local_ack - the calls of engine.h on the cursors of a group: acks, seeks, and asking where it stands.
 *
 * Each opens the logs it needs first, then works under the group's lock, and writes one record to the journal for each
 * cursor it moves before it moves it. Acks move the turn at which the next ONE or SNAPSHOT begins, so that no partition
 * is left waiting behind a busy one.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/local_member.h"
#include "engine/local_stage.h"

/* Takes the group's lock for a call on one partition or, with ENGINE_ANY, all. */
static int enter(
    struct engine_object *base, uint32_t index, bool change, struct group **ret_group, struct member **ret_member)
{
	struct partition *partition;
	struct member *member = NULL;
	struct group *group = NULL;
	int rc = member_enter(base, change, &group, &member);

	if (rc < 0)
		return rc;
	if (ret_member == NULL && member != NULL) /* a call on the group alone */
		return -EINVAL;
	rc = index != ENGINE_ANY ? topic_find(group_topic(group), index, &partition) : 0;
	if (rc < 0)
		return rc;
	stages_take(group->object.parent);
	topic_open_logs(group_topic(group), index);
	rc = group_lock(group);
	if (rc < 0)
		return rc;
	*ret_group = group;
	if (ret_member != NULL)
		*ret_member = member;
	if (member != NULL)
		member_seen(member);
	return 0;
}

int local_ack_all(struct engine_object *base, uint32_t index)
{
	struct member *member = NULL;
	struct group *group = NULL;
	uint64_t earliest, end;
	bool moved = false;
	int rc = enter(base, index, true, &group, &member);

	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < group->cursor_count && rc >= 0; i++) {
		if (index != ENGINE_ANY && index != i)
			continue;
		rc = member_may_ack(group, member, i);
		if (rc == -ESTALE) /* nothing it was given there is its own any more */
			rc = 0;
		else if (rc == 0)
			rc = cursor_commit(group, i, cursor_refresh(group, i, &earliest, &end)->given);
		moved = moved || rc > 0;
	}
	if (moved)
		group_advance_turn(group);
	group_unlock(group);
	return rc < 0 ? rc : 0;
}

int cursor_check_ack(const struct cursor *cursor, uint32_t index, uint64_t offset)
{
	if (offset < cursor->committed)
		return engine_explain(-EALREADY,
		    "offset %" PRIu64 " of partition %" PRIu32 " is committed already: the stored offset is %" PRIu64,
		    offset, index, cursor->committed);
	if (offset >= cursor->given)
		return engine_explain(-ERANGE,
		    "offset %" PRIu64 " of partition %" PRIu32
		    " was not given yet: the next one to be given is %" PRIu64,
		    offset, index, cursor->given);
	return 0;
}

int local_ack(struct engine_object *base, uint32_t index, uint64_t offset)
{
	struct member *member = NULL;
	struct group *group = NULL;
	uint64_t earliest, end;
	int rc;

	if (index == ENGINE_ANY)
		return engine_explain(-EINVAL, "an offset is of one partition");
	rc = enter(base, index, true, &group, &member);
	if (rc < 0)
		return rc;
	rc = member_may_ack(group, member, index);
	if (rc == 0)
		rc = cursor_check_ack(cursor_refresh(group, index, &earliest, &end), index, offset);
	if (rc == 0)
		rc = cursor_commit(group, index, offset + 1);
	if (rc > 0)
		group_advance_turn(group);
	group_unlock(group);
	return rc < 0 ? rc : 0;
}

/* ---- seeking ---- */

/*
 * First offset at or after a time. The log is read for that, which is not done under the group's lock: so it is
 * found before, and what retention takes meanwhile only brings the cursor forward.
 */
static int find_time(struct group *group, uint32_t index, int64_t ts_ms, uint64_t *ret_offset)
{
	struct plog *plog;
	int rc = partition_open_log(topic_partition(group_topic(group), index), &plog);

	return rc < 0 ? rc : plog_find_time(plog, ts_ms, ret_offset);
}

/* Where a seek leads to. lock */
static int find_target(struct group *group, uint32_t index, enum engine_seek how, int64_t value, uint64_t *ret_target)
{
	uint64_t earliest, end;
	const struct cursor *cursor = cursor_refresh(group, index, &earliest, &end);
	int64_t target = value;
	bool over = false;

	if (how == ENGINE_SEEK_EARLIEST || how == ENGINE_SEEK_LATEST) {
		*ret_target = how == ENGINE_SEEK_EARLIEST ? earliest : end;
		return 0;
	}
	if (how == ENGINE_SEEK_RELATIVE)
		over = __builtin_add_overflow((int64_t)cursor->committed, value, &target);
	if (over || target < 0 || (uint64_t)target < earliest || (uint64_t)target > end)
		return engine_explain(
		    -ERANGE, "partition %" PRIu32 " has offsets %" PRIu64 " to %" PRIu64, index, earliest, end);
	*ret_target = (uint64_t)target;
	return 0;
}

/* Where that is, not below what the log begins with. The group is locked then. A time is looked for in the log before, without its lock. */
static int lock_and_find(struct group *group, uint32_t index, enum engine_seek how, int64_t value, uint64_t *ret_target)
{
	uint64_t target = 0, earliest = 0, end;
	int rc = how == ENGINE_SEEK_TIME ? find_time(group, index, value, &target) : 0;

	if (rc == 0)
		rc = group_lock(group);
	if (rc < 0)
		return rc;
	if (how == ENGINE_SEEK_TIME)
		cursor_refresh(group, index, &earliest, &end);
	else
		rc = find_target(group, index, how, value, &target);
	if (rc < 0)
		group_unlock(group);
	else
		*ret_target = target > earliest ? target : earliest;
	return rc;
}

int group_find_target(struct group *group, uint32_t index, enum engine_seek how, int64_t value, uint64_t *ret_target)
{
	int rc = lock_and_find(group, index, how, value, ret_target);

	if (rc == 0)
		group_unlock(group);
	return rc;
}

int cursor_put(struct group *group, uint32_t index, uint64_t target)
{
	struct cursor next = group->cursors[index];

	next.committed = target;
	cursor_take_back(&next);
	group->touched = true;
	return cursor_store(group, index, &next);
}

static int seek_one(struct group *group, uint32_t index, enum engine_seek how, int64_t value)
{
	uint64_t target;
	int rc = lock_and_find(group, index, how, value, &target);

	if (rc < 0)
		return rc;
	rc = cursor_put(group, index, target);
	group_unlock(group);
	return rc;
}

int local_seek(struct engine_object *base, uint32_t index, enum engine_seek how, int64_t value)
{
	struct group *group = NULL;
	uint32_t count;
	int rc;

	if (index == ENGINE_ANY && (how == ENGINE_SEEK_OFFSET || how == ENGINE_SEEK_RELATIVE))
		return engine_explain(-EINVAL, "an offset is of one partition");
	rc = enter(base, index, true, &group, NULL);
	if (rc < 0)
		return rc;
	count = group->cursor_count;
	group_unlock(group);
	for (uint32_t i = 0; i < count && rc == 0; i++) {
		if (index == ENGINE_ANY || index == i)
			rc = seek_one(group, i, how, value);
	}
	topic_wake(group_topic(group), group);
	return rc;
}

/* ---- asking ---- */

int local_cursor_stat(struct engine_object *base, uint32_t index, struct engine_cursor_stat *ret_stat)
{
	struct group *group = NULL;
	const struct cursor *cursor;
	struct engine_cursor_stat stat;
	int rc;

	if (index == ENGINE_ANY)
		return engine_explain(-EINVAL, "an offset is of one partition");
	rc = enter(base, index, false, &group, NULL);
	if (rc < 0)
		return rc;
	cursor = cursor_refresh(group, index, &stat.earliest, &stat.end);
	stat.committed = cursor->committed;
	stat.given = cursor->given;
	stat.lost = cursor->lost;
	group_unlock(group);
	*ret_stat = stat;
	return 0;
}

/*
 * Partitions with messages that the journal would give again if a power cut took them from the log: after their acks. Newly
 * allocated, with room for one more.
 */
static int marked_points(struct topic *topic, struct sync_point ***ret_points, size_t *ret_count)
{
	uint32_t partitions = atomic_load(&topic->partitions);
	struct sync_point **points = malloc((partitions + 1) * sizeof(*points));
	size_t count = 0;

	if (points == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; atomic_load(&topic->marked) && i < partitions; i++) {
		if (atomic_load(&topic_partition(topic, i)->marked))
			count = partition_add_point(topic_partition(topic, i), points, count);
	}
	*ret_points = points;
	*ret_count = count;
	return 0;
}

int local_group_sync(struct engine_object *base, struct engine_done *done)
{
	struct sync_point **points = NULL;
	struct member *member = NULL;
	struct group *group = NULL;
	struct local *local;
	size_t count = 0;
	int rc = member_enter(base, false, &group, &member);

	if (rc == 0)
		rc = marked_points(group_topic(group), &points, &count);
	if (rc < 0)
		return rc;
	local = local_of(&group->object);
	if (count > 0 || journal_synced(local->journal) < journal_end(local->journal)) {
		points[count++] = &local->journal_sync;
		rc = flusher_wait_for(local, points, count, done);
	}
	free(points);
	return rc;
}
