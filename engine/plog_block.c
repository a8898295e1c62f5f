/*
 * plog_block - see plog_block.h.
 */
#include "engine/plog_block.h"

#include <stdlib.h>

#include "engine/limits.h"

struct head {
	_Alignas(max_align_t) uint64_t token;
};

/* Some more than asked for, so that batches that grow a little do not move each time. */
static size_t rounded(size_t size)
{
	size += sizeof(struct head);
	return size < LIMIT_SCRATCH_KEEP ? (size + size / 4 + 4095) & ~(size_t)4095 : size;
}

void *plog_block_begin(struct engine_scratch *scratch, size_t size)
{
	size_t want = rounded(size);
	bool too_large = scratch->size > LIMIT_SCRATCH_KEEP && want <= LIMIT_SCRATCH_KEEP;

	if (scratch->size < want || too_large) {
		free(scratch->mem);
		scratch->size = 0;
		scratch->mem = malloc(want);
		if (!scratch->mem)
			return NULL;
		scratch->size = want;
	}
	struct head *head = scratch->mem;
	head->token = 0;
	return head + 1;
}

void *plog_block_grow(struct engine_scratch *scratch, size_t size)
{
	size_t want = rounded(size);

	if (scratch->size < want) {
		void *mem = realloc(scratch->mem, want);
		if (!mem)
			return NULL;
		scratch->mem = mem;
		scratch->size = want;
	}
	return (struct head *)scratch->mem + 1;
}

void plog_block_own(struct engine_scratch *scratch, uint64_t token)
{
	((struct head *)scratch->mem)->token = token;
}

void *plog_block_get(struct engine_scratch *scratch, uint64_t token)
{
	struct head *head = scratch->mem;

	return head && head->token == token ? head + 1 : NULL;
}
