/*
 * local_create - making, renaming and removing topics and groups so that a crash leaves each there or not there.
 *
 * Making one takes several changes of the catalog (the object, its settings, partitions or cursors), each durable by
 * itself. So an object is first written under a name that no user can give, "/ID", and gets its own by the last
 * change: that is when it exists. One that still has such a name at the next start is removed (local_load.c), as are
 * logs that no topic names.
 *
 * All of it happens under the parent's `change`, and under the object's own: so nothing is made in what is being
 * removed, a name is free from the look to the write, and the registry, which others read meanwhile, changes only once
 * the disk has.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/failpoint.h"
#include "engine/local_exchange.h"
#include "engine/local_member.h"
#include "engine/local_queue.h"
#include "engine/local_stage.h"
#include "engine/local_tx.h"

static int check_name(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || strchr(name, '/') != NULL)
		return -EINVAL;
	return len <= ENGINE_NAME_MAX ? 0 : -ENAMETOOLONG;
}

static struct object *new_object(struct local *local, struct object *parent, enum engine_kind kind, uint64_t id)
{
	struct topic *topic;
	struct group *group;
	struct queue *queue;
	struct queue_consumer *consumer;
	struct member *member;
	struct exchange *exchange;

	if (kind == ENGINE_MEMBER) {
		member = member_new(local, id, group_of_object(parent));
		return member != NULL ? &member->object : NULL;
	}
	if (kind == ENGINE_TOPIC) {
		topic = topic_new(local, id);
		return topic != NULL ? &topic->object : NULL;
	}
	if (kind == ENGINE_QUEUE) {
		queue = queue_new(local, id, parent);
		return queue != NULL ? &queue->object : NULL;
	}
	if (kind == ENGINE_EXCHANGE) {
		exchange = exchange_new(local, id);
		return exchange != NULL ? &exchange->object : NULL;
	}
	if (kind == ENGINE_TX) {
		struct tx *tx = tx_new(local, id);

		return tx != NULL ? &tx->object : NULL;
	}
	if (kind == ENGINE_CONSUMER) {
		consumer = queue_consumer_new(local, id, queue_of_object(parent));
		return consumer != NULL ? &consumer->object : NULL;
	}
	group = group_new(local, id, topic_of_object(parent));
	return group != NULL ? &group->object : NULL;
}

static int put_object(struct object *object)
{
	struct catalog_object row = { .id = object->id,
		.parent_id = object->parent->id,
		.kind = object->kind,
		.owner = object->owner,
		.birth = object->birth,
		.ctime_ms = object->ctime_ms,
		.mtime_ms = object->mtime_ms };

	snprintf(row.name, sizeof(row.name), "/%" PRIu64, object->id);
	return catalog_put_object(local_of(object)->catalog, &row);
}

/* The dead letters of a queue or group that is being made: on disk they are complete, and there once it is. */
static int make_dlq(struct object *object, struct object **ret_dlq)
{
	struct local *local = local_of(object);
	struct queue *dlq;
	uint64_t id;
	int rc = catalog_next_id(local->catalog, &id);

	if (rc < 0)
		return rc;
	dlq = queue_new(local, id, object);
	if (dlq == NULL)
		return -ENOMEM;
	dlq->object.owner = object->owner;
	dlq->object.birth = object->birth;
	dlq->object.ctime_ms = dlq->object.mtime_ms = object->ctime_ms;
	strcpy(dlq->object.key.name, "dlq");
	rc = put_object(&dlq->object);
	if (rc == 0)
		rc = settings_store(&dlq->object);
	if (rc == 0)
		rc = catalog_rename(local->catalog, id, "dlq", dlq->object.mtime_ms);
	if (rc < 0)
		object_put(&dlq->object);
	else
		*ret_dlq = &dlq->object;
	return rc;
}

/* Everything on disk, the name last; in memory, but not in the registry. */
static int write_object(struct object *object)
{
	struct local *local = local_of(object);
	struct object *dlq = NULL;
	int64_t partitions = 0;
	int rc = put_object(object);

	if (rc == 0)
		rc = FAILPOINT("create_after_object");
	if (object->kind == ENGINE_TOPIC)
		partitions = setting_value(&topic_of_object(object)->object, SET_PARTITIONS);
	if (rc == 0)
		rc = settings_store(object);
	if (rc == 0 && object->kind == ENGINE_TOPIC)
		rc = topic_grow(topic_of_object(object), (uint32_t)partitions);
	if (rc == 0 && object->kind == ENGINE_GROUP)
		rc = group_start(group_of_object(object));
	if (rc == 0 &&
	    (object->kind == ENGINE_GROUP || (object->kind == ENGINE_QUEUE && object->parent->kind == ENGINE_STORE)))
		rc = make_dlq(object, &dlq);
	if (rc == 0)
		rc = FAILPOINT("create_before_name");
	if (rc == 0)
		rc = registry_reserve(local, object, dlq);
	if (rc == 0) {
		rc = catalog_rename(local->catalog, object->id, object->key.name, object->mtime_ms);
		if (rc == 0)
			registry_enter(local, object, dlq);
		else
			registry_unreserve(local);
	}
	if (rc < 0)
		object_put(dlq);
	return rc;
}

static int remove_rows(struct local *local, uint64_t id)
{
	bool again = false;
	int rc;

	rc = catalog_drop_keys(local->catalog, id);
	if (rc < 0)
		return rc;
	do
		rc = catalog_remove(local->catalog, id);
	while (reserve_again(local, rc, &again));
	return rc;
}

/* parent.change */
static int create(struct object *parent, enum engine_kind kind, const char *name, const struct engine_owner *owner,
    enum engine_keep how, struct object **ret_object)
{
	struct local *local = local_of(parent);
	struct object *object;
	uint64_t id;
	int rc;

	if (atomic_load(&parent->removed))
		return -EIDRM;
	if (registry_has_name(local, parent->id, kind, name))
		return -EEXIST;
	rc = reserve_check(local);
	if (rc == 0)
		rc = catalog_next_id(local->catalog, &id);
	if (rc < 0)
		return rc;
	object = new_object(local, parent, kind, id);
	if (object == NULL)
		return -ENOMEM;
	object->owner = *owner;
	object->owner.mode &= 07777;
	rc = object_keep(object, how);
	if (rc == 0 && kind == ENGINE_TX)
		rc = tx_charge(tx_of_object(object), owner->uid);
	if (rc < 0) {
		object_put(object);
		return rc;
	}
	object->birth = object->owner;
	object->ctime_ms = object->mtime_ms = clock_wall_ms();
	strcpy(object->key.name, name);
	rc = write_object(object);
	if (rc < 0) {
		remove_rows(local, id);
		atomic_store(&object->removed, true); /* so that its logs go with it */
		object_put(object);
		return rc;
	}
	*ret_object = object_ref(object);
	return 0;
}

static int create_once(struct engine *engine, struct engine_object *parent, enum engine_kind kind, const char *name,
    const struct engine_owner *owner, enum engine_keep how, struct engine_object **ret_object)
{
	struct local *local = (struct local *)engine;
	struct object *above = NULL, *object = NULL;
	int rc;

	queue_catch_up(local); /* a queue of that name may be due to go */
	rc = object_enter_any(parent, &above);
	if (rc == 0)
		rc = check_name(name);
	if (rc < 0)
		return rc;
	if (!engine_may_hold(above->kind, kind) || (above->kind != ENGINE_STORE && kind == ENGINE_QUEUE))
		return -EINVAL;
	if (local->read_only)
		return engine_explain(-EROFS, "the store is mounted read-only");
	if (kind == ENGINE_GROUP)
		topic_open_logs(topic_of_object(above), ENGINE_ANY); /* may report; so before the lock */
	pthread_mutex_lock(&above->change);
	rc = create(above, kind, name, owner, how, &object);
	pthread_mutex_unlock(&above->change);
	if (rc < 0)
		return rc;
	if (kind == ENGINE_MEMBER)
		member_begin(member_of_object(object));
	object_changed(above);
	*ret_object = &object->base;
	return 0;
}

int local_create(struct engine *engine, struct engine_object *parent, enum engine_kind kind, const char *name,
    const struct engine_owner *owner, enum engine_keep how, struct engine_object **ret_object)
{
	unsigned int tries = 0;
	int rc;

	do
		rc = create_once(engine, parent, kind, name, owner, how, ret_object);
	while (warm_again((struct local *)engine, rc, &tries));
	return rc;
}

/* Groups of a store that was made before groups had dead letters get theirs. At start */
int local_make_missing_dlqs(struct local *local)
{
	struct object *group, *dlq;
	uint64_t after = 0;
	int rc = 0;

	while (rc == 0 && (group = registry_next(local, NULL, ENGINE_GROUP, after)) != NULL) {
		after = group->id;
		if (!registry_has_name(local, group->id, ENGINE_QUEUE, "dlq")) {
			rc = make_dlq(group, &dlq);
			if (rc == 0) {
				rc = registry_add(local, dlq);
				if (rc < 0)
					object_put(dlq);
			}
		}
		object_put(group);
	}
	if (rc == -ENOSPC) { /* they cannot reject until there is room at another start; all else goes on */
		local_notify(local, ENOSPC, "the disk is full: groups that have no dead letters yet get none");
		rc = 0;
	}
	return rc;
}

/* ---- changing ---- */

/* A call that changes an object other than the store, whatever its kind. */
static int enter(struct engine_object *base, struct object **ret_object)
{
	struct object *object = NULL;
	int rc = object_enter_any(base, &object);

	if (rc < 0)
		return rc;
	if (object->kind == ENGINE_STORE)
		return -EINVAL;
	if (local_of(object)->read_only)
		return engine_explain(-EROFS, "the store is mounted read-only");
	*ret_object = object;
	return 0;
}

/* parent.change, object.change */
static int rename_object(struct object *object, const char *name)
{
	struct local *local = local_of(object);
	bool again = false;
	int rc;

	if (atomic_load(&object->removed))
		return -EIDRM;
	if (strcmp(object->key.name, name) == 0) /* written under the parent's change only */
		return 0;
	if (registry_has_name(local, object->parent->id, object->kind, name))
		return -EEXIST;
	rc = object->kind == ENGINE_EXCHANGE ? exchange_check_name(exchange_of_object(object), name) : 0;
	if (rc == 0)
		rc = FAILPOINT("rename_before_catalog");
	if (rc < 0)
		return rc;
	do
		rc = catalog_rename(local->catalog, object->id, name, clock_wall_ms());
	while (reserve_again(local, rc, &again));
	if (rc == 0)
		registry_rename(local, object, name);
	return rc;
}

int local_rename(struct engine_object *base, const char *name)
{
	struct object *object = NULL;
	int rc;

	queue_catch_up((struct local *)base->engine);
	rc = enter(base, &object);
	if (rc == 0)
		rc = check_name(name);
	if (rc == 0 && object->kind == ENGINE_QUEUE && object->parent->kind != ENGINE_STORE)
		rc = engine_explain(-EPERM, "dead letters are always called dlq");
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&object->parent->change);
	pthread_mutex_lock(&object->change);
	rc = rename_object(object, name);
	pthread_mutex_unlock(&object->change);
	pthread_mutex_unlock(&object->parent->change);
	if (rc < 0)
		return rc;
	object_changed(object);
	object_changed(object->parent);
	if (object->kind == ENGINE_QUEUE)
		queue_used_now(queue_of_object(object));
	return 0;
}

/* change of the parent, which keeps what is below a topic or queue from changing. */
static void forget_children(struct object *above, enum engine_kind kind)
{
	struct local *local = local_of(above);
	struct object *child;

	while ((child = registry_next(local, above, kind, 0)) != NULL) {
		atomic_store(&child->removed, true);
		if (kind == ENGINE_MEMBER)
			member_forget(member_of_object(child));
		if (kind == ENGINE_QUEUE)
			forget_children(child, ENGINE_CONSUMER);
		if (kind == ENGINE_GROUP) {
			forget_children(child, ENGINE_MEMBER);
			forget_children(child, ENGINE_QUEUE);
		}
		registry_remove(local, child);
		object_put(child);
	}
}

static int freeze_one(struct object *object)
{
	if (object->kind == ENGINE_TOPIC)
		return topic_freeze(topic_of_object(object));
	return object->kind == ENGINE_QUEUE ? queue_freeze(queue_of_object(object)) : 0;
}

static void thaw_one(struct object *object, bool dead)
{
	if (object->kind == ENGINE_TOPIC)
		topic_thaw(topic_of_object(object), dead);
	if (object->kind == ENGINE_QUEUE)
		queue_thaw(queue_of_object(object));
}

/* What holds messages of an object: itself, its dead letters, those of its groups. Ends with NULL; references. ENOMEM */
static int list_holding(struct object *object, struct object ***ret_list)
{
	enum engine_kind below = object->kind == ENGINE_TOPIC ? ENGINE_GROUP : ENGINE_QUEUE;
	struct local *local = local_of(object);
	struct object **list = calloc(2, sizeof(struct object *)), **grown, *child, *found;
	size_t count = 0;
	uint64_t after = 0;

	if (list == NULL)
		return -ENOMEM;
	list[count++] = object_ref(object);
	while (object->kind != ENGINE_MEMBER && object->kind != ENGINE_CONSUMER &&
	       (child = registry_next(local, object, below, after)) != NULL) {
		after = child->id;
		found = below == ENGINE_GROUP ? registry_next(local, child, ENGINE_QUEUE, 0) : object_ref(child);
		object_put(child);
		if (found == NULL)
			continue;
		grown = realloc(list, (count + 2) * sizeof(struct object *));
		if (grown == NULL) {
			object_put(found);
			while (count > 0)
				object_put(list[--count]);
			free(list);
			return -ENOMEM;
		}
		list = grown;
		list[count++] = found;
		list[count] = NULL;
	}
	*ret_list = list;
	return 0;
}

/* Stops what would put messages in, in all of the list or none. ENOTEMPTY. */
static int freeze(struct object *const *list)
{
	int rc = 0;
	size_t i;

	for (i = 0; list[i] != NULL && rc == 0; i++)
		rc = freeze_one(list[i]);
	if (rc == 0)
		return 0;
	for (i--; i-- > 0;)
		thaw_one(list[i], false);
	return rc;
}

static void thaw(struct object **list, bool dead)
{
	for (size_t i = 0; list[i] != NULL; i++) {
		thaw_one(list[i], dead);
		object_put(list[i]);
	}
	free(list);
}

static void forget(struct object *object)
{
	atomic_store(&object->removed, true);
	if (object->kind == ENGINE_TOPIC)
		forget_children(object, ENGINE_GROUP);
	if (object->kind == ENGINE_QUEUE) {
		forget_children(object, ENGINE_CONSUMER);
		forget_children(object, ENGINE_QUEUE);
	}
	if (object->kind == ENGINE_GROUP) {
		forget_children(object, ENGINE_MEMBER);
		forget_children(object, ENGINE_QUEUE);
	}
	registry_remove(local_of(object), object);
}

/* parent.change, object.change */
static int remove_object(struct object *object)
{
	struct local *local = local_of(object);
	struct object **holding = NULL;
	int rc;

	if (atomic_load(&object->removed))
		return -EIDRM;
	rc = exchange_check_removal(object);
	if (rc == 0)
		rc = list_holding(object, &holding);
	if (rc < 0)
		return rc;
	rc = freeze(holding);
	if (rc < 0) {
		for (size_t i = 0; holding[i] != NULL; i++)
			object_put(holding[i]);
		free(holding);
		return rc;
	}
	rc = FAILPOINT("remove_before_catalog");
	if (rc == 0)
		rc = remove_rows(local, object->id);
	CRASHPOINT("remove_before_logs");
	if (rc == 0)
		forget(object);
	thaw(holding, rc == 0);
	return rc;
}

/*
 * What a consumer holds goes back before it is removed, also if nobody looked at the queue since the start. Where the disk
 * cannot be read nobody gets it in any case.
 */
static int give_back(struct queue_consumer *consumer)
{
	struct queue *queue = queue_of_object(consumer->object.parent);
	int rc = queue_open(queue);

	if (rc == 0)
		holder_return(queue, &consumer->holder, NULL);
	return rc != -EIO ? rc : 0;
}

int local_remove(struct engine_object *base)
{
	struct object *object = NULL, *parent;
	int rc = enter(base, &object);

	if (rc < 0)
		return rc;
	if (object->kind == ENGINE_QUEUE && object->parent->kind != ENGINE_STORE)
		return engine_explain(-EPERM, "dead letters go with what they are of");
	parent = object->parent;
	object_ref(object); /* the registry's goes */
	if (object->kind == ENGINE_CONSUMER)
		rc = give_back(queue_consumer_of(object));
	if (rc < 0) {
		object_put(object);
		return rc;
	}
	stages_take(object);
	if (object->kind == ENGINE_TOPIC)
		topic_open_logs(topic_of_object(object), ENGINE_ANY); /* may report; so before the locks */
	pthread_mutex_lock(&parent->change);
	pthread_mutex_lock(&object->change);
	rc = remove_object(object);
	pthread_mutex_unlock(&object->change);
	pthread_mutex_unlock(&parent->change);
	if (rc == 0) {
		object_changed(parent);
		if (object->kind == ENGINE_MEMBER)
			member_leave(member_of_object(object));
		if (object->kind == ENGINE_TOPIC)
			topic_wake(topic_of_object(object), NULL);
		else if (object->kind == ENGINE_GROUP)
			topic_wake(topic_of_object(parent), group_of_object(object));
	}
	object_put(object);
	return rc;
}

/* A queue that nobody used for expires.ms: what it holds goes with it. */
void queue_expire(struct queue *queue)
{
	struct object *dlq = registry_next(queue_local(queue), &queue->object, ENGINE_QUEUE, 0);
	char name[ENGINE_NAME_MAX + 1];

	object_name(&queue->object, name);
	if (atomic_load(&queue->object.bound) > 0) { /* it is in use, by the exchange */
		queue_used_now(queue);
		object_put(dlq);
		return;
	}
	if (queue_clear(queue) == 0 && (dlq == NULL || queue_clear(queue_of_object(dlq)) == 0) &&
	    local_remove(&queue->object.base) == 0)
		local_notify(queue_local(queue), 0, "queue %s was not used for expires.ms and is removed", name);
	object_put(dlq);
}
