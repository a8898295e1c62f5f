/*
 * routing_headers - bindings of a headers exchange: what their patterns say, and whether a message's headers match.
 *
 * A pattern is NAME=VALUE,... ; NAME alone asks that the header is there. x-match is `all` (the default: every pair has to
 * match) or `any` (one has to), and pairs whose name begins with x- count with all-with-x and any-with-x only, as in RabbitMQ.
 * The pattern is kept as it is and read at every match: it is short, and there is nothing to be looked up by. A value cannot hold
 * a comma.
 */
#ifndef MQFS_ROUTING_HEADERS_H
#define MQFS_ROUTING_HEADERS_H

#include "engine/routing.h"

struct headers_binding {
	struct headers_binding *next;
	uint64_t target, count;
	bool any, with_x;
	char pattern[];
};

int headers_check(const char *pattern);                                               /* EINVAL with a sentence */
int headers_add(struct headers_binding **list, const char *pattern, uint64_t target); /* ENOMEM */
void headers_remove(struct headers_binding **list, const char *pattern, uint64_t target);
bool headers_match(const struct headers_binding *binding, const struct engine_header *headers, uint32_t count);

#endif
