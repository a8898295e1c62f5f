/*
 * Messages of a commit that were moved on before anything of them was on disk: wherever the power goes, all targets have one, or none
 * has, and none is in two queues, even if the journal lost the note and kept what came behind it.
 *
 * A message is published through an exchange to two queues, and moved from the one by mv, and from the other as a dead letter.
 */
#include "engine/local_internal.h"
#include "tests/lib/contract_exchange.h"
#include "tests/lib/crash.h"
#include "tests/lib/nosync.h"

#define SEEDS 60u

static const char *const queues[] = { "q", "r", "s", "q/dlq", "r/dlq" };

static void prepare(struct contract *c)
{
	Q_SCRIPT(c, "exchange e", "queue q", "queue r", "queue s", "pattern e #", "bind e # q q", "bind e # r r",
	    "send q z1", "send r z2", "send s z3", "mv q ready z1 q/dlq ready", "mv r ready z2 r/dlq ready",
	    "rm q/dlq ready z1", "rm r/dlq ready z2", "rm s ready z3"); /* their lanes are made */
}

static void publish(struct contract *c)
{
	struct engine_object *exchange = q_object(c, "e");
	struct engine_batch batch = contract_batch("m\n");
	struct engine_producer *producer;

	assert_ok(c->ops->producer_open(exchange, ENGINE_ANY, (struct engine_span){ "k", 1 }, &producer));
	assert_ok(c->ops->producer_send(producer, &batch, NULL));
	c->ops->producer_close(producer);
	c->ops->put(exchange);
}

static unsigned count_in(struct contract *c, const char *path)
{
	struct engine_object *queue = q_object(c, path);
	struct engine_queue_stat stat;

	assert_ok(c->ops->queue->queue_stat(queue, &stat));
	c->ops->put(queue);
	return (unsigned)(stat.ready + stat.unacked);
}

static void check(const struct powercut *cut, size_t n, uint64_t seed, unsigned counts[3])
{
	struct contract *c = calloc(1, sizeof(*c));
	unsigned in[5], first, second;

	q_prepare(c, true);
	crash_make(c, cut, n, seed, false);
	contract_open(c);
	for (unsigned i = 0; i < 5; i++)
		in[i] = count_in(c, queues[i]);
	first = in[0] + in[2];  /* by mv */
	second = in[1] + in[4]; /* as a dead letter */
	cr_assert(first == second && first <= 1 && in[3] == 0, "%zu, seed %" PRIu64 ": %u %u %u, dead %u %u", n, seed,
	    in[0], in[1], in[2], in[3], in[4]);
	counts[first == 0 ? 0 : in[2] == 0 ? 1 : 2]++;
	q_close(c);
	free(c);
}

Test(local_moved_crash, published, .timeout = 200)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct powercut *cut;
	size_t begin, end;
	unsigned counts[3] = { 0 };

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	prepare(c);
	assert_ok(checkpoint_run((struct local *)c->engine));
	timers_stop((struct local *)c->engine);
	cut = powercut_start_store(((struct local *)c->engine)->store.dirfd, "catalog", "reserve");
	begin = powercut_count(cut);
	publish(c);
	Q_SCRIPT(c, "show q => m |  | ", "mv q ready m s ready");
	q_forget(); /* its other copy has another id */
	Q_SCRIPT(c, "show r => m |  | ", "mv r ready m r/dlq ready");
	end = powercut_count(cut);
	powercut_stop(cut);
	q_close(c);
	for (size_t n = begin; n <= end; n++) {
		for (uint64_t seed = 0; seed < SEEDS; seed++)
			check(cut, n, seed < 2 ? seed : n * SEEDS + seed, counts);
	}
	cr_assert(counts[0] > 0 && counts[1] > 0 && counts[2] > 0, "%u %u %u", counts[0], counts[1], counts[2]);
	powercut_free(cut);
	free(c);
}
