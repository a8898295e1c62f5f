/*
 * memory_queue_consume - the consuming files of a queue: what each is given next, and waking those who wait.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/memory_queue.h"

static struct memory_queue_file *file_of(struct engine_consumer *consumer)
{
	return (struct memory_queue_file *)consumer;
}

/* ---- what there is for a file ---- */

static bool acks_itself(const struct memory_queue_file *file)
{
	return file->take || memory_setting(file->holder.consumer, "auto.ack")[0] == 't';
}

/* How many messages the file may be given now. */
static uint64_t allowance(const struct memory_queue_file *file)
{
	const struct memory_object *consumer = file->holder.consumer;
	uint64_t prefetch = (uint64_t)memory_setting_int(consumer, "prefetch"), allowed = UINT64_MAX;

	if (!memory_is_active(consumer, &file->holder))
		return 0;
	if (prefetch > 0 && !acks_itself(file))
		allowed = prefetch > consumer->unacked ? prefetch - consumer->unacked : 0;
	if (file->how == ENGINE_CONSUME_ONE && allowed > 0)
		allowed = file->done ? 0 : 1;
	if (file->how == ENGINE_CONSUME_SNAPSHOT && allowed > file->left)
		allowed = file->left;
	return allowed;
}

/* May a snapshot give this message: was it there, and does it come after what was given? */
static bool is_in_snapshot(const struct memory_queue_file *file, const struct memory_item *item)
{
	if (file->how != ENGINE_CONSUME_SNAPSHOT)
		return true;
	if (item->id >= file->before || item->priority > file->priority)
		return false;
	return item->priority < file->priority || item->rank > file->rank;
}

/* The next message for the file, and how many may be given with those behind it. */
static struct memory_item *find_next(const struct memory_queue_file *file, uint64_t *ret_count)
{
	const struct memory_queue *queue = memory_queue_of(file->holder.consumer)->queue;
	uint64_t allowed = allowance(file);

	for (uint32_t p = ENGINE_PRIORITIES; allowed > 0 && p-- > 0;) {
		struct memory_item *item = queue->ready[p].first, *last;
		uint64_t count = 1;

		while (item != NULL && !is_in_snapshot(file, item))
			item = item->next;
		if (item == NULL)
			continue;
		if (file->how == ENGINE_CONSUME_SNAPSHOT) {
			for (last = item; last->next != NULL && is_in_snapshot(file, last->next); last = last->next)
				count++;
			allowed = count < allowed ? count : allowed;
		}
		*ret_count = allowed;
		return item;
	}
	return NULL;
}

/* ---- waking ---- */

void memory_wake_queue(struct memory_object *queue, bool all)
{
	for (struct memory_holder *h = queue->queue->holders; h != NULL; h = h->next) {
		struct memory_queue_file *file = (struct memory_queue_file *)h;
		uint64_t count;

		if (h->is_file && file->waiters != NULL &&
		    (all || h->consumer->removed || find_next(file, &count) != NULL))
			memory_wake_all(queue->memory, &file->waiters);
	}
}

int memory_queue_consumer_arm(struct engine_consumer *consumer, struct engine_waiter *waiter)
{
	struct memory_queue_file *self = file_of(consumer);
	struct memory_object *object = self->holder.consumer;
	int rc = memory_enter(object, ENGINE_KIND_COUNT);
	uint64_t count;

	if (rc < 0)
		return rc;
	if (find_next(self, &count) != NULL)
		rc = 1;
	else
		memory_arm(&self->waiters, waiter);
	memory_leave(object->memory);
	return rc;
}

bool memory_queue_consumer_disarm(struct engine_consumer *consumer, struct engine_waiter *waiter)
{
	struct memory_engine *memory = file_of(consumer)->holder.consumer->memory;
	bool armed;

	memory_lock(memory);
	armed = memory_disarm(waiter);
	memory_leave(memory);
	return armed;
}

/* ---- opening and closing ---- */

static int check_open(const struct memory_queue_file *file, struct memory_object *consumer)
{
	if (file->in_turn || memory_is_active(consumer, NULL))
		return 0;
	return engine_explain(-EBUSY, "the queue has single.active.consumer, and another consumer is active");
}

static void begin_snapshot(struct memory_queue_file *file)
{
	const struct memory_object *consumer = file->holder.consumer, *queue = memory_queue_of(file->holder.consumer);
	uint64_t prefetch = (uint64_t)memory_setting_int(consumer, "prefetch");

	file->left = queue->queue->ready_count;
	if (prefetch > 0 && prefetch < file->left)
		file->left = prefetch;
	file->before = queue->memory->last_message_id + 1;
	file->priority = ENGINE_PRIORITIES;
}

int memory_queue_consumer_open(struct engine_object *consumer, enum engine_consume how, bool take, uint32_t uid,
    struct engine_consumer **ret_consumer)
{
	struct memory_object *self = memory_of(consumer);
	struct memory_queue_file *file = calloc(1, sizeof(*file));
	int rc = file != NULL ? memory_enter(self, ENGINE_KIND_COUNT) : -ENOMEM;

	if (rc < 0) {
		free(file);
		return rc;
	}
	file->how = how == ENGINE_CONSUME_WAIT ? ENGINE_CONSUME_ONE : how;
	file->in_turn = how == ENGINE_CONSUME_WAIT || how == ENGINE_CONSUME_STREAM;
	file->take = take;
	file->uid = uid;
	rc = self->kind == ENGINE_QUEUE || self->kind == ENGINE_CONSUMER ? check_open(file, self) : -EINVAL;
	if (rc == 0) {
		memory_hold(&file->holder, self, true);
		begin_snapshot(file);
		*ret_consumer = (struct engine_consumer *)file;
	}
	memory_leave(self->memory);
	if (rc < 0)
		free(file);
	return rc;
}

void memory_queue_consumer_close(struct engine_consumer *consumer)
{
	struct memory_queue_file *self = file_of(consumer);
	struct memory_engine *memory = self->holder.consumer->memory;

	memory_lock_quietly(memory);
	memory_queue_sweep(memory);
	if (self->how == ENGINE_CONSUME_STREAM)
		memory_lose_leases(self->holder.consumer, self);
	memory_let_go(&self->holder);
	memory_leave(memory);
	free(self);
}

/* ---- fetching ---- */

static void deliver(struct memory_queue_file *file, struct memory_item *item)
{
	file->done = true;
	file->left--;
	file->priority = item->priority;
	file->rank = item->rank;
	memory_item_take(item);
	if (acks_itself(file))
		memory_deliver_acked(item);
	else
		memory_make_unacked(
		    item, file->holder.consumer, file->how == ENGINE_CONSUME_STREAM ? file : NULL, file->uid);
}

/* The view from item on of what the user who reads may have, and has been charged for. */
static int charged_view(struct memory_queue_file *file, struct memory_item *item, size_t max_bytes,
    struct engine_scratch *scratch, struct engine_view *view)
{
	int64_t granted = memory_charge(file->holder.consumer->memory, file->uid, view->batch.count);

	if (granted < 0)
		return (int)granted;
	return granted < view->batch.count ? memory_queue_view(item, (uint64_t)granted, max_bytes, true, scratch, view)
					   : 0;
}

static int fetch_locked(struct memory_queue_file *file, uint32_t max_count, size_t max_bytes,
    struct engine_scratch *scratch, struct engine_view *ret_view)
{
	uint64_t count = 0;
	struct memory_item *item = find_next(file, &count);
	struct engine_view view;
	int rc;

	if (item == NULL)
		return 0;
	if (count > max_count)
		count = max_count;
	rc = memory_queue_view(item, count, max_bytes, true, scratch, &view);
	if (rc == 0 && !acks_itself(file))
		rc = charged_view(file, item, max_bytes, scratch, &view);
	if (rc < 0)
		return rc;
	*ret_view = view;
	for (uint32_t i = 0; i < view.batch.count; i++) {
		struct memory_item *next = item->next;

		deliver(file, item);
		item = next;
	}
	memory_queue_used(memory_queue_of(file->holder.consumer));
	return 1;
}

int memory_queue_consumer_fetch(struct engine_consumer *consumer, uint32_t max_count, size_t max_bytes,
    struct engine_scratch *scratch, struct engine_view *ret_view)
{
	struct memory_queue_file *self = file_of(consumer);
	struct memory_object *object = self->holder.consumer;
	int rc = memory_enter(object, ENGINE_KIND_COUNT);

	if (rc < 0)
		return rc;
	if (object->memory->read_only)
		rc = -EROFS;
	else
		rc = max_count > 0 ? fetch_locked(self, max_count, max_bytes, scratch, ret_view) : -EINVAL;
	memory_leave(object->memory);
	return rc;
}
