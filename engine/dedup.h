/*
 * dedup - ids of messages that were seen within a window of time, so that a message which is sent again is dropped.
 *
 * The table lives in memory only; that it says after a restart what it said before is the caller's business (the embedded
 * engine fills it from the logs: local_dedup.h). An id is known by its hash, XXH3 of 128 bits, of which 96 are kept: that
 * two ids among a million fall together is less likely than that all disks fail at once. An id costs 16 bytes and the room
 * around it, 19 to 23 in all. All tables of the process together take at most DEDUP_BYTES_MAX, which is about one and a half
 * million ids; what would go over that is refused, since forgetting an id early would let its message in twice.
 *
 * So that one user cannot take all of it, one may have as much as would then be left for others: a first one half, a second a third
 * or, beside who has half already, a quarter (Choudhury and Hahne, Dynamic Queue Length Thresholds, 1998). There is always room
 * for who has little. The share is asked for when a message comes. What is read from logs, after a start, was taken before: there
 * only the bound of all counts. Each user's ids have a table of their own in that of the object.
 *
 * No locks: the caller's.
 */
#ifndef MQFS_DEDUP_H
#define MQFS_DEDUP_H

#include "engine/engine.h"

#define DEDUP_BYTES_MAX (32u << 20)

struct dedup_hash {
	uint64_t low, high;
};
struct dedup_hash dedup_hash_of(struct engine_span id);

#define DEDUP_NOBODY UINT32_MAX /* whose id it is, is not known */

struct dedup;

/* users: who has no limits (NULL: all); lasts longer than the table. NULL: no memory */
struct dedup *dedup_new(int64_t window_ms, const struct engine_users *users);
void dedup_free(struct dedup *dedup); /* NULL allowed */

/* Was it seen less than the window before now_ms? */
bool dedup_has(const struct dedup *dedup, struct dedup_hash hash, int64_t now_ms);
/* It was seen at ts_ms, of a message of uid; of two times the later counts. ENOMEM, EDQUOT: it is not noted. */
int dedup_put(struct dedup *dedup, struct dedup_hash hash, uint32_t uid, int64_t ts_ms, int64_t now_ms);
/* The same of a message that comes now: EDQUOT also if that is over the share of the user. */
int dedup_note(struct dedup *dedup, struct dedup_hash hash, uint32_t uid, int64_t now_ms);
void dedup_forget(struct dedup *dedup, struct dedup_hash hash);
/* Gives back the room of what is older than the window. Returns how many ids are left. */
uint64_t dedup_sweep(struct dedup *dedup, int64_t now_ms);

/* Takes what another table remembers into this one, as far as it is not too old for it. ENOMEM, EDQUOT. */
int dedup_take(struct dedup *dedup, const struct dedup *from, int64_t now_ms);

/* A batch on its way in: what is left of it without those messages whose id was seen. */
struct dedup_pass {
	struct engine_batch batch; /* to be sent on; count 0: nothing is left */
	uint32_t dropped;
	struct dedup_hash *noted; /* ids that were noted for it */
	uint32_t noted_count;
	void *mem;
};

bool dedup_batch_has_ids(const struct engine_batch *batch);
/*
 * Notes the ids of the batch as seen now and leaves out what was seen before, or twice in it. EINVAL: the batch contradicts
 * itself; ENOMEM, EDQUOT: nothing was noted. Else dedup_pass_end() follows.
 */
int dedup_pass_begin(
    struct dedup *dedup, const struct engine_batch *batch, int64_t now_ms, struct dedup_pass *ret_pass);
void dedup_pass_undo(struct dedup *dedup, const struct dedup_pass *pass); /* the batch was not taken */
/* Of a batch that was taken in part, after the undo: these messages were. */
void dedup_pass_redo(
    struct dedup *dedup, const struct engine_props *props, uint32_t count, uint32_t uid, int64_t now_ms);
void dedup_pass_end(struct dedup_pass *pass);

#endif
