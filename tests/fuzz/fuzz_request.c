/*
 * The FUSE request stream: any sequence of requests that a kernel could send, at the tree over the memory engine.
 *
 * The input is a script. Each step is an operation, and picks what it works on among the nodes and files that earlier answers gave, as
 * the kernel would: it names no node it was not given, reads only what was opened for reading, releases each file once.
 * Names and what is written come from lists of words that mean something here, or from the input. Nothing may crash, hang or leak;
 * every request that wants an answer gets one, at the end at the latest; and no answer is ENOSYS.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/world.h"

#define STEPS_MAX 400u

static const char *const words[] = { "topics", "queues", "exchanges", "tx", "status", "config", "t", "q", "e", "g", "m",
	"in", "in.json", "in.nul", "put", "head", "keys", "k", "priority", "5", "0", "1", "2", "log", "log.json", "at",
	"purge", "groups", "members", "consumers", "next", ".next", ".next.raw", ".out", ".out.json", ".stream",
	".wait", ".take", "ack", "nack", "reject", "offset", "session", "ready", "unacked", "delayed", "dlq", "redrive",
	"info", "type", "bindings", "a.*", "#", "health", "metrics", ".events", "errors", "dashboard.html",
	"max.length", "overflow", "prefetch", "linger.ms", "partitions", "cleanup.policy", "mandatory",
	"alternate.exchange", "dead.letter.to", "state", "f.tmp", ".f", "4913" };
static const char *const texts[] = { "hello\n", "a\nb\nc", "all\n", "0:0\n", "1\n", "1-99\n", "before 1\n",
	"0 earliest\n", "latest\n", "{\"payload\":\"x\",\"key\":\"k\",\"id\":\"i\"}\n",
	"{\"payload\":\"y\",\"delay_ms\":1,\"ttl_ms\":5,\"priority\":9}\n", "{\"payload\":1}\n", "2\n", "drop-head\n",
	"reject-publish\n", "compact\n", "fanout\n", "headers\n", "x-match=all\n", "commit\n", "rollback\n", "true\n",
	"none\n", "exchanges/e\n", "queues/q\n", "", "\n", "\n\n\n" };
static const char *const targets[] = { "../../../../queues/q", "../../../../topics/t", "../../../e", "/",
	"../../../../exchanges/e" };

/* ---- what a step picks ---- */

/* A node of one type (S_IFMT; 0: any), looked for from a place that the input says. 0: there is none. */
static size_t pick_node(struct fuzz_input *input, uint32_t type, bool *ret_found)
{
	size_t start = fuzz_byte(input) % world.node_count;

	for (size_t i = 0; i < world.node_count; i++) {
		size_t n = (start + i) % world.node_count;

		if (type == 0 || (world.nodes[n].mode & S_IFMT) == type) {
			*ret_found = true;
			return n;
		}
	}
	*ret_found = false;
	return 0;
}

/* Ends with a NUL, which counts. */
static size_t pick_name(struct fuzz_input *input, char name[256])
{
	uint8_t which = fuzz_byte(input);
	size_t len;

	if (which < sizeof(words) / sizeof(*words)) {
		len = strlen(words[which]);
		memcpy(name, words[which], len);
	} else {
		const uint8_t *bytes = fuzz_bytes(input, 254, &len);

		for (size_t i = 0; i < len; i++)
			name[i] = bytes[i] == 0 || bytes[i] == '/' ? '_' : (char)bytes[i];
		if (len == 0)
			name[len++] = 'n';
		if (len <= 2 && strspn(name, ".") >= len)
			name[0] = 'n'; /* the kernel resolves . and .. itself */
	}
	name[len] = '\0';
	return len + 1;
}

/* ---- steps ---- */

static void step_lookup(struct fuzz_input *input)
{
	bool found;
	size_t node = pick_node(input, S_IFDIR, &found);
	char name[256];
	size_t len = pick_name(input, name);

	if (!found || world.node_count == NODES_MAX)
		return;
	world_send(FUSE_LOOKUP, world.nodes[node].id, name, len, NULL, 0);
	world_keep_entry();
}

static void step_mkdir(struct fuzz_input *input)
{
	bool found;
	size_t node = pick_node(input, S_IFDIR, &found);
	const struct fuse_mkdir_in in = { .mode = 0755 };
	char name[256];
	size_t len = pick_name(input, name);

	if (!found || world.node_count == NODES_MAX)
		return;
	world_send(FUSE_MKDIR, world.nodes[node].id, &in, sizeof(in), name, len);
	world_keep_entry();
}

static void step_remove(struct fuzz_input *input)
{
	bool found;
	size_t node = pick_node(input, S_IFDIR, &found);
	uint32_t opcode = fuzz_byte(input) & 1 ? FUSE_RMDIR : FUSE_UNLINK;
	char name[256];
	size_t len = pick_name(input, name);

	if (found)
		world_send(opcode, world.nodes[node].id, name, len, NULL, 0);
}

static void step_rename(struct fuzz_input *input)
{
	bool found;
	size_t from = pick_node(input, S_IFDIR, &found), to = pick_node(input, S_IFDIR, &found);
	struct fuse_rename2_in in = { .newdir = world.nodes[to].id, .flags = fuzz_byte(input) & 3u };
	char names[512];
	size_t len = pick_name(input, names);

	len += pick_name(input, names + len);
	if (found)
		world_send(FUSE_RENAME2, world.nodes[from].id, &in, sizeof(in), names, len);
}

static void step_symlink(struct fuzz_input *input)
{
	bool found;
	size_t node = pick_node(input, S_IFDIR, &found);
	const char *target = targets[fuzz_byte(input) % (sizeof(targets) / sizeof(*targets))];
	char name[256];
	size_t len = pick_name(input, name);

	if (!found || world.node_count == NODES_MAX)
		return;
	world_send(FUSE_SYMLINK, world.nodes[node].id, name, len, target, strlen(target) + 1);
	world_keep_entry();
}

static void step_create(struct fuzz_input *input)
{
	bool found;
	size_t node = pick_node(input, S_IFDIR, &found);
	const struct fuse_create_in in = { .flags = O_WRONLY | O_CREAT, .mode = S_IFREG | 0644 };
	char name[256];
	size_t len = pick_name(input, name), before = world.node_count;

	if (!found || before == NODES_MAX || world.file_count == FILES_MAX)
		return;
	world_send(FUSE_CREATE, world.nodes[node].id, &in, sizeof(in), name, len);
	world_keep_entry();
	if (world_answered()) {
		struct fuse_entry_out entry;

		memcpy(&entry, world.answer.body, sizeof(entry));
		world_keep_file(entry.nodeid, O_WRONLY, false, sizeof(entry));
	}
}

static void step_open(struct fuzz_input *input)
{
	static const uint32_t ways[] = { O_RDONLY, O_WRONLY | O_APPEND, O_RDWR, O_WRONLY | O_TRUNC | O_DSYNC,
		O_RDONLY | O_NONBLOCK };
	bool found;
	size_t node = pick_node(input, S_IFREG, &found);
	const struct fuse_open_in in = { .flags = ways[fuzz_byte(input) % 5] };

	if (!found || world.file_count == FILES_MAX)
		return;
	world_send(FUSE_OPEN, world.nodes[node].id, &in, sizeof(in), NULL, 0);
	world_keep_file(world.nodes[node].id, in.flags, false, 0);
}

static void step_opendir(struct fuzz_input *input)
{
	bool found;
	size_t node = pick_node(input, S_IFDIR, &found);
	const struct fuse_open_in in = { .flags = O_RDONLY | O_DIRECTORY };

	if (!found || world.file_count == FILES_MAX)
		return;
	world_send(FUSE_OPENDIR, world.nodes[node].id, &in, sizeof(in), NULL, 0);
	world_keep_file(world.nodes[node].id, in.flags, true, 0);
}

static void step_read(struct fuzz_input *input)
{
	struct fuse_read_in in = { 0 };
	size_t file;

	if (world.file_count == 0)
		return;
	file = fuzz_byte(input) % world.file_count;
	in.fh = world.files[file].fh;
	in.flags = world.files[file].flags;
	in.size = fuzz_byte(input) & 1 ? 4096 : fuzz_byte(input) + 1u;
	in.offset = fuzz_byte(input) & 1 ? 0 : fuzz_byte(input) * 7u;
	if ((in.flags & O_ACCMODE) == O_WRONLY)
		return;
	world_send(world.files[file].dir ? FUSE_READDIR : FUSE_READ, world.files[file].node, &in, sizeof(in), NULL, 0);
	if (!world.answer.came) { /* it waits: as Ctrl-C would end it */
		const struct fuse_interrupt_in interrupt = { .unique = world.unique };

		world_send(FUSE_INTERRUPT, 0, &interrupt, sizeof(interrupt), NULL, 0);
	}
}

static void step_write(struct fuzz_input *input)
{
	struct fuse_write_in in = { 0 };
	uint8_t which = fuzz_byte(input);
	const uint8_t *bytes;
	size_t file, len;

	if (which < sizeof(texts) / sizeof(*texts)) {
		bytes = (const uint8_t *)texts[which];
		len = strlen(texts[which]);
	} else {
		bytes = fuzz_bytes(input, 255, &len);
	}
	if (world.file_count == 0 || len == 0)
		return;
	file = fuzz_byte(input) % world.file_count;
	if ((world.files[file].flags & O_ACCMODE) == O_RDONLY || world.files[file].dir)
		return;
	in.fh = world.files[file].fh;
	in.size = (uint32_t)len;
	in.flags = world.files[file].flags;
	world_send(FUSE_WRITE, world.files[file].node, &in, sizeof(in), bytes, len);
}

static void step_release(struct fuzz_input *input)
{
	if (world.file_count > 0)
		world_release(fuzz_byte(input) % world.file_count);
}

static void step_fsync(struct fuzz_input *input)
{
	struct fuse_fsync_in in = { 0 };
	size_t file;

	if (world.file_count == 0)
		return;
	file = fuzz_byte(input) % world.file_count;
	in.fh = world.files[file].fh;
	world_send(
	    world.files[file].dir ? FUSE_FSYNCDIR : FUSE_FSYNC, world.files[file].node, &in, sizeof(in), NULL, 0);
}

static void step_attr(struct fuzz_input *input)
{
	bool found;
	size_t node = pick_node(input, 0, &found);
	const struct fuse_getattr_in get = { 0 };
	struct fuse_setattr_in set = {
		.valid = fuzz_byte(input), .mode = fuzz_byte(input), .uid = 1000, .size = fuzz_byte(input)
	};

	set.valid &= FATTR_MODE | FATTR_UID | FATTR_SIZE | FATTR_MTIME | FATTR_MTIME_NOW;
	set.mtime = fuzz_byte(input) & 1 ? UINT64_MAX : 1800000000;
	if (set.valid == 0)
		world_send(FUSE_GETATTR, world.nodes[node].id, &get, sizeof(get), NULL, 0);
	else
		world_send(FUSE_SETATTR, world.nodes[node].id, &set, sizeof(set), NULL, 0);
}

static void step_readlink(struct fuzz_input *input)
{
	bool found;
	size_t node = pick_node(input, S_IFLNK, &found);

	if (found)
		world_send(FUSE_READLINK, world.nodes[node].id, NULL, 0, NULL, 0);
}

static void step_poll(struct fuzz_input *input)
{
	struct fuse_poll_in in = { .flags = FUSE_POLL_SCHEDULE_NOTIFY };
	size_t file;

	if (world.file_count == 0)
		return;
	file = fuzz_byte(input) % world.file_count;
	in.fh = in.kh = world.files[file].fh;
	if (!world.files[file].dir)
		world_send(FUSE_POLL, world.files[file].node, &in, sizeof(in), NULL, 0);
}

static bool is_open(uint64_t node)
{
	for (size_t i = 0; i < world.file_count; i++) {
		if (world.files[i].node == node)
			return true;
	}
	return false;
}

static void step_forget(struct fuzz_input *input)
{
	size_t node = fuzz_byte(input) % world.node_count;

	if (node > 0 && !is_open(world.nodes[node].id))
		world_forget(node);
}

static void (*const steps[])(struct fuzz_input *input) = { step_lookup, step_lookup, step_lookup, step_mkdir,
	step_mkdir, step_remove, step_rename, step_symlink, step_create, step_open, step_open, step_opendir, step_read,
	step_read, step_write, step_write, step_release, step_fsync, step_attr, step_readlink, step_poll, step_forget };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = { data, size };

	world_begin();
	for (unsigned i = 0; i < STEPS_MAX && input.size > 0; i++)
		steps[fuzz_byte(&input) % (sizeof(steps) / sizeof(*steps))](&input);
	world_end();
	return 0;
}
