/*
 * Lines of in.json: any bytes are one record or none, with a sentence; and what .json readers are shown of a record, in.json
 * takes, as the same record.
 */
#include <string.h>

#include "fs/record.h"
#include "fs/render.h"
#include "tests/fuzz/fuzz.h"

#define LIMIT 4096u

static void compare(const struct engine_span *a, const struct engine_span *b)
{
	FUZZ_ASSERT((a->ptr == NULL) == (b->ptr == NULL) && a->len == b->len);
	FUZZ_ASSERT(a->len == 0 || memcmp(a->ptr, b->ptr, a->len) == 0);
}

/* Renders the record and reads it again. */
static void go_round(const struct engine_batch *batch)
{
	char reason[RECORD_REASON_MAX];
	struct record_batch again = { 0 };
	struct buffer text = BUFFER_INIT;
	struct engine_props props = batch->props[0];
	struct engine_view view = { .batch = *batch };
	struct engine_batch got;

	if (props.ts_ms < 0)
		props.ts_ms = 1;
	view.batch.props = &props;
	view.batch.ts_ms = props.ts_ms;
	FUZZ_ASSERT(render_view(FRAME_JSON, &view, "t", 0, 1, &text) == 0);
	FUZZ_ASSERT(text.len > 0 && text.ptr[text.len - 1] == '\n');
	FUZZ_ASSERT(memchr(text.ptr, '\n', text.len - 1) == NULL);
	FUZZ_ASSERT(record_batch_add_line(&again, text.ptr, text.len - 1, LIMIT, reason) >= 0);
	record_batch_get(&again, &got);
	FUZZ_ASSERT(got.count == 1 && got.len == batch->len && memcmp(got.data, batch->data, got.len) == 0);
	compare(&got.props[0].key, &props.key);
	FUZZ_ASSERT(got.props[0].header_count == props.header_count);
	for (uint32_t i = 0; i < props.header_count; i++) {
		compare(&got.props[0].headers[i].name, &props.headers[i].name);
		compare(&got.props[0].headers[i].value, &props.headers[i].value);
	}
	record_batch_release(&again);
	buffer_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char reason[RECORD_REASON_MAX] = "";
	struct record_batch batch = { 0 };
	struct engine_batch got;
	int rc = record_batch_add_line(&batch, (const char *)data, size, LIMIT, reason);

	FUZZ_ASSERT(rc >= 0 || reason[0] != '\0');
	if (rc >= 0 && batch.count > 0) {
		record_batch_get(&batch, &got);
		FUZZ_ASSERT(got.count == 1);
		go_round(&got);
	}
	record_batch_clear(&batch);
	rc = record_check_part(&batch, (const char *)data, size, LIMIT, reason);
	FUZZ_ASSERT(rc > 0 || batch.count == 0);
	record_batch_release(&batch);
	return 0;
}
