/* kill -9 of the daemon: what write and ack had answered is there after the next mount, and nothing else is. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/mnt.h"

TestSuite(crash, .init = mnt_setup, .fini = mnt_release, .timeout = 120);

enum { WRITERS = 4 };

/* Between this process and the writers that it starts. */
struct score {
	atomic_int accepted[WRITERS]; /* messages whose write has returned */
	atomic_int total;
	atomic_int acked; /* one past the highest offset whose ack has returned */
};

static struct score *new_score(void)
{
	return mmap(NULL, sizeof(struct score), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* Writes numbered lines until the daemon is gone. Each writer goes about it in its own way. */
static void write_until_dead(struct score *score, int w)
{
	static const char *const names[] = { "in", "in", "in.json", "put/f" };
	char line[64];

	for (int n = 0;; n++) {
		int flags = w == 0 ? O_WRONLY | O_APPEND : w == 1 ? O_WRONLY | O_SYNC : O_WRONLY | O_CREAT;
		int fd = open(mnt_path("topics/t%d/%s", w, names[w]), flags, 0666);
		int len = snprintf(line, sizeof(line),
		    w == 2   ? "{\"payload\":\"w%d %d\"}\n"
		    : w == 3 ? "w%d %d"
			     : "w%d %d\n",
		    w, n);
		if (fd < 0 || write(fd, line, (size_t)len) != len || (w == 3 && close(fd) != 0))
			_exit(0);
		atomic_fetch_add(&score->accepted[w], 1);
		atomic_fetch_add(&score->total, 1);
		if (w != 3)
			close(fd);
	}
}

/* Reads and acknowledges one message after the other until the daemon is gone. */
static void ack_until_dead(struct score *score)
{
	char text[64];

	for (int offset = 0;; offset++) {
		int fd = open(mnt_path("topics/t0/groups/g/wait"), O_RDONLY);
		if (fd < 0 || read(fd, text, sizeof(text)) <= 0)
			_exit(0);
		close(fd);
		int len = snprintf(text, sizeof(text), "0:%d\n", offset);
		if (mnt_write_err(mnt_path("topics/t0/groups/g/ack"), O_WRONLY, text, (size_t)len) != 0)
			_exit(0);
		atomic_store(&score->acked, offset + 1);
	}
}

/*
 * The log of writer w holds its lines 0, 1, 2, ... without gaps: all that were accepted, and at most one more. The kernel
 * tells of the last close after close has returned, so of the files in put/ the last may have come too late to be seen.
 */
static void expect_writer(int w, int accepted)
{
	char *log = mnt_read(mnt_path("topics/t%d/0/log", w), NULL), *line = log, expect[64];
	int n = 0, unseen = w == 3;

	for (; *line != '\0'; n++) {
		size_t len = strcspn(line, "\n");
		snprintf(expect, sizeof(expect), "w%d %d", w, n);
		cr_assert(strlen(expect) == len && memcmp(expect, line, len) == 0, "writer %d, message %d: %.*s", w, n,
		    (int)len, line);
		line += len + 1;
	}
	cr_expect(n >= accepted - unseen && n <= accepted + 1, "writer %d: %d accepted, %d there", w, accepted, n);
	free(log);
}

/* What the slowest writer has had accepted. */
static int least_accepted(struct score *score)
{
	int least = atomic_load(&score->accepted[0]);

	for (int w = 1; w < WRITERS; w++) {
		int accepted = atomic_load(&score->accepted[w]);
		least = accepted < least ? accepted : least;
	}
	return least;
}

static void crash_after(int messages)
{
	struct score *score = new_score();
	pid_t children[WRITERS + 1];
	char name[16];

	for (int w = 0; w < WRITERS; w++) {
		snprintf(name, sizeof(name), "t%d", w);
		mnt_topic(name, 1);
	}
	mnt_group("t0", "g");
	for (int i = 0; i <= WRITERS; i++) {
		children[i] = fork();
		if (children[i] == 0 && i < WRITERS)
			write_until_dead(score, i);
		if (children[i] == 0)
			ack_until_dead(score);
	}
	int64_t until = mnt_now_us() + (int64_t)MNT_SETTLE_MS * 1000;
	while ((atomic_load(&score->total) < messages || (messages > 1000 && least_accepted(score) <= 10)) &&
	       mnt_now_us() < until)
		usleep(200);
	mnt_kill();
	for (int i = 0; i <= WRITERS; i++)
		mnt_join_ok(children[i]);
	cr_assert_geq(atomic_load(&score->total), messages);
	for (int w = 0; w < WRITERS && messages > 1000; w++)
		cr_expect_gt(atomic_load(&score->accepted[w]), 10, "writer %d hardly wrote", w);
	mnt_start(NULL);
	for (int w = 0; w < WRITERS; w++)
		expect_writer(w, atomic_load(&score->accepted[w]));
	int stored = (int)mnt_number(mnt_path("topics/t0/groups/g/offset"), "0"), acked = atomic_load(&score->acked);
	cr_expect(stored == acked || stored == acked + 1, "%d acked, %d stored", acked, stored);
	mnt_write(mnt_path("topics/t0/in"), "after\n");
	char *log = mnt_read(mnt_path("topics/t0/0/log"), NULL);
	cr_expect_str_eq(log + strlen(log) - 6, "after\n");
	free(log);
}

/* Killed with hardly anything written. */
Test(crash, early)
{
	crash_after(10);
}

/* Killed under load. */
Test(crash, under_load)
{
	crash_after(8000);
}

/* Ten times in a row, with recovery of what recovery left: nothing is lost on the way, and offsets only grow. */
Test(crash, again_and_again)
{
	char expect[4096] = "", line[64];

	mnt_topic("t", 1);
	mnt_group("t", "g");
	for (int i = 0; i < 10; i++) {
		snprintf(line, sizeof(line), "round %d\n", i);
		strcat(expect, line);
		mnt_write(mnt_path("topics/t/in"), line);
		mnt_expect(mnt_path("topics/t/groups/g/next"), line);
		mnt_write(mnt_path("topics/t/groups/g/ack"), "all\n");
		int half = mnt_open(mnt_path("topics/t/in"), O_WRONLY | O_APPEND);
		cr_assert_eq(write(half, "half", 4), 4);
		mnt_kill();
		close(half);
		mnt_start(NULL);
		mnt_expect(mnt_path("topics/t/0/log"), expect);
		snprintf(line, sizeof(line), "0 %d\n", i + 1);
		mnt_expect(mnt_path("topics/t/groups/g/offset"), line);
		mnt_expect(mnt_path("topics/t/groups/g/next"), "");
	}
}

/* A blocked reader and an open writer of a dead daemon get an error at once; a read of the dead mount does not hang. */
Test(crash, nobody_hangs_on_a_dead_daemon)
{
	mnt_topic("t", 1);
	mnt_group("t", "g");
	pid_t child = fork();
	if (child == 0) {
		char c;
		int fd = open(mnt_path("topics/t/groups/g/wait"), O_RDONLY);
		_exit(read(fd, &c, 1) < 0 ? 0 : 1);
	}
	mnt_wait_blocked(child, SYS_read);
	int fd = mnt_open(mnt_path("topics/t/in"), O_WRONLY); /* with O_APPEND it lingers, and goes on */
	kill(mnt.daemon, SIGKILL);
	mnt_join_ok(child);
	cr_expect_eq(write(fd, "x\n", 2), -1);
	close(fd);
}

/* Settings, owners, names and deletions that were answered survive as well. */
Test(crash, what_is_not_a_message_survives_too)
{
	struct stat st;

	mnt_topic("kept", 3);
	mnt_topic("renamed", 1);
	mnt_topic("deleted", 1);
	mnt_group("kept", "g");
	mnt_write(mnt_path("topics/kept/config/retention.ms"), "12345\n");
	mnt_write(mnt_path("config/topics/linger.ms"), "7\n");
	cr_assert_eq(chmod(mnt_path("topics/kept/in"), 0620), 0);
	cr_assert_eq(chown(mnt_path("topics/kept"), 1234, 2345), 0);
	cr_assert_eq(rename(mnt_path("topics/renamed"), mnt_path("topics/name")), 0);
	cr_assert_eq(rmdir(mnt_path("topics/deleted")), 0);
	mnt_kill();
	mnt_start(NULL);
	mnt_expect(mnt_path("topics/kept/config/retention.ms"), "12345\n");
	mnt_expect(mnt_path("topics/kept/config/partitions"), "3\n");
	mnt_expect(mnt_path("config/topics/linger.ms"), "7\n");
	cr_assert_eq(stat(mnt_path("topics/kept/in"), &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0620);
	cr_assert_eq(stat(mnt_path("topics/kept"), &st), 0);
	cr_expect_eq(st.st_uid, 1234);
	cr_expect_eq(st.st_gid, 2345);
	cr_expect_eq(access(mnt_path("topics/name/in"), F_OK), 0);
	cr_expect_eq(access(mnt_path("topics/renamed"), F_OK), -1);
	cr_expect_eq(access(mnt_path("topics/deleted"), F_OK), -1);
	cr_expect_eq(access(mnt_path("topics/kept/groups/g/ack"), F_OK), 0);
}

/* What is being written into put/ when the daemon dies is not published, and leaves nothing in the way. */
Test(crash, unfinished_files_in_put_are_gone)
{
	mnt_topic("t", 1);
	int fd = mnt_open(mnt_path("topics/t/put/half"), O_WRONLY | O_CREAT);
	cr_assert_eq(write(fd, "half", 4), 4);
	int part = mnt_open(mnt_path("topics/t/put/.waiting"), O_WRONLY | O_CREAT);
	cr_assert_eq(write(part, "part", 4), 4);
	close(part);
	mnt_kill();
	close(fd);
	mnt_start(NULL);
	mnt_expect(mnt_path("topics/t/0/log"), "");
	cr_expect_eq(access(mnt_path("topics/t/put/half"), F_OK), -1);
	cr_expect_eq(access(mnt_path("topics/t/put/.waiting"), F_OK), -1);
	cr_assert_eq(mnt_write_err(mnt_path("topics/t/put/half"), O_WRONLY | O_CREAT, "whole", 5), 0);
	mnt_expect(mnt_path("topics/t/0/log"), "whole\n");
}
