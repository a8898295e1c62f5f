/*
 * local_wait - consumers that wait for messages, and who wakes them.
 *
 * A consumer of one partition waits in the list of that partition, one of all partitions in the list of the topic, so
 * that a producer has two counters to look at, and takes no lock while both are zero. Nothing is missed for that: a
 * consumer counts itself first and looks for messages then; a producer appends first and looks at the counter then.
 * One of the two sees the other.
 *
 * Waking takes the waiters that are meant out of the list, under its lock, and calls them without it. From being taken
 * on a waiter cannot be disarmed any more (its engine_link is NULL), which is what consumer_disarm() answers.
 *
 * A waiter in a list keeps its consumer in engine_private. It is read under the list's lock only, before the
 * waiter is taken: afterwards the consumer may be closed.
 */
#include <stddef.h>

#include "engine/local_internal.h"
#include "engine/local_visible.h"

void wait_list_init(struct wait_list *list)
{
	pthread_mutex_init(&list->lock, NULL);
}

void wait_list_release(struct wait_list *list)
{
	pthread_mutex_destroy(&list->lock);
}

#ifdef MQFS_DEBUG
#include <assert.h>

static void check_invariants(struct wait_list *list)
{
	uint32_t count = 0;

	for (struct engine_waiter *w = list->head; w != NULL; w = w->engine_next) {
		assert(*w->engine_link == w);
		assert(((struct consumer *)w->engine_private)->waiters == list);
		count++;
	}
	assert(count == atomic_load(&list->count));
}
#else
static void check_invariants(struct wait_list *list)
{
	(void)list;
}
#endif

/* lock */
static void unlink_waiter(struct wait_list *list, struct engine_waiter *waiter)
{
	*waiter->engine_link = waiter->engine_next;
	if (waiter->engine_next != NULL)
		waiter->engine_next->engine_link = waiter->engine_link;
	waiter->engine_link = NULL;
	atomic_fetch_sub(&list->count, 1);
}

void wait_list_add(struct wait_list *list, struct engine_waiter *waiter, struct consumer *consumer)
{
	pthread_mutex_lock(&list->lock);
	waiter->engine_private = consumer;
	waiter->engine_next = list->head;
	waiter->engine_link = &list->head;
	if (list->head != NULL)
		list->head->engine_link = &waiter->engine_next;
	list->head = waiter;
	atomic_fetch_add(&list->count, 1);
	check_invariants(list);
	pthread_mutex_unlock(&list->lock);
}

bool wait_list_remove(struct wait_list *list, struct engine_waiter *waiter)
{
	bool armed;

	pthread_mutex_lock(&list->lock);
	armed = waiter->engine_link != NULL;
	if (armed)
		unlink_waiter(list, waiter);
	pthread_mutex_unlock(&list->lock);
	return armed;
}

static bool is_meant(const struct consumer *consumer, const struct group *group, uint32_t partition)
{
	if (group != NULL && consumer->group != group)
		return false;
	if (partition == ENGINE_ANY || consumer->how != ENGINE_CONSUME_STREAM)
		return true;
	return consumer_owns(consumer, partition);
}

void wait_list_wake(struct wait_list *list, const struct group *group, uint32_t partition)
{
	struct engine_waiter *taken = NULL, *next;

	if (atomic_load(&list->count) == 0)
		return;
	pthread_mutex_lock(&list->lock);
	check_invariants(list);
	for (struct engine_waiter *w = list->head; w != NULL; w = next) {
		next = w->engine_next;
		if (!is_meant(w->engine_private, group, partition))
			continue;
		unlink_waiter(list, w);
		w->engine_next = taken;
		taken = w;
	}
	pthread_mutex_unlock(&list->lock);
	for (; taken != NULL; taken = next) {
		next = taken->engine_next; /* wake may free or arm it again */
		if (!visible_keeps(taken))
			taken->wake(taken);
	}
}

void topic_wake(struct topic *topic, const struct group *group)
{
	uint32_t partitions = atomic_load(&topic->partitions);

	wait_list_wake(&topic->waiters, group, ENGINE_ANY);
	for (uint32_t i = 0; i < partitions; i++)
		wait_list_wake(&topic_partition(topic, i)->waiters, group, ENGINE_ANY);
}

bool topic_is_awaited(struct topic *topic)
{
	uint32_t partitions = atomic_load(&topic->partitions);
	bool awaited = atomic_load(&topic->waiters.count) > 0;

	for (uint32_t i = 0; !awaited && i < partitions; i++)
		awaited = atomic_load(&topic_partition(topic, i)->waiters.count) > 0;
	return awaited;
}
