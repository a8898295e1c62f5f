/*
 * process - commands that the helpers run, and the daemon whose end they wait for.
 *
 * Waiting is done on pidfds, so a process is never mistaken for a later one with its number, and nothing is polled.
 */
#ifndef MQFS_HELPERS_PROCESS_H
#define MQFS_HELPERS_PROCESS_H

#include <sys/types.h>

/* How long to wait, and whether SIGINT, SIGTERM or SIGHUP ends the wait (process_catch_signals). */
#define PROCESS_FOREVER (-1)

/* From here on, those signals end process_run and process_wait with -EINTR. 0 or negative errno. */
int process_catch_signals(void);

/*
 * Runs a command and waits for it. 0 and its exit status (128 + signal if one killed it); -ETIMEDOUT or -EINTR, the command
 * having been sent SIGTERM; or the negative errno that kept it from starting.
 */
int process_run(char *const argv[], int timeout_ms, int *ret_status);

/* Waits for the end of a process that is not our child, by pidfd. 0, -ETIMEDOUT, -EINTR. */
int process_wait(int pidfd, int timeout_ms);

/*
 * The daemon that has a store: the pid in STORE/lock, if that process holds the file open. 0 with its pid and a pidfd (to
 * be closed), -ESRCH if there is none, or the negative errno that kept us from finding out.
 */
int process_of_store(const char *store, pid_t *ret_pid, int *ret_pidfd);

/* Prints to stderr who uses what is mounted at point: the pid, its name, and by what. Tells at most ten. */
void process_print_holders(const char *point);

#endif
