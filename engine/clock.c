/*
 * clock - the system's clocks. See clock.h.
 */
#include "engine/clock.h"

#include <time.h>

static int64_t read_ms(clockid_t id)
{
	struct timespec ts = { 0 };

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int64_t wall_ms(void)
{
	return read_ms(CLOCK_REALTIME);
}

static int64_t mono_ms(void)
{
	return read_ms(CLOCK_BOOTTIME);
}

const struct clock_ops clock_system = { .wall_ms = wall_ms, .mono_ms = mono_ms };
const struct clock_ops *clock_now = &clock_system;
