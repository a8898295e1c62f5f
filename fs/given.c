#include "fs/given.h"

#include <stdlib.h>

#define RUNS_MAX (64u << 10) /* a mebibyte for a file */

static void add_run(struct given *given, uint64_t id, uint32_t deliveries)
{
	if (given->count == given->cap) {
		size_t cap = given->cap ? given->cap * 2 : 4;
		struct given_run *runs = cap <= RUNS_MAX ? realloc(given->runs, cap * sizeof *runs) : NULL;
		if (!runs)
			return;
		given->runs = runs;
		given->cap = cap;
	}
	given->runs[given->count++] = (struct given_run){ id, id, deliveries };
}

void given_add(struct given *given, const struct engine_view *view)
{
	for (uint32_t i = 0; i < view->batch.count; i++) {
		uint64_t id = view->deliveries[i].id;
		uint32_t deliveries = view->deliveries[i].deliveries;
		struct given_run *last = given->count > 0 ? &given->runs[given->count - 1] : NULL;
		if (last && last->last + 1 == id && last->deliveries == deliveries)
			last->last = id;
		else
			add_run(given, id, deliveries);
	}
}

bool given_some(const struct given *given)
{
	return given->count > 0;
}

static void give_back(struct engine_object *queue, struct engine_object *consumer, uint64_t id, uint32_t deliveries)
{
	const struct engine_queue_ops *ops = queue->engine->ops->queue;
	struct engine_message_stat stat;
	if (ops->message_stat(queue, id, &stat) == 0 && stat.state == ENGINE_UNACKED && stat.deliveries == deliveries)
		(void)ops->settle(consumer, ENGINE_NACK, id, id); /* what another has meanwhile is none of its own */
}

void given_back(struct given *given, struct engine_object *queue, struct engine_object *consumer)
{
	for (size_t i = 0; i < given->count; i++)
		for (uint64_t id = given->runs[i].first; id <= given->runs[i].last; id++)
			give_back(queue, consumer, id, given->runs[i].deliveries);
	given->count = 0;
}

void given_release(struct given *given)
{
	free(given->runs);
	*given = (struct given){ 0 };
}
