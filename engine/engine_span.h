/*
 * engine_span - the one type that all parts of the contract share: some bytes.
 */
#ifndef MQFS_ENGINE_SPAN_H
#define MQFS_ENGINE_SPAN_H

#include <stddef.h>

/* Bytes somebody else owns. ptr NULL means absent, which is not the same as empty. */
struct engine_span {
	const char *ptr;
	size_t len;
};

#endif
