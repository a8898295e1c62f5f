/*
 * local_wait - consumers of the embedded engine that wait for messages. How it works is said in local_wait.c.
 */
#ifndef MQFS_LOCAL_WAIT_H
#define MQFS_LOCAL_WAIT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct consumer;
struct engine_waiter;
struct group;
struct topic;

/* Armed waiters of consumers. A producer looks at count only. */
struct wait_list {
	pthread_mutex_t lock;
	struct engine_waiter *head; /* lock */
	_Atomic uint32_t count;     /* written under lock */
};

void wait_list_init(struct wait_list *list);
void wait_list_release(struct wait_list *list);
void wait_list_add(struct wait_list *list, struct engine_waiter *waiter, struct consumer *consumer);
bool wait_list_remove(struct wait_list *list, struct engine_waiter *waiter); /* false: it is being woken */
/* Wakes those of one group (NULL: of all groups) that partition (ENGINE_ANY: any) concerns. No lock may be held. */
void wait_list_wake(struct wait_list *list, const struct group *group, uint32_t partition);
/* All lists of a topic. */
void topic_wake(struct topic *topic, const struct group *group);
bool topic_is_awaited(struct topic *topic); /* does anybody wait for a message of it? */

#endif
