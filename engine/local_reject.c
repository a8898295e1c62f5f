/*
 * local_reject - a group gives a message up: it goes to the group's dead letters, and is committed.
 *
 * A reject is two steps: the dead letter is appended to the group's dlq and synced, then the message is acked. A crash just in
 * between leaves it in both, so that it may be rejected a second time; it is never lost. Rejects of a group are done one at a
 * time. If the partition goes to another member between the steps, the dead letter stays and the caller is told ESTALE.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/local_member.h"
#include "engine/local_queue.h"

struct queue *group_find_dlq(struct group *group)
{
	struct object *object = registry_find(local_of(&group->object), group->object.id, ENGINE_QUEUE, "dlq");

	return object != NULL ? queue_of_object(object) : NULL;
}

/* ---- the dead letter ---- */

void dead_letter_make(struct dead_letter *letter, struct queue *dlq, struct engine_view *view)
{
	letter->death = (struct engine_death){ .reason = ENGINE_REJECTED, .count = 1, .ts_ms = clock_wall_ms() };
	letter->props = ENGINE_PROPS_INIT;
	queue_name(dlq, letter->name);
	*strrchr(letter->name, '/') = '\0'; /* it died in the group, and is in the group's dlq */
	letter->death.queue = (struct engine_span){ letter->name, strlen(letter->name) };
	if (view->batch.props != NULL)
		letter->props = view->batch.props[0];
	else
		letter->props.ts_ms = view->batch.ts_ms;
	letter->props.partition = ENGINE_ANY;
	letter->props.mark = 0;
	letter->props.priority = -1;
	letter->props.ttl_ms = letter->props.delay_ms = -1;
	letter->props.deaths = &letter->death;
	letter->props.death_count = 1;
	view->batch.props = &letter->props;
	view->batch.ts_ms = -1; /* it arrives now */
}

static int send_dead(struct queue *dlq, struct engine_producer *producer, struct engine_view *view)
{
	struct dead_letter letter;

	dead_letter_make(&letter, dlq, view);
	return queue_producer_send(producer, &view->batch);
}

static int ask_sync(void *ctx, struct engine_done *done)
{
	return queue_producer_sync(ctx, done);
}

/* Waits until all that the queue has is on disk. */
static int sync_queue(struct engine_producer *producer)
{
	return flusher_await(ask_sync, producer);
}

/* The message is among the dead letters, on disk. 0 too if it is damaged: then there is nothing to keep. */
static int bury(struct group *group, uint32_t partition, uint64_t offset, struct queue *dlq)
{
	struct engine_scratch scratch = { 0 };
	struct engine_producer *producer = NULL;
	struct engine_view view = { 0 };
	struct plog *plog;
	int rc = partition_open_log(topic_partition(group_topic(group), partition), &plog);

	if (rc == 0)
		rc = plog_read(plog, offset, 1, &scratch, &view);
	if (rc == 0 && view.offset != offset)
		rc = -ESTALE; /* compaction took it */
	if (rc == -ESTALE || (rc == -EIO && view.batch.count > 0)) {
		rc = 0;
		goto out;
	}
	if (rc == 0)
		rc = queue_producer_open(&dlq->object.base, 0, false, &producer);
	if (rc < 0)
		goto out;
	queue_producer_again(producer);
	rc = send_dead(dlq, producer, &view);
	if (rc == 0) /* else the machine could die with the commit on disk, and not the message */
		rc = sync_queue(producer);
	queue_producer_close(producer);
out:
	engine_scratch_release(&scratch);
	return rc;
}

/* ---- rejecting ---- */

/* May it be rejected now? group.lock is taken and let go. */
static int check_reject(struct group *group, struct member *member, uint32_t partition, uint64_t offset)
{
	const struct cursor *cursor;
	uint64_t earliest, end;
	int rc = group_lock(group);

	if (rc < 0)
		return rc;
	if (member != NULL)
		member_seen(member);
	rc = member_may_ack(group, member, partition);
	cursor = cursor_refresh(group, partition, &earliest, &end);
	if (rc == 0)
		rc = cursor_check_ack(cursor, partition, offset);
	group_unlock(group);
	return rc;
}

static int reject_one(
    struct engine_object *base, struct group *group, struct member *member, uint32_t partition, uint64_t offset)
{
	struct queue *dlq = group_find_dlq(group);
	int rc;

	pthread_mutex_lock(&group->reject_lock); /* or two of the same offset would both find it there */
	rc = check_reject(group, member, partition, offset);
	if (rc == 0 && dlq == NULL)
		rc = engine_explain(-EIO, "the group has no dead-letter queue");
	if (rc == 0)
		rc = bury(group, partition, offset, dlq);
	if (rc == 0)
		rc = local_ack(base, partition, offset);
	pthread_mutex_unlock(&group->reject_lock);
	if (dlq != NULL)
		object_put(&dlq->object);
	return rc;
}

static int enter(struct engine_object *base, uint32_t index, struct group **ret_group, struct member **ret_member)
{
	struct partition *partition;
	int rc = member_enter(base, true, ret_group, ret_member);

	if (rc == 0 && index != ENGINE_ANY)
		rc = topic_find(group_topic(*ret_group), index, &partition);
	if (rc == 0)
		topic_open_logs(group_topic(*ret_group), index);
	return rc;
}

int member_reject(struct engine_object *base, uint32_t partition, uint64_t offset)
{
	struct group *group = NULL;
	struct member *member = NULL;
	int rc;

	if (partition == ENGINE_ANY)
		return engine_explain(-EINVAL, "an offset is of one partition");
	rc = enter(base, partition, &group, &member);
	return rc < 0 ? rc : reject_one(base, group, member, partition, offset);
}

/* What was given in a partition and is not committed; none if it is not the member's. */
static int find_given(struct group *group, struct member *member, uint32_t index, uint64_t *ret_from, uint64_t *ret_to)
{
	const struct cursor *cursor;
	uint64_t earliest, end;
	int rc = group_lock(group);

	*ret_from = *ret_to = 0;
	if (rc < 0)
		return rc;
	rc = member_may_ack(group, member, index);
	cursor = cursor_refresh(group, index, &earliest, &end);
	if (rc == 0) {
		*ret_from = cursor->committed;
		*ret_to = cursor->given;
	}
	group_unlock(group);
	return rc == -ESTALE ? 0 : rc;
}

int64_t member_reject_all(struct engine_object *base, uint32_t index)
{
	struct group *group = NULL;
	struct member *member = NULL;
	uint64_t from, to;
	int64_t count = 0;
	int rc = enter(base, index, &group, &member);
	uint32_t partitions;

	if (rc < 0)
		return rc;
	partitions = atomic_load(&group_topic(group)->partitions);
	for (uint32_t i = 0; i < partitions && rc == 0; i++) {
		if (index != ENGINE_ANY && index != i)
			continue;
		rc = find_given(group, member, i, &from, &to);
		for (; rc == 0 && from < to; from++) {
			rc = reject_one(base, group, member, i, from);
			count += rc == 0;
		}
	}
	return rc < 0 && count == 0 ? rc : count;
}
