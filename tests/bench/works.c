/*
 * works - the works of the benchmark over open files: on a topic or a queue of a mount, or on a plain file.
 *
 *     works plain FILE WORK COUNT       works topic DIR WORK COUNT       works queue DIR WORK COUNT
 *     works spread:FILES PATTERN - COUNT        one write a message, in turn over FILES files; PATTERN has %d for their number
 *     works size:BYTES FILE - COUNT             messages of BYTES bytes, in writes of 64 KiB
 *
 * What each work is, and on what, is the table at the end. The time of a producer is that until its last close has returned.
 * bench.h says what is printed.
 */
#include "tests/bench/bench.h"
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#define BATCH 655 /* messages of a write of 64 KiB */
#define BULK (1 << 20)
#define PRODUCERS 4
#define DURABLE_PRODUCERS 8

/* What a work is done on. */
struct place {
	const char *dir; /* of the topic or queue; NULL: a plain file */
	char in[4096];   /* where producers append */
	long count;
};

static int open_or_fail(const char *path, int flags)
{
	int fd = open(path, flags, 0666);

	if (fd < 0)
		fail("%s", path);
	return fd;
}

static int open_in(const struct place *place, int flags)
{
	return open_or_fail(place->in, O_WRONLY | O_APPEND | (place->dir == NULL ? O_CREAT : 0) | flags);
}

static int open_below(const struct place *place, const char *name, int flags)
{
	char path[4200];

	snprintf(path, sizeof(path), "%s/%s", place->dir, name);
	return open_or_fail(path, flags);
}

static void close_or_fail(int fd)
{
	if (close(fd) < 0)
		fail("close");
}

static void write_or_fail(int fd, const char *data, size_t length)
{
	if (write(fd, data, length) != (ssize_t)length)
		fail("write");
}

static char *messages_new(long count)
{
	char *data = allocate((size_t)count * MESSAGE);

	for (long i = 0; i < count; i++)
		fill_message(data + i * MESSAGE, (uint64_t)i);
	return data;
}

static void append(const struct place *place, long count, long at_once, int flags)
{
	char *data = messages_new(at_once);
	int fd = open_in(place, flags);

	for (long n; count > 0; count -= n) {
		n = count < at_once ? count : at_once;
		write_or_fail(fd, data, (size_t)n * MESSAGE);
	}
	close_or_fail(fd);
	free(data);
}

/* Several producers at once, each in a process, which share the count. */
static void append_by(const struct place *place, int producers, int flags)
{
	uint64_t began = now_ns();

	for (int i = 0; i < producers; i++)
		if (relay_fork()) {
			append(place, place->count / producers, 1, flags);
			_exit(0);
		}
	wait_for_children();
	print_rate(place->count / producers * producers, began);
}

static void do_produce(const struct place *place)
{
	uint64_t began = now_ns();

	append(place, place->count, 1, 0);
	print_rate(place->count, began);
}

static void do_batch(const struct place *place)
{
	uint64_t began = now_ns();

	append(place, place->count, BATCH, 0);
	print_rate(place->count, began);
}

static void do_producers(const struct place *place)
{
	append_by(place, PRODUCERS, 0);
}

static void do_durable_producers(const struct place *place)
{
	append_by(place, DURABLE_PRODUCERS, O_DSYNC);
}

/* One write after the other, each timed. */
static void append_timed(const struct place *place, int flags)
{
	uint64_t *ns = allocate((size_t)place->count * sizeof(*ns)), began = now_ns();
	int fd = open_in(place, flags);
	char message[MESSAGE];

	for (long i = 0; i < place->count; i++) {
		uint64_t sent = now_ns();

		fill_message(message, (uint64_t)i);
		write_or_fail(fd, message, MESSAGE);
		ns[i] = now_ns() - sent;
	}
	close_or_fail(fd);
	print_rate(place->count, began);
	print_latencies(ns, place->count);
	free(ns);
}

static void do_answered(const struct place *place)
{
	append_timed(place, 0);
}

static void do_durable(const struct place *place)
{
	append_timed(place, O_DSYNC);
}

static long count_lines(const char *data, size_t length)
{
	const char *at = data, *end = data + length;
	long lines = 0;

	while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
		at++;
		lines++;
	}
	return lines;
}

/* Reads a file to its end in pieces of 1 MiB, and looks at every byte. */
static void read_all(int fd, const char *metric, long count)
{
	char *data = allocate(BULK);
	uint64_t began = now_ns();
	long lines = 0;
	ssize_t n;

	while ((n = read(fd, data, BULK)) > 0)
		lines += count_lines(data, (size_t)n);
	if (n < 0)
		fail("read");
	errno = 0;
	if (lines != count)
		fail("%ld messages were read instead of %ld", lines, count);
	print_metric(metric, (double)count / seconds_since(began));
	close(fd);
	free(data);
}

static void do_consume(const struct place *place)
{
	append(place, place->count, BATCH, 0);
	read_all(place->dir == NULL ? open_or_fail(place->in, O_RDONLY) : open_below(place, "groups/g/out", O_RDONLY),
	    "rate", place->count);
}

static void do_log(const struct place *place)
{
	const char *metrics[] = { "first", "again" };

	append(place, place->count, BATCH, 0);
	for (int i = 0; i < 2; i++)
		read_all(place->dir == NULL ? open_or_fail(place->in, O_RDONLY) : open_below(place, "0/log", O_RDONLY),
		    metrics[i], place->count);
}

static void do_fill(const struct place *place)
{
	append(place, place->count, BATCH, 0);
}

/* Delivered and acknowledged one by one; of a plain file: read, and the offset written to another. */
static void settle_one_by_one(const struct place *place, int from, int ack)
{
	char message[2 * MESSAGE];
	uint64_t began = now_ns();

	for (long i = 0; i < place->count; i++) {
		if (read(from, message, place->dir == NULL ? MESSAGE : sizeof(message)) != MESSAGE)
			fail("read");
		if (place->dir == NULL ? pwrite(ack, &i, sizeof(i), 0) != sizeof(i) : write(ack, "all\n", 4) != 4)
			fail("ack");
	}
	print_rate(place->count, began);
	close(ack);
	close(from);
}

static void do_settle(const struct place *place)
{
	char offset[4200];

	if (place->dir != NULL) {
		settle_one_by_one(place, open_below(place, "consumers/c/stream", O_RDONLY),
		    open_below(place, "consumers/c/ack", O_WRONLY));
		return;
	}
	snprintf(offset, sizeof(offset), "%s.offset", place->in);
	settle_one_by_one(place, open_or_fail(place->in, O_RDONLY), open_or_fail(offset, O_WRONLY | O_CREAT));
}

/* As many as a read gives, acknowledged with one write of "all". */
static void settle_all(const struct place *place, long count)
{
	int stream = open_below(place, "consumers/c/stream", O_RDONLY);
	int ack = open_below(place, "consumers/c/ack", O_WRONLY);
	char *data = allocate(BULK);

	while (count > 0) {
		ssize_t n = read(stream, data, BULK);

		if (n <= 0)
			fail("read");
		count -= count_lines(data, (size_t)n);
		write_or_fail(ack, "all\n", 4);
	}
	close(ack);
	close(stream);
	free(data);
}

static void do_settle_all(const struct place *place)
{
	uint64_t began = now_ns();

	settle_all(place, place->count);
	print_rate(place->count, began);
}

static long id_in(const char *record, const char *end)
{
	const char *id = memmem(record, (size_t)(end - record), "\"id\":", 5);

	if (id == NULL)
		fail("a record without an id");
	return strtol(id + 5, NULL, 10);
}

/* As many records as a read gives, acknowledged by the range of their ids: one producer's follow each other. */
static void do_settle_ranges(const struct place *place)
{
	int stream = open_below(place, "consumers/c/stream.json", O_RDONLY);
	int ack = open_below(place, "consumers/c/ack", O_WRONLY);
	char *data = allocate(BULK), range[64];
	uint64_t began = now_ns();

	for (long left = place->count; left > 0;) {
		ssize_t n = read(stream, data, BULK);
		const char *last;

		if (n <= 0)
			fail("read");
		last = memrchr(data, '\n', (size_t)n - 1);
		snprintf(
		    range, sizeof(range), "%ld-%ld\n", id_in(data, data + n), id_in(last ? last + 1 : data, data + n));
		write_or_fail(ack, range, strlen(range));
		left -= count_lines(data, (size_t)n);
	}
	print_rate(place->count, began);
	close(ack);
	close(stream);
	free(data);
}

static void do_lifecycle(const struct place *place)
{
	uint64_t began = now_ns();

	append(place, place->count, BATCH, 0);
	settle_all(place, place->count);
	print_rate(place->count, began);
}

/* A consumer that waits: in read(2) of a stream; for a plain file, as tail -f does, in inotify. */
static void consume_waiting(const struct place *place, struct relay *relay, const char *stream, int ack)
{
	int from = place->dir == NULL ? open_or_fail(place->in, O_RDONLY) : open_below(place, stream, O_RDONLY);
	int events = place->dir == NULL ? inotify_init() : -1;
	char message[4096];

	if (events >= 0)
		inotify_add_watch(events, place->in, IN_MODIFY);
	relay_is_ready(relay);
	for (int more = 1; more;) {
		ssize_t n = read(from, message, place->dir == NULL ? MESSAGE : sizeof(message));

		if (n == 0 && events >= 0 && read(events, message, sizeof(message)) > 0)
			continue;
		if (n != MESSAGE)
			fail("read");
		relay_got(relay, message);
		if (ack >= 0)
			write_or_fail(ack, "all\n", 4);
		more = relay_goes_on(relay);
	}
	_exit(0);
}

static void relay_messages(const struct place *place, const char *stream, const char *ack)
{
	struct relay *relay = relay_new(place->count);
	int fd = open_in(place, 0);
	char message[MESSAGE];

	if (relay_fork())
		consume_waiting(place, relay, stream, ack == NULL ? -1 : open_below(place, ack, O_WRONLY));
	relay_wait(&relay->ready);
	usleep(20000);
	for (long i = 0; i < place->count; i++) {
		fill_message(message, now_ns());
		write_or_fail(fd, message, MESSAGE);
		relay_sent(relay);
	}
	wait_for_children();
	close_or_fail(fd);
	print_latencies(relay->ns, place->count);
}

static void do_wait_plain(const struct place *place)
{
	relay_messages(place, NULL, NULL);
}

static void do_wait_topic(const struct place *place)
{
	relay_messages(place, "groups/g/stream", NULL);
}

static void do_wait_queue(const struct place *place)
{
	relay_messages(place, "consumers/c/stream", "consumers/c/ack");
}

/* What is delivered is acknowledged by that: as BRPOP does. */
static void do_wait_auto_ack(const struct place *place)
{
	relay_messages(place, "consumers/c/stream", NULL);
}

static void do_open_write_close(const struct place *place)
{
	uint64_t began = now_ns();

	for (long i = 0; i < place->count; i++)
		append(place, 1, 1, 0);
	print_rate(place->count, began);
}

/* In turn over many files, all of them open and with a first message, which is when a log gets its files; that is not in the time. */
static void spread(const char *pattern, int files, long count)
{
	int *fds = allocate((size_t)files * sizeof(*fds));
	char path[4096], message[MESSAGE];
	uint64_t began;

	fill_message(message, 0);
	for (int i = 0; i < files; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(path, sizeof(path), pattern, i);
#pragma GCC diagnostic pop
		fds[i] = open_or_fail(path, O_WRONLY | O_APPEND);
		write_or_fail(fds[i], message, MESSAGE);
	}
	began = now_ns();
	for (long i = 0; i < count; i++)
		write_or_fail(fds[i % files], message, MESSAGE);
	print_rate(count, began);
	for (int i = 0; i < files; i++)
		close_or_fail(fds[i]);
	free(fds);
}

/* Messages of another size, in writes of 64 KiB, or of one message if that is longer. */
static void sized(const char *path, size_t size, long count)
{
	long at_once = size > 65536 ? 1 : (long)(65536 / size);
	char *data = allocate((size_t)at_once * size);
	int fd = open_or_fail(path, O_WRONLY | O_APPEND);
	uint64_t began = now_ns();

	memset(data, 'x', (size_t)at_once * size);
	for (long i = 0; i < at_once; i++)
		data[(size_t)(i + 1) * size - 1] = '\n';
	for (long left = count, n; left > 0; left -= n) {
		n = left < at_once ? left : at_once;
		write_or_fail(fd, data, (size_t)n * size);
	}
	close_or_fail(fd);
	print_rate(count, began);
	free(data);
}

static void do_read_group(const struct place *place)
{
	read_all(open_below(place, "groups/g/out", O_RDONLY), "rate", place->count);
}

static void do_read_one(const struct place *place)
{
	int from = open_below(place, "groups/g/out", O_RDONLY);
	char message[MESSAGE];
	uint64_t began = now_ns();

	for (long i = 0; i < place->count; i++)
		if (read(from, message, sizeof(message)) != MESSAGE)
			fail("read");
	print_rate(place->count, began);
	close(from);
}

static const struct work {
	const char *on, *name;
	void (*run)(const struct place *place);
} works[] = {
	/* produce: one write(2) a message; in writes of 64 KiB; by four processes */
	{ "*", "produce", do_produce },
	{ "*", "batch", do_batch },
	{ "*", "producers", do_producers },
	/* each write timed; each of them durable; the same by eight processes; open, write and close for each */
	{ "*", "answered", do_answered },
	{ "*", "durable", do_durable },
	{ "*", "durable-producers", do_durable_producers },
	{ "*", "open-write-close", do_open_write_close },
	/* consume: fill and read through a group; fill and read the log twice; read what is there, in bulk or one by one; deliver and acknowledge */
	{ "*", "fill", do_fill },
	{ "plain", "consume", do_consume },
	{ "topic", "consume", do_consume },
	{ "topic", "read-group", do_read_group },
	{ "topic", "read-one", do_read_one },
	{ "plain", "log", do_log },
	{ "topic", "log", do_log },
	{ "plain", "settle", do_settle },
	{ "queue", "settle", do_settle },
	{ "queue", "settle-all", do_settle_all },
	{ "queue", "settle-ranges", do_settle_ranges },
	/* from a producer to a consumer that waits */
	{ "plain", "wait", do_wait_plain },
	{ "topic", "wait", do_wait_topic },
	{ "queue", "wait", do_wait_queue },
	{ "queue", "wait-auto-ack", do_wait_auto_ack },
	/* produce, deliver and acknowledge, all in bulk */
	{ "queue", "lifecycle", do_lifecycle },
};

static int run(const char *on, const char *path, const char *name, long count)
{
	struct place place = { .dir = strcmp(on, "plain") == 0 ? NULL : path, .count = count };

	snprintf(place.in, sizeof(place.in), place.dir == NULL ? "%s" : "%s/in", path);
	for (size_t i = 0; i < sizeof(works) / sizeof(works[0]); i++)
		if (strcmp(name, works[i].name) == 0 && (works[i].on[0] == '*' || strcmp(on, works[i].on) == 0)) {
			works[i].run(&place);
			return 0;
		}
	fprintf(stderr, "works: there is no work %s of a %s\n", name, on);
	return 2;
}

int main(int argc, char **argv)
{
	long count = argc == 5 ? atol(argv[4]) : 0;

	if (count <= 0) {
		fprintf(
		    stderr, "usage: works plain|topic|queue PATH WORK COUNT, spread:FILES|size:BYTES PATH - COUNT\n");
		return 2;
	}
	errno = 0;
	if (strncmp(argv[1], "spread:", 7) == 0)
		spread(argv[2], atoi(argv[1] + 7), count);
	else if (strncmp(argv[1], "size:", 5) == 0)
		sized(argv[2], (size_t)atol(argv[1] + 5), count);
	else
		return run(argv[1], argv[2], argv[3], count);
	return 0;
}
