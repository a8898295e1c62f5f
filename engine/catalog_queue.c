/*
 * catalog_queue - what the catalog keeps of queues: the ids of messages, lanes, and checkpoints of what is an exception.
 *
 * A queue's rows are one range under its id: the queue's own, one for each lane, and one for each span of a lane, in order.
 * Their values belong to local_queue_store.c.
 */
#include <errno.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/catalog_internal.h"

#define FIRST_MESSAGE_ID 1u

/* ---- ids ---- */

struct ids_change {
	uint64_t count, first;
};

/* The row's key, and the id that is given next. */
static int read_next_id(struct catalog_txn *txn, struct catalog_key *key, uint64_t *ret_next)
{
	struct engine_span value;
	int err;

	catalog_key_init(key, CATALOG_FACT, 0);
	catalog_key_add_text(key, "next_message_id", strlen("next_message_id"));
	err = catalog_get_row(txn, key, &value);
	if (err && err != -ENODATA)
		return err;
	if (!err && value.len != sizeof(*ret_next))
		return catalog_damaged_row(txn, key->bytes);
	*ret_next = err ? FIRST_MESSAGE_ID : bytes_get64((const uint8_t *)value.ptr);
	return 0;
}

static int take_ids(struct catalog_txn *txn, void *arg)
{
	struct ids_change *change = arg;
	struct catalog_key key;
	uint8_t next[8];
	int err = read_next_id(txn, &key, &change->first);

	if (err)
		return err;
	bytes_put64(next, change->first + change->count);
	return catalog_put_row(txn, &key, next, sizeof(next));
}

static int look_at_ids(struct catalog_txn *txn, void *arg)
{
	struct catalog_key key;

	return read_next_id(txn, &key, arg);
}

int catalog_see_message_ids(struct catalog *catalog, uint64_t *ret_next)
{
	uint64_t next;
	int err = catalog_view(catalog, look_at_ids, &next);

	if (!err)
		*ret_next = next;
	return err;
}

int catalog_next_message_ids(struct catalog *catalog, uint64_t count, uint64_t *ret_first)
{
	struct ids_change change = { .count = count };
	int err = catalog_change(catalog, CATALOG_GROWS, take_ids, &change);

	if (!err)
		*ret_first = change.first;
	return err;
}

/* ---- lanes ---- */

struct lane_change {
	uint64_t queue_id, log_id;
	uint32_t priority;
};

static int write_lane(struct catalog_txn *txn, void *arg)
{
	const struct lane_change *change = arg;
	struct catalog_key key;
	uint8_t value[8];
	int has = catalog_has_object(txn, change->queue_id);

	if (has <= 0)
		return has < 0 ? has : -ENOENT;
	catalog_key_init(&key, CATALOG_PARTITION, change->queue_id);
	catalog_key_add_be32(&key, change->priority);
	bytes_put64(value, change->log_id);
	has = catalog_put_row(txn, &key, value, sizeof(value));
	return has ? has
		   : catalog_put_end(
			 txn, &(struct catalog_end){ .object_id = change->queue_id, .index = change->priority });
}

int catalog_add_lane(struct catalog *catalog, uint64_t queue_id, uint32_t priority, uint64_t log_id)
{
	struct lane_change change = { .queue_id = queue_id, .log_id = log_id, .priority = priority };

	return catalog_change(catalog, CATALOG_GROWS, write_lane, &change);
}

/* ---- checkpoints ---- */

struct rows_change {
	const struct catalog_queue_row *rows;
	size_t count;
	uint64_t journal;
};

static void journal_key(struct catalog_key *key)
{
	catalog_key_init(key, CATALOG_FACT, 0);
	catalog_key_add_text(key, "journal", strlen("journal"));
}

static int write_journal(struct catalog_txn *txn, uint64_t number)
{
	struct catalog_key key;
	uint8_t value[8];

	journal_key(&key);
	bytes_put64(value, number);
	return catalog_put_row(txn, &key, value, sizeof(value));
}

static int read_journal(struct catalog_txn *txn, void *arg)
{
	struct engine_span value;
	struct catalog_key key;
	int err;

	journal_key(&key);
	err = catalog_get_row(txn, &key, &value);
	if (!err && value.len != 8)
		err = catalog_damaged_row(txn, key.bytes);
	if (!err)
		*(uint64_t *)arg = bytes_get64((const uint8_t *)value.ptr);
	return err == -ENODATA || err == -EIO ? 0 : err; /* damage was told of; without it all files are replayed */
}

int catalog_journal(struct catalog *catalog, uint64_t *ret_number)
{
	uint64_t number = 0;
	int err = catalog_view(catalog, read_journal, &number);

	if (!err)
		*ret_number = number;
	return err;
}

static void row_key(struct catalog_key *key, const struct catalog_queue_row *row)
{
	catalog_key_init(key, CATALOG_QUEUE, row->queue_id);
	if (row->what == CATALOG_OF_QUEUE)
		return;
	catalog_key_add_u8(key, row->priority);
	if (row->what == CATALOG_OF_SPAN)
		catalog_key_add_be64(key, row->first);
}

static int write_rows(struct catalog_txn *txn, void *arg)
{
	const struct rows_change *change = arg;
	uint64_t known = 0;

	for (size_t i = 0; i < change->count; i++) {
		const struct catalog_queue_row *row = &change->rows[i];
		struct catalog_key key;
		int err;

		if (row->queue_id != known) {
			int has = catalog_has_object(txn, row->queue_id);

			if (has < 0)
				return has;
			if (has == 0) /* removed since the caller looked */
				continue;
			known = row->queue_id;
		}
		row_key(&key, row);
		err = row->len > 0 ? catalog_put_row(txn, &key, row->value, row->len) : catalog_del_row(txn, &key);
		if (err && (err != -ENODATA || row->len > 0))
			return err;
	}
	return change->journal > 0 ? write_journal(txn, change->journal) : 0;
}

int catalog_put_queue_rows(
    struct catalog *catalog, const struct catalog_queue_row *rows, size_t count, uint64_t journal)
{
	struct rows_change change = { .rows = rows, .count = count, .journal = journal };

	return count == 0 && journal == 0 ? 0 : catalog_change(catalog, CATALOG_MAY_USE_RESERVE, write_rows, &change);
}

static bool parse_row(const struct catalog_row *from, uint64_t queue_id, struct catalog_queue_row *ret_row)
{
	struct catalog_queue_row row = { .queue_id = queue_id, .len = (uint32_t)from->value.len };
	size_t len = from->key.len;

	if ((len != 0 && len != 1 && len != 9) || from->value.len > sizeof(row.value))
		return false;
	row.what = len == 0 ? CATALOG_OF_QUEUE : len == 1 ? CATALOG_OF_LANE : CATALOG_OF_SPAN;
	if (len > 0)
		row.priority = (uint8_t)from->key.ptr[0];
	if (len > 1)
		row.first = catalog_key_get_be64(from->key.ptr + 1);
	memcpy(row.value, from->value.ptr, from->value.len);
	*ret_row = row;
	return true;
}

int catalog_each_queue_row(
    struct catalog *catalog, uint64_t queue_id, int (*each)(void *ctx, const struct catalog_queue_row *row), void *ctx)
{
	struct catalog_rows rows = { 0 };
	struct catalog_queue_row parsed;
	struct catalog_key prefix;
	struct catalog_row row;
	size_t pos = 0;
	int err;

	catalog_key_init(&prefix, CATALOG_QUEUE, queue_id);
	err = catalog_snapshot(catalog, &prefix, &rows);
	while (!err && catalog_next_row(&rows, &pos, &row)) {
		if (parse_row(&row, queue_id, &parsed))
			err = each(ctx, &parsed);
		else
			catalog_report_damage(catalog, 1, CATALOG_QUEUE, queue_id);
	}
	catalog_rows_release(&rows);
	return err;
}
