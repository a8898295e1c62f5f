/* What readers get: each framing to the byte, and that in.json takes what .json gives. */
#include "fs/render.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base64.h"
#include "fs/record.h"
#include "fs/utf8.h"

#define SPAN(text) ((struct engine_span){ text, sizeof(text) - 1 })

/* Three messages: "one", an empty one, and "a\nb". */
static const uint32_t lengths[] = { 3, 0, 3 };
static const struct engine_view view = {
	.partition = 2,
	.offset = 17,
	.batch = { .data = "one\n\na\nb\n",
	    .len = 9,
	    .count = 3,
	    .lengths = lengths,
	    .cred = { 1000, 100, 4711 },
	    .ts_ms = 1732300000000 },
};

static void expect_text(struct buffer *out, const char *expected, size_t len)
{
	cr_expect_eq(out->len, len, "%zu bytes: %.*s", out->len, (int)out->len, out->ptr);
	cr_expect(out->len != len || len == 0 || memcmp(out->ptr, expected, len) == 0, "%.*s", (int)out->len, out->ptr);
	buffer_clear(out);
}
#define EXPECT_TEXT(out, text) expect_text(out, text, sizeof(text) - 1)

/* Lines and NULs are the payloads with their delimiters, raw is one payload and nothing else. */
Test(render, framings)
{
	struct buffer out = BUFFER_INIT;
	cr_assert_eq(render_view(FRAME_LINE, &view, "t", 0, 3, &out), 0);
	EXPECT_TEXT(&out, "one\n\na\nb\n");
	render_view(FRAME_LINE, &view, "t", 1, 2, &out);
	EXPECT_TEXT(&out, "\na\nb\n");
	render_view(FRAME_LINE, &view, "t", 3, 0, &out);
	EXPECT_TEXT(&out, "");
	render_view(FRAME_NUL, &view, "t", 0, 3, &out);
	EXPECT_TEXT(&out, "one\0\0a\nb\0");
	render_view(FRAME_NUL, &view, "t", 2, 1, &out);
	EXPECT_TEXT(&out, "a\nb\0");
	render_view(FRAME_RAW, &view, "t", 0, 1, &out);
	EXPECT_TEXT(&out, "one");
	render_view(FRAME_RAW, &view, "t", 1, 1, &out);
	EXPECT_TEXT(&out, "");
	render_view(FRAME_RAW, &view, "t", 2, 1, &out);
	EXPECT_TEXT(&out, "a\nb");
	buffer_release(&out);
}

/* What is there already stays in front. */
Test(render, appends)
{
	struct buffer out = BUFFER_INIT;
	buffer_add_text(&out, "before ");
	cr_assert_eq(render_view(FRAME_NUL, &view, "t", 0, 1, &out), 0);
	EXPECT_TEXT(&out, "before one\0");
	buffer_release(&out);
}

/* A message without properties is the interface's example. */
Test(render, json_plain)
{
	struct buffer out = BUFFER_INIT;
	cr_assert_eq(render_view(FRAME_JSON, &view, "orders", 0, 3, &out), 0);
	EXPECT_TEXT(&out,
	    "{\"topic\":\"orders\",\"partition\":2,\"offset\":17,\"ts\":1732300000000,\"headers\":{},\"uid\":1000,"
	    "\"gid\":100,\"pid\":4711,\"payload\":\"one\"}\n"
	    "{\"topic\":\"orders\",\"partition\":2,\"offset\":18,\"ts\":1732300000000,\"headers\":{},\"uid\":1000,"
	    "\"gid\":100,\"pid\":4711,\"payload\":\"\"}\n"
	    "{\"topic\":\"orders\",\"partition\":2,\"offset\":19,\"ts\":1732300000000,\"headers\":{},\"uid\":1000,"
	    "\"gid\":100,\"pid\":4711,\"payload\":\"a\\nb\"}\n");
	buffer_release(&out);
}

/* A record of a queue has the facts of its own delivery, whatever the one before it had. */
Test(render, json_deliveries)
{
	struct engine_delivery deliveries[] = {
		{ .id = 9, .priority = 4, .deliveries = 1 },
		{ .id = 10, .priority = 4, .deliveries = 1 },
		{ .id = 12, .priority = 4, .deliveries = 2, .redelivered = true },
	};
	struct engine_view queue = view;
	queue.deliveries = deliveries;
	struct buffer out = BUFFER_INIT;
	cr_assert_eq(render_view(FRAME_JSON, &queue, "jobs", 0, 3, &out), 0);
	EXPECT_TEXT(&out,
	    "{\"queue\":\"jobs\",\"id\":9,\"priority\":4,\"ts\":1732300000000,\"redelivered\":false,\"deliveries\":1,"
	    "\"headers\":{},\"uid\":1000,\"gid\":100,\"pid\":4711,\"payload\":\"one\"}\n"
	    "{\"queue\":\"jobs\",\"id\":10,\"priority\":4,\"ts\":1732300000000,\"redelivered\":false,\"deliveries\":1,"
	    "\"headers\":{},\"uid\":1000,\"gid\":100,\"pid\":4711,\"payload\":\"\"}\n"
	    "{\"queue\":\"jobs\",\"id\":12,\"priority\":4,\"ts\":1732300000000,\"redelivered\":true,\"deliveries\":2,"
	    "\"headers\":{},\"uid\":1000,\"gid\":100,\"pid\":4711,\"payload\":\"a\\nb\"}\n");
	buffer_release(&out);
}

/* Every character, at every place of a text that is looked at eight bytes at a time, comes back from another's parser. */
Test(render, json_string_places)
{
	struct buffer out = BUFFER_INIT;
	for (unsigned c = 0; c < 0x80; c++)
		for (size_t at = 0; at < 20; at++) {
			char text[] = "abcdefghijklmnopqrst";
			text[at] = (char)c;
			buffer_clear(&out);
			render_json_string(&out, text, 20);
			json_t *back = json_loadb(out.ptr, out.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
			cr_assert_eq(json_string_length(back), 20);
			cr_assert(memcmp(json_string_value(back), text, 20) == 0, "%#x at %zu", c, at);
			cr_assert_null(memchr(out.ptr, 0x7f, out.len));
			json_decref(back);
		}
	buffer_release(&out);
}

/* With everything set, fields come in their order, and what is not UTF-8 comes as base64. */
Test(render, json_full)
{
	struct engine_header headers[] = { { SPAN("a"), SPAN("b") }, { SPAN("q\"uote"), SPAN("\xff") } };
	struct engine_props props[3] = { ENGINE_PROPS_INIT, ENGINE_PROPS_INIT, ENGINE_PROPS_INIT };
	props[0] = (struct engine_props){ SPAN("k"), SPAN("dedup"), SPAN("a.b"), headers, 2, 2, 5, 60000, 1000, 9, NULL,
		0, 0, false };
	props[1].key = SPAN("");
	props[1].ts_ms = 7;
	props[2].key = SPAN("\xff\xfe");
	struct engine_view full = view;
	full.batch.props = props;
	full.batch.data = "one\n\n\x80xy\n";
	struct buffer out = BUFFER_INIT;
	cr_assert_eq(render_view(FRAME_JSON, &full, "o", 0, 3, &out), 0);
	EXPECT_TEXT(&out, "{\"topic\":\"o\",\"partition\":2,\"offset\":17,\"ts\":5,\"key\":\"k\",\"id\":\"dedup\","
			  "\"routing_key\":\"a.b\","
			  "\"priority\":9,\"ttl_ms\":60000,\"delay_ms\":1000,\"headers\":{\"a\":\"b\",\"q\\\"uote\":"
			  "\"\xef\xbf\xbd\"},"
			  "\"uid\":1000,\"gid\":100,\"pid\":4711,\"payload\":\"one\"}\n"
			  "{\"topic\":\"o\",\"partition\":2,\"offset\":18,\"ts\":7,\"key\":\"\",\"headers\":{},"
			  "\"uid\":1000,\"gid\":100,\"pid\":4711,\"payload\":\"\"}\n"
			  "{\"topic\":\"o\",\"partition\":2,\"offset\":19,\"ts\":1732300000000,\"key_base64\":\"//"
			  "4=\",\"headers\":{},"
			  "\"uid\":1000,\"gid\":100,\"pid\":4711,\"payload_base64\":\"gHh5\"}\n");
	buffer_release(&out);
}

/* Strings: what JSON wants escaped is, the rest is left as it is. */
Test(render, json_string)
{
	static const struct {
		const char *text;
		size_t len;
		const char *json;
	} rows[] = {
		{ "", 0, "\"\"" },
		{ "plain", 5, "\"plain\"" },
		{ "\"\\/", 3, "\"\\\"\\\\/\"" },
		{ "\b\f\n\r\t", 5, "\"\\b\\f\\n\\r\\t\"" },
		{ "\0\x01\x1f\x7f", 4, "\"\\u0000\\u0001\\u001f\\u007f\"" },
		{ "caf\xc3\xa9 \xf0\x9f\x93\xa8", 10, "\"caf\xc3\xa9 \xf0\x9f\x93\xa8\"" },
		{ "\xe2\x80\xa8", 3, "\"\xe2\x80\xa8\"" },
		{ "a\xff\xfe"
		  "b",
		    4,
		    "\"a\xef\xbf\xbd\xef\xbf\xbd"
		    "b\"" },
		{ "cut\xc3", 4, "\"cut\xef\xbf\xbd\"" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buffer out = BUFFER_INIT;
		char *text = malloc(rows[i].len + 1);
		memcpy(text, rows[i].text, rows[i].len);
		render_json_string(&out, text, rows[i].len);
		expect_text(&out, rows[i].json, strlen(rows[i].json));
		free(text);
		buffer_release(&out);
	}
}

/* ---------------------------------------------------------------------------- there and back again */

static size_t random_below(size_t end)
{
	return (size_t)rand() % end;
}

/* Bytes that are arbitrary, or UTF-8 with all that is awkward in it. */
static size_t random_bytes(char *out, size_t most, bool utf8)
{
	static const char *const chars[] = { "a", "\"", "\\", "\n", "\r", "\t", "\x01", "\x7f", "/", "{", ",",
		"\xc3\xa9", "\xc2\x85", "\xe2\x80\xa8", "\xef\xbf\xbd", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf",
		"" /* NUL */ };
	size_t len = random_below(most), at = 0;
	while (at + 4 <= len) {
		const char *c = chars[random_below(sizeof(chars) / sizeof(chars[0]))];
		size_t size = *c ? strlen(c) : 1;
		memcpy(out + at, c, size);
		at += size;
	}
	while (!utf8 && at < len)
		out[at++] = (char)rand();
	return at;
}

/* Memory for one random message. */
struct sample {
	char payload[300], key[200], id[100], routing_key[100], names[8][16], values[8][40];
	struct engine_header headers[8];
	struct engine_props props;
	uint32_t length;
};

static struct engine_span random_span(char *out, size_t most, bool utf8)
{
	if (rand() % 3 == 0)
		return (struct engine_span){ 0 };
	return (struct engine_span){ out, random_bytes(out, most, utf8) };
}

static void random_sample(struct sample *sample)
{
	sample->props = ENGINE_PROPS_INIT;
	sample->length = (uint32_t)random_bytes(sample->payload, sizeof(sample->payload) - 1, rand() % 2);
	sample->payload[sample->length] = '\n';
	sample->props.key = random_span(sample->key, sizeof(sample->key), rand() % 2);
	sample->props.id = random_span(sample->id, sizeof(sample->id), true);
	sample->props.routing_key = random_span(sample->routing_key, sizeof(sample->routing_key), true);
	sample->props.header_count = (uint32_t)random_below(9);
	sample->props.headers = sample->headers;
	for (uint32_t i = 0; i < sample->props.header_count; i++) {
		int len = snprintf(sample->names[i], 16, "h%u\"\n\xc3\xa9", i);
		sample->headers[i].name = (struct engine_span){ sample->names[i], (size_t)len };
		sample->headers[i].value =
		    (struct engine_span){ sample->values[i], random_bytes(sample->values[i], 40, true) };
	}
	sample->props.ts_ms = rand();
	sample->props.ttl_ms = rand() % 2 ? rand() : -1;
	sample->props.delay_ms = rand() % 2 ? INT64_MAX - rand() : -1;
	sample->props.priority = rand() % 11 - 1;
}

static bool same(struct engine_span a, struct engine_span b)
{
	return !a.ptr == !b.ptr && a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static void expect_same(const struct sample *sample, const struct engine_batch *got, uint32_t partition, unsigned seed)
{
	const struct engine_props *a = &sample->props, *b = &got->props[0];
	cr_assert_eq(got->count, 1);
	cr_assert(got->lengths[0] == sample->length && got->len == sample->length + 1, "seed %u", seed);
	cr_assert_eq(memcmp(got->data, sample->payload, got->len), 0, "seed %u", seed);
	cr_assert(same(a->key, b->key) && same(a->id, b->id) && same(a->routing_key, b->routing_key), "seed %u", seed);
	cr_assert(a->ts_ms == b->ts_ms && a->ttl_ms == b->ttl_ms && a->delay_ms == b->delay_ms, "seed %u", seed);
	cr_assert(a->priority == b->priority && b->partition == partition, "seed %u", seed);
	cr_assert_eq(a->header_count, b->header_count);
	for (uint32_t i = 0; i < a->header_count; i++)
		cr_assert(
		    same(a->headers[i].name, b->headers[i].name) && same(a->headers[i].value, b->headers[i].value));
}

/* Whatever a message holds, in.json takes the line .json gives, and makes the same message of it, and the same line. */
static void round_trip(bool in_queue)
{
	struct sample *sample = malloc(sizeof(*sample));
	for (unsigned seed = 1; seed <= 5000; seed++) {
		srand(seed);
		random_sample(sample);
		struct engine_delivery delivery = { .id = seed, .priority = (uint32_t)random_below(10) };
		struct engine_view one = { .partition = in_queue ? ENGINE_ANY : (uint32_t)random_below(1024),
			.offset = seed,
			.deliveries = in_queue ? &delivery : NULL };
		if (in_queue)
			sample->props.priority = (int32_t)delivery.priority;
		one.batch = (struct engine_batch){ .data = sample->payload,
			.len = sample->length + 1,
			.count = 1,
			.lengths = &sample->length,
			.props = &sample->props,
			.ts_ms = 1 };
		struct buffer line = BUFFER_INIT, again = BUFFER_INIT;
		struct record_batch records = { 0 };
		char reason[RECORD_REASON_MAX];
		cr_assert_eq(render_view(FRAME_JSON, &one, "t", 0, 1, &line), 0);
		cr_assert_eq(memchr(line.ptr, '\n', line.len), line.ptr + line.len - 1, "one line");
		cr_assert(utf8_valid(line.ptr, line.len));
		cr_assert_leq(line.len, RECORD_LINE_MAX(sample->length));
		int result = record_batch_add_line(&records, line.ptr, line.len - 1, sample->length, reason);
		cr_assert_eq(result, 1, "seed %u: %s: %.*s", seed, reason, (int)line.len, line.ptr);
		struct engine_view back = {
			.partition = one.partition, .offset = one.offset, .deliveries = one.deliveries
		};
		record_batch_get(&records, &back.batch);
		expect_same(sample, &back.batch, one.partition, seed);
		render_view(FRAME_JSON, &back, "t", 0, 1, &again);
		cr_assert(line.len == again.len && memcmp(line.ptr, again.ptr, line.len) == 0, "seed %u", seed);
		record_batch_release(&records);
		buffer_release(&line);
		buffer_release(&again);
	}
	free(sample);
}

Test(render, record_round_trip)
{
	round_trip(false);
}

Test(render, record_round_trip_of_queue)
{
	round_trip(true);
}

/* The vectors of RFC 4648, both ways. */
Test(base64, vectors)
{
	static const char *const rows[][2] = { { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" },
		{ "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" }, { "foobar", "Zm9vYmFy" }, { "\xfb\xef\xff", "++//" } };
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[16], bytes[16];
		size_t len = strlen(rows[i][0]), chars = strlen(rows[i][1]);
		cr_expect_eq(BASE64_ENCODED(len), chars);
		base64_encode(rows[i][0], len, text);
		cr_expect(memcmp(text, rows[i][1], chars) == 0, "%s", rows[i][1]);
		cr_expect_eq(base64_decode(rows[i][1], chars, bytes), (ssize_t)len);
		cr_expect(memcmp(bytes, rows[i][0], len) == 0, "%s", rows[i][1]);
	}
}

/* Every byte sequence has one spelling; all others are refused. */
Test(base64, strict)
{
	static const char *const bad[] = { "Z", "Zg", "Zg=", "Zg==Zg==", "Zh==", "Zm9=", "====", "Z===", "Zg=a",
		"Zm8=\n", "Zm 8", "Zm8-", "Zm8_", "=Zm8" };
	char bytes[16];
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(base64_decode(bad[i], strlen(bad[i]), bytes), -EINVAL, "%s", bad[i]);
}
