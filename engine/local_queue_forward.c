/*
 * local_queue_forward - dead letters that go through an exchange: dead.letter.to is exchanges/NAME.
 *
 * They die into the queue's own dlq, as all do, with one step that no crash parts; but marked, with QUEUE_FORWARD. From there they are
 * published when no lock is held: soon, by the timer of the dlq or by who calls next. That is one commit, which takes the
 * message out of the dlq as it is noted. What cannot be published now (a full disk) stays and is tried again, and so is what
 * somebody holds; what a target refuses for good stays, a dead letter like others. Where nothing matches, or only a queue
 * that it would come to in a circle, it is dropped, and counted there. If there is no such exchange as it dies, it is a
 * dead letter like others.
 */
#include <errno.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/local_commit.h"
#include "engine/local_exchange.h"
#include "engine/local_queue_move.h"

#define RETRY_MS 1000

bool queue_forwards(const struct queue *queue)
{
	const char *to = settings_text(setting_value(&queue->object, SET_QUEUE_DEAD_LETTER));

	return to != NULL && strncmp(to, "exchanges/", strlen("exchanges/")) == 0;
}

/* The exchange that a queue's dead letters go through: a reference, or NULL. */
static struct exchange *exchange_of(const struct queue *queue)
{
	struct local *local = queue_local(queue);
	const char *to = settings_text(setting_value(&queue->object, SET_QUEUE_DEAD_LETTER));
	struct object *found;

	if (!queue_forwards(queue))
		return NULL;
	found = registry_find(local, local->root->id, ENGINE_EXCHANGE, to + strlen("exchanges/"));
	return found != NULL ? exchange_of_object(found) : NULL;
}

bool queue_forwards_now(const struct queue *queue)
{
	struct exchange *exchange = exchange_of(queue);

	if (exchange == NULL)
		return false;
	object_put(&exchange->object);
	return true;
}

/* What is looked at with the lock held. */
#define LOOK_AT_ONCE 256u

static bool is_marked(struct lane *lane, uint64_t offset, struct engine_scratch *scratch, struct engine_view *view,
    struct commit_take *ret_take)
{
	uint64_t id;

	if (lane_read(lane, offset, 1, scratch, view, &id) < 0 || view->batch.props == NULL ||
	    view->batch.props[0].mark != QUEUE_FORWARD)
		return false;
	*ret_take = (struct commit_take){ lane, offset, id, facts_of(view, id) };
	return true;
}

/* The next that is marked, from where the last one was. EAGAIN: there may be one. lock */
static int find_next(
    struct queue *dlq, struct engine_scratch *scratch, struct engine_view *view, struct commit_take *ret_take)
{
	uint32_t looked = 0;

	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		struct lane *lane = queue_lane(dlq, p);
		struct engine_partition_stat stat;
		struct span *span;

		if (lane == NULL)
			continue;
		plog_stat(atomic_load(&lane->plog), &stat);
		if (lane->forwarded < stat.earliest)
			lane->forwarded = stat.earliest;
		for (; lane->forwarded < lane->end; lane->forwarded++) {
			enum span_state state = lane_state(lane, lane->forwarded, &span);

			if (state == SPAN_GONE)
				continue;
			if (looked++ == LOOK_AT_ONCE)
				return -EAGAIN;
			if (!is_marked(lane, lane->forwarded, scratch, view, ret_take))
				continue;
			if (state == SPAN_READY)
				return 0;
			if (lane->forward_held > lane->forwarded)
				lane->forward_held = lane->forwarded;
		}
	}
	return -ENOENT;
}

/* lock */
static void look_at(struct queue *dlq, int64_t due_ms)
{
	dlq->forward_due = due_ms;
	queue_set_timer(dlq);
}

/* All was looked at. What somebody holds comes back or not. lock */
static void look_later(struct queue *dlq)
{
	bool held = false;

	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		struct lane *lane = queue_lane(dlq, p);

		if (lane == NULL || lane->forward_held == UINT64_MAX)
			continue;
		lane->forwarded = lane->forward_held;
		lane->forward_held = UINT64_MAX;
		held = true;
	}
	look_at(dlq, held ? queue_now(queue_local(dlq)) + RETRY_MS : QUEUE_NEVER);
}

static int drop(struct queue *dlq, const struct commit_take *take)
{
	static const struct span_set gone = { .state = SPAN_GONE };
	struct span *span;
	int rc = queue_lock(dlq);

	if (rc < 0)
		return rc;
	if (lane_state(take->lane, take->offset, &span) == SPAN_READY)
		rc = lane_set(take->lane, take->offset, 1, &gone, &take->facts, WHY_DROPPED, NULL);
	queue_unlock(dlq);
	return rc;
}

/* Publishes one: 0; ENOENT: it is not there any more; another error: it is to be tried again. */
static int forward_one(
    struct queue *dlq, struct exchange *exchange, const struct engine_view *view, const struct commit_take *take)
{
	const char *key = settings_text(setting_value(dlq->object.parent, SET_QUEUE_DEAD_LETTER_KEY));
	struct engine_props props = view->batch.props[0];
	struct engine_batch batch = view->batch;
	int rc;

	if (key != NULL)
		props.routing_key = (struct engine_span){ key, strlen(key) };
	batch.props = &props;
	batch.ts_ms = queue_now(queue_local(dlq));
	rc = route_dead(exchange, &batch, take);
	return rc == -EHOSTUNREACH ? drop(dlq, take) : rc;
}

/* Will it be refused the next time, too? By a topic that is compacted, if it has no key. */
static bool is_final(int rc)
{
	return rc == -EINVAL || rc == -EMSGSIZE || rc == -E2BIG;
}

/* What came of one. lock */
static bool forwarded(struct queue *dlq, const struct commit_take *take, int rc)
{
	if (rc < 0 && rc != -ENOENT && !is_final(rc)) {
		look_at(dlq, queue_now(queue_local(dlq)) + RETRY_MS);
		return false;
	}
	if (take->lane->forwarded == take->offset)
		take->lane->forwarded++;
	return true;
}

/* Returns whether there may be more at once. */
static bool forward_next(struct queue *dlq, struct exchange *exchange)
{
	struct engine_scratch scratch = { 0 };
	struct engine_view view;
	struct commit_take take;
	bool more = true;
	int rc = queue_lock(dlq), found;

	if (rc < 0)
		return false;
	found = find_next(dlq, &scratch, &view, &take);
	if (found == -ENOENT)
		look_later(dlq);
	queue_unlock(dlq);
	if (found == 0) {
		rc = forward_one(dlq, exchange, &view, &take);
		if (is_final(rc))
			local_fault(queue_local(dlq), -rc,
			    "a dead letter cannot go through the exchange, and stays in the dlq: %s", strerror(-rc));
		pthread_mutex_lock(&dlq->lock);
		more = forwarded(dlq, &take, rc);
		pthread_mutex_unlock(&dlq->lock);
	}
	engine_scratch_release(&scratch);
	return more && found != -ENOENT;
}

static void stop_looking(struct queue *dlq)
{
	pthread_mutex_lock(&dlq->lock);
	look_at(dlq, QUEUE_NEVER);
	pthread_mutex_unlock(&dlq->lock);
}

void queue_forward(struct queue *dlq)
{
	struct exchange *exchange;
	bool wanted;

	pthread_mutex_lock(&dlq->lock);
	wanted = dlq->forward_due <= queue_now(queue_local(dlq));
	pthread_mutex_unlock(&dlq->lock);
	exchange = wanted && dlq->object.parent->kind == ENGINE_QUEUE ? exchange_of(queue_of_object(dlq->object.parent))
								      : NULL;
	if (exchange == NULL) {
		if (wanted) /* until another dies, or the next start */
			stop_looking(dlq);
		return;
	}
	pthread_mutex_lock(&exchange->forward_lock); /* one thread at a time, so that none is published twice */
	while (forward_next(dlq, exchange))
		;
	pthread_mutex_unlock(&exchange->forward_lock);
	object_put(&exchange->object);
}

void queue_forward_soon(struct queue *dlq)
{
	look_at(dlq, queue_now(queue_local(dlq)));
}
