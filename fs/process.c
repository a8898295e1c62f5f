#include "fs/process.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"
#include "fs/open.h"

#define PF_EXITING 0x4u    /* include/linux/sched.h: getting shut down */
#define TICK_MS 20         /* starts of processes are known to 10 ms, times of files to 4 */
#define PF_SIGNALED 0x400u /* include/linux/sched.h: killed by a signal */

/* Reads /proc/PID/NAME; false if the process is not there (any more). */
static bool read_proc(uint32_t pid, const char *name, char *buf, size_t size)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%u/%s", pid, name);
	int fd = open_file(path);
	if (fd < 0)
		return false;
	ssize_t got = read(fd, buf, size - 1);
	close(fd);
	if (got <= 0)
		return false;
	buf[got] = '\0';
	return true;
}

static bool has_flag(uint32_t pid, unsigned flag)
{
	char buf[1024];
	unsigned flags;
	if (pid == 0 || !read_proc(pid, "stat", buf, sizeof buf))
		return false;
	char *fields = strrchr(buf, ')'); /* the command before it may hold anything */
	if (!fields || sscanf(fields + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) != 1)
		return false;
	return (flags & flag) != 0;
}

bool process_is_killed(uint32_t pid)
{
	return has_flag(pid, PF_SIGNALED);
}

bool process_is_ending(uint32_t pid)
{
	return has_flag(pid, PF_EXITING);
}

static bool thread_group(uint32_t pid, unsigned long *ret_group)
{
	char buf[2048];
	if (!read_proc(pid, "status", buf, sizeof buf))
		return false;
	const char *line = strstr(buf, "\nTgid:");
	if (!line)
		return false;
	*ret_group = strtoul(line + strlen("\nTgid:"), NULL, 10);
	return true;
}

bool process_is_same(uint32_t pid, uint32_t other)
{
	unsigned long group, other_group;
	if (pid == other)
		return true;
	if (!thread_group(pid, &group))
		return false;
	return !thread_group(other, &other_group) || group == other_group;
}

/* The number in hexadecimal behind a name in /proc/PID/status. */
static unsigned long long mask_of(const char *status, const char *name)
{
	const char *line = strstr(status, name);
	return line ? strtoull(line + strlen(name), NULL, 16) : 0;
}

bool process_has_signal(uint32_t pid)
{
	char buf[4096];
	if (pid == 0 || !read_proc(pid, "status", buf, sizeof buf))
		return false;
	return ((mask_of(buf, "\nSigPnd:") | mask_of(buf, "\nShdPnd:")) & ~mask_of(buf, "\nSigBlk:")) != 0;
}

/* When a process began, as Unix time; its clock ticks are 10 ms wide. */
static bool started_ms(unsigned long pid, int64_t *ret_ms)
{
	char buf[1024];
	unsigned long long ticks;
	if (!read_proc((uint32_t)pid, "stat", buf, sizeof buf))
		return false;
	char *fields = strrchr(buf, ')');
	if (!fields ||
	    sscanf(fields + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
		&ticks) != 1)
		return false;
	*ret_ms =
	    clock_wall_ms() - clock_mono_ms() + (int64_t)(ticks * 1000 / (unsigned long long)sysconf(_SC_CLK_TCK));
	return true;
}

bool process_may_have_written(uint32_t pid, uint64_t bytes, int64_t written_ms)
{
	char buf[1024];
	unsigned long long written;
	unsigned long group = pid;
	int64_t began_ms;
	thread_group(pid, &group);
	if (started_ms(group, &began_ms) && began_ms > written_ms + TICK_MS)
		return false;
	if (!read_proc((uint32_t)group, "io", buf, sizeof buf))
		return true;
	const char *line = strstr(buf, "wchar:");
	return !line || sscanf(line, "wchar: %llu", &written) != 1 || written >= bytes;
}
