/*
 * local_queue_open - opening the logs of a queue.
 *
 * As with topics, opening the store opens no log: a queue is as the catalog and the journal say, and the first call that
 * needs it opens its logs and brings the two together (finish_opening). Where they differ the log is right: what lies
 * beyond its end, or before its start, is not there. What was held by a session or a stream goes back then, as their
 * holders died with the daemon, and so does what a removed consumer held.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/index.h"
#include "engine/io.h"
#include "engine/local_queue_span.h"

/* From when on the first message of view lives: not before its delay is over. */
static int64_t alive_from(const struct engine_view *view)
{
	int64_t delay = view->batch.props != NULL ? view->batch.props[0].delay_ms : 0;

	return view->batch.ts_ms + (delay > 0 && delay < QUEUE_NEVER - view->batch.ts_ms ? delay : 0);
}

/* Sizes and time of a span that was read from the catalog or the journal. */
static int load_facts(struct span *span)
{
	struct queue *queue = span->lane->queue;
	struct span_sizes *sizes = NULL;
	uint64_t first_id;
	uint32_t at = 0;

	if (span->state == SPAN_GONE)
		return 0;
	sizes = calloc(1, sizeof(*sizes) + span->count * sizeof(sizes->each[0]));
	if (sizes == NULL)
		return -ENOMEM;
	sizes->refs = 1;
	span->bytes = 0;
	while (at < span->count) {
		struct engine_view view = { 0 };
		int rc = lane_read(span->lane, span->first + at, span->count - at, &queue->scratch, &view, &first_id);
		uint32_t count = view.batch.count > 0 ? view.batch.count : 1;

		if (rc < 0 && !lane_lost(rc)) {
			free(sizes);
			return rc;
		}
		for (uint32_t i = 0; rc == 0 && i < count; i++) {
			sizes->each[at + i] = view.batch.lengths[i];
			span->bytes += view.batch.lengths[i];
		}
		if (at == 0 && rc == 0) {
			span->ts_ms = alive_from(&view);
			span->first_id = first_id;
		}
		at += count < span->count - at ? count : span->count - at;
	}
	span_drop_sizes(span); /* of an opening that failed */
	span->sizes_at = 0;    /* it may have been cut while it had none */
	if (span->count > 1)
		span->sizes = sizes;
	else
		free(sizes);
	return 0;
}

struct holder *queue_find_holder(struct queue *queue, const struct span *span)
{
	struct object *object;
	struct holder *holder = NULL;

	if (span->held)
		return NULL;
	if (span->holder_id == queue->object.id)
		return &queue->anonymous;
	object = registry_get(queue_local(queue), span->holder_id);
	if (object != NULL && object->kind == ENGINE_CONSUMER && object->parent == &queue->object)
		holder = &queue_consumer_of(object)->holder;
	object_put(object); /* the registry's keeps it, and a removal takes the leases back first */
	return holder;
}

/* The time of the last message before end that has no span, if it is not damaged. lock */
static int find_fresh_time(struct lane *lane, uint64_t end)
{
	struct index_entry entry;
	struct span *span;
	int rc = -EIO;

	while (end > lane->next && (span = span_at(lane, end - 1)) != NULL)
		end = span->first;
	if (end > lane->next)
		rc = plog_entry(atomic_load(&lane->plog), end - 1, &entry);
	if (rc == 0)
		lane->fresh_ms = entry.ts_ms;
	return lane_lost(rc) ? 0 : rc;
}

/* What the journal should have said of a fresh message, and does not: the power went before that was on disk. */
static int finish_message(struct lane *lane, uint64_t offset, const struct index_entry *entry)
{
	struct queue *queue = lane->queue;
	struct span_set set = { .state = SPAN_GONE, .place = (int64_t)offset, .due_ms = QUEUE_NEVER };
	enum queue_why why = queue_local(queue)->read_only ? WHY_UNTOLD : WHY_NOTHING;
	const struct engine_props *props = NULL;
	struct engine_view view;
	uint64_t first_id;
	bool head = entry->flags & INDEX_HEAD;
	int rc = -EIO;

	if (entry->flags & INDEX_MOVED) /* it is still where it was */
		return offset >= lane->moves_end ? lane_set(lane, offset, 1, &set, NULL, why, NULL) : 0;
	if (entry->meta_len > 0)
		rc = lane_read(lane, offset, 1, &queue->scratch, &view, &first_id);
	if (rc < 0 && !lane_lost(rc))
		return rc;
	if (rc == 0)
		props = view.batch.props;
	if (head)
		set.place = lane->head_place - 1;
	if (props == NULL || (props->delay_ms <= 0 && props->ttl_ms < 0)) {
		if (!head && entry->ts_ms >= lane->fresh_ms) {
			lane->fresh_ms = entry->ts_ms;
			return 0;
		}
		set.state = SPAN_READY; /* its time is not in order */
		set.expires_ms = QUEUE_NEVER;
		return lane_set(lane, offset, 1, &set, NULL, why, NULL);
	}
	set.due_ms = alive_from(&view);
	set.state = props->delay_ms > 0 ? SPAN_DELAYED : SPAN_READY;
	set.expires_ms = props->ttl_ms >= 0 ? queue_add_ms(set.due_ms, props->ttl_ms) : QUEUE_NEVER;
	return lane_set(lane, offset, 1, &set, NULL, why, NULL);
}

/* Of what may not have been synced, which may have come to the disk before the journal did. lock */
static int finish_tail(struct lane *lane, uint64_t synced)
{
	uint64_t offset = synced > lane->next ? synced : lane->next;
	struct index_entry entry;
	struct span *span;
	int rc = find_fresh_time(lane, offset);

	while (rc == 0 && offset < lane->end) {
		uint64_t end;

		rc = plog_entry(atomic_load(&lane->plog), offset, &entry);
		if (rc < 0)
			return lane_lost(rc) ? 0 : rc;
		end = entry.base_offset + entry.count;
		for (; rc == 0 && offset < end; offset++) {
			if (lane_state(lane, offset, &span) == SPAN_READY && span == NULL)
				rc = finish_message(lane, offset, &entry);
		}
		offset = end;
	}
	return rc;
}

/* Does the journal say anything of what is from end on? */
static bool is_said_of(struct lane *lane, uint64_t end)
{
	return lane->next > end || lane->moves_end > end || lane->placed_end > end || span_from(lane, end) != NULL;
}

/*
 * The machine died before the log was synced, or the daemon before it appended what it had noted. That the journal says so is on disk
 * before these offsets are given again: else what it has of those before would be taken for theirs. An error: nothing has changed. lock
 */
static int cut_lane(struct lane *lane, uint64_t end)
{
	struct local *local = queue_local(lane->queue);
	int rc = 0;

	if (!is_said_of(lane, end))
		return 0;
	if (!local->read_only)
		rc = queue_note_cut(lane, end);
	if (rc == 0)
		rc = journal_sync(local->journal);
	if (rc == 0)
		lane_cut(lane, end);
	return rc;
}

/* Brings a lane in line with its log. After an error it can be tried again. lock */
static int finish_lane(struct lane *lane)
{
	struct queue *queue = lane->queue;
	struct engine_partition_stat stat;
	struct tree_node *node;
	int rc;

	plog_stat(atomic_load(&lane->plog), &stat);
	lane->end = stat.end;
	rc = cut_lane(lane, stat.end);
	if (rc < 0)
		return rc;
	lane_skip(lane, stat.earliest);
	rc = plog_last_id(atomic_load(&lane->plog), &lane->last_id);
	if (rc == 0 && stat.synced < stat.end)
		rc = finish_tail(lane, stat.synced);
	if (rc < 0)
		return rc;
	for (node = tree_first(&lane->spans); node != NULL; node = tree_next(node))
		span_unfile((struct span *)((char *)node - offsetof(struct span, by_offset)));
	for (node = tree_first(&lane->spans); node != NULL && rc == 0; node = tree_next(node))
		rc = load_facts((struct span *)((char *)node - offsetof(struct span, by_offset)));
	if (rc == 0)
		rc = find_fresh_time(lane, lane->end);
	if (rc == 0 && stat.synced < stat.end && !queue_local(queue)->read_only) {
		lane->unsynced_messages = stat.end - stat.synced;
		lane->unsynced_since_ms = clock_mono_ms();
		timer_set_earlier(queue_local(queue), &lane->flush_timer, clock_mono_ms());
	}
	return rc;
}

/* Before anybody looks it comes back as any lease does that is over. Who only reads notes nothing: there it is READY. */
void queue_lease_over(struct span *span)
{
	struct queue *queue = span->lane->queue;
	struct span_set set = span_as(span);

	if (!queue_local(queue)->read_only) {
		span_unfile(span);
		span->due_ms = queue_now(queue_local(queue));
		span_file(span);
		queue_set_timer(queue);
		return;
	}
	set.state = SPAN_READY;
	set.held = false;
	set.holder_id = 0;
	set.due_ms = QUEUE_NEVER;
	lane_set(span->lane, span->first, span->count, &set, NULL, WHY_UNTOLD, NULL);
}

/* Leases go back to whom they belong, or are over. lock */
static void find_holders(struct lane *lane)
{
	struct tree_node *node = tree_first(&lane->spans);

	for (; node != NULL; node = tree_next(node)) {
		struct span *span = (struct span *)((char *)node - offsetof(struct span, by_offset));
		struct holder *holder;

		if (span->state != SPAN_UNACKED)
			continue;
		holder = queue_find_holder(lane->queue, span);
		if (holder != NULL)
			span_hold(span, holder, NULL);
		else
			queue_lease_over(span);
	}
}

/* lock */
static int finish_opening(struct queue *queue)
{
	int rc = 0;

	for (uint32_t p = 0; p < ENGINE_PRIORITIES && rc == 0; p++) {
		if (queue_lane(queue, p) != NULL)
			rc = finish_lane(queue_lane(queue, p));
	}
	/* What spans are ordered by is known of all of them now. */
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		struct lane *lane = queue_lane(queue, p);
		struct tree_node *node = lane != NULL ? tree_first(&lane->spans) : NULL;

		for (; node != NULL; node = tree_next(node))
			span_refile((struct span *)((char *)node - offsetof(struct span, by_offset)));
		if (lane != NULL && rc == 0)
			find_holders(lane);
	}
	if (rc == 0) {
		queue_refile_leases(queue);
		rc = queue_count(queue);
	}
	if (rc == 0) {
		queue_check_invariants(queue);
		queue_set_timer(queue);
		if (queue_is_too_long(queue)) /* the daemon died before it dropped what was too much */
			queue_due(queue, queue_now(queue_local(queue)));
	}
	return rc;
}

/* No lock: recovery reports what it finds. */
static int open_logs(struct queue *queue)
{
	struct local *local = queue_local(queue);
	unsigned int tries = 0;
	int rc = 0;

	for (uint32_t p = 0; p < ENGINE_PRIORITIES && rc == 0; p++) {
		struct lane *lane = queue_lane(queue, p);
		struct plog_options options;
		struct plog *plog;

		if (lane == NULL || atomic_load(&lane->plog) != NULL)
			continue;
		options = local_log_options(local, lane->log_id);
		options.known = lane->sync.known;
		do
			rc = plog_open(&options, &plog);
		while (warm_again(local, rc, &tries));
		if (rc < 0)
			break;
		rc = ends_look_at(&lane->sync, plog);
		if (rc < 0) {
			plog_close(plog);
			break;
		}
		atomic_store(&lane->plog, plog);
		plog_keep_ids(plog, setting_value(&queue->object, SET_QUEUE_DEDUP_WINDOW));
	}
	return rc;
}

void queue_touch(struct queue *queue)
{
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		if (queue_lane(queue, p) != NULL)
			warm_touch(&queue_lane(queue, p)->warm);
	}
}

int queue_open(struct queue *queue)
{
	char what[256];
	int rc = 0;

	queue_touch(queue);
	if (atomic_load_explicit(&queue->open, memory_order_acquire))
		return 0;
	pthread_mutex_lock(&queue->lock);
	while (queue->opening)
		pthread_cond_wait(&queue->changed, &queue->lock);
	if (!atomic_load(&queue->open)) {
		queue->opening = true;
		pthread_mutex_unlock(&queue->lock);
		engine_reason_clear();
		rc = open_logs(queue);
		pthread_mutex_lock(&queue->lock);
		if (rc == 0)
			rc = finish_opening(queue);
		queue->opening = false;
		pthread_cond_broadcast(&queue->changed);
	}
	pthread_mutex_unlock(&queue->lock);
	if (rc < 0) {
		snprintf(
		    what, sizeof(what), "its logs cannot be opened%s%s", *engine_reason() ? ": " : "", engine_reason());
		if (!queue->open_failed && !io_wants_means(rc))
			queue_fault(queue, rc, what);
		queue->open_failed = queue->open_failed || !io_wants_means(rc);
		return engine_explain(rc == -EUCLEAN || rc == -ENOENT ? -EIO : rc,
		    "the logs of the queue cannot be opened: %s", strerror(-rc));
	}
	return 0;
}

/* Is a lease over because its holder is gone? */
static bool has_lost_lease(struct queue *queue)
{
	struct tree_node *node = tree_first(&queue->leased);

	for (; node != NULL; node = tree_next(node)) {
		struct span *span = (struct span *)((char *)node - offsetof(struct span, by_order));

		if (span->holder == NULL && queue_find_holder(queue, span) == NULL)
			return true;
	}
	return false;
}

void queue_open_soon(struct queue *queue)
{
	/* When its messages expire is known once it is open. */
	if (setting_value(&queue->object, SET_QUEUE_TTL) >= 0 || has_lost_lease(queue))
		queue_due(queue, queue_now(queue_local(queue)));
	else {
		queue_refile_leases(queue);
		queue_set_timer(queue);
	}
}
