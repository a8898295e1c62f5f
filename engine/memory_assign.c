/*
 * memory_assign - which member of a group, and which of its streams, has which partition.
 *
 * A stream that was opened for just one partition has that one. The others are shared (assign.h) among the named members
 * and the group's own streams that were opened for all; what a named member has is shared in the same way by its
 * streams. A partition that gets a new owner has what was given taken back, and the new one begins at the stored
 * offset; with no stream left it stays as it is, so that what the last one was given can still be acked.
 */
#include "engine/assign.h"
#include "engine/memory_internal.h"

static bool is_stream(const struct memory_consumer *c, const struct memory_object *member, uint32_t partition)
{
	return c->how == ENGINE_CONSUME_STREAM && c->member == member && c->partition == partition;
}

bool memory_has_stream(const struct memory_object *group, const struct memory_object *member)
{
	for (const struct memory_consumer *c = group->consumers; c != NULL; c = c->next) {
		if (c->how == ENGINE_CONSUME_STREAM && c->member == member)
			return true;
	}
	return false;
}

/* Numbers the streams of a member (NULL: the group's own) for all partitions from next on; returns the next number. */
static uint32_t number_streams(struct memory_object *group, const struct memory_object *member, uint32_t next)
{
	for (struct memory_consumer *c = group->consumers; c != NULL; c = c->next) {
		if (is_stream(c, member, ENGINE_ANY))
			c->unit = next++;
	}
	return next;
}

/* The first stream for this partition; for ENGINE_ANY the one of that number. */
static struct memory_consumer *find_stream(
    const struct memory_object *group, const struct memory_object *member, uint32_t partition, uint32_t unit)
{
	struct memory_consumer *c = group->consumers;

	while (c != NULL && (!is_stream(c, member, partition) || (partition == ENGINE_ANY && c->unit != unit)))
		c = c->next;
	return c;
}

/* The number of the stream that has the partition now, if it is one of this member's for all; a closed one has none. */
static uint32_t unit_of(const struct memory_cursor *cursor, const struct memory_object *member)
{
	const struct memory_consumer *owner = cursor->owner;

	return owner != NULL && is_stream(owner, member, ENGINE_ANY) ? owner->unit : ASSIGN_FREE;
}

static void set_owner(struct memory_cursor *cursor, struct memory_object *member, struct memory_consumer *owner)
{
	if (member != cursor->member || (owner != NULL && owner != cursor->owner)) {
		cursor->given = cursor->committed;
		cursor->epoch++;
	}
	cursor->member = member;
	cursor->owner = owner;
}

/* Who is to have each partition: the number of a member or of one of the group's streams. Returns the count of members. */
static uint32_t share_out(struct memory_object *group, uint32_t *units)
{
	uint32_t members = 0, count;

	for (struct memory_object *m = group->members; m != NULL; m = m->next_member)
		m->unit = members++;
	count = number_streams(group, NULL, members);
	for (uint32_t p = 0; p < group->partition_count; p++) {
		const struct memory_cursor *cursor = &group->cursors[p];

		if (find_stream(group, NULL, p, 0) != NULL)
			units[p] = ASSIGN_NOT;
		else if (cursor->member != NULL)
			units[p] = cursor->member->joined ? cursor->member->unit : ASSIGN_FREE;
		else
			units[p] = unit_of(cursor, NULL);
	}
	assign_sticky(units, group->partition_count, count);
	return members;
}

static void share_out_within(struct memory_object *group, struct memory_object *member, const uint32_t *units)
{
	uint32_t streams = number_streams(group, member, 0), owners[ENGINE_PARTITIONS_MAX];

	for (uint32_t p = 0; p < group->partition_count; p++)
		owners[p] = units[p] == member->unit ? unit_of(&group->cursors[p], member) : ASSIGN_NOT;
	assign_sticky(owners, group->partition_count, streams);
	for (uint32_t p = 0; p < group->partition_count; p++) {
		if (owners[p] != ASSIGN_NOT)
			set_owner(&group->cursors[p], member, find_stream(group, member, ENGINE_ANY, owners[p]));
	}
}

void memory_rebalance(struct memory_object *group)
{
	uint32_t units[ENGINE_PARTITIONS_MAX], members = share_out(group, units);

	for (uint32_t p = 0; p < group->partition_count; p++) {
		if (units[p] == ASSIGN_NOT)
			set_owner(&group->cursors[p], NULL, find_stream(group, NULL, p, 0));
		else if (units[p] >= members)
			set_owner(&group->cursors[p], NULL, find_stream(group, NULL, ENGINE_ANY, units[p]));
	}
	for (struct memory_object *member = group->members; member != NULL; member = member->next_member)
		share_out_within(group, member, units);
	memory_wake_group(group);
}
