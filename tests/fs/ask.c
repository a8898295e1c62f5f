/*
 * ask - see ask.h.
 */
#include "tests/fs/ask.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/world.h"

int ask_backing = -1;
int ask_refusal;
static unsigned registered;

struct fuse_req;
int __wrap_fuse_passthrough_open(struct fuse_req *req, int fd);
int __wrap_fuse_passthrough_open(struct fuse_req *req, int fd)
{
	char path[64];

	(void)req;
	if (ask_refusal != 0) {
		errno = ask_refusal;
		return 0;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (ask_backing >= 0)
		close(ask_backing);
	ask_backing = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
	cr_assert_geq(ask_backing, 0);
	return (int)++registered;
}

/* 0 or the errno of the answer; 1: none came. */
int ask(uint32_t opcode, uint64_t node, const void *head, size_t head_len, const void *tail, size_t tail_len)
{
	world_send(opcode, node, head, head_len, tail, tail_len);
	return world.answer.came ? world.answer.error : 1;
}

uint64_t ask_walk(const char *path, bool all, char ret_name[256])
{
	return world_walk(path, all, world_send, ret_name);
}

int ask_mkdir(const char *path)
{
	const struct fuse_mkdir_in in = { .mode = 0755 };
	char name[256];
	uint64_t node = ask_walk(path, false, name);
	int err = ask(FUSE_MKDIR, node, &in, sizeof(in), name, strlen(name) + 1);

	world_keep_entry();
	return err;
}

int ask_open(const char *path, uint32_t flags)
{
	char name[256];
	uint64_t node = ask_walk(path, true, name);
	const struct fuse_open_in in = { .flags = flags };
	int err = node == 0 ? -ENOENT : ask(FUSE_OPEN, node, &in, sizeof(in), NULL, 0);

	world_keep_file(node, flags, false, 0);
	return err;
}

int ask_create(const char *path)
{
	const struct fuse_create_in in = { .flags = O_WRONLY | O_CREAT, .mode = S_IFREG | 0644 };
	struct fuse_entry_out entry;
	char name[256];
	uint64_t node = ask_walk(path, false, name);
	int err = ask(FUSE_CREATE, node, &in, sizeof(in), name, strlen(name) + 1);

	if (err != 0)
		return err;
	world_keep_entry();
	memcpy(&entry, world.answer.body, sizeof(entry));
	world_keep_file(entry.nodeid, O_WRONLY, false, sizeof(entry));
	return 0;
}

static uint64_t ask_fh(void)
{
	return world.files[world.file_count - 1].fh;
}

uint64_t ask_node(void)
{
	return world.files[world.file_count - 1].node;
}

int ask_write(const char *text, uint64_t offset)
{
	const struct fuse_write_in in = { .fh = ask_fh(), .offset = offset, .size = (uint32_t)strlen(text) };

	return ask(FUSE_WRITE, ask_node(), &in, sizeof(in), text, strlen(text));
}

int ask_read(void)
{
	const struct fuse_read_in in = { .fh = ask_fh(), .size = 4096 };

	return ask(FUSE_READ, ask_node(), &in, sizeof(in), NULL, 0);
}

int ask_flush(void)
{
	const struct fuse_flush_in in = { .fh = ask_fh() };

	return ask(FUSE_FLUSH, ask_node(), &in, sizeof(in), NULL, 0);
}

/* Its answer is that of the flush, as of close(2). */
int ask_close(void)
{
	const struct fuse_release_in in = { .fh = ask_fh() };
	int err = ask_flush();

	(void)ask(FUSE_RELEASE, ask_node(), &in, sizeof(in), NULL, 0);
	world.file_count--;
	return err;
}

int ask_write_file(const char *path, const char *text)
{
	int err = ask_open(path, O_RDWR), closed;

	if (err != 0)
		return err;
	err = ask_write(text, 0);
	closed = ask_close();
	return err != 0 ? err : closed;
}

bool ask_is_staged(void)
{
	struct fuse_open_out out;

	memcpy(&out, world.answer.body, sizeof(out));
	return (out.open_flags & 1u << 7) != 0; /* FOPEN_PASSTHROUGH, which not every header has */
}

/* ---- names ---- */

int ask_remove(const char *path, bool directory)
{
	char name[256];
	uint64_t node = ask_walk(path, false, name);

	return ask(directory ? FUSE_RMDIR : FUSE_UNLINK, node, name, strlen(name) + 1, NULL, 0);
}

int ask_rename(const char *path, const char *new_path)
{
	char name[256], both[512];
	uint64_t node = ask_walk(path, false, name);
	const struct fuse_rename_in in = { .newdir = ask_walk(new_path, false, both) };
	size_t len = strlen(name) + 1, new_len = strlen(both) + 1;

	memmove(both + len, both, new_len);
	memcpy(both, name, len);
	return ask(FUSE_RENAME, node, &in, sizeof(in), both, len + new_len);
}

int ask_link(const char *path, const char *target)
{
	char name[256];
	uint64_t node = ask_walk(path, false, name);
	int err = ask(FUSE_SYMLINK, node, name, strlen(name) + 1, target, strlen(target) + 1);

	world_keep_entry();
	return err;
}
