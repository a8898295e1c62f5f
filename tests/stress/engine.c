/*
 * engine - every engine under many threads at once; for ThreadSanitizer above all, and therefore without Criterion.
 *
 * Producers fill a topic while its partitions grow. One group reads it with two streams, steadily: what they are given
 * must be every message once, and each producer's in order within a partition. Around that, other threads do what users do
 * meanwhile: streams of another group come and go in the middle of waiting, single messages are read and acknowledged,
 * groups and topics are made, renamed, purged and removed, and everything is listed and counted.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"
#include "tests/lib/tmpdir.h"
#include "tests/stress/must.h"

#define PRODUCERS 3u
#define STREAMS 2u
#define MESSAGES 30000u /* of each producer */
#define PARTITIONS 6u   /* at the end */
#define TIME_LIMIT_S 240u

struct stress {
	struct engine *engine;
	const struct engine_ops *ops;
	struct engine_object *root, *topic, *steady, *restless;
	atomic_uint given;
	atomic_bool over;
	pthread_mutex_t lock;
	unsigned char times[PRODUCERS][MESSAGES]; /* lock */
	int last[PARTITIONS][PRODUCERS];          /* lock */
};

struct thread {
	struct stress *s;
	unsigned number;
	struct engine_consumer *stream;
	pthread_t id;
};

static const struct engine_owner nobody = { 65534, 65534, 0755 };
static const struct engine_span no_key = { NULL, 0 };

/* ---- waiting for what is asynchronous ---- */

struct event {
	union {
		struct engine_waiter waiter;
		struct engine_done done;
	};
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool happened;
	int result;
};

static void happen(struct event *event, int result)
{
	pthread_mutex_lock(&event->lock);
	event->happened = true;
	event->result = result;
	pthread_cond_signal(&event->changed);
	pthread_mutex_unlock(&event->lock);
}

static void woken(struct engine_waiter *waiter)
{
	happen((struct event *)waiter, 0);
}

static void done(struct engine_done *call, int result)
{
	happen((struct event *)call, result);
}

static void event_init(struct event *event)
{
	memset(event, 0, sizeof(*event));
	pthread_mutex_init(&event->lock, NULL);
	pthread_cond_init(&event->changed, NULL);
}

static int event_wait(struct event *event)
{
	pthread_mutex_lock(&event->lock);
	while (!event->happened)
		pthread_cond_wait(&event->changed, &event->lock);
	pthread_mutex_unlock(&event->lock);
	return event->result;
}

static int settle(struct event *event, int rc)
{
	return rc == ENGINE_PENDING ? event_wait(event) : rc;
}

static void send(struct stress *s, struct engine_producer *producer, const struct engine_batch *batch)
{
	struct event event;

	event_init(&event);
	event.done.fn = done;
	MUST(settle(&event, s->ops->producer_send(producer, batch, &event.done)) == 0);
}

static void sync_all(struct stress *s, struct engine_producer *producer)
{
	struct event event;

	event_init(&event);
	event.done.fn = done;
	MUST(settle(&event, s->ops->producer_sync(producer, &event.done)) == 0);
}

static void set(
    struct stress *s, struct engine_object *object, enum engine_kind kind, const char *name, const char *value)
{
	MUST(s->ops->set_setting(object, engine_setting_find(kind, name), value) == 0);
}

/* ---- the threads ---- */

static void *produce(void *arg)
{
	struct thread *thread = arg;
	struct stress *s = thread->s;
	struct engine_producer *producer;
	char lines[512];

	MUST(s->ops->producer_open(s->topic, ENGINE_ANY, no_key, &producer) == 0);
	for (unsigned i = 0; i < MESSAGES;) {
		struct engine_batch batch = { .data = lines, .ts_ms = -1 };

		for (unsigned size = i % 11 + 1; batch.count < size && i < MESSAGES; batch.count++, i++)
			batch.len += (size_t)snprintf(
			    lines + batch.len, sizeof(lines) - batch.len, "%u %u\n", thread->number, i);
		send(s, producer, &batch);
		if (i % 64 == 0)
			sync_all(s, producer);
	}
	s->ops->producer_close(producer);
	return NULL;
}

static void note_view(struct stress *s, const struct engine_view *view)
{
	const char *line = view->batch.data;

	pthread_mutex_lock(&s->lock);
	for (uint32_t i = 0; i < view->batch.count; i++, line = strchr(line, '\n') + 1) {
		unsigned producer, number;

		MUST(sscanf(line, "%u %u\n", &producer, &number) == 2 && producer < PRODUCERS && number < MESSAGES);
		MUST(s->times[producer][number]++ == 0);
		MUST(s->last[view->partition][producer] < (int)number);
		s->last[view->partition][producer] = (int)number;
	}
	pthread_mutex_unlock(&s->lock);
	atomic_fetch_add(&s->given, view->batch.count);
}

/* Waits for something to fetch. False: the group is gone. */
static bool wait_for_more(struct stress *s, struct engine_consumer *consumer)
{
	struct event event;
	int rc;

	event_init(&event);
	event.waiter.wake = woken;
	rc = s->ops->consumer_arm(consumer, &event.waiter);
	MUST(rc == 0 || rc == 1 || rc == -EIDRM);
	if (rc == 0)
		event_wait(&event);
	return rc >= 0;
}

/* One of the two steady streams. Who gets the last message removes the group, which ends the other. */
static void *read_steadily(void *arg)
{
	struct thread *thread = arg;
	struct stress *s = thread->s;
	struct engine_scratch scratch = { 0 };
	struct engine_view view;
	int rc;

	do {
		while ((rc = s->ops->consumer_fetch(thread->stream, 16, SIZE_MAX, &scratch, &view)) == 1) {
			note_view(s, &view);
			MUST(s->ops->ack(s->steady, view.partition, view.offset + view.batch.count - 1) == 0);
			if (atomic_load(&s->given) == PRODUCERS * MESSAGES && !atomic_exchange(&s->over, true))
				MUST(s->ops->remove(s->steady) == 0);
		}
		MUST(rc == 0 || rc == -EIDRM);
	} while (rc == 0 && wait_for_more(s, thread->stream));
	engine_scratch_release(&scratch);
	return NULL;
}

/* Streams that come, wait, give up and go. */
static void *read_restlessly(void *arg)
{
	struct thread *thread = arg;
	struct stress *s = thread->s;
	struct engine_scratch scratch = { 0 };
	struct engine_view view;

	for (unsigned round = 0; !atomic_load(&s->over); round++) {
		struct engine_consumer *stream;
		struct event event;

		MUST(s->ops->consumer_open(
			 s->restless, round % 3 == 0 ? round % 2 : ENGINE_ANY, ENGINE_CONSUME_STREAM, &stream) == 0);
		for (unsigned i = 0; i < round % 5; i++)
			MUST(s->ops->consumer_fetch(stream, 7, 100, &scratch, &view) >= 0);
		event_init(&event);
		event.waiter.wake = woken;
		if (s->ops->consumer_arm(stream, &event.waiter) == 0 && !s->ops->consumer_disarm(stream, &event.waiter))
			event_wait(&event);
		s->ops->consumer_close(stream);
	}
	engine_scratch_release(&scratch);
	return NULL;
}

/* Single messages of the restless group, whenever no stream has it; acks and seeks at any time. */
static void *read_singly(void *arg)
{
	struct stress *s = ((struct thread *)arg)->s;
	struct engine_scratch scratch = { 0 };
	struct engine_cursor_stat stat;
	struct engine_view view;

	for (unsigned round = 0; !atomic_load(&s->over); round++) {
		struct engine_consumer *consumer;
		int rc = s->ops->consumer_open(
		    s->restless, ENGINE_ANY, round % 2 == 0 ? ENGINE_CONSUME_ONE : ENGINE_CONSUME_SNAPSHOT, &consumer);

		MUST(rc == 0 || rc == -EBUSY);
		if (rc == 0) {
			MUST(s->ops->consumer_fetch(consumer, 100, SIZE_MAX, &scratch, &view) >= 0);
			s->ops->consumer_close(consumer);
		}
		MUST(s->ops->ack_all(s->restless, ENGINE_ANY) == 0);
		if (round % 16 == 0)
			MUST(s->ops->seek(s->restless, ENGINE_ANY, ENGINE_SEEK_EARLIEST, 0) == 0);
		MUST(s->ops->cursor_stat(s->restless, 1, &stat) == 0);
		MUST(stat.earliest <= stat.committed && stat.committed <= stat.given && stat.given <= stat.end);
	}
	engine_scratch_release(&scratch);
	return NULL;
}

static bool count_entry(void *ctx, const struct engine_dirent *entry)
{
	*(unsigned *)ctx += entry->name[0] != '\0';
	return true;
}

/* A topic of its own: made, filled, read, renamed, purged and removed, with a group and a waiter in it. */
static void make_and_remove(struct stress *s, unsigned round)
{
	struct engine_batch batch = { .data = "a\nb\n", .len = 4, .count = 2, .ts_ms = -1 };
	struct engine_object *topic, *group;
	struct engine_producer *producer;
	struct engine_consumer *stream;
	struct event event;
	char name[32];

	snprintf(name, sizeof(name), "passing-%u", round);
	MUST(s->ops->create(s->engine, s->root, ENGINE_TOPIC, "passing", &nobody, &topic) == 0);
	MUST(s->ops->create(s->engine, topic, ENGINE_GROUP, "g", &nobody, &group) == 0);
	MUST(s->ops->producer_open(topic, ENGINE_ANY, no_key, &producer) == 0);
	MUST(s->ops->consumer_open(group, ENGINE_ANY, ENGINE_CONSUME_STREAM, &stream) == 0);
	event_init(&event);
	event.waiter.wake = woken;
	MUST(s->ops->consumer_arm(stream, &event.waiter) == 0);
	if (round % 2 == 0)
		send(s, producer, &batch);
	MUST(s->ops->rename(topic, name) == 0);
	MUST(s->ops->partition_purge(topic, ENGINE_ANY, ENGINE_OFFSET_NONE) == 0);
	MUST(s->ops->remove(topic) == 0);
	event_wait(&event);
	s->ops->producer_close(producer);
	s->ops->consumer_close(stream);
	s->ops->put(group);
	s->ops->put(topic);
}

static void *manage(void *arg)
{
	struct stress *s = ((struct thread *)arg)->s;

	for (unsigned round = 0; !atomic_load(&s->over); round++) {
		struct engine_partition_stat partition;
		struct engine_stat stat;
		unsigned topics = 0;
		char value[16], health[256];

		make_and_remove(s, round);
		snprintf(value, sizeof(value), "%u", 2 + (round < PARTITIONS - 2 ? round : PARTITIONS - 2));
		set(s, s->topic, ENGINE_TOPIC, "partitions", value);
		set(s, s->topic, ENGINE_TOPIC, "linger.ms", round % 2 == 0 ? "0" : "5");
		MUST(s->ops->set_owner(s->topic, "in", &nobody) == 0);
		MUST(s->ops->stat(s->topic, &stat) == 0);
		MUST(stat.messages <= PRODUCERS * MESSAGES);
		MUST(s->ops->stat(s->root, &stat) == 0);
		MUST(s->ops->partition_stat(s->topic, 0, &partition) == 0);
		MUST(partition.earliest <= partition.end && partition.start_pos <= partition.end_pos);
		MUST(s->ops->list(s->engine, s->root, ENGINE_TOPIC, 0, count_entry, &topics) == 0 && topics >= 1);
		MUST(s->ops->health(s->engine, health, sizeof(health)) > 0);
	}
	return NULL;
}

/* ---- the whole ---- */

static void set_up(struct stress *s, const char *source)
{
	struct engine_options options = { .create = true, .root_owner = nobody };

	pthread_mutex_init(&s->lock, NULL);
	memset(s->last, -1, sizeof(s->last));
	MUST(engine_open(source, &options, &s->engine) == 0);
	s->ops = s->engine->ops;
	MUST(s->ops->get(s->engine, ENGINE_ROOT_ID, &s->root) == 0);
	MUST(s->ops->create(s->engine, s->root, ENGINE_TOPIC, "t", &nobody, &s->topic) == 0);
	MUST(s->ops->create(s->engine, s->topic, ENGINE_GROUP, "steady", &nobody, &s->steady) == 0);
	MUST(s->ops->create(s->engine, s->topic, ENGINE_GROUP, "restless", &nobody, &s->restless) == 0);
	set(s, s->topic, ENGINE_TOPIC, "partitions", "2");
	set(s, s->topic, ENGINE_TOPIC, "segment.bytes", "4096");
}

static void run(const char *source)
{
	static void *(*const bodies[])(void *) = { produce, produce, produce, read_steadily, read_steadily,
		read_restlessly, read_restlessly, read_singly, manage };
	const unsigned count = sizeof(bodies) / sizeof(bodies[0]);
	struct thread threads[sizeof(bodies) / sizeof(bodies[0])];
	struct stress *s = calloc(1, sizeof(*s));

	MUST(s != NULL);
	set_up(s, source);
	for (unsigned i = 0; i < count; i++) {
		threads[i] = (struct thread){ .s = s, .number = i };
		if (bodies[i] == read_steadily)
			MUST(s->ops->consumer_open(s->steady, ENGINE_ANY, ENGINE_CONSUME_STREAM, &threads[i].stream) ==
			     0);
	}
	for (unsigned i = 0; i < count; i++)
		MUST(pthread_create(&threads[i].id, NULL, bodies[i], &threads[i]) == 0);
	for (unsigned i = 0; i < count; i++)
		pthread_join(threads[i].id, NULL);
	for (unsigned i = 0; i < count; i++)
		s->ops->consumer_close(threads[i].stream);
	MUST(atomic_load(&s->given) == PRODUCERS * MESSAGES);
	s->ops->put(s->restless);
	s->ops->put(s->steady);
	s->ops->put(s->topic);
	s->ops->put(s->root);
	MUST(s->ops->close(s->engine) == 0);
	free(s);
}

int main(void)
{
	static struct tmpdir dir;
	static char source[PATH_MAX + 16];

	alarm(TIME_LIMIT_S); /* a thread that nobody wakes shows as this */
	run("memory:");
	tmpdir_make(&dir);
	snprintf(source, sizeof(source), "local:%s/store", dir.path);
	run(source);
	tmpdir_remove(&dir);
	return 0;
}
