/*
 * memory_tx - transactions: their life, and their commit.
 */
#include "engine/memory_tx.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/clock.h"
#include "engine/memory_exchange.h"
#include "engine/memory_queue.h"

/* ---- life ---- */

static void set_due(struct memory_object *object, int64_t due_mono)
{
	struct memory_engine *memory = object->memory;

	object->tx->due_mono = due_mono;
	if (due_mono < memory->next_tx)
		memory->next_tx = due_mono;
	memory_timer_kick(memory);
}

int memory_tx_init(struct memory_object *object)
{
	const struct engine_users *users = &object->memory->users;
	int rc = memory_timer_start(object->memory);

	if (rc < 0)
		return rc;
	object->tx = calloc(1, sizeof(*object->tx));
	if (object->tx == NULL)
		return -ENOMEM;
	staged_init(&object->tx->staged, -1);
	rc = users->enter != NULL ? users->enter(users->ctx, object->owner.uid, &object->tx->staged.user) : 0;
	if (rc < 0)
		return rc;
	if (users->enter != NULL)
		object->tx->staged.users = users;
	set_due(object, clock_mono_ms() + memory_setting_int(object, "tx.timeout.ms"));
	return 0;
}

static void release(struct memory_tx *tx)
{
	const struct engine_users *users = tx->staged.users;
	void *user = tx->staged.user;

	staged_release(&tx->staged);
	if (users != NULL)
		users->leave(user);
	free(tx->rejects);
	tx->rejects = NULL;
	tx->reject_count = tx->reject_room = 0;
}

void memory_tx_free(struct memory_object *object)
{
	if (object->tx == NULL)
		return;
	release(object->tx);
	free(object->tx);
}

/* The leases that were pinned end when they do. */
static void unpin(struct memory_object *object)
{
	const struct staged *staged = &object->tx->staged;

	for (size_t i = 0; i < staged->settle_count; i++) {
		struct memory_item *item = memory_item_find(object->memory, staged->settles[i].id);

		if (item == NULL || item->pins == 0)
			continue;
		item->pins--;
		memory_note_due(item);
	}
}

static void end(struct memory_object *object, enum engine_tx_state state, enum engine_tx_why why)
{
	object->tx->state = state;
	object->tx->why = why;
	object->tx->ended_ms = clock_wall_ms();
	unpin(object);
	release(object->tx);
	set_due(object, clock_mono_ms() + ENGINE_TX_KEPT_MS);
}

void memory_tx_roll_back(struct memory_object *object)
{
	if (object->tx->state == ENGINE_TX_OPEN)
		end(object, ENGINE_TX_ABORTED, ENGINE_TX_ROLLBACK);
}

void memory_tx_sweep(struct memory_engine *memory)
{
	int64_t mono = clock_mono_ms();

	if (mono < memory->next_tx)
		return;
	memory->next_tx = INT64_MAX;
	for (size_t i = memory->object_count; i-- > 0;) {
		struct memory_object *object = memory->objects[i];

		if (object->tx == NULL)
			continue;
		if (object->tx->due_mono <= mono && object->tx->state != ENGINE_TX_OPEN) {
			memory_detach(object);
			continue;
		}
		if (object->tx->due_mono <= mono)
			end(object, ENGINE_TX_ABORTED, ENGINE_TX_TIMEOUT);
		if (object->tx->due_mono < memory->next_tx)
			memory->next_tx = object->tx->due_mono;
	}
}

bool memory_tx_forget(struct memory_engine *memory, uint32_t uid)
{
	struct memory_object *oldest = NULL;

	for (size_t i = 0; i < memory->object_count; i++) {
		struct memory_object *object = memory->objects[i];

		if (object->tx != NULL && object->tx->state != ENGINE_TX_OPEN && object->kept &&
		    object->keeper == uid && (oldest == NULL || object->tx->ended_ms < oldest->tx->ended_ms))
			oldest = object;
	}
	if (oldest != NULL)
		memory_detach(oldest);
	return oldest != NULL;
}

/* ---- calls ---- */

static int refuse(const struct memory_tx *tx)
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
	default: return engine_explain(-ECANCELED, "the transaction was rolled back");
	}
}

int memory_tx_enter(struct engine_object *tx, struct memory_object **ret_object)
{
	struct memory_object *object = memory_of(tx);
	int rc = memory_enter(object, ENGINE_TX);

	if (rc < 0)
		return rc;
	rc = object->memory->read_only ? -EROFS : refuse(object->tx);
	if (rc < 0)
		memory_leave(object->memory);
	else
		*ret_object = object;
	return rc;
}

static int rollback(struct engine_object *tx)
{
	struct memory_object *object = memory_of(tx);
	int rc = memory_enter(object, ENGINE_TX);

	if (rc < 0)
		return rc;
	if (object->tx->state == ENGINE_TX_COMMITTED)
		rc = refuse(object->tx);
	else
		memory_tx_roll_back(object);
	memory_leave(object->memory);
	return rc;
}

static int tx_stat(struct engine_object *base, struct engine_tx_stat *ret_stat)
{
	struct memory_object *object = memory_of(base);
	int rc = memory_enter(object, ENGINE_TX);
	const struct memory_tx *tx = object->tx;

	if (rc < 0)
		return rc;
	*ret_stat = (struct engine_tx_stat){ .state = tx->state,
		.why = tx->why,
		.messages = tx->staged.messages + tx->reject_count,
		.bytes = tx->staged.message_bytes,
		.settles = tx->staged.settle_count,
		.cursors = tx->staged.cursor_count,
		.due_ms = tx->state == ENGINE_TX_OPEN ? clock_wall_ms() + (tx->due_mono - clock_mono_ms()) : 0,
		.ended_ms = tx->ended_ms };
	memory_leave(object->memory);
	return 0;
}

/* Is something staged for the object, or below it? */
static bool has_staged(const struct memory_tx *tx, const struct memory_object *object)
{
	for (size_t i = 0; i < tx->staged.object_count; i++) {
		const struct memory_object *at = memory_find(object->memory, tx->staged.objects[i].id);

		for (; at != NULL; at = at->parent) {
			if (at == object)
				return true;
		}
	}
	return false;
}

static int list(struct engine_object *tx, struct engine_object *parent, enum engine_kind kind, uint64_t after,
    bool (*each)(void *ctx, const struct engine_dirent *entry), void *ctx)
{
	struct memory_object *object = memory_of(tx);
	struct memory_engine *memory = object->memory;
	int rc = memory_enter(object, ENGINE_TX);
	bool go_on = true;

	if (rc < 0)
		return rc;
	if (memory_of(parent)->removed)
		rc = -EIDRM;
	for (size_t i = 0; rc == 0 && go_on && i < memory->object_count; i++) {
		const struct memory_object *child = memory->objects[i];
		struct engine_dirent entry = { child->id, child->kind, child->name };

		if (child->parent == memory_of(parent) && child->kind == kind && child->id > after &&
		    has_staged(object->tx, child))
			go_on = each(ctx, &entry);
	}
	memory_leave(memory);
	return rc;
}

/* ---- commit ---- */

static struct memory_item *find_settled(struct memory_engine *memory, const struct staged_settle *settle)
{
	struct memory_item *item = memory_item_find(memory, settle->id);

	if (item != NULL && item->queue->id == settle->queue && item->state == ENGINE_UNACKED &&
	    item->consumer->id == settle->consumer && item->delivery == settle->place)
		return item;
	return NULL;
}

static int check(struct memory_object *object)
{
	const struct memory_tx *tx = object->tx;
	int rc = 0;

	for (size_t i = 0; i < tx->staged.settle_count && rc == 0; i++) {
		if (find_settled(object->memory, &tx->staged.settles[i]) == NULL)
			rc = engine_explain(-ESTALE,
			    "message %" PRIu64 " is not leased to its consumer any more, or was settled elsewhere",
			    tx->staged.settles[i].id);
	}
	for (size_t i = 0; i < tx->staged.cursor_count && rc == 0; i++)
		rc = memory_tx_check_cursor(object, &tx->staged.cursors[i]);
	return rc;
}

struct loaded {
	uint8_t *bytes;
	struct packed_batch packed;
};

static int add_send(struct memory_object *object, const struct staged_send *send, struct loaded *loaded,
    struct memory_publishing *publishing)
{
	struct memory_object *target = memory_find(object->memory, send->target);
	int rc =
	    staged_read(&object->tx->staged, send, memory_publishing_time(publishing), &loaded->bytes, &loaded->packed);

	if (rc < 0)
		return rc;
	if (target == NULL)
		return staged_gone(&object->tx->staged, send->target);
	for (uint32_t i = 0; i < loaded->packed.batch.count; i++)
		loaded->packed.props[i].partition = send->partition;
	return memory_publish_add(
	    publishing, target, send->head, (struct engine_span){ NULL, 0 }, &loaded->packed.batch);
}

static void release_loaded(struct loaded *loaded, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (loaded[i].bytes == NULL)
			continue;
		packed_release(&loaded[i].packed);
		free(loaded[i].bytes);
	}
	free(loaded);
}

/* Produces all, or nothing. */
static int send_all(struct memory_object *object)
{
	const struct staged *staged = &object->tx->staged;
	struct memory_publishing *publishing = memory_publishing_new(object->memory, clock_wall_ms());
	struct loaded *loaded = calloc(staged->send_count + 1, sizeof(*loaded));
	int rc = publishing != NULL && loaded != NULL ? 0 : -ENOMEM;

	for (size_t i = 0; i < staged->send_count && rc == 0; i++)
		rc = add_send(object, &staged->sends[i], &loaded[i], publishing);
	if (rc == 0)
		rc = memory_publish_begin(publishing);
	memory_publish_end(publishing, rc == 0);
	if (loaded != NULL)
		release_loaded(loaded, staged->send_count);
	return rc;
}

/* What can no longer fail. */
static void settle_all(struct memory_object *object)
{
	struct memory_engine *memory = object->memory;
	const struct memory_tx *tx = object->tx;

	for (size_t i = 0; i < tx->staged.settle_count; i++) {
		struct memory_item *item = find_settled(memory, &tx->staged.settles[i]);

		if (item != NULL)
			memory_settle_item(item, tx->staged.settles[i].how);
	}
	for (size_t i = 0; i < tx->reject_count; i++) {
		const struct memory_rejected *rejected = &tx->rejects[i];

		memory_reject_one(memory_find(memory, rejected->group), rejected->partition, rejected->offset);
	}
	for (size_t i = 0; i < tx->staged.cursor_count; i++)
		memory_tx_move_cursor(memory, &tx->staged.cursors[i]);
}

static int commit(struct engine_object *tx)
{
	struct memory_object *object = memory_of(tx);
	int rc = memory_enter(object, ENGINE_TX);

	if (rc < 0)
		return rc;
	if (object->tx->state == ENGINE_TX_COMMITTED)
		goto out;
	rc = object->memory->read_only ? -EROFS : refuse(object->tx);
	if (rc < 0)
		goto out;
	rc = check(object);
	if (rc == 0)
		rc = send_all(object);
	if (rc == 0) {
		settle_all(object);
		end(object, ENGINE_TX_COMMITTED, ENGINE_TX_NOT);
	} else if (rc == -ESTALE || rc == -EIDRM) {
		end(object, ENGINE_TX_ABORTED, ENGINE_TX_REFUSED);
	}
out:
	memory_leave(object->memory);
	return rc;
}

const struct engine_tx_ops memory_tx_ops = {
	.producer_open = memory_tx_producer_open,
	.settle = memory_tx_settle,
	.settle_all = memory_tx_settle_all,
	.ack = memory_tx_ack,
	.ack_all = memory_tx_ack_all,
	.reject = memory_tx_reject,
	.reject_all = memory_tx_reject_all,
	.seek = memory_tx_seek,
	.commit = commit,
	.rollback = rollback,
	.tx_stat = tx_stat,
	.list = list,
};
