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
 * order of arrival. What comes back (nack, lease over, delay over) comes back to its place.
 */
#ifndef MQFS_ENGINE_QUEUE_H
#define MQFS_ENGINE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct engine_object;
struct engine_scratch;
struct engine_view;
struct engine_done;
struct engine_session;

#define ENGINE_PRIORITIES 10u                /* 0 to 9 */

enum engine_message_state { ENGINE_READY, ENGINE_UNACKED, ENGINE_DELAYED, ENGINE_STATE_COUNT };

enum engine_death_reason { ENGINE_REJECTED, ENGINE_EXPIRED, ENGINE_MAXLEN, ENGINE_DELIVERY_LIMIT };

/* One entry per queue and reason, the newest first. queue is the name it had then. */
struct engine_death {
	struct engine_span queue;
	enum engine_death_reason reason;
	uint32_t count;
	int64_t ts_ms;                           /* of the last time */
};

/* What a reader gets with each message of a queue: struct engine_view.deliveries, batch.count of them. */
struct engine_delivery {
	uint64_t id;
	uint32_t priority;
	uint32_t deliveries;                     /* how often it was delivered, this time included; 0 for a look at READY */
	bool redelivered;                        /* deliveries > 1 */
};

struct engine_message_stat {
	uint64_t id;
	enum engine_message_state state;
	uint32_t priority;
	uint32_t deliveries;
	uint64_t size;                           /* bytes of the payload */
	int64_t ts_ms;                           /* produced */
	int64_t due_ms;                          /* Unix time. DELAYED: ready then; UNACKED: the lease ends, INT64_MAX: with its holder;
	                                            READY: expires, INT64_MAX: never */
	uint64_t consumer_id;                    /* UNACKED: of the queue (anonymous) or the named consumer; else 0 */
};

/* Counters; the totals count from the creation of the queue and are kept over restarts. */
struct engine_queue_stat {
	uint64_t ready, unacked, delayed, dead;  /* messages now; dead: in its dead-letter queue */
	uint64_t bytes;                          /* payload bytes of ready + unacked + delayed */
	uint64_t ready_by_priority[ENGINE_PRIORITIES];
	uint64_t published, delivered, redelivered, acked, dead_lettered, expired, dropped, moved_in, moved_out;
	/* published + moved_in = ready + unacked + delayed + acked + dead_lettered + expired + dropped + moved_out.
	   expired: dropped because their time was over, without going to dead letters; dropped: rm, purge, maxlen without dead
	   letters, a circle of dead letters */
	uint32_t consumers;                      /* with a consuming file or a session open */
	int64_t oldest_ready_ms, oldest_unacked_ms; /* Unix time produced, delivered; 0: none */
};

enum engine_settle { ENGINE_ACK, ENGINE_NACK, ENGINE_REJECT };

/* Where a message is moved to. */
struct engine_place {
	struct engine_object *queue;             /* may be the one it is in */
	enum engine_message_state state;         /* READY, or UNACKED: claimed for consumer */
	struct engine_object *consumer;          /* UNACKED: the queue itself or a named consumer of it */
	uint32_t priority;                       /* ENGINE_ANY: the one it has (at most max.priority of the queue) */
};

struct engine_queue_ops {
	/*
	 * producer_open on a queue: partition is the priority (ENGINE_ANY: that of props, else 0). head puts to the head.
	 * producer_send honours props.priority (above max.priority: lowered to it), ttl_ms, delay_ms; EDQUOT under overflow
	 * reject-publish when it would go over max.length or max.length.bytes (which count READY): the batch is taken up to
	 * there by the caller's own splitting, all or none here. producer_sync as for topics.
	 */
	int (*producer_open)(struct engine_object *queue, uint32_t priority, bool head, struct engine_producer **ret_producer);

	/*
	 * A consumer for one open file, of a queue (anonymous) or a named consumer. take: acknowledged as it is delivered. ONE,
	 * SNAPSHOT (what was READY at open, at most prefetch) and STREAM as for groups, but every fetch leases what it gives:
	 * never more unacked at once than prefetch (0: no limit) for the consumer; a STREAM's leases go back when its file is
	 * closed. EBUSY: single.active.consumer, and another is active (a STREAM then waits for its turn instead).
	 * consumer_fetch sets view.deliveries; one fetch gives messages of one priority. consumer_rewind is ESPIPE.
	 */
	int (*consumer_open)(struct engine_object *consumer, enum engine_consume how, bool take,
	    struct engine_consumer **ret_consumer);

	/*
	 * As long as the session is open, the consumer's leases have no deadline but consumer.timeout.ms; when it is closed, all
	 * it holds is READY again before the call returns. Several may be open; the last one counts.
	 */
	int (*session_open)(struct engine_object *consumer, struct engine_session **ret_session);
	void (*session_close)(struct engine_session *session); /* NULL allowed */

	/*
	 * Settles the messages first..last (ids) that the consumer holds. A single id (first == last) that it does not hold
	 * is ENOENT (never in this queue, or long gone), EALREADY (settled), ESTALE (its lease was lost) or EPERM (another's: a named
	 * consumer may settle its own only, the anonymous one all that no named consumer holds). A range settles those in it that
	 * it holds, ENOENT if there is none. Survives the daemon's death when it returns. Returns the count settled.
	 */
	int64_t (*settle)(struct engine_object *consumer, enum engine_settle how, uint64_t first, uint64_t last);
	/* All it holds; EINVAL for the anonymous consumer. Returns the count. */
	int64_t (*settle_all)(struct engine_object *consumer, enum engine_settle how);

	/* ---- messages one by one; ENOENT if id is not in this queue in the state named ---- */

	int (*message_stat)(struct engine_object *queue, uint64_t id, struct engine_message_stat *ret_stat);
	/* Looks without taking: a view of one. */
	int (*message_read)(struct engine_object *queue, uint64_t id, struct engine_scratch *scratch, struct engine_view *ret_view);
	/* Discards it; UNACKED: acknowledges. */
	int (*message_remove)(struct engine_object *queue, uint64_t id, enum engine_message_state state);
	/*
	 * Atomic, with one winner. UNACKED to READY of its own queue is nack; to READY of its queue's own dead letters is reject (a
	 * death is added); out of dead letters its deaths stay with it. EEXIST cannot be. EINVAL, EDQUOT, EPERM (claimed for a
	 * consumer of another queue).
	 */
	int (*message_move)(struct engine_object *queue, uint64_t id, enum engine_message_state state, const struct engine_place *to);
	/* UNACKED: the lease begins anew (until: ignored). READY, DELAYED: ready at `until_ms` (Unix time; past: now). */
	int (*message_touch)(struct engine_object *queue, uint64_t id, enum engine_message_state state, int64_t until_ms);

	/*
	 * Lists messages in a state in order of delivery (DELAYED: of time; UNACKED: of delivery), those of one priority or
	 * ENGINE_ANY; consumer: of one consumer's only, or NULL. Constant memory: *cursor is the place to go on from, {0} at first;
	 * each returns false to stop, and is called without locks; it may call the engine. What comes or goes meanwhile may or
	 * may not be seen; what stays is seen once.
	 */
	int (*message_list)(struct engine_object *queue, enum engine_message_state state, uint32_t priority,
	    struct engine_object *consumer, uint64_t cursor[2], bool (*each)(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2]), void *ctx);

	int (*queue_stat)(struct engine_object *queue, struct engine_queue_stat *ret_stat);

	/* Discards all READY and DELAYED messages (what is leased stays with its holder). Durable on return. */
	int (*purge)(struct engine_object *queue);
	/* Dead-letter queue: puts ids first..last (0, UINT64_MAX: all) back to the queues they came from; returns the count. */
	int64_t (*redrive)(struct engine_object *dlq, uint64_t first, uint64_t last);

	/* Completes when all settling so far is on disk. */
	int (*settle_sync)(struct engine_object *queue, struct engine_done *done);
};

#endif
