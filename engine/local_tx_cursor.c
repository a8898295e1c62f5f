/*
 * local_tx_cursor - acks, rejects and seeks of groups that are staged.
 *
 * For each partition what counts is the stored offset that will be: an ack is checked against what is given now and against what
 * the transaction has staged before; a seek takes the place of it. A reject is a message to the group's dead letters, and
 * an ack.
 */
#include <errno.h>
#include <inttypes.h>

#include "engine/local_member.h"
#include "engine/local_tx.h"

/* Begins: *ret_tx is held as by tx_enter_open. */
static int enter(struct engine_object *base, struct engine_object *of, uint32_t index, struct tx **ret_tx,
    struct group **ret_group, struct member **ret_member)
{
	struct partition *partition;
	int rc = tx_enter_open(base, ret_tx);

	if (rc < 0)
		return rc;
	rc = member_enter(of, true, ret_group, ret_member);
	if (rc == 0 && index != ENGINE_ANY)
		rc = topic_find(group_topic(*ret_group), index, &partition);
	if (rc < 0)
		tx_leave_open(*ret_tx);
	else
		topic_open_logs(group_topic(*ret_group), index);
	return rc;
}

/* The cursor as the transaction sees it. group.lock */
static struct cursor cursor_staged(const struct tx *tx, struct group *group, uint32_t index)
{
	const struct staged_cursor *staged = staged_find_cursor(&tx->staged, group->object.id, index);
	uint64_t earliest, end;
	struct cursor cursor = *cursor_refresh(group, index, &earliest, &end);

	if (staged != NULL) {
		cursor.committed = staged->offset;
		if (staged->seek || cursor.given < cursor.committed) /* a seek takes back what was given */
			cursor.given = cursor.committed;
	}
	return cursor;
}

/* May the message be acked? */
static int check(struct tx *tx, struct group *group, struct member *member, uint32_t index, uint64_t offset)
{
	struct cursor cursor;
	int rc = group_lock(group);

	if (rc < 0)
		return rc;
	if (member != NULL)
		member_seen(member);
	rc = member_may_ack(group, member, index);
	cursor = cursor_staged(tx, group, index);
	group_unlock(group);
	return rc == 0 ? cursor_check_ack(&cursor, index, offset) : rc;
}

static int put(
    struct tx *tx, struct group *group, const struct member *member, uint32_t index, uint64_t offset, bool seek)
{
	const struct staged_cursor cursor = { .group = group->object.id,
		.member = member != NULL ? member->object.id : 0,
		.partition = index,
		.seek = seek,
		.offset = offset };

	int rc = staged_put_cursor(&tx->staged, &cursor);

	if (rc == 0)
		tx_name(tx, staged_owner(&cursor), &group->object);
	return rc;
}

int tx_ack(struct engine_object *base, struct engine_object *of, uint32_t index, uint64_t offset)
{
	struct member *member = NULL;
	struct group *group = NULL;
	struct tx *tx = NULL;
	int rc;

	if (index == ENGINE_ANY)
		return engine_explain(-EINVAL, "an offset is of one partition");
	rc = enter(base, of, index, &tx, &group, &member);
	if (rc < 0)
		return rc;
	rc = check(tx, group, member, index, offset);
	if (rc == 0)
		rc = put(tx, group, member, index, offset + 1, false);
	tx_leave_open(tx);
	return rc;
}

/* What was given in a partition, and is not acked, in the transaction or outside; none if it is not the member's. */
static int find_given(
    struct tx *tx, struct group *group, struct member *member, uint32_t index, uint64_t *ret_from, uint64_t *ret_to)
{
	struct cursor cursor;
	int rc = group_lock(group);

	*ret_from = *ret_to = 0;
	if (rc < 0)
		return rc;
	if (member != NULL)
		member_seen(member);
	rc = member_may_ack(group, member, index);
	cursor = cursor_staged(tx, group, index);
	group_unlock(group);
	if (rc == 0) {
		*ret_from = cursor.committed;
		*ret_to = cursor.given;
	}
	return rc == -ESTALE ? 0 : rc;
}

int tx_ack_all(struct engine_object *base, struct engine_object *of, uint32_t index)
{
	struct member *member = NULL;
	struct group *group = NULL;
	uint64_t from = 0, to = 0;
	struct tx *tx = NULL;
	uint32_t partitions;
	int rc = enter(base, of, index, &tx, &group, &member);

	if (rc < 0)
		return rc;
	partitions = atomic_load(&group_topic(group)->partitions);
	for (uint32_t i = 0; i < partitions && rc == 0; i++) {
		if (index != ENGINE_ANY && index != i)
			continue;
		rc = find_given(tx, group, member, i, &from, &to);
		if (rc == 0 && from < to)
			rc = put(tx, group, member, i, to, false);
	}
	tx_leave_open(tx);
	return rc;
}

/* ---- rejecting ---- */

/* Its message to the dead letters. Damaged: there is nothing to keep. */
static int bury(struct tx *tx, struct group *group, uint32_t index, uint64_t offset)
{
	struct queue *dlq = group_find_dlq(group);
	struct staged_send like = { .partition = ENGINE_ANY, .again = true };
	struct engine_scratch scratch = { 0 };
	struct engine_view view = { 0 };
	struct dead_letter letter;
	struct plog *plog;
	int rc;

	if (dlq == NULL)
		return engine_explain(-EIO, "the group has no dead-letter queue");
	like.target = dlq->object.id;
	rc = partition_open_log(topic_partition(group_topic(group), index), &plog);
	if (rc == 0)
		rc = plog_read(plog, offset, 1, &scratch, &view);
	if (rc == -ESTALE || (rc == -EIO && view.batch.count > 0)) {
		rc = 0;
	} else if (rc == 0) {
		dead_letter_make(&letter, dlq, &view);
		rc = staged_add_send(&tx->staged, &like, &view.batch, false);
	}
	engine_scratch_release(&scratch);
	object_put(&dlq->object);
	return rc;
}

static int reject_one(struct tx *tx, struct group *group, struct member *member, uint32_t index, uint64_t offset)
{
	size_t sends = tx->staged.send_count;
	int rc = check(tx, group, member, index, offset);

	if (rc == 0)
		rc = bury(tx, group, index, offset);
	if (rc < 0)
		return rc;
	rc = put(tx, group, member, index, offset + 1, false);
	if (rc < 0 && tx->staged.send_count > sends)
		staged_drop_last_send(&tx->staged);
	return rc;
}

int tx_reject(struct engine_object *base, struct engine_object *of, uint32_t index, uint64_t offset)
{
	struct member *member = NULL;
	struct group *group = NULL;
	struct tx *tx = NULL;
	int rc;

	if (index == ENGINE_ANY)
		return engine_explain(-EINVAL, "an offset is of one partition");
	rc = enter(base, of, index, &tx, &group, &member);
	if (rc < 0)
		return rc;
	rc = reject_one(tx, group, member, index, offset);
	tx_leave_open(tx);
	return rc;
}

int64_t tx_reject_all(struct engine_object *base, struct engine_object *of, uint32_t index)
{
	struct member *member = NULL;
	struct group *group = NULL;
	uint64_t from = 0, to = 0;
	struct tx *tx = NULL;
	int64_t count = 0;
	uint32_t partitions;
	int rc = enter(base, of, index, &tx, &group, &member);

	if (rc < 0)
		return rc;
	partitions = atomic_load(&group_topic(group)->partitions);
	for (uint32_t i = 0; i < partitions && rc == 0; i++) {
		if (index != ENGINE_ANY && index != i)
			continue;
		rc = find_given(tx, group, member, i, &from, &to);
		for (; rc == 0 && from < to; from++) {
			rc = reject_one(tx, group, member, i, from);
			count += rc == 0;
		}
	}
	tx_leave_open(tx);
	return rc < 0 && count == 0 ? rc : count;
}

/* ---- seeking ---- */

static int seek_one(struct tx *tx, struct group *group, uint32_t index, enum engine_seek how, int64_t value)
{
	const struct staged_cursor *staged = staged_find_cursor(&tx->staged, group->object.id, index);
	uint64_t target = 0;
	int rc;

	if (staged != NULL && how == ENGINE_SEEK_RELATIVE) { /* from where the transaction has put it */
		how = ENGINE_SEEK_OFFSET;
		if (__builtin_add_overflow((int64_t)staged->offset, value, &value))
			value = -1;
	}
	rc = group_find_target(group, index, how, value, &target);
	return rc == 0 ? put(tx, group, NULL, index, target, true) : rc;
}

int tx_seek(struct engine_object *base, struct engine_object *of, uint32_t index, enum engine_seek how, int64_t value)
{
	struct member *member = NULL;
	struct group *group = NULL;
	struct tx *tx = NULL;
	uint32_t partitions;
	int rc;

	if (index == ENGINE_ANY && (how == ENGINE_SEEK_OFFSET || how == ENGINE_SEEK_RELATIVE))
		return engine_explain(-EINVAL, "an offset is of one partition");
	rc = enter(base, of, index, &tx, &group, &member);
	if (rc < 0)
		return rc;
	if (member != NULL)
		rc = -EINVAL;
	partitions = atomic_load(&group_topic(group)->partitions);
	for (uint32_t i = 0; i < partitions && rc == 0; i++) {
		if (index == ENGINE_ANY || index == i)
			rc = seek_one(tx, group, i, how, value);
	}
	tx_leave_open(tx);
	return rc;
}
