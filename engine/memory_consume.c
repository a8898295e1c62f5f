/*
 * memory_consume - consumers of a group: what each is given next, how streams share the partitions, and waking.
 *
 * ONE takes the next message of the first partition, counted from the group's turn, that has one. SNAPSHOT notes at its
 * opening what it will give, so that it can start over. STREAM goes round the partitions it owns (memory_assign.c).
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/assign.h"
#include "engine/memory_internal.h"

static struct memory_consumer *consumer_of(struct engine_consumer *consumer)
{
	return (struct memory_consumer *)consumer;
}

/* ---- what a consumer may have from one partition ---- */

static bool may_read(const struct memory_consumer *consumer, uint32_t p)
{
	const struct memory_cursor *cursor = &consumer->group->cursors[p];

	if (consumer->how == ENGINE_CONSUME_STREAM)
		return cursor->owner == consumer;
	if (consumer->member != NULL)
		return cursor->member == consumer->member;
	return consumer->partition == ENGINE_ANY || consumer->partition == p;
}

/* The offsets *ret_pos to *ret_end are there for the consumer. False: nothing is. */
static bool find_range(const struct memory_consumer *consumer, uint32_t p, uint64_t *ret_pos, uint64_t *ret_end)
{
	const struct memory_cursor *cursor = &consumer->group->cursors[p];
	const struct memory_partition *partition = &consumer->group->parent->partitions[p];
	uint64_t pos = cursor->committed, end = memory_end(partition);

	if (!may_read(consumer, p) || (consumer->how == ENGINE_CONSUME_ONE && consumer->done))
		return false;
	if (consumer->how != ENGINE_CONSUME_ONE) {
		const struct memory_reader *reader = &consumer->readers[p];

		if (consumer->how == ENGINE_CONSUME_SNAPSHOT) {
			if (consumer->member != NULL && reader->epoch != cursor->epoch)
				return false; /* it was lost meanwhile, if it was its own at all */
			pos = reader->pos;
			end = reader->end;
		} else if (reader->epoch == cursor->epoch && reader->pos > pos) {
			pos = reader->pos;
		}
	}
	if (pos < partition->earliest)
		pos = partition->earliest;
	*ret_pos = pos;
	*ret_end = end;
	return pos < end;
}

/* The partition the consumer reads from now: the first that has something, from where it begins. */
static bool find_next(const struct memory_consumer *consumer, uint32_t *ret_p, uint64_t *ret_pos, uint64_t *ret_end)
{
	const struct memory_object *group = consumer->group;
	uint32_t begin = consumer->how == ENGINE_CONSUME_ONE ? group->turn : consumer->begin;
	uint32_t count = consumer->how == ENGINE_CONSUME_ONE ? group->partition_count : consumer->reader_count;

	for (uint32_t i = 0; i < count; i++) {
		uint32_t p = (begin + i) % count;

		if (find_range(consumer, p, ret_pos, ret_end)) {
			*ret_p = p;
			return true;
		}
	}
	return false;
}

/* ---- waking ---- */

void memory_arm(struct engine_waiter **waiters, struct engine_waiter *waiter)
{
	waiter->engine_next = *waiters;
	waiter->engine_link = waiters;
	if (*waiters != NULL)
		(*waiters)->engine_link = &waiter->engine_next;
	*waiters = waiter;
}

bool memory_disarm(struct engine_waiter *waiter)
{
	if (waiter->engine_link == NULL)
		return false;
	*waiter->engine_link = waiter->engine_next;
	if (waiter->engine_next != NULL)
		waiter->engine_next->engine_link = waiter->engine_link;
	waiter->engine_link = NULL;
	return true;
}

void memory_wake_all(struct memory_engine *memory, struct engine_waiter **waiters)
{
	while (*waiters != NULL) {
		struct engine_waiter *waiter = *waiters;

		*waiters = waiter->engine_next;
		waiter->engine_link = NULL; /* from here on disarm says it is too late */
		waiter->engine_next = memory->wakes;
		memory->wakes = waiter;
	}
}

void memory_wake_group(struct memory_object *group)
{
	uint64_t pos, end;
	uint32_t p;

	for (struct memory_consumer *c = group->consumers; c != NULL; c = c->next) {
		if (c->waiters != NULL && find_next(c, &p, &pos, &end))
			memory_wake_all(group->memory, &c->waiters);
	}
}

void memory_wake_group_all(struct memory_object *group)
{
	for (struct memory_consumer *c = group->consumers; c != NULL; c = c->next)
		memory_wake_all(group->memory, &c->waiters);
}

void memory_wake_topic(struct memory_object *topic)
{
	struct memory_object *group = NULL;

	while ((group = memory_next_group(topic, group)) != NULL)
		memory_wake_group(group);
}

int memory_consumer_arm(struct engine_consumer *consumer, struct engine_waiter *waiter)
{
	struct memory_consumer *self = consumer_of(consumer);
	int rc = memory_enter(self->group, ENGINE_GROUP);
	uint64_t pos, end;
	uint32_t p;

	if (rc < 0)
		return rc;
	memory_expire(self->group->parent);
	if (find_next(self, &p, &pos, &end))
		rc = 1;
	else
		memory_arm(&self->waiters, waiter);
	memory_leave(self->group->memory);
	return rc;
}

bool memory_consumer_disarm(struct engine_consumer *consumer, struct engine_waiter *waiter)
{
	struct memory_consumer *self = consumer_of(consumer);
	bool armed;

	memory_lock(self->group->memory);
	armed = memory_disarm(waiter);
	memory_leave(self->group->memory);
	return armed;
}

/* ---- opening and closing ---- */

/* What a SNAPSHOT will give: from the stored offsets to the ends, max.poll.records in all. */
static void take_snapshot(struct memory_consumer *consumer)
{
	const struct memory_object *group = consumer->group;
	uint64_t left = (uint64_t)memory_setting_int(group, "max.poll.records");
	bool limited = left > 0;

	consumer->begin = group->turn;
	for (uint32_t i = 0; i < consumer->reader_count; i++) {
		uint32_t p = (consumer->begin + i) % consumer->reader_count;
		struct memory_reader *reader = &consumer->readers[p];
		const struct memory_cursor *cursor = &group->cursors[p];

		*reader =
		    (struct memory_reader){ cursor->committed, cursor->committed, cursor->committed, cursor->epoch };
		if (!may_read(consumer, p))
			continue;
		reader->end = memory_end(&group->parent->partitions[p]);
		if (limited && reader->end - reader->start > left)
			reader->end = reader->start + left;
		left -= limited ? reader->end - reader->start : 0;
	}
}

static int check_open(const struct memory_consumer *consumer)
{
	const struct memory_object *group = consumer->group;
	int rc = 0;

	if (consumer->partition != ENGINE_ANY)
		rc = consumer->member == NULL ? memory_check_partition(group->parent, consumer->partition) : -EINVAL;
	if (rc == 0 && consumer->how != ENGINE_CONSUME_STREAM && consumer->member == NULL)
		rc = memory_check_own(group);
	if (rc == 0 && consumer->how != ENGINE_CONSUME_STREAM && memory_has_stream(group, consumer->member))
		rc = engine_explain(-EBUSY, "a stream of this %s is open, and has its messages",
		    consumer->member != NULL ? "member" : "group");
	return rc;
}

static int open_locked(struct memory_consumer *consumer)
{
	struct memory_object *group = consumer->group;
	struct memory_consumer **link = &group->consumers;
	int rc;

	if (consumer->member != NULL && consumer->partition == ENGINE_ANY)
		memory_member_join(consumer->member);
	rc = check_open(consumer);
	if (rc < 0)
		return rc;
	consumer->reader_count = group->partition_count;
	consumer->readers = calloc(consumer->reader_count, sizeof(*consumer->readers));
	if (consumer->readers == NULL)
		return -ENOMEM;
	memory_expire(group->parent);
	while (*link != NULL)
		link = &(*link)->next;
	*link = consumer;
	group->refs++;
	group->readers++;
	if (consumer->member != NULL) {
		consumer->member->refs++;
		consumer->member->readers++;
	}
	if (consumer->how == ENGINE_CONSUME_SNAPSHOT)
		take_snapshot(consumer);
	if (consumer->how == ENGINE_CONSUME_STREAM) {
		memory_rebalance(group);
	}
	return 0;
}

int memory_consumer_open(
    struct engine_object *object, uint32_t partition, enum engine_consume how, struct engine_consumer **ret_consumer)
{
	struct memory_object *self = memory_of(object);
	struct memory_consumer *consumer = calloc(1, sizeof(*consumer));
	int rc;

	if (consumer == NULL)
		return -ENOMEM;
	consumer->partition = partition;
	consumer->how = how;
	rc = memory_member_enter(self, &consumer->group, &consumer->member);
	if (rc == 0) {
		rc = open_locked(consumer);
		memory_leave(self->memory);
	}
	if (rc < 0) {
		free(consumer->readers);
		free(consumer);
		return rc;
	}
	*ret_consumer = (struct engine_consumer *)consumer;
	return 0;
}

void memory_consumer_close(struct engine_consumer *consumer)
{
	struct memory_consumer *self = consumer_of(consumer), **link;
	struct memory_engine *memory;

	if (consumer == NULL)
		return;
	memory = self->group->memory;
	memory_lock_quietly(memory);
	link = &self->group->consumers;
	while (*link != self)
		link = &(*link)->next;
	*link = self->next;
	self->group->readers--;
	if (self->how == ENGINE_CONSUME_STREAM) {
		self->unit = ASSIGN_FREE; /* from now on what it had is nobody's */
		memory_rebalance(self->group);
	}
	if (self->member != NULL) {
		self->member->readers--;
		memory_member_seen(self->member);
		memory_unref(self->member);
	}
	memory_unref(self->group);
	memory_leave(memory);
	free(self->readers);
	free(self);
}

/* ---- fetching ---- */

/* Takes the lock. EBUSY: the group has got members with names since the consumer was opened. */
static int enter_consumer(struct memory_consumer *consumer)
{
	struct memory_object *member = consumer->member;
	int rc = memory_enter(consumer->group, ENGINE_GROUP);

	if (rc < 0)
		return rc;
	if (member == NULL && consumer->how != ENGINE_CONSUME_STREAM)
		rc = memory_check_own(consumer->group);
	if (member != NULL && member->removed)
		rc = -EIDRM;
	if (rc < 0)
		memory_leave(consumer->group->memory);
	else if (member != NULL)
		memory_member_seen(member);
	return rc;
}

/* Notes that count messages from pos on were given. What was given before a seek or to another owner moves no cursor. */
static void note_given(struct memory_consumer *consumer, uint32_t p, uint64_t pos, uint32_t count)
{
	struct memory_object *group = consumer->group;
	struct memory_cursor *cursor = &group->cursors[p];
	bool current = true;

	group->delivered += count;
	group->touched = true;
	if (consumer->how == ENGINE_CONSUME_ONE) {
		consumer->done = true;
	} else {
		struct memory_reader *reader = &consumer->readers[p];

		if (consumer->how == ENGINE_CONSUME_STREAM) {
			reader->epoch = cursor->epoch;
			consumer->begin = (p + 1) % consumer->reader_count;
		}
		current = reader->epoch == cursor->epoch;
		reader->pos = pos + count;
	}
	if (!current)
		return;
	if (cursor->given < pos + count)
		cursor->given = pos + count;
	if (memory_setting(group, "auto.commit")[0] == 't' && memory_commit(group, p, pos + count))
		memory_advance_turn(group);
}

static int fetch_locked(struct memory_consumer *consumer, uint32_t max_count, size_t max_bytes,
    struct engine_scratch *scratch, struct engine_view *ret_view)
{
	uint64_t pos, end, limit;
	uint32_t p;
	int rc;

	memory_expire(consumer->group->parent);
	if (!find_next(consumer, &p, &pos, &end))
		return 0;
	limit = consumer->how == ENGINE_CONSUME_ONE ? 1 : max_count;
	if (limit > end - pos)
		limit = end - pos;
	rc = memory_view(consumer->group->parent, p, pos, limit, max_bytes, scratch, ret_view);
	if (rc < 0)
		return rc;
	note_given(consumer, p, pos, ret_view->batch.count);
	return 1;
}

int memory_consumer_fetch(struct engine_consumer *consumer, uint32_t max_count, size_t max_bytes,
    struct engine_scratch *scratch, struct engine_view *ret_view)
{
	struct memory_consumer *self = consumer_of(consumer);
	int rc = enter_consumer(self);

	if (rc < 0)
		return rc;
	rc = max_count > 0 ? fetch_locked(self, max_count, max_bytes, scratch, ret_view) : -EINVAL;
	memory_leave(self->group->memory);
	return rc;
}

int memory_consumer_rewind(struct engine_consumer *consumer)
{
	struct memory_consumer *self = consumer_of(consumer);
	int rc = memory_enter(self->group, ENGINE_GROUP);

	if (rc < 0)
		return rc;
	if (self->how != ENGINE_CONSUME_SNAPSHOT)
		rc = -EINVAL;
	for (uint32_t p = 0; rc == 0 && p < self->reader_count; p++)
		self->readers[p].pos = self->readers[p].start;
	memory_leave(self->group->memory);
	return rc;
}
