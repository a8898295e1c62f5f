/*
 * local_stage_take - messages go from a staging file to the log, each of them once, whatever dies in between.
 *
 * The file is the only place where a message is that was written and not taken in; `taken` is the position in it below
 * which all is in the log (or was dropped). Both must change at once, and are in different files. So a piece of whole
 * messages goes over in three steps, under the lock of the partition or queue, so that nobody else appends meanwhile:
 *
 *   1. a record in the journal: id of the staging file, taken, to, and where the piece will be: log, partition or priority, the
 *      offset its first message will get (the end of the log), its length, a CRC of its beginning
 *   2. the append to the log, which is there whole or not at all
 *   3. taken = to, in memory. If the append failed, a record that says taken, and no append, takes the first one back
 *
 * The last record of a file's id counts, and says all by itself. At the start (local_stage_recover.c) a record with an
 * append that was begun is decided by the log: if it reaches beyond the offset, step 2 was done and taken is `to`; else it
 * was not. Nobody else can have appended there, as step 3 takes the record back before the lock is given up. Should the
 * taking back fail as well, it is tried again before the file is taken from; and the bytes at that offset have to be
 * the piece's, so that a message of another is not mistaken for it. A place that is damaged says nothing: the piece is taken again.
 *
 *   dies                        left                                             at the start
 *   before 1                    the piece in the file                            taken again, for the first time
 *   between 1 and 2             a record; the log ends at its offset             as if there were no record
 *   within 2                    data without an entry, or entries without the    plog recovery cuts them; the same
 *                               last of them
 *   after 2                     a record; the log ends beyond its offset         not taken again
 *   before the room is punched  taken bytes that still take room                 the same: nothing depends on it
 *
 * When the machine dies, what was not synced may be gone, in any order. partition_sync() and lane_sync_run() sync the journal before the
 * log, so what is confirmed in the log has its record on disk. What was not confirmed may be lost; if the
 * file had its blocks punched while the log lost them, recovery finds a hole and begins behind it, at a whole message.
 * Of a file that was left by a daemon before, all may be on disk, so that a second death must not lose or double any of
 * it: the record is synced before step 2, and the log before the file is removed.
 *
 * The bytes are read once, in pieces that stay in the cache of a core, and never if nothing was written. A part that
 * grows is not searched again from its beginning (`scanned`).
 *
 * A write that met a full disk leaves what there was room for: the beginning of a message, up to the end of a block. The
 * writer was told, but a part is all that is seen of it here. So a part that ends so, on a full disk, is dropped
 * when the file is closed. Not before: a write under way looks the same. If the writer goes on instead, what he writes
 * next is joined to it, as in any file.
 *
 * On a full disk a piece borrows the reserve, and gives back as much by punching the file: what was accepted can be taken in.
 */
#include <errno.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/bytes.h"
#include "engine/clock.h"
#include "engine/crc32c.h"
#include "engine/failpoint.h"
#include "engine/io.h"
#include "engine/limits.h"
#include "engine/local_stage.h"

#define PAGE 4096u

/* One call of stage_take(). */
struct taking {
	struct stage *stage;
	struct stage_scratch *mem;
	uint64_t end;                     /* what is from here on is not looked at */
	uint64_t to;                      /* of the piece that is appended */
	const struct engine_batch *batch; /* the piece */
	int prepared;                     /* what target_prepare() said */
	uint32_t priority;                /* of a queue: its lane */
	uint64_t woken[STAGE_WORDS];      /* partitions, or priorities, that got something */
	uint64_t refused;                 /* messages that were too long ... */
	uint64_t refused_bytes;           /* ... and how long the last of them was, as far as seen */
	uint64_t cut;                     /* bytes of a message that did not fit on the disk */
	bool borrowed;                    /* the reserve, for the last piece */
};

/* ---- state ---- */

void stage_encode_state(uint8_t out[STAGE_RECORD], const struct stage_state *state)
{
	bytes_put64(out, state->id);
	bytes_put64(out + 8, state->taken);
	bytes_put64(out + 16, state->to);
	bytes_put64(out + 24, state->log_id);
	bytes_put64(out + 32, state->offset);
	bytes_put32(out + 40, state->len);
	bytes_put32(out + 44, state->crc);
	bytes_put32(out + 48, state->partition);
	bytes_put32(out + 52, state->skipping);
}

bool stage_decode_state(const void *record, size_t size, struct stage_state *ret_state)
{
	const uint8_t *in = record;

	if (size != STAGE_RECORD)
		return false;
	*ret_state = (struct stage_state){ .id = bytes_get64(in),
		.taken = bytes_get64(in + 8),
		.to = bytes_get64(in + 16),
		.log_id = bytes_get64(in + 24),
		.offset = bytes_get64(in + 32),
		.len = bytes_get32(in + 40),
		.crc = bytes_get32(in + 44),
		.partition = bytes_get32(in + 48),
		.skipping = bytes_get32(in + 52) != 0 };
	return true;
}

struct stage_state stage_state_of(const struct stage *stage)
{
	return (struct stage_state){ .id = stage->header.id, .taken = stage->taken, .skipping = stage->skipping };
}

static int note_at(struct stage *stage, const struct stage_state *state, uint64_t *ret_pos)
{
	uint8_t record[STAGE_RECORD];
	int rc;

	stage_encode_state(record, state);
	rc = journal_append(stage->local->journal, JOURNAL_STAGE, record, sizeof(record), ret_pos);
	if (rc == 0)
		checkpoint_note(stage->local, *ret_pos);
	return rc;
}

int stage_note(struct stage *stage, const struct stage_state *state)
{
	uint64_t pos;

	return note_at(stage, state, &pos);
}

uint64_t stage_size(const struct stage *stage)
{
	struct stat st;

	if (stage->fd < 0 || fstat(stage->fd, &st) < 0 || st.st_size < 0)
		return 0;
	return (uint64_t)st.st_size;
}

/* Moves on without an append: what is below pos was dropped. stage.lock */
static int move_to(struct stage *stage, uint64_t pos, bool skipping)
{
	struct stage_state state = { .id = stage->header.id, .taken = pos, .skipping = skipping };
	bool again = false;
	int rc;

	do
		rc = stage_note(stage, &state);
	while (reserve_again(stage->local, rc, &again));
	if (rc < 0)
		return rc;
	stage->taken = stage->scanned = pos;
	stage->skipping = skipping;
	return 0;
}

int stage_drop(struct stage *stage, uint64_t pos)
{
	return pos > stage->taken || stage->skipping ? move_to(stage, pos, false) : 0;
}

/* ---- appending ---- */

uint32_t stage_crc(const char *data, size_t len)
{
	return crc32c(0, data, len < STAGE_CRC_BYTES ? len : STAGE_CRC_BYTES);
}

/* partition.lock, or queue.lock */
static int begin(void *ctx, uint64_t log_id, uint32_t index, uint64_t offset, uint64_t *ret_pos)
{
	struct taking *taking = ctx;
	struct stage_state state = stage_state_of(taking->stage);
	int rc;

	state.to = taking->to;
	state.log_id = log_id;
	state.offset = offset;
	state.len = (uint32_t)taking->batch->len;
	state.crc = stage_crc(taking->batch->data, taking->batch->len);
	state.partition = index;
	rc = FAILPOINT("stage_before_note");
	if (rc == 0)
		rc = note_at(taking->stage, &state, ret_pos);
	if (rc == 0 && taking->stage->behind)
		rc = journal_sync(taking->stage->local->journal);
	CRASHPOINT("stage_after_note");
	return rc;
}

/* partition.lock, or queue.lock. The journal has room allocated ahead, so it fails when the journal itself does: then no ack works, either. */
static void cancel(void *ctx)
{
	struct taking *taking = ctx;
	const struct stage_state state = stage_state_of(taking->stage);
	int rc = stage_note(taking->stage, &state);

	if (rc < 0)
		taking->stage->retract = true;
}

/* Appends the messages of a batch that ends at position `to` of the file. stage.lock */
static int append(struct taking *taking, struct engine_batch *batch, uint64_t to)
{
	struct stage *stage = taking->stage;
	const struct append_note note = { begin, cancel, taking };
	uint32_t index = stage->header.of_queue ? taking->priority : producer_choose(&stage->producer, batch->len);
	bool again = false;
	int rc = taking->prepared;

	if (rc < 0)
		return rc;
	taking->to = to;
	taking->batch = batch;
	batch->cred = stage->header.cred;
	batch->ts_ms = clock_wall_ms();
	do
		rc = target_append(stage->target, index, batch, &note, again);
	while (reserve_again(stage->local, rc, &again));
	if (rc < 0)
		return rc;
	CRASHPOINT("stage_after_append");
	stage->taken = stage->scanned = to;
	taking->woken[index / 64] |= (uint64_t)1 << (index % 64);
	taking->borrowed |= again;
	return 0;
}

/* ---- pieces; all with stage.lock: 1, go on; 0, there is nothing more; or the error ---- */

static size_t limit_of(const struct stage *stage)
{
	return target_limit(stage->target);
}

/* Bytes that one batch may have. */
static size_t room_of(struct stage *stage)
{
	return stage->header.of_queue ? SIZE_MAX : producer_room(&stage->producer);
}

/* A message that is too long: up to its delimiter if that is there, else to come. */
static int refuse(struct taking *taking, uint64_t to, bool ended)
{
	uint64_t bytes = to - taking->stage->taken - ended;
	int rc = move_to(taking->stage, to, !ended);

	if (rc < 0)
		return rc;
	taking->refused++;
	taking->refused_bytes = bytes;
	return 1;
}

static int read_some(struct taking *taking, uint64_t pos, size_t len)
{
	int rc = stage_scratch_reserve(taking->mem, len + 1);

	if (rc == 0)
		rc = io_pread_all(taking->stage->fd, taking->mem->buf, len, (off_t)pos);
	return io_is_damage(rc) ? -EIO : rc;
}

/* Steps over what is left of a message that was too long. */
static int skip_piece(struct taking *taking, size_t len)
{
	struct stage *stage = taking->stage;
	int rc = read_some(taking, stage->taken, len);
	const char *found;

	if (rc < 0)
		return rc;
	found = memchr(taking->mem->buf, stage->header.delimiter, len);
	rc = move_to(
	    stage, stage->taken + (found != NULL ? (size_t)(found - taking->mem->buf) + 1 : len), found == NULL);
	return rc < 0 ? rc : 1;
}

/* One message, longer than a piece, whose delimiter is at position `at`. */
static int long_message(struct taking *taking, uint64_t at)
{
	struct stage *stage = taking->stage;
	size_t len = (size_t)(at - stage->taken);
	struct stage_cut cut;
	int rc;

	if (len > limit_of(stage))
		return refuse(taking, at + 1, true);
	rc = read_some(taking, stage->taken, len + 1);
	if (rc == 0)
		rc = stage_cut(taking->mem, len + 1, stage->header.delimiter, len, len + 1, stage->producer.key, &cut);
	if (rc == 0)
		rc = append(taking, &cut.batch, at + 1);
	return rc < 0 ? rc : 1;
}

/* The search for the end of a long message goes on. */
static int search_piece(struct taking *taking, size_t len)
{
	struct stage *stage = taking->stage;
	uint64_t from = stage->scanned;
	const char *found;
	int rc = read_some(taking, from, len);

	if (rc < 0)
		return rc;
	found = memchr(taking->mem->buf, stage->header.delimiter, len);
	if (found != NULL)
		return long_message(taking, from + (size_t)(found - taking->mem->buf));
	if (from + len - stage->taken > limit_of(stage))
		return refuse(taking, from + len, false);
	stage->scanned = from + len;
	return 1;
}

static int whole_messages(struct taking *taking, size_t len)
{
	struct stage *stage = taking->stage;
	struct stage_cut cut;
	int rc = read_some(taking, stage->taken, len);

	if (rc == 0)
		rc = stage_cut(taking->mem, len, stage->header.delimiter, limit_of(stage), room_of(stage),
		    stage->producer.key, &cut);
	if (rc < 0)
		return rc;
	if (cut.batch.count > 0) {
		rc = append(taking, &cut.batch, stage->taken + cut.used);
		return rc < 0 ? rc : 1;
	}
	if (cut.too_long > 0)
		return refuse(taking, stage->taken + cut.too_long, true);
	if (len > limit_of(stage))
		return refuse(taking, stage->taken + len, false);
	stage->scanned = stage->taken + len;
	return 1;
}

static int take_piece(struct taking *taking)
{
	struct stage *stage = taking->stage;
	uint64_t from = stage->scanned, left = taking->end > from ? taking->end - from : 0;
	size_t most = stage->behind ? STAGE_PIECE_BEHIND : STAGE_PIECE, len = left < most ? (size_t)left : most;

	if (len == 0)
		return 0;
	if (stage->skipping)
		return skip_piece(taking, len);
	return from > stage->taken ? search_piece(taking, len) : whole_messages(taking, len);
}

/* Drops a part that a full disk has cut off. stage.lock */
static int drop_cut(struct taking *taking)
{
	struct stage *stage = taking->stage;

	if (taking->end <= stage->taken || taking->end % PAGE != 0 || stage->skipping ||
	    stage_has_room(stage->local->stages, STAGE_FULL, STAGE_FULL_SHARE))
		return 0;
	taking->cut += taking->end - stage->taken;
	return stage_drop(stage, taking->end);
}

/* The part, which nobody can write on any more. */
static int take_part(struct taking *taking)
{
	struct stage *stage = taking->stage;
	size_t len = (size_t)(taking->end - stage->taken);
	struct stage_cut cut;
	int rc;

	if (len == 0 || stage->skipping)
		return stage_drop(stage, taking->end);
	if (len > limit_of(stage)) {
		rc = refuse(taking, taking->end, false);
		return rc < 0 ? rc : stage_drop(stage, taking->end);
	}
	rc = read_some(taking, stage->taken, len);
	if (rc < 0)
		return rc;
	taking->mem->buf[len] = stage->header.delimiter; /* read_some() left room for it */
	rc = stage_cut(taking->mem, len + 1, stage->header.delimiter, len, len + 1, stage->producer.key, &cut);
	return rc < 0 ? rc : append(taking, &cut.batch, taking->end);
}

/* ---- the whole ---- */

/* Gives back the room of what was taken; the block that `taken` is in stays. stage.lock */
static void punch(struct stage *stage, bool soon)
{
	uint64_t to = stage->taken / PAGE * PAGE, from = stage->punched < PAGE ? PAGE : stage->punched;

	if (stage->orphan || to <= from || to - from < (soon ? PAGE : STAGE_PUNCH))
		return;
	if (io->fallocate(stage->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from)) == 0)
		stage->punched = to;
}

/* stage.lock */
static int take(struct taking *taking, bool finish)
{
	struct stage *stage = taking->stage;
	int rc = 1;

	if (stage->retract) {
		const struct stage_state state = stage_state_of(stage);

		rc = stage_note(stage, &state);
		if (rc < 0)
			return rc;
		stage->retract = false;
		rc = 1;
	}
	while (rc > 0) {
		rc = take_piece(taking);
		punch(stage, taking->borrowed);
	}
	if (rc == 0 && finish)
		rc = drop_cut(taking);
	if (rc == 0 && finish)
		rc = take_part(taking);
	if (rc == -EIDRM)
		(void)stage_drop(stage, taking->end); /* nobody can ever have it */
	return rc;
}

/* Who is woken reads, and would take in what others have written, who wake others ... */
static _Thread_local bool waking;

static void wake(const uint64_t woken[STAGE_WORDS], struct object *target)
{
	waking = true;
	target_wake(target, woken);
	waking = false;
}

/*
 * Whom a take has to wake. One for a reader wakes nobody, as the reader may wait itself and hold the lock that its own wake
 * takes: what it owes, and what others like it left, stays for the thread. If nobody waits there is nothing to owe: who comes
 * to wait looks at the log then. *woken: in, partitions or priorities that got something; out, those to wake now. True: the thread has to
 * come. stage.lock
 */
static bool settle_wakes(struct stage *stage, uint64_t woken[STAGE_WORDS], bool for_reader)
{
	bool owes;

	for (size_t i = 0; i < STAGE_WORDS; i++)
		woken[i] |= stage->owed[i];
	owes = for_reader && target_has_waiters(stage->target, woken);
	for (size_t i = 0; i < STAGE_WORDS; i++) {
		stage->owed[i] = owes ? woken[i] : 0;
		if (for_reader)
			woken[i] = 0;
	}
	atomic_store(&stage->owes, owes);
	return owes;
}

static void tell_refused(const struct taking *taking, struct object *target)
{
	const struct engine_cred *cred = &taking->stage->header.cred;
	char name[ENGINE_NAME_MAX + 1];

	object_name(target, name);
	local_notify(taking->stage->local, EMSGSIZE,
	    "%s %s: dropped %" PRIu64 " message%s of process %" PRIu32 ", uid %" PRIu32 ", of %" PRIu64
	    " bytes or more: max.message.bytes is %" PRId64,
	    engine_kind_word(target->kind), name, taking->refused, taking->refused == 1 ? "" : "s", cred->pid,
	    cred->uid, taking->refused_bytes, (int64_t)target_limit(target));
}

/* Others wait for no memory of ours. */
static struct stage_scratch *borrow_scratch(struct stages *stages, struct stage_scratch *own)
{
	return pthread_mutex_trylock(&stages->scratch.lock) == 0 ? &stages->scratch.mem : own;
}

static void return_scratch(struct stages *stages, struct stage_scratch *mem)
{
	if (mem != &stages->scratch.mem || mem->room > LIMIT_SCRATCH_KEEP)
		stage_scratch_release(mem);
	if (mem == &stages->scratch.mem)
		pthread_mutex_unlock(&stages->scratch.lock);
}

/* What a take came to, for who closes or syncs the channel. stage.lock */
static int settle(struct stage *stage, struct taking *taking, int rc)
{
	stage->err = rc < 0 ? rc : 0;
	if (rc < 0)
		atomic_store(&stage->retry_ms, clock_mono_ms() + STAGE_RETRY_MS);
	else
		atomic_store(&stage->retry_ms, 0);
	if (rc >= 0)
		atomic_store(&stage->seen, taking->end);
	stage->refused += taking->refused;
	return stage->err;
}

static void tell(struct taking *taking, struct object *target)
{
	if (taking->refused > 0)
		tell_refused(taking, target);
	if (taking->cut > 0)
		local_notify(taking->stage->local, ENOSPC,
		    "dropped the first %" PRIu64 " bytes of a message of process %" PRIu32
		    ": there was no room for the rest on the disk",
		    taking->cut, taking->stage->header.cred.pid);
}

/* Takes, if there is anything to take. stage.lock, which is the caller's to give up */
static int take_locked(struct taking *taking, bool finish)
{
	struct stage *stage = taking->stage;
	struct stage_scratch own = { 0 };
	int rc;

	taking->end = stage_size(stage);
	if (taking->end > stage->recover_end)
		taking->end = stage->recover_end;
	if (!finish && taking->end == atomic_load(&stage->seen) && stage->err == 0)
		return 0;
	taking->mem = borrow_scratch(stage->local->stages, &own);
	rc = settle(stage, taking, take(taking, finish));
	return_scratch(stage->local->stages, taking->mem);
	return rc;
}

/* What it is of, with a reference, and all that is to be done for that before stage.lock; NULL: it is of nothing. */
static struct object *prepare(struct taking *taking, uint64_t *ret_id)
{
	struct stage *stage = taking->stage;
	struct object *target;
	uint32_t partition;

	pthread_mutex_lock(&stage->lock);
	target = stage->target != NULL ? object_ref(stage->target) : NULL;
	partition = stage->header.partition;
	*ret_id = stage->header.id;
	pthread_mutex_unlock(&stage->lock);
	if (target != NULL)
		taking->prepared = target_prepare(target, partition, &taking->priority);
	return target;
}

static int take_once(struct stage *stage, enum stage_how how)
{
	struct taking taking = { .stage = stage };
	struct object *target;
	bool owes = false, arrived = false;
	uint64_t id;
	int rc = 0;

	if (waking)
		return 0;
	target = prepare(&taking, &id);
	if (target == NULL)
		return 0;
	pthread_mutex_lock(&stage->lock);
	if (stage->target == target &&
	    stage->header.id == id) { /* else it was given back meanwhile, and taken in for that */
		rc = take_locked(&taking, how == STAGE_FINISH);
		arrived = stage_has_any(taking.woken);
		owes = settle_wakes(stage, taking.woken, how == STAGE_FOR_READER);
	}
	pthread_mutex_unlock(&stage->lock);
	if (arrived)
		target_arrived(target);
	if (owes)
		watch_now(stage);
	wake(taking.woken, target);
	tell(&taking, target);
	object_put(target);
	return rc;
}

int stage_take(struct stage *stage, enum stage_how how)
{
	unsigned int tries = 0;
	int rc;

	do
		rc = take_once(stage, how);
	while (warm_again(stage->local, rc, &tries));
	return rc;
}
