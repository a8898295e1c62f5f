/*
 * local_queue - the life of a queue: making it and its lanes, the beginning of calls on it, removing it. Opening it: local_queue_open.c.
 *
 * A lane is made when the first message of its priority comes: the log first, then the row of the catalog that names it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/catalog.h"
#include "engine/clock.h"
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
		.index = priority };
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
