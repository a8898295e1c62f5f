/*
 * Files of text and commands (fs/text.c), by requests as the kernel may send them: what is opened in a way it is not made for, read
 * beyond its end, written in parts, synced, and closed in the middle of a line.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdint.h>
#include <string.h>

#include "fs/class.h"
#include "fs/handle.h"
#include "tests/fuzz/world.h"

static void set_up(void)
{
	world_begin();
	world.of_root = true;
}

TestSuite(text, .init = set_up, .fini = world_end);

/* The answer to a request; its bytes are in world.answer. */
static int ask(uint32_t opcode, uint64_t node, const void *head, size_t head_len, const char *tail, size_t tail_len)
{
	world_send(opcode, node, head, head_len, tail, tail_len);
	return world.answer.came ? world.answer.error : 1;
}

static uint64_t walk(const char *path)
{
	uint64_t node = FUSE_ROOT_ID;

	while (*path != '\0') {
		char name[256] = { 0 };
		size_t len = strcspn(path, "/");

		memcpy(name, path, len);
		path += len + (path[len] == '/');
		cr_assert_eq(ask(FUSE_LOOKUP, node, name, len + 1, NULL, 0), 0, "%s", name);
		world_keep_entry();
		memcpy(&node, world.answer.body, sizeof(node));
		cr_assert_neq(node, 0, "%s", name);
	}
	return node;
}

static void make_dir(const char *parent, const char *name)
{
	const struct fuse_mkdir_in in = { .mode = 0755 };

	cr_assert_eq(ask(FUSE_MKDIR, walk(parent), &in, sizeof(in), name, strlen(name) + 1), 0);
	world_keep_entry();
}

static int open_file(const char *path, uint32_t flags)
{
	uint64_t node = walk(path);
	const struct fuse_open_in in = { .flags = flags };
	int err = ask(FUSE_OPEN, node, &in, sizeof(in), NULL, 0);

	world_keep_file(node, flags, false, 0);
	return err;
}

static uint64_t fh(void)
{
	return world.files[world.file_count - 1].fh;
}

static int write_text(const char *text, size_t len)
{
	struct fuse_write_in in = { .fh = fh(), .size = (uint32_t)len };

	return ask(FUSE_WRITE, 1, &in, sizeof(in), text, len);
}

static int sync_file(void)
{
	struct fuse_fsync_in in = { .fh = fh() };

	return ask(FUSE_FSYNC, 1, &in, sizeof(in), NULL, 0);
}

static bool owes(void)
{
	struct handle *handle = handle_use(world.fs.handles, fh());
	bool does = handle->class->owes(handle);

	handle_done(handle);
	return does;
}

static int read_at(uint64_t offset)
{
	struct fuse_read_in in = { .fh = fh(), .size = 4096, .offset = offset };

	return ask(FUSE_READ, 1, &in, sizeof(in), NULL, 0);
}

Test(text, is_read)
{
	make_dir("topics", "t");
	cr_assert_eq(open_file("topics/t/info", O_RDONLY), 0);
	cr_assert_eq(read_at(0), 0);
	cr_assert_gt(world.answer.size, 20);
	cr_assert_eq(read_at(100000), 0);
	cr_assert_eq(world.answer.size, 0);
	(void)read_at(UINT64_MAX);
	cr_assert_eq(world.answer.size, 0);
	cr_assert_eq(open_file("topics/t/info", O_WRONLY), -EPERM);
	cr_assert_eq(open_file("topics/t/info", O_RDWR), -EPERM);
	cr_assert_eq(sync_file(), 0);
}

/* A value with and without its newline, and an empty one; a mount that is read-only takes none. */
Test(text, value_is_written)
{
	make_dir("topics", "t");
	cr_assert_eq(open_file("topics/t/config/retention.bytes", O_RDWR), 0);
	cr_assert_eq(write_text("1000", 4), 0);
	cr_assert_eq(write_text("2000\n", 5), 0);
	cr_assert_eq(write_text("", 0), -EINVAL);
	cr_assert_eq(write_text("x\n", 2), -EINVAL);
	cr_assert_eq(sync_file(), 0);
	world_release(world.file_count - 1);
	cr_assert_eq(open_file("topics/t/config/retention.bytes", O_RDONLY), 0);
	cr_assert_eq(read_at(0), 0);
	cr_assert_eq(strncmp((char *)world.answer.body, "2000\n", 5), 0);
	world.fs.read_only = true;
	cr_assert_eq(open_file("topics/t/config/retention.bytes", O_WRONLY), -EROFS);
	cr_assert_eq(open_file("topics/t/config/retention.bytes", O_RDONLY), 0);
	world.fs.read_only = false;
}

/* A command in parts; one that can become nothing; and one whose end never comes, which is carried out or reported when the file is closed. */
Test(text, command_is_written)
{
	make_dir("topics", "t");
	make_dir("topics/t/groups", "g");
	cr_assert_eq(open_file("topics/t/groups/g/ack", O_RDWR), 0);
	cr_assert_eq(read_at(0), 0);
	cr_assert_eq(world.answer.size, 0);
	cr_assert(!owes());
	cr_assert_eq(write_text("al", 2), 0);
	cr_assert(owes()); /* what comes after its close sees what became of it */
	cr_assert_eq(write_text("l\n", 2), 0);
	cr_assert(!owes());
	cr_assert_eq(write_text("never", 5), -EINVAL);
	cr_assert_eq(sync_file(), 0);
	cr_assert_eq(write_text("0:99999", 7), 0);
	world_send(
	    FUSE_RELEASE, 1, &(const struct fuse_release_in){ .fh = fh() }, sizeof(struct fuse_release_in), NULL, 0);
	world.file_count--;
	cr_assert_eq(open_file("status/errors", O_RDONLY), 0);
	cr_assert_eq(read_at(0), 0);
	cr_assert_not_null(memmem(world.answer.body, world.answer.size, "99999", 5));
	cr_assert_eq(open_file("topics/t/purge", O_WRONLY), 0);
	cr_assert_eq(sync_file(), 0);
	cr_assert_eq(write_text("al", 2), 0);
	world.fs.ending = true; /* what is left of it at the end is not carried out */
	world_send(
	    FUSE_RELEASE, 1, &(const struct fuse_release_in){ .fh = fh() }, sizeof(struct fuse_release_in), NULL, 0);
	world.file_count--;
	world.fs.ending = false;
}
