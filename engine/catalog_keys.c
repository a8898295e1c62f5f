/*
 * catalog_keys - checkpoints of the key indexes of compacted topics: where the latest message of each key is.
 */
#include <errno.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/catalog_internal.h"

#define VALUE_BYTES 17u

static void key_of(struct catalog_key *key, uint64_t topic_id, struct engine_span name, uint32_t partition)
{
	catalog_key_init(key, CATALOG_KEY, topic_id);
	catalog_key_add_text(key, name.ptr, name.len);
	catalog_key_add_be32(key, partition);
}

struct change {
	uint64_t topic_id;
	const struct catalog_keyed *rows;
	size_t count;
	const uint64_t *covered;
	uint32_t partitions;
};

static int put_row(struct catalog_txn *txn, uint64_t topic_id, const struct catalog_keyed *row)
{
	uint8_t value[VALUE_BYTES];
	struct catalog_key key;
	int err;

	key_of(&key, topic_id, row->key, row->partition);
	if (row->offset == ENGINE_OFFSET_NONE) {
		err = catalog_del_row(txn, &key);
		return err == -ENODATA ? 0 : err;
	}
	bytes_put64(value, row->offset);
	bytes_put64(value + 8, (uint64_t)row->ts_ms);
	value[16] = row->tombstone;
	return catalog_put_row(txn, &key, value, sizeof(value));
}

static int write_rows(struct catalog_txn *txn, void *arg)
{
	const struct change *change = arg;
	int err = 0, has = catalog_has_object(txn, change->topic_id);

	if (has <= 0)
		return has < 0 ? has : -ENOENT;
	for (size_t i = 0; i < change->count && !err; i++)
		err = put_row(txn, change->topic_id, &change->rows[i]);
	for (uint32_t p = 0; p < change->partitions && !err; p++) {
		uint8_t value[8];
		struct catalog_key key;

		catalog_key_init(&key, CATALOG_KEYED, change->topic_id);
		catalog_key_add_be32(&key, p);
		bytes_put64(value, change->covered[p]);
		err = catalog_put_row(txn, &key, value, sizeof(value));
	}
	return err;
}

int catalog_put_keys(struct catalog *catalog, uint64_t topic_id, const struct catalog_keyed *rows, size_t count,
    const uint64_t *covered, uint32_t partitions)
{
	struct change change = { topic_id, rows, count, covered, partitions };

	return catalog_change(catalog, CATALOG_GROWS, write_rows, &change);
}

/* key: what follows table and topic. */
static bool parse(struct engine_span key, struct engine_span value, struct catalog_keyed *ret_row)
{
	const uint8_t *bytes = (const uint8_t *)value.ptr, *tail = (const uint8_t *)key.ptr + key.len - 4;

	if (key.len < 4 || key.len - 4 > ENGINE_KEY_MAX || value.len != VALUE_BYTES)
		return false;
	*ret_row = (struct catalog_keyed){ .key = { key.ptr, key.len - 4 },
		.partition = (uint32_t)tail[0] << 24 | (uint32_t)tail[1] << 16 | (uint32_t)tail[2] << 8 | tail[3],
		.offset = bytes_get64(bytes),
		.ts_ms = (int64_t)bytes_get64(bytes + 8),
		.tombstone = bytes[16] };
	return true;
}

struct lookup {
	uint64_t topic_id;
	struct engine_span key;
	struct catalog_keyed *rows;
	const bool *wanted;
	uint32_t partitions;
};

static int read_rows(struct catalog_txn *txn, void *arg)
{
	const struct lookup *lookup = arg;

	for (uint32_t p = 0; p < lookup->partitions; p++) {
		const uint8_t *bytes;
		struct engine_span value = { 0 };
		struct catalog_key key;
		int err = -ENODATA;

		lookup->rows[p] = (struct catalog_keyed){ .offset = ENGINE_OFFSET_NONE };
		key_of(&key, lookup->topic_id, lookup->key, p);
		if (lookup->wanted == NULL || lookup->wanted[p])
			err = catalog_get_row(txn, &key, &value);
		if (err == -ENODATA || err == -EIO || (!err && value.len != VALUE_BYTES))
			continue; /* a damaged row is reported, and the key not found */
		if (err)
			return err;
		bytes = (const uint8_t *)value.ptr;
		lookup->rows[p] = (struct catalog_keyed){ .key = lookup->key,
			.partition = p,
			.offset = bytes_get64(bytes),
			.ts_ms = (int64_t)bytes_get64(bytes + 8),
			.tombstone = bytes[16] };
	}
	return 0;
}

int catalog_get_keys(struct catalog *catalog, uint64_t topic_id, struct engine_span key, const bool *wanted,
    uint32_t partitions, struct catalog_keyed *ret_rows)
{
	struct lookup lookup = { topic_id, key, ret_rows, wanted, partitions };

	return catalog_view(catalog, read_rows, &lookup);
}

/* ---- lists ---- */

struct page {
	struct catalog_key prefix, after;
	size_t max;
	struct catalog_rows *rows;
};

static int read_page(struct catalog_txn *txn, void *arg)
{
	struct page *page = arg;

	return catalog_copy_rows_after(txn, &page->prefix, &page->after, page->max, page->rows);
}

int catalog_list_keys(struct catalog *catalog, uint64_t topic_id, struct engine_span after, uint32_t partition,
    size_t max, int (*each)(void *ctx, const struct catalog_keyed *row), void *ctx)
{
	struct catalog_rows rows = { 0 };
	struct page page = { .max = max, .rows = &rows };
	struct catalog_keyed parsed;
	struct catalog_row row;
	size_t pos = 0;
	int err;

	catalog_key_init(&page.prefix, CATALOG_KEY, topic_id);
	page.after = page.prefix;
	if (after.ptr != NULL)
		key_of(&page.after, topic_id, after, partition);
	err = catalog_view(catalog, read_page, &page);
	while (!err && catalog_next_row(&rows, &pos, &row)) {
		if (parse(row.key, row.value, &parsed))
			err = each(ctx, &parsed);
		else
			catalog_report_damage(catalog, 1, CATALOG_KEY, topic_id);
	}
	catalog_rows_release(&rows);
	return err;
}

int catalog_each_keyed(
    struct catalog *catalog, uint64_t topic_id, int (*each)(void *ctx, uint32_t partition, uint64_t covered), void *ctx)
{
	struct catalog_rows rows = { 0 };
	struct catalog_key prefix;
	struct catalog_row row;
	size_t pos = 0;
	int err;

	catalog_key_init(&prefix, CATALOG_KEYED, topic_id);
	err = catalog_snapshot(catalog, &prefix, &rows);
	while (!err && catalog_next_row(&rows, &pos, &row)) {
		const uint8_t *p = (const uint8_t *)row.key.ptr;

		if (row.key.len == 4 && row.value.len == 8)
			err = each(ctx, (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3],
			    bytes_get64((const uint8_t *)row.value.ptr));
	}
	catalog_rows_release(&rows);
	return err;
}

/* ---- all go ---- */

#define DROP_AT_ONCE 2000u /* a transaction that changes more holds too many pages in memory */

struct drop {
	uint64_t topic_id;
	bool more;
};

static int drop_some(struct catalog_txn *txn, void *arg)
{
	struct catalog_rows rows = { 0 };
	struct drop *drop = arg;
	struct catalog_key key;
	struct catalog_row row;
	size_t pos = 0;
	int err;

	/* First what says that the rows are all there are. */
	catalog_key_init(&key, CATALOG_KEYED, drop->topic_id);
	err = catalog_del_rows(txn, &key);
	catalog_key_init(&key, CATALOG_KEY, drop->topic_id);
	if (!err)
		err = catalog_copy_rows(txn, &key, DROP_AT_ONCE, &rows);
	drop->more = rows.len > 0;
	while (!err && catalog_next_row(&rows, &pos, &row)) {
		catalog_key_init(&key, CATALOG_KEY, drop->topic_id);
		catalog_key_add_text(&key, row.key.ptr, row.key.len);
		err = catalog_del_row(txn, &key);
	}
	catalog_rows_release(&rows);
	return err;
}

int catalog_drop_keys(struct catalog *catalog, uint64_t topic_id)
{
	struct drop drop = { .topic_id = topic_id };
	int err;

	do
		err = catalog_change(catalog, CATALOG_MAY_USE_RESERVE, drop_some, &drop);
	while (!err && drop.more);
	return err;
}
