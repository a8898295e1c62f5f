/*
 * state - what a crash left: it is recovered by the engine, and looked at by checker.h, which shares no code with it.
 *
 *   - what was confirmed (killed only: accepted) is there, whole, once, in its place; what was purged is not;
 *   - nothing is there that was not sent; messages of a partition or priority are in order; what came from a staging file and was
 *     not confirmed may be there twice after a power cut; what was moved is where it came to, and is settled where it was;
 *   - what was settled and confirmed (killed: answered) is not live; what nobody settled is;
 *   - what a transaction or an exchange gave to two targets is in both or in none;
 *   - what a group rejected is in its dlq, or still before its cursor, and not in both nor in none;
 *   - objects that were made are there, those removed are not; cursors are where they were put;
 *   - every checksum and number in every file is right, and what is produced then is there after the next closing.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/clock.h"
#include "tests/long/checker.h"
#include "tests/long/work.h"

struct state {
	struct checker checker;
	struct work *work;
	size_t n;
	bool kill, goes_on;
	uint8_t seen[COPIES], live[COPIES];
	unsigned last[TARGETS][10];
	bool names[NAMES], topics[TARGETS], went_on[2];
	uint64_t committed[2];
	unsigned lowest; /* of r */
};

/* Is it there already? What was moved is settled where it was. */
static bool is_second(const struct state *s, const struct copy *c, const struct checker_message *m)
{
	size_t i = (size_t)(c - s->work->copies);

	return c->moved < s->n ? m->live && s->live[i] : s->seen[i] > 0;
}

/* The log's bytes came to the disk, and what says that they left the staging file did not. */
static bool may_be_double(const struct state *s, const struct copy *c)
{
	return (c->target == S || c->target == L) && !s->kill && c->confirmed > s->n;
}

static void on_message(struct checker *checker, const struct checker_message *m)
{
	struct state *s = checker->ctx;
	unsigned number = 0, target = 0;
	struct copy *c;
	char want[512];

	while (target < TARGETS && strcmp(work_targets[target], m->name) != 0)
		target++;
	if (target == TARGETS || (target == D) != (strcmp(m->parent, "g") == 0) ||
	    sscanf(m->payload, "m%u ", &number) != 1) {
		checker_wrong(checker, "%s: offset %" PRIu64 ": %.*s", m->name, m->offset, (int)m->size, m->payload);
		return;
	}
	if (work_payload(number, want) != m->size || memcmp(want, m->payload, m->size) != 0)
		checker_wrong(checker, "%s: m%u is torn", m->name, number);
	if (number == GOES_ON) {
		s->went_on[target == Q] = true;
		return;
	}
	c = work_find(s->work, (enum target)target, number);
	if (c == NULL || c->begin >= s->n) {
		checker_wrong(checker, "%s: m%u was not sent", m->name, number);
		return;
	}
	if (is_second(s, c, m)) {
		if (!may_be_double(s, c))
			checker_wrong(checker, "%s: m%u is there twice, the second time at %" PRIu64 " of %" PRIu32,
			    m->name, number, m->offset, m->index);
		return;
	}
	s->seen[c - s->work->copies] = 1;
	s->live[c - s->work->copies] |= m->live;
	if (c->pair == 0 && target != D && c->moved >= s->n) {
		if (number < s->last[target][m->index])
			checker_wrong(checker, "%s: m%u comes after m%u", m->name, number, s->last[target][m->index]);
		s->last[target][m->index] = number;
	}
	if (target == R && number < s->lowest)
		s->lowest = number;
}

static void on_object(struct checker *checker, int kind, const char *name, const char *parent)
{
	struct state *s = checker->ctx;
	unsigned number;

	(void)parent;
	if ((kind == ENGINE_TOPIC || kind == ENGINE_MEMBER) && sscanf(name, "x%u", &number) == 1 && number < NAMES)
		s->names[number] = true;
}

static void on_cursor(struct checker *checker, const char *group, uint32_t partition, uint64_t committed)
{
	struct state *s = checker->ctx;

	if (strcmp(group, "g") == 0 && partition < 2)
		s->committed[partition] = committed;
}

/* A dead letter: what its group passed over at the same time. */
static void check_dead(struct state *s, const struct copy *c)
{
	const struct copy *from = work_find(s->work, T, c->number);
	bool passed = s->committed[c->part] > c->offset, there = s->seen[c - s->work->copies];

	if (there && !passed && s->seen[from - s->work->copies])
		checker_wrong(&s->checker, "dlq: m%u is there, and the group stands before it", c->number);
	if (!there && passed && c->begin < s->n && c->gone_begin >= s->n)
		checker_wrong(&s->checker, "dlq: m%u is not there, and the group has passed it", c->number);
}

static void check_copy(struct state *s, const struct copy *c)
{
	size_t i = (size_t)(c - s->work->copies);
	size_t sure = s->kill ? c->accepted : c->confirmed, gone = s->kill ? c->gone_accepted : c->gone;
	bool asked = c->gone_begin < s->n, there = s->seen[i] && (c->target < Q || s->live[i]);
	const char *name = work_targets[c->target];

	if (sure <= s->n && !there && !asked && !(c->target == R && c->number < s->lowest && s->lowest != UINT32_MAX))
		checker_wrong(&s->checker, "%s: m%u is lost", name, c->number);
	if (gone <= s->n && there)
		checker_wrong(&s->checker, "%s: m%u is back", name, c->number);
	/* What was moved just before the power went may be lost: where it came to it is not taken for one that counts. */
	if (s->seen[i] && c->target >= Q && !s->live[i] && !asked && (sure <= s->n || c->moved >= s->n))
		checker_wrong(&s->checker,
		    "%s: m%u (%zu to %zu, confirmed %zd, pair %u, tx %d) is settled, and nobody did", name, c->number,
		    c->begin, c->accepted, (ssize_t)c->confirmed, c->pair, c->tx);
	if (c->target == D)
		check_dead(s, c);
	if (c->pair > 0 && !asked) {
		const struct copy *other = &s->work->copies[c->pair - 1];

		if (other->gone_begin >= s->n && s->seen[i] != s->seen[c->pair - 1])
			checker_wrong(&s->checker, "%s: m%u is there, but not in %s",
			    s->seen[i] ? name : work_targets[other->target], c->number,
			    s->seen[i] ? work_targets[other->target] : name);
	}
}

static void check_rest(struct state *s)
{
	struct work *w = s->work;

	for (unsigned i = 0; i < w->name_count; i++) {
		const struct name *n = &w->names[i];

		if (n->made <= s->n && n->remove >= s->n && !s->names[i])
			checker_wrong(&s->checker, "x%u was made and is not there", i);
		if ((n->make >= s->n || n->removed <= s->n) && s->names[i])
			checker_wrong(&s->checker, "x%u is there", i);
	}
	for (uint32_t p = 0; p < 2; p++) {
		uint64_t least = 0, most = 0;

		for (unsigned i = 0; i < w->seek_count[p]; i++) {
			const struct seek *seek = &w->seeks[p][i];

			if ((s->kill ? seek->accepted : seek->confirmed) <= s->n)
				least = seek->committed;
			if (seek->begin < s->n)
				most = seek->committed;
		}
		/* A cursor beyond what the log lost is taken back to its end, so least holds only of a log that kept all. */
		if (s->committed[p] > most || (s->kill && s->committed[p] < least))
			checker_wrong(&s->checker,
			    "cursor of partition %" PRIu32 ": %" PRIu64 ", not %" PRIu64 " to %" PRIu64, p,
			    s->committed[p], least, most);
	}
	if (s->goes_on && (!s->went_on[0] || !s->went_on[1]))
		checker_wrong(&s->checker, "it does not go on");
}

void state_check(struct work *w, size_t n, bool kill, bool goes_on, int dirfd, const char *what)
{
	static struct state s;

	memset(&s, 0, sizeof(s));
	s.checker = (struct checker){ .message = on_message, .object = on_object, .cursor = on_cursor, .ctx = &s };
	s.work = w;
	s.n = n;
	s.kill = kill;
	s.goes_on = goes_on;
	s.lowest = UINT32_MAX;
	checker_store(&s.checker, dirfd);
	for (size_t i = 0; i < w->count; i++)
		check_copy(&s, &w->copies[i]);
	check_rest(&s);
	if (s.checker.wrong > 0) {
		atomic_fetch_add(&w->figures->violations, 1);
		fprintf(stderr, "seed %" PRIu64 ", change %zd, %s: %s\n", w->seed, (ssize_t)n, what, s.checker.text);
	}
}

static void another_boot(uint8_t out[16])
{
	memset(out, 0xff, 16);
}

void state_boot(bool another)
{
	static struct clock_ops clock;

	clock = clock_system;
	if (another)
		clock.boot_id = another_boot;
	clock_now = &clock;
}

/* A log is recovered when somebody asks for it. */
static void look_at_all(struct work *on)
{
	work_find_objects(on);
	for (int i = 0; i < TARGETS; i++) {
		struct engine_partition_stat stat;
		struct engine_queue_stat queue_stat;

		if (i >= Q)
			OK(on->ops->queue->queue_stat(on->targets[i], &queue_stat));
		else
			for (uint32_t p = 0; p < (i == T ? 2u : 1u); p++)
				OK(on->ops->partition_stat(on->targets[i], p, &stat));
	}
}

/* Opens and closes the store in this directory; goes_on: with a message more in t and q. */
bool state_recover(struct work *w, const char *path, bool goes_on, const char *what)
{
	static struct work on; /* nothing of it is left from the last time but figures nobody looks at */
	char data[1024];
	int rc;

	on.next = GOES_ON;
	on.seed = w->seed;
	snprintf(on.source, sizeof(on.source), "%s", path);
	rc = engine_open(on.source, &(struct engine_options){ .root_owner = { 1, 2, 0755 } }, &on.engine);
	if (rc < 0) {
		atomic_fetch_add(&w->figures->violations, 1);
		fprintf(stderr, "seed %" PRIu64 ", %s: does not open: %s\n", w->seed, what, engine_reason());
		return false;
	}
	on.ops = on.engine->ops;
	OK(on.ops->get(on.engine, ENGINE_ROOT_ID, &on.root));
	look_at_all(&on);
	for (int i = 0; goes_on && i < 2; i++) {
		struct engine_batch batch = work_batch(&on, 1, data);
		struct engine_producer *p;
		struct wait wait = WAIT;

		p = work_producer(&on, i ? Q : T, 0);
		OK(work_wait(&wait, on.ops->producer_send(p, &batch, &wait.done)));
		on.ops->producer_close(p);
	}
	work_put_objects(&on);
	rc = on.ops->close(on.engine);
	if (rc < 0) {
		atomic_fetch_add(&w->figures->violations, 1);
		fprintf(stderr, "seed %" PRIu64 ", %s: does not close: %s\n", w->seed, what, strerror(-rc));
	}
	return rc == 0;
}
