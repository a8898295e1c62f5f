/*
 * local_commit_recover - gives targets what they do not have of a commit that was noted.
 *
 * All notes are taken together: which logs they name, and from where; these are read once, for marks; then each target is given
 * what was not found. How notes look is said in local_commit_journal.c.
 */
#define HASH_NONFATAL_OOM 1

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/failpoint.h"
#include "engine/local_commit_note.h"

/* A log that a note names. */
struct watched {
	struct {
		uint64_t id;
		uint64_t index;
	} key;
	uint64_t from, earliest;
	uint64_t passed; /* messages of the target that is looked at */
	int unread;      /* negative errno: it could not be read to its end for now, and what it has is not known */
	int64_t ts_ms;   /* the earliest of the notes */
	UT_hash_handle hh;
};

struct recovery {
	struct local *local;
	struct noted_parts parts; /* by mark */
	struct watched *logs;     /* uthash */
};

/* ---- what is in the logs ---- */

static struct watched *find_watched(struct recovery *r, uint64_t id, uint32_t index)
{
	struct watched *log, sought = { .key = { id, index } };

	HASH_FIND(hh, r->logs, &sought.key, sizeof(sought.key), log);
	return log;
}

static int watch(struct recovery *r, uint64_t id, uint32_t index, uint64_t from, int64_t ts_ms)
{
	struct watched *log = find_watched(r, id, index);

	if (log != NULL) {
		log->from = from < log->from ? from : log->from;
		log->ts_ms = ts_ms < log->ts_ms ? ts_ms : log->ts_ms;
		return 0;
	}
	log = calloc(1, sizeof(*log));
	if (log == NULL)
		return -ENOMEM;
	log->key.id = id;
	log->key.index = index;
	log->from = from;
	log->ts_ms = ts_ms;
	HASH_ADD(hh, r->logs, key, sizeof(log->key), log);
	if (log->hh.tbl != NULL)
		return 0;
	free(log);
	return -ENOMEM;
}

static int watch_all(struct recovery *r)
{
	int rc = 0;

	for (uint32_t i = 0; i < r->parts.count; i++) {
		for (uint32_t t = 0; t < r->parts.list[i].target_count; t++) {
			const struct noted_target *target = &r->parts.list[i].targets[t];

			for (uint32_t l = 0; l < target->log_count && rc == 0; l++) {
				const uint8_t *log = target->logs + (size_t)l * LOG_BYTES;

				rc = watch(r, target->id, bytes_get32(log), bytes_get64(log + 8),
				    r->parts.list[i].batch.ts_ms);
			}
		}
	}
	return rc;
}

/* What is known of the message with this mark at a target; NULL: no note has it. */
static uint8_t *find_mark(struct recovery *r, uint64_t id, uint64_t mark)
{
	uint32_t low = 0, high = r->parts.count;
	struct noted_part *part;

	while (low < high) { /* the first part whose mark is above */
		uint32_t mid = low + (high - low) / 2;

		if (r->parts.list[mid].mark <= mark)
			low = mid + 1;
		else
			high = mid;
	}
	part = low > 0 ? &r->parts.list[low - 1] : NULL;
	if (part == NULL || mark - part->mark >= part->batch.count)
		return NULL;
	for (uint32_t t = 0; t < part->target_count; t++) {
		if (part->targets[t].id == id)
			return &part->targets[t].there[mark - part->mark];
	}
	return NULL;
}

/* The log of a target. ENOENT: it is not there, and has nothing; else it cannot be opened for now. */
static int log_of(struct object *object, uint32_t index, struct plog **ret_plog)
{
	struct lane *lane;
	int rc = -ENOENT;

	if (object->kind == ENGINE_QUEUE && index < ENGINE_PRIORITIES) {
		rc = queue_open(queue_of_object(object));
		lane = rc == 0 ? queue_lane(queue_of_object(object), index) : NULL;
		*ret_plog = lane != NULL ? atomic_load(&lane->plog) : NULL;
		return rc == 0 && *ret_plog == NULL ? -ENOENT : rc;
	}
	if (object->kind == ENGINE_TOPIC && index < atomic_load(&topic_of_object(object)->partitions))
		rc = partition_open_log(topic_partition(topic_of_object(object), index), ret_plog);
	return rc;
}

/*
 * Where to look from: where the log ended, or earlier if a power cut took its end, an earlier start gave it the messages further
 * down, and died before it could take the notes away. Those have the times of their notes.
 */
static int scan_from(const struct watched *log, struct plog *plog, uint64_t *ret_offset)
{
	uint64_t offset;
	int rc = plog_find_time(plog, log->ts_ms, &offset);

	if (rc < 0)
		return rc;
	*ret_offset = offset < log->from ? offset : log->from;
	return 0;
}

/* Looks for marks. What is damaged is passed over. */
static int scan(struct recovery *r, struct watched *log, struct plog *plog)
{
	struct engine_scratch scratch = { 0 };
	struct engine_partition_stat stat;
	uint64_t offset, id;
	int rc;

	plog_stat(plog, &stat);
	log->earliest = stat.earliest;
	rc = scan_from(log, plog, &offset);
	if (rc < 0)
		return rc;
	offset = offset > stat.earliest ? offset : stat.earliest;
	while (rc == 0 && offset < stat.end) {
		struct engine_view view = { 0 };

		rc = plog_read_ids(plog, offset, UINT32_MAX, &scratch, &view, &id);
		for (uint32_t i = 0; rc == 0 && view.batch.props != NULL && i < view.batch.count; i++) {
			uint8_t *there = find_mark(r, log->key.id, view.batch.props[i].mark);

			if (there != NULL)
				*there |= NOTED_THERE;
		}
		if (view.batch.count > 0)
			rc = 0;
		offset = view.offset + view.batch.count;
	}
	engine_scratch_release(&scratch);
	return rc;
}

static void scan_all(struct recovery *r)
{
	struct watched *log, *next;

	HASH_ITER (hh, r->logs, log, next) {
		struct object *object = registry_get(r->local, log->key.id);
		struct plog *plog;
		int rc = object != NULL ? log_of(object, (uint32_t)log->key.index, &plog) : -ENOENT;

		if (rc == 0)
			rc = scan(r, log, plog);
		log->unread = rc == -ENOENT ? 0 : rc;
		object_put(object);
	}
}

/* Where a log ended when the part was noted; UINT64_MAX: it is not named. */
static uint64_t end_noted(const struct noted_target *target, uint32_t index)
{
	for (uint32_t l = 0; l < target->log_count; l++) {
		if (bytes_get32(target->logs + (size_t)l * LOG_BYTES) == index)
			return bytes_get64(target->logs + (size_t)l * LOG_BYTES + 8);
	}
	return UINT64_MAX;
}

/* commits.lock */
static int read_pending(struct local *local, struct noted_parts *parts)
{
	struct commit_pending *pending, *next;
	int rc = 0;

	HASH_ITER (hh, local->commits.pending, pending, next) {
		if (rc == 0 || rc == -EBADMSG)
			rc = noted_parts_add(parts, pending);
	}
	return rc == -EBADMSG ? 0 : rc;
}

uint64_t commit_missed_from(struct local *local, uint64_t id, uint32_t index)
{
	struct noted_parts parts = { 0 };
	uint64_t from = UINT64_MAX, end;
	int rc;

	pthread_mutex_lock(&local->commits.lock);
	rc = read_pending(local, &parts);
	for (uint32_t i = 0; i < parts.count; i++) {
		for (uint32_t t = 0; t < parts.list[i].target_count; t++) {
			end = parts.list[i].targets[t].id == id ? end_noted(&parts.list[i].targets[t], index) : from;
			from = end < from ? end : from;
		}
	}
	noted_parts_release(&parts);
	pthread_mutex_unlock(&local->commits.lock);
	return rc == 0 ? from : 0;
}

/* At the start: what the journal says of messages that were lost. The last place of each counts. */
static void look_at_placed(struct recovery *r)
{
	for (const struct queue_placed *placed = r->local->placed; placed != NULL; placed = placed->next) {
		for (uint32_t i = 0; i < placed->count; i++) {
			uint8_t *there = find_mark(r, placed->queue_id, placed->mark + i);

			if (there != NULL)
				*there = (uint8_t)((*there & ~NOTED_GONE) | (placed->gone[i] ? NOTED_GONE : 0));
		}
	}
}

/* So that it is known as long as the note is: it may have to be kept. */
static void note_gone(struct noted_part *part, const struct noted_target *target)
{
	uint8_t *places = part->pending->note + (target->places - part->pending->note);

	for (uint32_t i = 0; i < target->count; i++) {
		if (target->there[noted_index(target, i)] & NOTED_GONE)
			bytes_put32(places + (size_t)i * 4, PLACE_GONE);
	}
}

/*
 * What was trimmed since was there. In a topic each comes behind those of the part before it, at least. ret_unread: of a log of
 * which it is not known whether it misses some; those it is not given now.
 */
static bool misses_some(struct recovery *r, struct noted_target *target, bool in_order, int *ret_unread)
{
	bool misses = false;

	for (uint32_t l = 0; l < target->log_count; l++) {
		struct watched *log = find_watched(r, target->id, bytes_get32(target->logs + (size_t)l * LOG_BYTES));

		assert(log != NULL); /* watch_all() */
		log->passed = 0;
	}
	for (uint32_t i = 0; i < target->count; i++) {
		uint32_t index = bytes_get32(target->places + (size_t)i * 4);
		struct watched *log = find_watched(r, target->id, index);
		uint64_t end = end_noted(target, index);
		uint8_t *there = &target->there[noted_index(target, i)];

		if (log != NULL && log->earliest > end && log->earliest - end > log->passed)
			*there |= NOTED_THERE;
		if (log != NULL)
			log->passed += in_order;
		if (log != NULL && log->unread < 0 && *there == 0) {
			*there = NOTED_UNREAD;
			*ret_unread = log->unread;
		}
		misses |= *there == 0;
	}
	return misses;
}

/* ---- giving ---- */

struct rest {
	struct engine_batch batch;
	char *data;
	uint32_t *lengths, *places;
	struct engine_props *props;
};

static void rest_release(struct rest *rest)
{
	free(rest->data);
	free(rest->lengths);
	free(rest->places);
	free(rest->props);
}

/* The messages of a part that the target does not have. */
static int rest_init(struct rest *rest, const struct noted_part *part, const struct noted_target *target)
{
	const char *data = part->batch.data;
	uint32_t k = 0; /* of the target's messages */
	size_t count = part->batch.count;
	struct engine_batch *batch = &rest->batch;

	*rest = (struct rest){ .batch = part->batch };
	batch->data = rest->data = malloc(part->batch.len);
	batch->lengths = rest->lengths = malloc(count * sizeof(*rest->lengths));
	batch->props = rest->props = malloc(count * sizeof(*rest->props));
	rest->places = malloc(count * sizeof(*rest->places));
	batch->count = 0;
	batch->len = 0;
	if (rest->data == NULL || rest->lengths == NULL || rest->props == NULL || rest->places == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < count; i++) {
		size_t len = (size_t)part->lengths[i] + 1;

		if (target->there[i] == 0) {
			memcpy(rest->data + batch->len, data, len);
			rest->lengths[batch->count] = part->lengths[i];
			rest->props[batch->count] = part->props[i];
			rest->places[batch->count] = bytes_get32(target->places + (size_t)k * 4);
			rest->props[batch->count].partition = rest->places[batch->count];
			batch->count++;
			batch->len += len;
		}
		k += k < target->count && noted_index(target, k) == i;
		data += len;
	}
	return 0;
}

/* It has no claim: what was committed is not refused for room. */
static int send_rest(struct object *object, const struct rest *rest, bool head)
{
	const struct queue_claim none = { .partly = true };
	struct dedup_send seen = { 0 }; /* these ids count already */
	struct lane *lane;
	int rc = 0;

	if (object->kind == ENGINE_TOPIC)
		return topic_send_claimed(topic_of_object(object), &rest->batch, &seen);
	rc = queue_open(queue_of_object(object));
	for (uint32_t i = 0; i < rest->batch.count && rc == 0; i++)
		rc = rest->places[i] < ENGINE_PRIORITIES
			 ? queue_make_lane(queue_of_object(object), rest->places[i], &lane)
			 : -EBADMSG;
	return rc == 0
		   ? queue_send_claimed(queue_of_object(object), &rest->batch, head, rest->places, &none, true, &seen)
		   : rc;
}

static int give(struct recovery *r, struct noted_part *part, struct noted_target *target)
{
	struct object *object = registry_get(r->local, target->id);
	struct rest rest = { 0 };
	int rc = 0, unread = 0;

	if (object == NULL || (object->kind != ENGINE_QUEUE && object->kind != ENGINE_TOPIC))
		goto out; /* it is gone, and misses nothing */
	note_gone(part, target);
	if (!misses_some(r, target, object->kind == ENGINE_TOPIC, &unread))
		goto out;
	rc = rest_init(&rest, part, target);
	if (rc == 0)
		rc = FAILPOINT("recover_commit");
	if (rc == 0)
		rc = send_rest(object, &rest, target->head);
	r->local->recovered_moves = true;
	rest_release(&rest);
out:
	object_put(object);
	return rc == 0 || rc == -EIDRM ? unread : rc;
}

static void give_all(struct recovery *r)
{
	for (uint32_t i = 0; i < r->parts.count; i++) {
		struct noted_part *part = &r->parts.list[i];

		for (uint32_t t = 0; t < part->target_count; t++) {
			int rc = give(r, part, &part->targets[t]);

			if (rc == 0)
				continue;
			part->pending->missed = true;
			if (!atomic_exchange(&r->local->commits.told, true))
				local_fault(r->local, -rc,
				    "a message for several targets cannot be given to all of them yet: %s",
				    strerror(-rc));
		}
	}
}

/* ---- all together ---- */

static int by_mark(const void *a, const void *b)
{
	const struct noted_part *x = a, *y = b;

	return x->mark < y->mark ? -1 : x->mark > y->mark;
}

/* One that is not right is damaged, and left out. */
static int read_note(struct recovery *r, struct commit_pending *pending)
{
	int rc = noted_parts_add(&r->parts, pending);

	if (rc == -EBADMSG)
		local_fault(r->local, EIO, "the journal has a damaged note of messages for several targets");
	return rc == -EBADMSG ? 0 : rc;
}

static int recover(struct recovery *r, struct commit_pending *list)
{
	struct commit_pending *pending, *next;
	int rc = 0;

	HASH_ITER (hh, list, pending, next) {
		pending->missed = false;
		if (rc == 0)
			rc = read_note(r, pending);
	}
	if (rc == 0 && r->parts.count > 0) {
		qsort(r->parts.list, r->parts.count, sizeof(*r->parts.list), by_mark);
		rc = watch_all(r);
	}
	if (rc == 0) {
		scan_all(r);
		look_at_placed(r);
		give_all(r);
	}
	return rc;
}

static void recovery_release(struct recovery *r)
{
	struct watched *log, *next;

	noted_parts_release(&r->parts);
	HASH_ITER (hh, r->logs, log, next) {
		HASH_DELETE(hh, r->logs, log);
		free(log);
	}
}

/* Notes may be added meanwhile; those taken here come back if they are not done. */
int commit_finish(struct local *local)
{
	struct recovery r = { .local = local };
	struct commit_pending *list, *pending, *next;
	int rc, added = 0;

	pthread_mutex_lock(&local->commits.lock);
	list = local->commits.pending;
	local->commits.pending = NULL;
	pthread_mutex_unlock(&local->commits.lock);
	rc = recover(&r, list);
	recovery_release(&r);
	HASH_ITER (hh, list, pending, next) {
		HASH_DELETE(hh, list, pending);
		if (rc == 0 && !pending->missed && (!commit_is_whole(pending) || bytes_get32(pending->note + 4) == 0)) {
			commit_pending_free(pending);
			continue;
		}
		pthread_mutex_lock(&local->commits.lock);
		added = commit_pending_add(local, pending);
		pthread_mutex_unlock(&local->commits.lock);
		if (added < 0) {
			commit_pending_free(pending);
			atomic_store(&local->commits.stuck, true);
		}
	}
	return rc;
}
