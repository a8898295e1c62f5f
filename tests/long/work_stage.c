/*
 * Producing past the daemon: the writer appends to a staging file, as the kernel does for a process with passthrough. A daemon
 * that is killed has no part in it; the recorder of power cuts sees it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine/io.h"
#include "tests/long/work.h"

static void open_stage(struct work *w)
{
	static const struct engine_cred cred = { 1, 2, 3 };
	struct engine_producer *p = work_producer(w, S, ENGINE_ANY);
	char path[64];
	int fd;

	OK(w->ops->stage->open(p, '\n', &cred, &w->stage));
	w->ops->producer_close(p);
	fd = w->ops->stage->descriptor(w->stage);
	OK(fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	w->writer = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	OK(w->writer);
	close(fd);
}

static void append(struct work *w, const char *bytes, size_t len)
{
	struct iovec part = { (void *)(uintptr_t)bytes, len };
	struct stat st;

	if (!w->cut) {
		work_must(syscall(SYS_write, w->writer, bytes, len) == (long)len, "write");
		return;
	}
	work_must(!fstat(w->writer, &st), "fstat");
	work_must(io->pwritev(w->writer, &part, 1, st.st_size) == (ssize_t)len, "write");
}

/* In one piece or two, which may part a message. */
void work_stage_send(struct work *w, unsigned first, const struct engine_batch *batch)
{
	size_t half = first % 3 == 0 ? batch->len / 2 : 0;

	if (w->stage == NULL)
		open_stage(w);
	if (half > 0)
		append(w, batch->data, half);
	if (first % 9 == 0)
		work_stage_take(w);
	append(w, batch->data + half, batch->len - half);
}

void work_stage_take(struct work *w)
{
	if (w->stage != NULL)
		OK(w->ops->stage->take(w->stage));
}

void work_stage_close(struct work *w)
{
	if (w->stage == NULL)
		return;
	close(w->writer);
	OK(w->ops->stage->close(w->stage, true));
	w->stage = NULL;
}
