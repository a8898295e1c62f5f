/*
 * memory - life of the engine and its objects: opening, closing, the lock, references, owners and settings.
 */
#include "engine/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/memory_internal.h"
#include "engine/memory_queue.h"
#include "engine/memory_tx.h"

/* ---- the lock ---- */

void memory_lock_quietly(struct memory_engine *memory)
{
	pthread_mutex_lock(&memory->lock);
}

void memory_lock(struct memory_engine *memory)
{
	engine_reason_clear();
	memory_lock_quietly(memory);
}

/* Looks at the queues that something changed in: who waits there may have something now. */
static void look_at_changed(struct memory_engine *memory)
{
	while (memory->changed != NULL) {
		struct memory_object *queue = memory->changed;

		memory->changed = queue->queue->next_changed;
		queue->queue->changed = false;
		memory_check_queue(queue);
		memory_wake_queue(queue, queue->removed);
		memory_unref(queue);
	}
}

void memory_leave(struct memory_engine *memory)
{
	struct engine_waiter *waiter;

	memory_enforce_lengths(memory);
	memory_queue_sweep(memory); /* the call may have made something due: a setting, a session */
	look_at_changed(memory);
	waiter = memory->wakes;
	memory->wakes = NULL;
	pthread_mutex_unlock(&memory->lock);
	while (waiter != NULL) {
		struct engine_waiter *next = waiter->engine_next;

		waiter->wake(waiter); /* from here on it is its owner's again, and may be gone */
		waiter = next;
	}
}

int memory_enter(struct memory_object *object, enum engine_kind kind)
{
	memory_lock(object->memory);
	memory_queue_sweep(object->memory);
	if (object->is_defaults || (kind != ENGINE_KIND_COUNT && object->kind != kind)) {
		memory_leave(object->memory);
		return -EINVAL;
	}
	if (object->removed) {
		memory_leave(object->memory);
		return -EIDRM;
	}
	return 0;
}

/* ---- objects and references ---- */

static size_t setting_count(void)
{
	size_t count = 0;

	while (engine_settings[count].name != NULL)
		count++;
	return count;
}

/* Gives a new object the settings of the defaults; the defaults themselves those of the table. */
static int init_values(struct memory_object *object, const struct memory_object *defaults)
{
	size_t count = setting_count();

	object->values = calloc(count, sizeof(*object->values));
	if (object->values == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		const char *value = defaults != NULL ? defaults->values[i] : engine_settings[i].initial;

		snprintf(object->values[i], ENGINE_VALUE_MAX, "%s", value);
	}
	return 0;
}

int memory_new_object(struct memory_engine *memory, struct memory_object *parent, enum engine_kind kind,
    const char *name, const struct engine_owner *owner, struct memory_object **ret_object)
{
	struct memory_object *object = calloc(1, sizeof(*object));
	int rc;

	if (object == NULL)
		return -ENOMEM;
	rc = init_values(object, memory->defaults[kind]);
	if (rc < 0) {
		free(object);
		return rc;
	}
	object->base.engine = &memory->base;
	object->memory = memory;
	object->parent = parent;
	object->kind = kind;
	object->refs = 1;
	object->owner = *owner;
	object->owner.mode &= 07777;
	object->birth = object->owner;
	object->ctime_ms = object->mtime_ms = clock_wall_ms();
	snprintf(object->name, sizeof(object->name), "%s", name);
	if (parent != NULL)
		parent->refs++;
	*ret_object = object;
	return 0;
}

static void free_object(struct memory_object *object)
{
	if (object->kept)
		object->memory->users.unkeep(object->memory->users.ctx, object->keeper);
	for (uint32_t p = 0; object->partitions != NULL && p < object->partition_count; p++)
		memory_clear_partition(&object->partitions[p]);
	while (object->nodes != NULL) {
		struct memory_node *node = object->nodes;

		object->nodes = node->next;
		free(node);
	}
	memory_queue_free(object);
	memory_exchange_free(object);
	memory_tx_free(object);
	free(object->partitions);
	free(object->cursors);
	dedup_free(object->dedup);
	free(object->values);
	free(object);
}

void memory_unref(struct memory_object *object)
{
	while (object != NULL && --object->refs == 0) {
		struct memory_object *parent = object->parent;

		free_object(object);
		object = parent;
	}
}

static struct engine_object *memory_ref(struct engine_object *object)
{
	memory_lock_quietly(memory_of(object)->memory);
	memory_of(object)->refs++;
	memory_leave(memory_of(object)->memory);
	return object;
}

static void memory_put(struct engine_object *object)
{
	struct memory_engine *memory;

	if (object == NULL)
		return;
	memory = memory_of(object)->memory;
	memory_lock_quietly(memory);
	memory_unref(memory_of(object));
	memory_leave(memory);
}

static struct engine_object *memory_defaults(struct engine *engine, enum engine_kind kind)
{
	return &memory_of_engine(engine)->defaults[kind]->base;
}

/* ---- owners of files ---- */

static struct memory_node *find_node(struct memory_object *object, const char *name)
{
	for (struct memory_node *node = object->nodes; node != NULL; node = node->next) {
		if (strcmp(node->name, name) == 0)
			return node;
	}
	return NULL;
}

int memory_get_owner(struct engine_object *object, const char *name, struct engine_owner *ret_owner)
{
	struct memory_object *self = memory_of(object);
	struct memory_node *node;
	int rc = memory_enter(self, ENGINE_KIND_COUNT);

	if (rc < 0)
		return rc;
	node = find_node(self, name);
	if (name[0] == '\0')
		*ret_owner = self->owner;
	else if (node != NULL)
		*ret_owner = node->owner;
	else
		rc = -ENODATA;
	memory_leave(self->memory);
	return rc;
}

static int put_node(struct memory_object *object, const char *name, const struct engine_owner *owner)
{
	struct memory_node *node = find_node(object, name);

	if (node == NULL) {
		node = malloc(sizeof(*node) + strlen(name) + 1);
		if (node == NULL)
			return -ENOMEM;
		strcpy(node->name, name);
		node->next = object->nodes;
		object->nodes = node;
	}
	node->owner = *owner;
	return 0;
}

int memory_set_owner(struct engine_object *object, const char *name, const struct engine_owner *owner)
{
	struct memory_object *self = memory_of(object);
	struct engine_owner masked = { owner->uid, owner->gid, owner->mode & 07777 };
	int rc = memory_enter(self, ENGINE_KIND_COUNT);

	if (rc < 0)
		return rc;
	if (self->memory->read_only)
		rc = -EROFS;
	else if (name[0] != '\0')
		rc = put_node(self, name, &masked);
	else
		self->owner = masked;
	if (rc == 0)
		self->mtime_ms = clock_wall_ms();
	memory_leave(self->memory);
	return rc;
}

/* ---- settings ---- */

/* The value in force: a consumer that has none of its own has its queue's. */
const char *memory_setting(const struct memory_object *object, const char *name)
{
	const struct engine_setting *setting = engine_setting_find(object->kind, name);
	const char *value = object->values[setting - engine_settings];

	if (value[0] == '\0' && !object->is_defaults && engine_setting_inherits(setting))
		return memory_setting(object->parent, name);
	return value;
}

void memory_init_dlq_settings(struct memory_object *dlq)
{
	for (const struct engine_setting *s = engine_settings; s->name != NULL; s++) {
		const char *value = s->initial;

		if (s->kind != ENGINE_QUEUE)
			continue;
		if (strcmp(s->name, "dead.letter.to") == 0)
			value = "none";
		if (strcmp(s->name, "delivery.limit") == 0)
			value = "-1";
		snprintf(dlq->values[s - engine_settings], ENGINE_VALUE_MAX, "%s", value);
	}
}

int64_t memory_setting_int(const struct memory_object *object, const char *name)
{
	return strtoll(memory_setting(object, name), NULL, 10);
}

/* Takes the lock for a call about a setting: those are the ones that a defaults object allows. */
static int enter_setting(struct memory_object *object, const struct engine_setting *setting)
{
	memory_lock(object->memory);
	memory_queue_sweep(object->memory); /* what is due comes before the change */
	if (setting->kind == object->kind && !object->removed)
		return 0;
	memory_leave(object->memory);
	return setting->kind != object->kind ? -EINVAL : -EIDRM;
}

int memory_get_setting(
    struct engine_object *object, const struct engine_setting *setting, char ret_value[ENGINE_VALUE_MAX])
{
	struct memory_object *self = memory_of(object);
	int rc = enter_setting(self, setting);

	if (rc < 0)
		return rc;
	snprintf(ret_value, ENGINE_VALUE_MAX, "%s", memory_setting(self, setting->name));
	memory_leave(self->memory);
	return 0;
}

static int grow_to(struct memory_object *topic, uint32_t count)
{
	if (count < topic->partition_count)
		return engine_explain(
		    -EPERM, "partitions can only grow: there are %" PRIu32 " already", topic->partition_count);
	return memory_grow(topic, count);
}

/* Times and limits are looked at anew, and those who wait: prefetch or their turn may have changed. */
static void apply_to_queue(struct memory_object *queue)
{
	memory_look_again(queue);
	memory_enforce_length(queue);
	memory_queue_changed(queue);
	memory_queue_used(queue);
}

/* What a new value does besides being stored; an error leaves the old one in force. */
static int apply_setting(struct memory_object *object, const struct engine_setting *setting, const char *value)
{
	int rc = 0;

	if (!object->is_defaults && object->kind == ENGINE_TOPIC && strcmp(setting->name, "partitions") == 0)
		rc = grow_to(object, (uint32_t)strtoul(value, NULL, 10));
	if (strcmp(setting->name, "dead.letter.to") == 0 && (strcmp(value, "dlq") == 0 || value[0] == 'e') &&
	    object->parent != NULL && object->parent->kind != ENGINE_STORE)
		rc = engine_explain(-EINVAL, "a queue of dead letters has no dlq of its own");
	if (object->kind == ENGINE_EXCHANGE && !object->is_defaults && strcmp(setting->name, "alternate.exchange") == 0)
		rc = memory_check_alternate(object, value);
	if (rc < 0)
		return rc;
	strcpy(object->values[setting - engine_settings], value);
	if (object->is_defaults)
		return 0;
	object->mtime_ms = clock_wall_ms();
	if (object->kind == ENGINE_TOPIC)
		memory_expire(object);
	if (object->kind == ENGINE_GROUP && strcmp(setting->name, "auto.offset.reset") == 0 && !object->touched)
		memory_reset_cursors(object);
	if (object->kind == ENGINE_GROUP)
		object->memory->next_silent = 0; /* session.timeout.ms may have changed */
	if (object->kind == ENGINE_QUEUE || object->kind == ENGINE_CONSUMER)
		apply_to_queue(memory_queue_of(object));
	return 0;
}

int memory_set_setting(struct engine_object *object, const struct engine_setting *setting, const char *value)
{
	struct memory_object *self = memory_of(object);
	char canonical[ENGINE_VALUE_MAX];
	int rc = enter_setting(self, setting);

	if (rc < 0)
		return rc;
	rc = self->memory->read_only ? -EROFS : engine_setting_parse(setting, value, canonical);
	if (rc == 0)
		rc = apply_setting(self, setting, canonical);
	memory_leave(self->memory);
	return rc;
}

/* ---- life ---- */

static int memory_close(struct engine *engine)
{
	struct memory_engine *memory = memory_of_engine(engine);

	if (engine == NULL)
		return 0;
	memory_timer_stop(memory);
	for (size_t i = memory->object_count; i-- > 0;) /* children before their parents */
		memory_unref(memory->objects[i]);
	for (size_t kind = 0; kind < ENGINE_KIND_COUNT; kind++)
		memory_unref(memory->defaults[kind]);
	pthread_mutex_destroy(&memory->lock);
	free(memory->objects);
	free(memory);
	return 0;
}

static size_t memory_health(struct engine *engine, char *buf, size_t size)
{
	bool read_only = memory_of_engine(engine)->read_only;

	if (size == 0)
		return 0;
	snprintf(buf, size, "%s", read_only ? "state readonly\nreason opened read-only\n" : "state ok\n");
	return strlen(buf);
}

/* There is no device whose room could be told. */
static int memory_space(struct engine *engine, uint64_t *ret_total, uint64_t *ret_free)
{
	(void)engine;
	*ret_total = *ret_free = 0;
	return 0;
}

static int memory_room(struct engine *engine, uint64_t bytes)
{
	(void)engine;
	(void)bytes;
	return 0;
}

static bool memory_give_files(struct engine *engine)
{
	(void)engine;
	return false;
}

static const struct engine_ops memory_ops = {
	.name = "memory",
	.close = memory_close,
	.health = memory_health,
	.space = memory_space,
	.room = memory_room,
	.give_files = memory_give_files,
	.create = memory_create,
	.lookup = memory_lookup,
	.get = memory_get,
	.ref = memory_ref,
	.put = memory_put,
	.defaults = memory_defaults,
	.remove = memory_remove,
	.rename = memory_rename,
	.list = memory_list,
	.identity = memory_identity,
	.stat = memory_stat,
	.get_owner = memory_get_owner,
	.set_owner = memory_set_owner,
	.get_setting = memory_get_setting,
	.set_setting = memory_set_setting,
	.partition_stat = memory_partition_stat,
	.partition_read = memory_partition_read,
	.partition_pread = memory_partition_pread,
	.partition_find_time = memory_partition_find_time,
	.partition_purge = memory_partition_purge,
	.key_find = memory_key_find,
	.key_list = memory_key_list,
	.producer_open = memory_any_producer_open,
	.producer_send = memory_any_send,
	.producer_sync = memory_any_sync,
	.producer_close = memory_any_producer_close,
	.consumer_open = memory_consumer_open,
	.consumer_fetch = memory_any_fetch,
	.consumer_rewind = memory_any_rewind,
	.consumer_arm = memory_any_arm,
	.consumer_disarm = memory_any_disarm,
	.consumer_close = memory_any_consumer_close,
	.ack_all = memory_ack_all,
	.ack = memory_ack,
	.seek = memory_seek,
	.cursor_stat = memory_cursor_stat,
	.group_sync = memory_group_sync,
	.queue = &memory_queue_ops,
	.exchange = &memory_exchange_ops,
	.member = &memory_member_ops,
	.tx = &memory_tx_ops,
};

/* The defaults of every kind, and the store itself. What it made by the time of a failure, close takes away. */
static int make_first_objects(struct memory_engine *memory, const struct engine_owner *root_owner)
{
	static const struct engine_owner nobody = { 0 };
	int rc = 0;

	for (unsigned kind = 0; rc == 0 && kind < ENGINE_KIND_COUNT; kind++) {
		rc = memory_new_object(memory, NULL, (enum engine_kind)kind, "", &nobody, &memory->defaults[kind]);
		if (rc == 0)
			memory->defaults[kind]->is_defaults = true;
	}
	if (rc == 0)
		rc = memory_new_object(memory, NULL, ENGINE_STORE, "", root_owner, &memory->objects[0]);
	if (rc < 0)
		return rc;
	memory->objects[0]->id = ENGINE_ROOT_ID;
	memory->object_count = 1;
	memory->next_id = ENGINE_ROOT_ID + 1;
	return 0;
}

int engine_memory_open(const char *rest, const struct engine_options *options, struct engine **ret_engine)
{
	struct memory_engine *memory;
	int rc;

	if (rest[0] != '\0')
		return engine_explain(-EINVAL, "nothing may follow memory: in a source");
	memory = calloc(1, sizeof(*memory));
	if (memory == NULL)
		return -ENOMEM;
	memory->base.ops = &memory_ops;
	memory->read_only = options->read_only;
	memory->users = options->users;
	pthread_mutex_init(&memory->lock, NULL);
	memory->next_wall = memory->next_mono = memory->next_silent = memory->next_tx = INT64_MAX;
	memory->object_room = 16;
	memory->objects = calloc(memory->object_room, sizeof(struct memory_object *));
	rc = memory->objects != NULL ? make_first_objects(memory, &options->root_owner) : -ENOMEM;
	if (rc < 0) {
		memory_close(&memory->base);
		return rc;
	}
	*ret_engine = &memory->base;
	return 0;
}
