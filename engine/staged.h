/*
 * staged - what a transaction is going to do: the messages it will produce, those it will settle, the cursors it will move.
 *
 * It knows objects by their ids, and nothing of what they are: an engine checks what it stages, and carries it out. Messages are
 * bytes (packed.h), in memory while they are few, beyond STAGED_MEMORY in an unnamed file of the store, which goes with
 * the process. The rest is a small struct for each message to settle and each partition.
 *
 * Nothing here locks.
 */
#ifndef MQFS_STAGED_H
#define MQFS_STAGED_H

#include "engine/engine.h"
#include "engine/packed.h"

#define STAGED_MEMORY (16u << 10) /* a thousand transactions that hold so much cost 16 MiB */

/* A batch for one target. */
struct staged_send {
	uint64_t target;
	uint32_t partition; /* of a topic, or ENGINE_ANY */
	bool head;          /* of a queue */
	bool again;         /* it was accepted before: no limit refuses it */
	uint32_t count;     /* messages */
	size_t pos, size;   /* of its bytes */
	uint64_t payload;   /* bytes of the messages themselves */
};

struct staged_settle {
	uint64_t id; /* of the message */
	uint64_t queue, consumer;
	enum engine_settle how;
	uint32_t deliveries; /* these two tell the lease from a later one */
	uint64_t place;      /* the engine's own */
};

struct staged_cursor {
	uint64_t group, member; /* member 0: of the group itself */
	uint32_t partition;
	bool seek;       /* else an ack */
	uint64_t offset; /* the stored offset that will be */
};

/* Of which object it is one. */
static inline uint64_t staged_owner(const struct staged_cursor *cursor)
{
	return cursor->member != 0 ? cursor->member : cursor->group;
}

struct staged_object {
	uint64_t id;
	char *name; /* "queue q", as it was called first; NULL: staged_name() was not called, or had no memory */
};

struct staged {
	int dirfd; /* of the store; -1: all stays in memory */
	struct staged_send *sends;
	size_t send_count, send_room;
	struct staged_settle *settles; /* in ascending order of id */
	size_t settle_count, settle_room;
	struct staged_cursor *cursors;
	size_t cursor_count, cursor_room;
	struct staged_object *objects; /* all it is about, in ascending order of id */
	size_t object_count, object_room;
	size_t name_bytes;
	uint64_t messages, message_bytes;
	const struct engine_users *users; /* who counts what it holds; NULL: nobody */
	void *user;
	uint64_t charged;
	uint8_t *bytes; /* of the messages, unless fd is there */
	size_t byte_count, byte_room;
	int fd;
};

void staged_init(struct staged *staged, int dirfd);
void staged_release(struct staged *staged); /* it is empty then, and nobody's */

/*
 * Stages a batch, all of it or nothing: as one send, or (apart) as one for each message; a message with a partition of its own
 * always has its own. EFBIG: over ENGINE_TX_BYTES_MAX; EDQUOT: over what its user may have; EINVAL, EMSGSIZE, ENOMEM; those of
 * the file.
 */
int staged_add_send(
    struct staged *staged, const struct staged_send *like, const struct engine_batch *batch, bool apart);

void staged_drop_last_send(struct staged *staged);

/* The messages of a send; *ret_bytes is what packed points into, to be freed after packed_release(). */
int staged_read(const struct staged *staged, const struct staged_send *send, int64_t ts_ms, uint8_t **ret_bytes,
    struct packed_batch *ret_packed);

/*
 * How an object is called that something was staged for: with that staged_gone() explains that it was removed, and returns EIDRM.
 */
bool staged_wants_name(const struct staged *staged, uint64_t id); /* staged_name() may be called, and was not */
void staged_name(struct staged *staged, uint64_t id, enum engine_kind kind, const char *name);
int staged_gone(const struct staged *staged, uint64_t id);

/* NULL: it is not staged. */
const struct staged_settle *staged_find_settle(const struct staged *staged, uint64_t id);
int staged_add_settle(struct staged *staged, const struct staged_settle *settle); /* ENOMEM, EDQUOT */
const struct staged_cursor *staged_find_cursor(const struct staged *staged, uint64_t group, uint32_t partition);
/* In the place of what was staged for that partition. ENOMEM, EDQUOT */
int staged_put_cursor(struct staged *staged, const struct staged_cursor *cursor);

#endif
