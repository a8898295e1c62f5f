/*
 * A checkpoint syncs many logs by one call of the file system, and each by itself where that fails; and those that a start has brought
 * back from the journal.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "engine/io.h"
#include "engine/local_internal.h"
#include "tests/lib/contract.h"
#include "tests/lib/crash.h"
#include "tests/lib/nosync.h"

#define LOGS LOCAL_SETTLE_TOGETHER
#define FEW_SYNCS 12u /* of the journal, the catalog, directories */

#define SETTLE_TEST(name)                                                                                              \
	static void name(struct contract *c);                                                                          \
	Test(local_settle, name)                                                                                       \
	{                                                                                                              \
		tmpdir_on_disk(); /* memory has no syncfs that is trusted */                                           \
		contract_run(true, name);                                                                              \
	}                                                                                                              \
	static void name(struct contract *c)

static _Atomic unsigned int syncs, all_syncs;
static int all_syncs_give;
static bool unflushed; /* syncfs came, and nothing that flushes the disk's cache */
static bool too_early; /* then something was written */

static int count_sync(int fd)
{
	atomic_fetch_add(&syncs, 1);
	return io_posix.fdatasync(fd);
}

static int count_all_syncs(int fd)
{
	atomic_fetch_add(&all_syncs, 1);
	unflushed = true;
	return all_syncs_give < 0 ? all_syncs_give : io_posix.syncfs(fd);
}

static int flush(int fd)
{
	unflushed = false;
	return io_posix.fsync(fd);
}

static ssize_t write_something(int fd, const struct iovec *iov, int count, off_t pos)
{
	too_early = too_early || unflushed;
	return io_posix.pwritev(fd, iov, count, pos);
}

/* A message in each of so many topics, confirmed: it is in the journal. Then a checkpoint: how often that syncs. */
static void settle(struct contract *c, unsigned int topics)
{
	static struct io_ops counting;
	struct engine_batch batch = contract_batch("m\n");

	for (unsigned int i = 0; i < topics; i++) {
		char name[32];
		struct engine_object *topic;
		struct engine_producer *producer;

		snprintf(name, sizeof(name), "t%u", i);
		topic = contract_topic(c, name, 1);
		producer = contract_producer(c, topic, 0);
		assert_ok(contract_send_batch(c, producer, &batch));
		assert_ok(contract_sync(c, producer));
		c->ops->producer_close(producer);
		c->ops->put(topic);
	}
	counting = io_posix;
	counting.fdatasync = count_sync;
	counting.syncfs = count_all_syncs;
	counting.fsync = flush;
	counting.pwritev = write_something;
	io = &counting;
	assert_ok(checkpoint_run((struct local *)c->engine));
	io = &io_posix;
}

static void skip_unless_together(struct contract *c)
{
	struct statfs fs;

	assert_ok(fstatfs(((struct local *)c->engine)->store.dirfd, &fs));
	if (fs.f_type != 0xef53 && fs.f_type != 0x58465342)
		cr_skip("the file system of the tests is not one whose syncfs is trusted");
}

/* All is there still when the engine was opened again, and when its log is checked from its marks. */
static void expect_all(struct contract *c, unsigned int topics)
{
	contract_close(c);
	contract_open(c);
	for (unsigned int i = 0; i < topics; i++) {
		char name[32];
		struct engine_object *topic;

		snprintf(name, sizeof(name), "t%u", i);
		topic = contract_lookup(c, c->root, ENGINE_TOPIC, name);
		assert_text(contract_read(c, topic, 0, 0), "0=m");
		c->ops->put(topic);
	}
}

/* Few logs are synced each, data and index. */
SETTLE_TEST(few)
{
	settle(c, 5);
	cr_assert_eq(atomic_load(&all_syncs), 0);
	cr_assert_geq(atomic_load(&syncs), 10);
	expect_all(c, 5);
}

/* Many are synced together. Before a mark says so, a directory is, which flushes the disk's cache. */
SETTLE_TEST(many)
{
	skip_unless_together(c);
	settle(c, LOGS);
	cr_assert(!too_early && !unflushed);
	cr_assert_eq(atomic_load(&all_syncs), 1);
	cr_assert_leq(atomic_load(&syncs), FEW_SYNCS);
	expect_all(c, LOGS);
}

/* An error may be of anybody's file: each is synced by itself then, and tells its own. */
SETTLE_TEST(error_of_all)
{
	skip_unless_together(c);
	all_syncs_give = -EIO;
	settle(c, LOGS);
	cr_assert_eq(atomic_load(&all_syncs), 1);
	cr_assert_geq(atomic_load(&syncs), 2 * LOGS);
	expect_all(c, LOGS);
}

/* ---- a second power cut ---- */

static struct powercut *record(struct contract *c)
{
	int fd = open(c->source, O_RDONLY | O_DIRECTORY);
	struct powercut *cut = powercut_start_store(fd, "catalog", "reserve");

	close(fd);
	return cut;
}

static void expect_confirmed(struct contract *c, size_t n, uint64_t seed)
{
	struct engine_object *topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	const char *text = contract_read(c, topic, 0, 0);

	cr_assert_str_eq(text, "0=m 1=a\nb 2=m", "after %zu changes, seed %" PRIu64 ": %s", n, seed, text);
	c->ops->put(topic);
}

/* Messages that are confirmed, by the journal: what a power cut leaves of the store if nothing else came to the disk. */
static void leave_in_journal(struct contract *c)
{
	static const uint32_t length = 3;
	struct engine_batch line = contract_batch("m\n"), two_lines = contract_batch("a\nb\n");
	const struct engine_batch *const batches[] = { &line, &two_lines, &line };
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_producer *producer = contract_producer(c, topic, 0);
	struct powercut *cut;

	two_lines.count = 1;
	two_lines.lengths = &length;
	timers_stop((struct local *)c->engine);
	assert_ok(checkpoint_run((struct local *)c->engine));
	cut = record(c);
	for (size_t i = 0; i < 3; i++) {
		assert_ok(contract_send_batch(c, producer, batches[i]));
		assert_ok(contract_sync(c, producer));
	}
	powercut_stop(cut);
	c->ops->producer_close(producer);
	c->ops->put(topic);
	crash_replace(c, cut, powercut_count(cut), 0, false);
	powercut_free(cut);
}

/* The power goes again while the next start brings them to their log, or its checkpoint drops the journal, or behind that. */
static void second_power_cut(struct contract *c)
{
	struct powercut *cut;

	nosync_install();
	leave_in_journal(c);
	cut = record(c);
	contract_open(c);
	timers_stop((struct local *)c->engine);
	expect_confirmed(c, 0, 0);
	assert_ok(checkpoint_run((struct local *)c->engine));
	powercut_stop(cut);
	for (size_t n = 0; n <= powercut_count(cut); n++) {
		for (uint64_t seed = 0; seed < 3; seed++) {
			crash_replace(c, cut, n, seed < 2 ? seed : n + seed, false);
			contract_open(c);
			expect_confirmed(c, n, seed);
		}
	}
	powercut_free(cut);
}

Test(local_settle, second_power_cut)
{
	contract_run(true, second_power_cut);
}
