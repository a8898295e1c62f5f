/*
 * store_guard - FORMAT, lock and file system of a store. See store_guard.h.
 *
 * FORMAT is one line of text, so that whoever finds the directory can read what it is:
 *
 *	mqfs store, format 1, 123e4567-e89b-42d3-a456-426614174000
 *
 * The lock is flock's on an open file, so it ends with the process, and a pid left in it by a dead one does no harm.
 * To raise the format: raise STORE_FORMAT, go on opening the older ones, say so in mqfs-format(5).
 */
#include "engine/store_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "engine/io.h"

#define FORMAT_START "mqfs store, format "
#define FORMAT_SIZE 128u /* more than a line of FORMAT has */

/* --------------------------------------------------------------------------------------------------- FORMAT */

int store_write_format(int dirfd, const uint8_t uuid[16])
{
	char text[FORMAT_SIZE];
	int n;

	n = snprintf(text, sizeof(text), FORMAT_START "%u, ", STORE_FORMAT);
	for (int i = 0; i < 16; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%s%02x",
		    i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
	n += snprintf(text + n, sizeof(text) - (size_t)n, "\n");
	return io_write_file(dirfd, STORE_FORMAT_NAME, text, (size_t)n);
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx\n" and nothing after it. */
static bool parse_uuid(const char *text, uint8_t ret_uuid[16])
{
	for (int i = 0; i < 16; i++) {
		if ((i == 4 || i == 6 || i == 8 || i == 10) && *text++ != '-')
			return false;
		int high = hex_digit(text[0]), low = high < 0 ? -1 : hex_digit(text[1]);

		if (low < 0)
			return false;
		ret_uuid[i] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	return strcmp(text, "\n") == 0;
}

/* The number in it, 0: there is none; and what follows. */
static unsigned long format_of(const char *text, char **ret_end)
{
	const char *digits = text + strlen(FORMAT_START);

	if (strncmp(text, FORMAT_START, strlen(FORMAT_START)) != 0 || *digits < '1' || *digits > '9')
		return 0;
	return strtoul(digits, ret_end, 10);
}

static int parse_format(const char *text, const char *path, uint8_t ret_uuid[16])
{
	char *end = NULL;
	unsigned long format = format_of(text, &end);
	uint8_t uuid[16];

	if (format > STORE_FORMAT)
		return engine_explain(-EUCLEAN, "the store at %s is of format %lu, and this program knows up to %u",
		    path, format, STORE_FORMAT);
	if (format == 0 || strncmp(end, ", ", 2) != 0 || !parse_uuid(end + 2, uuid))
		return engine_explain(-EUCLEAN,
		    "%s/%s is damaged, or not that of a store; fsck.mqfs -y makes one anew if the rest says which "
		    "store it is",
		    path, STORE_FORMAT_NAME);
	memcpy(ret_uuid, uuid, sizeof(uuid));
	return 0;
}

/* Its text, with NUL. ENOENT. */
static int read_text(int dirfd, char text[FORMAT_SIZE])
{
	int fd = io_open_existing(dirfd, STORE_FORMAT_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n = fd;

	if (fd >= 0) {
		n = io->pread(fd, text, FORMAT_SIZE - 1, 0);
		close(fd);
	}
	if (n == -EISDIR || n == -ELOOP || n == -ENXIO || n == -ESPIPE)
		n = 0; /* a thing of another kind: no FORMAT of ours */
	if (n < 0)
		return (int)n;
	text[n] = '\0';
	return 0;
}

int store_read_format(int dirfd, const char *path, uint8_t ret_uuid[16])
{
	char text[FORMAT_SIZE];
	int err = read_text(dirfd, text);

	if (err == -ENOENT)
		return err;
	if (err)
		return engine_explain(err, "%s/%s cannot be read: %s", path, STORE_FORMAT_NAME, strerror(-err));
	return parse_format(text, path, ret_uuid);
}

bool store_format_is_newer(int dirfd)
{
	char text[FORMAT_SIZE];

	return read_text(dirfd, text) == 0 && format_of(text, NULL) > STORE_FORMAT;
}

/* ---------------------------------------------------------------------------------------------------- lock */

/* The pid its holder left in the lock file; 0 if there is none. */
static long holder_of(int fd)
{
	char text[24];
	ssize_t n = io->pread(fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return 0;
	text[n] = '\0';
	return strtol(text, NULL, 10);
}

/* Takes the flock. fd is closed on failure. */
static int take_lock(int fd, int how, const char *path)
{
	long pid;
	int err;

	if (flock(fd, how | LOCK_NB) == 0)
		return 0;
	err = errno;
	pid = holder_of(fd);
	close(fd);
	if (err != EWOULDBLOCK)
		return engine_explain(-err, "the store at %s cannot be locked: %s", path, strerror(err));
	if (pid <= 0)
		return engine_explain(-EBUSY, "the store at %s is in use by another process", path);
	return engine_explain(-EBUSY, "the store at %s is in use by process %ld", path, pid);
}

int store_lock(int dirfd, const char *path, int *ret_fd)
{
	char text[24];
	int fd, n, err;

	fd = io->open(dirfd, STORE_LOCK_NAME, O_RDWR | O_CREAT, 0600);
	if (fd < 0)
		return engine_explain(fd, "%s/%s cannot be opened: %s", path, STORE_LOCK_NAME, strerror(-fd));
	err = take_lock(fd, LOCK_EX, path);
	if (err)
		return err;
	n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	err = io_pwrite_all(fd, text, (size_t)n, 0);
	if (!err)
		err = io->ftruncate(fd, n);
	if (err) {
		close(fd);
		return engine_explain(err, "%s/%s cannot be written: %s", path, STORE_LOCK_NAME, strerror(-err));
	}
	*ret_fd = fd;
	return 0;
}

int store_lock_shared(int dirfd, const char *path, int *ret_fd)
{
	int fd, err;

	fd = io_open_existing(dirfd, STORE_LOCK_NAME, O_RDONLY | O_NOFOLLOW);
	if (fd < 0 && fd != -ENOENT)
		return engine_explain(fd, "%s/%s cannot be opened: %s", path, STORE_LOCK_NAME, strerror(-fd));
	if (fd >= 0) {
		err = take_lock(fd, LOCK_SH, path);
		if (err)
			return err;
	}
	*ret_fd = fd;
	return 0;
}

/* --------------------------------------------------------------------------------------------- file system */

/* The numbers are those of statfs(2). */
static const struct {
	uint32_t magic;
	const char *name;
} remote_fs[] = {
	{ 0x6969, "NFS" },
	{ 0x517b, "SMB" },
	{ 0xff534d42, "CIFS" },
	{ 0xfe534d42, "SMB2" },
	{ 0x65735546, "FUSE" },
	{ 0x01021997, "9p" },
	{ 0x00c36400, "Ceph" },
	{ 0x5346414f, "AFS" },
	{ 0x6b414653, "AFS" },
	{ 0x73757245, "Coda" },
	{ 0x0bd00bd0, "Lustre" },
};

int store_check_fs(int dirfd, const char *path)
{
	struct statfs fs;

	if (fstatfs(dirfd, &fs) < 0)
		return engine_explain(-errno, "the file system of %s cannot be looked at: %s", path, strerror(errno));
	for (size_t i = 0; i < sizeof(remote_fs) / sizeof(remote_fs[0]); i++) {
		if ((uint32_t)fs.f_type == remote_fs[i].magic)
			return engine_explain(-ENOTSUP,
			    "%s is on %s, where a store cannot be: it needs a local disk's locks and syncs", path,
			    remote_fs[i].name);
	}
	return 0;
}
