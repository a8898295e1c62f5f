/*
 * The ends of logs as records: noted elsewhere, a log's messages are on disk without a sync of its own.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/index.h"
#include "tests/lib/fault.h"
#include "tests/lib/means.h"
#include "tests/lib/nosync.h"
#include "tests/lib/plogbox.h"
#include "tests/lib/powercut.h"

static struct box box;

static void set_up(void)
{
	box_make(&box);
}

static void tear_down(void)
{
	box_remove(&box);
}

TestSuite(plog_tail, .init = set_up, .fini = tear_down);

#define ROOM (48u << 10)
#define NOTES_MAX 64u

struct note {
	size_t changes;   /* made when it was noted */
	size_t dropped;   /* made when a checkpoint dropped it; SIZE_MAX: never */
	uint64_t durable; /* what it confirms */
	size_t size;
	uint8_t *record;
};

struct notes {
	struct note list[NOTES_MAX];
	size_t count;
};

/* Notes what there is: what plog_tail said. */
static int take_note(struct notes *notes, const struct powercut *cut)
{
	struct note *note = &notes->list[notes->count];
	struct plog_tail to;
	int rc;

	cr_assert_lt(notes->count, NOTES_MAX);
	note->record = malloc(ROOM);
	rc = plog_tail(box.plog, note->record, ROOM, &note->size, &to);
	if (rc != 1) {
		free(note->record);
		return rc;
	}
	plog_tail_noted(box.plog, &to);
	plog_tail_synced(box.plog, &to);
	note->changes = cut != NULL ? powercut_count(cut) : 0;
	note->dropped = SIZE_MAX;
	note->durable = to.offset;
	notes->count++;
	return 1;
}

static void drop_notes(struct notes *notes, const struct powercut *cut)
{
	for (size_t i = 0; i < notes->count; i++) {
		if (notes->list[i].dropped == SIZE_MAX)
			notes->list[i].dropped = powercut_count(cut);
	}
}

static void free_notes(struct notes *notes)
{
	for (size_t i = 0; i < notes->count; i++)
		free(notes->list[i].record);
}

/* Brings those back that were there after n changes. */
static void redo_notes(struct box *copy, const struct notes *notes, size_t n)
{
	struct plog_redo redo = PLOG_REDO_INIT;

	for (size_t i = 0; i < notes->count; i++) {
		const struct note *note = &notes->list[i];
		int rc;

		if (note->changes > n || note->dropped <= n)
			continue;
		rc = plog_redo(&redo, &copy->options, note->record, note->size);
		cr_assert(rc == 0 || rc == -ENOENT, "%d", rc);
	}
	plog_redo_close(&redo);
}

/* What is noted counts as synced, once; what comes later is noted by itself; a sync begins anew. */
Test(plog_tail, notes)
{
	struct notes notes = { 0 };

	cr_assert_eq(take_note(&notes, NULL), 0, "an empty log has nothing");
	cr_assert_eq(box_append(&box, 0, 3, 5, 1000), 0);
	cr_assert_eq(take_note(&notes, NULL), 1);
	cr_assert_eq(box_stat(&box).synced, 3);
	cr_assert_eq(take_note(&notes, NULL), 0);
	cr_assert_eq(box_append(&box, 3, 2, 5, 1000), 0);
	cr_assert_eq(box_stat(&box).synced, 3);
	cr_assert_eq(take_note(&notes, NULL), 1);
	cr_assert_eq(plog_sync(box.plog), 0);
	cr_assert_eq(box_append(&box, 5, 1, 5, 1000), 0);
	cr_assert_eq(take_note(&notes, NULL), 1);
	cr_assert_eq(box_stat(&box).synced, 6);
	free_notes(&notes);
}

/* A sync from outside counts for what was there when it began; what came meanwhile is noted by itself. */
Test(plog_tail, synced_from_outside)
{
	struct notes notes = { 0 };
	struct plog_tail to;

	cr_assert_eq(plog_sync_begin(box.plog, &to), 0, "an empty log has nothing");
	cr_assert_eq(box_append(&box, 0, 3, 5, 1000), 0);
	cr_assert_eq(plog_sync_begin(box.plog, &to), 1);
	cr_assert_eq(box_append(&box, 3, 2, 5, 1000), 0);
	cr_assert_eq(plog_sync_end(box.plog, &to), 0);
	cr_assert_eq(box_stat(&box).synced, 3);
	cr_assert_eq(plog_synced(box.plog), 3);
	cr_assert_eq(take_note(&notes, NULL), 1);
	cr_assert_eq(box_stat(&box).synced, 5);
	cr_assert_eq(plog_sync_begin(box.plog, &to), 1);
	cr_assert_eq(plog_sync_end(box.plog, &to), 0);
	cr_assert_eq(plog_sync_begin(box.plog, &to), 0, "all is on disk");
	cr_assert_eq(box_close(&box), 0);
	cr_assert_eq(box_open(&box), 0);
	cr_assert_eq(plog_synced(box.plog), 5, "the mark says so");
	free_notes(&notes);
}

/* What is in two segments is for plog_sync; a segment that was begun meanwhile leaves the mark of the other as it was. */
Test(plog_tail, synced_from_outside_rolled)
{
	struct plog_tail to;

	cr_assert_eq(box_append(&box, 0, 3, 5, 1000), 0);
	cr_assert_eq(plog_sync_begin(box.plog, &to), 1);
	cr_assert_eq(box_append(&box, 3, 1, 5, 1), 0);
	cr_assert_eq(plog_sync_end(box.plog, &to), 0);
	cr_assert_eq(plog_synced(box.plog), 0);
	cr_assert_eq(plog_sync_begin(box.plog, &to), -EFBIG);
	cr_assert_eq(plog_sync(box.plog), 0);
	cr_assert_eq(plog_sync_begin(box.plog, &to), 0);
}

/* What is too large, or in a segment that is not written any more, is for plog_sync. */
Test(plog_tail, too_much)
{
	struct notes notes = { 0 };

	cr_assert_eq(box_append_big(&box, 'x', ROOM, 5, 1 << 20), 0);
	cr_assert_eq(take_note(&notes, NULL), -EFBIG);
	cr_assert_eq(plog_sync(box.plog), 0);
	cr_assert_eq(box_append(&box, 1, 1, 5, 1 << 20), 0);
	cr_assert_eq(box_append(&box, 2, 1, 5, 1), 0);
	cr_assert_eq(take_note(&notes, NULL), -EFBIG, "the first of them is in the segment before");
	cr_assert_eq(plog_sync(box.plog), 0);
	cr_assert_eq(box_append(&box, 3, 1, 5, 1 << 20), 0);
	cr_assert_eq(take_note(&notes, NULL), 1);
	free_notes(&notes);
}

/* A record of another log, or of no log, does nothing; one that was cut is none. */
Test(plog_tail, foreign_records)
{
	struct plog_redo redo = PLOG_REDO_INIT;
	struct notes notes = { 0 };
	struct plog_options other;

	cr_assert_eq(box_append(&box, 0, 3, 5, 1000), 0);
	cr_assert_eq(take_note(&notes, NULL), 1);
	cr_assert_eq(box_close(&box), 0);
	other = box.options;
	other.store_uuid[0] ^= 1;
	cr_assert_eq(plog_redo(&redo, &other, notes.list[0].record, notes.list[0].size), -ENOENT);
	for (size_t size = 0; size < notes.list[0].size; size++)
		cr_assert_eq(plog_redo(&redo, &box.options, notes.list[0].record, size), -EBADMSG);
	notes.list[0].record[0] ^= 1;
	cr_assert_eq(plog_redo(&redo, &box.options, notes.list[0].record, notes.list[0].size), -ENOENT);
	cr_assert_eq(plog_redo(&redo, &box.options, (uint8_t[40]){ BOX_ID }, 40), -EBADMSG, "it has no slots");
	plog_redo_close(&redo);
	cr_assert_eq(box_open(&box), 0);
	free_notes(&notes);
}

/* What was appended in the place of something that was noted and taken back stays. */
Test(plog_tail, newer_stays)
{
	struct notes notes = { 0 };
	struct engine_view view;
	struct box copy, after;
	char payload[64];
	static const struct {
		uint64_t first; /* the messages that the copy has in the place of 7 and 8 */
		uint32_t count;
		bool cut; /* and not whole */
		bool stays;
	} rows[] = {
		{ 3, 2, false, true }, /* longer */
		{ 1, 1, false, true },
		{ 7, 1, false, false }, /* the same, and not all of it */
		{ 1, 1, true, false },
	};

	cr_assert_eq(box_append(&box, 0, 3, 5, 1000), 0);
	box_copy(&copy, &box);
	cr_assert_eq(box_append(&box, 7, 2, 6, 1000), 0); /* not what the copy will have there */
	cr_assert_eq(take_note(&notes, NULL), 1);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct box other;

		box_copy(&other, &copy);
		cr_assert_eq(box_open(&other), 0);
		cr_assert_eq(box_append(&other, rows[i].first, rows[i].count, 6, 1000), 0);
		box_copy(&after, &other);
		box_remove(&other);
		if (rows[i].cut)
			box_cut(&after, 0, "data", box_size(&after, 0, "data") - 1);
		redo_notes(&after, &notes, 0);
		cr_assert_eq(box_open(&after), 0);
		cr_assert_eq(box_stat(&after).end, 3 + (rows[i].stays ? rows[i].count : 2), "row %zu", i);
		cr_assert_eq(plog_read(after.plog, 3, 1, &after.scratch, &view), 0);
		cr_assert_eq(view.batch.len, 1 + box_payload(rows[i].stays ? rows[i].first : 7, payload));
		cr_assert_eq(memcmp(view.batch.data, payload, view.batch.len - 1), 0, "row %zu", i);
		box_remove(&after);
	}
	box_remove(&copy);
	free_notes(&notes);
}

/* What a sync of the log has covered since is not the record's any more: the files may be those of a compacted segment. */
Test(plog_tail, synced_stays)
{
	struct notes notes = { 0 };

	cr_assert_eq(box_append(&box, 0, 3, 5, 1000), 0);
	cr_assert_eq(box_append(&box, 3, 3, 6, 1000), 0);
	cr_assert_eq(take_note(&notes, NULL), 1);
	cr_assert_eq(box_close(&box), 0); /* which syncs */
	box_flip(&box, 0, "data", 3);
	redo_notes(&box, &notes, 0);
	cr_assert_eq(box_open(&box), 0);
	cr_assert_eq(box_check(&box, 0, NULL), 3, "the flip is still there");
	free_notes(&notes);
}

/* What is older than what was noted or synced says nothing; a log that is read-only is not noted. */
Test(plog_tail, older_and_read_only)
{
	struct notes notes = { 0 };
	struct plog_tail first, to;
	uint8_t record[1];
	size_t size;

	cr_assert_eq(box_append(&box, 0, 3, 5, 1000), 0);
	cr_assert_eq(plog_sync_begin(box.plog, &first), 1);
	cr_assert_eq(box_append(&box, 3, 2, 5, 1000), 0);
	cr_assert_eq(take_note(&notes, NULL), 1);
	plog_tail_noted(box.plog, &first);
	plog_tail_synced(box.plog, &first);
	cr_assert_eq(box_stat(&box).synced, 5);
	cr_assert_eq(take_note(&notes, NULL), 0);
	cr_assert_eq(box_close(&box), 0);
	box.options.read_only = true;
	cr_assert_eq(box_open(&box), 0);
	cr_assert_eq(plog_tail(box.plog, record, sizeof(record), &size, &to), -EROFS);
	cr_assert_eq(box_close(&box), 0);
	box.options.read_only = false;
	cr_assert_eq(box_open(&box), 0);
	free_notes(&notes);
}

/* Files under the name of the segment that are not it stay as they are. */
Test(plog_tail, foreign_files)
{
	struct plog_redo redo = PLOG_REDO_INIT;
	struct notes notes = { 0 };
	struct note *note = &notes.list[0];
	int fd;

	cr_assert_eq(box_append(&box, 0, 3, 5, 1000), 0);
	cr_assert_eq(take_note(&notes, NULL), 1);
	cr_assert_eq(box_close(&box), 0);
	fd = box_dir(&box);
	cr_assert_eq(renameat(fd, "00000000000000000000.index", fd, "00000000000000000001.index"), 0);
	note->record[8] = 1; /* the base */
	cr_assert_eq(plog_redo(&redo, &box.options, note->record, note->size), -ENOENT);
	cr_assert_eq(renameat(fd, "00000000000000000001.index", fd, "00000000000000000000.index"), 0);
	note->record[8] = 0;
	cr_assert_eq(renameat(box.dir.fd, BOX_LOG, box.dir.fd, "000000000000002b"), 0);
	note->record[0] ^= 1; /* the id */
	cr_assert_eq(plog_redo(&redo, &box.options, note->record, note->size), -ENOENT);
	note->record[0] ^= 1;
	cr_assert_eq(renameat(box.dir.fd, "000000000000002b", box.dir.fd, BOX_LOG), 0);
	box_flip(&box, 0, "index", 3);
	cr_assert_eq(plog_redo(&redo, &box.options, note->record, note->size), -ENOENT);
	box_flip(&box, 0, "index", 3);
	cr_assert_eq(plog_redo(&redo, &box.options, note->record, note->size), 0);
	plog_redo_close(&redo);
	box_cut(&box, 0, "index", 10);
	cr_assert_eq(plog_redo(&redo, &box.options, note->record, note->size), -ENOENT);
	close(fd);
	free_notes(&notes);
}

/* Of an index of which the power left the header only, the record brings all back. */
Test(plog_tail, header_only)
{
	struct notes notes = { 0 };

	cr_assert_eq(box_append(&box, 0, 3, 5, 1000), 0);
	cr_assert_eq(take_note(&notes, NULL), 1);
	cr_assert_eq(box_close(&box), 0);
	box_cut(&box, 0, "index", INDEX_SLOT);
	redo_notes(&box, &notes, 0);
	cr_assert_eq(box_open(&box), 0);
	cr_assert_eq(box_check(&box, 0, NULL), 3);
	free_notes(&notes);
}

/* Whatever fails while a record is brought back, it says so, and is brought back the next time. Read-only nothing is written. */
Test(plog_tail, redo_fails, .init = nosync_install)
{
	struct notes notes = { 0 };
	struct box before;
	unsigned failed = 0;
	uint64_t end;

	box_fill(&box, 1);
	box_copy(&before, &box);
	end = box_fill(&box, 9);
	cr_assert_eq(take_note(&notes, NULL), 1);
	for (int means = MEANS_CHANGES; means <= MEANS_READS; means++) {
		bool reached = true;

		for (uint64_t n = 0; n == 0 || reached; n++) {
			struct plog_redo redo = PLOG_REDO_INIT;
			const struct note *note = &notes.list[0];
			struct box copy;
			int rc;

			box_copy(&copy, &before);
			copy.options.read_only = n == 0;
			means_arm(means, n);
			rc = plog_redo(&redo, &copy.options, note->record, note->size);
			if (rc == 0)
				rc = plog_redo_sync(&redo);
			reached = means_disarm(means, n);
			cr_assert(rc == 0 || (n > 0 && reached), "kind %d, call %d: %d", means, (int)n, rc);
			failed += rc < 0;
			cr_assert(n > 0 || box_size(&copy, 0, "data") == box_size(&before, 0, "data"));
			plog_redo_close(&redo);
			copy.options.read_only = false;
			redo_notes(&copy, &notes, 0);
			cr_assert_eq(box_open(&copy), 0);
			cr_assert_eq(box_check(&copy, 0, NULL), end);
			box_remove(&copy);
		}
	}
	cr_assert_geq(failed, 8);
	box_remove(&before);
	free_notes(&notes);
}

/* Whatever cannot be read while it is noted: it says so, and is noted the next time. */
Test(plog_tail, noting_fails, .init = nosync_install)
{
	struct notes notes = { 0 };
	uint64_t n = 0;
	int rc;

	cr_assert_eq(box_append(&box, 0, 7, 5, 1000), 0);
	do {
		means_arm(MEANS_READS, ++n);
		rc = take_note(&notes, NULL);
		cr_assert_eq(means_disarm(MEANS_READS, n), rc < 0);
		cr_assert(rc == 1 || rc == -EIO);
	} while (rc < 0);
	cr_assert_gt(n, 3); /* index, meta, data */
	free_notes(&notes);
}

/* Appends, rolls, notes, purges; now and then a sync, after which the notes are dropped. */
static uint64_t run(
    struct notes *notes, const struct powercut *cut, uint64_t taken[], size_t *ret_changes, size_t rounds)
{
	uint64_t n = 0;

	for (size_t i = 0; i < rounds; i++) {
		uint32_t size = 1 + (uint32_t)i % 6;

		cr_assert_eq(box_append(&box, n, size, 100 + (int64_t)i / 4, 400), 0);
		n += size;
		if (i % 3 != 0) {
			int rc = take_note(notes, cut);

			if (rc == -EFBIG)
				cr_assert_eq(plog_sync(box.plog), 0);
		}
		if (i == 14 || i == 27) {
			cr_assert_eq(plog_sync(box.plog), 0);
			drop_notes(notes, cut);
		}
		if (i == 20)
			cr_assert_eq(plog_trim(box.plog, n - 9), 0);
		taken[i] = n;
		ret_changes[i] = powercut_count(cut);
	}
	return n;
}

/*
 * Whenever the power goes, what was noted is there again, nothing is torn, and nothing comes out of nowhere; and where nothing
 * was lost, as when only the daemon dies, nothing that was not noted is lost by it either. To do it twice changes nothing.
 */
Test(plog_tail, power_cuts)
{
	enum { ROUNDS = 40 };
	uint64_t taken[ROUNDS], lost;
	size_t changes[ROUNDS];
	struct notes notes = { 0 };
	int fd = box_dir(&box);
	struct powercut *cut = powercut_start(fd);

	run(&notes, cut, taken, changes, ROUNDS);
	powercut_stop(cut);
	nosync_install();
	cr_assert_gt(notes.count, 15);
	for (size_t n = 0; n <= powercut_count(cut); n++) {
		uint64_t durable = 0, kept = 0;

		for (size_t i = 0; i < notes.count; i++) {
			if (notes.list[i].changes <= n)
				durable = notes.list[i].durable;
		}
		for (size_t i = 0; i < ROUNDS; i++) {
			if (changes[i] <= n)
				kept = taken[i];
		}
		for (uint64_t seed = 0; seed < 6; seed++) {
			uint64_t random = seed < 2 ? seed : n * 6 + seed;
			struct box copy;
			int copy_fd;

			box_copy(&copy, &box);
			copy_fd = box_dir(&copy);
			tmpdir_clear(copy_fd);
			powercut_make(cut, n, random, copy_fd);
			close(copy_fd);
			redo_notes(&copy, &notes, n);
			redo_notes(&copy, &notes, n);
			cr_assert_eq(box_open(&copy), 0, "change %zu, seed %" PRIu64, n, random);
			cr_assert_geq(
			    box_stat(&copy).end, seed == 1 ? kept : durable, "change %zu, seed %" PRIu64, n, random);
			box_check(&copy, 0, &lost);
			cr_assert_eq(lost + copy.errors, 0, "change %zu, seed %" PRIu64 ": %s", n, random, copy.text);
			cr_assert_eq(box_append(&copy, box_stat(&copy).end, 3, 5, 400), 0);
			cr_assert_eq(box_close(&copy), 0);
			redo_notes(&copy, &notes, n);
			cr_assert_eq(box_open(&copy), 0);
			box_check(&copy, 0, &lost);
			cr_assert_eq(lost + copy.errors, 0);
			box_remove(&copy);
		}
	}
	powercut_free(cut);
	free_notes(&notes);
	close(fd);
}
