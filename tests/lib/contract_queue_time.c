/* The contract of queues: delays, times to live, leases, sessions, and who is woken when. */
#include "tests/lib/contract_queue.h"

/* A delayed message is ready when its time has come, not before, and then in its place. */
void contract_test_q_delay(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a:d1000 b c:d500 d:d0", "show q => b,d |  | c,a",
	    "message q a => delayed p0 d0 +1000", "tick 499", "show q => b,d |  | c,a", "tick 1",
	    "show q => b,c,d |  | a", "tick 500", "show q => a,b,c,d |  | ", "push q e:d10", "send q f:p4:d10",
	    "tick 10", "snap q => f,e,a,b,c,d");
}

/* A message expires when the lower of its own and its queue's time is over, wherever it stands. */
void contract_test_q_ttl(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a b:t1000 c:t3000 d", "message q b => ready p0 d0 +1000",
	    "message q a => ready p0 d0", "tick 999", "show q => a,b,c,d |  | ", "tick 1", "show q => a,c,d |  | ",
	    "show q/dlq => b |  | ", "set q message.ttl.ms 2000 => ok", "message q c => ready p0 d0 +1000", "tick 1000",
	    "show q =>  |  | ", "show q/dlq => b,a,c,d |  | ", "send q e", "message q e => ready p0 d0 +2000",
	    "set q message.ttl.ms -1 => ok", "tick 1000000", "show q => e |  | ", "send q f:t0", "show q => e |  | ",
	    "totals q => published 6 dead_lettered 5");
}

/* Times that producers tell need not be in order: each message expires at its own, and none waits for one of the future. */
void contract_test_q_ttl_not_in_order(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "set q message.ttl.ms 1000 => ok", "send q a", "dated -400 => ok", "send q b c",
	    "dated -300 => ok", "send q d:p4 e", "dated 5000 => ok", "send q f", "send q g",
	    "show q => d,a,b,c,e,f,g |  | ", "message q c => ready p0 d0 +600", "message q f => ready p0 d0 +6000",
	    "tick 600", "show q => d,a,e,f,g |  | ", "tick 100", "show q => a,f,g |  | ", "get q => a", "tick 300",
	    "show q => f | a | ", "nack q a => 1", "show q/dlq => d,b,c,e,g,a |  | ", "tick 4999", "show q => f |  | ",
	    "tick 1", "show q =>  |  | ", "set q message.ttl.ms -1 => ok", "dated -10 => ok", "send q h",
	    "dated -20 => ok", "send q i j", "take q => h", "set q message.ttl.ms 50 => ok", "tick 30",
	    "show q =>  |  | ");
	/* What was over before it came dies as well in the order in which that was. */
	Q_SCRIPT(c, "queue u", "set u message.ttl.ms 100 => ok", "dated -200", "send u x:d1 y", "show u =>  |  | ",
	    "show u/dlq => y,x |  | ");
}

/* What is leased does not expire; when it comes back too late it does at once. A lease does not stretch its time. */
void contract_test_q_ttl_comes_back(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a:t1000 b:t1000", "get q => a", "get q => b", "tick 500", "nack q a => 1",
	    "message q a => ready p0 d1 +500", "tick 500", "show q =>  | b | ", "nack q b => 1", "show q =>  |  | ",
	    "show q/dlq => a,b |  | ", "deaths q/dlq b => q:expired:1:0");
}

/* A time to live begins with the end of the delay a message was sent with; what is delayed by hand expires at its end. */
void contract_test_q_ttl_of_delayed(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a:d1000:t500 b:t500", "touch q ready b 1000", "tick 999", "show q =>  |  | a,b",
	    "tick 1", "show q => a |  | ", "show q/dlq => b |  | ", "message q a => ready p0 d0 +500", "tick 500",
	    "show q/dlq => b,a |  | ");
}

/* A lease is over after ack.timeout.ms, and the message ready in its place, for the next to get it as redelivered. */
void contract_test_q_lease(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "set q ack.timeout.ms 1000 => ok", "send q a b", "get q => a",
	    "tick 500", "get q/w1 => b", "tick 499", "show q =>  | a,b | ", "tick 1", "show q => a | b | ",
	    "get q/w1 => a+", "message q a => unacked p0 d2 +1000", "set q ack.timeout.ms 5000 => ok",
	    "message q a => unacked p0 d2 +5000", "set q ack.timeout.ms 1 => ok", "tick 1", "show q => a,b |  | ",
	    "totals q => published 2 delivered 3 redelivered 1");
}

/* Touching renews a lease, delays a message or ends its delay. */
void contract_test_q_touch(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "set q ack.timeout.ms 1000 => ok", "send q a b c", "get q => a", "tick 600",
	    "touch q unacked a => ok", "tick 600", "show q => b,c | a | ", "touch q unacked a 999999 => ok",
	    "message q a => unacked p0 d1 +1000", "tick 1000", "show q => a,b,c |  | ", "touch q ready b 700",
	    "touch q ready a 500", "show q => c |  | a,b", "touch q delayed a 900", "show q => c |  | b,a",
	    "touch q delayed b 0", "show q => b,c |  | a", "tick 900", "show q => a,b,c |  | ");
}

/* While its session is open a consumer's leases have no deadline; when it is closed they are back before it returns. */
void contract_test_q_session(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "send q a b c", "get q/w1 => a", "open s q/w1 session", "get q/w1 => b",
	    "get q => c", "message q a => unacked p0 d1", "tick 300000", "show q => c | a,b | ", "ack q/w1 a => 1",
	    "close s", "show q => b,c |  | ", "ack q/w1 b => ESTALE", "get q/w1 => b+",
	    "message q b => unacked p0 d2 +300000");
}

/* A session that is opened gives a lease another deadline; if that has passed, the lease is over before the call returns. */
void contract_test_q_session_too_late(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "set q consumer.timeout.ms 50 => ok",
	    "set q redelivery.delay.ms 30 => ok", "send q a", "get q/w1 => a", "tick 60", "show q =>  | a | ",
	    "open s q/w1 session", "tick 30", "show q => a |  | ", "close s");
}

/* Several sessions of one consumer are one: the last one counts. A session holds for its consumer only. */
void contract_test_q_sessions(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "consumer q/w2", "send q a b", "open s q/w1 session",
	    "open t q/w1 session", "get q/w1 => a", "get q/w2 => b", "close s", "tick 300000", "show q => b | a | ",
	    "totals q consumers => 1", "close t", "show q => a,b |  | ", "totals q consumers => 0");
}

/* What a stream delivered has no deadline, and comes back when it is closed; what others lease does not. */
void contract_test_q_stream_holds(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a b c d", "open f q stream", "read f 2 => a,b", "open g q stream",
	    "read g 1 => c", "get q => d", "ack q a => 1", "tick 300000", "show q => d | b,c | ",
	    "message q b => unacked p0 d1", "close f", "show q => b,d | c | ", "nack q c => 1", "close g",
	    "show q => b,c,d |  | ");
}

/* Nobody holds a message for longer than consumer.timeout.ms, unless it is touched. */
void contract_test_q_consumer_timeout(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "set q consumer.timeout.ms 500000 => ok", "send q a b c",
	    "open s q/w1 session", "open f q stream", "get q/w1 => a", "get q/w1 => b", "read f => c", "tick 499999",
	    "touch q unacked b => ok", "show q =>  | a,b,c | ", "tick 1", "show q => a,c | b | ",
	    "ack q/w1 a => ESTALE", "tick 499999", "show q => a,b,c |  | ", "close f", "close s");
}

/* What comes back waits for redelivery.delay.ms, however it came back; a hand that moves it is no different. */
void contract_test_q_redelivery_delay(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "set q redelivery.delay.ms 1000 => ok", "send q a b c d",
	    "open s q/w1 session", "get q/w1 => a", "get q => b", "get q => c", "nack q b => 1",
	    "mv q unacked c q ready", "close s", "show q => d |  | a,b,c", "message q a => delayed p0 d1 +1000",
	    "ack q/w1 a => ESTALE", "nack q b => EALREADY", "tick 1000", "snap q => a+,b+,c+,d");
}

/* A queue that nobody uses for expires.ms is gone with all it holds; any use starts the time anew. */
void contract_test_q_expires(struct contract *c)
{
	struct engine_object *found = NULL;

	Q_SCRIPT(c, "queue q", "consumer q/w1", "set q expires.ms 1000 => ok", "tick 999", "send q a:t1", "tick 999",
	    "show q =>  |  | ", "show q/dlq => a |  | ", "open f q stream", "tick 5000", "read f => -", "close f",
	    "tick 999", "open s q/w1 session", "tick 5000", "close s", "tick 999", "rm q/dlq ready a => ok", "tick 999",
	    "send q b", "tick 999", "show q => b |  | ", "set q prefetch 5 => ok", "tick 999", "ack q b => ENOENT",
	    "tick 1");
	assert_err(c->ops->lookup(c->engine, c->root, ENGINE_QUEUE, "q", &found), ENOENT);
	Q_SCRIPT(c, "queue q => ok", "show q =>  |  | ");
}

/* Calls about a queue as an object do what is due before they look, too. */
void contract_test_q_due_before(struct contract *c)
{
	const struct engine_setting *ttl = engine_setting_find(ENGINE_QUEUE, "message.ttl.ms");
	struct engine_object *queue;
	struct engine_stat stat;

	Q_SCRIPT(c, "queue o", "set o expires.ms 100", "tick 100", "queue o => ok", "set o expires.ms 1000", "queue q",
	    "set q dead.letter.to none", "set q message.ttl.ms 100", "send q a");
	queue = q_object(c, "q");
	q_tick(100);
	assert_ok(c->ops->set_setting(queue, ttl, "1000"));
	Q_SCRIPT(c, "show q =>  |  | ", "totals q => published 1 expired 1", "send q b");
	q_tick(900);
	assert_ok(c->ops->rename(queue, "o"));
	q_tick(100);
	assert_ok(c->ops->stat(queue, &stat));
	cr_assert_eq(stat.messages, 0);
	Q_SCRIPT(c, "send o c");
	q_tick(1000);
	assert_ok(c->ops->remove(queue));
	c->ops->put(queue);
}

/* Who waits is woken by what is sent, comes back, is moved in, or gets prefetch free, and not by what is not for it. */
void contract_test_q_wakes(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue o", "consumer q/w1", "open f q/w1 stream", "arm f => 0", "woken f => no",
	    "send o x", "send q d:d100", "woken f => no", "send q a", "woken f => yes", "arm f => 1", "read f => a",
	    "arm f => 0", "nack q/w1 a => 1", "woken f => yes", "take q => a+", "arm f => 0", "disarm f => yes",
	    "send q b", "woken f => no", "disarm f => no", "take q => b", "arm f => 0", "mv o ready x q ready",
	    "woken f => yes", "read f => x", "arm f => 0", "touch q delayed d", "woken f => yes", "read f => d",
	    "arm f => 0", "reject q/w1 d => 1", "woken f => no", "redrive q/dlq => 1", "woken f => yes", "close f");
}

static bool is_woken(struct contract *c, void *ctx)
{
	(void)c;
	q_tick(1); /* the engine sleeps by the real clock: it looks again about when it thinks the time has come */
	return contract_waiter_woken(ctx);
}

/* Who waits is woken when a delay or a lease is over though nobody calls. */
void contract_test_q_wakes_in_time(struct contract *c)
{
	static const char *const waits[] = { "send q a:d30", "get q/w1" };

	for (size_t i = 0; i < 2; i++) {
		struct engine_object *queue;
		struct engine_consumer *consumer = NULL;
		struct contract_waiter waiter;

		Q_SCRIPT(c, "queue q", "consumer q/w1", "set q ack.timeout.ms 30 => ok");
		if (i == 1)
			Q_SCRIPT(c, "send q b");
		queue = q_object(c, "q");
		assert_ok(c->ops->queue->consumer_open(queue, ENGINE_CONSUME_STREAM, false, 0, &consumer));
		q_run(c, waits[i]);
		contract_waiter_init(&waiter);
		assert_ok(c->ops->consumer_arm(consumer, &waiter.waiter));
		contract_wait(c, is_woken, &waiter, "being woken in time");
		c->ops->consumer_close(consumer);
		c->ops->put(queue);
		Q_SCRIPT(c, "purge q", "rmdir q => ok");
	}
}
