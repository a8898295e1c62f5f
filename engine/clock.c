/*
 * clock - the system's clocks. See clock.h.
 */
#include "engine/clock.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/io.h"

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
	int used, fd = io_open_existing(AT_FDCWD, "/proc/sys/kernel/random/boot_id", O_RDONLY);
	ssize_t len = fd >= 0 ? io->pread(fd, text, sizeof(text) - 1, 0) : 0;

	if (fd >= 0)
		close(fd);
	text[len > 0 ? len : 0] = '\0';
	memset(out, 0, 16);
	for (int i = 0; i < 16 && sscanf(at, "%2hhx%n", &out[i], &used) == 1; i++) {
		at += used;
		at += strspn(at, "-");
	}
}

int64_t clock_measure_ns(void)
{
	struct timespec ts = { 0 };

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* A clock that nobody sets, so that setting the time does not end a wait, or make one endless. */
void clock_wait(pthread_cond_t *changed, pthread_mutex_t *lock, int64_t ms)
{
	struct timespec until = { 0 };
	int64_t ns;

	clock_gettime(CLOCK_MONOTONIC, &until);
	ns = until.tv_nsec + ms % 1000 * 1000000;
	until.tv_sec += (time_t)(ms / 1000 + ns / 1000000000);
	until.tv_nsec = (long)(ns % 1000000000);
	pthread_cond_clockwait(changed, lock, CLOCK_MONOTONIC, &until);
}

void clock_sleep(int64_t ms)
{
	nanosleep(&(struct timespec){ (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 }, NULL);
}

const struct clock_ops clock_system = { .wall_ms = wall_ms, .mono_ms = mono_ms, .boot_id = boot_id };
const struct clock_ops *clock_now = &clock_system;
