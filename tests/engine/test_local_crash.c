/*
 * What a crash leaves of a store of the local engine, and what the next opening makes of it. A kill is a real one: the
 * engine runs in a child, which tells in shared memory what calls have returned, and is killed in the middle of the
 * next ones.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/catalog.h"
#include "engine/plog.h"
#include "engine/store.h"
#include "tests/lib/contract.h"
#include "tests/lib/fault.h"

#define CRASH_TEST(name)                                                                                               \
	static void name(struct contract *c);                                                                          \
	Test(local_crash, name)                                                                                        \
	{                                                                                                              \
		contract_run(true, name);                                                                              \
	}                                                                                                              \
	static void name(struct contract *c)

#define PARTITIONS 3u
#define NAMES 4096u

enum name_state { NAME_NEVER, NAME_MAKING, NAME_THERE, NAME_GOING, NAME_GONE };

/* What the child has been told; shared with the parent. */
struct told {
	_Atomic uint64_t accepted[PARTITIONS]; /* messages */
	_Atomic uint64_t acked[PARTITIONS];    /* one past the offset */
	_Atomic int names[NAMES];              /* enum name_state of topic xN */
	_Atomic uint32_t next_name;
};

struct worker {
	struct contract *c;
	struct told *told;
	struct engine_object *topic, *group;
	uint32_t partition;
};

/* ---- the child ---- */

/* Sends "P N" with N counting up from what was accepted before. */
static void *produce(void *arg)
{
	struct worker *w = arg;
	struct engine_producer *producer;
	char text[64];

	assert_ok(w->c->ops->producer_open(w->topic, w->partition, (struct engine_span){ 0 }, &producer));
	for (uint64_t i = contract_partition(w->c, w->topic, w->partition).end;; i++) {
		struct engine_batch batch = { .data = text, .count = 1, .ts_ms = -1 };

		batch.len = (size_t)snprintf(text, sizeof(text), "%" PRIu32 " %" PRIu64 "\n", w->partition, i);
		assert_ok(w->c->ops->producer_send(producer, &batch, NULL));
		atomic_store(&w->told->accepted[w->partition], i + 1);
	}
	return NULL;
}

static void *consume(void *arg)
{
	struct worker *w = arg;
	struct engine_scratch scratch = { 0 };
	struct engine_consumer *consumer;
	struct contract_waiter waiter;
	struct engine_view view;

	assert_ok(w->c->ops->consumer_open(w->group, ENGINE_ANY, ENGINE_CONSUME_STREAM, &consumer));
	for (;;) {
		uint64_t last;

		if (w->c->ops->consumer_fetch(consumer, 8, SIZE_MAX, &scratch, &view) != 1) {
			contract_waiter_init(&waiter);
			if (w->c->ops->consumer_arm(consumer, &waiter.waiter) == 0)
				contract_waiter_wait(&waiter);
			continue;
		}
		last = view.offset + view.batch.count - 1;
		assert_ok(w->c->ops->ack(w->group, view.partition, last));
		atomic_store(&w->told->acked[view.partition], last + 1);
	}
	return NULL;
}

/* Makes topics of two partitions, and removes every other one. */
static void *make_and_remove(void *arg)
{
	struct worker *w = arg;
	struct told *told = w->told;
	uint32_t i;

	while ((i = atomic_fetch_add(&told->next_name, 1)) < NAMES) {
		struct engine_owner owner = { 0, 0, 0755 };
		struct engine_object *topic;
		char name[16];

		snprintf(name, sizeof(name), "x%" PRIu32, i);
		atomic_store(&told->names[i], NAME_MAKING);
		assert_ok(w->c->ops->create(w->c->engine, w->c->root, ENGINE_TOPIC, name, &owner, &topic));
		atomic_store(&told->names[i], NAME_THERE);
		if (i % 2 == 0) {
			atomic_store(&told->names[i], NAME_GOING);
			assert_ok(w->c->ops->remove(topic));
			atomic_store(&told->names[i], NAME_GONE);
		}
		w->c->ops->put(topic);
	}
	return NULL;
}

static void work_until_killed(struct contract *c, struct told *told)
{
	struct worker workers[PARTITIONS + 2];
	pthread_t threads[PARTITIONS + 2];
	struct worker all = { .c = c, .told = told };

	contract_open(c);
	all.topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	all.group = contract_lookup(c, all.topic, ENGINE_GROUP, "g");
	for (uint32_t i = 0; i < PARTITIONS + 2; i++) {
		workers[i] = all;
		workers[i].partition = i;
		pthread_create(&threads[i], NULL,
		    i < PARTITIONS    ? produce
		    : i == PARTITIONS ? consume
				      : make_and_remove,
		    &workers[i]);
	}
	for (;;)
		pause();
}

/* ---- the parent ---- */

static uint64_t count_accepted(const struct told *told)
{
	uint64_t count = 0;

	for (uint32_t p = 0; p < PARTITIONS; p++)
		count += atomic_load(&told->accepted[p]);
	return count;
}

static void kill_after(pid_t child, const struct told *told, uint64_t messages)
{
	uint64_t target = count_accepted(told) + messages;
	int status;

	/* A child that is killed cannot be waited for by an event: what it wrote last is looked at. */
	while (count_accepted(told) < target && waitpid(child, &status, WNOHANG) == 0)
		nanosleep(&(struct timespec){ 0, 200000 }, NULL);
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	cr_assert(WIFSIGNALED(status), "the child ended by itself");
}

/* Every message accepted is there, where it was, and so are the acks. */
static void check_partition(
    struct contract *c, struct told *told, struct engine_object *topic, struct engine_object *group, uint32_t p)
{
	uint64_t end = contract_partition(c, topic, p).end, offset = 0;
	struct engine_cursor_stat cursor;
	struct engine_view view;
	char expected[64];

	cr_assert_geq(end, atomic_load(&told->accepted[p]), "a message that was accepted is lost");
	while (offset < end) {
		const char *data;

		assert_ok(c->ops->partition_read(topic, p, offset, UINT32_MAX, &c->scratch, &view));
		data = view.batch.data;
		for (uint32_t i = 0; i < view.batch.count; i++, offset++) {
			int len = snprintf(expected, sizeof(expected), "%" PRIu32 " %" PRIu64 "\n", p, offset);

			cr_assert_eq(memcmp(data, expected, (size_t)len), 0);
			data += view.batch.lengths[i] + 1;
		}
	}
	assert_ok(c->ops->cursor_stat(group, p, &cursor));
	cr_assert_geq(cursor.committed, atomic_load(&told->acked[p]), "an ack that was accepted is lost");
	cr_assert_leq(cursor.committed, cursor.given);
	cr_assert_leq(cursor.given, end);
	cr_assert_eq(cursor.lost, 0);
}

static size_t count_logs(struct contract *c)
{
	char path[PATH_MAX + 200];
	size_t count = 0;
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/logs", c->source);
	dir = opendir(path);
	cr_assert_not_null(dir);
	while ((entry = readdir(dir)) != NULL)
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count;
}

/* Topics are there or not, as was told; one that was being made or removed may be either, but is whole. */
static size_t check_names(struct contract *c, const struct told *told)
{
	size_t there = 0;

	for (uint32_t i = 0; i < NAMES && i < atomic_load(&told->next_name); i++) {
		int state = atomic_load(&told->names[i]), rc;
		struct engine_object *topic = NULL;
		char name[16];

		snprintf(name, sizeof(name), "x%" PRIu32, i);
		rc = c->ops->lookup(c->engine, c->root, ENGINE_TOPIC, name, &topic);
		if (state == NAME_THERE)
			cr_assert_eq(rc, 0, "%s was made and is not there", name);
		if (state == NAME_GONE)
			cr_assert_eq(rc, -ENOENT, "%s was removed and is there", name);
		if (rc < 0)
			continue;
		there++;
		cr_assert_eq(contract_stat(c, topic).partitions, 2);
		contract_partition(c, topic, 1);
		c->ops->put(topic);
	}
	return there;
}

static struct told *make_told(void)
{
	struct told *told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(told, MAP_FAILED);
	return told;
}

/* Killed at any moment, the engine loses nothing that a call had accepted, and what was half done is done or undone. */
CRASH_TEST(killed_at_any_moment)
{
	struct engine_object *topic = contract_topic(c, "t", PARTITIONS), *group = contract_group(c, topic, "g");
	struct told *told = make_told();
	unsigned seed = (unsigned)time(NULL);

	fprintf(stderr, "seed %u\n", seed);
	srand(seed);
	assert_ok(contract_set(c, c->ops->defaults(c->engine, ENGINE_TOPIC), "partitions", "2"));
	for (int round = 0; round < 5; round++) {
		pid_t child;

		c->ops->put(group);
		c->ops->put(topic);
		contract_close(c);
		child = fork();
		if (child == 0)
			work_until_killed(c, told);
		kill_after(child, told, 500 + (uint64_t)rand() % 4000);
		contract_open(c);
		topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
		group = contract_lookup(c, topic, ENGINE_GROUP, "g");
		for (uint32_t p = 0; p < PARTITIONS; p++)
			check_partition(c, told, topic, group, p);
		cr_assert_eq(count_logs(c), PARTITIONS + 2 * check_names(c, told), "a crash leaves no logs behind");
	}
	c->ops->put(group);
	c->ops->put(topic);
}

static uint64_t journal_bytes(struct contract *c)
{
	char path[PATH_MAX + 200];
	uint64_t bytes = 0;
	struct dirent *entry;
	struct stat st;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/journal", c->source);
	dir = opendir(path);
	cr_assert_not_null(dir);
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] != '.' && fstatat(dirfd(dir), entry->d_name, &st, 0) == 0)
			bytes += (uint64_t)st.st_size;
	}
	closedir(dir);
	return bytes;
}

static bool journal_is_small(struct contract *c, void *ctx)
{
	(void)ctx;
	return journal_bytes(c) < 1 << 20;
}

/* In a child, which dies without closing anything. */
static void ack_many(struct contract *c, uint64_t count)
{
	struct engine_object *topic, *group;

	contract_open(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	group = contract_lookup(c, topic, ENGINE_GROUP, "g");
	for (uint64_t i = 0; i < count; i++)
		assert_ok(c->ops->ack(group, 0, i));
	contract_wait(c, journal_is_small, NULL, "a checkpoint");
	assert_ok(c->ops->ack(group, 0, count));
	_exit(0);
}

/* A journal that grows is brought into the catalog and dropped, so that it does not grow for ever; no ack gets lost. */
CRASH_TEST(checkpoint)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g");
	struct engine_batch batch = { .count = 30001, .ts_ms = -1 };
	struct engine_producer *producer = contract_producer(c, topic, 0);
	struct engine_consumer *consumer;
	struct engine_view view;
	char *lines = malloc(60002);
	int status = -1;
	pid_t child;

	for (size_t i = 0; i < batch.count; i++)
		memcpy(lines + 2 * i, "m\n", 2);
	batch.data = lines;
	batch.len = 60002;
	assert_ok(contract_send_batch(c, producer, &batch));
	c->ops->producer_close(producer);
	consumer = contract_consumer(c, group, ENGINE_ANY, ENGINE_CONSUME_SNAPSHOT);
	while (c->ops->consumer_fetch(consumer, UINT32_MAX, SIZE_MAX, &c->scratch, &view) == 1)
		;
	c->ops->consumer_close(consumer);
	c->ops->put(group);
	c->ops->put(topic);
	contract_close(c);
	child = fork();
	if (child == 0)
		ack_many(c, 30000);
	waitpid(child, &status, 0);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	contract_open(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	group = contract_lookup(c, topic, ENGINE_GROUP, "g");
	assert_text(contract_cursor(c, group, 0), "30001 30001 0");
	c->ops->put(group);
	c->ops->put(topic);
	free(lines);
}

/* In a child: reads two of three messages, and dies. */
static void read_two(struct contract *c)
{
	struct engine_object *topic, *group;

	contract_open(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	group = contract_lookup(c, topic, ENGINE_GROUP, "g");
	contract_fetch_some(c, contract_consumer(c, group, ENGINE_ANY, ENGINE_CONSUME_STREAM), 2);
	_exit(0);
}

/* What was given before the daemon was killed can be acked after it. */
CRASH_TEST(given_is_kept)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g");
	pid_t child;

	contract_send(c, topic, 0, "a\nb\nc\n");
	c->ops->put(group);
	c->ops->put(topic);
	contract_close(c);
	child = fork();
	if (child == 0)
		read_two(c);
	waitpid(child, NULL, 0);
	contract_open(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	group = contract_lookup(c, topic, ENGINE_GROUP, "g");
	assert_text(contract_cursor(c, group, 0), "0 2 0");
	assert_ok(c->ops->ack(group, 0, 0));
	assert_ok(c->ops->ack_all(group, ENGINE_ANY));
	assert_text(contract_cursor(c, group, 0), "2 2 0");
	c->ops->put(group);
	c->ops->put(topic);
}

/* ---- what the machine's death leaves, made by hand while the engine is closed ---- */

struct log_walk {
	uint64_t log_id;
};

static int note_log(void *ctx, uint32_t partition, uint64_t log_id)
{
	(void)partition;
	((struct log_walk *)ctx)->log_id = log_id;
	return 0;
}

/* Makes the only log of the topic as if nothing of it had reached the disk. */
static void empty_log(struct contract *c, uint64_t topic_id)
{
	struct plog_options options = { 0 };
	struct log_walk walk = { 0 };
	struct catalog *catalog;
	struct store store;

	assert_ok(store_open(c->source, false, false, NULL, &store));
	assert_ok(catalog_open(store.dirfd, false, &catalog));
	assert_ok(catalog_each_partition(catalog, topic_id, note_log, &walk));
	options.logs_dirfd = store.logs_dirfd;
	options.id = walk.log_id;
	memcpy(options.store_uuid, store.uuid, sizeof(options.store_uuid));
	assert_ok(plog_destroy(store.logs_dirfd, walk.log_id));
	assert_ok(plog_create(&options));
	assert_ok(
	    catalog_put_ends(catalog, &(struct catalog_end){ .object_id = topic_id }, 1)); /* no checkpoint saw them */
	catalog_close(catalog);
	store_close(&store);
}

/* A group whose cursor is beyond what the machine's death left of the log passes over nothing that is written next. */
CRASH_TEST(cursor_beyond_log)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g");
	uint64_t id = contract_id(c, topic);

	contract_send(c, topic, 0, "a\nb\nc\n");
	contract_snapshot(c, group);
	assert_ok(c->ops->ack(group, 0, 1));
	c->ops->put(group);
	c->ops->put(topic);
	contract_close(c);
	empty_log(c, id);
	contract_open(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	group = contract_lookup(c, topic, ENGINE_GROUP, "g");
	contract_send(c, topic, 0, "x\ny\nz\nlast\n");
	assert_text(contract_snapshot(c, group), "0:0=x 0:1=y 0:2=z 0:3=last");
	assert_text(contract_cursor(c, group, 0), "0 4 0");
	c->ops->put(group);
	c->ops->put(topic);
}

static void put_log(struct contract *c, const char *name, const char *data)
{
	char path[PATH_MAX + 200];
	int fd;

	snprintf(path, sizeof(path), "%s/logs/%s", c->source, name);
	cr_assert_eq(mkdir(path, 0700), 0);
	if (data == NULL)
		return;
	strcat(path, "/00000000000000000000.data");
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	cr_assert_eq(write(fd, data, strlen(data)), (ssize_t)strlen(data));
	close(fd);
}

/* A log that no topic has is removed if it is empty, and kept and told of if there are messages in it. */
CRASH_TEST(orphans)
{
	struct engine_object *topic = contract_topic(c, "t", 2);

	c->ops->put(topic);
	contract_close(c);
	put_log(c, "00000000000000fz", NULL); /* no name of a log */
	put_log(c, "00000000000000ff", NULL);
	fault_arm(FAULT_UNLINK, 1, EIO, true);
	contract_open(c); /* it cannot go: then the next time */
	fault_disarm();
	contract_close(c);
	cr_assert_eq(count_logs(c), 4);
	put_log(c, "00000000000000f0", NULL);
	put_log(c, "00000000000000f1", "");
	put_log(c, "00000000000000f2", "hello\n");
	contract_open(c);
	cr_assert_eq(count_logs(c), 4);
	c->ops->health(c->engine, c->text, CONTRACT_TEXT);
	cr_assert_eq(strncmp(c->text, "state degraded\nreason ", 22), 0);
	cr_assert_not_null(strstr(c->text, "00000000000000f2"));
}

/* An object whose creation was cut off is not there, and its name is free. */
CRASH_TEST(half_made)
{
	struct catalog_object row = { .parent_id = ENGINE_ROOT_ID, .kind = ENGINE_TOPIC, .name = "/99" };
	struct catalog *catalog;
	struct store store;

	contract_close(c);
	assert_ok(store_open(c->source, false, false, NULL, &store));
	assert_ok(catalog_open(store.dirfd, false, &catalog));
	assert_ok(catalog_next_id(catalog, &row.id));
	assert_ok(catalog_put_object(catalog, &row));
	assert_ok(catalog_add_partition(catalog, row.id, 0, 4711));
	catalog_close(catalog);
	store_close(&store);
	contract_open(c);
	assert_err(c->ops->lookup(c->engine, c->root, ENGINE_TOPIC, "/99", &(struct engine_object *){ NULL }), ENOENT);
	assert_err(c->ops->get(c->engine, row.id, &(struct engine_object *){ NULL }), ENOENT);
	contract_close(c);
	assert_ok(store_open(c->source, false, false, NULL, &store));
	assert_ok(catalog_open(store.dirfd, false, &catalog));
	assert_err(catalog_set_owner(catalog, row.id, &row.owner, 0), ENOENT);
	catalog_close(catalog);
	store_close(&store);
	contract_open(c);
}
