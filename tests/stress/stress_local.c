/*
 * stress_local - the local engine under everything at once, for ThreadSanitizer and for debug builds that check
 * invariants.
 *
 * One topic keeps all its messages: four producers write to it, and three groups read it, by one stream, by two that
 * share, and by ONE and SNAPSHOT with acks. Another one has tiny segments and retention, is purged, grows and is
 * written and read meanwhile. A last thread makes, renames and removes topics and groups. In the end every message of
 * the first topic was seen by the lone stream exactly once, in order within its partition and producer.
 *
 * MQFS_STRESS_MESSAGES sets how many messages each producer sends. A plain program: Criterion aborts under
 * ThreadSanitizer.
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
#define PARTITIONS 4

static struct engine_object *kept, *churned;
static unsigned long per_producer = 10000;
static _Atomic int writing = PRODUCERS;
static _Atomic bool over;

/* ---- waiting for completions and messages ---- */

struct event {
	struct engine_done done;
	struct engine_waiter waiter;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool happened;
	int result;
};

static void event_set(struct event *event, int result)
{
	pthread_mutex_lock(&event->lock);
	event->happened = true;
	event->result = result;
	pthread_cond_signal(&event->changed);
	pthread_mutex_unlock(&event->lock);
}

static void on_done(struct engine_done *done, int result)
{
	event_set((struct event *)((char *)done - offsetof(struct event, done)), result);
}

static void on_wake(struct engine_waiter *waiter)
{
	event_set((struct event *)((char *)waiter - offsetof(struct event, waiter)), 0);
}

static void event_init(struct event *event)
{
	*event = (struct event){ .done = { on_done }, .waiter = { .wake = on_wake } };
	pthread_mutex_init(&event->lock, NULL);
	pthread_cond_init(&event->changed, NULL);
}

static int event_wait(struct event *event)
{
	pthread_mutex_lock(&event->lock);
	while (!event->happened)
		pthread_cond_wait(&event->changed, &event->lock);
	event->happened = false;
	pthread_mutex_unlock(&event->lock);
	return event->result;
}

/* ---- short forms ---- */

static int send(struct engine_producer *producer, const char *text)
{
	struct engine_batch batch = { .data = text, .len = strlen(text), .count = 1, .ts_ms = -1 };

	return ops->producer_send(producer, &batch, NULL);
}

/* ---- the topic that keeps its messages ---- */

static void *produce(void *arg)
{
	unsigned long number = (unsigned long)(uintptr_t)arg;
	struct engine_span key = { number % 2 == 0 ? "key" : NULL, 3 };
	struct engine_producer *producer;
	struct event event;
	char text[64];

	event_init(&event);
	MUST(ops->producer_open(kept, number == 1 ? 1 : ENGINE_ANY, key, &producer) == 0);
	for (unsigned long i = 0; i < per_producer; i++) {
		snprintf(text, sizeof(text), "%lu %lu\n", number, i);
		MUST(send(producer, text) == 0);
		if (i % 64 == 0 && ops->producer_sync(producer, &event.done) == ENGINE_PENDING)
			MUST(event_wait(&event) == 0);
	}
	ops->producer_close(producer);
	atomic_fetch_sub(&writing, 1);
	return NULL;
}

/* What a lone stream has seen. */
struct seen {
	uint64_t next[PARTITIONS];
	unsigned long last[PARTITIONS][PRODUCERS], count;
};

static void look(struct seen *seen, const struct engine_view *view)
{
	const char *data = view->batch.data;
	uint64_t offset = view->offset;

	for (uint32_t i = 0; i < view->batch.count; i++, offset++) {
		unsigned long number, sequence;

		MUST(sscanf(data, "%lu %lu", &number, &sequence) == 2);
		MUST(offset == seen->next[view->partition]);
		MUST(sequence >= seen->last[view->partition][number]);
		seen->next[view->partition] = offset + 1;
		seen->last[view->partition][number] = sequence + 1;
		seen->count++;
		data += view->batch.lengths[i] + 1;
	}
}

static void *read_all(void *arg)
{
	struct engine_object *group = arg;
	struct engine_scratch scratch = { 0 };
	struct engine_consumer *consumer;
	struct seen seen = { 0 };
	struct engine_view view;
	struct event event;

	event_init(&event);
	MUST(ops->consumer_open(group, ENGINE_ANY, ENGINE_CONSUME_STREAM, &consumer) == 0);
	while (seen.count < PRODUCERS * per_producer) {
		int rc = ops->consumer_fetch(consumer, UINT32_MAX, 4096, &scratch, &view);

		MUST(rc >= 0);
		if (rc == 1)
			look(&seen, &view);
		else if (ops->consumer_arm(consumer, &event.waiter) == 0)
			event_wait(&event);
		if (seen.count % 7 == 0)
			MUST(ops->ack_all(group, ENGINE_ANY) == 0);
	}
	ops->consumer_close(consumer);
	engine_scratch_release(&scratch);
	return NULL;
}

/* One of two streams of a group; it leaves and comes back now and then, so that partitions go to and fro. */
static void *share(void *arg)
{
	struct engine_object *group = arg;
	struct engine_scratch scratch = { 0 };
	struct engine_consumer *consumer = NULL;
	struct engine_view view;
	unsigned long rounds = 0;
	struct event event;

	event_init(&event);
	while (atomic_load(&writing) > 0) {
		if (consumer == NULL)
			MUST(ops->consumer_open(group, ENGINE_ANY, ENGINE_CONSUME_STREAM, &consumer) == 0);
		if (ops->consumer_fetch(consumer, 16, 65536, &scratch, &view) == 1) {
			int rc = ops->ack(group, view.partition, view.offset + view.batch.count - 1);

			MUST(rc == 0 || rc == -EALREADY || rc == -ERANGE); /* the other may have it by now */
		} else if (ops->consumer_arm(consumer, &event.waiter) == 0 &&
			   !ops->consumer_disarm(consumer, &event.waiter)) {
			event_wait(&event);
		}
		if (++rounds % 32 == 0) {
			ops->consumer_close(consumer);
			consumer = NULL;
		}
	}
	ops->consumer_close(consumer);
	engine_scratch_release(&scratch);
	return NULL;
}

static void *take_one_by_one(void *arg)
{
	struct engine_object *group = arg;
	struct engine_scratch scratch = { 0 };
	struct engine_consumer *consumer;
	struct engine_view view;
	struct event event;

	event_init(&event);
	for (unsigned long i = 0; atomic_load(&writing) > 0; i++) {
		enum engine_consume how = i % 2 == 0 ? ENGINE_CONSUME_ONE : ENGINE_CONSUME_SNAPSHOT;

		MUST(ops->consumer_open(group, ENGINE_ANY, how, &consumer) == 0);
		while (ops->consumer_fetch(consumer, 8, 65536, &scratch, &view) == 1)
			;
		ops->consumer_close(consumer);
		MUST(ops->ack_all(group, ENGINE_ANY) == 0);
		if (i % 16 == 0)
			MUST(ops->seek(group, 0, ENGINE_SEEK_EARLIEST, 0) == 0);
		if (i % 8 == 0 && ops->group_sync(group, &event.done) == ENGINE_PENDING)
			MUST(event_wait(&event) == 0);
	}
	engine_scratch_release(&scratch);
	return NULL;
}

/* ---- the topic that loses them ---- */

static void *churn(void *arg)
{
	struct engine_producer *producer;
	char text[512], value[16];

	(void)arg;
	memset(text, 'x', sizeof(text));
	memcpy(text + sizeof(text) - 2, "\n", 2);
	MUST(ops->producer_open(churned, ENGINE_ANY, (struct engine_span){ 0 }, &producer) == 0);
	for (unsigned long i = 0; !atomic_load(&over); i++) {
		MUST(send(producer, text) == 0);
		if (i % 500 == 0)
			MUST(ops->partition_purge(churned, ENGINE_ANY, ENGINE_OFFSET_NONE) == 0);
		if (i % 1000 == 0 && i / 1000 < 8) {
			snprintf(value, sizeof(value), "%lu", i / 1000 + 1);
			set(churned, ENGINE_TOPIC, "partitions", value);
		}
	}
	ops->producer_close(producer);
	return NULL;
}

static void *read_churned(void *arg)
{
	struct engine_object *group = arg;
	struct engine_scratch scratch = { 0 };
	struct engine_consumer *consumer;
	struct engine_cursor_stat cursor;
	struct engine_view view;
	struct engine_stat stat;

	MUST(ops->consumer_open(group, ENGINE_ANY, ENGINE_CONSUME_STREAM, &consumer) == 0);
	while (!atomic_load(&over)) {
		MUST(ops->consumer_fetch(consumer, 4, 65536, &scratch, &view) >= 0);
		MUST(ops->ack_all(group, ENGINE_ANY) == 0);
		MUST(ops->cursor_stat(group, 0, &cursor) == 0 && cursor.committed <= cursor.given);
		MUST(ops->stat(group, &stat) == 0 && ops->stat(churned, &stat) == 0 && ops->stat(root, &stat) == 0);
	}
	ops->consumer_close(consumer);
	engine_scratch_release(&scratch);
	return NULL;
}

/* ---- objects come and go ---- */

static void *come_and_go(void *arg)
{
	char name[32];

	(void)arg;
	for (unsigned long i = 0; !atomic_load(&over); i++) {
		struct engine_object *topic, *group;
		struct engine_producer *producer;

		snprintf(name, sizeof(name), "t%lu", i % 3);
		topic = create(root, ENGINE_TOPIC, name);
		group = create(topic, ENGINE_GROUP, "g");
		MUST(ops->producer_open(topic, ENGINE_ANY, (struct engine_span){ 0 }, &producer) == 0);
		MUST(send(producer, "m\n") == 0);
		MUST(ops->rename(topic, "other") == 0);
		MUST(ops->remove(topic) == -ENOTEMPTY);
		MUST(ops->partition_purge(topic, ENGINE_ANY, ENGINE_OFFSET_NONE) == 0);
		MUST(ops->remove(topic) == 0);
		MUST(send(producer, "m\n") == -EIDRM);
		MUST(ops->ack_all(group, ENGINE_ANY) == -EIDRM);
		ops->producer_close(producer);
		ops->put(group);
		ops->put(topic);
	}
	return NULL;
}

/* ---- all of it ---- */

static void open_all(const char *dir)
{
	open_store(dir);
	kept = create(root, ENGINE_TOPIC, "kept");
	set(kept, ENGINE_TOPIC, "partitions", "4");
	set(kept, ENGINE_TOPIC, "flush.messages", "100");
	set(kept, ENGINE_TOPIC, "flush.ms", "20");
	churned = create(root, ENGINE_TOPIC, "churned");
	set(churned, ENGINE_TOPIC, "segment.bytes", "8192");
	set(churned, ENGINE_TOPIC, "retention.bytes", "16384");
	set(churned, ENGINE_TOPIC, "retention.ms", "100");
}

int main(void)
{
	struct engine_object *lone, *shared, *single, *churned_group;
	pthread_t readers[4], producers[PRODUCERS], others[3];
	const char *messages = getenv("MQFS_STRESS_MESSAGES");
	struct tmpdir dir;

	if (messages != NULL)
		per_producer = strtoul(messages, NULL, 10);
	tmpdir_make(&dir);
	open_all(dir.path);
	lone = create(kept, ENGINE_GROUP, "lone");
	shared = create(kept, ENGINE_GROUP, "shared");
	single = create(kept, ENGINE_GROUP, "single");
	churned_group = create(churned, ENGINE_GROUP, "g");
	pthread_create(&readers[0], NULL, read_all, lone);
	pthread_create(&readers[1], NULL, share, shared);
	pthread_create(&readers[2], NULL, share, shared);
	pthread_create(&readers[3], NULL, take_one_by_one, single);
	pthread_create(&others[0], NULL, churn, NULL);
	pthread_create(&others[1], NULL, read_churned, churned_group);
	pthread_create(&others[2], NULL, come_and_go, NULL);
	for (size_t i = 0; i < PRODUCERS; i++)
		pthread_create(&producers[i], NULL, produce, (void *)i);
	for (size_t i = 0; i < PRODUCERS; i++)
		pthread_join(producers[i], NULL);
	for (size_t i = 0; i < 4; i++)
		pthread_join(readers[i], NULL);
	atomic_store(&over, true);
	for (size_t i = 0; i < 3; i++)
		pthread_join(others[i], NULL);
	ops->put(churned_group);
	ops->put(single);
	ops->put(shared);
	ops->put(lone);
	ops->put(churned);
	ops->put(kept);
	ops->put(root);
	MUST(ops->close(engine) == 0);
	tmpdir_remove(&dir);
	printf("%lu messages, each seen once and in order\n", PRODUCERS * per_producer);
	return 0;
}
