/*
 * engine_queue - the part of the contract that is about queues: messages that are leased, each settled on its own.
 *
 * A queue (ENGINE_QUEUE) is created below the store; its dead letters are a queue too, made and removed with it: its child
 * of kind ENGINE_QUEUE named "dlq". A consumer with a name (ENGINE_CONSUMER) is created below a queue. A queue's own
 * files serve one anonymous consumer, which is the queue object itself wherever a consumer is wanted.
 *
 * Producing is producer_open/send/sync of engine.h, consuming is consumer_open/fetch/arm/close; what they mean for
 * a queue is said here. What has a queue for its own is struct engine_queue_ops. An engine without queues has
 * engine_ops.queue NULL.
 *
 * Ids. A message's id is given once, from one sequence of the store, and stays with it when it moves to another queue.
 *
 * States and what leads from one to the other (everything else is refused):
 *
 *	            deliver                 ack, rm, take
 *	  READY ---------------> UNACKED -----------------> gone
 *	    ^  <--------------- nack, lease over, holder gone (redelivered, deliveries + 1 at the next delivery)
 *	    |  rm, purge, maxlen ---------------------------> gone (maxlen: or dead)
 *	    |  ttl over, reject, delivery.limit -------------> dead: READY in the dead-letter queue with a death
 *	    |  delay -----------> DELAYED -- its time ------> READY, in its place
 *
 * Order. Highest priority first; within it, what was put to the head comes first (the last put first of all), then the
 * order of arrival. What comes back (nack, lease over, delay over) comes back to its place. What comes from elsewhere (moved,
 * dead, redriven, or given another priority) arrives anew: at the end of its priority, by the calling order.
 *
 * Coming back. A lease ends without being settled when its time is over, its stream or the last session of its consumer is
 * closed, its consumer is removed, or the daemon died. Then, and after a nack: delivered more than delivery.limit times, it is
 * dead; else with redelivery.delay.ms it is DELAYED that long; else READY. deliveries count in the queue it is in: a
 * message that arrives anew starts at 0, unless it only changed its priority.
 *
 * Time to live. Counts from the arrival in the queue (batch.ts_ms, or the moment it was moved there), plus the delay_ms it was
 * produced with (which counts from batch.ts_ms too); the lower of message.ttl.ms and its own ttl_ms holds. Only what is READY expires: at once, wherever it
 * stands, also as it comes back. A dead letter loses its own ttl_ms for good.
 *
 * Length. max.length and max.length.bytes (payloads) count READY. Under drop-head every message that becomes READY above
 * a limit, and a limit that is lowered, drops from the lowest priority that has any: the first in order that was not put to the
 * head, or if all were, the last in order; to dead letters as ENGINE_MAXLEN. Under reject-publish only producing, moving in
 * and redriving are refused (EDQUOT), and only if they add to READY (a delayed message does not); what comes back and dead letters
 * always come in. reject-publish-dlx: what has no room when it is produced goes to dead letters as ENGINE_MAXLEN
 * and the producer has success; with dead.letter.to none, and for moving and redriving, it is reject-publish.
 *
 * Dead letters go to where dead.letter.to says: to the queue that has this name as they die. If there is none they stay, in the
 * queue's own dlq, or if it is one, in it; that is told, once. A circle: going on to a queue
 * it was in before (a death of it says so, this one included) with no ENGINE_REJECTED among the deaths since then (those
 * before that one in the list, and it). That, and what has nowhere to go, is dropped and counted. A queue's name in a death
 * is "jobs", that of its dead letters "jobs/dlq".
 *
 * Through an exchange (dead.letter.to exchanges/NAME) they are published from the dlq, soon after they came there, with dead.letter.routing.key
 * or their own, and the priority they have there: to all targets, full or not, but those queues that they would come to in a circle. Without any
 * they are dropped, and counted in the dlq. They stay in the dlq if there is no such exchange as they die: the name counts, whichever has it
 * then. A dlq itself cannot have it (EINVAL).
 *
 * The dead-letter queue starts with the settings of the table, not those of defaults(), except dead.letter.to none and
 * delivery.limit -1, so that nothing is lost there unasked. "dlq" is EINVAL as its dead.letter.to, expires.ms does
 * nothing there, and it cannot be renamed or removed by itself (EPERM).
 *
 * Removing. A queue: ENOTEMPTY if it or its dead letters hold messages in any state; its consumers and its dlq go with it. A
 * consumer: what it holds comes back. By expires.ms a queue goes with all it holds: when it has no producer, consumer
 * or session open, and nothing but time changed it or its dlq for that long. A setting changes it, what is refused does not; a
 * start begins the time anew. engine_ops.stat of a queue: messages counts READY, bytes is that of engine_queue_stat; of a consumer:
 * messages counts what it holds.
 *
 * What is due is done before a call looks, and of what is due the earlier first, then the lower id; a call that makes something
 * due (a setting, a session) does it before it returns. It happens at the time it is done, not at that when it was due. A call does
 * it queue by queue, the older first, each with what follows from it for lengths; then what has died goes on through exchanges, of
 * the older queue first. What dies of a batch as it comes, for want of room
 * or of age, is all among the dead letters before their length is looked at. Of much that is due at once (more than 500 messages
 * of a queue) a call may do a part, so that it does not wait for all; but what is over is never given.
 */
#ifndef MQFS_ENGINE_QUEUE_H
#define MQFS_ENGINE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine_base.h"

struct engine_object;
struct engine_scratch;
struct engine_view;
struct engine_done;
struct engine_session;
struct engine_producer;
struct engine_props;
struct engine_consumer;

#define ENGINE_PRIORITIES 10u /* 0 to 9 */

enum engine_message_state { ENGINE_READY, ENGINE_UNACKED, ENGINE_DELAYED, ENGINE_STATE_COUNT };

enum engine_death_reason { ENGINE_REJECTED, ENGINE_EXPIRED, ENGINE_MAXLEN, ENGINE_DELIVERY_LIMIT };

/* One entry per queue and reason, the newest first. queue is the name it had then. */
struct engine_death {
	struct engine_span queue;
	enum engine_death_reason reason;
	uint32_t count;
	int64_t ts_ms; /* of the last time */
};

/* What a reader gets with each message of a queue: struct engine_view.deliveries, batch.count of them. */
struct engine_delivery {
	uint64_t id;
	uint32_t priority;
	uint32_t deliveries; /* how often it was delivered in this queue, this time included */
	bool
	    redelivered; /* this delivery is not the first, or of who just looks at what is not leased, the next will not be */
};

struct engine_message_stat {
	uint64_t id;
	enum engine_message_state state;
	uint32_t priority;
	uint32_t deliveries;
	uint64_t size;        /* bytes of the payload */
	int64_t ts_ms;        /* produced */
	int64_t due_ms;       /* Unix time. DELAYED: ready then; UNACKED: the lease ends, INT64_MAX: with its holder;
	                                            READY: expires, INT64_MAX: never */
	uint64_t consumer_id; /* UNACKED: of the queue (anonymous) or the named consumer; else 0 */
};

/* Counters; the totals count from the creation of the queue and are kept over restarts. */
struct engine_queue_stat {
	uint64_t ready, unacked, delayed, dead; /* messages now; dead: in its dead-letter queue */
	uint64_t bytes;                         /* payload bytes of ready + unacked + delayed */
	uint64_t ready_by_priority[ENGINE_PRIORITIES];
	uint64_t published, delivered, redelivered, acked, dead_lettered, expired, dropped, moved_in, moved_out;
	/* published + moved_in = ready + unacked + delayed + acked + dead_lettered + expired + dropped + moved_out.
	   expired: dropped because their time was over, without going to dead letters; dropped: rm, purge, maxlen without dead
	   letters, a circle of dead letters */
	uint64_t deduplicated;                      /* dropped because their id was seen, since the store was opened */
	uint32_t consumers;                         /* with a consuming file or a session open */
	int64_t oldest_ready_ms, oldest_unacked_ms; /* Unix time produced, delivered; 0: none */
};

enum engine_settle { ENGINE_ACK, ENGINE_NACK, ENGINE_REJECT };

/* Where a message is moved to. */
struct engine_place {
	struct engine_object *queue;     /* may be the one it is in */
	enum engine_message_state state; /* READY, or UNACKED: claimed for consumer */
	struct engine_object *consumer;  /* UNACKED: the queue itself or a named consumer of it */
	uint32_t priority;               /* ENGINE_ANY: the one it has (at most max.priority of the queue) */
	uint32_t uid;                    /* UNACKED: who claims it, see struct engine_users */
};

struct engine_queue_ops {
	/*
	 * producer_open on a queue: partition is the priority (ENGINE_ANY: that of props, else 0). head puts to the head.
	 * producer_send honours props.priority (above max.priority: lowered to it), ttl_ms, delay_ms; EDQUOT under overflow
	 * reject-publish when it would go over max.length or max.length.bytes (which count READY): the batch is taken up to
	 * there by the caller's own splitting, all or none here. producer_sync as for topics. EINVAL: no such priority (10 or
	 * more); one above max.priority is lowered to it, too.
	 */
	int (*producer_open)(
	    struct engine_object *queue, uint32_t priority, bool head, struct engine_producer **ret_producer);

	/*
	 * A consumer for one open file, of a queue (anonymous) or a named consumer. take: acknowledged as it is delivered, as
	 * under auto.ack. ONE, SNAPSHOT and STREAM as for groups, but every fetch leases what it gives: never more unacked at once
	 * than prefetch (0: no limit) for the consumer; a STREAM's leases go back when its file is closed. SNAPSHOT gives at most
	 * as many as were READY at open (and at most prefetch), of those with an id given before it was opened, each behind
	 * the one before in order, so that none is given twice. EBUSY: single.active.consumer, and another is active (a
	 * STREAM and a WAIT then wait for their turn instead, and a consumer that is not active any more is given nothing). Consumers in this
	 * sense are: a named one with all its files and sessions, and each file of the anonymous one. Active is who holds a message
	 * (UNACKED; of several, whose was delivered first), of the files of the anonymous one the one opened first; if nobody does,
	 * the one opened first of all.
	 * consumer_fetch sets view.deliveries; one fetch gives messages of one priority, of one producer, produced alike: those that
	 * one batch can hold. consumer_rewind is ESPIPE. consumer_arm also completes when prefetch frees or its turn comes;
	 * for a SNAPSHOT it means nothing.
	 * What is leased counts for uid (see struct engine_users) as long as that very lease lasts, over the close of the file, but
	 * not over a restart: then it counts for nobody. A fetch gives what uid may still have; EDQUOT if that is none of what there is.
	 */
	int (*consumer_open)(struct engine_object *consumer, enum engine_consume how, bool take, uint32_t uid,
	    struct engine_consumer **ret_consumer);

	/*
	 * As long as the session is open, the consumer's leases have no deadline but consumer.timeout.ms; when it is closed, all
	 * it holds is READY again before the call returns. Several may be open; the last one counts. EINVAL: the anonymous consumer.
	 */
	int (*session_open)(struct engine_object *consumer, struct engine_session **ret_session);
	void (*session_close)(struct engine_session *session); /* NULL allowed */

	/*
	 * Settles the messages first..last (ids) that the consumer holds. A single id (first == last) that it does not hold
	 * is ENOENT (never in this queue, or long gone), EALREADY (settled), ESTALE (its lease was lost) or EPERM (another's: a named
	 * consumer may settle its own only, the anonymous one all that no named consumer holds). A range settles those in it that
	 * it holds; if there is none, it is answered as its first id alone would be. Survives the daemon's death when it returns. Returns the count settled. EINVAL: first
	 * > last. Which it is, for a single id:
	 *	UNACKED by another: ESTALE (EALREADY) if the last lease before that was this consumer's, and lost (nacked); else EPERM
	 *	READY, DELAYED: never leased ENOENT; EALREADY after a nack, ESTALE after a lost lease, whosever
	 *	gone: EALREADY when its last lease was settled (also by a nack, or by removing or moving it from UNACKED), ESTALE
	 *	    when it was lost; else ENOENT. What a range or `all` settles is settled in order of delivery. An engine remembers the last 1,000 at least that went so, in whatever way and order; a restart may forget them. Of those it forgot it says ENOENT or EALREADY.
	 */
	int64_t (*settle)(struct engine_object *consumer, enum engine_settle how, uint64_t first, uint64_t last);
	/* All it holds; EINVAL for the anonymous consumer. Returns the count. */
	int64_t (*settle_all)(struct engine_object *consumer, enum engine_settle how);

	/* ---- messages one by one; ENOENT if id is not in this queue in the state named ---- */

	int (*message_stat)(struct engine_object *queue, uint64_t id, struct engine_message_stat *ret_stat);
	/* Looks without taking: a view of one. */
	int (*message_read)(
	    struct engine_object *queue, uint64_t id, struct engine_scratch *scratch, struct engine_view *ret_view);
	/* Discards it; UNACKED: acknowledges. */
	int (*message_remove)(struct engine_object *queue, uint64_t id, enum engine_message_state state);
	/*
	 * Atomic, with one winner. UNACKED to READY of its own queue is nack (if it dies of delivery.limit, with the priority
	 * it had); to READY of its queue's own dead letters is reject (a death is added, and it keeps its priority); out of dead
	 * letters its deaths stay with it. EEXIST cannot be. DELAYED to READY ends the delay; another priority puts it at the end
	 * of that one. To another queue: moved_out here and moved_in there. To UNACKED it is delivered (whatever prefetch and
	 * auto.ack say), also from one holder to another; to its own holder, it begins the lease anew.
	 * ENOENT comes before all others; EINVAL: a priority above the queue's max.priority, state DELAYED, UNACKED for nobody; EPERM:
	 * claimed for a consumer of another queue; EDQUOT (of the queue; to UNACKED: of struct engine_users); EIDRM.
	 */
	int (*message_move)(
	    struct engine_object *queue, uint64_t id, enum engine_message_state state, const struct engine_place *to);
	/* UNACKED: the lease begins anew (until: ignored). READY, DELAYED: ready at `until_ms` (Unix time; past: now). */
	int (*message_touch)(
	    struct engine_object *queue, uint64_t id, enum engine_message_state state, int64_t until_ms);

	/*
	 * Lists messages in a state in order of delivery (DELAYED: of time; UNACKED: of delivery), those of one priority or
	 * ENGINE_ANY; consumer: of one consumer's only, or NULL. Constant memory: *cursor is the place to go on from, {0} at first;
	 * each returns false to stop, and is called without locks; it may call the engine. What comes or goes meanwhile may or
	 * may not be seen; what stays is seen once.
	 */
	int (*message_list)(struct engine_object *queue, enum engine_message_state state, uint32_t priority,
	    struct engine_object *consumer, uint64_t cursor[2],
	    bool (*each)(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2]), void *ctx);

	int (*queue_stat)(struct engine_object *queue, struct engine_queue_stat *ret_stat);
	/*
	 * For a message that is still being written: 0 if one of this many bytes, with these properties (NULL: none), would be taken
	 * now, EDQUOT as producer_send would answer for it: not if it is delayed, or its id was seen. Promises nothing.
	 */
	int (*room)(struct engine_object *queue, uint64_t bytes, const struct engine_props *props);

	/* Discards all READY and DELAYED messages (what is leased stays with its holder). Durable on return. */
	int (*purge)(struct engine_object *queue);
	/*
	 * Dead-letter queue: puts what is READY of the ids first..last (0, UINT64_MAX: all) back to the queue it belongs to, in
	 * order of delivery, its deaths with it; returns the count. Each of those that are READY at the call goes once, alone, even
	 * if what it displaces there comes here; one that was displaced from here meanwhile is passed over. ENOENT: none of
	 * a range; EDQUOT: there is no room for the first.
	 */
	int64_t (*redrive)(struct engine_object *dlq, uint64_t first, uint64_t last);

	/* Completes when all settling so far is on disk. */
	int (*settle_sync)(struct engine_object *queue, struct engine_done *done);
};

#endif
