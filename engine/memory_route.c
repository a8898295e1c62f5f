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
	bool head, passed, begun;
};

/* What came through an exchange, to be counted when it is taken. */
struct counted {
	struct memory_object *exchange;
	uint64_t published, routed, unroutable;
};

struct memory_publishing {
	struct memory_engine *memory;
	int64_t ts_ms;
	struct share *shares;
	size_t count, room;
	struct counted *counted;
	size_t counted_count;
	struct routing_match match;

	/* What is being added: its shares are those from `first` on */
	const struct engine_batch *batch;
	size_t first;
	bool head;
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

static int new_share(struct memory_publishing *p, struct memory_object *target, struct share **ret_share)
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
	*share = (struct share){ .target = target, .batch = *p->batch, .head = p->head };
	share->data = malloc(p->batch->len);
	share->lengths = malloc(p->batch->count * sizeof(*share->lengths));
	share->props = malloc(p->batch->count * sizeof(*share->props));
	if (share->data == NULL || share->lengths == NULL || share->props == NULL)
		return -ENOMEM;
	share->batch.data = share->data;
	share->batch.lengths = share->lengths;
	share->batch.props = share->props;
	share->batch.len = share->batch.count = 0;
	if (share->batch.ts_ms < 0)
		share->batch.ts_ms = p->ts_ms;
	*ret_share = share;
	return 0;
}

static int add_to(struct memory_publishing *p, struct memory_object *target, const char *data, uint32_t len,
    const struct engine_props *props)
{
	struct share *share = NULL;
	int rc;

	for (size_t i = p->first; i < p->count && share == NULL; i++) {
		if (p->shares[i].target == target)
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

static int check_routed(const struct memory_object *exchange, const struct routing_match *match, struct engine_span key)
{
	if (match->count > 0 || strcmp(memory_setting(exchange, "mandatory"), "true") != 0)
		return 0;
	if (key.ptr == NULL)
		return engine_explain(-EHOSTUNREACH,
		    "no binding of the exchange %s matches a message without routing key", exchange->name);
	return engine_explain(-EHOSTUNREACH, "no binding of the exchange %s matches the routing key %.*s",
	    exchange->name, (int)key.len, key.ptr);
}

static int route(struct memory_publishing *p, struct counted *counted, struct engine_span key, const char *data,
    uint32_t len, struct engine_props props)
{
	const struct bindings_world world = memory_world(p->memory);
	int rc;

	if (props.routing_key.ptr == NULL)
		props.routing_key = key;
	if (props.ts_ms < 0)
		props.ts_ms = p->batch->ts_ms >= 0 ? p->batch->ts_ms : p->ts_ms;
	props.partition = ENGINE_ANY;
	rc = bindings_route(
	    &world, counted->exchange->id, props.routing_key, props.headers, props.header_count, &p->match);
	if (rc == 0)
		rc = check_routed(counted->exchange, &p->match, props.routing_key);
	counted->routed += p->match.count;
	counted->unroutable += p->match.count == 0;
	for (size_t i = 0; i < p->match.count && rc == 0; i++)
		rc = add_to(p, memory_find(p->memory, p->match.targets[i]), data, len, &props);
	return rc;
}

/* Each message to the target, or, of an exchange, where it leads. */
static int share_out(
    struct memory_publishing *p, struct memory_object *target, struct counted *counted, struct engine_span key)
{
	const char *data = p->batch->data;
	size_t left = p->batch->len;
	int rc = 0;

	for (uint32_t i = 0; i < p->batch->count && rc == 0; i++) {
		struct engine_props props = p->batch->props != NULL ? p->batch->props[i] : ENGINE_PROPS_INIT;
		uint32_t len = 0;

		rc = memory_payload_length(p->batch, i, data, left, &len);
		if (rc == 0 && counted != NULL)
			rc = route(p, counted, key, data, len, props);
		else if (rc == 0)
			rc = add_to(p, target, data, len, &props);
		data += len + 1;
		left -= len + 1;
	}
	return rc == 0 && left > 0 ? -EINVAL : rc;
}

static int new_counted(struct memory_publishing *p, struct memory_object *exchange, struct counted **ret_counted)
{
	struct counted *grown = realloc(p->counted, (p->counted_count + 1) * sizeof(*grown));

	if (grown == NULL)
		return -ENOMEM;
	p->counted = grown;
	*ret_counted = &grown[p->counted_count++];
	**ret_counted = (struct counted){ .exchange = exchange, .published = p->batch->count };
	return 0;
}

/* ---- giving ---- */

struct memory_publishing *memory_publishing_new(struct memory_engine *memory, int64_t ts_ms)
{
	struct memory_publishing *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	p->memory = memory;
	p->ts_ms = ts_ms;
	return p;
}

int64_t memory_publishing_time(const struct memory_publishing *p)
{
	return p->ts_ms;
}

int memory_publish_add(struct memory_publishing *p, struct memory_object *target, bool head, struct engine_span key,
    const struct engine_batch *batch)
{
	struct counted *counted = NULL;
	int rc = 0;

	p->batch = batch;
	p->head = head;
	p->first = p->count;
	if (target->kind == ENGINE_EXCHANGE)
		rc = new_counted(p, target, &counted);
	return rc == 0 ? share_out(p, target, counted, key) : rc;
}

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

/* Is there room for all that comes to one queue in several shares? */
static int check_room(const struct memory_publishing *p, const struct memory_object *queue)
{
	uint64_t count = 0, bytes = 0;

	for (size_t i = 0; i < p->count; i++) {
		if (p->shares[i].begun && p->shares[i].target == queue)
			memory_queue_weigh(p->shares[i].items, &count, &bytes);
	}
	return memory_queue_check_weight(queue, count, bytes);
}

int memory_publish_begin(struct memory_publishing *p)
{
	int rc = 0;

	for (size_t i = 0; i < p->count && rc == 0; i++)
		rc = begin(&p->shares[i]);
	for (size_t i = 0; i < p->count && rc == 0; i++) {
		if (p->shares[i].begun && p->shares[i].target->kind == ENGINE_QUEUE)
			rc = check_room(p, p->shares[i].target);
	}
	return rc;
}

static void end(struct share *share, bool take)
{
	if (share->begun && share->target->kind == ENGINE_QUEUE)
		memory_queue_end(share->target, share->items, share->head, take);
	else if (share->begun)
		memory_topic_end(share->sending, take);
	if (share->passed)
		memory_dedup_end(share->target, &share->pass, take ? 0 : -ECANCELED);
	free(share->data);
	free(share->lengths);
	free(share->props);
}

static void count(const struct counted *counted, bool take)
{
	struct memory_exchange *exchange = counted->exchange->exchange;

	if (!take) {
		exchange->refused += counted->published;
		return;
	}
	exchange->published += counted->published;
	exchange->routed += counted->routed;
	exchange->unroutable += counted->unroutable;
}

void memory_publish_end(struct memory_publishing *p, bool take)
{
	if (p == NULL)
		return;
	for (size_t i = 0; i < p->count; i++)
		end(&p->shares[i], take);
	for (size_t i = 0; i < p->counted_count; i++)
		count(&p->counted[i], take);
	free(p->shares);
	free(p->counted);
	routing_match_release(&p->match);
	free(p);
}

static int publish(const struct memory_route_producer *producer, const struct engine_batch *batch)
{
	struct memory_publishing *p = memory_publishing_new(producer->exchange->memory, clock_wall_ms());
	int rc = p != NULL ? memory_publish_add(p, producer->exchange, false, producer->key, batch) : -ENOMEM;

	if (rc == 0)
		rc = memory_publish_begin(p);
	memory_publish_end(p, rc == 0);
	return rc;
}

int memory_route_producer_send(struct engine_producer *producer, const struct engine_batch *batch)
{
	struct memory_object *exchange = producer_of(producer)->exchange;
	int rc = memory_enter(exchange, ENGINE_EXCHANGE);

	if (rc < 0)
		return rc;
	if (exchange->memory->read_only)
		rc = -EROFS;
	else
		rc = batch->count > 0 ? publish(producer_of(producer), batch) : -EINVAL;
	memory_leave(exchange->memory);
	return rc;
}

/* What is only looked at is not counted. */
int memory_route_check(struct memory_object *exchange, const struct engine_batch *batch)
{
	struct memory_publishing *p = memory_publishing_new(exchange->memory, clock_wall_ms());
	int rc = p != NULL ? memory_publish_add(p, exchange, false, (struct engine_span){ NULL, 0 }, batch) : -ENOMEM;

	for (size_t i = 0; p != NULL && i < p->count && rc == 0; i++) {
		for (uint32_t m = 0; m < p->shares[i].batch.count && rc == 0; m++)
			rc = memory_check_size(p->shares[i].target, p->shares[i].lengths[m]);
	}
	if (p != NULL)
		p->counted_count = 0;
	memory_publish_end(p, false);
	return rc;
}

int memory_route_room(struct engine_object *exchange, uint64_t bytes, const struct engine_props *props)
{
	struct memory_object *self = memory_of(exchange);
	const struct bindings_world world = memory_world(self->memory);
	struct routing_match match = { 0 };
	int rc = memory_enter(self, ENGINE_EXCHANGE);

	if (rc < 0)
		return rc;
	rc = bindings_route(&world, self->id, props->routing_key, props->headers, props->header_count, &match);
	if (rc == 0)
		rc = check_routed(self, &match, props->routing_key);
	for (size_t i = 0; i < match.count && rc == 0; i++) {
		struct memory_object *target = memory_find(self->memory, match.targets[i]);

		if (target->kind == ENGINE_QUEUE)
			rc = memory_queue_check_room(target, bytes, props);
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
