/*
 * Every file of a store gone, changed for another of its kind, for that of another store in which all numbers are the same, and of a newer version. The
 * store was closed, or its daemon was killed. Then one of these must be so:
 *   - it is refused, in words, and only for what all of it depends on: FORMAT, the catalog, the journal;
 *   - all is as it was;
 *   - what the file is of, and nothing else, is not as it was, and that was told of; of a killed one, what was not on disk may be taken for what a crash
 *     left, which is said, but is no error. No offset is given again that was on disk.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/crc32c.h"
#include "engine/engine.h"
#include "engine/local_queue.h"
#include "tests/lib/nosync.h"
#include "tests/lib/tmpdir.h"

#define FILES 128u
#define OBJECTS 4u
#define TEXT 65536u
#define OK(call) cr_assert_geq((long)(call), 0, #call ": %s", engine_reason())

static const char *const names[OBJECTS] = { "t", "other", "q", "r" }; /* two topics, two queues */

/* ---- stores as they lie on the disk ---- */

struct file {
	char name[300];
	uint8_t *bytes; /* NULL: a directory */
	size_t size;
};

struct disk {
	struct file files[FILES];
	size_t count;
	uint64_t logs[OBJECTS][2];
	uint64_t sure[2][2]; /* ends of the topics that were on disk */
};

static void keep(struct disk *tree, int dirfd, const char *below)
{
	int fd = openat(dirfd, below[0] != '\0' ? below : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fdopendir(fd);
	struct dirent *entry;
	struct stat st;

	while ((entry = readdir(dir)) != NULL) {
		struct file *file = &tree->files[tree->count];

		if (entry->d_name[0] == '.' || strcmp(entry->d_name, "reserve") == 0)
			continue;
		cr_assert_lt(tree->count, FILES);
		tree->count++;
		snprintf(file->name, sizeof(file->name), "%s%s%s", below, below[0] != '\0' ? "/" : "", entry->d_name);
		OK(fstatat(dirfd, file->name, &st, 0));
		if (S_ISDIR(st.st_mode))
			keep(tree, dirfd, file->name);
		else
			file->bytes = tmpdir_get(dirfd, file->name, &file->size);
	}
	closedir(dir);
}

static void put(const struct disk *tree, int dirfd)
{
	for (size_t i = 0; i < tree->count; i++) {
		const struct file *file = &tree->files[i];

		if (file->bytes == NULL)
			OK(mkdirat(dirfd, file->name, 0700));
		else
			tmpdir_put(dirfd, file->name, file->bytes, file->size);
	}
}

/* ---- what is done in one ---- */

static unsigned told, said; /* said: what a crash may have left as well */
static char told_text[8192];

static void tell(void *ctx, int err, const char *text)
{
	size_t used = strlen(told_text);

	(void)ctx;
	said++;
	if (err == 0)
		return;
	told++;
	snprintf(told_text + used, sizeof(told_text) - used, "%s\n", text);
}

static bool is_queue(size_t i)
{
	return i >= 2;
}

/* A message of about 3 KiB, with a key, which begins with `which` and a number. */
static int send(
    const struct engine_ops *ops, struct engine_object *to, bool queue, uint32_t part, char which, unsigned number)
{
	static const char key[] = "k";
	struct engine_props props = ENGINE_PROPS_INIT;
	char data[3000];
	struct engine_batch batch = { .data = data, .len = sizeof(data), .count = 1, .cred = { 1, 2, 3 }, .ts_ms = 5 };
	struct engine_producer *p = NULL;
	int rc;

	props.key = (struct engine_span){ key, 1 };
	memset(data, which, sizeof(data));
	data[1 + snprintf(data + 1, sizeof(data) - 1, "%u", number)] = ' ';
	data[sizeof(data) - 1] = '\n';
	if (!queue)
		batch.props = &props;
	rc = queue ? ops->queue->producer_open(to, part, false, &p)
		   : ops->producer_open(to, part, (struct engine_span){ NULL, 0 }, &p);
	if (rc == 0)
		rc = ops->producer_send(p, &batch, NULL);
	ops->producer_close(p);
	return rc;
}

static struct engine_object *find(struct engine *engine, size_t i)
{
	struct engine_object *root = NULL, *object = NULL;

	OK(engine->ops->get(engine, ENGINE_ROOT_ID, &root));
	if (engine->ops->lookup(engine, root, is_queue(i) ? ENGINE_QUEUE : ENGINE_TOPIC, names[i], &object) < 0)
		object = NULL;
	engine->ops->put(root);
	return object;
}

static void work(struct engine *engine, char which, unsigned first)
{
	for (size_t i = 0; i < OBJECTS; i++) {
		struct engine_object *object = find(engine, i);

		for (unsigned n = 0; n < 30; n++)
			OK(send(engine->ops, object, is_queue(i), n % 2, which, first + n));
		engine->ops->put(object);
	}
}

static void note_logs(struct engine *engine, struct disk *tree)
{
	for (size_t i = 0; i < OBJECTS; i++) {
		struct engine_object *object = find(engine, i);

		for (uint32_t p = 0; p < 2; p++)
			tree->logs[i][p] = is_queue(i)
					       ? queue_lane(queue_of_object((struct object *)object), p)->log_id
					       : topic_partition(topic_of_object((struct object *)object), p)->log_id;
		engine->ops->put(object);
	}
}

/* All that came so far is on disk. */
static void sync_all(struct engine *engine, struct disk *disk)
{
	for (size_t i = 0; i < OBJECTS; i++) {
		struct engine_object *object = find(engine, i);

		for (uint32_t p = 0; p < 2; p++) {
			struct sync_point *point =
			    is_queue(i) ? &queue_lane(queue_of_object((struct object *)object), p)->sync
					: &topic_partition(topic_of_object((struct object *)object), p)->sync;
			struct engine_partition_stat stat = { 0 };

			OK(flusher_run((struct local *)engine, &point, 1));
			if (!is_queue(i)) {
				OK(engine->ops->partition_stat(object, p, &stat));
				disk->sure[i][p] = stat.end;
			}
		}
		engine->ops->put(object);
	}
}

static void make(struct disk *tree, char which, bool closed)
{
	struct engine_options options = { .create = true, .root_owner = { 1, 2, 0755 } };
	const struct engine_owner owner = { 1, 2, 0755 };
	struct engine_object *root, *object, *group;
	struct engine *engine;
	struct tmpdir dir;

	tmpdir_make(&dir);
	OK(engine_open(dir.path, &options, &engine));
	OK(engine->ops->get(engine, ENGINE_ROOT_ID, &root));
	for (size_t i = 0; i < OBJECTS; i++) {
		OK(engine->ops->create(
		    engine, root, is_queue(i) ? ENGINE_QUEUE : ENGINE_TOPIC, names[i], &owner, &object));
		if (!is_queue(i)) {
			OK(engine->ops->set_setting(object, engine_setting_find(ENGINE_TOPIC, "partitions"), "2"));
			OK(engine->ops->set_setting(
			    object, engine_setting_find(ENGINE_TOPIC, "segment.bytes"), "65536"));
			OK(engine->ops->create(engine, object, ENGINE_GROUP, "g", &owner, &group));
			engine->ops->put(group);
		}
		engine->ops->put(object);
	}
	work(engine, which, 0);
	OK(checkpoint_run((struct local *)engine));
	work(engine, which, 30);
	object = find(engine, 0);
	OK(engine->ops->partition_purge(object, 1, which == 'A' ? 2 : 4)); /* so that there is a file `start` */
	OK(engine->ops->lookup(engine, object, ENGINE_GROUP, "g", &group));
	OK(engine->ops->seek(group, 0, ENGINE_SEEK_OFFSET, which == 'A' ? 3 : 7));
	engine->ops->put(group);
	engine->ops->put(object);
	engine->ops->put(root);
	sync_all(engine, tree);
	OK(checkpoint_run((struct local *)engine)); /* all is known: what is gone then is missed */
	work(engine, which, 60);
	note_logs(engine, tree);
	if (closed)
		sync_all(engine, tree);
	if (closed)
		OK(engine->ops->close(engine));
	keep(tree, dir.fd, "");
	if (!closed)
		OK(engine->ops->close(engine));
	tmpdir_remove(&dir);
}

/* ---- what is in one ---- */

struct seen {
	char text[OBJECTS][TEXT];
	uint64_t end[2][2]; /* of the topics; 0: it cannot be read */
};

static void ask_topic(const struct engine_ops *ops, struct engine_object *t, char *text, uint64_t end[2])
{
	struct engine_scratch scratch = { 0 };
	struct engine_partition_stat stat;
	struct engine_object *group = NULL;
	struct engine_cursor_stat cursor = { 0 };
	char *at = text;

	for (uint32_t p = 0; p < 2; p++) {
		int rc = ops->partition_stat(t, p, &stat);

		end[p] = rc == 0 ? stat.end : 0;
		at += sprintf(at, "%d %" PRIu64 "\n", rc, end[p]);
		for (uint64_t i = rc < 0 ? 0 : stat.earliest; rc == 0 && i < stat.end && at - text < (int)TEXT - 200;
		     i++) {
			struct engine_view view = { 0 };
			int read = ops->partition_read(t, p, i, 1, &scratch, &view);

			at += sprintf(at, "%" PRIu64 " %d %.8s\n", i, read, read < 0 ? "" : view.batch.data);
		}
	}
	if (ops->lookup(&local_of((struct object *)t)->base, t, ENGINE_GROUP, "g", &group) == 0) {
		int rc = ops->cursor_stat(group, 0, &cursor);

		at += sprintf(at, "g %d %" PRIu64 "\n", rc, cursor.committed);
		ops->put(group);
	}
	engine_scratch_release(&scratch);
}

struct listing {
	const struct engine_ops *ops;
	struct engine_object *q;
	char *at, *end;
};

static bool on_message(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct listing *listing = ctx;
	struct engine_scratch scratch = { 0 };
	struct engine_view view = { 0 };
	int rc = listing->ops->queue->message_read(listing->q, stat->id, &scratch, &view);

	(void)next;
	if (listing->end - listing->at > 100)
		listing->at +=
		    sprintf(listing->at, "%" PRIu64 " %d %.8s\n", stat->id, rc, rc < 0 ? "" : view.batch.data);
	engine_scratch_release(&scratch);
	return true;
}

static void ask_queue(const struct engine_ops *ops, struct engine_object *q, char *text)
{
	struct listing listing = { ops, q, text, text + TEXT };
	struct engine_queue_stat stat = { 0 };
	uint64_t cursor[2] = { 0, 0 };
	int rc = ops->queue->queue_stat(q, &stat);

	listing.at += sprintf(text, "%d %" PRIu64 "\n", rc, stat.ready);
	ops->queue->message_list(q, ENGINE_READY, ENGINE_ANY, NULL, cursor, on_message, &listing);
}

static void ask(struct engine *engine, struct seen *seen)
{
	memset(seen, 0, sizeof(*seen));
	for (size_t i = 0; i < OBJECTS; i++) {
		struct engine_object *object = find(engine, i);

		if (object == NULL)
			strcpy(seen->text[i], "not there");
		else if (is_queue(i))
			ask_queue(engine->ops, object, seen->text[i]);
		else
			ask_topic(engine->ops, object, seen->text[i], seen->end[i]);
		if (object != NULL)
			engine->ops->put(object);
	}
}

/* ---- damage ---- */

enum damage { GONE, SWAPPED, FOREIGN, NEWER, DAMAGES };
static const char *const damage_names[DAMAGES] = { "gone", "another of its kind", "of another store", "newer" };

#define UNREAD " are damaged and cannot be read"

/* What is said of some. */
static const struct {
	const char *kind;
	enum damage damage;
	const char *words, * or ; /* or: of a segment that is looked at only when it is read, instead */
} words[] = {
	{ "FORMAT", GONE, "FORMAT is missing", NULL },
	{ "FORMAT", FOREIGN, "of another store", NULL },
	{ "FORMAT", NEWER, "is of format 9", NULL },
	{ "catalog", GONE, "the catalog cannot be opened", NULL },
	{ "catalog", FOREIGN, "the catalog is that of another store", NULL },
	{ "journal", GONE, "journal", NULL },
	{ "journal", FOREIGN, "belongs to another store", NULL },
	{ "journal", NEWER, "is of format 99", NULL },
	{ ".index", SWAPPED, " is segment ", UNREAD },
	{ ".index", FOREIGN, "is of another store", UNREAD },
	{ ".index", NEWER, "is of a newer format", UNREAD },
	{ "/start", GONE, "has lost where it begins, which was at 2", NULL },
	{ "/start", FOREIGN, "its start is that of another log", NULL },
	{ "/start", NEWER, "is of a newer format", NULL },
	{ "/log", GONE, " is gone", NULL },
	{ "/log", SWAPPED, " of log ", NULL },
	{ "/log", FOREIGN, "of another", NULL },
};

static bool may_refuse(const char *name)
{
	return strcmp(name, "FORMAT") == 0 || strcmp(name, "catalog") == 0 || strncmp(name, "journal", 7) == 0 ||
	       strcmp(name, "logs") == 0;
}

static const char *kind_of(const char *name)
{
	const char *dot = strrchr(name, '.'), *slash = strrchr(name, '/');

	if (strncmp(name, "journal", 7) == 0)
		return "journal";
	if (strncmp(name, "logs/", 5) == 0 && slash == name + 4)
		return "/log";
	return dot != NULL && slash != NULL && dot > slash ? dot : slash != NULL ? slash : name;
}

/* The next of its kind that is another. */
static const struct file *sibling(const struct disk *tree, const struct file *file)
{
	for (size_t k = 1; k < tree->count; k++) {
		const struct file *other = &tree->files[((size_t)(file - tree->files) + k) % tree->count];

		if (other->bytes != NULL && strcmp(kind_of(other->name), kind_of(file->name)) == 0 &&
		    (other->size != file->size || memcmp(other->bytes, file->bytes, file->size) != 0))
			return other;
	}
	return NULL;
}

static const struct file *named(const struct disk *tree, const char *name)
{
	for (size_t i = 0; i < tree->count; i++) {
		if (strcmp(tree->files[i].name, name) == 0)
			return &tree->files[i];
	}
	return NULL;
}

/* A version that nobody knows, with the right CRC: that of all headers is at 60, of what is before. */
static bool make_newer(const struct file *file, uint8_t *bytes)
{
	if (strcmp(file->name, "FORMAT") == 0) {
		bytes[strlen("mqfs store, format ")] = '9';
		return true;
	}
	if (file->size < 64 || memcmp(bytes, "MQFS", 4) * memcmp(bytes, "mqfs", 4) != 0)
		return false;
	bytes_put32(bytes + 8, 99);
	bytes_put32(bytes + 60, crc32c(0, bytes, 60));
	return true;
}

static bool is_below(const struct file *file, const char *name)
{
	size_t len = strlen(name);

	return strncmp(file->name, name, len) == 0 && (file->name[len] == '/' || file->name[len] == '\0');
}

static void remove_all(int dirfd, const struct disk *disk, const char *name)
{
	for (size_t i = disk->count; i-- > 0;) {
		const struct file *file = &disk->files[i];

		if (is_below(file, name))
			OK(unlinkat(dirfd, file->name, file->bytes == NULL ? AT_REMOVEDIR : 0));
	}
}

/* What `from` has below one name comes to another, where nothing is. */
static void put_below(int dirfd, const struct disk *from, const char *name, const char *to)
{
	for (size_t i = 0; i < from->count; i++) {
		const struct file *file = &from->files[i];
		char path[700];

		if (!is_below(file, name))
			continue;
		snprintf(path, sizeof(path), "%s%s", to, file->name + strlen(name));
		if (file->bytes == NULL)
			OK(mkdirat(dirfd, path, 0700));
		else
			tmpdir_put(dirfd, path, file->bytes, file->size);
	}
}

/* A directory is that of the other store, or is changed for the next log's. */
static bool change_directory(const struct disk *own, const struct disk *foreign, const struct file *file,
    enum damage damage, int dirfd, const struct file **ret_other)
{
	const struct file *other = NULL;

	if (damage == FOREIGN && named(foreign, file->name) != NULL) {
		remove_all(dirfd, own, file->name);
		put_below(dirfd, foreign, file->name, file->name);
		return true;
	}
	for (size_t k = 1; k < own->count && damage == SWAPPED && strcmp(kind_of(file->name), "/log") == 0; k++) {
		other = &own->files[((size_t)(file - own->files) + k) % own->count];
		if (other->bytes == NULL && strcmp(kind_of(other->name), "/log") == 0)
			break;
		other = NULL;
	}
	if (other == NULL)
		return false;
	remove_all(dirfd, own, file->name);
	remove_all(dirfd, own, other->name);
	put_below(dirfd, own, file->name, other->name);
	put_below(dirfd, own, other->name, file->name);
	*ret_other = other;
	return true;
}

/* False: there is no such damage of this file. ret_other: what else is another then. */
static bool do_damage(const struct disk *own, const struct disk *foreign, const struct file *file, enum damage damage,
    int dirfd, const struct file **ret_other)
{
	const struct file *other = NULL;
	uint8_t *bytes;
	bool done;

	if (damage == GONE) {
		remove_all(dirfd, own, file->name);
		return true;
	}
	if (file->bytes == NULL)
		return change_directory(own, foreign, file, damage, dirfd, ret_other);
	if (damage == SWAPPED || damage == FOREIGN) {
		other = damage == SWAPPED ? sibling(own, file) : named(foreign, file->name);
		if (other == NULL)
			return false;
		tmpdir_put(dirfd, file->name, other->bytes, other->size);
		if (damage == SWAPPED) {
			tmpdir_put(dirfd, other->name, file->bytes, file->size);
			*ret_other = other;
		}
		return true;
	}
	bytes = malloc(file->size + 1);
	memcpy(bytes, file->bytes, file->size);
	done = make_newer(file, bytes);
	if (done)
		tmpdir_put(dirfd, file->name, bytes, file->size);
	free(bytes);
	return done;
}

/* Is the object what the file is of? What all depends on is of all. */
static bool is_of(const struct disk *tree, const struct file *file, size_t object)
{
	char log[64];

	if (file == NULL)
		return false;
	for (uint32_t p = 0; p < 2; p++) {
		snprintf(log, sizeof(log), "logs/%016" PRIx64, tree->logs[object][p]);
		if (strncmp(file->name, log, strlen(log)) == 0)
			return true;
	}
	return strncmp(file->name, "logs/", 5) != 0;
}

static unsigned violations;

/* All are told before the test fails. */
static void expect(bool holds, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void expect(bool holds, const char *format, ...)
{
	va_list args;

	if (holds)
		return;
	violations++;
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

static struct disk own, foreign;

/* New messages come behind all that was on disk; where a log cannot be read, none comes. */
static void expect_no_offset_twice(struct engine *engine, const char *what)
{
	for (size_t i = 0; i < 2; i++) {
		struct engine_object *topic = find(engine, i);

		for (uint32_t p = 0; topic != NULL && p < 2; p++) {
			struct engine_partition_stat stat = { 0 };

			if (send(engine->ops, topic, false, p, 'z', 0) == 0) {
				OK(engine->ops->partition_stat(topic, p, &stat));
				cr_assert_gt(
				    stat.end, own.sure[i][p], "%s: %s %u: %" PRIu64, what, names[i], p, stat.end);
			}
		}
		if (topic != NULL)
			engine->ops->put(topic);
	}
}

static struct seen good, now;
static unsigned tried, refused_all, told_all;

static void expect_words(const char *name, enum damage damage, const char *text, const char *what)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(words[i].kind, kind_of(name)) == 0 && words[i].damage == damage)
			expect(strstr(text, words[i].words) != NULL ||
				   (words[i].or != NULL && strstr(text, words[i].or) != NULL),
			    "%s: not said '%s' but %.300s", what, words[i].words, text);
	}
}

static void look(const struct file *file, enum damage damage, bool closed)
{
	struct engine_options options = { .notify = { tell, NULL } };
	const struct file *other = NULL;
	char what[400];
	struct engine *engine;
	struct tmpdir dir;
	int rc;

	tmpdir_make(&dir);
	put(&own, dir.fd);
	if (!do_damage(&own, &foreign, file, damage, dir.fd, &other)) {
		tmpdir_remove(&dir);
		return;
	}
	snprintf(what, sizeof(what), "%s: %s (%s)", file->name, damage_names[damage], closed ? "closed" : "killed");
	told = said = 0;
	told_text[0] = '\0';
	tried++;
	rc = engine_open(dir.path, &options, &engine);
	if (rc < 0) {
		refused_all++;
		expect_words(file->name, damage, engine_reason(), what);
		expect(may_refuse(file->name), "%s: all of it is refused: %s", what, engine_reason());
		expect(engine_reason()[0] != '\0', "%s: %s", what, strerror(-rc));
		tmpdir_remove(&dir);
		return;
	}
	ask(engine, &now);
	expect_words(file->name, damage, told_text, what);
	for (size_t i = 0; i < OBJECTS; i++) {
		bool same = strcmp(now.text[i], good.text[i]) == 0;

		expect(same || is_of(&own, file, i) || is_of(&own, other, i), "%s: %s is not as it was:\n%.200s\n%s",
		    what, names[i], now.text[i], told_text);
		expect(same || told > 0 || (said > 0 && !closed), "%s: %s is not as it was, without a word:\n%.200s",
		    what, names[i], now.text[i]);
	}
	told_all += told > 0;
	if (strncmp(file->name, "journal", 7) != 0)
		expect_no_offset_twice(engine, what);
	engine->ops->close(engine);
	tmpdir_remove(&dir);
}

static void look_at_all(bool closed)
{
	struct engine_options options = { .notify = { tell, NULL } };
	struct engine *engine;
	struct tmpdir dir;

	tmpdir_in_memory();
	nosync_install();
	make(&own, 'A', closed);
	make(&foreign, 'B', closed);
	tmpdir_make(&dir);
	put(&own, dir.fd);
	OK(engine_open(dir.path, &options, &engine));
	ask(engine, &good);
	OK(engine->ops->close(engine));
	tmpdir_remove(&dir);
	cr_assert_eq(told, 0, "%s", told_text);
	for (size_t i = 0; i < own.count; i++) {
		for (int damage = 0; damage < DAMAGES; damage++)
			look(&own.files[i], (enum damage)damage, closed);
	}
	cr_log_info("%u tried, %u refused, %u told of", tried, refused_all, told_all);
	cr_assert_eq(violations, 0);
	cr_assert(tried > 100 && refused_all > 5 && told_all > 50, "%u %u %u", tried, refused_all, told_all);
}

Test(local_files, of_a_store_that_was_closed)
{
	look_at_all(true);
}

Test(local_files, of_a_store_that_was_killed)
{
	look_at_all(false);
}
