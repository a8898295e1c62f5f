/*
 * awake - processors do not sleep while requests follow one another.
 *
 * Who writes and waits for the answer sleeps meanwhile, and so may his processor; and ours, until he writes again. To wake one takes
 * longer than all else that a small request does: 20 us and more where it was given back to a hypervisor or is in a deep
 * C-state. Linux has a word for that: as long as /dev/cpu_dma_latency is held at 0, processors with nothing to do poll, and whoever
 * wants one has it at once (Documentation/power/pm_qos_interface.rst). It is for all processors and costs power, so it is
 * held only while requests come in numbers. The kernel lets go by itself if the daemon is killed.
 */
#ifndef MQFS_FS_AWAKE_H
#define MQFS_FS_AWAKE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* On machines with few processors; always; never. */
enum awake_want { AWAKE_AUTO, AWAKE_ALWAYS, AWAKE_NEVER };

struct awake {
	int fd; /* of /dev/cpu_dma_latency; -1: it is not wanted, or cannot be had */
	bool held;
	_Atomic uint64_t requests;     /* in all. The rest is of who calls awake_tick() */
	uint64_t seen, recent;         /* of these, until the last tick; since the window began */
	unsigned ticks, quiet_windows; /* since the window began; in a row */
};

/* fd is -1 where there is no such device, or it may not be written: then all else does nothing. */
void awake_init(struct awake *awake, enum awake_want want);
void awake_destroy(struct awake *awake);

/* One more request; by any thread. */
void awake_count(struct awake *awake);

/* To be called every millisecond, by one thread. False: no request since the last one. */
bool awake_tick(struct awake *awake);

/* Nobody will call awake_tick() for a while. */
void awake_rest(struct awake *awake);

#endif
