/* The partitioner: Kafka's hash and Kafka's choice, by their published values. */
#include "engine/partitioner.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

/* From UtilsTest.testMurmur2 of Apache Kafka, and (the empty key) unittest_murmur2 of librdkafka. */
static const struct {
	const char *key;
	size_t size;
	int32_t hash;
} vectors[] = {
	{ "21", 2, -973932308 },
	{ "foobar", 6, -790332482 },
	{ "\x0c\x2a\x38\x18\x6d\x6f", 6, 274204207 },
	{ "a-little-bit-long-string", 24, -985981536 },
	{ "a-little-bit-longer-string", 26, -1486304829 },
	{ "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", 48, -58897971 },
	{ "abc", 3, 479470107 },
	{ "", 0, 0x106e08d9 },
};

/* The hash is Kafka's murmur2, for keys of every length modulo four. */
Test(partitioner, published_vectors)
{
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
		cr_assert_eq(
		    partitioner_murmur2(vectors[i].key, vectors[i].size), vectors[i].hash, "%s", vectors[i].key);
	cr_assert_eq(partitioner_murmur2(NULL, 0), 0x106e08d9);
}

/* Bytes above 127 count as they are, wherever the key lies in memory. */
Test(partitioner, any_bytes_at_any_address)
{
	char buf[64];

	for (size_t shift = 0; shift < 8; shift++) {
		for (size_t size = 0; size <= 32; size++) {
			char *aligned = calloc(1, 64);

			cr_assert_not_null(aligned);
			for (size_t i = 0; i < size; i++)
				aligned[i] = buf[shift + i] = (char)(0xff - i * 7);
			cr_assert_eq(partitioner_murmur2(buf + shift, size), partitioner_murmur2(aligned, size));
			free(aligned);
		}
	}
	cr_assert_neq(partitioner_murmur2("\xff", 1), partitioner_murmur2("\x7f", 1));
}

/* A negative hash loses its sign bit (Utils.toPositive), so that the partition is Kafka's. */
Test(partitioner, picks_as_kafka)
{
	cr_assert_eq(partitioner_pick("foobar", 6, 10), (uint32_t)(-790332482 & 0x7fffffff) % 10);
	cr_assert_eq(partitioner_pick("foobar", 6, 10), 6);
	cr_assert_eq(partitioner_pick("21", 2, 1000), 1173551340 % 1000);
	cr_assert_eq(partitioner_pick("abc", 3, 7), 479470107 % 7);
}

/* One partition takes every key, many get about the same share each, and no key is out of range. */
Test(partitioner, spreads)
{
	unsigned counts[16] = { 0 };

	for (unsigned i = 0; i < 16000; i++) {
		uint32_t p = partitioner_pick(&i, sizeof(i), 16);

		cr_assert_lt(p, 16);
		counts[p]++;
		cr_assert_eq(partitioner_pick(&i, sizeof(i), 1), 0);
	}
	for (unsigned p = 0; p < 16; p++)
		cr_assert(counts[p] > 800 && counts[p] < 1200, "partition %u has %u of 16000", p, counts[p]);
}
