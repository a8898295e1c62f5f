/*
 * memory_queue_message - messages one by one: looking, removing, moving and touching; and purge and redrive.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/clock.h"
#include "engine/memory_queue.h"

void memory_fill_stat(const struct memory_item *item, struct engine_message_stat *stat)
{
	*stat = (struct engine_message_stat){ .id = item->id,
		.state = item->state,
		.priority = item->priority,
		.deliveries = item->deliveries,
		.size = item->message.len,
		.ts_ms = item->message.props.ts_ms,
		.due_ms = memory_due(item) };
	if (item->state != ENGINE_UNACKED)
		return;
	stat->consumer_id = item->consumer->id;
	if (memory_is_held(item))
		stat->due_ms = INT64_MAX;
}

/* Takes the lock and finds a message of the queue; state: in this one, or in any (ENGINE_STATE_COUNT). */
static int enter_message(
    struct memory_object *queue, uint64_t id, enum engine_message_state state, struct memory_item **ret_item)
{
	int rc = memory_enter(queue, ENGINE_QUEUE);
	struct memory_item *item;

	if (rc < 0)
		return rc;
	item = memory_item_find(queue->memory, id);
	if (item != NULL && item->queue == queue && (state == ENGINE_STATE_COUNT || item->state == state)) {
		*ret_item = item;
		return 0;
	}
	memory_leave(queue->memory);
	return -ENOENT;
}

static int enter_to_change(
    struct memory_object *queue, uint64_t id, enum engine_message_state state, struct memory_item **ret_item)
{
	int rc = enter_message(queue, id, state, ret_item);

	if (rc == 0 && queue->memory->read_only) {
		memory_leave(queue->memory);
		return -EROFS;
	}
	return rc;
}

int memory_message_stat(struct engine_object *queue, uint64_t id, struct engine_message_stat *ret_stat)
{
	struct memory_item *item;
	int rc = enter_message(memory_of(queue), id, ENGINE_STATE_COUNT, &item);

	if (rc < 0)
		return rc;
	memory_fill_stat(item, ret_stat);
	memory_leave(memory_of(queue)->memory);
	return 0;
}

int memory_message_read(
    struct engine_object *queue, uint64_t id, struct engine_scratch *scratch, struct engine_view *ret_view)
{
	struct memory_item *item;
	int rc = enter_message(memory_of(queue), id, ENGINE_STATE_COUNT, &item);

	if (rc < 0)
		return rc;
	rc = memory_queue_view(item, 1, SIZE_MAX, false, scratch, ret_view);
	memory_leave(memory_of(queue)->memory);
	return rc;
}

static void settle_by_hand(struct memory_item *item)
{
	item->ended = MEMORY_SETTLED;
	item->ended_by = item->consumer->id;
}

int memory_message_remove(struct engine_object *queue, uint64_t id, enum engine_message_state state)
{
	struct memory_object *self = memory_of(queue);
	struct engine_queue_stat *totals;
	struct memory_item *item;
	int rc = enter_to_change(self, id, state, &item);

	if (rc < 0)
		return rc;
	totals = &self->queue->totals;
	memory_item_take(item);
	if (state == ENGINE_UNACKED) {
		item->consumer->acked++;
		settle_by_hand(item);
	}
	memory_discard(item, state == ENGINE_UNACKED ? &totals->acked : &totals->dropped);
	memory_queue_used(self);
	memory_leave(self->memory);
	return 0;
}

/* ---- moving ---- */

static bool is_new_there(const struct memory_item *item, const struct memory_object *queue)
{
	return item->queue != queue;
}

/* Is there a place like this, and room for the message? */
static int check_place(const struct memory_item *item, const struct engine_place *to)
{
	const struct memory_object *queue = memory_of(to->queue);
	struct memory_object *consumer = to->consumer != NULL ? memory_of(to->consumer) : NULL;

	if (queue->memory != item->queue->memory || queue->is_defaults || queue->kind != ENGINE_QUEUE)
		return -EINVAL;
	if (queue->removed)
		return -EIDRM;
	if (to->state != ENGINE_READY && to->state != ENGINE_UNACKED)
		return -EINVAL;
	if (to->priority != ENGINE_ANY && to->priority > memory_max_priority(queue))
		return engine_explain(-EINVAL, "max.priority of the queue is %" PRIu32, memory_max_priority(queue));
	if (to->state == ENGINE_UNACKED) {
		if (consumer == NULL || consumer->is_defaults)
			return -EINVAL;
		if (memory_queue_of(consumer) != queue)
			return engine_explain(-EPERM, "it is a consumer of another queue");
		return consumer->removed ? -EIDRM : 0;
	}
	if (is_new_there(item, queue) && item->queue->queue->dlq != queue && memory_refuses(queue) &&
	    !memory_has_room(queue, 1, item->message.len))
		return engine_explain(-EDQUOT, "the queue is full");
	return 0;
}

static bool changes_priority(const struct memory_item *item, const struct engine_place *to)
{
	return to->priority != ENGINE_ANY && to->priority != item->priority;
}

/* To READY of the queue it is in. */
static void move_within(struct memory_item *item, const struct engine_place *to)
{
	if (item->state == ENGINE_READY && !changes_priority(item, to))
		return;
	memory_item_take(item);
	if (changes_priority(item, to) && !(item->state == ENGINE_UNACKED && memory_is_over_limit(item)))
		memory_item_place(item, item->queue, to->priority, false);
	if (item->state == ENGINE_UNACKED)
		memory_come_back(item, MEMORY_SETTLED);
	else
		memory_make_ready(item);
}

static void move_away(struct memory_item *item, const struct engine_place *to)
{
	struct memory_object *queue = memory_of(to->queue);

	memory_item_take(item);
	if (item->state == ENGINE_UNACKED)
		settle_by_hand(item);
	if (item->queue->queue->dlq == queue && to->state == ENGINE_READY) {
		memory_die_into(item, ENGINE_REJECTED, queue);
		return;
	}
	item->queue->queue->totals.moved_out++;
	memory_arrive(item, queue, to->priority != ENGINE_ANY ? to->priority : item->priority);
	if (to->state == ENGINE_READY)
		memory_make_ready(item);
	else
		memory_make_unacked(item, memory_of(to->consumer), NULL, to->uid);
}

/* The lease that its holder has begins anew, and nothing else. */
static bool renews(const struct memory_item *item, const struct engine_place *to)
{
	return item->state == ENGINE_UNACKED && item->queue == memory_of(to->queue) &&
	       item->consumer == memory_of(to->consumer);
}

/* To UNACKED of the queue it is in. */
static void claim(struct memory_item *item, const struct engine_place *to)
{
	struct memory_object *consumer = memory_of(to->consumer);

	if (renews(item, to)) {
		item->leased_mono = clock_mono_ms();
		memory_note_due(item);
		return;
	}
	memory_item_take(item);
	if (item->state == ENGINE_UNACKED) {
		item->ended = MEMORY_LOST;
		item->ended_by = item->consumer->id;
	}
	if (changes_priority(item, to))
		memory_item_place(item, item->queue, to->priority, false);
	memory_make_unacked(item, consumer, NULL, to->uid);
}

/* A lease that begins is charged; that of a message which the user has leased already goes on as he has it. */
static int charge_claim(struct memory_item *item, const struct engine_place *to)
{
	int rc = 0;

	if (to->state != ENGINE_UNACKED || renews(item, to))
		return 0;
	if (item->lessee == (uint64_t)to->uid + 1)
		item->lessee = 0; /* the charge goes over to the new one */
	else
		rc = (int)memory_charge(item->queue->memory, to->uid, 1);
	return rc < 0 ? rc : 0;
}

int memory_message_move(
    struct engine_object *queue, uint64_t id, enum engine_message_state state, const struct engine_place *to)
{
	struct memory_object *self = memory_of(queue);
	struct memory_item *item;
	int rc = enter_to_change(self, id, state, &item);

	if (rc < 0)
		return rc;
	rc = check_place(item, to);
	if (rc == 0)
		rc = charge_claim(item, to);
	if (rc == 0) {
		if (is_new_there(item, memory_of(to->queue)))
			move_away(item, to);
		else if (to->state == ENGINE_UNACKED)
			claim(item, to);
		else
			move_within(item, to);
		memory_queue_used(self);
		memory_queue_used(memory_of(to->queue));
	}
	memory_leave(self->memory);
	return rc;
}

int memory_message_touch(struct engine_object *queue, uint64_t id, enum engine_message_state state, int64_t until_ms)
{
	struct memory_object *self = memory_of(queue);
	struct memory_item *item;
	int rc = enter_to_change(self, id, state, &item);

	if (rc < 0)
		return rc;
	if (state == ENGINE_UNACKED) {
		item->leased_mono = clock_mono_ms();
		memory_note_due(item);
	} else if (state == ENGINE_DELAYED || until_ms > clock_wall_ms()) {
		memory_item_take(item);
		memory_make_delayed(item, until_ms);
	}
	memory_queue_used(self);
	memory_leave(self->memory);
	return 0;
}

/* ---- many at once ---- */

static void discard_all(struct memory_object *queue, const struct memory_items *items)
{
	while (items->first != NULL) {
		struct memory_item *item = items->first;

		memory_item_take(item);
		memory_discard(item, &queue->queue->totals.dropped);
	}
}

int memory_purge(struct engine_object *queue)
{
	struct memory_object *self = memory_of(queue);
	int rc = memory_enter(self, ENGINE_QUEUE);

	if (rc < 0)
		return rc;
	if (self->memory->read_only)
		rc = -EROFS;
	for (uint32_t p = 0; rc == 0 && p < ENGINE_PRIORITIES; p++)
		discard_all(self, &self->queue->ready[p]);
	if (rc == 0) {
		discard_all(self, &self->queue->delayed);
		memory_queue_used(self);
	}
	memory_leave(self->memory);
	return rc;
}

/* The ids of what is READY within first..last, in order of delivery, up to a 0: to be freed. */
static uint64_t *list_ready(const struct memory_queue *queue, uint64_t first, uint64_t last)
{
	uint64_t *ids = calloc(queue->ready_count + 1, sizeof(*ids));
	size_t count = 0;

	for (uint32_t i = 0; ids != NULL && i < ENGINE_PRIORITIES; i++) {
		const struct memory_item *item = queue->ready[ENGINE_PRIORITIES - 1 - i].first;

		for (; item != NULL; item = item->next) {
			if (item->id >= first && item->id <= last)
				ids[count++] = item->id;
		}
	}
	return ids;
}

/* What this one displaces there may come here anew: then it stays, or it would go round for ever. */
static int64_t redrive_ids(struct memory_object *dlq, const uint64_t *ids)
{
	struct memory_object *queue = dlq->parent;
	int64_t count = 0;

	for (; *ids != 0; ids++) {
		struct memory_item *item = memory_item_find(dlq->memory, *ids);

		if (item == NULL || item->queue != dlq || item->state != ENGINE_READY)
			continue;
		if (memory_refuses(queue) && !memory_has_room(queue, 1, item->message.len))
			return count > 0 ? count : engine_explain(-EDQUOT, "the queue is full");
		memory_item_take(item);
		dlq->queue->totals.moved_out++;
		memory_arrive(item, queue, item->priority);
		memory_make_ready(item);
		memory_enforce_lengths(dlq->memory);
		memory_queue_sweep(dlq->memory); /* what it displaced may go on through an exchange */
		count++;
	}
	return count;
}

/* A dead letter of a group goes to the topic again, with its key. */
static int produce_again(struct memory_object *dlq, struct memory_item *item)
{
	struct engine_props props = item->message.props;
	struct engine_batch batch = { .data = item->message.data,
		.len = item->message.len + 1,
		.count = 1,
		.lengths = &item->message.len,
		.props = &props,
		.cred = item->message.cred,
		.ts_ms = -1 };
	struct memory_sending *sending;
	int rc;

	props.partition = ENGINE_ANY;
	props.priority = -1;
	props.ts_ms = -1;
	rc = memory_topic_begin(dlq->parent->parent, &batch, true, &sending);
	if (rc < 0)
		return rc;
	memory_topic_end(sending, true);
	memory_item_take(item);
	memory_discard(item, &dlq->queue->totals.moved_out);
	return 0;
}

static int64_t redrive_to_topic(struct memory_object *dlq, const uint64_t *ids)
{
	int64_t count = 0;
	int rc = 0;

	for (; *ids != 0 && rc == 0; ids++) {
		rc = produce_again(dlq, memory_item_find(dlq->memory, *ids));
		count += rc == 0;
	}
	return count > 0 ? count : rc;
}

static int64_t redrive_locked(struct memory_object *dlq, uint64_t first, uint64_t last)
{
	uint64_t *ids;
	int64_t count;

	if (dlq->queue->dlq != NULL || first > last)
		return engine_explain(-EINVAL, "only dead letters can go back to where they came from");
	if (dlq->memory->read_only)
		return -EROFS;
	ids = list_ready(dlq->queue, first, last);
	if (ids == NULL)
		return -ENOMEM;
	count = dlq->parent->kind == ENGINE_GROUP ? redrive_to_topic(dlq, ids) : redrive_ids(dlq, ids);
	free(ids);
	if (count > 0)
		memory_queue_used(dlq);
	if (count > 0 && dlq->parent->kind == ENGINE_QUEUE)
		memory_queue_used(dlq->parent);
	if (count == 0 && !(first == 0 && last == UINT64_MAX))
		return engine_explain(
		    -ENOENT, "none of the messages %" PRIu64 "-%" PRIu64 " is ready here", first, last);
	return count;
}

int64_t memory_redrive(struct engine_object *dlq, uint64_t first, uint64_t last)
{
	struct memory_object *self = memory_of(dlq);
	int64_t rc = memory_enter(self, ENGINE_QUEUE);

	if (rc < 0)
		return rc;
	rc = redrive_locked(self, first, last);
	memory_leave(self->memory);
	return rc;
}
