/*
 * work_steps - the steps of a work, see work.h. What a step asks for is written down before it is asked, what it was told after.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/local_internal.h"
#include "tests/long/work.h"

static uint32_t pick_part(struct work *w, enum target target)
{
	static const unsigned parts[TARGETS] = { [T] = 2, [Q] = 3, [L] = 4 };

	return parts[target] > 0 ? work_pick(w, parts[target]) : ENGINE_ANY;
}

static void send_batch(struct work *w, enum target target)
{
	char data[8192];
	unsigned first = w->next, count = 1 + work_pick(w, target == L ? 24 : 5);
	uint32_t part = pick_part(w, target);
	struct engine_batch batch = work_batch(w, count, data);
	struct engine_producer *p;
	struct wait wait = WAIT;
	size_t before = w->count;

	for (unsigned i = 0; i < count; i++)
		work_add(w, target, w->next++);
	if (target == S || (target == L && part != 1)) { /* of L half to the lowest priority */
		work_stage_send(w, target == S ? 0 : part == 2 ? 2 : 1, first, &batch);
	} else {
		p = work_producer(w, target, part);
		OK(work_wait(&wait, w->ops->producer_send(p, &batch, &wait.done)));
		w->ops->producer_close(p);
	}
	work_accept(w, before, false);
}

static void pair_up(struct work *w, unsigned count, enum target queue, bool tx)
{
	for (unsigned i = 0; i < count; i++, w->next++) {
		struct copy *u = work_add(w, U, w->next), *q = work_add(w, queue, w->next);

		u->tx = q->tx = tx;
		u->pair = (unsigned)(q - w->copies) + 1;
		q->pair = (unsigned)(u - w->copies) + 1;
	}
}

static void publish(struct work *w)
{
	struct engine_producer *p = NULL;
	struct wait wait = WAIT;
	char data[4096];
	unsigned count = 1 + work_pick(w, 3);
	struct engine_batch batch = work_batch(w, count, data);
	size_t before = w->count;

	pair_up(w, count, Q, false);
	OK(w->ops->producer_open(w->exchange, ENGINE_ANY, (struct engine_span){ "k", 1 }, &p));
	OK(work_wait(&wait, w->ops->producer_send(p, &batch, &wait.done)));
	w->ops->producer_close(p);
	work_accept(w, before, false);
}

static void transact(struct work *w)
{
	static const struct engine_owner owner = { 1, 2, 0755 };
	struct engine_object *tx = NULL;
	char data[4096], name[32];
	unsigned count = 1 + work_pick(w, 3);
	struct engine_batch batch = work_batch(w, count, data);
	size_t before = w->count;
	enum target queue = w->lingers && work_pick(w, 2) == 0 ? L : Q;

	snprintf(name, sizeof(name), "tx%u", w->next);
	pair_up(w, count, queue, true);
	OK(w->ops->create(w->engine, w->root, ENGINE_TX, name, &owner, &tx));
	for (int i = 0; i < 2; i++) {
		struct engine_producer *p = NULL;

		OK(w->ops->tx->producer_open(
		    tx, w->targets[i == 0 ? U : queue], ENGINE_ANY, false, (struct engine_span){ NULL, 0 }, &p));
		OK(w->ops->producer_send(p, &batch, NULL));
		w->ops->producer_close(p);
	}
	OK(w->ops->tx->commit(tx));
	w->ops->put(tx);
	work_accept(w, before, true);
}

static void confirm(struct work *w, enum target target, size_t before)
{
	for (size_t i = 0; i < w->count; i++) {
		struct copy *c = &w->copies[i];

		if (c->target == target && c->accepted <= before && c->confirmed == NEVER)
			c->confirmed = work_now(w);
	}
}

static void sync_settled(struct work *w, enum target target)
{
	struct wait wait = WAIT;
	size_t before = work_now(w);

	OK(work_wait(&wait, w->ops->queue->settle_sync(w->targets[target], &wait.done)));
	for (size_t i = 0; i < w->count; i++)
		if (w->copies[i].target == target && w->copies[i].gone_begin < before && w->copies[i].gone == NEVER)
			w->copies[i].gone = work_now(w);
}

static void sync_target(struct work *w, enum target target)
{
	struct engine_producer *p = work_producer(w, target, ENGINE_ANY);
	struct wait wait = WAIT;
	size_t before = work_now(w);

	if (target == S && !w->lingers) /* else the sync does it */
		work_stage_take(w);
	OK(work_wait(&wait, w->ops->producer_sync(p, &wait.done)));
	w->ops->producer_close(p);
	confirm(w, target, before);
	if (target >= Q)
		sync_settled(w, target);
}

static void lease(struct work *w, enum target target, bool settles)
{
	struct engine_consumer *consumer = NULL;
	struct engine_view view;

	OK(w->ops->queue->consumer_open(w->targets[target], ENGINE_CONSUME_SNAPSHOT, false, 0, &consumer));
	while (w->ops->consumer_fetch(consumer, 1 + work_pick(w, 3), SIZE_MAX, &w->scratch, &view) == 1 &&
	       work_pick(w, 3) > 0) {
		const char *data = view.batch.data;

		for (unsigned i = 0; i < view.batch.count && settles; i++) {
			struct copy *c = work_find(w, target, (unsigned)strtoul(data + 1, NULL, 10));

			work_must(c != NULL, "a message nobody sent");
			data += view.batch.lengths[i] + 1;
			c->gone_begin = work_now(w);
			OK(w->ops->queue->settle(
			    w->targets[target], ENGINE_ACK, view.deliveries[i].id, view.deliveries[i].id));
			c->gone_accepted = work_now(w);
		}
	}
	w->ops->consumer_close(consumer);
}

static void lease_some(struct work *w, enum target target)
{
	lease(w, target, work_pick(w, 4) > 0);
}

static void sync_group(struct work *w)
{
	work_sync_group(w);
	if (w->has_members)
		sync_settled(w, D);
}

/* All of u, or some of it: what went is found by looking at what is left. */
static void purge(struct work *w)
{
	struct engine_partition_stat stat;
	uint64_t before;
	struct engine_view view;
	unsigned left = UINT32_MAX;
	size_t begin = work_now(w);

	OK(w->ops->partition_stat(w->targets[U], 0, &stat));
	before =
	    stat.earliest + (stat.end > stat.earliest ? work_pick(w, (unsigned)(stat.end - stat.earliest) + 1) : 0);
	if (before < stat.end) {
		OK(w->ops->partition_read(w->targets[U], 0, before, 1, &w->scratch, &view));
		left = (unsigned)strtoul(view.batch.data + 1, NULL, 10);
	}
	for (size_t i = 0; i < w->count; i++) {
		struct copy *c = &w->copies[i];

		if (c->target == U && c->number < left && c->gone_begin == NEVER)
			c->gone_begin = begin;
	}
	OK(w->ops->partition_purge(w->targets[U], 0, before));
	for (size_t i = 0; i < w->count; i++) {
		struct copy *c = &w->copies[i];

		if (c->target == U && c->number < left && c->gone == NEVER)
			c->gone_accepted = c->gone = work_now(w);
	}
}

static void make_topic(struct work *w)
{
	static const struct engine_owner owner = { 1, 2, 0755 };
	struct engine_object *topic = NULL;
	struct name *n = &w->names[w->name_count];
	char name[16];

	if (w->name_count >= NAMES)
		return;
	snprintf(name, sizeof(name), "x%u", w->name_count);
	*n = (struct name){ work_now(w), NEVER, NEVER, NEVER };
	w->name_count++;
	OK(w->ops->create(w->engine, w->root, ENGINE_TOPIC, name, &owner, &topic));
	n->made = work_now(w);
	if (work_pick(w, 2) == 0) {
		n->remove = work_now(w);
		OK(w->ops->remove(topic));
		n->removed = work_now(w);
	}
	w->ops->put(topic);
}

static void reopen(struct work *w)
{
	size_t before = work_now(w);

	work_close(w);
	for (int i = 0; i < TARGETS; i++)
		confirm(w, (enum target)i, before);
	work_confirm_cursors(w, before);
	for (size_t i = 0; i < w->count; i++)
		if (w->copies[i].gone_begin < before && w->copies[i].gone == NEVER)
			w->copies[i].gone = work_now(w);
	work_open(w);
	work_find_objects(w);
}

/* One of those that wait in L, if there is one: it goes to another priority, behind all that is there. */
static void move_one(struct work *w)
{
	struct engine_consumer *consumer = NULL;
	struct engine_place to = { .queue = w->targets[L], .state = ENGINE_READY, .priority = work_pick(w, 5) };
	struct engine_view view;
	struct copy *c;
	uint64_t id;

	OK(w->ops->queue->consumer_open(w->targets[L], ENGINE_CONSUME_SNAPSHOT, false, 0, &consumer));
	if (w->ops->consumer_fetch(consumer, 1, SIZE_MAX, &w->scratch, &view) == 1) {
		id = view.deliveries[0].id;
		c = work_find(w, L, (unsigned)strtoul(view.batch.data + 1, NULL, 10));
		work_must(c != NULL, "a message nobody sent");
		if (c->moved == NEVER)
			c->moved = work_now(w);
		OK(w->ops->queue->message_move(w->targets[L], id, ENGINE_UNACKED, &to));
	}
	w->ops->consumer_close(consumer);
}

/*
 * What was settled is confirmed alone, just after it came: where the log has lost it, the staging file has it still, and it must not come
 * out of that again.
 */
static void settle_new(struct work *w)
{
	send_batch(w, L);
	lease_some(w, L);
	sync_settled(w, L);
}

/* All that is done with L. */
static void queue_step(struct work *w)
{
	struct engine_queue_stat stat;
	unsigned dice = work_pick(w, 24);

	if (dice < 8)
		send_batch(w, L);
	else if (dice < 11)
		lease_some(w, L);
	else if (dice < 14)
		move_one(w);
	else if (dice < 15)
		OK(w->ops->queue->queue_stat(w->targets[L], &stat)); /* takes in */
	else if (dice < 17)
		work_stage_end(w, 1 + dice % 2);
	else if (dice < 18)
		OK(checkpoint_run((struct local *)w->engine));
	else if (dice < 20)
		settle_new(w);
	else
		sync_target(w, dice < 23 ? L : S);
}

static enum target pick_target(struct work *w)
{
	static const enum target targets[] = { T, U, R, Q, S };

	return targets[work_pick(w, w->cut != NULL ? 4 : 5)];
}

void work_step(struct work *w)
{
	unsigned dice = work_pick(w, 100);

	if (w->is_long && dice >= 94 && work_pick(w, 8) > 0)
		dice = 41;
	if (w->lingers && work_pick(w, 5) < 2)
		queue_step(w);
	else if (w->has_members && work_pick(w, 5) < 2)
		work_group_step(w);
	else if (dice < 12)
		send_batch(w, T);
	else if (dice < 22)
		send_batch(w, U);
	else if (dice < 32)
		send_batch(w, dice >= 25 ? S : R);
	else if (dice < 46)
		send_batch(w, Q);
	else if (dice < 53)
		publish(w);
	else if (dice < 57)
		transact(w);
	else if (dice < 71)
		sync_target(w, pick_target(w));
	else if (dice < 81)
		lease_some(w, w->has_members && work_pick(w, 3) == 0 ? D : Q);
	else if (dice < 86)
		w->has_members ? work_group_step(w) : work_move_cursor(w);
	else if (dice < 88)
		sync_group(w);
	else if (dice < 91)
		purge(w);
	else if (dice < 94)
		make_topic(w);
	else if (dice < 98)
		OK(checkpoint_run((struct local *)w->engine));
	else
		reopen(w);
}

/* ---- steps of one kind ---- */

static void send_t(struct work *w)
{
	send_batch(w, T);
}

static void send_r(struct work *w)
{
	send_batch(w, R);
}

static void send_s(struct work *w)
{
	send_batch(w, S);
}

static void send_q(struct work *w)
{
	send_batch(w, Q);
}

static void send_l(struct work *w)
{
	send_batch(w, L);
}

static void settle_all(struct work *w)
{
	lease(w, Q, true);
	lease(w, L, true);
	lease(w, D, true);
}

static void sync_all(struct work *w)
{
	for (int i = 0; i < D; i++)
		sync_target(w, (enum target)i);
	sync_group(w);
}

static void end_staging(struct work *w)
{
	for (unsigned i = 0; i < STAGINGS; i++)
		work_stage_end(w, i);
}

static void checkpoint(struct work *w)
{
	OK(checkpoint_run((struct local *)w->engine));
}

static void (*const kinds[])(struct work *) = { send_t, send_r, send_s, send_q, send_l, publish, transact, settle_all,
	move_one, work_group_ack, work_group_reject, work_change_members, purge, make_topic, end_staging, sync_all,
	checkpoint, reopen };
const unsigned work_kinds = sizeof(kinds) / sizeof(kinds[0]);

void work_step_of(struct work *w, unsigned kind)
{
	kinds[kind](w);
}

void work_fill(struct work *w, unsigned batches)
{
	for (unsigned i = 0; i < batches; i++)
		for (int target = 0; target < D; target++)
			send_batch(w, (enum target)target);
	reopen(w);
}
