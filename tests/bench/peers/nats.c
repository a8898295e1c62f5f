/*
 * nats - NATS JetStream, a stream in files, by libnats: nats PORT WORK COUNT
 *
 * The server syncs by a timer alone, so there is no work in which each message is durable.
 */
#include "tests/bench/peers/peer.h"
#include <nats/nats.h>
#include <pthread.h>

#define PENDING 4000
#define FETCH 1000
#define WAIT_MS (PATIENCE_S * 1000)

static char url[64];
static natsConnection *connection;
static jsCtx *stream;

static void check(natsStatus status, const char *what)
{
	if (status != NATS_OK)
		fail("nats: %s: %s", what, natsStatus_GetText(status));
}

/* at_once: a message is sent as soon as it is written, instead of by a thread that gathers them. */
static void connect_to(natsConnection **ret_connection, jsCtx **ret_stream, int at_once)
{
	natsOptions *options;
	jsOptions js;

	check(natsOptions_Create(&options), "options");
	natsOptions_SetURL(options, url);
	natsOptions_SetSendAsap(options, at_once);
	check(natsConnection_Connect(ret_connection, options), "connect");
	natsOptions_Destroy(options);
	jsOptions_Init(&js);
	js.PublishAsync.MaxPending = PENDING;
	check(natsConnection_JetStream(ret_stream, *ret_connection, &js), "jetstream");
}

static void make_stream(int at_once)
{
	const char *subjects[] = { "b" };
	jsStreamConfig config;
	jsErrCode error;

	connect_to(&connection, &stream, at_once);
	js_DeleteStream(stream, "B", NULL, &error);
	jsStreamConfig_Init(&config);
	config.Name = "B";
	config.Subjects = subjects;
	config.SubjectsLen = 1;
	config.Storage = js_FileStorage;
	check(js_AddStream(NULL, stream, &config, NULL, &error), "add stream");
}

static void publish_all(long count)
{
	char message[MESSAGE];
	jsPubOptions options;

	fill_message(message, 0);
	for (long i = 0; i < count; i++)
		check(js_PublishAsync(stream, "b", message, MESSAGE, NULL), "publish");
	jsPubOptions_Init(&options);
	options.MaxWait = 60000;
	check(js_PublishAsyncComplete(stream, &options), "complete");
}

static void publish(uint64_t number)
{
	char message[MESSAGE];
	jsErrCode error;

	fill_message(message, number);
	check(js_Publish(NULL, stream, "b", message, MESSAGE, NULL, &error), "publish");
}

static void do_produce(long count)
{
	uint64_t began;

	make_stream(0);
	began = now_ns();
	publish_all(count);
	print_rate(count, began);
}

static void do_answered(long count)
{
	uint64_t *ns = allocate((size_t)count * sizeof(*ns)), began;

	make_stream(1);
	began = now_ns();
	for (long i = 0; i < count; i++) {
		uint64_t sent = now_ns();

		publish((uint64_t)i);
		ns[i] = now_ns() - sent;
	}
	print_rate(count, began);
	print_latencies(ns, count);
}

enum ack { ACK_NONE, ACK_EACH, ACK_AWAITED };

static void take(natsMsgList *list, enum ack ack)
{
	jsErrCode error;

	for (int i = 0; i < list->Count && ack != ACK_NONE; i++)
		if (ack == ACK_AWAITED)
			check(natsMsg_AckSync(list->Msgs[i], NULL, &error), "ack");
		else
			check(natsMsg_Ack(list->Msgs[i], NULL), "ack");
	natsMsgList_Destroy(list);
}

static void drain(long count, int fetch, enum ack ack)
{
	natsSubscription *subscription;
	jsSubOptions options;
	jsErrCode error;

	jsSubOptions_Init(&options);
	options.Config.AckPolicy = ack == ACK_NONE ? js_AckNone : js_AckExplicit;
	options.Config.MaxAckPending = 100000;
	check(js_PullSubscribe(&subscription, stream, "b", "d", NULL, &options, &error), "subscribe");
	while (count > 0) {
		natsMsgList list;

		check(natsSubscription_Fetch(&list, subscription, fetch, WAIT_MS, &error), "fetch");
		count -= list.Count;
		take(&list, ack);
	}
	natsConnection_Flush(connection);
	natsSubscription_Destroy(subscription);
}

static void do_drain(long count, int fetch, enum ack ack)
{
	uint64_t began;

	make_stream(ack == ACK_AWAITED);
	publish_all(count);
	began = now_ns();
	drain(count, fetch, ack);
	print_rate(count, began);
}

static void do_consume(long count)
{
	do_drain(count, FETCH, ACK_NONE);
}

static void do_settle(long count)
{
	do_drain(count, 1, ACK_AWAITED);
}

static void do_settle_all(long count)
{
	do_drain(count, FETCH, ACK_EACH);
}

static void do_lifecycle(long count)
{
	uint64_t began;

	make_stream(0);
	began = now_ns();
	publish_all(count);
	drain(count, FETCH, ACK_EACH);
	print_rate(count, began);
}

/* libnats has threads, so the consumer that waits is a thread with a connection of its own. */
static void *consume_waiting(void *data)
{
	struct relay *relay = data;
	natsSubscription *subscription;
	natsConnection *own;
	jsSubOptions options;
	jsErrCode error;
	jsCtx *js;

	connect_to(&own, &js, 1);
	jsSubOptions_Init(&options);
	options.Config.AckPolicy = js_AckNone;
	check(js_SubscribeSync(&subscription, js, "b", NULL, &options, &error), "subscribe");
	relay_is_ready(relay);
	do {
		natsMsg *message;

		check(natsSubscription_NextMsg(&message, subscription, WAIT_MS), "next");
		relay_got(relay, natsMsg_GetData(message));
		natsMsg_Destroy(message);
	} while (relay_goes_on(relay));
	natsSubscription_Destroy(subscription);
	return NULL;
}

static void do_wait(long count)
{
	struct relay *relay = relay_new(count);
	pthread_t consumer;

	make_stream(1);
	if (pthread_create(&consumer, NULL, consume_waiting, relay) != 0)
		fail("thread");
	relay_wait(&relay->ready);
	usleep(50000);
	for (long i = 0; i < count; i++) {
		publish(now_ns());
		relay_sent(relay);
	}
	pthread_join(consumer, NULL);
	print_latencies(relay->ns, count);
}

/* One message from a process of its own: what a shell would call, and Debian has no command for. */
static void do_one(long count)
{
	connect_to(&connection, &stream, 1);
	publish((uint64_t)count);
}

static const struct work works[] = {
	{ "produce", do_produce },
	{ "answered", do_answered },
	{ "consume", do_consume },
	{ "settle", do_settle },
	{ "settle-all", do_settle_all },
	{ "wait", do_wait },
	{ "lifecycle", do_lifecycle },
	{ "one", do_one },
};

int main(int argc, char **argv)
{
	int status;

	if (argc != 4)
		return 2;
	snprintf(url, sizeof(url), "nats://127.0.0.1:%s", argv[1]);
	status = RUN_WORK(works, argv[2], atol(argv[3]));
	_exit(status);
}
