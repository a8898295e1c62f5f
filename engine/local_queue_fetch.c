/*
 * local_queue_fetch - messages are given to a reader.
 *
 * One fetch of a queue runs at a time, so that what it picks under the lock, reads without, and takes under the lock again
 * is hardly ever another's by then; if it is (it was moved, removed, or it expired), the fetch begins anew. Who publishes or
 * settles does not wait for the disk of who reads.
 *
 * What is given are consecutive messages of one stored batch that were delivered equally often before: one record of the
 * journal leases them all, and one span keeps the lease.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/clock.h"
#include "engine/local_queue.h"
#include "engine/local_stage.h"

#define SPAN_BY_ORDER(node) ((struct span *)((char *)(node)-offsetof(struct span, by_order)))

/* ---- looking; lock ---- */

static bool ends_before_place(const struct tree_node *node, const void *key)
{
	const struct span *span = SPAN_BY_ORDER((uintptr_t)node);

	return span->place + (int64_t)span->count - 1 <= *(const int64_t *)key;
}

bool lane_fresh(struct lane *lane, uint64_t offset, uint64_t *ret_offset)
{
	struct span *span;

	if (offset < lane->next)
		offset = lane->next;
	while ((span = span_at(lane, offset)) != NULL)
		offset = span->first + span->count;
	*ret_offset = offset;
	return offset < lane->end;
}

bool lane_peek(struct lane *lane, int64_t after, uint64_t *ret_offset, int64_t *ret_place)
{
	struct tree_node *node = tree_find(&lane->ready, ends_before_place, &after);
	struct span *span = node != NULL ? SPAN_BY_ORDER(node) : NULL;
	uint64_t fresh;
	bool has_fresh = lane_fresh(lane, after < 0 ? 0 : (uint64_t)after + 1, &fresh);

	if (span == NULL && !has_fresh)
		return false;
	if (span != NULL && (!has_fresh || span->place < (int64_t)fresh)) {
		uint32_t skip = span->place <= after ? (uint32_t)(after - span->place) + 1 : 0;

		*ret_offset = span->first + skip;
		*ret_place = span->place + skip;
	} else {
		*ret_offset = fresh;
		*ret_place = (int64_t)fresh;
	}
	return true;
}

/* Where a snapshot goes on looking in this fetch: what it came by is too new for it. */
struct skip {
	uint32_t priority; /* ENGINE_PRIORITIES: from the start */
	int64_t place;
};

struct pick {
	struct lane *lane;
	uint64_t offset;
	int64_t place;
	uint32_t count;
};

/* Behind what place of lane p the reader looks. false: not there */
static bool look_behind(const struct queue_reader *reader, const struct skip *skip, uint32_t p, int64_t *ret_place)
{
	*ret_place = INT64_MIN;
	if (reader->how != ENGINE_CONSUME_SNAPSHOT)
		return true;
	if (p > reader->priority || p > skip->priority)
		return false;
	if (p == reader->priority)
		*ret_place = reader->place;
	if (p == skip->priority && skip->place > *ret_place)
		*ret_place = skip->place;
	return true;
}

static bool find_next(struct queue_reader *reader, const struct skip *skip, struct pick *ret_pick)
{
	uint64_t allowed = reader_allowance(reader);
	int64_t behind;

	for (uint32_t p = ENGINE_PRIORITIES; allowed > 0 && p-- > 0;) {
		struct lane *lane = queue_lane(reader->queue, p);

		if (lane == NULL || lane->ready_count == 0 || !look_behind(reader, skip, p, &behind))
			continue;
		ret_pick->lane = lane;
		if (!lane_peek(lane, behind, &ret_pick->offset, &ret_pick->place))
			continue;
		ret_pick->count =
		    lane_ready_run(lane, ret_pick->offset, allowed < UINT32_MAX ? (uint32_t)allowed : UINT32_MAX);
		return ret_pick->count > 0;
	}
	return false;
}

bool reader_finds(struct queue_reader *reader)
{
	const struct skip none = { .priority = ENGINE_PRIORITIES };
	struct pick unused;

	return find_next(reader, &none, &unused);
}

/* ---- reading ---- */

bool lane_lost(int rc)
{
	return rc == -EIO || rc == -ESTALE;
}

int lane_read(struct lane *lane, uint64_t offset, uint32_t count, struct engine_scratch *scratch,
    struct engine_view *ret_view, uint64_t *ret_first_id)
{
	*ret_view = (struct engine_view){ 0 };
	return plog_read_ids(atomic_load(&lane->plog), offset, count, scratch, ret_view, ret_first_id);
}

struct span_facts facts_of(const struct engine_view *view, uint64_t first_id)
{
	return (struct span_facts){ .ts_ms = view->batch.ts_ms,
		.first_id = first_id,
		.bytes = view->batch.len - view->batch.count,
		.sizes = view->batch.lengths };
}

/* Cuts the view to count messages and max_bytes of data, but keeps the first. */
static void trim(struct engine_view *view, uint32_t count, size_t max_bytes)
{
	struct engine_batch *batch = &view->batch;
	uint32_t keep = 1;
	size_t len = (size_t)batch->lengths[0] + 1;

	while (keep < batch->count && keep < count && len + batch->lengths[keep] + 1 <= max_bytes)
		len += (size_t)batch->lengths[keep++] + 1;
	batch->count = keep;
	batch->len = len;
}

/* ---- taking; lock ---- */

static void describe(struct engine_view *view, uint64_t first_id, uint32_t priority, uint32_t deliveries)
{
	struct engine_delivery *to =
	    (struct engine_delivery *)(uintptr_t)view->deliveries; /* the scratch's, see plog.h */

	for (uint32_t i = 0; to != NULL && i < view->batch.count; i++)
		to[i] = (struct engine_delivery){ first_id + i, priority, deliveries, deliveries > 1 };
	view->partition = priority;
	view->offset = 0;
}

static int lease(struct queue_reader *reader, const struct pick *pick, const struct span_facts *facts, uint32_t count,
    uint64_t lessee, uint32_t *ret_deliveries)
{
	struct queue *queue = reader->queue;
	struct span *span = span_at(pick->lane, pick->offset);
	bool acks = reader_acks_itself(reader), stream = reader->how == ENGINE_CONSUME_STREAM;
	bool held = stream || reader->holder->sessions > 0;
	struct span_set set = { .state = SPAN_READY, .place = pick->place, .expires_ms = QUEUE_NEVER };
	int rc;

	if (span != NULL)
		set = span_as(span);
	if (set.id != 0 && acks) /* the log does not find it again */
		queue_remember_gone(queue, set.id, ENDED_SETTLED);
	set.place = pick->place;
	set.state = acks ? SPAN_GONE : SPAN_UNACKED;
	set.deliveries++;
	set.held = held;
	set.lessee = lessee;
	set.holder_id = reader->holder->id;
	set.leased_ms = queue_now(queue_local(queue));
	set.delivered = queue_next_delivery(queue);
	set.due_ms =
	    set.leased_ms + setting_value(&queue->object, held ? SET_QUEUE_CONSUMER_TIMEOUT : SET_QUEUE_ACK_TIMEOUT);
	rc = lane_set(
	    pick->lane, pick->offset, count, &set, facts, acks ? WHY_TAKEN : WHY_DELIVERED, acks ? NULL : &span);
	if (rc < 0)
		return rc;
	if (!acks) {
		span_hold(span, reader->holder, stream ? reader : NULL);
		queue_due(queue, set.due_ms);
	}
	*ret_deliveries = set.deliveries;
	return 0;
}

static void advance(struct queue_reader *reader, const struct pick *pick, uint32_t count)
{
	reader->finished = true;
	reader->woken = false;
	reader->left -= count < reader->left ? count : reader->left;
	reader->priority = pick->lane->priority;
	reader->place = pick->place + (int64_t)count - 1;
}

/* Is the message to expire, and nobody has come to that yet? */
static bool is_over(struct lane *lane, uint64_t offset, int64_t ts_ms)
{
	struct span *span = span_at(lane, offset);
	int64_t ttl = setting_value(&lane->queue->object, SET_QUEUE_TTL), now = queue_now(queue_local(lane->queue));

	if (span != NULL)
		return span_expiry(span) <= now;
	return ttl >= 0 && ts_ms + ttl <= now;
}

/*
 * A snapshot has come to count messages that are newer than it is. In a fresh run all that follow are newer still, but not
 * what was moved here: that has a span. lock
 */
static void skip_newer(const struct pick *pick, uint32_t count, struct skip *skip)
{
	struct tree_node *node = tree_find(&pick->lane->ready, ends_before_place, &pick->place);

	*skip = (struct skip){ pick->lane->priority, (int64_t)pick->lane->end };
	if (span_at(pick->lane, pick->offset) != NULL)
		skip->place = pick->place + (int64_t)count - 1;
	else if (node != NULL)
		skip->place = SPAN_BY_ORDER(node)->place - 1;
}

/* How many of count messages the user who reads may have, and who is charged for them. EDQUOT. lock */
static int64_t charge(struct queue_reader *reader, uint32_t count, uint64_t *ret_lessee)
{
	struct queue *queue = reader->queue;
	int64_t granted = count;

	if (!reader_acks_itself(reader))
		granted = lease_charge(queue, reader->uid, count, ret_lessee);
	if (granted < 0 && queue->waiters != NULL) /* another was not woken for it, and may have it */
		timer_set_earlier(queue_local(queue), &queue->nudge, clock_mono_ms());
	return granted;
}

/* What was read is taken. lock */
static int take(struct queue_reader *reader, const struct pick *pick, struct engine_view *view, uint64_t first_id,
    struct skip *skip)
{
	uint64_t allowed = reader_allowance(reader);
	uint32_t count = view->batch.count, deliveries = 0;
	uint64_t lessee = 0;
	int64_t granted;
	struct span_facts facts;
	int rc;

	if (allowed < count)
		count = (uint32_t)allowed;
	if (reader->how == ENGINE_CONSUME_SNAPSHOT && first_id + count > reader->before)
		count = first_id < reader->before ? (uint32_t)(reader->before - first_id) : 0;
	if (allowed > 0 && count == 0) {
		skip_newer(pick, view->batch.count, skip);
		return -EAGAIN;
	}
	count = lane_ready_run(pick->lane, pick->offset, count);
	if (count == 0)
		return -EAGAIN;
	granted = charge(reader, count, &lessee);
	if (granted < 0)
		return (int)granted;
	count = (uint32_t)granted;
	trim(view, count, SIZE_MAX);
	facts = facts_of(view, first_id);
	rc = lease(reader, pick, &facts, count, lessee, &deliveries);
	if (rc < 0) {
		lease_uncharge(reader->queue, lessee, count);
		return rc;
	}
	advance(reader, pick, count);
	queue_used(reader->queue);
	describe(view, first_id, pick->lane->priority, deliveries);
	return 1;
}

/* What cannot be read is gone: the log has reported it. lock */
static void drop_damaged(const struct pick *pick, uint32_t count)
{
	const struct span_set gone = { .state = SPAN_GONE };
	const struct span_facts none = { 0 };
	uint32_t run = lane_ready_run(pick->lane, pick->offset, count);

	if (run > 0)
		lane_set(pick->lane, pick->offset, run, &gone, &none, WHY_DROPPED, NULL);
}

/* One round. -EAGAIN: another one is needed. */
static int fetch_once(struct queue_reader *reader, uint32_t max_count, size_t max_bytes, struct engine_scratch *scratch,
    struct engine_view *view, struct skip *skip)
{
	struct queue *queue = reader->queue;
	uint64_t first_id = 0;
	struct pick pick;
	bool over = false;
	int rc = queue_lock(queue), got;

	if (rc < 0)
		return rc;
	reader->woken = false;
	if (atomic_load(&reader->owner->removed))
		rc = -EIDRM;
	else
		rc = find_next(reader, skip, &pick) ? 1 : 0;
	queue_unlock(queue);
	if (rc <= 0)
		return rc;
	got = lane_read(
	    pick.lane, pick.offset, pick.count < max_count ? pick.count : max_count, scratch, view, &first_id);
	if (got < 0 && (got != -EIO || view->batch.count == 0) && got != -ESTALE)
		return got;
	if (got == 0)
		trim(view, UINT32_MAX, max_bytes);
	rc = queue_lock(queue);
	if (rc < 0)
		return rc;
	over = got == 0 && is_over(pick.lane, pick.offset, view->batch.ts_ms);
	if (got < 0)
		drop_damaged(&pick, view->batch.count);
	rc = got < 0 || over ? -EAGAIN : take(reader, &pick, view, first_id, skip);
	queue_unlock(queue);
	if (over)
		queue_sweep(queue);
	return rc;
}

int queue_reader_fetch(struct queue_reader *reader, uint32_t max_count, size_t max_bytes,
    struct engine_scratch *scratch, struct engine_view *ret_view)
{
	struct skip skip = { .priority = ENGINE_PRIORITIES };
	struct engine_view view;
	int rc;

	engine_reason_clear();
	if (max_count == 0)
		return -EINVAL;
	stages_take(&reader->queue->object);
	queue_catch_up(queue_local(reader->queue));
	queue_touch(reader->queue);
	pthread_mutex_lock(&reader->queue->fetch_lock);
	do
		rc = fetch_once(reader, max_count, max_bytes, scratch, &view, &skip);
	while (rc == -EAGAIN);
	pthread_mutex_unlock(&reader->queue->fetch_lock);
	if (rc == 1)
		*ret_view = view;
	return rc;
}
