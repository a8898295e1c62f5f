/*
 * local_ops - the calls of struct engine_ops, by the file of the embedded engine that has them. Their contracts are in
 * engine.h; local.c makes the struct of them.
 */
#ifndef MQFS_LOCAL_OPS_H
#define MQFS_LOCAL_OPS_H

#include "engine/engine.h"

/* local_object.c */
int local_lookup(struct engine *engine, struct engine_object *parent, enum engine_kind kind, const char *name,
    struct engine_object **ret_object);
int local_get(struct engine *engine, uint64_t id, struct engine_object **ret_object);
struct engine_object *local_ref(struct engine_object *base);
void local_put(struct engine_object *base);
int local_list(struct engine *engine, struct engine_object *parent, enum engine_kind kind, uint64_t after,
    bool (*each)(void *ctx, const struct engine_dirent *entry), void *ctx);
int local_identity(struct engine_object *base, struct engine_identity *ret_identity);
/* local_create.c */
/* EUSERS: where how is ENGINE_KEEP_IF_ROOM, the owner has as many objects as one may have. */
int local_create(struct engine *engine, struct engine_object *parent, enum engine_kind kind, const char *name,
    const struct engine_owner *owner, enum engine_keep how, struct engine_object **ret_object);
int local_remove(struct engine_object *base);
int local_rename(struct engine_object *base, const char *name);
/* local_stat.c */
int local_stat(struct engine_object *base, struct engine_stat *ret_stat);
int local_get_owner(struct engine_object *base, const char *node, struct engine_owner *ret_owner);
int local_set_owner(struct engine_object *base, const char *node, const struct engine_owner *owner);
/* local_setting.c */
struct engine_object *local_defaults(struct engine *engine, enum engine_kind kind);
int local_get_setting(
    struct engine_object *base, const struct engine_setting *setting, char ret_value[ENGINE_VALUE_MAX]);
int local_set_setting(struct engine_object *base, const struct engine_setting *setting, const char *value);
/* local_partition.c */
int local_partition_stat(struct engine_object *base, uint32_t index, struct engine_partition_stat *ret_stat);
int local_partition_read(struct engine_object *base, uint32_t index, uint64_t offset, uint32_t max_count,
    struct engine_scratch *scratch, struct engine_view *ret_view);
ssize_t local_partition_pread(struct engine_object *base, uint32_t index, uint64_t pos, void *buf, size_t size);
int local_partition_find_time(struct engine_object *base, uint32_t index, int64_t ts_ms, uint64_t *ret_offset);
int local_partition_purge(struct engine_object *base, uint32_t index, uint64_t before);
/* local_producer.c */
int local_producer_open(
    struct engine_object *base, uint32_t index, struct engine_span key, struct engine_producer **ret_producer);
int local_producer_send(struct engine_producer *handle, const struct engine_batch *batch, struct engine_done *done);
int local_producer_sync(struct engine_producer *handle, struct engine_done *done);
void local_producer_close(struct engine_producer *handle);
/* local_consumer.c */
int local_consumer_open(
    struct engine_object *base, uint32_t index, enum engine_consume how, struct engine_consumer **ret_consumer);
int local_consumer_fetch(struct engine_consumer *handle, uint32_t max_count, size_t max_bytes,
    struct engine_scratch *scratch, struct engine_view *ret_view);
int local_consumer_rewind(struct engine_consumer *handle);
int local_consumer_arm(struct engine_consumer *handle, struct engine_waiter *waiter);
bool local_consumer_disarm(struct engine_consumer *handle, struct engine_waiter *waiter);
void local_consumer_close(struct engine_consumer *handle);
/* local_group.c */
int local_ack_all(struct engine_object *base, uint32_t index);
int local_ack(struct engine_object *base, uint32_t index, uint64_t offset);
int local_seek(struct engine_object *base, uint32_t index, enum engine_seek how, int64_t value);
int local_cursor_stat(struct engine_object *base, uint32_t index, struct engine_cursor_stat *ret_stat);
int local_group_sync(struct engine_object *base, struct engine_done *done);

#endif
