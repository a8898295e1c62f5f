/*
 * Publishing to several targets is whole: whatever moment the daemon dies at, and whatever write fails, in the end all targets
 * have a message, once, or none has it.
 *
 * A crash is made by a child whose n-th change of a file is its last, and is done by half if it is a write; n goes from 1 until the
 * child is through. What is left is first recovered by a second child, which dies as early on, and then looked at.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/io.h"
#include "engine/local_internal.h"
#include "tests/lib/contract_exchange.h"
#include "tests/lib/crash.h"
#include "tests/lib/fault.h"
#include "tests/lib/nosync.h"
#include "tests/lib/powercut.h"

#define COMMIT_TEST(name)                                                                                              \
	static void name(struct contract *c);                                                                          \
	Test(local_commit, name)                                                                                       \
	{                                                                                                              \
		tmpdir_in_memory(); /* a crash here leaves what processes see, on any file system */                   \
		nosync_install();                                                                                      \
		contract_run(true, name);                                                                              \
	}                                                                                                              \
	static void name(struct contract *c)

#define TARGETS 5u
#define MESSAGES 6u
#define PUBLISHINGS 5u /* before the power goes */

static const char *const targets[TARGETS] = { "t", "u", "q", "r", "s" };

/* ---- a child that dies ---- */

static uint64_t changes_left;
static const struct io_ops *alive; /* what does it while some are left */

static bool is_last(void)
{
	return changes_left > 0 && --changes_left == 0;
}

static ssize_t dying_pwritev(int fd, const struct iovec *iov, int count, off_t pos)
{
	if (is_last()) {
		alive->pwritev(fd, &(struct iovec){ iov->iov_base, iov->iov_len / 2 }, 1, pos);
		_exit(1);
	}
	return alive->pwritev(fd, iov, count, pos);
}

static int dying_fdatasync(int fd)
{
	if (is_last())
		_exit(1);
	return alive->fdatasync(fd);
}

static int dying_unlink(int dirfd, const char *name, int flags)
{
	if (is_last())
		_exit(1);
	return alive->unlink(dirfd, name, flags);
}

static int dying_rename(int old_dirfd, const char *old_name, int new_dirfd, const char *new_name)
{
	if (is_last())
		_exit(1);
	return alive->rename(old_dirfd, old_name, new_dirfd, new_name);
}

static void die_after(uint64_t changes)
{
	static struct io_ops dying;

	alive = io;
	dying = *alive;
	dying.pwritev = dying_pwritev;
	dying.fdatasync = dying_fdatasync;
	dying.unlink = dying_unlink;
	dying.rename = dying_rename;
	changes_left = changes;
	io = &dying;
}

/* ---- publishing ---- */

static void make_targets(struct contract *c)
{
	static const enum engine_kind kinds[TARGETS] = { ENGINE_TOPIC, ENGINE_TOPIC, ENGINE_QUEUE, ENGINE_QUEUE,
		ENGINE_QUEUE };
	struct engine_owner owner = { 0, 0, 0755 };
	struct engine_object *exchange, *target;

	assert_ok(c->ops->create(c->engine, c->root, ENGINE_EXCHANGE, "e", &owner, &exchange));
	assert_ok(c->ops->exchange->pattern_add(exchange, "#"));
	assert_ok(c->ops->exchange->pattern_add(exchange, "some"));
	for (unsigned i = 0; i < TARGETS; i++) {
		assert_ok(c->ops->create(c->engine, c->root, kinds[i], targets[i], &owner, &target));
		if (i == 1)
			assert_ok(contract_set(c, target, "partitions", "3"));
		assert_ok(c->ops->exchange->bind(exchange, i == 4 ? "some" : "#", targets[i], target));
		c->ops->put(target);
	}
	c->ops->put(exchange);
}

/* MESSAGES messages "N.0", "N.1", ...: with keys, priorities and delays; the last is the only one for "s". */
static int publish(struct contract *c, unsigned n, bool sync)
{
	struct engine_props props[MESSAGES];
	struct engine_object *exchange = contract_lookup(c, c->root, ENGINE_EXCHANGE, "e");
	struct engine_producer *producer = contract_producer(c, exchange, ENGINE_ANY);
	struct engine_batch batch;
	char data[MESSAGES * 16] = "", keys[MESSAGES][16];
	int rc;

	for (unsigned i = 0; i < MESSAGES; i++) {
		props[i] = ENGINE_PROPS_INIT;
		snprintf(keys[i], sizeof(keys[i]), "%u", i * 7 + n);
		if (i % 2 == 0)
			props[i].key = (struct engine_span){ keys[i], strlen(keys[i]) };
		props[i].priority = (int32_t)(i % 3);
		if (i == 3)
			props[i].delay_ms = 3600000;
		props[i].routing_key =
		    (struct engine_span){ i == MESSAGES - 1 ? "some" : "k", i == MESSAGES - 1 ? 4 : 1 };
		snprintf(data + strlen(data), 16, "%u.%u\n", n, i);
	}
	batch = contract_batch(data);
	batch.props = props;
	rc = contract_send_batch(c, producer, &batch);
	if (rc == 0 && sync)
		rc = contract_sync(c, producer);
	c->ops->producer_close(producer);
	c->ops->put(exchange);
	return rc;
}

/* ---- looking ---- */

struct looking {
	struct contract *c;
	struct engine_object *queue;
	unsigned n, some; /* publishings */
	unsigned (*counts)[MESSAGES];
};

static void count_view(const struct looking *l, const struct engine_view *view)
{
	const char *data = view->batch.data;

	for (uint32_t i = 0; i < view->batch.count; i++) {
		unsigned n, m;

		cr_assert_eq(sscanf(data, "%u.%u\n", &n, &m), 2);
		if (n >= l->n && n - l->n < l->some)
			l->counts[n - l->n][m]++;
		data += view->batch.lengths[i] + 1;
	}
}

static bool count_message(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct looking *l = ctx;
	struct engine_view view;

	(void)next;
	assert_ok(l->c->ops->queue->message_read(l->queue, stat->id, &l->c->scratch, &view));
	count_view(l, &view);
	return true;
}

/* How often each message of so many publishings, from the n-th on, is there. */
static void count_in(struct contract *c, unsigned target, unsigned n, unsigned some, unsigned counts[][MESSAGES])
{
	struct engine_object *object =
	    contract_lookup(c, c->root, target < 2 ? ENGINE_TOPIC : ENGINE_QUEUE, targets[target]);
	struct looking l = { c, object, n, some, counts };
	struct engine_view view;

	for (unsigned state = 0; target >= 2 && state < ENGINE_STATE_COUNT; state++) {
		uint64_t cursor[2] = { 0 };

		assert_ok(c->ops->queue->message_list(
		    object, (enum engine_message_state)state, ENGINE_ANY, NULL, cursor, count_message, &l));
	}
	for (uint32_t p = 0; target < 2 && p < contract_stat(c, object).partitions; p++) {
		uint64_t offset = 0;

		while (c->ops->partition_read(object, p, offset, UINT32_MAX, &c->scratch, &view) == 0) {
			count_view(&l, &view);
			offset = view.offset + view.batch.count;
		}
	}
	c->ops->put(object);
}

/* How many publishings there are of so many, from the n-th on; of each is there all or nothing, and once. */
static unsigned are_there(struct contract *c, unsigned n, unsigned some)
{
	unsigned totals[PUBLISHINGS + 1] = { 0 }, there = 0;

	for (unsigned t = 0; t < TARGETS; t++) {
		unsigned counts[PUBLISHINGS + 1][MESSAGES] = { 0 };

		count_in(c, t, n, some, counts);
		for (unsigned i = 0; i < some * MESSAGES; i++) {
			unsigned p = i / MESSAGES, m = i % MESSAGES;

			if (t < 4 || m == MESSAGES - 1)
				totals[p] += counts[p][m];
			else
				cr_assert_eq(counts[p][m], 0);
			cr_assert_leq(
			    counts[p][m], 1, "message %u.%u came to %s %u times", n + p, m, targets[t], counts[p][m]);
		}
	}
	for (unsigned p = 0; p < some; p++) {
		cr_assert(totals[p] == 0 || totals[p] == 4 * MESSAGES + 1, "publishing %u came to %u places", n + p,
		    totals[p]);
		there += totals[p] > 0;
	}
	return there;
}

static bool is_there(struct contract *c, unsigned n)
{
	return are_there(c, n, 1) > 0;
}

/* ---- tests ---- */

/* Runs `what` in a child that dies at its n-th change. True: it did not come so far. */
static bool child_survives(
    struct contract *c, uint64_t changes, void (*what)(struct contract *c, unsigned n), unsigned n)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		die_after(changes);
		what(c, n);
		_exit(0);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert(WIFEXITED(status), "the child was killed by signal %d", WTERMSIG(status));
	cr_assert_neq(WEXITSTATUS(status), 3, "the child met something else than it should");
	return WEXITSTATUS(status) == 0;
}

static void open_and_close(struct contract *c, unsigned n)
{
	(void)n;
	contract_open(c);
	contract_close(c);
}

static void publish_and_close(struct contract *c, unsigned n)
{
	contract_open(c);
	publish(c, n, n % 2 == 0);
	contract_close(c);
}

/* The daemon dies at each step of publishing, of the checkpoint after it, and of the recovery from that. */
COMMIT_TEST(dies_at_each_step)
{
	unsigned n = 0, there = 0;
	bool survived = false;

	make_targets(c);
	while (!survived) {
		n++;
		contract_close(c);
		survived = child_survives(c, n, publish_and_close, n);
		child_survives(c, 1 + n % 23, open_and_close, n);
		contract_open(c);
		there += is_there(c, n);
		contract_reopen(c);
		is_there(c, n);
	}
	cr_assert_gt(n, 20, "it was over after %u steps", n);
	cr_assert(there > 5 && there < n, "%u of %u are there", there, n);
}

/* Each write fails once: then either the caller is told, and nothing is there, or all comes to all, at the latest with the next start. */
static void fails(struct contract *c, int err)
{
	unsigned n = 0;
	uint64_t calls;

	make_targets(c);
	do {
		int rc;

		n++;
		fault_arm(FAULT_WRITE, n, err, false);
		rc = publish(c, n, false);
		calls = fault_disarm();
		if (rc < 0)
			cr_assert_not(is_there(c, n), "write %u: %s, and it is there", n, strerrorname_np(-rc));
		contract_reopen(c);
		cr_assert_eq(is_there(c, n), rc == 0, "write %u: %s", n, rc < 0 ? strerrorname_np(-rc) : "0");
		contract_reopen(c);
		cr_assert_eq(is_there(c, n), rc == 0);
	} while (calls >= n);
	cr_assert_gt(n, 5);
}

COMMIT_TEST(write_fails_eio)
{
	fails(c, EIO);
}

COMMIT_TEST(write_fails_enospc)
{
	fails(c, ENOSPC);
}

/* What a disk that was full kept back, of one target or of several, comes with the next checkpoint, while the daemon goes on. */
static bool has_come(struct contract *c, void *ctx)
{
	unsigned counts[MESSAGES] = { 0 };

	for (unsigned t = 0; t < TARGETS; t++)
		count_in(c, t, *(unsigned *)ctx, 1, &counts);
	return counts[0] == 4 && counts[MESSAGES - 1] == 5;
}

COMMIT_TEST(comes_later)
{
	uint64_t writes;

	make_targets(c);
	fault_arm(FAULT_WRITE, 0, ENOSPC, false);
	assert_ok(publish(c, 100, false));
	writes = fault_disarm();
	for (unsigned n = 1; n <= 2; n++) {
		/* Of those that go to the logs, behind the note; one, and then all from there on. */
		fault_arm(FAULT_WRITE | FAULT_MINE, writes - 2, ENOSPC, n == 2);
		assert_ok(publish(c, n, false));
		fault_disarm();
		contract_wait(c, has_come, &n, "all targets have it");
		cr_assert(is_there(c, n));
		contract_reopen(c);
		cr_assert(is_there(c, n));
	}
}

/* ---- dead letters ---- */

/* Criterion cannot be told of a failure by a child: it ends with this status. */
#define CHILD_FAILED 3
#define in_child(expression)                                                                                           \
	do {                                                                                                           \
		if (!(expression)) {                                                                                   \
			fprintf(stderr, "in the child: %s is false (%s)\n", #expression, engine_reason());             \
			_exit(CHILD_FAILED);                                                                           \
		}                                                                                                      \
	} while (0)

static bool is_forwarded(struct contract *c, void *ctx)
{
	struct engine_queue_stat stat;

	assert_ok(c->ops->queue->queue_stat(ctx, &stat));
	return stat.ready == 0;
}

/* One that dies in "dying", whose dead letters go through the exchange. */
static void let_die(struct contract *c, unsigned n)
{
	struct engine_object *queue, *dlq;
	struct engine_producer *producer;
	struct engine_batch batch;
	struct engine_consumer *consumer;
	struct engine_view view;
	char text[16];

	contract_open(c);
	queue = contract_lookup(c, c->root, ENGINE_QUEUE, "dying");
	snprintf(text, sizeof(text), "%u.0\n", n);
	batch = contract_batch(text);
	in_child(c->ops->queue->producer_open(queue, ENGINE_ANY, false, &producer) == 0);
	in_child(contract_send_batch(c, producer, &batch) == 0);
	c->ops->producer_close(producer);
	assert_ok(c->ops->queue->consumer_open(queue, ENGINE_CONSUME_ONE, false, 0, &consumer));
	in_child(c->ops->consumer_fetch(consumer, 1, SIZE_MAX, &c->scratch, &view) == 1);
	in_child(c->ops->queue->settle(queue, ENGINE_REJECT, view.deliveries[0].id, view.deliveries[0].id) == 1);
	c->ops->consumer_close(consumer);
	dlq = contract_lookup(c, queue, ENGINE_QUEUE, "dlq");
	contract_wait(c, is_forwarded, dlq, "dead letters go on");
	c->ops->put(dlq);
	c->ops->put(queue);
	contract_close(c);
}

static unsigned count_in_queue(struct contract *c, struct engine_object *queue, unsigned n)
{
	unsigned counts[MESSAGES] = { 0 };
	struct looking l = { c, queue, n, 1, &counts };

	for (unsigned state = 0; state < ENGINE_STATE_COUNT; state++) {
		uint64_t cursor[2] = { 0 };

		assert_ok(c->ops->queue->message_list(
		    queue, (enum engine_message_state)state, ENGINE_ANY, NULL, cursor, count_message, &l));
	}
	return counts[0];
}

/* It is where it was, or with all targets; once, and never nowhere, unless it was never accepted. Returns whether it has died. */
static bool has_died(struct contract *c, unsigned n, bool accepted)
{
	struct engine_object *queue = contract_lookup(c, c->root, ENGINE_QUEUE, "dying");
	struct engine_object *dlq = contract_lookup(c, queue, ENGINE_QUEUE, "dlq");
	unsigned living, total = 0;

	contract_wait(c, is_forwarded, dlq, "dead letters go on");
	timers_stop((struct local *)c->engine); /* what was under way is over */
	living = count_in_queue(c, queue, n);
	for (unsigned t = 0; t < 4; t++) {
		unsigned counts[MESSAGES] = { 0 };

		count_in(c, t, n, 1, &counts);
		cr_assert_leq(counts[0], 1, "%u came to %s %u times", n, targets[t], counts[0]);
		total += counts[0];
	}
	cr_assert((living == 1 && total == 0) || (living == 0 && total == 4) || (!accepted && living + total == 0),
	    "%u is there %u times and came to %u places", n, living, total);
	c->ops->put(dlq);
	c->ops->put(queue);
	return total > 0;
}

/* Takes what is ready or leased away, so that the next child gets its own. */
static void empty(struct contract *c, struct engine_object *queue)
{
	struct engine_queue_stat stat;

	assert_ok(c->ops->queue->purge(queue));
	assert_ok(c->ops->queue->queue_stat(queue, &stat));
	if (stat.unacked > 0)
		cr_assert_eq(c->ops->queue->settle(queue, ENGINE_ACK, 0, UINT64_MAX), (int64_t)stat.unacked);
}

/* The daemon dies at each step of a reject whose dead letter goes through an exchange: it is never lost, and never there twice. */
COMMIT_TEST(dead_letter_at_each_step)
{
	struct engine_owner owner = { 0, 0, 0755 };
	struct engine_object *queue;
	unsigned n = 0, died = 0;
	bool survived = false;

	make_targets(c);
	assert_ok(c->ops->create(c->engine, c->root, ENGINE_QUEUE, "dying", &owner, &queue));
	assert_ok(c->ops->set_setting(queue, engine_setting_find(ENGINE_QUEUE, "dead.letter.to"), "exchanges/e"));
	assert_ok(c->ops->set_setting(queue, engine_setting_find(ENGINE_QUEUE, "dead.letter.routing.key"), "k"));
	c->ops->put(queue);
	while (!survived) {
		n++;
		contract_close(c);
		survived = child_survives(c, n, let_die, n);
		child_survives(c, 1 + n % 19, open_and_close, n);
		contract_open(c);
		died += has_died(c, n, survived);
		/* What is left would be delivered to the next child. */
		queue = contract_lookup(c, c->root, ENGINE_QUEUE, "dying");
		empty(c, queue);
		c->ops->put(queue);
		contract_reopen(c);
	}
	cr_assert(n > 20 && died > 3, "%u of %u died", died, n);
}

/* ---- the power goes ---- */

/* What publishes is recorded: nothing of it is confirmed but the third, and with it what came before. */
static struct powercut *record(size_t *ret_confirmed)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct powercut *cut;
	int fd;

	tmpdir_make(&c->dir);
	c->persists = true;
	snprintf(c->source, sizeof(c->source), "%s/store", c->dir.path);
	contract_open(c);
	make_targets(c);
	fd = open(c->source, O_RDONLY | O_DIRECTORY);
	cut = powercut_start_store(fd, "catalog", "reserve");
	close(fd);
	for (unsigned n = 0; n < PUBLISHINGS; n++) {
		assert_ok(publish(c, n, n == 2));
		if (n == 2)
			*ret_confirmed = powercut_count(cut);
		if (n == 3)
			assert_ok(checkpoint_run((struct local *)c->engine));
	}
	powercut_stop(cut);
	contract_close(c);
	engine_scratch_release(&c->scratch);
	tmpdir_remove(&c->dir);
	free(c);
	return cut;
}

/* Returns how many publishings are there after the n-th change, each of them whole; and it goes on with one more. */
static unsigned count_whole(const struct powercut *cut, size_t n, uint64_t seed)
{
	struct contract *c = calloc(1, sizeof(*c));
	unsigned count;

	crash_make(c, cut, n, seed, false);
	contract_open(c);
	count = are_there(c, 0, PUBLISHINGS + 1);
	assert_ok(publish(c, PUBLISHINGS, false));
	contract_reopen(c);
	cr_assert_eq(are_there(c, 0, PUBLISHINGS + 1), count + 1, "change %zu, seed %" PRIu64, n, seed);
	contract_close(c);
	engine_scratch_release(&c->scratch);
	tmpdir_remove(&c->dir);
	free(c);
	return count;
}

/* The kernel had written some pages, whichever these are: of the journal, of logs. */
Test(local_commit, power_cut)
{
	size_t confirmed = 0;
	struct powercut *cut;

	tmpdir_in_memory();
	nosync_install();
	cut = record(&confirmed);
	for (size_t n = 0; n <= powercut_count(cut); n++) {
		for (uint64_t seed = 0; seed < 5; seed++) {
			unsigned count = count_whole(cut, n, seed < 2 ? seed : n * 5 + seed);

			cr_assert(count >= 3 || n < confirmed, "change %zu: %u are there", n, count);
		}
	}
	cr_assert_gt(powercut_count(cut), confirmed);
	powercut_free(cut);
}
