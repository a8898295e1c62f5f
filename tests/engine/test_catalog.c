/*
 * Tests of engine/catalog: rows come back as they went in, changes are whole or absent, damage is contained.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
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
#include "tests/lib/tmpdir.h"

#define TOPIC 10u
#define GROUP 11u

static const struct engine_owner root_owner = { .uid = 1, .gid = 2, .mode = 0751 };
static struct tmpdir dir;

static struct catalog *open_catalog(void)
{
	struct catalog *catalog;

	cr_assert_eq(catalog_open(dir.fd, false, &catalog), 0, "%s", engine_reason());
	return catalog;
}

static struct catalog *make_catalog(void)
{
	cr_assert_eq(catalog_create(dir.fd, &root_owner), 0);
	return open_catalog();
}

static struct catalog *reopen(struct catalog *catalog)
{
	catalog_close(catalog);
	return open_catalog();
}

static int put(struct catalog *catalog, uint64_t id, uint64_t parent_id, enum engine_kind kind, const char *name)
{
	struct catalog_object object = { .id = id, .parent_id = parent_id, .kind = kind };

	object.owner = (struct engine_owner){ .uid = 100, .gid = 200, .mode = 0640 };
	object.birth = (struct engine_owner){ .uid = 300, .gid = 400, .mode = 0600 };
	object.ctime_ms = -5;
	object.mtime_ms = 1732300000000;
	snprintf(object.name, sizeof(object.name), "%s", name);
	return catalog_put_object(catalog, &object);
}

/* What the catalog_each_* gave, as one line of text, so that a comparison shows what is different. */
struct seen {
	char text[4096];
	size_t len, count, stop_at;
};

static int note(struct seen *seen, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int note(struct seen *seen, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (seen->len < sizeof(seen->text))
		seen->len += (size_t)vsnprintf(seen->text + seen->len, sizeof(seen->text) - seen->len, format, args);
	va_end(args);
	return ++seen->count == seen->stop_at ? 42 : 0;
}

static int see_object(void *ctx, const struct catalog_object *object)
{
	return note(
	    ctx, "%" PRIu64 "<%" PRIu64 ":%d:%s ", object->id, object->parent_id, (int)object->kind, object->name);
}

static int see_setting(void *ctx, const char *name, const char *value)
{
	return note(ctx, "%s=%s ", name, value);
}

static int see_partition(void *ctx, uint32_t partition, uint64_t log_id)
{
	return note(ctx, "%u:%" PRIu64 " ", partition, log_id);
}

static int see_cursor(void *ctx, const struct catalog_cursor *cursor)
{
	return note(ctx, "%" PRIu64 "/%u:%" PRIu64 ",%" PRIu64 ",%" PRIu64 " ", cursor->group_id, cursor->partition,
	    cursor->committed, cursor->given, cursor->lost);
}

/* call refers to a struct seen that is called got */
#define EXPECT_SEEN(call, expected)                                                                                    \
	do {                                                                                                           \
		struct seen got = { 0 };                                                                               \
		cr_assert_eq(call, 0);                                                                                 \
		cr_assert_str_eq(got.text, expected);                                                                  \
	} while (0)
#define EXPECT_OBJECTS(catalog, expected) EXPECT_SEEN(catalog_each_object(catalog, see_object, &got), expected)
#define EXPECT_SETTINGS(catalog, id, kind, expected)                                                                   \
	EXPECT_SEEN(catalog_each_setting(catalog, id, kind, see_setting, &got), expected)
#define EXPECT_PARTITIONS(catalog, id, expected)                                                                       \
	EXPECT_SEEN(catalog_each_partition(catalog, id, see_partition, &got), expected)
#define EXPECT_CURSORS(catalog, id, expected) EXPECT_SEEN(catalog_each_cursor(catalog, id, see_cursor, &got), expected)

/* All rows of all tables. */
static size_t count_rows(struct catalog *catalog)
{
	size_t count = 0;

	for (const char *table = "fonwcspu"; *table != '\0'; table++) {
		struct catalog_rows rows = { 0 };
		struct catalog_key key;
		struct catalog_row row;
		size_t pos = 0;

		catalog_key_init(&key, (enum catalog_table) * table, 0);
		key.len = 1;
		cr_assert_eq(catalog_snapshot(catalog, &key, &rows), 0);
		while (catalog_next_row(&rows, &pos, &row))
			count++;
		catalog_rows_release(&rows);
	}
	return count;
}

static void init(void)
{
	tmpdir_make(&dir);
}

static void fini(void)
{
	io = &io_posix;
	tmpdir_remove(&dir);
}

TestSuite(catalog, .init = init, .fini = fini, .timeout = 60);

/* ------------------------------------------------------------------------------------------------ making */

/* A new catalog has the root and nothing else, and is made once. */
Test(catalog, begins_with_the_root)
{
	struct catalog *catalog = NULL;

	cr_assert_eq(catalog_open(dir.fd, false, &catalog), -ENOENT);
	cr_assert_null(catalog);
	catalog = make_catalog();
	cr_assert_eq(catalog_create(dir.fd, &root_owner), -EEXIST);
	EXPECT_OBJECTS(catalog, "1<0:0: ");
	catalog_close(catalog);
	catalog_close(NULL);
	cr_assert_neq(faccessat(dir.fd, "catalog.new", F_OK, 0), 0);
	cr_assert_neq(faccessat(dir.fd, "catalog.new-lock", F_OK, 0), 0);
}

/* A power cut comes after an answer, and what the answer said must be on the disk: LMDB is to sync each commit, and its meta page. */
Test(catalog, syncs_what_it_commits)
{
	struct catalog *catalog = make_catalog();
	unsigned flags = 0;

	cr_assert_eq(mdb_env_get_flags(catalog->env, &flags), 0);
	cr_assert_eq(flags & (MDB_NOSYNC | MDB_NOMETASYNC | MDB_MAPASYNC | MDB_WRITEMAP), 0);
	catalog_close(catalog);
}

/* What a crash left of a catalog that was being made is in nobody's way. */
Test(catalog, is_made_over_what_a_crash_left)
{
	int fd = openat(dir.fd, "catalog.new", O_WRONLY | O_CREAT, 0600);

	cr_assert_eq(write(fd, "half", 4), 4);
	close(fd);
	catalog_close(make_catalog());
}

static int see_root(void *ctx, const struct catalog_object *object)
{
	*(struct catalog_object *)ctx = *object;
	return 0;
}

/* The root has the owner it was given. */
Test(catalog, keeps_the_owner_of_the_root)
{
	struct catalog *catalog = make_catalog();
	struct catalog_object root = { 0 };

	cr_assert_eq(catalog_each_object(catalog, see_root, &root), 0);
	cr_assert_eq(memcmp(&root.owner, &root_owner, sizeof(root_owner)), 0);
	cr_assert_eq(memcmp(&root.birth, &root_owner, sizeof(root_owner)), 0);
	cr_assert_gt(root.ctime_ms, 0);
	catalog_close(catalog);
}

/* Files that are no catalog of ours are refused with a sentence, and stay as they are. */
Test(catalog, refuses_what_is_no_catalog)
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
	struct catalog *catalog = make_catalog();
	static char good[1 << 16];
	ssize_t size;
	int fd;

	put(catalog, TOPIC, 1, ENGINE_TOPIC, "t");
	catalog_close(catalog);
	fd = openat(dir.fd, "catalog", O_RDONLY);
	size = read(fd, good, sizeof(good));
	close(fd);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		fd = openat(dir.fd, "catalog", O_RDWR | O_TRUNC);
		cr_assert_eq(write(fd, good, (size_t)size), size);
		if (rows[i].keep < size)
			cr_assert_eq(ftruncate(fd, rows[i].keep), 0);
		if (rows[i].put != NULL)
			cr_assert_gt(pwrite(fd, rows[i].put, strlen(rows[i].put), 0), 0);
		if (rows[i].put != NULL) /* the other meta page, too */
			cr_assert_gt(pwrite(fd, rows[i].put, strlen(rows[i].put), 4096), 0);
		close(fd);
		catalog = NULL;
		cr_assert_eq(catalog_open(dir.fd, false, &catalog), -EUCLEAN, "row %zu: %s", i, engine_reason());
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
Test(catalog, short_but_whole)
{
	struct catalog *catalog = make_catalog();
	unsigned whole = 0;
	struct stat st;
	int rc = 0, fd;

	cr_assert_eq(catalog_change(catalog, CATALOG_GROWS, put_many, NULL), 0);
	cr_assert_eq(catalog_change(catalog, CATALOG_GROWS, remove_many, NULL), 0);
	for (int i = 0; i < 8; i++) /* what was freed is free for good now, and what is in use lies in front */
		cr_assert_eq(put(catalog, TOPIC + (uint64_t)i, 1, ENGINE_TOPIC, (char[]){ (char)('a' + i), '\0' }), 0);
	catalog_close(catalog);
	fd = openat(dir.fd, "catalog", O_RDWR);
	while (rc == 0) {
		cr_assert_eq(fstat(fd, &st), 0);
		cr_assert_eq(ftruncate(fd, st.st_size - 4096), 0);
		rc = catalog_open(dir.fd, true, &catalog);
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
Test(catalog, refuses_a_newer_format)
{
	struct catalog *catalog = make_catalog();

	cr_assert_eq(catalog_change(catalog, CATALOG_GROWS, put_newer_format, NULL), 0);
	catalog_close(catalog);
	cr_assert_eq(catalog_open(dir.fd, false, &catalog), -EUCLEAN);
	cr_assert_not_null(strstr(engine_reason(), "format 2"), "%s", engine_reason());
}

/* Read-only, everything can be read, nothing changed, and no file is made. */
Test(catalog, changes_nothing_read_only)
{
	struct engine_owner owner = { 0 };
	struct catalog *catalog = make_catalog();
	uint64_t id;

	cr_assert_eq(put(catalog, TOPIC, 1, ENGINE_TOPIC, "t"), 0);
	catalog_close(catalog);
	unlinkat(dir.fd, "catalog-lock", 0);
	cr_assert_eq(catalog_open(dir.fd, true, &catalog), 0);
	EXPECT_OBJECTS(catalog, "1<0:0: 10<1:1:t ");
	cr_assert_eq(catalog_next_id(catalog, &id), -EROFS);
	cr_assert_eq(put(catalog, 20, 1, ENGINE_TOPIC, "u"), -EROFS);
	cr_assert_eq(catalog_remove(catalog, TOPIC), -EROFS);
	cr_assert_eq(catalog_set_owner(catalog, TOPIC, &owner, 1), -EROFS);
	catalog_close(catalog);
	cr_assert_neq(faccessat(dir.fd, "catalog-lock", F_OK, 0), 0);
}

/* ----------------------------------------------------------------------------------------------- objects */

static int see_whole(void *ctx, const struct catalog_object *object)
{
	if (object->id == TOPIC)
		*(struct catalog_object *)ctx = *object;
	return 0;
}

/* An object comes back with all its fields, before and after reopening. */
Test(catalog, keeps_objects)
{
	char name[ENGINE_NAME_MAX + 1];
	struct catalog *catalog = make_catalog();

	memset(name, 'n', sizeof(name) - 1);
	name[0] = '/';
	name[ENGINE_NAME_MAX] = '\0';
	cr_assert_eq(put(catalog, TOPIC, 1, ENGINE_TOPIC, name), 0);
	for (int i = 0; i < 2; i++) {
		struct catalog_object object = { 0 };

		cr_assert_eq(catalog_each_object(catalog, see_whole, &object), 0);
		cr_assert_eq(object.id, TOPIC);
		cr_assert_eq(object.parent_id, 1);
		cr_assert_eq(object.kind, ENGINE_TOPIC);
		cr_assert_eq(object.ctime_ms, -5);
		cr_assert_eq(object.mtime_ms, 1732300000000);
		cr_assert_eq(object.owner.uid, 100);
		cr_assert_eq(object.owner.gid, 200);
		cr_assert_eq(object.owner.mode, 0640);
		cr_assert_eq(object.birth.uid, 300);
		cr_assert_eq(object.birth.gid, 400);
		cr_assert_eq(object.birth.mode, 0600);
		cr_assert_str_eq(object.name, name);
		catalog = reopen(catalog);
	}
	catalog_close(catalog);
}

/* Names are unique by parent and kind, ids in the store, and parents exist. */
Test(catalog, refuses_objects_that_cannot_be)
{
	static const struct {
		uint64_t id, parent_id;
		enum engine_kind kind;
		const char *name;
		int err;
	} rows[] = {
		{ TOPIC, 1, ENGINE_TOPIC, "other", -EEXIST }, { 20, 1, ENGINE_TOPIC, "t", -EEXIST },
		{ 20, 99, ENGINE_TOPIC, "t", -ENOENT }, { 20, 0, ENGINE_TOPIC, "t", -ENOENT },
		{ 20, 1, ENGINE_TOPIC, "", -EINVAL }, { 0, 1, ENGINE_TOPIC, "u", -EINVAL },
		{ 20, 1, ENGINE_KIND_COUNT, "u", -EINVAL }, { 20, 1, ENGINE_GROUP, "t", 0 }, /* another kind */
		{ 21, TOPIC, ENGINE_TOPIC, "t", 0 },                                         /* another parent */
		{ 22, 1, ENGINE_TOPIC, "t ", 0 }, /* a name that only begins the same */
	};
	struct catalog *catalog = make_catalog();

	cr_assert_eq(put(catalog, TOPIC, 1, ENGINE_TOPIC, "t"), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_expect_eq(
		    put(catalog, rows[i].id, rows[i].parent_id, rows[i].kind, rows[i].name), rows[i].err, "row %zu", i);
	EXPECT_OBJECTS(catalog, "1<0:0: 10<1:1:t 20<1:2:t 21<10:1:t 22<1:1:t  ");
	catalog_close(catalog);
}

/* Objects come in the order of their ids, as numbers, and a walk ends when it is told to. */
Test(catalog, lists_by_id)
{
	struct catalog *catalog = make_catalog();
	struct seen seen = { .stop_at = 2 };

	cr_assert_eq(put(catalog, 0x10000, 1, ENGINE_TOPIC, "a"), 0);
	cr_assert_eq(put(catalog, 0xff, 1, ENGINE_TOPIC, "b"), 0);
	cr_assert_eq(put(catalog, 0x100, 1, ENGINE_TOPIC, "c"), 0);
	EXPECT_OBJECTS(catalog, "1<0:0: 255<1:1:b 256<1:1:c 65536<1:1:a ");
	cr_assert_eq(catalog_each_object(catalog, see_object, &seen), 42);
	cr_assert_str_eq(seen.text, "1<0:0: 255<1:1:b ");
	catalog_close(catalog);
}

/* A new name frees the old one, may be the object's own, and not another's. */
Test(catalog, renames)
{
	struct catalog *catalog = make_catalog();
	char longest[ENGINE_NAME_MAX + 2];

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	cr_assert_eq(put(catalog, TOPIC, 1, ENGINE_TOPIC, "a"), 0);
	cr_assert_eq(put(catalog, 20, 1, ENGINE_TOPIC, "b"), 0);
	cr_assert_eq(catalog_rename(catalog, TOPIC, "b", 1), -EEXIST);
	cr_assert_eq(catalog_rename(catalog, TOPIC, "a", 1), 0);
	cr_assert_eq(catalog_rename(catalog, 99, "c", 1), -ENOENT);
	cr_assert_eq(catalog_rename(catalog, TOPIC, "", 1), -EINVAL);
	cr_assert_eq(catalog_rename(catalog, ENGINE_ROOT_ID, "r", 1), -EINVAL);
	cr_assert_eq(catalog_rename(catalog, TOPIC, longest, 1), -ENAMETOOLONG);
	cr_assert_eq(catalog_rename(catalog, TOPIC, longest + 1, 1), 0);
	cr_assert_eq(catalog_rename(catalog, TOPIC, "c", 1), 0);
	cr_assert_eq(catalog_rename(catalog, 20, "a", 1), 0);
	catalog = reopen(catalog);
	EXPECT_OBJECTS(catalog, "1<0:0: 10<1:1:c 20<1:1:a ");
	cr_assert_eq(put(catalog, 21, 1, ENGINE_TOPIC, "b"), 0);
	catalog_close(catalog);
}

/* Owner and times of an object change by set_owner and rename. */
Test(catalog, changes_owners)
{
	struct engine_owner owner = { .uid = 7, .gid = 8, .mode = 01777 };
	struct catalog *catalog = make_catalog();
	struct catalog_object object = { 0 };

	cr_assert_eq(put(catalog, TOPIC, 1, ENGINE_TOPIC, "t"), 0);
	cr_assert_eq(catalog_set_owner(catalog, TOPIC, &owner, 555), 0);
	cr_assert_eq(catalog_set_owner(catalog, 99, &owner, 555), -ENOENT);
	cr_assert_eq(catalog_each_object(catalog, see_whole, &object), 0);
	cr_assert_eq(memcmp(&object.owner, &owner, sizeof(owner)), 0);
	cr_assert_eq(object.birth.uid, 300);
	cr_assert_eq(object.ctime_ms, -5);
	cr_assert_eq(object.mtime_ms, 555);
	cr_assert_eq(catalog_rename(catalog, TOPIC, "u", 666), 0);
	cr_assert_eq(catalog_each_object(catalog, see_whole, &object), 0);
	cr_assert_eq(object.mtime_ms, 666);
	catalog_close(catalog);
}

/* Owners of files are kept by object and name, and can be dropped. */
Test(catalog, keeps_owners_of_nodes)
{
	struct engine_owner first = { 1, 2, 0600 }, second = { 3, 4, 0644 }, owner = { 9, 9, 9 };
	char node[CATALOG_NODE_MAX + 2];
	struct catalog *catalog = make_catalog();

	memset(node, 'k', sizeof(node) - 1);
	node[sizeof(node) - 1] = '\0';
	cr_assert_eq(put(catalog, TOPIC, 1, ENGINE_TOPIC, "t"), 0);
	cr_assert_eq(catalog_get_node_owner(catalog, TOPIC, "in", &owner), -ENODATA);
	cr_assert_eq(owner.uid, 9);
	cr_assert_eq(catalog_set_node_owner(catalog, TOPIC, "in", &first), 0);
	cr_assert_eq(catalog_set_node_owner(catalog, TOPIC, "0/in", &second), 0);
	cr_assert_eq(catalog_set_node_owner(catalog, TOPIC, node, &first), -ENAMETOOLONG);
	cr_assert_eq(catalog_set_node_owner(catalog, TOPIC, node + 1, &second), 0);
	cr_assert_eq(catalog_set_node_owner(catalog, TOPIC, "", &first), -EINVAL);
	cr_assert_eq(catalog_set_node_owner(catalog, 99, "in", &first), -ENOENT);
	catalog = reopen(catalog);
	cr_assert_eq(catalog_get_node_owner(catalog, TOPIC, "in", &owner), 0);
	cr_assert_eq(memcmp(&owner, &first, sizeof(owner)), 0);
	cr_assert_eq(catalog_get_node_owner(catalog, TOPIC, "0/in", &owner), 0);
	cr_assert_eq(memcmp(&owner, &second, sizeof(owner)), 0);
	cr_assert_eq(catalog_drop_node_owner(catalog, TOPIC, "in"), 0);
	cr_assert_eq(catalog_drop_node_owner(catalog, TOPIC, "in"), -ENODATA);
	cr_assert_eq(catalog_get_node_owner(catalog, TOPIC, "in", &owner), -ENODATA);
	cr_assert_eq(catalog_get_node_owner(catalog, TOPIC, node + 1, &owner), 0);
	catalog_close(catalog);
}

/* Gives a topic a group and rows of every table. */
static void fill_topic(struct catalog *catalog, uint64_t topic, uint64_t group, const char *name)
{
	struct catalog_setting settings[] = { { "retention.ms", "5" }, { "linger.ms", "0" } };
	struct engine_owner owner = { 0 };

	cr_assert_eq(put(catalog, topic, 1, ENGINE_TOPIC, name), 0);
	cr_assert_eq(put(catalog, group, topic, ENGINE_GROUP, "g"), 0);
	cr_assert_eq(catalog_put_settings(catalog, topic, ENGINE_TOPIC, settings, 2), 0);
	cr_assert_eq(catalog_put_settings(catalog, group, ENGINE_GROUP, settings, 1), 0);
	cr_assert_eq(catalog_set_node_owner(catalog, topic, "in", &owner), 0);
	cr_assert_eq(catalog_set_node_owner(catalog, group, "ack", &owner), 0);
	for (uint32_t i = 0; i < 600; i++) {
		struct catalog_cursor cursor = { .group_id = group, .partition = i };

		if (i < 5)
			cr_assert_eq(catalog_add_partition(catalog, topic, i, 1000 + i), 0);
		if (i % 100 == 0) {
			struct catalog_cursor cursors[100];

			for (uint32_t k = 0; k < 100; k++, cursor.partition++)
				cursors[k] = cursor;
			cr_assert_eq(catalog_put_cursors(catalog, cursors, 100), 0);
		}
	}
}

/* Removing a topic removes all that was its own and its groups', and nothing else. */
Test(catalog, removes_objects_with_all_they_have)
{
	struct catalog *catalog = make_catalog();
	size_t before, with_other;

	before = count_rows(catalog);
	fill_topic(catalog, 20, 21, "other");
	with_other = count_rows(catalog);
	fill_topic(catalog, TOPIC, GROUP, "t");
	cr_assert_eq(catalog_remove(catalog, TOPIC), 0);
	cr_assert_eq(count_rows(catalog), with_other);
	cr_assert_eq(catalog_remove(catalog, TOPIC), -ENOENT);
	cr_assert_eq(catalog_remove(catalog, GROUP), -ENOENT);
	cr_assert_eq(catalog_remove(catalog, ENGINE_ROOT_ID), -EPERM);
	EXPECT_OBJECTS(catalog, "1<0:0: 20<1:1:other 21<20:2:g ");
	EXPECT_PARTITIONS(catalog, TOPIC, "");
	EXPECT_CURSORS(catalog, GROUP, "");
	EXPECT_PARTITIONS(catalog, 20, "0:1000 1:1001 2:1002 3:1003 4:1004 ");
	cr_assert_eq(put(catalog, 30, 1, ENGINE_TOPIC, "t"), 0); /* the name is free */
	cr_assert_eq(catalog_remove(catalog, 30), 0);
	cr_assert_eq(catalog_remove(catalog, 21), 0);
	cr_assert_eq(catalog_remove(catalog, 20), 0);
	cr_assert_eq(count_rows(catalog), before);
	catalog_close(catalog);
}

/* --------------------------------------------------------------------------------------------- its rows */

/* Settings are kept by object, defaults by kind; they are replaced and, by NULL, removed; come by name. */
Test(catalog, keeps_settings)
{
	struct catalog_setting two[] = { { "b", "2" }, { "a", "" } }, change[] = { { "b", NULL }, { "c", "3" } };
	struct catalog_setting defaults[] = { { "x", "9" } }, none[] = { { "never.set", NULL } };
	struct catalog *catalog = make_catalog();

	cr_assert_eq(put(catalog, TOPIC, 1, ENGINE_TOPIC, "t"), 0);
	cr_assert_eq(catalog_put_settings(catalog, TOPIC, ENGINE_TOPIC, two, 2), 0);
	cr_assert_eq(catalog_put_settings(catalog, 0, ENGINE_TOPIC, defaults, 1), 0);
	EXPECT_SETTINGS(catalog, TOPIC, ENGINE_GROUP, "a= b=2 "); /* the kind of an object is not looked at */
	cr_assert_eq(catalog_put_settings(catalog, TOPIC, ENGINE_TOPIC, change, 2), 0);
	cr_assert_eq(catalog_put_settings(catalog, TOPIC, ENGINE_TOPIC, none, 1), 0);
	catalog = reopen(catalog);
	EXPECT_SETTINGS(catalog, TOPIC, ENGINE_TOPIC, "a= c=3 ");
	EXPECT_SETTINGS(catalog, 0, ENGINE_TOPIC, "x=9 ");
	EXPECT_SETTINGS(catalog, 0, ENGINE_GROUP, "");
	catalog_close(catalog);
}

/* Settings that cannot be kept are refused, and none of the others with them is written. */
Test(catalog, refuses_settings_as_a_whole)
{
	static char long_name[ENGINE_NAME_MAX + 2], long_value[CATALOG_VALUE_MAX + 2];
	struct catalog_setting named[] = { { "a", "1" }, { long_name, "1" } },
			       valued[] = { { "a", "1" }, { "b", long_value } };
	struct catalog *catalog = make_catalog();

	memset(long_name, 'n', sizeof(long_name) - 1);
	memset(long_value, 'v', sizeof(long_value) - 1);
	cr_assert_eq(put(catalog, TOPIC, 1, ENGINE_TOPIC, "t"), 0);
	cr_assert_eq(catalog_put_settings(catalog, TOPIC, ENGINE_TOPIC, named, 2), -ENAMETOOLONG);
	cr_assert_eq(catalog_put_settings(catalog, TOPIC, ENGINE_TOPIC, valued, 2), -E2BIG);
	cr_assert_eq(catalog_put_settings(catalog, 99, ENGINE_TOPIC, named, 1), -ENOENT);
	EXPECT_SETTINGS(catalog, TOPIC, ENGINE_TOPIC, "");
	named[1].name = long_name + 1;
	valued[1].value = long_value + 1;
	cr_assert_eq(catalog_put_settings(catalog, TOPIC, ENGINE_TOPIC, named, 2), 0);
	cr_assert_eq(catalog_put_settings(catalog, TOPIC, ENGINE_TOPIC, valued, 2), 0);
	catalog_close(catalog);
}

/* Partitions are added in turn, once each, and come in turn. */
Test(catalog, keeps_partitions)
{
	struct catalog *catalog = make_catalog();

	cr_assert_eq(put(catalog, TOPIC, 1, ENGINE_TOPIC, "t"), 0);
	cr_assert_eq(catalog_add_partition(catalog, TOPIC, 1, 5), -EINVAL);
	cr_assert_eq(catalog_add_partition(catalog, TOPIC, 0, 77), 0);
	cr_assert_eq(catalog_add_partition(catalog, TOPIC, 0, 5), -EEXIST);
	cr_assert_eq(catalog_add_partition(catalog, TOPIC, 1, UINT64_MAX), 0);
	cr_assert_eq(catalog_add_partition(catalog, TOPIC, 3, 5), -EINVAL);
	cr_assert_eq(catalog_add_partition(catalog, 99, 0, 5), -ENOENT);
	catalog = reopen(catalog);
	EXPECT_PARTITIONS(catalog, TOPIC, "0:77 1:18446744073709551615 ");
	catalog_close(catalog);
}

/* Cursors are replaced by group and partition; those of a group that is gone are passed over. */
Test(catalog, keeps_cursors)
{
	struct catalog_cursor cursors[] = {
		{ .group_id = GROUP, .partition = 256, .committed = 1, .given = 2, .lost = 3 },
		{ .group_id = 99, .partition = 0, .committed = 4 },
		{ .group_id = GROUP, .partition = 2, .committed = UINT64_MAX, .given = 5, .lost = 0 },
		{ .group_id = GROUP, .partition = 256, .committed = 7, .given = 8, .lost = 9 },
	};
	struct catalog *catalog = make_catalog();

	cr_assert_eq(put(catalog, TOPIC, 1, ENGINE_TOPIC, "t"), 0);
	cr_assert_eq(put(catalog, GROUP, TOPIC, ENGINE_GROUP, "g"), 0);
	cr_assert_eq(catalog_put_cursors(catalog, cursors, 4), 0);
	cr_assert_eq(catalog_put_cursors(catalog, NULL, 0), 0);
	catalog = reopen(catalog);
	EXPECT_CURSORS(catalog, GROUP, "11/2:18446744073709551615,5,0 11/256:7,8,9 ");
	EXPECT_CURSORS(catalog, 99, "");
	catalog_close(catalog);
}

struct expected_row {
	enum catalog_table table;
	size_t key_len, len;
	uint8_t key[16], value[80];
};

static int compare_row(struct catalog_txn *txn, void *arg)
{
	const struct expected_row *row = arg;
	MDB_val key = { .mv_size = row->key_len, .mv_data = (void *)(uintptr_t)row->key }, data;

	cr_assert_eq(mdb_get(txn->mdb, txn->dbi, &key, &data), 0);
	cr_assert_eq(data.mv_size, row->len);
	for (size_t i = 0; i < row->len; i++)
		cr_expect_eq(((uint8_t *)data.mv_data)[i], row->value[i], "table %c, byte %zu", (char)row->table, i);
	return 0;
}

/* The bytes of rows are those of mqfs-format(5). */
Test(catalog, has_the_documented_bytes)
{
	static const struct expected_row rows[] = {
		{ CATALOG_PARTITION, 13, 12, { 0x70, 0, 0, 0, 0, 0, 0, 0, 0x0a, 0, 0, 0, 1 },
		    { 0x4d, 0, 0, 0, 0, 0, 0, 0, 0xba, 0xb6, 0x08, 0xd0 } },
		{ CATALOG_OBJECT, 9, 66, { 0x6f, 0, 0, 0, 0, 0, 0, 0, 0x0a },
		    { 0x01, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x4b, 0x20, 0x55, 0x93, 0x01, 0, 0, 0x01, 0x4b, 0x20, 0x55, 0x93,
			0x01, 0, 0, 0xe8, 0x03, 0, 0, 0x64, 0, 0, 0, 0xa0, 0x01, 0, 0, 0xe8, 0x03, 0, 0, 0x64, 0, 0, 0,
			0xa4, 0x01, 0, 0, 0x01, 0, 0, 0, 0, 0, 0, 0, 'o', 'r', 'd', 'e', 'r', 's', 0x35, 0x01, 0xc8,
			0x12 } },
	};
	struct catalog_object object = { .id = TOPIC,
		.parent_id = ENGINE_ROOT_ID,
		.kind = ENGINE_TOPIC,
		.owner = { 1000, 100, 0640 },
		.birth = { 1000, 100, 0644 },
		.ctime_ms = 1732300000000,
		.mtime_ms = 1732300000001,
		.name = "orders" };
	struct catalog *catalog = make_catalog();

	cr_assert_eq(catalog_put_object(catalog, &object), 0);
	cr_assert_eq(catalog_add_partition(catalog, TOPIC, 0, 0x4c), 0);
	cr_assert_eq(catalog_add_partition(catalog, TOPIC, 1, 0x4d), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_assert_eq(catalog_view(catalog, compare_row, (void *)(uintptr_t)&rows[i]), 0);
	catalog_close(catalog);
}

/* No number is given twice, whether or not anything was made with it, and however the process ended. */
Test(catalog, gives_each_id_once)
{
	struct catalog *catalog;
	uint64_t last = ENGINE_ROOT_ID, id;
	int pipes[2];

	catalog_close(make_catalog());
	cr_assert_eq(pipe(pipes), 0);
	for (int round = 0; round < 4; round++) {
		pid_t pid = fork();

		if (pid == 0) {
			catalog = open_catalog();
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

Test(catalog, grows_beyond_its_first_map)
{
	static char value[CATALOG_VALUE_MAX + 1], names[2000][16];
	static struct catalog_setting settings[2000];
	struct engine_owner owner = { .uid = 4 };
	struct catalog *catalog = make_catalog();
	pthread_t thread;
	struct stat st;
	void *result;

	memset(value, 'v', sizeof(value) - 1);
	cr_assert_eq(put(catalog, TOPIC, 1, ENGINE_TOPIC, "t"), 0);
	cr_assert_eq(catalog_set_node_owner(catalog, TOPIC, "in", &owner), 0);
	pthread_create(&thread, NULL, read_on, catalog);
	for (size_t batch = 0; batch < 35; batch++) {
		char name[32];

		snprintf(name, sizeof(name), "o%zu", batch);
		cr_assert_eq(put(catalog, 100 + batch, 1, ENGINE_TOPIC, name), 0);
		for (size_t i = 0; i < 2000; i++) {
			snprintf(names[i], sizeof(names[i]), "s%zu", i);
			settings[i] = (struct catalog_setting){ names[i], value };
		}
		cr_assert_eq(catalog_put_settings(catalog, 100 + batch, ENGINE_TOPIC, settings, 2000), 0);
	}
	stop_reading = true;
	pthread_join(thread, &result);
	cr_assert_null(result);
	cr_assert_eq(fstatat(dir.fd, "catalog", &st, 0), 0);
	cr_assert_gt(st.st_size, 70 << 20);
	catalog = reopen(catalog);
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
Test(catalog, survives_kill_9)
{
	struct catalog *catalog = make_catalog();
	uint64_t told = 0, value;
	struct seen seen = { 0 };
	char last[64] = "";
	int pipes[2];
	pid_t pid;

	catalog_close(catalog);
	cr_assert_eq(pipe(pipes), 0);
	pid = fork();
	if (pid == 0) {
		catalog = open_catalog();
		for (value = 100;; value++) {
			char name[32];

			snprintf(name, sizeof(name), "t%" PRIu64, value);
			if (put(catalog, value, 1, ENGINE_TOPIC, name) ||
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
	catalog = open_catalog();
	cr_assert_eq(catalog_each_object(catalog, see_object, &seen), 0);
	cr_assert(seen.count == told - 99 + 1 || seen.count == told - 99 + 2);
	snprintf(last, sizeof(last), "t%" PRIu64, told);
	cr_assert_eq(put(catalog, 5000, 1, ENGINE_TOPIC, last), -EEXIST);
	cr_assert_eq(put(catalog, 5000, 1, ENGINE_TOPIC, "new"), 0);
	catalog_close(catalog);
}

/* Writes a row as a disk might give it back: with a bit turned over. */
static int damage_row(struct catalog_txn *txn, void *arg)
{
	const struct catalog_key *key = arg;
	MDB_val k = { .mv_size = key->len, .mv_data = (void *)(uintptr_t)key->bytes }, data;
	uint8_t bytes[2000];
	int rc;

	rc = mdb_get(txn->mdb, txn->dbi, &k, &data);
	if (rc)
		return catalog_errno(rc);
	memcpy(bytes, data.mv_data, data.mv_size);
	bytes[0] ^= 0x10;
	data.mv_data = bytes;
	return catalog_errno(mdb_put(txn->mdb, txn->dbi, &k, &data, 0));
}

static int put_short_row(struct catalog_txn *txn, void *arg)
{
	return catalog_put_row(txn, arg, "x", 1);
}

static void hear(void *ctx, int err, const char *text)
{
	struct seen *seen = ctx;

	cr_assert_eq(err, EIO);
	note(seen, "%s;", text);
}

/* A damaged row, or one that is too short, is reported and left out, or EIO if it is asked for; the others are not hurt. */
Test(catalog, contains_damage)
{
	static const enum catalog_table tables[] = { CATALOG_PARTITION, CATALOG_CURSOR };
	struct catalog *catalog = make_catalog();
	struct engine_owner owner = { 0 };
	struct seen heard = { 0 };
	struct catalog_key key;

	catalog_set_notify(catalog, (struct engine_notify){ .fn = hear, .ctx = &heard });
	fill_topic(catalog, TOPIC, GROUP, "t");
	cr_assert_eq(put(catalog, 30, 1, ENGINE_TOPIC, "whole"), 0);
	for (size_t i = 0; i < 2; i++) {
		catalog_key_init(&key, tables[i], tables[i] == CATALOG_CURSOR ? GROUP : TOPIC);
		catalog_key_add_be32(&key, 1);
		cr_assert_eq(catalog_change(catalog, CATALOG_GROWS, i == 0 ? damage_row : put_short_row, &key), 0);
	}
	EXPECT_PARTITIONS(catalog, TOPIC, "0:1000 2:1002 3:1003 4:1004 ");
	cr_assert_str_eq(heard.text, "catalog: 1 damaged row left out, the first in table 'p' of object 10;");
	heard = (struct seen){ 0 };
	EXPECT_SEEN(catalog_each_cursor(catalog, GROUP, see_cursor, &got), got.text);
	cr_assert_str_eq(heard.text, "catalog: 1 damaged row left out, the first in table 'u' of object 11;");
	heard = (struct seen){ 0 };
	catalog_key_init(&key, CATALOG_OWNER, TOPIC);
	catalog_key_add_text(&key, "in", 2);
	cr_assert_eq(catalog_change(catalog, CATALOG_GROWS, damage_row, &key), 0);
	cr_assert_eq(catalog_get_node_owner(catalog, TOPIC, "in", &owner), -EIO);
	cr_assert_eq(heard.count, 1);
	catalog_key_init(&key, CATALOG_OBJECT, TOPIC);
	cr_assert_eq(catalog_change(catalog, CATALOG_GROWS, damage_row, &key), 0);
	EXPECT_OBJECTS(catalog, "1<0:0: 11<10:2:g 30<1:1:whole ");
	cr_assert_eq(catalog_rename(catalog, TOPIC, "x", 1), -EIO);
	cr_assert_eq(catalog_set_node_owner(catalog, TOPIC, "in", &owner), 0); /* writing heals it */
	cr_assert_eq(catalog_get_node_owner(catalog, TOPIC, "in", &owner), 0);
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
Test(catalog, keeps_a_reserve_for_removals)
{
	struct catalog_cursor cursor = { .group_id = GROUP, .committed = 3 };
	struct catalog_setting setting = { "a", "1" };
	struct catalog *catalog = make_catalog();
	struct engine_owner owner = { 0 };

	fill_topic(catalog, TOPIC, GROUP, "t");
	catalog = reopen(catalog); /* does not know any more what is allocated */
	faulty = io_posix;
	faulty.fallocate = fallocate_full;
	io = &faulty;
	cr_assert_eq(put(catalog, 30, 1, ENGINE_TOPIC, "u"), -ENOSPC);
	cr_assert_eq(catalog_put_settings(catalog, TOPIC, ENGINE_TOPIC, &setting, 1), -ENOSPC);
	cr_assert_eq(catalog_set_node_owner(catalog, TOPIC, "x", &owner), -ENOSPC);
	cr_assert_eq(catalog_put_cursors(catalog, &cursor, 1), 0);
	cr_assert_eq(catalog_drop_node_owner(catalog, TOPIC, "in"), 0);
	cr_assert_eq(catalog_remove(catalog, TOPIC), 0);
	EXPECT_OBJECTS(catalog, "1<0:0: ");
	io = &io_posix;
	cr_assert_eq(put(catalog, 30, 1, ENGINE_TOPIC, "u"), 0);
	catalog_close(catalog);
}

static int fallocate_unknown(int fd, int mode, off_t pos, off_t size)
{
	(void)fd, (void)mode, (void)pos, (void)size;
	return -EOPNOTSUPP;
}

/* Without room for the first page of LMDB's lock file it does not open; with that, or on a file system that cannot tell, it does. */
Test(catalog, wants_room_for_its_lock)
{
	static const char page[4096] = { 1 };
	struct catalog *catalog = make_catalog();

	catalog_close(catalog);
	cr_assert_eq(unlinkat(dir.fd, "catalog-lock", 0), 0);
	faulty = io_posix;
	faulty.fallocate = fallocate_full;
	io = &faulty;
	cr_assert_eq(catalog_open(dir.fd, false, &catalog), -ENOSPC);
	tmpdir_put(dir.fd, "catalog-lock", page, sizeof(page));
	catalog = open_catalog();
	catalog_close(catalog);
	cr_assert_eq(unlinkat(dir.fd, "catalog-lock", 0), 0);
	faulty.fallocate = fallocate_unknown;
	catalog = open_catalog();
	io = &io_posix;
	EXPECT_OBJECTS(catalog, "1<0:0: ");
	catalog_close(catalog);
}

/* On a disk that is full to the last byte, a topic is still removed, after which there is room again. */
Test(catalog, removes_on_a_full_disk)
{
	char place[PATH_MAX + 8], value[CATALOG_VALUE_MAX + 1], text[16];
	struct catalog_cursor cursor = { .group_id = GROUP, .committed = 3 };
	struct catalog *catalog;
	int fd, err = 0;
	unsigned n = 0;

	snprintf(place, sizeof(place), "%s/full", dir.path);
	mkdir(place, 0700);
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", place, "tmpfs", 0, "size=8m"))
		cr_skip_test("SKIP: a small file system cannot be mounted here: %s", strerror(errno));
	fd = open(place, O_RDONLY | O_DIRECTORY);
	cr_assert_eq(catalog_create(fd, &root_owner), 0);
	cr_assert_eq(catalog_open(fd, false, &catalog), 0);
	fill_topic(catalog, TOPIC, GROUP, "t");
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
	cr_assert_eq(put(catalog, 30, 1, ENGINE_TOPIC, "u"), -ENOSPC);
	cr_assert_eq(catalog_put_cursors(catalog, &cursor, 1), 0);
	cr_assert_eq(catalog_remove(catalog, TOPIC), 0);
	catalog_close(catalog);
	cr_assert_eq(catalog_open(fd, false, &catalog), 0);
	EXPECT_OBJECTS(catalog, "1<0:0: ");
	unlinkat(fd, "rest", 0);
	cr_assert_eq(put(catalog, 30, 1, ENGINE_TOPIC, "u"), 0);
	catalog_close(catalog);
	close(fd);
	umount2(place, MNT_DETACH);
}
