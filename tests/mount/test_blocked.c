/* A thousand readers that wait cost the daemon no thread, slow nobody down, wake together and can be killed (trap 5). */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/mnt.h"

enum { READERS = 1000, TOPICS = 10, LOOKS = 400 };

static pid_t readers[READERS];

static void setup(void)
{
	char name[16];

	mnt_setup();
	for (int t = 0; t < TOPICS; t++) {
		snprintf(name, sizeof(name), "t%d", t);
		mnt_topic(name, 1);
		mnt_group(name, "g");
	}
}

/* A hundred readers in `wait` of each of the groups, all blocked when this returns. */
static void start_readers(void)
{
	for (int i = 0; i < READERS; i++) {
		readers[i] = fork();
		cr_assert_geq(readers[i], 0, "fork: %s", strerror(errno));
		if (readers[i] == 0) {
			char text[64];
			int fd = open(mnt_path("topics/t%d/groups/g/wait", i % TOPICS), O_RDONLY);
			_exit(fd >= 0 && read(fd, text, sizeof(text)) == 6 && memcmp(text, "awake\n", 6) == 0 ? 0 : 1);
		}
	}
	for (int i = 0; i < READERS; i++)
		mnt_wait_blocked(readers[i], SYS_read);
}

static void kill_readers(void)
{
	for (int i = 0; i < READERS; i++) {
		if (readers[i] > 0)
			kill(readers[i], SIGKILL);
	}
}

static void teardown(void)
{
	kill_readers();
	for (int i = 0; i < READERS; i++) {
		if (readers[i] > 0)
			waitpid(readers[i], NULL, 0);
	}
	mnt_release();
}

TestSuite(blocked, .init = setup, .fini = teardown, .timeout = 120);

/* A file opened and read, so that no cache answers. */
static void look(int i)
{
	struct stat st;
	char text[512];
	int fd;

	cr_assert_eq(stat(mnt_path("topics/t%d/in", i % TOPICS), &st), 0);
	fd = mnt_open(mnt_path("topics/t%d/info", i % TOPICS), O_RDONLY);
	cr_assert_gt(read(fd, text, sizeof(text)), 0);
	close(fd);
}

/* A thousand blocked readers: no more threads, stat and read of other files wait for none of them, and memory that stays small. */
Test(blocked, a_thousand_readers_cost_no_thread)
{
	long threads = mnt_proc(mnt.daemon, "Threads");

	start_readers();
	cr_expect_leq(mnt_proc(mnt.daemon, "Threads"), threads + 2, "%ld threads, then %ld", threads,
	    mnt_proc(mnt.daemon, "Threads"));
	for (int i = 0; i < LOOKS; i++)
		look(i);
	for (int i = 0; i < READERS; i++)
		cr_assert_eq(waitpid(readers[i], NULL, WNOHANG), 0, "reader %d does not wait any more", i);
#ifndef __SANITIZE_ADDRESS__
	cr_expect_lt(mnt_proc(mnt.daemon, "VmRSS"), 256 * 1024);
#endif
}

/* One message wakes all that are entitled to it: every wait of that group, and no other. */
Test(blocked, one_message_wakes_all_that_wait_for_it)
{
	start_readers();
	mnt_write(mnt_path("topics/t3/in"), "awake\n");
	for (int i = 3; i < READERS; i += TOPICS)
		mnt_join_ok(readers[i]);
	for (int i = 0; i < READERS; i++) {
		if (i % TOPICS != 3)
			cr_assert_eq(waitpid(readers[i], NULL, WNOHANG), 0, "reader %d of another group woke", i);
		else
			readers[i] = 0;
	}
	for (int t = 0; t < TOPICS; t++)
		mnt_write(mnt_path("topics/t%d/in", t), "awake\n");
	for (int i = 0; i < READERS; i++) {
		if (readers[i] > 0)
			mnt_join_ok(readers[i]);
		readers[i] = 0;
	}
}

/* kill -9 ends them all at once, no message goes to the dead, and unmounting is not held up. */
Test(blocked, all_can_be_killed_at_once)
{
	start_readers();
	int64_t start = mnt_now_us();
	kill_readers();
	for (int i = 0; i < READERS; i++) {
		mnt_join(readers[i]);
		readers[i] = 0;
	}
	cr_expect_lt(mnt_now_us() - start, 5000000, "it took %ld us", (long)(mnt_now_us() - start));
	for (int t = 0; t < TOPICS; t++) {
		mnt_write(mnt_path("topics/t%d/in", t), "alive\n");
		mnt_write(mnt_path("topics/t%d/groups/g/ack", t), "all\n");
		mnt_expect(mnt_path("topics/t%d/groups/g/next", t), "alive\n");
	}
}

/* SIGTERM to the daemon ends blocked readers with an error, and ends the daemon. */
Test(blocked, the_end_of_the_daemon_ends_readers)
{
	pid_t child = fork();

	if (child == 0) {
		char c;
		int fd = open(mnt_path("topics/t0/groups/g/wait"), O_RDONLY);
		_exit(read(fd, &c, 1) < 0 ? 0 : 1);
	}
	mnt_wait_blocked(child, SYS_read);
	kill(mnt.daemon, SIGTERM);
	mnt_join_ok(child);
}

/* A thousand channels and a thousand readers open in one process at the same time, all working. */
Test(blocked, a_thousand_open_files_of_each_kind)
{
	static int in[READERS], out[READERS];
	char text[64];
	struct rlimit many = { 3000, 3000 };

	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &many), 0);
	for (int i = 0; i < READERS; i++) {
		in[i] = mnt_open(mnt_path("topics/t%d/in", i % TOPICS), O_WRONLY | O_APPEND);
		out[i] = mnt_open(mnt_path("topics/t%d/groups/g/wait", i % TOPICS), O_RDONLY | O_NONBLOCK);
	}
	for (int i = 0; i < READERS; i++)
		cr_assert_eq(write(in[i], "m\n", 2), 2, "channel %d: %s", i, strerror(errno));
	for (int i = 0; i < READERS; i++)
		cr_assert_eq(read(out[i], text, sizeof(text)), 2, "reader %d: %s", i, strerror(errno));
	for (int i = 0; i < READERS; i++) {
		close(in[i]);
		close(out[i]);
	}
	cr_expect_eq(mnt_number(mnt_path("topics/t0/info"), "messages"), READERS / TOPICS);
}
