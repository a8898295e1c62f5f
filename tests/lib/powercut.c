#include "tests/lib/powercut.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/io.h"
#include "tests/lib/tmpdir.h"

#define NAME_SIZE 64
#define FILES_MAX 1024u /* directories are files, too; the first is where it begins */
#define SECTOR 512u
#define PAGE 4096u
#define DATABASE_META 8192u /* of LMDB: every commit changes it */

enum kind { WRITE, TRUNCATE, PUNCH, SYNC, LINK, UNLINK, SYNC_DIR, COPY };

/* One change. LINK gives a file a name, and takes that name from another; a rename is a LINK and an UNLINK. */
struct change {
	enum kind kind;
	unsigned file;
	unsigned dir; /* of LINK, UNLINK and SYNC_DIR */
	char name[NAME_SIZE];
	uint64_t pos, size;
	uint8_t *bytes;
};

struct image {
	uint8_t *bytes;
	uint64_t size;
};

/* Where a file is; dir is no number of one without a name. */
struct place {
	unsigned dir;
	char name[NAME_SIZE];
};

struct powercut {
	const struct io_ops *real;
	pthread_mutex_t lock; /* changes have an order */
	ino_t inodes[FILES_MAX];
	bool is_dir[FILES_MAX];
	struct image first[FILES_MAX]; /* as they were at the start */
	struct place first_places[FILES_MAX];
	unsigned files, first_files;
	const char *database, *ignored; /* or NULL */
	int database_fd;
	unsigned database_file;
	uint8_t database_meta[DATABASE_META]; /* as it was copied last */
	struct change *changes;
	size_t count, room;
	bool stopped;        /* lock; what another thread has begun by then is done, and not recorded */
	struct change spare; /* in its place */
};

static struct powercut *recording; /* the last one that was begun */

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

	if (cut->stopped) {
		cut->spare = (struct change){ .kind = kind, .file = file };
		return &cut->spare;
	}
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

/* The newest file with this inode, numbers are used again; files: it was not recorded. */
static unsigned find_file(int fd)
{
	ino_t inode = inode_of(fd);

	for (unsigned i = recording->files; i > 0; i--)
		if (recording->inodes[i - 1] == inode)
			return i - 1;
	return recording->files;
}

static unsigned file_of(int fd)
{
	unsigned file = find_file(fd);

	if (file >= recording->files) {
		char link[64], path[4096] = "";

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		if (readlink(link, path, sizeof(path) - 1) > 0)
			fprintf(stderr, "%s: ", path);
	}
	must(file < recording->files, "a file that was not recorded");
	return file;
}

static void add_name(enum kind kind, int dirfd, const char *name, unsigned file)
{
	struct change *change = add(kind, file);

	change->dir = file_of(dirfd);
	snprintf(change->name, sizeof(change->name), "%s", name);
}

static unsigned new_file(ino_t inode, bool is_dir)
{
	must(recording->files < FILES_MAX, "too many files");
	recording->inodes[recording->files] = inode;
	recording->is_dir[recording->files] = is_dir;
	return recording->files++;
}

/* A copy of the database, which somebody may be writing: one that no commit came across. */
static void copy_database(struct powercut *cut)
{
	uint8_t meta[DATABASE_META], again[DATABASE_META], *bytes = NULL;
	struct change *change;
	struct stat st;

	if (cut->database == NULL || cut->stopped)
		return;
	must(pread(cut->database_fd, meta, sizeof(meta), 0) == sizeof(meta), "database");
	if (memcmp(meta, cut->database_meta, sizeof(meta)) == 0)
		return;
	for (;;) {
		must(!fstat(cut->database_fd, &st), "fstat");
		bytes = realloc(bytes, (size_t)st.st_size);
		must(bytes && pread(cut->database_fd, bytes, (size_t)st.st_size, 0) == st.st_size, "database");
		must(pread(cut->database_fd, again, sizeof(again), 0) == sizeof(again), "database");
		if (memcmp(again, bytes, sizeof(again)) == 0)
			break;
	}
	memcpy(cut->database_meta, again, sizeof(again));
	change = add(COPY, cut->database_file);
	change->bytes = bytes;
	change->size = (uint64_t)st.st_size;
}

static void begin(void)
{
	pthread_mutex_lock(&recording->lock);
	copy_database(recording);
}

static void end(void)
{
	pthread_mutex_unlock(&recording->lock);
}

static int record_open(int dirfd, const char *name, int flags, mode_t mode)
{
	bool there;
	int fd;

	begin();
	there = !faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW);
	fd = recording->real->open(dirfd, name, flags, mode);
	if (fd >= 0 && !there)
		add_name(LINK, dirfd, name, new_file(inode_of(fd), false));
	else if (fd >= 0 && (flags & O_TRUNC))
		add(TRUNCATE, file_of(fd));
	end();
	return fd;
}

static int record_mkdir(int dirfd, const char *name, mode_t mode)
{
	struct stat st;
	int rc;

	begin();
	rc = recording->real->mkdir(dirfd, name, mode);
	if (!rc) {
		must(!fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW), "fstatat");
		add_name(LINK, dirfd, name, new_file(st.st_ino, true));
	}
	end();
	return rc;
}

static ssize_t record_pwritev(int fd, const struct iovec *iov, int count, off_t pos)
{
	struct change *change;
	ssize_t n;

	begin();
	n = recording->real->pwritev(fd, iov, count, pos);
	if (n > 0) {
		change = add(WRITE, file_of(fd));
		change->pos = (uint64_t)pos;
		change->bytes = malloc((size_t)n);
		must(change->bytes != NULL, "malloc");
	}
	for (int i = 0; n > 0 && change->size < (uint64_t)n; i++) {
		size_t part = (size_t)n - change->size < iov[i].iov_len ? (size_t)n - change->size : iov[i].iov_len;

		memcpy(change->bytes + change->size, iov[i].iov_base, part);
		change->size += part;
	}
	end();
	return n;
}

static int record_sync(int fd)
{
	unsigned file;

	begin();
	file = file_of(fd);
	if (recording->is_dir[file])
		add(SYNC_DIR, file)->dir = file;
	else
		add(SYNC, file);
	end();
	return 0;
}

static int record_ftruncate(int fd, off_t size)
{
	int rc;

	begin();
	add(TRUNCATE, file_of(fd))->size = (uint64_t)size;
	rc = recording->real->ftruncate(fd, size);
	end();
	return rc;
}

static int record_fallocate(int fd, int mode, off_t pos, off_t size)
{
	struct change *change;
	int rc;

	begin();
	rc = recording->real->fallocate(fd, mode, pos, size);
	if (!rc && (mode & FALLOC_FL_PUNCH_HOLE)) { /* else it is room, and no bytes */
		change = add(PUNCH, file_of(fd));
		change->pos = (uint64_t)pos;
		change->size = (uint64_t)size;
	}
	end();
	return rc;
}

/* A file that came past the recording: a database has made it, which syncs what it writes. */
static void take_database(int dirfd, const char *name, int fd)
{
	unsigned file = new_file(inode_of(fd), false);
	struct change *change;
	struct stat st;

	must(!fstat(fd, &st), "fstat");
	add_name(LINK, dirfd, name, file);
	change = add(COPY, file);
	change->size = (uint64_t)st.st_size;
	change->bytes = malloc((size_t)st.st_size);
	must(change->bytes && pread(fd, change->bytes, (size_t)st.st_size, 0) == st.st_size, "database");
}

static int record_rename(int old_dirfd, const char *old_name, int new_dirfd, const char *new_name)
{
	int fd, rc;

	begin();
	fd = openat(old_dirfd, old_name, O_RDONLY | O_CLOEXEC);
	must(fd >= 0, old_name);
	if (find_file(fd) == recording->files)
		take_database(old_dirfd, old_name, fd);
	rc = recording->real->rename(old_dirfd, old_name, new_dirfd, new_name);
	if (!rc) {
		add_name(LINK, new_dirfd, new_name, file_of(fd));
		add_name(UNLINK, old_dirfd, old_name, 0);
	}
	close(fd);
	end();
	return rc;
}

static int record_unlink(int dirfd, const char *name, int flags)
{
	int rc;

	begin();
	rc = recording->real->unlink(dirfd, name, flags);
	if (!rc)
		add_name(UNLINK, dirfd, name, 0);
	end();
	return rc;
}

static ssize_t record_pread(int fd, void *buf, size_t size, off_t pos)
{
	return recording->real->pread(fd, buf, size, pos);
}

static int record_syncfs(int fd)
{
	(void)fd;
	begin();
	for (unsigned file = 0; file < recording->files; file++)
		add(recording->is_dir[file] ? SYNC_DIR : SYNC, file)->dir = file;
	end();
	return 0;
}

static int record_fchmod(int fd, mode_t mode) /* nothing is lost by a mode */
{
	return recording->real->fchmod(fd, mode);
}

static const struct io_ops io_recorder = {
	.open = record_open,
	.mkdir = record_mkdir,
	.pwritev = record_pwritev,
	.pread = record_pread,
	.fdatasync = record_sync,
	.fsync = record_sync,
	.ftruncate = record_ftruncate,
	.fallocate = record_fallocate,
	.rename = record_rename,
	.unlink = record_unlink,
	.syncfs = record_syncfs,
	.fchmod = record_fchmod,
};

/* What is in a directory at the start, and below it. */
static void take(struct powercut *cut, unsigned at, int dirfd)
{
	DIR *dir = fdopendir(openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *entry;

	must(dir != NULL, "fdopendir");
	while ((entry = readdir(dir))) {
		unsigned file;
		size_t size;

		if (entry->d_type == DT_DIR ? entry->d_name[0] == '.' : entry->d_type != DT_REG)
			continue;
		file = new_file(entry->d_ino, entry->d_type == DT_DIR);
		cut->first_places[file].dir = at;
		snprintf(cut->first_places[file].name, NAME_SIZE, "%.63s", entry->d_name);
		if (cut->is_dir[file]) {
			int fd = openat(dirfd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

			must(fd >= 0, entry->d_name);
			take(cut, file, fd);
			close(fd);
		} else if (cut->ignored == NULL || strcmp(entry->d_name, cut->ignored) != 0) {
			cut->first[file].bytes = tmpdir_get(dirfd, entry->d_name, &size);
			cut->first[file].size = size;
		}
		if (cut->database != NULL && strcmp(entry->d_name, cut->database) == 0) {
			cut->database_fd = openat(dirfd, entry->d_name, O_RDONLY | O_CLOEXEC);
			cut->database_file = file;
		}
	}
	closedir(dir);
}

struct powercut *powercut_start_store(int dirfd, const char *database, const char *ignored)
{
	struct powercut *cut = calloc(1, sizeof(*cut));

	must(cut != NULL, "powercut_start");
	recording = cut;
	pthread_mutex_init(&cut->lock, NULL);
	cut->database = database;
	cut->ignored = ignored;
	cut->database_fd = -1;
	for (unsigned i = 0; i < FILES_MAX; i++)
		cut->first_places[i].dir = FILES_MAX;
	new_file(inode_of(dirfd), true);
	take(cut, 0, dirfd);
	must((database == NULL) == (cut->database_fd < 0), "the database");
	cut->first_files = cut->files;
	cut->real = io;
	io = &io_recorder;
	return cut;
}

struct powercut *powercut_start(int dirfd)
{
	return powercut_start_store(dirfd, NULL, NULL);
}

void powercut_stop(struct powercut *cut)
{
	io = cut->real;
	pthread_mutex_lock(&cut->lock);
	cut->stopped = true;
	pthread_mutex_unlock(&cut->lock);
	if (cut->database_fd >= 0)
		close(cut->database_fd);
}

size_t powercut_count(const struct powercut *cut)
{
	size_t count;

	pthread_mutex_lock((pthread_mutex_t *)&cut->lock);
	if (recording == cut)
		copy_database(recording); /* what it committed before this moment */
	count = cut->count;
	pthread_mutex_unlock((pthread_mutex_t *)&cut->lock);
	return count;
}

void powercut_free(struct powercut *cut)
{
	if (recording == cut)
		recording = NULL;
	for (size_t i = 0; i < cut->count; i++)
		free(cut->changes[i].bytes);
	for (unsigned i = 0; i < cut->first_files; i++)
		free(cut->first[i].bytes);
	pthread_mutex_destroy(&cut->lock);
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
	if (size > 0)
		memcpy(image->bytes + pos, bytes, size);
}

static void clear(struct image *image, uint64_t pos, uint64_t size)
{
	if (pos < image->size)
		memset(image->bytes + pos, 0, size < image->size - pos ? size : image->size - pos);
}

static void apply(struct image *image, const struct change *change)
{
	if (change->kind == COPY) {
		image->size = 0;
		put(image, 0, change->bytes, change->size);
	} else if (change->kind == WRITE)
		put(image, change->pos, change->bytes, change->size);
	else if (change->kind == PUNCH)
		clear(image, change->pos, change->size);
	else
		resize(image, change->size);
}

/* Part of a write, within a sector. cache: the sector goes to the disk as it is there, with what was written to it before. */
static void put_part(struct image *image, uint64_t pos, const uint8_t *bytes, uint64_t size, const struct image *cache)
{
	uint64_t start = pos / SECTOR * SECTOR, end = start + SECTOR;

	if (cache != NULL)
		put(image, start, cache->bytes + start, (end < cache->size ? end : cache->size) - start);
	else
		put(image, pos, bytes, size);
}

/*
 * A write that was not synced: some of its sectors, or only room for them. cache: NULL, or the file as processes see it. False: what comes
 * after it is not there, either.
 */
static bool apply_some(
    struct image *image, const struct change *change, struct random *random, const struct image *cache)
{
	bool torn = random->seed > 1 && chance(random, 4);

	if (!torn) {
		if (chance(random, 2)) {
			if (cache != NULL && change->kind == WRITE) /* its first sector */
				put_part(image, change->pos, change->bytes, 0, cache);
			apply(image, change);
		} else if (random->seed > 1 && change->kind == WRITE && chance(random, 3) &&
			   change->pos + change->size > image->size)
			resize(image, change->pos + change->size);
		else if (cache != NULL && change->kind == TRUNCATE)
			return false; /* new blocks are not the file's before the old ones are gone */
		return true;
	}
	if (change->kind != WRITE)
		return cache == NULL || change->kind != TRUNCATE;
	for (uint64_t done = 0, part; done < change->size; done += part) {
		part = SECTOR - (change->pos + done) % SECTOR;
		if (part > change->size - done)
			part = change->size - done;
		if (chance(random, 2))
			put_part(image, change->pos + done, change->bytes + done, part, cache);
	}
	return true;
}

/* The index one past the last change of this kind (and file, for SYNC and SYNC_DIR) among the first n. */
static size_t last_of(const struct powercut *cut, size_t n, enum kind kind, unsigned file)
{
	while (n > 0 && (cut->changes[n - 1].kind != kind || cut->changes[n - 1].file != file))
		n--;
	return n;
}

/* The last name of a directory. */
static const char *name_of(const struct powercut *cut, unsigned dir)
{
	for (size_t i = cut->count; i > 0; i--)
		if (cut->changes[i - 1].kind == LINK && cut->changes[i - 1].file == dir)
			return cut->changes[i - 1].name;
	return dir < cut->first_files ? cut->first_places[dir].name : "";
}

/* A file that others write as they like, without checksums of sectors: it must not have what no disk can have. */
static bool is_raw(const struct powercut *cut, unsigned file)
{
	for (size_t i = 0; i < cut->count; i++) {
		unsigned dir = cut->changes[i].dir;

		if (cut->changes[i].kind == LINK && cut->changes[i].file == file && cut->is_dir[dir])
			return strcmp(name_of(cut, dir), "staging") == 0;
	}
	return file < cut->first_files && cut->first_places[file].dir < FILES_MAX &&
	       strcmp(name_of(cut, cut->first_places[file].dir), "staging") == 0;
}

static struct image make_file(const struct powercut *cut, size_t n, unsigned file, struct random *random)
{
	struct image image = { 0 }, cache = { 0 };
	bool raw = is_raw(cut, file);
	size_t synced = last_of(cut, n, SYNC, file);

	resize(&image, 0);
	resize(&cache, 0);
	if (file < cut->first_files) {
		put(&image, 0, cut->first[file].bytes, cut->first[file].size);
		put(&cache, 0, cut->first[file].bytes, cut->first[file].size);
	}
	for (size_t i = 0; i < n; i++) {
		const struct change *change = &cut->changes[i];

		if (change->file != file || (change->kind != WRITE && change->kind != TRUNCATE &&
						change->kind != PUNCH && change->kind != COPY))
			continue;
		if (raw)
			apply(&cache, change);
		if (i < synced || change->kind == COPY)
			apply(&image, change);
		else if (!apply_some(&image, change, random, raw ? &cache : NULL))
			break;
	}
	free(cache.bytes);
	return image;
}

/* Which names there are: those of the changes of each directory that come before named[directory]. */
static void make_names(const struct powercut *cut, size_t n, const size_t *named, struct place *places)
{
	memcpy(places, cut->first_places, sizeof(cut->first_places));
	for (size_t i = 0; i < n; i++) {
		const struct change *change = &cut->changes[i];

		if ((change->kind != LINK && change->kind != UNLINK) || i >= named[change->dir])
			continue;
		for (unsigned f = 0; f < cut->files; f++)
			if (places[f].dir == change->dir && !strcmp(places[f].name, change->name) &&
			    (change->kind == UNLINK || f != change->file))
				places[f].dir = FILES_MAX;
		if (change->kind == LINK) {
			places[change->file].dir = change->dir;
			memcpy(places[change->file].name, change->name, NAME_SIZE);
		}
	}
}

struct making {
	const struct powercut *cut;
	size_t n;
	struct random random;
	uint64_t hash;
	struct place places[FILES_MAX];
};

static void add_hash(uint64_t *hash, const void *bytes, uint64_t size)
{
	const uint8_t *p = bytes;
	uint64_t word;

	for (*hash ^= size; size > 0; p += 8) {
		word = 0;
		memcpy(&word, p, size < 8 ? size : 8);
		*hash = (*hash ^ word) * 0x9e3779b97f4a7c15ull;
		*hash ^= *hash >> 29;
		size -= size < 8 ? size : 8;
	}
}

/* Where nothing was ever written, or was punched out again, a file has no blocks. */
static void make_holes(int dirfd, const char *name, const struct image *image)
{
	static const uint8_t zeros[PAGE];
	int fd = openat(dirfd, name, O_WRONLY | O_CLOEXEC);

	must(fd >= 0, name);
	for (uint64_t pos = 0; pos + PAGE <= image->size; pos += PAGE)
		if (memcmp(image->bytes + pos, zeros, PAGE) == 0)
			must(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)pos, PAGE), "fallocate");
	close(fd);
}

/* What is in directory `dir`, and below it. */
static void make_dir(struct making *m, unsigned dir, int to_dirfd)
{
	for (unsigned file = 1; file < m->cut->files; file++) {
		struct image image;

		if (m->places[file].dir != dir)
			continue;
		add_hash(&m->hash, m->places[file].name, strlen(m->places[file].name) + 1);
		if (m->cut->is_dir[file]) {
			int fd;

			must(!mkdirat(to_dirfd, m->places[file].name, 0700), "mkdirat");
			fd = openat(to_dirfd, m->places[file].name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			must(fd >= 0, "openat");
			make_dir(m, file, fd);
			close(fd);
			continue;
		}
		image = make_file(m->cut, m->n, file, &m->random);
		add_hash(&m->hash, image.bytes, image.size);
		tmpdir_put(to_dirfd, m->places[file].name, image.bytes, image.size);
		if (is_raw(m->cut, file))
			make_holes(to_dirfd, m->places[file].name, &image);
		free(image.bytes);
	}
}

uint64_t powercut_make(const struct powercut *cut, size_t n, uint64_t seed, int to_dirfd)
{
	static struct making m;
	static size_t named[FILES_MAX];

	m = (struct making){ .cut = cut, .n = n, .random = { seed, seed * 0x9e3779b97f4a7c15ull + 1 } };
	for (unsigned dir = 0; dir < cut->files; dir++) {
		named[dir] = last_of(cut, n, SYNC_DIR, dir);
		while (cut->is_dir[dir] && named[dir] < n && !(seed > 1 && chance(&m.random, 8)) && seed != 0)
			named[dir]++;
	}
	make_names(cut, n, named, m.places);
	make_dir(&m, 0, to_dirfd);
	return m.hash;
}

void powercut_kill(const struct powercut *cut, size_t n, int to_dirfd)
{
	powercut_make(cut, n, 1, to_dirfd);
}
