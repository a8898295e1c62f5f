/*
 * local_tx_commit - the commit of one transaction in steps (local_tx_commit.c), and of several together (local_tx_together.c).
 */
#ifndef MQFS_LOCAL_TX_COMMIT_H
#define MQFS_LOCAL_TX_COMMIT_H

#include "engine/local_commit.h"
#include "engine/local_tx.h"

#define TX_REASON_MAX 256
#define TX_ID_BITS 1024u

struct tx_work {
	struct tx *tx; /* its lock is held by who commits it, whichever thread does the steps */
	struct local *local;
	int64_t ts_ms;
	struct tx_loaded *loaded; /* of each send, up to loaded_count */
	size_t loaded_count;
	uint8_t *tail;
	struct commit commit;
	uint64_t ids[TX_ID_BITS / 64]; /* a bit for each id of its messages, by the hash */

	/* local_tx_together.c: */
	struct tx_work *next;
	bool over; /* together.lock; rc, uncertain and reason are final then */
	int rc;
	bool uncertain; /* the sync failed */
	char reason[TX_REASON_MAX];
};

/* ---- local_tx_commit.c; alone, routes. After an error nothing has happened, and nothing is kept ---- */

/* Looks at everything again, and claims room at the targets, which is kept until commit_release(). */
int tx_claim(struct tx_work *work);
int tx_note(struct tx_work *work);       /* within commit_enter, as the next */
void tx_carry_out(struct tx_work *work); /* the note is on disk: it has happened */

/* ---- local_tx_together.c ---- */

/* Commits it, with those that others commit in this moment. Looks must not be under way in this thread. */
int tx_commit_together(struct tx_work *work);

#endif
