/* The contract of engines: producing, and dealing messages to partitions. */
#include "tests/lib/contract.h"

#include <time.h>

#include "engine/partitioner.h"

static struct engine_span span(const char *text)
{
	return (struct engine_span){ text, strlen(text) };
}

static void send_lines(struct contract *c, struct engine_producer *producer, const char *lines)
{
	struct engine_batch batch = contract_batch(lines);

	assert_ok(contract_send_batch(c, producer, &batch));
}

/* One batch of one message with these properties; returns what the engine says. */
static int send_with(
    struct contract *c, struct engine_producer *producer, const char *payload, struct engine_props props)
{
	struct engine_batch batch = contract_batch(payload);

	batch.props = &props;
	return contract_send_batch(c, producer, &batch);
}

/* Fills into ends what every partition's end is. */
static void get_ends(struct contract *c, struct engine_object *topic, uint32_t count, uint64_t *ends)
{
	for (uint32_t p = 0; p < count; p++)
		ends[p] = contract_partition(c, topic, p).end;
}

/* Messages get dense offsets in the order they were sent, whichever producer and batch they came in. */
void contract_test_order(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_producer *one = contract_producer(c, topic, ENGINE_ANY), *two = contract_producer(c, topic, 0);

	assert_text(contract_read(c, topic, 0, 0), "");
	send_lines(c, one, "a\nb\n");
	send_lines(c, two, "c\n");
	send_lines(c, one, "d\n");
	assert_text(contract_read(c, topic, 0, 0), "0=a 1=b 2=c 3=d");
	c->ops->producer_close(one);
	c->ops->producer_close(two);
	c->ops->producer_close(NULL);
	c->ops->put(topic);
}

/* A payload may be empty, and may have any bytes. */
void contract_test_payloads(struct contract *c)
{
	static const char data[] = "\n\0\x01\xff\r\n  \t \n";
	static const uint32_t lengths[] = { 0, 4, 4 };
	struct engine_batch batch = {
		.data = data, .len = sizeof(data) - 1, .count = 3, .lengths = lengths, .ts_ms = -1
	};
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);
	char buf[64];

	assert_ok(contract_send_batch(c, producer, &batch));
	send_lines(c, producer, "\n\n");
	cr_assert_eq(contract_partition(c, topic, 0).end, 5);
	cr_assert_eq(c->ops->partition_pread(topic, 0, 0, buf, sizeof(buf)), (ssize_t)batch.len + 2);
	cr_assert_eq(memcmp(buf, data, batch.len), 0);
	cr_assert_eq(memcmp(buf + batch.len, "\n\n", 2), 0);
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

/* With lengths, a newline within a payload is part of it; batches with and without stay apart. */
void contract_test_newlines_in_payloads(struct contract *c)
{
	static const uint32_t lengths[] = { 3, 1, 2 };
	struct engine_batch batch = contract_batch("a\nb\nc\n\n\n\n");
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);

	batch.lengths = lengths;
	batch.count = 3;
	batch.len = 9;
	send_lines(c, producer, "x\ny\n");
	assert_ok(contract_send_batch(c, producer, &batch));
	send_lines(c, producer, "z\n");
	assert_text(contract_read(c, topic, 0, 0), "0=x 1=y 2=a\nb 3=c 4=\n\n 5=z");
	assert_text(contract_read(c, topic, 0, 3), "3=c 4=\n\n 5=z");
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

static void assert_span(struct engine_span actual, const char *expected)
{
	if (expected == NULL) {
		cr_assert_null(actual.ptr);
		return;
	}
	cr_assert_not_null(actual.ptr, "expected %s", expected);
	cr_assert_eq(actual.len, strlen(expected));
	cr_assert_eq(memcmp(actual.ptr, expected, actual.len), 0);
}

/* Properties come back as they went in, absent ones absent and empty ones empty, each with its own message. */
void contract_test_props(struct contract *c)
{
	const struct engine_header headers[] = { { span("name"), span("value") }, { span(""), span("") },
		{ span("name"), span("again") } };
	struct engine_props in[3] = { ENGINE_PROPS_INIT, ENGINE_PROPS_INIT, ENGINE_PROPS_INIT };
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);
	struct engine_batch batch = contract_batch("a\nb\nc\n");

	in[0].key = span("k");
	in[0].id = span("id-1");
	in[0].routing_key = span("a.b.c");
	in[0].headers = headers;
	in[0].header_count = 3;
	in[0].ts_ms = INT64_C(1732300000123);
	in[0].ttl_ms = 60000;
	in[0].delay_ms = 0;
	in[0].priority = 5;
	in[2].key = span("");
	batch.props = in;
	assert_ok(contract_set(c, topic, "retention.ms", "-1"));
	assert_ok(contract_send_batch(c, producer, &batch));
	for (uint64_t offset = 0; offset < 3; offset++) {
		const struct engine_props *out;
		struct engine_view view;

		assert_ok(c->ops->partition_read(topic, 0, offset, 1, &c->scratch, &view));
		if (offset == 1) {
			cr_assert(view.batch.props == NULL || view.batch.props[0].key.ptr == NULL);
			continue;
		}
		cr_assert_not_null(view.batch.props);
		out = &view.batch.props[0];
		assert_span(out->key, offset == 0 ? "k" : "");
		assert_span(out->id, offset == 0 ? "id-1" : NULL);
		assert_span(out->routing_key, offset == 0 ? "a.b.c" : NULL);
		cr_assert_eq(out->header_count, offset == 0 ? 3 : 0);
		for (uint32_t i = 0; i < out->header_count; i++) {
			cr_assert_eq(out->headers[i].name.len, headers[i].name.len);
			cr_assert_eq(memcmp(out->headers[i].name.ptr, headers[i].name.ptr, headers[i].name.len), 0);
			cr_assert_eq(out->headers[i].value.len, headers[i].value.len);
			cr_assert_eq(memcmp(out->headers[i].value.ptr, headers[i].value.ptr, headers[i].value.len), 0);
		}
		cr_assert_eq(out->ts_ms, offset == 0 ? INT64_C(1732300000123) : view.batch.ts_ms);
		cr_assert_eq(out->ttl_ms, offset == 0 ? 60000 : -1);
		cr_assert_eq(out->delay_ms, offset == 0 ? 0 : -1);
		cr_assert_eq(out->priority, offset == 0 ? 5 : -1);
	}
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

/* The key of a producer is that of every message that brings none. */
void contract_test_producer_key(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 8);
	uint32_t mine = partitioner_pick("mine", 4, 8), own = partitioner_pick("own", 3, 8);
	struct engine_producer *producer = NULL;
	struct engine_props props[2] = { ENGINE_PROPS_INIT, ENGINE_PROPS_INIT };
	struct engine_batch batch = contract_batch("b\nc\n");
	char key[] = "mine";
	struct engine_view view;

	cr_assert_neq(mine, own, "the test needs keys of different partitions");
	assert_ok(c->ops->producer_open(topic, ENGINE_ANY, (struct engine_span){ key, 4 }, &producer));
	memset(key, 'x', 4); /* it was copied */
	send_lines(c, producer, "a\n");
	props[0].key = span("own");
	batch.props = props;
	assert_ok(contract_send_batch(c, producer, &batch));
	assert_text(contract_read(c, topic, mine, 0), "0=a 1=c");
	assert_text(contract_read(c, topic, own, 0), "0=b");
	for (uint64_t offset = 0; offset < 2; offset++) {
		assert_ok(c->ops->partition_read(topic, mine, offset, 1, &c->scratch, &view));
		cr_assert_not_null(view.batch.props);
		assert_span(view.batch.props[0].key, "mine");
	}
	assert_ok(c->ops->partition_read(topic, own, 0, 1, &c->scratch, &view));
	assert_span(view.batch.props[0].key, "own");
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

/* Who produced travels with every message; batches of different people are never given as one. */
void contract_test_attested(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);
	struct engine_batch batch = contract_batch("a\n");

	for (uint32_t uid = 0; uid < 3; uid++) {
		batch.cred = (struct engine_cred){ uid, uid + 10, uid + 100 };
		assert_ok(contract_send_batch(c, producer, &batch));
	}
	for (uint32_t uid = 0; uid < 3; uid++) {
		struct engine_view view;

		assert_ok(c->ops->partition_read(topic, 0, uid, UINT32_MAX, &c->scratch, &view));
		cr_assert_eq(view.batch.count, 1);
		cr_assert_eq(view.batch.cred.uid, uid);
		cr_assert_eq(view.batch.cred.gid, uid + 10);
		cr_assert_eq(view.batch.cred.pid, uid + 100);
	}
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

/* A batch without a time has that of its sending. */
void contract_test_time_of_batch(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1);
	int64_t before = (int64_t)time(NULL) * 1000 - 1000, after;
	struct engine_view view;

	contract_send(c, topic, 0, "a\n");
	after = (int64_t)time(NULL) * 1000 + 2000;
	assert_ok(c->ops->partition_read(topic, 0, 0, 1, &c->scratch, &view));
	cr_assert(view.batch.ts_ms >= before && view.batch.ts_ms <= after);
	cr_assert_eq(contract_partition(c, topic, 0).mtime_ms, view.batch.ts_ms);
	contract_send_at(c, topic, 0, before - 5000, "b\n");
	assert_ok(c->ops->partition_read(topic, 0, 1, 1, &c->scratch, &view));
	cr_assert_eq(view.batch.ts_ms, before - 5000);
	c->ops->put(topic);
}

/* A batch with one bad message is refused whole, in every partition, and the next takes the offsets it would have had. */
void contract_test_whole_or_none(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 2);
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);
	struct engine_props props[3] = { ENGINE_PROPS_INIT, ENGINE_PROPS_INIT, ENGINE_PROPS_INIT };
	struct engine_batch batch = contract_batch("a\nb\nlong\n");

	props[0].partition = 0;
	props[1].partition = 1;
	props[2].partition = 1;
	batch.props = props;
	assert_ok(contract_set(c, topic, "max.message.bytes", "3"));
	assert_err(contract_send_batch(c, producer, &batch), EMSGSIZE);
	cr_assert(strstr(engine_reason(), "3") != NULL, "the limit is named: %s", engine_reason());
	assert_ok(contract_set(c, topic, "max.message.bytes", "4"));
	props[2].partition = 2;
	assert_err(contract_send_batch(c, producer, &batch), ERANGE);
	assert_text(contract_read(c, topic, 0, 0), "");
	assert_text(contract_read(c, topic, 1, 0), "");
	cr_assert_eq(contract_stat(c, topic).published_total, 0);
	props[2].partition = 1;
	assert_ok(contract_send_batch(c, producer, &batch));
	assert_text(contract_read(c, topic, 0, 0), "0=a");
	assert_text(contract_read(c, topic, 1, 0), "0=b 1=long");
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

/* A partition that is not there is ENOENT for a producer, and for a message ERANGE, as any field out of its range. */
void contract_test_send_errors(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 2);
	struct engine_producer *producer = NULL;
	struct engine_props props = ENGINE_PROPS_INIT;

	assert_err(c->ops->producer_open(topic, 2, (struct engine_span){ NULL, 0 }, &producer), ENOENT);
	cr_assert_null(producer);
	producer = contract_producer(c, topic, ENGINE_ANY);
	props.partition = 2;
	assert_err(send_with(c, producer, "a\n", props), ERANGE);
	assert_ok(contract_set(c, topic, "partitions", "3"));
	assert_ok(send_with(c, producer, "a\n", props));
	assert_text(contract_read(c, topic, 2, 0), "0=a");
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

/* A key goes to the partition that Kafka's partitioner picks; a partition that is named goes before it. */
void contract_test_keys_pick_partitions(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 7);
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);
	struct engine_props props = ENGINE_PROPS_INIT;
	uint64_t before[7], after[7];
	char key[16] = "";

	for (int i = 0; i < 50; i++) {
		uint32_t expected;

		snprintf(key, sizeof(key), "key-%d", i);
		expected = partitioner_pick(key, strlen(key), 7);
		props.key = span(key);
		get_ends(c, topic, 7, before);
		assert_ok(send_with(c, producer, "m\n", props));
		get_ends(c, topic, 7, after);
		for (uint32_t p = 0; p < 7; p++)
			cr_assert_eq(after[p], before[p] + (p == expected));
	}
	props.partition = (partitioner_pick(key, strlen(key), 7) + 1) % 7;
	get_ends(c, topic, 7, before);
	assert_ok(send_with(c, producer, "m\n", props));
	cr_assert_eq(contract_partition(c, topic, props.partition).end, before[props.partition] + 1);
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

/* With linger.ms 0 every send goes to the next partition, whichever producer it comes from. */
void contract_test_turns_by_send(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 3);
	struct engine_producer *one = contract_producer(c, topic, ENGINE_ANY),
			       *two = contract_producer(c, topic, ENGINE_ANY);

	assert_ok(contract_set(c, topic, "linger.ms", "0"));
	for (int i = 0; i < 3; i++) {
		send_lines(c, one, "a\nb\n");
		send_lines(c, two, "c\n");
	}
	for (uint32_t p = 0; p < 3; p++)
		cr_assert_eq(contract_partition(c, topic, p).end, 3, "sends of 2, 1, 2, 1, 2 and 1 in turn");
	c->ops->producer_close(one);
	c->ops->producer_close(two);
	c->ops->put(topic);
}

/* A turn stays in its partition until it holds batch.size bytes. */
void contract_test_turns_by_size(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 3);
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);
	uint64_t ends[3];

	assert_ok(contract_set(c, topic, "linger.ms", "60000"));
	assert_ok(contract_set(c, topic, "batch.size", "8"));
	for (int i = 0; i < 24; i++)
		send_lines(c, producer, "a\n");
	get_ends(c, topic, 3, ends);
	cr_assert(ends[0] == 8 && ends[1] == 8 && ends[2] == 8);
	send_lines(c, producer, "b\n");
	send_lines(c, producer, "b\n");
	get_ends(c, topic, 3, ends);
	cr_assert(ends[0] == 10 || ends[1] == 10 || ends[2] == 10, "the running turn stays where it is");
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

/* producer_sync ends the running turn. */
void contract_test_turns_by_sync(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 2);
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);
	uint64_t ends[2];

	assert_ok(contract_set(c, topic, "linger.ms", "60000"));
	send_lines(c, producer, "a\n");
	send_lines(c, producer, "b\n");
	get_ends(c, topic, 2, ends);
	cr_assert_eq(ends[0] * ends[1], 0, "one turn, one partition");
	assert_ok(contract_sync(c, producer));
	send_lines(c, producer, "c\n");
	send_lines(c, producer, "d\n");
	get_ends(c, topic, 2, ends);
	cr_assert(ends[0] == 2 && ends[1] == 2);
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

/* Closing a producer ends its turn: many short-lived producers fill the partitions evenly. */
void contract_test_turns_by_close(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 4);
	uint64_t ends[4];

	assert_ok(contract_set(c, topic, "linger.ms", "60000"));
	for (int i = 0; i < 20; i++)
		contract_send(c, topic, ENGINE_ANY, "a\nb\n");
	get_ends(c, topic, 4, ends);
	for (int p = 0; p < 4; p++)
		cr_assert_eq(ends[p], 10);
	c->ops->put(topic);
}

/* A producer of one partition produces to it, whatever keys say. */
void contract_test_fixed_partition(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 3);
	struct engine_producer *producer = contract_producer(c, topic, 1);
	struct engine_props props = ENGINE_PROPS_INIT;

	for (int i = 0; i < 8; i++) {
		char key[2] = { (char)('a' + i), '\0' };

		props.key = span(key);
		assert_ok(send_with(c, producer, "m\n", props));
	}
	cr_assert_eq(contract_partition(c, topic, 1).end, 8);
	c->ops->producer_close(producer);
	c->ops->put(topic);
}

/* A message of many megabytes comes back whole, alone or among small ones. */
void contract_test_large_messages(struct contract *c)
{
	const uint32_t large = 3u << 20;
	char *data = malloc(large + 5);
	uint32_t lengths[3] = { 1, large, 0 };
	struct engine_batch batch = { .data = data, .len = large + 4, .count = 3, .lengths = lengths, .ts_ms = -1 };
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);
	struct engine_view view;

	cr_assert_not_null(data);
	memcpy(data, "a\n", 2);
	for (uint32_t i = 0; i < large; i++)
		data[2 + i] = (char)(i * 31 + (i >> 8));
	memcpy(data + 2 + large, "\n\n", 2);
	assert_ok(contract_set(c, topic, "segment.bytes", "4096"));
	assert_ok(contract_send_batch(c, producer, &batch));
	assert_ok(c->ops->partition_read(topic, 0, 1, 1, &c->scratch, &view));
	cr_assert_eq(view.batch.count, 1);
	cr_assert_eq(view.batch.lengths[0], large);
	cr_assert_eq(memcmp(view.batch.data, data + 2, large + 1), 0);
	assert_text(contract_read(c, topic, 0, 2), "2=");
	cr_assert_eq(contract_partition(c, topic, 0).end_pos, batch.len);
	c->ops->producer_close(producer);
	c->ops->put(topic);
	free(data);
}

/* Once a sync has completed, all that was taken before is on disk, from whichever producer. */
void contract_test_sync(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 3);
	struct engine_producer *any = contract_producer(c, topic, ENGINE_ANY), *first = contract_producer(c, topic, 0);
	struct engine_producer *idle = contract_producer(c, topic, 1);

	assert_ok(contract_sync(c, any)); /* nothing was taken yet */
	for (uint32_t p = 0; p < 3; p++)
		contract_send(c, topic, p, "a\nb\n");
	assert_ok(contract_sync(c, first));
	cr_assert_eq(contract_partition(c, topic, 0).synced, 2);
	assert_ok(contract_sync(c, any));
	for (uint32_t p = 0; p < 3; p++)
		cr_assert_eq(contract_partition(c, topic, p).synced, 2);
	assert_ok(contract_sync(c, any));
	assert_ok(contract_sync(c, idle));
	c->ops->producer_close(any);
	c->ops->producer_close(first);
	c->ops->producer_close(idle);
	c->ops->put(topic);
}
