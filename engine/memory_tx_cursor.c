/*
 * memory_tx_cursor - acks, rejects and seeks of groups that are staged.
 *
 * For each partition what counts is the stored offset that will be: an ack is checked against what is given now and against what
 * the transaction has staged before; a seek takes the place of it. A reject is noted beside it, and an ack.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/memory_exchange.h"
#include "engine/memory_queue.h"
#include "engine/memory_tx.h"

struct of {
	struct memory_object *tx, *group, *member; /* member NULL: of the group itself */
};

static int find_group(struct memory_object *of, uint32_t partition, struct of *o)
{
	if (of->is_defaults || (of->kind != ENGINE_GROUP && of->kind != ENGINE_MEMBER))
		return -EINVAL;
	if (of->removed)
		return -EIDRM;
	o->member = of->kind == ENGINE_MEMBER ? of : NULL;
	o->group = o->member != NULL ? of->parent : of;
	if (partition != ENGINE_ANY && memory_check_partition(o->group->parent, partition) < 0)
		return -ENOENT;
	if (o->member != NULL)
		memory_member_seen(o->member);
	memory_expire(o->group->parent);
	return 0;
}

/* Takes the lock. */
static int enter(struct engine_object *tx, struct engine_object *of, uint32_t partition, struct of *ret_of)
{
	int rc = memory_tx_enter(tx, &ret_of->tx);

	if (rc < 0)
		return rc;
	rc = find_group(memory_of(of), partition, ret_of);
	if (rc < 0)
		memory_leave(ret_of->tx->memory);
	return rc;
}

/* The cursor as the transaction sees it. */
static struct memory_cursor cursor_staged(const struct of *o, uint32_t partition)
{
	const struct staged_cursor *staged = staged_find_cursor(&o->tx->tx->staged, o->group->id, partition);
	struct memory_cursor cursor = o->group->cursors[partition];

	if (staged != NULL) {
		cursor.committed = staged->offset;
		if (staged->seek || cursor.given < cursor.committed) /* a seek takes back what was given */
			cursor.given = cursor.committed;
	}
	return cursor;
}

static int put(const struct of *o, uint32_t partition, uint64_t offset, bool seek)
{
	const struct staged_cursor cursor = { .group = o->group->id,
		.member = o->member != NULL ? o->member->id : 0,
		.partition = partition,
		.seek = seek,
		.offset = offset };

	int rc = staged_put_cursor(&o->tx->tx->staged, &cursor);

	if (rc == 0 && staged_wants_name(&o->tx->tx->staged, staged_owner(&cursor)))
		staged_name(&o->tx->tx->staged, staged_owner(&cursor), ENGINE_GROUP, o->group->name);
	return rc;
}

static int check(const struct of *o, uint32_t partition, uint64_t offset)
{
	struct memory_cursor cursor = cursor_staged(o, partition);
	int rc = memory_may_ack(o->group, o->member, partition);

	return rc == 0 ? memory_check_ack(&cursor, partition, offset) : rc;
}

static int ack_one(const struct of *o, uint32_t partition, uint64_t offset)
{
	int rc = check(o, partition, offset);

	return rc == 0 ? put(o, partition, offset + 1, false) : rc;
}

/* One offset of one partition. */
static int settle_one(struct engine_object *tx, struct engine_object *group, uint32_t partition, uint64_t offset,
    int (*one)(const struct of *o, uint32_t partition, uint64_t offset))
{
	struct of o;
	int rc;

	if (partition == ENGINE_ANY)
		return engine_explain(-EINVAL, "an offset is of one partition");
	rc = enter(tx, group, partition, &o);
	if (rc < 0)
		return rc;
	rc = one(&o, partition, offset);
	memory_leave(o.tx->memory);
	return rc;
}

int memory_tx_ack(struct engine_object *tx, struct engine_object *group, uint32_t partition, uint64_t offset)
{
	return settle_one(tx, group, partition, offset, ack_one);
}

/* Calls each for what was given of the partitions, or of one, and is not acked; returns the sum of what it returns. */
static int64_t each_given(
    const struct of *o, uint32_t partition, int64_t (*each)(const struct of *o, uint32_t p, uint64_t from, uint64_t to))
{
	int64_t sum = 0;
	int64_t rc = 0;

	for (uint32_t p = 0; p < o->group->partition_count && rc >= 0; p++) {
		struct memory_cursor cursor;

		if (partition != ENGINE_ANY && partition != p)
			continue;
		rc = memory_may_ack(o->group, o->member, p);
		cursor = cursor_staged(o, p);
		if (rc == 0 && cursor.committed < cursor.given)
			rc = each(o, p, cursor.committed, cursor.given);
		if (rc == -ESTALE) /* nothing it was given there is its own any more */
			rc = 0;
		sum += rc > 0 ? rc : 0;
	}
	return rc < 0 && sum == 0 ? rc : sum;
}

static int64_t ack_given(const struct of *o, uint32_t p, uint64_t from, uint64_t to)
{
	(void)from;
	return put(o, p, to, false);
}

int memory_tx_ack_all(struct engine_object *tx, struct engine_object *group, uint32_t partition)
{
	struct of o;
	int rc = enter(tx, group, partition, &o);

	if (rc < 0)
		return rc;
	rc = (int)each_given(&o, partition, ack_given);
	memory_leave(o.tx->memory);
	return rc;
}

/* ---- rejecting ---- */

static int reject_one(const struct of *o, uint32_t partition, uint64_t offset)
{
	struct memory_tx *tx = o->tx->tx;
	struct memory_rejected *grown;
	int rc = check(o, partition, offset);

	if (rc == 0 && tx->reject_count == tx->reject_room) {
		grown = realloc(tx->rejects, (tx->reject_room * 2 + 8) * sizeof(*grown));
		if (grown == NULL)
			return -ENOMEM;
		tx->rejects = grown;
		tx->reject_room = tx->reject_room * 2 + 8;
	}
	if (rc == 0)
		rc = put(o, partition, offset + 1, false);
	if (rc == 0)
		tx->rejects[tx->reject_count++] = (struct memory_rejected){ o->group->id, offset, partition };
	return rc;
}

int memory_tx_reject(struct engine_object *tx, struct engine_object *group, uint32_t partition, uint64_t offset)
{
	return settle_one(tx, group, partition, offset, reject_one);
}

static int64_t reject_given(const struct of *o, uint32_t p, uint64_t from, uint64_t to)
{
	int64_t count = 0;
	int rc = 0;

	for (; from < to && rc == 0; from++) {
		rc = reject_one(o, p, from);
		count += rc == 0;
	}
	return count > 0 ? count : rc;
}

int64_t memory_tx_reject_all(struct engine_object *tx, struct engine_object *group, uint32_t partition)
{
	struct of o;
	int64_t rc = enter(tx, group, partition, &o);

	if (rc < 0)
		return rc;
	rc = each_given(&o, partition, reject_given);
	memory_leave(o.tx->memory);
	return rc;
}

/* ---- seeking ---- */

static int seek_one(const struct of *o, uint32_t partition, enum engine_seek how, int64_t value)
{
	const struct staged_cursor *staged = staged_find_cursor(&o->tx->tx->staged, o->group->id, partition);
	uint64_t target = 0;
	int rc;

	if (staged != NULL && how == ENGINE_SEEK_RELATIVE) { /* from where the transaction has put it */
		how = ENGINE_SEEK_OFFSET;
		if (__builtin_add_overflow((int64_t)staged->offset, value, &value))
			value = -1;
	}
	rc = memory_find_seek(o->group, partition, how, value, &target);
	return rc == 0 ? put(o, partition, target, true) : rc;
}

int memory_tx_seek(
    struct engine_object *tx, struct engine_object *group, uint32_t partition, enum engine_seek how, int64_t value)
{
	struct of o;
	int rc;

	if (partition == ENGINE_ANY && (how == ENGINE_SEEK_OFFSET || how == ENGINE_SEEK_RELATIVE))
		return engine_explain(-EINVAL, "an offset is of one partition");
	rc = enter(tx, group, partition, &o);
	if (rc < 0)
		return rc;
	if (o.member != NULL)
		rc = -EINVAL;
	for (uint32_t p = 0; p < o.group->partition_count && rc == 0; p++) {
		if (partition == ENGINE_ANY || partition == p)
			rc = seek_one(&o, p, how, value);
	}
	memory_leave(o.tx->memory);
	return rc;
}

/* ---- at the commit ---- */

int memory_tx_check_cursor(const struct memory_object *tx, const struct staged_cursor *staged)
{
	struct memory_object *group = memory_find(tx->memory, staged->group);
	struct memory_object *member = staged->member != 0 ? memory_find(tx->memory, staged->member) : NULL;
	const struct memory_cursor *cursor;

	if (group == NULL)
		return staged_gone(&tx->tx->staged, staged_owner(staged));
	if (staged->member != 0 && member == NULL)
		return engine_explain(-ESTALE, "the member is gone");
	if (staged->seek)
		return 0;
	memory_expire(group->parent);
	cursor = &group->cursors[staged->partition];
	if (memory_may_ack(group, member, staged->partition) < 0)
		return engine_explain(-ESTALE, "partition %" PRIu32 " is another member's now", staged->partition);
	if (cursor->committed >= staged->offset)
		return engine_explain(-ESTALE, "partition %" PRIu32 " was committed up to %" PRIu64 " elsewhere",
		    staged->partition, cursor->committed);
	if (cursor->given < staged->offset)
		return engine_explain(
		    -ESTALE, "what was given of partition %" PRIu32 " was taken back", staged->partition);
	return 0;
}

void memory_tx_move_cursor(struct memory_engine *memory, const struct staged_cursor *staged)
{
	struct memory_object *group = memory_find(memory, staged->group);

	if (staged->seek)
		memory_put_cursor(group, staged->partition, staged->offset);
	else if (memory_commit(group, staged->partition, staged->offset))
		memory_advance_turn(group);
}
