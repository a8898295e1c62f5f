/*
 * journal - appending to the journal, syncing it, and beginning and dropping its files.
 *
 * Format: journal_internal.h; reading: journal_replay.c. An append is one pwritev into the newest file and costs no
 * allocation. The file's disk space is allocated ahead, so that acks still work on a full disk, and what was not used is
 * given back when the next file begins, which then has room for its header.
 * While somebody syncs, zeros are written ahead too: a sync of what overwrites them changes the file's bytes only, and costs
 * a third less.
 *
 * Two locks, always taken in this order: `sync_lock` is held by whoever syncs or changes the list of files, `lock` by
 * whoever appends, and for moments by the others; so appends go on while the disk is syncing. Who comes to sync_lock
 * while another syncs finds, most of the time, that the next sync covers several: one disk sync answers them all.
 *
 * A sync that failed is final. The kernel may have dropped the pages it could not write and would call the next sync a
 * success, so from then on nothing is appended, and what is not known to be on disk never will be said to be.
 */
#include "engine/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/crc32c.h"
#include "engine/failpoint.h"
#include "engine/io.h"
#include "engine/journal_internal.h"

#define ALLOCATE (1u << 20)     /* allocated at a time: about 18,000 acks */
#define ALLOCATE_AT (64u << 10) /* left when more is allocated */
#define ZEROS (256u << 10)      /* written ahead at a time, where there was a sync since the last time */
#define ZEROS_AT (8u << 10)     /* left when more are written */

struct journal {
	int dirfd;
	bool read_only;
	struct engine_notify notify;
	uint8_t store_uuid[16];

	pthread_mutex_t sync_lock; /* before lock */
	pthread_mutex_t lock;
	int fd;               /* both to change, either to read: the newest file; -1 if read-only */
	uint64_t number;      /* both to change: of that file */
	uint32_t seed;        /* lock */
	uint64_t file_end;    /* lock: where the next record goes */
	uint64_t allocated;   /* lock: bytes of the file with disk space; UINT64_MAX if that cannot be had */
	uint64_t zeroed;      /* lock: bytes of the file that were written, zeros included */
	bool wants_zeros;     /* lock: there was a sync since zeros were written */
	uint64_t end, synced; /* lock: positions */
	bool failed;          /* lock: a sync, or the undoing of an append, has failed */
};

/* --------------------------------------------------------------------------------------------------- files */

/* Allocates ahead of file_end if little is left; without it the journal works, too. */
static void allocate(struct journal *journal)
{
	int err;

	if (journal->allocated >= journal->file_end + ALLOCATE_AT)
		return;
	err = io->fallocate(journal->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)(journal->file_end + ALLOCATE));
	if (!err)
		journal->allocated = journal->file_end + ALLOCATE;
	else if (err == -EOPNOTSUPP || err == -ENOSYS)
		journal->allocated = UINT64_MAX;
}

/* Writes zeros ahead of file_end if few are left. Only into space that is allocated: they must not take the last there is. */
static void write_zeros(struct journal *journal, size_t bytes)
{
	static const uint8_t zeros[ZEROS];
	uint64_t from = journal->zeroed > journal->file_end ? journal->zeroed : journal->file_end;
	uint64_t to = from + ZEROS < journal->allocated ? from + ZEROS : journal->allocated;

	if (!journal->wants_zeros || journal->allocated == UINT64_MAX ||
	    journal->zeroed >= journal->file_end + bytes + ZEROS_AT)
		return;
	journal->wants_zeros = false;
	if (to > from && !io_pwrite_all(journal->fd, zeros, (size_t)(to - from), (off_t)from))
		journal->zeroed = to;
}

static int write_header(const struct journal *journal, int fd, uint64_t number)
{
	uint8_t header[JOURNAL_HEADER] = JOURNAL_MAGIC;

	bytes_put32(header + 8, JOURNAL_FORMAT);
	memcpy(header + 16, journal->store_uuid, sizeof(journal->store_uuid));
	bytes_put64(header + 32, number);
	bytes_put32(header + 60, crc32c(0, header, 60));
	return io_pwrite_all(fd, header, sizeof(header), 0);
}

/* Makes file `number` with its header, durable. Returns its descriptor. */
static int make_file(const struct journal *journal, uint64_t number)
{
	char name[JOURNAL_NAME_SIZE];
	int fd, err;

	journal_file_name(name, number);
	fd = io->open(journal->dirfd, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return fd;
	err = write_header(journal, fd, number);
	if (!err)
		err = io->fdatasync(fd);
	if (!err)
		err = io->fsync(journal->dirfd);
	if (!err)
		return fd;
	close(fd);
	io->unlink(journal->dirfd, name, 0);
	return err;
}

/* Has the file system not one file more, be there room or not? */
static bool lacks_files(int dirfd)
{
	struct statvfs vfs;

	return fstatvfs(dirfd, &vfs) == 0 && vfs.f_files > 0 && (geteuid() == 0 ? vfs.f_ffree : vfs.f_favail) == 0;
}

/*
 * The last file there is, to go on in behind its last record, where no other can be made. Its descriptor; its header is whole, and what was no record behind
 * that is gone.
 */
static int reopen_file(const struct journal *journal, uint64_t number, uint64_t end)
{
	char name[JOURNAL_NAME_SIZE];
	int fd, err;

	journal_file_name(name, number);
	fd = io_open_existing(journal->dirfd, name, O_WRONLY | O_NOFOLLOW);
	if (fd < 0)
		return fd;
	err = write_header(journal, fd, number);
	if (!err)
		err = io->ftruncate(fd, (off_t)end);
	if (!err)
		err = io->fdatasync(fd);
	if (!err)
		return fd;
	close(fd);
	return err;
}

/* Goes on in the file of this descriptor, at end. Both locks held, or nobody else has the journal. */
static void use_file(struct journal *journal, int fd, uint64_t number, uint64_t end)
{
	journal->fd = fd;
	journal->number = number;
	journal->seed = journal_seed(journal->store_uuid, number);
	journal->file_end = end;
	journal->allocated = 0;
	journal->zeroed = end;
	allocate(journal);
}

/* After a kill what was written last may not be on the disk; what comes next, and is synced, goes on from it. */
static void sync_old(const struct journal_replay *how, const char *name)
{
	int fd = io->open(how->dirfd, name, O_WRONLY | O_CLOEXEC, 0), err = fd < 0 ? fd : io->fdatasync(fd);

	if (err && how->notify.fn != NULL)
		how->notify.fn(how->notify.ctx, -err, "a file of the journal cannot be synced");
	if (fd >= 0)
		close(fd);
}

/* What replay_all() found. */
struct found {
	uint64_t last;     /* the highest number there was */
	uint64_t end;      /* of that file: behind its last record; 0: there is no such file, or it cannot be read */
	uint64_t *empties; /* numbers of files without records; to be freed */
	size_t count;
};

/*
 * Replays all files from a number on. That number is of a file which was whole on the disk before the catalog named it, and since
 * then there has always been one: where there is none, what it said is lost.
 */
static int replay_all(const struct journal_replay *how, bool read_only, struct found *ret_found)
{
	uint64_t *numbers, last = how->from > 0 ? how->from - 1 : 0;
	size_t count, empties = 0;
	uint64_t end = 0;
	int err;

	err = journal_list(how->dirfd, &numbers, &count);
	if (err)
		return engine_explain(err, "the journal cannot be listed: %s", strerror(-err));
	for (size_t i = 0; i < count && !err; i++) {
		char name[JOURNAL_NAME_SIZE];

		if (numbers[i] < how->from)
			continue;
		last = numbers[i];
		err = journal_replay_file(how, last, &end);
		journal_file_name(name, last);
		if (!err && end == JOURNAL_HEADER)
			numbers[empties++] = last;
		else if (!err && !read_only)
			sync_old(how, name);
	}
	if (err) {
		free(numbers);
		return err;
	}
	if (how->from > 0 && last < how->from && how->notify.fn != NULL)
		how->notify.fn(how->notify.ctx, EIO,
		    "the journal is lost: what was acknowledged or leased since the last checkpoint may come again");
	*ret_found = (struct found){ .last = last, .end = end, .empties = numbers, .count = empties };
	return 0;
}

/* When there is a new one. */
static void remove_empties(int dirfd, const struct found *found, uint64_t in_use)
{
	for (size_t i = 0; i < found->count; i++) {
		char name[JOURNAL_NAME_SIZE];

		if (found->empties[i] == in_use)
			continue;
		journal_file_name(name, found->empties[i]);
		io->unlink(dirfd, name, 0); /* if not, then the next time */
	}
}

/* --------------------------------------------------------------------------------------- opening, closing */

/* A file to write to: a new one, as it is not known what a crash left of the last one on disk; or that, if there can be none. */
static int begin(struct journal *journal, const struct found *found)
{
	int fd = make_file(journal, found->last + 1);

	if (fd >= 0) {
		use_file(journal, fd, found->last + 1, JOURNAL_HEADER);
		return 0;
	}
	if ((fd == -ENOSPC || fd == -EDQUOT) && found->end > 0 && lacks_files(journal->dirfd)) {
		fd = reopen_file(journal, found->last, found->end);
		if (fd >= 0) {
			use_file(journal, fd, found->last, found->end);
			return 0;
		}
	}
	return engine_explain(fd, "the journal cannot begin a file: %s", strerror(-fd));
}

int journal_open(int dirfd, const uint8_t store_uuid[16], bool read_only, uint64_t from, struct engine_notify notify,
    int (*replay)(void *ctx, enum journal_type type, const void *record, size_t size), void *ctx,
    struct journal **ret_journal)
{
	struct journal_replay how = {
		.dirfd = dirfd, .store_uuid = store_uuid, .from = from, .notify = notify, .replay = replay, .ctx = ctx
	};
	struct found found = { 0 };
	struct journal *journal;
	int err;

	journal = calloc(1, sizeof(*journal));
	if (journal == NULL)
		return -ENOMEM;
	journal->dirfd = dirfd;
	journal->read_only = read_only;
	journal->notify = notify;
	journal->fd = -1;
	memcpy(journal->store_uuid, store_uuid, sizeof(journal->store_uuid));
	err = replay_all(&how, read_only, &found);
	if (err)
		goto err_after_new;
	if (!read_only) {
		err = begin(journal, &found);
		if (err)
			goto err_after_new;
		remove_empties(dirfd, &found, journal->number);
	}
	free(found.empties);
	pthread_mutex_init(&journal->sync_lock, NULL);
	pthread_mutex_init(&journal->lock, NULL);
	*ret_journal = journal;
	return 0;

err_after_new:
	free(found.empties);
	free(journal);
	return err;
}

int journal_close(struct journal *journal)
{
	int err = 0;

	if (journal == NULL)
		return 0;
	if (!journal->read_only) {
		err = journal_sync(journal);
		io->ftruncate(journal->fd, (off_t)journal->file_end); /* gives the allocated space back */
		close(journal->fd);
	}
	pthread_mutex_destroy(&journal->lock);
	pthread_mutex_destroy(&journal->sync_lock);
	free(journal);
	return err;
}

/* ------------------------------------------------------------------------------------------------- appending */

static int append_locked(struct journal *journal, uint32_t type, const void *record, size_t size)
{
	static const uint8_t padding[8];
	size_t bytes = journal_record_bytes(size), pad = bytes - JOURNAL_RECORD_HEADER - size;
	uint8_t header[JOURNAL_RECORD_HEADER];
	struct iovec iov[] = {
		{ .iov_base = header, .iov_len = sizeof(header) },
		{ .iov_base = (void *)(uintptr_t)record, .iov_len = size },
		{ .iov_base = (void *)(uintptr_t)padding, .iov_len = pad },
	};
	uint32_t crc;
	int err;

	allocate(journal);
	write_zeros(journal, bytes);
	bytes_put32(header + 4, type | (uint32_t)size << 16);
	crc = crc32c(journal->seed, header + 4, 4);
	crc = crc32c(crc, record, size);
	bytes_put32(header, crc32c(crc, padding, pad));
	err = io_pwritev_all(journal->fd, iov, pad ? 3 : 2, (off_t)journal->file_end);
	if (err) {
		/* What was written of it must not stay: a shorter record may come there, and the rest look like damage. */
		if (io->ftruncate(journal->fd, (off_t)journal->file_end))
			journal->failed = true;
		journal->allocated = 0;
		journal->zeroed = journal->file_end;
		return err;
	}
	journal->file_end += bytes;
	journal->end += bytes;
	return 0;
}

int journal_append(struct journal *journal, enum journal_type type, const void *record, size_t size, uint64_t *ret_pos)
{
	int err;

	if (size > JOURNAL_RECORD_MAX)
		return -EMSGSIZE;
	if ((uint32_t)type == 0 || (uint32_t)type > JOURNAL_TYPE_MAX)
		return -EINVAL;
	if (journal->read_only)
		return engine_explain(-EROFS, "the store is open read-only");
	pthread_mutex_lock(&journal->lock);
	if (journal->failed)
		err = engine_explain(-EROFS, "the journal failed to reach the disk and takes no more");
	else
		err = append_locked(journal, (uint32_t)type, record, size);
	if (!err && ret_pos != NULL)
		*ret_pos = journal->end;
	pthread_mutex_unlock(&journal->lock);
	return err;
}

int journal_append_cursor(struct journal *journal, const struct journal_cursor *cursor, uint64_t *ret_pos)
{
	uint8_t record[JOURNAL_CURSOR_BYTES] = { 0 };

	bytes_put64(record, cursor->group_id);
	bytes_put64(record + 8, cursor->committed);
	bytes_put64(record + 16, cursor->given);
	bytes_put64(record + 24, cursor->lost);
	bytes_put32(record + 32, cursor->partition);
	return journal_append(journal, JOURNAL_CURSOR, record, sizeof(record), ret_pos);
}

int journal_decode_cursor(const void *record, size_t size, struct journal_cursor *ret_cursor)
{
	const uint8_t *bytes = record;

	if (size != JOURNAL_CURSOR_BYTES)
		return -EBADMSG;
	*ret_cursor = (struct journal_cursor){
		.group_id = bytes_get64(bytes),
		.committed = bytes_get64(bytes + 8),
		.given = bytes_get64(bytes + 16),
		.lost = bytes_get64(bytes + 24),
		.partition = bytes_get32(bytes + 32),
	};
	return 0;
}

/* --------------------------------------------------------------------------------------------------- syncing */

/* Notes how the sync of `fd`, which covers all below `end`, went. sync_lock held. */
static int sync_file(struct journal *journal, int fd, uint64_t end)
{
	int err = io->fdatasync(fd);

	pthread_mutex_lock(&journal->lock);
	if (err)
		journal->failed = true;
	else
		journal->synced = end;
	journal->wants_zeros = true;
	pthread_mutex_unlock(&journal->lock);
	return err;
}

/* The end of all records; EIO if the journal has failed before. */
static int sync_target(struct journal *journal, uint64_t *ret_end)
{
	bool failed;

	pthread_mutex_lock(&journal->lock);
	*ret_end = journal->end;
	failed = journal->failed;
	pthread_mutex_unlock(&journal->lock);
	return failed ? engine_explain(-EIO, "the journal failed to reach the disk") : 0;
}

/* Tells of a sync that failed. No lock held. */
static int sync_failed(struct journal *journal, int err)
{
	static const char text[] = "the journal failed to reach the disk: it takes no more";

	if (journal->notify.fn != NULL)
		journal->notify.fn(journal->notify.ctx, -err, text);
	return engine_explain(-EIO, "the journal failed to reach the disk: %s", strerror(-err));
}

int journal_sync(struct journal *journal)
{
	uint64_t wanted, end;
	int err;

	if (journal->read_only)
		return 0;
	err = sync_target(journal, &wanted);
	if (err)
		return err;
	pthread_mutex_lock(&journal->sync_lock);
	err = sync_target(journal, &end);
	if (err || journal_synced(journal) >= wanted) {
		pthread_mutex_unlock(&journal->sync_lock);
		return err;
	}
	err = sync_file(journal, journal->fd, end);
	pthread_mutex_unlock(&journal->sync_lock);
	return err ? sync_failed(journal, err) : 0;
}

uint64_t journal_end(struct journal *journal)
{
	uint64_t end;

	pthread_mutex_lock(&journal->lock);
	end = journal->end;
	pthread_mutex_unlock(&journal->lock);
	return end;
}

uint64_t journal_synced(struct journal *journal)
{
	uint64_t synced;

	pthread_mutex_lock(&journal->lock);
	synced = journal->synced;
	pthread_mutex_unlock(&journal->lock);
	return synced;
}

/* ------------------------------------------------------------------------------------------------ checkpoints */

/* Gives back what is allocated beyond the end, and allocates no more (allocated: 0 to begin again). sync_lock held. */
static void stop_allocating(struct journal *journal)
{
	pthread_mutex_lock(&journal->lock);
	io->ftruncate(journal->fd, (off_t)journal->file_end);
	journal->allocated = UINT64_MAX;
	journal->zeroed = journal->file_end;
	pthread_mutex_unlock(&journal->lock);
}

/* Begins the next file. Returns the descriptor of the one before, and the position where that ends. sync_lock held. */
static int begin_file(struct journal *journal, uint64_t *ret_end)
{
	int fd, old_fd;

	stop_allocating(journal);
	fd = make_file(journal, journal->number + 1);
	pthread_mutex_lock(&journal->lock);
	if (fd < 0) {
		journal->allocated = 0;
		old_fd = fd;
	} else {
		old_fd = journal->fd;
		*ret_end = journal->end;
		use_file(journal, fd, journal->number + 1, JOURNAL_HEADER);
	}
	pthread_mutex_unlock(&journal->lock);
	return old_fd;
}

int journal_rotate(struct journal *journal, uint64_t *ret_number)
{
	uint64_t end;
	int fd, err;

	if (journal->read_only)
		return engine_explain(-EROFS, "the store is open read-only");
	pthread_mutex_lock(&journal->sync_lock);
	err = sync_target(journal, &end);
	if (err) {
		err = -EROFS;
		goto out_unlock;
	}
	fd = FAILPOINT("journal_before_file");
	if (fd == 0)
		fd = begin_file(journal, &end);
	CRASHPOINT("journal_after_file");
	if (fd < 0) {
		err = engine_explain(fd, "the journal cannot begin a file: %s", strerror(-fd));
		goto out_unlock;
	}
	err = sync_file(journal, fd, end);
	close(fd);
	if (err) {
		pthread_mutex_unlock(&journal->sync_lock);
		return sync_failed(journal, err);
	}
	*ret_number = journal->number;
out_unlock:
	pthread_mutex_unlock(&journal->sync_lock);
	return err;
}

/* Oldest first: a crash in between leaves the newest, as if fewer had been dropped. sync_lock held. */
static int drop_files(struct journal *journal, uint64_t number)
{
	uint64_t *numbers;
	size_t count;
	int err;

	err = journal_list(journal->dirfd, &numbers, &count);
	if (err)
		return err;
	for (size_t i = 0; i < count && numbers[i] < number && numbers[i] < journal->number && !err; i++) {
		char name[JOURNAL_NAME_SIZE];

		journal_file_name(name, numbers[i]);
		err = io->unlink(journal->dirfd, name, 0);
		CRASHPOINT("journal_after_unlink");
	}
	free(numbers);
	return err ? err : io->fsync(journal->dirfd);
}

int journal_drop(struct journal *journal, uint64_t number)
{
	int err;

	if (journal->read_only)
		return engine_explain(-EROFS, "the store is open read-only");
	pthread_mutex_lock(&journal->sync_lock);
	err = drop_files(journal, number);
	pthread_mutex_unlock(&journal->sync_lock);
	return err;
}

int journal_oldest(int dirfd, uint64_t *ret_number)
{
	uint64_t *numbers;
	size_t count;
	int err = journal_list(dirfd, &numbers, &count);

	if (err)
		return err;
	if (count > 0)
		*ret_number = numbers[0];
	free(numbers);
	return count > 0 ? 0 : -ENODATA;
}
