#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/crc32c.h"
#include "engine/meta.h"

#define SPAN(text) ((struct engine_span){ text, sizeof(text) - 1 })
#define CRC 0x12345678u

static const struct engine_header headers[] = { { { "a", 1 }, { "1", 1 } }, { { "a", 1 }, { "2\n\0", 3 } },
	{ { "", 0 }, { "", 0 } } };

static struct engine_props some(void)
{
	struct engine_props props = ENGINE_PROPS_INIT;

	props.key = SPAN("k");
	props.id = SPAN("dedup");
	props.routing_key = SPAN("a.b");
	props.headers = headers;
	props.header_count = 3;
	props.ts_ms = 5;
	props.ttl_ms = 60000;
	props.delay_ms = 0;
	props.priority = 9;
	return props;
}

static bool same_span(struct engine_span a, struct engine_span b)
{
	return !a.ptr == !b.ptr && a.len == b.len && (!a.len || !memcmp(a.ptr, b.ptr, a.len));
}

static void expect_same(const struct engine_props *a, const struct engine_props *b)
{
	cr_assert(same_span(a->key, b->key) && same_span(a->id, b->id) && same_span(a->routing_key, b->routing_key));
	cr_assert(a->ttl_ms == b->ttl_ms && a->delay_ms == b->delay_ms && a->priority == b->priority);
	cr_assert_eq(a->header_count, b->header_count);
	for (uint32_t i = 0; i < a->header_count; i++) {
		cr_assert(same_span(a->headers[i].name, b->headers[i].name));
		cr_assert(same_span(a->headers[i].value, b->headers[i].value));
	}
}

/* Puts the record of a batch, in memory of exactly its size, so that a sanitizer sees a read beyond it. */
static uint8_t *put(const struct engine_batch *batch, bool newlines, uint32_t *ret_size, uint8_t *ret_flags)
{
	uint8_t flags = meta_flags(batch, 0, batch->count, newlines), *record;
	uint64_t size = meta_size(batch, 0, batch->count, flags);

	record = malloc(size);
	meta_put(record, (uint32_t)size, batch, 0, batch->count, flags, CRC);
	*ret_size = (uint32_t)size;
	*ret_flags = flags;
	return record;
}

/* All that can travel with a message comes back, and only that; the batch's time where a message has none of its own. */
Test(meta, round_trip)
{
	struct engine_props props[3] = { some(), ENGINE_PROPS_INIT, ENGINE_PROPS_INIT }, out[3];
	uint32_t lengths[3] = { 0, 300, 3 }, lengths_out[3], size;
	struct engine_batch batch = { .len = 306, .count = 3, .lengths = lengths, .props = props, .ts_ms = 77 };
	struct engine_header headers_out[3];
	struct meta_shape shape;
	uint8_t *record, flags;

	props[1].key = SPAN("");
	record = put(&batch, true, &size, &flags);
	cr_assert_eq(flags, META_LENGTHS | META_PROPS);
	cr_assert_eq(meta_check(record, size, 3, 306, CRC, &shape), 0);
	cr_assert(shape.flags == flags && shape.header_count == 3);
	meta_get(record, size, 3, 77, lengths_out, out, headers_out, NULL);
	cr_assert(!memcmp(lengths, lengths_out, sizeof(lengths)));
	for (int i = 0; i < 3; i++)
		expect_same(&out[i], &props[i]);
	cr_assert(out[0].ts_ms == 5 && out[1].ts_ms == 77 && out[2].ts_ms == 77);
	cr_assert_eq(out[0].partition, ENGINE_ANY);
	free(record);
}

/* A key that all messages share is kept once; beside it, what each has. */
Test(meta, common_key)
{
	struct engine_props props[2] = { ENGINE_PROPS_INIT, ENGINE_PROPS_INIT }, out[2];
	struct engine_batch batch = { .len = 2, .count = 2, .props = props, .ts_ms = 77 };
	struct meta_shape shape;
	uint8_t *record, flags;
	uint32_t size;

	props[0].key = SPAN("key");
	props[1].key = SPAN("key");
	props[1].ts_ms = 77; /* as the batch: nothing to keep */
	record = put(&batch, false, &size, &flags);
	cr_assert_eq(flags, META_KEY);
	cr_assert_eq(size, META_FIXED + 4);
	cr_assert_eq(meta_check(record, size, 2, 2, CRC, &shape), 0);
	meta_get(record, size, 2, 77, NULL, out, NULL, NULL);
	expect_same(&out[0], &props[0]);
	expect_same(&out[1], &props[1]);
	free(record);
	props[1].priority = 3;
	record = put(&batch, false, &size, &flags);
	cr_assert_eq(flags, META_KEY | META_PROPS);
	cr_assert_eq(meta_check(record, size, 2, 2, CRC, &shape), 0);
	meta_get(record, size, 2, 77, NULL, out, NULL, NULL);
	expect_same(&out[0], &props[0]);
	expect_same(&out[1], &props[1]);
	free(record);
}

/* A batch with nothing to say needs no record. */
Test(meta, nothing)
{
	struct engine_props props[2] = { ENGINE_PROPS_INIT, ENGINE_PROPS_INIT };
	struct engine_batch batch = { .len = 2, .count = 2, .props = props };

	cr_assert_eq(meta_flags(&batch, 0, 2, false), 0);
	batch.props = NULL;
	cr_assert_eq(meta_flags(&batch, 0, 2, false), 0);
	cr_assert_eq(meta_flags(&batch, 0, 2, true), META_LENGTHS);
}

/* Of another batch, cut short, or with any bit changed, a record is refused. */
Test(meta, damage)
{
	struct engine_props props[1] = { some() };
	uint32_t lengths[1] = { 4 }, size;
	struct engine_batch batch = { .len = 5, .count = 1, .lengths = lengths, .props = props };
	struct meta_shape shape;
	uint8_t *record, flags;

	record = put(&batch, true, &size, &flags);
	cr_assert_eq(meta_check(record, size, 1, 5, CRC, &shape), 0);
	cr_assert_eq(meta_check(record, size, 1, 5, CRC + 1, &shape), -EBADMSG);
	for (uint32_t short_size = 0; short_size < size; short_size++)
		cr_assert_eq(meta_check(record, short_size, 1, 5, CRC, &shape), -EBADMSG);
	for (unsigned bit = 0; bit < 8 * size; bit++) {
		record[bit / 8] ^= (uint8_t)(1 << bit % 8);
		cr_assert_eq(meta_check(record, size, 1, 5, CRC, &shape), -EBADMSG);
		record[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	free(record);
}

/* The key is kept once only if all have it, and it is the same: no key is not the empty one. */
Test(meta, same_keys)
{
	static const struct {
		const char *a, *b;
		bool same;
	} rows[] = { { "k", "k", true }, { "k", "x", false }, { "k", "kk", false }, { "k", NULL, false },
		{ "", NULL, false }, { NULL, "k", false }, { NULL, "", false }, { "", "", true } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct engine_props props[2] = { ENGINE_PROPS_INIT, ENGINE_PROPS_INIT };
		struct engine_batch batch = { .len = 2, .count = 2, .props = props };
		char b[4] = "";

		if (rows[i].a != NULL)
			props[0].key = (struct engine_span){ rows[i].a, strlen(rows[i].a) };
		if (rows[i].b != NULL)
			props[1].key = (struct engine_span){ strcpy(b, rows[i].b), strlen(rows[i].b) };
		cr_expect_eq(meta_flags(&batch, 0, 2, false), rows[i].same ? META_KEY : META_PROPS, "row %zu", i);
	}
}

#define PROP(type, ...)                                                                                                \
	{                                                                                                              \
		(2 + sizeof((uint8_t[]){ __VA_ARGS__ })), (type), sizeof((uint8_t[]){ __VA_ARGS__ }), __VA_ARGS__      \
	}
#define BEYOND_32 0xff, 0xff, 0xff, 0xff, 0x7f                               /* 2^35 - 1 */
#define BEYOND_63 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01 /* 2^64 - 1 */

static int count_one(void *ctx, uint32_t i, const struct engine_props *props)
{
	(void)i, (void)props;
	++*(unsigned *)ctx;
	return 0;
}

/* Properties that say what cannot be are refused one by one, by who looks at all and by who goes through them; what is not known is passed over. */
Test(meta, bad_properties)
{
	static const struct {
		uint8_t list[16]; /* its length, then type, length and value of one */
		int rc;
	} rows[] = { { PROP(5, 7), 0 }, { PROP(5, 7, 7), -EBADMSG }, { PROP(5, 0x80), -EBADMSG },
		{ PROP(5, BEYOND_63), -EBADMSG }, { PROP(6, BEYOND_63), -EBADMSG }, { PROP(7, BEYOND_63), -EBADMSG },
		{ PROP(8, BEYOND_32), -EBADMSG }, { PROP(8, 9), 0 }, { PROP(10, BEYOND_63), -EBADMSG },
		{ PROP(10, 1), 0 }, { PROP(2, 1, 'a', 'b'), 0 }, { PROP(2, 3, 'a', 'b'), -EBADMSG },
		{ PROP(9, 0, 1, 2, 'q'), 0 }, { PROP(9, 99, 1, 2, 'q'), -EBADMSG },
		{ PROP(9, 0, BEYOND_32, 2), -EBADMSG }, { PROP(9, 0x80), -EBADMSG }, { PROP(9, 0, 0x80), -EBADMSG },
		{ PROP(9, 0, 0, 0x80), -EBADMSG }, { PROP(99, 1), 0 }, { { 2, 5, 9 }, -EBADMSG },
		{ { 1, 5 }, -EBADMSG } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t record[META_FIXED + 16] = { 0 }, seed[4];
		uint32_t size = META_FIXED + 1u + rows[i].list[0];
		struct meta_shape shape;
		unsigned count = 0;

		bytes_put32(record + 4, size);
		record[8] = META_PROPS;
		memcpy(record + META_FIXED, rows[i].list, 1u + rows[i].list[0]);
		bytes_put32(seed, CRC);
		bytes_put32(record, crc32c(crc32c(0, seed, 4), record + 4, size - 4));
		cr_expect_eq(meta_check(record, size, 1, 2, CRC, &shape), rows[i].rc, "row %zu", i);
		cr_expect_eq(meta_each(record, size, 1, 2, CRC, count_one, &count), rows[i].rc, "row %zu", i);
		cr_expect_eq(count, rows[i].rc == 0);
	}
}

static int refuse_second(void *ctx, uint32_t i, const struct engine_props *props)
{
	cr_assert(same_span(props->key, SPAN("key")));
	*(uint32_t *)ctx = i;
	return i == 1 ? -ENOTRECOVERABLE : 0;
}

/* Who goes through a record is given what each message has, past their lengths, and can end it. */
Test(meta, each)
{
	struct engine_props props[3] = { ENGINE_PROPS_INIT, ENGINE_PROPS_INIT, ENGINE_PROPS_INIT };
	uint32_t lengths[3] = { 1, 2, 3 }, size, last = 9;
	struct engine_batch batch = { .len = 9, .count = 3, .lengths = lengths, .props = props };
	uint8_t *record, flags;

	for (int i = 0; i < 3; i++)
		props[i].key = SPAN("key");
	record = put(&batch, true, &size, &flags);
	cr_assert_eq(flags, META_KEY | META_LENGTHS);
	cr_assert_eq(meta_each(record, size, 3, 9, CRC, refuse_second, &last), -ENOTRECOVERABLE);
	cr_assert_eq(last, 1);
	free(record);
}

/* A record whose CRC is right but whose content is not is refused without reading beyond it (made by hand or by a bug). */
Test(meta, hostile)
{
	uint32_t random = 1;

	for (int round = 0; round < 200000; round++) {
		uint8_t *record = malloc(32), seed[4];
		uint32_t size = META_FIXED + (random = random * 1103515245 + 12345) % 23;
		struct meta_shape shape;
		uint32_t lengths[4];
		struct engine_props props[4];
		struct engine_header some_headers[32];
		struct engine_death some_deaths[32];

		record = realloc(record, size);
		for (uint32_t i = 8; i < size; i++)
			record[i] = (uint8_t)(((random = random * 1103515245 + 12345) >> 16) % 12);
		bytes_put32(record + 4, size);
		bytes_put32(seed, CRC);
		bytes_put32(record, crc32c(crc32c(0, seed, 4), record + 4, size - 4));
		if (!meta_check(record, size, 4, 16, CRC, &shape))
			meta_get(record, size, 4, 0, lengths, props, some_headers, some_deaths);
		free(record);
	}
}
