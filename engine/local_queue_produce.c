/*
 * local_queue_produce - messages come in.
 *
 * A batch is divided into runs of consecutive messages that go to the same lane and want nothing special: each is
 * appended as it is. What is put to the head, is delayed or has a time to live of its own is an exception from the start: it
 * is noted in the journal with the offset it is about to get, and appended by itself; so is a run whose time is not in order,
 * as of what waits in order only the first is looked at to see what expires. All of a batch is done under the
 * queue's lock, in the order of arrival, and ids are given under it: so they rise with the offsets.
 *
 * Sizes are checked before anything is appended, and so is the room of a queue that refuses. If the disk fails, or is full,
 * in the midst of a batch, what was appended of it is taken back before anybody has seen it: it is taken whole or not at all.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/io.h"
#include "engine/local_queue.h"
#include "engine/local_queue_span.h"
#include "engine/local_stage.h"
#include "engine/local_whole.h"

struct queue_producer {
	enum engine_kind of; /* first, as in struct producer: ENGINE_QUEUE */
	struct queue *queue; /* a reference */
	uint32_t priority;   /* or ENGINE_ANY */
	bool head;
	bool again; /* it was accepted before: its ids are not looked at, and no limit refuses it */
};

static struct queue_producer *producer_of(struct engine_producer *handle)
{
	return (struct queue_producer *)handle;
}

/* As queue_enter(), but who comes to produce asks for nothing that lingers. */
static int enter(struct engine_object *base, struct queue **ret_queue)
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

int queue_producer_open(struct engine_object *base, uint32_t priority, bool head, struct engine_producer **ret_producer)
{
	struct queue_producer *producer;
	struct queue *queue = NULL;
	int rc = enter(base, &queue);

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

/* ---- appending to a lane ---- */

/* Sees to it that the lane is synced in time. lock */
static void plan_flush(struct lane *lane, uint32_t count)
{
	struct object *object = &lane->queue->object;
	struct local *local = local_of(object);
	int64_t flush_ms = setting_value(object, SET_QUEUE_FLUSH_MS);
	int64_t flush_messages = setting_value(object, SET_QUEUE_FLUSH_MESSAGES);

	if (lane->unsynced_messages == 0) {
		lane->unsynced_since_ms = clock_mono_ms();
		if (flush_ms >= 0)
			timer_set_earlier(local, &lane->flush_timer, lane->unsynced_since_ms + flush_ms);
	}
	lane->unsynced_messages += count;
	if (flush_messages >= 0 && lane->unsynced_messages >= (uint64_t)flush_messages && !lane->flush_asked) {
		lane->flush_asked = true;
		flusher_request(local, &lane->sync, NULL);
	}
}

int lane_append(struct lane *lane, const struct engine_batch *batch, uint64_t first_id, uint64_t *ret_offset)
{
	uint64_t offset;
	int rc = plog_append(atomic_load(&lane->plog), batch, first_id, QUEUE_SEGMENT_BYTES, &offset);

	if (rc == -EROFS && engine_reason()[0] == '\0')
		return engine_explain(rc, "the queue takes no more messages: its disk failed");
	if (rc < 0)
		return rc;
	if (batch->props != NULL && batch->props[0].mark != 0)
		lane->noted = lane->moved_in = true; /* on disk after its note, and before the journal forgets that */
	if (!(first_id & PLOG_STRAY))
		lane->last_id = (first_id & ~PLOG_FLAGS) + batch->count - 1;
	lane_appended(lane, batch->count, batch->len - batch->count);
	plan_flush(lane, batch->count);
	*ret_offset = offset;
	return 0;
}

void lane_sync_begin(struct sync_point *point)
{
	struct lane *lane = (struct lane *)((char *)point - offsetof(struct lane, sync));

	pthread_mutex_lock(&lane->queue->lock);
	lane->unsynced_messages = 0;
	lane->flush_asked = false;
	pthread_mutex_unlock(&lane->queue->lock);
}

int lane_sync_run(struct sync_point *point)
{
	struct lane *lane = (struct lane *)((char *)point - offsetof(struct lane, sync));
	struct plog *plog = atomic_load(&lane->plog);
	unsigned int tries = 0;
	bool noted;
	int rc;

	lane_sync_begin(point);
	pthread_mutex_lock(&lane->queue->lock);
	noted = lane->noted;
	lane->noted = false;
	lane->noted_syncs += noted;
	pthread_mutex_unlock(&lane->queue->lock);
	/* A failure of the journal is told of by its own sync, and final: nobody relies on what comes after it. */
	if (noted)
		journal_sync(queue_local(lane->queue)->journal);
	do
		rc = plog != NULL ? plog_sync(plog) : 0;
	while (warm_again(queue_local(lane->queue), rc, &tries));
	pthread_mutex_lock(&lane->queue->lock);
	lane->noted_syncs -= noted;
	lane->noted = lane->noted || (noted && rc < 0);
	pthread_mutex_unlock(&lane->queue->lock);
	if (rc < 0 && !io_wants_means(rc) && !atomic_exchange(&lane->failed, true))
		queue_fault(lane->queue, rc, "a sync failed, so it takes no more messages");
	return rc;
}

void lane_flush_fire(struct timer *timer)
{
	struct lane *lane = (struct lane *)((char *)timer - offsetof(struct lane, flush_timer));
	struct object *object = &lane->queue->object;
	int64_t flush_ms = setting_value(object, SET_QUEUE_FLUSH_MS), due_ms;
	bool ask = false;

	pthread_mutex_lock(&lane->queue->lock);
	if (lane->unsynced_messages > 0 && flush_ms >= 0) {
		due_ms = lane->unsynced_since_ms + flush_ms;
		ask = due_ms <= clock_mono_ms();
		/* There will be more by then: so the thread sleeps no longer, and no producer has to wake it for that. */
		timer_set_earlier(local_of(object), timer, ask ? clock_mono_ms() + flush_ms : due_ms);
	}
	pthread_mutex_unlock(&lane->queue->lock);
	if (ask)
		flusher_request(local_of(object), &lane->sync, NULL);
}

/* ---- one batch ---- */

struct sending {
	struct queue_producer *producer;
	struct queue *queue;
	struct engine_batch batch;       /* with its time resolved */
	uint32_t *lengths;               /* of all payloads */
	struct queue *target;            /* reject-publish-dlx: where what is too much goes */
	bool refuses, kills;             /* overflow is not drop-head; and it is reject-publish-dlx */
	const struct queue_claim *claim; /* it was claimed: the room is there; or NULL */
	const uint32_t *places;          /* the lanes of all messages, if they are chosen; or NULL */
	const struct append_note *note;  /* it is taken in: one run, to the lane of producer.priority; or NULL */
	bool lent;                       /* the reserve is */
	bool begun;                      /* note.begin was called */
	bool claim_ended;
	uint64_t next_id;
	uint64_t ready; /* messages that are READY now, for waiters */
	uint32_t done;  /* messages that are in the log, whatever becomes of the rest */
	struct wake_list wake;
};

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

static uint32_t priority_of(const struct sending *s, uint32_t i)
{
	uint32_t max = (uint32_t)setting_value(&s->queue->object, SET_QUEUE_MAX_PRIORITY), priority = 0;

	if (s->places != NULL)
		return s->places[i];
	if (s->note != NULL)
		return s->producer->priority;
	if (s->producer->priority != ENGINE_ANY)
		priority = s->producer->priority;
	else if (s->batch.props != NULL && s->batch.props[i].priority > 0)
		priority = (uint32_t)s->batch.props[i].priority;
	return priority < max ? priority : max;
}

/* When message i may be delivered. */
static int64_t ready_at(const struct sending *s, uint32_t i)
{
	int64_t delay = s->batch.props != NULL ? s->batch.props[i].delay_ms : -1;

	return delay > 0 ? queue_add_ms(s->batch.ts_ms, delay) : s->batch.ts_ms;
}

static bool is_delayed(const struct sending *s, uint32_t i)
{
	return s->batch.props != NULL && s->batch.props[i].delay_ms > 0 &&
	       ready_at(s, i) > queue_now(queue_local(s->queue));
}

static bool is_special(const struct sending *s, uint32_t i)
{
	return s->producer->head || s->kills ||
	       (s->batch.props != NULL && (s->batch.props[i].ttl_ms >= 0 || s->batch.props[i].delay_ms > 0));
}

/* Has the queue room for so much more? lock */
static bool has_room(const struct queue *queue, uint64_t count, uint64_t bytes)
{
	int64_t length = setting_value(&queue->object, SET_QUEUE_MAX_LENGTH);
	int64_t length_bytes = setting_value(&queue->object, SET_QUEUE_MAX_LENGTH_BYTES);

	return (length < 0 || queue->messages[SPAN_READY] + queue->claimed_messages + count <= (uint64_t)length) &&
	       (length_bytes < 0 || queue->bytes[SPAN_READY] + queue->claimed_bytes + bytes <= (uint64_t)length_bytes);
}

/* lock */
static int explain_full(struct queue *queue)
{
	char name[ENGINE_NAME_MAX + 1];

	object_name(&queue->object, name);
	return engine_explain(-EDQUOT, "the queue %s is full: %" PRIu64 " messages of %" PRIu64 " bytes are ready",
	    name, queue->messages[SPAN_READY], queue->bytes[SPAN_READY]);
}

bool queue_refuses(int64_t overflow, int64_t length, int64_t length_bytes)
{
	return overflow != OVERFLOW_DROP_HEAD && (length >= 0 || length_bytes >= 0);
}

/* How much of the batch counts as READY. */
static void count_ready(const struct sending *s, uint64_t *ret_count, uint64_t *ret_bytes)
{
	uint64_t count = 0, bytes = 0;

	for (uint32_t i = 0; i < s->batch.count; i++) {
		bool counts = !is_delayed(s, i);

		count += counts;
		bytes += counts ? s->lengths[i] : 0;
	}
	*ret_count = count;
	*ret_bytes = bytes;
}

/* lock */
static void end_claim(struct queue *queue, const struct queue_claim *claim)
{
	queue->claimed_messages -= claim->messages;
	queue->claimed_bytes -= claim->bytes;
}

/* lock */
static int check_room(const struct sending *s)
{
	uint64_t count, bytes;

	if (!s->refuses || s->kills || s->claim != NULL || s->producer->again)
		return 0;
	count_ready(s, &count, &bytes);
	return count == 0 || has_room(s->queue, count, bytes) ? 0 : explain_full(s->queue);
}

int queue_has_room_for(struct engine_object *base, uint64_t bytes, const struct engine_props *props)
{
	struct queue *queue = NULL, *target = NULL;
	int rc = enter(base, &queue);
	int64_t overflow;

	if (rc < 0)
		return rc;
	overflow = setting_value(&queue->object, SET_QUEUE_OVERFLOW);
	if (overflow == OVERFLOW_REJECT_DLX)
		target = queue_dead_target(queue);
	if (target != NULL)
		object_put(&target->object);
	if (overflow == OVERFLOW_DROP_HEAD || target != NULL || (props != NULL && props->delay_ms > 0))
		return 0;
	pthread_mutex_lock(&queue->lock);
	rc = has_room(queue, 1, bytes) ? 0 : explain_full(queue);
	pthread_mutex_unlock(&queue->lock);
	if (rc == 0 || props == NULL)
		return rc;
	int has = local_dedup_has(&queue->object, props);
	return has < 0 ? has : has > 0 ? 0 : rc;
}

/* A part of the batch: count messages from i on, which begin at pos. */
static struct engine_batch part_of(const struct sending *s, uint32_t i, uint32_t count, size_t pos)
{
	struct engine_batch part = s->batch;

	part.data += pos;
	part.len = count;
	for (uint32_t k = i; k < i + count; k++)
		part.len += s->lengths[k];
	part.count = count;
	part.lengths = s->batch.lengths != NULL ? s->lengths + i : NULL;
	part.props = s->batch.props != NULL ? s->batch.props + i : NULL;
	return part;
}

/* lock */
static int begin_note(struct sending *s, struct lane *lane)
{
	uint64_t pos;
	int rc = s->note->begin(s->note->ctx, lane->log_id, lane->priority, lane->end, &pos);

	s->begun = rc == 0;
	if (rc == 0)
		lane->noted = true;
	return rc;
}

/* Not in the room of the reserve, unless that is lent. lock */
static int append_part(struct sending *s, struct lane *lane, const struct engine_batch *part, uint64_t *ret_offset)
{
	struct local *local = queue_local(s->queue);
	int rc = s->lent ? 0 : reserve_enter(local);

	if (rc < 0)
		return rc;
	if (s->note != NULL)
		rc = begin_note(s, lane);
	if (rc == 0)
		rc = lane_append(lane, part, s->next_id | (s->producer->head ? PLOG_HEAD : 0), ret_offset);
	if (!s->lent)
		reserve_leave(local);
	return rc;
}

/* Is it of a commit that is noted? */
static bool has_marks(const struct sending *s, const struct engine_batch *part)
{
	return s->claim != NULL && part->props != NULL && part->props[0].mark != 0;
}

/* Says where it goes. What it says of an offset that is given to another after all does not count. lock */
static int note_places(const struct sending *s, struct lane *lane, const struct engine_batch *part)
{
	int rc = queue_note_owed_cut(lane);

	for (uint32_t i = 0, count; has_marks(s, part) && i < part->count && rc == 0; i += count) {
		for (count = 1; i + count < part->count; count++) {
			if (part->props[i + count].mark != part->props[i].mark + count)
				break;
		}
		rc = queue_note_placed(lane, lane->end + i, count, part->props[i].mark);
	}
	return rc;
}

/* lock */
static int append_run(struct sending *s, struct lane *lane, const struct engine_batch *part)
{
	uint64_t offset;
	int rc = note_places(s, lane, part);

	if (rc == 0)
		rc = append_part(s, lane, part, &offset);
	if (rc < 0) {
		if (has_marks(s, part))
			queue_note_cut(lane, lane->end);
		return rc;
	}
	s->ready += part->count;
	lane->fresh_ms = s->batch.ts_ms;
	return 0;
}

/* Is what comes now neither older than what waits before it, nor of a time to come? lock */
static bool is_in_order(const struct sending *s, const struct lane *lane)
{
	return s->batch.ts_ms >= lane->fresh_ms && s->batch.ts_ms <= clock_wall_ms();
}

/* What an exception is from the start. lock */
static struct span_set first_set(struct sending *s, struct lane *lane, uint32_t i)
{
	int64_t at = ready_at(s, i);
	struct span_set set = { .state = is_delayed(s, i) ? SPAN_DELAYED : SPAN_READY,
		.place = s->producer->head ? lane->head_place - 1 : (int64_t)lane->end,
		.due_ms = at,
		.expires_ms = QUEUE_NEVER };

	if (s->batch.props != NULL && s->batch.props[i].ttl_ms >= 0)
		set.expires_ms = queue_add_ms(at, s->batch.props[i].ttl_ms);
	return set;
}

/* A run that is a span from the start: of one message, or of several that are READY. lock, of the target too if it kills */
static int append_special(struct sending *s, struct lane *lane, const struct engine_batch *part, uint32_t i)
{
	struct span_set set = first_set(s, lane, i);
	struct span_facts facts = { ready_at(s, i), s->next_id, part->len - part->count, s->lengths + i };
	bool excess = s->kills && set.state == SPAN_READY && !has_room(s->queue, 1, s->lengths[i]);
	uint64_t offset = lane->end;
	int rc = span_reserve(lane);

	if (rc == 0)
		rc = note_places(s, lane, part);
	if (rc == 0)
		rc = queue_note(lane, offset, part->count, &set, WHY_NOTHING);
	if (rc < 0)
		return rc;
	lane->noted = true;
	rc = append_part(s, lane, part, &offset);
	if (rc < 0) {
		queue_note_cut(lane, lane->end);
		return rc;
	}
	rc = lane_set(lane, offset, part->count, &set, &facts, WHY_UNTOLD, NULL);
	if (rc == 0 && excess)
		return lane_kill(lane, offset, 1, ENGINE_MAXLEN, ENDED_NEVER, s->target, &s->wake);
	s->ready += set.state == SPAN_READY ? part->count : 0;
	return rc;
}

/* What a lane was before the batch. */
struct lane_mark {
	struct plog_mark log;
	uint64_t end, last_id, unsynced;
};

/* Settles, uncounted, what can be cut off no more: a sync has begun since. lock */
static void settle_rest(struct lane *lane, uint64_t from)
{
	static const struct span_set gone = { .state = SPAN_GONE };

	for (uint64_t end; from < lane->end; from = end) {
		struct span_facts facts = { 0 };
		struct span *span;
		enum span_state state = lane_state(lane, from, &span);

		end = span != NULL ? span->first + span->count : lane->end;
		if (span == NULL && (span = span_from(lane, from)) != NULL)
			end = span->first < end ? span->first : end;
		if (state == SPAN_GONE) /* a dead letter at once */
			continue;
		facts.bytes = lane_payload_bytes(lane, from, end);
		lane->arrived += end - from;
		if (lane_set(lane, from, (uint32_t)(end - from), &gone, &facts, WHY_NOTHING, NULL) < 0)
			lane_set(lane, from, (uint32_t)(end - from), &gone, &facts, WHY_UNTOLD, NULL);
	}
}

/* What a lane got of a batch that was not taken whole. lock */
static void take_back(struct lane *lane, const struct lane_mark *mark)
{
	uint64_t bytes = lane_payload_bytes(lane, mark->end, lane->end), special = 0, fresh = lane->end - mark->end;

	for (struct span *span = span_from(lane, mark->end); span != NULL;
	     span = span_from(lane, span->first + span->count)) {
		special += span->bytes;
		fresh -= span->count;
	}
	if (plog_take_back(atomic_load(&lane->plog), &mark->log) < 0) {
		settle_rest(lane, mark->end);
		return;
	}
	lane_cut(lane, mark->end);
	lane_taken_back(lane, mark->end, fresh, bytes > special ? bytes - special : 0);
	lane->last_id = mark->last_id;
	lane->unsynced_messages = mark->unsynced < lane->unsynced_messages ? mark->unsynced : lane->unsynced_messages;
	if (lane->noted)
		queue_note_cut(lane, mark->end);
}

/* lock */
static void take_all_back(struct sending *s, const struct lane_mark marks[ENGINE_PRIORITIES])
{
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		struct lane *lane = queue_lane(s->queue, p);

		if (lane == NULL || lane->end == marks[p].end)
			continue;
		if (s->kills) /* some of them may be dead letters by now */
			settle_rest(lane, marks[p].end);
		else
			take_back(lane, &marks[p]);
	}
	s->ready = s->done = 0;
}

/* lock */
static int append_all(struct sending *s)
{
	struct lane_mark marks[ENGINE_PRIORITIES] = { 0 };
	size_t pos = 0;
	int rc = 0;

	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		struct lane *lane = queue_lane(s->queue, p);

		if (lane == NULL)
			continue;
		marks[p] = (struct lane_mark){
			.end = lane->end, .last_id = lane->last_id, .unsynced = lane->unsynced_messages
		};
		plog_set_mark(atomic_load(&lane->plog), &marks[p].log);
	}

	for (uint32_t i = 0, count; i < s->batch.count && rc == 0; i += count) {
		uint32_t priority = priority_of(s, i);
		struct lane *lane = queue_lane(s->queue, priority);
		bool special = is_special(s, i);
		struct engine_batch part;

		for (count = 1; i + count < s->batch.count && !special; count++) {
			if (is_special(s, i + count) || priority_of(s, i + count) != priority)
				break;
		}
		part = part_of(s, i, count, pos);
		rc = special || !is_in_order(s, lane) ? append_special(s, lane, &part, i) : append_run(s, lane, &part);
		pos += part.len;
		s->next_id += count;
		s->done += rc == 0 ? count : 0;
	}
	if (rc < 0 && !(s->claim != NULL && s->claim->partly))
		take_all_back(s, marks);
	if (rc < 0 && s->begun)
		s->note->cancel(s->note->ctx);
	return rc;
}

/* The lanes that the batch needs. No lock. */
static int make_lanes(const struct sending *s)
{
	uint32_t seen = 0;
	struct lane *lane;
	int rc = 0;

	for (uint32_t i = 0; i < s->batch.count && rc == 0; i++) {
		uint32_t priority = priority_of(s, i);

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
		end_claim(queue, s->claim);
	s->claim_ended = true;
	rc = check_room(s);
	if (rc == 0)
		rc = queue_next_ids(queue_local(queue), s->batch.count, &s->next_id);
	if (rc == 0)
		rc = append_all(s);
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
		if (is_special(&s, i) || priority_of(&s, i) != priority_of(&s, 0))
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
		places[i] = priority_of(&s, i);
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

void queue_unclaim(struct queue *queue, const struct queue_claim *claim)
{
	pthread_mutex_lock(&queue->lock);
	end_claim(queue, claim);
	pthread_mutex_unlock(&queue->lock);
}

size_t queue_sync_points(struct queue *queue, struct sync_point **points)
{
	size_t count = 0;

	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		struct lane *lane = queue_lane(queue, p);
		struct engine_partition_stat stat;

		if (lane == NULL || atomic_load(&lane->plog) == NULL)
			continue;
		plog_stat(atomic_load(&lane->plog), &stat);
		if (stat.synced < stat.end)
			points[count++] = &lane->sync;
	}
	return count;
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
