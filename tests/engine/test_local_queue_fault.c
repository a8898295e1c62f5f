/*
 * Queues on a bad disk: every change of a file fails once, and messages cannot be read.
 *
 * The same commands go to the local engine, and, if they were not refused there, to the memory engine: then both must have
 * the same messages in the same states and order, and the same totals; and still so when the store was opened again, or the engine
 * was killed: what was refused has changed nothing, and what was not is done, and in the files.
 */
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "engine/local_internal.h"
#include "tests/lib/contract_queue.h"
#include "tests/lib/fault.h"
#include "tests/lib/nosync.h"

static const char *const queues[] = { "q", "q/dlq", "o", "o/dlq" };

static const char *const script[] = { "send q a", "send q b:p1 c d:p5:t5000 e:p1 f", "push q g:p9 h",
	"send o i:d500 j k:p3", "get q", "get q", "get q/w1", "get q/w1", "get q/w1", "get q/w1", "get q/w1",
	"get q/w1", "ack q g", "nack q/w1 b", "reject q/w1 e", "get q/dlq", "nack q/dlq e", "mv q/dlq ready e q ready",
	"mv q ready b o ready p3", "mv o ready j q unacked q/w1", "rm o ready k", "touch o delayed i 900", "take o",
	"mv q ready e q/dlq ready", "redrive q/dlq e", "send o l:p9 m n:p1", "ack q/w1 j", "set o max.length 2",
	"send o p q r:p4", "redrive o/dlq n", "purge o", "reject q a", "purge q/dlq", "queue z", "rmdir z",
	"send q s:p2 t:p7", NULL };

static bool is_refused(const char *answer)
{
	return strcmp(answer, "EIO") == 0 || strcmp(answer, "ENOSPC") == 0 || strcmp(answer, "EROFS") == 0;
}

/* What a limit displaces a bad disk may keep until the next message comes; and what is purged goes in several steps. */
static bool takes_steps(const char *command)
{
	return strstr(command, "max.length") != NULL || strstr(command, "o/dlq") != NULL ||
	       strncmp(command, "purge", 5) == 0;
}

struct pair {
	struct contract *a, *b; /* memory, local */
	unsigned refused;
	char text[16384];
};

static void open_pair(struct pair *p)
{
	static const char *const setup[] = { "queue q", "queue o", "consumer q/w1" };

	tmpdir_in_memory();
	nosync_install();
	p->a = calloc(1, sizeof(*p->a));
	p->b = calloc(1, sizeof(*p->b));
	p->refused = 0;
	q_open(p->a, false);
	q_open(p->b, true);
	q_lenient(p->a);
	q_lenient(p->b);
	timers_stop((struct local *)p->b->engine);
	for (size_t i = 0; i < 3; i++) {
		q_run(p->a, setup[i]);
		q_run(p->b, setup[i]);
	}
}

static void close_pair(struct pair *p)
{
	q_close(p->b);
	q_close(p->a);
	free(p->a);
	free(p->b);
}

static void run_both(struct pair *p, const char *command, int err)
{
	snprintf(p->text, sizeof(p->text), "%s", q_run(p->b, command));
	if (is_refused(p->text)) {
		/* A full disk refuses what brings messages and objects, and nothing else. */
		cr_assert(err != ENOSPC || strncmp(command, "send", 4) == 0 || strncmp(command, "push", 4) == 0 ||
			      strcmp(command, "queue z") == 0,
		    "%s: %s", command, p->text);
		p->refused++;
		return;
	}
	q_run(p->a, command);
	if (strcmp(command, "rmdir z") != 0) /* it may not have been made */
		cr_assert_str_eq(p->text, q_answer(), "%s: %s and not %s", command, p->text, q_answer());
}

static void compare(struct pair *p, uint64_t n, const char *when)
{
	char command[64];

	for (size_t i = 0; i < sizeof(queues) / sizeof(queues[0]); i++) {
		for (int totals = 0; totals < 2; totals++) {
			snprintf(command, sizeof(command), "%s %s", totals ? "totals" : "show", queues[i]);
			snprintf(p->text, sizeof(p->text), "%s", q_run(p->b, command));
			cr_assert_str_eq(p->text, q_run(p->a, command), "change %" PRIu64 ", %s: %s: %s\nand not %s", n,
			    when, command, p->text, q_answer());
		}
	}
}

/* Returns how many commands were refused. */
static unsigned break_every_change(unsigned ops, int err)
{
	uint64_t reached = 1;
	unsigned refused = 0;

	for (uint64_t n = 1; n <= reached; n++) {
		bool is_killed = n % 4 == 1;
		struct pair p;

		open_pair(&p);
		fault_arm(ops, n, err, false);
		for (size_t i = 0; script[i] != NULL; i++) {
			if (err != EIO || !takes_steps(script[i]))
				run_both(&p, script[i], err);
			q_tick(1);
		}
		reached = fault_disarm();
		compare(&p, n, "at once");
		q_run(p.b, is_killed ? "crash" : "reopen");
		timers_stop((struct local *)p.b->engine);
		compare(&p, n, is_killed ? "after a kill" : "opened again");
		run_both(&p, "send q x:p1 y", 0);
		run_both(&p, "take q", 0);
		compare(&p, n, "afterwards");
		refused += p.refused;
		close_pair(&p);
	}
	cr_assert_gt(reached, 100);
	return refused;
}

/* Whichever write fails, or is cut short: what was refused has not happened, what was accepted stays. */
Test(local_queue_fault, io_errors)
{
	cr_assert_gt(break_every_change(FAULT_OPEN | FAULT_MKDIR | FAULT_WRITE, EIO), 10);
}

/* Whichever change finds the disk full: only what brings messages and objects is refused, and all goes on afterwards. */
Test(local_queue_fault, full_disk)
{
	cr_assert_gt(break_every_change(FAULT_OPEN | FAULT_MKDIR | FAULT_WRITE | FAULT_TRUNCATE, ENOSPC), 10);
}

/* Whichever write is short goes on where it ended, and nothing is refused. */
Test(local_queue_fault, short_writes)
{
	cr_assert_eq(break_every_change(FAULT_WRITE, 0), 0);
}

static struct {
	struct io_ops ops;
	const struct io_ops *real;
	pthread_t thread;
	uint64_t n, count;
	int err;
} reading;

/* The n-th read of a log by who opens the store. */
static ssize_t failing_pread(int fd, void *buf, size_t size, off_t pos)
{
	char link[64], path[PATH_MAX] = "";

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (!pthread_equal(reading.thread, pthread_self()) || readlink(link, path, sizeof(path) - 1) < 0 ||
	    strstr(path, "/logs/") == NULL || ++reading.count != reading.n)
		return reading.real->pread(fd, buf, size, pos);
	return -reading.err;
}

/*
 * A read that fails by what says nothing of the files when a queue is opened: who comes first is told, and who comes then finds all as it
 * was: no message is taken for damaged, or has lost its id or its time.
 */
Test(local_queue_fault, reads_that_fail_at_the_opening)
{
	static const char *const leased[] = { "send o u v", "get o", "get o" }, *const settled[] = { "ack o u",
		"ack o v" };
	unsigned refused = 0;
	uint64_t n = 0, reached;

	do {
		struct pair p;

		open_pair(&p);
		for (size_t i = 0; script[i] != NULL; i++) {
			run_both(&p, script[i], 0);
			q_tick(1);
		}
		q_run(p.b, "reopen"); /* moves are done: no start needs the logs any more */
		timers_stop((struct local *)p.b->engine);
		for (size_t i = 0; i < 3; i++)
			run_both(&p, leased[i], 0);
		reading.real = io;
		reading.ops = *io;
		reading.ops.pread = failing_pread;
		reading.thread = pthread_self();
		reading.n = ++n;
		reading.count = 0;
		reading.err = n % 3 ? EINTR : ENOMEM;
		io = &reading.ops;
		q_run(p.b, n % 2 ? "crash" : "reopen");
		timers_stop((struct local *)p.b->engine);
		for (size_t i = 0; i < 4; i++) {
			struct engine_object *of =
			    contract_lookup(p.b, p.b->root, ENGINE_QUEUE, i % 2 == 0 ? "q" : "o");
			struct engine_object *queue = i < 2 ? of : contract_lookup(p.b, of, ENGINE_QUEUE, "dlq");
			struct engine_queue_stat stat;
			int rc = p.b->ops->queue->queue_stat(queue, &stat);

			cr_assert(rc == 0 || rc == -reading.err, "%d", rc);
			refused += rc < 0;
			p.b->ops->put(queue);
			if (queue != of)
				p.b->ops->put(of);
		}
		io = reading.real;
		reached = reading.count;
		compare(&p, n, "at the opening");
		for (size_t i = 0; i < 2; i++)
			run_both(&p, settled[i], 0);
		compare(&p, n, "settled");
		close_pair(&p);
	} while (n <= reached);
	cr_assert(n > 8 && refused > 4, "%" PRIu64 " reads, %u refused", n, refused);
}

/* ---- damaged messages ---- */

/* Flips a byte of the only log that has this text in a file of this kind, or, in the index, its n-th entry. */
static void damage(struct contract *c, const char *suffix, const char *text, int entry)
{
	char path[PATH_MAX + 600], bytes[4096];
	struct dirent *log;
	unsigned done = 0;
	DIR *logs;

	snprintf(path, sizeof(path), "%s/logs", c->source);
	logs = opendir(path);
	cr_assert_not_null(logs);
	while ((log = readdir(logs)) != NULL) {
		ssize_t n;
		char *at;
		int fd;

		snprintf(path, sizeof(path), "%s/logs/%.200s/00000000000000000000.data", c->source, log->d_name);
		fd = open(path, O_RDWR);
		n = fd >= 0 ? pread(fd, bytes, sizeof(bytes), 0) : 0;
		at = n > 0 ? memmem(bytes, (size_t)n, text, strlen(text)) : NULL;
		if (at != NULL && strcmp(suffix, "data") == 0) {
			*at ^= 1;
			cr_assert_eq(pwrite(fd, bytes, (size_t)n, 0), n);
			done++;
		} else if (at != NULL) {
			close(fd);
			strcpy(strrchr(path, '.'), ".index");
			fd = open(path, O_RDWR);
			n = pread(fd, bytes, sizeof(bytes), 0);
			bytes[128 + 64 * entry + 20] ^= 1;
			cr_assert_eq(pwrite(fd, bytes, (size_t)n, 0), n);
			done++;
		}
		if (fd >= 0)
			close(fd);
	}
	closedir(logs);
	cr_assert_eq(done, 1);
}

/* Its remains are in the log, and nothing else is wrong. */
#define REMAINS "state degraded\nreason queue q, priority 0: 1 message is damaged, the first is number 0 of its log\n"

/* Three messages in batches of their own, of which the first cannot be read. What health says in the end is expected. */
static void with_damage(struct contract *c, const char *suffix, const char *expected, const char *const *after)
{
	Q_SCRIPT(c, "queue q", "send q bad-one", "tick 1", "send q b", "tick 1", "send q c");
	contract_close(c);
	damage(c, suffix, "bad-one", 0);
	contract_open(c);
	q_forget();
	q_script(c, after);
	c->ops->health(c->engine, c->text, CONTRACT_TEXT);
	assert_text(c->text, expected);
}

static void damaged_is_passed_over(struct contract *c, const char *suffix)
{
	with_damage(c, suffix, REMAINS,
	    (const char *const[]){ "take q => b", "take q => c", "take q => -", "totals q ready => 0",
		"totals q acked => 2", "send q d", "take q => d", NULL });
}

static void damaged_expires(struct contract *c, const char *suffix)
{
	with_damage(c, suffix, REMAINS,
	    (const char *const[]){ "set q message.ttl.ms 100", "tick 1000", "totals q ready => 0", "totals q dead => 2",
		"show q/dlq => b,c |  | ", "totals q dropped => 1", NULL });
}

static void damaged_is_over_the_limit(struct contract *c, const char *suffix)
{
	with_damage(c, suffix, REMAINS,
	    (const char *const[]){
		"set q max.length 1", "totals q ready => 1", "totals q dead => 1", "take q => c", NULL });
}

static void damaged_is_purged(struct contract *c, const char *suffix)
{
	with_damage(c, suffix, "state ok\n",
	    (const char *const[]){ "purge q", "totals q ready => 0", "send q d", "take q => d", NULL });
}

#define DAMAGE_TEST(name)                                                                                              \
	static void name##_data(struct contract *c)                                                                    \
	{                                                                                                              \
		name(c, "data");                                                                                       \
	}                                                                                                              \
	static void name##_index(struct contract *c)                                                                   \
	{                                                                                                              \
		name(c, "index");                                                                                      \
	}                                                                                                              \
	Test(local_queue_fault, name)                                                                                  \
	{                                                                                                              \
		contract_queue_run(true, name##_data);                                                                 \
		contract_queue_run(true, name##_index);                                                                \
	}

/* A message that cannot be read is passed over by who reads, and its room is given back. */
DAMAGE_TEST(damaged_is_passed_over)
/* It stands in the way of none that expires. */
DAMAGE_TEST(damaged_expires)
/* Nor of one that a limit drops. */
DAMAGE_TEST(damaged_is_over_the_limit)
DAMAGE_TEST(damaged_is_purged)
