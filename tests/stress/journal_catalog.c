/*
 * Threads in the journal and in the catalog at once, to be run under TSan: appends, syncs, rotations and drops; changes,
 * reads and the growth of the map. A plain program, since Criterion does not run under TSan.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/catalog.h"
#include "engine/journal.h"
#include "tests/lib/tmpdir.h"

#define THREADS 6
#define ROUNDS 20

static const uint8_t uuid[16] = { 1 };
static struct journal *journal;
static struct catalog *catalog;

static void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "failed: %s\n", what);
		exit(1);
	}
}

static void *use_journal(void *arg)
{
	struct journal_cursor cursor = { .group_id = (uintptr_t)arg };
	uint64_t pos;

	for (int i = 0; i < ROUNDS * 15; i++) {
		cursor.committed++;
		must(journal_append_cursor(journal, &cursor, &pos) == 0, "append");
		if (i % 7 == 0)
			must(journal_sync(journal) == 0 && journal_synced(journal) >= pos, "sync");
	}
	return NULL;
}

static void *take_checkpoints(void *arg)
{
	uint64_t number;

	for (int i = 0; i < ROUNDS / 4; i++) {
		must(journal_rotate(journal, &number) == 0, "rotate");
		must(journal_drop(journal, number - 1) == 0, "drop");
	}
	return arg;
}

static int count_one(void *ctx, const struct catalog_object *object)
{
	(void)object;
	++*(size_t *)ctx;
	return 0;
}

static void *use_catalog(void *arg)
{
	static char value[CATALOG_VALUE_MAX + 1];
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct catalog_object object = { .parent_id = ENGINE_ROOT_ID, .kind = ENGINE_TOPIC };
	struct engine_owner owner = { .uid = 1 }, got;
	struct catalog_setting settings[600];
	char names[600][16];

	pthread_mutex_lock(&lock);
	memset(value, 'v', sizeof(value) - 1);
	pthread_mutex_unlock(&lock);
	for (size_t i = 0; i < 600; i++) {
		snprintf(names[i], sizeof(names[i]), "s%zu", i);
		settings[i] = (struct catalog_setting){ names[i], value };
	}
	for (int i = 0; i < ROUNDS; i++) { /* 6 x 20 x 700 KiB: the map grows once */
		size_t count = 0;

		must(catalog_next_id(catalog, &object.id) == 0, "next_id");
		snprintf(object.name, sizeof(object.name), "t%d-%d", (int)(uintptr_t)arg, i);
		must(catalog_put_object(catalog, &object) == 0, "put_object");
		must(catalog_put_settings(catalog, object.id, ENGINE_TOPIC, settings, 600) == 0, "put_settings");
		must(catalog_set_node_owner(catalog, object.id, "in", &owner) == 0, "set_node_owner");
		must(catalog_get_node_owner(catalog, object.id, "in", &got) == 0 && got.uid == 1, "get_node_owner");
		must(catalog_each_object(catalog, count_one, &count) == 0 && count > 1, "each_object");
	}
	return NULL;
}

static void run(void *(*work)(void *), void *(*beside)(void *))
{
	pthread_t threads[THREADS + 1];

	for (size_t i = 0; i < THREADS; i++)
		must(pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)i) == 0, "thread");
	if (beside != NULL)
		must(pthread_create(&threads[THREADS], NULL, beside, NULL) == 0, "thread");
	for (size_t i = 0; i < (beside != NULL ? THREADS + 1 : THREADS); i++)
		pthread_join(threads[i], NULL);
}

static int ignore(void *ctx, enum journal_type type, const void *record, size_t size)
{
	(void)ctx, (void)type, (void)record, (void)size;
	return 0;
}

int main(void)
{
	struct engine_owner owner = { 0 };
	struct tmpdir dir;
	size_t count = 0;

	tmpdir_make(&dir);
	must(journal_open(dir.fd, uuid, false, 0, (struct engine_notify){ 0 }, ignore, NULL, &journal) == 0,
	    "open journal");
	run(use_journal, take_checkpoints);
	must(journal_close(journal) == 0, "close journal");

	must(catalog_create(dir.fd, &owner) == 0 && catalog_open(dir.fd, false, &catalog) == 0, "open catalog");
	run(use_catalog, NULL);
	must(catalog_each_object(catalog, count_one, &count) == 0 && count == 1 + THREADS * ROUNDS, "all objects");
	catalog_close(catalog);
	tmpdir_remove(&dir);
	return 0;
}
