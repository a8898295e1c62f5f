/*
 * What /proc says of processes, and that a signal which comes while it is opened changes nothing of that: else a message that was
 * given to a killed reader would be taken for read.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/open.h"
#include "fs/process.h"

static unsigned interrupted;

/* Every other open is interrupted: the linker puts this in the place of open(2) (Makefile, --wrap). */
int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
	static bool second;

	second = !second;
	if (!second)
		return __real_open64(path, flags, 0600);
	interrupted++;
	errno = EINTR;
	return -1;
}

/* A child that has ended, by a signal or not, and is still there. */
static pid_t ended(bool killed)
{
	pid_t child = fork();
	siginfo_t info;

	if (child == 0) {
		if (killed)
			raise(SIGKILL);
		_exit(0);
	}
	cr_assert_eq(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	return child;
}

Test(process, who_was_killed)
{
	for (unsigned killed = 0; killed < 2; killed++) {
		pid_t child = ended(killed);

		cr_expect_eq(process_is_killed((uint32_t)child), killed);
		cr_expect(process_is_ending((uint32_t)child));
		waitpid(child, NULL, 0);
		cr_expect_not(process_is_killed((uint32_t)child));
	}
	cr_expect_not(process_is_killed((uint32_t)getpid()));
	cr_expect_not(process_is_ending((uint32_t)getpid()));
	cr_expect_geq(interrupted, 8);
}

/* One that is pending and not blocked: what is blocked its reader does not want to know. */
Test(process, who_has_a_signal)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	raise(SIGUSR1);
	cr_expect_not(process_has_signal((uint32_t)getpid()));
	cr_expect_eq(interrupted, 1);
}

Test(process, who_is_the_same)
{
	pid_t child = ended(false);

	cr_expect(process_is_same((uint32_t)getpid(), (uint32_t)getpid()));
	cr_expect_not(process_is_same((uint32_t)getpid(), (uint32_t)child));
	waitpid(child, NULL, 0);
	cr_expect(process_is_same((uint32_t)getpid(), (uint32_t)child)); /* it may have been */
	cr_expect_not(process_is_same((uint32_t)child, (uint32_t)getpid()));
	cr_expect_geq(interrupted, 3);
}

/* A program of which much less was written than that has not written it; one that began later, neither. */
Test(process, who_may_have_written)
{
	uint32_t pid = (uint32_t)getpid();

	cr_expect(process_may_have_written(pid, 0, INT64_MAX / 2));
	cr_expect_not(process_may_have_written(pid, UINT64_MAX, INT64_MAX / 2));
	cr_expect_not(process_may_have_written(pid, 0, 1000));
	cr_expect_geq(interrupted, 8);
}

Test(process, other_errors_are_told)
{
	int fd;

	cr_expect_eq(open_file("/nothing/there"), -ENOENT);
	fd = open_file("/proc/self/stat");
	cr_expect_geq(fd, 0);
	cr_expect_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
}
