/*
 * local_queue_move - a message goes from one lane to another, of the same queue or another.
 *
 * Both queues are locked. The move is noted first, then the message is appended to the log it comes to, with its id, its
 * time and its deaths as properties; then it is settled where it was. What a crash cuts off in between the start finishes
 * (queue_finish_moves). If the append fails, the note is taken back by another; that is owed, if it cannot be written either, and
 * comes before anything else that is noted of a queue.
 *
 * Ids in a log rise. A message that comes with an id below the last of the log is a stray: its entry is marked as one, and
 * a span remembers its id as long as it is there.
 */
#include "engine/local_queue_move.h"
#include "engine/failpoint.h"
#include "engine/local_queue_span.h"

uint32_t queue_lower(const struct queue *queue, uint32_t priority)
{
	uint32_t max = (uint32_t)setting_value(&queue->object, SET_QUEUE_MAX_PRIORITY);

	return priority < max ? priority : max;
}

static bool keeps_mark(const struct lane_move *m, const struct engine_props *props)
{
	return m->forward || (m->why == WHY_MOVED_WITHIN && props->mark == QUEUE_FORWARD);
}

/* The message as it is appended. */
static struct engine_batch make_batch(const struct lane_move *m, struct engine_props *props)
{
	struct engine_batch batch = m->view->batch;

	*props = batch.props != NULL ? batch.props[0] : ENGINE_PROPS_INIT;
	props->partition = ENGINE_ANY;
	if (batch.props == NULL)
		props->ts_ms = batch.ts_ms;
	props->delay_ms = -1;
	props->mark = keeps_mark(m, props) ? QUEUE_FORWARD : 0; /* it did not come here by an exchange */
	if (m->dies)
		props->ttl_ms = -1;
	if (m->deaths != NULL) {
		props->deaths = m->deaths->list;
		props->death_count = m->deaths->count;
	}
	if (m->why != WHY_MOVED_WITHIN) /* a dead letter of a queue may come to that queue */
		batch.ts_ms = queue_now(queue_local(m->to->queue)); /* its times to live begin anew */
	else if (span_at(m->from, m->offset) != NULL)
		batch.ts_ms = span_at(m->from, m->offset)->ts_ms;
	batch.props = props;
	return batch;
}

static int append_moved(const struct lane_move *m, const struct queue_move_note *note, const struct engine_batch *batch)
{
	struct lane *to = m->to;
	struct span_facts facts = { batch->ts_ms, m->id, batch->len - 1, NULL };
	bool again = false;
	uint64_t offset;
	int rc;

	lane_follow(to);
	do /* dying and moving free room where it was, in the end */
		rc = lane_append(to, batch, m->id | PLOG_MOVED | (note->set.id != 0 ? PLOG_STRAY : 0), &offset);
	while (reserve_again(queue_local(to->queue), rc, &again));
	if (rc < 0)
		return rc;
	to->arrived++;
	if (batch->props != NULL)
		local_dedup_note(&to->queue->object, batch->props[0].id, batch->cred.uid);
	queue_forget_gone(to->queue, m->id);
	to->moved_in = true;
	if (note->fresh)
		to->fresh_ms = batch->ts_ms;
	if (note->why != WHY_MOVED_WITHIN)
		count_why(to->queue, WHY_MOVED_IN, 1, 0);
	return note->fresh ? 0 : lane_set(to, offset, 1, &note->set, &facts, WHY_UNTOLD, NULL);
}

int lane_move(const struct lane_move *m, uint64_t *ret_offset)
{
	static const struct span_set gone = { .state = SPAN_GONE };
	struct engine_props props;
	struct engine_batch batch = make_batch(m, &props);
	struct span_facts facts = { batch.ts_ms, m->id, batch.len - 1, NULL };
	struct queue_move_note note = { .from = m->from,
		.to = m->to,
		.from_offset = m->offset,
		.to_offset = m->to->end,
		.id = m->id,
		.why = m->why,
		.delivers = m->set.state == SPAN_UNACKED,
		.forward = props.mark == QUEUE_FORWARD,
		.death = m->why == WHY_DEAD ? DEATH_OF(m->reason) : 0,
		.set = m->set };
	int rc;

	note.set.place = (int64_t)m->to->end;
	note.set.id = m->id <= m->to->last_id ? m->id : 0;
	if (props.ttl_ms >= 0 && m->from->queue != m->to->queue)
		note.set.expires_ms = batch.ts_ms + props.ttl_ms;
	/* What keeps its age needs a span: among fresh messages the first is looked at alone to see what expires. */
	note.fresh = note.set.id == 0 && note.set.state == SPAN_READY && note.set.deliveries == 0 &&
		     note.set.expires_ms == QUEUE_NEVER && m->why != WHY_MOVED_WITHIN && batch.ts_ms >= m->to->fresh_ms;
	rc = span_reserve_twice(m->from); /* what comes after the note needs no memory */
	if (rc == 0)
		rc = span_reserve_twice(m->to);
	if (rc == 0)
		rc = queue_note_owed_cut(m->to);
	if (rc == 0)
		rc = FAILPOINT("move_before_note");
	if (rc == 0)
		rc = queue_note_move(&note);
	if (rc < 0)
		return rc;
	rc = FAILPOINT("move_after_note");
	if (rc == 0)
		rc = append_moved(m, &note, &batch);
	if (rc < 0) {
		queue_note_unmove(&note);
		return rc;
	}
	CRASHPOINT("move_after_append");
	count_why(m->from->queue, m->why, 1, 0);
	*ret_offset = note.to_offset;
	return lane_set(m->from, m->offset, 1, &gone, &facts, WHY_UNTOLD, NULL);
}

void lane_move_arrived(struct lane *lane, uint64_t offset, struct wake_list *wake)
{
	struct span *span;
	struct queue *queue = lane->queue;
	int64_t ttl = setting_value(&queue->object, SET_QUEUE_TTL);

	if (lane_state(lane, offset, &span) != SPAN_READY)
		return;
	if (span != NULL) {
		queue_ready(queue, span, wake);
		return;
	}
	if (ttl >= 0) {
		int64_t due_ms = queue_now(queue_local(queue)) + ttl;

		if (due_ms < queue->ttl_due)
			queue->ttl_due = due_ms;
		queue_set_timer(queue);
	}
	queue_wake(queue, 1, wake);
}
