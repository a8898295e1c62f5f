/* The contract of queues: what a user has leased is counted and bounded, and given back whichever way a lease ends. */
#include "tests/lib/contract_queue.h"

/* A user gets what fits, then EDQUOT; another is served, root has no limit, and what is taken is not leased. */
void contract_test_q_users(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a b c d e f g h", "limit 3", "as 1", "get q => a", "held 1 => 1",
	    "open f q snap", "read f 5 => b,c", "held 1 => 3", "read f => EDQUOT", "get q => EDQUOT",
	    "show q => d,e,f,g,h | a,b,c | ", "take q => d", "mv q ready e q unacked q => EDQUOT",
	    "show q => e,f,g,h | a,b,c | ", "held 1 => 3", "as 2", "get q => e", "mv q ready f q unacked q => ok",
	    "held 2 => 2", "as 0", "get q => g", "get q => h", "held 0 => 2", "close f", "held 1 => 3", "as 1",
	    "ack q b => 1", "held 1 => 2", "send q i", "get q => i", "ack q a-i => 7", "held 0 => 0", "held 1 => 0",
	    "held 2 => 0", "limit 0", "send q j", "get q => j", "held 1 => 1");
}

/* Every end of a lease gives it back: once, and whoever ends it. */
void contract_test_q_users_ends(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "send q a b c", "as 1", "get q => a", "get q => b", "get q => c",
	    "as 2", "nack q a => 1", "held 1 => 2", "reject q b => 1", "held 1 => 1", "rm q unacked c => ok",
	    "held 1 => 0", "as 1", "get q => a+", "purge q => ok", "held 1 => 1", "tick 300000", "show q => a |  | ",
	    "held 1 => 0", "get q/w1 => a+", "held 1 => 1", "rmdir q/w1 => ok", "held 1 => 0", "consumer q/w2",
	    "open s q/w2 session", "get q/w2 => a+", "tick 300000", "held 1 => 1", "close s", "held 1 => 0",
	    "open f q stream", "read f => a+", "held 1 => 1", "close f", "held 1 => 0", "set q delivery.limit 5 => ok",
	    "get q => a+", "nack q a => 1", "show q =>  |  | ", "held 1 => 0", "set q redelivery.delay.ms 1000 => ok",
	    "send q d", "get q => d", "nack q d => 1", "show q =>  |  | d", "held 1 => 0", "held 2 => 0");
	/* A queue that expires goes with what is leased of it. */
	Q_SCRIPT(c, "queue e", "set e expires.ms 1000 => ok", "send e x", "get e => x", "held 1 => 1", "tick 1000",
	    "show q => d |  | ", "held 1 => 0");
}

/* A lease that only changes is the same one; one that another claims is the other's. */
void contract_test_q_users_moves(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue o", "consumer q/w1", "consumer o/w", "limit 2", "send q a b c", "as 1",
	    "open f q snap", "read f 2 => a,b", "close f", "touch q unacked a", "held 1 => 2",
	    "mv q unacked a q unacked q => ok", "held 1 => 2", "set q ack.timeout.ms 600000 => ok", "held 1 => 2",
	    "as 2", "touch q unacked b", "held 1 => 2", "mv q unacked a q unacked q/w1 => ok", "held 1 => 1",
	    "held 2 => 1", "mv q unacked a q unacked q/w1 => ok", "held 2 => 1", "open s q/w1 session", "held 2 => 1",
	    "mv q unacked a o unacked o/w => ok", "held 2 => 1", "mv o unacked a o unacked o/w p5 => ok", "held 2 => 1",
	    "mv q unacked b q ready p3 => ok", "held 1 => 0", "mv q ready b o unacked o p4 => ok", "held 2 => 2",
	    "mv q ready c q unacked q => EDQUOT", "show q => c |  | ", "mv o unacked b o/dlq ready => ok",
	    "held 2 => 1", "mv o unacked a q ready => ok", "held 2 => 0", "close s");
}

/* Who is at the limit may move his own leases about: to another consumer, another priority, another queue. Not those of others. */
void contract_test_q_users_own(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue o", "consumer q/w1", "consumer q/w2", "consumer o/w", "limit 3",
	    "send q a b c d e", "as 1", "open f q snap", "read f 3 => a,b,c", "close f", "held 1 => 3",
	    "mv q unacked b q unacked q/w1 => ok", "held 1 => 3", "mv q unacked b q unacked q/w1 => ok", "held 1 => 3",
	    "mv q unacked b q unacked q/w2 p5 => ok", "held 1 => 3", "mv q unacked a o unacked o/w => ok",
	    "held 1 => 3", "mv q ready d q unacked q => EDQUOT", "as 2", "mv o unacked a o unacked o => ok",
	    "held 1 => 2", "held 2 => 1", "as 1", "mv q ready d q unacked q/w1 => ok", "held 1 => 3",
	    "mv o unacked a o unacked o/w => EDQUOT", "held 1 => 3", "held 2 => 1", "show q => e | c,b,d | ",
	    "ack q/w2 b => 1", "ack q c => 1", "nack q/w1 d => 1", "held 1 => 0", "ack o a => 1", "held 2 => 0");
}

/* Who waits is refused when something comes; what comes then is for another who waits. */
void contract_test_q_users_waits(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a", "limit 1", "as 1", "get q => a", "open f q one", "read f => -", "arm f => 0",
	    "as 2", "open g q one", "send q b", "woken f => yes", "read f => EDQUOT", "arm f => 1", "read g => b",
	    "held 2 => 1", "close f", "close g");
}

/* Leases that a restart finds count for nobody, however they end. */
void contract_test_q_reopen_users(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "limit 2", "send q a b c d", "as 1", "get q => a", "get q => b", "held 1 => 2", "reopen",
	    "show q => c,d | a,b | ", "held 1 => 0", "get q => c", "held 1 => 1", "ack q a => 1", "nack q b => 1",
	    "held 1 => 1", "get q => b+", "get q => EDQUOT", "ack q b-c => 2", "held 1 => 0");
}
