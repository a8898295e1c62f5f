/*
 * local_queue_reader - who is there to consume: open files and sessions, what each may be given, and who waits.
 *
 * Files and sessions of a queue are in one list, in the order in which they were opened. Under single.active.consumer the
 * consumer is active that holds a message, of several the one whose message was delivered first; if none does, the first
 * of the list, with all that belong to the same named consumer.
 *
 * Those who wait are in one list too, and are woken in the order in which they armed: one for each message that became
 * ready, and only those who may be given one. Who was woken is expected to come and fetch. If it is closed or disarmed
 * instead, the next one is woken; and should it do nothing at all, a timer wakes the next one after QUEUE_NUDGE_MS, as long
 * as there is something ready.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/clock.h"
#include "engine/local_queue.h"
#include "engine/local_stage.h"
#include "engine/local_visible.h"

#define SPAN_BY_ORDER(node) ((const struct span *)((const char *)(node)-offsetof(struct span, by_order)))

/* ---- what a reader may have ---- */

/* A setting that a named consumer has for itself, or else from its queue. */
static int64_t own_setting(const struct queue_reader *reader, enum local_setting own, enum local_setting of_queue)
{
	int64_t value = SETTING_INHERITS;

	if (reader->owner->kind == ENGINE_CONSUMER)
		value = setting_value(reader->owner, own);
	return value != SETTING_INHERITS ? value : setting_value(&reader->queue->object, of_queue);
}

bool reader_acks_itself(const struct queue_reader *reader)
{
	return reader->take || own_setting(reader, SET_CONSUMER_AUTO_ACK, SET_QUEUE_AUTO_ACK) != 0;
}

static uint64_t prefetch_of(const struct queue_reader *reader)
{
	return (uint64_t)own_setting(reader, SET_CONSUMER_PREFETCH, SET_QUEUE_PREFETCH);
}

static bool same_consumer(const struct queue_reader *a, const struct queue_reader *b)
{
	return a == b || (a->owner == b->owner && a->owner->kind == ENGINE_CONSUMER);
}

/* Whose message was delivered first, of those who hold any; or NULL. lock */
static const struct holder *first_holder(struct queue *queue)
{
	struct tree_node *node = tree_first(&queue->leased);

	return node != NULL ? SPAN_BY_ORDER(node)->holder : NULL;
}

/* May the reader, which need not be in the list yet, have messages? lock */
static bool is_active(const struct queue_reader *reader)
{
	struct queue *queue = reader->queue;
	const struct queue_reader *first = queue->readers;
	const struct holder *holding;

	if (setting_value(&queue->object, SET_QUEUE_SINGLE_ACTIVE) == 0)
		return true;
	holding = first_holder(queue);
	while (first != NULL && holding != NULL && first->holder != holding)
		first = first->next;
	if (first == NULL)
		return holding == NULL || holding == reader->holder;
	return same_consumer(first, reader);
}

uint64_t reader_allowance(const struct queue_reader *reader)
{
	uint64_t prefetch = prefetch_of(reader), unacked = reader->holder->unacked, allowed = UINT64_MAX;

	if (!is_active(reader))
		return 0;
	if (prefetch > 0 && !reader_acks_itself(reader))
		allowed = prefetch > unacked ? prefetch - unacked : 0;
	if (reader->how == ENGINE_CONSUME_ONE && allowed > 0)
		allowed = reader->finished ? 0 : 1;
	if (reader->how == ENGINE_CONSUME_SNAPSHOT && allowed > reader->left)
		allowed = reader->left;
	return allowed;
}

uint32_t queue_count_consumers(const struct queue *queue)
{
	uint32_t count = 0;

	for (const struct queue_reader *r = queue->readers; r != NULL; r = r->next) {
		const struct queue_reader *first = queue->readers;

		while (!same_consumer(first, r))
			first = first->next;
		count += first == r;
	}
	return count;
}

/* ---- waking; lock, up to wake_run ---- */

static void unlink_waiter(struct queue *queue, struct engine_waiter *waiter)
{
	*waiter->engine_link = waiter->engine_next;
	if (waiter->engine_next != NULL)
		waiter->engine_next->engine_link = waiter->engine_link;
	else
		queue->waiters_tail = waiter->engine_link;
	waiter->engine_link = NULL;
	atomic_fetch_sub(&queue->waiting, 1);
}

static void take_waiter(struct queue *queue, struct engine_waiter *waiter, struct wake_list *list)
{
	struct queue_reader *reader = waiter->engine_private;

	unlink_waiter(queue, waiter);
	waiter->engine_next = NULL;
	if (list->tail == NULL)
		list->head = waiter;
	else
		*list->tail = waiter;
	list->tail = &waiter->engine_next;
	reader->woken = true;
}

/* Has a waiter's reader, or its queue, gone? It is told so. */
static bool is_orphan(const struct queue_reader *reader)
{
	return atomic_load(&reader->owner->removed);
}

void queue_wake(struct queue *queue, uint64_t count, struct wake_list *list)
{
	struct engine_waiter *waiter = queue->waiters, *next;

	if (count > queue->messages[SPAN_READY])
		count = queue->messages[SPAN_READY];
	for (; waiter != NULL && count > 0; waiter = next) {
		next = waiter->engine_next;
		if (reader_allowance(waiter->engine_private) == 0)
			continue;
		take_waiter(queue, waiter, list);
		count--;
	}
	if (queue->waiters != NULL && list->head != NULL)
		timer_set_earlier(queue_local(queue), &queue->nudge, clock_mono_ms() + QUEUE_NUDGE_MS);
}

/* Only who had no room can have waited while there was something ready. */
void queue_room(struct queue *queue, struct wake_list *list)
{
	if (queue->waiters != NULL && queue->messages[SPAN_READY] > 0)
		queue_wake(queue, queue->messages[SPAN_READY], list);
}

void queue_wake_all(struct queue *queue, struct wake_list *list)
{
	while (queue->waiters != NULL)
		take_waiter(queue, queue->waiters, list);
}

void wake_run(struct wake_list *list)
{
	struct engine_waiter *waiter = list->head, *next;

	*list = (struct wake_list){ 0 };
	for (; waiter != NULL; waiter = next) {
		next = waiter->engine_next; /* wake may free it or arm it again */
		if (!visible_keeps(waiter))
			waiter->wake(waiter);
	}
}

/* Somebody was woken and may not have come, or it may be another's turn. */
void queue_nudge_fire(struct timer *timer)
{
	struct queue *queue = (struct queue *)((char *)timer - offsetof(struct queue, nudge));
	struct wake_list wake = { 0 };

	pthread_mutex_lock(&queue->lock);
	queue_wake(queue, 1, &wake);
	pthread_mutex_unlock(&queue->lock);
	wake_run(&wake);
}

/* ---- presence ---- */

/* Puts reader into the list at *link. lock */
static void insert_at(struct queue *queue, struct queue_reader *reader, struct queue_reader **link)
{
	reader->next = *link;
	reader->link = link;
	if (reader->next != NULL)
		reader->next->link = &reader->next;
	else
		queue->readers_tail = &reader->next;
	*link = reader;
}

/* lock */
static void enter_list(struct queue_reader *reader)
{
	struct queue *queue = reader->queue;

	insert_at(queue, reader, queue->readers_tail);
	reader->holder->readers += !reader->is_session;
	reader->holder->sessions += reader->is_session;
	queue_present(queue, 1);
}

static void take_out(struct queue *queue, struct queue_reader *reader)
{
	*reader->link = reader->next;
	if (reader->next != NULL)
		reader->next->link = reader->link;
	else
		queue->readers_tail = reader->link;
}

/* A named consumer stays in its place until it closes the last of its files: another takes that of the one that goes. lock */
static void leave_list(struct queue_reader *reader)
{
	struct queue *queue = reader->queue;
	struct queue_reader **place = reader->link, *heir;

	take_out(queue, reader);
	for (heir = *place; heir != NULL && !same_consumer(heir, reader); heir = heir->next)
		;
	if (heir != NULL && &heir->next != place) {
		take_out(queue, heir);
		insert_at(queue, heir, place);
	}
	reader->holder->readers -= !reader->is_session;
	reader->holder->sessions -= reader->is_session;
	queue_present(queue, -1);
	queue_set_timer(queue);
}

/* lock */
static int check_open(const struct queue_reader *reader)
{
	if (reader->is_session || reader->in_turn || is_active(reader))
		return 0;
	return engine_explain(-EBUSY, "the queue has single.active.consumer, and another consumer is active");
}

/* lock */
static int begin_snapshot(struct queue_reader *reader)
{
	uint64_t prefetch = prefetch_of(reader);

	reader->left = reader->queue->messages[SPAN_READY];
	if (prefetch > 0 && prefetch < reader->left)
		reader->left = prefetch;
	reader->priority = ENGINE_PRIORITIES;
	return queue_see_next_id(queue_local(reader->queue), &reader->before);
}

static int open_reader(struct engine_object *base, const struct queue_reader *how, struct queue_reader **ret_reader)
{
	struct queue_reader *reader;
	struct holder *holder;
	struct queue *queue;
	int rc = queue_enter_holder(base, &queue, &holder);

	if (rc < 0)
		return rc;
	if (how->is_session && object_of(base)->kind == ENGINE_QUEUE)
		return engine_explain(-EINVAL, "a session is of a named consumer");
	reader = malloc(sizeof(*reader));
	if (reader == NULL)
		return -ENOMEM;
	*reader = *how;
	reader->of_queue = true;
	reader->queue = queue;
	reader->holder = holder;
	reader->owner = object_ref(object_of(base));
	rc = queue_lock(queue);
	if (rc == 0) {
		rc = is_orphan(reader) ? -EIDRM : check_open(reader);
		if (rc == 0)
			rc = begin_snapshot(reader);
		if (rc == 0)
			enter_list(reader);
		queue_unlock(queue);
	}
	if (rc < 0) {
		object_put(reader->owner);
		free(reader);
		return rc;
	}
	*ret_reader = reader;
	return 0;
}

static void close_reader(struct queue_reader *reader)
{
	struct queue *queue = reader->queue;
	struct wake_list wake = { 0 };

	pthread_mutex_lock(&queue->lock);
	leave_list(reader);
	/* The wake that it did not follow is another's, and it may have been the active one. */
	if (reader->woken || setting_value(&queue->object, SET_QUEUE_SINGLE_ACTIVE) != 0)
		queue_wake(queue, reader->woken ? 1 : UINT64_MAX, &wake);
	pthread_mutex_unlock(&queue->lock);
	wake_run(&wake);
	object_put(reader->owner);
	free(reader);
}

/* ---- calls ---- */

int queue_reader_open(
    struct engine_object *base, enum engine_consume how, bool take, uint32_t uid, struct engine_consumer **ret_consumer)
{
	const struct queue_reader plan = { .how = how == ENGINE_CONSUME_WAIT ? ENGINE_CONSUME_ONE : how,
		.in_turn = how == ENGINE_CONSUME_WAIT || how == ENGINE_CONSUME_STREAM,
		.take = take,
		.uid = uid };
	struct queue_reader *reader;
	int rc = open_reader(base, &plan, &reader);

	if (rc == 0)
		*ret_consumer = (struct engine_consumer *)reader;
	return rc;
}

void queue_reader_close(struct queue_reader *reader)
{
	queue_catch_up(queue_local(reader->queue));
	if (reader->how == ENGINE_CONSUME_STREAM)
		holder_return(reader->queue, reader->holder, reader);
	close_reader(reader);
}

int queue_reader_arm(struct queue_reader *reader, struct engine_waiter *waiter)
{
	struct queue *queue = reader->queue;
	int rc;

	engine_reason_clear();
	queue_catch_up(queue_local(queue));
	rc = queue_lock(queue);
	if (rc < 0)
		return rc;
	reader->woken = false;
	if (is_orphan(reader)) {
		rc = -EIDRM;
	} else if (reader_finds(reader)) {
		rc = 1;
	} else {
		waiter->engine_private = reader;
		waiter->engine_next = NULL;
		waiter->engine_link = queue->waiters_tail;
		*queue->waiters_tail = waiter;
		queue->waiters_tail = &waiter->engine_next;
		atomic_fetch_add(&queue->waiting, 1);
	}
	queue_unlock(queue);
	if (rc == 0)
		watch_hurry(&queue->object);
	return rc;
}

bool queue_reader_disarm(struct queue_reader *reader, struct engine_waiter *waiter)
{
	struct queue *queue = reader->queue;
	struct wake_list wake = { 0 };
	bool armed;

	pthread_mutex_lock(&queue->lock);
	armed = waiter->engine_link != NULL;
	if (armed) {
		unlink_waiter(queue, waiter);
	} else if (reader->woken) {
		reader->woken = false;
		queue_wake(queue, 1, &wake);
	}
	pthread_mutex_unlock(&queue->lock);
	wake_run(&wake);
	return armed;
}

/* What is leased already is held from now on: its deadline changes, and a restart gives it back. lock */
static void hold_leases(struct queue *queue, struct holder *holder, bool held)
{
	int64_t timeout = setting_value(&queue->object, held ? SET_QUEUE_CONSUMER_TIMEOUT : SET_QUEUE_ACK_TIMEOUT);
	struct span *span, *next;

	for (span = holder->spans; span != NULL; span = next) {
		struct span_set set = span_as(span);
		struct queue_reader *stream = span->stream;

		next = span->held_next;
		if (span->held == held || stream != NULL)
			continue;
		set.held = held;
		set.due_ms = span->leased_ms + timeout;
		if (lane_set(span->lane, span->first, span->count, &set, NULL, WHY_NOTHING, &span) == 0)
			span_hold(span, holder, stream);
	}
	queue_set_timer(queue);
}

int queue_session_open(struct engine_object *base, struct engine_session **ret_session)
{
	const struct queue_reader plan = { .is_session = true };
	struct queue_reader *reader;
	int rc = open_reader(base, &plan, &reader);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&reader->queue->lock);
	hold_leases(reader->queue, reader->holder, true);
	pthread_mutex_unlock(&reader->queue->lock);
	queue_catch_up(queue_local(reader->queue)); /* a lease may be over by the other time it has now */
	*ret_session = (struct engine_session *)reader;
	return 0;
}

void queue_session_close(struct engine_session *session)
{
	struct queue_reader *reader = (struct queue_reader *)session;
	bool last;

	if (reader == NULL)
		return;
	queue_catch_up(queue_local(reader->queue));
	pthread_mutex_lock(&reader->queue->lock);
	last = reader->holder->sessions == 1;
	pthread_mutex_unlock(&reader->queue->lock);
	if (last)
		holder_return(reader->queue, reader->holder, NULL);
	close_reader(reader);
}
