/*
 * queue_client - one producer and one consumer of a queue, for tests/bench/queue_scale.sh.
 *
 *     queue_client fill QUEUE COUNT       COUNT messages of 100 bytes, in large writes
 *     queue_client publish QUEUE COUNT    the same, a write each; prints microseconds a message
 *     queue_client take QUEUE COUNT       reads and acknowledges one by one, over open files; prints the same
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE 100 /* with its newline */
#define AT_ONCE 1000

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int open_file(const char *queue, const char *name, int flags)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", queue, name);
	fd = open(path, flags);
	if (fd < 0)
		fail(path);
	return fd;
}

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void produce(const char *queue, long count, long at_once)
{
	int fd = open_file(queue, "in", O_WRONLY | O_APPEND);
	char *data = malloc((size_t)at_once * MESSAGE);

	if (data == NULL)
		fail("malloc");
	memset(data, 'x', (size_t)at_once * MESSAGE);
	for (long i = 0; i < at_once; i++)
		data[(i + 1) * MESSAGE - 1] = '\n';
	while (count > 0) {
		long n = count < at_once ? count : at_once;

		if (write(fd, data, (size_t)n * MESSAGE) != n * MESSAGE)
			fail("write");
		count -= n;
	}
	free(data);
	if (close(fd) < 0)
		fail("close");
}

static void take(const char *queue, long count)
{
	int stream = open_file(queue, "consumers/c/stream", O_RDONLY);
	int ack = open_file(queue, "consumers/c/ack", O_WRONLY);
	char message[2 * MESSAGE];

	for (long i = 0; i < count; i++) {
		if (read(stream, message, sizeof(message)) != MESSAGE)
			fail("read");
		if (write(ack, "all\n", 4) != 4)
			fail("ack");
	}
	close(ack);
	close(stream);
}

int main(int argc, char **argv)
{
	long count = argc == 4 ? atol(argv[3]) : 0;
	double began = now_us();

	if (count <= 0)
		return 2;
	if (strcmp(argv[1], "fill") == 0) {
		produce(argv[2], count, AT_ONCE);
		return 0;
	}
	if (strcmp(argv[1], "publish") == 0)
		produce(argv[2], count, 1);
	else
		take(argv[2], count);
	printf("%.3f\n", (now_us() - began) / (double)count);
	return 0;
}
