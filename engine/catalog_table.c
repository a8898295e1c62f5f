/*
 * catalog_table - rows of the catalog: building keys, values with their CRC, ranges of rows.
 *
 * See catalog_internal.h for the layout. Two habits keep us clear of known faults in LMDB 0.9.24: no cursor is open while
 * rows are deleted (the keys are copied out first), and the database has no duplicates. A scan copies what it finds into
 * memory of its own, so that no transaction waits for whoever looks at the rows.
 */
#include "engine/catalog_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/catalog_copy.h"
#include "engine/crc32c.h"

#define ID_AT 1u   /* of the id in a key */
#define REST_AT 9u /* of what follows it */
#define DELETE_AT_ONCE 256u

void catalog_key_init(struct catalog_key *key, enum catalog_table table, uint64_t id)
{
	key->len = 0;
	catalog_key_add_u8(key, (uint8_t)table);
	catalog_key_add_be64(key, id);
}

void catalog_key_add_u8(struct catalog_key *key, uint8_t value)
{
	assert(key->len < CATALOG_KEY_MAX);
	key->bytes[key->len++] = value;
}

void catalog_key_add_be32(struct catalog_key *key, uint32_t value)
{
	for (int shift = 24; shift >= 0; shift -= 8)
		catalog_key_add_u8(key, (uint8_t)(value >> shift));
}

void catalog_key_add_be64(struct catalog_key *key, uint64_t value)
{
	catalog_key_add_be32(key, (uint32_t)(value >> 32));
	catalog_key_add_be32(key, (uint32_t)value);
}

uint64_t catalog_key_get_be64(const char *p)
{
	uint64_t v = 0;

	for (size_t i = 0; i < 8; i++)
		v = v << 8 | (uint8_t)p[i];
	return v;
}

void catalog_key_add_text(struct catalog_key *key, const char *text, size_t len)
{
	assert(len <= CATALOG_KEY_MAX - key->len);
	memcpy(key->bytes + key->len, text, len);
	key->len += len;
}

static uint64_t id_of_key(const uint8_t *key)
{
	uint64_t id = 0;

	for (size_t i = 0; i < 8; i++)
		id = id << 8 | key[ID_AT + i];
	return id;
}

static MDB_val val_of_key(const struct catalog_key *key)
{
	return (MDB_val){ .mv_size = key->len, .mv_data = (void *)(uintptr_t)key->bytes };
}

static uint32_t row_crc(const MDB_val *key, const void *value, size_t len)
{
	return crc32c(crc32c(0, key->mv_data, key->mv_size), value, len);
}

bool catalog_row_is_whole(const MDB_val *key, const MDB_val *data)
{
	size_t len;

	if (key->mv_size < REST_AT || data->mv_size < 4)
		return false;
	len = data->mv_size - 4;
	return bytes_get32((const uint8_t *)data->mv_data + len) == row_crc(key, data->mv_data, len);
}

int catalog_damaged_row(struct catalog_txn *txn, const void *key)
{
	if (txn->damaged++ == 0) {
		txn->damaged_table = *(const uint8_t *)key;
		txn->damaged_id = id_of_key(key);
	}
	return -EIO;
}

int catalog_get_row(struct catalog_txn *txn, const struct catalog_key *key, struct engine_span *ret_value)
{
	MDB_val k = val_of_key(key), data;
	int rc = mdb_get(txn->mdb, txn->dbi, &k, &data);

	if (rc)
		return catalog_errno(rc);
	if (!catalog_row_is_whole(&k, &data))
		return catalog_damaged_row(txn, key->bytes);
	*ret_value = (struct engine_span){ .ptr = data.mv_data, .len = data.mv_size - 4 };
	return 0;
}

int catalog_has_row(struct catalog_txn *txn, const struct catalog_key *key)
{
	MDB_val k = val_of_key(key), data;
	int rc = mdb_get(txn->mdb, txn->dbi, &k, &data);

	return rc == 0 ? 1 : rc == MDB_NOTFOUND ? 0 : catalog_errno(rc);
}

int catalog_put_row(struct catalog_txn *txn, const struct catalog_key *key, const void *value, size_t len)
{
	uint8_t row[CATALOG_ROW_MAX];
	MDB_val k = val_of_key(key), data = { .mv_size = len + 4, .mv_data = row };
	int rc;

	assert(len <= CATALOG_VALUE_MAX);
	if (len > 0)
		memcpy(row, value, len);
	bytes_put32(row + len, row_crc(&k, row, len));
	rc = mdb_put(txn->mdb, txn->dbi, &k, &data, 0);
	if (rc == 0)
		catalog_batch_add(txn->batch, &k, &data);
	return catalog_errno(rc);
}

static int del_row(struct catalog_txn *txn, MDB_val *key)
{
	int rc = mdb_del(txn->mdb, txn->dbi, key, NULL);

	if (rc == 0)
		catalog_batch_add(txn->batch, key, NULL);
	return catalog_errno(rc);
}

int catalog_del_row(struct catalog_txn *txn, const struct catalog_key *key)
{
	MDB_val k = val_of_key(key);

	return del_row(txn, &k);
}

/* ------------------------------------------------------------------------------------------------- ranges */

/* Makes room for len more bytes. */
static int rows_reserve(struct catalog_rows *rows, size_t len)
{
	size_t size = rows->size ? rows->size : 4096;
	uint8_t *mem;

	while (size - rows->len < len)
		size *= 2;
	if (size == rows->size)
		return 0;
	mem = realloc(rows->mem, size);
	if (mem == NULL)
		return -ENOMEM;
	rows->mem = mem;
	rows->size = size;
	return 0;
}

/* A copied row is u32 key length, u32 value length, key, value. */
static int rows_add(struct catalog_rows *rows, const MDB_val *key, const void *value, size_t len)
{
	int err = rows_reserve(rows, 8 + key->mv_size + len);

	if (err)
		return err;
	bytes_put32(rows->mem + rows->len, (uint32_t)key->mv_size);
	bytes_put32(rows->mem + rows->len + 4, (uint32_t)len);
	memcpy(rows->mem + rows->len + 8, key->mv_data, key->mv_size);
	if (len > 0)
		memcpy(rows->mem + rows->len + 8 + key->mv_size, value, len);
	rows->len += 8 + key->mv_size + len;
	return 0;
}

/*
 * Walks the rows under prefix, those above `after` if that is not NULL. keys_only: copies keys without a look at the values (to delete them, damaged or not);
 * otherwise damaged rows are counted and left out.
 */
static int copy_rows(struct catalog_txn *txn, const struct catalog_key *prefix, const struct catalog_key *after,
    size_t max, bool keys_only, struct catalog_rows *rows)
{
	MDB_val key = val_of_key(after != NULL ? after : prefix), data;
	MDB_cursor *cursor;
	int rc, err = 0;

	rc = mdb_cursor_open(txn->mdb, txn->dbi, &cursor);
	if (rc)
		return catalog_errno(rc);
	for (rc = mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE); rc == 0 && max > 0 && !err;
	     rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) {
		if (key.mv_size < prefix->len || memcmp(key.mv_data, prefix->bytes, prefix->len) != 0)
			break;
		if (after != NULL && key.mv_size == after->len && memcmp(key.mv_data, after->bytes, after->len) == 0)
			continue;
		if (keys_only) {
			err = rows_add(rows, &key, NULL, 0);
		} else if (catalog_row_is_whole(&key, &data)) {
			err = rows_add(rows, &key, data.mv_data, data.mv_size - 4);
		} else {
			catalog_damaged_row(txn, key.mv_size >= REST_AT ? key.mv_data : prefix->bytes);
			continue;
		}
		max--;
	}
	mdb_cursor_close(cursor);
	if (err)
		return err;
	return rc == MDB_NOTFOUND ? 0 : catalog_errno(rc);
}

int catalog_copy_rows(struct catalog_txn *txn, const struct catalog_key *prefix, size_t max, struct catalog_rows *rows)
{
	return copy_rows(txn, prefix, NULL, max, false, rows);
}

int catalog_copy_rows_after(struct catalog_txn *txn, const struct catalog_key *prefix, const struct catalog_key *after,
    size_t max, struct catalog_rows *rows)
{
	return copy_rows(txn, prefix, after, max, false, rows);
}

static bool next_copied(
    const struct catalog_rows *rows, size_t *pos, struct engine_span *ret_key, struct engine_span *ret_value)
{
	const uint8_t *row;

	if (*pos == rows->len)
		return false;
	row = rows->mem + *pos;
	*ret_key = (struct engine_span){ .ptr = (const char *)row + 8, .len = bytes_get32(row) };
	*ret_value = (struct engine_span){ .ptr = ret_key->ptr + ret_key->len, .len = bytes_get32(row + 4) };
	*pos += 8 + ret_key->len + ret_value->len;
	return true;
}

bool catalog_next_row(const struct catalog_rows *rows, size_t *pos, struct catalog_row *ret_row)
{
	struct engine_span key;

	if (!next_copied(rows, pos, &key, &ret_row->value))
		return false;
	ret_row->id = id_of_key((const uint8_t *)key.ptr);
	ret_row->key = (struct engine_span){ .ptr = key.ptr + REST_AT, .len = key.len - REST_AT };
	return true;
}

void catalog_rows_release(struct catalog_rows *rows)
{
	free(rows->mem);
	*rows = (struct catalog_rows){ 0 };
}

int catalog_del_rows(struct catalog_txn *txn, const struct catalog_key *prefix)
{
	struct catalog_rows rows = { 0 };
	struct engine_span key, value;
	int err;

	do {
		size_t pos = 0;

		rows.len = 0;
		err = copy_rows(txn, prefix, NULL, DELETE_AT_ONCE, true, &rows);
		while (!err && next_copied(&rows, &pos, &key, &value)) {
			MDB_val k = { .mv_size = key.len, .mv_data = (void *)(uintptr_t)key.ptr };

			err = del_row(txn, &k);
		}
	} while (!err && rows.len > 0);
	catalog_rows_release(&rows);
	return err;
}

struct snapshot {
	const struct catalog_key *prefix;
	struct catalog_rows *rows;
};

static int take_snapshot(struct catalog_txn *txn, void *arg)
{
	struct snapshot *snapshot = arg;

	return catalog_copy_rows(txn, snapshot->prefix, SIZE_MAX, snapshot->rows);
}

int catalog_snapshot(struct catalog *catalog, const struct catalog_key *prefix, struct catalog_rows *rows)
{
	struct snapshot snapshot = { .prefix = prefix, .rows = rows };

	return catalog_view(catalog, take_snapshot, &snapshot);
}
