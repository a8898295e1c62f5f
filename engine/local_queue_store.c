/*
 * local_queue_store - checkpoints of queues, and what they bring back at the start.
 *
 * A row for the queue says up to which change the rows include what the journal says, and has its totals; one for each lane
 * has its cursor; one for each span what the journal has for it (local_queue_journal.c), after the count of its messages.
 * Only what changed is written. Numbers are little-endian:
 *
 *   queue  0 u64 change, then u64 each: delivered, redelivered, acked, dead lettered, expired, dropped, moved in, moved out
 *   lane   0 u64 next, 8 u64 one past the last offset that the journal had a move to
 *   span   0 u32 count, 4 four zero bytes, 8 the span
 *
 * A checkpoint lets the journal forget moves. So logs to which messages were moved are synced before. After it, segments in
 * which all is settled can go: what was settled stays so, whatever happens.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/catalog.h"
#include "engine/local_commit.h"

#define QUEUE_ROW 72u
#define LANE_ROW 16u
#define SPAN_AT 8u
#define SPAN_IN(node) ((struct span *)((char *)(node)-offsetof(struct span, by_offset)))

_Static_assert(SPAN_AT + SPAN_BYTES <= sizeof(((struct catalog_queue_row *)0)->value), "a span fits into a row");

/* ---- at the start ---- */

static void load_queue(struct queue *queue, const struct catalog_queue_row *row)
{
	uint64_t *const totals[] = { &queue->totals.delivered, &queue->totals.redelivered, &queue->totals.acked,
		&queue->totals.dead_lettered, &queue->totals.expired, &queue->totals.dropped, &queue->totals.moved_in,
		&queue->totals.moved_out };

	if (row->len != QUEUE_ROW)
		return;
	queue->change = queue->stored_change = bytes_get64(row->value);
	for (size_t i = 0; i < sizeof(totals) / sizeof(totals[0]); i++)
		*totals[i] = bytes_get64(row->value + 8 + 8 * i);
}

static int load_span(struct lane *lane, const struct catalog_queue_row *row)
{
	struct span_set set;
	struct span *span;
	int rc;

	if (row->len != SPAN_AT + SPAN_BYTES || span_decode(row->value + SPAN_AT, &set) < 0 ||
	    bytes_get32(row->value) == 0 || row->first > INT64_MAX)
		return 0;
	rc = lane_restore(lane, row->first, bytes_get32(row->value), &set);
	span = rc == 0 ? span_at(lane, row->first) : NULL;
	if (span != NULL && span->first == row->first) {
		span->stored = true;
		span->dirty = false;
	}
	return rc;
}

static void load_lane_row(struct lane *lane, const struct catalog_queue_row *row)
{
	lane->next = bytes_get64(row->value);
	lane->moves_end = bytes_get64(row->value + 8);
}

static int load_row(void *ctx, const struct catalog_queue_row *row)
{
	struct queue *queue = ctx;
	struct lane *lane = row->priority < ENGINE_PRIORITIES ? queue_lane(queue, row->priority) : NULL;

	if (row->what == CATALOG_OF_QUEUE)
		load_queue(queue, row);
	else if (lane != NULL && row->what == CATALOG_OF_LANE && row->len == LANE_ROW)
		load_lane_row(lane, row);
	else if (lane != NULL && row->what == CATALOG_OF_SPAN)
		return load_span(lane, row);
	return 0;
}

static int load_lane(void *ctx, uint32_t priority, uint64_t log_id)
{
	struct queue *queue = ctx;
	struct lane *lane;
	int rc;

	if (priority >= ENGINE_PRIORITIES || queue_lane(queue, priority) != NULL)
		return 0;
	rc = queue_add_lane(queue, priority, log_id, &lane);
	if (rc == 0)
		atomic_store(&queue->lanes[priority], lane);
	return rc;
}

int queue_load(struct queue *queue)
{
	struct local *local = queue_local(queue);
	int rc = settings_load(&queue->object);

	if (rc == 0)
		rc = catalog_each_partition(local->catalog, queue->object.id, load_lane, queue);
	if (rc == 0)
		rc = ends_load(&queue->object);
	if (rc == 0)
		rc = catalog_each_queue_row(local->catalog, queue->object.id, load_row, queue);
	return rc;
}

/* ---- checkpoints ---- */

struct rows {
	struct catalog_queue_row *list;
	size_t count, room;
};

static struct catalog_queue_row *add_row(struct rows *rows)
{
	if (rows->count == rows->room) {
		size_t room = rows->room > 0 ? rows->room * 2 : 64;
		struct catalog_queue_row *list = realloc(rows->list, room * sizeof(*list));

		if (list == NULL)
			return NULL;
		rows->list = list;
		rows->room = room;
	}
	memset(&rows->list[rows->count], 0, sizeof(rows->list[0]));
	return &rows->list[rows->count++];
}

static int add_queue_row(struct rows *rows, const struct queue *queue)
{
	const struct queue_totals *t = &queue->totals;
	const uint64_t totals[] = { t->delivered, t->redelivered, t->acked, t->dead_lettered, t->expired, t->dropped,
		t->moved_in, t->moved_out };
	struct catalog_queue_row *row = add_row(rows);

	if (row == NULL)
		return -ENOMEM;
	row->queue_id = queue->object.id;
	row->what = CATALOG_OF_QUEUE;
	row->len = QUEUE_ROW;
	bytes_put64(row->value, queue->change);
	for (size_t i = 0; i < sizeof(totals) / sizeof(totals[0]); i++)
		bytes_put64(row->value + 8 + 8 * i, totals[i]);
	return 0;
}

/* lock. Rows that go come first: a span may begin where another did. */
static int add_lane_rows(struct rows *rows, struct lane *lane)
{
	struct catalog_queue_row base = { .queue_id = lane->queue->object.id, .priority = (uint8_t)lane->priority };
	struct catalog_queue_row *row = add_row(rows);

	if (row == NULL)
		return -ENOMEM;
	*row = base;
	row->what = CATALOG_OF_LANE;
	row->len = LANE_ROW;
	bytes_put64(row->value, lane->next);
	bytes_put64(row->value + 8, lane->moves_end);
	for (size_t i = 0; i < lane->gone_count; i++) {
		row = add_row(rows);
		if (row == NULL)
			return -ENOMEM;
		*row = base;
		row->what = CATALOG_OF_SPAN;
		row->first = lane->gone_rows[i];
	}
	for (struct tree_node *node = tree_first(&lane->spans); node != NULL; node = tree_next(node)) {
		struct span *span = SPAN_IN(node);
		struct span_set set = span_as(span);

		if (!span->dirty)
			continue;
		row = add_row(rows);
		if (row == NULL)
			return -ENOMEM;
		*row = base;
		row->what = CATALOG_OF_SPAN;
		row->first = span->first;
		row->len = SPAN_AT + SPAN_BYTES;
		bytes_put32(row->value, span->count);
		span_encode(row->value + SPAN_AT, &set);
	}
	return 0;
}

/* They are in rows: what comes now is for the next checkpoint. lock */
static void mark_stored(struct queue *queue)
{
	for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
		struct lane *lane = queue_lane(queue, p);

		if (lane == NULL)
			continue;
		lane->gone_count = 0;
		for (struct tree_node *node = tree_first(&lane->spans); node != NULL; node = tree_next(node)) {
			SPAN_IN(node)->stored = SPAN_IN(node)->stored || SPAN_IN(node)->dirty;
			SPAN_IN(node)->dirty = false;
		}
		lane->stored_lowest = lane_lowest(lane);
	}
	queue->stored_change = queue->change;
}

static int collect(struct rows *rows, struct queue *queue)
{
	size_t before = rows->count;
	int rc = 0;

	pthread_mutex_lock(&queue->lock);
	if (queue->change != queue->stored_change) {
		rc = add_queue_row(rows, queue);
		for (uint32_t p = 0; p < ENGINE_PRIORITIES && rc == 0; p++) {
			if (queue_lane(queue, p) != NULL)
				rc = add_lane_rows(rows, queue_lane(queue, p));
		}
		if (rc == 0)
			mark_stored(queue);
		else
			rows->count = before;
	}
	pthread_mutex_unlock(&queue->lock);
	return rc;
}

/* The rows are not in the catalog after all. */
static void mark_again(struct local *local, const struct rows *rows)
{
	for (size_t i = 0; i < rows->count; i++) {
		const struct catalog_queue_row *row = &rows->list[i];
		struct object *object = registry_get(local, row->queue_id);
		struct lane *lane;
		struct span *span;

		if (object != NULL) {
			struct queue *queue = queue_of_object(object);

			pthread_mutex_lock(&queue->lock);
			queue->stored_change = UINT64_MAX; /* there is something to store, in any case */
			lane = queue_lane(queue, row->priority);
			if (lane != NULL && row->what == CATALOG_OF_SPAN) {
				span = span_at(lane, row->first);
				if (span != NULL && span->first == row->first)
					span_mark(span);
				else
					lane_row_gone(lane, row->first);
			}
			pthread_mutex_unlock(&queue->lock);
		}
		object_put(object);
	}
}

int queue_sync_moved(struct local *local)
{
	struct object *object;
	uint64_t after = 0;
	int rc = journal_sync(local->journal);

	while (rc == 0 && (object = registry_next(local, NULL, ENGINE_QUEUE, after)) != NULL) {
		struct queue *queue = queue_of_object(object);

		after = object->id;
		for (uint32_t p = 0; p < ENGINE_PRIORITIES && rc == 0; p++) {
			struct lane *lane = queue_lane(queue, p);
			bool moved;

			if (lane == NULL || atomic_load(&lane->plog) == NULL)
				continue;
			pthread_mutex_lock(&queue->lock);
			moved = lane->moved_in;
			lane->moved_in = false;
			pthread_mutex_unlock(&queue->lock);
			if (moved)
				warm_touch(&lane->warm);
			if (moved) /* after the notes of all it has: lane_follow() */
				rc = plog_sync(atomic_load(&lane->plog));
			if (rc < 0) {
				pthread_mutex_lock(&queue->lock);
				lane->moved_in = true;
				pthread_mutex_unlock(&queue->lock);
			}
		}
		object_put(object);
	}
	return rc;
}

static int put_rows(struct local *local, const struct rows *rows, uint64_t journal)
{
	bool again = false;
	int rc;

	do
		rc = catalog_put_queue_rows(local->catalog, rows->list, rows->count, journal);
	while (reserve_again(local, rc, &again));
	return rc;
}

int queue_checkpoint(struct local *local, uint64_t journal)
{
	struct rows rows = { 0 };
	struct object *object;
	uint64_t after = 0;
	int rc = 0;

	while (rc == 0 && (object = registry_next(local, NULL, ENGINE_QUEUE, after)) != NULL) {
		after = object->id;
		rc = collect(&rows, queue_of_object(object));
		object_put(object);
	}
	/* After collecting, so that no row tells of a move whose message is not: what was moved must be on disk before the
	   journal forgets that it was. */
	if (rc == 0)
		rc = queue_sync_moved(local);
	if (rc == 0)
		rc = put_rows(local, &rows, rows.count > 0 || !local->journal_noted ? journal : 0);
	if (rc < 0)
		mark_again(local, &rows);
	local->journal_noted = local->journal_noted || rc == 0;
	free(rows.list);
	return rc;
}

/* ---- room that is given back ---- */

/* Not as long as a commit may have more for it that is noted below: see local_commit.h. What it was given is on disk then. */
static bool may_trim(struct lane *lane, uint64_t base)
{
	struct local *local = queue_local(lane->queue);
	bool noted;

	commit_await(local);
	if (commit_missed_from(local, lane->queue->object.id, lane->priority) < base)
		return false;
	pthread_mutex_lock(&lane->queue->lock);
	noted = lane->noted;
	pthread_mutex_unlock(&lane->queue->lock);
	return !noted || lane->sync.run(&lane->sync) == 0;
}

static void trim_lane(struct lane *lane)
{
	struct plog *plog = atomic_load(&lane->plog);
	struct engine_partition_stat stat;
	uint64_t lowest, base;

	if (plog == NULL)
		return;
	pthread_mutex_lock(&lane->queue->lock);
	lowest = lane->stored_lowest;
	pthread_mutex_unlock(&lane->queue->lock);
	plog_stat(plog, &stat);
	if (lowest <= stat.earliest || lowest > stat.end)
		return;
	warm_touch(&lane->warm);
	base = plog_segment_base(plog, lowest);
	if (lowest == stat.end && stat.end_pos - stat.start_pos >= QUEUE_TRIM_BYTES)
		base = lowest;
	if (base <= stat.earliest || !may_trim(lane, base))
		return;
	queue_remember_trimmed(lane, base);
	plog_trim(plog, base); /* if it fails, the next checkpoint tries again */
}

void queue_trim_all(struct local *local)
{
	struct object *object;
	uint64_t after = 0;

	while ((object = registry_next(local, NULL, ENGINE_QUEUE, after)) != NULL) {
		after = object->id;
		for (uint32_t p = 0; p < ENGINE_PRIORITIES; p++) {
			if (atomic_load(&queue_of_object(object)->open) &&
			    queue_lane(queue_of_object(object), p) != NULL)
				trim_lane(queue_lane(queue_of_object(object), p));
		}
		object_put(object);
	}
}
