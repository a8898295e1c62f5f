/*
 * local_route - publishing through an exchange: to all targets of a message, or to none.
 *
 * The targets of each message are found, of a batch without properties at once for all; each gets its messages in their order.
 * All of it is one part of a commit (local_commit.h).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/local_commit.h"
#include "engine/local_exchange.h"
#include "engine/local_visible.h"
#include "engine/local_whole.h"

struct route_producer {
	enum engine_kind of;       /* first, as in struct producer: ENGINE_EXCHANGE */
	struct exchange *exchange; /* a reference */
	struct engine_span key;    /* routing key; ptr NULL: none; owned */
};

static struct route_producer *producer_of(struct engine_producer *handle)
{
	return (struct route_producer *)handle;
}

/* ---- opening and closing ---- */

int route_producer_open(
    struct engine_object *base, uint32_t partition, struct engine_span key, struct engine_producer **ret_producer)
{
	struct route_producer *producer;
	struct object *object = NULL;
	char *copy = NULL;
	int rc = object_enter(base, ENGINE_EXCHANGE, &object);

	if (rc < 0)
		return rc;
	if (partition != ENGINE_ANY)
		return -EINVAL;
	producer = calloc(1, sizeof(*producer));
	if (key.ptr != NULL)
		copy = malloc(key.len + 1);
	if (producer == NULL || (key.ptr != NULL && copy == NULL)) {
		free(producer);
		free(copy);
		return -ENOMEM;
	}
	if (copy != NULL)
		memcpy(copy, key.ptr, key.len);
	producer->of = ENGINE_EXCHANGE;
	producer->exchange = exchange_of_object(object_ref(object));
	producer->key = (struct engine_span){ copy, key.len };
	*ret_producer = (struct engine_producer *)producer;
	return 0;
}

void route_producer_close(struct engine_producer *handle)
{
	struct route_producer *producer = producer_of(handle);

	object_put(&producer->exchange->object);
	free((char *)(uintptr_t)producer->key.ptr);
	free(producer);
}

/* ---- finding the targets ---- */

/* A batch on its way to its targets. */
struct publishing {
	struct route_producer *producer;
	struct engine_batch batch; /* lengths and props are those that follow */
	uint32_t *lengths;
	struct engine_props *props;
	struct routing_match match; /* of one message */
	struct commit commit;
	uint64_t routed, unroutable;
};

/* The properties message i is stored with. */
static struct engine_props props_of(const struct publishing *p, const struct engine_batch *batch, uint32_t i)
{
	struct engine_props props = batch->props != NULL ? batch->props[i] : ENGINE_PROPS_INIT;

	if (props.routing_key.ptr == NULL)
		props.routing_key = p->producer->key;
	if (props.ts_ms < 0)
		props.ts_ms = p->batch.ts_ms;
	props.partition = ENGINE_ANY;
	return props;
}

static int prepare(struct publishing *p, struct route_producer *producer, const struct engine_batch *batch)
{
	int rc;

	*p = (struct publishing){ .producer = producer, .batch = *batch };
	commit_init(&p->commit, local_of(&producer->exchange->object));
	if (batch->count == 0)
		return -EINVAL;
	if (batch->ts_ms < 0)
		p->batch.ts_ms = clock_wall_ms();
	p->batch.lengths = p->lengths = malloc(batch->count * sizeof(*p->lengths));
	p->batch.props = p->props = malloc(batch->count * sizeof(*p->props));
	if (p->lengths == NULL || p->props == NULL)
		return -ENOMEM;
	rc = batch_find_lengths(batch, p->lengths);
	for (uint32_t i = 0; i < batch->count && rc == 0; i++)
		p->props[i] = props_of(p, batch, i);
	return rc;
}

static void release(struct publishing *p)
{
	commit_release(&p->commit);
	routing_match_release(&p->match);
	free(p->lengths);
	free(p->props);
}

/* Finds the targets of message i, count of which are alike: all go there. routes */
static int route(struct publishing *p, uint32_t i, uint32_t count)
{
	struct exchange *exchange = p->producer->exchange;
	const struct engine_props *props = &p->props[i];
	struct engine_span key = props->routing_key;
	int rc = exchange_route(exchange, key, props->headers, props->header_count, &p->match);

	if (rc == 0)
		rc = exchange_check_routed(exchange, &p->match, key);
	if (rc < 0)
		return rc;
	p->routed += count * p->match.count;
	p->unroutable += p->match.count == 0 ? count : 0;
	return exchange_touch(exchange, &p->match);
}

/* Adds message i, or if they are alike all, to their targets. routes */
static int add_messages(struct publishing *p, struct commit_part *part, uint32_t i, bool all)
{
	int rc = route(p, i, all ? p->batch.count : 1);

	for (size_t t = 0; t < p->match.count && rc == 0; t++) {
		struct object *target = registry_get(p->commit.local, p->match.targets[t]);

		if (target == NULL)
			rc = -EIDRM;
		else
			rc = all ? commit_add_target(part, target, false) : commit_add_message(part, target, i);
		object_put(target);
	}
	return rc;
}

/* routes */
static int publish(struct publishing *p, bool alike)
{
	struct commit_part *part = NULL;
	int rc = commit_add_part(&p->commit, &p->batch, p->props, &part);

	for (uint32_t i = 0; i < (alike ? 1 : p->batch.count) && rc == 0; i++)
		rc = add_messages(p, part, i, alike);
	if (rc == 0)
		rc = commit_claim(&p->commit);
	return rc == 0 ? commit_run(&p->commit, false) : rc;
}

void exchange_count(struct exchange *exchange, uint64_t published, uint64_t routed, uint64_t unroutable, int rc)
{
	if (rc < 0) {
		atomic_fetch_add(&exchange->refused, published);
		return;
	}
	atomic_fetch_add(&exchange->published, published);
	atomic_fetch_add(&exchange->routed, routed);
	atomic_fetch_add(&exchange->unroutable, unroutable);
}

static void count_published(struct exchange *exchange, const struct publishing *p, int rc)
{
	exchange_count(exchange, p->batch.count, p->routed, p->unroutable, rc);
}

/* ---- calls ---- */

static int send_once(struct route_producer *producer, const struct engine_batch *batch)
{
	struct local *local = local_of(&producer->exchange->object);
	struct object *object = NULL;
	struct publishing p;
	int rc = object_enter_change(&producer->exchange->object.base, ENGINE_EXCHANGE, &object);

	if (rc < 0)
		return rc;
	queue_catch_up(local); /* before the lock: queues may be removed by it */
	rc = prepare(&p, producer, batch);
	if (rc == 0) {
		visible_hold(); /* who is woken may wait for a transaction, and that for routes */
		pthread_rwlock_rdlock(&local->routes);
		rc = publish(&p, batch->props == NULL);
		pthread_rwlock_unlock(&local->routes);
		visible_let_go();
	}
	count_published(producer->exchange, &p, rc);
	release(&p);
	return rc;
}

int route_producer_send(struct engine_producer *handle, const struct engine_batch *batch)
{
	struct route_producer *producer = producer_of(handle);
	unsigned int tries = 0;
	int rc;

	do
		rc = send_once(producer, batch);
	while (warm_again(local_of(&producer->exchange->object), rc, &tries));
	if (rc == -ENOSPC)
		checkpoint_hurry(local_of(&producer->exchange->object));
	return rc;
}

/* ---- dead letters ---- */

/* Leaves out the queues where it would go on in a circle. routes */
static void leave_out_circles(struct local *local, const struct engine_props *props, struct routing_match *match)
{
	size_t kept = 0;

	for (size_t i = 0; i < match->count; i++) {
		struct object *target = registry_get(local, match->targets[i]);

		if (target == NULL || target->kind != ENGINE_QUEUE ||
		    !queue_is_circle(queue_of_object(target), props->deaths, props->death_count))
			match->targets[kept++] = match->targets[i];
		object_put(target);
	}
	match->count = kept;
}

/* A part of its own for it. routes */
static int add_letter(struct publishing *p, struct route_letter *letter)
{
	struct exchange *exchange = p->producer->exchange;
	struct engine_props *props = &letter->props;
	struct commit_part *part = NULL;
	int rc = exchange_route(exchange, props->routing_key, props->headers, props->header_count, &p->match);

	if (rc < 0)
		return rc;
	leave_out_circles(p->commit.local, props, &p->match);
	letter->targets = p->match.count;
	p->routed += p->match.count;
	p->unroutable += p->match.count == 0;
	if (p->match.count == 0)
		return 0;
	rc = exchange_touch(exchange, &p->match);
	if (rc == 0)
		rc = commit_add_part(&p->commit, &letter->view.batch, props, &part);
	for (size_t i = 0; i < p->match.count && rc == 0; i++) {
		struct object *target = registry_get(p->commit.local, p->match.targets[i]);

		rc = target != NULL ? commit_add_target(part, target, false) : -EIDRM;
		object_put(target);
	}
	return rc;
}

/* routes */
static int publish_dead(struct publishing *p, struct route_letter *letters, uint32_t count)
{
	struct commit_take takes[ROUTE_LETTERS];
	int rc = 0;

	for (uint32_t i = 0; i < count && rc == 0; i++) {
		rc = add_letter(p, &letters[i]);
		if (rc == 0 && letters[i].targets > 0)
			takes[p->commit.take_count++] = letters[i].take;
	}
	if (rc < 0 || p->commit.take_count == 0)
		return rc;
	p->commit.takes = takes;
	rc = commit_claim(&p->commit);
	if (rc == 0)
		rc = commit_run(&p->commit, true);
	p->commit.takes = NULL;
	return rc;
}

int route_dead(struct exchange *exchange, struct route_letter *letters, uint32_t count)
{
	struct route_producer producer = { ENGINE_EXCHANGE, exchange, { NULL, 0 } };
	struct publishing p = { .producer = &producer, .batch.count = count };
	struct local *local = local_of(&exchange->object);
	int rc;

	commit_init(&p.commit, local);
	p.commit.again = true;
	pthread_rwlock_rdlock(&local->routes);
	rc = publish_dead(&p, letters, count);
	pthread_rwlock_unlock(&local->routes);
	if (rc == 0)
		count_published(exchange, &p, 0);
	release(&p);
	return rc;
}

/* The queues are asked without `routes`, as that may have others removed. */
int route_room(struct engine_object *base, uint64_t bytes, const struct engine_props *props)
{
	struct routing_match match = { 0 };
	struct object *object = NULL, *target;
	struct local *local = (struct local *)base->engine;
	int rc;

	queue_catch_up(local);
	rc = object_enter(base, ENGINE_EXCHANGE, &object);
	if (rc < 0)
		return rc;
	pthread_rwlock_rdlock(&local->routes);
	rc =
	    exchange_route(exchange_of_object(object), props->routing_key, props->headers, props->header_count, &match);
	pthread_rwlock_unlock(&local->routes);
	if (rc == 0)
		rc = exchange_check_routed(exchange_of_object(object), &match, props->routing_key);
	for (size_t i = 0; i < match.count && rc == 0; i++) {
		target = registry_get(local, match.targets[i]);
		if (target != NULL && target->kind == ENGINE_QUEUE)
			rc = queue_has_room_for(&target->base, bytes, props);
		object_put(target);
		rc = rc == -EIDRM ? 0 : rc;
	}
	routing_match_release(&match);
	return rc;
}

/* Adds what is not on disk of a target, which may be gone: then *ret_object is NULL, else a reference to be kept until it is asked for. */
static int add_points(
    struct local *local, uint64_t id, struct sync_point ***points, size_t *count, struct object **ret_object)
{
	struct object *object = registry_get(local, id);
	struct topic *topic = topic_of_object(object);
	struct sync_point **grown;
	uint32_t logs;

	*ret_object = object;
	if (object == NULL)
		return 0;
	logs = object->kind == ENGINE_QUEUE ? ENGINE_PRIORITIES : atomic_load(&topic->partitions);
	grown = realloc(*points, (*count + logs + 1) * sizeof(struct sync_point *));
	if (grown == NULL)
		return -ENOMEM;
	*points = grown;
	if (object->kind == ENGINE_QUEUE)
		*count += queue_sync_points(queue_of_object(object), grown + *count);
	for (uint32_t i = 0; object->kind == ENGINE_TOPIC && i < logs; i++)
		*count = partition_add_point(topic_partition(topic, i), grown, *count);
	return 0;
}

/* All that came through the exchange, by whichever producer: a target that was reached once is looked at from then on. */
int route_producer_sync(struct engine_producer *handle, struct engine_done *done)
{
	struct exchange *exchange = producer_of(handle)->exchange;
	struct local *local = local_of(&exchange->object);
	struct sync_point **points = NULL;
	struct object *object = NULL, **held = NULL;
	uint64_t *targets = NULL;
	size_t count = 0, target_count = 0;
	int rc = object_enter(&exchange->object.base, ENGINE_EXCHANGE, &object);

	if (rc < 0 || local->read_only)
		return rc;
	rc = exchange_touched(exchange, &targets, &target_count);
	if (rc == 0)
		held = calloc(target_count + 1, sizeof(struct object *));
	if (rc == 0 && held == NULL)
		rc = -ENOMEM;
	for (size_t i = 0; i < target_count && rc == 0; i++)
		rc = add_points(local, targets[i], &points, &count, &held[i]);
	if (rc == 0 && points != NULL && journal_synced(local->journal) < journal_end(local->journal))
		points[count++] = &local->journal_sync; /* add_points() leaves room for it */
	if (rc == 0)
		rc = flusher_wait_for(local, points, count, done);
	for (size_t i = 0; held != NULL && i < target_count; i++)
		object_put(held[i]); /* the flusher keeps those it has to do with */
	free(held);
	free(targets);
	free(points);
	return rc;
}
