/*
 * catalog_rows - what belongs to an object in the catalog: settings, the partitions of a topic, cursors of a group.
 *
 * Each is a range of rows under the object's id. Listing takes a snapshot of the range and hands it out afterwards; a row
 * that does not have its table's layout is reported and left out.
 */
#include <errno.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/catalog_internal.h"

#define CURSOR_BYTES 24u
#define PARTITION_BYTES 8u
#define END_BYTES 24u

static uint32_t get_be32(const char *p)
{
	const uint8_t *bytes = (const uint8_t *)p;

	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* ------------------------------------------------------------------------------------------------- settings */

static void setting_prefix(struct catalog_key *key, uint64_t id, enum engine_kind kind)
{
	catalog_key_init(key, CATALOG_SETTING, id);
	catalog_key_add_u8(key, id == 0 ? (uint8_t)kind : 0);
}

int catalog_each_setting(struct catalog *catalog, uint64_t id, enum engine_kind kind,
    int (*each)(void *ctx, const char *name, const char *value), void *ctx)
{
	char name[ENGINE_NAME_MAX + 1], value[CATALOG_VALUE_MAX + 1];
	struct catalog_rows rows = { 0 };
	struct catalog_key prefix;
	struct catalog_row row;
	size_t pos = 0;
	int err;

	setting_prefix(&prefix, id, kind);
	err = catalog_snapshot(catalog, &prefix, &rows);
	while (!err && catalog_next_row(&rows, &pos, &row)) {
		size_t name_len = row.key.len - 1; /* after the kind */

		if (name_len >= sizeof(name) || row.value.len >= sizeof(value)) {
			catalog_report_damage(catalog, 1, CATALOG_SETTING, id);
			continue;
		}
		memcpy(name, row.key.ptr + 1, name_len);
		name[name_len] = '\0';
		memcpy(value, row.value.ptr, row.value.len);
		value[row.value.len] = '\0';
		err = each(ctx, name, value);
	}
	catalog_rows_release(&rows);
	return err;
}

struct settings_change {
	uint64_t id;
	enum engine_kind kind;
	const struct catalog_setting *settings;
	size_t count;
};

static int write_settings(struct catalog_txn *txn, void *arg)
{
	const struct settings_change *change = arg;
	int has = change->id == 0 ? 1 : catalog_has_object(txn, change->id);

	if (has <= 0)
		return has ? has : -ENOENT;
	for (size_t i = 0; i < change->count; i++) {
		const struct catalog_setting *setting = &change->settings[i];
		struct catalog_key key;
		int err;

		setting_prefix(&key, change->id, change->kind);
		catalog_key_add_text(&key, setting->name, strlen(setting->name));
		if (setting->value != NULL)
			err = catalog_put_row(txn, &key, setting->value, strlen(setting->value));
		else
			err = catalog_del_row(txn, &key);
		if (err && !(err == -ENODATA && setting->value == NULL))
			return err;
	}
	return 0;
}

int catalog_put_settings(
    struct catalog *catalog, uint64_t id, enum engine_kind kind, const struct catalog_setting *settings, size_t count)
{
	struct settings_change change = { .id = id, .kind = kind, .settings = settings, .count = count };

	for (size_t i = 0; i < count; i++) {
		if (strlen(settings[i].name) > ENGINE_NAME_MAX)
			return -ENAMETOOLONG;
		if (settings[i].value != NULL && strlen(settings[i].value) > CATALOG_VALUE_MAX)
			return -E2BIG;
	}
	return catalog_change(catalog, CATALOG_GROWS, write_settings, &change);
}

/* ----------------------------------------------------------------------------------------------- partitions */

static void partition_key(struct catalog_key *key, uint64_t topic_id, uint32_t partition)
{
	catalog_key_init(key, CATALOG_PARTITION, topic_id);
	catalog_key_add_be32(key, partition);
}

struct new_partition {
	uint64_t topic_id, log_id;
	uint32_t partition;
};

static int write_partition(struct catalog_txn *txn, void *arg)
{
	const struct new_partition *new = arg;
	uint8_t value[PARTITION_BYTES];
	struct catalog_key key;
	int has;

	has = catalog_has_object(txn, new->topic_id);
	if (has <= 0)
		return has ? has : -ENOENT;
	if (new->partition > 0) {
		partition_key(&key, new->topic_id, new->partition - 1);
		has = catalog_has_row(txn, &key);
		if (has <= 0)
			return has ? has : -EINVAL;
	}
	partition_key(&key, new->topic_id, new->partition);
	has = catalog_has_row(txn, &key);
	if (has)
		return has < 0 ? has : -EEXIST;
	bytes_put64(value, new->log_id);
	has = catalog_put_row(txn, &key, value, sizeof(value));
	return has ? has
		   : catalog_put_end(txn, &(struct catalog_end){ .object_id = new->topic_id, .index = new->partition });
}

int catalog_add_partition(struct catalog *catalog, uint64_t topic_id, uint32_t partition, uint64_t log_id)
{
	struct new_partition new = { .topic_id = topic_id, .log_id = log_id, .partition = partition };

	return catalog_change(catalog, CATALOG_GROWS, write_partition, &new);
}

int catalog_each_partition(
    struct catalog *catalog, uint64_t topic_id, int (*each)(void *ctx, uint32_t partition, uint64_t log_id), void *ctx)
{
	struct catalog_rows rows = { 0 };
	struct catalog_key prefix;
	struct catalog_row row;
	size_t pos = 0;
	int err;

	catalog_key_init(&prefix, CATALOG_PARTITION, topic_id);
	err = catalog_snapshot(catalog, &prefix, &rows);
	while (!err && catalog_next_row(&rows, &pos, &row)) {
		if (row.key.len == 4 && row.value.len == PARTITION_BYTES)
			err = each(ctx, get_be32(row.key.ptr), bytes_get64((const uint8_t *)row.value.ptr));
		else
			catalog_report_damage(catalog, 1, CATALOG_PARTITION, topic_id);
	}
	catalog_rows_release(&rows);
	return err;
}

/* ----------------------------------------------------------------------------------------------------- ends */

int catalog_each_end(
    struct catalog *catalog, uint64_t object_id, int (*each)(void *ctx, const struct catalog_end *end), void *ctx)
{
	struct catalog_rows rows = { 0 };
	struct catalog_key prefix;
	struct catalog_row row;
	size_t pos = 0;
	int err;

	catalog_key_init(&prefix, CATALOG_END, object_id);
	err = catalog_snapshot(catalog, &prefix, &rows);
	while (!err && catalog_next_row(&rows, &pos, &row)) {
		const uint8_t *value = (const uint8_t *)row.value.ptr;
		struct catalog_end end = { .object_id = object_id };

		if (row.key.len == 4 && row.value.len == END_BYTES && bytes_get64(value) <= INT64_MAX &&
		    bytes_get64(value + 8) <= INT64_MAX && bytes_get64(value + 16) <= INT64_MAX) {
			end.index = get_be32(row.key.ptr);
			end.end = bytes_get64(value);
			end.pos = bytes_get64(value + 8);
			end.start = bytes_get64(value + 16);
			err = each(ctx, &end);
		} else {
			catalog_report_damage(catalog, 1, CATALOG_END, object_id);
		}
	}
	catalog_rows_release(&rows);
	return err;
}

int catalog_put_end(struct catalog_txn *txn, const struct catalog_end *end)
{
	uint8_t value[END_BYTES];
	struct catalog_key key;

	catalog_key_init(&key, CATALOG_END, end->object_id);
	catalog_key_add_be32(&key, end->index);
	bytes_put64(value, end->end);
	bytes_put64(value + 8, end->pos);
	bytes_put64(value + 16, end->start);
	return catalog_put_row(txn, &key, value, sizeof(value));
}

struct ends_change {
	const struct catalog_end *ends;
	size_t count;
};

static int write_ends(struct catalog_txn *txn, void *arg)
{
	const struct ends_change *change = arg;
	int rc = 0;

	for (size_t i = 0; i < change->count && rc == 0; i++) {
		rc = catalog_has_object(txn, change->ends[i].object_id);
		if (rc > 0) /* else it was removed since the caller looked */
			rc = catalog_put_end(txn, &change->ends[i]);
	}
	return rc;
}

int catalog_put_ends(struct catalog *catalog, const struct catalog_end *ends, size_t count)
{
	struct ends_change change = { .ends = ends, .count = count };

	return count == 0 ? 0 : catalog_change(catalog, CATALOG_MAY_USE_RESERVE, write_ends, &change);
}

/* -------------------------------------------------------------------------------------------------- cursors */

int catalog_each_cursor(
    struct catalog *catalog, uint64_t group_id, int (*each)(void *ctx, const struct catalog_cursor *cursor), void *ctx)
{
	struct catalog_rows rows = { 0 };
	struct catalog_key prefix;
	struct catalog_row row;
	size_t pos = 0;
	int err;

	catalog_key_init(&prefix, CATALOG_CURSOR, group_id);
	err = catalog_snapshot(catalog, &prefix, &rows);
	while (!err && catalog_next_row(&rows, &pos, &row)) {
		const uint8_t *value = (const uint8_t *)row.value.ptr;
		struct catalog_cursor cursor = { .group_id = group_id };

		if (row.key.len != 4 || row.value.len != CURSOR_BYTES) {
			catalog_report_damage(catalog, 1, CATALOG_CURSOR, group_id);
			continue;
		}
		cursor.partition = get_be32(row.key.ptr);
		cursor.committed = bytes_get64(value);
		cursor.given = bytes_get64(value + 8);
		cursor.lost = bytes_get64(value + 16);
		err = each(ctx, &cursor);
	}
	catalog_rows_release(&rows);
	return err;
}

struct cursors_change {
	const struct catalog_cursor *cursors;
	size_t count;
};

static int write_cursors(struct catalog_txn *txn, void *arg)
{
	const struct cursors_change *change = arg;

	for (size_t i = 0; i < change->count; i++) {
		const struct catalog_cursor *cursor = &change->cursors[i];
		uint8_t value[CURSOR_BYTES];
		struct catalog_key key;
		int err, has;

		has = catalog_has_object(txn, cursor->group_id);
		if (has < 0)
			return has;
		if (has == 0) /* removed since the caller looked */
			continue;
		bytes_put64(value, cursor->committed);
		bytes_put64(value + 8, cursor->given);
		bytes_put64(value + 16, cursor->lost);
		catalog_key_init(&key, CATALOG_CURSOR, cursor->group_id);
		catalog_key_add_be32(&key, cursor->partition);
		err = catalog_put_row(txn, &key, value, sizeof(value));
		if (err)
			return err;
	}
	return 0;
}

int catalog_put_cursors(struct catalog *catalog, const struct catalog_cursor *cursors, size_t count)
{
	struct cursors_change change = { .cursors = cursors, .count = count };

	return count == 0 ? 0 : catalog_change(catalog, CATALOG_MAY_USE_RESERVE, write_cursors, &change);
}
