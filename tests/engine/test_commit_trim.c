/*
 * Logs are trimmed while a commit is on its way to them, by a purge, by retention, or as all before is settled; and the daemon dies. What
 * a note says of where the logs ended must hold all the same: in the end all targets have the message, once. Or they go meanwhile.
 *
 * A child publishes to a topic and two queues. At a failpoint on the way it waits until another thread has trimmed a log, or
 * waits to: no other moment is left to chance.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/local_commit.h"
#include "engine/local_internal.h"
#include "engine/local_queue.h"
#include "tests/lib/contract_exchange.h"
#include "tests/lib/contract_tx.h"
#include "tests/lib/crash.h"
#include "tests/lib/failpoint.h"
#include "tests/lib/nosync.h"

#define TRIM_TEST(name)                                                                                                \
	static void name(struct contract *c);                                                                          \
	Test(commit_trim, name)                                                                                        \
	{                                                                                                              \
		contract_run(true, name);                                                                              \
	}                                                                                                              \
	static void name(struct contract *c)

#define TARGETS 3u

static const char *const targets[TARGETS] = { "t", "q", "r" };
static const enum engine_kind kinds[TARGETS] = { ENGINE_TOPIC, ENGINE_QUEUE, ENGINE_QUEUE };

static struct {
	struct contract *c;
	void (*trim)(struct contract *c);
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool noted, awaits, done;
} scene = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void now(bool *what)
{
	pthread_mutex_lock(&scene.lock);
	*what = true;
	pthread_cond_broadcast(&scene.changed);
	pthread_mutex_unlock(&scene.lock);
}

static void until(const bool *what, const bool * or)
{
	pthread_mutex_lock(&scene.lock);
	while (!*what && !* or)
		pthread_cond_wait(&scene.changed, &scene.lock);
	pthread_mutex_unlock(&scene.lock);
}

/* ---- what the child does ---- */

static struct engine_object *target(struct contract *c, unsigned i)
{
	return contract_lookup(c, c->root, kinds[i], targets[i]);
}

static void make_targets(struct contract *c)
{
	struct engine_owner owner = { 0, 0, 0755 };
	struct engine_object *exchange, *object;

	assert_ok(c->ops->create(c->engine, c->root, ENGINE_EXCHANGE, "e", &owner, &exchange));
	assert_ok(c->ops->exchange->pattern_add(exchange, "#"));
	for (unsigned i = 0; i < TARGETS; i++) {
		assert_ok(c->ops->create(c->engine, c->root, kinds[i], targets[i], &owner, &object));
		assert_ok(c->ops->exchange->bind(exchange, "#", targets[i], object));
		c->ops->put(object);
	}
	c->ops->put(exchange);
}

static void publish(struct contract *c)
{
	struct engine_object *exchange = contract_lookup(c, c->root, ENGINE_EXCHANGE, "e");

	contract_send(c, exchange, ENGINE_ANY, "x\n");
	c->ops->put(exchange);
}

/* A message that comes to the topic alone, and is over its time at once. */
static void send_old(struct contract *c)
{
	struct engine_object *topic = target(c, 0);

	contract_send_at(c, topic, 0, 1000, "old\n");
	c->ops->put(topic);
}

static void purge_topic(struct contract *c)
{
	struct engine_object *topic = target(c, 0);

	send_old(c);
	assert_ok(c->ops->partition_purge(topic, 0, ENGINE_OFFSET_NONE));
	c->ops->put(topic);
}

static void retain_topic(struct contract *c)
{
	struct engine_object *topic = target(c, 0);

	send_old(c);
	partition_retain_fire(&topic_partition(topic_of_object((struct object *)topic), 0)->retain_timer);
	c->ops->put(topic);
}

/* A message for the first queue alone that is large enough for its log to be begun anew, and is settled. */
static void send_and_take(struct contract *c)
{
	static char large[QUEUE_TRIM_BYTES + 2];
	struct engine_object *queue = target(c, 1);
	struct engine_producer *producer;
	struct engine_consumer *consumer;
	struct engine_scratch scratch = { 0 };
	struct engine_view view;
	struct engine_batch batch;

	memset(large, 'l', QUEUE_TRIM_BYTES);
	large[QUEUE_TRIM_BYTES] = '\n';
	batch = contract_batch(large);
	assert_ok(c->ops->queue->producer_open(queue, ENGINE_ANY, false, &producer));
	assert_ok(contract_send_batch(c, producer, &batch));
	c->ops->producer_close(producer);
	assert_ok(c->ops->queue->consumer_open(queue, ENGINE_CONSUME_ONE, true, 0, &consumer));
	cr_assert_eq(c->ops->consumer_fetch(consumer, 1, SIZE_MAX, &scratch, &view), 1);
	c->ops->consumer_close(consumer);
	engine_scratch_release(&scratch);
	c->ops->put(queue);
}

static void checkpoint(struct contract *c)
{
	assert_ok(checkpoint_run((struct local *)c->engine));
}

static void trim_queue(struct contract *c)
{
	send_and_take(c);
	checkpoint(c);
}

static void *trim(void *arg)
{
	(void)arg;
	scene.trim(scene.c);
	now(&scene.done);
	return NULL;
}

static void start(void *(*run)(void *arg))
{
	pthread_t thread;

	cr_assert_eq(pthread_create(&thread, NULL, run, NULL), 0);
	pthread_detach(thread);
}

static void trim_before_note(void *ctx)
{
	(void)ctx;
	start(trim);
	until(&scene.done, &scene.done);
}

static void trim_before_sending(void *ctx)
{
	(void)ctx;
	start(trim);
	until(&scene.done, &scene.awaits);
}

static void is_awaiting(void *ctx)
{
	now(ctx);
}

/* A process of its own dies as soon as what it published is noted; what it left is opened. */
static void live_and_die(struct contract *c, void (*life)(struct contract *c))
{
	pid_t child;
	int status;

	contract_close(c);
	child = fork();
	if (child == 0) {
		contract_open(c);
		timers_stop((struct local *)c->engine);
		scene.c = c;
		failpoint_call("commit_await", is_awaiting, &scene.awaits);
		failpoint_arm(failpoint_find("commit_after_note"), 1, FAILPOINT_DIES);
		life(c);
		_exit(1);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %#x", status);
	contract_open(c);
}

/* ---- looking ---- */

struct looking {
	struct contract *c;
	struct engine_object *queue;
	unsigned count;
};

static bool count_message(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct looking *l = ctx;
	struct engine_view view;

	(void)next;
	assert_ok(l->c->ops->queue->message_read(l->queue, stat->id, &l->c->scratch, &view));
	l->count += view.batch.data[0] == 'x';
	return true;
}

static unsigned count_in(struct contract *c, unsigned i)
{
	struct looking l = { c, target(c, i), 0 };
	uint64_t cursor[2] = { 0 };
	const char *text;

	if (kinds[i] == ENGINE_QUEUE) {
		assert_ok(
		    c->ops->queue->message_list(l.queue, ENGINE_READY, ENGINE_ANY, NULL, cursor, count_message, &l));
	} else {
		text = contract_read(c, l.queue, 0, contract_partition(c, l.queue, 0).earliest);
		while ((text = strstr(text, "=x")) != NULL) {
			text++;
			l.count++;
		}
	}
	c->ops->put(l.queue);
	return l.count;
}

/* The law of counters, and that so many were published in a queue. */
static void check_counters(struct contract *c, unsigned i, uint64_t published)
{
	struct engine_object *queue = target(c, i);
	struct engine_queue_stat stat;

	assert_ok(c->ops->queue->queue_stat(queue, &stat));
	cr_assert_eq(stat.published, published, "%" PRIu64 " were published in %s", stat.published, targets[i]);
	cr_assert_eq(stat.published, stat.ready + stat.unacked + stat.delayed + stat.acked + stat.dead_lettered +
					 stat.expired + stat.dropped + stat.moved_out - stat.moved_in);
	c->ops->put(queue);
}

/* All have it; the first queue had so many besides. */
static void check(struct contract *c, uint64_t others)
{
	for (unsigned again = 0; again < 2; again++) {
		for (unsigned i = 0; i < TARGETS; i++)
			cr_assert_eq(count_in(c, i), 1, "%s has it %u times", targets[i], count_in(c, i));
		check_counters(c, 1, 1 + others);
		check_counters(c, 2, 1);
		contract_reopen(c);
	}
}

/* ---- tests ---- */

static void between_claim_and_note(struct contract *c)
{
	failpoint_call("commit_after_claim", trim_before_note, NULL);
	publish(c);
}

static void between_note_and_sending(struct contract *c)
{
	failpoint_call("commit_after_note", trim_before_sending, NULL);
	publish(c);
}

TRIM_TEST(purge_before_note)
{
	make_targets(c);
	scene.trim = purge_topic;
	live_and_die(c, between_claim_and_note);
	check(c, 0);
}

TRIM_TEST(purge_before_sending)
{
	make_targets(c);
	scene.trim = purge_topic;
	live_and_die(c, between_note_and_sending);
	check(c, 0);
}

static void make_retained(struct contract *c)
{
	struct engine_object *topic;

	make_targets(c);
	topic = target(c, 0);
	assert_ok(contract_set(c, topic, "retention.ms", "3600000"));
	c->ops->put(topic);
	scene.trim = retain_topic;
}

TRIM_TEST(retention_before_note)
{
	make_retained(c);
	live_and_die(c, between_claim_and_note);
	check(c, 0);
}

TRIM_TEST(retention_before_sending)
{
	make_retained(c);
	live_and_die(c, between_note_and_sending);
	check(c, 0);
}

TRIM_TEST(queue_before_note)
{
	make_targets(c);
	scene.trim = trim_queue;
	live_and_die(c, between_claim_and_note);
	check(c, 1);
}

/* A checkpoint waits for commits that were noted before it, but this one comes while it is under way. */
static void *publish_beside(void *arg)
{
	(void)arg;
	publish(scene.c);
	return NULL;
}

static void after_commits(void *ctx)
{
	(void)ctx;
	start(publish_beside);
	until(&scene.noted, &scene.noted);
}

static void settle_beside(void *ctx)
{
	(void)ctx;
	send_and_take(scene.c);
	now(&scene.noted);
	until(&scene.done, &scene.awaits);
}

static void within_checkpoint(struct contract *c)
{
	failpoint_call("checkpoint_after_commits", after_commits, NULL);
	failpoint_call("commit_after_note", settle_beside, NULL);
	checkpoint(c);
	now(&scene.done);
	pause(); /* the other thread kills the process */
}

TRIM_TEST(queue_before_sending)
{
	make_targets(c);
	live_and_die(c, within_checkpoint);
	check(c, 1);
}

/* A target that could not take it yet: what came behind it and is settled does not take its place with it. */
TRIM_TEST(queue_that_misses_some)
{
	make_targets(c);
	timers_stop((struct local *)c->engine);
	failpoint_arm(failpoint_find("append_after_data"), 2, ENOSPC); /* the first is of the topic */
	publish(c);
	cr_assert_eq(count_in(c, 1), 0);
	send_and_take(c);
	failpoint_arm(failpoint_find("recover_commit"), 1, EIO);
	checkpoint(c);
	cr_assert_eq(count_in(c, 1), 0);
	failpoint_arm(NULL, 0, 0);
	contract_reopen(c);
	check(c, 1);
}

static void send_beside(void *ctx)
{
	send_old(ctx);
}

/*
 * What a power cut took of a log that was trimmed does not count as trimmed: before its front goes, what came by a commit is on disk.
 * The message is behind another that came between its note and it, and the log is trimmed to it.
 */
TRIM_TEST(power_goes_after_trim)
{
	struct engine_object *topic, *queue;
	struct engine_producer *producer;
	struct powercut *cut;

	make_targets(c);
	checkpoint(c);
	timers_stop((struct local *)c->engine);
	cut = powercut_start_store(((struct local *)c->engine)->store.dirfd, "catalog", "reserve");
	failpoint_call("commit_after_note", send_beside, c);
	publish(c);
	queue = target(c, 1);
	assert_ok(c->ops->queue->producer_open(queue, ENGINE_ANY, false, &producer));
	assert_ok(contract_sync(c, producer));
	c->ops->producer_close(producer);
	c->ops->put(queue);
	topic = target(c, 0);
	assert_ok(c->ops->partition_purge(topic, 0, 1));
	c->ops->put(topic);
	powercut_stop(cut);
	crash_replace(c, cut, powercut_count(cut), 0, false);
	contract_open(c);
	check(c, 0);
	powercut_free(cut);
}

/* Begins to record, with all that is there on disk. */
static struct powercut *begin_cut(struct contract *c)
{
	checkpoint(c);
	timers_stop((struct local *)c->engine);
	return powercut_start_store(((struct local *)c->engine)->store.dirfd, "catalog", "reserve");
}

/* The process dies, or the power goes and takes all that was not synced; then there is a start. */
static void crash(struct contract *c, struct powercut *cut, bool kill)
{
	powercut_stop(cut);
	crash_replace(c, cut, powercut_count(cut), 0, kill);
	powercut_free(cut);
	contract_open(c);
}

static void *publish_and_tell(void *arg)
{
	publish(arg);
	now(&scene.done);
	return NULL;
}

static void settle_and_wait(void *ctx)
{
	struct contract *c = ctx;

	send_and_take(c);
	now(&scene.noted);
	until(&scene.awaits, &scene.awaits);
}

static void start_publishing(void *ctx)
{
	pthread_t thread;

	if (scene.noted) /* another checkpoint */
		return;
	cr_assert_eq(pthread_create(&thread, NULL, publish_and_tell, ctx), 0);
	pthread_detach(thread);
	until(&scene.noted, &scene.noted);
}

/*
 * The same of a queue. A checkpoint waits for the commits that were noted before, but this one is noted within it: what came to the queue
 * meanwhile is settled, and the log is to be trimmed behind it, where the message comes just then.
 */
TRIM_TEST(power_goes_after_queue_is_trimmed)
{
	struct powercut *cut;

	make_targets(c);
	cut = begin_cut(c);
	failpoint_call("commit_await", is_awaiting, &scene.awaits);
	failpoint_call("checkpoint_after_commits", start_publishing, c);
	failpoint_call("commit_after_note", settle_and_wait, c);
	checkpoint(c);
	until(&scene.done, &scene.done);
	cr_assert_eq(count_in(c, 1), 1);
	crash(c, cut, false);
	check(c, 1);
}

/* A log that has more than a record of the journal holds is synced by itself, but behind the notes of what came by commits. */
TRIM_TEST(log_is_synced_behind_the_note)
{
	static char large[NOTE_MAX + 2];
	struct engine_object *topic;
	struct engine_producer *producer;
	struct powercut *cut;

	make_targets(c);
	memset(large, 'l', NOTE_MAX);
	large[NOTE_MAX] = '\n';
	cut = begin_cut(c);
	publish(c);
	topic = target(c, 0);
	contract_send(c, topic, 0, large);
	producer = contract_producer(c, topic, ENGINE_ANY);
	assert_ok(contract_sync(c, producer));
	c->ops->producer_close(producer);
	c->ops->put(topic);
	crash(c, cut, false);
	check(c, 0);
}

/* What a checkpoint drops the note of is on disk with all targets. */
TRIM_TEST(checkpoint_drops_the_note)
{
	struct powercut *cut;

	make_targets(c);
	cut = begin_cut(c);
	publish(c);
	checkpoint(c);
	crash(c, cut, false);
	check(c, 0);
}

/* What is rejected is on disk where it came from before it is a dead letter: it would be given to the topic again, and delivered. */
TRIM_TEST(rejected_by_a_group)
{
	struct engine_object *topic, *group, *dlq;
	struct engine_cursor_stat cursor;
	struct engine_queue_stat stat;
	struct powercut *cut;

	make_targets(c);
	topic = target(c, 0);
	group = contract_group(c, topic, "g");
	cut = begin_cut(c);
	publish(c);
	contract_snapshot(c, group);
	assert_ok(c->ops->member->reject(group, 0, 0));
	c->ops->put(group);
	c->ops->put(topic);
	crash(c, cut, false);
	topic = target(c, 0);
	group = contract_lookup(c, topic, ENGINE_GROUP, "g");
	dlq = contract_lookup(c, group, ENGINE_QUEUE, "dlq");
	assert_ok(c->ops->cursor_stat(group, 0, &cursor));
	cr_assert_eq(cursor.committed, 1);
	assert_ok(c->ops->queue->queue_stat(dlq, &stat));
	cr_assert_eq(stat.ready, 1);
	c->ops->put(dlq);
	c->ops->put(group);
	c->ops->put(topic);
	check(c, 0);
}

/* What is said of the place that it was to get is not said of what got that instead, as the append had failed. */
TRIM_TEST(another_gets_its_place)
{
	struct powercut *cut;

	make_targets(c);
	cut = begin_cut(c);
	failpoint_arm(failpoint_find("append_after_data"), 2, ENOSPC); /* the first is of the topic */
	publish(c);
	failpoint_arm(NULL, 0, 0);
	cr_assert_eq(count_in(c, 1), 0);
	send_and_take(c);
	crash(c, cut, true);
	check(c, 1);
}

static void fail_here(void *ctx)
{
	if (*(const bool *)ctx)
		failpoint_arm(failpoint_find("recover_commit"), 1, EIO);
	else
		failpoint_arm(NULL, 0, 0);
}

/* Nor if a power cut took it from there, and it could not be given again at once. */
TRIM_TEST(another_gets_its_place_after_a_power_cut)
{
	bool fails = true;
	struct powercut *cut;

	make_targets(c);
	cut = begin_cut(c);
	publish(c);
	assert_ok(journal_sync(((struct local *)c->engine)->journal));
	powercut_stop(cut);
	crash_replace(c, cut, powercut_count(cut), 0, false);
	powercut_free(cut);
	failpoint_call("recover_commit", fail_here, &fails);
	contract_open(c);
	fails = false;
	timers_stop((struct local *)c->engine);
	cr_assert_eq(count_in(c, 1), 0);
	cut = powercut_start_store(((struct local *)c->engine)->store.dirfd, "catalog", "reserve");
	send_and_take(c);
	crash(c, cut, true);
	check(c, 1);
}

/* ---- what goes while a commit is on its way to it ---- */

static void remove_topic(void *ctx)
{
	struct contract *c = ctx;
	struct engine_object *topic = target(c, 0);

	assert_ok(c->ops->remove(topic));
	c->ops->put(topic);
}

/* A topic that gets a batch for several of its partitions: it takes the batch with it, and nothing is left to be given to it. */
TRIM_TEST(target_is_removed)
{
	struct engine_object *topic = contract_topic(c, "t", 2);
	struct engine_props props[2] = { ENGINE_PROPS_INIT, ENGINE_PROPS_INIT };
	struct engine_batch batch = contract_batch("x\ny\n");
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);

	props[0].partition = 0;
	props[1].partition = 1;
	batch.props = props;
	timers_stop((struct local *)c->engine);
	failpoint_call("commit_after_note", remove_topic, c);
	assert_ok(contract_send_batch(c, producer, &batch));
	cr_assert_not(commit_keeps_some((struct local *)c->engine));
	c->ops->producer_close(producer);
	c->ops->put(topic);
	contract_reopen(c);
	cr_assert_not(commit_keeps_some((struct local *)c->engine));
	cr_assert_eq(c->ops->lookup(c->engine, c->root, ENGINE_TOPIC, "t", &topic), -ENOENT);
}

static void lose_topic(void *ctx)
{
	struct contract *c = ctx;
	struct engine_object *topic = target(c, 0);

	atomic_store(&((struct object *)topic)->removed, true);
	c->ops->put(topic);
}

/* What an exchange gives to one target alone needs no note, and is refused if that is gone. */
TRIM_TEST(only_target_is_removed)
{
	struct engine_owner owner = { 0, 0, 0755 };
	struct engine_object *exchange, *topic = contract_topic(c, "t", 1);
	struct engine_producer *producer;
	struct engine_batch batch = contract_batch("x\n");

	assert_ok(c->ops->create(c->engine, c->root, ENGINE_EXCHANGE, "e", &owner, &exchange));
	assert_ok(c->ops->exchange->pattern_add(exchange, "#"));
	assert_ok(c->ops->exchange->bind(exchange, "#", "t", topic));
	producer = contract_producer(c, exchange, ENGINE_ANY);
	failpoint_call("commit_before_note", lose_topic, c);
	assert_err(contract_send_batch(c, producer, &batch), EIDRM);
	atomic_store(&((struct object *)topic)->removed, false);
	cr_assert_eq(contract_stat(c, topic).messages, 0);
	c->ops->producer_close(producer);
	c->ops->put(topic);
	c->ops->put(exchange);
}

static uint64_t begun; /* where the journal ends behind the record */

static void begin_first(void *ctx)
{
	struct contract *c = ctx;
	struct local *local = (struct local *)c->engine;

	if (begun > 0)
		return;
	begun = 1;
	assert_ok(commit_begin(local));
	begun = journal_end(local->journal);
}

static void nothing_more(void *ctx)
{
	struct contract *c = ctx;

	cr_assert_eq(journal_end(((struct local *)c->engine)->journal), begun);
}

/* Two begin in one moment: the record from which on all is noted is written, and synced, once. */
TRIM_TEST(two_begin)
{
	make_targets(c);
	checkpoint(c);
	timers_stop((struct local *)c->engine);
	failpoint_call("commit_begin", begin_first, c);
	failpoint_call("commit_before_note", nothing_more, c);
	publish(c);
	cr_assert_gt(begun, 1);
	check(c, 0);
}

static void remove_target(void *ctx)
{
	struct contract *c = ctx;
	struct engine_object *exchange = contract_lookup(c, c->root, ENGINE_EXCHANGE, "e"), *queue = target(c, 1);

	assert_ok(c->ops->exchange->unbind(exchange, "#", targets[1]));
	assert_ok(c->ops->remove(queue));
	c->ops->put(queue);
	c->ops->put(exchange);
}

/* A target that misses some, and is removed while it is given that. */
TRIM_TEST(target_is_removed_later)
{
	make_targets(c);
	timers_stop((struct local *)c->engine);
	failpoint_arm(failpoint_find("append_after_data"), 2, ENOSPC); /* the first is of the topic */
	publish(c);
	failpoint_arm(NULL, 0, 0);
	cr_assert(commit_keeps_some((struct local *)c->engine));
	failpoint_call("recover_commit", remove_target, c);
	checkpoint(c);
	cr_assert_not(commit_keeps_some((struct local *)c->engine));
	cr_assert(count_in(c, 0) == 1 && count_in(c, 2) == 1);
	contract_reopen(c);
	cr_assert(count_in(c, 0) == 1 && count_in(c, 2) == 1);
}

/* Dead letters of q, which go to x and t by the exchange e, in the moment before they are noted. */
static void let_die(struct contract *c, void (*before_note)(void *ctx))
{
	timers_stop((struct local *)c->engine);
	Q_SCRIPT(c, "queue q", "queue x", "topic t", "exchange e", "pattern e #", "bind e # x x", "bind e # t t",
	    "set q dead.letter.to exchanges/e", "set q dead.letter.routing.key k", "send q a b c", "snap q => a,b,c",
	    "reject q a-c => 3");
	failpoint_call("commit_before_note", before_note, c);
	queue_catch_up((struct local *)c->engine);
}

static void purge_letters(void *ctx)
{
	struct contract *c = ctx;
	struct engine_object *dlq = q_object(c, "q/dlq");

	assert_ok(c->ops->queue->purge(dlq));
	c->ops->put(dlq);
}

static void letters_are_purged(struct contract *c)
{
	let_die(c, purge_letters);
	for (unsigned start = 0; start < 2; start++) {
		Q_SCRIPT(c, "show q/dlq =>  |  | ", "log x => -", "log t => -", "totals q/dlq => dropped 3 moved_in 3");
		contract_reopen(c);
	}
}

static void remove_letters(void *ctx)
{
	struct contract *c = ctx;
	struct engine_object *queue = NULL;

	if (c->ops->lookup(c->engine, c->root, ENGINE_QUEUE, "q", &queue) < 0)
		return; /* it is tried again */
	purge_letters(ctx);
	assert_ok(c->ops->remove(queue));
	c->ops->put(queue);
}

static void letters_are_removed(struct contract *c)
{
	let_die(c, remove_letters);
	for (unsigned start = 0; start < 2; start++) {
		Q_SCRIPT(c, "log x => -", "log t => -");
		contract_reopen(c);
	}
}

/* Who purges the dead letters before it is noted that they go on has them: they go nowhere. */
Test(commit_trim, letters_are_purged)
{
	contract_queue_run(true, letters_are_purged);
}

Test(commit_trim, letters_are_removed)
{
	contract_queue_run(true, letters_are_removed);
}
