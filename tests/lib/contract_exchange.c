/* The contract of exchanges: what engine_exchange.h says, in its order. */
#include "tests/lib/contract_exchange.h"

/* An exchange is an object of the store as others are; names are its own among exchanges. */
void contract_test_x_objects(struct contract *c)
{
	struct engine_object *exchange, *topic, *again;
	struct engine_identity identity;

	Q_SCRIPT(c, "exchange e => ok", "exchange e => EEXIST", "topic t => ok", "queue e1 => ok", "exchange f => ok");
	exchange = contract_lookup(c, c->root, ENGINE_EXCHANGE, "e");
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	assert_ok(c->ops->identity(exchange, &identity));
	cr_assert_eq(identity.kind, ENGINE_EXCHANGE);
	cr_assert_eq(identity.parent_id, ENGINE_ROOT_ID);
	assert_ok(c->ops->get(c->engine, identity.id, &again));
	cr_assert_eq(again, exchange);
	cr_assert_eq(contract_stat(c, exchange).owner.mode, 0750);
	c->ops->put(again);
	again = NULL;
	assert_err(c->ops->create(c->engine, topic, ENGINE_EXCHANGE, "x", &(struct engine_owner){ 0 }, &again), EINVAL);
	assert_err(c->ops->create(c->engine, exchange, ENGINE_QUEUE, "x", &(struct engine_owner){ 0 }, &again), EINVAL);
	c->ops->put(topic);
	c->ops->put(exchange);
	Q_SCRIPT(c, "rename e f => EEXIST", "rename e g => ok", "rmdir g => ok", "exchange e => ok");
}

/* Topic is the type at first; another can be had as long as there are no patterns. */
void contract_test_x_types(struct contract *c)
{
	struct engine_object *topic;
	enum engine_exchange_type type;

	Q_SCRIPT(c, "exchange e", "type e => topic", "type e headers => ok", "type e => headers", "type e direct => ok",
	    "type e fanout => ok", "type e other => EINVAL", "type e => fanout", "pattern e x", "type e topic => EBUSY",
	    "type e fanout => ok", "unpattern e x", "type e topic => ok", "type e => topic", "topic t");
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	assert_err(c->ops->exchange->get_type(topic, &type), EINVAL);
	c->ops->put(topic);
}

/* Patterns are there with and without bindings, in the order of their bytes. */
void contract_test_x_patterns(struct contract *c)
{
	char longest[ENGINE_PATTERN_MAX + 2], command[600];

	Q_SCRIPT(c, "exchange e", "topic t", "patterns e => -", "pattern e b.* => ok", "pattern e a.# => ok",
	    "pattern e B => ok", "patterns e => B a.# b.*", "pattern e b.* => EEXIST", "unpattern e c => ENOENT",
	    "unpattern e a.# => ok", "patterns e => B b.*", "bind e B n t => ok", "unpattern e B => ENOTEMPTY",
	    "unbind e B n => ok", "unpattern e B => ok", "pattern e a..b => EINVAL", "pattern e .a => EINVAL",
	    "pattern e a. => EINVAL", "pattern e . => EINVAL", "patterns e => b.*");
	memset(longest, 'x', sizeof(longest));
	longest[ENGINE_PATTERN_MAX] = '\0';
	snprintf(command, sizeof(command), "pattern e %s", longest);
	assert_text(q_run(c, command), "ok");
	longest[ENGINE_PATTERN_MAX] = 'x';
	longest[ENGINE_PATTERN_MAX + 1] = '\0';
	snprintf(command, sizeof(command), "pattern e %s", longest);
	assert_text(q_run(c, command), "ENAMETOOLONG");
	Q_SCRIPT(c, "exchange h", "type h headers", "pattern h x-match=some,a=1 => EINVAL", "pattern h =1 => EINVAL",
	    "pattern h a=1,b => ok", "exchange d", "type d direct", "pattern d a..b => ok");
}

/* A binding has a name under its pattern, and one target. */
void contract_test_x_bindings(struct contract *c)
{
	Q_SCRIPT(c, "exchange e", "topic t", "queue q", "pattern e p", "bindings e p => -", "bind e p two q => ok",
	    "bind e p one t => ok", "bind e p One t => ok", "bindings e p => One one two", "unbind e p one => ok",
	    "bindings e p => One two", "unbind e p one => ENOENT", "pattern e q", "bind e q two t => ok",
	    "bindings e q => two", "bindings e r => ENOENT");
}

/*
 * Patterns and bindings count as objects of who has the exchange, until they are gone; what is refused changes nothing. His
 * transactions that have ended are in nobody's way.
 */
void contract_test_x_counted(struct contract *c)
{
	const struct engine_owner owner = { 1, 1, 0755 };
	struct engine_object *exchange = NULL, *tx = NULL;

	Q_SCRIPT(c, "topic t", "queue q", "exchange other", "pattern other p => ok");
	assert_ok(c->ops->create(c->engine, c->root, ENGINE_EXCHANGE, "e", &owner, &exchange));
	c->object_limit = 4;
	Q_SCRIPT(c, "pattern e p => ok", "bind e p a t => ok", "pattern e p => EEXIST");
	cr_assert_eq(c->kept[1], 3);
	Q_SCRIPT(c, "bind e p b q => ok", "bind e p c t => EDQUOT", "pattern e r => EDQUOT", "bindings e p => a b",
	    "patterns e => p", "rebind e p a b => ok", "bindings e p => b");
	cr_assert_eq(c->kept[1], 3);
	assert_ok(c->ops->create(c->engine, c->root, ENGINE_TX, "x", &owner, &tx));
	assert_ok(c->ops->tx->commit(tx));
	c->ops->put(tx);
	Q_SCRIPT(c, "bind e p c q => ok", "bind e p d q => EDQUOT", "unbind e p b => ok", "bind e p d q => ok",
	    "unbind e p c => ok", "unbind e p d => ok", "unpattern e p => ok");
	cr_assert_eq(c->kept[1], 1);
	cr_assert_eq(c->kept[0], 4);
	c->object_limit = 0;
	Q_SCRIPT(c, "pattern e p => ok", "bind e p a t => ok"); /* and are counted off when the engine is closed */
	c->ops->put(exchange);
}

/* So it is with those that a start finds. */
void contract_test_x_reopen_counted(struct contract *c)
{
	const struct engine_owner owner = { 1, 1, 0755 };
	struct engine_object *exchange = NULL;

	assert_ok(c->ops->create(c->engine, c->root, ENGINE_EXCHANGE, "e", &owner, &exchange));
	c->ops->put(exchange);
	Q_SCRIPT(c, "topic t", "pattern e p => ok", "bind e p a t => ok");
	contract_reopen(c);
	cr_assert_eq(c->kept[1], 3);
	c->object_limit = 3;
	Q_SCRIPT(c, "bind e p b t => EDQUOT", "unbind e p a => ok", "bind e p b t => ok");
	c->object_limit = 0;
}

/* A binding is renamed under its pattern; what had the name is replaced, and not bound any more. */
void contract_test_x_rebind(struct contract *c)
{
	char command[600], name[ENGINE_NAME_MAX + 2];

	Q_SCRIPT(c, "exchange e", "topic t", "queue q", "pattern e p", "bind e p b t => ok", "rebind e p b a => ok",
	    "bindings e p => a", "pub e p 1", "log t => 1@p", "bind e p n q => ok", "rebind e p n a not => EEXIST",
	    "bindings e p => a n", "rebind e p n a => ok", "bindings e p => a", "pub e p 2", "log t => 1@p",
	    "log q => 2@p", "rmdir q => EBUSY",
	    "exchange-stat e => published 2 routed 2 unroutable 0 refused 0 patterns 1 bindings 1");
	Q_SCRIPT(c, "rebind e p a a => ok", "rebind e p a a not => ok", "rebind e p x y => ENOENT",
	    "rebind e x a y => ENOENT", "bind e p b q => ok", "rebind e p b a => ok", "bindings e p => a", "pub e p 3",
	    "log q => 2@p,3@p", "unbind e p a => ok", "unpattern e p => ok", "purge q => ok", "rmdir q => ok");
	Q_SCRIPT(c, "pattern e p", "bind e p a t");
	memset(name, 'x', sizeof(name));
	name[ENGINE_NAME_MAX + 1] = '\0';
	snprintf(command, sizeof(command), "rebind e p a %s", name);
	assert_text(q_run(c, command), "ENAMETOOLONG");
	Q_SCRIPT(c, "bindings e p => a");
}

/* What cannot be bound is refused, and nothing is there then. */
void contract_test_x_bind_errors(struct contract *c)
{
	char command[600], name[ENGINE_NAME_MAX + 2];

	Q_SCRIPT(c, "exchange e", "topic t", "queue q", "consumer q/w", "bind e p n t => ENOENT", "pattern e p",
	    "bind e p n q/dlq => EINVAL", "bind e p n q/w => EINVAL", "bind e p n t => ok", "bind e p n q => EEXIST",
	    "unbind e o n => ENOENT", "bindings e p => n");
	memset(name, 'x', sizeof(name));
	name[ENGINE_NAME_MAX + 1] = '\0';
	snprintf(command, sizeof(command), "bind e p %s t", name);
	assert_text(q_run(c, command), "ENAMETOOLONG");
	Q_SCRIPT(c, "bindings e p => n", "rmdir q => ok");
}

/* No message goes in a circle: neither by bindings nor by alternate exchanges, nor by both. */
void contract_test_x_circles(struct contract *c)
{
	Q_SCRIPT(c, "exchange a", "exchange b", "exchange c", "pattern a p", "pattern b p", "pattern c p",
	    "bind a p self a => ELOOP", "bind a p b b => ok", "bind b p a a => ELOOP", "bind b p c c => ok",
	    "bind c p a a => ELOOP", "bind c p b b => ELOOP", "bindings c p => -",
	    "set c alternate.exchange exchanges/a => ELOOP", "set a alternate.exchange exchanges/a => ELOOP",
	    "setting c alternate.exchange => none", "unbind b p c => ok", "set c alternate.exchange exchanges/a => ok",
	    "bind b p c c => ELOOP", "bind a p c c => ELOOP", "set c alternate.exchange none => ok",
	    "bind b p c c => ok");
}

/* What is bound stays, and so does an exchange with patterns. */
void contract_test_x_removal(struct contract *c)
{
	Q_SCRIPT(c, "exchange e", "exchange f", "topic t", "queue q", "pattern e p", "pattern e o", "bind e p t t",
	    "bind e p q q", "bind e p f f", "bind e o t t", "rmdir t => EBUSY", "rmdir q => EBUSY", "rmdir f => EBUSY",
	    "rmdir e => ENOTEMPTY", "unbind e p t", "rmdir t => EBUSY", "unbind e o t", "rmdir t => ok", "unbind e p q",
	    "rmdir q => ok", "unbind e p f", "rmdir f => ok", "rmdir e => ENOTEMPTY", "unpattern e p", "unpattern e o",
	    "rmdir e => ok");
}

/* RabbitMQ's tutorial of topics. The whole table of patterns is in test_routing.c. */
void contract_test_x_topic(struct contract *c)
{
	Q_SCRIPT(c, "exchange e", "topic q1", "topic q2", "pattern e *.orange.*", "pattern e *.*.rabbit",
	    "pattern e lazy.#", "bind e *.orange.* q1 q1", "bind e *.*.rabbit q2 q2", "bind e lazy.# q2 q2",
	    "pub e quick.orange.rabbit 1 => ok", "pub e lazy.orange.elephant 2 => ok", "pub e quick.orange.fox 3 => ok",
	    "pub e lazy.brown.fox 4 => ok", "pub e lazy.pink.rabbit 5 => ok", "pub e quick.brown.fox 6 => EHOSTUNREACH",
	    "pub e orange 7 => EHOSTUNREACH", "pub e quick.orange.new.rabbit 8 => EHOSTUNREACH",
	    "pub e lazy.orange.new.rabbit 9 => ok", "pub e lazy 10 => ok",
	    "log q1 => 1@quick.orange.rabbit,2@lazy.orange.elephant,3@quick.orange.fox",
	    "log q2 => 1@quick.orange.rabbit,2@lazy.orange.elephant,4@lazy.brown.fox,5@lazy.pink.rabbit,"
	    "9@lazy.orange.new.rabbit,10@lazy");
}

/* Direct: the pattern is the key, whatever is in it. */
void contract_test_x_direct(struct contract *c)
{
	Q_SCRIPT(c, "exchange e", "type e direct", "topic t", "topic u", "pattern e error", "pattern e *",
	    "bind e error t t", "bind e * u u", "pub e error 1 => ok", "pub e * 2 => ok",
	    "pub e info 3 => EHOSTUNREACH", "pub e - 4 => EHOSTUNREACH", "log t => 1@error", "log u => 2@*");
}

/* Fanout: to all, with any key and with none. */
void contract_test_x_fanout(struct contract *c)
{
	Q_SCRIPT(c, "exchange e", "type e fanout", "topic t", "queue q", "pub e k 0 => EHOSTUNREACH", "pattern e any",
	    "pattern e other", "bind e any t t", "bind e other q q", "pub e k 1 => ok", "pub e - 2 3 => ok",
	    "log t => 1@k,2,3", "log q => 1@k,2,3");
}

/* Headers: all of the pairs or any of them, with and without those that begin with x-. */
void contract_test_x_headers(struct contract *c)
{
	Q_SCRIPT(c, "exchange e", "type e headers", "topic all", "topic any", "topic with",
	    "pattern e format=pdf,type=report", "pattern e x-match=any,format=pdf,type=log",
	    "pattern e x-match=all-with-x,format=zip,x-of=1", "bind e format=pdf,type=report n all",
	    "bind e x-match=any,format=pdf,type=log n any", "bind e x-match=all-with-x,format=zip,x-of=1 n with",
	    "pub e - 1:hformat=pdf:htype=report => ok", "pub e - 2:hformat=pdf:htype=log => ok",
	    "pub e - 3:hformat=zip:htype=log => ok", "pub e - 4:hformat=zip:htype=report => EHOSTUNREACH",
	    "pub e - 5:hformat=zip:hx-of=1 => ok", "pub e - 6:hformat=zip:hx-of=2 => EHOSTUNREACH",
	    "pub e - 7 => EHOSTUNREACH", "log all => 1", "log any => 1,2,3", "log with => 5");
}

/* However many bindings match, each target gets one copy. */
void contract_test_x_one_copy(struct contract *c)
{
	Q_SCRIPT(c, "exchange e", "exchange f", "topic t", "queue q", "pattern e #", "pattern e a.*", "pattern e a.b",
	    "pattern f #", "bind e # t t", "bind e a.* t t", "bind e a.b t t", "bind e a.b again t", "bind e # f f",
	    "bind f # t t", "bind f # q q", "bind e # q q", "pub e a.b 1 2 => ok", "log t => 1@a.b,2@a.b",
	    "log q => 1@a.b,2@a.b", "unbind e a.b t", "pub e a.b 3 => ok", "log t => 1@a.b,2@a.b,3@a.b");
}

/* A message goes through exchanges that are bound, each of which decides by its own type. */
void contract_test_x_exchanges(struct contract *c)
{
	Q_SCRIPT(c, "exchange in", "exchange mid", "type mid direct", "exchange last", "type last fanout", "topic t",
	    "topic u", "pattern in #", "pattern mid x.y", "pattern last all", "bind in # mid mid",
	    "bind mid x.y last last", "bind last all t t", "bind last all u u", "pub in x.y 1 => ok",
	    "pub in x.z 2 => EHOSTUNREACH", "pub mid x.y 3 => ok", "pub last - 4 => ok", "log t => 1@x.y,3@x.y,4",
	    "log u => 1@x.y,3@x.y,4");
}

/* The alternate gets what nothing matches, and may have one itself; what matches does not go there. */
void contract_test_x_alternate(struct contract *c)
{
	Q_SCRIPT(c, "exchange e", "exchange rest", "exchange end", "topic t", "topic u", "topic v", "pattern e a",
	    "bind e a t t", "pattern rest b", "bind rest b u u", "type end fanout", "pattern end x", "bind end x v v",
	    "set e alternate.exchange exchanges/none-such => ENOENT", "set e alternate.exchange rest => ok",
	    "setting e alternate.exchange => exchanges/rest", "pub e a 1 => ok", "pub e b 2 => ok",
	    "pub e c 3 => EHOSTUNREACH", "set rest alternate.exchange exchanges/end => ok", "pub e c 4 => ok",
	    "log t => 1@a", "log u => 2@b", "log v => 4@c", "set e alternate.exchange none => ok",
	    "pub e b 5 => EHOSTUNREACH");
}

/* What comes to no target is refused, or under mandatory false dropped and counted; that of the first exchange counts. */
void contract_test_x_mandatory(struct contract *c)
{
	Q_SCRIPT(c, "exchange e", "exchange f", "topic t", "pattern e #", "pattern f a", "bind e # f f", "bind f a t t",
	    "setting e mandatory => true", "set f mandatory false => ok", "pub e b 1 => EHOSTUNREACH",
	    "set f mandatory true", "set e mandatory false => ok", "pub e b 2 => ok", "pub f b 3 => EHOSTUNREACH",
	    "pub e a 4 => ok", "log t => 4@a",
	    "exchange-stat e => published 2 routed 1 unroutable 1 refused 1 patterns 1 bindings 1");
}

/* If one target refuses, none has it, wherever it stands among them. */
void contract_test_x_all_or_none(struct contract *c)
{
	Q_SCRIPT(c, "topic t", "queue full", "queue q", "topic u", "exchange e", "type e fanout", "pattern e x",
	    "bind e x 1 t", "bind e x 2 full", "bind e x 3 q", "bind e x 4 u", "set full max.length 2",
	    "set full overflow reject-publish", "pub e k 1 => ok", "pub e k 2 3 => EDQUOT", "pub e k 4 => ok",
	    "pub e k 5 => EDQUOT", "log t => 1@k,4@k", "log full => 1@k,4@k", "log q => 1@k,4@k", "log u => 1@k,4@k",
	    "set full max.length 10", "set u max.message.bytes 3 => ok", "pub e k long => EMSGSIZE", "log t => 1@k,4@k",
	    "log full => 1@k,4@k", "pub e k 6 => ok", "log u => 1@k,4@k,6@k", "set full max.length 4",
	    "pub e k 7 => ok", "pub e k 8 => EDQUOT", "set q max.message.bytes 2", "set full max.length 20",
	    "pub e k 999 => EMSGSIZE", "pub e k 10 => ok", "log full => 1@k,4@k,6@k,7@k,10@k",
	    "log q => 1@k,4@k,6@k,7@k,10@k");
}

/* The messages of a batch may go different ways; the batch is taken or not. */
void contract_test_x_batches(struct contract *c)
{
	Q_SCRIPT(c, "exchange e", "topic a", "topic b", "queue q", "pattern e a.#", "pattern e *.b", "bind e a.# a a",
	    "bind e a.# q q", "bind e *.b b b", "pub e - 1:ra 2:ra.b 3:rx.b 4:ra.c => ok", "log a => 1@a,2@a.b,4@a.c",
	    "log b => 2@a.b,3@x.b", "log q => 1@a,2@a.b,4@a.c", "pub e a 5 6:rx.b 7:rx.x => EHOSTUNREACH",
	    "pub e a 5 6:rx.b => ok", "log a => 1@a,2@a.b,4@a.c,5@a", "log b => 2@a.b,3@x.b,6@x.b",
	    "set q max.length 5", "set q overflow reject-publish", "pub e - 7:ra 8:rx.b 9:ra => EDQUOT",
	    "log b => 2@a.b,3@x.b,6@x.b", "pub e - 7:ra 8:rx.b => ok", "log b => 2@a.b,3@x.b,6@x.b,8@x.b",
	    "pub e - 9:ra 10:ra.b => EDQUOT", "log a => 1@a,2@a.b,4@a.c,5@a,7@a");
}

/* Bindings are by what is bound, not by its name. */
void contract_test_x_renamed(struct contract *c)
{
	Q_SCRIPT(c, "exchange e", "exchange f", "topic t", "pattern e k", "pattern f k", "bind e k f f", "bind f k t t",
	    "rename t u", "rename f g", "rename e d", "pub d k 1 => ok", "log u => 1@k", "bindings d k => f",
	    "rmdir u => EBUSY", "rmdir g => ENOTEMPTY");
}

/* An alternate exchange goes by its name, and who takes that name may not lead back. */
void contract_test_x_renamed_circle(struct contract *c)
{
	Q_SCRIPT(c, "exchange e", "exchange f", "exchange g", "set e alternate.exchange exchanges/f => ok",
	    "pattern g k", "bind g k e e", "rename f old", "rename g f => ELOOP", "rename g h => ok",
	    "rename e f => ELOOP", "rename old f => ok", "set e alternate.exchange none => ok", "rename f i => ok",
	    "rename h f => ok");
}

/* A topic takes it with its key, a queue with its priority and delay; everything else comes along. */
void contract_test_x_props(struct contract *c)
{
	struct engine_header header = { { "h", 1 }, { "v", 1 } };
	struct engine_props props = ENGINE_PROPS_INIT;
	struct engine_batch batch = contract_batch("1\n");
	struct engine_object *exchange, *topic;
	struct engine_producer *producer;
	struct engine_view view;
	uint32_t p = 0;

	Q_SCRIPT(
	    c, "exchange e", "topic t", "queue q", "set t partitions 4", "pattern e #", "bind e # t t", "bind e # q q");
	exchange = q_object(c, "e");
	topic = q_object(c, "t");
	assert_ok(c->ops->producer_open(exchange, ENGINE_ANY, (struct engine_span){ "rk", 2 }, &producer));
	props.key = (struct engine_span){ "some key", 8 };
	props.id = (struct engine_span){ "id", 2 };
	props.priority = 7;
	props.delay_ms = 1000;
	props.headers = &header;
	props.header_count = 1;
	batch.props = &props;
	batch.cred = (struct engine_cred){ 1, 2, 3 };
	assert_ok(contract_send_batch(c, producer, &batch));
	c->ops->producer_close(producer);
	while (contract_partition(c, topic, p).end == 0)
		p++;
	assert_ok(c->ops->partition_read(topic, p, 0, 1, &c->scratch, &view));
	cr_assert_eq(view.batch.cred.pid, 3);
	cr_assert_eq(view.batch.props[0].header_count, 1);
	cr_assert_eq(memcmp(view.batch.props[0].key.ptr, "some key", 8), 0);
	cr_assert_eq(memcmp(view.batch.props[0].routing_key.ptr, "rk", 2), 0);
	cr_assert_eq(memcmp(view.batch.props[0].id.ptr, "id", 2), 0);
	cr_assert_eq(view.batch.props[0].priority, 7);
	Q_SCRIPT(c, "show q =>  |  | 1", "message q 1 => delayed p7 d0 +1000", "tick 1000", "show q => 1 |  | ");
	c->ops->producer_close(NULL);
	assert_ok(c->ops->producer_open(topic, p, (struct engine_span){ 0 }, &producer));
	assert_ok(contract_send_batch(c, producer, &batch));
	c->ops->producer_close(producer);
	assert_err(c->ops->producer_open(exchange, 0, (struct engine_span){ 0 }, &producer), EINVAL);
	c->ops->put(topic);
	c->ops->put(exchange);
}

/* The counters are of messages; routed of copies. */
void contract_test_x_counters(struct contract *c)
{
	Q_SCRIPT(c, "exchange e", "topic t", "topic u",
	    "exchange-stat e => published 0 routed 0 unroutable 0 refused 0 patterns 0 bindings 0", "pattern e a",
	    "pattern e b", "bind e a t t", "bind e a u u", "pub e a 1 2", "pub e b 3 4 5 => EHOSTUNREACH",
	    "exchange-stat e => published 2 routed 4 unroutable 0 refused 3 patterns 2 bindings 2");
}

/* A queue that is bound is in use, and goes only when it was not for expires.ms. */
void contract_test_x_expires(struct contract *c)
{
	struct engine_object *found = NULL;

	Q_SCRIPT(c, "exchange e", "queue q", "set q expires.ms 1000", "pattern e k", "bind e k q q", "tick 5000",
	    "pub e k 1 => ok", "tick 5000", "log q => 1@k", "get q => 1", "ack q 1 => 1", "unbind e k q", "tick 900",
	    "show q =>  |  | ", "tick 200");
	assert_err(c->ops->lookup(c->engine, c->root, ENGINE_QUEUE, "q", &found), ENOENT);
}

/* Keys and exchanges have names of any length that is allowed. */
void contract_test_x_limits(struct contract *c)
{
	struct engine_object *exchange;
	struct engine_producer *producer;
	char key[ENGINE_KEY_MAX + 1];
	struct engine_batch batch = contract_batch("1\n"), none = { 0 };

	Q_SCRIPT(c, "exchange e", "topic t", "pattern e #", "bind e # t t");
	memset(key, 'k', sizeof(key));
	exchange = q_object(c, "e");
	assert_ok(c->ops->producer_open(exchange, ENGINE_ANY, (struct engine_span){ key, ENGINE_KEY_MAX }, &producer));
	assert_ok(contract_send_batch(c, producer, &batch));
	assert_err(contract_send_batch(c, producer, &none), EINVAL);
	batch.len = 1;
	assert_err(contract_send_batch(c, producer, &batch), EINVAL);
	c->ops->producer_close(producer);
	c->ops->put(exchange);
	Q_SCRIPT(c, "exchange-stat e => published 1 routed 1 unroutable 0 refused 1 patterns 1 bindings 1");
}

/* A sync confirms what came through the exchange, whoever sent it. */
void contract_test_x_sync(struct contract *c)
{
	struct engine_object *exchange, *topic;
	struct engine_producer *producer;

	Q_SCRIPT(c, "exchange e", "topic t", "queue q", "pattern e #", "bind e # t t", "bind e # q q",
	    "set t flush.ms -1", "pub e k 1 2 3");
	exchange = q_object(c, "e");
	topic = q_object(c, "t");
	cr_assert_eq(contract_partition(c, topic, 0).synced, 3);
	producer = contract_producer(c, exchange, ENGINE_ANY);
	assert_ok(contract_sync(c, producer));
	c->ops->producer_close(producer);
	c->ops->put(topic);
	c->ops->put(exchange);
}

/* Who has a removed exchange open is told so. */
void contract_test_x_eidrm(struct contract *c)
{
	struct engine_batch batch = contract_batch("1\n");
	struct engine_object *exchange;
	struct engine_producer *producer;
	uint64_t target;

	Q_SCRIPT(c, "exchange e");
	exchange = q_object(c, "e");
	producer = contract_producer(c, exchange, ENGINE_ANY);
	Q_SCRIPT(c, "rmdir e => ok");
	assert_err(contract_send_batch(c, producer, &batch), EIDRM);
	assert_err(contract_sync(c, producer), EIDRM);
	assert_err(c->ops->exchange->pattern_add(exchange, "a"), EIDRM);
	assert_err(c->ops->exchange->binding(exchange, "a", NULL, &target), EIDRM);
	c->ops->producer_close(producer);
	c->ops->put(exchange);
}

/* Each target knows for itself which ids it has seen; what is refused leaves none behind. */
void contract_test_x_dedup(struct contract *c)
{
	Q_SCRIPT(c, "exchange e", "topic t", "topic u", "queue q", "pattern e #", "bind e # t t", "bind e # u u",
	    "bind e # q q", "set t dedup.window.ms 60000", "set q dedup.window.ms 60000", "pub e k 1:ia 2:ib => ok",
	    "pub e k 3:ib 4:ic 5:ic 6 => ok", "log t => 1@k,2@k,4@k,6@k", "log u => 1@k,2@k,3@k,4@k,5@k,6@k",
	    "log q => 1@k,2@k,4@k,6@k", "pub e k 7:ia 8:ib => ok", "log t => 1@k,2@k,4@k,6@k",
	    "log q => 1@k,2@k,4@k,6@k", "set q max.length 4", "set q overflow reject-publish", "pub e k 9:id => EDQUOT",
	    "set q max.length 5", "pub e k 9:id => ok", "log t => 1@k,2@k,4@k,6@k,9@k", "log q => 1@k,2@k,4@k,6@k,9@k",
	    "pub e k 10:ia => ok");
}

/* Dead letters go through an exchange, with their deaths, by their own routing key or another; whatever room there is. */
void contract_test_x_dead_letters(struct contract *c)
{
	Q_SCRIPT(c, "exchange dead", "queue q", "queue lost", "topic t", "pattern dead q.*", "bind dead q.* lost lost",
	    "bind dead q.* t t", "set q dead.letter.to exchanges/dead => ok",
	    "set q dead.letter.routing.key q.dead => ok", "setting q dead.letter.routing.key => q.dead",
	    "set lost max.length 1", "set lost overflow reject-publish", "set lost max.message.bytes 1",
	    "send q a1 b2 c3:t1000 d4", "get q => a1", "reject q a1 => 1", "show q => b2,c3,d4 |  | ", "await q/dlq 0",
	    "await dead 1", "log lost => a1@q.dead", "log t => a1@q.dead", "tick 1000", "show q => b2,d4 |  | ",
	    "await q/dlq 0", "await dead 2", "log lost => a1@q.dead,c3@q.dead", "set q max.length 1",
	    "show q => d4 |  | ", "await q/dlq 0", "await dead 3", "log lost => a1@q.dead,c3@q.dead,b2@q.dead",
	    "log t => a1@q.dead,c3@q.dead,b2@q.dead", "totals q/dlq => moved_in 3 moved_out 3",
	    "exchange-stat dead => published 3 routed 6 unroutable 0 refused 0 patterns 1 bindings 2");
}

/* What would come to a queue in a circle does not go there; what then goes nowhere is dropped and counted, as what nothing matches. */
void contract_test_x_dead_circles(struct contract *c)
{
	Q_SCRIPT(c, "exchange e", "type e fanout", "queue q", "pattern e x", "bind e x q q",
	    "set q dead.letter.to exchanges/e", "set q message.ttl.ms 1000", "send q a", "tick 1000",
	    "show q =>  |  | ", "await q/dlq 0", "totals q/dlq => dropped 1 moved_in 1", "set q message.ttl.ms -1",
	    "send q b", "get q => b", "reject q b => 1", "await q 1", "log q => b", "await q/dlq 0", "unbind e x q",
	    "purge q", "send q c", "get q => c", "reject q c => 1", "await q/dlq 0",
	    "totals q/dlq => dropped 2 moved_in 3 moved_out 1");
}

/* Without such an exchange they stay in the dlq; a dlq itself has none to go through. */
void contract_test_x_dead_settings(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "set q dead.letter.to exchanges/none-such => ok", "send q a b", "get q => a",
	    "reject q a => 1", "show q/dlq => a |  | ", "set q/dlq dead.letter.to exchanges/e => EINVAL",
	    "setting q dead.letter.routing.key => none", "set q dead.letter.routing.key => EINVAL", "exchange e",
	    "topic t", "pattern e k.x", "bind e k.x t t", "set q dead.letter.to exchanges/e => ok",
	    "set q dead.letter.routing.key k.x", "get q => b", "reject q b => 1", "await q/dlq 1", "await e 1",
	    "log t => b@k.x", "show q/dlq => a |  | ", "set q dead.letter.to dlq => ok", "send q c", "get q => c",
	    "reject q c => 1", "show q/dlq => a,c |  | ");
}

/* The exchange is named: who has the name as a message dies takes it, and what died while nobody had it stays in the dlq. */
void contract_test_x_dead_names(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "exchange e", "topic t", "pattern e #", "bind e # t t",
	    "set q dead.letter.to exchanges/e", "send q a b c d f", "rename e g => ok", "get q => a", "reject q a => 1",
	    "show q/dlq => a |  | ", "setting q dead.letter.to => exchanges/e", "rename g e => ok", "get q => b",
	    "reject q b => 1", "await e 1", "log t => b", "show q/dlq => a |  | ");
	/* Another has the name. */
	Q_SCRIPT(c, "rename e g => ok", "exchange e", "topic u", "pattern e #", "bind e # u u", "get q => c",
	    "reject q c => 1", "await e 1", "log u => c", "log t => b", "await q/dlq 1");
	/* It can be removed, as what is only named. */
	Q_SCRIPT(c, "unbind e # u", "unpattern e #", "rmdir e => ok", "get q => d", "reject q d => 1",
	    "show q/dlq => a,d |  | ");
	/* It is made anew; what stayed is tried again by hand. */
	Q_SCRIPT(c, "exchange e", "pattern e #", "bind e # t t", "get q => f", "reject q f => 1", "await e 1",
	    "log t => b,f", "show q/dlq => a,d |  | ", "redrive q/dlq => 2", "snap q => a,d", "reject q a => 1",
	    "reject q d => 1", "await e 3", "log t => b,f,a,d", "await q/dlq 0");
}

/* They have the priority that they had as they died: not that with which they were sent. */
void contract_test_x_dead_priorities(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue x", "exchange e", "pattern e #", "bind e # x x",
	    "set q dead.letter.to exchanges/e", "send q a:p3", "mv q ready a q ready p7", "send q b:p7 c",
	    "mv q ready b q ready p0", "send q@5 d", "set q message.ttl.ms 1", "tick 1", "await x 4",
	    "show q =>  |  | ", "log x => a,d,b,c");
}

/* What died goes by what is bound until then: calls about an exchange do what is due before they look. */
void contract_test_x_due_before(struct contract *c)
{
	struct engine_object *exchange, *queue;

	Q_SCRIPT(c, "queue q", "queue o", "topic t", "exchange e", "pattern e #", "bind e # t t",
	    "set q dead.letter.to exchanges/e", "set o expires.ms 100", "send q a", "get q => a");
	exchange = q_object(c, "e");
	queue = q_object(c, "o");
	Q_SCRIPT(c, "reject q a => 1");
	assert_ok(c->ops->exchange->unbind(exchange, "#", "t"));
	Q_SCRIPT(c, "log t => a", "show q/dlq =>  |  | ");
	q_tick(100);
	assert_err(c->ops->exchange->bind(exchange, "#", "o", queue), EIDRM);
	c->ops->put(queue);
	c->ops->put(exchange);
}

/* ---- engines that keep what they have ---- */

/* Types, patterns, bindings and settings are there again, and what is bound is known to be. */
void contract_test_x_reopen(struct contract *c)
{
	Q_SCRIPT(c, "exchange e", "exchange f", "type f fanout", "topic t", "queue q", "pattern e a.*",
	    "pattern e empty", "bind e a.* n t", "bind e a.* f f", "pattern f x", "bind f x q q", "bind e a.* m f",
	    "rebind e a.* m n", "bind e a.* m t", "rebind e a.* m n", "set e mandatory false",
	    "set f alternate.exchange none", "exchange g", "set g alternate.exchange e", "reopen",
	    "patterns e => a.* empty", "bindings e a.* => f n", "bindings e empty => -", "type f => fanout",
	    "type e => topic", "setting e mandatory => false", "setting g alternate.exchange => exchanges/e",
	    "rmdir t => EBUSY", "rmdir q => EBUSY", "rmdir f => ENOTEMPTY", "pub e a.b 1 => ok", "log t => 1@a.b",
	    "log q => 1@a.b", "unbind e a.* n", "unbind e a.* f", "unpattern e a.*", "reopen", "patterns e => empty",
	    "unpattern e empty", "set g alternate.exchange none", "rmdir e => ok", "exchange e", "reopen",
	    "patterns e => -", "setting e mandatory => true", "purge q => ok");
}

/* What was published is there once, after a restart too. */
void contract_test_x_reopen_published(struct contract *c)
{
	Q_SCRIPT(c, "exchange e", "topic t", "queue q", "queue r", "set t partitions 3", "pattern e #", "bind e # t t",
	    "bind e # q q", "bind e # r r", "pub e k 1:kx 2:p3 3:ky 4", "pub e k 5 6", "reopen", "reopen",
	    "log q => 2@k,1@k,3@k,4@k,5@k,6@k", "log r => 2@k,1@k,3@k,4@k,5@k,6@k");
}

/* Read-only nothing changes, and all can be looked at. */
void contract_test_x_reopen_read_only(struct contract *c)
{
	struct engine_options options = { .read_only = true };
	struct engine_object *exchange;
	struct engine_producer *producer = NULL;
	struct engine_batch batch = contract_batch("1\n");

	Q_SCRIPT(c, "exchange e", "topic t", "pattern e k", "bind e k t t", "pub e k 1");
	contract_close(c);
	assert_ok(engine_open(c->source, &options, &c->engine));
	c->ops = c->engine->ops;
	assert_ok(c->ops->get(c->engine, ENGINE_ROOT_ID, &c->root));
	Q_SCRIPT(c, "pattern e o => EROFS", "unbind e k t => EROFS", "type e direct => EROFS", "bind e k n t => EROFS",
	    "bindings e k => t", "log t => 1@k");
	exchange = q_object(c, "e");
	assert_ok(c->ops->producer_open(exchange, ENGINE_ANY, (struct engine_span){ "k", 1 }, &producer));
	assert_err(contract_send_batch(c, producer, &batch), EROFS);
	c->ops->producer_close(producer);
	c->ops->put(exchange);
}

/* What died before a restart was published once, and settings are kept. */
void contract_test_x_reopen_dead(struct contract *c)
{
	Q_SCRIPT(c, "exchange e", "topic t", "queue q", "pattern e #", "bind e # t t",
	    "set q dead.letter.to exchanges/e", "set q dead.letter.routing.key dead", "send q a b c", "get q => a",
	    "reject q a => 1", "reopen", "await t 1", "log t => a@dead", "setting q dead.letter.routing.key => dead",
	    "setting q dead.letter.to => exchanges/e", "get q => b", "reject q b => 1", "reopen", "await t 2",
	    "show q/dlq =>  |  | ", "log t => a@dead,b@dead", "reopen", "log t => a@dead,b@dead");
}
