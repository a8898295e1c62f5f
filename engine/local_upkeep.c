/*
 * local_upkeep - what the engine does by itself: syncing what is due, and retention.
 *
 * Flush. The first message after a sync sets the partition's flush timer; when it is due the flusher is asked.
 *
 * Retention. plog_retain() says when it will have more to do, and the partition's timer is set to that; but at most to
 * an hour ahead, since the wall clock may be set. Retention by bytes is looked at whenever another segment's worth was
 * appended. After the start a sweep goes over all topics, some per second, so that logs nobody uses are looked at too.
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

static int retain(struct object *topic, struct plog *plog, int64_t wall_ms, uint64_t limit, int64_t *ret_next_ms)
{
	bool keeps = setting_value(topic, SET_CLEANUP_POLICY) == POLICY_COMPACT;
	bool again = false;
	int rc;

	do
		rc = plog_retain(plog, keeps ? -1 : setting_value(topic, SET_RETENTION_MS),
		    keeps ? -1 : setting_value(topic, SET_RETENTION_BYTES), wall_ms, limit, ret_next_ms);
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
	partition_before_trim(partition);
	rc = retain(object, plog, wall_ms, end, &next_ms);
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

static void dedup_fire(struct timer *timer)
{
	local_dedup_fire((struct local *)((char *)timer - offsetof(struct local, dedup_timer)));
}

/* ---- start ---- */

int upkeep_start(struct local *local)
{
	int rc = timer_init(local, &local->checkpoint_timer, checkpoint_fire, NULL);

	if (rc == 0)
		rc = timer_init(local, &local->idle_timer, warm_idle_fire, NULL);
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
