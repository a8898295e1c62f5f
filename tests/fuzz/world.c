#include "tests/fuzz/world.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"
#include "fs/errors.h"
#include "fs/events.h"
#include "fs/handle.h"
#include "fs/node.h"
#include "fs/ops.h"
#include "fs/patience.h"
#include "fs/quota.h"
#include "fs/spool.h"
#include "tests/fuzz/fuzz.h"

struct world world;

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
	if (header.unique == 0) {
		world.told++;
		return (ssize_t)total;
	}
	FUZZ_ASSERT(header.error != -ENOSYS && header.error <= 0 && header.error > -1000);
	FUZZ_ASSERT(world.wanted > 0);
	world.wanted--;
	if (world.refuses) {
		world.refuses = false;
		errno = ENOENT;
		return -1;
	}
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

void world_send(uint32_t opcode, uint64_t node, const void *head, size_t head_len, const void *tail, size_t tail_len)
{
	static uint8_t request[REQUEST_MAX];
	struct fuse_in_header header = { .len = (uint32_t)(sizeof(header) + head_len + tail_len),
		.opcode = opcode,
		.unique = world.unique += 2,
		.nodeid = node,
		.uid = world.of_root ? 0 : (uint32_t)(world.unique >> 4 & 1) * 1000,
		.pid = world.pid ? world.pid : (uint32_t)getpid() };
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

bool world_answered(void)
{
	return world.answer.came && world.answer.error == 0;
}

uint64_t world_walk(const char *path, bool all,
    void (*ask)(uint32_t opcode, uint64_t node, const void *head, size_t head_len, const void *tail, size_t tail_len),
    char ret_name[256])
{
	uint64_t node = FUSE_ROOT_ID;

	while (*path != '\0' && node != 0) {
		size_t len = strcspn(path, "/");

		snprintf(ret_name, 256, "%.*s", (int)len, path);
		path += len + (path[len] == '/');
		if (*path == '\0' && !all)
			return node;
		ask(FUSE_LOOKUP, node, ret_name, len + 1, NULL, 0);
		world_keep_entry();
		if (!world_answered())
			return 0;
		memcpy(&node, world.answer.body, sizeof(node));
	}
	return node;
}

/* The entry of an answer becomes a node that can be used. */
void world_keep_entry(void)
{
	struct fuse_entry_out entry;

	if (!world_answered() || world.answer.size < sizeof(entry))
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

void world_keep_file(uint64_t node, uint32_t flags, bool dir, size_t skip)
{
	struct fuse_open_out open;

	if (!world_answered() || world.answer.size < skip + sizeof(open))
		return;
	memcpy(&open, world.answer.body + skip, sizeof(open));
	FUZZ_ASSERT(world.file_count < FILES_MAX);
	world.files[world.file_count].fh = open.fh;
	world.files[world.file_count].node = node;
	world.files[world.file_count].flags = flags;
	world.files[world.file_count++].dir = dir;
}

void world_release(size_t file)
{
	const struct fuse_flush_in flush = { .fh = world.files[file].fh };
	const struct fuse_release_in in = { .fh = world.files[file].fh, .flags = world.files[file].flags };

	if (!world.files[file].dir)
		world_send(FUSE_FLUSH, world.files[file].node, &flush, sizeof(flush), NULL, 0);
	world_send(
	    world.files[file].dir ? FUSE_RELEASEDIR : FUSE_RELEASE, world.files[file].node, &in, sizeof(in), NULL, 0);
	world.files[file] = world.files[--world.file_count];
}

void world_forget(size_t node)
{
	const struct fuse_forget_in in = { .nlookup = world.nodes[node].lookups };

	world_send(FUSE_FORGET, world.nodes[node].id, &in, sizeof(in), NULL, 0);
	world.nodes[node] = world.nodes[--world.node_count];
}

/* ---- a life ---- */

void world_begin(void)
{
	world_begin_at("memory:");
}

void world_begin_at(const char *source)
{
	static const struct fuse_custom_io custom = { .writev = on_answer, .read = no_read };
	const struct fuse_init_in init = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION };
	const struct engine_options options = { .create = true, .root_owner = { 0, 0, 0777 } };
	char *argv[] = { (char[]){ "mqfs" }, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct fuse_lowlevel_ops ops = { 0 };

	memset(&world, 0, sizeof(world));
	world.fs = (struct fs){ .nodes = node_table_new(),
		.handles = handle_table_new(),
		.errors = calloc(1, sizeof(struct errors)),
		.events = events_new(),
		.spool = spool_new(source),
		.patience = patience_new(),
		.quota = quota_new((const uint64_t[QUOTA_KINDS]){ 8, 4, 4096, 4 }, 0),
		.source = source,
		.mountpoint = "/fuzz",
		.owner = { 0, 0, 0777 },
		.threads = 1,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.settled = PTHREAD_COND_INITIALIZER };
	errors_init(world.fs.errors);
	FUZZ_ASSERT(engine_open(source, &options, &world.fs.engine) == 0);
	ops_dir_fill(&ops);
	ops_list_fill(&ops);
	ops_file_fill(&ops);
	ops_rest_fill(&ops);
	world.session = fuse_session_new(&args, &ops, sizeof(ops), &world.fs);
	fuse_opt_free_args(&args);
	FUZZ_ASSERT(world.session != NULL);
	FUZZ_ASSERT(fuse_session_custom_io(world.session, &custom, open("/dev/null", O_RDWR | O_CLOEXEC)) == 0);
	world.fs.session = world.session;
	world_send(FUSE_INIT, 0, &init, sizeof(init), NULL, 0);
	FUZZ_ASSERT(world_answered());
	world.nodes[0].id = FUSE_ROOT_ID;
	world.nodes[0].mode = S_IFDIR;
	world.node_count = 1;
}

void world_end(void)
{
	while (world.file_count > 0)
		world_release(world.file_count - 1);
	while (world.node_count > 1)
		world_forget(world.node_count - 1);
	fs_pending_wait(&world.fs);
	handle_release_all(world.fs.handles);
	FUZZ_ASSERT(world.wanted == 0);
	world.fs.engine->ops->close(world.fs.engine);
	fuse_session_destroy(world.session);
	errors_release(world.fs.errors);
	free(world.fs.errors);
	events_free(world.fs.events);
	spool_free(world.fs.spool);
	handle_table_free(world.fs.handles);
	node_table_free(world.fs.nodes);
	patience_free(world.fs.patience);
	quota_free(world.fs.quota);
}
