/*
 * memory_exchange - exchanges in the memory engine: what memory_exchange.c and memory_route.c share. All needs the lock.
 */
#ifndef MQFS_MEMORY_EXCHANGE_H
#define MQFS_MEMORY_EXCHANGE_H

#include "engine/bindings.h"
#include "engine/memory_internal.h"

struct memory_exchange {
	struct bindings bindings;
	uint64_t published, routed, unroutable, refused;
};

/* The object with this id; NULL. */
struct memory_object *memory_find(struct memory_engine *memory, uint64_t id);
struct bindings_world memory_world(struct memory_engine *memory);

/*
 * Batches for several targets, which take all of them or none: added, then begun, which may be refused, then ended. What batches
 * point to lasts until the end; their time is that of the publishing, if they have none.
 */
struct memory_publishing;
struct memory_publishing *memory_publishing_new(struct memory_engine *memory, int64_t ts_ms); /* NULL: no memory */
int64_t memory_publishing_time(const struct memory_publishing *publishing);
/* key: of an exchange, of messages that have none. EHOSTUNREACH, EINVAL */
int memory_publish_add(struct memory_publishing *publishing, struct memory_object *target, bool head,
    struct engine_span key, const struct engine_batch *batch);
int memory_publish_begin(struct memory_publishing *publishing);
void memory_publish_end(struct memory_publishing *publishing, bool take); /* frees it; NULL allowed */

#endif
