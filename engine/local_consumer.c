/*
 * local_consumer - giving messages to the consumers of a group.
 *
 * ONE takes the next message of the first partition, counted from the group's turn, that has one. SNAPSHOT notes at its
 * opening what it will give, so that it can start over. STREAM goes round the partitions it owns, a batch at a time.
 *
 * A fetch has three steps. Under the group's lock it picks where to read; without any lock it reads the log; and under
 * the lock again it takes what it read, if that is still what comes next: if meanwhile the partition went to another
 * stream, a seek moved the cursor or another thread fetched the same, it starts over. So members of a group read side
 * by side, and none waits for the disk of another.
 *
 * Damaged messages (EIO from the log, which has reported them) are passed over. The next message's ack commits them
 * too.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/assign.h"
#include "engine/local_member.h"
#include "engine/local_queue.h"
#include "engine/local_stage.h"

/* Where to read next. */
struct pick {
	uint32_t partition;
	uint32_t epoch;
	uint64_t offset, end;
	uint32_t most; /* messages */
};

static struct consumer *consumer_of(struct engine_consumer *handle)
{
	return (struct consumer *)handle;
}

/* ---- opening and closing ---- */

/* May the consumer have messages of this partition? group.lock */
static bool is_for(const struct consumer *consumer, uint32_t partition)
{
	return (consumer->partition == ENGINE_ANY || consumer->partition == partition) &&
	       consumer->group->cursors[partition].member == consumer->member;
}

/* What a SNAPSHOT will give: from the stored offsets to the ends, the first max.poll.records of it. group.lock */
static int take_snapshot(struct consumer *consumer)
{
	struct group *group = consumer->group;
	consumer->ranges = calloc(group->cursor_count, sizeof(*consumer->ranges));
	if (consumer->ranges == NULL)
		return -ENOMEM;
	consumer->limit = (uint64_t)setting_value(&group->object, SET_MAX_POLL_RECORDS);
	for (uint32_t i = 0; i < group->cursor_count; i++) {
		uint32_t partition = (group->turn + i) % group->cursor_count;
		struct range *range = &consumer->ranges[consumer->range_count];
		const struct cursor *cursor;
		uint64_t earliest, end;

		if (!is_for(consumer, partition))
			continue;
		cursor = cursor_refresh(group, partition, &earliest, &end);
		if (cursor->committed >= end)
			continue;
		*range = (struct range){ partition, cursor->epoch, cursor->committed, end };
		consumer->range_count++;
	}
	consumer->next_offset = consumer->range_count > 0 ? consumer->ranges[0].from : 0;
	return 0;
}

/* group.lock */
static void add_stream(struct consumer *consumer)
{
	struct consumer **link = &consumer->group->streams;

	while (*link != NULL)
		link = &(*link)->next;
	*link = consumer;
	assign_streams(consumer->group);
}

/* group.lock */
static void remove_stream(struct consumer *consumer)
{
	struct consumer **link = &consumer->group->streams;

	while (*link != consumer)
		link = &(*link)->next;
	*link = consumer->next;
	consumer->unit = ASSIGN_FREE; /* from now on what it had is nobody's */
	assign_streams(consumer->group);
}

/* group.lock */
static int join(struct consumer *consumer)
{
	struct group *group = consumer->group;
	int rc = 0;

	if (consumer->member != NULL) {
		member_join(consumer->member);
	} else if (consumer->how != ENGINE_CONSUME_STREAM) {
		rc = member_check_own(group);
		if (rc < 0)
			return rc;
	}
	if (consumer->how != ENGINE_CONSUME_STREAM && member_has_stream(group, consumer->member))
		return engine_explain(-EBUSY, "a stream of this %s is open, and has its messages",
		    consumer->member != NULL ? "member" : "group");
	if (consumer->how == ENGINE_CONSUME_SNAPSHOT)
		rc = take_snapshot(consumer);
	if (rc == 0 && consumer->how == ENGINE_CONSUME_STREAM)
		add_stream(consumer);
	if (rc == 0)
		group->readers++;
	if (rc == 0 && consumer->member != NULL)
		consumer->member->readers++;
	return rc;
}

static void consumer_free(struct consumer *consumer)
{
	if (consumer->member != NULL)
		object_put(&consumer->member->object);
	object_put(&consumer->group->object);
	free(consumer->ranges);
	free(consumer);
}

int local_consumer_open(
    struct engine_object *base, uint32_t index, enum engine_consume how, struct engine_consumer **ret_consumer)
{
	struct partition *partition = NULL;
	struct member *member = NULL;
	struct group *group = NULL;
	struct consumer *consumer;
	struct topic *topic;
	int rc = member_enter(base, false, &group, &member);

	if (rc < 0)
		return rc;
	if (member != NULL && index != ENGINE_ANY)
		return -EINVAL;
	topic = group_topic(group);
	stages_take(&topic->object);
	rc = index != ENGINE_ANY ? topic_find(topic, index, &partition) : 0;
	if (rc < 0)
		return rc;
	consumer = calloc(1, sizeof(*consumer));
	if (consumer == NULL)
		return -ENOMEM;
	consumer->group = group_of_object(object_ref(&group->object));
	consumer->member = member != NULL ? member_of_object(object_ref(&member->object)) : NULL;
	consumer->partition = index;
	consumer->how = how;
	consumer->waiters = partition != NULL ? &partition->waiters : &topic->waiters;
	rc = topic_open_logs(topic, index);
	if (rc == 0)
		rc = group_lock(consumer->group);
	if (rc == 0) {
		rc = join(consumer);
		group_unlock(consumer->group);
	}
	if (rc < 0) {
		consumer_free(consumer);
		return rc;
	}
	if (how == ENGINE_CONSUME_STREAM || member != NULL)
		topic_wake(topic, consumer->group);
	*ret_consumer = (struct engine_consumer *)consumer;
	return 0;
}

void local_consumer_close(struct engine_consumer *handle)
{
	struct consumer *consumer = consumer_of(handle);
	struct group *group;

	if (consumer == NULL)
		return;
	if (consumer->of_queue) {
		queue_reader_close((struct queue_reader *)consumer);
		return;
	}
	group = consumer->group;
	pthread_mutex_lock(&group->lock); /* not group_lock(): a removed group too has to forget it */
	group->readers--;
	if (consumer->how == ENGINE_CONSUME_STREAM)
		remove_stream(consumer);
	if (consumer->member != NULL)
		member_reader_gone(consumer->member);
	pthread_mutex_unlock(&group->lock);
	if (consumer->how == ENGINE_CONSUME_STREAM)
		topic_wake(group_topic(group), group);
	consumer_free(consumer);
}

/* ---- picking; group.lock ---- */

static bool pick_one(struct consumer *consumer, struct pick *ret_pick)
{
	struct group *group = consumer->group;
	uint64_t earliest, end;

	for (uint32_t i = 0; i < group->cursor_count && !consumer->finished; i++) {
		uint32_t partition = (group->turn + i) % group->cursor_count;
		const struct cursor *cursor;

		if (!is_for(consumer, partition))
			continue;
		cursor = cursor_refresh(group, partition, &earliest, &end);
		if (cursor->committed < end) {
			*ret_pick = (struct pick){ partition, cursor->epoch, cursor->committed, end, 1 };
			return true;
		}
	}
	return false;
}

/* Has the member lost the partition since it was opened, for a while at least? */
static bool is_lost(const struct consumer *consumer, const struct range *range)
{
	const struct cursor *cursor = &consumer->group->cursors[range->partition];

	return consumer->member != NULL && (cursor->member != consumer->member || cursor->epoch != range->epoch);
}

static bool pick_snapshot(struct consumer *consumer, struct pick *ret_pick)
{
	while (consumer->at < consumer->range_count && (consumer->limit == 0 || consumer->given < consumer->limit)) {
		const struct range *range = &consumer->ranges[consumer->at];
		uint64_t earliest, end;

		partition_bounds(topic_partition(group_topic(consumer->group), range->partition), &earliest, &end);
		if (consumer->next_offset < earliest)
			consumer->next_offset = earliest;
		if (consumer->next_offset < range->to && !is_lost(consumer, range)) {
			*ret_pick = (struct pick){ range->partition, range->epoch, consumer->next_offset, range->to,
				UINT32_MAX };
			if (consumer->limit > 0 && consumer->limit - consumer->given < UINT32_MAX)
				ret_pick->most = (uint32_t)(consumer->limit - consumer->given);
			return true;
		}
		consumer->at++;
		if (consumer->at < consumer->range_count)
			consumer->next_offset = consumer->ranges[consumer->at].from;
	}
	return false;
}

static bool pick_stream(struct consumer *consumer, struct pick *ret_pick)
{
	struct group *group = consumer->group;
	uint64_t earliest, end;

	for (uint32_t i = 0; i < group->cursor_count; i++) {
		uint32_t partition = (consumer->rotor + i) % group->cursor_count;
		const struct cursor *cursor;

		if (group->cursors[partition].owner != consumer)
			continue;
		cursor = cursor_refresh(group, partition, &earliest, &end);
		if (cursor->position < end) {
			*ret_pick = (struct pick){ partition, cursor->epoch, cursor->position, end, UINT32_MAX };
			return true;
		}
	}
	return false;
}

static bool pick(struct consumer *consumer, struct pick *ret_pick)
{
	switch (consumer->how) {
	case ENGINE_CONSUME_ONE: return pick_one(consumer, ret_pick);
	case ENGINE_CONSUME_SNAPSHOT: return pick_snapshot(consumer, ret_pick);
	case ENGINE_CONSUME_STREAM: return pick_stream(consumer, ret_pick);
	case ENGINE_CONSUME_WAIT: break; /* of queues */
	}
	return false;
}

/* ---- taking; group.lock ---- */

/* Is what was read still what comes next there? */
static bool is_current(const struct consumer *consumer, const struct pick *read)
{
	const struct cursor *cursor = &consumer->group->cursors[read->partition];

	switch (consumer->how) {
	case ENGINE_CONSUME_ONE:
		return !consumer->finished && cursor->member == consumer->member && cursor->epoch == read->epoch &&
		       cursor->committed == read->offset;
	case ENGINE_CONSUME_SNAPSHOT:
		return consumer->at < consumer->range_count &&
		       consumer->ranges[consumer->at].partition == read->partition &&
		       consumer->next_offset == read->offset && !is_lost(consumer, &consumer->ranges[consumer->at]);
	case ENGINE_CONSUME_STREAM:
		return cursor->owner == consumer && cursor->epoch == read->epoch && cursor->position == read->offset;
	case ENGINE_CONSUME_WAIT: break; /* of queues */
	}
	return false;
}

/* Moves the consumer's own place to next. */
static void advance(struct consumer *consumer, const struct pick *read, uint64_t next, uint32_t count)
{
	struct group *group = consumer->group;

	switch (consumer->how) {
	case ENGINE_CONSUME_ONE: consumer->finished = true; break;
	case ENGINE_CONSUME_SNAPSHOT:
		consumer->next_offset = next;
		consumer->given += count;
		break;
	case ENGINE_CONSUME_STREAM:
		group->cursors[read->partition].position = next;
		consumer->rotor = (read->partition + 1) % group->cursor_count;
		break;
	case ENGINE_CONSUME_WAIT: break; /* of queues */
	}
}

/* Counts messages up to next as given. What a SNAPSHOT gives that was opened before a seek moves no cursor. */
static int note_given(struct consumer *consumer, const struct pick *read, uint64_t next)
{
	struct group *group = consumer->group;
	int rc;

	if (read->epoch != group->cursors[read->partition].epoch)
		return 0;
	cursor_give(group, read->partition, next);
	if (setting_value(&group->object, SET_AUTO_COMMIT) == 0 || local_of(&group->object)->read_only)
		return 0;
	rc = cursor_commit(group, read->partition, next);
	if (rc > 0)
		group_advance_turn(group);
	return rc < 0 ? rc : 0;
}

/* ---- fetching ---- */

/* Cuts the view to max_bytes of data, but keeps the first message. */
static void trim(struct engine_view *view, size_t max_bytes)
{
	struct engine_batch *batch = &view->batch;
	uint32_t count = 1;
	size_t len;

	if (batch->len <= max_bytes)
		return;
	len = (size_t)batch->lengths[0] + 1;
	while (count < batch->count && len + batch->lengths[count] + 1 <= max_bytes)
		len += (size_t)batch->lengths[count++] + 1;
	batch->len = len;
	batch->count = count;
}

/* Behind a gap there may be more than was asked for. */
static void cut(struct engine_view *view, uint64_t end)
{
	struct engine_batch *batch = &view->batch;

	while (view->offset + batch->count > end)
		batch->len -= (size_t)batch->lengths[--batch->count] + 1;
}

/* Reads from the place picked. 1: view is set; 0: it is damaged up to *ret_next, or gone; a negative errno. */
static int read_log(struct consumer *consumer, const struct pick *where, uint64_t offset, uint32_t max_count,
    struct engine_scratch *scratch, struct engine_view *view, uint64_t *ret_next)
{
	struct plog *plog;
	int rc = partition_open_log(topic_partition(group_topic(consumer->group), where->partition), &plog);

	if (rc < 0)
		return rc;
	if (max_count > where->end - offset)
		max_count = (uint32_t)(where->end - offset);
	*view = (struct engine_view){ 0 };
	rc = plog_read(plog, offset, max_count, scratch, view);
	if (rc == -ESTALE) {
		/* Retention was quicker: picking again starts at what is there. */
		*ret_next = offset;
		return 0;
	}
	if (rc == -EIO && view->batch.count > 0) {
		*ret_next = view->offset + view->batch.count;
		return 0;
	}
	if (rc < 0)
		return rc;
	if (view->offset >= where->end) { /* compaction took what was there */
		*ret_next = where->end;
		return consumer->how == ENGINE_CONSUME_SNAPSHOT ? 0 : -EAGAIN; /* for others there is more by now */
	}
	view->partition = where->partition;
	cut(view, where->end);
	return 1;
}

/* Reads on past what is damaged. 1; 0: nothing whole is left there, *ret_next is its end; -EAGAIN: pick again. */
static int read_on(struct consumer *consumer, const struct pick *where, uint32_t max_count,
    struct engine_scratch *scratch, struct engine_view *view, uint64_t *ret_next)
{
	uint64_t offset = where->offset, next = offset;
	int rc = 0;

	while (offset < where->end) {
		rc = read_log(consumer, where, offset, max_count, scratch, view, &next);
		if (rc != 0)
			return rc;
		if (next <= offset)
			return -EAGAIN;
		offset = next;
	}
	*ret_next = where->end;
	return 0;
}

/* Takes messages up to next that were read; count 0: they are damaged, all of them. group.lock */
static int take(struct consumer *consumer, const struct pick *read, uint64_t next, uint32_t count)
{
	struct group *group = consumer->group;
	int rc;

	if (!is_current(consumer, read))
		return -EAGAIN;
	if (count == 0 && consumer->how == ENGINE_CONSUME_ONE) {
		/* It would find them again for ever: there is nothing to give, hence nothing to ack. */
		cursor_skip(group, read->partition, next);
		return 0;
	}
	rc = note_given(consumer, read, next);
	if (rc < 0)
		return rc;
	advance(consumer, read, next, count);
	group->delivered_total += count;
	return 0;
}

/* EBUSY: the group has got members with names since it was opened; EIDRM. group.lock */
static int begin_fetch(struct consumer *consumer)
{
	if (consumer->member == NULL)
		return consumer->how != ENGINE_CONSUME_STREAM ? member_check_own(consumer->group) : 0;
	if (atomic_load(&consumer->member->object.removed))
		return -EIDRM;
	member_seen(consumer->member);
	return 0;
}

/* One round of a fetch. -EAGAIN: another one is needed. */
static int fetch_once(struct consumer *consumer, uint32_t max_count, size_t max_bytes, struct engine_scratch *scratch,
    struct engine_view *ret_view)
{
	struct group *group = consumer->group;
	struct engine_view view;
	uint64_t next = 0;
	struct pick where;
	int rc = group_lock(group), got;

	if (rc < 0)
		return rc;
	got = begin_fetch(consumer);
	if (got == 0)
		got = pick(consumer, &where) ? 1 : 0;
	group_unlock(group);
	if (got <= 0)
		return got;
	got = read_on(consumer, &where, max_count < where.most ? max_count : where.most, scratch, &view, &next);
	if (got < 0)
		return got;
	if (got > 0) {
		trim(&view, max_bytes);
		next = view.offset + view.batch.count;
	}
	rc = group_lock(group);
	if (rc < 0)
		return rc;
	rc = take(consumer, &where, next, got > 0 ? view.batch.count : 0);
	group_unlock(group);
	if (rc < 0)
		return rc;
	if (got == 0)
		return -EAGAIN;
	*ret_view = view;
	return 1;
}

int local_consumer_fetch(struct engine_consumer *handle, uint32_t max_count, size_t max_bytes,
    struct engine_scratch *scratch, struct engine_view *ret_view)
{
	struct consumer *consumer = consumer_of(handle);
	int rc;

	if (consumer->of_queue)
		return queue_reader_fetch((struct queue_reader *)consumer, max_count, max_bytes, scratch, ret_view);
	engine_reason_clear();
	if (max_count == 0)
		return -EINVAL;
	if (consumer->how == ENGINE_CONSUME_ONE)
		max_count = 1;
	stages_take(consumer->group->object.parent);
	topic_open_logs(group_topic(consumer->group), consumer->partition);
	do
		rc = fetch_once(consumer, max_count, max_bytes, scratch, ret_view);
	while (rc == -EAGAIN);
	return rc;
}

int local_consumer_rewind(struct engine_consumer *handle)
{
	struct consumer *consumer = consumer_of(handle);
	int rc;

	engine_reason_clear();
	if (consumer->of_queue)
		return -ESPIPE;
	if (consumer->how != ENGINE_CONSUME_SNAPSHOT)
		return -EINVAL;
	rc = group_lock(consumer->group);
	if (rc < 0)
		return rc;
	consumer->at = 0;
	consumer->given = 0;
	consumer->next_offset = consumer->range_count > 0 ? consumer->ranges[0].from : 0;
	group_unlock(consumer->group);
	return 0;
}

/* ---- waiting ---- */

int local_consumer_arm(struct engine_consumer *handle, struct engine_waiter *waiter)
{
	struct consumer *consumer = consumer_of(handle);
	struct pick where;
	int rc;

	if (consumer->of_queue)
		return queue_reader_arm((struct queue_reader *)consumer, waiter);
	engine_reason_clear();
	topic_open_logs(group_topic(consumer->group), consumer->partition);
	/* In the list first, then looking: see local_wait.c. */
	wait_list_add(consumer->waiters, waiter, consumer);
	watch_hurry(consumer->group->object.parent);
	rc = group_lock(consumer->group);
	if (rc == 0) {
		rc = begin_fetch(consumer);
		if (rc == 0)
			rc = pick(consumer, &where) ? 1 : 0;
		group_unlock(consumer->group);
	}
	if (rc == 0 || !wait_list_remove(consumer->waiters, waiter))
		return 0;
	return rc;
}

bool local_consumer_disarm(struct engine_consumer *handle, struct engine_waiter *waiter)
{
	if (consumer_of(handle)->of_queue)
		return queue_reader_disarm((struct queue_reader *)handle, waiter);
	return wait_list_remove(consumer_of(handle)->waiters, waiter);
}
