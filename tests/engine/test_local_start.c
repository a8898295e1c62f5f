/*
 * What a start meets: too little memory, files that cannot be read or written at the moment, and records of the journal that are whole
 * and make no sense. Whatever it is, the store is what it was once it is over, or status tells what is not.
 *
 * A store with something of everything is left by a kill, and by power cuts after which the notes of the journal have more than the
 * logs. Each of these is opened with its n-th allocation (read, change of a file) failing. With MQFS_START_ALL in the environment, as
 * the long suite `starts` has it (tests/long/run), n is each from 1 until there is none. Without, it is a choice: the first and
 * the last few, and of those between fewer and fewer, at most a sixth of n apart. So most calls in the middle of a start, some hundreds for
 * each way and state, fail in the long suite only; which ones they are is the same in each run.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/crc32c.h"
#include "engine/journal_internal.h"
#include "engine/local_internal.h"
#include "tests/lib/alloc.h"
#include "tests/lib/contract_exchange.h"
#include "tests/lib/contract_tx.h"
#include "tests/lib/crash.h"
#include "tests/lib/fault.h"
#include "tests/lib/nosync.h"
#include "tests/lib/powercut.h"

#define STATES 3 /* what is left: by a kill; by a power cut, of what was not synced nothing; some of it */
#define LIKE 1   /* records of each type and size that are tried */
#define FEWER                                                                                                          \
	6u /* without MQFS_START_ALL: of the calls of a start each of the first so many fails, then every second, and so on */
#define LAST 4u /* and each of the last so many */

static const char *const objects[] = { "queue q", "queue o", "queue r", "consumer q/w1", "topic t", "topic k",
	"set k cleanup.policy compact", "set t dedup.window.ms 3600000", "set q dedup.window.ms 3600000",
	"set q max.priority 9", "set o consumer.timeout.ms 2000000000", "set o ack.timeout.ms 2000000000", "exchange x",
	"pattern x #", "pattern x some", "bind x # q q", "bind x # t t", "bind x some o o", "exchange dead",
	"type dead fanout", "pattern dead #", "bind dead # t t", "bind dead # o o",
	"set r dead.letter.to exchanges/dead", NULL };

static const char *const queues[] = { "send q g", "get q/w1", "ack q/w1 g", "send q a b:p5 c d:d100000000 e f",
	"get q/w1", "get q/w1", "get q/w1", "get q/w1", "reject q/w1 b", "tx n", "in n ack q/w1 a", "in n nack q/w1 c",
	"in n reject q/w1 e", "in n send o h", "in n push o i", NULL };

static const char *const after[] = { "mv q ready f o ready", "redrive q/dlq b", "send r j l", "get r", "reject r j",
	"get o", "touch o unacked i +100000000", "get o", "ack o h", NULL };

static struct {
	struct contract *c;
	char saved[STATES][PATH_MAX + 64];
	char source[PATH_MAX + 64];
	unsigned told; /* since the store was made again */
	uint8_t uuid[16];
} t;

/* ---- the store ---- */

static void run_all(const char *const *lines)
{
	for (; *lines != NULL; lines++) {
		const char *answer = q_run(t.c, *lines);

		cr_assert(answer[0] < 'A' || answer[0] > 'Z', "%s: %s (%s)", *lines, answer, engine_reason());
	}
}

/* Through the exchange: two of which o gets the second only, with keys, ids and headers, or one that a record does not hold. */
static void publish(bool large)
{
	static char data[3 * JOURNAL_RECORD_MAX];
	struct engine_object *exchange = q_object(t.c, "x");
	struct engine_producer *producer = contract_producer(t.c, exchange, ENGINE_ANY);
	struct engine_header header = { { "name", 4 }, { "value", 5 } };
	struct engine_batch batch = { .data = data, .count = 2, .ts_ms = -1 };
	struct engine_props props[2];

	memset(data, large ? 'L' : 'S', sizeof(data));
	batch.len = large ? sizeof(data) : 10;
	data[batch.len - 1] = data[4] = '\n';
	for (unsigned i = 0; i < 2; i++) {
		props[i] = ENGINE_PROPS_INIT;
		props[i].id = (struct engine_span){ i == 0 ? "one" : "two", 3 };
		props[i].key = (struct engine_span){ "key", 3 };
		props[i].routing_key = (struct engine_span){ i == 0 ? "other" : "some", i == 0 ? 5 : 4 };
		props[i].headers = &header;
		props[i].header_count = 1;
	}
	if (large)
		props[0].id = props[1].id = (struct engine_span){ 0 };
	batch.props = props;
	assert_ok(contract_send_batch(t.c, producer, &batch));
	t.c->ops->producer_close(producer);
	t.c->ops->put(exchange);
}

static void send_keyed(const char *key, const char *line)
{
	struct engine_object *topic = q_object(t.c, "k");
	struct engine_producer *producer = contract_producer(t.c, topic, ENGINE_ANY);
	struct engine_batch batch = contract_batch(line);
	struct engine_props props = ENGINE_PROPS_INIT;

	props.key = (struct engine_span){ key, strlen(key) };
	batch.props = &props;
	assert_ok(contract_send_batch(t.c, producer, &batch));
	assert_ok(contract_sync(t.c, producer));
	t.c->ops->producer_close(producer);
	t.c->ops->put(topic);
}

/* A channel that is still open, and has written more than was taken. */
static struct engine_stage *stage(void)
{
	static const struct engine_cred cred = { 1000, 100, 4711 };
	struct engine_object *topic = q_object(t.c, "t");
	struct engine_producer *producer = contract_producer(t.c, topic, 0);
	struct engine_stage *file;
	char path[64];
	int fd, writer;

	assert_ok(contract_set(t.c, topic, "linger.ms", "60000"));
	assert_ok(t.c->ops->stage->open(producer, '\n', &cred, &file));
	t.c->ops->producer_close(producer);
	fd = t.c->ops->stage->descriptor(file);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	writer = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	cr_assert_eq(write(writer, "staged\n", 7), 7);
	assert_ok(t.c->ops->stage->take(file));
	cr_assert_eq(write(writer, "later\npart", 10), 10);
	close(writer);
	close(fd);
	t.c->ops->put(topic);
	return file;
}

static void settle_group(struct engine_object *topic)
{
	struct engine_object *group = contract_group(t.c, topic, "g"), *tx;

	contract_send(t.c, topic, 0, "A\nB\nC\nD\n");
	contract_snapshot(t.c, group);
	assert_ok(t.c->ops->ack(group, 0, 0));
	assert_ok(contract_sync_group(t.c, group));
	tx = contract_lookup(t.c, t.c->root, ENGINE_TX, "n");
	assert_ok(t.c->ops->tx->ack(tx, group, 0, 1));
	assert_ok(t.c->ops->tx->reject(tx, group, 0, 2));
	t.c->ops->put(tx);
	t.c->ops->put(group);
}

static void save_powercut(const struct powercut *cut, unsigned state, uint64_t seed)
{
	struct contract *c = calloc(1, sizeof(*c));

	crash_make(c, cut, powercut_count(cut), seed, false);
	tmpdir_replace(t.saved[state], c->source);
	tmpdir_remove(&c->dir);
	free(c);
}

/* Leaves the stores that a crash leaves, and none that is open. */
static void prepare(void)
{
	struct engine_object *topic;
	struct engine_stage *file;
	struct powercut *cut;
	struct local *local;

	tmpdir_in_memory();
	nosync_install();
	t.c = calloc(1, sizeof(*t.c));
	q_open(t.c, true);
	q_lenient(t.c);
	local = (struct local *)t.c->engine;
	memcpy(t.uuid, local->store.uuid, sizeof(t.uuid));
	run_all(objects);
	topic = q_object(t.c, "t");
	assert_ok(checkpoint_run(local));
	timers_stop(local);
	cleaner_stop(local); /* nobody makes a file while those there are are listed */
	cut = powercut_start_store(local->store.dirfd, "catalog", "reserve");
	local->timers.stop = false;
	assert_ok(timers_start(local));
	run_all(queues);
	settle_group(topic);
	run_all((const char *const[]){ "commit n", NULL });
	send_keyed("1", "one\n");
	send_keyed("2", "two\n");
	send_keyed("1", "\n");
	publish(false);
	publish(true);
	run_all(after);
	run_all((const char *const[]){ "await r/dlq 0", NULL });
	timers_stop(local);
	assert_ok(journal_sync(local->journal));
	powercut_stop(cut);
	file = stage();
	snprintf(t.source, sizeof(t.source), "%s", t.c->source);
	for (unsigned i = 0; i < STATES; i++)
		snprintf(t.saved[i], sizeof(t.saved[i]), "%s/saved%u", t.c->dir.path, i);
	tmpdir_replace(t.saved[0], t.source);
	save_powercut(cut, 1, 0);
	save_powercut(cut, 2, 7);
	powercut_free(cut);
	(void)t.c->ops->stage->close(file, true);
	t.c->ops->put(topic);
	contract_close(t.c);
}

static void finish(void)
{
	contract_open(t.c);
	q_close(t.c);
	free(t.c);
}

/* ---- what is in it ---- */

static char text[1 << 16];

static void add(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void add(const char *format, ...)
{
	size_t used = strlen(text);
	va_list args;

	va_start(args, format);
	cr_assert_lt(vsnprintf(text + used, sizeof(text) - used, format, args), (int)(sizeof(text) - used));
	va_end(args);
}

static void add_log(struct engine_object *topic, uint32_t p)
{
	struct engine_partition_stat stat;
	struct engine_view view;
	uint64_t offset = 0;
	int rc = t.c->ops->partition_stat(topic, p, &stat);

	add("%" PRIu32 ":", p);
	while (rc == 0 && (rc = t.c->ops->partition_read(topic, p, offset, UINT32_MAX, &t.c->scratch, &view)) == 0) {
		const char *data = view.batch.data;

		for (uint32_t i = 0; i < view.batch.count; data += view.batch.lengths[i++] + 1)
			add(" %.1s%" PRIu32, data, view.batch.lengths[i]);
		offset = view.offset + view.batch.count;
	}
	add(" %s\n", strerrorname_np(-rc));
}

static bool add_key(void *ctx, const struct engine_key *key)
{
	(void)ctx;
	add(" %.*s@%" PRIu64, (int)key->key.len, key->key.ptr, key->offset);
	return true;
}

static bool add_message(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct engine_view view;
	int rc = t.c->ops->queue->message_read(ctx, stat->id, &t.c->scratch, &view);

	(void)next;
	if (rc == 0)
		add(" %.1s%" PRIu32 "/%" PRIu32 "/%" PRIu32, view.batch.data, view.batch.lengths[0], stat->priority,
		    stat->deliveries);
	else
		add(" %s", strerrorname_np(-rc));
	return true;
}

static void add_queue(const char *name, struct engine_object *queue)
{
	for (int state = 0; state < ENGINE_STATE_COUNT; state++) {
		uint64_t cursor[2] = { 0 };
		int rc;

		add("%s %d:", name, state);
		rc = t.c->ops->queue->message_list(
		    queue, (enum engine_message_state)state, ENGINE_ANY, NULL, cursor, add_message, queue);
		add(" %d\n", rc);
	}
}

static void add_dlq(const char *name, struct engine_object *of)
{
	struct engine_object *dlq;

	if (t.c->ops->lookup(t.c->engine, of, ENGINE_QUEUE, "dlq", &dlq) < 0)
		return;
	add_queue(name, dlq);
	t.c->ops->put(dlq);
}

static void add_group(struct engine_object *topic)
{
	struct engine_cursor_stat stat = { 0 };
	struct engine_object *group;
	int rc;

	if (t.c->ops->lookup(t.c->engine, topic, ENGINE_GROUP, "g", &group) < 0)
		return;
	rc = t.c->ops->cursor_stat(group, 0, &stat);
	add("g %" PRIu64 " %" PRIu64 " %d\n", stat.committed, stat.given, rc);
	add_dlq("g/dlq", group);
	t.c->ops->put(group);
}

static const char *dump(void)
{
	static const char *const names[] = { "q", "o", "r" };
	struct engine_object *object;

	text[0] = '\0';
	object = q_object(t.c, "t");
	add_log(object, 0);
	add_group(object);
	t.c->ops->put(object);
	object = q_object(t.c, "k");
	add_log(object, 0);
	add("%d\n", t.c->ops->key_list(object, (struct engine_span){ 0 }, add_key, NULL));
	t.c->ops->put(object);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		object = q_object(t.c, names[i]);
		add_queue(names[i], object);
		add_dlq("its dlq", object);
		t.c->ops->put(object);
	}
	return text;
}

static int compare_words(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Whether both have the same in each line, whatever its order. */
static bool has_same(const char *one, const char *other)
{
	char *texts[2] = { strdup(one), strdup(other) }, *ends[2] = { NULL, NULL };
	char *lines[2] = { strtok_r(texts[0], "\n", &ends[0]), strtok_r(texts[1], "\n", &ends[1]) };
	bool same = true;

	while (same && lines[0] != NULL && lines[1] != NULL) {
		char *words[2][64] = { { NULL } };
		size_t counts[2] = { 0, 0 };

		for (int i = 0; i < 2; i++) {
			char *end = NULL;

			for (char *word = strtok_r(lines[i], " ", &end); word != NULL; word = strtok_r(NULL, " ", &end))
				words[i][counts[i]++] = word;
			qsort(words[i], counts[i], sizeof(words[i][0]), compare_words);
			lines[i] = strtok_r(NULL, "\n", &ends[i]);
		}
		same = counts[0] == counts[1];
		for (size_t w = 0; same && w < counts[0]; w++)
			same = strcmp(words[0][w], words[1][w]) == 0;
	}
	same = same && lines[0] == lines[1];
	free(texts[0]);
	free(texts[1]);
	return same;
}

/* ---- starts ---- */

static void count_told(void *ctx, int err, const char *what)
{
	(void)ctx;
	t.told += err != 0;
	if (getenv("MQFS_TEST_TELL") != NULL)
		fprintf(stderr, "told: %s\n", what);
}

static int open_store(void)
{
	struct engine_options options = { .notify = { .fn = count_told } };
	int rc = engine_open(t.source, &options, &t.c->engine);

	if (rc < 0)
		return rc;
	t.c->ops = t.c->engine->ops;
	return t.c->ops->get(t.c->engine, ENGINE_ROOT_ID, &t.c->root);
}

static void close_store(void)
{
	timers_stop((struct local *)t.c->engine);
	t.c->ops->put(t.c->root);
	(void)t.c->ops->close(t.c->engine); /* after a fault it may say so */
}

static void make_store(unsigned state)
{
	t.told = 0;
	tmpdir_replace(t.source, t.saved[state]);
}

/* What is in the store, for whoever opens it and meets nothing. */
static char *whole(unsigned state)
{
	char *found;

	make_store(state);
	assert_ok(open_store());
	found = strdup(dump());
	close_store();
	return found;
}

struct way {
	const char *name;
	void (*arm)(uint64_t n);
	uint64_t (*disarm)(void);
	bool is_lost; /* what could not be read may be taken for damaged: then it is told of */
};

/* One start with the n-th call failing, and one without. Returns how many calls there were. */
static uint64_t start(const struct way *way, unsigned state, uint64_t n, const char *expected)
{
	const char *now;
	uint64_t calls;
	int rc;

	make_store(state);
	way->arm(n);
	rc = open_store();
	calls = way->disarm();
	if (rc == 0) {
		q_tick(1000); /* what was to be tried again is */
		now = dump();

		t.c->ops->health(t.c->engine, t.c->text, CONTRACT_TEXT);
		cr_assert(t.told > 0 || strncmp(t.c->text, "state ok", 8) != 0 || strcmp(now, expected) == 0,
		    "%s %" PRIu64 " of %" PRIu64 ", state %u: nothing is told, and there is\n%s\nand not\n%s",
		    way->name, n, calls, state, now, expected);
		close_store();
	} else {
		cr_assert(rc == -ENOMEM || engine_reason()[0] != '\0' || rc != -EUCLEAN, "%s %" PRIu64 ": %s",
		    way->name, n, strerrorname_np(-rc));
	}
	assert_ok(open_store());
	now = dump();
	cr_assert(strcmp(now, expected) == 0 || (t.told > 0 && (way->is_lost || has_same(now, expected))),
	    "%s %" PRIu64 " of %" PRIu64 ", state %u, %s: afterwards there is\n%s\nand not\n%s", way->name, n, calls,
	    state, rc < 0 ? strerrorname_np(-rc) : "opened", now, expected);
	close_store();
	return calls;
}

/* Which call fails after the n-th, of about so many. */
static uint64_t next_call(uint64_t n, uint64_t calls)
{
	uint64_t next = n + 1 + n / FEWER, last = calls > LAST ? calls - LAST + 1 : 1;

	if (getenv("MQFS_START_ALL") != NULL || n >= last)
		return n + 1;
	return next < last ? next : last;
}

static void starts(const struct way *way)
{
	prepare();
	for (unsigned state = 0; state < STATES; state++) {
		char *expected = whole(state);
		uint64_t calls = start(way, state, UINT64_MAX, expected), n = 1;

		while (start(way, state, n, expected) >= n)
			n = next_call(n, calls);
		cr_assert_gt(n, 10);
		free(expected);
	}
	finish();
}

Test(local_start, without_memory)
{
	starts(&(struct way){ "allocation", alloc_arm, alloc_disarm, false });
}

static void reads_eio(uint64_t n)
{
	alloc_arm_reads(n, EIO);
}

static void reads_emfile(uint64_t n)
{
	alloc_arm_reads(n, EMFILE);
}

Test(local_start, cannot_read)
{
	starts(&(struct way){ "read", reads_eio, alloc_disarm_reads, true });
}

Test(local_start, too_many_files)
{
	starts(&(struct way){ "read", reads_emfile, alloc_disarm_reads, true });
}

static void change_fails(uint64_t n)
{
	fault_arm(FAULT_ANY | FAULT_MINE, n, EIO, false);
}

static void disk_is_full(uint64_t n)
{
	fault_arm(FAULT_WRITE | FAULT_OPEN, n, ENOSPC, true);
}

Test(local_start, cannot_write)
{
	starts(&(struct way){ "change", change_fails, fault_disarm, false });
}

Test(local_start, disk_is_full)
{
	starts(&(struct way){ "change", disk_is_full, fault_disarm, false });
}

/* A start none of whose files goes, from the n-th on: what it had brought into the catalog does not come to that once more. */
static uint64_t start_without_unlink(unsigned state, uint64_t n, const char *expected)
{
	uint64_t calls;

	make_store(state);
	fault_arm(FAULT_UNLINK, n, EIO, true);
	if (open_store() == 0) {
		cr_assert_str_eq(dump(), expected, "state %u, from the %" PRIu64 "th on nothing is removed", state, n);
		close_store();
	}
	calls = fault_disarm();
	assert_ok(open_store());
	dump();
	cr_assert(has_same(text, expected),
	    "state %u, from the %" PRIu64 "th of %" PRIu64 " on nothing was removed: there is\n%s\nand not\n%s", state,
	    n, calls, text, expected);
	close_store();
	return calls;
}

/* What the old files of the journal say does not count once more when they are still there. */
Test(local_start, old_files_stay)
{
	prepare();
	for (unsigned state = 0; state < STATES; state++) {
		char *expected = whole(state);
		uint64_t n = 1;

		while (start_without_unlink(state, n, expected) >= n)
			n++;
		cr_assert_gt(n, 1);
		free(expected);
	}
	finish();
}

/* ---- records that make no sense ---- */

struct journal_file {
	char name[32];
	uint8_t *bytes;
	size_t size;
	uint32_t seed;
};

static int journal_dir(void)
{
	char path[PATH_MAX + 128];

	snprintf(path, sizeof(path), "%s/journal", t.source);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* The one that has the records. */
static void read_journal(struct journal_file *file)
{
	uint64_t *numbers;
	size_t count;
	int fd = journal_dir();

	assert_ok(journal_list(fd, &numbers, &count));
	cr_assert_gt(count, 0);
	journal_file_name(file->name, numbers[count - 1]);
	file->seed = journal_seed(t.uuid, numbers[count - 1]);
	file->bytes = tmpdir_get(fd, file->name, &file->size);
	cr_assert_not_null(file->bytes);
	free(numbers);
	close(fd);
}

static void write_record(const struct journal_file *file, size_t pos, const uint8_t *record, size_t bytes)
{
	char path[PATH_MAX + 128];
	int fd;

	snprintf(path, sizeof(path), "%s/journal/%s", t.source, file->name);
	fd = open(path, O_WRONLY);
	cr_assert_eq(pwrite(fd, record, bytes, (off_t)pos), (ssize_t)bytes);
	close(fd);
}

/* The store opens, and what is there then is there from then on. */
static void start_with(const struct journal_file *file, size_t pos, uint8_t *record, size_t bytes, size_t at)
{
	char *first;

	bytes_put32(record, crc32c(file->seed, record + 4, bytes - 4));
	make_store(1);
	write_record(file, pos, record, bytes);
	cr_assert_eq(open_store(), 0, "record at %zu, byte %zu: %s", pos, at, engine_reason());
	first = strdup(dump());
	close_store();
	assert_ok(open_store());
	cr_assert_str_eq(dump(), first, "record of type %u at %zu, byte %zu of %zu: there was\n%s\nand is\n%s",
	    record[4], pos, at, bytes, first, text);
	close_store();
	free(first);
}

/* Each number in it is another: none, or one; the largest. */
static void change_numbers(const struct journal_file *file, size_t pos, const uint8_t *was, size_t bytes)
{
	static uint8_t record[JOURNAL_RECORD_MAX + 16];
	size_t end = bytes < 160 ? bytes : 160; /* what follows is payload */

	for (size_t at = JOURNAL_RECORD_HEADER; at < end; at += 4) {
		uint32_t number = bytes_get32(was + at), other[2] = { number == 0, UINT32_MAX };

		for (unsigned i = 0; i < 2; i++) {
			if (other[i] == number)
				continue;
			memcpy(record, was, bytes);
			bytes_put32(record + at, other[i]);
			start_with(file, pos, record, bytes, at);
		}
	}
}

/* Its body is shorter, and what follows is no record. */
static void cut_record(const struct journal_file *file, size_t pos, const uint8_t *was, size_t bytes)
{
	static const size_t sizes[] = { 0, 8, 24, 32, 48 };
	static uint8_t record[JOURNAL_RECORD_MAX + 16];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (JOURNAL_RECORD_HEADER + sizes[i] >= bytes)
			continue;
		memcpy(record, was, bytes);
		bytes_put32(record + 4, (uint32_t)(was[4] | sizes[i] << 16));
		start_with(file, pos, record, JOURNAL_RECORD_HEADER + sizes[i], SIZE_MAX);
	}
}

static void whole_but_senseless(unsigned type)
{
	struct journal_file file;
	unsigned found = 0, found_of[1024] = { 0 };

	prepare();
	make_store(1);
	read_journal(&file);
	for (size_t pos = JOURNAL_HEADER, bytes; pos + JOURNAL_RECORD_HEADER < file.size; pos += bytes) {
		const uint8_t *record = file.bytes + pos;

		if (record[4] == 0)
			break;
		bytes = journal_record_bytes(bytes_get32(record + 4) >> 16);
		if (record[4] != type || bytes > 2048 || found_of[bytes % 1024]++ >= LIKE)
			continue;
		found++;
		change_numbers(&file, pos, record, bytes);
		cut_record(&file, pos, record, bytes);
	}
	cr_assert_gt(found, 0);
	free(file.bytes);
	finish();
}

Test(local_start, senseless_cursors)
{
	whole_but_senseless(JOURNAL_CURSOR);
}

Test(local_start, senseless_queues)
{
	whole_but_senseless(JOURNAL_QUEUE);
}

Test(local_start, senseless_moves)
{
	whole_but_senseless(JOURNAL_MOVE);
}

Test(local_start, senseless_commits)
{
	whole_but_senseless(JOURNAL_ROUTE);
}

Test(local_start, senseless_logs)
{
	whole_but_senseless(JOURNAL_LOG);
}
