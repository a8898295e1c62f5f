/*
 * A batch for several partitions of a topic, or several priorities of a queue, is there whole or not at all: whichever write
 * fails, and at whatever moment the daemon is killed or the power goes; and what was synced is there.
 */
#include <fcntl.h>
#include <unistd.h>

#include "engine/local_internal.h"
#include "tests/lib/contract.h"
#include "tests/lib/crash.h"
#include "tests/lib/fault.h"
#include "tests/lib/nosync.h"
#include "tests/lib/powercut.h"

#define PARTITIONS 3u
#define MESSAGES 7u
#define BATCHES 12u

static void make_objects(struct contract *c)
{
	struct engine_owner owner = { 0, 0, 0755 };
	struct engine_object *queue = NULL, *topic = contract_topic(c, "t", PARTITIONS);

	assert_ok(c->ops->create(c->engine, c->root, ENGINE_QUEUE, "q", &owner, &queue));
	c->ops->put(queue);
	c->ops->put(topic);
}

/* Messages "N.0", "N.1", ... with keys and priorities. */
static int send(struct contract *c, enum engine_kind kind, unsigned n, bool sync)
{
	struct engine_object *object = contract_lookup(c, c->root, kind, kind == ENGINE_TOPIC ? "t" : "q");
	struct engine_producer *producer = NULL;
	struct engine_props props[MESSAGES];
	struct engine_batch batch;
	char data[MESSAGES * 16] = "", keys[MESSAGES][16];
	int rc;

	for (unsigned i = 0; i < MESSAGES; i++) {
		props[i] = ENGINE_PROPS_INIT;
		snprintf(keys[i], sizeof(keys[i]), "%u", i * 7 + n);
		props[i].key = (struct engine_span){ keys[i], strlen(keys[i]) };
		props[i].priority = (int32_t)(i % 3);
		if (i == 3 && kind == ENGINE_QUEUE)
			props[i].delay_ms = 3600000;
		snprintf(data + strlen(data), 16, "%u.%u\n", n, i);
	}
	if (kind == ENGINE_TOPIC)
		producer = contract_producer(c, object, ENGINE_ANY);
	else
		assert_ok(c->ops->queue->producer_open(object, ENGINE_ANY, false, &producer));
	batch = contract_batch(data);
	batch.props = props;
	rc = contract_send_batch(c, producer, &batch);
	if (rc == 0 && sync)
		rc = contract_sync(c, producer);
	c->ops->producer_close(producer);
	c->ops->put(object);
	return rc;
}

/* ---- looking ---- */

struct counts {
	struct contract *c;
	struct engine_object *queue;
	unsigned of[2 * MESSAGES * BATCHES * 100];
};

static void count_view(struct counts *counts, const struct engine_view *view)
{
	const char *data = view->batch.data;

	for (uint32_t i = 0; i < view->batch.count; i++) {
		unsigned n, m;

		cr_assert_eq(sscanf(data, "%u.%u\n", &n, &m), 2);
		cr_assert(m < MESSAGES && n * MESSAGES + m < sizeof(counts->of) / sizeof(counts->of[0]));
		counts->of[n * MESSAGES + m]++;
		data += view->batch.lengths[i] + 1;
	}
}

static bool count_message(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct counts *counts = ctx;
	struct engine_view view;

	(void)next;
	assert_ok(counts->c->ops->queue->message_read(counts->queue, stat->id, &counts->c->scratch, &view));
	count_view(counts, &view);
	return true;
}

static void look(struct contract *c, struct counts *counts)
{
	struct engine_object *topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	struct engine_view view;

	memset(counts, 0, sizeof(*counts));
	counts->c = c;
	counts->queue = contract_lookup(c, c->root, ENGINE_QUEUE, "q");
	for (unsigned state = 0; state < ENGINE_STATE_COUNT; state++) {
		uint64_t cursor[2] = { 0 };

		assert_ok(c->ops->queue->message_list(
		    counts->queue, (enum engine_message_state)state, ENGINE_ANY, NULL, cursor, count_message, counts));
	}
	for (uint32_t p = 0; p < PARTITIONS; p++) {
		uint64_t offset = 0;

		while (c->ops->partition_read(topic, p, offset, UINT32_MAX, &c->scratch, &view) == 0) {
			count_view(counts, &view);
			offset = view.offset + view.batch.count;
		}
	}
	c->ops->put(topic);
	c->ops->put(counts->queue);
}

/* Is batch n there? Whole, once, or not at all. */
static bool is_there(const struct counts *counts, unsigned n, const char *when)
{
	const unsigned *of = &counts->of[(size_t)n * MESSAGES];
	unsigned there = 0;

	for (unsigned m = 0; m < MESSAGES; m++) {
		cr_assert_leq(of[m], 1, "%s: message %u.%u is there %u times", when, n, m, of[m]);
		there += of[m];
	}
	cr_assert(there == 0 || there == MESSAGES, "%s: %u messages of batch %u are there", when, there, n);
	return there > 0;
}

/* ---- a bad or full disk ---- */

static void fails(enum engine_kind kind, int err, bool sticky)
{
	static struct counts counts;
	struct contract *c = calloc(1, sizeof(*c));
	unsigned n = 0, refused = 0;
	uint64_t calls;

	tmpdir_in_memory();
	nosync_install();
	tmpdir_make(&c->dir);
	c->persists = true;
	snprintf(c->source, sizeof(c->source), "%s/store", c->dir.path);
	contract_open(c);
	make_objects(c);
	do {
		int rc;

		n++;
		fault_arm(FAULT_WRITE, n, err, sticky);
		rc = send(c, kind, n, false);
		calls = fault_disarm();
		look(c, &counts);
		if (rc < 0)
			cr_assert_not(is_there(&counts, n, strerrorname_np(-rc)), "write %u: refused, and there", n);
		for (int i = 0; i < 2; i++) {
			contract_reopen(c);
			look(c, &counts);
			cr_assert_eq(is_there(&counts, n, "opened again"), rc == 0, "write %u: %d", n, rc);
		}
		refused += rc < 0;
	} while (calls >= n);
	cr_assert(n > 5 && refused > 0, "%u writes, %u refused", n, refused);
	contract_close(c);
	engine_scratch_release(&c->scratch);
	tmpdir_remove(&c->dir);
	free(c);
}

Test(local_whole, topic_on_a_bad_disk)
{
	fails(ENGINE_TOPIC, EIO, false);
}

Test(local_whole, topic_on_a_full_disk)
{
	fails(ENGINE_TOPIC, ENOSPC, false);
}

Test(local_whole, queue_on_a_bad_disk)
{
	fails(ENGINE_QUEUE, EIO, false);
}

Test(local_whole, queue_on_a_full_disk)
{
	fails(ENGINE_QUEUE, ENOSPC, false);
}

/* Nor can it be said, then, that the note is none: it comes later. */
Test(local_whole, topic_on_a_disk_that_stays_full)
{
	fails(ENGINE_TOPIC, ENOSPC, true);
}

Test(local_whole, queue_on_a_disk_that_stays_full)
{
	fails(ENGINE_QUEUE, ENOSPC, true);
}

/* ---- crashes ---- */

struct run {
	struct powercut *cut;
	size_t ends[BATCHES]; /* in changes of files, when each was sent */
};

static bool is_synced(unsigned n)
{
	return n % 4 == 3;
}

static enum engine_kind kind_of(unsigned n)
{
	return n / 4 % 2 == 0 ? ENGINE_TOPIC : ENGINE_QUEUE; /* a sync is of the batches of its object */
}

static void record(struct run *r)
{
	struct contract *c = calloc(1, sizeof(*c));
	int fd;

	tmpdir_make(&c->dir);
	c->persists = true;
	snprintf(c->source, sizeof(c->source), "%s/store", c->dir.path);
	contract_open(c);
	make_objects(c);
	fd = open(c->source, O_RDONLY | O_DIRECTORY);
	r->cut = powercut_start_store(fd, "catalog", "reserve");
	close(fd);
	for (unsigned n = 0; n < BATCHES; n++) {
		assert_ok(send(c, kind_of(n), n, is_synced(n)));
		if (n == 6)
			assert_ok(checkpoint_run((struct local *)c->engine));
		r->ends[n] = powercut_count(r->cut);
	}
	powercut_stop(r->cut);
	contract_close(c);
	engine_scratch_release(&c->scratch);
	tmpdir_remove(&c->dir);
	free(c);
}

static void check(const struct run *r, size_t n, uint64_t seed, bool kill)
{
	static struct counts counts;
	struct contract *c = calloc(1, sizeof(*c));
	char when[64];

	snprintf(when, sizeof(when), "%s at change %zu (%" PRIu64 ")", kill ? "kill" : "power cut", n, seed);
	crash_make(c, r->cut, n, seed, kill);
	contract_open(c);
	for (int again = 0; again < 2; again++) {
		look(c, &counts);
		for (unsigned b = 0; b < BATCHES; b++) {
			unsigned synced = b | 3; /* the batch after which it was */
			bool must = r->ends[kill ? b : synced] <= n;

			cr_assert(is_there(&counts, b, when) || !must, "%s: batch %u is lost", when, b);
		}
		contract_reopen(c);
	}
	contract_close(c);
	engine_scratch_release(&c->scratch);
	tmpdir_remove(&c->dir);
	free(c);
}

/* seed 0: nothing is there that was not synced; 1: all of it; others: some of it, by chance. */
Test(local_whole, crashes)
{
	struct run r;

	tmpdir_in_memory();
	nosync_install();
	record(&r);
	for (size_t n = 0; n <= powercut_count(r.cut); n++) {
		check(&r, n, 0, true);
		check(&r, n, 0, false);
		for (uint64_t seed = 1; seed < 6; seed++)
			check(&r, n, seed > 1 ? n * 6 + seed : 1, false);
	}
	cr_assert_gt(powercut_count(r.cut), 60);
	powercut_free(r.cut);
}

/* ---- refused, and then the power goes ---- */

/* The n-th write while a batch for several priorities is sent fails. Returns whether it was refused. */
static bool refuse(struct contract *c, uint64_t n, struct powercut **ret_cut, uint64_t *ret_calls)
{
	int rc;

	contract_open(c);
	make_objects(c);
	assert_ok(send(c, ENGINE_QUEUE, 0, true)); /* its lanes are made */
	timers_stop((struct local *)c->engine);
	*ret_cut = powercut_start_store(((struct local *)c->engine)->store.dirfd, "catalog", "reserve");
	fault_arm(FAULT_WRITE | FAULT_MINE, n, ENOSPC, false);
	rc = send(c, ENGINE_QUEUE, 1, false);
	*ret_calls = fault_disarm();
	powercut_stop(*ret_cut);
	contract_close(c);
	return rc < 0;
}

/* The note may be on disk, and what says that nothing of it has happened has to be as well before anybody is told so. */
Test(local_whole, refused_for_good)
{
	static struct counts counts;
	unsigned refused = 0;
	uint64_t calls, n = 0;

	tmpdir_in_memory();
	nosync_install();
	do {
		struct contract *c = calloc(1, sizeof(*c));
		struct powercut *cut;
		bool is_refused;

		n++;
		tmpdir_make(&c->dir);
		c->persists = true;
		snprintf(c->source, sizeof(c->source), "%s/store", c->dir.path);
		is_refused = refuse(c, n, &cut, &calls);
		tmpdir_remove(&c->dir);
		for (uint64_t seed = 0; is_refused && seed < 30; seed++) {
			char when[64];

			snprintf(when, sizeof(when), "write %" PRIu64 " failed, power cut %" PRIu64, n, seed);
			crash_make(c, cut, powercut_count(cut), seed, false);
			contract_open(c);
			look(c, &counts);
			cr_assert(is_there(&counts, 0, when));
			cr_assert_not(is_there(&counts, 1, when), "%s: it was refused, and is there", when);
			contract_close(c);
			tmpdir_remove(&c->dir);
		}
		refused += is_refused;
		powercut_free(cut);
		engine_scratch_release(&c->scratch);
		free(c);
	} while (calls >= n);
	cr_assert_gt(refused, 3);
}
