/*
 * owed - the order of closing and what comes after it, where there are several queues of requests (uring.h).
 *
 * close(2) waits for FLUSH, and not for RELEASE: the kernel queues that before close returns. Who sees that a file was closed must
 * find what its release does: half a line is a message then, a message goes back to its queue, a lease ends. With one queue
 * it is enough to execute RELEASE before the next request is taken. With a queue for each processor, RELEASE
 * is in that of whoever closed, and the request of who comes after may be in another and overtake it. So:
 *
 * 1. A file that owes something (class.h: owes) is marked at FLUSH, before that is answered. The mark goes when RELEASE was executed,
 *    or when the file is used again: somebody has it open still and will flush it again.
 * 2. A request that was taken while any mark stands waits until every other queue is settled: everything that was in it by then
 *    has been taken, and the RELEASEs of that have been executed. A close that returned before the request was sent had queued its
 *    RELEASE by then, and had been marked before that; so RELEASE was executed, whichever queue it was in.
 * 3. A queue is settled when its thread has asked the kernel for more and was given nothing, though the kernel had a free entry to give
 *    it with. A thread that waits for others settles its own queue meanwhile, for those who wait for it: it takes what there is,
 *    executes RELEASEs, and keeps the rest for later. So no two wait for each other. It waits for nobody while it executes a request.
 *
 * What is taken while others are being settled is not covered by that: it waits for a settling of its own, if a mark stands.
 *
 * Not covered: a descriptor that one thread closes while another of the same process is reading or writing on it. Its RELEASE comes when
 * that call returns, and no FLUSH comes before it.
 */
#ifndef MQFS_FS_OWED_H
#define MQFS_FS_OWED_H

#include <stdbool.h>

struct handle;

void owed_mark(struct handle *handle);   /* before FLUSH is answered */
void owed_unmark(struct handle *handle); /* it is used */
void owed_paid(bool marked);             /* RELEASE was executed of a handle that had this in `owed` */
bool owed_any(void);

#endif
