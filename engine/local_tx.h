/*
 * local_tx - transactions in the embedded engine: what its local_tx*.c files share. The contract is engine_tx.h.
 *
 *   local_tx.c          life: making, time, ending, what came of it
 *   local_tx_ended.c    those of each user that have ended, and forgetting them for room
 *   local_tx_stage.c    staging messages and what is settled in queues
 *   local_tx_cursor.c   staging acks, rejects and seeks of groups
 *   local_tx_commit.c   commit: its steps
 *   local_tx_together.c those of several at the same time
 *   local_tx_note.c     what it is to settle, as bytes of a note of the journal
 *   local_tx_recover.c  at the start: what was committed and not done to the end
 *
 * What is staged is in memory and in an unnamed file (staged.h), and goes with the daemon: nothing has to be undone. A commit
 * looks at everything again, claims room at all targets (local_commit.h), and writes all of it as one note to the journal,
 * which is synced: then it has happened, whatever comes. Then it is carried out; no look sees a part of that, see
 * local_visible.h. The start does what is not done, and nothing twice: messages have marks; what is settled is found by its place
 * in its lane and by how often it was delivered; a cursor is set where the note stands among the records of the journal.
 *
 * Locks: tx.lock, before `visible`; held while staging and committing.
 */
#ifndef MQFS_LOCAL_TX_H
#define MQFS_LOCAL_TX_H

#include "engine/local_internal.h"
#include "engine/local_queue.h"
#include "engine/local_visible.h"
#include "engine/staged.h"

struct tx {
	struct object object; /* first */
	pthread_mutex_t lock; /* for all that follows */
	enum engine_tx_state state;
	enum engine_tx_why why;
	bool uncertain;       /* the sync of its commit failed */
	bool dirty;           /* the catalog does not know yet how it ended */
	int64_t due_ms;       /* clock_mono_ms: OPEN: it is aborted; else it is removed */
	int64_t ended_ms;     /* Unix time; OPEN: 0 */
	struct staged staged; /* charged to who made it, as long as it is open */
	struct timer timer;
	bool ended_listed; /* this and the next two: local.ended_lock */
	struct tx *ended_before, *ended_next;
};

static inline struct tx *tx_of_object(struct object *object)
{
	return (struct tx *)object;
}

/* ---- local_tx_ended.c ---- */

void tx_ended_add(struct tx *tx); /* the newest of who it counts for */
void tx_ended_drop(struct tx *tx);
/*
 * Where who has as many objects as one may have makes another (EUSERS): his oldest ended transaction is removed, or, if he has none,
 * *how becomes what refuses; then it is to be tried again. What the removal answers if it fails. Without locks, not within a look.
 */
int tx_make_room(struct local *local, uint32_t uid, enum engine_keep *how);

/* ---- local_tx.c ---- */

struct tx *tx_new(struct local *local, uint64_t id); /* its time runs */
void tx_free(struct tx *tx);
int tx_charge(struct tx *tx, uint32_t uid);                   /* to who makes it. EDQUOT */
int tx_load(struct tx *tx);                                   /* at start: how it ended; if it did not, it does now */
int tx_enter(struct engine_object *base, struct tx **ret_tx); /* begins a call; takes the lock */
/* The same to stage something: EALREADY, ECANCELED, ETIMEDOUT, and the lock is not taken. Begins a look, too. */
int tx_enter_open(struct engine_object *base, struct tx **ret_tx);
void tx_leave_open(struct tx *tx);
int tx_refuse(const struct tx *tx); /* what an ended one answers; lock */
/* Gives up what is staged, and says how it ended. lock; not within a look that holds a lock of an object. */
void tx_end(struct tx *tx, enum engine_tx_state state, enum engine_tx_why why);
void tx_name(struct tx *tx, uint64_t id,
    struct object *object);                        /* it is staged for id, which is called as the object is. lock */
int tx_before_removal(struct engine_object *base); /* of any object: an open transaction is rolled back */
int tx_checkpoint(struct local *local);            /* how they ended, to the catalog */

/* ---- local_tx_stage.c ---- */

int tx_producer_open(struct engine_object *base, struct engine_object *target, uint32_t partition, bool head,
    struct engine_span key, struct engine_producer **ret_producer);
int tx_producer_send(struct engine_producer *handle, const struct engine_batch *batch);
void tx_producer_close(struct engine_producer *handle);
int64_t tx_settle(
    struct engine_object *base, struct engine_object *consumer, enum engine_settle how, uint64_t first, uint64_t last);
int64_t tx_settle_all(struct engine_object *base, struct engine_object *consumer, enum engine_settle how);
void tx_unpin(struct tx *tx); /* the leases end when they do. lock */
#define TX_PLACE(priority, offset) ((uint64_t)(priority) << 56 | (offset))
#define TX_PRIORITY(place) ((uint32_t)((place) >> 56))
#define TX_OFFSET(place) ((place)&0xffffffffffffff)

/* ---- local_tx_cursor.c ---- */

int tx_ack(struct engine_object *base, struct engine_object *group, uint32_t partition, uint64_t offset);
int tx_ack_all(struct engine_object *base, struct engine_object *group, uint32_t partition);
int tx_reject(struct engine_object *base, struct engine_object *group, uint32_t partition, uint64_t offset);
int64_t tx_reject_all(struct engine_object *base, struct engine_object *group, uint32_t partition);
int tx_seek(
    struct engine_object *base, struct engine_object *group, uint32_t partition, enum engine_seek how, int64_t value);

/* ---- local_tx_commit.c ---- */

int tx_commit(struct engine_object *base);

/* ---- local_tx_note.c ---- */

int tx_note_make(const struct tx *tx, int64_t ts_ms, uint8_t **ret_tail, uint32_t *ret_size);
/* The tail of a commit that takes dead letters away: local_queue_forward.c, local_queue_redrive.c. */
#define TX_TAKEN 3u /* how */
struct commit_take;
uint32_t tx_note_takes_size(uint32_t count);
void tx_note_takes(uint8_t *tail, uint64_t queue, uint64_t change, const struct commit_take *takes, uint32_t count);
/* The tail of a commit that moves a cursor: local_reject.c. */
#define TX_CURSOR_BYTES 48u
void tx_note_put_cursor(uint8_t tail[TX_CURSOR_BYTES], const struct staged_cursor *cursor);
struct tx_note {
	uint64_t tx_id;
	int64_t ts_ms;
	uint32_t settle_count, cursor_count;
	const uint8_t *settles, *cursors;
};
int tx_note_read(const uint8_t *tail, size_t size, struct tx_note *ret_note); /* EBADMSG */
struct staged_settle tx_note_settle(const struct tx_note *note, uint32_t i);
struct staged_cursor tx_note_cursor(const struct tx_note *note, uint32_t i);

/* ---- local_tx_recover.c ---- */

struct commit_pending;
int tx_replay(struct local *local, struct commit_pending *pending); /* a note that is whole, in its turn */
int tx_recover(struct local *local);                                /* acks; no queue is open yet */
int tx_recover_rest(struct local *local);                           /* nacks and rejects */

extern const struct engine_tx_ops local_tx_ops;

#endif
