/*
 * memory_queue - the states of messages in a queue, and every way from one to another.
 *
 * The table at the top of engine_queue.h in code: each function here is one of its arrows, or what several of them share. What a
 * call does to a message it does by these, so counters, limits and deaths are kept here alone.
 */
#include "engine/memory_queue.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"

/* ---- life ---- */

int memory_queue_init(struct memory_object *object)
{
	object->queue = calloc(1, sizeof(*object->queue));
	if (object->queue == NULL)
		return -ENOMEM;
	object->queue->used_mono = clock_mono_ms();
	object->queue->next_wall = object->queue->next_mono = INT64_MAX;
	return 0;
}

static void clear_list(struct memory_object *object, struct memory_items *list)
{
	struct memory_item *item, *next;

	for (item = list->first; item != NULL; item = next) {
		next = item->next;
		HASH_DELETE(by_id, object->memory->items, item);
		memory_item_free(item);
	}
	object->queue->totals.dropped += list->count;
	*list = (struct memory_items){ 0 };
}

void memory_queue_clear(struct memory_object *object)
{
	struct memory_queue *queue = object->queue;

	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++)
		clear_list(object, &queue->ready[p]);
	clear_list(object, &queue->unacked);
	clear_list(object, &queue->delayed);
	queue->ready_count = queue->ready_bytes = queue->bytes = queue->with_ttl = 0;
}

void memory_queue_free(struct memory_object *object)
{
	if (object->queue == NULL)
		return;
	memory_queue_clear(object);
	free(object->queue);
}

int64_t memory_charge(struct memory_engine *memory, uint32_t uid, uint32_t count)
{
	return memory->users.lease != NULL ? memory->users.lease(memory->users.ctx, uid, count) : (int64_t)count;
}

/* Its lease is over. */
static void uncharge(struct memory_item *item)
{
	const struct engine_users *users = item->lessee != 0 ? &item->queue->memory->users : NULL;

	if (users != NULL && users->lease != NULL)
		users->unlease(users->ctx, (uint32_t)(item->lessee - 1), 1);
	item->lessee = 0;
}

void memory_item_free(struct memory_item *item)
{
	uncharge(item);
	for (uint32_t i = 0; i < item->death_count; i++)
		free((char *)item->deaths[i].queue.ptr);
	free(item->deaths);
	free(item->message.block);
	free(item);
}

struct memory_item *memory_item_find(struct memory_engine *memory, uint64_t id)
{
	struct memory_item *item;

	HASH_FIND(by_id, memory->items, &id, sizeof(id), item);
	return item;
}

/* ---- small questions ---- */

struct memory_object *memory_queue_of(struct memory_object *consumer)
{
	return consumer->kind == ENGINE_CONSUMER ? consumer->parent : consumer;
}

void memory_queue_name(const struct memory_object *queue, char name[MEMORY_QUEUE_NAME])
{
	const struct memory_object *above = queue->parent;

	if (above->kind == ENGINE_STORE)
		snprintf(name, MEMORY_QUEUE_NAME, "%s", queue->name);
	else if (above->kind == ENGINE_QUEUE)
		snprintf(name, MEMORY_QUEUE_NAME, "%s/dlq", above->name);
	else
		snprintf(name, MEMORY_QUEUE_NAME, "%s/groups/%s/dlq", above->parent->name, above->name);
}

uint32_t memory_max_priority(const struct memory_object *queue)
{
	return (uint32_t)memory_setting_int(queue, "max.priority");
}

bool memory_refuses(const struct memory_object *queue)
{
	return memory_setting(queue, "overflow")[0] == 'r';
}

bool memory_has_room(const struct memory_object *queue, uint64_t messages, uint64_t bytes)
{
	int64_t length = memory_setting_int(queue, "max.length");
	int64_t length_bytes = memory_setting_int(queue, "max.length.bytes");

	return (length < 0 || queue->queue->ready_count + messages <= (uint64_t)length) &&
	       (length_bytes < 0 || queue->queue->ready_bytes + bytes <= (uint64_t)length_bytes);
}

void memory_queue_used(struct memory_object *queue)
{
	queue->queue->used_mono = clock_mono_ms();
	queue->mtime_ms = clock_wall_ms();
}

void memory_queue_changed(struct memory_object *queue)
{
	if (queue->queue->changed)
		return;
	queue->queue->changed = true;
	queue->queue->next_changed = queue->memory->changed;
	queue->memory->changed = queue;
	queue->refs++;
}

/* ---- those that went ---- */

static void remember(struct memory_queue *queue, uint64_t id, enum memory_ended ended)
{
	queue->gone[queue->next_gone] = (struct memory_gone){ id, ended };
	queue->next_gone = (queue->next_gone + 1) % MEMORY_GONE;
}

static void forget(struct memory_queue *queue, uint64_t id)
{
	for (size_t i = 0; i < MEMORY_GONE; i++) {
		if (queue->gone[i].id == id)
			queue->gone[i] = (struct memory_gone){ 0 };
	}
}

int memory_gone_errno(const struct memory_queue *queue, uint64_t id)
{
	for (size_t i = 0; i < MEMORY_GONE; i++) {
		if (queue->gone[i].id != id || queue->gone[i].ended == MEMORY_NEVER_LEASED)
			continue;
		return queue->gone[i].ended == MEMORY_SETTLED ? -EALREADY : -ESTALE;
	}
	return -ENOENT;
}

/* ---- lists ---- */

static struct memory_items *list_of(const struct memory_item *item)
{
	struct memory_queue *queue = item->queue->queue;

	switch (item->state) {
	case ENGINE_READY: return &queue->ready[item->priority];
	case ENGINE_UNACKED: return &queue->unacked;
	case ENGINE_DELAYED: return &queue->delayed;
	case ENGINE_STATE_COUNT: break;
	}
	assert(!"a message in no state");
	return NULL;
}

/* NULL: at the end. */
static void insert_before(struct memory_items *list, struct memory_item *item, struct memory_item *before)
{
	struct memory_item *previous = before != NULL ? before->previous : list->last;

	item->next = before;
	item->previous = previous;
	*(previous != NULL ? &previous->next : &list->first) = item;
	*(before != NULL ? &before->previous : &list->last) = item;
	list->count++;
}

/* What comes back belongs near the front, what is new at the end. */
static void insert_ready(struct memory_item *item)
{
	struct memory_items *list = list_of(item);
	struct memory_item *before = NULL;

	if (list->last != NULL && list->last->rank > item->rank) {
		before = list->first;
		while (before->rank < item->rank)
			before = before->next;
	}
	insert_before(list, item, before);
}

static bool is_later(const struct memory_item *a, const struct memory_item *b)
{
	return a->due_ms != b->due_ms ? a->due_ms > b->due_ms : a->id > b->id;
}

static void insert_delayed(struct memory_item *item)
{
	struct memory_items *list = list_of(item);
	struct memory_item *before = NULL, *last = list->last;

	while (last != NULL && is_later(last, item)) {
		before = last;
		last = last->previous;
	}
	insert_before(list, item, before);
}

void memory_item_take(struct memory_item *item)
{
	struct memory_queue *queue = item->queue->queue;
	struct memory_items *list = list_of(item);

	*(item->previous != NULL ? &item->previous->next : &list->first) = item->next;
	*(item->next != NULL ? &item->next->previous : &list->last) = item->previous;
	item->next = item->previous = NULL;
	list->count--;
	queue->bytes -= item->message.len;
	queue->with_ttl -= item->message.props.ttl_ms >= 0;
	if (item->state == ENGINE_READY) {
		queue->ready_count--;
		queue->ready_bytes -= item->message.len;
	}
	if (item->state == ENGINE_UNACKED) {
		item->consumer->unacked--;
		item->stream = NULL;
		uncharge(item);
	}
	memory_queue_changed(item->queue);
}

/* What all states have in common when a message comes to one. */
static void enter_state(struct memory_item *item, enum engine_message_state state)
{
	struct memory_queue *queue = item->queue->queue;

	item->state = state;
	queue->bytes += item->message.len;
	queue->with_ttl += item->message.props.ttl_ms >= 0;
	memory_queue_changed(item->queue);
}

/* ---- the length ---- */

/* The message drop-head drops next. */
static struct memory_item *first_to_drop(const struct memory_queue *queue)
{
	uint32_t p = 0;
	struct memory_item *item;

	while (queue->ready[p].first == NULL)
		p++;
	item = queue->ready[p].first;
	while (item != NULL && item->rank < 0)
		item = item->next;
	return item != NULL ? item : queue->ready[p].last;
}

static bool is_too_long(const struct memory_object *queue)
{
	return !memory_refuses(queue) && queue->queue->ready_count > 0 && !memory_has_room(queue, 0, 0);
}

void memory_enforce_length(struct memory_object *queue)
{
	struct memory_object *target;

	queue->queue->grown = 0;
	if (!is_too_long(queue))
		return;
	memory_sweep_one(queue); /* what is over anyway makes room */
	while (is_too_long(queue)) {
		struct memory_item *item = first_to_drop(queue->queue);

		memory_item_take(item);
		memory_die(item, ENGINE_MAXLEN);
	}
	target = memory_dead_letter_target(queue);
	if (target != NULL)
		memory_enforce_length(target);
}

void memory_enforce_lengths(struct memory_engine *memory)
{
	while (memory->grown > 0) {
		struct memory_object *first = NULL;

		for (size_t i = 0; i < memory->object_count; i++) {
			struct memory_object *object = memory->objects[i];

			if (object->queue != NULL && object->queue->grown > 0 &&
			    (first == NULL || object->queue->grown < first->queue->grown))
				first = object;
		}
		if (first == NULL)
			memory->grown = 0;
		else
			memory_enforce_length(first);
	}
}

/* ---- from state to state: each takes an item in the air ---- */

void memory_make_ready(struct memory_item *item)
{
	if (memory_expiry(item) <= clock_wall_ms())
		memory_die(item, ENGINE_EXPIRED);
	else
		memory_put_ready(item);
}

void memory_put_ready(struct memory_item *item)
{
	struct memory_object *queue = item->queue;

	enter_state(item, ENGINE_READY);
	insert_ready(item);
	queue->queue->ready_count++;
	queue->queue->ready_bytes += item->message.len;
	memory_note_due(item);
	if (queue->queue->grown == 0)
		queue->queue->grown = ++queue->memory->grown;
}

void memory_make_delayed(struct memory_item *item, int64_t due_ms)
{
	if (due_ms <= clock_wall_ms()) {
		memory_make_ready(item);
		return;
	}
	item->due_ms = due_ms;
	enter_state(item, ENGINE_DELAYED);
	insert_delayed(item);
	memory_note_due(item);
}

static void count_delivery(struct memory_item *item)
{
	struct engine_queue_stat *totals = &item->queue->queue->totals;

	item->deliveries++;
	totals->delivered++;
	totals->redelivered += item->deliveries > 1;
}

void memory_make_unacked(
    struct memory_item *item, struct memory_object *consumer, struct memory_queue_file *stream, uint32_t uid)
{
	struct memory_queue *queue = item->queue->queue;

	count_delivery(item);
	item->consumer = consumer;
	item->stream = stream;
	item->lessee = (uint64_t)uid + 1;
	item->leased_mono = clock_mono_ms();
	item->delivered_ms = clock_wall_ms();
	item->delivery = ++queue->last_delivery;
	consumer->unacked++;
	consumer->delivered++;
	enter_state(item, ENGINE_UNACKED);
	insert_before(list_of(item), item, NULL);
	memory_note_due(item);
}

void memory_deliver_acked(struct memory_item *item)
{
	count_delivery(item);
	item->ended = MEMORY_SETTLED;
	memory_discard(item, &item->queue->queue->totals.acked);
}

bool memory_is_over_limit(const struct memory_item *item)
{
	int64_t limit = memory_setting_int(item->queue, "delivery.limit");

	return limit >= 0 && item->deliveries > limit;
}

void memory_come_back(struct memory_item *item, enum memory_ended ended)
{
	int64_t delay = memory_setting_int(item->queue, "redelivery.delay.ms");

	item->ended = ended;
	item->ended_by = item->consumer->id;
	if (memory_is_over_limit(item))
		memory_die(item, ENGINE_DELIVERY_LIMIT);
	else
		memory_make_delayed(item, clock_wall_ms() + delay);
}

void memory_discard(struct memory_item *item, uint64_t *total)
{
	struct memory_object *queue = item->queue;

	(*total)++;
	remember(queue->queue, item->id, item->ended);
	HASH_DELETE(by_id, queue->memory->items, item);
	memory_item_free(item);
	memory_queue_changed(queue);
}

void memory_item_place(struct memory_item *item, struct memory_object *queue, uint32_t priority, bool head)
{
	uint32_t max = memory_max_priority(queue);

	item->queue = queue;
	item->priority = priority < max ? priority : max;
	item->rank = head ? --queue->queue->last_head : ++queue->queue->last_rank;
}

void memory_arrive(struct memory_item *item, struct memory_object *queue, uint32_t priority)
{
	remember(item->queue->queue, item->id, item->ended);
	forget(queue->queue, item->id);
	item->deliveries = 0;
	item->ended = MEMORY_NEVER_LEASED;
	item->alive_ms = clock_wall_ms();
	queue->queue->totals.moved_in++;
	memory_queue_changed(item->queue);
	memory_item_place(item, queue, priority, false);
}

void memory_lose_leases(struct memory_object *consumer, const struct memory_queue_file *stream)
{
	struct memory_item *item = memory_queue_of(consumer)->queue->unacked.first;

	while (item != NULL) {
		struct memory_item *next = item->next;

		if (item->consumer == consumer && (stream == NULL || item->stream == stream)) {
			memory_item_take(item);
			memory_come_back(item, MEMORY_LOST);
		}
		item = next;
	}
}

/* ---- dead letters ---- */

/* Puts the death first; without memory the message goes without it. */
void memory_note_death(struct memory_item *item, const char *name, enum engine_death_reason reason)
{
	size_t len = strlen(name);
	uint32_t i = 0;
	struct engine_death death = { .reason = reason };

	while (i < item->death_count && (item->deaths[i].reason != reason || item->deaths[i].queue.len != len ||
					    memcmp(item->deaths[i].queue.ptr, name, len) != 0))
		i++;
	if (i < item->death_count) {
		death = item->deaths[i];
	} else {
		struct engine_death *grown = realloc(item->deaths, (i + 1) * sizeof(*grown));

		if (grown == NULL)
			return;
		item->deaths = grown;
		death.queue = (struct engine_span){ strdup(name), len };
		if (death.queue.ptr == NULL)
			return;
		item->death_count++;
	}
	memmove(item->deaths + 1, item->deaths, i * sizeof(*item->deaths));
	death.count++;
	death.ts_ms = clock_wall_ms();
	item->deaths[0] = death;
}

/* The queue dead letters of this one go to, or NULL. */
struct memory_object *memory_dead_letter_target(struct memory_object *queue)
{
	const char *to = memory_setting(queue, "dead.letter.to");
	struct memory_object *target = NULL;

	if (to[0] == 'n')
		return NULL;
	if (to[0] == 'q')
		target =
		    memory_find_child(queue->memory, queue->memory->objects[0], ENGINE_QUEUE, to + strlen("queues/"));
	if (target == NULL)
		target = queue->queue->dlq != NULL ? queue->queue->dlq : queue;
	return target;
}

bool memory_is_circle(const struct memory_item *item, const struct memory_object *target)
{
	char name[MEMORY_QUEUE_NAME];

	memory_queue_name(target, name);
	for (uint32_t i = 0; i < item->death_count; i++) {
		const struct engine_death *death = &item->deaths[i];

		if (death->reason == ENGINE_REJECTED)
			return false;
		if (death->queue.len == strlen(name) && memcmp(death->queue.ptr, name, death->queue.len) == 0)
			return true;
	}
	return false;
}

void memory_die(struct memory_item *item, enum engine_death_reason reason)
{
	memory_die_into(item, reason, memory_dead_letter_target(item->queue));
}

void memory_die_into(struct memory_item *item, enum engine_death_reason reason, struct memory_object *target)
{
	struct engine_queue_stat *totals = &item->queue->queue->totals;
	char name[MEMORY_QUEUE_NAME];

	memory_queue_name(item->queue, name);
	memory_note_death(item, name, reason);
	item->message.props.ttl_ms = -1;
	if (target == NULL) {
		memory_discard(item, reason == ENGINE_EXPIRED ? &totals->expired : &totals->dropped);
	} else if (memory_is_circle(item, target)) {
		memory_discard(item, &totals->dropped);
	} else {
		totals->dead_lettered++;
		item->forward = target->parent == item->queue && memory_forwards_now(item->queue);
		target->memory->forwarding |= item->forward;
		memory_arrive(item, target, item->priority);
		memory_make_ready(item);
	}
}

/* ---- checking ---- */

static uint64_t check_list(const struct memory_items *list, enum engine_message_state state)
{
	uint64_t bytes = 0;
#ifdef MQFS_DEBUG
	uint64_t count = 0;

	for (const struct memory_item *item = list->first; item != NULL; item = item->next, count++) {
		assert(item->state == state);
		assert(item->next == NULL ? list->last == item : item->next->previous == item);
		bytes += item->message.len;
	}
	assert(count == list->count);
#endif
	(void)list;
	(void)state;
	return bytes;
}

void memory_check_queue(const struct memory_object *object)
{
	const struct memory_queue *queue = object->queue;
	const struct engine_queue_stat *totals = &queue->totals;
	uint64_t ready = 0, bytes = 0, rest;

	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		ready += queue->ready[p].count;
		bytes += check_list(&queue->ready[p], ENGINE_READY);
	}
	rest = check_list(&queue->unacked, ENGINE_UNACKED) + check_list(&queue->delayed, ENGINE_DELAYED);
	assert(ready == queue->ready_count);
#ifdef MQFS_DEBUG
	assert(bytes == queue->ready_bytes && bytes + rest == queue->bytes);
#endif
	(void)rest;
	(void)bytes;
	assert(totals->published + totals->moved_in == ready + queue->unacked.count + queue->delayed.count +
							   totals->acked + totals->dead_lettered + totals->expired +
							   totals->dropped + totals->moved_out);
}
