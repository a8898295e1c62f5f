/*
 * meta - what a batch has besides its payload bytes: lengths and properties, one record of BASE.meta for each batch
 * that needs one.
 *
 * A batch needs lengths if some payload holds a '\n' (else the newlines of the data are the delimiters), and properties
 * if some message has any. Most batches need neither and have no record. Numbers are little-endian, "leb" is a LEB128.
 *
 *   0   u32   CRC-32C of the entry's data CRC (as its four bytes) followed by bytes 4 to the end of this record: so a
 *             record left over from another batch never passes for this one's
 *   4   u32   length of the record, these eight bytes included
 *   8   u8    flags: META_LENGTHS, META_PROPS, META_KEY; the rest is 0
 *   9   ...   META_KEY: leb length, bytes: the key of every message of the batch
 *       ...   META_LENGTHS: for each message, leb length of its payload
 *       ...   META_PROPS: for each message, leb size of what follows for it, then its properties:
 *                 u8 type, leb length, bytes
 *
 *   type  1 key           bytes
 *         2 header        leb length of the name, name, value; once for each header, in order
 *         3 id            bytes
 *         4 routing key   bytes
 *         5 ts, 6 ttl, 7 delay (ms), 8 priority      leb
 *         10 mark         leb: its number in the commit it came by, see local_commit.h
 *        11 tombstone     nothing
 *         9 death         leb reason, leb count, leb time (ms), name of the queue; once for each, in order
 *
 * A type that is not known is passed over, so that later versions can add some. What the batch says for all (its time)
 * is not repeated.
 */
#ifndef MQFS_META_H
#define MQFS_META_H

#include "engine/engine.h"

#define META_LENGTHS 0x01u
#define META_PROPS 0x02u
#define META_KEY 0x04u
#define META_FIXED 9u /* bytes before what the flags say */

/* Which flags the messages [first, first + count) of batch need; newlines: some payload of them holds a '\n'. */
uint8_t meta_flags(const struct engine_batch *batch, uint32_t first, uint32_t count, bool newlines);

/* Bytes of the record for these messages with these flags; UINT64_MAX is never reached, but 2^32 may be passed. */
uint64_t meta_size(const struct engine_batch *batch, uint32_t first, uint32_t count, uint8_t flags);

/* Writes the record: exactly meta_size() bytes, which must be below 2^32. batch->lengths is set if META_LENGTHS is. */
void meta_put(uint8_t *out, uint32_t size, const struct engine_batch *batch, uint32_t first, uint32_t count,
    uint8_t flags, uint32_t data_crc);

/* What a record holds, as meta_check finds it. */
struct meta_shape {
	uint8_t flags;
	uint32_t header_count; /* of all messages together */
	uint32_t death_count;  /* the same */
};

/*
 * Checks a record from disk: CRC, and that everything in it ends where it should, for a batch of count messages and
 * data_length bytes. EBADMSG.
 */
int meta_check(const uint8_t *record, uint32_t size, uint32_t count, uint32_t data_length, uint32_t data_crc,
    struct meta_shape *ret_shape);

/* The CRC to continue with over bytes 4 to the end of a record; for who reads one piece by piece. */
uint32_t meta_crc_seed(uint32_t data_crc);

/*
 * Takes apart a record that meta_check found right. lengths (count; if META_LENGTHS), props (count; if META_PROPS or
 * META_KEY), headers (header_count) and deaths (death_count) are the caller's; spans point into record. ts_ms is that of the batch.
 */
void meta_get(const uint8_t *record, uint32_t size, uint32_t count, int64_t ts_ms, uint32_t *lengths,
    struct engine_props *props, struct engine_header *headers, struct engine_death *deaths);

/*
 * Calls each for every message of a record from disk, once it was checked as meta_check does, with its key and id (headers and
 * deaths are only counted); nonzero from it ends the walk and is returned. Spans last as long as record. EBADMSG.
 */
int meta_each(const uint8_t *record, uint32_t size, uint32_t count, uint32_t data_length, uint32_t data_crc,
    int (*each)(void *ctx, uint32_t i, const struct engine_props *props), void *ctx);

#endif
