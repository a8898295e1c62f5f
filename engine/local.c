/*
 * local - the life of the embedded engine: opening a store, what it says of itself, closing.
 *
 * Opening takes the store's lock, opens the catalog, reads what there is (local_load.c), replays the journal, removes
 * what a crash left, and starts three threads: two that sync and one that keeps time. Closing goes the same way back,
 * and makes everything durable: first the logs, then the cursors that point into them.
 *
 * What goes wrong by itself (a disk, a log) is a fault: it is told once, and health goes on showing it until the
 * engine is opened anew, since nothing here repairs a disk. Damaged messages it shows as long as they are there (local_damage.c).
 */
#include "engine/local.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "engine/clock.h"
#include "engine/failpoint.h"
#include "engine/local_commit.h"
#include "engine/local_damage.h"
#include "engine/local_exchange.h"
#include "engine/local_member.h"
#include "engine/local_queue.h"
#include "engine/local_stage.h"
#include "engine/local_tx.h"
#include "engine/local_visible.h"

/* ---- what it says of itself ---- */

void local_notify(struct local *local, int err, const char *format, ...)
{
	char text[512];
	va_list args;

	if (local->notify.fn == NULL)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	local->notify.fn(local->notify.ctx, err, text);
}

void local_fault(struct local *local, int err, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	pthread_mutex_lock(&local->fault_lock);
	if (local->fault_count < LOCAL_FAULTS_MAX)
		local->faults[local->fault_count] = strdup(text); /* NULL: the count tells that there is one more */
	local->fault_count++;
	pthread_mutex_unlock(&local->fault_lock);
	local_notify(local, err, "%s", text);
}

/* Text that is cut off at the end of a buffer. */
struct report {
	char *buf;
	size_t size, used;
};

static void add_line(struct report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add_line(struct report *report, const char *format, ...)
{
	va_list args;
	int len;

	if (report->size == 0)
		return;
	va_start(args, format);
	len = vsnprintf(report->buf + report->used, report->size - report->used, format, args);
	va_end(args);
	report->used += (size_t)len;
	if (report->used >= report->size)
		report->used = report->size - 1;
}

/* Lines of as many as faults. */
struct damage_report {
	struct report lines;
	size_t count;
};

static void add_damage(void *ctx, const char *text)
{
	struct damage_report *damage = ctx;

	if (damage->count++ < LOCAL_FAULTS_MAX)
		add_line(&damage->lines, "reason %s\n", text);
}

static size_t local_health(struct engine *engine, char *buf, size_t size)
{
	struct local *local = (struct local *)engine;
	struct report report = { buf, size, 0 };
	bool full = reserve_is_used(local), failed = catalog_has_failed(local->catalog);
	struct damage_report damage = { 0 };
	size_t shown;

	if (size == 0)
		return 0;
	damage.lines.buf = malloc(size);
	damage.lines.size = damage.lines.buf != NULL ? size : 0;
	damage_each(local, add_damage, &damage);
	pthread_mutex_lock(&local->fault_lock);
	add_line(&report, "state %s\n",
	    local->read_only                                               ? "readonly"
	    : local->fault_count > 0 || full || failed || damage.count > 0 ? "degraded"
									   : "ok");
	if (local->read_only)
		add_line(&report, "reason opened read-only\n");
	if (failed)
		add_line(&report, "reason %s\n", CATALOG_FAILED);
	if (full)
		add_line(&report,
		    "reason the disk is full: the reserve for acks and deletes is in use, and messages are refused\n");
	shown = local->fault_count < LOCAL_FAULTS_MAX ? local->fault_count : LOCAL_FAULTS_MAX;
	for (size_t i = 0; i < shown; i++)
		add_line(&report, "reason %s\n", local->faults[i] != NULL ? local->faults[i] : "out of memory");
	if (local->fault_count > shown)
		add_line(&report, "reason and %zu more\n", local->fault_count - shown);
	pthread_mutex_unlock(&local->fault_lock);
	if (damage.lines.used > 0)
		add_line(&report, "%s", damage.lines.buf);
	if (damage.count > LOCAL_FAULTS_MAX)
		add_line(&report, "reason and %zu more with damage\n", damage.count - LOCAL_FAULTS_MAX);
	free(damage.lines.buf);
	return report.used;
}

static int local_space(struct engine *engine, uint64_t *ret_total, uint64_t *ret_free)
{
	struct local *local = (struct local *)engine;
	struct statvfs vfs;

	engine_reason_clear();
	if (fstatvfs(local->store.dirfd, &vfs) < 0)
		return -errno;
	*ret_total = (uint64_t)vfs.f_blocks * vfs.f_frsize;
	*ret_free = (uint64_t)vfs.f_bavail * vfs.f_frsize;
	return 0;
}

static int local_room(struct engine *engine, uint64_t bytes)
{
	struct local *local = (struct local *)engine;
	int rc;

	engine_reason_clear();
	rc = reserve_check(local);
	if (rc == 0 && !reserve_leaves(local, bytes, 0))
		rc = engine_explain(-ENOSPC, "the disk is full");
	if (rc == -ENOSPC)
		checkpoint_hurry(local);
	return rc;
}

/* ---- the journal's syncs ---- */

static int sync_journal(struct sync_point *point)
{
	struct local *local = (struct local *)((char *)point - offsetof(struct local, journal_sync));
	int rc = journal_sync(local->journal);

	if (rc < 0 && !atomic_exchange(&local->journal_failed, true))
		local_fault(local, -rc, "a sync of the journal failed, so acks are refused: %s", strerror(-rc));
	return rc;
}

/* ---- closing ---- */

static int close_logs(struct local *local)
{
	int rc = 0, closed;

	for (size_t i = 0; i < local->objects.count; i++) {
		if (local->objects.items[i]->kind == ENGINE_QUEUE)
			closed = queue_close_logs(queue_of_object(local->objects.items[i]));
		else if (local->objects.items[i]->kind == ENGINE_TOPIC)
			closed = topic_close_logs(topic_of_object(local->objects.items[i]));
		else
			continue;
		if (rc == 0)
			rc = closed;
	}
	return rc;
}

static void release_memory(struct local *local)
{
	registry_clear(local);
	for (size_t kind = 0; kind < ENGINE_KIND_COUNT; kind++)
		object_put(local->defaults[kind]);
	for (size_t i = 0; i < LOCAL_FAULTS_MAX; i++)
		free(local->faults[i]);
	reserve_release(&local->reserve);
	settings_free_texts(local);
	queue_forget_moves(local);
	queue_forget_placed(local);
	notes_forget(local);
	ends_forget(local);
	commit_forget(local);
	commit_forget_marks(local);
	timers_release(&local->timers);
	cleaner_release(&local->cleaner);
	pthread_mutex_destroy(&local->unmoved.lock);
	pthread_mutex_destroy(&local->texts.lock);
	pthread_mutex_destroy(&local->ids.lock);
	pthread_mutex_destroy(&local->ended_lock);
	pthread_cond_destroy(&local->flusher.wanted);
	pthread_mutex_destroy(&local->flusher.lock);
	pthread_mutex_destroy(&local->fault_lock);
	warm_stop(local);
	pthread_mutex_destroy(&local->checkpoint_lock);
	pthread_rwlock_destroy(&local->registry);
	pthread_rwlock_destroy(&local->routes);
	visible_release(local);
	pthread_rwlock_destroy(&local->commits.running);
	pthread_mutex_destroy(&local->commits.lock);
	pthread_cond_destroy(&local->together.changed);
	pthread_mutex_destroy(&local->together.lock);
	pthread_mutex_destroy(&local->commits.begin_lock);
	free(local);
}

/* Also of an engine that was not opened to the end: what was not made is NULL. */
static int local_close(struct engine *engine)
{
	struct local *local = (struct local *)engine;
	int rc, failed;

	if (local == NULL)
		return 0;
	stages_stop(local);
	timers_stop(local);
	cleaner_stop(local);
	flusher_stop(local);
	if (local->journal != NULL)
		journal_sync(local->journal); /* before logs that rely on it; the checkpoint tells if that failed */
	rc = close_logs(local);
	local->logs_closed = true;
	failed = local->opened ? checkpoint_run(local) : 0; /* else not all of the journal may have been done */
	if (rc == 0)
		rc = failed;
	failed = journal_close(local->journal);
	if (rc == 0)
		rc = failed;
	local->journal = NULL;
	stages_release(local);
	timer_release(local, &local->checkpoint_timer);
	timer_release(local, &local->idle_timer);
	timer_release(local, &local->sweep_timer);
	timer_release(local, &local->dedup_timer);
	timer_release(local, &local->reserve.timer);
	catalog_close(local->catalog);
	store_close(&local->store);
	release_memory(local);
	return rc;
}

/* ---- opening ---- */

static const struct engine_ops local_ops = {
	.name = "local",
	.close = local_close,
	.health = local_health,
	.space = local_space,
	.room = local_room,
	.give_files = local_give_files,
	.create = look_create,
	.lookup = local_lookup,
	.get = local_get,
	.ref = local_ref,
	.put = local_put,
	.defaults = local_defaults,
	.remove = look_remove,
	.rename = look_rename,
	.list = local_list,
	.identity = local_identity,
	.stat = look_stat,
	.get_owner = local_get_owner,
	.set_owner = local_set_owner,
	.get_setting = local_get_setting,
	.set_setting = look_set_setting,
	.partition_stat = look_partition_stat,
	.partition_read = look_partition_read,
	.partition_pread = look_partition_pread,
	.partition_find_time = look_partition_find_time,
	.partition_purge = look_partition_purge,
	.key_find = look_key_find,
	.key_list = look_key_list,
	.producer_open = local_producer_open,
	.producer_send = local_producer_send,
	.producer_sync = local_producer_sync,
	.producer_close = local_producer_close,
	.consumer_open = look_consumer_open,
	.consumer_fetch = look_consumer_fetch,
	.consumer_rewind = look_consumer_rewind,
	.consumer_arm = look_consumer_arm,
	.consumer_disarm = local_consumer_disarm,
	.consumer_close = look_consumer_close,
	.ack_all = look_ack_all,
	.ack = look_ack,
	.seek = look_seek,
	.cursor_stat = look_cursor_stat,
	.group_sync = local_group_sync,
	.queue = &look_queue_ops,
	.member = &look_member_ops,
	.exchange = &look_exchange_ops,
	.tx = &local_tx_ops,
	.stage = &local_stage_ops,
};

/* Who wants it alone does not wait until all others happen to pause. No thread takes it twice. */
static void init_shared(pthread_rwlock_t *lock)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(lock, &attr);
	pthread_rwlockattr_destroy(&attr);
}

static struct local *new_local(const struct engine_options *options)
{
	struct local *local = calloc(1, sizeof(*local));

	if (local == NULL)
		return NULL;
	local->base.ops = &local_ops;
	local->notify = options->notify;
	local->users = options->users;
	local->read_only = options->read_only;
	local->remake_logs = options->remake_logs;
	local->store = (struct store){ -1, -1, -1, -1, -1, { 0 }, options->read_only };
	warm_start(local);
	local->journal_sync.run = sync_journal;
	atomic_init(&local->queues_due_ms, INT64_MAX);
	local->wall_base_ms = clock_wall_ms() - clock_mono_ms();
	pthread_mutex_init(&local->ids.lock, NULL);
	pthread_mutex_init(&local->ended_lock, NULL);
	pthread_mutex_init(&local->texts.lock, NULL);
	pthread_mutex_init(&local->unmoved.lock, NULL);
	pthread_rwlock_init(&local->registry, NULL);
	visible_init(local);
	init_shared(&local->routes);
	init_shared(&local->commits.running);
	pthread_mutex_init(&local->commits.lock, NULL);
	pthread_mutex_init(&local->together.lock, NULL);
	pthread_cond_init(&local->together.changed, NULL);
	local->together.tail = &local->together.head;
	pthread_mutex_init(&local->commits.begin_lock, NULL);
	local->commits.from = UINT64_MAX;
	pthread_mutex_init(&local->checkpoint_lock, NULL);
	pthread_mutex_init(&local->fault_lock, NULL);
	pthread_mutex_init(&local->flusher.lock, NULL);
	pthread_cond_init(&local->flusher.wanted, NULL);
	local->flusher.tail = &local->flusher.head;
	timers_init(&local->timers);
	cleaner_init(&local->cleaner);
	reserve_init(&local->reserve);
	return local;
}

static int make_object(struct local *local, enum engine_kind kind, uint64_t id, struct object **ret_object)
{
	struct object *object = calloc(1, sizeof(*object));
	int rc;

	if (object == NULL)
		return -ENOMEM;
	object_init(local, object, kind, id, NULL);
	object->is_defaults = id == 0;
	rc = settings_init(object, NULL);
	if (rc == 0 && id != 0)
		rc = registry_add(local, object);
	if (rc < 0)
		object_put(object);
	else
		*ret_object = object;
	return rc;
}

/* The defaults of every kind, and the top. */
static int make_first_objects(struct local *local)
{
	int rc = settings_bind(local);

	for (unsigned int kind = 0; kind < ENGINE_KIND_COUNT && rc == 0; kind++)
		rc = make_object(local, (enum engine_kind)kind, 0, &local->defaults[kind]);
	if (rc == 0)
		rc = make_object(local, ENGINE_STORE, ENGINE_ROOT_ID, &local->root);
	return rc;
}

/* Begins a file, which a full disk must not prevent. To replay the journal twice does no harm. */
static int open_journal(struct local *local)
{
	struct replaying replaying = { local, PLOG_REDO_INIT };
	bool again = false;
	int rc = catalog_journal(local->catalog, &local->journal_from);

	if (rc < 0)
		return rc;
	local->journal_noted = local->journal_from > 0;
	do
		rc = journal_open(local->store.journal_dirfd, local->store.uuid, local->read_only, local->journal_from,
		    local->notify, checkpoint_replay, &replaying, &local->journal);
	while (reserve_again(local, rc, &again));
	plog_redo_close(&replaying.redo);
	if (rc == 0)
		ends_apply(local);
	return rc;
}

static int open_catalog(struct local *local)
{
	int rc = catalog_open(local->store.dirfd, local->read_only, &local->catalog);
	struct catalog_copied copied;
	char reason[200];

	if (rc == 0)
		rc = catalog_claim(local->catalog, local->store.uuid);
	if (rc != -EUCLEAN && rc != -ENOENT)
		return rc;
	snprintf(reason, sizeof(reason), "%s", engine_reason());
	if (catalog_check_newer(local->store.dirfd) == 0 && catalog_look_at_copy(local->store.dirfd, &copied) == 0)
		return engine_explain(rc, "%s; fsck.mqfs -y makes it anew from its copy", reason);
	return engine_explain(rc, "%s", reason);
}

/* What there is, as the daemon before this one left it. */
static int recover(struct local *local)
{
	int rc = reserve_open(local);

	if (rc == 0)
		rc = open_catalog(local);
	if (rc < 0)
		return rc;
	catalog_set_notify(local->catalog, local->notify);
	rc = make_first_objects(local);
	if (rc == 0)
		rc = local_load(local);
	if (rc == 0)
		rc = stages_init(local);
	if (rc == 0)
		rc = open_journal(local);
	if (rc == 0 && !local->read_only)
		rc = queue_go_on(local);
	if (rc == 0)
		rc = commit_find_marks(local);
	if (rc == 0 && !local->read_only)
		rc = tx_recover(local); /* before a queue is opened, which takes back what is leased */
	if (rc == 0)
		members_join_all(local);
	if (rc == 0)
		rc = local_look_at_logs(local);
	if (rc == 0 && !local->read_only)
		rc = local_make_missing_dlqs(local);
	if (rc == 0 && !local->read_only)
		rc = queue_finish_moves(local);
	if (rc == 0 && !local->read_only)
		rc = tx_recover_rest(local);
	if (rc == 0 && !local->read_only)
		rc = commit_finish(local);
	if (rc == 0 && !local->read_only)
		commit_open_all(local);
	queue_forget_placed(local);
	if (rc == 0 && local->recovered_moves)
		rc = FAILPOINT("recover_before_checkpoint");
	if (rc == 0 && local->recovered_moves && !atomic_load(&local->commits.stuck))
		rc = checkpoint_run(local);
	if (rc == 0 && !local->read_only)
		checkpoint_keep_copy(local);
	if (rc < 0 && rc != -ENOMEM && engine_reason()[0] == '\0' && catalog_damaged(local->catalog) > 0)
		rc = engine_explain(
		    -EUCLEAN, "the catalog has damaged rows, and the store does not open without: %s", strerror(-rc));
	return rc;
}

static int start(struct local *local)
{
	struct object *queue;
	uint64_t after = 0;
	int rc = upkeep_start(local);

	while (rc == 0 && (queue = registry_next(local, NULL, ENGINE_QUEUE, after)) != NULL) {
		after = queue->id;
		queue_open_soon(queue_of_object(queue));
		if (queue->parent->kind == ENGINE_QUEUE && queue_forwards(queue_of_object(queue->parent)))
			queue_forward_soon(queue_of_object(queue));
		object_put(queue);
	}
	if (rc == 0)
		rc = flusher_start(local);
	if (rc == 0)
		rc = timers_start(local);
	if (rc == 0)
		rc = cleaner_start(local);
	if (rc == 0)
		rc = stages_start(local);
	return rc;
}

static int open_store(const char *path, const struct engine_options *options, struct local **ret_local)
{
	struct local *local = new_local(options);
	int rc;

	if (local == NULL)
		return -ENOMEM;
	rc = store_open(path, options->create, options->read_only, &options->root_owner, &local->store);
	if (rc < 0) {
		release_memory(local);
		return rc;
	}
	rc = recover(local);
	if (rc == 0)
		rc = start(local);
	if (rc < 0) {
		local_close(&local->base);
		return rc;
	}
	local->opened = true;
	*ret_local = local;
	return 0;
}

/* Puts right what a crash left, as file systems do that are mounted read-only. EROFS: it cannot be written. */
static int put_right(const char *path, const struct engine_options *options)
{
	struct engine_options writing = *options;
	struct local *local;
	int rc;

	writing.read_only = writing.create = false;
	rc = open_store(path, &writing, &local);
	if (rc == 0)
		rc = local_close(&local->base);
	if (rc == -EROFS || rc == -EACCES || rc == -EPERM)
		return engine_explain(-EROFS, "the store was not closed, and cannot be written, to be put right: mount "
					      "it read-write once, or run "
					      "fsck.mqfs");
	return rc;
}

int engine_local_open(const char *path, const struct engine_options *options, struct engine **ret_engine)
{
	struct local *local;
	int rc;

	engine_reason_clear();
	rc = open_store(path, options, &local);
	if (rc == 0 && options->read_only && (local->replayed_some || stages_are_left(local))) {
		local_close(&local->base);
		rc = put_right(path, options);
		if (rc == 0)
			rc = open_store(path, options, &local);
	}
	if (rc < 0)
		return rc;
	*ret_engine = &local->base;
	return 0;
}
