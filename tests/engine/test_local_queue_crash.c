/*
 * What a crash leaves of queues, and what the next opening makes of it: at every change of a file the machine dies, or the
 * daemon alone.
 *
 * One run of random commands goes to the memory engine and, with all its changes of files recorded, to the local one. After
 * each command the memory engine tells where every message is: a picture. Then, for every moment of the run, the store is
 * made anew as a crash then may have left it (tests/lib/powercut.h), and opened. What holds of it:
 *   - After a kill all is as the last picture says; in the midst of a command each message is as before it or as after it.
 *   - After a power cut each message is as one of the pictures since the last sync says. So what was synced is there, what
 *     was settled and synced is not, and what is in between may be either.
 *   - No message is in two places, none is torn, messages of a lane that were never moved about are in order, counters
 *     agree with the lists and with each other, no id is given twice, and the queues go on.
 *
 * MQFS_CRASH_SEED and MQFS_CRASH_STEP in the environment choose another run, and how many moments are left out.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/local_internal.h"
#include "tests/lib/contract_queue.h"
#include "tests/lib/crash.h"
#include "tests/lib/nosync.h"
#include "tests/lib/powercut.h"

#define SEED 1
#define STEP 7 /* 1: every moment, which takes a minute */
#define STEPS 260u
#define MESSAGES 600u
#define RECENT 25u
#define QUEUES 5u

static const char *const names[QUEUES] = { "q", "q/dlq", "o", "o/dlq", "x" };

/* ---- pictures ---- */

struct place {
	int8_t queue; /* in names; -1: nowhere */
	int8_t state, priority;
	int8_t deaths; /* how often it died: one death more for the same reason in the same queue is no entry more */
};

struct picture {
	struct place places[MESSAGES];
	struct engine_queue_stat stats[QUEUES];
	char *order; /* all queues, as a listing shows them */
	size_t order_len, order_room;
};

/* One command, and when it began and ended in changes of files. */
struct moment {
	char command[200];
	size_t begin, end;
	int64_t clock;
	uint64_t last_id;
	bool synced; /* it was a sync of all there was */
	struct picture model, local;
};

struct run {
	struct contract *a, *b; /* memory, local */
	struct powercut *cut;
	uint64_t random;
	unsigned sent;
	bool moved[MESSAGES];         /* or at the head, or delayed: its order is not that of arrival */
	struct place first[MESSAGES]; /* as it is when it comes */
	unsigned came[MESSAGES];      /* by this moment */
	uint64_t ids[MESSAGES];
	struct moment moments[STEPS + 1];
	unsigned count;
	unsigned
	    given_anew; /* of a crash: what came from this moment on may have another id, given when it was finished */
	bool renamed, removed;
};

struct look {
	struct run *run;
	struct contract *c;
	struct engine_object *queue;
	struct picture *picture;
	int8_t index;
	uint64_t listed, bytes;
	const char *what;
};

static void add_order(struct picture *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add_order(struct picture *p, const char *format, ...)
{
	va_list args;

	if (p->order_room - p->order_len < 64) {
		p->order_room = p->order_room * 2 + 256;
		p->order = realloc(p->order, p->order_room);
		cr_assert_not_null(p->order);
	}
	va_start(args, format);
	p->order_len += (size_t)vsnprintf(p->order + p->order_len, p->order_room - p->order_len, format, args);
	va_end(args);
}

static int8_t count_deaths(const struct engine_view *view)
{
	uint64_t count = 0;

	for (uint32_t i = 0; view->batch.props != NULL && i < view->batch.props[0].death_count; i++)
		count += view->batch.props[0].deaths[i].count;
	cr_assert_leq(count, INT8_MAX);
	return (int8_t)count;
}

static bool look_at(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct look *l = ctx;
	struct engine_view view;
	struct place *place;
	unsigned number = 0;
	char text[32];
	int rc;

	(void)next;
	rc = l->c->ops->queue->message_read(l->queue, stat->id, &l->c->scratch, &view);
	cr_assert_eq(rc, 0, "%s: message %" PRIu64 " of %s: %s", l->what, stat->id, names[l->index], strerror(-rc));
	snprintf(text, sizeof(text), "%.*s", (int)view.batch.lengths[0], view.batch.data);
	cr_assert(sscanf(text, "m%u", &number) == 1 && number < MESSAGES, "%s: torn: %s", l->what, text);
	snprintf(text, sizeof(text), "m%u", number);
	cr_assert(strlen(text) == view.batch.lengths[0] && memcmp(text, view.batch.data, strlen(text)) == 0);
	place = &l->picture->places[number];
	cr_assert_lt(place->queue, 0, "%s: %s is in %s and in %s", l->what, text,
	    names[(unsigned)place->queue % QUEUES], names[l->index]);
	*place = (struct place){ l->index, (int8_t)stat->state, (int8_t)stat->priority, count_deaths(&view) };
	add_order(l->picture, "%s.%d.%" PRIu32 ".%" PRIu32 " ", text, stat->state, stat->priority, stat->deliveries);
	if (l->c != l->run->a) {
		if (l->run->ids[number] == 0)
			l->run->ids[number] = stat->id;
		cr_assert(l->run->ids[number] == stat->id ||
			      (l->run->given_anew > 0 && l->run->came[number] >= l->run->given_anew),
		    "%s: %s", l->what, text);
	}
	l->listed++;
	l->bytes += stat->size;
	return true;
}

static struct engine_object *find_queue(struct contract *c, unsigned i)
{
	struct engine_object *queue = NULL;

	if (strcmp(names[i], "x") != 0)
		return q_object(c, names[i]);
	if (c->ops->lookup(c->engine, c->root, ENGINE_QUEUE, "x", &queue) < 0)
		c->ops->lookup(c->engine, c->root, ENGINE_QUEUE, "y", &queue);
	return queue;
}

/* What is due happens in calls only, not while one looks. */
static void stop_time(struct contract *c)
{
	timers_stop((struct local *)c->engine);
}

static void do_what_is_due(struct contract *c)
{
	struct engine_queue_stat stat;

	for (unsigned i = 0; i < QUEUES; i++) {
		struct engine_object *queue = find_queue(c, i);

		if (queue == NULL)
			continue;
		assert_ok(c->ops->queue->queue_stat(queue, &stat));
		c->ops->put(queue);
	}
}

/* Where all messages are; checks that counters agree with that, and with each other. */
static void take_picture(struct run *r, struct contract *c, struct picture *p, const char *what)
{
	memset(p->places, -1, sizeof(p->places));
	p->order_len = 0;
	do_what_is_due(c);
	for (unsigned i = 0; i < QUEUES; i++) {
		struct engine_queue_stat *t = &p->stats[i];
		struct look look = {
			.run = r, .c = c, .queue = find_queue(c, i), .picture = p, .index = (int8_t)i, .what = what
		};

		memset(t, 0, sizeof(*t));
		add_order(p, "%s: ", names[i]);
		if (look.queue == NULL)
			continue;
		for (int state = 0; state < ENGINE_STATE_COUNT; state++) {
			uint64_t cursor[2] = { 0, 0 };

			assert_ok(c->ops->queue->message_list(
			    look.queue, (enum engine_message_state)state, ENGINE_ANY, NULL, cursor, look_at, &look));
		}
		assert_ok(c->ops->queue->queue_stat(look.queue, t));
		cr_assert_eq(look.listed, t->ready + t->unacked + t->delayed,
		    "%s: %s: %" PRIu64 " messages, counted %" PRIu64, what, names[i], look.listed,
		    t->ready + t->unacked + t->delayed);
		cr_assert_eq(look.bytes, t->bytes, "%s: %s: %" PRIu64 " bytes, counted %" PRIu64, what, names[i],
		    look.bytes, t->bytes);
		cr_assert_eq(t->published + t->moved_in,
		    t->ready + t->unacked + t->delayed + t->acked + t->dead_lettered + t->expired + t->dropped +
			t->moved_out,
		    "%s", what);
		c->ops->put(look.queue);
	}
}

/* ---- the run ---- */

static uint32_t pick(struct run *r, uint32_t count)
{
	r->random = r->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(r->random >> 33) % count;
}

static const char *pick_word(struct run *r, const char *const *words)
{
	uint32_t count = 0;

	while (words[count] != NULL)
		count++;
	return words[pick(r, count)];
}
#define PICK(r, ...) pick_word((r), (const char *const[]){ __VA_ARGS__, NULL })

static unsigned some_message(struct run *r)
{
	unsigned message = r->sent > 0 ? r->sent - pick(r, r->sent < RECENT ? r->sent : RECENT) : 0;

	return message;
}

/* The words of the next command. */
static void make_send(struct run *r, char *command, size_t size)
{
	bool push = pick(r, 6) == 0;
	const char *queue = PICK(r, "q", "q", "o", r->renamed ? "o" : "x");

	snprintf(command, size, "%s %s", push ? "push" : "send", queue);
	for (unsigned i = 0, count = 1 + pick(r, 4); i < count && r->sent + 1 < MESSAGES; i++) {
		const char *priority = pick(r, 3) == 0 ? PICK(r, ":p1", ":p5", ":p9") : "";
		const char *ttl = pick(r, 8) == 0 ? PICK(r, ":t50", ":t500") : "",
			   *delay = pick(r, 8) == 0 ? PICK(r, ":d20", ":d300") : "";
		size_t used = strlen(command);

		r->sent++;
		r->moved[r->sent] = push || *delay != '\0';
		r->came[r->sent] = r->count;
		r->first[r->sent] = (struct place){ .queue = *queue == 'q'   ? 0
							     : *queue == 'o' ? 2
									     : 4,
			.state = *delay != '\0' ? ENGINE_DELAYED : ENGINE_READY,
			.priority = *priority != '\0' ? (int8_t)(priority[2] - '0') : 0 };
		snprintf(command + used, size - used, " m%u%s%s%s", r->sent, priority, ttl, delay);
	}
}

static void make_settle(struct run *r, char *command, size_t size)
{
	const char *how = PICK(r, "ack", "ack", "nack", "reject"), *queue = PICK(r, "q", "q", "o", "q/w1", "q/dlq");
	unsigned a = some_message(r), b = some_message(r);

	if (pick(r, 3) == 0)
		snprintf(command, size, "%s %s m%u-m%u", how, queue, a < b ? a : b, a < b ? b : a);
	else if (pick(r, 8) == 0)
		snprintf(command, size, "%s q/w1 all", how);
	else
		snprintf(command, size, "%s %s m%u", how, queue, a);
}

static void make_move(struct run *r, char *command, size_t size)
{
	unsigned message = some_message(r);
	const char *from = PICK(r, "q", "q", "o", "q/dlq", "o/dlq", r->renamed ? "q" : "x"),
		   *state = PICK(r, "ready", "ready", "unacked", "delayed");

	if (pick(r, 4) == 0)
		snprintf(command, size, "mv %s %s m%u q unacked q/w1", from, state, message);
	else
		snprintf(command, size, "mv %s %s m%u %s ready%s", from, state, message, PICK(r, "q", "o", "q/dlq"),
		    pick(r, 2) == 0 ? PICK(r, " p0", " p5", " p7") : "");
	r->moved[message] = true;
}

static void make_change(struct run *r, char *command, size_t size)
{
	const char *queue = PICK(r, "q", "o", "q/dlq"), *state = PICK(r, "ready", "unacked", "delayed");
	unsigned message = some_message(r);

	switch (pick(r, 8)) {
	case 0: snprintf(command, size, "purge %s", PICK(r, "o", "q/dlq", "o/dlq")); break;
	case 1:
	case 2: snprintf(command, size, "rm %s %s m%u", queue, state, message); break;
	case 3:
	case 4: snprintf(command, size, "touch %s %s m%u %u", queue, state, message, 1 + pick(r, 200)); break;
	case 5: snprintf(command, size, "redrive q/dlq"); break;
	default: snprintf(command, size, "redrive q/dlq m%u", message); break;
	}
}

static void make_command(struct run *r, char *command, size_t size)
{
	uint32_t dice = pick(r, 100);

	if (dice < 26)
		make_send(r, command, size);
	else if (dice < 46)
		snprintf(
		    command, size, "%s %s", PICK(r, "get", "snap", "take"), PICK(r, "q", "q", "o", "q/w1", "q/dlq"));
	else if (dice < 62)
		make_settle(r, command, size);
	else if (dice < 74)
		make_move(r, command, size);
	else if (dice < 82)
		make_change(r, command, size);
	else if (dice < 87)
		snprintf(command, size, "tick %u", 1 + pick(r, 90));
	else if (dice < 94)
		snprintf(command, size, "sync");
	else if (dice < 97)
		snprintf(command, size, "checkpoint");
	else if (dice < 98)
		snprintf(command, size, "reopen");
	else if (!r->renamed)
		snprintf(command, size, "rename x y");
	else if (!r->removed)
		snprintf(command, size, "empty y");
	else
		snprintf(command, size, "tick 1");
}

static void sync_all(struct contract *c)
{
	for (unsigned i = 0; i < QUEUES; i++) {
		struct engine_object *queue = find_queue(c, i);
		struct engine_producer *producer;

		if (queue == NULL)
			continue;
		assert_ok(c->ops->queue->producer_open(queue, ENGINE_ANY, false, &producer));
		assert_ok(contract_sync(c, producer)); /* of the journal, too */
		c->ops->producer_close(producer);
		c->ops->put(queue);
	}
}

static void run_command(struct run *r, const char *command)
{
	if (strcmp(command, "sync") == 0) {
		sync_all(r->b);
	} else if (strcmp(command, "checkpoint") == 0) {
		assert_ok(checkpoint_run((struct local *)r->b->engine));
	} else if (strcmp(command, "reopen") == 0) {
		q_run(r->b, command);
		stop_time(r->b);
	} else if (strcmp(command, "empty y") == 0) {
		q_run(r->a, "purge y");
		q_run(r->b, "purge y");
		q_run(r->a, "purge y/dlq"); /* what expired */
		q_run(r->b, "purge y/dlq");
		assert_text(q_run(r->a, "rmdir y"), "ok");
		assert_text(q_run(r->b, "rmdir y"), "ok");
		r->removed = true;
	} else {
		q_run(r->a, command);
		if (strncmp(command, "tick", 4) != 0) /* there is one clock */
			q_run(r->b, command);
		r->renamed = r->renamed || strncmp(command, "rename", 6) == 0;
	}
}

static void one_step(struct run *r)
{
	struct moment *m = &r->moments[r->count];

	make_command(r, m->command, sizeof(m->command));
	m->begin = powercut_count(r->cut);
	run_command(r, m->command);
	take_picture(r, r->a, &m->model, m->command);
	take_picture(r, r->b, &m->local, m->command); /* what is due happens by that, as well */
	cr_assert_str_eq(m->local.order, m->model.order, "%u: %s", r->count, m->command);
	m->end = powercut_count(r->cut);
	m->synced = strcmp(m->command, "sync") == 0 || strcmp(m->command, "reopen") == 0;
	m->clock = q_now();
	for (unsigned i = 1; i <= r->sent; i++)
		r->moved[i] = r->moved[i] || m->model.places[i].queue % 2 == 1; /* it was a dead letter */
	for (unsigned i = 1; i <= r->sent; i++)
		m->last_id = r->ids[i] > m->last_id ? r->ids[i] : m->last_id;
	r->count++;
}

static struct run *make_run(uint64_t seed)
{
	static const char *const setup[] = { "queue q", "queue o", "queue x", "consumer q/w1", "set q delivery.limit 2",
		"set o max.length 9", "set o redelivery.delay.ms 30", "set q ack.timeout.ms 100" };
	struct run *r = calloc(1, sizeof(*r));
	int fd;

	cr_assert_not_null(r);
	r->random = seed;
	r->a = calloc(1, sizeof(*r->a));
	r->b = calloc(1, sizeof(*r->b));
	nosync_install();
	q_open(r->a, false);
	q_open(r->b, true);
	stop_time(r->b);
	q_lenient(r->a);
	q_lenient(r->b);
	for (size_t i = 0; i < sizeof(setup) / sizeof(setup[0]); i++) {
		q_run(r->a, setup[i]);
		q_run(r->b, setup[i]);
	}
	fd = open(r->b->source, O_RDONLY | O_DIRECTORY);
	r->cut = powercut_start_store(fd, "catalog", "reserve");
	close(fd);
	snprintf(r->moments[0].command, sizeof(r->moments[0].command), "sync");
	r->moments[0].synced = true;
	r->moments[0].clock = q_now();
	take_picture(r, r->a, &r->moments[0].model, "begin");
	take_picture(r, r->b, &r->moments[0].local, "begin");
	r->count = 1;
	while (r->count <= STEPS)
		one_step(r);
	powercut_stop(r->cut);
	q_close(r->b);
	q_close(r->a);
	return r;
}

static void free_run(struct run *r)
{
	for (unsigned i = 0; i < r->count; i++) {
		free(r->moments[i].model.order);
		free(r->moments[i].local.order);
	}
	powercut_free(r->cut);
	free(r->a);
	free(r->b);
	free(r);
}

/* ---- what a crash left ---- */

struct crash {
	struct run *run;
	struct contract *c;
	size_t n;
	uint64_t seed; /* of the power cut */
	bool kill;
	unsigned synced, done,
	    begun; /* moments: the last sync, the last that was over, the one that had begun (or was over) */
	char what[640];
};

static void find_moments(struct crash *crash)
{
	const struct run *r = crash->run;

	crash->synced = crash->done = 0;
	for (unsigned i = 1; i < r->count && r->moments[i].end <= crash->n; i++) {
		crash->done = i;
		if (r->moments[i].synced)
			crash->synced = i;
	}
	if (crash->kill)
		crash->synced = crash->done;
	crash->begun = crash->done;
	if (crash->done + 1 < r->count && r->moments[crash->done + 1].begin < crash->n)
		crash->begun++;
	snprintf(crash->what, sizeof(crash->what), "%s at change %zu (seed %" PRIu64 "), after \"%s\"%s%s",
	    crash->kill ? "kill" : "power cut", crash->n, crash->seed, r->moments[crash->done].command,
	    crash->begun > crash->done ? ", in " : "",
	    crash->begun > crash->done ? r->moments[crash->begun].command : "");
}

static bool same(const struct place *a, const struct place *b)
{
	return a->queue == b->queue &&
	       (a->queue < 0 || (a->state == b->state && a->priority == b->priority && a->deaths == b->deaths));
}

/* What time made of it, where what came after it was lost: a lease or a delay is over, or it expired. */
static bool may_become(const struct place *was, const struct place *is)
{
	if (was->queue < 0 || is->queue < 0 || is->state == ENGINE_UNACKED || is->priority != was->priority)
		return false;
	return is->queue == was->queue || (was->queue % 2 == 0 && is->queue == was->queue + 1);
}

/* What the limit of "o" made of it, as a lease that was lost left more that is READY. */
static bool may_be_displaced(const struct place *was, const struct place *is)
{
	return was->queue == 2 && is->queue == 3 && is->state == ENGINE_READY && is->deaths == was->deaths + 1;
}

static void tell(const struct crash *crash, unsigned message, const struct place *place)
{
	for (unsigned i = crash->synced; i <= crash->begun; i++) {
		const struct place *was = &crash->run->moments[i].model.places[message];

		fprintf(stderr, "  %-50s m%u %s, state %d, priority %d, deaths %d\n", crash->run->moments[i].command,
		    message, was->queue >= 0 ? names[was->queue] : "-", was->state, was->priority, was->deaths);
	}
	cr_assert(false, "%s: m%u is in %s, state %d, priority %d, deaths %d", crash->what, message,
	    place->queue >= 0 ? names[place->queue] : "nothing", place->state, place->priority, place->deaths);
}

static void check_places(const struct crash *crash, const struct picture *p)
{
	const struct moment *moments = crash->run->moments;
	bool time_passed = !crash->kill && moments[crash->begun].clock > moments[crash->synced].clock;

	for (unsigned m = 1; m <= crash->run->sent; m++) {
		bool came = crash->run->came[m] > crash->synced && crash->run->came[m] <= crash->begun;
		/* Before a limit displaced it, which is lost as well. */
		bool may_be = !crash->kill && came && same(&p->places[m], &crash->run->first[m]);

		for (unsigned i = crash->synced; i <= crash->begun && !may_be; i++)
			may_be = same(&p->places[m], &crash->run->moments[i].model.places[m]) ||
				 (!crash->kill &&
				     may_be_displaced(&crash->run->moments[i].model.places[m], &p->places[m])) ||
				 (time_passed && may_become(&crash->run->moments[i].model.places[m], &p->places[m]));
		if (!may_be)
			tell(crash, m, &p->places[m]);
	}
}

/* Messages that came together are there together. What was settled since is not, so this is of the last moment only. */
static void check_whole(const struct crash *crash, const struct picture *p)
{
	unsigned there = 0, count = 0;

	for (unsigned m = 1; m <= crash->run->sent; m++) {
		if (crash->run->came[m] != crash->begun)
			continue;
		there += p->places[m].queue >= 0;
		count++;
	}
	cr_assert(
	    there == 0 || there == count, "%s: %u of %u messages of a batch are there", crash->what, there, count);
}

/* The order of those that came one after the other and were never moved. */
static void check_order(const struct crash *crash, const struct picture *p)
{
	unsigned last[QUEUES][ENGINE_PRIORITIES] = { { 0 } }, message;
	const char *at = p->order;
	int used;

	while (*at != '\0') {
		const struct place *place;

		if (sscanf(at, "m%u.%*d.%*u.%*u %n", &message, &used) == 1) {
			place = &p->places[message];
			if (place->state == ENGINE_READY && !crash->run->moved[message] && place->queue % 2 == 0) {
				cr_assert_lt(last[place->queue][place->priority], message, "%s: order: %s", crash->what,
				    p->order);
				last[place->queue][place->priority] = message;
			}
			at += used;
		} else {
			at = strchr(at, ' ') + 1;
		}
	}
}

static void check_totals(const struct crash *crash, const struct picture *p)
{
	for (unsigned i = 0; i < QUEUES; i++) {
		const struct engine_queue_stat *is = &p->stats[i],
					       *was = &crash->run->moments[crash->done].local.stats[i];

		cr_assert(is->published == was->published && is->delivered == was->delivered &&
			      is->redelivered == was->redelivered && is->acked == was->acked &&
			      is->dead_lettered == was->dead_lettered && is->expired == was->expired &&
			      is->dropped == was->dropped && is->moved_in == was->moved_in &&
			      is->moved_out == was->moved_out,
		    "%s: totals of %s", crash->what, names[i]);
	}
}

/* It goes on: what comes has a new id, can be had and settled, and is kept. */
static void check_goes_on(struct crash *crash, struct picture *p, struct picture *again)
{
	struct contract *c = crash->c;
	struct engine_object *queue = q_object(c, "q");
	struct engine_producer *producer;
	struct engine_batch batch = contract_batch("m599\n");
	uint64_t *ids = crash->run->ids, last = crash->run->moments[crash->done].last_id;

	assert_ok(c->ops->queue->producer_open(queue, 0, true, &producer));
	assert_ok(contract_send_batch(c, producer, &batch));
	c->ops->producer_close(producer);
	ids[MESSAGES - 1] = 0;
	take_picture(crash->run, c, p, crash->what);
	cr_assert_gt(ids[MESSAGES - 1], last, "%s: an id comes again", crash->what);
	assert_ok(c->ops->queue->message_remove(queue, ids[MESSAGES - 1], ENGINE_READY));
	c->ops->put(queue);
	take_picture(crash->run, c, p, crash->what);
	contract_reopen(c);
	stop_time(c);
	take_picture(crash->run, c, again, crash->what);
	cr_assert_str_eq(again->order, p->order, "%s: opened once more", crash->what);
	free(again->order);
	*again = (struct picture){ 0 };
}

static void check_health(struct crash *crash)
{
	crash->c->ops->health(crash->c->engine, crash->c->text, CONTRACT_TEXT);
	cr_assert_str_eq(crash->c->text, "state ok\n", "%s: %s", crash->what, crash->c->text);
}

static void check_crash(struct run *r, size_t n, uint64_t seed, bool kill)
{
	static struct picture p, again;
	struct crash crash = { .run = r, .n = n, .seed = seed, .kill = kill };
	struct contract *c = calloc(1, sizeof(*c));

	crash.c = c;
	find_moments(&crash);
	r->given_anew = kill ? crash.done + 1 : crash.synced + 1;
	q_tick(r->moments[crash.begun].clock - q_now());
	crash_make(c, r->cut, n, seed, kill);
	contract_open(c);
	stop_time(c);
	take_picture(r, c, &p, crash.what);
	check_places(&crash, &p);
	check_order(&crash, &p);
	if (crash.begun > crash.done &&
	    (kill || seed < 2)) /* else pages may be there that the kernel wrote by chance */
		check_whole(&crash, &p);
	if (kill && crash.begun == crash.done) {
		cr_assert_str_eq(p.order, r->moments[crash.done].model.order, "%s", crash.what);
		check_totals(&crash, &p);
	}
	if (kill)
		check_health(&crash);
	check_goes_on(&crash, &p, &again);
	contract_close(c);
	engine_scratch_release(&c->scratch);
	tmpdir_remove(&c->dir);
	free(c);
	free(p.order);
	p = (struct picture){ 0 };
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static struct run *begin(size_t *ret_step)
{
	uint64_t seed = from_environment("MQFS_CRASH_SEED", SEED);
	struct run *r;

	tmpdir_in_memory();
	r = make_run(seed);
	*ret_step = from_environment("MQFS_CRASH_STEP", STEP);
	nosync_install();
	fprintf(
	    stderr, "MQFS_CRASH_SEED=%" PRIu64 ": %zu changes, %u messages\n", seed, powercut_count(r->cut), r->sent);
	return r;
}

/* Killed at any moment: nothing that was accepted is lost, nothing that was settled comes back. */
Test(local_queue_crash, kill)
{
	size_t step;
	struct run *r = begin(&step);

	for (size_t n = 0; n <= powercut_count(r->cut); n += step)
		check_crash(r, n, 0, true);
	free_run(r);
}

/* The power goes at any moment: what was synced is as it was, or as it has become since. */
Test(local_queue_crash, power_cut)
{
	size_t step;
	struct run *r = begin(&step);

	for (size_t n = 0; n <= powercut_count(r->cut); n += step) {
		for (uint64_t seed = 0; seed < 4; seed++)
			check_crash(r, n, seed < 2 ? seed : n * 4 + seed, false);
	}
	free_run(r);
}
