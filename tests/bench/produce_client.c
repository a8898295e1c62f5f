/*
 * produce_client - appends messages of 100 bytes to a file, and prints how many a second it took, its last close included.
 *
 *	produce_client FILE COUNT BYTES [PRODUCERS]    writes of BYTES bytes, by so many processes, each its own opening
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE 100u

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Exits with 0, or 1 if a write failed. */
static int produce(const char *path, unsigned long count, size_t size)
{
	char *buf = malloc(size);
	size_t each = size / MESSAGE;
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0666);

	if (fd < 0 || buf == NULL || each == 0)
		return 1;
	memset(buf, 'x', size);
	for (size_t i = 1; i <= each; i++)
		buf[i * MESSAGE - 1] = '\n';
	for (unsigned long done = 0; done < count; done += each) {
		if (write(fd, buf, each * MESSAGE) != (ssize_t)(each * MESSAGE))
			return 1;
	}
	free(buf);
	return close(fd) < 0;
}

int main(int argc, char **argv)
{
	unsigned long count = argc > 3 ? strtoul(argv[2], NULL, 10) : 0,
		      producers = argc > 4 ? strtoul(argv[4], NULL, 10) : 1;
	int status, failed = 0;
	double began;

	if (count == 0 || producers == 0) {
		fprintf(stderr, "usage: produce_client FILE COUNT BYTES [PRODUCERS]\n");
		return 2;
	}
	began = now();
	for (unsigned long i = 0; i < producers; i++) {
		if (fork() == 0)
			_exit(produce(argv[1], count / producers, strtoul(argv[3], NULL, 10)));
	}
	while (wait(&status) > 0)
		failed |= status;
	printf("%.0f\n", (double)count / (now() - began));
	return failed != 0;
}
