/*
 * stage_cut - the complete messages at the beginning of some bytes, as a batch.
 *
 * Nothing is copied: the batch points into the caller's buffer, in which other delimiters become '\n'. Per message there is
 * a search for its end and nothing else, unless it needs a length (a payload with a newline) or a key.
 */
#ifndef MQFS_STAGE_CUT_H
#define MQFS_STAGE_CUT_H

#include "engine/engine.h"

#define STAGE_CUT_COUNT 4096u /* messages of one batch that have lengths or keys: memory is kept for so many */

/* Memory for the taking of pieces. {0} is empty. */
struct stage_scratch {
	char *buf;
	size_t room;
	uint32_t *lengths;          /* STAGE_CUT_COUNT of them, if ever needed */
	struct engine_props *props; /* the same */
};
int stage_scratch_reserve(struct stage_scratch *scratch, size_t room); /* ENOMEM */
void stage_scratch_release(struct stage_scratch *scratch);

struct stage_cut {
	struct engine_batch batch; /* count 0: there is none before the next is too long or not complete */
	size_t used;               /* bytes of the batch */
	size_t too_long; /* bytes, with its delimiter, of the message after the batch if that is over the limit */
};

/*
 * Cuts the first len bytes of scratch->buf: messages until the batch has max_bytes (one it always may have), up to limit bytes
 * each. With a key (ptr not NULL) every message gets it. ENOMEM.
 */
int stage_cut(struct stage_scratch *scratch, size_t len, char delimiter, size_t limit, size_t max_bytes,
    struct engine_span key, struct stage_cut *ret_cut);

#endif
