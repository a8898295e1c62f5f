/*
 * Staging files: what is written into them comes to the log once and in order, whoever asks, fails or dies.
 *
 * The writer is the test, see staging.h. Of queues: test_stage_queue.c. What a start finds: test_stage_recover.c.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/crc32c.h"
#include "engine/local_internal.h"
#include "engine/stage_cut.h"
#include "engine/stage_file.h"
#include "tests/lib/contract.h"
#include "tests/lib/fault.h"
#include "tests/lib/staging.h"

#define STAGE_TEST(name)                                                                                               \
	static void name(struct contract *c);                                                                          \
	Test(stage, name)                                                                                              \
	{                                                                                                              \
		contract_run(true, name);                                                                              \
	}                                                                                                              \
	static void name(struct contract *c)

/* What the engine answers to an opening. */
static int try_stage(struct contract *c, struct engine_object *topic, uint32_t partition, struct engine_span key,
    char delimiter, const struct engine_cred *by, struct engine_stage **ret_stage)
{
	struct engine_producer *producer;

	assert_ok(c->ops->producer_open(topic, partition, key, &producer));
	return staging_open(c, producer, delimiter, by, ret_stage);
}

/* ---- bytes ---- */

/* A header comes back as it was put; one that is torn, or of another store, is told from it. */
Test(stage_file, header)
{
	struct stage_header header = { .id = 7, .target = 9, .partition = 3, .cred = staging_cred, .delimiter = '\0' },
			    back;
	uint8_t uuid[16] = "0123456789abcde", other[16] = "x", bytes[STAGE_DATA];

	header.has_key = true;
	header.key_len = ENGINE_KEY_MAX;
	memset(header.key, 'k', sizeof(header.key));
	stage_header_put(bytes, uuid, &header);
	cr_assert_eq(stage_header_get(bytes, uuid, &back), 0);
	cr_assert_eq(back.id, 7);
	cr_assert(stage_header_same(&header, &back));
	cr_assert_eq(bytes[8], 1);
	header.of_queue = true; /* who knows version 1 only is to leave it alone */
	cr_assert_not(stage_header_same(&header, &back));
	stage_header_put(bytes, uuid, &header);
	cr_assert_eq(bytes[8], 2);
	cr_assert_eq(stage_header_get(bytes, uuid, &back), 0);
	cr_assert(stage_header_same(&header, &back));
	cr_assert_eq(stage_header_get(bytes, other, &back), -EUCLEAN);
	bytes[70] ^= 1;
	cr_assert_eq(stage_header_get(bytes, uuid, &back), -EBADMSG);
	bytes[70] ^= 1;
	bytes[0] ^= 1;
	cr_assert_eq(stage_header_get(bytes, uuid, &back), -EBADMSG);
}

/* Whole, and of a version that is not known, or saying what cannot be. */
Test(stage_file, bad_header)
{
	static const struct {
		size_t at;
		uint8_t byte;
		int rc;
	} rows[] = { { 8, 1, 0 }, { 8, 3, -EUCLEAN }, { 8, 0, -EUCLEAN }, { 28, 0, -EBADMSG }, { 60, '\n', 0 },
		{ 60, 0, 0 }, { 60, ';', -EBADMSG } };
	struct stage_header header = { .id = 7, .target = 9, .delimiter = '\n' }, back;
	uint8_t uuid[16] = "0123456789abcde", bytes[STAGE_DATA];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		stage_header_put(bytes, uuid, &header);
		bytes[rows[i].at] = rows[i].byte;
		bytes_put32(bytes + STAGE_DATA - 4, crc32c(0, bytes, STAGE_DATA - 4));
		cr_expect_eq(stage_header_get(bytes, uuid, &back), rows[i].rc, "row %zu", i);
	}
}

/* An idle file is for another channel only if all that its header says of it is the same. */
Test(stage_file, same)
{
	static const struct stage_header header = {
		.id = 7, .target = 9, .partition = 3, .cred = { 1, 2, 3 }, .has_key = true, .key_len = 1, .key = "k"
	};
	struct stage_header other[] = { header, header, header, header, header, header, header, header, header,
		header };

	other[0].target++;
	other[1].of_queue = true;
	other[2].partition++;
	other[3].delimiter = '\n';
	other[4].cred.uid++;
	other[5].cred.gid++;
	other[6].cred.pid++;
	other[7].has_key = false;
	other[8].key_len++;
	other[9].key[0]++;
	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++)
		cr_expect_not(stage_header_same(&header, &other[i]), "row %zu", i);
	other[0] = header;
	other[0].id++;
	cr_expect(stage_header_same(&header, &other[0]));
}

/* Their names are 16 hexadecimal digits, and nothing else. */
Test(stage_file, names)
{
	uint64_t number = 1;
	char name[STAGE_NAME_SIZE];

	stage_name(name, 0xabc);
	cr_assert_str_eq(name, "0000000000000abc");
	cr_assert(stage_parse_name(name, &number));
	cr_assert_eq(number, 0xabc);
	cr_expect_not(stage_parse_name("000000000000abc", &number));
	cr_expect_not(stage_parse_name("0000000000000ABC", &number));
	cr_expect_not(stage_parse_name("0000000000000ab/", &number));
	cr_expect_not(stage_parse_name("00000000000000abc", &number));
}

/* What is cut off, for bytes, limits and delimiters of all kinds: messages, bytes used, bytes of one that is too long. */
Test(stage_cut, table)
{
	static const struct {
		const char *bytes;
		char delimiter;
		size_t limit, max, used, too_long;
		uint32_t count;
	} rows[] = {
		{ "", '\n', 9, 99, 0, 0, 0 },
		{ "a", '\n', 9, 99, 0, 0, 0 },
		{ "a\n", '\n', 9, 99, 2, 0, 1 },
		{ "\n\n", '\n', 9, 99, 2, 0, 2 },
		{ "a\nb\nc", '\n', 9, 99, 4, 0, 2 },
		{ "a\nb\n", '\n', 9, 1, 2, 0, 1 },
		{ "a\nb\n", '\n', 9, 3, 2, 0, 1 },
		{ "a\nlonger\nb\n", '\n', 5, 99, 2, 7, 1 },
		{ "longer\nb\n", '\n', 5, 99, 0, 7, 0 },
		{ "a;b\n;", ';', 9, 99, 5, 0, 2 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct stage_scratch scratch = { 0 };
		struct stage_cut cut;
		size_t len = strlen(rows[i].bytes);

		cr_assert_eq(stage_scratch_reserve(&scratch, len + 1), 0);
		memcpy(scratch.buf, rows[i].bytes, len);
		cr_assert_eq(stage_cut(&scratch, len, rows[i].delimiter, rows[i].limit, rows[i].max,
				 (struct engine_span){ 0 }, &cut),
		    0);
		cr_assert_eq(cut.batch.count, rows[i].count, "row %zu", i);
		cr_assert_eq(cut.used, rows[i].used, "row %zu", i);
		cr_assert_eq(cut.too_long, rows[i].too_long, "row %zu", i);
		stage_scratch_release(&scratch);
	}
}

/* What needs memory for each message is cut in batches of a fixed count; what needs none, is not. */
Test(stage_cut, count)
{
	static const struct {
		const char *key;
		char delimiter;
		uint32_t count;
	} rows[] = { { NULL, '\0', STAGE_CUT_COUNT }, { "k", '\n', STAGE_CUT_COUNT },
		{ NULL, '\n', STAGE_CUT_COUNT + 9 } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct engine_span key = { rows[i].key, rows[i].key != NULL };
		struct stage_scratch scratch = { 0 };
		struct stage_cut cut;
		size_t len = STAGE_CUT_COUNT + 9;

		cr_assert_eq(stage_scratch_reserve(&scratch, len), 0);
		memset(scratch.buf, rows[i].delimiter, len);
		cr_assert_eq(stage_cut(&scratch, len, rows[i].delimiter, 9, len, key, &cut), 0);
		cr_expect_eq(cut.batch.count, rows[i].count, "row %zu", i);
		cr_expect_eq(cut.used, rows[i].count);
		cr_expect(cut.batch.props == NULL || cut.batch.props[STAGE_CUT_COUNT - 1].key.ptr == key.ptr);
		stage_scratch_release(&scratch);
	}
}

/* ---- taking ---- */

/* Complete messages are there for whoever asks, at once; the part when the channel is closed. */
STAGE_TEST(who_asks_finds_what_was_written)
{
	struct engine_object *topic = staging_topic(c), *group = contract_group(c, topic, "g");
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	struct engine_stage_part part;
	int writer = staging_writer(c, stage);

	staging_text(writer, "a\nb\nhal");
	cr_assert_eq(contract_stat(c, topic).messages, 2);
	staging_text(writer, "f\n");
	cr_assert_eq(contract_partition(c, topic, 0).end, 3);
	staging_text(writer, "c\n");
	cr_assert_eq(contract_stat(c, group).messages, 4);
	staging_text(writer, "d\n");
	assert_text(contract_snapshot(c, group), "0:0=a 0:1=b 0:2=half 0:3=c 0:4=d");
	staging_text(writer, "e\n");
	cr_assert_eq(contract_stat(c, c->root).messages, 6);
	staging_text(writer, "f\n");
	contract_send(c, topic, ENGINE_ANY, "after\n");
	staging_text(writer, "end");
	assert_ok(c->ops->stage->take(stage));
	assert_ok(c->ops->stage->part(stage, &part));
	cr_assert_eq(part.len, 3);
	close(writer);
	assert_ok(c->ops->stage->close(stage, true));
	assert_text(contract_read(c, topic, 0, 0), "0=a 1=b 2=half 3=c 4=d 5=e 6=f 7=after 8=end");
	c->ops->put(group);
	c->ops->put(topic);
}

static bool has_one(struct contract *c, void *ctx)
{
	struct engine_object *group = ctx;
	struct engine_cursor_stat stat;

	(void)c;
	return group->engine->ops->cursor_stat(group, 0, &stat) == 0 && stat.end > 0;
}

/* A reader that waits is woken when the batch is old enough, or large enough, with nobody asking. */
STAGE_TEST(what_lingers_comes_by_itself)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g");
	struct engine_consumer *consumer = contract_consumer(c, group, ENGINE_ANY, ENGINE_CONSUME_STREAM);
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	int writer = staging_writer(c, stage);
	struct contract_waiter waiter;
	char line[101];

	memset(line, 'x', 100);
	line[99] = '\n';
	for (int i = 0; i < 3; i++) {
		if (i == 2) {
			assert_ok(contract_set(c, topic, "linger.ms", "60000"));
			assert_ok(contract_set(c, topic, "batch.size", "1000"));
		}
		if (i == 1) /* long enough for it to be asleep, and be told of the write */
			nanosleep(&(struct timespec){ 0, 400000000 }, NULL);
		contract_waiter_init(&waiter);
		assert_ok(c->ops->consumer_arm(consumer, &waiter.waiter));
		for (int n = 0; n < (i == 2 ? 10 : 1); n++)
			staging_put(writer, line, 100);
		contract_waiter_wait(&waiter);
		contract_fetch(c, consumer);
	}
	cr_assert(has_one(c, group));
	c->ops->consumer_close(consumer);
	close(writer);
	assert_ok(c->ops->stage->close(stage, true));
	c->ops->put(group);
	c->ops->put(topic);
}

/* Too long is told once, wherever it is cut, and takes nothing else along. */
STAGE_TEST(too_long)
{
	struct engine_object *topic = staging_topic(c);
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	int writer = staging_writer(c, stage);
	char *big = malloc(1 << 20);

	assert_ok(contract_set(c, topic, "max.message.bytes", "5"));
	staging_text(writer, "a\n123456\nb\n12345\n");
	assert_err(c->ops->stage->take(stage), EMSGSIZE);
	assert_ok(c->ops->stage->take(stage));
	staging_text(writer, "1234");
	assert_ok(c->ops->stage->take(stage));
	staging_text(writer, "56");
	assert_err(c->ops->stage->take(stage), EMSGSIZE);
	memset(big, 'x', 1 << 20);
	staging_put(writer, big, 1 << 20);
	assert_ok(c->ops->stage->take(stage));
	staging_text(writer, "x\nc\n");
	assert_ok(c->ops->stage->take(stage));
	staging_text(writer, "last-is-too-long");
	close(writer);
	assert_err(c->ops->stage->close(stage, true), EMSGSIZE);
	assert_text(contract_read(c, topic, 0, 0), "0=a 1=b 2=12345 3=c");
	free(big);
	c->ops->put(topic);
}

/* A message longer than what is read at once comes whole, in as many writes and takes as it likes. */
STAGE_TEST(long_messages)
{
	struct engine_object *topic = staging_topic(c);
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	int writer = staging_writer(c, stage);
	const size_t size = 1500000;
	struct engine_view view;
	char *big = malloc(size + 1);

	memset(big, 'm', size);
	big[size] = '\n';
	staging_text(writer, "first\n");
	for (size_t at = 0; at < size + 1; at += 100000) {
		staging_put(writer, big + at, size + 1 - at < 100000 ? size + 1 - at : 100000);
		assert_ok(c->ops->stage->take(stage));
	}
	staging_put(writer, big, size + 1);
	staging_text(writer, "last\n");
	cr_assert_eq(contract_partition(c, topic, 0).end, 4);
	for (uint64_t offset = 1; offset < 3; offset++) {
		assert_ok(c->ops->partition_read(topic, 0, offset, 1, &c->scratch, &view));
		cr_assert_eq(view.batch.len, size + 1);
		cr_assert_eq(memcmp(view.batch.data, big, size + 1), 0);
	}
	close(writer);
	assert_ok(c->ops->stage->close(stage, true));
	free(big);
	c->ops->put(topic);
}

/* With NUL as delimiter newlines are bytes like others; a key goes with every message; who opened the channel, too. */
STAGE_TEST(nul_and_key)
{
	struct engine_object *topic = staging_topic(c);
	struct engine_stage *stage = NULL;
	struct engine_view view;
	int writer;

	assert_ok(try_stage(c, topic, 0, (struct engine_span){ "key", 3 }, '\0', &staging_cred, &stage));
	writer = staging_writer(c, stage);
	staging_put(writer, "a\nb\0c\0\0d\n", 9);
	close(writer);
	assert_ok(c->ops->stage->close(stage, true));
	assert_ok(c->ops->partition_read(topic, 0, 0, 3, &c->scratch, &view));
	cr_assert_eq(view.batch.count, 3);
	cr_assert_eq(view.batch.lengths[0], 3);
	cr_assert_eq(memcmp(view.batch.data, "a\nb\nc\n\n", 7), 0);
	cr_assert_eq(view.batch.props[2].key.len, 3);
	cr_assert_eq(view.batch.cred.pid, 4711);
	cr_assert_eq(view.batch.cred.uid, 1000);
	assert_text(contract_read(c, topic, 0, 3), "3=d\n");
	c->ops->put(topic);
}

/* Without a key partitions are filled in turn, a batch of batch.size bytes at a time. */
STAGE_TEST(turns)
{
	struct engine_object *topic = contract_topic(c, "t", 3);
	struct engine_stage *stage;
	int writer;

	assert_ok(contract_set(c, topic, "linger.ms", "60000"));
	assert_ok(contract_set(c, topic, "batch.size", "4"));
	stage = staging_channel(c, topic, '\n');
	writer = staging_writer(c, stage);
	staging_text(writer, "a\nb\nc\nd\ne\nf\ng\n");
	close(writer);
	assert_ok(c->ops->stage->close(stage, true));
	assert_text(contract_read(c, topic, 0, 0), "0=a 1=b 2=g");
	assert_text(contract_read(c, topic, 1, 0), "0=c 1=d");
	assert_text(contract_read(c, topic, 2, 0), "0=e 1=f");
	c->ops->put(topic);
}

/* A part is dropped for who was killed; what another writes after it begins a message. */
STAGE_TEST(drop_part)
{
	struct engine_object *topic = staging_topic(c);
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	int writer = staging_writer(c, stage);
	struct engine_stage_part part;

	staging_text(writer, "a\nlost");
	assert_ok(c->ops->stage->take(stage));
	assert_ok(c->ops->stage->part(stage, &part));
	assert_ok(c->ops->stage->drop_part(stage, part.len));
	staging_text(writer, "b\n");
	close(writer);
	assert_ok(c->ops->stage->close(stage, true));
	assert_text(contract_read(c, topic, 0, 0), "0=a 1=b");
	c->ops->put(topic);
}

/* A file is used again, by the same and by others, and keeps what the caller knows it by. */
STAGE_TEST(used_again)
{
	const struct engine_cred other = { 1, 2, 3 };
	struct engine_object *topic = staging_topic(c);
	struct engine_stage *first = staging_channel(c, topic, '\n'), *stage;
	struct engine_view view;
	int writer = staging_writer(c, first);

	first->backing = 17;
	staging_text(writer, "a\nb");
	close(writer);
	assert_ok(c->ops->stage->close(first, true));
	stage = staging_channel(c, topic, '\n');
	cr_assert_eq(stage, first);
	cr_assert_eq(stage->backing, 17);
	writer = staging_writer(c, stage);
	staging_text(writer, "c\n");
	close(writer);
	assert_ok(c->ops->stage->close(stage, true));
	assert_ok(try_stage(c, topic, ENGINE_ANY, (struct engine_span){ 0 }, '\n', &other, &stage));
	cr_assert_eq(stage, first);
	writer = staging_writer(c, stage);
	staging_text(writer, "d\n");
	close(writer);
	assert_ok(c->ops->stage->close(stage, true));
	assert_text(contract_read(c, topic, 0, 0), "0=a 1=b 2=c 3=d");
	assert_ok(c->ops->partition_read(topic, 0, 3, 1, &c->scratch, &view));
	cr_assert_eq(view.batch.cred.pid, 3);
	c->ops->put(topic);
}

/* Where a write may be refused for more than its size there is no staging. */
STAGE_TEST(not_always)
{
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_stage *stage;

	assert_ok(contract_set(c, topic, "linger.ms", "0"));
	assert_err(try_stage(c, topic, ENGINE_ANY, (struct engine_span){ 0 }, '\n', &staging_cred, &stage), EAGAIN);
	assert_ok(contract_set(c, topic, "linger.ms", "5"));
	stage = staging_channel(c, topic, '\n');
	assert_err(contract_set(c, topic, "cleanup.policy", "compact"), EBUSY);
	assert_ok(c->ops->stage->close(stage, true));
	assert_ok(contract_set(c, topic, "cleanup.policy", "compact"));
	assert_err(try_stage(c, topic, ENGINE_ANY, (struct engine_span){ 0 }, '\n', &staging_cred, &stage), EAGAIN);
	c->ops->put(topic);
}

/* A topic with staged messages is not empty; once it is removed, what is written is refused. */
STAGE_TEST(removed)
{
	struct engine_object *topic = staging_topic(c);
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	int writer = staging_writer(c, stage);

	staging_text(writer, "a\n");
	assert_err(c->ops->remove(topic), ENOTEMPTY);
	assert_ok(c->ops->partition_purge(topic, ENGINE_ANY, ENGINE_OFFSET_NONE));
	assert_ok(c->ops->remove(topic));
	staging_text(writer, "b\n");
	assert_err(c->ops->stage->take(stage), EIDRM);
	staging_text(writer, "c");
	close(writer);
	assert_err(c->ops->stage->close(stage, true), EIDRM);
	c->ops->put(topic);
}

/* ---- failing ---- */

/* Every change of a file fails once, at every place: nothing is lost or doubled when it goes on. */
STAGE_TEST(every_call_fails_once)
{
	static const int errors[] = { EIO, ENOSPC };
	struct engine_object *topic = staging_topic(c);
	uint64_t next = 0;

	assert_ok(contract_set(c, topic, "segment.bytes", "4096"));
	for (size_t e = 0; e < 2; e++) {
		uint64_t counted = 1;

		for (uint64_t n = 1; counted >= n; n++) {
			struct engine_stage *stage = staging_channel(c, topic, '\n');
			int writer = staging_writer(c, stage);

			fault_arm(FAULT_WRITE | FAULT_TRUNCATE, n, errors[e], false);
			for (int i = 0; i < 4; i++) {
				for (int k = 0; k < 30; k++)
					staging_number(writer, &next);
				(void)c->ops->stage->take(stage);
			}
			counted = fault_disarm();
			staging_number(writer, &next);
			assert_ok(c->ops->stage->take(stage));
			close(writer);
			assert_ok(c->ops->stage->close(stage, true));
			staging_check(c, topic, next, "after a fault");
		}
	}
	c->ops->put(topic);
	contract_reopen(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	staging_check(c, topic, next, "after reopening");
	c->ops->put(topic);
}

/* ---- dying ---- */

/* The engine is closed under a writer, who goes on: the next one takes all of it, and watches as long as he is there. */
STAGE_TEST(a_writer_outlives_the_engine)
{
	struct engine_object *topic = staging_topic(c);
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	int writer = staging_writer(c, stage);
	uint64_t next = 0;

	staging_number(writer, &next);
	assert_ok(c->ops->stage->close(stage, false));
	staging_number(writer, &next);
	c->ops->put(topic);
	contract_close(c);
	staging_number(writer, &next);
	contract_open(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	staging_check(c, topic, next, "at the start");
	staging_number(writer, &next);
	staging_check(c, topic, next, "while it is watched");
	staging_text(writer, "part");
	c->ops->put(topic);
	contract_reopen(c);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	cr_assert_eq(staging_files(c), 1);
	staging_text(writer, "ing\nlost");
	assert_text(contract_read(c, topic, 0, next), "4=parting");
	close(writer);
	contract_wait(c, staging_no_files, NULL, "the file to go");
	cr_assert_eq(contract_partition(c, topic, 0).end, 5);
	c->ops->put(topic);
}

static void take_until_killed(struct contract *c, struct staging_shared *shared)
{
	contract_open(c);
	staging_take_until_killed(c, staging_channel(c, contract_lookup(c, c->root, ENGINE_TOPIC, "t"), '\n'), shared);
}

/* The engine is killed at any moment, again and again, while a writer goes on: all that was written is there, once. */
STAGE_TEST(killed_at_any_moment)
{
	struct staging_shared *shared = staging_share();
	struct engine_object *topic = staging_topic(c);

	assert_ok(contract_set(c, topic, "segment.bytes", "65536"));
	c->ops->put(topic);
	for (int round = 0; round < 25; round++) {
		staging_kill(c, shared, take_until_killed, round % 2 == 1);
		topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
		staging_check(c, topic, atomic_load(&shared->written), "after a kill");
		contract_wait(c, staging_no_files, NULL, "the staging file to go");
		c->ops->put(topic);
	}
	munmap(shared, sizeof(*shared));
}

/* ---- who confirms ---- */

/* What a sync confirms is all that was accepted, by whatever channel, and with it what is in staging files. */
STAGE_TEST(a_sync_takes_what_was_written)
{
	struct engine_object *topic = staging_topic(c);
	struct engine_stage *stage = staging_channel(c, topic, '\n');
	int writer = staging_writer(c, stage);
	struct engine_partition_stat stat;
	struct engine_producer *producer;
	struct plog *plog;

	staging_text(writer, "a\nb\n");
	assert_ok(c->ops->producer_open(topic, ENGINE_ANY, (struct engine_span){ 0 }, &producer));
	assert_ok(contract_sync(c, producer));
	plog = atomic_load(&topic_partition(topic_of_object(object_of(topic)), 0)->plog);
	plog_stat(plog, &stat); /* itself: asking the engine would take it in */
	cr_assert(stat.end == 2 && plog_durable(plog) == 2);
	c->ops->producer_close(producer);
	assert_ok(staging_end(c, stage, writer));
	c->ops->put(topic);
}
