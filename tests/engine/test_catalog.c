/*
 * Tests of engine/catalog: rows come back as they went in, changes are whole or absent, damage is contained.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "engine/catalog.h"
#include "engine/catalog_internal.h"
#include "engine/io.h"
#include "tests/lib/catalogbox.h"

#define TOPIC 10u
#define GROUP 11u

static int see_setting(void *ctx, const char *name, const char *value)
{
	return catalogbox_note(ctx, "%s=%s ", name, value);
}

static int see_partition(void *ctx, uint32_t partition, uint64_t log_id)
{
	return catalogbox_note(ctx, "%u:%" PRIu64 " ", partition, log_id);
}

static int see_cursor(void *ctx, const struct catalog_cursor *cursor)
{
	return catalogbox_note(ctx, "%" PRIu64 "/%u:%" PRIu64 ",%" PRIu64 ",%" PRIu64 " ", cursor->group_id,
	    cursor->partition, cursor->committed, cursor->given, cursor->lost);
}

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

TestSuite(catalog, .init = catalogbox_init, .fini = catalogbox_fini, .timeout = 60);

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
	struct catalog *catalog = catalogbox_make();

	memset(name, 'n', sizeof(name) - 1);
	name[0] = '/';
	name[ENGINE_NAME_MAX] = '\0';
	cr_assert_eq(catalogbox_put(catalog, TOPIC, 1, ENGINE_TOPIC, name), 0);
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
		catalog = catalogbox_reopen(catalog);
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
	struct catalog *catalog = catalogbox_make();

	cr_assert_eq(catalogbox_put(catalog, TOPIC, 1, ENGINE_TOPIC, "t"), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_expect_eq(catalogbox_put(catalog, rows[i].id, rows[i].parent_id, rows[i].kind, rows[i].name),
		    rows[i].err, "row %zu", i);
	EXPECT_OBJECTS(catalog, "1<0:0: 10<1:1:t 20<1:2:t 21<10:1:t 22<1:1:t  ");
	catalog_close(catalog);
}

/* Objects come in the order of their ids, as numbers, and a walk ends when it is told to. */
Test(catalog, lists_by_id)
{
	struct catalog *catalog = catalogbox_make();
	struct seen seen = { .stop_at = 2 };

	cr_assert_eq(catalogbox_put(catalog, 0x10000, 1, ENGINE_TOPIC, "a"), 0);
	cr_assert_eq(catalogbox_put(catalog, 0xff, 1, ENGINE_TOPIC, "b"), 0);
	cr_assert_eq(catalogbox_put(catalog, 0x100, 1, ENGINE_TOPIC, "c"), 0);
	EXPECT_OBJECTS(catalog, "1<0:0: 255<1:1:b 256<1:1:c 65536<1:1:a ");
	cr_assert_eq(catalog_each_object(catalog, catalogbox_see_object, &seen), 42);
	cr_assert_str_eq(seen.text, "1<0:0: 255<1:1:b ");
	catalog_close(catalog);
}

/* A new name frees the old one, may be the object's own, and not another's. */
Test(catalog, renames)
{
	struct catalog *catalog = catalogbox_make();
	char longest[ENGINE_NAME_MAX + 2];

	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	cr_assert_eq(catalogbox_put(catalog, TOPIC, 1, ENGINE_TOPIC, "a"), 0);
	cr_assert_eq(catalogbox_put(catalog, 20, 1, ENGINE_TOPIC, "b"), 0);
	cr_assert_eq(catalog_rename(catalog, TOPIC, "b", 1), -EEXIST);
	cr_assert_eq(catalog_rename(catalog, TOPIC, "a", 1), 0);
	cr_assert_eq(catalog_rename(catalog, 99, "c", 1), -ENOENT);
	cr_assert_eq(catalog_rename(catalog, TOPIC, "", 1), -EINVAL);
	cr_assert_eq(catalog_rename(catalog, ENGINE_ROOT_ID, "r", 1), -EINVAL);
	cr_assert_eq(catalog_rename(catalog, TOPIC, longest, 1), -ENAMETOOLONG);
	cr_assert_eq(catalog_rename(catalog, TOPIC, longest + 1, 1), 0);
	cr_assert_eq(catalog_rename(catalog, TOPIC, "c", 1), 0);
	cr_assert_eq(catalog_rename(catalog, 20, "a", 1), 0);
	catalog = catalogbox_reopen(catalog);
	EXPECT_OBJECTS(catalog, "1<0:0: 10<1:1:c 20<1:1:a ");
	cr_assert_eq(catalogbox_put(catalog, 21, 1, ENGINE_TOPIC, "b"), 0);
	catalog_close(catalog);
}

/* Owner and times of an object change by set_owner and rename. */
Test(catalog, changes_owners)
{
	struct engine_owner owner = { .uid = 7, .gid = 8, .mode = 01777 };
	struct catalog *catalog = catalogbox_make();
	struct catalog_object object = { 0 };

	cr_assert_eq(catalogbox_put(catalog, TOPIC, 1, ENGINE_TOPIC, "t"), 0);
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
	struct catalog *catalog = catalogbox_make();

	memset(node, 'k', sizeof(node) - 1);
	node[sizeof(node) - 1] = '\0';
	cr_assert_eq(catalogbox_put(catalog, TOPIC, 1, ENGINE_TOPIC, "t"), 0);
	cr_assert_eq(catalog_get_node_owner(catalog, TOPIC, "in", &owner), -ENODATA);
	cr_assert_eq(owner.uid, 9);
	cr_assert_eq(catalog_set_node_owner(catalog, TOPIC, "in", &first), 0);
	cr_assert_eq(catalog_set_node_owner(catalog, TOPIC, "0/in", &second), 0);
	cr_assert_eq(catalog_set_node_owner(catalog, TOPIC, node, &first), -ENAMETOOLONG);
	cr_assert_eq(catalog_set_node_owner(catalog, TOPIC, node + 1, &second), 0);
	cr_assert_eq(catalog_set_node_owner(catalog, TOPIC, "", &first), -EINVAL);
	cr_assert_eq(catalog_set_node_owner(catalog, 99, "in", &first), -ENOENT);
	catalog = catalogbox_reopen(catalog);
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

/* Removing a topic removes all that was its own and its groups', and nothing else. */
Test(catalog, removes_objects_with_all_they_have)
{
	struct catalog *catalog = catalogbox_make();
	size_t before, with_other;

	before = count_rows(catalog);
	catalogbox_fill_topic(catalog, 20, 21, "other");
	with_other = count_rows(catalog);
	catalogbox_fill_topic(catalog, TOPIC, GROUP, "t");
	cr_assert_eq(catalog_remove(catalog, TOPIC), 0);
	cr_assert_eq(count_rows(catalog), with_other);
	cr_assert_eq(catalog_remove(catalog, TOPIC), -ENOENT);
	cr_assert_eq(catalog_remove(catalog, GROUP), -ENOENT);
	cr_assert_eq(catalog_remove(catalog, ENGINE_ROOT_ID), -EPERM);
	EXPECT_OBJECTS(catalog, "1<0:0: 20<1:1:other 21<20:2:g ");
	EXPECT_PARTITIONS(catalog, TOPIC, "");
	EXPECT_CURSORS(catalog, GROUP, "");
	EXPECT_PARTITIONS(catalog, 20, "0:1000 1:1001 2:1002 3:1003 4:1004 ");
	cr_assert_eq(catalogbox_put(catalog, 30, 1, ENGINE_TOPIC, "t"), 0); /* the name is free */
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
	struct catalog *catalog = catalogbox_make();

	cr_assert_eq(catalogbox_put(catalog, TOPIC, 1, ENGINE_TOPIC, "t"), 0);
	cr_assert_eq(catalog_put_settings(catalog, TOPIC, ENGINE_TOPIC, two, 2), 0);
	cr_assert_eq(catalog_put_settings(catalog, 0, ENGINE_TOPIC, defaults, 1), 0);
	EXPECT_SETTINGS(catalog, TOPIC, ENGINE_GROUP, "a= b=2 "); /* the kind of an object is not looked at */
	cr_assert_eq(catalog_put_settings(catalog, TOPIC, ENGINE_TOPIC, change, 2), 0);
	cr_assert_eq(catalog_put_settings(catalog, TOPIC, ENGINE_TOPIC, none, 1), 0);
	catalog = catalogbox_reopen(catalog);
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
	struct catalog *catalog = catalogbox_make();

	memset(long_name, 'n', sizeof(long_name) - 1);
	memset(long_value, 'v', sizeof(long_value) - 1);
	cr_assert_eq(catalogbox_put(catalog, TOPIC, 1, ENGINE_TOPIC, "t"), 0);
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
	struct catalog *catalog = catalogbox_make();

	cr_assert_eq(catalogbox_put(catalog, TOPIC, 1, ENGINE_TOPIC, "t"), 0);
	cr_assert_eq(catalog_add_partition(catalog, TOPIC, 1, 5), -EINVAL);
	cr_assert_eq(catalog_add_partition(catalog, TOPIC, 0, 77), 0);
	cr_assert_eq(catalog_add_partition(catalog, TOPIC, 0, 5), -EEXIST);
	cr_assert_eq(catalog_add_partition(catalog, TOPIC, 1, UINT64_MAX), 0);
	cr_assert_eq(catalog_add_partition(catalog, TOPIC, 3, 5), -EINVAL);
	cr_assert_eq(catalog_add_partition(catalog, 99, 0, 5), -ENOENT);
	catalog = catalogbox_reopen(catalog);
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
	struct catalog *catalog = catalogbox_make();

	cr_assert_eq(catalogbox_put(catalog, TOPIC, 1, ENGINE_TOPIC, "t"), 0);
	cr_assert_eq(catalogbox_put(catalog, GROUP, TOPIC, ENGINE_GROUP, "g"), 0);
	cr_assert_eq(catalog_put_cursors(catalog, cursors, 4), 0);
	cr_assert_eq(catalog_put_cursors(catalog, NULL, 0), 0);
	catalog = catalogbox_reopen(catalog);
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
	struct catalog *catalog = catalogbox_make();

	cr_assert_eq(catalog_put_object(catalog, &object), 0);
	cr_assert_eq(catalog_add_partition(catalog, TOPIC, 0, 0x4c), 0);
	cr_assert_eq(catalog_add_partition(catalog, TOPIC, 1, 0x4d), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_assert_eq(catalog_view(catalog, compare_row, (void *)(uintptr_t)&rows[i]), 0);
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
	catalogbox_note(seen, "%s;", text);
}

/* A damaged row, or one that is too short, is reported and left out, or EIO if it is asked for; the others are not hurt. */
Test(catalog, contains_damage)
{
	static const enum catalog_table tables[] = { CATALOG_PARTITION, CATALOG_CURSOR };
	struct catalog *catalog = catalogbox_make();
	struct engine_owner owner = { 0 };
	struct seen heard = { 0 };
	struct catalog_key key;

	catalog_set_notify(catalog, (struct engine_notify){ .fn = hear, .ctx = &heard });
	catalogbox_fill_topic(catalog, TOPIC, GROUP, "t");
	cr_assert_eq(catalogbox_put(catalog, 30, 1, ENGINE_TOPIC, "whole"), 0);
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
