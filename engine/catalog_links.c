/*
 * catalog_links - what the catalog says of its objects by other rows than their own: for fsck.mqfs, which compares.
 *
 * All of an object's rows are written in one transaction, and go in one. So where they do not fit each other, that is damage.
 */
#include <errno.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/catalog_internal.h"

/* false: the row is not as its table says. */
static bool parse_link(const struct catalog_row *row, bool is_name, struct catalog_link *ret_link)
{
	size_t len = row->key.len > 0 ? row->key.len - 1 : 0;

	if (row->key.len < 1 || (uint8_t)row->key.ptr[0] >= ENGINE_KIND_COUNT)
		return false;
	*ret_link = (struct catalog_link){
		.parent_id = row->id, .kind = (enum engine_kind)(uint8_t)row->key.ptr[0], .is_name = is_name
	};
	if (!is_name) {
		if (len != 8 || row->value.len != 0)
			return false;
		ret_link->id = catalog_key_get_be64(row->key.ptr + 1);
		return true;
	}
	if (len > ENGINE_NAME_MAX || row->value.len != 8)
		return false;
	memcpy(ret_link->name, row->key.ptr + 1, len);
	ret_link->id = bytes_get64((const uint8_t *)row->value.ptr);
	return true;
}

static int each_of(struct catalog *catalog, enum catalog_table table,
    int (*each)(void *ctx, const struct catalog_link *link), void *ctx)
{
	struct catalog_rows rows = { 0 };
	struct catalog_link link;
	struct catalog_key key;
	struct catalog_row row;
	size_t pos = 0;
	int err;

	catalog_key_init(&key, table, 0);
	key.len = 1; /* of every id */
	err = catalog_snapshot(catalog, &key, &rows);
	while (!err && catalog_next_row(&rows, &pos, &row)) {
		if (parse_link(&row, table == CATALOG_NAME, &link))
			err = each(ctx, &link);
		else
			catalog_report_damage(catalog, 1, (uint8_t)table, row.id);
	}
	catalog_rows_release(&rows);
	return err;
}

int catalog_each_link(struct catalog *catalog, int (*each)(void *ctx, const struct catalog_link *link), void *ctx)
{
	int err = each_of(catalog, CATALOG_NAME, each, ctx);

	return err ? err : each_of(catalog, CATALOG_CHILD, each, ctx);
}

/* ---- whose rows there are ---- */

struct find_owner {
	enum catalog_table table;
	uint64_t from, found;
};

/* The lowest id from `from` on that has rows in the table. ENODATA */
static int find_owner(struct catalog_txn *txn, void *arg)
{
	struct find_owner *find = arg;
	struct catalog_key at;
	MDB_val key, data;
	MDB_cursor *cursor;
	int rc;

	catalog_key_init(&at, find->table, find->from);
	key = (MDB_val){ at.len, at.bytes };
	rc = mdb_cursor_open(txn->mdb, txn->dbi, &cursor);
	if (rc)
		return catalog_errno(rc);
	rc = catalog_errno(mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE));
	if (!rc && (key.mv_size < at.len || *(const uint8_t *)key.mv_data != (uint8_t)find->table))
		rc = -ENODATA;
	if (!rc)
		find->found = catalog_key_get_be64((const char *)key.mv_data + 1);
	mdb_cursor_close(cursor);
	return rc;
}

int catalog_each_owner(struct catalog *catalog, int (*each)(void *ctx, char table, uint64_t id), void *ctx)
{
	static const enum catalog_table tables[] = { CATALOG_OWNER, CATALOG_SETTING, CATALOG_PARTITION, CATALOG_END,
		CATALOG_CURSOR, CATALOG_QUEUE, CATALOG_BINDING, CATALOG_KEY, CATALOG_KEYED };
	int err = 0;

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]) && !err; i++) {
		struct find_owner find = { .table = tables[i], .from = 1 };

		while (!err && (err = catalog_view(catalog, find_owner, &find)) == 0) {
			err = each(ctx, (char)tables[i], find.found);
			if (!err && find.found == UINT64_MAX)
				break;
			find.from = find.found + 1;
		}
		err = err == -ENODATA ? 0 : err;
	}
	return err;
}

/* ---- the next number ---- */

static int read_next(struct catalog_txn *txn, void *arg)
{
	struct engine_span value;
	struct catalog_key key;
	int err;

	catalog_fact_key(&key, "next_id");
	err = catalog_get_row(txn, &key, &value);
	if (!err && value.len != 8)
		err = catalog_damaged_row(txn, key.bytes);
	if (!err)
		*(uint64_t *)arg = bytes_get64((const uint8_t *)value.ptr);
	return err;
}

int catalog_see_next_id(struct catalog *catalog, uint64_t *ret_next)
{
	uint64_t next;
	int err = catalog_view(catalog, read_next, &next);

	if (!err)
		*ret_next = next;
	return err;
}
