/*
 * journal_internal - the format of a journal file, for journal.c, which writes it, and journal_replay.c, which reads it.
 *
 * Numbers are little-endian. A file is named by its number in 16 hex digits; later files have higher numbers. It begins
 * with a header of 64 bytes:
 *
 *    0  8  "mqfsjrnl"
 *    8  4  format: 1
 *   12  4  zero
 *   16 16  uuid of the store
 *   32  8  number of the file
 *   40 20  zero
 *   60  4  CRC-32C of bytes 0 to 59
 *
 * Records follow, each beginning at a multiple of 8:
 *
 *    0  4  CRC-32C of: store uuid, number of the file (8 bytes), and the record from byte 4 to its end
 *    4  2  type, 1 to 255
 *    6  2  size: bytes in the body, without the padding
 *    8     body, and zero bytes up to a multiple of 8
 *
 * That the CRC covers uuid and number, too, makes bytes that merely look like a record, inside of another's body or left
 * from another file, no record here. Type 1 is a cursor, its body 40 bytes:
 *
 *    0  8  id of the group
 *    8  8  committed
 *   16  8  given
 *   24  8  lost
 *   32  4  partition
 *   36  4  zero
 *
 * A crash leaves a file that ends in the middle of a record, or in zero bytes, or in whole records with a gap of either
 * before them (the disk had written later pages first); and a file with less than its header, which then has no records.
 *
 * To change the format: raise JOURNAL_FORMAT, keep replaying the old one, say so in mqfs-format(5). A new type of record
 * needs no new format.
 */
#ifndef MQFS_JOURNAL_INTERNAL_H
#define MQFS_JOURNAL_INTERNAL_H

#include "engine/journal.h"

#define JOURNAL_MAGIC "mqfsjrnl"
#define JOURNAL_FORMAT 1u
#define JOURNAL_HEADER 64u
#define JOURNAL_RECORD_HEADER 8u
#define JOURNAL_TYPE_MAX 255u /* so few that random bytes hardly ever look like a record worth a CRC */
#define JOURNAL_CURSOR_BYTES 40u
#define JOURNAL_NAME_SIZE 17u /* 16 digits and NUL */

/* Bytes of a record with this size of body in the file. */
static inline size_t journal_record_bytes(size_t size)
{
	return (JOURNAL_RECORD_HEADER + size + 7) & ~(size_t)7;
}

/* The CRC that those of the records in a file go on from. */
uint32_t journal_seed(const uint8_t store_uuid[16], uint64_t number);

void journal_file_name(char name[JOURNAL_NAME_SIZE], uint64_t number);

/* Numbers of the files in the directory, ascending, malloc'ed for the caller to free. Other names are passed over. */
int journal_list(int dirfd, uint64_t **ret_numbers, size_t *ret_count);

struct journal_replay {
	int dirfd;
	const uint8_t *store_uuid;
	uint64_t from; /* number of the first file that counts; 0: any */
	struct engine_notify notify;
	int (*replay)(void *ctx, enum journal_type type, const void *record, size_t size);
	void *ctx;
};

/* Replays one file; ret_end: position behind its last record, that of the first if it has none; 0: not all of it could be read. Errors: those of
 * the callback, EUCLEAN as of journal_open(), ENOMEM, and what keeps the file from being opened. */
int journal_replay_file(const struct journal_replay *how, uint64_t number, uint64_t *ret_end);

#endif
