/*
 * Every failpoint of the engine (engine/failpoint.h) is come to, and whatever fails or dies there, the store is as it was before the
 * step of the script that came there, or as it is after it: nothing between, nothing lost that was accepted, nothing twice.
 *
 * A script is run once, and what is in the store is written down after each step. Then, for each failpoint and for several of the
 * times it was come to, a process runs it and dies there; the store is opened, and must be one of the two. The failpoints that are
 * come to while it is opened have their turn on a copy of it. A failpoint that was never come to fails the test.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/local_internal.h"
#include "tests/lib/contract_exchange.h"
#include "tests/lib/contract_queue.h"
#include "tests/lib/failpoint.h"
#include "tests/lib/nosync.h"

#define TIMES 2    /* that one is tried in the script, of those it is come to: the first and the last */
#define RECOVERS 1 /* that one is tried while a store is opened */
#define POINTS 128
#define STEPS 64

/* Behind a '!': it goes in several steps, and what is between them may be seen. */
static const char *const script[] = { "queue q", "queue o", "topic t", "topic k", "set k cleanup.policy compact",
	"set k segment.bytes 65536", "set t segment.bytes 65536", "exchange x", "type x fanout", "pattern x #",
	"bind x # bq q", "bind x # bt t", "set q max.priority 9", "set t linger.ms 60000", "send q a b:p5 c",
	"pub x - d e", "get q", "ack q b", "get q", "send q f:p1 g", "mv q ready c o ready", "reject q a",
	"mv q ready f o ready", "checkpoint", "stage t h", "stage t i", "pub t - j:kA", "fill t", "fill t", "fill t",
	"set t partitions 2", "tx n", "in n send q l", "in n send o m", "commit n", "forget n", "checkpoint", "keyed k",
	"keyed k", "keyed k", "!compact k", "pub x - u v", "rename o p", "send p w", "redrive q/dlq a", "!trim t",
	"topic z", "rmdir z", "checkpoint", "take q", NULL };

struct shared {
	unsigned step;
	bool done;
};

static struct {
	struct contract *c;
	struct shared *shared;
	char *after[STEPS]; /* what is in the store after so many steps */
	bool tried[POINTS]; /* it has died or failed there */
	unsigned recovered[POINTS];
	unsigned hits[POINTS]; /* in the run where nothing fails */
} t;

/* ---- a step ---- */

static const char *of_rc(int rc)
{
	return rc == 0 ? "ok" : strerrorname_np(-rc);
}

static int stage(struct engine_object *topic, const char *text)
{
	static const struct engine_cred cred = { 1000, 100, 4711 };
	struct contract *c = t.c;
	struct engine_producer *producer;
	struct engine_stage *file = NULL;
	char path[64], line[64];
	int rc = c->ops->producer_open(topic, ENGINE_ANY, (struct engine_span){ 0 }, &producer), fd, writer, len;

	if (rc < 0)
		return rc;
	rc = c->ops->stage->open(producer, '\n', &cred, &file);
	c->ops->producer_close(producer);
	if (rc < 0)
		return rc;
	fd = c->ops->stage->descriptor(file);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	writer = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	len = snprintf(line, sizeof(line), "%s\n", text);
	cr_assert_eq(write(writer, line, (size_t)len), len);
	close(writer);
	close(fd);
	(void)c->ops->stage->take(file); /* closing takes what this could not */
	return c->ops->stage->close(file, true);
}

/* Ten messages of 8 KiB: with the keys 0 to 4, or none. */
static int send_large(struct engine_object *topic, bool keyed)
{
	static char data[10 * 8192];
	struct contract *c = t.c;
	struct engine_producer *producer;
	struct engine_props props[10];
	struct engine_batch batch = { .data = data, .len = sizeof(data), .count = 10, .ts_ms = -1 };
	int rc = c->ops->producer_open(topic, ENGINE_ANY, (struct engine_span){ 0 }, &producer);

	for (unsigned i = 0; i < 10; i++) {
		memset(data + (size_t)i * 8192, 'A' + (int)i, 8191);
		data[(size_t)i * 8192 + 8191] = '\n';
		props[i] = ENGINE_PROPS_INIT;
		props[i].key = (struct engine_span){ &"01234"[i % 5], 1 };
	}
	batch.props = keyed ? props : NULL;
	if (rc == 0)
		rc = contract_send_batch(c, producer, &batch);
	if (rc == 0)
		rc = contract_sync(c, producer);
	c->ops->producer_close(producer);
	return rc;
}

/* What q_run() has not. 1: another command. */
static int run_own(const char *command, struct engine_object *object, const char *rest)
{
	if (strcmp(command, "stage") == 0)
		return stage(object, rest);
	if (strcmp(command, "fill") == 0 || strcmp(command, "keyed") == 0)
		return send_large(object, command[0] == 'k');
	if (strcmp(command, "compact") == 0)
		cleaner_run(topic_of_object((struct object *)object));
	else if (strcmp(command, "trim") == 0)
		return t.c->ops->partition_purge(object, ENGINE_ANY, ENGINE_OFFSET_NONE);
	else
		return 1;
	return 0;
}

static const char *run_step(const char *step)
{
	char command[16] = "", name[16] = "", rest[16] = "";
	struct engine_object *object = NULL;
	int rc;

	step += step[0] == '!';
	if (strcmp(step, "checkpoint") == 0)
		return of_rc(checkpoint_run((struct local *)t.c->engine));
	cr_assert_geq(sscanf(step, "%15s %15s %15s", command, name, rest), 2);
	if (t.c->ops->lookup(t.c->engine, t.c->root, ENGINE_TOPIC, name, &object) < 0)
		return q_run(t.c, step);
	rc = run_own(command, object, rest);
	t.c->ops->put(object);
	return rc > 0 ? q_run(t.c, step) : of_rc(rc);
}

static bool is_refused(const char *answer)
{
	return strcmp(answer, "EIO") == 0 || strcmp(answer, "EROFS") == 0;
}

/* ---- what is in the store ---- */

static char text[1 << 16];

static void add(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void add(const char *format, ...)
{
	size_t used = strlen(text);
	va_list args;

	va_start(args, format);
	cr_assert_lt(vsnprintf(text + used, sizeof(text) - used, format, args), (int)(sizeof(text) - used));
	va_end(args);
}

/* Where each message begins with what, and how long it is; latest: only the last so many, which compaction leaves. */
static void add_topic(const char *name, uint64_t latest)
{
	struct contract *c = t.c;
	struct engine_object *topic;
	struct engine_view view;
	int rc;

	if (c->ops->lookup(c->engine, c->root, ENGINE_TOPIC, name, &topic) < 0)
		return;
	for (uint32_t p = 0; p < contract_stat(c, topic).partitions; p++) {
		uint64_t offset = contract_partition(c, topic, p).earliest, end = contract_partition(c, topic, p).end;

		add("\n%s/%" PRIu32 ":", name, p);
		while ((rc = c->ops->partition_read(topic, p, offset, UINT32_MAX, &c->scratch, &view)) == 0) {
			const char *data = view.batch.data;

			for (uint32_t i = 0; i < view.batch.count; data += view.batch.lengths[i++] + 1)
				if (view.offset + i + latest >= end)
					add(" %" PRIu64 "=%.1s%" PRIu32, view.offset + i, data, view.batch.lengths[i]);
			offset = view.offset + view.batch.count;
		}
		cr_assert_eq(rc, -ENODATA, "%s/%" PRIu32 " from %" PRIu64 " of %" PRIu64 ": %s (%s)", name, p, offset,
		    end, strerrorname_np(-rc), engine_reason());
	}
	c->ops->put(topic);
}

static void add_answer(enum engine_kind kind, const char *name, const char *command)
{
	struct engine_object *object;

	if (t.c->ops->lookup(t.c->engine, t.c->root, kind, name, &object) < 0)
		return;
	t.c->ops->put(object);
	add("\n%s: %s", command, q_run(t.c, command));
}

static const char *dump(void)
{
	text[0] = '\0';
	q_forget();
	add_topic("t", 1000);
	add_topic("k", 5);
	add_topic("z", 1000);
	add_answer(ENGINE_QUEUE, "q", "show q");
	add_answer(ENGINE_QUEUE, "q", "show q/dlq");
	add_answer(ENGINE_QUEUE, "q", "setting q max.priority");
	add_answer(ENGINE_QUEUE, "o", "show o");
	add_answer(ENGINE_QUEUE, "p", "show p");
	add_answer(ENGINE_EXCHANGE, "x", "type x");
	add_answer(ENGINE_EXCHANGE, "x", "bindings x #");
	return text;
}

static void check_dump(unsigned step, const char *when)
{
	const char *now = dump();
	bool known = strcmp(now, t.after[step]) == 0 || strcmp(now, t.after[step + 1]) == 0;

	cr_assert(known || script[step][0] == '!', "%s in step %u, %s:\n%s\nand not\n%s\nor\n%s", when, step,
	    script[step], now, t.after[step], t.after[step + 1]);
}

/* ---- a store ---- */

static void shell(const char *format, const char *a, const char *b)
{
	char command[4 * PATH_MAX];

	snprintf(command, sizeof(command), format, a, b, a, b);
	cr_assert_eq(system(command), 0, "%s", command);
}

/* From now on nothing happens but what is called here: two compactions of one log at a time would damage it. */
static void alone(void)
{
	struct local *local = (struct local *)t.c->engine;

	timers_stop(local);
	cleaner_stop(local);
	atomic_store(&local->cleaner.stop, false);
}

static void begin_store(void)
{
	t.c = calloc(1, sizeof(*t.c));
	q_open(t.c, true);
	q_lenient(t.c);
	alone();
}

static void end_store(void)
{
	q_close(t.c);
	free(t.c);
	t.c = NULL;
}

/* In a process of its own, which dies on the way or not. */
static bool dies(void (*life)(void *arg), void *arg)
{
	pid_t pid;
	int status;

	fflush(NULL);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0) {
		life(arg);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(
	    (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) || (WIFEXITED(status) && WEXITSTATUS(status) == 0),
	    "status %#x", status);
	return WIFSIGNALED(status);
}

struct death {
	struct failpoint *point;
	unsigned n;
	const char *source;
};

static void live(void *arg)
{
	const struct death *death = arg;

	failpoint_arm(death->point, death->n, FAILPOINT_DIES);
	snprintf(t.c->source, sizeof(t.c->source), "%s", death->source);
	contract_open(t.c);
	alone();
	for (unsigned i = 0; script[i] != NULL; i++) {
		t.shared->step = i;
		run_step(script[i]);
	}
	contract_close(t.c);
	t.shared->done = true;
}

static void live_open(void *arg)
{
	const struct death *death = arg;

	failpoint_arm(death->point, death->n, FAILPOINT_DIES);
	contract_open(t.c);
	(void)dump(); /* logs are opened when they are read */
}

/* A contract without an engine, in a directory where there is no store yet. */
static void begin_empty(char source[PATH_MAX + 64])
{
	begin_store();
	contract_close(t.c);
	snprintf(source, PATH_MAX + 64, "%s", t.c->source);
	shell("rm -r '%s'; : %s", source, "");
}

/* What opening the store comes to has its turn, too. */
static void die_again(const char *source, unsigned step)
{
	unsigned seen[POINTS];

	for (size_t i = 0; i < failpoint_count(); i++)
		seen[i] = atomic_load(&failpoint_at(i)->hits);
	for (size_t i = 0; i < failpoint_count(); i++) {
		struct death death = { failpoint_at(i), 1, source };

		if (seen[i] == 0 || t.recovered[i] >= RECOVERS)
			continue;
		shell("rm -r '%s'; cp -r '%s.saved' '%s'", source, source);
		if (dies(live_open, &death)) {
			t.recovered[i]++;
			t.tried[i] = true;
		}
		contract_open(t.c);
		check_dump(step, death.point->name);
		contract_close(t.c);
	}
}

static void die_in_script(struct failpoint *point, size_t index, unsigned n)
{
	char source[PATH_MAX + 64];
	struct death death = { point, n, source };
	bool died_in_store;

	begin_empty(source);
	*t.shared = (struct shared){ 0 };
	if (dies(live, &death)) {
		t.tried[index] = true;
		died_in_store = access(source, F_OK) == 0; /* else while it was made */
		if (died_in_store)
			shell("cp -r '%s' '%s.saved'", source, source);
		failpoint_arm(NULL, 0, 0);
		contract_open(t.c);
		if (t.shared->step + 1 < sizeof(script) / sizeof(script[0]))
			check_dump(t.shared->step, point->name);
		contract_close(t.c);
		if (died_in_store)
			die_again(source, t.shared->step);
	}
	contract_open(t.c);
	end_store();
}

/* ---- errors ---- */

/* What several targets get and is noted is given to them, if their disk fails just then, at the next opening at the latest. */
static bool may_come_later(const char *step)
{
	return strncmp(step, "pub ", 4) == 0 || strncmp(step, "commit ", 7) == 0;
}

/* What is refused has changed nothing, and what is not is done; so when it was opened again. */
static void fail_in_script(struct failpoint *point, size_t index, unsigned n)
{
	char answer[32] = "";
	unsigned i;

	begin_store();
	failpoint_arm(point, n, EIO);
	for (i = 0; script[i] != NULL && atomic_load(&point->hits) < n; i++)
		snprintf(answer, sizeof(answer), "%s", run_step(script[i]));
	t.tried[index] |= atomic_load(&point->hits) >= n;
	failpoint_arm(NULL, 0, 0);
	for (int again = 0; again < 2 && i > 0; again++) {
		const char *now = dump(), *wanted = t.after[i - is_refused(answer)];
		bool later = again == 0 && may_come_later(script[i - 1]);

		cr_assert(script[i - 1][0] == '!' || later || strcmp(now, wanted) == 0,
		    "%s in step %u, %s, which is %s:\n%s\nand not\n%s", point->name, i - 1, script[i - 1], answer, now,
		    wanted);
		contract_reopen(t.c);
		alone();
	}
	end_store();
}

/* ---- all of them ---- */

static void run_whole(void)
{
	unsigned i;

	begin_store();
	failpoint_arm(NULL, 0, 0);
	t.after[0] = strdup(dump());
	for (i = 0; script[i] != NULL; i++) {
		const char *answer = run_step(script[i]);

		cr_assert(answer[0] < 'A' || answer[0] > 'Z', "step %u, %s: %s", i, script[i], answer);
		t.after[i + 1] = strdup(dump());
	}
	for (size_t p = 0; p < failpoint_count(); p++)
		t.hits[p] = atomic_load(&failpoint_at(p)->hits);
	end_store();
}

static void prepare(void)
{
	tmpdir_in_memory();
	nosync_install();
	cr_assert_lt(failpoint_count(), POINTS);
	cr_assert_lt(sizeof(script) / sizeof(script[0]), STEPS);
	t.shared = mmap(NULL, sizeof(*t.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(t.shared, MAP_FAILED);
	run_whole();
}

static void check_tried(bool must_fail)
{
	char missing[1024] = "";

	for (size_t i = 0; i < failpoint_count(); i++) {
		if (!t.tried[i] && (failpoint_at(i)->fails || !must_fail))
			strcat(strcat(missing, " "), failpoint_at(i)->name);
	}
	cr_assert_str_empty(missing, "of %zu failpoints these were not come to:%s", failpoint_count(), missing);
}

/* The n-th of `count` tries of what is come to `hits` times: the first, the last, and some between. */
static unsigned pick(unsigned hits, unsigned n, unsigned count)
{
	return hits <= count ? n : 1 + (unsigned)((uint64_t)(hits - 1) * (n - 1) / (count - 1));
}

/* Whoever dies at a failpoint leaves the store as it was before, or after, what it was at. */
Test(failpoints, deaths)
{
	prepare();
	for (size_t i = 0; i < failpoint_count(); i++) {
		for (unsigned n = 1; n <= TIMES && n <= t.hits[i] + 1; n++)
			die_in_script(failpoint_at(i), i, pick(t.hits[i] + 1, n, TIMES));
	}
	check_tried(false);
}

/* Whatever fails there is refused, and has not happened; or it is made good later. */
Test(failpoints, errors)
{
	prepare();
	for (size_t i = 0; i < failpoint_count(); i++) {
		for (unsigned n = 1; failpoint_at(i)->fails && n <= TIMES && n <= t.hits[i]; n++)
			fail_in_script(failpoint_at(i), i, pick(t.hits[i], n, TIMES));
	}
	for (size_t i = 0; i < failpoint_count(); i++)
		t.tried[i] |= t.hits[i] == 0; /* of a recovery: deaths */
	check_tried(true);
}
