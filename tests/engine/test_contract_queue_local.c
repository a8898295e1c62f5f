/* The local engine passes the contract of queues: see tests/lib/contract_queue.h, and the sentences above the tests there. */
#include <stdlib.h>
#include <string.h>

#include "engine/local_internal.h"
#include "engine/local_queue.h"
#include "tests/lib/contract_queue.h"

#define CONTRACT_TEST(name)                                                                                            \
	Test(contract_queue_local, name)                                                                               \
	{                                                                                                              \
		contract_queue_run(true, contract_test_##name);                                                        \
	}

CONTRACT_QUEUE_TESTS(CONTRACT_TEST)
CONTRACT_QUEUE_REOPEN_TESTS(CONTRACT_TEST)

/* A message so large that a log that is wholly settled is trimmed comes and goes. */
static void fill_and_trim(struct contract *c, struct engine_object *queue)
{
	struct plog *plog = atomic_load(&queue_lane(queue_of_object(object_of(queue)), 0)->plog);
	struct engine_producer *producer;
	struct engine_partition_stat stat;
	struct engine_batch batch;
	char *text = calloc(1, QUEUE_TRIM_BYTES + 2);

	memset(text, 'x', QUEUE_TRIM_BYTES);
	text[QUEUE_TRIM_BYTES] = '\n';
	batch = contract_batch(text);
	assert_ok(c->ops->queue->producer_open(queue, 0, false, &producer));
	assert_ok(contract_send_batch(c, producer, &batch));
	c->ops->producer_close(producer);
	free(text);
	Q_SCRIPT(c, "purge q");
	assert_ok(checkpoint_run((struct local *)c->engine));
	plog_stat(plog, &stat);
	cr_assert_eq(stat.earliest, stat.end, "the log is trimmed");
}

/* What was acknowledged stays so when it has left the log, by one trim after the other; what was never leased does, too. */
static void late_acks_trimmed(struct contract *c)
{
	struct engine_object *queue;

	Q_SCRIPT(c, "queue q", "send q a b c", "get q => a", "ack q a => 1", "rm q ready b", "take q => c");
	queue = q_object(c, "q");
	fill_and_trim(c, queue);
	Q_SCRIPT(c, "ack q a => EALREADY", "ack q b => ENOENT", "ack q c => EALREADY", "send q d", "get q => d",
	    "ack q d => 1");
	fill_and_trim(c, queue);
	Q_SCRIPT(c, "ack q a => EALREADY", "ack q b => ENOENT", "ack q d => EALREADY", "ack q #99999 => ENOENT");
	c->ops->put(queue);
}

Test(contract_queue_local, q_late_acks_trimmed)
{
	contract_queue_run(true, late_acks_trimmed);
}
