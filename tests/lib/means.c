#include "tests/lib/means.h"

#include <errno.h>

#include "tests/lib/alloc.h"
#include "tests/lib/fault.h"

void means_arm(enum means means, uint64_t n)
{
	switch (means) {
	case MEANS_CHANGES: fault_arm(FAULT_ANY, n, EIO, false); break;
	case MEANS_MEMORY: alloc_arm(n); break;
	case MEANS_READS: alloc_arm_reads(n, EIO); break;
	default: alloc_arm_lmdb(n, n % 2 ? EIO : ENOMEM); break;
	}
}

bool means_disarm(enum means means, uint64_t n)
{
	switch (means) {
	case MEANS_CHANGES: return fault_disarm() >= n;
	case MEANS_MEMORY: return alloc_disarm() >= n;
	case MEANS_READS: return alloc_disarm_reads() >= n;
	default: return alloc_disarm_lmdb() >= n;
	}
}
