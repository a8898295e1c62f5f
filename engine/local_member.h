/*
 * local_member - named members of a group: who is one, and since when. The contract is engine_member.h; who gets which
 * partition is local_assign.c's.
 */
#ifndef MQFS_LOCAL_MEMBER_H
#define MQFS_LOCAL_MEMBER_H

#include "engine/local_internal.h"

struct member {
	struct object object; /* first; its parent is the group */
	/* All that follows: group.lock */
	bool joined;
	uint32_t sessions, readers; /* open */
	uint32_t unit;              /* its number while partitions are assigned */
	int64_t seen_ms;            /* clock_mono_ms() of the last call on it */
	struct member *next;        /* in group.members, in the order of joining */
	struct timer timer;         /* at which it may have been silent for too long */
};

static inline struct member *member_of_object(struct object *object)
{
	return (struct member *)object;
}

static inline struct group *member_group(const struct member *member)
{
	return group_of_object(member->object.parent);
}

struct member *member_new(struct local *local, uint64_t id, struct group *group);
void member_free(struct member *member);
void member_join(struct member *member);    /* is one from now on, if it was not; group.lock */
void member_begin(struct member *member);   /* the same, and wakes who gets less or more. No lock */
void members_join_all(struct local *local); /* at start, once the journal was replayed: what was given is taken back */
void member_leave(struct member *member);   /* no more; wakes who gets its partitions. No lock */
void member_forget(struct member *member);  /* the same, of a group that is being removed: nobody gets anything */
void member_seen(struct member *member);    /* somebody called; group.lock */
void member_reader_gone(struct member *member); /* a consumer of it was closed; group.lock */
void member_look_again(struct group *group);    /* session.timeout.ms has changed. No lock */
void members_catch_up(struct group *group);     /* who was silent for too long leaves. No lock */
void member_sum(struct member *member, struct engine_stat *stat);

/* Begins a call on a group (then *ret_member is NULL) or a member. */
int member_enter(struct engine_object *base, bool change, struct group **ret_group, struct member **ret_member);
/* May the member (NULL: the group's own) settle in that partition? EBUSY, ESTALE. group.lock */
int member_may_ack(const struct group *group, const struct member *member, uint32_t partition);
/* Does the group's own side stand aside? EBUSY. group.lock */
int member_check_own(const struct group *group);

/* Has it a stream open? NULL: the group itself. group.lock */
bool member_has_stream(const struct group *group, const struct member *member);

/* -- local_reject.c -- */
struct queue;
struct queue *group_find_dlq(struct group *group); /* a reference, or NULL */
int member_reject(struct engine_object *base, uint32_t partition, uint64_t offset);
int64_t member_reject_all(struct engine_object *base, uint32_t index);

extern const struct engine_member_ops local_member_ops;

#endif
