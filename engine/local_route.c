/*
 * local_route - publishing through an exchange: to all targets of a message, or to none.
 *
 * The messages of a batch are divided by where they go; mostly all go to the same targets. Each such part is first claimed
 * from all its targets: what they may refuse is refused now, and nothing has happened. With one target it is then sent. With
 * several it is noted in the journal, payloads and all, marked with a number, and then sent to one after the other, each
 * message with that mark among its properties; if the daemon dies in between, the start finds the note and gives the message to those
 * that do not have the mark (local_route_journal.c).
 *
 * What this leaves out: if a disk fails between two targets, the first has the message and the producer is told EIO; the others get
 * it at the next start.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/local_exchange.h"
#include "engine/local_queue.h"

struct route_producer {
	enum engine_kind of;       /* first, as in struct producer: ENGINE_EXCHANGE */
	struct exchange *exchange; /* a reference */
	struct engine_span key;    /* routing key; ptr NULL: none; owned */
	pthread_mutex_t lock;
	struct routing_match touched; /* ids of targets that got something since the last sync; lock */
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
	pthread_mutex_init(&producer->lock, NULL);
	*ret_producer = (struct engine_producer *)producer;
	return 0;
}

void route_producer_close(struct engine_producer *handle)
{
	struct route_producer *producer = producer_of(handle);

	object_put(&producer->exchange->object);
	routing_match_release(&producer->touched);
	pthread_mutex_destroy(&producer->lock);
	free((char *)(uintptr_t)producer->key.ptr);
	free(producer);
}

/* ---- dividing a batch ---- */

/* Messages of a batch that go to the same targets. */
struct part {
	struct routing_match match; /* the targets' ids */
	struct engine_batch batch;  /* its data, lengths and props are its own, as they follow */
	char *data;
	uint32_t *lengths;
	struct engine_props *props;
	struct route_target *targets; /* once claimed */
	struct queue_claim *claims;   /* of those that are queues */
	uint32_t claimed;             /* how many of the targets */
};

struct plan {
	struct route_producer *producer;
	const struct engine_batch *batch;
	int64_t ts_ms;
	uint32_t *lengths; /* of all messages */
	struct part *parts;
	uint32_t part_count, part_room;
	struct routing_match scratch;
};

static void release_part(struct part *part)
{
	for (uint32_t i = 0; i < part->claimed; i++) {
		object_put(part->targets[i].object);
		free(part->targets[i].logs);
	}
	free(part->targets);
	free(part->claims);
	free(part->data);
	free(part->lengths);
	free(part->props);
	routing_match_release(&part->match);
}

static void release_plan(struct plan *plan)
{
	for (uint32_t i = 0; i < plan->part_count; i++)
		release_part(&plan->parts[i]);
	free(plan->parts);
	free(plan->lengths);
	routing_match_release(&plan->scratch);
}

static int find_lengths(struct plan *plan)
{
	const struct engine_batch *batch = plan->batch;
	const char *data = batch->data, *end;
	size_t left = batch->len;

	plan->lengths = malloc(batch->count * sizeof(*plan->lengths));
	if (plan->lengths == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < batch->count; i++) {
		size_t len = batch->lengths != NULL ? batch->lengths[i] : 0;

		if (batch->lengths == NULL) {
			end = left > 0 ? memchr(data, '\n', left) : NULL;
			len = end != NULL ? (size_t)(end - data) : SIZE_MAX;
		}
		if (len >= left || len > UINT32_MAX || data[len] != '\n')
			return -EINVAL;
		plan->lengths[i] = (uint32_t)len;
		data += len + 1;
		left -= len + 1;
	}
	return left == 0 ? 0 : -EINVAL;
}

/* The part for the targets in scratch: one that is there, or a new one with room for all that is left. */
static int find_part(struct plan *plan, uint32_t left, size_t left_bytes, struct part **ret_part)
{
	struct part *part, *grown;

	for (uint32_t i = 0; i < plan->part_count; i++) {
		part = &plan->parts[i];
		if (part->match.count == plan->scratch.count &&
		    memcmp(part->match.targets, plan->scratch.targets, part->match.count * sizeof(uint64_t)) == 0) {
			*ret_part = part;
			return 0;
		}
	}
	if (plan->part_count == plan->part_room) {
		grown = realloc(plan->parts, (plan->part_room * 2 + 1) * sizeof(*grown));
		if (grown == NULL)
			return -ENOMEM;
		plan->parts = grown;
		plan->part_room = plan->part_room * 2 + 1;
	}
	part = &plan->parts[plan->part_count];
	*part = (struct part){ .match = plan->scratch, .batch = *plan->batch };
	plan->scratch = (struct routing_match){ 0 };
	plan->part_count++;
	part->data = malloc(left_bytes);
	part->lengths = malloc(left * sizeof(*part->lengths));
	part->props = malloc(left * sizeof(*part->props));
	if (part->data == NULL || part->lengths == NULL || part->props == NULL)
		return -ENOMEM;
	part->batch.data = part->data;
	part->batch.len = part->batch.count = 0;
	part->batch.lengths = part->lengths;
	part->batch.props = part->props;
	part->batch.ts_ms = plan->ts_ms;
	*ret_part = part;
	return 0;
}

/* The properties message i is stored with. */
static struct engine_props props_of(const struct plan *plan, uint32_t i)
{
	struct engine_props props = plan->batch->props != NULL ? plan->batch->props[i] : ENGINE_PROPS_INIT;

	if (props.routing_key.ptr == NULL)
		props.routing_key = plan->producer->key;
	if (props.ts_ms < 0)
		props.ts_ms = plan->ts_ms;
	props.partition = ENGINE_ANY;
	return props;
}

static int route(struct plan *plan, const struct engine_props *props)
{
	return exchange_route(
	    plan->producer->exchange, props->routing_key, props->headers, props->header_count, &plan->scratch);
}

/* routes */
static int divide(struct plan *plan)
{
	const char *data = plan->batch->data;
	size_t left = plan->batch->len;
	struct part *part = NULL;
	int rc = 0;

	for (uint32_t i = 0; i < plan->batch->count && rc == 0; i++) {
		struct engine_props props = props_of(plan, i);
		size_t len = (size_t)plan->lengths[i] + 1;

		if (part == NULL || plan->batch->props != NULL) { /* else they are all alike */
			rc = route(plan, &props);
			if (rc == 0)
				rc = find_part(plan, plan->batch->count - i, left, &part);
		}
		if (rc < 0)
			break;
		memcpy(part->data + part->batch.len, data, len);
		part->lengths[part->batch.count] = plan->lengths[i];
		part->props[part->batch.count++] = props;
		part->batch.len += len;
		data += len;
		left -= len;
	}
	return rc;
}

/* ---- claiming ---- */

static int add_log(struct route_target *target, uint32_t index, uint64_t end)
{
	struct route_log *grown;

	for (uint32_t i = 0; i < target->log_count; i++) {
		if (target->logs[i].index == index)
			return 0;
	}
	grown = realloc(target->logs, (target->log_count + 1) * sizeof(*grown));
	if (grown == NULL)
		return -ENOMEM;
	grown[target->log_count++] = (struct route_log){ index, end };
	target->logs = grown;
	return 0;
}

static int claim_topic(struct part *part, struct route_target *target)
{
	struct topic *topic = topic_of_object(target->object);
	int rc = topic_claim(topic, &part->batch, part->props);

	for (uint32_t i = 0; i < part->batch.count && rc == 0; i++) {
		struct partition *partition = topic_partition(topic, part->props[i].partition);
		struct engine_partition_stat stat;

		plog_stat(atomic_load(&partition->plog), &stat);
		rc = add_log(target, partition->index, stat.end);
	}
	return rc;
}

static int claim_queue(struct part *part, struct route_target *target, struct queue_claim *claim)
{
	struct queue *queue = queue_of_object(target->object);
	int rc = queue_claim(queue, &part->batch, claim);

	for (uint32_t p = 0; p < ENGINE_PRIORITIES && rc == 0; p++) {
		if (!(claim->lanes >> p & 1))
			continue;
		rc = add_log(target, p, claim->ends[p]);
		if (rc < 0)
			queue_unclaim(queue, claim);
	}
	return rc;
}

static void unclaim(struct part *part, uint32_t from)
{
	for (uint32_t i = from; i < part->claimed; i++) {
		if (part->targets[i].object->kind == ENGINE_QUEUE)
			queue_unclaim(queue_of_object(part->targets[i].object), &part->claims[i]);
	}
}

/* routes */
static int claim(struct local *local, struct part *part)
{
	int rc = 0;

	part->targets = calloc(part->match.count, sizeof(*part->targets));
	part->claims = calloc(part->match.count, sizeof(*part->claims));
	if (part->targets == NULL || part->claims == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < part->match.count && rc == 0; i++) {
		struct route_target *target = &part->targets[i];

		target->object = registry_get(local, part->match.targets[i]);
		if (target->object == NULL)
			return -EIDRM;
		rc = target->object->kind == ENGINE_QUEUE ? claim_queue(part, target, &part->claims[i])
							  : claim_topic(part, target);
		if (rc < 0) {
			object_put(target->object);
			free(target->logs);
			break;
		}
		part->claimed++;
	}
	if (rc < 0)
		unclaim(part, 0);
	return rc;
}

/* ---- sending ---- */

static int send_to(struct part *part, uint32_t i)
{
	struct object *object = part->targets[i].object;

	if (object->kind == ENGINE_QUEUE)
		return queue_send_claimed(queue_of_object(object), &part->batch, &part->claims[i]);
	for (uint32_t m = 0; m < part->batch.count; m++) { /* another topic may have chosen other partitions */
		struct engine_props *props = &part->props[m];

		if (props->key.ptr != NULL)
			props->partition = ENGINE_ANY;
		else
			props->partition = part->targets[i].logs[0].index;
	}
	return topic_send_claimed(topic_of_object(object), &part->batch);
}

static int send_part(struct local *local, struct part *part)
{
	uint64_t mark = 0;
	int rc = 0, sent;

	if (part->claimed > 1) {
		rc = queue_next_ids(local, 1, &mark);
		for (uint32_t i = 0; i < part->batch.count; i++)
			part->props[i].mark = mark;
		if (rc == 0)
			rc = route_note(local, mark, &part->batch, part->targets, part->claimed);
		if (rc < 0) {
			unclaim(part, 0);
			return rc;
		}
	}
	for (uint32_t i = 0; i < part->claimed; i++) {
		sent = send_to(part, i);
		if (sent < 0 && part->claimed > 1)
			local_fault(local, -sent,
			    "message %" PRIu64
			    " of an exchange came to a part of its targets only; the next start gives it to the others",
			    mark);
		if (rc == 0)
			rc = sent;
	}
	return rc;
}

static int touch(struct route_producer *producer, const struct part *part)
{
	int rc = 0;

	pthread_mutex_lock(&producer->lock);
	for (size_t i = 0; i < part->match.count && rc == 0; i++)
		rc = routing_match_add(&producer->touched, part->match.targets[i]);
	pthread_mutex_unlock(&producer->lock);
	return rc;
}

static int refuse_unroutable(const struct plan *plan)
{
	const struct exchange *exchange = plan->producer->exchange;

	for (uint32_t i = 0; i < plan->part_count; i++) {
		const struct part *part = &plan->parts[i];
		struct engine_span key = part->props[0].routing_key;

		if (part->match.count == 0 && setting_value(&exchange->object, SET_EXCHANGE_MANDATORY) != 0)
			return engine_explain(-EHOSTUNREACH, "no binding matches the routing key %.*s",
			    key.ptr != NULL ? (int)key.len : 0, key.ptr != NULL ? key.ptr : "");
	}
	return 0;
}

/* routes */
static int publish(struct plan *plan)
{
	struct exchange *exchange = plan->producer->exchange;
	struct local *local = local_of(&exchange->object);
	uint32_t claimed = 0;
	int rc = divide(plan), sent;

	if (rc == 0)
		rc = refuse_unroutable(plan);
	for (; claimed < plan->part_count && rc == 0; claimed++) {
		rc = touch(plan->producer, &plan->parts[claimed]);
		if (rc == 0)
			rc = claim(local, &plan->parts[claimed]);
		if (rc < 0)
			break;
	}
	for (uint32_t i = 0; i < claimed && rc < 0; i++)
		unclaim(&plan->parts[i], 0);
	if (rc < 0)
		return rc;
	for (uint32_t i = 0; i < plan->part_count; i++) {
		struct part *part = &plan->parts[i];

		sent = send_part(local, part);
		if (rc == 0)
			rc = sent;
		atomic_fetch_add(&exchange->published, part->batch.count);
		atomic_fetch_add(&exchange->routed, part->batch.count * part->match.count);
		if (part->match.count == 0)
			atomic_fetch_add(&exchange->unroutable, part->batch.count);
	}
	return rc;
}

/* ---- calls ---- */

int route_producer_send(struct engine_producer *handle, const struct engine_batch *batch)
{
	struct route_producer *producer = producer_of(handle);
	struct plan plan = {
		.producer = producer, .batch = batch, .ts_ms = batch->ts_ms >= 0 ? batch->ts_ms : clock_wall_ms()
	};
	struct local *local = local_of(&producer->exchange->object);
	struct object *object = NULL;
	int rc = object_enter_change(&producer->exchange->object.base, ENGINE_EXCHANGE, &object);

	if (rc < 0)
		return rc;
	if (batch->count == 0)
		return -EINVAL;
	queue_catch_up(local); /* before the lock: queues may be removed by it */
	rc = find_lengths(&plan);
	if (rc == 0) {
		pthread_rwlock_rdlock(&local->routes);
		rc = publish(&plan);
		pthread_rwlock_unlock(&local->routes);
	}
	if (rc < 0)
		atomic_fetch_add(&producer->exchange->refused, batch->count);
	release_plan(&plan);
	return rc;
}

/* Adds what is not on disk of a target, which may be gone. */
static int add_points(struct local *local, uint64_t id, struct sync_point ***points, size_t *count)
{
	struct object *object = registry_get(local, id);
	struct topic *topic = topic_of_object(object);
	struct sync_point **grown;
	uint32_t logs;

	if (object == NULL)
		return 0;
	logs = object->kind == ENGINE_QUEUE ? ENGINE_PRIORITIES : atomic_load(&topic->partitions);
	grown = realloc(*points, (*count + logs + 1) * sizeof(struct sync_point *));
	if (grown == NULL) {
		object_put(object);
		return -ENOMEM;
	}
	*points = grown;
	if (object->kind == ENGINE_QUEUE)
		*count += queue_sync_points(queue_of_object(object), grown + *count);
	for (uint32_t i = 0; object->kind == ENGINE_TOPIC && i < logs; i++)
		*count = partition_add_point(topic_partition(topic, i), grown, *count);
	object_put(object); /* the flusher keeps those it has to do with */
	return 0;
}

int route_producer_sync(struct engine_producer *handle, struct engine_done *done)
{
	struct route_producer *producer = producer_of(handle);
	struct local *local = local_of(&producer->exchange->object);
	struct routing_match touched;
	struct sync_point **points = NULL;
	size_t count = 0;
	int rc = 0;

	engine_reason_clear();
	pthread_mutex_lock(&producer->lock);
	touched = producer->touched;
	producer->touched = (struct routing_match){ 0 };
	pthread_mutex_unlock(&producer->lock);
	pthread_rwlock_rdlock(&local->routes);
	for (size_t i = 0; i < touched.count && rc == 0 && !local->read_only; i++)
		rc = add_points(local, touched.targets[i], &points, &count);
	if (rc == 0 && count > 0 && journal_synced(local->journal) < journal_end(local->journal))
		points[count++] = &local->journal_sync; /* add_points() leaves room for it */
	if (rc == 0)
		rc = flusher_wait_for(local, points, count, done);
	pthread_rwlock_unlock(&local->routes);
	routing_match_release(&touched);
	free(points);
	return rc;
}
