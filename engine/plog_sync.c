/*
 * plog_sync - what was appended reaches the disk.
 *
 * The syncs run outside of the mutex, while appends go on; what is appended meanwhile may reach the disk too, but the mark
 * says only what had been there before. Segments that were rolled since the last sync are synced here as well, oldest
 * first, so that an append never waits for a disk.
 *
 * A sync that failed is never tried again: the kernel has thrown the pages away that it could not write, and a second
 * fsync would find nothing to complain about.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/plog_internal.h"

struct job {
	struct segment_reader reader;
	struct index_mark mark;
};

/* Pins the segments from i on and notes how far they go. mutex. */
static int pin_jobs(struct plog *plog, size_t i, struct job *jobs, size_t count)
{
	for (size_t k = 0; k < count; k++) {
		const struct segment *segment = plog->segments[i + k];
		int rc = plog_pin(plog, i + k, &jobs[k].reader);

		if (rc) {
			while (k > 0)
				plog_unpin(plog, jobs[--k].reader.segment);
			return rc;
		}
		jobs[k].mark = (struct index_mark){
			.end_offset = jobs[k].reader.end_offset,
			.base_pos = segment->base_pos,
			.index_end = INDEX_FIRST + segment->slots * INDEX_SLOT,
			.data_end = segment->data_end,
			.meta_end = segment->meta_end,
			.gaps = segment->gaps,
		};
	}
	plog->frozen = plog_active(plog)->slots;
	return 0;
}

static int run_jobs(const struct job *jobs, size_t count)
{
	int rc = 0;

	for (size_t k = 0; k < count && !rc; k++)
		rc = segment_sync(&jobs[k].reader, &jobs[k].mark);
	return rc;
}

/* The next record of plog_tail.c begins where this sync ended. mutex */
static void note_tail(struct plog *plog, const struct job *last, uint64_t end)
{
	if (plog->tail.offset < end)
		plog->tail = (struct plog_tail){ .base = last->reader.base,
			.offset = end,
			.slots = last->reader.slots,
			.data_end = last->mark.data_end,
			.meta_end = last->mark.meta_end };
}

static int sync_from(struct plog *plog, size_t i, struct job *jobs, size_t count)
{
	uint64_t end = plog->end_offset;
	bool marked = plog->marked && plog->options.before_sync != NULL;
	int rc, before = 0;

	rc = pin_jobs(plog, i, jobs, count);
	if (rc)
		return rc;
	plog->marked = false;
	pthread_mutex_unlock(&plog->mutex);
	if (marked) /* now: it holds for all that is pinned */
		before = plog->options.before_sync(plog->options.ctx);
	rc = before ? before : run_jobs(jobs, count);
	pthread_mutex_lock(&plog->mutex);
	if (rc)
		plog->marked = plog->marked || marked;
	if (rc && !before)
		plog->failed = true;
	if (!rc && plog->synced < end) {
		plog->synced = end;
		note_tail(plog, &jobs[count - 1], end);
	}
	for (size_t k = 0; k < count; k++)
		plog_unpin(plog, jobs[k].reader.segment);
	return rc ? -EIO : 0;
}

int plog_sync(struct plog *plog)
{
	struct job one, *jobs = &one;
	size_t i, count;
	int rc = 0;

	pthread_mutex_lock(&plog->mutex);
	(void)plog_repair(plog); /* what an append left must not get to the disk now */
	if (plog->failed) {
		rc = -EIO;
	} else if (plog->synced < plog->end_offset && !plog->options.read_only) {
		i = plog_find(plog, plog->synced);
		count = plog->count - i;
		if (count > 1)
			jobs = malloc(count * sizeof(*jobs));
		rc = jobs ? sync_from(plog, i, jobs, count) : -ENOMEM;
		if (jobs != &one)
			free(jobs);
	}
	pthread_mutex_unlock(&plog->mutex);
	return rc;
}

/* ---- by a sync of the file system ---- */

int plog_sync_begin(struct plog *plog, struct plog_tail *ret_to)
{
	int rc;

	pthread_mutex_lock(&plog->mutex);
	rc = plog->failed ? -EIO : plog->options.read_only ? 0 : plog_repair(plog);
	if (!rc && !plog->options.read_only && plog->synced < plog->end_offset) {
		rc = plog->synced < plog_active(plog)->base ? -EFBIG : 1;
		if (rc == 1) {
			plog->frozen = plog_active(plog)->slots;
			*ret_to = plog_tail_end(plog);
		}
	}
	pthread_mutex_unlock(&plog->mutex);
	return rc;
}

/* mutex */
static int put_mark(struct plog *plog, const struct plog_tail *to)
{
	const struct segment *active = plog_active(plog);
	struct index_mark mark = { .end_offset = to->offset,
		.base_pos = active->base_pos,
		.index_end = INDEX_FIRST + to->slots * INDEX_SLOT,
		.data_end = to->data_end,
		.meta_end = to->meta_end,
		.gaps = active->gaps };
	struct segment_reader reader;
	int rc = plog_pin(plog, plog->count - 1, &reader);

	if (rc)
		return rc;
	segment_put_mark(&reader, &mark);
	plog_unpin(plog, reader.segment);
	return 0;
}

int plog_sync_end(struct plog *plog, const struct plog_tail *to)
{
	int rc = 0;

	pthread_mutex_lock(&plog->mutex);
	if (!plog->failed && plog->synced < to->offset && to->offset <= plog->end_offset &&
	    plog_active(plog)->base == to->base) {
		rc = put_mark(plog, to);
		if (!rc) {
			plog->synced = to->offset;
			if (plog->tail.offset < to->offset)
				plog->tail = *to;
		}
	}
	pthread_mutex_unlock(&plog->mutex);
	return rc;
}
