/*
 * memory_internal - the data of the memory engine, shared by its files and by nobody else.
 *
 * One mutex, memory_engine.lock, guards every field of every struct here, except what is said to be fixed. memory_enter()
 * takes it (and clears the sentence of an older errno); memory_leave() releases it and then calls the waiters that were
 * collected meanwhile, so that no caller is ever called back under the lock. All other functions need the lock held.
 *
 * Objects are counted by reference: one is the engine's own as long as the object is not removed, the others are handles,
 * producers, consumers and children. A removed object lives on, answering EIDRM, until the last is put.
 */
#ifndef MQFS_MEMORY_INTERNAL_H
#define MQFS_MEMORY_INTERNAL_H

#include <pthread.h>

#include "engine/dedup.h"
#include "engine/engine.h"

/* One stored message. block holds the headers, the payload, its '\n', and the bytes of the properties. */
struct memory_message {
	void *block;
	const char *data; /* payload and '\n', within block */
	uint32_t len;     /* of the payload */
	bool has_props;   /* props has more than a time taken from the batch */
	uint64_t batch;   /* those with the same number came in one batch, and may be given together */
	uint64_t pos;     /* byte position of the payload */
	int64_t batch_ts_ms;
	struct engine_cred cred;
	struct engine_props props; /* ts_ms resolved; points into block */
};

/* Messages earliest..end are messages[first..first + count - 1]; the room before them is taken back now and then. */
struct memory_partition {
	struct memory_message *messages;
	size_t first, count, room;
	size_t promised; /* more messages that there is room for, of sends that have begun */
	uint64_t earliest;
	uint64_t end_pos;
	uint64_t next_batch;
	int64_t mtime_ms;
};

/* Of a group in one partition. */
struct memory_cursor {
	uint64_t committed, given, lost;
	uint32_t
	    epoch; /* rises when what was given is taken back: whoever read before then starts at committed again */
	struct memory_object *member;  /* the named one that has the partition, or NULL; not counted */
	struct memory_consumer *owner; /* the STREAM that has it, or NULL; not counted */
};

struct memory_node {
	struct memory_node *next;
	struct engine_owner owner;
	char name[]; /* "in", "0/in" */
};

struct memory_object {
	struct engine_object base;
	struct memory_engine *memory; /* fixed */
	struct memory_object *parent; /* fixed; a reference; NULL for the store and the defaults */
	uint64_t id;                  /* fixed */
	enum engine_kind kind;        /* fixed */
	bool is_defaults;             /* fixed */
	bool kept;                    /* counted for `keeper`, as of struct engine_users */
	uint32_t keeper;
	bool removed;
	unsigned refs;
	char name[ENGINE_NAME_MAX + 1];
	struct engine_owner owner, birth;
	int64_t ctime_ms, mtime_ms;
	struct memory_node *nodes;
	char (*values)[ENGINE_VALUE_MAX]; /* by row of engine_settings; only those of the kind are used */
	uint64_t published, published_bytes;
	struct dedup *dedup;     /* of a topic or queue: ids that were seen, or NULL */
	int64_t dedup_window_ms; /* that it was made for */
	uint64_t deduplicated;

	/* A topic */
	struct memory_partition *partitions;
	uint32_t partition_count; /* a group has as many cursors as its topic has partitions */
	uint32_t next_turn;       /* partition of the next turn of unkeyed messages */
	uint32_t producers;

	/* A group */
	struct memory_cursor *cursors;
	struct memory_consumer *consumers; /* in order of opening */
	uint32_t readers;
	uint32_t turn;                 /* partition that ONE and SNAPSHOT begin with */
	struct memory_object *members; /* with names, in order of joining, linked by next_member; not counted */
	struct memory_object *dlq;     /* not counted */
	bool touched;                  /* something was given or sought: auto.offset.reset is over */
	uint64_t delivered, acked;     /* of a queue and a consumer too, as readers */

	/* A member; readers and sessions too */
	bool joined;
	struct memory_object *next_member;
	uint32_t unit;     /* its number while partitions are assigned */
	int64_t seen_mono; /* of the last call on it */

	/* A queue, and a consumer of one */
	struct memory_queue *queue; /* of a queue: memory_queue.h */
	uint64_t unacked;           /* messages leased to it; of a queue: to its anonymous consumer */
	uint32_t sessions;

	struct memory_tx *tx; /* of a transaction: memory_tx.h */

	/* An exchange; and what is bound to one */
	struct memory_exchange *exchange;
	uint32_t bound; /* bindings that lead to it */
};

struct memory_engine {
	struct engine base;
	pthread_mutex_t lock;
	bool read_only;                 /* fixed */
	struct engine_users users;      /* fixed */
	int64_t next_tx;                /* nothing is due of a transaction before */
	struct memory_object **objects; /* in ascending order of id; the first is the store */
	size_t object_count, object_room;
	uint64_t next_id;
	struct memory_object *defaults[ENGINE_KIND_COUNT];
	struct engine_waiter *wakes; /* to be called by memory_leave(), linked by engine_next */

	/* Queues */
	struct memory_item *items; /* by id */
	struct memory_object
	    *changed; /* queues to be looked at by memory_leave(), linked by next_changed; references */
	uint64_t last_message_id, next_batch;
	int64_t next_silent;          /* no member was silent for too long before */
	int64_t next_wall, next_mono; /* nothing is due before */
	uint64_t grown;               /* turns given to queues that may be too long; 0: there is none */
	bool forwarding;              /* dead letters are to go on through an exchange */
	pthread_t timer;
	pthread_cond_t timer_wake;
	bool timer_runs, timer_stop;
};

/* Where a consumer stands in one partition; stale when epoch is not that of the cursor. */
struct memory_reader {
	uint64_t start, pos, end; /* SNAPSHOT: of what it gives; STREAM: pos only */
	uint32_t epoch;
};

struct memory_consumer {
	struct memory_object *group;  /* a reference; first, as in all consumers: see memory_calls.c */
	struct memory_object *member; /* a reference; NULL: of the group itself */
	uint32_t unit;                /* STREAM for all partitions: its number while they are assigned */
	struct memory_consumer *next;
	enum engine_consume how;
	uint32_t partition;    /* or ENGINE_ANY */
	uint32_t begin;        /* SNAPSHOT: partition it begins with; STREAM: one to look at first */
	uint32_t reader_count; /* partitions there were when it was opened, or as many as there are (STREAM) */
	bool done;             /* ONE: its message was given */
	struct memory_reader *readers;
	struct engine_waiter *waiters; /* armed, linked by engine_next and engine_link */
};

/* ---- memory.c: life, locking, references, owners, settings ---- */

/*
 * Takes the lock for a call on object, does what is due in queues, and checks that it may be called: EINVAL if it is a defaults object or not of kind
 * (ENGINE_KIND_COUNT: any kind), EIDRM if it was removed. Only when it returns 0 is the lock held.
 */
int memory_enter(struct memory_object *object, enum engine_kind kind);
void memory_lock(struct memory_engine *memory);
void memory_lock_quietly(
    struct memory_engine *memory); /* for calls that cannot fail: the reason of the last one stays */
void memory_leave(struct memory_engine *memory);

void memory_unref(struct memory_object *object);
int memory_new_object(struct memory_engine *memory, struct memory_object *parent, enum engine_kind kind,
    const char *name, const struct engine_owner *owner, struct memory_object **ret_object);
int64_t memory_setting_int(const struct memory_object *object, const char *name);
const char *memory_setting(const struct memory_object *object, const char *name);

/* Gives a queue for dead letters the settings it starts with. */
void memory_init_dlq_settings(struct memory_object *dlq);

int memory_get_owner(struct engine_object *object, const char *node, struct engine_owner *ret_owner);
int memory_set_owner(struct engine_object *object, const char *node, const struct engine_owner *owner);
int memory_get_setting(
    struct engine_object *object, const struct engine_setting *setting, char ret_value[ENGINE_VALUE_MAX]);
int memory_set_setting(struct engine_object *object, const struct engine_setting *setting, const char *value);

static inline struct memory_object *memory_of(struct engine_object *object)
{
	return (struct memory_object *)object;
}

static inline struct memory_engine *memory_of_engine(struct engine *engine)
{
	return (struct memory_engine *)engine;
}

/* ---- memory_object.c: the tree of objects ---- */

int memory_create(struct engine *engine, struct engine_object *parent, enum engine_kind kind, const char *name,
    const struct engine_owner *owner, struct engine_object **ret_object);
int memory_lookup(struct engine *engine, struct engine_object *parent, enum engine_kind kind, const char *name,
    struct engine_object **ret_object);
int memory_get(struct engine *engine, uint64_t id, struct engine_object **ret_object);
int memory_remove(struct engine_object *object);
int memory_rename(struct engine_object *object, const char *name);
int memory_list(struct engine *engine, struct engine_object *parent, enum engine_kind kind, uint64_t after,
    bool (*each)(void *ctx, const struct engine_dirent *entry), void *ctx);
int memory_identity(struct engine_object *object, struct engine_identity *ret_identity);
int memory_stat(struct engine_object *object, struct engine_stat *ret_stat);

struct memory_object *memory_find_child(
    struct memory_engine *memory, const struct memory_object *parent, enum engine_kind kind, const char *name);

/* Takes an object out of the engine: from here on every call on it answers EIDRM. */
void memory_detach(struct memory_object *object);

/* Takes a queue out of the engine, with its consumers and its dead letters; it must be empty. */
void memory_detach_queue(struct memory_object *queue);

/* The groups of topic, or the children of a queue, one after the other: the one after previous (NULL: the first), or NULL. */
struct memory_object *memory_next_group(const struct memory_object *topic, const struct memory_object *previous);

/* Makes partitions of topic, and cursors in its groups and open streams, up to count. ENOMEM: nothing changed. */
int memory_grow(struct memory_object *topic, uint32_t count);

/* ---- memory_assign.c ---- */

/* Shares the partitions anew, and wakes who may have got some. */
void memory_rebalance(struct memory_object *group);
bool memory_has_stream(const struct memory_object *group, const struct memory_object *member); /* NULL: its own */

/* ---- memory_member.c ---- */

/* Takes the lock for a call on a group or a member, and notes that the member is not silent. */
int memory_member_enter(
    struct memory_object *object, struct memory_object **ret_group, struct memory_object **ret_member);
void memory_member_join(struct memory_object *member);
void memory_member_leave(struct memory_object *member);
void memory_member_seen(struct memory_object *member);
void memory_member_watch(struct memory_object *member); /* it may have nothing open any more */
void memory_member_sweep(struct memory_engine *memory); /* who is silent for too long leaves */
/* May the member (NULL: the group's own) settle in that partition? EBUSY, ESTALE */
int memory_may_ack(const struct memory_object *group, const struct memory_object *member, uint32_t partition);
int memory_check_own(const struct memory_object *group); /* does the group's own side stand aside? EBUSY */

extern const struct engine_member_ops memory_member_ops;

/* ---- memory_reject.c ---- */

int memory_reject(struct engine_object *member, uint32_t partition, uint64_t offset);
int64_t memory_reject_all(struct engine_object *member, uint32_t partition);
int memory_check_ack(const struct memory_cursor *cursor, uint32_t partition, uint64_t offset); /* memory_cursor.c */
int memory_reject_one(struct memory_object *group, uint32_t partition, uint64_t offset);       /* ENOMEM */
const struct memory_message *memory_message_at(const struct memory_partition *partition, uint64_t offset);

/* ---- memory_partition.c: messages ---- */

static inline uint64_t memory_end(const struct memory_partition *partition)
{
	return partition->earliest + partition->count;
}

/* The partition there is at this number, or -ENOENT with a sentence. */
int memory_check_partition(const struct memory_object *topic, uint32_t partition);

/* Applies retention to all partitions, and moves the cursors of groups that were overtaken. */
void memory_expire(struct memory_object *topic);

/*
 * Makes a message of a payload and its properties (NULL: none), all copied. ts_ms is that of the batch. pos and batch are
 * set when it is appended.
 */
int memory_make_message(const char *payload, uint32_t len, const struct engine_props *props, struct engine_span key,
    const struct engine_batch *batch, struct memory_message *ret_message);

/* Bytes that the spans of props hold together; one more, so that an empty span has an address too. */
size_t memory_text_size(const struct engine_props *props);

/* Copies props; what it points to goes to *headers and *text, which are moved on. */
struct engine_props memory_copy_props(const struct engine_props *props, struct engine_header **headers, char **text);

/* Makes room for count more messages. */
int memory_reserve(struct memory_partition *partition, size_t count);

/* Appends one message, there being room, and takes over its block. All until memory_end_batch() are of one batch. */
void memory_append(struct memory_partition *partition, const struct memory_message *message);
void memory_end_batch(struct memory_partition *partition);
void memory_clear_partition(struct memory_partition *partition);

/* As many messages of one batch as the limits allow, at least one: offset must be one that is there. */
int memory_view(struct memory_object *topic, uint32_t partition, uint64_t offset, uint64_t max_count, size_t max_bytes,
    struct engine_scratch *scratch, struct engine_view *ret_view);

/* The first that came in at or after ts_ms, or the end. */
uint64_t memory_find_time(const struct memory_partition *partition, int64_t ts_ms);

int memory_partition_stat(struct engine_object *topic, uint32_t partition, struct engine_partition_stat *ret_stat);
int memory_partition_read(struct engine_object *topic, uint32_t partition, uint64_t offset, uint32_t max_count,
    struct engine_scratch *scratch, struct engine_view *ret_view);
ssize_t memory_partition_pread(struct engine_object *topic, uint32_t partition, uint64_t pos, void *buf, size_t size);
int memory_partition_find_time(struct engine_object *topic, uint32_t partition, int64_t ts_ms, uint64_t *ret_offset);
int memory_partition_purge(struct engine_object *topic, uint32_t partition, uint64_t before);

/* ---- memory_produce.c ---- */

int memory_check_size(const struct memory_object *object, uint64_t len); /* of a topic or queue. EMSGSIZE */

/* Length of the payload at data, of which left bytes are in the batch. EINVAL: the batch contradicts itself. */
int memory_payload_length(
    const struct engine_batch *batch, uint32_t i, const char *data, size_t left, uint32_t *ret_len);

int memory_producer_open(
    struct engine_object *topic, uint32_t partition, struct engine_span key, struct engine_producer **ret_producer);
int memory_producer_send(struct engine_producer *producer, const struct engine_batch *batch, struct engine_done *done);
int memory_producer_sync(struct engine_producer *producer, struct engine_done *done);
void memory_producer_close(struct engine_producer *producer);

/*
 * A send in two steps: begin checks and copies the batch, end takes it, which cannot fail, or not; sending is freed by it. What
 * begin was refused needs no end.
 */
struct memory_sending;
int memory_topic_begin(
    struct memory_object *topic, const struct engine_batch *batch, bool again, struct memory_sending **ret_sending);
void memory_topic_end(struct memory_sending *sending, bool take);

/* ---- memory_calls.c: of topics, of queues, or of exchanges ---- */

int memory_any_producer_open(
    struct engine_object *object, uint32_t partition, struct engine_span key, struct engine_producer **ret_producer);

int memory_any_send(struct engine_producer *producer, const struct engine_batch *batch, struct engine_done *done);
int memory_any_sync(struct engine_producer *producer, struct engine_done *done);
void memory_any_producer_close(struct engine_producer *producer);
int memory_any_fetch(struct engine_consumer *consumer, uint32_t max_count, size_t max_bytes,
    struct engine_scratch *scratch, struct engine_view *ret_view);
int memory_any_rewind(struct engine_consumer *consumer);
int memory_any_arm(struct engine_consumer *consumer, struct engine_waiter *waiter);
bool memory_any_disarm(struct engine_consumer *consumer, struct engine_waiter *waiter);
void memory_any_consumer_close(struct engine_consumer *consumer);

/* ---- memory_consume.c ---- */

/* A list of armed waiters: adding one, taking one out (false: it is called already), collecting all to be called. */
void memory_arm(struct engine_waiter **waiters, struct engine_waiter *waiter);
bool memory_disarm(struct engine_waiter *waiter);
void memory_wake_all(struct memory_engine *memory, struct engine_waiter **waiters);

/* Collects the waiters of the group's consumers that have something to fetch; all: of every consumer. */
void memory_wake_group(struct memory_object *group);
void memory_wake_group_all(struct memory_object *group);
void memory_wake_topic(struct memory_object *topic);

int memory_consumer_open(
    struct engine_object *group, uint32_t partition, enum engine_consume how, struct engine_consumer **ret_consumer);
int memory_consumer_fetch(struct engine_consumer *consumer, uint32_t max_count, size_t max_bytes,
    struct engine_scratch *scratch, struct engine_view *ret_view);
int memory_consumer_rewind(struct engine_consumer *consumer);
int memory_consumer_arm(struct engine_consumer *consumer, struct engine_waiter *waiter);
bool memory_consumer_disarm(struct engine_consumer *consumer, struct engine_waiter *waiter);
void memory_consumer_close(struct engine_consumer *consumer);

/* ---- memory_cursor.c ---- */

/* Moves every cursor to where a group of this auto.offset.reset begins. */
void memory_reset_cursors(struct memory_object *group);

/*
 * Commits up to, not including, offset, which is at most given. Returns whether anything moved; who sees that it did calls
 * memory_advance_turn() once: the next ONE and SNAPSHOT begin with the next partition, so that none waits behind a busy one.
 */
void memory_advance_turn(struct memory_object *group);
bool memory_commit(struct memory_object *group, uint32_t partition, uint64_t offset);

/* After messages went from the front: no cursor stays before the earliest. is_loss: lost counts what was not given. */
void memory_clamp_cursors(struct memory_object *topic, bool is_loss);

/* The offset a seek leads to. ERANGE: there is none like that in the partition. */
int memory_find_seek(
    const struct memory_object *group, uint32_t p, enum engine_seek how, int64_t value, uint64_t *ret_target);
/* What a seek does. */
void memory_put_cursor(struct memory_object *group, uint32_t partition, uint64_t offset);

int memory_ack_all(struct engine_object *group, uint32_t partition);
int memory_ack(struct engine_object *group, uint32_t partition, uint64_t offset);
int memory_seek(struct engine_object *group, uint32_t partition, enum engine_seek how, int64_t value);
int memory_cursor_stat(struct engine_object *group, uint32_t partition, struct engine_cursor_stat *ret_stat);
int memory_group_sync(struct engine_object *group, struct engine_done *done);

/* ---- memory_dedup.c ---- */

/* Leaves what was seen before out of the batch, as dedup_pass_begin() does; rc of the send goes to the end. */
int memory_dedup_begin(struct memory_object *object, const struct engine_batch *batch, struct dedup_pass *ret_pass);
void memory_dedup_end(struct memory_object *object, struct dedup_pass *pass, int rc);
/* Would a message with these properties be dropped now? */
bool memory_dedup_has(struct memory_object *object, const struct engine_props *props);

/* ---- memory_exchange.c, memory_route.c ---- */

extern const struct engine_exchange_ops memory_exchange_ops;

/* One more counts for this user; who has as many as one may have has ended transactions forgotten. EDQUOT; memory_object.c */
int memory_keep(struct memory_engine *memory, uint32_t uid);
int memory_exchange_init(struct memory_object *exchange);
void memory_exchange_free(struct memory_object *exchange); /* one that is none is allowed */
/* EBUSY: it is bound; ENOTEMPTY: an exchange that has bindings. */
int memory_check_removal(const struct memory_object *object);
/* What alternate.exchange is about to become. ELOOP, ENOENT. */
int memory_check_alternate(struct memory_object *exchange, const char *value);
int memory_check_name(
    struct memory_object *exchange, const char *name); /* that another's alternate.exchange may have: ELOOP */

int memory_route_producer_open(
    struct engine_object *exchange, uint32_t partition, struct engine_span key, struct engine_producer **ret_producer);
int memory_route_producer_send(struct engine_producer *producer, const struct engine_batch *batch);
int memory_route_room(struct engine_object *exchange, uint64_t bytes, const struct engine_props *props);
int memory_route_check(struct memory_object *exchange, const struct engine_batch *batch); /* EHOSTUNREACH, EMSGSIZE */
int memory_route_producer_sync(struct engine_producer *producer);
void memory_route_producer_close(struct engine_producer *producer);
/* ---- memory_keys.c ---- */

bool memory_is_compacted(const struct memory_object *topic);
int memory_check_key(const struct memory_object *topic, const struct memory_message *message); /* EINVAL */
int memory_key_find(struct engine_object *topic, struct engine_span key, struct engine_key *ret_key);
int memory_key_list(struct engine_object *topic, struct engine_span after,
    bool (*each)(void *ctx, const struct engine_key *key), void *ctx);

#endif
