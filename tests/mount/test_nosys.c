/*
 * Every system call that takes a file or a path, on every kind of file of the tree: none answers ENOSYS, none hangs, and
 * the mount works as before. An ENOSYS of the daemon would be remembered by the kernel for the life of the mount, and most of
 * them never reach the caller; so, where strace is at hand, the daemon's own answers are looked at too.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/lib/mnt.h"

static const char *const files[] = { "README", "topics/t/in", "topics/t/in.json", "topics/t/in.nul", "topics/t/keys/k",
	"topics/t/put/f", "topics/t/put/.f", "topics/t/0/in", "topics/t/0/log", "topics/t/0/log.json",
	"topics/t/0/log.nul", "topics/t/0/at/0", "topics/t/0/at/0.json", "topics/t/0/purge", "topics/t/purge",
	"topics/t/info", "topics/t/config/retention.ms", "topics/t/groups/g/next", "topics/t/groups/g/.next",
	"topics/t/groups/g/wait.raw", "topics/t/groups/g/out.nul", "topics/t/groups/g/stream",
	"topics/t/groups/g/stream.json", "topics/t/groups/g/ack", "topics/t/groups/g/offset", "topics/t/groups/g/0/ack",
	"topics/t/groups/g/0/offset", "topics/t/groups/g/config/auto.commit", "topics/t/groups/g/info",
	"config/topics/linger.ms", "status/health", "status/errors", "status/events", "status/version",
	"status/metrics" };
static const char *const dirs[] = { "", "topics", "topics/t", "topics/t/put", "topics/t/keys", "topics/t/0",
	"topics/t/0/at", "topics/t/config", "topics/t/groups", "topics/t/groups/g", "topics/t/groups/g/0",
	"topics/t/groups/g/config", "config", "config/topics", "config/groups", "status" };

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void setup(void)
{
	mnt_setup();
	mnt_topic("t", 1);
	mnt_group("t", "g");
	mnt_write(mnt_path("topics/t/in"), "zero\none\n");
}

TestSuite(nosys, .init = setup, .fini = mnt_release, .timeout = 120);

static unsigned calls;

/* Each call under its name; only ENOSYS is wrong here. */
#define TRY(call)                                                                                                      \
	do {                                                                                                           \
		errno = 0;                                                                                             \
		long result_ = (long)(call);                                                                           \
		cr_expect(result_ != -1 || errno != ENOSYS, "%s: ENOSYS from %s", path, #call);                        \
		calls++;                                                                                               \
	} while (0)

/* The same for a call that gives a descriptor. */
static void try_fd(const char *path, const char *call, int fd)
{
	cr_expect(fd != -1 || errno != ENOSYS, "%s: ENOSYS from %s", path, call);
	if (fd >= 0)
		close(fd);
	calls++;
}

static void try_xattrs(const char *path)
{
	char value[256];

	TRY(getxattr(path, "user.x", value, sizeof(value)));
	TRY(getxattr(path, "system.posix_acl_access", value, sizeof(value)));
	TRY(getxattr(path, "security.capability", value, sizeof(value)));
	TRY(setxattr(path, "user.x", "1", 1, 0));
	TRY(setxattr(path, "security.x", "1", 1, XATTR_CREATE));
	TRY(removexattr(path, "user.x"));
	TRY(listxattr(path, value, sizeof(value)));
	TRY(lgetxattr(path, "user.x", value, sizeof(value)));
}

static void try_attributes(const char *path)
{
	struct stat st;
	struct statx stx;
	struct statfs sf;
	struct statvfs sv;
	struct timespec now[2] = { { .tv_nsec = UTIME_NOW }, { .tv_nsec = UTIME_OMIT } };

	TRY(stat(path, &st));
	TRY(lstat(path, &st));
	TRY(statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_ALL | STATX_BTIME | STATX_DIOALIGN, &stx));
	TRY(statfs(path, &sf));
	TRY(statvfs(path, &sv));
	TRY(access(path, R_OK | W_OK));
	TRY(syscall(SYS_faccessat2, AT_FDCWD, path, R_OK, AT_EACCESS));
	TRY(chmod(path, st.st_mode & 07777));
	TRY(chown(path, (uid_t)-1, (gid_t)-1));
	TRY(lchown(path, st.st_uid, st.st_gid));
	TRY(utimensat(AT_FDCWD, path, now, 0));
	TRY(utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW));
	TRY(truncate(path, 0));
	TRY(truncate(path, 1 << 20));
	TRY(pathconf(path, _PC_NAME_MAX));
}

static void try_names(const char *path)
{
	char other[512], text[256];

	snprintf(other, sizeof(other), "%s.other", path);
	TRY(link(path, other));
	TRY(symlink("target", other));
	TRY(mknod(other, S_IFREG | 0600, 0));
	TRY(mkfifo(other, 0600));
	TRY(mknod(other, S_IFCHR | 0600, 0));
	TRY(mknod(other, S_IFSOCK | 0600, 0));
	TRY(readlink(path, text, sizeof(text)));
	for (unsigned flags = 0; flags < 8; flags++)
		TRY(renameat2(AT_FDCWD, path, AT_FDCWD, other, flags));
	/* A rename that worked is undone, so that the next call finds the file. */
	rename(other, path);
	try_fd(path, "O_TMPFILE", open(path, O_TMPFILE | O_RDWR, 0600));
	try_fd(path, "O_DIRECTORY", open(path, O_DIRECTORY));
	try_fd(path, "O_PATH", open(path, O_PATH));
	TRY(unlink(other));
}

static void try_ranges(const char *path, int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_len = 1 };
	int number = 0, other = memfd_create("other", MFD_CLOEXEC), pipes[2];
	loff_t from = 0;

	cr_assert_eq(pipe(pipes), 0);
	fcntl(pipes[0], F_SETFL, O_NONBLOCK);
	cr_assert_eq(write(other, "three\n", 6), 6);
	for (int mode = 0; mode < 8; mode++)
		TRY(fallocate(fd, mode, 0, 4096));
	TRY(fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 10));
	TRY(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	TRY(readahead(fd, 0, 4096));
	TRY(lseek(fd, 0, SEEK_DATA));
	TRY(lseek(fd, 0, SEEK_HOLE));
	TRY(lseek(fd, 0, SEEK_END));
	TRY(lseek(fd, 0, SEEK_SET));
	TRY(flock(fd, LOCK_SH | LOCK_NB));
	TRY(flock(fd, LOCK_UN));
	TRY(fcntl(fd, F_SETLK, &lock));
	TRY(fcntl(fd, F_GETLK, &lock));
	TRY(fcntl(fd, F_OFD_SETLK, &lock));
	TRY(lockf(fd, F_TLOCK, 1));
	TRY(fcntl(fd, F_SETLEASE, F_RDLCK));
	TRY(ioctl(fd, FIONREAD, &number));
	TRY(ioctl(fd, FS_IOC_GETFLAGS, &number));
	TRY(ioctl(fd, FS_IOC_SETFLAGS, &number));
	TRY(ioctl(fd, 0x5401 /* TCGETS */, NULL));
	TRY(ioctl(fd, FICLONE, other));
	TRY(copy_file_range(fd, &from, other, NULL, 10, 0));
	from = 0;
	TRY(sendfile(other, fd, &from, 10));
	TRY(splice(fd, NULL, pipes[1], NULL, 10, SPLICE_F_NONBLOCK));
	TRY(fsync(fd));
	TRY(fdatasync(fd));
	TRY(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
	TRY(syncfs(fd));
	close(other);
	close(pipes[0]);
	close(pipes[1]);
}

static void try_open_file(const char *path, int flags)
{
	struct stat st;
	struct pollfd p = { .events = POLLIN | POLLOUT };
	char text[64];
	int fd = open(path, flags | O_NONBLOCK | O_CLOEXEC, 0600);

	if (fd < 0) {
		cr_expect_neq(errno, ENOSYS, "open %s: ENOSYS", path);
		return;
	}
	struct iovec part = { text, sizeof(text) };
	p.fd = fd;
	TRY(fstat(fd, &st));
	TRY(poll(&p, 1, 0));
	TRY(read(fd, text, sizeof(text)));
	TRY(pread(fd, text, sizeof(text), 0));
	TRY(preadv2(fd, &part, 1, 0, RWF_NOWAIT));
	void *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	if (map != MAP_FAILED)
		munmap(map, 4096);
	TRY(map == MAP_FAILED ? -1 : 0);
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (map != MAP_FAILED)
		munmap(map, 4096);
	TRY(map == MAP_FAILED ? -1 : 0);
	try_ranges(path, fd);
	TRY(ftruncate(fd, 0));
	TRY(fchmod(fd, 0600));
	TRY(futimens(fd, NULL));
	TRY(write(fd, "", 0));
	TRY(write(fd, "bogus\n", 6));
	TRY(close(fd));
}

static void try_everything(void)
{
	for (size_t i = 0; i < COUNT(files); i++) {
		const char *path = mnt_path("%s", files[i]);
		try_xattrs(path);
		try_attributes(path);
		try_open_file(path, O_RDONLY);
		try_open_file(path, O_WRONLY | O_APPEND);
		try_open_file(path, O_RDWR | O_TRUNC | O_CREAT);
		try_names(path);
	}
	for (size_t i = 0; i < COUNT(dirs); i++) {
		const char *path = mnt_path("%s", dirs[i]);
		char text[4096];
		int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		try_xattrs(path);
		try_attributes(path);
		TRY(syscall(SYS_getdents64, fd, text, sizeof(text)));
		TRY(lseek(fd, 0, SEEK_SET));
		TRY(fsync(fd));
		TRY(flock(fd, LOCK_EX | LOCK_NB));
		TRY(ioctl(fd, FS_IOC_GETFLAGS, text));
		try_fd(path, "O_TMPFILE", openat(fd, ".", O_TMPFILE | O_RDWR, 0600));
		try_fd(path, "O_CREAT", openat(fd, "junk~", O_CREAT | O_RDWR, 0600));
		TRY(mknodat(fd, "fifo~", S_IFIFO | 0600, 0));
		TRY(symlinkat("x", fd, "link"));
		TRY(linkat(fd, "in", fd, "link", 0));
		TRY(renameat2(fd, "0", fd, "link", RENAME_EXCHANGE));
		close(fd);
	}
}

static void expect_mount_works(void)
{
	mnt_topic("after", 1);
	mnt_group("after", "g");
	mnt_write(mnt_path("topics/after/in"), "works\n");
	mnt_expect(mnt_path("topics/after/groups/g/next"), "works\n");
	mnt_write(mnt_path("topics/after/groups/g/ack"), "all\n");
	mnt_expect(mnt_path("topics/after/groups/g/out"), "");
	char *health = mnt_read(mnt_path("status/health"), NULL);
	cr_expect_eq(strncmp(health, "state ok", 8), 0, "%s", health);
	free(health);
}

/* No call of any kind on any kind of file is answered by ENOSYS, and afterwards everything works. */
Test(nosys, no_call_is_unknown)
{
	try_everything();
	cr_expect_gt(calls, 3000, "only %u calls were made", calls);
	expect_mount_works();
	for (size_t i = 0; i < COUNT(files); i++) {
		/* Lookups alone: what rm may have taken away is not among these. */
		if (strstr(files[i], "/put/") == NULL && strstr(files[i], "/keys/") == NULL &&
		    strstr(files[i], "/at/") == NULL)
			cr_expect_eq(access(mnt_path("%s", files[i]), F_OK), 0, "%s is gone", files[i]);
	}
}

/* strace of the daemon, attached when this returns; its pid, or 0 if there is none. */
static pid_t start_strace(const char *output)
{
	char pid[16];

	if (access("/usr/bin/strace", X_OK) != 0)
		return 0;
	snprintf(pid, sizeof(pid), "%d", mnt.daemon);
	pid_t child = fork();
	if (child == 0) {
		execl("/usr/bin/strace", "strace", "-q", "-f", "-e", "trace=read,writev,write", "-xx", "-s", "16", "-o",
		    output, "-p", pid, (char *)NULL);
		_exit(127);
	}
	int64_t until = mnt_now_us() + 5000000;
	while (mnt_proc(mnt.daemon, "TracerPid") == 0) {
		if (mnt_now_us() > until || waitpid(child, NULL, WNOHANG) == child)
			return 0;
		usleep(1000);
	}
	return child;
}

/* The n-th byte of what strace -xx printed, or -1. */
static int byte_at(const char *text, int n)
{
	unsigned value;

	if (strlen(text) < (size_t)(n + 1) * 4 || sscanf(text + n * 4, "\\x%2x", &value) != 1)
		return -1;
	return (int)value;
}

static uint32_t word_at(const char *text, int n)
{
	uint32_t word = 0;

	for (int i = 3; i >= 0; i--)
		word = word << 8 | (uint32_t)byte_at(text, n + i);
	return word;
}

/*
 * Requests begin with length, opcode and unique number, answers with length, error and that number. FUSE_STATX (52) is
 * libfuse's own to refuse: it has no handler for it, and the kernel asks by FUSE_GETATTR instead. FUSE_GETXATTR (22) is refused
 * on purpose: there are no attributes, users are told EOPNOTSUPP, and else the kernel would ask before each write.
 */
static void check_trace(FILE *f, unsigned *ret_answers, unsigned *ret_refusals)
{
	static uint32_t opcodes[1 << 20];
	char line[1024];

	while (fgets(line, sizeof(line), f) != NULL) {
		const char *bytes = strstr(line, "\"\\x");
		if (bytes == NULL || byte_at(++bytes, 15) < 0)
			continue;
		uint32_t *opcode = &opcodes[word_at(bytes, 8) / 2 % (1 << 20)];
		int32_t err = (int32_t)word_at(bytes, 4);
		if (strstr(line, "read") != NULL) {
			*opcode = (uint32_t)err;
			continue;
		}
		*ret_answers += 1;
		*ret_refusals += err < 0 && err > -200;
		cr_expect(err != -ENOSYS || *opcode == 52 || *opcode == 22, "ENOSYS to a request of opcode %u: %s",
		    *opcode, line);
	}
}

/* The daemon never answers ENOSYS to the kernel either, which would keep it to itself and never ask again. */
Test(nosys, the_daemon_never_says_ENOSYS)
{
	char output[256];
	unsigned answers = 0, refusals = 0;

	if (mnt_option("io_uring"))
		cr_skip_test("answers by io_uring are no system calls that strace shows");
	snprintf(output, sizeof(output), "%s/strace", mnt.top);
	pid_t strace = start_strace(output);
	if (strace == 0)
		cr_skip_test("no strace, or it may not trace");
	try_everything();
	kill(strace, SIGTERM);
	mnt_join(strace);
	FILE *f = fopen(output, "re");
	cr_assert_not_null(f);
	check_trace(f, &answers, &refusals);
	fclose(f);
	cr_expect(answers > 3000 && refusals > 100, "strace saw %u answers, %u refusals", answers, refusals);
	expect_mount_works();
}
