/*
 * bench.h - what the benchmark programs share: the message, the clock, and what they print.
 *
 * A program measures one work of one contestant and prints lines of "METRIC VALUE": rate (messages a second), p50 and p99
 * (microseconds), or others that peers.sh and scale.sh know. Whatever fails ends the program with a sentence and status 1, so
 * that no figure is printed for work that was not done.
 *
 * A message has 100 bytes with its newline, and begins with a number in 20 digits: of the message, or the time it was sent.
 */
#ifndef MQFS_TESTS_BENCH_H
#define MQFS_TESTS_BENCH_H

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE 100
#define DIGITS 20
#define PATIENCE_S 20 /* for a message on its way to a waiting consumer */

_Noreturn static inline void fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, errno ? ": %s\n" : "\n", strerror(errno));
	_exit(1);
}

static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline double seconds_since(uint64_t began_ns)
{
	return (double)(now_ns() - began_ns) / 1e9;
}

static inline void print_metric(const char *metric, double value)
{
	printf("%s %.6g\n", metric, value);
	fflush(stdout);
}

static inline void print_rate(long count, uint64_t began_ns)
{
	print_metric("rate", (double)count / seconds_since(began_ns));
}

static inline int compare_u64(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return (a > b) - (a < b);
}

static inline void print_latencies(uint64_t *ns, long count)
{
	qsort(ns, (size_t)count, sizeof(*ns), compare_u64);
	print_metric("p50", (double)ns[count / 2] / 1e3);
	print_metric("p99", (double)ns[count * 99 / 100] / 1e3);
}

/* Begins a page, as the buffers of cat and dd do: FUSE splits a read of 1 MiB that does not. */
static inline void *allocate(size_t size)
{
	void *memory = aligned_alloc(4096, (size + 4095) / 4096 * 4096);

	if (memory == NULL)
		fail("no memory");
	return memset(memory, 0, size);
}

static inline void fill_message(char *message, uint64_t number)
{
	memset(message, 'x', MESSAGE);
	for (int i = DIGITS - 1; i >= 0; i--, number /= 10)
		message[i] = (char)('0' + number % 10);
	message[DIGITS] = ' ';
	message[MESSAGE - 1] = '\n';
}

static inline uint64_t number_of(const char *message)
{
	uint64_t number = 0;

	for (int i = 0; i < DIGITS; i++)
		number = number * 10 + (uint64_t)(message[i] - '0');
	return number;
}

/* Waits for the children of this process, all of which must have been content. */
static inline void wait_for_children(void)
{
	int status;

	while (wait(&status) > 0)
		if (status != 0)
			fail("a process failed");
}

/* One message at a time from a producer to a consumer that waits, in a process or thread of its own. */
struct relay {
	sem_t ready, got;
	long count, given;
	uint64_t ns[];
};

static inline struct relay *relay_new(long count)
{
	size_t size = sizeof(struct relay) + (size_t)count * sizeof(uint64_t);
	struct relay *relay = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (relay == MAP_FAILED)
		fail("mmap");
	sem_init(&relay->ready, 1, 0);
	sem_init(&relay->got, 1, 0);
	relay->count = count;
	return relay;
}

static inline void relay_wait(sem_t *what)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE_S;
	while (sem_timedwait(what, &until) < 0)
		if (errno != EINTR)
			fail("no message came");
}

/* The consumer's side: it is about to wait; it has a message; it has dealt with it. */
static inline void relay_is_ready(struct relay *relay)
{
	sem_post(&relay->ready);
}

static inline void relay_got(struct relay *relay, const char *message)
{
	relay->ns[relay->given++] = now_ns() - number_of(message);
}

static inline int relay_goes_on(struct relay *relay)
{
	int more = relay->given < relay->count;

	sem_post(&relay->got);
	return more;
}

/* The producer's side: after each message, until the consumer has it and has had the time to wait again. */
static inline void relay_sent(struct relay *relay)
{
	relay_wait(&relay->got);
	usleep(50);
}

/* Starts the consumer in a process that ends with this one. */
static inline int relay_fork(void)
{
	pid_t parent = getpid(), child = fork();

	if (child < 0)
		fail("fork");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return child == 0;
}

#endif
