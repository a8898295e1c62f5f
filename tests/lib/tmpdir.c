#include "tests/lib/tmpdir.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void must(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		abort();
	}
}

static bool on_disk;

void tmpdir_on_disk(void)
{
	on_disk = true;
}

void tmpdir_in_memory(void)
{
	if (!on_disk && access("/dev/shm", W_OK) == 0)
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

static void copy_file(int from_dirfd, int to_dirfd, const char *name)
{
	static const uint8_t zeros[4096];
	int fd = openat(to_dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	uint8_t *bytes;
	size_t size;

	bytes = tmpdir_get(from_dirfd, name, &size);
	must(fd >= 0 && bytes != NULL && !ftruncate(fd, (off_t)size), name);
	for (size_t pos = 0, part; pos < size; pos += part) {
		part = size - pos < sizeof(zeros) ? size - pos : sizeof(zeros);
		if (memcmp(bytes + pos, zeros, part) != 0)
			must(pwrite(fd, bytes + pos, part, (off_t)pos) == (ssize_t)part, name);
	}
	free(bytes);
	close(fd);
}

static void copy_all(int from_dirfd, int to_dirfd)
{
	DIR *dir = fdopendir(from_dirfd);
	struct dirent *entry;

	must(dir != NULL && to_dirfd >= 0, "opendir");
	while ((entry = readdir(dir))) {
		if (entry->d_type == DT_REG) {
			copy_file(from_dirfd, to_dirfd, entry->d_name);
		} else if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
			must(!mkdirat(to_dirfd, entry->d_name, 0700), entry->d_name);
			copy_all(openat(from_dirfd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
			    openat(to_dirfd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
		}
	}
	closedir(dir);
	close(to_dirfd);
}

void tmpdir_replace(const char *path, const char *by_path)
{
	must(access(path, F_OK) < 0 || !nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS), path);
	must(!mkdir(path, 0700), path);
	copy_all(open(by_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
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
