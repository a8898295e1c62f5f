/*
 * floor - a FUSE file system that keeps nothing: what the protocol itself costs, under the same works as mqfs.
 *
 *     floor DIR [FILE]
 *
 * Every name is there: groups, g, consumers, c and 0 are directories, all else is a file that opens without the page cache. A write is
 * dropped, but for the last one that no reader had. A read of `stream` gets that, or waits for the next; `log` has as many bytes as were written since
 * `in` was last opened, in lines of 100, each from its own place in memory up to 100 MiB, as it would be for who keeps them; any other read is at its end. close(2) asks, as it must where it can refuse. `file` is FILE, to
 * which the kernel passes what is written, if it and libfuse can. Ends when it is unmounted.
 */
#define FUSE_USE_VERSION 312
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define STAYS 3600.0 /* s: nothing changes */
#define LINE 100     /* bytes of `log`, with the newline */

/* What has a name of its own; its inode is its place here, behind the root's. All else is one file more. */
static const char *const names[] = { "groups", "g", "consumers", "c", "0", "stream", "log", "file" };
enum { LAST_DIRECTORY = FUSE_ROOT_ID + 5, STREAM, LOG, PASSED, OTHER };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static fuse_req_t waiting; /* the read of a stream */
static char kept[4096];
static size_t kept_size;

static int backing = -1; /* FILE */

#define PIECE (1u << 20) /* bytes of the longest read */
#define CONTENT (LINE * PIECE)

static _Atomic off_t written;         /* bytes, since `in` was opened */
static char content[CONTENT + PIECE]; /* of `log`, again and again */

static struct stat attr_of(fuse_ino_t ino)
{
	return (struct stat){
		.st_ino = ino, .st_mode = ino <= LAST_DIRECTORY ? S_IFDIR | 0755 : S_IFREG | 0666, .st_nlink = 1
	};
}

static void lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = { .ino = FUSE_ROOT_ID + 1, .attr_timeout = STAYS, .entry_timeout = STAYS };

	(void)parent;
	while (entry.ino < OTHER && strcmp(name, names[entry.ino - FUSE_ROOT_ID - 1]) != 0)
		entry.ino++;
	entry.attr = attr_of(entry.ino);
	fuse_reply_entry(req, &entry);
}

static void getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	struct stat attr = attr_of(ino);

	(void)file;
	fuse_reply_attr(req, &attr, STAYS);
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
static int backing_id; /* 0: not opened yet */

static void negotiate(void *ctx, struct fuse_conn_info *conn)
{
	(void)ctx;
	if (backing < 0 || (conn->capable & FUSE_CAP_PASSTHROUGH) == 0)
		return;
	conn->want |= FUSE_CAP_PASSTHROUGH;
	conn->max_backing_stack_depth = 1;
}

static int pass_through(fuse_req_t req, struct fuse_file_info *file)
{
	if (backing < 0)
		return ENOENT;
	if (backing_id == 0)
		backing_id = fuse_passthrough_open(req, backing);
	file->backing_id = backing_id;
	return backing_id > 0 ? 0 : ENOTSUP;
}
#else
#define negotiate NULL
static int pass_through(fuse_req_t req, struct fuse_file_info *file)
{
	(void)req;
	(void)file;
	return ENOTSUP;
}
#endif

/* As fresh in memory as the file that the others have just written. */
static void fill_log(void)
{
	memset(content, '.', sizeof(content));
	for (size_t i = LINE - 1; i < sizeof(content); i += LINE)
		content[i] = '\n';
}

static void open_file(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	if (ino == OTHER) {
		written = 0;
		pthread_mutex_lock(&lock);
		kept_size = 0;
		pthread_mutex_unlock(&lock);
	}
	if (ino == LOG)
		fill_log();
	int err = ino == PASSED ? pass_through(req, file) : 0;
	if (err != 0) {
		fuse_reply_err(req, err);
		return;
	}
	file->direct_io = ino != PASSED;
	fuse_reply_open(req, file);
}

static void write_file(
    fuse_req_t req, fuse_ino_t ino, const char *data, size_t size, off_t offset, struct fuse_file_info *file)
{
	fuse_req_t reader;

	(void)offset;
	(void)file;
	(void)ino;
	written += (off_t)size;
	pthread_mutex_lock(&lock);
	reader = waiting;
	waiting = NULL;
	if (reader == NULL && size <= sizeof(kept)) {
		memcpy(kept, data, size);
		kept_size = size;
	}
	pthread_mutex_unlock(&lock);
	if (reader != NULL)
		fuse_reply_buf(reader, data, size);
	fuse_reply_write(req, size);
}

static void read_file(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *file)
{
	fuse_req_t before = NULL;
	size_t given;

	(void)file;
	if (ino != STREAM) {
		off_t left = ino == LOG && offset < written ? written - offset : 0;

		given = size < PIECE ? size : PIECE;
		fuse_reply_buf(req, content + offset % CONTENT, (off_t)given < left ? given : (size_t)left);
		return;
	}
	pthread_mutex_lock(&lock);
	given = kept_size < size ? kept_size : size;
	kept_size = 0;
	if (given > 0) {
		fuse_reply_buf(req, kept, given);
	} else {
		before = waiting;
		waiting = req;
	}
	pthread_mutex_unlock(&lock);
	if (before != NULL)
		fuse_reply_err(before, EBUSY);
}

static void flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
	(void)ino;
	(void)file;
	fuse_reply_err(req, 0);
}

static const struct fuse_lowlevel_ops operations = {
	.init = negotiate,
	.lookup = lookup,
	.getattr = getattr,
	.open = open_file,
	.write = write_file,
	.read = read_file,
	.flush = flush,
	.release = flush,
};

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct fuse_session *session;
	int status;

	if (argc != 2 && argc != 3) {
		fprintf(stderr, "usage: floor DIR [FILE]\n");
		return 2;
	}
	if (argc == 3)
		backing = open(argv[2], O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
	if (session == NULL || fuse_session_mount(session, argv[1]) < 0)
		return 1;
	status = fuse_session_loop_mt(session, NULL);
	fuse_session_unmount(session);
	fuse_session_destroy(session);
	return status != 0;
}
