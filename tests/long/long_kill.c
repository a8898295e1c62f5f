/*
 * kill -9 at every system call that changes a file, of a script of 5,000 operations (work.h).
 *
 * The script is done in chapters, each of which begins with the store that the one before left. A chapter is run once, which counts
 * its calls; then once for each of them, by a process that kills itself when it comes to the n-th: it does not make that call
 * any more (a write across pages, half of the time: makes it up to the page). What it was told until then is in memory that it shares.
 * The store is recovered and looked at as state.c says: nothing accepted is lost, nothing acknowledged is back.
 *
 * The calls are caught where the C library has them, so those of LMDB are among them; writers past the daemon are not. Threads may
 * make them in another order in another run: places where it died are told apart by their callers, and counted.
 *
 * MQFS_KILL_OPERATIONS (5000), MQFS_KILL_CHAPTER (250 of them), MQFS_KILL_STEP (1: each call; 7: each 7th), MQFS_KILL_SECONDS (0: no bound),
 * MQFS_KILL_SEED (1), MQFS_KILL_JOBS (1). The last line is: kill-each KILLS CALLS PLACES OPERATIONS MESSAGES ACKS VIOLATIONS SEED.
 */
#include <dirent.h>
#include <execinfo.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/long/work.h"

#define PAGE 4096u
#define PLACES 4096u
#define FRAMES 9 /* that tell one place from another */

struct shared {
	struct figures figures;
	_Atomic uint64_t kills, messages, acks, calls, places[PLACES];
};

static struct shared *shared;

static struct {
	bool armed;
	uint64_t n; /* 0: only count */
	_Atomic uint64_t count;
} die;

/* ---- the calls ---- */

static void note_place(void)
{
	void *frames[FRAMES];
	int count = backtrace(frames, FRAMES);
	uint64_t hash = 1;

	for (int i = 2; i < count; i++)
		hash = (hash ^ (uint64_t)frames[i]) * 0x9e3779b97f4a7c15ull;
	for (size_t at = hash >> 32, tries = 0; tries < PLACES; at++, tries++) {
		uint64_t empty = 0;

		if (atomic_compare_exchange_strong(&shared->places[at % PLACES], &empty, hash) || empty == hash)
			return;
	}
}

/* Is it this one that it dies at? */
static bool is_mine(void)
{
	uint64_t n = die.armed ? atomic_fetch_add(&die.count, 1) + 1 : 0;

	return n > 0 && n == die.n;
}

static void end_here(void)
{
	note_place();
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

static void call(void)
{
	if (is_mine())
		end_here();
}

/* Of a write that crosses a page some of the pages may be written. */
static void call_write(int fd, const struct iovec *iov, int count, off_t pos)
{
	size_t first = PAGE - (size_t)pos % PAGE;

	if (!is_mine())
		return;
	if (count > 0 && iov->iov_len > first && die.n % 2 == 0)
		syscall(SYS_pwrite64, fd, iov->iov_base, first, pos);
	end_here();
}

ssize_t caught_pwritev(int fd, const struct iovec *iov, int count, off_t pos) __asm__("pwritev64");
ssize_t caught_pwritev(int fd, const struct iovec *iov, int count, off_t pos)
{
	call_write(fd, iov, count, pos);
	return syscall(SYS_pwritev, fd, iov, count, pos, 0);
}

ssize_t caught_pwrite(int fd, const void *bytes, size_t len, off_t pos) __asm__("pwrite");
ssize_t caught_pwrite(int fd, const void *bytes, size_t len, off_t pos)
{
	struct iovec iov = { (void *)(uintptr_t)bytes, len };

	call_write(fd, &iov, 1, pos);
	return syscall(SYS_pwrite64, fd, bytes, len, pos);
}

ssize_t caught_writev(int fd, const struct iovec *iov, int count) __asm__("writev");
ssize_t caught_writev(int fd, const struct iovec *iov, int count)
{
	call();
	return syscall(SYS_writev, fd, iov, count);
}

int caught_fdatasync(int fd) __asm__("fdatasync");
int caught_fdatasync(int fd)
{
	call();
	return (int)syscall(SYS_fdatasync, fd);
}

int caught_fsync(int fd) __asm__("fsync");
int caught_fsync(int fd)
{
	call();
	return (int)syscall(SYS_fsync, fd);
}

int caught_ftruncate(int fd, off_t size) __asm__("ftruncate64");
int caught_ftruncate(int fd, off_t size)
{
	call();
	return (int)syscall(SYS_ftruncate, fd, size);
}

int caught_ftruncate_lmdb(int fd, off_t size) __asm__("ftruncate");
int caught_ftruncate_lmdb(int fd, off_t size)
{
	call();
	return (int)syscall(SYS_ftruncate, fd, size);
}

int caught_fallocate(int fd, int mode, off_t pos, off_t size) __asm__("fallocate64");
int caught_fallocate(int fd, int mode, off_t pos, off_t size)
{
	call();
	return (int)syscall(SYS_fallocate, fd, mode, pos, size);
}

int caught_renameat(int old_dirfd, const char *old_name, int new_dirfd, const char *new_name) __asm__("renameat");
int caught_renameat(int old_dirfd, const char *old_name, int new_dirfd, const char *new_name)
{
	call();
	return (int)syscall(SYS_renameat, old_dirfd, old_name, new_dirfd, new_name);
}

int caught_unlinkat(int dirfd, const char *name, int flags) __asm__("unlinkat");
int caught_unlinkat(int dirfd, const char *name, int flags)
{
	call();
	return (int)syscall(SYS_unlinkat, dirfd, name, flags);
}

int caught_mkdirat(int dirfd, const char *name, mode_t mode) __asm__("mkdirat");
int caught_mkdirat(int dirfd, const char *name, mode_t mode)
{
	call();
	return (int)syscall(SYS_mkdirat, dirfd, name, mode);
}

int caught_openat(int dirfd, const char *name, int flags, ...) __asm__("openat64");
int caught_openat(int dirfd, const char *name, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = va_arg(args, mode_t);
	va_end(args);
	if (flags & (O_CREAT | O_TRUNC))
		call();
	return (int)syscall(SYS_openat, dirfd, name, flags, mode);
}

/* ---- one chapter ---- */

static void copy_store(int from, int to)
{
	DIR *dir = fdopendir(openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *entry;

	tmpdir_copy(from, to);
	while ((entry = readdir(dir)) != NULL) {
		int below[2];

		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		OK(mkdirat(to, entry->d_name, 0700));
		below[0] = openat(from, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		below[1] = openat(to, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		copy_store(below[0], below[1]);
		close(below[0]);
		close(below[1]);
	}
	closedir(dir);
}

static struct work *map_work(void)
{
	struct work *w = mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	work_must(w != MAP_FAILED, "mmap");
	return w;
}

/* In a process of its own, from opening to closing. Returns the status of its end. */
static int run(struct work *w, unsigned operations, uint64_t n)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		die.n = n;
		die.armed = true;
		w->scratch = (struct engine_scratch){ 0 }; /* was of another process */
		memset(w->staging, 0, sizeof(w->staging));
		work_open(w);
		work_find_objects(w);
		for (unsigned i = 0; i < operations; i++)
			work_step(w);
		work_close(w);
		atomic_store(&shared->calls, atomic_load(&die.count));
		_exit(0);
	}
	OK(pid);
	OK(waitpid(pid, &status, 0));
	return status;
}

static void count_told(const struct work *base, const struct work *w)
{
	for (size_t i = 0; i < w->count; i++) {
		if (i >= base->count && w->copies[i].accepted != NEVER)
			atomic_fetch_add(&shared->messages, 1);
		if (w->copies[i].target == Q && w->copies[i].gone_accepted != NEVER &&
		    (i >= base->count || base->copies[i].gone_accepted == NEVER))
			atomic_fetch_add(&shared->acks, 1);
	}
}

/* Dies at the n-th call. */
static void attempt(const struct work *base, int store, unsigned operations, uint64_t n, unsigned chapter)
{
	struct work *w = map_work();
	struct tmpdir dir;
	char what[64];
	int status;

	*w = *base;
	tmpdir_make(&dir);
	copy_store(store, dir.fd);
	snprintf(w->source, sizeof(w->source), "%s", dir.path);
	snprintf(what, sizeof(what), "chapter %u, call %" PRIu64, chapter, n);
	status = run(w, operations, n);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		atomic_fetch_add(&shared->kills, 1);
		w->engine = NULL;
		if (state_recover(w, dir.path, true, what))
			state_check(w, NEVER - 1, true, true, dir.fd, what);
		count_told(base, w);
	} else if (status != 0) {
		atomic_fetch_add(&shared->figures.violations, 1);
		fprintf(stderr, "%s: it ended with status %x\n", what, (unsigned)status);
	}
	tmpdir_remove(&dir);
	_exit(0);
}

static void reap(void)
{
	int status;

	OK(wait(&status));
	if (status != 0) {
		atomic_fetch_add(&shared->figures.violations, 1);
		fprintf(stderr, "the recovery of a store ended with status %x\n", (unsigned)status);
	}
}

static bool time_left(time_t until)
{
	return until == 0 || time(NULL) < until;
}

static void each_call(
    const struct work *base, int store, unsigned operations, uint64_t calls, unsigned chapter, time_t until)
{
	uint64_t jobs = work_environment("MQFS_KILL_JOBS", 1), step = work_environment("MQFS_KILL_STEP", 1),
		 running = 0;

	for (uint64_t n = 1 + chapter % step; n <= calls && time_left(until); n += step) {
		pid_t pid;

		if (running == jobs) {
			reap();
			running--;
		}
		pid = fork();
		if (pid == 0)
			attempt(base, store, operations, n, chapter);
		OK(pid);
		running++;
	}
	while (running-- > 0)
		reap();
}

/* Afterwards the store and the work are as the chapter leaves them. Returns how many calls it made. */
static uint64_t run_chapter(struct work *base, struct tmpdir *dir, unsigned operations, unsigned chapter, time_t until)
{
	struct work *after = map_work();
	struct tmpdir next;
	uint64_t calls;

	*after = *base;
	tmpdir_make(&next);
	copy_store(dir->fd, next.fd);
	snprintf(after->source, sizeof(after->source), "%s", next.path);
	work_must(run(after, operations, 0) == 0, "the chapter");
	calls = atomic_load(&shared->calls);
	each_call(base, dir->fd, operations, calls, chapter, until);
	*base = *after;
	munmap(after, sizeof(*after));
	tmpdir_remove(dir);
	*dir = next;
	return calls;
}

static struct work *begin(struct tmpdir *dir, uint64_t seed)
{
	struct work *w = map_work();

	w->figures = &shared->figures;
	w->seed = w->random = seed;
	w->segment_bytes = "16384";
	w->is_long = true;
	w->has_members = w->lingers = true;
	tmpdir_make(dir);
	snprintf(w->source, sizeof(w->source), "%s", dir->path);
	if (fork() == 0) {
		work_open(w);
		work_set_up(w);
		work_close(w);
		_exit(0);
	}
	reap();
	return w;
}

int main(void)
{
	unsigned operations = (unsigned)work_environment("MQFS_KILL_OPERATIONS", 5000), done = 0, chapter = 0;
	unsigned part = (unsigned)work_environment("MQFS_KILL_CHAPTER", 250);
	uint64_t seed = work_environment("MQFS_KILL_SEED", 1), seconds = work_environment("MQFS_KILL_SECONDS", 0);
	time_t until = seconds > 0 ? time(NULL) + (time_t)seconds : 0;
	uint64_t calls = 0, places = 0;
	struct tmpdir dir;
	struct work *w;
	void *frame;

	backtrace(&frame, 1); /* loads what it needs */
	tmpdir_in_memory();
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	w = begin(&dir, seed);
	for (; done < operations && time_left(until); done += part, chapter++)
		calls += run_chapter(w, &dir, operations - done < part ? operations - done : part, chapter, until);
	tmpdir_remove(&dir);
	for (size_t i = 0; i < PLACES; i++)
		places += shared->places[i] != 0;
	printf("kill-each %" PRIu64 " %" PRIu64 " %" PRIu64 " %u %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
	    shared->kills, calls, places, done < operations ? done : operations, shared->messages, shared->acks,
	    shared->figures.violations, seed);
	return shared->figures.violations > 0;
}
