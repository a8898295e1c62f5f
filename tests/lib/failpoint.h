/*
 * failpoint - makes the engine of this test fail or die at a place with a name (engine/failpoint.h).
 */
#ifndef MQFS_TEST_FAILPOINT_H
#define MQFS_TEST_FAILPOINT_H

#include <stddef.h>

#include "engine/failpoint.h"

#define FAILPOINT_DIES 0

size_t failpoint_count(void);
struct failpoint *failpoint_at(size_t i);
struct failpoint *failpoint_find(const char *name); /* there must be one */

/* The n-th time (from 1) that one is come to from now on, it gives -err once, or kills the process as kill -9 does. NULL: none. */
void failpoint_arm(struct failpoint *point, unsigned n, int err);

/* Whoever comes to this one makes this call from now on. Up to four, before there are threads. */
void failpoint_call(const char *name, void (*call)(void *ctx), void *ctx);

#endif
