/*
 * A whole store, whose files were changed in any way: fsck.mqfs -n, -y and -n again, then a mount.
 *
 * The input says whether a staging file was left (a store with one is never clean), and then is a list of edits: bytes of a file changed, or the file cut, removed, or swapped with another. The store was killed with
 * some of everything in it: catalog and copy, a journal with records, logs of topics and queues, a staging file, FORMAT. Then:
 *   - what fsck.mqfs calls clean can be mounted, is clean to -y, too, and where bytes were changed only, the topic has what it had;
 *   - after a -y that left nothing uncorrected, -n finds nothing, and it can be mounted;
 *   - each exit status is one of those that fsck.mqfs(8) has.
 */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/engine.h"
#include "engine/io.h"
#include "engine/local_internal.h"
#include "engine/stage_file.h"
#include "mount-helpers/store_tool.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/nosync.h"
#include "tests/lib/tmpdir.h"

#define FILES 64u
#define EDITS 12u
#define TEXT 4096u

struct file {
	char name[300];
	uint8_t *bytes; /* NULL: a directory, or removed */
	size_t size;
	bool dir;
};

static struct file files[FILES];
static size_t file_count;
static char text_before[TEXT];
static const struct engine_owner owner = { 0, 0, 0755 };
static FILE *null;

/* ---- the store ---- */

static void send(const struct engine_ops *ops, struct engine_object *to, bool queue, unsigned number)
{
	struct engine_producer *p = NULL;
	char data[64];
	struct engine_batch batch = { .data = data, .count = 1, .cred = { 1, 2, 3 }, .ts_ms = 5 };

	batch.len = (size_t)sprintf(data, "message %u\n", number);
	FUZZ_ASSERT((queue ? ops->queue->producer_open(to, 5, false, &p)
			   : ops->producer_open(to, 0, (struct engine_span){ NULL, 0 }, &p)) == 0);
	FUZZ_ASSERT(ops->producer_send(p, &batch, NULL) >= 0);
	ops->producer_close(p);
}

static void put_stage(const struct engine *engine, int dirfd, uint64_t topic)
{
	struct stage_header header = { .id = 900, .target = topic, .partition = UINT32_MAX, .delimiter = '\n' };
	uint8_t bytes[STAGE_DATA + 12];

	stage_header_put(bytes, ((const struct local *)engine)->store.uuid, &header);
	memcpy(bytes + STAGE_DATA, "one\ntwo\nthr", 12);
	tmpdir_put(dirfd, STAGE_DIR "/0000000000000009", bytes, sizeof(bytes));
}

/* In a process of its own, which ends as if it were killed. */
static void fill(const struct tmpdir *dir)
{
	struct engine_options options = { .create = true, .root_owner = owner };
	struct engine_object *root, *t, *t2, *g, *q, *e;
	struct engine_identity identity;
	struct engine *engine;

	FUZZ_ASSERT(engine_open(dir->path, &options, &engine) == 0);
	FUZZ_ASSERT(engine->ops->get(engine, ENGINE_ROOT_ID, &root) == 0);
	FUZZ_ASSERT(engine->ops->create(engine, root, ENGINE_TOPIC, "t", &owner, &t) == 0);
	FUZZ_ASSERT(engine->ops->create(engine, root, ENGINE_TOPIC, "staged", &owner, &t2) == 0);
	FUZZ_ASSERT(engine->ops->create(engine, t, ENGINE_GROUP, "g", &owner, &g) == 0);
	FUZZ_ASSERT(engine->ops->create(engine, root, ENGINE_QUEUE, "q", &owner, &q) == 0);
	FUZZ_ASSERT(engine->ops->create(engine, root, ENGINE_EXCHANGE, "e", &owner, &e) == 0);
	FUZZ_ASSERT(engine->ops->exchange->pattern_add(e, "a.*") == 0);
	FUZZ_ASSERT(engine->ops->exchange->bind(e, "a.*", "q", q) == 0);
	for (unsigned i = 0; i < 6; i++) {
		send(engine->ops, t, false, i);
		send(engine->ops, q, true, i);
	}
	engine->ops->put(e);
	engine->ops->put(q);
	engine->ops->put(g);
	engine->ops->put(t2);
	engine->ops->put(t);
	engine->ops->put(root);
	FUZZ_ASSERT(engine->ops->close(engine) == 0);
	FUZZ_ASSERT(engine_open(dir->path, &options, &engine) == 0);
	FUZZ_ASSERT(engine->ops->get(engine, ENGINE_ROOT_ID, &root) == 0);
	FUZZ_ASSERT(engine->ops->lookup(engine, root, ENGINE_TOPIC, "t", &t) == 0);
	FUZZ_ASSERT(engine->ops->lookup(engine, t, ENGINE_GROUP, "g", &g) == 0);
	FUZZ_ASSERT(engine->ops->lookup(engine, root, ENGINE_TOPIC, "staged", &t2) == 0);
	FUZZ_ASSERT(engine->ops->lookup(engine, root, ENGINE_QUEUE, "q", &q) == 0);
	for (unsigned i = 6; i < 9; i++) {
		send(engine->ops, t, false, i);
		send(engine->ops, q, true, i);
	}
	FUZZ_ASSERT(engine->ops->seek(g, 0, ENGINE_SEEK_OFFSET, 2) == 0);
	FUZZ_ASSERT(engine->ops->identity(t2, &identity) == 0);
	put_stage(engine, dir->fd, identity.id);
	_exit(0);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct file *)a)->name, ((const struct file *)b)->name);
}

static void keep_files(int dirfd, const char *below)
{
	DIR *dir = fdopendir(openat(dirfd, below[0] != '\0' ? below : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *entry;

	FUZZ_ASSERT(dir != NULL);
	while ((entry = readdir(dir)) != NULL) {
		struct file *file = &files[file_count];
		struct stat st;

		if (entry->d_name[0] == '.' || strcmp(entry->d_name, "reserve") == 0 ||
		    strcmp(entry->d_name, "catalog-lock") == 0 || strcmp(entry->d_name, "lock") == 0)
			continue;
		FUZZ_ASSERT(file_count < FILES);
		snprintf(file->name, sizeof(file->name), "%s%s%s", below, below[0] != '\0' ? "/" : "", entry->d_name);
		FUZZ_ASSERT(fstatat(dirfd, file->name, &st, 0) == 0);
		file->dir = S_ISDIR(st.st_mode);
		file_count++;
		if (file->dir)
			keep_files(dirfd, file->name);
		else
			file->bytes = tmpdir_get(dirfd, file->name, &file->size);
	}
	closedir(dir);
}

/* ---- what is asked of it ---- */

static int fsck(const struct tmpdir *dir, const char *how)
{
	char path[sizeof(dir->path)];
	char *argv[] = { (char[]){ "fsck.mqfs" }, (char[]){ how[0], how[1], '\0' }, path, NULL };
	FILE *out = stdout, *err = stderr;
	int status;

	memcpy(path, dir->path, sizeof(path));
	stdout = stderr = null;
	status = tool_fsck(3, argv);
	stdout = out;
	stderr = err;
	if (status & FSCK_CANCELLED) /* whoever ends the fuzzer ends it */
		_exit(0);
	FUZZ_ASSERT(status >= 0 && (status & ~(FSCK_CORRECTED | FSCK_UNCORRECTED | FSCK_FAILED)) == 0);
	return status;
}

/* What the topic has. False: it cannot be mounted. */
static bool mount_it(const struct tmpdir *dir, char text[TEXT])
{
	struct engine_options options = { 0 };
	struct engine_scratch scratch = { 0 };
	struct engine_partition_stat stat;
	struct engine_object *root, *t;
	struct engine *engine;
	size_t len = 0;

	text[0] = '\0';
	if (engine_open(dir->path, &options, &engine) < 0)
		return false;
	FUZZ_ASSERT(engine->ops->get(engine, ENGINE_ROOT_ID, &root) == 0);
	if (engine->ops->lookup(engine, root, ENGINE_TOPIC, "t", &t) == 0) {
		int rc = engine->ops->partition_stat(t, 0, &stat);

		for (uint64_t at = rc < 0 ? 0 : stat.earliest; rc == 0 && at < stat.end && len < TEXT / 2; at++) {
			struct engine_view view = { 0 };

			if (engine->ops->partition_read(t, 0, at, 1, &scratch, &view) == 0)
				len += (size_t)snprintf(text + len, TEXT - len, "%.*s",
				    view.batch.len < 100 ? (int)view.batch.len : 100, view.batch.data);
		}
		engine->ops->put(t);
	}
	engine_scratch_release(&scratch);
	engine->ops->put(root);
	(void)engine->ops->close(engine);
	return true;
}

/* ---- an input ---- */

/* Returns whether all of them change bytes only. */
static bool edit(struct fuzz_input *input, struct file *copy)
{
	bool bytes_only = true;

	for (unsigned i = 0; i < EDITS && input->size > 0; i++) {
		uint8_t op = fuzz_byte(input);
		struct file *file = &copy[fuzz_byte(input) % file_count];
		size_t pos = fuzz_byte(input) | (size_t)fuzz_byte(input) << 8, count;
		const uint8_t *bytes;

		if (file->bytes == NULL || file->size == 0)
			continue;
		pos %= file->size;
		switch (op % 6) {
		case 0:
		case 1: file->bytes[pos] ^= fuzz_byte(input); break;
		case 2:
			bytes = fuzz_bytes(input, file->size - pos, &count);
			memcpy(file->bytes + pos, bytes, count);
			break;
		case 3:
			file->size = pos;
			bytes_only = false;
			break;
		case 4:
			free(file->bytes);
			file->bytes = NULL;
			bytes_only = false;
			break;
		default: {
			struct file *other = &copy[fuzz_byte(input) % file_count];
			struct file was = *file;

			if (other->bytes == NULL)
				break;
			file->bytes = other->bytes;
			file->size = other->size;
			other->bytes = was.bytes;
			other->size = was.size;
			bytes_only = false;
		}
		}
	}
	return bytes_only;
}

static void put_all(int dirfd, const struct file *copy, bool staged)
{
	for (size_t i = 0; i < file_count; i++) {
		if (files[i].dir)
			FUZZ_ASSERT(mkdirat(dirfd, files[i].name, 0700) == 0);
		else if (copy[i].bytes != NULL && (staged || strncmp(files[i].name, STAGE_DIR "/", 8) != 0))
			tmpdir_put(dirfd, files[i].name, copy[i].bytes, copy[i].size);
	}
}

static void set_up(void)
{
	struct tmpdir dir;
	pid_t child;
	int status;

	nosync_install();
	tmpdir_in_memory();
	null = fopen("/dev/null", "w");
	tmpdir_make(&dir);
	child = fork();
	if (child == 0)
		fill(&dir);
	FUZZ_ASSERT(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	keep_files(dir.fd, "");
	qsort(files, file_count, sizeof(files[0]), by_name);
	FUZZ_ASSERT(mount_it(&dir, text_before));
	FUZZ_ASSERT(strstr(text_before, "message 8\n") != NULL);
	tmpdir_remove(&dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = { data, size };
	struct file copy[FILES];
	bool staged, bytes_only, opens;
	struct tmpdir dir;
	char text[TEXT];
	int first, repaired, second;

	if (null == NULL)
		set_up();
	for (size_t i = 0; i < file_count; i++) {
		copy[i] = files[i];
		copy[i].bytes = files[i].dir ? NULL : malloc(files[i].size + 1);
		if (copy[i].bytes != NULL && files[i].size > 0)
			memcpy(copy[i].bytes, files[i].bytes, files[i].size);
	}
	staged = fuzz_byte(&input) & 1;
	bytes_only = edit(&input, copy);
	tmpdir_make(&dir);
	put_all(dir.fd, copy, staged);
	first = fsck(&dir, "-n");
	repaired = fsck(&dir, "-y");
	second = fsck(&dir, "-n");
	opens = mount_it(&dir, text);
	FUZZ_ASSERT((first & FSCK_CORRECTED) == 0);
	FUZZ_ASSERT(first != FSCK_OK || (repaired == FSCK_OK && opens));
	FUZZ_ASSERT((repaired & ~FSCK_CORRECTED) != 0 || (second == FSCK_OK && opens));
	FUZZ_ASSERT(first != FSCK_OK || !bytes_only || strcmp(text, text_before) == 0);
	tmpdir_remove(&dir);
	for (size_t i = 0; i < file_count; i++)
		free(copy[i].bytes);
	return 0;
}
