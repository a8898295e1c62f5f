/*
 * local_queue_sync - the log of a lane: messages are appended to it, and it is synced in time.
 */
#include <errno.h>

#include "engine/clock.h"
#include "engine/io.h"
#include "engine/local_queue.h"

/* Sees to it that the lane is synced in time. lock */
static void plan_flush(struct lane *lane, uint32_t count)
{
	struct object *object = &lane->queue->object;
	struct local *local = local_of(object);
	int64_t flush_ms = setting_value(object, SET_QUEUE_FLUSH_MS);
	int64_t flush_messages = setting_value(object, SET_QUEUE_FLUSH_MESSAGES);

	if (lane->unsynced_messages == 0) {
		lane->unsynced_since_ms = clock_mono_ms();
		if (flush_ms >= 0)
			timer_set_earlier(local, &lane->flush_timer, lane->unsynced_since_ms + flush_ms);
	}
	lane->unsynced_messages += count;
	if (flush_messages >= 0 && lane->unsynced_messages >= (uint64_t)flush_messages && !lane->flush_asked) {
		lane->flush_asked = true;
		flusher_request(local, &lane->sync, NULL);
	}
}

void lane_follow(struct lane *lane)
{
	struct plog *plog = atomic_load(&lane->plog);

	lane->noted = true;
	if (plog != NULL) /* else none is open, and nothing comes */
		plog_follow(plog);
}

int lane_append(struct lane *lane, const struct engine_batch *batch, uint64_t first_id, uint64_t *ret_offset)
{
	uint64_t offset;
	int rc = plog_append(atomic_load(&lane->plog), batch, first_id, QUEUE_SEGMENT_BYTES, &offset);

	if (rc == -EROFS && engine_reason()[0] == '\0')
		return engine_explain(rc, "the queue takes no more messages: its disk failed");
	if (rc < 0)
		return rc;
	if (batch->props != NULL && batch->props[0].mark != 0)
		lane->noted = lane->moved_in = true; /* on disk after its note, and before the journal forgets that */
	if (!(first_id & PLOG_STRAY))
		lane->last_id = (first_id & ~PLOG_FLAGS) + batch->count - 1;
	lane_appended(lane, batch->count, batch->len - batch->count);
	plan_flush(lane, batch->count);
	*ret_offset = offset;
	return 0;
}

void lane_sync_begin(struct sync_point *point)
{
	struct lane *lane = (struct lane *)((char *)point - offsetof(struct lane, sync));

	pthread_mutex_lock(&lane->queue->lock);
	lane->unsynced_messages = 0;
	lane->flush_asked = false;
	pthread_mutex_unlock(&lane->queue->lock);
}

int lane_sync_run(struct sync_point *point)
{
	struct lane *lane = (struct lane *)((char *)point - offsetof(struct lane, sync));
	struct plog *plog = atomic_load(&lane->plog);
	unsigned int tries = 0;
	bool noted;
	int rc, journal;

	lane_sync_begin(point);
	pthread_mutex_lock(&lane->queue->lock);
	noted = lane->noted;
	lane->noted = false;
	lane->noted_syncs += noted;
	pthread_mutex_unlock(&lane->queue->lock);
	/* What is noted from here on the log sees to (plog_follow()). If the journal fails, it is not the log that does. */
	journal = noted ? journal_sync(queue_local(lane->queue)->journal) : 0;
	do
		rc = plog != NULL && journal == 0 ? plog_sync(plog) : journal;
	while (warm_again(queue_local(lane->queue), rc, &tries));
	pthread_mutex_lock(&lane->queue->lock);
	lane->noted_syncs -= noted;
	lane->noted = lane->noted || (noted && rc < 0);
	pthread_mutex_unlock(&lane->queue->lock);
	if (rc < 0 && journal == 0 && !io_wants_means(rc) && !atomic_exchange(&lane->failed, true))
		queue_fault(lane->queue, rc, "a sync failed, so it takes no more messages");
	return rc;
}

void lane_flush_fire(struct timer *timer)
{
	struct lane *lane = (struct lane *)((char *)timer - offsetof(struct lane, flush_timer));
	struct object *object = &lane->queue->object;
	int64_t flush_ms = setting_value(object, SET_QUEUE_FLUSH_MS), due_ms;
	bool ask = false;

	pthread_mutex_lock(&lane->queue->lock);
	if (lane->unsynced_messages > 0 && flush_ms >= 0) {
		due_ms = lane->unsynced_since_ms + flush_ms;
		ask = due_ms <= clock_mono_ms();
		/* There will be more by then: so the thread sleeps no longer, and no producer has to wake it for that. */
		timer_set_earlier(local_of(object), timer, ask ? clock_mono_ms() + flush_ms : due_ms);
	}
	pthread_mutex_unlock(&lane->queue->lock);
	if (ask)
		flusher_request(local_of(object), &lane->sync, NULL);
}

size_t queue_sync_points(struct queue *queue, struct sync_point **points)
{
	size_t count = 0;

	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		struct lane *lane = queue_lane(queue, p);
		struct engine_partition_stat stat;

		if (lane == NULL || atomic_load(&lane->plog) == NULL)
			continue;
		plog_stat(atomic_load(&lane->plog), &stat);
		if (stat.synced < stat.end)
			points[count++] = &lane->sync;
	}
	return count;
}
