/*
 * local_queue_append - a batch goes to the lanes.
 *
 * It is divided into runs of consecutive messages that go to the same lane and want nothing special: each is
 * appended as it is. What is put to the head, is delayed or has a time to live of its own is an exception from the start: it
 * is noted in the journal with the offset it is about to get, and appended by itself; so is a run whose time is not in order,
 * as of what waits in order only the first is looked at to see what expires.
 *
 * If the disk fails, or is full, in the midst of a batch, what was appended of it is taken back before anybody has seen it: it is
 * taken whole or not at all.
 */
#include "engine/clock.h"
#include "engine/local_queue_send.h"
#include "engine/local_queue_span.h"

/* ---- what a message of it is ---- */

uint32_t sending_priority(const struct sending *s, uint32_t i)
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

int64_t sending_ready_at(const struct sending *s, uint32_t i)
{
	int64_t delay = s->batch.props != NULL ? s->batch.props[i].delay_ms : -1;

	return delay > 0 ? queue_add_ms(s->batch.ts_ms, delay) : s->batch.ts_ms;
}

bool sending_is_delayed(const struct sending *s, uint32_t i)
{
	return s->batch.props != NULL && s->batch.props[i].delay_ms > 0 &&
	       sending_ready_at(s, i) > queue_now(queue_local(s->queue));
}

bool sending_is_special(const struct sending *s, uint32_t i)
{
	return s->producer->head || s->kills ||
	       (s->batch.props != NULL && (s->batch.props[i].ttl_ms >= 0 || s->batch.props[i].delay_ms > 0));
}

/* ---- runs ---- */

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
		lane_follow(lane);
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
	int64_t at = sending_ready_at(s, i);
	struct span_set set = { .state = sending_is_delayed(s, i) ? SPAN_DELAYED : SPAN_READY,
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
	struct span_facts facts = { sending_ready_at(s, i), s->next_id, part->len - part->count, s->lengths + i };
	bool excess = s->kills && set.state == SPAN_READY && !queue_has_room(s->queue, 1, s->lengths[i]);
	uint64_t offset = lane->end;
	int rc = span_reserve(lane);

	if (rc == 0)
		rc = note_places(s, lane, part);
	if (rc == 0)
		rc = queue_note(lane, offset, part->count, &set, WHY_NOTHING);
	if (rc < 0)
		return rc;
	lane_follow(lane);
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

int sending_append(struct sending *s)
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
		uint32_t priority = sending_priority(s, i);
		struct lane *lane = queue_lane(s->queue, priority);
		bool special = sending_is_special(s, i);
		struct engine_batch part;

		for (count = 1; i + count < s->batch.count && !special; count++) {
			if (sending_is_special(s, i + count) || sending_priority(s, i + count) != priority)
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
