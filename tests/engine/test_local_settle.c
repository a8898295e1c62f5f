/*
 * A checkpoint syncs many logs by one call of the file system, and each by itself where that fails.
 */
#include <errno.h>
#include <stdatomic.h>
#include <sys/vfs.h>

#include "engine/io.h"
#include "engine/local_internal.h"
#include "tests/lib/contract.h"

#define LOGS LOCAL_SETTLE_TOGETHER
#define FEW_SYNCS 12u /* of the journal, the catalog, directories */

#define SETTLE_TEST(name)                                                                                              \
	static void name(struct contract *c);                                                                          \
	Test(local_settle, name)                                                                                       \
	{                                                                                                              \
		contract_run(true, name);                                                                              \
	}                                                                                                              \
	static void name(struct contract *c)

static _Atomic unsigned int syncs, all_syncs;
static int all_syncs_give;

static int count_sync(int fd)
{
	atomic_fetch_add(&syncs, 1);
	return io_posix.fdatasync(fd);
}

static int count_all_syncs(int fd)
{
	atomic_fetch_add(&all_syncs, 1);
	return all_syncs_give < 0 ? all_syncs_give : io_posix.syncfs(fd);
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

/* Many are synced together. */
SETTLE_TEST(many)
{
	skip_unless_together(c);
	settle(c, LOGS);
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
