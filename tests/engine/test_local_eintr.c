/*
 * Every system call that opens, makes, changes or reads a file is interrupted by a signal before it succeeds (EINTR), and each read and write is
 * done by halves. Nobody notices: all answers are those of a run without that, and so is what was opened again.
 *
 * The calls are those of the engine alone: the linker puts what is here in their place (Makefile, --wrap), not in that of LMDB.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine/local_internal.h"
#include "tests/lib/contract_queue.h"

static const char *const script[] = { "queue q", "queue o", "topic t", "exchange x", "type x fanout", "pattern x #",
	"bind x # bq q", "bind x # bt t", "set q max.priority 9", "send q a b:p5 c", "pub x - d e", "get q", "ack q b",
	"get q", "mv q ready c o ready", "reject q a", "tx n", "in n send q l", "in n send o m", "commit n",
	"rename o p", "send p w", "reopen", "show q", "show q/dlq", "show p", "redrive q/dlq a", "reopen", "show q",
	"purge p", "rmdir p", "take q", "reopen", "totals q", NULL };

static _Atomic bool interrupting;
static _Atomic unsigned interrupted, halves, creates, opens;

/* Every other call of a thread. */
static bool is_interrupted(void)
{
	static _Thread_local bool second;

	if (!atomic_load(&interrupting))
		return false;
	second = !second;
	if (!second)
		return false;
	atomic_fetch_add(&interrupted, 1);
	errno = EINTR;
	return true;
}

static size_t half(size_t size)
{
	if (!atomic_load(&interrupting) || size < 2)
		return size;
	atomic_fetch_add(&halves, 1);
	return size / 2;
}

#define WRAP(name, params, args)                                                                                       \
	int __real_##name params;                                                                                      \
	int __wrap_##name params;                                                                                      \
	int __wrap_##name params                                                                                       \
	{                                                                                                              \
		return is_interrupted() ? -1 : __real_##name args;                                                     \
	}

WRAP(mkdirat, (int dirfd, const char *name, mode_t mode), (dirfd, name, mode))
WRAP(fdatasync, (int fd), (fd))
WRAP(fsync, (int fd), (fd))
WRAP(syncfs, (int fd), (fd))
WRAP(ftruncate64, (int fd, off_t size), (fd, size))
WRAP(fallocate64, (int fd, int mode, off_t pos, off_t size), (fd, mode, pos, size))
WRAP(renameat, (int from, const char *name, int to, const char *new_name), (from, name, to, new_name))
WRAP(unlinkat, (int dirfd, const char *name, int flags), (dirfd, name, flags))

int __real_openat64(int dirfd, const char *name, int flags, mode_t mode);
int __wrap_openat64(int dirfd, const char *name, int flags, mode_t mode);
int __wrap_openat64(int dirfd, const char *name, int flags, mode_t mode)
{
	if (is_interrupted()) {
		atomic_fetch_add(flags & O_CREAT ? &creates : &opens, 1);
		return -1;
	}
	return __real_openat64(dirfd, name, flags, mode);
}

ssize_t __real_pread64(int fd, void *buf, size_t size, off_t pos);
ssize_t __wrap_pread64(int fd, void *buf, size_t size, off_t pos);
ssize_t __wrap_pread64(int fd, void *buf, size_t size, off_t pos)
{
	return is_interrupted() ? -1 : __real_pread64(fd, buf, half(size), pos);
}

ssize_t __real_pwritev64(int fd, const struct iovec *iov, int count, off_t pos);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int count, off_t pos);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int count, off_t pos)
{
	struct iovec part = *iov;

	if (is_interrupted())
		return -1;
	part.iov_len = half(part.iov_len);
	return part.iov_len < iov->iov_len ? __real_pwritev64(fd, &part, 1, pos)
					   : __real_pwritev64(fd, iov, count, pos);
}

/* All answers, one a line. */
static char *run(bool with_signals)
{
	struct contract *c = calloc(1, sizeof(*c));
	char *answers = calloc(1, 1 << 16);

	tmpdir_in_memory();
	atomic_store(&interrupting, with_signals);
	q_open(c, true);
	q_lenient(c);
	for (size_t i = 0; script[i] != NULL; i++) {
		size_t used = strlen(answers);

		snprintf(answers + used, (1 << 16) - used, "%s: %s\n", script[i], q_run(c, script[i]));
	}
	c->ops->health(c->engine, c->text, CONTRACT_TEXT);
	cr_assert_eq(strncmp(c->text, "state ok", 8), 0, "%s", c->text);
	q_close(c);
	atomic_store(&interrupting, false);
	free(c);
	return answers;
}

Test(local_eintr, nobody_notices)
{
	char *without = run(false), *with = run(true);

	cr_assert_str_eq(with, without);
	cr_assert_null(strstr(without, ": E"), "%s", without);
	cr_assert_gt(atomic_load(&interrupted), 100);
	cr_assert_gt(atomic_load(&halves), 100);
	cr_assert_gt(atomic_load(&creates), 10);
	cr_assert_gt(atomic_load(&opens), 10);
	free(with);
	free(without);
}
