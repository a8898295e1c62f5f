/*
 * local_queue_move - one message goes from one lane to another: what mv and dying share.
 */
#ifndef MQFS_LOCAL_QUEUE_MOVE_H
#define MQFS_LOCAL_QUEUE_MOVE_H

#include "engine/local_queue.h"

#define DEATHS_MAX 32u /* entries a message keeps; the oldest go */

/* The deaths of a message, the last first. */
struct death_list {
	struct engine_death list[DEATHS_MAX + 1];
	uint32_t count;
	char name[QUEUE_NAME_MAX];
};

struct lane_move {
	struct lane *from, *to;
	uint64_t offset;
	enum queue_why why;
	const struct engine_view *view; /* of the message */
	uint64_t id;
	const struct death_list *deaths; /* NULL: those it has */
	enum engine_death_reason reason; /* of why DEAD */
	bool forward;                    /* it is to go on through an exchange */
	bool dies;                       /* its own time to live ends with it */
	struct span_set set;             /* READY or UNACKED; place and id follow */
};

/* Those of props, with one more in front (local_queue_dead.c). */
void queue_add_death(
    struct death_list *deaths, const struct engine_props *props, struct queue *queue, enum engine_death_reason reason);
/* Both locks. Returns where it is now; an error: it is where it was. */
int lane_move(const struct lane_move *m, uint64_t *ret_offset);
/* What there is to do for a message that has come so: times to live, waiters. lock of the target */
void lane_move_arrived(struct lane *lane, uint64_t offset, struct wake_list *wake);
/* The priority it can have in this queue. */
uint32_t queue_lower(const struct queue *queue, uint32_t priority);

#endif
