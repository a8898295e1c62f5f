/*
 * engine.h - the contract between the file tree (fs/) and any messaging engine.
 *
 * The tree knows files, frames and FUSE; an engine knows topics, partitions, groups and disks, or a broker at
 * the other end of a wire. All that passes between them is in this header, and fs/ includes no other of engine/. It brings the
 * seams as well, by which tests make the clock, files and steps of both go wrong: clock.h, io.h, failpoint.h.
 *
 * An engine is one struct of functions, `struct engine_ops`. Today there are two: "local" (partition logs and an
 * LMDB catalog in a directory) and "memory" (the same contract in RAM, the reference for tests). engine_open()
 * picks one by the source of the mount: a path is local, "memory:" is memory, and a scheme such as kafka:// or
 * amqp:// is where later ones go.
 *
 * Conventions, for every call:
 *   - the result is 0, a count, or a negative errno; outputs are named ret_* and left untouched on failure;
 *   - every call may come from any thread at any time; an engine does its own locking, and calls back
 *     (engine_done, engine_waiter, engine_notify) with none of its locks held;
 *   - a call returns as soon as memory and the page cache allow, except where its comment says "may sync": that
 *     one may take as long as a disk sync or a round trip to a broker. What must wait for an event is
 *     asynchronous: it takes a struct engine_done or a struct engine_waiter;
 *   - a name is checked by the caller against what the tree allows (fs/name.h); the engine takes any bytes
 *     without NUL or '/', at most ENGINE_NAME_MAX of them, and never makes a path of one;
 *   - with a negative errno that came from the user's input goes a sentence: engine_reason().
 *
 * Words are those of ARCHITECTURE.md: message, record, batch, offset (a message's number in its partition, never
 * bytes), pos (bytes), partition, group, cursor.
 */
#ifndef MQFS_ENGINE_H
#define MQFS_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/clock.h"
#include "engine/engine_base.h"
#include "engine/failpoint.h"
#include "engine/io.h"

#define ENGINE_NAME_MAX 200u            /* bytes in the name of an object */
#define ENGINE_KEY_MAX 255u             /* bytes in a key or a routing key */
#define ENGINE_PARTITIONS_MAX 1024u     /* of one topic; ten times what we design for */
#define ENGINE_MESSAGE_MAX (512u << 20) /* upper bound of the setting max.message.bytes, as in RabbitMQ */
#define ENGINE_ANY UINT32_MAX           /* "any partition", "all partitions" */
#define ENGINE_OFFSET_NONE UINT64_MAX
#define ENGINE_PENDING 1 /* not done yet: the engine_done will be called */

struct engine;
struct engine_object;
struct engine_producer;
struct engine_consumer;
struct engine_death;
struct engine_delivery;
struct engine_queue_ops;
struct engine_member_ops;
struct engine_exchange_ops;
struct engine_tx_ops;
struct engine_session;
struct engine_stage_ops;

/* ------------------------------------------------------------------------------------------- messages */

struct engine_header {
	struct engine_span name, value;
};

/* Who produced, as the kernel attests: of the process that opened the channel. */
struct engine_cred {
	uint32_t uid, gid, pid;
};

/* What travels with one message besides its payload. ENGINE_PROPS_INIT is a message with nothing set. */
struct engine_props {
	struct engine_span key;
	struct engine_span id; /* for idempotent producing */
	struct engine_span routing_key;
	const struct engine_header *headers;
	uint32_t header_count;
	uint32_t partition;                /* producing only: ENGINE_ANY lets key or turn decide */
	int64_t ts_ms;                     /* Unix time; -1: that of the batch */
	int64_t ttl_ms;                    /* -1: none */
	int64_t delay_ms;                  /* -1: none */
	int32_t priority;                  /* -1: none */
	const struct engine_death *deaths; /* of a dead letter, engine_queue.h; reading only */
	uint32_t death_count;
	uint64_t mark;  /* the engine's own; 0 in what users produce */
	bool tombstone; /* its payload is null, and stored as an empty one: the key has no value any more */
};
#define ENGINE_PROPS_INIT                                                                                              \
	((struct engine_props){ .partition = ENGINE_ANY, .ts_ms = -1, .ttl_ms = -1, .delay_ms = -1, .priority = -1 })

/*
 * A run of messages in the order they were produced. data holds the payloads, each followed by exactly one '\n',
 * which is not part of the payload: the same bytes a segment holds and `log` shows.
 */
struct engine_batch {
	const char *data;
	size_t len;                       /* sum of (payload length + 1) */
	uint32_t count;                   /* at least 1 */
	const uint32_t *lengths;          /* count payload lengths; to produce, NULL says: no payload holds a
	                                            '\n', so the newlines are the delimiters */
	const struct engine_props *props; /* count entries, or NULL: no message has any */
	struct engine_cred cred;
	int64_t ts_ms; /* Unix time; to produce, -1 means now */
};

/*
 * What a read gives: consecutive messages of one partition, of one stored batch. lengths is never NULL, ts_ms of a
 * batch and of its props are resolved (props[i].ts_ms is never -1). Everything points into the struct engine_scratch
 * of the call and lasts until the next call with that scratch.
 */
struct engine_view {
	uint32_t partition;
	uint64_t offset; /* of the first message; of a queue's message: 0 */
	struct engine_batch batch;
	const struct engine_delivery *deliveries; /* of a queue: batch.count entries, engine_queue.h; else NULL */
};

/*
 * Memory for reads, one per calling thread or open file. Starts as {0}; the engine grows it as needed (private to
 * it what for); engine_scratch_release() frees it and makes it {0} again.
 *
 * A caller that passes payloads on as they are may lend a place for one call of consumer_fetch, of a topic (lent_size at most its max_bytes),
 * or of partition_read: an engine that has to copy them from somewhere may copy them there, if all of what it gives fits. It has if
 * batch.data is the place: then batch.lengths may be NULL (no payload has a newline, and each ends in one) and there are no props.
 */
struct engine_scratch {
	void *mem;
	size_t size;
	char *lent; /* the caller's; NULL: none */
	size_t lent_size;
};
void engine_scratch_release(struct engine_scratch *scratch);

/* --------------------------------------------------------------------------- waiting and being told */

/* Completion of one asynchronous call: fn is called exactly once, from any thread, result 0 or negative errno. */
struct engine_done {
	void (*fn)(struct engine_done *done, int result);
};

/*
 * One-shot "there may be something to fetch now". wake is called at most once per arming, from any thread, often
 * from that of the producer; it may call the engine. The caller owns the struct and keeps it until wake was called or
 * consumer_disarm() returned true. The private fields are the engine's while it is armed.
 */
struct engine_waiter {
	void (*wake)(struct engine_waiter *waiter);
	struct engine_waiter *engine_next, **engine_link;
	void *engine_private;
};

/*
 * What the engine reports of itself, beyond answers to calls: recovery, retention, damage, a failed disk.
 * err is 0 for an event (status/events) or a positive errno for an error (status/errors as well).
 */
struct engine_notify {
	void (*fn)(void *ctx, int err, const char *text);
	void *ctx;
};

/*
 * The sentence that belongs to the last negative errno an engine call returned in this thread, or "" if the errno
 * says all there is to say. Valid until the thread's next engine call that can fail: ref, put and the closing of producers
 * and consumers leave it. Engines set it with engine_explain(), which formats it and returns err, so that
 * `return engine_explain(-ERANGE, "...", ...)` reads well.
 */
const char *engine_reason(void);
int engine_explain(int err, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Engines call it first in every call that can fail, so that an errno without a sentence never gets that of an older one. */
void engine_reason_clear(void);
const char *engine_kind_word(enum engine_kind kind); /* "topic", for a sentence */

/* ------------------------------------------------------------------------------------------- objects */

/*
 * Objects form a small tree: the store has topics, queues and exchanges, a topic has groups, a group has members, a queue has
 * consumers; queues and groups have dead letters. Ids are never reused, not even over restarts, and stay with the object when
 * it is renamed, so a file system can make inode numbers of them.
 */
#define ENGINE_ROOT_ID 1u

struct engine_owner {
	uint32_t uid, gid, mode; /* mode: permission bits only, 07777 */
};

/* May an object of this kind be below one of that? */
bool engine_may_hold(enum engine_kind parent, enum engine_kind kind);

/* Fixed facts of an object. name changes by rename: copied, NUL-terminated. */
struct engine_identity {
	uint64_t id, parent_id;
	enum engine_kind kind;
	char name[ENGINE_NAME_MAX + 1];
};

/* Totals count since the store was opened; the rest is what is there now. */
struct engine_stat {
	struct engine_owner owner;  /* of the object's directory */
	struct engine_owner birth;  /* as it was created: files in it take their first owner and mode from it */
	int64_t ctime_ms, mtime_ms; /* created; last change (a topic: last produced or changed) */
	uint64_t messages;          /* store, topic: retained; group: lag */
	uint64_t bytes;             /* store, topic: of the retained messages with their delimiters */
	uint32_t partitions;        /* topic, and the topic of a group; member: how many it has */
	uint64_t published_total, published_bytes_total;
	uint64_t delivered_total, acked_total; /* group */
	uint64_t lost;                         /* group: messages retention took before the group had them */
	uint64_t deduplicated;                 /* topic, queue: messages dropped because their id was seen */
	uint32_t readers;                      /* consumers open now (group), producers not counted */
	uint32_t producers;                    /* topic */
};

struct engine_partition_stat {
	uint64_t earliest;           /* offset of the first retained message; == end when there is none */
	uint64_t end;                /* offset the next message will get */
	uint64_t start_pos, end_pos; /* byte positions in the partition's life of these two: end_pos - start_pos
	                                            bytes are retained; neither ever goes back, start_pos moves by retention
	                                            and purge only */
	int64_t mtime_ms;            /* of the last message; creation of the partition if there was none */
	uint64_t synced;             /* all below this offset is on disk */
	/*
	 * Compaction takes messages out between others: offsets stay, and gaps are between them; positions below
	 * shifted_pos shift up, start_pos with them. Who noted a start_pos below shifted_start must not read below
	 * shifted_pos any more: other bytes are there.
	 */
	bool has_gaps;
	uint64_t shifted_start, shifted_pos;
};

struct engine_cursor_stat {     /* of a group in one partition */
	uint64_t committed;     /* the stored offset: next to be given */
	uint64_t given;         /* one past the last message given and not taken back; >= committed */
	uint64_t earliest, end; /* of the partition, in the same moment */
	uint64_t lost;
};

/* A key that has a value, and the message that is it. */
struct engine_key {
	struct engine_span key; /* of a list: lasts as long as the call of each; of a find: the caller's */
	uint32_t partition;
	uint64_t offset;
	int64_t ts_ms; /* of its batch */
};

/* --------------------------------------------------------------------------------------------- settings */

enum engine_setting_type { ENGINE_INT, ENGINE_BOOL, ENGINE_CHOICE, ENGINE_TEXT, ENGINE_KEY };

/*
 * One row of the settings table (engine/settings.c), from which reading, checking, listing and the manual come.
 * A value travels as text without newline, in one canonical form: a decimal, true or false, or the choice.
 */
struct engine_setting {
	const char *name;
	enum engine_kind kind; /* of the objects that have it */
	enum engine_setting_type type;
	int64_t min, max; /* ENGINE_INT: inclusive range */
	int64_t none;     /* ENGINE_INT: -1 or 0 if that value, though below min, means "no limit"; else 1 */
	/* ENGINE_KEY: a routing key, or none. */
	const char *const *choices; /* ends with NULL. ENGINE_CHOICE: the words; ENGINE_TEXT: a word that ends
	                                            in '/' takes a name after it */
	const char *initial;        /* the built-in default; "": see engine_setting_inherits() */
	const char *unit;           /* "ms", "bytes", "messages", or "" */
	const char *text;           /* one sentence for the manual */
};
#define ENGINE_VALUE_MAX 256u /* bytes of a value as text, with its NUL */

/* The whole table; ends with a row whose name is NULL. Names are unique within a kind. */
extern const struct engine_setting engine_settings[];
const struct engine_setting *engine_setting_find(enum engine_kind kind, const char *name);
/*
 * Whether an object without a value of its own has that of the setting with this name of its parent (a consumer: of its
 * queue). Setting it to "" takes the own value away; get_setting() tells what is in force ("" of a defaults object).
 */
static inline bool engine_setting_inherits(const struct engine_setting *setting)
{
	return setting->initial[0] == '\0';
}
/* Checks text (blanks at both ends allowed) and writes the canonical form. EINVAL: not of the type; ERANGE. */
int engine_setting_parse(const struct engine_setting *setting, const char *text, char ret_value[ENGINE_VALUE_MAX]);

/* ----------------------------------------------------------------------------------------- the engine */

struct engine_dirent {
	uint64_t id;
	enum engine_kind kind;
	const char *name;
};

struct engine_ops {
	const char *name; /* "local", "memory" */

	/* ---- life ---- */

	/*
	 * Stops background work, completes or fails every engine_done with -ESHUTDOWN, makes everything durable and frees the
	 * engine. The caller has closed its producers and consumers and put all its objects. May sync. NULL is allowed.
	 * Returns the first error met while making things durable; the engine is gone all the same.
	 */
	int (*close)(struct engine *engine);

	/*
	 * Writes "name value" lines for status/health; the first is "state ok", "state degraded" or "state readonly", and a
	 * line "reason ..." follows for each thing wrong. Truncated to size, always NUL-terminated. Returns its length.
	 */
	size_t (*health)(struct engine *engine, char *buf, size_t size);

	/* For df: bytes there are and bytes left on what the store is on. Engines that cannot tell answer 0 and 0. */
	int (*space)(struct engine *engine, uint64_t *ret_total, uint64_t *ret_free);

	/* For a message that is still being written: ENOSPC if one of this many bytes would find the store full. Promises nothing. */
	int (*room)(struct engine *engine, uint64_t bytes);

	/* The process has no descriptor left (EMFILE): gives some back that can be opened again. False: there are none. May sync. */
	bool (*give_files)(struct engine *engine);

	/* ---- objects ---- */

	/*
	 * Creates an object; durable when it returns (may sync). New objects take the settings of defaults(kind). A group's
	 * cursors start at the earliest message, or at the end if its auto.offset.reset is latest.
	 * EEXIST, EIDRM (parent gone), ENOSPC, EROFS, EIO. ret_object is a reference for the caller to put.
	 */
	int (*create)(struct engine *engine, struct engine_object *parent, enum engine_kind kind, const char *name,
	    const struct engine_owner *owner, struct engine_object **ret_object);

	/* By name under parent. ENOENT. */
	int (*lookup)(struct engine *engine, struct engine_object *parent, enum engine_kind kind, const char *name,
	    struct engine_object **ret_object);

	/* By id. ENOENT if there is none (any more). */
	int (*get)(struct engine *engine, uint64_t id, struct engine_object **ret_object);

	/* References: ref adds one and returns object, put drops one; put(NULL) is allowed. */
	struct engine_object *(*ref)(struct engine_object *object);
	void (*put)(struct engine_object *object);

	/*
	 * The object whose settings new objects of this kind start with. It has settings and nothing else: identity, stat
	 * and all other calls on it answer EINVAL. Owned by the engine: not to be put.
	 */
	struct engine_object *(*defaults)(struct engine *engine, enum engine_kind kind);

	/*
	 * Removes: durable when it returns (may sync). ENOTEMPTY if a topic, queue or group holds messages (what
	 * is below goes with it). Open
	 * producers and consumers get EIDRM from then on, waiters are woken.
	 */
	int (*remove)(struct engine_object *object);

	/* New name under the same parent, durable on return (may sync). EEXIST if it is taken; 0 if it is its own. */
	int (*rename)(struct engine_object *object, const char *name);

	/*
	 * Lists the children of one kind in ascending order of id, those with an id above `after` (0: from the start). each
	 * is called with locks held and must not call the engine; it returns false to stop.
	 */
	int (*list)(struct engine *engine, struct engine_object *parent, enum engine_kind kind, uint64_t after,
	    bool (*each)(void *ctx, const struct engine_dirent *entry), void *ctx);

	/* EIDRM once it is removed. */
	int (*identity)(struct engine_object *object, struct engine_identity *ret_identity);
	int (*stat)(struct engine_object *object, struct engine_stat *ret_stat);

	/*
	 * Owner and mode of a file of the object, kept over restarts. node is a name the tree chooses ("" is the object's
	 * own directory, "in", "0/in", "ack"); ENODATA from get_owner if none was ever set (never for ""). May sync.
	 */
	int (*get_owner)(struct engine_object *object, const char *node, struct engine_owner *ret_owner);
	int (*set_owner)(struct engine_object *object, const char *node, const struct engine_owner *owner);

	/* value as canonical text; in force and durable on return (may sync). EINVAL, ERANGE; EPERM: partitions cannot shrink. */
	int (*get_setting)(
	    struct engine_object *object, const struct engine_setting *setting, char ret_value[ENGINE_VALUE_MAX]);
	int (*set_setting)(struct engine_object *object, const struct engine_setting *setting, const char *value);

	/* ---- partitions of a topic ---- */

	/* ENOENT: no such partition. EIDRM. */
	int (*partition_stat)(struct engine_object *topic, uint32_t partition, struct engine_partition_stat *ret_stat);

	/*
	 * The messages from offset on (in a gap that compaction made: from the first after it on), as many as one stored
	 * batch holds and at most max_count; at least one. ENODATA: offset
	 * is the end or beyond; ESTALE: below the earliest. EIO: the batch is damaged (reported by notify once); then
	 * *ret_view is set all the same, with offset and count of what is lost and data NULL, so that a reader can go past.
	 */
	int (*partition_read)(struct engine_object *topic, uint32_t partition, uint64_t offset, uint32_t max_count,
	    struct engine_scratch *scratch, struct engine_view *ret_view);

	/*
	 * Bytes of the log as `log` shows it, by byte position in the partition's life. Returns the count read, 0 at
	 * end_pos; ESTALE: pos is below start_pos. A read never goes past end_pos as it was during the call.
	 */
	ssize_t (*partition_pread)(
	    struct engine_object *topic, uint32_t partition, uint64_t pos, void *buf, size_t size);

	/* First offset whose message came in at or after ts_ms, whatever time it was sent with; the end if there is none. */
	int (*partition_find_time)(
	    struct engine_object *topic, uint32_t partition, int64_t ts_ms, uint64_t *ret_offset);

	/*
	 * Deletes all messages below offset; `before` at or below the earliest does nothing, above the end is ERANGE.
	 * ENGINE_OFFSET_NONE deletes all there are. partition may be ENGINE_ANY with ENGINE_OFFSET_NONE. Durable on return
	 * (may sync). Offsets go on where they were.
	 */
	int (*partition_purge)(struct engine_object *topic, uint32_t partition, uint64_t before);

	/* ---- keys of a compacted topic (cleanup.policy is compact, or compact,delete) ---- */

	/*
	 * Where the value of a key is: of the last message in each partition that with the latest time, or, of one time, in
	 * the highest partition. ENOENT: it has none, that is a tombstone, or the topic is not compacted. May take long
	 * when much was produced since the last look at any key.
	 */
	int (*key_find)(struct engine_object *topic, struct engine_span key, struct engine_key *ret_key);

	/*
	 * The keys that have a value, in the order of their bytes, those above `after` (ptr NULL: all). each is called with locks
	 * held and must not call the engine; it returns false to stop.
	 */
	int (*key_list)(struct engine_object *topic, struct engine_span after,
	    bool (*each)(void *ctx, const struct engine_key *key), void *ctx);

	/* ---- producing ---- */

	/*
	 * A producer for one open channel. partition fixes the partition (ENGINE_ANY: key or turn decide), key (copied; ptr
	 * may be NULL) is the key of every message that brings none. ENOENT: no such partition. EIDRM.
	 */
	int (*producer_open)(struct engine_object *topic, uint32_t partition, struct engine_span key,
	    struct engine_producer **ret_producer);

	/*
	 * Takes the whole batch or none of it. When it returns 0 (or done says so) the messages have their offsets, readers
	 * see them, and they survive the death of the daemon. Messages with a key go to the partition murmur2(key) says, those
	 * without are dealt to the partitions a batch at a time: a new turn begins when the running one holds batch.size bytes
	 * or is linger.ms old, at producer_sync and at close. Nothing of batch is kept after the return, pending or not.
	 * A message whose id was seen within dedup.window.ms of the topic or queue is accepted and dropped, over restarts and
	 * crashes too; an id is seen when its message is taken, and not when that fails.
	 * EINVAL: a message without a key in a compacted topic; a tombstone without a key, or with a payload.
	 * EMSGSIZE (over max.message.bytes), EDQUOT (there are more ids to remember than memory for them), ERANGE (props name a partition there is not), ENOSPC, EROFS, EIO, EIDRM.
	 */
	int (*producer_send)(
	    struct engine_producer *producer, const struct engine_batch *batch, struct engine_done *done);

	/*
	 * Publisher confirm: completes when all messages taken so far from any producer of this topic (of the partition, if
	 * the producer has one) are on disk. Callers that wait at the same time share one sync. 0: they are: nothing was to be
	 * waited for, or the caller did the sync itself (may sync), and completed those of others: it holds no lock they want.
	 * A failed sync is final: EIO now, and the partition takes no more messages (EROFS): opening a producer for
	 * it, or for a topic none of whose partitions takes any, is EIO.
	 */
	int (*producer_sync)(struct engine_producer *producer, struct engine_done *done);

	void (*producer_close)(struct engine_producer *producer); /* NULL allowed */

	/* ---- consuming ---- */

	/*
	 * A consumer of a group, for one open file; partition ENGINE_ANY: all of them. ONE and SNAPSHOT start at the stored
	 * offset of each partition, without moving it: the same again until something is committed. Several STREAMs of one
	 * group share the partitions out as members do (engine_member.h), anew when one comes or goes; who gets a partition
	 * starts at its stored offset. EBUSY: ONE or SNAPSHOT while a STREAM is open. EIDRM, ENOENT (partition).
	 */
	int (*consumer_open)(struct engine_object *group, uint32_t partition, enum engine_consume how,
	    struct engine_consumer **ret_consumer);

	/*
	 * The next messages, at most max_count (>= 1), and at most max_bytes of data (with delimiters), but at least one
	 * message even if that is larger. They count as given from here on; under auto.commit they are committed.
	 * Returns 1 with *ret_view set; 0: nothing now, and for ONE and SNAPSHOT after their last message nothing ever.
	 * Damaged messages are passed over and reported. EIDRM.
	 */
	int (*consumer_fetch)(struct engine_consumer *consumer, uint32_t max_count, size_t max_bytes,
	    struct engine_scratch *scratch, struct engine_view *ret_view);

	/*
	 * SNAPSHOT only: starts over at its first message, so that a reader may seek back. What was given stays given.
	 */
	int (*consumer_rewind)(struct engine_consumer *consumer);

	/*
	 * Arms waiter: woken once when consumer_fetch may give something or the group is gone. Returns 0 if armed, 1 if there
	 * is something already (not armed). EIDRM. One waiter may be armed per waiter struct; many per consumer.
	 */
	int (*consumer_arm)(struct engine_consumer *consumer, struct engine_waiter *waiter);

	/* True: disarmed, wake has not been and will not be called. False: wake was called or is about to be. */
	bool (*consumer_disarm)(struct engine_consumer *consumer, struct engine_waiter *waiter);

	void (*consumer_close)(struct engine_consumer *consumer); /* NULL allowed; no waiter may be armed */

	/* ---- cursors of a group ---- */

	/*
	 * Commits all that was given and not yet committed, in one partition or all (ENGINE_ANY); nothing given is no error.
	 * Survives the daemon's death when it returns. EIDRM.
	 */
	int (*ack_all)(struct engine_object *group, uint32_t partition);

	/*
	 * Commits the message at offset and all before it in its partition. EALREADY: below the stored offset; ERANGE: never
	 * given; ENOENT: no such partition; EIDRM.
	 */
	int (*ack)(struct engine_object *group, uint32_t partition, uint64_t offset);

	/*
	 * Moves the stored offset of one partition or, except for OFFSET and RELATIVE, of all. What was given and not
	 * committed is taken back. ERANGE: not within earliest..end. ENOENT (partition), EIDRM.
	 */
	int (*seek)(struct engine_object *group, uint32_t partition, enum engine_seek how, int64_t value);

	int (*cursor_stat)(struct engine_object *group, uint32_t partition, struct engine_cursor_stat *ret_stat);

	/* Completes when all acks, seeks and rejects so far are on disk; of a group or a member. As producer_sync. */
	int (*group_sync)(struct engine_object *group, struct engine_done *done);

	const struct engine_queue_ops *queue;       /* engine_queue.h; NULL: there are no queues */
	const struct engine_member_ops *member;     /* engine_member.h; NULL: groups have no named members */
	const struct engine_exchange_ops *exchange; /* engine_exchange.h; NULL: there are no exchanges */
	const struct engine_tx_ops *tx;             /* engine_tx.h */
	const struct engine_stage_ops *stage;       /* engine_stage.h; NULL: there are no staging files */
};

/* Every engine's struct begins with this one, every object's with the other: so calls find their way. */
struct engine {
	const struct engine_ops *ops;
};
struct engine_object {
	struct engine *engine;
};

/*
 * What one user may hold of an engine is counted, and refused, by who opened it: the transactions that are open, and the bytes
 * staged in them, both of who made them; messages of queues that are leased, of who opened the consumer or claimed them; objects
 * that users can name, and patterns and bindings of exchanges, of whose the object or the exchange was when it was made or read at
 * the start, until they are removed: transactions that have ended are removed before their time, the oldest first, where that lets
 * their user make something. Called with locks held; must not call the engine. enter NULL, lease NULL, keep NULL: nobody counts.
 */
enum engine_keep {
	ENGINE_KEEP_IF_ROOM, /* EDQUOT is no refusal yet: the engine may make room */
	ENGINE_KEEP_ANEW,
	ENGINE_KEEP_THERE, /* it was there before */
};

struct engine_users {
	void *ctx;
	int (*enter)(void *ctx, uint32_t uid, void **ret_user); /* one is made. EDQUOT, ENOMEM */
	/* What it holds, *charged before, is to be `bytes`. EDQUOT, with *charged as it was; never for less than before. */
	int (*charge)(void *user, uint64_t *charged, uint64_t bytes);
	void (*leave)(void *user); /* it has ended, and holds nothing */
	/* count (>= 1) messages are about to be leased: how many of them may be, at least 1. EDQUOT, ENOMEM */
	int64_t (*lease)(void *ctx, uint32_t uid, uint32_t count);
	void (*unlease)(void *ctx, uint32_t uid, uint32_t count); /* so many leases are over */
	/* One more object. EDQUOT, unless it is there already; ENOMEM */
	int (*keep)(void *ctx, uint32_t uid, enum engine_keep how);
	void (*unkeep)(void *ctx, uint32_t uid); /* it is gone */
	/* Has the user no limits? NULL: nobody has any. Of what the engine shares out itself: ids that are remembered */
	bool (*unlimited)(void *ctx, uint32_t uid);
};

struct engine_options {
	bool create; /* make the store if there is none */
	bool read_only;
	bool remake_logs; /* for a repair: what has lost its log gets an empty one, if it is known where that ended */
	struct engine_owner root_owner; /* of the store's top, when it is made */
	struct engine_notify notify;    /* fn may be NULL */
	struct engine_users users;
};

/*
 * Opens the engine that source names, recovers what a crash left, and returns when it is ready (may sync, may take as
 * long as recovery does). EBUSY: another daemon has the store, and engine_reason() names its pid. ENOENT: no store and
 * create is false. EPROTONOSUPPORT: no engine for this scheme. EINVAL, EIO, ENOTSUP (a remote file system), EUCLEAN (not
 * a store, or of a newer version): engine_reason() says what.
 */
int engine_open(const char *source, const struct engine_options *options, struct engine **ret_engine);

#include "engine/engine_exchange.h"
#include "engine/engine_member.h"
#include "engine/engine_queue.h"
#include "engine/engine_stage.h"
#include "engine/engine_tx.h"

#endif
