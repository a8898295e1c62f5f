/*
 * frame - cuts what is written to one open channel into messages.
 *
 * Writes come in pieces that have nothing to do with messages: half a line, a thousand lines and a bit, one byte. A
 * framer keeps what has no end yet (the part) and gives the rest as a batch for the engine. It works in two steps, since
 * a write must fail as a whole: framer_scan() makes the batch and leaves the part alone; when the engine has taken the
 * batch, framer_commit() makes this write's own tail the part. Without the commit it is as if the write had never been.
 *
 *	struct frame_scan scan;
 *	int err = framer_scan(&channel->framer, buf, size, limit, &scan);
 *	if (err == 0 && scan.batch.count > 0)
 *		err = send(&scan.batch);                   // no commit: nothing of this write was taken
 *	if (err == 0)
 *		framer_commit(&channel->framer, &scan, pid);
 *	reply(err ? err : scan.taken);
 *
 * For in.json the batch holds JSON lines; the caller parses them (record.h) and, if one is no record, calls
 * framer_refuse() before sending the good ones.
 *
 * Nothing is copied when no part is kept and the framing is by line: the batch points into the caller's buffer.
 *
 * A message over the limit is EMSGSIZE. Complete messages before it are taken, and the write is short: it ends just
 * after the last of them, and the caller's caller writes the rest again and gets the error then. If the message comes
 * first, the write fails, nothing of it is taken, and the part it began with is dropped. Until its delimiter is seen, the
 * framer skips: writes without a delimiter fail with EMSGSIZE. In the write that has it, the bytes up to and including it
 * are dropped, and what follows is taken as usual, with the full count as answer. Only if nothing follows does that write
 * fail as well (and the framer is clean after it): a shell that goes on with its next, good line after an error then
 * learns that this line went with the rest of the bad one, instead of losing it in silence.
 *
 * A write that is refused may end a message that earlier writes began. What follows is either that write again, since its
 * writer waited for room, or since the kernel cuts a write(2) of more than 1 MiB in pieces and makes it a short one; or
 * it is something else, since the writer gave up. So the part is kept until the next write: the same bytes go on with it,
 * others drop it first. Else the end of a message would be taken for a whole one, or joined to the next. Nobody but the
 * kernel makes a write again that was too long: after such a one the part is kept only if it came in a piece of the
 * kernel's size.
 *
 * Memory: a part is never longer than the limit and grows by doubling; a write adds its own size while it is handled.
 * A framer that is all zero but for its framing is empty. Not thread-safe: the caller serialises the calls of one framer
 * from scan to commit.
 */
#ifndef MQFS_FS_FRAME_H
#define MQFS_FS_FRAME_H

#include "engine/engine.h"
#include "fs/name.h"

/* Private, but for reading part_len, part_pid and skipping, and setting part_pid while skipping. */
struct framer {
	enum framing framing; /* FRAME_LINE, FRAME_JSON (which is by line) or FRAME_NUL */
	bool skipping;        /* within a message that was too long */
	bool refused;         /* the last write, which went on with the part */
	size_t last;          /* bytes of the last write that was not refused */
	uint32_t part_pid;    /* who wrote the last bytes of the part; 0 when skipping begins */
	size_t part_len;      /* bytes kept; 0: no part */
	char *part, *spare;   /* spare: where a scan puts the tail, when part is in use for the batch */
	size_t part_cap, spare_cap;
	uint32_t *lengths; /* of the last batch, where it needed them */
	size_t lengths_cap;
	uint32_t last_length; /* of the batch of framer_finish() */
	uint64_t refused_sum; /* of the bytes of the refused write */
};

/* What one write comes to. Points into the framer and into buf of framer_scan(). */
struct frame_scan {
	struct engine_batch batch; /* count 0: none is complete. ts_ms is -1, cred is zero: for the caller to set */
	size_t taken;              /* the answer to the write, once the batch is taken */
	/* private */
	const char *buf; /* the write */
	size_t size;
	size_t before;  /* bytes of the part before it */
	size_t skipped; /* bytes at the start of buf that belong to a message that was too long */
	size_t lead;    /* bytes of batch.data that were kept from before */
	size_t tail;    /* bytes at the end of what is taken that become the part */
	bool in_spare;  /* they are in framer->spare */
};

/* framing must be FRAME_LINE, FRAME_JSON or FRAME_NUL. */
void framer_init(struct framer *framer, enum framing framing);
void framer_release(struct framer *framer); /* frees; what is kept is gone */

/*
 * Prepares what a write of size bytes comes to. limit: the longest message (the payload, without delimiter) taken now;
 * it may change between writes. buf must stay as it is until the batch was sent, not until the commit.
 * EMSGSIZE, as described above. There is no second try with a higher limit: whoever caches the limit looks it up anew before a scan in which part_len + size is above it, which is the only way
 * for a message to be too long. If it skips now, the caller may set part_pid, to know whose message that is.
 * ENOMEM: nothing has changed.
 */
int framer_scan(struct framer *framer, const char *buf, size_t size, size_t limit, struct frame_scan *ret_scan);

/*
 * Makes the scan's effect last: what it completed is no longer kept, its tail is. pid: of the writer. Cannot fail.
 * The scan is used up, and its batch no longer valid.
 */
void framer_commit(struct framer *framer, struct frame_scan *scan, uint32_t pid);

/*
 * Says, before the commit, that message `index` of the scan (0 is the first; in a .json channel blank lines count as
 * well) is refused with err, a negative errno.
 * Returns 0 if something comes before it: the scan is cut down to that (batch.count may be 0 then, if what came before is
 * only the end of a message that was too long), and is to be sent and committed. Else returns err: the write fails, and
 * the next one begins a new message, unless it is the same again.
 */
int framer_refuse(struct framer *framer, struct frame_scan *scan, uint32_t index, int err);

/*
 * Says, after the commit, that what this write left without an end is refused. Returns how much of the write stands: what comes before
 * the part it began; 0 fails the write. scan: a copy from before the commit.
 */
size_t framer_refuse_part(struct framer *framer, const struct frame_scan *scan);

/*
 * At the last close: the part as a batch of one message. True with *ret_batch set, valid until the framer is next used;
 * false: nothing is kept. The part is still kept: framer_drop() or framer_release() ends it. Cannot fail.
 */
bool framer_finish(struct framer *framer, struct engine_batch *ret_batch);

/* Forgets what is kept, and that a message is being skipped: its writer was killed. */
void framer_drop(struct framer *framer);

#endif
