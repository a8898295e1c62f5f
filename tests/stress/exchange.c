/*
 * exchange - publishing in parallel with binding, for ThreadSanitizer and for debug builds that check invariants.
 *
 * Four producers publish through an exchange to a topic and a queue that are always bound. Meanwhile a thread binds a queue that it makes,
 * by a second exchange, unbinds it and removes it; another one changes types, alternate.exchange and names; a worker takes from the
 * queue; and the journal grows past several checkpoints. In the end topic and queue have had every message exactly once, in the order of
 * its producer.
 *
 * MQFS_STRESS_MESSAGES sets how many messages each producer publishes. A plain program: Criterion aborts under ThreadSanitizer.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/stress/stress.h"

#define PRODUCERS 4
#define PAYLOAD 300

static struct engine_object *exchange, *inner, *topic, *queue;
static unsigned long per_producer = 4000;
static _Atomic bool over;

static int send(struct engine_producer *producer, const char *text)
{
	struct engine_batch batch = { .data = text, .len = strlen(text), .count = 1, .ts_ms = -1 };

	return ops->producer_send(producer, &batch, NULL);
}

/* ---- syncs ---- */

struct sync {
	struct engine_done done;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool happened;
	int result;
};

static void on_done(struct engine_done *done, int result)
{
	struct sync *sync = (struct sync *)done;

	pthread_mutex_lock(&sync->lock);
	sync->happened = true;
	sync->result = result;
	pthread_cond_signal(&sync->changed);
	pthread_mutex_unlock(&sync->lock);
}

static int wait_for(struct sync *sync, int rc)
{
	if (rc != ENGINE_PENDING)
		return rc;
	pthread_mutex_lock(&sync->lock);
	while (!sync->happened)
		pthread_cond_wait(&sync->changed, &sync->lock);
	sync->happened = false;
	pthread_mutex_unlock(&sync->lock);
	return sync->result;
}

/* ---- threads ---- */

static void *publish(void *arg)
{
	unsigned long number = (unsigned long)(uintptr_t)arg;
	struct sync sync = {
		.done = { on_done }, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER
	};
	struct engine_producer *producer;
	char text[PAYLOAD + 2];

	MUST(ops->producer_open(exchange, ENGINE_ANY, (struct engine_span){ "a.b", 3 }, &producer) == 0);
	for (unsigned long i = 0; i < per_producer; i++) {
		int used = snprintf(text, sizeof(text), "%lu %lu ", number, i);

		memset(text + used, 'x', (size_t)(PAYLOAD - used));
		strcpy(text + PAYLOAD, "\n");
		MUST(send(producer, text) == 0);
		if (i % 128 == number)
			MUST(wait_for(&sync, ops->producer_sync(producer, &sync.done)) == 0);
	}
	ops->producer_close(producer);
	return NULL;
}

/* A queue comes, is bound, and goes. */
static void *bind_and_unbind(void *arg)
{
	const struct engine_exchange_ops *x = ops->exchange;

	(void)arg;
	for (unsigned long i = 0; !atomic_load(&over); i++) {
		struct engine_object *fleeting = create(root, ENGINE_QUEUE, "fleeting");
		struct engine_queue_stat stat;
		uint64_t target;

		MUST(x->pattern_add(inner, "a.*") == 0);
		MUST(x->bind(inner, "a.*", "f", fleeting) == 0);
		MUST(x->binding(inner, "a.*", "f", &target) == 0);
		MUST(ops->remove(fleeting) == -EBUSY);
		MUST(x->unbind(inner, "a.*", "f") == 0);
		MUST(x->pattern_remove(inner, "a.*") == 0);
		MUST(ops->queue->queue_stat(fleeting, &stat) == 0);
		MUST(ops->queue->purge(fleeting) == 0);
		MUST(ops->queue->queue_stat(fleeting, &stat) == 0 && stat.ready == 0);
		MUST(ops->remove(fleeting) == 0);
		ops->put(fleeting);
	}
	return NULL;
}

static void *change(void *arg)
{
	struct engine_object *other = create(root, ENGINE_EXCHANGE, "other");
	struct engine_exchange_stat stat;

	(void)arg;
	for (unsigned long i = 0; !atomic_load(&over); i++) {
		MUST(ops->exchange->set_type(other, (enum engine_exchange_type)(i % 4)) == 0);
		MUST(try_set(exchange, ENGINE_EXCHANGE, "alternate.exchange",
			 i % 2 == 0 ? "exchanges/other" : "none") == 0);
		MUST(try_set(other, ENGINE_EXCHANGE, "alternate.exchange", "exchanges/e") == (i % 2 == 0 ? -ELOOP : 0));
		MUST(try_set(other, ENGINE_EXCHANGE, "alternate.exchange", "none") == 0);
		MUST(ops->rename(inner, i % 2 == 0 ? "in1" : "in2") == 0);
		MUST(ops->exchange->exchange_stat(exchange, &stat) == 0);
	}
	MUST(try_set(exchange, ENGINE_EXCHANGE, "alternate.exchange", "none") == 0);
	MUST(ops->remove(other) == 0);
	ops->put(other);
	return NULL;
}

/* The messages of one place: each once, and those of a producer in their order. */
static void look(unsigned long next[PRODUCERS], const struct engine_view *view)
{
	const char *data = view->batch.data;

	for (uint32_t i = 0; i < view->batch.count; i++) {
		unsigned long number, sequence;

		MUST(sscanf(data, "%lu %lu ", &number, &sequence) == 2);
		MUST(sequence == next[number]++);
		data += view->batch.lengths[i] + 1;
	}
}

static void *take(void *arg)
{
	unsigned long *next = arg, count = 0;
	struct engine_scratch scratch = { 0 };
	struct engine_consumer *consumer;
	struct engine_view view;

	MUST(ops->queue->consumer_open(queue, ENGINE_CONSUME_STREAM, true, 0, &consumer) == 0);
	while (count < PRODUCERS * per_producer) {
		int rc = ops->consumer_fetch(consumer, 64, 65536, &scratch, &view);

		MUST(rc >= 0);
		if (rc == 1) {
			look(next, &view);
			count += view.batch.count;
		}
	}
	ops->consumer_close(consumer);
	engine_scratch_release(&scratch);
	return NULL;
}

/* ---- all of it ---- */

static void open_all(const char *dir)
{
	open_store(dir);
	exchange = create(root, ENGINE_EXCHANGE, "e");
	inner = create(root, ENGINE_EXCHANGE, "in");
	topic = create(root, ENGINE_TOPIC, "t");
	queue = create(root, ENGINE_QUEUE, "q");
	set(queue, ENGINE_QUEUE, "prefetch", "0");
	MUST(ops->exchange->pattern_add(exchange, "#") == 0);
	MUST(ops->exchange->bind(exchange, "#", "t", topic) == 0);
	MUST(ops->exchange->bind(exchange, "#", "q", queue) == 0);
	MUST(ops->exchange->bind(exchange, "#", "i", inner) == 0);
}

static void check_topic(void)
{
	unsigned long next[PRODUCERS] = { 0 };
	struct engine_scratch scratch = { 0 };
	struct engine_view view;
	uint64_t offset = 0;

	for (; ops->partition_read(topic, 0, offset, UINT32_MAX, &scratch, &view) == 0;
	     offset = view.offset + view.batch.count)
		look(next, &view);
	MUST(offset == PRODUCERS * per_producer);
	engine_scratch_release(&scratch);
}

int main(void)
{
	const char *messages = getenv("MQFS_STRESS_MESSAGES");
	pthread_t producers[PRODUCERS], others[3];
	unsigned long taken[PRODUCERS] = { 0 };
	struct tmpdir dir;

	if (messages != NULL)
		per_producer = strtoul(messages, NULL, 10);
	tmpdir_make(&dir);
	open_all(dir.path);
	pthread_create(&others[0], NULL, bind_and_unbind, NULL);
	pthread_create(&others[1], NULL, change, NULL);
	pthread_create(&others[2], NULL, take, taken);
	for (size_t i = 0; i < PRODUCERS; i++)
		pthread_create(&producers[i], NULL, publish, (void *)i);
	for (size_t i = 0; i < PRODUCERS; i++)
		pthread_join(producers[i], NULL);
	pthread_join(others[2], NULL);
	atomic_store(&over, true);
	pthread_join(others[0], NULL);
	pthread_join(others[1], NULL);
	check_topic();
	ops->put(queue);
	ops->put(topic);
	ops->put(inner);
	ops->put(exchange);
	ops->put(root);
	MUST(ops->close(engine) == 0);
	tmpdir_remove(&dir);
	printf("%lu messages, each once and in order in both places\n", PRODUCERS * per_producer);
	return 0;
}
