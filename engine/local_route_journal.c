/*
 * local_route_journal - publishings to several targets in the journal, and what a crash kept from some of them.
 *
 * A publishing is noted whole: its targets, where their logs ended before it, and the messages. Larger ones than a record
 * holds are cut into pieces, each a record. Numbers are little-endian:
 *
 *    0  8  mark: the number of the publishing
 *    8  4  number of the piece, from 0
 *   12  4  how many pieces
 *   16     the piece. All of them together:
 *          0  4  targets         4  4  messages       8  4  bytes of the properties   12  4  flags of these
 *         16  8  time           24  4  uid           28  4  gid      32  4  pid       36  4  zero     40  8  bytes of the payloads
 *         48     for each target: 8 id, 4 logs, 4 zero; for each log 4 index, 4 zero, 8 offset of its end
 *                the properties as in meta.h, with lengths; then the payloads with their delimiters
 *
 * At the start, for each publishing in the journal and each of its targets that is still there, the logs are searched from where
 * they ended then for the mark. Who does not have it gets the messages, and that is noted before as a publishing of its own with
 * the same mark, so that a crash in between does not double them: the last note of a mark counts for the target it names. What
 * was trimmed since is taken to have been there. Before a checkpoint drops a note, the logs it names are synced.
 */
#define HASH_NONFATAL_OOM 1

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/local_exchange.h"
#include "engine/local_queue.h"
#include "engine/meta.h"

#define PIECE_HEAD 16u
#define NOTE_HEAD 48u
#define TARGET_BYTES 16u
#define LOG_BYTES 16u
#define NOTE_CRC 0u /* the journal has one of its own */

/* ---- writing ---- */

static int append_pieces(struct local *local, uint64_t mark, const uint8_t *note, size_t size)
{
	size_t room = JOURNAL_RECORD_MAX - PIECE_HEAD, at = 0, len;
	uint32_t pieces = (uint32_t)((size + room - 1) / room);
	uint8_t *record = malloc(JOURNAL_RECORD_MAX);
	uint64_t pos = 0;
	int rc = record != NULL ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < pieces && rc == 0; i++) {
		len = size - at < room ? size - at : room;
		bytes_put64(record, mark);
		bytes_put32(record + 8, i);
		bytes_put32(record + 12, pieces);
		memcpy(record + PIECE_HEAD, note + at, len);
		rc = journal_append(local->journal, JOURNAL_ROUTE, record, PIECE_HEAD + len, &pos);
		at += len;
	}
	free(record);
	if (rc < 0)
		return engine_explain(rc, "the journal takes no more: %s", strerror(-rc));
	checkpoint_note(local, pos);
	return 0;
}

static size_t put_targets(uint8_t *out, const struct route_target *targets, uint32_t count)
{
	size_t at = 0;

	for (uint32_t i = 0; i < count; i++) {
		bytes_put64(out + at, targets[i].object->id);
		bytes_put32(out + at + 8, targets[i].log_count);
		bytes_put32(out + at + 12, 0);
		at += TARGET_BYTES;
		for (uint32_t j = 0; j < targets[i].log_count; j++) {
			bytes_put32(out + at, targets[i].logs[j].index);
			bytes_put32(out + at + 4, 0);
			bytes_put64(out + at + 8, targets[i].logs[j].end);
			at += LOG_BYTES;
		}
	}
	return at;
}

int route_note(struct local *local, uint64_t mark, const struct engine_batch *batch, const struct route_target *targets,
    uint32_t count)
{
	uint8_t flags = meta_flags(batch, 0, batch->count, true);
	uint64_t meta = meta_size(batch, 0, batch->count, flags);
	size_t size = NOTE_HEAD + meta + batch->len, at;
	uint8_t *note;
	int rc;

	if (meta > UINT32_MAX)
		return -EMSGSIZE;
	for (uint32_t i = 0; i < count; i++)
		size += TARGET_BYTES + targets[i].log_count * LOG_BYTES;
	note = malloc(size);
	if (note == NULL)
		return -ENOMEM;
	memset(note, 0, NOTE_HEAD);
	bytes_put32(note, count);
	bytes_put32(note + 4, batch->count);
	bytes_put32(note + 8, (uint32_t)meta);
	bytes_put32(note + 12, flags);
	bytes_put64(note + 16, (uint64_t)batch->ts_ms);
	bytes_put32(note + 24, batch->cred.uid);
	bytes_put32(note + 28, batch->cred.gid);
	bytes_put32(note + 32, batch->cred.pid);
	bytes_put64(note + 40, batch->len);
	at = NOTE_HEAD + put_targets(note + NOTE_HEAD, targets, count);
	meta_put(note + at, (uint32_t)meta, batch, 0, batch->count, flags, NOTE_CRC);
	memcpy(note + at + meta, batch->data, batch->len);
	rc = append_pieces(local, mark, note, size);
	free(note);
	return rc;
}

/* ---- replay ---- */

struct pending_route {
	uint64_t mark;
	uint32_t next, pieces; /* the piece that comes next */
	uint8_t *note;
	size_t size;
	struct pending_route *older; /* another note with this mark: for other targets */
	UT_hash_handle hh;
};

static void free_route(struct pending_route *route)
{
	while (route != NULL) {
		struct pending_route *older = route->older;

		free(route->note);
		free(route);
		route = older;
	}
}

static int add_piece(struct pending_route *route, const uint8_t *piece, size_t len)
{
	uint8_t *grown = realloc(route->note, route->size + len);

	if (grown == NULL)
		return -ENOMEM;
	memcpy(grown + route->size, piece, len);
	route->note = grown;
	route->size += len;
	route->next++;
	return 0;
}

int route_replay(struct local *local, const void *bytes, size_t size)
{
	const uint8_t *record = bytes;
	struct pending_route *route, *fresh;
	uint64_t mark;
	uint32_t piece;

	if (size < PIECE_HEAD)
		return 0;
	mark = bytes_get64(record);
	piece = bytes_get32(record + 8);
	HASH_FIND(hh, local->pending_routes, &mark, sizeof(mark), route);
	if (piece == 0) {
		fresh = calloc(1, sizeof(*fresh));
		if (fresh == NULL)
			return -ENOMEM;
		fresh->mark = mark;
		fresh->pieces = bytes_get32(record + 12);
		fresh->older = route;
		if (route != NULL)
			HASH_DELETE(hh, local->pending_routes, route);
		HASH_ADD(hh, local->pending_routes, mark, sizeof(fresh->mark), fresh);
		if (fresh->hh.tbl == NULL) {
			free_route(fresh);
			return -ENOMEM;
		}
		route = fresh;
	}
	/* A piece without the ones before it: a crash or damage took these, and the note is none. */
	if (route == NULL || piece != route->next || route->next >= route->pieces)
		return 0;
	return add_piece(route, record + PIECE_HEAD, size - PIECE_HEAD);
}

void route_forget(struct local *local)
{
	struct pending_route *route, *next;

	HASH_ITER (hh, local->pending_routes, route, next) {
		HASH_DELETE(hh, local->pending_routes, route);
		free_route(route);
	}
}

/* ---- what a note says ---- */

struct note {
	uint64_t mark;
	uint32_t target_count;
	const uint8_t *targets, *targets_end;
	struct engine_batch batch;
	uint32_t *lengths;
	struct engine_props *props;
	struct engine_header *headers;
	struct engine_death *deaths;
};

static void note_release(struct note *note)
{
	free(note->lengths);
	free(note->props);
	free(note->headers);
	free(note->deaths);
}

/* EBADMSG: not a whole note. */
static int note_read(const struct pending_route *route, struct note *note)
{
	const uint8_t *at = route->note, *end = route->note + route->size;
	struct meta_shape shape;
	uint32_t meta, count;
	uint64_t len;

	*note = (struct note){ .mark = route->mark };
	if (route->next != route->pieces || route->size < NOTE_HEAD)
		return -EBADMSG;
	note->target_count = bytes_get32(at);
	count = bytes_get32(at + 4);
	meta = bytes_get32(at + 8);
	len = bytes_get64(at + 40);
	if (len > route->size || meta > route->size || NOTE_HEAD + meta + len > route->size || count == 0)
		return -EBADMSG;
	note->targets = at + NOTE_HEAD;
	note->targets_end = end - len - meta;
	note->batch = (struct engine_batch){ .data = (const char *)(end - len),
		.len = (size_t)len,
		.count = count,
		.cred = { bytes_get32(at + 24), bytes_get32(at + 28), bytes_get32(at + 32) },
		.ts_ms = (int64_t)bytes_get64(at + 16) };
	if (meta_check(note->targets_end, meta, count, (uint32_t)len, NOTE_CRC, &shape) < 0)
		return -EBADMSG;
	note->lengths = calloc(count, sizeof(*note->lengths));
	note->props = calloc(count, sizeof(*note->props));
	note->headers = calloc(shape.header_count + 1, sizeof(*note->headers));
	note->deaths = calloc(shape.death_count + 1, sizeof(*note->deaths));
	if (note->lengths == NULL || note->props == NULL || note->headers == NULL || note->deaths == NULL) {
		note_release(note);
		return -ENOMEM;
	}
	meta_get(
	    note->targets_end, meta, count, note->batch.ts_ms, note->lengths, note->props, note->headers, note->deaths);
	note->batch.lengths = note->lengths;
	note->batch.props = note->props;
	return 0;
}

/* ---- who has it? ---- */

/* The log of a target; NULL: it cannot be read, or is not there. */
static struct plog *log_of(struct object *object, uint32_t index)
{
	struct plog *plog = NULL;

	if (object->kind == ENGINE_QUEUE && index < ENGINE_PRIORITIES && queue_open(queue_of_object(object)) == 0 &&
	    queue_lane(queue_of_object(object), index) != NULL)
		return atomic_load(&queue_lane(queue_of_object(object), index)->plog);
	if (object->kind == ENGINE_TOPIC && index < atomic_load(&topic_of_object(object)->partitions) &&
	    partition_open_log(topic_partition(topic_of_object(object), index), &plog) == 0)
		return plog;
	return NULL;
}

/* How many messages of the publishing the log has, from offset on. What is damaged may be one. */
static uint32_t count_marked(struct plog *plog, uint64_t offset, uint64_t mark)
{
	struct engine_scratch scratch = { 0 };
	struct engine_partition_stat stat;
	struct engine_view view;
	uint32_t found = 0;
	uint64_t id;

	plog_stat(plog, &stat);
	if (offset < stat.earliest) {
		engine_scratch_release(&scratch);
		return UINT32_MAX; /* it was there, and is gone */
	}
	while (offset < stat.end) {
		int rc;

		view = (struct engine_view){ 0 };
		rc = plog_read_ids(plog, offset, UINT32_MAX, &scratch, &view, &id);
		if (rc < 0 && view.batch.count == 0)
			break;
		if (rc == 0 && view.batch.props != NULL) {
			for (uint32_t i = 0; i < view.batch.count; i++)
				found += view.batch.props[i].mark == mark;
		}
		offset = view.offset + view.batch.count;
	}
	engine_scratch_release(&scratch);
	return found;
}

/* Of the publishing the target has the first *ret_count messages: a batch is sent in order. */
static int count_there(
    struct local *local, const struct note *note, const uint8_t *at, struct object **ret_object, uint32_t *ret_count)
{
	uint32_t logs = bytes_get32(at + 8), there = 0;
	struct object *object = registry_get(local, bytes_get64(at));

	for (uint32_t i = 0; object != NULL && i < logs && there < note->batch.count; i++) {
		const uint8_t *log = at + TARGET_BYTES + i * LOG_BYTES;
		struct plog *plog = log_of(object, bytes_get32(log));
		uint32_t found = plog != NULL ? count_marked(plog, bytes_get64(log + 8), note->mark) : 0;

		there = found > note->batch.count - there ? note->batch.count : there + found;
	}
	*ret_object = object;
	*ret_count = there;
	return object != NULL ? 0 : -ENOENT;
}

/* ---- giving it to who does not ---- */

/* The messages of the note from first on. */
static struct engine_batch rest_of(const struct note *note, uint32_t first)
{
	struct engine_batch rest = note->batch;

	for (uint32_t i = 0; i < first; i++) {
		rest.data += note->lengths[i] + 1;
		rest.len -= note->lengths[i] + 1;
	}
	rest.count -= first;
	rest.lengths += first;
	rest.props += first;
	return rest;
}

static int add_logs(struct route_target *target, const struct engine_batch *batch, const struct queue_claim *claim)
{
	bool queue = target->object->kind == ENGINE_QUEUE;

	target->logs = calloc(queue ? ENGINE_PRIORITIES : batch->count, sizeof(*target->logs));
	if (target->logs == NULL)
		return -ENOMEM;
	for (uint32_t p = 0; queue && p < ENGINE_PRIORITIES; p++) {
		if (claim->lanes >> p & 1)
			target->logs[target->log_count++] = (struct route_log){ p, claim->ends[p] };
	}
	for (uint32_t i = 0; !queue && i < batch->count; i++) {
		struct engine_partition_stat stat;
		uint32_t index = batch->props[i].partition;

		plog_stat(atomic_load(&topic_partition(topic_of_object(target->object), index)->plog), &stat);
		target->logs[target->log_count++] = (struct route_log){ index, stat.end };
	}
	return 0;
}

/* It is noted anew before, so that a crash now does not double it. */
static int give(struct local *local, const struct note *note, struct object *object, uint32_t first)
{
	struct engine_batch rest = rest_of(note, first);
	struct route_target target = { .object = object };
	struct queue_claim claim = { 0 };
	int rc;

	if (object->kind == ENGINE_QUEUE)
		rc = queue_claim(queue_of_object(object), &rest, &claim);
	else
		rc = topic_claim(topic_of_object(object), &rest, note->props + first);
	if (rc == 0) {
		rc = add_logs(&target, &rest, &claim);
		if (rc == 0)
			rc = route_note(local, note->mark, &rest, &target, 1);
		if (rc < 0 && object->kind == ENGINE_QUEUE)
			queue_unclaim(queue_of_object(object), &claim);
	}
	if (rc == 0)
		rc = object->kind == ENGINE_QUEUE ? queue_send_claimed(queue_of_object(object), &rest, &claim)
						  : topic_send_claimed(topic_of_object(object), &rest);
	free(target.logs);
	local->recovered_moves = true;
	return rc;
}

static void finish_note(struct local *local, const struct note *note, struct routing_match *seen)
{
	const uint8_t *at = note->targets;

	for (uint32_t i = 0; i < note->target_count; i++) {
		struct object *object = NULL;
		uint64_t id;
		uint32_t there = 0;
		size_t before = seen->count;
		int rc = 0;

		if (note->targets_end - at < (ptrdiff_t)TARGET_BYTES ||
		    (uint64_t)(note->targets_end - at) < TARGET_BYTES + (uint64_t)bytes_get32(at + 8) * LOG_BYTES)
			return;
		id = bytes_get64(at);
		/* A later note with this mark says all there is to say of the target. */
		if (routing_match_add(seen, id) == 0 && seen->count > before &&
		    count_there(local, note, at, &object, &there) == 0 && there < note->batch.count)
			rc = give(local, note, object, there);
		if (rc < 0)
			local_fault(local, -rc,
			    "message %" PRIu64 " of an exchange could not be given to all its targets: %s", note->mark,
			    strerror(-rc));
		object_put(object);
		at += TARGET_BYTES + bytes_get32(at + 8) * LOG_BYTES;
	}
}

int route_finish(struct local *local)
{
	struct pending_route *route, *next;

	HASH_ITER (hh, local->pending_routes, route, next) {
		struct routing_match seen = { 0 };

		for (struct pending_route *r = route; r != NULL; r = r->older) {
			struct note note;
			int rc = note_read(r, &note);

			if (rc == -ENOMEM)
				return rc;
			if (rc < 0)
				continue;
			finish_note(local, &note, &seen);
			note_release(&note);
		}
		routing_match_release(&seen);
	}
	route_forget(local);
	return 0;
}

/* ---- checkpoints ---- */

int route_sync(struct local *local)
{
	struct object *object;
	uint64_t after = 0;
	int rc = 0;

	while (rc == 0 && (object = registry_next(local, NULL, ENGINE_TOPIC, after)) != NULL) {
		struct topic *topic = topic_of_object(object);
		uint32_t partitions = atomic_load(&topic->routed) ? atomic_load(&topic->partitions) : 0;

		after = object->id;
		for (uint32_t i = 0; i < partitions && rc == 0; i++) {
			struct partition *partition = topic_partition(topic, i);

			if (!atomic_exchange(&partition->routed, false))
				continue;
			rc = partition->sync.run(&partition->sync);
			if (rc < 0)
				atomic_store(&partition->routed, true);
		}
		object_put(object);
	}
	return rc;
}
