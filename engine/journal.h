/*
 * journal - what changes often and must survive the daemon: acks, seeks, what was given.
 *
 * An append-only list of small records in files journal/NUMBER (16 hex digits); each record has its length, type and
 * CRC-32C. A record that was appended survives kill -9 (it is in the page cache), and the machine's death after
 * journal_sync. The owner brings what the records say into the catalog from time to time (a checkpoint) and the files
 * before it go. At start what is left is replayed in order. Where bytes are no whole record, either whole ones follow in
 * the same file: then it is damage, which is reported and costs what it hit; or none does: then it is where a crash cut
 * the file off. So a record must say all by itself, whether or not the one before it was read (a cursor is stored whole).
 *
 * A position counts the bytes of records since the journal was opened; it only rises.
 *
 * Threads: any call from any thread. The journal belongs to one process: it is opened after the last fork.
 */
#ifndef MQFS_JOURNAL_H
#define MQFS_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"

struct journal;

enum journal_type {
	JOURNAL_CURSOR = 1, /* struct journal_cursor */
	JOURNAL_QUEUE = 2,  /* what a range of a queue is now; these three are in local_queue_journal.c */
	JOURNAL_MOVE = 3,   /* a message goes from one lane of a queue to another */
	JOURNAL_CUT = 4,    /* a lane of a queue ends here */
	JOURNAL_ROUTE = 5,  /* messages for several targets, a transaction: local_commit_journal.c */
	JOURNAL_LOG = 9,    /* the end of a log: plog_tail.c */
	JOURNAL_END = 10,   /* up to where a log was on disk: local_end.c */
	JOURNAL_STAGE = 16, /* up to where a staging file was taken in; local_stage_take.c */
};

/* The stored state of one group in one partition, whole: the last record of a group and partition is the one that counts. */
struct journal_cursor {
	uint64_t group_id;
	uint32_t partition;
	uint64_t committed, given, lost;
};

#define JOURNAL_RECORD_MAX 65535u /* bytes in a record: its size has 16 bits */

/*
 * Opens the journal in directory dirfd (borrowed, as must outlive it) of the store with this uuid, and calls replay for
 * every record found, oldest first (record is aligned to 8 bytes); a replay that returns a negative errno ends the
 * opening with it. Files below the number `from` are passed over; new ones are not among them. EUCLEAN: a newer format, or a
 * file of another store. After opening, appends go to a new file. notify
 * is called for what is damaged, lost (`from` is of a file that was there when the catalog said so) or was cut; no error comes of that.
 */
int journal_open(int dirfd, const uint8_t store_uuid[16], bool read_only, uint64_t from, struct engine_notify notify,
    int (*replay)(void *ctx, enum journal_type type, const void *record, size_t size), void *ctx,
    struct journal **ret_journal);
int journal_close(struct journal *journal); /* syncs, and returns the error of that; NULL allowed */

/*
 * Appends one record. EMSGSIZE: size is over JOURNAL_RECORD_MAX; EIO, ENOSPC (nothing was appended); EROFS (read-only, or
 * failed by an earlier sync). ret_pos (may be NULL) is the position after the record: it is on disk once journal_synced
 * is there.
 */
int journal_append(struct journal *journal, enum journal_type type, const void *record, size_t size, uint64_t *ret_pos);
int journal_append_cursor(struct journal *journal, const struct journal_cursor *cursor, uint64_t *ret_pos);
int journal_decode_cursor(const void *record, size_t size, struct journal_cursor *ret_cursor); /* EBADMSG */

/*
 * Syncs all that was appended before the call; several callers at the same time share syncs, and appends go on meanwhile.
 * A failure is final: EIO now and ever after, and EROFS for appends from then on.
 */
int journal_sync(struct journal *journal);
uint64_t journal_end(struct journal *journal);    /* position after the last record */
uint64_t journal_synced(struct journal *journal); /* position below which all is on disk */

/*
 * Checkpoint: journal_rotate syncs, begins a new file and returns its number; once the catalog holds, durably, all that
 * the files before it said, journal_drop(number) removes them. EIO, ENOSPC, EROFS: a sync of the old
 * file that failed is final, as that of journal_sync; after any other error the old file goes on.
 */
int journal_rotate(struct journal *journal, uint64_t *ret_number);
int journal_drop(struct journal *journal, uint64_t number);
int journal_uuid(
    int dirfd, uint8_t ret_uuid[16]); /* in all headers that are whole; ENODATA: none is; EUCLEAN: not the same */
int journal_oldest(int dirfd, uint64_t *ret_number); /* of the files there are; ENODATA: none */

#endif
