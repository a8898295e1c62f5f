/*
 * means - makes the n-th call of one kind fail, once: the kinds by which the engine gets what it needs of the system.
 *
 * What is tested is run for each kind with n = 1, 2, 3, ... until the n-th call is not come to; so each fails once, in every place.
 * The program is linked with libengine.alloc.a: see the Makefile, and alloc.h and fault.h, which do the work.
 */
#ifndef MQFS_TEST_MEANS_H
#define MQFS_TEST_MEANS_H

#include <stdbool.h>
#include <stdint.h>

enum means {
	MEANS_CHANGES, /* of files: fault.h */
	MEANS_MEMORY,
	MEANS_READS, /* and the opening of what is there */
	MEANS_LMDB,  /* calls of LMDB, which never fail by themselves: for those that have a catalog */
	MEANS_COUNT
};

void means_arm(enum means means, uint64_t n);    /* 0: none fails */
bool means_disarm(enum means means, uint64_t n); /* was it come to? */

#endif
