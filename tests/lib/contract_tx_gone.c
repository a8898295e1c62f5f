/* The contract of transactions: who is charged for them, what becomes of them when nobody asks, and that what they name goes. */
#include "tests/lib/contract_exchange.h"
#include "tests/lib/contract_member.h"
#include "tests/lib/contract_tx.h"

static struct engine_object *make(
    struct contract *c, struct engine_object *parent, enum engine_kind kind, const char *name)
{
	struct engine_owner owner = { 1001, 100, 0700 };
	struct engine_object *object = NULL;

	assert_ok(c->ops->create(c->engine, parent, kind, name, &owner, &object));
	return object;
}

static int stage(struct contract *c, struct engine_object *tx, struct engine_object *target, uint32_t partition,
    const char *key, const struct engine_props *props, const char *lines)
{
	struct engine_span span = { key, key != NULL ? strlen(key) : 0 };
	struct engine_batch batch = contract_batch(lines);
	struct engine_producer *producer = NULL;
	int rc = c->ops->tx->producer_open(tx, target, partition, false, span, &producer);

	batch.props = props;
	if (rc == 0)
		rc = c->ops->producer_send(producer, &batch, NULL);
	c->ops->producer_close(producer);
	return rc;
}

static struct engine_tx_stat stat_of(struct contract *c, struct engine_object *tx)
{
	struct engine_tx_stat stat;

	memset(&stat, 0xaa, sizeof(stat));
	assert_ok(c->ops->tx->tx_stat(tx, &stat));
	return stat;
}

/* Who makes one has it, and what is staged in it, until it ends; whoever is over his limit is refused, and nothing has changed. */
void contract_test_tx_users(struct contract *c)
{
	struct contract_user *user = &c->users[1000 % CONTRACT_USERS];
	uint64_t bytes;

	c->tx_limit = 2;
	Q_SCRIPT(c, "queue q", "consumer q/w1", "send q a b", "snap q/w1 => a,b", "tx t", "tx u", "tx v => EDQUOT",
	    "commit t", "tx v", "tx w => EDQUOT", "forget v", "tx w", "rollback w");
	cr_assert_eq(user->open, 1);
	Q_SCRIPT(c, "in u send q c", "in u ack q/w1 a => 1");
	bytes = c->tx_bytes = user->bytes;
	cr_assert_gt(bytes, 0);
	Q_SCRIPT(c, "in u send q d => EDQUOT", "in u ack q/w1 b => EDQUOT", "state u => open 1 1 0");
	cr_assert_eq(user->bytes, bytes);
	c->tx_bytes = 0;
	Q_SCRIPT(c, "in u send q d", "commit u", "show q => c,d | b | ");
	cr_assert(user->open == 0 && user->bytes == 0);
	Q_SCRIPT(c, "tx x", "in x send q e", "tick 60000", "state x => aborted timeout");
	cr_assert(user->open == 0 && user->bytes == 0);
	Q_SCRIPT(c, "tx y", "in y send q f"); /* its end is that of the engine */
}

static int begin(struct contract *c, uint32_t uid, const char *name)
{
	const struct engine_owner owner = { uid, uid, 0755 };
	struct engine_object *tx = NULL;
	int rc = c->ops->create(c->engine, c->root, ENGINE_TX, name, &owner, &tx);

	if (rc == 0)
		c->ops->put(tx);
	return rc;
}

static bool is_there(struct contract *c, const char *name)
{
	struct engine_object *tx = NULL;
	int rc = c->ops->lookup(c->engine, c->root, ENGINE_TX, name, &tx);

	if (rc == 0)
		c->ops->put(tx);
	return rc == 0;
}

static void finish(struct contract *c, const char *name, bool commits)
{
	struct engine_object *tx = contract_lookup(c, c->root, ENGINE_TX, name);

	assert_ok(commits ? c->ops->tx->commit(tx) : c->ops->tx->rollback(tx));
	c->ops->put(tx);
}

/*
 * Who has as many objects as one may have, and makes another: of what has ended, the oldest of that user is forgotten, whatever it is
 * that is made. What is open, and what is another's, is not; nobody is refused for what has ended.
 */
void contract_test_tx_forgotten(struct contract *c)
{
	const struct engine_owner owner = { 1, 1, 0755 };
	struct engine_object *topic = NULL;
	char name[16];

	assert_ok(begin(c, 2, "other"));
	finish(c, "other", true);
	c->object_limit = 3;
	assert_ok(begin(c, 1, "open"));
	assert_ok(begin(c, 1, "first"));
	assert_ok(begin(c, 1, "second"));
	assert_err(begin(c, 1, "no"), EDQUOT);
	cr_assert_eq(c->keep_refused, 1);
	finish(c, "second", false);
	q_tick(1);
	finish(c, "first", true);
	assert_ok(begin(c, 1, "third"));
	cr_assert(!is_there(c, "second") && is_there(c, "first") && is_there(c, "third"));
	assert_ok(c->ops->create(c->engine, c->root, ENGINE_TOPIC, "t", &owner, &topic));
	c->ops->put(topic);
	cr_assert(!is_there(c, "first"));
	assert_err(begin(c, 1, "no"), EDQUOT);
	finish(c, "third", true);
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		assert_ok(begin(c, 1, name));
		finish(c, name, i % 2 == 0);
	}
	cr_assert(is_there(c, "n19") && !is_there(c, "n18") && is_there(c, "open") && is_there(c, "other"));
	cr_assert_eq(c->kept[1], 3);
	cr_assert_eq(c->keep_refused, 2);
	c->object_limit = 0;
}

/* So it is with those that a start finds: they count for their owners. */
void contract_test_tx_reopen_forgotten(struct contract *c)
{
	c->object_limit = 2;
	assert_ok(begin(c, 1, "first"));
	finish(c, "first", true);
	assert_ok(begin(c, 1, "second"));
	contract_reopen(c); /* which aborts it */
	cr_assert_eq(c->kept[1], 2);
	assert_ok(begin(c, 1, "third"));
	cr_assert(!is_there(c, "first") && is_there(c, "second"));
	assert_ok(begin(c, 1, "fourth"));
	cr_assert(!is_there(c, "second") && is_there(c, "third"));
	assert_err(begin(c, 1, "no"), EDQUOT);
	c->object_limit = 0;
}

static bool is_ready(struct contract *c, void *ctx)
{
	struct engine_queue_stat stat;

	assert_ok(c->ops->queue->queue_stat(ctx, &stat));
	return stat.ready == 1;
}

/* It is aborted in time, and what it kept is free again, although nobody asks for it. */
void contract_test_tx_nobody_asks(struct contract *c)
{
	struct engine_object *queue;

	Q_SCRIPT(c, "queue q", "set q ack.timeout.ms 1000 => ok", "consumer q/w1", "send q a", "get q/w1 => a", "tx t",
	    "in t ack q/w1 a => 1", "tick 59000", "show q =>  | a | ", "tick 1000");
	queue = q_object(c, "q");
	contract_wait(c, is_ready, queue, "a lease to end with the transaction that kept it");
	c->ops->put(queue);
}

static bool none(void *ctx, const struct engine_dirent *entry)
{
	(void)ctx;
	cr_assert_fail("%s is listed", entry->name);
	return false;
}

/* What a call names is gone. */
void contract_test_tx_gone(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "orders", 1), *group = contract_group(c, topic, "g");
	struct engine_object *tx = make(c, c->root, ENGINE_TX, "t"), *u = make(c, c->root, ENGINE_TX, "u"), *holder;
	struct engine_producer *producer;
	struct engine_tx_stat stat;

	Q_SCRIPT(c, "queue q", "consumer q/w1");
	holder = q_object(c, "q/w1");
	assert_ok(c->ops->remove(holder));
	assert_ok(c->ops->remove(group));
	assert_ok(c->ops->remove(tx));
	assert_err(c->ops->tx->tx_stat(tx, &stat), EIDRM);
	assert_err(c->ops->tx->rollback(tx), EIDRM);
	assert_err(c->ops->tx->commit(tx), EIDRM);
	assert_err(c->ops->tx->list(tx, c->root, ENGINE_QUEUE, 0, none, NULL), EIDRM);
	assert_err(c->ops->tx->list(u, group, ENGINE_QUEUE, 0, none, NULL), EIDRM);
	assert_err(c->ops->tx->ack(u, group, 0, 0), EIDRM);
	assert_err(c->ops->tx->ack_all(u, group, ENGINE_ANY), EIDRM);
	assert_err(c->ops->tx->reject(u, group, 0, 0), EIDRM);
	assert_err((int)c->ops->tx->reject_all(u, group, ENGINE_ANY), EIDRM);
	assert_err(c->ops->tx->seek(u, group, 0, ENGINE_SEEK_LATEST, 0), EIDRM);
	for (uint64_t id = 1; id <= 3; id++)
		assert_err((int)c->ops->tx->settle(u, holder, ENGINE_ACK, id, id == 3 ? 2 : 2), EIDRM);
	assert_err((int)c->ops->tx->settle_all(u, holder, ENGINE_ACK), EIDRM);
	assert_err(c->ops->tx->producer_open(u, group, ENGINE_ANY, false, (struct engine_span){ 0 }, &producer), EIDRM);
	assert_err(c->ops->tx->ack(u, topic, 0, 0), EINVAL);
	cr_assert_eq(c->ops->remove(c->ops->defaults(c->engine, ENGINE_TX)) < 0, true);
	cr_assert_eq(stat_of(c, u).settles + stat_of(c, u).cursors + stat_of(c, u).messages, 0);
	c->ops->put(holder);
	c->ops->put(u);
	c->ops->put(tx);
	c->ops->put(group);
	c->ops->put(topic);
}

/* What it would settle, or move, is gone with all around it: then it cannot be committed any more; it can be rolled back. */
void contract_test_tx_what_it_settles_is_gone(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "orders", 1), *group = contract_group(c, topic, "g");
	struct engine_object *t = make(c, c->root, ENGINE_TX, "t");
	struct engine_object *v;

	Q_SCRIPT(c, "queue q", "queue z", "consumer z/w1", "send z a b c", "snap z/w1 => a,b,c", "tx u", "tx w",
	    "in t ack z/w1 a => 1", "in u nack z/w1 b => 1", "in u send q x", "in w reject z/w1 c => 1",
	    "rm z unacked a => ok", "rm z unacked b => ok", "rm z unacked c => ok", "rmdir z", "rollback t",
	    "commit u => ESTALE", "commit w => ESTALE", "state u => aborted refused");
	contract_send(c, topic, 0, "a\nb\n");
	contract_snapshot(c, group);
	v = make(c, c->root, ENGINE_TX, "v");
	Q_SCRIPT(c, "in v send q y");
	assert_ok(c->ops->tx->ack(v, group, 0, 0));
	assert_ok(c->ops->remove(group));
	assert_err(c->ops->tx->commit(v), EIDRM);
	Q_SCRIPT(c, "state v => aborted refused", "show q =>  |  | ");
	c->ops->put(v);
	c->ops->put(t);
	c->ops->put(group);
	c->ops->put(topic);
}

struct listed {
	char names[64];
	size_t limit;
};

static bool add_name(void *ctx, const struct engine_dirent *entry)
{
	struct listed *listed = ctx;

	strcat(strcat(listed->names, entry->name), " ");
	return strlen(listed->names) < listed->limit;
}

static const char *list(struct contract *c, struct engine_object *tx, uint64_t after, size_t limit)
{
	static struct listed listed;

	listed = (struct listed){ .limit = limit };
	assert_ok(c->ops->tx->list(tx, c->root, ENGINE_QUEUE, after, add_name, &listed));
	return listed.names;
}

/* Each is listed once, in the order of their ids, from where it is asked, as far as the caller goes on, and if it is still there. */
void contract_test_tx_lists_some(struct contract *c)
{
	struct engine_object *tx = make(c, c->root, ENGINE_TX, "t"), *a, *b;

	Q_SCRIPT(c, "queue a", "queue b", "queue d", "consumer b/w1", "consumer a/w1", "consumer a/w2", "consumer b/w2",
	    "send a k l", "send b m n", "get a/w1 => k", "get a/w2 => l", "get b/w1 => m", "get b/w2 => n",
	    "in t ack a/w1 k => 1", "in t ack a/w2 l => 1", "in t ack b/w1 m => 1", "in t ack b/w2 n => 1",
	    "in t send d x");
	a = q_object(c, "a");
	b = q_object(c, "b");
	assert_text(list(c, tx, 0, 64), "a b d ");
	assert_text(list(c, tx, 0, 3), "a b ");
	assert_text(list(c, tx, contract_id(c, a), 64), "b d ");
	assert_text(list(c, tx, contract_id(c, b), 64), "d ");
	Q_SCRIPT(c, "rmdir d");
	assert_text(list(c, tx, 0, 64), "a b ");
	c->ops->put(b);
	c->ops->put(a);
	c->ops->put(tx);
}

/* What no binding matches any more when it is committed: refused if it must go somewhere, else it goes nowhere. */
void contract_test_tx_unroutable(struct contract *c)
{
	struct engine_object *e, *queue, *tx = make(c, c->root, ENGINE_TX, "t");

	if (c->ops->exchange == NULL) {
		c->ops->put(tx);
		return;
	}
	Q_SCRIPT(
	    c, "queue q", "queue p", "exchange e", "type e fanout => ok", "pattern e x => ok", "bind e x q q => ok");
	e = q_object(c, "e");
	queue = q_object(c, "q");
	assert_ok(stage(c, tx, e, ENGINE_ANY, NULL, NULL, "a\n"));
	Q_SCRIPT(c, "in t send p b", "unbind e x q => ok");
	assert_err(c->ops->tx->commit(tx), EHOSTUNREACH);
	assert_err(stage(c, tx, e, ENGINE_ANY, NULL, NULL, "c\n"), EHOSTUNREACH);
	Q_SCRIPT(c, "state t => open 2 0 0", "show p =>  |  | ", "set e mandatory 0 => ok");
	assert_ok(stage(c, tx, e, ENGINE_ANY, "key", NULL, "d\n"));
	Q_SCRIPT(c, "commit t", "show p => b |  | ", "show q =>  |  | ");
	c->ops->put(queue);
	c->ops->put(e);
	c->ops->put(tx);
}

/* The last seek counts; one that is relative goes from the one before. */
void contract_test_tx_seeks(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "orders", 1), *group = contract_group(c, topic, "g");
	struct engine_object *tx = make(c, c->root, ENGINE_TX, "t");

	contract_send(c, topic, 0, "a\nb\nc\nd\n");
	contract_snapshot(c, group);
	assert_ok(c->ops->tx->seek(tx, group, 0, ENGINE_SEEK_OFFSET, 3));
	assert_ok(c->ops->tx->seek(tx, group, 0, ENGINE_SEEK_OFFSET, 1));
	assert_ok(c->ops->tx->seek(tx, group, 0, ENGINE_SEEK_RELATIVE, 1));
	assert_err(c->ops->tx->ack(tx, group, 0, 2), ERANGE); /* what was given is taken back */
	assert_ok(c->ops->tx->commit(tx));
	assert_text(contract_cursor(c, group, 0), "2 2 0");
	c->ops->put(tx);
	c->ops->put(group);
	c->ops->put(topic);
}

/* What was given is taken back outside after an ack of it was staged: then no more is staged, and the commit is refused. */
void contract_test_tx_taken_back(struct contract *c)
{
	struct members m = members_make(c, 2);
	struct engine_object *tx = make(c, c->root, ENGINE_TX, "x"), *u = make(c, c->root, ENGINE_TX, "u"), *one, *two;
	uint32_t others;

	contract_send(c, m.topic, 0, "a\nb\nc\n");
	contract_send(c, m.topic, 1, "d\n");
	contract_snapshot(c, m.group);
	assert_ok(c->ops->tx->ack(tx, m.group, 0, 1));
	assert_ok(c->ops->seek(m.group, 0, ENGINE_SEEK_OFFSET, 0));
	assert_err(c->ops->tx->ack(tx, m.group, 0, 1), EALREADY);
	assert_err(c->ops->tx->ack(tx, m.group, 0, 2), ERANGE);
	assert_err(c->ops->tx->commit(tx), ESTALE);
	one = members_add(c, &m, "one");
	two = members_add(c, &m, "two");
	contract_snapshot(c, one);
	contract_snapshot(c, two);
	others = members_owned(c, two)[0] == '0' ? 0 : 1;
	assert_err(c->ops->tx->ack(u, one, others, 0), ESTALE);
	assert_err(c->ops->tx->reject(u, one, others, 0), ESTALE);
	cr_assert_eq(stat_of(c, u).cursors + stat_of(c, u).messages, 0);
	c->ops->put(two);
	c->ops->put(one);
	c->ops->put(u);
	c->ops->put(tx);
	members_put(c, &m);
}

/* Some megabytes. */
void contract_test_tx_large(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "tx t");
	for (unsigned i = 0; i < 60; i++) {
		char command[64];

		snprintf(command, sizeof(command), "in t send q m%u:s90000", i);
		assert_text(q_run(c, command), "ok");
	}
	Q_SCRIPT(c, "commit t", "totals q ready => 60", "totals q bytes => 5400000");
}

/* The priority of a channel without properties; a key that a message brings. */
void contract_test_tx_priorities(struct contract *c)
{
	struct engine_object *tx = make(c, c->root, ENGINE_TX, "t"), *queue, *topic = contract_topic(c, "orders", 3);
	struct engine_props props = ENGINE_PROPS_INIT;
	struct engine_view view;
	uint32_t partition = 0;

	Q_SCRIPT(c, "queue q", "set q max.priority 9 => ok");
	queue = q_object(c, "q");
	assert_ok(stage(c, tx, queue, ENGINE_ANY, NULL, NULL, "a\n"));
	assert_ok(stage(c, tx, queue, 7, NULL, NULL, "b\n"));
	props.key = (struct engine_span){ "own", 3 };
	assert_ok(stage(c, tx, topic, ENGINE_ANY, "channel", &props, "x\n"));
	Q_SCRIPT(c, "commit t", "show q => b,a |  | ", "message q b => ready p7 d0", "message q a => ready p0 d0");
	while (contract_partition(c, topic, partition).end == 0)
		partition++;
	assert_ok(c->ops->partition_read(topic, partition, 0, 1, &c->scratch, &view));
	cr_assert(view.batch.props[0].key.len == 3 && memcmp(view.batch.props[0].key.ptr, "own", 3) == 0);
	c->ops->put(topic);
	c->ops->put(queue);
	c->ops->put(tx);
}

static bool is_gone(struct contract *c, void *ctx)
{
	struct engine_object *tx = NULL;
	int rc = c->ops->lookup(c->engine, c->root, ENGINE_TX, ctx, &tx);

	c->ops->put(tx);
	return rc == -ENOENT;
}

/* Kept for a day from its end, whenever it is opened, and for a day at most if the clock went back. */
void contract_test_tx_reopen_late(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "tx t", "commit t");
	contract_close(c);
	q_tick(ENGINE_TX_KEPT_MS - 1000);
	contract_open(c);
	Q_SCRIPT(c, "state t => committed", "tick 1000");
	contract_wait(c, is_gone, "t", "a transaction to be forgotten a day after its end");
	Q_SCRIPT(c, "tx u", "commit u");
	contract_close(c);
	q_tick(2 * (int64_t)ENGINE_TX_KEPT_MS);
	contract_open(c);
	contract_wait(c, is_gone, "u", "a transaction to be forgotten that ended two days ago");
	Q_SCRIPT(c, "tx v", "commit v");
	contract_close(c);
	q_tick(-3 * (int64_t)ENGINE_TX_KEPT_MS);
	contract_open(c);
	Q_SCRIPT(c, "tick 86399000", "state v => committed", "tick 1000");
	contract_wait(c, is_gone, "v", "a transaction that ended in the future to be forgotten after a day");
}

/* Who only reads is told what came of them, and changes nothing. */
void contract_test_tx_reopen_read_only(struct contract *c)
{
	struct engine_object *t, *u, *q, *topic = contract_topic(c, "orders", 1),
					 *group = contract_group(c, topic, "g");
	struct engine_producer *producer;
	struct engine_owner owner = { 1000, 100, 0700 };

	c->ops->put(group);
	c->ops->put(topic);
	Q_SCRIPT(c, "queue q", "tx t", "tx u", "in t send q a", "commit t", "in u send q b");
	contract_close(c);
	contract_open_read_only(c);
	t = contract_lookup(c, c->root, ENGINE_TX, "t");
	u = contract_lookup(c, c->root, ENGINE_TX, "u");
	q = contract_lookup(c, c->root, ENGINE_QUEUE, "q");
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "orders");
	group = contract_lookup(c, topic, ENGINE_GROUP, "g");
	cr_assert_eq(stat_of(c, t).state, ENGINE_TX_COMMITTED);
	cr_assert(stat_of(c, u).state == ENGINE_TX_ABORTED && stat_of(c, u).why == ENGINE_TX_RESTART);
	for (unsigned i = 0; i < 2; i++) {
		struct engine_object *tx = i == 0 ? t : u;

		assert_err(c->ops->tx->commit(tx), EROFS);
		assert_err(c->ops->tx->rollback(tx), EROFS);
		assert_err(c->ops->remove(tx), EROFS);
		assert_err(
		    c->ops->tx->producer_open(tx, q, ENGINE_ANY, false, (struct engine_span){ 0 }, &producer), EROFS);
		assert_err(c->ops->tx->ack_all(tx, group, ENGINE_ANY), EROFS);
		assert_err((int)c->ops->tx->settle(tx, q, ENGINE_ACK, 1, 1), EROFS);
	}
	assert_err(c->ops->create(c->engine, c->root, ENGINE_TX, "v", &owner, &t), EROFS);
	c->ops->put(group);
	c->ops->put(topic);
	c->ops->put(q);
	c->ops->put(u);
	c->ops->put(t);
	contract_close(c);
	contract_open(c);
	Q_SCRIPT(c, "state t => committed", "state u => aborted restart", "show q => a |  | ");
}
