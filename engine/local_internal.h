/*
 * local_internal - the objects of the embedded engine, the locks that guard them, and what its files ask of each other.
 *
 * Objects. A store has topics, a topic has partitions and groups, a group has one cursor per partition. Objects that
 * users can name are struct object: counted references, one of them the registry's until the object is removed. A
 * partition lives and dies with its topic. Its log is opened at first use and stays open until then, without
 * descriptors while idle.
 *
 * Locks, in the order in which they are taken (a thread that holds one takes only those below it):
 *
 *   send_lock         who sends messages with ids to an object, of several by rising id: local_dedup.c
 *   object.change     what is made, renamed, removed or grown below an object; parent first. Held over disk work.
 *   local.checkpoint_lock  one checkpoint at a time. Held over disk work.
 *   topic.keys.lock   the index of a compacted topic's keys; held over disk work
 *   stage.lock        one staging file; held while messages are taken out of it
 *   partition.lock    appending to a partition
 *   group.lock        cursors, streams and who owns what. Held over an append to the journal, by a reject over its sync,
 *                     never over a read of a log. Logs are opened before it is taken: see topic_open_logs().
 *   producer.lock     the turn of a producer; taken alone
 *   local.registry    (read-write) ids, names, owners. Never held over disk work.
 *   reserve.lock      (read-write) read while messages are written: the room of the reserve is not given back then
 *   stages.lock, wait_list.lock, flusher.lock, cleaner.lock, timers.lock, warm.lock, fault_lock, together.lock: leaves, held for a few instructions
 *
 * Callbacks to the user of the engine (done, wake, notify) are made with none of them held; list() is the exception
 * that its contract names.
 *
 * A build with -DMQFS_DEBUG, as those with a sanitizer are, recomputes counters and checks structures wherever a lock is
 * taken for a change.
 */
#ifndef MQFS_LOCAL_INTERNAL_H
#define MQFS_LOCAL_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <uthash.h>

#include "engine/catalog.h"
#include "engine/engine.h"
#include "engine/journal.h"
#include "engine/local_cleaner.h"
#include "engine/local_dedup.h"
#include "engine/local_flush.h"
#include "engine/local_keys.h"
#include "engine/local_ops.h"
#include "engine/local_reserve.h"
#include "engine/local_timer.h"
#include "engine/local_wait.h"
#include "engine/plog.h"
#include "engine/store.h"

#define LOCAL_PARTITION_BLOCKS 11      /* 1 + 2 + 4 + ... + 1024 >= ENGINE_PARTITIONS_MAX */
#define LOCAL_JOURNAL_BYTES (1u << 20) /* replayed in milliseconds; more than that is brought into the catalog */
#define LOCAL_JOURNAL_MAX (16u << 20)  /* at once, if there is this much; else LOCAL_CHECKPOINT_MIN_MS after the last */
#define LOCAL_CHECKPOINT_MIN_MS 1000
#define LOCAL_CHECKPOINT_MS 30000   /* the same, by age */
#define LOCAL_SETTLE_TOGETHER 64u   /* logs to sync, of which a checkpoint syncs the whole file system instead */
#define LOCAL_IDLE_MS 10000         /* descriptors of a log not used for one to two of these are closed */
#define LOCAL_RETAIN_MAX_MS 3600000 /* retention looks again after an hour at most: the wall clock may be set */
#define LOCAL_SWEEP_OBJECTS 64u     /* topics looked at per step of the sweep after the start */
#define LOCAL_SWEEP_MS 1000
#define LOCAL_DEDUP_MS 60000 /* ids that are over give back their memory as often */
#define LOCAL_NO_LOG 0u      /* id of a log whose row in the catalog is lost; ids begin at 1 */
#define LOCAL_ENDED_LISTS 64u
#define LOCAL_FAULTS_MAX 32u /* lines health shows; a broken disk would otherwise fill memory with them */

struct local;
struct object;
struct topic;
struct group;
struct consumer;
struct member;

/* ------------------------------------------------------------------------------------------ objects */

/* Objects in ascending order of id; registry lock. */
struct object_list {
	struct object **items;
	size_t count, room;
};

/* Names are found by parent, kind and name at once, so this is laid out without holes. */
struct object_key {
	uint64_t parent_id;
	uint32_t kind;
	char name[ENGINE_NAME_MAX + 1];
};

struct object {
	struct engine_object base; /* first: engine.h says so */
	_Atomic uint32_t refs;
	_Atomic bool removed;   /* set once, under the parent's change */
	_Atomic uint32_t bound; /* bindings that lead to it; written under the root's change */
	bool is_defaults;       /* never changes */
	bool kept;              /* counted for `keeper`, see object_keep(); set before it is entered */
	uint32_t keeper;        /* the same */
	enum engine_kind kind;  /* never changes */
	uint64_t id;            /* never changes; 0 for defaults */
	struct object *parent;  /* never changes; a reference; NULL for the store */
	pthread_mutex_t change;
	struct object_key key;            /* registry */
	UT_hash_handle hh;                /* in local.names, by key; registry */
	struct object_list children;      /* of all kinds; registry */
	struct engine_owner owner, birth; /* registry */
	int64_t ctime_ms, mtime_ms;       /* registry */
	_Atomic int64_t *values;          /* of the kind's settings, in the order of the table; written under change */
	_Atomic uint32_t
	    staged; /* of a topic or queue: staging files that may hold messages for it; written under stages.lock */
	struct stage *stages, *last_stage; /* these files, in the order of opening; stages.lock */
};

static inline struct object *object_of(struct engine_object *base)
{
	return (struct object *)base;
}

static inline struct local *local_of(const struct object *object)
{
	return (struct local *)object->base.engine;
}

/* -------------------------------------------------------------------------------- topics, partitions */

/* A log that may have descriptors open: see local_warm.c. */
struct warm {
	struct sync_point *sync;    /* never changes: what is not synced cannot be closed */
	struct object *object;      /* whose it is; never changes */
	struct plog *_Atomic *plog; /* never changes */
	_Atomic bool used;          /* since it was last looked at */
	_Atomic bool warm;          /* it is in the list; written under warm.lock */
	size_t place;               /* where in the list; warm.lock */
};

struct partition {
	struct topic *topic; /* never changes */
	uint32_t index;      /* never changes */
	uint64_t log_id;     /* never changes */
	pthread_mutex_t lock;
	pthread_cond_t changed;      /* opening, frozen */
	struct plog *_Atomic plog;   /* NULL until first used; set once, under lock */
	bool opening;                /* by one thread, for which the others wait; lock */
	bool frozen;                 /* a removal looks whether the topic is empty: appends wait; lock */
	bool dead;                   /* the topic is gone: EIDRM; lock */
	_Atomic bool open_failed;    /* and that was reported; written under lock */
	uint64_t unsynced_messages;  /* appended since the last sync began; lock */
	uint64_t retain_bytes;       /* appended since retention last looked; lock */
	int64_t unsynced_since_ms;   /* clock_mono_ms of the first of them; lock */
	bool flush_asked;            /* by flush.messages, not begun yet; lock */
	bool retain_set;             /* the timer of retention is set; lock */
	_Atomic uint64_t staged_pos; /* in the journal: what says which messages came out of staging files */
	uint64_t published_total, published_bytes_total; /* lock */
	int64_t produced_ms;                             /* wall clock of the last append, 0: none yet; lock */
	_Atomic uint64_t purged;           /* what is below was purged: a group that had not got it has lost nothing */
	_Atomic bool failed;               /* its disk did, and that was reported */
	_Atomic bool retain_failed;        /* reported */
	_Atomic bool marked;               /* it has messages of a commit (local_commit.h) that may not be on disk */
	_Atomic int64_t tombstones_due_ms; /* Unix time when one is to be compacted away; INT64_MAX: none is known */
	struct sync_point sync;
	struct timer flush_timer, retain_timer;
	struct wait_list waiters; /* of consumers of this partition alone */
	struct warm warm;
};

struct topic {
	struct object object;        /* first */
	_Atomic uint32_t partitions; /* grows under object.change, once the partition is in its block */
	_Atomic uint32_t opened;     /* partitions whose log is open */
	_Atomic uint32_t turn;       /* next partition that unkeyed messages get */
	_Atomic uint32_t producers;
	_Atomic bool marked;        /* a partition is, see there */
	_Atomic int64_t changed_ms; /* wall clock of the last purge or retention; 0: none */
	struct partition
	    *blocks[LOCAL_PARTITION_BLOCKS]; /* block b has 1 << b partitions; never moved, so read without lock */
	struct wait_list waiters;            /* of consumers of all partitions */
	struct local_dedup dedup;
	struct topic_keys keys;
	bool clean_queued;         /* cleaner.lock */
	struct topic *clean_next;  /* cleaner.lock */
	_Atomic bool clean_failed; /* reported */
};

/* Partitions below topic->partitions only. */
static inline struct partition *topic_partition(const struct topic *topic, uint32_t index)
{
	unsigned int block = 31u - (unsigned int)__builtin_clz(index + 1);

	return &topic->blocks[block][index + 1 - (1u << block)];
}

static inline struct topic *topic_of_object(struct object *object)
{
	return (struct topic *)object;
}

/* ---------------------------------------------------------------------------------- groups, consumers */

struct cursor {
	uint64_t committed, given, lost;
	uint64_t position;      /* STREAM that owns it: next to give; committed <= position <= given */
	struct member *member;  /* the named one that has it, or NULL */
	struct consumer *owner; /* the STREAM that has it, or NULL */
	uint32_t epoch;         /* rises when what was given is taken back: who read before no longer moves given */
	bool dirty;             /* not in the catalog yet */
};

struct group {
	struct object object; /* first; its parent is the topic */
	pthread_mutex_t lock; /* for all that follows */
	struct cursor *cursors;
	uint32_t cursor_count;    /* brought up to the topic's partitions by group_lock() */
	uint32_t dirty_count;     /* cursors that are dirty */
	bool touched;             /* something was given, committed or sought: auto.offset.reset is over */
	uint32_t readers;         /* consumers open */
	uint32_t turn;            /* partition at which ONE and SNAPSHOT begin */
	struct consumer *streams; /* STREAMs in the order in which they were opened */
	struct member *members;   /* with names, in the order of joining */
	uint64_t delivered_total, acked_total;
};

static inline struct group *group_of_object(struct object *object)
{
	return (struct group *)object;
}

static inline struct topic *group_topic(const struct group *group)
{
	return topic_of_object(group->object.parent);
}

/* What is left of a SNAPSHOT in one partition: from .. to. */
struct range {
	uint32_t partition;
	uint32_t epoch; /* of the cursor */
	uint64_t from, to;
};

struct consumer {
	bool of_queue;         /* false; else it is a struct queue_reader */
	struct group *group;   /* a reference */
	struct member *member; /* a reference; NULL: of the group itself */
	uint32_t unit;         /* STREAM for all partitions: its number while they are assigned; group.lock */
	uint32_t partition;    /* ENGINE_ANY: all */
	enum engine_consume how;
	struct wait_list *waiters;                          /* where it waits */
	struct consumer *next;                              /* in group.streams */
	_Atomic uint64_t owned[ENGINE_PARTITIONS_MAX / 64]; /* STREAM: its partitions; written under group.lock */
	uint32_t rotor;                                     /* STREAM: partition to look at first; group.lock */
	bool finished;                                      /* ONE: has given its message; group.lock */
	struct range *ranges;                               /* SNAPSHOT; fixed when opened */
	uint32_t range_count;
	uint64_t limit;       /* SNAPSHOT: messages it gives at most, 0: all; never changes */
	uint64_t given;       /* group.lock */
	uint32_t at;          /* range it is in; group.lock */
	uint64_t next_offset; /* in that range; group.lock */
};

static inline bool consumer_owns(const struct consumer *consumer, uint32_t partition)
{
	return atomic_load_explicit(&consumer->owned[partition / 64], memory_order_relaxed) >> (partition % 64) & 1;
}

struct producer {
	enum engine_kind of; /* ENGINE_TOPIC; else it is a struct queue_producer or route_producer */
	struct topic *topic; /* a reference */
	uint32_t partition;
	struct engine_span key; /* ptr NULL: none; owned */
	pthread_mutex_t lock;
	bool turn_runs;          /* lock */
	uint32_t turn_partition; /* lock */
	uint64_t turn_bytes;     /* lock */
	int64_t turn_began_ms;   /* lock */
};

/* ------------------------------------------------------------------------------------------- engine */

/* Settings that this engine acts on; the others it only keeps. */
enum local_setting {
	SET_PARTITIONS,
	SET_LINGER_MS,
	SET_BATCH_SIZE,
	SET_FLUSH_MESSAGES,
	SET_FLUSH_MS,
	SET_RETENTION_MS,
	SET_RETENTION_BYTES,
	SET_SEGMENT_BYTES,
	SET_CLEANUP_POLICY,
	SET_DELETE_RETENTION,
	SET_MAX_MESSAGE_BYTES,
	SET_DEDUP_WINDOW,
	SET_AUTO_COMMIT,
	SET_AUTO_OFFSET_RESET,
	SET_MAX_POLL_RECORDS,
	SET_SESSION_TIMEOUT,
	SET_QUEUE_MAX_PRIORITY,
	SET_QUEUE_LINGER_MS,
	SET_QUEUE_BATCH_SIZE,
	SET_QUEUE_FLUSH_MESSAGES,
	SET_QUEUE_FLUSH_MS,
	SET_QUEUE_TTL,
	SET_QUEUE_MAX_LENGTH,
	SET_QUEUE_MAX_LENGTH_BYTES,
	SET_QUEUE_OVERFLOW,
	SET_QUEUE_MAX_MESSAGE_BYTES,
	SET_QUEUE_ACK_TIMEOUT,
	SET_QUEUE_CONSUMER_TIMEOUT,
	SET_QUEUE_DELIVERY_LIMIT,
	SET_QUEUE_PREFETCH,
	SET_QUEUE_AUTO_ACK,
	SET_QUEUE_DEAD_LETTER,
	SET_QUEUE_DEAD_LETTER_KEY,
	SET_QUEUE_SINGLE_ACTIVE,
	SET_QUEUE_REDELIVERY_DELAY,
	SET_QUEUE_EXPIRES,
	SET_QUEUE_DEDUP_WINDOW,
	SET_CONSUMER_PREFETCH,
	SET_CONSUMER_AUTO_ACK,
	SET_EXCHANGE_ALTERNATE,
	SET_EXCHANGE_MANDATORY,
	SET_TX_TIMEOUT,
	LOCAL_SETTING_COUNT
};
/* Choices by their place in the table. */
#define RESET_LATEST 1       /* auto.offset.reset */
#define POLICY_DELETE 0      /* cleanup.policy */
#define POLICY_COMPACT 1     /* alone: without delete */
#define OVERFLOW_DROP_HEAD 0 /* overflow */
#define OVERFLOW_REJECT_DLX 2
#define DEAD_LETTER_NONE 1         /* dead.letter.to; a queue is a text */
#define SETTING_INHERITS INT64_MIN /* no value of its own */

struct pending_move;
struct local_text;

struct stages;

struct local {
	struct engine base; /* first */
	struct store store;
	struct catalog *catalog;
	struct journal *journal;
	uint64_t journal_from; /* when it was opened, the catalog had all that files below this number say */
	bool journal_noted;    /* checkpoint_lock: it has such a number, by which a journal that is gone is missed */
	struct stages *stages;
	struct engine_notify notify;
	struct engine_users users;
	pthread_mutex_t ended_lock;
	struct tx_list {
		struct tx *first, *last;
	} ended[LOCAL_ENDED_LISTS]; /* local_tx_ended.c; ended_lock */
	bool read_only;
	bool remake_logs;                       /* see struct engine_options */
	bool logs_closed;                       /* at the end: the last checkpoint needs none */
	int setting_index[LOCAL_SETTING_COUNT]; /* in object.values; never changes */

	pthread_rwlock_t visible; /* looks and commits of transactions: see local_visible.h */
	pthread_rwlock_t routes;  /* what leads where: see local_exchange.h */
	struct {                  /* see local_commit.h */
		pthread_rwlock_t running;
		pthread_mutex_t lock;
		struct commit_pending *pending; /* uthash: notes of what is not done; lock */
		_Atomic bool stuck;             /* one is in the journal only, so that must stay */
		_Atomic bool told;
		_Atomic uint64_t owed;      /* bytes that targets are about to be given: see find_room() */
		pthread_mutex_t begin_lock; /* before those of the journal */
		_Atomic bool
		    begun;     /* since the last checkpoint; see local_commit_lost.c, as the next two, of the start */
		uint64_t from; /* UINT64_MAX: no note was lost */
		struct commit_marks *marks;
	} commits;
	struct { /* who commits a transaction: see local_tx_together.c */
		pthread_mutex_t lock;
		pthread_cond_t changed;
		struct tx_work *head, **tail; /* lock; the next that leads is the first */
		bool led;                     /* lock */
	} together;
	pthread_rwlock_t registry;
	struct object_list objects; /* all but defaults; registry */
	bool opened;                /* to the end; fixed from then on */
	size_t reserved;            /* of its room, for who is about to enter; registry */
	struct object *names;       /* uthash; registry */
	struct object *root;        /* never changes, as defaults */
	struct object *defaults[ENGINE_KIND_COUNT];

	struct flusher flusher;
	struct timers timers;
	struct cleaner cleaner;
	struct reserve reserve;
	struct sync_point journal_sync;
	struct timer checkpoint_timer, idle_timer, sweep_timer, dedup_timer;
	uint64_t sweep_after; /* timer thread only */
	pthread_mutex_t checkpoint_lock;
	_Atomic uint64_t checkpoint_pos; /* of the journal at the last one */
	_Atomic int64_t checkpoint_ms;   /* clock_mono_ms of the last one */
	_Atomic bool checkpoint_soon;    /* the timer is set for the growth of the journal */
	_Atomic bool checkpoint_set;     /* the timer is set */
	_Atomic bool checkpoint_failed, journal_failed, copy_failed; /* reported */

	struct {
		pthread_mutex_t lock;
		struct warm **list;  /* of those that may have files open; lock */
		size_t count, room;  /* lock */
		size_t files;        /* how many all of them are to have at most; never changes */
		_Atomic size_t lent; /* of these, what staging files have */
		int ceiling;         /* a descriptor from here on: few are left; never changes */
		uint64_t random;     /* lock */
	} warm;

	struct {
		pthread_mutex_t lock;
		uint64_t next, end; /* lock: of messages of queues; taken from the catalog and not given yet */
	} ids;
	_Atomic int64_t
	    queues_due_ms;    /* queue_now() at which something of a queue is due, or before: see queue_catch_up() */
	int64_t wall_base_ms; /* never changes: see queue_now() */
	struct pending_move *moves; /* uthash; at start only: moves in the journal */
	bool recovered_moves;       /* at start only: some were done anew */
	bool
	    replayed_some; /* the same: the journal has records of more than staging files, so the store was not closed */
	struct queue_placed *placed, *placed_tail; /* the same: see local_queue_placed.c */
	struct noted_end *noted_ends;              /* uthash; at the start: what the journal says of where logs end */
	struct replayed
	    *replayed; /* uthash; before the first checkpoint, and in it: logs that were noted in the journal */

	struct { /* moves that did not come about, and of which the journal does not say so yet: queue_note_unmove() */
		pthread_mutex_t lock;       /* below queue.lock */
		struct lane *_Atomic lanes; /* they were to come to; written under lock */
	} unmoved;

	struct {
		pthread_mutex_t lock;
		struct local_text *list; /* lock; texts stay to the end */
	} texts;                         /* values of settings that are names */

	pthread_mutex_t fault_lock;
	char *faults[LOCAL_FAULTS_MAX]; /* fault_lock */
	size_t fault_count;             /* how many there were; fault_lock */
};

/* Reports an event (err 0) or an error. No lock may be held. */
void local_notify(struct local *local, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same for an error that stays: health shows it. */
void local_fault(struct local *local, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* -- local_load.c: at start -- */
int local_load(struct local *local);

/* -- local_create.c -- */
int local_make_missing_dlqs(struct local *local);

/* -- local_orphan.c -- */
int local_look_at_logs(struct local *local);
int local_check_logs(struct local *local); /* EUCLEAN: two objects name one log, and it is not opened to be read only */

/* -- local_object.c: the registry -- */
void object_init(struct local *local, struct object *object, enum engine_kind kind, uint64_t id, struct object *parent);
struct object *object_ref(struct object *object);
bool object_try_ref(struct object *object); /* false: it is being freed */
void object_put(struct object *object);     /* NULL allowed; frees the last one's, which may sync */
/* Counts it for its owner until it is released: struct engine_users. EDQUOT, unless it is there; ENOMEM */
int object_keep(struct object *object, enum engine_keep how);
void object_release(struct object *object); /* what object_init made; for the free functions of the kinds */
int registry_add(struct local *local, struct object *object); /* takes over the first reference; ENOMEM */
/*
 * The same in two steps, for an object and, if it comes with them, its dead letters (below): reserve may give ENOMEM, enter then
 * cannot (but for the store itself). Parent's change.
 */
int registry_reserve(struct local *local, struct object *object, struct object *below);
void registry_unreserve(struct local *local);
int registry_enter(struct local *local, struct object *object, struct object *below);
void registry_remove(struct local *local, struct object *object);
void registry_clear(struct local *local);
struct object *registry_get(struct local *local, uint64_t id); /* a reference, or NULL */
/* A reference, or NULL. */
struct object *registry_find(struct local *local, uint64_t parent_id, enum engine_kind kind, const char *name);
bool registry_has_name(struct local *local, uint64_t parent_id, enum engine_kind kind, const char *name);
void registry_rename(struct local *local, struct object *object, const char *name);
/* The next child (of any topic or group, if parent is NULL) after id `after`: a reference, or NULL. */
struct object *registry_next(struct local *local, struct object *parent, enum engine_kind kind, uint64_t after);
void object_changed(struct object *object); /* its mtime is now */
void object_name(struct object *object, char ret_name[ENGINE_NAME_MAX + 1]);
int object_explain_size(struct object *object, uint64_t bytes, int64_t max_bytes); /* EMSGSIZE */
/* Begins a call: clears the reason, and refuses defaults, other kinds (EINVAL) and what is removed (EIDRM). */
int object_enter(struct engine_object *base, enum engine_kind kind, struct object **ret_object);
int object_enter_any(struct engine_object *base, struct object **ret_object);
/* The same for a call that changes the store: EROFS. */
int object_enter_change(struct engine_object *base, enum engine_kind kind, struct object **ret_object);

/* -- local_setting.c -- */
int settings_bind(struct local *local);                                  /* finds the rows of local_setting */
int settings_init(struct object *object, const struct object *defaults); /* defaults NULL: the built-in ones */
int settings_load(struct object *object);                                /* from the catalog */
int settings_store(struct object *object); /* those that differ from the built-in ones, to the catalog */
void settings_put(struct object *object, enum local_setting setting, int64_t value); /* in memory */
static inline int64_t setting_value(const struct object *object, enum local_setting setting)
{
	const struct local *local = local_of(object);

	return atomic_load_explicit(&object->values[local->setting_index[setting]], memory_order_relaxed);
}

/* The text behind a value that is one, or NULL: then it is the place of a choice. */
const char *settings_text(int64_t value);
void settings_free_texts(struct local *local);

/* -- local_topic.c -- */
struct plog_options local_log_options(struct local *local, uint64_t log_id);
struct topic *topic_new(struct local *local, uint64_t id);
void topic_free(struct topic *topic);
int topic_close_logs(struct topic *topic);                     /* at the end of the engine: the first error */
int topic_add_partition(struct topic *topic, uint64_t log_id); /* in memory; change */
int topic_grow(struct topic *topic, uint32_t partitions);      /* on disk and in memory; change */
int topic_find(struct topic *topic, uint32_t index, struct partition **ret_partition); /* ENOENT */
int partition_open_log(struct partition *partition, struct plog **ret_plog);           /* no group.lock */
/* Opens those logs of the topic that are not (index ENGINE_ANY: all). A log that cannot be opened counts as empty; ENOMEM. */
int topic_open_logs(struct topic *topic, uint32_t index);
int topic_freeze(struct topic *topic);           /* change. ENOTEMPTY; else appends wait for topic_thaw */
void topic_thaw(struct topic *topic, bool dead); /* change */
/* earliest and end; both 0 if the log is not open. */
void partition_bounds(struct partition *partition, uint64_t *ret_earliest, uint64_t *ret_end);
void partition_fault(struct partition *partition, int err, const char *what);
void partition_sync_begin(struct sync_point *point);
int partition_sync(struct sync_point *point);
/* Before its log is trimmed to an end that was read before: no commit is on its way to it, and what came by one is on disk. */
void partition_before_trim(struct partition *partition);
void topic_sum(struct topic *topic, struct engine_stat *stat); /* adds messages, bytes, totals; raises mtime_ms */

/* -- local_producer.c -- */
/* What has to be written down around an append: begin with the offset it will have, cancel if it failed. partition.lock, or queue.lock */
struct append_note {
	/* index: of the partition, or the priority; ret_pos: the journal is to be on disk up to there before the log is */
	int (*begin)(void *ctx, uint64_t log_id, uint32_t index, uint64_t offset, uint64_t *ret_pos);
	void (*cancel)(void *ctx);
	void *ctx;
};
/*
 * Appends a batch that was checked, its time resolved; note may be NULL. lent: it may use what reserve_again() lent. The
 * caller calls partition_wake() when it holds no lock. No partition.lock.
 */
int partition_append(
    struct partition *partition, const struct engine_batch *batch, const struct append_note *note, bool lent);
void partition_wake(struct partition *partition);
size_t producer_room(struct producer *producer);                 /* bytes until its turn ends */
uint32_t producer_choose(struct producer *producer, size_t len); /* the partition of so many bytes */

/* -- local_group.c -- */
struct group *group_new(struct local *local, uint64_t id, struct topic *topic);
void group_free(struct group *group);
/* Takes the lock, and sees to a cursor for each of the topic's partitions. EIDRM, ENOMEM: not taken. */
int group_lock(struct group *group);
void group_unlock(struct group *group);
/* Brings a cursor beyond what is gone from its partition, and tells where that begins and ends. lock */
struct cursor *cursor_refresh(struct group *group, uint32_t partition, uint64_t *ret_earliest, uint64_t *ret_end);
/* Writes committed, given and lost of next to the journal, then takes next over as the cursor. lock */
int cursor_store(struct group *group, uint32_t partition, const struct cursor *next);
void cursor_give(
    struct group *group, uint32_t partition, uint64_t given); /* raises given; works on a full disk. lock */
void cursor_skip(struct group *group, uint32_t partition, uint64_t offset); /* what is below is damaged: lost. lock */
int cursor_commit(struct group *group, uint32_t partition, uint64_t committed); /* 1: moved; 0: it was there. lock */
void cursor_noted(
    struct group *group, uint32_t partition, uint64_t committed); /* the same: the journal has it already. lock */
void group_advance_turn(struct group *group);                     /* after a commit: lock */
/* Where a seek leads to. No lock */
int group_find_target(struct group *group, uint32_t index, enum engine_seek how, int64_t value, uint64_t *ret_target);
int cursor_put(struct group *group, uint32_t index, uint64_t target); /* a seek to there. lock */
/* ack's own checks of an offset: EALREADY, ERANGE. lock */
int cursor_check_ack(const struct cursor *cursor, uint32_t index, uint64_t offset);
void cursor_take_back(struct cursor *cursor);                     /* lock */
void topic_clamp_groups(struct topic *topic, uint32_t partition); /* after a purge */
void group_reset(struct group *group); /* auto.offset.reset was written: a group that never had anything begins anew */
int group_start(struct group *group);  /* cursors of a new group, in memory and in the catalog */
void group_cut(
    struct group *group, uint32_t partition, uint64_t end); /* a crash cut the log: its end is at most this */
void group_check_invariants(struct group *group);           /* lock */

/* -- local_assign.c -- */
void assign_streams(struct group *group);       /* lock; wake the group's waiters afterwards */
void topic_assign_streams(struct topic *topic); /* after growing; the same */

/* -- local_warm.c -- */
void warm_start(struct local *local); /* raises RLIMIT_NOFILE to what the process may have */
void warm_stop(struct local *local);
size_t warm_share(const struct local *local); /* how many they can do without */
/* A descriptor of theirs, which was just opened, is another's until it is closed. False: it is to be closed, too few are left. */
bool warm_lend(struct local *local, int fd);
void warm_take_back(struct local *local);
/*
 * What failed for want of descriptors is to be tried again: some were given back. As memory_again(): what is tried must not have changed anything
 * when it fails so. Locks as warm_touch().
 */
bool warm_again(struct local *local, int rc, unsigned int *tries);
bool local_give_files(struct engine *engine);
void warm_init(struct warm *warm, struct sync_point *sync, struct plog *_Atomic *plog);
void warm_touch(struct warm *warm); /* it is about to be used; no lock but object.change: others may be synced */
void warm_cool(struct warm *warm);  /* it goes away */
void warm_idle_fire(struct timer *timer);

/* -- local_upkeep.c -- */
int upkeep_start(struct local *local);
void partition_retain_fire(struct timer *timer);
void partition_flush_fire(struct timer *timer);
int64_t retain_delay(const struct object *topic); /* until retention has to look at what is appended now */
void topic_retain_soon(struct topic *topic);      /* a setting of retention changed */
void topic_flush_soon(struct topic *topic);

/* -- local_note.c -- */
/*
 * Notes what the log of a sync point has and the disk has not: 1, and up to where; 0: nothing. An error: run is to do it. record:
 * NOTE_MAX bytes.
 */
int note_log(struct local *local, struct sync_point *point, uint8_t *record, struct plog_tail *ret_to);
int notes_settle(struct local *local); /* before a checkpoint drops records: syncs the logs they are of */
int note_replay(struct local *local, struct plog_redo *redo, const void *record, size_t size);
void notes_forget(struct local *local);

/* -- local_end.c -- */
/* The logs of an object, from 0: partitions of a topic, priorities of a queue; others have none. NULL: this one is not there. */
uint32_t object_logs(struct object *object);
struct sync_point *object_log(struct object *object, uint32_t index);
void log_fault(const struct sync_point *point, int err, const char *what); /* of the partition, or the queue */
int ends_load(struct object *object); /* of a topic's or queue's logs, from the catalog */
int ends_replay(struct local *local, const uint8_t *record, size_t size);
/* The journal has that a log ended there, and its files do not. bytes: that its last position rises by. */
int ends_noted(struct local *local, uint64_t log_id, uint64_t end, uint64_t pos, uint64_t bytes);
void ends_apply(struct local *local); /* what was replayed, to the logs there are */
void ends_forget(struct local *local);
int ends_look_at(const struct sync_point *point, struct plog *plog); /* of a log that was just opened */
void ends_note(struct local *local, const struct sync_point *point); /* its log has been synced */
int ends_checkpoint(struct local *local);                            /* checkpoint_lock */
int ends_close_log(struct sync_point *point);                        /* syncs it, sees where it ends, and closes it */

/* -- local_settle.c -- */
int settle_run(struct local *local); /* syncs what was noted since the last checkpoint, log by log or all together */

/* -- local_checkpoint.c -- */
int checkpoint_run(struct local *local);
void checkpoint_keep_copy(struct local *local); /* of the catalog, and drops files that do not count; at the start */
void checkpoint_fire(struct timer *timer);
void checkpoint_note(struct local *local, uint64_t pos); /* a record was appended to the journal, up to pos */
/* A queue was purged, or a message finds no room: what was settled gives its room back by the next one, so that comes soon. */
void checkpoint_hurry(struct local *local);
void checkpoint_restore(struct group *group, const struct catalog_cursor *row, bool dirty); /* at start */
struct replaying {
	struct local *local;
	struct plog_redo redo;
};
/* ctx: struct replaying */
int checkpoint_replay(void *ctx, enum journal_type type, const void *record, size_t size);

/* -- local_producer.c: in two steps, for local_commit.h -- */
/* What producer_send may refuse; places[i] is the partition of message i. batch->props is not NULL. Opens the logs. */
/* What a compacted topic takes, and what a tombstone is: EINVAL. */
int topic_check_key(const struct topic *topic, const struct engine_props *props, uint32_t len);
int topic_claim(struct topic *topic, const struct engine_batch *batch, bool again, uint32_t *places);
/* props say the partitions. Only the disk can refuse it; then dedup is told what became of the batch. */
int topic_send_claimed(struct topic *topic, const struct engine_batch *batch, struct dedup_send *dedup);
/* Adds the partition's point if it has something that is not on disk; returns the count then. */
size_t partition_add_point(struct partition *partition, struct sync_point **points, size_t count);

#endif
