/*
 * memory - the engine that keeps everything in RAM: the readable reference of engine.h.
 *
 * It does what the contract says in the simplest way that is right: arrays, lists and one mutex for the whole engine. The
 * embedded engine is checked against it by the contract tests, and a mount of "memory:" is good for trying things out. What
 * it holds is gone when it is closed; nothing is limited but by memory.
 *
 * Its code: memory.c (life, references, owners, settings), memory_object.c (creating, finding, removing),
 * memory_partition.c (the messages of a partition and their retention), memory_produce.c, memory_consume.c, memory_cursor.c
 * (acks, seeks), memory_member.c, memory_assign.c and memory_reject.c (members, who has what, and what they reject). Queues are in memory_queue*.c, which begin with
 * memory_queue.h; memory_calls.c tells the two apart.
 */
#ifndef MQFS_MEMORY_H
#define MQFS_MEMORY_H

#include "engine/engine.h"

/* rest: what follows "memory:" in the source; there is nothing to say, so anything is EINVAL. */
int engine_memory_open(const char *rest, const struct engine_options *options, struct engine **ret_engine);

#endif
