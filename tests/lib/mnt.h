/*
 * mnt - a store of its own, mounted, for one test; and what tests on a mount keep asking of it.
 *
 * mnt_init() makes a temporary directory with an empty mount point; mnt_start() runs the program under test and
 * returns when that says the mount answers, which is when it exits. mnt_release() unmounts, waits for the daemon to end
 * and removes all of it. A guard process does the same if the test dies before that: it waits for the test's pidfd, so a
 * crash, a failed assertion or a time limit leaves no mount, no daemon and no files behind.
 *
 * The program is $MQFS_PROGRAM, or mqfs in $MQFS_BUILD (build); tests/run sets both. Where nothing can be mounted, tests
 * are skipped, with the reason.
 *
 * Helpers that take a path take it as printf does, below the mount: mnt_path("topics/%s/in", name). They fail the test
 * when what they were asked for does not work; those that end in _err return 0 or a negative errno instead.
 */
#ifndef MQFS_TESTS_MNT_H
#define MQFS_TESTS_MNT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MNT_SETTLE_MS 20000u /* after this long, what a test waits for is taken never to happen */

/* Of the test that runs; one process runs one test. */
struct mnt {
	char top[128]; /* temporary directory with the two below */
	char store[160];
	char dir[160];   /* the mount point */
	pid_t daemon;    /* 0: none */
	char said[4096]; /* what the program printed when it was last run */
};
extern struct mnt mnt;

void mnt_init(void); /* skips the test if nothing can be mounted here */
void mnt_release(void);
int mnt_run(const char *options);    /* runs the program; returns its exit status; options may be NULL */
void mnt_start(const char *options); /* mnt_run() that must succeed */
bool mnt_option(const char *option); /* has every mount this option beside, by $MQFS_TEST_OPTIONS? */
void mnt_stop(void);                 /* umount, and wait until the daemon has ended */
void mnt_kill(void);                 /* kill -9 of the daemon, and the dead mount detached */

/* For fixtures: mnt_init() and mnt_start() with defaults; mnt_release(). */
void mnt_setup(void);

/* A path below the mount, in one of sixteen buffers used in turn. */
const char *mnt_path(const char *format, ...) __attribute__((format(printf, 1, 2)));

void mnt_mkdir(const char *format, ...) __attribute__((format(printf, 1, 2)));
void mnt_topic(const char *name, unsigned partitions);
void mnt_group(const char *topic, const char *group);

/* Opens path (as of mnt_path) or fails the test. */
int mnt_open(const char *path, int flags);

/* One open, one write of the whole text, one close. write's errno, or 0; a short write is -EIO. */
int mnt_write_err(const char *path, int flags, const char *text, size_t len);
void mnt_write(const char *path, const char *text);

/* The whole of a file from malloc, with a NUL behind it. */
char *mnt_read(const char *path, size_t *ret_len);
int mnt_read_err(const char *path);
/* Fails unless the file holds exactly text. */
void mnt_expect(const char *path, const char *text);
/* The last line of status/errors holds both: the name of the errno, and a word of the sentence. */
void mnt_expect_told(const char *errno_name, const char *word);
/* A number from a file of "name value" lines. */
long long mnt_number(const char *path, const char *name);

/* Waits until the process (or thread) is asleep in this system call. */
void mnt_wait_blocked(pid_t tid, long syscall_number);
/* Waits for a child; returns its wait status. Fails the test after MNT_SETTLE_MS. */
int mnt_join(pid_t child);
/* As mnt_join, and fails unless it exited with 0. */
void mnt_join_ok(pid_t child);
/* A number of /proc/PID/status: Threads, VmHWM, ... */
long mnt_proc(pid_t pid, const char *field);

int64_t mnt_now_us(void); /* CLOCK_MONOTONIC */

#endif
