/*
 * redis - Redis by hiredis, on its unix socket: redis SOCKET WORK COUNT
 *
 * A list is the queue where messages are taken one by one (LPUSH, BRPOP, and LMOVE with LREM for what is acknowledged); a stream
 * with a group where they are acknowledged in bulk, which a list cannot do. How much is synced is the server's configuration.
 */
#include "tests/bench/peers/peer.h"
#include <hiredis/hiredis.h>

#define PIPELINE 1000
#define AT_ONCE 100 /* values of one LPUSH */
#define FETCH 1000

static const char *address;

static redisContext *connect_to(void)
{
	redisContext *c = redisConnectUnix(address);

	if (c == NULL || c->err)
		fail("redis: %s", c == NULL ? "no memory" : c->errstr);
	return c;
}

static redisReply *checked(redisContext *c, redisReply *reply)
{
	if (reply == NULL)
		fail("redis: %s", c->errstr);
	if (reply->type == REDIS_REPLY_ERROR)
		fail("redis: %s", reply->str);
	return reply;
}

#define ASK(c, ...) checked(c, redisCommand(c, __VA_ARGS__))
#define DO(c, ...) freeReplyObject(ASK(c, __VA_ARGS__))

static redisContext *connect_to_empty(void)
{
	redisContext *c = connect_to();

	DO(c, "FLUSHALL");
	return c;
}

/* The same command over and over, formatted once, so that the client costs as little as it can. */
static void pipeline(redisContext *c, const char *command, int length, long times)
{
	redisReply *reply;

	while (times > 0) {
		long n = times < PIPELINE ? times : PIPELINE;

		for (long i = 0; i < n; i++)
			redisAppendFormattedCommand(c, command, (size_t)length);
		for (long i = 0; i < n; i++) {
			if (redisGetReply(c, (void **)&reply) != REDIS_OK)
				reply = NULL;
			freeReplyObject(checked(c, reply));
		}
		times -= n;
	}
}

static void push(long count, int at_once)
{
	redisContext *c = connect_to();
	const char **words = allocate((size_t)(at_once + 2) * sizeof(*words));
	size_t *lengths = allocate((size_t)(at_once + 2) * sizeof(*lengths));
	char message[MESSAGE], *command;
	int length;

	fill_message(message, 0);
	words[0] = "LPUSH", lengths[0] = 5;
	words[1] = "q", lengths[1] = 1;
	for (int i = 2; i < at_once + 2; i++)
		words[i] = message, lengths[i] = MESSAGE;
	length = redisFormatCommandArgv(&command, at_once + 2, words, lengths);
	pipeline(c, command, length, count / at_once);
	redisFreeCommand(command);
	redisFree(c);
	free(words);
	free(lengths);
}

static void push_singly(long count)
{
	push(count, 1);
}

static void push_answered(long count)
{
	redisContext *c = connect_to();
	char message[MESSAGE];

	for (long i = 0; i < count; i++) {
		fill_message(message, (uint64_t)i);
		DO(c, "LPUSH q %b", message, (size_t)MESSAGE);
	}
	redisFree(c);
}

static void do_produce(long count)
{
	uint64_t began;

	redisFree(connect_to_empty());
	began = now_ns();
	push(count, 1);
	print_rate(count, began);
}

static void do_batch(long count)
{
	uint64_t began;

	redisFree(connect_to_empty());
	began = now_ns();
	push(count, AT_ONCE);
	print_rate(count / AT_ONCE * AT_ONCE, began);
}

static void do_producers(long count)
{
	redisFree(connect_to_empty());
	produce_by(PRODUCERS, push_singly, count);
}

static void do_durable_producers(long count)
{
	redisFree(connect_to_empty());
	produce_by(DURABLE_PRODUCERS, push_answered, count);
}

static void do_answered(long count)
{
	redisContext *c = connect_to_empty();
	uint64_t *ns = allocate((size_t)count * sizeof(*ns)), began = now_ns();
	char message[MESSAGE];

	for (long i = 0; i < count; i++) {
		uint64_t sent = now_ns();

		fill_message(message, (uint64_t)i);
		DO(c, "LPUSH q %b", message, (size_t)MESSAGE);
		ns[i] = now_ns() - sent;
	}
	print_rate(count, began);
	print_latencies(ns, count);
	redisFree(c);
}

static void do_consume(long count)
{
	redisContext *c = connect_to_empty();
	uint64_t began;
	long left = count / AT_ONCE * AT_ONCE, all = left;

	push(count, AT_ONCE);
	began = now_ns();
	while (left > 0) {
		redisReply *reply = ASK(c, "RPOP q %d", FETCH);

		if (reply->type != REDIS_REPLY_ARRAY)
			fail("RPOP: messages are missing");
		left -= (long)reply->elements;
		freeReplyObject(reply);
	}
	print_rate(all, began);
	redisFree(c);
}

static void do_settle(long count)
{
	redisContext *c = connect_to_empty();
	uint64_t began;

	push(count, 1);
	began = now_ns();
	for (long i = 0; i < count; i++) {
		redisReply *reply = ASK(c, "LMOVE q mine RIGHT LEFT");

		if (reply->type != REDIS_REPLY_STRING)
			fail("LMOVE: messages are missing");
		DO(c, "LREM mine 1 %b", reply->str, reply->len);
		freeReplyObject(reply);
	}
	print_rate(count, began);
	redisFree(c);
}

static void add_to_stream(redisContext *c, long count)
{
	char message[MESSAGE], *command;
	int length;

	fill_message(message, 0);
	length = redisFormatCommand(&command, "XADD s * m %b", message, (size_t)MESSAGE);
	pipeline(c, command, length, count);
	redisFreeCommand(command);
}

/* Acknowledges what one XREADGROUP gave, with one XACK; returns how many that were. */
static long acknowledge(redisContext *c, const redisReply *given)
{
	const redisReply *entries = given->type == REDIS_REPLY_ARRAY ? given->element[0]->element[1] : NULL;
	const char *words[FETCH + 3] = { "XACK", "s", "g" };
	size_t lengths[FETCH + 3] = { 4, 1, 1 };

	if (entries == NULL || entries->elements == 0)
		fail("XREADGROUP: messages are missing");
	for (size_t i = 0; i < entries->elements; i++) {
		words[i + 3] = entries->element[i]->element[0]->str;
		lengths[i + 3] = entries->element[i]->element[0]->len;
	}
	freeReplyObject(checked(c, redisCommandArgv(c, (int)entries->elements + 3, words, lengths)));
	return (long)entries->elements;
}

static void settle_stream(redisContext *c, long count)
{
	while (count > 0) {
		redisReply *reply = ASK(c, "XREADGROUP GROUP g c COUNT %d STREAMS s >", FETCH);

		count -= acknowledge(c, reply);
		freeReplyObject(reply);
	}
}

static void do_settle_all(long count)
{
	redisContext *c = connect_to_empty();
	uint64_t began;

	DO(c, "XGROUP CREATE s g 0 MKSTREAM");
	add_to_stream(c, count);
	began = now_ns();
	settle_stream(c, count);
	print_rate(count, began);
	redisFree(c);
}

static void do_lifecycle(long count)
{
	redisContext *c = connect_to_empty();
	uint64_t began = now_ns();

	DO(c, "XGROUP CREATE s g 0 MKSTREAM");
	add_to_stream(c, count);
	settle_stream(c, count);
	print_rate(count, began);
	redisFree(c);
}

static void consume_waiting(struct relay *relay)
{
	redisContext *c = connect_to();

	relay_is_ready(relay);
	do {
		redisReply *reply = ASK(c, "BRPOP q %d", PATIENCE_S);

		if (reply->type != REDIS_REPLY_ARRAY)
			fail("BRPOP: nothing came");
		relay_got(relay, reply->element[1]->str);
		freeReplyObject(reply);
	} while (relay_goes_on(relay));
	_exit(0);
}

static void do_wait(long count)
{
	struct relay *relay = relay_new(count);
	redisContext *c = connect_to_empty();
	char message[MESSAGE];

	if (relay_fork())
		consume_waiting(relay);
	relay_wait(&relay->ready);
	usleep(20000);
	for (long i = 0; i < count; i++) {
		fill_message(message, now_ns());
		DO(c, "LPUSH q %b", message, (size_t)MESSAGE);
		relay_sent(relay);
	}
	wait_for_children();
	print_latencies(relay->ns, count);
	redisFree(c);
}

static const struct work works[] = {
	{ "produce", do_produce },     /* LPUSH, a thousand on their way */
	{ "batch", do_batch },         /* LPUSH of a hundred values */
	{ "producers", do_producers }, /* as produce, from four processes */
	{ "answered", do_answered },   /* LPUSH, one after the other */
	{ "durable", do_answered },    /* the same; the server syncs always */
	{ "durable-producers", do_durable_producers }, { "consume", do_consume }, /* RPOP of a thousand */
	{ "settle", do_settle },                                                  /* LMOVE, LREM */
	{ "settle-all", do_settle_all }, /* XREADGROUP and XACK of a thousand */
	{ "wait", do_wait },             /* BRPOP */
	{ "lifecycle", do_lifecycle },   /* XADD, XREADGROUP, XACK */
};

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	address = argv[1];
	return RUN_WORK(works, argv[2], atol(argv[3]));
}
