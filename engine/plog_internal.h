/*
 * plog_internal - what the files of a partition log share: its state, the lock over it, and its list of segments.
 *
 *   plog.c           life: create, close, destroy; the figures
 *   plog_list.c      what the directory holds
 *   plog_recover.c   opening, and what a crash left
 *   plog_segments.c  the list: finding, loading, pinning, rolling
 *   plog_append.c    a batch comes in
 *   plog_sync.c      and reaches the disk
 *   plog_tail.c      or is noted elsewhere, which does
 *   plog_read.c      a batch, or a time are looked for
 *   plog_bytes.c     its bytes, as those of a file
 *   plog_recent.c    of which the last one may be in memory
 *   plog_trim.c      the front goes: purge and retention
 *   plog_compact.c   older messages of a key go
 *   plog_swap.c      compacted segments take the place of others; and what a crash leaves of that
 *   plog_ids.c       ids of messages, some of which are gone
 *
 * Locks: trim_mutex, then mutex. mutex guards everything in struct plog and its segments; it is held over writes of an
 * append and over the opening of files, never over a sync of data or the reading of it. Who uses a segment outside of the
 * mutex pins it: its files stay open and its memory stays, even if it is trimmed away meanwhile.
 */
#ifndef MQFS_PLOG_INTERNAL_H
#define MQFS_PLOG_INTERNAL_H

#include <pthread.h>

#include "engine/io.h"
#include "engine/limits.h"
#include "engine/plog.h"
#include "engine/segment.h"

#define PLOG_NAME_SIZE 17u
#define PLOG_START_NAME "start"

/* plog_recent.c: the data of the last entry, if it is in memory. */
struct plog_recent {
	char *data;
	uint32_t size, room; /* 0: not there */
	uint64_t base;       /* of that entry; and its CRC */
	uint32_t crc;
	bool wanted; /* the last entry was read since it began */
};

/* plog_find.c: entries from..to-1 of a segment, all of them strays. */
struct plog_strays {
	uint64_t base;
	uint32_t from, to;
};
#define PLOG_STRAYS 4u /* runs of them that are remembered */

struct plog {
	struct plog_options options; /* never changes */
	uint64_t token;              /* never changes: who this is, in a reader's block */
	pthread_mutex_t trim_mutex;  /* the file `start`, and who removes segments */
	pthread_mutex_t mutex;       /* all below */
	int dirfd;                   /* -1: closed */
	bool known;                  /* to others: it is not being opened any more */
	struct segment **segments;   /* ascending; at least one, the last is the active one */
	size_t count, room;
	struct segment *kept[LIMIT_OPEN_SEALED]; /* not the active one: their files stay open for the next reader */
	uint32_t kept_next;
	uint32_t frozen;         /* entries of the active segment that a sync covers or may cover */
	struct index_entry last; /* of the active segment; count 0: none, or not readable */
	struct plog_recent recent;
	struct plog_strays strays[PLOG_STRAYS];
	uint64_t start_offset, start_pos;
	uint64_t end_offset;
	uint64_t lost_from, lost_to; /* by options.known; the same: none are */
	uint64_t synced;
	uint64_t durable;      /* the same, by a record elsewhere: plog_tail.c; may be below synced */
	struct plog_tail tail; /* up to where there are such records */
	int64_t mtime_ms;
	int64_t ids_window_ms; /* see plog_keep_ids() */
	bool swap_left;        /* files that were replaced may still be there: no compaction until the next opening */
	bool has_gaps;         /* it was compacted */
	uint64_t clean_offset; /* below it no key has two messages */
	uint64_t shifted_start, shifted_pos; /* see struct engine_partition_stat */
	bool failed;                         /* a sync failed: final */
	bool marked;                         /* since a sync began: a message with a mark came, or plog_follow() */
	bool repair;                         /* an append failed and may have left bytes behind the end */
	struct plog_range {
		uint64_t from, to;
	} * damage; /* what was reported as damaged */
	uint32_t damage_count;
};

/* ---- plog.c ---- */

void plog_name(char out[PLOG_NAME_SIZE], uint64_t id);
int plog_open_dir(const struct plog_options *options); /* a new descriptor, or negative errno */
void plog_free(struct plog *plog);
void plog_notify(const struct plog *plog, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ---- plog_read.c ---- */

void plog_report_lost(struct plog *plog, const struct segment_lost *lost); /* once */

/* An error of what is not told where the damage is. */
static inline int plog_damage_as_eio(int rc)
{
	return io_is_damage(rc) ? -EIO : rc;
}

/* ---- plog_list.c; before the log is known to others ---- */

/* Offsets that names of files tell. */
struct plog_bases {
	uint64_t *list;
	size_t count, room;
};

/* Fills the list of segments, or leaves it empty: plog_list.c. Data files that no segment has, and none will, go to strays, whose list is to be freed. */
int plog_list(struct plog *plog, struct plog_bases *strays);

/* Takes start_offset and start_pos from `start`, if it is there and right. A damaged one is reported. */
int plog_read_start(struct plog *plog);

/* ---- plog_segments.c; all with mutex, or before the log is known to others ---- */

int plog_dir(struct plog *plog);      /* the log's own descriptor of its directory, or negative errno */
void plog_put_dir(struct plog *plog); /* it is not needed any more: a log at rest has just its files open */

static inline struct segment *plog_active(const struct plog *plog)
{
	return plog->segments[plog->count - 1];
}

static inline uint64_t plog_end_pos(const struct plog *plog)
{
	return plog_active(plog)->base_pos + plog_active(plog)->data_end;
}

int plog_push(struct plog *plog, struct segment *segment);
size_t plog_find(const struct plog *plog, uint64_t offset); /* the segment offset is in, or would be */
int plog_find_pos(struct plog *plog, uint64_t pos, size_t *ret_i);

/* One past the last offset of segment i. */
uint64_t plog_segment_end(const struct plog *plog, size_t i);

/* Bytes of data that the entries of segment i tell of. Its files are opened for this. */
int plog_data_size(struct plog *plog, size_t i, uint64_t *ret_size);

/* Reads the front of segment i, unless that was done; ret_mark (may be NULL) makes it read again. */
int plog_load(struct plog *plog, size_t i, struct index_mark *ret_mark);

/* A reader for segment i that is valid as long as the mutex is held. Loads it and opens its files. */
int plog_reader(struct plog *plog, size_t i, struct segment_reader *ret_reader);

/* The same, valid until plog_unpin. */
int plog_pin(struct plog *plog, size_t i, struct segment_reader *ret_reader);
void plog_unpin(struct plog *plog, struct segment *segment);

/* Ends the active segment and starts one at this offset and position; durable but for the data of the old one. */
int plog_roll(struct plog *plog, uint64_t base, uint64_t base_pos);

/* Takes the first n segments out of the list; their files are the caller's to remove. Never the active one. */
void plog_detach(struct plog *plog, size_t n);
void plog_forget(struct plog *plog, struct segment *segment); /* closes its files, frees it when it is not pinned */

/* Time of the last message of segment i, or when it was made if that is damaged. Errors that say nothing of it. */
int plog_last_ms(struct plog *plog, size_t i, int64_t *ret_ms);

/* Brings the files behind the end back in order, if a failed append left that to do. */
int plog_repair(struct plog *plog);

/* ---- plog_tail.c ---- */

struct plog_tail plog_tail_end(const struct plog *plog); /* of all that was appended. mutex */

/* ---- plog_read.c ---- */

/* The whole batch of an entry. EBADMSG, ENOMEM. Outside of the mutex */
int plog_fetch(const struct segment_reader *reader, const struct index_entry *entry, struct engine_scratch *scratch,
    struct engine_view *ret_view);

/* Position of offset (start <= offset <= end): of its message, or in a damaged batch of where that begins. Without mutex. */
int plog_position(struct plog *plog, uint64_t offset, uint64_t *ret_pos);

/* ---- plog_recent.c; mutex ---- */

/* The batch was appended, and is the last entry, or its end. */
void plog_recent_note(struct plog *plog, const struct engine_batch *batch);
/* The data of the last entry if offset is in it and it is there; else NULL. */
const char *plog_recent_get(struct plog *plog, uint64_t offset);
void plog_recent_drop(struct plog_recent *recent);

/* ---- plog_ids.c ---- */

/* Keeps the ids of what is below `before`, durably; the messages are about to be trimmed away. trim_mutex */
int plog_save_ids(struct plog *plog, int dirfd, uint64_t before);
/* The same for messages from..before that compaction removes. Any mutex may be held but mutex. */
int plog_save_ids_from(struct plog *plog, int dirfd, uint64_t from, uint64_t before);

/* ---- plog_swap.c ---- */

/* A group of sealed segments, and what takes their place: the files BASE.cdata, .cmeta and .cindex, synced. */
struct plog_group {
	struct segment **old; /* count of them, pinned, as they follow each other in the list */
	size_t count;
	uint64_t start_offset; /* of the log when they were read: nothing below is in what takes their place */
	uint64_t base, end;    /* offsets: of the first, and where the last ends */
	uint32_t slots, data_end;
	bool has_meta;
	int64_t created_ms;
};

void plog_aside_name(char out[SEGMENT_NAME_SIZE], uint64_t base, const char *suffix); /* "data", "meta", "index" */
/*
 * Takes the segments into the log. EAGAIN: it is not what it was when they were read, and nothing has changed. EROFS: the log has
 * failed; then the old ones are to stay pinned.
 */
int plog_swap(struct plog *plog, int dirfd, const struct plog_group *group);
void plog_remove_aside(int dirfd, uint64_t base);
/* The file `clean`: that the log was compacted, and how far. */
int plog_write_clean(struct plog *plog, int dirfd, uint64_t clean_offset);
int plog_read_clean(struct plog *plog);
/* At the opening, before the segments are listed: what a crash left of a swap is finished or undone. */
int plog_finish_swap(struct plog *plog);
/* And once they are: where the segments of a compacted log begin follows from their sizes, from the last one down. */
int plog_settle_positions(struct plog *plog);

/* ---- plog_trim.c ---- */

/* Removes the files of a segment and tells if that failed. Without mutex. */
void plog_unlink_segment(const struct plog *plog, int dirfd, uint64_t base);

#endif
