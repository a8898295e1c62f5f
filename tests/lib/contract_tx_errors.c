/* The contract of transactions: what staging refuses, whose transaction it is and whose partition, and what was staged for what is gone. */
#include "tests/lib/contract_member.h"
#include "tests/lib/contract_tx.h"

static struct engine_object *make(struct contract *c, enum engine_kind kind, const char *name)
{
	struct engine_owner owner = { 1000, 100, 0700 };
	struct engine_object *object = NULL;

	assert_ok(c->ops->create(c->engine, c->root, kind, name, &owner, &object));
	return object;
}

static struct engine_span span(const char *text)
{
	return (struct engine_span){ text, text != NULL ? strlen(text) : 0 };
}

/* Stages lines; of the first, with these properties if they are not NULL. */
static int stage(struct contract *c, struct engine_object *tx, struct engine_object *target, uint32_t partition,
    const char *key, const struct engine_props *props, const char *lines)
{
	struct engine_batch batch = contract_batch(lines);
	struct engine_producer *producer = NULL;
	int rc = c->ops->tx->producer_open(tx, target, partition, false, span(key), &producer);

	batch.props = props;
	if (rc == 0)
		rc = c->ops->producer_send(producer, &batch, NULL);
	c->ops->producer_close(producer);
	return rc;
}

static uint64_t ready(struct contract *c, struct engine_object *queue)
{
	struct engine_queue_stat stat;

	assert_ok(c->ops->queue->queue_stat(queue, &stat));
	return stat.ready;
}

/* One partition, or all of them where that has a meaning. */
void contract_test_tx_partitions(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "orders", 2), *group = contract_group(c, topic, "g");
	struct engine_object *dlq = contract_lookup(c, group, ENGINE_QUEUE, "dlq"), *tx = make(c, ENGINE_TX, "t");

	contract_send(c, topic, 0, "a\nb\n");
	contract_send(c, topic, 1, "c\nd\n");
	contract_snapshot(c, group);
	assert_err(c->ops->tx->ack(tx, group, ENGINE_ANY, 0), EINVAL);
	assert_err(c->ops->tx->reject(tx, group, ENGINE_ANY, 0), EINVAL);
	assert_err(c->ops->tx->seek(tx, group, ENGINE_ANY, ENGINE_SEEK_OFFSET, 0), EINVAL);
	assert_err(c->ops->tx->seek(tx, group, ENGINE_ANY, ENGINE_SEEK_RELATIVE, 0), EINVAL);
	assert_err(c->ops->tx->ack_all(tx, group, 2), ENOENT);
	assert_err((int)c->ops->tx->reject_all(tx, group, 2), ENOENT);
	assert_err(c->ops->tx->seek(tx, group, 2, ENGINE_SEEK_LATEST, 0), ENOENT);
	assert_ok(c->ops->tx->ack_all(tx, group, 1));
	assert_ok(c->ops->tx->commit(tx));
	assert_text(contract_cursor(c, group, 0), "0 2 0");
	assert_text(contract_cursor(c, group, 1), "2 2 0");
	c->ops->put(tx);
	tx = make(c, ENGINE_TX, "u");
	cr_assert_eq(c->ops->tx->reject_all(tx, group, 0), 2);
	cr_assert_eq(c->ops->tx->reject_all(tx, group, ENGINE_ANY), 0);
	assert_ok(c->ops->tx->commit(tx));
	cr_assert_eq(ready(c, dlq), 2);
	c->ops->put(tx);
	tx = make(c, ENGINE_TX, "v");
	assert_err(c->ops->tx->seek(tx, group, 0, ENGINE_SEEK_RELATIVE, -3), ERANGE);
	assert_ok(c->ops->tx->seek(tx, group, 0, ENGINE_SEEK_RELATIVE, -1));
	assert_err(c->ops->tx->seek(tx, group, 0, ENGINE_SEEK_RELATIVE, INT64_MAX), ERANGE);
	assert_ok(c->ops->tx->seek(tx, group, 1, ENGINE_SEEK_EARLIEST, 0));
	assert_ok(c->ops->tx->commit(tx));
	assert_text(contract_cursor(c, group, 0), "1 1 0");
	assert_text(contract_cursor(c, group, 1), "0 0 0");
	c->ops->put(tx);
	tx = make(c, ENGINE_TX, "w");
	assert_ok(c->ops->tx->seek(tx, group, ENGINE_ANY, ENGINE_SEEK_LATEST, 0));
	assert_ok(c->ops->tx->commit(tx));
	assert_text(contract_cursor(c, group, 0), "2 2 0");
	assert_text(contract_cursor(c, group, 1), "2 2 0");
	c->ops->put(tx);
	c->ops->put(dlq);
	c->ops->put(group);
	c->ops->put(topic);
}

/* In one that has ended nothing is staged, whatever it is; nor in one that was removed, by who had it open. */
void contract_test_tx_staging_ended(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "orders", 1), *group = contract_group(c, topic, "g");
	struct engine_object *queue, *holder, *tx = make(c, ENGINE_TX, "t");
	struct engine_batch batch = contract_batch("x\n");
	struct engine_producer *producer;

	Q_SCRIPT(c, "queue q", "consumer q/w1", "send q a", "get q/w1 => a");
	queue = q_object(c, "q");
	holder = q_object(c, "q/w1");
	contract_send(c, topic, 0, "a\n");
	contract_snapshot(c, group);
	for (int removed = 0; removed < 2; removed++) {
		int err = removed ? EIDRM : EALREADY;

		assert_ok(c->ops->tx->producer_open(tx, queue, ENGINE_ANY, false, span(NULL), &producer));
		if (removed)
			assert_ok(c->ops->remove(tx));
		else
			assert_ok(c->ops->tx->commit(tx));
		assert_err(c->ops->producer_send(producer, &batch, NULL), removed ? ECANCELED : EALREADY);
		c->ops->producer_close(producer);
		assert_err(stage(c, tx, queue, ENGINE_ANY, NULL, NULL, "x\n"), err);
		assert_err(c->ops->tx->ack(tx, group, 0, 0), err);
		assert_err(c->ops->tx->ack_all(tx, group, ENGINE_ANY), err);
		assert_err(c->ops->tx->reject(tx, group, 0, 0), err);
		assert_err((int)c->ops->tx->reject_all(tx, group, ENGINE_ANY), err);
		assert_err(c->ops->tx->seek(tx, group, 0, ENGINE_SEEK_LATEST, 0), err);
		assert_err((int)c->ops->tx->settle(tx, holder, ENGINE_ACK, 1, 1), err);
		assert_err((int)c->ops->tx->settle_all(tx, holder, ENGINE_ACK), err);
		c->ops->put(tx);
		tx = make(c, ENGINE_TX, "u");
	}
	assert_text(contract_cursor(c, group, 0), "0 1 0");
	Q_SCRIPT(c, "show q =>  | a | ");
	c->ops->put(tx);
	c->ops->put(holder);
	c->ops->put(queue);
	c->ops->put(group);
	c->ops->put(topic);
}

/* A member stages of its own partitions, and loses what it staged with them. */
void contract_test_tx_members(struct contract *c)
{
	struct members m = members_make(c, 2);
	struct engine_object *one = members_add(c, &m, "one"), *two, *tx = make(c, ENGINE_TX, "t"),
			     *u = make(c, ENGINE_TX, "u");
	struct engine_object *v = make(c, ENGINE_TX, "v"), *dlq = contract_lookup(c, m.group, ENGINE_QUEUE, "dlq");

	contract_send(c, m.topic, 0, "a\nb\n");
	contract_send(c, m.topic, 1, "c\nd\n");
	assert_text(contract_snapshot(c, one), "0:0=a 0:1=b 1:0=c 1:1=d");
	assert_err(c->ops->tx->seek(tx, one, 0, ENGINE_SEEK_EARLIEST, 0), EINVAL);
	assert_ok(c->ops->tx->ack(tx, one, 0, 0));
	assert_ok(c->ops->tx->reject(tx, one, 0, 1));
	assert_ok(c->ops->tx->ack_all(tx, one, ENGINE_ANY));
	assert_ok(c->ops->tx->commit(tx));
	assert_text(contract_cursor(c, m.group, 0), "2 2 0");
	assert_text(contract_cursor(c, m.group, 1), "2 2 0");
	cr_assert_eq(ready(c, dlq), 1);
	contract_send(c, m.topic, 0, "e\n");
	contract_send(c, m.topic, 1, "f\n");
	assert_text(contract_snapshot(c, one), "0:2=e 1:2=f");
	assert_ok(c->ops->tx->ack(u, one, 0, 2));
	assert_ok(c->ops->tx->ack(u, one, 1, 2));
	two = members_add(c, &m, "two");
	contract_snapshot(c, two); /* it has one of them now */
	cr_assert(strlen(members_owned(c, two)) == 1);
	assert_err(c->ops->tx->commit(u), ESTALE);
	assert_ok(c->ops->tx->ack_all(v, two, ENGINE_ANY));
	assert_ok(c->ops->tx->ack_all(v, one, ENGINE_ANY));
	contract_snapshot(c, two);
	assert_ok(c->ops->tx->ack_all(v, two, ENGINE_ANY));
	assert_ok(c->ops->remove(two));
	assert_err(c->ops->tx->commit(v), ESTALE);
	c->ops->put(v);
	c->ops->put(u);
	c->ops->put(tx);
	c->ops->put(dlq);
	c->ops->put(two);
	c->ops->put(one);
	members_put(c, &m);
}

/* What a topic or an exchange would refuse is refused when it is staged. */
void contract_test_tx_producers(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "orders", 2), *compact = contract_topic(c, "state", 1), *gone;
	struct engine_object *exchange, *tx = make(c, ENGINE_TX, "t");
	struct engine_props props = ENGINE_PROPS_INIT;
	struct engine_batch batch = contract_batch("x\n");
	struct engine_producer *producer;

	props.partition = 2;
	assert_err(stage(c, tx, topic, ENGINE_ANY, NULL, &props, "x\n"), ERANGE);
	props.partition = 1;
	assert_ok(stage(c, tx, topic, ENGINE_ANY, NULL, &props, "x\n"));
	assert_ok(contract_set(c, compact, "cleanup.policy", "compact"));
	assert_err(stage(c, tx, compact, ENGINE_ANY, NULL, NULL, "x\n"), EINVAL);
	assert_ok(stage(c, tx, compact, ENGINE_ANY, "k", NULL, "x\n"));
	gone = make(c, ENGINE_QUEUE, "gone");
	assert_ok(c->ops->tx->producer_open(tx, gone, ENGINE_ANY, false, span(NULL), &producer));
	assert_ok(c->ops->remove(gone));
	assert_err(c->ops->producer_send(producer, &batch, NULL), EIDRM);
	c->ops->producer_close(producer);
	c->ops->put(gone);
	if (c->ops->exchange != NULL) {
		exchange = make(c, ENGINE_EXCHANGE, "e");
		assert_err(stage(c, tx, exchange, 0, "a", NULL, "x\n"), EINVAL);
		assert_err(stage(c, tx, exchange, ENGINE_ANY, NULL, NULL, "x\n"), EHOSTUNREACH);
		assert_ok(c->ops->exchange->pattern_add(exchange, "a"));
		assert_ok(c->ops->exchange->bind(exchange, "a", "orders", topic));
		assert_ok(contract_set(c, topic, "max.message.bytes", "3"));
		props = ENGINE_PROPS_INIT;
		props.routing_key = span("a"); /* counts more than the channel's */
		assert_ok(stage(c, tx, exchange, ENGINE_ANY, "b", &props, "x\n"));
		assert_err(stage(c, tx, exchange, ENGINE_ANY, "b", NULL, "x\n"), EHOSTUNREACH);
		assert_err(stage(c, tx, exchange, ENGINE_ANY, "a", NULL, "long\n"), EMSGSIZE);
		c->ops->put(exchange);
	}
	assert_ok(c->ops->tx->commit(tx));
	cr_assert_eq(contract_stat(c, topic).messages, c->ops->exchange != NULL ? 2 : 1);
	cr_assert_eq(contract_stat(c, compact).messages, 1);
	c->ops->put(tx);
	c->ops->put(compact);
	c->ops->put(topic);
}

static void refused(struct contract *c, struct engine_object *tx, int err, const char *names)
{
	assert_err(c->ops->tx->commit(tx), err);
	cr_assert(strstr(engine_reason(), names) != NULL, "\"%s\" does not name %s", engine_reason(), names);
	c->ops->put(tx);
}

/* Which of its targets a commit is refused by, as there may be many. */
void contract_test_tx_names(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "orders", 1), *group, *gone, *exchange,
			     *tx = make(c, ENGINE_TX, "t");
	struct members m = members_make(c, 1);
	struct engine_object *one = members_add(c, &m, "one");

	Q_SCRIPT(c, "queue q", "queue p", "queue r", "in t send q long", "in t send p long", "in t send r long",
	    "set p max.message.bytes 3 => ok");
	refused(c, tx, EMSGSIZE, "3 for the queue p");
	tx = make(c, ENGINE_TX, "u");
	q_forget();
	Q_SCRIPT(c, "in u send q x");
	assert_ok(stage(c, tx, topic, ENGINE_ANY, NULL, NULL, "long\n"));
	assert_ok(contract_set(c, topic, "max.message.bytes", "3"));
	refused(c, tx, EMSGSIZE, "3 for the topic orders");
	tx = make(c, ENGINE_TX, "v");
	Q_SCRIPT(c, "in v send q y", "in v send r z", "in v send r again", "rmdir r");
	refused(c, tx, EIDRM, "queue r was removed");
	tx = make(c, ENGINE_TX, "w");
	gone = make(c, ENGINE_TOPIC, "gone");
	assert_ok(stage(c, tx, gone, ENGINE_ANY, NULL, NULL, "x\n"));
	assert_ok(c->ops->remove(gone));
	refused(c, tx, EIDRM, "topic gone was removed");
	contract_send(c, topic, 0, "a\n");
	group = contract_group(c, topic, "g");
	contract_snapshot(c, group);
	tx = make(c, ENGINE_TX, "x");
	assert_ok(c->ops->tx->ack(tx, group, 0, 0));
	assert_ok(c->ops->remove(group));
	refused(c, tx, EIDRM, "group g was removed");
	contract_send(c, m.topic, 0, "b\n");
	contract_snapshot(c, one);
	tx = make(c, ENGINE_TX, "y");
	assert_ok(c->ops->tx->ack_all(tx, one, ENGINE_ANY));
	assert_ok(c->ops->remove(one));
	refused(c, tx, ESTALE, "the member is gone");
	if (c->ops->exchange != NULL) {
		Q_SCRIPT(c, "exchange e", "type e fanout => ok", "pattern e x => ok", "bind e x q q => ok");
		exchange = q_object(c, "e");
		tx = make(c, ENGINE_TX, "z");
		assert_ok(stage(c, tx, exchange, ENGINE_ANY, "key", NULL, "long\n"));
		Q_SCRIPT(c, "set q max.message.bytes 3 => ok", "bind e x p p => ok");
		assert_err(stage(c, tx, exchange, ENGINE_ANY, "key", NULL, "long\n"), EMSGSIZE);
		assert_err(c->ops->tx->commit(tx), EMSGSIZE);
		cr_assert(strstr(engine_reason(), "the queue q") != NULL, "%s", engine_reason());
		Q_SCRIPT(c, "unbind e x q => ok", "unbind e x p => ok");
		refused(c, tx, EHOSTUNREACH, "exchange e matches the routing key key");
		c->ops->put(exchange);
	}
	c->ops->put(gone);
	c->ops->put(group);
	c->ops->put(topic);
	c->ops->put(one);
	members_put(c, &m);
}

/*
 * All that a transaction had to do with goes, and then the daemon dies: what the journal says of it is of nothing any more, and
 * does nothing.
 */
void contract_test_tx_crash_of_what_is_gone(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "orders", 1), *group = contract_group(c, topic, "g");
	struct engine_object *out = contract_topic(c, "out", 1), *tx = make(c, ENGINE_TX, "t");

	Q_SCRIPT(c, "queue z", "queue q", "queue o", "consumer z/w1", "consumer q/w1", "send z a b c", "send q d e f",
	    "snap z/w1 => a,b,c", "snap q/w1 => d,e,f");
	contract_send(c, topic, 0, "m\n");
	contract_snapshot(c, group);
	Q_SCRIPT(c, "in t ack z/w1 a => 1", "in t nack z/w1 b => 1", "in t reject z/w1 c => 1", "in t ack q/w1 d => 1",
	    "in t nack q/w1 e => 1", "in t reject q/w1 f => 1", "in t send o x");
	assert_ok(stage(c, tx, out, ENGINE_ANY, NULL, NULL, "y\n"));
	assert_ok(c->ops->tx->ack_all(tx, group, ENGINE_ANY));
	assert_ok(c->ops->tx->commit(tx));
	assert_ok(c->ops->remove(group));
	assert_ok(c->ops->partition_purge(out, ENGINE_ANY, ENGINE_OFFSET_NONE));
	assert_ok(c->ops->remove(out));
	c->ops->put(tx);
	c->ops->put(out);
	c->ops->put(group);
	c->ops->put(topic);
	Q_SCRIPT(c, "forget t", "purge z", "purge z/dlq", "rmdir z", "purge o", "rmdir o", "crash", "show q => e |  | ",
	    "show q/dlq => f |  | ", "crash", "show q => e |  | ");
}
