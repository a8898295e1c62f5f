/*
 * local_topic - the partitions of a topic: making them, opening their logs when they are needed, and what can be asked
 * of them.
 *
 * A store may have ten thousand topics of which a few are in use. So a log is opened by the first call that needs it,
 * and opening the store opens none. Opening recovers the tail of the log; if the machine died, the end may then be
 * lower than what a group had committed, and the group is put back to it before anyone can append: otherwise it would
 * pass over the next messages. It is done with no lock held, since it takes time and reports what it finds; others who
 * need the same log wait.
 *
 * Partitions live in blocks of 1, 2, 4, ... that never move, so that producers reach them without a lock while the
 * topic grows. A partition is reached only through topic->partitions, which is raised when it is complete.
 *
 * Removal must not lose a message that was accepted: topic_freeze() stops appends first, looks whether there are
 * messages, and appends go on, or fail with EIDRM, when that is decided.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/failpoint.h"
#include "engine/io.h"
#include "engine/local_commit.h"

struct plog_options local_log_options(struct local *local, uint64_t log_id)
{
	struct plog_options options = { .logs_dirfd = local->store.logs_dirfd,
		.id = log_id,
		.read_only = local->read_only,
		.remake = local->remake_logs,
		.notify = local->notify,
		.before_sync = commit_before_sync,
		.is_lost = commit_lost,
		.ctx = local };

	memcpy(options.store_uuid, local->store.uuid, sizeof(options.store_uuid));
	return options;
}

void partition_fault(struct partition *partition, int err, const char *what)
{
	char name[ENGINE_NAME_MAX + 1];

	object_name(&partition->topic->object, name);
	local_fault(local_of(&partition->topic->object), -err, "topic %s, partition %" PRIu32 ": %s: %s", name,
	    partition->index, what, strerror(-err));
}

/* ---- life ---- */

static void partition_release(struct partition *partition)
{
	struct object *object = &partition->topic->object;
	struct local *local = local_of(object);
	struct plog *plog = atomic_load(&partition->plog);

	timer_release(local, &partition->flush_timer);
	timer_release(local, &partition->retain_timer);
	warm_cool(&partition->warm);
	plog_close(plog);
	if (atomic_load(&object->removed) && !local->read_only)
		plog_destroy(local->store.logs_dirfd, partition->log_id);
	wait_list_release(&partition->waiters);
	pthread_cond_destroy(&partition->changed);
	pthread_mutex_destroy(&partition->lock);
}

static int partition_init(struct partition *partition, struct topic *topic, uint32_t index, uint64_t log_id)
{
	struct local *local = local_of(&topic->object);
	int rc;

	memset(partition, 0, sizeof(*partition));
	partition->topic = topic;
	partition->index = index;
	partition->log_id = log_id;
	atomic_init(&partition->tombstones_due_ms, INT64_MAX);
	partition->sync = (struct sync_point){ .run = partition_sync,
		.begin = partition_sync_begin,
		.log = &partition->plog,
		.object = &topic->object,
		.log_id = log_id,
		.index = index };
	warm_init(&partition->warm, &partition->sync, &partition->plog);
	rc = timer_init(local, &partition->flush_timer, partition_flush_fire, &topic->object);
	if (rc < 0)
		return rc;
	rc = timer_init(local, &partition->retain_timer, partition_retain_fire, &topic->object);
	if (rc < 0) {
		timer_release(local, &partition->flush_timer);
		return rc;
	}
	pthread_mutex_init(&partition->lock, NULL);
	pthread_cond_init(&partition->changed, NULL);
	wait_list_init(&partition->waiters);
	return 0;
}

struct topic *topic_new(struct local *local, uint64_t id)
{
	struct topic *topic = calloc(1, sizeof(*topic));

	if (topic == NULL)
		return NULL;
	object_init(local, &topic->object, ENGINE_TOPIC, id, local->root);
	wait_list_init(&topic->waiters);
	local_dedup_init(&topic->dedup);
	keys_init(&topic->keys);
	if (settings_init(&topic->object, local->defaults[ENGINE_TOPIC]) < 0) {
		topic_free(topic);
		return NULL;
	}
	return topic;
}

void topic_free(struct topic *topic)
{
	uint32_t partitions = atomic_load(&topic->partitions);

	for (uint32_t i = 0; i < partitions; i++)
		partition_release(topic_partition(topic, i));
	for (size_t i = 0; i < LOCAL_PARTITION_BLOCKS; i++)
		free(topic->blocks[i]);
	wait_list_release(&topic->waiters);
	local_dedup_release(&topic->dedup);
	keys_release(&topic->keys);
	object_release(&topic->object);
}

int topic_close_logs(struct topic *topic)
{
	uint32_t partitions = atomic_load(&topic->partitions);
	int rc = 0;

	for (uint32_t i = 0; i < partitions; i++) {
		int closed = ends_close_log(&topic_partition(topic, i)->sync);

		if (rc == 0)
			rc = closed;
	}
	return rc;
}

/* ---- growing ---- */

/* The next partition in memory. It is not there before count_partition(). */
static int prepare_partition(struct topic *topic, uint64_t log_id)
{
	uint32_t index = atomic_load(&topic->partitions);
	unsigned int block = 31u - (unsigned int)__builtin_clz(index + 1);

	if (index >= ENGINE_PARTITIONS_MAX)
		return -ERANGE;
	if (topic->blocks[block] == NULL) {
		topic->blocks[block] = calloc((size_t)1 << block, sizeof(struct partition));
		if (topic->blocks[block] == NULL)
			return -ENOMEM;
	}
	return partition_init(topic_partition(topic, index), topic, index, log_id);
}

static void count_partition(struct topic *topic)
{
	uint32_t index = atomic_load(&topic->partitions);

	atomic_store(&topic->partitions, index + 1);
	settings_put(&topic->object, SET_PARTITIONS, index + 1);
}

int topic_add_partition(struct topic *topic, uint64_t log_id)
{
	int rc = prepare_partition(topic, log_id);

	if (rc == 0)
		count_partition(topic);
	return rc;
}

/* One more partition: its log first, then the row that points at it. What a crash leaves is an empty log. */
static int make_partition(struct topic *topic)
{
	struct local *local = local_of(&topic->object);
	uint32_t index = atomic_load(&topic->partitions);
	struct plog_options options;
	uint64_t log_id;
	int rc;

	rc = reserve_check(local);
	if (rc == 0)
		rc = catalog_next_id(local->catalog, &log_id);
	if (rc == 0)
		rc = prepare_partition(topic, log_id);
	if (rc < 0)
		return rc;
	options = local_log_options(local, log_id);
	rc = plog_create(&options);
	if (rc == 0) {
		rc = FAILPOINT("partition_after_log");
		if (rc == 0)
			rc = catalog_add_partition(local->catalog, topic->object.id, index, log_id);
		if (rc < 0)
			plog_destroy(local->store.logs_dirfd, log_id);
	}
	if (rc < 0)
		partition_release(topic_partition(topic, index));
	else
		count_partition(topic);
	return rc;
}

int topic_grow(struct topic *topic, uint32_t partitions)
{
	int rc = 0;

	if (atomic_load(&topic->partitions) >= partitions)
		return 0;
	while (rc == 0 && atomic_load(&topic->partitions) < partitions)
		rc = make_partition(topic);
	topic_assign_streams(topic);
	return rc;
}

int topic_find(struct topic *topic, uint32_t index, struct partition **ret_partition)
{
	uint32_t partitions = atomic_load(&topic->partitions);

	if (index >= partitions)
		return engine_explain(
		    -ENOENT, "there is no partition %" PRIu32 ": the topic has %" PRIu32, index, partitions);
	*ret_partition = topic_partition(topic, index);
	return 0;
}

/* ---- logs ---- */

/* What a crash of the machine took from the end of the log is not there to be given or committed. */
static void cut_groups(struct partition *partition, uint64_t end)
{
	struct topic *topic = partition->topic;
	struct local *local = local_of(&topic->object);
	struct object *group;
	uint64_t after = 0;

	while ((group = registry_next(local, &topic->object, ENGINE_GROUP, after)) != NULL) {
		after = group->id;
		group_cut(group_of_object(group), partition->index, end);
		object_put(group);
	}
}

/* Opens the log and brings what depends on its end in line with it. No lock: recovery reports what it finds. */
static int open_log(struct partition *partition, struct plog **ret_plog, struct engine_partition_stat *ret_stat)
{
	struct local *local = local_of(&partition->topic->object);
	struct plog_options options = local_log_options(local, partition->log_id);
	unsigned int tries = 0;
	bool again = false;
	int rc;

	options.known = partition->sync.known;
	do
		rc = plog_open(&options, ret_plog);
	while (reserve_again(local, rc, &again) || warm_again(local, rc, &tries));
	if (rc < 0)
		return rc;
	rc = ends_look_at(&partition->sync, *ret_plog);
	if (rc < 0) {
		plog_close(*ret_plog);
		return rc;
	}
	plog_stat(*ret_plog, ret_stat);
	cut_groups(partition, ret_stat->end);
	return 0;
}

/* partition.lock */
static void publish_log(struct partition *partition, struct plog *plog, const struct engine_partition_stat *stat)
{
	struct object *object = &partition->topic->object;
	int64_t flush_ms = setting_value(object, SET_FLUSH_MS);

	if (stat->synced < stat->end && !local_of(object)->read_only) {
		/* The daemon before this one was killed with messages not synced yet. */
		partition->unsynced_messages = stat->end - stat->synced;
		partition->unsynced_since_ms = clock_mono_ms();
		if (flush_ms >= 0)
			timer_set_earlier(
			    local_of(object), &partition->flush_timer, partition->unsynced_since_ms + flush_ms);
	}
	atomic_store(&partition->plog, plog);
	plog_keep_ids(plog, setting_value(object, SET_DEDUP_WINDOW));
	atomic_fetch_add(&partition->topic->opened, 1);
}

/* The first who needs the log opens it, others wait for that. */
static int open_or_wait(struct partition *partition)
{
	char what[256] = "";
	struct engine_partition_stat stat;
	struct plog *plog;
	bool report;
	int rc;

	pthread_mutex_lock(&partition->lock);
	while (partition->opening)
		pthread_cond_wait(&partition->changed, &partition->lock);
	if (atomic_load(&partition->plog) != NULL) {
		pthread_mutex_unlock(&partition->lock);
		return 0;
	}
	partition->opening = true;
	pthread_mutex_unlock(&partition->lock);
	engine_reason_clear();
	rc = open_log(partition, &plog, &stat);
	if (rc < 0) /* which file it is */
		snprintf(
		    what, sizeof what, "the log cannot be opened%s%s", *engine_reason() ? ": " : "", engine_reason());
	pthread_mutex_lock(&partition->lock);
	partition->opening = false;
	if (rc == 0)
		publish_log(partition, plog, &stat);
	report = rc < 0 && !io_wants_means(rc); /* another time there may be memory for it */
	report = !atomic_exchange(&partition->open_failed, report) && report;
	pthread_cond_broadcast(&partition->changed);
	pthread_mutex_unlock(&partition->lock);
	if (report)
		partition_fault(partition, rc, what);
	return rc;
}

int partition_open_log(struct partition *partition, struct plog **ret_plog)
{
	int rc = 0;

	warm_touch(&partition->warm);
	if (atomic_load_explicit(&partition->plog, memory_order_acquire) == NULL)
		rc = open_or_wait(partition);
	if (rc < 0)
		return engine_explain(rc == -EUCLEAN || rc == -ENOENT || rc == -EINPROGRESS ? -EIO : rc,
		    "the log of partition %" PRIu32 " cannot be opened: %s", partition->index, strerror(-rc));
	*ret_plog = atomic_load(&partition->plog);
	return 0;
}

int topic_open_logs(struct topic *topic, uint32_t index)
{
	uint32_t partitions = atomic_load(&topic->partitions);
	struct plog *plog;
	int rc = 0;

	if (index != ENGINE_ANY && index < partitions)
		rc = partition_open_log(topic_partition(topic, index), &plog);
	if (index != ENGINE_ANY || atomic_load(&topic->opened) >= partitions)
		return io_wants_means(rc) ? rc : 0;
	for (uint32_t i = 0; i < partitions && !io_wants_means(rc); i++) {
		/* Who asks for one that cannot be opened by its number tries again; who wants all goes on. */
		if (!atomic_load(&topic_partition(topic, i)->open_failed))
			rc = partition_open_log(topic_partition(topic, i), &plog);
	}
	return io_wants_means(rc) ? rc : 0;
}

void partition_bounds(struct partition *partition, uint64_t *ret_earliest, uint64_t *ret_end)
{
	struct plog *plog = atomic_load_explicit(&partition->plog, memory_order_acquire);
	struct engine_partition_stat stat = { 0 };

	if (plog != NULL)
		plog_stat(plog, &stat);
	*ret_earliest = stat.earliest;
	*ret_end = stat.end;
}

void partition_sync_begin(struct sync_point *point)
{
	struct partition *partition = (struct partition *)((char *)point - offsetof(struct partition, sync));

	pthread_mutex_lock(&partition->lock);
	partition->unsynced_messages = 0;
	partition->flush_asked = false;
	pthread_mutex_unlock(&partition->lock);
}

int partition_sync(struct sync_point *point)
{
	struct partition *partition = (struct partition *)((char *)point - offsetof(struct partition, sync));
	struct local *local = local_of(&partition->topic->object);
	struct plog *plog = atomic_load(&partition->plog);
	unsigned int tries = 0;
	int rc;

	partition_sync_begin(point);
	/* First the notes of commits, and what tells that a message came out of its staging file, or a power cut leaves it in both. */
	rc = atomic_load(&partition->marked) || atomic_load(&partition->staged_pos) > journal_synced(local->journal)
		 ? journal_sync(local->journal)
		 : 0;
	if (rc < 0)
		return rc;
	do
		rc = plog != NULL ? plog_sync(plog) : 0;
	while (warm_again(local, rc, &tries));
	if (rc < 0 && !io_wants_means(rc) && !atomic_exchange(&partition->failed, true))
		partition_fault(partition, rc, "a sync failed, so it takes no more messages");
	return rc;
}

/* A commit that is noted finds what a log misses by where that ended: local_commit.h. */
void partition_before_trim(struct partition *partition)
{
	commit_await(local_of(&partition->topic->object));
	if (atomic_load(&partition->marked))
		partition_sync(&partition->sync);
}

/* ---- removal ---- */

/* change */
static void set_frozen(struct topic *topic, bool frozen, bool dead)
{
	uint32_t partitions = atomic_load(&topic->partitions);

	for (uint32_t i = 0; i < partitions; i++) {
		struct partition *partition = topic_partition(topic, i);

		pthread_mutex_lock(&partition->lock);
		partition->frozen = frozen;
		partition->dead = dead;
		pthread_cond_broadcast(&partition->changed);
		pthread_mutex_unlock(&partition->lock);
	}
}

int topic_freeze(struct topic *topic)
{
	uint32_t partitions = atomic_load(&topic->partitions);
	int rc = 0;

	set_frozen(topic, true, false);
	for (uint32_t i = 0; i < partitions && rc == 0; i++) {
		struct engine_partition_stat stat;
		struct plog *plog;

		if (topic_partition(topic, i)->log_id == LOCAL_NO_LOG)
			continue;
		rc = partition_open_log(topic_partition(topic, i), &plog);
		if (rc < 0)
			break;
		plog_stat(plog, &stat);
		if (stat.earliest < stat.end)
			rc = -ENOTEMPTY;
	}
	if (rc < 0)
		topic_thaw(topic, false);
	return rc;
}

void topic_thaw(struct topic *topic, bool dead)
{
	set_frozen(topic, false, dead);
}

/* ---- sums ---- */

void topic_sum(struct topic *topic, struct engine_stat *stat)
{
	uint32_t partitions = atomic_load(&topic->partitions);
	int64_t changed_ms = atomic_load(&topic->changed_ms);

	topic_open_logs(topic, ENGINE_ANY);
	for (uint32_t i = 0; i < partitions; i++) {
		struct partition *partition = topic_partition(topic, i);
		struct plog *plog = atomic_load(&partition->plog);
		struct engine_partition_stat of;

		pthread_mutex_lock(&partition->lock);
		stat->published_total += partition->published_total;
		stat->published_bytes_total += partition->published_bytes_total;
		if (partition->produced_ms > stat->mtime_ms)
			stat->mtime_ms = partition->produced_ms;
		pthread_mutex_unlock(&partition->lock);
		if (plog == NULL)
			continue;
		plog_stat(plog, &of);
		stat->messages += of.end - of.earliest;
		stat->bytes += of.end_pos - of.start_pos;
		if (of.mtime_ms > stat->mtime_ms)
			stat->mtime_ms = of.mtime_ms;
	}
	if (changed_ms > stat->mtime_ms)
		stat->mtime_ms = changed_ms;
	stat->producers += atomic_load(&topic->producers);
	stat->deduplicated += atomic_load(&topic->dedup.dropped);
}
