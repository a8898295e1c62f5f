/*
 * memory_queue_time - what happens to messages and queues because time goes by.
 *
 * A message that is READY expires, one that is DELAYED becomes READY, a lease ends, an unused queue goes. Each queue knows a
 * time before which nothing of that can be; when it has come, all its messages are looked at, and what is due is done in the
 * order in which it was due. The engine knows the earliest of these times. They may be too early, never too late: then there
 * is a look for nothing.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/clock.h"
#include "engine/memory_queue.h"
#include "engine/memory_tx.h"

#define TIMER_MAX_MS 3600000 /* how far ahead the thread looks; enough that it costs nothing */

struct event {
	int64_t due_ms;
	uint64_t id;
};

struct events {
	struct event *list;
	size_t count, room;
};

static int64_t add(int64_t a, int64_t b)
{
	int64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* ---- when ---- */

bool memory_is_held(const struct memory_item *item)
{
	return item->stream != NULL || item->consumer->sessions > 0;
}

int64_t memory_expiry(const struct memory_item *item)
{
	int64_t ttl = memory_setting_int(item->queue, "message.ttl.ms"), own = item->message.props.ttl_ms;

	if (own >= 0 && (ttl < 0 || own < ttl))
		ttl = own;
	return ttl >= 0 ? add(item->alive_ms, ttl) : INT64_MAX;
}

static int64_t lease_end_mono(const struct memory_item *item)
{
	const char *name = memory_is_held(item) ? "consumer.timeout.ms" : "ack.timeout.ms";

	if (item->pins > 0)
		return INT64_MAX;
	return item->leased_mono + memory_setting_int(item->queue, name);
}

int64_t memory_due(const struct memory_item *item)
{
	if (item->state == ENGINE_READY)
		return memory_expiry(item);
	if (item->state == ENGINE_DELAYED)
		return item->due_ms;
	if (lease_end_mono(item) == INT64_MAX)
		return INT64_MAX;
	return lease_end_mono(item) - clock_mono_ms() + clock_wall_ms();
}

static void note(struct memory_object *queue, int64_t wall, int64_t mono)
{
	struct memory_engine *memory = queue->memory;

	queue->queue->next_wall = earlier(queue->queue->next_wall, wall);
	queue->queue->next_mono = earlier(queue->queue->next_mono, mono);
	if (wall >= memory->next_wall && mono >= memory->next_mono)
		return;
	memory->next_wall = earlier(memory->next_wall, wall);
	memory->next_mono = earlier(memory->next_mono, mono);
	memory_timer_kick(memory);
}

void memory_note_due(struct memory_item *item)
{
	if (item->state == ENGINE_UNACKED)
		note(item->queue, INT64_MAX, lease_end_mono(item));
	else
		note(item->queue, memory_due(item), INT64_MAX);
}

void memory_look_again(struct memory_object *queue)
{
	note(queue, 0, 0);
}

/* ---- what is due ---- */

static void add_due(struct events *events, const struct memory_items *items, int64_t now)
{
	for (const struct memory_item *item = items->first; item != NULL; item = item->next) {
		int64_t due_ms = memory_due(item);

		if (due_ms > now)
			continue;
		if (events->count == events->room) {
			size_t room = events->room > 0 ? events->room * 2 : 64;
			struct event *grown = realloc(events->list, room * sizeof(*grown));

			if (grown == NULL) /* the rest has its turn when it is looked for again */
				return;
			events->list = grown;
			events->room = room;
		}
		events->list[events->count++] = (struct event){ due_ms, item->id };
	}
}

static bool may_expire(const struct memory_object *queue)
{
	return queue->queue->with_ttl > 0 || memory_setting_int(queue, "message.ttl.ms") >= 0;
}

static void find_due(struct memory_object *object, struct events *events, int64_t now)
{
	const struct memory_queue *queue = object->queue;

	for (uint32_t p = 0; may_expire(object) && p < ENGINE_PRIORITIES; p++)
		add_due(events, &queue->ready[p], now);
	add_due(events, &queue->unacked, now);
	add_due(events, &queue->delayed, now);
}

static int compare_events(const void *a, const void *b)
{
	const struct event *x = a, *y = b;

	if (x->due_ms != y->due_ms)
		return x->due_ms < y->due_ms ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* An event before this one may have done something to the same message: it is looked at again. */
static void apply(struct memory_object *queue, const struct event *event, int64_t now)
{
	struct memory_item *item = memory_item_find(queue->memory, event->id);

	if (item == NULL || item->queue != queue || memory_due(item) > now)
		return;
	memory_item_take(item);
	if (item->state == ENGINE_READY)
		memory_die(item, ENGINE_EXPIRED);
	else if (item->state == ENGINE_DELAYED)
		memory_make_ready(item);
	else
		memory_come_back(item, MEMORY_LOST);
}

/* ---- unused queues ---- */

/* When an unused queue goes, on the clock nobody sets. */
static int64_t unused_end(const struct memory_object *object)
{
	const struct memory_queue *queue = object->queue, *dlq;
	int64_t expires_ms = memory_setting_int(object, "expires.ms");

	if (expires_ms < 0 || queue->dlq == NULL)
		return INT64_MAX;
	dlq = queue->dlq->queue;
	if (object->bound > 0 || queue->holders != NULL || dlq->holders != NULL || queue->producers > 0 ||
	    dlq->producers > 0)
		return INT64_MAX;
	return (queue->used_mono > dlq->used_mono ? queue->used_mono : dlq->used_mono) + expires_ms;
}

static bool remove_if_unused(struct memory_object *object)
{
	if (unused_end(object) > clock_mono_ms())
		return false;
	memory_queue_clear(object->queue->dlq);
	memory_queue_clear(object);
	memory_detach_queue(object);
	return true;
}

/* ---- the sweep ---- */

static int64_t first_due(const struct memory_items *items, bool leases)
{
	int64_t first = INT64_MAX;

	for (const struct memory_item *item = items->first; item != NULL; item = item->next)
		first = earlier(first, leases ? lease_end_mono(item) : memory_due(item));
	return first;
}

static void find_next(struct memory_object *object)
{
	struct memory_queue *queue = object->queue;

	queue->next_wall = first_due(&queue->delayed, false);
	for (uint32_t p = 0; may_expire(object) && p < ENGINE_PRIORITIES; p++)
		queue->next_wall = earlier(queue->next_wall, first_due(&queue->ready[p], false));
	queue->next_mono = earlier(first_due(&queue->unacked, true), unused_end(object));
}

static bool has_come(const struct memory_queue *queue, int64_t wall, int64_t mono)
{
	return queue->next_wall <= wall || queue->next_mono <= mono;
}

void memory_sweep_one(struct memory_object *queue)
{
	int64_t wall = clock_wall_ms();
	struct events events = { 0 };

	find_due(queue, &events, wall);
	if (events.count > 0)
		qsort(events.list, events.count, sizeof(*events.list), compare_events);
	for (size_t i = 0; i < events.count; i++)
		apply(queue, &events.list[i], wall);
	free(events.list);
}

/* Queues one after the other, the older first; each with what follows from it for where its dead letters go. */
static void sweep_due(struct memory_engine *memory)
{
	int64_t wall = clock_wall_ms(), mono = clock_mono_ms();

	memory_member_sweep(memory);
	memory_tx_sweep(memory);
	if (wall < memory->next_wall && mono < memory->next_mono)
		return;
	for (size_t i = 0; i < memory->object_count; i++) {
		struct memory_object *object = memory->objects[i], *target;

		if (object->queue == NULL || !has_come(object->queue, wall, mono))
			continue;
		if (remove_if_unused(object)) {
			i--; /* its consumers and dead letters have higher ids */
			continue;
		}
		memory_sweep_one(object);
		memory_enforce_length(object);
		target = memory_dead_letter_target(object);
		if (target != NULL)
			memory_enforce_length(target);
	}
	memory->next_wall = memory->next_mono = INT64_MAX;
	for (size_t i = 0; i < memory->object_count; i++) {
		struct memory_queue *queue = memory->objects[i]->queue;

		if (queue == NULL)
			continue;
		if (has_come(queue, wall, mono))
			find_next(memory->objects[i]);
		memory->next_wall = earlier(memory->next_wall, queue->next_wall);
		memory->next_mono = earlier(memory->next_mono, queue->next_mono);
	}
}

/* What dies may go on through an exchange, and make something due there. */
void memory_queue_sweep(struct memory_engine *memory)
{
	do
		sweep_due(memory);
	while (memory_forward(memory));
}

/* ---- the thread ---- */

/* How long it may sleep; the clocks may be those of a test, so this is no more than a guess. */
static int64_t sleep_ms(const struct memory_engine *memory)
{
	int64_t left = TIMER_MAX_MS;

	if (memory->next_wall != INT64_MAX)
		left = earlier(left, memory->next_wall - clock_wall_ms());
	if (memory->next_mono != INT64_MAX)
		left = earlier(left, memory->next_mono - clock_mono_ms());
	if (memory->next_silent != INT64_MAX)
		left = earlier(left, memory->next_silent - clock_mono_ms());
	if (memory->next_tx != INT64_MAX)
		left = earlier(left, memory->next_tx - clock_mono_ms());
	return left > 0 ? left : 1;
}

static void wait_for_next(struct memory_engine *memory)
{
	clock_wait(&memory->timer_wake, &memory->lock, sleep_ms(memory));
}

static void *timer_main(void *arg)
{
	struct memory_engine *memory = arg;

	memory_lock_quietly(memory);
	while (!memory->timer_stop) {
		memory_queue_sweep(memory);
		if (memory->changed == NULL && memory->wakes == NULL) {
			wait_for_next(memory);
			continue;
		}
		memory_leave(memory); /* wakes those who wait */
		memory_lock_quietly(memory);
	}
	memory_leave(memory);
	return NULL;
}

int memory_timer_start(struct memory_engine *memory)
{
	int rc;

	if (memory->timer_runs)
		return 0;
	pthread_cond_init(&memory->timer_wake, NULL);
	rc = pthread_create(&memory->timer, NULL, timer_main, memory);
	if (rc != 0)
		pthread_cond_destroy(&memory->timer_wake);
	memory->timer_runs = rc == 0;
	return -rc;
}

void memory_timer_kick(struct memory_engine *memory)
{
	if (memory->timer_runs)
		pthread_cond_signal(&memory->timer_wake);
}

void memory_timer_stop(struct memory_engine *memory)
{
	if (!memory->timer_runs)
		return;
	memory_lock_quietly(memory);
	memory->timer_stop = true;
	memory_timer_kick(memory);
	memory_leave(memory);
	pthread_join(memory->timer, NULL);
	pthread_cond_destroy(&memory->timer_wake);
	memory->timer_runs = false;
}
