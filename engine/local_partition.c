/*
 * local_partition - the calls of engine.h on one partition of a topic: each finds it, opens its log if nobody has, and
 * asks it.
 */
#include <errno.h>
#include <inttypes.h>

#include "engine/clock.h"
#include "engine/local_stage.h"

/* The log of a partition for a call on the topic. */
static int enter(struct engine_object *base, uint32_t index, struct partition **ret_partition, struct plog **ret_plog)
{
	struct object *object = NULL;
	struct partition *partition = NULL;
	int rc = object_enter(base, ENGINE_TOPIC, &object);

	if (rc == 0)
		rc = topic_find(topic_of_object(object), index, &partition);
	if (rc == 0)
		stages_take(&partition->topic->object);
	if (rc == 0)
		rc = partition_open_log(partition, ret_plog);
	if (rc == 0)
		*ret_partition = partition;
	return rc;
}

int local_partition_stat(struct engine_object *base, uint32_t index, struct engine_partition_stat *ret_stat)
{
	struct partition *partition;
	struct plog *plog;
	int rc = enter(base, index, &partition, &plog);

	if (rc < 0)
		return rc;
	plog_stat(plog, ret_stat);
	return 0;
}

int local_partition_read(struct engine_object *base, uint32_t index, uint64_t offset, uint32_t max_count,
    struct engine_scratch *scratch, struct engine_view *ret_view)
{
	struct engine_view view = { 0 };
	struct partition *partition;
	struct plog *plog;
	int rc = enter(base, index, &partition, &plog);

	if (rc < 0)
		return rc;
	rc = plog_read(plog, offset, max_count > 0 ? max_count : 1, scratch, &view);
	if (rc < 0 && (rc != -EIO || view.batch.count == 0))
		return rc;
	view.partition = index;
	*ret_view = view; /* a damaged batch too: its offset and count tell how to go past it */
	return rc;
}

ssize_t local_partition_pread(struct engine_object *base, uint32_t index, uint64_t pos, void *buf, size_t size)
{
	struct partition *partition;
	struct plog *plog;
	int rc = enter(base, index, &partition, &plog);

	return rc < 0 ? rc : plog_pread(plog, pos, buf, size);
}

int local_partition_find_time(struct engine_object *base, uint32_t index, int64_t ts_ms, uint64_t *ret_offset)
{
	struct partition *partition;
	struct plog *plog;
	int rc = enter(base, index, &partition, &plog);

	return rc < 0 ? rc : plog_find_time(plog, ts_ms, ret_offset);
}

/* ---- purging ---- */

/* A purge is what somebody wanted, so groups do not count it as lost: they look at purged first. */
static void raise_purged(struct partition *partition, uint64_t before)
{
	uint64_t purged = atomic_load(&partition->purged);

	while (purged < before && !atomic_compare_exchange_weak(&partition->purged, &purged, before))
		;
}

static int purge_one(struct topic *topic, uint32_t index, uint64_t before)
{
	struct partition *partition = topic_partition(topic, index);
	struct engine_partition_stat stat;
	struct plog *plog;
	bool again = false;
	int rc = partition_open_log(partition, &plog);

	if (rc < 0)
		return rc;
	plog_stat(plog, &stat);
	if (before == ENGINE_OFFSET_NONE)
		before = stat.end;
	if (before > stat.end)
		return engine_explain(
		    -ERANGE, "offset %" PRIu64 " is beyond the end, which is %" PRIu64, before, stat.end);
	if (before <= stat.earliest)
		return 0;
	raise_purged(partition, before);
	partition_before_trim(partition);
	do
		rc = plog_trim(plog, before);
	while (reserve_again(local_of(&topic->object), rc, &again));
	/* Retention may have been there first, which has done what was asked. */
	if (rc == -ESTALE)
		rc = 0;
	if (rc == 0)
		topic_clamp_groups(topic, index);
	return rc;
}

int local_partition_purge(struct engine_object *base, uint32_t index, uint64_t before)
{
	struct object *object = NULL;
	struct partition *partition;
	struct topic *topic;
	uint32_t partitions;
	int rc = object_enter_change(base, ENGINE_TOPIC, &object);

	if (rc < 0)
		return rc;
	topic = topic_of_object(object);
	stages_take(&topic->object);
	if (index == ENGINE_ANY && before != ENGINE_OFFSET_NONE)
		return engine_explain(-EINVAL, "an offset is of one partition");
	if (index != ENGINE_ANY) {
		rc = topic_find(topic, index, &partition);
		if (rc == 0)
			rc = purge_one(topic, index, before);
	} else {
		partitions = atomic_load(&topic->partitions);
		for (uint32_t i = 0; i < partitions && rc == 0; i++)
			rc = purge_one(topic, i, before);
	}
	if (rc == 0)
		atomic_store(&topic->changed_ms, clock_wall_ms());
	return rc;
}
