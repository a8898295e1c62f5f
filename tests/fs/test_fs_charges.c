/*
 * What a user is charged for is given back the moment that it is gone, and not when a file is closed: else what was refused, or dropped, would
 * count against what the same user may have elsewhere. And a file of put/ that two make at a time is one.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/quota.h"
#include "tests/fs/ask.h"
#include "tests/fuzz/world.h"
#include "tests/lib/nosync.h"
#include "tests/lib/tmpdir.h"

static struct tmpdir dir;

static void set_up(void)
{
	char store[PATH_MAX + 32];

	nosync_install();
	tmpdir_in_memory();
	tmpdir_make(&dir);
	snprintf(store, sizeof(store), "%s/store", dir.path);
	world_begin_at(store);
	world.of_root = true;
	cr_assert_eq(ask_mkdir("topics/t"), 0);
}

static void tear_down(void)
{
	world_end();
	tmpdir_remove(&dir);
}

TestSuite(fs_charges, .init = set_up, .fini = tear_down);

static void add(void *ctx, uid_t uid, uint64_t used)
{
	(void)uid;
	*(uint64_t *)ctx += used;
}

static uint64_t charged(enum quota_kind kind)
{
	uint64_t sum = 0;

	quota_each(world.fs.quota, kind, add, &sum);
	return sum;
}

/* Of a message of which it is known that it will be refused, behind one that is taken, or alone. */
Test(fs_charges, part_that_is_refused)
{
	const char *const writes[] = { "a\nb", "b" };

	cr_assert_eq(ask_mkdir("queues/q"), 0);
	cr_assert_eq(ask_write_file("queues/q/config/overflow", "reject-publish\n"), 0);
	cr_assert_eq(ask_write_file("queues/q/config/max.length", "1\n"), 0);
	for (unsigned i = 0; i < 2; i++) {
		cr_assert_eq(ask_open("queues/q/in", O_WRONLY | O_APPEND), 0);
		cr_assert_eq(ask_write(writes[i], 0), i == 0 ? 0 /* it is short */ : -EDQUOT);
		cr_assert_eq(charged(QUOTA_PART_BYTES), 0);
		cr_assert_eq(ask_close(), 0);
	}
}

/* What a message began with that is too long. */
Test(fs_charges, part_that_is_dropped)
{
	cr_assert_eq(ask_write_file("topics/t/config/max.message.bytes", "10\n"), 0);
	cr_assert_eq(ask_open("topics/t/in", O_WRONLY | O_APPEND), 0);
	cr_assert_eq(ask_write("abc", 0), 0);
	cr_assert_eq(charged(QUOTA_PART_BYTES), 3);
	cr_assert_eq(ask_write("0123456789", 0), -EMSGSIZE);
	cr_assert_eq(charged(QUOTA_PART_BYTES), 0);
	(void)ask_close();
}

/* Who wrote it was killed, and another has the file still. */
Test(fs_charges, part_of_who_was_killed)
{
	pid_t child = fork();
	siginfo_t info;

	if (child == 0) {
		raise(SIGKILL);
		_exit(0);
	}
	cr_assert_eq(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	cr_assert_eq(ask_open("topics/t/in", O_WRONLY | O_APPEND), 0);
	world.pid = (uint32_t)child;
	cr_assert_eq(ask_write("abc", 0), 0);
	cr_assert_eq(charged(QUOTA_PART_BYTES), 3);
	cr_assert_eq(ask_flush(), 0);
	cr_assert_eq(charged(QUOTA_PART_BYTES), 0);
	world.pid = 0;
	cr_assert_eq(ask_close(), 0);
	cr_assert_eq(waitpid(child, NULL, 0), child);
}

static unsigned descriptors(void)
{
	unsigned count = 0;
	DIR *fds = opendir("/proc/self/fd");

	cr_assert_not_null(fds);
	while (readdir(fds) != NULL)
		count++;
	closedir(fds);
	return count;
}

/* Two that saw no such name make it: they have the same file, which is one message. */
Test(fs_charges, name_in_put_that_is_there)
{
	unsigned had;

	cr_assert_eq(ask_create("topics/t/put/a"), 0);
	had = descriptors();
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(ask_create("topics/t/put/a"), 0);
		cr_assert_eq(descriptors(), had);
		cr_assert_eq(charged(QUOTA_PUT_FILES), 1);
	}
	cr_assert_eq(ask_write("one", 0), 0);
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(ask_close(), 0);
	cr_assert_eq(charged(QUOTA_PUT_FILES), 0);
	cr_assert_eq(ask_open("topics/t/0/log", O_RDONLY), 0);
	cr_assert_eq(ask_read(), 0);
	cr_assert_eq(world.answer.size, 4);
	cr_assert_arr_eq(world.answer.body, "one\n", 4);
	cr_assert_eq(ask_close(), 0);
}
