/*
 * What a crash leaves of dead letters that go through an exchange: at every change of a file from a reject to after the
 * checkpoint the daemon dies, or the machine does. Then each message is where it was, or with all targets of the exchange, once,
 * with its deaths; or, if nothing matches, dropped and counted. What is found in the dlq goes on.
 */
#include <sys/stat.h>

#include "engine/local_internal.h"
#include "engine/local_queue.h"
#include "tests/lib/contract_exchange.h"
#include "tests/lib/contract_queue.h"
#include "tests/lib/crash.h"
#include "tests/lib/fault.h"
#include "tests/lib/nosync.h"
#include "tests/lib/powercut.h"

#define MESSAGES 4u /* the last goes nowhere: it is rejected when nothing is bound any more */
#define TARGETS 4u

static const char *const targets[TARGETS] = { "q", "r", "t", "u" };

static void prepare(struct contract *c)
{
	q_run(c, "exchange e");
	q_run(c, "pattern e k.#");
	for (unsigned i = 0; i < TARGETS; i++) {
		char text[64];

		snprintf(text, sizeof(text), "%s %s", i < 2 ? "queue" : "topic", targets[i]);
		q_run(c, text);
		snprintf(text, sizeof(text), "bind e k.# %s %s", targets[i], targets[i]);
		q_run(c, text);
	}
	q_run(c, "queue dying");
	assert_text(q_run(c, "set dying dead.letter.to exchanges/e"), "ok");
	assert_text(q_run(c, "set dying dead.letter.routing.key k.dead"), "ok");
	q_run(c, "send dying m0 m1 m2 m3");
	assert_text(q_run(c, "get dying"), "m0");
	assert_text(q_run(c, "get dying"), "m1");
	assert_text(q_run(c, "get dying"), "m2");
	assert_text(q_run(c, "get dying"), "m3");
}

/* ---- what is there ---- */

struct looking {
	struct contract *c;
	struct engine_object *queue;
	const char *what;
	bool dead; /* its deaths are to be there */
	unsigned counts[MESSAGES];
};

static void look_at_view(struct looking *l, const struct engine_view *view)
{
	const char *data = view->batch.data;

	for (uint32_t i = 0; i < view->batch.count; i++) {
		const struct engine_props *props = view->batch.props != NULL ? &view->batch.props[i] : NULL;
		unsigned n;

		cr_assert(sscanf(data, "m%u\n", &n) == 1 && n < MESSAGES, "%s", l->what);
		l->counts[n]++;
		cr_assert_eq(l->counts[n], 1, "%s: m%u is there twice", l->what, n);
		data += view->batch.lengths[i] + 1;
		if (l->dead)
			cr_assert(props != NULL && props->death_count == 1 && props->deaths[0].count == 1 &&
				      props->deaths[0].reason == ENGINE_REJECTED && props->deaths[0].queue.len == 5 &&
				      memcmp(props->deaths[0].queue.ptr, "dying", 5) == 0,
			    "%s: m%u has %u deaths", l->what, n, props != NULL ? props->death_count : 0);
	}
}

static bool look_at(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct looking *l = ctx;
	struct engine_view view;

	(void)next;
	assert_ok(l->c->ops->queue->message_read(l->queue, stat->id, &l->c->scratch, &view));
	look_at_view(l, &view);
	return true;
}

static void look(struct looking *l, struct engine_object *object, bool is_topic)
{
	struct engine_view view;
	uint64_t offset = 0;

	l->queue = object;
	for (unsigned state = 0; !is_topic && state < ENGINE_STATE_COUNT; state++) {
		uint64_t cursor[2] = { 0 };

		assert_ok(l->c->ops->queue->message_list(
		    object, (enum engine_message_state)state, ENGINE_ANY, NULL, cursor, look_at, l));
	}
	while (is_topic && l->c->ops->partition_read(object, 0, offset, UINT32_MAX, &l->c->scratch, &view) == 0) {
		look_at_view(l, &view);
		offset = view.offset + view.batch.count;
	}
}

/* What is under way in the timer's thread is over then. */
static void forward(struct contract *c, struct engine_object *dlq, const char *what)
{
	struct engine_queue_stat stat;

	timers_stop((struct local *)c->engine);
	queue_catch_up((struct local *)c->engine);
	assert_ok(c->ops->queue->queue_stat(dlq, &stat));
	cr_assert_eq(stat.ready, 0, "%s: %" PRIu64 " dead letters do not go on", what, stat.ready);
}

/* Returns how many have died. */
static unsigned check(struct contract *c, const char *what)
{
	struct engine_object *dlq = q_object(c, "dying/dlq"), *dying = q_object(c, "dying");
	struct looking living = { .c = c, .what = what }, there[TARGETS];
	struct engine_queue_stat stat;
	unsigned died = 0, dropped = 0;

	forward(c, dlq, what);
	look(&living, dying, false);
	for (unsigned t = 0; t < TARGETS; t++) {
		struct engine_object *object =
		    contract_lookup(c, c->root, t < 2 ? ENGINE_QUEUE : ENGINE_TOPIC, targets[t]);

		there[t] = (struct looking){ .c = c, .what = what, .dead = true };
		look(&there[t], object, t >= 2);
		c->ops->put(object);
	}
	for (unsigned m = 0; m < MESSAGES; m++) {
		unsigned count = 0;

		for (unsigned t = 0; t < TARGETS; t++)
			count += there[t].counts[m];
		cr_assert(living.counts[m] == 0 || count == 0, "%s: m%u is there, and with %u targets", what, m, count);
		cr_assert(count == 0 || count == TARGETS, "%s: m%u is with %u targets", what, m, count);
		died += living.counts[m] == 0;
		dropped += living.counts[m] == 0 && count == 0;
	}
	assert_ok(c->ops->queue->queue_stat(dlq, &stat));
	cr_assert_eq(
	    stat.dropped, dropped, "%s: %u went nowhere, %" PRIu64 " are counted", what, dropped, stat.dropped);
	cr_assert_leq(dropped, 1, "%s", what);
	c->ops->put(dlq);
	c->ops->put(dying);
	return died;
}

/* ---- every moment ---- */

struct seen {
	size_t ends[MESSAGES]; /* then the reject of each has returned */
	unsigned dead[MESSAGES + 1];
};

static void check_moment(struct contract *c, const struct crash_moment *at, void *ctx)
{
	struct seen *seen = ctx;
	unsigned died;

	contract_open(c);
	died = check(c, at->what);
	contract_reopen(c);
	cr_assert_eq(check(c, at->what), died, "%s: another start makes another thing of it", at->what);
	seen->dead[died]++;
	for (unsigned m = 0; m < MESSAGES && at->kill; m++)
		cr_assert(at->n < seen->ends[m] || died > m, "%s: it lost a reject", at->what);
}

static void reject(struct contract *c, const char *command)
{
	assert_text(q_run(c, command), "1");
	queue_catch_up((struct local *)c->engine);
}

Test(local_dead_crash, every_change, .timeout = 240)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct powercut *cut;
	struct seen seen = { 0 };
	size_t last;

	tmpdir_in_memory();
	nosync_install();
	q_open(c, true);
	prepare(c);
	assert_ok(checkpoint_run((struct local *)c->engine)); /* all so far is on disk */
	timers_stop((struct local *)c->engine);
	cut = powercut_start_store(((struct local *)c->engine)->store.dirfd, "catalog", "reserve");
	reject(c, "reject dying m0");
	seen.ends[0] = powercut_count(cut);
	assert_text(q_run(c, "reject dying m1-m2"), "2"); /* these go on together */
	queue_catch_up((struct local *)c->engine);
	seen.ends[1] = seen.ends[2] = powercut_count(cut);
	for (unsigned i = 0; i < TARGETS; i++) {
		char text[64];

		snprintf(text, sizeof(text), "unbind e k.# %s %s", targets[i], targets[i]);
		assert_text(q_run(c, text), "ok");
	}
	reject(c, "reject dying m3");
	seen.ends[3] = powercut_count(cut);
	assert_ok(checkpoint_run((struct local *)c->engine));
	last = powercut_count(cut);
	powercut_stop(cut);
	q_close(c);
	crash_each(cut, 0, last, check_moment, &seen);
	for (unsigned i = 0; i <= MESSAGES; i++)
		cr_assert(i == 2 || seen.dead[i] > 0, "%u dead were never seen", i);
	powercut_free(cut);
	free(c);
}

/* How many syncs it takes to reject the first `count` of 50 and to have them go on. */
static uint64_t syncs_of(unsigned count)
{
	struct contract *c = calloc(1, sizeof(*c));
	struct engine_queue_stat stat;
	struct engine_object *r;
	uint64_t syncs;
	char text[64];

	q_open(c, true);
	prepare(c);
	for (unsigned i = 10; i < 60; i++) {
		snprintf(text, sizeof(text), "send dying n%u", i);
		q_run(c, text);
		assert_text(q_run(c, "get dying"), text + strlen("send dying "));
	}
	assert_ok(checkpoint_run((struct local *)c->engine));
	timers_stop((struct local *)c->engine);
	snprintf(text, sizeof(text), "reject dying n10-n%u", 9 + count);
	fault_arm(FAULT_SYNC, 0, 0, false);
	q_run(c, text);
	queue_catch_up((struct local *)c->engine);
	syncs = fault_disarm();
	r = q_object(c, "r");
	assert_ok(c->ops->queue->queue_stat(r, &stat));
	cr_assert_eq(stat.ready, count);
	c->ops->put(r);
	q_close(c);
	free(c);
	return syncs;
}

/* Dead letters that die together share the sync of one note. */
Test(local_dead_crash, many_share_a_sync)
{
	uint64_t one, many;

	tmpdir_in_memory();
	one = syncs_of(1);
	many = syncs_of(50);
	cr_assert_gt(one, 0);
	cr_assert_eq(many, one, "one takes %" PRIu64 " syncs, fifty take %" PRIu64, one, many);
}
