#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/clock.h"
#include "mount-helpers/helper.h"
#include "mount-helpers/mounts.h"
#include "mount-helpers/options.h"
#include "mount-helpers/process.h"
#include "mount-helpers/say.h"

struct request {
	char store[PATH_MAX]; /* absolute, or a source such as memory: */
	char point[PATH_MAX];
	struct mount_options options;
	bool fake, verbose, sloppy;
	int64_t deadline_ms;
};

static int left_ms(const struct request *request)
{
	int64_t left = request->deadline_ms - clock_mono_ms();

	return left > 0 ? (int)left : 0;
}

static int usage(void)
{
	say("usage: %s STORE DIR [-sfnv] [-o OPTIONS]", program_invocation_short_name);
	return EXIT_USAGE;
}

static int add_options(struct request *request, const char *list)
{
	char problem[256];

	if (options_add(&request->options, list, request->sloppy, problem, sizeof(problem)) == 0)
		return EXIT_DONE;
	say("%s", problem);
	return EXIT_USAGE;
}

/* A source that names another engine is its own affair; a path must still be one when the daemon is elsewhere. */
static int set_store(struct request *request, const char *spec)
{
	int status = 0;

	if (strstr(spec, "://") || strncmp(spec, "memory:", 7) == 0 || spec[0] == '/') {
		if (snprintf(request->store, sizeof(request->store), "%s", spec) >= (int)sizeof(request->store))
			status = -ENAMETOOLONG;
	} else {
		status = mounts_resolve(spec, request->store);
	}
	if (status == 0)
		return EXIT_DONE;
	say("store %s: %s", spec, strerror(-status));
	return EXIT_MOUNT;
}

static int set_point(struct request *request, const char *dir)
{
	int status = mounts_resolve(dir, request->point);

	if (status == 0)
		return EXIT_DONE;
	say("mount point %s: %s", dir, strerror(-status));
	return EXIT_MOUNT;
}

#define FLAGS "sfnvrwo:t:N:"

static int parse_flags(int argc, char **argv, struct request *request)
{
	for (int flag; (flag = getopt(argc, argv, FLAGS)) != -1;) {
		switch (flag) {
		case 's': request->sloppy = true; break;
		case 'f': request->fake = true; break;
		case 'v': request->verbose = true; break;
		case 'N': say("-N: other mount namespaces are not supported: use nsenter(1)"); return EXIT_USAGE;
		case '?': return usage();
		default: break;
		}
	}
	return argc - optind == 2 ? EXIT_DONE : usage();
}

/* After all flags are known: -s decides how -o is read, wherever it stands. */
static int parse_options(int argc, char **argv, struct request *request)
{
	int status = EXIT_DONE;

	optind = 0; /* from the start */
	for (int flag; status == EXIT_DONE && (flag = getopt(argc, argv, FLAGS)) != -1;) {
		switch (flag) {
		case 'r': status = add_options(request, "ro"); break;
		case 'w': status = add_options(request, "rw"); break;
		case 'o': status = add_options(request, optarg); break;
		default: break;
		}
	}
	return status;
}

static int parse(int argc, char **argv, struct request *ret_request)
{
	int status;

	memset(ret_request, 0, sizeof(*ret_request));
	options_init(&ret_request->options);
	status = parse_flags(argc, argv, ret_request);
	if (status == EXIT_DONE)
		status = parse_options(argc, argv, ret_request);
	if (status != EXIT_DONE)
		return status;
	say_steps(ret_request->verbose);
	ret_request->deadline_ms = clock_mono_ms() + (int64_t)ret_request->options.timeout_s * 1000;
	status = set_store(ret_request, argv[optind]);
	return status == EXIT_DONE ? set_point(ret_request, argv[optind + 1]) : status;
}

/*
 * remount changes the flags of this mount. A daemon that was started read-only has opened its store so, and no flag
 * makes it write.
 */
static int remount(const struct request *request)
{
	const struct mount_options *options = &request->options;
	struct mount_row row;
	unsigned long flags;
	int status = mounts_find_point(request->point, &row);

	if (status != 0 || strcmp(row.type, MOUNTS_TYPE) != 0) {
		say("remount: nothing of type %s is mounted on %s", MOUNTS_TYPE, request->point);
		return EXIT_MOUNT;
	}
	if ((options->clear_flags & MS_RDONLY) && row.super_read_only) {
		say("remount: the daemon of %s was started read-only: umount %s, and mount it rw", row.source,
		    row.point);
		return EXIT_MOUNT;
	}
	flags = (row.flags & ~options->clear_flags) | options->set_flags;
	if (flags == row.flags) {
		say_step("remount: %s has these options already", row.point);
		return EXIT_DONE;
	}
	if (request->fake)
		return EXIT_DONE;
	if (mount(NULL, row.point, NULL, MS_REMOUNT | MS_BIND | flags, NULL) != 0) {
		int error = errno;

		say("remount: %s: %s", row.point, strerror(error));
		if (error == EBUSY)
			process_print_holders(row.point);
		return error == EPERM ? EXIT_USAGE : EXIT_MOUNT;
	}
	say_step("remount: %s is now %s", row.point, flags & MS_RDONLY ? "ro" : "rw");
	return EXIT_DONE;
}

/* What a daemon leaves that was killed. Nothing of it can be used any more, so it is detached, open files or not. */
static int remove_dead_mount(const struct request *request)
{
	char *const by_root[] = { (char *)"umount", (char *)"-i", (char *)"-l", (char *)"--", (char *)request->point,
		NULL };
	char *const by_user[] = { (char *)"fusermount3", (char *)"-u", (char *)"-z", (char *)"--",
		(char *)request->point, NULL };
	int exit_status = 0, status;

	if (request->fake) {
		say_step("%s holds a dead mount, which mounting would take away", request->point);
		return EXIT_DONE;
	}
	say("%s holds the mount of a daemon that has died; taking it away", request->point);
	status = process_run(geteuid() == 0 ? by_root : by_user, left_ms(request), &exit_status);
	if (status == 0 && exit_status == 0)
		return EXIT_DONE;
	say("%s: the dead mount cannot be taken away: %s", request->point,
	    status ? strerror(-status) : "umount failed");
	return EXIT_MOUNT;
}

static int check_point(const struct request *request)
{
	struct mount_row row;
	struct stat st;
	bool mounted;

	for (;;) {
		mounted = mounts_find_point(request->point, &row) == 0 && strcmp(row.type, MOUNTS_TYPE) == 0;
		if (stat(request->point, &st) == 0)
			break;
		if (errno != ENOTCONN || !mounted) {
			say("mount point %s: %s", request->point, strerror(errno));
			return EXIT_MOUNT;
		}
		int status = remove_dead_mount(request);
		if (status != EXIT_DONE || request->fake)
			return status;
	}
	if (mounted) {
		say("%s is already mounted on %s", row.source, request->point);
		return EXIT_MOUNT;
	}
	if (!S_ISDIR(st.st_mode)) {
		say("mount point %s: not a directory", request->point);
		return EXIT_MOUNT;
	}
	say_step("mount point %s: a directory", request->point);
	return EXIT_DONE;
}

/* The source is a directory, or can become one. What is in it is the program's to judge. */
static int check_store(const struct request *request)
{
	char parent[PATH_MAX];
	struct stat st;
	char *slash;

	if (request->store[0] != '/')
		return EXIT_DONE;
	if (stat(request->store, &st) == 0) {
		if (S_ISDIR(st.st_mode)) {
			say_step("store %s: a directory", request->store);
			return EXIT_DONE;
		}
		say("store %s: not a directory", request->store);
		return EXIT_MOUNT;
	}
	snprintf(parent, sizeof(parent), "%s", request->store);
	slash = strrchr(parent, '/');
	*(slash == parent ? slash + 1 : slash) = '\0';
	if (errno != ENOENT || stat(parent, &st) != 0) {
		say("store %s: %s", request->store, strerror(errno));
		return EXIT_MOUNT;
	}
	say_step("store %s: will be made", request->store);
	return EXIT_DONE;
}

/*
 * umount returns before a daemon has finished, so a store may be busy for a moment after it. A daemon that has a mount
 * is another matter: waiting for that would be in vain.
 */
static int wait_for_previous(const struct request *request)
{
	struct mount_row row;
	int pidfd, status;
	pid_t pid;

	if (request->store[0] != '/' || process_of_store(request->store, &pid, &pidfd) != 0)
		return EXIT_DONE;
	if (mounts_find_source(request->store, &row) == 0) {
		say("store %s: in use by process %d, mounted on %s", request->store, pid, row.point);
		close(pidfd);
		return EXIT_MOUNT;
	}
	say_step("store %s: waiting for process %d to finish with it", request->store, pid);
	status = process_wait(pidfd, left_ms(request));
	close(pidfd);
	if (status == -ETIMEDOUT) {
		say("store %s: process %d has not finished with it within %d s", request->store, pid,
		    request->options.timeout_s);
		return EXIT_MOUNT;
	}
	return status == 0 ? EXIT_DONE : EXIT_INTERRUPTED;
}

static const char *program_path(void)
{
	const char *path = secure_getenv("MQFS_PROGRAM");

	return path && path[0] != '\0' ? path : MQFS_PROGRAM;
}

/* The program outlives its starter: a daemon that did not get ready in time is found by its store. */
static void end_daemon(const struct request *request)
{
	int pidfd;
	pid_t pid;

	if (request->store[0] != '/' || process_of_store(request->store, &pid, &pidfd) != 0)
		return;
	kill(pid, SIGTERM);
	close(pidfd);
}

/*
 * umount(8) asks a mount of FUSE only for the magic number of its type, and so looks for no helper of ours, unless
 * /run/mount/utab has a line about it. A fake mount writes that line, and `umount -i` takes it out again.
 */
static void register_mount(struct request *request)
{
	char *const argv[] = { (char *)"mount", (char *)"-i", (char *)"-f", (char *)"-t", (char *)MOUNTS_TYPE,
		(char *)"-o", (char *)"uhelper=mqfs", (char *)"--", request->store, request->point, NULL };
	int status, exit_status = 0;

	if (geteuid() != 0)
		return;
	status = process_run(argv, left_ms(request), &exit_status);
	if (status != 0 || exit_status != 0)
		say_step("the mount could not be registered: umount(8) will not wait for its daemon, umount.mqfs does");
}

static int run_program(struct request *request)
{
	char *with_options[] = { (char *)program_path(), (char *)"-o", request->options.passed, request->store,
		request->point, NULL };
	char *without[] = { (char *)program_path(), request->store, request->point, NULL };
	char **argv = request->options.passed[0] != '\0' ? with_options : without;
	int status, exit_status = 0;

	say_step("starting %s%s%s %s %s", argv[0], request->options.passed[0] ? " -o " : "", request->options.passed,
	    request->store, request->point);
	status = process_run(argv, left_ms(request), &exit_status);
	switch (status) {
	case 0: break;
	case -ETIMEDOUT:
		say("%s did not get ready within %d s (option mount-timeout)", argv[0], request->options.timeout_s);
		end_daemon(request);
		return EXIT_MOUNT;
	case -EINTR:
		say("interrupted");
		end_daemon(request);
		return EXIT_INTERRUPTED;
	default: say("%s: %s", argv[0], strerror(-status)); return EXIT_SYSTEM;
	}
	switch (exit_status) {
	case EXIT_DONE:
		register_mount(request);
		say_step("%s is mounted on %s", request->store, request->point);
		return EXIT_DONE;
	case EXIT_USAGE:
	case EXIT_SYSTEM:
	case EXIT_INTERRUPTED:
	case EXIT_MOUNT: return exit_status;
	default: say("%s ended with status %d", argv[0], exit_status); return EXIT_MOUNT;
	}
}

int helper_mount(int argc, char **argv)
{
	static int (*const checks[])(const struct request *request) = { check_point, check_store, wait_for_previous };
	struct request request;
	int status = parse(argc, argv, &request);

	if (status != EXIT_DONE)
		return status;
	if (request.options.remount)
		return remount(&request);
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		status = checks[i](&request);
		if (status != EXIT_DONE)
			return status;
	}
	if (access(program_path(), X_OK) != 0) {
		say("%s: %s", program_path(), strerror(errno));
		return EXIT_SYSTEM;
	}
	if (request.fake) {
		say_step("all checks passed; nothing was mounted (-f)");
		return EXIT_DONE;
	}
	return run_program(&request);
}
