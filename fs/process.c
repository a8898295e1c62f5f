#include "fs/process.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PF_EXITING 0x4u    /* include/linux/sched.h: getting shut down */
#define PF_SIGNALED 0x400u /* include/linux/sched.h: killed by a signal */

/* Reads /proc/PID/NAME; false if the process is not there (any more). */
static bool read_proc(uint32_t pid, const char *name, char *buf, size_t size)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%u/%s", pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
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
