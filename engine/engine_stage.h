/*
 * engine_stage - the part of the contract about staging files: what a producer writes goes into a file of the store at
 * the speed of that file, and the engine takes it from there.
 *
 * A staging file belongs to one open channel at a time. Whoever has the channel hands the file to the writer (as backing
 * file of an open file, say); the writer appends to it, and the engine moves the complete messages into the log: on its own
 * when a batch is linger.ms old or holds batch.size bytes, when anyone asks it for something of the topic or queue, and at take().
 * So who writes and then reads always finds what it wrote. What was appended survives the daemon's death: the next opening
 * takes it in, once, and goes on watching files that still have a writer.
 *
 * Messages are cut at a delimiter. One that is over max.message.bytes is dropped, told by notify, and by the next
 * take(). What cannot be taken (no room, a failed disk) stays in the file and is tried again.
 */
#ifndef MQFS_ENGINE_STAGE_H
#define MQFS_ENGINE_STAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine_base.h"

struct engine_cred;
struct engine_producer;

/* Every engine's staging file begins with this one. */
struct engine_stage {
	struct engine *engine;
	int32_t backing; /* the caller's: 0 at first, and kept while the file is used by one channel after another */
};

struct engine_stage_part {
	uint64_t len;       /* bytes after the last delimiter; 0: there is no part */
	int64_t written_ms; /* Unix time of the last write */
};

struct engine_stage_ops {
	/*
	 * A staging file for what a channel would send by this producer, which may be closed before it. delimiter: '\n' or '\0'.
	 * EAGAIN: not of this producer (to the head of a queue, of an exchange, in a transaction), or not now (linger.ms is 0,
	 * cleanup.policy is compact, a queue may refuse for its length, the disk is full or has failed, too many are open): write by write, then. EIDRM.
	 */
	int (*open)(struct engine_producer *producer, char delimiter, const struct engine_cred *cred,
	    struct engine_stage **ret_stage);

	/* A new descriptor of the file, for reading, the caller's to close. */
	int (*descriptor)(struct engine_stage *stage);

	/*
	 * Takes in all complete messages that were written before the call. EMSGSIZE: one since the last take() was too long
	 * and was dropped; those around it are taken. EIDRM: the topic or queue is gone, and what was written with it. ENOSPC, EROFS, EIO:
	 * what is not taken yet stays in the file.
	 */
	int (*take)(struct engine_stage *stage);

	/* What is behind the last complete message, after a take(). */
	int (*part)(struct engine_stage *stage, struct engine_stage_part *ret_part);
	int (*drop_part)(struct engine_stage *stage, uint64_t len); /* so many bytes of it, from its beginning */

	/*
	 * The channel is closed. finish: nobody can write any more; the part is a message, and the result is as that of
	 * take(), but what could not be taken yet is tried again without anyone asking. Else somebody may still write: the
	 * file and its part stay for the next opening of the engine. The stage is the caller's no more.
	 */
	int (*close)(struct engine_stage *stage, bool finish);
};

#endif
