/*
 * memory_exchange - the life of an exchange and its bindings. Where a message goes is in memory_route.c.
 */
#include "engine/memory_exchange.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/memory_queue.h"

/* ---- life ---- */

int memory_exchange_init(struct memory_object *exchange)
{
	struct memory_exchange *self = calloc(1, sizeof(*self));
	int rc = self != NULL ? bindings_init(&self->bindings, ENGINE_TOPIC_EXCHANGE) : -ENOMEM;

	if (rc < 0) {
		free(self);
		return rc;
	}
	exchange->exchange = self;
	return 0;
}

static void unkeep_one(struct memory_object *exchange)
{
	if (exchange->kept)
		exchange->memory->users.unkeep(exchange->memory->users.ctx, exchange->keeper);
}

void memory_exchange_free(struct memory_object *exchange)
{
	struct bindings *bindings = exchange->exchange != NULL ? &exchange->exchange->bindings : NULL;

	for (uint64_t i = bindings != NULL ? bindings->count + bindings->total : 0; i > 0; i--)
		unkeep_one(exchange);
	if (bindings != NULL)
		bindings_release(bindings);
	free(exchange->exchange);
}

int memory_check_removal(const struct memory_object *object)
{
	if (object->exchange != NULL && object->exchange->bindings.count > 0)
		return engine_explain(-ENOTEMPTY, "the exchange has bindings");
	if (object->bound > 0)
		return engine_explain(-EBUSY, "an exchange is bound to it");
	return 0;
}

/* ---- the world of bindings ---- */

struct memory_object *memory_find(struct memory_engine *memory, uint64_t id)
{
	for (size_t i = 0; i < memory->object_count; i++) {
		if (memory->objects[i]->id == id)
			return memory->objects[i];
	}
	return NULL;
}

static struct bindings *bindings_of(struct memory_engine *memory, uint64_t id)
{
	struct memory_object *object = memory_find(memory, id);

	return object != NULL && object->exchange != NULL ? &object->exchange->bindings : NULL;
}

static int world_find(void *ctx, uint64_t id, struct engine_span key, const struct engine_header *headers,
    uint32_t header_count, struct routing_match *match, bool *ret_matched)
{
	const struct bindings *bindings = bindings_of(ctx, id);

	if (bindings == NULL)
		return -ENOENT;
	return routing_find(bindings->routing, key, headers, header_count, match, ret_matched);
}

static bool world_is_exchange(void *ctx, uint64_t id)
{
	return bindings_of(ctx, id) != NULL;
}

/* The exchange that a value of alternate.exchange names. */
static struct memory_object *alternate_named(struct memory_engine *memory, const char *value)
{
	static const char prefix[] = "exchanges/";

	if (strncmp(value, prefix, strlen(prefix)) != 0)
		return NULL;
	return memory_find_child(memory, memory->objects[0], ENGINE_EXCHANGE, value + strlen(prefix));
}

static uint64_t world_alternate(void *ctx, uint64_t id)
{
	const struct memory_object *exchange = memory_find(ctx, id), *alternate;

	alternate = exchange != NULL ? alternate_named(ctx, memory_setting(exchange, "alternate.exchange")) : NULL;
	return alternate != NULL ? alternate->id : 0;
}

static int world_exchanges(void *ctx, uint64_t id, struct routing_match *match)
{
	const struct bindings_world world = memory_world(ctx);
	const struct bindings *bindings = bindings_of(ctx, id);

	return bindings != NULL ? bindings_add_exchanges(bindings, &world, match) : 0;
}

struct bindings_world memory_world(struct memory_engine *memory)
{
	return (struct bindings_world){ world_find, world_is_exchange, world_alternate, world_exchanges, memory };
}

int memory_check_alternate(struct memory_object *exchange, const char *value)
{
	const struct bindings_world world = memory_world(exchange->memory);
	const struct memory_object *alternate = alternate_named(exchange->memory, value);

	if (strcmp(value, "none") == 0)
		return 0;
	if (alternate == NULL)
		return engine_explain(-ENOENT, "there is no exchange %s", value + strlen("exchanges/"));
	return bindings_check_circle(&world, alternate->id, exchange->id);
}

int memory_check_name(struct memory_object *exchange, const char *name)
{
	const struct bindings_world world = memory_world(exchange->memory);
	char value[ENGINE_VALUE_MAX];
	int rc = 0;

	snprintf(value, sizeof(value), "exchanges/%s", name);
	for (size_t i = 0; i < exchange->memory->object_count && rc == 0; i++) {
		const struct memory_object *other = exchange->memory->objects[i];

		if (other->kind == ENGINE_EXCHANGE && strcmp(memory_setting(other, "alternate.exchange"), value) == 0)
			rc = bindings_check_circle(&world, exchange->id, other->id);
	}
	return rc;
}

/* ---- calls ---- */

/* As memory_enter, for a change. */
static int enter_change(struct memory_object *exchange)
{
	int rc = memory_enter(exchange, ENGINE_EXCHANGE);

	if (rc == 0 && exchange->memory->read_only) {
		memory_leave(exchange->memory);
		rc = -EROFS;
	}
	return rc;
}

static int leave_changed(struct memory_object *exchange, int rc)
{
	if (rc == 0)
		exchange->mtime_ms = clock_wall_ms();
	memory_leave(exchange->memory);
	return rc;
}

static int get_type(struct engine_object *exchange, enum engine_exchange_type *ret_type)
{
	struct memory_object *self = memory_of(exchange);
	int rc = memory_enter(self, ENGINE_EXCHANGE);

	if (rc < 0)
		return rc;
	*ret_type = self->exchange->bindings.type;
	memory_leave(self->memory);
	return 0;
}

static int set_type(struct engine_object *exchange, enum engine_exchange_type type)
{
	struct memory_object *self = memory_of(exchange);
	int rc = enter_change(self);

	if (rc < 0)
		return rc;
	if ((unsigned)type > ENGINE_HEADERS)
		return leave_changed(self, -EINVAL);
	return leave_changed(self, bindings_set_type(&self->exchange->bindings, type));
}

/* name NULL: a pattern. Counted for who has the exchange. */
static int add_counted(struct memory_object *exchange, const char *pattern, const char *name, uint64_t target)
{
	struct bindings *bindings = &exchange->exchange->bindings;
	int rc = exchange->kept ? memory_keep(exchange->memory, exchange->keeper) : 0;

	if (rc < 0)
		return rc;
	rc = name != NULL ? bindings_add(bindings, pattern, name, target) : bindings_add_pattern(bindings, pattern);
	if (rc < 0)
		unkeep_one(exchange);
	return rc;
}

static int pattern_remove_locked(struct memory_object *exchange, const char *pattern)
{
	int rc = bindings_remove_pattern(&exchange->exchange->bindings, pattern);

	if (rc == 0)
		unkeep_one(exchange);
	return rc;
}

static int pattern_add(struct engine_object *exchange, const char *pattern)
{
	struct memory_object *self = memory_of(exchange);
	int rc = enter_change(self);

	return rc < 0 ? rc : leave_changed(self, add_counted(self, pattern, NULL, 0));
}

static int pattern_remove(struct engine_object *exchange, const char *pattern)
{
	struct memory_object *self = memory_of(exchange);
	int rc = enter_change(self);

	return rc < 0 ? rc : leave_changed(self, pattern_remove_locked(self, pattern));
}

static bool is_target(const struct memory_object *object)
{
	return object->kind == ENGINE_TOPIC || object->kind == ENGINE_EXCHANGE ||
	       (object->kind == ENGINE_QUEUE && object->parent->kind == ENGINE_STORE);
}

static int bind_locked(
    struct memory_object *exchange, const char *pattern, const char *name, struct memory_object *target)
{
	const struct bindings_world world = memory_world(exchange->memory);
	struct bindings *bindings = &exchange->exchange->bindings;
	uint64_t found;
	int rc = bindings_find(bindings, pattern, NULL, &found);

	if (target->is_defaults || !is_target(target))
		return engine_explain(-EINVAL, "a queue, a topic or an exchange can be bound");
	if (name[0] == '\0')
		return -EINVAL;
	if (target->removed)
		return -EIDRM;
	if (rc == 0 && strlen(name) > ENGINE_NAME_MAX)
		rc = -ENAMETOOLONG;
	if (rc == 0 && bindings_find(bindings, pattern, name, &found) == 0)
		rc = -EEXIST;
	if (rc == 0 && target->kind == ENGINE_EXCHANGE)
		rc = bindings_check_circle(&world, target->id, exchange->id);
	if (rc == 0)
		rc = add_counted(exchange, pattern, name, target->id);
	if (rc == 0)
		target->bound++;
	return rc;
}

static int bind(struct engine_object *exchange, const char *pattern, const char *name, struct engine_object *target)
{
	struct memory_object *self = memory_of(exchange);
	int rc = enter_change(self);

	return rc < 0 ? rc : leave_changed(self, bind_locked(self, pattern, name, memory_of(target)));
}

static void unbound(struct memory_object *target)
{
	target->bound--;
	if (target->kind == ENGINE_QUEUE) { /* it is in use as long as it is bound: expires.ms begins now */
		memory_queue_used(target);
		memory_look_again(target);
	}
}

static int unbind_locked(struct memory_object *exchange, const char *pattern, const char *name)
{
	struct bindings *bindings = &exchange->exchange->bindings;
	uint64_t id;
	int rc = bindings_find(bindings, pattern, name, &id);

	if (rc == 0)
		rc = bindings_remove(bindings, pattern, name);
	if (rc < 0)
		return rc;
	unkeep_one(exchange);
	unbound(memory_find(exchange->memory, id));
	return 0;
}

static int rename_locked(
    struct memory_object *exchange, const char *pattern, const char *name, const char *new_name, bool replace)
{
	struct bindings *bindings = &exchange->exchange->bindings;
	struct binding_entry *entry;
	uint64_t target, found;
	int rc = bindings_find(bindings, pattern, name, &target);

	if (rc < 0 || strcmp(name, new_name) == 0)
		return rc;
	if (new_name[0] == '\0' || strlen(new_name) > ENGINE_NAME_MAX)
		return new_name[0] == '\0' ? -EINVAL : -ENAMETOOLONG;
	if (!replace && bindings_find(bindings, pattern, new_name, &found) == 0)
		return -EEXIST;
	entry = binding_entry_new(new_name, target);
	if (entry == NULL)
		return -ENOMEM;
	found = bindings_rename(bindings, pattern, name, entry);
	if (found == 0)
		return 0;
	unkeep_one(exchange);
	unbound(memory_find(exchange->memory, found));
	return 0;
}

static int rename_binding(
    struct engine_object *exchange, const char *pattern, const char *name, const char *new_name, bool replace)
{
	struct memory_object *self = memory_of(exchange);
	int rc = enter_change(self);

	return rc < 0 ? rc : leave_changed(self, rename_locked(self, pattern, name, new_name, replace));
}

static int unbind(struct engine_object *exchange, const char *pattern, const char *name)
{
	struct memory_object *self = memory_of(exchange);
	int rc = enter_change(self);

	return rc < 0 ? rc : leave_changed(self, unbind_locked(self, pattern, name));
}

static int binding(struct engine_object *exchange, const char *pattern, const char *name, uint64_t *ret_target)
{
	struct memory_object *self = memory_of(exchange);
	int rc = memory_enter(self, ENGINE_EXCHANGE);

	if (rc < 0)
		return rc;
	rc = bindings_find(&self->exchange->bindings, pattern, name, ret_target);
	memory_leave(self->memory);
	return rc;
}

static int list(struct engine_object *exchange, const char *pattern, const char *after,
    bool (*each)(void *ctx, const char *name, uint64_t target), void *ctx)
{
	struct memory_object *self = memory_of(exchange);
	int rc = memory_enter(self, ENGINE_EXCHANGE);

	if (rc < 0)
		return rc;
	rc = bindings_list(&self->exchange->bindings, pattern, after, each, ctx);
	memory_leave(self->memory);
	return rc;
}

static int exchange_stat(struct engine_object *exchange, struct engine_exchange_stat *ret_stat)
{
	struct memory_object *self = memory_of(exchange);
	const struct memory_exchange *e = self->exchange;
	int rc = memory_enter(self, ENGINE_EXCHANGE);

	if (rc < 0)
		return rc;
	*ret_stat = (struct engine_exchange_stat){ e->published, e->routed, e->unroutable, e->refused,
		e->bindings.count, e->bindings.total };
	memory_leave(self->memory);
	return 0;
}

const struct engine_exchange_ops memory_exchange_ops = {
	.get_type = get_type,
	.set_type = set_type,
	.pattern_add = pattern_add,
	.pattern_remove = pattern_remove,
	.bind = bind,
	.unbind = unbind,
	.rename = rename_binding,
	.binding = binding,
	.list = list,
	.room = memory_route_room,
	.exchange_stat = exchange_stat,
};
