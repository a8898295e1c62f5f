/*
 * local_queue_forward - dead letters that go through an exchange: dead.letter.to is exchanges/NAME.
 *
 * They die into the queue's own dlq, as all do, with one step that no crash parts; but marked, with QUEUE_FORWARD. From there they are
 * published when no lock is held: soon, by the timer of the dlq or by who calls next. That is one commit of as many as are there, up
 * to a bound, with one sync; it takes them out of the dlq as it is noted. If it fails they go one by one, so that one that is
 * refused keeps no other back. What cannot be published now (a full disk) stays and is tried again, and so is what
 * somebody holds; what a target refuses for good stays, a dead letter like others. Where nothing matches, or only a queue
 * that it would come to in a circle, it is dropped, and counted there. If there is no such exchange as it dies, it is a
 * dead letter like others.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/local_commit.h"
#include "engine/local_exchange.h"
#include "engine/local_queue_move.h"

#define RETRY_MS 1000
#define BYTES_AT_ONCE 1048576 /* beyond this no more are taken */

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

/* 0 or 1; an error: that cannot be told now. One that is damaged never goes on. */
static int is_marked(struct lane *lane, uint64_t offset, struct engine_scratch *scratch, struct engine_view *view,
    struct commit_take *ret_take)
{
	uint64_t id;
	int rc = lane_read(lane, offset, 1, scratch, view, &id);

	if (rc < 0)
		return rc == -EIO || rc == -ESTALE ? 0 : rc;
	if (view->batch.props == NULL || view->batch.props[0].mark != QUEUE_FORWARD)
		return 0;
	*ret_take = (struct commit_take){ lane, offset, id, facts_of(view, id) };
	return 1;
}

/* The next that is marked, from where the last one was. EAGAIN: there may be one; ENOMEM, EMFILE, ENFILE. lock */
static int find_next(
    struct queue *dlq, struct engine_scratch *scratch, struct engine_view *view, struct commit_take *ret_take)
{
	uint32_t looked = 0;
	int marked;

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
			marked = is_marked(lane, lane->forwarded, scratch, view, ret_take);
			if (marked == 0)
				continue;
			if (marked < 0)
				return marked;
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
	enum span_ended ended = ENDED_NEVER;
	struct span *span;
	int rc = queue_lock(dlq);

	if (rc < 0)
		return rc;
	if (lane_state(take->lane, take->offset, &span) == SPAN_READY) {
		if (span != NULL)
			ended = (enum span_ended)span->ended;
		rc = lane_set(take->lane, take->offset, 1, &gone, &take->facts, WHY_DROPPED, NULL);
		if (rc == 0)
			queue_remember_gone(dlq, take->id, ended);
	}
	queue_unlock(dlq);
	return rc;
}

/* Those that come next, as many as go at once. ENOENT: there are no more; others as find_next(). lock */
static int collect(struct queue *dlq, struct route_letter *letters, uint32_t *ret_count)
{
	uint32_t count = 0;
	size_t bytes = 0;
	int rc = 0;

	while (count < ROUTE_LETTERS && bytes < BYTES_AT_ONCE) {
		struct route_letter *letter = &letters[count];

		rc = find_next(dlq, &letter->scratch, &letter->view, &letter->take);
		if (rc < 0)
			break;
		letter->take.lane->forwarded = letter->take.offset + 1;
		bytes += letter->view.batch.len;
		count++;
	}
	*ret_count = count;
	return rc;
}

/* As it is published: now, with the routing key that its queue says, or its own. */
static void address(struct queue *dlq, struct route_letter *letter)
{
	const char *key = settings_text(setting_value(dlq->object.parent, SET_QUEUE_DEAD_LETTER_KEY));
	struct engine_batch *batch = &letter->view.batch;

	batch->ts_ms = queue_now(queue_local(dlq));
	letter->props = batch->props[0];
	letter->props.partition = ENGINE_ANY;
	if (letter->take.lane->priority > 0 || letter->props.priority > 0) /* the one it has now */
		letter->props.priority = (int32_t)letter->take.lane->priority;
	if (letter->props.ts_ms < 0)
		letter->props.ts_ms = batch->ts_ms;
	if (key != NULL)
		letter->props.routing_key = (struct engine_span){ key, strlen(key) };
}

/* 0; ENOENT: it is not there any more; another error: it is to be tried again. */
static int forward_one(struct queue *dlq, struct exchange *exchange, struct route_letter *letter)
{
	int rc = route_dead(exchange, letter, 1);

	return rc == 0 && letter->targets == 0 ? drop(dlq, &letter->take) : rc;
}

/* Will it be refused the next time, too? By a topic that is compacted, if it has no key. */
static bool is_final(int rc)
{
	return rc == -EINVAL || rc == -EMSGSIZE || rc == -E2BIG;
}

/* These are to be tried again, in a while. */
static void try_later(struct queue *dlq, const struct route_letter *letters, uint32_t count)
{
	pthread_mutex_lock(&dlq->lock);
	for (uint32_t i = 0; i < count; i++) {
		struct lane *lane = letters[i].take.lane;

		if (lane->forwarded > letters[i].take.offset)
			lane->forwarded = letters[i].take.offset;
	}
	look_at(dlq, queue_now(queue_local(dlq)) + RETRY_MS);
	pthread_mutex_unlock(&dlq->lock);
}

/* One by one, up to the first that is to be tried again: then false. */
static bool forward_each(struct queue *dlq, struct exchange *exchange, struct route_letter *letters, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		int rc = forward_one(dlq, exchange, &letters[i]);

		if (rc < 0 && rc != -ENOENT && !is_final(rc)) {
			try_later(dlq, &letters[i], count - i);
			return false;
		}
		if (is_final(rc))
			local_fault(queue_local(dlq), -rc,
			    "a dead letter cannot go through the exchange, and stays in the dlq: %s", strerror(-rc));
	}
	return true;
}

/* False: some are to be tried again. */
static bool forward_all(struct queue *dlq, struct exchange *exchange, struct route_letter *letters, uint32_t count)
{
	if (count == 1 || route_dead(exchange, letters, count) < 0)
		return forward_each(dlq, exchange, letters, count);
	for (uint32_t i = 0; i < count; i++) {
		if (letters[i].targets == 0 && drop(dlq, &letters[i].take) < 0) {
			try_later(dlq, &letters[i], 1);
			return false;
		}
	}
	return true;
}

/* Returns whether there may be more at once. *any: some went on. */
static bool forward_next(struct queue *dlq, struct exchange *exchange, struct route_letter *letters, bool *any)
{
	uint32_t count = 0;
	int rc = queue_lock(dlq), found;

	if (rc < 0)
		return false;
	found = collect(dlq, letters, &count);
	if (found == -ENOENT && count == 0)
		look_later(dlq);
	else if (found < 0 && found != -EAGAIN && count == 0) /* not past it: they go in their order */
		look_at(dlq, queue_now(queue_local(dlq)) + RETRY_MS);
	queue_unlock(dlq);
	if (count == 0)
		return found == -EAGAIN;
	*any = true;
	for (uint32_t i = 0; i < count; i++)
		address(dlq, &letters[i]);
	return forward_all(dlq, exchange, letters, count);
}

static void stop_looking(struct queue *dlq)
{
	pthread_mutex_lock(&dlq->lock);
	look_at(dlq, QUEUE_NEVER);
	pthread_mutex_unlock(&dlq->lock);
}

bool queue_forward(struct queue *dlq)
{
	struct route_letter *letters;
	struct exchange *exchange;
	bool wanted, any = false;

	pthread_mutex_lock(&dlq->lock);
	wanted = dlq->forward_due <= queue_now(queue_local(dlq));
	pthread_mutex_unlock(&dlq->lock);
	exchange = wanted && dlq->object.parent->kind == ENGINE_QUEUE ? exchange_of(queue_of_object(dlq->object.parent))
								      : NULL;
	if (exchange == NULL) {
		if (wanted) /* until another dies, or the next start */
			stop_looking(dlq);
		return false;
	}
	letters = calloc(ROUTE_LETTERS, sizeof(*letters));
	if (letters == NULL)
		try_later(dlq, NULL, 0);
	pthread_mutex_lock(&exchange->forward_lock); /* one thread at a time, so that none is published twice */
	while (letters != NULL && forward_next(dlq, exchange, letters, &any))
		;
	pthread_mutex_unlock(&exchange->forward_lock);
	for (uint32_t i = 0; letters != NULL && i < ROUTE_LETTERS; i++)
		engine_scratch_release(&letters[i].scratch);
	free(letters);
	object_put(&exchange->object);
	return any;
}

void queue_forward_soon(struct queue *dlq)
{
	look_at(dlq, queue_now(queue_local(dlq)));
}
