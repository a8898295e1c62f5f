#include "engine/partitioner.h"

#include <assert.h>

#define MURMUR2_SEED 0x9747b28cu /* Kafka's; any other would put keys elsewhere */
#define MURMUR2_M 0x5bd1e995u
#define MURMUR2_R 24

int32_t partitioner_murmur2(const void *key, size_t size)
{
	const unsigned char *p = key;
	uint32_t h = MURMUR2_SEED ^ (uint32_t)size;

	for (; size >= 4; size -= 4, p += 4) {
		/* Little-endian whatever the machine is, as in Java */
		uint32_t k = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;

		k *= MURMUR2_M;
		k ^= k >> MURMUR2_R;
		k *= MURMUR2_M;
		h *= MURMUR2_M;
		h ^= k;
	}
	switch (size) {
	case 3: h ^= (uint32_t)p[2] << 16; /* fall through */
	case 2: h ^= (uint32_t)p[1] << 8;  /* fall through */
	case 1:
		h ^= (uint32_t)p[0];
		h *= MURMUR2_M;
		break;
	default: break;
	}
	h ^= h >> 13;
	h *= MURMUR2_M;
	h ^= h >> 15;
	return (int32_t)h;
}

uint32_t partitioner_pick(const void *key, size_t size, uint32_t partitions)
{
	assert(partitions > 0);
	return ((uint32_t)partitioner_murmur2(key, size) & 0x7fffffffu) % partitions;
}
