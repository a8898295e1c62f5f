/*
 * routing - the patterns of one exchange, made so that a message finds its targets without trying each of them.
 *
 * A routing knows patterns and targets (ids of objects); who owns it keeps the list of bindings, adds and removes here one
 * binding at a time, and counts: a target that was added twice under a pattern is there until it was removed twice.
 *
 * Topic patterns are words in a trie; a match walks it with all the places that the words so far lead to, so its cost is
 * that of what matches, however many bindings there are. Direct ones are words of their own in the same trie. Headers are
 * tried one by one, as in RabbitMQ.
 *
 * Not thread-safe: matches may run side by side, but none beside a change.
 */
#ifndef MQFS_ROUTING_H
#define MQFS_ROUTING_H

#include "engine/engine.h"
#include "engine/engine_exchange.h"

struct routing;

struct routing *routing_new(enum engine_exchange_type type); /* NULL: no memory */
void routing_free(struct routing *routing);                  /* NULL allowed */

/* 0; EINVAL with a sentence: no pattern for this type of exchange; ENAMETOOLONG. */
int routing_check(enum engine_exchange_type type, const char *pattern);

/* The pattern was checked. ENOMEM: nothing has changed. */
int routing_add(struct routing *routing, const char *pattern, uint64_t target);
void routing_remove(struct routing *routing, const char *pattern, uint64_t target); /* was added */

/* What a match found, and memory for the next; starts as {0}. */
struct routing_match {
	uint64_t *targets; /* distinct, in no order that means anything */
	size_t count, room;
	void *places; /* private */
	size_t place_room;
};

/*
 * Adds to match->targets (whose count the caller has set to 0, or to what other exchanges found) those that key and
 * headers lead to and that are not in it yet. ENOMEM. *ret_matched: whether any binding matched, new or not.
 */
int routing_find(const struct routing *routing, struct engine_span key, const struct engine_header *headers,
    uint32_t header_count, struct routing_match *match, bool *ret_matched);
int routing_match_add(struct routing_match *match, uint64_t target); /* unless it is in it; ENOMEM */
void routing_match_release(struct routing_match *match);

#endif
