/*
 * local_assign - which stream of a group has which partition.
 *
 * Of the streams that are open, partition p goes to those that were opened for just p; if there is none, to those that
 * were opened for all. In order of opening, p belongs to number p modulo their count. So every partition has exactly
 * one owner while any stream could have it, and the shares differ by one at most.
 *
 * It is done anew when a stream comes or goes and when the topic grows. A partition that gets a new owner has what was
 * given taken back, and the new one begins at the stored offset; with no stream left it stays as it is, so that what
 * the last one was given can still be acked. Whoever calls wakes the group's waiters afterwards: they may have got
 * something.
 */
#include "engine/local_internal.h"

/* How many streams were opened for partition; the first of them too. */
static uint32_t count_streams(struct group *group, uint32_t partition, struct consumer **ret_first)
{
	uint32_t count = 0;

	for (struct consumer *c = group->streams; c != NULL; c = c->next) {
		if (c->partition == partition && count++ == 0)
			*ret_first = c;
	}
	return count;
}

/* The stream `steps` further on among those opened for the same as first. */
static struct consumer *nth_stream(struct consumer *first, uint32_t steps)
{
	struct consumer *c = first;

	while (steps > 0) {
		c = c->next;
		if (c->partition == first->partition)
			steps--;
	}
	return c;
}

static bool any_fixed(const struct group *group)
{
	for (const struct consumer *c = group->streams; c != NULL; c = c->next) {
		if (c->partition != ENGINE_ANY)
			return true;
	}
	return false;
}

static void set_owner(struct group *group, uint32_t partition, struct consumer *owner)
{
	struct cursor *cursor = &group->cursors[partition];

	if (owner != NULL && owner != cursor->owner)
		cursor_take_back(cursor);
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

void assign_streams(struct group *group)
{
	struct consumer *first_any = NULL, *next_any;
	uint32_t any = count_streams(group, ENGINE_ANY, &first_any);
	bool fixed = any_fixed(group);

	next_any = first_any;
	for (uint32_t i = 0; i < group->cursor_count; i++) {
		struct consumer *first = NULL;
		uint32_t count = fixed ? count_streams(group, i, &first) : 0;

		set_owner(group, i, count > 0 ? nth_stream(first, i % count) : next_any);
		/* next_any goes round those opened for all, in step with i. */
		if (any > 0)
			next_any = (i + 1) % any == 0 ? first_any : nth_stream(next_any, 1);
	}
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
