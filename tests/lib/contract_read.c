/* The contract of engines: reading partitions, purging, retention, and the numbers of topics. */
#include "tests/lib/contract.h"

#include <time.h>

/* Reading can begin at every offset, and goes on where the view before ended, over batches of all sizes. */
void contract_test_read_at_every_offset(struct contract *c)
{
	static const char *const from[] = { "0=a 1=b 2=c 3= 4=e 5=f", "1=b 2=c 3= 4=e 5=f", "2=c 3= 4=e 5=f",
		"3= 4=e 5=f", "4=e 5=f", "5=f", "" };
	struct engine_object *topic = contract_topic(c, "t", 1);

	contract_send(c, topic, 0, "a\n");
	contract_send(c, topic, 0, "b\nc\n\n");
	contract_send(c, topic, 0, "e\nf\n");
	for (uint64_t offset = 0; offset <= 6; offset++)
		assert_text(contract_read(c, topic, 0, offset), from[offset]);
	c->ops->put(topic);
}

/* A read gives at most max_count messages, at least one, and never reaches into the next batch. */
void contract_test_read_limits(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_view view;

	contract_send(c, topic, 0, "a\nb\nc\nd\n");
	contract_send_at(c, topic, 0, 1, "e\n");
	assert_ok(contract_set(c, topic, "retention.ms", "-1"));
	for (uint32_t max = 1; max <= 3; max++) {
		assert_ok(c->ops->partition_read(topic, 0, 1, max, &c->scratch, &view));
		cr_assert(view.batch.count >= 1 && view.batch.count <= max);
		cr_assert_eq(view.offset, 1);
	}
	assert_ok(c->ops->partition_read(topic, 0, 0, UINT32_MAX, &c->scratch, &view));
	cr_assert_leq(view.batch.count, 4);
	c->ops->put(topic);
}

/* The end and beyond is ENODATA, below the earliest ESTALE, no such partition ENOENT; the view stays untouched. */
void contract_test_read_errors(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_view view = { .offset = 77 };
	struct engine_partition_stat stat;
	uint64_t offset;
	char buf[8];

	contract_send(c, topic, 0, "a\nb\nc\n");
	assert_ok(c->ops->partition_purge(topic, 0, 2));
	assert_err(c->ops->partition_read(topic, 0, 1, 1, &c->scratch, &view), ESTALE);
	assert_err(c->ops->partition_read(topic, 0, 3, 1, &c->scratch, &view), ENODATA);
	assert_err(c->ops->partition_read(topic, 0, UINT64_MAX, 1, &c->scratch, &view), ENODATA);
	assert_err(c->ops->partition_read(topic, 1, 0, 1, &c->scratch, &view), ENOENT);
	assert_err(c->ops->partition_read(topic, ENGINE_ANY, 0, 1, &c->scratch, &view), ENOENT);
	assert_err(c->ops->partition_stat(topic, 1, &stat), ENOENT);
	assert_err(c->ops->partition_pread(topic, 1, 0, buf, sizeof(buf)), ENOENT);
	assert_err(c->ops->partition_find_time(topic, 1, 0, &offset), ENOENT);
	cr_assert_eq(view.offset, 77);
	c->ops->put(topic);
}

/* The log's bytes can be read from every position, in pieces of every size, and are the payloads with newlines. */
void contract_test_pread(struct contract *c)
{
	static const char whole[] = "alpha\n\nbeta\ngamma\n";
	struct engine_object *topic = contract_topic(c, "t", 1);
	char buf[64];

	cr_assert_eq(c->ops->partition_pread(topic, 0, 0, buf, sizeof(buf)), 0);
	contract_send(c, topic, 0, "alpha\n\n");
	contract_send(c, topic, 0, "beta\n");
	contract_send(c, topic, 0, "gamma\n");
	for (size_t pos = 0; pos < sizeof(whole); pos++) {
		for (size_t size = 1; size <= sizeof(whole); size++) {
			size_t done = 0;
			ssize_t got;

			while (done < size &&
			       (got = c->ops->partition_pread(topic, 0, pos + done, buf + done, size - done)) != 0) {
				cr_assert_gt(got, 0);
				done += (size_t)got;
			}
			cr_assert_eq(done, size < sizeof(whole) - 1 - pos ? size : sizeof(whole) - 1 - pos);
			cr_assert_eq(memcmp(buf, whole + pos, done), 0);
		}
	}
	cr_assert_eq(c->ops->partition_pread(topic, 0, 1000, buf, sizeof(buf)), 0);
	assert_ok(c->ops->partition_purge(topic, 0, 2));
	cr_assert_eq(contract_partition(c, topic, 0).start_pos, 7);
	assert_err(c->ops->partition_pread(topic, 0, 6, buf, 1), ESTALE);
	cr_assert_eq(c->ops->partition_pread(topic, 0, 7, buf, 5), 5);
	cr_assert_eq(memcmp(buf, "beta\n", 5), 0);
	c->ops->put(topic);
}

/* Lines that came in at one time and were sent with another. */
static void send_dated(
    struct contract *c, struct engine_object *topic, int64_t came_ms, int64_t sent_ms, const char *line)
{
	struct engine_producer *producer = contract_producer(c, topic, 0);
	struct engine_batch batch = contract_batch(line);
	struct engine_props props = ENGINE_PROPS_INIT;

	props.ts_ms = sent_ms;
	batch.props = &props;
	batch.ts_ms = came_ms;
	assert_ok(contract_send_batch(c, producer, &batch));
	c->ops->producer_close(producer);
}

/* A time is found as the first message that did not come in before it; the end, if all did. */
void contract_test_find_time(struct contract *c)
{
	static const struct {
		int64_t ts_ms;
		uint64_t offset;
	} rows[] = { { 0, 0 }, { 999, 0 }, { 1000, 0 }, { 1001, 2 }, { 1500, 2 }, { 2000, 2 }, { 2001, 3 }, { 3000, 3 },
		{ 3001, 5 }, { INT64_MAX, 5 } };
	struct engine_object *topic = contract_topic(c, "t", 1);
	uint64_t offset = 99;

	assert_ok(contract_set(c, topic, "retention.ms", "-1"));
	assert_ok(c->ops->partition_find_time(topic, 0, 0, &offset));
	cr_assert_eq(offset, 0);
	contract_send_at(c, topic, 0, 1000, "a\nb\n");
	send_dated(c, topic, 2000, 5, "c\n");
	contract_send_at(c, topic, 0, 3000, "d\n");
	send_dated(c, topic, 3000, 9000, "e\n");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_ok(c->ops->partition_find_time(topic, 0, rows[i].ts_ms, &offset));
		cr_assert_eq(offset, rows[i].offset, "%" PRId64 " finds %" PRIu64, rows[i].ts_ms, offset);
	}
	assert_ok(c->ops->partition_purge(topic, 0, 3));
	assert_ok(c->ops->partition_find_time(topic, 0, 0, &offset));
	cr_assert_eq(offset, 3);
	c->ops->put(topic);
}

/* Purging takes what is below an offset, in the middle of a batch too; what is left keeps its offsets and positions. */
void contract_test_purge_before(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 2);
	struct engine_partition_stat stat;

	contract_send(c, topic, 0, "aa\nb\n");
	contract_send(c, topic, 0, "c\nd\n");
	contract_send(c, topic, 1, "x\n");
	assert_ok(c->ops->partition_purge(topic, 0, 1));
	assert_text(contract_read(c, topic, 0, 1), "1=b 2=c 3=d");
	assert_ok(c->ops->partition_purge(topic, 0, 3));
	assert_ok(c->ops->partition_purge(topic, 0, 3));
	assert_ok(c->ops->partition_purge(topic, 0, 0));
	stat = contract_partition(c, topic, 0);
	cr_assert(stat.earliest == 3 && stat.end == 4 && stat.start_pos == 7 && stat.end_pos == 9);
	assert_text(contract_read(c, topic, 0, 3), "3=d");
	assert_text(contract_read(c, topic, 1, 0), "0=x");
	contract_send(c, topic, 0, "e\n");
	assert_text(contract_read(c, topic, 0, 3), "3=d 4=e");
	c->ops->put(topic);
}

/* A purge of all leaves nothing but the place where the next message goes. */
void contract_test_purge_all(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_partition_stat stat;

	assert_ok(c->ops->partition_purge(topic, 0, ENGINE_OFFSET_NONE)); /* there is nothing: no error */
	contract_send(c, topic, 0, "a\nb\n");
	assert_ok(c->ops->partition_purge(topic, 0, ENGINE_OFFSET_NONE));
	stat = contract_partition(c, topic, 0);
	cr_assert(stat.earliest == 2 && stat.end == 2 && stat.start_pos == 4 && stat.end_pos == 4);
	cr_assert_eq(contract_stat(c, topic).messages, 0);
	contract_send(c, topic, 0, "c\n");
	assert_text(contract_read(c, topic, 0, 2), "2=c");
	assert_ok(c->ops->partition_purge(topic, 0, 3)); /* the end, by its number */
	cr_assert_eq(contract_partition(c, topic, 0).earliest, 3);
	c->ops->put(topic);
}

/* Every partition can be purged at once. */
void contract_test_purge_every_partition(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 3);

	for (uint32_t p = 0; p < 3; p++)
		contract_send(c, topic, p, "a\nb\n");
	assert_ok(c->ops->partition_purge(topic, ENGINE_ANY, ENGINE_OFFSET_NONE));
	for (uint32_t p = 0; p < 3; p++)
		cr_assert_eq(contract_partition(c, topic, p).earliest, 2);
	cr_assert_eq(contract_stat(c, topic).messages, 0);
	c->ops->put(topic);
}

/* Above the end is ERANGE, no such partition ENOENT, and nothing is purged. */
void contract_test_purge_errors(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1);

	contract_send(c, topic, 0, "a\nb\n");
	assert_err(c->ops->partition_purge(topic, 0, 3), ERANGE);
	assert_err(c->ops->partition_purge(topic, 1, 0), ENOENT);
	assert_err(c->ops->partition_purge(topic, 1, ENGINE_OFFSET_NONE), ENOENT);
	assert_text(contract_read(c, topic, 0, 0), "0=a 1=b");
	c->ops->put(topic);
}

/* Stat of a topic counts what is retained, what was ever published, and who has it open; that of the store sums up. */
void contract_test_topic_numbers(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 2), *other = contract_topic(c, "u", 1);
	struct engine_producer *producer;
	struct engine_stat stat;

	contract_send(c, topic, 0, "a\nbb\n");
	contract_send(c, topic, 1, "ccc\n");
	contract_send(c, other, 0, "d\n");
	producer = contract_producer(c, topic, ENGINE_ANY);
	stat = contract_stat(c, topic);
	cr_assert_eq(stat.messages, 3);
	cr_assert_eq(stat.bytes, 9);
	cr_assert_eq(stat.partitions, 2);
	cr_assert_eq(stat.published_total, 3);
	cr_assert_eq(stat.producers, 1);
	cr_assert_eq(stat.lost, 0);
	stat = contract_stat(c, c->root);
	cr_assert_eq(stat.messages, 4);
	cr_assert_eq(stat.bytes, 11);
	assert_ok(c->ops->partition_purge(topic, 0, 1));
	c->ops->producer_close(producer);
	stat = contract_stat(c, topic);
	cr_assert_eq(stat.messages, 2);
	cr_assert_eq(stat.bytes, 7);
	cr_assert_eq(stat.published_total, 3);
	cr_assert_eq(stat.producers, 0);
	cr_assert_eq(contract_stat(c, c->root).messages, 3);
	c->ops->put(topic);
	c->ops->put(other);
}

/* Tens of thousands of messages, in batches of all sizes and over many small segments, are all there and in order. */
void contract_test_many_messages(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);
	const uint64_t total = 20000;
	char *lines = malloc(64 * 500), *end;
	uint64_t sent = 0, seen = 0;
	struct engine_view view;

	cr_assert_not_null(lines);
	assert_ok(contract_set(c, topic, "segment.bytes", "16384"));
	for (uint32_t size = 1; sent < total; size = size % 499 + 17) {
		struct engine_batch batch = { .data = lines, .ts_ms = -1 };

		for (end = lines; batch.count < size && sent < total; batch.count++)
			end += sprintf(end, "message number %" PRIu64 "\n", sent++);
		batch.len = (size_t)(end - lines);
		assert_ok(contract_send_batch(c, producer, &batch));
	}
	while (c->ops->partition_read(topic, 0, seen, 100, &c->scratch, &view) == 0) {
		const char *data = view.batch.data;

		for (uint32_t i = 0; i < view.batch.count; i++, seen++) {
			char expected[64];

			sprintf(expected, "message number %" PRIu64 "\n", seen);
			cr_assert_eq(view.batch.lengths[i] + 1, strlen(expected));
			cr_assert_eq(memcmp(data, expected, strlen(expected)), 0, "message %" PRIu64, seen);
			data += view.batch.lengths[i] + 1;
		}
	}
	cr_assert_eq(seen, total);
	for (uint64_t offset = 0; offset < total; offset += 977) {
		char expected[64];

		assert_ok(c->ops->partition_read(topic, 0, offset, 1, &c->scratch, &view));
		sprintf(expected, "message number %" PRIu64 "\n", offset);
		cr_assert_eq(memcmp(view.batch.data, expected, strlen(expected)), 0);
	}
	c->ops->producer_close(producer);
	c->ops->put(topic);
	free(lines);
}

static bool is_empty(struct contract *c, void *topic)
{
	return contract_stat(c, topic).messages == 0;
}

/* What is older than retention.ms goes; a group that had not been given it goes on at the earliest, and counts it. */
void contract_test_retention_by_time(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g");
	int64_t hour_ago = ((int64_t)time(NULL) - 3600) * 1000;

	contract_send_at(c, topic, 0, hour_ago, "a\nb\n");
	send_dated(c, topic, hour_ago, hour_ago + 3600000, "c\n"); /* when it came in counts */
	cr_assert_eq(contract_stat(c, topic).messages, 3);
	assert_ok(contract_set(c, topic, "retention.ms", "60000"));
	contract_wait(c, is_empty, topic, "retention.ms");
	assert_text(contract_cursor(c, group, 0), "3 3 3");
	cr_assert_eq(contract_stat(c, group).lost, 3);
	cr_assert_eq(contract_stat(c, group).messages, 0);
	send_dated(c, topic, -1, hour_ago, "d\n");
	assert_text(contract_one(c, group), "0:3=d");
	assert_text(contract_read(c, topic, 0, 3), "3=d");
	c->ops->put(group);
	c->ops->put(topic);
}

static bool is_small(struct contract *c, void *topic)
{
	return contract_stat(c, topic).bytes < 64 * 1024;
}

/* The oldest go as long as retention.bytes remain without them: never more, and not by a wide margin less. */
void contract_test_retention_by_bytes(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g");
	struct engine_partition_stat stat;
	char lines[1001];

	memset(lines, 'x', 999);
	strcpy(lines + 999, "\n");
	assert_ok(contract_set(c, topic, "segment.bytes", "4096"));
	assert_ok(contract_set(c, topic, "retention.bytes", "20000"));
	for (int i = 0; i < 200; i++)
		contract_send(c, topic, 0, lines);
	contract_wait(c, is_small, topic, "retention.bytes");
	stat = contract_partition(c, topic, 0);
	cr_assert_geq(stat.end_pos - stat.start_pos, 20000);
	cr_assert_eq(stat.end_pos, 200000);
	cr_assert_eq(stat.end, 200);
	cr_assert_eq(stat.start_pos, stat.earliest * 1000);
	cr_assert_gt(contract_stat(c, group).lost, 100);
	assert_ok(contract_set(c, topic, "retention.bytes", "-1"));
	stat = contract_partition(c, topic, 0);
	cr_assert_eq(contract_stat(c, group).lost, stat.earliest);
	cr_assert_eq(contract_stat(c, group).messages, stat.end - stat.earliest);
	c->ops->put(group);
	c->ops->put(topic);
}
