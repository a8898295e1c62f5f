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

#endif
