/*
 * memory_forward - dead letters that go through an exchange: dead.letter.to is exchanges/NAME.
 *
 * They die into the queue's own dlq, as all do, and are published from there before anybody looks. Without such an exchange they
 * stay; where nothing matches, or only a queue that they would come to in a circle, they are dropped.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/memory_exchange.h"
#include "engine/memory_queue.h"

static bool memory_forwards(const struct memory_object *queue)
{
	return strncmp(memory_setting(queue, "dead.letter.to"), "exchanges/", strlen("exchanges/")) == 0;
}

static struct memory_object *exchange_of(const struct memory_object *queue)
{
	if (!memory_forwards(queue))
		return NULL;
	return memory_find_child(queue->memory, queue->memory->objects[0], ENGINE_EXCHANGE,
	    memory_setting(queue, "dead.letter.to") + strlen("exchanges/"));
}

bool memory_forwards_now(const struct memory_object *queue)
{
	return exchange_of(queue) != NULL;
}

static struct memory_item *find_next(struct memory_engine *memory)
{
	for (size_t i = 0; i < memory->object_count; i++) {
		const struct memory_queue *queue = memory->objects[i]->queue;

		for (uint32_t p = 0; queue != NULL && p < ENGINE_PRIORITIES; p++) {
			for (struct memory_item *item = queue->ready[p].first; item != NULL; item = item->next) {
				if (item->forward)
					return item;
			}
		}
	}
	return NULL;
}

/* The copy has the deaths, the last first. */
static void copy_deaths(const struct memory_item *from, struct memory_item *to)
{
	to->deaths = calloc(from->death_count + 1, sizeof(*to->deaths));
	for (uint32_t i = 0; to->deaths != NULL && i < from->death_count; i++) {
		const char *name = strdup(from->deaths[i].queue.ptr);

		if (name == NULL)
			return;
		to->deaths[i] = from->deaths[i];
		to->deaths[i].queue.ptr = name;
		to->death_count++;
	}
}

static void give(const struct memory_item *item, const struct engine_batch *batch, struct memory_object *target)
{
	struct memory_sending *sending;
	struct memory_item *copy = NULL;

	if (target->kind != ENGINE_QUEUE) {
		if (memory_topic_begin(target, batch, true, &sending) == 0)
			memory_topic_end(sending, true);
		return;
	}
	if (memory_queue_begin(target, batch, true, &copy) < 0)
		return;
	copy_deaths(item, copy);
	memory_queue_end(target, copy, false, true);
}

static void forward(struct memory_item *item, struct memory_object *exchange)
{
	struct memory_engine *memory = exchange->memory;
	const char *key = memory_setting(item->queue->parent, "dead.letter.routing.key");
	struct engine_queue_stat *totals = &item->queue->queue->totals;
	const struct bindings_world world = memory_world(memory);
	struct engine_props props = item->message.props;
	struct engine_batch batch = { .data = item->message.data,
		.len = item->message.len + 1,
		.count = 1,
		.lengths = &item->message.len,
		.props = &props,
		.cred = item->message.cred,
		.ts_ms = clock_wall_ms() };
	struct routing_match match = { 0 };
	uint64_t given = 0;

	if (strcmp(key, "none") != 0)
		props.routing_key = (struct engine_span){ key, strlen(key) };
	props.delay_ms = -1;
	props.partition = ENGINE_ANY;
	bindings_route(&world, exchange->id, props.routing_key, props.headers, props.header_count, &match);
	for (size_t i = 0; i < match.count; i++) {
		struct memory_object *target = memory_find(memory, match.targets[i]);

		if (target->kind == ENGINE_QUEUE && memory_is_circle(item, target))
			continue;
		give(item, &batch, target);
		given++;
	}
	routing_match_release(&match);
	exchange->exchange->published++;
	exchange->exchange->routed += given;
	exchange->exchange->unroutable += given == 0;
	memory_item_take(item);
	memory_discard(item, given > 0 ? &totals->moved_out : &totals->dropped);
}

bool memory_forward(struct memory_engine *memory)
{
	struct memory_item *item;
	bool any = false;

	while (memory->forwarding) {
		struct memory_object *exchange;

		item = find_next(memory);
		if (item == NULL) {
			memory->forwarding = false;
			break;
		}
		item->forward = false;
		exchange = exchange_of(item->queue->parent);
		if (exchange == NULL)
			continue;
		forward(item, exchange);
		any = true;
	}
	return any;
}
