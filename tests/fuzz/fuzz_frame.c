/*
 * Framing: however a stream of bytes is cut into writes, the same messages come out of it.
 */
#include <errno.h>
#include <string.h>

#include "fs/frame.h"
#include "tests/fuzz/fuzz.h"

#define LIMIT 64u
#define MOST 8192u

struct messages {
	char text[2 * MOST];
	size_t len;
	uint32_t count;
};

static void take(struct messages *messages, const struct engine_batch *batch)
{
	FUZZ_ASSERT(messages->len + batch->len <= sizeof(messages->text));
	memcpy(messages->text + messages->len, batch->data, batch->len);
	messages->len += batch->len;
	messages->count += batch->count;
}

/* Writes all of it in pieces of the sizes that steps give, one after the other. */
static void run(enum framing framing, const uint8_t *bytes, size_t size, struct fuzz_input steps, struct messages *out)
{
	struct framer framer;
	struct engine_batch last;

	framer_init(&framer, framing);
	for (size_t at = 0; at < size;) {
		size_t step = steps.size > 0 ? (size_t)fuzz_byte(&steps) + 1 : size;
		struct frame_scan scan;
		int rc;

		if (step > size - at)
			step = size - at;
		rc = framer_scan(&framer, (const char *)bytes + at, step, LIMIT, &scan);
		FUZZ_ASSERT(rc == 0 || rc == -EMSGSIZE);
		if (rc == 0) {
			FUZZ_ASSERT(scan.taken > 0 && scan.taken <= step);
			if (scan.batch.count > 0)
				take(out, &scan.batch);
			at += scan.taken;
			framer_commit(&framer, &scan, 1);
		} else {
			at += step; /* as who ignores the error */
		}
	}
	if (framer_finish(&framer, &last))
		take(out, &last);
	framer_release(&framer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct messages whole, pieces;
	struct fuzz_input input = { data, size }, none = { NULL, 0 };
	enum framing framing = fuzz_byte(&input) & 1 ? FRAME_NUL : FRAME_LINE;
	size_t count;
	const uint8_t *steps = fuzz_bytes(&input, 64, &count);

	if (input.size > MOST)
		return 0;
	whole.len = pieces.len = 0;
	whole.count = pieces.count = 0;
	run(framing, input.data, input.size, none, &whole);
	run(framing, input.data, input.size, (struct fuzz_input){ steps, count }, &pieces);
	/* A write that is refused takes what came before the message that is too long, so what is lost may differ then. */
	if (memchr(input.data, framing == FRAME_NUL ? 0 : '\n', input.size) != NULL && input.size <= LIMIT)
		FUZZ_ASSERT(whole.count == pieces.count && whole.len == pieces.len &&
			    memcmp(whole.text, pieces.text, whole.len) == 0);
	return 0;
}
