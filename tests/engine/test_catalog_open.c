/*
 * Tests of engine/catalog: it is made once, and opened if it is whole; numbers, growth, kill -9, full disks.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/catalog.h"
#include "engine/catalog_internal.h"
#include "engine/io.h"
#include "tests/lib/catalogbox.h"

#define TOPIC 10u
#define GROUP 11u

TestSuite(catalog_open, .init = catalogbox_init, .fini = catalogbox_fini, .timeout = 60);

/* ------------------------------------------------------------------------------------------------ making */

/* A new catalog has the root and nothing else, and is made once. */
Test(catalog_open, begins_with_the_root)
{
	struct catalog *catalog = NULL;

	cr_assert_eq(catalog_open(catalogbox_dir.fd, false, &catalog), -ENOENT);
	cr_assert_null(catalog);
	catalog = catalogbox_make();
	cr_assert_eq(catalog_create(catalogbox_dir.fd, &catalogbox_owner), -EEXIST);
	EXPECT_OBJECTS(catalog, "1<0:0: ");
	catalog_close(catalog);
	catalog_close(NULL);
	cr_assert_neq(faccessat(catalogbox_dir.fd, "catalog.new", F_OK, 0), 0);
	cr_assert_neq(faccessat(catalogbox_dir.fd, "catalog.new-lock", F_OK, 0), 0);
}

/* A power cut comes after an answer, and what the answer said must be on the disk: LMDB is to sync each commit, and its meta page. */
Test(catalog_open, syncs_what_it_commits)
{
	struct catalog *catalog = catalogbox_make();
	unsigned flags = 0;

	cr_assert_eq(mdb_env_get_flags(catalog->env, &flags), 0);
	cr_assert_eq(flags & (MDB_NOSYNC | MDB_NOMETASYNC | MDB_MAPASYNC | MDB_WRITEMAP), 0);
	catalog_close(catalog);
}

/* What a crash left of a catalog that was being made is in nobody's way. */
Test(catalog_open, is_made_over_what_a_crash_left)
{
	int fd = openat(catalogbox_dir.fd, "catalog.new", O_WRONLY | O_CREAT, 0600);

	cr_assert_eq(write(fd, "half", 4), 4);
	close(fd);
	catalog_close(catalogbox_make());
}

static int see_root(void *ctx, const struct catalog_object *object)
{
	*(struct catalog_object *)ctx = *object;
	return 0;
}

/* The root has the owner it was given. */
Test(catalog_open, keeps_the_owner_of_the_root)
{
	struct catalog *catalog = catalogbox_make();
	struct catalog_object root = { 0 };

	cr_assert_eq(catalog_each_object(catalog, see_root, &root), 0);
	cr_assert_eq(memcmp(&root.owner, &catalogbox_owner, sizeof(catalogbox_owner)), 0);
	cr_assert_eq(memcmp(&root.birth, &catalogbox_owner, sizeof(catalogbox_owner)), 0);
	cr_assert_gt(root.ctime_ms, 0);
	catalog_close(catalog);
}

/* Files that are no catalog of ours are refused with a sentence, and stay as they are. */
Test(catalog_open, refuses_what_is_no_catalog)
{
	static const struct {
		off_t keep;      /* bytes of a good catalog */
		const char *put; /* written over its beginning */
		const char *word;
	} rows[] = {
		{ 0, NULL, "empty" },
		{ 100, NULL, "damaged" },
		{ 4096, NULL, "damaged" },
		{ 8192, NULL, "cut short" },
		{ 1 << 30, "nothing that LMDB would know, and long enough to be over its magic number", "damaged" },
	};
	struct catalog *catalog = catalogbox_make();
	static char good[1 << 16];
	ssize_t size;
	int fd;

	catalogbox_put(catalog, TOPIC, 1, ENGINE_TOPIC, "t");
	catalog_close(catalog);
	fd = openat(catalogbox_dir.fd, "catalog", O_RDONLY);
	size = read(fd, good, sizeof(good));
	close(fd);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		fd = openat(catalogbox_dir.fd, "catalog", O_RDWR | O_TRUNC);
		cr_assert_eq(write(fd, good, (size_t)size), size);
		if (rows[i].keep < size)
			cr_assert_eq(ftruncate(fd, rows[i].keep), 0);
		if (rows[i].put != NULL)
			cr_assert_gt(pwrite(fd, rows[i].put, strlen(rows[i].put), 0), 0);
		if (rows[i].put != NULL) /* the other meta page, too */
			cr_assert_gt(pwrite(fd, rows[i].put, strlen(rows[i].put), 4096), 0);
		close(fd);
		catalog = NULL;
		cr_assert_eq(
		    catalog_open(catalogbox_dir.fd, false, &catalog), -EUCLEAN, "row %zu: %s", i, engine_reason());
		cr_assert_null(catalog);
		cr_assert_not_null(strstr(engine_reason(), rows[i].word), "row %zu: %s", i, engine_reason());
	}
}

static int put_many(struct catalog_txn *txn, void *arg)
{
	static const char value[200];
	int rc = 0;

	(void)arg;
	for (uint32_t i = 0; i < 1000 && rc == 0; i++) {
		struct catalog_key key;

		catalog_key_init(&key, CATALOG_SETTING, 7);
		catalog_key_add_be32(&key, i);
		rc = catalog_put_row(txn, &key, value, sizeof(value));
	}
	return rc;
}

static int remove_many(struct catalog_txn *txn, void *arg)
{
	struct catalog_key key;

	(void)arg;
	catalog_key_init(&key, CATALOG_SETTING, 7);
	return catalog_del_rows(txn, &key);
}

/* LMDB may leave free pages at the end unwritten: a file that lacks just free ones is whole, one that lacks more is cut short. */
Test(catalog_open, short_but_whole)
{
	struct catalog *catalog = catalogbox_make();
	unsigned whole = 0;
	struct stat st;
	int rc = 0, fd;

	cr_assert_eq(catalog_change(catalog, CATALOG_GROWS, put_many, NULL), 0);
	cr_assert_eq(catalog_change(catalog, CATALOG_GROWS, remove_many, NULL), 0);
	for (int i = 0; i < 8; i++) /* what was freed is free for good now, and what is in use lies in front */
		cr_assert_eq(
		    catalogbox_put(catalog, TOPIC + (uint64_t)i, 1, ENGINE_TOPIC, (char[]){ (char)('a' + i), '\0' }),
		    0);
	catalog_close(catalog);
	fd = openat(catalogbox_dir.fd, "catalog", O_RDWR);
	while (rc == 0) {
		cr_assert_eq(fstat(fd, &st), 0);
		cr_assert_eq(ftruncate(fd, st.st_size - 4096), 0);
		rc = catalog_open(catalogbox_dir.fd, true, &catalog);
		if (rc < 0)
			break;
		EXPECT_OBJECTS(
		    catalog, "1<0:0: 10<1:1:a 11<1:1:b 12<1:1:c 13<1:1:d 14<1:1:e 15<1:1:f 16<1:1:g 17<1:1:h ");
		catalog_close(catalog);
		whole++;
	}
	close(fd);
	cr_assert_eq(rc, -EUCLEAN);
	cr_assert_gt(whole, 0);
}

static int put_newer_format(struct catalog_txn *txn, void *arg)
{
	struct catalog_key key;

	(void)arg;
	catalog_key_init(&key, CATALOG_FACT, 0);
	catalog_key_add_text(&key, "format", 6);
	return catalog_put_row(txn, &key, "\2\0\0\0", 4);
}

/* A catalog of a newer format is refused. */
Test(catalog_open, refuses_a_newer_format)
{
	struct catalog *catalog = catalogbox_make();

	cr_assert_eq(catalog_change(catalog, CATALOG_GROWS, put_newer_format, NULL), 0);
	catalog_close(catalog);
	cr_assert_eq(catalog_open(catalogbox_dir.fd, false, &catalog), -EUCLEAN);
	cr_assert_not_null(strstr(engine_reason(), "format 2"), "%s", engine_reason());
}

/* Read-only, everything can be read, nothing changed, and no file is made. */
Test(catalog_open, changes_nothing_read_only)
{
	struct engine_owner owner = { 0 };
	struct catalog *catalog = catalogbox_make();
	uint64_t id;

	cr_assert_eq(catalogbox_put(catalog, TOPIC, 1, ENGINE_TOPIC, "t"), 0);
	catalog_close(catalog);
	unlinkat(catalogbox_dir.fd, "catalog-lock", 0);
	cr_assert_eq(catalog_open(catalogbox_dir.fd, true, &catalog), 0);
	EXPECT_OBJECTS(catalog, "1<0:0: 10<1:1:t ");
	cr_assert_eq(catalog_next_id(catalog, &id), -EROFS);
	cr_assert_eq(catalogbox_put(catalog, 20, 1, ENGINE_TOPIC, "u"), -EROFS);
	cr_assert_eq(catalog_remove(catalog, TOPIC), -EROFS);
	cr_assert_eq(catalog_set_owner(catalog, TOPIC, &owner, 1), -EROFS);
	catalog_close(catalog);
	cr_assert_neq(faccessat(catalogbox_dir.fd, "catalog-lock", F_OK, 0), 0);
}

/* No number is given twice, whether or not anything was made with it, and however the process ended. */
Test(catalog_open, gives_each_id_once)
{
	struct catalog *catalog;
	uint64_t last = ENGINE_ROOT_ID, id;
	int pipes[2];

	catalog_close(catalogbox_make());
	cr_assert_eq(pipe(pipes), 0);
	for (int round = 0; round < 4; round++) {
		pid_t pid = fork();

		if (pid == 0) {
			catalog = catalogbox_open();
			for (int i = 0; i < 50 + round * 50; i++) {
				if (catalog_next_id(catalog, &id) || write(pipes[1], &id, sizeof(id)) != sizeof(id))
					_exit(1);
			}
			raise(SIGKILL);
		}
		waitpid(pid, NULL, 0);
		for (int i = 0; i < 50 + round * 50; i++) {
			cr_assert_eq(read(pipes[0], &id, sizeof(id)), sizeof(id));
			cr_assert_gt(id, last);
			last = id;
		}
	}
}

/* ------------------------------------------------------------------------------------ growth, kills, damage */

/* A map that is full grows, with rows of all transactions in it, while another thread reads. */
static _Atomic bool stop_reading;

static void *read_on(void *arg)
{
	struct engine_owner owner;

	while (!stop_reading) {
		if (catalog_get_node_owner(arg, TOPIC, "in", &owner) != 0 || owner.uid != 4)
			return (void *)1;
	}
	return NULL;
}

static int count_settings(void *ctx, const char *name, const char *value)
{
	(void)name;
	*(size_t *)ctx += strlen(value);
	return 0;
}

Test(catalog_open, grows_beyond_its_first_map)
{
	static char value[CATALOG_VALUE_MAX + 1], names[2000][16];
	static struct catalog_setting settings[2000];
	struct engine_owner owner = { .uid = 4 };
	struct catalog *catalog = catalogbox_make();
	pthread_t thread;
	struct stat st;
	void *result;

	memset(value, 'v', sizeof(value) - 1);
	cr_assert_eq(catalogbox_put(catalog, TOPIC, 1, ENGINE_TOPIC, "t"), 0);
	cr_assert_eq(catalog_set_node_owner(catalog, TOPIC, "in", &owner), 0);
	pthread_create(&thread, NULL, read_on, catalog);
	for (size_t batch = 0; batch < 35; batch++) {
		char name[32];

		snprintf(name, sizeof(name), "o%zu", batch);
		cr_assert_eq(catalogbox_put(catalog, 100 + batch, 1, ENGINE_TOPIC, name), 0);
		for (size_t i = 0; i < 2000; i++) {
			snprintf(names[i], sizeof(names[i]), "s%zu", i);
			settings[i] = (struct catalog_setting){ names[i], value };
		}
		cr_assert_eq(catalog_put_settings(catalog, 100 + batch, ENGINE_TOPIC, settings, 2000), 0);
	}
	stop_reading = true;
	pthread_join(thread, &result);
	cr_assert_null(result);
	cr_assert_eq(fstatat(catalogbox_dir.fd, "catalog", &st, 0), 0);
	cr_assert_gt(st.st_size, 70 << 20);
	catalog = catalogbox_reopen(catalog);
	for (size_t batch = 0; batch < 35; batch++) {
		size_t bytes = 0;

		cr_assert_eq(catalog_each_setting(catalog, 100 + batch, ENGINE_TOPIC, count_settings, &bytes), 0);
		cr_assert_eq(bytes, 2000 * CATALOG_VALUE_MAX);
		cr_assert_eq(catalog_remove(catalog, 100 + batch), 0);
	}
	EXPECT_OBJECTS(catalog, "1<0:0: 10<1:1:t ");
	catalog_close(catalog);
}

/* What a change had answered 0 for is there after kill -9, and the one in flight is there or not, whole. */
Test(catalog_open, survives_kill_9)
{
	struct catalog *catalog = catalogbox_make();
	uint64_t told = 0, value;
	struct seen seen = { 0 };
	char last[64] = "";
	int pipes[2];
	pid_t pid;

	catalog_close(catalog);
	cr_assert_eq(pipe(pipes), 0);
	pid = fork();
	if (pid == 0) {
		catalog = catalogbox_open();
		for (value = 100;; value++) {
			char name[32];

			snprintf(name, sizeof(name), "t%" PRIu64, value);
			if (catalogbox_put(catalog, value, 1, ENGINE_TOPIC, name) ||
			    write(pipes[1], &value, sizeof(value)) != sizeof(value))
				_exit(1);
		}
	}
	close(pipes[1]);
	for (int i = 0; i < 50; i++)
		cr_assert_eq(read(pipes[0], &told, sizeof(told)), sizeof(told));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	while (read(pipes[0], &value, sizeof(value)) == sizeof(value))
		told = value;
	catalog = catalogbox_open();
	cr_assert_eq(catalog_each_object(catalog, catalogbox_see_object, &seen), 0);
	cr_assert(seen.count == told - 99 + 1 || seen.count == told - 99 + 2);
	snprintf(last, sizeof(last), "t%" PRIu64, told);
	cr_assert_eq(catalogbox_put(catalog, 5000, 1, ENGINE_TOPIC, last), -EEXIST);
	cr_assert_eq(catalogbox_put(catalog, 5000, 1, ENGINE_TOPIC, "new"), 0);
	catalog_close(catalog);
}

/* -------------------------------------------------------------------------------------------- a full disk */

static struct io_ops faulty;

static int fallocate_full(int fd, int mode, off_t pos, off_t size)
{
	(void)fd, (void)mode, (void)pos, (void)size;
	return -ENOSPC;
}

/* When the reserve cannot be had, what makes the catalog grow is refused; removals and checkpoints are not. */
Test(catalog_open, keeps_a_reserve_for_removals)
{
	struct catalog_cursor cursor = { .group_id = GROUP, .committed = 3 };
	struct catalog_setting setting = { "a", "1" };
	struct catalog *catalog = catalogbox_make();
	struct engine_owner owner = { 0 };

	catalogbox_fill_topic(catalog, TOPIC, GROUP, "t");
	catalog = catalogbox_reopen(catalog); /* does not know any more what is allocated */
	faulty = io_posix;
	faulty.fallocate = fallocate_full;
	io = &faulty;
	cr_assert_eq(catalogbox_put(catalog, 30, 1, ENGINE_TOPIC, "u"), -ENOSPC);
	cr_assert_eq(catalog_put_settings(catalog, TOPIC, ENGINE_TOPIC, &setting, 1), -ENOSPC);
	cr_assert_eq(catalog_set_node_owner(catalog, TOPIC, "x", &owner), -ENOSPC);
	cr_assert_eq(catalog_put_cursors(catalog, &cursor, 1), 0);
	cr_assert_eq(catalog_drop_node_owner(catalog, TOPIC, "in"), 0);
	cr_assert_eq(catalog_remove(catalog, TOPIC), 0);
	EXPECT_OBJECTS(catalog, "1<0:0: ");
	io = &io_posix;
	cr_assert_eq(catalogbox_put(catalog, 30, 1, ENGINE_TOPIC, "u"), 0);
	catalog_close(catalog);
}

static int fallocate_unknown(int fd, int mode, off_t pos, off_t size)
{
	(void)fd, (void)mode, (void)pos, (void)size;
	return -EOPNOTSUPP;
}

/* Without room for the first page of LMDB's lock file it does not open; with that, or on a file system that cannot tell, it does. */
Test(catalog_open, wants_room_for_its_lock)
{
	static const char page[4096] = { 1 };
	struct catalog *catalog = catalogbox_make();

	catalog_close(catalog);
	cr_assert_eq(unlinkat(catalogbox_dir.fd, "catalog-lock", 0), 0);
	faulty = io_posix;
	faulty.fallocate = fallocate_full;
	io = &faulty;
	cr_assert_eq(catalog_open(catalogbox_dir.fd, false, &catalog), -ENOSPC);
	tmpdir_put(catalogbox_dir.fd, "catalog-lock", page, sizeof(page));
	catalog = catalogbox_open();
	catalog_close(catalog);
	cr_assert_eq(unlinkat(catalogbox_dir.fd, "catalog-lock", 0), 0);
	faulty.fallocate = fallocate_unknown;
	catalog = catalogbox_open();
	io = &io_posix;
	EXPECT_OBJECTS(catalog, "1<0:0: ");
	catalog_close(catalog);
}

/* On a disk that is full to the last byte, a topic is still removed, after which there is room again. */
Test(catalog_open, removes_on_a_full_disk)
{
	char place[PATH_MAX + 8], value[CATALOG_VALUE_MAX + 1], text[16];
	struct catalog_cursor cursor = { .group_id = GROUP, .committed = 3 };
	struct catalog *catalog;
	int fd, err = 0;
	unsigned n = 0;

	snprintf(place, sizeof(place), "%s/full", catalogbox_dir.path);
	mkdir(place, 0700);
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", place, "tmpfs", 0, "size=8m"))
		cr_skip_test("SKIP: a small file system cannot be mounted here: %s", strerror(errno));
	fd = open(place, O_RDONLY | O_DIRECTORY);
	cr_assert_eq(catalog_create(fd, &catalogbox_owner), 0);
	cr_assert_eq(catalog_open(fd, false, &catalog), 0);
	catalogbox_fill_topic(catalog, TOPIC, GROUP, "t");
	memset(value, 'v', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	while (!err && n < 100000) {
		struct catalog_setting setting = { text, value };

		snprintf(text, sizeof(text), "s%u", n++);
		err = catalog_put_settings(catalog, TOPIC, ENGINE_TOPIC, &setting, 1);
	}
	cr_assert_eq(err, -ENOSPC);
	cr_assert_gt(n, 1000);
	for (err = openat(fd, "rest", O_WRONLY | O_CREAT, 0600); write(err, value, sizeof(value)) > 0;)
		;
	close(err);
	cr_assert_eq(catalogbox_put(catalog, 30, 1, ENGINE_TOPIC, "u"), -ENOSPC);
	cr_assert_eq(catalog_put_cursors(catalog, &cursor, 1), 0);
	cr_assert_eq(catalog_remove(catalog, TOPIC), 0);
	catalog_close(catalog);
	cr_assert_eq(catalog_open(fd, false, &catalog), 0);
	EXPECT_OBJECTS(catalog, "1<0:0: ");
	unlinkat(fd, "rest", 0);
	cr_assert_eq(catalogbox_put(catalog, 30, 1, ENGINE_TOPIC, "u"), 0);
	catalog_close(catalog);
	close(fd);
	umount2(place, MNT_DETACH);
}
