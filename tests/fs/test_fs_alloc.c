/*
 * A script of requests is given to the tree again and again: with the first allocation of fs/ failing, then the second, and so on,
 * until none does any more (those of jansson for fs/ as well). Every request has an answer; one that is refused for want of memory
 * is sent again, as it was, and is not refused then; and all answers are those of a run in which nothing failed, so that
 * what was accepted is there, once, and what was refused changed nothing.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"
#include "tests/fuzz/world.h"
#include "tests/lib/alloc.h"

#define SAID_MAX (1u << 17)

static struct {
	uint64_t n; /* which one fails; 0: none */
	unsigned refused;
	char *said; /* all answers, one a line */
	size_t used;
} run;

static void say(const char *what, const char *path, const char *text, size_t len)
{
	run.used += (size_t)snprintf(run.said + run.used, SAID_MAX - run.used, "%s %s: %d %.*s\n", what, path,
	    world.answer.came ? world.answer.error : 1, (int)len, text);
	cr_assert_lt(run.used, SAID_MAX);
}

/* A request, and the same again if there was no memory for it. */
static void ask(uint32_t opcode, uint64_t node, const void *head, size_t head_len, const void *tail, size_t tail_len)
{
	world_send(opcode, node, head, head_len, tail, tail_len);
	if (!world.answer.came || world.answer.error != -ENOMEM)
		return;
	run.refused++;
	world_send(opcode, node, head, head_len, tail, tail_len);
	cr_assert(!world.answer.came || world.answer.error != -ENOMEM, "allocation %" PRIu64 ": refused twice", run.n);
}

static uint64_t walk(const char *path, bool all, char ret_name[256])
{
	return world_walk(path, all, ask, ret_name);
}

static bool open_file(uint64_t node, uint32_t flags, bool dir)
{
	const struct fuse_open_in in = { .flags = flags };

	ask(dir ? FUSE_OPENDIR : FUSE_OPEN, node, &in, sizeof(in), NULL, 0);
	world_keep_file(node, flags, dir, 0);
	return world_answered();
}

/* FLUSH, whose answer is that of close(2), and RELEASE. */
static void close_file(const char *path)
{
	const struct fuse_flush_in flush = { .fh = world.files[world.file_count - 1].fh };

	ask(FUSE_FLUSH, world.files[world.file_count - 1].node, &flush, sizeof(flush), NULL, 0);
	say("close", path, "", 0);
	world_release(world.file_count - 1);
}

static void write_text(const char *text)
{
	struct fuse_write_in in = { .size = (uint32_t)strlen(text) };

	in.fh = world.files[world.file_count - 1].fh;
	in.flags = world.files[world.file_count - 1].flags;
	ask(FUSE_WRITE, world.files[world.file_count - 1].node, &in, sizeof(in), text, strlen(text));
}

static void do_write(const char *path, const char *text)
{
	char name[256];
	uint64_t node = walk(path, true, name);

	if (node == 0 || !open_file(node, O_WRONLY | O_APPEND, false)) {
		say("open", path, "", 0);
		return;
	}
	write_text(text);
	say("write", path, "", 0);
	close_file(path);
}

/* quiet: what is in it tells of times and of what was refused. */
static void read_at(const char *path, uint32_t flags, bool dir, bool quiet)
{
	char name[256];
	uint64_t node = walk(path, true, name);
	struct fuse_read_in in = { .size = 8192, .flags = flags };

	if (node == 0 || !open_file(node, flags, dir)) {
		say("open", path, "", 0);
		return;
	}
	in.fh = world.files[world.file_count - 1].fh;
	ask(dir ? FUSE_READDIR : FUSE_READ, node, &in, sizeof(in), NULL, 0);
	if (!world.answer.came) {
		const struct fuse_interrupt_in interrupt = { .unique = world.unique };

		say("waits", path, "", 0);
		world_send(FUSE_INTERRUPT, 0, &interrupt, sizeof(interrupt), NULL, 0);
	} else if (dir) {
		for (size_t at = 0; world_answered() && at + sizeof(struct fuse_dirent) <= world.answer.size;) {
			struct fuse_dirent entry;

			memcpy(&entry, world.answer.body + at, sizeof(entry));
			say("entry", path, (char *)world.answer.body + at + FUSE_NAME_OFFSET, entry.namelen);
			at += FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + entry.namelen);
		}
	} else {
		say("read", path, (char *)world.answer.body, quiet ? 0 : world.answer.size);
	}
	if (dir)
		world_release(world.file_count - 1);
	else
		close_file(path);
}

static void do_read(const char *path, const char *arg)
{
	read_at(path, O_RDONLY, false, *arg != '\0');
}

static void do_list(const char *path, const char *arg)
{
	(void)arg;
	read_at(path, O_RDONLY | O_DIRECTORY, true, false);
}

static void do_mkdir(const char *path, const char *arg)
{
	const struct fuse_mkdir_in in = { .mode = 0755 };
	char name[256];
	uint64_t node = walk(path, false, name);

	(void)arg;
	ask(FUSE_MKDIR, node, &in, sizeof(in), name, strlen(name) + 1);
	world_keep_entry();
	say("mkdir", path, "", 0);
}

static void do_remove(const char *path, const char *arg)
{
	char name[256];
	uint64_t node = walk(path, false, name);

	ask(*arg == 'd' ? FUSE_RMDIR : FUSE_UNLINK, node, name, strlen(name) + 1, NULL, 0);
	say("remove", path, "", 0);
}

static void do_rename(const char *path, const char *to)
{
	char names[512], name[256];
	uint64_t node = walk(path, false, names), other = walk(to, false, name);
	const struct fuse_rename2_in in = { .newdir = other };
	size_t len = strlen(names) + 1;

	memcpy(names + len, name, strlen(name) + 1);
	ask(FUSE_RENAME2, node, &in, sizeof(in), names, len + strlen(name) + 1);
	say("rename", path, "", 0);
}

static void do_link(const char *path, const char *target)
{
	char name[256];
	uint64_t node = walk(path, false, name);

	ask(FUSE_SYMLINK, node, name, strlen(name) + 1, target, strlen(target) + 1);
	world_keep_entry();
	say("symlink", path, "", 0);
	node = walk(path, true, name);
	if (node == 0)
		return;
	ask(FUSE_READLINK, node, NULL, 0, NULL, 0);
	say("readlink", path, (char *)world.answer.body, world.answer.size);
}

/* Is a name still there that its message was not made of? Those that it was made of are known to their maker only. */
static bool is_left(uint64_t directory, const char *name)
{
	struct fuse_read_in in = { .size = 8192 };
	bool found = false;

	if (!open_file(directory, O_RDONLY | O_DIRECTORY, true))
		return false;
	in.fh = world.files[world.file_count - 1].fh;
	ask(FUSE_READDIR, directory, &in, sizeof(in), NULL, 0);
	for (size_t at = 0; world_answered() && at + sizeof(struct fuse_dirent) <= world.answer.size;) {
		struct fuse_dirent entry;

		memcpy(&entry, world.answer.body + at, sizeof(entry));
		found |= entry.namelen == strlen(name) &&
			 memcmp(world.answer.body + at + FUSE_NAME_OFFSET, name, entry.namelen) == 0;
		at += FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + entry.namelen);
	}
	world_release(world.file_count - 1);
	return found;
}

/* A file of put/ for which there was no memory when it was closed is there, and becomes a message when it is closed again. */
static void put_again(const char *path, uint64_t directory, const char *name)
{
	char last[256];
	uint64_t node;

	if (strstr(path, "/put/") == NULL || strstr(name, ".tmp") != NULL || !is_left(directory, name))
		return;
	node = walk(path, true, last);
	cr_assert(open_file(node, O_WRONLY | O_APPEND, false));
	world_release(world.file_count - 1);
}

static void do_put(const char *path, const char *text)
{
	const struct fuse_create_in in = { .flags = O_WRONLY | O_CREAT, .mode = S_IFREG | 0644 };
	struct fuse_entry_out entry;
	char name[256];
	uint64_t node = walk(path, false, name);

	ask(FUSE_CREATE, node, &in, sizeof(in), name, strlen(name) + 1);
	say("create", path, "", 0);
	world_keep_entry();
	if (!world_answered())
		return;
	memcpy(&entry, world.answer.body, sizeof(entry));
	world_keep_file(entry.nodeid, O_WRONLY, false, sizeof(entry));
	write_text(text);
	say("write", path, "", 0);
	close_file(path);
	put_again(path, node, name);
}

static const struct {
	void (*step)(const char *path, const char *arg);
	const char *path, *arg;
} script[] = {
	{ do_mkdir, "topics/t", "" },
	{ do_write, "topics/t/in", "a\nb\nc" },
	{ do_write, "topics/t/in.json", "{\"payload\":\"x\",\"key\":\"k\",\"headers\":{\"h\":\"1\"}}\n" },
	{ do_write, "topics/t/in.json", "{\"payload\":1}\n" },
	{ do_write, "topics/t/in.nul", "two\nlines" },
	{ do_put, "topics/t/keys/k", "keyed\n" },
	{ do_list, "topics/t/keys", "" },
	{ do_read, "topics/t/keys/k", "" },
	{ do_put, "topics/t/put/f", "whole" },
	{ do_put, "topics/t/put/f.tmp", "moved" },
	{ do_rename, "topics/t/put/f.tmp", "topics/t/put/g" },
	{ do_read, "topics/t/0/log", "" },
	{ do_read, "topics/t/0/log.json", "quiet" },
	{ do_read, "topics/t/0/at/1", "" },
	{ do_read, "topics/t/info", "" },
	{ do_mkdir, "topics/t/groups/g", "" },
	{ do_read, "topics/t/groups/g/.next", "" },
	{ do_read, "topics/t/groups/g/.out", "" },
	{ do_write, "topics/t/groups/g/ack", "all\n" },
	{ do_write, "topics/t/groups/g/ack", "0:99999\n" },
	{ do_read, "topics/t/groups/g/offset", "" },
	{ do_read, "topics/t/groups/g/info", "quiet" },
	{ do_mkdir, "topics/t/groups/g/members/m", "" },
	{ do_list, "topics/t/groups/g/members", "" },
	{ do_write, "topics/t/config/retention.bytes", "1000000\n" },
	{ do_write, "topics/t/config/retention.bytes", "x\n" },
	{ do_read, "topics/t/config/retention.bytes", "" },
	{ do_mkdir, "queues/q", "" },
	{ do_write, "queues/q/in", "1\n2\n3\n4\n" },
	{ do_write, "queues/q/in.json", "{\"payload\":\"p\",\"priority\":9}\n" },
	{ do_write, "queues/q/priority/5/in", "five\n" },
	{ do_write, "queues/q/head", "front\n" },
	{ do_list, "queues/q/ready", "" },
	{ do_read, "queues/q/.take", "" },
	{ do_mkdir, "queues/q/consumers/w", "" },
	{ do_read, "queues/q/consumers/w/.next", "" },
	{ do_write, "queues/q/consumers/w/ack", "all\n" },
	{ do_read, "queues/q/consumers/w/.next", "" },
	{ do_write, "queues/q/consumers/w/reject", "all\n" },
	{ do_read, "queues/q/consumers/w/.out.json", "quiet" },
	{ do_write, "queues/q/consumers/w/nack", "all\n" },
	{ do_list, "queues/q/unacked", "" },
	{ do_list, "queues/q/dlq/ready", "" },
	{ do_read, "queues/q/info", "quiet" },
	{ do_mkdir, "exchanges/e", "" },
	{ do_write, "exchanges/e/type", "topic\n" },
	{ do_mkdir, "exchanges/e/bindings/a.*", "" },
	{ do_link, "exchanges/e/bindings/a.*/q", "../../../../queues/q" },
	{ do_put, "exchanges/e/keys/a.b", "routed\n" },
	{ do_list, "exchanges/e/bindings/a.*", "" },
	{ do_mkdir, "tx/n", "" },
	{ do_write, "tx/n/queues/q/in", "staged\n" },
	{ do_write, "tx/n/topics/t/in", "staged\n" },
	{ do_read, "tx/n/state", "" },
	{ do_write, "tx/n/state", "commit\n" },
	{ do_read, "tx/n/state", "" },
	{ do_remove, "tx/n", "d" },
	{ do_rename, "queues/q", "queues/r" },
	{ do_list, "queues", "" },
	{ do_list, "queues/r/ready", "" },
	{ do_read, "topics/t/0/log", "" },
	{ do_read, "status/health", "quiet" },
	{ do_read, "status/metrics", "quiet" },
	{ do_read, "status/errors", "quiet" },
	{ do_read, "status/dashboard.html", "quiet" },
	{ do_read, "status/.events", "quiet" },
	{ do_read, "topics/t/groups/g/.wait", "" },
	{ do_write, "topics/t/purge", "all\n" },
	{ do_remove, "exchanges/e/bindings/a.*/q", "" },
	{ do_remove, "topics/t/groups/g", "d" },
	{ do_remove, "topics/t", "d" },
	{ do_list, "topics", "" },
};

static int64_t noon(void)
{
	return INT64_C(1800000000000);
}

/* Returns how many allocations there were. */
static uint64_t give(uint64_t n)
{
	uint64_t count;

	run.n = n;
	run.used = 0;
	world_begin();
	world.of_root = true;
	alloc_arm(n);
	for (size_t i = 0; i < sizeof(script) / sizeof(*script); i++)
		script[i].step(script[i].path, script[i].arg);
	count = alloc_disarm();
	world_end();
	return count;
}

Test(fs_alloc, answers_are_the_same)
{
	static const struct clock_ops clock = { .wall_ms = noon, .mono_ms = noon };
	char *without = calloc(1, SAID_MAX);
	uint64_t count;

	clock_now = &clock;
	run.said = without;
	count = give(0);
	run.said = calloc(1, SAID_MAX);
	for (uint64_t n = 1; n <= count; n++) {
		(void)give(n);
		cr_assert_str_eq(run.said, without, "allocation %" PRIu64, n);
	}
	cr_assert_gt(run.refused, 100);
	free(run.said);
	free(without);
}
