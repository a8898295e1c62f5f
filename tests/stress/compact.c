/*
 * compact - a topic that is compacted under many threads at once; for ThreadSanitizer above all, and therefore without Criterion.
 *
 * Producers update a few keys, each its own, with rising numbers, and with ids of which some repeat. Meanwhile others read the
 * whole log again and again, look up and list keys, consume as a group, purge, and turn settings. The values of a key must
 * rise, in the log and in its latest value, and in the end each key has its last one.
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
#define KEYS 5u       /* of each producer */
#define UPDATES 6000u /* of each producer */
#define TIME_LIMIT_S 240u

static struct engine *engine;
static const struct engine_ops *ops;
static struct engine_object *topic;
static atomic_bool over;
static const struct engine_span no_key = { NULL, 0 };
static const struct engine_owner nobody = { 65534, 65534, 0755 };

static void set(const char *name, const char *value)
{
	MUST(ops->set_setting(topic, engine_setting_find(ENGINE_TOPIC, name), value) == 0);
}

/* Update i of a producer is the value i of its key i % KEYS. Each is sent twice now and then, with the same id. */
static void *produce(void *arg)
{
	unsigned number = *(unsigned *)arg;
	struct engine_producer *producer;

	MUST(ops->producer_open(topic, ENGINE_ANY, no_key, &producer) == 0);
	for (unsigned i = 0; i < UPDATES; i++) {
		char key[16], id[32], data[16];
		struct engine_props props = ENGINE_PROPS_INIT;
		struct engine_batch batch = { .data = data, .count = 1, .props = &props, .ts_ms = -1 };

		props.key = (struct engine_span){ key, (size_t)snprintf(key, sizeof(key), "p%u-%u", number, i % KEYS) };
		if (i % 4 == 0)
			props.id = (struct engine_span){ id, (size_t)snprintf(id, sizeof(id), "%u-%u", number, i) };
		batch.len = (size_t)snprintf(data, sizeof(data), "%u\n", i);
		MUST(ops->producer_send(producer, &batch, NULL) == 0);
		if (i % 4 == 0)
			MUST(ops->producer_send(producer, &batch, NULL) == 0);
	}
	ops->producer_close(producer);
	return NULL;
}

/* Which key: its place among all. */
static unsigned place_of(struct engine_span key)
{
	unsigned number = 0, k = 0;
	char text[16] = "";

	memcpy(text, key.ptr, key.len);
	MUST(sscanf(text, "p%u-%u", &number, &k) == 2);
	return number * KEYS + k;
}

static void check_rising(const struct engine_view *view, unsigned *last)
{
	const char *data = view->batch.data;

	for (uint32_t i = 0; i < view->batch.count; i++) {
		unsigned value = (unsigned)strtoul(data, NULL, 10), place = place_of(view->batch.props[i].key);

		MUST(value + 1 > last[place]);
		last[place] = value + 1;
		data += view->batch.lengths[i] + 1;
	}
}

static void read_all(unsigned *last)
{
	struct engine_scratch scratch = { 0 };
	struct engine_partition_stat stat;
	struct engine_view view;
	uint64_t offset;
	int rc;

	MUST(ops->partition_stat(topic, 0, &stat) == 0);
	offset = stat.earliest;
	while ((rc = ops->partition_read(topic, 0, offset, UINT32_MAX, &scratch, &view)) == 0) {
		MUST(view.offset >= offset);
		check_rising(&view, last);
		offset = view.offset + view.batch.count;
	}
	if (rc != -ENODATA && rc != -ESTALE)
		fprintf(stderr, "a read gave %d at %" PRIu64 "\n", rc, offset);
	MUST(rc == -ENODATA || rc == -ESTALE);
	engine_scratch_release(&scratch);
}

static void *read_log(void *arg)
{
	(void)arg;
	while (!atomic_load(&over)) {
		unsigned last[PRODUCERS * KEYS] = { 0 };

		read_all(last);
	}
	return NULL;
}

static bool count_key(void *ctx, const struct engine_key *key)
{
	(void)key;
	++*(unsigned *)ctx;
	return true;
}

static void *look_up(void *arg)
{
	uint64_t last[PRODUCERS * KEYS] = { 0 };

	(void)arg;
	for (unsigned i = 0; !atomic_load(&over); i++) {
		unsigned place = i % (PRODUCERS * KEYS), count = 0;
		struct engine_key found;
		char key[16];
		int len = snprintf(key, sizeof(key), "p%u-%u", place / KEYS, place % KEYS);
		int rc = ops->key_find(topic, (struct engine_span){ key, (size_t)len }, &found);

		MUST(rc == 0 || rc == -ENOENT);
		if (rc == 0) {
			MUST(found.offset >= last[place]);
			last[place] = found.offset;
		}
		MUST(ops->key_list(topic, no_key, count_key, &count) == 0);
		MUST(count <= PRODUCERS * KEYS);
	}
	return NULL;
}

static void *consume(void *arg)
{
	struct engine_scratch scratch = { 0 };
	struct engine_consumer *consumer;
	struct engine_object *group;
	struct engine_view view;

	(void)arg;
	MUST(ops->create(engine, topic, ENGINE_GROUP, "g", &nobody, &group) == 0);
	while (!atomic_load(&over)) {
		unsigned last[PRODUCERS * KEYS] = { 0 };

		MUST(ops->consumer_open(group, ENGINE_ANY, ENGINE_CONSUME_SNAPSHOT, &consumer) == 0);
		while (ops->consumer_fetch(consumer, 100, SIZE_MAX, &scratch, &view) == 1)
			check_rising(&view, last);
		ops->consumer_close(consumer);
		MUST(ops->ack_all(group, ENGINE_ANY) == 0);
		MUST(ops->seek(group, ENGINE_ANY, ENGINE_SEEK_EARLIEST, 0) == 0);
	}
	engine_scratch_release(&scratch);
	ops->put(group);
	return NULL;
}

/* Purges the first eighth, in which no key has its last value. */
static void *disturb(void *arg)
{
	static const char *const sizes[] = { "4096", "9000", "20000" };
	struct engine_partition_stat stat;

	(void)arg;
	for (unsigned i = 0; !atomic_load(&over); i++) {
		set("segment.bytes", sizes[i % 3]);
		set("delete.retention.ms", i % 2 ? "0" : "1000");
		usleep(20000);
		MUST(ops->partition_stat(topic, 0, &stat) == 0);
		if (i % 3 == 0)
			MUST(ops->partition_purge(topic, 0, stat.end / 8) == 0);
	}
	return NULL;
}

int main(void)
{
	static void *(*const others[])(void *) = { read_log, read_log, look_up, consume, disturb };
	enum { OTHERS = sizeof(others) / sizeof(others[0]) };
	struct engine_options options = { .create = true };
	unsigned numbers[PRODUCERS], last[PRODUCERS * KEYS] = { 0 };
	pthread_t producers[PRODUCERS], threads[OTHERS];
	struct engine_object *root;
	struct engine_stat stat;
	struct tmpdir dir;
	char source[PATH_MAX + 16];

	alarm(TIME_LIMIT_S);
	tmpdir_make(&dir);
	snprintf(source, sizeof(source), "%s/store", dir.path);
	MUST(engine_open(source, &options, &engine) == 0);
	ops = engine->ops;
	MUST(ops->get(engine, ENGINE_ROOT_ID, &root) == 0);
	MUST(ops->create(engine, root, ENGINE_TOPIC, "t", &nobody, &topic) == 0);
	set("cleanup.policy", "compact");
	set("dedup.window.ms", "600000");
	for (unsigned i = 0; i < OTHERS; i++)
		MUST(pthread_create(&threads[i], NULL, others[i], NULL) == 0);
	for (unsigned i = 0; i < PRODUCERS; i++) {
		numbers[i] = i;
		MUST(pthread_create(&producers[i], NULL, produce, &numbers[i]) == 0);
	}
	for (unsigned i = 0; i < PRODUCERS; i++)
		pthread_join(producers[i], NULL);
	atomic_store(&over, true);
	for (unsigned i = 0; i < OTHERS; i++)
		pthread_join(threads[i], NULL);
	read_all(last);
	for (unsigned i = 0; i < PRODUCERS * KEYS; i++)
		MUST(last[i] > UPDATES - KEYS);
	MUST(ops->stat(topic, &stat) == 0);
	MUST(stat.deduplicated == PRODUCERS * ((UPDATES + 3) / 4));
	ops->put(topic);
	ops->put(root);
	MUST(ops->close(engine) == 0);
	tmpdir_remove(&dir);
	printf("compact: %u updates\n", PRODUCERS * UPDATES);
	return 0;
}
