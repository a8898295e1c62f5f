/*
 * say - lines to the person at the terminal, and the exit statuses that mount(8) and umount(8) hand on.
 */
#ifndef MQFS_HELPERS_SAY_H
#define MQFS_HELPERS_SAY_H

enum exit_status {
	EXIT_DONE = 0,
	EXIT_USAGE = 1, /* or permission */
	EXIT_SYSTEM = 2,
	EXIT_INTERRUPTED = 8,
	EXIT_MOUNT = 32,
};

/* One line to stderr, after the name of this program. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same to stdout, with -v only. */
void say_step(const char *format, ...) __attribute__((format(printf, 1, 2)));
void say_steps(int verbose);

#endif
