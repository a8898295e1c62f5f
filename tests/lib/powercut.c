#include "tests/lib/powercut.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/io.h"
#include "tests/lib/tmpdir.h"

#define NAME_SIZE 64
#define FILES_MAX 256u
#define SECTOR 512u

enum kind { WRITE, TRUNCATE, SYNC, LINK, UNLINK, SYNC_DIR };

/* One change. LINK gives a file a name, and takes that name from another; a rename is a LINK and an UNLINK. */
struct change {
	enum kind kind;
	unsigned file;
	char name[NAME_SIZE];
	uint64_t pos, size;
	uint8_t *bytes;
};

struct image {
	uint8_t *bytes;
	uint64_t size;
};

struct powercut {
	const struct io_ops *real;
	int dirfd;
	ino_t dir_inode, inodes[FILES_MAX];
	struct image first[FILES_MAX]; /* as they were at the start */
	char first_names[FILES_MAX][NAME_SIZE];
	unsigned files, first_files;
	struct change *changes;
	size_t count, room;
};

static struct powercut *recording;

static void must(bool ok, const char *what)
{
	if (!ok) {
		perror(what);
		abort();
	}
}

/* ------------------------------------------------------------------------------------- recording */

static struct change *add(enum kind kind, unsigned file)
{
	struct powercut *cut = recording;

	if (cut->count == cut->room) {
		cut->room = cut->room ? cut->room * 2 : 64;
		cut->changes = realloc(cut->changes, cut->room * sizeof(*cut->changes));
		must(cut->changes != NULL, "realloc");
	}
	cut->changes[cut->count] = (struct change){ .kind = kind, .file = file };
	return &cut->changes[cut->count++];
}

static ino_t inode_of(int fd)
{
	struct stat st;

	must(!fstat(fd, &st), "fstat");
	return st.st_ino;
}

/* The newest file with this inode: numbers are used again. */
static unsigned file_of(int fd)
{
	ino_t inode = inode_of(fd);

	for (unsigned i = recording->files; i > 0; i--)
		if (recording->inodes[i - 1] == inode)
			return i - 1;
	must(false, "a file that was not recorded");
	return 0;
}

static void set_name(struct change *change, const char *name)
{
	snprintf(change->name, sizeof(change->name), "%s", name);
}

static int record_open(int dirfd, const char *name, int flags, mode_t mode)
{
	bool there = !faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW);
	int fd = recording->real->open(dirfd, name, flags, mode);

	if (fd < 0)
		return fd;
	if (!there) {
		must(recording->files < FILES_MAX, "too many files");
		recording->inodes[recording->files] = inode_of(fd);
		set_name(add(LINK, recording->files++), name);
	} else if (flags & O_TRUNC) {
		add(TRUNCATE, file_of(fd));
	}
	return fd;
}

static int record_mkdir(int dirfd, const char *name, mode_t mode)
{
	return recording->real->mkdir(dirfd, name, mode);
}

static ssize_t record_pwritev(int fd, const struct iovec *iov, int count, off_t pos)
{
	ssize_t n = recording->real->pwritev(fd, iov, count, pos);
	struct change *change;

	if (n <= 0)
		return n;
	change = add(WRITE, file_of(fd));
	change->pos = (uint64_t)pos;
	change->bytes = malloc((size_t)n);
	for (int i = 0; change->size < (uint64_t)n; i++) {
		size_t part = (size_t)n - change->size < iov[i].iov_len ? (size_t)n - change->size : iov[i].iov_len;

		memcpy(change->bytes + change->size, iov[i].iov_base, part);
		change->size += part;
	}
	return n;
}

static int record_sync(int fd)
{
	if (inode_of(fd) == recording->dir_inode)
		add(SYNC_DIR, 0);
	else
		add(SYNC, file_of(fd));
	return 0;
}

static int record_ftruncate(int fd, off_t size)
{
	add(TRUNCATE, file_of(fd))->size = (uint64_t)size;
	return recording->real->ftruncate(fd, size);
}

static int record_fallocate(int fd, int mode, off_t pos, off_t size)
{
	return recording->real->fallocate(fd, mode, pos, size);
}

static int record_rename(int old_dirfd, const char *old_name, int new_dirfd, const char *new_name)
{
	int fd = openat(old_dirfd, old_name, O_RDONLY | O_CLOEXEC), rc;

	must(fd >= 0, old_name);
	rc = recording->real->rename(old_dirfd, old_name, new_dirfd, new_name);
	if (!rc) {
		set_name(add(LINK, file_of(fd)), new_name);
		set_name(add(UNLINK, 0), old_name);
	}
	close(fd);
	return rc;
}

static int record_unlink(int dirfd, const char *name, int flags)
{
	int rc = recording->real->unlink(dirfd, name, flags);

	if (!rc)
		set_name(add(UNLINK, 0), name);
	return rc;
}

static const struct io_ops io_recorder = {
	.open = record_open,
	.mkdir = record_mkdir,
	.pwritev = record_pwritev,
	.fdatasync = record_sync,
	.fsync = record_sync,
	.ftruncate = record_ftruncate,
	.fallocate = record_fallocate,
	.rename = record_rename,
	.unlink = record_unlink,
};

struct powercut *powercut_start(int dirfd)
{
	struct powercut *cut = calloc(1, sizeof(*cut));
	DIR *dir = fdopendir(openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *entry;

	must(cut && dir, "powercut_start");
	cut->dir_inode = inode_of(dirfd);
	while ((entry = readdir(dir))) {
		size_t size;

		if (entry->d_type != DT_REG)
			continue;
		must(cut->files < FILES_MAX, "too many files");
		snprintf(cut->first_names[cut->files], NAME_SIZE, "%.63s", entry->d_name);
		cut->first[cut->files].bytes = tmpdir_get(dirfd, entry->d_name, &size);
		cut->first[cut->files].size = size;
		cut->inodes[cut->files++] = entry->d_ino;
	}
	closedir(dir);
	cut->first_files = cut->files;
	cut->real = io;
	recording = cut;
	io = &io_recorder;
	return cut;
}

void powercut_stop(struct powercut *cut)
{
	io = cut->real;
	recording = NULL;
}

size_t powercut_count(const struct powercut *cut)
{
	return cut->count;
}

void powercut_free(struct powercut *cut)
{
	for (size_t i = 0; i < cut->count; i++)
		free(cut->changes[i].bytes);
	for (unsigned i = 0; i < cut->first_files; i++)
		free(cut->first[i].bytes);
	free(cut->changes);
	free(cut);
}

/* --------------------------------------------------------------------------------------- replaying */

struct random {
	uint64_t seed, state;
};

/* True with a chance of one in n; by seed 0 never, by seed 1 always. */
static bool chance(struct random *random, unsigned n)
{
	if (random->seed < 2)
		return random->seed == 1;
	random->state ^= random->state << 13;
	random->state ^= random->state >> 7;
	random->state ^= random->state << 17;
	return random->state % n == 0;
}

static void resize(struct image *image, uint64_t size)
{
	uint8_t *bytes = realloc(image->bytes, size + 1);

	must(bytes != NULL, "realloc");
	if (size > image->size)
		memset(bytes + image->size, 0, size - image->size);
	image->bytes = bytes;
	image->size = size;
}

static void put(struct image *image, uint64_t pos, const uint8_t *bytes, uint64_t size)
{
	if (pos + size > image->size)
		resize(image, pos + size);
	memcpy(image->bytes + pos, bytes, size);
}

static void apply(struct image *image, const struct change *change)
{
	if (change->kind == WRITE)
		put(image, change->pos, change->bytes, change->size);
	else
		resize(image, change->size);
}

/* A write that was not synced: some of its sectors, or only room for them. */
static void apply_some(struct image *image, const struct change *change, struct random *random)
{
	bool torn = random->seed > 1 && chance(random, 4);

	if (!torn) {
		if (chance(random, 2))
			apply(image, change);
		else if (random->seed > 1 && change->kind == WRITE && chance(random, 3) &&
			 change->pos + change->size > image->size)
			resize(image, change->pos + change->size);
		return;
	}
	if (change->kind != WRITE)
		return;
	for (uint64_t done = 0, part; done < change->size; done += part) {
		part = SECTOR - (change->pos + done) % SECTOR;
		if (part > change->size - done)
			part = change->size - done;
		if (chance(random, 2))
			put(image, change->pos + done, change->bytes + done, part);
	}
}

/* The index one past the last change of this kind (and file, for SYNC) among the first n. */
static size_t last_of(const struct powercut *cut, size_t n, enum kind kind, unsigned file)
{
	while (n > 0 && (cut->changes[n - 1].kind != kind || (kind == SYNC && cut->changes[n - 1].file != file)))
		n--;
	return n;
}

static struct image make_file(const struct powercut *cut, size_t n, unsigned file, struct random *random)
{
	struct image image = { 0 };
	size_t synced = last_of(cut, n, SYNC, file);

	resize(&image, 0);
	if (file < cut->first_files)
		put(&image, 0, cut->first[file].bytes, cut->first[file].size);
	for (size_t i = 0; i < n; i++) {
		const struct change *change = &cut->changes[i];

		if (change->file != file || (change->kind != WRITE && change->kind != TRUNCATE))
			continue;
		if (i < synced)
			apply(&image, change);
		else
			apply_some(&image, change, random);
	}
	return image;
}

/* Which names there are: those of the first `n` changes. names[file] is "" for a file without. */
static void make_names(const struct powercut *cut, size_t n, char names[FILES_MAX][NAME_SIZE])
{
	memcpy(names, cut->first_names, sizeof(cut->first_names));
	for (size_t i = 0; i < n; i++) {
		const struct change *change = &cut->changes[i];

		if (change->kind != LINK && change->kind != UNLINK)
			continue;
		for (unsigned f = 0; f < cut->files; f++)
			if (!strcmp(names[f], change->name) && (change->kind == UNLINK || f != change->file))
				names[f][0] = '\0';
		if (change->kind == LINK)
			memcpy(names[change->file], change->name, NAME_SIZE);
	}
}

void powercut_make(const struct powercut *cut, size_t n, uint64_t seed, int to_dirfd)
{
	struct random random = { .seed = seed, .state = seed * 0x9e3779b97f4a7c15ull + 1 };
	static char names[FILES_MAX][NAME_SIZE];
	size_t named = last_of(cut, n, SYNC_DIR, 0);

	while (named < n && !(seed > 1 && chance(&random, 8)) && seed != 0)
		named++;
	make_names(cut, named, names);
	for (unsigned file = 0; file < cut->files; file++) {
		struct image image;

		if (!names[file][0])
			continue;
		image = make_file(cut, n, file, &random);
		tmpdir_put(to_dirfd, names[file], image.bytes, image.size);
		free(image.bytes);
	}
}
