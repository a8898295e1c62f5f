/*
 * local - the embedded engine: partition logs, a catalog and a journal in one directory. The default engine.
 *
 * What it promises is engine.h; how the directory looks is store.h, plog.h, catalog.h and journal.h. In short: a
 * message is in the page cache of its segment when producer_send returns; a cursor is in that of the journal when ack
 * returns; names, owners and settings are on disk when their call returns. Two threads sync what asked for it, one
 * keeps time.
 *
 * Its code, in reading order: local_internal.h (the objects, their locks and the order of these), local.c (life),
 * local_load.c and local_orphan.c (the start), local_object.c (the registry), local_create.c, local_setting.c,
 * local_topic.c and local_partition.c, local_stat.c, local_producer.c, local_group.c (cursors), local_ack.c,
 * local_assign.c (which stream has which partition), local_consumer.c, local_wait.c, local_flush.c, local_timer.c,
 * local_upkeep.c (what happens by itself), local_warm.c (descriptors), local_checkpoint.c and local_reserve.c (a full disk).
 */
#ifndef MQFS_LOCAL_H
#define MQFS_LOCAL_H

#include "engine/engine.h"

/* As engine_open(); path is the store's directory. Raises RLIMIT_NOFILE to what the process may have. */
int engine_local_open(const char *path, const struct engine_options *options, struct engine **ret_engine);

#endif
