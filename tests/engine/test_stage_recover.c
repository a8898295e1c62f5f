/*
 * What a start finds in staging files: all of it comes to the log, once; what power cuts made of them is no message; and what cannot be
 * read, or has no memory, is kept, told of, and there when it can.
 *
 * The writer is the test, see staging.h. What a start reads fails by tests/lib/alloc.h.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/io.h"
#include "engine/journal.h"
#include "engine/local_stage.h"
#include "tests/lib/alloc.h"
#include "tests/lib/fault.h"
#include "tests/lib/nosync.h"
#include "tests/lib/staging.h"

#define STAGE_TEST(name)                                                                                               \
	static void name(struct contract *c);                                                                          \
	Test(stage_recover, name)                                                                                      \
	{                                                                                                              \
		tmpdir_in_memory();                                                                                    \
		nosync_install();                                                                                      \
		contract_run(true, name);                                                                              \
	}                                                                                                              \
	static void name(struct contract *c)

/* An engine that opens the store is killed when it has done this. c is closed. */
static void killed(struct contract *c, void (*run)(struct contract *c, struct engine_object *topic))
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		contract_open(c);
		run(c, contract_lookup(c, c->root, ENGINE_TOPIC, "t"));
		_exit(0);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* The same, and opens the store. Returns its topic. */
static struct engine_object *open_killed(
    struct contract *c, void (*run)(struct contract *c, struct engine_object *topic))
{
	c->ops->put(staging_topic(c));
	contract_close(c);
	killed(c, run);
	contract_open(c);
	return contract_lookup(c, c->root, ENGINE_TOPIC, "t");
}

/* The file of this number, changed. */
static int open_file(struct contract *c, uint64_t number)
{
	char path[PATH_MAX + 200];
	int fd;

	snprintf(path, sizeof(path), "%s/staging/%016" PRIx64, c->source, number);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0);
	return fd;
}

/* ---- what was taken before ---- */

static void take_and_purge(struct contract *c, struct engine_object *topic)
{
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	int writer = staging_writer(c, stage);

	staging_text(writer, "a\nb\n");
	assert_ok(c->ops->stage->take(stage));
	assert_ok(c->ops->partition_purge(topic, ENGINE_ANY, ENGINE_OFFSET_NONE));
	staging_text(writer, "c\n");
}

/* What came to the log and went from it since is not taken again. */
STAGE_TEST(purged_since)
{
	struct engine_object *topic = open_killed(c, take_and_purge);

	assert_text(contract_read(c, topic, 0, 2), "2=c");
	cr_assert_eq(staging_files(c), 0);
	c->ops->put(topic);
}

/* A message with a key. Returns its writer. */
static int take_keyed(struct contract *c, struct engine_object *topic)
{
	struct engine_producer *producer;
	struct engine_stage *stage;
	int writer;

	assert_ok(c->ops->producer_open(topic, ENGINE_ANY, (struct engine_span){ "key", 3 }, &producer));
	assert_ok(staging_open(c, producer, '\n', &staging_cred, &stage));
	writer = staging_writer(c, stage);
	staging_text(writer, "a\n");
	assert_ok(c->ops->stage->take(stage));
	return writer;
}

static int drop_all(struct plog_compaction *how, uint64_t offset, int64_t ts_ms, const struct engine_props *props)
{
	(void)how, (void)offset, (void)ts_ms, (void)props;
	return 0;
}

static void take_and_compact(struct contract *c, struct engine_object *topic)
{
	struct plog_compaction how = { .segment_bytes = 4096, .before = UINT64_MAX, .keep = drop_all };
	struct plog *plog;
	char line[4000];
	int writer;

	assert_ok(contract_set(c, topic, "segment.bytes", "4096"));
	writer = take_keyed(c, topic);
	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 2] = '\n';
	line[sizeof(line) - 1] = '\0';
	contract_send(c, topic, 0, line); /* stays: it has no key */
	contract_send(c, topic, 0, line); /* in the next segment */
	plog = atomic_load(&topic_partition(topic_of_object(object_of(topic)), 0)->plog);
	assert_ok(plog_sync(plog));
	assert_ok(plog_compact(plog, &how));
	if (how.removed != 1)
		_exit(1);
	staging_text(writer, "b\n");
}

/* Nor what a compaction has taken away, once the topic was compacted. */
STAGE_TEST(compacted_since)
{
	struct engine_object *topic = open_killed(c, take_and_compact);

	cr_assert_eq(contract_partition(c, topic, 0).end, 4);
	assert_text(contract_read(c, topic, 0, 3), "3=b");
	cr_assert_eq(staging_files(c), 0);
	c->ops->put(topic);
}

static void take_with_key(struct contract *c, struct engine_object *topic)
{
	staging_text(take_keyed(c, topic), "b\n");
}

/* Nor is what has keys, which messages of commits have as well. */
STAGE_TEST(with_key)
{
	struct engine_object *topic = open_killed(c, take_with_key);

	assert_text(contract_read(c, topic, 0, 0), "0=a 1=b");
	c->ops->put(topic);
}

static void take_too_long(struct contract *c, struct engine_object *topic)
{
	struct engine_stage *stage;
	int writer;

	assert_ok(contract_set(c, topic, "max.message.bytes", "5"));
	stage = staging_channel(c, topic, '\n');
	writer = staging_writer(c, stage);
	staging_text(writer, "123456");
	assert_err(c->ops->stage->take(stage), EMSGSIZE);
	staging_text(writer, "789\nok\n");
}

/* The rest of a message that was too long is no message. */
STAGE_TEST(within_what_is_too_long)
{
	struct engine_object *topic = open_killed(c, take_too_long);

	assert_text(contract_read(c, topic, 0, 0), "0=ok");
	c->ops->put(topic);
}

/* The journal says that this piece was to come to the log where that ends. */
static void note_piece(struct engine_object *topic, struct engine_stage *stage, const char *piece)
{
	struct stage_state state = stage_state_of((struct stage *)stage);
	struct partition *partition = topic_partition(topic_of_object(object_of(topic)), 0);
	struct engine_partition_stat stat;

	assert_ok(topic->engine->ops->partition_stat(topic, 0, &stat));
	state.len = (uint32_t)strlen(piece);
	state.to = state.taken + state.len;
	state.log_id = partition->log_id;
	state.offset = stat.end;
	state.crc = stage_crc(piece, state.len);
	assert_ok(stage_note((struct stage *)stage, &state));
}

static const char *other;

static void lose_place(struct contract *c, struct engine_object *topic)
{
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	int writer = staging_writer(c, stage);

	note_piece(topic, stage, "long\n");
	contract_send(c, topic, 0, other);
	staging_text(writer, "long\n");
}

/* The append of a piece failed, and so did taking its record back; what came to its place is not taken for it, whatever its length. */
STAGE_TEST(another_has_its_place)
{
	static const char *const others[] = { "x\n", "same\n", "longer\n" };
	char want[64];

	contract_close(c);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		struct engine_object *topic;

		contract_open(c);
		other = others[i];
		topic = open_killed(c, lose_place);
		snprintf(want, sizeof(want), "0=%.*s 1=long", (int)strlen(other) - 1, other);
		assert_text(contract_read(c, topic, 0, 0), want);
		assert_ok(c->ops->partition_purge(topic, ENGINE_ANY, ENGINE_OFFSET_NONE));
		assert_ok(c->ops->remove(topic));
		c->ops->put(topic);
		contract_close(c);
	}
	contract_open(c);
}

static void note_senseless(struct contract *c, struct engine_object *topic)
{
	uint8_t record[STAGE_RECORD + 8] = { 1 };

	for (size_t size = 0; size <= sizeof(record); size += 16)
		assert_ok(journal_append(((struct local *)c->engine)->journal, JOURNAL_STAGE, record, size, NULL));
	take_with_key(c, topic);
}

/* A record that says nothing of any file is passed over. */
STAGE_TEST(senseless_records)
{
	struct engine_object *topic = open_killed(c, note_senseless);

	assert_text(contract_read(c, topic, 0, 0), "0=a 1=b");
	c->ops->health(c->engine, c->text, CONTRACT_TEXT);
	cr_assert_eq(strncmp(c->text, "state ok", 8), 0, "%s", c->text);
	c->ops->put(topic);
}

/* ---- what a power cut left ---- */

static void other_boot_id(uint8_t out[16])
{
	memset(out, 0xff, 16);
}

/* What was written, after another start of the machine, or not: so many messages are there, the last of them this one. */
static void written(struct contract *c, bool other_boot, const char *bytes, size_t size, const char *want, uint64_t end)
{
	struct clock_ops clock = clock_system;
	struct engine_object *topic = staging_topic(c);
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	int writer = staging_writer(c, stage);

	clock.boot_id = other_boot_id;
	assert_ok(c->ops->stage->close(stage, false)); /* the daemon ends; its writer goes on */
	c->ops->put(topic);
	contract_close(c);
	staging_put(writer, bytes, size);
	close(writer);
	clock_now = other_boot ? &clock : &clock_system;
	contract_open(c);
	clock_now = &clock_system;
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	cr_assert_eq(contract_partition(c, topic, 0).end, end);
	assert_text(contract_read(c, topic, 0, end - 1), want);
	cr_assert_eq(staging_files(c), 0);
	c->ops->put(topic);
}

/* What is there of a message, zeros up to the end of a sector, and more messages. */
static const char *zeros_within(char bytes[2048])
{
	memset(bytes, 0, 2048);
	memcpy(bytes, "whole\nh", 7);
	memcpy(bytes + 1024, "alf\nlast\n", 9);
	return bytes;
}

STAGE_TEST(unwritten_sectors_are_no_messages)
{
	char bytes[2048];

	written(c, true, zeros_within(bytes), 1033, "0=whole", 1);
}

STAGE_TEST(zeros_are_bytes_like_others)
{
	char bytes[2048];

	written(c, false, zeros_within(bytes), 1033, "2=last", 3);
}

/* The whole sector, and more behind it than is read at once. */
STAGE_TEST(an_unwritten_sector)
{
	static char bytes[100000];

	for (size_t at = 0; at < sizeof(bytes); at += 8)
		memcpy(bytes + at, "seven..\n", 8);
	memset(bytes + 1024, 0, 512);
	written(c, true, bytes, sizeof(bytes), "127=seven..", 128);
}

#define LINE 24 /* bytes: blocks do not end with a line */

/* Lines in a file that lacks what was at these bytes; the journal says what was taken of it. Returns its topic. */
static struct engine_object *with_hole(struct contract *c, off_t from, off_t to, uint64_t taken)
{
	struct engine_object *topic = staging_topic(c);
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	int writer = staging_writer(c, stage), fd;
	char line[LINE + 1];

	((struct stage *)stage)->taken = taken;
	assert_ok(c->ops->stage->close(stage, false));
	c->ops->put(topic);
	contract_close(c);
	for (int i = 0; i < 1000; i++) {
		snprintf(line, sizeof(line), "%0*d\n", LINE - 1, i);
		staging_put(writer, line, LINE);
	}
	close(writer);
	fd = open_file(c, 1);
	cr_assert_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, to - from), 0);
	close(fd);
	contract_open(c);
	cr_assert_eq(staging_files(c), 0);
	return contract_lookup(c, c->root, ENGINE_TOPIC, "t");
}

/* From the first hole on nothing is taken. */
STAGE_TEST(hole)
{
	struct engine_object *topic = with_hole(c, 8192, 12288, STAGE_DATA);

	cr_assert_eq(contract_partition(c, topic, 0).end, (8192 - STAGE_DATA) / LINE);
	assert_text(contract_read(c, topic, 0, 319), "319=00000000000000000000319");
	c->ops->put(topic);
}

/* If it is where taking would begin, that begins behind it, at a whole message. */
STAGE_TEST(hole_where_taking_begins)
{
	struct engine_object *topic = with_hole(c, 4096, 12288, 4096);

	cr_assert_eq(contract_partition(c, topic, 0).end, 1000 - 491);
	assert_text(contract_read(c, topic, 0, 508), "508=00000000000000000000999");
	c->ops->put(topic);
}

STAGE_TEST(hole_up_to_the_end)
{
	struct engine_object *topic = with_hole(c, 4096, 28672, 4096);

	cr_assert_eq(contract_partition(c, topic, 0).end, 0);
	c->ops->put(topic);
}

/* ---- a file that cannot be read at the start ---- */

static struct {
	const struct io_ops *real;
	_Atomic uint64_t count;
	uint64_t n;
	int err; /* 0: a read has a part */
} reading;

static bool is_file_of(int fd, const char *directory)
{
	char link[64], path[PATH_MAX] = "";

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return readlink(link, path, sizeof(path) - 1) > 0 && strstr(path, directory) != NULL;
}

/* From the n-th read of a staging file on. */
static ssize_t failing_pread(int fd, void *buf, size_t size, off_t pos)
{
	if (!is_file_of(fd, "/staging/") || atomic_fetch_add(&reading.count, 1) + 1 < reading.n)
		return reading.real->pread(fd, buf, size, pos);
	return reading.err ? -reading.err : reading.real->pread(fd, buf, size > 1 ? size / 2 : size, pos);
}

/* Opens the engine, in another start of the machine, with reads that fail. Returns how many messages it has. */
static uint64_t open_and_fail(struct contract *c, uint64_t n, int err)
{
	struct clock_ops clock = clock_system;
	struct io_ops failing = *io;
	struct engine_object *topic;
	uint64_t end;

	reading.real = io;
	reading.n = n;
	reading.err = err;
	atomic_store(&reading.count, 0);
	failing.pread = failing_pread;
	clock.boot_id = other_boot_id;
	io = &failing;
	clock_now = &clock;
	contract_open(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	end = contract_partition(c, topic, 0).end;
	c->ops->put(topic);
	c->ops->health(c->engine, c->text, CONTRACT_TEXT);
	assert_ok(checkpoint_run((struct local *)c->engine)); /* the journal begins anew */
	contract_close(c);
	clock_now = &clock_system;
	io = reading.real;
	return end;
}

/* A message that the log has, as the journal says, and two that it has not. Their writer has gone. */
static void leave_file(struct contract *c, uint64_t *next)
{
	struct engine_object *topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	int writer = staging_writer(c, stage);

	staging_number(writer, next);
	assert_ok(c->ops->stage->take(stage));
	assert_ok(c->ops->stage->close(stage, false));
	c->ops->put(topic);
	contract_close(c);
	staging_number(writer, next);
	staging_number(writer, next);
	close(writer);
}

/* The topic has what it had, the status tells, and the next start has all, once: what was taken in before is not taken again. */
STAGE_TEST(a_file_that_cannot_be_read_is_kept)
{
	static const int errors[] = { EIO, ENOMEM, 0 };
	uint64_t next = 0, failed = 0;

	c->ops->put(staging_topic(c));
	for (size_t e = 0; e < 3; e++) {
		bool reached = true;

		for (uint64_t n = 1; reached; n++) {
			struct engine_object *topic;
			uint64_t end;

			leave_file(c, &next);
			end = open_and_fail(c, n, errors[e]);
			reached = atomic_load(&reading.count) >= n;
			cr_assert_eq(end, reached && errors[e] ? next - 2 : next);
			if (reached && errors[e]) {
				failed++;
				cr_assert_geq(staging_files(c), 1);
				if (n <= 2) /* later ones are of taking it in, which is tried again all the time */
					cr_assert_not_null(
					    strstr(c->text, "staging file"), "read %" PRIu64 ": %s", n, c->text);
			}
			contract_open(c);
			topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
			staging_check(c, topic, next, "when it can be read");
			c->ops->put(topic);
			contract_wait(c, staging_no_files, NULL, "the file to go");
		}
	}
	cr_assert_geq(failed, 4); /* its head, and what is in it */
}

/* ---- the place in the log of what was taken cannot be read ---- */

static void take_confirm_and_write(struct contract *c, struct engine_object *topic)
{
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	int writer = staging_writer(c, stage);

	staging_text(writer, "a\nb\n");
	assert_ok(c->ops->stage->take(stage));
	assert_ok(plog_sync(atomic_load(&topic_partition(topic_of_object(object_of(topic)), 0)->plog)));
	staging_text(writer, "c\n");
}

/* Flips a bit of the only log that has data, in this file of its segment. */
static void flip_in_log(struct contract *c, const char *suffix, off_t pos)
{
	char path[PATH_MAX + 600];
	unsigned done = 0;
	struct dirent *log;
	DIR *logs;

	snprintf(path, sizeof(path), "%s/logs", c->source);
	logs = opendir(path);
	cr_assert_not_null(logs);
	while ((log = readdir(logs)) != NULL) {
		uint8_t byte;
		int fd;

		snprintf(path, sizeof(path), "%s/logs/%.200s/%020d.%s", c->source, log->d_name, 0, suffix);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && pread(fd, &byte, 1, pos) == 1) {
			byte ^= 1;
			cr_assert_eq(pwrite(fd, &byte, 1, pos), 1);
			done++;
		}
		if (fd >= 0)
			close(fd);
	}
	closedir(logs);
	cr_assert_eq(done, 1);
}

/* Reads of the data of logs, of which all fail. */
static ssize_t failing_data_pread(int fd, void *buf, size_t size, off_t pos)
{
	if (!is_file_of(fd, ".data"))
		return reading.real->pread(fd, buf, size, pos);
	atomic_fetch_add(&reading.count, 1);
	return -reading.err;
}

/* Where it was is read as damaged, and it is there once more; what came behind it too. */
static void check_taken_again(struct contract *c)
{
	struct engine_object *topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");

	cr_assert_eq(contract_partition(c, topic, 0).end, 5);
	assert_text(contract_read(c, topic, 0, 2), "2=a 3=b 4=c");
	cr_assert_eq(staging_files(c), 0);
	c->ops->put(topic);
}

/* What was accepted, and came to the log, which a disk has damaged there since, is not lost while the staging file has it. */
STAGE_TEST(its_place_is_damaged)
{
	static const char *const files[] = { "data", "index" };

	c->ops->put(staging_topic(c));
	contract_close(c);
	for (size_t i = 0; i < 2; i++) {
		struct engine_object *topic;

		killed(c, take_confirm_and_write);
		flip_in_log(c, files[i], i == 0 ? 0 : 128 + 20);
		contract_open(c);
		check_taken_again(c);
		topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
		assert_ok(c->ops->partition_purge(topic, ENGINE_ANY, ENGINE_OFFSET_NONE));
		assert_ok(c->ops->remove(topic));
		c->ops->put(topic);
		c->ops->put(staging_topic(c));
		contract_close(c);
	}
	contract_open(c);
}

/* Nor if the disk cannot read it. */
STAGE_TEST(its_place_cannot_be_read)
{
	struct io_ops failing;

	c->ops->put(staging_topic(c));
	contract_close(c);
	killed(c, take_confirm_and_write);
	reading.real = io;
	reading.err = EIO;
	failing = *io;
	failing.pread = failing_data_pread;
	io = &failing;
	contract_open(c);
	io = reading.real;
	check_taken_again(c);
}

#define BLOCK 4096

/* What is taken last begins with a block of the file, and has two. */
static void take_block(struct contract *c, struct engine_object *topic, const char *rest)
{
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	int writer = staging_writer(c, stage);
	char line[2 * BLOCK];

	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 1] = '\n';
	staging_put(writer, line + sizeof(line) - (BLOCK - STAGE_DATA), BLOCK - STAGE_DATA);
	assert_ok(c->ops->stage->take(stage));
	staging_put(writer, line, sizeof(line));
	assert_ok(c->ops->stage->take(stage));
	assert_ok(plog_sync(atomic_load(&topic_partition(topic_of_object(object_of(topic)), 0)->plog)));
	staging_text(writer, rest);
}

static void take_block_and_write(struct contract *c, struct engine_object *topic)
{
	take_block(c, topic, "b\n");
}

static void take_block_only(struct contract *c, struct engine_object *topic)
{
	take_block(c, topic, "");
}

static unsigned told_to_take_again;

static void hear_take_again(void *ctx, int err, const char *text)
{
	(void)ctx;
	(void)err;
	told_to_take_again += strstr(text, "taken in once more") != NULL;
}

/* A start that hears what is told. */
static void open_and_hear(struct contract *c)
{
	struct engine_options options = { .notify = { .fn = hear_take_again } };

	told_to_take_again = 0;
	assert_ok(engine_open(c->source, &options, &c->engine));
	c->ops = c->engine->ops;
	assert_ok(c->ops->get(c->engine, ENGINE_ROOT_ID, &c->root));
}

/* Whose room was given back has come to the log, whatever that reads: what is behind it begins with a message, or there is nothing. */
STAGE_TEST(its_place_is_damaged_and_it_is_gone)
{
	for (unsigned i = 0; i < 2; i++) {
		struct engine_object *topic;
		int fd;

		c->ops->put(staging_topic(c));
		contract_close(c);
		killed(c, i == 0 ? take_block_and_write : take_block_only);
		fd = open_file(c, 1);
		cr_assert_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, BLOCK, (off_t)2 * BLOCK), 0);
		close(fd);
		flip_in_log(c, "data", BLOCK - STAGE_DATA);
		open_and_hear(c);
		topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
		cr_assert_eq(told_to_take_again, 0);
		cr_assert_eq(contract_partition(c, topic, 0).end, i == 0 ? 3 : 2);
		if (i == 0)
			assert_text(contract_read(c, topic, 0, 2), "2=b");
		cr_assert_eq(staging_files(c), 0);
		assert_ok(c->ops->partition_purge(topic, ENGINE_ANY, ENGINE_OFFSET_NONE));
		assert_ok(c->ops->remove(topic));
		c->ops->put(topic);
	}
}

/* One piece from the first data byte on, beyond the first block, and what is behind it. */
static void take_long_and_write(struct contract *c, struct engine_object *topic)
{
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	int writer = staging_writer(c, stage);
	char line[3 * BLOCK - STAGE_DATA];

	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 1] = '\n';
	staging_put(writer, line, sizeof(line));
	assert_ok(c->ops->stage->take(stage));
	assert_ok(plog_sync(atomic_load(&topic_partition(topic_of_object(object_of(topic)), 0)->plog)));
	staging_text(writer, "b\n");
}

/* The first block, which has the header, is never given back; the rest of the piece says that it came to the log, and b is not lost with it. */
STAGE_TEST(its_place_is_damaged_and_its_rest_is_gone)
{
	struct engine_object *topic;
	int fd;

	c->ops->put(staging_topic(c));
	contract_close(c);
	killed(c, take_long_and_write);
	fd = open_file(c, 1);
	cr_assert_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, BLOCK, (off_t)2 * BLOCK), 0);
	close(fd);
	flip_in_log(c, "data", 0);
	open_and_hear(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	cr_assert_eq(told_to_take_again, 0);
	cr_assert_eq(contract_partition(c, topic, 0).end, 2);
	assert_text(contract_read(c, topic, 0, 1), "1=b");
	cr_assert_eq(staging_files(c), 0);
	c->ops->put(topic);
}

/* That it is gone is not believed where the file cannot say so. */
STAGE_TEST(its_place_is_damaged_and_the_file_does_not_tell)
{
	c->ops->put(staging_topic(c));
	contract_close(c);
	killed(c, take_confirm_and_write);
	flip_in_log(c, "data", 0);
	alloc_arm_reads_of("/staging/0", 3, EIO); /* it is opened, its header is read, and this */
	open_and_hear(c);
	cr_assert_geq(alloc_disarm_reads(), 3);
	cr_assert_eq(told_to_take_again, 1);
	check_taken_again(c);
}

/* An error that says nothing of the log: the file is kept as it is, and a start that can look finds all of it there once. */
STAGE_TEST(its_place_cannot_be_looked_at)
{
	static const int errors[] = { EINTR, ENOMEM, EACCES };
	struct engine_object *topic;

	c->ops->put(staging_topic(c));
	contract_close(c);
	killed(c, take_confirm_and_write);
	reading.real = io;
	for (size_t e = 0; e < 3; e++) {
		struct io_ops failing = *io;

		failing.pread = failing_data_pread;
		reading.err = errors[e];
		atomic_store(&reading.count, 0);
		io = &failing;
		contract_open(c);
		io = reading.real;
		cr_assert_geq(atomic_load(&reading.count), 1);
		topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
		cr_assert_eq(contract_partition(c, topic, 0).end, 2);
		cr_assert_eq(staging_files(c), 1);
		c->ops->put(topic);
		contract_close(c);
	}
	contract_open(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	assert_text(contract_read(c, topic, 0, 0), "0=a 1=b 2=c");
	c->ops->put(topic);
}

/* The same, by an engine that is killed: only the log tells that the first of each file was taken. */
static void leave_two(struct contract *c, struct engine_object *topic)
{
	struct engine_stage *stages[2];
	uint64_t next = 0;
	int writers[2];

	for (unsigned i = 0; i < 2; i++) {
		stages[i] = staging_channel(c, topic, '\n');
		writers[i] = staging_writer(c, stages[i]);
		staging_number(writers[i], &next);
		assert_ok(c->ops->stage->take(stages[i]));
	}
	staging_number(writers[0], &next);
	staging_number(writers[0], &next);
}

/* Reads of logs, of which all fail. */
static ssize_t failing_log_pread(int fd, void *buf, size_t size, off_t pos)
{
	if (!is_file_of(fd, "/logs/"))
		return reading.real->pread(fd, buf, size, pos);
	atomic_fetch_add(&reading.count, 1);
	return -ENOMEM;
}

/* A start in which they do. The journal begins anew, or its n-th write fails: then it does not. Returns how many there were. */
static uint64_t open_without_logs(struct contract *c, uint64_t n)
{
	struct io_ops failing = *io;
	uint64_t writes;

	reading.real = io;
	failing.pread = failing_log_pread;
	atomic_store(&reading.count, 0);
	io = &failing;
	contract_open(c);
	cr_assert_gt(atomic_load(&reading.count), 0);
	c->ops->health(c->engine, c->text, CONTRACT_TEXT);
	cr_assert_not_null(strstr(c->text, "staging file"), "%s", c->text);
	fault_arm(FAULT_WRITE | FAULT_MINE, n, EIO, false);
	(void)checkpoint_run((struct local *)c->engine);
	writes = fault_disarm();
	io = reading.real;
	c->ops->put(c->root);
	(void)c->ops->close(c->engine);
	cr_assert_eq(staging_files(c), 2);
	return writes;
}

/*
 * What was taken in of a file follows from its log, which cannot be read at a start: then what the journal says of the file stays,
 * however often it begins anew, or fails to, and nothing is taken twice when the log can be read again.
 */
STAGE_TEST(whose_log_cannot_be_read_is_kept)
{
	struct engine_object *topic;
	uint64_t n = 1;

	c->ops->put(staging_topic(c));
	contract_close(c);
	killed(c, leave_two);
	while (open_without_logs(c, n) >= n)
		n++;
	cr_assert_gt(n, 2);
	open_without_logs(c, UINT64_MAX);
	contract_open(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	staging_check(c, topic, 4, "when its log can be read");
	c->ops->put(topic);
	cr_assert_eq(staging_files(c), 0);
}

/* ---- each call of a start fails once ---- */

static struct {
	void (*leave)(struct contract *c, struct engine_object *topic); /* LEFT messages: the numbers from next on */
	uint64_t next;
	void (*arm)(uint64_t n); /* what fails: the n-th */
	uint64_t (*disarm)(void);
	unsigned files; /* that are left */
} failing;
#define LEFT 4u

static void put_long(int writer)
{
	static char line[40000]; /* more than is read at once */

	memset(line, ' ', sizeof(line));
	line[snprintf(line, 32, "%" PRIu64, failing.next++)] = ' ';
	line[sizeof(line) - 1] = '\n';
	staging_put(writer, line, sizeof(line));
}

/* One file of which the log has something, and one of which the journal says nothing. */
static void leave_both(struct contract *c, struct engine_object *topic)
{
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	int writer = staging_writer(c, stage);

	staging_number(writer, &failing.next);
	assert_ok(c->ops->stage->take(stage));
	put_long(writer);
	writer = staging_writer(c, staging_channel(c, topic, '\n'));
	put_long(writer);
	staging_number(writer, &failing.next);
}

/* A piece to whose place something came by a commit, and that looks like it. */
static void leave_beaten(struct contract *c, struct engine_object *topic)
{
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	struct engine_object *queue = contract_lookup(c, c->root, ENGINE_QUEUE, "q"), *tx;
	static const struct engine_owner owner = { 0, 0, 0755 };
	int writer = staging_writer(c, stage);
	struct engine_producer *producer;
	struct engine_batch batch;
	char line[32], name[32];

	snprintf(line, sizeof(line), "%" PRIu64 "\n", failing.next);
	snprintf(name, sizeof(name), "tx%" PRIu64, failing.next);
	batch = contract_batch(line);
	note_piece(topic, stage, line);
	assert_ok(c->ops->create(c->engine, c->root, ENGINE_TX, name, &owner, &tx));
	for (unsigned i = 0; i < 2; i++) {
		assert_ok(c->ops->tx->producer_open(
		    tx, i == 0 ? topic : queue, ENGINE_ANY, false, (struct engine_span){ 0 }, &producer));
		assert_ok(c->ops->producer_send(producer, &batch, NULL));
		c->ops->producer_close(producer);
	}
	assert_ok(c->ops->tx->commit(tx));
	for (unsigned i = 0; i < 3; i++)
		staging_number(writer, &failing.next);
}

static int try_open(struct contract *c)
{
	struct engine_options options = { 0 };
	int rc = engine_open(c->source, &options, &c->engine);

	if (rc < 0)
		return rc;
	c->ops = c->engine->ops;
	return c->ops->get(c->engine, ENGINE_ROOT_ID, &c->root);
}

/* How many messages there are of these numbers; `twice` is how often the first of each LEFT may be there. */
static uint64_t count_each(struct contract *c, unsigned twice)
{
	struct engine_object *topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	uint64_t end = contract_partition(c, topic, 0).end;
	unsigned *seen = calloc(failing.next, sizeof(*seen));
	struct engine_view view;

	for (uint64_t offset = 0; offset < end; offset++) {
		uint64_t number;

		assert_ok(c->ops->partition_read(topic, 0, offset, 1, &c->scratch, &view));
		number = strtoull(view.batch.data, NULL, 10);
		cr_assert_lt(number, failing.next);
		cr_assert_leq(++seen[number], number % LEFT == 0 ? twice : 1, "message %" PRIu64, number);
	}
	free(seen);
	c->ops->put(topic);
	return end;
}

/* A start that fails, or tells what has to wait, and has it later; or has all. Returns how many calls could have failed. */
static uint64_t open_failing(struct contract *c, uint64_t n, unsigned twice)
{
	uint64_t calls;
	int rc;

	failing.arm(n);
	rc = try_open(c);
	calls = failing.disarm();
	if (rc < 0) {
		cr_assert(calls >= n && (rc == -ENOMEM || rc == -EMFILE || rc == -EIO), "%" PRIu64 ": %d", n, rc);
		return calls;
	}
	c->ops->health(c->engine, c->text, CONTRACT_TEXT);
	if (strncmp(c->text, "state ok", 8) == 0) {
		contract_wait(c, staging_no_files, NULL, "the files to go");
		cr_assert_eq(count_each(c, twice), failing.next, "%" PRIu64, n);
	}
	contract_close(c);
	return calls;
}

/* `twice`: messages of a number whose remainder by LEFT is 0. */
static void each_fails(struct contract *c, unsigned twice)
{
	static const struct engine_owner owner = { 0, 0, 0755 };
	struct clock_ops clock = clock_system;
	struct engine_object *queue;
	uint64_t n = 0, calls;

	clock.boot_id = other_boot_id; /* of the starts that fail: they look for what was never written */
	assert_ok(c->ops->create(c->engine, c->root, ENGINE_QUEUE, "q", &owner, &queue));
	c->ops->put(queue);
	c->ops->put(staging_topic(c));
	contract_close(c);
	do {
		if (staging_files(c) < failing.files) {
			killed(c, failing.leave);
			failing.next += LEFT;
		}
		clock_now = &clock;
		calls = open_failing(c, ++n, twice);
		clock_now = &clock_system;
	} while (calls >= n);
	contract_open(c);
	contract_wait(c, staging_no_files, NULL, "the files to go");
	cr_assert_eq(count_each(c, twice), failing.next);
	cr_assert_gt(n, 4);
}

/* Allocations, from the first read of the journal on. */
static struct {
	struct io_ops ops;
	const struct io_ops *real;
	uint64_t n;
	bool armed;
} from_journal;

static ssize_t arming_pread(int fd, void *buf, size_t size, off_t pos)
{
	if (!from_journal.armed && is_file_of(fd, "/journal/")) {
		from_journal.armed = true;
		alloc_arm(from_journal.n);
	}
	return from_journal.real->pread(fd, buf, size, pos);
}

static void arm_allocs(uint64_t n)
{
	from_journal.real = io;
	from_journal.ops = *io;
	from_journal.ops.pread = arming_pread;
	from_journal.n = n;
	from_journal.armed = false;
	io = &from_journal.ops;
}

static uint64_t disarm_allocs(void)
{
	io = from_journal.real;
	return alloc_disarm();
}

static void stages_eio(uint64_t n)
{
	alloc_arm_reads_of("/staging", n, EIO);
}

static void stages_emfile(uint64_t n)
{
	alloc_arm_reads_of("/staging", n, EMFILE);
}

static void logs_emfile(uint64_t n)
{
	alloc_arm_reads_of("/logs", n, EMFILE);
}

static void logs_eio(uint64_t n)
{
	alloc_arm_reads_of("/logs", n, EIO);
}

STAGE_TEST(each_allocation_fails)
{
	failing.leave = leave_both;
	failing.files = 2;
	failing.arm = arm_allocs;
	failing.disarm = disarm_allocs;
	each_fails(c, 1);
}

STAGE_TEST(each_read_fails)
{
	failing.leave = leave_both;
	failing.files = 2;
	failing.arm = stages_eio;
	failing.disarm = alloc_disarm_reads;
	each_fails(c, 1);
}

STAGE_TEST(each_descriptor_fails)
{
	failing.leave = leave_both;
	failing.files = 2;
	failing.arm = stages_emfile;
	failing.disarm = alloc_disarm_reads;
	each_fails(c, 1);
}

/* What the log cannot give once, and then can, was taken from the file. */
STAGE_TEST(each_read_of_logs_fails)
{
	failing.leave = leave_both;
	failing.files = 2;
	failing.arm = logs_eio;
	failing.disarm = alloc_disarm_reads;
	each_fails(c, 1);
}

/* What came by the commit is not taken for the piece because it cannot be looked at. */
STAGE_TEST(each_allocation_fails_beside_a_commit)
{
	failing.leave = leave_beaten;
	failing.files = 1;
	failing.arm = arm_allocs;
	failing.disarm = disarm_allocs;
	each_fails(c, 2);
}

STAGE_TEST(each_descriptor_of_logs_fails_beside_a_commit)
{
	failing.leave = leave_beaten;
	failing.files = 1;
	failing.arm = logs_emfile;
	failing.disarm = alloc_disarm_reads;
	each_fails(c, 2);
}

/* ---- what is there ---- */

/* Files of closed channels, all taken, that a killed engine had no time to empty are removed, and not taken again. */
STAGE_TEST(killed_with_idle_files)
{
	struct engine_object *topic = staging_topic(c);
	int status;
	pid_t child;

	c->ops->put(topic);
	contract_close(c);
	child = fork();
	if (child == 0) {
		struct engine_stage *stages[3];

		contract_open(c);
		topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
		for (int i = 0; i < 3; i++)
			stages[i] = staging_channel(c, topic, '\n');
		for (int i = 0; i < 3; i++) {
			int writer = staging_writer(c, stages[i]);

			staging_text(writer, "x\n");
			close(writer);
			assert_ok(c->ops->stage->close(stages[i], true));
		}
		kill(getpid(), SIGKILL);
	}
	waitpid(child, &status, 0);
	contract_open(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	cr_assert_eq(staging_files(c), 0);
	assert_text(contract_read(c, topic, 0, 0), "0=x 1=x 2=x");
	c->ops->put(topic);
}

/*
 * A file without a header, one of a topic there is no more, and one that says a topic is a queue are removed; other files, and links, are
 * left, and so is what goes away just then.
 */
STAGE_TEST(leftovers)
{
	struct engine_object *topic = staging_topic(c), *there = contract_topic(c, "there", 1);
	struct stage_header header = {
		.id = 7, .target = contract_id(c, there), .of_queue = true, .cred = staging_cred, .delimiter = '\n'
	};
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	int writer = staging_writer(c, stage), fd;
	char path[PATH_MAX + 200];
	uint8_t bytes[STAGE_DATA];

	stage_header_put(bytes, ((struct local *)c->engine)->store.uuid, &header);
	assert_ok(c->ops->stage->close(stage, false));
	assert_ok(c->ops->remove(topic));
	staging_text(writer, "x\n");
	close(writer);
	c->ops->put(topic);
	c->ops->put(there);
	contract_close(c);
	fd = open_file(c, 77);
	staging_text(fd, "no header");
	close(fd);
	fd = open_file(c, 78);
	cr_assert_eq(write(fd, bytes, sizeof(bytes)), STAGE_DATA);
	staging_text(fd, "x\n");
	close(fd);
	snprintf(path, sizeof(path), "%s/staging/other", c->source);
	close(open(path, O_WRONLY | O_CREAT, 0600));
	snprintf(path, sizeof(path), "%s/staging/%016x", c->source, 79);
	cr_assert_eq(symlink("other", path), 0);
	contract_open(c);
	cr_assert_eq(staging_files(c), 2);
	cr_assert_eq(contract_stat(c, c->root).messages, 0);
	c->ops->health(c->engine, c->text, CONTRACT_TEXT);
	cr_assert_eq(strncmp(c->text, "state ok", 8), 0, "%s", c->text);
}

static void write_behind_a_damaged_header(struct contract *c, struct engine_object *topic)
{
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	int writer = staging_writer(c, stage), fd;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", writer);
	staging_text(writer, "x\n");
	fd = open(path, O_WRONLY | O_CLOEXEC); /* that one appends */
	cr_assert_eq(pwrite(fd, "X", 1, 100), 1);
}

/*
 * What is behind a header that is not whole was written all the same: it was removed without a word. The file is kept under another
 * name, its number is not given again, and one with zeros only goes.
 */
STAGE_TEST(damaged_header)
{
	static const char zeros[5000];
	char path[PATH_MAX + 200], text[STAGE_DATA + 2];
	struct engine_object *topic = staging_topic(c);
	struct engine_stage *stage;
	int fd;

	c->ops->put(topic);
	contract_close(c);
	killed(c, write_behind_a_damaged_header);
	fd = open_file(c, 77);
	cr_assert_eq(write(fd, zeros, sizeof(zeros)), sizeof(zeros));
	close(fd);
	contract_open(c);
	cr_assert_eq(staging_files(c), 1);
	snprintf(path, sizeof(path), "%s/staging/%016x.damaged", c->source, 1);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	cr_assert_eq(read(fd, text, sizeof(text)), sizeof(text));
	cr_assert_eq(memcmp(text + STAGE_DATA, "x\n", 2), 0);
	close(fd);
	c->ops->health(c->engine, c->text, CONTRACT_TEXT);
	cr_assert_eq(strncmp(c->text, "state ok", 8), 0, "%s", c->text);
	contract_close(c);
	contract_open(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	stage = staging_channel(c, topic, '\n');
	snprintf(path, sizeof(path), "%s/staging/%016x", c->source, 1);
	cr_assert_eq(access(path, F_OK), -1);
	assert_ok(c->ops->stage->close(stage, false));
	c->ops->put(topic);
}

static int failing_rename(int old_dirfd, const char *old_name, int new_dirfd, const char *new_name)
{
	return strstr(new_name, STAGE_DAMAGED) != NULL ? -EIO
						       : reading.real->rename(old_dirfd, old_name, new_dirfd, new_name);
}

/* One that cannot be kept under another name, or of which it cannot be read whether anything is in it, is told of, and the next time. */
STAGE_TEST(damaged_header_that_stays)
{
	char path[PATH_MAX + 200];

	c->ops->put(staging_topic(c));
	contract_close(c);
	killed(c, write_behind_a_damaged_header);
	snprintf(path, sizeof(path), "%s/staging/%016x", c->source, 1);
	for (unsigned i = 0; i < 2; i++) {
		struct io_ops failing_ops = *io;

		reading.real = io;
		reading.n = 2; /* the first is of the header */
		reading.err = EIO;
		atomic_store(&reading.count, 0);
		if (i == 0)
			failing_ops.pread = failing_pread;
		else
			failing_ops.rename = failing_rename;
		io = &failing_ops;
		contract_open(c);
		c->ops->health(c->engine, c->text, CONTRACT_TEXT);
		cr_assert_not_null(strstr(c->text, "staging file 0000000000000001 cannot be read"), "%s", c->text);
		cr_assert_eq(access(path, F_OK), 0);
		contract_close(c);
		io = reading.real;
	}
	contract_open(c);
	cr_assert_eq(access(path, F_OK), -1);
	strcat(path, STAGE_DAMAGED);
	cr_assert_eq(access(path, F_OK), 0);
}

/* What is named like one that was set aside, and is none, takes no number. */
STAGE_TEST(not_set_aside)
{
	static const char *const names[] = { "00000000000000ff.damages", "00000000000000fg.damaged",
		"00000000000000ff.damag" };
	struct engine_object *topic = staging_topic(c);
	struct engine_stage *stage;
	char path[PATH_MAX + 200];

	c->ops->put(topic);
	contract_close(c);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/staging/%s", c->source, names[i]);
		close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
		cr_assert_eq(access(path, F_OK), 0);
	}
	contract_open(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	stage = staging_channel(c, topic, '\n');
	cr_assert_eq(((struct stage *)stage)->number, 1);
	assert_ok(c->ops->stage->close(stage, false));
	c->ops->put(topic);
}

static struct contract *of_call;

static void remove_file(void)
{
	char path[PATH_MAX + 200];

	snprintf(path, sizeof(path), "%s/staging/%016x", of_call->source, 1);
	cr_assert_eq(unlink(path), 0);
}

/* Whoever removes a file takes what is in it away, and nothing else. */
STAGE_TEST(removed_while_it_is_looked_for)
{
	uint64_t next = 0;

	c->ops->put(staging_topic(c));
	leave_file(c, &next);
	of_call = c;
	alloc_before_read_of("/staging/0", 1, remove_file);
	contract_open(c);
	alloc_disarm_reads();
	c->ops->health(c->engine, c->text, CONTRACT_TEXT);
	cr_assert_eq(strncmp(c->text, "state ok", 8), 0, "%s", c->text);
	cr_assert_eq(contract_stat(c, c->root).messages, 1);
}

static void leave_three(struct contract *c, struct engine_object *topic)
{
	uint64_t next = 0;

	for (int i = 0; i < 3; i++)
		staging_number(staging_writer(c, staging_channel(c, topic, '\n')), &next);
}

/* In whatever order they are listed: a channel gets a new one, with a number above those of all. */
STAGE_TEST(numbers)
{
	struct engine_object *topic = staging_topic(c);
	struct engine_stage *stage;
	char paths[4][PATH_MAX + 200], name[PATH_MAX + 200];
	int writers[3];

	c->ops->put(topic);
	contract_close(c);
	killed(c, leave_three);
	for (int i = 0; i < 3; i++)
		writers[i] = open_file(c, (uint64_t)i + 1);
	for (int i = 0; i < 4; i++)
		snprintf(paths[i], sizeof(paths[i]), "%s/staging/%016x", c->source, i == 3 ? 5 : i + 1);
	cr_assert_eq(rename(paths[1], paths[3]), 0); /* made in the order 1, 5, 4 */
	snprintf(name, sizeof(name), "%s/staging/%016x", c->source, 4);
	cr_assert_eq(rename(paths[2], name), 0);
	contract_open(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	cr_assert_eq(contract_partition(c, topic, 0).end, 3);
	stage = staging_channel(c, topic, '\n');
	cr_assert_eq(((struct stage *)stage)->number, 6);
	for (int i = 0; i < 3; i++)
		close(writers[i]);
	assert_ok(c->ops->stage->close(stage, true));
	c->ops->put(topic);
}

/* ---- read-only ---- */

/* What lingers is taken in first, which writes; if it cannot be looked for, status tells. There may be no directory for it. */
STAGE_TEST(read_only)
{
	char path[PATH_MAX + 200];
	uint64_t n = 0, calls;

	c->ops->put(staging_topic(c));
	contract_close(c);
	killed(c, leave_three);
	do {
		alloc_arm_reads_of("/staging", ++n, EIO);
		contract_open_read_only(c);
		calls = alloc_disarm_reads();
		cr_assert_geq(calls, n);
		c->ops->health(c->engine, c->text, CONTRACT_TEXT);
		cr_assert(contract_stat(c, c->root).messages == 3 || strstr(c->text, "staging file") != NULL,
		    "%" PRIu64 " of %" PRIu64 ": %s", n, calls, c->text);
		contract_close(c);
	} while (n < 3);
	contract_open_read_only(c);
	cr_assert_eq(contract_stat(c, c->root).messages, 3);
	cr_assert_eq(staging_files(c), 0);
	contract_close(c);
	snprintf(path, sizeof(path), "%s/staging", c->source);
	cr_assert_eq(rmdir(path), 0);
	contract_open_read_only(c);
	c->ops->health(c->engine, c->text, CONTRACT_TEXT);
	cr_assert_null(strstr(c->text, "staging file"), "%s", c->text);
	contract_close(c);
	contract_open(c);
}
