/*
 * crash - what a crash has left takes the place of the store of a contract (contract.h).
 */
#ifndef MQFS_TEST_CRASH_H
#define MQFS_TEST_CRASH_H

#include <stdbool.h>

#include "tests/lib/contract.h"
#include "tests/lib/powercut.h"

/*
 * Makes a directory for c, whose engine is closed and whose directory is removed, with the store as the crash after n changes leaves
 * it: a kill, or a power cut with this seed (powercut.h). Returns the hash of it; of a kill 0.
 */
uint64_t crash_make(struct contract *c, const struct powercut *cut, size_t n, uint64_t seed, bool kill);

/* The same of one that is open. */
uint64_t crash_replace(struct contract *c, const struct powercut *cut, size_t n, uint64_t seed, bool kill);

/* A kill, or a power cut with this seed, after n changes. */
struct crash_moment {
	size_t n;
	uint64_t seed;
	bool kill;
	char what[80]; /* it in words */
};

/*
 * Calls check with what four power cuts and a kill leave at each moment, from the first to the last: c is closed (contract_open
 * opens it), and open again when check returns.
 */
void crash_each(const struct powercut *cut, size_t first, size_t last,
    void (*check)(struct contract *c, const struct crash_moment *at, void *ctx), void *ctx);

#endif
