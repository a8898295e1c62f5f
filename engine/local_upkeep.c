/*
 * local_upkeep - what the engine does by itself: syncing what is due, retention, closing descriptors that idle.
 *
 * Flush. The first message after a sync sets the partition's flush timer; when it is due the flusher is asked.
 *
 * Retention. plog_retain() says when it will have more to do, and the partition's timer is set to that; but at most to
 * an hour ahead, since the wall clock may be set. Retention by bytes is looked at whenever another segment's worth was
 * appended. After the start a sweep goes over all topics, some per second, so that logs nobody uses are looked at too.
 *
 * Descriptors. A log that was used may have descriptors open: it is warm, and in a ring. A hand goes round the ring
 * (the clock algorithm): one that was used since the last visit is spared, any other gives its descriptors back and
 * leaves the ring. The hand moves every LOCAL_IDLE_MS over all of them, and at once when there are more than the
 * process can afford. What is not synced is so before, since it could not be closed.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/local_internal.h"
#include "engine/local_visible.h"

#define RETAIN_MIN_MS 20    /* between two looks at the same partition: no busy loop when the clock disagrees */
#define RETAIN_FULL_MS 5000 /* until another try when the disk was too full even to delete */
#define VICTIMS 16u         /* logs that one visit of the hand closes at most */

static struct partition *partition_of(struct timer *timer, size_t member)
{
	return (struct partition *)((char *)timer - member);
}

/* ---- flush ---- */

void partition_flush_fire(struct timer *timer)
{
	struct partition *partition = partition_of(timer, offsetof(struct partition, flush_timer));
	struct object *object = &partition->topic->object;
	int64_t flush_ms = setting_value(object, SET_FLUSH_MS), due_ms;
	bool ask = false;

	pthread_mutex_lock(&partition->lock);
	if (partition->unsynced_messages > 0 && flush_ms >= 0) {
		due_ms = partition->unsynced_since_ms + flush_ms;
		ask = due_ms <= clock_mono_ms();
		if (!ask)
			timer_set_earlier(local_of(object), timer, due_ms);
	}
	pthread_mutex_unlock(&partition->lock);
	if (ask)
		flusher_request(local_of(object), &partition->sync, NULL);
}

void topic_flush_soon(struct topic *topic)
{
	uint32_t partitions = atomic_load(&topic->partitions);

	for (uint32_t i = 0; i < partitions; i++)
		timer_set(local_of(&topic->object), &topic_partition(topic, i)->flush_timer, clock_mono_ms());
}

/* ---- retention ---- */

int64_t retain_delay(const struct object *topic)
{
	int64_t retention_ms = setting_value(topic, SET_RETENTION_MS);

	if (retention_ms < 0 || retention_ms > LOCAL_RETAIN_MAX_MS)
		return LOCAL_RETAIN_MAX_MS;
	return retention_ms > RETAIN_MIN_MS ? retention_ms : RETAIN_MIN_MS;
}

static int retain(struct object *topic, struct plog *plog, int64_t wall_ms, int64_t *ret_next_ms)
{
	bool keeps = setting_value(topic, SET_CLEANUP_POLICY) == POLICY_COMPACT;
	bool again = false;
	int rc;

	do
		rc = plog_retain(plog, keeps ? -1 : setting_value(topic, SET_RETENTION_MS),
		    keeps ? -1 : setting_value(topic, SET_RETENTION_BYTES), wall_ms, ret_next_ms);
	while (reserve_again(local_of(topic), rc, &again));
	return rc;
}

static void report_retained(struct partition *partition, uint64_t earliest, uint64_t before)
{
	struct object *object = &partition->topic->object;
	char name[ENGINE_NAME_MAX + 1];

	if (earliest <= before)
		return;
	atomic_store(&partition->topic->changed_ms, clock_wall_ms());
	object_name(object, name);
	local_notify(local_of(object), 0, "topic %s, partition %" PRIu32 ": retention deleted %" PRIu64 " messages",
	    name, partition->index, earliest - before);
}

void partition_retain_fire(struct timer *timer)
{
	struct partition *partition = partition_of(timer, offsetof(struct partition, retain_timer));
	struct object *object = &partition->topic->object;
	uint64_t before, earliest, end;
	int64_t next_ms, wall_ms, delay_ms;
	struct plog *plog;
	int rc;

	if (atomic_load(&object->removed) || partition_open_log(partition, &plog) < 0)
		return;
	pthread_mutex_lock(&partition->lock);
	partition->retain_bytes = 0;
	partition->retain_set = true;
	pthread_mutex_unlock(&partition->lock);
	if (setting_value(object, SET_CLEANUP_POLICY) != POLICY_DELETE)
		cleaner_request(local_of(object), partition->topic);
	partition_bounds(partition, &before, &end);
	wall_ms = clock_wall_ms();
	visible_enter(local_of(object));
	rc = retain(object, plog, wall_ms, &next_ms);
	visible_leave(local_of(object));
	partition_bounds(partition, &earliest, &end);
	report_retained(partition, earliest, before);
	if (rc < 0 && rc != -EROFS && rc != -ENOSPC && !atomic_exchange(&partition->retain_failed, true))
		partition_fault(partition, rc, "retention failed");
	delay_ms = rc == -ENOSPC                                       ? RETAIN_FULL_MS
		   : rc < 0 || next_ms > wall_ms + LOCAL_RETAIN_MAX_MS ? LOCAL_RETAIN_MAX_MS
								       : next_ms - wall_ms;
	timer_set_earlier(
	    local_of(object), timer, clock_mono_ms() + (delay_ms > RETAIN_MIN_MS ? delay_ms : RETAIN_MIN_MS));
}

void topic_retain_soon(struct topic *topic)
{
	uint32_t partitions = atomic_load(&topic->partitions);

	for (uint32_t i = 0; i < partitions; i++)
		timer_set_earlier(local_of(&topic->object), &topic_partition(topic, i)->retain_timer, clock_mono_ms());
}

/* The next topics of the sweep. */
static void sweep_fire(struct timer *timer)
{
	struct local *local = (struct local *)((char *)timer - offsetof(struct local, sweep_timer));
	struct object *topic;

	for (unsigned int i = 0; i < LOCAL_SWEEP_OBJECTS; i++) {
		topic = registry_next(local, NULL, ENGINE_TOPIC, local->sweep_after);
		if (topic == NULL)
			return;
		local->sweep_after = topic->id;
		topic_retain_soon(topic_of_object(topic));
		object_put(topic);
	}
	timer_set(local, timer, clock_mono_ms() + LOCAL_SWEEP_MS);
}

/* ---- descriptors ---- */

#ifdef MQFS_DEBUG
#include <assert.h>

static void check_ring(struct local *local)
{
	struct warm *p = local->warm.hand;
	size_t count = 0;

	while (p != NULL && count <= local->warm.count) {
		assert(p->warm && p->warm_next->warm_prev == p);
		count++;
		p = p->warm_next != local->warm.hand ? p->warm_next : NULL;
	}
	assert(count == local->warm.count);
}
#else
static void check_ring(struct local *local)
{
	(void)local;
}
#endif

/* warm.lock */
static void leave_ring(struct local *local, struct warm *warm)
{
	warm->warm_prev->warm_next = warm->warm_next;
	warm->warm_next->warm_prev = warm->warm_prev;
	if (local->warm.hand == warm)
		local->warm.hand = warm->warm_next != warm ? warm->warm_next : NULL;
	warm->warm_next = warm->warm_prev = NULL;
	atomic_store(&warm->warm, false);
	local->warm.count--;
	check_ring(local);
}

/* warm.lock. Just behind the hand: it is the last that the hand comes to. */
static void enter_ring(struct local *local, struct warm *warm)
{
	struct warm *hand = local->warm.hand;

	if (hand == NULL) {
		warm->warm_next = warm->warm_prev = warm;
		local->warm.hand = warm;
	} else {
		warm->warm_next = hand;
		warm->warm_prev = hand->warm_prev;
		hand->warm_prev->warm_next = warm;
		hand->warm_prev = warm;
	}
	atomic_store(&warm->warm, true);
	local->warm.count++;
	check_ring(local);
}

/*
 * Moves the hand over at most `steps` logs, and takes those out that were not used, each with a reference to its
 * object. warm.lock
 */
static size_t collect(struct local *local, size_t steps, struct warm *ret_victims[VICTIMS])
{
	size_t count = 0;

	for (; steps > 0 && local->warm.hand != NULL && count < VICTIMS; steps--) {
		struct warm *warm = local->warm.hand;

		local->warm.hand = warm->warm_next;
		if (atomic_exchange(&warm->used, false) || !object_try_ref(warm->object))
			continue;
		leave_ring(local, warm);
		ret_victims[count++] = warm;
	}
	return count;
}

/*
 * What is not on disk yet is noted in the journal first: the checkpoint that drops the note opens the log again, and syncs it. (An
 * error of the disk in between is told to whoever opens and syncs the file next.) What is too much for that is synced now.
 */
static void release_files(struct local *local, struct warm *const *victims, size_t count)
{
	uint8_t *record = NULL;

	for (size_t i = 0; i < count; i++) {
		struct plog *plog = atomic_load(victims[i]->plog);
		struct plog_tail to;

		if (plog != NULL && !plog_release_files(plog)) {
			if (record == NULL)
				record = malloc(NOTE_MAX);
			if (record == NULL || note_log(local, victims[i]->sync, record, &to) < 0)
				victims[i]->sync->run(victims[i]->sync); /* tells if it fails */
			plog_release_files(plog);
		}
		object_put(victims[i]->object);
	}
	free(record);
}

void warm_init(struct warm *warm, struct sync_point *sync, struct plog *_Atomic *plog)
{
	warm->sync = sync;
	warm->object = sync->object;
	warm->plog = plog;
}

void warm_touch(struct warm *warm)
{
	struct local *local = local_of(warm->object);
	struct warm *victims[VICTIMS];
	size_t count = 0;
	bool first = false;

	if (!atomic_load_explicit(&warm->used, memory_order_relaxed))
		atomic_store_explicit(&warm->used, true, memory_order_relaxed);
	if (atomic_load_explicit(&warm->warm, memory_order_relaxed))
		return;
	pthread_mutex_lock(&local->warm.lock);
	if (!atomic_load(&warm->warm)) {
		first = local->warm.count == 0;
		enter_ring(local, warm);
		if (local->warm.count > local->warm.limit)
			count = collect(local, local->warm.count * 2, victims);
	}
	pthread_mutex_unlock(&local->warm.lock);
	release_files(local, victims, count);
	if (first)
		timer_set_earlier(local, &local->idle_timer, clock_mono_ms() + LOCAL_IDLE_MS);
}

void warm_cool(struct warm *warm)
{
	struct local *local = local_of(warm->object);

	pthread_mutex_lock(&local->warm.lock);
	if (atomic_load(&warm->warm))
		leave_ring(local, warm);
	pthread_mutex_unlock(&local->warm.lock);
}

static void idle_fire(struct timer *timer)
{
	struct local *local = (struct local *)((char *)timer - offsetof(struct local, idle_timer));
	struct warm *victims[VICTIMS];
	size_t steps, count;
	bool more;

	pthread_mutex_lock(&local->warm.lock);
	steps = local->warm.count;
	pthread_mutex_unlock(&local->warm.lock);
	for (size_t done = 0; done < steps; done += VICTIMS) {
		pthread_mutex_lock(&local->warm.lock);
		count = collect(local, steps - done < VICTIMS ? steps - done : VICTIMS, victims);
		pthread_mutex_unlock(&local->warm.lock);
		release_files(local, victims, count);
	}
	pthread_mutex_lock(&local->warm.lock);
	more = local->warm.count > 0;
	pthread_mutex_unlock(&local->warm.lock);
	if (more)
		timer_set_earlier(local, timer, clock_mono_ms() + LOCAL_IDLE_MS);
}

static void dedup_fire(struct timer *timer)
{
	local_dedup_fire((struct local *)((char *)timer - offsetof(struct local, dedup_timer)));
}

/* ---- start ---- */

int upkeep_start(struct local *local)
{
	int rc = timer_init(local, &local->checkpoint_timer, checkpoint_fire, NULL);

	if (rc == 0)
		rc = timer_init(local, &local->idle_timer, idle_fire, NULL);
	if (rc == 0)
		rc = timer_init(local, &local->sweep_timer, sweep_fire, NULL);
	if (rc == 0)
		rc = timer_init(local, &local->dedup_timer, dedup_fire, NULL);
	if (rc < 0 || local->read_only)
		return rc;
	timer_set(local, &local->sweep_timer, clock_mono_ms() + LOCAL_SWEEP_MS);
	if (atomic_load(&local->checkpoint_set)) /* there was something to replay */
		timer_set(local, &local->checkpoint_timer, clock_mono_ms() + LOCAL_CHECKPOINT_MS);
	return rc;
}
