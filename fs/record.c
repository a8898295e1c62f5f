#include "fs/record.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/base64.h"
#include "fs/json.h"
#include "fs/name.h"

#define BLOCK_SIZE (16u << 10)

/* Memory that never moves, so that spans and header arrays may point into it while the batch grows. */
struct record_block {
	struct record_block *next;
	size_t used, size;
	_Alignas(max_align_t) char bytes[];
};

/* A record on its way to a message: spans point into the parsed JSON or into what is freed with the draft. */
struct draft {
	struct engine_span payload;
	struct engine_props props;
	int64_t partition, priority;
	void *payload_bytes, *key_bytes; /* decoded from base64 */
	struct engine_header *headers;
	char *reason;
};

/* ------------------------------------------------------------------------------------- sentences */

static int explain(struct draft *draft, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int explain(struct draft *draft, int err, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(draft->reason, RECORD_REASON_MAX, format, args);
	va_end(args);
	return err;
}

static int wrong_type(struct draft *draft, const char *field, const char *type)
{
	return explain(draft, -EINVAL, "field %s must be %s", field, type);
}

/* ---------------------------------------------------------------------------------------- fields */

/* Of a value that there is: the macros of jansson ask for that, too. */
static bool is(const json_t *value, json_type type)
{
	return json_typeof(value) == type;
}

static struct engine_span span_of(const json_t *string)
{
	return (struct engine_span){ json_string_value(string), json_string_length(string) };
}

static int decode(struct draft *draft, const char *field, const json_t *value, void **bytes, struct engine_span *ret)
{
	if (!is(value, JSON_STRING))
		return wrong_type(draft, field, "a string");
	struct engine_span text = span_of(value);
	*bytes = malloc(BASE64_DECODED(text.len) + 1);
	if (!*bytes)
		return -ENOMEM;
	ssize_t len = base64_decode(text.ptr, text.len, *bytes);
	if (len < 0)
		return explain(draft, -EINVAL, "field %s is not base64", field);
	*ret = (struct engine_span){ *bytes, (size_t)len };
	return 0;
}

static int take_payload(struct draft *draft, const char *field, const json_t *value)
{
	if (draft->payload.ptr)
		return explain(draft, -EINVAL, "payload and payload_base64 exclude each other");
	if (strcmp(field, "payload_base64") == 0)
		return decode(draft, field, value, &draft->payload_bytes, &draft->payload);
	if (is(value, JSON_NULL)) { /* the key has no value any more */
		draft->payload = (struct engine_span){ "", 0 };
		draft->props.tombstone = true;
		return 0;
	}
	if (!is(value, JSON_STRING))
		return wrong_type(draft, field, "a string, or null");
	draft->payload = span_of(value);
	return 0;
}

/* A string of at most max bytes. */
static int take_text(struct draft *draft, const char *field, const json_t *value, size_t max, struct engine_span *ret)
{
	if (!is(value, JSON_STRING))
		return wrong_type(draft, field, "a string");
	if (json_string_length(value) > max)
		return explain(draft, -ERANGE, "field %s has more than %zu bytes", field, max);
	*ret = span_of(value);
	return 0;
}

static int take_key(struct draft *draft, const char *field, const json_t *value)
{
	if (is(value, JSON_NULL))
		return 0;
	if (draft->props.key.ptr)
		return explain(draft, -EINVAL, "key and key_base64 exclude each other");
	if (strcmp(field, "key") == 0)
		return take_text(draft, field, value, ENGINE_KEY_MAX, &draft->props.key);
	int err = decode(draft, field, value, &draft->key_bytes, &draft->props.key);
	if (err)
		return err;
	if (draft->props.key.len > ENGINE_KEY_MAX)
		return explain(draft, -ERANGE, "field %s stands for more than %u bytes", field, ENGINE_KEY_MAX);
	return 0;
}

static int take_id(struct draft *draft, const char *field, const json_t *value)
{
	if (is(value, JSON_INTEGER))
		return 0; /* the number a message had in a queue */
	if (draft->props.id.ptr)
		return explain(draft, -EINVAL, "id and dedup_id exclude each other");
	return take_text(draft, field, value, RECORD_ID_MAX, &draft->props.id);
}

static int take_routing_key(struct draft *draft, const char *field, const json_t *value)
{
	return take_text(draft, field, value, ENGINE_KEY_MAX, &draft->props.routing_key);
}

static int take_headers(struct draft *draft, const char *field, const json_t *value)
{
	if (!is(value, JSON_OBJECT))
		return wrong_type(draft, field, "an object of strings");
	size_t count = json_object_size(value), bytes = 0;
	if (count > RECORD_HEADERS_MAX)
		return explain(draft, -ERANGE, "field %s has more than %u entries", field, RECORD_HEADERS_MAX);
	draft->headers = calloc(count + 1, sizeof(*draft->headers));
	if (!draft->headers)
		return -ENOMEM;
	struct engine_header *header = draft->headers;
	for (void *at = json_object_iter((json_t *)value); at;
	     at = json_object_iter_next((json_t *)value, at), header++) {
		const char *name = json_object_iter_key(at);
		if (!is(json_object_iter_value(at), JSON_STRING))
			return wrong_type(draft, field, "an object of strings");
		*header = (struct engine_header){ { name, strlen(name) }, span_of(json_object_iter_value(at)) };
		bytes += header->name.len + header->value.len;
	}
	if (bytes > RECORD_HEADERS_BYTES_MAX)
		return explain(draft, -ERANGE, "field %s has more than %u bytes", field, RECORD_HEADERS_BYTES_MAX);
	draft->props.headers = draft->headers;
	draft->props.header_count = (uint32_t)count;
	return 0;
}

/* An integer from 0 to max. */
static int take_number(struct draft *draft, const char *field, const json_t *value, int64_t max, int64_t *ret)
{
	if (!is(value, JSON_INTEGER))
		return wrong_type(draft, field, "an integer");
	json_int_t number = json_integer_value(value);
	if (number < 0 || number > max)
		return explain(draft, -ERANGE, "field %s must be within 0 and %lld", field, (long long)max);
	*ret = number;
	return 0;
}

static int take_ts(struct draft *draft, const char *field, const json_t *value)
{
	return take_number(draft, field, value, INT64_MAX, &draft->props.ts_ms);
}

static int take_ttl(struct draft *draft, const char *field, const json_t *value)
{
	return take_number(draft, field, value, INT64_MAX, &draft->props.ttl_ms);
}

static int take_delay(struct draft *draft, const char *field, const json_t *value)
{
	return take_number(draft, field, value, INT64_MAX, &draft->props.delay_ms);
}

static int take_priority(struct draft *draft, const char *field, const json_t *value)
{
	return take_number(draft, field, value, 9, &draft->priority);
}

static int take_partition(struct draft *draft, const char *field, const json_t *value)
{
	return take_number(draft, field, value, ENGINE_PARTITIONS_MAX - 1, &draft->partition);
}

static int ignore(struct draft *draft, const char *field, const json_t *value)
{
	(void)draft, (void)field, (void)value;
	return 0;
}

static const struct {
	const char *name;
	int (*take)(struct draft *draft, const char *field, const json_t *value);
} fields[] = {
	{ "payload", take_payload },
	{ "payload_base64", take_payload },
	{ "key", take_key },
	{ "key_base64", take_key },
	{ "headers", take_headers },
	{ "id", take_id },
	{ "dedup_id", take_id }, /* beside the number */
	{ "ts", take_ts },
	{ "priority", take_priority },
	{ "ttl_ms", take_ttl },
	{ "delay_ms", take_delay },
	{ "partition", take_partition },
	{ "routing_key", take_routing_key },
	/* what only a reader gets */
	{ "topic", ignore },
	{ "queue", ignore },
	{ "offset", ignore },
	{ "redelivered", ignore },
	{ "deliveries", ignore },
	{ "uid", ignore },
	{ "gid", ignore },
	{ "pid", ignore },
	{ "deaths", ignore },
};

static int take_field(struct draft *draft, const char *name, const json_t *value)
{
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (strcmp(name, fields[i].name) == 0)
			return fields[i].take(draft, name, value);
	char shown[64];
	name_escape(name, strlen(name), shown, sizeof(shown));
	return explain(draft, -EINVAL, "unknown field \"%s\"", shown);
}

/* ---------------------------------------------------------------------------------------- records */

/* Why jansson did not take the line. */
static int explain_json(struct draft *draft, const json_error_t *error)
{
	char shown[RECORD_REASON_MAX];
	if (json_error_code(error) == json_error_numeric_overflow)
		return explain(draft, -ERANGE, "a number is too large");
	name_escape(error->text, strlen(error->text), shown, sizeof(shown));
	return explain(draft, -EINVAL, "not a JSON object in one line: %s", shown);
}

static int take_object(struct draft *draft, json_t *object)
{
	if (!is(object, JSON_OBJECT))
		return explain(draft, -EINVAL, "not a JSON object");
	for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at)) {
		int err = take_field(draft, json_object_iter_key(at), json_object_iter_value(at));
		if (err)
			return err;
	}
	if (!draft->payload.ptr)
		return explain(draft, -EINVAL, "field payload is missing");
	if (draft->props.tombstone && !draft->props.key.ptr)
		return explain(draft, -EINVAL, "payload null takes away the value of a key: it needs one");
	if (draft->partition >= 0)
		draft->props.partition = (uint32_t)draft->partition;
	draft->props.priority = (int32_t)draft->priority;
	return 0;
}

static bool is_blank(const char *line, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
			return false;
	return true;
}

int record_batch_add_line(
    struct record_batch *batch, const char *line, size_t len, size_t limit, char reason[RECORD_REASON_MAX])
{
	struct draft draft = { .props = ENGINE_PROPS_INIT, .partition = -1, .priority = -1, .reason = reason };
	reason[0] = '\0';
	if (is_blank(line, len)) {
		batch->line_count++;
		return 0;
	}
	json_error_t error;
	bool no_memory;
	json_t *object = json_parse(line, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error, &no_memory);
	int err = object ? take_object(&draft, object) : no_memory ? -ENOMEM : explain_json(&draft, &error);
	if (err == 0 && draft.payload.len > limit)
		err =
		    explain(&draft, -EMSGSIZE, "the payload has %zu bytes, %zu are allowed", draft.payload.len, limit);
	if (err == 0)
		err = record_batch_add(batch, draft.payload, &draft.props);
	if (err == -ENOMEM)
		explain(&draft, err, "no memory for a record of %zu bytes", len);
	json_decref(object);
	free(draft.payload_bytes);
	free(draft.key_bytes);
	free(draft.headers);
	return err ? err : 1;
}

#define PART_CHECKED_MAX (64u << 10)

static bool is_unfinished(const char *part, size_t len)
{
	json_error_t error;
	bool no_memory;
	json_t *object = json_parse(part, len, JSON_ALLOW_NUL, &error, &no_memory);
	bool unfinished = !object && (no_memory || json_error_code(&error) == json_error_premature_end_of_input);
	json_decref(object);
	return unfinished;
}

int record_check_part(
    struct record_batch *batch, const char *part, size_t len, size_t limit, char reason[RECORD_REASON_MAX])
{
	reason[0] = '\0';
	while (len > 0 && is_blank(part, 1))
		part++, len--;
	while (len > 0 && is_blank(part + len - 1, 1))
		len--;
	bool begins = len > 0 && part[0] == '{';
	if (len == 0 || (begins && part[len - 1] != '}'))
		return 0;
	if (begins && len > PART_CHECKED_MAX)
		return 1;
	return begins && is_unfinished(part, len) ? 0 : record_batch_add_line(batch, part, len, limit, reason);
}

/* ----------------------------------------------------------------------------------------- batches */

static void *block_alloc(struct record_batch *batch, size_t size)
{
	struct record_block *block = batch->blocks;
	size = (size + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);
	if (!block || size > block->size - block->used) {
		size_t room = size > BLOCK_SIZE ? size : BLOCK_SIZE;
		block = malloc(sizeof(*block) + room);
		if (!block)
			return NULL;
		*block = (struct record_block){ .next = batch->blocks, .size = room };
		batch->blocks = block;
	}
	block->used += size;
	return block->bytes + block->used - size;
}

/* Makes span point to a copy that the batch owns. */
static bool own(struct record_batch *batch, struct engine_span *span)
{
	if (!span->ptr)
		return true;
	char *copy = block_alloc(batch, span->len + 1);
	if (!copy)
		return false;
	memcpy(copy, span->ptr, span->len);
	span->ptr = copy;
	return true;
}

static bool own_headers(struct record_batch *batch, struct engine_props *props)
{
	if (props->header_count == 0)
		return true;
	struct engine_header *headers = block_alloc(batch, props->header_count * sizeof(*headers));
	if (!headers)
		return false;
	memcpy(headers, props->headers, props->header_count * sizeof(*headers));
	for (uint32_t i = 0; i < props->header_count; i++)
		if (!own(batch, &headers[i].name) || !own(batch, &headers[i].value))
			return false;
	props->headers = headers;
	return true;
}

static int reserve_message(struct record_batch *batch)
{
	if (batch->count < batch->cap)
		return 0;
	uint32_t cap = batch->cap ? 2 * batch->cap : 16;
	uint32_t *lengths = realloc(batch->lengths, cap * sizeof(*lengths));
	if (!lengths)
		return -ENOMEM;
	batch->lengths = lengths;
	struct engine_props *props = realloc(batch->props, cap * sizeof(*props));
	if (!props)
		return -ENOMEM;
	batch->props = props;
	uint32_t *line_of = realloc(batch->line_of, cap * sizeof(*line_of));
	if (!line_of)
		return -ENOMEM;
	batch->line_of = line_of;
	batch->cap = cap;
	return 0;
}

int record_batch_add(struct record_batch *batch, struct engine_span payload, const struct engine_props *props)
{
	struct engine_props owned = props ? *props : ENGINE_PROPS_INIT;
	assert(payload.len < UINT32_MAX);
	if (reserve_message(batch) || !own(batch, &owned.key) || !own(batch, &owned.id) ||
	    !own(batch, &owned.routing_key) || !own_headers(batch, &owned))
		return -ENOMEM;
	char *data = buffer_room(&batch->data, payload.len + 1);
	if (!data) {
		batch->data.failed = false; /* what it has is whole */
		return -ENOMEM;
	}
	if (payload.len > 0)
		memcpy(data, payload.ptr, payload.len);
	data[payload.len] = '\n';
	batch->data.len += payload.len + 1;
	batch->lengths[batch->count] = (uint32_t)payload.len;
	batch->line_of[batch->count] = batch->line_count++;
	batch->props[batch->count++] = owned;
	return 0;
}

void record_batch_get(const struct record_batch *batch, struct engine_batch *ret_batch)
{
	assert(batch->count > 0);
	*ret_batch = (struct engine_batch){
		.data = batch->data.ptr,
		.len = batch->data.len,
		.count = batch->count,
		.lengths = batch->lengths,
		.props = batch->props,
		.ts_ms = -1,
	};
}

void record_batch_clear(struct record_batch *batch)
{
	for (struct record_block *block = batch->blocks, *next; block; block = next) {
		next = block->next;
		free(block);
	}
	batch->blocks = NULL;
	batch->count = batch->line_count = 0;
	buffer_clear(&batch->data);
}

void record_batch_release(struct record_batch *batch)
{
	record_batch_clear(batch);
	buffer_release(&batch->data);
	free(batch->lengths);
	free(batch->props);
	free(batch->line_of);
	*batch = (struct record_batch){ 0 };
}
