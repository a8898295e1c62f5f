/*
 * local_end - where each log was known to end, kept beside it: so that files of a log that are gone are missed.
 *
 * A log says by its own files what it has. If the last of them are gone, or all, it seems to end earlier, and would give offsets
 * again that were confirmed, or acknowledged. So the catalog has for each log an end that was on disk: 0 from its making on, then what
 * each checkpoint, and the close, sees. Between two checkpoints the journal has it: by the notes of what went to the disk that
 * way (local_note.c), and by a record of its own, which ends_note() appends after a sync of the log itself:
 *
 *    0  8  id of the log    8  8  offset below which all was on disk    16  8  position that these do not go beyond
 *
 * That is not synced: after a kill it is there, and after a power cut what the checkpoint before said. Whoever opens a log hands it
 * what is known (struct plog_known), and tells what it has lost.
 *
 * `known` of a sync point is written before other threads are there, by checkpoints, and at the close; it is read by who opens the log.
 * What is in the catalog, `kept`, is not written again.
 *
 * With it goes where the log begins: the file `start` may be gone as well, and what was purged would come back.
 */
#define HASH_NONFATAL_OOM 1

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/bytes.h"
#include "engine/local_queue.h"

#define RECORD 24u
#define ROWS_AT_ONCE 1024u

/* What the journal said of a log. */
struct noted_end {
	uint64_t log_id;
	struct plog_known known;
	UT_hash_handle hh;
};

static void raise_known(struct plog_known *known, const struct plog_known *by)
{
	if (known->end < by->end)
		known->end = by->end;
	if (known->pos < by->pos)
		known->pos = by->pos;
	if (known->start < by->start)
		known->start = by->start;
	known->is_known = known->is_known || by->is_known;
}

struct sync_point *object_log(struct object *object, uint32_t index)
{
	if (object->kind == ENGINE_TOPIC)
		return index < atomic_load(&topic_of_object(object)->partitions)
			   ? &topic_partition(topic_of_object(object), index)->sync
			   : NULL;
	return index < ENGINE_PRIORITIES && queue_lane(queue_of_object(object), index) != NULL
		   ? &queue_lane(queue_of_object(object), index)->sync
		   : NULL;
}

uint32_t object_logs(struct object *object)
{
	return object->kind == ENGINE_TOPIC   ? atomic_load(&topic_of_object(object)->partitions)
	       : object->kind == ENGINE_QUEUE ? ENGINE_PRIORITIES
					      : 0;
}

/* ---- at the start ---- */

static int load(void *ctx, const struct catalog_end *row)
{
	struct sync_point *point = object_log(ctx, row->index);

	if (point != NULL) {
		point->known = point->kept = (struct plog_known){ row->end, row->pos, row->start, true };
	}
	return 0;
}

int ends_load(struct object *object)
{
	return catalog_each_end(local_of(object)->catalog, object->id, load, object);
}

/* NULL: no memory. */
static struct noted_end *find_or_add(struct local *local, uint64_t log_id)
{
	struct noted_end *noted, *fresh;

	HASH_FIND(hh, local->noted_ends, &log_id, sizeof(log_id), noted);
	fresh = noted == NULL ? calloc(1, sizeof(*fresh)) : NULL;
	if (fresh == NULL)
		return noted;
	fresh->log_id = log_id;
	HASH_ADD(hh, local->noted_ends, log_id, sizeof(fresh->log_id), fresh);
	if (fresh->hh.tbl != NULL)
		return fresh;
	free(fresh);
	return NULL;
}

int ends_noted(struct local *local, uint64_t log_id, uint64_t end, uint64_t pos, uint64_t bytes)
{
	const struct plog_known known = { end, pos, 0, true };
	struct noted_end *noted;

	if (end > INT64_MAX || pos > INT64_MAX)
		return 0;
	noted = find_or_add(local, log_id);
	if (noted == NULL)
		return -ENOMEM;
	raise_known(&noted->known, &known);
	noted->known.pos += bytes;
	return 0;
}

int ends_replay(struct local *local, const uint8_t *record, size_t size)
{
	return size != RECORD
		   ? 0
		   : ends_noted(local, bytes_get64(record), bytes_get64(record + 8), bytes_get64(record + 16), 0);
}

void ends_forget(struct local *local)
{
	struct noted_end *noted, *next;

	HASH_ITER (hh, local->noted_ends, noted, next) {
		HASH_DELETE(hh, local->noted_ends, noted);
		free(noted);
	}
}

void ends_apply(struct local *local)
{
	for (size_t i = 0; local->noted_ends != NULL && i < local->objects.count; i++) {
		struct object *object = local->objects.items[i];

		for (uint32_t k = 0; k < object_logs(object); k++) {
			struct sync_point *point = object_log(object, k);
			struct noted_end *noted = NULL;

			if (point != NULL)
				HASH_FIND(hh, local->noted_ends, &point->log_id, sizeof(point->log_id), noted);
			if (noted != NULL)
				raise_known(&point->known, &noted->known);
		}
	}
	ends_forget(local);
}

/* ---- opening a log ---- */

void log_fault(const struct sync_point *point, int err, const char *what)
{
	if (point->object->kind == ENGINE_TOPIC)
		partition_fault(topic_partition(topic_of_object(point->object), point->index), err, what);
	else
		queue_fault(queue_of_object(point->object), err, what);
}

/* What says where the log begins is gone. What was deleted from before is not to come back. */
static int restore_start(const struct sync_point *point, struct plog *plog)
{
	struct engine_partition_stat stat;
	char what[100];

	plog_stat(plog, &stat);
	if (stat.earliest >= point->known.start || point->known.start > stat.end)
		return 0;
	snprintf(what, sizeof(what), "its log has lost where it begins, which was at %" PRIu64, point->known.start);
	log_fault(point, -EIO, what);
	return local_of(point->object)->read_only ? 0 : plog_trim(plog, point->known.start);
}

int ends_look_at(const struct sync_point *point, struct plog *plog)
{
	uint64_t from, to;
	char what[160];

	if (plog_lost_end(plog, &from, &to)) {
		snprintf(what, sizeof(what),
		    "messages %" PRIu64 " to %" PRIu64
		    " are lost with files of their log, and their offsets are not given again",
		    from, to - 1);
		log_fault(point, -EIO, what);
	}
	return restore_start(point, plog);
}

/* ---- and on ---- */

void ends_note(struct local *local, const struct sync_point *point)
{
	struct plog *plog = atomic_load(point->log);
	struct plog_known known;
	uint8_t record[RECORD];
	uint64_t pos;

	if (plog == NULL)
		return;
	plog_see_durable(plog, &known);
	bytes_put64(record, point->log_id);
	bytes_put64(record + 8, known.end);
	bytes_put64(record + 16, known.pos);
	/* It is worth no checkpoint of its own, which on a full disk would take the room that others are lent. */
	if (journal_append(local->journal, JOURNAL_END, record, sizeof(record), &pos) == 0 &&
	    pos - atomic_load(&local->checkpoint_pos) >= LOCAL_JOURNAL_BYTES)
		checkpoint_note(local, pos);
}

static void see(struct sync_point *point)
{
	struct plog *plog = atomic_load(point->log);
	struct plog_known known;

	if (plog == NULL)
		return;
	plog_see_durable(plog, &known);
	raise_known(&point->known, &known);
}

int ends_close_log(struct sync_point *point)
{
	struct plog *plog = atomic_load(point->log);
	int rc = plog != NULL ? plog_sync(plog) : 0, closed;

	see(point);
	closed = plog_close(atomic_exchange(point->log, NULL));
	return rc < 0 ? rc : closed;
}

/* Rows on their way to the catalog, and what they are of: a reference each. */
struct ends {
	struct catalog_end rows[ROWS_AT_ONCE];
	struct object *objects[ROWS_AT_ONCE];
	size_t count;
};

static int put_rows(struct local *local, struct ends *ends)
{
	bool again = false;
	int rc;

	do
		rc = catalog_put_ends(local->catalog, ends->rows, ends->count);
	while (reserve_again(local, rc, &again));
	for (size_t i = 0; i < ends->count; i++) {
		struct sync_point *point = object_log(ends->objects[i], ends->rows[i].index);

		if (rc == 0)
			point->kept =
			    (struct plog_known){ ends->rows[i].end, ends->rows[i].pos, ends->rows[i].start, true };
		object_put(ends->objects[i]);
	}
	ends->count = 0;
	return rc;
}

static int add_rows(struct local *local, struct ends *ends, struct object *object)
{
	int rc = 0;

	for (uint32_t i = 0; i < object_logs(object) && rc == 0; i++) {
		struct sync_point *point = object_log(object, i);

		if (point == NULL || point->log_id == LOCAL_NO_LOG)
			continue;
		see(point);
		if (!point->known.is_known || (point->kept.is_known && point->known.end == point->kept.end &&
						  point->known.start == point->kept.start))
			continue;
		object_ref(object);
		ends->objects[ends->count] = object;
		ends->rows[ends->count++] =
		    (struct catalog_end){ object->id, point->known.end, point->known.pos, point->known.start, i };
		if (ends->count == ROWS_AT_ONCE)
			rc = put_rows(local, ends);
	}
	return rc;
}

int ends_checkpoint(struct local *local)
{
	static const enum engine_kind kinds[] = { ENGINE_TOPIC, ENGINE_QUEUE };
	struct ends *ends = malloc(sizeof(*ends));
	struct object *object;
	int rc = 0, put;

	if (ends == NULL)
		return -ENOMEM;
	ends->count = 0;
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		uint64_t after = 0;

		while (rc == 0 && (object = registry_next(local, NULL, kinds[k], after)) != NULL) {
			after = object->id;
			rc = add_rows(local, ends, object);
			object_put(object);
		}
	}
	put = put_rows(local, ends);
	free(ends);
	return rc < 0 ? rc : put;
}
