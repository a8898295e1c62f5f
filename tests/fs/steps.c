/*
 * steps - see steps.h.
 */
#include "tests/fs/steps.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fuse.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"
#include "fs/quota.h"
#include "fs/spool.h"
#include "tests/fs/ask.h"
#include "tests/fuzz/world.h"

/* ---- what a step does ---- */

static int make(const char *path, const char *arg)
{
	(void)arg;
	return ask_mkdir(path);
}

static int remove_dir(const char *path, const char *arg)
{
	(void)arg;
	return ask_remove(path, true);
}

static int remove_file(const char *path, const char *arg)
{
	(void)arg;
	return ask_remove(path, false);
}

/* As a program does: what a short write leaves is written again. */
static int write_all(const char *path, const char *text)
{
	int err = ask_open(path, O_RDWR), closed;

	if (err == -ENOENT) /* a key */
		err = ask_create(path);
	if (err != 0)
		return err;
	while (err == 0 && *text != '\0') {
		struct fuse_write_out out;

		err = ask_write(text, 0);
		memcpy(&out, world.answer.body, sizeof(out));
		text += err == 0 ? out.size : 0;
	}
	closed = ask_close();
	return err != 0 ? err : closed;
}

static int put(const char *path, const char *text)
{
	int err = ask_create(path), closed;

	if (err != 0)
		return err;
	err = ask_write(text, 0);
	closed = ask_close();
	return err != 0 ? err : closed;
}

static int read_one(const char *path, const char *arg)
{
	int err = ask_open(path, O_RDONLY), closed;

	(void)arg;
	if (err != 0)
		return err;
	err = ask_read();
	closed = ask_close();
	return err != 0 ? err : closed;
}

static const struct step {
	int (*call)(const char *path, const char *arg);
	const char *path, *arg;
	int answer;
	bool many;
} steps[] = {
	{ make, "topics/s", NULL, 0, false },
	{ make, "queues/w", NULL, 0, false },
	{ make, "queues/w/consumers/c", NULL, 0, false },
	{ make, "topics/s/groups/g", NULL, 0, false },
	/* exchanges */
	{ make, "exchanges/e", NULL, 0, false },
	{ make, "exchanges/e/bindings/k.*", NULL, 0, false },
	{ ask_link, "exchanges/e/bindings/k.*/w", "../../../../queues/w", 0, false },
	{ write_all, "exchanges/e/keys/k.1", "to the queue\n", 0, false },
	{ make, "exchanges/e/bindings/l.#", NULL, 0, false },
	{ ask_link, "exchanges/e/bindings/l.#/s", "../../../../topics/s", 0, false },
	{ ask_link, "exchanges/e/bindings/l.#/w", "/fuzz/queues/w", 0, false },
	{ write_all, "exchanges/e/keys/l.1", "to both\n", 0, false },
	{ remove_file, "exchanges/e/bindings/l.#/w", NULL, 0, false },
	{ write_all, "exchanges/e/in.json",
	    "{\"payload\":\"1\",\"routing_key\":\"l.1\"}\n{\"payload\":\"2\",\"routing_key\":\"l.2\"}\n"
	    "{\"payload\":\"3\",\"routing_key\":\"m\"}\n",
	    -EHOSTUNREACH, true },
	{ ask_rename, "exchanges/e/bindings/l.#/s", "exchanges/e/bindings/l.#/t", 0, false },
	{ ask_rename, "exchanges/e", "exchanges/f", 0, false },
	{ remove_dir, "exchanges/f", NULL, -ENOTEMPTY, false },
	{ remove_dir, "exchanges/f/bindings/l.#", NULL, -ENOTEMPTY, false },
	{ remove_file, "exchanges/f/bindings/l.#/t", NULL, 0, false },
	{ remove_dir, "exchanges/f/bindings/l.#", NULL, 0, false },
	/* a transaction that is committed */
	{ read_one, "queues/w/consumers/c/.next", NULL, 0, false },
	{ make, "tx/a", NULL, 0, false },
	{ write_all, "tx/a/topics/s/in", "staged\n", 0, false },
	{ write_all, "tx/a/queues/w/in", "1\n2\n", 0, false },
	{ write_all, "tx/a/exchanges/f/keys/k.2", "routed\n", 0, false },
	{ put, "tx/a/topics/s/put/file", "put", 0, false },
	{ write_all, "tx/a/queues/w/consumers/c/ack", "all\n", 0, false },
	{ write_all, "tx/a/topics/s/groups/g/offset", "0 2\n", 0, false },
	{ write_all, "tx/a/state", "commit\n", 0, false },
	{ write_all, "tx/a/state", "commit\n", 0, false },
	{ write_all, "tx/a/state", "rollback\n", -EALREADY, false },
	{ remove_dir, "tx/a", NULL, 0, false },
	/* those that are not */
	{ make, "tx/b", NULL, 0, false },
	{ write_all, "tx/b/queues/w/in", "never\n", 0, false },
	{ write_all, "tx/b/state", "rollback\n", 0, false },
	{ write_all, "tx/b/state", "commit\n", -ECANCELED, false },
	{ ask_rename, "tx/b", "tx/c", 0, false },
	{ remove_dir, "tx/c", NULL, 0, false },
	{ make, "tx/d", NULL, 0, false },
	{ put, "tx/d/queues/w/put/file", "never", 0, false },
	{ remove_dir, "tx/d", NULL, 0, false },
	/* the rest goes */
	{ put, "topics/s/put/file", "put too", 0, false },
	{ remove_file, "exchanges/f/bindings/k.*/w", NULL, 0, false },
	{ remove_dir, "exchanges/f/bindings/k.*", NULL, 0, false },
	{ remove_dir, "exchanges/f", NULL, 0, false },
};

const size_t step_count = sizeof(steps) / sizeof(steps[0]);

const char *step_name(size_t i)
{
	return steps[i].path;
}

bool step_is_of_many(size_t i)
{
	return steps[i].many;
}

int step_answer(size_t i)
{
	return steps[i].answer;
}

int step_do(size_t i)
{
	int err = steps[i].call(steps[i].path, steps[i].arg);

	cr_assert_eq(world.file_count, 0);
	while (world.node_count > 1)
		world_forget(world.node_count - 1);
	return err;
}

/* ---- what there is ---- */

struct look {
	char *text;
	size_t used;
	uint64_t ids[16];
	size_t id_count;
};

__attribute__((format(printf, 2, 3))) static void say(struct look *look, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	look->used += (size_t)vsnprintf(look->text + look->used, LOOK_MAX - look->used, format, args);
	va_end(args);
	cr_assert_lt(look->used, LOOK_MAX);
}

static const struct engine_ops *ops(void)
{
	return world.fs.engine->ops;
}

void look_at_log(char ret[LOOK_MAX])
{
	ret[0] = '\0';
	if (ask_open("topics/s/0/log", O_RDONLY) != 0)
		return;
	cr_assert_eq(ask_read(), 0);
	cr_assert_lt(world.answer.size, LOOK_MAX);
	memcpy(ret, world.answer.body, world.answer.size);
	ret[world.answer.size] = '\0';
	cr_assert_eq(ask_close(), 0);
}

static bool add_id(void *ctx, const struct engine_dirent *entry)
{
	struct look *look = ctx;

	look->ids[look->id_count++] = entry->id;
	return true;
}

/* Calls each for the objects of a kind, with their names. */
static void each_object(struct look *look, enum engine_kind kind,
    void (*each)(struct look *look, struct engine_object *object, const char *name, bool lasting), bool lasting)
{
	struct engine_object *root, *object;
	struct engine_identity identity;

	cr_assert_eq(ops()->get(world.fs.engine, ENGINE_ROOT_ID, &root), 0);
	look->id_count = 0;
	cr_assert_eq(ops()->list(world.fs.engine, root, kind, 0, add_id, look), 0);
	ops()->put(root);
	for (size_t i = 0; i < look->id_count; i++) {
		cr_assert_eq(ops()->get(world.fs.engine, look->ids[i], &object), 0);
		cr_assert_eq(ops()->identity(object, &identity), 0);
		each(look, object, identity.name, lasting);
		ops()->put(object);
	}
}

struct patterns {
	char names[8][ENGINE_PATTERN_MAX + 1];
	size_t count;
};

static bool add_pattern(void *ctx, const char *name, uint64_t target)
{
	struct patterns *patterns = ctx;

	(void)target;
	snprintf(patterns->names[patterns->count++], ENGINE_PATTERN_MAX + 1, "%s", name);
	return true;
}

static bool add_binding(void *ctx, const char *name, uint64_t target)
{
	say(ctx, " %s=%" PRIu64, name, target);
	return true;
}

static void look_at_exchange(struct look *look, struct engine_object *exchange, const char *name, bool lasting)
{
	struct patterns patterns = { .count = 0 };

	(void)lasting;
	say(look, "exchange %s:", name);
	cr_assert_eq(ops()->exchange->list(exchange, NULL, NULL, add_pattern, &patterns), 0);
	for (size_t i = 0; i < patterns.count; i++) {
		say(look, " (%s", patterns.names[i]);
		cr_assert_eq(ops()->exchange->list(exchange, patterns.names[i], NULL, add_binding, look), 0);
		say(look, ")");
	}
	say(look, "\n");
}

static void look_at_queue(struct look *look, struct engine_object *queue, const char *name, bool lasting)
{
	struct engine_queue_stat stat;

	cr_assert_eq(ops()->queue->queue_stat(queue, &stat), 0);
	say(look, "queue %s: %" PRIu64 " messages", name, stat.ready + stat.unacked);
	if (!lasting)
		say(look, ", %" PRIu64 " unacked", stat.unacked);
	say(look, "\n");
}

static void look_at_group(struct look *look, struct engine_object *topic, const char *name, bool lasting)
{
	struct engine_object *group;
	struct engine_cursor_stat stat;

	(void)lasting;
	say(look, "topic %s", name);
	if (ops()->lookup(world.fs.engine, topic, ENGINE_GROUP, "g", &group) == 0) {
		cr_assert_eq(ops()->cursor_stat(group, 0, &stat), 0);
		say(look, ": group at %" PRIu64, stat.committed);
		ops()->put(group);
	}
	say(look, "\n");
}

/* An open one is aborted at the next start. */
static void look_at_tx(struct look *look, struct engine_object *tx, const char *name, bool lasting)
{
	struct engine_tx_stat stat;

	cr_assert_eq(ops()->tx->tx_stat(tx, &stat), 0);
	if (lasting)
		say(look, "tx %s: %s\n", name, stat.state == ENGINE_TX_COMMITTED ? "committed" : "aborted");
	else
		say(look, "tx %s: %d, %" PRIu64 " messages, %" PRIu64 " settled, %" PRIu64 " cursors\n", name,
		    (int)stat.state, stat.messages, stat.settles, stat.cursors);
}

static void add_charge(void *ctx, uid_t uid, uint64_t used)
{
	(void)uid;
	*(uint64_t *)ctx += used;
}

void look_around(bool lasting, char ret[LOOK_MAX])
{
	struct look look = { .text = ret };

	ret[0] = '\0';
	each_object(&look, ENGINE_EXCHANGE, look_at_exchange, lasting);
	each_object(&look, ENGINE_QUEUE, look_at_queue, lasting);
	each_object(&look, ENGINE_TOPIC, look_at_group, lasting);
	each_object(&look, ENGINE_TX, look_at_tx, lasting);
	for (int kind = 0; kind < QUOTA_KINDS && !lasting; kind++) {
		uint64_t used = 0;

		quota_each(world.fs.quota, (enum quota_kind)kind, add_charge, &used);
		say(&look, "%s: %" PRIu64 "\n", quota_rows[kind].what, used);
	}
}
