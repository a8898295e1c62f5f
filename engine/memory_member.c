/*
 * memory_member - named members of a group: joining, being silent, leaving; sessions.
 *
 * A member is in its group's list while it is one. Silence is looked for by memory_member_sweep(), which every call does
 * before it looks, and the thread that keeps time for queues when nobody calls.
 */
#include <errno.h>
#include <inttypes.h>

#include "engine/clock.h"
#include "engine/memory_internal.h"
#include "engine/memory_queue.h"

/* ---- being one ---- */

void memory_member_seen(struct memory_object *member)
{
	member->seen_mono = clock_mono_ms();
	memory_member_watch(member);
}

static bool may_be_silent(const struct memory_object *member)
{
	return member->joined && member->sessions == 0 && member->readers == 0;
}

static int64_t silent_at(const struct memory_object *member)
{
	return member->seen_mono + memory_setting_int(member->parent, "session.timeout.ms");
}

void memory_member_watch(struct memory_object *member)
{
	struct memory_engine *memory = member->memory;

	if (!may_be_silent(member) || silent_at(member) >= memory->next_silent)
		return;
	memory->next_silent = silent_at(member);
	memory_timer_kick(memory);
}

void memory_member_join(struct memory_object *member)
{
	struct memory_object **link = &member->parent->members;

	if (!member->joined) {
		while (*link != NULL)
			link = &(*link)->next_member;
		*link = member;
		member->next_member = NULL;
		member->joined = true;
		memory_rebalance(member->parent);
	}
	memory_member_seen(member);
}

void memory_member_leave(struct memory_object *member)
{
	struct memory_object **link = &member->parent->members;

	if (!member->joined)
		return;
	while (*link != member)
		link = &(*link)->next_member;
	*link = member->next_member;
	member->joined = false;
	memory_rebalance(member->parent);
}

void memory_member_sweep(struct memory_engine *memory)
{
	int64_t now = clock_mono_ms();

	if (now < memory->next_silent)
		return;
	memory->next_silent = INT64_MAX;
	for (size_t i = 0; i < memory->object_count; i++) {
		struct memory_object *member = memory->objects[i];

		if (member->kind != ENGINE_MEMBER || !may_be_silent(member))
			continue;
		if (silent_at(member) <= now)
			memory_member_leave(member);
		else
			memory_member_watch(member);
	}
}

/* ---- calls ---- */

int memory_member_enter(
    struct memory_object *object, struct memory_object **ret_group, struct memory_object **ret_member)
{
	int rc = memory_enter(object, ENGINE_KIND_COUNT);

	if (rc < 0)
		return rc;
	if (object->kind != ENGINE_GROUP && object->kind != ENGINE_MEMBER) {
		memory_leave(object->memory);
		return -EINVAL;
	}
	*ret_member = object->kind == ENGINE_MEMBER ? object : NULL;
	*ret_group = object->kind == ENGINE_MEMBER ? object->parent : object;
	if (*ret_member != NULL)
		memory_member_seen(*ret_member);
	return 0;
}

int memory_check_own(const struct memory_object *group)
{
	if (group->members == NULL)
		return 0;
	return engine_explain(-EBUSY, "the group has members with names: read and ack in members/NAME");
}

int memory_may_ack(const struct memory_object *group, const struct memory_object *member, uint32_t partition)
{
	if (member == NULL && !memory_has_stream(group, NULL))
		return memory_check_own(group);
	if (group->cursors[partition].member == member)
		return 0;
	return engine_explain(-ESTALE, "partition %" PRIu32 " belongs to another member now", partition);
}

/* A session is the member itself, with a reference; how many there are is all there is to know of them. */
static int session_open(struct engine_object *object, struct engine_session **ret_session)
{
	struct memory_object *self = memory_of(object);
	int rc = memory_enter(self, ENGINE_KIND_COUNT);

	if (rc < 0)
		return rc;
	if (self->kind != ENGINE_MEMBER)
		rc = engine_explain(-EINVAL, "a session is of a member with a name");
	if (rc == 0) {
		self->sessions++;
		self->refs++;
		memory_member_join(self);
		*ret_session = (struct engine_session *)self;
	}
	memory_leave(self->memory);
	return rc;
}

static void session_close(struct engine_session *session)
{
	struct memory_object *member = (struct memory_object *)session;
	struct memory_engine *memory;

	if (member == NULL)
		return;
	memory = member->memory;
	memory_lock_quietly(memory);
	memory_queue_sweep(memory);
	if (--member->sessions == 0)
		memory_member_leave(member);
	memory_unref(member);
	memory_leave(memory);
}

static int member_stat(struct engine_object *object, struct engine_member_stat *ret_stat)
{
	struct memory_object *self = memory_of(object);
	int rc = memory_enter(self, ENGINE_MEMBER);

	if (rc < 0)
		return rc;
	*ret_stat = (struct engine_member_stat){ .joined = self->joined,
		.sessions = self->sessions,
		.readers = self->readers,
		.seen_ms = clock_wall_ms() - (clock_mono_ms() - self->seen_mono) };
	for (uint32_t p = 0; p < self->parent->partition_count; p++) {
		if (self->parent->cursors[p].member == self)
			ret_stat->owned[p / 64] |= UINT64_C(1) << (p % 64);
	}
	memory_leave(self->memory);
	return 0;
}

const struct engine_member_ops memory_member_ops = {
	.session_open = session_open,
	.session_close = session_close,
	.reject = memory_reject,
	.reject_all = memory_reject_all,
	.member_stat = member_stat,
};
