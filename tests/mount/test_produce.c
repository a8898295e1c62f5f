/* What the system calls of a producer do to `in` and its framings: write, close, fsync, and who may end a message. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/mnt.h"

static void setup(void)
{
	mnt_setup();
	mnt_topic("t", 1);
}

TestSuite(produce, .init = setup, .fini = mnt_release, .timeout = 60);

#define IN mnt_path("topics/t/in")
#define LOG mnt_path("topics/t/0/log")

static void say(int fd, const char *text)
{
	cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text), "write: %s", strerror(errno));
}

/* Whatever the flags of open, an opening truncates nothing and a write appends. */
Test(produce, every_way_to_open_appends)
{
	static const int flags[] = {
		O_WRONLY | O_APPEND,
		O_WRONLY,
		O_WRONLY | O_TRUNC,
		O_WRONLY | O_CREAT | O_TRUNC,
		O_RDWR,
		O_RDWR | O_APPEND | O_CREAT,
		O_WRONLY | O_SYNC,
		O_WRONLY | O_APPEND | O_DSYNC,
		O_WRONLY | O_NONBLOCK,
	};
	char expect[64] = "";

	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		char line[8];
		snprintf(line, sizeof(line), "m%zu\n", i);
		strcat(expect, line);
		cr_expect_eq(mnt_write_err(IN, flags[i], line, strlen(line)), 0, "flags %#x", (unsigned)flags[i]);
		mnt_expect(LOG, expect);
	}
}

/* Where a write is aimed at does not matter: pwrite and lseek append too. */
Test(produce, positions_are_ignored)
{
	int fd = mnt_open(IN, O_WRONLY);

	say(fd, "one\n");
	cr_expect_eq(pwrite(fd, "two\n", 4, 0), 4);
	cr_expect_eq(pwrite(fd, "three\n", 6, 1000000), 6);
	cr_expect_eq(lseek(fd, 0, SEEK_SET), 0);
	say(fd, "four\n");
	close(fd);
	mnt_expect(LOG, "one\ntwo\nthree\nfour\n");
}

/* Complete messages are there as soon as write has returned, while the channel is open, and the rest is not. */
Test(produce, write_takes_complete_messages_and_keeps_the_rest)
{
	int fd = mnt_open(IN, O_WRONLY | O_APPEND);

	say(fd, "a\nb\npart");
	mnt_expect(LOG, "a\nb\n");
	say(fd, "ly\n");
	mnt_expect(LOG, "a\nb\npartly\n");
	say(fd, "last");
	mnt_expect(LOG, "a\nb\npartly\n");
	close(fd);
	mnt_expect(LOG, "a\nb\npartly\nlast\n");
}

/* One byte per write gives the same messages as one write. */
Test(produce, single_bytes_make_whole_messages)
{
	const char *text = "alpha\n\nbeta\r\n\x01\xff\nend";
	int fd = mnt_open(IN, O_WRONLY | O_APPEND);

	for (const char *c = text; *c != '\0'; c++)
		cr_assert_eq(write(fd, c, 1), 1);
	close(fd);
	mnt_expect(LOG, "alpha\n\nbeta\r\n\x01\xff\nend\n");
}

/* An opening that writes nothing, or nothing but zero bytes, is no message; an empty line is an empty one. */
Test(produce, nothing_is_no_message_and_an_empty_line_is_one)
{
	int fd = mnt_open(IN, O_WRONLY | O_APPEND);

	cr_expect_eq(write(fd, "", 0), 0);
	close(fd);
	mnt_expect(LOG, "");
	mnt_write(IN, "\n");
	mnt_expect(LOG, "\n");
	mnt_expect(mnt_path("topics/t/0/at/0"), "");
}

/* Data from writev, sendfile, splice and copy_file_range arrives like data from write. */
Test(produce, data_may_come_by_any_call)
{
	int fd = mnt_open(IN, O_WRONLY), source = memfd_create("source", MFD_CLOEXEC), pipes[2];
	struct iovec parts[] = { { (char *)"by ", 3 }, { (char *)"writev\nand ", 11 }, { (char *)"more\n", 5 } };

	cr_expect_eq(writev(fd, parts, 3), 19);
	say(source, "by sendfile\n");
	lseek(source, 0, SEEK_SET);
	cr_expect_eq(sendfile(fd, source, NULL, 100), 12);
	lseek(source, 0, SEEK_SET);
	ssize_t n = copy_file_range(source, NULL, fd, NULL, 100, 0);
	cr_expect(n == 12 || (n < 0 && errno == EXDEV), "copy_file_range: %zd %s", n, strerror(errno));
	if (n < 0)
		say(fd, "by sendfile\n");
	cr_assert_eq(pipe(pipes), 0);
	say(pipes[1], "by splice\n");
	cr_expect_eq(splice(pipes[0], NULL, fd, NULL, 100, 0), 10);
	close(fd);
	mnt_expect(LOG, "by writev\nand more\nby sendfile\nby sendfile\nby splice\n");
}

/* A message of several writes of a MiB each comes back as it went in. */
Test(produce, a_message_of_many_requests_is_one)
{
	size_t size = 5 * 1024 * 1024 + 7, len;
	char *text = malloc(size);

	for (size_t i = 0; i < size; i++)
		text[i] = (char)('a' + i % 23);
	int fd = mnt_open(IN, O_WRONLY | O_APPEND);
	for (size_t done = 0; done < size;) {
		ssize_t n = write(fd, text + done, size - done);
		cr_assert_gt(n, 0);
		done += (size_t)n;
	}
	close(fd);
	char *is = mnt_read(mnt_path("topics/t/0/at/0"), &len);
	cr_assert_eq(len, size);
	cr_assert_eq(memcmp(is, text, size), 0);
	free(is);
	free(text);
}

/* Processes that share one open file make one message together; that one of them closes it or exits ends nothing. */
Test(produce, several_holders_write_one_message)
{
	int fd = mnt_open(IN, O_WRONLY | O_APPEND);

	for (int i = 0; i < 3; i++) {
		pid_t child = fork();
		if (child == 0)
			_exit(write(fd, "abc" + i, 1) == 1 && close(fd) == 0 ? 0 : 1);
		mnt_join_ok(child);
		mnt_expect(LOG, "");
	}
	close(dup(fd));
	mnt_expect(LOG, "");
	close(fd);
	mnt_expect(LOG, "abc\n");
}

/* The last close is that of the last holder, whoever that is: a child that outlives the opener. */
Test(produce, the_last_holder_ends_the_message)
{
	int fd = mnt_open(IN, O_WRONLY | O_APPEND), pipes[2];
	char go;

	cr_assert_eq(pipe(pipes), 0);
	say(fd, "from the opener");
	pid_t child = fork();
	if (child == 0) {
		close(pipes[1]);
		_exit(read(pipes[0], &go, 1) == 0 && write(fd, ", and its child", 15) == 15 ? 0 : 1);
	}
	close(fd);
	mnt_expect(LOG, "");
	close(pipes[1]);
	mnt_join_ok(child);
	mnt_expect(LOG, "from the opener, and its child\n");
}

/* Two open files never mix within a message. */
Test(produce, two_openings_do_not_mix)
{
	/* What lingers comes in each one's order; only without is it that of arrival. */
	mnt_write(mnt_path("topics/t/config/linger.ms"), "0");
	int a = mnt_open(IN, O_WRONLY | O_APPEND), b = mnt_open(IN, O_WRONLY | O_APPEND);

	say(a, "a1");
	say(b, "b1");
	say(a, "a2\n");
	say(b, "b2");
	close(b);
	close(a);
	mnt_expect(LOG, "a1a2\nb1b2\n");
}

static void die_writing(int signal_number, const char *path, const char *text)
{
	pid_t child = fork();

	if (child == 0) {
		int fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0666);
		if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
			_exit(1);
		signal(signal_number, SIG_DFL); /* it may be ignored, as by nohup */
		raise(signal_number);
		_exit(2);
	}
	int status = mnt_join(child);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == signal_number, "status %#x", (unsigned)status);
}

/* What a process killed by a signal left unfinished is dropped; what it had finished stays. */
Test(produce, the_half_message_of_a_killed_writer_is_dropped)
{
	static const int signals[] = { SIGKILL, SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGALRM };

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		die_writing(signals[i], IN, "whole\nhalf");
	mnt_expect(LOG, "whole\nwhole\nwhole\nwhole\nwhole\nwhole\n");
	die_writing(SIGKILL, mnt_path("topics/t/in.nul"), "nul");
	die_writing(SIGKILL, mnt_path("topics/t/in.json"), "{\"payload\":\"json\"}");
	die_writing(SIGKILL, mnt_path("topics/t/keys/k"), "key");
	die_writing(SIGKILL, mnt_path("topics/t/put/file"), "put");
	mnt_write(IN, "next\n");
	mnt_expect(LOG, "whole\nwhole\nwhole\nwhole\nwhole\nwhole\nnext\n");
	char *left = mnt_read(mnt_path("topics/t/info"), NULL);
	free(left);
	cr_expect_eq(access(mnt_path("topics/t/put/file"), F_OK), -1);
}

/* A process that was killed takes its own half with it, not the whole lines of those who still have the file open. */
Test(produce, a_killed_holder_spoils_nothing_of_the_others)
{
	int fd = mnt_open(IN, O_WRONLY | O_APPEND);

	pid_t child = fork();
	if (child == 0) {
		if (write(fd, "half of the dead", 16) == 16)
			raise(SIGKILL);
		_exit(1);
	}
	mnt_join(child);
	say(fd, "whole\n");
	close(fd);
	mnt_expect(LOG, "whole\n");
}

/* A child that is killed without having written leaves the half that its parent wrote. */
Test(produce, a_killed_holder_that_wrote_nothing_drops_nothing)
{
	int fd = mnt_open(IN, O_WRONLY | O_APPEND);

	say(fd, "par");
	pid_t child = fork();
	if (child == 0) {
		raise(SIGKILL);
		_exit(1);
	}
	mnt_join(child);
	say(fd, "ent\n");
	close(fd);
	mnt_expect(LOG, "parent\n");
}

/* A process that exits, even with an error, has closed its files: its last line counts. */
Test(produce, exiting_is_closing)
{
	pid_t child = fork();

	if (child == 0) {
		int fd = open(IN, O_WRONLY | O_APPEND);
		_exit(write(fd, "the end", 7) == 7 ? 3 : 1);
	}
	int status = mnt_join(child);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 3);
	mnt_expect(LOG, "the end\n");
}

/* fsync and its kin succeed on every channel, with something to sync and without. */
Test(produce, sync_calls_answer)
{
	int fd = mnt_open(IN, O_WRONLY | O_APPEND);

	cr_expect_eq(fsync(fd), 0);
	say(fd, "one\ntwo");
	cr_expect_eq(fsync(fd), 0);
	cr_expect_eq(fdatasync(fd), 0);
	cr_expect_eq(syncfs(fd), 0);
	mnt_expect(LOG, "one\n");
	close(fd);
	fd = mnt_open(IN, O_RDONLY);
	cr_expect_eq(fsync(fd), 0, "sync(1) opens for reading: %s", strerror(errno));
	close(fd);
	mnt_expect(LOG, "one\ntwo\n");
}

/* A payload of exactly the limit is taken, one byte more is EMSGSIZE from write, and leaves no trace. */
Test(produce, the_limit_of_size_is_exact)
{
	mnt_write(mnt_path("topics/t/config/max.message.bytes"), "10");
	mnt_write(mnt_path("topics/t/config/linger.ms"), "0");
	cr_expect_eq(mnt_write_err(IN, O_WRONLY, "0123456789\n", 11), 0);
	cr_expect_eq(mnt_write_err(IN, O_WRONLY, "01234567890\n", 12), -EMSGSIZE);
	mnt_expect_told("EMSGSIZE", "max.message.bytes");
	cr_expect_eq(mnt_write_err(mnt_path("topics/t/in.nul"), O_WRONLY, "01234567890", 12), -EMSGSIZE);
	cr_expect_eq(mnt_write_err(mnt_path("topics/t/keys/k"), O_WRONLY | O_CREAT, "01234567890\n", 12), -EMSGSIZE);
	cr_expect_eq(
	    mnt_write_err(mnt_path("topics/t/in.json"), O_WRONLY, "{\"payload\":\"01234567890\"}\n", 26), -EMSGSIZE);
	cr_expect_eq(mnt_write_err(mnt_path("topics/t/in.json"), O_WRONLY, "{\"payload\":\"0123456789\"}\n", 25), 0);
	mnt_expect(LOG, "0123456789\n0123456789\n");
}

/* What was written part by part is refused as soon as it is too long, and the channel is good for the next message. */
Test(produce, a_message_that_grows_too_long_is_refused)
{
	mnt_write(mnt_path("topics/t/config/max.message.bytes"), "10");
	int fd = mnt_open(IN, O_WRONLY);

	say(fd, "good\n12345678");
	cr_expect_eq(write(fd, "901", 3), -1);
	cr_expect_eq(errno, EMSGSIZE);
	close(fd);
	fd = mnt_open(IN, O_WRONLY);
	cr_expect_eq(write(fd, "a line too long\n", 16), -1);
	cr_expect_eq(errno, EMSGSIZE);
	say(fd, "fine\n");
	close(fd);
	char *log = mnt_read(LOG, NULL);
	cr_expect_eq(strncmp(log, "good\n", 5), 0);
	cr_expect_not_null(strstr(log, "\nfine\n"));
	cr_expect_null(strstr(log, "901"));
	cr_expect_null(strstr(log, "too long"));
	free(log);
}

/* On a channel that goes on after EMSGSIZE, the rest of that message is dropped up to its end, and the next one is taken. */
Test(produce, the_rest_of_a_refused_message_is_dropped)
{
	mnt_write(mnt_path("topics/t/config/max.message.bytes"), "10");
	int fd = mnt_open(IN, O_WRONLY);

	say(fd, "good\n12345678");
	cr_expect_eq(write(fd, "901", 3), -1);
	cr_expect_eq(errno, EMSGSIZE);
	say(fd, "rest of it\nfine\n");
	close(fd);
	mnt_expect(LOG, "good\nfine\n");
}

/* The good records before a refused one are taken, and write says how far it came. */
Test(produce, a_refused_record_does_not_take_good_ones_along)
{
	mnt_write(mnt_path("topics/t/config/max.message.bytes"), "10");
	int fd = mnt_open(IN, O_WRONLY);
	const char *text = "one\ntwo\nmuch too long a line\nthree\n";

	ssize_t n = write(fd, text, strlen(text));
	cr_expect_eq(n, 8, "write took %zd bytes", n);
	cr_expect_eq(write(fd, text + 8, strlen(text) - 8), -1);
	cr_expect_eq(errno, EMSGSIZE);
	close(fd);
	mnt_expect(LOG, "one\ntwo\n");
}

/* One gibibyte without a newline costs EMSGSIZE, not memory. */
Test(produce, a_gibibyte_without_newline_costs_no_memory)
{
	size_t piece = 1 << 20, pieces = 0;
	char *text = malloc(piece);

	mnt_write(mnt_path("topics/t/config/linger.ms"), "0");
	int fd = mnt_open(IN, O_WRONLY | O_APPEND), err = 0;

	mnt_write(IN, "first\n");
	memset(text, 'x', piece);
	while (pieces < 1024) {
		ssize_t n = write(fd, text, piece);
		if (n < 0) {
			err = errno;
			break;
		}
		pieces++;
	}
	cr_expect_eq(err, EMSGSIZE, "write said %s after %zu MiB", strerror(err), pieces);
	cr_expect_leq(pieces, 17, "it took %zu MiB", pieces);
	/* Who ignores the error gets it again, and changes nothing. */
	for (; pieces < 1024; pieces++)
		cr_assert_eq(write(fd, text, piece), -1);
	close(fd);
	free(text);
	mnt_expect(LOG, "first\n");
	cr_expect_lt(
	    mnt_proc(mnt.daemon, "VmHWM"), 200 * 1024, "the daemon grew to %ld KiB", mnt_proc(mnt.daemon, "VmHWM"));
}

/* Who has a channel open when its topic is deleted gets EIDRM from write. */
Test(produce, a_deleted_topic_is_EIDRM)
{
	static const char *const names[] = { "in", "in.json", "in.nul", "0/in", "keys/k" };
	int fds[5];

	for (int i = 0; i < 5; i++)
		fds[i] = mnt_open(mnt_path("topics/t/%s", names[i]), O_WRONLY | O_CREAT);
	cr_assert_eq(rmdir(mnt_path("topics/t")), 0, "%s", strerror(errno));
	for (int i = 0; i < 5; i++) {
		cr_expect_eq(write(fds[i], "{\"payload\":\"\"}\n", 15), -1);
		cr_expect_eq(errno, EIDRM, "%s: %s", names[i], strerror(errno));
		close(fds[i]);
	}
	cr_expect_eq(access(mnt_path("topics/t"), F_OK), -1);
	mnt_expect_told("EIDRM", "deleted");
}

/* A topic of the same name made anew is another: the old channel stays dead, and the new topic is empty. */
Test(produce, a_new_topic_of_the_same_name_is_another)
{
	int fd = mnt_open(IN, O_WRONLY);

	cr_assert_eq(rmdir(mnt_path("topics/t")), 0);
	mnt_topic("t", 1);
	cr_expect_eq(write(fd, "x\n", 2), -1);
	cr_expect_eq(errno, EIDRM);
	close(fd);
	mnt_expect(LOG, "");
}

/* A channel stays good when its topic is renamed. */
Test(produce, renaming_a_topic_keeps_its_channels)
{
	int fd = mnt_open(IN, O_WRONLY | O_APPEND);

	say(fd, "before\n");
	cr_assert_eq(rename(mnt_path("topics/t"), mnt_path("topics/u")), 0, "%s", strerror(errno));
	say(fd, "after\n");
	close(fd);
	mnt_expect(mnt_path("topics/u/0/log"), "before\nafter\n");
}

/* Nothing can be truncated or removed: neither the channels nor the log. */
Test(produce, control_files_cannot_be_cut_or_removed)
{
	static const char *const names[] = { "in", "in.json", "0/in", "0/log", "0/log.json", "info",
		"config/retention.ms", "0/at/0", "purge", "0/purge", "groups/g/ack", "groups/g/offset",
		"groups/g/.next" };

	mnt_group("t", "g");
	mnt_write(IN, "stays\n");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *path = mnt_path("topics/t/%s", names[i]);
		if (strcmp(names[i], "0/log") == 0 || strncmp(names[i], "in", 2) == 0) {
			cr_expect_eq(truncate(path, 0), -1, "truncate %s", names[i]);
			cr_expect_eq(errno, EPERM, "truncate %s: %s", names[i], strerror(errno));
			cr_expect_eq(truncate(path, 3), -1, "truncate %s", names[i]);
			cr_expect_eq(errno, EPERM, "truncate %s: %s", names[i], strerror(errno));
		}
		cr_expect_eq(unlink(path), -1, "unlink %s", names[i]);
		cr_expect_eq(errno, EPERM, "unlink %s: %s", names[i], strerror(errno));
	}
	mnt_expect(LOG, "stays\n");
}
