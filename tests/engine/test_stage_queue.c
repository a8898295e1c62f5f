/*
 * Staging files of queues: what is written into them comes to the queue once and in order, whoever asks, fails or dies, and what
 * the queue does with messages it does with these.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/fault.h"
#include "tests/lib/staging.h"

#define STAGE_TEST(name)                                                                                               \
	static void name(struct contract *c);                                                                          \
	Test(stage_queue, name)                                                                                        \
	{                                                                                                              \
		contract_run(true, name);                                                                              \
	}                                                                                                              \
	static void name(struct contract *c)

static int set(struct contract *c, struct engine_object *queue, const char *name, const char *value)
{
	return c->ops->set_setting(queue, engine_setting_find(ENGINE_QUEUE, name), value);
}

static void send_line(struct contract *c, struct engine_object *queue, const char *line)
{
	const struct engine_batch batch = contract_batch(line);
	struct engine_producer *producer;

	assert_ok(c->ops->queue->producer_open(queue, ENGINE_ANY, false, &producer));
	assert_ok(contract_send_batch(c, producer, &batch));
	c->ops->producer_close(producer);
}

static struct engine_object *lingering(struct contract *c)
{
	static const struct engine_owner owner = { 0, 0, 0755 };
	struct engine_object *queue;

	assert_ok(c->ops->create(c->engine, c->root, ENGINE_QUEUE, "q", &owner, &queue));
	assert_ok(set(c, queue, "linger.ms", "60000"));
	return queue;
}

static int try_stage(
    struct contract *c, struct engine_object *queue, uint32_t priority, bool head, struct engine_stage **ret_stage)
{
	struct engine_producer *producer;

	assert_ok(c->ops->queue->producer_open(queue, priority, head, &producer));
	return staging_open(c, producer, '\n', &staging_cred, ret_stage);
}

static struct engine_stage *open_stage(struct contract *c, struct engine_object *queue, uint32_t priority)
{
	struct engine_stage *stage = NULL;

	assert_ok(try_stage(c, queue, priority, false, &stage));
	return stage;
}

static struct engine_consumer *consume(
    struct contract *c, struct engine_object *queue, enum engine_consume how, bool take)
{
	struct engine_consumer *consumer;

	assert_ok(c->ops->queue->consumer_open(queue, how, take, 0, &consumer));
	return consumer;
}

/* Takes all there is: "a b c". */
static const char *drain(struct contract *c, struct engine_object *queue)
{
	struct engine_consumer *consumer = consume(c, queue, ENGINE_CONSUME_SNAPSHOT, true);
	struct engine_view view;
	size_t len = 0;

	c->text[0] = '\0';
	while (c->ops->consumer_fetch(consumer, UINT32_MAX, SIZE_MAX, &c->scratch, &view) == 1) {
		const char *data = view.batch.data;

		for (uint32_t i = 0; i < view.batch.count; i++) {
			len += (size_t)snprintf(c->text + len, sizeof(c->text) - len, "%s%.*s", len > 0 ? " " : "",
			    (int)view.batch.lengths[i], data);
			data += view.batch.lengths[i] + 1;
		}
	}
	c->ops->consumer_close(consumer);
	return c->text;
}

static struct engine_queue_stat stat_of(struct contract *c, struct engine_object *queue)
{
	struct engine_queue_stat stat;

	assert_ok(c->ops->queue->queue_stat(queue, &stat));
	return stat;
}

/* Takes what there is, which is the numbers from *next up to end - 1, each once and in order. */
static void take_numbers(
    struct contract *c, struct engine_object *queue, uint64_t *next, uint64_t end, const char *what)
{
	struct engine_consumer *consumer;
	struct engine_view view;
	char expected[32];

	while (*next < end) { /* at most prefetch in one snapshot */
		consumer = consume(c, queue, ENGINE_CONSUME_SNAPSHOT, true);
		cr_assert_eq(c->ops->consumer_fetch(consumer, UINT32_MAX, SIZE_MAX, &c->scratch, &view), 1,
		    "%s: %" PRIu64 " messages of %" PRIu64, what, *next, end);
		do {
			const char *data = view.batch.data;

			for (uint32_t i = 0; i < view.batch.count; i++, ++*next) {
				int len = snprintf(expected, sizeof(expected), "%" PRIu64 "\n", *next);

				cr_assert(view.batch.lengths[i] + 1 == (uint32_t)len &&
					      memcmp(data, expected, (size_t)len) == 0,
				    "%s: message %" PRIu64 " is %.*s", what, *next, (int)view.batch.lengths[i], data);
				data += view.batch.lengths[i] + 1;
			}
		} while (c->ops->consumer_fetch(consumer, UINT32_MAX, SIZE_MAX, &c->scratch, &view) == 1);
		c->ops->consumer_close(consumer);
	}
	cr_assert_eq(*next, end, "%s: %" PRIu64 " messages of %" PRIu64, what, *next, end);
	cr_assert_eq(stat_of(c, queue).ready, 0, "%s", what);
}

/* ---- taking ---- */

/* Complete messages are there for whoever asks, at once; the part when the channel is closed. */
STAGE_TEST(who_asks_finds_what_was_written)
{
	struct engine_object *queue = lingering(c);
	struct engine_consumer *one = consume(c, queue, ENGINE_CONSUME_ONE, false);
	struct engine_stage *stage = open_stage(c, queue, ENGINE_ANY);
	int writer = staging_writer(c, stage);
	struct engine_message_stat message;
	struct engine_view view;
	uint64_t id;

	staging_text(writer, "a\nb\nhal");
	cr_assert_eq(stat_of(c, queue).ready, 2);
	staging_text(writer, "f\n");
	cr_assert_eq(contract_stat(c, queue).messages, 3);
	staging_text(writer, "c\n");
	cr_assert_eq(c->ops->consumer_fetch(one, 1, SIZE_MAX, &c->scratch, &view), 1);
	cr_assert_eq(view.batch.cred.pid, 4711);
	id = view.deliveries[0].id;
	assert_ok(c->ops->queue->message_stat(queue, id + 3, &message));
	cr_assert_eq(message.size, 1);
	staging_text(writer, "d\n");
	assert_ok(c->ops->queue->message_stat(queue, id + 4, &message));
	send_line(c, queue, "after\n");
	staging_text(writer, "e\nend");
	cr_assert_eq(contract_stat(c, c->root).messages, 6);
	assert_ok(staging_end(c, stage, writer));
	c->ops->consumer_close(one);
	assert_text(drain(c, queue), "b half c d after e end");
	cr_assert_eq(c->ops->queue->settle(queue, ENGINE_NACK, id, id), 1);
	assert_text(drain(c, queue), "a");
	c->ops->put(queue);
}

/* Every call that has to see what was written does: it would be ENOENT, or empty, without. */
STAGE_TEST(each_call_sees_it)
{
	struct engine_object *queue = lingering(c);
	struct engine_stage *stage = open_stage(c, queue, ENGINE_ANY);
	int writer = staging_writer(c, stage);
	const struct engine_place up = { .queue = queue, .state = ENGINE_READY, .priority = 5 };
	struct engine_message_stat message;
	uint64_t id;

	send_line(c, queue, "first\n");
	for (id = 1; c->ops->queue->message_stat(queue, id, &message) != 0; id++)
		;
	staging_text(writer, "one\n");
	assert_ok(c->ops->queue->message_remove(queue, id + 1, ENGINE_READY));
	staging_text(writer, "two\n");
	assert_ok(c->ops->queue->message_touch(queue, id + 2, ENGINE_READY, 0));
	staging_text(writer, "three\n");
	assert_ok(c->ops->queue->message_move(queue, id + 3, ENGINE_READY, &up));
	assert_text(drain(c, queue), "three first two");
	staging_text(writer, "four\n");
	assert_ok(c->ops->queue->purge(queue));
	cr_assert_eq(stat_of(c, queue).ready, 0);
	cr_assert_eq(stat_of(c, queue).dropped, 2);
	assert_ok(staging_end(c, stage, writer));
	c->ops->put(queue);
}

/* Each priority has its place, and what is put past it is lowered, also when that changes meanwhile. */
STAGE_TEST(priorities)
{
	struct engine_object *queue = lingering(c);
	struct engine_stage *low = open_stage(c, queue, ENGINE_ANY), *mid = open_stage(c, queue, 4),
			    *high = open_stage(c, queue, 9), *unused;
	int writers[] = { staging_writer(c, low), staging_writer(c, mid), staging_writer(c, high) };
	const char *drained;

	for (int i = 0; i < 3; i++)
		staging_text(writers[i], i == 0 ? "low\n" : i == 1 ? "mid\n" : "high\n");
	assert_text(drain(c, queue), "high mid low");
	assert_ok(set(c, queue, "max.priority", "2"));
	for (int i = 0; i < 3; i++)
		staging_text(writers[i], i == 0 ? "low\n" : i == 1 ? "mid\n" : "high\n");
	cr_assert_eq(stat_of(c, queue).ready_by_priority[2], 2);
	drained = drain(c, queue); /* two producers that linger come in any order */
	cr_assert(strcmp(drained, "mid high low") == 0 || strcmp(drained, "high mid low") == 0, "%s", drained);
	assert_err(try_stage(c, queue, ENGINE_ANY, true, &unused), EAGAIN);
	assert_ok(staging_end(c, low, writers[0]));
	assert_ok(staging_end(c, mid, writers[1]));
	assert_ok(staging_end(c, high, writers[2]));
	c->ops->put(queue);
}

/* Who waits is woken at once, whatever linger.ms says, when the file is new, in use, and quiet for long; and by batch.size. */
STAGE_TEST(nothing_lingers_for_who_waits)
{
	struct engine_object *queue = lingering(c);
	struct engine_consumer *stream = consume(c, queue, ENGINE_CONSUME_STREAM, true);
	struct engine_stage *stage = open_stage(c, queue, ENGINE_ANY);
	int writer = staging_writer(c, stage);
	struct contract_waiter waiter;
	struct engine_view view;

	for (int i = 0; i < 4; i++) {
		if (i == 2) /* long enough for it to be asleep, and be told of the write */
			nanosleep(&(struct timespec){ 0, 400000000 }, NULL);
		if (i == 3) /* written before, and not asked for */
			staging_text(writer, "x\n");
		contract_waiter_init(&waiter);
		assert_ok(c->ops->consumer_arm(stream, &waiter.waiter));
		if (i < 3)
			staging_text(writer, "x\n");
		contract_waiter_wait(&waiter);
		cr_assert_eq(c->ops->consumer_fetch(stream, 9, SIZE_MAX, &c->scratch, &view), 1);
		cr_assert_eq(view.batch.count, 1);
	}
	c->ops->consumer_close(stream);
	assert_ok(staging_end(c, stage, writer));
	c->ops->put(queue);
}

/* One who reads takes in what others wait for: they are woken by the thread. */
STAGE_TEST(a_reader_wakes_others)
{
	struct engine_object *queue = lingering(c);
	struct engine_consumer *stream = consume(c, queue, ENGINE_CONSUME_STREAM, true);
	struct engine_stage *stage = open_stage(c, queue, ENGINE_ANY);
	int writer = staging_writer(c, stage);
	struct contract_waiter waiter;

	for (int i = 0; i < 200; i++) {
		contract_waiter_init(&waiter);
		assert_ok(c->ops->consumer_arm(stream, &waiter.waiter));
		staging_text(writer, "x\n");
		cr_assert_eq(stat_of(c, queue).ready, 1);
		contract_waiter_wait(&waiter);
		cr_assert_eq(contract_fetch(c, stream)[0], '0');
	}
	c->ops->consumer_close(stream);
	assert_ok(staging_end(c, stage, writer));
	c->ops->put(queue);
}

static bool is_in_log(struct contract *c, void *ctx)
{
	(void)ctx;
	return c->ops->stage != NULL && contract_stat(c, c->root).messages > 0;
}

/* Lengths, deaths and times to live are those of messages as they are taken in. */
STAGE_TEST(limits)
{
	struct engine_object *queue = lingering(c), *dlq = contract_lookup(c, queue, ENGINE_QUEUE, "dlq");
	struct engine_stage *stage;
	int writer;

	assert_ok(set(c, queue, "max.length", "2"));
	stage = open_stage(c, queue, ENGINE_ANY);
	writer = staging_writer(c, stage);
	staging_text(writer, "a\nb\nc\nd\n");
	cr_assert_eq(stat_of(c, queue).ready, 2);
	cr_assert_eq(stat_of(c, queue).dead, 2);
	assert_text(drain(c, queue), "c d");
	assert_text(drain(c, dlq), "a b");
	assert_ok(set(c, queue, "message.ttl.ms", "1"));
	staging_text(writer, "gone\n");
	assert_ok(c->ops->stage->take(stage));
	contract_wait(c, is_in_log, NULL, "the dead letter");
	nanosleep(&(struct timespec){ 0, 3000000 }, NULL);
	cr_assert_eq(stat_of(c, queue).ready, 0);
	assert_text(drain(c, dlq), "gone");
	assert_ok(set(c, queue, "message.ttl.ms", "-1"));
	assert_ok(set(c, queue, "max.message.bytes", "3"));
	staging_text(writer, "long\nok\n");
	assert_err(c->ops->stage->take(stage), EMSGSIZE);
	assert_ok(c->ops->stage->take(stage));
	assert_text(drain(c, queue), "ok");
	assert_ok(staging_end(c, stage, writer));
	c->ops->put(dlq);
	c->ops->put(queue);
}

/* Where a write may be refused for more than its size there is no staging, nor does a queue become such while there is. */
STAGE_TEST(not_always)
{
	struct engine_object *queue = lingering(c);
	struct engine_stage *stage, *unused;

	assert_ok(set(c, queue, "linger.ms", "0"));
	assert_err(try_stage(c, queue, ENGINE_ANY, false, &unused), EAGAIN);
	assert_ok(set(c, queue, "linger.ms", "5"));
	assert_ok(set(c, queue, "overflow", "reject-publish"));
	stage = open_stage(c, queue, ENGINE_ANY); /* it has no limit */
	assert_err(set(c, queue, "max.length", "5"), EBUSY);
	assert_err(set(c, queue, "max.length.bytes", "5"), EBUSY);
	assert_ok(c->ops->get_setting(queue, engine_setting_find(ENGINE_QUEUE, "max.length"), c->text));
	assert_text(c->text, "-1");
	assert_ok(set(c, queue, "overflow", "drop-head"));
	assert_ok(set(c, queue, "max.length", "5"));
	assert_err(set(c, queue, "overflow", "reject-publish"), EBUSY);
	assert_err(set(c, queue, "overflow", "reject-publish-dlx"), EBUSY);
	assert_ok(set(c, queue, "linger.ms", "0"));
	assert_ok(c->ops->stage->close(stage, true));
	assert_ok(set(c, queue, "overflow", "reject-publish"));
	assert_ok(set(c, queue, "linger.ms", "5"));
	assert_err(try_stage(c, queue, ENGINE_ANY, false, &unused), EAGAIN);
	assert_ok(set(c, queue, "max.length", "-1"));
	stage = open_stage(c, queue, ENGINE_ANY);
	assert_ok(c->ops->stage->close(stage, true));
	c->ops->put(queue);
}

/* A queue with staged messages is not empty, also under another name; once it is removed, what is written is refused. */
STAGE_TEST(renamed_and_removed)
{
	struct engine_object *queue = lingering(c);
	struct engine_stage *stage = open_stage(c, queue, 3);
	int writer = staging_writer(c, stage);

	staging_text(writer, "a\n");
	assert_ok(c->ops->rename(queue, "other"));
	assert_err(c->ops->remove(queue), ENOTEMPTY);
	assert_text(drain(c, queue), "a");
	assert_ok(c->ops->remove(queue));
	staging_text(writer, "b\n");
	assert_err(c->ops->stage->take(stage), EIDRM);
	staging_text(writer, "c");
	assert_err(staging_end(c, stage, writer), EIDRM);
	c->ops->put(queue);
}

/* ---- failing and dying ---- */

/* Every change of a file fails once, at every place: nothing is lost or doubled when it goes on. */
STAGE_TEST(every_call_fails_once)
{
	static const int errors[] = { EIO, ENOSPC };
	struct engine_object *queue = lingering(c);
	uint64_t next = 0, taken = 0;

	for (size_t e = 0; e < 2; e++) {
		uint64_t counted = 1;

		for (uint64_t n = 1; counted >= n; n++) {
			struct engine_stage *stage = open_stage(c, queue, (uint32_t)n % ENGINE_PRIORITIES);
			int writer = staging_writer(c, stage);

			fault_arm(FAULT_WRITE | FAULT_TRUNCATE, n, errors[e], false);
			for (int i = 0; i < 4; i++) {
				for (int k = 0; k < 30; k++)
					staging_number(writer, &next);
				(void)c->ops->stage->take(stage);
			}
			counted = fault_disarm();
			staging_number(writer, &next);
			assert_ok(c->ops->stage->take(stage));
			assert_ok(staging_end(c, stage, writer));
			take_numbers(c, queue, &taken, next, "after a fault");
		}
	}
	c->ops->put(queue);
	contract_reopen(c);
	queue = contract_lookup(c, c->root, ENGINE_QUEUE, "q");
	take_numbers(c, queue, &taken, next, "after reopening");
	c->ops->put(queue);
}

/* The engine is closed under a writer, who goes on: the next one takes all of it, and watches as long as he is there. */
STAGE_TEST(a_writer_outlives_the_engine)
{
	struct engine_object *queue = lingering(c);
	struct engine_stage *stage = open_stage(c, queue, 7);
	int writer = staging_writer(c, stage);

	staging_text(writer, "a\n");
	assert_ok(c->ops->stage->close(stage, false));
	staging_text(writer, "b\n");
	c->ops->put(queue);
	contract_close(c);
	staging_text(writer, "c\n");
	contract_open(c);
	queue = contract_lookup(c, c->root, ENGINE_QUEUE, "q");
	cr_assert_eq(stat_of(c, queue).ready_by_priority[7], 3);
	assert_err(set(c, queue, "max.length", "1") ? -EBUSY : set(c, queue, "overflow", "reject-publish"), EBUSY);
	assert_ok(set(c, queue, "max.length", "-1"));
	staging_text(writer, "part");
	c->ops->put(queue);
	contract_reopen(c);
	queue = contract_lookup(c, c->root, ENGINE_QUEUE, "q");
	staging_text(writer, "ing\nlost");
	close(writer);
	contract_wait(c, staging_no_files, NULL, "the file to go");
	cr_assert_eq(stat_of(c, queue).ready_by_priority[7], stat_of(c, queue).ready);
	c->ops->put(queue);
}

static void take_until_killed(struct contract *c, struct staging_shared *shared)
{
	contract_open(c);
	staging_take_until_killed(c, open_stage(c, contract_lookup(c, c->root, ENGINE_QUEUE, "q"), 3), shared);
}

/* The engine is killed at any moment, again and again, while a writer goes on: all that was written is there, once. */
STAGE_TEST(killed_at_any_moment)
{
	struct staging_shared *shared = staging_share();
	struct engine_object *queue = lingering(c);
	uint64_t taken = 0;

	c->ops->put(queue);
	for (int round = 0; round < 20; round++) {
		staging_kill(c, shared, take_until_killed, round % 2 == 1);
		queue = contract_lookup(c, c->root, ENGINE_QUEUE, "q");
		take_numbers(c, queue, &taken, atomic_load(&shared->written), "after a kill");
		contract_wait(c, staging_no_files, NULL, "the staging file to go");
		c->ops->put(queue);
	}
	munmap(shared, sizeof(*shared));
}
