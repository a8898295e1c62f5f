/*
 * local_settle - logs that were noted in the journal have their own files synced, before a checkpoint drops the notes.
 *
 * A log by itself takes two syncs of the disk. With thousands of logs in use that would be seconds of each half minute, so many
 * are synced together, by one syncfs(2). That writes what others have on the file system, too, which is why a few are not.
 *
 * syncfs tells of errors of any file since its descriptor was opened, and that is the store's own, opened before anything was written. This
 * holds from Linux 5.8, for the file systems listed here; elsewhere each log is synced. So is it after an error, to learn which
 * log has it. A file system may have nothing of its own to write after the data, and then not flush the cache of the disk: the
 * sync of a directory behind it always does. The journal goes first, since a log must not have what the journal knows nothing of (see plog.h, before_sync).
 *
 * `noted` of a log is taken away before, so that what is noted meanwhile, in the new file of the journal, is for the next checkpoint.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#include "engine/io.h"
#include "engine/local_queue.h"

struct log {
	struct sync_point *point;
	struct object *object; /* a reference */
	struct plog_tail to;
	bool together;
};

/* Logs that were noted. */
struct logs {
	struct log *list;
	size_t count, room;
};

static struct plog *plog_of(const struct log *log)
{
	return atomic_load(log->point->log);
}

/* ---- which ---- */

static int add(struct logs *logs, struct object *object, struct sync_point *point)
{
	if (!atomic_load(&point->noted) || atomic_load(point->log) == NULL)
		return 0;
	if (logs->count == logs->room) {
		size_t room = logs->room > 0 ? logs->room * 2 : 64;
		struct log *list = realloc(logs->list, room * sizeof(*list));

		if (list == NULL)
			return -ENOMEM;
		logs->list = list;
		logs->room = room;
	}
	atomic_store(&point->noted, false);
	object_ref(object);
	logs->list[logs->count++] = (struct log){ .point = point, .object = object };
	return 0;
}

static int add_queue(struct logs *logs, struct object *object)
{
	struct queue *queue = queue_of_object(object);
	int rc = 0;

	for (uint32_t p = 0; p < ENGINE_PRIORITIES && rc == 0; p++) {
		if (queue_lane(queue, p) != NULL)
			rc = add(logs, object, &queue_lane(queue, p)->sync);
	}
	return rc;
}

static int add_topic(struct logs *logs, struct object *object)
{
	struct topic *topic = topic_of_object(object);
	uint32_t partitions = atomic_load(&topic->partitions);
	int rc = 0;

	for (uint32_t i = 0; i < partitions && rc == 0; i++)
		rc = add(logs, object, &topic_partition(topic, i)->sync);
	return rc;
}

static int add_all(struct local *local, enum engine_kind kind, struct logs *logs)
{
	struct object *object;
	uint64_t after = 0;
	int rc = 0;

	while (rc == 0 && (object = registry_next(local, NULL, kind, after)) != NULL) {
		after = object->id;
		rc = kind == ENGINE_TOPIC ? add_topic(logs, object) : add_queue(logs, object);
		object_put(object);
	}
	return rc;
}

/* What is left is noted still. */
static void release(struct logs *logs, size_t done)
{
	for (size_t i = 0; i < logs->count; i++) {
		if (i >= done)
			atomic_store(&logs->list[i].point->noted, true);
		object_put(logs->list[i].object);
	}
	free(logs->list);
}

/* ---- together ---- */

/* Whether syncfs can be trusted here. */
static bool tells_errors(int dirfd)
{
	static const uint32_t magic[] = { 0xef53 /* ext4 */, 0x58465342 /* xfs */, 0x9123683e /* btrfs */ };
	unsigned int major, minor;
	struct utsname name;
	struct statfs fs;

	if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2 || fstatfs(dirfd, &fs) < 0)
		return false;
	for (size_t i = 0; i < sizeof(magic) / sizeof(magic[0]); i++) {
		if ((uint32_t)fs.f_type == magic[i])
			return major > 5 || (major == 5 && minor >= 8);
	}
	return false;
}

static int sync_one(struct sync_point *point)
{
	warm_touch(point->warm);
	return point->run(point);
}

static int sync_all(struct local *local)
{
	int rc = local->journal_sync.run(&local->journal_sync);

	if (rc == 0)
		rc = io->syncfs(local->store.dirfd);
	return rc == 0 ? io->fsync(local->store.dirfd) : rc;
}

/* If not all of it goes well, they are left to be synced one by one. */
static void sync_together(struct local *local, struct logs *logs)
{
	int rc;

	for (size_t i = 0; i < logs->count; i++)
		logs->list[i].together = plog_sync_begin(plog_of(&logs->list[i]), &logs->list[i].to) == 1;
	rc = sync_all(local);
	for (size_t i = 0; i < logs->count; i++) {
		struct log *log = &logs->list[i];

		if (log->together && rc == 0)
			warm_touch(log->point->warm); /* for the mark its files are opened */
		log->together = log->together && rc == 0 && plog_sync_end(plog_of(log), &log->to) == 0;
	}
}

int settle_run(struct local *local)
{
	struct logs logs = { 0 };
	size_t done = 0;
	int rc = add_all(local, ENGINE_TOPIC, &logs);

	if (rc == 0)
		rc = add_all(local, ENGINE_QUEUE, &logs);
	if (rc == 0 && logs.count >= LOCAL_SETTLE_TOGETHER && tells_errors(local->store.dirfd))
		sync_together(local, &logs);
	for (; rc == 0 && done < logs.count; done += rc == 0)
		rc = logs.list[done].together ? 0 : sync_one(logs.list[done].point);
	release(&logs, done);
	return rc;
}
