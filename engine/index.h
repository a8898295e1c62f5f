/*
 * index - the 64-byte records of a segment's index file, and of `start`: their bytes, and nothing else.
 *
 * An index file is a header, the synced mark, and from byte INDEX_FIRST on one entry for each batch. All are 64 bytes, so
 * that none crosses a 512-byte sector: a disk that loses power writes such a record whole or not at all. Numbers are
 * little-endian; each record ends with the CRC-32C of its other 60 bytes.
 *
 *   header           0  "MQFSIDX1"        mark             0  "MQFSMARK"
 *                    8  u32 version (1, 2)                 8  u64 end offset
 *                   12  16 bytes uuid                     16  u64 base pos, a second copy
 *                       of the store                      24  u32 index end
 *                   28  u64 log id                        28  u32 data end
 *                   36  u64 base offset                   32  u32 meta end
 *                   44  u64 base pos                      36  u8 gaps, 23 bytes 0
 *                   52  i64 created, ms                   60  u32 crc
 *                   60  u32 crc
 *
 *   entry            0  u64 base offset   `start`          0  "MQFSTART"
 *                    8  u64 first id                       8  u32 version (1)
 *                   16  i64 time, ms                      12  16 bytes uuid
 *                   24  u32 pos                           28  u64 log id
 *                   28  u32 length                        36  u64 start offset
 *                   32  u32 count, flags << 24            44  u64 start pos
 *                   36  u32 meta pos                      52  8 bytes, 0
 *                   40  u32 meta length                   60  u32 crc
 *                   44  u32 uid
 *                   48  u32 gid
 *                   52  u32 pid
 *                   56  u32 crc of the data
 *                   60  u32 crc
 *
 * The header never changes. The mark says up to where all three files were on disk when it was written; it is rewritten
 * after every sync and not synced itself: an old one only makes recovery check more. The last entry may be rewritten as
 * long as no sync has covered it. An entry without flag INDEX_MORE ends an append; a crash that leaves only entries with
 * it leaves nothing of that append.
 *
 * Version 2, and gaps in the mark, say that the segment was compacted: there are gaps between the offsets of its entries,
 * though none in the positions. All of it was synced before it came to be, so its mark covers it.
 *
 * To change the format: a new version number, here and in mqfs-format(5); header and `start` keep their shape up to the
 * version and their last four bytes, so that an old program can tell a newer file from a damaged one.
 */
#ifndef MQFS_INDEX_H
#define MQFS_INDEX_H

#include <stdint.h>

#include "engine/engine.h"

#define INDEX_VERSION 1u
#define INDEX_VERSION_GAPS 2u
#define INDEX_SLOT 64u    /* bytes of every record */
#define INDEX_FIRST 128u  /* where the entries begin */
#define INDEX_MORE 0x01u  /* flag: the append goes on in the next entry */
#define INDEX_STRAY 0x02u /* flag: its id is out of order: it came from another log */
#define INDEX_MOVED 0x04u /* flag: it came from another log, and the journal says from which */
#define INDEX_HEAD 0x08u  /* flag: it was put to the head of its queue, and the journal says to which place */
#define INDEX_COUNT_MAX 0xffffffu

struct index_header {
	uint8_t uuid[16];
	uint64_t log_id;
	uint64_t base_offset;
	uint64_t base_pos; /* byte position of the segment's first byte in the life of the log */
	int64_t created_ms;
	bool gaps;
};

struct index_mark {
	uint64_t end_offset;
	uint64_t base_pos;
	uint32_t index_end, data_end, meta_end;
	bool gaps;
};

struct index_entry {
	uint64_t base_offset;
	uint64_t first_id; /* 0: its messages have none */
	int64_t ts_ms;
	uint32_t pos, length; /* in the data file, delimiters included */
	uint32_t count;
	uint32_t meta_pos, meta_len; /* meta_len 0: no meta */
	struct engine_cred cred;
	uint32_t data_crc;
	uint8_t flags;
};

struct index_start {
	uint8_t uuid[16];
	uint64_t log_id;
	uint64_t offset, pos;
};

void index_put_header(uint8_t out[INDEX_SLOT], const struct index_header *header);
void index_put_mark(uint8_t out[INDEX_SLOT], const struct index_mark *mark);
void index_put_entry(uint8_t out[INDEX_SLOT], const struct index_entry *entry);
void index_put_start(uint8_t out[INDEX_SLOT], const struct index_start *start);

/* EBADMSG: damaged, or no such record. EUCLEAN (header and start): whole, but of a newer version. */
int index_get_header(const uint8_t in[INDEX_SLOT], struct index_header *ret_header);
int index_get_mark(const uint8_t in[INDEX_SLOT], struct index_mark *ret_mark);
int index_get_entry(const uint8_t in[INDEX_SLOT], struct index_entry *ret_entry);
int index_get_start(const uint8_t in[INDEX_SLOT], struct index_start *ret_start);

static inline bool index_covers(const struct index_entry *entry, uint64_t offset)
{
	return offset >= entry->base_offset && offset - entry->base_offset < entry->count;
}

#endif
