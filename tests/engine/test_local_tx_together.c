/*
 * Transactions that are committed at the same time share a sync, and are each whole all the same.
 *
 * The first committer is held in the sync of its note until the others have joined the line; these are then one round. So it is known
 * how many syncs there are, and what a round does with transactions that want the same.
 */
#include <sched.h>
#include <stdatomic.h>

#include "engine/io.h"
#include "engine/local_tx_commit.h"
#include "tests/lib/contract_tx.h"
#include "tests/lib/crash.h"
#include "tests/lib/nosync.h"

#define OTHERS 8u

/* ---- a sync that waits for others to join ---- */

static struct {
	const struct io_ops *below;
	struct local *local;
	unsigned others;
	_Atomic unsigned syncs;
} gate;

static unsigned joined(struct local *local)
{
	unsigned count = 0;

	pthread_mutex_lock(&local->together.lock);
	for (const struct tx_work *work = local->together.head; work != NULL; work = work->next)
		count++;
	pthread_mutex_unlock(&local->together.lock);
	return count;
}

static int gated_sync(int fd)
{
	if (atomic_fetch_add(&gate.syncs, 1) == 0) {
		while (joined(gate.local) < gate.others)
			sched_yield();
	}
	return gate.below->fdatasync(fd);
}

static void gate_close(struct contract *c, unsigned others)
{
	static struct io_ops gated;

	gate.below = io;
	gate.local = (struct local *)c->engine;
	gate.others = others;
	atomic_store(&gate.syncs, 0);
	gated = *io;
	gated.fdatasync = gated_sync;
	io = &gated;
}

static unsigned gate_open(void)
{
	io = gate.below;
	return atomic_load(&gate.syncs);
}

/* ---- committers ---- */

struct committer {
	struct contract *c;
	struct engine_object *tx;
	pthread_t thread;
	unsigned behind; /* it joins when so many have */
	int rc;
};

static void *commit(void *arg)
{
	struct committer *committer = arg;

	/* The first is in its sync when the second begins: else they would be one round. */
	while (atomic_load(&gate.syncs) == 0 && committer->behind > 0)
		sched_yield();
	while (committer->behind > 0 && joined(gate.local) < committer->behind - 1)
		sched_yield();
	committer->rc = committer->c->ops->tx->commit(committer->tx);
	return NULL;
}

/* Commits t0, and while that syncs t1 to tN, in this order. Returns how many syncs that took. */
static unsigned commit_all(struct contract *c, unsigned others, int rcs[OTHERS + 1])
{
	struct committer committers[OTHERS + 1];
	char name[8];

	timers_stop((struct local *)c->engine);
	gate_close(c, others);
	for (unsigned i = 0; i <= others; i++) {
		snprintf(name, sizeof(name), "t%u", i);
		committers[i] =
		    (struct committer){ .c = c, .behind = i, .tx = contract_lookup(c, c->root, ENGINE_TX, name) };
		cr_assert_eq(pthread_create(&committers[i].thread, NULL, commit, &committers[i]), 0);
	}
	for (unsigned i = 0; i <= others; i++) {
		pthread_join(committers[i].thread, NULL);
		rcs[i] = committers[i].rc;
		c->ops->put(committers[i].tx);
	}
	return gate_open();
}

/* So that no commit has to sync what it consumes, which the gate would hold back. */
static void bring_to_disk(struct contract *c, const char *queue, struct engine_object *topic)
{
	struct engine_object *object = queue != NULL ? q_object(c, queue) : NULL;
	struct sync_point *point;

	if (object != NULL) {
		point = &queue_lane(queue_of_object((struct object *)object), 0)->sync;
		assert_ok(point->run(point));
		c->ops->put(object);
	}
	if (topic != NULL) {
		point = &topic_partition(topic_of_object((struct object *)topic), 0)->sync;
		assert_ok(point->run(point));
	}
	assert_ok(checkpoint_run((struct local *)c->engine));
}

#define TOGETHER_TEST(name)                                                                                            \
	static void name(struct contract *c);                                                                          \
	Test(local_tx_together, name, .timeout = 40)                                                                   \
	{                                                                                                              \
		contract_queue_run(true, name);                                                                        \
	}                                                                                                              \
	static void name(struct contract *c)

/* ---- how many syncs ---- */

TOGETHER_TEST(one_sync_for_all)
{
	char command[64];
	int rcs[OTHERS + 1];

	Q_SCRIPT(c, "queue q", "send q z", "purge q"); /* its lane is made */
	for (unsigned i = 0; i <= OTHERS; i++) {
		snprintf(command, sizeof(command), "tx t%u", i);
		q_run(c, command);
		snprintf(command, sizeof(command), "in t%u send q m%u", i, i);
		q_run(c, command);
	}
	bring_to_disk(c, NULL, NULL);
	cr_assert_eq(commit_all(c, OTHERS, rcs), 2, "%u syncs", gate.syncs);
	for (unsigned i = 0; i <= OTHERS; i++)
		assert_ok(rcs[i]);
	Q_SCRIPT(c, "show q => m0,m1,m2,m3,m4,m5,m6,m7,m8 |  | ");
	q_run(c, "state t8");
	assert_text(q_answer(), "committed");
}

/* Of two that settle the same message, one; it is another round, which has nothing to note, and no sync. */
TOGETHER_TEST(same_message)
{
	int rcs[OTHERS + 1];

	Q_SCRIPT(c, "queue q", "queue p", "send p z", "purge p", "consumer q/w1", "send q a b", "snap q/w1 => a,b",
	    "tx t0", "tx t1", "tx t2", "tx t3", "in t0 send p x0", "in t1 ack q/w1 a => 1", "in t1 send p x1",
	    "in t2 ack q/w1 a => 1", "in t2 send p x2", "in t3 ack q/w1 b => 1", "in t3 send p x3");
	bring_to_disk(c, "q", NULL);
	cr_assert_eq(commit_all(c, 3, rcs), 2);
	assert_ok(rcs[0]);
	assert_ok(rcs[1]);
	cr_assert_eq(rcs[2], -ESTALE);
	assert_ok(rcs[3]);
	Q_SCRIPT(c, "show p => x0,x1,x3 |  | ", "show q =>  |  | ", "state t2 => aborted refused");
}

/* The same of a cursor; and the reason is told in the thread that asked. */
TOGETHER_TEST(same_cursor)
{
	static const struct engine_owner owner = { 1, 2, 0755 };
	struct engine_object *topic = contract_topic(c, "in", 1), *group = contract_group(c, topic, "g"), *tx;
	struct engine_object *other = contract_group(c, topic, "h");
	int rcs[OTHERS + 1];
	char name[8];

	contract_send(c, topic, 0, "a\nb\n");
	assert_text(contract_snapshot(c, group), "0:0=a 0:1=b");
	assert_text(contract_snapshot(c, other), "0:0=a 0:1=b");
	Q_SCRIPT(c, "queue p", "send p z", "purge p");
	for (unsigned i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "t%u", i);
		assert_ok(c->ops->create(c->engine, c->root, ENGINE_TX, name, &owner, &tx));
		if (i > 0)
			assert_ok(c->ops->tx->ack(tx, i == 3 ? other : group, 0, i == 1 ? 1 : 0));
		c->ops->put(tx);
	}
	Q_SCRIPT(c, "in t0 send p x0", "in t1 send p x1", "in t2 send p x2", "in t3 send p x3");
	bring_to_disk(c, NULL, topic);
	cr_assert_eq(commit_all(c, 3, rcs), 2);
	assert_ok(rcs[1]);
	cr_assert_eq(rcs[2], -ESTALE);
	assert_ok(rcs[3]);
	Q_SCRIPT(c, "show p => x0,x1,x3 |  | ");
	assert_text(contract_cursor(c, group, 0), "2 2 0");
	assert_text(contract_cursor(c, other, 0), "1 2 0");
	c->ops->put(other);
	c->ops->put(group);
	c->ops->put(topic);
}

/* ---- one refused among others ---- */

TOGETHER_TEST(one_is_refused)
{
	int rcs[OTHERS + 1];

	Q_SCRIPT(c, "queue q", "queue p", "send q z", "send p y", "purge q", "purge p", "set p max.length 1 => ok",
	    "set p overflow reject-publish => ok", "tx t0", "tx t1", "tx t2", "tx t3", "in t0 send q x0",
	    "in t1 send q x1", "in t1 send p y1", "in t2 send q x2", "in t2 send p y2", "in t3 send q x3");
	bring_to_disk(c, NULL, NULL);
	cr_assert_eq(commit_all(c, 3, rcs), 2);
	assert_ok(rcs[1]);
	cr_assert_eq(rcs[2], -EDQUOT);
	assert_ok(rcs[3]);
	Q_SCRIPT(c, "show q => x0,x1,x3 |  | ", "show p => y1 |  | ", "state t2 => open 2 0 0");
}

/* ---- at every change of a file ---- */

static bool has(const char *list, const char *word)
{
	const char *found = strstr(list, word);

	cr_assert(found == NULL || strstr(found + 1, word) == NULL, "%s is twice in \"%s\"", word, list);
	return found != NULL;
}

static unsigned check_crash(const struct powercut *cut, size_t n, uint64_t seed, bool kill, bool all)
{
	struct contract *c = calloc(1, sizeof(*c));
	char q[256], p[256], out[256], word[8], state[32];
	unsigned committed = 0;
	struct engine_object *topic;

	q_prepare(c, true);
	crash_make(c, cut, n, seed, kill);
	contract_open(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "out");
	snprintf(q, sizeof(q), "%s", q_run(c, "show q"));
	snprintf(p, sizeof(p), "%s", q_run(c, "show p"));
	snprintf(out, sizeof(out), "%s", contract_read(c, topic, 0, 0));
	c->ops->put(topic);
	for (unsigned i = 0; i <= 3; i++) {
		bool is;

		snprintf(state, sizeof(state), "state t%u", i);
		is = strcmp(q_run(c, state), "committed") == 0;
		committed += is;
		cr_assert(is || !all, "t%u has returned, and %zu changes lost it", i, n);
		snprintf(word, sizeof(word), "x%u", i);
		cr_assert_eq(has(p, word), is, "%zu, seed %" PRIu64 ": %s in \"%s\"", n, seed, word, p);
		snprintf(word, sizeof(word), "y%u", i);
		cr_assert_eq(has(out, word), is, "%zu, seed %" PRIu64 ": %s in \"%s\"", n, seed, word, out);
		snprintf(word, sizeof(word), "a%u", i);
		cr_assert_eq(has(q, word), !is, "%zu, seed %" PRIu64 ": %s in \"%s\"", n, seed, word, q);
	}
	q_close(c);
	free(c);
	return committed;
}

static void prepare(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "out", 1), *tx;
	struct engine_producer *producer;
	struct engine_batch batch;
	char text[64], line[8];

	Q_SCRIPT(c, "queue q", "queue p", "send p z", "purge p", "consumer q/w1", "send q a0 a1 a2 a3",
	    "snap q/w1 => a0,a1,a2,a3");
	for (unsigned i = 0; i <= 3; i++) {
		snprintf(text, sizeof(text), "tx t%u", i);
		q_run(c, text);
		snprintf(text, sizeof(text), "in t%u ack q/w1 a%u", i, i);
		assert_text(q_run(c, text), "1");
		snprintf(text, sizeof(text), "in t%u send p x%u", i, i);
		q_run(c, text);
		snprintf(text, sizeof(text), "t%u", i);
		tx = contract_lookup(c, c->root, ENGINE_TX, text);
		snprintf(line, sizeof(line), "y%u\n", i);
		batch = contract_batch(line);
		assert_ok(c->ops->tx->producer_open(
		    tx, topic, ENGINE_ANY, false, (struct engine_span){ NULL, 0 }, &producer));
		assert_ok(c->ops->producer_send(producer, &batch, NULL));
		c->ops->producer_close(producer);
		c->ops->put(tx);
	}
	c->ops->put(topic);
}

Test(local_tx_together, every_change, .timeout = 40)
{
	struct contract *c = calloc(1, sizeof(*c));
	unsigned counts[5] = { 0 };
	struct powercut *cut;
	size_t begin, end, last;
	int rcs[OTHERS + 1];

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	prepare(c);
	bring_to_disk(c, "q", NULL);
	timers_stop((struct local *)c->engine);
	cut = powercut_start_store(((struct local *)c->engine)->store.dirfd, "catalog", "reserve");
	begin = powercut_count(cut);
	cr_assert_eq(commit_all(c, 3, rcs), 2);
	end = powercut_count(cut);
	assert_ok(checkpoint_run((struct local *)c->engine));
	last = powercut_count(cut);
	powercut_stop(cut);
	q_close(c);
	for (size_t n = begin; n <= last; n++) {
		for (uint64_t seed = 0; seed < 5; seed++)
			counts[check_crash(cut, n, seed < 2 ? seed : n * 4 + seed, seed == 4, n >= end)]++;
	}
	cr_assert(counts[0] > 0 && counts[1] > 0 && counts[4] > 0, "%u %u %u", counts[0], counts[1], counts[4]);
	powercut_free(cut);
	free(c);
}

/* ---- ids ---- */

static int send_id(struct contract *c, struct engine_producer *producer, const char *line)
{
	struct engine_props props = ENGINE_PROPS_INIT;
	struct engine_batch batch = contract_batch(line);

	props.id = (struct engine_span){ "id", 2 };
	batch.props = &props;
	return c->ops->producer_send(producer, &batch, NULL);
}

static void stage_id(struct contract *c, const char *name, struct engine_object *target, const char *line)
{
	struct engine_object *tx = contract_lookup(c, c->root, ENGINE_TX, name);
	struct engine_producer *producer = NULL;

	assert_ok(c->ops->tx->producer_open(tx, target, ENGINE_ANY, false, (struct engine_span){ NULL, 0 }, &producer));
	assert_ok(send_id(c, producer, line));
	c->ops->producer_close(producer);
	c->ops->put(tx);
}

/* What is left out, as it was sent before, is on disk when the commit returns: by a producer, or by another of the line. */
static void check_seen(bool by_producer)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct engine_object *topic;
	struct engine_producer *producer;
	struct powercut *cut;
	int rcs[OTHERS + 1];
	size_t n;

	nosync_install();
	q_open(c, true);
	topic = contract_topic(c, "out", 1);
	assert_ok(contract_set(c, topic, "dedup.window.ms", "60000"));
	Q_SCRIPT(c, "queue q", "send q z", "purge q", "tx t0", "tx t1", "tx t2", "in t0 send q x0", "in t1 send q x1",
	    "in t2 send q x2");
	if (!by_producer)
		stage_id(c, "t1", topic, "m\n");
	stage_id(c, "t2", topic, "m\n");
	bring_to_disk(c, NULL, NULL);
	timers_stop((struct local *)c->engine);
	cut = powercut_start_store(((struct local *)c->engine)->store.dirfd, "catalog", "reserve");
	if (by_producer) {
		producer = contract_producer(c, topic, ENGINE_ANY);
		assert_ok(send_id(c, producer, "m\n"));
		c->ops->producer_close(producer);
	}
	/* Another round, so that both notes cannot be lost but the later; and a sync of what it leaves out. */
	cr_assert_gt(commit_all(c, 2, rcs), 2);
	assert_ok(rcs[2]);
	n = powercut_count(cut);
	powercut_stop(cut);
	c->ops->put(topic);
	crash_replace(c, cut, n, 0, false);
	contract_open(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "out");
	assert_text(contract_read(c, topic, 0, 0), "0=m");
	assert_text(q_run(c, "state t2"), "committed");
	c->ops->put(topic);
	q_close(c);
	powercut_free(cut);
	free(c);
}

Test(local_tx_together, seen_by_a_producer)
{
	check_seen(true);
}

Test(local_tx_together, seen_by_another)
{
	check_seen(false);
}

/* ---- one moment ---- */

static struct {
	struct local *local;
	const struct io_ops *below;
	unsigned kept_out, let_in;
} looks;

/* Whoever would look now. */
static ssize_t write_and_look(int fd, const struct iovec *iov, int count, off_t pos)
{
	if (pthread_rwlock_tryrdlock(&looks.local->visible) == 0) {
		pthread_rwlock_unlock(&looks.local->visible);
		looks.let_in++;
	} else {
		looks.kept_out++;
	}
	return looks.below->pwritev(fd, iov, count, pos);
}

/* From its note to the last of its messages nobody can look. */
Test(local_tx_together, nobody_looks_meanwhile)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct engine_object *topic, *tx;
	struct io_ops looking;

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	topic = contract_topic(c, "out", 1);
	Q_SCRIPT(c, "queue q", "tx t0", "in t0 send q x0");
	stage_id(c, "t0", topic, "m\n");
	tx = contract_lookup(c, c->root, ENGINE_TX, "t0");
	looks.local = (struct local *)c->engine;
	timers_stop(looks.local);
	looks.below = io;
	looking = *io;
	looking.pwritev = write_and_look;
	io = &looking;
	assert_ok(c->ops->tx->commit(tx));
	io = looks.below;
	cr_assert_eq(looks.let_in, 0);
	cr_assert_geq(looks.kept_out, 5); /* the note; data and index of two logs */
	c->ops->put(tx);
	c->ops->put(topic);
	q_close(c);
	free(c);
}
