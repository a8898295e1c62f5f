/*
 * engine_exchange - the part of the contract that is about exchanges: where a message goes by its routing key or its headers.
 *
 * An exchange (ENGINE_EXCHANGE) is created below the store. It holds no messages, only bindings: a pattern, a name that
 * is unique under it, and a target, which is a queue, a topic or another exchange of the store. Publishing is producer_open and
 * producer_send of engine.h, with the routing key as the producer's key (or that of a message's props, which wins).
 *
 * Patterns, by the exchange's type (RabbitMQ's):
 *	TOPIC    words divided by dots; the word * is any one word, the word # any number of words, none included
 *	DIRECT   the pattern is the routing key
 *	FANOUT   the pattern means nothing
 *	HEADERS  NAME=VALUE,... with x-match=all (the default), any, all-with-x or any-with-x; NAME alone asks that the header is
 *	         there. Names that begin with x- count with the last two only
 *
 * A message goes to each target once, however many bindings lead there, through other exchanges too; to all of them or, if one
 * refuses (EDQUOT, EMSGSIZE, ENOSPC, EROFS, EIO), to none, after a crash as well. A topic takes it with its own key; a queue
 * with its own priority, time to live and delay. Where no binding of an exchange matches, it goes to the exchange that alternate.exchange
 * names, if there is one. If a message comes to no target at all: EHOSTUNREACH under mandatory, which is that of the
 * exchange that was published to; else it is dropped and counted.
 *
 * A target cannot be removed while it is bound (EBUSY); a binding that would close a circle of exchanges, alternate.exchange
 * counted as one, is ELOOP. An exchange is removed when it has no bindings (ENOTEMPTY) and is not bound (EBUSY).
 */
#ifndef MQFS_ENGINE_EXCHANGE_H
#define MQFS_ENGINE_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine_base.h"

struct engine_object;
struct engine_props;

enum engine_exchange_type { ENGINE_TOPIC_EXCHANGE, ENGINE_DIRECT, ENGINE_FANOUT, ENGINE_HEADERS };

#define ENGINE_PATTERN_MAX 255u /* bytes */

struct engine_exchange_stat {
	uint64_t published, routed, unroutable, refused; /* messages, since the store was opened; routed: copies */
	uint64_t patterns, bindings;
};

struct engine_exchange_ops {
	int (*get_type)(struct engine_object *exchange, enum engine_exchange_type *ret_type);
	/* Durable on return (may sync). EBUSY: it has bindings. */
	int (*set_type)(struct engine_object *exchange, enum engine_exchange_type type);

	/*
	 * A pattern is there from pattern_add to pattern_remove, with or without bindings. EEXIST, EINVAL (not one of this type of
	 * exchange), ENAMETOOLONG; ENOENT, ENOTEMPTY. Durable on return (may sync).
	 */
	int (*pattern_add)(struct engine_object *exchange, const char *pattern);
	int (*pattern_remove)(struct engine_object *exchange, const char *pattern);

	/* ENOENT: no such pattern, no such binding; EEXIST; EINVAL: no target; ELOOP. Durable on return (may sync). */
	int (*bind)(
	    struct engine_object *exchange, const char *pattern, const char *name, struct engine_object *target);
	int (*unbind)(struct engine_object *exchange, const char *pattern, const char *name);

	/*
	 * A binding has another name under its pattern from now on. What had that name is replaced, in the same step: no message finds
	 * both or neither. ENOENT; EEXIST: it is taken, and replace is false. Durable on return (may sync).
	 */
	int (*rename)(
	    struct engine_object *exchange, const char *pattern, const char *name, const char *new_name, bool replace);

	/* The target of a binding; name NULL: whether there is the pattern, and 0. ENOENT. */
	int (*binding)(struct engine_object *exchange, const char *pattern, const char *name, uint64_t *ret_target);

	/*
	 * Lists patterns (pattern NULL) or the bindings of one, in ascending order of their bytes, those behind `after` (NULL:
	 * from the start). each is called with locks held and must not call the engine; false stops.
	 */
	int (*list)(struct engine_object *exchange, const char *pattern, const char *after,
	    bool (*each)(void *ctx, const char *name, uint64_t target), void *ctx);

	/*
	 * Would a message of this many bytes with these properties be refused now? EHOSTUNREACH, EDQUOT. To
	 * be told before it is published; whoever publishes meanwhile may change the answer.
	 */
	int (*room)(struct engine_object *exchange, uint64_t bytes, const struct engine_props *props);

	int (*exchange_stat)(struct engine_object *exchange, struct engine_exchange_stat *ret_stat);
};

#endif
