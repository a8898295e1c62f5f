/* The contract of queues: states, and every way from one to another, allowed or refused. */
#include "tests/lib/contract_queue.h"

/* A message is ready, then leased, then gone; each step is seen in the lists, the counters and the message itself. */
void contract_test_q_lifecycle(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a b", "show q => a,b |  | ", "message q a => ready p0 d0", "get q => a",
	    "show q => b | a | ", "message q a => unacked p0 d1 +300000", "ack q a => 1", "show q => b |  | ",
	    "message q a => ENOENT", "get q => b", "nack q b => 1", "show q => b |  | ", "message q b => ready p0 d1",
	    "get q => b+", "reject q b => 1", "show q =>  |  | ", "show q/dlq => b |  | ", "get q => -",
	    "totals q => published 2 delivered 3 redelivered 1 acked 1 dead_lettered 1");
}

static const struct {
	const char *state, *command, *answer, *after; /* after: in q, and behind a slash in q/dlq */
} transitions[] = {
	{ "ready", "get q", "m", " | m | " },
	{ "ready", "take q", "m", " |  | " },
	{ "ready", "rm q ready m", "ok", " |  | " },
	{ "ready", "rm q unacked m", "ENOENT", "m |  | " },
	{ "ready", "rm q delayed m", "ENOENT", "m |  | " },
	{ "ready", "purge q", "ok", " |  | " },
	{ "ready", "ack q m", "ENOENT", "m |  | " },
	{ "ready", "nack q m", "ENOENT", "m |  | " },
	{ "ready", "reject q m", "ENOENT", "m |  | " },
	{ "ready", "ack q/w1 all", "0", "m |  | " },
	{ "ready", "touch q ready m", "ok", "m |  | " },
	{ "ready", "touch q ready m 1000", "ok", " |  | m" },
	{ "ready", "touch q ready m -1000", "ok", "m |  | " },
	{ "ready", "touch q unacked m", "ENOENT", "m |  | " },
	{ "ready", "touch q delayed m", "ENOENT", "m |  | " },
	{ "ready", "mv q ready m q ready", "ok", "m |  | " },
	{ "ready", "mv q ready m q ready p5", "ok", "m |  | " },
	{ "ready", "mv q ready m q unacked q/w1", "ok", " | m | " },
	{ "ready", "mv q ready m q unacked q", "ok", " | m | " },
	{ "ready", "mv q ready m q delayed", "EINVAL", "m |  | " },
	{ "ready", "mv q unacked m q ready", "ENOENT", "m |  | " },
	{ "ready", "mv q delayed m q ready", "ENOENT", "m |  | " },
	{ "ready", "mv q ready m q/dlq ready", "ok", " |  |  / m |  | " },
	{ "ready", "rmdir q", "ENOTEMPTY", "m |  | " },
	{ "unacked", "ack q/w1 m", "1", " |  | " },
	{ "unacked", "nack q/w1 m", "1", "m |  | " },
	{ "unacked", "reject q/w1 m", "1", " |  |  / m |  | " },
	{ "unacked", "ack q m", "EPERM", " | m | " },
	{ "unacked", "nack q m", "EPERM", " | m | " },
	{ "unacked", "reject q m", "EPERM", " | m | " },
	{ "unacked", "ack q/w2 m", "EPERM", " | m | " },
	{ "unacked", "ack q/w1 all", "1", " |  | " },
	{ "unacked", "nack q/w1 all", "1", "m |  | " },
	{ "unacked", "reject q/w1 all", "1", " |  |  / m |  | " },
	{ "unacked", "ack q all", "EINVAL", " | m | " },
	{ "unacked", "ack q/w2 all", "0", " | m | " },
	{ "unacked", "get q", "-", " | m | " },
	{ "unacked", "take q/w1", "-", " | m | " },
	{ "unacked", "rm q unacked m", "ok", " |  | " },
	{ "unacked", "rm q ready m", "ENOENT", " | m | " },
	{ "unacked", "purge q", "ok", " | m | " },
	{ "unacked", "touch q unacked m", "ok", " | m | " },
	{ "unacked", "touch q ready m 1000", "ENOENT", " | m | " },
	{ "unacked", "mv q unacked m q ready", "ok", "m |  | " },
	{ "unacked", "mv q unacked m q unacked q/w1", "ok", " | m | " },
	{ "unacked", "mv q unacked m q unacked q/w2", "ok", " | m | " },
	{ "unacked", "mv q unacked m q/dlq ready", "ok", " |  |  / m |  | " },
	{ "unacked", "mv q ready m q/dlq ready", "ENOENT", " | m | " },
	{ "unacked", "rmdir q/w1", "ok", "m |  | " },
	{ "unacked", "rmdir q", "ENOTEMPTY", " | m | " },
	{ "delayed", "get q", "-", " |  | m" },
	{ "delayed", "rm q delayed m", "ok", " |  | " },
	{ "delayed", "rm q ready m", "ENOENT", " |  | m" },
	{ "delayed", "purge q", "ok", " |  | " },
	{ "delayed", "ack q m", "ENOENT", " |  | m" },
	{ "delayed", "touch q delayed m", "ok", "m |  | " },
	{ "delayed", "touch q delayed m 5", "ok", " |  | m" },
	{ "delayed", "touch q ready m 5", "ENOENT", " |  | m" },
	{ "delayed", "mv q delayed m q ready", "ok", "m |  | " },
	{ "delayed", "mv q delayed m q unacked q/w1", "ok", " | m | " },
	{ "delayed", "mv q delayed m q/dlq ready", "ok", " |  |  / m |  | " },
	{ "delayed", "rmdir q", "ENOTEMPTY", " |  | m" },
	{ "dead", "rmdir q", "ENOTEMPTY", " |  |  / m |  | " },
	{ "dead", "get q/dlq", "m", " |  |  /  | m | " },
	{ "dead", "rm q/dlq ready m", "ok", " |  |  /  |  | " },
	{ "dead", "rm q ready m", "ENOENT", " |  |  / m |  | " },
	{ "dead", "purge q", "ok", " |  |  / m |  | " },
	{ "dead", "purge q/dlq", "ok", " |  |  /  |  | " },
	{ "dead", "redrive q/dlq", "1", "m |  | " },
	{ "dead", "redrive q/dlq m", "1", "m |  | " },
	{ "dead", "redrive q", "EINVAL", " |  |  / m |  | " },
	{ "dead", "mv q/dlq ready m q ready", "ok", "m |  | " },
	{ "dead", "mv q/dlq ready m q unacked q/w1", "ok", " | m | " },
	{ "dead", "ack q m", "EALREADY", " |  |  / m |  | " },
	{ "gone", "ack q/w1 m", "EALREADY", " |  | " },
	{ "gone", "nack q/w1 m", "EALREADY", " |  | " },
	{ "gone", "reject q/w2 m", "EALREADY", " |  | " },
	{ "gone", "rm q ready m", "ENOENT", " |  | " },
	{ "gone", "rm q unacked m", "ENOENT", " |  | " },
	{ "gone", "mv q ready m q/dlq ready", "ENOENT", " |  | " },
	{ "gone", "touch q unacked m", "ENOENT", " |  | " },
	{ "gone", "rmdir q", "ok", NULL },
};

/* Brings the message m of a new queue q into a state. */
static void bring_to(struct contract *c, const char *state)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "consumer q/w2", "send q m");
	if (strcmp(state, "unacked") == 0)
		Q_SCRIPT(c, "get q/w1 => m");
	else if (strcmp(state, "delayed") == 0)
		Q_SCRIPT(c, "touch q ready m 60000");
	else if (strcmp(state, "dead") == 0)
		Q_SCRIPT(c, "get q/w1 => m", "reject q/w1 m => 1");
	else if (strcmp(state, "gone") == 0)
		Q_SCRIPT(c, "get q/w1 => m", "ack q/w1 m => 1");
}

static void end_queue(struct contract *c)
{
	q_tick(300000);
	Q_SCRIPT(c, "purge q", "purge q/dlq", "rmdir q => ok");
}

/* Every call on a message in every state: it leads where the table says, or is refused and changes nothing. */
void contract_test_q_transitions(struct contract *c)
{
	for (size_t i = 0; i < sizeof(transitions) / sizeof(transitions[0]); i++) {
		char shown[128];

		q_forget();
		bring_to(c, transitions[i].state);
		cr_assert_str_eq(q_run(c, transitions[i].command), transitions[i].answer, "%s, %s: %s",
		    transitions[i].state, transitions[i].command, q_answer());
		if (transitions[i].after == NULL)
			continue;
		strcpy(shown, q_run(c, "show q"));
		if (strchr(transitions[i].after, '/') != NULL)
			strcat(strcat(shown, " / "), q_run(c, "show q/dlq"));
		cr_assert_str_eq(
		    shown, transitions[i].after, "%s, %s: %s", transitions[i].state, transitions[i].command, shown);
		end_queue(c);
	}
}

/* Calls that name what there is not, or of the wrong kind, are refused. */
void contract_test_q_refused(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *queue, *defaults;
	struct engine_producer *producer = NULL;
	struct engine_consumer *consumer = NULL;
	struct engine_session *session = NULL;
	struct engine_queue_stat stat;

	Q_SCRIPT(c, "queue q", "message q #1 => ENOENT", "rm q ready #99 => ENOENT", "ack q #0 => ENOENT",
	    "ack q #18446744073709551615 => ENOENT");
	queue = q_object(c, "q");
	defaults = c->ops->defaults(c->engine, ENGINE_QUEUE);
	assert_err(c->ops->queue->producer_open(topic, 0, false, &producer), EINVAL);
	assert_err(c->ops->queue->producer_open(defaults, 0, false, &producer), EINVAL);
	assert_err(c->ops->queue->producer_open(queue, ENGINE_PRIORITIES, false, &producer), EINVAL);
	assert_err(c->ops->producer_open(queue, 0, (struct engine_span){ NULL, 0 }, &producer), EINVAL);
	assert_err(c->ops->queue->consumer_open(topic, ENGINE_CONSUME_ONE, false, 0, &consumer), EINVAL);
	assert_err(c->ops->consumer_open(queue, 0, ENGINE_CONSUME_ONE, &consumer), EINVAL);
	assert_err(c->ops->queue->session_open(queue, &session), EINVAL);
	assert_err(c->ops->queue->settle(topic, ENGINE_ACK, 1, 1), EINVAL);
	assert_err(c->ops->queue->settle(queue, ENGINE_ACK, 2, 1), EINVAL);
	assert_err(c->ops->queue->queue_stat(topic, &stat), EINVAL);
	assert_err(c->ops->queue->purge(topic), EINVAL);
	assert_err(c->ops->ack_all(queue, 0), EINVAL);
	cr_assert(producer == NULL && consumer == NULL && session == NULL, "outputs stay untouched on failure");
	c->ops->put(queue);
	c->ops->put(topic);
}

/* What a single id gets that its consumer does not hold: unknown, settled, lost, or another's. */
void contract_test_q_settle_errors(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue o", "consumer q/w1", "consumer q/w2", "send q a b", "send o x", "get q/w1 => a",
	    "ack q/w2 a => EPERM", "ack q a => EPERM", "ack q/w1 b => ENOENT", "ack q/w1 x => ENOENT", "get q => b",
	    "ack q/w1 b => EPERM", "nack q b => 1", "nack q b => EALREADY", "ack q/w1 b => EALREADY", "ack q/w1 a => 1",
	    "ack q/w1 a => EALREADY", "nack q/w2 a => EALREADY", "take q => b+", "ack q b => EALREADY");
}

/* Also of one that was moved here and is removed by hand, which the order of ids does not find again. */
void contract_test_q_settle_moved(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue o", "send q a d e", "send o b", "mv q ready a o ready", "get o => b",
	    "get o => a", "rm o unacked a", "ack o a => EALREADY", "rm o unacked b", "ack o b => EALREADY",
	    "mv q ready d o ready", "rm o ready d", "ack o d => ENOENT", "mv q ready e o ready", "get o => e",
	    "tick 300000", "rm o ready e", "ack o e => ESTALE");
}

/* A range settles what the consumer holds of it; if that is nothing, it is refused as its first message is. */
void contract_test_q_settle_ranges(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "send q a b c d e", "get q/w1 => a", "get q => b", "get q/w1 => c",
	    "get q/w1 => d", "ack q/w1 a-c => 2", "show q => e | b,d | ", "ack q/w1 a-c => EALREADY",
	    "ack q/w1 b-c => EPERM", "ack q d-e => EPERM", "ack q/w1 e-#99999 => ENOENT", "nack q/w1 a-e => 1",
	    "reject q b-e => 1", "show q => d,e |  | ", "show q/dlq => b |  | ", "get q/w1 => d+", "get q/w1 => e",
	    "ack q/w1 #0-#18446744073709551615 => 2", "ack q/w1 all => 0");
}

/* Who settles too late is told that the lease is over, whatever became of the message since. */
void contract_test_q_late_acks(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "consumer q/w2", "send q a", "get q/w1 => a", "tick 300000",
	    "ack q/w1 a => ESTALE", "show q => a |  | ", "get q/w2 => a+", "ack q/w1 a => ESTALE",
	    "nack q/w1 a => ESTALE", "ack q a => EPERM", "nack q/w2 a => 1", "get q/w1 => a+", "ack q/w2 a => EALREADY",
	    "tick 300000", "rm q ready a", "ack q/w1 a => ESTALE");
}

/* What was acknowledged out of order stays so, also when all around it is purged. */
void contract_test_q_late_acks_purged(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a b c", "mv q ready b q unacked q => ok", "ack q b => 1", "purge q",
	    "ack q b => EALREADY", "ack q a => ENOENT", "ack q c => ENOENT");
}

/* What died, came back with another priority and was purged was never leased. */
void contract_test_q_late_acks_redriven(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a:p7:t5 b:p7:t5", "tick 5", "set q max.priority 3 => ok", "redrive q/dlq => 2",
	    "purge q", "ack q a => ENOENT", "ack q b => ENOENT");
}

static bool first_name(void *ctx, const struct engine_dirent *entry)
{
	strcat(strcat(ctx, entry->name), " ");
	return true;
}

/* A queue comes with its dead letters, which are a queue; consumers have names of their own below it. */
void contract_test_q_objects(struct contract *c)
{
	struct engine_object *queue, *dlq, *found = NULL;
	char names[64] = "";
	struct engine_identity identity;

	Q_SCRIPT(c, "queue q", "queue q => EEXIST", "consumer q/w1", "consumer q/w1 => EEXIST", "consumer q/w2");
	queue = q_object(c, "q");
	dlq = q_object(c, "q/dlq");
	assert_ok(c->ops->identity(dlq, &identity));
	cr_assert_eq(identity.kind, ENGINE_QUEUE);
	cr_assert_eq(identity.parent_id, contract_id(c, queue));
	assert_err(c->ops->lookup(c->engine, dlq, ENGINE_QUEUE, "dlq", &found), ENOENT);
	assert_ok(c->ops->list(c->engine, queue, ENGINE_CONSUMER, 0, first_name, names));
	cr_assert_str_eq(names, "w1 w2 ");
	names[0] = '\0';
	assert_ok(c->ops->list(c->engine, c->root, ENGINE_QUEUE, 0, first_name, names));
	cr_assert_str_eq(names, "q ", "dead letters are below their queue only");
	assert_err(c->ops->remove(dlq), EPERM);
	assert_err(c->ops->rename(dlq, "dead"), EPERM);
	c->ops->put(dlq);
	c->ops->put(queue);
	Q_SCRIPT(c, "send q a", "get q/w1 => a", "rename q jobs => ok", "rename jobs/w1 worker => ok",
	    "ack jobs/worker a => 1");
}

/* A queue is removed when it is empty, with its consumers and open files; a consumer at any time. */
void contract_test_q_remove(struct contract *c)
{
	struct engine_object *queue, *worker;
	struct engine_queue_stat stat;

	Q_SCRIPT(c, "queue q", "consumer q/w1", "send q a", "open f q/w1 stream", "open s q/w1 session", "read f => a",
	    "rmdir q/w1 => ok", "show q => a |  | ", "read f => EIDRM", "close f", "close s");
	Q_SCRIPT(c, "consumer q/w2", "open f q stream", "read f => a+", "rmdir q => ENOTEMPTY", "ack q a => 1",
	    "arm f => 0");
	queue = q_object(c, "q");
	worker = q_object(c, "q/w2");
	Q_SCRIPT(
	    c, "rmdir q => ok", "woken f => yes", "read f => EIDRM", "close f", "queue q => ok", "show q =>  |  | ");
	assert_err(c->ops->queue->queue_stat(queue, &stat), EIDRM);
	assert_err(c->ops->queue->settle(worker, ENGINE_ACK, 1, 1), EIDRM);
	c->ops->put(worker);
	c->ops->put(queue);
}

/* Settings start at the table's values; dead letters start so that nothing is lost there. */
void contract_test_q_settings(struct contract *c)
{
	struct engine_object *queue;

	Q_SCRIPT(c, "queue q");
	queue = q_object(c, "q");
	for (const struct engine_setting *s = engine_settings; s->name != NULL; s++) {
		char value[ENGINE_VALUE_MAX];

		if (s->kind != ENGINE_QUEUE)
			continue;
		assert_ok(c->ops->get_setting(queue, s, value));
		cr_assert_str_eq(value, s->initial, "%s is %s", s->name, value);
	}
	c->ops->put(queue);
	assert_ok(c->ops->set_setting(
	    c->ops->defaults(c->engine, ENGINE_QUEUE), engine_setting_find(ENGINE_QUEUE, "delivery.limit"), "3"));
	Q_SCRIPT(c, "queue o", "setting o delivery.limit => 3", "setting o/dlq delivery.limit => -1",
	    "setting o/dlq dead.letter.to => none", "set o/dlq dead.letter.to dlq => EINVAL",
	    "set o/dlq dead.letter.to queues/q => ok", "set q dead.letter.to queues/nowhere => ok",
	    "setting q dead.letter.to => queues/nowhere", "set q dead.letter.to topics/e => EINVAL",
	    "set q max.priority 10 => ERANGE", "set q overflow reject-publish => ok",
	    "setting q overflow => reject-publish");
}

/* A consumer has its queue's value until it has one of its own, and again when that is taken away. */
void contract_test_q_consumer_settings(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "setting q/w1 prefetch => 256", "set q prefetch 7 => ok",
	    "setting q/w1 prefetch => 7", "set q/w1 prefetch 3 => ok", "setting q/w1 prefetch => 3",
	    "setting q prefetch => 7", "set q/w1 prefetch => ok", "setting q/w1 prefetch => 7",
	    "setting q/w1 auto.ack => false", "set q auto.ack true => ok", "setting q/w1 auto.ack => true",
	    "set q/w1 prefetch x => EINVAL", "set q/w1 auto.ack no => ok", "setting q/w1 auto.ack => false");
}

/* What travels with a message comes out with it, by reading and by looking, also after it died. */
void contract_test_q_props(struct contract *c)
{
	static const uint32_t lengths[] = { 3, 0 };
	struct engine_header header = { { "n", 1 }, { "v", 1 } };
	struct engine_props props[2] = { ENGINE_PROPS_INIT, ENGINE_PROPS_INIT };
	struct engine_batch batch = { .data = "a\nb\n\n",
		.len = 5,
		.count = 2,
		.lengths = lengths,
		.props = props,
		.cred = { 1, 2, 3 },
		.ts_ms = -1 };
	struct engine_producer *producer = NULL;
	struct engine_consumer *consumer = NULL;
	struct engine_object *queue, *dlq;
	struct engine_view view;

	Q_SCRIPT(c, "queue q");
	queue = q_object(c, "q");
	dlq = q_object(c, "q/dlq");
	props[0].key = (struct engine_span){ "k", 1 };
	props[0].headers = &header;
	props[0].header_count = 1;
	props[0].ts_ms = 1234;
	assert_ok(c->ops->queue->producer_open(queue, ENGINE_ANY, false, &producer));
	assert_ok(contract_send_batch(c, producer, &batch));
	c->ops->producer_close(producer);
	assert_ok(c->ops->queue->consumer_open(queue, ENGINE_CONSUME_ONE, false, 0, &consumer));
	cr_assert_eq(c->ops->consumer_fetch(consumer, 1, 1, &c->scratch, &view), 1);
	assert_err(c->ops->consumer_rewind(consumer), ESPIPE);
	c->ops->consumer_close(consumer);
	cr_assert_eq(c->ops->queue->settle(queue, ENGINE_REJECT, view.deliveries[0].id, view.deliveries[0].id), 1);
	assert_ok(c->ops->queue->message_read(dlq, view.deliveries[0].id, &c->scratch, &view));
	cr_assert(view.batch.count == 1 && view.batch.lengths[0] == 3 && memcmp(view.batch.data, "a\nb\n", 4) == 0);
	cr_assert(view.batch.cred.uid == 1 && view.batch.cred.gid == 2 && view.batch.cred.pid == 3);
	cr_assert_not_null(view.batch.props);
	cr_assert(view.batch.props->ts_ms == 1234 && view.batch.props->key.len == 1);
	cr_assert(view.batch.props->header_count == 1 && view.batch.props->headers[0].value.ptr[0] == 'v');
	cr_assert(view.batch.props->death_count == 1 && view.batch.props->deaths[0].count == 1);
	cr_assert_eq(c->ops->queue->queue_stat(queue, &(struct engine_queue_stat){ 0 }), 0);
	c->ops->put(dlq);
	c->ops->put(queue);
}
