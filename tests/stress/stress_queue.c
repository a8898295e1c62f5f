/*
 * stress_queue - queues of the local engine under everything at once, for ThreadSanitizer and for debug builds that check
 * invariants.
 *
 * Four producers fill a queue, whose messages die, move, are touched, listed, redriven and taken back while four consumers with
 * names, with and without sessions, get and settle them. A last thread makes, renames, fills and removes other queues. In the end
 * every message was acknowledged, exactly once as the acks tell it.
 *
 * MQFS_STRESS_MESSAGES sets how many messages each producer sends. A plain program: Criterion aborts under ThreadSanitizer.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/stress/stress.h"

#define PRODUCERS 4u
#define CONSUMERS 4u
#define MESSAGES_MAX 100000u

static struct engine_object *queue, *dlq, *side;
static unsigned per_producer = 1500;
static _Atomic unsigned acked;
static _Atomic uint8_t seen[MESSAGES_MAX]; /* acks of each */
static _Atomic bool over;

static unsigned total(void)
{
	return per_producer * PRODUCERS;
}

/* ---- producing ---- */

static void *produce(void *arg)
{
	unsigned number = (unsigned)(uintptr_t)arg;
	struct engine_producer *producer;

	MUST(ops->queue->producer_open(queue, ENGINE_ANY, number == 0, &producer) == 0);
	for (unsigned i = 0; i < per_producer; i += 2) {
		struct engine_props props[2] = { ENGINE_PROPS_INIT, ENGINE_PROPS_INIT };
		struct engine_batch batch = { .count = 2, .ts_ms = -1, .props = props };
		char text[64];

		batch.len = (size_t)snprintf(
		    text, sizeof(text), "%u\n%u\n", number * per_producer + i, number * per_producer + i + 1);
		batch.data = text;
		props[1].priority = (int32_t)(i / 2 % 3);
		if (i % 50 == 0)
			props[0].delay_ms = 5;
		MUST(ops->producer_send(producer, &batch, NULL) == 0);
		if (i % 16 == 0)
			sched_yield();
	}
	ops->producer_close(producer);
	return NULL;
}

/* ---- consuming ---- */

static void count_ack(const char *text)
{
	unsigned number = (unsigned)strtoul(text, NULL, 10);

	MUST(number < total());
	MUST(atomic_fetch_add(&seen[number], 1) == 0);
	atomic_fetch_add(&acked, 1);
}

/* Acks most of what it gets, puts some back, rejects some. What it has lost meanwhile it may not settle. */
static void settle(struct engine_object *consumer, const struct engine_view *view, unsigned round)
{
	const char *data = view->batch.data;

	for (uint32_t i = 0; i < view->batch.count; i++) {
		uint64_t id = view->deliveries[i].id;
		enum engine_settle how = (round + i) % 11 == 0   ? ENGINE_NACK
					 : (round + i) % 17 == 0 ? ENGINE_REJECT
								 : ENGINE_ACK;
		int64_t rc = ops->queue->settle(consumer, how, id, id);

		MUST(rc == 1 || rc == -EALREADY || rc == -ESTALE || rc == -ENOENT || rc == -EPERM);
		if (rc == 1 && how == ENGINE_ACK)
			count_ack(data);
		data += view->batch.lengths[i] + 1;
	}
}

static void *consume(void *arg)
{
	unsigned number = (unsigned)(uintptr_t)arg, round = 0;
	struct engine_scratch scratch = { 0 };
	struct engine_object *consumer;
	char name[16];

	snprintf(name, sizeof(name), "w%u", number);
	consumer = create(queue, ENGINE_CONSUMER, name);
	while (atomic_load(&acked) < total()) {
		enum engine_consume how = (enum engine_consume)(round % 3);
		struct engine_session *session = NULL;
		struct engine_consumer *reader;
		struct engine_view view;

		round++;
		if (number % 2 == 0)
			MUST(ops->queue->session_open(consumer, &session) == 0);
		MUST(ops->queue->consumer_open(consumer, how, false, 0, &reader) == 0);
		for (unsigned n = 0; n < 8 && ops->consumer_fetch(reader, 4, 65536, &scratch, &view) == 1; n++)
			settle(consumer, &view, round);
		ops->consumer_close(reader);
		ops->queue->session_close(session);
		sched_yield();
	}
	ops->put(consumer);
	engine_scratch_release(&scratch);
	return NULL;
}

/* ---- what else happens to messages ---- */

struct errand {
	unsigned count, round;
	struct engine_object *from;
};

static bool run_errand(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct errand *e = ctx;
	struct engine_place place = {
		.queue = e->from == queue ? side : queue, .state = ENGINE_READY, .priority = ENGINE_ANY
	};
	struct engine_scratch scratch = { 0 };
	struct engine_view view;
	int rc;

	(void)next;
	if (e->round % 3 == 0)
		rc = ops->queue->message_move(e->from, stat->id, stat->state, &place);
	else if (e->round % 3 == 1)
		rc = ops->queue->message_touch(e->from, stat->id, stat->state, stat->ts_ms + 3);
	else
		rc = ops->queue->message_read(e->from, stat->id, &scratch, &view);
	MUST(rc == 0 || rc == -ENOENT || rc == -EAGAIN);
	engine_scratch_release(&scratch);
	return ++e->count < 5;
}

/* Moves what is listed to another queue and back, touches, reads, redrives. */
static void *meddle(void *arg)
{
	struct engine_queue_stat stat;

	(void)arg;
	for (unsigned round = 0; !atomic_load(&over); round++) {
		struct errand there = { .round = round, .from = queue }, back = { .from = side };
		uint64_t cursor[2] = { 0, 0 }, other[2] = { 0, 0 };

		MUST(ops->queue->message_list(queue, (enum engine_message_state)(round % 2), ENGINE_ANY, NULL, cursor,
			 run_errand, &there) >= 0);
		MUST(ops->queue->message_list(side, ENGINE_READY, ENGINE_ANY, NULL, other, run_errand, &back) >= 0);
		MUST(ops->queue->redrive(dlq, 0, UINT64_MAX) >= 0);
		MUST(ops->queue->queue_stat(queue, &stat) == 0);
		MUST(stat.published + stat.moved_in == stat.ready + stat.unacked + stat.delayed + stat.acked +
							   stat.dead_lettered + stat.expired + stat.dropped +
							   stat.moved_out);
		sched_yield();
	}
	return NULL;
}

static void *come_and_go(void *arg)
{
	char name[32];

	(void)arg;
	for (unsigned i = 0; !atomic_load(&over); i++) {
		struct engine_batch batch = { .data = "m\n", .len = 2, .count = 1, .ts_ms = -1 };
		struct engine_producer *producer;
		struct engine_object *made, *consumer;

		snprintf(name, sizeof(name), "t%u", i % 3);
		made = create(root, ENGINE_QUEUE, name);
		consumer = create(made, ENGINE_CONSUMER, "w");
		set(made, ENGINE_QUEUE, "max.length", "2");
		MUST(ops->queue->producer_open(made, i % 3, false, &producer) == 0);
		for (unsigned n = 0; n < 4; n++)
			MUST(ops->producer_send(producer, &batch, NULL) == 0);
		MUST(ops->rename(made, "other") == 0);
		MUST(ops->remove(made) == -ENOTEMPTY);
		set(made, ENGINE_QUEUE, "message.ttl.ms", "1");
		set(made, ENGINE_QUEUE, "dead.letter.to", "none");
		MUST(ops->queue->purge(made) == 0);
		MUST(ops->producer_send(producer, &batch, NULL) == 0);
		MUST(ops->queue->purge(made) == 0);
		while (ops->remove(made) == -ENOTEMPTY) { /* its dead letters */
			struct engine_object *dead;

			if (ops->lookup(engine, made, ENGINE_QUEUE, "dlq", &dead) == 0) {
				MUST(ops->queue->purge(dead) == 0);
				ops->put(dead);
			}
		}
		MUST(ops->producer_send(producer, &batch, NULL) == -EIDRM);
		ops->producer_close(producer);
		ops->put(consumer);
		ops->put(made);
	}
	return NULL;
}

/* ---- all of it ---- */

static void open_all(const char *dir)
{
	open_store(dir);
	queue = create(root, ENGINE_QUEUE, "jobs");
	side = create(root, ENGINE_QUEUE, "side");
	MUST(ops->lookup(engine, queue, ENGINE_QUEUE, "dlq", &dlq) == 0);
	set(queue, ENGINE_QUEUE, "flush.messages", "100");
	set(queue, ENGINE_QUEUE, "flush.ms", "20");
	set(queue, ENGINE_QUEUE, "redelivery.delay.ms", "2");
}

int main(void)
{
	pthread_t producers[PRODUCERS], consumers[CONSUMERS], others[2];
	const char *messages = getenv("MQFS_STRESS_MESSAGES");
	struct tmpdir dir;

	if (messages != NULL)
		per_producer = (unsigned)strtoul(messages, NULL, 10) / 2 * 2;
	MUST(total() <= MESSAGES_MAX);
	tmpdir_make(&dir);
	open_all(dir.path);
	for (uintptr_t i = 0; i < PRODUCERS; i++)
		pthread_create(&producers[i], NULL, produce, (void *)i);
	for (uintptr_t i = 0; i < CONSUMERS; i++)
		pthread_create(&consumers[i], NULL, consume, (void *)i);
	pthread_create(&others[0], NULL, meddle, NULL);
	pthread_create(&others[1], NULL, come_and_go, NULL);
	for (size_t i = 0; i < PRODUCERS; i++)
		pthread_join(producers[i], NULL);
	for (size_t i = 0; i < CONSUMERS; i++)
		pthread_join(consumers[i], NULL);
	atomic_store(&over, true);
	for (size_t i = 0; i < 2; i++)
		pthread_join(others[i], NULL);
	ops->put(dlq);
	ops->put(side);
	ops->put(queue);
	ops->put(root);
	MUST(ops->close(engine) == 0);
	tmpdir_remove(&dir);
	printf("%u messages, each acknowledged once\n", total());
	return 0;
}
