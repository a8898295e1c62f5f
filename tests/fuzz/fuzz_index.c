/*
 * Records of an index, and meta records: what is read is what would be written, and nothing else is read.
 */
#include <string.h>

#include "engine/bytes.h"
#include "engine/crc32c.h"
#include "engine/index.h"
#include "engine/meta.h"
#include "tests/fuzz/fuzz.h"

static void try_slot(const uint8_t slot[INDEX_SLOT])
{
	uint8_t again[INDEX_SLOT];
	struct index_header header;
	struct index_mark mark;
	struct index_entry entry;
	struct index_start start;

	if (index_get_header(slot, &header) == 0) {
		index_put_header(again, &header);
		FUZZ_ASSERT(memcmp(slot, again, INDEX_SLOT) == 0);
	}
	if (index_get_entry(slot, &entry) == 0) {
		index_put_entry(again, &entry);
		FUZZ_ASSERT(memcmp(slot, again, INDEX_SLOT) == 0);
	}
	(void)index_get_mark(slot, &mark);
	(void)index_get_start(slot, &start);
}

static void try_meta(const uint8_t *record, uint32_t size, uint32_t count, uint32_t length, uint32_t crc)
{
	struct meta_shape shape = { 0 };
	uint32_t *lengths;
	struct engine_props *props;
	struct engine_header *headers;
	struct engine_death *deaths;

	if (meta_check(record, size, count, length, crc, &shape) < 0)
		return;
	lengths = calloc(count + 1, sizeof(*lengths));
	props = calloc(count + 1, sizeof(*props));
	headers = calloc(shape.header_count + 1, sizeof(*headers));
	deaths = calloc(shape.death_count + 1, sizeof(*deaths));
	if (lengths != NULL && props != NULL && headers != NULL && deaths != NULL)
		meta_get(record, size, count, 1, lengths, props, headers, deaths);
	free(lengths);
	free(props);
	free(headers);
	free(deaths);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = { data, size };
	uint8_t *record;
	uint32_t count = fuzz_byte(&input), length = fuzz_byte(&input) * 4u;

	if (input.size >= INDEX_SLOT) {
		uint8_t slot[INDEX_SLOT];

		memcpy(slot, input.data, INDEX_SLOT);
		try_slot(slot);
		bytes_put32(slot + 60, crc32c(0, slot, 60)); /* as if it were whole */
		try_slot(slot);
	}
	if (input.size < META_FIXED)
		return 0;
	record = malloc(input.size);
	if (record == NULL)
		return 0;
	memcpy(record, input.data, input.size);
	try_meta(record, (uint32_t)input.size, count, length, 7);
	bytes_put32(record + 4, (uint32_t)input.size); /* the same */
	bytes_put32(record, crc32c(meta_crc_seed(7), record + 4, input.size - 4));
	try_meta(record, (uint32_t)input.size, count, length, 7);
	free(record);
	return 0;
}
