/*
 * Damage of what a store knows beside its messages: every bit of its catalog, of its journal and of FORMAT flipped, one at a time, and
 * the journal and catalog cut at every byte. long_flips does the same to the files of messages.
 *
 * The store was killed: it has checkpoints in its catalog, and changes since then in its journal. Each time it is opened, all of it is
 * asked for, an object is made in it, and it is closed. Then one of these must be so:
 *   - it was refused, in words;
 *   - all that was asked for is as it was;
 *   - something is not as it was, and that was told of. Damage of the journal may not cost a message of a topic; one that is cut is
 *     as if its last changes had not been made, which nobody can tell.
 * A catalog that is refused is made anew from its copy, and then all is as it was.
 * Never may it die of a signal or hang: each part of a file is done by a process of its own.
 *
 * MQFS_DAMAGE_STEP (1: every bit), MQFS_DAMAGE_SECONDS (0: no bound), MQFS_DAMAGE_JOBS (1). Of the catalog's bits those that the
 * check of its pages refuses are all tried; of the others one in MQFS_DAMAGE_OPENS (8) is opened, in turn.
 * The last line is: damage FLIPS CUTS OPENED REFUSED TOLD VIOLATIONS.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/catalog.h"
#include "engine/catalog_pages.h"
#include "engine/engine.h"
#include "engine/local_internal.h"
#include "tests/lib/nosync.h"
#include "tests/lib/tmpdir.h"

#define FILES 64u
#define CHUNK 4096u /* bits, for one process */
#define HANGS_S 60u

struct file {
	char name[600];
	uint8_t *bytes;
	size_t size;
};

/* Shared between the children. */
struct figures {
	_Atomic uint64_t flips, cuts, opened, refused, told, violations;
};

struct text {
	char bytes[32768];
	size_t len, messages; /* messages: those of topics end here */
};

static struct {
	struct file files[FILES];
	size_t count;
	struct text good;
	struct figures *figures;
	uint64_t step, opens;
	time_t until;
} d;

static _Atomic unsigned told;

static void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "%s: %s (%s)\n", what, strerror(errno), engine_reason());
		abort();
	}
}
#define OK(call) must((call) >= 0, #call)

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static void on_notify(void *ctx, int err, const char *text)
{
	(void)ctx;
	(void)text;
	(void)err; /* 0: what a kill may leave, like a last record that is not whole */
	told++;
}

/* ---- the store ---- */

static const struct engine_owner owner = { 1, 2, 0755 };

static void send(const struct engine_ops *ops, struct engine_object *to, bool queue, uint32_t part, unsigned number)
{
	struct engine_producer *p = NULL;
	char data[64];
	struct engine_batch batch = { .data = data, .count = 1, .cred = { 1, 2, 3 }, .ts_ms = 5 };

	batch.len = (size_t)sprintf(data, "message %u\n", number);
	OK(queue ? ops->queue->producer_open(to, part, false, &p)
		 : ops->producer_open(to, part, (struct engine_span){ NULL, 0 }, &p));
	OK(ops->producer_send(p, &batch, NULL));
	ops->producer_close(p);
}

static void set(const struct engine_ops *ops, struct engine_object *object, enum engine_kind kind, const char *name,
    const char *value)
{
	OK(ops->set_setting(object, engine_setting_find(kind, name), value));
}

/* Some messages, acks, leases. */
static void work(const struct engine_ops *ops, struct engine_object *t, struct engine_object *g,
    struct engine_object *q, unsigned first)
{
	struct engine_scratch scratch = { 0 };
	struct engine_consumer *consumer;
	struct engine_view view;

	for (unsigned i = 0; i < 8; i++) {
		send(ops, t, false, i % 2, first + i);
		send(ops, q, true, i % 3, first + i);
	}
	OK(ops->consumer_open(g, ENGINE_ANY, ENGINE_CONSUME_SNAPSHOT, &consumer));
	for (unsigned i = 0; i < 5; i++)
		OK(ops->consumer_fetch(consumer, 1, SIZE_MAX, &scratch, &view));
	ops->consumer_close(consumer);
	OK(ops->ack_all(g, 0));
	OK(ops->ack_all(g, 1));
	OK(ops->queue->consumer_open(q, ENGINE_CONSUME_SNAPSHOT, false, 0, &consumer));
	for (unsigned i = 0; i < 5; i++) {
		OK(ops->consumer_fetch(consumer, 1, SIZE_MAX, &scratch, &view));
		OK((int)ops->queue->settle(
		    q, i % 3 == 2 ? ENGINE_REJECT : ENGINE_ACK, view.deliveries[0].id, view.deliveries[0].id));
	}
	ops->consumer_close(consumer);
	engine_scratch_release(&scratch);
}

static void keep_files(int dirfd, const char *below)
{
	int fd = openat(dirfd, below[0] != '\0' ? below : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fdopendir(fd);
	struct dirent *entry;

	while ((entry = readdir(dir)) != NULL) {
		struct file *file = &d.files[d.count];
		struct stat st;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    strcmp(entry->d_name, "reserve") == 0 || strcmp(entry->d_name, "catalog-lock") == 0)
			continue;
		must(d.count < FILES, "files");
		snprintf(file->name, sizeof(file->name), "%s%s%s", below, below[0] != '\0' ? "/" : "", entry->d_name);
		OK(fstatat(dirfd, file->name, &st, 0));
		d.count++;
		if (S_ISDIR(st.st_mode))
			keep_files(dirfd, d.files[d.count - 1].name);
		else
			file->bytes = tmpdir_get(dirfd, file->name, &file->size);
	}
	closedir(dir);
}

static void make_store(void)
{
	struct engine_options options = { .create = true, .root_owner = owner };
	struct engine_object *root, *t, *g, *q, *e;
	const struct engine_ops *ops;
	struct engine *engine;
	struct tmpdir dir;

	tmpdir_make(&dir);
	OK(engine_open(dir.path, &options, &engine));
	ops = engine->ops;
	OK(ops->get(engine, ENGINE_ROOT_ID, &root));
	OK(ops->create(engine, root, ENGINE_TOPIC, "t", &owner, &t));
	set(ops, t, ENGINE_TOPIC, "partitions", "2");
	set(ops, t, ENGINE_TOPIC, "retention.bytes", "1000000");
	OK(ops->create(engine, t, ENGINE_GROUP, "g", &owner, &g));
	OK(ops->create(engine, root, ENGINE_QUEUE, "q", &owner, &q));
	set(ops, q, ENGINE_QUEUE, "delivery.limit", "100");
	OK(ops->create(engine, root, ENGINE_EXCHANGE, "e", &owner, &e));
	OK(ops->exchange->pattern_add(e, "all"));
	OK(ops->exchange->bind(e, "all", "q", q));
	OK(ops->set_owner(t, "in", &owner));
	work(ops, t, g, q, 0);
	OK(checkpoint_run((struct local *)engine));
	work(ops, t, g, q, 100);
	keep_files(dir.fd, "");
	ops->put(e);
	ops->put(q);
	ops->put(g);
	ops->put(t);
	ops->put(root);
	OK(ops->close(engine));
	tmpdir_remove(&dir);
}

/* ---- what is in it ---- */

static void add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct text *text, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	text->len += (size_t)vsnprintf(text->bytes + text->len, sizeof(text->bytes) - text->len, format, args);
	va_end(args);
	must(text->len < sizeof(text->bytes), "too much text");
}

static void ask_topic(const struct engine_ops *ops, struct engine_object *t, struct text *text)
{
	struct engine_scratch scratch = { 0 };
	struct engine_partition_stat stat;

	for (uint32_t p = 0; p < 2; p++) {
		int rc = ops->partition_stat(t, p, &stat);

		add(text, "partition %u: %d\n", p, rc);
		for (uint64_t at = rc < 0 ? 0 : stat.earliest; rc == 0 && at < stat.end;) {
			struct engine_view view = { 0 };

			rc = ops->partition_read(t, p, at, 1, &scratch, &view);
			add(text, "%" PRIu64 " %d %.*s", at, rc, rc < 0 ? 0 : (int)view.batch.len, view.batch.data);
			at++;
		}
	}
	engine_scratch_release(&scratch);
}

struct asked {
	const struct engine_ops *ops;
	struct engine_object *q;
	struct text *text;
};

static bool on_message(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2])
{
	struct asked *asked = ctx;
	struct engine_scratch scratch = { 0 };
	struct engine_view view = { 0 };
	int rc = asked->ops->queue->message_read(asked->q, stat->id, &scratch, &view);

	(void)next;
	add(asked->text, "%" PRIu64 " of %u: %d %.*s", stat->id, stat->priority, rc, rc < 0 ? 0 : (int)view.batch.len,
	    view.batch.data);
	engine_scratch_release(&scratch);
	return true;
}

static void ask_queue(const struct engine_ops *ops, struct engine_object *q, struct text *text)
{
	struct asked asked = { ops, q, text };
	struct engine_queue_stat stat = { 0 };
	int rc = ops->queue->queue_stat(q, &stat);

	add(text,
	    "%d: %" PRIu64 " ready %" PRIu64 " unacked %" PRIu64 " dead, %" PRIu64 " published %" PRIu64 " acked\n", rc,
	    stat.ready, stat.unacked, stat.dead, stat.published, stat.acked);
	for (int state = 0; state < ENGINE_STATE_COUNT; state++) {
		uint64_t cursor[2] = { 0, 0 };

		ops->queue->message_list(
		    q, (enum engine_message_state)state, ENGINE_ANY, NULL, cursor, on_message, &asked);
	}
}

static struct engine_object *find(const struct engine_ops *ops, struct engine *engine, struct engine_object *in,
    enum engine_kind kind, const char *name, struct text *text)
{
	struct engine_object *object = NULL;
	struct engine_owner own = { 0 };
	int rc = in != NULL ? ops->lookup(engine, in, kind, name, &object) : -ENOENT;

	if (rc == 0)
		rc = ops->get_owner(object, "", &own);
	add(text, "%s: %d %u:%u %o\n", name, rc, own.uid, own.gid, own.mode);
	return object;
}

static void ask_setting(const struct engine_ops *ops, struct engine_object *object, enum engine_kind kind,
    const char *name, struct text *text)
{
	char value[ENGINE_VALUE_MAX] = "";
	int rc = ops->get_setting(object, engine_setting_find(kind, name), value);

	add(text, "%s: %d %s\n", name, rc, value);
}

static void ask_rest(const struct engine_ops *ops, struct engine *engine, struct engine_object *root,
    struct engine_object *t, struct text *text)
{
	struct engine_object *g = find(ops, engine, t, ENGINE_GROUP, "g", text);
	struct engine_object *q = find(ops, engine, root, ENGINE_QUEUE, "q", text);
	struct engine_object *e = find(ops, engine, root, ENGINE_EXCHANGE, "e", text);
	struct engine_owner own = { 0 };
	uint64_t target = 0;
	int rc;

	if (t != NULL) {
		rc = ops->get_owner(t, "in", &own);
		add(text, "in: %d %u:%u %o\n", rc, own.uid, own.gid, own.mode);
		ask_setting(ops, t, ENGINE_TOPIC, "partitions", text);
		ask_setting(ops, t, ENGINE_TOPIC, "retention.bytes", text);
	}
	for (uint32_t p = 0; g != NULL && p < 2; p++) {
		struct engine_cursor_stat stat = { 0 };

		rc = ops->cursor_stat(g, p, &stat);
		add(text, "cursor %u: %d %" PRIu64 " %" PRIu64 "\n", p, rc, stat.committed, stat.given);
	}
	if (q != NULL) {
		ask_setting(ops, q, ENGINE_QUEUE, "delivery.limit", text);
		ask_queue(ops, q, text);
	}
	if (e != NULL) {
		rc = ops->exchange->binding(e, "all", "q", &target);
		add(text, "binding: %d %" PRIu64 "\n", rc, target);
	}
	if (g != NULL)
		ops->put(g);
	if (q != NULL)
		ops->put(q);
	if (e != NULL)
		ops->put(e);
}

/* It makes something, too, so that the catalog is written. */
static void ask_all(struct engine *engine, struct text *text)
{
	const struct engine_ops *ops = engine->ops;
	struct engine_object *root, *t, *made = NULL;

	text->len = 0;
	if (ops->get(engine, ENGINE_ROOT_ID, &root) < 0) {
		add(text, "no root\n");
		return;
	}
	t = find(ops, engine, root, ENGINE_TOPIC, "t", text);
	if (t != NULL)
		ask_topic(ops, t, text);
	text->messages = text->len;
	ask_rest(ops, engine, root, t, text);
	if (ops->create(engine, root, ENGINE_TOPIC, "made", &owner, &made) == 0)
		ops->put(made);
	if (t != NULL)
		ops->put(t);
	ops->put(root);
}

/* ---- one damage ---- */

static void violate(const char *name, uint64_t where, const char *how)
{
	if (atomic_fetch_add(&d.figures->violations, 1) < 20)
		fprintf(stderr, "%s %" PRIu64 ": %s\n", name, where, how);
}

static void tell_difference(const struct text *text)
{
	size_t at = 0;

	if (atomic_load(&d.figures->violations) > 5)
		return;
	while (at < text->len && at < d.good.len && text->bytes[at] == d.good.bytes[at])
		at++;
	while (at > 0 && text->bytes[at - 1] != '\n')
		at--;
	fprintf(stderr, "  was: %.60s\n  is:  %.60s\n", d.good.bytes + at, text->bytes + at);
}

/* What fsck.mqfs does with a catalog that is refused. */
static void restore(const struct tmpdir *dir, const struct engine_options *options, const char *name, uint64_t where)
{
	static struct text text;
	struct catalog_copied copied;
	char kept[CATALOG_KEPT_SIZE];
	struct engine *engine;

	if (catalog_restore(dir->fd, 0, 0, &copied, kept) < 0 || engine_open(dir->path, options, &engine) < 0) {
		violate(name, where, engine_reason());
		return;
	}
	ask_all(engine, &text);
	engine->ops->close(engine);
	if (text.len != d.good.len || memcmp(text.bytes, d.good.bytes, text.len) != 0) {
		violate(name, where, "not as it was, when made anew from the copy");
		tell_difference(&text);
	}
}

/* Opens a store in which this file is another. NULL: all are as they were, which is what is good. */
static void open_with(const struct file *damaged, const uint8_t *bytes, size_t size, uint64_t where)
{
	bool is_journal = damaged != NULL && strncmp(damaged->name, "journal/", 8) == 0;
	bool cut = damaged != NULL && size < damaged->size;
	struct engine_options options = { .root_owner = owner, .notify = { on_notify, NULL } };
	static struct text text;
	struct engine *engine;
	struct tmpdir dir;
	int rc;

	alarm(HANGS_S);
	told = 0;
	tmpdir_make(&dir);
	for (size_t i = 0; i < d.count; i++) {
		const struct file *file = &d.files[i];

		if (file->bytes == NULL)
			OK(mkdirat(dir.fd, file->name, 0700));
		else if (file == damaged)
			tmpdir_put(dir.fd, file->name, bytes, size);
		else
			tmpdir_put(dir.fd, file->name, file->bytes, file->size);
	}
	rc = engine_open(dir.path, &options, &engine);
	if (rc == 0) {
		ask_all(engine, &text);
		engine->ops->close(engine);
	} else if (damaged != NULL && strcmp(damaged->name, "catalog") == 0 && engine_reason()[0] != '\0') {
		char reason[256];

		snprintf(reason, sizeof(reason), "%s", engine_reason());
		restore(&dir, &options, damaged->name, where);
		engine_explain(rc, "%s", reason);
	}
	tmpdir_remove(&dir);
	alarm(0);
	if (damaged == NULL) {
		OK(rc);
		d.good = text;
		return;
	}
	atomic_fetch_add(&d.figures->opened, 1);
	atomic_fetch_add(&d.figures->told, rc == 0 && told > 0);
	if (rc < 0) {
		atomic_fetch_add(&d.figures->refused, 1);
		if (engine_reason()[0] == '\0')
			violate(damaged->name, where, strerror(-rc));
		return;
	}
	if (told == 0 && !(cut && is_journal) &&
	    (text.len != d.good.len || memcmp(text.bytes, d.good.bytes, text.len) != 0)) {
		violate(damaged->name, where, "not as it was, and nothing told");
		tell_difference(&text);
	}
	if (is_journal && (text.messages != d.good.messages || memcmp(text.bytes, d.good.bytes, text.messages) != 0))
		violate(damaged->name, where, "it cost messages of a topic");
}

static bool time_left(void)
{
	return !d.until || time(NULL) < d.until;
}

/* Would the catalog be refused? That need not be tried with a whole store each time. */
static bool pages_are_refused(const uint8_t *bytes, size_t size)
{
	static struct tmpdir dir;
	int rc;

	if (dir.fd == 0)
		tmpdir_make(&dir);
	tmpdir_put(dir.fd, "catalog", bytes, size);
	rc = catalog_check_pages(dir.fd, "catalog", NULL, NULL, NULL);
	return rc < 0;
}

/* One in so many, spread over the file. */
static bool is_opened(uint64_t where)
{
	return (where / d.step * 2654435761u >> 8) % d.opens == 0;
}

static void flip(const struct file *file, uint8_t *bytes, uint64_t bit)
{
	bool is_catalog = strcmp(file->name, "catalog") == 0;

	bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	atomic_fetch_add(&d.figures->flips, 1);
	if (is_catalog && pages_are_refused(bytes, file->size) && !is_opened(bit))
		atomic_fetch_add(&d.figures->refused, 1);
	else if (!is_catalog || is_opened(bit))
		open_with(file, bytes, file->size, bit);
	bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
}

static void cut(const struct file *file, uint8_t *bytes, uint64_t at)
{
	bool is_catalog = strcmp(file->name, "catalog") == 0;

	atomic_fetch_add(&d.figures->cuts, 1);
	if (is_catalog && pages_are_refused(bytes, at) && !is_opened(at)) {
		atomic_fetch_add(&d.figures->refused, 1);
		return;
	}
	open_with(file, bytes, at, at);
}

static void run_chunk(const struct file *file, bool cuts, uint64_t from, uint64_t to, _Atomic uint64_t *at)
{
	uint8_t *bytes = malloc(file->size);

	memcpy(bytes, file->bytes, file->size);
	for (*at = from; *at < to && time_left(); *at += d.step) {
		if (cuts)
			cut(file, bytes, *at);
		else
			flip(file, bytes, *at);
	}
	free(bytes);
	_exit(0);
}

/* In processes, as many at a time as jobs; one that dies is a violation, and the rest of its part is done by another. */
static void run_file(const struct file *file, bool cuts, unsigned jobs)
{
	uint64_t end = file->size, from = 0;
	_Atomic uint64_t *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct job {
		pid_t pid;
		uint64_t to;
	} running[16] = { 0 };
	unsigned count = 0;

	while (end > 0 && file->bytes[end - 1] == 0) /* zeros at its end are all alike */
		end--;
	end = end + 64 < file->size ? end + 64 : file->size;
	if (!cuts)
		end *= 8;
	while (count > 0 || (from < end && time_left())) {
		unsigned i = 0;
		uint64_t begin = from;
		int status;

		while (i < jobs && running[i].pid != 0)
			i++;
		if (i == jobs || from >= end || !time_left()) {
			pid_t pid = wait(&status);

			for (i = 0; running[i].pid != pid;)
				i++;
			running[i].pid = 0;
			count--;
			if (status == 0)
				continue;
			violate(file->name, at[i], WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "died");
			begin = at[i] + d.step;
			if (begin >= running[i].to)
				continue;
		} else {
			running[i].to = from + CHUNK * d.step < end ? from + CHUNK * d.step : end;
			from = running[i].to;
		}
		running[i].pid = fork();
		if (running[i].pid == 0)
			run_chunk(file, cuts, begin, running[i].to, &at[i]);
		count++;
	}
	munmap((void *)at, 4096);
}

int main(void)
{
	unsigned jobs = (unsigned)from_environment("MQFS_DAMAGE_JOBS", 1);
	uint64_t seconds = from_environment("MQFS_DAMAGE_SECONDS", 0);

	nosync_install();
	d.step = from_environment("MQFS_DAMAGE_STEP", 1);
	d.opens = from_environment("MQFS_DAMAGE_OPENS", 8);
	d.until = seconds ? time(NULL) + (time_t)seconds : 0;
	d.figures = mmap(NULL, sizeof(*d.figures), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	tmpdir_in_memory();
	make_store();
	open_with(NULL, NULL, 0, 0);
	must(d.good.len > 0 && told == 0, "the store as it was");
	for (size_t i = 0; i < d.count; i++) {
		const struct file *file = &d.files[i];

		if (strcmp(file->name, "FORMAT") != 0 && strcmp(file->name, "catalog") != 0 &&
		    strncmp(file->name, "journal/", 8) != 0)
			continue;
		if (file->bytes == NULL)
			continue;
		run_file(file, false, jobs < 16 ? jobs : 16);
		run_file(file, true, jobs < 16 ? jobs : 16);
	}
	printf("damage %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", d.figures->flips,
	    d.figures->cuts, d.figures->opened, d.figures->refused, d.figures->told, d.figures->violations);
	return d.figures->violations > 0;
}
