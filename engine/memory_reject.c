/*
 * memory_reject - a group gives a message up: it goes to the group's dead letters, and is committed.
 */
#include <errno.h>
#include <stdio.h>

#include "engine/memory_internal.h"
#include "engine/memory_queue.h"

/* There is such a message, given and not committed, unless it was deleted meanwhile. */
int memory_reject_one(struct memory_object *group, uint32_t partition, uint64_t offset)
{
	const struct memory_partition *messages = &group->parent->partitions[partition];
	char name[MEMORY_QUEUE_NAME];
	int rc = 0;

	snprintf(name, sizeof(name), "%s/groups/%s", group->parent->name, group->name);
	if (offset >= messages->earliest)
		rc = memory_bury(group->dlq, memory_message_at(messages, offset), name);
	if (rc == 0 && memory_commit(group, partition, offset + 1))
		memory_advance_turn(group);
	return rc;
}

static int enter(struct engine_object *object, uint32_t partition, struct memory_object **ret_group,
    struct memory_object **ret_member)
{
	int rc = memory_member_enter(memory_of(object), ret_group, ret_member);

	if (rc < 0)
		return rc;
	if ((*ret_group)->memory->read_only)
		rc = -EROFS;
	else if (partition != ENGINE_ANY)
		rc = memory_check_partition((*ret_group)->parent, partition);
	if (rc == 0)
		memory_expire((*ret_group)->parent);
	else
		memory_leave((*ret_group)->memory);
	return rc;
}

int memory_reject(struct engine_object *object, uint32_t partition, uint64_t offset)
{
	struct memory_object *group, *member;
	int rc;

	if (partition == ENGINE_ANY)
		return engine_explain(-EINVAL, "an offset is of one partition");
	rc = enter(object, partition, &group, &member);
	if (rc < 0)
		return rc;
	rc = memory_may_ack(group, member, partition);
	if (rc == 0)
		rc = memory_check_ack(&group->cursors[partition], partition, offset);
	if (rc == 0)
		rc = memory_reject_one(group, partition, offset);
	memory_leave(group->memory);
	return rc;
}

int64_t memory_reject_all(struct engine_object *object, uint32_t partition)
{
	struct memory_object *group, *member;
	int64_t count = 0;
	int rc = enter(object, partition, &group, &member);

	if (rc < 0)
		return rc;
	for (uint32_t p = 0; p < group->partition_count && rc == 0; p++) {
		const struct memory_cursor *cursor = &group->cursors[p];

		if (partition != ENGINE_ANY && partition != p)
			continue;
		rc = memory_may_ack(group, member, p);
		while (rc == 0 && cursor->committed < cursor->given) {
			rc = memory_reject_one(group, p, cursor->committed);
			count += rc == 0;
		}
		if (rc == -ESTALE) /* nothing it was given there is its own any more */
			rc = 0;
	}
	memory_leave(group->memory);
	return rc < 0 && count == 0 ? rc : count;
}
