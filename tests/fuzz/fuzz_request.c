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

#include "engine/engine.h"
#include "fs/events.h"
#include "fs/fs.h"
#include "fs/handle.h"
#include "fs/node.h"
#include "fs/ops.h"
#include "fs/quota.h"
#include "fs/ring.h"
#include "fs/spool.h"
#include "tests/fuzz/fuzz.h"

#define NODES_MAX 256u
#define FILES_MAX 64u
#define STEPS_MAX 400u
#define REQUEST_MAX (64u << 10)

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

static struct {
	struct fs fs;
	struct fuse_session *session;
	struct {
		uint64_t id, lookups;
		uint32_t mode;
	} nodes[NODES_MAX];
	size_t node_count;
	struct {
		uint64_t fh, node;
		uint32_t flags;
		bool dir;
	} files[FILES_MAX];
	size_t file_count;
	uint64_t unique;
	unsigned wanted; /* answers that have not come */
	struct {
		bool came;
		int error;
		size_t size;
		uint8_t body[REQUEST_MAX];
	} answer; /* to the last request */
} world;

/* ---- answers ---- */

static ssize_t on_answer(int fd, struct iovec *iov, int count, void *userdata)
{
	struct fuse_out_header header;
	size_t at = 0, total = 0;

	(void)fd;
	(void)userdata;
	FUZZ_ASSERT(iov[0].iov_len >= sizeof(header));
	memcpy(&header, iov[0].iov_base, sizeof(header));
	for (int i = 0; i < count; i++)
		total += iov[i].iov_len;
	FUZZ_ASSERT(header.len == total);
	if (header.unique == 0) /* a notification */
		return (ssize_t)total;
	FUZZ_ASSERT(header.error != -ENOSYS && header.error <= 0 && header.error > -1000);
	FUZZ_ASSERT(world.wanted > 0);
	world.wanted--;
	if (header.unique != world.unique)
		return (ssize_t)total; /* of a request that was parked */
	world.answer.came = true;
	world.answer.error = header.error;
	for (int i = 0; i < count; i++) {
		size_t skip = i == 0 ? sizeof(header) : 0, len = iov[i].iov_len - skip;

		if (at + len <= sizeof(world.answer.body))
			memcpy(world.answer.body + at, (char *)iov[i].iov_base + skip, len);
		at += len;
	}
	world.answer.size = at;
	return (ssize_t)total;
}

static ssize_t no_read(int fd, void *buf, size_t size, void *userdata)
{
	(void)fd;
	(void)buf;
	(void)size;
	(void)userdata;
	errno = ENODEV;
	return -1;
}

/* ---- requests ---- */

static void send_request(
    uint32_t opcode, uint64_t node, const void *head, size_t head_len, const void *tail, size_t tail_len)
{
	static uint8_t request[REQUEST_MAX];
	struct fuse_in_header header = { .len = (uint32_t)(sizeof(header) + head_len + tail_len),
		.opcode = opcode,
		.unique = world.unique += 2,
		.nodeid = node,
		.uid = (uint32_t)(world.unique >> 4 & 1) * 1000,
		.pid = (uint32_t)getpid() };
	struct fuse_buf buf = { .size = header.len, .mem = request };

	FUZZ_ASSERT(header.len <= sizeof(request));
	memcpy(request, &header, sizeof(header));
	if (head_len > 0)
		memcpy(request + sizeof(header), head, head_len);
	if (tail_len > 0)
		memcpy(request + sizeof(header) + head_len, tail, tail_len);
	world.answer.came = false;
	world.answer.size = 0;
	world.wanted += opcode != FUSE_FORGET && opcode != FUSE_INTERRUPT;
	fuse_session_process_buf(world.session, &buf);
}

static bool answered(void)
{
	return world.answer.came && world.answer.error == 0;
}

/* The entry of an answer becomes a node that can be used. */
static void keep_entry(void)
{
	struct fuse_entry_out entry;

	if (!answered() || world.answer.size < sizeof(entry))
		return;
	memcpy(&entry, world.answer.body, sizeof(entry));
	if (entry.nodeid == 0)
		return;
	for (size_t i = 0; i < world.node_count; i++) {
		if (world.nodes[i].id == entry.nodeid) {
			world.nodes[i].lookups++;
			return;
		}
	}
	FUZZ_ASSERT(world.node_count < NODES_MAX);
	world.nodes[world.node_count].id = entry.nodeid;
	world.nodes[world.node_count].lookups = 1;
	world.nodes[world.node_count++].mode = entry.attr.mode;
}

static void keep_file(uint64_t node, uint32_t flags, bool dir, size_t skip)
{
	struct fuse_open_out open;

	if (!answered() || world.answer.size < skip + sizeof(open))
		return;
	memcpy(&open, world.answer.body + skip, sizeof(open));
	FUZZ_ASSERT(world.file_count < FILES_MAX);
	world.files[world.file_count].fh = open.fh;
	world.files[world.file_count].node = node;
	world.files[world.file_count].flags = flags;
	world.files[world.file_count++].dir = dir;
}

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
	send_request(FUSE_LOOKUP, world.nodes[node].id, name, len, NULL, 0);
	keep_entry();
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
	send_request(FUSE_MKDIR, world.nodes[node].id, &in, sizeof(in), name, len);
	keep_entry();
}

static void step_remove(struct fuzz_input *input)
{
	bool found;
	size_t node = pick_node(input, S_IFDIR, &found);
	uint32_t opcode = fuzz_byte(input) & 1 ? FUSE_RMDIR : FUSE_UNLINK;
	char name[256];
	size_t len = pick_name(input, name);

	if (found)
		send_request(opcode, world.nodes[node].id, name, len, NULL, 0);
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
		send_request(FUSE_RENAME2, world.nodes[from].id, &in, sizeof(in), names, len);
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
	send_request(FUSE_SYMLINK, world.nodes[node].id, name, len, target, strlen(target) + 1);
	keep_entry();
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
	send_request(FUSE_CREATE, world.nodes[node].id, &in, sizeof(in), name, len);
	keep_entry();
	if (answered()) {
		struct fuse_entry_out entry;

		memcpy(&entry, world.answer.body, sizeof(entry));
		keep_file(entry.nodeid, O_WRONLY, false, sizeof(entry));
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
	send_request(FUSE_OPEN, world.nodes[node].id, &in, sizeof(in), NULL, 0);
	keep_file(world.nodes[node].id, in.flags, false, 0);
}

static void step_opendir(struct fuzz_input *input)
{
	bool found;
	size_t node = pick_node(input, S_IFDIR, &found);
	const struct fuse_open_in in = { .flags = O_RDONLY | O_DIRECTORY };

	if (!found || world.file_count == FILES_MAX)
		return;
	send_request(FUSE_OPENDIR, world.nodes[node].id, &in, sizeof(in), NULL, 0);
	keep_file(world.nodes[node].id, in.flags, true, 0);
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
	send_request(
	    world.files[file].dir ? FUSE_READDIR : FUSE_READ, world.files[file].node, &in, sizeof(in), NULL, 0);
	if (!world.answer.came) { /* it waits: as Ctrl-C would end it */
		const struct fuse_interrupt_in interrupt = { .unique = world.unique };

		send_request(FUSE_INTERRUPT, 0, &interrupt, sizeof(interrupt), NULL, 0);
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
	send_request(FUSE_WRITE, world.files[file].node, &in, sizeof(in), bytes, len);
}

static void release(size_t file)
{
	const struct fuse_flush_in flush = { .fh = world.files[file].fh };
	const struct fuse_release_in in = { .fh = world.files[file].fh, .flags = world.files[file].flags };

	if (!world.files[file].dir)
		send_request(FUSE_FLUSH, world.files[file].node, &flush, sizeof(flush), NULL, 0);
	send_request(
	    world.files[file].dir ? FUSE_RELEASEDIR : FUSE_RELEASE, world.files[file].node, &in, sizeof(in), NULL, 0);
	world.files[file] = world.files[--world.file_count];
}

static void step_release(struct fuzz_input *input)
{
	if (world.file_count > 0)
		release(fuzz_byte(input) % world.file_count);
}

static void step_fsync(struct fuzz_input *input)
{
	struct fuse_fsync_in in = { 0 };
	size_t file;

	if (world.file_count == 0)
		return;
	file = fuzz_byte(input) % world.file_count;
	in.fh = world.files[file].fh;
	send_request(
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
		send_request(FUSE_GETATTR, world.nodes[node].id, &get, sizeof(get), NULL, 0);
	else
		send_request(FUSE_SETATTR, world.nodes[node].id, &set, sizeof(set), NULL, 0);
}

static void step_readlink(struct fuzz_input *input)
{
	bool found;
	size_t node = pick_node(input, S_IFLNK, &found);

	if (found)
		send_request(FUSE_READLINK, world.nodes[node].id, NULL, 0, NULL, 0);
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
		send_request(FUSE_POLL, world.files[file].node, &in, sizeof(in), NULL, 0);
}

static void forget(size_t node)
{
	const struct fuse_forget_in in = { .nlookup = world.nodes[node].lookups };

	send_request(FUSE_FORGET, world.nodes[node].id, &in, sizeof(in), NULL, 0);
	world.nodes[node] = world.nodes[--world.node_count];
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
		forget(node);
}

static void (*const steps[])(struct fuzz_input *input) = { step_lookup, step_lookup, step_lookup, step_mkdir,
	step_mkdir, step_remove, step_rename, step_symlink, step_create, step_open, step_open, step_opendir, step_read,
	step_read, step_write, step_write, step_release, step_fsync, step_attr, step_readlink, step_poll, step_forget };

/* ---- a life ---- */

static void begin(void)
{
	static const struct fuse_custom_io io = { .writev = on_answer, .read = no_read };
	const struct fuse_init_in init = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION };
	const struct engine_options options = { .create = true, .root_owner = { 0, 0, 0777 } };
	char *argv[] = { (char[]){ "mqfs" }, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct fuse_lowlevel_ops ops = { 0 };

	memset(&world, 0, sizeof(world));
	world.fs = (struct fs){ .nodes = node_table_new(),
		.handles = handle_table_new(),
		.errors = calloc(1, sizeof(struct ring)),
		.events = events_new(),
		.spool = spool_new("memory:"),
		.quota = quota_new((const uint64_t[QUOTA_KINDS]){ 8, 4, 4096, 4 }, 0),
		.source = "memory:",
		.mountpoint = "/fuzz",
		.owner = { 0, 0, 0777 },
		.threads = 1,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.settled = PTHREAD_COND_INITIALIZER };
	FUZZ_ASSERT(ring_init(world.fs.errors, 16) == 0);
	FUZZ_ASSERT(engine_open("memory:", &options, &world.fs.engine) == 0);
	ops_dir_fill(&ops);
	ops_list_fill(&ops);
	ops_file_fill(&ops);
	ops_rest_fill(&ops);
	world.session = fuse_session_new(&args, &ops, sizeof(ops), &world.fs);
	fuse_opt_free_args(&args);
	FUZZ_ASSERT(world.session != NULL);
	FUZZ_ASSERT(fuse_session_custom_io(world.session, &io, open("/dev/null", O_RDWR | O_CLOEXEC)) == 0);
	world.fs.session = world.session;
	send_request(FUSE_INIT, 0, &init, sizeof(init), NULL, 0);
	FUZZ_ASSERT(answered());
	world.nodes[0].id = FUSE_ROOT_ID;
	world.nodes[0].mode = S_IFDIR;
	world.node_count = 1;
}

static void end(void)
{
	while (world.file_count > 0)
		release(world.file_count - 1);
	while (world.node_count > 1)
		forget(world.node_count - 1);
	fs_pending_wait(&world.fs);
	handle_release_all(world.fs.handles);
	FUZZ_ASSERT(world.wanted == 0);
	world.fs.engine->ops->close(world.fs.engine);
	fuse_session_destroy(world.session);
	ring_release(world.fs.errors);
	free(world.fs.errors);
	events_free(world.fs.events);
	spool_free(world.fs.spool);
	handle_table_free(world.fs.handles);
	node_table_free(world.fs.nodes);
	quota_free(world.fs.quota);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = { data, size };

	begin();
	for (unsigned i = 0; i < STEPS_MAX && input.size > 0; i++)
		steps[fuzz_byte(&input) % (sizeof(steps) / sizeof(*steps))](&input);
	end();
	return 0;
}
