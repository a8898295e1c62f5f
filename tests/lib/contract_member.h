/*
 * contract_member - what the contract tests of members share: a topic "t" and its group "g", members by name, and time that
 * goes by when the test says so.
 */
#ifndef MQFS_TESTS_CONTRACT_MEMBER_H
#define MQFS_TESTS_CONTRACT_MEMBER_H

#include "tests/lib/contract.h"

struct members {
	struct engine_object *topic, *group;
};

struct members members_make(struct contract *c, uint32_t partitions);
void members_put(struct contract *c, struct members *m);
struct engine_object *members_add(struct contract *c, struct members *m, const char *name);
const char *members_owned(struct contract *c, struct engine_object *member); /* "0,2", into c->text */
void members_tick(int64_t ms);                                               /* so much time goes by */

#endif
