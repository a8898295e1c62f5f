#include "fs/open.h"

#include <errno.h>
#include <fcntl.h>

int open_file(const char *path)
{
	int fd;
	do
		fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}
