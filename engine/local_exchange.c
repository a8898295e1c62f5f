/*
 * local_exchange - the life of an exchange and its bindings; where a message goes is in local_route.c.
 *
 * A row of the catalog is written before the memory changes, and what has no memory then is taken out of the catalog
 * again. The type is kept as a setting of that name, which is in no table: users see it as a file of its own. A binding whose
 * target is not there any more (which takes damage) is left out, and reported.
 */
#define HASH_NONFATAL_OOM 1

#include "engine/local_exchange.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/local_queue.h"
#include "engine/local_tx.h"

#define TYPE_SETTING "type"

static const char *const type_names[] = {
	[ENGINE_TOPIC_EXCHANGE] = "topic",
	[ENGINE_DIRECT] = "direct",
	[ENGINE_FANOUT] = "fanout",
	[ENGINE_HEADERS] = "headers",
};

struct touched {
	uint64_t id;
	UT_hash_handle hh;
};

/* ---- whose they are: each pattern and each binding counts as one of the objects of who has the exchange ---- */

static int keep_one(struct exchange *exchange, enum engine_keep how)
{
	struct local *local = local_of(&exchange->object);
	uint32_t uid = exchange->object.keeper;
	int rc = exchange->object.kept ? local->users.keep(local->users.ctx, uid, how) : 0;

	if (rc == 0)
		atomic_fetch_add(&exchange->kept, exchange->object.kept);
	return rc;
}

/* EDQUOT: there are as many as may be, and none of that user's transactions has ended. No lock may be held. */
static int keep_another(struct exchange *exchange)
{
	enum engine_keep how = ENGINE_KEEP_IF_ROOM;
	int rc = keep_one(exchange, how);

	while (rc == -EDQUOT && how == ENGINE_KEEP_IF_ROOM) {
		rc = tx_make_room(local_of(&exchange->object), exchange->object.keeper, &how);
		if (rc == 0)
			rc = keep_one(exchange, how);
	}
	return rc;
}

static void unkeep_one(struct exchange *exchange)
{
	struct local *local = local_of(&exchange->object);

	if (!exchange->object.kept)
		return;
	atomic_fetch_sub(&exchange->kept, 1);
	local->users.unkeep(local->users.ctx, exchange->object.keeper);
}

/* ---- life ---- */

struct exchange *exchange_new(struct local *local, uint64_t id)
{
	struct exchange *exchange = calloc(1, sizeof(*exchange));

	if (exchange == NULL)
		return NULL;
	object_init(local, &exchange->object, ENGINE_EXCHANGE, id, local->root);
	pthread_mutex_init(&exchange->touch_lock, NULL);
	pthread_mutex_init(&exchange->forward_lock, NULL);
	if (bindings_init(&exchange->bindings, ENGINE_TOPIC_EXCHANGE) < 0 ||
	    settings_init(&exchange->object, local->defaults[ENGINE_EXCHANGE]) < 0) {
		exchange_free(exchange);
		return NULL;
	}
	return exchange;
}

void exchange_free(struct exchange *exchange)
{
	struct touched *one, *next;

	HASH_ITER (hh, exchange->touched, one, next) {
		HASH_DELETE(hh, exchange->touched, one);
		free(one);
	}
	while (atomic_load(&exchange->kept) > 0)
		unkeep_one(exchange);
	pthread_mutex_destroy(&exchange->touch_lock);
	pthread_mutex_destroy(&exchange->forward_lock);
	bindings_release(&exchange->bindings);
	object_release(&exchange->object);
}

static bool is_target(const struct object *object)
{
	return object->kind == ENGINE_TOPIC || object->kind == ENGINE_EXCHANGE ||
	       (object->kind == ENGINE_QUEUE && object->parent->kind == ENGINE_STORE);
}

static int load_binding(void *ctx, const struct catalog_binding *row)
{
	struct exchange *exchange = ctx;
	struct object *target;
	int rc;

	if (row->name[0] == '\0') {
		rc = bindings_add_pattern(&exchange->bindings, row->pattern);
		return rc == -ENOMEM ? rc : 0;
	}
	target = registry_get(local_of(&exchange->object), row->target_id);
	rc = target != NULL && is_target(target)
		 ? bindings_add(&exchange->bindings, row->pattern, row->name, row->target_id)
		 : -ENOENT;
	if (rc == 0)
		atomic_fetch_add(&target->bound, 1);
	else if (rc != -ENOMEM)
		local_notify(local_of(&exchange->object), EIO,
		    "exchange %s: a binding leads to what is not there, and is left out", exchange->object.key.name);
	object_put(target);
	return rc == -ENOMEM ? rc : 0;
}

static int load_type(void *ctx, const char *name, const char *value)
{
	struct exchange *exchange = ctx;

	for (size_t i = 0; strcmp(name, TYPE_SETTING) == 0 && i < sizeof(type_names) / sizeof(type_names[0]); i++) {
		if (strcmp(value, type_names[i]) == 0)
			return bindings_set_type(&exchange->bindings, (enum engine_exchange_type)i);
	}
	return 0;
}

int exchange_load(struct exchange *exchange)
{
	struct catalog *catalog = local_of(&exchange->object)->catalog;
	int rc = settings_load(&exchange->object);

	if (rc == 0)
		rc = catalog_each_setting(catalog, exchange->object.id, ENGINE_EXCHANGE, load_type, exchange);
	if (rc == 0)
		rc = catalog_each_binding(catalog, exchange->object.id, load_binding, exchange);
	for (uint64_t i = exchange->bindings.count + exchange->bindings.total; i > 0 && rc == 0; i--)
		rc = keep_one(exchange, ENGINE_KEEP_THERE);
	return rc;
}

int exchange_check_removal(struct object *object)
{
	if (object->kind == ENGINE_EXCHANGE && exchange_of_object(object)->bindings.count > 0)
		return engine_explain(-ENOTEMPTY, "the exchange has bindings");
	if (atomic_load(&object->bound) > 0)
		return engine_explain(-EBUSY, "an exchange is bound to it");
	return 0;
}

/* ---- where a message goes ---- */

static int world_find(void *ctx, uint64_t id, struct engine_span key, const struct engine_header *headers,
    uint32_t header_count, struct routing_match *match, bool *ret_matched)
{
	struct object *object = registry_get(ctx, id);
	struct exchange *exchange = exchange_of_object(object);
	int rc;

	if (object == NULL)
		return -ENOENT;
	rc = routing_find(exchange->bindings.routing, key, headers, header_count, match, ret_matched);
	object_put(object);
	return rc;
}

static bool world_is_exchange(void *ctx, uint64_t id)
{
	struct object *object = registry_get(ctx, id);
	bool is = object != NULL && object->kind == ENGINE_EXCHANGE;

	object_put(object);
	return is;
}

static uint64_t alternate_of(struct local *local, const char *value)
{
	struct object *object =
	    value != NULL ? registry_find(local, local->root->id, ENGINE_EXCHANGE, value + strlen("exchanges/")) : NULL;
	uint64_t id = object != NULL ? object->id : 0;

	object_put(object);
	return id;
}

static uint64_t world_alternate(void *ctx, uint64_t id)
{
	struct object *object = registry_get(ctx, id);
	uint64_t alternate = 0;

	if (object != NULL)
		alternate = alternate_of(ctx, settings_text(setting_value(object, SET_EXCHANGE_ALTERNATE)));
	object_put(object);
	return alternate;
}

static int world_exchanges(void *ctx, uint64_t id, struct routing_match *match);

static struct bindings_world world_of(struct local *local)
{
	return (struct bindings_world){ world_find, world_is_exchange, world_alternate, world_exchanges, local };
}

static int world_exchanges(void *ctx, uint64_t id, struct routing_match *match)
{
	const struct bindings_world world = world_of(ctx);
	struct object *object = registry_get(ctx, id);
	int rc = object != NULL ? bindings_add_exchanges(&exchange_of_object(object)->bindings, &world, match) : 0;

	object_put(object);
	return rc;
}

int exchange_route(struct exchange *exchange, struct engine_span key, const struct engine_header *headers,
    uint32_t header_count, struct routing_match *match)
{
	const struct bindings_world world = world_of(local_of(&exchange->object));

	return bindings_route(&world, exchange->object.id, key, headers, header_count, match);
}

int exchange_check_routed(struct exchange *exchange, const struct routing_match *match, struct engine_span key)
{
	char name[ENGINE_NAME_MAX + 1];

	if (match->count > 0 || setting_value(&exchange->object, SET_EXCHANGE_MANDATORY) == 0)
		return 0;
	object_name(&exchange->object, name);
	if (key.ptr == NULL)
		return engine_explain(
		    -EHOSTUNREACH, "no binding of the exchange %s matches a message without routing key", name);
	return engine_explain(
	    -EHOSTUNREACH, "no binding of the exchange %s matches the routing key %.*s", name, (int)key.len, key.ptr);
}

/* ---- what it reached ---- */

/* touch_lock */
static int touch_one(struct exchange *exchange, uint64_t id)
{
	struct touched *one;

	HASH_FIND(hh, exchange->touched, &id, sizeof(id), one);
	if (one != NULL)
		return 0;
	one = calloc(1, sizeof(*one));
	if (one == NULL)
		return -ENOMEM;
	one->id = id;
	HASH_ADD(hh, exchange->touched, id, sizeof(one->id), one);
	if (one->hh.tbl != NULL)
		return 0;
	free(one);
	return -ENOMEM;
}

int exchange_touch(struct exchange *exchange, const struct routing_match *match)
{
	int rc = 0;

	pthread_mutex_lock(&exchange->touch_lock);
	for (size_t i = 0; i < match->count && rc == 0; i++)
		rc = touch_one(exchange, match->targets[i]);
	pthread_mutex_unlock(&exchange->touch_lock);
	return rc;
}

int exchange_touched(struct exchange *exchange, uint64_t **ret_ids, size_t *ret_count)
{
	struct touched *one, *next;
	uint64_t *ids;
	size_t count = 0;

	pthread_mutex_lock(&exchange->touch_lock);
	ids = malloc((HASH_COUNT(exchange->touched) + 1) * sizeof(*ids));
	HASH_ITER (hh, exchange->touched, one, next) {
		if (ids != NULL)
			ids[count++] = one->id;
	}
	pthread_mutex_unlock(&exchange->touch_lock);
	if (ids == NULL)
		return -ENOMEM;
	*ret_ids = ids;
	*ret_count = count;
	return 0;
}

/* ---- circles ---- */

/* root.change */
static int check_circle(struct local *local, uint64_t from, uint64_t to)
{
	const struct bindings_world world = world_of(local);

	return bindings_check_circle(&world, from, to);
}

int exchange_check_alternate(struct exchange *exchange, const char *value)
{
	struct local *local = local_of(&exchange->object);
	uint64_t alternate;

	if (strncmp(value, "exchanges/", strlen("exchanges/")) != 0)
		return 0;
	alternate = alternate_of(local, value);
	if (alternate == 0)
		return engine_explain(-ENOENT, "there is no exchange %s", value + strlen("exchanges/"));
	return check_circle(local, alternate, exchange->object.id);
}

int exchange_check_name(struct exchange *exchange, const char *name)
{
	struct local *local = local_of(&exchange->object);
	struct object *other = NULL, *next;
	const char *alternate;
	int rc = 0;

	while (rc == 0 &&
	       (next = registry_next(local, local->root, ENGINE_EXCHANGE, other != NULL ? other->id : 0)) != NULL) {
		object_put(other);
		other = next;
		alternate = settings_text(setting_value(other, SET_EXCHANGE_ALTERNATE));
		if (alternate != NULL && strcmp(alternate + strlen("exchanges/"), name) == 0)
			rc = check_circle(local, exchange->object.id, other->id);
	}
	object_put(other);
	return rc;
}

/* ---- calls ---- */

static int enter(struct engine_object *base, bool change, struct exchange **ret_exchange)
{
	struct object *object = NULL;
	int rc;

	queue_catch_up((struct local *)base->engine); /* by what is bound until now */
	rc =
	    change ? object_enter_change(base, ENGINE_EXCHANGE, &object) : object_enter(base, ENGINE_EXCHANGE, &object);
	if (rc == 0)
		*ret_exchange = exchange_of_object(object);
	return rc;
}

static int get_type(struct engine_object *base, enum engine_exchange_type *ret_type)
{
	struct exchange *exchange = NULL;
	int rc = enter(base, false, &exchange);

	if (rc < 0)
		return rc;
	pthread_rwlock_rdlock(&local_of(&exchange->object)->routes);
	*ret_type = exchange->bindings.type;
	pthread_rwlock_unlock(&local_of(&exchange->object)->routes);
	return 0;
}

/* root.change */
static int change_type(struct exchange *exchange, enum engine_exchange_type type)
{
	struct local *local = local_of(&exchange->object);
	const struct catalog_setting row = { TYPE_SETTING, type_names[type] };
	bool again = false;
	int rc = 0;

	if (atomic_load(&exchange->object.removed))
		return -EIDRM;
	if (type != exchange->bindings.type && exchange->bindings.count > 0)
		return bindings_set_type(&exchange->bindings, type); /* says why not */
	do
		rc = catalog_put_settings(local->catalog, exchange->object.id, ENGINE_EXCHANGE, &row, 1);
	while (reserve_again(local, rc, &again));
	if (rc < 0)
		return rc;
	pthread_rwlock_wrlock(&local_of(&exchange->object)->routes);
	rc = bindings_set_type(&exchange->bindings, type);
	pthread_rwlock_unlock(&local_of(&exchange->object)->routes);
	return rc;
}

static int set_type(struct engine_object *base, enum engine_exchange_type type)
{
	struct exchange *exchange = NULL;
	int rc = enter(base, true, &exchange);

	if (rc < 0)
		return rc;
	if ((unsigned int)type >= sizeof(type_names) / sizeof(type_names[0]))
		return -EINVAL;
	pthread_mutex_lock(&exchange->object.parent->change);
	rc = change_type(exchange, type);
	pthread_mutex_unlock(&exchange->object.parent->change);
	if (rc == 0)
		object_changed(&exchange->object);
	return rc;
}

static int fill_row(
    struct exchange *exchange, const char *pattern, const char *name, uint64_t target, struct catalog_binding *row)
{
	if (strlen(pattern) >= sizeof(row->pattern) || strlen(name) >= sizeof(row->name))
		return -ENAMETOOLONG;
	row->exchange_id = exchange->object.id;
	row->target_id = target;
	strcpy(row->pattern, pattern);
	strcpy(row->name, name);
	return 0;
}

static int put_row(struct exchange *exchange, const struct catalog_binding *row)
{
	struct local *local = local_of(&exchange->object);
	int rc = reserve_check(local);

	return rc < 0 ? rc : catalog_put_binding(local->catalog, row);
}

static int drop_row(struct exchange *exchange, const struct catalog_binding *row)
{
	struct local *local = local_of(&exchange->object);
	bool again = false;
	int rc;

	do
		rc = catalog_drop_binding(local->catalog, row);
	while (reserve_again(local, rc, &again));
	return rc == -ENODATA ? 0 : rc;
}

/* root.change. target NULL: a pattern alone, and name is "" */
static int add(struct exchange *exchange, const char *pattern, const char *name, struct object *target)
{
	struct catalog_binding row;
	uint64_t found;
	int rc = fill_row(exchange, pattern, name, target != NULL ? target->id : 0, &row);

	if (atomic_load(&exchange->object.removed) || (target != NULL && atomic_load(&target->removed)))
		return -EIDRM;
	if (rc == 0 && target == NULL)
		rc = routing_check(exchange->bindings.type, pattern);
	if (rc == 0 && target != NULL)
		rc = bindings_find(&exchange->bindings, pattern, NULL, &found);
	if (rc == 0 && bindings_find(&exchange->bindings, pattern, target != NULL ? name : NULL, &found) == 0)
		rc = -EEXIST;
	if (rc == 0 && target != NULL && target->kind == ENGINE_EXCHANGE)
		rc = check_circle(local_of(target), target->id, exchange->object.id);
	if (rc == 0)
		rc = put_row(exchange, &row);
	if (rc < 0)
		return rc;
	pthread_rwlock_wrlock(&local_of(&exchange->object)->routes);
	rc = target != NULL ? bindings_add(&exchange->bindings, pattern, name, target->id)
			    : bindings_add_pattern(&exchange->bindings, pattern);
	pthread_rwlock_unlock(&local_of(&exchange->object)->routes);
	if (rc < 0)
		drop_row(exchange, &row);
	else if (target != NULL)
		atomic_fetch_add(&target->bound, 1);
	return rc;
}

/* A queue is in use as long as it is bound: expires.ms begins now. */
static void unbound(struct object *target)
{
	struct queue *queue = queue_of_object(target);

	atomic_fetch_sub(&target->bound, 1);
	if (target->kind != ENGINE_QUEUE)
		return;
	pthread_mutex_lock(&queue->lock);
	queue_used(queue);
	queue_set_timer(queue);
	pthread_mutex_unlock(&queue->lock);
}

/* root.change. name NULL: the pattern */
static int take_out(struct exchange *exchange, const char *pattern, const char *name)
{
	struct local *local = local_of(&exchange->object);
	const struct binding_pattern *there = NULL;
	struct catalog_binding row;
	struct object *target;
	uint64_t found = 0;
	int rc = fill_row(exchange, pattern, name != NULL ? name : "", 0, &row);

	if (rc == 0)
		rc = bindings_find(&exchange->bindings, pattern, name, &found);
	for (size_t i = 0; rc == 0 && name == NULL && there == NULL; i++) {
		if (strcmp(exchange->bindings.patterns[i]->text, pattern) == 0)
			there = exchange->bindings.patterns[i];
	}
	if (there != NULL && there->count > 0)
		rc = -ENOTEMPTY;
	if (rc == 0)
		rc = drop_row(exchange, &row);
	if (rc < 0)
		return rc;
	pthread_rwlock_wrlock(&local_of(&exchange->object)->routes);
	rc = name != NULL ? bindings_remove(&exchange->bindings, pattern, name)
			  : bindings_remove_pattern(&exchange->bindings, pattern);
	pthread_rwlock_unlock(&local_of(&exchange->object)->routes);
	unkeep_one(exchange);
	target = name != NULL ? registry_get(local, found) : NULL;
	if (target != NULL)
		unbound(target);
	object_put(target);
	return rc;
}

/* root.change */
static int rename_one(
    struct exchange *exchange, const char *pattern, const char *name, const char *new_name, bool replace)
{
	struct local *local = local_of(&exchange->object);
	struct catalog_binding row;
	struct binding_entry *entry;
	struct object *target;
	uint64_t found = 0, replaced = 0;
	int rc = fill_row(exchange, pattern, name, 0, &row);

	if (atomic_load(&exchange->object.removed))
		return -EIDRM;
	if (rc == 0)
		rc = bindings_find(&exchange->bindings, pattern, name, &row.target_id);
	if (rc < 0 || strcmp(name, new_name) == 0)
		return rc;
	if (new_name[0] == '\0' || strlen(new_name) >= sizeof(row.name))
		return new_name[0] == '\0' ? -EINVAL : -ENAMETOOLONG;
	if (!replace && bindings_find(&exchange->bindings, pattern, new_name, &found) == 0)
		return -EEXIST;
	entry = binding_entry_new(new_name, row.target_id);
	rc = entry != NULL ? reserve_check(local) : -ENOMEM;
	if (rc == 0)
		rc = catalog_rename_binding(local->catalog, &row, new_name);
	if (rc < 0) {
		free(entry);
		return rc;
	}
	pthread_rwlock_wrlock(&local->routes);
	replaced = bindings_rename(&exchange->bindings, pattern, name, entry);
	pthread_rwlock_unlock(&local->routes);
	if (replaced != 0)
		unkeep_one(exchange);
	target = replaced != 0 ? registry_get(local, replaced) : NULL;
	if (target != NULL)
		unbound(target);
	object_put(target);
	return 0;
}

static int rename_binding(
    struct engine_object *base, const char *pattern, const char *name, const char *new_name, bool replace)
{
	struct exchange *exchange = NULL;
	int rc = enter(base, true, &exchange);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&exchange->object.parent->change);
	rc = rename_one(exchange, pattern, name, new_name, replace);
	pthread_mutex_unlock(&exchange->object.parent->change);
	if (rc == 0)
		object_changed(&exchange->object);
	return rc;
}

/* A pattern alone, or a binding; counted for who has the exchange. */
static int add_counted(struct exchange *exchange, const char *pattern, const char *name, struct object *target)
{
	int rc = keep_another(exchange);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&exchange->object.parent->change);
	rc = add(exchange, pattern, name, target);
	pthread_mutex_unlock(&exchange->object.parent->change);
	if (rc < 0)
		unkeep_one(exchange);
	else
		object_changed(&exchange->object);
	return rc;
}

static int pattern_add(struct engine_object *base, const char *pattern)
{
	struct exchange *exchange = NULL;
	int rc = enter(base, true, &exchange);

	return rc < 0 ? rc : add_counted(exchange, pattern, "", NULL);
}

static int bind(struct engine_object *base, const char *pattern, const char *name, struct engine_object *target)
{
	struct exchange *exchange = NULL;
	struct object *to = NULL;
	int rc = enter(base, true, &exchange);

	if (rc == 0)
		rc = object_enter_any(target, &to);
	if (rc < 0)
		return rc;
	if (!is_target(to))
		return engine_explain(-EINVAL, "a queue, a topic or an exchange can be bound");
	if (name[0] == '\0')
		return -EINVAL;
	return add_counted(exchange, pattern, name, to);
}

static int remove_one(struct engine_object *base, const char *pattern, const char *name)
{
	struct exchange *exchange = NULL;
	int rc = enter(base, true, &exchange);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&exchange->object.parent->change);
	rc = take_out(exchange, pattern, name);
	pthread_mutex_unlock(&exchange->object.parent->change);
	if (rc == 0)
		object_changed(&exchange->object);
	return rc;
}

static int pattern_remove(struct engine_object *base, const char *pattern)
{
	return remove_one(base, pattern, NULL);
}

static int find(struct engine_object *base, const char *pattern, const char *name, uint64_t *ret_target)
{
	struct exchange *exchange = NULL;
	int rc = enter(base, false, &exchange);

	if (rc < 0)
		return rc;
	pthread_rwlock_rdlock(&local_of(&exchange->object)->routes);
	rc = bindings_find(&exchange->bindings, pattern, name, ret_target);
	pthread_rwlock_unlock(&local_of(&exchange->object)->routes);
	return rc;
}

static int list(struct engine_object *base, const char *pattern, const char *after,
    bool (*each)(void *ctx, const char *name, uint64_t target), void *ctx)
{
	struct exchange *exchange = NULL;
	int rc = enter(base, false, &exchange);

	if (rc < 0)
		return rc;
	pthread_rwlock_rdlock(&local_of(&exchange->object)->routes);
	rc = bindings_list(&exchange->bindings, pattern, after, each, ctx);
	pthread_rwlock_unlock(&local_of(&exchange->object)->routes);
	return rc;
}

static int exchange_stat(struct engine_object *base, struct engine_exchange_stat *ret_stat)
{
	struct exchange *exchange = NULL;
	int rc = enter(base, false, &exchange);

	if (rc < 0)
		return rc;
	pthread_rwlock_rdlock(&local_of(&exchange->object)->routes);
	ret_stat->patterns = exchange->bindings.count;
	ret_stat->bindings = exchange->bindings.total;
	pthread_rwlock_unlock(&local_of(&exchange->object)->routes);
	ret_stat->published = atomic_load(&exchange->published);
	ret_stat->routed = atomic_load(&exchange->routed);
	ret_stat->unroutable = atomic_load(&exchange->unroutable);
	ret_stat->refused = atomic_load(&exchange->refused);
	return 0;
}

const struct engine_exchange_ops local_exchange_ops = {
	.get_type = get_type,
	.set_type = set_type,
	.pattern_add = pattern_add,
	.pattern_remove = pattern_remove,
	.bind = bind,
	.unbind = remove_one,
	.rename = rename_binding,
	.binding = find,
	.list = list,
	.room = route_room,
	.exchange_stat = exchange_stat,
};
