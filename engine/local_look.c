/*
 * local_look - the calls of engine.h that are looks: each runs as it is, between visible_enter and visible_leave.
 *
 * Left out is what neither sees messages, cursors or figures nor changes what a commit has found right: names, owners, settings
 * that are read, producing, syncs, and disarming, which must not wait.
 */
#include "engine/local_exchange.h"
#include "engine/local_member.h"
#include "engine/local_ops.h"
#include "engine/local_queue.h"
#include "engine/local_tx.h"
#include "engine/local_visible.h"

#define LOOK(type, name, where, params, call)                                                                          \
	type name params                                                                                               \
	{                                                                                                              \
		struct local *local = where;                                                                           \
		type rc;                                                                                               \
                                                                                                                       \
		visible_enter(local);                                                                                  \
		rc = call;                                                                                             \
		visible_leave(local);                                                                                  \
		return rc;                                                                                             \
	}

static struct local *of(struct engine_object *object)
{
	return (struct local *)object->engine;
}

static struct local *of_consumer(struct engine_consumer *handle)
{
	const struct consumer *consumer = (struct consumer *)handle;

	if (consumer->of_queue)
		return queue_local(((struct queue_reader *)handle)->queue);
	return local_of(&consumer->group->object);
}

/* ---- struct engine_ops ---- */

/* Who has as many objects as one may have has ended transactions forgotten for it, which is no part of the look. */
int look_create(struct engine *engine, struct engine_object *parent, enum engine_kind kind, const char *name,
    const struct engine_owner *owner, struct engine_object **ret_object)
{
	struct local *local = (struct local *)engine;
	enum engine_keep how = ENGINE_KEEP_IF_ROOM;
	int rc;

	for (;;) {
		visible_enter(local);
		rc = local_create(engine, parent, kind, name, owner, how, ret_object);
		visible_leave(local);
		if (rc == -EUSERS)
			rc = tx_make_room(local, owner->uid, &how);
		else
			return rc;
		if (rc < 0)
			return rc;
	}
}
LOOK(int, look_rename, of(object), (struct engine_object * object, const char *name), local_rename(object, name))
LOOK(int, look_stat, of(object), (struct engine_object * object, struct engine_stat *ret_stat),
    local_stat(object, ret_stat))
LOOK(int, look_set_setting, of(object),
    (struct engine_object * object, const struct engine_setting *setting, const char *value),
    local_set_setting(object, setting, value))
LOOK(int, look_partition_stat, of(topic),
    (struct engine_object * topic, uint32_t partition, struct engine_partition_stat *ret_stat),
    local_partition_stat(topic, partition, ret_stat))
LOOK(int, look_partition_read, of(topic),
    (struct engine_object * topic, uint32_t partition, uint64_t offset, uint32_t max_count,
	struct engine_scratch *scratch, struct engine_view *ret_view),
    local_partition_read(topic, partition, offset, max_count, scratch, ret_view))
LOOK(ssize_t, look_partition_pread, of(topic),
    (struct engine_object * topic, uint32_t partition, uint64_t pos, void *buf, size_t size),
    local_partition_pread(topic, partition, pos, buf, size))
LOOK(int, look_partition_find_time, of(topic),
    (struct engine_object * topic, uint32_t partition, int64_t ts_ms, uint64_t *ret_offset),
    local_partition_find_time(topic, partition, ts_ms, ret_offset))
LOOK(int, look_partition_purge, of(topic), (struct engine_object * topic, uint32_t partition, uint64_t before),
    local_partition_purge(topic, partition, before))
LOOK(int, look_key_find, of(topic), (struct engine_object * topic, struct engine_span key, struct engine_key *ret_key),
    local_key_find(topic, key, ret_key))
LOOK(int, look_key_list, of(topic),
    (struct engine_object * topic, struct engine_span after, bool (*each)(void *ctx, const struct engine_key *key),
	void *ctx),
    local_key_list(topic, after, each, ctx))
LOOK(int, look_consumer_open, of(group),
    (struct engine_object * group, uint32_t partition, enum engine_consume how, struct engine_consumer **ret_consumer),
    local_consumer_open(group, partition, how, ret_consumer))
LOOK(int, look_consumer_fetch, of_consumer(consumer),
    (struct engine_consumer * consumer, uint32_t max_count, size_t max_bytes, struct engine_scratch *scratch,
	struct engine_view *ret_view),
    local_consumer_fetch(consumer, max_count, max_bytes, scratch, ret_view))
LOOK(int, look_consumer_rewind, of_consumer(consumer), (struct engine_consumer * consumer),
    local_consumer_rewind(consumer))
LOOK(int, look_consumer_arm, of_consumer(consumer), (struct engine_consumer * consumer, struct engine_waiter *waiter),
    local_consumer_arm(consumer, waiter))
LOOK(int, look_ack_all, of(group), (struct engine_object * group, uint32_t partition), local_ack_all(group, partition))
LOOK(int, look_ack, of(group), (struct engine_object * group, uint32_t partition, uint64_t offset),
    local_ack(group, partition, offset))
LOOK(int, look_seek, of(group), (struct engine_object * group, uint32_t partition, enum engine_seek how, int64_t value),
    local_seek(group, partition, how, value))
LOOK(int, look_cursor_stat, of(group),
    (struct engine_object * group, uint32_t partition, struct engine_cursor_stat *ret_stat),
    local_cursor_stat(group, partition, ret_stat))

void look_consumer_close(struct engine_consumer *consumer)
{
	struct local *local;

	if (consumer == NULL)
		return;
	local = of_consumer(consumer);
	visible_enter(local);
	local_consumer_close(consumer);
	visible_leave(local);
}

/* A transaction that is open is rolled back before, which takes its lock. */
int look_remove(struct engine_object *object)
{
	struct local *local = of(object);
	int rc = tx_before_removal(object);

	if (rc < 0)
		return rc;
	visible_enter(local);
	queue_catch_up(local); /* it may be empty by that */
	rc = local_remove(object);
	visible_leave(local);
	return rc;
}

/* ---- queues ---- */

static LOOK(int, queue_open_look, of(consumer),
    (struct engine_object * consumer, enum engine_consume how, bool take, uint32_t uid,
	struct engine_consumer **ret_consumer),
    local_queue_ops.consumer_open(consumer, how, take, uid, ret_consumer)) static LOOK(int, queue_session_look,
    of(consumer), (struct engine_object * consumer, struct engine_session **ret_session),
    local_queue_ops.session_open(consumer, ret_session)) static LOOK(int64_t, settle_look, of(consumer),
    (struct engine_object * consumer, enum engine_settle how, uint64_t first, uint64_t last),
    local_queue_ops.settle(consumer, how, first, last)) static LOOK(int64_t, settle_all_look, of(consumer),
    (struct engine_object * consumer, enum engine_settle how),
    local_queue_ops.settle_all(consumer, how)) static LOOK(int, message_stat_look, of(queue),
    (struct engine_object * queue, uint64_t id, struct engine_message_stat *ret_stat),
    local_queue_ops.message_stat(queue, id, ret_stat)) static LOOK(int, message_read_look, of(queue),
    (struct engine_object * queue, uint64_t id, struct engine_scratch *scratch, struct engine_view *ret_view),
    local_queue_ops.message_read(queue, id, scratch, ret_view)) static LOOK(int, message_remove_look, of(queue),
    (struct engine_object * queue, uint64_t id, enum engine_message_state state),
    local_queue_ops.message_remove(queue, id, state)) static LOOK(int, message_move_look, of(queue),
    (struct engine_object * queue, uint64_t id, enum engine_message_state state, const struct engine_place *to),
    local_queue_ops.message_move(queue, id, state, to)) static LOOK(int, message_touch_look, of(queue),
    (struct engine_object * queue, uint64_t id, enum engine_message_state state, int64_t until_ms),
    local_queue_ops.message_touch(queue, id, state, until_ms)) static LOOK(int, message_list_look, of(queue),
    (struct engine_object * queue, enum engine_message_state state, uint32_t priority, struct engine_object *consumer,
	uint64_t cursor[2], bool (*each)(void *ctx, const struct engine_message_stat *stat, const uint64_t next[2]),
	void *ctx),
    local_queue_ops.message_list(queue, state, priority, consumer, cursor, each, ctx)) static LOOK(int, queue_stat_look,
    of(queue), (struct engine_object * queue, struct engine_queue_stat *ret_stat),
    local_queue_ops.queue_stat(queue, ret_stat)) static LOOK(int, purge_look, of(queue), (struct engine_object * queue),
    local_queue_ops.purge(queue)) static LOOK(int64_t, redrive_look, of(dlq),
    (struct engine_object * dlq, uint64_t first, uint64_t last), local_queue_ops.redrive(dlq, first, last))

    static void queue_session_close_look(struct engine_session *session)
{
	struct local *local;

	if (session == NULL)
		return;
	local = queue_local(((struct queue_reader *)session)->queue);
	visible_enter(local);
	local_queue_ops.session_close(session);
	visible_leave(local);
}

const struct engine_queue_ops look_queue_ops = {
	.producer_open = queue_producer_open,
	.consumer_open = queue_open_look,
	.session_open = queue_session_look,
	.session_close = queue_session_close_look,
	.settle = settle_look,
	.settle_all = settle_all_look,
	.message_stat = message_stat_look,
	.message_read = message_read_look,
	.message_remove = message_remove_look,
	.message_move = message_move_look,
	.message_touch = message_touch_look,
	.message_list = message_list_look,
	.queue_stat = queue_stat_look,
	.room = queue_has_room_for,
	.purge = purge_look,
	.redrive = redrive_look,
	.settle_sync = queue_settle_sync,
};

/* ---- members ---- */

static LOOK(int, member_session_look, of(member), (struct engine_object * member, struct engine_session **ret_session),
    local_member_ops.session_open(member, ret_session)) static LOOK(int, reject_look, of(member),
    (struct engine_object * member, uint32_t partition, uint64_t offset),
    local_member_ops.reject(member, partition, offset)) static LOOK(int64_t, reject_all_look, of(member),
    (struct engine_object * member, uint32_t partition),
    local_member_ops.reject_all(member, partition)) static LOOK(int, member_stat_look, of(member),
    (struct engine_object * member, struct engine_member_stat *ret_stat),
    local_member_ops.member_stat(member, ret_stat))

    static void member_session_close_look(struct engine_session *session)
{
	struct local *local;

	if (session == NULL)
		return;
	local = local_of((struct object *)session);
	visible_enter(local);
	local_member_ops.session_close(session);
	visible_leave(local);
}

const struct engine_member_ops look_member_ops = {
	.session_open = member_session_look,
	.session_close = member_session_close_look,
	.reject = reject_look,
	.reject_all = reject_all_look,
	.member_stat = member_stat_look,
};

/* ---- exchanges: what leads where; publishing is none ---- */

static LOOK(int, set_type_look, of(exchange), (struct engine_object * exchange, enum engine_exchange_type type),
    local_exchange_ops.set_type(exchange, type)) static LOOK(int, pattern_add_look, of(exchange),
    (struct engine_object * exchange, const char *pattern),
    local_exchange_ops.pattern_add(exchange, pattern)) static LOOK(int, pattern_remove_look, of(exchange),
    (struct engine_object * exchange, const char *pattern),
    local_exchange_ops.pattern_remove(exchange, pattern)) static LOOK(int, bind_look, of(exchange),
    (struct engine_object * exchange, const char *pattern, const char *name, struct engine_object *target),
    local_exchange_ops.bind(exchange, pattern, name, target)) static LOOK(int, unbind_look, of(exchange),
    (struct engine_object * exchange, const char *pattern, const char *name),
    local_exchange_ops.unbind(exchange, pattern, name)) static LOOK(int, rename_binding_look, of(exchange),
    (struct engine_object * exchange, const char *pattern, const char *name, const char *new_name, bool replace),
    local_exchange_ops.rename(exchange, pattern, name, new_name, replace)) static LOOK(int, get_type_look, of(exchange),
    (struct engine_object * exchange, enum engine_exchange_type *ret_type),
    local_exchange_ops.get_type(exchange, ret_type)) static LOOK(int, binding_look, of(exchange),
    (struct engine_object * exchange, const char *pattern, const char *name, uint64_t *ret_target),
    local_exchange_ops.binding(exchange, pattern, name, ret_target)) static LOOK(int, list_look, of(exchange),
    (struct engine_object * exchange, const char *pattern, const char *after,
	bool (*each)(void *ctx, const char *name, uint64_t target), void *ctx),
    local_exchange_ops.list(exchange, pattern, after, each, ctx)) static LOOK(int, exchange_stat_look, of(exchange),
    (struct engine_object * exchange, struct engine_exchange_stat *ret_stat),
    local_exchange_ops.exchange_stat(exchange, ret_stat))

    /* As producing, it waits for no commit. */
    static int exchange_room(struct engine_object *exchange, uint64_t bytes, const struct engine_props *props)
{
	return local_exchange_ops.room(exchange, bytes, props);
}

const struct engine_exchange_ops look_exchange_ops = {
	.room = exchange_room,
	.get_type = get_type_look,
	.set_type = set_type_look,
	.pattern_add = pattern_add_look,
	.pattern_remove = pattern_remove_look,
	.bind = bind_look,
	.unbind = unbind_look,
	.rename = rename_binding_look,
	.binding = binding_look,
	.list = list_look,
	.exchange_stat = exchange_stat_look,
};
