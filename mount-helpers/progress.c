#include "mount-helpers/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "engine/clock.h"

#define BAR 40u
#define BAR_LEAST 10u
#define PERCENT 5u /* columns of "100 %" */
#define WIDTH 80u  /* of a terminal that does not say */
#define BAR_MS 100
#define LINE_MS 10000

static unsigned percent(const struct progress *progress)
{
	if (progress->total == 0 || progress->done >= progress->total)
		return 100;
	return (unsigned)((double)progress->done * 100 / (double)progress->total);
}

/* Columns that may be used: not the last, in which some terminals begin a new line. */
static size_t columns(int fd)
{
	struct winsize size = { 0 };

	return (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : WIDTH) - 1;
}

/* One line at most, or it could not be written over: without the name where that leaves no room, or even without the bar. */
static void show_bar(const struct progress *progress, unsigned done)
{
	size_t room = columns(progress->fd), len = strlen(progress->what) + 1, length;
	bool named = room >= len + BAR_LEAST + 3 + PERCENT;
	char bar[BAR + 1];

	room -= named ? len : 0;
	if (room < BAR_LEAST + 3 + PERCENT) {
		dprintf(progress->fd, "\r%3u %%", done);
		return;
	}
	length = room - 3 - PERCENT < BAR ? room - 3 - PERCENT : BAR;
	memset(bar, ' ', length);
	memset(bar, '=', done * length / 100);
	bar[length] = '\0';
	dprintf(progress->fd, "\r%s%s|%s| %3u %%", named ? progress->what : "", named ? " " : "", bar, done);
}

static void show(const struct progress *progress)
{
	unsigned done = percent(progress);

	if (progress->terminal)
		show_bar(progress, done);
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

void progress_hide(const struct progress *progress)
{
	if (progress->terminal)
		dprintf(progress->fd, "\r\033[K");
}

void progress_end(struct progress *progress)
{
	progress_hide(progress);
	progress->fd = -1;
	progress->terminal = false;
}
