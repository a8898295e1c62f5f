#include "tests/lib/staging.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

const struct engine_cred staging_cred = { 1000, 100, 4711 };

int staging_open(struct contract *c, struct engine_producer *producer, char delimiter, const struct engine_cred *by,
    struct engine_stage **ret_stage)
{
	int rc = c->ops->stage->open(producer, delimiter, by, ret_stage);

	c->ops->producer_close(producer);
	return rc;
}

struct engine_object *staging_topic(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1);

	assert_ok(c->ops->set_setting(topic, engine_setting_find(ENGINE_TOPIC, "linger.ms"), "60000"));
	return topic;
}

struct engine_stage *staging_channel(struct contract *c, struct engine_object *topic, char delimiter)
{
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);
	struct engine_stage *stage = NULL;

	assert_ok(staging_open(c, producer, delimiter, &staging_cred, &stage));
	return stage;
}

/* As the kernel opens the backing file of an opening with O_APPEND. */
int staging_writer(struct contract *c, struct engine_stage *stage)
{
	char path[64];
	int fd = c->ops->stage->descriptor(stage), writer;

	cr_assert_geq(fd, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	writer = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	cr_assert_geq(writer, 0);
	close(fd);
	return writer;
}

void staging_put(int writer, const char *text, size_t len)
{
	cr_assert_eq(write(writer, text, len), (ssize_t)len);
}

void staging_text(int writer, const char *text)
{
	staging_put(writer, text, strlen(text));
}

void staging_number(int writer, uint64_t *next)
{
	char line[32];

	staging_put(writer, line, (size_t)snprintf(line, sizeof(line), "%" PRIu64 "\n", (*next)++));
}

void staging_check(struct contract *c, struct engine_object *topic, uint64_t count, const char *what)
{
	uint64_t offset = 0, end = contract_partition(c, topic, 0).end;
	struct engine_view view;
	char expected[32];

	while (offset < end) {
		const char *data;

		assert_ok(c->ops->partition_read(topic, 0, offset, UINT32_MAX, &c->scratch, &view));
		data = view.batch.data;
		for (uint32_t i = 0; i < view.batch.count; i++, offset++) {
			int len = snprintf(expected, sizeof(expected), "%" PRIu64 "\n", offset);

			cr_assert(
			    view.batch.lengths[i] + 1 == (uint32_t)len && memcmp(data, expected, (size_t)len) == 0,
			    "%s: message %" PRIu64 " is %.*s", what, offset, (int)view.batch.lengths[i], data);
			data += view.batch.lengths[i] + 1;
		}
	}
	cr_assert_eq(offset, count, "%s: %" PRIu64 " messages of %" PRIu64, what, offset, count);
}

int staging_end(struct contract *c, struct engine_stage *stage, int writer)
{
	close(writer);
	return c->ops->stage->close(stage, true);
}

size_t staging_files(struct contract *c)
{
	char path[PATH_MAX + 200];
	struct dirent *entry;
	size_t count = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "%s/staging", c->source);
	dir = opendir(path);
	cr_assert_not_null(dir);
	while ((entry = readdir(dir)) != NULL)
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count;
}

bool staging_no_files(struct contract *c, void *ctx)
{
	(void)ctx;
	return staging_files(c) == 0;
}

/* ---- killed at any moment ---- */

struct staging_shared *staging_share(void)
{
	unsigned seed = (unsigned)time(NULL);
	void *shared =
	    mmap(NULL, sizeof(struct staging_shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	cr_assert_neq(shared, MAP_FAILED);
	fprintf(stderr, "seed %u\n", seed);
	srand(seed);
	return shared;
}

_Noreturn void staging_take_until_killed(struct contract *c, struct engine_stage *stage, struct staging_shared *shared)
{
	int fd = c->ops->stage->descriptor(stage);
	char link[64];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, shared->path + 1, sizeof(shared->path) - 2);
	cr_assert_gt(len, 0);
	atomic_thread_fence(memory_order_seq_cst);
	*(volatile char *)shared->path = '>';
	for (;;)
		(void)c->ops->stage->take(stage);
}

/* He never stops for anything that happens to the engine; a part at a time, so that takes see halves. */
static _Noreturn void write_until_stopped(struct staging_shared *shared)
{
	int writer = open(shared->path + 1, O_WRONLY | O_APPEND);
	uint64_t next = atomic_load(&shared->written);
	char line[32];

	while (!atomic_load(&shared->stop)) {
		int len = snprintf(line, sizeof(line), "%" PRIu64 "\n", next), half = len / 2;

		if (write(writer, line, (size_t)half) != half ||
		    write(writer, line + half, (size_t)(len - half)) != len - half)
			_exit(1);
		atomic_store(&shared->written, ++next);
	}
	_exit(0);
}

static void await_written(struct staging_shared *shared, uint64_t more)
{
	uint64_t target = atomic_load(&shared->written) + more;

	while (atomic_load(&shared->written) < target)
		nanosleep(&(struct timespec){ 0, 100000 }, NULL);
}

static void stop_writer(struct staging_shared *shared, pid_t writer)
{
	int status;

	atomic_store(&shared->stop, true);
	waitpid(writer, &status, 0);
	cr_assert_eq(status, 0);
}

void staging_kill(struct contract *c, struct staging_shared *shared,
    void (*run)(struct contract *c, struct staging_shared *shared), bool late)
{
	pid_t engine, writer;

	contract_close(c);
	shared->path[0] = '\0';
	atomic_store(&shared->stop, false);
	engine = fork();
	if (engine == 0)
		run(c, shared);
	while (*(volatile char *)shared->path != '>')
		nanosleep(&(struct timespec){ 0, 100000 }, NULL);
	writer = fork();
	if (writer == 0)
		write_until_stopped(shared);
	await_written(shared, 20 + (uint64_t)rand() % 3000);
	kill(engine, SIGKILL);
	waitpid(engine, NULL, 0);
	if (!late)
		stop_writer(shared, writer);
	contract_open(c);
	if (late) {
		await_written(shared, 100);
		stop_writer(shared, writer);
	}
}
