/*
 * More logs and staging files than the process may have descriptors for: logs that were not used for longest give theirs back, synced
 * or not, staging files are not made, and nothing that is written fails.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "engine/local_internal.h"
#include "tests/lib/contract_queue.h"
#include "tests/lib/staging.h"

#define DESCRIPTORS 1024u
#define QUEUES 600u
#define TOPICS 300u

static unsigned count_descriptors(void)
{
	unsigned count = 0;
	DIR *dir = opendir("/proc/self/fd");

	cr_assert_not_null(dir);
	while (readdir(dir) != NULL)
		count++;
	closedir(dir);
	return count;
}

static void few_descriptors(rlim_t most)
{
	struct rlimit limit = { most, most };

	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void send_to(struct contract *c, unsigned i, const char *text)
{
	struct engine_batch batch = contract_batch(text);
	struct engine_producer *producer;
	struct engine_object *queue;
	char name[16];

	snprintf(name, sizeof(name), "q%u", i);
	queue = contract_lookup(c, c->root, ENGINE_QUEUE, name);
	assert_ok(c->ops->queue->producer_open(queue, i % 3, false, &producer));
	assert_ok(contract_send_batch(c, producer, &batch));
	c->ops->producer_close(producer);
	c->ops->put(queue);
}

static void make_queue(struct contract *c, unsigned i)
{
	char command[32];

	snprintf(command, sizeof(command), "queue q%u", i);
	assert_text(q_run(c, command), "ok");
	snprintf(command, sizeof(command), "set q%u flush.ms -1", i); /* nothing syncs them before their time */
	assert_text(q_run(c, command), "ok");
}

static void many_queues(struct contract *c)
{
	char command[32], topic_name[16];

	for (unsigned i = 0; i < QUEUES; i++) {
		make_queue(c, i);
		send_to(c, i, "a\nb\n");
	}
	for (unsigned i = 0; i < TOPICS; i++) {
		struct engine_object *topic;

		snprintf(topic_name, sizeof(topic_name), "t%u", i);
		topic = contract_topic(c, topic_name, 1);
		contract_send(c, topic, 0, "x\n");
		c->ops->put(topic);
	}
	cr_assert_lt(count_descriptors(), DESCRIPTORS);
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < QUEUES; i++) {
			snprintf(command, sizeof(command), "take q%u", i);
			assert_text(q_run(c, command), round == 0 ? "a" : "b");
			q_forget();
		}
		if (round == 0)
			contract_reopen(c);
	}
}

/* Hundreds of queues and topics with a message each, not synced, with descriptors for a part of them. */
Test(local_many, few_descriptors)
{
	tmpdir_in_memory();
	few_descriptors(DESCRIPTORS);
	contract_queue_run(true, many_queues);
}

/* ---- open for writing ---- */

#define FEW 256u
#define EACH 120u /* topics, and queues */
#define ROUNDS 3u

/* One that is open for writing. */
struct writing {
	struct engine_object *object;
	struct engine_producer *producer;
	struct engine_stage *stage; /* NULL: write by write */
	int writer;                 /* of that; -1: opened for each write */
};

static void open_writing(struct contract *c, struct writing *w, bool queue, unsigned i)
{
	char name[16], command[40];
	struct engine_producer *own;
	int rc;

	snprintf(name, sizeof(name), "%c%u", queue ? 'q' : 't', i);
	if (queue) {
		snprintf(command, sizeof(command), "queue %s", name);
		assert_text(q_run(c, command), "ok");
		snprintf(command, sizeof(command), "set %s linger.ms 60000", name);
		assert_text(q_run(c, command), "ok");
		w->object = contract_lookup(c, c->root, ENGINE_QUEUE, name);
		assert_ok(c->ops->queue->producer_open(w->object, ENGINE_ANY, false, &w->producer));
		assert_ok(c->ops->queue->producer_open(w->object, ENGINE_ANY, false, &own));
	} else {
		w->object = contract_topic(c, name, 1);
		assert_ok(contract_set(c, w->object, "linger.ms", "60000"));
		assert_ok(c->ops->producer_open(w->object, 0, (struct engine_span){ NULL, 0 }, &w->producer));
		assert_ok(c->ops->producer_open(w->object, 0, (struct engine_span){ NULL, 0 }, &own));
	}
	w->writer = -1;
	rc = staging_open(c, own, '\n', &staging_cred, &w->stage);
	cr_assert(rc == 0 || rc == -EAGAIN, "%s", strerror(-rc));
	if (rc < 0)
		w->stage = NULL;
}

static void write_one(struct contract *c, const struct writing *w)
{
	struct engine_batch batch = contract_batch("m\n");
	int writer;

	if (w->stage == NULL) {
		assert_ok(contract_send_batch(c, w->producer, &batch));
		return;
	}
	writer = w->writer >= 0 ? w->writer : staging_writer(c, w->stage);
	staging_text(writer, "m\n");
	if (writer != w->writer)
		close(writer);
	assert_ok(c->ops->stage->take(w->stage));
}

static void close_writing(struct contract *c, struct writing *w)
{
	struct engine_stat stat = contract_stat(c, w->object);

	cr_assert_eq(stat.messages, ROUNDS);
	if (w->writer >= 0)
		close(w->writer);
	if (w->stage != NULL)
		assert_ok(c->ops->stage->close(w->stage, true));
	c->ops->producer_close(w->producer);
	c->ops->put(w->object);
}

static void assert_healthy(struct contract *c)
{
	char health[1024];

	c->ops->health(c->engine, health, sizeof(health));
	assert_text(health, "state ok\n");
}

static void many_writers(struct contract *c)
{
	struct writing writing[2 * EACH];
	unsigned staged = 0;

	for (unsigned i = 0; i < 2 * EACH; i++) {
		open_writing(c, &writing[i], i % 2, i / 2);
		staged += writing[i].stage != NULL;
	}
	cr_assert(staged > 0 && staged < 2 * EACH, "%u", staged);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < 2 * EACH; i++)
			write_one(c, &writing[i]);
		cr_assert_lt(count_descriptors(), FEW);
		assert_ok(checkpoint_run((struct local *)c->engine)); /* it opens what it syncs */
		cr_assert_lt(count_descriptors(), FEW);
	}
	assert_healthy(c);
	for (unsigned i = 0; i < 2 * EACH; i++)
		close_writing(c, &writing[i]);
}

/* Topics and queues of which each is open for writing, with staging files for some of them: all take what is written. */
Test(local_many, few_descriptors_for_writers)
{
	few_descriptors(FEW);
	contract_queue_run(true, many_writers);
}

/* Takes all descriptors that are left. */
static size_t take_all(int taken[FEW])
{
	size_t count = 0;

	while ((taken[count] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		count++;
	return count;
}

static void none_left(struct contract *c)
{
	struct writing writing[4 * ROUNDS], others[4];
	int taken[FEW];
	size_t count;

	for (unsigned i = 0; i < 4; i++) {
		open_writing(c, &others[i], i % 2, EACH + i);
		assert_ok(c->ops->stage->close(others[i].stage, true));
		others[i].stage = NULL;
	}

	for (unsigned i = 0; i < 4 * ROUNDS; i++) {
		open_writing(c, &writing[i], i % 2, i / 2);
		cr_assert_not_null(writing[i].stage);
		if (i % 4 < 2) { /* these go write by write */
			assert_ok(c->ops->stage->close(writing[i].stage, true));
			writing[i].stage = NULL;
		} else {
			writing[i].writer = staging_writer(c, writing[i].stage);
		}
	}
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < 4 * ROUNDS; i++) {
			while (c->ops->give_files(c->engine))
				;
			for (unsigned k = 0; k < 4 && round > 0; k++)
				write_one(c, &others[k]); /* their logs are open, and may be closed */
			count = round > 0 ? take_all(taken) : 0;
			write_one(c, &writing[i]);
			while (count > 0)
				close(taken[--count]);
		}
	}
	assert_healthy(c);
	for (unsigned i = 0; i < 4; i++) {
		c->ops->producer_close(others[i].producer);
		c->ops->put(others[i].object);
	}
	for (unsigned i = 0; i < 4 * ROUNDS; i++)
		close_writing(c, &writing[i]);
}

/* Somebody has taken every descriptor: logs are closed for what is written. */
Test(local_many, no_descriptor_left)
{
	few_descriptors(FEW);
	contract_queue_run(true, none_left);
}
