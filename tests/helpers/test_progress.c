/*
 * How far fsck.mqfs -C says it is: a line every ten seconds, a bar ten times a second on a terminal, nothing where none is wanted.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine/clock.h"
#include "mount-helpers/progress.h"

#define MIB ((uint64_t)1 << 20)

static int64_t now_ms;

static int64_t now(void)
{
	return now_ms;
}

static void set_up(void)
{
	static const struct clock_ops clock = { .wall_ms = now, .mono_ms = now };

	clock_now = &clock;
	now_ms = 5000;
}

TestSuite(progress, .init = set_up);

/* What came since the last look. */
static const char *said(int fd)
{
	static char text[1000];
	ssize_t got = read(fd, text, sizeof(text) - 1);

	text[got > 0 ? got : 0] = '\0';
	return text;
}

Test(progress, lines)
{
	struct progress progress;
	int fds[2];

	cr_assert_eq(pipe2(fds, O_NONBLOCK), 0);
	progress_start(&progress, "store", 200 * MIB, fds[1]);
	now_ms += 9999;
	progress_add(&progress, 10 * MIB);
	cr_assert_str_eq(said(fds[0]), "");
	now_ms++;
	progress_add(&progress, 10 * MIB);
	cr_assert_str_eq(said(fds[0]), "store: 10 %, 20 of 200 MiB\n");
	now_ms += 9999;
	progress_add(&progress, 10 * MIB);
	cr_assert_str_eq(said(fds[0]), "");
	now_ms += 5000;
	progress_add(&progress, 200 * MIB); /* a log that has grown shorter on disk than its list of batches says */
	cr_assert_str_eq(said(fds[0]), "store: 100 %, 230 of 200 MiB\n");
	progress_end(&progress);
	now_ms += 20000;
	progress_add(&progress, MIB);
	cr_assert_str_eq(said(fds[0]), "");
	close(fds[0]);
	close(fds[1]);
}

/* A terminal; what is written to it is read from ret_master. */
static int open_terminal(int *ret_master)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK), fd;

	cr_assert(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	fd = open(ptsname(master), O_RDWR | O_NOCTTY);
	cr_assert_geq(fd, 0);
	*ret_master = master;
	return fd;
}

/* Never two lines, or to write it over would not do; and the last column stays free. */
Test(progress, narrow)
{
	static const struct {
		unsigned short columns;
		const char *start;
	} widths[] = {
		{ 0, "\rstore |                                        |   0 %" }, /* not known */
		{ 56, "\rstore |                                        |   0 %" },
		{ 55, "\rstore |                                        |   0 %" },
		{ 54, "\rstore |                                       |   0 %" },
		{ 25, "\rstore |          |   0 %" },
		{ 24, "\r|               |   0 %" },
		{ 19, "\r|          |   0 %" },
		{ 18, "\r  0 %" },
		{ 1, "\r  0 %" },
	};
	int master, fd = open_terminal(&master);

	for (size_t i = 0; i < sizeof(widths) / sizeof(widths[0]); i++) {
		struct winsize size = { .ws_row = 24, .ws_col = widths[i].columns };
		struct progress progress;

		cr_assert_eq(ioctl(fd, TIOCSWINSZ, &size), 0);
		progress_start(&progress, "store", 4 * MIB, fd);
		cr_assert_str_eq(said(master), widths[i].start);
		progress_end(&progress);
		cr_assert_str_eq(said(master), "\r\033[K");
	}
	close(fd);
	close(master);
}

/* What else is written there takes it away, till the next time. */
Test(progress, bar)
{
	struct progress progress;
	int master, fd = open_terminal(&master);

	progress_start(&progress, "store", 4 * MIB, fd);
	cr_assert_str_eq(said(master), "\rstore |                                        |   0 %");
	now_ms += 99;
	progress_add(&progress, MIB);
	cr_assert_str_eq(said(master), "");
	now_ms++;
	progress_add(&progress, MIB);
	cr_assert_str_eq(said(master), "\rstore |====================                    |  50 %");
	progress_hide(&progress);
	cr_assert_str_eq(said(master), "\r\033[K");
	now_ms += 100;
	progress_add(&progress, 0);
	cr_assert_str_eq(said(master), "\rstore |====================                    |  50 %");
	progress_end(&progress);
	cr_assert_str_eq(said(master), "\r\033[K");
	close(fd);
	close(master);
}

Test(progress, none)
{
	struct progress progress;

	progress_start(&progress, "store", MIB, -1);
	now_ms += 60000;
	progress_add(&progress, MIB);
	progress_end(&progress);
	cr_assert_eq(progress.fd, -1);
}
