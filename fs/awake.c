#include "fs/awake.h"

#include <fcntl.h>
#include <unistd.h>

#define DEVICE "/dev/cpu_dma_latency"
#define FEW 8          /* processors: that many may poll without being asked for */
#define WINDOW 5u      /* ticks */
#define ENOUGH 10u     /* requests in a window, 2000 a second: who waits for each would sleep most of the time */
#define QUIET 4u       /* windows with less, in a row */
#define ANY_LATENCY -1 /* PM_QOS_DEFAULT_VALUE */

static bool is_wanted(enum awake_want want)
{
	long count = sysconf(_SC_NPROCESSORS_ONLN);
	return want == AWAKE_ALWAYS || (want == AWAKE_AUTO && count > 1 && count <= FEW);
}

void awake_init(struct awake *awake, enum awake_want want)
{
	*awake = (struct awake){ .fd = is_wanted(want) ? open(DEVICE, O_WRONLY | O_CLOEXEC) : -1 };
}

void awake_destroy(struct awake *awake)
{
	if (awake->fd >= 0)
		close(awake->fd);
	awake->fd = -1;
}

void awake_count(struct awake *awake)
{
	atomic_fetch_add_explicit(&awake->requests, 1, memory_order_relaxed);
}

static void set(struct awake *awake, bool held)
{
	int32_t latency_us = held ? 0 : ANY_LATENCY;
	if (awake->fd >= 0 && awake->held != held && write(awake->fd, &latency_us, sizeof latency_us) > 0)
		awake->held = held;
}

bool awake_tick(struct awake *awake)
{
	uint64_t requests = atomic_load_explicit(&awake->requests, memory_order_relaxed), new = requests - awake->seen;
	awake->seen = requests;
	awake->recent += new;
	if (++awake->ticks < WINDOW)
		return new > 0;
	awake->quiet_windows = awake->recent >= ENOUGH ? 0 : awake->quiet_windows + 1;
	if (awake->quiet_windows == 0 || awake->quiet_windows >= QUIET)
		set(awake, awake->quiet_windows == 0);
	awake->ticks = 0;
	awake->recent = 0;
	return new > 0;
}

void awake_rest(struct awake *awake)
{
	set(awake, false);
}
