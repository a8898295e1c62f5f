/*
 * local_stat - what there is to know of an object: totals, times, owners.
 *
 * Counts come from the logs themselves, which are opened for that; nothing is kept twice. The stat of the whole store
 * adds up its topics: the first one opens every log, later ones take about 50 ns per partition.
 */
#include <errno.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/local_member.h"
#include "engine/local_queue.h"
#include "engine/local_stage.h"

static void sum_store(struct object *store, struct engine_stat *stat)
{
	struct local *local = local_of(store);
	int64_t mtime_ms = stat->mtime_ms;
	struct object *topic;
	uint64_t after = 0;

	while ((topic = registry_next(local, store, ENGINE_TOPIC, after)) != NULL) {
		after = topic->id;
		topic_sum(topic_of_object(topic), stat);
		object_put(topic);
	}
	after = 0;
	while ((topic = registry_next(local, NULL, ENGINE_QUEUE, after)) != NULL) {
		after = topic->id;
		queue_sum(queue_of_object(topic), stat);
		object_put(topic);
	}
	stat->readers = 0;
	stat->mtime_ms = mtime_ms; /* of the directory; topics have their own */
	stat->producers = 0;
}

/* A group that is removed meanwhile has nothing to add. */
static int sum_group(struct group *group, struct engine_stat *stat)
{
	uint64_t earliest, end;
	int rc;

	topic_open_logs(group_topic(group), ENGINE_ANY);
	rc = group_lock(group);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < group->cursor_count; i++) {
		const struct cursor *cursor = cursor_refresh(group, i, &earliest, &end);

		stat->messages += end > cursor->committed ? end - cursor->committed : 0;
		stat->lost += cursor->lost;
	}
	stat->partitions = group->cursor_count;
	stat->delivered_total = group->delivered_total;
	stat->acked_total = group->acked_total;
	stat->readers = group->readers;
	group_unlock(group);
	return 0;
}

/* What was written, and has not come to the log yet, counts. */
static void take_staged(struct object *object)
{
	if (object->kind == ENGINE_STORE)
		stages_take_slowly(local_of(object), NULL);
	else if (object->kind == ENGINE_GROUP || object->kind == ENGINE_CONSUMER)
		stages_take(object->parent);
	else if (object->kind == ENGINE_MEMBER)
		stages_take(object->parent->parent);
	else
		stages_take(object);
}

int local_stat(struct engine_object *base, struct engine_stat *ret_stat)
{
	struct engine_stat stat = { 0 };
	struct object *object = NULL;
	int rc;

	queue_catch_up((struct local *)base->engine);
	rc = object_enter_any(base, &object);
	if (rc < 0)
		return rc;
	take_staged(object);
	pthread_rwlock_rdlock(&local_of(object)->registry);
	stat.owner = object->owner;
	stat.birth = object->birth;
	stat.ctime_ms = object->ctime_ms;
	stat.mtime_ms = object->mtime_ms;
	pthread_rwlock_unlock(&local_of(object)->registry);
	if (object->kind == ENGINE_STORE) {
		sum_store(object, &stat);
	} else if (object->kind == ENGINE_TOPIC) {
		stat.partitions = atomic_load(&topic_of_object(object)->partitions);
		topic_sum(topic_of_object(object), &stat);
	} else if (object->kind == ENGINE_QUEUE) {
		queue_sum(queue_of_object(object), &stat);
	} else if (object->kind == ENGINE_CONSUMER) {
		queue_sum_consumer(queue_consumer_of(object), &stat);
	} else if (object->kind == ENGINE_MEMBER) {
		member_sum(member_of_object(object), &stat);
	} else if (object->kind == ENGINE_GROUP) {
		rc = sum_group(group_of_object(object), &stat);
		if (rc < 0)
			return rc;
	}
	*ret_stat = stat;
	return 0;
}

/* ---- owners ---- */

int local_get_owner(struct engine_object *base, const char *node, struct engine_owner *ret_owner)
{
	struct object *object = NULL;
	int rc = object_enter_any(base, &object);

	if (rc < 0)
		return rc;
	if (node[0] != '\0')
		return catalog_get_node_owner(local_of(object)->catalog, object->id, node, ret_owner);
	pthread_rwlock_rdlock(&local_of(object)->registry);
	*ret_owner = object->owner;
	pthread_rwlock_unlock(&local_of(object)->registry);
	return 0;
}

/* change */
static int set_owner(struct object *object, const char *node, const struct engine_owner *owner)
{
	struct local *local = local_of(object);
	bool again = false;
	int rc;

	if (atomic_load(&object->removed))
		return -EIDRM;
	do {
		if (node[0] != '\0')
			rc = catalog_set_node_owner(local->catalog, object->id, node, owner);
		else
			rc = catalog_set_owner(local->catalog, object->id, owner, clock_wall_ms());
	} while (reserve_again(local, rc, &again));
	if (rc == -ENOENT)
		return -EIDRM; /* a group whose topic is being removed */
	if (rc < 0 || node[0] != '\0')
		return rc;
	pthread_rwlock_wrlock(&local->registry);
	object->owner = *owner;
	pthread_rwlock_unlock(&local->registry);
	return 0;
}

int local_set_owner(struct engine_object *base, const char *node, const struct engine_owner *owner)
{
	struct engine_owner masked = { owner->uid, owner->gid, owner->mode & 07777 };
	struct object *object = NULL;
	int rc = object_enter_any(base, &object);

	if (rc < 0)
		return rc;
	if (local_of(object)->read_only)
		return engine_explain(-EROFS, "the store is mounted read-only");
	pthread_mutex_lock(&object->change);
	rc = set_owner(object, node, &masked);
	pthread_mutex_unlock(&object->change);
	if (rc == 0)
		object_changed(object);
	return rc;
}
