#include "fs/receive.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>

#include "engine/engine.h"
#include "fs/fuse.h"

#define AT_ONCE_NS 12000 /* sooner than one that sleeps on another processor can be woken: the writer is on ours */
#define APART_NS 100000  /* later than this, twice a wakeup and more, is a pause */
#define APART_TIMES 4u   /* in a row: then the next is looked for */
#define TAKEN_NS 100000  /* one look took that long: somebody else was given our processor, or a request is large */
#define REST_NS 200000000

static bool has_others(void)
{
	cpu_set_t set;
	return sched_getaffinity(0, sizeof set, &set) || CPU_COUNT(&set) > 1;
}

void receive_init(struct receive *receive, struct fuse_session *fuse, unsigned busy_poll)
{
	*receive = (struct receive){ .fuse = fuse, .flags = fcntl(fuse_session_fd(fuse), F_GETFL) };
	if (busy_poll > 0 && has_others() && receive->flags >= 0)
		receive->look_ns = (int64_t)busy_poll * 1000;
}

/* Whether a read sleeps: who has read first and is refused pays for two more calls, so only if we look. False: as it was. */
static bool set_nonblock(struct receive *receive, bool on)
{
	int flags = on ? receive->flags | O_NONBLOCK : receive->flags & ~O_NONBLOCK;
	if (flags != receive->flags && fcntl(fuse_session_fd(receive->fuse), F_SETFL, flags))
		return false;
	receive->flags = flags;
	return true;
}

/* EAGAIN: there was none. */
static int look(struct receive *receive, struct fuse_buf *buf, int64_t begun)
{
	int64_t now = begun, before;
	int got;
	do {
		got = fuse_session_receive_buf(receive->fuse, buf);
		before = now;
		now = clock_measure_ns();
	} while (got == -EAGAIN && now - begun < receive->look_ns);
	receive_looked(receive, got != -EAGAIN, now, now - before);
	return got;
}

static int sleep_for(struct receive *receive, struct fuse_buf *buf)
{
	for (;;) {
		int got = fuse_session_receive_buf(receive->fuse, buf);
		if (got != -EAGAIN)
			return got;
		struct pollfd wait = { .fd = fuse_session_fd(receive->fuse), .events = POLLIN };
		if (poll(&wait, 1, -1) < 0)
			return -errno;
	}
}

void receive_slept(struct receive *receive, int64_t waited_ns)
{
	if (waited_ns <= AT_ONCE_NS || waited_ns >= APART_NS)
		receive->apart = 0;
	else if (receive->apart < APART_TIMES)
		receive->apart++;
}

void receive_looked(struct receive *receive, bool found, int64_t now, int64_t step_ns)
{
	if (!found)
		receive->apart -= 2;
	if (step_ns > TAKEN_NS)
		receive->rests_until = now + REST_NS;
}

bool receive_looks(const struct receive *receive, int64_t now)
{
	return receive->look_ns > 0 && receive->apart >= APART_TIMES && now >= receive->rests_until;
}

int receive_request(struct receive *receive, struct fuse_buf *buf)
{
	if (receive->look_ns == 0)
		return fuse_session_receive_buf(receive->fuse, buf);
	int64_t begun = clock_measure_ns();
	bool looks = receive_looks(receive, begun);
	int got = set_nonblock(receive, looks) && looks ? look(receive, buf, begun) : -EAGAIN;
	if (got != -EAGAIN)
		return got;
	got = sleep_for(receive, buf);
	receive_slept(receive, clock_measure_ns() - begun);
	return got;
}
