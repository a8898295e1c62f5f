/*
 * A commit any one call of which fails: an allocation, a read, a change of a file. Then it has happened, or nothing has; while the daemon
 * goes on as after the next start. What is refused is open still, and is committed the second time; what is uncertain tells the start.
 *
 * The transaction does one of everything: it produces to a queue in several ways, to its head, to a topic by key and by partition, through
 * an exchange, and what was seen before, with more bytes than are kept in memory; it acks, nacks and rejects what is leased, and
 * acks, rejects and seeks of a group, and of a member. In which order what comes late stands in a queue is left open.
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
	struct engine_object *tx, *in, *out, *g, *h, *k, *one;
	uint64_t base; /* where `in` ended before the round */
	unsigned round, before, after;
	char text[4096];
} t;

static const struct engine_owner owner = { 1, 2, 0755 };

/* ---- objects ---- */

static void find(void)
{
	struct contract *c = t.c;

	t.in = contract_lookup(c, c->root, ENGINE_TOPIC, "in");
	t.out = contract_lookup(c, c->root, ENGINE_TOPIC, "out");
	t.g = contract_lookup(c, t.in, ENGINE_GROUP, "g");
	t.h = contract_lookup(c, t.in, ENGINE_GROUP, "h");
	t.k = contract_lookup(c, t.in, ENGINE_GROUP, "k");
	t.one = contract_lookup(c, t.k, ENGINE_MEMBER, "one");
	timers_stop((struct local *)c->engine);
}

static void put_all(void)
{
	struct engine_object **all[] = { &t.in, &t.out, &t.g, &t.h, &t.k, &t.one, &t.tx };

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		t.c->ops->put(*all[i]);
		*all[i] = NULL;
	}
}

static void make(struct engine_object *parent, enum engine_kind kind, const char *name)
{
	struct engine_object *object = NULL;

	assert_ok(t.c->ops->create(t.c->engine, parent, kind, name, &owner, &object));
	t.c->ops->put(object);
}

static void begin(void)
{
	struct contract *c = t.c = calloc(1, sizeof(*t.c));
	struct engine_object *in, *k;

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	Q_SCRIPT(c, "queue q", "queue p", "queue o", "consumer q/w1", "topic out", "exchange e", "pattern e #",
	    "bind e # p p", "bind e # out out", "set out partitions 2 => ok", "set p dedup.window.ms 3600000 => ok",
	    "set p max.priority 9 => ok", "set p max.length 100 => ok", "set p overflow reject-publish => ok",
	    "set out dedup.window.ms 3600000 => ok");
	in = contract_topic(c, "in", 1);
	for (unsigned i = 0; i < 3; i++)
		make(in, ENGINE_GROUP, (const char *const[]){ "g", "h", "k" }[i]);
	k = contract_lookup(c, in, ENGINE_GROUP, "k");
	make(k, ENGINE_MEMBER, "one");
	c->ops->put(k);
	c->ops->put(in);
	find();
}

static void end(void)
{
	put_all();
	q_close(t.c);
	free(t.c);
}

/* What does not work any more after a fault may say so. */
static void reopen(void)
{
	put_all();
	t.c->ops->put(t.c->root);
	(void)t.c->ops->close(t.c->engine);
	contract_open(t.c);
	find();
}

/* ---- what is there ---- */

static int by_letter(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Its words in the order of the alphabet. */
static void add_words(const char *list)
{
	char *copy = strdup(list), *words[64], *save = NULL;
	size_t count = 0;

	for (char *word = strtok_r(copy, " |,", &save); word != NULL; word = strtok_r(NULL, " |,", &save))
		words[count++] = strchr(word, '=') != NULL ? strchr(word, '=') + 1 : word;
	qsort(words, count, sizeof(words[0]), by_letter);
	for (size_t i = 0; i < count; i++)
		strcat(strcat(t.text, words[i]), " ");
	strcat(t.text, "| ");
	free(copy);
}

static void add_cursor(struct engine_object *group)
{
	struct engine_cursor_stat stat;

	assert_ok(t.c->ops->cursor_stat(group, 0, &stat));
	sprintf(t.text + strlen(t.text), "%d ", (int)(stat.committed - t.base));
}

static uint64_t ready(struct engine_object *group)
{
	struct engine_object *dlq = contract_lookup(t.c, group, ENGINE_QUEUE, "dlq");
	struct engine_queue_stat stat;

	assert_ok(t.c->ops->queue->queue_stat(dlq, &stat));
	t.c->ops->put(dlq);
	return stat.ready;
}

static const char *describe(void)
{
	static const char *const shown[] = { "show q", "show q/dlq", "show p", "show o" };
	char out[1024] = "";

	t.text[0] = '\0';
	q_forget();
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
		add_words(q_run(t.c, shown[i]));
	for (uint32_t p = 0; p < 2; p++)
		strcat(strcat(out, contract_read(t.c, t.out, p, contract_partition(t.c, t.out, p).earliest)), " ");
	add_words(out); /* in which partition is not told */
	add_cursor(t.g);
	add_cursor(t.h);
	add_cursor(t.k);
	sprintf(t.text + strlen(t.text), "%d %d", (int)ready(t.g), (int)ready(t.k));
	return t.text;
}

#define BEFORE "a b c d | | seen | | seen | 0 0 0 0 0"
#define AFTER "b d | c | new seen twice x0 x1 x2 x3 z1 | L | new seen twice y0 y1 y2 z1 | 2 3 2 1 1"

/* ---- a round ---- */

/* tx: or at once. id: of the message, "" for none; it is new in each round. */
static void send(
    struct engine_object *target, bool tx, uint32_t partition, const char *key, const char *id, const char *lines)
{
	struct contract *c = t.c;
	struct engine_header header = { { "name", 4 }, { "value", 5 } };
	struct engine_batch batch = contract_batch(lines);
	struct engine_props props = ENGINE_PROPS_INIT;
	struct engine_producer *producer = NULL;
	struct engine_span span = { key, key != NULL ? strlen(key) : 0 };
	struct engine_identity identity;
	char name[32];

	assert_ok(c->ops->identity(target, &identity));
	snprintf(name, sizeof(name), "%s%u", id, t.round);
	props.id = (struct engine_span){ name, strlen(name) };
	props.headers = &header;
	props.header_count = 1;
	batch.props = id[0] != '\0' ? &props : NULL;
	if (tx)
		assert_ok(c->ops->tx->producer_open(t.tx, target, partition, false, span, &producer));
	else if (identity.kind == ENGINE_QUEUE)
		assert_ok(c->ops->queue->producer_open(target, partition, false, &producer));
	else
		assert_ok(c->ops->producer_open(target, partition, span, &producer));
	assert_ok(contract_send_batch(c, producer, &batch));
	c->ops->producer_close(producer);
}

static void stage(void)
{
	struct contract *c = t.c;
	struct engine_object *p = q_object(c, "p"), *e = q_object(c, "e");

	Q_SCRIPT(c, "in n ack q/w1 a => 1", "in n nack q/w1 b => 1", "in n reject q/w1 c => 1",
	    "in n send p x1 x2:p5 x3:d100000000", "in n push p x0", "in n send o L:s20000");
	send(t.out, true, 0, NULL, "", "y0\n");
	send(t.out, true, 1, "key", "", "y1\ny2\n");
	send(t.out, true, 1, NULL, "new", "new\n");
	send(p, true, ENGINE_ANY, NULL, "new", "new\n");
	send(p, true, ENGINE_ANY, NULL, "seen", "never\n"); /* it is there, in all partitions */
	send(t.out, true, 0, NULL, "seen", "never\n");
	send(t.out, true, 1, NULL, "twice", "twice\n");
	send(p, true, ENGINE_ANY, NULL, "twice", "twice\n");
	send(e, true, ENGINE_ANY, "r", "", "z1\n");
	assert_ok(c->ops->tx->reject(t.tx, t.g, 0, t.base));
	assert_ok(c->ops->tx->ack(t.tx, t.g, 0, t.base + 1));
	assert_ok(c->ops->tx->seek(t.tx, t.h, 0, ENGINE_SEEK_OFFSET, (int64_t)t.base + 3));
	assert_ok(c->ops->tx->reject(t.tx, t.one, 0, t.base));
	assert_ok(c->ops->tx->ack(t.tx, t.one, 0, t.base + 1));
	c->ops->put(e);
	c->ops->put(p);
}

static void begin_round(void)
{
	struct contract *c = t.c;
	struct engine_object *p = q_object(c, "p");

	t.round++;
	t.base = contract_partition(c, t.in, 0).end;
	q_forget();
	Q_SCRIPT(c, "send q a b c d", "snap q/w1 => a,b,c,d", "tx n");
	send(p, false, ENGINE_ANY, NULL, "seen", "seen\n");
	send(t.out, false, 0, NULL, "seen", "seen\n");
	c->ops->put(p);
	contract_send(c, t.in, 0, "m1\nm2\nm3\n");
	contract_snapshot(c, t.g);
	contract_snapshot(c, t.one);
	t.tx = contract_lookup(c, c->root, ENGINE_TX, "n");
	stage();
	assert_text(describe(), BEFORE);
}

static void end_round(void)
{
	static const char *const purges[] = { "purge q", "purge q/dlq", "purge p", "purge o", "forget n" };
	struct contract *c = t.c;
	struct engine_object *groups[] = { t.g, t.k };

	q_run(c, "ack q/w1 all");
	for (size_t i = 0; i < sizeof(purges) / sizeof(purges[0]); i++)
		assert_text(q_run(c, purges[i]), "ok");
	for (size_t i = 0; i < 2; i++) {
		struct engine_object *dlq = contract_lookup(c, groups[i], ENGINE_QUEUE, "dlq");

		assert_ok(c->ops->queue->purge(dlq));
		c->ops->put(dlq);
		assert_ok(c->ops->seek(groups[i], 0, ENGINE_SEEK_LATEST, 0));
	}
	assert_ok(c->ops->seek(t.h, 0, ENGINE_SEEK_LATEST, 0));
	assert_ok(c->ops->partition_purge(t.out, ENGINE_ANY, ENGINE_OFFSET_NONE));
	c->ops->put(t.tx);
	t.tx = NULL;
}

/* ---- one call fails ---- */

struct way {
	const char *name;
	void (*arm)(uint64_t n);
	uint64_t (*disarm)(void);
	bool breaks; /* the engine may not go on as before */
};

static void check(const struct way *way, uint64_t n, const char *when, bool committed)
{
	const char *now = describe();

	cr_assert_str_eq(now, committed ? AFTER : BEFORE, "%s %" PRIu64 ", %s, %s:\n%s\nand not\n%s", way->name, n,
	    when, committed ? "committed" : "not committed", now, committed ? AFTER : BEFORE);
}

/* Whether it is committed, as it says itself. */
static bool is_committed(void)
{
	struct engine_tx_stat stat;
	struct engine_object *tx = contract_lookup(t.c, t.c->root, ENGINE_TX, "n");

	assert_ok(t.c->ops->tx->tx_stat(tx, &stat));
	t.c->ops->put(tx);
	return stat.state == ENGINE_TX_COMMITTED;
}

/* Returns false if there was no n-th call. */
static bool fail(const struct way *way, uint64_t n)
{
	struct local *local = (struct local *)t.c->engine;
	struct engine_tx_stat stat;
	uint64_t calls;
	bool late;
	int rc;

	begin_round();
	way->arm(n);
	rc = t.c->ops->tx->commit(t.tx);
	calls = way->disarm();
	t.before += rc < 0;
	t.after += rc == 0;
	if (rc < 0 && t.c->ops->tx->tx_stat(t.tx, &stat) == 0) { /* nothing has happened, and it is open */
		cr_assert_eq(stat.state, ENGINE_TX_OPEN, "%s %" PRIu64 ": %s", way->name, n, strerrorname_np(-rc));
		check(way, n, "refused", false);
		rc = t.c->ops->tx->commit(t.tx);
		cr_assert(rc == 0 || way->breaks, "%s %" PRIu64 ", again: %s", way->name, n, strerrorname_np(-rc));
	}
	if (rc < 0 && t.c->ops->tx->tx_stat(t.tx, &stat) < 0) { /* the next start tells */
		assert_err(t.c->ops->tx->commit(t.tx), EIO);
		assert_err(t.c->ops->tx->rollback(t.tx), EIO);
	}
	late = atomic_load(&local->commits.stuck) || commit_keeps_some(local);
	if (rc == 0 && !late)
		check(way, n, "while it goes on", true);
	if (late || way->breaks) {
		reopen();
		cr_assert(rc < 0 || is_committed(), "%s %" PRIu64 ": it has returned, and is lost", way->name, n);
		check(way, n, "after a start", is_committed());
		reopen();
		check(way, n, "after another", is_committed());
	}
	t.tx = t.tx != NULL ? t.tx : contract_lookup(t.c, t.c->root, ENGINE_TX, "n");
	end_round();
	return calls >= n;
}

static void fail_each(const struct way *way)
{
	begin();
	for (uint64_t n = 1; fail(way, n); n++)
		;
	cr_assert(t.before > 3 && t.after > 1, "%u and %u", t.before, t.after);
	end();
}

static void read_fails(uint64_t n)
{
	alloc_arm_reads(n, EIO);
}

static void no_descriptor(uint64_t n)
{
	alloc_arm_reads(n, EMFILE);
}

static void change_fails(uint64_t n)
{
	fault_arm(FAULT_ANY, n, EIO, false);
}

static void no_memory_for_a_change(uint64_t n)
{
	fault_arm(FAULT_WRITE, n, ENOMEM, false);
}

static void disk_is_full(uint64_t n)
{
	fault_arm(FAULT_WRITE | FAULT_TRUNCATE | FAULT_OPEN, n, ENOSPC, true);
}

Test(local_tx_fault, allocations)
{
	fail_each(&(struct way){ "allocation", alloc_arm, alloc_disarm, false });
}

Test(local_tx_fault, reads)
{
	fail_each(&(struct way){ "read", read_fails, alloc_disarm_reads, false });
}

Test(local_tx_fault, descriptors)
{
	fail_each(&(struct way){ "read", no_descriptor, alloc_disarm_reads, false });
}

Test(local_tx_fault, changes)
{
	fail_each(&(struct way){ "change", change_fails, fault_disarm, true });
}

Test(local_tx_fault, memory_for_changes)
{
	static const struct way way = { "change", no_memory_for_a_change, fault_disarm, true };

	begin();
	for (uint64_t n = 1; fail(&way, n); n++)
		;
	cr_assert_gt(t.after, 10); /* most is tried again */
	end();
}

Test(local_tx_fault, full)
{
	fail_each(&(struct way){ "change", disk_is_full, fault_disarm, true });
}

/* ---- and beside the commit ---- */

/* A call of staging that has no memory, or no descriptor, has staged nothing. */
Test(local_tx_fault, staging)
{
	begin();
	begin_round();
	assert_ok(t.c->ops->tx->rollback(t.tx));
	assert_ok(t.c->ops->remove(t.tx));
	t.c->ops->put(t.tx);
	q_run(t.c, "tx n");
	t.tx = contract_lookup(t.c, t.c->root, ENGINE_TX, "n");
	contract_allocs_fail = true;
	assert_ok(contract_set(t.c, t.in, "partitions", "2")); /* each group is to make room for that */
	stage();
	contract_allocs_fail = false;
	assert_ok(t.c->ops->tx->commit(t.tx));
	assert_text(describe(), AFTER);
	end_round();
	fault_arm(FAULT_OPEN, 1, EMFILE, false); /* where what is staged goes to a file */
	begin_round();
	cr_assert_geq(fault_disarm(), 1);
	assert_ok(t.c->ops->tx->commit(t.tx));
	assert_text(describe(), AFTER);
	end_round();
	end();
}

/* The groups of a topic that has grown, in all calls that look at all partitions. */
Test(local_tx_fault, grown)
{
	struct contract *c;
	char count[16];
	int64_t rejected;
	uint64_t n = 0;

	begin();
	c = t.c;
	for (unsigned i = 2; i < 8; i++) {
		snprintf(count, sizeof(count), "%u", i);
		make(c->root, ENGINE_TX, "n");
		t.tx = contract_lookup(c, c->root, ENGINE_TX, "n");
		contract_send(c, t.in, 0, "m1\nm2\n");
		contract_snapshot(c, t.g);
		assert_ok(contract_set(c, t.in, "partitions", count));
		contract_allocs_fail = true;
		if (i == 2)
			assert_ok(c->ops->tx->ack_all(t.tx, t.g, ENGINE_ANY));
		else if (i == 3)
			assert_err(c->ops->tx->ack(t.tx, t.g, 1, 7), ERANGE);
		else if (i == 4)
			assert_ok(c->ops->tx->seek(t.tx, t.g, ENGINE_ANY, ENGINE_SEEK_LATEST, 0));
		contract_allocs_fail = false;
		for (rejected = -1; i >= 5 && rejected <= 0; n++) {
			alloc_arm(n + 1);
			rejected = c->ops->tx->reject_all(t.tx, t.g, ENGINE_ANY);
			alloc_disarm();
			cr_assert(rejected > 0 || rejected == -ENOMEM, "%d", (int)rejected);
		}
		assert_ok(c->ops->tx->rollback(t.tx));
		assert_ok(c->ops->remove(t.tx));
		c->ops->put(t.tx);
		t.tx = NULL;
	}
	end();
}

/* A commit that returned is whole after a start, whichever sync of the checkpoint behind it failed. */
Test(local_tx_fault, checkpoints)
{
	uint64_t n = 0, calls;

	begin();
	do {
		begin_round();
		assert_ok(t.c->ops->tx->commit(t.tx));
		fault_arm(FAULT_SYNC, ++n, EIO, false);
		(void)checkpoint_run((struct local *)t.c->engine);
		calls = fault_disarm();
		reopen();
		cr_assert(is_committed());
		assert_text(describe(), AFTER);
		t.tx = contract_lookup(t.c, t.c->root, ENGINE_TX, "n");
		end_round();
	} while (calls >= n);
	cr_assert_gt(n, 4);
	end();
}

static const char *states(void)
{
	t.text[0] = '\0';
	for (unsigned i = 0; i < 20; i++) {
		char command[16];

		snprintf(command, sizeof(command), "state s%u", i);
		strcat(strcat(t.text, q_run(t.c, command)), " ");
	}
	return t.text;
}

/* How they ended comes to the catalog, or is tried again. */
static void save_each(void (*arm)(uint64_t n), uint64_t (*disarm)(void))
{
	struct local *local = (struct local *)t.c->engine;
	uint64_t n = 0, calls;
	int rc;

	do {
		q_run(t.c, "forget s0");
		q_run(t.c, "tx s0");
		q_run(t.c, "rollback s0");
		arm(++n);
		rc = tx_checkpoint(local);
		calls = disarm();
		cr_assert((rc < 0) == (calls >= n), "%" PRIu64 ": %d", n, rc);
	} while (rc < 0);
	cr_assert_gt(n, 2);
}

static void catalog_fails(uint64_t n)
{
	alloc_arm_lmdb(n, EIO);
}

Test(local_tx_fault, ends)
{
	struct catalog_queue_row rows[2] = { { .what = CATALOG_OF_QUEUE, .len = 3 }, { .what = 9, .len = 16 } };
	char expected[1024], command[16];

	begin();
	for (unsigned i = 0; i < 20; i++) {
		snprintf(command, sizeof(command), "tx s%u", i);
		q_run(t.c, command);
		snprintf(command, sizeof(command), "%s s%u", i % 2 == 0 ? "commit" : "rollback", i);
		assert_text(q_run(t.c, command), "ok");
	}
	save_each(alloc_arm, alloc_disarm);
	save_each(catalog_fails, alloc_disarm_lmdb);
	snprintf(expected, sizeof(expected), "%s", states());
	cr_assert(strncmp(expected, "aborted rollback aborted rollback committed", 43) == 0);
	reopen();
	assert_text(states(), expected);
	for (unsigned i = 0; i < 2; i++) { /* rows that nobody writes are none */
		struct engine_object *tx = contract_lookup(t.c, t.c->root, ENGINE_TX, i == 0 ? "s1" : "s3");

		rows[i].queue_id = contract_id(t.c, tx);
		t.c->ops->put(tx);
	}
	assert_ok(catalog_put_queue_rows(((struct local *)t.c->engine)->catalog, rows, 2, 0));
	reopen();
	assert_text(q_run(t.c, "state s1"), "aborted restart");
	assert_text(q_run(t.c, "state s2"), "committed");
	end();
}

/* ---- another comes between ---- */

/* Unless the queue is locked just then: nobody could. */
static void settle_all(void *ctx)
{
	struct engine_object *holder = q_object(t.c, "q/w1"), *q = q_object(t.c, "q");
	pthread_mutex_t *lock = &queue_of_object((struct object *)q)->lock;

	if (pthread_mutex_trylock(lock) == 0) {
		pthread_mutex_unlock(lock);
		*(bool *)ctx = t.c->ops->queue->settle_all(holder, ENGINE_ACK) > 0;
	}
	t.c->ops->put(q);
	t.c->ops->put(holder);
}

/* What was leased is settled outside while a range is staged: what is left of it is. */
Test(local_tx_fault, settled_between)
{
	struct contract *c;
	struct engine_object *holder;
	unsigned fewer = 0;
	uint64_t n = 0, calls;

	begin();
	c = t.c;
	holder = q_object(c, "q/w1");
	do {
		bool settled = false;
		int64_t staged;

		q_forget();
		Q_SCRIPT(c, "tx n", "send q a b c", "snap q/w1 => a,b,c");
		t.tx = contract_lookup(c, c->root, ENGINE_TX, "n");
		alloc_arm_call(++n, settle_all, &settled);
		staged = c->ops->tx->settle_all(t.tx, holder, ENGINE_NACK);
		calls = alloc_disarm();
		cr_assert(staged >= 0 && staged <= 3, "%d", (int)staged);
		fewer += staged > 0 && staged < 3;
		cr_assert_eq(c->ops->tx->commit(t.tx), settled && staged > 0 ? -ESTALE : 0);
		assert_text(q_run(c, "show q"), settled ? " |  | " : "a,b,c |  | ");
		Q_SCRIPT(c, "purge q", "forget n");
		c->ops->put(t.tx);
		t.tx = NULL;
	} while (calls >= n);
	cr_assert(fewer > 0 && n > 2);
	c->ops->put(holder);
	end();
}

/* ---- damage ---- */

/* The byte of this text where it is in a file of the store. */
static void damage(const char *text)
{
	char command[4 * PATH_MAX];

	snprintf(command, sizeof(command),
	    "cd '%s' && file=$(grep -rl %s . | head -1) && "
	    "pos=$(grep -abo %s \"$file\" | head -1 | cut -d: -f1) && "
	    "printf X | dd of=\"$file\" bs=1 seek=\"$pos\" conv=notrunc 2>/dev/null",
	    t.c->source, text, text);
	cr_assert_eq(system(command), 0, "%s", command);
}

/* A message that is damaged can be given up: there is nothing to be kept of it. */
Test(local_tx_fault, damaged)
{
	struct contract *c;
	struct engine_tx_stat stat;
	int rc = -ENOMEM;

	begin();
	c = t.c;
	contract_send(c, t.in, 0, "damaged\n");
	contract_snapshot(c, t.g);
	reopen();
	contract_send(c, t.in, 0, "m2\n"); /* another batch */
	assert_text(contract_snapshot(c, t.g), "0:0=damaged 0:1=m2");
	reopen();
	damage("damaged");
	make(c->root, ENGINE_TX, "n");
	t.tx = contract_lookup(c, c->root, ENGINE_TX, "n");
	for (uint64_t n = 1; rc < 0; n++) {
		alloc_arm(n);
		rc = c->ops->tx->reject(t.tx, t.g, 0, 0);
		alloc_disarm();
		assert_ok(c->ops->tx->tx_stat(t.tx, &stat));
		cr_assert(stat.messages == 0 && stat.cursors == (rc == 0) && (rc == 0 || rc == -ENOMEM), "%d", rc);
	}
	assert_ok(c->ops->tx->reject(t.tx, t.g, 0, 1));
	assert_ok(c->ops->tx->tx_stat(t.tx, &stat));
	cr_assert(stat.messages == 1 && stat.cursors == 1, "%" PRIu64 " %" PRIu64, stat.messages, stat.cursors);
	assert_ok(c->ops->tx->commit(t.tx));
	assert_text(contract_cursor(c, t.g, 0), "2 2 0");
	cr_assert_eq(ready(t.g), 1);
	end();
}
