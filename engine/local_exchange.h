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
 * under it. It comes before object.change of topics and queues; root.change must not be taken under it.
 */
#ifndef MQFS_LOCAL_EXCHANGE_H
#define MQFS_LOCAL_EXCHANGE_H

#include "engine/bindings.h"
#include "engine/local_internal.h"

struct exchange {
	struct object object;     /* first */
	struct bindings bindings; /* routes; written under root.change too */
	_Atomic uint64_t published, routed, unroutable, refused;
	pthread_mutex_t forward_lock; /* one publishes dead letters; above all locks but those of catch_up */
	pthread_mutex_t touch_lock;
	_Atomic uint64_t kept;   /* patterns and bindings that count as objects of who has it */
	struct touched *touched; /* uthash: targets that got something since the store was opened; touch_lock */
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

/* May it have this name, which may stand in alternate.exchange of another? ELOOP. root.change */
int exchange_check_name(struct exchange *exchange, const char *name);
/* The targets of a message: bindings_route over the exchanges of the store. routes */
int exchange_route(struct exchange *exchange, struct engine_span key, const struct engine_header *headers,
    uint32_t header_count, struct routing_match *match);
/* EHOSTUNREACH: it must go somewhere, and does not. */
int exchange_check_routed(struct exchange *exchange, const struct routing_match *match, struct engine_span key);

/* Remembers targets, for syncs: ENOMEM. And tells all: ENOMEM; the list is the caller's. */
int exchange_touch(struct exchange *exchange, const struct routing_match *match);
int exchange_touched(struct exchange *exchange, uint64_t **ret_ids, size_t *ret_count);

extern const struct engine_exchange_ops local_exchange_ops;

/* ---- local_route.c ---- */

int route_producer_open(
    struct engine_object *base, uint32_t partition, struct engine_span key, struct engine_producer **ret_producer);
int route_producer_send(struct engine_producer *handle, const struct engine_batch *batch);
/*
 * Publishes dead letters of one queue with one note, and takes them from where they are: each to all but those queues that it would
 * come to in a circle, whether they are full or not. What has no target stays (letter.targets). ENOENT: one is not there any more;
 * after an error nothing has happened. At most ROUTE_LETTERS.
 */
struct route_letter;
int route_dead(struct exchange *exchange, struct route_letter *letters, uint32_t count);
/* To its figures, of what was published to it: messages, copies, those that came nowhere; rc < 0: they were refused. */
void exchange_count(struct exchange *exchange, uint64_t published, uint64_t routed, uint64_t unroutable, int rc);
/* As engine_exchange_ops.room. */
int route_room(struct engine_object *base, uint64_t bytes, const struct engine_props *props);
int route_producer_sync(struct engine_producer *handle, struct engine_done *done);
void route_producer_close(struct engine_producer *handle);

#endif
