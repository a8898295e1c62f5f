/*
 * local_dedup - idempotent producing: a message whose id was seen within dedup.window.ms is accepted and dropped.
 *
 * The table of ids is in memory (dedup.c), and is filled when the first message with an id comes: from the logs, where ids
 * are stored with their messages (plog_ids.c). So nothing has to be written for it, and a crash cannot part the two: an id
 * is remembered if and only if its message is there, or was there and was consumed, purged or deleted since.
 *
 * A send of messages with ids holds send_lock over three steps: what was seen is left out and the rest noted; it is
 * appended; and if that failed, the notes are taken back. So the second of two producers who send the same learns what
 * became of the first. Sends without ids do not come here.
 *
 * What the engine itself produces anew (dead letters, what is redriven) was accepted before and is never dropped; but it counts as
 * seen, as it would when the table is filled from the log.
 *
 * Locks: send_lock above all others but `visible`, of several objects by rising id; lock is a leaf. A transaction takes them in
 * any order, and again and again: no other who holds several runs beside it, see local_tx_together.c. Who holds one wakes nobody
 * (visible_hold), since who is woken may have to wait for a transaction.
 */
#include "engine/local_dedup.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/local_queue.h"
#include "engine/local_visible.h"

void local_dedup_init(struct local_dedup *dedup)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE); /* a transaction may send in several parts */
	pthread_mutex_init(&dedup->send_lock, &attr);
	pthread_mutexattr_destroy(&attr);
	pthread_mutex_init(&dedup->lock, NULL);
}

void local_dedup_release(struct local_dedup *dedup)
{
	dedup_free(dedup->table);
	pthread_mutex_destroy(&dedup->lock);
	pthread_mutex_destroy(&dedup->send_lock);
}

static struct local_dedup *dedup_of(struct object *object)
{
	return object->kind == ENGINE_TOPIC ? &topic_of_object(object)->dedup : &queue_of_object(object)->dedup;
}

static int64_t window_of(const struct object *object)
{
	return setting_value(object, object->kind == ENGINE_TOPIC ? SET_DEDUP_WINDOW : SET_QUEUE_DEDUP_WINDOW);
}

/* ---- filling the table ---- */

/* Calls each for all logs of the object that are open. */
static int each_log(struct object *object, int (*each)(struct plog *plog, void *ctx), void *ctx)
{
	uint32_t count =
	    object->kind == ENGINE_TOPIC ? atomic_load(&topic_of_object(object)->partitions) : ENGINE_PRIORITIES;
	int rc = 0;

	for (uint32_t i = 0; i < count && rc == 0; i++) {
		struct plog *plog = NULL;

		if (object->kind == ENGINE_TOPIC)
			plog = atomic_load(&topic_partition(topic_of_object(object), i)->plog);
		else if (queue_lane(queue_of_object(object), i) != NULL)
			plog = atomic_load(&queue_lane(queue_of_object(object), i)->plog);
		if (plog != NULL)
			rc = each(plog, ctx);
	}
	return rc;
}

struct filling {
	struct object *object;
	struct dedup *table;
	int64_t now_ms, window_ms;
};

static int fill_id(void *ctx, const struct dedup_hash *hash, uint32_t uid, int64_t ts_ms)
{
	struct filling *filling = ctx;

	return dedup_put(filling->table, *hash, uid, ts_ms, filling->now_ms);
}

/* A queue's messages keep their time when they change their priority, so there it does not only rise. */
static int fill_from(struct plog *plog, void *ctx)
{
	struct filling *filling = ctx;

	return plog_each_id(
	    plog, filling->now_ms - filling->window_ms, filling->object->kind == ENGINE_TOPIC, fill_id, filling);
}

/* send_lock */
static int fill(struct object *object, struct local_dedup *dedup, int64_t window_ms)
{
	struct filling filling = { .object = object, .now_ms = clock_wall_ms(), .window_ms = window_ms };
	int rc = 0;

	filling.table = dedup_new(window_ms, &local_of(object)->users);
	if (filling.table == NULL)
		return -ENOMEM;
	if (object->kind == ENGINE_TOPIC)
		rc = topic_open_logs(topic_of_object(object), ENGINE_ANY);
	if (rc == 0)
		rc = each_log(object, fill_from, &filling);
	if (rc < 0) {
		dedup_free(filling.table);
		return rc;
	}
	pthread_mutex_lock(&dedup->lock);
	dedup->table = filling.table;
	pthread_mutex_unlock(&dedup->lock);
	timer_set_earlier(local_of(object), &local_of(object)->dedup_timer, clock_mono_ms() + LOCAL_DEDUP_MS);
	return 0;
}

/* ---- sending ---- */

int local_dedup_begin(struct object *object, const struct engine_batch *batch, struct dedup_send *ret_send)
{
	struct local_dedup *dedup = dedup_of(object);
	int64_t window_ms;
	int rc = 0;

	*ret_send = (struct dedup_send){ .pass = { .batch = *batch } };
	if (window_of(object) == 0 || !dedup_batch_has_ids(batch))
		return 0;
	visible_hold();
	pthread_mutex_lock(&dedup->send_lock);
	window_ms = window_of(object);
	if (window_ms > 0 && dedup->table == NULL)
		rc = fill(object, dedup, window_ms);
	if (window_ms > 0 && rc == 0) {
		pthread_mutex_lock(&dedup->lock);
		rc = dedup_pass_begin(dedup->table, batch, clock_wall_ms(), &ret_send->pass);
		pthread_mutex_unlock(&dedup->lock);
	}
	if (window_ms > 0 && rc == 0) {
		ret_send->dedup = dedup;
		return 0;
	}
	pthread_mutex_unlock(&dedup->send_lock);
	visible_let_go();
	return rc;
}

void local_dedup_failed(struct dedup_send *send)
{
	if (send->dedup == NULL)
		return;
	pthread_mutex_lock(&send->dedup->lock);
	dedup_pass_undo(send->dedup->table, &send->pass);
	pthread_mutex_unlock(&send->dedup->lock);
	send->pass.dropped = 0;
}

void local_dedup_kept(struct dedup_send *send, const struct engine_props *props, uint32_t count)
{
	if (send->dedup == NULL || props == NULL)
		return;
	pthread_mutex_lock(&send->dedup->lock);
	dedup_pass_redo(send->dedup->table, props, count, send->pass.batch.cred.uid, clock_wall_ms());
	pthread_mutex_unlock(&send->dedup->lock);
}

void local_dedup_end(struct dedup_send *send)
{
	if (send->dedup == NULL)
		return;
	atomic_fetch_add(&send->dedup->dropped, send->pass.dropped);
	pthread_mutex_unlock(&send->dedup->send_lock);
	dedup_pass_end(&send->pass);
	send->dedup = NULL;
	visible_let_go();
}

int local_dedup_has(struct object *object, const struct engine_props *props)
{
	const struct engine_batch one = { .data = "\n", .len = 1, .count = 1, .props = props };
	struct dedup_send send;
	int has = local_dedup_begin(object, &one, &send);

	if (has < 0)
		return has;
	has = send.pass.batch.count == 0;
	local_dedup_failed(&send);
	local_dedup_end(&send);
	return has;
}

void local_dedup_note(struct object *object, struct engine_span id, uint32_t uid)
{
	struct local_dedup *dedup = dedup_of(object);

	if (id.ptr == NULL)
		return;
	pthread_mutex_lock(&dedup->lock);
	if (dedup->table != NULL) /* without memory for it, it is known after the next start */
		(void)dedup_note(dedup->table, dedup_hash_of(id), uid, clock_wall_ms());
	pthread_mutex_unlock(&dedup->lock);
}

/* ---- settings, memory ---- */

static int keep_ids(struct plog *plog, void *ctx)
{
	plog_keep_ids(plog, window_of(ctx));
	return 0;
}

void local_dedup_changed(struct object *object)
{
	struct local_dedup *dedup = dedup_of(object);
	struct dedup *table;

	pthread_mutex_lock(&dedup->send_lock);
	each_log(object, keep_ids, object);
	pthread_mutex_lock(&dedup->lock);
	table = dedup->table;
	dedup->table = NULL; /* filled anew: another window has other ids */
	pthread_mutex_unlock(&dedup->lock);
	pthread_mutex_unlock(&dedup->send_lock);
	dedup_free(table);
}

/* Returns whether there is a table left. */
static bool sweep(struct object *object)
{
	struct local_dedup *dedup = dedup_of(object);
	bool left;

	pthread_mutex_lock(&dedup->lock);
	if (dedup->table != NULL)
		dedup_sweep(dedup->table, clock_wall_ms());
	left = dedup->table != NULL;
	pthread_mutex_unlock(&dedup->lock);
	return left;
}

static bool sweep_all(struct local *local, enum engine_kind kind)
{
	struct object *object;
	uint64_t after = 0;
	bool left = false;

	while ((object = registry_next(local, NULL, kind, after)) != NULL) {
		after = object->id;
		left = sweep(object) || left;
		object_put(object);
	}
	return left;
}

void local_dedup_fire(struct local *local)
{
	bool topics = sweep_all(local, ENGINE_TOPIC), queues = sweep_all(local, ENGINE_QUEUE);

	if (topics || queues)
		timer_set_earlier(local, &local->dedup_timer, clock_mono_ms() + LOCAL_DEDUP_MS);
}
