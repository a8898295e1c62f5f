/*
 * staged - consumers that wait while others write to staging files: none is left waiting, and none waits for itself.
 *
 * linger.ms is a minute, so what the engine misses nobody else finds before a writer has lost patience. Writers append to the files that the engine names, as the
 * kernel does for a process with passthrough, and go on when both groups have seen it; now and then they close and
 * open again. Consumers do what an open file of the mount does: fetch, arm and wake are under one lock of the reader, and the wake
 * serves. In the first half nobody but the engine looks. In the second some fetch while they are armed, as who polls with a
 * timeout does, and another thread asks for figures, which takes in what is staged.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/engine_stage.h"
#include "tests/stress/stress.h"

#define WRITERS 3u
#define PARTITIONS 2u
#define GROUPS 2u
#define ROUNDS 1500u /* of each writer, in each half */
#define TIME_LIMIT_S 240u
#define PATIENCE_S 45 /* less than linger.ms */

static struct engine_object *topic;
static atomic_bool impatient, over;
static atomic_uint sent;

static pthread_mutex_t seen_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t seen_changed = PTHREAD_COND_INITIALIZER;
static unsigned seen[GROUPS]; /* seen_lock */

struct reader {
	struct engine_waiter waiter; /* first */
	struct engine_consumer *consumer;
	struct engine_scratch scratch;
	unsigned group;
	pthread_mutex_t lock; /* all but what never changes */
	bool armed;
	pthread_t thread;
};

/* ---- consumers ---- */

static void see(unsigned group, unsigned count)
{
	pthread_mutex_lock(&seen_lock);
	seen[group] += count;
	pthread_cond_broadcast(&seen_changed);
	pthread_mutex_unlock(&seen_lock);
}

/* Sees what is there, until a wake will come. lock */
static void serve(struct reader *reader)
{
	struct engine_view view;
	int rc;

	do {
		while ((rc = ops->consumer_fetch(reader->consumer, 1000, 1 << 20, &reader->scratch, &view)) == 1)
			see(reader->group, view.batch.count);
		MUST(rc == 0);
		rc = reader->armed ? 0 : ops->consumer_arm(reader->consumer, &reader->waiter);
		MUST(rc >= 0);
		reader->armed = rc == 0;
	} while (rc > 0);
}

static void woken(struct engine_waiter *waiter)
{
	struct reader *reader = (struct reader *)waiter;

	pthread_mutex_lock(&reader->lock);
	reader->armed = false;
	serve(reader);
	pthread_mutex_unlock(&reader->lock);
}

static void *read_on(void *arg)
{
	struct reader *reader = arg;

	while (!atomic_load(&over)) {
		pthread_mutex_lock(&reader->lock);
		if (!reader->armed || atomic_load(&impatient))
			serve(reader);
		pthread_mutex_unlock(&reader->lock);
		nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
	}
	return NULL;
}

static void *look(void *arg)
{
	struct engine_partition_stat stat;

	(void)arg;
	while (!atomic_load(&over)) {
		if (atomic_load(&impatient))
			MUST(ops->partition_stat(topic, 0, &stat) == 0);
		nanosleep(&(struct timespec){ .tv_nsec = 30000 }, NULL);
	}
	return NULL;
}

/* ---- writers ---- */

static int open_stage(struct engine_producer *producer, struct engine_stage **ret_stage)
{
	const struct engine_cred cred = { 0, 0, 1 };
	char path[64];
	int fd, writer;

	MUST(ops->stage->open(producer, '\n', &cred, ret_stage) == 0);
	fd = ops->stage->descriptor(*ret_stage);
	MUST(fd >= 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	writer = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	MUST(writer >= 0);
	close(fd);
	return writer;
}

static void close_stage(struct engine_stage *stage, int writer)
{
	close(writer);
	MUST(ops->stage->close(stage, true) == 0);
}

/* Until both groups have seen what was sent by now: only wakes bring them to it. */
static void await_groups(void)
{
	unsigned all = atomic_load(&sent);
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_S;
	pthread_mutex_lock(&seen_lock);
	while (seen[0] < all || seen[1] < all)
		MUST(pthread_cond_timedwait(&seen_changed, &seen_lock, &until) == 0);
	pthread_mutex_unlock(&seen_lock);
}

static void *write_on(void *arg)
{
	unsigned seed = (unsigned)(size_t)arg, number = seed;
	struct engine_producer *producer;
	struct engine_stage *stage;
	int writer;

	MUST(ops->producer_open(
		 topic, number < PARTITIONS ? number : ENGINE_ANY, (struct engine_span){ 0 }, &producer) == 0);
	writer = open_stage(producer, &stage);
	for (unsigned i = 0; i < ROUNDS; i++) {
		for (int n = rand_r(&seed) % 3; n >= 0; n--) {
			atomic_fetch_add(&sent, 1);
			MUST(write(writer, "message\n", 8) == 8);
		}
		if (rand_r(&seed) % 2 == 0)
			await_groups();
		if (rand_r(&seed) % 16 == 0) {
			close_stage(stage, writer);
			writer = open_stage(producer, &stage);
		}
	}
	await_groups();
	close_stage(stage, writer);
	ops->producer_close(producer);
	return NULL;
}

static void write_all(void)
{
	pthread_t threads[WRITERS];

	for (size_t i = 0; i < WRITERS; i++)
		pthread_create(&threads[i], NULL, write_on, (void *)i);
	for (size_t i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
}

/* ---- all of it ---- */

static void open_reader(struct reader *reader, struct engine_object *group, unsigned number, uint32_t partition)
{
	*reader = (struct reader){ .waiter = { .wake = woken }, .group = number };
	pthread_mutex_init(&reader->lock, NULL);
	MUST(ops->consumer_open(group, partition, ENGINE_CONSUME_STREAM, &reader->consumer) == 0);
	pthread_create(&reader->thread, NULL, read_on, reader);
}

/* A wake that is under way arms it again. */
static bool disarm(struct reader *reader)
{
	bool idle;

	pthread_mutex_lock(&reader->lock);
	idle = !reader->armed || ops->consumer_disarm(reader->consumer, &reader->waiter);
	pthread_mutex_unlock(&reader->lock);
	return idle;
}

static void close_reader(struct reader *reader)
{
	pthread_join(reader->thread, NULL);
	while (!disarm(reader))
		sched_yield();
	ops->consumer_close(reader->consumer);
	engine_scratch_release(&reader->scratch);
}

int main(void)
{
	struct engine_object *groups[GROUPS];
	struct reader readers[GROUPS][PARTITIONS];
	struct tmpdir dir;
	pthread_t looker;

	alarm(TIME_LIMIT_S);
	tmpdir_make(&dir);
	open_store(dir.path);
	topic = create(root, ENGINE_TOPIC, "t");
	set(topic, ENGINE_TOPIC, "partitions", "2");
	set(topic, ENGINE_TOPIC, "linger.ms", "60000");
	for (unsigned g = 0; g < GROUPS; g++) {
		groups[g] = create(topic, ENGINE_GROUP, g == 0 ? "a" : "b");
		for (unsigned p = 0; p < PARTITIONS; p++)
			open_reader(&readers[g][p], groups[g], g, p);
	}
	pthread_create(&looker, NULL, look, NULL);
	write_all();
	atomic_store(&impatient, true);
	write_all();
	atomic_store(&over, true);
	pthread_join(looker, NULL);
	for (unsigned g = 0; g < GROUPS; g++) {
		MUST(seen[g] == sent);
		for (unsigned p = 0; p < PARTITIONS; p++)
			close_reader(&readers[g][p]);
		ops->put(groups[g]);
	}
	ops->put(topic);
	ops->put(root);
	MUST(ops->close(engine) == 0);
	tmpdir_remove(&dir);
	printf("%u messages, seen by all who waited\n", atomic_load(&sent));
	return 0;
}
