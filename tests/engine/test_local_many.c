/*
 * More logs than the process may have descriptors for: those that were not used for longest give theirs back, synced or not.
 */
#include <dirent.h>
#include <sys/resource.h>

#include "tests/lib/contract_queue.h"

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

static void few_descriptors(void)
{
	struct rlimit limit = { DESCRIPTORS, DESCRIPTORS };

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
	few_descriptors();
	contract_queue_run(true, many_queues);
}
