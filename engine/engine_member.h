/*
 * engine_member - the part of the contract that is about the members of a consumer group, and about what a group rejects.
 *
 * A member with a name (ENGINE_MEMBER) is created below a group (ENGINE_GROUP). It is wanted wherever engine.h says "group"
 * for a consumer: consumer_open, ack_all, ack, reject, session_open. The group itself stands there for its anonymous member.
 * What a group rejects is in a queue (engine_queue.h): its child of kind ENGINE_QUEUE named "dlq", made and removed with it.
 *
 * Who is a member. A named one joins when it is created, by session_open and by consumer_open; it leaves when it is
 * removed, when its last session is closed (before the call returns), or when it was silent for session.timeout.ms: no session
 * and no consumer open, and no call on it. When the store is opened, all named ones are members and silent from then on. A
 * STREAM of the group opened for all partitions is a member while it is open; a STREAM of one partition has that one before
 * all others (of several the one opened first). The anonymous member is one only while there is no other: else ONE and SNAPSHOT of the group are EBUSY, at
 * consumer_open, and at consumer_fetch for those opened before.
 *
 * Who has what. The partitions are spread over the members so that the shares differ by one at most, and no more of them change
 * hands than that needs (Kafka's cooperative sticky assignor); anew whenever a member comes or goes and when the topic
 * grows. Who gets a partition begins at its stored offset; what the one before was given there and did not ack is taken back. No
 * stored offset ever moves back by it. Within a named member its STREAMs share what it has as those of an anonymous group do,
 * and ONE and SNAPSHOT are EBUSY while it has a STREAM open. A consumer opened for one partition is of the group
 * only: EINVAL for a member. A consumer of a member that has left is given nothing more, until the member joins again; a
 * SNAPSHOT gives nothing of a partition that was lost after its opening, even if it came back.
 *
 * Acks. ack_all commits what this member was given and still owns; of the group: what the anonymous member or the group's
 * own STREAMs own. ack: ESTALE if the partition is not its own (nor, for the group, of one of its own STREAMs), then EALREADY and
 * ERANGE as in engine.h. The group's are EBUSY while it has a named member and no STREAM of its own. seek is of the group
 * only, and takes back what was given, whoever has the partition.
 *
 * Rejects. The message at offset goes to the group's dlq, with a death (ENGINE_REJECTED, queue "TOPIC/groups/GROUP"), and
 * all before it and it are committed, as by ack: one step, which is on disk when the call returns, and which no crash parts. It
 * arrives there anew, with a new id and the props and cred it was produced with (priority 0). reject_all does it with each message
 * given and not yet committed, in order; some at a time, each time in one step. What is damaged is passed over. The dlq's
 * limits never refuse it. A dead letter is redriven by producing it to the topic again, with its key (redrive): that is one step of
 * the same kind, and what the topic's limits would refuse now it took before.
 *
 * Removing. A group: ENOTEMPTY while its dlq holds messages; a topic likewise. A member: what it was given and did not
 * ack goes to the others.
 *
 * engine_ops.stat of a member: messages counts the lag of the partitions it has, partitions how many these are.
 */
#ifndef MQFS_ENGINE_MEMBER_H
#define MQFS_ENGINE_MEMBER_H

#include <stdbool.h>
#include <stdint.h>

struct engine_object;
struct engine_session;

struct engine_member_stat {
	bool joined;
	uint32_t sessions, readers; /* open */
	int64_t seen_ms;            /* Unix time of the last call on it */
	uint64_t owned[16];         /* bit p % 64 of word p / 64: it has partition p (ENGINE_PARTITIONS_MAX of them) */
};

struct engine_member_ops {
	/* As long as it is open the member is not silent. Several may be open; closing the last one is leaving. */
	int (*session_open)(struct engine_object *member, struct engine_session **ret_session);
	void (*session_close)(struct engine_session *session); /* NULL allowed */

	/* member: a group or a named member. ERANGE and EALREADY as ack; ENOENT: no such partition, EIDRM, ENOSPC, EROFS, EIO.
	 * Then nothing has happened; but if the journal could not be synced, EIO, what came of it shows after the next start. */
	int (*reject)(struct engine_object *member, uint32_t partition, uint64_t offset);
	/* partition: ENGINE_ANY: all. Returns how many were rejected. */
	int64_t (*reject_all)(struct engine_object *member, uint32_t partition);

	int (*member_stat)(struct engine_object *member, struct engine_member_stat *ret_stat);
};

#endif
