/*
 * plog - a partition log: the list of segments that holds the messages of one partition.
 *
 * It is the only place where messages are stored. A directory of its own, logs/<id, 16 hex digits>/, holds for each
 * segment BASE.data (payloads, each followed by '\n'), BASE.index (64-byte batch entries, see index.h) and, once a batch
 * needs it, BASE.meta (lengths and properties, see meta.h); BASE is the offset of its first message, 20 digits. The file
 * `start` says where the log begins when that is not at a segment's start. Everything a reader or a recovery needs is
 * in the directory: no other part of the store has to agree with it.
 *
 * Offsets are dense and never reused. pos is a byte position in the whole life of the log (the first byte ever is 0):
 * it goes on rising over segments, and deleting from the front does not change it.
 *
 * Threads: any call from any thread. Appends are serialised by the log's mutex; reads of data run outside of it (a segment
 * in use is kept by a reference). A plog opened for a store holds no descriptors until it is used, and
 * plog_release_files() closes those it has.
 */
#ifndef MQFS_PLOG_H
#define MQFS_PLOG_H

#include "engine/engine.h"
#include "engine/index.h"

struct plog;

/*
 * What is known elsewhere of a log, whatever files of it there are: that messages up to this offset, and bytes up to this position,
 * were on disk. A log that ends before has lost files. It goes on there, so that no offset is given again.
 */
struct plog_known {
	uint64_t end, pos;
	uint64_t start; /* and that the log began there: who opens it looks */
	bool is_known;
};

struct plog_options {
	int logs_dirfd; /* the store's logs/ directory; borrowed, must outlive the plog */
	uint64_t id;
	uint8_t store_uuid[16];
	bool read_only;
	bool remake; /* plog_open() makes a directory that is not there anew, if the end of the log is known */
	struct plog_known known;
	struct engine_notify notify; /* damage found, what recovery cut */
	/* Both with ctx, and may be NULL. The first: marked messages, or those of plog_follow(), are about to be synced; an error prevents it. */
	int (*before_sync)(void *ctx);
	/* At the opening: of a message with a mark (struct engine_props) that may not have been synced. The log ends before it. */
	bool (*is_lost)(void *ctx, uint64_t mark);
	void *ctx;
	uint32_t ids_max; /* in one file of ids, at most; 0: as many as there may be, 2^24 */
};

/* Makes the directory and an empty first segment that starts at offset 0; durable on return. */
int plog_create(const struct plog_options *options);

/*
 * Opens the log and recovers its tail: what lies beyond the synced mark of the last segment is checked entry by
 * entry, and cut back to the last entry that is whole. EUCLEAN: not a log of this store or of a newer format.
 * EINPROGRESS: read_only, and a compaction that was cut off has to be finished first.
 */
int plog_open(const struct plog_options *options, struct plog **ret_plog);

/* Whether its last messages, from..to-1, were known to be on disk, and their files are gone. */
bool plog_lost_end(const struct plog *plog, uint64_t *ret_from, uint64_t *ret_to);

/* Syncs (unless read-only or failed), marks all as synced, and frees. Returns the error of the sync. NULL allowed. */
int plog_close(struct plog *plog);

/* Removes the directory of a log that is not open, with all that is in it. ENOENT is no error. */
int plog_destroy(int logs_dirfd, uint64_t id);

/* Closes descriptors that are not in use; they are opened again when needed. False: some are of what is not synced. */
bool plog_release_files(struct plog *plog);

/*
 * Appends a batch (its ts_ms resolved by the caller, >= 0), all of it or nothing, and returns the offset of its first
 * message. The bytes are in the page cache on return. Large batches become several entries. segment_bytes: the segment
 * is rolled when the batch would take it past that size. first_id: id of the first message in the store's sequence of
 * ids, 0 if the log has none; with PLOG_MOVED, a batch of one that came from another log; with PLOG_STRAY, one whose id
 * is below that of an earlier message of the log; with PLOG_HEAD, a batch that was put to the head of its queue.
 * ENOSPC, EIO (nothing was appended), EROFS (read-only, or failed by an earlier sync).
 */
#define PLOG_STRAY ((uint64_t)1 << 63)
#define PLOG_MOVED ((uint64_t)1 << 62)
#define PLOG_HEAD ((uint64_t)1 << 61)
#define PLOG_FLAGS (PLOG_STRAY | PLOG_MOVED | PLOG_HEAD)
int plog_append(struct plog *plog, const struct engine_batch *batch, uint64_t first_id, uint64_t segment_bytes,
    uint64_t *ret_offset);

/* before_sync() is called before what is appended from here on is synced: the caller has written something that says of it. */
void plog_follow(struct plog *plog);

/*
 * Takes back what was appended since the mark was set, which nobody may have read. EBUSY: a sync has begun since, or the
 * segment is another. If the files cannot be cut now, they are before the next append.
 */
struct plog_mark {
	uint64_t segment, end_offset;
	uint32_t slots, data_end, meta_end, frozen;
	struct index_entry last;
	int64_t mtime_ms;
};
void plog_set_mark(struct plog *plog, struct plog_mark *ret_mark);
int plog_take_back(struct plog *plog, const struct plog_mark *mark);

/* As partition_read, partition_pread, partition_find_time and partition_stat of engine.h. view->partition is not set. */
int plog_read(struct plog *plog, uint64_t offset, uint32_t max_count, struct engine_scratch *scratch,
    struct engine_view *ret_view);
/* The same, and the id of the first message, 0 if the log has none. With ids, view->deliveries has room for all. */
int plog_read_ids(struct plog *plog, uint64_t offset, uint32_t max_count, struct engine_scratch *scratch,
    struct engine_view *ret_view, uint64_t *ret_first_id);
ssize_t plog_pread(struct plog *plog, uint64_t pos, void *buf, size_t size);
int plog_find_time(struct plog *plog, int64_t ts_ms, uint64_t *ret_offset);
void plog_stat(struct plog *plog, struct engine_partition_stat *ret_stat);
/* How many of the messages that are there are known to be damaged, by reads since it was opened; and the first of them, if any. */
uint64_t plog_damaged(struct plog *plog, uint64_t *ret_first);

/* ---- plog_find.c: of a log with ids ---- */

/* Where a message is, by its id; strays are not found. ENOENT. */
int plog_find_id(struct plog *plog, uint64_t id, uint64_t *ret_offset);
/* The entry of the batch that offset is in. ESTALE, ENODATA, EIO as plog_read. */

int plog_entry(struct plog *plog, uint64_t offset, struct index_entry *ret_entry);
int plog_last_id(struct plog *plog, uint64_t *ret_id); /* the highest id that is no stray's, 0 if there is none */
/* Offset at which the segment begins that offset is in: plog_trim() to it removes what can be removed below. */
uint64_t plog_segment_base(struct plog *plog, uint64_t offset);

/* Byte position of the message at offset (earliest <= offset <= end). ESTALE, ERANGE. */
int plog_pos_of(struct plog *plog, uint64_t offset, uint64_t *ret_pos);

/*
 * Makes the log begin at offset `before` (earliest <= before <= end), removes the segments that are wholly below it, and
 * is durable on return. If before is the end, the active segment is replaced by an empty one.
 */
int plog_trim(struct plog *plog, uint64_t before);

/*
 * Retention: removes whole segments from the front while their last message is older than retention_ms (-1: no limit), or
 * while without them retention_bytes (-1: no limit) are still held; none that goes on behind `limit`, an offset. An active
 * segment that is wholly too old is rolled and removed too. ret_next_ms: Unix time at which time retention may have more to do,
 * INT64_MAX if never.
 */
int plog_retain(struct plog *plog, int64_t retention_ms, int64_t retention_bytes, int64_t now_ms, uint64_t limit,
    int64_t *ret_next_ms);

/*
 * Syncs all that was appended before the call (data first, then what points at it) and advances the synced mark. One
 * at a time: the caller sees to it. A failure is final: -EIO now and ever after, and appends answer -EROFS.
 */
int plog_sync(struct plog *plog);

/* ---- plog_ids.c: what messages have besides their payloads ---- */

/*
 * Calls each for the messages from..to (offsets) that have properties, in order, with key, id and tombstone set; spans last as
 * long as the call. What is damaged is left out. Nonzero from each ends the walk and is returned.
 */
int plog_each_props(struct plog *plog, uint64_t from, uint64_t to,
    int (*each)(void *ctx, uint64_t offset, int64_t ts_ms, const struct engine_props *props), void *ctx);

/* And ids for idempotent producing. */

/*
 * The ids of messages that were seen not more than window_ms ago stay known when the messages are trimmed away: they are
 * kept in files beside the segments. 0, as at first: they do not.
 */
void plog_keep_ids(struct plog *plog, int64_t window_ms);
/*
 * Calls each with every id that was kept, or is in a message, and seen after since_ms; in no order, some twice. uid is who produced the
 * message, DEDUP_NOBODY if it is gone. in_order: the
 * times of the log's batches only rise, so that what is older need not be looked at. What is damaged is left out and
 * reported. Nonzero from each ends the walk and is returned.
 */
struct dedup_hash;
int plog_each_id(struct plog *plog, int64_t since_ms, bool in_order,
    int (*each)(void *ctx, const struct dedup_hash *hash, uint32_t uid, int64_t ts_ms), void *ctx);

/* ---- plog_compact.c ---- */

struct plog_compaction {
	uint64_t segment_bytes; /* of data in a segment, of those that are made of several */
	uint64_t before;        /* offset: keep knows of all messages below it; what is sealed beyond is left alone */
	/*
	 * Is this message of a sealed segment to stay? 1, 0 or a negative errno, which ends the run. It is not asked about
	 * messages without properties, which stay.
	 */
	int (*keep)(struct plog_compaction *how, uint64_t offset, int64_t ts_ms, const struct engine_props *props);
	enum {
		PLOG_KEEP_AS_ASKED,
		PLOG_KEEP_LATEST
	} keep_tombstones;     /* LATEST: no tombstone goes: something is damaged */
	uint64_t removed;      /* messages, by the run */
	uint64_t clean_offset; /* after it: below this it was asked about every message; 0: something is damaged */
};

/*
 * Removes messages from the sealed segments; offsets stay. One at a time: the caller sees to it; appends, reads, syncs and
 * trims go on meanwhile. What was done so far stays if it fails. EAGAIN: a trim came between. What is not
 * synced is left alone.
 */
int plog_compact(struct plog *plog, struct plog_compaction *how);
/* Bytes of the sealed segments that no run has been over yet, and of all of them. */
void plog_dirty(struct plog *plog, uint64_t *ret_dirty, uint64_t *ret_sealed);

/* Offset below which all is synced; messages and bytes appended since. */
uint64_t plog_synced(struct plog *plog);

/* The same, in the log's own files or in what plog_tail_synced() told of; and a position that these messages do not go beyond. */
void plog_see_durable(struct plog *plog, struct plog_known *ret_known);

/* Up to where a log has been noted, or is synced. */
struct plog_tail {
	uint64_t base, offset; /* of the segment; one past the last message */
	uint32_t slots, data_end, meta_end;
};

/*
 * For who syncs many logs by one call of the file system: where the log ends, which does not change any more, before that: 1, 0 if
 * all is on disk already, EFBIG if it is not in one segment, so that plog_sync() has to do it. Then what that call has done is
 * marked, as by plog_sync().
 */
int plog_sync_begin(struct plog *plog, struct plog_tail *ret_to);
int plog_sync_end(struct plog *plog, const struct plog_tail *to);

/* ---- plog_tail.c: what was appended since the last sync, as a record for the journal ---- */

/*
 * Puts what is on disk in no way yet, and not noted, into record: 1, and its size, which is 0 if all is noted; 0: all is on
 * disk. EFBIG: it does not fit into room, or is not in one segment: plog_sync() does it. EROFS: the log has failed. The caller
 * tells when the record has been appended somewhere, and when that is on disk. Two at a time may note the same twice.
 */
int plog_tail(struct plog *plog, uint8_t *record, size_t room, size_t *ret_size, struct plog_tail *ret_to);
void plog_tail_noted(struct plog *plog, const struct plog_tail *to);
void plog_tail_synced(struct plog *plog, const struct plog_tail *to);

/* Offset below which all is on disk: in the log's own files, or in what plog_tail_synced() told of. */
uint64_t plog_durable(struct plog *plog);

/* Of which log a record is, where the log ends by it, and how many bytes of data it has. EBADMSG: not such a record. */
struct plog_tail_end {
	uint64_t log_id, base, offset; /* base: of the segment */
	uint32_t bytes;
};
int plog_record_end(const void *record, size_t size, struct plog_tail_end *ret_end);

/* The segment that records are brought back to; kept from one to the next. Starts as PLOG_REDO_INIT. No log is open. */
struct plog_redo {
	uint64_t id, base;
	int dirfd, index_fd, data_fd, meta_fd;
};
#define PLOG_REDO_INIT ((struct plog_redo){ UINT64_MAX, UINT64_MAX, -1, -1, -1, -1 })
/*
 * Writes what a record has to where the files have not got it; not synced. options->id is of no account. ENOENT: the
 * segment has gone since. EBADMSG: not such a record.
 */
int plog_redo(struct plog_redo *redo, const struct plog_options *options, const void *record, size_t size);
int plog_redo_open(struct plog_redo *redo, const struct plog_options *options, uint64_t base); /* ENOENT */
int plog_redo_sync(struct plog_redo *redo); /* of the one that is open */
void plog_redo_close(struct plog_redo *redo);

#endif
