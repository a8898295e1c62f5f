#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/crc32c.h"
#include "engine/index.h"

static const struct index_entry entry = {
	.base_offset = 0x1122334455667788,
	.first_id = 7,
	.ts_ms = 1732300000000,
	.pos = 0x01020304,
	.length = 300,
	.count = 5,
	.meta_pos = 9,
	.meta_len = 21,
	.cred = { 1000, 1001, 4321 },
	.data_crc = 0xdeadbeef,
	.flags = INDEX_MORE,
};

/* All four records come back as they were put. */
Test(index, round_trip)
{
	struct index_header header = { .log_id = 3, .base_offset = 4, .base_pos = 5, .created_ms = 6, .gaps = true },
			    header2;
	struct index_mark mark = { 10, 20, INDEX_FIRST + 64, 30, 40, true }, mark2;
	struct index_start start = { .log_id = 3, .offset = 4, .pos = 5 }, start2;
	struct index_entry entry2;
	uint8_t slot[INDEX_SLOT];

	memcpy(header.uuid, "0123456789abcdef", 16);
	memcpy(start.uuid, "0123456789abcdef", 16);
	index_put_header(slot, &header);
	cr_assert_eq(index_get_header(slot, &header2), 0);
	cr_assert(!memcmp(header.uuid, header2.uuid, 16));
	cr_assert(header2.log_id == 3 && header2.base_offset == 4 && header2.base_pos == 5 && header2.created_ms == 6);
	index_put_mark(slot, &mark);
	cr_assert_eq(index_get_mark(slot, &mark2), 0);
	cr_assert(mark2.end_offset == 10 && mark2.base_pos == 20 && mark2.index_end == 192);
	cr_assert(mark2.data_end == 30 && mark2.meta_end == 40);
	index_put_start(slot, &start);
	cr_assert_eq(index_get_start(slot, &start2), 0);
	cr_assert(start2.log_id == 3 && start2.offset == 4 && start2.pos == 5);
	index_put_entry(slot, &entry);
	cr_assert_eq(index_get_entry(slot, &entry2), 0);
	cr_assert(entry2.base_offset == entry.base_offset && entry2.first_id == 7 && entry2.ts_ms == entry.ts_ms);
	cr_assert(entry2.pos == entry.pos && entry2.length == 300 && entry2.count == 5 && entry2.flags == INDEX_MORE);
	cr_assert(entry2.meta_pos == 9 && entry2.meta_len == 21 && entry2.data_crc == 0xdeadbeef);
	cr_assert(entry2.cred.uid == 1000 && entry2.cred.gid == 1001 && entry2.cred.pid == 4321);
}

/* No single bit of a record can change unnoticed. */
Test(index, every_bit)
{
	struct index_header header = { .log_id = 3 };
	struct index_mark mark = { .index_end = INDEX_FIRST };
	struct index_start start = { .log_id = 3 };
	struct index_entry entry2;
	uint8_t slots[4][INDEX_SLOT];

	index_put_header(slots[0], &header);
	index_put_mark(slots[1], &mark);
	index_put_start(slots[2], &start);
	index_put_entry(slots[3], &entry);
	for (unsigned bit = 0; bit < 8 * INDEX_SLOT; bit++) {
		for (int k = 0; k < 4; k++)
			slots[k][bit / 8] ^= (uint8_t)(1 << bit % 8);
		cr_assert_eq(index_get_header(slots[0], &header), -EBADMSG);
		cr_assert_eq(index_get_mark(slots[1], &mark), -EBADMSG);
		cr_assert_eq(index_get_start(slots[2], &start), -EBADMSG);
		cr_assert_eq(index_get_entry(slots[3], &entry2), -EBADMSG);
		for (int k = 0; k < 4; k++)
			slots[k][bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

/* A whole record of a later version is told from a damaged one. */
Test(index, newer_version)
{
	struct index_header header = { .log_id = 3 };
	struct index_start start = { .log_id = 3 };
	uint8_t slot[INDEX_SLOT];

	index_put_header(slot, &header);
	bytes_put32(slot + 8, INDEX_VERSION_GAPS + 1);
	bytes_put32(slot + 60, crc32c(0, slot, 60));
	cr_assert_eq(index_get_header(slot, &header), -EUCLEAN);
	bytes_put32(slot + 8, 0); /* there never was one */
	bytes_put32(slot + 60, crc32c(0, slot, 60));
	cr_assert_eq(index_get_header(slot, &header), -EUCLEAN);
	index_put_start(slot, &start);
	bytes_put32(slot + 8, 2);
	bytes_put32(slot + 60, crc32c(0, slot, 60));
	cr_assert_eq(index_get_start(slot, &start), -EUCLEAN);
}

/* Zeros, as a file system may leave them behind a file's end, are no entry; nor is one that says impossible things. */
Test(index, nonsense)
{
	struct index_entry bad[] = { entry, entry, entry, entry }, out;
	uint8_t slot[INDEX_SLOT] = { 0 };

	cr_assert_eq(index_get_entry(slot, &out), -EBADMSG);
	bad[0].count = 0;
	bad[1].length = 4; /* shorter than its delimiters */
	bad[2].pos = 0x7fffffff;
	bad[3].base_offset = UINT64_MAX - 1;
	for (int i = 0; i < 4; i++) {
		index_put_entry(slot, &bad[i]);
		cr_assert_eq(index_get_entry(slot, &out), -EBADMSG, "%d", i);
	}
}
