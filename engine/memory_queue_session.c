/*
 * memory_queue_session - who is present at a queue: open files and sessions, and whose turn it is.
 *
 * Holders are in order of opening. Under single.active.consumer the consumer is active that holds a message, of several the one
 * whose message was delivered first; if none does, the first of the list. With a named consumer all its holders
 * are, wherever they stand. It came when it opened the first and stays until it closes the last.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/clock.h"
#include "engine/memory_queue.h"

void memory_hold(struct memory_holder *holder, struct memory_object *consumer, bool is_file)
{
	struct memory_queue *queue = memory_queue_of(consumer)->queue;
	struct memory_holder **link = &queue->holders;

	while (*link != NULL)
		link = &(*link)->next;
	*link = holder;
	*holder = (struct memory_holder){ .consumer = consumer, .is_file = is_file };
	consumer->refs++;
	consumer->readers += is_file;
	consumer->sessions += !is_file;
	queue->used_mono = clock_mono_ms();
}

/* Another holder of the same named consumer takes the place, at *link, of the one that goes. */
static void hand_over(struct memory_holder **link, const struct memory_holder *gone)
{
	struct memory_holder **other = link, *heir;

	while (*other != NULL && ((*other)->consumer != gone->consumer || gone->consumer->kind != ENGINE_CONSUMER))
		other = &(*other)->next;
	heir = *other;
	if (heir == NULL)
		return;
	*other = heir->next;
	heir->next = *link;
	*link = heir;
}

void memory_let_go(struct memory_holder *holder)
{
	struct memory_object *consumer = holder->consumer, *queue = memory_queue_of(consumer);
	struct memory_holder **link = &queue->queue->holders;

	while (*link != holder)
		link = &(*link)->next;
	*link = holder->next;
	hand_over(link, holder);
	consumer->readers -= holder->is_file;
	consumer->sessions -= !holder->is_file;
	queue->queue->used_mono = clock_mono_ms();
	memory_queue_changed(queue); /* the next one's turn may have come */
	memory_look_again(queue);
	memory_unref(consumer);
}

static bool are_same_consumer(const struct memory_holder *a, const struct memory_holder *b)
{
	return a == b || (a->consumer == b->consumer && a->consumer->kind == ENGINE_CONSUMER);
}

bool memory_is_active(const struct memory_object *consumer, const struct memory_holder *holder)
{
	const struct memory_object *queue = memory_queue_of((struct memory_object *)consumer);
	const struct memory_item *oldest = queue->queue->unacked.first;
	const struct memory_object *holding = oldest != NULL ? oldest->consumer : NULL;
	const struct memory_holder *first = queue->queue->holders;

	if (memory_setting(queue, "single.active.consumer")[0] == 'f')
		return true;
	while (first != NULL && holding != NULL && first->consumer != holding)
		first = first->next;
	if (first == NULL)
		return holding == NULL || holding == consumer;
	return first == holder || (first->consumer == consumer && consumer->kind == ENGINE_CONSUMER);
}

uint32_t memory_count_consumers(const struct memory_object *queue)
{
	uint32_t count = 0;

	for (const struct memory_holder *h = queue->queue->holders; h != NULL; h = h->next) {
		const struct memory_holder *first = queue->queue->holders;

		while (!are_same_consumer(first, h))
			first = first->next;
		count += first == h;
	}
	return count;
}

/* ---- sessions ---- */

struct memory_session {
	struct memory_holder holder;
};

int memory_session_open(struct engine_object *consumer, struct engine_session **ret_session)
{
	struct memory_object *self = memory_of(consumer);
	struct memory_session *session = calloc(1, sizeof(*session));
	int rc = session != NULL ? memory_enter(self, ENGINE_CONSUMER) : -ENOMEM;

	if (rc < 0) {
		free(session);
		return rc;
	}
	memory_hold(&session->holder, self, false);
	memory_look_again(self->parent);
	memory_leave(self->memory);
	*ret_session = (struct engine_session *)session;
	return 0;
}

void memory_session_close(struct engine_session *session)
{
	struct memory_session *self = (struct memory_session *)session;
	struct memory_object *consumer;
	struct memory_engine *memory;

	if (session == NULL)
		return;
	consumer = self->holder.consumer;
	memory = consumer->memory;
	memory_lock_quietly(memory);
	memory_queue_sweep(memory);
	if (consumer->sessions == 1)
		memory_lose_leases(consumer, NULL);
	memory_let_go(&self->holder);
	memory_leave(memory);
	free(self);
}
