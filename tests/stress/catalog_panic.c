/*
 * Threads in a catalog whose disk fails in the last write of a commit, now and then: who reads sees nothing of it, and just the
 * changes that said so are there. To be run under TSan.
 *
 * LMDB's own pwrite() is the one here, as this program's symbols come before those of the libraries.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/catalog.h"
#include "tests/lib/tmpdir.h"
#include "tests/stress/must.h"

#define METAS_END 8192
#define THREADS 4u
#define EACH 200u
#define FAILURES 20u
#define FIRST 1000u /* id of the first object of the first thread; the others' follow at this distance */

struct worker {
	pthread_t thread;
	struct catalog *catalog;
	uint64_t first;
	bool made[EACH];
};

static atomic_bool bad_meta; /* the next write of one fails */
static atomic_uint running;

ssize_t pwrite_of_lmdb(int fd, const void *buf, size_t size, off_t pos) __asm__("pwrite");
ssize_t pwrite_of_lmdb(int fd, const void *buf, size_t size, off_t pos)
{
	if (pos < METAS_END && atomic_exchange(&bad_meta, false)) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_pwrite64, fd, buf, size, pos);
}

static int look(void *ctx, const struct catalog_object *object)
{
	*(uint64_t *)ctx = object->id;
	return 0;
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (unsigned i = 0; i < EACH; i++) {
		struct catalog_object object = {
			.id = w->first + i, .parent_id = ENGINE_ROOT_ID, .kind = ENGINE_TOPIC
		};
		uint64_t last = 0;
		int rc;

		snprintf(object.name, sizeof(object.name), "topic%u", (unsigned)object.id);
		rc = catalog_put_object(w->catalog, &object);
		MUST(rc == 0 || rc == -EIO);
		w->made[i] = rc == 0;
		MUST(catalog_each_object(w->catalog, look, &last) == 0 && last >= ENGINE_ROOT_ID);
	}
	atomic_fetch_sub(&running, 1);
	return NULL;
}

static int tick_off(void *ctx, const struct catalog_object *object)
{
	struct worker *workers = ctx;

	if (object->id >= FIRST) {
		bool *made = &workers[object->id / FIRST - 1].made[object->id % FIRST];

		MUST(*made); /* else it failed, and is there */
		*made = false;
	}
	return 0;
}

int main(void)
{
	const struct engine_owner owner = { .uid = 1 };
	static struct worker workers[THREADS];
	struct catalog *catalog;
	struct tmpdir dir;
	unsigned failures = 0;

	tmpdir_make(&dir);
	MUST(catalog_create(dir.fd, &owner) == 0);
	MUST(catalog_open(dir.fd, false, &catalog) == 0);
	atomic_store(&running, THREADS);
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i].catalog = catalog;
		workers[i].first = FIRST * (i + 1);
		MUST(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
	}
	for (; failures < FAILURES && atomic_load(&running) > 0; failures++) {
		atomic_store(&bad_meta, true);
		while (atomic_load(&bad_meta) && atomic_load(&running) > 0)
			sched_yield();
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	atomic_store(&bad_meta, false);
	MUST(failures > 1 && !catalog_has_failed(catalog));
	catalog_close(catalog);
	MUST(catalog_open(dir.fd, false, &catalog) == 0);
	MUST(catalog_each_object(catalog, tick_off, workers) == 0);
	for (unsigned i = 0; i < THREADS; i++)
		for (unsigned k = 0; k < EACH; k++)
			MUST(!workers[i].made[k]); /* else it was made, and is not there */
	catalog_close(catalog);
	tmpdir_remove(&dir);
	return 0;
}
