/*
 * local_exchange - exchanges in the embedded engine: what local_exchange.c and local_route.c share.
 *
 * An exchange is its bindings. They are in memory whole (bindings.h) and in the catalog, a row each; every change is there
 * before it is here. All that changes what leads where (binding, unbinding, types, alternate.exchange, making, renaming and
 * removing of what can be bound) happens under the `change` of the store's root, so that no circle can be closed by two
 * who do not know of each other, and nothing is bound while it is being removed.
 *
 * local.routes, a read-write lock, is taken for writing where bindings change in memory, below root.change; and for reading
 * by who publishes, from looking up the targets until they have the message: so a target is neither unbound nor removed
 * under it. It comes before object.change of topics and queues.
 */
#ifndef MQFS_LOCAL_EXCHANGE_H
#define MQFS_LOCAL_EXCHANGE_H

#include "engine/bindings.h"
#include "engine/local_internal.h"

struct exchange {
	struct object object;     /* first */
	struct bindings bindings; /* routes; written under root.change too */
	_Atomic uint64_t published, routed, unroutable, refused;
};

static inline struct exchange *exchange_of_object(struct object *object)
{
	return (struct exchange *)object;
}

struct exchange *exchange_new(struct local *local, uint64_t id);
void exchange_free(struct exchange *exchange);
int exchange_load(struct exchange *exchange); /* at start: settings, type, bindings */
/* Before an object is removed; root.change. EBUSY: it is bound; ENOTEMPTY: an exchange that has bindings. */
int exchange_check_removal(struct object *object);
/* What alternate.exchange is about to become; root.change. ELOOP, ENOENT. */
int exchange_check_alternate(struct exchange *exchange, const char *value);
/* The targets of a message: bindings_route over the exchanges of the store. routes */
int exchange_route(struct exchange *exchange, struct engine_span key, const struct engine_header *headers,
    uint32_t header_count, struct routing_match *match);

extern const struct engine_exchange_ops local_exchange_ops;

/* ---- local_route.c ---- */

int route_producer_open(
    struct engine_object *base, uint32_t partition, struct engine_span key, struct engine_producer **ret_producer);
int route_producer_send(struct engine_producer *handle, const struct engine_batch *batch);
int route_producer_sync(struct engine_producer *handle, struct engine_done *done);
void route_producer_close(struct engine_producer *handle);

/* ---- local_route_journal.c ---- */

/* A log that a publishing goes to: of a queue by priority, of a topic by partition; where it ended before. */
struct route_log {
	uint32_t index;
	uint64_t end;
};

/* One target of a publishing. */
struct route_target {
	struct object *object; /* a reference */
	struct route_log *logs;
	uint32_t log_count;
};

/* Notes that batch (with properties, all of them marked with mark) is about to go to the targets. */
int route_note(struct local *local, uint64_t mark, const struct engine_batch *batch, const struct route_target *targets,
    uint32_t count);
int route_replay(struct local *local, const void *record, size_t size);
int route_finish(struct local *local); /* after the replay: gives targets what a crash kept from them */
void route_forget(struct local *local);
int route_sync(struct local *local); /* before a checkpoint drops journal files: what was noted in them is on disk */

#endif
