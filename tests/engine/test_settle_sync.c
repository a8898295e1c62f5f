/*
 * What is confirmed is on disk, whatever is under way meanwhile. A message that is sent while others are synced waits for the next
 * sync. An acknowledgement is confirmed when no crash brings its message back. Of one that came by a commit the journal says where it
 * is to be, so its log must be on disk, too; also if somebody else is just about to sync that.
 */
#include <semaphore.h>
#include <sys/resource.h>

#include "engine/io.h"
#include "engine/local_internal.h"
#include "engine/local_queue.h"
#include "tests/lib/contract.h"

static struct {
	struct contract *c;
	struct engine_object *queue;
	struct engine_producer *producer;
	struct partition *partition; /* or NULL: it is about the queue */
	struct engine_done done;
	sem_t confirmed;
	sem_t may_sync; /* again */
	bool asked;
	int result;
	uint64_t durable; /* of the log, when it was confirmed */
} scene;

static struct lane *lane_of_queue(void)
{
	return queue_lane(queue_of_object((struct object *)scene.queue), 0);
}

static void confirm(struct engine_done *done, int result)
{
	(void)done;
	scene.result = result;
	scene.durable =
	    plog_durable(atomic_load(scene.partition != NULL ? &scene.partition->plog : &lane_of_queue()->plog));
	sem_post(&scene.confirmed);
}

/* The log is about to be synced, once the journal is. */
static int sync_data(int fd)
{
	struct local *local = (struct local *)scene.c->engine;

	if (!scene.asked && journal_synced(local->journal) >= journal_end(local->journal)) {
		scene.asked = true;
		int rc = scene.c->ops->queue->settle_sync(scene.queue, &scene.done);
		if (rc != ENGINE_PENDING)
			confirm(&scene.done, rc);
	}
	return io_posix.fdatasync(fd);
}

static struct engine_object *make(struct contract *c, enum engine_kind kind, const char *name)
{
	struct engine_owner owner = { 0, 0, 0755 };
	struct engine_object *object;

	assert_ok(c->ops->create(c->engine, c->root, kind, name, &owner, &object));
	return object;
}

/* A message is taken from the queue. */
static void take(struct contract *c)
{
	struct engine_consumer *consumer;
	struct engine_scratch scratch = { 0 };
	struct engine_view view;

	assert_ok(c->ops->queue->consumer_open(scene.queue, ENGINE_CONSUME_ONE, true, 0, &consumer));
	cr_assert_eq(c->ops->consumer_fetch(consumer, 1, SIZE_MAX, &scratch, &view), 1);
	c->ops->consumer_close(consumer);
	engine_scratch_release(&scratch);
}

/* A queue that is bound to an exchange, and a message that came through it and is taken. */
static void publish_and_take(struct contract *c)
{
	struct engine_object *exchange = make(c, ENGINE_EXCHANGE, "e"), *other;

	assert_ok(c->ops->exchange->pattern_add(exchange, "#"));
	scene.queue = make(c, ENGINE_QUEUE, "q");
	other = make(c, ENGINE_QUEUE, "r");
	assert_ok(c->ops->exchange->bind(exchange, "#", "q", scene.queue));
	assert_ok(c->ops->exchange->bind(exchange, "#", "r", other));
	contract_send(c, exchange, ENGINE_ANY, "x\n");
	take(c);
	c->ops->put(other);
	c->ops->put(exchange);
}

static void await_confirmed(void)
{
	while (sem_wait(&scene.confirmed)) {
	}
}

static void beside_a_sync(struct contract *c)
{
	struct local *local = (struct local *)c->engine;
	struct io_ops watched = io_posix;

	scene.c = c;
	scene.done.fn = confirm;
	sem_init(&scene.confirmed, 0, 0);
	timers_stop(local);
	publish_and_take(c);
	cr_assert(lane_of_queue()->noted);
	watched.fdatasync = sync_data;
	io = &watched;
	assert_ok(lane_sync_run(&lane_of_queue()->sync));
	cr_assert(scene.asked);
	await_confirmed();
	cr_expect_eq(scene.result, 0);
	cr_expect_eq(scene.durable, lane_of_queue()->end);
	io = &io_posix;
	c->ops->put(scene.queue);
}

/* A sync for which there was no descriptor has done nothing: the log has still to be synced before an ack or a trim counts. */
static void sync_without_files(struct contract *c)
{
	struct rlimit files, none;

	timers_stop((struct local *)c->engine);
	publish_and_take(c);
	cr_assert(c->ops->give_files(c->engine)); /* the log's are closed */
	getrlimit(RLIMIT_NOFILE, &files);
	none = (struct rlimit){ 0, files.rlim_max };
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	cr_assert_eq(lane_sync_run(&lane_of_queue()->sync), -EMFILE);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
	cr_assert(lane_of_queue()->noted);
	assert_ok(lane_sync_run(&lane_of_queue()->sync));
	cr_assert(!lane_of_queue()->noted);
	c->ops->put(scene.queue);
}

Test(settle_sync, sync_without_files)
{
	contract_run(true, sync_without_files);
}

static int fail(int fd)
{
	(void)fd;
	return -EIO;
}

/* Of one that no commit brought the journal says only that it is gone; that has to be on disk, or it is not confirmed. */
static void confirm_take(struct contract *c, bool fails)
{
	struct local *local = (struct local *)c->engine;
	struct engine_batch batch = contract_batch("x\n");
	struct engine_producer *producer;
	struct io_ops failing = io_posix;
	uint64_t end;
	int rc;

	scene.done.fn = confirm;
	sem_init(&scene.confirmed, 0, 0);
	timers_stop(local);
	scene.queue = make(c, ENGINE_QUEUE, "q");
	assert_ok(c->ops->queue->producer_open(scene.queue, ENGINE_ANY, false, &producer));
	assert_ok(contract_send_batch(c, producer, &batch));
	c->ops->producer_close(producer);
	take(c);
	end = journal_end(local->journal);
	cr_assert(!lane_of_queue()->noted);
	cr_assert_lt(journal_synced(local->journal), end);
	failing.fdatasync = fail;
	io = fails ? &failing : &io_posix;
	rc = c->ops->queue->settle_sync(scene.queue, &scene.done);
	if (rc == ENGINE_PENDING)
		await_confirmed();
	io = &io_posix;
	cr_assert_eq(rc == ENGINE_PENDING ? scene.result : rc, fails ? -EIO : 0);
	cr_assert_eq(journal_synced(local->journal) >= end, !fails);
	c->ops->put(scene.queue);
}

static void no_commit(struct contract *c)
{
	confirm_take(c, false);
}

Test(settle_sync, no_commit)
{
	contract_run(true, no_commit);
}

static void journal_fails(struct contract *c)
{
	confirm_take(c, true);
	c->ops->put(c->root);
	cr_assert_lt(c->ops->close(c->engine), 0);
	contract_open(c);
}

Test(settle_sync, journal_fails)
{
	contract_run(true, journal_fails);
}

Test(settle_sync, beside_a_sync)
{
	contract_run(true, beside_a_sync);
}

/* ---- messages ---- */

/* The journal is synced for one message, and another comes, for which it is not synced before it may be. */
static int sync_and_send(int fd)
{
	struct engine_batch batch = contract_batch("second\n");
	bool again = scene.asked;

	scene.asked = true;
	while (again && sem_wait(&scene.may_sync)) {
	}
	if (again) {
		sem_post(&scene.may_sync);
	} else {
		assert_ok(contract_send_batch(scene.c, scene.producer, &batch));
		cr_assert_eq(scene.c->ops->producer_sync(scene.producer, &scene.done), ENGINE_PENDING);
	}
	return io_posix.fdatasync(fd);
}

static void sent_during_a_sync(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_batch batch = contract_batch("first\n");
	struct io_ops watched = io_posix;

	scene.c = c;
	scene.done.fn = confirm;
	scene.producer = contract_producer(c, topic, 0);
	scene.partition = topic_partition(topic_of_object((struct object *)topic), 0);
	sem_init(&scene.confirmed, 0, 0);
	sem_init(&scene.may_sync, 0, 0);
	timers_stop((struct local *)c->engine);
	assert_ok(contract_send_batch(c, scene.producer, &batch));
	watched.fdatasync = sync_and_send;
	io = &watched;
	assert_ok(contract_sync(c, scene.producer));
	cr_assert(scene.asked);
	cr_assert_lt(sem_trywait(&scene.confirmed), 0);
	sem_post(&scene.may_sync);
	await_confirmed();
	io = &io_posix;
	cr_assert_eq(scene.result, 0);
	cr_assert_eq(scene.durable, 2);
	c->ops->producer_close(scene.producer);
	c->ops->put(topic);
}

Test(settle_sync, sent_during_a_sync)
{
	contract_run(true, sent_during_a_sync);
}
