/*
 * segment - the files of one segment of a partition log: BASE.data, BASE.index and, if it needs one, BASE.meta.
 *
 * BASE is the offset of the first message as 20 decimal digits. The data file holds payloads, each followed by '\n', and
 * nothing else; where it ends follows from the index (index.h), never from its size. Files are made data first, index last,
 * and removed the other way round, so a segment is there if its index is.
 *
 * A segment knows its files and where they end; which of the segments is written, read or removed, and when, is for the
 * log to say (plog*.c). It has no lock: every field is guarded by the mutex of its log, and functions that take a
 * struct segment want that held, unless they say otherwise. What reads outside of the mutex goes through a struct
 * segment_reader: a copy of what was true when it was made, which stays true while the segment is pinned, because entries
 * below the last never change.
 */
#ifndef MQFS_SEGMENT_H
#define MQFS_SEGMENT_H

#include "engine/index.h"

#define SEGMENT_NAME_SIZE 32u
#define SEGMENT_TIME_UNKNOWN INT64_MIN

/* Where it lives, and what its header must say. */
struct segment_home {
	int dirfd;
	uint64_t log_id;
	const uint8_t *uuid;
};

/* Bytes of its data, from..to-1. */
struct segment_range {
	uint32_t from, to;
};

struct segment {
	uint64_t base;                  /* offset of the first message */
	uint64_t base_pos;              /* byte position in the life of the log; if loaded */
	int64_t created_ms;             /* if loaded */
	int64_t last_ms;                /* time of its last message, or SEGMENT_TIME_UNKNOWN */
	uint32_t slots;                 /* entries; if loaded */
	uint32_t data_end, meta_end;    /* only of the active one, and until all of it is synced */
	int data_fd, index_fd, meta_fd; /* -1: closed, or no such file */
	uint32_t own;                   /* data from here on was written since the log was opened */
	struct segment_range right[2];  /* the rest of it that was read since, and is what was written: plog_bytes.c */
	uint32_t users;                 /* who reads or syncs it outside of the mutex */
	bool opened;                    /* files that are there are open: none is to be looked for again */
	bool loaded;
	bool gaps;    /* it was compacted; if loaded */
	bool removed; /* no longer in its log: freed by its last user */
};

struct segment *segment_new(uint64_t base); /* NULL: no memory */
void segment_free(struct segment *segment); /* closes its files; NULL allowed */

void segment_name(char out[SEGMENT_NAME_SIZE], uint64_t base, const char *suffix);

/*
 * Makes the files of an empty segment, opened for writing, and syncs the index; the caller syncs the directory. What an
 * earlier failure left under these names is cut. On failure nothing is left.
 */
int segment_create(struct segment *segment, const struct segment_home *home, uint64_t base_pos, int64_t now_ms);

/*
 * Makes an empty one of a segment whose front is lost, which has no entry; the caller syncs the directory. Until all of it is done its
 * front is lost, so that whatever fails it can be done again.
 */
int segment_remake(struct segment *segment, const struct segment_home *home, uint64_t base_pos, int64_t now_ms);

/* Makes the meta file and syncs the directory, unless there is one. */
int segment_create_meta(struct segment *segment, int dirfd);

/* Opens what is not open. A data or meta file that is missing is no error: its fd stays -1, and reading it fails. */
int segment_open_files(struct segment *segment, int dirfd, bool writable);
void segment_close_files(struct segment *segment);

/* fd of a segment is this file now, which was just opened. */
void segment_set_fd(int *fd, int opened);

/* Files that all segments of the process have open. */
size_t segment_files_open(void);
int segment_last_fd(void); /* that was opened, if none was closed since: descriptors below it are in use */

/* Unlinks the files, index first; the caller syncs the directory. Files that are not there are no error. */
int segment_unlink(uint64_t base, int dirfd);

/*
 * Reads header, mark and number of entries. EUCLEAN: of another log or a newer format, engine_reason() says which.
 * EBADMSG: header and mark are unreadable; then the rest is set but base_pos, which the caller has to find out, and loaded.
 * A mark that is not there or damaged is given as one at the segment's start.
 */
int segment_load(struct segment *segment, const struct segment_home *home, struct index_mark *ret_mark);

/* Writes of an append, at the segment's ends; the caller moves these afterwards. first: slot of the first entry. */
int segment_write_data(const struct segment *segment, const char *data, uint32_t size);
int segment_write_meta(const struct segment *segment, const uint8_t *meta, uint32_t size);
int segment_write_slots(const struct segment *segment, uint32_t first, const uint8_t *slots, uint32_t count);

/* Cuts the files at the ends the segment knows. */
int segment_truncate(const struct segment *segment);

/* ------------------------------------------------------------------------------------------- of a pinned one, outside of the mutex */

struct segment_reader {
	int data_fd, index_fd, meta_fd;
	uint64_t base;
	uint64_t base_pos;
	uint64_t end_offset; /* one past its last message */
	uint32_t slots;
	bool gaps;
	struct index_entry last; /* that of slot slots - 1, if its count is not 0: it may change on disk */
	struct segment *segment; /* pinned */
};

/*
 * Syncs data and meta, then the index, then writes the mark. For a pinned segment, outside of the mutex. An error is one
 * of the syncs': that the mark could not be written is no harm.
 */
int segment_sync(const struct segment_reader *reader, const struct index_mark *mark);
/* Writes the mark only: all that it says is on disk. */
void segment_put_mark(const struct segment_reader *reader, const struct index_mark *mark);

/*
 * EBADMSG: damaged, unreadable, or not of this segment. Any other error (ENOMEM, EINTR) says nothing of the entry (io_is_damage()), here and
 * below: it ends the search, and none is stepped over for it.
 */
int segment_read_entry(const struct segment_reader *reader, uint32_t slot, struct index_entry *ret_entry);

/* The last entry at or before slot that can be read. ENOENT. */
int segment_read_entry_before(
    const struct segment_reader *reader, uint32_t slot, uint32_t *ret_slot, struct index_entry *ret_entry);

/*
 * Binary search: the last readable entry for which before(entry, key) is true, given that it is true for the first so many
 * and false for the rest. Damaged entries are stepped over. ENOENT: for none.
 */
int segment_search(const struct segment_reader *reader, bool (*before)(const struct index_entry *entry, uint64_t key),
    uint64_t key, uint32_t *ret_slot, struct index_entry *ret_entry);

/*
 * The entry that covers offset; hint is a slot to look at first (any number). ENOENT: offset is in a gap of a compacted
 * segment, and to in ret_lost is the next offset there is, or the segment's end, at pos. EBADMSG: it is damaged; then from..to in
 * ret_lost are the offsets that are lost with it, as far as its neighbours tell, and pos where its data begins.
 */
struct segment_lost {
	uint64_t from, to;
	uint32_t pos;
};
int segment_locate(const struct segment_reader *reader, uint64_t offset, uint32_t hint, uint32_t *ret_slot,
    struct index_entry *ret_entry, struct segment_lost *ret_lost);

/* ----------------------------------------------------------------------------------------- recovery */

/* Up to where a segment is whole. */
struct segment_whole {
	uint64_t end_offset;
	uint32_t slots, data_end, meta_end;
	bool short_index; /* entries that were synced are missing */
};

/*
 * Checks every entry beyond the mark, with its data and meta, up to the first that is not whole, or has a message that is lost
 * (plog.h; NULL: none is); then drops entries of an append whose end is missing. files must be open. ENOMEM.
 */
int segment_check(const struct segment *segment, const struct index_mark *mark,
    bool (*is_lost)(void *ctx, uint64_t mark), void *ctx, struct segment_whole *ret_whole);

#endif
