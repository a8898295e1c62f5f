/*
 * A model check of queues: random commands, the same to the memory engine and to the local one, must get the same
 * answers, and leave the same messages in the same states and order, and the same totals.
 *
 * The commands are those of tests/lib/contract_queue.c. In the environment: MQFS_MODEL_SEED and MQFS_MODEL_STEPS choose another run
 * or make it longer. MQFS_MODEL_EVERY=N compares all queues after each command from number N on, so that a difference is seen
 * where it begins. MQFS_MODEL_TRACE prints all commands, to follow a message with grep. MQFS_MODEL_OTHER=memory puts a second
 * memory engine in the place of the local one, which tests the test.
 *
 * Time goes by for the test's thread alone, so that what is due is done by its calls, in the order that the contract
 * gives. Where two right answers may differ is said in may_differ() and keep_short(), and nowhere else.
 */
#include "tests/lib/contract_queue.h"
#include "tests/lib/nosync.h"

#include <limits.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#define SEED 8   /* without MQFS_MODEL_SEED, so that a run says something of a change; 0 there is a new one each time */
#define TRACE 40 /* commands that a failure shows */
#define MARK_EACH 16
#define MARKS 16
#define REMEMBERED 1000
#define MANY 80   /* messages in a queue: then it is emptied */
#define RECENT 60 /* messages that commands are about */
#define QUEUES 6

/* How many had gone from each queue before a message was sent. */
struct mark {
	unsigned sent; /* messages until then */
	uint64_t gone[QUEUES];
};

struct model {
	struct contract *a, *b; /* memory, the other */
	uint64_t seed, random;
	unsigned step, sent, every; /* from this step on all is compared after each */
	bool reopens, traces;
	char trace[TRACE][1256];
	char first[65536]; /* answer of a */
	char second[64];
	struct mark marks[MARKS];
	unsigned forgot; /* messages sent before the last start */
	bool open[4];    /* f, g: streams; s, t: sessions */
	bool snapshot[4];
};

static uint32_t pick(struct model *m, uint32_t count)
{
	m->random = m->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(m->random >> 33) % count;
}

static bool is_one_of(const char *word, const char *const *words)
{
	while (*words != NULL && strcmp(*words, word) != 0)
		words++;
	return *words != NULL;
}

static const char *pick_word(struct model *m, const char *const *words)
{
	uint32_t count = 0;

	while (words[count] != NULL)
		count++;
	return words[pick(m, count)];
}

#define PICK(m, ...) pick_word((m), (const char *const[]){ __VA_ARGS__, NULL })
#define QUEUE(m) PICK(m, "q", "q", "q", "o", "o", "q/dlq", "o/dlq", "y", "y/dlq")
#define CONSUMER(m) PICK(m, "q", "q", "q/w1", "q/w1", "q/w2", "o", "o/w3", "q/dlq", "y")
#define STATE(m) PICK(m, "ready", "ready", "unacked", "unacked", "delayed")

static void fail(struct model *m, const char *command)
{
	for (unsigned i = m->step > TRACE ? m->step - TRACE : 0; i < m->step; i++)
		fprintf(stderr, "  %s\n", m->trace[i % TRACE]);
	cr_assert(false, "MQFS_MODEL_SEED=%" PRIu64 " step %u, %s:\n  memory: %s\n  other:  %s", m->seed, m->step,
	    command, m->first, m->second[0] != '\0' ? m->second : q_answer());
}

/* ---- what may differ ---- */

static const char *const queues[QUEUES] = { "q", "o", "y", "q/dlq", "o/dlq", "y/dlq" };

/* How many messages went from each queue so far, in whatever way: that of the memory engine. */
static void count_gone(struct model *m, uint64_t gone[QUEUES])
{
	for (size_t i = 0; i < QUEUES; i++) {
		char command[32];

		snprintf(command, sizeof(command), "totals %s gone", queues[i]);
		gone[i] = strtoull(q_run(m->a, command), NULL, 10);
	}
}

/* Noted once in a while, so that of a message it is known how many went since it was sent at most. */
static void note_gone(struct model *m)
{
	struct mark *mark = &m->marks[m->sent / MARK_EACH % MARKS];

	if (mark->sent / MARK_EACH == m->sent / MARK_EACH && mark->sent > 0)
		return;
	mark->sent = m->sent;
	count_gone(m, mark->gone);
}

/* Went so many since message was sent that an engine may have forgotten what became of it? */
static bool is_long_gone(struct model *m, unsigned message)
{
	const struct mark *mark = &m->marks[message / MARK_EACH % MARKS];
	uint64_t gone[QUEUES];

	if (message < MARK_EACH || mark->sent / MARK_EACH != message / MARK_EACH || mark->sent > message)
		mark = &m->marks[(message / MARK_EACH + MARKS - 1) % MARKS];
	if (mark->sent == 0 || mark->sent > message)
		return true;
	count_gone(m, gone);
	for (size_t i = 0; i < QUEUES; i++) {
		if (gone[i] - mark->gone[i] > REMEMBERED)
			return true;
	}
	return false;
}

/*
 * What became of a message an engine remembers of the last thousand that went from a queue, and not over a restart. Of others it
 * says that they are settled, or that there are none.
 */
static bool may_differ(struct model *m, const char *command)
{
	static const char *const forgotten[] = { "ENOENT", "EALREADY", NULL };
	const char *first =
	    strstr(command, " m"); /* of a range, too: if it settles nothing, it is answered for this one */
	unsigned message = first != NULL ? (unsigned)strtoul(first + 2, NULL, 10) : 0;
	bool settles = strncmp(command, "ack ", 4) == 0 || strncmp(command, "nack ", 5) == 0 ||
		       strncmp(command, "reject ", 7) == 0;

	if (!settles || !is_one_of(m->first, (const char *const[]){ "ENOENT", "EALREADY", "ESTALE", NULL }))
		return false;
	snprintf(m->second, sizeof(m->second), "%s", q_answer());
	return is_one_of(m->second, forgotten) && (message <= m->forgot || is_long_gone(m, message));
}

/* Both answer the same. */
static void ask_both(struct model *m, const char *command)
{
	m->second[0] = '\0';
	snprintf(m->first, sizeof(m->first), "%s", q_run(m->a, command));
	if (strcmp(m->first, q_run(m->b, command)) != 0 && !may_differ(m, command))
		fail(m, command);
}

static void run_both(struct model *m, const char *command)
{
	char *trace = m->trace[m->step++ % TRACE];
	int len = snprintf(trace, sizeof(m->trace[0]), "%u %s", m->step, command);

	if (strncmp(command, "tick ", 5) == 0) { /* there is one clock */
		ask_both(m, "totals q all"); /* what goes on through an exchange does so soon: before time goes by */
		q_run(m->a, command);
		if (m->traces)
			fprintf(stderr, "%s\n", trace);
		return;
	}
	ask_both(m, command);
	snprintf(trace + len, sizeof(m->trace[0]) - (size_t)len, " -> %s", m->first);
	if (m->traces)
		fprintf(stderr, "%s\n", trace);
}

static void runf(struct model *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void runf(struct model *m, const char *format, ...)
{
	char command[256];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	run_both(m, command);
}

/* Same messages, in the same states and order, with the same times, and the same totals. */
static void compare(struct model *m, const char *queue)
{
	static const char *const questions[] = { "", "", " dead", " bytes", " consumers", NULL };
	char command[64];

	for (size_t i = 0; questions[i] != NULL; i++) {
		snprintf(command, sizeof(command), "%s %s%s", i > 0 ? "totals" : "detail", queue, questions[i]);
		ask_both(m, command);
	}
}

static void compare_all(struct model *m)
{
	for (size_t i = 0; i < QUEUES; i++)
		compare(m, queues[i]);
	ask_both(m, "log t");
	if (!m->reopens) /* they count since the store was opened */
		ask_both(m, "exchange-stat x");
}

/* ---- commands ---- */

static unsigned some_message(struct model *m)
{
	unsigned back = m->sent < RECENT ? m->sent : RECENT;

	return back > 0 ? m->sent - pick(m, back) : 0;
}

static void send_some(struct model *m)
{
	char command[256];
	bool push = pick(m, 5) == 0, at = pick(m, 4) == 0;

	note_gone(m);
	if (pick(m, 8) == 0) /* it was made some time ago, or on another clock */
		runf(m, "dated %d", (int)pick(m, 300) - 250);
	snprintf(command, sizeof(command), "%s %s", push ? "push" : "send", PICK(m, "q", "q", "o", "q/dlq", "y"));
	if (at)
		snprintf(command + strlen(command), 8, "@%u", pick(m, 10));
	for (unsigned i = 0, count = 1 + pick(m, 4); i < count; i++) {
		char *end = command + strlen(command);
		size_t left = (size_t)(command + sizeof(command) - end);

		snprintf(end, left, " m%u%s%s%s%s", ++m->sent,
		    pick(m, 4) == 0 ? PICK(m, ":p1", ":p5", ":p9", ":p0") : "",
		    pick(m, 8) == 0 ? PICK(m, ":t50", ":t500", ":t1") : "",
		    pick(m, 8) == 0 ? PICK(m, ":d20", ":d300", ":d1", ":d0") : "",
		    pick(m, 16) == 0 ? PICK(m, ":s20", ":s5000", ":s60000") : "");
	}
	run_both(m, command);
}

static void read_some(struct model *m)
{
	runf(m, "%s %s", PICK(m, "get", "get", "get", "take", "snap"), CONSUMER(m));
}

static void settle_some(struct model *m)
{
	const char *how = PICK(m, "ack", "nack", "reject"), *consumer = CONSUMER(m);
	unsigned a = some_message(m), b = some_message(m);

	/* A range by names needs both to be known. */
	if (pick(m, 12) == 0)
		runf(m, "%s %s all", how, consumer);
	else if (pick(m, 4) == 0)
		runf(m, "%s %s m%u-m%u", how, consumer, a < b ? a : b, a < b ? b : a);
	else
		runf(m, "%s %s m%u", how, consumer, a);
}

static void move_some(struct model *m)
{
	const char *from = QUEUE(m), *state = STATE(m), *to = QUEUE(m);
	unsigned message = some_message(m);

	if (pick(m, 3) == 0)
		runf(m, "mv %s %s m%u %s unacked %s", from, state, message, to, CONSUMER(m));
	else if (pick(m, 3) == 0)
		runf(m, "mv %s %s m%u %s ready p%u", from, state, message, to, pick(m, 11));
	else
		runf(m, "mv %s %s m%u %s ready", from, state, message, to);
}

static void change_some(struct model *m)
{
	const char *queue = QUEUE(m), *state = STATE(m);
	unsigned message = some_message(m);

	switch (pick(m, 6)) {
	case 0: runf(m, "rm %s %s m%u", queue, state, message); break;
	case 1:
	case 2: runf(m, "touch %s %s m%u %d", queue, state, message, (int)pick(m, 400) - 100); break;
	case 3: runf(m, "message %s m%u", queue, message); break;
	case 4: runf(m, "deaths %s m%u", queue, message); break;
	default: runf(m, "redrive %s m%u", PICK(m, "q/dlq", "q/dlq", "o/dlq", "q"), message); break;
	}
}

static void change_many(struct model *m)
{
	switch (pick(m, 6)) {
	case 0: runf(m, "purge %s", QUEUE(m)); break;
	case 3: runf(m, "room %s %u", QUEUE(m), pick(m, 60)); break;
	case 4:
		runf(m, "rename o p");
		runf(m, "%s p/dlq", PICK(m, "redrive", "purge", "get", "snap"));
		runf(m, "get p");
		runf(m, "rename p o");
		break;
	case 1: runf(m, "redrive %s", PICK(m, "q/dlq", "o/dlq")); break;
	case 2:
		runf(m, "rmdir q/w2");
		runf(m, "consumer q/w2");
		break;
	default: runf(m, "tick %u", 300000); break;
	}
}

#define PATTERN(m) PICK(m, "k.#", "k.q", "*.o")
#define TARGET(m) PICK(m, "y", "y", "t", "q")

/* What dead letters go through: what is bound, and whether it is there, changes as they do. */
static void use_exchange(struct model *m)
{
	const char *target = TARGET(m);

	switch (pick(m, 7)) {
	case 0:
	case 1: runf(m, "bind x %s %s %s", PATTERN(m), target, target); break;
	case 2: runf(m, "unbind x %s %s", PATTERN(m), target); break;
	case 3:
		runf(m, "set %s dead.letter.routing.key %s", PICK(m, "q", "o", "y"),
		    PICK(m, "k.q", "k.o", "k.o.y", "other", "none"));
		break;
	case 4:
		note_gone(m);
		runf(m, "pub x %s m%u m%u:p3", PICK(m, "k.q", "k.o", "other"), m->sent + 1, m->sent + 2);
		m->sent += 2;
		break;
	case 5:
		runf(m, "rename x z");
		runf(m, "reject q m%u", some_message(m));
		runf(m, "tick %u", 1 + pick(m, 60));
		runf(m, "take q");
		runf(m, "rename z x");
		break;
	default: runf(m, "log t"); break;
	}
}

/* A queue that goes by itself, with all it holds: wherever it is named it is made first. */
static void use_unused(struct model *m)
{
	unsigned message = some_message(m);

	runf(m, "queue e");
	runf(m, "set e expires.ms %s", PICK(m, "40", "150", "1000"));
	switch (pick(m, 7)) {
	case 0: runf(m, "send e m%u m%u:t50 m%u:d60", m->sent + 1, m->sent + 2, m->sent + 3), m->sent += 3; break;
	case 1: runf(m, "get e"); break;
	case 2: runf(m, "mv %s %s m%u e ready", QUEUE(m), STATE(m), message); break;
	case 3: runf(m, "mv e %s m%u %s ready", STATE(m), message, QUEUE(m)); break;
	case 4: runf(m, "%s e m%u", PICK(m, "ack", "nack", "reject"), message); break;
	case 5:
		runf(m, "set e %s", PICK(m, "dead.letter.to queues/q", "dead.letter.to dlq", "message.ttl.ms 30"));
		break;
	default: runf(m, "rmdir e"); return;
	}
	compare(m, "e");
	compare(m, "e/dlq");
}

static const char *const handle_names[] = { "f", "g", "s", "t" };

/* Opens, closes and reads two streams and two sessions. */
static void use_handle(struct model *m)
{
	unsigned i = pick(m, 4);
	const char *name = handle_names[i];

	if (!m->open[i]) {
		const char *how =
		    i >= 2 ? "session" : PICK(m, "stream", "stream", "one", "stream-take", "snap", "snap");

		m->snapshot[i] = strcmp(how, "snap") == 0;
		runf(m, "open %s %s %s", name, i < 2 ? CONSUMER(m) : PICK(m, "q/w1", "q/w2", "o/w3", "q"), how);
		m->open[i] = strcmp(m->first, "ok") == 0;
	} else if (i < 2 && pick(m, 3) > 0) {
		runf(m, "read %s %u", name, 1 + pick(m, 5));
	} else if (i < 2 && !m->snapshot[i] && pick(m, 2) > 0) { /* what a snapshot waits for does not come */
		runf(m, "arm %s", name);
		runf(m, "disarm %s", name);
	} else {
		runf(m, "close %s", name);
		m->open[i] = false;
	}
}

/*
 * Dead letters that go on through an exchange at the same time may come to a queue together or one by one: what a limit of bytes
 * drops then depends on it, so the exchange leads to no queue that has one.
 */
static void set_some(struct model *m)
{
	static const char *const of_all[] = { "max.length -1", "max.length 5", "max.length 20", "overflow drop-head",
		"overflow reject-publish", "overflow reject-publish-dlx", "delivery.limit 2", "delivery.limit 0",
		"delivery.limit -1", "redelivery.delay.ms 0", "redelivery.delay.ms 30", "prefetch 0", "prefetch 2",
		"prefetch 10", "auto.ack false", "auto.ack false", "auto.ack true", "single.active.consumer true",
		"single.active.consumer false", "single.active.consumer false", "max.priority 9", "max.priority 3",
		"ack.timeout.ms 100", "ack.timeout.ms 1000", "consumer.timeout.ms 2000", "consumer.timeout.ms 50",
		NULL };
	static const char *const of_q[] = { "message.ttl.ms -1", "message.ttl.ms 100", "message.ttl.ms 400",
		"dead.letter.to dlq", "dead.letter.to none", "dead.letter.to queues/q", "dead.letter.to queues/nowhere",
		"dead.letter.to queues/e", "dead.letter.to exchanges/x", "dead.letter.to exchanges/x",
		"dead.letter.to exchanges/x", "dead.letter.to exchanges/nowhere", NULL };

	if (pick(m, 8) == 0)
		runf(m, "set %s %s", PICK(m, "q/w1", "q/w2", "o/w3"),
		    PICK(m, "prefetch 1", "prefetch 4", "prefetch", "auto.ack true", "auto.ack"));
	else if (pick(m, 8) == 0)
		runf(m, "set %s max.length.bytes %s", PICK(m, "o", "q/dlq", "o/dlq"), PICK(m, "-1", "40"));
	else if (pick(m, 2) == 0)
		runf(m, "set %s %s", PICK(m, "q", "q", "o", "q/dlq", "o/dlq", "y"), pick_word(m, of_all));
	else
		runf(m, "set %s %s", PICK(m, "q", "q", "o", "y"), pick_word(m, of_q));
}

/* Closes what is open, and the store: the memory engine has none. */
static void reopen_other(struct model *m)
{
	for (unsigned i = 0; i < 4; i++) {
		if (m->open[i])
			runf(m, "close %s", handle_names[i]);
		m->open[i] = false;
	}
	runf(m, "queue e"); /* a start begins the time anew in which it is not used */
	runf(m, "set e expires.ms 150");
	q_run(m->b, "reopen");
	m->forgot = m->sent;
	if (m->traces)
		fprintf(stderr, "reopen\n");
}

/*
 * Of more than some 500 messages that are due at once the local engine does a part, so that nobody waits for all of
 * them: there are never so many.
 */
static void keep_short(struct model *m)
{
	for (size_t i = 0; i < QUEUES; i++) {
		runf(m, "totals %s all", queues[i]);
		if (atoi(m->first) < MANY)
			continue;
		runf(m, "purge %s", queues[i]);
		runf(m, "ack %s #1-#%" PRIu64, queues[i], UINT64_MAX);
	}
}

static void one_step(struct model *m)
{
	uint32_t dice = pick(m, 100);
	const char *queue;

	if (dice < 18)
		send_some(m);
	else if (dice < 38)
		read_some(m);
	else if (dice < 55)
		settle_some(m);
	else if (dice < 66)
		move_some(m);
	else if (dice < 77)
		change_some(m);
	else if (dice < 80)
		change_many(m);
	else if (dice < 82)
		use_unused(m);
	else if (dice < 85)
		use_exchange(m);
	else if (dice < 90)
		use_handle(m);
	else if (dice < 93)
		set_some(m);
	else
		runf(m, "tick %u", 1 + pick(m, 60));
	if (m->reopens && pick(m, 300) == 0)
		reopen_other(m);
	if (pick(m, 50) == 0)
		keep_short(m);
	queue = QUEUE(m);
	if (pick(m, 6) == 0)
		compare(m, queue);
	if (m->step >= m->every)
		compare_all(m);
}

/* ---- the runs ---- */

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static void begin(struct model *m)
{
	static const char *const setup[] = { "queue q", "queue o", "consumer q/w1", "consumer q/w2", "consumer o/w3",
		"queue y", "topic t", "exchange x", "pattern x k.#", "pattern x k.q", "pattern x *.o", "bind x k.# y y",
		"set q dead.letter.to exchanges/x", "set q dead.letter.routing.key k.q", NULL };

	q_lenient(m->a);
	q_lenient(m->b);
	for (size_t i = 0; setup[i] != NULL; i++)
		run_both(m, setup[i]);
	runf(m, "tick 1"); /* the other threads stay behind, and so does what is due soon */
}

static void end(struct model *m)
{
	for (unsigned i = 0; i < 4; i++) {
		if (m->open[i])
			runf(m, "close %s", handle_names[i]);
	}
	compare_all(m);
}

static void run_model(bool reopens, uint64_t steps, unsigned nth)
{
	const char *other = getenv("MQFS_MODEL_OTHER");
	bool local = other == NULL || strcmp(other, "memory") != 0;
	struct model *m = calloc(1, sizeof(*m));

	cr_assert_not_null(m);
	m->a = calloc(1, sizeof(*m->a));
	m->b = calloc(1, sizeof(*m->b));
	cr_assert(m->a != NULL && m->b != NULL);
	m->reopens = reopens;
	m->traces = getenv("MQFS_MODEL_TRACE") != NULL;
	m->every = (unsigned)from_environment("MQFS_MODEL_EVERY", UINT_MAX);
	tmpdir_in_memory();
	nosync_install();
	q_open(m->a, false);
	q_open(m->b, local);
	q_own_time(true);
	m->seed = m->random = from_environment("MQFS_MODEL_SEED", SEED + nth);
	if (m->seed == 0)
		m->seed = m->random = (uint64_t)time(NULL) * 1000 + (uint64_t)getpid();
	fprintf(stderr, "MQFS_MODEL_SEED=%" PRIu64 "\n", m->seed);
	if (m->b->ops->queue != NULL && (local || !reopens)) {
		begin(m);
		steps = from_environment("MQFS_MODEL_STEPS", steps);
		while (m->step < steps)
			one_step(m);
		end(m);
		steps = 0;
	}
	q_close(m->b);
	q_close(m->a);
	q_own_time(false);
	free(m->b);
	free(m->a);
	free(m);
	if (steps > 0)
		cr_skip_test("SKIP: the engine has no queues, or keeps nothing");
}

/* A hundred thousand random commands have the same answers from both engines: in four runs, as there is a time limit. */
Test(model_queue, random)
{
	run_model(false, 25000, 0);
}

Test(model_queue, random_2)
{
	run_model(false, 25000, 1);
}

Test(model_queue, random_3)
{
	run_model(false, 25000, 2);
}

Test(model_queue, random_4)
{
	run_model(false, 25000, 3);
}

/* The same, where the local engine is closed and opened again now and then. */
Test(model_queue, random_with_reopening)
{
	run_model(true, 20000, 0);
}
