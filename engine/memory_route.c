/*
 * memory_route - publishing through an exchange.
 *
 * First the way of each message is found; then each target gets a batch of its own, of those messages that go there: all
 * targets begin with theirs, which they may refuse, before the first takes any.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/memory_exchange.h"
#include "engine/memory_queue.h"

struct memory_route_producer {
	struct memory_object *exchange; /* a reference; first, as in all producers: see memory_calls.c */
	struct engine_span key;         /* owned; ptr NULL if there is none */
};

/* What one target gets. */
struct share {
	struct memory_object *target;
	struct engine_batch batch;
	char *data;
	uint32_t *lengths;
	struct engine_props *props;
	struct memory_sending *sending; /* of a topic that has begun */
	struct memory_item *items;      /* of a queue that has */
	struct dedup_pass pass;
	bool passed, begun;
};

struct publishing {
	struct memory_route_producer *producer;
	const struct engine_batch *batch;
	int64_t ts_ms;
	struct share *shares;
	size_t count, room;
	struct routing_match match;
	uint64_t routed, unroutable;
};

static struct memory_route_producer *producer_of(struct engine_producer *producer)
{
	return (struct memory_route_producer *)producer;
}

int memory_route_producer_open(
    struct engine_object *exchange, uint32_t partition, struct engine_span key, struct engine_producer **ret_producer)
{
	struct memory_object *self = memory_of(exchange);
	struct memory_route_producer *producer = calloc(1, sizeof(*producer) + (key.ptr != NULL ? key.len : 0));
	int rc = producer != NULL ? memory_enter(self, ENGINE_EXCHANGE) : -ENOMEM;

	if (rc == 0 && partition != ENGINE_ANY) {
		memory_leave(self->memory);
		rc = -EINVAL;
	}
	if (rc < 0) {
		free(producer);
		return rc;
	}
	if (key.ptr != NULL)
		producer->key = (struct engine_span){ memcpy(producer + 1, key.ptr, key.len), key.len };
	producer->exchange = self;
	self->refs++;
	memory_leave(self->memory);
	*ret_producer = (struct engine_producer *)producer;
	return 0;
}

void memory_route_producer_close(struct engine_producer *producer)
{
	struct memory_route_producer *self = producer_of(producer);
	struct memory_engine *memory = self->exchange->memory;

	memory_lock_quietly(memory);
	memory_unref(self->exchange);
	memory_leave(memory);
	free(self);
}

/* ---- sharing out ---- */

static int new_share(struct publishing *p, uint64_t target, struct share **ret_share)
{
	struct share *share;

	if (p->count == p->room) {
		share = realloc(p->shares, (p->room * 2 + 4) * sizeof(*share));
		if (share == NULL)
			return -ENOMEM;
		p->shares = share;
		p->room = p->room * 2 + 4;
	}
	share = &p->shares[p->count++];
	*share = (struct share){ .target = memory_find(p->producer->exchange->memory, target), .batch = *p->batch };
	share->data = malloc(p->batch->len);
	share->lengths = malloc(p->batch->count * sizeof(*share->lengths));
	share->props = malloc(p->batch->count * sizeof(*share->props));
	if (share->data == NULL || share->lengths == NULL || share->props == NULL)
		return -ENOMEM;
	share->batch.data = share->data;
	share->batch.lengths = share->lengths;
	share->batch.props = share->props;
	share->batch.len = share->batch.count = 0;
	share->batch.ts_ms = p->ts_ms;
	*ret_share = share;
	return 0;
}

static int add_to(
    struct publishing *p, uint64_t target, const char *data, uint32_t len, const struct engine_props *props)
{
	struct share *share = NULL;
	int rc;

	for (size_t i = 0; i < p->count && share == NULL; i++) {
		if (p->shares[i].target->id == target)
			share = &p->shares[i];
	}
	if (share == NULL) {
		rc = new_share(p, target, &share);
		if (rc < 0)
			return rc;
	}
	memcpy(share->data + share->batch.len, data, (size_t)len + 1);
	share->lengths[share->batch.count] = len;
	share->props[share->batch.count++] = *props;
	share->batch.len += (size_t)len + 1;
	return 0;
}

/* The properties message i is stored with. */
static struct engine_props props_of(const struct publishing *p, uint32_t i)
{
	struct engine_props props = p->batch->props != NULL ? p->batch->props[i] : ENGINE_PROPS_INIT;

	if (props.routing_key.ptr == NULL)
		props.routing_key = p->producer->key;
	if (props.ts_ms < 0)
		props.ts_ms = p->ts_ms;
	props.partition = ENGINE_ANY;
	return props;
}

static int check_routed(const struct memory_object *exchange, const struct routing_match *match, struct engine_span key)
{
	if (match->count > 0 || strcmp(memory_setting(exchange, "mandatory"), "true") != 0)
		return 0;
	if (key.ptr == NULL)
		return engine_explain(-EHOSTUNREACH, "no binding matches a message without routing key");
	return engine_explain(-EHOSTUNREACH, "no binding matches the routing key %.*s", (int)key.len, key.ptr);
}

static int route(struct publishing *p, const char *data, uint32_t len, const struct engine_props *props)
{
	struct memory_object *exchange = p->producer->exchange;
	const struct bindings_world world = memory_world(exchange->memory);
	int rc =
	    bindings_route(&world, exchange->id, props->routing_key, props->headers, props->header_count, &p->match);

	if (rc == 0)
		rc = check_routed(exchange, &p->match, props->routing_key);
	p->routed += p->match.count;
	p->unroutable += p->match.count == 0;
	for (size_t i = 0; i < p->match.count && rc == 0; i++)
		rc = add_to(p, p->match.targets[i], data, len, props);
	return rc;
}

static int share_out(struct publishing *p)
{
	const char *data = p->batch->data;
	size_t left = p->batch->len;
	int rc = 0;

	for (uint32_t i = 0; i < p->batch->count && rc == 0; i++) {
		struct engine_props props = props_of(p, i);
		uint32_t len = 0;

		rc = memory_payload_length(p->batch, i, data, left, &len);
		if (rc == 0)
			rc = route(p, data, len, &props);
		data += len + 1;
		left -= len + 1;
	}
	return rc == 0 && left > 0 ? -EINVAL : rc;
}

/* ---- giving ---- */

static int begin(struct share *share)
{
	int rc = memory_dedup_begin(share->target, &share->batch, &share->pass);

	share->passed = rc == 0;
	if (rc < 0 || share->pass.batch.count == 0)
		return rc;
	rc = share->target->kind == ENGINE_QUEUE
		 ? memory_queue_begin(share->target, &share->pass.batch, false, &share->items)
		 : memory_topic_begin(share->target, &share->pass.batch, false, &share->sending);
	share->begun = rc == 0;
	return rc;
}

static void end(struct share *share, bool take)
{
	if (share->begun && share->target->kind == ENGINE_QUEUE)
		memory_queue_end(share->target, share->items, take);
	else if (share->begun)
		memory_topic_end(share->sending, take);
	if (share->passed)
		memory_dedup_end(share->target, &share->pass, take ? 0 : -ECANCELED);
	free(share->data);
	free(share->lengths);
	free(share->props);
}

static int publish(struct publishing *p)
{
	struct memory_exchange *exchange = p->producer->exchange->exchange;
	int rc = share_out(p);

	for (size_t i = 0; i < p->count && rc == 0; i++)
		rc = begin(&p->shares[i]);
	for (size_t i = 0; i < p->count; i++)
		end(&p->shares[i], rc == 0);
	free(p->shares);
	routing_match_release(&p->match);
	if (rc < 0) {
		exchange->refused += p->batch->count;
		return rc;
	}
	exchange->published += p->batch->count;
	exchange->routed += p->routed;
	exchange->unroutable += p->unroutable;
	return 0;
}

int memory_route_producer_send(struct engine_producer *producer, const struct engine_batch *batch)
{
	struct publishing p = { .producer = producer_of(producer), .batch = batch };
	struct memory_object *exchange = p.producer->exchange;
	int rc = memory_enter(exchange, ENGINE_EXCHANGE);

	if (rc < 0)
		return rc;
	p.ts_ms = batch->ts_ms >= 0 ? batch->ts_ms : clock_wall_ms();
	if (exchange->memory->read_only)
		rc = -EROFS;
	else
		rc = batch->count > 0 ? publish(&p) : -EINVAL;
	memory_leave(exchange->memory);
	return rc;
}

int memory_route_room(struct engine_object *exchange, struct engine_span key, uint64_t bytes)
{
	struct memory_object *self = memory_of(exchange);
	const struct bindings_world world = memory_world(self->memory);
	struct routing_match match = { 0 };
	int rc = memory_enter(self, ENGINE_EXCHANGE);

	if (rc < 0)
		return rc;
	rc = bindings_route(&world, self->id, key, NULL, 0, &match);
	if (rc == 0)
		rc = check_routed(self, &match, key);
	for (size_t i = 0; i < match.count && rc == 0; i++) {
		struct memory_object *target = memory_find(self->memory, match.targets[i]);

		if (target->kind == ENGINE_QUEUE)
			rc = memory_queue_check_room(target, bytes);
	}
	routing_match_release(&match);
	memory_leave(self->memory);
	return rc;
}

int memory_route_producer_sync(struct engine_producer *producer)
{
	struct memory_object *exchange = producer_of(producer)->exchange;
	int rc = memory_enter(exchange, ENGINE_EXCHANGE);

	if (rc == 0)
		memory_leave(exchange->memory);
	return rc;
}
