/*
 * What the local engine does beyond the contract of engines: flushing and sharing syncs, disks that fail or are full,
 * damage, and stores of the size it is made for.
 */
#include <dirent.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/io.h"
#include "tests/lib/contract.h"
#include "tests/lib/fault.h"

#define LOCAL_TEST(name)                                                                                               \
	static void name(struct contract *c);                                                                          \
	Test(local, name)                                                                                              \
	{                                                                                                              \
		contract_run(true, name);                                                                              \
	}                                                                                                              \
	static void name(struct contract *c)

/* ---- what the engine tells ---- */

struct watch {
	_Atomic unsigned events, errors;
};

static void count_notice(void *ctx, int err, const char *text)
{
	struct watch *watch = ctx;

	cr_assert_gt(strlen(text), 0);
	atomic_fetch_add(err == 0 ? &watch->events : &watch->errors, 1);
}

/* The engine of the contract again, but watched. */
static void reopen_watched(struct contract *c, struct watch *watch)
{
	struct engine_options options = { .notify = { count_notice, watch } };

	contract_close(c);
	assert_ok(engine_open(c->source, &options, &c->engine));
	assert_ok(c->ops->get(c->engine, ENGINE_ROOT_ID, &c->root));
}

/* ---- flushing ---- */

static bool is_synced(struct contract *c, void *ctx)
{
	struct engine_partition_stat stat = contract_partition(c, ctx, 0);

	return stat.synced == stat.end;
}

/* A partition is synced when its first unsynced message is flush.ms old, without anybody asking. */
LOCAL_TEST(flush_by_time)
{
	struct engine_object *topic = contract_topic(c, "t", 1);

	assert_ok(contract_set(c, topic, "flush.messages", "-1"));
	assert_ok(contract_set(c, topic, "flush.ms", "30"));
	for (int i = 0; i < 3; i++) {
		contract_send(c, topic, 0, "a\nb\n");
		contract_wait(c, is_synced, topic, "a flush");
	}
	c->ops->put(topic);
}

/* It is synced when flush.messages are not, and not before. */
LOCAL_TEST(flush_by_count)
{
	struct engine_object *topic = contract_topic(c, "t", 1);

	assert_ok(contract_set(c, topic, "flush.messages", "5"));
	assert_ok(contract_set(c, topic, "flush.ms", "-1"));
	contract_send(c, topic, 0, "a\nb\nc\nd\n");
	cr_assert_eq(contract_partition(c, topic, 0).synced, 0);
	contract_send(c, topic, 0, "e\n");
	contract_wait(c, is_synced, topic, "a flush");
	c->ops->put(topic);
}

/* With neither it is not synced by itself; setting flush.ms later reaches what was written before. */
LOCAL_TEST(flush_setting_takes_effect)
{
	struct engine_object *topic = contract_topic(c, "t", 1);

	assert_ok(contract_set(c, topic, "flush.messages", "-1"));
	assert_ok(contract_set(c, topic, "flush.ms", "-1"));
	contract_send(c, topic, 0, "a\n");
	cr_assert_eq(contract_partition(c, topic, 0).synced, 0);
	assert_ok(contract_set(c, topic, "flush.ms", "10"));
	contract_wait(c, is_synced, topic, "a flush");
	c->ops->put(topic);
}

/* Data syncs wait until they are let through, and are counted. */
static struct {
	sem_t let;
	_Atomic unsigned begun;
} gate;

static int gated_fdatasync(int fd)
{
	atomic_fetch_add(&gate.begun, 1);
	while (sem_wait(&gate.let) < 0)
		;
	sem_post(&gate.let); /* once opened, it stays open */
	return io_posix.fdatasync(fd);
}

#define CONFIRMS 32u

struct confirm {
	struct engine_done done;
	_Atomic unsigned *left;
};

static void confirmed(struct engine_done *done, int result)
{
	cr_assert_eq(result, 0);
	atomic_fetch_sub(((struct confirm *)done)->left, 1);
}

static bool is_zero(struct contract *c, void *ctx)
{
	(void)c;
	return atomic_load((_Atomic unsigned *)ctx) == 0;
}

struct confirming {
	struct contract *c;
	struct engine_producer *producer;
};

/* In a thread of its own, since the first who asks may do the sync itself. */
static void *confirm_first(void *ctx)
{
	struct confirming *confirming = ctx;

	assert_ok(contract_sync(confirming->c, confirming->producer));
	return NULL;
}

static bool has_begun(struct contract *c, void *ctx)
{
	(void)c;
	(void)ctx;
	return atomic_load(&gate.begun) > 0;
}

/* Those who ask for a sync while one runs share the next one. */
LOCAL_TEST(confirms_share_syncs)
{
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_producer *producer = contract_producer(c, topic, 0);
	struct confirm confirms[CONFIRMS];
	_Atomic unsigned left = CONFIRMS;
	struct io_ops gated = io_posix;
	struct engine_batch batch = contract_batch("m\n");
	struct confirming first = { c, producer };
	pthread_t thread;

	gated.fdatasync = gated_fdatasync;
	sem_init(&gate.let, 0, 0);
	io = &gated;
	assert_ok(contract_send_batch(c, producer, &batch));
	cr_assert_eq(pthread_create(&thread, NULL, confirm_first, &first), 0);
	contract_wait(c, has_begun, NULL, "the first sync");
	for (unsigned i = 0; i < CONFIRMS; i++) {
		confirms[i] = (struct confirm){ { confirmed }, &left };
		assert_ok(contract_send_batch(c, producer, &batch));
		cr_assert_eq(c->ops->producer_sync(producer, &confirms[i].done), ENGINE_PENDING);
	}
	sem_post(&gate.let);
	contract_wait(c, is_zero, &left, "all confirms");
	pthread_join(thread, NULL);
	/* One that ran, one for those that came to its journal, and one for all the others. */
	cr_assert_leq(atomic_load(&gate.begun), 3u);
	cr_assert_eq(contract_partition(c, topic, 0).synced, CONFIRMS + 1);
	c->ops->producer_close(producer);
	c->ops->put(topic);
	contract_close(c);
	io = &io_posix;
	contract_open(c);
}

/* ---- disks that fail ---- */

/* After a failed sync the partition refuses what comes, health says why, others go on, and a restart ends it. */
LOCAL_TEST(failed_sync_is_final)
{
	struct watch watch = { 0 };
	struct engine_object *topic, *other;
	struct engine_producer *producer;
	struct engine_batch batch = contract_batch("m\n");
	int rc;

	contract_send(c, topic = contract_topic(c, "bad disk", 1), 0, "before\n");
	c->ops->put(topic);
	reopen_watched(c, &watch);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "bad disk");
	other = contract_topic(c, "other", 1);
	producer = contract_producer(c, topic, ENGINE_ANY);
	assert_ok(contract_send_batch(c, producer, &batch));
	fault_arm(FAULT_SYNC, 1, EIO, true);
	rc = contract_sync(c, producer);
	fault_disarm();
	assert_err(rc, EIO);
	assert_err(contract_sync(c, producer), EIO);
	assert_err(contract_send_batch(c, producer, &batch), EROFS);
	cr_assert_gt(strlen(engine_reason()), 0);
	cr_assert_eq(atomic_load(&watch.errors), 1, "told once");
	c->ops->health(c->engine, c->text, CONTRACT_TEXT);
	cr_assert_eq(strncmp(c->text, "state degraded\nreason topic bad disk, partition 0: ", 51), 0, "%s", c->text);
	contract_send(c, other, 0, "m\n");
	assert_text(contract_read(c, topic, 0, 0), "0=before 1=m");
	c->ops->producer_close(producer);
	c->ops->put(other);
	c->ops->put(topic);
	c->ops->put(c->root);
	assert_err(c->ops->close(c->engine), EIO);
	contract_open(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "bad disk");
	contract_send(c, topic, 0, "after\n");
	c->ops->health(c->engine, c->text, CONTRACT_TEXT);
	assert_text(c->text, "state ok\n");
	c->ops->put(topic);
}

/* A topic, a group, a message, read and acked; the first error there is. */
static int use_store(struct contract *c, const char *name)
{
	struct engine_owner owner = { 0, 0, 0755 };
	struct engine_object *topic = NULL, *group = NULL;
	struct engine_batch batch = contract_batch("m\n");
	struct engine_producer *producer = NULL;
	int rc = c->ops->create(c->engine, c->root, ENGINE_TOPIC, name, &owner, &topic);

	if (rc == 0)
		rc = c->ops->create(c->engine, topic, ENGINE_GROUP, "g", &owner, &group);
	if (rc == 0)
		rc = c->ops->producer_open(topic, ENGINE_ANY, (struct engine_span){ 0 }, &producer);
	if (rc == 0)
		rc = c->ops->producer_send(producer, &batch, NULL);
	if (rc == 0) {
		contract_one(c, group);
		rc = c->ops->ack_all(group, ENGINE_ANY);
	}
	c->ops->producer_close(producer);
	c->ops->put(group);
	c->ops->put(topic);
	return rc;
}

/* An ack that the journal does not take is refused, and has not happened. */
LOCAL_TEST(ack_is_not_written)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g");

	contract_send(c, topic, 0, "a\nb\n");
	contract_snapshot(c, group);
	fault_arm(FAULT_WRITE | FAULT_MINE, 1, EIO, false);
	assert_err(c->ops->ack_all(group, 0), EIO);
	cr_assert_geq(fault_disarm(), 1);
	assert_text(contract_cursor(c, group, 0), "0 2 0");
	assert_ok(c->ops->ack_all(group, 0));
	assert_text(contract_cursor(c, group, 0), "2 2 0");
	c->ops->put(group);
	c->ops->put(topic);
}

/*
 * Whichever change of a file is the first that finds the disk full: ENOSPC, and what was begun is not there. Only those of
 * this thread: a checkpoint that meets the full disk borrows the reserve, and producing is refused while it has it.
 */
LOCAL_TEST(disk_full_at_every_place)
{
	char name[32];
	int rc = -1;

	for (uint64_t n = 1; rc != 0; n++) {
		struct engine_object *topic, *group;

		cr_assert_lt(n, 200);
		snprintf(name, sizeof(name), "t%" PRIu64, n);
		fault_arm(FAULT_OPEN | FAULT_MKDIR | FAULT_WRITE | FAULT_MINE, n, ENOSPC, true);
		rc = use_store(c, name);
		fault_disarm();
		cr_assert(rc == 0 || rc == -ENOSPC, "%d at %" PRIu64 ": %s", rc, n, engine_reason());
		if (c->ops->lookup(c->engine, c->root, ENGINE_TOPIC, name, &topic) < 0) {
			assert_ok(use_store(c, name));
			topic = contract_lookup(c, c->root, ENGINE_TOPIC, name);
		}
		if (rc < 0 && contract_stat(c, topic).messages == 0)
			contract_send(c, topic, 0, "m\n");
		assert_text(contract_read(c, topic, 0, 0), "0=m");
		if (c->ops->lookup(c->engine, topic, ENGINE_GROUP, "g", &group) < 0)
			group = contract_group(c, topic, "g");
		assert_text(
		    contract_snapshot(c, group), rc == 0 || contract_stat(c, group).messages == 0 ? "" : "0:0=m");
		c->ops->put(group);
		c->ops->put(topic);
	}
	contract_reopen(c);
	c->ops->health(c->engine, c->text, CONTRACT_TEXT);
	assert_text(c->text, "state ok\n");
}

/* ---- damage ---- */

/* Flips a bit of the byte at pos of the only data file of the only log. */
static void damage(struct contract *c, off_t pos)
{
	char path[PATH_MAX + 200], name[64] = "";
	struct dirent *entry;
	DIR *dir;
	char byte;
	int fd;

	snprintf(path, sizeof(path), "%s/logs", c->source);
	dir = opendir(path);
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] != '.')
			snprintf(name, sizeof(name), "%.32s", entry->d_name);
	}
	closedir(dir);
	snprintf(path, sizeof(path), "%s/logs/%s/00000000000000000000.data", c->source, name);
	fd = open(path, O_RDWR);
	cr_assert_eq(pread(fd, &byte, 1, pos), 1);
	byte ^= 1;
	cr_assert_eq(pwrite(fd, &byte, 1, pos), 1);
	close(fd);
}

/* Sends each line as a batch of its own. */
static void send_apart(struct contract *c, struct engine_object *topic, const char *const *lines)
{
	struct engine_producer *producer = contract_producer(c, topic, 0);

	for (; *lines != NULL; lines++) {
		struct engine_batch batch = contract_batch(*lines);

		assert_ok(contract_send_batch(c, producer, &batch));
		assert_ok(contract_sync(c, producer));
	}
	c->ops->producer_close(producer);
}

/* Damaged messages are passed over by every way to read, and told of once. */
LOCAL_TEST(damage_is_passed_over)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group;
	struct engine_consumer *consumer;
	struct watch watch = { 0 };

	send_apart(c, topic, (const char *const[]){ "aa\n", "bb\n", "cc\n", NULL });
	c->ops->put(contract_group(c, topic, "g"));
	c->ops->put(topic);
	reopen_watched(c, &watch);
	damage(c, 4);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	group = contract_lookup(c, topic, ENGINE_GROUP, "g");
	assert_text(contract_snapshot(c, group), "0:0=aa 0:2=cc");
	assert_text(contract_one(c, group), "0:0=aa");
	assert_ok(c->ops->ack(group, 0, 0));
	assert_text(contract_one(c, group), "0:2=cc");
	consumer = contract_consumer(c, group, ENGINE_ANY, ENGINE_CONSUME_STREAM);
	assert_text(contract_fetch(c, consumer), "0:2=cc");
	c->ops->consumer_close(consumer);
	assert_ok(c->ops->ack_all(group, ENGINE_ANY));
	assert_text(contract_cursor(c, group, 0), "3 3 0");
	cr_assert_eq(atomic_load(&watch.errors), 1);
	c->ops->put(group);
	c->ops->put(topic);
}

/* With nothing but damage left, a reader of one message waits for the next, and does not spin. */
LOCAL_TEST(damage_at_the_end)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g");
	struct engine_consumer *consumer;
	struct contract_waiter waiter;

	send_apart(c, topic, (const char *const[]){ "aa\n", NULL });
	damage(c, 0);
	consumer = contract_consumer(c, group, ENGINE_ANY, ENGINE_CONSUME_ONE);
	assert_text(contract_fetch(c, consumer), "");
	contract_waiter_init(&waiter);
	assert_ok(c->ops->consumer_arm(consumer, &waiter.waiter));
	contract_send(c, topic, 0, "next\n");
	contract_waiter_wait(&waiter);
	assert_text(contract_fetch(c, consumer), "0:1=next");
	assert_text(contract_cursor(c, group, 0), "1 2 1");
	c->ops->consumer_close(consumer);
	c->ops->put(group);
	c->ops->put(topic);
}

/* ---- retention ---- */

static bool has_told(struct contract *c, void *ctx)
{
	(void)c;
	return atomic_load(&((struct watch *)ctx)->events) > 0;
}

/* Retention is told of as an event; what it takes before a group had it counts as lost, and that is kept. */
LOCAL_TEST(retention_is_told)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g");
	struct watch watch = { 0 };
	char line[2002], before[64];

	memset(line, 'x', 2000);
	memcpy(line + 2000, "\n", 2);
	assert_ok(contract_set(c, topic, "segment.bytes", "4096"));
	c->ops->put(group);
	c->ops->put(topic);
	reopen_watched(c, &watch);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	group = contract_lookup(c, topic, ENGINE_GROUP, "g");
	for (int i = 0; i < 10; i++)
		contract_send(c, topic, 0, line);
	cr_assert_eq(contract_stat(c, group).lost, 0);
	assert_ok(contract_set(c, topic, "retention.bytes", "4096"));
	contract_wait(c, has_told, &watch, "retention");
	cr_assert_gt(contract_stat(c, group).lost, 0);
	cr_assert_eq(contract_stat(c, group).lost, contract_partition(c, topic, 0).earliest);
	snprintf(before, sizeof(before), "%s", contract_cursor(c, group, 0));
	c->ops->put(group);
	c->ops->put(topic);
	contract_reopen(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	group = contract_lookup(c, topic, ENGINE_GROUP, "g");
	assert_text(contract_cursor(c, group, 0), before);
	c->ops->put(group);
	c->ops->put(topic);
}

/* ---- size ---- */

static unsigned count_descriptors(void)
{
	unsigned count = 0;
	DIR *dir = opendir("/proc/self/fd");

	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

/* More logs can be in use than there are descriptors. */
LOCAL_TEST(few_descriptors)
{
	struct engine_object *topic = contract_topic(c, "t", 100);
	struct rlimit limit = { 300, 300 };

	c->ops->put(topic);
	contract_close(c);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	contract_open(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	for (int round = 0; round < 2; round++) {
		for (uint32_t p = 0; p < 100; p++)
			contract_send(c, topic, p, "m\n");
		cr_assert_lt(count_descriptors(), 250);
	}
	assert_text(contract_read(c, topic, 0, 0), "0=m 1=m");
	assert_text(contract_read(c, topic, 99, 0), "0=m 1=m");
	cr_assert_eq(contract_stat(c, topic).messages, 200);
	c->ops->put(topic);
}

/* Nor when all of them are opened before the first is written to: then none has files yet. */
LOCAL_TEST(few_descriptors_for_open_producers)
{
	struct engine_producer *producers[100];
	struct engine_object *topic = contract_topic(c, "t", 100);
	struct engine_batch batch = contract_batch("m\n");
	struct rlimit limit = { 200, 200 };

	c->ops->put(topic);
	contract_close(c);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	contract_open(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	for (uint32_t p = 0; p < 100; p++)
		assert_ok(c->ops->producer_open(topic, p, (struct engine_span){ NULL, 0 }, &producers[p]));
	for (int round = 0; round < 2; round++) {
		for (uint32_t p = 0; p < 100; p++)
			assert_ok(contract_send_batch(c, producers[p], &batch));
		cr_assert_lt(count_descriptors(), 180);
	}
	cr_assert_eq(contract_stat(c, topic).messages, 200);
	for (uint32_t p = 0; p < 100; p++)
		c->ops->producer_close(producers[p]);
	c->ops->put(topic);
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The most memory the process had; what a sanitizer adds is not ours. */
static long most_kib(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
#ifdef __SANITIZE_ADDRESS__
	usage.ru_maxrss = 0;
#endif
	return usage.ru_maxrss;
}

static void ten_thousand(struct contract *c)
{
	struct engine_owner owner = { 0, 0, 0755 };
	struct engine_object *topic;
	int64_t began;

	for (int i = 0; i < 10000; i++) {
		char name[16];

		snprintf(name, sizeof(name), "t%d", i);
		assert_ok(c->ops->create(c->engine, c->root, ENGINE_TOPIC, name, &owner, &topic));
		c->ops->put(topic);
	}
	contract_close(c);
	began = now_ms();
	contract_open(c);
	cr_assert_lt(now_ms() - began, 1000);
	cr_assert_eq(contract_stat(c, c->root).messages, 0);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t9999");
	contract_send(c, topic, 0, "m\n");
	c->ops->put(topic);
	cr_assert_eq(contract_stat(c, c->root).messages, 1);
	cr_assert_lt(most_kib(), 64 * 1024);
}

/* A store of ten thousand topics opens in less than a second and in little memory. In RAM, where syncs are free. */
Test(local, ten_thousand_topics)
{
	tmpdir_in_memory();
	contract_run(true, ten_thousand);
}
