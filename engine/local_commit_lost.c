/*
 * local_commit_lost - messages of commits whose note a power cut has lost: none of their targets has them.
 *
 * The kernel writes pages when it likes: a target's log may be on disk, and the note not, which is in the journal. Then the
 * message must go, as other targets may not have it. Its log is cut there, as if its page, too, had been lost: that is what
 * a power cut may leave in any case, so all else is as after one. What was confirmed comes before it, since a log is
 * synced after the journal; what comes after it, and has a note, is given again (local_commit_recover.c).
 *
 * To know such a message: before the first note since a checkpoint, the journal gets a record that says from which mark
 * on all notes are behind it, and that is synced. A message with such a mark, in the part of a log that nobody synced, and
 * without a whole note, has lost it. If there is such a record at the start, all logs are opened then: it will be gone later.
 *
 * Nor does such a message leave by what the journal has of it: the record of the place it got in a queue comes behind its note,
 * and without that it counts as lost, too, with all that follows of that queue. Else it could be where somebody had moved it to.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/bytes.h"
#include "engine/failpoint.h"
#include "engine/local_commit_note.h"

/* ---- the record ---- */

static int begin(struct local *local)
{
	uint8_t record[COMMIT_PIECE_HEAD] = { 0 };
	uint64_t from = 0, pos = 0;
	int rc = queue_next_ids(local, 1, &from);

	bytes_put64(record, from);
	bytes_put32(record + 12, COMMIT_FROM);
	if (rc == 0)
		rc = journal_append(local->journal, JOURNAL_ROUTE, record, sizeof(record), &pos);
	if (rc < 0)
		return engine_explain(rc, "the journal takes no more: %s", strerror(-rc));
	checkpoint_note(local, pos);
	return journal_sync(local->journal);
}

int commit_begin(struct local *local)
{
	int rc = 0;

	if (atomic_load(&local->commits.begun))
		return 0;
	CRASHPOINT("commit_begin");
	pthread_mutex_lock(&local->commits.begin_lock);
	if (!atomic_load(&local->commits.begun))
		rc = begin(local);
	if (rc == 0)
		atomic_store(&local->commits.begun, true);
	pthread_mutex_unlock(&local->commits.begin_lock);
	return rc;
}

/* ---- at the start ---- */

/* The marks of one part of a note. */
struct noted_marks {
	uint64_t first, count;
};

struct commit_marks {
	struct noted_marks *list;
	size_t count, room;
};

static int add_marks(struct commit_marks *marks, uint64_t first, uint64_t count)
{
	struct noted_marks *grown;

	if (marks->count == marks->room) {
		grown = realloc(marks->list, (marks->room * 2 + 64) * sizeof(*grown));
		if (grown == NULL)
			return -ENOMEM;
		marks->list = grown;
		marks->room = marks->room * 2 + 64;
	}
	marks->list[marks->count++] = (struct noted_marks){ first, count };
	return 0;
}

/* Goes past len bytes; false: there are not so many. */
static bool skip(const uint8_t **at, const uint8_t *end, uint64_t len)
{
	if (len > (uint64_t)(end - *at))
		return false;
	*at += len;
	return true;
}

static bool skip_targets(const uint8_t **at, const uint8_t *end, uint32_t targets)
{
	bool ok = true;

	for (uint32_t i = 0; i < targets && ok; i++) {
		const uint8_t *head = *at;

		ok = skip(at, end, TARGET_HEAD) && skip(at, end, (uint64_t)bytes_get32(head + 12) * LOG_BYTES) &&
		     skip(at, end, (uint64_t)bytes_get32(head + 16) * (bytes_get32(head + 8) & SOME_ONLY ? 8 : 4));
	}
	return ok;
}

static int add_note(struct commit_marks *marks, const struct commit_pending *pending)
{
	const uint8_t *at = pending->note + NOTE_HEAD, *end = pending->note + pending->size, *head;
	uint32_t parts;
	int rc = 0;

	if (!commit_is_whole(pending))
		return 0;
	parts = bytes_get32(pending->note);
	for (uint32_t i = 0; i < parts && rc == 0; i++) {
		head = at;
		if (!skip(&at, end, PART_HEAD) || !skip_targets(&at, end, bytes_get32(head + 12)) ||
		    !skip(&at, end, bytes_get64(head + 40)) || !skip(&at, end, bytes_get64(head + 48)))
			break; /* damaged, as read_note() tells */
		rc = add_marks(marks, bytes_get64(head), bytes_get32(head + 8));
	}
	return rc;
}

static int by_first(const void *a, const void *b)
{
	const struct noted_marks *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

/* The first there is counts: the files before it are gone. */
int commit_replay_from(struct local *local, uint64_t from)
{
	if (from < local->commits.from)
		local->commits.from = from;
	if (local->commits.marks == NULL)
		local->commits.marks = calloc(1, sizeof(*local->commits.marks));
	return local->commits.marks != NULL ? 0 : -ENOMEM;
}

/* Notes come nearly in the order of their marks. */
int commit_replay_marks(struct local *local, const struct commit_pending *pending)
{
	struct commit_marks *marks = local->commits.marks;
	size_t had = marks != NULL ? marks->count : 0;
	int rc = marks != NULL ? add_note(marks, pending) : 0;

	for (size_t i = had; marks != NULL && i < marks->count; i++) {
		for (size_t k = i; k > 0 && marks->list[k - 1].first > marks->list[k].first; k--) {
			struct noted_marks one = marks->list[k];

			marks->list[k] = marks->list[k - 1];
			marks->list[k - 1] = one;
		}
	}
	return rc;
}

/* Anew: some may not have happened. */
int commit_find_marks(struct local *local)
{
	struct commit_pending *pending, *next;
	struct commit_marks *marks = local->commits.marks;
	int rc = 0;

	if (marks == NULL)
		return 0;
	marks->count = 0;
	HASH_ITER (hh, local->commits.pending, pending, next) {
		if (rc == 0)
			rc = add_note(marks, pending);
	}
	if (rc == 0 && marks->count > 0)
		qsort(marks->list, marks->count, sizeof(*marks->list), by_first);
	return rc;
}

void commit_forget_marks(struct local *local)
{
	if (local->commits.marks != NULL)
		free(local->commits.marks->list);
	free(local->commits.marks);
	local->commits.marks = NULL;
}

bool commit_lost(void *ctx, uint64_t mark)
{
	const struct local *local = ctx;
	const struct commit_marks *marks = local->commits.marks;
	size_t low = 0, high;

	if (marks == NULL || mark < local->commits.from || mark == QUEUE_FORWARD)
		return false;
	high = marks->count;
	while (low < high) { /* the first that begins above */
		size_t mid = low + (high - low) / 2;

		if (marks->list[mid].first <= mark)
			low = mid + 1;
		else
			high = mid;
	}
	return low == 0 || mark - marks->list[low - 1].first >= marks->list[low - 1].count;
}

/* What fails is told of where it does; that log keeps what it has. */
static void open_topic(struct topic *topic)
{
	uint32_t partitions = atomic_load(&topic->partitions);
	struct plog *plog;

	for (uint32_t i = 0; i < partitions; i++)
		(void)partition_open_log(topic_partition(topic, i), &plog);
}

void commit_open_all(struct local *local)
{
	struct object *object;
	uint64_t after = 0;

	if (local->commits.marks == NULL)
		return;
	while ((object = registry_next(local, NULL, ENGINE_TOPIC, after)) != NULL) {
		after = object->id;
		open_topic(topic_of_object(object));
		object_put(object);
	}
	after = 0;
	while ((object = registry_next(local, NULL, ENGINE_QUEUE, after)) != NULL) {
		after = object->id;
		(void)queue_open(queue_of_object(object));
		object_put(object);
	}
	commit_forget_marks(local);
}

int commit_before_sync(void *ctx)
{
	const struct local *local = ctx;

	return journal_sync(local->journal);
}
