/*
 * local_dedup - idempotent producing in the embedded engine: which ids a topic or queue has seen. How is said in
 * local_dedup.c.
 */
#ifndef MQFS_LOCAL_DEDUP_H
#define MQFS_LOCAL_DEDUP_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/dedup.h"

struct object;
struct local;

/* Of a topic or queue. */
struct local_dedup {
	pthread_mutex_t
	    send_lock;        /* who sends messages with ids: one at a time, from looking to the end of the append */
	pthread_mutex_t lock; /* a leaf */
	struct dedup *table;  /* NULL: not filled; lock, and made and dropped under send_lock too */
	_Atomic uint64_t dropped; /* messages, since the store was opened */
};

void local_dedup_init(struct local_dedup *dedup);
void local_dedup_release(struct local_dedup *dedup);

/* A batch on its way into the object. */
struct dedup_send {
	struct local_dedup *dedup; /* NULL: nothing has to be noted */
	struct dedup_pass pass;
};

/*
 * Before a send, with no lock but other objects' send_locks of lower ids held: leaves what was seen before out of the batch;
 * pass.batch is what is to be sent (count 0: nothing is). May read the logs. EDQUOT, ENOMEM, EINVAL: nothing is to be sent.
 * Otherwise local_dedup_end() follows.
 */
int local_dedup_begin(struct object *object, const struct engine_batch *batch, struct dedup_send *ret_send);
/* The send failed, and all ids of the batch are forgotten, except those of parts that local_dedup_kept() then names. */
void local_dedup_failed(struct dedup_send *send);
void local_dedup_kept(struct dedup_send *send, const struct engine_props *props, uint32_t count);
void local_dedup_end(struct dedup_send *send);

/* Would a message with these properties be dropped now? 1, 0, or what local_dedup_begin() could not do. */
int local_dedup_has(struct object *object, const struct engine_props *props);
/* A message of uid with this id came by another way than a send. */
void local_dedup_note(struct object *object, struct engine_span id, uint32_t uid);
/* The setting was changed, or a log was opened or made. */
void local_dedup_changed(struct object *object);
/* What is over gives its memory back; a timer's. */
void local_dedup_fire(struct local *local);

#endif
