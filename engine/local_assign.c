/*
 * local_assign - which member of a group, and which of its streams, has which partition.
 *
 * Of the streams that were opened for just one partition, the first that is still open has it. The other partitions are
 * shared (assign.h) among the units: each named member, and each stream of the group that was opened for all. What a
 * named member has is shared by its own streams in the same way. So every partition has exactly one owner while any stream
 * could have it, and it stays with its owner as far as balance allows.
 *
 * It is done anew when a stream or a member comes or goes and when the topic grows. A partition that gets a new owner has
 * what was given taken back, and the new one begins at the stored offset; with no stream left it stays as it is, so
 * that what the last one was given can still be acked. Whoever calls wakes the group's waiters afterwards: they may have got
 * something.
 */
#include "engine/assign.h"
#include "engine/local_member.h"

static void set_owner(struct group *group, uint32_t partition, struct member *member, struct consumer *owner)
{
	struct cursor *cursor = &group->cursors[partition];

	if (member != cursor->member || (owner != NULL && owner != cursor->owner))
		cursor_take_back(cursor);
	cursor->member = member;
	cursor->owner = owner;
}

/*
 * The consumers' own bits, which tell producers whom to wake. Between the two steps a producer wakes too few; the
 * waking that follows every new assignment makes up for it.
 */
static void set_bits(struct group *group)
{
	for (struct consumer *c = group->streams; c != NULL; c = c->next) {
		for (uint32_t word = 0; word < ENGINE_PARTITIONS_MAX / 64; word++)
			atomic_store_explicit(&c->owned[word], 0, memory_order_relaxed);
	}
	for (uint32_t i = 0; i < group->cursor_count; i++) {
		struct consumer *owner = group->cursors[i].owner;

		if (owner != NULL)
			atomic_fetch_or_explicit(&owner->owned[i / 64], UINT64_C(1) << (i % 64), memory_order_relaxed);
	}
}

/* The streams of a member (NULL: of the group itself) that were opened for all are numbered; returns the next number. */
static uint32_t number_streams(struct group *group, const struct member *member, uint32_t next)
{
	for (struct consumer *c = group->streams; c != NULL; c = c->next) {
		if (c->member == member && c->partition == ENGINE_ANY)
			c->unit = next++;
	}
	return next;
}

static struct consumer *stream_numbered(const struct group *group, const struct member *member, uint32_t unit)
{
	struct consumer *c = group->streams;

	while (c != NULL && (c->member != member || c->partition != ENGINE_ANY || c->unit != unit))
		c = c->next;
	return c;
}

/* The stream that was opened for just this partition, or NULL. */
static struct consumer *fixed_stream(const struct group *group, uint32_t partition)
{
	struct consumer *c = group->streams;

	while (c != NULL && c->partition != partition)
		c = c->next;
	return c;
}

/* The number of the stream that has the partition, if that is one of this member's. A stream that was closed has none. */
static uint32_t stream_unit(const struct cursor *cursor, const struct member *member)
{
	const struct consumer *owner = cursor->owner;

	return owner != NULL && owner->member == member && owner->partition == ENGINE_ANY ? owner->unit : ASSIGN_FREE;
}

/* ---- the two levels ---- */

/* What a member has, among its streams. */
static void assign_within(struct group *group, struct member *member, const uint32_t *units)
{
	uint32_t streams = number_streams(group, member, 0), owners[ENGINE_PARTITIONS_MAX];

	for (uint32_t i = 0; i < group->cursor_count; i++)
		owners[i] = units[i] == member->unit ? stream_unit(&group->cursors[i], member) : ASSIGN_NOT;
	assign_sticky(owners, group->cursor_count, streams);
	for (uint32_t i = 0; i < group->cursor_count; i++) {
		if (owners[i] != ASSIGN_NOT)
			set_owner(group, i, member, stream_numbered(group, member, owners[i]));
	}
}

/* The partitions that are no single stream's own, among members and streams. */
static void assign_units(struct group *group, uint32_t *units)
{
	uint32_t count = 0;

	for (struct member *member = group->members; member != NULL; member = member->next)
		member->unit = count++;
	count = number_streams(group, NULL, count);
	for (uint32_t i = 0; i < group->cursor_count; i++) {
		const struct cursor *cursor = &group->cursors[i];

		if (fixed_stream(group, i) != NULL)
			units[i] = ASSIGN_NOT;
		else if (cursor->member != NULL)
			units[i] = cursor->member->joined ? cursor->member->unit : ASSIGN_FREE;
		else
			units[i] = stream_unit(cursor, NULL);
	}
	assign_sticky(units, group->cursor_count, count);
}

void assign_streams(struct group *group)
{
	uint32_t units[ENGINE_PARTITIONS_MAX], members = 0;

	assign_units(group, units);
	for (struct member *member = group->members; member != NULL; member = member->next, members++)
		;
	for (uint32_t i = 0; i < group->cursor_count; i++) {
		if (units[i] == ASSIGN_NOT)
			set_owner(group, i, NULL, fixed_stream(group, i));
		else if (units[i] >= members)
			set_owner(group, i, NULL, stream_numbered(group, NULL, units[i]));
	}
	for (struct member *member = group->members; member != NULL; member = member->next)
		assign_within(group, member, units);
	set_bits(group);
}

void topic_assign_streams(struct topic *topic)
{
	struct local *local = local_of(&topic->object);
	struct object *object;
	uint64_t after = 0;

	while ((object = registry_next(local, &topic->object, ENGINE_GROUP, after)) != NULL) {
		struct group *group = group_of_object(object);

		after = object->id;
		if (group_lock(group) == 0) {
			assign_streams(group);
			group_unlock(group);
		}
		object_put(object);
	}
}
