/*
 * memory_object - the tree of objects: creating, finding, listing, renaming, removing, and what stat tells.
 *
 * All objects are in one array in ascending order of id, which is the order in which they were made: a lookup by id is a
 * binary search, everything else goes through the array. That is plain, and quick enough for a reference.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/memory_internal.h"
#include "engine/memory_queue.h"
#include "engine/memory_tx.h"

/* Index of the first object whose id is at least id. */
static size_t lower_bound(const struct memory_engine *memory, uint64_t id)
{
	size_t low = 0, high = memory->object_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (memory->objects[mid]->id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct memory_object *memory_find_child(
    struct memory_engine *memory, const struct memory_object *parent, enum engine_kind kind, const char *name)
{
	for (size_t i = 0; i < memory->object_count; i++) {
		struct memory_object *object = memory->objects[i];

		if (object->parent == parent && object->kind == kind && strcmp(object->name, name) == 0)
			return object;
	}
	return NULL;
}

struct memory_object *memory_next_group(const struct memory_object *topic, const struct memory_object *previous)
{
	const struct memory_engine *memory = topic->memory;

	for (size_t i = lower_bound(memory, (previous != NULL ? previous : topic)->id + 1); i < memory->object_count;
	     i++) {
		if (memory->objects[i]->parent == topic)
			return memory->objects[i];
	}
	return NULL;
}

/* ---- creating ---- */

static int check_name(const char *name)
{
	if (name[0] == '\0' || strchr(name, '/') != NULL)
		return -EINVAL;
	return strlen(name) <= ENGINE_NAME_MAX ? 0 : -ENAMETOOLONG;
}

static bool is_child_kind(enum engine_kind parent, enum engine_kind kind)
{
	switch (kind) {
	case ENGINE_TOPIC: return parent == ENGINE_STORE;
	case ENGINE_GROUP: return parent == ENGINE_TOPIC;
	case ENGINE_QUEUE: return parent == ENGINE_STORE;
	case ENGINE_CONSUMER: return parent == ENGINE_QUEUE;
	case ENGINE_EXCHANGE: return parent == ENGINE_STORE;
	case ENGINE_MEMBER: return parent == ENGINE_GROUP;
	case ENGINE_TX: return parent == ENGINE_STORE;
	default: return false;
	}
}

/* Makes room for two: queues and groups come with their dead letters. */
static int reserve_objects(struct memory_engine *memory)
{
	struct memory_object **grown;

	if (memory->object_count + 2 <= memory->object_room)
		return 0;
	grown = realloc(memory->objects, memory->object_room * 2 * sizeof(*grown));
	if (grown == NULL)
		return -ENOMEM;
	memory->objects = grown;
	memory->object_room *= 2;
	return 0;
}

/* A new topic's partitions, a new group's cursors, what a new queue holds. */
static int fill_object(struct memory_object *object)
{
	if (object->kind == ENGINE_CONSUMER || object->kind == ENGINE_MEMBER)
		return 0;
	if (object->kind == ENGINE_QUEUE)
		return memory_queue_init(object);
	if (object->kind == ENGINE_EXCHANGE)
		return memory_exchange_init(object);
	if (object->kind == ENGINE_TX)
		return object->is_defaults ? 0 : memory_tx_init(object);
	if (object->kind == ENGINE_TOPIC)
		return memory_grow(object, (uint32_t)memory_setting_int(object, "partitions"));
	object->partition_count = object->parent->partition_count;
	object->cursors = calloc(object->partition_count, sizeof(*object->cursors));
	if (object->cursors == NULL)
		return -ENOMEM;
	memory_reset_cursors(object);
	return 0;
}

static void attach(struct memory_object *object)
{
	struct memory_engine *memory = object->memory;

	object->id = memory->next_id++;
	memory->objects[memory->object_count++] = object;
	object->parent->mtime_ms = object->ctime_ms;
}

/* A new queue or group gets its dead letters, and time to go by. */
static int attach_with_dlq(struct memory_object *object)
{
	struct memory_object *dlq;
	int rc = memory_timer_start(object->memory);

	if (rc == 0)
		rc = memory_new_object(object->memory, object, ENGINE_QUEUE, "dlq", &object->birth, &dlq);
	if (rc < 0)
		return rc;
	memory_init_dlq_settings(dlq);
	rc = memory_queue_init(dlq);
	if (rc < 0) {
		memory_unref(dlq);
		return rc;
	}
	attach(object);
	attach(dlq);
	*(object->kind == ENGINE_QUEUE ? &object->queue->dlq : &object->dlq) = dlq;
	return 0;
}

int memory_keep(struct memory_engine *memory, uint32_t uid)
{
	const struct engine_users *users = &memory->users;
	enum engine_keep how = ENGINE_KEEP_IF_ROOM;
	int rc = 0;

	while (users->keep != NULL && (rc = users->keep(users->ctx, uid, how)) == -EDQUOT && how != ENGINE_KEEP_ANEW) {
		if (!memory_tx_forget(memory, uid))
			how = ENGINE_KEEP_ANEW;
	}
	return rc;
}

static int keep(struct memory_object *object)
{
	int rc = memory_keep(object->memory, object->owner.uid);

	object->kept = rc == 0 && object->memory->users.keep != NULL;
	object->keeper = object->owner.uid;
	return rc;
}

static int create_locked(struct memory_engine *memory, struct memory_object *parent, enum engine_kind kind,
    const char *name, const struct engine_owner *owner, struct memory_object **ret_object)
{
	struct memory_object *object;
	bool has_dlq;
	int rc = check_name(name);

	if (rc < 0)
		return rc;
	if (!is_child_kind(parent->kind, kind))
		return -EINVAL;
	if (memory->read_only)
		return -EROFS;
	if (memory_find_child(memory, parent, kind, name) != NULL)
		return -EEXIST;
	rc = reserve_objects(memory);
	if (rc == 0)
		rc = memory_new_object(memory, parent, kind, name, owner, &object);
	if (rc < 0)
		return rc;
	rc = keep(object);
	if (rc == 0)
		rc = fill_object(object);
	has_dlq = kind == ENGINE_QUEUE || kind == ENGINE_GROUP;
	if (rc == 0 && has_dlq)
		rc = attach_with_dlq(object);
	if (rc < 0) {
		memory_unref(object);
		return rc;
	}
	if (!has_dlq)
		attach(object);
	if (kind == ENGINE_MEMBER)
		memory_member_join(object);
	*ret_object = object;
	return 0;
}

int memory_create(struct engine *engine, struct engine_object *parent, enum engine_kind kind, const char *name,
    const struct engine_owner *owner, struct engine_object **ret_object)
{
	struct memory_engine *memory = memory_of_engine(engine);
	struct memory_object *object;
	int rc = memory_enter(memory_of(parent), ENGINE_KIND_COUNT);

	if (rc < 0)
		return rc;
	rc = create_locked(memory, memory_of(parent), kind, name, owner, &object);
	if (rc == 0) {
		object->refs++;
		*ret_object = &object->base;
	}
	memory_leave(memory);
	return rc;
}

/* ---- finding ---- */

int memory_lookup(struct engine *engine, struct engine_object *parent, enum engine_kind kind, const char *name,
    struct engine_object **ret_object)
{
	struct memory_engine *memory = memory_of_engine(engine);
	struct memory_object *object;
	int rc = memory_enter(memory_of(parent), ENGINE_KIND_COUNT);

	if (rc < 0)
		return rc == -EIDRM ? -ENOENT : rc;
	object = memory_find_child(memory, memory_of(parent), kind, name);
	if (object != NULL) {
		object->refs++;
		*ret_object = &object->base;
	}
	memory_leave(memory);
	return object != NULL ? 0 : -ENOENT;
}

int memory_get(struct engine *engine, uint64_t id, struct engine_object **ret_object)
{
	struct memory_engine *memory = memory_of_engine(engine);
	int rc = -ENOENT;
	size_t i;

	memory_lock(memory);
	memory_queue_sweep(memory);
	i = lower_bound(memory, id);
	if (i < memory->object_count && memory->objects[i]->id == id) {
		memory->objects[i]->refs++;
		*ret_object = &memory->objects[i]->base;
		rc = 0;
	}
	memory_leave(memory);
	return rc;
}

int memory_list(struct engine *engine, struct engine_object *parent, enum engine_kind kind, uint64_t after,
    bool (*each)(void *ctx, const struct engine_dirent *entry), void *ctx)
{
	struct memory_engine *memory = memory_of_engine(engine);
	int rc = memory_enter(memory_of(parent), ENGINE_KIND_COUNT);
	bool go_on = true;

	if (rc < 0)
		return rc;
	for (size_t i = 0; go_on && i < memory->object_count; i++) {
		const struct memory_object *object = memory->objects[i];
		struct engine_dirent entry = { object->id, object->kind, object->name };

		if (object->parent == memory_of(parent) && object->kind == kind && object->id > after)
			go_on = each(ctx, &entry);
	}
	memory_leave(memory);
	return 0;
}

/* ---- changing ---- */

void memory_detach(struct memory_object *object)
{
	struct memory_engine *memory = object->memory;
	size_t i = lower_bound(memory, object->id);

	memory->object_count--;
	memmove(&memory->objects[i], &memory->objects[i + 1], (memory->object_count - i) * sizeof(memory->objects[0]));
	object->removed = true;
	if (object->kind == ENGINE_GROUP)
		memory_wake_group_all(object);
	object->parent->mtime_ms = clock_wall_ms();
	memory_unref(object);
}

static bool is_dlq(const struct memory_object *object)
{
	return object->kind == ENGINE_QUEUE && object->parent->kind != ENGINE_STORE;
}

static void detach_children(struct memory_object *object)
{
	struct memory_object *child;

	while ((child = memory_next_group(object, NULL)) != NULL) {
		if (child->kind == ENGINE_QUEUE)
			memory_detach_queue(child);
		else
			memory_detach(child);
	}
}

void memory_detach_queue(struct memory_object *queue)
{
	memory_queue_changed(queue); /* who waits is told */
	detach_children(queue);
	memory_detach(queue);
}

static void detach_group(struct memory_object *group)
{
	detach_children(group);
	group->members = NULL;
	memory_detach(group);
}

static bool is_empty(const struct memory_queue *queue)
{
	return queue->ready_count + queue->unacked.count + queue->delayed.count == 0;
}

static int remove_queue(struct memory_object *queue)
{
	if (is_dlq(queue))
		return engine_explain(-EPERM, "dead letters go with their queue");
	if (!is_empty(queue->queue))
		return -ENOTEMPTY;
	if (!is_empty(queue->queue->dlq->queue))
		return engine_explain(-ENOTEMPTY, "there are dead letters");
	memory_detach_queue(queue);
	return 0;
}

/* What it holds comes back. */
static int remove_consumer(struct memory_object *consumer)
{
	memory_lose_leases(consumer, NULL);
	memory_queue_changed(consumer->parent);
	memory_queue_used(consumer->parent);
	memory_detach(consumer);
	return 0;
}

static uint64_t count_messages(const struct memory_object *topic)
{
	uint64_t messages = 0;

	for (uint32_t p = 0; p < topic->partition_count; p++)
		messages += topic->partitions[p].count;
	return messages;
}

static int check_dead_letters(const struct memory_object *group)
{
	return is_empty(group->dlq->queue) ? 0 : engine_explain(-ENOTEMPTY, "there are dead letters");
}

static int remove_group(struct memory_object *group)
{
	int rc = check_dead_letters(group);

	if (rc == 0)
		detach_group(group);
	return rc;
}

/* What it had goes to the others. */
static int remove_member(struct memory_object *member)
{
	memory_member_leave(member);
	memory_wake_group_all(member->parent); /* its own consumers are told */
	memory_detach(member);
	return 0;
}

static int remove_topic(struct memory_object *topic)
{
	struct memory_object *group = NULL;
	int rc = 0;

	memory_expire(topic);
	if (count_messages(topic) > 0)
		return -ENOTEMPTY;
	while (rc == 0 && (group = memory_next_group(topic, group)) != NULL)
		rc = check_dead_letters(group);
	if (rc < 0)
		return rc;
	while ((group = memory_next_group(topic, NULL)) != NULL)
		detach_group(group);
	memory_detach(topic);
	return 0;
}

int memory_remove(struct engine_object *object)
{
	struct memory_object *self = memory_of(object);
	struct memory_engine *memory = self->memory;
	int rc = memory_enter(self, ENGINE_KIND_COUNT);

	if (rc < 0)
		return rc;
	if (self->kind == ENGINE_STORE)
		rc = -EINVAL;
	else if (memory->read_only)
		rc = -EROFS;
	else
		rc = memory_check_removal(self);
	if (rc < 0) {
		memory_leave(memory);
		return rc;
	}
	if (self->kind == ENGINE_TOPIC)
		rc = remove_topic(self);
	else if (self->kind == ENGINE_QUEUE)
		rc = remove_queue(self);
	else if (self->kind == ENGINE_CONSUMER)
		rc = remove_consumer(self);
	else if (self->kind == ENGINE_MEMBER)
		rc = remove_member(self);
	else if (self->kind == ENGINE_GROUP)
		rc = remove_group(self);
	else {
		if (self->kind == ENGINE_TX)
			memory_tx_roll_back(self);
		memory_detach(self);
	}
	memory_leave(memory);
	return rc;
}

static int rename_locked(struct memory_object *object, const char *name)
{
	struct memory_object *other;
	int rc = check_name(name);

	if (rc < 0)
		return rc;
	if (object->kind == ENGINE_STORE)
		return -EINVAL;
	if (object->memory->read_only)
		return -EROFS;
	if (is_dlq(object))
		return engine_explain(-EPERM, "dead letters are always called %s", object->name);
	other = memory_find_child(object->memory, object->parent, object->kind, name);
	if (other != NULL)
		return other == object ? 0 : -EEXIST;
	rc = object->kind == ENGINE_EXCHANGE ? memory_check_name(object, name) : 0;
	if (rc < 0)
		return rc;
	strcpy(object->name, name);
	object->mtime_ms = object->parent->mtime_ms = clock_wall_ms();
	if (object->kind == ENGINE_QUEUE)
		memory_queue_used(object);
	return 0;
}

int memory_rename(struct engine_object *object, const char *name)
{
	struct memory_object *self = memory_of(object);
	int rc = memory_enter(self, ENGINE_KIND_COUNT);

	if (rc < 0)
		return rc;
	rc = rename_locked(self, name);
	memory_leave(self->memory);
	return rc;
}

/* ---- growing ---- */

/* The copy of an array of old entries, with room for count, the new ones zero. NULL: no memory. */
static void *grown_copy(const void *old, uint32_t old_count, uint32_t count, size_t size)
{
	void *copy = calloc(count, size);

	if (copy != NULL && old_count > 0)
		memcpy(copy, old, old_count * size);
	return copy;
}

/* Gives group, and the streams that are open, as many entries as its topic will have partitions. */
static int grow_group(struct memory_object *group, uint32_t count)
{
	struct memory_cursor *cursors = grown_copy(group->cursors, group->partition_count, count, sizeof(*cursors));

	if (cursors == NULL)
		return -ENOMEM;
	free(group->cursors);
	group->cursors = cursors;
	for (struct memory_consumer *c = group->consumers; c != NULL; c = c->next) {
		struct memory_reader *readers;

		if (c->how != ENGINE_CONSUME_STREAM || c->reader_count >= count)
			continue;
		readers = grown_copy(c->readers, c->reader_count, count, sizeof(*readers));
		if (readers == NULL)
			return -ENOMEM;
		free(c->readers);
		c->readers = readers;
		c->reader_count = count;
	}
	return 0;
}

/* Arrays that are longer than partition_count says do no harm, so a failure in the middle needs no undoing. */
int memory_grow(struct memory_object *topic, uint32_t count)
{
	struct memory_partition *partitions;
	struct memory_object *group = NULL;

	if (count <= topic->partition_count)
		return 0;
	while ((group = memory_next_group(topic, group)) != NULL) {
		if (grow_group(group, count) < 0)
			return -ENOMEM;
	}
	partitions = grown_copy(topic->partitions, topic->partition_count, count, sizeof(*partitions));
	if (partitions == NULL)
		return -ENOMEM;
	free(topic->partitions);
	topic->partitions = partitions;
	for (uint32_t p = topic->partition_count; p < count; p++)
		partitions[p].mtime_ms = clock_wall_ms();
	topic->partition_count = count;
	while ((group = memory_next_group(topic, group)) != NULL) {
		group->partition_count = count;
		memory_rebalance(group);
	}
	return 0;
}

/* ---- telling ---- */

int memory_identity(struct engine_object *object, struct engine_identity *ret_identity)
{
	struct memory_object *self = memory_of(object);
	int rc = memory_enter(self, ENGINE_KIND_COUNT);

	if (rc < 0)
		return rc;
	ret_identity->id = self->id;
	ret_identity->parent_id = self->parent != NULL ? self->parent->id : 0;
	ret_identity->kind = self->kind;
	strcpy(ret_identity->name, self->name);
	memory_leave(self->memory);
	return 0;
}

static void add_topic(struct memory_object *topic, struct engine_stat *stat)
{
	memory_expire(topic);
	for (uint32_t p = 0; p < topic->partition_count; p++) {
		const struct memory_partition *partition = &topic->partitions[p];

		stat->messages += partition->count;
		if (partition->count > 0)
			stat->bytes += partition->end_pos - partition->messages[partition->first].pos;
	}
}

static void stat_store(const struct memory_engine *memory, struct engine_stat *stat)
{
	for (size_t i = 0; i < memory->object_count; i++) {
		const struct memory_queue *queue = memory->objects[i]->queue;

		if (memory->objects[i]->kind == ENGINE_TOPIC)
			add_topic(memory->objects[i], stat);
		if (queue != NULL) {
			stat->messages += queue->ready_count + queue->unacked.count + queue->delayed.count;
			stat->bytes += queue->bytes;
		}
	}
}

static void stat_group(struct memory_object *group, struct engine_stat *stat)
{
	memory_expire(group->parent);
	for (uint32_t p = 0; p < group->partition_count; p++) {
		stat->messages += memory_end(&group->parent->partitions[p]) - group->cursors[p].committed;
		stat->lost += group->cursors[p].lost;
	}
	stat->delivered_total = group->delivered;
	stat->acked_total = group->acked;
	stat->readers = group->readers;
}

/* The lag of what it has. */
static void stat_member(struct memory_object *member, struct engine_stat *stat)
{
	const struct memory_object *group = member->parent;

	memory_expire(group->parent);
	for (uint32_t p = 0; p < group->partition_count; p++) {
		if (group->cursors[p].member != member)
			continue;
		stat->partitions++;
		stat->messages += memory_end(&group->parent->partitions[p]) - group->cursors[p].committed;
	}
	stat->readers = member->readers;
}

/* Of a queue, or of a consumer of one. */
static void stat_queue(const struct memory_object *object, struct engine_stat *stat)
{
	stat->messages = object->queue != NULL ? object->queue->ready_count : object->unacked;
	stat->bytes = object->queue != NULL ? object->queue->bytes : 0;
	stat->delivered_total = object->queue != NULL ? object->queue->totals.delivered : object->delivered;
	stat->acked_total = object->queue != NULL ? object->queue->totals.acked : object->acked;
	stat->readers = object->readers;
}

int memory_stat(struct engine_object *object, struct engine_stat *ret_stat)
{
	struct memory_object *self = memory_of(object);
	struct engine_stat stat = { 0 };
	int rc = memory_enter(self, ENGINE_KIND_COUNT);

	if (rc < 0)
		return rc;
	if (self->kind == ENGINE_STORE)
		stat_store(self->memory, &stat);
	else if (self->kind == ENGINE_TOPIC)
		add_topic(self, &stat);
	else if (self->kind == ENGINE_GROUP)
		stat_group(self, &stat);
	else if (self->kind == ENGINE_MEMBER)
		stat_member(self, &stat);
	else
		stat_queue(self, &stat);
	stat.owner = self->owner;
	stat.birth = self->birth;
	stat.ctime_ms = self->ctime_ms;
	stat.mtime_ms = self->mtime_ms;
	if (self->kind != ENGINE_MEMBER)
		stat.partitions = self->partition_count;
	stat.published_total = self->published;
	stat.published_bytes_total = self->published_bytes;
	stat.deduplicated = self->deduplicated;
	stat.producers = self->queue != NULL ? self->queue->producers : self->producers;
	*ret_stat = stat;
	memory_leave(self->memory);
	return 0;
}
