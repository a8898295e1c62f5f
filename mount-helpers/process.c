#include "mount-helpers/process.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mount-helpers/say.h"

#define HOLDERS_SHOWN 10

extern char **environ;

static int signal_fd = -1; /* the program has one thread */

static int pidfd_of(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : fd;
}

static void caught_signals(sigset_t *ret_set)
{
	sigemptyset(ret_set);
	sigaddset(ret_set, SIGINT);
	sigaddset(ret_set, SIGTERM);
	sigaddset(ret_set, SIGHUP);
}

int process_catch_signals(void)
{
	sigset_t set;

	caught_signals(&set);
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		return -errno;
	signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return signal_fd < 0 ? -errno : 0;
}

int process_wait(int pidfd, int timeout_ms)
{
	struct pollfd fds[2] = { { .fd = pidfd, .events = POLLIN }, { .fd = signal_fd, .events = POLLIN } };
	int count;

	do
		count = poll(fds, 2, timeout_ms);
	while (count < 0 && errno == EINTR);
	if (count < 0)
		return -errno;
	if (fds[0].revents != 0)
		return 0;
	return count == 0 ? -ETIMEDOUT : -EINTR;
}

/* The command gets a process group of its own, so that all of it can be ended, and its signals unblocked. */
static int spawn(char *const argv[], pid_t *ret_pid)
{
	posix_spawnattr_t attributes;
	sigset_t none;
	int error;

	sigemptyset(&none);
	error = posix_spawnattr_init(&attributes);
	if (error != 0)
		return -error;
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setpgroup(&attributes, 0);
	error = posix_spawnp(ret_pid, argv[0], NULL, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	return -error;
}

int process_run(char *const argv[], int timeout_ms, int *ret_status)
{
	int status, pidfd, wait_status;
	pid_t pid;

	status = spawn(argv, &pid);
	if (status != 0)
		return status;
	pidfd = pidfd_of(pid);
	status = pidfd < 0 ? pidfd : process_wait(pidfd, timeout_ms);
	if (pidfd >= 0)
		close(pidfd);
	if (status != 0) {
		kill(-pid, SIGTERM);
		return status;
	}
	if (waitpid(pid, &wait_status, 0) < 0)
		return -errno;
	*ret_status = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
	return 0;
}

/* What a link below /proc/PID/ leads to. It is only read, never followed: what it leads to may hang. */
static bool link_read(const char *pid, const char *name, char ret_target[PATH_MAX])
{
	char path[PATH_MAX];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/%s/%s", pid, name);
	length = readlink(path, ret_target, PATH_MAX - 1);
	if (length < 0)
		return false;
	ret_target[length] = '\0';
	return true;
}

/* Looks for a descriptor of the process whose file is at path (exact) or below it. */
static bool has_open(const char *pid, const char *path, bool exact, char ret_target[PATH_MAX])
{
	size_t length = strlen(path);
	struct dirent *entry;
	bool found = false;
	char name[64];
	DIR *dir;

	snprintf(name, sizeof(name), "/proc/%s/fd", pid);
	dir = opendir(name);
	if (!dir)
		return false;
	while (!found && (entry = readdir(dir)) != NULL) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		snprintf(name, sizeof(name), "fd/%.20s", entry->d_name);
		if (!link_read(pid, name, ret_target) || strncmp(ret_target, path, length) != 0)
			continue;
		found = ret_target[length] == '\0' || (!exact && ret_target[length] == '/');
	}
	closedir(dir);
	return found;
}

static int read_pid(const char *store, char ret_path[PATH_MAX], char ret_pid[16])
{
	char path[PATH_MAX];
	ssize_t length;
	int fd;

	if (snprintf(path, sizeof(path), "%s/lock", store) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	if (!realpath(path, ret_path))
		return errno == ENOENT ? -ESRCH : -errno;
	fd = open(ret_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	length = read(fd, ret_pid, 15);
	close(fd);
	if (length < 0)
		return -EIO;
	ret_pid[length] = '\0';
	ret_pid[strspn(ret_pid, "0123456789")] = '\0';
	return ret_pid[0] == '\0' ? -ESRCH : 0;
}

int process_of_store(const char *store, pid_t *ret_pid, int *ret_pidfd)
{
	char path[PATH_MAX], text[16], target[PATH_MAX];
	int status, pidfd;
	pid_t pid;

	status = read_pid(store, path, text);
	if (status != 0)
		return status;
	pid = (pid_t)strtol(text, NULL, 10);
	pidfd = pid > 0 ? pidfd_of(pid) : -ESRCH;
	if (pidfd < 0)
		return -ESRCH;
	/* The number may be another's by now; the pidfd, opened before this look, is surely of the process looked at. */
	if (!has_open(text, path, true, target)) {
		close(pidfd);
		return -ESRCH;
	}
	*ret_pid = pid;
	*ret_pidfd = pidfd;
	return 0;
}

static bool holds(const char *pid, const char *point, char ret_what[PATH_MAX])
{
	static const char *const links[] = { "cwd", "root", "exe" };
	size_t length = strlen(point);

	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		if (link_read(pid, links[i], ret_what) && strncmp(ret_what, point, length) == 0 &&
		    (ret_what[length] == '\0' || ret_what[length] == '/'))
			return true;
	return has_open(pid, point, false, ret_what);
}

static void name_of(const char *pid, char *ret_name, size_t size)
{
	char path[64];
	FILE *file;

	snprintf(ret_name, size, "?");
	snprintf(path, sizeof(path), "/proc/%.16s/comm", pid);
	file = fopen(path, "re");
	if (!file)
		return;
	if (fgets(ret_name, (int)size, file))
		ret_name[strcspn(ret_name, "\n")] = '\0';
	fclose(file);
}

void process_print_holders(const char *point)
{
	char what[PATH_MAX], name[32];
	struct dirent *entry;
	DIR *dir = opendir("/proc");
	int count = 0;

	if (!dir)
		return;
	while ((entry = readdir(dir)) != NULL) {
		if (!isdigit((unsigned char)entry->d_name[0]) || !holds(entry->d_name, point, what))
			continue;
		if (++count > HOLDERS_SHOWN)
			continue;
		name_of(entry->d_name, name, sizeof(name));
		say("in use by process %s (%s): %s", entry->d_name, name, what);
	}
	closedir(dir);
	if (count > HOLDERS_SHOWN)
		say("and by %d more", count - HOLDERS_SHOWN);
}
