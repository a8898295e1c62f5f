/*
 * catalog_objects - objects in the catalog: their rows, names, children, and the owners of files below them.
 *
 * An object has three rows: itself by id ('o'), its name under its parent ('n', for the uniqueness of names), and one that
 * lists it with its parent ('c'). They are written and removed in one transaction, so none is without the others.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/catalog_internal.h"

#define OBJECT_FIXED 56u /* bytes of an object's value before its name */
#define OWNER_BYTES 12u

/* --------------------------------------------------------------------------------------------- encoding */

static void put_owner(uint8_t *bytes, const struct engine_owner *owner)
{
	bytes_put32(bytes, owner->uid);
	bytes_put32(bytes + 4, owner->gid);
	bytes_put32(bytes + 8, owner->mode);
}

static struct engine_owner get_owner(const uint8_t *bytes)
{
	return (struct engine_owner){
		.uid = bytes_get32(bytes), .gid = bytes_get32(bytes + 4), .mode = bytes_get32(bytes + 8)
	};
}

static size_t encode_object(uint8_t value[OBJECT_FIXED + ENGINE_NAME_MAX], const struct catalog_object *object)
{
	size_t name_len = strlen(object->name);

	memset(value, 0, OBJECT_FIXED);
	bytes_put64(value, object->parent_id);
	bytes_put64(value + 8, (uint64_t)object->ctime_ms);
	bytes_put64(value + 16, (uint64_t)object->mtime_ms);
	put_owner(value + 24, &object->owner);
	put_owner(value + 36, &object->birth);
	value[48] = (uint8_t)object->kind;
	memcpy(value + OBJECT_FIXED, object->name, name_len);
	return OBJECT_FIXED + name_len;
}

static bool decode_object(uint64_t id, struct engine_span value, struct catalog_object *ret_object)
{
	const uint8_t *bytes = (const uint8_t *)value.ptr;

	if (value.len < OBJECT_FIXED || value.len > OBJECT_FIXED + ENGINE_NAME_MAX || bytes[48] >= ENGINE_KIND_COUNT)
		return false;
	*ret_object = (struct catalog_object){
		.id = id,
		.parent_id = bytes_get64(bytes),
		.kind = (enum engine_kind)bytes[48],
		.owner = get_owner(bytes + 24),
		.birth = get_owner(bytes + 36),
		.ctime_ms = (int64_t)bytes_get64(bytes + 8),
		.mtime_ms = (int64_t)bytes_get64(bytes + 16),
	};
	memcpy(ret_object->name, bytes + OBJECT_FIXED, value.len - OBJECT_FIXED);
	return true;
}

static void name_key(struct catalog_key *key, const struct catalog_object *object, const char *name)
{
	catalog_key_init(key, CATALOG_NAME, object->parent_id);
	catalog_key_add_u8(key, (uint8_t)object->kind);
	catalog_key_add_text(key, name, strlen(name));
}

static void child_key(struct catalog_key *key, const struct catalog_object *object)
{
	catalog_key_init(key, CATALOG_CHILD, object->parent_id);
	catalog_key_add_u8(key, (uint8_t)object->kind);
	catalog_key_add_be64(key, object->id);
}

/* ------------------------------------------------------------------------------------ rows of one object */

int catalog_has_object(struct catalog_txn *txn, uint64_t id)
{
	struct catalog_key key;

	catalog_key_init(&key, CATALOG_OBJECT, id);
	return catalog_has_row(txn, &key);
}

/* ENOENT, EIO */
static int get_object(struct catalog_txn *txn, uint64_t id, struct catalog_object *ret_object)
{
	struct engine_span value;
	struct catalog_key key;
	int err;

	catalog_key_init(&key, CATALOG_OBJECT, id);
	err = catalog_get_row(txn, &key, &value);
	if (err)
		return err == -ENODATA ? -ENOENT : err;
	return decode_object(id, value, ret_object) ? 0 : catalog_damaged_row(txn, key.bytes);
}

static int put_object(struct catalog_txn *txn, const struct catalog_object *object)
{
	uint8_t value[OBJECT_FIXED + ENGINE_NAME_MAX];
	size_t len = encode_object(value, object);
	struct catalog_key key;

	catalog_key_init(&key, CATALOG_OBJECT, object->id);
	return catalog_put_row(txn, &key, value, len);
}

static int put_name(struct catalog_txn *txn, const struct catalog_object *object)
{
	struct catalog_key key;
	uint8_t value[8];

	bytes_put64(value, object->id);
	name_key(&key, object, object->name);
	return catalog_put_row(txn, &key, value, sizeof(value));
}

/* EEXIST if another object of this parent and kind has the name. */
static int name_is_free(struct catalog_txn *txn, const struct catalog_object *object, const char *name)
{
	struct catalog_key key;
	int has;

	name_key(&key, object, name);
	has = catalog_has_row(txn, &key);
	return has == 1 ? -EEXIST : has;
}

int catalog_insert_object(struct catalog_txn *txn, const struct catalog_object *object)
{
	struct catalog_key key;
	int err;

	err = name_is_free(txn, object, object->name);
	if (!err)
		err = put_object(txn, object);
	if (!err)
		err = put_name(txn, object);
	if (err)
		return err;
	child_key(&key, object);
	return catalog_put_row(txn, &key, NULL, 0);
}

/* ---------------------------------------------------------------------------------------------- changes */

static int insert_new(struct catalog_txn *txn, void *arg)
{
	const struct catalog_object *object = arg;
	int has;

	has = catalog_has_object(txn, object->parent_id);
	if (has <= 0)
		return has ? has : -ENOENT;
	has = catalog_has_object(txn, object->id);
	if (has)
		return has < 0 ? has : -EEXIST;
	return catalog_insert_object(txn, object);
}

int catalog_put_object(struct catalog *catalog, const struct catalog_object *object)
{
	if (memchr(object->name, '\0', sizeof(object->name)) == NULL)
		return -ENAMETOOLONG;
	if (object->id == 0 || object->name[0] == '\0' || object->kind >= ENGINE_KIND_COUNT)
		return -EINVAL;
	return catalog_change(catalog, CATALOG_GROWS, insert_new, (void *)(uintptr_t)object);
}

struct object_change {
	uint64_t id;
	const struct engine_owner *owner;
	const char *name;
	int64_t mtime_ms;
};

static int change_owner(struct catalog_txn *txn, void *arg)
{
	const struct object_change *change = arg;
	struct catalog_object object;
	int err;

	err = get_object(txn, change->id, &object);
	if (err)
		return err;
	object.owner = *change->owner;
	object.mtime_ms = change->mtime_ms;
	return put_object(txn, &object);
}

int catalog_set_owner(struct catalog *catalog, uint64_t id, const struct engine_owner *owner, int64_t mtime_ms)
{
	struct object_change change = { .id = id, .owner = owner, .mtime_ms = mtime_ms };

	return catalog_change(catalog, CATALOG_GROWS, change_owner, &change);
}

static int change_name(struct catalog_txn *txn, void *arg)
{
	const struct object_change *change = arg;
	struct catalog_object object;
	struct catalog_key key;
	int err;

	err = get_object(txn, change->id, &object);
	if (err || strcmp(object.name, change->name) == 0)
		return err;
	err = name_is_free(txn, &object, change->name);
	if (err)
		return err;
	name_key(&key, &object, object.name);
	err = catalog_del_row(txn, &key);
	if (err && err != -ENODATA)
		return err;
	memset(object.name, 0, sizeof(object.name));
	memcpy(object.name, change->name, strlen(change->name));
	object.mtime_ms = change->mtime_ms;
	err = put_object(txn, &object);
	return err ? err : put_name(txn, &object);
}

int catalog_rename(struct catalog *catalog, uint64_t id, const char *name, int64_t mtime_ms)
{
	struct object_change change = { .id = id, .name = name, .mtime_ms = mtime_ms };

	if (strlen(name) > ENGINE_NAME_MAX)
		return -ENAMETOOLONG;
	if (name[0] == '\0' || id == ENGINE_ROOT_ID)
		return -EINVAL;
	return catalog_change(catalog, CATALOG_GROWS, change_name, &change);
}

/* ---------------------------------------------------------------------------------------------- removal */

/* The rows that carry the object's id and are not its own. */
static int remove_belongings(struct catalog_txn *txn, uint64_t id)
{
	static const enum catalog_table tables[] = { CATALOG_NAME, CATALOG_CHILD, CATALOG_OWNER, CATALOG_SETTING,
		CATALOG_PARTITION, CATALOG_END, CATALOG_CURSOR, CATALOG_QUEUE, CATALOG_BINDING, CATALOG_KEY,
		CATALOG_KEYED };
	struct catalog_key key;
	int err = 0;

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]) && !err; i++) {
		catalog_key_init(&key, tables[i], id);
		err = catalog_del_rows(txn, &key);
	}
	return err;
}

/* An object's own row and its belongings; what its parent has of it (name, child) is the caller's. */
static int remove_object(struct catalog_txn *txn, uint64_t id)
{
	struct catalog_key key;
	int err = remove_belongings(txn, id);

	if (err)
		return err;
	catalog_key_init(&key, CATALOG_OBJECT, id);
	err = catalog_del_row(txn, &key);
	return err == -ENODATA ? 0 : err;
}

/*
 * Removes all below id, deepest first: a topic's groups, and whatever else later kinds nest, to a depth that no tree of
 * kinds reaches (which ends a circle made by damage).
 */
static int remove_children(struct catalog_txn *txn, uint64_t id, int depth)
{
	struct catalog_rows rows = { 0 };
	struct catalog_row row;
	struct catalog_key key;
	size_t pos = 0;
	int err;

	if (depth == 0)
		return -EIO;
	catalog_key_init(&key, CATALOG_CHILD, id);
	err = catalog_copy_rows(txn, &key, SIZE_MAX, &rows);
	while (!err && catalog_next_row(&rows, &pos, &row)) {
		uint64_t child = 0;

		if (row.key.len != 9)
			continue;
		for (size_t i = 1; i < 9; i++)
			child = child << 8 | (uint8_t)row.key.ptr[i];
		err = remove_children(txn, child, depth - 1);
		if (!err)
			err = remove_object(txn, child);
	}
	catalog_rows_release(&rows);
	return err;
}

static int remove_with_children(struct catalog_txn *txn, void *arg)
{
	const struct object_change *change = arg;
	struct catalog_object object;
	struct catalog_key key;
	int err;

	err = get_object(txn, change->id, &object);
	if (err)
		return err;
	err = remove_children(txn, change->id, 8);
	if (!err)
		err = remove_object(txn, change->id);
	if (err)
		return err;
	name_key(&key, &object, object.name);
	err = catalog_del_row(txn, &key);
	if (err && err != -ENODATA)
		return err;
	child_key(&key, &object);
	err = catalog_del_row(txn, &key);
	return err == -ENODATA ? 0 : err;
}

int catalog_remove(struct catalog *catalog, uint64_t id)
{
	struct object_change change = { .id = id };

	if (id == ENGINE_ROOT_ID)
		return -EPERM;
	return catalog_change(catalog, CATALOG_MAY_USE_RESERVE, remove_with_children, &change);
}

/* ---------------------------------------------------------------------------------------------- listing */

int catalog_each_object(struct catalog *catalog, int (*each)(void *ctx, const struct catalog_object *object), void *ctx)
{
	struct catalog_rows rows = { 0 };
	struct catalog_row row;
	struct catalog_key key;
	size_t pos = 0;
	int err;

	catalog_key_init(&key, CATALOG_OBJECT, 0);
	key.len = 1; /* of every id */
	err = catalog_snapshot(catalog, &key, &rows);
	while (!err && catalog_next_row(&rows, &pos, &row)) {
		struct catalog_object object;

		if (decode_object(row.id, row.value, &object))
			err = each(ctx, &object);
		else
			catalog_report_damage(catalog, 1, CATALOG_OBJECT, row.id);
	}
	catalog_rows_release(&rows);
	return err;
}

/* ------------------------------------------------------------------------------------------ owners of nodes */

struct node_owner {
	uint64_t id;
	struct catalog_key key;
	struct engine_owner owner;
};

static int node_owner_init(struct node_owner *node_owner, uint64_t id, const char *node)
{
	size_t len = strlen(node);

	if (len == 0)
		return -EINVAL;
	if (len > CATALOG_NODE_MAX)
		return -ENAMETOOLONG;
	node_owner->id = id;
	catalog_key_init(&node_owner->key, CATALOG_OWNER, id);
	catalog_key_add_text(&node_owner->key, node, len);
	return 0;
}

static int read_node_owner(struct catalog_txn *txn, void *arg)
{
	struct node_owner *node_owner = arg;
	struct engine_span value;
	int err;

	err = catalog_get_row(txn, &node_owner->key, &value);
	if (err)
		return err;
	if (value.len != OWNER_BYTES)
		return catalog_damaged_row(txn, node_owner->key.bytes);
	node_owner->owner = get_owner((const uint8_t *)value.ptr);
	return 0;
}

int catalog_get_node_owner(struct catalog *catalog, uint64_t id, const char *node, struct engine_owner *ret_owner)
{
	struct node_owner node_owner;
	int err;

	err = node_owner_init(&node_owner, id, node);
	if (!err)
		err = catalog_view(catalog, read_node_owner, &node_owner);
	if (!err)
		*ret_owner = node_owner.owner;
	return err;
}

static int write_node_owner(struct catalog_txn *txn, void *arg)
{
	const struct node_owner *node_owner = arg;
	uint8_t value[OWNER_BYTES];
	int has;

	has = catalog_has_object(txn, node_owner->id);
	if (has <= 0)
		return has ? has : -ENOENT;
	put_owner(value, &node_owner->owner);
	return catalog_put_row(txn, &node_owner->key, value, sizeof(value));
}

int catalog_set_node_owner(struct catalog *catalog, uint64_t id, const char *node, const struct engine_owner *owner)
{
	struct node_owner node_owner;
	int err;

	err = node_owner_init(&node_owner, id, node);
	if (err)
		return err;
	node_owner.owner = *owner;
	return catalog_change(catalog, CATALOG_GROWS, write_node_owner, &node_owner);
}

static int delete_node_owner(struct catalog_txn *txn, void *arg)
{
	const struct node_owner *node_owner = arg;

	return catalog_del_row(txn, &node_owner->key);
}

int catalog_drop_node_owner(struct catalog *catalog, uint64_t id, const char *node)
{
	struct node_owner node_owner;
	int err;

	err = node_owner_init(&node_owner, id, node);
	return err ? err : catalog_change(catalog, CATALOG_MAY_USE_RESERVE, delete_node_owner, &node_owner);
}
