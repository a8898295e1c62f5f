/* What the system calls of a consumer get from next, wait, out and stream, in every framing and with every buffer. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/mnt.h"

static void setup(void)
{
	mnt_setup();
	mnt_topic("t", 1);
	mnt_group("t", "g");
}

TestSuite(consume, .init = setup, .fini = mnt_release, .timeout = 60);

#define IN mnt_path("topics/t/in")
#define GROUP(name) mnt_path("topics/t/groups/g/%s", name)

static char buf[1 << 20];

/* Reads until EOF, size bytes at a time (at most limit in all); returns the count. */
static size_t read_in_pieces(const char *path, size_t size, size_t limit, char *text)
{
	int fd = mnt_open(path, O_RDONLY);
	size_t len = 0;
	ssize_t n = 1;

	while (len < limit && n > 0) {
		n = read(fd, buf, size < limit - len ? size : limit - len);
		cr_assert_geq(n, 0, "reading %s by %zu: %s", path, size, strerror(errno));
		memcpy(text + len, buf, (size_t)n);
		len += (size_t)n;
	}
	close(fd);
	return len;
}

/* Messages of many lengths, an empty one among them and one of more than a page. */
static void produce_some(void)
{
	int fd = mnt_open(IN, O_WRONLY | O_APPEND);

	for (size_t i = 0; i < 12; i++) {
		size_t len = i == 3 ? 0 : i == 5 ? 5000 : 1 + i * i * 3;
		memset(buf, (int)('a' + i), len);
		buf[len] = '\n';
		cr_assert_eq(write(fd, buf, len + 1), (ssize_t)len + 1);
	}
	close(fd);
}

/* next, wait, out and stream give the same bytes whatever the size of the reads, one byte included. */
Test(consume, any_buffer_size_gives_the_same_bytes)
{
	static const char *const files[] = { "next", "next.json", "next.nul", "next.raw", "wait", "wait.json",
		"wait.nul", "wait.raw", "out", "out.json", "out.nul", "stream", "stream.json", "stream.nul" };
	static const size_t sizes[] = { 1, 3, 100, 4096, 65536 };
	static char whole[1 << 16], pieces[1 << 16];

	produce_some();
	for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
		/* A stream has no end: it gives what out gives, and then waits. */
		bool stream = strncmp(files[f], "stream", 6) == 0;
		char same[16];
		snprintf(same, sizeof(same), "%s%s", stream ? "out" : files[f], stream ? files[f] + 6 : "");
		size_t len = read_in_pieces(GROUP(same), sizeof(buf), sizeof(whole), whole);
		cr_assert_gt(len, 0);
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
			size_t n = read_in_pieces(GROUP(files[f]), sizes[s], stream ? len : sizeof(pieces), pieces);
			cr_assert_eq(n, len, "%s by %zu: %zu bytes instead of %zu", files[f], sizes[s], n, len);
			cr_assert_eq(memcmp(whole, pieces, len), 0, "%s by %zu differs", files[f], sizes[s]);
		}
	}
	mnt_expect(GROUP("offset"), "0 0\n");
}

/* A plain out is the log, byte for byte; an out.nul has NULs where that has newlines. */
Test(consume, out_is_what_was_produced)
{
	produce_some();
	size_t log_len, out_len, nul_len;
	char *log = mnt_read(mnt_path("topics/t/0/log"), &log_len);
	char *out = mnt_read(GROUP("out"), &out_len);
	char *nul = mnt_read(GROUP("out.nul"), &nul_len);

	cr_assert_eq(out_len, log_len);
	cr_assert_eq(memcmp(out, log, log_len), 0);
	cr_assert_eq(nul_len, log_len);
	for (size_t i = 0; i < nul_len; i++)
		cr_assert_eq(nul[i] == '\0' ? '\n' : nul[i], log[i]);
	free(log);
	free(out);
	free(nul);
}

/* A message with NULs, newlines and no text at all comes back exactly, by next.raw and at/, with nothing added. */
Test(consume, raw_is_the_exact_bytes)
{
	char bytes[300];
	size_t len;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)i;
	cr_assert_eq(mnt_write_err(mnt_path("topics/t/put/bytes"), O_WRONLY | O_CREAT, bytes, sizeof(bytes)), 0);
	static const char *const files[] = { "groups/g/next.raw", "groups/g/wait.raw", "0/at/0", "0/at/0.raw" };
	for (size_t i = 0; i < 4; i++) {
		char *is = mnt_read(mnt_path("topics/t/%s", files[i]), &len);
		cr_assert_eq(len, sizeof(bytes), "%s has %zu bytes", files[i], len);
		cr_assert_eq(memcmp(is, bytes, len), 0, "%s differs", files[i]);
		free(is);
	}
}

/* A read of less than 64 KiB gives one message, or the part of one that fits. */
Test(consume, a_small_read_gives_one_message)
{
	static const char *const files[] = { "out", "stream" };

	mnt_write(IN, "one\ntwo\nthree\n");
	for (int i = 0; i < 2; i++) {
		int fd = mnt_open(GROUP(files[i]), O_RDONLY);
		cr_expect_eq(read(fd, buf, 4096), 4, "%s", files[i]);
		cr_expect_eq(read(fd, buf, 2), 2, "%s", files[i]);
		cr_expect_eq(read(fd, buf, 65535), 2, "%s: the rest of a message begun", files[i]);
		cr_expect_eq(read(fd, buf, 65535), 6, "%s", files[i]);
		close(fd);
	}
}

/* A read of 64 KiB or more gets as many whole messages as are there and fit. */
Test(consume, a_large_read_gives_many_whole_messages)
{
	mnt_write(IN, "one\ntwo\nthree\n");
	int fd = mnt_open(GROUP("stream"), O_RDONLY | O_NONBLOCK);
	cr_expect_eq(read(fd, buf, 65536), 14);
	int in = mnt_open(IN, O_WRONLY | O_APPEND);
	memset(buf, 'x', 40001);
	buf[40000] = '\n';
	for (int i = 0; i < 2; i++)
		cr_assert_eq(write(in, buf, 40001), 40001);
	close(in);
	cr_expect_eq(read(fd, buf, 65536), 40001, "the second does not fit whole");
	cr_expect_eq(read(fd, buf, 65536), 40001);
	cr_expect_eq(read(fd, buf, 65536), -1);
	cr_expect_eq(errno, EAGAIN);
	close(fd);
}

/* Seeking back gives the same bytes again, as shells need that read too far; going on continues where it was. */
Test(consume, seeking_back_gives_the_same_again)
{
	static const char *const files[] = { "next", "out", "stream", "out.json", "stream.nul" };
	char first[64], again[64];

	mnt_write(IN, "0123456789\nabcdefghij\nklm\n");
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		int fd = mnt_open(GROUP(files[i]), O_RDONLY);
		ssize_t n = read(fd, first, 11);
		cr_assert_gt(n, 4, "%s", files[i]);
		cr_assert_eq(lseek(fd, -4, SEEK_CUR), n - 4, "%s: %s", files[i], strerror(errno));
		cr_assert_eq(read(fd, again, 4), 4, "%s", files[i]);
		cr_expect_eq(memcmp(first + n - 4, again, 4), 0, "%s", files[i]);
		cr_assert_eq(lseek(fd, 0, SEEK_SET), 0);
		cr_assert_eq(read(fd, again, (size_t)n), n);
		cr_expect_eq(memcmp(first, again, (size_t)n), 0, "%s", files[i]);
		cr_expect_eq(pread(fd, again, 3, 2), 3);
		cr_expect_eq(memcmp(first + 2, again, 3), 0, "%s", files[i]);
		close(fd);
	}
	int fd = mnt_open(GROUP("stream"), O_RDONLY);
	cr_expect_eq(read(fd, buf, 4096), 11);
	lseek(fd, -11, SEEK_CUR);
	cr_expect_eq(read(fd, buf, 4096), 11);
	cr_expect_eq(read(fd, buf, 4096), 11, "the second message, not the first again");
	cr_expect_eq(buf[0], 'a');
	close(fd);
}

/* Two processes that share one open file share what it gives: each byte goes to one of them. */
Test(consume, holders_of_one_file_share_it)
{
	mnt_write(IN, "one\ntwo\nthree\n");
	int fd = mnt_open(GROUP("out"), O_RDONLY);

	cr_expect_eq(read(fd, buf, 4096), 4);
	pid_t child = fork();
	if (child == 0)
		_exit(read(fd, buf, 4096) == 4 && memcmp(buf, "two\n", 4) == 0 ? 0 : 1);
	mnt_join_ok(child);
	cr_expect_eq(read(fd, buf, 4096), 6);
	cr_expect_eq(read(fd, buf, 4096), 0);
	close(fd);
}

/* Where there is nothing, next and out are at their end at once, and with O_NONBLOCK wait and stream say EAGAIN. */
Test(consume, nothing_there)
{
	static const char *const ends[] = { "next", "next.json", "next.nul", "next.raw", "out", "out.json", "out.nul" };
	static const char *const waits[] = { "wait", "wait.json", "wait.nul", "wait.raw", "stream", "stream.json",
		"stream.nul" };

	for (size_t i = 0; i < 7; i++) {
		mnt_expect(GROUP(ends[i]), "");
		int fd = mnt_open(GROUP(waits[i]), O_RDONLY | O_NONBLOCK);
		cr_expect_eq(read(fd, buf, 100), -1, "%s", waits[i]);
		cr_expect_eq(errno, EAGAIN, "%s: %s", waits[i], strerror(errno));
		close(fd);
	}
	/* O_NONBLOCK set later counts as well. */
	int fd = mnt_open(GROUP("stream"), O_RDONLY);
	cr_assert_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	cr_expect_eq(read(fd, buf, 100), -1);
	cr_expect_eq(errno, EAGAIN);
	close(fd);
}

/* next and wait end after one message, however much more there is, and whatever comes meanwhile. */
Test(consume, one_message_then_the_end)
{
	static const char *const files[] = { "next", "wait" };

	mnt_write(IN, "one\ntwo\n");
	for (int i = 0; i < 2; i++) {
		int fd = mnt_open(GROUP(files[i]), O_RDONLY);
		cr_expect_eq(read(fd, buf, sizeof(buf)), 4);
		mnt_write(IN, "more\n");
		cr_expect_eq(read(fd, buf, sizeof(buf)), 0);
		cr_expect_eq(read(fd, buf, sizeof(buf)), 0);
		close(fd);
	}
}

/* out ends with what was there when it was opened. */
Test(consume, out_ends_with_what_was_there)
{
	mnt_write(IN, "one\n");
	int fd = mnt_open(GROUP("out"), O_RDONLY);
	mnt_write(IN, "late\n");
	cr_expect_eq(read(fd, buf, sizeof(buf)), 4);
	cr_expect_eq(read(fd, buf, sizeof(buf)), 0);
	close(fd);
}

static pid_t reader_of(const char *path, const char *expect)
{
	pid_t child = fork();

	if (child == 0) {
		int fd = open(path, O_RDONLY);
		ssize_t n = fd >= 0 ? read(fd, buf, 4096) : -1;
		if (n < 0)
			_exit(errno);
		_exit((size_t)n == strlen(expect) && memcmp(buf, expect, (size_t)n) == 0 ? 0 : 255);
	}
	mnt_wait_blocked(child, SYS_read);
	return child;
}

/* A waiting reader gets the message that comes. */
Test(consume, waiting_readers_get_what_comes)
{
	static const char *const files[] = { "wait", "wait.nul", "wait.raw", "stream", "0/wait", "0/stream" };
	static const char *const gives[] = { "hello\n", "hello", "hello", "hello\n", "hello\n", "hello\n" };

	for (size_t i = 0; i < 6; i++) {
		char nul[] = "hello";
		pid_t child = fork();
		if (child == 0) {
			int fd = open(GROUP(files[i]), O_RDONLY);
			size_t len = strlen(gives[i]) + (i == 1);
			_exit(fd >= 0 && read(fd, buf, 4096) == (ssize_t)len &&
				      memcmp(buf, i == 1 ? nul : gives[i], len) == 0
				  ? 0
				  : 1);
		}
		mnt_wait_blocked(child, SYS_read);
		mnt_write(IN, "hello\n");
		mnt_join_ok(child);
		mnt_write(GROUP("ack"), "all\n");
		mnt_expect(GROUP("next"), "");
	}
}

/* The group deleted, or the topic: who waits is told so by EIDRM. */
Test(consume, waiting_on_what_is_deleted_is_EIDRM)
{
	pid_t wait_reader = reader_of(GROUP("wait"), "");
	pid_t stream_reader;

	cr_assert_eq(rmdir(GROUP("")), 0, "%s", strerror(errno));
	int status = mnt_join(wait_reader);
	cr_expect_eq(WEXITSTATUS(status), EIDRM, "status %#x", (unsigned)status);
	mnt_group("t", "g");
	stream_reader = reader_of(GROUP("stream"), "");
	cr_assert_eq(rmdir(mnt_path("topics/t")), 0, "%s", strerror(errno));
	status = mnt_join(stream_reader);
	cr_expect_eq(WEXITSTATUS(status), EIDRM, "status %#x", (unsigned)status);
}

/* Given is a message of which a read has returned the first byte: `all` acknowledges those and no more. */
Test(consume, ack_all_means_what_reads_returned)
{
	mnt_write(IN, "one\ntwo\nthree\nfour\n");
	int fd = mnt_open(GROUP("out"), O_RDONLY);
	cr_assert_eq(read(fd, buf, 1), 1);
	mnt_write(GROUP("ack"), "all\n");
	mnt_expect(GROUP("offset"), "0 1\n");
	cr_assert_eq(read(fd, buf, 4096), 3);
	mnt_write(GROUP("ack"), "all\n");
	mnt_expect(GROUP("offset"), "0 1\n");
	cr_assert_eq(read(fd, buf, 4096), 4);
	close(fd);
	mnt_write(GROUP("ack"), "all\n");
	mnt_expect(GROUP("offset"), "0 2\n");
	fd = mnt_open(GROUP("stream"), O_RDONLY);
	cr_assert_eq(read(fd, buf, 65536), 11);
	close(fd);
	mnt_write(GROUP("ack"), "all\n");
	mnt_expect(GROUP("offset"), "0 4\n");
}

/* While a stream is open it is the group's member: next, wait and out are EBUSY, ack and offset work. */
Test(consume, an_open_stream_has_the_group)
{
	static const char *const busy[] = { "next", "wait", "out", "0/next", "next.json", "out.nul" };

	mnt_write(IN, "one\ntwo\n");
	int fd = mnt_open(GROUP("stream"), O_RDONLY);
	for (size_t i = 0; i < sizeof(busy) / sizeof(busy[0]); i++)
		cr_expect_eq(mnt_read_err(GROUP(busy[i])), -EBUSY, "%s", busy[i]);
	cr_expect_eq(read(fd, buf, 4096), 4);
	mnt_write(GROUP("ack"), "0:0\n");
	mnt_expect(GROUP("offset"), "0 1\n");
	cr_expect_eq(mnt_number(GROUP("info"), "lag"), 1);
	close(fd);
	mnt_expect(GROUP("next"), "two\n");
}

/* What a stream gave and nobody acknowledged comes again, also when its reader was killed. */
Test(consume, what_a_killed_reader_had_comes_again)
{
	mnt_write(IN, "one\ntwo\n");
	pid_t child = fork();
	if (child == 0) {
		int fd = open(GROUP("stream"), O_RDONLY);
		while (read(fd, buf, 4096) > 0)
			;
		_exit(1);
	}
	mnt_wait_blocked(child, SYS_read);
	kill(child, SIGKILL);
	mnt_join(child);
	mnt_expect(GROUP("out"), "one\ntwo\n");
}

/* Streams of one group share its partitions: each message goes to one of them. */
Test(consume, streams_share_the_partitions)
{
	mnt_topic("two", 2);
	mnt_group("two", "g");
	int a = mnt_open(mnt_path("topics/two/groups/g/stream"), O_RDONLY | O_NONBLOCK);
	int b = mnt_open(mnt_path("topics/two/groups/g/stream"), O_RDONLY | O_NONBLOCK);
	int c = mnt_open(mnt_path("topics/two/groups/g/stream"), O_RDONLY | O_NONBLOCK);
	int fds[] = { a, b, c }, total = 0, holders = 0;

	mnt_write(mnt_path("topics/two/0/in"), "zero\n");
	mnt_write(mnt_path("topics/two/1/in"), "one\n");
	for (int i = 0; i < 3; i++) {
		ssize_t n = read(fds[i], buf, 65536);
		total += n > 0 ? (int)n : 0;
		holders += n > 0;
	}
	cr_expect_eq(total, 9, "%d bytes in all", total);
	cr_expect_eq(holders, 2, "%d streams had something", holders);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
}

/* A message larger than any buffer comes in order, in parts, from next, out and stream. */
Test(consume, a_message_larger_than_the_buffer)
{
	static const char *const files[] = { "next", "out", "stream" };
	size_t size = 300 * 1024;
	char *text = malloc(size + 1), *is = malloc(size + 1);

	for (size_t i = 0; i < size; i++)
		text[i] = (char)('a' + i % 25);
	text[size] = '\n';
	cr_assert_eq(mnt_write_err(IN, O_WRONLY | O_APPEND, text, size + 1), 0);
	for (int f = 0; f < 3; f++) {
		cr_expect_eq(read_in_pieces(GROUP(files[f]), 1000, size + 1, is), size + 1);
		cr_expect_eq(memcmp(is, text, size + 1), 0, "%s by 1000", files[f]);
		cr_expect_eq(read_in_pieces(GROUP(files[f]), 65536, size + 1, is), size + 1);
		cr_expect_eq(memcmp(is, text, size + 1), 0, "%s by 65536", files[f]);
	}
	free(text);
	free(is);
}

/* The log is an ordinary file: its size is true, positions are bytes, and reading beyond the end is EOF. */
Test(consume, the_log_is_seekable)
{
	struct stat st;

	mnt_write(IN, "zero\none\ntwo\n");
	int fd = mnt_open(mnt_path("topics/t/0/log"), O_RDONLY);
	cr_assert_eq(fstat(fd, &st), 0);
	cr_expect_eq(st.st_size, 13);
	cr_expect_eq(pread(fd, buf, 3, 5), 3);
	cr_expect_eq(memcmp(buf, "one", 3), 0);
	cr_expect_eq(pread(fd, buf, 10, 13), 0);
	cr_expect_eq(lseek(fd, -4, SEEK_END), 9);
	cr_expect_eq(read(fd, buf, 100), 4);
	mnt_write(IN, "three\n");
	cr_expect_eq(read(fd, buf, 100), 6, "a reader at the end reads on when there is more");
	cr_assert_eq(fstat(fd, &st), 0);
	cr_expect_eq(st.st_size, 19);
	cr_expect_eq(write(fd, "x", 1), -1);
	close(fd);
}

/* Files that are read have no side effect by being opened, and offsets beyond what there is are ENOENT. */
Test(consume, at_finds_messages_by_offset)
{
	struct stat st;

	mnt_write(IN, "zero\n\ntwo\n");
	mnt_expect(mnt_path("topics/t/0/at/0"), "zero");
	mnt_expect(mnt_path("topics/t/0/at/1"), "");
	mnt_expect(mnt_path("topics/t/0/at/00000000000000000002"), "two");
	cr_assert_eq(stat(mnt_path("topics/t/0/at/2"), &st), 0);
	cr_expect_eq(st.st_size, 3);
	cr_expect_eq(stat(mnt_path("topics/t/0/at/3"), &st), -1);
	cr_expect_eq(errno, ENOENT);
	cr_expect_eq(stat(mnt_path("topics/t/0/at/99999999999999999999"), &st), -1);
	cr_expect_eq(errno, ENOENT);
	cr_expect_eq(stat(mnt_path("topics/t/0/at/-1"), &st), -1);
	cr_expect_eq(errno, ENOENT);
	mnt_expect(GROUP("offset"), "0 0\n");
}
