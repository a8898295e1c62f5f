#include "tests/lib/failpoint.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of gcov, where it is linked in: writes what was run so far. */
void __gcov_dump(void) __attribute__((weak));

extern struct failpoint *const __start_failpoints[], *const __stop_failpoints[];

static struct {
	struct failpoint *_Atomic point;
	unsigned n;
	int err;
} armed;

#define CALLS 4

static struct {
	struct failpoint *point;
	void (*call)(void *ctx);
	void *ctx;
} calls[CALLS];

size_t failpoint_count(void)
{
	return (size_t)(__stop_failpoints - __start_failpoints);
}

struct failpoint *failpoint_at(size_t i)
{
	return __start_failpoints[i];
}

int failpoint_hit(struct failpoint *point)
{
	unsigned hits = atomic_fetch_add(&point->hits, 1) + 1;

	for (size_t i = 0; i < CALLS && calls[i].point != NULL; i++) {
		if (calls[i].point == point)
			calls[i].call(calls[i].ctx);
	}
	if (atomic_load(&armed.point) != point || hits != armed.n)
		return 0;
	if (armed.err == FAILPOINT_DIES) {
		if (__gcov_dump != NULL)
			__gcov_dump();
		kill(getpid(), SIGKILL);
	}
	return -armed.err;
}

struct failpoint *failpoint_find(const char *name)
{
	for (size_t i = 0; i < failpoint_count(); i++) {
		if (strcmp(failpoint_at(i)->name, name) == 0)
			return failpoint_at(i);
	}
	abort();
}

void failpoint_call(const char *name, void (*call)(void *ctx), void *ctx)
{
	size_t i = 0;

	while (calls[i].point != NULL)
		i++;
	calls[i].call = call;
	calls[i].ctx = ctx;
	calls[i].point = failpoint_find(name);
}

void failpoint_arm(struct failpoint *point, unsigned n, int err)
{
	atomic_store(&armed.point, NULL);
	for (size_t i = 0; i < failpoint_count(); i++)
		atomic_store(&failpoint_at(i)->hits, 0);
	armed.n = n;
	armed.err = err;
	atomic_store(&armed.point, point);
}
