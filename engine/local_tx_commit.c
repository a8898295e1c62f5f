/*
 * local_tx_commit - all of a transaction, or nothing.
 *
 * Before the moment: what it consumes is brought to disk, if it produces something (else the machine could die, keep what was
 * made of a message, and lose the ack with it), and what was staged is read. Then, alone (local_visible.h), and together with others
 * that are committed at that time (local_tx_together.c): everything is looked at again and room is claimed, the note is written and
 * synced, and it is carried out. Up to the sync nothing has happened, and whatever is refused leaves all as it was. From then on it has
 * happened, and what cannot be carried out now the next start does.
 */
#include "engine/local_tx_commit.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/crc32c.h"
#include "engine/failpoint.h"
#include "engine/local_exchange.h"
#include "engine/local_member.h"

#define TRIM_BYTES (4u << 20)

struct tx_loaded {
	uint8_t *bytes;
	struct packed_batch packed;
	struct exchange *exchange; /* it goes through; a reference. NULL: none, or that was not asked yet */
	uint64_t targets;          /* it goes to by that */
};

static void work_release(struct tx_work *work)
{
	commit_release(&work->commit);
	for (size_t i = 0; i < work->loaded_count; i++) {
		if (work->loaded[i].exchange != NULL)
			object_put(&work->loaded[i].exchange->object);
		packed_release(&work->loaded[i].packed);
		free(work->loaded[i].bytes);
	}
	free(work->loaded);
	free(work->tail);
}

/* ---- before ---- */

/* Logs that something comes from, and that have it not on disk. */
struct sources {
	struct sync_point **points;
	struct object **held; /* a reference for each */
	size_t count, room;
};

static int add_source(struct sources *sources, struct sync_point *point, struct object *object)
{
	size_t room = sources->room * 2 + 4;
	struct sync_point **points;
	struct object **held;

	for (size_t i = 0; i < sources->count; i++) {
		if (sources->points[i] == point)
			return 0;
	}
	if (sources->count == sources->room) {
		points = realloc(sources->points, room * sizeof(struct sync_point *));
		if (points != NULL)
			sources->points = points;
		held = realloc(sources->held, room * sizeof(struct object *));
		if (held != NULL)
			sources->held = held;
		if (points == NULL || held == NULL)
			return -ENOMEM;
		sources->room = room;
	}
	sources->points[sources->count] = point;
	sources->held[sources->count++] = object_ref(object);
	return 0;
}

static int add_lane(struct local *local, struct sources *sources, const struct staged_settle *settle)
{
	struct object *object = registry_get(local, settle->queue);
	struct engine_partition_stat stat;
	struct lane *lane;
	int rc = 0;

	if (object == NULL)
		return 0; /* it will be found out */
	lane = queue_lane(queue_of_object(object), TX_PRIORITY(settle->place));
	assert(lane != NULL && atomic_load(&lane->plog) != NULL); /* it was given from there */
	plog_stat(atomic_load(&lane->plog), &stat);
	if (stat.synced <= TX_OFFSET(settle->place))
		rc = add_source(sources, &lane->sync, object);
	object_put(object);
	return rc;
}

static int add_partition(struct local *local, struct sources *sources, const struct staged_cursor *cursor)
{
	struct object *object = registry_get(local, cursor->group);
	struct engine_partition_stat stat;
	struct partition *partition;
	struct plog *plog;
	int rc;

	if (object == NULL)
		return 0;
	partition = topic_partition(group_topic(group_of_object(object)), cursor->partition);
	rc = partition_open_log(partition, &plog);
	if (rc == 0) {
		plog_stat(plog, &stat);
		if (stat.synced < cursor->offset)
			rc = add_source(sources, &partition->sync, &partition->topic->object);
	}
	object_put(object);
	return rc;
}

/* One sync for all of them, and for whoever else waits for one. */
static int sync_sources(struct tx_work *work)
{
	const struct staged *staged = &work->tx->staged;
	struct sources sources = { 0 };
	int rc = 0;

	if (staged->send_count == 0)
		return 0;
	for (size_t i = 0; i < staged->settle_count && rc == 0; i++)
		rc = add_lane(work->local, &sources, &staged->settles[i]);
	for (size_t i = 0; i < staged->cursor_count && rc == 0; i++)
		rc = add_partition(work->local, &sources, &staged->cursors[i]);
	if (rc == 0)
		rc = flusher_run(work->local, sources.points, sources.count);
	for (size_t i = 0; i < sources.count; i++)
		object_put(sources.held[i]);
	free(sources.held);
	free(sources.points);
	return rc;
}

static void mark_ids(struct tx_work *work, const struct packed_batch *packed)
{
	for (uint32_t i = 0; i < packed->batch.count; i++) {
		struct engine_span id = packed->props[i].id;
		uint32_t bit = id.ptr != NULL ? crc32c(0, id.ptr, id.len) % TX_ID_BITS : 0;

		if (id.ptr != NULL)
			work->ids[bit / 64] |= UINT64_C(1) << bit % 64;
	}
}

static int load(struct tx_work *work)
{
	const struct staged *staged = &work->tx->staged;
	int rc = 0;

	work->loaded = calloc(staged->send_count + 1, sizeof(*work->loaded));
	if (work->loaded == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < staged->send_count && rc == 0; i++) {
		struct tx_loaded *loaded = &work->loaded[i];

		rc = staged_read(staged, &staged->sends[i], work->ts_ms, &loaded->bytes, &loaded->packed);
		work->loaded_count += rc == 0;
		if (rc == 0)
			mark_ids(work, &loaded->packed);
	}
	if (rc == 0)
		rc = tx_note_make(work->tx, work->ts_ms, &work->tail, &work->commit.tail_size);
	work->commit.tail = work->tail;
	return rc;
}

/* ---- looking again; alone ---- */

static struct queue_lease lease_of(const struct staged_settle *settle)
{
	return (
	    struct queue_lease){ settle->id, TX_PRIORITY(settle->place), TX_OFFSET(settle->place), settle->deliveries };
}

static int check_settle(struct local *local, const struct staged_settle *settle)
{
	const struct queue_lease lease = lease_of(settle);
	struct object *object = registry_get(local, settle->queue);
	bool has = false;

	if (object != NULL) {
		pthread_mutex_lock(&queue_of_object(object)->lock);
		has = queue_has_lease(queue_of_object(object), settle->consumer, &lease);
		pthread_mutex_unlock(&queue_of_object(object)->lock);
		object_put(object);
	}
	if (has)
		return 0;
	return engine_explain(-ESTALE,
	    "message %" PRIu64 " is not leased to its consumer any more, or was settled elsewhere", settle->id);
}

/* group.lock */
static int check_ack(struct group *group, const struct member *member, const struct staged_cursor *staged)
{
	uint64_t earliest, end;
	const struct cursor *cursor = cursor_refresh(group, staged->partition, &earliest, &end);

	if (member_may_ack(group, member, staged->partition) < 0)
		return engine_explain(-ESTALE, "partition %" PRIu32 " is another member's now", staged->partition);
	if (cursor->committed >= staged->offset)
		return engine_explain(-ESTALE, "partition %" PRIu32 " was committed up to %" PRIu64 " elsewhere",
		    staged->partition, cursor->committed);
	if (cursor->given < staged->offset)
		return engine_explain(
		    -ESTALE, "what was given of partition %" PRIu32 " was taken back", staged->partition);
	return 0;
}

static int check_cursor(struct tx_work *work, const struct staged_cursor *staged)
{
	struct object *object = registry_get(work->local, staged->group), *member = NULL;
	int rc = object != NULL ? 0 : staged_gone(&work->tx->staged, staged_owner(staged));

	if (rc == 0 && staged->member != 0) {
		member = registry_get(work->local, staged->member);
		rc = member != NULL ? 0 : engine_explain(-ESTALE, "the member is gone");
	}
	if (rc == 0)
		topic_open_logs(group_topic(group_of_object(object)), staged->partition);
	if (rc == 0)
		rc = group_lock(group_of_object(object));
	if (rc == 0) {
		if (!staged->seek)
			rc = check_ack(
			    group_of_object(object), member != NULL ? member_of_object(member) : NULL, staged);
		group_unlock(group_of_object(object));
	}
	object_put(member);
	object_put(object);
	return rc;
}

static int check_all(struct tx_work *work)
{
	const struct staged *staged = &work->tx->staged;
	int rc = 0;

	for (size_t i = 0; i < staged->settle_count && rc == 0; i++)
		rc = check_settle(work->local, &staged->settles[i]);
	for (size_t i = 0; i < staged->cursor_count && rc == 0; i++)
		rc = check_cursor(work, &staged->cursors[i]);
	return rc;
}

/* ---- where it goes ---- */

/* All messages of the batch go the same way: see stage() in local_tx_stage.c. routes */
static int add_routed(struct tx_work *work, struct exchange *exchange, struct tx_loaded *loaded)
{
	const struct engine_props *props = &loaded->packed.props[0];
	struct routing_match match = { 0 };
	struct commit_part *part = NULL;
	int rc = exchange_route(exchange, props->routing_key, props->headers, props->header_count, &match);

	object_ref(&exchange->object);
	loaded->exchange = exchange;
	loaded->targets = match.count;
	if (rc == 0)
		rc = exchange_check_routed(exchange, &match, props->routing_key);
	if (rc == 0 && match.count > 0)
		rc = commit_add_part(&work->commit, &loaded->packed.batch, loaded->packed.props, &part);
	for (size_t i = 0; i < match.count && rc == 0; i++) {
		struct object *target = registry_get(work->local, match.targets[i]); /* what is bound is not removed */

		rc = commit_add_target(part, target, false);
		object_put(target);
	}
	routing_match_release(&match);
	return rc;
}

static int add_send(struct tx_work *work, const struct staged_send *send, struct tx_loaded *loaded)
{
	struct packed_batch *packed = &loaded->packed;
	struct object *target = registry_get(work->local, send->target);
	struct commit_part *part = NULL;
	int rc;

	if (target == NULL)
		return staged_gone(&work->tx->staged, send->target);
	for (uint32_t i = 0; i < packed->batch.count; i++)
		packed->props[i].partition = send->partition;
	if (target->kind == ENGINE_EXCHANGE) {
		rc = add_routed(work, exchange_of_object(target), loaded);
	} else {
		rc = commit_add_part(&work->commit, &packed->batch, packed->props, &part);
		if (rc == 0) {
			part->again = send->again;
			rc = commit_add_target(part, target, send->head);
		}
	}
	object_put(target);
	return rc;
}

static int claim(struct tx_work *work)
{
	const struct staged *staged = &work->tx->staged;
	int rc = 0;

	for (size_t i = 0; i < staged->send_count && rc == 0; i++)
		rc = add_send(work, &staged->sends[i], &work->loaded[i]);
	return rc == 0 ? commit_claim(&work->commit) : rc;
}

/* ---- carrying out: alone still, so that nothing goes that was looked at ---- */

static int do_settle(struct local *local, const struct staged_settle *settle)
{
	const struct queue_lease lease = lease_of(settle);
	struct object *object = registry_get(local, settle->queue);
	struct queue *queue = queue_of_object(object), *target;
	struct wake_list wake = { 0 };
	int rc;

	assert(object != NULL);
	target = settle->how != ENGINE_ACK ? queue_dead_target(queue) : NULL;
	rc = queue_lock_both(queue, target);
	assert(rc == 0);
	rc = queue_settle_lease(queue, &lease, settle->how, target, &wake);
	queue_unlock_both(queue, target);
	wake_run(&wake);
	if (settle->how == ENGINE_NACK)
		queue_enforce_length(queue);
	if (target != NULL) {
		queue_enforce_length(target);
		object_put(&target->object);
	}
	object_put(object);
	return rc;
}

static int do_cursor(struct local *local, const struct staged_cursor *staged)
{
	struct object *object = registry_get(local, staged->group);
	struct group *group = group_of_object(object);
	uint64_t earliest, end;
	int rc;

	assert(object != NULL);
	rc = group_lock(group);
	assert(rc == 0);
	cursor_refresh(group, staged->partition, &earliest, &end);
	if (staged->seek)
		rc = cursor_put(group, staged->partition, staged->offset > earliest ? staged->offset : earliest);
	else
		rc = cursor_commit(group, staged->partition, staged->offset);
	if (rc > 0)
		group_advance_turn(group);
	group_unlock(group);
	if (staged->seek)
		topic_wake(group_topic(group), group);
	object_put(object);
	return rc < 0 ? rc : 0;
}

void tx_carry_out(struct tx_work *work)
{
	const struct staged *staged = &work->tx->staged;
	struct local *local = work->local;
	int rc = commit_send(&work->commit), done = 0;
	unsigned int tries = 0;

	for (size_t i = 0; i < staged->settle_count; i++) {
		do
			done = do_settle(local, &staged->settles[i]);
		while (memory_again(done, &tries));
		rc = rc < 0 ? rc : done;
	}
	for (size_t i = 0; i < staged->cursor_count; i++) {
		do
			done = do_cursor(local, &staged->cursors[i]);
		while (memory_again(done, &tries));
		rc = rc < 0 ? rc : done;
	}
	if (rc == 0)
		return;
	atomic_store(&local->commits.stuck, true); /* the note stays until the next start has done it */
	local_fault(local, -rc,
	    "a transaction that is committed could not be carried out; the next start does that: %s", strerror(-rc));
}

static int sync_object(struct object *object)
{
	struct partition *partition;
	struct lane *lane;
	int rc = 0;

	for (uint32_t i = 0; object->kind == ENGINE_TOPIC && rc == 0; i++) {
		if (topic_find(topic_of_object(object), i, &partition) < 0)
			break;
		rc = partition->sync.run(&partition->sync);
	}
	for (uint32_t p = 0; object->kind == ENGINE_QUEUE && p < ENGINE_PRIORITIES && rc == 0; p++) {
		lane = queue_lane(queue_of_object(object), p);
		rc = lane != NULL ? lane->sync.run(&lane->sync) : 0;
	}
	return rc;
}

/* What a target has seen already, it has in a log: the commit says that it is on disk. */
static int sync_seen(const struct commit *commit)
{
	int rc = 0;

	for (uint32_t i = 0; i < commit->part_count; i++) {
		const struct commit_part *part = &commit->parts[i];

		for (uint32_t t = 0; t < part->claimed && rc == 0; t++) {
			if (part->targets[t].dedup.pass.dropped > 0)
				rc = sync_object(part->targets[t].object);
		}
	}
	return rc;
}

int tx_claim(struct tx_work *work)
{
	int rc = check_all(work);

	if (rc == 0)
		rc = claim(work);
	if (rc == 0)
		rc = sync_seen(&work->commit);
	if (rc < 0)
		commit_release(&work->commit);
	return rc;
}

int tx_note(struct tx_work *work)
{
	int rc = FAILPOINT("tx_before_note");

	commit_find_ends(&work->commit);
	if (rc == 0)
		rc = commit_note(&work->commit, true);
	if (rc < 0)
		commit_release(&work->commit);
	return rc;
}

/* As publishing outside of a transaction does. */
static void count_published(const struct tx_work *work, int rc)
{
	for (size_t i = 0; i < work->loaded_count; i++) {
		const struct tx_loaded *loaded = &work->loaded[i];

		if (loaded->exchange != NULL)
			exchange_count(loaded->exchange, loaded->packed.batch.count,
			    loaded->packed.batch.count * loaded->targets,
			    loaded->targets == 0 ? loaded->packed.batch.count : 0, rc);
	}
}

/* tx.lock */
static int commit(struct tx *tx)
{
	struct tx_work work = { .tx = tx, .local = local_of(&tx->object), .ts_ms = clock_wall_ms() };
	int rc;

	commit_init(&work.commit, work.local);
	rc = sync_sources(&work);
	if (rc == 0)
		rc = load(&work);
	if (rc == 0)
		rc = tx_commit_together(&work);
	count_published(&work, rc);
	if (rc == -ENOSPC)
		checkpoint_hurry(work.local);
	work_release(&work);
	if (tx->staged.message_bytes > TRIM_BYTES)
		malloc_trim(0); /* a large one is rare, and its memory would stay with the process */
	if (rc == 0)
		tx_end(tx, ENGINE_TX_COMMITTED, ENGINE_TX_NOT);
	else if (rc == -ESTALE || rc == -EIDRM || work.uncertain)
		tx_end(tx, ENGINE_TX_ABORTED, ENGINE_TX_REFUSED);
	if (work.uncertain) {
		tx->uncertain = true;
		tx->dirty = false; /* the journal says it, at the next start */
		return engine_explain(
		    -EIO, "the journal could not be synced: what came of it shows after the next start");
	}
	return rc;
}

int tx_commit(struct engine_object *base)
{
	struct tx *tx = NULL;
	int rc = tx_enter(base, &tx);

	if (rc < 0)
		return rc;
	if (tx->uncertain)
		rc = engine_explain(-EIO, "the sync of its commit failed; what came of it shows after the next start");
	else if (local_of(&tx->object)->read_only)
		rc = engine_explain(-EROFS, "the store is mounted read-only");
	else if (tx->state == ENGINE_TX_ABORTED)
		rc = tx_refuse(tx);
	else if (tx->state == ENGINE_TX_OPEN)
		rc = commit(tx);
	pthread_mutex_unlock(&tx->lock);
	return rc;
}
