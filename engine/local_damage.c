/*
 * local_damage - see local_damage.h. Each log knows its own (plog_damaged()): nothing is kept here, so what was trimmed, purged, removed or
 * repaired needs no telling.
 */
#include "engine/local_damage.h"

#include <inttypes.h>
#include <stdio.h>

#include "engine/local_queue.h"

struct telling {
	void (*each)(void *ctx, const char *text);
	void *ctx;
};

static void look_at(struct telling *telling, const struct sync_point *point)
{
	struct plog *plog = atomic_load(point->log);
	char name[QUEUE_NAME_MAX], text[QUEUE_NAME_MAX + 128];
	uint64_t first, count = plog != NULL ? plog_damaged(plog, &first) : 0;
	bool is_topic = point->object->kind == ENGINE_TOPIC;

	if (count == 0)
		return;
	if (is_topic)
		object_name(point->object, name);
	else
		queue_name(queue_of_object(point->object), name);
	snprintf(text, sizeof(text),
	    "%s %s, %s %" PRIu32 ": %" PRIu64 " message%s damaged, the first is number %" PRIu64 " of its log",
	    is_topic ? "topic" : "queue", name, is_topic ? "partition" : "priority", point->index, count,
	    count == 1 ? " is" : "s are", first);
	telling->each(telling->ctx, text);
}

static void look_at_all(struct telling *telling, struct local *local, enum engine_kind kind)
{
	struct object *object;
	uint64_t after = 0;

	while ((object = registry_next(local, NULL, kind, after)) != NULL) {
		after = object->id;
		for (uint32_t k = 0; k < object_logs(object); k++) {
			if (object_log(object, k) != NULL)
				look_at(telling, object_log(object, k));
		}
		object_put(object);
	}
}

void damage_each(struct local *local, void (*each)(void *ctx, const char *text), void *ctx)
{
	struct telling telling = { each, ctx };

	look_at_all(&telling, local, ENGINE_TOPIC);
	look_at_all(&telling, local, ENGINE_QUEUE);
}
