/*
 * amqp - RabbitMQ by librabbitmq: amqp PORT WORK COUNT
 *
 * A durable classic queue, persistent messages, and publisher confirms: 2000 on their way in bulk, or one by one. An unconfirmed
 * message may be lost with the server, so nothing is measured without.
 */
#include "tests/bench/peers/peer.h"
#include <amqp.h>
#include <amqp_tcp_socket.h>

#define WINDOW 2000
#define PREFETCH 1000
#define ACK_EVERY 500
#define FRAME_MAX 131072
#define PERSISTENT 2

static int port;

#define QUEUE amqp_cstring_bytes("q")

static void check(amqp_rpc_reply_t reply, const char *what)
{
	if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
		fail("amqp: %s: %s", what, amqp_error_string2(reply.library_error));
	if (reply.reply_type != AMQP_RESPONSE_NORMAL)
		fail("amqp: %s: refused", what);
}

static amqp_connection_state_t connect_to(void)
{
	amqp_connection_state_t c = amqp_new_connection();

	if (amqp_socket_open(amqp_tcp_socket_new(c), "127.0.0.1", port) != 0)
		fail("amqp: port %d", port);
	check(amqp_login(c, "/", 0, FRAME_MAX, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest"), "login");
	amqp_channel_open(c, 1);
	check(amqp_get_rpc_reply(c), "channel");
	return c;
}

static void disconnect(amqp_connection_state_t c)
{
	amqp_connection_close(c, AMQP_REPLY_SUCCESS);
	amqp_destroy_connection(c);
}

static void empty_queue(void)
{
	amqp_connection_state_t c = connect_to();

	amqp_queue_declare(c, 1, QUEUE, 0, 1, 0, 0, amqp_empty_table);
	check(amqp_get_rpc_reply(c), "declare");
	amqp_queue_purge(c, 1, QUEUE);
	check(amqp_get_rpc_reply(c), "purge");
	disconnect(c);
}

static void publish(amqp_connection_state_t c, uint64_t number)
{
	amqp_basic_properties_t properties = { ._flags = AMQP_BASIC_DELIVERY_MODE_FLAG, .delivery_mode = PERSISTENT };
	char message[MESSAGE];

	fill_message(message, number);
	if (amqp_basic_publish(c, 1, amqp_empty_bytes, QUEUE, 0, 0, &properties, (amqp_bytes_t){ MESSAGE, message }) !=
	    0)
		fail("amqp: publish");
}

/* Waits for one confirm; returns how many messages are known to be confirmed, which is below the truth while acks of one and of many
 * mix, and right in the end. */
static long confirmed(amqp_connection_state_t c, long *up_to, long *singles)
{
	amqp_frame_t frame;
	amqp_basic_ack_t *ack;

	do {
		amqp_maybe_release_buffers(c);
		if (amqp_simple_wait_frame(c, &frame) != AMQP_STATUS_OK)
			fail("amqp: no confirm came");
	} while (frame.frame_type != AMQP_FRAME_METHOD);
	if (frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
		fail("amqp: a message was not confirmed");
	ack = frame.payload.method.decoded;
	if (!ack->multiple) {
		++*singles;
	} else if ((long)ack->delivery_tag > *up_to) {
		*up_to = (long)ack->delivery_tag;
		*singles = 0;
	}
	return *up_to + *singles;
}

static void publish_confirmed(long count, long window)
{
	amqp_connection_state_t c = connect_to();
	long sent = 0, done = 0, up_to = 0, singles = 0;

	amqp_confirm_select(c, 1);
	check(amqp_get_rpc_reply(c), "confirm.select");
	while (done < count) {
		while (sent < count && sent - done < window)
			publish(c, (uint64_t)sent++);
		done = confirmed(c, &up_to, &singles);
	}
	disconnect(c);
}

static void publish_window(long count)
{
	publish_confirmed(count, WINDOW);
}

static void publish_singly(long count)
{
	publish_confirmed(count, 1);
}

static void do_produce(long count)
{
	uint64_t began;

	empty_queue();
	began = now_ns();
	publish_window(count);
	print_rate(count, began);
	empty_queue();
}

static void do_producers(long count)
{
	empty_queue();
	produce_by(PRODUCERS, publish_window, count);
	empty_queue();
}

static void do_durable_producers(long count)
{
	empty_queue();
	produce_by(DURABLE_PRODUCERS, publish_singly, count);
	empty_queue();
}

static void do_answered(long count)
{
	uint64_t *ns = allocate((size_t)count * sizeof(*ns)), began;
	amqp_connection_state_t c;
	long up_to = 0, singles = 0;

	empty_queue();
	c = connect_to();
	amqp_confirm_select(c, 1);
	check(amqp_get_rpc_reply(c), "confirm.select");
	began = now_ns();
	for (long i = 0; i < count; i++) {
		uint64_t sent = now_ns();

		publish(c, (uint64_t)i);
		confirmed(c, &up_to, &singles);
		ns[i] = now_ns() - sent;
	}
	print_rate(count, began);
	print_latencies(ns, count);
	disconnect(c);
	empty_queue();
}

static void subscribe(amqp_connection_state_t c, int auto_ack, uint16_t prefetch)
{
	amqp_basic_qos(c, 1, 0, prefetch, 0);
	check(amqp_get_rpc_reply(c), "qos");
	amqp_basic_consume(c, 1, QUEUE, amqp_empty_bytes, 0, auto_ack, 0, amqp_empty_table);
	check(amqp_get_rpc_reply(c), "consume");
}

static uint64_t take(amqp_connection_state_t c, struct relay *relay)
{
	struct timeval patience = { .tv_sec = PATIENCE_S };
	amqp_envelope_t envelope;
	uint64_t tag;

	amqp_maybe_release_buffers(c);
	check(amqp_consume_message(c, &envelope, &patience, 0), "take");
	if (relay != NULL)
		relay_got(relay, envelope.message.body.bytes);
	tag = envelope.delivery_tag;
	amqp_destroy_envelope(&envelope);
	return tag;
}

/* ack_every: of how many one acknowledges the last, and with it all; 0: none. */
static void drain(long count, long ack_every, uint16_t prefetch)
{
	amqp_connection_state_t c = connect_to();

	subscribe(c, ack_every == 0, prefetch);
	for (long i = 1; i <= count; i++) {
		uint64_t tag = take(c, NULL);

		if (ack_every > 0 && (i % ack_every == 0 || i == count) && amqp_basic_ack(c, 1, tag, 1) != 0)
			fail("amqp: ack");
	}
	disconnect(c);
}

static void do_drain(long count, long ack_every, uint16_t prefetch)
{
	uint64_t began;

	empty_queue();
	publish_window(count);
	began = now_ns();
	drain(count, ack_every, prefetch);
	print_rate(count, began);
	empty_queue();
}

static void do_consume(long count)
{
	do_drain(count, 0, 0);
}

static void do_settle(long count)
{
	do_drain(count, 1, 1);
}

static void do_settle_all(long count)
{
	do_drain(count, ACK_EVERY, PREFETCH);
}

static void do_lifecycle(long count)
{
	uint64_t began;

	empty_queue();
	began = now_ns();
	publish_window(count);
	drain(count, ACK_EVERY, PREFETCH);
	print_rate(count, began);
}

static void consume_waiting(struct relay *relay)
{
	amqp_connection_state_t c = connect_to();

	subscribe(c, 1, 0);
	relay_is_ready(relay);
	do
		take(c, relay);
	while (relay_goes_on(relay));
	_exit(0);
}

static void do_wait(long count)
{
	struct relay *relay = relay_new(count);
	amqp_connection_state_t c;

	empty_queue();
	if (relay_fork())
		consume_waiting(relay);
	relay_wait(&relay->ready);
	usleep(200000);
	c = connect_to();
	for (long i = 0; i < count; i++) {
		publish(c, now_ns());
		relay_sent(relay);
	}
	wait_for_children();
	print_latencies(relay->ns, count);
	disconnect(c);
}

static const struct work works[] = {
	{ "produce", do_produce },
	{ "producers", do_producers },
	{ "answered", do_answered },
	{ "durable", do_answered },
	{ "durable-producers", do_durable_producers },
	{ "consume", do_consume },
	{ "settle", do_settle },
	{ "settle-all", do_settle_all },
	{ "wait", do_wait },
	{ "lifecycle", do_lifecycle },
};

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	port = atoi(argv[1]);
	return RUN_WORK(works, argv[2], atol(argv[3]));
}
