/*
 * catalog_binding - what the catalog keeps of exchanges: patterns and, under them, bindings.
 *
 * A row each. The key of a binding is the pattern, a zero byte and its name: neither has a zero byte in it, so rows come by
 * pattern, and that of a pattern itself, whose name is empty, before those of its bindings.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/catalog_internal.h"

static void binding_key(struct catalog_key *key, const struct catalog_binding *binding)
{
	catalog_key_init(key, CATALOG_BINDING, binding->exchange_id);
	catalog_key_add_text(key, binding->pattern, strlen(binding->pattern) + 1);
	catalog_key_add_text(key, binding->name, strlen(binding->name));
}

static int write_binding(struct catalog_txn *txn, void *arg)
{
	const struct catalog_binding *binding = arg;
	struct catalog_key key;
	uint8_t value[8];
	int has = catalog_has_object(txn, binding->exchange_id);

	if (has <= 0)
		return has < 0 ? has : -ENOENT;
	binding_key(&key, binding);
	bytes_put64(value, binding->target_id);
	return catalog_put_row(txn, &key, value, sizeof(value));
}

int catalog_put_binding(struct catalog *catalog, const struct catalog_binding *binding)
{
	return catalog_change(catalog, CATALOG_GROWS, write_binding, (void *)(uintptr_t)binding);
}

static int delete_binding(struct catalog_txn *txn, void *arg)
{
	struct catalog_key key;

	binding_key(&key, arg);
	return catalog_del_row(txn, &key);
}

int catalog_drop_binding(struct catalog *catalog, const struct catalog_binding *binding)
{
	return catalog_change(catalog, CATALOG_MAY_USE_RESERVE, delete_binding, (void *)(uintptr_t)binding);
}

static int move_binding(struct catalog_txn *txn, void *arg)
{
	struct catalog_binding *rows = arg;
	int rc = delete_binding(txn, &rows[0]);

	return rc == 0 ? write_binding(txn, &rows[1]) : rc;
}

int catalog_rename_binding(struct catalog *catalog, const struct catalog_binding *binding, const char *new_name)
{
	struct catalog_binding rows[2] = { *binding, *binding };

	snprintf(rows[1].name, sizeof(rows[1].name), "%s", new_name);
	return catalog_change(catalog, CATALOG_GROWS, move_binding, rows);
}

/* false: the row is not as its table says. */
static bool decode(const struct catalog_row *row, struct catalog_binding *ret_binding)
{
	const char *zero = memchr(row->key.ptr, '\0', row->key.len);
	size_t pattern = zero != NULL ? (size_t)(zero - row->key.ptr) : 0, name = row->key.len - pattern - 1;

	if (zero == NULL || pattern > CATALOG_PATTERN_MAX || name > ENGINE_NAME_MAX || row->value.len != 8)
		return false;
	memcpy(ret_binding->pattern, row->key.ptr, pattern + 1);
	memcpy(ret_binding->name, zero + 1, name);
	ret_binding->name[name] = '\0';
	ret_binding->target_id = bytes_get64((const uint8_t *)row->value.ptr);
	return true;
}

int catalog_each_binding(struct catalog *catalog, uint64_t exchange_id,
    int (*each)(void *ctx, const struct catalog_binding *binding), void *ctx)
{
	struct catalog_rows rows = { 0 };
	struct catalog_row row;
	struct catalog_key key;
	uint32_t damaged = 0;
	size_t pos = 0;
	int err;

	catalog_key_init(&key, CATALOG_BINDING, exchange_id);
	err = catalog_snapshot(catalog, &key, &rows);
	while (!err && catalog_next_row(&rows, &pos, &row)) {
		struct catalog_binding binding = { .exchange_id = exchange_id };

		if (decode(&row, &binding))
			err = each(ctx, &binding);
		else
			damaged++;
	}
	if (damaged > 0)
		catalog_report_damage(catalog, damaged, CATALOG_BINDING, exchange_id);
	catalog_rows_release(&rows);
	return err;
}
