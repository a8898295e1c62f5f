#include "tests/lib/mnt.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct mnt mnt;

int64_t mnt_now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Between two looks at something that no event tells of, such as a line of /proc. */
static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000 }, NULL);
}

/* ------------------------------------------------------------------------------- mounting and unmounting */

static const char *program(void)
{
	static char path[256];
	const char *build = getenv("MQFS_BUILD"), *given = getenv("MQFS_PROGRAM");

	if (given != NULL)
		return given;
	snprintf(path, sizeof(path), "%s/mqfs", build != NULL ? build : "build");
	return path;
}

/* Whether the daemon of the store lives: it holds a lock on the store's lock file, which says its pid. */
static pid_t daemon_of(const char *store)
{
	char path[192], text[32] = "";
	pid_t pid = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/lock", store);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (flock(fd, LOCK_EX | LOCK_NB) != 0 && read(fd, text, sizeof(text) - 1) > 0)
		pid = atoi(text);
	close(fd);
	return pid;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

static void remove_all(void)
{
	nftw(mnt.top, remove_one, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* True: it has ended. */
static bool wait_for_end(pid_t pid, unsigned ms)
{
	int fd = pidfd_open(pid, 0);
	struct pollfd ended = { .fd = fd, .events = POLLIN };

	if (fd < 0)
		return true;
	int n = poll(&ended, 1, (int)ms);
	close(fd);
	return n == 1;
}

/* Stays behind, out of reach of whatever ends the test, and cleans up after it. */
static void start_guard(void)
{
	pid_t test = getpid();

	if (fork() != 0)
		return;
	setsid();
	int fd = pidfd_open(test, 0);
	struct pollfd ended = { .fd = dup2(fd, 0), .events = POLLIN };
	close_range(1, ~0u, 0);
	while (poll(&ended, 1, -1) < 0 && errno == EINTR)
		;
	if (access(mnt.top, F_OK) != 0)
		_exit(0);
	pid_t left = daemon_of(mnt.store);
	umount2(mnt.dir, MNT_DETACH);
	if (left > 0 && !wait_for_end(left, 5000)) {
		kill(left, SIGKILL);
		wait_for_end(left, 5000);
	}
	remove_all();
	_exit(0);
}

static const char *obstacle(void)
{
	if (geteuid() != 0)
		return "not root";
	if (access("/dev/fuse", R_OK | W_OK) != 0)
		return "no /dev/fuse";
	if (access(program(), X_OK) != 0)
		return "no program to test ($MQFS_PROGRAM or $MQFS_BUILD/mqfs)";
	return NULL;
}

void mnt_init(void)
{
	const char *tmp = getenv("TMPDIR"), *why = obstacle();

	if (why != NULL) {
		fprintf(stderr, "SKIP: %s\n", why);
		cr_skip_test("cannot mount: %s", why);
	}
	snprintf(mnt.top, sizeof(mnt.top), "%.100s/mount-XXXXXX", tmp != NULL ? tmp : "/tmp");
	cr_assert_not_null(mkdtemp(mnt.top));
	chmod(mnt.top, 0755);
	snprintf(mnt.store, sizeof(mnt.store), "%s/store", mnt.top);
	snprintf(mnt.dir, sizeof(mnt.dir), "%s/mq", mnt.top);
	cr_assert_eq(mkdir(mnt.dir, 0755), 0);
	start_guard();
}

bool mnt_option(const char *option)
{
	const char *more = getenv("MQFS_TEST_OPTIONS");
	return more != NULL && strstr(more, option) != NULL;
}

int mnt_run(const char *options)
{
	char path[192];
	int status;

	snprintf(path, sizeof(path), "%s/said", mnt.top);
	pid_t child = fork();
	cr_assert_geq(child, 0);
	if (child == 0) {
		int out = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
		dup2(out, 1);
		dup2(out, 2);
		dup2(open("/dev/null", O_RDONLY), 0);
		close_range(3, ~0u, 0);
		const char *more = getenv("MQFS_TEST_OPTIONS");
		if (more != NULL && *more != '\0')
			execl(program(), "mqfs", "-o", more, "-o", options != NULL ? options : "rw", mnt.store, mnt.dir,
			    (char *)NULL);
		else if (options != NULL)
			execl(program(), "mqfs", "-o", options, mnt.store, mnt.dir, (char *)NULL);
		else
			execl(program(), "mqfs", mnt.store, mnt.dir, (char *)NULL);
		_exit(127);
	}
	status = mnt_join(child);
	int out = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = out >= 0 ? read(out, mnt.said, sizeof(mnt.said) - 1) : 0;
	mnt.said[n > 0 ? n : 0] = '\0';
	close(out);
	mnt.daemon = daemon_of(mnt.store);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void mnt_start(const char *options)
{
	int status = mnt_run(options);

	cr_assert_eq(status, 0, "mqfs exited with %d: %s", status, mnt.said);
	cr_assert_gt(mnt.daemon, 0, "the store's lock names no daemon");
}

void mnt_stop(void)
{
	int64_t until = mnt_now_us() + 2000000;

	/* A process that was killed a moment ago may still be letting go of its files. */
	while (umount2(mnt.dir, 0) != 0 && errno == EBUSY && mnt_now_us() < until)
		pause_ms(1);
	umount2(mnt.dir, MNT_DETACH);
	if (mnt.daemon > 0 && !wait_for_end(mnt.daemon, MNT_SETTLE_MS)) {
		kill(mnt.daemon, SIGKILL);
		wait_for_end(mnt.daemon, MNT_SETTLE_MS);
		mnt.daemon = 0;
		cr_assert_fail("the daemon did not end after umount");
	}
	mnt.daemon = 0;
}

void mnt_kill(void)
{
	kill(mnt.daemon, SIGKILL);
	cr_assert(wait_for_end(mnt.daemon, MNT_SETTLE_MS));
	mnt.daemon = 0;
	umount2(mnt.dir, MNT_DETACH);
}

void mnt_setup(void)
{
	mnt_init();
	mnt_start(NULL);
}

void mnt_release(void)
{
	if (mnt.top[0] == '\0' || access(mnt.top, F_OK) != 0)
		return;
	mnt_stop();
	remove_all();
}

/* ------------------------------------------------------------------------------------------ files */

const char *mnt_path(const char *format, ...)
{
	static char paths[16][4096 + 512];
	static unsigned turn;
	char *path = paths[turn++ % 16];
	int n = snprintf(path, sizeof(paths[0]), "%s/", mnt.dir);
	va_list args;

	va_start(args, format);
	vsnprintf(path + n, sizeof(paths[0]) - (size_t)n, format, args);
	va_end(args);
	return path;
}

void mnt_mkdir(const char *format, ...)
{
	char name[512];
	va_list args;

	va_start(args, format);
	vsnprintf(name, sizeof(name), format, args);
	va_end(args);
	cr_assert_eq(mkdir(mnt_path("%s", name), 0777), 0, "mkdir %s: %s", name, strerror(errno));
}

void mnt_topic(const char *name, unsigned partitions)
{
	mnt_mkdir("topics/%s", name);
	for (unsigned p = 1; p < partitions; p++)
		mnt_mkdir("topics/%s/%u", name, p);
}

void mnt_group(const char *topic, const char *group)
{
	mnt_mkdir("topics/%s/groups/%s", topic, group);
}

int mnt_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0666);

	cr_assert_geq(fd, 0, "open %s: %s", path, strerror(errno));
	return fd;
}

int mnt_write_err(const char *path, int flags, const char *text, size_t len)
{
	int fd = open(path, flags | O_CLOEXEC, 0666), err = 0;

	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, text, len);
	if (n != (ssize_t)len)
		err = n < 0 ? -errno : -EIO;
	if (close(fd) != 0 && err == 0)
		err = -errno;
	return err;
}

void mnt_write(const char *path, const char *text)
{
	int err = mnt_write_err(path, O_WRONLY | O_APPEND, text, strlen(text));

	cr_assert_eq(err, 0, "writing %s: %s", path, strerror(-err));
}

static int read_all(const char *path, char **ret_text, size_t *ret_len)
{
	size_t len = 0, room = 1 << 16;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text;
	ssize_t n;

	if (fd < 0)
		return -errno;
	text = malloc(room);
	while ((n = read(fd, text + len, room - len - 1)) > 0) {
		len += (size_t)n;
		if (room - len < room / 2)
			text = realloc(text, room *= 2);
	}
	int err = n < 0 ? -errno : 0;
	close(fd);
	if (err != 0) {
		free(text);
		return err;
	}
	text[len] = '\0';
	*ret_text = text;
	*ret_len = len;
	return 0;
}

char *mnt_read(const char *path, size_t *ret_len)
{
	char *text = NULL;
	size_t len = 0;
	int err = read_all(path, &text, &len);

	cr_assert_eq(err, 0, "reading %s: %s", path, strerror(-err));
	if (ret_len != NULL)
		*ret_len = len;
	return text;
}

int mnt_read_err(const char *path)
{
	char *text;
	size_t len;
	int err = read_all(path, &text, &len);

	if (err == 0)
		free(text);
	return err;
}

void mnt_expect(const char *path, const char *text)
{
	char *is = mnt_read(path, NULL);

	cr_assert_str_eq(is, text, "%s holds \"%.300s\", not \"%.300s\"", path, is, text);
	free(is);
}

void mnt_expect_told(const char *errno_name, const char *word)
{
	size_t len;
	char *text = mnt_read(mnt_path("status/errors"), &len);

	if (len > 0 && text[len - 1] == '\n')
		text[len - 1] = '\0';
	char *last = strrchr(text, '\n');
	last = last != NULL ? last + 1 : text;
	cr_assert(strstr(last, errno_name) != NULL && strstr(last, word) != NULL,
	    "the last error is \"%s\", without %s or \"%s\"", last, errno_name, word);
	free(text);
}

long long mnt_number(const char *path, const char *name)
{
	char *text = mnt_read(path, NULL);
	size_t len = strlen(name);
	long long value = -1;

	for (char *line = text; line != NULL; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, len) == 0 && line[len] == ' ')
			value = atoll(line + len);
	}
	free(text);
	return value;
}

/* -------------------------------------------------------------------------------------- processes */

void mnt_wait_blocked(pid_t tid, long syscall_number)
{
	int64_t until = mnt_now_us() + (int64_t)MNT_SETTLE_MS * 1000;
	char path[64], text[64];

	snprintf(path, sizeof(path), "/proc/%d/syscall", tid);
	do {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
		close(fd);
		text[n > 0 ? n : 0] = '\0';
		char *end = text;
		if (strtol(text, &end, 10) == syscall_number && end != text && *end == ' ')
			return;
		pause_ms(1);
	} while (mnt_now_us() < until);
	cr_assert_fail("process %d does not wait in system call %ld but: %s", tid, syscall_number, text);
}

int mnt_join(pid_t child)
{
	int status = 0;

	if (!wait_for_end(child, MNT_SETTLE_MS)) {
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
		cr_assert_fail("child %d did not end", child);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	return status;
}

void mnt_join_ok(pid_t child)
{
	int status = mnt_join(child);

	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child ended with status %#x", (unsigned)status);
}

long mnt_proc(pid_t pid, const char *field)
{
	char path[64], line[256];
	size_t len = strlen(field);
	long value = -1;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	FILE *f = fopen(path, "re");
	cr_assert_not_null(f, "process %d is gone", pid);
	while (fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, field, len) == 0 && line[len] == ':')
			value = atol(line + len + 1);
	}
	fclose(f);
	return value;
}
