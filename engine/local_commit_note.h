/*
 * local_commit_note - notes of commits as they are in the journal: what local_commit_journal.c, which writes them, and
 * local_commit_recover.c, which reads them, share. The format is in the first.
 */
#ifndef MQFS_LOCAL_COMMIT_NOTE_H
#define MQFS_LOCAL_COMMIT_NOTE_H

#include "engine/local_commit.h"

#define NOTE_HEAD 8u
#define PART_HEAD 56u
#define TARGET_HEAD 24u
#define LOG_BYTES 16u
#define NOTE_CRC 0u /* the journal has one of its own */
#define TO_HEAD 1u
#define SOME_ONLY 2u
#define COMMIT_PIECE_HEAD 16u
#define COMMIT_FROM UINT32_MAX /* pieces of what is no note: all notes of this mark or a higher one are behind it */

/* A note in memory: at the start each there is, later those that are not done. */
struct commit_pending {
	uint64_t mark;
	uint32_t next, pieces; /* the piece that comes next; as many as there are: it is whole */
	uint8_t *note;
	size_t size;
	bool missed; /* local_commit_recover.c: a target could not be given all */
	UT_hash_handle hh;
};

void commit_pending_free(struct commit_pending *pending); /* NULL allowed */
int commit_pending_add(struct local *local, struct commit_pending *pending);

#endif
