/*
 * A journal file of any bytes: it is refused, or replayed; records can be appended behind it, and are there at the next opening.
 */
#include <errno.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/crc32c.h"
#include "engine/journal_internal.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/tmpdir.h"

static const uint8_t uuid[16] = { 1, 2, 3 };

struct seen {
	unsigned records, ours;
	uint64_t sum;
};

static int count(void *ctx, enum journal_type type, const void *record, size_t size)
{
	struct seen *seen = ctx;
	const uint8_t *bytes = record;
	struct journal_cursor cursor;

	seen->records++;
	seen->ours +=
	    type == JOURNAL_CURSOR && journal_decode_cursor(record, size, &cursor) == 0 && cursor.group_id == 77;
	for (size_t i = 0; i < size; i++)
		seen->sum += bytes[i];
	return 0;
}

static int open_it(const struct tmpdir *dir, struct seen *seen, struct journal **ret_journal)
{
	*seen = (struct seen){ 0 };
	return journal_open(dir->fd, uuid, false, 0, (struct engine_notify){ 0 }, count, seen, ret_journal);
}

/* Gives each record of the bytes the CRC it wants. */
static void seal(uint8_t *bytes, size_t size)
{
	for (size_t at = JOURNAL_HEADER; at + JOURNAL_RECORD_HEADER <= size;) {
		size_t len = journal_record_bytes(bytes_get32(bytes + at + 4) >> 16);

		if (at + len > size)
			break;
		bytes_put32(bytes + at, crc32c(journal_seed(uuid, 1), bytes + at + 4, len - 4));
		at += len;
	}
	if (size >= JOURNAL_HEADER)
		bytes_put32(bytes + 60, crc32c(0, bytes, 60));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct journal_cursor cursor = { .group_id = 77, .committed = 1, .given = 2 };
	struct fuzz_input input = { data, size };
	bool sealed = fuzz_byte(&input) & 1;
	struct seen first, second;
	struct journal *journal;
	struct tmpdir dir;
	uint8_t *bytes = malloc(input.size + 1);

	if (bytes == NULL)
		return 0;
	if (input.size > 0)
		memcpy(bytes, input.data, input.size);
	if (sealed)
		seal(bytes, input.size);
	tmpdir_make(&dir);
	tmpdir_put(dir.fd, "0000000000000001", bytes, input.size);
	free(bytes);
	if (open_it(&dir, &first, &journal) == 0) {
		FUZZ_ASSERT(journal_append_cursor(journal, &cursor, NULL) == 0);
		FUZZ_ASSERT(journal_close(journal) == 0);
		FUZZ_ASSERT(open_it(&dir, &second, &journal) == 0);
		FUZZ_ASSERT(second.records == first.records + 1 && second.ours == first.ours + 1);
		FUZZ_ASSERT(journal_close(journal) == 0);
	}
	tmpdir_remove(&dir);
	return 0;
}
