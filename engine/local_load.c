/*
 * local_load - what is read at the start: names, settings, partitions and cursors; no log is opened.
 *
 * The catalog says what there is. What it has under a name no user can give was being created when the daemon died,
 * and is removed; empty logs that no topic names are another trace of that (local_orphan.c). Then the journal is
 * replayed over the cursors (local_checkpoint.c).
 *
 * A damaged row costs what it was about, not the store: a partition whose row is lost is there, and cannot be read. Only where two
 * objects name one log, the store is not opened to be written to.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/local_exchange.h"
#include "engine/local_member.h"
#include "engine/local_queue.h"
#include "engine/local_tx.h"

/* ---- objects ---- */

/* Numbers that are gathered in a callback. */
struct numbers {
	uint64_t *items;
	size_t count, room;
};

static int add_number(struct numbers *numbers, uint64_t number)
{
	size_t room = numbers->room > 0 ? numbers->room * 2 : 16;
	uint64_t *items;

	if (numbers->count == numbers->room) {
		items = realloc(numbers->items, room * sizeof(*items));
		if (items == NULL)
			return -ENOMEM;
		numbers->items = items;
		numbers->room = room;
	}
	numbers->items[numbers->count++] = number;
	return 0;
}

struct loading {
	struct local *local;
	struct numbers unfinished; /* objects whose creation was cut off */
};

static void fill_object(struct object *object, const struct catalog_object *row)
{
	object->owner = row->owner;
	object->birth = row->birth;
	object->ctime_ms = row->ctime_ms;
	object->mtime_ms = row->mtime_ms;
	memcpy(object->key.name, row->name, strlen(row->name));
}

/* Of the kinds there are below the store. NULL: no memory. */
static struct object *new_object(struct local *local, const struct catalog_object *row, struct object *parent)
{
	struct topic *topic;
	struct group *group;
	struct queue *queue;
	struct queue_consumer *consumer;
	struct member *member;
	struct exchange *exchange;

	if (row->kind == ENGINE_TOPIC) {
		topic = topic_new(local, row->id);
		return topic != NULL ? &topic->object : NULL;
	}
	if (row->kind == ENGINE_QUEUE) {
		queue = queue_new(local, row->id, parent);
		return queue != NULL ? &queue->object : NULL;
	}
	if (row->kind == ENGINE_MEMBER) {
		member = member_new(local, row->id, group_of_object(parent));
		return member != NULL ? &member->object : NULL;
	}
	if (row->kind == ENGINE_EXCHANGE) {
		exchange = exchange_new(local, row->id);
		return exchange != NULL ? &exchange->object : NULL;
	}
	if (row->kind == ENGINE_TX) {
		struct tx *tx = tx_new(local, row->id);

		return tx != NULL ? &tx->object : NULL;
	}
	if (row->kind == ENGINE_CONSUMER) {
		consumer = queue_consumer_new(local, row->id, queue_of_object(parent));
		return consumer != NULL ? &consumer->object : NULL;
	}
	group = group_new(local, row->id, topic_of_object(parent));
	return group != NULL ? &group->object : NULL;
}

static bool has_number(const struct numbers *numbers, uint64_t number)
{
	size_t i = 0;

	while (i < numbers->count && numbers->items[i] != number)
		i++;
	return i < numbers->count;
}

static int add_object(struct loading *loading, const struct catalog_object *row)
{
	struct local *local = loading->local;
	struct object *parent = registry_get(local, row->parent_id), *object;
	int rc = -ENOMEM;

	if (parent == NULL && has_number(&loading->unfinished, row->parent_id))
		return 0; /* it goes with its parent */
	if (parent == NULL || !engine_may_hold(parent->kind, row->kind)) {
		object_put(parent);
		local_notify(
		    local, EIO, "object %" PRIu64 " of the catalog has no place in the tree and is left out", row->id);
		return 0;
	}
	object = new_object(local, row, parent);
	object_put(parent);
	if (object != NULL) {
		fill_object(object, row);
		if (object->kind != ENGINE_QUEUE || object->parent->kind == ENGINE_STORE) /* a dlq is its parent's */
			rc = object_keep(object, ENGINE_KEEP_THERE);
		else
			rc = 0;
		if (rc == 0)
			rc = registry_add(local, object);
		if (rc < 0)
			object_put(object);
	}
	return rc;
}

static int load_object(void *ctx, const struct catalog_object *row)
{
	struct loading *loading = ctx;

	if (row->kind == ENGINE_STORE) {
		fill_object(loading->local->root, row);
		return 0;
	}
	if (row->name[0] == '/')
		return add_number(&loading->unfinished, row->id);
	return add_object(loading, row);
}

/* ---- what belongs to an object ---- */

/* Partitions whose rows are damaged: they keep their numbers, and no log has LOCAL_NO_LOG for its id. */
static int fill_gap(struct topic *topic, uint32_t partitions)
{
	int rc = 0;

	while (atomic_load(&topic->partitions) < partitions && rc == 0) {
		local_fault(local_of(&topic->object), EIO,
		    "topic %s, partition %" PRIu32 ": its row in the catalog is lost", topic->object.key.name,
		    atomic_load(&topic->partitions));
		rc = topic_add_partition(topic, LOCAL_NO_LOG);
	}
	return rc;
}

static int load_partition(void *ctx, uint32_t partition, uint64_t log_id)
{
	struct topic *topic = ctx;
	int rc;

	if (partition >= ENGINE_PARTITIONS_MAX)
		return 0; /* damage too, which costs that row: its log is told of as one that no topic has */
	rc = fill_gap(topic, partition);
	return rc < 0 ? rc : topic_add_partition(topic, log_id);
}

static int load_topic(struct local *local, struct topic *topic)
{
	int rc = settings_load(&topic->object);

	if (rc == 0)
		rc = catalog_each_partition(local->catalog, topic->object.id, load_partition, topic);
	if (rc == 0)
		rc = fill_gap(topic, 1);
	if (rc == 0)
		rc = ends_load(&topic->object);
	return rc;
}

static int load_cursor(void *ctx, const struct catalog_cursor *row)
{
	checkpoint_restore(ctx, row, false);
	return 0;
}

static int load_group(struct local *local, struct group *group)
{
	int rc = settings_load(&group->object);

	if (rc == 0)
		rc = group_lock(group);
	if (rc < 0)
		return rc;
	group_unlock(group);
	return catalog_each_cursor(local->catalog, group->object.id, load_cursor, group);
}

/* Parents have lower ids, so a group's topic is complete when its turn comes. */
static int load_details(struct local *local)
{
	int rc = 0;

	for (size_t i = 0; i < local->objects.count && rc == 0; i++) {
		struct object *object = local->objects.items[i];

		if (object->kind == ENGINE_TOPIC)
			rc = load_topic(local, topic_of_object(object));
		else if (object->kind == ENGINE_GROUP)
			rc = load_group(local, group_of_object(object));
		else if (object->kind == ENGINE_QUEUE)
			rc = queue_load(queue_of_object(object));
		else if (object->kind == ENGINE_CONSUMER)
			rc = settings_load(object);
		else if (object->kind == ENGINE_EXCHANGE)
			rc = exchange_load(exchange_of_object(object));
		else if (object->kind == ENGINE_TX)
			rc = tx_load(tx_of_object(object));
	}
	return rc;
}

static int remove_unfinished(struct local *local, uint64_t id)
{
	bool again = false;
	int rc;

	do
		rc = catalog_remove(local->catalog, id);
	while (reserve_again(local, rc, &again));
	return rc == -ENOENT ? 0 : rc; /* it went with its parent */
}

int local_load(struct local *local)
{
	struct loading loading = { .local = local };
	int rc;

	rc = catalog_each_object(local->catalog, load_object, &loading);
	for (size_t i = 0; i < loading.unfinished.count && rc == 0 && !local->read_only; i++)
		rc = remove_unfinished(local, loading.unfinished.items[i]);
	if (rc == 0)
		rc = load_details(local);
	if (rc == 0)
		rc = local_check_logs(local);
	/* Last: what is there has the built-in value of what was never set, whatever the defaults are now. */
	for (unsigned int kind = 0; kind < ENGINE_KIND_COUNT && rc == 0; kind++)
		rc = settings_load(local->defaults[kind]);
	free(loading.unfinished.items);
	return rc;
}
