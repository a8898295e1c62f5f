/*
 * Dead letters on their way through an exchange that cannot go on now: without memory, without room on the disk, held by
 * somebody, without the exchange, they are tried again, and none is forgotten; what is refused for good keeps no other back.
 *
 * The timer thread is stopped, so that they go on when the test calls, and the clock is the test's.
 */
#include "engine/local_internal.h"
#include "engine/local_queue.h"
#include "tests/lib/alloc.h"
#include "tests/lib/contract_exchange.h"
#include "tests/lib/fault.h"
#include "tests/lib/nosync.h"

#define RETRY_MS 1000

static void go_on(struct contract *c)
{
	queue_catch_up((struct local *)c->engine);
}

/* Dead letters of q go to x and t, by the exchange e. */
static void prepare(struct contract *c)
{
	timers_stop((struct local *)c->engine);
	Q_SCRIPT(c, "queue q", "queue x", "topic t", "exchange e", "pattern e #", "bind e # x x", "bind e # t t",
	    "set q dead.letter.to exchanges/e", "set q dead.letter.routing.key k");
}

/* All three are where they are to be, once. */
static void assert_went_on(struct contract *c)
{
	Q_SCRIPT(c, "show q/dlq =>  |  | ", "log x => a@k,b@k,c@k", "log t => a@k,b@k,c@k",
	    "totals q/dlq => moved_in 3 moved_out 3");
}

/* The allocation that fails, and how many there were. */
static uint64_t failing, reached;

static void without_memory(struct contract *c)
{
	prepare(c);
	Q_SCRIPT(c, "send q a b c", "snap q => a,b,c", "reject q a-c => 3");
	alloc_arm(failing);
	go_on(c);
	reached = alloc_disarm();
	q_tick(RETRY_MS);
	go_on(c);
	assert_went_on(c);
}

/* Whichever allocation fails as they are to go on, a second later they do. */
Test(local_forward, without_memory)
{
	tmpdir_in_memory();
	nosync_install();
	do {
		failing++;
		contract_queue_run(true, without_memory);
	} while (failing <= reached);
	cr_assert_gt(reached, 20);
}

/* The three, in some order: what came later to a target is behind the others there. */
static void assert_log(struct contract *c, const char *command)
{
	const char *log = q_run(c, command);

	cr_assert(strlen(log) == strlen("a@k,b@k,c@k") && strstr(log, "a@k") != NULL && strstr(log, "b@k") != NULL &&
		      strstr(log, "c@k") != NULL,
	    "%s: %s", command, log);
}

/* What the disk has no room for once goes to the reserve: they are away from where they were, and with all targets. */
static void one_write_fails(struct contract *c)
{
	prepare(c);
	Q_SCRIPT(c, "send q a b c", "snap q => a,b,c", "reject q a-c => 3");
	fault_arm(FAULT_WRITE, failing, ENOSPC, false);
	go_on(c);
	reached = fault_disarm();
	q_tick(RETRY_MS);
	go_on(c);
	assert_ok(checkpoint_run((struct local *)c->engine)); /* a target may get it only now */
	for (unsigned start = 0; start < 2; start++) {
		Q_SCRIPT(c, "show q/dlq =>  |  | ", "totals q/dlq => moved_in 3 moved_out 3");
		assert_log(c, "log x");
		assert_log(c, "log t");
		contract_reopen(c);
	}
}

Test(local_forward, one_write_fails)
{
	tmpdir_in_memory();
	failing = 0;
	do {
		failing++;
		contract_queue_run(true, one_write_fails);
	} while (failing <= reached);
	cr_assert_gt(reached, 3);
}

/* Three dead letters that found the disk full. */
static void fill(struct contract *c)
{
	prepare(c);
	Q_SCRIPT(c, "send q a b c", "snap q => a,b,c", "reject q a-c => 3");
	fault_arm(FAULT_WRITE, 1, ENOSPC, true);
	go_on(c);
	Q_SCRIPT(c, "show q/dlq => a,b,c |  | ", "log x => -", "log t => -");
	fault_disarm();
}

/* A full disk has them wait until there is room, and they look once a second. */
static void full_disk(struct contract *c)
{
	fill(c);
	q_tick(RETRY_MS - 1);
	Q_SCRIPT(c, "show q/dlq => a,b,c |  | ");
	q_tick(1);
	go_on(c);
	assert_went_on(c);
	Q_SCRIPT(c, "exchange-stat e => published 3 routed 6 unroutable 0 refused 0 patterns 1 bindings 2");
}

Test(local_forward, full_disk)
{
	contract_queue_run(true, full_disk);
}

/* Who takes one from the dlq meanwhile has it: it goes on when it is given back, and not when it is acknowledged. */
static void held(struct contract *c)
{
	fill(c);
	Q_SCRIPT(c, "get q/dlq => a", "get q/dlq => b", "tick 1000", "show q/dlq =>  | a,b | ", "log x => c@k",
	    "ack q/dlq a => 1", "tick 1000", "show q/dlq =>  | b | ", "nack q/dlq b => 1", "tick 1000",
	    "show q/dlq =>  |  | ", "log x => c@k,b@k", "log t => c@k,b@k",
	    "totals q/dlq => delivered 2 acked 1 moved_in 3 moved_out 2");
}

Test(local_forward, held)
{
	contract_queue_run(true, held);
}

/* What is taken out of the dlq meanwhile does not go on, wherever it went. */
static void taken_out(struct contract *c)
{
	fill(c);
	Q_SCRIPT(c, "redrive q/dlq a => 1", "rm q/dlq ready b => ok", "tick 1000", "show q/dlq =>  |  | ",
	    "log x => c@k", "show q => a |  | ", "tick 1000", "show q => a |  | ", "get q => a", "reject q a => 1",
	    "tick 1", "log x => c@k,a@k");
}

Test(local_forward, taken_out)
{
	contract_queue_run(true, taken_out);
}

/* Without the exchange nobody looks; with it again they go on along with the next that dies. */
static void without_exchange(struct contract *c)
{
	fill(c);
	Q_SCRIPT(c, "rename e f", "tick 1000", "show q/dlq => a,b,c |  | ", "send q d", "get q => d", "reject q d => 1",
	    "rename f e", "tick 5000", "show q/dlq => a,b,c,d |  | ", "send q g", "get q => g", "reject q g => 1",
	    "tick 1", "show q/dlq => d |  | ", "log x => a@k,b@k,c@k,g@k", "log t => a@k,b@k,c@k,g@k");
}

Test(local_forward, without_exchange)
{
	contract_queue_run(true, without_exchange);
}

/* The next start looks as well. */
static void after_restart(struct contract *c)
{
	fill(c);
	Q_SCRIPT(c, "reopen", "await t 3");
	assert_went_on(c);
}

Test(local_forward, after_restart)
{
	contract_queue_run(true, after_restart);
}

/* A compacted topic takes no message without a key: such a dead letter stays, those that die with it go on. */
static void refused_for_good(struct contract *c)
{
	prepare(c);
	Q_SCRIPT(c, "set q dead.letter.routing.key none", "exchange in", "pattern in #", "bind in # q q", "topic k",
	    "set k cleanup.policy compact", "unbind e # x", "unbind e # t", "pattern e good", "pattern e bad",
	    "bind e good x x", "bind e bad x x", "bind e bad k k", "pub in good a", "pub in bad b", "pub in bad c:kkey",
	    "pub in good d", "snap q => a,b,c,d", "reject q a-d => 4", "show q/dlq => b |  | ",
	    "log x => a@good,c@bad,d@good", "log k => c@bad", "tick 5000", "show q/dlq => b |  | ", "get q/dlq => b",
	    "nack q/dlq b => 1", "tick 5000", "show q/dlq => b |  | ");
	c->ops->health(c->engine, c->text, CONTRACT_TEXT);
	cr_assert(strstr(c->text, "a dead letter cannot go through the exchange") != NULL, "%s", c->text);
	Q_SCRIPT(c, "redrive q/dlq b => 1", "set k cleanup.policy delete", "get q => b", "reject q b => 1", "tick 1",
	    "show q/dlq =>  |  | ", "log k => c@bad,b@bad");
}

Test(local_forward, refused_for_good)
{
	contract_queue_run(true, refused_for_good);
}
