/* Lines of in.json: what is taken, what is refused with which errno and which sentence. */
#include "fs/record.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/alloc.h"

#define LIMIT 64

/* What a line gives: 1 and the payload, 0 for a blank line, or an errno and a word its sentence must hold. */
static const struct {
	const char *line;
	int result;
	const char *expect;
} rows[] = {
	{ "{\"payload\":\"text\"}", 1, "text" },
	{ " { \"payload\" : \"text\" } \r", 1, "text" },
	{ "{\"payload\":\"\"}", 1, "" },
	{ "{\"payload\":\"two\\nlines\"}", 1, "two\nlines" },
	{ "{\"payload\":\"caf\\u00e9 \\ud83d\\udce8\"}", 1, "caf\xc3\xa9 \xf0\x9f\x93\xa8" },
	{ "{\"payload_base64\":\"/wA=\"}", 1, "\xff" /* and a NUL, see below */ },
	{ "{\"payload_base64\":\"\"}", 1, "" },
	/* what only a reader gets is ignored, whatever it is */
	{ "{\"topic\":\"a\",\"queue\":1,\"offset\":17,\"redelivered\":false,\"deliveries\":1,\"uid\":0,\"gid\":[],"
	  "\"pid\":{},"
	  "\"deaths\":[{\"queue\":\"jobs\"}],\"id\":42,\"payload\":\"x\"}",
	    1, "x" },
	{ "{\"key\":null,\"payload\":\"x\"}", 1, "x" },
	{ "{\"headers\":{},\"payload\":\"x\"}", 1, "x" },
	/* blank lines */
	{ "", 0, "" },
	{ " \t \r", 0, "" },
	/* no record */
	{ "text", -EINVAL, "JSON" },
	{ "{", -EINVAL, "JSON" },
	{ "}", -EINVAL, "JSON" },
	{ "{}", -EINVAL, "payload" },
	{ "[]", -EINVAL, "object" },
	{ "[{\"payload\":\"x\"}]", -EINVAL, "object" },
	{ "\"payload\"", -EINVAL, "JSON" },
	{ "null", -EINVAL, "JSON" },
	{ "{\"payload\":\"x\"} {\"payload\":\"y\"}", -EINVAL, "JSON" },
	{ "{\"payload\":\"x\"},", -EINVAL, "JSON" },
	{ "{'payload':'x'}", -EINVAL, "JSON" },
	{ "{\"payload\":\"x\",}", -EINVAL, "JSON" },
	{ "\xef\xbb\xbf{\"payload\":\"x\"}", -EINVAL, "JSON" }, /* BOM */
	{ "{\"payload\":\"\xff\"}", -EINVAL, "JSON" },
	{ "{\"payload\":\"\\ud800\"}", -EINVAL, "JSON" },
	{ "{\"payload\":\"tab\there\"}", -EINVAL, "JSON" },
	{ "{\"pay\\u0000load\":\"x\"}", -EINVAL, "JSON" },
	{ "{\"payload\":\"a\",\"payload\":\"b\"}", -EINVAL, "duplicate" },
	{ "{\"payload\":\"a\",\"key\":\"b\",\"key\":\"c\"}", -EINVAL, "duplicate" },
	{ "{\"payload\":\"a\",\"headers\":{\"b\":\"c\",\"b\":\"d\"}}", -EINVAL, "duplicate" },
	{ "{\"payload\":\"a\",\"topci\":\"b\"}", -EINVAL, "topci" },
	{ "{\"payload\":\"a\",\"Key\":\"b\"}", -EINVAL, "Key" },
	{ "{\"payload\":\"a\",\"\":1}", -EINVAL, "unknown" },
	{ "{\"payload\":\"a\",\"x\\u001b[2J\":1}", -EINVAL, "x\\x1b[2J" },
	/* payload */
	{ "{\"payload\":null}", -EINVAL, "payload" },
	{ "{\"payload\":1}", -EINVAL, "payload" },
	{ "{\"payload\":{\"a\":1}}", -EINVAL, "payload" },
	{ "{\"payload\":\"a\",\"payload_base64\":\"YQ==\"}", -EINVAL, "payload_base64" },
	{ "{\"payload_base64\":\"YQ==\",\"payload\":\"a\"}", -EINVAL, "payload_base64" },
	{ "{\"payload_base64\":\"YQ=\"}", -EINVAL, "payload_base64" },
	{ "{\"payload_base64\":\"Y Q=\"}", -EINVAL, "payload_base64" },
	{ "{\"payload_base64\":\"YR==\"}", -EINVAL, "payload_base64" }, /* unused bits set */
	{ "{\"payload_base64\":\"YQ==YQ==\"}", -EINVAL, "payload_base64" },
	{ "{\"payload_base64\":\"====\"}", -EINVAL, "payload_base64" },
	{ "{\"payload_base64\":\"a{aa\"}", -EINVAL, "payload_base64" },
	{ "{\"payload_base64\":\"a`aa\"}", -EINVAL, "payload_base64" },
	{ "{\"payload_base64\":\"a:aa\"}", -EINVAL, "payload_base64" },
	{ "{\"payload_base64\":\"a+/9\"}", 1, "k\xef\xfd" },
	{ "{\"payload_base64\":7}", -EINVAL, "payload_base64" },
	/* types */
	{ "{\"payload\":\"a\",\"key\":1}", -EINVAL, "key" },
	{ "{\"payload\":\"a\",\"key\":\"b\",\"key_base64\":\"Yg==\"}", -EINVAL, "key_base64" },
	{ "{\"payload\":\"a\",\"key_base64\":\"b\"}", -EINVAL, "key_base64" },
	{ "{\"payload\":\"a\",\"headers\":[\"a\",\"b\"]}", -EINVAL, "headers" },
	{ "{\"payload\":\"a\",\"headers\":{\"a\":1}}", -EINVAL, "headers" },
	{ "{\"payload\":\"a\",\"headers\":null}", -EINVAL, "headers" },
	{ "{\"payload\":\"a\",\"id\":true}", -EINVAL, "id" },
	{ "{\"payload\":\"a\",\"id\":\"x\",\"dedup_id\":\"x\"}", -EINVAL, "dedup_id" },
	{ "{\"payload\":\"a\",\"routing_key\":null}", -EINVAL, "routing_key" },
	{ "{\"payload\":\"a\",\"ts\":\"now\"}", -EINVAL, "ts" },
	{ "{\"payload\":\"a\",\"ts\":1.5}", -EINVAL, "ts" },
	{ "{\"payload\":\"a\",\"priority\":\"5\"}", -EINVAL, "priority" },
	{ "{\"payload\":\"a\",\"priority\":5.0}", -EINVAL, "priority" },
	{ "{\"payload\":\"a\",\"ttl_ms\":false}", -EINVAL, "ttl_ms" },
	{ "{\"payload\":\"a\",\"delay_ms\":{}}", -EINVAL, "delay_ms" },
	{ "{\"payload\":\"a\",\"partition\":[0]}", -EINVAL, "partition" },
	{ "{\"payload\":\"a\",\"priority\":05}", -EINVAL, "JSON" },
	{ "{\"payload\":\"a\",\"priority\":+5}", -EINVAL, "JSON" },
	{ "{\"payload\":\"a\",\"ts\":NaN}", -EINVAL, "JSON" },
	/* ranges */
	{ "{\"payload\":\"a\",\"ts\":-1}", -ERANGE, "ts" },
	{ "{\"payload\":\"a\",\"ts\":9223372036854775808}", -ERANGE, "number" },
	{ "{\"payload\":\"a\",\"ts\":1e400}", -ERANGE, "number" },
	{ "{\"payload\":\"a\",\"offset\":1e400}", -ERANGE, "number" },
	{ "{\"payload\":\"a\",\"priority\":-1}", -ERANGE, "priority" },
	{ "{\"payload\":\"a\",\"priority\":10}", -ERANGE, "priority" },
	{ "{\"payload\":\"a\",\"ttl_ms\":-1}", -ERANGE, "ttl_ms" },
	{ "{\"payload\":\"a\",\"delay_ms\":-5}", -ERANGE, "delay_ms" },
	{ "{\"payload\":\"a\",\"partition\":-1}", -ERANGE, "partition" },
	{ "{\"payload\":\"a\",\"partition\":1024}", -ERANGE, "partition" },
	{ "{\"payload\":\"a\",\"partition\":4294967295}", -ERANGE, "partition" },
	/* sizes: 64 bytes are allowed here, however they are written */
	{ "{\"payload\":\"aaaaaaaabbbbbbbbccccccccddddddddeeeeeeeeffffffffgggggggghhhhhhhh\"}", 1,
	    "aaaaaaaabbbbbbbbccccccccddddddddeeeeeeeeffffffffgggggggghhhhhhhh" },
	{ "{\"payload\":\"aaaaaaaabbbbbbbbccccccccddddddddeeeeeeeeffffffffgggggggghhhhhhhhi\"}", -EMSGSIZE, "65" },
	{ "{\"payload_base64\":"
	  "\"YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh\"}",
	    -EMSGSIZE, "66" },
};

/* Every line gives what the table says; a refused one leaves the batch as it was and says why. */
Test(record, table)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct record_batch batch = { 0 };
		char reason[RECORD_REASON_MAX];
		size_t len = strlen(rows[i].line);
		char *line = malloc(len + 1); /* no NUL behind it: the sanitizer sees a read past its end */
		memcpy(line, rows[i].line, len);
		line = realloc(line, len > 0 ? len : 1);
		int result = record_batch_add_line(&batch, line, len, LIMIT, reason);
		cr_expect_eq(result, rows[i].result, "%s: %d %s", rows[i].line, result, reason);
		cr_expect_eq(batch.count, result == 1 ? 1 : 0, "%s", rows[i].line);
		if (result == 1)
			cr_expect(
			    memcmp(batch.data.ptr, rows[i].expect, strlen(rows[i].expect)) == 0, "%s", rows[i].line);
		else
			cr_expect(
			    batch.data.len == 0 && strstr(reason, rows[i].expect), "%s: %s", rows[i].line, reason);
		for (const char *c = reason; *c; c++)
			cr_expect((unsigned char)*c >= 0x20 && *c != 0x7f, "%s: a control character in the reason",
			    rows[i].line);
		record_batch_release(&batch);
		free(line);
	}
}

static void add(struct record_batch *batch, const char *line)
{
	char reason[RECORD_REASON_MAX];
	cr_assert_eq(record_batch_add_line(batch, line, strlen(line), LIMIT, reason), 1, "%s: %s", line, reason);
}

#define EXPECT_SPAN(span, text, size)                                                                                  \
	cr_expect((span).ptr && (span).len == (size) && memcmp((span).ptr, text, size) == 0, "%s", #span)

/* Every field arrives where it belongs; what is not given is absent. */
Test(record, fields)
{
	struct record_batch batch = { 0 };
	struct engine_batch got;
	add(&batch, "{\"payload\":\"text\",\"key\":\"k\",\"headers\":{\"a\":\"b\",\"\":\"\"},\"id\":\"dedup-id\","
		    "\"ts\":1732300000000,"
		    "\"priority\":5,\"ttl_ms\":60000,\"delay_ms\":1000,\"partition\":2,\"routing_key\":\"a.b\"}");
	add(&batch, "{\"payload_base64\":\"/wA=\",\"key_base64\":\"/"
		    "w==\",\"ts\":0,\"priority\":0,\"ttl_ms\":0,\"partition\":0}");
	add(&batch, "{\"payload\":\"\\u0000\",\"key\":\"\",\"id\":7}");
	record_batch_get(&batch, &got);
	cr_assert_eq(got.count, 3);
	cr_expect_eq(got.ts_ms, -1);
	cr_expect(got.len == 10 && memcmp(got.data, "text\n\xff\0\n\0\n", 10) == 0);
	cr_expect(got.lengths[0] == 4 && got.lengths[1] == 2 && got.lengths[2] == 1);

	const struct engine_props *props = got.props;
	EXPECT_SPAN(props[0].key, "k", 1);
	EXPECT_SPAN(props[0].id, "dedup-id", 8);
	EXPECT_SPAN(props[0].routing_key, "a.b", 3);
	cr_assert_eq(props[0].header_count, 2);
	EXPECT_SPAN(props[0].headers[0].name, "a", 1);
	EXPECT_SPAN(props[0].headers[0].value, "b", 1);
	EXPECT_SPAN(props[0].headers[1].name, "", 0);
	cr_expect(props[0].ts_ms == 1732300000000 && props[0].ttl_ms == 60000 && props[0].delay_ms == 1000);
	cr_expect(props[0].priority == 5 && props[0].partition == 2);

	EXPECT_SPAN(props[1].key, "\xff", 1);
	cr_expect(props[1].ts_ms == 0 && props[1].ttl_ms == 0 && props[1].delay_ms == -1);
	cr_expect(props[1].priority == 0 && props[1].partition == 0 && props[1].header_count == 0);

	EXPECT_SPAN(props[2].key, "", 0);
	cr_expect(!props[2].id.ptr && !props[2].routing_key.ptr && props[2].ts_ms == -1 && props[2].priority == -1);
	cr_expect_eq(props[2].partition, ENGINE_ANY);
	record_batch_release(&batch);
}

/* As many headers as there may be, and one more. */
Test(record, headers_max)
{
	for (unsigned count = RECORD_HEADERS_MAX; count <= RECORD_HEADERS_MAX + 1; count++) {
		struct record_batch batch = { 0 };
		struct buffer line = BUFFER_INIT;
		char reason[RECORD_REASON_MAX];
		buffer_add_text(&line, "{\"payload\":\"\",\"headers\":{");
		for (unsigned i = 0; i < count; i++)
			buffer_printf(&line, "%s\"%u\":\"\"", i > 0 ? "," : "", i);
		buffer_add_text(&line, "}}");
		cr_expect_eq(record_batch_add_line(&batch, line.ptr, line.len, LIMIT, reason),
		    count > RECORD_HEADERS_MAX ? -ERANGE : 1, "%u: %s", count, reason);
		buffer_release(&line);
		record_batch_release(&batch);
	}
}

/* Keys, ids and headers have limits of their own. */
Test(record, limits)
{
	static const struct {
		const char *before, *after;
		size_t most;
		char fill;
	} cases[] = {
		{ "{\"payload\":\"\",\"key\":\"", "\"}", ENGINE_KEY_MAX, 'k' },
		{ "{\"payload\":\"\",\"routing_key\":\"", "\"}", ENGINE_KEY_MAX, 'r' },
		{ "{\"payload\":\"\",\"id\":\"", "\"}", RECORD_ID_MAX, 'i' },
		{ "{\"payload\":\"\",\"key_base64\":\"", "\"}", ENGINE_KEY_MAX / 3 * 4, 'A' },
		{ "{\"payload\":\"\",\"headers\":{\"a\":\"", "\"}}", RECORD_HEADERS_BYTES_MAX - 1, 'h' },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t step = cases[i].fill == 'A' ? 4 : 1;
		for (size_t len = cases[i].most; len <= cases[i].most + step; len += step) {
			struct record_batch batch = { 0 };
			struct buffer line = BUFFER_INIT;
			char reason[RECORD_REASON_MAX];
			buffer_add_text(&line, cases[i].before);
			memset(buffer_room(&line, len), cases[i].fill, len);
			line.len += len;
			buffer_add_text(&line, cases[i].after);
			cr_expect_eq(record_batch_add_line(&batch, line.ptr, line.len, LIMIT, reason),
			    len > cases[i].most ? -ERANGE : 1, "%s with %zu: %s", cases[i].before, len, reason);
			buffer_release(&line);
			record_batch_release(&batch);
		}
	}
}

/* Ten thousand brackets are refused, not followed down the stack. */
Test(record, depth_bomb)
{
	static const char *const openings[] = { "[", "{\"a\":", "{\"headers\":", "{\"payload\":[" };
	for (size_t i = 0; i < sizeof(openings) / sizeof(openings[0]); i++) {
		struct record_batch batch = { 0 };
		struct buffer line = BUFFER_INIT;
		char reason[RECORD_REASON_MAX];
		for (int depth = 0; depth < 100000; depth++)
			buffer_add_text(&line, openings[i]);
		cr_expect_eq(record_batch_add_line(&batch, line.ptr, line.len, line.len, reason), -EINVAL);
		cr_expect(strstr(reason, "depth"), "%s", reason);
		buffer_release(&line);
		record_batch_release(&batch);
	}
}

/* A line cut anywhere is no record, and reads nothing beyond its end. */
Test(record, every_prefix)
{
	const char *whole =
	    "{\"payload\":\"te\\u00e9\xc3\xa9xt\",\"key\":\"k\",\"headers\":{\"a\":\"b\"},\"ts\":17,\"priority\":5}";
	for (size_t len = 1; len < strlen(whole); len++) {
		struct record_batch batch = { 0 };
		char reason[RECORD_REASON_MAX], *line = malloc(len);
		memcpy(line, whole, len);
		cr_expect_eq(record_batch_add_line(&batch, line, len, LIMIT, reason), -EINVAL, "%.*s", (int)len, whole);
		free(line);
		record_batch_release(&batch);
	}
}

/* Random damage to a good line never does more than refuse it. */
Test(record, random_damage)
{
	const char *whole =
	    "{\"payload\":\"text\",\"key\":\"k\",\"headers\":{\"a\":\"b\"},\"id\":\"x\",\"ts\":17,\"priority\":5}";
	srand(1);
	for (int i = 0; i < 20000; i++) {
		struct record_batch batch = { 0 };
		char reason[RECORD_REASON_MAX], line[128];
		size_t len = strlen(whole);
		memcpy(line, whole, len);
		for (int hits = 1 + rand() % 4; hits > 0; hits--)
			line[(size_t)rand() % len] = rand() % 2 ? (char)rand() : "{}[]\",:0\\"[rand() % 9];
		int result = record_batch_add_line(&batch, line, len, LIMIT, reason);
		cr_assert(result == 1 || result == -EINVAL || result == -ERANGE, "%.*s: %d", (int)len, line, result);
		cr_assert_eq(batch.count, result == 1 ? 1 : 0);
		cr_assert((result < 0) == (reason[0] != '\0'));
		record_batch_release(&batch);
	}
}

/* What was added stays right while the batch grows a thousandfold, and a cleared batch starts anew. */
Test(record, many)
{
	struct record_batch batch = { 0 };
	struct engine_batch got;
	char line[128];
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 5000; i++) {
			snprintf(line, sizeof(line),
			    "{\"payload\":\"m%d\",\"key\":\"k%d\",\"headers\":{\"h%d\":\"v%d\"}}", i, i, i, i);
			add(&batch, line);
		}
		record_batch_get(&batch, &got);
		cr_assert_eq(got.count, 5000);
		const char *at = got.data;
		for (uint32_t i = 0; i < got.count; i++) {
			int len = snprintf(line, sizeof(line), "m%u", i);
			cr_assert(
			    got.lengths[i] == (uint32_t)len && memcmp(at, line, (size_t)len) == 0 && at[len] == '\n');
			at += len + 1;
			line[0] = 'k';
			cr_assert(got.props[i].key.len == (size_t)len &&
				  memcmp(got.props[i].key.ptr, line, (size_t)len) == 0);
			line[0] = 'v';
			cr_assert(memcmp(got.props[i].headers[0].value.ptr, line, (size_t)len) == 0);
		}
		cr_assert_eq(at, got.data + got.len);
		record_batch_clear(&batch);
		cr_assert_eq(batch.count, 0);
	}
	record_batch_release(&batch);
}

/* Blank lines make no message, but each message knows its line: a refused one can be found in what was written. */
Test(record, line_numbers)
{
	static const char *const lines[] = { "", "{\"payload\":\"1\"}", " ", "", "{\"payload\":\"4\"}", "bad",
		"{\"payload\":\"5\"}" };
	static const uint32_t expected[] = { 1, 4, 5 }; /* a line that is refused does not count */
	struct record_batch batch = { 0 };
	char reason[RECORD_REASON_MAX];
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
			record_batch_add_line(&batch, lines[i], strlen(lines[i]), LIMIT, reason);
		cr_assert_eq(batch.count, 3);
		for (uint32_t i = 0; i < batch.count; i++)
			cr_expect_eq(batch.line_of[i], expected[i], "message %u is on line %u", i, batch.line_of[i]);
		record_batch_clear(&batch);
	}
	record_batch_release(&batch);
}

/* A message made elsewhere is copied with all that belongs to it. */
Test(record, add)
{
	struct record_batch batch = { 0 };
	struct engine_batch got;
	char name[] = "filename", value[] = "a.txt", payload[] = "one\ntwo";
	struct engine_header header = { { name, 8 }, { value, 5 } };
	struct engine_props props = ENGINE_PROPS_INIT;
	props.headers = &header;
	props.header_count = 1;
	cr_assert_eq(record_batch_add(&batch, (struct engine_span){ payload, 7 }, &props), 0);
	cr_assert_eq(record_batch_add(&batch, (struct engine_span){ NULL, 0 }, NULL), 0);
	memset(name, 0, sizeof(name));
	memset(value, 0, sizeof(value));
	memset(payload, 0, sizeof(payload));
	memset(&header, 0, sizeof(header));
	record_batch_get(&batch, &got);
	cr_expect(got.count == 2 && got.len == 9 && memcmp(got.data, "one\ntwo\n\n", 9) == 0);
	cr_expect(got.lengths[0] == 7 && got.lengths[1] == 0);
	EXPECT_SPAN(got.props[0].headers[0].name, "filename", 8);
	EXPECT_SPAN(got.props[0].headers[0].value, "a.txt", 5);
	cr_expect(got.props[1].header_count == 0 && got.props[1].partition == ENGINE_ANY);
	record_batch_release(&batch);
}

/* The longest spelling of a payload fits into a line, and the bound does not overflow. */
Test(record, line_max)
{
	cr_expect_geq(
	    RECORD_LINE_MAX(1), 6 * (1 + RECORD_HEADERS_BYTES_MAX + RECORD_ID_MAX + 2 * ENGINE_KEY_MAX) + 1000);
	cr_expect_eq(RECORD_LINE_MAX(16u << 20), (96u << 20) + (512u << 10));
	cr_expect_eq(RECORD_LINE_MAX(ENGINE_MESSAGE_MAX), (size_t)1 << 30);
}

/* What a part of a line is refused for before its end has come, and what not yet. */
Test(record, parts)
{
	static const struct {
		const char *part;
		int answer;
	} parts[] = {
		{ "", 0 },
		{ " \t", 0 },
		{ " {", 0 },
		{ "{\"payload\":\"x\"", 0 },
		{ "{\"headers\":{\"a\":\"b\"} ", 0 }, /* it ends like an object, and goes on */
		{ "{\"payload\":\"x\"}", 1 },
		{ "{\"payload\":1}", -EINVAL },
		{ "{x}", -EINVAL },
		{ "text", -EINVAL },
		{ "[", -EINVAL },
	};
	char reason[RECORD_REASON_MAX], *large = calloc(1, 70000);

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		struct record_batch batch = { 0 };
		int answer = record_check_part(&batch, parts[i].part, strlen(parts[i].part), LIMIT, reason);
		cr_expect_eq(answer, parts[i].answer, "part %zu: %d", i, answer);
		cr_expect_eq(reason[0] != '\0', parts[i].answer < 0);
		cr_expect_eq(batch.count, answer == 1);
		record_batch_release(&batch);
	}
	memset(large, ' ', 69999);
	large[0] = '{';
	large[69998] = '}';
	struct record_batch batch = { 0 };
	cr_expect_eq(
	    record_check_part(&batch, large, 69999, LIMIT, reason), 1, "too large to be looked at again and again");
	cr_expect_eq(batch.count, 0);
	free(large);
}

/* Without memory a line is refused as such, and taken the next time; a part is not refused for it. */
Test(record, no_memory)
{
	static const char line[] =
	    "{\"payload_base64\":\"eA==\",\"key_base64\":\"aw==\",\"id\":\"i\",\"routing_key\":\"r\","
	    "\"headers\":{\"a\":\"b\",\"c\":\"d\"}}";
	static char value[RECORD_HEADERS_BYTES_MAX - 8], text[RECORD_HEADERS_BYTES_MAX + 200];
	struct record_batch batch = { 0 };
	char reason[RECORD_REASON_MAX];
	bool reached = true;
	uint32_t count = 0;

	/* With a value as large as a block of memory, so that each part of the message has one of its own now and then. */
	memset(value, 'v', sizeof(value) - 1);
	snprintf(text, sizeof(text), "{\"payload\":\"x\",\"key\":\"k\",\"headers\":{\"a\":\"%s\",\"c\":\"d\"}}", value);
	for (uint64_t n = 1; reached; n++) {
		for (int large = 0; large < 2; large++) {
			const char *all = large ? text : line;
			int rc;

			alloc_arm(n);
			rc = record_batch_add_line(&batch, all, strlen(all), LIMIT, reason);
			reached = alloc_disarm() >= n;
			cr_assert(rc == 1 || (reached && rc == -ENOMEM && reason[0] != '\0'), "%d, call %d: %d", large,
			    (int)n, rc);
			count += rc == 1;
			cr_assert_eq(batch.count, count);
			if (n % 2 == 0) {
				record_batch_release(&batch);
				count = 0;
			}
			struct record_batch part = { 0 };
			alloc_arm(n);
			rc = record_check_part(&part, all, strlen(all), LIMIT, reason);
			alloc_disarm();
			cr_assert(rc == 1 || rc == 0 || rc == -ENOMEM, "%d", rc);
			cr_assert(part.count == 0 || rc == 1);
			record_batch_release(&part);
		}
	}
	record_batch_release(&batch);
}

/* A batch whose blocks are full to each byte: whichever span of a message needs the next one, without it nothing is added. */
Test(record, no_memory_for_a_span)
{
	static char fill[16384];
	struct engine_header headers[] = { { { "name", 4 }, { "value", 5 } } };
	struct engine_props props = ENGINE_PROPS_INIT, filler = ENGINE_PROPS_INIT;
	const struct engine_span payload = { "x", 1 };
	unsigned failed = 0;

	props.key = props.id = props.routing_key = (struct engine_span){ "text", 4 };
	props.headers = headers;
	props.header_count = 1;
	for (size_t left = 0; left < 256; left += 16) { /* of the block, when the message comes */
		struct record_batch batch = { 0 };
		int rc;

		filler.key = (struct engine_span){ fill, sizeof(fill) - left - 1 };
		cr_assert_eq(record_batch_add(&batch, payload, &filler), 0);
		alloc_arm(1);
		rc = record_batch_add(&batch, payload, &props);
		alloc_disarm();
		failed += rc == -ENOMEM;
		cr_assert_eq(batch.count, rc == 0 ? 2 : 1);
		cr_assert_eq(record_batch_add(&batch, payload, &props), 0);
		record_batch_release(&batch);
	}
	cr_assert_gt(failed, 5);
}
