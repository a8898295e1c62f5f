/*
 * What a crash leaves of a transaction: at every change of a file that its commit makes the daemon dies, or the machine does;
 * the next opening finds all of it done, or nothing, and says which in the transaction's state. Once the commit has
 * returned, it is done.
 *
 * The transaction does one of everything: it produces to a queue, to its head, to topics and through an exchange to two targets;
 * it acks, nacks and rejects what is leased, rejects and acks messages of a group, and seeks in another. In which order what
 * a crash kept from a queue comes to it is left open.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "engine/local_internal.h"
#include "tests/lib/contract_tx.h"
#include "tests/lib/crash.h"
#include "tests/lib/nosync.h"
#include "tests/lib/powercut.h"

struct objects {
	struct engine_object *q, *p, *w1, *in, *g, *h, *out, *exchange, *tx;
};

static const struct engine_owner owner = { 1, 2, 0755 };

static struct engine_object *make(
    struct contract *c, struct engine_object *parent, enum engine_kind kind, const char *name)
{
	struct engine_object *object = NULL;

	assert_ok(c->ops->create(c->engine, parent, kind, name, &owner, &object));
	return object;
}

static void put_all(struct contract *c, struct objects *o)
{
	struct engine_object *all[] = { o->q, o->p, o->w1, o->in, o->g, o->h, o->out, o->exchange, o->tx };

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		c->ops->put(all[i]);
	*o = (struct objects){ 0 };
}

static void stage_send(
    struct contract *c, struct objects *o, struct engine_object *target, bool head, const char *key, const char *lines)
{
	struct engine_batch batch = contract_batch(lines);
	struct engine_producer *producer = NULL;

	assert_ok(c->ops->tx->producer_open(
	    o->tx, target, ENGINE_ANY, head, (struct engine_span){ key, key != NULL ? strlen(key) : 0 }, &producer));
	assert_ok(c->ops->producer_send(producer, &batch, NULL));
	c->ops->producer_close(producer);
}

static void prepare(struct contract *c, struct objects *o)
{
	o->q = make(c, c->root, ENGINE_QUEUE, "q");
	o->p = make(c, c->root, ENGINE_QUEUE, "p");
	o->w1 = make(c, o->q, ENGINE_CONSUMER, "w1");
	o->in = make(c, c->root, ENGINE_TOPIC, "in");
	o->out = make(c, c->root, ENGINE_TOPIC, "out");
	o->g = make(c, o->in, ENGINE_GROUP, "g");
	o->h = make(c, o->in, ENGINE_GROUP, "h");
	o->exchange = make(c, c->root, ENGINE_EXCHANGE, "e");
	assert_ok(c->ops->exchange->pattern_add(o->exchange, "#"));
	assert_ok(c->ops->exchange->bind(o->exchange, "#", "p", o->p));
	assert_ok(c->ops->exchange->bind(o->exchange, "#", "out", o->out));
	q_run(c, "send q a b c d");
	assert_text(q_run(c, "snap q/w1"), "a,b,c,d");
	contract_send(c, o->in, 0, "m1\nm2\nm3\n");
	assert_text(contract_snapshot(c, o->g), "0:0=m1 0:1=m2 0:2=m3");
	o->tx = make(c, c->root, ENGINE_TX, "t");
}

static void stage(struct contract *c, struct objects *o)
{
	assert_text(q_run(c, "in t ack q/w1 a"), "1");
	assert_text(q_run(c, "in t nack q/w1 b"), "1");
	assert_text(q_run(c, "in t reject q/w1 c"), "1");
	stage_send(c, o, o->p, false, NULL, "x1\nx2\n");
	stage_send(c, o, o->p, true, NULL, "x0\n");
	stage_send(c, o, o->out, false, "key", "y1\ny2\n");
	stage_send(c, o, o->exchange, false, "r", "z1\n");
	assert_ok(c->ops->tx->reject(o->tx, o->g, 0, 0));
	assert_ok(c->ops->tx->ack(o->tx, o->g, 0, 1));
	assert_ok(c->ops->tx->seek(o->tx, o->h, 0, ENGINE_SEEK_OFFSET, 3));
}

static void find(struct contract *c, struct objects *o)
{
	o->in = contract_lookup(c, c->root, ENGINE_TOPIC, "in");
	o->out = contract_lookup(c, c->root, ENGINE_TOPIC, "out");
	o->g = contract_lookup(c, o->in, ENGINE_GROUP, "g");
	o->h = contract_lookup(c, o->in, ENGINE_GROUP, "h");
	o->tx = contract_lookup(c, c->root, ENGINE_TX, "t");
}

static bool add_text(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct contract *c = ((void **)ctx)[0];
	struct engine_object *queue = ((void **)ctx)[1];
	struct engine_view view;

	(void)next;
	assert_ok(c->ops->queue->message_read(queue, stat->id, &c->scratch, &view));
	strncat(((void **)ctx)[2], view.batch.data, view.batch.lengths[0]);
	strcat(((void **)ctx)[2], " ");
	return true;
}

/* What is in a queue, leased or not. */
static void add_queue(struct contract *c, struct engine_object *queue, char *text)
{
	void *ctx[3] = { c, queue, text };

	for (int state = 0; state < ENGINE_STATE_COUNT; state++) {
		uint64_t cursor[2] = { 0, 0 };

		assert_ok(c->ops->queue->message_list(
		    queue, (enum engine_message_state)state, ENGINE_ANY, NULL, cursor, add_text, ctx));
	}
	strcat(text, "| ");
}

static int by_letter(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The words of all in the order of the alphabet: in which they stand is not the question here. */
static void add_words(char *all, char *text)
{
	char *words[64], *save = NULL;
	size_t count = 0;

	for (char *word = strtok_r(all, " |", &save); word != NULL; word = strtok_r(NULL, " |", &save))
		words[count++] = strchr(word, '=') != NULL ? strchr(word, '=') + 1 : word;
	qsort(words, count, sizeof(words[0]), by_letter);
	for (size_t i = 0; i < count; i++)
		strcat(strcat(text, words[i]), " ");
	strcat(text, "| ");
}

static void add_sorted(struct contract *c, const char *path, char *text)
{
	struct engine_object *queue = q_object(c, path);
	char all[1024] = "";

	add_queue(c, queue, all);
	c->ops->put(queue);
	add_words(all, text);
}

/* Everything that the transaction touches, in one line. */
static void describe(struct contract *c, char text[4096])
{
	struct engine_object *dlq;
	struct objects o = { 0 };
	char all[1024];

	text[0] = '\0';
	find(c, &o);
	add_sorted(c, "q", text);
	add_sorted(c, "q/dlq", text);
	dlq = contract_lookup(c, o.g, ENGINE_QUEUE, "dlq");
	add_queue(c, dlq, text);
	c->ops->put(dlq);
	add_sorted(c, "p", text);
	snprintf(all, sizeof(all), "%s", contract_read(c, o.out, 0, 0));
	add_words(all, text);
	strcat(strcat(text, contract_cursor(c, o.g, 0)), " | ");
	strcat(text, contract_cursor(c, o.h, 0));
	put_all(c, &o);
}

#define BEFORE "a b c d | | | | | 0 3 0 | 0 0 0"
#define AFTER "b d | c | m1 | x0 x1 x2 z1 | y1 y2 z1 | 2 3 0 | 3 3 0"

static enum engine_tx_state state_of(struct contract *c, int *ret_rc)
{
	struct engine_object *tx = contract_lookup(c, c->root, ENGINE_TX, "t");
	struct engine_tx_stat stat = { .state = ENGINE_TX_OPEN };

	*ret_rc = c->ops->tx->tx_stat(tx, &stat);
	c->ops->put(tx);
	return stat.state;
}

/* All or nothing, as its state says; and the same again when it is opened once more. */
static bool check(struct contract *c, const char *what)
{
	char text[4096], again[4096];
	bool committed;
	int rc;

	committed = state_of(c, &rc) == ENGINE_TX_COMMITTED;
	assert_ok(rc);
	describe(c, text);
	cr_assert_str_eq(text, committed ? AFTER : BEFORE, "%s: committed: %d, but \"%s\"", what, committed, text);
	contract_reopen(c);
	describe(c, again);
	cr_assert_str_eq(again, text, "%s: opened once more: \"%s\"", what, again);
	cr_assert_eq(state_of(c, &rc) == ENGINE_TX_COMMITTED, committed, "%s", what);
	return committed;
}

/* Who opens it read-only sees no part, either. */
static void check_read_only(struct contract *c, const char *what)
{
	struct engine_options options = { .read_only = true };
	char text[4096];
	bool committed;
	int rc;

	assert_ok(engine_open(c->source, &options, &c->engine));
	c->ops = c->engine->ops;
	assert_ok(c->ops->get(c->engine, ENGINE_ROOT_ID, &c->root));
	committed = state_of(c, &rc) == ENGINE_TX_COMMITTED;
	describe(c, text);
	cr_assert_str_eq(text, committed ? AFTER : BEFORE, "%s: read-only: \"%s\"", what, text);
	contract_close(c);
}

/* ---- at every change of a file ---- */

struct seen {
	size_t end; /* then the commit has returned */
	unsigned before, after;
};

static void check_moment(struct contract *c, const struct crash_moment *at, void *ctx)
{
	struct seen *seen = ctx;
	bool committed;

	if (at->n % 2 == 0)
		check_read_only(c, at->what);
	contract_open(c);
	committed = check(c, at->what);
	cr_assert(committed || at->n < seen->end, "%s: it has returned, and is lost", at->what);
	seen->before += !committed;
	seen->after += committed;
}

Test(local_tx_crash, every_change, .timeout = 120)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct objects o = { 0 };
	struct powercut *cut;
	struct seen seen = { 0 };
	size_t begin, last;

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	prepare(c, &o);
	stage(c, &o);
	assert_ok(checkpoint_run((struct local *)c->engine)); /* all so far is on disk */
	timers_stop((struct local *)c->engine);
	cut = powercut_start_store(((struct local *)c->engine)->store.dirfd, "catalog", "reserve");
	begin = powercut_count(cut);
	assert_ok(c->ops->tx->commit(o.tx));
	seen.end = powercut_count(cut);
	assert_ok(checkpoint_run((struct local *)c->engine));
	last = powercut_count(cut);
	powercut_stop(cut);
	put_all(c, &o);
	q_close(c);
	crash_each(cut, begin, last, check_moment, &seen);
	cr_assert(seen.before > 0 && seen.after > 0, "%u before, %u after", seen.before, seen.after);
	powercut_free(cut);
	free(c);
}
