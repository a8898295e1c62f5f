/*
 * crc32c - see crc32c.h. Slicing by eight (Kounavis, Berry 2005) and the three-way interleave of Adler's crc32c.c.
 *
 * To join three streams, the CRC of the first has to be moved on over as many zero bytes as the others are long. That is
 * a linear map of 32 bits, held as four tables of 256 words, one for each byte of the CRC.
 */
#include "engine/crc32c.h"

#include <string.h>

#define POLY 0x82f63b78u /* reflected */
#define LANE 1024u       /* bytes of one stream */

static uint32_t slices[8][256];    /* written once, by init(), before main() */
static uint32_t move_lane[4][256]; /* the map "LANE zero bytes follow"; likewise */
static uint32_t (*update)(uint32_t state, const uint8_t *p, size_t size);

static uint32_t update_portable(uint32_t state, const uint8_t *p, size_t size)
{
	for (; size >= 8; p += 8, size -= 8) {
		uint32_t low =
		    state ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
		state = slices[7][low & 0xff] ^ slices[6][low >> 8 & 0xff] ^ slices[5][low >> 16 & 0xff] ^
			slices[4][low >> 24] ^ slices[3][p[4]] ^ slices[2][p[5]] ^ slices[1][p[6]] ^ slices[0][p[7]];
	}
	for (; size > 0; p++, size--)
		state = state >> 8 ^ slices[0][(state ^ *p) & 0xff];
	return state;
}

#if defined(__x86_64__)

static inline uint32_t moved(uint32_t state)
{
	return move_lane[0][state & 0xff] ^ move_lane[1][state >> 8 & 0xff] ^ move_lane[2][state >> 16 & 0xff] ^
	       move_lane[3][state >> 24];
}

static inline uint64_t word_at(const uint8_t *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof(word));
	return word;
}

__attribute__((target("sse4.2"))) static uint32_t update_sse42(uint32_t state, const uint8_t *p, size_t size)
{
	for (; size >= 3 * LANE; p += 3 * LANE, size -= 3 * LANE) {
		uint64_t a = state, b = 0, c = 0;

		for (unsigned i = 0; i < LANE; i += 8) {
			a = __builtin_ia32_crc32di(a, word_at(p + i));
			b = __builtin_ia32_crc32di(b, word_at(p + LANE + i));
			c = __builtin_ia32_crc32di(c, word_at(p + 2 * LANE + i));
		}
		state = moved(moved((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
	}
	for (; size >= 8; p += 8, size -= 8)
		state = (uint32_t)__builtin_ia32_crc32di(state, word_at(p));
	for (; size > 0; p++, size--)
		state = __builtin_ia32_crc32qi(state, *p);
	return state;
}

#endif

static void init_slices(void)
{
	for (uint32_t n = 0; n < 256; n++) {
		uint32_t state = n;

		for (int bit = 0; bit < 8; bit++)
			state = state & 1 ? state >> 1 ^ POLY : state >> 1;
		slices[0][n] = state;
	}
	for (int k = 1; k < 8; k++)
		for (int n = 0; n < 256; n++)
			slices[k][n] = slices[k - 1][n] >> 8 ^ slices[0][slices[k - 1][n] & 0xff];
}

static void init_move(void)
{
	static const uint8_t zeros[LANE];
	uint32_t image[32]; /* of each single bit */

	for (unsigned bit = 0; bit < 32; bit++)
		image[bit] = update_portable(1u << bit, zeros, LANE);
	for (unsigned k = 0; k < 4; k++)
		for (unsigned n = 0; n < 256; n++)
			for (unsigned bit = 0; bit < 8; bit++)
				if (n & 1u << bit)
					move_lane[k][n] ^= image[8 * k + bit];
}

__attribute__((constructor)) static void init(void)
{
	init_slices();
	init_move();
	update = update_portable;
#if defined(__x86_64__)
	if (__builtin_cpu_supports("sse4.2"))
		update = update_sse42;
#endif
}

uint32_t crc32c(uint32_t crc, const void *buf, size_t size)
{
	return ~update(~crc, buf, size);
}

uint32_t crc32c_portable(uint32_t crc, const void *buf, size_t size)
{
	return ~update_portable(~crc, buf, size);
}
