/*
 * bytes - little-endian numbers and LEB128 in byte buffers, as all files of a store have them.
 *
 * LEB128 is seven bits a byte, lowest first; every byte but the last has its top bit set. Numbers here have at most 63
 * bits, so at most nine bytes. bytes_get_leb() reads from a cursor that never passes its end: what comes from a disk is
 * not trusted.
 */
#ifndef MQFS_BYTES_H
#define MQFS_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BYTES_LEB_MAX 9u

static inline void bytes_put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static inline void bytes_put64(uint8_t *p, uint64_t v)
{
	for (int i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (8 * i));
}

static inline uint32_t bytes_get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t bytes_get64(const uint8_t *p)
{
	return (uint64_t)bytes_get32(p) | (uint64_t)bytes_get32(p + 4) << 32;
}

/* Writes v (below 2^63) at p and returns how many bytes that took, at most BYTES_LEB_MAX. */
static inline size_t bytes_put_leb(uint8_t *p, uint64_t v)
{
	size_t n = 0;

	while (v >= 0x80) {
		p[n++] = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	p[n++] = (uint8_t)v;
	return n;
}

static inline size_t bytes_leb_size(uint64_t v)
{
	size_t n = 1;

	while (v >= 0x80) {
		v >>= 7;
		n++;
	}
	return n;
}

/* Reads a number at *cursor and moves that past it. False, and *cursor as it was, if it does not end before end. */
static inline bool bytes_get_leb(const uint8_t **cursor, const uint8_t *end, uint64_t *ret_v)
{
	const uint8_t *p = *cursor;
	uint64_t v = 0;

	for (unsigned i = 0; i < BYTES_LEB_MAX && p < end; i++) {
		v |= (uint64_t)(*p & 0x7f) << (7 * i);
		if (!(*p++ & 0x80)) {
			*cursor = p;
			*ret_v = v;
			return true;
		}
	}
	return false;
}

#endif
