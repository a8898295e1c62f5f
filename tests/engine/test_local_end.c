/*
 * Files of a log that are gone are missed: what is lost is told of, no offset is given again that was on disk, and all else goes on. The store was
 * closed in order, or its daemon was killed, with what it knows in the catalog, or in the journal only.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/local_queue.h"
#include "tests/lib/contract.h"
#include "tests/lib/nosync.h"

#define END_TEST(name)                                                                                                 \
	static void name(struct contract *c);                                                                          \
	Test(local_end, name)                                                                                          \
	{                                                                                                              \
		tmpdir_in_memory();                                                                                    \
		nosync_install();                                                                                      \
		contract_run(true, name);                                                                              \
	}                                                                                                              \
	static void name(struct contract *c)

static struct {
	char text[16384];
} told;

static void tell(void *ctx, int err, const char *what)
{
	size_t used = strlen(told.text);

	(void)ctx;
	if (err != 0)
		snprintf(told.text + used, sizeof(told.text) - used, "%s\n", what);
}

static void reopen(struct contract *c, bool remake)
{
	struct engine_options options = { .remake_logs = remake, .notify = { .fn = tell } };

	told.text[0] = '\0';
	assert_ok(engine_open(c->source, &options, &c->engine));
	c->ops = c->engine->ops;
	assert_ok(c->ops->get(c->engine, ENGINE_ROOT_ID, &c->root));
}

static void shut(struct contract *c)
{
	c->ops->put(c->root);
	c->root = NULL;
	assert_ok(c->ops->close(c->engine));
	c->engine = NULL;
}

static const char *health(struct contract *c)
{
	static char text[4096];

	text[c->ops->health(c->engine, text, sizeof(text) - 1)] = '\0';
	return text;
}

/* ---- what is done to it ---- */

static struct engine_object *named(struct contract *c, enum engine_kind kind, const char *name)
{
	struct engine_object *object = NULL;

	assert_ok(c->ops->lookup(c->engine, c->root, kind, name, &object));
	return object;
}

static struct engine_object *make(struct contract *c, enum engine_kind kind, const char *name)
{
	const struct engine_owner owner = { 1, 2, 0755 };
	struct engine_object *object = NULL;

	assert_ok(c->ops->create(c->engine, c->root, kind, name, &owner, &object));
	return object;
}

/* A message of 1 KiB, which begins with its number. */
static int send(struct contract *c, struct engine_object *to, unsigned number, bool sync)
{
	struct engine_batch batch = { .count = 1, .cred = { 1, 2, 3 }, .ts_ms = 5 };
	struct engine_producer *p = NULL;
	struct engine_identity identity;
	char data[1024];
	int rc;

	memset(data, 'x', sizeof(data));
	data[snprintf(data, sizeof(data), "%u", number)] = ' ';
	data[sizeof(data) - 1] = '\n';
	batch.data = data;
	batch.len = sizeof(data);
	assert_ok(c->ops->identity(to, &identity));
	if (identity.kind == ENGINE_QUEUE)
		rc = c->ops->queue->producer_open(to, 0, false, &p);
	else
		rc = c->ops->producer_open(to, 0, (struct engine_span){ NULL, 0 }, &p);
	if (rc < 0)
		return rc;
	rc = c->ops->producer_send(p, &batch, NULL);
	if (rc == 0 && sync) {
		struct sync_point *point = identity.kind == ENGINE_QUEUE
					       ? &queue_lane(queue_of_object((struct object *)to), 0)->sync
					       : &topic_partition(topic_of_object((struct object *)to), 0)->sync;

		rc = flusher_run((struct local *)c->engine, &point, 1);
	}
	c->ops->producer_close(p);
	return rc;
}

static void small_segments(struct contract *c, struct engine_object *topic)
{
	assert_ok(c->ops->set_setting(topic, engine_setting_find(ENGINE_TOPIC, "segment.bytes"), "65536"));
}

static uint64_t log_of(struct engine_object *object)
{
	struct object *of = (struct object *)object;

	return of->kind == ENGINE_QUEUE ? queue_lane(queue_of_object(of), 0)->log_id
					: topic_partition(topic_of_object(of), 0)->log_id;
}

static struct engine_partition_stat stat_of(struct contract *c, struct engine_object *topic)
{
	struct engine_partition_stat stat = { 0 };

	assert_ok(c->ops->partition_stat(topic, 0, &stat));
	return stat;
}

enum { LAST, ALL, DIRECTORY };

/* Removes the files of the last segment, or of all, or the directory as well. */
static void lose(struct contract *c, uint64_t log_id, int what)
{
	char dir_name[PATH_MAX + 128], last[64] = "";
	struct dirent *entry;
	DIR *dir;

	snprintf(dir_name, sizeof(dir_name), "%s/logs/%016" PRIx64, c->source, log_id);
	dir = opendir(dir_name);
	cr_assert_not_null(dir);
	while ((entry = readdir(dir)) != NULL) {
		if (strstr(entry->d_name, ".index") != NULL && strcmp(entry->d_name, last) > 0)
			snprintf(last, sizeof(last), "%.63s", entry->d_name);
	}
	rewinddir(dir);
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] != '.' && (what != LAST || strncmp(entry->d_name, last, 20) == 0))
			assert_ok(unlinkat(dirfd(dir), entry->d_name, 0));
	}
	closedir(dir);
	if (what == DIRECTORY)
		assert_ok(rmdir(dir_name));
}

/* As a kill leaves it: a copy of the store as it is now, which the daemon that has it does not get to. */
static void kill_it(struct contract *c)
{
	char command[6 * PATH_MAX], copy[PATH_MAX + 128];

	snprintf(copy, sizeof(copy), "%s.killed", c->source);
	snprintf(command, sizeof(command), "rm -rf %s && cp -a %s %s", copy, c->source, copy);
	cr_assert_eq(system(command), 0);
	shut(c);
	snprintf(command, sizeof(command), "find %s -mindepth 1 -delete && cp -a %s/. %s && rm -rf %s", c->source, copy,
	    c->source, copy);
	cr_assert_eq(system(command), 0);
}

static unsigned number_at(struct contract *c, struct engine_object *topic, uint64_t offset)
{
	struct engine_scratch scratch = { 0 };
	struct engine_view view = { 0 };
	unsigned number = UINT32_MAX;

	if (c->ops->partition_read(topic, 0, offset, 1, &scratch, &view) == 0)
		number = (unsigned)strtoul(view.batch.data, NULL, 10);
	engine_scratch_release(&scratch);
	return number;
}

/* What is known of t, which had `end` messages: from says what is left. */
static void expect_lost(struct contract *c, uint64_t end, bool all)
{
	struct engine_object *topic = named(c, ENGINE_TOPIC, "t");
	struct engine_partition_stat stat = stat_of(c, topic);
	uint64_t left = 0;
	char text[80];

	cr_assert_eq(stat.end, end, "%" PRIu64 " instead of %" PRIu64 ": %s", stat.end, end, told.text);
	cr_assert_eq(stat.earliest, all ? end : 0);
	while (!all && left < end && number_at(c, topic, left) == left)
		left++;
	cr_assert(all || (left > 0 && left < end));
	snprintf(text, sizeof(text), "messages %" PRIu64 " to %" PRIu64 " are lost", left, end - 1);
	cr_assert_not_null(strstr(told.text, text), "%s: %s", text, told.text);
	cr_assert_not_null(strstr(health(c), text), "%s", health(c));
	cr_assert_not_null(strstr(health(c), "degraded"));
	for (uint64_t i = left; !all && i < end; i++)
		cr_assert_eq(number_at(c, topic, i), UINT32_MAX);
	assert_ok(send(c, topic, (unsigned)end, false));
	cr_assert_eq(number_at(c, topic, end), end);
	c->ops->put(topic);
}

/* It stays so, and is not told of again. */
static void expect_same(struct contract *c, uint64_t end)
{
	struct engine_object *topic;

	kill_it(c); /* what came last was not synced */
	reopen(c, false);
	topic = named(c, ENGINE_TOPIC, "t");
	cr_assert_eq(stat_of(c, topic).end, end + 1, "%" PRIu64, stat_of(c, topic).end);
	cr_assert_eq(number_at(c, topic, end), end);
	cr_assert_null(strstr(told.text, "with files"), "%s", told.text);
	c->ops->put(topic);
}

/* ---- tests ---- */

static const struct {
	const char *name;
	int what;
	bool closed;     /* else it was killed */
	bool checkpoint; /* before, so that the catalog knows of all */
	unsigned
	    many; /* messages that come at once, then one by one, confirmed: the journal has some, and knows of others */
	unsigned singles;
} cases[] = {
	{ "last, closed", LAST, true, false, 150, 0 },
	{ "last, killed behind a checkpoint", LAST, false, true, 150, 0 },
	{ "last, killed, of which the journal knows", LAST, false, false, 150, 0 },
	{ "last, killed, of which the journal has all", LAST, false, false, 64, 10 },
	{ "all, closed", ALL, true, false, 150, 0 },
	{ "all of one segment, killed", ALL, false, false, 0, 20 },
};

/* The end of a log is gone: what is known of it is not given again. */
END_TEST(segments_are_gone)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct engine_object *topic;
		unsigned sent = 0;
		uint64_t log_id;

		if (c->root == NULL)
			reopen(c, false);
		topic = make(c, ENGINE_TOPIC, "t");
		small_segments(c, topic);
		log_id = log_of(topic);
		for (; sent < cases[i].many; sent++)
			assert_ok(send(c, topic, sent, sent + 1 == cases[i].many));
		for (; sent < cases[i].many + cases[i].singles; sent++)
			assert_ok(send(c, topic, sent, true));
		c->ops->put(topic);
		if (cases[i].checkpoint)
			assert_ok(checkpoint_run((struct local *)c->engine));
		if (cases[i].closed)
			shut(c);
		else
			kill_it(c);
		lose(c, log_id, cases[i].what);
		reopen(c, false);
		cr_log_info("%s", cases[i].name);
		expect_lost(c, sent, cases[i].what == ALL);
		expect_same(c, sent);
		topic = named(c, ENGINE_TOPIC, "t");
		assert_ok(c->ops->partition_purge(topic, ENGINE_ANY, ENGINE_OFFSET_NONE));
		assert_ok(c->ops->remove(topic));
		c->ops->put(topic);
		shut(c);
	}
	reopen(c, false);
}

/* Who only reads is told, and changes nothing. */
END_TEST(who_only_reads)
{
	struct engine_options options = { .read_only = true, .notify = { .fn = tell } };
	struct engine_object *topic = make(c, ENGINE_TOPIC, "t");
	uint64_t log_id = log_of(topic);

	small_segments(c, topic);
	for (unsigned i = 0; i < 100; i++)
		assert_ok(send(c, topic, i, false));
	c->ops->put(topic);
	shut(c);
	lose(c, log_id, LAST);
	told.text[0] = '\0';
	assert_ok(engine_open(c->source, &options, &c->engine));
	c->ops = c->engine->ops;
	assert_ok(c->ops->get(c->engine, ENGINE_ROOT_ID, &c->root));
	topic = named(c, ENGINE_TOPIC, "t");
	cr_assert_lt(stat_of(c, topic).end, 100);
	c->ops->put(topic);
	cr_assert_not_null(strstr(told.text, "to 99 are lost"), "%s", told.text);
	shut(c);
	reopen(c, false);
	expect_lost(c, 100, false);
}

/* A log whose directory is gone is told of at the start, and its topic goes on when it was made anew, which is for a repair. */
END_TEST(directory_is_gone)
{
	struct engine_object *topic = make(c, ENGINE_TOPIC, "t"), *other = make(c, ENGINE_TOPIC, "other");
	uint64_t log_id = log_of(topic);
	struct engine_partition_stat stat;

	for (unsigned i = 0; i < 5; i++) {
		assert_ok(send(c, topic, i, false));
		assert_ok(send(c, other, i, false));
	}
	c->ops->put(topic);
	c->ops->put(other);
	shut(c);
	lose(c, log_id, DIRECTORY);
	reopen(c, false);
	cr_assert_not_null(strstr(told.text, "topic t, partition 0: its log "), "%s", told.text);
	cr_assert_not_null(strstr(health(c), "is gone; fsck.mqfs -y makes it anew"), "%s", health(c));
	topic = named(c, ENGINE_TOPIC, "t");
	cr_assert_eq(c->ops->partition_stat(topic, 0, &stat), -EIO);
	cr_assert_eq(send(c, topic, 5, false), -EIO);
	c->ops->put(topic);
	other = named(c, ENGINE_TOPIC, "other");
	cr_assert_eq(stat_of(c, other).end, 5);
	assert_ok(send(c, other, 5, false));
	c->ops->put(other);
	shut(c);
	reopen(c, true);
	expect_lost(c, 5, true);
	expect_same(c, 5);
}

/* The same of a queue, whose messages are gone; those of other queues are not. */
END_TEST(lane_is_gone)
{
	for (int what = LAST; what <= DIRECTORY; what++) {
		struct engine_object *queue = make(c, ENGINE_QUEUE, "q"), *other;
		struct engine_queue_stat stat = { 0 };
		struct engine_scratch scratch = { 0 };
		struct engine_consumer *consumer;
		struct engine_view view = { 0 };
		uint64_t log_id;

		for (unsigned i = 0; i < 5; i++)
			assert_ok(send(c, queue, i, true));
		log_id = log_of(queue);
		c->ops->put(queue);
		shut(c);
		lose(c, log_id, what);
		reopen(c, false);
		queue = named(c, ENGINE_QUEUE, "q");
		if (what == DIRECTORY) {
			cr_assert_not_null(strstr(told.text, "queue q: its log "), "%s", told.text);
			cr_assert_eq(c->ops->queue->queue_stat(queue, &stat), -EIO);
			other = make(c, ENGINE_QUEUE, "other");
			assert_ok(send(c, other, 1, true));
			c->ops->put(other);
			c->ops->put(queue);
			shut(c);
			reopen(c, true);
			queue = named(c, ENGINE_QUEUE, "q");
		}
		assert_ok(c->ops->queue->queue_stat(queue, &stat));
		cr_assert_eq(stat.ready, 0);
		cr_assert_not_null(strstr(told.text, "queue q: messages 0 to 4 are lost"), "%s", told.text);
		assert_ok(send(c, queue, 5, true));
		assert_ok(c->ops->queue->consumer_open(queue, ENGINE_CONSUME_SNAPSHOT, false, 0, &consumer));
		cr_assert_eq(c->ops->consumer_fetch(consumer, 1, SIZE_MAX, &scratch, &view), 1);
		cr_assert_eq(strtoul(view.batch.data, NULL, 10), 5);
		cr_assert_eq(c->ops->queue->settle(queue, ENGINE_ACK, view.deliveries[0].id, view.deliveries[0].id), 1);
		c->ops->consumer_close(consumer);
		engine_scratch_release(&scratch);
		assert_ok(c->ops->remove(queue));
		c->ops->put(queue);
	}
}

/* A store from before that was known of any log opens, and knows it from then on. */
END_TEST(store_from_before)
{
	struct engine_object *topic = make(c, ENGINE_TOPIC, "t");
	struct sync_point *point = &topic_partition(topic_of_object((struct object *)topic), 0)->sync;

	assert_ok(send(c, topic, 0, true));
	assert_ok(checkpoint_run((struct local *)c->engine));
	cr_assert_eq(point->kept.end, 1);
	point->known = point->kept = (struct plog_known){ 0 }; /* as if there were no row */
	assert_ok(checkpoint_run((struct local *)c->engine));
	cr_assert_eq(point->kept.end, 1);
	cr_assert(point->known.is_known);
	c->ops->put(topic);
}
