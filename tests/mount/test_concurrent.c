/* Eight producers and three groups at once: no message lost, doubled, mixed or out of order within its partition. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/mnt.h"

enum { PRODUCERS = 8, EACH = 4000, PARTITIONS = 4, TOTAL = PRODUCERS * EACH };

TestSuite(concurrent, .init = mnt_setup, .fini = mnt_release, .timeout = 120);

/* What one group has seen; shared, since its readers may be several processes. */
struct seen {
	unsigned char times[PRODUCERS][EACH];
	int last[PARTITIONS][PRODUCERS]; /* number of the last message of this producer in this partition, or -1 */
	unsigned count, doubled, disordered, broken;
};

static struct seen *new_seen(void)
{
	struct seen *seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	memset(seen->last, -1, sizeof(seen->last));
	return seen;
}

static void see(struct seen *seen, int partition, const char *text)
{
	int p, n, end = 0;

	if (sscanf(text, "p%d n%d padding-of-%*d-%n", &p, &n, &end) != 2 || end == 0 || p < 0 || p >= PRODUCERS ||
	    n < 0 || n >= EACH || (int)strspn(text + end, "x") != n % 200 || strcmp(text + end + n % 200, "|") != 0) {
		__atomic_add_fetch(&seen->broken, 1, __ATOMIC_RELAXED);
		return;
	}
	if (__atomic_add_fetch(&seen->times[p][n], 1, __ATOMIC_RELAXED) > 1)
		__atomic_add_fetch(&seen->doubled, 1, __ATOMIC_RELAXED);
	if (seen->last[partition][p] >= n)
		__atomic_add_fetch(&seen->disordered, 1, __ATOMIC_RELAXED);
	seen->last[partition][p] = n;
	__atomic_add_fetch(&seen->count, 1, __ATOMIC_RELEASE);
}

/* Messages of 25 to 225 bytes, written in pieces whose ends are anywhere, now and then with a sync or a new opening. */
static int produce(int p)
{
	static char text[EACH * 256];
	size_t len = 0;
	int fd = open(mnt_path("topics/t/in"), O_WRONLY | O_APPEND);

	for (int n = 0; n < EACH; n++)
		len += (size_t)sprintf(text + len, "p%d n%d padding-of-%d-%.*s|\n", p, n, n % 200, n % 200,
		    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		    "xx"
		    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		    "xx");
	srand((unsigned)p);
	for (size_t done = 0; done < len;) {
		size_t piece = (size_t)(rand() % 400 + 1);
		if (piece > len - done)
			piece = len - done;
		ssize_t n = write(fd, text + done, piece);
		if (n <= 0)
			return 1;
		done += (size_t)n;
		if (rand() % 500 == 0 && fsync(fd) != 0)
			return 2;
		if (rand() % 100 == 0 && text[done - 1] == '\n') {
			close(fd);
			fd = open(mnt_path("topics/t/in"), O_WRONLY | O_APPEND);
		}
	}
	return close(fd);
}

/* Hands each complete line to see(); returns the bytes of the line that has not ended, moved to the start. */
static size_t take_lines(struct seen *seen, char *buf, size_t len, int partition)
{
	char *line = buf, *end;

	buf[len] = '\0';
	while ((end = memchr(line, '\n', len - (size_t)(line - buf))) != NULL) {
		*end = '\0';
		char *payload = strstr(line, "\"payload\":\"");
		if (partition >= 0) {
			see(seen, partition, line);
		} else if (payload != NULL &&
			   sscanf(strstr(line, "\"partition\":"), "\"partition\":%d", &partition) == 1) {
			payload += strlen("\"payload\":\"");
			payload[strcspn(payload, "\"")] = '\0';
			see(seen, partition, payload);
			partition = -1;
		}
		line = end + 1;
	}
	size_t rest = len - (size_t)(line - buf);
	memmove(buf, line, rest);
	return rest;
}

/* Reads the stream of a group (partition < 0: all of it, as JSON) until the group has seen everything; acks on the way. */
static int consume_stream(struct seen *seen, const char *group, int partition)
{
	static char buf[(1 << 20) + 1];
	size_t len = 0;
	int fd = partition < 0
		     ? open(mnt_path("topics/t/groups/%s/stream.json", group), O_RDONLY | O_NONBLOCK)
		     : open(mnt_path("topics/t/groups/%s/%d/stream", group, partition), O_RDONLY | O_NONBLOCK);
	int ack = open(mnt_path("topics/t/groups/%s/ack", group), O_WRONLY);

	while (__atomic_load_n(&seen->count, __ATOMIC_ACQUIRE) < TOTAL) {
		ssize_t n = read(fd, buf + len, (1 << 20) - len);
		if (n < 0 && errno == EAGAIN) {
			poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 100);
			continue;
		}
		if (n <= 0)
			return 1;
		len = take_lines(seen, buf, len + (size_t)n, partition);
		if (write(ack, "all\n", 4) != 4)
			return 2;
	}
	close(ack);
	return close(fd);
}

/* A shell-like consumer: reads what is there, acks it, and comes again. */
static int consume_out(struct seen *seen, const char *group)
{
	static char buf[(1 << 20) + 1];

	while (__atomic_load_n(&seen->count, __ATOMIC_ACQUIRE) < TOTAL) {
		for (int partition = 0; partition < PARTITIONS; partition++) {
			int fd = open(mnt_path("topics/t/groups/%s/%d/out", group, partition), O_RDONLY);
			size_t len = 0;
			ssize_t n;
			while ((n = read(fd, buf + len, (1 << 20) - len)) > 0)
				len = take_lines(seen, buf, len + (size_t)n, partition);
			close(fd);
			int ack = open(mnt_path("topics/t/groups/%s/%d/ack", group, partition), O_WRONLY);
			if (n < 0 || len > 0 || write(ack, "all\n", 4) != 4)
				return 1;
			close(ack);
		}
	}
	return 0;
}

#define CHILD(call) (fork() == 0 ? (_exit(call), 0) : ++children)

static void expect_all_once(const struct seen *seen, const char *who)
{
	unsigned missing = 0;

	for (int p = 0; p < PRODUCERS; p++) {
		for (int n = 0; n < EACH; n++)
			missing += seen->times[p][n] == 0;
	}
	cr_expect_eq(missing, 0, "%s: %u messages lost", who, missing);
	cr_expect_eq(seen->doubled, 0, "%s: %u messages twice", who, seen->doubled);
	cr_expect_eq(seen->disordered, 0, "%s: %u messages out of order", who, seen->disordered);
	cr_expect_eq(seen->broken, 0, "%s: %u messages mixed or torn", who, seen->broken);
}

/* Each group sees each message once and in order: by one JSON stream, by four plain streams, and by out and ack. */
Test(concurrent, eight_producers_and_three_groups)
{
	struct seen *json = new_seen(), *plain = new_seen(), *polled = new_seen();
	int children = 0, status;
	char line[64];

	mnt_topic("t", PARTITIONS);
	mnt_group("t", "json");
	mnt_group("t", "plain");
	mnt_group("t", "polled");
	CHILD(consume_stream(json, "json", -1));
	for (int partition = 0; partition < PARTITIONS; partition++)
		CHILD(consume_stream(plain, "plain", partition));
	CHILD(consume_out(polled, "polled"));
	for (int p = 0; p < PRODUCERS; p++)
		CHILD(produce(p));
	for (; children > 0; children--) {
		pid_t child = wait(&status);
		cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "child %d: %#x", child, (unsigned)status);
	}
	expect_all_once(json, "json");
	expect_all_once(plain, "plain");
	expect_all_once(polled, "polled");
	cr_expect_eq(mnt_number(mnt_path("topics/t/info"), "messages"), TOTAL);
	for (int i = 0; i < 3; i++) {
		snprintf(line, sizeof(line), "topics/t/groups/%s/info", i == 0 ? "json" : i == 1 ? "plain" : "polled");
		cr_expect_eq(mnt_number(mnt_path("%s", line), "lag"), 0, "%s", line);
	}
}

/* Writers that sync after each message at the same time are all answered, and all they wrote is there. */
Test(concurrent, many_confirmed_writers)
{
	enum { WRITERS = 16, LINES = 50 };
	int children = 0, status;
	size_t len;

	mnt_topic("t", 1);
	for (int w = 0; w < WRITERS; w++) {
		children++;
		if (fork() == 0) {
			int fd = open(mnt_path("topics/t/in"), O_WRONLY | O_APPEND | O_DSYNC), ok = 1;
			for (int i = 0; i < LINES; i++)
				ok &= dprintf(fd, "%02d %02d\n", w, i) == 6;
			_exit(!ok);
		}
	}
	for (; children > 0; children--) {
		wait(&status);
		cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	char *log = mnt_read(mnt_path("topics/t/0/log"), &len);
	int next[WRITERS] = { 0 };
	cr_assert_eq(len, WRITERS * LINES * 6);
	for (size_t i = 0; i < len; i += 6) {
		int w = atoi(log + i);
		cr_assert(w >= 0 && w < WRITERS);
		cr_expect_eq(atoi(log + i + 3), next[w]++, "writer %d out of order", w);
	}
	free(log);
}

/* Two groups that one process reads and another renames and deletes meanwhile: no crash, no hang, no wrong answer. */
Test(concurrent, objects_come_and_go_under_use)
{
	int children = 0, status;

	mnt_topic("t", 1);
	for (int i = 0; i < 4; i++) {
		children++;
		if (fork() == 0) {
			for (int n = 0; n < 150; n++) {
				mkdir(mnt_path("topics/t/groups/g%d", n % 3), 0777);
				mnt_write_err(mnt_path("topics/t/in"), O_WRONLY | O_APPEND, "x\n", 2);
				mnt_read_err(mnt_path("topics/t/groups/g%d/next", n % 3));
				mnt_write_err(mnt_path("topics/t/groups/g%d/ack", n % 3), O_WRONLY, "all\n", 4);
				rename(mnt_path("topics/t/groups/g%d", n % 3), mnt_path("topics/t/groups/h%d", i));
				rmdir(mnt_path("topics/t/groups/h%d", i));
			}
			_exit(0);
		}
	}
	for (; children > 0; children--) {
		wait(&status);
		cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	cr_expect_eq(mnt_number(mnt_path("topics/t/info"), "messages"), 600);
	char *health = mnt_read(mnt_path("status/health"), NULL);
	cr_expect_eq(strncmp(health, "state ok", 8), 0, "%s", health);
	free(health);
}
