/*
 * memory_cursor - where a group stands: acks, seeks, and what retention does to it.
 *
 * committed is the stored offset, given is how far the group has been given messages, and committed <= given always. An ack
 * moves committed up to given at most. Taking back what was given means given = committed and a new epoch of the cursor: a
 * consumer that notes another epoch than its own begins again at committed, and no longer moves given.
 */
#include <errno.h>
#include <inttypes.h>

#include "engine/memory_internal.h"

/* Puts the cursor somewhere and takes back what was given. */
static void put_cursor(struct memory_cursor *cursor, uint64_t offset)
{
	cursor->committed = cursor->given = offset;
	cursor->epoch++;
}

void memory_put_cursor(struct memory_object *group, uint32_t partition, uint64_t offset)
{
	uint64_t earliest =
	    group->parent->partitions[partition].earliest; /* it may have moved since it was looked for */

	put_cursor(&group->cursors[partition], offset > earliest ? offset : earliest);
	group->touched = true;
	memory_wake_group(group);
}

void memory_reset_cursors(struct memory_object *group)
{
	bool latest = memory_setting(group, "auto.offset.reset")[0] == 'l';

	for (uint32_t p = 0; p < group->partition_count; p++) {
		const struct memory_partition *partition = &group->parent->partitions[p];

		put_cursor(&group->cursors[p], latest ? memory_end(partition) : partition->earliest);
	}
	memory_wake_group(group);
}

bool memory_commit(struct memory_object *group, uint32_t partition, uint64_t offset)
{
	struct memory_cursor *cursor = &group->cursors[partition];

	if (offset <= cursor->committed)
		return false;
	group->acked += offset - cursor->committed;
	cursor->committed = offset;
	return true;
}

void memory_advance_turn(struct memory_object *group)
{
	group->turn = (group->turn + 1) % group->partition_count;
}

void memory_clamp_cursors(struct memory_object *topic, bool is_loss)
{
	struct memory_object *group = NULL;

	while ((group = memory_next_group(topic, group)) != NULL) {
		for (uint32_t p = 0; p < group->partition_count; p++) {
			struct memory_cursor *cursor = &group->cursors[p];
			uint64_t earliest = topic->partitions[p].earliest;

			if (cursor->given < earliest) {
				cursor->lost += is_loss ? earliest - cursor->given : 0;
				cursor->given = earliest;
			}
			if (cursor->committed < earliest)
				cursor->committed = earliest;
		}
	}
}

/* Of a call on a partition of group (or on all: ENGINE_ANY): as it is now, retention applied. Lets the lock go if it fails. */
static int look_at(struct memory_object *group, uint32_t partition)
{
	int rc = partition != ENGINE_ANY ? memory_check_partition(group->parent, partition) : 0;
	if (rc < 0) {
		memory_leave(group->memory);
		return rc;
	}
	memory_expire(group->parent);
	return 0;
}

static int enter_group(struct memory_object *group, uint32_t partition)
{
	int rc = memory_enter(group, ENGINE_GROUP);

	return rc < 0 ? rc : look_at(group, partition);
}

/* The same for a group or a member. */
static int enter_member(struct engine_object *object, uint32_t partition, struct memory_object **ret_group,
    struct memory_object **ret_member)
{
	int rc = memory_member_enter(memory_of(object), ret_group, ret_member);

	return rc < 0 ? rc : look_at(*ret_group, partition);
}

int memory_ack_all(struct engine_object *object, uint32_t partition)
{
	struct memory_object *group, *member;
	bool moved = false;
	int rc = enter_member(object, partition, &group, &member);

	if (rc < 0)
		return rc;
	for (uint32_t p = 0; p < group->partition_count && rc == 0; p++) {
		if (partition != ENGINE_ANY && partition != p)
			continue;
		rc = memory_may_ack(group, member, p);
		if (rc == 0)
			moved = memory_commit(group, p, group->cursors[p].given) || moved;
		if (rc == -ESTALE) /* nothing it was given there is its own any more */
			rc = 0;
	}
	if (moved)
		memory_advance_turn(group);
	memory_leave(group->memory);
	return rc;
}

int memory_check_ack(const struct memory_cursor *cursor, uint32_t partition, uint64_t offset)
{
	if (offset < cursor->committed)
		return engine_explain(-EALREADY,
		    "offset %" PRIu64 " of partition %" PRIu32 " is committed already: the stored offset is %" PRIu64,
		    offset, partition, cursor->committed);
	if (offset >= cursor->given)
		return engine_explain(-ERANGE,
		    "offset %" PRIu64 " of partition %" PRIu32
		    " was not given yet: the next one to be given is %" PRIu64,
		    offset, partition, cursor->given);
	return 0;
}

int memory_ack(struct engine_object *object, uint32_t partition, uint64_t offset)
{
	struct memory_object *group, *member;
	int rc;

	if (partition == ENGINE_ANY)
		return -EINVAL;
	rc = enter_member(object, partition, &group, &member);
	if (rc < 0)
		return rc;
	rc = memory_may_ack(group, member, partition);
	if (rc == 0)
		rc = memory_check_ack(&group->cursors[partition], partition, offset);
	if (rc == 0 && memory_commit(group, partition, offset + 1))
		memory_advance_turn(group);
	memory_leave(group->memory);
	return rc;
}

int memory_find_seek(
    const struct memory_object *group, uint32_t p, enum engine_seek how, int64_t value, uint64_t *ret_target)
{
	const struct memory_partition *partition = &group->parent->partitions[p];
	int64_t target = value;
	bool over = false;

	switch (how) {
	case ENGINE_SEEK_EARLIEST: *ret_target = partition->earliest; return 0;
	case ENGINE_SEEK_LATEST: *ret_target = memory_end(partition); return 0;
	case ENGINE_SEEK_TIME: *ret_target = memory_find_time(partition, value); return 0;
	case ENGINE_SEEK_RELATIVE:
		over = __builtin_add_overflow((int64_t)group->cursors[p].committed, value, &target);
		break;
	case ENGINE_SEEK_OFFSET: break;
	}
	if (over || target < 0 || (uint64_t)target < partition->earliest || (uint64_t)target > memory_end(partition))
		return engine_explain(-ERANGE, "partition %" PRIu32 " has offsets %" PRIu64 " to %" PRIu64, p,
		    partition->earliest, memory_end(partition));
	*ret_target = (uint64_t)target;
	return 0;
}

int memory_seek(struct engine_object *group, uint32_t partition, enum engine_seek how, int64_t value)
{
	struct memory_object *self = memory_of(group);
	int rc;

	if (partition == ENGINE_ANY && (how == ENGINE_SEEK_OFFSET || how == ENGINE_SEEK_RELATIVE))
		return -EINVAL;
	rc = enter_group(self, partition);
	if (rc < 0)
		return rc;
	for (uint32_t p = 0; rc == 0 && p < self->partition_count; p++) {
		uint64_t target = 0;

		if (partition != ENGINE_ANY && partition != p)
			continue;
		rc = memory_find_seek(self, p, how, value, &target);
		if (rc == 0)
			put_cursor(&self->cursors[p], target);
	}
	if (rc == 0) {
		self->touched = true;
		memory_wake_group(self);
	}
	memory_leave(self->memory);
	return rc;
}

int memory_cursor_stat(struct engine_object *group, uint32_t partition, struct engine_cursor_stat *ret_stat)
{
	struct memory_object *self = memory_of(group);
	const struct memory_partition *of;
	const struct memory_cursor *cursor;
	int rc;

	if (partition == ENGINE_ANY)
		return -EINVAL;
	rc = enter_group(self, partition);
	if (rc < 0)
		return rc;
	of = &self->parent->partitions[partition];
	cursor = &self->cursors[partition];
	*ret_stat = (struct engine_cursor_stat){ .committed = cursor->committed,
		.given = cursor->given,
		.earliest = of->earliest,
		.end = memory_end(of),
		.lost = cursor->lost };
	memory_leave(self->memory);
	return 0;
}

/* There is no disk to wait for. */
int memory_group_sync(struct engine_object *object, struct engine_done *done)
{
	struct memory_object *group, *member;
	int rc = memory_member_enter(memory_of(object), &group, &member);

	(void)done;
	if (rc == 0)
		memory_leave(group->memory);
	return rc;
}
