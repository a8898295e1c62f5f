/*
 * engine_tx - the part of the contract that is about transactions: producing, settling and seeking that happens all at once, or
 * not at all, over any number of topics, queues and exchanges.
 *
 * A transaction (ENGINE_TX) is created below the store, found, renamed, listed and removed like other objects; to remove an open one
 * is to roll it back. It is OPEN from its creation; what is staged in it then has no effect that anybody else sees. Commit makes
 * all of it happen in one moment: no call that looks at messages, cursors or figures sees a part of it, and after a crash all
 * of it has happened or nothing. tx.timeout.ms after its creation, an open one is aborted. When the store is opened, all open ones
 * are. What came of a transaction can be asked for a day, over restarts, unless it is removed before.
 *
 * States and what leads from one to the other. ENDED is what a call that wants another end answers:
 *
 *	OPEN ----- commit -------------------------> COMMITTED   commit: 0; rollback: EALREADY; staging: EALREADY
 *	  |------- rollback ------------------------> ABORTED    rollback: 0; commit and staging: ECANCELED
 *	  |------- its time is over ----------------> ABORTED    rollback: 0; commit and staging: ETIMEDOUT
 *	  |------- commit that is refused for good --> ABORTED   rollback: 0; commit and staging: ECANCELED
 *	  '------- the store was opened anew --------> ABORTED   the same
 *
 * Staging refuses what can be known to be refused: sizes, partitions, settings, and of settling what settle, ack, reject and seek
 * refuse, with their errnos. Within one transaction a message is settled once (EALREADY), a cursor goes by what is staged
 * before. A lease of which a settling is staged does not end by time while the transaction is open; it does end with its holder,
 * and whoever may settle it outside may do so. Two transactions never wait for each other, nor for who works outside, before
 * they commit.
 *
 * EDQUOT of create, and of staging: the user who makes, or made, the transaction has as much as struct engine_users allows.
 *
 * Commit looks again at everything. ESTALE: a lease was lost or settled elsewhere, a partition went to another member, somebody
 * else committed further: the transaction is aborted. EIDRM: something staged for was removed: aborted. EDQUOT, ENOSPC, EMSGSIZE,
 * EHOSTUNREACH, EROFS and others: a target refuses; nothing has happened, and the transaction is open still. EIO: the sync failed; what came of
 * it the next opening of the store tells, and tx_stat is EIO until then. Messages get the time of the commit, unless they
 * bring their own; they are produced in the order of staging; then messages are settled, then cursors are moved.
 */
#ifndef MQFS_ENGINE_TX_H
#define MQFS_ENGINE_TX_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine_queue.h"

struct engine_dirent;

#define ENGINE_TX_BYTES_MAX (64u << 20) /* of messages in one: a commit holds them in memory */
#define ENGINE_TX_KEPT_MS 86400000      /* what came of it is kept so long */

enum engine_tx_state { ENGINE_TX_OPEN, ENGINE_TX_COMMITTED, ENGINE_TX_ABORTED };
enum engine_tx_why { ENGINE_TX_NOT, ENGINE_TX_ROLLBACK, ENGINE_TX_TIMEOUT, ENGINE_TX_REFUSED, ENGINE_TX_RESTART };

struct engine_tx_stat {
	enum engine_tx_state state;
	enum engine_tx_why why;    /* ABORTED */
	uint64_t messages, bytes;  /* staged: 0 once it has ended */
	uint64_t settles, cursors; /* staged: messages to be settled, partitions whose stored offset moves */
	int64_t due_ms, ended_ms;  /* Unix time: OPEN: when it is aborted; else when it ended */
};

struct engine_tx_ops {
	/*
	 * A producer whose producer_send stages. target: a topic (partition, key), a queue (partition: the priority; head) or an exchange
	 * (key: the routing key). producer_sync has nothing to wait for. Errors as producer_open of the target, and those
	 * of an ended transaction. EFBIG of producer_send: over ENGINE_TX_BYTES_MAX.
	 */
	int (*producer_open)(struct engine_object *tx, struct engine_object *target, uint32_t partition, bool head,
	    struct engine_span key, struct engine_producer **ret_producer);

	/* settle and settle_all of engine_queue.h; they return the count staged. */
	int64_t (*settle)(struct engine_object *tx, struct engine_object *consumer, enum engine_settle how,
	    uint64_t first, uint64_t last);
	int64_t (*settle_all)(struct engine_object *tx, struct engine_object *consumer, enum engine_settle how);

	/* ack, ack_all, seek of engine.h, reject and reject_all of engine_member.h: of a group or a named member. */
	int (*ack)(struct engine_object *tx, struct engine_object *group, uint32_t partition, uint64_t offset);
	int (*ack_all)(struct engine_object *tx, struct engine_object *group, uint32_t partition);
	int (*reject)(struct engine_object *tx, struct engine_object *group, uint32_t partition, uint64_t offset);
	int64_t (*reject_all)(struct engine_object *tx, struct engine_object *group, uint32_t partition);
	int (*seek)(struct engine_object *tx, struct engine_object *group, uint32_t partition, enum engine_seek how,
	    int64_t value);

	/* Durable when they return (may sync). Committing what is committed, and rolling back what is aborted, is 0. */
	int (*commit)(struct engine_object *tx);
	int (*rollback)(struct engine_object *tx);

	int (*tx_stat)(struct engine_object *tx, struct engine_tx_stat *ret_stat);

	/* list of engine.h, of those children of parent for which, or below which, something is staged. */
	int (*list)(struct engine_object *tx, struct engine_object *parent, enum engine_kind kind, uint64_t after,
	    bool (*each)(void *ctx, const struct engine_dirent *entry), void *ctx);
};

#endif
