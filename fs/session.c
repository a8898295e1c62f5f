/*
 * How requests are read matters: a reader who opens a file after a producer closed his must find the producer's last line.
 * The kernel queues the RELEASE before that OPEN, but two threads could read the two and run them in the wrong order. So one
 * thread at a time reads (turn.h), and a RELEASE is executed before the next request is read. So is what is quick, for speed;
 * all else runs in parallel.
 *
 * The kernel holds back RELEASE requests beyond max_background, so that is set high.
 */
#include "fs/session.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "fs/ops.h"
#include "fs/receive.h"
#include "fs/staged.h"
#include "fs/turn.h"
#include "fs/uring.h"

#define THREADS_MAX 64u
#define MAX_WRITE (1u << 20)          /* bytes of one request: the kernel's own limit */
#define MAX_BACKGROUND 4096u          /* RELEASEs that may be on their way at once */
#define ALONE 8u                      /* requests in a row from one client: nobody else waits just now */
#define QUICK_SIZE (16u << 10)        /* bytes that are read or written sooner than another thread is woken */
#define FLAG2_OVER_IO_URING (1u << 9) /* of FUSE_INIT */
#define WAKE_SIGNAL SIGUSR1           /* takes a thread out of its read */
#define WAKE_AGAIN_MS 20

struct session {
	struct fuse_session *fuse;
	struct turn turn; /* who has it reads a request, see above */
	struct awake awake;
	struct receive receive; /* of who has the turn, as the next two */
	uint32_t client;        /* who asked last */
	unsigned in_a_row;
	pthread_mutex_t lock;   /* the rest; a leaf */
	pthread_cond_t changed; /* serving or init_done */
	pthread_t threads[THREADS_MAX];
	unsigned thread_count; /* not joined */
	unsigned serving;      /* of these, not ended */
	bool init_done;
	_Atomic bool stopping;
	bool detached;     /* it was busy: somebody else may be mounted there by now */
	char message[256]; /* the last thing libfuse had to say, while mounting */
};

/* One mount per process: ops->init has no other way to it than through fs, which it gets. */
static struct session the_session;

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	conn->max_write = MAX_WRITE;
	conn->max_readahead = MAX_WRITE;
	conn->max_background = MAX_BACKGROUND;
	conn->congestion_threshold = MAX_BACKGROUND;
	conn->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
				  FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_READDIRPLUS);
	conn->want |= conn->capable & FUSE_CAP_CACHE_SYMLINKS;
	staged_negotiate(userdata, conn);
	pthread_mutex_lock(&the_session.lock);
	the_session.init_done = true;
	pthread_cond_broadcast(&the_session.changed);
	pthread_mutex_unlock(&the_session.lock);
}

static struct fuse_in_header header_of(const struct fuse_buf *buf)
{
	struct fuse_in_header header = { 0 };
	if (!(buf->flags & FUSE_BUF_IS_FD) && buf->size >= sizeof header)
		memcpy(&header, buf->mem, sizeof header);
	return header;
}

/* libfuse has no handler for O_TMPFILE and would say ENOSYS; there is no place for a file without a name. */
static void refuse_tmpfile(struct session *session, uint64_t unique)
{
	struct fuse_out_header answer = { .len = sizeof answer, .error = -EOPNOTSUPP, .unique = unique };
	struct iovec iov = { &answer, sizeof answer };
	ssize_t sent = uring_answer(fuse_session_fd(session->fuse), &iov, 1, NULL);
	(void)sent; /* who asked is gone: nobody to tell */
}

/* Nothing of a request that is shorter. */
static bool has_body(const struct fuse_buf *buf, void *ret_in, size_t size)
{
	if (buf->size < sizeof(struct fuse_in_header) + size)
		return false;
	memcpy(ret_in, (const char *)buf->mem + sizeof(struct fuse_in_header), size);
	return true;
}

static void look_at_init(const struct fuse_buf *buf)
{
	struct fuse_init_in in;
	uring_offered(has_body(buf, &in, sizeof in) && (in.flags2 & FLAG2_OVER_IO_URING));
}

/* True: it is of a request that came by io_uring. */
static bool take_interrupt(const struct fuse_buf *buf)
{
	struct fuse_interrupt_in in;
	return has_body(buf, &in, sizeof in) && uring_interrupt(in.unique);
}

static void process(struct session *session, const struct fuse_buf *buf, const struct fuse_in_header *header)
{
	if (header->opcode == FUSE_INIT)
		look_at_init(buf);
	if (header->opcode == FUSE_TMPFILE)
		refuse_tmpfile(session, header->unique);
	else
		fuse_session_process_buf(session->fuse, buf);
}

static bool is_quick_read(const struct fuse_buf *buf, bool alone)
{
	struct fuse_read_in in;
	return has_body(buf, &in, sizeof in) && (in.size <= QUICK_SIZE || alone);
}

/* Of several that sync, one syncs and the others are read meanwhile: so one sync serves them all. */
static bool is_quick_write(const struct fuse_buf *buf, bool alone)
{
	struct fuse_write_in in;
	return has_body(buf, &in, sizeof in) && !(in.flags & O_DSYNC) && (in.size <= QUICK_SIZE || alone);
}

/* Most often it takes less time than to wake another thread, which would read the next request meanwhile. */
static bool is_quick(const struct fuse_buf *buf, const struct fuse_in_header *header, bool alone)
{
	switch (header->opcode) {
	case FUSE_LOOKUP:
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_GETATTR:
	case FUSE_READLINK:
	case FUSE_OPEN:
	case FUSE_FLUSH:
	case FUSE_INTERRUPT: return true;
	case FUSE_READ: return is_quick_read(buf, alone);
	case FUSE_WRITE: return is_quick_write(buf, alone);
	default: return false;
	}
}

/* Who has the turn asks this once for each request. */
static bool is_alone(struct session *session, uint32_t client)
{
	session->in_a_row = client == session->client ? session->in_a_row + 1 : 0;
	session->client = client;
	return session->in_a_row >= ALONE;
}

/* Executes a request of who has the turn. True: it still has it. */
static bool execute(struct session *session, const struct fuse_buf *buf)
{
	struct fuse_in_header header = header_of(buf);
	if (header.opcode == FUSE_RELEASE) {
		process(session, buf, &header);
		return true;
	}
	if (header.opcode == FUSE_INTERRUPT && take_interrupt(buf))
		return true;
	if (!is_quick(buf, &header, is_alone(session, header.pid))) {
		turn_pass(&session->turn);
		process(session, buf, &header);
		return false;
	}
	uint64_t begun = turn_begin(&session->turn);
	process(session, buf, &header);
	return turn_end(&session->turn, begun);
}

/* Executes requests until there are no more for anybody. */
static void serve_all(struct session *session, struct fuse_buf *buf)
{
	bool has_turn = false;
	for (;;) {
		if (!has_turn)
			turn_take(&session->turn);
		int got = atomic_load(&session->stopping) || fuse_session_exited(session->fuse)
			      ? 0
			      : receive_request(&session->receive, buf);
		if (got <= 0 && got != -EINTR)
			break;
		awake_count(&session->awake);
		has_turn = got < 0 || execute(session, buf);
	}
	turn_pass(&session->turn);
}

static void *serve(void *arg)
{
	struct session *session = arg;
	struct fuse_buf buf = { .mem = NULL };
	serve_all(session, &buf);
	free(buf.mem);
	pthread_mutex_lock(&session->lock);
	session->serving--;
	pthread_cond_broadcast(&session->changed);
	pthread_mutex_unlock(&session->lock);
	return NULL;
}

/* ---- requests that come by io_uring ---- */

static void process_of_queue(void *ctx, char *request, size_t size)
{
	const struct fuse_buf buf = { .mem = request, .size = size };
	struct fuse_in_header header = header_of(&buf);
	struct session *session = ctx;
	awake_count(&session->awake);
	turn_watch(&session->turn);
	process(session, &buf, &header);
}

/* Beside what is quick by itself, what is so most often, and is not worth another thread. */
static bool is_quick_in_queue(const char *request, size_t size, bool alone)
{
	const struct fuse_buf buf = { .mem = (char *)request, .size = size };
	struct fuse_in_header header = header_of(&buf);
	switch (header.opcode) {
	case FUSE_RELEASE:
	case FUSE_OPENDIR:
	case FUSE_RELEASEDIR:
	case FUSE_POLL:
	case FUSE_LSEEK: return true;
	default: return is_quick(&buf, &header, alone);
	}
}

static void start_queues(struct session *session, unsigned threads)
{
	const struct uring_calls calls = { process_of_queue, is_quick_in_queue, session };
	uring_start(session->fuse, threads, &calls);
}

static void wake(int signal)
{
	(void)signal;
}

static int start_threads(struct session *session, unsigned count)
{
	struct sigaction action = { .sa_handler = wake }; /* without SA_RESTART: read returns EINTR */
	sigaction(WAKE_SIGNAL, &action, NULL);
	int err = 0;
	pthread_mutex_lock(&session->lock);
	for (unsigned i = 0; !err && i < count && i < THREADS_MAX; i++) {
		err = -pthread_create(&session->threads[i], NULL, serve, session);
		if (!err)
			session->thread_count = ++session->serving;
	}
	if (session->thread_count > 0)
		err = 0; /* fewer will do */
	pthread_mutex_unlock(&session->lock);
	return err;
}

/* Keeps the last message for whoever reports a failure; libfuse would print it, and a daemon's stderr is nobody's. */
static void keep_message(enum fuse_log_level level, const char *format, va_list args)
{
	if (level <= FUSE_LOG_WARNING)
		vsnprintf(the_session.message, sizeof the_session.message, format, args);
	the_session.message[strcspn(the_session.message, "\n")] = '\0';
}

static int new_session(struct fs *fs, const struct session_options *options)
{
	struct fuse_lowlevel_ops ops = { .init = op_init };
	ops_dir_fill(&ops);
	ops_list_fill(&ops);
	ops_file_fill(&ops);
	ops_rest_fill(&ops);
	char mount_options[4096 + 256], name[4096] = "";
	size_t used = 0;
	for (const char *c = options->fsname ? options->fsname : fs->source; *c && used + 2 < sizeof name; c++) {
		if (*c == ',' || *c == '\\')
			name[used++] = '\\'; /* as mount options are escaped */
		name[used++] = *c;
	}
	snprintf(mount_options, sizeof mount_options,
	    "default_permissions,nosuid,nodev,noexec,subtype=mqfs,fsname=%s%s%s", name,
	    options->allow_other ? ",allow_other" : "", options->read_only ? ",ro" : "");
	char *argv[] = { (char[]){ "mqfs" }, (char[]){ "-o" }, mount_options, (char[]){ "-d" }, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(options->debug ? 4 : 3, argv);
	the_session.fuse = fuse_session_new(&args, &ops, sizeof ops, fs);
	fuse_opt_free_args(&args);
	if (!options->debug)
		fuse_set_log_func(keep_message);
	fs->session = the_session.fuse;
	return the_session.fuse ? 0 : engine_explain(-EINVAL, "libfuse refused the mount options: %s", mount_options);
}

/*
 * The mount is there when the kernel has its answer to FUSE_INIT. We must not look at it ourselves: a process that waits for
 * an answer of its own cannot be killed while it holds /dev/fuse open, and nobody else can end its wait.
 */
static int await_init(struct session *session)
{
	pthread_mutex_lock(&session->lock);
	while (!session->init_done && session->serving > 0)
		pthread_cond_wait(&session->changed, &session->lock);
	bool ready = session->init_done;
	pthread_mutex_unlock(&session->lock);
	return ready ? 0 : engine_explain(-EIO, "the kernel ended the mount before it was ready");
}

int session_start(struct fs *fs, const struct session_options *options)
{
	pthread_mutex_init(&the_session.lock, NULL);
	pthread_cond_init(&the_session.changed, NULL);
	awake_init(&the_session.awake, options->awake);
	int err = new_session(fs, options);
	if (!err)
		err = turn_init(&the_session.turn, &the_session.awake);
	if (err)
		goto err_session;
	if (fuse_session_mount(the_session.fuse, fs->mountpoint)) {
		err = engine_explain(-EIO, "cannot mount at %s: %s", fs->mountpoint, the_session.message);
		goto err_session;
	}
	receive_init(&the_session.receive, the_session.fuse, options->busy_poll);
	if (options->io_uring)
		start_queues(&the_session, options->threads);
	err = start_threads(&the_session, options->threads);
	if (err)
		goto err_mount;
	err = await_init(&the_session);
	if (!err)
		return 0;
err_mount:
	session_stop(fs);
	session_wait(fs);
err_session:
	uring_stop();
	turn_destroy(&the_session.turn);
	awake_destroy(&the_session.awake);
	if (the_session.fuse)
		fuse_session_destroy(the_session.fuse);
	the_session.fuse = NULL;
	fs->session = NULL;
	return err;
}

void session_wait(struct fs *fs)
{
	struct session *session = &the_session;
	(void)fs;
	pthread_mutex_lock(&session->lock);
	while (session->serving > 0)
		pthread_cond_wait(&session->changed, &session->lock);
	pthread_t threads[THREADS_MAX];
	unsigned count = session->thread_count;
	memcpy(threads, session->threads, sizeof threads);
	session->thread_count = 0; /* from here on nobody signals them */
	pthread_mutex_unlock(&session->lock);
	for (unsigned i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	uring_quiesce();
}

/* Signals the threads until all have left: a signal may come just before a thread's read and be missed by it. */
static void wake_threads(struct session *session)
{
	pthread_mutex_lock(&session->lock);
	while (session->serving > 0) {
		for (unsigned i = 0; i < session->thread_count; i++)
			pthread_kill(session->threads[i], WAKE_SIGNAL);
		clock_wait(&session->changed, &session->lock, WAKE_AGAIN_MS);
	}
	pthread_mutex_unlock(&session->lock);
}

void session_stop(struct fs *fs)
{
	if (umount2(fs->mountpoint, UMOUNT_NOFOLLOW) && errno == EBUSY)
		the_session.detached = umount2(fs->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW) == 0;
	atomic_store(&the_session.stopping, true);
	fuse_session_exit(the_session.fuse);
	wake_threads(&the_session);
}

void session_free(struct fs *fs)
{
	if (!the_session.fuse)
		return;
	if (!the_session.detached)
		fuse_session_unmount(the_session.fuse); /* finds that it is unmounted, and frees its path */
	uring_stop();
	turn_destroy(&the_session.turn);
	awake_destroy(&the_session.awake);
	fuse_session_destroy(the_session.fuse);
	the_session.fuse = NULL;
	fs->session = NULL;
}
