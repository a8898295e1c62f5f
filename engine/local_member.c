/*
 * local_member - the life of named members: joining, being silent, leaving; sessions; rejecting.
 *
 * A member is in its group's list while it is one. Any call on it tells that it is alive; once it has nothing open a timer is
 * set for when it will have been silent for session.timeout.ms, and the timer looks again then. What a member had goes to
 * the others by the assignment that follows its leaving, under the same lock: so no partition has two owners, and an ack that
 * comes later finds that it is not its own any more.
 *
 * A reject is two steps: the dead letter is appended to the group's dlq and synced, then the cursor is committed. A crash
 * just in between leaves the message in both, so that it may be rejected a second time; it is never lost. Rejects of a group
 * are done one at a time.
 */
#include "engine/local_member.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/local_queue.h"

/* ---- life ---- */

static void fire(struct timer *timer);

struct member *member_new(struct local *local, uint64_t id, struct group *group)
{
	struct member *member = calloc(1, sizeof(*member));

	if (member == NULL)
		return NULL;
	object_init(local, &member->object, ENGINE_MEMBER, id, &group->object);
	if (settings_init(&member->object, local->defaults[ENGINE_MEMBER]) < 0 ||
	    timer_init(local, &member->timer, fire, &member->object) < 0) {
		object_release(&member->object);
		return NULL;
	}
	return member;
}

void member_free(struct member *member)
{
	timer_release(local_of(&member->object), &member->timer);
	object_release(&member->object);
}

/* group.lock */
static int64_t silent_at(const struct member *member)
{
	return member->seen_ms + setting_value(&member_group(member)->object, SET_SESSION_TIMEOUT);
}

/* group.lock */
static void watch(struct member *member)
{
	if (member->joined && member->sessions == 0 && member->readers == 0)
		timer_set_earlier(local_of(&member->object), &member->timer, silent_at(member));
}

void member_seen(struct member *member)
{
	member->seen_ms = clock_mono_ms();
}

void member_reader_gone(struct member *member)
{
	member->readers--;
	member_seen(member);
	watch(member);
}

void member_join(struct member *member)
{
	struct group *group = member_group(member);
	struct member **link = &group->members;

	member_seen(member);
	if (atomic_load(&member->object.removed)) /* who removes it comes next, or has been here */
		return;
	if (!member->joined) {
		while (*link != NULL)
			link = &(*link)->next;
		*link = member;
		member->next = NULL;
		member->joined = true;
		assign_streams(group);
	}
	watch(member);
}

void members_join_all(struct local *local)
{
	struct object *object;
	uint64_t after = 0;

	while ((object = registry_next(local, NULL, ENGINE_MEMBER, after)) != NULL) {
		struct member *member = member_of_object(object);

		after = object->id;
		if (group_lock(member_group(member)) == 0) {
			member_join(member);
			group_unlock(member_group(member));
		}
		object_put(object);
	}
}

/* group.lock. Returns whether it was one. */
static bool leave(struct member *member)
{
	struct group *group = member_group(member);
	struct member **link = &group->members;

	if (!member->joined)
		return false;
	while (*link != member)
		link = &(*link)->next;
	*link = member->next;
	member->joined = false;
	assign_streams(group);
	return true;
}

void member_forget(struct member *member)
{
	struct group *group = member_group(member);
	struct member **link = &group->members;

	pthread_mutex_lock(&group->lock);
	while (*link != NULL && *link != member)
		link = &(*link)->next;
	if (*link != NULL)
		*link = member->next;
	member->joined = false;
	for (uint32_t i = 0; i < group->cursor_count; i++) {
		if (group->cursors[i].member == member)
			group->cursors[i].member = NULL;
	}
	pthread_mutex_unlock(&group->lock);
}

void member_leave(struct member *member)
{
	struct group *group = member_group(member);
	bool left;

	pthread_mutex_lock(&group->lock); /* not group_lock(): a removed group too has to forget it */
	left = leave(member);
	pthread_mutex_unlock(&group->lock);
	if (left)
		topic_wake(group_topic(group), group);
}

static void fire(struct timer *timer)
{
	struct member *member = (struct member *)((char *)timer - offsetof(struct member, timer));
	struct group *group = member_group(member);
	bool left = false;

	pthread_mutex_lock(&group->lock);
	if (member->joined && member->sessions == 0 && member->readers == 0) {
		if (silent_at(member) <= clock_mono_ms())
			left = leave(member);
		else
			timer_set_earlier(local_of(&member->object), timer, silent_at(member));
	}
	pthread_mutex_unlock(&group->lock);
	if (left)
		topic_wake(group_topic(group), group);
}

void member_look_again(struct group *group)
{
	pthread_mutex_lock(&group->lock);
	for (struct member *member = group->members; member != NULL; member = member->next)
		watch(member);
	pthread_mutex_unlock(&group->lock);
}

void member_sum(struct member *member, struct engine_stat *stat)
{
	struct group *group = member_group(member);
	uint64_t earliest, end;

	topic_open_logs(group_topic(group), ENGINE_ANY);
	if (group_lock(group) < 0)
		return;
	for (uint32_t i = 0; i < group->cursor_count; i++) {
		const struct cursor *cursor = cursor_refresh(group, i, &earliest, &end);

		if (cursor->member != member)
			continue;
		stat->partitions++;
		stat->messages += end - cursor->committed;
	}
	stat->readers = member->readers;
	group_unlock(group);
}

/* ---- the beginning of calls ---- */

int member_enter(struct engine_object *base, bool change, struct group **ret_group, struct member **ret_member)
{
	struct object *object = NULL;
	int rc = object_enter_any(base, &object);

	if (rc < 0)
		return rc;
	if (object->kind != ENGINE_GROUP && object->kind != ENGINE_MEMBER)
		return -EINVAL;
	if (change && local_of(object)->read_only)
		return engine_explain(-EROFS, "the store is mounted read-only");
	*ret_member = object->kind == ENGINE_MEMBER ? member_of_object(object) : NULL;
	*ret_group = object->kind == ENGINE_MEMBER ? member_group(member_of_object(object)) : group_of_object(object);
	return 0;
}

static bool has_own_stream(const struct group *group)
{
	for (const struct consumer *c = group->streams; c != NULL; c = c->next) {
		if (c->member == NULL)
			return true;
	}
	return false;
}

int member_check_own(const struct group *group)
{
	if (group->members == NULL)
		return 0;
	return engine_explain(-EBUSY, "the group has members with names: read and ack in members/NAME");
}

int member_may_ack(const struct group *group, const struct member *member, uint32_t partition)
{
	if (member == NULL && group->members != NULL && !has_own_stream(group))
		return member_check_own(group);
	if (group->cursors[partition].member == member)
		return 0;
	return engine_explain(-ESTALE, "partition %" PRIu32 " belongs to another member now", partition);
}

/* ---- sessions ---- */

struct session {
	struct member *member; /* a reference */
};

static int session_open(struct engine_object *base, struct engine_session **ret_session)
{
	struct session *session;
	struct group *group = NULL;
	struct member *member = NULL;
	int rc = member_enter(base, false, &group, &member);

	if (rc == 0 && member == NULL)
		rc = engine_explain(-EINVAL, "a session is of a member with a name");
	if (rc < 0)
		return rc;
	session = malloc(sizeof(*session));
	if (session == NULL)
		return -ENOMEM;
	rc = group_lock(group);
	if (rc < 0) {
		free(session);
		return rc;
	}
	member->sessions++;
	member_join(member);
	group_unlock(group);
	object_ref(&member->object);
	session->member = member;
	topic_wake(group_topic(group), group);
	*ret_session = (struct engine_session *)session;
	return 0;
}

static void session_close(struct engine_session *handle)
{
	struct session *session = (struct session *)handle;
	struct member *member;
	struct group *group;
	bool left = false;

	if (session == NULL)
		return;
	member = session->member;
	group = member_group(member);
	pthread_mutex_lock(&group->lock);
	if (--member->sessions == 0)
		left = leave(member);
	pthread_mutex_unlock(&group->lock);
	if (left)
		topic_wake(group_topic(group), group);
	object_put(&member->object);
	free(session);
}

/* ---- rejecting ---- */

static struct queue *find_dlq(struct group *group)
{
	struct object *object = registry_find(local_of(&group->object), group->object.id, ENGINE_QUEUE, "dlq");

	return object != NULL ? queue_of_object(object) : NULL;
}

/* Appends the message to the dlq with its death. 0 too if it is damaged: then there is nothing to keep. */
static int bury(
    struct group *group, uint32_t partition, uint64_t offset, struct queue *dlq, struct engine_scratch *scratch)
{
	char topic[ENGINE_NAME_MAX + 1], own[ENGINE_NAME_MAX + 1], name[2 * ENGINE_NAME_MAX + sizeof("/groups/")];
	struct engine_death death = { .reason = ENGINE_REJECTED, .count = 1, .ts_ms = clock_wall_ms() };
	struct engine_props props = ENGINE_PROPS_INIT;
	struct engine_producer *producer = NULL;
	struct engine_view view = { 0 };
	struct plog *plog;
	int rc = partition_open_log(topic_partition(group_topic(group), partition), &plog);

	if (rc == 0)
		rc = plog_read(plog, offset, 1, scratch, &view);
	if (rc == -ESTALE || (rc == -EIO && view.batch.count > 0))
		return 0;
	if (rc < 0)
		return rc;
	object_name(&group_topic(group)->object, topic);
	object_name(&group->object, own);
	snprintf(name, sizeof(name), "%s/groups/%s", topic, own);
	death.queue = (struct engine_span){ name, strlen(name) };
	if (view.batch.props != NULL)
		props = view.batch.props[0];
	else
		props.ts_ms = view.batch.ts_ms;
	props.partition = ENGINE_ANY;
	props.priority = -1;
	props.ttl_ms = props.delay_ms = -1;
	props.deaths = &death;
	props.death_count = 1;
	view.batch.props = &props;
	view.batch.ts_ms = -1; /* it arrives now */
	rc = queue_producer_open(&dlq->object.base, 0, false, &producer);
	if (rc == 0)
		rc = queue_producer_send(producer, &view.batch);
	if (producer != NULL)
		queue_producer_close(producer);
	return rc;
}

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

static int commit(struct group *group, struct member *member, uint32_t partition, uint64_t offset)
{
	int rc = group_lock(group);

	if (rc < 0)
		return rc;
	rc = member_may_ack(group, member, partition);
	if (rc == 0)
		rc = cursor_commit(group, partition, offset + 1);
	if (rc > 0)
		group_advance_turn(group);
	group_unlock(group);
	return rc < 0 ? rc : 0;
}

struct waiting {
	struct engine_done done; /* first */
	pthread_mutex_t lock;
	pthread_cond_t over;
	bool is_over; /* lock, as is result */
	int result;
};

static void wake_waiting(struct engine_done *done, int result)
{
	struct waiting *waiting = (struct waiting *)done;

	pthread_mutex_lock(&waiting->lock);
	waiting->is_over = true;
	waiting->result = result;
	pthread_cond_signal(&waiting->over);
	pthread_mutex_unlock(&waiting->lock);
}

/* Waits until all that the queue has is on disk. */
static int sync_queue(struct queue *queue)
{
	struct waiting waiting = { .done = { wake_waiting } };
	struct engine_producer *producer = NULL;
	int rc = queue_producer_open(&queue->object.base, 0, false, &producer);

	if (rc < 0)
		return rc;
	pthread_mutex_init(&waiting.lock, NULL);
	pthread_cond_init(&waiting.over, NULL);
	rc = queue_producer_sync(producer, &waiting.done);
	if (rc == ENGINE_PENDING) {
		pthread_mutex_lock(&waiting.lock);
		while (!waiting.is_over)
			pthread_cond_wait(&waiting.over, &waiting.lock);
		rc = waiting.result;
		pthread_mutex_unlock(&waiting.lock);
	}
	pthread_cond_destroy(&waiting.over);
	pthread_mutex_destroy(&waiting.lock);
	queue_producer_close(producer);
	return rc;
}

/* group.reject_lock is taken, and let go. */
static int reject_one(struct group *group, struct member *member, uint32_t partition, uint64_t offset)
{
	struct engine_scratch scratch = { 0 };
	struct queue *dlq = find_dlq(group);
	int rc;

	pthread_mutex_lock(&group->reject_lock); /* or two of the same offset would both find it there */
	rc = check_reject(group, member, partition, offset);

	if (rc == 0 && dlq == NULL)
		rc = engine_explain(-EIO, "the group has no dead-letter queue");
	if (rc == 0)
		rc = bury(group, partition, offset, dlq, &scratch);
	if (rc == 0) /* else the machine could die with the commit on disk, and not the message */
		rc = sync_queue(dlq);
	if (rc == 0)
		rc = commit(group, member, partition, offset);
	pthread_mutex_unlock(&group->reject_lock);
	engine_scratch_release(&scratch);
	if (dlq != NULL)
		object_put(&dlq->object);
	return rc;
}

static int enter_reject(
    struct engine_object *base, uint32_t index, struct group **ret_group, struct member **ret_member)
{
	struct partition *partition;
	int rc = member_enter(base, true, ret_group, ret_member);

	if (rc == 0 && index != ENGINE_ANY)
		rc = topic_find(group_topic(*ret_group), index, &partition);
	if (rc == 0)
		topic_open_logs(group_topic(*ret_group), index);
	return rc;
}

static int reject(struct engine_object *base, uint32_t partition, uint64_t offset)
{
	struct group *group = NULL;
	struct member *member = NULL;
	int rc;

	if (partition == ENGINE_ANY)
		return engine_explain(-EINVAL, "an offset is of one partition");
	rc = enter_reject(base, partition, &group, &member);
	return rc < 0 ? rc : reject_one(group, member, partition, offset);
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

static int64_t reject_all(struct engine_object *base, uint32_t index)
{
	struct group *group = NULL;
	struct member *member = NULL;
	uint64_t from, to;
	int64_t count = 0;
	int rc = enter_reject(base, index, &group, &member);
	uint32_t partitions;

	if (rc < 0)
		return rc;
	partitions = atomic_load(&group_topic(group)->partitions);
	for (uint32_t i = 0; i < partitions && rc == 0; i++) {
		if (index != ENGINE_ANY && index != i)
			continue;
		rc = find_given(group, member, i, &from, &to);
		for (; rc == 0 && from < to; from++) {
			rc = reject_one(group, member, i, from);
			count += rc == 0;
		}
	}
	return rc < 0 && count == 0 ? rc : count;
}

/* ---- asking ---- */

static int member_stat(struct engine_object *base, struct engine_member_stat *ret_stat)
{
	struct engine_member_stat stat = { 0 };
	struct group *group = NULL;
	struct member *member = NULL;
	int rc = member_enter(base, false, &group, &member);

	if (rc == 0 && member == NULL)
		rc = -EINVAL;
	if (rc == 0)
		rc = group_lock(group);
	if (rc < 0)
		return rc;
	stat.joined = member->joined;
	stat.sessions = member->sessions;
	stat.readers = member->readers;
	stat.seen_ms = clock_wall_ms() - (clock_mono_ms() - member->seen_ms);
	for (uint32_t i = 0; i < group->cursor_count; i++) {
		if (group->cursors[i].member == member)
			stat.owned[i / 64] |= UINT64_C(1) << (i % 64);
	}
	group_unlock(group);
	*ret_stat = stat;
	return 0;
}

const struct engine_member_ops local_member_ops = {
	.session_open = session_open,
	.session_close = session_close,
	.reject = reject,
	.reject_all = reject_all,
	.member_stat = member_stat,
};
