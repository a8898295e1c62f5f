/*
 * local_queue_redrive - dead letters go back to the queue, or to the topic, they came from.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/local_queue.h"

/* Where a redrive is: what comes back to the dead letters meanwhile lies behind the ends they had, and stays. */
struct redrive {
	uint64_t first, last; /* ids */
	uint32_t priority;
	int64_t place;
	uint64_t ends[ENGINE_PRIORITIES];
};

/* The next message that is READY behind the place, of an id in the range. lock of the dlq */
static bool next_of_range(struct queue *dlq, struct redrive *r, uint64_t *ret_id)
{
	for (;; r->place = INT64_MIN) {
		struct lane *lane = queue_lane(dlq, r->priority);
		uint64_t offset, id;
		int64_t place;

		while (lane != NULL && lane_peek(lane, r->place, &offset, &place)) {
			struct engine_view view;

			r->place = place;
			if (offset < r->ends[r->priority] &&
			    lane_read(lane, offset, 1, &dlq->scratch, &view, &id) == 0 && id >= r->first &&
			    id <= r->last) {
				*ret_id = id;
				return true;
			}
		}
		if (r->priority == 0)
			return false;
		r->priority--;
	}
}

static int begin_redrive(struct queue *dlq, struct redrive *r)
{
	int rc = queue_lock(dlq);

	if (rc < 0)
		return rc;
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++)
		r->ends[p] = queue_lane(dlq, p) != NULL ? queue_lane(dlq, p)->end : 0;
	queue_unlock(dlq);
	return 0;
}

/* A dead letter of a group goes to the topic again, with its key; then it is removed. A crash in between leaves it in both. */
static int produce_again(struct queue *dlq, uint64_t id, struct engine_producer *producer)
{
	struct engine_scratch scratch = { 0 };
	struct engine_props props = ENGINE_PROPS_INIT;
	struct engine_view view = { 0 };
	int rc = queue_message_read(&dlq->object.base, id, &scratch, &view);

	if (rc == 0) {
		if (view.batch.props != NULL)
			props = view.batch.props[0];
		props.partition = ENGINE_ANY;
		props.priority = -1;
		props.ts_ms = -1;
		props.deaths = NULL;
		props.death_count = 0;
		view.batch.props = &props;
		view.batch.ts_ms = -1;
		rc = local_producer_send(producer, &view.batch, NULL);
	}
	if (rc == 0)
		rc = queue_message_remove(&dlq->object.base, id, ENGINE_READY);
	engine_scratch_release(&scratch);
	return rc;
}

int64_t queue_redrive(struct engine_object *base, uint64_t first, uint64_t last)
{
	struct redrive r = { .first = first, .last = last, .priority = ENGINE_PRIORITIES - 1, .place = INT64_MIN };
	const struct engine_span none = { NULL, 0 };
	struct engine_producer *producer = NULL; /* of the topic whose group these are of */
	struct queue *dlq = NULL;
	int64_t count = 0;
	uint64_t id;
	int rc = queue_enter(base, true, &dlq);

	if (rc < 0)
		return rc;
	if (!queue_is_dlq(dlq) || first > last)
		return engine_explain(-EINVAL, "only dead letters can go back to where they came from");
	if (dlq->object.parent->kind == ENGINE_GROUP)
		rc = local_producer_open(&dlq->object.parent->parent->base, ENGINE_ANY, none, &producer);
	if (rc < 0)
		return rc;
	if (producer != NULL)
		((struct producer *)producer)->again = true;
	rc = begin_redrive(dlq, &r);
	while (rc == 0) {
		struct engine_place to = {
			.queue = &dlq->object.parent->base, .state = ENGINE_READY, .priority = ENGINE_ANY
		};
		bool more;

		rc = queue_lock(dlq);
		if (rc < 0)
			break;
		more = next_of_range(dlq, &r, &id);
		queue_unlock(dlq);
		if (!more)
			break;
		rc = producer != NULL ? produce_again(dlq, id, producer)
				      : queue_message_move(base, id, ENGINE_READY, &to);
		if (rc == 0)
			count++;
		else if (rc == -ENOENT)
			rc = 0; /* somebody was quicker */
	}
	local_producer_close(producer);
	if (count > 0)
		return count;
	if (rc == 0 && !(first == 0 && last == UINT64_MAX))
		return engine_explain(-ENOENT, "none of these is among the dead letters");
	return rc;
}
