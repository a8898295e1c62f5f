/*
 * The local engine on a full disk: what acknowledges, deletes or sets goes on, on the room of the reserve; what takes
 * room is refused until the reserve is whole again, and works as soon as it can be.
 *
 * The disk is a small tmpfs, mounted in a namespace of the test's own, so that it goes with the test.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/io.h"
#include "engine/limits.h"
#include "engine/local_internal.h"
#include "tests/lib/contract.h"
#include "tests/lib/fault.h"

#define DISK_BYTES (24u << 20)
#define RESERVE_BYTES (DISK_BYTES / LIMIT_RESERVE_SHARE)
#define BIG (32u << 10)

static char big[BIG + 1];

static void on_small_disk(void (*test)(struct contract *c))
{
	struct contract *c = calloc(1, sizeof(*c));
	char place[PATH_MAX + 16], options[32];

	tmpdir_make(&c->dir);
	snprintf(place, sizeof(place), "%s/disk", c->dir.path);
	snprintf(options, sizeof(options), "size=%u", DISK_BYTES);
	mkdir(place, 0700);
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", place, "tmpfs", 0, options)) {
		tmpdir_remove(&c->dir);
		cr_skip_test("SKIP: a small file system cannot be mounted here: %s", strerror(errno));
	}
	c->persists = true;
	snprintf(c->source, sizeof(c->source), "%s/store", place);
	memset(big, 'x', BIG - 1);
	big[BIG - 1] = '\n';
	contract_open(c);
	test(c);
	contract_close(c);
	engine_scratch_release(&c->scratch);
	cr_assert_eq(umount2(place, MNT_DETACH), 0);
	tmpdir_remove(&c->dir);
	free(c);
}

#define FULL_TEST(name)                                                                                                \
	static void name(struct contract *c);                                                                          \
	Test(local_full, name)                                                                                         \
	{                                                                                                              \
		on_small_disk(name);                                                                                   \
	}                                                                                                              \
	static void name(struct contract *c)

/* ---- filling the disk ---- */

static int send_len(struct contract *c, struct engine_object *topic, size_t len)
{
	struct engine_producer *producer = contract_producer(c, topic, 0);
	struct engine_batch batch = { .data = big + BIG - len, .len = len, .count = 1, .ts_ms = -1 };
	int rc = contract_send_batch(c, producer, &batch);

	c->ops->producer_close(producer);
	return rc;
}

/* Produces until not even an empty message is taken. Returns the number of messages. */
static uint64_t fill(struct contract *c, struct engine_object *topic)
{
	static const size_t lens[] = { BIG, 16384, 4096, 512, 1 };
	uint64_t accepted = contract_stat(c, topic).messages;
	int rc;

	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		while ((rc = send_len(c, topic, lens[i])) == 0)
			accepted++;
		assert_err(rc, ENOSPC);
	}
	cr_assert_eq(contract_stat(c, topic).messages, accepted);
	return accepted;
}

static void path_beside(const struct contract *c, const char *name, char ret_path[PATH_MAX])
{
	snprintf(ret_path, PATH_MAX, "%.*s/disk/%s", PATH_MAX - 100, c->dir.path, name);
}

/* Another user of the disk takes that much of it, or with 0 what is left, to the last byte. */
static void take(const struct contract *c, size_t bytes)
{
	char path[PATH_MAX];
	size_t taken = 0;
	int fd;

	path_beside(c, "rest", path);
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	cr_assert_geq(fd, 0);
	while ((bytes == 0 || taken < bytes) && write(fd, big, 4096) > 0)
		taken += 4096;
	cr_assert(bytes > 0 || errno == ENOSPC);
	close(fd);
}

/* The disk full: of messages, but for what another user has. Returns the number of messages. */
static uint64_t fill_beside(struct contract *c, struct engine_object *topic)
{
	uint64_t accepted;

	take(c, RESERVE_BYTES);
	accepted = fill(c, topic);
	take(c, 0);
	return accepted;
}

static void free_rest(const struct contract *c)
{
	char path[PATH_MAX];

	path_beside(c, "rest", path);
	cr_assert_eq(unlink(path), 0);
}

/* Bytes that STORE/reserve has on the disk. */
static uint64_t reserve_bytes(const struct contract *c)
{
	char path[PATH_MAX];
	struct stat st;

	path_beside(c, "store/reserve", path);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 07777, 0600);
	return (uint64_t)st.st_blocks * 512;
}

static bool is_ok(struct contract *c, void *ctx)
{
	(void)ctx;
	c->ops->health(c->engine, c->text, CONTRACT_TEXT);
	return strcmp(c->text, "state ok\n") == 0;
}

static void assert_degraded(struct contract *c)
{
	cr_assert(!is_ok(c, NULL));
	cr_assert_eq(strncmp(c->text, "state degraded\nreason the disk is full", 38), 0, "%s", c->text);
}

static bool is_empty(struct contract *c, void *ctx)
{
	return contract_stat(c, ctx).messages == 0;
}

/* Reads from offset to the end. */
static uint64_t count_read(struct contract *c, struct engine_object *topic, uint64_t offset)
{
	struct engine_view view;
	uint64_t count = 0;
	int rc;

	while ((rc = c->ops->partition_read(topic, 0, offset + count, UINT32_MAX, &c->scratch, &view)) == 0)
		count += view.batch.count;
	assert_err(rc, ENODATA);
	return count;
}

/* ---- tests ---- */

/* The reserve is there from the start, and an eighth of a small file system; a store that is opened read-only gets none. */
FULL_TEST(is_made_at_the_start)
{
	struct engine_options options = { .read_only = true };
	char path[PATH_MAX];

	cr_assert_eq(reserve_bytes(c), RESERVE_BYTES);
	path_beside(c, "store/reserve", path);
	contract_close(c);
	cr_assert_eq(unlink(path), 0);
	assert_ok(engine_open(c->source, &options, &c->engine));
	assert_ok(c->ops->close(c->engine));
	cr_assert_eq(access(path, F_OK), -1);
	contract_open(c);
	cr_assert_eq(reserve_bytes(c), RESERVE_BYTES);
}

/* When producing has filled the disk, all else works; a purge makes room, in which producing works at once. */
FULL_TEST(all_but_producing_works)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g"), *other;
	struct engine_owner owner = { 1, 2, 0500 };
	uint64_t accepted;

	other = contract_topic(c, "other", 1);
	contract_send(c, other, 0, "a\nb\n");
	accepted = fill_beside(c, topic);
	for (int i = 0; i < 3; i++) {
		cr_assert_gt(strlen(contract_one(c, group)), 1);
		assert_ok(c->ops->ack_all(group, ENGINE_ANY));
	}
	assert_text(contract_cursor(c, group, 0), "3 3 0");
	assert_ok(c->ops->seek(group, 0, ENGINE_SEEK_RELATIVE, -2));
	assert_ok(contract_set(c, topic, "retention.bytes", "1000000000"));
	assert_ok(contract_set(c, group, "auto.commit", "true"));
	assert_ok(c->ops->set_owner(topic, "in", &owner));
	assert_ok(c->ops->partition_purge(topic, 0, 2));
	cr_assert_eq(contract_partition(c, topic, 0).earliest, 2);
	assert_text(contract_cursor(c, group, 0), "2 2 0");
	assert_ok(c->ops->partition_purge(other, ENGINE_ANY, ENGINE_OFFSET_NONE));
	assert_ok(c->ops->remove(other));
	c->ops->put(other);
	cr_assert_eq(count_read(c, topic, 2), accepted - 2);
	assert_err(send_len(c, topic, BIG), ENOSPC);
	c->ops->put(group);
	c->ops->put(topic);

	contract_reopen(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	group = contract_lookup(c, topic, ENGINE_GROUP, "g");
	cr_assert_eq(contract_stat(c, topic).messages, accepted - 2);
	assert_text(contract_cursor(c, group, 0), "2 2 0");
	assert_text(contract_get(c, topic, "retention.bytes"), "1000000000");
	assert_err(c->ops->lookup(c->engine, c->root, ENGINE_TOPIC, "other", &other), ENOENT);
	assert_ok(c->ops->partition_purge(topic, ENGINE_ANY, ENGINE_OFFSET_NONE));
	assert_ok(send_len(c, topic, BIG));
	cr_assert(is_ok(c, NULL), "%s", c->text);
	cr_assert_eq(reserve_bytes(c), RESERVE_BYTES);
	c->ops->put(group);
	c->ops->put(topic);
}

/* As long as its room is in use nothing may take it: not even a message that would fit is accepted, nor a new object. */
FULL_TEST(its_room_is_not_for_messages)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *made;
	struct engine_owner owner = { 0 };

	fill_beside(c, topic);
	cr_assert(is_ok(c, NULL), "%s", c->text);
	assert_ok(c->ops->partition_purge(topic, 0, 1));
	cr_assert_eq(reserve_bytes(c), 0);
	assert_degraded(c);
	assert_err(send_len(c, topic, 1), ENOSPC);
	cr_assert_gt(strlen(engine_reason()), 0);
	assert_err(c->ops->create(c->engine, c->root, ENGINE_TOPIC, "new", &owner, &made), ENOSPC);
	assert_err(contract_set(c, topic, "partitions", "2"), ENOSPC);
	assert_degraded(c);
	free_rest(c);
	assert_ok(send_len(c, topic, 1));
	cr_assert(is_ok(c, NULL), "%s", c->text);
	cr_assert_eq(reserve_bytes(c), RESERVE_BYTES);
	c->ops->put(topic);
}

/* When there is room again it is made again, without anybody asking; at the start, too. */
FULL_TEST(is_made_again)
{
	struct engine_object *topic = contract_topic(c, "t", 1);

	fill_beside(c, topic);
	assert_ok(c->ops->partition_purge(topic, 0, 1));
	assert_degraded(c);
	free_rest(c);
	contract_wait(c, is_ok, NULL, "the reserve");
	cr_assert_eq(reserve_bytes(c), RESERVE_BYTES);
	take(c, 0);
	for (uint64_t before = 2; is_ok(c, NULL); before++)
		assert_ok(c->ops->partition_purge(topic, 0, before));
	assert_degraded(c);
	c->ops->put(topic);
	contract_close(c);
	free_rest(c);
	contract_open(c);
	cr_assert(is_ok(c, NULL), "%s", c->text);
	cr_assert_eq(reserve_bytes(c), RESERVE_BYTES);
}

/* Retention needs room, too, when the only segment is to go. */
FULL_TEST(retention_works)
{
	struct engine_object *topic = contract_topic(c, "t", 1);

	fill_beside(c, topic);
	assert_ok(contract_set(c, topic, "retention.ms", "1"));
	contract_wait(c, is_empty, topic, "retention");
	assert_ok(contract_set(c, topic, "retention.ms", "-1"));
	contract_wait(c, is_ok, NULL, "the reserve");
	contract_send(c, topic, 0, "again\n");
	c->ops->put(topic);
}

/* A store on a full disk can be opened: a file of the journal is begun in the room of the reserve. */
FULL_TEST(opens_on_a_full_disk)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g");

	contract_send(c, topic, 0, "a\nb\n");
	c->ops->put(group);
	c->ops->put(topic);
	contract_close(c);
	take(c, 0);
	for (int i = 0; i < 5; i++) {
		contract_open(c);
		topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
		group = contract_lookup(c, topic, ENGINE_GROUP, "g");
		assert_text(contract_one(c, group), "0:0=a");
		assert_ok(c->ops->ack_all(group, ENGINE_ANY));
		assert_text(contract_one(c, group), "0:1=b");
		assert_ok(c->ops->seek(group, 0, ENGINE_SEEK_EARLIEST, 0));
		assert_err(send_len(c, topic, BIG), ENOSPC);
		c->ops->put(group);
		c->ops->put(topic);
		contract_close(c);
	}
	free_rest(c);
	contract_open(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	contract_send(c, topic, 0, "c\n");
	assert_text(contract_read(c, topic, 0, 0), "0=a 1=b 2=c");
	c->ops->put(topic);
}

/* ---- many at once ---- */

struct busy {
	struct contract *c;
	struct engine_object *topic;
	_Atomic bool stop;
	_Atomic uint64_t accepted;
};

static void *produce(void *arg)
{
	struct busy *busy = arg;
	struct engine_producer *producer = contract_producer(busy->c, busy->topic, 0);
	struct engine_batch batch = { .data = big + BIG - 3000, .len = 3000, .count = 1, .ts_ms = -1 };
	const struct timespec pause = { 0, 100000 };
	int rc;

	while (!atomic_load(&busy->stop)) {
		rc = busy->c->ops->producer_send(producer, &batch, NULL);
		if (rc == 0)
			atomic_fetch_add(&busy->accepted, 1);
		else if (rc == -ENOSPC)
			nanosleep(&pause, NULL); /* leaves the others some of two processors */
		else
			abort();
	}
	busy->c->ops->producer_close(producer);
	return NULL;
}

/* Producers that try on and on take nothing from those who acknowledge, who outlive files of the journal meanwhile. */
FULL_TEST(producers_do_not_starve_acks)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g");
	struct busy busy = { .c = c, .topic = topic };
	pthread_t threads[3];

	fill_beside(c, topic);
	atomic_store(&busy.accepted, contract_stat(c, topic).messages);
	for (size_t i = 0; i < 3; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, produce, &busy), 0);
	for (int i = 0; i < 60000; i++)
		assert_ok(c->ops->seek(group, 0, ENGINE_SEEK_OFFSET, i % 5));
	for (int i = 0; i < 50; i++)
		assert_ok(contract_set(c, topic, "flush.ms", i % 2 ? "500" : "600"));
	atomic_store(&busy.stop, true);
	for (size_t i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(contract_stat(c, topic).messages, atomic_load(&busy.accepted));
	c->ops->put(group);
	c->ops->put(topic);
	contract_reopen(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	group = contract_lookup(c, topic, ENGINE_GROUP, "g");
	cr_assert_eq(contract_stat(c, topic).messages, atomic_load(&busy.accepted));
	assert_text(contract_cursor(c, group, 0), "4 4 0");
	free_rest(c);
	assert_ok(c->ops->partition_purge(topic, ENGINE_ANY, ENGINE_OFFSET_NONE));
	assert_ok(send_len(c, topic, 1));
	c->ops->put(group);
	c->ops->put(topic);
}

/* What was given back to an operation stays there until it is done, though producers wait to make the reserve again. */
FULL_TEST(producers_do_not_take_what_was_lent)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *other = contract_topic(c, "other", 1);
	struct busy busy = { .c = c, .topic = topic };
	pthread_t threads[3];

	for (int i = 0; i < 1000; i++)
		contract_send(c, other, 0, "m\n");
	assert_ok(c->ops->partition_purge(other, 0, 1));
	fill(c, topic);
	for (size_t i = 0; i < 3; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, produce, &busy), 0);
	for (uint64_t before = 2; before < 1000; before++) {
		assert_ok(c->ops->partition_purge(other, 0, before));
		if (before % 10 == 0)
			contract_wait(c, is_ok, NULL, "the reserve");
	}
	atomic_store(&busy.stop, true);
	for (size_t i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	c->ops->put(other);
	c->ops->put(topic);
}

/* ---- every place ---- */

static _Atomic int64_t stands_ms;

static int64_t standing(void)
{
	return atomic_load(&stands_ms);
}

static int send_big(struct contract *c, struct engine_object *queue)
{
	struct engine_batch batch = { .data = big, .len = BIG, .count = 1, .ts_ms = -1 };
	struct engine_producer *producer = NULL;
	int rc;

	assert_ok(c->ops->queue->producer_open(queue, ENGINE_ANY, false, &producer));
	rc = contract_send_batch(c, producer, &batch);
	c->ops->producer_close(producer);
	return rc;
}

static bool is_taken(struct contract *c, void *queue)
{
	return c->ops->room(c->engine, BIG) == 0 && send_big(c, queue) == 0;
}

/* What a queue has settled gives its room back soon after somebody found none, and not only when the next checkpoint is due. */
FULL_TEST(what_is_settled_makes_room_soon)
{
	static const struct clock_ops stands = { .wall_ms = standing, .mono_ms = standing };
	const struct engine_owner owner = { 0, 0, 0700 };
	struct engine_object *queue = NULL;

	atomic_store(&stands_ms, clock_mono_ms());
	clock_now = &stands;
	assert_ok(c->ops->create(c->engine, c->root, ENGINE_QUEUE, "q", &owner, &queue));
	while (send_big(c, queue) == 0)
		;
	assert_err(c->ops->room(c->engine, DISK_BYTES), ENOSPC);
	assert_ok(c->ops->queue->purge(queue));
	atomic_fetch_add(&stands_ms, LOCAL_CHECKPOINT_MIN_MS);
	contract_wait(c, is_taken, queue, "room after a purge");
	clock_now = &clock_system;
	c->ops->put(queue);
}

/* Whichever change of a file finds the disk full, none of these fails. */
FULL_TEST(full_at_every_place)
{
	uint64_t reached = 1;
	char name[32];

	for (uint64_t n = 1; n <= reached; n++) {
		struct engine_object *topic, *group;

		cr_assert_lt(n, 200);
		snprintf(name, sizeof(name), "t%" PRIu64, n);
		topic = contract_topic(c, name, 1);
		group = contract_group(c, topic, "g");
		contract_send(c, topic, 0, "a\nb\nc\nd\n");
		assert_text(contract_one(c, group), "0:0=a");
		c->ops->put(group);
		c->ops->put(topic);
		contract_reopen(c); /* so that logs are opened in the midst of it */
		topic = contract_lookup(c, c->root, ENGINE_TOPIC, name);
		group = contract_lookup(c, topic, ENGINE_GROUP, "g");
		fault_arm(FAULT_OPEN | FAULT_MKDIR | FAULT_WRITE | FAULT_TRUNCATE | FAULT_RENAME, n, ENOSPC, false);
		assert_ok(c->ops->ack(group, 0, 0));
		assert_ok(c->ops->seek(group, 0, ENGINE_SEEK_OFFSET, 2));
		assert_ok(contract_set(c, topic, "flush.ms", "777"));
		assert_ok(c->ops->partition_purge(topic, 0, 1));
		assert_text(contract_read(c, topic, 0, 1), "1=b 2=c 3=d");
		assert_ok(c->ops->partition_purge(topic, ENGINE_ANY, ENGINE_OFFSET_NONE));
		assert_ok(c->ops->remove(topic));
		c->ops->put(group);
		c->ops->put(topic);
		contract_close(c);
		reached = fault_disarm();
		contract_open(c);
		cr_assert(is_ok(c, NULL), "at %" PRIu64 ": %s", n, c->text);
		assert_err(c->ops->lookup(c->engine, c->root, ENGINE_TOPIC, name, &topic), ENOENT);
	}
	cr_assert_gt(reached, 8);
}
