/*
 * local_queue_send - a batch on its way into a queue: what local_queue_produce.c and local_queue_append.c share, and what
 * local_queue_room.c has for them.
 */
#ifndef MQFS_LOCAL_QUEUE_SEND_H
#define MQFS_LOCAL_QUEUE_SEND_H

#include "engine/local_queue.h"

struct queue_producer {
	enum engine_kind of; /* first, as in struct producer: ENGINE_QUEUE */
	struct queue *queue; /* a reference */
	uint32_t priority;   /* or ENGINE_ANY */
	bool head;
	bool again; /* it was accepted before: its ids are not looked at, and no limit refuses it */
};

struct sending {
	struct queue_producer *producer;
	struct queue *queue;
	struct engine_batch batch;       /* with its time resolved */
	uint32_t *lengths;               /* of all payloads */
	struct queue *target;            /* reject-publish-dlx: where what is too much goes */
	bool refuses, kills;             /* overflow is not drop-head; and it is reject-publish-dlx */
	const struct queue_claim *claim; /* it was claimed: the room is there; or NULL */
	const uint32_t *places;          /* the lanes of all messages, if they are chosen; or NULL */
	const struct append_note *note;  /* it is taken in: one run, to the lane of producer.priority; or NULL */
	bool lent;                       /* the reserve is */
	bool begun;                      /* note.begin was called */
	bool claim_ended;
	uint64_t next_id;
	uint64_t ready; /* messages that are READY now, for waiters */
	uint32_t done;  /* messages that are in the log, whatever becomes of the rest */
	struct wake_list wake;
};

/* ---- local_queue_produce.c ---- */

/* As queue_enter(), but who comes to produce asks for nothing that lingers. */
int queue_enter_to_produce(struct engine_object *base, struct queue **ret_queue);

/* ---- local_queue_append.c ---- */

/* Of message i: its lane; when it may be delivered; is that later; is it an exception from the start? */
uint32_t sending_priority(const struct sending *s, uint32_t i);
int64_t sending_ready_at(const struct sending *s, uint32_t i);
bool sending_is_delayed(const struct sending *s, uint32_t i);
bool sending_is_special(const struct sending *s, uint32_t i);
/* Appends all of the batch, or nothing, or what a claim takes a part of. lock, of the target too */
int sending_append(struct sending *s);

/* ---- local_queue_room.c ---- */

/* Has the queue room for so much more? lock */
bool queue_has_room(const struct queue *queue, uint64_t count, uint64_t bytes);
int queue_explain_full(struct queue *queue);                                /* EDQUOT; lock */
void queue_end_claim(struct queue *queue, const struct queue_claim *claim); /* lock */

#endif
