/*
 * local_member - the life of named members: joining, being silent, leaving; sessions.
 *
 * A member is in its group's list while it is one. Any call on it tells that it is alive; once it has nothing open a timer is
 * set for when it will have been silent for session.timeout.ms, and the timer looks again then. What a member had goes to
 * the others by the assignment that follows its leaving, under the same lock: so no partition has two owners, and an ack that
 * comes later finds that it is not its own any more.
 *
 * What a group or member rejects is local_reject.c's.
 */
#include "engine/local_member.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/clock.h"
#include "engine/local_visible.h"

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

void member_begin(struct member *member)
{
	struct group *group = member_group(member);

	if (group_lock(group) < 0)
		return;
	member_join(member);
	group_unlock(group);
	topic_wake(group_topic(group), group);
}

void members_join_all(struct local *local)
{
	struct object *object;
	uint64_t after = 0;

	while ((object = registry_next(local, NULL, ENGINE_MEMBER, after)) != NULL) {
		after = object->id;
		member_begin(member_of_object(object));
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
	struct local *local = local_of(&member->object);
	bool left = false;

	visible_enter(local);
	pthread_mutex_lock(&group->lock);
	if (member->joined && member->sessions == 0 && member->readers == 0) {
		if (silent_at(member) <= clock_mono_ms())
			left = leave(member);
		else
			timer_set_earlier(local, timer, silent_at(member));
	}
	pthread_mutex_unlock(&group->lock);
	if (left)
		topic_wake(group_topic(group), group);
	visible_leave(local);
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
		stat->messages += end > cursor->committed ? end - cursor->committed : 0;
	}
	stat->readers = member->readers;
	group_unlock(group);
}

/* ---- the beginning of calls ---- */

/* Who is silent for too long has left before a call looks; the timer does the same if nobody calls. */
void members_catch_up(struct group *group)
{
	int64_t now = clock_mono_ms();
	struct member *member, *next;
	bool left = false;

	pthread_mutex_lock(&group->lock);
	for (member = group->members; member != NULL; member = next) {
		next = member->next;
		if (member->sessions == 0 && member->readers == 0 && silent_at(member) <= now)
			left = leave(member) || left;
	}
	pthread_mutex_unlock(&group->lock);
	if (left)
		topic_wake(group_topic(group), group);
}

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
	members_catch_up(*ret_group);
	return 0;
}

bool member_has_stream(const struct group *group, const struct member *member)
{
	for (const struct consumer *c = group->streams; c != NULL; c = c->next) {
		if (c->member == member)
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
	if (member == NULL && group->members != NULL && !member_has_stream(group, NULL))
		return member_check_own(group);
	if (group->cursors[partition].member == member)
		return 0;
	return engine_explain(-ESTALE, "partition %" PRIu32 " belongs to another member now", partition);
}

/* ---- sessions ---- */

/* A session is the member itself, with a reference; how many there are is all there is to know of them. */
static int session_open(struct engine_object *base, struct engine_session **ret_session)
{
	struct group *group = NULL;
	struct member *member = NULL;
	int rc = member_enter(base, false, &group, &member);

	if (rc == 0 && member == NULL)
		rc = engine_explain(-EINVAL, "a session is of a member with a name");
	if (rc == 0)
		rc = group_lock(group);
	if (rc < 0)
		return rc;
	member->sessions++;
	member_join(member);
	group_unlock(group);
	topic_wake(group_topic(group), group);
	*ret_session = (struct engine_session *)object_ref(&member->object);
	return 0;
}

static void session_close(struct engine_session *session)
{
	struct member *member = (struct member *)session;
	struct group *group;
	bool left = false;

	if (member == NULL)
		return;
	group = member_group(member);
	pthread_mutex_lock(&group->lock);
	if (--member->sessions == 0)
		left = leave(member);
	pthread_mutex_unlock(&group->lock);
	if (left)
		topic_wake(group_topic(group), group);
	object_put(&member->object);
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
	.reject = member_reject,
	.reject_all = member_reject_all,
	.member_stat = member_stat,
};
