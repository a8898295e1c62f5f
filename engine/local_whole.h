/*
 * local_whole - a batch that goes to several logs of one topic or queue: to all of them or to none.
 */
#ifndef MQFS_LOCAL_WHOLE_H
#define MQFS_LOCAL_WHOLE_H

#include "engine/local_internal.h"

/*
 * As a producer_send of all its messages. partitions: of each message, of a topic; NULL: a queue. key: of those that have
 * none. priority: of all, whatever their own is, or ENGINE_ANY. No lock.
 */
int whole_send(struct object *object, uint32_t priority, bool head, const struct engine_batch *batch,
    struct engine_span key, const uint32_t *partitions);

/* Lengths of the payloads, given or not. EINVAL: the batch contradicts itself. */
int batch_find_lengths(const struct engine_batch *batch, uint32_t *lengths);

#endif
