/*
 * stage_cut - see stage_cut.h.
 */
#include "engine/stage_cut.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int stage_scratch_reserve(struct stage_scratch *scratch, size_t room)
{
	char *buf;

	if (room <= scratch->room)
		return 0;
	buf = malloc(room);
	if (buf == NULL)
		return -ENOMEM;
	free(scratch->buf);
	scratch->buf = buf;
	scratch->room = room;
	return 0;
}

void stage_scratch_release(struct stage_scratch *scratch)
{
	free(scratch->buf);
	free(scratch->lengths);
	free(scratch->props);
	*scratch = (struct stage_scratch){ 0 };
}

static int need_lengths(struct stage_scratch *scratch)
{
	if (scratch->lengths == NULL)
		scratch->lengths = malloc(STAGE_CUT_COUNT * sizeof(*scratch->lengths));
	return scratch->lengths != NULL ? 0 : -ENOMEM;
}

static int fill_props(struct stage_scratch *scratch, struct engine_span key, uint32_t count)
{
	if (scratch->props == NULL)
		scratch->props = malloc(STAGE_CUT_COUNT * sizeof(*scratch->props));
	if (scratch->props == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		scratch->props[i] = ENGINE_PROPS_INIT;
		scratch->props[i].key = key;
	}
	return 0;
}

int stage_cut(struct stage_scratch *scratch, size_t len, char delimiter, size_t limit, size_t max_bytes,
    struct engine_span key, struct stage_cut *ret_cut)
{
	bool counted = key.ptr != NULL || delimiter != '\n', newlines = false;
	struct stage_cut cut = { .batch = { .data = scratch->buf } };
	uint32_t count = 0;

	if (delimiter != '\n' && need_lengths(scratch) < 0)
		return -ENOMEM;
	while (cut.used < len && (!counted || count < STAGE_CUT_COUNT)) {
		char *start = scratch->buf + cut.used, *end = memchr(start, delimiter, len - cut.used);
		size_t size = end != NULL ? (size_t)(end - start) : 0;

		if (end == NULL || (count > 0 && cut.used + size + 1 > max_bytes))
			break;
		if (size > limit) {
			cut.too_long = size + 1;
			break;
		}
		if (delimiter != '\n') {
			scratch->lengths[count] = (uint32_t)size;
			newlines |= memchr(start, '\n', size) != NULL;
			*end = '\n';
		}
		cut.used += size + 1;
		count++;
	}
	if (key.ptr != NULL && fill_props(scratch, key, count) < 0)
		return -ENOMEM;
	cut.batch.len = cut.used;
	cut.batch.count = count;
	cut.batch.lengths = newlines ? scratch->lengths : NULL;
	cut.batch.props = key.ptr != NULL ? scratch->props : NULL;
	*ret_cut = cut;
	return 0;
}
