/*
 * What a transaction is asked to stage, or to commit, and cannot: there is no memory, no room, a log cannot be read, or what it is about goes just
 * then. What a call has not staged it says, and the commit does what was staged, and no more; one that is refused may be tried again.
 *
 * The timer thread is stopped: nothing happens but by the calls of the test.
 */
#include "engine/local_commit.h"
#include "engine/local_internal.h"
#include "engine/local_tx.h"
#include "tests/lib/alloc.h"
#include "tests/lib/contract_exchange.h"
#include "tests/lib/contract_tx.h"
#include "tests/lib/fault.h"
#include "tests/lib/nosync.h"

static struct {
	struct contract *c;
	struct local *local;
	struct engine_object *tx, *in, *g;
} t;

static const struct engine_owner owner = { 1, 2, 0755 };

static void begin(void)
{
	t.c = calloc(1, sizeof(*t.c));
	tmpdir_in_memory();
	nosync_install();
	q_open(t.c, true);
	t.local = (struct local *)t.c->engine;
	timers_stop(t.local);
}

static void find(void)
{
	t.in = contract_lookup(t.c, t.c->root, ENGINE_TOPIC, "in");
	t.g = contract_lookup(t.c, t.in, ENGINE_GROUP, "g");
}

static void put(struct engine_object **object)
{
	t.c->ops->put(*object);
	*object = NULL;
}

static void end(void)
{
	put(&t.tx);
	put(&t.g);
	put(&t.in);
	q_close(t.c);
	free(t.c);
}

static void reopen(void)
{
	put(&t.tx);
	put(&t.g);
	put(&t.in);
	contract_reopen(t.c);
	t.local = (struct local *)t.c->engine;
	timers_stop(t.local);
	find();
}

/* A topic with a group that was given all of it. */
static void make_topic(uint32_t partitions, const char *lines)
{
	t.in = contract_topic(t.c, "in", partitions);
	t.g = contract_group(t.c, t.in, "g");
	for (uint32_t p = 0; p < partitions; p++)
		contract_send(t.c, t.in, p, lines);
	contract_snapshot(t.c, t.g);
}

static void begin_tx(void)
{
	struct engine_object *before = NULL;

	put(&t.tx);
	if (t.c->ops->lookup(t.c->engine, t.c->root, ENGINE_TX, "n", &before) == 0)
		assert_ok(t.c->ops->remove(before));
	t.c->ops->put(before);
	assert_ok(t.c->ops->create(t.c->engine, t.c->root, ENGINE_TX, "n", &owner, &t.tx));
}

static void assert_staged(uint64_t messages, uint64_t settles, uint64_t cursors)
{
	struct engine_tx_stat stat;

	assert_ok(t.c->ops->tx->tx_stat(t.tx, &stat));
	cr_assert_eq(stat.state, ENGINE_TX_OPEN);
	cr_assert(stat.messages == messages && stat.settles == settles && stat.cursors == cursors,
	    "%" PRIu64 " %" PRIu64 " %" PRIu64, stat.messages, stat.settles, stat.cursors);
}

static uint64_t dead_letters(void)
{
	struct engine_object *dlq = contract_lookup(t.c, t.g, ENGINE_QUEUE, "dlq");
	struct engine_queue_stat stat;

	assert_ok(t.c->ops->queue->queue_stat(dlq, &stat));
	t.c->ops->put(dlq);
	return stat.ready;
}

static uint64_t committed(void)
{
	struct engine_cursor_stat stat;
	uint64_t sum = 0;

	for (uint32_t p = 0; p < contract_stat(t.c, t.in).partitions; p++) {
		assert_ok(t.c->ops->cursor_stat(t.g, p, &stat));
		sum += stat.committed;
	}
	return sum;
}

/* ---- groups ---- */

/* Of what is rejected all at once that much is staged as it says, and is dead and acked with the commit. */
Test(local_tx_stage, some_are_rejected)
{
	uint64_t n = 0, calls, dead = 0;
	unsigned some = 0, none = 0;

	begin();
	make_topic(3, "a\nb\n");
	do {
		int64_t rejected;

		assert_ok(t.c->ops->seek(t.g, ENGINE_ANY, ENGINE_SEEK_EARLIEST, 0));
		contract_snapshot(t.c, t.g);
		begin_tx();
		alloc_arm(++n);
		rejected = t.c->ops->tx->reject_all(t.tx, t.g, ENGINE_ANY);
		calls = alloc_disarm();
		none += rejected == -ENOMEM;
		some += rejected > 0 && rejected < 6;
		cr_assert(rejected == -ENOMEM || (rejected > 0 && rejected <= 6), "%d", (int)rejected);
		rejected = rejected < 0 ? 0 : rejected;
		assert_ok(t.c->ops->tx->commit(t.tx));
		dead += (uint64_t)rejected;
		cr_assert_eq(dead_letters(), dead, "%" PRIu64, n);
		cr_assert_eq(committed(), (uint64_t)rejected, "%" PRIu64, n);
		cr_assert(rejected == 6 || calls >= n);
	} while (calls >= n);
	cr_assert(some > 3 && none > 1, "%u and %u", some, none);
	end();
}

/* A group that had no memory for the partitions its topic got: what is staged wants it first, or is refused. */
Test(local_tx_stage, grown)
{
	unsigned refused = 0, unfit = 0;
	struct group *group;
	char count[16];

	begin();
	make_topic(1, "a\nb\n");
	begin_tx();
	group = group_of_object((struct object *)t.g);
	for (unsigned i = 0; i < 24; i++) {
		uint32_t *partitions = (uint32_t *)&topic_of_object((struct object *)t.in)->partitions;
		int rc;

		snprintf(count, sizeof(count), "%u", *partitions + 1);
		alloc_arm(1 + i % 4);
		rc = contract_set(t.c, t.in, "partitions", count);
		alloc_disarm();
		if (rc < 0 || group->cursor_count == *partitions)
			continue;
		unfit++;
		alloc_arm(1);
		rc = unfit % 2 ? t.c->ops->tx->ack(t.tx, t.g, 0, 1) : t.c->ops->tx->ack_all(t.tx, t.g, 0);
		alloc_disarm();
		refused += rc == -ENOMEM;
		assert_staged(0, 0, 0);
	}
	cr_assert(unfit > 1 && refused == unfit, "%u of %u", refused, unfit);
	assert_ok(t.c->ops->tx->ack_all(t.tx, t.g, ENGINE_ANY));
	assert_ok(t.c->ops->tx->commit(t.tx));
	cr_assert_eq(committed(), 2);
	end();
}

/* Some of all that was given is acked; which, the commit shows. */
Test(local_tx_stage, some_are_acked)
{
	uint64_t n = 0, calls;
	unsigned refused = 0;

	begin();
	make_topic(6, "a\n");
	do {
		struct engine_tx_stat stat;
		int rc;

		assert_ok(t.c->ops->seek(t.g, ENGINE_ANY, ENGINE_SEEK_EARLIEST, 0));
		contract_snapshot(t.c, t.g);
		begin_tx();
		alloc_arm(++n);
		rc = t.c->ops->tx->ack_all(t.tx, t.g, ENGINE_ANY);
		calls = alloc_disarm();
		refused += rc == -ENOMEM;
		assert_ok(t.c->ops->tx->tx_stat(t.tx, &stat));
		cr_assert(rc == 0 ? stat.cursors == 6 : rc == -ENOMEM && stat.cursors < 6);
		assert_ok(t.c->ops->tx->commit(t.tx));
		cr_assert_eq(committed(), stat.cursors);
	} while (calls >= n);
	cr_assert_gt(refused, 1);
	end();
}

/* There are no descriptors to read a message that is rejected: nothing is staged of it, until there are. */
Test(local_tx_stage, unreadable)
{
	struct engine_tx_stat stat;
	uint64_t n = 0, calls;
	unsigned refused = 0;
	int rc;

	begin();
	make_topic(1, "a\nb\n");
	do {
		reopen();
		begin_tx();
		alloc_arm_reads(++n, EMFILE);
		rc = t.c->ops->tx->reject(t.tx, t.g, 0, 0);
		calls = alloc_disarm_reads();
		refused += rc == -EMFILE;
		assert_ok(t.c->ops->tx->tx_stat(t.tx, &stat));
		cr_assert(rc == 0 ? stat.cursors == 1 : stat.messages == 0 && stat.cursors == 0);
		if (rc < 0)
			assert_ok(t.c->ops->tx->reject(t.tx, t.g, 0, 0));
	} while (calls >= n);
	cr_assert(rc == 0 && refused > 0);
	assert_ok(t.c->ops->tx->commit(t.tx));
	cr_assert(dead_letters() == 1 && committed() == 1);
	end();
}

static void rename_logs(const char *from, const char *to)
{
	char command[PATH_MAX + 128];

	snprintf(command, sizeof(command), "cd '%s/logs' && for log in *%s; do mv \"$log\" \"${log%%%s}%s\"; done",
	    t.c->source, from, from, to);
	cr_assert_eq(system(command), 0, "%s", command);
}

/* Nor is one whose log cannot be opened; what was staged of such a log waits for it, too. */
Test(local_tx_stage, log_cannot_be_opened)
{
	begin();
	make_topic(1, "a\nb\n");
	q_run(t.c, "queue q");
	reopen();
	begin_tx();
	rename_logs("", ".x");
	assert_err(t.c->ops->tx->reject(t.tx, t.g, 0, 0), EIO);
	assert_staged(0, 0, 0);
	assert_ok(t.c->ops->tx->seek(t.tx, t.g, 0, ENGINE_SEEK_OFFSET, 0));
	q_run(t.c, "in n send q x");
	assert_staged(1, 0, 1);
	assert_err(t.c->ops->tx->commit(t.tx), EIO);
	assert_staged(1, 0, 1);
	rename_logs(".x", "");
	assert_ok(t.c->ops->tx->seek(t.tx, t.g, 0, ENGINE_SEEK_OFFSET, 1));
	assert_ok(t.c->ops->tx->commit(t.tx));
	cr_assert_eq(committed(), 1);
	Q_SCRIPT(t.c, "show q => x |  | ");
	end();
}

/* A byte of the only log that has this text. */
static void flip(const char *text)
{
	char command[PATH_MAX + 256];

	snprintf(command, sizeof(command),
	    "cd '%s/logs' && file=$(grep -l %s */*.data) && printf X | dd of=\"$file\" conv=notrunc bs=1 status=none",
	    t.c->source, text);
	cr_assert_eq(system(command), 0, "%s", command);
}

/* Of a damaged message there is nothing to keep: to reject it is to ack it. Without memory it is not, and what was staged before stays. */
Test(local_tx_stage, damaged_is_rejected)
{
	uint64_t n = 0, calls;
	unsigned refused = 0;

	begin();
	make_topic(1, "damaged\n");
	q_run(t.c, "queue q");
	flip("damaged");
	reopen();
	do {
		int rc;

		begin_tx();
		q_forget();
		Q_SCRIPT(t.c, "in n send q x");
		assert_staged(1, 0, 0);
		alloc_arm(++n);
		rc = t.c->ops->tx->reject(t.tx, t.g, 0, 0);
		calls = alloc_disarm();
		cr_assert(rc == 0 || rc == -ENOMEM, "%d", rc);
		refused += rc < 0;
		assert_staged(1, 0, rc == 0);
	} while (calls >= n);
	cr_assert_gt(refused, 0);
	assert_ok(t.c->ops->tx->commit(t.tx));
	cr_assert(dead_letters() == 0 && committed() == 1);
	Q_SCRIPT(t.c, "show q => x |  | ");
	end();
}

/* There is nowhere to keep what is rejected: it is not dropped. */
Test(local_tx_stage, no_dead_letters)
{
	struct engine_object *dlq;

	begin();
	make_topic(1, "a\n");
	begin_tx();
	dlq = contract_lookup(t.c, t.g, ENGINE_QUEUE, "dlq");
	registry_remove(t.local, (struct object *)dlq);
	assert_err(t.c->ops->tx->reject(t.tx, t.g, 0, 0), EIO);
	cr_assert(strstr(engine_reason(), "dead-letter queue") != NULL, "%s", engine_reason());
	assert_staged(0, 0, 0);
	assert_ok(t.c->ops->tx->ack(t.tx, t.g, 0, 0));
	assert_ok(t.c->ops->tx->commit(t.tx));
	cr_assert_eq(committed(), 1);
	t.c->ops->put(dlq);
	end();
}

/* ---- queues ---- */

/* Of a range as many are settled as it says: the lowest. */
Test(local_tx_stage, some_are_settled)
{
	static const char all[] = "a,b,c,d,e,f";
	struct engine_object *holder;
	uint64_t n = 0, calls;
	unsigned some = 0;

	begin();
	Q_SCRIPT(t.c, "queue q", "consumer q/w1");
	holder = q_object(t.c, "q/w1");
	do {
		int64_t staged;
		char left[32];

		q_forget();
		Q_SCRIPT(t.c, "send q a b c d e f", "snap q/w1 => a,b,c,d,e,f");
		begin_tx();
		alloc_arm(++n);
		staged = t.c->ops->tx->settle_all(t.tx, holder, ENGINE_ACK);
		calls = alloc_disarm();
		cr_assert(staged == -ENOMEM || (staged > 0 && staged <= 6), "%d", (int)staged);
		some += staged > 0 && staged < 6;
		staged = staged < 0 ? 0 : staged;
		assert_staged(0, (uint64_t)staged, 0);
		assert_ok(t.c->ops->tx->commit(t.tx));
		strcpy(left, " | ");
		strcat(left, staged < 6 ? all + 2 * staged : "");
		strcat(left, " | ");
		assert_text(q_run(t.c, "show q"), left);
		q_run(t.c, "ack q/w1 all");
	} while (calls >= n);
	cr_assert_gt(some, 0);
	t.c->ops->put(holder);
	end();
}

/* Settled, and removed with its consumer, by somebody else. */
static void remove_queue(void *ctx)
{
	struct engine_object *holder = q_object(t.c, "q/w1"), *q = q_object(t.c, "q");
	pthread_mutex_t *lock = &queue_of_object((struct object *)q)->lock;

	if (pthread_mutex_trylock(lock) == 0) {
		pthread_mutex_unlock(lock);
		assert_ok((int)(t.c->ops->queue->settle_all(holder, ENGINE_ACK) != 2));
		assert_ok(t.c->ops->remove(holder));
		assert_ok(t.c->ops->remove(q));
		*(bool *)ctx = true;
	}
	t.c->ops->put(holder);
	t.c->ops->put(q);
}

/* The queue goes while its leases are staged: what is left of them is not, and the commit is refused. */
Test(local_tx_stage, queue_goes)
{
	unsigned fewer = 0;
	uint64_t n = 0, calls;

	begin();
	do {
		struct engine_object *holder;
		bool removed = false;
		int64_t staged;

		q_forget();
		Q_SCRIPT(t.c, "queue q", "consumer q/w1", "send q a b", "snap q/w1 => a,b");
		begin_tx();
		holder = q_object(t.c, "q/w1");
		alloc_arm_call(++n, remove_queue, &removed);
		staged = t.c->ops->tx->settle_all(t.tx, holder, ENGINE_ACK);
		calls = alloc_disarm();
		fewer += removed && staged == 1;
		cr_assert(staged == 2 || staged == -EIDRM || (removed && (staged == 1 || staged == -ESTALE)), "%d",
		    (int)staged);
		cr_assert_eq(t.c->ops->tx->commit(t.tx), removed && staged > 0 ? -ESTALE : 0);
		t.c->ops->put(holder);
		if (!removed)
			Q_SCRIPT(t.c, "rmdir q/w1", "rmdir q");
	} while (calls >= n);
	cr_assert_gt(fewer, 0);
	end();
}

/* ---- means ---- */

/* No descriptor for the file that much goes to: one of a log that nobody uses is taken. */
Test(local_tx_stage, no_descriptor)
{
	begin();
	make_topic(1, "a\n"); /* a log that is open */
	Q_SCRIPT(t.c, "queue q", "tx n", "in n send q a");
	fault_arm(FAULT_OPEN, 1, EMFILE, false);
	q_run(t.c, "in n send q L:s20000");
	cr_assert_geq(fault_disarm(), 2);
	Q_SCRIPT(t.c, "commit n", "show q => a,L |  | ");
	end();
}

/* Where nobody counts what users hold, there are transactions, too. */
Test(local_tx_stage, nobody_counts)
{
	struct engine_users users;

	begin();
	users = t.local->users;
	t.local->users = (struct engine_users){ 0 };
	Q_SCRIPT(t.c, "queue q", "tx n", "in n send q a", "commit n", "show q => a |  | ");
	t.local->users = users;
	end();
}

/* The sentence about what was removed does without a name, if there was no memory for it. */
Test(local_tx_stage, no_memory_for_a_name)
{
	uint64_t n = 0;
	int rc;

	begin();
	Q_SCRIPT(t.c, "queue q");
	begin_tx();
	do {
		struct engine_object *q = q_object(t.c, "q");
		struct engine_batch batch = contract_batch("x\n");
		struct engine_producer *producer;

		assert_ok(t.c->ops->tx->producer_open(
		    t.tx, q, ENGINE_ANY, false, (struct engine_span){ NULL, 0 }, &producer));
		alloc_arm(++n);
		rc = t.c->ops->producer_send(producer, &batch, NULL);
		alloc_disarm();
		t.c->ops->producer_close(producer);
		t.c->ops->put(q);
	} while (rc < 0);
	assert_staged(1, 0, 0);
	Q_SCRIPT(t.c, "rmdir q");
	assert_err(t.c->ops->tx->commit(t.tx), EIDRM);
	cr_assert_str_eq(engine_reason(), "the target was removed since something was staged for it");
	end();
}

/* ---- the commit ---- */

/* The numbers of messages are out, and the catalog gives no more just then: nothing has happened, and it is open. */
Test(local_tx_stage, no_numbers)
{
	struct engine_object *e;
	struct engine_producer *producer;
	struct engine_batch batch = contract_batch("x\n");
	unsigned refused = 0;

	begin();
	Q_SCRIPT(
	    t.c, "queue q", "queue p", "topic out", "exchange e", "pattern e #", "bind e # p p", "bind e # out out");
	e = q_object(t.c, "e");
	for (uint64_t left = 0; left < 4; left++) {
		int rc;

		q_forget();
		Q_SCRIPT(t.c, "tx n", "in n send q a", "in n send p b");
		t.local->ids.end = t.local->ids.next + left;
		alloc_arm_lmdb(1, EIO);
		q_run(t.c, "commit n");
		alloc_disarm_lmdb();
		refused += strcmp(q_answer(), "ok") != 0;
		if (strcmp(q_answer(), "ok") != 0)
			Q_SCRIPT(t.c, "state n => open 2 0 0", "show q =>  |  | ", "show p =>  |  | ", "commit n");
		assert_ok(checkpoint_run(t.local)); /* what could not come at once comes now */
		Q_SCRIPT(t.c, "state n => committed", "show q => a |  | ", "show p => b |  | ", "purge q", "purge p",
		    "forget n");
		assert_ok(checkpoint_run(t.local)); /* the next note begins anew */
		producer = contract_producer(t.c, e, ENGINE_ANY);
		t.local->ids.end = t.local->ids.next + left;
		alloc_arm_lmdb(1, EIO);
		rc = contract_send_batch(t.c, producer, &batch);
		alloc_disarm_lmdb();
		refused += rc < 0;
		if (rc < 0) {
			assert_err(rc, EIO);
			Q_SCRIPT(t.c, "show p =>  |  | ");
			assert_ok(contract_send_batch(t.c, producer, &batch));
		}
		assert_ok(checkpoint_run(t.local));
		Q_SCRIPT(t.c, "show p => x |  | ", "purge p");
		t.c->ops->producer_close(producer);
	}
	cr_assert_geq(refused, 4);
	t.c->ops->put(e);
	end();
}

/* What others that are on their way still need of the disk is not there for it. */
Test(local_tx_stage, no_room)
{
	begin();
	Q_SCRIPT(t.c, "queue q", "tx n", "in n send q L:s100000");
	atomic_store(&t.local->commits.owed, UINT64_MAX / 2);
	Q_SCRIPT(t.c, "commit n => ENOSPC", "state n => open 1 0 0", "show q =>  |  | ");
	cr_assert_eq(atomic_load(&t.local->commits.owed), UINT64_MAX / 2);
	atomic_store(&t.local->commits.owed, 0);
	Q_SCRIPT(t.c, "commit n", "show q => L |  | ");
	end();
}

/* ---- how they ended ---- */

static void end_all(void)
{
	char command[16];

	for (unsigned i = 0; i < 20; i++) {
		snprintf(command, sizeof(command), "tx s%u", i);
		q_run(t.c, command);
		snprintf(command, sizeof(command), "rollback s%u", i);
		assert_text(q_run(t.c, command), "ok");
	}
}

static void remove_first(void *ctx)
{
	(void)ctx;
	q_run(t.c, "forget s0");
	alloc_arm_lmdb(1, EIO);
}

/* One goes while the catalog is told how they ended, which fails: of all others it is told the next time. */
Test(local_tx_stage, one_goes_while_they_are_saved)
{
	struct engine_object *none = NULL;

	begin();
	end_all();
	alloc_arm_call(2, remove_first, NULL); /* more room for the rows */
	assert_err(tx_checkpoint(t.local), EIO);
	alloc_disarm_lmdb();
	alloc_disarm();
	assert_ok(tx_checkpoint(t.local));
	contract_reopen(t.c);
	Q_SCRIPT(t.c, "state s1 => aborted rollback", "state s19 => aborted rollback");
	assert_err(t.c->ops->lookup(t.c->engine, t.c->root, ENGINE_TX, "s0", &none), ENOENT);
	end();
}

/* The disk is full for the catalog: the reserve has room for it. */
Test(local_tx_stage, saved_from_the_reserve)
{
	uint64_t n = 0, calls;

	begin();
	do {
		char command[32];

		snprintf(command, sizeof(command), "tx s%" PRIu64, n);
		q_run(t.c, command);
		snprintf(command, sizeof(command), "rollback s%" PRIu64, n);
		q_run(t.c, command);
		alloc_arm_lmdb(++n, ENOSPC);
		assert_ok(tx_checkpoint(t.local));
		calls = alloc_disarm_lmdb();
	} while (calls >= n);
	cr_assert_gt(n, 2);
	contract_reopen(t.c);
	Q_SCRIPT(t.c, "state s0 => aborted rollback", "state s1 => aborted rollback");
	end();
}
