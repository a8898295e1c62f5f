/*
 * stress_tx - transactions beside everything that a commit has to keep out or wait for, for ThreadSanitizer and for builds that
 * check invariants.
 *
 * Thirty coins go round three queues: movers take one, and stage its ack, its message in another queue, and a message with an id
 * through an exchange that is bound to a queue with dedup.window.ms and to a topic. Others publish through that exchange and send to
 * its queue, with ids, too, while streams that wait take from the queue and lookers ask for figures and listings. In the end
 * there are thirty coins, and as many messages in the topic as were published. Whoever waits for ever is found by an alarm.
 *
 * MQFS_STRESS_MOVES sets how many moves each mover makes.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/stress/stress.h"

#define MOVERS 4
#define QUEUES 3
#define COINS 30
#define PUBLISHERS 2
#define STREAMS 2

static struct engine_object *queues[QUEUES], *consumers[MOVERS][QUEUES], *sink, *topic, *exchange;
static unsigned long moves = 300;
static _Atomic unsigned long published, committed, next_id = 1;
static _Atomic bool over;

static int send_one(struct engine_producer *producer, const char *text, size_t len, bool with_id)
{
	struct engine_props props = ENGINE_PROPS_INIT;
	char id[32], data[64];
	struct engine_batch batch = { .data = data, .len = len + 1, .count = 1, .props = &props, .ts_ms = -1 };

	snprintf(data, sizeof(data), "%.*s\n", (int)len, text);
	if (with_id) {
		snprintf(id, sizeof(id), "%lu", atomic_fetch_add(&next_id, 1));
		props.id = (struct engine_span){ id, strlen(id) };
	}
	return ops->producer_send(producer, &batch, NULL);
}

static int stage(struct engine_object *tx, struct engine_object *target, const char *key, const char *text, size_t len)
{
	struct engine_span span = { key, key != NULL ? strlen(key) : 0 };
	struct engine_producer *producer = NULL;
	int rc = ops->tx->producer_open(tx, target, ENGINE_ANY, false, span, &producer);

	if (rc == 0)
		rc = send_one(producer, text, len, key != NULL);
	ops->producer_close(producer);
	return rc;
}

/* ---- movers ---- */

/* Takes a coin of the queue; 0: there is none. */
static uint64_t take_coin(
    struct engine_object *consumer, struct engine_scratch *scratch, char coin[32], size_t *ret_len)
{
	struct engine_consumer *reader;
	struct engine_view view;
	uint64_t id = 0;

	MUST(ops->queue->consumer_open(consumer, ENGINE_CONSUME_ONE, false, 0, &reader) == 0);
	if (ops->consumer_fetch(reader, 1, SIZE_MAX, scratch, &view) == 1) {
		id = view.deliveries[0].id;
		*ret_len = view.batch.lengths[0];
		memcpy(coin, view.batch.data, *ret_len);
	}
	ops->consumer_close(reader);
	return id;
}

static void move(unsigned mover, unsigned long number, struct engine_scratch *scratch)
{
	unsigned from = (unsigned)(number + mover) % QUEUES, to = (unsigned)(number * 7 + mover * 3) % QUEUES;
	struct engine_object *tx;
	char coin[32], name[32];
	size_t len = 0;
	uint64_t id = take_coin(consumers[mover][from], scratch, coin, &len);

	if (id == 0)
		return;
	snprintf(name, sizeof(name), "%u.%lu", mover, number);
	tx = create(root, ENGINE_TX, name);
	MUST(ops->tx->settle(tx, consumers[mover][from], ENGINE_ACK, id, id) == 1);
	MUST(stage(tx, queues[to], NULL, coin, len) == 0);
	MUST(stage(tx, exchange, "a", coin, len) == 0);
	MUST(stage(tx, exchange, "b", coin, len) == 0);
	if (number % 5 == 0) {
		MUST(ops->tx->rollback(tx) == 0);
		MUST(ops->queue->settle(consumers[mover][from], ENGINE_NACK, id, id) == 1);
	} else {
		MUST(ops->tx->commit(tx) == 0);
		atomic_fetch_add(&published, 2);
		atomic_fetch_add(&committed, 1);
	}
	MUST(ops->remove(tx) == 0);
	ops->put(tx);
}

static void *move_coins(void *arg)
{
	struct engine_scratch scratch = { 0 };

	for (unsigned long i = 0; i < moves; i++)
		move((unsigned)(uintptr_t)arg, i, &scratch);
	engine_scratch_release(&scratch);
	return NULL;
}

/* ---- beside them ---- */

static void *publish(void *arg)
{
	struct engine_producer *producer, *direct;

	MUST(ops->producer_open(exchange, ENGINE_ANY, (struct engine_span){ "c", 1 }, &producer) == 0);
	MUST(ops->queue->producer_open(sink, ENGINE_ANY, false, &direct) == 0);
	while (!atomic_load(&over)) {
		MUST(send_one(producer, "hello", 5, (uintptr_t)arg == 0) == 0);
		atomic_fetch_add(&published, 1);
		MUST(send_one(direct, "there", 5, true) == 0);
		usleep(200);
	}
	ops->producer_close(direct);
	ops->producer_close(producer);
	return NULL;
}

struct stream {
	struct engine_waiter waiter;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool woken; /* lock */
};

static void wake(struct engine_waiter *waiter)
{
	struct stream *stream = (struct stream *)waiter;

	pthread_mutex_lock(&stream->lock);
	stream->woken = true;
	pthread_cond_signal(&stream->changed);
	pthread_mutex_unlock(&stream->lock);
}

static void *drain(void *arg)
{
	struct stream stream = {
		.waiter = { .wake = wake }, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER
	};
	struct engine_scratch scratch = { 0 };
	struct engine_consumer *consumer;
	struct engine_view view;

	(void)arg;
	MUST(ops->queue->consumer_open(sink, ENGINE_CONSUME_STREAM, true, 0, &consumer) == 0);
	while (!atomic_load(&over)) {
		while (ops->consumer_fetch(consumer, 10, SIZE_MAX, &scratch, &view) == 1)
			;
		stream.woken = false;
		if (ops->consumer_arm(consumer, &stream.waiter) != 0)
			continue;
		pthread_mutex_lock(&stream.lock);
		while (!stream.woken)
			pthread_cond_wait(&stream.changed, &stream.lock);
		pthread_mutex_unlock(&stream.lock);
	}
	ops->consumer_close(consumer);
	engine_scratch_release(&scratch);
	return NULL;
}

static void *look(void *arg)
{
	struct engine_queue_stat stat;
	struct engine_stat of_topic;

	(void)arg;
	while (!atomic_load(&over)) {
		for (unsigned q = 0; q < QUEUES; q++)
			MUST(ops->queue->queue_stat(queues[q], &stat) == 0);
		MUST(ops->stat(topic, &of_topic) == 0);
		usleep(100);
	}
	return NULL;
}

/* ---- all together ---- */

static void make_all(void)
{
	char name[32];
	struct engine_producer *producer;

	for (unsigned q = 0; q < QUEUES; q++) {
		snprintf(name, sizeof(name), "q%u", q);
		queues[q] = create(root, ENGINE_QUEUE, name);
		MUST(ops->set_setting(queues[q], engine_setting_find(ENGINE_QUEUE, "delivery.limit"), "-1") == 0);
		for (unsigned m = 0; m < MOVERS; m++) {
			snprintf(name, sizeof(name), "m%u", m);
			consumers[m][q] = create(queues[q], ENGINE_CONSUMER, name);
		}
	}
	sink = create(root, ENGINE_QUEUE, "sink");
	MUST(ops->set_setting(sink, engine_setting_find(ENGINE_QUEUE, "dedup.window.ms"), "60000") == 0);
	topic = create(root, ENGINE_TOPIC, "topic");
	exchange = create(root, ENGINE_EXCHANGE, "exchange");
	MUST(ops->exchange->pattern_add(exchange, "#") == 0);
	MUST(ops->exchange->bind(exchange, "#", "sink", sink) == 0);
	MUST(ops->exchange->bind(exchange, "#", "topic", topic) == 0);
	for (unsigned coin = 0; coin < COINS; coin++) {
		snprintf(name, sizeof(name), "coin-%u", coin);
		MUST(ops->queue->producer_open(queues[coin % QUEUES], ENGINE_ANY, false, &producer) == 0);
		MUST(send_one(producer, name, strlen(name), false) == 0);
		ops->producer_close(producer);
	}
}

static void put_all(void)
{
	for (unsigned q = 0; q < QUEUES; q++) {
		for (unsigned m = 0; m < MOVERS; m++)
			ops->put(consumers[m][q]);
		ops->put(queues[q]);
	}
	ops->put(sink);
	ops->put(topic);
	ops->put(exchange);
	ops->put(root);
}

static void check_all(void)
{
	struct engine_queue_stat stat;
	struct engine_stat of_topic;
	uint64_t coins = 0;

	for (unsigned q = 0; q < QUEUES; q++) {
		MUST(ops->queue->queue_stat(queues[q], &stat) == 0);
		coins += stat.ready + stat.unacked + stat.delayed + stat.dead;
	}
	MUST(coins == COINS);
	MUST(ops->stat(topic, &of_topic) == 0);
	MUST(of_topic.messages == atomic_load(&published));
	MUST(atomic_load(&committed) > 0);
}

static void run(void)
{
	pthread_t movers[MOVERS], others[PUBLISHERS + STREAMS + 1];
	struct engine_producer *producer;
	unsigned count = 0;

	for (uintptr_t i = 0; i < PUBLISHERS; i++)
		MUST(pthread_create(&others[count++], NULL, publish, (void *)i) == 0);
	for (unsigned i = 0; i < STREAMS; i++)
		MUST(pthread_create(&others[count++], NULL, drain, NULL) == 0);
	MUST(pthread_create(&others[count++], NULL, look, NULL) == 0);
	for (uintptr_t i = 0; i < MOVERS; i++)
		MUST(pthread_create(&movers[i], NULL, move_coins, (void *)i) == 0);
	for (unsigned i = 0; i < MOVERS; i++)
		pthread_join(movers[i], NULL);
	atomic_store(&over, true);
	for (unsigned i = 0; i < PUBLISHERS; i++)
		pthread_join(others[i], NULL);
	MUST(ops->queue->producer_open(sink, ENGINE_ANY, false, &producer) == 0);
	for (unsigned i = 0; i < 50; i++) /* so that the streams wake, and see that it is over */
		MUST(send_one(producer, "end", 3, false) == 0);
	ops->producer_close(producer);
	for (unsigned i = PUBLISHERS; i < count; i++)
		pthread_join(others[i], NULL);
}

int main(void)
{
	struct engine_options options = { .create = true, .root_owner = { 0, 0, 0755 } };
	const char *asked = getenv("MQFS_STRESS_MOVES");
	struct tmpdir dir;
	char source[PATH_MAX + 16];

	if (asked != NULL)
		moves = strtoul(asked, NULL, 10);
	if (access("/dev/shm", W_OK) == 0)
		setenv("TMPDIR", "/dev/shm", 0);
	alarm(300);
	tmpdir_make(&dir);
	snprintf(source, sizeof(source), "%s/store", dir.path);
	MUST(engine_open(source, &options, &engine) == 0);
	ops = engine->ops;
	MUST(ops->get(engine, ENGINE_ROOT_ID, &root) == 0);
	make_all();
	run();
	check_all();
	put_all();
	MUST(ops->close(engine) == 0);
	tmpdir_remove(&dir);
	printf("%lu commits, %lu messages published\n", atomic_load(&committed), atomic_load(&published));
	return 0;
}
