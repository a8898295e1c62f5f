/*
 * Tests of engine/store: what is opened, made, locked and refused; and that no crash leaves a store that cannot be had.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/catalog.h"
#include "engine/io.h"
#include "engine/store.h"
#include "tests/lib/alloc.h"
#include "tests/lib/fault.h"
#include "tests/lib/nosync.h"
#include "tests/lib/powercut.h"
#include "tests/lib/tmpdir.h"

static const struct engine_owner owner = { .uid = 5, .gid = 6, .mode = 0755 };
static struct tmpdir dir;
static char path[PATH_MAX + 8]; /* of the store that most tests make */

/* What fstatfs() answers; 0: the truth. The engine's calls come here, since a program's functions go before a library's. */
static long fs_type;

/* Calls that fail on no file system that a test has: with this errno; 0: not. */
static struct {
	int fstatfs, flock, fchmod, getrandom;
} fails;

static bool fails_with(int err)
{
	if (err != 0)
		errno = err;
	return err != 0;
}

int fstatfs(int fd, struct statfs *buf)
{
	long rc = syscall(SYS_fstatfs, fd, buf);

	if (rc == 0 && fs_type != 0)
		buf->f_type = fs_type;
	return fails_with(fails.fstatfs) ? -1 : (int)rc;
}

int flock(int fd, int operation)
{
	return fails_with(fails.flock) ? -1 : (int)syscall(SYS_flock, fd, operation);
}

int fchmod(int fd, mode_t mode)
{
	return fails_with(fails.fchmod) ? -1 : (int)syscall(SYS_fchmod, fd, mode);
}

ssize_t getrandom(void *buf, size_t size, unsigned flags)
{
	return syscall(SYS_getrandom, buf, fails.getrandom ? size / 2 : size, flags);
}

static void init(void)
{
	tmpdir_make(&dir);
	snprintf(path, sizeof(path), "%s/store", dir.path);
}

static void fini(void)
{
	io = &io_posix;
	fs_type = 0;
	memset(&fails, 0, sizeof(fails));
	cr_assert_eq(chdir("/"), 0);
	tmpdir_remove(&dir);
}

TestSuite(store, .init = init, .fini = fini, .timeout = 60);

/* Opens, looks whether it is whole, and closes; the uuid is for comparing. */
static int try_store(const char *at, bool create, uint8_t ret_uuid[16])
{
	struct catalog *catalog;
	struct store store;
	int err = store_open(at, create, false, &owner, &store);

	if (err)
		return err;
	memcpy(ret_uuid, store.uuid, 16);
	err = catalog_open(store.dirfd, false, &catalog);
	if (!err)
		catalog_close(catalog);
	store_close(&store);
	return err;
}

static void expect_refusal(const char *at, bool create, int err, const char *word)
{
	struct store store = { .dirfd = 77 };

	cr_assert_eq(store_open(at, create, false, &owner, &store), err, "%s", engine_reason());
	cr_assert_not_null(strstr(engine_reason(), word), "reason: %s", engine_reason());
	cr_assert_eq(store.dirfd, 77);
}

static mode_t mode_of(const char *name)
{
	struct stat st;

	cr_assert_eq(fstatat(dir.fd, name, &st, 0), 0, "%s", name);
	return st.st_mode & 07777;
}

static size_t count_names(const char *at)
{
	DIR *d = opendir(at);
	size_t n = 0;

	cr_assert_not_null(d);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n - 2;
}

/* A store is made where nothing is, whole, for its owner's eyes only whatever the umask, and opened again as the same. */
Test(store, makes_and_reopens)
{
	static const char *const parts[] = { "store", "store/logs", "store/journal", "store/spool" };
	uint8_t first[16], second[16];
	char format[128] = { 0 };
	int fd;

	umask(0277);
	cr_assert_eq(try_store(path, true, first), 0, "%s", engine_reason());
	umask(0);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		cr_assert_eq(mode_of(parts[i]), 0700, "%s", parts[i]);
	cr_assert_eq(mode_of("store/catalog") & 077, 0);
	cr_assert_eq(try_store(path, true, second), 0);
	cr_assert_eq(memcmp(first, second, 16), 0);
	cr_assert_eq(try_store(path, false, second), 0);
	cr_assert_eq(memcmp(first, second, 16), 0);
	cr_assert_eq(count_names(dir.path), 1); /* nothing aside */
	fd = openat(dir.fd, "store/FORMAT", O_RDONLY);
	cr_assert_gt(read(fd, format, sizeof(format) - 1), 0);
	close(fd);
	cr_assert_eq(strncmp(format, "mqfs store, format 1, ", 22), 0, "%s", format);
	cr_assert_eq(strlen(format), 22 + 36 + 1);
	cr_assert_eq(first[6] >> 4, 4);
}

/* Two stores have two uuids. */
Test(store, gives_each_its_uuid)
{
	uint8_t first[16], second[16];
	char other[PATH_MAX + 8];

	snprintf(other, sizeof(other), "%s/other", dir.path);
	cr_assert_eq(try_store(path, true, first), 0);
	cr_assert_eq(try_store(other, true, second), 0);
	cr_assert_neq(memcmp(first, second, 16), 0);
}

/* Paths may be relative, end in slashes, or lead through a link. */
Test(store, takes_any_form_of_path)
{
	uint8_t uuid[16], again[16];

	cr_assert_eq(chdir(dir.path), 0);
	cr_assert_eq(try_store("store///", true, uuid), 0);
	cr_assert_eq(try_store("./store", false, again), 0);
	cr_assert_eq(symlink("store", "link"), 0);
	cr_assert_eq(try_store("link", false, again), 0);
	cr_assert_eq(try_store("link/", false, again), 0);
	cr_assert_eq(chdir("store"), 0);
	cr_assert_eq(try_store(".", false, again), 0);
	cr_assert_eq(memcmp(uuid, again, 16), 0);
	cr_assert_eq(mkdir("deeper", 0700), 0);
	cr_assert_eq(try_store("deeper/../../new/", true, again), 0);
}

/* What is no store, and cannot become one, is refused with a sentence. */
Test(store, refuses_what_is_no_store)
{
	char long_path[PATH_MAX + 2], at[PATH_MAX + 256];
	int fd;

	expect_refusal("", true, -ENOENT, "empty");
	expect_refusal(path, false, -ENOENT, "no store");
	snprintf(at, sizeof(at), "%s/no/such/parent", dir.path);
	expect_refusal(at, true, -ENOENT, "parent");
	memset(long_path, 'x', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = '\0';
	expect_refusal(long_path, true, -ENAMETOOLONG, "too long");
	snprintf(at, sizeof(at), "%s/%.250s", dir.path, long_path);
	expect_refusal(at, true, -ENAMETOOLONG, "too long");
	fd = openat(dir.fd, "file", O_WRONLY | O_CREAT, 0600);
	close(fd);
	snprintf(at, sizeof(at), "%s/file", dir.path);
	expect_refusal(at, true, -ENOTDIR, "not a directory");
	snprintf(at, sizeof(at), "%s/file/store", dir.path);
	expect_refusal(at, true, -ENOTDIR, "directory");
	expect_refusal(dir.path, true, -ENOTEMPTY, "file");
	cr_assert_eq(count_names(dir.path), 1);
	cr_assert_eq(unlinkat(dir.fd, "file", 0), 0);
	expect_refusal(dir.path, false, -ENOENT, "no store");
	cr_assert_eq(count_names(dir.path), 0);
}

/* An empty directory, with or without lost+found, is filled; then it is private. */
Test(store, fills_an_empty_directory)
{
	uint8_t uuid[16];

	cr_assert_eq(mkdirat(dir.fd, "store", 0755), 0);
	cr_assert_eq(mkdirat(dir.fd, "store/lost+found", 0700), 0);
	cr_assert_eq(try_store(path, true, uuid), 0, "%s", engine_reason());
	cr_assert_eq(mode_of("store"), 0700);
	cr_assert_eq(try_store(path, false, uuid), 0);
}

/* A store whose FORMAT was lost is not taken for an empty directory, and keeps what it has. */
Test(store, never_refills_what_holds_data)
{
	static const char *const data[] = { "store/logs/0000000000000002", "store/journal/0000000000000001" };
	uint8_t uuid[16];

	cr_assert_eq(try_store(path, true, uuid), 0);
	cr_assert_eq(unlinkat(dir.fd, "store/FORMAT", 0), 0);
	for (size_t i = 0; i < 2; i++) {
		cr_assert_eq(mkdirat(dir.fd, data[i], 0700), 0);
		expect_refusal(path, true, -EUCLEAN, "FORMAT");
		cr_assert_eq(unlinkat(dir.fd, data[i], AT_REMOVEDIR), 0);
	}
	cr_assert_eq(mkdirat(dir.fd, "store/mail", 0700), 0);
	expect_refusal(path, true, -ENOTEMPTY, "mail");
}

/* A FORMAT that is not ours, or newer, or no file, is refused and left as it is; so is a store that lacks a part. */
Test(store, refuses_other_formats)
{
	static const struct {
		const char *text, *word;
	} rows[] = {
		{ "mqfs store, format 2, 123e4567-e89b-42d3-a456-426614174000\n", "format 2" },
		{ "mqfs store, format 99999999999999999999 whatever", "format" },
		{ "mqfs store, format 1, 123e4567-e89b-42d3-a456-426614174000", "damaged, or not that of a store" },
		{ "mqfs store, format 1, 123e4567-e89b-42d3-a456-42661417400\n", "damaged, or not that of a store" },
		{ "mqfs store, format 1, 123e4567-e89b-42d3-a456-42661417400g\n", "damaged, or not that of a store" },
		{ "mqfs store, format 1, 123e4567-e89b-42d3-a456-426614174000\nx", "damaged, or not that of a store" },
		{ "mqfs store, format -1, 123e4567-e89b-42d3-a456-426614174000\n", "damaged, or not that of a store" },
		{ "mqfs store, format 0, 123e4567-e89b-42d3-a456-426614174000\n", "damaged, or not that of a store" },
		{ "mqfs store, format 1", "damaged, or not that of a store" },
		{ "mqfs store, format 1, 123e4567xe89b-42d3-a456-426614174000\n", "damaged, or not that of a store" },
		{ "mqfs store, format 1, 123e4567-e89b-42d3xa456-426614174000\n", "damaged, or not that of a store" },
		{ "mqfs store, format 1, G23e4567-e89b-42d3-a456-426614174000\n", "damaged, or not that of a store" },
		{ "mqfs store, format 1, ~23e4567-e89b-42d3-a456-426614174000\n", "damaged, or not that of a store" },
		{ "mqfs store, format 1. 123e4567-e89b-42d3-a456-426614174000\n", "damaged, or not that of a store" },
		{ "mqfs store, format :, 123e4567-e89b-42d3-a456-426614174000\n", "damaged, or not that of a store" },
		{ "something else", "damaged, or not that of a store" },
		{ "", "damaged, or not that of a store" },
	};
	uint8_t uuid[16];
	int store_fd;

	cr_assert_eq(try_store(path, true, uuid), 0);
	store_fd = openat(dir.fd, "store", O_RDONLY | O_DIRECTORY);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		tmpdir_put(store_fd, "FORMAT", rows[i].text, strlen(rows[i].text));
		expect_refusal(path, true, -EUCLEAN, rows[i].word);
	}
	cr_assert_eq(unlinkat(store_fd, "FORMAT", 0), 0);
	cr_assert_eq(mkfifoat(store_fd, "FORMAT", 0600), 0);
	expect_refusal(path, true, -EUCLEAN, "FORMAT");
	cr_assert_eq(unlinkat(store_fd, "FORMAT", 0), 0);
	cr_assert_eq(symlinkat("/dev/zero", store_fd, "FORMAT"), 0);
	expect_refusal(path, true, -EUCLEAN, "FORMAT");
	cr_assert_eq(unlinkat(store_fd, "FORMAT", 0), 0);
	cr_assert_eq(mkdirat(store_fd, "FORMAT", 0700), 0);
	expect_refusal(path, true, -EUCLEAN, "FORMAT");
	cr_assert_eq(unlinkat(store_fd, "FORMAT", AT_REMOVEDIR), 0);
	tmpdir_put(store_fd, "FORMAT", rows[0].text, strlen(rows[0].text));
	cr_assert_eq(pwrite(openat(store_fd, "FORMAT", O_WRONLY), "1", 1, 19), 1);
	cr_assert_eq(try_store(path, false, uuid), 0, "%s", engine_reason());
	cr_assert_eq(uuid[0], 0x12);
	cr_assert_eq(uuid[15], 0x00);
	cr_assert_eq(uuid[14], 0x40);
	cr_assert_eq(unlinkat(store_fd, "spool", AT_REMOVEDIR), 0);
	cr_assert_eq(try_store(path, false, uuid), 0); /* holds nothing that lasts */
	cr_assert_eq(unlinkat(store_fd, "logs", AT_REMOVEDIR), 0);
	expect_refusal(path, true, -EUCLEAN, "logs");
	close(store_fd);
}

/* File systems that locks, syncs or LMDB cannot rely on are refused by name, and nothing is made there. */
Test(store, refuses_remote_file_systems)
{
	static const struct {
		long type;
		const char *name;
	} rows[] = { { 0x6969, "NFS" }, { (int)0xff534d42, "CIFS" }, { 0xfe534d42, "SMB2" }, { 0x65735546, "FUSE" },
		{ 0x01021997, "9p" } };
	uint8_t uuid[16];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		fs_type = rows[i].type;
		expect_refusal(path, true, -ENOTSUP, rows[i].name);
		expect_refusal(dir.path, true, -ENOTSUP, rows[i].name);
		cr_assert_eq(count_names(dir.path), 0);
	}
	fs_type = 0xef53;
	cr_assert_eq(try_store(path, true, uuid), 0);
}

/* ----------------------------------------------------------------------------------------------- the lock */

/* A store that is open is refused to others, with the pid of who has it; when that is gone, however, it is free. */
Test(store, is_open_once)
{
	uint8_t uuid[16];
	char pid_text[32], byte;
	int pipes[2];
	pid_t pid;

	cr_assert_eq(pipe(pipes), 0);
	pid = fork();
	if (pid == 0) {
		struct store store;

		if (store_open(path, true, false, &owner, &store) == 0 && write(pipes[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	cr_assert_eq(read(pipes[0], &byte, 1), 1);
	snprintf(pid_text, sizeof(pid_text), "process %d", (int)pid);
	expect_refusal(path, true, -EBUSY, pid_text);
	expect_refusal(path, false, -EBUSY, pid_text);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	cr_assert_eq(try_store(path, false, uuid), 0, "%s", engine_reason());
}

/* The same process cannot have it twice either, and can after it closed it; a closed struct may be closed. */
Test(store, is_open_once_in_a_process)
{
	struct store store;
	char pid_text[32];

	cr_assert_eq(store_open(path, true, false, &owner, &store), 0);
	snprintf(pid_text, sizeof(pid_text), "process %d", (int)getpid());
	expect_refusal(path, true, -EBUSY, pid_text);
	store_close(&store);
	store_close(&store);
	cr_assert_eq(store_open(path, true, false, &owner, &store), 0);
	store_close(&store);
}

/* Readers share a store, and keep writers out as these do them; read-only, not a byte or a name changes. */
Test(store, is_shared_read_only)
{
	struct store store, first, second;
	struct catalog *catalog;
	struct stat before, after;
	char name[PATH_MAX + 32];

	cr_assert_eq(store_open(path, true, true, &owner, &first), -ENOENT);
	cr_assert_eq(count_names(dir.path), 0);
	cr_assert_eq(mkdirat(dir.fd, "empty", 0755), 0);
	snprintf(name, sizeof(name), "%s/empty", dir.path);
	cr_assert_eq(store_open(name, true, true, &owner, &first), -ENOENT);
	cr_assert_not_null(strstr(engine_reason(), "no store at"), "%s", engine_reason());
	cr_assert_eq(count_names(name), 0);
	cr_assert_eq(store_open(path, true, false, &owner, &store), 0);
	cr_assert_eq(store_open(path, false, true, &owner, &first), -EBUSY);
	store_close(&store);
	snprintf(name, sizeof(name), "%s/lock", path);
	cr_assert_eq(stat(name, &before), 0);
	cr_assert_eq(store_open(path, true, true, &owner, &first), 0);
	cr_assert(first.read_only);
	cr_assert_eq(store_open(path, false, true, &owner, &second), 0);
	expect_refusal(path, false, -EBUSY, "in use");
	cr_assert_eq(catalog_open(first.dirfd, true, &catalog), 0);
	catalog_close(catalog);
	store_close(&first);
	store_close(&second);
	cr_assert_eq(stat(name, &after), 0);
	cr_assert_eq(memcmp(&before.st_mtim, &after.st_mtim, sizeof(before.st_mtim)), 0);
	cr_assert_eq(unlink(name), 0);
	cr_assert_eq(store_open(path, false, true, &owner, &first), 0);
	store_close(&first);
	cr_assert_neq(stat(name, &after), 0);
}

/* Of several processes that make the same store at once, each has it or is told who has, and it is one store. */
Test(store, is_made_once)
{
	for (int round = 0; round < 10; round++) {
		bool in_place = round % 2 == 1;
		uint8_t uuid[16], got[16];
		int pipes[2], made = 0;
		char at[PATH_MAX + 32];

		snprintf(at, sizeof(at), "%s%d", path, round);
		if (in_place)
			mkdir(at, 0700);
		cr_assert_eq(pipe(pipes), 0);
		for (int i = 0; i < 4; i++) {
			if (fork() == 0) {
				struct store store;
				int err = store_open(at, true, false, &owner, &store);

				if (err == 0 && write(pipes[1], store.uuid, 16) != 16)
					_exit(2);
				_exit(err == 0 || err == -EBUSY ? 0 : 1);
			}
		}
		for (int i = 0; i < 4; i++) {
			int status;

			wait(&status);
			cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		}
		close(pipes[1]);
		cr_assert_eq(try_store(at, false, uuid), 0, "%s", engine_reason());
		while (read(pipes[0], got, 16) == 16) {
			cr_assert_eq(memcmp(got, uuid, 16), 0);
			made++;
		}
		close(pipes[0]);
		cr_assert_geq(made, 1);
	}
	cr_assert_eq(count_names(dir.path), 10);
}

/* ------------------------------------------------------------------------------------------------- crashes */

/* If any change of a file fails, making a store fails with that errno and a sentence, and works the next time. */
Test(store, is_made_after_any_failure)
{
	for (int in_place = 0; in_place < 2; in_place++) {
		for (uint64_t n = 1;; n++) {
			char at[PATH_MAX + 32];
			struct store store;
			uint8_t uuid[16];
			uint64_t reached;
			int err;

			snprintf(at, sizeof(at), "%s-%d-%d", path, in_place, (int)n);
			if (in_place)
				mkdir(at, 0700);
			fault_arm(FAULT_ANY, n, ENOSPC, false);
			err = store_open(at, true, false, &owner, &store);
			reached = fault_disarm();
			if (err == 0)
				store_close(&store);
			else
				cr_assert(err == -ENOSPC && *engine_reason() != '\0', "n %d: %d %s", (int)n, err,
				    engine_reason());
			cr_assert_eq(try_store(at, true, uuid), 0, "n %d: %s", (int)n, engine_reason());
			if (reached < n) {
				cr_assert_gt(n, 15);
				break;
			}
		}
	}
}

static struct io_ops dying;
static uint64_t calls_left;
static void (*before_last)(void); /* NULL: the process ends before the call, as by kill -9 */

static void count_call(void)
{
	if (calls_left-- > 0)
		return;
	if (before_last == NULL)
		raise(SIGKILL);
	else
		before_last();
}

static int dying_open(int dirfd, const char *name, int flags, mode_t mode)
{
	count_call();
	return io_posix.open(dirfd, name, flags, mode);
}

static int dying_mkdir(int dirfd, const char *name, mode_t mode)
{
	count_call();
	return io_posix.mkdir(dirfd, name, mode);
}

static ssize_t dying_pwritev(int fd, const struct iovec *iov, int count, off_t pos)
{
	count_call();
	return io_posix.pwritev(fd, iov, count, pos);
}

static int dying_fsync(int fd)
{
	count_call();
	return io_posix.fsync(fd);
}

static int dying_ftruncate(int fd, off_t size)
{
	count_call();
	return io_posix.ftruncate(fd, size);
}

static int dying_fallocate(int fd, int mode, off_t pos, off_t size)
{
	count_call();
	return io_posix.fallocate(fd, mode, pos, size);
}

static int dying_rename(int old_dirfd, const char *old_name, int new_dirfd, const char *new_name)
{
	count_call();
	return io_posix.rename(old_dirfd, old_name, new_dirfd, new_name);
}

static int dying_unlink(int dirfd, const char *name, int flags)
{
	count_call();
	return io_posix.unlink(dirfd, name, flags);
}

static const struct io_ops dying_ops = { dying_open, dying_mkdir, dying_pwritev, NULL, NULL, dying_fsync,
	dying_ftruncate, dying_fallocate, dying_rename, dying_unlink, NULL, NULL };

static void use_dying(uint64_t n)
{
	dying = dying_ops;
	dying.pread = io_posix.pread;
	dying.fdatasync = io_posix.fdatasync;
	dying.syncfs = io_posix.syncfs;
	dying.fchmod = io_posix.fchmod;
	calls_left = n - 1;
	io = &dying;
}

/* Opens the store in a process that dies at its n-th change of a file. Was that reached? */
static bool die_at(uint64_t n, const char *at)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct store store;

		use_dying(n);
		_exit(store_open(at, true, false, &owner, &store) == 0 ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	cr_assert(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
	return WIFSIGNALED(status);
}

/* Wherever making a store is killed, it is whole, or absent, or made by the next one; nothing is left beside it. */
Test(store, is_made_after_any_kill)
{
	for (int in_place = 0; in_place < 2; in_place++) {
		bool died = true;

		for (uint64_t n = 1; died; n++) {
			uint8_t uuid[16], again[16];
			char at[PATH_MAX + 32];
			int err;

			snprintf(at, sizeof(at), "%s-%d-%d", path, in_place, (int)n);
			if (in_place)
				mkdir(at, 0700);
			died = die_at(n, at);
			err = try_store(at, false, uuid);
			cr_assert(err == 0 || err == -ENOENT, "n %d: %d %s", (int)n, err, engine_reason());
			cr_assert_eq(try_store(at, true, again), 0, "n %d: %s", (int)n, engine_reason());
			cr_assert(err != 0 || memcmp(uuid, again, 16) == 0);
			cr_assert(died || n > 15);
		}
	}
	for (int n = 1;; n++) {
		char aside[64];

		snprintf(aside, sizeof(aside), ".store-0-%d.mqfs-new", n);
		cr_assert_neq(faccessat(dir.fd, aside, F_OK, 0), 0);
		if (n > 40)
			break;
	}
}

/* Killed again in the middle of completing what a kill had left, a store is still made in the end. */
Test(store, is_made_after_two_kills)
{
	for (uint64_t n = 1; n < 24; n += 3) {
		for (uint64_t k = 1; k < 24; k += 4) {
			uint8_t uuid[16];
			char at[PATH_MAX + 32];

			snprintf(at, sizeof(at), "%s-%d-%d", path, (int)n, (int)k);
			die_at(n, at);
			die_at(k, at);
			cr_assert_eq(try_store(at, true, uuid), 0, "%s", engine_reason());
		}
	}
}

/* What a power cut after the first n changes may have left of a store that was being made. */
static void try_cut(const struct powercut *cut, size_t n, uint64_t seed, const uint8_t *made)
{
	bool over = n == powercut_count(cut);
	uint8_t uuid[16], again[16];
	char at[PATH_MAX + 8];
	struct tmpdir left;
	int err;

	tmpdir_make(&left);
	snprintf(at, sizeof(at), "%s/store", left.path);
	powercut_make(cut, n, seed, left.fd);
	err = try_store(at, false, uuid);
	cr_assert(
	    err == 0 || (err == -ENOENT && !over), "change %zu, seed %d: %d %s", n, (int)seed, err, engine_reason());
	cr_assert(err != 0 || memcmp(uuid, made, 16) == 0);
	cr_assert_eq(try_store(at, true, again), 0, "change %zu, seed %d: %s", n, (int)seed, engine_reason());
	cr_assert(err != 0 || memcmp(uuid, again, 16) == 0);
	tmpdir_remove(&left);
}

/* Wherever the power goes while a store is made it is whole, or absent, or made by the next one; once made it stays. */
Test(store, is_made_after_any_power_cut)
{
	for (int in_place = 0; in_place < 2; in_place++) {
		struct powercut *cut;
		struct store store;
		uint8_t made[16];
		struct tmpdir in;
		char at[PATH_MAX + 8];

		tmpdir_make(&in);
		snprintf(at, sizeof(at), "%s/store", in.path);
		if (in_place)
			cr_assert_eq(mkdir(at, 0700), 0);
		cut = powercut_start(in.fd);
		cr_assert_eq(store_open(at, true, false, &owner, &store), 0, "%s", engine_reason());
		powercut_stop(cut);
		memcpy(made, store.uuid, 16);
		store_close(&store);
		cr_assert_gt(powercut_count(cut), 10);
		for (size_t n = 0; n <= powercut_count(cut); n++)
			for (uint64_t seed = 0; seed < 8; seed++)
				try_cut(cut, n, seed, made);
		powercut_free(cut);
		tmpdir_remove(&in);
	}
}

static struct {
	struct io_ops ops;
	const struct io_ops *real;
	ino_t synced; /* the directory that was synced last */
	unsigned formats;
} names;

static ino_t inode_of(int fd)
{
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	return S_ISDIR(st.st_mode) ? st.st_ino : 0;
}

static int noting_fsync(int fd)
{
	if (inode_of(fd) != 0)
		names.synced = inode_of(fd);
	return names.real->fsync(fd);
}

static int noting_rename(int old_dirfd, const char *old_name, int new_dirfd, const char *new_name)
{
	if (strcmp(new_name, "FORMAT") == 0) {
		cr_assert_eq(names.synced, inode_of(new_dirfd), "FORMAT comes before the names beside it are on disk");
		names.formats++;
	}
	return names.real->rename(old_dirfd, old_name, new_dirfd, new_name);
}

/* FORMAT says that all of the store is there: the names beside it are synced before, also those that an attempt before has left. */
Test(store, format_comes_last)
{
	struct store store;

	names.real = io;
	names.ops = *io;
	names.ops.fsync = noting_fsync;
	names.ops.rename = noting_rename;
	for (int again = 0; again < 2; again++) {
		if (again == 0) {
			fault_arm(FAULT_RENAME, 2, EIO, false); /* after that of the catalog */
			cr_assert_eq(store_open(path, true, false, &owner, &store), -EIO);
			cr_assert_eq(fault_disarm(), 2);
		}
		names.synced = 0;
		io = &names.ops;
		cr_assert_eq(store_open(path, true, false, &owner, &store), 0, "%s", engine_reason());
		io = names.real;
		store_close(&store);
		strcat(path, "2");
	}
	cr_assert_eq(names.formats, 2);
}

/* Descriptors do not leak, neither from what works nor from what fails. */
Test(store, leaks_no_descriptors)
{
	size_t before, after;
	uint8_t uuid[16];

	cr_assert_eq(try_store(path, true, uuid), 0);
	before = count_names("/proc/self/fd");
	for (uint64_t n = 1; n < 30; n++) {
		struct store store;
		char at[PATH_MAX + 32];

		snprintf(at, sizeof(at), "%s-%d", path, (int)n);
		fault_arm(FAULT_ANY, n, EIO, false);
		if (store_open(at, true, false, &owner, &store) == 0)
			store_close(&store);
		fault_disarm();
	}
	expect_refusal(dir.path, true, -ENOTEMPTY, "store");
	after = count_names("/proc/self/fd");
	cr_assert_eq(before, after);
}

/* ------------------------------------------------------------------------------------------ other processes */

static const char *made_at;
static uint64_t last_made; /* how many calls there were when it was made */

/* As another process does: makes the store, and ends. */
static void make_meanwhile(void)
{
	const struct io_ops *mine = io;
	struct store store;

	io = &io_posix;
	if (store_open(made_at, true, false, &owner, &store) == 0)
		store_close(&store);
	io = mine;
	last_made++;
}

/* Before whatever call another process makes the same store: there is one store, and nothing beside it. */
Test(store, is_made_meanwhile)
{
	for (int kind = 0; kind < 4; kind++) {
		bool in_place = kind % 2 == 1, at_reads = kind / 2 == 1;

		last_made = 1;
		for (uint64_t n = 1; last_made > 0; n++) {
			struct store store;
			uint8_t uuid[16];
			char at[PATH_MAX + 32];
			int err;

			snprintf(at, sizeof(at), "%s-%d-%d", path, kind, (int)n);
			if (in_place)
				mkdir(at, 0700);
			made_at = at;
			last_made = 0;
			before_last = make_meanwhile;
			if (at_reads)
				alloc_before_read(n, make_meanwhile);
			else
				use_dying(n);
			err = store_open(at, true, false, &owner, &store);
			alloc_disarm_reads();
			io = &io_posix;
			before_last = NULL;
			cr_assert(
			    err == 0 || err == -EBUSY, "kind %d, call %d: %d %s", kind, (int)n, err, engine_reason());
			if (err == 0) {
				cr_assert_eq(try_store(at, true, uuid), -EBUSY);
				memcpy(uuid, store.uuid, 16);
				store_close(&store);
				cr_assert_eq(store_open(at, false, true, &owner, &store), 0);
				cr_assert_eq(memcmp(uuid, store.uuid, 16), 0);
				store_close(&store);
			}
			cr_assert_eq(try_store(at, true, uuid), 0, "%s", engine_reason());
			snprintf(at, sizeof(at), ".store-%d-%d.mqfs-new", kind, (int)n);
			cr_assert_neq(faccessat(dir.fd, at, F_OK, 0), 0);
		}
	}
}

/* One that others make and remove again and again is given up in the end, with what came last. */
Test(store, is_given_up)
{
	fault_arm(FAULT_RENAME, 1, ENOENT, true);
	expect_refusal(path, true, -EEXIST, "cannot be made");
	fault_disarm();
}

/* ------------------------------------------------------------------------------- what cannot be read or had */

/* Whatever cannot be read: a sentence, and it can be had the next time. */
Test(store, is_opened_after_any_failure)
{
	static const int errors[] = { EIO, EACCES, ELOOP, ENOTDIR, ENXIO, EISDIR, ESPIPE };

	nosync_install();
	for (size_t e = 0; e < sizeof(errors) / sizeof(errors[0]); e++) {
		for (int kind = e == 0 ? 0 : 1; kind < 4; kind++) { /* nothing; a directory; a store; read-only */
			bool reached = true;

			for (uint64_t n = 1; reached; n++) {
				struct store store;
				uint8_t uuid[16];
				char at[PATH_MAX + 32];
				int err;

				snprintf(at, sizeof(at), "%s-%zu-%d-%d", path, e, kind, kind < 2 ? (int)n : 0);
				if (kind == 1)
					mkdir(at, 0700);
				if (kind > 1)
					cr_assert_eq(try_store(at, true, uuid), 0);
				alloc_arm_reads(n, errors[e]);
				err = store_open(at, kind < 2, kind == 3, &owner, &store);
				reached = alloc_disarm_reads() >= n;
				if (err == 0)
					store_close(&store);
				else
					cr_assert(reached && *engine_reason() != '\0', "kind %d, call %d: %d", kind,
					    (int)n, err);
				cr_assert_eq(try_store(at, true, uuid), 0, "kind %d, call %d: %s", kind, (int)n,
				    engine_reason());
			}
		}
	}
}

/* Calls of the system that fail: the errno, and a sentence. */
Test(store, is_refused_by_the_system)
{
	struct store store;
	uint8_t uuid[16];
	int fd;

	fails.fstatfs = EIO;
	expect_refusal(path, true, -EIO, "file system");
	fails.fstatfs = 0;
	umask(0277);
	fails.fchmod = EROFS;
	expect_refusal(path, true, -EROFS, "cannot be made");
	umask(0);
	fails.fchmod = 0;
	fails.getrandom = 1;
	expect_refusal(path, true, -EIO, "cannot be made");
	fails.getrandom = 0;
	cr_assert_eq(try_store(path, true, uuid), 0, "%s", engine_reason());
	fails.flock = ENOLCK;
	expect_refusal(path, true, -ENOLCK, "locked");
	fails.flock = 0;
	cr_assert_eq(mkdirat(dir.fd, "open", 0755), 0); /* whose mode cannot be changed, as it is somebody else's */
	fails.fchmod = EPERM;
	snprintf(path, sizeof(path), "%s/open", dir.path);
	cr_assert_eq(try_store(path, true, uuid), 0, "%s", engine_reason());
	fails.fchmod = 0;
	fault_arm(FAULT_ANY, 1, EROFS, true);
	expect_refusal("/no-mqfs-store-is-made-here", true, -EROFS, "cannot be made");
	fault_disarm();

	fd = openat(dir.fd, "open/lock", O_RDWR); /* of a holder that has not written who it is, or something else */
	cr_assert_eq(flock(fd, LOCK_EX), 0);
	cr_assert_eq(ftruncate(fd, 0), 0);
	expect_refusal(path, true, -EBUSY, "another process");
	cr_assert_eq(pwrite(fd, "who", 3, 0), 3);
	expect_refusal(path, true, -EBUSY, "another process");
	close(fd);
	cr_assert_eq(unlinkat(dir.fd, "open/lock", 0), 0);
	cr_assert_eq(symlinkat("nowhere", dir.fd, "open/lock"), 0);
	cr_assert_eq(store_open(path, false, true, &owner, &store), -ELOOP);
	cr_assert_not_null(strstr(engine_reason(), "lock"), "%s", engine_reason());
}

/* A part that is a file, or a link: the store has no such directory. */
Test(store, refuses_parts_of_another_kind)
{
	uint8_t uuid[16];

	cr_assert_eq(try_store(path, true, uuid), 0);
	cr_assert_eq(unlinkat(dir.fd, "store/logs", AT_REMOVEDIR), 0);
	tmpdir_put(dir.fd, "store/logs", "x", 1);
	expect_refusal(path, true, -EUCLEAN, "no directory logs");
	cr_assert_eq(unlinkat(dir.fd, "store/logs", 0), 0);
	cr_assert_eq(symlinkat("/", dir.fd, "store/logs"), 0);
	expect_refusal(path, true, -EUCLEAN, "no directory logs");
	cr_assert_eq(unlinkat(dir.fd, "store/FORMAT", 0), 0);
	expect_refusal(path, true, -ENOTEMPTY, "logs");
}
