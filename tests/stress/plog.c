/*
 * plog - one partition log under writers, readers, a syncer and a trimmer at once; for ThreadSanitizer, so without Criterion.
 *
 * Writers append messages that say who wrote them and which one it is, one or some at a time, into small segments. Readers
 * follow from the start or wherever the trimmer pushed them to; what they see must be whole, dense, and in each writer's
 * order. One of them reads bytes instead of messages. Meanwhile the log is synced, trimmed, and its files are closed.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/plog.h"
#include "tests/lib/tmpdir.h"

#define WRITERS 3u
#define READERS 3u
#define MESSAGES 40000u /* of each writer */
#define SEGMENT 30000u  /* bytes: some dozens of rolls */

#define MUST(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

static struct plog *plog;
static _Atomic unsigned writing = WRITERS;

static void *writer(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg, next = 0;

	while (next < MESSAGES) {
		char data[4096];
		struct engine_batch batch = { .data = data, .ts_ms = next / 10, .cred.pid = me };
		uint64_t offset;

		for (unsigned i = 0; i <= next % 7 && next < MESSAGES; i++, next++, batch.count++)
			batch.len += (size_t)sprintf(data + batch.len, "writer %u message %u\n", me, next);
		MUST(plog_append(plog, &batch, 0, SEGMENT, &offset) == 0);
	}
	atomic_fetch_sub(&writing, 1);
	return NULL;
}

static void check(const struct engine_view *view, unsigned *next)
{
	const char *p = view->batch.data;

	for (uint32_t i = 0; i < view->batch.count; i++) {
		unsigned who, which;

		MUST(sscanf(p, "writer %u message %u", &who, &which) == 2 && who < WRITERS);
		MUST(which >= next[who] && which < MESSAGES && p[view->batch.lengths[i]] == '\n');
		next[who] = which + 1;
		p += view->batch.lengths[i] + 1;
	}
	MUST(p == view->batch.data + view->batch.len);
}

/* Follows the log to its end. Where the trimmer was faster, it goes on at the start. */
static void *reader(void *arg)
{
	uint32_t at_once = (uintptr_t)arg == 0 ? 1 : 1000;
	struct engine_scratch scratch = { 0 };
	struct engine_partition_stat stat;
	struct engine_view view;
	unsigned next[WRITERS] = { 0 };
	uint64_t offset = 0;

	for (bool last = false;;) {
		int rc = plog_read(plog, offset, at_once, &scratch, &view);

		MUST(rc == 0 || rc == -ENODATA || rc == -ESTALE);
		if (rc == 0) {
			MUST(view.offset == offset);
			check(&view, next);
			offset += view.batch.count;
		} else if (rc == -ESTALE) {
			plog_stat(plog, &stat);
			offset = stat.earliest;
		} else if (last) {
			break;
		} else {
			last = atomic_load(&writing) == 0;
		}
	}
	MUST(offset == (uint64_t)WRITERS * MESSAGES);
	engine_scratch_release(&scratch);
	return NULL;
}

/* Reads bytes: wherever a line begins there is a whole line, unless it is cut by the end of the buffer. */
static void *byte_reader(void *arg)
{
	struct engine_partition_stat stat;
	char buf[5000];
	uint64_t pos = 0;

	(void)arg;
	for (;;) {
		bool last = atomic_load(&writing) == 0;
		ssize_t n = plog_pread(plog, pos, buf, sizeof(buf));

		if (n == 0 && last)
			return NULL;
		if (n == -ESTALE) {
			plog_stat(plog, &stat);
			pos = stat.start_pos;
			continue;
		}
		MUST(n >= 0);
		for (char *p = buf, *end; (end = memchr(p, '\n', (size_t)(buf + n - p))); p = end + 1) {
			MUST(!strncmp(p, "writer ", 7));
			pos += (uint64_t)(end + 1 - p);
		}
	}
}

static void *upkeep(void *arg)
{
	struct engine_partition_stat stat;
	int64_t next_ms;

	(void)arg;
	for (unsigned round = 0; atomic_load(&writing) > 0; round++) {
		MUST(plog_sync(plog) == 0);
		plog_stat(plog, &stat);
		MUST(stat.earliest <= stat.synced && stat.synced <= stat.end && stat.start_pos <= stat.end_pos);
		if (round % 4 == 1)
			MUST(plog_trim(plog, stat.earliest + (stat.end - stat.earliest) / 3) == 0);
		if (round % 4 == 2)
			MUST(plog_retain(plog, -1, 4 * SEGMENT, 0, UINT64_MAX, &next_ms) == 0);
		if (round % 4 == 3)
			plog_release_files(plog);
	}
	return NULL;
}

int main(void)
{
	struct plog_options options = { .id = 1 };
	struct engine_partition_stat stat;
	struct tmpdir dir;
	pthread_t threads[WRITERS + READERS + 2];
	unsigned count = 0;

	tmpdir_make(&dir);
	options.logs_dirfd = dir.fd;
	MUST(plog_create(&options) == 0 && plog_open(&options, &plog) == 0);
	for (unsigned i = 0; i < READERS; i++)
		MUST(!pthread_create(&threads[count++], NULL, reader, (void *)(uintptr_t)i));
	MUST(!pthread_create(&threads[count++], NULL, byte_reader, NULL));
	MUST(!pthread_create(&threads[count++], NULL, upkeep, NULL));
	for (unsigned i = 0; i < WRITERS; i++)
		MUST(!pthread_create(&threads[count++], NULL, writer, (void *)(uintptr_t)i));
	for (unsigned i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	MUST(plog_close(plog) == 0 && plog_open(&options, &plog) == 0);
	plog_stat(plog, &stat);
	MUST(stat.end == (uint64_t)WRITERS * MESSAGES && stat.earliest > 0);
	MUST(plog_close(plog) == 0);
	tmpdir_remove(&dir);
	return 0;
}
