/*
 * local_commit_journal - commits in the journal, and what a crash kept from their targets.
 *
 * A commit is noted whole. Larger ones than a record holds are cut into pieces, each a record (mqfs-format(5) says the same).
 * Numbers are little-endian:
 *
 *    0  8  number of the commit: the mark of its first message, or of a transaction one of its own
 *    8  4  number of the piece, from 0
 *   12  4  how many pieces; 0: of the commit with this number nothing has happened; 2^32 - 1: no note, but that those of
 *         this number and of higher ones are all behind it (local_commit_lost.c)
 *   16     the piece. All of them together are 4 parts, 4 bytes of the tail, the parts, and the tail of a
 *         transaction (local_tx_note.c). A part:
 *          0  8  mark of the first message; those of the others follow on it
 *          8  4  messages           12  4  targets        16  8  time
 *         24  4  uid                28  4  gid            32  4  pid
 *         36  4  flags of the properties, 40  8  their bytes, 48  8  bytes of the payloads
 *         56     for each target: 8 id, 4 flags (1: to the head, 2: some messages only), 4 logs, 4 messages, 4 zero; for each
 *                log 4 index, 4 zero, 8 where it ended; if some only: for each of them 4 its index in the part; for each of
 *                them, or of all, 4 index of its log
 *                the properties as in meta.h, with lengths; then the payloads with their delimiters
 *
 * At the start the logs that the notes name are read once, each from the lowest end noted, for marks: what a target has is
 * known by them, message by message. The rest it is given, with the same marks, so that it does not matter how often that is
 * begun. What was trimmed since is taken to have been there: no log is trimmed behind an end that is noted before it was sent all
 * of it (commit_await), and a queue's, where a trim is nothing that anybody asked for, before it has all of it. Before a checkpoint drops notes, the logs they name are synced,
 * and what is still not given is noted anew.
 */
#define HASH_NONFATAL_OOM 1

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/clock.h"
#include "engine/failpoint.h"
#include "engine/local_commit_note.h"
#include "engine/local_tx.h"
#include "engine/local_visible.h"
#include "engine/meta.h"

#define ROOM_BYTES 65536u /* so much is left for indexes and records of the journal */
#define ROOM_FILES 3u     /* for each target: of a segment; and as many for the journal */

/* ---- writing ---- */

static size_t target_size(const struct commit_target *target)
{
	return TARGET_HEAD + (size_t)target->log_count * LOG_BYTES +
	       (size_t)target->count * (target->which != NULL ? 8 : 4);
}

static uint64_t part_size(const struct commit_part *part, uint8_t flags)
{
	uint64_t size = PART_HEAD + meta_size(&part->batch, 0, part->batch.count, flags) + part->batch.len;

	for (uint32_t i = 0; i < part->target_count; i++)
		size += target_size(&part->targets[i]);
	return size;
}

static uint8_t *put_target(uint8_t *out, const struct commit_target *target)
{
	bytes_put64(out, target->object->id);
	bytes_put32(out + 8, (target->head ? TO_HEAD : 0) | (target->which != NULL ? SOME_ONLY : 0));
	bytes_put32(out + 12, target->log_count);
	bytes_put32(out + 16, target->count);
	bytes_put32(out + 20, 0);
	out += TARGET_HEAD;
	for (uint32_t i = 0; i < target->log_count; i++, out += LOG_BYTES) {
		bytes_put32(out, target->logs[i].index);
		bytes_put32(out + 4, 0);
		bytes_put64(out + 8, target->logs[i].end);
	}
	for (uint32_t i = 0; target->which != NULL && i < target->count; i++, out += 4)
		bytes_put32(out, target->which[i]);
	for (uint32_t i = 0; i < target->count; i++, out += 4)
		bytes_put32(out, target->places[i]);
	return out;
}

static uint8_t *put_part(uint8_t *out, const struct commit_part *part)
{
	const struct engine_batch *batch = &part->batch;
	uint8_t flags = meta_flags(batch, 0, batch->count, true);
	uint64_t meta = meta_size(batch, 0, batch->count, flags);

	bytes_put64(out, part->props[0].mark);
	bytes_put32(out + 8, batch->count);
	bytes_put32(out + 12, part->target_count);
	bytes_put64(out + 16, (uint64_t)batch->ts_ms);
	bytes_put32(out + 24, batch->cred.uid);
	bytes_put32(out + 28, batch->cred.gid);
	bytes_put32(out + 32, batch->cred.pid);
	bytes_put32(out + 36, flags);
	bytes_put64(out + 40, meta);
	bytes_put64(out + 48, batch->len);
	out += PART_HEAD;
	for (uint32_t i = 0; i < part->target_count; i++)
		out = put_target(out, &part->targets[i]);
	meta_put(out, (uint32_t)meta, batch, 0, batch->count, flags, NOTE_CRC);
	memcpy(out + meta, batch->data, batch->len);
	return out + meta + batch->len;
}

/* A note of the parts, all of which are marked, or none. EMSGSIZE; ENOENT: there is nothing to note. */
static int make_note(const struct commit_part *parts, uint32_t count, const uint8_t *tail, uint32_t tail_size,
    uint8_t **ret_note, size_t *ret_size)
{
	uint64_t size = NOTE_HEAD + (uint64_t)tail_size;
	uint32_t marked = 0;
	uint8_t *note, *out;

	for (uint32_t i = 0; i < count; i++) {
		uint8_t flags = meta_flags(&parts[i].batch, 0, parts[i].batch.count, true);

		if (parts[i].props[0].mark == 0)
			continue;
		if (meta_size(&parts[i].batch, 0, parts[i].batch.count, flags) > UINT32_MAX)
			return -EMSGSIZE;
		size += part_size(&parts[i], flags);
		marked++;
	}
	if (marked == 0 && tail_size == 0)
		return -ENOENT;
	assert(marked == count);
	note = malloc(size);
	if (note == NULL)
		return -ENOMEM;
	bytes_put32(note, marked);
	bytes_put32(note + 4, tail_size);
	out = note + NOTE_HEAD;
	for (uint32_t i = 0; i < count; i++)
		out = put_part(out, &parts[i]);
	if (tail_size > 0)
		memcpy(out, tail, tail_size);
	*ret_note = note;
	*ret_size = size;
	return 0;
}

static int append_pieces(struct local *local, uint64_t mark, const uint8_t *note, size_t size, uint64_t *ret_pos)
{
	size_t room = JOURNAL_RECORD_MAX - COMMIT_PIECE_HEAD, at = 0, len;
	uint32_t pieces = (uint32_t)((size + room - 1) / room);
	uint8_t *record = malloc(COMMIT_PIECE_HEAD + (size < room ? size : room));
	int rc = record != NULL ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < pieces && rc == 0; i++) {
		len = size - at < room ? size - at : room;
		bytes_put64(record, mark);
		bytes_put32(record + 8, i);
		bytes_put32(record + 12, pieces);
		memcpy(record + COMMIT_PIECE_HEAD, note + at, len);
		rc = journal_append(local->journal, JOURNAL_ROUTE, record, COMMIT_PIECE_HEAD + len, ret_pos);
		at += len;
	}
	free(record);
	return rc;
}

static int append_note(struct local *local, uint64_t number, const uint8_t *note, size_t size)
{
	uint64_t pos = 0;
	int rc = queue_note_owed(local);

	if (rc == 0)
		rc = append_pieces(local, number, note, size, &pos);
	if (rc < 0)
		return engine_explain(rc, "the journal takes no more: %s", strerror(-rc));
	checkpoint_note(local, pos);
	return 0;
}

int commit_cancel(struct commit *commit)
{
	struct local *local = commit->local;
	uint8_t record[COMMIT_PIECE_HEAD] = { 0 };
	uint64_t pos;
	int rc;

	bytes_put64(record, commit->number);
	rc = journal_append(local->journal, JOURNAL_ROUTE, record, sizeof(record), &pos);
	if (rc < 0)
		return rc;
	checkpoint_note(local, pos);
	return journal_sync(local->journal); /* the note may be on disk by now */
}

static int mark_parts(struct commit *commit, bool all)
{
	for (uint32_t i = 0; i < commit->part_count; i++) {
		struct commit_part *part = &commit->parts[i];
		uint64_t mark = 0;
		int rc = 0;

		part->noted = all || part->target_count > 1;
		if (part->noted)
			rc = queue_next_ids(commit->local, part->batch.count, &mark);
		if (rc < 0)
			return rc;
		for (uint32_t m = 0; m < part->batch.count; m++)
			part->props[m].mark = part->noted ? mark + m : 0;
	}
	return 0;
}

/*
 * Once it is noted it has happened, so it is known before whether the disk has room for the note and for what each target gets. What was
 * accepted before, as a dead letter, is not refused for want of a little: the reserve is there for what gives room back.
 */
static int find_room(struct commit *commit, size_t note_size)
{
	uint64_t bytes = 0, files = ROOM_FILES, all;

	for (uint32_t i = 0; i < commit->part_count; i++) {
		const struct commit_part *part = &commit->parts[i];
		uint64_t meta =
		    meta_size(&part->batch, 0, part->batch.count, meta_flags(&part->batch, 0, part->batch.count, true));

		for (uint32_t t = 0; t < part->target_count; t++)
			bytes += part->targets[t].batch.len + meta;
		files += (uint64_t)part->target_count * ROOM_FILES;
	}
	if ((commit->again || commit->part_count == 0) && bytes + note_size < ROOM_BYTES)
		return 0;
	commit->owed += bytes;
	all = atomic_fetch_add(&commit->local->commits.owed, bytes) + bytes + note_size + ROOM_BYTES;
	if (reserve_leaves(commit->local, all, files))
		return 0;
	return engine_explain(-ENOSPC,
	    "the disk is full: %" PRIu64 " bytes and %" PRIu64 " files are to be free for all of it", all, files);
}

int commit_note(struct commit *commit, bool all)
{
	uint8_t *note = NULL;
	size_t size = 0;
	int rc = mark_parts(commit, all);

	if (rc == 0 && commit->tail_size > 0)
		rc = queue_next_ids(commit->local, 1, &commit->number);
	if (rc == 0)
		rc = make_note(commit->parts, commit->part_count, commit->tail, commit->tail_size, &note, &size);
	if (rc == -ENOENT)
		return 0;
	if (rc == 0 && commit->tail_size == 0)
		commit->number = bytes_get64(note + NOTE_HEAD);
	if (rc == 0)
		rc = find_room(commit, size);
	if (rc == 0)
		rc = append_note(commit->local, commit->number, note, size);
	free(note);
	return rc;
}

/* ---- notes in memory: at the start all there are, later those that are not done ---- */

void commit_pending_free(struct commit_pending *pending)
{
	if (pending != NULL)
		free(pending->note);
	free(pending);
}

int commit_pending_add(struct local *local, struct commit_pending *pending)
{
	HASH_ADD(hh, local->commits.pending, mark, sizeof(pending->mark), pending);
	return pending->hh.tbl != NULL ? 0 : -ENOMEM;
}

static int add_piece(struct commit_pending *pending, const uint8_t *piece, size_t len)
{
	uint8_t *grown = realloc(pending->note, pending->size + len);

	if (grown == NULL)
		return -ENOMEM;
	memcpy(grown + pending->size, piece, len);
	pending->note = grown;
	pending->size += len;
	pending->next++;
	return 0;
}

/* The one whose first piece this is; again, if a checkpoint noted it anew and the first note is not whole. */
static int begin_pending(struct local *local, const uint8_t *record, struct commit_pending **pending)
{
	struct commit_pending *fresh = *pending;
	int rc = 0;

	if (fresh == NULL) {
		fresh = calloc(1, sizeof(*fresh));
		if (fresh == NULL)
			return -ENOMEM;
		fresh->mark = bytes_get64(record);
		rc = commit_pending_add(local, fresh);
		if (rc < 0) {
			free(fresh);
			return rc;
		}
	}
	fresh->pieces = bytes_get32(record + 12);
	fresh->next = 0;
	fresh->size = 0;
	*pending = fresh;
	return 0;
}

static void forget(struct local *local, struct commit_pending *pending)
{
	if (pending == NULL)
		return;
	HASH_DELETE(hh, local->commits.pending, pending);
	commit_pending_free(pending);
}

int commit_replay(struct local *local, const void *bytes, size_t size)
{
	const uint8_t *record = bytes;
	struct commit_pending *pending;
	uint64_t mark;
	int rc = 0;

	if (size < COMMIT_PIECE_HEAD)
		return 0;
	mark = bytes_get64(record);
	HASH_FIND(hh, local->commits.pending, &mark, sizeof(mark), pending);
	if (bytes_get32(record + 12) == 0 || bytes_get32(record + 12) == COMMIT_FROM) {
		if (bytes_get32(record + 12) == COMMIT_FROM)
			return commit_replay_from(local, mark);
		forget(local, pending);
		return 0;
	}
	if (pending != NULL && pending->next == pending->pieces)
		return 0; /* it is whole */
	if (bytes_get32(record + 8) == 0)
		rc = begin_pending(local, record, &pending);
	if (rc < 0)
		return rc;
	/* A piece without the ones before it: a crash or damage took these, and the note is none. */
	if (pending == NULL || bytes_get32(record + 8) != pending->next)
		return 0;
	rc = add_piece(pending, record + COMMIT_PIECE_HEAD, size - COMMIT_PIECE_HEAD);
	if (rc == 0 && pending->next == pending->pieces)
		rc = tx_replay(local, pending);
	return rc == 0 && pending->next == pending->pieces ? commit_replay_marks(local, pending) : rc;
}

void commit_forget(struct local *local)
{
	struct commit_pending *pending, *next;

	HASH_ITER (hh, local->commits.pending, pending, next)
		forget(local, pending);
}

/* ---- running beside checkpoints ---- */

void commit_enter(struct local *local)
{
	visible_hold();
	pthread_rwlock_rdlock(&local->commits.running);
}

void commit_leave(struct local *local)
{
	pthread_rwlock_unlock(&local->commits.running);
	visible_let_go();
}

void commit_await(struct local *local)
{
	CRASHPOINT("commit_await");
	pthread_rwlock_wrlock(&local->commits.running);
	pthread_rwlock_unlock(&local->commits.running);
}

void commit_keep(struct commit *commit, const struct commit_part *part)
{
	struct local *local = commit->local;
	struct commit_pending *pending = calloc(1, sizeof(*pending));
	int rc = pending != NULL ? make_note(part, 1, NULL, 0, &pending->note, &pending->size) : -ENOMEM;

	if (rc == 0) {
		pending->mark = part->props[0].mark;
		pending->next = pending->pieces = 1;
		pthread_mutex_lock(&local->commits.lock);
		rc = commit_pending_add(local, pending);
		pthread_mutex_unlock(&local->commits.lock);
	}
	if (rc < 0) {
		commit_pending_free(pending);
		atomic_store(&local->commits.stuck, true);
	}
	timer_set_earlier(local, &local->checkpoint_timer, clock_mono_ms() + LOCAL_CHECKPOINT_MIN_MS);
}

bool commit_keeps_some(struct local *local)
{
	bool some;

	pthread_mutex_lock(&local->commits.lock);
	some = local->commits.pending != NULL;
	pthread_mutex_unlock(&local->commits.lock);
	return some;
}

/* Syncs the partitions of a topic that have marked messages. */
static int sync_topic(struct topic *topic)
{
	uint32_t partitions = atomic_load(&topic->partitions);
	int rc = 0;

	for (uint32_t i = 0; i < partitions && rc == 0; i++) {
		struct partition *partition = topic_partition(topic, i);

		if (!atomic_exchange(&partition->marked, false))
			continue;
		rc = partition->sync.run(&partition->sync);
		if (rc < 0)
			atomic_store(&partition->marked, true);
	}
	return rc;
}

/* What is still not done is noted anew. */
static int note_again(struct local *local)
{
	struct commit_pending *pending, *next;
	int rc = 0;

	pthread_mutex_lock(&local->commits.lock);
	HASH_ITER (hh, local->commits.pending, pending, next) {
		if (rc == 0)
			rc = append_note(local, pending->mark, pending->note, pending->size);
	}
	pthread_mutex_unlock(&local->commits.lock);
	return rc;
}

uint64_t commit_lowest_mark(struct local *local)
{
	struct commit_pending *pending, *next;
	uint64_t lowest = UINT64_MAX;

	pthread_mutex_lock(&local->commits.lock);
	HASH_ITER (hh, local->commits.pending, pending, next)
		lowest = pending->mark < lowest ? pending->mark : lowest;
	pthread_mutex_unlock(&local->commits.lock);
	return lowest;
}

int commit_checkpoint(struct local *local)
{
	int rc = 0;
	bool some;

	pthread_rwlock_wrlock(&local->commits.running); /* until all are over that were noted before */
	atomic_store(&local->commits.begun, false);     /* it was said in the old files */
	pthread_rwlock_unlock(&local->commits.running);
	if (atomic_load(&local->commits.stuck))
		return -ENOMEM;
	some = commit_keeps_some(local);
	if (some && !local->logs_closed)
		rc = commit_finish(local);
	return rc == 0 && some ? note_again(local) : rc;
}

int commit_sync(struct local *local)
{
	struct object *object;
	uint64_t after = 0;
	int rc = 0;

	while (rc == 0 && (object = registry_next(local, NULL, ENGINE_TOPIC, after)) != NULL) {
		after = object->id;
		if (atomic_load(&topic_of_object(object)->marked))
			rc = sync_topic(topic_of_object(object));
		object_put(object);
	}
	return rc;
}
