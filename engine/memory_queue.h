/*
 * memory_queue - the queues of the memory engine, shared by its memory_queue*.c and the few places that lead there.
 *
 * A message of a queue is a struct memory_item. It is in one list of its queue: in ready, by priority and in order of
 * delivery; in unacked, in order of delivery; in delayed, by time. memory_item_take() takes it out, and it is "in the air"
 * until one of the functions below it puts it somewhere or discards it; nobody but one call ever sees it so.
 *
 * Time. Nothing happens by itself: memory_enter() calls memory_queue_sweep(), which does what is due by then, so that every
 * call finds what it would find had everything happened in time. A thread does the same when something becomes due
 * and nobody calls, for those who wait. Deadlines of leases and queues are on the clock that nobody sets, the others on
 * the wall's.
 *
 * All of it is guarded by memory_engine.lock, and every function needs it held, the calls of struct engine_queue_ops excepted.
 */
#ifndef MQFS_MEMORY_QUEUE_H
#define MQFS_MEMORY_QUEUE_H

#include <uthash.h>

#include "engine/memory_internal.h"

#define MEMORY_QUEUE_NAME (2 * ENGINE_NAME_MAX + sizeof("/groups//dlq"))
#define MEMORY_GONE 4096u /* messages a queue remembers after they went; the contract asks for 1,000 */

/* How the last lease of a message ended: what a late ack is told. */
enum memory_ended { MEMORY_NEVER_LEASED, MEMORY_SETTLED, MEMORY_LOST };

struct memory_item {
	struct memory_item *next, *previous;
	UT_hash_handle by_id;        /* in memory_engine.items */
	struct memory_object *queue; /* not counted */
	struct memory_message message;
	uint64_t id;
	uint32_t priority, deliveries;
	int64_t rank; /* place within the priority; below 0: put to the head */
	enum engine_message_state state;
	int64_t alive_ms; /* its time to live counts from here */
	int64_t due_ms;   /* DELAYED */

	/* UNACKED */
	struct memory_object *consumer;    /* the queue or a named consumer; not counted */
	struct memory_queue_file *stream;  /* holds it as long as it is open, or NULL; not counted */
	int64_t leased_mono, delivered_ms; /* the first begins anew with touch */
	uint64_t delivery;                 /* place in unacked */
	uint32_t pins;                     /* transactions that are to settle it: it does not end by time */
	uint64_t lessee;                   /* uid + 1 of who is charged for the lease; 0: nobody */

	enum memory_ended ended; /* of the last lease, and whose it was */
	uint64_t ended_by;
	struct engine_death *deaths; /* their names are owned */
	uint32_t death_count;
	bool forward; /* in a dlq: a dead letter that is to go on through an exchange */
};

struct memory_items {
	struct memory_item *first, *last;
	uint64_t count;
};

struct memory_gone {
	uint64_t id; /* 0: none */
	enum memory_ended ended;
};

/* What makes a consumer present: an open file or session. */
struct memory_holder {
	struct memory_object *consumer; /* a reference; first, as in all producers and consumers: see memory_calls.c */
	struct memory_holder *next;     /* in order of opening */
	bool is_file;                   /* else a session */
};

struct memory_queue_file {
	struct memory_holder holder;
	enum engine_consume how; /* never WAIT: that is ONE, in_turn */
	bool in_turn;            /* under single.active.consumer it waits until it is its turn */
	bool take;
	uint32_t uid;          /* who is charged for what it leases */
	bool done;             /* ONE: its message was given */
	uint64_t left, before; /* SNAPSHOT: messages still to give, and those with an id below this one only */
	uint32_t priority;     /* SNAPSHOT: it goes on behind this place */
	int64_t rank;
	struct engine_waiter *waiters; /* armed */
};

struct memory_queue {
	struct memory_object *dlq; /* not counted; NULL: it is one itself */
	struct memory_items ready[ENGINE_PRIORITIES], unacked, delayed;
	uint64_t ready_count, ready_bytes, bytes;
	uint64_t with_ttl;               /* messages that have a ttl of their own */
	struct engine_queue_stat totals; /* its totals only */
	int64_t last_rank, last_head;
	uint64_t last_delivery;
	struct memory_gone gone[MEMORY_GONE];
	size_t next_gone;
	struct memory_holder *holders;
	uint32_t producers;
	int64_t used_mono;            /* last change by a call: expires.ms */
	int64_t next_wall, next_mono; /* nothing is due before */
	uint64_t grown;               /* it may be too long: its turn among those; 0: it is not */
	bool changed;
	struct memory_object *next_changed; /* a reference */
};

/* ---- memory_queue.c: states ---- */

int memory_queue_init(struct memory_object *object);
void memory_queue_free(struct memory_object *object);  /* with all it holds; no queue is allowed */
void memory_queue_clear(struct memory_object *object); /* discards all it holds, before it goes */
struct memory_item *memory_item_find(struct memory_engine *memory, uint64_t id);
void memory_item_free(struct memory_item *item);

void memory_item_take(struct memory_item *item);

/* READY in its place, unless its time is over or the queue's limits say otherwise: then it may be gone on return. */
void memory_make_ready(struct memory_item *item);
void memory_put_ready(struct memory_item *item); /* the same whether its time is over or not: a sweep follows */
void memory_make_delayed(struct memory_item *item, int64_t due_ms); /* READY, if that is past */
/* uid was charged for it by memory_charge(): how many of count messages may be leased. EDQUOT, ENOMEM */
int64_t memory_charge(struct memory_engine *memory, uint32_t uid, uint32_t count);
void memory_make_unacked(
    struct memory_item *item, struct memory_object *consumer, struct memory_queue_file *stream, uint32_t uid);
/* Delivered, and acknowledged with that. */
void memory_deliver_acked(struct memory_item *item);
bool memory_is_over_limit(const struct memory_item *item); /* delivered too often to come back */
/* After a lease that ended so, by SETTLED a nack. */
void memory_come_back(struct memory_item *item, enum memory_ended ended);
void memory_note_death(struct memory_item *item, const char *name, enum engine_death_reason reason);
void memory_die(struct memory_item *item, enum engine_death_reason reason);
void memory_die_into(struct memory_item *item, enum engine_death_reason reason, struct memory_object *target);
void memory_discard(struct memory_item *item, uint64_t *total);
/* Comes to queue (which may be the one it died in) as something new. Its place is as below; it is in the air still. */
void memory_arrive(struct memory_item *item, struct memory_object *queue, uint32_t priority);
/* Gives it a place at the end of that priority, or at the head. */
void memory_item_place(struct memory_item *item, struct memory_object *queue, uint32_t priority, bool head);

/* All that is leased to consumer (and by stream, if not NULL) comes back. */
void memory_lose_leases(struct memory_object *consumer, const struct memory_queue_file *stream);
/* Would a queue that refuses have room for messages and bytes more? */
bool memory_has_room(const struct memory_object *queue, uint64_t messages, uint64_t bytes);
void memory_enforce_length(struct memory_object *queue);   /* drop-head; then where its dead letters go */
void memory_enforce_lengths(struct memory_engine *memory); /* of all queues that have more READY than before */
struct memory_object *memory_dead_letter_target(struct memory_object *queue); /* or NULL */
void memory_sweep_one(struct memory_object *queue);                           /* does what is due in it */
uint32_t memory_max_priority(const struct memory_object *queue);
bool memory_refuses(const struct memory_object *queue); /* overflow is not drop-head */
void memory_queue_changed(struct memory_object *queue); /* looks after waiters when the lock is left */
void memory_queue_used(struct memory_object *queue);
int memory_gone_errno(const struct memory_queue *queue, uint64_t id);
struct memory_object *memory_queue_of(struct memory_object *consumer); /* of the queue itself too */
void memory_check_queue(const struct memory_object *queue);
/* "jobs", "jobs/dlq", "orders/groups/billing/dlq" */
void memory_queue_name(const struct memory_object *queue, char name[MEMORY_QUEUE_NAME]);

/* ---- memory_queue_time.c ---- */

int64_t memory_due(const struct memory_item *item);  /* Unix time of what happens to it next; INT64_MAX: nothing */
bool memory_is_held(const struct memory_item *item); /* its lease ends with a session or stream */
int64_t memory_expiry(const struct memory_item *item);
void memory_note_due(struct memory_item *item);
void memory_look_again(struct memory_object *queue); /* a setting changed, a session came or went */
void memory_queue_sweep(struct memory_engine *memory);
int memory_timer_start(struct memory_engine *memory);
void memory_timer_stop(struct memory_engine *memory); /* without the lock */
void memory_timer_kick(struct memory_engine *memory);

/* ---- memory_queue_view.c ---- */

/* Up to max_count of the messages from first on that may be given together. delivering: they count this time as well. */
int memory_queue_view(const struct memory_item *first, uint64_t max_count, size_t max_bytes, bool delivering,
    struct engine_scratch *scratch, struct engine_view *ret_view);

/* ---- memory_queue_produce.c, memory_queue_consume.c, memory_queue_session.c: the calls ---- */

/* A send in two steps, as memory_topic_begin and _end: *ret_first is the list of the messages. */
/* again: it was accepted before, and room and size do not matter. */
int memory_queue_begin(
    struct memory_object *queue, const struct engine_batch *batch, bool again, struct memory_item **ret_first);
void memory_queue_end(struct memory_object *queue, struct memory_item *first, bool head, bool take);
/* What a list that has begun asks for of a queue that refuses; and has that room? EDQUOT */
void memory_queue_weigh(const struct memory_item *first, uint64_t *count, uint64_t *bytes);
int memory_queue_check_weight(const struct memory_object *queue, uint64_t count, uint64_t bytes);
int memory_queue_producer_open(
    struct engine_object *queue, uint32_t priority, bool head, struct engine_producer **ret_producer);
int memory_queue_producer_send(struct engine_producer *producer, const struct engine_batch *batch);
int memory_queue_producer_sync(struct engine_producer *producer);
int memory_queue_check_room(struct memory_object *queue, uint64_t bytes, const struct engine_props *props); /* EDQUOT */
int memory_queue_room(struct engine_object *queue, uint64_t bytes, const struct engine_props *props);
void memory_queue_producer_close(struct engine_producer *producer);
/* A group gives a message up: it arrives among its dead letters, whatever their limits say. name: of the group. */
int memory_bury(struct memory_object *dlq, const struct memory_message *message, const char *name);

int memory_queue_consumer_open(struct engine_object *consumer, enum engine_consume how, bool take, uint32_t uid,
    struct engine_consumer **ret_consumer);
int memory_queue_consumer_fetch(struct engine_consumer *consumer, uint32_t max_count, size_t max_bytes,
    struct engine_scratch *scratch, struct engine_view *ret_view);
int memory_queue_consumer_arm(struct engine_consumer *consumer, struct engine_waiter *waiter);
bool memory_queue_consumer_disarm(struct engine_consumer *consumer, struct engine_waiter *waiter);
void memory_queue_consumer_close(struct engine_consumer *consumer);
void memory_wake_queue(struct memory_object *queue, bool all); /* those that can fetch; or all */

void memory_hold(struct memory_holder *holder, struct memory_object *consumer, bool is_file);
void memory_let_go(struct memory_holder *holder);
/* May the consumer's holder, or NULL if it is not there yet, have messages? */
bool memory_is_active(const struct memory_object *consumer, const struct memory_holder *holder);
uint32_t memory_count_consumers(const struct memory_object *queue);
int memory_session_open(struct engine_object *consumer, struct engine_session **ret_session);
void memory_session_close(struct engine_session *session);

/* ---- memory_queue_settle.c, memory_queue_message.c, memory_queue_list.c: the calls ---- */

int64_t memory_settle(struct engine_object *consumer, enum engine_settle how, uint64_t first, uint64_t last);
void memory_settle_item(struct memory_item *item, enum engine_settle how); /* a leased one */
/* The lease that a consumer has of a message. EPERM, EALREADY, ESTALE, ENOENT */
int memory_find_lease(const struct memory_object *consumer, uint64_t id, struct memory_item **ret_item);
int64_t memory_settle_all(struct engine_object *consumer, enum engine_settle how);
int memory_settle_sync(struct engine_object *queue, struct engine_done *done);

int memory_message_stat(struct engine_object *queue, uint64_t id, struct engine_message_stat *ret_stat);
int memory_message_read(
    struct engine_object *queue, uint64_t id, struct engine_scratch *scratch, struct engine_view *ret_view);
int memory_message_remove(struct engine_object *queue, uint64_t id, enum engine_message_state state);
int memory_message_move(
    struct engine_object *queue, uint64_t id, enum engine_message_state state, const struct engine_place *to);
int memory_message_touch(struct engine_object *queue, uint64_t id, enum engine_message_state state, int64_t until_ms);
int memory_purge(struct engine_object *queue);
int64_t memory_redrive(struct engine_object *dlq, uint64_t first, uint64_t last);

void memory_fill_stat(const struct memory_item *item, struct engine_message_stat *stat);
int memory_message_list(struct engine_object *queue, enum engine_message_state state, uint32_t priority,
    struct engine_object *consumer, uint64_t cursor[2],
    bool (*each)(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2]), void *ctx);
int memory_queue_stat(struct engine_object *queue, struct engine_queue_stat *ret_stat);

extern const struct engine_queue_ops memory_queue_ops;

/* ---- memory_forward.c ---- */

bool memory_forwards_now(const struct memory_object *queue); /* does dead.letter.to name an exchange that there is? */
bool memory_forward(struct memory_engine *memory);           /* does what is to go on; whether there was any */
/* Was it there before, and in none since from which somebody rejected it? (memory_queue.c) */
bool memory_is_circle(const struct memory_item *item, const struct memory_object *target);

#endif
