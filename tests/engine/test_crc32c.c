#include <criterion/criterion.h>
#include <string.h>

#include "engine/crc32c.h"

/* The published vectors (RFC 3720 B.4 and the usual check string) come out, with and without the instruction. */
Test(crc32c, vectors)
{
	uint8_t bytes[32];
	struct {
		int fill; /* -1: ascending, -2: descending */
		uint32_t crc;
	} table[] = { { 0x00, 0x8a9136aa }, { 0xff, 0x62a8ab43 }, { -1, 0x46dd794e }, { -2, 0x113fdb5c } };

	cr_assert_eq(crc32c(0, "123456789", 9), 0xe3069283);
	cr_assert_eq(crc32c_portable(0, "123456789", 9), 0xe3069283);
	for (size_t t = 0; t < 4; t++) {
		for (int i = 0; i < 32; i++)
			bytes[i] = (uint8_t)(table[t].fill >= 0 ? table[t].fill : table[t].fill == -1 ? i : 31 - i);
		cr_expect_eq(crc32c(0, bytes, 32), table[t].crc);
		cr_expect_eq(crc32c_portable(0, bytes, 32), table[t].crc);
	}
}

/* Both ways give the same for every length around the borders of the interleave, at every alignment. */
Test(crc32c, ways_agree)
{
	static uint8_t bytes[20000];
	const size_t around[] = { 0, 8, 64, 1024, 3072, 6144, 9216, 15360 };
	uint32_t seed = 12345;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)((seed = seed * 1103515245 + 12345) >> 16);
	for (size_t a = 0; a < sizeof(around) / sizeof(*around); a++)
		for (size_t d = 0; d < 20; d++) {
			size_t size = around[a] + d;
			const uint8_t *p = bytes + d % 9;

			cr_assert_eq(crc32c(seed, p, size), crc32c_portable(seed, p, size), "size %zu", size);
		}
}

/* A CRC can be continued: cut anywhere, the parts give what the whole gives. */
Test(crc32c, continues)
{
	static uint8_t bytes[7000];
	uint32_t whole;

	memset(bytes, 'x', sizeof(bytes));
	bytes[3333] = 'y';
	whole = crc32c(0, bytes, sizeof(bytes));
	for (size_t cut = 0; cut <= sizeof(bytes); cut += 77)
		cr_assert_eq(crc32c(crc32c(0, bytes, cut), bytes + cut, sizeof(bytes) - cut), whole);
}
