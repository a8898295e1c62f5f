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
/* What an open consuming file gives. */
enum engine_consume {
	ENGINE_CONSUME_ONE,      /* one message: next, wait */
	ENGINE_CONSUME_SNAPSHOT, /* what is there when it is opened, at most max.poll.records: out */
	ENGINE_CONSUME_STREAM,   /* all that comes: stream */
};

#endif
