/*
 * local_queue_produce - messages come in.
 *
 * A producer's batch is checked, gets its ids, and goes to the lanes, all under the queue's lock, in the order of arrival: so ids
 * rise with the offsets. How it goes there is in local_queue_append.c. Sizes are checked before anything is appended, and so is the
 * room of a queue that refuses (local_queue_room.c).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/local_queue_move.h"
#include "engine/local_queue_send.h"
#include "engine/local_stage.h"
#include "engine/local_whole.h"

static struct queue_producer *producer_of(struct engine_producer *handle)
{
	return (struct queue_producer *)handle;
}

int queue_enter_to_produce(struct engine_object *base, struct queue **ret_queue)
{
	struct object *object = NULL;
	int rc;

	queue_catch_up((struct local *)base->engine);
	rc = object_enter(base, ENGINE_QUEUE, &object);
	if (rc == 0)
		rc = queue_open(queue_of_object(object));
	if (rc == 0)
		*ret_queue = queue_of_object(object);
	return rc;
}

/* ---- opening and closing ---- */

/* Does the lane of messages without a priority, or with this one, take none any more? lock */
static bool has_failed(struct queue *queue, uint32_t priority)
{
	const struct lane *lane = queue_lane(queue, queue_lower(queue, priority != ENGINE_ANY ? priority : 0));

	return lane != NULL && atomic_load(&lane->failed);
}

int queue_producer_open(struct engine_object *base, uint32_t priority, bool head, struct engine_producer **ret_producer)
{
	struct queue_producer *producer;
	struct queue *queue = NULL;
	int rc = queue_enter_to_produce(base, &queue);

	if (rc < 0)
		return rc;
	if (priority != ENGINE_ANY && priority >= ENGINE_PRIORITIES)
		return engine_explain(-EINVAL, "priorities are 0 to %u", ENGINE_PRIORITIES - 1);
	producer = calloc(1, sizeof(*producer));
	if (producer == NULL)
		return -ENOMEM;
	*producer = (struct queue_producer){ ENGINE_QUEUE, queue, priority, head, false };
	rc = queue_lock(queue);
	if (rc < 0) {
		free(producer);
		return rc;
	}
	if (has_failed(queue, priority)) {
		queue_unlock(queue);
		free(producer);
		return engine_explain(-EIO, "the queue takes no more messages: its disk failed");
	}
	queue->producers++;
	queue_present(queue, 1);
	queue_unlock(queue);
	object_ref(&queue->object);
	*ret_producer = (struct engine_producer *)producer;
	return 0;
}

void queue_producer_close(struct engine_producer *handle)
{
	struct queue_producer *producer = producer_of(handle);
	struct queue *queue = producer->queue;

	pthread_mutex_lock(&queue->lock);
	queue->producers--;
	queue_present(queue, -1);
	queue_set_timer(queue);
	pthread_mutex_unlock(&queue->lock);
	object_put(&queue->object);
	free(producer);
}

struct queue *queue_of_producer(struct engine_producer *handle, uint32_t *ret_priority)
{
	const struct queue_producer *producer = producer_of(handle);

	if (producer->of != ENGINE_QUEUE || producer->head)
		return NULL;
	*ret_priority = producer->priority;
	return producer->queue;
}

/* ---- one batch ---- */

static int find_lengths(struct sending *s)
{
	int64_t max_bytes = setting_value(&s->queue->object, SET_QUEUE_MAX_MESSAGE_BYTES);
	const char *data = s->batch.data;
	size_t left = s->batch.len;

	for (uint32_t i = 0; i < s->batch.count; i++) {
		const char *end = NULL;
		size_t len = s->batch.lengths != NULL ? s->batch.lengths[i] : 0;

		if (s->batch.lengths == NULL) {
			end = left > 0 ? memchr(data, '\n', left) : NULL;
			len = end != NULL ? (size_t)(end - data) : SIZE_MAX;
		}
		if (len >= left || len > UINT32_MAX || data[len] != '\n')
			return -EINVAL;
		if ((int64_t)len > max_bytes && s->claim == NULL && !s->producer->again)
			return object_explain_size(&s->queue->object, len, max_bytes);
		s->lengths[i] = (uint32_t)len;
		data += len + 1;
		left -= len + 1;
	}
	return left == 0 ? 0 : -EINVAL;
}

/* How much of the batch counts as READY. */
static void count_ready(const struct sending *s, uint64_t *ret_count, uint64_t *ret_bytes)
{
	uint64_t count = 0, bytes = 0;

	for (uint32_t i = 0; i < s->batch.count; i++) {
		bool counts = !sending_is_delayed(s, i);

		count += counts;
		bytes += counts ? s->lengths[i] : 0;
	}
	*ret_count = count;
	*ret_bytes = bytes;
}

/* lock */
static int check_room(const struct sending *s)
{
	uint64_t count, bytes;

	if (!s->refuses || s->kills || s->claim != NULL || s->producer->again)
		return 0;
	count_ready(s, &count, &bytes);
	return count == 0 || queue_has_room(s->queue, count, bytes) ? 0 : queue_explain_full(s->queue);
}

/* The lanes that the batch needs. No lock. */
static int make_lanes(const struct sending *s)
{
	uint32_t seen = 0;
	struct lane *lane;
	int rc = 0;

	for (uint32_t i = 0; i < s->batch.count && rc == 0; i++) {
		uint32_t priority = sending_priority(s, i);

		if (seen >> priority & 1)
			continue;
		seen |= 1u << priority;
		rc = queue_make_lane_to_produce(s->queue, priority, &lane);
		if (s->batch.props == NULL || s->producer->priority != ENGINE_ANY)
			break; /* all go there */
	}
	return rc;
}

static int send(struct sending *s)
{
	struct queue *queue = s->queue;
	int rc = queue_lock_both(queue, s->target);
	bool is_due;

	if (rc < 0)
		return rc;
	if (s->claim != NULL && !s->claim_ended)
		queue_end_claim(queue, s->claim);
	s->claim_ended = true;
	rc = check_room(s);
	if (rc == 0)
		rc = queue_next_ids(queue_local(queue), s->batch.count, &s->next_id);
	if (rc == 0)
		rc = sending_append(s);
	if (rc == 0) {
		queue->published_bytes += s->batch.len;
		queue->changed_ms = clock_wall_ms();
		queue_used(queue);
	}
	if (s->ready > 0) {
		int64_t ttl = setting_value(&queue->object, SET_QUEUE_TTL);

		if (ttl >= 0 && queue_add_ms(s->batch.ts_ms, ttl) < queue->ttl_due)
			queue->ttl_due = queue_add_ms(s->batch.ts_ms, ttl);
		if (s->note == NULL)
			queue_wake(queue, s->ready, &s->wake);
	}
	queue_set_timer(queue);
	is_due = queue->timer_due <= queue_now(queue_local(queue));
	queue_unlock_both(queue, s->target);
	if (s->note != NULL)
		return rc;
	wake_run(&s->wake);
	if (is_due) /* of what was made long ago the time may be over: that comes before lengths */
		queue_sweep(queue);
	if (s->ready > 0 && !s->refuses)
		queue_enforce_length(queue);
	if (s->target != NULL)
		queue_enforce_length(s->target);
	return rc;
}

/* What a batch needs before it can be sent. s is to be released whatever comes of it. */
static int prepare(struct sending *s, uint32_t some[64])
{
	struct object *object = NULL;
	int64_t overflow;
	int rc = object_enter_change(&s->queue->object.base, ENGINE_QUEUE, &object);

	if (rc < 0)
		return rc;
	if (s->batch.count == 0)
		return -EINVAL;
	if (s->batch.ts_ms < 0)
		s->batch.ts_ms = clock_wall_ms();
	s->lengths = s->batch.count <= 64 ? some : malloc(s->batch.count * sizeof(*s->lengths));
	if (s->lengths == NULL)
		return -ENOMEM;
	overflow = s->producer->again ? OVERFLOW_DROP_HEAD : setting_value(object, SET_QUEUE_OVERFLOW);
	s->refuses = overflow != OVERFLOW_DROP_HEAD;
	rc = find_lengths(s);
	if (rc == 0 && s->claim == NULL && s->note == NULL)
		rc = reserve_check(queue_local(s->queue));
	if (rc == 0 && s->claim == NULL && s->note == NULL)
		rc = make_lanes(s);
	if (rc == 0 && overflow == OVERFLOW_REJECT_DLX) {
		s->target = queue_dead_target(s->queue);
		s->kills = s->target != NULL;
	}
	return rc;
}

static void release(struct sending *s, const uint32_t some[64])
{
	if (s->lengths != some)
		free(s->lengths);
	if (s->target != NULL)
		object_put(&s->target->object);
	s->target = NULL;
	s->kills = false;
}

/* Prepares and sends; if that fails, dedup is told what became of the batch. */
static int send_batch(struct sending *s, struct dedup_send *dedup)
{
	uint32_t some[64];
	int rc = prepare(s, some);

	if (rc == 0)
		rc = send(s);
	if (rc < 0) {
		local_dedup_failed(dedup);
		local_dedup_kept(dedup, s->batch.props, s->done);
	}
	release(s, some);
	return rc;
}

int queue_take_in(
    struct queue *queue, uint32_t priority, const struct engine_batch *batch, const struct append_note *note, bool lent)
{
	struct queue_producer producer = { ENGINE_QUEUE, queue, priority, false, true };
	struct sending s = { .producer = &producer, .queue = queue, .batch = *batch, .note = note, .lent = lent };
	uint32_t some[64];
	int rc = prepare(&s, some);

	if (rc == 0)
		rc = send(&s);
	release(&s, some);
	return rc;
}

void queue_arrived(struct queue *queue)
{
	bool is_due;

	pthread_mutex_lock(&queue->lock);
	is_due = queue->timer_due <= queue_now(queue_local(queue));
	pthread_mutex_unlock(&queue->lock);
	if (is_due)
		queue_sweep(queue);
	queue_enforce_length(queue);
}

/* Is it more than one run? */
static bool is_divided(struct queue_producer *producer, const struct engine_batch *batch)
{
	const struct sending s = { .producer = producer, .queue = producer->queue, .batch = *batch };

	if (batch->count == 1)
		return false;
	for (uint32_t i = 0; i < batch->count; i++) {
		if (sending_is_special(&s, i) || sending_priority(&s, i) != sending_priority(&s, 0))
			return true;
		if (batch->props == NULL)
			break; /* all are alike */
	}
	return false;
}

static int send_once(struct queue_producer *producer, const struct engine_batch *batch)
{
	struct sending s = { .producer = producer, .queue = producer->queue };
	struct dedup_send dedup = { .pass = { .batch = *batch } };
	struct object *object = NULL;
	int rc;

	queue_catch_up(queue_local(s.queue));
	rc = object_enter_change(&producer->queue->object.base, ENGINE_QUEUE, &object);
	if (rc == 0 && batch->count == 0)
		rc = -EINVAL;
	if (rc == 0)
		stages_take(object); /* what was written before, by whomever, comes first */
	if (rc == 0 && is_divided(producer, batch))
		return whole_send(object, producer->priority, producer->head, batch, (struct engine_span){ 0 }, NULL);
	if (rc == 0)
		rc = local_dedup_begin(object, batch, &dedup);
	if (rc < 0)
		return rc;
	s.batch = dedup.pass.batch;
	if (s.batch.count > 0)
		rc = send_batch(&s, &dedup);
	local_dedup_end(&dedup);
	return rc;
}

int queue_producer_send(struct engine_producer *handle, const struct engine_batch *batch)
{
	struct queue_producer *producer = producer_of(handle);
	unsigned int tries = 0;
	int rc;

	do
		rc = send_once(producer, batch);
	while (warm_again(queue_local(producer->queue), rc, &tries));
	if (rc == -ENOSPC)
		checkpoint_hurry(queue_local(producer->queue));
	return rc;
}

/* ---- in two steps ---- */

/* Have the lanes' disks failed? Then none of them takes anything. */
static int check_lanes(const struct queue *queue, uint32_t lanes)
{
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		if ((lanes >> p & 1) && atomic_load(&queue_lane(queue, p)->failed))
			return engine_explain(-EROFS, "the queue takes no more messages: its disk failed");
	}
	return 0;
}

/* Keeps the room. lock */
static int claim_room(const struct sending *s, struct queue_claim *claim)
{
	int rc = check_room(s);

	if (rc < 0)
		return rc;
	if (s->refuses && !s->kills)
		count_ready(s, &claim->messages, &claim->bytes);
	s->queue->claimed_messages += claim->messages;
	s->queue->claimed_bytes += claim->bytes;
	return 0;
}

int queue_claim(struct queue *queue, const struct engine_batch *batch, bool head, bool again, uint32_t *places,
    struct queue_claim *ret_claim)
{
	struct queue_producer producer = { ENGINE_QUEUE, queue, ENGINE_ANY, head, again };
	struct sending s = { .producer = &producer, .queue = queue, .batch = *batch };
	struct queue_claim claim = { 0 };
	uint32_t some[64];
	int rc = queue_open(queue);

	if (rc < 0)
		return rc;
	rc = prepare(&s, some);
	for (uint32_t i = 0; i < batch->count && rc == 0; i++) {
		places[i] = sending_priority(&s, i);
		claim.lanes |= 1u << places[i];
	}
	if (rc == 0)
		rc = check_lanes(queue, claim.lanes);
	if (rc == 0)
		rc = queue_lock(queue);
	if (rc == 0) {
		rc = claim_room(&s, &claim);
		queue_unlock(queue);
	}
	release(&s, some);
	if (rc == 0)
		*ret_claim = claim;
	return rc;
}

int queue_send_claimed(struct queue *queue, const struct engine_batch *batch, bool head, const uint32_t *places,
    const struct queue_claim *claim, bool noted, struct dedup_send *dedup)
{
	struct queue_producer producer = { ENGINE_QUEUE, queue, ENGINE_ANY, head, false };
	struct sending s = { .producer = &producer, .queue = queue, .batch = *batch, .claim = claim, .places = places };
	unsigned int tries = 0;
	int rc;

	do
		rc = send_batch(&s, dedup);
	while (
	    noted && (s.done == 0 || !claim->partly) && memory_again(rc, &tries)); /* what is kept is not sent again */
	if (!s.claim_ended)
		queue_unclaim(queue, claim);
	return rc;
}

int queue_producer_sync(struct engine_producer *handle, struct engine_done *done)
{
	struct queue *queue = producer_of(handle)->queue;
	struct sync_point *points[ENGINE_PRIORITIES + 1];
	struct local *local = queue_local(queue);
	struct object *object = NULL;
	size_t count = 0;
	int rc = object_enter(&queue->object.base, ENGINE_QUEUE, &object);

	if (rc < 0 || local->read_only)
		return rc;
	stages_take(object);
	count = queue_sync_points(queue, points);
	if (journal_synced(local->journal) < journal_end(local->journal))
		points[count++] = &local->journal_sync;
	return flusher_wait_for(local, points, count, done);
}
