/*
 * clock - the system's clocks. See clock.h.
 */
#include "engine/clock.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

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

/* The kernel's is a UUID: 32 hexadecimal digits, and hyphens after some. */
static void boot_id(uint8_t out[16])
{
	char text[37];
	const char *at = text;
	int used, fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t len = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;

	if (fd >= 0)
		close(fd);
	text[len > 0 ? len : 0] = '\0';
	memset(out, 0, 16);
	for (int i = 0; i < 16 && sscanf(at, "%2hhx%n", &out[i], &used) == 1; i++) {
		at += used;
		at += strspn(at, "-");
	}
}

const struct clock_ops clock_system = { .wall_ms = wall_ms, .mono_ms = mono_ms, .boot_id = boot_id };
const struct clock_ops *clock_now = &clock_system;
