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

static void open_stage(struct work *w, unsigned which)
{
	const struct engine_cred cred = { 1, 2,
		w->lingers ? 3 + w->next % 2 : 3 }; /* of another the file is emptied first */
	struct engine_producer *p = work_producer(w, which == 0 ? S : L, which == 2 ? 2 : ENGINE_ANY);
	char path[64];
	int fd;

	OK(w->ops->stage->open(p, '\n', &cred, &w->staging[which].stage));
	w->ops->producer_close(p);
	fd = w->ops->stage->descriptor(w->staging[which].stage);
	OK(fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	w->staging[which].writer = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	OK(w->staging[which].writer);
	close(fd);
}

static void append(struct work *w, int writer, const char *bytes, size_t len)
{
	struct iovec part = { (void *)(uintptr_t)bytes, len };
	struct stat st;

	if (!w->cut) {
		work_must(syscall(SYS_write, writer, bytes, len) == (long)len, "write");
		return;
	}
	work_must(!fstat(writer, &st), "fstat");
	work_must(io->pwritev(writer, &part, 1, st.st_size) == (ssize_t)len, "write");
}

/* In one piece or two, which may part a message. */
void work_stage_send(struct work *w, unsigned which, unsigned first, const struct engine_batch *batch)
{
	size_t half = first % 3 == 0 ? batch->len / 2 : 0;

	if (w->staging[which].stage == NULL)
		open_stage(w, which);
	if (half > 0)
		append(w, w->staging[which].writer, batch->data, half);
	if (first % 9 == 0)
		work_stage_take(w);
	append(w, w->staging[which].writer, batch->data + half, batch->len - half);
}

void work_stage_take(struct work *w)
{
	for (unsigned i = 0; i < STAGINGS; i++)
		if (w->staging[i].stage != NULL)
			OK(w->ops->stage->take(w->staging[i].stage));
}

void work_stage_end(struct work *w, unsigned which)
{
	if (w->staging[which].stage == NULL)
		return;
	close(w->staging[which].writer);
	OK(w->ops->stage->close(w->staging[which].stage, true));
	w->staging[which].stage = NULL;
}

void work_stage_close(struct work *w)
{
	for (unsigned i = 0; i < STAGINGS; i++)
		work_stage_end(w, i);
}
