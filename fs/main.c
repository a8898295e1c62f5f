/*
 * main - mqfs [-f] [-o OPTIONS] STORE DIR: opens the engine, mounts, serves, and ends cleanly.
 *
 * In the background the program forks before it does anything. The child opens the store, mounts and, when the mount has
 * answered, tells the parent through a pipe how it went; only then does the parent exit, with the child's code. So whoever
 * started it knows that an exit of 0 is a mount that works, and reads the cause of anything else on stderr.
 *
 * The main thread is the one that waits for the end; a thread of its own waits for signals, and the session's threads serve.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <mntent.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/errors.h"
#include "fs/events.h"
#include "fs/handle.h"
#include "fs/name.h"
#include "fs/node.h"
#include "fs/open.h"
#include "fs/options.h"
#include "fs/patience.h"
#include "fs/quota.h"
#include "fs/reply.h"
#include "fs/session.h"
#include "fs/spool.h"

#define ENDING_MS 15000 /* for a daemon that is still writing to disk what it has */
#define EXIT_SYSTEM 2   /* as mount(8) has them */
#define EXIT_MOUNT 32

/* What the child tells the parent. */
struct report {
	int code;
	char text[512];
};

/* A line on stderr; the names in it may hold anything. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
	char text[PATH_MAX + 512], shown[2 * PATH_MAX];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	name_escape_text(text, strlen(text), shown, sizeof shown);
	fprintf(stderr, "mqfs: %s\n", shown);
}

static void fill_report(struct report *report, int code, const char *what, int err)
{
	const char *reason = engine_reason();
	report->code = code;
	snprintf(report->text, sizeof report->text, "%s: %s", what, *reason ? reason : strerror(-err));
}

/* ------------------------------------------------------------------------------------------ what a mount needs */

/* What the engine reports by itself goes where users look. */
static void on_notify(void *ctx, int err, const char *text)
{
	struct fs *fs = ctx;
	const struct engine_cred nobody = { 0, 0, (uint32_t)getpid() };
	if (err)
		report_error(fs, err, &nobody, fs->source, text);
	if (fs->engine) /* not while it is being opened: then nobody can wait for it */
		events_add(fs, ENGINE_ROOT_ID, "", "%s", text);
}

static int fs_init(struct fs *fs, const struct options *options)
{
	*fs = (struct fs){
		.nodes = node_table_new(),
		.handles = handle_table_new(),
		.errors = calloc(1, sizeof *fs->errors),
		.events = events_new(),
		.spool = spool_new(options->source),
		.quota = quota_new(options->quota, geteuid()),
		.patience = patience_new(),
		.source = options->source,
		.mountpoint = options->mountpoint,
		.owner = { geteuid(), getegid(), 0755 },
		.started_ms = clock_wall_ms(),
		.read_only = options->read_only,
		.threads = options->threads,
		.staging = options->staging && !options->read_only,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.settled = PTHREAD_COND_INITIALIZER,
	};
	if (!fs->nodes || !fs->handles || !fs->errors || !fs->events || !fs->spool || !fs->quota || !fs->patience)
		return -ENOMEM;
	errors_init(fs->errors);
	return 0;
}

static void fs_release(struct fs *fs)
{
	if (fs->errors)
		errors_release(fs->errors);
	free(fs->errors);
	events_free(fs->events);
	spool_free(fs->spool);
	handle_table_free(fs->handles);
	node_table_free(fs->nodes);
	patience_free(fs->patience);
	quota_free(fs->quota); /* after all who charge */
}

/* Is a store mounted somewhere, as the list of mounts has it? If that cannot be read its daemon is awaited, and has not ended. */
static bool is_mounted(const char *source)
{
	FILE *mounts = setmntent("/proc/self/mounts", "r");
	bool found = false;
	for (struct mntent *mount; mounts && !found && (mount = getmntent(mounts)) != NULL;)
		found = strcmp(mount->mnt_fsname, source) == 0 && strcmp(mount->mnt_type, "fuse.mqfs") == 0;
	if (mounts)
		endmntent(mounts);
	return found;
}

/* Waits for the daemon that has the store to end; false: it has not, or cannot be found. */
static bool await_holder(const char *source)
{
	char path[PATH_MAX], text[32] = "";
	snprintf(path, sizeof path, "%s/lock", source);
	int fd = open_file(path);
	if (fd < 0)
		return false;
	ssize_t got = read(fd, text, sizeof text - 1);
	close(fd);
	long pid = got > 0 ? strtol(text, NULL, 10) : 0;
	fd = pid > 0 ? pidfd_open((pid_t)pid, 0) : -1;
	struct pollfd ended = { .fd = fd, .events = POLLIN };
	if (fd < 0)
		return pid > 0 && errno == ESRCH;
	bool over = poll(&ended, 1, ENDING_MS) == 1;
	close(fd);
	return over;
}

static int open_engine(struct fs *fs, const struct options *options, struct engine **ret_engine)
{
	const struct engine_options engine_options = {
		.create = !options->read_only,
		.read_only = options->read_only,
		.root_owner = fs->owner,
		.notify = { on_notify, fs },
		.users = quota_of_engine(fs->quota),
	};
	int err = engine_open(options->source, &engine_options, ret_engine);
	/* In use, but not mounted: umount returns before its daemon has finished. */
	if (err == -EBUSY && !is_mounted(options->source) && await_holder(options->source))
		err = engine_open(options->source, &engine_options, ret_engine);
	return err;
}

/* --------------------------------------------------------------------------------------------------- signals */

struct signals {
	sigset_t set;
	struct fs *fs;
	_Atomic bool over; /* the mount has ended: the next signal is ours */
	pthread_t thread;
};

static void *wait_for_signals(void *arg)
{
	struct signals *signals = arg;
	int signal = 0;
	while (sigwait(&signals->set, &signal) == 0 && !signals->over)
		session_stop(signals->fs);
	return NULL;
}

/* Blocked here and so in every thread made later: the engine's, the session's. */
static void block_signals(struct signals *signals)
{
	sigemptyset(&signals->set);
	sigaddset(&signals->set, SIGTERM);
	sigaddset(&signals->set, SIGINT);
	sigaddset(&signals->set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &signals->set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* ---------------------------------------------------------------------------------------------------- running */

static void silence_stdio(void)
{
	int null = open("/dev/null", O_RDWR);
	if (null < 0)
		return;
	for (int fd = 0; fd <= 2; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
}

/* Tells how it went: to the parent, or in the foreground to the user. */
static void send_report(const struct report *report, int fd)
{
	if (fd >= 0) {
		ssize_t sent = write(fd, report, sizeof *report); /* the parent that is gone needs no report */
		(void)sent;
		close(fd);
	} else if (report->code) {
		say("%s", report->text);
	}
}

/* The mount is gone: what is open goes, then the engine, which makes everything durable. */
static int end(struct fs *fs)
{
	atomic_store(&fs->ending, true);
	fs_pending_wait(fs);
	patience_end(fs->patience);
	handle_release_all(fs->handles);
	struct engine *engine = fs->engine;
	int err = engine->ops->close(engine);
	session_free(fs);
	return err;
}

/* A mount is ended by the kernel if a request takes too long for it, where somebody has set a limit: then none waits for so long. */
static int limit_waits(struct fs *fs)
{
	int64_t limit_ms = patience_limit(PATIENCE_SYSCTLS);
	char text[300];
	int err = patience_begin(fs->patience, limit_ms);
	if (err)
		return engine_explain(err, "no thread for the limit that fs.fuse.default_request_timeout sets");
	if (limit_ms == 0)
		return 0;
	snprintf(text, sizeof text,
	    "fs.fuse.default_request_timeout or max_request_timeout lets no request take longer than %" PRId64
	    " s: a read that waits is interrupted (EINTR) after %" PRId64 " ms",
	    limit_ms / 1000, patience_ms(fs->patience));
	on_notify(fs, -ETIMEDOUT, text);
	return 0;
}

static int serve(struct fs *fs, const struct options *options, struct signals *signals, int report_fd)
{
	struct report report = { 0 };
	const struct session_options session_options = { options->read_only, options->allow_other, options->fsname,
		options->threads, options->busy_poll, options->awake, options->debug, options->io_uring };
	int err = limit_waits(fs);
	if (!err)
		err = session_start(fs, &session_options);
	if (err) {
		fill_report(&report, EXIT_MOUNT, options->mountpoint, err);
		fs->engine->ops->close(fs->engine);
		send_report(&report, report_fd);
		return report.code;
	}
	pthread_create(&signals->thread, NULL, wait_for_signals, signals);
	if (report_fd >= 0)
		silence_stdio();
	send_report(&report, report_fd);
	session_wait(fs);
	signals->over = true;
	pthread_kill(signals->thread, SIGTERM);
	pthread_join(signals->thread, NULL);
	err = end(fs);
	if (err && report_fd < 0)
		say("%s: %s", options->source, strerror(-err));
	return err ? EXIT_SYSTEM : 0;
}

static int run(const struct options *options, int report_fd)
{
	struct report report = { 0 };
	struct signals signals = { 0 };
	struct fs fs;
	int code;
	block_signals(&signals);
	signals.fs = &fs;
	int err = fs_init(&fs, options);
	if (!err)
		err = open_engine(&fs, options, &fs.engine);
	if (err) {
		fill_report(&report, EXIT_MOUNT, options->source, err);
		send_report(&report, report_fd);
		code = report.code;
	} else {
		code = serve(&fs, options, &signals, report_fd);
	}
	fs_release(&fs);
	return code;
}

/* Does the mount answer? Asked by the parent, which does not serve it and so can wait for it. */
static int check_mount(const char *mountpoint)
{
	struct stat st;
	if (stat(mountpoint, &st) == 0 && st.st_ino == 1)
		return 0;
	say("%s: mounted, but it does not answer", mountpoint);
	return EXIT_MOUNT;
}

/* The parent: waits for the child's report, and says what it says. */
static int await_report(int fd, const char *mountpoint)
{
	struct report report;
	size_t got = 0;
	while (got < sizeof report) {
		ssize_t count = read(fd, (char *)&report + got, sizeof report - got);
		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			break;
		got += (size_t)count;
	}
	if (got < sizeof report) {
		say("the daemon ended before it had mounted");
		return EXIT_SYSTEM;
	}
	if (report.code)
		say("%s", report.text);
	return report.code ? report.code : check_mount(mountpoint);
}

static int run_in_background(const struct options *options)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC)) {
		perror("mqfs: pipe");
		return EXIT_SYSTEM;
	}
	pid_t pid = fork();
	if (pid < 0) {
		perror("mqfs: fork");
		return EXIT_SYSTEM;
	}
	if (pid > 0) {
		close(ends[1]);
		return await_report(ends[0], options->mountpoint);
	}
	close(ends[0]);
	setsid();
	if (chdir("/"))
		return EXIT_SYSTEM; /* cannot be */
	return run(options, ends[1]);
}

/* Absolute, so that it holds after chdir and in mount's list; schemes stay as they are. */
static char *absolute_source(const char *source)
{
	char *cwd, *path = NULL;
	if (*source == '/' || strchr(source, ':'))
		return strdup(source);
	cwd = getcwd(NULL, 0);
	if (cwd && asprintf(&path, "%s/%s", cwd, source) < 0)
		path = NULL;
	free(cwd);
	return path;
}

/* The directory to mount at, absolute; NULL, and said why, if it cannot be one. */
static char *mountpoint_of(const char *name)
{
	struct stat st;
	char *path = realpath(name, NULL);
	if (path && stat(path, &st) == 0) {
		if (S_ISDIR(st.st_mode))
			return path;
		errno = ENOTDIR;
	}
	say("%s: %s", name, strerror(errno));
	free(path);
	return NULL;
}

int main(int argc, char **argv)
{
	struct options options;
	options_parse(argc, argv, &options);
	char *mountpoint = mountpoint_of(options.mountpoint);
	char *source = mountpoint ? absolute_source(options.source) : NULL;
	int code = EXIT_MOUNT;
	if (source) {
		options.mountpoint = mountpoint;
		options.source = source;
		close_range(3, ~0u, 0); /* what a shell or a supervisor left open would stay so as long as the mount */
		code = options.foreground ? run(&options, -1) : run_in_background(&options);
	}
	free(source);
	free(mountpoint);
	return code;
}
