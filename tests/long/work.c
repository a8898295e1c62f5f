#include "tests/long/work.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const work_targets[TARGETS] = { "t", "u", "r", "s", "q", "l", "dlq" };

void work_must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "%s: %s (%s)\n", what, strerror(errno), engine_reason());
		abort();
	}
}

uint64_t work_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

unsigned work_pick(struct work *w, unsigned count)
{
	w->random = w->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(w->random >> 33) % count;
}

size_t work_now(const struct work *w)
{
	return w->cut != NULL ? powercut_count(w->cut) : 0;
}

void work_over(struct engine_done *done, int result)
{
	struct wait *wait = (struct wait *)done;

	pthread_mutex_lock(&wait->lock);
	wait->over = true;
	wait->result = result;
	pthread_cond_signal(&wait->changed);
	pthread_mutex_unlock(&wait->lock);
}

int work_wait(struct wait *wait, int rc)
{
	if (rc != ENGINE_PENDING)
		return rc;
	pthread_mutex_lock(&wait->lock);
	while (!wait->over)
		pthread_cond_wait(&wait->changed, &wait->lock);
	pthread_mutex_unlock(&wait->lock);
	return wait->result;
}

size_t work_payload(unsigned number, char out[512])
{
	size_t len = (size_t)sprintf(out, "m%u ", number), filler = number * 2654435761u >> 8 & 255;

	for (size_t i = 0; i < filler; i++)
		out[len++] = (char)('a' + (number + i) % 26);
	return len;
}

struct engine_batch work_batch(struct work *w, unsigned count, char *data)
{
	struct engine_batch batch = { .data = data, .count = count, .cred = { 1, 2, 3 }, .ts_ms = -1 };

	for (unsigned i = 0; i < count; i++) {
		batch.len += work_payload(w->next + i, data + batch.len);
		data[batch.len++] = '\n';
	}
	return batch;
}

struct engine_producer *work_producer(struct work *w, enum target target, uint32_t part)
{
	struct engine_producer *p = NULL;

	if (target >= Q)
		OK(w->ops->queue->producer_open(w->targets[target], part, false, &p));
	else
		OK(w->ops->producer_open(w->targets[target], part, (struct engine_span){ NULL, 0 }, &p));
	return p;
}

struct copy *work_find(struct work *w, enum target target, unsigned number)
{
	unsigned at = number < COPIES ? w->of_number[target][number] : 0;

	return at > 0 ? &w->copies[at - 1] : NULL;
}

struct copy *work_add(struct work *w, enum target target, unsigned number)
{
	struct copy *c = &w->copies[w->count];

	work_must(w->count < COPIES && number < COPIES, "too many messages");
	*c = (struct copy){ .target = target,
		.number = number,
		.begin = work_now(w),
		.accepted = NEVER,
		.confirmed = NEVER,
		.moved = NEVER,
		.gone_begin = NEVER,
		.gone_accepted = NEVER,
		.gone = NEVER };
	w->of_number[target][number] = (uint16_t)++w->count;
	return c;
}

void work_accept(struct work *w, size_t first, bool confirmed)
{
	for (size_t i = first; i < w->count; i++) {
		w->copies[i].accepted = work_now(w);
		if (confirmed)
			w->copies[i].confirmed = w->copies[i].accepted;
	}
}

static void set(
    struct work *w, struct engine_object *object, enum engine_kind kind, const char *name, const char *value)
{
	OK(w->ops->set_setting(object, engine_setting_find(kind, name), value));
}

void work_open(struct work *w)
{
	struct engine_options options = { .create = true, .root_owner = { 1, 2, 0755 } };

	OK(engine_open(w->source, &options, &w->engine));
	w->ops = w->engine->ops;
	OK(w->ops->get(w->engine, ENGINE_ROOT_ID, &w->root));
}

static void find_dlq(struct work *w)
{
	OK(w->ops->lookup(w->engine, w->group, ENGINE_QUEUE, work_targets[D], &w->targets[D]));
}

void work_find_objects(struct work *w)
{
	for (int i = 0; i < D; i++)
		OK(w->ops->lookup(
		    w->engine, w->root, i >= Q ? ENGINE_QUEUE : ENGINE_TOPIC, work_targets[i], &w->targets[i]));
	OK(w->ops->lookup(w->engine, w->targets[T], ENGINE_GROUP, "g", &w->group));
	OK(w->ops->lookup(w->engine, w->root, ENGINE_EXCHANGE, "e", &w->exchange));
	find_dlq(w);
	work_find_members(w);
}

void work_put_objects(struct work *w)
{
	work_put_members(w);
	for (int i = 0; i < TARGETS; i++)
		w->ops->put(w->targets[i]);
	w->ops->put(w->group);
	w->ops->put(w->exchange);
	w->ops->put(w->root);
}

void work_close(struct work *w)
{
	work_stage_close(w);
	work_put_objects(w);
	OK(w->ops->close(w->engine));
}

void work_set_up(struct work *w)
{
	static const struct engine_owner owner = { 1, 2, 0755 };

	for (int i = 0; i < D; i++) {
		enum engine_kind kind = i >= Q ? ENGINE_QUEUE : ENGINE_TOPIC;

		OK(w->ops->create(w->engine, w->root, kind, work_targets[i], &owner, &w->targets[i]));
		if (kind == ENGINE_TOPIC)
			set(w, w->targets[i], kind, "segment.bytes", w->segment_bytes);
	}
	set(w, w->targets[T], ENGINE_TOPIC, "partitions", "2");
	set(w, w->targets[S], ENGINE_TOPIC, "linger.ms", "60000");
	set(w, w->targets[L], ENGINE_QUEUE, "linger.ms", "60000");
	set(w, w->targets[R], ENGINE_TOPIC, "retention.bytes", "6000");
	OK(w->ops->create(w->engine, w->targets[T], ENGINE_GROUP, "g", &owner, &w->group));
	find_dlq(w);
	OK(w->ops->create(w->engine, w->root, ENGINE_EXCHANGE, "e", &owner, &w->exchange));
	OK(w->ops->exchange->set_type(w->exchange, ENGINE_FANOUT));
	OK(w->ops->exchange->pattern_add(w->exchange, "all"));
	OK(w->ops->exchange->bind(w->exchange, "all", "u", w->targets[U]));
	OK(w->ops->exchange->bind(w->exchange, "all", "q", w->targets[Q]));
}
