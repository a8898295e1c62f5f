#include "mount-helpers/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/clock.h"

#define BAR 40u
#define BAR_MS 100
#define LINE_MS 10000

static unsigned percent(const struct progress *progress)
{
	if (progress->total == 0 || progress->done >= progress->total)
		return 100;
	return (unsigned)((double)progress->done * 100 / (double)progress->total);
}

static void show(const struct progress *progress)
{
	unsigned done = percent(progress), full = done * BAR / 100;
	char bar[BAR + 1];

	memset(bar, '=', full);
	memset(bar + full, ' ', BAR - full);
	bar[BAR] = '\0';
	if (progress->terminal)
		dprintf(progress->fd, "\r%s |%s| %3u %%", progress->what, bar, done);
	else
		dprintf(progress->fd, "%s: %u %%, %" PRIu64 " of %" PRIu64 " MiB\n", progress->what, done,
		    progress->done >> 20, progress->total >> 20);
}

void progress_start(struct progress *progress, const char *what, uint64_t total, int fd)
{
	*progress = (struct progress){
		.what = what, .total = total, .fd = fd, .terminal = fd >= 0 && isatty(fd), .shown_ms = clock_mono_ms()
	};
	if (progress->terminal)
		show(progress);
}

void progress_add(struct progress *progress, uint64_t bytes)
{
	int64_t now = clock_mono_ms();

	progress->done += bytes;
	if (progress->fd < 0 || now - progress->shown_ms < (progress->terminal ? BAR_MS : LINE_MS))
		return;
	progress->shown_ms = now;
	show(progress);
}

void progress_end(struct progress *progress)
{
	if (progress->terminal)
		dprintf(progress->fd, "\r\033[K");
	progress->fd = -1;
	progress->terminal = false;
}
