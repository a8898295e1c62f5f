#include "fs/frame.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define FRAME_SPARE_MAX (16u << 10) /* bytes of unused memory an idle framer may hold: there are a thousand of them */
#define FRAME_FIRST 64u             /* bytes of the first allocation of a part */

#define FRAME_PIECE_MIN                                                                                                \
	((1u << 20) - 4096) /* bytes of a write that may be a piece of a longer one; its start is in a page */

/* How far a write gets. */
struct cut {
	uint32_t count;  /* complete messages that are good */
	size_t complete; /* bytes of the write up to the end of the last of them */
	bool too_long;   /* what follows is over the limit ... */
	bool ended;      /* ... and its delimiter is in this write */
};

static char delimiter(const struct framer *framer)
{
	return framer->framing == FRAME_NUL ? '\0' : '\n';
}

/* Makes *ptr hold needed bytes and one more (for a delimiter at the end); doubles, but not beyond limit. */
static int reserve(char **ptr, size_t *cap, size_t needed, size_t limit)
{
	if (needed + 1 <= *cap)
		return 0;
	size_t room = *cap > 0 ? 2 * *cap : FRAME_FIRST;
	room = room > limit + 1 ? limit + 1 : room;
	room = room < needed + 1 ? needed + 1 : room;
	char *grown = realloc(*ptr, room);
	if (!grown)
		return -ENOMEM;
	*ptr = grown;
	*cap = room;
	return 0;
}

static int reserve_lengths(struct framer *framer, size_t count)
{
	if (count <= framer->lengths_cap)
		return 0;
	uint32_t *grown = realloc(framer->lengths, count * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	framer->lengths = grown;
	framer->lengths_cap = count;
	return 0;
}

static void release_buffer(char **ptr, size_t *cap)
{
	free(*ptr);
	*ptr = NULL;
	*cap = 0;
}

/* Gives back memory that is held for nothing. */
static void trim(struct framer *framer)
{
	if (framer->part_len == 0 && framer->part_cap > FRAME_SPARE_MAX)
		release_buffer(&framer->part, &framer->part_cap);
	if (framer->spare_cap > FRAME_SPARE_MAX)
		release_buffer(&framer->spare, &framer->spare_cap);
	if (framer->lengths_cap * sizeof(*framer->lengths) > FRAME_SPARE_MAX) {
		free(framer->lengths);
		framer->lengths = NULL;
		framer->lengths_cap = 0;
	}
}

void framer_init(struct framer *framer, enum framing framing)
{
	assert(framing == FRAME_LINE || framing == FRAME_JSON || framing == FRAME_NUL);
	*framer = (struct framer){ .framing = framing };
}

void framer_release(struct framer *framer)
{
	free(framer->part);
	free(framer->spare);
	free(framer->lengths);
	framer_init(framer, framer->framing);
}

void framer_drop(struct framer *framer)
{
	framer->part_len = 0;
	framer->part_pid = 0;
	framer->skipping = false;
	framer->refused = false;
	trim(framer);
}

/* A write is refused, the part is as it was before it. */
static void mark_refused(struct framer *framer, const char *buf, size_t size)
{
	framer->refused = framer->part_len > 0;
	if (framer->refused)
		framer->refused_sum = XXH3_64bits(buf, size);
}

/* The write after a refused one: the same again, or the part is given up. */
static void settle_refused(struct framer *framer, const char *buf, size_t size)
{
	if (framer->refused && XXH3_64bits(buf, size) != framer->refused_sum)
		framer_drop(framer);
	framer->refused = false;
}

/* Finds the messages that data completes, the part being the beginning of the first. */
static struct cut measure(const struct framer *framer, const char *data, size_t len, size_t limit)
{
	struct cut cut = { 0 };
	size_t kept = framer->part_len;
	while (cut.complete < len) {
		const char *start = data + cut.complete;
		const char *found = memchr(start, delimiter(framer), len - cut.complete);
		size_t more = found ? (size_t)(found - start) : len - cut.complete;
		if (kept + more > limit) {
			cut.too_long = true;
			cut.ended = found != NULL;
			break;
		}
		if (!found)
			break;
		kept = 0;
		cut.complete += more + 1;
		cut.count++;
	}
	return cut;
}

/* The complete messages in one piece, behind the part; with '\n' as delimiter, whatever it was. */
static int assemble(
    struct framer *framer, const char *data, const struct cut *cut, size_t limit, struct engine_batch *ret)
{
	size_t len = framer->part_len + cut->complete;
	if (reserve(&framer->part, &framer->part_cap, len, limit))
		return -ENOMEM;
	memcpy(framer->part + framer->part_len, data, cut->complete);
	ret->data = framer->part;
	ret->len = len;
	if (framer->framing != FRAME_NUL)
		return 0;
	bool ambiguous = memchr(framer->part, '\n', len) != NULL;
	if (ambiguous && reserve_lengths(framer, cut->count))
		return -ENOMEM;
	char *at = framer->part;
	for (uint32_t i = 0; i < cut->count; i++) {
		char *end = memchr(at, '\0', (size_t)(framer->part + len - at));
		if (ambiguous)
			framer->lengths[i] = (uint32_t)(end - at);
		*end = '\n';
		at = end + 1;
	}
	ret->lengths = ambiguous ? framer->lengths : NULL;
	return 0;
}

/* Puts the tail where the batch is not, without touching the part. */
static int store_tail(struct framer *framer, const char *tail, size_t limit, struct frame_scan *scan)
{
	bool assembled = scan->batch.count > 0 && scan->batch.data == framer->part;
	char **ptr = assembled ? &framer->spare : &framer->part;
	size_t *cap = assembled ? &framer->spare_cap : &framer->part_cap;
	size_t at = scan->batch.count > 0 ? 0 : framer->part_len;
	if (scan->tail == 0)
		return 0;
	if (reserve(ptr, cap, at + scan->tail, limit))
		return -ENOMEM;
	memcpy(*ptr + at, tail, scan->tail);
	scan->in_spare = assembled;
	return 0;
}

/* Steps over the rest of a message that was too long: the count of its bytes, or EMSGSIZE if nothing is left then. */
static ssize_t skip(struct framer *framer, const char *buf, size_t size)
{
	if (!framer->skipping)
		return 0;
	const char *found = memchr(buf, delimiter(framer), size);
	if (!found)
		return -EMSGSIZE;
	if (found + 1 < buf + size)
		return found + 1 - buf;
	framer->skipping = false;
	return -EMSGSIZE;
}

int framer_scan(struct framer *framer, const char *buf, size_t size, size_t limit, struct frame_scan *ret_scan)
{
	assert(size <= INT_MAX && (!framer->skipping || framer->part_len == 0));
	struct frame_scan scan = { .batch = { .ts_ms = -1 } };
	if (size == 0) {
		*ret_scan = scan;
		return 0;
	}
	settle_refused(framer, buf, size);
	ssize_t skipped = skip(framer, buf, size);
	if (skipped < 0)
		return (int)skipped;
	const char *data = buf + skipped;
	size_t len = size - (size_t)skipped;
	struct cut cut = measure(framer, data, len, limit);
	if (cut.too_long && cut.count == 0 && skipped == 0) {
		if (cut.ended && framer->last >= FRAME_PIECE_MIN) {
			mark_refused(framer, buf, size);
		} else {
			framer_drop(framer);
			framer->skipping = !cut.ended;
		}
		return -EMSGSIZE;
	}
	scan.buf = buf;
	scan.size = size;
	scan.before = framer->part_len;
	scan.skipped = (size_t)skipped;
	scan.tail = cut.too_long ? 0 : len - cut.complete;
	scan.taken = scan.skipped + cut.complete + scan.tail;
	scan.batch.count = cut.count;
	scan.batch.data = data;
	scan.batch.len = cut.complete;
	if (cut.count > 0 && (framer->part_len > 0 || framer->framing == FRAME_NUL)) {
		scan.lead = framer->part_len;
		if (assemble(framer, data, &cut, limit, &scan.batch))
			return -ENOMEM;
	}
	if (store_tail(framer, data + cut.complete, limit, &scan))
		return -ENOMEM;
	*ret_scan = scan;
	return 0;
}

void framer_commit(struct framer *framer, struct frame_scan *scan, uint32_t pid)
{
	if (scan->in_spare) {
		char *part = framer->part;
		size_t part_cap = framer->part_cap;
		framer->part = framer->spare;
		framer->part_cap = framer->spare_cap;
		framer->spare = part;
		framer->spare_cap = part_cap;
	}
	framer->part_len = scan->tail + (scan->batch.count > 0 ? 0 : framer->part_len);
	if (scan->tail > 0)
		framer->part_pid = pid;
	framer->last = scan->size;
	if (scan->skipped > 0)
		framer->skipping = false;
	*scan = (struct frame_scan){ 0 };
	trim(framer);
}

int framer_refuse(struct framer *framer, struct frame_scan *scan, uint32_t index, int err)
{
	struct engine_batch *batch = &scan->batch;
	assert(index < batch->count && err < 0);
	if (index == 0 && scan->skipped == 0) {
		mark_refused(framer, scan->buf, scan->size);
		return err;
	}
	size_t end = 0;
	for (uint32_t i = 0; i < index; i++) {
		const char *start = batch->data + end;
		const char *found = memchr(start, '\n', batch->len - end);
		end += (batch->lengths ? batch->lengths[i] : (size_t)(found - start)) + 1;
	}
	batch->count = index;
	batch->len = end;
	scan->taken = scan->skipped + (index > 0 ? end - scan->lead : 0);
	scan->tail = 0;
	scan->in_spare = false;
	return 0;
}

size_t framer_refuse_part(struct framer *framer, const struct frame_scan *scan)
{
	size_t stands = scan->taken - scan->tail;
	if (stands > 0) {
		framer_drop(framer);
		return stands;
	}
	framer->part_len = scan->before;
	mark_refused(framer, scan->buf, scan->size);
	return 0;
}

bool framer_finish(struct framer *framer, struct engine_batch *ret_batch)
{
	if (framer->part_len == 0)
		return false;
	bool ambiguous = framer->framing == FRAME_NUL && memchr(framer->part, '\n', framer->part_len);
	framer->last_length = (uint32_t)framer->part_len;
	framer->part[framer->part_len] = '\n'; /* reserve() left room for it */
	*ret_batch = (struct engine_batch){
		.data = framer->part,
		.len = framer->part_len + 1,
		.count = 1,
		.lengths = ambiguous ? &framer->last_length : NULL,
		.ts_ms = -1,
	};
	return true;
}
