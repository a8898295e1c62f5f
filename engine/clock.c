/*
 * clock - the system's clocks. See clock.h.
 */
#include "engine/clock.h"

#include <stdio.h>
#include <string.h>
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

/* The kernel's is a UUID: 32 hexadecimal digits, and hyphens after some. */
static void boot_id(uint8_t out[16])
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
	char text[37] = "";
	const char *at = text;
	int used;

	memset(out, 0, 16);
	if (file == NULL)
		return;
	if (fgets(text, sizeof(text), file) == NULL)
		text[0] = '\0';
	fclose(file);
	for (int i = 0; i < 16 && sscanf(at, "%2hhx%n", &out[i], &used) == 1; i++) {
		at += used;
		at += strspn(at, "-");
	}
}

const struct clock_ops clock_system = { .wall_ms = wall_ms, .mono_ms = mono_ms, .boot_id = boot_id };
const struct clock_ops *clock_now = &clock_system;
