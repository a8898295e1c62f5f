/*
 * local_cleaner - the thread that compacts topics whose cleanup.policy says so.
 *
 * It is asked to look at a topic when a segment's worth was appended, when a setting changes, when tombstones are due to go,
 * after the start and then every hour. It brings the key index up to date, and compacts each partition of whose sealed
 * segments at least half, by bytes, is new since the last time (Kafka's min.cleanable.dirty.ratio of 0.5), or that has
 * tombstones that are due. So a byte is rewritten about once for each time it is written.
 *
 * One topic and one partition at a time, and nobody waits for it.
 */
#include "engine/local_cleaner.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/local_commit.h"
#include "engine/local_queue.h"

#define TRIES 3 /* a trim that comes between ends a run */

void cleaner_init(struct cleaner *cleaner)
{
	pthread_mutex_init(&cleaner->lock, NULL);
	pthread_cond_init(&cleaner->changed, NULL);
	cleaner->tail = &cleaner->head;
}

void cleaner_release(struct cleaner *cleaner)
{
	pthread_cond_destroy(&cleaner->changed);
	pthread_mutex_destroy(&cleaner->lock);
}

void cleaner_request(struct local *local, struct topic *topic)
{
	struct cleaner *cleaner = &local->cleaner;

	if (local->read_only || !object_try_ref(&topic->object))
		return;
	pthread_mutex_lock(&cleaner->lock);
	if (!topic->clean_queued && cleaner->running && !atomic_load(&cleaner->stop)) {
		topic->clean_queued = true;
		topic->clean_next = NULL;
		*cleaner->tail = topic;
		cleaner->tail = &topic->clean_next;
		pthread_cond_signal(&cleaner->changed);
		topic = NULL;
	}
	pthread_mutex_unlock(&cleaner->lock);
	if (topic != NULL)
		object_put(&topic->object);
}

void cleaner_look_again(struct topic *topic)
{
	uint32_t partitions = atomic_load(&topic->partitions);

	for (uint32_t p = 0; p < partitions; p++) {
		struct partition *partition = topic_partition(topic, p);

		if (atomic_load(&partition->tombstones_due_ms) != INT64_MAX)
			atomic_store(&partition->tombstones_due_ms, 0);
	}
	cleaner_request(local_of(&topic->object), topic);
}

/* ---- one partition ---- */

struct compacting {
	struct plog_compaction how; /* first */
	struct partition *partition;
	int64_t now_ms, retention_ms;
	uint64_t kept_mark; /* messages with marks from this one on stay: see settle_marks() */
	uint64_t synced;    /* all below this offset is on disk */
	int64_t due_ms;     /* when the first tombstone that stays is to go; INT64_MAX: there is none */
};

static bool is_compacted(const struct topic *topic)
{
	return !atomic_load(&topic->object.removed) &&
	       setting_value(&topic->object, SET_CLEANUP_POLICY) != POLICY_DELETE;
}

static int keep(struct plog_compaction *how, uint64_t offset, int64_t ts_ms, const struct engine_props *props)
{
	struct compacting *c = (struct compacting *)how;
	struct topic *topic = c->partition->topic;
	enum key_state state;
	int64_t due_ms;
	int rc;

	if (atomic_load(&local_of(&topic->object)->cleaner.stop) || !is_compacted(topic))
		return -ECANCELED;
	if (props->key.ptr == NULL)
		return 1; /* it is from before the topic was compacted */
	if (props->mark != 0 && props->mark >= c->kept_mark)
		return 1;
	rc = keys_state(topic, c->partition->index, props->key, offset, c->synced, &state);
	if (rc < 0)
		return rc;
	if (state == KEY_OLDER)
		return 0;
	if (!props->tombstone)
		return 1;
	due_ms = ts_ms + c->retention_ms;
	if (due_ms <= c->now_ms)
		return 0;
	if (due_ms < c->due_ms)
		c->due_ms = due_ms;
	return 1;
}

static bool wants(struct partition *partition, struct plog *plog, int64_t now_ms)
{
	uint64_t dirty, sealed;

	plog_dirty(plog, &dirty, &sealed);
	return (dirty > 0 && dirty * 2 >= sealed) || atomic_load(&partition->tombstones_due_ms) <= now_ms;
}

static void report(struct partition *partition, uint64_t removed)
{
	struct object *object = &partition->topic->object;
	char name[ENGINE_NAME_MAX + 1];

	if (removed == 0)
		return;
	atomic_store(&partition->topic->changed_ms, clock_wall_ms());
	object_name(object, name);
	local_notify(local_of(object), 0, "topic %s, partition %" PRIu32 ": compaction removed %" PRIu64 " messages",
	    name, partition->index, removed);
}

/* When tombstones that stay are due, retention's timer asks again. */
static void plan_next(struct partition *partition, const struct compacting *c)
{
	int64_t wait_ms = c->due_ms - c->now_ms;

	atomic_store(&partition->tombstones_due_ms, c->due_ms);
	/* It was changed meanwhile, perhaps before that was stored: then who did so has asked for the next run, which is to look again. */
	if (c->due_ms != INT64_MAX && setting_value(&partition->topic->object, SET_DELETE_RETENTION) != c->retention_ms)
		atomic_store(&partition->tombstones_due_ms, 0);
	if (c->due_ms != INT64_MAX && wait_ms < LOCAL_RETAIN_MAX_MS)
		timer_set_earlier(
		    local_of(&partition->topic->object), &partition->retain_timer, clock_mono_ms() + wait_ms);
}

/* *ret_clean: below this offset each key has one message, and no tombstone that is due is left. */
static int compact_partition(struct partition *partition, uint64_t kept_mark, uint64_t *ret_clean)
{
	struct object *object = &partition->topic->object;
	struct compacting c = { .how = { .segment_bytes = (uint64_t)setting_value(object, SET_SEGMENT_BYTES),
				    .keep = keep },
		.partition = partition,
		.now_ms = clock_wall_ms(),
		.retention_ms = setting_value(object, SET_DELETE_RETENTION),
		.kept_mark = kept_mark,
		.due_ms = INT64_MAX };
	struct sync_point *point = &partition->sync;
	struct plog *plog;
	int rc = partition_open_log(partition, &plog);

	*ret_clean = 0;
	if (rc < 0 || !wants(partition, plog, c.now_ms))
		return rc;
	c.how.before = keys_noted(partition->topic, partition->index);
	rc = flusher_run(local_of(object), &point, 1);
	c.synced = plog_synced(plog);
	for (int tries = 0; rc == 0 || (rc == -EAGAIN && tries < TRIES); tries++) {
		rc = plog_compact(plog, &c.how);
		report(partition, c.how.removed);
		if (rc == 0)
			break;
	}
	if (rc < 0)
		return rc == -EAGAIN ? 0 : rc;
	*ret_clean = c.how.clean_offset;
	plan_next(partition, &c);
	return 0;
}

/* ---- one topic ---- */

/*
 * A message that came with others for several targets has a mark, by which a start finds out whether it is there. If it was
 * compacted away meanwhile, it would be given again, and be the latest. So what the journal noted is settled first; what the
 * index knows by now was noted before that. Returns the lowest mark that is to stay.
 */
static uint64_t settle_marks(struct topic *topic)
{
	struct local *local = local_of(&topic->object);

	return checkpoint_run(local) == 0 ? commit_lowest_mark(local) : 0;
}

static int clean(struct topic *topic)
{
	uint32_t partitions = atomic_load(&topic->partitions);
	int64_t before_ms = clock_wall_ms() - setting_value(&topic->object, SET_DELETE_RETENTION);
	uint64_t *below = calloc(partitions, sizeof(*below));
	uint64_t kept_mark = 0;
	bool any = false;
	int rc = below != NULL ? keys_save(topic) : -ENOMEM;

	if (rc == 0)
		kept_mark = settle_marks(topic);

	for (uint32_t p = 0; p < partitions && rc == 0 && is_compacted(topic); p++) {
		rc = compact_partition(topic_partition(topic, p), kept_mark, &below[p]);
		any = any || below[p] > 0;
	}
	if (rc == 0 && any)
		rc = keys_clean(topic, before_ms, below);
	free(below);
	return rc;
}

void cleaner_run(struct topic *topic)
{
	struct local *local = local_of(&topic->object);
	char name[ENGINE_NAME_MAX + 1];
	int rc = is_compacted(topic) ? clean(topic) : 0;

	/* A disk that failed, or is full, is told of already. */
	if (rc == 0 || rc == -ECANCELED || rc == -EROFS || rc == -EIDRM || rc == -ENOSPC ||
	    atomic_exchange(&topic->clean_failed, true))
		return;
	object_name(&topic->object, name);
	local_fault(local, -rc, "topic %s: compaction failed: %s", name, strerror(-rc));
}

/* ---- the thread ---- */

static struct topic *next_topic(struct cleaner *cleaner)
{
	struct topic *topic;

	pthread_mutex_lock(&cleaner->lock);
	while (cleaner->head == NULL && !atomic_load(&cleaner->stop))
		pthread_cond_wait(&cleaner->changed, &cleaner->lock);
	topic = cleaner->head;
	if (topic != NULL) {
		cleaner->head = topic->clean_next;
		if (cleaner->head == NULL)
			cleaner->tail = &cleaner->head;
		topic->clean_queued = false;
	}
	pthread_mutex_unlock(&cleaner->lock);
	return topic;
}

/* At the end what is left in the list is only let go. */
static void *run(void *arg)
{
	struct local *local = arg;
	struct topic *topic;

	while ((topic = next_topic(&local->cleaner)) != NULL) {
		if (!atomic_load(&local->cleaner.stop))
			cleaner_run(topic);
		object_put(&topic->object);
	}
	return NULL;
}

int cleaner_start(struct local *local)
{
	sigset_t all, before;
	int rc;

	if (local->read_only)
		return 0;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	local->cleaner.running = true;
	rc = pthread_create(&local->cleaner.thread, NULL, run, local);
	local->cleaner.running = rc == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -rc;
}

void cleaner_stop(struct local *local)
{
	struct cleaner *cleaner = &local->cleaner;

	pthread_mutex_lock(&cleaner->lock);
	atomic_store(&cleaner->stop, true);
	pthread_cond_signal(&cleaner->changed);
	pthread_mutex_unlock(&cleaner->lock);
	if (cleaner->running)
		pthread_join(cleaner->thread, NULL);
	cleaner->running = false;
}
