#include "tests/lib/contract_tx.h"

static struct engine_object *tx_make(struct contract *c, const char *name)
{
	struct engine_owner owner = { 1000, 100, 0700 };
	struct engine_object *tx = NULL;

	assert_ok(c->ops->create(c->engine, c->root, ENGINE_TX, name, &owner, &tx));
	return tx;
}

/* Stages lines for a topic, a queue or an exchange. */
static int tx_send(struct contract *c, struct engine_object *tx, struct engine_object *target, uint32_t partition,
    const char *key, const char *lines)
{
	struct engine_span span = { key, key != NULL ? strlen(key) : 0 };
	struct engine_batch batch = contract_batch(lines);
	struct engine_producer *producer = NULL;
	int rc = c->ops->tx->producer_open(tx, target, partition, false, span, &producer);

	if (rc == 0)
		rc = c->ops->producer_send(producer, &batch, NULL);
	c->ops->producer_close(producer);
	return rc;
}

/* What is staged has no effect until commit, then all of it has. */
void contract_test_tx_life(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue p", "tx t", "state t => open 0 0 0", "in t send q a b", "in t send p x",
	    "state t => open 3 0 0", "show q =>  |  | ", "show p =>  |  | ", "commit t", "state t => committed",
	    "show q => a,b |  | ", "show p => x |  | ", "totals q => published 2");
}

/* Ends, and what comes after them. */
void contract_test_tx_ends(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "tx t", "tx t => EEXIST", "in t send q a", "commit t", "commit t",
	    "rollback t => EALREADY", "in t send q b => EALREADY", "state t => committed", "show q => a |  | ",
	    "forget t", "tx t", "state t => open 0 0 0", "in t send q b", "rollback t", "rollback t",
	    "commit t => ECANCELED", "in t send q c => ECANCELED", "state t => aborted rollback", "show q => a |  | ",
	    "tx u", "in u send q b", "forget u", "show q => a |  | ", "tx e", "commit e", "state e => committed");
}

/* After tx.timeout.ms it is aborted. */
void contract_test_tx_timeout(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "tx t", "in t send q a", "tick 59999", "state t => open 1 0 0", "tick 1",
	    "commit t => ETIMEDOUT", "state t => aborted timeout", "rollback t", "in t send q b => ETIMEDOUT",
	    "show q =>  |  | ");
	assert_ok(c->ops->set_setting(
	    c->ops->defaults(c->engine, ENGINE_TX), engine_setting_find(ENGINE_TX, "tx.timeout.ms"), "100"));
	Q_SCRIPT(c, "tx s", "tick 100", "state s => aborted timeout");
}

static bool is_gone(struct contract *c, void *ctx)
{
	struct engine_object *tx = NULL;
	int rc = c->ops->lookup(c->engine, c->root, ENGINE_TX, ctx, &tx);

	c->ops->put(tx);
	return rc == -ENOENT;
}

/* What came of it can be asked for a day. */
void contract_test_tx_kept(struct contract *c)
{
	Q_SCRIPT(c, "tx t", "commit t", "tick 86399000", "state t => committed", "tick 1000");
	contract_wait(c, is_gone, "t", "an ended transaction to be forgotten after a day");
}

/* Messages come with what they were staged with, in the order of staging, at the time of the commit. */
void contract_test_tx_sends(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a", "tx t", "in t send q b c:p5", "in t push q d", "in t send q@9 e",
	    "in t send q f:d100", "tick 50", "commit t", "show q => e,c,d,a,b |  | f",
	    "message q f => delayed p0 d0 +100", "message q e => ready p9 d0", "tick 100",
	    "show q => e,c,d,a,b,f |  | ");
}

/* Leases are settled with it. */
void contract_test_tx_settles(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "send q a b c d e", "snap q/w1 => a,b,c,d,e", "tx t",
	    "in t ack q/w1 a => 1", "in t nack q/w1 b => 1", "in t reject q/w1 c => 1", "in t ack q/w1 all => 2",
	    "in t ack q/w1 all => 0", "state t => open 0 5 0", "show q =>  | a,b,c,d,e | ", "commit t",
	    "show q => b |  | ", "show q/dlq => c |  | ", "totals q => published 5 delivered 5 acked 3 dead_lettered 1",
	    "deaths q/dlq c => q:rejected:1:0");
}

/* Only what is held can be staged, and once. */
void contract_test_tx_settle_errors(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "consumer q/w2", "send q a b c d", "get q/w1 => a", "get q/w2 => b",
	    "get q/w1 => c", "tx t", "in t ack q/w1 b => EPERM", "in t ack q/w1 d => ENOENT",
	    "in t ack q/w1 #999 => ENOENT", "ack q/w1 c => 1", "in t ack q/w1 c => EALREADY", "in t ack q/w1 a => 1",
	    "in t nack q/w1 a => EALREADY", "in t ack q all => EINVAL", "in t ack q/w1 c-a => EINVAL",
	    "in t ack q/w1 c-d => EALREADY", "in t ack q/w1 d-#99999 => ENOENT", "in t ack q/w1 a-b => EALREADY",
	    "state t => open 0 1 0", "commit t", "show q => d | b | ");
}

/* A lease that is staged does not end before the transaction; afterwards it has what it had. */
void contract_test_tx_pins(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "set q ack.timeout.ms 1000", "consumer q/w1", "send q a b c", "snap q/w1 => a,b,c",
	    "tx t", "in t ack q/w1 b => 1", "tick 1000", "show q => a,c | b | ", "tick 20000", "show q => a,c | b | ",
	    "commit t", "show q => a,c |  | ", "get q/w1 => a+", "tx u", "in u ack q/w1 a => 1", "tick 500",
	    "rollback u", "tick 499", "show q => c | a | ", "tick 1", "show q => a,c |  | ", "get q/w1 => a+", "tx v",
	    "in v ack q/w1 a => 1", "tick 5000", "show q => c | a | ", "rollback v", "show q => a,c |  | ");
}

/* It ends with its holder, and by who settles it elsewhere: then the commit is refused, for good. */
void contract_test_tx_pin_ends(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue p", "consumer q/w1", "send q a b", "open s q/w1 session", "get q/w1 => a", "tx t",
	    "in t ack q/w1 a => 1", "in t send p x", "close s", "show q => a,b |  | ", "commit t => ESTALE",
	    "state t => aborted refused", "commit t => ECANCELED", "show p =>  |  | ", "get q/w1 => a+", "tx u",
	    "in u ack q/w1 a => 1", "nack q/w1 a => 1", "get q/w1 => a+", "in u send p x", "commit u => ESTALE",
	    "show q => b | a | ", "show p =>  |  | ", "tx v", "in v ack q/w1 a => 1", "rmdir q/w1",
	    "commit v => ESTALE", "show q => a,b |  | ");
}

/* Two transactions over the same do not wait for each other; the second to commit is refused whole. */
void contract_test_tx_conflict(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue p", "consumer q/w1", "send q a b", "snap q/w1 => a,b", "tx t", "tx u",
	    "in t ack q/w1 a => 1", "in u ack q/w1 a => 1", "in u ack q/w1 b => 1", "in t send p x", "in u send p y",
	    "commit t", "commit u => ESTALE", "show q =>  | b | ", "show p => x |  | ", "ack q/w1 b => 1",
	    "show q =>  |  | ");
}

/* Where there is no room nothing happens, and it stays open. */
void contract_test_tx_full(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue p", "set q max.length 2", "set q overflow reject-publish", "consumer p/w1",
	    "send p x", "get p/w1 => x", "tx t", "in t send p y", "in t send q a", "in t send q b", "in t send q c",
	    "in t ack p/w1 x => 1", "commit t => EDQUOT", "state t => open 4 1 0", "show q =>  |  | ",
	    "show p =>  | x | ", "set q max.length 3", "commit t", "show q => a,b,c |  | ", "show p => y |  | ");
}

/* More than is kept in memory. */
void contract_test_tx_many_sends(struct contract *c)
{
	struct engine_object *queue, *tx;
	struct engine_queue_stat stat;
	char line[200];

	q_run(c, "queue q");
	queue = q_object(c, "q");
	tx = tx_make(c, "t");
	for (int i = 0; i < 1000; i++) {
		snprintf(line, sizeof(line), "%0100d\n", i);
		assert_ok(tx_send(c, tx, queue, ENGINE_ANY, NULL, line));
	}
	assert_ok(c->ops->queue->queue_stat(queue, &stat));
	cr_assert_eq(stat.ready, 0);
	assert_ok(c->ops->tx->commit(tx));
	assert_ok(c->ops->queue->queue_stat(queue, &stat));
	cr_assert_eq(stat.ready, 1000);
	cr_assert_eq(stat.bytes, 100000);
	c->ops->put(tx);
	c->ops->put(queue);
}

/* What it produces to is gone: it cannot happen any more. */
void contract_test_tx_removed_target(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue p", "tx t", "in t send q a", "in t send p b", "rmdir q", "commit t => EIDRM",
	    "state t => aborted refused", "show p =>  |  | ");
}

/* Topics: keys, partitions, and everything at once with queues. */
void contract_test_tx_topics(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "orders", 3), *tx = tx_make(c, "t");

	assert_ok(tx_send(c, tx, topic, 1, NULL, "a\nb\n"));
	assert_ok(tx_send(c, tx, topic, 2, NULL, "c\n"));
	assert_err(tx_send(c, tx, topic, 7, NULL, "d\n"), ENOENT);
	assert_ok(tx_send(c, tx, topic, ENGINE_ANY, "k", "e\nf\n"));
	cr_assert_eq(contract_stat(c, topic).messages, 0);
	q_run(c, "queue q");
	q_run(c, "in t send q x");
	assert_ok(c->ops->tx->commit(tx));
	cr_assert_eq(contract_stat(c, topic).messages, 5);
	cr_assert(strncmp(contract_read(c, topic, 1, 0), "0=a 1=b", 7) == 0);
	Q_SCRIPT(c, "show q => x |  | ");
	c->ops->put(tx);
	c->ops->put(topic);
}

/* What a group was given is acked with it. */
void contract_test_tx_cursors(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "orders", 1), *group = contract_group(c, topic, "g");
	struct engine_object *other = contract_topic(c, "other", 1), *tx = tx_make(c, "t");

	contract_send(c, topic, 0, "a\nb\nc\nd\n");
	assert_err(c->ops->tx->ack(tx, group, 0, 0), ERANGE);
	assert_text(contract_snapshot(c, group), "0:0=a 0:1=b 0:2=c 0:3=d");
	assert_err(c->ops->tx->ack(tx, group, 1, 0), ENOENT);
	assert_ok(c->ops->tx->ack(tx, group, 0, 1));
	assert_err(c->ops->tx->ack(tx, group, 0, 0), EALREADY);
	assert_err(c->ops->tx->ack(tx, group, 0, 4), ERANGE);
	assert_ok(tx_send(c, tx, other, 0, NULL, "made of a and b\n"));
	assert_text(contract_cursor(c, group, 0), "0 4 0");
	assert_ok(c->ops->tx->commit(tx));
	assert_text(contract_cursor(c, group, 0), "2 4 0");
	cr_assert_eq(contract_stat(c, other).messages, 1);
	c->ops->put(tx);
	tx = tx_make(c, "u");
	assert_ok(c->ops->tx->ack_all(tx, group, ENGINE_ANY));
	assert_ok(c->ops->tx->rollback(tx));
	assert_text(contract_cursor(c, group, 0), "2 4 0");
	c->ops->put(tx);
	tx = tx_make(c, "v");
	assert_ok(c->ops->tx->ack_all(tx, group, 0));
	assert_ok(c->ops->tx->commit(tx));
	assert_text(contract_cursor(c, group, 0), "4 4 0");
	c->ops->put(tx);
	c->ops->put(other);
	c->ops->put(group);
	c->ops->put(topic);
}

/* Who commits further meanwhile, or takes back what was given, undoes it. */
void contract_test_tx_cursor_conflict(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "orders", 1), *group = contract_group(c, topic, "g");
	struct engine_object *t = tx_make(c, "t"), *u = tx_make(c, "u"), *v = tx_make(c, "v");

	contract_send(c, topic, 0, "a\nb\nc\n");
	contract_snapshot(c, group);
	assert_ok(c->ops->tx->ack(t, group, 0, 0));
	assert_ok(c->ops->tx->ack(u, group, 0, 0));
	assert_ok(c->ops->tx->ack(v, group, 0, 2));
	assert_ok(tx_send(c, u, topic, 0, NULL, "never\n"));
	assert_ok(c->ops->tx->commit(t));
	assert_err(c->ops->tx->commit(u), ESTALE);
	cr_assert_eq(contract_stat(c, topic).messages, 3);
	assert_ok(c->ops->seek(group, 0, ENGINE_SEEK_OFFSET, 1));
	assert_err(c->ops->tx->commit(v), ESTALE);
	assert_text(contract_cursor(c, group, 0), "1 1 0");
	c->ops->put(v);
	c->ops->put(u);
	c->ops->put(t);
	c->ops->put(group);
	c->ops->put(topic);
}

/* A seek within it is seen by what comes after it there, and by nobody else before the commit. */
void contract_test_tx_seek(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "orders", 1), *group = contract_group(c, topic, "g");
	struct engine_object *tx = tx_make(c, "t");

	contract_send(c, topic, 0, "a\nb\nc\n");
	contract_snapshot(c, group);
	assert_err(c->ops->tx->seek(tx, group, 0, ENGINE_SEEK_OFFSET, 9), ERANGE);
	assert_ok(c->ops->tx->seek(tx, group, 0, ENGINE_SEEK_OFFSET, 1));
	assert_err(c->ops->tx->ack(tx, group, 0, 0), EALREADY);
	assert_err(c->ops->tx->ack(tx, group, 0, 2), ERANGE);
	assert_ok(c->ops->tx->seek(tx, group, 0, ENGINE_SEEK_RELATIVE, 1));
	assert_text(contract_cursor(c, group, 0), "0 3 0");
	assert_ok(c->ops->tx->commit(tx));
	assert_text(contract_cursor(c, group, 0), "2 2 0");
	assert_text(contract_snapshot(c, group), "0:2=c");
	c->ops->put(tx);
	c->ops->put(group);
	c->ops->put(topic);
}

/* A group gives messages up with it: dead letters and cursor at once. What it produces after that it does not bury. */
void contract_test_tx_rejects(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "orders", 1), *group = contract_group(c, topic, "g");
	struct engine_object *dlq = contract_lookup(c, group, ENGINE_QUEUE, "dlq"), *tx = tx_make(c, "t");
	struct engine_queue_stat stat;

	contract_send(c, topic, 0, "a\nb\nc\n");
	assert_err(c->ops->tx->reject(tx, group, 0, 0), ERANGE);
	contract_snapshot(c, group);
	assert_ok(c->ops->tx->reject(tx, group, 0, 0));
	assert_err(c->ops->tx->reject(tx, group, 0, 0), EALREADY);
	assert_ok(c->ops->tx->rollback(tx));
	c->ops->put(tx);
	tx = tx_make(c, "u");
	assert_ok(c->ops->tx->ack(tx, group, 0, 0));
	cr_assert_eq(c->ops->tx->reject_all(tx, group, ENGINE_ANY), 2);
	cr_assert_eq(c->ops->tx->reject_all(tx, group, ENGINE_ANY), 0);
	assert_ok(tx_send(c, tx, topic, 0, NULL, "d\n"));
	assert_ok(c->ops->queue->queue_stat(dlq, &stat));
	cr_assert_eq(stat.ready, 0);
	assert_text(contract_cursor(c, group, 0), "0 3 0");
	assert_ok(c->ops->tx->commit(tx));
	assert_ok(c->ops->queue->queue_stat(dlq, &stat));
	cr_assert_eq(stat.ready, 2);
	assert_text(contract_cursor(c, group, 0), "3 3 0");
	Q_SCRIPT(c, "state u => committed");
	c->ops->put(tx);
	c->ops->put(dlq);
	c->ops->put(group);
	c->ops->put(topic);
}

static bool add_name(void *ctx, const struct engine_dirent *entry)
{
	strcat(strcat(ctx, entry->name), " ");
	return true;
}

static const char *tx_list(
    struct contract *c, struct engine_object *tx, struct engine_object *parent, enum engine_kind kind)
{
	c->text[0] = '\0';
	assert_ok(c->ops->tx->list(tx, parent, kind, 0, add_name, c->text));
	return c->text;
}

/* What is staged is listed, with what it is below. */
void contract_test_tx_lists(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "a", 1), *group = contract_group(c, topic, "g");
	struct engine_object *other = contract_topic(c, "b", 1), *tx = tx_make(c, "t");

	Q_SCRIPT(c, "queue q", "queue p", "consumer q/w1", "send q m", "get q/w1 => m", "in t ack q/w1 m => 1",
	    "in t send p x");
	contract_send(c, topic, 0, "a\n");
	contract_snapshot(c, group);
	assert_text(tx_list(c, tx, c->root, ENGINE_TOPIC), "");
	assert_ok(c->ops->tx->ack_all(tx, group, ENGINE_ANY));
	assert_text(tx_list(c, tx, c->root, ENGINE_TOPIC), "a ");
	assert_text(tx_list(c, tx, topic, ENGINE_GROUP), "g ");
	assert_text(tx_list(c, tx, other, ENGINE_GROUP), "");
	assert_text(tx_list(c, tx, c->root, ENGINE_QUEUE), "q p ");
	assert_ok(c->ops->tx->commit(tx));
	assert_text(tx_list(c, tx, c->root, ENGINE_QUEUE), "");
	c->ops->put(tx);
	c->ops->put(other);
	c->ops->put(group);
	c->ops->put(topic);
}

/* Publishing to an exchange is routed, and counted, by the commit. */
void contract_test_tx_exchanges(struct contract *c)
{
	struct engine_exchange_stat stat;
	struct engine_owner owner = { 1, 2, 0755 };
	struct engine_object *exchange, *queue, *topic, *tx;

	if (c->ops->exchange == NULL)
		return;
	assert_ok(c->ops->create(c->engine, c->root, ENGINE_EXCHANGE, "e", &owner, &exchange));
	q_run(c, "queue q");
	q_run(c, "queue p");
	queue = q_object(c, "q");
	topic = contract_topic(c, "orders", 2);
	tx = tx_make(c, "t");
	assert_err(tx_send(c, tx, exchange, ENGINE_ANY, "a.b", "x\n"), EHOSTUNREACH);
	assert_ok(c->ops->exchange->pattern_add(exchange, "a.*"));
	assert_ok(c->ops->exchange->bind(exchange, "a.*", "q", queue));
	assert_ok(tx_send(c, tx, exchange, ENGINE_ANY, "a.b", "x\ny\n"));
	assert_ok(c->ops->exchange->bind(exchange, "a.*", "orders", topic));
	q_run(c, "in t send p z");
	assert_ok(c->ops->exchange->unbind(exchange, "a.*", "q"));
	assert_ok(c->ops->tx->commit(tx));
	Q_SCRIPT(c, "show q =>  |  | ", "show p => z |  | ");
	cr_assert_eq(contract_stat(c, topic).messages, 2);
	c->ops->put(tx);
	tx = tx_make(c, "u");
	assert_ok(tx_send(c, tx, exchange, ENGINE_ANY, "a.c", "v\n"));
	assert_ok(c->ops->exchange->unbind(exchange, "a.*", "orders"));
	assert_err(c->ops->tx->commit(tx), EHOSTUNREACH);
	Q_SCRIPT(c, "state u => open 1 0 0");
	assert_ok(c->ops->exchange->bind(exchange, "a.*", "q", queue));
	assert_ok(c->ops->exchange->bind(exchange, "a.*", "orders", topic));
	assert_ok(c->ops->tx->commit(tx));
	Q_SCRIPT(c, "show q => v |  | ");
	cr_assert_eq(contract_stat(c, topic).messages, 3);
	c->ops->put(tx);
	tx = tx_make(c, "v");
	assert_ok(c->ops->set_setting(exchange, engine_setting_find(ENGINE_EXCHANGE, "mandatory"), "false"));
	assert_ok(tx_send(c, tx, exchange, ENGINE_ANY, "nowhere", "w\n"));
	assert_ok(c->ops->tx->commit(tx));
	assert_ok(c->ops->exchange->exchange_stat(exchange, &stat));
	cr_assert_eq(stat.published, 4);
	cr_assert_eq(stat.routed, 4);
	cr_assert_eq(stat.unroutable, 1);
	/* By the commit: what staging refuses is not counted. */
	cr_assert(stat.refused == 1 || contract_allocs_fail, "%" PRIu64, stat.refused);
	c->ops->put(tx);
	c->ops->put(topic);
	c->ops->put(queue);
	c->ops->put(exchange);
}

/* Who waits is woken by the commit, once it is over. */
void contract_test_tx_wakes(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue p", "consumer p/w1", "send p m", "get p/w1 => m", "open f q stream", "arm f => 0",
	    "tx t", "in t send q a", "in t nack p/w1 m => 1", "open g p stream", "arm g => 0", "woken f => no",
	    "commit t", "woken f => yes", "read f => a", "woken g => yes", "read g => m+", "close f", "close g");
}

/* What can be known is refused at once, and leaves no trace. */
void contract_test_tx_refuses(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "orders", 1), *tx = tx_make(c, "t");
	struct engine_producer *producer = NULL;

	assert_ok(contract_set(c, topic, "max.message.bytes", "3"));
	assert_err(tx_send(c, tx, topic, ENGINE_ANY, NULL, "ok\nlong\n"), EMSGSIZE);
	Q_SCRIPT(c, "queue q", "in t send q@10 a => EINVAL", "state t => open 0 0 0");
	assert_err(
	    c->ops->tx->producer_open(tx, c->root, ENGINE_ANY, false, (struct engine_span){ 0 }, &producer), EINVAL);
	assert_err(c->ops->tx->producer_open(tx, tx, ENGINE_ANY, false, (struct engine_span){ 0 }, &producer), EINVAL);
	assert_err(c->ops->tx->commit(topic), EINVAL);
	c->ops->put(tx);
	c->ops->put(topic);
}

/* A thousand at once. */
void contract_test_tx_many(struct contract *c)
{
	char command[64];

	q_run(c, "queue q");
	for (int i = 0; i < 1000; i++) {
		snprintf(command, sizeof(command), "tx t%d", i);
		assert_text(q_run(c, command), "ok");
		snprintf(command, sizeof(command), "in t%d send q m%d", i, i);
		assert_text(q_run(c, command), "ok");
	}
	for (int i = 0; i < 1000; i += 100) {
		snprintf(command, sizeof(command), "commit t%d", i);
		assert_text(q_run(c, command), "ok");
	}
	Q_SCRIPT(c, "totals q ready => 10");
}

/* An open one is aborted by a restart, and its leases are what they were. */
void contract_test_tx_reopen(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a", "get q => a", "tx t", "in t send q b", "in t ack q a => 1", "reopen",
	    "state t => aborted restart", "commit t => ECANCELED", "rollback t", "show q =>  | a | ", "ack q a => 1",
	    "reopen", "state t => aborted restart", "show q =>  |  | ");
}

/* What came of it is known over restarts. */
void contract_test_tx_reopen_committed(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "send q a b", "snap q/w1 => a,b", "tx t", "in t send q c",
	    "in t ack q/w1 a => 1", "in t reject q/w1 b => 1", "commit t", "tx u", "rollback u", "reopen",
	    "state t => committed", "commit t", "show q => c |  | ", "show q/dlq => b |  | ",
	    "state u => aborted rollback", "forget t", "forget u", "reopen", "show q => c |  | ");
}

/* No limit of the dead letters refuses a reject that is staged, as none refuses one outside; what is produced there they do. */
void contract_test_tx_reject_limits(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g");
	struct engine_object *dlq = contract_lookup(c, group, ENGINE_QUEUE, "dlq"), *tx = tx_make(c, "x");
	struct engine_queue_stat stat;

	contract_send(c, topic, 0, "long\nlonger\n");
	assert_ok(c->ops->set_setting(dlq, engine_setting_find(ENGINE_QUEUE, "max.length"), "1"));
	assert_ok(c->ops->set_setting(dlq, engine_setting_find(ENGINE_QUEUE, "max.message.bytes"), "2"));
	assert_ok(c->ops->set_setting(dlq, engine_setting_find(ENGINE_QUEUE, "overflow"), "reject-publish"));
	contract_snapshot(c, group);
	cr_assert_eq(c->ops->tx->reject_all(tx, group, ENGINE_ANY), 2);
	assert_err(tx_send(c, tx, dlq, ENGINE_ANY, NULL, "own\n"), EMSGSIZE);
	assert_ok(c->ops->tx->commit(tx));
	assert_text(contract_cursor(c, group, 0), "2 2 0");
	assert_ok(c->ops->queue->queue_stat(dlq, &stat));
	cr_assert_eq(stat.ready, 2);
	c->ops->put(tx);
	tx = tx_make(c, "y");
	assert_ok(tx_send(c, tx, dlq, ENGINE_ANY, NULL, "o\n"));
	assert_err(c->ops->tx->commit(tx), EDQUOT);
	c->ops->put(tx);
	c->ops->put(dlq);
	c->ops->put(group);
	c->ops->put(topic);
}
