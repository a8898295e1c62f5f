/*
 * packed - a batch as a run of bytes, to be put somewhere and taken up again in the same process.
 *
 * All of it is kept: payloads, who produced, times, keys, headers, deaths; but not props.partition and props.mark. A time
 * that is not set yet (-1) stays so, and gets that of unpacking.
 */
#ifndef MQFS_PACKED_H
#define MQFS_PACKED_H

#include "engine/engine.h"

/* The lengths of all payloads of a batch, newly allocated. EINVAL: the batch contradicts itself; ENOMEM. */
int packed_lengths(const struct engine_batch *batch, uint32_t **ret_lengths);

/* lengths and props may be NULL in batch as in engine.h. EMSGSIZE, EINVAL, ENOMEM. */
int packed_make(const struct engine_batch *batch, uint8_t **ret_bytes, size_t *ret_size);

struct packed_batch {
	struct engine_batch batch; /* lengths and props are not NULL */
	uint32_t *lengths;
	struct engine_props *props;
	struct engine_header *headers;
	struct engine_death *deaths;
};

/* batch points into bytes. EBADMSG, ENOMEM. */
int packed_open(const uint8_t *bytes, size_t size, int64_t ts_ms, struct packed_batch *ret_packed);
void packed_release(struct packed_batch *packed);

#endif
