#include "fs/json.h"

#include <assert.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdlib.h>
#include <utlist.h>

/* What jansson has got, and has not freed. */
struct block {
	struct block *prev, *next;
	_Alignas(max_align_t) char bytes[];
};

static _Thread_local struct block *blocks;
static _Thread_local jmp_buf parsing;

static void *get_block(size_t size)
{
	struct block *block = malloc(sizeof(*block) + size);
	if (!block)
		longjmp(parsing, 1);
	DL_PREPEND(blocks, block);
	return block->bytes;
}

static void put_block(void *bytes)
{
	struct block *block = (struct block *)((char *)bytes - offsetof(struct block, bytes));
	DL_DELETE(blocks, block);
	free(block);
}

static void use_blocks(void)
{
	json_set_alloc_funcs(get_block, put_block);
}

json_t *json_parse(const char *text, size_t len, size_t flags, json_error_t *ret_error, bool *ret_no_memory)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, use_blocks);
	assert(!blocks);
	*ret_no_memory = false;
	if (setjmp(parsing) == 0)
		return json_loadb(text, len, flags, ret_error);
	while (blocks)
		put_block(blocks->bytes);
	*ret_no_memory = true;
	return NULL;
}
