/*
 * Damage, everywhere: every bit of a segment of 64 KiB and of its index flipped, one at a time; its files cut at every byte; files
 * missing, swapped, of another log and another store. The log is opened each time and all of it is read.
 *
 * It must be found, and cost at most the batch it hit (an index entry: that batch; the mark or header: nothing, or the log is refused
 * as a whole, in words); a message that is read is right to the last byte. A log that was closed is marked to its end, so nothing is
 * cut for being behind the mark. That flips of data are told of at all follows from the count: a batch is lost for each.
 *
 * MQFS_FLIPS_STEP (1: every bit), MQFS_FLIPS_SECONDS (0: no bound), MQFS_FLIPS_JOBS (1: processes, each takes every so manieth bit).
 * The last line is: flips FLIPS CUTS OTHERS VIOLATIONS REFUSED.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/plog.h"
#include "tests/lib/nosync.h"
#include "tests/lib/tmpdir.h"

#define SEGMENT 65536u
#define BATCH 5u /* messages */
#define LOG "000000000000002a"
#define DATA "00000000000000000000.data"
#define INDEX "00000000000000000000.index"

/* Of all jobs: shared memory. */
struct figures {
	_Atomic uint64_t flips, cuts, others, violations, refused;
};

static struct {
	struct figures *figures;
	struct tmpdir dir;
	int dirfd;
	struct plog_options options;
	struct engine_scratch scratch;
	uint64_t messages, told;
	uint64_t first, step; /* which bits and bytes this job takes */
	time_t until;
} f;

static void must(bool ok, const char *what)
{
	if (!ok) {
		perror(what);
		abort();
	}
}

static void notified(void *ctx, int err, const char *text)
{
	(void)ctx;
	(void)text;
	if (err)
		f.told++;
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static size_t payload(uint64_t i, char out[64])
{
	return (size_t)snprintf(
	    out, 64, "message %" PRIu64 " %.*s", i, (int)(i % 30), "abcdefghijklmnopqrstuvwxyz0123");
}

static void make_log(uint8_t uuid_seed)
{
	struct plog *plog;
	uint64_t offset, bytes = 0;

	memset(f.options.store_uuid, uuid_seed, 16);
	must(plog_create(&f.options) == 0 && plog_open(&f.options, &plog) == 0, "plog");
	for (f.messages = 0; bytes + 64 * BATCH < SEGMENT; f.messages += BATCH) {
		char data[64 * BATCH];
		struct engine_batch batch = {
			.data = data, .count = BATCH, .cred = { 1, 2, (uint32_t)f.messages }, .ts_ms = 5
		};

		for (unsigned i = 0; i < BATCH; i++) {
			batch.len += payload(f.messages + i, data + batch.len);
			data[batch.len++] = '\n';
		}
		must(plog_append(plog, &batch, 0, 1 << 20, &offset) == 0, "append");
		bytes += batch.len;
	}
	must(plog_close(plog) == 0, "close");
}

static void violate(const char *what, uint64_t where, const char *how)
{
	if (f.figures->violations++ < 20)
		fprintf(stderr, "%s %" PRIu64 ": %s\n", what, where, how);
}

/* Opens and reads all; returns how many messages were read right, -1 if the log was refused. */
static int64_t read_all(const char *what, uint64_t where)
{
	struct engine_partition_stat stat;
	struct plog *plog;
	int64_t right = 0;

	f.told = 0;
	if (plog_open(&f.options, &plog) < 0) {
		f.figures->refused++;
		return -1;
	}
	plog_stat(plog, &stat);
	if (stat.end < f.messages && f.told == 0)
		violate(what, where, "offsets will be given again");
	for (uint64_t offset = stat.earliest; offset < stat.end;) {
		struct engine_view view = { 0 };
		int rc = plog_read(plog, offset, UINT32_MAX, &f.scratch, &view);
		const char *p = view.batch.data;
		char want[64];

		if (rc == 0 && view.offset != offset)
			violate(what, where, "offset");
		if (view.batch.count == 0) {
			violate(what, where, "a read that does not end");
			break;
		}
		for (uint32_t i = 0; rc == 0 && i < view.batch.count; i++) {
			size_t len = payload(offset + i, want);

			if (view.batch.lengths[i] != len || memcmp(p, want, len) != 0) {
				violate(what, where, "wrong bytes, and nothing told");
				break;
			}
			p += len + 1;
			right++;
		}
		offset += view.batch.count;
	}
	plog_close(plog);
	return right;
}

static void put_all(int from, const char *name)
{
	size_t size;
	uint8_t *bytes = tmpdir_get(from, name, &size);

	must(bytes != NULL, name);
	tmpdir_put(f.dirfd, name, bytes, size);
	free(bytes);
}

/* As it was: recovery may have made new segments, or set files aside. */
static void restore(int good)
{
	tmpdir_clear(f.dirfd);
	put_all(good, DATA);
	put_all(good, INDEX);
}

static bool time_left(void)
{
	return !f.until || time(NULL) < f.until;
}

static void flip_all(int good, const char *name)
{
	size_t size;
	uint8_t *bytes = tmpdir_get(good, name, &size);
	bool is_index = strcmp(name, INDEX) == 0;

	for (uint64_t bit = f.first; bit < size * 8 && time_left(); bit += f.step) {
		bool front = is_index && bit < 128 * 8;
		int64_t right;
		int fd = openat(f.dirfd, name, O_RDWR | O_CLOEXEC);
		uint8_t byte = bytes[bit / 8] ^ (uint8_t)(1 << bit % 8);

		must(fd >= 0 && pwrite(fd, &byte, 1, (off_t)(bit / 8)) == 1, name);
		right = read_all(name, bit);
		if (right >= 0 && right < (int64_t)(f.messages - BATCH))
			violate(name, bit, "more than one batch is lost");
		if (!front && (right < 0 || right == (int64_t)f.messages))
			violate(name, bit, right < 0 ? "refused" : "not found");
		if (!front && right >= 0 && f.told == 0)
			violate(name, bit, "lost, and nothing told");
		must(pwrite(fd, &bytes[bit / 8], 1, (off_t)(bit / 8)) == 1, name);
		close(fd);
		if (is_index)
			restore(good);
		f.figures->flips++;
	}
	free(bytes);
}

/* What is cut off is lost, what is before it is there. */
static void cut_all(int good, const char *name)
{
	size_t size;
	uint8_t *bytes = tmpdir_get(good, name, &size);

	for (uint64_t at = f.first; at < size && time_left(); at += f.step) {
		int64_t right;

		tmpdir_put(f.dirfd, name, bytes, at);
		right = read_all(name, at);
		if (right >= 0 && strcmp(name, DATA) == 0 && f.told == 0)
			violate(name, at, "cut, and nothing told");
		if (right >= 0 && right < (int64_t)(f.messages * at / size) - (int64_t)BATCH * 3 && at >= 128)
			violate(name, at, "cut, and too much is lost");
		if (right == (int64_t)f.messages)
			violate(name, at, "cut, and not found");
		restore(good);
		f.figures->cuts++;
	}
	free(bytes);
}

/* Files that are not there, or are others. None may give a wrong message; read_all() sees to that. */
static void exchange_all(int good, int other)
{
	must(unlinkat(f.dirfd, DATA, 0) == 0, "unlink");
	if (read_all("no data", 0) > 0 || f.told == 0)
		violate("no data", 0, "not told");
	restore(good);
	must(unlinkat(f.dirfd, INDEX, 0) == 0, "unlink");
	(void)read_all("no index", 0); /* the data is kept beside */
	restore(good);
	put_all(other, INDEX);
	if (read_all("index of another store", 0) >= 0)
		violate("index of another store", 0, "not refused");
	restore(good);
	tmpdir_clear(f.dirfd);
	put_all(other, DATA);
	put_all(other, INDEX);
	if (read_all("log of another store", 0) >= 0)
		violate("log of another store", 0, "not refused");
	restore(good);
	must(renameat(f.dirfd, DATA, f.dirfd, "x") == 0 && renameat(f.dirfd, INDEX, f.dirfd, DATA) == 0 &&
		 renameat(f.dirfd, "x", f.dirfd, INDEX) == 0,
	    "rename");
	(void)read_all("index and data swapped", 0);
	restore(good);
	f.figures->others += 5;
}

static int copy_of(const char *name)
{
	int fd;

	must(mkdirat(f.dir.fd, name, 0700) == 0, name);
	fd = openat(f.dir.fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	tmpdir_copy(f.dirfd, fd);
	return fd;
}

static void run_job(uint64_t job)
{
	int good, other;

	tmpdir_make(&f.dir);
	f.options =
	    (struct plog_options){ .logs_dirfd = f.dir.fd, .id = 0x2a, .notify = { .fn = notified, .ctx = NULL } };
	make_log(7);
	f.dirfd = openat(f.dir.fd, LOG, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	other = copy_of("other");
	close(f.dirfd);
	must(plog_destroy(f.dir.fd, 0x2a) == 0, "destroy");
	make_log(9);
	f.dirfd = openat(f.dir.fd, LOG, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	good = copy_of("good");
	if (job == 0)
		exchange_all(good, other);
	flip_all(good, DATA);
	flip_all(good, INDEX);
	cut_all(good, INDEX);
	cut_all(good, DATA);
	engine_scratch_release(&f.scratch);
	tmpdir_remove(&f.dir);
}

int main(void)
{
	uint64_t step = from_environment("MQFS_FLIPS_STEP", 1), jobs = from_environment("MQFS_FLIPS_JOBS", 1);
	uint64_t seconds = from_environment("MQFS_FLIPS_SECONDS", 0);
	int status;

	nosync_install();
	tmpdir_in_memory();
	f.figures = mmap(NULL, sizeof(*f.figures), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(f.figures != MAP_FAILED, "mmap");
	f.until = seconds ? time(NULL) + (time_t)seconds : 0;
	f.step = step * jobs;
	for (uint64_t job = 0; job < jobs; job++) {
		pid_t pid = fork();

		must(pid >= 0, "fork");
		if (pid == 0) {
			f.first = job * step;
			run_job(job);
			_exit(0);
		}
	}
	for (uint64_t job = 0; job < jobs; job++)
		if (wait(&status) < 0 || status != 0)
			violate("a job ended with status", (uint64_t)status, "it crashed");
	printf("flips %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", f.figures->flips, f.figures->cuts,
	    f.figures->others, f.figures->violations, f.figures->refused);
	return f.figures->violations > 0;
}
