#include "tests/lib/tmpdir.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void must(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		abort();
	}
}

void tmpdir_in_memory(void)
{
	if (access("/dev/shm", W_OK) == 0)
		setenv("TMPDIR", "/dev/shm", 1);
}

void tmpdir_make(struct tmpdir *dir)
{
	const char *top = getenv("TMPDIR");

	snprintf(dir->path, sizeof(dir->path), "%s/mqfs-test-XXXXXX", top && *top ? top : "/tmp");
	must(mkdtemp(dir->path) != NULL, dir->path);
	dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(dir->fd >= 0, dir->path);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void tmpdir_remove(struct tmpdir *dir)
{
	close(dir->fd);
	must(!nftw(dir->path, remove_one, 16, FTW_DEPTH | FTW_PHYS), dir->path);
}

void tmpdir_put(int dirfd, const char *name, const void *bytes, size_t size)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	must(fd >= 0, name);
	must(size == 0 || write(fd, bytes, size) == (ssize_t)size, name);
	close(fd);
}

uint8_t *tmpdir_get(int dirfd, const char *name, size_t *ret_size)
{
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *bytes;

	if (fd < 0)
		return NULL;
	must(!fstat(fd, &st), name);
	bytes = malloc((size_t)st.st_size + 1);
	must(bytes && read(fd, bytes, (size_t)st.st_size) == st.st_size, name);
	close(fd);
	*ret_size = (size_t)st.st_size;
	return bytes;
}

void tmpdir_copy(int from_dirfd, int to_dirfd)
{
	DIR *dir = fdopendir(openat(from_dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *entry;

	must(dir != NULL, "opendir");
	while ((entry = readdir(dir))) {
		size_t size;
		uint8_t *bytes;

		if (entry->d_type != DT_REG)
			continue;
		bytes = tmpdir_get(from_dirfd, entry->d_name, &size);
		must(bytes != NULL, entry->d_name);
		tmpdir_put(to_dirfd, entry->d_name, bytes, size);
		free(bytes);
	}
	closedir(dir);
}

void tmpdir_clear(int dirfd)
{
	DIR *dir = fdopendir(openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *entry;

	must(dir != NULL, "opendir");
	while ((entry = readdir(dir)))
		if (entry->d_type == DT_REG)
			must(!unlinkat(dirfd, entry->d_name, 0), entry->d_name);
	closedir(dir);
}
