#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "mount-helpers/helper.h"
#include "mount-helpers/mounts.h"
#include "mount-helpers/process.h"
#include "mount-helpers/say.h"

/* A daemon that ends writes out what is in memory: as long as that takes, but not for ever. */
#define END_TIMEOUT_S 90
#define PROGRESS_S 3

struct request {
	const char *operand;
	bool lazy, force, read_only, no_mtab, verbose;
};

static int usage(void)
{
	say("usage: %s DIR [-flnrv]", program_invocation_short_name);
	return EXIT_USAGE;
}

static int parse(int argc, char **argv, struct request *ret_request)
{
	struct request request = { 0 };

	for (int option; (option = getopt(argc, argv, "flnrvt:N:")) != -1;) {
		switch (option) {
		case 'f': request.force = true; break;
		case 'l': request.lazy = true; break;
		case 'n': request.no_mtab = true; break;
		case 'r': request.read_only = true; break;
		case 'v': request.verbose = true; break;
		case 't': break;
		case 'N': say("-N: other mount namespaces are not supported: use nsenter(1)"); return EXIT_USAGE;
		default: return usage();
		}
	}
	if (argc - optind != 1)
		return usage();
	request.operand = argv[optind];
	*ret_request = request;
	return EXIT_DONE;
}

/* The operand is the directory, or a store. */
static int find_mount(const char *operand, struct mount_row *ret_row)
{
	char path[PATH_MAX];

	if (mounts_resolve(operand, path) == 0 &&
	    (mounts_find_point(path, ret_row) == 0 || mounts_find_source(path, ret_row) == 0))
		return 0;
	return mounts_find_source(operand, ret_row);
}

static int run_umount(const struct request *request, const char *point, int *ret_status)
{
	char *argv[10];
	int count = 0;

	if (geteuid() == 0) {
		argv[count++] = (char *)"umount";
		argv[count++] = (char *)"-i"; /* without a helper: that is us */
		if (request->force)
			argv[count++] = (char *)"-f";
		if (request->no_mtab)
			argv[count++] = (char *)"-n";
		if (request->read_only)
			argv[count++] = (char *)"-r";
	} else {
		argv[count++] = (char *)"fusermount3";
		argv[count++] = (char *)"-u";
	}
	if (request->lazy)
		argv[count++] = (char *)(geteuid() == 0 ? "-l" : "-z");
	argv[count++] = (char *)"--";
	argv[count++] = (char *)point;
	argv[count] = NULL;
	return process_run(argv, PROCESS_FOREVER, ret_status);
}

static int wait_for_end(pid_t pid, int pidfd)
{
	for (int waited_s = 0; waited_s < END_TIMEOUT_S; waited_s += PROGRESS_S) {
		int status = process_wait(pidfd, PROGRESS_S * 1000);

		if (status == 0) {
			say_step("the daemon (process %d) has ended", pid);
			return EXIT_DONE;
		}
		if (status != -ETIMEDOUT) {
			say("interrupted; the daemon (process %d) is still finishing", pid);
			return EXIT_INTERRUPTED;
		}
		say("waiting for the daemon (process %d) to finish", pid);
	}
	say("unmounted, but the daemon (process %d) has not finished within %d s", pid, END_TIMEOUT_S);
	return EXIT_MOUNT;
}

static int unmount(const struct request *request, const struct mount_row *row)
{
	int status, exit_status, pidfd = -1;
	pid_t pid = 0;

	status = process_of_store(row->source, &pid, &pidfd);
	if (status != 0)
		say_step("no daemon to wait for: %s/lock: %s", row->source, strerror(-status));
	say_step("unmounting %s (%s)", row->point, row->source);
	status = run_umount(request, row->point, &exit_status);
	if (status != 0) {
		say("%s: umount: %s", row->point, strerror(-status));
		exit_status = status == -EINTR ? EXIT_INTERRUPTED : EXIT_SYSTEM;
	} else if (exit_status != 0) {
		process_print_holders(row->point);
		exit_status = geteuid() == 0 ? exit_status : EXIT_MOUNT;
	} else if (pidfd >= 0 && !request->lazy &&
		   mounts_find_source(row->source, &(struct mount_row){ 0 }) == -ENOENT) {
		/* Detached lazily, it lives for as long as somebody has a file open; -r may have left it mounted. */
		exit_status = wait_for_end(pid, pidfd);
	}
	if (pidfd >= 0)
		close(pidfd);
	return exit_status;
}

int helper_umount(int argc, char **argv)
{
	struct request request;
	struct mount_row row;
	int status = parse(argc, argv, &request);

	if (status != EXIT_DONE)
		return status;
	say_steps(request.verbose);
	status = find_mount(request.operand, &row);
	if (status != 0) {
		say("%s: %s", request.operand, status == -ENOENT ? "not mounted" : strerror(-status));
		return status == -ENOENT ? EXIT_MOUNT : EXIT_SYSTEM;
	}
	if (strcmp(row.type, MOUNTS_TYPE) != 0) {
		say("%s: a mount of type %s, not %s", row.point, row.type, MOUNTS_TYPE);
		return EXIT_USAGE;
	}
	return unmount(&request, &row);
}
