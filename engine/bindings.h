/*
 * bindings - the patterns of one exchange and what is bound under each, with the routing that finds targets by them; and
 * the way of a message through exchanges that are bound to exchanges. Both engines use it.
 *
 * Patterns, and the names under a pattern, are kept in ascending order of their bytes, in arrays: listing goes on from any
 * name, and ten thousand of them are found in fourteen comparisons.
 *
 * Not thread-safe: reads may run side by side, but none beside a change.
 */
#ifndef MQFS_BINDINGS_H
#define MQFS_BINDINGS_H

#include "engine/routing.h"

struct binding_entry {
	uint64_t target;
	char name[];
};

struct binding_pattern {
	struct binding_entry **entries;
	size_t count, room;
	char text[];
};

struct bindings {
	enum engine_exchange_type type;
	struct routing *routing;
	struct binding_pattern **patterns;
	size_t count, room;
	uint64_t total; /* bindings under all of them */
};

int bindings_init(struct bindings *bindings, enum engine_exchange_type type); /* ENOMEM */
void bindings_release(struct bindings *bindings);

int bindings_set_type(
    struct bindings *bindings, enum engine_exchange_type type); /* EBUSY: there are patterns; ENOMEM */
/* EEXIST, EINVAL with a sentence, ENAMETOOLONG, ENOMEM; ENOENT, ENOTEMPTY. */
int bindings_add_pattern(struct bindings *bindings, const char *pattern);
int bindings_remove_pattern(struct bindings *bindings, const char *pattern);
/* ENOENT: no such pattern, no such binding; EEXIST, ENOMEM. */
int bindings_add(struct bindings *bindings, const char *pattern, const char *name, uint64_t target);
int bindings_remove(struct bindings *bindings, const char *pattern, const char *name);
/*
 * The binding `name` is replaced by `entry`, made before with its target and another name, and so is what has that name, whose
 * target is returned; 0: nothing had it.
 */
struct binding_entry *binding_entry_new(const char *name, uint64_t target); /* NULL: no memory */
uint64_t bindings_rename(struct bindings *bindings, const char *pattern, const char *name, struct binding_entry *entry);
/* As binding and list of engine_exchange.h. */
int bindings_find(const struct bindings *bindings, const char *pattern, const char *name, uint64_t *ret_target);
int bindings_list(const struct bindings *bindings, const char *pattern, const char *after,
    bool (*each)(void *ctx, const char *name, uint64_t target), void *ctx);

/* What the way of a message asks of the engine. */
struct bindings_world {
	/* As routing_find, of an exchange by its id; ENOENT: it is none (any more). */
	int (*find)(void *ctx, uint64_t exchange, struct engine_span key, const struct engine_header *headers,
	    uint32_t header_count, struct routing_match *match, bool *ret_matched);
	bool (*is_exchange)(void *ctx, uint64_t id);
	uint64_t (*alternate)(void *ctx, uint64_t exchange); /* its id; 0: none */
	/* Adds the exchanges that are bound to an exchange: bindings_add_exchanges() does it. ENOMEM. */
	int (*exchanges)(void *ctx, uint64_t exchange, struct routing_match *match);
	void *ctx;
};

/*
 * The targets of a message that is published to an exchange, in ascending order of id, none of them an exchange: in
 * match->targets, whose count is 0 if nothing matches anywhere. ENOMEM.
 */
int bindings_route(const struct bindings_world *world, uint64_t exchange, struct engine_span key,
    const struct engine_header *headers, uint32_t header_count, struct routing_match *match);

int bindings_add_exchanges(
    const struct bindings *bindings, const struct bindings_world *world, struct routing_match *match);
/* ELOOP, with a sentence: a message that comes to exchange `from` can get to exchange `to`. ENOMEM. */
int bindings_check_circle(const struct bindings_world *world, uint64_t from, uint64_t to);

#endif
