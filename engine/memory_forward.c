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

#define AT_ONCE 64 /* as in local_queue_forward.c */

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

/* Those that go next: what dies of that comes after them. */
static size_t find_next(const struct memory_queue *dlq, struct memory_item *items[AT_ONCE])
{
	size_t count = 0;

	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		for (struct memory_item *item = dlq->ready[p].first; item != NULL; item = item->next) {
			if (item->forward && count < AT_ONCE)
				items[count++] = item;
		}
	}
	return count;
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

/* As it is published: now, with the routing key that its queue says, or its own, and the priority it had as it died. */
static struct engine_props address(const struct memory_item *item)
{
	const char *key = memory_setting(item->queue->parent, "dead.letter.routing.key");
	struct engine_props props = item->message.props;

	if (strcmp(key, "none") != 0)
		props.routing_key = (struct engine_span){ key, strlen(key) };
	props.priority = (int32_t)item->priority;
	props.delay_ms = -1;
	props.partition = ENGINE_ANY;
	return props;
}

/* Its targets, but those queues that it would come to in a circle. */
static void find_targets(
    const struct memory_item *item, const struct memory_object *exchange, struct routing_match *match)
{
	const struct bindings_world world = memory_world(exchange->memory);
	const struct engine_props props = address(item);
	size_t kept = 0;

	bindings_route(&world, exchange->id, props.routing_key, props.headers, props.header_count, match);
	for (size_t i = 0; i < match->count; i++) {
		const struct memory_object *target = memory_find(exchange->memory, match->targets[i]);

		if (target->kind != ENGINE_QUEUE || !memory_is_circle(item, target))
			match->targets[kept++] = match->targets[i];
	}
	match->count = kept;
}

/* It was taken out of its queue. */
static void forward(struct memory_item *item, struct memory_object *exchange, const struct routing_match *match)
{
	struct engine_props props = address(item);
	const struct engine_batch batch = { .data = item->message.data,
		.len = item->message.len + 1,
		.count = 1,
		.lengths = &item->message.len,
		.props = &props,
		.cred = item->message.cred,
		.ts_ms = clock_wall_ms() };

	for (size_t i = 0; i < match->count; i++)
		give(item, &batch, memory_find(exchange->memory, match->targets[i]));
	exchange->exchange->routed += match->count;
	memory_discard(item, &item->queue->queue->totals.moved_out);
	memory_enforce_lengths(exchange->memory);
}

/* What goes nowhere, if no limit of its queue was quicker. */
static void drop(struct memory_object *dlq, uint64_t id)
{
	struct memory_item *item = memory_item_find(dlq->memory, id);

	if (item == NULL || item->queue != dlq || item->state != ENGINE_READY)
		return;
	memory_item_take(item);
	memory_discard(item, &dlq->queue->totals.dropped);
}

/* All that go are out of the dlq before the first is given to its targets, where it may displace others. */
static void forward_some(
    struct memory_object *dlq, struct memory_object *exchange, struct memory_item *items[AT_ONCE], size_t count)
{
	struct routing_match matches[AT_ONCE] = { 0 };
	uint64_t ids[AT_ONCE];

	for (size_t i = 0; i < count; i++) {
		ids[i] = items[i]->id;
		find_targets(items[i], exchange, &matches[i]);
		if (matches[i].count > 0)
			memory_item_take(items[i]);
	}
	for (size_t i = 0; i < count; i++) {
		if (matches[i].count > 0)
			forward(items[i], exchange, &matches[i]);
	}
	for (size_t i = 0; i < count; i++) {
		if (matches[i].count == 0)
			drop(dlq, ids[i]);
		exchange->exchange->published++;
		exchange->exchange->unroutable += matches[i].count == 0;
		routing_match_release(&matches[i]);
	}
}

/* Returns whether there was any. */
static bool forward_all(struct memory_object *dlq)
{
	struct memory_object *exchange = exchange_of(dlq->parent);
	struct memory_item *items[AT_ONCE];
	bool any = false;
	size_t count;

	while ((count = find_next(dlq->queue, items)) > 0) {
		for (size_t i = 0; i < count; i++)
			items[i]->forward = false;
		if (exchange == NULL)
			continue;
		forward_some(dlq, exchange, items, count);
		any = true;
	}
	return any;
}

/* Of one queue after the other, the older first. */
bool memory_forward(struct memory_engine *memory)
{
	bool any = false;

	if (!memory->forwarding)
		return false;
	memory->forwarding = false;
	for (size_t i = 0; i < memory->object_count; i++) {
		struct memory_object *object = memory->objects[i];

		if (object->queue != NULL && object->parent->kind == ENGINE_QUEUE)
			any |= forward_all(object);
	}
	return any;
}
