/*
 * memory_tx - transactions of the memory engine: what memory_tx.c, memory_tx_stage.c and the few places that lead there share.
 *
 * What is staged is in a struct staged, as in the embedded engine, and rejects beside it. A commit is one call under the one
 * mutex: it looks at everything again, has all targets begin (memory_route.c), and then does what can no longer fail. A lease that
 * is staged is pinned: it does not end by time (memory_queue_time.c).
 *
 * All of it needs the lock.
 */
#ifndef MQFS_MEMORY_TX_H
#define MQFS_MEMORY_TX_H

#include "engine/memory_internal.h"
#include "engine/staged.h"

struct memory_rejected {
	uint64_t group, offset;
	uint32_t partition;
};

struct memory_tx {
	enum engine_tx_state state;
	enum engine_tx_why why;
	int64_t due_mono; /* OPEN: it is aborted; else it is forgotten */
	int64_t ended_ms;
	struct staged staged;
	struct memory_rejected *rejects;
	size_t reject_count, reject_room;
};

/* ---- memory_tx.c ---- */

int memory_tx_init(struct memory_object *object);
void memory_tx_free(struct memory_object *object); /* one that is none is allowed */
void memory_tx_roll_back(struct memory_object *object);
void memory_tx_sweep(struct memory_engine *memory); /* times that are over */
/* Removes the oldest transaction that has ended and counts for the user. False: there is none */
bool memory_tx_forget(struct memory_engine *memory, uint32_t uid);
/* Takes the lock for a call that stages. EALREADY, ECANCELED, ETIMEDOUT, EROFS. */
int memory_tx_enter(struct engine_object *tx, struct memory_object **ret_object);

extern const struct engine_tx_ops memory_tx_ops;

/* ---- memory_tx_stage.c ---- */

int memory_tx_producer_open(struct engine_object *tx, struct engine_object *target, uint32_t partition, bool head,
    struct engine_span key, struct engine_producer **ret_producer);
int memory_tx_producer_send(struct engine_producer *producer, const struct engine_batch *batch);
void memory_tx_producer_close(struct engine_producer *producer);
int64_t memory_tx_settle(
    struct engine_object *tx, struct engine_object *consumer, enum engine_settle how, uint64_t first, uint64_t last);
int64_t memory_tx_settle_all(struct engine_object *tx, struct engine_object *consumer, enum engine_settle how);

/* ---- memory_tx_cursor.c ---- */

int memory_tx_ack(struct engine_object *tx, struct engine_object *group, uint32_t partition, uint64_t offset);
int memory_tx_ack_all(struct engine_object *tx, struct engine_object *group, uint32_t partition);
int memory_tx_reject(struct engine_object *tx, struct engine_object *group, uint32_t partition, uint64_t offset);
int64_t memory_tx_reject_all(struct engine_object *tx, struct engine_object *group, uint32_t partition);
int memory_tx_seek(
    struct engine_object *tx, struct engine_object *group, uint32_t partition, enum engine_seek how, int64_t value);
int memory_tx_check_cursor(const struct memory_object *tx, const struct staged_cursor *staged); /* ESTALE, EIDRM */
void memory_tx_move_cursor(struct memory_engine *memory, const struct staged_cursor *staged);

#endif
