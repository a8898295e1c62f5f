/*
 * local_assign - which member of a group, and which of its streams, has which partition.
 *
 * Without named members: of the streams that are open, partition p goes to those that were opened for just p; if there is none,
 * to those that were opened for all. In order of opening, p belongs to number p modulo their count. So every partition has
 * exactly one owner while any stream could have it, and the shares differ by one at most.
 *
 * With named members, these and each stream of the group that was opened for all are the units among which the partitions
 * are shared, except those that streams were opened for alone. A partition stays with its unit if it can (Kafka's cooperative sticky
 * assignor): who has too many gives up those with the highest numbers, the unit that joined last first; what is free
 * goes, in ascending order, to who has fewest, the one that joined first among equals. What a named member has is shared by its
 * own streams as above.
 *
 * It is done anew when a stream or a member comes or goes and when the topic grows. A partition that gets a new owner has
 * what was given taken back, and the new one begins at the stored offset; with no stream left it stays as it is, so that
 * what the last one was given can still be acked. Whoever calls wakes the group's waiters afterwards: they may have got
 * something.
 */
#include "engine/local_member.h"

/* How many streams of a member (NULL: of the group itself) were opened for partition; the first of them too. */
static uint32_t count_streams(
    struct group *group, const struct member *member, uint32_t partition, struct consumer **ret_first)
{
	uint32_t count = 0;

	for (struct consumer *c = group->streams; c != NULL; c = c->next) {
		if (c->member == member && c->partition == partition && count++ == 0)
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
		if (c->partition == first->partition && c->member == first->member)
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

/* ---- without named members ---- */

static void assign_among_streams(struct group *group, bool fixed)
{
	struct consumer *first_any = NULL, *next_any;
	uint32_t any = count_streams(group, NULL, ENGINE_ANY, &first_any);

	next_any = first_any;
	for (uint32_t i = 0; i < group->cursor_count; i++) {
		struct consumer *first = NULL;
		uint32_t count = fixed ? count_streams(group, NULL, i, &first) : 0;

		set_owner(group, i, NULL, count > 0 ? nth_stream(first, i % count) : next_any);
		/* next_any goes round those opened for all, in step with i. */
		if (any > 0)
			next_any = (i + 1) % any == 0 ? first_any : nth_stream(next_any, 1);
	}
}

/* ---- with named members ---- */

/* A unit: a named member, or a stream of the group that was opened for all. */
struct unit {
	struct member *member;
	struct consumer *stream;
};

static bool next_unit(const struct group *group, struct unit *unit)
{
	if (unit->stream == NULL) {
		unit->member = unit->member == NULL ? group->members : unit->member->next;
		if (unit->member != NULL)
			return true;
		unit->stream = group->streams;
	} else {
		unit->stream = unit->stream->next;
	}
	while (unit->stream != NULL && (unit->stream->member != NULL || unit->stream->partition != ENGINE_ANY))
		unit->stream = unit->stream->next;
	return unit->stream != NULL;
}

static uint32_t *share_of(const struct unit *unit)
{
	return unit->member != NULL ? &unit->member->share : &unit->stream->share;
}

static bool has(const struct group *group, const struct unit *unit, uint32_t partition)
{
	const struct cursor *cursor = &group->cursors[partition];

	if (unit->member != NULL)
		return cursor->member == unit->member;
	return cursor->member == NULL && cursor->owner == unit->stream;
}

/* The unit gives up partitions until it has no more than so many. */
static void give_up(struct group *group, const struct unit *unit, uint32_t most, bool *taken)
{
	for (uint32_t i = group->cursor_count; i-- > 0 && *share_of(unit) > most;) {
		if (!taken[i] || !has(group, unit, i))
			continue;
		taken[i] = false;
		--*share_of(unit);
	}
}

/* Who keeps what it has: taken[i] stays true. Of `units`, as few as can be have one more than the rest. */
static void keep(struct group *group, uint32_t units, uint32_t partitions, bool *taken)
{
	uint32_t least = partitions / units, extra = partitions % units, over = 0;
	struct unit unit = { 0 };

	while (next_unit(group, &unit)) {
		give_up(group, &unit, least + 1, taken);
		over += *share_of(&unit) > least;
	}
	/* Of those that have one more the last ones give it up; the list goes one way, so the first `extra` are passed over. */
	for (unit = (struct unit){ 0 }; over > extra && next_unit(group, &unit);) {
		if (*share_of(&unit) <= least)
			continue;
		if (extra > 0)
			extra--;
		else
			give_up(group, &unit, least, taken);
	}
}

static struct unit fewest(const struct group *group)
{
	struct unit unit = { 0 }, best = { 0 };

	while (next_unit(group, &unit)) {
		if ((best.member == NULL && best.stream == NULL) || *share_of(&unit) < *share_of(&best))
			best = unit;
	}
	return best;
}

static void give(struct group *group, const struct unit *unit, uint32_t partition)
{
	struct consumer *first = NULL;
	uint32_t count;

	if (unit->member == NULL) {
		set_owner(group, partition, NULL, unit->stream);
		return;
	}
	count = count_streams(group, unit->member, ENGINE_ANY, &first);
	set_owner(group, partition, unit->member, count > 0 ? nth_stream(first, partition % count) : NULL);
}

static void assign_among_members(struct group *group)
{
	bool fixed[ENGINE_PARTITIONS_MAX] = { false }, taken[ENGINE_PARTITIONS_MAX] = { false };
	uint32_t units = 0, partitions = 0;
	struct unit unit = { 0 };

	for (uint32_t i = 0; i < group->cursor_count; i++) {
		struct consumer *first = NULL;
		uint32_t count = count_streams(group, NULL, i, &first);

		fixed[i] = count > 0;
		partitions += count == 0;
		if (count > 0)
			set_owner(group, i, NULL, nth_stream(first, i % count));
	}
	while (next_unit(group, &unit)) {
		units++;
		*share_of(&unit) = 0;
		for (uint32_t i = 0; i < group->cursor_count; i++) {
			if (fixed[i] || !has(group, &unit, i))
				continue;
			taken[i] = true;
			++*share_of(&unit);
		}
	}
	keep(group, units, partitions, taken);
	for (unit = (struct unit){ 0 }; next_unit(group, &unit);) {
		for (uint32_t i = 0; i < group->cursor_count; i++) {
			if (taken[i] && !fixed[i] && has(group, &unit, i))
				give(group, &unit, i);
		}
	}
	for (uint32_t i = 0; i < group->cursor_count; i++) {
		if (taken[i] || fixed[i])
			continue;
		unit = fewest(group);
		give(group, &unit, i);
		++*share_of(&unit);
	}
}

void assign_streams(struct group *group)
{
	if (group->members == NULL)
		assign_among_streams(group, any_fixed(group));
	else
		assign_among_members(group);
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
