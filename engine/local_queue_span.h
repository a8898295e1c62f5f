/*
 * local_queue_span - what the files that keep spans, lanes and counters share: local_queue_span.c, local_queue_lane.c and
 * local_queue_count.c. All of it with queue.lock, or before other threads know the queue.
 */
#ifndef MQFS_LOCAL_QUEUE_SPAN_H
#define MQFS_LOCAL_QUEUE_SPAN_H

#include "engine/local_queue.h"

#define SPAN_OF(node, member) ((struct span *)((char *)(uintptr_t)(node)-offsetof(struct span, member)))

/* Spare spans, and room for rows that go, for one change. ENOMEM */
int span_reserve(struct lane *lane);
int span_reserve_twice(struct lane *lane);         /* for two changes of its queue, one after the other */
struct span *span_take_spare(struct queue *queue); /* one that was reserved, zeroed */
void span_give_spare(struct queue *queue, struct span *span);
void span_drop_sizes(struct span *span);

/* Adds it to the counters of its queue, or takes it away. */
void span_tally(struct span *span, bool add);
void lane_tally_fresh(struct lane *lane, uint64_t count, uint64_t bytes, bool add); /* messages without a span */

void span_file(struct span *span);     /* by its state, and counts it; span_unfile() undoes that */
void span_uncharge(struct span *span); /* its lease is over */
void span_free(struct span *span);     /* its row goes too, for which there is room */

/* Makes two of a span, the second from its n-th message on. A spare is there. */
struct span *span_split(struct span *span, uint32_t n);
/* The span that is just [first, first + count), which is a part of span. Two spares are there. */
struct span *span_cut_out(struct span *span, uint64_t first, uint32_t count);

#endif
