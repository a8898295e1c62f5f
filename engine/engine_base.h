/*
 * engine_base - the types that all parts of the contract share.
 */
#ifndef MQFS_ENGINE_BASE_H
#define MQFS_ENGINE_BASE_H

#include <stddef.h>

/* Bytes somebody else owns. ptr NULL means absent, which is not the same as empty. */
struct engine_span {
	const char *ptr;
	size_t len;
};
/* Kinds of objects: see engine.h, which says how they form a tree. */
enum engine_kind {
	ENGINE_STORE = 0, /* the root; exactly one, id ENGINE_ROOT_ID */
	ENGINE_TOPIC = 1,
	ENGINE_GROUP = 2,
	ENGINE_QUEUE = 3,    /* below the store; and below each of those and each group its dead letters, "dlq" */
	ENGINE_CONSUMER = 4, /* below a queue: a consumer with a name */
	ENGINE_MEMBER = 5,   /* below a group: a member with a name */
	ENGINE_EXCHANGE = 6, /* below the store */
	ENGINE_TX = 7,       /* a transaction: below the store */
	ENGINE_KIND_COUNT
};

/* Where a cursor is put. */
enum engine_seek {
	ENGINE_SEEK_OFFSET, /* value: the offset */
	ENGINE_SEEK_EARLIEST,
	ENGINE_SEEK_LATEST,
	ENGINE_SEEK_TIME,     /* value: Unix time in ms; the first message at or after it */
	ENGINE_SEEK_RELATIVE, /* value: added to the stored offset */
};

/* What an open consuming file gives. */
enum engine_consume {
	ENGINE_CONSUME_ONE,      /* one message: next; of groups wait, too */
	ENGINE_CONSUME_SNAPSHOT, /* what is there when it is opened, at most max.poll.records: out */
	ENGINE_CONSUME_STREAM,   /* all that comes: stream */
	ENGINE_CONSUME_WAIT,     /* of queues: as ONE, but where it is not its turn it waits as a STREAM does: wait */
};

#endif
