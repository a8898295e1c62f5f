/*
 * local_note - ends of logs that are on disk in the journal, before they are in files of their own.
 *
 * note_log() appends what a log has and its disk has not to the journal, as a record that plog_tail.c makes. From then on
 * the journal must not be dropped before the log was synced: `noted` of its sync point says so, to notes_settle(), which
 * every checkpoint calls between beginning a new file of the journal and dropping the old ones (local_settle.c). `noted` is set before the record
 * is appended, so that a checkpoint that drops the record has seen it, and again behind it, so that one that was quicker
 * leaves it to the next.
 *
 * At the start note_replay() brings each record back to its log, if the power was cut, and remembers which logs these
 * are: what the daemon before this one noted may still be in the page cache only, so the first checkpoint syncs them.
 */
#define HASH_NONFATAL_OOM 1

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/local_queue.h"

int note_log(struct local *local, struct sync_point *point, uint8_t *record, struct plog_tail *ret_to)
{
	struct plog *plog = atomic_load(point->log);
	uint64_t pos;
	size_t size;
	int rc;

	if (plog == NULL)
		return -EFBIG;
	rc = plog_tail(plog, record, NOTE_MAX, &size, ret_to);
	if (rc != 1 || size == 0)
		return rc;
	atomic_store(&point->noted, true);
	rc = journal_append(local->journal, JOURNAL_LOG, record, size, &pos);
	if (rc < 0)
		return rc;
	atomic_store(&point->noted, true);
	plog_tail_noted(plog, ret_to);
	checkpoint_note(local, pos);
	return 1;
}

/* ---- before records are dropped ---- */

/* A log whose notes were found at the start. */
struct replayed {
	struct {
		uint64_t log_id, base;
	} key;
	UT_hash_handle hh;
};

static int settle_replayed(struct local *local)
{
	struct plog_redo redo = PLOG_REDO_INIT;
	struct replayed *log;
	int rc = 0;

	while ((log = local->replayed) != NULL) {
		struct plog_options options = local_log_options(local, log->key.log_id);

		rc = plog_redo_open(&redo, &options, log->key.base);
		if (rc == 0)
			rc = plog_redo_sync(&redo);
		if (rc < 0 && rc != -ENOENT)
			break;
		rc = 0;
		HASH_DELETE(hh, local->replayed, log);
		free(log);
	}
	plog_redo_close(&redo);
	return rc;
}

int notes_settle(struct local *local)
{
	int rc = settle_replayed(local);

	return rc == 0 ? settle_run(local) : rc;
}

/* ---- at the start ---- */

static int remember(struct local *local, uint64_t log_id, uint64_t base)
{
	struct replayed *log, *fresh = calloc(1, sizeof(*fresh));

	if (fresh == NULL)
		return -ENOMEM;
	fresh->key.log_id = log_id;
	fresh->key.base = base;
	HASH_FIND(hh, local->replayed, &fresh->key, sizeof(fresh->key), log);
	if (log == NULL) {
		HASH_ADD(hh, local->replayed, key, sizeof(fresh->key), fresh);
		if (fresh->hh.tbl != NULL)
			return 0;
	}
	free(fresh);
	return log != NULL ? 0 : -ENOMEM;
}

int note_replay(struct local *local, struct plog_redo *redo, const void *record, size_t size)
{
	struct plog_options options = local_log_options(local, 0);
	int rc = plog_redo(redo, &options, record, size);
	struct plog_tail_end end;

	if (rc == -ENOENT && plog_record_end(record, size, &end) == 0) /* removed since, or lost */
		return ends_noted(local, end.log_id, end.offset, 0, end.bytes);
	if (rc == -ENOENT || rc == -EBADMSG)
		return 0;
	if (rc < 0)
		return engine_explain(
		    rc, "a log, whose end is in the journal, cannot be read or written: %s", strerror(-rc));
	return remember(local, redo->id, redo->base);
}

void notes_forget(struct local *local)
{
	struct replayed *log, *next;

	HASH_ITER (hh, local->replayed, log, next) {
		HASH_DELETE(hh, local->replayed, log);
		free(log);
	}
}
