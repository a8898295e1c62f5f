/*
 * Every failpoint of fs/ (engine/failpoint.h) is come to. Whoever dies there, a kill of the daemon: what had been answered is in the
 * store, once; what had not is there whole, or not at all. One that is not come to fails the test.
 *
 * A script of requests is given to the tree over a store. For each failpoint, and the first and the last time that it is come to, a
 * process runs it and dies there; how far it had its answers is in memory that is shared. The store is opened, and looked at. What only exchanges and
 * transactions come to, test_fs_steps dies at.
 *
 * And what is between open(2) and its answer, or changes a file of put/, fails: nothing is left of it.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/engine_queue.h"
#include "fs/fuse.h"
#include "fs/quota.h"
#include "tests/fs/ask.h"
#include "tests/fs/steps.h"
#include "tests/fuzz/world.h"
#include "tests/lib/failpoint.h"
#include "tests/lib/fault.h"
#include "tests/lib/nosync.h"
#include "tests/lib/tmpdir.h"

#define POINTS 32

/* Whether libfuse can hand the kernel a backing file. */
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
#define PASSES_THROUGH true
#else
#define PASSES_THROUGH false
#endif

static struct tmpdir dir;
static char store[PATH_MAX + 32];

static void begin(void)
{
	world_begin_at(store);
	world.of_root = true;
	world.fs.staging = true;
}

static void set_up(void)
{
	nosync_install();
	tmpdir_in_memory();
	tmpdir_make(&dir);
	snprintf(store, sizeof(store), "%s/store", dir.path);
	failpoint_arm(NULL, 0, 0);
}

static void tear_down(void)
{
	tmpdir_remove(&dir);
}

TestSuite(fs_failpoints, .init = set_up, .fini = tear_down, .timeout = 120);

/* ---- the script ---- */

static void count_handles(void *ctx, uid_t uid, uint64_t used)
{
	(void)uid;
	*(uint64_t *)ctx += used;
}

static uint64_t open_files(void)
{
	uint64_t count = 0;

	quota_each(world.fs.quota, QUOTA_HANDLES, count_handles, &count);
	return count;
}

/* What there is: how often each of these is in the topic, and messages in the queue. */
struct there {
	unsigned written, put, appended, queued;
};

/* Steps are begun and answered; what is answered is there. */
struct shared {
	struct there begun, answered;
	unsigned settled;  /* begun to be */
	unsigned are_gone; /* of the queue, which were settled */
	bool done;
};
static struct shared *shared;

/* It is run in processes of their own, where there is nobody to tell. */
static void must(bool holds, int line)
{
	if (holds)
		return;
	fprintf(stderr, "line %d does not hold: %d %s\n", line, world.answer.error, engine_reason());
	_exit(1);
}
#define MUST(holds) must(holds, __LINE__)

static void script(void)
{
	MUST(ask_mkdir("topics/t") == 0);
	MUST(ask_mkdir("queues/q") == 0);
	MUST(ask_mkdir("queues/q/consumers/w") == 0);
	for (unsigned i = 0; i < 2; i++) {
		shared->begun.written++;
		MUST(ask_write_file("topics/t/in", "written\n") == 0);
		shared->answered.written++;
		shared->begun.queued += 2;
		MUST(ask_write_file("queues/q/in", "one\ntwo\n") == 0);
		shared->answered.queued += 2;
		shared->begun.put++;
		MUST(ask_create(i == 0 ? "topics/t/put/a" : "topics/t/put/b") == 0);
		MUST(ask_write("put", 0) == 0);
		MUST(ask_close() == 0);
		shared->answered.put++;

		MUST(ask_open("topics/t/in", O_WRONLY | O_APPEND) == 0);
		MUST(ask_is_staged());
		shared->begun.appended++;
		MUST(write(ask_backing, "appended\n", 9) == 9); /* as the kernel does it */
		shared->answered.appended++;
		MUST(ask_close() == 0);

		MUST(ask_open("queues/q/consumers/w/.next", O_RDONLY) == 0);
		MUST(ask_read() == 0);
		MUST(world.answer.size == 4);
		MUST(ask_close() == 0);
		shared->settled++;
		MUST(ask_write_file("queues/q/consumers/w/ack", "all\n") == 0);
		shared->are_gone++;
	}
	shared->done = true;
}

static void live(void)
{
	begin();
	script();
	world_end();
}

static unsigned count_of(const char *text, size_t len, const char *word)
{
	unsigned count = 0;

	for (const char *at = text; (at = memmem(at, len - (size_t)(at - text), word, strlen(word))) != NULL; at++)
		count++;
	return count;
}

/* What is read through the tree, and what the queue counts. */
static struct there look(void)
{
	struct there there = { 0 };
	const struct engine_ops *ops = world.fs.engine->ops;
	struct engine_object *root, *queue;
	struct engine_queue_stat stat;

	if (ask_open("topics/t/0/log", O_RDONLY) == 0) {
		cr_assert_eq(ask_read(), 0);
		there.written = count_of((char *)world.answer.body, world.answer.size, "written\n");
		there.put = count_of((char *)world.answer.body, world.answer.size, "put\n");
		there.appended = count_of((char *)world.answer.body, world.answer.size, "appended\n");
		cr_assert_eq(world.answer.size, there.written * 8 + there.put * 4 + there.appended * 9);
		cr_assert_eq(ask_close(), 0);
	}
	cr_assert_eq(ops->get(world.fs.engine, ENGINE_ROOT_ID, &root), 0);
	if (ops->lookup(world.fs.engine, root, ENGINE_QUEUE, "q", &queue) == 0) {
		cr_assert_eq(ops->queue->queue_stat(queue, &stat), 0);
		there.queued = (unsigned)(stat.ready + stat.unacked);
		ops->put(queue);
	}
	ops->put(root);
	return there;
}

static void expect(unsigned is, unsigned least, unsigned most, const char *what, const char *point)
{
	cr_expect(is >= least && is <= most, "%s: %u of \"%s\", not %u to %u", point, is, what, least, most);
}

/* put: close(2) is answered before its message is made, so the last one may not have been. */
static void check(const char *point)
{
	struct there is;

	begin();
	is = look();
	expect(is.written, shared->answered.written, shared->begun.written, "written", point);
	expect(is.put, shared->answered.put, shared->begun.put, "put", point);
	expect(is.appended, shared->answered.appended, shared->begun.appended, "appended", point);
	expect(is.queued, shared->answered.queued - shared->settled, shared->begun.queued - shared->are_gone, "queued",
	    point);
	cr_expect(
	    is.queued % 2 == (shared->answered.queued - shared->settled) % 2 || shared->settled > shared->are_gone,
	    "%s: half of a write is there", point);
	world_end();
}

static void die_at(struct failpoint *point, unsigned n)
{
	pid_t pid;
	int status;

	memset(shared, 0, sizeof(*shared));
	fflush(NULL);
	pid = fork();
	cr_assert_geq(pid, 0);
	if (pid == 0) {
		failpoint_arm(point, n, FAILPOINT_DIES);
		live();
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert(
	    WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s, time %u: status %#x", point->name, n, status);
	cr_assert(!shared->done);
	check(point->name);
}

Test(fs_failpoints, are_all_come_to)
{
	unsigned hits[POINTS], died = 0;

	if (!PASSES_THROUGH)
		cr_skip_test("SKIP: this libfuse knows no passthrough");
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(shared, MAP_FAILED);
	cr_assert_leq(failpoint_count(), POINTS);
	live();
	cr_assert(shared->done);
	for (size_t i = 0; i < failpoint_count(); i++)
		hits[i] = atomic_load(&failpoint_at(i)->hits);
	check("none");
	begin();
	for (size_t i = 0; i < step_count; i++)
		cr_assert_eq(step_do(i), step_answer(i)); /* test_fs_steps dies in these */
	world_end();
	for (size_t i = 0; i < failpoint_count(); i++) {
		cr_expect_gt(
		    atomic_load(&failpoint_at(i)->hits), 0, "neither script comes to %s", failpoint_at(i)->name);
		for (unsigned n = 1; n <= hits[i]; n += hits[i] > 1 ? hits[i] - 1 : 1) {
			snprintf(store, sizeof(store), "%s/store-%zu-%u", dir.path, i, n);
			die_at(failpoint_at(i), n);
			died++;
		}
	}
	cr_assert_geq(died, 2 * 6);
}

/* ---- open(2), interrupted or not to be had by staging ---- */

/* Nobody has the file whose open was interrupted: it is closed, as often as that is, and the next one is as the first was. */
Test(fs_failpoints, open_that_nobody_has)
{
	static const struct {
		const char *path;
		uint32_t flags;
	} rows[] = { { "topics/t/in", O_WRONLY | O_APPEND }, { "topics/t/in", O_RDWR }, { "topics/t/info", O_RDONLY },
		{ "queues/q/.take", O_RDONLY }, { "queues/q/consumers/w/session", O_WRONLY },
		{ "topics/t/0/log", O_RDONLY }, { "topics/t/put/f", O_RDWR }, { "topics/t/purge", O_WRONLY } };

	struct there is;

	if (!PASSES_THROUGH)
		cr_skip_test("SKIP: this libfuse knows no passthrough");
	begin();
	cr_assert_eq(ask_mkdir("topics/t"), 0);
	cr_assert_eq(ask_mkdir("queues/q"), 0);
	cr_assert_eq(ask_mkdir("queues/q/consumers/w"), 0);
	cr_assert_eq(ask_write_file("queues/q/in", "one\n"), 0);
	cr_assert_eq(ask_create("topics/t/put/f"), 0);
	cr_assert_eq(ask_write("put", 0), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (unsigned again = 0; again < 3; again++) {
			char name[256];
			uint64_t node = ask_walk(rows[i].path, true, name), before = open_files();
			const struct fuse_open_in in = { .flags = rows[i].flags };

			world.refuses = true;
			cr_assert_eq(ask(FUSE_OPEN, node, &in, sizeof(in), NULL, 0), 1, "%s", rows[i].path);
			cr_assert(!world.refuses);
			cr_assert_eq(open_files(), before, "%s", rows[i].path);
		}
		cr_assert_eq(ask_open(rows[i].path, rows[i].flags), 0, "%s", rows[i].path);
		cr_assert_eq(ask_is_staged(), i == 0);
		cr_assert_eq(ask_close(), 0);
	}
	cr_assert_eq(open_files(), 1); /* of put/ */
	cr_assert_eq(ask_close(), 0);
	is = look();
	cr_assert(is.queued == 1 && is.put == 1);
	world_end();
}

/* The line of status/version about the way of writes. */
static void producing(char ret[128])
{
	cr_assert_eq(ask_open("status/version", O_RDONLY), 0);
	cr_assert_eq(ask_read(), 0);
	world.answer.body[world.answer.size] = '\0';
	char *line = strstr((char *)world.answer.body, "producing ");
	cr_assert_not_null(line);
	snprintf(ret, 128, "%.*s", (int)strcspn(line, "\n"), line);
	cr_assert_eq(ask_close(), 0);
}

/* The file is open all the same, and writes are requests; whoever opens it once more gets what they would if it never had a staging file. */
static void open_refused(void)
{
	cr_assert_eq(ask_open("topics/t/in", O_WRONLY | O_APPEND), 0);
	cr_assert(!ask_is_staged());
	const struct fuse_open_in again = { .flags = O_RDWR };
	uint64_t node = ask_node();
	cr_assert_eq(ask_write("written\n", 0), 0);
	cr_assert_eq(ask(FUSE_OPEN, node, &again, sizeof(again), NULL, 0), 0);
	cr_assert(!ask_is_staged());
	world_keep_file(node, O_RDWR, false, 0);
	cr_assert_eq(ask_write("written\n", 0), 0);
	cr_assert_eq(ask_close(), 0);
	cr_assert_eq(ask_close(), 0);
}

/* What would refuse every file ends staging, and is told of; what may be over at once, or is of that file only, does not. */
Test(fs_failpoints, open_without_staging)
{
	static const struct {
		int err;
		bool for_good;
		const char *name;
	} rows[] = { { EMFILE, false, "" }, { ENFILE, false, "" }, { ENOMEM, false, "" }, { ENOSPC, false, "" },
		{ EINVAL, false, "" }, { EBADF, false, "" }, { EIO, false, "" }, { ENOTTY, true, "ENOTTY" },
		{ ENOSYS, true, "ENOSYS" }, { EOPNOTSUPP, true, "EOPNOTSUPP" }, { EPERM, true, "EPERM" },
		{ ELOOP, true, "ELOOP" } };

	if (!PASSES_THROUGH)
		cr_skip_test("SKIP: this libfuse knows no passthrough");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char line[128], expected[128] = "producing direct staged";
		struct there is;

		snprintf(store, sizeof(store), "%s/store-%zu", dir.path, i);
		begin();
		cr_assert_eq(ask_mkdir("topics/t"), 0);
		producing(line);
		cr_assert_str_eq(line, expected);
		ask_refusal = rows[i].err;
		open_refused();
		ask_refusal = 0;
		if (rows[i].for_good)
			snprintf(expected, sizeof(expected), "producing direct: the kernel takes no backing file (%s)",
			    rows[i].name);
		producing(line);
		cr_expect_str_eq(line, expected);
		cr_assert_eq(ask_open("topics/t/in", O_WRONLY | O_APPEND), 0);
		cr_expect_neq(ask_is_staged(), rows[i].for_good, "%s", strerror(rows[i].err));
		cr_assert_eq(ask_close(), 0);
		is = look();
		cr_expect(is.written == 2 && is.appended == 0);
		world_end();
		begin();
		is = look();
		cr_expect_eq(is.written, 2);
		world_end();
	}
}

/* Nor has the daemon a descriptor to give to the kernel. */
Test(fs_failpoints, open_without_descriptor)
{
	struct there is;

	if (!PASSES_THROUGH)
		cr_skip_test("SKIP: this libfuse knows no passthrough");
	begin();
	cr_assert_eq(ask_mkdir("topics/t"), 0);
	failpoint_arm(failpoint_find("staged_before_register"), 1, EMFILE);
	open_refused();
	failpoint_arm(NULL, 0, 0);
	is = look();
	cr_assert(is.written == 2 && is.appended == 0);
	world_end();
}

/* ---- put/ ---- */

static int set_size(uint64_t size)
{
	const struct fuse_setattr_in in = { .valid = FATTR_SIZE, .size = size };

	return ask(FUSE_SETATTR, ask_node(), &in, sizeof(in), NULL, 0);
}

/* As a program does that stops at the first error. The first error there was. */
static int put_file(const char *path)
{
	int err = ask_create(path), closed;

	if (err != 0)
		return err;
	err = ask_write("a half", 0);
	if (err == 0)
		err = set_size(0);
	if (err == 0)
		err = ask_write("put", 0);
	closed = ask_close();
	return err != 0 ? err : closed;
}

static uint64_t put_files(void)
{
	uint64_t count = 0;

	quota_each(world.fs.quota, QUOTA_PUT_FILES, count_handles, &count);
	return count;
}

/* Whatever cannot be changed: the call says so and nothing becomes a message, or status/errors does. */
Test(fs_failpoints, put_fails)
{
	unsigned made = 0, refused = 0;
	bool reached = true;

	begin();
	cr_assert_eq(ask_mkdir("topics/t"), 0);
	for (uint64_t n = 1; reached; n++) {
		char path[64], *name = path + strlen("topics/t/");
		int err;

		snprintf(path, sizeof(path), "topics/t/put/file%d.", (int)n);
		fault_arm(FAULT_OPEN | FAULT_WRITE | FAULT_TRUNCATE | FAULT_MINE, n, ENOSPC, false);
		err = put_file(path);
		reached = fault_disarm() >= n;
		cr_assert(err == 0 || (reached && err == -ENOSPC), "call %d: %d", (int)n, err);
		cr_assert_eq(ask_open("status/errors", O_RDONLY), 0);
		cr_assert_eq(ask_read(), 0);
		bool said = memmem(world.answer.body, world.answer.size, name, strlen(name)) != NULL;
		cr_assert_eq(ask_close(), 0);
		cr_assert(err == 0 || said, "call %d: status/errors does not have it", (int)n);
		cr_assert_eq(put_files(), 0, "call %d", (int)n);
		refused += err != 0;
		made += err == 0 && !said;
		cr_assert_eq(look().put, made, "call %d", (int)n);
	}
	cr_assert_geq(refused, 4); /* the file, two writes, the size */
	cr_assert_geq(made, 1);
	world_end();
}
