/*
 * local_visible - the moment in which a transaction happens.
 *
 * Every call that reads, settles, seeks, assigns or removes, and every timer that does, is a look: it runs between visible_enter
 * and visible_leave. A commit runs between visible_begin and visible_end, alone: so no look sees a part of it, and what it found
 * right stays right until it is done. Producing is no look: what it adds is seen by looks only.
 *
 * It is the first lock there is: who holds any other of the engine (but tx.lock) holds this one already, or never takes it.
 * Looks nest in a thread; a commit that waits goes before looks that come after it. Waiters that would be woken by a look or a commit
 * are kept back until it is over: they may have locks of their own, whose holder waits to look.
 */
#ifndef MQFS_LOCAL_VISIBLE_H
#define MQFS_LOCAL_VISIBLE_H

#include <stdbool.h>

#include "engine/engine.h"

struct local;

void visible_init(struct local *local);
void visible_release(struct local *local);

void visible_enter(struct local *local);
void visible_leave(struct local *local);
bool visible_try_enter(struct local *local); /* false: a commit runs, or waits to */

void visible_begin(struct local *local); /* not within a look */
void visible_end(struct local *local);   /* wakes who was kept back */
/* From here on waiters are kept back in this thread, until as many visible_let_go, which wakes them. They nest. */
void visible_hold(void);
void visible_let_go(void);
bool visible_keeps(struct engine_waiter *waiter); /* true: it is kept back, and will be woken */

/* ---- local_look.c: the calls of engine.h that are looks ---- */

extern const struct engine_queue_ops look_queue_ops;
extern const struct engine_member_ops look_member_ops;
extern const struct engine_exchange_ops look_exchange_ops;
int look_create(struct engine *engine, struct engine_object *parent, enum engine_kind kind, const char *name,
    const struct engine_owner *owner, struct engine_object **ret_object);
int look_remove(struct engine_object *object);
int look_rename(struct engine_object *object, const char *name);
int look_stat(struct engine_object *object, struct engine_stat *ret_stat);
int look_set_setting(struct engine_object *object, const struct engine_setting *setting, const char *value);
int look_partition_stat(struct engine_object *topic, uint32_t partition, struct engine_partition_stat *ret_stat);
int look_key_find(struct engine_object *topic, struct engine_span key, struct engine_key *ret_key);
int look_key_list(struct engine_object *topic, struct engine_span after,
    bool (*each)(void *ctx, const struct engine_key *key), void *ctx);
int look_partition_read(struct engine_object *topic, uint32_t partition, uint64_t offset, uint32_t max_count,
    struct engine_scratch *scratch, struct engine_view *ret_view);
ssize_t look_partition_pread(struct engine_object *topic, uint32_t partition, uint64_t pos, void *buf, size_t size);
int look_partition_find_time(struct engine_object *topic, uint32_t partition, int64_t ts_ms, uint64_t *ret_offset);
int look_partition_purge(struct engine_object *topic, uint32_t partition, uint64_t before);
int look_consumer_open(
    struct engine_object *group, uint32_t partition, enum engine_consume how, struct engine_consumer **ret_consumer);
int look_consumer_fetch(struct engine_consumer *consumer, uint32_t max_count, size_t max_bytes,
    struct engine_scratch *scratch, struct engine_view *ret_view);
int look_consumer_rewind(struct engine_consumer *consumer);
int look_consumer_arm(struct engine_consumer *consumer, struct engine_waiter *waiter);
void look_consumer_close(struct engine_consumer *consumer);
int look_ack_all(struct engine_object *group, uint32_t partition);
int look_ack(struct engine_object *group, uint32_t partition, uint64_t offset);
int look_seek(struct engine_object *group, uint32_t partition, enum engine_seek how, int64_t value);
int look_cursor_stat(struct engine_object *group, uint32_t partition, struct engine_cursor_stat *ret_stat);

#endif
