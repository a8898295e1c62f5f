/*
 * scratch - lays out what a read gives in the one growing block of a struct engine_scratch.
 *
 * A view is several arrays of different types: payloads, their lengths and, where a message has any, properties, headers
 * and the bytes those point to. An engine that knows how much of each it has asks for room once, and fills the arrays; the
 * next read with the same scratch finds the block big enough and allocates nothing. The block only grows, to the next
 * power of two; engine_scratch_release() (engine.c) frees it.
 *
 * Growing moves the block: everything laid out before is gone, so lay out once per read.
 */
#ifndef MQFS_SCRATCH_H
#define MQFS_SCRATCH_H

#include "engine/engine.h"

struct scratch_need {
	size_t data;    /* bytes of payloads with their delimiters */
	uint32_t count; /* messages */
	uint32_t props; /* entries: count or 0 */
	size_t headers; /* of all messages together */
	size_t text;    /* bytes of keys, ids, routing keys and headers together */
};

/* Arrays that were not asked for are NULL, data excepted. Contents are undefined. */
struct scratch_room {
	char *data;
	uint32_t *lengths;
	struct engine_props *props;
	struct engine_header *headers;
	char *text;
};

/* ENOMEM: the scratch is as it was. */
int scratch_lay_out(struct engine_scratch *scratch, const struct scratch_need *need, struct scratch_room *ret_room);

/* Makes the block at least size bytes; what it held is gone if it moved. ENOMEM. */
int scratch_reserve(struct engine_scratch *scratch, size_t size);

#endif
