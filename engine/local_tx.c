/*
 * local_tx - the life of a transaction: it is made, its time runs, it ends, and what came of it is kept for a day.
 *
 * The catalog has a row for each that ended: 1 state, 1 why, 6 zero, 8 Unix time of the end. It is written by checkpoints; until
 * then the journal knows of commits, and what it does not know of was not committed.
 */
#include "engine/local_tx.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/bytes.h"
#include "engine/clock.h"
#include "engine/local_exchange.h"

#define ROW_BYTES 16u

static void fire(struct timer *timer);

struct tx *tx_new(struct local *local, uint64_t id)
{
	struct tx *tx = calloc(1, sizeof(*tx));

	if (tx == NULL)
		return NULL;
	object_init(local, &tx->object, ENGINE_TX, id, local->root);
	pthread_mutex_init(&tx->lock, NULL);
	staged_init(&tx->staged, local->store.dirfd);
	if (settings_init(&tx->object, local->defaults[ENGINE_TX]) < 0 ||
	    timer_init(local, &tx->timer, fire, &tx->object) < 0) {
		tx_free(tx);
		return NULL;
	}
	tx->due_ms = clock_mono_ms() + setting_value(&tx->object, SET_TX_TIMEOUT);
	timer_set(local, &tx->timer, tx->due_ms);
	return tx;
}

int tx_charge(struct tx *tx, uint32_t uid)
{
	const struct engine_users *users = &local_of(&tx->object)->users;
	int rc = users->enter != NULL ? users->enter(users->ctx, uid, &tx->staged.user) : 0;

	if (rc == 0 && users->enter != NULL)
		tx->staged.users = users;
	return rc;
}

/* What is staged goes, and whoever was charged for it is not any more. */
static void release_staged(struct tx *tx)
{
	const struct engine_users *users = tx->staged.users;
	void *user = tx->staged.user;

	staged_release(&tx->staged);
	if (users != NULL)
		users->leave(user);
}

void tx_free(struct tx *tx)
{
	timer_release(local_of(&tx->object), &tx->timer);
	tx_ended_drop(tx);
	release_staged(tx);
	pthread_mutex_destroy(&tx->lock);
	object_release(&tx->object);
}

/* lock */
static void keep(struct tx *tx)
{
	int64_t left_ms = tx->ended_ms + ENGINE_TX_KEPT_MS - clock_wall_ms();

	left_ms = left_ms < 0 ? 0 : left_ms > ENGINE_TX_KEPT_MS ? ENGINE_TX_KEPT_MS : left_ms;
	tx->due_ms = clock_mono_ms() + left_ms;
	timer_set(local_of(&tx->object), &tx->timer, tx->due_ms);
}

/* ---- ending ---- */

void tx_end(struct tx *tx, enum engine_tx_state state, enum engine_tx_why why)
{
	tx->state = state;
	tx->why = why;
	tx->ended_ms = clock_wall_ms();
	tx->dirty = true;
	tx_unpin(tx);
	queue_catch_up(local_of(&tx->object)); /* a lease may be over that was pinned */
	release_staged(tx);
	keep(tx);
	tx_ended_add(tx);
}

/* What is over its time is aborted, whether the timer has come to it or not; in a store that is only read none is open. lock */
static void look_at_clock(struct tx *tx)
{
	if (tx->state == ENGINE_TX_OPEN && tx->due_ms <= clock_mono_ms())
		tx_end(tx, ENGINE_TX_ABORTED, ENGINE_TX_TIMEOUT);
}

static void fire(struct timer *timer)
{
	struct tx *tx = (struct tx *)((char *)timer - offsetof(struct tx, timer));
	bool over;

	pthread_mutex_lock(&tx->lock);
	look_at_clock(tx);
	over = tx->due_ms <= clock_mono_ms(); /* not if it was aborted just now */
	pthread_mutex_unlock(&tx->lock);
	if (over)
		look_remove(&tx->object.base);
}

int tx_refuse(const struct tx *tx)
{
	if (tx->state == ENGINE_TX_OPEN)
		return 0;
	if (tx->state == ENGINE_TX_COMMITTED)
		return engine_explain(-EALREADY, "the transaction is committed");
	switch (tx->why) {
	case ENGINE_TX_TIMEOUT:
		return engine_explain(
		    -ETIMEDOUT, "the transaction was open for longer than tx.timeout.ms and is aborted");
	case ENGINE_TX_REFUSED: return engine_explain(-ECANCELED, "the transaction was aborted, as its commit failed");
	case ENGINE_TX_RESTART:
		return engine_explain(-ECANCELED, "the transaction was open when the daemon ended, and is aborted");
	default: return engine_explain(-ECANCELED, "the transaction was rolled back");
	}
}

/* ---- beginning a call ---- */

int tx_enter(struct engine_object *base, struct tx **ret_tx)
{
	struct object *object = NULL;
	int rc = object_enter(base, ENGINE_TX, &object);

	if (rc < 0)
		return rc;
	*ret_tx = tx_of_object(object);
	pthread_mutex_lock(&(*ret_tx)->lock);
	look_at_clock(*ret_tx);
	return 0;
}

int tx_enter_open(struct engine_object *base, struct tx **ret_tx)
{
	struct tx *tx = NULL;
	int rc = tx_enter(base, &tx);

	if (rc < 0)
		return rc;
	rc =
	    local_of(&tx->object)->read_only ? engine_explain(-EROFS, "the store is mounted read-only") : tx_refuse(tx);
	if (rc < 0) {
		pthread_mutex_unlock(&tx->lock);
		return rc;
	}
	visible_enter(local_of(&tx->object));
	*ret_tx = tx;
	return 0;
}

void tx_leave_open(struct tx *tx)
{
	visible_leave(local_of(&tx->object));
	pthread_mutex_unlock(&tx->lock);
}

void tx_name(struct tx *tx, uint64_t id, struct object *object)
{
	char name[ENGINE_NAME_MAX + 1];

	if (!staged_wants_name(&tx->staged, id))
		return;
	object_name(object, name);
	staged_name(&tx->staged, id, object->kind, name);
}

int tx_before_removal(struct engine_object *base)
{
	struct object *object = object_of(base);
	struct tx *tx = tx_of_object(object);

	if (object->kind != ENGINE_TX || object->is_defaults)
		return 0;
	pthread_mutex_lock(&tx->lock);
	if (tx->state == ENGINE_TX_OPEN)
		tx_end(tx, ENGINE_TX_ABORTED, ENGINE_TX_ROLLBACK);
	pthread_mutex_unlock(&tx->lock);
	return 0;
}

static int rollback(struct engine_object *base)
{
	struct tx *tx = NULL;
	int rc = tx_enter(base, &tx);

	if (rc < 0)
		return rc;
	if (tx->uncertain)
		rc = engine_explain(-EIO, "the sync of its commit failed; what came of it shows after the next start");
	else if (local_of(&tx->object)->read_only)
		rc = -EROFS;
	else if (tx->state == ENGINE_TX_COMMITTED)
		rc = tx_refuse(tx);
	else if (tx->state == ENGINE_TX_OPEN)
		tx_end(tx, ENGINE_TX_ABORTED, ENGINE_TX_ROLLBACK);
	pthread_mutex_unlock(&tx->lock);
	return rc;
}

/* ---- over restarts ---- */

static int load_row(void *ctx, const struct catalog_queue_row *row)
{
	struct tx *tx = ctx;

	if (row->what != CATALOG_OF_QUEUE || row->len != ROW_BYTES)
		return 0;
	tx->state = row->value[0] == ENGINE_TX_COMMITTED ? ENGINE_TX_COMMITTED : ENGINE_TX_ABORTED;
	tx->why = row->value[1] <= ENGINE_TX_RESTART ? (enum engine_tx_why)row->value[1] : ENGINE_TX_RESTART;
	tx->ended_ms = (int64_t)bytes_get64(row->value + 8);
	tx->dirty = false;
	return 0;
}

int tx_load(struct tx *tx)
{
	int rc;

	tx->state = ENGINE_TX_ABORTED;
	tx->why = ENGINE_TX_RESTART;
	tx->ended_ms = clock_wall_ms();
	tx->dirty = true;
	tx->due_ms = INT64_MAX;
	rc = catalog_each_queue_row(local_of(&tx->object)->catalog, tx->object.id, load_row, tx);
	if (!local_of(&tx->object)->read_only) {
		keep(tx);
		tx_ended_add(tx);
	}
	return rc;
}

/* Its row, if the catalog needs one. */
static bool make_row(struct tx *tx, struct catalog_queue_row *row)
{
	bool dirty;

	pthread_mutex_lock(&tx->lock);
	dirty = tx->dirty;
	*row = (struct catalog_queue_row){ .queue_id = tx->object.id, .what = CATALOG_OF_QUEUE, .len = ROW_BYTES };
	row->value[0] = (uint8_t)tx->state;
	row->value[1] = (uint8_t)tx->why;
	bytes_put64(row->value + 8, (uint64_t)tx->ended_ms);
	tx->dirty = false;
	pthread_mutex_unlock(&tx->lock);
	return dirty;
}

static void mark_again(struct local *local, const struct catalog_queue_row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct object *object = registry_get(local, rows[i].queue_id);

		if (object == NULL)
			continue;
		pthread_mutex_lock(&tx_of_object(object)->lock);
		tx_of_object(object)->dirty = true;
		pthread_mutex_unlock(&tx_of_object(object)->lock);
		object_put(object);
	}
}

static int reserve_row(struct catalog_queue_row **rows, size_t count, size_t *room)
{
	struct catalog_queue_row *grown;

	if (count < *room)
		return 0;
	grown = realloc(*rows, (*room * 2 + 16) * sizeof(*grown));
	if (grown == NULL)
		return -ENOMEM;
	*rows = grown;
	*room = *room * 2 + 16;
	return 0;
}

int tx_checkpoint(struct local *local)
{
	struct catalog_queue_row *rows = NULL;
	size_t count = 0, room = 0;
	struct object *object;
	bool again = false;
	uint64_t after = 0;
	int rc = 0;

	while (rc == 0 && (object = registry_next(local, NULL, ENGINE_TX, after)) != NULL) {
		after = object->id;
		rc = reserve_row(&rows, count, &room);
		if (rc == 0)
			count += make_row(tx_of_object(object), &rows[count]);
		object_put(object);
	}
	if (rc == 0 && count > 0) {
		do
			rc = catalog_put_queue_rows(local->catalog, rows, count, 0);
		while (reserve_again(local, rc, &again));
	}
	if (rc < 0)
		mark_again(local, rows, count);
	free(rows);
	return rc;
}

/* ---- asking ---- */

static int tx_stat(struct engine_object *base, struct engine_tx_stat *ret_stat)
{
	struct tx *tx = NULL;
	int rc = tx_enter(base, &tx);

	if (rc < 0)
		return rc;
	*ret_stat = (struct engine_tx_stat){ .state = tx->state,
		.why = tx->why,
		.messages = tx->staged.messages,
		.bytes = tx->staged.message_bytes,
		.settles = tx->staged.settle_count,
		.cursors = tx->staged.cursor_count,
		.due_ms = tx->state == ENGINE_TX_OPEN ? clock_wall_ms() + (tx->due_ms - clock_mono_ms()) : 0,
		.ended_ms = tx->ended_ms };
	if (tx->uncertain)
		rc = engine_explain(-EIO, "the sync of its commit failed; what came of it shows after the next start");
	pthread_mutex_unlock(&tx->lock);
	return rc;
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* The object of a kind right below parent that has the object with this id, or is it. 0: it has none. */
static uint64_t child_with(struct local *local, const struct object *parent, enum engine_kind kind, uint64_t id)
{
	struct object *object = registry_get(local, id);
	uint64_t child = 0;

	for (struct object *at = object; at != NULL && child == 0; at = at->parent)
		child = at->parent == parent && at->kind == kind ? at->id : 0;
	object_put(object);
	return child;
}

/* lock */
static int list_staged(
    struct tx *tx, const struct object *parent, enum engine_kind kind, uint64_t **ret_ids, size_t *ret_count)
{
	const struct staged *staged = &tx->staged;
	uint64_t *ids = calloc(staged->object_count + 1, sizeof(*ids));
	size_t count = 0, kept = 0;

	if (ids == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < staged->object_count; i++) {
		ids[count] = child_with(local_of(parent), parent, kind, staged->objects[i].id);
		count += ids[count] != 0;
	}
	if (count > 0)
		qsort(ids, count, sizeof(*ids), by_number);
	for (size_t i = 0; i < count; i++) {
		if (kept == 0 || ids[kept - 1] != ids[i])
			ids[kept++] = ids[i];
	}
	*ret_ids = ids;
	*ret_count = kept;
	return 0;
}

static int list(struct engine_object *base, struct engine_object *parent, enum engine_kind kind, uint64_t after,
    bool (*each)(void *ctx, const struct engine_dirent *entry), void *ctx)
{
	struct object *above = NULL, *object;
	char name[ENGINE_NAME_MAX + 1];
	uint64_t *ids = NULL;
	struct tx *tx = NULL;
	bool go_on = true;
	size_t count = 0;
	int rc = object_enter_any(parent, &above);

	if (rc == 0)
		rc = tx_enter(base, &tx);
	if (rc < 0)
		return rc;
	rc = list_staged(tx, above, kind, &ids, &count);
	pthread_mutex_unlock(&tx->lock);
	for (size_t i = 0; i < count && go_on; i++) {
		object = ids[i] > after ? registry_get(local_of(above), ids[i]) : NULL;
		if (object == NULL)
			continue;
		object_name(object, name);
		go_on = each(ctx, &(struct engine_dirent){ ids[i], kind, name });
		object_put(object);
	}
	free(ids);
	return rc;
}

const struct engine_tx_ops local_tx_ops = {
	.producer_open = tx_producer_open,
	.settle = tx_settle,
	.settle_all = tx_settle_all,
	.ack = tx_ack,
	.ack_all = tx_ack_all,
	.reject = tx_reject,
	.reject_all = tx_reject_all,
	.seek = tx_seek,
	.commit = tx_commit,
	.rollback = rollback,
	.tx_stat = tx_stat,
	.list = list,
};
