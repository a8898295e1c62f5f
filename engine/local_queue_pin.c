/*
 * local_queue_pin - leases that do not end by time, as a transaction is going to settle them.
 *
 * A pin is of a message, whoever holds it, and is counted: several transactions may have staged it. It is looked at when a lease
 * is over, and then gives it another while, until nobody has it pinned any more; so it costs nothing before, and is not
 * in the journal: the transaction goes with the daemon, too. When the pin goes, the lease has what it had by itself.
 */
#define HASH_NONFATAL_OOM 1

#include <errno.h>
#include <stdlib.h>

#include "engine/local_queue.h"

#define PINNED_MS 1000 /* a lease that is over and pinned is looked at again after so long */

struct queue_pin {
	uint64_t id;
	uint32_t count;
	UT_hash_handle hh;
};

static struct queue_pin *find_pin(struct queue *queue, uint64_t id)
{
	struct queue_pin *pin;

	HASH_FIND(hh, queue->pins, &id, sizeof(id), pin);
	return pin;
}

int queue_pin(struct queue *queue, uint64_t id)
{
	struct queue_pin *pin = find_pin(queue, id);

	if (pin != NULL) {
		pin->count++;
		return 0;
	}
	pin = calloc(1, sizeof(*pin));
	if (pin == NULL)
		return -ENOMEM;
	pin->id = id;
	pin->count = 1;
	HASH_ADD(hh, queue->pins, id, sizeof(pin->id), pin);
	if (pin->hh.tbl != NULL)
		return 0;
	free(pin);
	return -ENOMEM;
}

/* When the lease ends by itself. lock */
static int64_t natural_end(const struct span *span)
{
	int64_t timeout_ms = setting_value(
		    &span->lane->queue->object, span->held ? SET_QUEUE_CONSUMER_TIMEOUT : SET_QUEUE_ACK_TIMEOUT),
		due_ms;

	return __builtin_add_overflow(span->leased_ms, timeout_ms, &due_ms) ? QUEUE_NEVER : due_ms;
}

void queue_unpin(struct queue *queue, uint64_t id)
{
	struct queue_pin *pin = find_pin(queue, id);
	struct span *span;

	if (pin == NULL || --pin->count > 0)
		return;
	HASH_DELETE(hh, queue->pins, pin);
	free(pin);
	span = span_of_id(queue, id);
	if (span == NULL || span->state != SPAN_UNACKED || natural_end(span) >= span->due_ms)
		return;
	tree_remove(&queue->deadlines, &span->by_due);
	span->due_ms = natural_end(span);
	tree_insert(&queue->deadlines, &span->by_due);
	queue_set_timer(queue);
}

void queue_free_pins(struct queue *queue)
{
	struct queue_pin *pin, *next;

	HASH_ITER (hh, queue->pins, pin, next) {
		HASH_DELETE(hh, queue->pins, pin);
		free(pin);
	}
}

/* A part of a span whose lease goes on. */
static int extend(struct span *span, uint64_t first, uint32_t count)
{
	struct holder *holder = span->holder;
	struct queue_reader *stream = span->stream;
	struct span_set set = span_as(span);
	int rc;

	set.place += (int64_t)(first - span->first);
	set.due_ms = queue_now(queue_local(span->lane->queue)) + PINNED_MS;
	rc = lane_set(span->lane, first, count, &set, NULL, WHY_UNTOLD, &span);
	if (rc == 0)
		span_hold(span, holder, stream);
	return rc;
}

int queue_end_lease(struct span *span, struct queue *target, struct wake_list *wake)
{
	struct lane *lane = span->lane;
	uint64_t first = span->first, id = span->first_id;
	uint32_t count = span->count, run;
	/* What its holder lost with the daemon is not over by any time. */
	enum queue_why why = span->holder != NULL ? WHY_UNTOLD : WHY_NOTHING;
	int rc = 0;

	if (lane->queue->pins == NULL)
		return span_return(span, first, count, ENDED_LOST, target, why, wake);
	for (uint32_t i = 0; i < count && rc == 0; i += run) {
		bool pinned = find_pin(lane->queue, id + i) != NULL;

		for (run = 1; i + run < count; run++) {
			if ((find_pin(lane->queue, id + i + run) != NULL) != pinned)
				break;
		}
		span = span_at(lane, first + i);
		rc = pinned ? extend(span, first + i, run)
			    : span_return(span, first + i, run, ENDED_LOST, target, why, wake);
	}
	return rc;
}
