#include "fs/render.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "fs/base64.h"
#include "fs/utf8.h"

/* ------------------------------------------------------------------------------------------- JSON */

enum char_class { PLAIN, ESCAPED, MULTIBYTE };

static enum char_class class_of(unsigned char byte)
{
	return byte >= 0x80 ? MULTIBYTE : byte < 0x20 || byte == 0x7f || byte == '"' || byte == '\\' ? ESCAPED : PLAIN;
}

/*
 * The number of bytes at the beginning that stand for themselves; eight at a time, by the tests for a zero byte and for a byte below n of
 * Anderson, "Bit Twiddling Hacks".
 */
static size_t plain_run(const char *text, size_t len)
{
	const uint64_t ones = UINT64_MAX / 255, highs = ones << 7;
	size_t at = 0;
	for (uint64_t word; len - at >= sizeof(word); at += sizeof(word)) {
		memcpy(&word, text + at, sizeof(word));
		uint64_t quote = word ^ ones * '"', backslash = word ^ ones * '\\', del = word ^ ones * 0x7f;
		if ((((word - ones * 0x20) | (quote - ones) | (backslash - ones) | (del - ones)) | word) & highs)
			break;
	}
	while (at < len && class_of((unsigned char)text[at]) == PLAIN)
		at++;
	return at;
}

static void add_escape(struct buffer *out, unsigned char byte)
{
	static const char hex[] = "0123456789abcdef";
	static const char letters[0x20] = { ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r' };
	char letter = byte == '"' || byte == '\\' ? (char)byte : byte < 0x20 ? letters[byte] : '\0';
	if (letter)
		buffer_add(out, (char[2]){ '\\', letter }, 2);
	else
		buffer_add(out, (char[6]){ '\\', 'u', '0', '0', hex[byte >> 4], hex[byte & 15] }, 6);
}

/*
 * Appends text as a JSON string. Bytes that are not UTF-8 become U+FFFD if replace is set; else it stops at the first and
 * returns false, with out as it was. Runs of characters that need nothing are copied at once.
 */
static bool add_string(struct buffer *out, const char *text, size_t len, bool replace)
{
	size_t before = out->len, run = 0;
	uint32_t code;
	buffer_add_char(out, '"');
	for (size_t at = 0; (at += plain_run(text + at, len - at)) < len;) {
		unsigned char byte = (unsigned char)text[at];
		enum char_class class = class_of(byte);
		size_t size = class == MULTIBYTE ? utf8_char(text + at, len - at, &code) : 1;
		if (size > 0 && class != ESCAPED) {
			at += size;
			continue;
		}
		if (size == 0 && !replace) {
			out->len = before;
			return false;
		}
		buffer_add(out, text + run, at - run);
		if (size == 0)
			buffer_add_text(out, "\xef\xbf\xbd");
		else
			add_escape(out, byte);
		run = ++at;
	}
	buffer_add(out, text + run, len - run);
	buffer_add_char(out, '"');
	return true;
}

void render_json_string(struct buffer *out, const char *text, size_t len)
{
	add_string(out, text, len, true);
}

/* ,"name":"text" or, if that is not UTF-8, ,"name_base64":"..." */
static void add_bytes(struct buffer *out, const char *name, struct engine_span bytes)
{
	size_t before = out->len;
	buffer_add_text(out, ",\"");
	buffer_add_text(out, name);
	buffer_add_text(out, "\":");
	if (add_string(out, bytes.ptr, bytes.len, false))
		return;
	out->len = before;
	buffer_add_text(out, ",\"");
	buffer_add_text(out, name);
	buffer_add_text(out, "_base64\":\"");
	char *room = buffer_room(out, BASE64_ENCODED(bytes.len));
	if (room) {
		base64_encode(bytes.ptr, bytes.len, room);
		out->len += BASE64_ENCODED(bytes.len);
	}
	buffer_add_char(out, '"');
}

static void add_text(struct buffer *out, const char *name, struct engine_span text)
{
	if (!text.ptr)
		return;
	buffer_add_text(out, name);
	add_string(out, text.ptr, text.len, true);
}

/* name is the field as it is to be printed, with its comma; -1 is absent. */
static void add_number(struct buffer *out, const char *name, int64_t number)
{
	if (number < 0)
		return;
	buffer_add_text(out, name);
	buffer_add_i64(out, number);
}

/* in_queue: id is its number there, so that by which it is known again has a name of its own. */
static void add_props(struct buffer *out, const struct engine_props *props, bool in_queue)
{
	if (props->key.ptr)
		add_bytes(out, "key", props->key);
	add_text(out, in_queue ? ",\"dedup_id\":" : ",\"id\":", props->id);
	add_text(out, ",\"routing_key\":", props->routing_key);
	add_number(out, ",\"priority\":", props->priority);
	add_number(out, ",\"ttl_ms\":", props->ttl_ms);
	add_number(out, ",\"delay_ms\":", props->delay_ms);
	buffer_add_text(out, ",\"headers\":{");
	for (uint32_t i = 0; i < props->header_count; i++) {
		if (i > 0)
			buffer_add_char(out, ',');
		add_string(out, props->headers[i].name.ptr, props->headers[i].name.len, true);
		buffer_add_char(out, ':');
		add_string(out, props->headers[i].value.ptr, props->headers[i].value.len, true);
	}
	buffer_add_char(out, '}');
}

/* Where a message is, up to its number there, which follows. */
static void add_place(struct buffer *out, const struct engine_view *view, const char *name)
{
	buffer_add_text(out, view->deliveries ? "{\"queue\":" : "{\"topic\":");
	render_json_string(out, name, strlen(name));
	if (view->deliveries) {
		buffer_add_text(out, ",\"id\":");
		return;
	}
	buffer_add_text(out, ",\"partition\":");
	buffer_add_u64(out, view->partition);
	buffer_add_text(out, ",\"offset\":");
}

static void add_history(struct buffer *out, const struct engine_delivery *delivery)
{
	buffer_add_text(out, delivery->redelivered ? ",\"redelivered\":true" : ",\"redelivered\":false");
	buffer_add_text(out, ",\"deliveries\":");
	buffer_add_u64(out, delivery->deliveries);
}

static void add_deaths(struct buffer *out, const struct engine_props *props)
{
	static const char *const reasons[] = { [ENGINE_REJECTED] = "rejected",
		[ENGINE_EXPIRED] = "expired",
		[ENGINE_MAXLEN] = "maxlen",
		[ENGINE_DELIVERY_LIMIT] = "delivery_limit" };
	buffer_add_text(out, ",\"deaths\":[");
	for (uint32_t i = 0; i < props->death_count; i++) {
		const struct engine_death *death = &props->deaths[i];
		buffer_add_text(out, i > 0 ? ",{\"queue\":" : "{\"queue\":");
		add_string(out, death->queue.ptr, death->queue.len, true);
		buffer_printf(out, ",\"reason\":\"%s\",\"count\":%" PRIu32 ",\"ts\":%" PRIi64 "}",
		    reasons[death->reason], death->count, death->ts_ms);
	}
	buffer_add_char(out, ']');
}

/* All between the number of a message and its payload. */
static void add_facts(struct buffer *out, const struct engine_view *view, uint32_t index)
{
	static const struct engine_props none = ENGINE_PROPS_INIT;
	const struct engine_batch *batch = &view->batch;
	struct engine_props props = batch->props ? batch->props[index] : none;
	if (view->deliveries) {
		props.priority = -1; /* the one it has stands with the delivery */
		buffer_add_text(out, ",\"priority\":");
		buffer_add_u64(out, view->deliveries[index].priority);
	}
	buffer_add_text(out, ",\"ts\":");
	buffer_add_i64(out, props.ts_ms >= 0 ? props.ts_ms : batch->ts_ms);
	if (view->deliveries)
		add_history(out, &view->deliveries[index]);
	add_props(out, &props, view->deliveries != NULL);
	if (props.death_count > 0)
		add_deaths(out, &props);
	buffer_add_text(out, ",\"uid\":");
	buffer_add_u64(out, batch->cred.uid);
	buffer_add_text(out, ",\"gid\":");
	buffer_add_u64(out, batch->cred.gid);
	buffer_add_text(out, ",\"pid\":");
	buffer_add_u64(out, batch->cred.pid);
}

/* Whether add_facts() prints the same of a message as of the one before it. */
static bool has_same_facts(const struct engine_view *view, uint32_t index)
{
	const struct engine_delivery *now = view->deliveries ? &view->deliveries[index] : NULL;
	return !view->batch.props &&
	       (!now || (now->priority == now[-1].priority && now->redelivered == now[-1].redelivered &&
			    now->deliveries == now[-1].deliveries));
}

/* Appends what is there already, at an offset of it. */
static void repeat(struct buffer *out, size_t at, size_t len)
{
	char *room = buffer_room(out, len);
	if (!room)
		return;
	memcpy(room, out->ptr + at, len);
	out->len += len;
}

/* Records of messages that follow each other. What is as in the one before is copied from there: that is most of them. */
static void add_records(struct buffer *out, const struct engine_view *view, const char *topic, uint32_t first,
    uint32_t count, const char *data)
{
	size_t record = out->len, number = 0, facts = 0, facts_len = 0;
	for (uint32_t i = first; i < first + count; i++) {
		size_t begin = out->len;
		if (i == first)
			add_place(out, view, topic);
		else
			repeat(out, record, number);
		number = out->len - begin;
		record = begin;
		buffer_add_u64(out, view->deliveries ? view->deliveries[i].id : view->offset + i);
		begin = out->len;
		if (i > first && has_same_facts(view, i))
			repeat(out, facts, facts_len);
		else
			add_facts(out, view, i);
		facts_len = out->len - begin;
		facts = begin;
		if (view->batch.props && view->batch.props[i].tombstone)
			buffer_add_text(out, ",\"payload\":null");
		else
			add_bytes(out, "payload", (struct engine_span){ data, view->batch.lengths[i] });
		buffer_add_text(out, "}\n");
		data += view->batch.lengths[i] + 1;
	}
}

/* ----------------------------------------------------------------------------------------- framings */

static size_t span_of(const uint32_t *lengths, uint32_t count)
{
	size_t bytes = 0;
	for (uint32_t i = 0; i < count; i++)
		bytes += (size_t)lengths[i] + 1;
	return bytes;
}

/* Payloads that end in NULs where they end in newlines in the batch. */
static void add_nul(struct buffer *out, const char *data, const uint32_t *lengths, uint32_t count)
{
	size_t len = span_of(lengths, count);
	char *copy = buffer_room(out, len);
	if (!copy)
		return;
	memcpy(copy, data, len);
	for (uint32_t i = 0; i < count; i++) {
		copy += lengths[i];
		*copy++ = '\0';
	}
	out->len += len;
}

int render_view(enum framing framing, const struct engine_view *view, const char *topic, uint32_t first, uint32_t count,
    struct buffer *out)
{
	const struct engine_batch *batch = &view->batch;
	assert(batch->data && first <= batch->count && count <= batch->count - first);
	assert(framing != FRAME_RAW || count == 1);
	const uint32_t *lengths = batch->lengths + first;
	const char *data = batch->data + span_of(batch->lengths, first);
	size_t before = out->len;
	switch (framing) {
	case FRAME_LINE: buffer_add(out, data, span_of(lengths, count)); break;
	case FRAME_NUL: add_nul(out, data, lengths, count); break;
	case FRAME_RAW: buffer_add(out, data, lengths[0]); break;
	default: add_records(out, view, topic, first, count, data); break;
	}
	if (buffer_error(out))
		out->len = before;
	return buffer_error(out);
}
