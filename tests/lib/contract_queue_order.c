/* The contract of queues: who is given what, in which order, and how much at once. */
#include "tests/lib/contract_queue.h"

/* Messages come in the order in which they were sent, whoever sent them, each to one reader. */
void contract_test_q_order(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a b", "send q c", "send q d e", "get q => a", "get q => b", "snap q => c,d,e",
	    "get q => -", "show q =>  | a,b,c,d,e | ");
}

/* What is put to the head goes before all of its priority, the last first of all. */
void contract_test_q_head(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a b", "push q c", "push q d e", "send q f", "show q => e,d,c,a,b,f |  | ",
	    "push q@5 g", "show q => g,e,d,c,a,b,f |  | ", "snap q => g,e,d,c,a,b,f");
}

/* The highest priority goes first; a channel's priority holds against the record's, none is 0. */
void contract_test_q_priorities(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a b:p9 c:p5 d:p0", "send q@5 e f:p9", "send q@0 g:p7",
	    "show q => b,c,e,f,a,d,g |  | ", "message q f => ready p5 d0", "message q a => ready p0 d0", "get q => b",
	    "send q h:p9", "snap q => h,c,e,f,a,d,g");
}

/* A priority above max.priority is taken as that; lowering it leaves what is there. */
void contract_test_q_max_priority(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a:p8", "set q max.priority 3 => ok", "send q b:p9", "send q@7 c", "send q d:p2",
	    "message q b => ready p3 d0", "show q => a,b,c,d |  | ", "send q e:p200", "message q e => ready p3 d0");
}

/* What comes back stands where it stood, among the priorities, the head and the rest. */
void contract_test_q_comes_back_in_place(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a b c d", "push q h", "send q p:p1", "snap q => p,h,a,b,c,d", "send q e",
	    "nack q c => 1", "nack q a => 1", "show q => a,c,e | p,h,b,d | ", "nack q h => 1", "nack q p => 1",
	    "show q => p,h,a,c,e | b,d | ", "touch q ready a 100", "tick 100", "nack q b => 1",
	    "show q => p,h,a,b,c,e | d | ", "get q => p+");
}

/* ONE gives one message and then nothing, even if there are more. */
void contract_test_q_one(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a b", "open f q one", "read f => a", "read f => -", "nack q a => 1",
	    "read f => -", "close f", "open f q one", "rm q ready a", "read f => b", "close f", "show q =>  | b | ");
}

/* A snapshot gives what was there at its opening, each message once, at most prefetch. */
void contract_test_q_snapshot(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "send q a b c", "open f q snap", "send q d", "send q e:p9", "read f 1 => a",
	    "nack q a => 1", "rm q ready b", "read f => c", "read f => -", "close f", "show q => e,a,d | c | ",
	    "set q prefetch 3 => ok", "snap q => e,a+", "snap q => -", "ack q e => 1", "snap q => d", "open f q snap",
	    "read f => -", "close f");
}

/* A snapshot gives what was moved in since it was opened, also from behind messages that are newer than it. */
void contract_test_q_snapshot_of_moved(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "queue o", "send o x y", "send q a b c d", "open f q snap", "read f 1 => a",
	    "send q e f", "mv o ready y q ready", "send q g", "mv o ready x q ready", "rm q ready b", "rm q ready c",
	    "rm q ready d", "read f 1 => y", "read f 1 => x", "read f => -", "close f", "show q => e,f,g | a,y,x | ");
}

/* A stream gives what there is and what comes, and goes on. */
void contract_test_q_stream(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "open f q stream", "read f => -", "send q a b", "read f => a,b", "send q c",
	    "read f => c", "open g q stream", "send q d e", "read g 1 => d", "read f => e", "close g",
	    "show q => d | a,b,c,e | ", "read f => d+", "close f", "show q => a,b,c,d,e |  | ");
}

/* What is taken is acknowledged with that: nobody can settle it, and it never comes again. */
void contract_test_q_take(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "send q a b c", "take q => a", "nack q a => EALREADY", "take q/w1 => b",
	    "open f q stream-take", "read f => c", "close f", "tick 10000000", "show q =>  |  | ",
	    "totals q => published 3 delivered 3 acked 3");
}

/* Under auto.ack every delivery is acknowledged; a consumer may have its own will. */
void contract_test_q_auto_ack(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "set q auto.ack true => ok", "send q a b c d", "set q prefetch 1 => ok",
	    "get q => a", "show q => b,c,d |  | ", "set q/w1 auto.ack false => ok", "get q/w1 => b",
	    "show q => c,d | b | ", "get q/w1 => -", "open f q stream", "read f => c,d", "close f", "show q =>  | b | ",
	    "ack q/w1 b => 1", "totals q => published 4 delivered 4 acked 4");
}

/* A consumer never holds more than prefetch; each message settled makes room for the next. */
void contract_test_q_prefetch(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "set q prefetch 2 => ok", "send q a b c d", "open f q stream", "read f => a,b",
	    "get q => -", "arm f => 0", "ack q a => 1", "woken f => yes", "read f => c", "arm f => 0",
	    "set q prefetch 3 => ok", "woken f => yes", "read f => d", "close f", "set q prefetch 0 => ok",
	    "snap q => b+,c+,d+");
}

/* Named consumers and the anonymous one count each on their own. */
void contract_test_q_prefetch_of_consumer(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "consumer q/w2", "set q prefetch 1 => ok", "set q/w2 prefetch 2 => ok",
	    "send q a b c d e f", "get q/w1 => a", "get q/w1 => -", "get q => b", "get q => -", "snap q/w2 => c,d",
	    "get q/w2 => -", "nack q/w2 c => 1", "get q/w2 => c+", "take q/w1 => e", "show q => f | a,b,d,c | ");
}

/* Under single.active.consumer the first that came is given all, and the next when it goes. */
void contract_test_q_single_active(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "set q single.active.consumer true => ok", "open f q stream",
	    "open g q/w1 stream", "open h q stream", "send q a b", "read g => -", "arm g => 0", "get q => EBUSY",
	    "get q/w1 => EBUSY", "take q => EBUSY", "read f 1 => a", "woken g => no", "close f", "woken g => yes",
	    "read h => -", "read g => a+,b", "open s q/w1 session", "close g", "read h => -", "get q/w1 => a+",
	    "totals q consumers => 2", "close s", "read h => a+,b+", "set q single.active.consumer false => ok",
	    "send q c", "get q/w1 => c", "close h", "set q single.active.consumer true => ok", "open s q/w1 session",
	    "open w q wait", "send q d", "read w => -", "arm w => 0", "get q => EBUSY", "get q/w1 => a+",
	    "woken w => no", "close s", "woken w => yes", "read w => a+", "read w => -", "get q/w1 => EBUSY", "close w",
	    "get q/w1 => EBUSY", "ack q a => 1", "get q/w1 => b+");
}

/* Who holds a message is active, also with no file open; when that ends, however it does, it is the next one's turn. */
void contract_test_q_single_active_holds(struct contract *c)
{
	static const char *const ends[] = { "ack q/w1 x => 1", "nack q/w1 x => 1", "reject q/w1 x => 1",
		"rm q unacked x => ok", "mv q unacked x o ready => ok", "mv q unacked x q ready => ok", "tick 300000",
		"rmdir q/w1" };

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		q_forget();
		Q_SCRIPT(c, "queue q", "queue o", "consumer q/w1", "consumer q/w2",
		    "set q single.active.consumer true => ok", "send q@1 x", "get q/w1 => x", "send q y",
		    "get q/w2 => EBUSY", "take q => EBUSY", "open w q/w2 wait", "read w => -", "arm w => 0", ends[i],
		    "message q y => ready p0 d0", "woken w => yes");
		cr_assert_str_not_empty(q_run(c, "read w"));
		Q_SCRIPT(c, "close w", "ack q/w2 all => 1", "purge q", "purge q/dlq", "purge o", "rmdir q", "rmdir o");
	}
}

/* Of several who hold some it is the one whose was delivered first. The queue's own files hold together. */
void contract_test_q_single_active_of_several(struct contract *c)
{
	Q_SCRIPT(c, "queue q", "consumer q/w1", "consumer q/w2", "send q a b c d e f", "get q/w1 => a", "get q/w2 => b",
	    "set q single.active.consumer true => ok", "get q/w2 => EBUSY", "get q/w1 => c", "ack q/w1 a => 1",
	    "get q/w1 => EBUSY", "open s q/w1 session", "get q/w2 => d", "ack q/w2 all => 2", "get q/w2 => EBUSY",
	    "ack q/w1 all => 1", "close s", "get q => e", "get q => f", "send q g", "open f q stream",
	    "open g q stream", "open h q/w1 wait", "read g => -", "read h => -", "ack q e-f => 2", "read h => -",
	    "read f => g", "close f", "read g => g+", "close g", "close h");
}

struct page {
	uint64_t ids[4], next[2];
	unsigned count, stop_after;
};

static bool list_page(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct page *page = ctx;

	page->ids[page->count++] = stat->id;
	page->next[0] = next[0];
	page->next[1] = next[1];
	return page->count < page->stop_after;
}

/* The ids of a listing, as many at a time as asked for, in order; 0 at the end. */
static void list_in_pages(struct contract *c, struct engine_object *queue, enum engine_message_state state,
    uint32_t priority, struct engine_object *consumer, unsigned at_once, uint64_t *ids)
{
	uint64_t cursor[2] = { 0, 0 };
	struct page page;

	do {
		page = (struct page){ .stop_after = at_once };
		assert_ok(c->ops->queue->message_list(queue, state, priority, consumer, cursor, list_page, &page));
		for (unsigned i = 0; i < page.count; i++)
			*ids++ = page.ids[i];
		if (page.count > 0) {
			cr_assert(cursor[0] == page.next[0] && cursor[1] == page.next[1]);
			memcpy(cursor, page.next, sizeof(cursor));
		}
	} while (page.count == at_once);
	*ids = 0;
}

/* A listing is in order of delivery, in pages of any size, of one state, one priority, one consumer. */
void contract_test_q_list(struct contract *c)
{
	struct engine_object *queue, *worker;
	uint64_t all[16], paged[16];

	Q_SCRIPT(c, "queue q", "consumer q/w1", "send q a b:p3 c d:p3 e f", "push q g", "get q => b", "get q/w1 => d",
	    "touch q ready e 2000", "touch q ready f 1000", "nack q b => 1", "get q/w1 => b+",
	    "show q => g,a,c | d,b | f,e");
	queue = q_object(c, "q");
	worker = q_object(c, "q/w1");
	for (int state = 0; state < ENGINE_STATE_COUNT; state++) {
		list_in_pages(c, queue, (enum engine_message_state)state, ENGINE_ANY, NULL, 4, all);
		for (unsigned at_once = 1; at_once < 4; at_once++) {
			list_in_pages(c, queue, (enum engine_message_state)state, ENGINE_ANY, NULL, at_once, paged);
			for (unsigned i = 0; i == 0 || all[i - 1] != 0; i++)
				cr_assert_eq(paged[i], all[i]);
		}
	}
	list_in_pages(c, queue, ENGINE_READY, 3, NULL, 4, all);
	cr_assert_eq(all[0], 0);
	list_in_pages(c, queue, ENGINE_UNACKED, 3, worker, 4, all);
	cr_assert(all[0] != 0 && all[1] != 0 && all[2] == 0);
	list_in_pages(c, queue, ENGINE_UNACKED, ENGINE_ANY, queue, 4, all);
	cr_assert_eq(all[0], 0);
	c->ops->put(worker);
	c->ops->put(queue);
}

struct removing {
	struct contract *c;
	struct engine_object *queue;
	unsigned seen;
};

static bool remove_listed(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct removing *r = ctx;

	(void)next;
	r->seen++;
	assert_ok(r->c->ops->queue->message_remove(r->queue, stat->id, ENGINE_READY));
	return true;
}

/* What is removed while it is listed neither ends the listing nor hides what stays. */
void contract_test_q_list_while_it_changes(struct contract *c)
{
	struct removing r = { .c = c };
	uint64_t cursor[2] = { 0, 0 };
	char lines[2048] = "";

	Q_SCRIPT(c, "queue q");
	r.queue = q_object(c, "q");
	for (int i = 0; i < 300; i++)
		strcat(lines, "x\n");
	for (int i = 0; i < 3; i++) {
		struct engine_batch batch = contract_batch(lines);
		struct engine_producer *producer = NULL;

		assert_ok(c->ops->queue->producer_open(r.queue, ENGINE_ANY, false, &producer));
		assert_ok(contract_send_batch(c, producer, &batch));
		c->ops->producer_close(producer);
	}
	assert_ok(c->ops->queue->message_list(r.queue, ENGINE_READY, ENGINE_ANY, NULL, cursor, remove_listed, &r));
	cr_assert_eq(r.seen, 900);
	Q_SCRIPT(c, "show q =>  |  | ");
	c->ops->put(r.queue);
}
