/*
 * limits - the numbers of the storage layer, each with its reason. Limits users can meet are in engine.h and settings.
 */
#ifndef MQFS_LIMITS_H
#define MQFS_LIMITS_H

#include <stdint.h>

/*
 * Data of one batch entry, unless a single message is larger. What a reader must hold in memory and check at once; large
 * enough that checks and system calls cost little per byte, small enough that 1,000 readers fit into 64 MiB.
 */
#define LIMIT_ENTRY_DATA (64u << 10)

/* Data of one segment: positions within it are 32 bits, and some tools still stop at 2 GiB. */
#define LIMIT_SEGMENT_DATA 0x7fffffffu

/* Entries of one segment: its index stays at or below 1 GiB, so that positions in it fit into 32 bits. */
#define LIMIT_SEGMENT_SLOTS ((1u << 24) - 2)

/* Bytes of one segment's meta file: positions in it are 32 bits too. */
#define LIMIT_SEGMENT_META 0x7fffffffu

/*
 * Segments of one log, beside the active one, that keep their descriptors for the next reader. Readers mostly follow each
 * other; three descriptors each, so that 100 busy logs stay below the usual limit of 1,024.
 */
#define LIMIT_OPEN_SEALED 2u

/* Bytes of a last batch that a log keeps in memory for who follows it. */
#define LIMIT_RECENT 4096u

/* What recovery reads at once: few system calls, and memory that does not show. */
#define LIMIT_CHECK_BYTES (256u << 10)

/* Memory a scratch keeps after a large message when the next need is small. Four of the largest usual batches. */
#define LIMIT_SCRATCH_KEEP (1u << 20)

/*
 * Bytes kept on the disk for acks, deletes and settings when it is full. Twice what the largest of these take at a time: 1
 * MiB that the journal allocates ahead, as much for the file it begins at a checkpoint beside the old one, and a few pages of
 * the catalog and of a new segment. And at most an eighth of the file system, so that a small one is not all reserve.
 */
#define LIMIT_RESERVE (4u << 20)
#define LIMIT_RESERVE_SHARE 8u

/* Damaged batches of one log that are reported one by one; a disk that lost more has been noticed. */
#define LIMIT_DAMAGE_REPORTS 256u

#endif
