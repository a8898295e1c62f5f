/*
 * local_queue - queues in the embedded engine: what its local_queue*.c files share.
 *
 * A queue has a lane per priority: a partition log, and a cursor `next` in it. What lies below next is settled, what lies
 * from it on is READY and was never touched: that is the flow in order, and it costs no memory, however much waits. The
 * exceptions are spans: runs of consecutive offsets of a lane with one state (leased together, put back, delayed, taken out
 * ahead of next), in a tree by offset and one more by what their state is ordered by. A span says all there is to say of its
 * messages; without one, next does.
 *
 * Every change is a record of the journal that says, all by itself, what a range is now (local_queue_journal.c); then
 * the same code applies it, now and when it is replayed (local_queue_lane.c). Checkpoints put cursors, counters and the
 * spans that changed into the catalog (local_queue_store.c). A lease that runs out, a delay that is over, a holder that
 * died with the daemon need no record: the same follows from the record before by the time that has passed.
 *
 *   local_queue.c           life: making, opening the logs, taking both locks
 *   local_queue_span.c      spans: their trees, how they are found and cut
 *   local_queue_lane.c      what a range of a lane is becomes something else: spans and the cursor
 *   local_queue_count.c     counters, and the law they obey
 *   local_queue_journal.c   records
 *   local_queue_finish.c    at the start: moves that a crash cut off
 *   local_queue_placed.c    at the start: what became of messages of commits that the disk lost
 *   local_queue_store.c     checkpoints, and what is read at the start
 *   local_queue_produce.c   messages come in
 *   local_queue_append.c    a batch goes to the lanes; with produce and room: local_queue_send.h
 *   local_queue_room.c      the limits of a queue that refuses
 *   local_queue_sync.c      the log of a lane: appended to, and synced
 *   local_queue_reader.c    open consuming files: who may have what, and who waits
 *   local_queue_fetch.c     messages are given
 *   local_queue_settle.c    acks, nacks, rejects, sessions
 *   local_queue_timer.c     leases, delays and times to live run out
 *   local_queue_move.c      a message goes to another lane
 *   local_queue_dead.c      messages die: dead letters, limits of length
 *   local_queue_mv.c        mv of a message
 *   local_queue_redrive.c   dead letters go back
 *   local_queue_message.c   messages one by one, and the listing of them
 *   local_queue_stat.c      figures
 *
 * Locks, below object.change and above producer.lock: queue.fetch_lock, one fetch at a time, held over reads of a log;
 * queue.lock, everything else, held over appends to the logs and the journal. Who needs two queues takes the locks by
 * rising id (queue_lock_both). Waiters are woken with none held.
 */
#ifndef MQFS_LOCAL_QUEUE_H
#define MQFS_LOCAL_QUEUE_H

#include "engine/local_internal.h"
#include "engine/local_tree.h"

#define QUEUE_SEGMENT_BYTES (16u << 20) /* settled messages give their room back in pieces of this size */
#define QUEUE_TRIM_BYTES (1u << 20)     /* a log that is wholly settled is begun anew when it holds this much */
#define QUEUE_IDS_AT_ONCE 1000000u      /* ids taken by one commit of the catalog */
#define QUEUE_MOVE_RECORD 144u          /* bytes of a record of a move */
#define QUEUE_NEVER INT64_MAX           /* a time that does not come */
#define QUEUE_NUDGE_MS 50               /* a waiter that was woken and does not come for this long: another one is */

enum span_state {
	SPAN_READY,
	SPAN_UNACKED,
	SPAN_DELAYED,
	SPAN_GONE
}; /* the first three as enum engine_message_state */

enum span_ended { ENDED_NEVER, ENDED_SETTLED, ENDED_LOST }; /* never leased; nacked; taken back */

/* Why a range changes: which counters that moves. In the journal: never renumbered. */
enum queue_why {
	WHY_NOTHING = 0,
	WHY_DELIVERED = 1,
	WHY_ACKED = 2,
	WHY_TAKEN = 3, /* delivered and acked at once */
	WHY_DEAD = 4,
	WHY_EXPIRED = 5,
	WHY_DROPPED = 6,
	WHY_MOVED_OUT = 7,
	WHY_MOVED_IN = 8,
	WHY_MOVED_WITHIN = 9, /* to another lane of the same queue: what leaves the one */
	WHY_COUNT,
	WHY_UNTOLD = WHY_COUNT /* not for the journal: it follows from what is there, or another record says it */
};

struct lane;
struct queue;
struct queue_reader;

/*
 * Deliveries of a queue are numbered so that they are in order and tell their time: Unix time in ms, and 20 bits that
 * count within it.
 */
#define DELIVERED_SHIFT 20

/* Who holds leases: the queue itself for who has no name, or a named consumer. All of it: queue.lock. */
struct holder {
	uint64_t id;       /* never changes: of the object */
	uint32_t sessions; /* open */
	uint32_t readers;  /* open */
	uint64_t unacked;
	struct span *spans; /* that it holds */
};

struct span_sizes {
	uint32_t refs;
	uint32_t each[];
};

struct span {
	struct tree_node by_offset; /* lane.spans */
	struct tree_node by_order;  /* READY: lane.ready; UNACKED: queue.leased; DELAYED: queue.delayed */
	struct tree_node by_due;    /* UNACKED: queue.deadlines; READY that expires: queue.expiring */
	struct tree_node by_id;     /* queue.ids, unless GONE */
	struct lane *lane;
	uint64_t first;
	uint32_t count;
	uint32_t deliveries;
	enum span_state state;
	bool held;              /* UNACKED: its holder's session or stream keeps it */
	bool stored, dirty;     /* the catalog has a row for first; and that is not right any more */
	int64_t place;          /* of the first message in the order of delivery: first, or below 0 at the head */
	uint64_t id;            /* of a stray, which the log does not find by id; count is 1. Else 0 */
	uint64_t first_id;      /* of the first message, once the queue is open */
	uint64_t ended_by;      /* whose its last lease was */
	uint8_t ended;          /* enum span_ended: how that ended */
	int64_t due_ms;         /* UNACKED: deadline; DELAYED: ready then */
	int64_t expires_ms;     /* by its own time to live */
	int64_t expiry_ms;      /* READY: when it expires, as it is filed; see span_expiry() */
	int64_t ts_ms;          /* produced */
	int64_t delivered;      /* UNACKED: the number of the delivery */
	int64_t leased_ms;      /* UNACKED: its lease counts from here */
	uint64_t holder_id;     /* UNACKED */
	struct holder *holder;  /* UNACKED, once the queue is open */
	struct span *held_next; /* in holder.spans */
	struct span **held_link;
	struct queue_reader *stream; /* UNACKED: goes back when it is closed; or NULL */
	uint64_t lessee;             /* UNACKED: LESSEE_OF who is charged for the lease; 0: nobody */
	uint64_t bytes;              /* of all payloads */
	struct span_sizes *sizes;    /* of each, if count > 1; shared by the parts of a span */
	uint32_t sizes_at;           /* of the first */
};

struct lane {
	struct queue *queue;       /* never changes */
	uint32_t priority;         /* never changes */
	uint64_t log_id;           /* never changes */
	struct plog *_Atomic plog; /* set once, by the opening of the queue or the making of the lane */
	struct tree spans, ready;  /* queue.lock, as all below */
	uint64_t next, end;        /* next: see above; end: of the log, once it is open */
	uint64_t last_id;          /* highest in the log that is no stray's */
	uint64_t arrived;          /* messages that came by a move, since the queue was opened */
	uint64_t moves_end; /* what came by a move from here on is of a move that nobody noted: see finish_lane() */
	uint64_t ready_count;
	int64_t fresh_ms;   /* time of the last message that came without a span: those that follow are not older */
	int64_t head_place; /* of the last message that was put to the head; 0: none */
	struct queue_placed **placed; /* at the start only: by offset, those that are not cut off */
	size_t placed_count, placed_room;
	uint64_t placed_end; /* at the start only: one past the last offset that a message with a mark was to get */
	uint64_t *gone_rows; /* spans in the catalog that are none any more */
	size_t gone_count, gone_room;
	struct queue_run
	    *trimmed; /* ids that went with the log's front, the last first: see queue_remember_trimmed() */
	size_t trimmed_count;
	uint64_t stored_lowest; /* below it all was settled at the last checkpoint */
	uint64_t forwarded;     /* of a dlq: below it no dead letter is to go on through an exchange now */
	uint64_t forward_held;  /* the lowest of those passed over since somebody holds them; UINT64_MAX: none */
	bool cut_owed; /* the journal says more of it than there is, and could not be told: see queue_note_owed_cut() */
	struct lane *unmoved_next;         /* unmoved.lock: in local.unmoved.lanes */
	uint8_t unmove[QUEUE_MOVE_RECORD]; /* there: the record that takes a move back. It is a part of lock else */
	bool moved_in;        /* a message came by a move that may not be on disk, and the source is settled */
	bool noted;           /* so did one of which the journal says more: it goes to the disk before the log does */
	unsigned noted_syncs; /* that run, of such messages */
	uint64_t unsynced_messages;
	int64_t unsynced_since_ms; /* clock_mono_ms */
	bool flush_asked;
	_Atomic bool failed;
	struct sync_point sync;
	struct timer flush_timer;
	struct warm warm;
};

/* A message that went without being acked: what a late ack of it is told. */
struct queue_gone {
	uint64_t id; /* 0: none */
	enum span_ended ended;
};
#define QUEUE_GONE 1024u /* that are remembered; the contract asks for 1,000 */

/* Ids or offsets that follow each other. */
struct queue_run {
	uint64_t first, count;
};

/* Room that a queue keeps for a batch it has said it takes, and where its logs ended then: see local_commit.h. */
struct queue_claim {
	uint64_t messages, bytes; /* of what counts as READY */
	uint32_t lanes;           /* bit p: the batch has messages for lane p */
	bool partly;              /* noted: if not all can be sent, what was sent stays, and the rest is given later */
};

struct queue_totals {
	uint64_t delivered, redelivered, acked, dead_lettered, expired, dropped, moved_in, moved_out;
};

struct queue {
	struct object object; /* first; its parent is the store, or the queue whose dead letters it has */
	pthread_mutex_t fetch_lock;
	pthread_mutex_t lock;                          /* for all that follows */
	pthread_cond_t changed;                        /* opening */
	struct lane *_Atomic lanes[ENGINE_PRIORITIES]; /* NULL: nothing of this priority ever came; set once */
	_Atomic bool open;        /* logs are open and counters right; until then it is as it was stored */
	bool opening;             /* by one thread, for which the others wait */
	_Atomic bool open_failed; /* and that was reported */
	bool frozen;              /* a removal looks whether it is empty: appends wait */
	uint64_t change;          /* number of the last record of the journal about it */
	uint64_t seen_change;     /* at the start: the highest number that the journal tells of */
	uint64_t stored_change;   /* at the last checkpoint: the catalog says all up to it */
	uint64_t messages[SPAN_GONE], bytes[SPAN_GONE]; /* by state */
	struct queue_totals totals;
	uint64_t claimed_messages, claimed_bytes; /* room that is kept, see struct queue_claim */
	int64_t delivered;                        /* number of the last delivery */
	uint64_t published_bytes;                 /* since the engine was opened */
	int64_t changed_ms;                       /* wall clock of the last message that came; 0: none */
	int64_t
	    forward_due; /* a dlq: when to look for dead letters that go on through an exchange; QUEUE_NEVER: there is none */
	_Atomic bool told_of_missing; /* that dead.letter.to is not there */
	_Atomic uint32_t dlq_present; /* files and sessions of its dead letters */
	_Atomic int64_t dlq_used_ms;  /* used_ms of these */
	int64_t used_ms;              /* queue_now() when somebody last had it open, or did something; for expires.ms */
	struct tree leased, deadlines, delayed, expiring, ids;
	struct span *spare; /* unused ones, linked by held_next: a change that has begun needs no memory */
	uint32_t spare_count;
	struct queue_gone *gone; /* QUEUE_GONE of them, once there is one; a ring */
	uint32_t gone_next;
	int64_t published_base; /* published = this + what is in the logs and did not arrive by a move */
	struct queue_pin *pins; /* uthash: messages whose leases do not end by time; see local_queue_pin.c */
	struct holder anonymous;
	struct queue_reader *readers, **readers_tail; /* open, in the order in which they came */
	struct engine_waiter *waiters, **waiters_tail;
	_Atomic uint32_t waiting; /* how many these are; written under lock */
	uint32_t producers;
	int64_t ttl_due, timer_due; /* a message expires by message.ttl.ms; the timer is set to */
	struct timer timer;         /* what is due next: see local_queue_timer.c */
	struct timer nudge;
	struct engine_scratch scratch; /* for reads under lock */
	struct local_dedup dedup;
};

struct queue_consumer {
	struct object object; /* first; its parent is the queue */
	struct holder holder;
};

/* What makes a consumer present: an open consuming file, or a session. */
struct queue_reader {
	bool of_queue; /* first, as in struct consumer; true */
	bool is_session;
	struct queue *queue;
	struct object *owner; /* a reference: the queue, or a named consumer of it */
	struct holder *holder;
	enum engine_consume how; /* never WAIT: that is ONE, in_turn */
	bool in_turn;            /* under single.active.consumer it waits until it is its turn */
	bool take;
	uint32_t uid;          /* who is charged for what it leases */
	bool finished;         /* ONE: has given its message; queue.lock, as all below */
	bool woken;            /* and did not come to fetch yet */
	uint64_t left, before; /* SNAPSHOT: how many it may still give, of ids below this one */
	uint32_t priority;     /* SNAPSHOT: it goes on behind this place */
	int64_t place;
	struct queue_reader *next, **link; /* in queue.readers */
};

static inline struct queue *queue_of_object(struct object *object)
{
	return (struct queue *)object;
}

static inline struct queue_consumer *queue_consumer_of(struct object *object)
{
	return (struct queue_consumer *)object;
}

static inline struct local *queue_local(const struct queue *queue)
{
	return local_of(&queue->object);
}

static inline struct lane *queue_lane(const struct queue *queue, uint32_t priority)
{
	return atomic_load_explicit(&queue->lanes[priority], memory_order_acquire);
}

/* Is it the dead-letter queue of another? */
static inline bool queue_is_dlq(const struct queue *queue)
{
	return queue->object.parent->kind != ENGINE_STORE;
}

static inline int64_t queue_add_ms(int64_t a, int64_t b)
{
	int64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? QUEUE_NEVER : sum;
}

/* What a range is to be. Without GONE's meaning for the other fields. */
struct span_set {
	enum span_state state;
	bool held;
	uint8_t ended;
	uint32_t deliveries;
	uint64_t id, holder_id, ended_by;
	int64_t place, due_ms, expires_ms, delivered, leased_ms;
	uint64_t lessee; /* of a lease that begins: who was charged for it before. One that goes on has its own */
};

/* What never changes of a message, or of a run of them that were produced together. */
struct span_facts {
	int64_t ts_ms; /* of the batch */
	uint64_t first_id;
	uint64_t bytes;
	const uint32_t *sizes; /* of count payloads; NULL: all in one message */
};

/* Waiters that were taken out of a queue's list, to be woken when no lock is held. Starts as {0}. */
struct wake_list {
	struct engine_waiter *head, **tail;
};

/* ---- local_queue.c ---- */

int64_t queue_now(const struct local *local); /* Unix time in ms that goes on evenly: see local_queue_timer.c */
struct queue *queue_new(struct local *local, uint64_t id, struct object *parent);
void queue_free(struct queue *queue);
struct queue_consumer *queue_consumer_new(struct local *local, uint64_t id, struct queue *queue);
/* Who holds a lease that is older than the daemon; NULL: nobody any more. */
struct holder *queue_find_holder(struct queue *queue, const struct span *span);
void queue_lease_over(struct span *span);  /* then it is over; lock, as the queue is opened */
int queue_close_logs(struct queue *queue); /* at the end of the engine: the first error */
int queue_add_lane(struct queue *queue, uint32_t priority, uint64_t log_id, struct lane **ret_lane); /* in memory */
void queue_touch(struct queue *queue);     /* its logs are about to be used; no lock */
void queue_open_soon(struct queue *queue); /* at start: if there is something to keep time for */
int queue_freeze(struct queue *queue);     /* change. ENOTEMPTY; else all wait for queue_thaw */
void queue_thaw(struct queue *queue);
int queue_clear(struct queue *queue); /* discards all it holds, leased or not; no lock */
int queue_open(struct queue *queue);  /* opens the logs if nobody has; no lock */
/* The lane of a priority, made if there is none; the queue is open. No lock but object.change of parents. */
int queue_make_lane(struct queue *queue, uint32_t priority, struct lane **ret_lane);
/* The same for new messages. ENOSPC: there is only the reserve left. */
int queue_make_lane_to_produce(struct queue *queue, uint32_t priority, struct lane **ret_lane);
/* Begins a call: object_enter and queue_open, and what lingers is taken in. change: EROFS */
int queue_enter(struct engine_object *base, bool change, struct queue **ret_queue);
/* The same for a consumer: a queue, or a named one. */
int queue_enter_holder(struct engine_object *base, struct queue **ret_queue, struct holder **ret_holder);
/* Takes the lock. EIDRM: not taken. */
int queue_lock(struct queue *queue);
void queue_unlock(struct queue *queue);
void queue_present(struct queue *queue, int change);           /* a file or session came or goes; lock */
void queue_used(struct queue *queue);                          /* somebody did something: for expires.ms. lock */
void queue_used_now(struct queue *queue);                      /* takes the lock */
int queue_lock_both(struct queue *queue, struct queue *other); /* other may be NULL, or the same */
void queue_unlock_both(struct queue *queue, struct queue *other);
void queue_fault(struct queue *queue, int err, const char *what);
/* "jobs", "jobs/dlq", "orders/groups/billing/dlq" (local_queue_dead.c) */
#define QUEUE_NAME_MAX (2 * ENGINE_NAME_MAX + sizeof("/groups//dlq"))
void queue_name(struct queue *queue, char name[QUEUE_NAME_MAX]);
int queue_next_ids(struct local *local, uint32_t count, uint64_t *ret_first);
int queue_see_next_id(struct local *local, uint64_t *ret_next); /* all ids that were given are below it */
bool queue_holds_nothing(struct queue *queue);                  /* lock */

/* ---- local_queue_span.c, local_queue_lane.c, local_queue_count.c ---- */

/* All with lock, or before other threads know the queue. */

void span_trees_init(struct queue *queue);
void lane_trees_init(struct lane *lane);
struct span *span_at(struct lane *lane, uint64_t offset);   /* that has the offset, or NULL */
struct span *span_from(struct lane *lane, uint64_t offset); /* the first that ends above offset, or NULL */
/* What one message is now. READY without a span: deliveries 0. */
enum span_state lane_state(struct lane *lane, uint64_t offset, struct span **ret_span);
/* How many messages from offset on, at most max, are one span, or none, and READY alike. 0: offset is not READY. */
uint32_t lane_ready_run(struct lane *lane, uint64_t offset, uint32_t max);
/*
 * Makes [first, first + count) what set says, and notes it in the journal before. The range is one span, a part of one, or
 * without span; of the latter facts are needed, unless the queue is not open yet. ret_span may be NULL, and is given
 * unless the state is GONE. An error (ENOMEM, those of journal_append): nothing has changed.
 */
int lane_set(struct lane *lane, uint64_t first, uint32_t count, const struct span_set *set,
    const struct span_facts *facts, enum queue_why why, struct span **ret_span);
/* The same for a range of any kind: in the replay. */
int lane_replay(struct lane *lane, uint64_t first, uint32_t count, const struct span_set *set);
void lane_cut(struct lane *lane, uint64_t end);                        /* there is nothing from here on */
void lane_skip(struct lane *lane, uint64_t earliest);                  /* there is nothing below */
void lane_appended(struct lane *lane, uint32_t count, uint64_t bytes); /* fresh messages at the end */
/* The log was cut at its end, and lane_cut() called; so many messages without a span go. */
void lane_taken_back(struct lane *lane, uint64_t end, uint64_t fresh, uint64_t bytes);
uint64_t lane_lowest(struct lane *lane); /* the lowest offset that is not settled; end if there is none */
void span_hold(struct span *span, struct holder *holder, struct queue_reader *stream);
#define LESSEE_OF(uid) ((uint64_t)(uid) + 1)
/* So many leases are to begin: how many may, at least 1, and who is charged for them. EDQUOT, ENOMEM */
int64_t lease_charge(struct queue *queue, uint32_t uid, uint32_t count, uint64_t *ret_lessee);
void lease_uncharge(struct queue *queue, uint64_t lessee, uint32_t count); /* they are over, or did not begin */
void span_unfile(struct span *span);                                       /* before what it is ordered by changes */
void span_refile(struct span *span);                                       /* afterwards, unfiled or not */
void span_mark(struct span *span);                                         /* it is to be stored */
int queue_count(struct queue *queue);                                      /* counters, from nothing */
/* Bytes of payloads between two offsets; 0 if that cannot be told. */
uint64_t lane_payload_bytes(struct lane *lane, uint64_t from, uint64_t to);
int64_t queue_next_delivery(struct queue *queue); /* its number */
void queue_check_invariants(struct queue *queue);
void lane_row_gone(struct lane *lane, uint64_t first); /* the catalog has a row that is to go */
int lane_restore(struct lane *lane, uint64_t first, uint32_t count, const struct span_set *set); /* from the catalog */
void lane_release(struct lane *lane);             /* frees what it has; nobody knows it any more */
struct span_set span_as(const struct span *span); /* what it is now */

/* ---- local_queue_journal.c ---- */

/* Notes a change and counts it. lock; before it is made. */
int queue_note(struct lane *lane, uint64_t first, uint32_t count, const struct span_set *set, enum queue_why why);
/* Nothing is from end on: the log was cut, or an append that was noted did not come about. lock */
int queue_note_cut(struct lane *lane, uint64_t end);
/* Before anything is noted of what is to be appended: if that could not be noted, it is now. lock */
int queue_note_owed_cut(struct lane *lane);
/* A message with this mark, and those that follow both, are about to get these offsets. lock */
int queue_note_placed(struct lane *lane, uint64_t first, uint32_t count, uint64_t mark);
struct queue_move_note {
	struct lane *from, *to;
	uint64_t from_offset, to_offset;
	uint64_t id;
	enum queue_why why;  /* of the source: DEAD, MOVED_OUT, MOVED_WITHIN */
	struct span_set set; /* at the target */
	bool fresh;          /* at the target it is READY as it comes */
	bool delivers;       /* it is claimed there, which counts as a delivery */
	bool forward;        /* it is to go on through an exchange */
	bool again;          /* of a move that was noted before, and has settled the message where it was */
	uint32_t death;      /* why it dies, DEATH_OF(reason); 0: it does not */
};
#define DEATH_OF(reason) ((uint32_t)(reason) + 1)
int queue_note_move(const struct queue_move_note *note);
void queue_note_unmove(const struct queue_move_note *note); /* the append failed; if it cannot be noted, that is owed */
int queue_note_owed(struct local *local); /* before anything else is noted of a queue, or settles its messages */
int queue_replay(struct local *local, enum journal_type type, const void *record, size_t size);
int queue_go_on(struct local *local); /* after that, before anything is noted: see local_queue_journal.c */
void count_why(struct queue *queue, enum queue_why why, int64_t messages, uint32_t deliveries);
#define SPAN_BYTES 80u
void span_encode(uint8_t out[SPAN_BYTES], const struct span_set *set);
int span_decode(const uint8_t *in, struct span_set *ret_set); /* EBADMSG */

/* A lane by what a record says of it; NULL: its queue was removed since. At the start: the registry's reference keeps it. */
struct lane *queue_find_lane(struct local *local, uint64_t queue_id, uint32_t priority);

/* ---- local_queue_finish.c; at the start ---- */

struct queue_pending {
	uint64_t id, from_queue, from_offset, to_queue, to_offset;
	uint32_t from_priority, to_priority;
	uint32_t death; /* as in a note */
	bool within, forward, again;
	bool *gone; /* what queue_find_placed() says of where it went from */
};
int queue_remember_move(struct local *local, const struct queue_pending *pending); /* the replay met it. ENOMEM */
void queue_forget_move(struct local *local, uint64_t id);                          /* the last of this message */
void queue_forget_moves(struct local *local);
void queue_moves_cut(struct lane *lane, uint64_t end); /* before lane_cut(), in the replay */
int queue_finish_moves(struct local *local);           /* after the replay: what was cut off in the middle */

/* ---- local_queue_placed.c; at the start ---- */

struct queue_placed {
	struct queue_placed *next; /* in the order of the journal */
	uint64_t queue_id, mark, first;
	uint32_t count, open; /* open: the first ones, of which the last word is not said yet */
	bool gone[];          /* of each of the others: a record of the journal took it from there */
};
int queue_remember_placed(struct lane *lane, uint64_t first, uint32_t count, uint64_t mark); /* ENOMEM */
/* The word on what has this offset now, to be changed once it is said; NULL: it has no mark. */
bool *queue_find_placed(struct lane *lane, uint64_t offset);
void queue_placed_cut(struct lane *lane, uint64_t end); /* before lane_cut() */
void queue_placed_end(struct local *local);             /* the replay is over, and no queue is open */
void queue_forget_placed(struct local *local);

/* ---- local_queue_store.c ---- */

int queue_load(struct queue *queue);
int queue_checkpoint(
    struct local *local, uint64_t journal); /* into the catalog, and that it has files below this number */
void queue_trim_all(struct local *local);   /* after a checkpoint */

int queue_sync_moved(struct local *local); /* messages that came by moves: the journal, then the logs */

/* ---- local_queue_produce.c ---- */

int queue_producer_open(
    struct engine_object *base, uint32_t priority, bool head, struct engine_producer **ret_producer);
int queue_producer_send(struct engine_producer *handle, const struct engine_batch *batch);
int queue_producer_sync(struct engine_producer *handle, struct engine_done *done);
/* The queue of a producer that puts to the end of it (no reference), and its priority, or ENGINE_ANY; else NULL. */
struct queue *queue_of_producer(struct engine_producer *handle, uint32_t *ret_priority);
/*
 * Takes in what was accepted before, to a lane that is there: as partition_append(). Its caller sees to what follows
 * (queue_arrived(), without locks) and wakes who waits.
 */
int queue_take_in(struct queue *queue, uint32_t priority, const struct engine_batch *batch,
    const struct append_note *note, bool lent);
void queue_arrived(struct queue *queue);
/*
 * In two steps, for local_commit.h, so that several queues take a batch or none: claim does all that producer_send may refuse and keeps the room, send
 * takes what was claimed (only the disk can refuse it then; the claim is over in any case), unclaim gives the room back.
 */
int queue_claim(struct queue *queue, const struct engine_batch *batch, bool head, bool again, uint32_t *places,
    struct queue_claim *ret_claim); /* places[i]: the lane of message i */
int queue_send_claimed(struct queue *queue, const struct engine_batch *batch, bool head, const uint32_t *places,
    const struct queue_claim *claim, bool noted, struct dedup_send *dedup); /* as topic_send_claimed */
void queue_producer_close(struct engine_producer *handle);

/* ---- local_queue_room.c ---- */

int queue_has_room_for(struct engine_object *base, uint64_t bytes, const struct engine_props *props);
/* Of settings: does such a queue refuse messages, for more than their size? */
bool queue_refuses(int64_t overflow, int64_t length, int64_t length_bytes);
void queue_unclaim(struct queue *queue, const struct queue_claim *claim);

/* ---- local_queue_sync.c ---- */

/* The journal has a record of what is appended next: that goes to the disk first. lock */
void lane_follow(struct lane *lane);
/* Appends to the lane: lock. first_id with the flags of plog_append(). */
int lane_append(struct lane *lane, const struct engine_batch *batch, uint64_t first_id, uint64_t *ret_offset);
void lane_sync_begin(struct sync_point *point);
int lane_sync_run(struct sync_point *point);
void lane_flush_fire(struct timer *timer);
size_t queue_sync_points(struct queue *queue, struct sync_point **points); /* at most ENGINE_PRIORITIES */

/* ---- local_queue_reader.c ---- */

bool reader_acks_itself(const struct queue_reader *reader);
uint64_t reader_allowance(const struct queue_reader *reader); /* how many it may be given now; lock */
uint32_t queue_count_consumers(const struct queue *queue);    /* lock */
void queue_room(struct queue *queue, struct wake_list *list); /* somebody has fewer unacked; lock */
/* Takes waiters out that `count` READY messages are for. lock */
void queue_wake(struct queue *queue, uint64_t count, struct wake_list *list);
void queue_wake_all(struct queue *queue, struct wake_list *list);
void wake_run(struct wake_list *list); /* no lock */
void queue_nudge_fire(struct timer *timer);
int queue_reader_open(struct engine_object *base, enum engine_consume how, bool take, uint32_t uid,
    struct engine_consumer **ret_consumer);
int queue_reader_arm(struct queue_reader *reader, struct engine_waiter *waiter);
bool queue_reader_disarm(struct queue_reader *reader, struct engine_waiter *waiter);
void queue_reader_close(struct queue_reader *reader);
int queue_session_open(struct engine_object *base, struct engine_session **ret_session);
void queue_session_close(struct engine_session *session);

/* ---- local_queue_fetch.c ---- */

int queue_reader_fetch(struct queue_reader *reader, uint32_t max_count, size_t max_bytes,
    struct engine_scratch *scratch, struct engine_view *ret_view);
/* The first message that is READY and comes after this place; INT64_MIN: of all. lock */
bool lane_peek(struct lane *lane, int64_t after, uint64_t *ret_offset, int64_t *ret_place);
/* The first fresh message at or after offset. lock */
bool lane_fresh(struct lane *lane, uint64_t offset, uint64_t *ret_offset);
bool reader_finds(struct queue_reader *reader); /* is there a message for it? lock */
/*
 * The facts of messages of one batch; a view that lasts until the next with this scratch. EIO: damaged, count in the view. Of another
 * error than those of lane_lost() nothing follows for the messages.
 */
int lane_read(struct lane *lane, uint64_t offset, uint32_t count, struct engine_scratch *scratch,
    struct engine_view *ret_view, uint64_t *ret_first_id);
bool lane_lost(int rc); /* of lane_read() or plog_entry(): they are damaged, or gone */
struct span_facts facts_of(const struct engine_view *view, uint64_t first_id);

/* ---- local_queue_settle.c ---- */

int64_t queue_settle(struct engine_object *base, enum engine_settle how, uint64_t first, uint64_t last);
/* A nack by whoever may, of a message whoever holds it. */
int queue_nack_any(struct queue *queue, uint64_t id);
int64_t queue_settle_all(struct engine_object *base, enum engine_settle how);
int queue_settle_sync(struct engine_object *base, struct engine_done *done);
/*
 * Puts a part of a leased span back: READY, DELAYED for redelivery.delay.ms, or dead if it was delivered too often. Both
 * locks; target: where dead letters go. Its lease ended so; why: of the record, WHY_UNTOLD if it needs none.
 */
int span_return(struct span *span, uint64_t first, uint32_t count, enum span_ended ended, struct queue *target,
    enum queue_why why, struct wake_list *wake);
/* All that holder holds, or that stream was given (NULL: all). No lock. */
void holder_return(struct queue *queue, struct holder *holder, const struct queue_reader *stream);

/* A lease as one looks at it from outside of the lock. */
struct queue_lease {
	uint64_t id;
	uint32_t priority;
	uint64_t offset;
	uint32_t deliveries;
};
/* The lease that holder has of a message. ENOENT, EALREADY, ESTALE, EPERM as settle. No lock */
int queue_find_lease(struct queue *queue, struct holder *holder, uint64_t id, struct queue_lease *ret_lease);
/* All that holder has of first..last, in order of delivery; newly allocated. No lock */
int queue_list_leases(struct queue *queue, const struct holder *holder, uint64_t first, uint64_t last,
    struct queue_lease **ret_leases, size_t *ret_count);
bool queue_has_lease(struct queue *queue, uint64_t holder_id, const struct queue_lease *lease); /* lock */
/* Settles a lease that is there. Both locks; target: where dead letters go */
int queue_settle_lease(struct queue *queue, const struct queue_lease *lease, enum engine_settle how,
    struct queue *target, struct wake_list *wake);

/* -- local_reject.c: a message that a group rejects, as it was produced but for what belongs to queues -- */
struct dead_letter {
	struct engine_props props;
	struct engine_death death;
	char name[QUEUE_NAME_MAX];
};
/* Makes the message of view one, for as long as letter and view last. */
void dead_letter_make(struct dead_letter *letter, struct queue *dlq, struct engine_view *view);

/* ---- local_queue_pin.c ---- */

int queue_pin(struct queue *queue, uint64_t id); /* ENOMEM. lock */
void queue_unpin(struct queue *queue, uint64_t id);
void queue_free_pins(struct queue *queue);
/* The lease of a span is over: what is pinned of it goes on, the rest is returned. Both locks */
int queue_end_lease(struct span *span, struct queue *target, struct wake_list *wake);

/* ---- local_queue_timer.c ---- */

void queue_timer_fire(struct timer *timer);
void queue_set_timer(struct queue *queue);           /* for what is due first; lock */
void queue_due(struct queue *queue, int64_t due_ms); /* something is, at this queue_now(); lock */
/* A span has become READY: its time to live runs, and who waits is woken. lock */
void queue_ready(struct queue *queue, const struct span *span, struct wake_list *wake);
void queue_expire(struct queue *queue); /* it was not used for expires.ms: it goes. No lock */
/* Calls find what they would find had everything happened in time. No lock */
void queue_catch_up(struct local *local);
void queue_sweep(struct queue *queue);                                                /* does what is due; no lock */
void queue_do_due(struct queue *queue, struct queue *target, struct wake_list *wake); /* the same; both locks */
void queue_setting_changed(struct queue *queue); /* limits and times may have; no lock */
/* Leases last as long as the settings say now: what a row or a record has of that may be older. lock */
void queue_refile_leases(struct queue *queue);
int64_t span_expiry(const struct span *span); /* QUEUE_NEVER */

/* ---- local_queue_dead.c ---- */

/* Where dead letters go: a reference with its logs open, or NULL: nowhere. No lock. */
struct queue *queue_dead_target(struct queue *queue);
/*
 * Takes a message (or a whole span) out: to the dead letters of target (NULL: it is dropped, and counted). ended: how its last
 * lease did, for who settles it late. Both locks.
 */
int lane_kill(struct lane *lane, uint64_t first, uint32_t count, enum engine_death_reason reason, enum span_ended ended,
    struct queue *target, struct wake_list *wake);
bool queue_is_too_long(struct queue *queue); /* and drops what is too much; lock */
/* Drops from the head what is over max.length. No lock. */
void queue_enforce_length(struct queue *queue);

/* ---- local_queue_mv.c, local_queue_redrive.c ---- */

int queue_message_move(
    struct engine_object *base, uint64_t id, enum engine_message_state state, const struct engine_place *to);
int64_t queue_redrive(struct engine_object *base, uint64_t first, uint64_t last);

/* ---- local_queue_message.c ---- */

/* Where a message is. No lock but those it takes. ENOENT: never was here, or is long gone. */
/* What a late ack of a message is told that is gone; is it still in a log? lock */
int queue_gone_errno(struct queue *queue, uint64_t id, bool in_log);
/* Notes that a message goes otherwise than by an ack. lock */
void queue_remember_gone(struct queue *queue, uint64_t id, enum span_ended ended);
void queue_forget_gone(struct queue *queue, uint64_t id); /* it has come back; lock */
/* What is below offset, all of it settled, is about to leave the log, by which it is known that it was. No lock */
void queue_remember_trimmed(struct lane *lane, uint64_t offset);
/* Where a message is that is in a span, or was nobody's yet: NULL. lock */
struct span *span_of_id(struct queue *queue, uint64_t id);
int queue_find(struct queue *queue, uint64_t id, struct lane **ret_lane, uint64_t *ret_offset);
/* The i-th message of view, which is of this lane; span may be NULL. lock */
void message_fill_stat(struct lane *lane, const struct span *span, const struct engine_view *view, uint32_t i,
    uint64_t id, struct engine_message_stat *stat);
int queue_message_stat(struct engine_object *base, uint64_t id, struct engine_message_stat *ret_stat);
int queue_message_read(
    struct engine_object *base, uint64_t id, struct engine_scratch *scratch, struct engine_view *ret_view);
int queue_message_remove(struct engine_object *base, uint64_t id, enum engine_message_state state);
int queue_message_touch(struct engine_object *base, uint64_t id, enum engine_message_state state, int64_t until_ms);
int queue_purge(struct engine_object *base);

/* ---- local_queue_list.c ---- */

int queue_message_list(struct engine_object *base, enum engine_message_state state, uint32_t priority,
    struct engine_object *consumer, uint64_t cursor[2],
    bool (*each)(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2]), void *ctx);

/* ---- local_queue_stat.c ---- */

int queue_stat_call(struct engine_object *base, struct engine_queue_stat *ret_stat);
void queue_sum(struct queue *queue, struct engine_stat *stat); /* for stat of engine.h */
void queue_sum_consumer(struct queue_consumer *consumer, struct engine_stat *stat);

extern const struct engine_queue_ops local_queue_ops;

/* ---- local_queue_forward.c ---- */

#define QUEUE_FORWARD ((uint64_t)INT64_MAX) /* the mark of a dead letter that is to go on through an exchange */

bool queue_forwards(const struct queue *queue);     /* does dead.letter.to name an exchange? */
bool queue_forwards_now(const struct queue *queue); /* and is there such an exchange? */
bool queue_forward(struct queue *dlq);              /* does what is marked: was there any? No lock */
void queue_forward_soon(struct queue *dlq);         /* lock */
/* Was it there before, and in none since from which somebody rejected it? (local_queue_dead.c) */
bool queue_is_circle(struct queue *target, const struct engine_death *deaths, uint32_t count);

#endif
