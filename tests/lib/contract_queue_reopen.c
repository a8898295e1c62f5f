/* The contract of queues in engines that keep what they have: it is all there again when the engine is opened again. */
#include "tests/lib/contract_queue.h"

/* Ready, leased, delayed and dead messages are so again, with what travels with them, and what is gone stays gone. */
void contract_test_q_reopen_states(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "send q a b:p3 c d:d5000 e f", "get q/w1 => b", "get q => a",
	    "get q => c", "ack q a => 1", "reject q c => 1", "rm q ready e", "show q => f | b | d", "reopen",
	    "show q => f | b | d", "show q/dlq => c |  | ", "message q b => unacked p3 d1 +300000",
	    "message q d => delayed p0 d0 +5000", "reopen", "show q => f | b | d", "ack q/w1 b => 1", "send q g",
	    "show q => f,g |  | d", "tick 5000", "show q => d,f,g |  | ", "reopen", "snap q => d,f,g");
}

/* The order is kept: priorities, heads, what came back, what was moved; and what comes next goes behind. */
void contract_test_q_reopen_order(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue o", "send q a b c d", "push q h", "send q p:p9", "push q i", "get q => p",
	    "get q => i", "nack q i => 1", "get q => i+", "get q => h", "get q => a", "nack q a => 1", "nack q i => 1",
	    "send o x", "mv o ready x q ready", "mv q ready c q ready p2", "show q => c,i,a,b,d,x | p,h | ", "reopen",
	    "show q => c,i,a,b,d,x | p,h | ", "nack q h => 1", "push q j", "send q e", "reopen",
	    "show q => c,j,i,h,a,b,d,x,e | p | ");
}

/* A snapshot gives nothing that came after it, also when it is the first that is done after a start. */
void contract_test_q_reopen_snapshot(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a b", "reopen", "open f q snap", "send q c:p9 d", "read f 1 => a", "read f => b",
	    "read f => -", "close f", "show q => c,d | a,b | ");
}

/* Leases go on to their deadlines, whoever holds them may settle them, and deliveries are counted on. */
void contract_test_q_reopen_leases(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "consumer q/w2", "send q a b c", "get q/w1 => a", "nack q/w1 a => 1",
	    "get q/w1 => a+", "get q => b", "tick 100000", "get q/w2 => c", "reopen", "show q =>  | a,b,c | ",
	    "message q a => unacked p0 d2 +200000", "ack q/w2 a => EPERM", "ack q a => EPERM", "get q => -",
	    "tick 200000", "show q => a,b | c | ", "nack q/w2 c => 1", "snap q => a+,b+,c+",
	    "message q a => unacked p0 d3 +300000");
}

/* A lease lasts as long as the setting says, though that was written after the lease and with nothing else. */
void contract_test_q_reopen_lease_setting(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a", "get q => a", "reopen", "set q ack.timeout.ms 100 => ok", "reopen",
	    "message q a => unacked p0 d1 +100", "set q ack.timeout.ms 5000 => ok", "crash",
	    "message q a => unacked p0 d1 +5000", "tick 5000", "show q => a |  | ");
}

/* What a stream or a session held is ready again, redelivered. */
void contract_test_q_reopen_holders(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "send q a b c", "open f q stream", "read f 1 => a",
	    "open s q/w1 session", "get q/w1 => b", "close f", "close s", "reopen", "show q => a,b,c |  | ",
	    "snap q => a+,b+,c");
}

/* The same when the daemon died with them open: it comes back as from a holder that is gone. */
void contract_test_q_crash_holders(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "send q a b c d:t100", "open f q stream", "read f 1 => a",
	    "open s q/w1 session", "get q/w1 => b", "get q => c", "get q/w1 => d", "tick 100", "crash",
	    "show q => a,b | c | ", "show q/dlq => d |  | ", "ack q/w1 b => ESTALE", "snap q => a+,b+", "crash",
	    "show q =>  | c,a,b | ");
}

/* With redelivery.delay.ms it is delayed, once: another start does not begin the delay anew. */
void contract_test_q_crash_holders_delay(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "set q redelivery.delay.ms 1000 => ok", "send q a b",
	    "open s q/w1 session", "get q/w1 => a", "crash", "show q => b |  | a", "message q a => delayed p0 d1 +1000",
	    "tick 600", "crash", "message q a => delayed p0 d1 +400", "tick 400", "show q => a,b |  | ", "crash",
	    "show q => a,b |  | ");
}

/* What was delivered more than delivery.limit times is dead. */
void contract_test_q_crash_holders_limit(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "set q delivery.limit 1 => ok", "send q a b", "open s q/w1 session",
	    "get q/w1 => a", "nack q/w1 a => 1", "get q/w1 => a+", "get q/w1 => b", "crash", "show q => b |  | ",
	    "show q/dlq => a |  | ", "deaths q/dlq a => q:delivery_limit:1:0", "crash", "show q => b |  | ",
	    "show q/dlq => a |  | ", "set q dead.letter.to none => ok", "open s q/w1 session", "get q/w1 => b+",
	    "crash", "show q =>  |  | ", "totals q dropped => 1");
}

/* Times to live and delays go on, also while the engine was closed. */
void contract_test_q_reopen_times(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a:t1000 b:d1000:t50 c d", "touch q ready c 700", "get q => a", "tick 500",
	    "reopen", "show q => d | a | c,b", "nack q a => 1", "message q a => ready p0 d1 +500",
	    "message q c => delayed p0 d0 +200", "tick 200", "show q => a,c,d |  | b", "reopen", "tick 300", "reopen",
	    "show q => b,c,d |  | ", "show q/dlq => a |  | ", "tick 50", "show q/dlq => a,b |  | ");
}

/* Also of messages whose times are not in order, before and after. */
void contract_test_q_reopen_not_in_order(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a", "dated -400 => ok", "send q b c", "crash", "set q message.ttl.ms 1000 => ok",
	    "dated -100 => ok", "send q d", "reopen", "show q => a,b,c,d |  | ", "message q c => ready p0 d0 +600",
	    "tick 600", "show q => a,d |  | ", "tick 300", "show q => a |  | ", "crash", "tick 100", "show q =>  |  | ",
	    "show q/dlq => b,c,d,a |  | ");
}

/* Deaths are kept, and count on. */
void contract_test_q_reopen_dead(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a b:t10", "get q => a", "reject q a => 1", "tick 10", "show q =>  |  | ",
	    "reopen", "deaths q/dlq a => q:rejected:1:-10", "deaths q/dlq b => q:expired:1:0", "redrive q/dlq => 2",
	    "reopen", "show q => a,b |  | ", "snap q => a,b", "reject q a-b => 2", "reopen",
	    "deaths q/dlq a => q:rejected:2:0", "deaths q/dlq b => q:rejected:1:0 q:expired:1:0");
}

/* Totals are kept. */
void contract_test_q_reopen_totals(struct contract *c)
{
	static const char all[] =
	    "totals q => published 8 delivered 5 redelivered 1 acked 2 dead_lettered 2 dropped 1 moved_out 1";

	Q_SCRIPT(c, "queue q", "queue o", "send q a b c d:t5 e f g h", "get q => a", "ack q a => 1", "get q => b",
	    "nack q b => 1", "take q => b+", "get q => c", "reject q c => 1", "tick 5", "rm q ready e",
	    "mv q ready f o ready", "get q => g", all, "reopen", all, "show q => h | g | ", "totals o => moved_in 1");
}

/* Settings of queues, of consumers and of dead letters are kept; one that is not set still follows the queue. */
void contract_test_q_reopen_settings(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "consumer q/w2", "set q prefetch 7 => ok", "set q/w1 prefetch 3 => ok",
	    "set q dead.letter.to queues/other => ok", "set q overflow reject-publish => ok",
	    "set q/dlq max.length 5 => ok", "reopen", "setting q prefetch => 7", "setting q/w1 prefetch => 3",
	    "setting q/w2 prefetch => 7", "setting q dead.letter.to => queues/other",
	    "setting q overflow => reject-publish", "setting q/dlq max.length => 5",
	    "setting q/dlq dead.letter.to => none", "setting q/dlq delivery.limit => -1", "set q/w1 prefetch => ok",
	    "reopen", "setting q/w1 prefetch => 7");
}

/* A lease that was over and was followed by a delay: neither begins anew. */
void contract_test_q_reopen_after_delay(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "set q ack.timeout.ms 100 => ok", "set q redelivery.delay.ms 30 => ok", "send q a",
	    "get q => a", "tick 100", "show q =>  |  | a", "reopen", "show q =>  |  | a", "tick 30",
	    "show q => a |  | ", "reopen", "show q => a |  | ", "message q a => ready p0 d1");
}

/* What a consumer holds goes back as it is removed, also if that is the first that is done to the queue after a start. */
void contract_test_q_reopen_removed_holder(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "set q delivery.limit 1 => ok", "send q a b", "get q/w1 => a",
	    "nack q/w1 a => 1", "get q/w1 => a+", "get q/w1 => b", "reopen", "rmdir q/w1 => ok", "show q => b |  | ",
	    "show q/dlq => a |  | ", "ack q b => ESTALE", "set q redelivery.delay.ms 1000 => ok", "consumer q/w2",
	    "get q/w2 => b+", "reopen", "set q delivery.limit 9 => ok", "reopen", "rmdir q/w2 => ok", "tick 600",
	    "message q b => delayed p0 d2 +400");
}
