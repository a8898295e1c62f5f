/*
 * Exchanges and transactions (steps.c), where a step of the tree fails between two effects, or the daemon is killed there: at every
 * failpoint of fs/ that the script comes to (engine/failpoint.h), each time that it does.
 *
 * A refusal is an errno of the call itself, with a line in status/errors; then all is as before, and the same call again does it. After a kill, the
 * step that was under way has happened, or it has not.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/errtext.h"
#include "tests/fs/ask.h"
#include "tests/fs/steps.h"
#include "tests/fuzz/world.h"
#include "tests/lib/failpoint.h"
#include "tests/lib/nosync.h"
#include "tests/lib/tmpdir.h"

#define STEPS_MAX 64u

static struct tmpdir dir;
static char store[PATH_MAX + 32];
static unsigned stores;

/* What there is before the first step, and after each. */
static struct {
	char log[LOOK_MAX], lasting[LOOK_MAX], all[LOOK_MAX];
} seen[STEPS_MAX + 1];

static _Atomic size_t *begun; /* steps; shared with who is killed */

static void begin(void)
{
	snprintf(store, sizeof(store), "%s/store-%u", dir.path, stores);
	world_begin_at(store);
	world.of_root = true;
}

static void set_up(void)
{
	nosync_install();
	tmpdir_in_memory();
	tmpdir_make(&dir);
	failpoint_arm(NULL, 0, 0);
	cr_assert_leq(step_count, STEPS_MAX);
	begin();
	for (size_t i = 0; i <= step_count; i++) {
		look_at_log(seen[i].log);
		look_around(true, seen[i].lasting);
		look_around(false, seen[i].all);
		if (i < step_count)
			cr_assert_eq(step_do(i), step_answer(i), "%s: %d", step_name(i), world.answer.error);
	}
	world_end();
}

static void tear_down(void)
{
	tmpdir_remove(&dir);
}

TestSuite(fs_steps, .init = set_up, .fini = tear_down, .timeout = 120);

static bool is_start(const char *text, const char *of)
{
	return strncmp(text, of, strlen(text)) == 0;
}

/* ---- killed ---- */

static void run(void)
{
	begin();
	for (size_t i = 0; i < step_count; i++) {
		atomic_store(begun, i);
		(void)step_do(i);
	}
}

/* After a kill in step i: it has happened or not. */
static void check_step(size_t i, const char *point)
{
	char log[LOOK_MAX], lasting[LOOK_MAX];

	begin();
	look_at_log(log);
	look_around(true, lasting);
	world_end();
	bool after = strcmp(lasting, seen[i + 1].lasting) == 0, before = strcmp(lasting, seen[i].lasting) == 0;
	cr_expect(after || before, "%s in %s: \"%s\", not \"%s\" or \"%s\"", point, step_name(i), lasting,
	    seen[i].lasting, seen[i + 1].lasting);
	if (step_is_of_many(i))
		cr_expect(is_start(seen[i].log, log) && is_start(log, seen[i + 1].log), "%s in %s: \"%s\"", point,
		    step_name(i), log);
	else
		cr_expect((before && strcmp(log, seen[i].log) == 0) || (after && strcmp(log, seen[i + 1].log) == 0),
		    "%s in %s: \"%s\" with \"%s\"", point, step_name(i), log, lasting);
}

/* False: it is not come to for the n-th time. */
static bool die_at(struct failpoint *point, unsigned n)
{
	int status;

	stores++;
	fflush(NULL);
	pid_t pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0) {
		failpoint_arm(point, n, FAILPOINT_DIES);
		run();
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return false;
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s, time %u: %#x", point->name, n, status);
	check_step(atomic_load(begun), point->name);
	return true;
}

Test(fs_steps, killed)
{
	unsigned died = 0;

	begun = mmap(NULL, sizeof(*begun), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(begun, MAP_FAILED);
	for (size_t i = 0; i < failpoint_count(); i++) {
		for (unsigned n = 1; die_at(failpoint_at(i), n); n++)
			died++;
	}
	cr_assert_geq(died, 100);
}

/* ---- refused ---- */

/* The last line of status/errors. */
static void last_error(char ret[512])
{
	cr_assert_eq(ask_open("status/errors", O_RDONLY), 0);
	cr_assert_eq(ask_read(), 0);
	size_t end = world.answer.size > 0 ? world.answer.size - 1 : 0, start = end;
	while (start > 0 && world.answer.body[start - 1] != '\n')
		start--;
	snprintf(ret, 512, "%.*s", (int)(end - start), (char *)world.answer.body + start);
	cr_assert_eq(ask_close(), 0);
}

static bool is_as(size_t i)
{
	char log[LOOK_MAX], all[LOOK_MAX];

	look_at_log(log);
	look_around(false, all);
	return strcmp(log, seen[i].log) == 0 && strcmp(all, seen[i].all) == 0;
}

/* In step i err was met: the call has said so, or, of put/, where its message is made after the close, status/errors has. Or it passed by. */
static void check_refused(size_t i, int got, int err, const char *point)
{
	char line[512], words[128];

	last_error(line);
	/* What a send that failed before has said, the next would have cleared. */
	bool after_send = strcmp(point, "write_one_of_many") == 0;
	snprintf(words, sizeof(words), ": %s", after_send ? "" : errtext_sentence(err));
	bool told = strstr(line, errtext_name(err)) != NULL && strstr(line, words) != NULL;
	if (got == step_answer(i) && is_as(i + 1))
		return;
	cr_expect(got == -err || (got == 0 && strcmp(point, "put_before_produce") == 0), "%s in %s: %d", point,
	    step_name(i), got);
	cr_expect(told, "%s in %s: status/errors says \"%s\"", point, step_name(i), line);
	cr_expect(is_as(i), "%s in %s: not as before", point, step_name(i));
	cr_expect_eq(step_do(i), step_answer(i), "%s in %s: again", point, step_name(i));
	cr_expect(is_as(i + 1), "%s in %s: again, and not as it is after that", point, step_name(i));
}

/* False: the point is not come to for the n-th time. */
static bool fail_at(struct failpoint *point, unsigned n, int err)
{
	bool met = false;

	stores++;
	begin();
	failpoint_arm(point, n, err);
	for (size_t i = 0; i < step_count; i++) {
		int got = step_do(i);

		if (!met && atomic_load(&point->hits) >= n) {
			met = true;
			failpoint_arm(NULL, 0, 0);
			check_refused(i, got, err, point->name);
		} else {
			cr_assert_eq(got, step_answer(i), "%s: %d", step_name(i), got);
		}
	}
	failpoint_arm(NULL, 0, 0);
	cr_expect(is_as(step_count), "%s, time %u: not as ever at the end", point->name, n);
	world_end();
	return met;
}

Test(fs_steps, refused)
{
	static const int errors[] = { EIO, ENOMEM };
	unsigned failed = 0;

	for (size_t i = 0; i < failpoint_count(); i++) {
		struct failpoint *point = failpoint_at(i);

		if (!point->fails)
			continue;
		for (size_t e = 0; e < 2; e++) {
			/* Without memory a message of put/ is not lost but waits, and so is not as before. */
			if (errors[e] == ENOMEM && strcmp(point->name, "put_before_produce") == 0)
				continue;
			for (unsigned n = 1; fail_at(point, n, errors[e]); n++)
				failed++;
		}
	}
	cr_assert_geq(failed, 40);
}

/* ---- told ---- */

/* The kernel keeps what a link says: of each that leads to what is renamed it is told, however many it knows. */
Test(fs_steps, links_are_told_of)
{
	const unsigned links = 150;

	stores++;
	begin();
	cr_assert_eq(ask_mkdir("topics/a"), 0);
	cr_assert_eq(ask_mkdir("topics/b"), 0);
	cr_assert_eq(ask_mkdir("exchanges/e"), 0);
	cr_assert_eq(ask_mkdir("exchanges/e/bindings/p"), 0);
	for (unsigned i = 0; i < links; i++) {
		char path[64];

		snprintf(path, sizeof(path), "exchanges/e/bindings/p/%u", i);
		cr_assert_eq(ask_link(path, i == 7 ? "../../../../topics/b" : "../../../../topics/a"), 0);
	}
	world.told = 0;
	cr_assert_eq(ask_rename("topics/a", "topics/c"), 0);
	cr_assert_eq(world.told, links - 1);
	cr_assert_eq(ask_rename("topics/b", "topics/a"), 0);
	cr_assert_eq(world.told, links);
	world_end();
}
