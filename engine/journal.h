/*
 * journal - what changes often and must survive the daemon: acks, seeks, what was given.
 *
 * An append-only list of small records in journal/SEQ files; each has its length, type and CRC-32C. A record that was
 * appended survives kill -9 (it is in the page cache), and the machine's death after journal_sync. The owner brings what
 * the records say into the catalog from time to time (a checkpoint) and the files before it go. At start what is left is
 * replayed in order up to the first record that is not whole, which is where a crash cut it off.
 *
 * Threads: any call from any thread.
 */
#ifndef MQFS_JOURNAL_H
#define MQFS_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"

struct journal;

enum journal_type {
	JOURNAL_CURSOR = 1,                      /* struct journal_cursor */
};

/* The stored state of one group in one partition, whole: the last record of a group and partition is the one that counts. */
struct journal_cursor {
	uint64_t group_id;
	uint32_t partition;
	uint64_t committed, given, lost;
};

/*
 * Opens the journal in directory dirfd (borrowed) and calls replay for every record found, oldest first; a replay that
 * returns a negative errno ends the opening with it. EUCLEAN: a newer format. After opening, appends go to a new file.
 */
int journal_open(int dirfd, bool read_only, struct engine_notify notify,
    int (*replay)(void *ctx, enum journal_type type, const void *record, size_t size), void *ctx, struct journal **ret_journal);
int journal_close(struct journal *journal); /* syncs; NULL allowed */

/* Appends one record (size at most 64 KiB). EIO, ENOSPC, EROFS. The position returned is for journal_sync. */
int journal_append(struct journal *journal, enum journal_type type, const void *record, size_t size, uint64_t *ret_pos);
int journal_append_cursor(struct journal *journal, const struct journal_cursor *cursor, uint64_t *ret_pos);
int journal_decode_cursor(const void *record, size_t size, struct journal_cursor *ret_cursor); /* EBADMSG */

/* Syncs all appended so far. A failure is final: EIO now, EROFS for appends from then on. */
int journal_sync(struct journal *journal);
uint64_t journal_end(struct journal *journal);    /* position after the last record, in the journal's life */
uint64_t journal_synced(struct journal *journal); /* position below which all is on disk */

/*
 * Checkpoint: journal_rotate begins a new file and returns its number; once the catalog holds, durably, all that the
 * files before it said, journal_drop(number) removes them.
 */
int journal_rotate(struct journal *journal, uint64_t *ret_number);
int journal_drop(struct journal *journal, uint64_t number);

#endif
