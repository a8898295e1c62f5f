/* poll, select and epoll wake when there is something to read, and only then (trap 9 of messaging file systems). */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/lib/mnt.h"

static void setup(void)
{
	mnt_setup();
	mnt_topic("t", 1);
	mnt_group("t", "g");
}

TestSuite(poll, .init = setup, .fini = mnt_release, .timeout = 60);

#define IN mnt_path("topics/t/in")
#define GROUP(name) mnt_path("topics/t/groups/g/%s", name)

static short poll_now(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	cr_assert_geq(poll(&p, 1, timeout_ms), 0);
	return p.revents;
}

/* stream and wait are readable when a message is there, and no longer when it was read. */
Test(poll, readable_only_when_there_is_something)
{
	static const char *const files[] = { "stream", "stream.json", "wait", "wait.raw" };
	char buf[4096];

	for (int i = 0; i < 4; i++) {
		int fd = mnt_open(GROUP(files[i]), O_RDONLY | O_NONBLOCK);
		cr_expect_eq(poll_now(fd, 0) & POLLIN, 0, "%s is readable when empty", files[i]);
		cr_expect_eq(poll_now(fd, 50) & POLLIN, 0, "%s becomes readable without a message", files[i]);
		mnt_write(IN, "m\n");
		cr_expect_neq(poll_now(fd, (int)MNT_SETTLE_MS) & POLLIN, 0, "%s is not readable", files[i]);
		cr_expect_gt(read(fd, buf, sizeof(buf)), 0);
		if (strncmp(files[i], "stream", 6) == 0)
			cr_expect_eq(poll_now(fd, 0) & POLLIN, 0, "%s is readable after its last message", files[i]);
		else
			cr_expect_neq(poll_now(fd, 0) & POLLIN, 0, "%s: its end can be read", files[i]);
		mnt_write(GROUP("ack"), "all\n");
		close(fd);
	}
}

/* A process asleep in poll, select or epoll_wait is woken by a message that another process produces. */
Test(poll, a_sleeping_process_is_woken)
{
	for (int how = 0; how < 3; how++) {
		pid_t child = fork();
		if (child == 0) {
			int fd = open(GROUP("stream"), O_RDONLY | O_NONBLOCK), n = -1;
			char c;
			if (how == 0) {
				n = poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, -1);
			} else if (how == 1) {
				fd_set set;
				FD_ZERO(&set);
				FD_SET(fd, &set);
				n = select(fd + 1, &set, NULL, NULL, NULL);
			} else {
				struct epoll_event event = { .events = EPOLLIN };
				int ep = epoll_create1(0);
				epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event);
				n = epoll_wait(ep, &event, 1, -1);
			}
			_exit(n == 1 && read(fd, &c, 1) == 1 && c == 'm' ? 0 : 1);
		}
		static const long calls[] = { SYS_poll, SYS_pselect6, SYS_epoll_wait };
		mnt_wait_blocked(child, calls[how]);
		mnt_write(IN, "m\n");
		mnt_join_ok(child);
		mnt_write(GROUP("ack"), "all\n");
	}
}

/* One epoll set over streams of many groups tells which of them have something. */
Test(poll, epoll_tells_which)
{
	enum { GROUPS = 20 };
	int ep = epoll_create1(EPOLL_CLOEXEC), fds[GROUPS];
	struct epoll_event events[GROUPS];
	char name[32], buf[64];

	for (int i = 0; i < GROUPS; i++) {
		snprintf(name, sizeof(name), "e%d", i);
		mnt_topic(name, 1);
		mnt_group(name, "g");
		fds[i] = mnt_open(mnt_path("topics/%s/groups/g/stream", name), O_RDONLY | O_NONBLOCK);
		struct epoll_event event = { .events = EPOLLIN, .data.u32 = (unsigned)i };
		cr_assert_eq(epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &event), 0);
	}
	cr_expect_eq(epoll_wait(ep, events, GROUPS, 0), 0);
	for (int round = 0; round < 3; round++) {
		mnt_write(mnt_path("topics/e7/in"), "seven\n");
		cr_expect_eq(epoll_wait(ep, events, GROUPS, (int)MNT_SETTLE_MS), 1);
		cr_expect_eq(events[0].data.u32, 7);
		cr_expect_eq(read(fds[7], buf, sizeof(buf)), 6);
		cr_expect_eq(read(fds[7], buf, sizeof(buf)), -1);
		cr_expect_eq(errno, EAGAIN);
		cr_expect_eq(epoll_wait(ep, events, GROUPS, 0), 0);
	}
	for (int i = 0; i < GROUPS; i++)
		close(fds[i]);
}

/* Edge-triggered epoll reports each message that comes after the last was read. */
Test(poll, edges_are_not_missed)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), fd = mnt_open(GROUP("stream"), O_RDONLY | O_NONBLOCK);
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	char buf[64];

	cr_assert_eq(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event), 0);
	for (int i = 0; i < 100; i++) {
		mnt_write(IN, "edge\n");
		cr_assert_eq(epoll_wait(ep, &event, 1, (int)MNT_SETTLE_MS), 1, "message %d", i);
		while (read(fd, buf, sizeof(buf)) > 0)
			;
		cr_assert_eq(errno, EAGAIN);
	}
	close(fd);
}

/* Channels can always be written; what ends can always be read. */
Test(poll, channels_and_ends_are_ready)
{
	struct pollfd p[3] = {
		{ .fd = mnt_open(IN, O_WRONLY | O_APPEND), .events = POLLOUT },
		{ .fd = mnt_open(GROUP("next"), O_RDONLY), .events = POLLIN },
		{ .fd = mnt_open(mnt_path("topics/t/0/log"), O_RDONLY), .events = POLLIN },
	};

	cr_expect_eq(poll(p, 3, 0), 3);
	for (int i = 0; i < 3; i++)
		close(p[i].fd);
}

/* status/events is readable when something has happened, such as an error. */
Test(poll, events_are_polled)
{
	int fd = mnt_open(mnt_path("status/events"), O_RDONLY | O_NONBLOCK);
	char buf[65536];

	while (read(fd, buf, sizeof(buf)) > 0)
		;
	cr_assert_eq(errno, EAGAIN);
	cr_expect_eq(poll_now(fd, 0) & POLLIN, 0);
	cr_assert_eq(mkdir(mnt_path("topics/junk~"), 0777), -1);
	cr_expect_neq(poll_now(fd, (int)MNT_SETTLE_MS) & POLLIN, 0);
	ssize_t n = read(fd, buf, sizeof(buf) - 1);
	cr_assert_gt(n, 0);
	buf[n] = '\0';
	cr_expect_not_null(strstr(buf, "junk~"), "%s", buf);
	close(fd);
}
