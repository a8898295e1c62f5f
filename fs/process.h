/*
 * process - what /proc says of a client's process.
 *
 * The kernel's FLUSH says that a process closed a descriptor, but not whether it did so or died. Its flags in
 * /proc/PID/stat tell: a process that a signal ends has PF_SIGNALED set before its files are closed, and the closing
 * waits for our answer, so it is still there to be looked at.
 */
#ifndef MQFS_FS_PROCESS_H
#define MQFS_FS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* Is the process (or thread) being ended by a signal? False if it cannot be told. */
bool process_is_killed(uint32_t pid);

/* Is it exiting, of itself or by a signal? False if it cannot be told. */
bool process_is_ending(uint32_t pid);

/* Has the thread a signal that it has not seen yet, and does not block? False if it cannot be told. */
bool process_has_signal(uint32_t pid);

/*
 * Are these two threads of one process? If `other` is gone already and `pid` is being killed, it is taken to have been one:
 * threads of a killed process end in any order.
 */
bool process_is_same(uint32_t pid, uint32_t other);

/*
 * Whether a process may be who wrote so many bytes to some file, the last of them at written_ms (Unix time): it had
 * begun by then, and has written as much. If that cannot be found out it may.
 */
bool process_may_have_written(uint32_t pid, uint64_t bytes, int64_t written_ms);

#endif
