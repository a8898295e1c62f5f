/*
 * local_tx_together - transactions that are committed at the same time share one sync of the journal.
 *
 * Who commits joins a line. The first of it leads: alone (local_visible.h) it takes those that have joined by then, looks at each
 * and notes it, syncs the journal once, and carries them out in the order of their notes. They become visible in one moment. Who joins
 * meanwhile waits, and then the first of these leads. So eight who commit at once take two rounds at most, if no two of them
 * want the same.
 *
 * Each is looked at as if it were the only one, since what the others of the round have decided has not happened yet. So those
 * that settle the same message, or move the same cursor, are never in one round: the later one stays in line, first. Nor are two
 * that send a message with the same id: a power cut could keep the note of the one whose message is left out as seen, and not that of
 * the other. All else may be claimed side by side, as publishing does: room in a queue, places in a log.
 *
 * The thread that leads holds all locks of all commits of its round. The others wait with nothing but the lock of their own
 * transaction, which is before `visible`, so nobody who looks waits for it.
 */
#include "engine/local_tx_commit.h"

#include <stdio.h>

#include "engine/failpoint.h"

/* ---- who is of a round ---- */

static bool is_same(const struct tx_work *a, const struct tx_work *b)
{
	const struct staged *x = &a->tx->staged, *y = &b->tx->staged;

	for (size_t i = 0; i < TX_ID_BITS / 64; i++) {
		if (a->ids[i] & b->ids[i])
			return true;
	}
	for (size_t i = 0; i < y->settle_count; i++) {
		if (staged_find_settle(x, y->settles[i].id) != NULL)
			return true;
	}
	for (size_t i = 0; i < y->cursor_count; i++) {
		if (staged_find_cursor(x, y->cursors[i].group, y->cursors[i].partition) != NULL)
			return true;
	}
	return false;
}

static bool fits(const struct tx_work *round, const struct tx_work *work)
{
	for (; round != NULL; round = round->next) {
		if (is_same(round, work))
			return false;
	}
	return true;
}

/* Takes a round out of the line, the first of it in any case. */
static struct tx_work *begin_round(struct local *local)
{
	struct tx_work *round = NULL, **last = &round, **link;

	pthread_mutex_lock(&local->together.lock);
	for (link = &local->together.head; *link != NULL;) {
		struct tx_work *work = *link;

		if (!fits(round, work)) {
			link = &work->next;
			continue;
		}
		*link = work->next;
		work->next = NULL;
		*last = work;
		last = &work->next;
	}
	local->together.tail = link;
	pthread_mutex_unlock(&local->together.lock);
	return round;
}

/* They may be gone as soon as the lock is. */
static void end_round(struct local *local, struct tx_work *round)
{
	pthread_mutex_lock(&local->together.lock);
	for (; round != NULL; round = round->next)
		round->over = true;
	local->together.led = false;
	pthread_cond_broadcast(&local->together.changed);
	pthread_mutex_unlock(&local->together.lock);
}

/* ---- a round ---- */

static void set_result(struct tx_work *work, int rc)
{
	work->rc = rc;
	if (rc < 0)
		snprintf(work->reason, sizeof(work->reason), "%s", engine_reason());
}

/* Does a step of all that were not refused yet; whether some are left. */
static bool do_step(struct tx_work *round, int (*step)(struct tx_work *work))
{
	bool left = false;

	for (struct tx_work *work = round; work != NULL; work = work->next) {
		if (work->rc < 0)
			continue;
		engine_reason_clear();
		set_result(work, step(work));
		left |= work->rc == 0;
	}
	return left;
}

static void end(struct tx_work *round, int synced)
{
	for (struct tx_work *work = round; work != NULL; work = work->next) {
		if (work->rc < 0)
			continue;
		work->uncertain = synced < 0;
		set_result(work, synced);
		if (synced == 0)
			tx_carry_out(work);
	}
}

/* Up to the sync nothing has happened. Alone, routes; what was claimed is locked */
static void write_and_do(struct local *local, struct tx_work *round)
{
	bool noted;
	int rc = 0;

	commit_enter(local);
	noted = do_step(round, tx_note);
	CRASHPOINT("tx_after_note");
	if (noted)
		rc = local->journal_sync.run(&local->journal_sync);
	CRASHPOINT("tx_after_sync");
	end(round, rc);
	CRASHPOINT("tx_after_carry_out");
	commit_leave(local);
}

static void lead(struct local *local)
{
	struct tx_work *round;

	queue_catch_up(local); /* not later: queues may go by it */
	visible_hold();
	visible_begin(local);
	pthread_rwlock_wrlock(&local->routes); /* who publishes holds the send_locks of several, as this does */
	round = begin_round(local);
	if (do_step(round, tx_claim))
		write_and_do(local, round);
	for (struct tx_work *work = round; work != NULL; work = work->next)
		commit_release(&work->commit); /* by the thread that claimed */
	pthread_rwlock_unlock(&local->routes);
	visible_end(local);
	end_round(local, round);
	visible_let_go(); /* whoever is woken delays none of the others */
}

int tx_commit_together(struct tx_work *work)
{
	struct local *local = work->local;
	bool leads;

	pthread_mutex_lock(&local->together.lock);
	*local->together.tail = work;
	local->together.tail = &work->next;
	while (!work->over && (local->together.led || local->together.head != work))
		pthread_cond_wait(&local->together.changed, &local->together.lock);
	leads = !work->over;
	local->together.led |= leads;
	pthread_mutex_unlock(&local->together.lock);
	if (leads)
		lead(local);
	return work->rc < 0 && work->reason[0] != '\0' ? engine_explain(work->rc, "%s", work->reason) : work->rc;
}
