/*
 * local_object - the registry: every object of the store by id and by name, and the references that keep them.
 *
 * All objects are in memory from the start; they are small (a topic with one partition takes about a kilobyte). Ids
 * are in arrays sorted by id, which new ones join at the end, since ids only rise; names in one hash table over
 * parent, kind and name. The registry's lock is held for the look-up only. Whoever changes what exists holds the
 * parent's `change` meanwhile, so that a name that was free while something was written to disk is still free
 * afterwards.
 *
 * The registry holds one reference to each object until it is removed, users of the engine and children hold others.
 * The last one frees the object; of a removed topic that is when its logs go from the disk, as with any unlinked file.
 */
#define HASH_NONFATAL_OOM 1

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/local_exchange.h"
#include "engine/local_member.h"
#include "engine/local_queue.h"
#include "engine/local_tx.h"

/* ---- references ---- */

void object_init(struct local *local, struct object *object, enum engine_kind kind, uint64_t id, struct object *parent)
{
	object->base.engine = &local->base;
	atomic_init(&object->refs, 1);
	object->kind = kind;
	object->id = id;
	object->parent = parent != NULL ? object_ref(parent) : NULL;
	object->key.parent_id = parent != NULL ? parent->id : 0;
	object->key.kind = (uint32_t)kind;
	pthread_mutex_init(&object->change, NULL);
}

struct object *object_ref(struct object *object)
{
	uint32_t before = atomic_fetch_add_explicit(&object->refs, 1, memory_order_relaxed);

	assert(before > 0);
	(void)before;
	return object;
}

bool object_try_ref(struct object *object)
{
	uint32_t refs = atomic_load(&object->refs);

	while (refs > 0) {
		if (atomic_compare_exchange_weak(&object->refs, &refs, refs + 1))
			return true;
	}
	return false;
}

int object_keep(struct object *object, enum engine_keep how)
{
	const struct engine_users *users = &local_of(object)->users;
	int rc = users->keep != NULL ? users->keep(users->ctx, object->owner.uid, how) : 0;

	if (rc < 0)
		return rc == -EDQUOT && how == ENGINE_KEEP_IF_ROOM ? -EUSERS : rc;
	object->kept = users->keep != NULL;
	object->keeper = object->owner.uid;
	return 0;
}

void object_release(struct object *object)
{
	struct object *parent = object->parent;

	if (object->kept)
		local_of(object)->users.unkeep(local_of(object)->users.ctx, object->keeper);
	free(object->children.items);
	free(object->values);
	pthread_mutex_destroy(&object->change);
	free(object);
	object_put(parent);
}

void object_put(struct object *object)
{
	if (object == NULL || atomic_fetch_sub(&object->refs, 1) > 1)
		return;
	if (object->is_defaults)
		object_release(object);
	else if (object->kind == ENGINE_TOPIC)
		topic_free(topic_of_object(object));
	else if (object->kind == ENGINE_GROUP)
		group_free(group_of_object(object));
	else if (object->kind == ENGINE_QUEUE)
		queue_free(queue_of_object(object));
	else if (object->kind == ENGINE_MEMBER)
		member_free(member_of_object(object));
	else if (object->kind == ENGINE_EXCHANGE)
		exchange_free(exchange_of_object(object));
	else if (object->kind == ENGINE_TX)
		tx_free(tx_of_object(object));
	else
		object_release(object);
}

/* ---- arrays by id; registry lock, as for all up to the next heading ---- */

/* Place of the first object with an id above `after`. */
static size_t list_place(const struct object_list *list, uint64_t after)
{
	size_t low = 0, high = list->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (list->items[middle]->id <= after)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Room for as many more. */
static int list_reserve(struct object_list *list, size_t more)
{
	size_t room = list->room > 0 ? list->room * 2 : 4;
	struct object **items;

	if (list->count + more <= list->room)
		return 0;
	while (room < list->count + more)
		room *= 2;
	items = realloc(list->items, room * sizeof(struct object *));
	if (items == NULL)
		return -ENOMEM;
	list->items = items;
	list->room = room;
	return 0;
}

/* There is room. */
static void list_add(struct object_list *list, struct object *object)
{
	size_t place = list_place(list, object->id);

	memmove(&list->items[place + 1], &list->items[place], (list->count - place) * sizeof(struct object *));
	list->items[place] = object;
	list->count++;
}

static void list_remove(struct object_list *list, const struct object *object)
{
	size_t place = list_place(list, object->id - 1);

	assert(place < list->count && list->items[place] == object);
	list->count--;
	memmove(&list->items[place], &list->items[place + 1], (list->count - place) * sizeof(struct object *));
}

#ifdef MQFS_DEBUG
static void check_list(const struct object_list *list, const struct object *parent)
{
	for (size_t i = 0; i < list->count; i++) {
		assert(i == 0 || list->items[i - 1]->id < list->items[i]->id);
		assert(parent == NULL || list->items[i]->parent == parent);
		assert(atomic_load(&list->items[i]->refs) > 0);
	}
}

/* Of a large registry now and then only: looking at all of it at every change would make filling it quadratic. */
static void check_invariants(struct local *local, const struct object *parent)
{
	assert(HASH_COUNT(local->names) == local->objects.count);
	if (local->objects.count > 256 && local->objects.count % 256 != 0)
		return;
	check_list(&local->objects, NULL);
	if (parent != NULL)
		check_list(&parent->children, parent);
}
#else
static void check_invariants(struct local *local, const struct object *parent)
{
	(void)local;
	(void)parent;
}
#endif

/* ---- by name ---- */

static size_t key_size(const struct object_key *key)
{
	return offsetof(struct object_key, name) + strlen(key->name);
}

/* registry lock */
static struct object *find_name(struct local *local, uint64_t parent_id, enum engine_kind kind, const char *name)
{
	struct object_key key = { .parent_id = parent_id, .kind = (uint32_t)kind };
	struct object *found = NULL;
	size_t len = strlen(name);

	if (len > ENGINE_NAME_MAX)
		return NULL;
	memcpy(key.name, name, len);
	HASH_FIND(hh, local->names, &key, key_size(&key), found);
	return found;
}

/* registry lock. Needs no memory but for the store, the first: without it the table stays as large as it is. */
static int hash_name(struct local *local, struct object *object)
{
	HASH_ADD_KEYPTR(hh, local->names, &object->key, key_size(&object->key), object);
	if (object->hh.tbl == NULL && local->names != NULL) {
		unsigned int noexpand = local->names->hh.tbl->noexpand;

		local->names->hh.tbl->noexpand = 1;
		HASH_ADD_KEYPTR(hh, local->names, &object->key, key_size(&object->key), object);
		local->names->hh.tbl->noexpand = noexpand;
	}
	return object->hh.tbl != NULL ? 0 : -ENOMEM;
}

/* ---- the registry ---- */

int registry_reserve(struct local *local, struct object *object, struct object *below)
{
	int rc;

	pthread_rwlock_wrlock(&local->registry);
	rc = list_reserve(&local->objects, local->reserved + 2);
	if (rc == 0 && object->parent != NULL)
		rc = list_reserve(&object->parent->children, 1);
	if (rc == 0 && below != NULL)
		rc = list_reserve(&object->children, 1);
	if (rc == 0)
		local->reserved += 2;
	pthread_rwlock_unlock(&local->registry);
	return rc;
}

void registry_unreserve(struct local *local)
{
	pthread_rwlock_wrlock(&local->registry);
	local->reserved -= 2;
	pthread_rwlock_unlock(&local->registry);
}

/* registry lock; there is room. */
static int enter_one(struct local *local, struct object *object)
{
	int rc = hash_name(local, object);

	if (rc < 0)
		return rc;
	list_add(&local->objects, object);
	if (object->parent != NULL)
		list_add(&object->parent->children, object);
	return 0;
}

int registry_enter(struct local *local, struct object *object, struct object *below)
{
	int rc;

	pthread_rwlock_wrlock(&local->registry);
	local->reserved -= 2;
	rc = enter_one(local, object);
	if (rc == 0 && below != NULL)
		rc = enter_one(local, below);
	check_invariants(local, object->parent);
	pthread_rwlock_unlock(&local->registry);
	return rc;
}

int registry_add(struct local *local, struct object *object)
{
	int rc = registry_reserve(local, object, NULL);

	return rc < 0 ? rc : registry_enter(local, object, NULL);
}

void registry_remove(struct local *local, struct object *object)
{
	pthread_rwlock_wrlock(&local->registry);
	HASH_DELETE(hh, local->names, object);
	list_remove(&local->objects, object);
	if (object->parent != NULL)
		list_remove(&object->parent->children, object);
	check_invariants(local, object->parent);
	pthread_rwlock_unlock(&local->registry);
	object_put(object);
}

void registry_clear(struct local *local)
{
	while (local->objects.count > 0)
		registry_remove(local, local->objects.items[local->objects.count - 1]);
	free(local->objects.items);
	local->objects = (struct object_list){ 0 };
}

struct object *registry_get(struct local *local, uint64_t id)
{
	struct object *object = NULL;
	size_t place;

	if (id == 0)
		return NULL;
	pthread_rwlock_rdlock(&local->registry);
	place = list_place(&local->objects, id - 1);
	if (place < local->objects.count && local->objects.items[place]->id == id)
		object = object_ref(local->objects.items[place]);
	pthread_rwlock_unlock(&local->registry);
	return object;
}

struct object *registry_find(struct local *local, uint64_t parent_id, enum engine_kind kind, const char *name)
{
	struct object *found;

	pthread_rwlock_rdlock(&local->registry);
	found = find_name(local, parent_id, kind, name);
	if (found != NULL)
		object_ref(found);
	pthread_rwlock_unlock(&local->registry);
	return found;
}

bool registry_has_name(struct local *local, uint64_t parent_id, enum engine_kind kind, const char *name)
{
	bool has;

	pthread_rwlock_rdlock(&local->registry);
	has = find_name(local, parent_id, kind, name) != NULL;
	pthread_rwlock_unlock(&local->registry);
	return has;
}

void registry_rename(struct local *local, struct object *object, const char *name)
{
	pthread_rwlock_wrlock(&local->registry);
	HASH_DELETE(hh, local->names, object);
	memset(object->key.name, 0, sizeof(object->key.name));
	memcpy(object->key.name, name, strlen(name));
	hash_name(local, object);
	check_invariants(local, object->parent);
	pthread_rwlock_unlock(&local->registry);
}

struct object *registry_next(struct local *local, struct object *parent, enum engine_kind kind, uint64_t after)
{
	const struct object_list *list = parent != NULL ? &parent->children : &local->objects;
	struct object *object = NULL;

	pthread_rwlock_rdlock(&local->registry);
	for (size_t i = list_place(list, after); i < list->count && object == NULL; i++) {
		if (list->items[i]->kind == kind)
			object = object_ref(list->items[i]);
	}
	pthread_rwlock_unlock(&local->registry);
	return object;
}

void object_name(struct object *object, char ret_name[ENGINE_NAME_MAX + 1])
{
	struct local *local = local_of(object);

	pthread_rwlock_rdlock(&local->registry);
	memcpy(ret_name, object->key.name, ENGINE_NAME_MAX + 1);
	pthread_rwlock_unlock(&local->registry);
}

int object_explain_size(struct object *object, uint64_t bytes, int64_t max_bytes)
{
	char name[ENGINE_NAME_MAX + 1];

	object_name(object, name);
	return engine_explain(-EMSGSIZE,
	    "a message of %" PRIu64 " bytes is over max.message.bytes, which is %" PRId64 " for the %s %s", bytes,
	    max_bytes, engine_kind_word(object->kind), name);
}

void object_changed(struct object *object)
{
	struct local *local = local_of(object);

	pthread_rwlock_wrlock(&local->registry);
	object->mtime_ms = clock_wall_ms();
	pthread_rwlock_unlock(&local->registry);
}

/* ---- the beginning of calls ---- */

int object_enter_any(struct engine_object *base, struct object **ret_object)
{
	struct object *object = object_of(base);

	engine_reason_clear();
	if (object->is_defaults)
		return engine_explain(-EINVAL, "defaults have settings and nothing else");
	if (atomic_load(&object->removed))
		return -EIDRM;
	*ret_object = object;
	return 0;
}

int object_enter(struct engine_object *base, enum engine_kind kind, struct object **ret_object)
{
	struct object *object = NULL;
	int rc = object_enter_any(base, &object);

	if (rc < 0)
		return rc;
	if (object->kind != kind)
		return -EINVAL;
	*ret_object = object;
	return 0;
}

int object_enter_change(struct engine_object *base, enum engine_kind kind, struct object **ret_object)
{
	struct object *object = NULL;
	int rc = object_enter(base, kind, &object);

	if (rc < 0)
		return rc;
	if (local_of(object)->read_only)
		return engine_explain(-EROFS, "the store is mounted read-only");
	*ret_object = object;
	return 0;
}

/* ---- calls ---- */

int local_lookup(struct engine *engine, struct engine_object *parent, enum engine_kind kind, const char *name,
    struct engine_object **ret_object)
{
	struct local *local = (struct local *)engine;
	struct object *above = NULL, *found;
	int rc;

	queue_catch_up(local);
	rc = object_enter_any(parent, &above);

	if (rc < 0)
		return rc == -EIDRM ? -ENOENT : rc;
	pthread_rwlock_rdlock(&local->registry);
	found = find_name(local, above->id, kind, name);
	if (found != NULL)
		object_ref(found);
	pthread_rwlock_unlock(&local->registry);
	if (found == NULL)
		return -ENOENT;
	*ret_object = &found->base;
	return 0;
}

int local_get(struct engine *engine, uint64_t id, struct engine_object **ret_object)
{
	struct object *found;

	engine_reason_clear();
	queue_catch_up((struct local *)engine);
	found = registry_get((struct local *)engine, id);
	if (found == NULL)
		return -ENOENT;
	*ret_object = &found->base;
	return 0;
}

struct engine_object *local_ref(struct engine_object *base)
{
	return &object_ref(object_of(base))->base;
}

void local_put(struct engine_object *base)
{
	if (base != NULL)
		object_put(object_of(base));
}

int local_list(struct engine *engine, struct engine_object *parent, enum engine_kind kind, uint64_t after,
    bool (*each)(void *ctx, const struct engine_dirent *entry), void *ctx)
{
	struct local *local = (struct local *)engine;
	struct object *above = NULL;
	bool more = true;
	int rc;

	queue_catch_up(local);
	rc = object_enter_any(parent, &above);
	if (rc < 0)
		return rc;
	pthread_rwlock_rdlock(&local->registry);
	for (size_t i = list_place(&above->children, after); i < above->children.count && more; i++) {
		const struct object *child = above->children.items[i];

		if (child->kind == kind)
			more = each(ctx, &(struct engine_dirent){ child->id, child->kind, child->key.name });
	}
	pthread_rwlock_unlock(&local->registry);
	return 0;
}

int local_identity(struct engine_object *base, struct engine_identity *ret_identity)
{
	struct object *object = NULL;
	int rc = object_enter_any(base, &object);

	if (rc < 0)
		return rc;
	ret_identity->id = object->id;
	ret_identity->parent_id = object->key.parent_id;
	ret_identity->kind = object->kind;
	object_name(object, ret_identity->name);
	return 0;
}
