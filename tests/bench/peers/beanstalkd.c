/*
 * beanstalkd - beanstalkd by its text protocol, on a unix socket: beanstalkd SOCKET WORK COUNT
 *
 * In bulk, 500 commands are on their way at once. How much is synced is the server's configuration.
 */
#include "tests/bench/peers/peer.h"
#include <sys/socket.h>
#include <sys/un.h>

#define WINDOW 500
#define COMMAND 200 /* bytes, at most, of one put with its message */
#define LINE 300

struct connection {
	int fd;
	size_t at, end;
	char data[1 << 18];
};

static const char *address;

static struct connection *connect_to(void)
{
	struct connection *c = allocate(sizeof(*c));
	struct sockaddr_un to = { .sun_family = AF_UNIX };

	snprintf(to.sun_path, sizeof(to.sun_path), "%s", address);
	c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		fail("beanstalkd: %s", address);
	return c;
}

static void disconnect(struct connection *c)
{
	close(c->fd);
	free(c);
}

static void say(struct connection *c, const char *data, size_t length)
{
	for (ssize_t n; length > 0; data += n, length -= (size_t)n) {
		n = write(c->fd, data, length);
		if (n <= 0)
			fail("write");
	}
}

static void hear_more(struct connection *c)
{
	ssize_t n;

	memmove(c->data, c->data + c->at, c->end - c->at);
	c->end -= c->at;
	c->at = 0;
	n = read(c->fd, c->data + c->end, sizeof(c->data) - c->end);
	if (n <= 0)
		fail("read");
	c->end += (size_t)n;
}

static char *hear_line(struct connection *c, char *line)
{
	char *newline;
	size_t length;

	while ((newline = memchr(c->data + c->at, '\n', c->end - c->at)) == NULL)
		hear_more(c);
	length = (size_t)(newline - (c->data + c->at));
	if (length >= LINE)
		fail("an answer that is too long");
	memcpy(line, c->data + c->at, length);
	line[length] = '\0';
	c->at += length + 1;
	return line;
}

static void hear(struct connection *c, const char *answer)
{
	char line[LINE];

	if (strncmp(hear_line(c, line), answer, strlen(answer)) != 0)
		fail("beanstalkd: %s instead of %s", line, answer);
}

static long hear_job(struct connection *c, char *message)
{
	char line[LINE];
	size_t length;
	long id;

	if (sscanf(hear_line(c, line), "RESERVED %ld %zu", &id, &length) != 2 || length != MESSAGE)
		fail("beanstalkd: %s instead of a job", line);
	while (c->end - c->at < MESSAGE + 2)
		hear_more(c);
	memcpy(message, c->data + c->at, MESSAGE);
	c->at += MESSAGE + 2;
	return id;
}

static size_t format_put(char *command, const char *message)
{
	size_t n = (size_t)sprintf(command, "put 0 0 300 %d\r\n", MESSAGE);

	memcpy(command + n, message, MESSAGE);
	memcpy(command + n + MESSAGE, "\r\n", 2);
	return n + MESSAGE + 2;
}

static void put(struct connection *c, uint64_t number)
{
	char message[MESSAGE], command[COMMAND];

	fill_message(message, number);
	say(c, command, format_put(command, message));
	hear(c, "INSERTED");
}

static void put_many(long count, int window)
{
	struct connection *c = connect_to();
	char message[MESSAGE], *commands = allocate((size_t)window * COMMAND);

	fill_message(message, 0);
	for (long n; count > 0; count -= n) {
		size_t length = 0;

		n = count < window ? count : window;
		for (long i = 0; i < n; i++)
			length += format_put(commands + length, message);
		say(c, commands, length);
		for (long i = 0; i < n; i++)
			hear(c, "INSERTED");
	}
	disconnect(c);
	free(commands);
}

static void put_pipelined(long count)
{
	put_many(count, WINDOW);
}

static void put_answered(long count)
{
	put_many(count, 1);
}

static void settle(long count, int window)
{
	struct connection *c = connect_to();
	char message[MESSAGE], *commands = allocate((size_t)window * COMMAND);
	long *ids = allocate((size_t)window * sizeof(*ids));

	for (long n; count > 0; count -= n) {
		size_t length = 0;

		n = count < window ? count : window;
		for (long i = 0; i < n; i++)
			length += (size_t)sprintf(commands + length, "reserve\r\n");
		say(c, commands, length);
		for (long i = 0; i < n; i++)
			ids[i] = hear_job(c, message);
		length = 0;
		for (long i = 0; i < n; i++)
			length += (size_t)sprintf(commands + length, "delete %ld\r\n", ids[i]);
		say(c, commands, length);
		for (long i = 0; i < n; i++)
			hear(c, "DELETED");
	}
	disconnect(c);
	free(commands);
	free(ids);
}

/* Every work leaves the queue empty for the next one; that is not in its time. */
static void do_produce(long count)
{
	uint64_t began = now_ns();

	put_many(count, WINDOW);
	print_rate(count, began);
	settle(count, WINDOW);
}

static void do_producers(long count)
{
	produce_by(PRODUCERS, put_pipelined, count);
	settle(count / PRODUCERS * PRODUCERS, WINDOW);
}

static void do_durable_producers(long count)
{
	produce_by(DURABLE_PRODUCERS, put_answered, count);
	settle(count / DURABLE_PRODUCERS * DURABLE_PRODUCERS, WINDOW);
}

static void do_answered(long count)
{
	struct connection *c = connect_to();
	uint64_t *ns = allocate((size_t)count * sizeof(*ns)), began = now_ns();

	for (long i = 0; i < count; i++) {
		uint64_t sent = now_ns();

		put(c, (uint64_t)i);
		ns[i] = now_ns() - sent;
	}
	print_rate(count, began);
	print_latencies(ns, count);
	disconnect(c);
	settle(count, WINDOW);
}

static void do_settle_window(long count, int window)
{
	uint64_t began;

	put_many(count, WINDOW);
	began = now_ns();
	settle(count, window);
	print_rate(count, began);
}

static void do_settle(long count)
{
	do_settle_window(count, 1);
}

static void do_settle_all(long count)
{
	do_settle_window(count, WINDOW);
}

static void do_lifecycle(long count)
{
	uint64_t began = now_ns();

	put_many(count, WINDOW);
	settle(count, WINDOW);
	print_rate(count, began);
}

static void consume_waiting(struct relay *relay)
{
	struct connection *c = connect_to();
	char message[MESSAGE], command[COMMAND];
	long id;

	relay_is_ready(relay);
	do {
		say(c, "reserve\r\n", 9);
		id = hear_job(c, message);
		relay_got(relay, message);
		say(c, command, (size_t)sprintf(command, "delete %ld\r\n", id));
		hear(c, "DELETED");
	} while (relay_goes_on(relay));
	_exit(0);
}

static void do_wait(long count)
{
	struct relay *relay = relay_new(count);
	struct connection *c = connect_to();

	if (relay_fork())
		consume_waiting(relay);
	relay_wait(&relay->ready);
	usleep(20000);
	for (long i = 0; i < count; i++) {
		put(c, now_ns());
		relay_sent(relay);
	}
	wait_for_children();
	print_latencies(relay->ns, count);
	disconnect(c);
}

static const struct work works[] = {
	{ "produce", do_produce },
	{ "producers", do_producers },
	{ "answered", do_answered },
	{ "durable", do_answered },
	{ "durable-producers", do_durable_producers },
	{ "consume", do_settle_all },
	{ "settle", do_settle },
	{ "settle-all", do_settle_all },
	{ "wait", do_wait },
	{ "lifecycle", do_lifecycle },
};

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	address = argv[1];
	return RUN_WORK(works, argv[2], atol(argv[3]));
}
