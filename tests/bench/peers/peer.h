/*
 * peer.h - what the clients of the peers share: PROGRAM ADDRESS WORK COUNT, and a table of works.
 *
 * The works have the names that works.c gives them, and each begins with an empty queue. A work that a peer cannot do is not in
 * its table: status 3.
 */
#ifndef MQFS_TESTS_BENCH_PEER_H
#define MQFS_TESTS_BENCH_PEER_H

#include "tests/bench/bench.h"

#define NO_SUCH_WORK 3
#define PRODUCERS 4
#define DURABLE_PRODUCERS 8

struct work {
	const char *name;
	void (*run)(long count);
};

static inline int run_work(const struct work *works, size_t known, const char *name, long count)
{
	for (size_t i = 0; i < known; i++)
		if (strcmp(works[i].name, name) == 0 && count > 0) {
			errno = 0;
			works[i].run(count);
			return 0;
		}
	return NO_SUCH_WORK;
}

#define RUN_WORK(works, name, count) run_work(works, sizeof(works) / sizeof((works)[0]), name, count)

/* Several producers at once, each in a process with a connection of its own. */
static inline void produce_by(int producers, void (*produce)(long count), long count)
{
	uint64_t began = now_ns();

	for (int i = 0; i < producers; i++)
		if (relay_fork()) {
			produce(count / producers);
			_exit(0);
		}
	wait_for_children();
	print_rate(count / producers * producers, began);
}

#endif
