/*
 * local_damage - see local_damage.h. Each log knows its own (plog_damaged()): nothing is kept here, so what was trimmed, purged, removed or
 * repaired needs no telling.
 */
#include "engine/local_damage.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/local_queue.h"

#define PATH_SIZE (4 * (ENGINE_NAME_MAX + 1) + 1)

struct telling {
	void (*each)(void *ctx, const char *text);
	void *ctx;
	size_t count;
};

/* Its name behind those of what it is below. */
static void path_of(struct object *object, char ret_path[PATH_SIZE])
{
	char name[ENGINE_NAME_MAX + 1], below[PATH_SIZE];

	object_name(object, ret_path);
	for (struct object *at = object->parent; at != NULL && at->kind != ENGINE_STORE; at = at->parent) {
		strcpy(below, ret_path);
		object_name(at, name);
		if (strlen(name) + 1 + strlen(below) < PATH_SIZE) {
			strcpy(ret_path, name);
			strcat(strcat(ret_path, "/"), below);
		}
	}
}

static void tell(struct telling *telling, const char *text)
{
	telling->count++;
	if (telling->each != NULL)
		telling->each(telling->ctx, text);
}

static void look_at(struct telling *telling, struct object *object, const char *what, struct plog *plog)
{
	char path[PATH_SIZE], text[PATH_SIZE + 128];
	uint64_t first, count;

	if (plog == NULL)
		return;
	count = plog_damaged(plog, &first);
	if (count == 0)
		return;
	path_of(object, path);
	snprintf(text, sizeof(text),
	    "%s %s%s: %" PRIu64 " message%s damaged, the first is number %" PRIu64 " of its log",
	    object->kind == ENGINE_TOPIC ? "topic" : "queue", path, what, count, count == 1 ? " is" : "s are", first);
	tell(telling, text);
}

static void look_at_topic(struct telling *telling, struct topic *topic)
{
	uint32_t partitions = atomic_load(&topic->partitions);
	char what[32];

	for (uint32_t i = 0; i < partitions; i++) {
		snprintf(what, sizeof(what), ", partition %" PRIu32, i);
		look_at(telling, &topic->object, what, atomic_load(&topic_partition(topic, i)->plog));
	}
}

static void look_at_queue(struct telling *telling, struct queue *queue)
{
	char what[32];

	for (uint32_t i = 0; i < ENGINE_PRIORITIES; i++) {
		snprintf(what, sizeof(what), ", priority %" PRIu32, i);
		if (queue_lane(queue, i) != NULL)
			look_at(telling, &queue->object, what, atomic_load(&queue_lane(queue, i)->plog));
	}
}

static void look_at_all(struct telling *telling, struct local *local, enum engine_kind kind)
{
	struct object *object;
	uint64_t after = 0;

	while ((object = registry_next(local, NULL, kind, after)) != NULL) {
		after = object->id;
		if (kind == ENGINE_TOPIC)
			look_at_topic(telling, topic_of_object(object));
		else
			look_at_queue(telling, queue_of_object(object));
		object_put(object);
	}
}

size_t damage_each(struct local *local, void (*each)(void *ctx, const char *text), void *ctx)
{
	struct telling telling = { each, ctx, 0 };

	look_at_all(&telling, local, ENGINE_TOPIC);
	look_at_all(&telling, local, ENGINE_QUEUE);
	return telling.count;
}
