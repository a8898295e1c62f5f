/*
 * meta - see meta.h, which has the bytes.
 *
 * Writing goes over the messages twice, once to measure and once to put, by the same functions: a struct sink without a
 * buffer only counts. Reading likewise: meta_check walks everything before meta_get takes anything for granted.
 */
#include "engine/meta.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/crc32c.h"

enum property {
	KEY = 1,
	HEADER = 2,
	ID = 3,
	ROUTING_KEY = 4,
	TS = 5,
	TTL = 6,
	DELAY = 7,
	PRIORITY = 8,
	DEATH = 9,
	MARK = 10,
	TOMBSTONE = 11
};

/* ------------------------------------------------------------------------------------------ writing */

struct sink {
	uint8_t *out; /* NULL: only count */
	uint64_t size;
};

static void sink_bytes(struct sink *sink, const void *ptr, size_t size)
{
	if (sink->out && size > 0)
		memcpy(sink->out + sink->size, ptr, size);
	sink->size += size;
}

static void sink_leb(struct sink *sink, uint64_t v)
{
	uint8_t leb[BYTES_LEB_MAX + 1];

	sink_bytes(sink, leb, bytes_put_leb(leb, v));
}

static void sink_type(struct sink *sink, enum property type)
{
	sink_bytes(sink, &(uint8_t){ (uint8_t)type }, 1);
}

static void sink_span(struct sink *sink, enum property type, struct engine_span span)
{
	if (!span.ptr)
		return;
	sink_type(sink, type);
	sink_leb(sink, span.len);
	sink_bytes(sink, span.ptr, span.len);
}

static void sink_number(struct sink *sink, enum property type, int64_t v)
{
	if (v < 0)
		return;
	sink_type(sink, type);
	sink_leb(sink, bytes_leb_size((uint64_t)v));
	sink_leb(sink, (uint64_t)v);
}

static void sink_header(struct sink *sink, const struct engine_header *header)
{
	sink_type(sink, HEADER);
	sink_leb(sink, bytes_leb_size(header->name.len) + header->name.len + header->value.len);
	sink_leb(sink, header->name.len);
	sink_bytes(sink, header->name.ptr, header->name.len);
	sink_bytes(sink, header->value.ptr, header->value.len);
}

static void sink_death(struct sink *sink, const struct engine_death *death)
{
	uint64_t ts_ms = death->ts_ms > 0 ? (uint64_t)death->ts_ms : 0;

	sink_type(sink, DEATH);
	sink_leb(sink, bytes_leb_size((uint64_t)death->reason) + bytes_leb_size(death->count) + bytes_leb_size(ts_ms) +
			   death->queue.len);
	sink_leb(sink, (uint64_t)death->reason);
	sink_leb(sink, death->count);
	sink_leb(sink, ts_ms);
	sink_bytes(sink, death->queue.ptr, death->queue.len);
}

static void sink_props(struct sink *sink, const struct engine_props *props, int64_t batch_ts_ms, bool with_key)
{
	if (with_key)
		sink_span(sink, KEY, props->key);
	for (uint32_t i = 0; i < props->header_count; i++)
		sink_header(sink, &props->headers[i]);
	sink_span(sink, ID, props->id);
	sink_span(sink, ROUTING_KEY, props->routing_key);
	if (props->ts_ms != batch_ts_ms)
		sink_number(sink, TS, props->ts_ms);
	sink_number(sink, TTL, props->ttl_ms);
	sink_number(sink, DELAY, props->delay_ms);
	sink_number(sink, PRIORITY, props->priority);
	for (uint32_t i = 0; i < props->death_count; i++)
		sink_death(sink, &props->deaths[i]);
	if (props->mark > 0)
		sink_number(sink, MARK, (int64_t)props->mark);
	if (props->tombstone)
		sink_span(sink, TOMBSTONE, (struct engine_span){ "", 0 });
}

/* a has one. */
static bool same_key(const struct engine_span *a, const struct engine_span *b)
{
	if (!b->ptr || a->len != b->len)
		return false;
	return a->ptr == b->ptr || a->len == 0 || !memcmp(a->ptr, b->ptr, a->len);
}

uint8_t meta_flags(const struct engine_batch *batch, uint32_t first, uint32_t count, bool newlines)
{
	uint8_t flags = newlines ? META_LENGTHS : 0;
	const struct engine_props *props = batch->props ? batch->props + first : NULL;
	bool common = props && props->key.ptr;

	if (!props)
		return flags;
	for (uint32_t i = 1; i < count && common; i++)
		common = same_key(&props->key, &props[i].key);
	if (common)
		flags |= META_KEY;
	for (uint32_t i = 0; i < count; i++) {
		struct sink sink = { 0 };

		sink_props(&sink, &props[i], batch->ts_ms, !common);
		if (sink.size > 0)
			return flags | META_PROPS;
	}
	return flags;
}

static void sink_record(
    struct sink *sink, const struct engine_batch *batch, uint32_t first, uint32_t count, uint8_t flags)
{
	if (flags & META_KEY) {
		sink_leb(sink, batch->props[first].key.len);
		sink_bytes(sink, batch->props[first].key.ptr, batch->props[first].key.len);
	}
	if (flags & META_LENGTHS)
		for (uint32_t i = 0; i < count; i++)
			sink_leb(sink, batch->lengths[first + i]);
	if (flags & META_PROPS)
		for (uint32_t i = 0; i < count; i++) {
			struct sink measure = { 0 };

			sink_props(&measure, &batch->props[first + i], batch->ts_ms, !(flags & META_KEY));
			sink_leb(sink, measure.size);
			sink_props(sink, &batch->props[first + i], batch->ts_ms, !(flags & META_KEY));
		}
}

uint64_t meta_size(const struct engine_batch *batch, uint32_t first, uint32_t count, uint8_t flags)
{
	struct sink sink = { .size = META_FIXED };

	sink_record(&sink, batch, first, count, flags);
	return sink.size;
}

uint32_t meta_crc_seed(uint32_t data_crc)
{
	uint8_t seed[4];

	bytes_put32(seed, data_crc);
	return crc32c(0, seed, sizeof(seed));
}

static uint32_t record_crc(const uint8_t *record, uint32_t size, uint32_t data_crc)
{
	return crc32c(meta_crc_seed(data_crc), record + 4, size - 4);
}

void meta_put(uint8_t *out, uint32_t size, const struct engine_batch *batch, uint32_t first, uint32_t count,
    uint8_t flags, uint32_t data_crc)
{
	struct sink sink = { .out = out, .size = META_FIXED };

	sink_record(&sink, batch, first, count, flags);
	assert(sink.size == size);
	bytes_put32(out + 4, size);
	out[8] = flags;
	bytes_put32(out, record_crc(out, size, data_crc));
}

/* ------------------------------------------------------------------------------------------ reading */

/* Takes a leb length and that many bytes at *cursor. False if they do not end before end. */
static bool take_span(const uint8_t **cursor, const uint8_t *end, struct engine_span *ret_span)
{
	const uint8_t *p = *cursor;
	uint64_t len;

	if (!bytes_get_leb(&p, end, &len) || len > (uint64_t)(end - p))
		return false;
	*ret_span = (struct engine_span){ .ptr = (const char *)p, .len = (size_t)len };
	*cursor = p + len;
	return true;
}

static bool take_number(struct engine_span value, uint64_t max, int64_t *ret_v)
{
	const uint8_t *p = (const uint8_t *)value.ptr, *end = p + value.len;
	uint64_t v;

	if (!bytes_get_leb(&p, end, &v) || p != end || v > max)
		return false;
	*ret_v = (int64_t)v;
	return true;
}

static bool take_header(struct engine_span value, struct engine_header *ret_header)
{
	const uint8_t *p = (const uint8_t *)value.ptr, *end = p + value.len;

	if (!take_span(&p, end, &ret_header->name))
		return false;
	ret_header->value = (struct engine_span){ .ptr = (const char *)p, .len = (size_t)(end - p) };
	return true;
}

static bool take_death(struct engine_span value, struct engine_death *ret_death)
{
	const uint8_t *p = (const uint8_t *)value.ptr, *end = p + value.len;
	uint64_t reason, count, ts_ms;

	if (!bytes_get_leb(&p, end, &reason) || !bytes_get_leb(&p, end, &count) || !bytes_get_leb(&p, end, &ts_ms) ||
	    reason > ENGINE_DELIVERY_LIMIT || count > UINT32_MAX)
		return false;
	*ret_death = (struct engine_death){
		.queue = { .ptr = (const char *)p, .len = (size_t)(end - p) },
		.reason = (enum engine_death_reason)reason,
		.count = (uint32_t)count,
		.ts_ms = (int64_t)ts_ms,
	};
	return true;
}

/* One property. *header and *death are where the next of these go. */
static bool take_property(uint8_t type, struct engine_span value, struct engine_props *props,
    struct engine_header *header, struct engine_death *death)
{
	int64_t number;

	switch (type) {
	case KEY: props->key = value; return true;
	case HEADER: props->header_count++; return take_header(value, header);
	case ID: props->id = value; return true;
	case ROUTING_KEY: props->routing_key = value; return true;
	case TS: return take_number(value, INT64_MAX, &props->ts_ms);
	case TTL: return take_number(value, INT64_MAX, &props->ttl_ms);
	case DELAY: return take_number(value, INT64_MAX, &props->delay_ms);
	case PRIORITY:
		if (!take_number(value, INT32_MAX, &number))
			return false;
		props->priority = (int32_t)number;
		return true;
	case MARK:
		if (!take_number(value, INT64_MAX, &number))
			return false;
		props->mark = (uint64_t)number;
		return true;
	case DEATH: props->death_count++; return take_death(value, death);
	case TOMBSTONE: props->tombstone = true; return true;
	default: return true;
	}
}

/*
 * The properties of one message. With headers NULL they and deaths are only counted and checked; else they go there, one
 * after another.
 */
static bool take_props(
    struct engine_span list, struct engine_props *props, struct engine_header *headers, struct engine_death *deaths)
{
	const uint8_t *p = (const uint8_t *)list.ptr, *end = p + list.len;
	struct engine_header unused;
	struct engine_death unused_death;

	while (p < end) {
		uint8_t type = *p++;
		struct engine_span value;

		if (!take_span(&p, end, &value) ||
		    !take_property(type, value, props, headers ? &headers[props->header_count] : &unused,
			deaths ? &deaths[props->death_count] : &unused_death))
			return false;
	}
	return true;
}

/* Lengths must add up to the data, delimiters included. */
static bool check_lengths(const uint8_t **cursor, const uint8_t *end, uint32_t count, uint32_t data_length)
{
	uint64_t sum = 0, length;

	for (uint32_t i = 0; i < count; i++) {
		if (!bytes_get_leb(cursor, end, &length) || length >= data_length)
			return false;
		sum += length + 1;
	}
	return sum == data_length;
}

int meta_check(const uint8_t *record, uint32_t size, uint32_t count, uint32_t data_length, uint32_t data_crc,
    struct meta_shape *ret_shape)
{
	const uint8_t *p = record + META_FIXED, *end = record + size;
	struct meta_shape shape = { 0 };
	struct engine_span span;

	if (size < META_FIXED || bytes_get32(record + 4) != size ||
	    bytes_get32(record) != record_crc(record, size, data_crc))
		return -EBADMSG;
	shape.flags = record[8];
	if (shape.flags & ~(META_LENGTHS | META_PROPS | META_KEY))
		return -EBADMSG;
	if (shape.flags & META_KEY && !take_span(&p, end, &span))
		return -EBADMSG;
	if (shape.flags & META_LENGTHS && !check_lengths(&p, end, count, data_length))
		return -EBADMSG;
	for (uint32_t i = 0; shape.flags & META_PROPS && i < count; i++) {
		struct engine_props props = { 0 };

		if (!take_span(&p, end, &span) || !take_props(span, &props, NULL, NULL))
			return -EBADMSG;
		shape.header_count += props.header_count;
		shape.death_count += props.death_count;
	}
	if (p != end)
		return -EBADMSG;
	*ret_shape = shape;
	return 0;
}

void meta_get(const uint8_t *record, uint32_t size, uint32_t count, int64_t ts_ms, uint32_t *lengths,
    struct engine_props *props, struct engine_header *headers, struct engine_death *deaths)
{
	const uint8_t *p = record + META_FIXED, *end = record + size;
	uint8_t flags = record[8];
	struct engine_span key = { 0 }, list = { 0 };
	uint64_t length = 0;

	if (flags & META_KEY)
		take_span(&p, end, &key);
	for (uint32_t i = 0; flags & META_LENGTHS && i < count; i++) {
		bytes_get_leb(&p, end, &length);
		lengths[i] = (uint32_t)length;
	}
	for (uint32_t i = 0; flags & (META_PROPS | META_KEY) && i < count; i++) {
		props[i] = ENGINE_PROPS_INIT;
		props[i].key = key;
		props[i].ts_ms = ts_ms;
		if (!(flags & META_PROPS))
			continue;
		take_span(&p, end, &list);
		take_props(list, &props[i], headers, deaths);
		if (props[i].header_count > 0) {
			props[i].headers = headers;
			headers += props[i].header_count;
		}
		if (props[i].death_count > 0) {
			props[i].deaths = deaths;
			deaths += props[i].death_count;
		}
	}
	assert(p == end);
}

int meta_each(const uint8_t *record, uint32_t size, uint32_t count, uint32_t data_length, uint32_t data_crc,
    int (*each)(void *ctx, uint32_t i, const struct engine_props *props), void *ctx)
{
	const uint8_t *p = record + META_FIXED, *end = record + size;
	struct engine_span key = { NULL, 0 }, list = { NULL, 0 };
	struct meta_shape shape;
	uint64_t length;
	int rc = meta_check(record, size, count, data_length, data_crc, &shape);

	if (rc < 0)
		return rc;
	if (shape.flags & META_KEY)
		take_span(&p, end, &key);
	for (uint32_t i = 0; shape.flags & META_LENGTHS && i < count; i++)
		bytes_get_leb(&p, end, &length);
	for (uint32_t i = 0; i < count && rc == 0; i++) {
		struct engine_props props = ENGINE_PROPS_INIT;

		if (shape.flags & META_PROPS) {
			take_span(&p, end, &list);
			take_props(list, &props, NULL, NULL);
		}
		if (shape.flags & META_KEY)
			props.key = key;
		rc = each(ctx, i, &props);
	}
	return rc;
}
