/*
 * patience - how long a read may wait, where the kernel has a limit, and an end to those that come near it.
 *
 * Since Linux 6.14 a whole mount is ended (ENOTCONN for everybody) when one of its requests has no answer within
 * fs.fuse.default_request_timeout or max_request_timeout seconds, as they are when it is mounted; 0, the default, is no limit. A read that waits
 * for messages may wait for days. So where there is a limit it is answered EINTR after a third of it: cat, dd, tail, shells and
 * Python then read again, as after any signal that is not their end.
 */
#ifndef MQFS_FS_PATIENCE_H
#define MQFS_FS_PATIENCE_H

#include <stdint.h>

struct parked;
struct patience;

#define PATIENCE_SYSCTLS "/proc/sys/fs/fuse"

/* Milliseconds a request may take on a mount made now, by the sysctls in this directory, as the kernel reckons them; 0: no limit. */
int64_t patience_limit(const char *directory);

struct patience *patience_new(void); /* has no limit; NULL: no memory */
/* Before the first request. limit_ms: as patience_limit() says; 0 does nothing. 0, or the error of the thread that cannot be made. */
int patience_begin(struct patience *patience, int64_t limit_ms);
/* How long a read waits before it is interrupted, in ms; 0: as long as it takes. */
int64_t patience_ms(const struct patience *patience);
/* No read is ended from now on. Before open files are released. */
void patience_end(struct patience *patience);
void patience_free(struct patience *patience);

/* A request waits from now on, whoever has it meanwhile; and does not any more, which may be said again. */
void patience_watch(struct patience *patience, struct parked *parked);
void patience_forget(struct patience *patience, struct parked *parked);

#endif
