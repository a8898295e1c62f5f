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
#define PLACE_GONE UINT32_MAX  /* of a message, instead of its log: it was there, and is missed no more */

/* A note in memory: at the start each there is, later those that are not done. */
struct commit_pending {
	uint64_t mark;
	uint32_t next, pieces; /* the piece that comes next; as many as there are: it is whole */
	uint8_t *note;
	size_t size;
	bool missed; /* local_commit_recover.c: a target could not be given all */
	UT_hash_handle hh;
};

/* A crash may have left the first pieces only: then nothing of it has happened. */
static inline bool commit_is_whole(const struct commit_pending *pending)
{
	return pending->next == pending->pieces && pending->size >= NOTE_HEAD;
}

void commit_pending_free(struct commit_pending *pending); /* NULL allowed */
int commit_pending_add(struct local *local, struct commit_pending *pending);

/* ---- local_commit_read.c: notes that are whole, as parts ---- */

#define NOTED_FOR_OTHERS 1u /* it is not for this target */
#define NOTED_THERE 2u      /* it is in a log, or was trimmed there */
#define NOTED_GONE 4u       /* it was taken from there, as the journal says, and then lost */
#define NOTED_UNREAD 8u     /* the log could not be read: whether it is there is found out later */

struct noted_target {
	uint64_t id;
	bool head;
	uint32_t log_count, count;
	const uint8_t *logs, *which, *places; /* which: NULL if it is for all */
	uint8_t *there;                       /* of each message of the part: 0, it is not; else NOTED_... */
};

struct noted_part {
	uint64_t mark;
	struct commit_pending *pending;
	struct engine_batch batch;
	uint32_t *lengths;
	struct engine_props *props;
	struct engine_header *headers;
	struct engine_death *deaths;
	struct noted_target *targets;
	uint32_t target_count;
};

struct noted_parts {
	struct noted_part *list;
	uint32_t count, room;
};

/* Adds those of a note, which must last as long; none if it is not whole. EBADMSG: it is damaged. ENOMEM */
int noted_parts_add(struct noted_parts *parts, struct commit_pending *pending);
void noted_parts_release(struct noted_parts *parts);
/* Index in the part of the target's i-th message. */
uint32_t noted_index(const struct noted_target *target, uint32_t i);

#endif
