/*
 * local_queue - the life of a queue: making it and its lanes, opening its logs, and the beginning of calls on it.
 *
 * As with topics, opening the store opens no log: a queue is as the catalog and the journal say, and the first call that
 * needs it opens its logs and brings the two together (finish_opening). Where they differ the log is right: what lies
 * beyond its end, or before its start, is not there. What was held by a session or a stream goes back then, as their
 * holders died with the daemon, and so does what a removed consumer held.
 *
 * A lane is made when the first message of its priority comes: the log first, then the row of the catalog that names it.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/catalog.h"
#include "engine/clock.h"
#include "engine/index.h"
#include "engine/io.h"
#include "engine/local_commit.h"
#include "engine/local_queue_span.h"
#include "engine/local_stage.h"

int64_t queue_now(const struct local *local)
{
	return clock_mono_ms() + local->wall_base_ms;
}

void queue_fault(struct queue *queue, int err, const char *what)
{
	char name[QUEUE_NAME_MAX];

	queue_name(queue, name);
	local_fault(queue_local(queue), -err, "queue %s: %s: %s", name, what, strerror(-err));
}

int queue_next_ids(struct local *local, uint32_t count, uint64_t *ret_first)
{
	int rc = 0;

	pthread_mutex_lock(&local->ids.lock);
	if (local->ids.end - local->ids.next < count) {
		uint64_t first, take = count > QUEUE_IDS_AT_ONCE ? count : QUEUE_IDS_AT_ONCE;

		rc = catalog_next_message_ids(local->catalog, take, &first);
		if (rc == 0) {
			local->ids.next = first;
			local->ids.end = first + take;
		}
	}
	if (rc == 0) {
		*ret_first = local->ids.next;
		local->ids.next += count;
	}
	pthread_mutex_unlock(&local->ids.lock);
	return rc;
}

int queue_see_next_id(struct local *local, uint64_t *ret_next)
{
	int rc = 0;

	pthread_mutex_lock(&local->ids.lock);
	if (local->ids.end == 0) { /* none was given since the start */
		rc = catalog_see_message_ids(local->catalog, &local->ids.next);
		local->ids.end = local->ids.next;
	}
	*ret_next = local->ids.next;
	pthread_mutex_unlock(&local->ids.lock);
	return rc;
}

/* ---- making and freeing ---- */

struct queue *queue_new(struct local *local, uint64_t id, struct object *parent)
{
	struct queue *queue = calloc(1, sizeof(*queue));

	if (queue == NULL)
		return NULL;
	object_init(local, &queue->object, ENGINE_QUEUE, id, parent);
	pthread_mutex_init(&queue->fetch_lock, NULL);
	pthread_mutex_init(&queue->lock, NULL);
	pthread_cond_init(&queue->changed, NULL);
	local_dedup_init(&queue->dedup);
	span_trees_init(queue);
	queue->anonymous.id = id;
	queue->waiters_tail = &queue->waiters;
	queue->readers_tail = &queue->readers;
	queue->used_ms = queue_now(local);
	queue->ttl_due = queue->timer_due = queue->forward_due = QUEUE_NEVER;
	/* Dead letters have the built-in settings: what the defaults are is meant for queues that are made. */
	if (settings_init(&queue->object, parent->kind != ENGINE_STORE ? NULL : local->defaults[ENGINE_QUEUE]) < 0 ||
	    timer_init(local, &queue->timer, queue_timer_fire, &queue->object) < 0 ||
	    timer_init(local, &queue->nudge, queue_nudge_fire, &queue->object) < 0) {
		queue_free(queue);
		return NULL;
	}
	if (parent->kind != ENGINE_STORE) { /* and stay */
		settings_put(&queue->object, SET_QUEUE_DEAD_LETTER, DEAD_LETTER_NONE);
		settings_put(&queue->object, SET_QUEUE_DELIVERY_LIMIT, -1);
	}
	return queue;
}

static void free_lane(struct lane *lane)
{
	struct local *local = queue_local(lane->queue);
	struct plog *plog = atomic_load(&lane->plog);

	timer_release(local, &lane->flush_timer);
	warm_cool(&lane->warm);
	lane_release(lane);
	plog_close(plog);
	if (atomic_load(&lane->queue->object.removed) && !local->read_only)
		plog_destroy(local->store.logs_dirfd, lane->log_id);
	free(lane);
}

void queue_free(struct queue *queue)
{
	timer_release(queue_local(queue), &queue->timer);
	timer_release(queue_local(queue), &queue->nudge);
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		if (queue_lane(queue, p) != NULL)
			free_lane(queue_lane(queue, p));
	}
	engine_scratch_release(&queue->scratch);
	free(queue->gone);
	local_dedup_release(&queue->dedup);
	queue_free_pins(queue);
	pthread_cond_destroy(&queue->changed);
	pthread_mutex_destroy(&queue->lock);
	pthread_mutex_destroy(&queue->fetch_lock);
	object_release(&queue->object);
}

struct queue_consumer *queue_consumer_new(struct local *local, uint64_t id, struct queue *queue)
{
	struct queue_consumer *consumer = calloc(1, sizeof(*consumer));

	if (consumer == NULL)
		return NULL;
	object_init(local, &consumer->object, ENGINE_CONSUMER, id, &queue->object);
	consumer->holder.id = id;
	if (settings_init(&consumer->object, local->defaults[ENGINE_CONSUMER]) < 0) {
		object_release(&consumer->object);
		return NULL;
	}
	return consumer;
}

int queue_close_logs(struct queue *queue)
{
	int rc = 0;

	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		struct lane *lane = queue_lane(queue, p);
		int closed = lane != NULL ? ends_close_log(&lane->sync) : 0;

		if (rc == 0)
			rc = closed;
	}
	return rc;
}

/* ---- lanes ---- */

int queue_add_lane(struct queue *queue, uint32_t priority, uint64_t log_id, struct lane **ret_lane)
{
	struct lane *lane = calloc(1, sizeof(*lane));
	int rc;

	if (lane == NULL)
		return -ENOMEM;
	lane->queue = queue;
	lane->priority = priority;
	lane->log_id = log_id;
	lane->forward_held = UINT64_MAX;
	lane->sync = (struct sync_point){ .run = lane_sync_run,
		.begin = lane_sync_begin,
		.log = &lane->plog,
		.object = &queue->object,
		.log_id = log_id,
		.index = priority,
		.kept = ENGINE_OFFSET_NONE };
	warm_init(&lane->warm, &lane->sync, &lane->plog);
	lane_trees_init(lane);
	rc = timer_init(queue_local(queue), &lane->flush_timer, lane_flush_fire, &queue->object);
	if (rc < 0)
		free(lane);
	else
		*ret_lane = lane;
	return rc;
}

/* On disk, and open. object.change */
static int try_make_lane(struct queue *queue, uint32_t priority, struct lane **ret_lane)
{
	struct local *local = queue_local(queue);
	struct plog_options options;
	struct plog *plog = NULL;
	uint64_t log_id;
	int rc = catalog_next_id(local->catalog, &log_id);

	if (rc < 0)
		return rc;
	options = local_log_options(local, log_id);
	rc = plog_create(&options);
	if (rc < 0)
		return rc;
	rc = plog_open(&options, &plog);
	if (rc == 0)
		rc = queue_add_lane(queue, priority, log_id, ret_lane);
	if (rc == 0) {
		rc = catalog_add_lane(local->catalog, queue->object.id, priority, log_id);
		if (rc < 0) {
			timer_release(local, &(*ret_lane)->flush_timer);
			free(*ret_lane);
		}
	}
	if (rc < 0) {
		plog_close(plog);
		plog_destroy(local->store.logs_dirfd, log_id);
		return rc == -ENOENT ? -EIDRM : rc;
	}
	atomic_store(&(*ret_lane)->plog, plog);
	plog_keep_ids(plog, setting_value(&queue->object, SET_QUEUE_DEDUP_WINDOW));
	return 0;
}

/* For messages that die or move it may use the reserve: they give room back where they were. object.change */
static int make_lane_for_moves(struct queue *queue, uint32_t priority, struct lane **ret_lane)
{
	bool again = false;
	int rc;

	do
		rc = try_make_lane(queue, priority, ret_lane);
	while (reserve_again(queue_local(queue), rc, &again));
	return rc;
}

/* For new messages: not of the reserve. object.change */
static int make_lane_for_messages(struct queue *queue, uint32_t priority, struct lane **ret_lane)
{
	int rc = reserve_enter(queue_local(queue));

	if (rc < 0)
		return rc;
	rc = try_make_lane(queue, priority, ret_lane);
	reserve_leave(queue_local(queue));
	return rc;
}

static int get_lane(struct queue *queue, uint32_t priority,
    int (*make)(struct queue *queue, uint32_t priority, struct lane **ret_lane), struct lane **ret_lane)
{
	struct lane *lane = queue_lane(queue, priority);
	int rc = 0;

	if (lane == NULL) {
		pthread_mutex_lock(&queue->object.change);
		lane = queue_lane(queue, priority);
		if (lane == NULL && atomic_load(&queue->object.removed))
			rc = -EIDRM;
		else if (lane == NULL)
			rc = make(queue, priority, &lane);
		if (rc == 0) {
			pthread_mutex_lock(&queue->lock);
			atomic_store(&queue->lanes[priority], lane);
			pthread_mutex_unlock(&queue->lock);
		}
		pthread_mutex_unlock(&queue->object.change);
	}
	if (rc < 0)
		return rc;
	warm_touch(&lane->warm);
	*ret_lane = lane;
	return 0;
}

int queue_make_lane(struct queue *queue, uint32_t priority, struct lane **ret_lane)
{
	return get_lane(queue, priority, make_lane_for_moves, ret_lane);
}

int queue_make_lane_to_produce(struct queue *queue, uint32_t priority, struct lane **ret_lane)
{
	return get_lane(queue, priority, make_lane_for_messages, ret_lane);
}

/* ---- opening ---- */

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
		ends_tell_lost(&queue->object, p, plog);
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

/* ---- the beginning of calls ---- */

int queue_enter(struct engine_object *base, bool change, struct queue **ret_queue)
{
	struct object *object = NULL;
	int rc;

	queue_catch_up((struct local *)base->engine);
	rc = change ? object_enter_change(base, ENGINE_QUEUE, &object) : object_enter(base, ENGINE_QUEUE, &object);

	if (rc == 0)
		rc = queue_open(queue_of_object(object));
	if (rc < 0)
		return rc;
	stages_take(object);
	*ret_queue = queue_of_object(object);
	return 0;
}

int queue_enter_holder(struct engine_object *base, struct queue **ret_queue, struct holder **ret_holder)
{
	struct object *object = NULL;
	int rc;

	queue_catch_up((struct local *)base->engine);
	rc = object_enter_any(base, &object);
	if (rc < 0)
		return rc;
	if (object->kind != ENGINE_QUEUE && object->kind != ENGINE_CONSUMER)
		return -EINVAL;
	if (local_of(object)->read_only)
		return engine_explain(-EROFS, "the store is mounted read-only");
	*ret_holder =
	    object->kind == ENGINE_QUEUE ? &queue_of_object(object)->anonymous : &queue_consumer_of(object)->holder;
	*ret_queue = queue_of_object(object->kind == ENGINE_QUEUE ? object : object->parent);
	rc = queue_open(*ret_queue);
	if (rc == 0)
		stages_take(&(*ret_queue)->object);
	return rc;
}

int queue_lock(struct queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	while (queue->frozen)
		pthread_cond_wait(&queue->changed, &queue->lock);
	if (atomic_load(&queue->object.removed)) {
		pthread_mutex_unlock(&queue->lock);
		return -EIDRM;
	}
	return 0;
}

void queue_present(struct queue *queue, int change)
{
	if (queue->object.parent->kind == ENGINE_QUEUE)
		atomic_fetch_add(&queue_of_object(queue->object.parent)->dlq_present, (uint32_t)change);
	queue_used(queue);
}

void queue_used(struct queue *queue)
{
	queue->used_ms = queue_now(queue_local(queue));
	if (queue->object.parent->kind == ENGINE_QUEUE) /* it goes with its queue */
		atomic_store(&queue_of_object(queue->object.parent)->dlq_used_ms, queue->used_ms);
}

void queue_used_now(struct queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	queue_used(queue);
	pthread_mutex_unlock(&queue->lock);
}

void queue_unlock(struct queue *queue)
{
	queue_check_invariants(queue);
	pthread_mutex_unlock(&queue->lock);
}

int queue_lock_both(struct queue *queue, struct queue *other)
{
	struct queue *first = queue, *second = other;
	int rc;

	if (other == NULL || other == queue)
		return queue_lock(queue);
	if (other->object.id < queue->object.id) {
		first = other;
		second = queue;
	}
	rc = queue_lock(first);
	if (rc < 0)
		return rc;
	rc = queue_lock(second);
	if (rc < 0)
		pthread_mutex_unlock(&first->lock);
	return rc;
}

void queue_unlock_both(struct queue *queue, struct queue *other)
{
	if (other != NULL && other != queue)
		queue_unlock(other);
	queue_unlock(queue);
}

bool queue_holds_nothing(struct queue *queue)
{
	return queue->messages[SPAN_READY] + queue->messages[SPAN_UNACKED] + queue->messages[SPAN_DELAYED] == 0;
}

/* ---- removal ---- */

/*
 * object.change. Settled messages too leave the logs, so that a log that outlives its queue in a crash is an empty one; but
 * those that were moved to others only when they are on disk there.
 */
int queue_freeze(struct queue *queue)
{
	int rc = queue_open(queue);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&queue->lock);
	if (queue_holds_nothing(queue))
		queue->frozen = true;
	else
		rc = -ENOTEMPTY;
	pthread_mutex_unlock(&queue->lock);
	if (rc == 0) /* or what was not moved to it after all would go with it */
		rc = queue_note_owed(queue_local(queue));
	if (rc == 0 && queue->totals.moved_out + queue->totals.dead_lettered > 0)
		rc = queue_sync_moved(queue_local(queue));
	for (uint32_t p = 0; p < ENGINE_PRIORITIES && rc == 0; p++) {
		struct lane *lane = queue_lane(queue, p);

		if (lane != NULL)
			rc = plog_trim(atomic_load(&lane->plog), lane->end);
	}
	if (rc < 0 && rc != -ENOTEMPTY)
		queue_thaw(queue);
	return rc;
}

void queue_thaw(struct queue *queue)
{
	struct wake_list wake = { 0 };

	pthread_mutex_lock(&queue->lock);
	queue->frozen = false;
	pthread_cond_broadcast(&queue->changed);
	if (atomic_load(&queue->object.removed))
		queue_wake_all(queue, &wake);
	pthread_mutex_unlock(&queue->lock);
	wake_run(&wake);
}

/* Discards all it holds, leased or not. No lock */
int queue_clear(struct queue *queue)
{
	static const struct span_set gone = { .state = SPAN_GONE };
	struct tree_node *node;
	int rc = queue_purge(&queue->object.base);

	if (rc == 0)
		rc = queue_lock(queue);
	if (rc < 0)
		return rc;
	while (rc == 0 && (node = tree_first(&queue->leased)) != NULL) {
		struct span *span = (struct span *)((char *)node - offsetof(struct span, by_order));

		rc = lane_set(span->lane, span->first, span->count, &gone, NULL, WHY_DROPPED, NULL);
	}
	queue_unlock(queue);
	return rc;
}
