/*
 * kafka - librdkafka against the mock of a broker that it brings along, in this same process: kafka - WORK COUNT
 *
 * The protocol is the real one, on loopback sockets; but there is no disk, no replication and no JVM, so take it for the most that
 * a broker of Kafka's could do. The mock keeps 5 MiB, so what is consumed are 30,000 messages at most; it answers a consumer that
 * waits by a timer alone, so there is no such work.
 */
#include "tests/bench/peers/peer.h"
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#define KEPT 30000
#define WAIT_MS (PATIENCE_S * 1000)

static const char *bootstrap;
static long delivered;

static void set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	char error[300];

	if (rd_kafka_conf_set(conf, name, value, error, sizeof(error)) != RD_KAFKA_CONF_OK)
		fail("kafka: %s", error);
}

static void on_delivery(rd_kafka_t *kafka, const rd_kafka_message_t *message, void *opaque)
{
	(void)kafka;
	(void)opaque;
	if (message->err)
		fail("kafka: delivery: %s", rd_kafka_err2str(message->err));
	delivered++;
}

static rd_kafka_t *client_new(rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
	char error[300];
	rd_kafka_t *kafka;

	set(conf, "bootstrap.servers", bootstrap);
	kafka = rd_kafka_new(type, conf, error, sizeof(error));
	if (kafka == NULL)
		fail("kafka: %s", error);
	return kafka;
}

static rd_kafka_t *producer_new(const char *linger_ms)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();

	set(conf, "linger.ms", linger_ms);
	set(conf, "queue.buffering.max.messages", "2000000");
	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	return client_new(RD_KAFKA_PRODUCER, conf);
}

static void send_message(rd_kafka_topic_t *topic, uint64_t number)
{
	char message[MESSAGE];

	fill_message(message, number);
	while (rd_kafka_produce(topic, 0, RD_KAFKA_MSG_F_COPY, message, MESSAGE, NULL, 0, NULL) < 0) {
		if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
			fail("kafka: produce");
		usleep(100);
	}
}

static void produce(long count)
{
	rd_kafka_t *producer = producer_new("5");
	rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, "b", NULL);

	delivered = 0;
	for (long i = 0; i < count; i++) {
		send_message(topic, (uint64_t)i);
		if (i % 1000 == 0)
			rd_kafka_poll(producer, 0);
	}
	rd_kafka_flush(producer, 60000);
	if (delivered != count)
		fail("kafka: %ld of %ld delivered", delivered, count);
	rd_kafka_topic_destroy(topic);
	rd_kafka_destroy(producer);
}

static void do_produce(long count)
{
	uint64_t began = now_ns();

	produce(count);
	print_rate(count, began);
}

static void do_answered(long count)
{
	rd_kafka_t *producer = producer_new("0");
	rd_kafka_topic_t *topic = rd_kafka_topic_new(producer, "b", NULL);
	uint64_t *ns = allocate((size_t)count * sizeof(*ns)), began = now_ns();

	for (long i = 0; i < count; i++) {
		uint64_t sent = now_ns();

		send_message(topic, (uint64_t)i);
		while (delivered <= i)
			rd_kafka_poll(producer, 100);
		ns[i] = now_ns() - sent;
	}
	print_rate(count, began);
	print_latencies(ns, count);
	rd_kafka_topic_destroy(topic);
	rd_kafka_destroy(producer);
}

static rd_kafka_t *consumer_new(void)
{
	rd_kafka_topic_partition_list_t *partitions = rd_kafka_topic_partition_list_new(1);
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *consumer;

	set(conf, "group.id", "g");
	set(conf, "enable.auto.commit", "false");
	set(conf, "fetch.wait.max.ms", "100");
	consumer = client_new(RD_KAFKA_CONSUMER, conf);
	rd_kafka_poll_set_consumer(consumer);
	rd_kafka_topic_partition_list_add(partitions, "b", 0)->offset = RD_KAFKA_OFFSET_BEGINNING;
	rd_kafka_assign(consumer, partitions);
	rd_kafka_topic_partition_list_destroy(partitions);
	return consumer;
}

static rd_kafka_message_t *next(rd_kafka_t *consumer)
{
	for (;;) {
		rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, WAIT_MS);

		if (message == NULL)
			fail("kafka: no message came");
		if (!message->err)
			return message;
		rd_kafka_message_destroy(message);
	}
}

/* The first message, which takes as long as connecting does, is not in the time. */
static void consume(long count, int commit)
{
	rd_kafka_t *consumer;
	uint64_t began;

	produce(count);
	consumer = consumer_new();
	rd_kafka_message_destroy(next(consumer));
	began = now_ns();
	for (long i = 1; i < count; i++) {
		rd_kafka_message_t *message = next(consumer);

		if (commit && rd_kafka_commit_message(consumer, message, 0) != RD_KAFKA_RESP_ERR_NO_ERROR)
			fail("kafka: commit");
		rd_kafka_message_destroy(message);
	}
	print_rate(count - 1, began);
}

static void do_consume(long count)
{
	consume(count < KEPT ? count : KEPT, 0);
}

static void do_settle(long count)
{
	consume(count < KEPT ? count : KEPT, 1);
}

static const struct work works[] = {
	{ "produce", do_produce }, /* librdkafka makes batches of them by itself */
	{ "batch", do_produce },
	{ "answered", do_answered },
	{ "consume", do_consume },
	{ "settle", do_settle },
};

int main(int argc, char **argv)
{
	rd_kafka_mock_cluster_t *cluster;
	int status;

	if (argc != 4)
		return 2;
	cluster = rd_kafka_mock_cluster_new(rd_kafka_new(RD_KAFKA_PRODUCER, NULL, NULL, 0), 1);
	bootstrap = rd_kafka_mock_cluster_bootstraps(cluster);
	rd_kafka_mock_topic_create(cluster, "b", 1, 1);
	status = RUN_WORK(works, argv[2], atol(argv[3]));
	_exit(status);
}
