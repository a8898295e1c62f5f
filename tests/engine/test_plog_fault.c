/*
 * Tests of a partition log on a disk that fails, at every call, or loses its power, after every change.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "engine/io.h"
#include "tests/lib/fault.h"
#include "tests/lib/nosync.h"
#include "tests/lib/plogbox.h"
#include "tests/lib/powercut.h"

#define MIB (1u << 20)

static struct box box;

static void make(void)
{
	nosync_install();
	box_make(&box);
}

static void drop(void)
{
	box_remove(&box);
}

TestSuite(plog_fault, .init = make, .fini = drop);

/* A sync that fails is final: it and all later ones say so, nothing more is taken, and what is there can be read. */
Test(plog_fault, failed_sync_is_final)
{
	for (uint64_t n = 1;; n++) {
		struct box copy;
		uint64_t calls;

		box_copy(&copy, &box);
		cr_assert_eq(box_open(&copy), 0);
		for (uint64_t i = 0; i < 30; i += 10)
			cr_assert_eq(box_append(&copy, i, 10, 1, 1), 0);
		fault_arm(FAULT_SYNC, n, EIO, false);
		int rc = plog_sync(copy.plog);
		calls = fault_disarm();
		if (calls < n) {
			cr_assert_eq(rc, 0);
			box_remove(&copy);
			break;
		}
		cr_assert_eq(rc, -EIO);
		cr_assert_eq(plog_sync(copy.plog), -EIO);
		cr_assert_eq(plog_synced(copy.plog), 0);
		cr_assert_eq(box_append(&copy, 30, 10, 1, 1), -EROFS);
		cr_assert_eq(box_check(&copy, 0, NULL), 30);
		cr_assert_eq(box_close(&copy), -EIO);
		box_remove(&copy);
	}
}

static const struct io_ops *below;

static int append_and_sync(int fd)
{
	if (box_stat(&box).end == 3)
		cr_assert_eq(box_append(&box, 3, 1, 1000, MIB), 0);
	return below->fdatasync(fd);
}

/* What is appended while the disk syncs is not on it by that: the next sync is not left out. */
Test(plog_fault, a_sync_covers_what_was_there_before)
{
	struct io_ops appending = *io;

	below = io;
	cr_assert_eq(box_append(&box, 0, 3, 1, MIB), 0);
	appending.fdatasync = append_and_sync;
	io = &appending;
	cr_assert_eq(plog_sync(box.plog), 0);
	io = below;
	cr_assert_eq(box_stat(&box).end, 4);
	cr_assert_eq(plog_synced(box.plog), 3);
	cr_assert_eq(plog_sync(box.plog), 0);
	cr_assert_eq(plog_synced(box.plog), 4);
}

/* What a run of calls took, in order: message numbers by offset. */
struct history {
	uint64_t taken[64], count, trimmed;
};

/* Appends of all kinds, rolls, syncs, trims. Any call may fail; *h says what was taken. Returns the first error. */
static int run_history(struct box *of, struct history *h)
{
	const uint64_t at[] = { 0, 1, 2, 3, 5, 10, 11, 12, 20, 25, 33, 40 };
	int64_t next;
	int first = 0, rc;

	for (size_t i = 0; i + 1 < sizeof(at) / sizeof(*at); i++) {
		rc = box_append(of, at[i], (uint32_t)(at[i + 1] - at[i]), (int64_t)(100 + i / 4), 150);
		first = first ? first : rc;
		for (uint64_t k = at[i]; !rc && k < at[i + 1]; k++)
			h->taken[h->count++] = k;
		cr_assert(!rc || rc == -EIO || rc == -ENOSPC || rc == -EROFS, "%d", rc);
		cr_assert_eq(box_stat(of).end, h->count);
		if (i == 3 || i == 6) {
			rc = plog_sync(of->plog);
			first = first ? first : rc;
			cr_assert(!rc || rc == -EIO);
		}
		if (i == 5 && h->count > 7) {
			rc = plog_trim(of->plog, 7);
			first = first ? first : rc;
			cr_assert(!rc || rc == -EIO || rc == -ENOSPC || rc == -EROFS, "%d", rc);
			h->trimmed = rc ? 0 : 7;
		}
	}
	rc = plog_retain(of->plog, -1, 200, 1, UINT64_MAX, &next);
	cr_assert(!rc || rc == -EIO || rc == -ENOSPC || rc == -EROFS, "%d", rc);
	return first ? first : rc;
}

/* Every message taken and not trimmed is there, as it was; nothing else is. */
static void check_history(struct box *of, const struct history *h)
{
	struct engine_partition_stat stat = box_stat(of);
	struct engine_view view;

	cr_assert_eq(stat.end, h->count);
	cr_assert_geq(stat.earliest, h->trimmed);
	for (uint64_t offset = stat.earliest; offset < stat.end; offset++) {
		char want[64];
		size_t len = box_payload(h->taken[offset], want);

		cr_assert_eq(plog_read(of->plog, offset, 1, &of->scratch, &view), 0);
		cr_assert(
		    view.batch.lengths[0] == len && !memcmp(view.batch.data, want, len), "offset %" PRIu64, offset);
	}
}

/* Runs the history with the n-th call failing. Returns false when it was not reached. */
static bool one_fault(uint64_t n, int err, bool sticky)
{
	struct history h = { 0 };
	struct box copy;
	uint64_t calls;

	box_copy(&copy, &box);
	cr_assert_eq(box_open(&copy), 0);
	fault_arm(FAULT_ANY, n, err, sticky);
	run_history(&copy, &h);
	calls = fault_disarm();
	check_history(&copy, &h);
	if (!sticky) { /* killed: what is in the files is what was taken */
		struct box killed;

		box_copy(&killed, &copy);
		cr_assert_eq(box_open(&killed), 0);
		check_history(&killed, &h);
		cr_assert_eq(box_append(&killed, 40, 1, 7, MIB), 0);
		box_remove(&killed);
	}
	box_close(&copy);
	cr_assert_eq(box_open(&copy), 0);
	check_history(&copy, &h);
	cr_assert_eq(box_append(&copy, 40, 1, 7, MIB), 0);
	box_remove(&copy);
	return calls >= n;
}

/*
 * Whichever single call on a file fails, and however torn it leaves its write: what was taken stays, what was refused left
 * nothing, in memory, after a kill, and after a close.
 */
Test(plog_fault, every_call_fails_once)
{
	uint64_t n = 1;

	while (one_fault(n, n % 2 ? EIO : ENOSPC, false))
		n++;
	cr_assert_gt(n, 40);
}

/* The same when the disk is gone from that call on, until the log is opened again. */
Test(plog_fault, every_call_fails_from_there_on)
{
	for (uint64_t n = 1; one_fault(n, ENOSPC, true); n++)
		;
}

/* A trim begins with the file that says where the log begins: if that cannot be written, every message is still there. */
Test(plog_fault, trim_that_fails_takes_nothing)
{
	struct box killed;

	for (uint64_t i = 0; i < 40; i += 4)
		cr_assert_eq(box_append(&box, i, 4, 100, 150), 0);
	fault_arm(FAULT_RENAME, 1, EIO, false);
	cr_assert_eq(plog_trim(box.plog, 30), -EIO);
	cr_assert_eq(fault_disarm(), 1);
	cr_assert_eq(box_stat(&box).earliest, 0);
	cr_assert_eq(box_check(&box, 0, NULL), 40);
	box_copy(&killed, &box);
	cr_assert_eq(box_open(&killed), 0);
	cr_assert_eq(box_check(&killed, 0, NULL), 40);
	box_remove(&killed);
}

/* Whichever call fails while a log is created, nothing is left, or it can be created again. */
Test(plog_fault, create_fails)
{
	for (uint64_t n = 1;; n++) {
		struct tmpdir dir;
		struct plog_options options = { .id = BOX_ID };
		uint64_t calls;
		int rc;

		tmpdir_make(&dir);
		options.logs_dirfd = dir.fd;
		fault_arm(FAULT_ANY, n, ENOSPC, n % 2);
		rc = plog_create(&options);
		calls = fault_disarm();
		cr_assert_eq(rc, calls < n ? 0 : -ENOSPC);
		if (rc)
			cr_assert_eq(plog_create(&options), 0);
		tmpdir_remove(&dir);
		if (calls < n)
			break;
	}
}

/* Whichever call fails while recovery repairs a torn log, the next opening gets as far as one without a failure. */
Test(plog_fault, recovery_fails)
{
	struct box torn;
	uint64_t end = box_fill(&box, 5);

	box_append(&box, end, 5, 1, 1);
	box_copy(&torn, &box);
	box_cut(&torn, 0, "data", box_size(&torn, 0, "data") - 1);
	for (uint64_t n = 1;; n++) {
		struct box copy;
		uint64_t calls;

		box_copy(&copy, &torn);
		fault_arm(FAULT_ANY, n, EIO, false);
		int rc = box_open(&copy);
		calls = fault_disarm();
		if (rc)
			cr_assert_eq(box_open(&copy), 0);
		cr_assert_eq(box_stat(&copy).end, end - 5);
		box_expect_working(&copy, 0);
		box_remove(&copy);
		if (calls < n)
			break;
		cr_assert_eq(rc, -EIO);
	}
	box_remove(&torn);
}

/* What was promised at some point of a recorded run. */
struct promise {
	size_t changes; /* made when it was given */
	uint64_t taken, synced, trimmed;
};

static void promise(struct promise *promises, size_t *count, const struct powercut *cut, uint64_t trimmed)
{
	struct engine_partition_stat stat = box_stat(&box);

	promises[(*count)++] = (struct promise){ powercut_count(cut), stat.end, stat.synced, trimmed };
}

/* Appends small and large, rolls, syncs, a purge within a segment and of whole ones, retention. */
static size_t run_and_promise(struct promise *promises, const struct powercut *cut)
{
	uint64_t n = 0, trimmed = 0;
	size_t count = 0;
	int64_t next;

	for (unsigned i = 0; i < 40; i++) {
		uint32_t size = i == 17 ? 6000 : 1 + i % 6;

		cr_assert_eq(box_append(&box, n, size, 100 + i / 3, i == 17 ? MIB : 300), 0);
		n += size;
		promise(promises, &count, cut, trimmed);
		if (i == 25) { /* a roll that brings no meta file */
			uint32_t pad = (uint32_t)(7 - n % 7);

			cr_assert_eq(box_append(&box, n, pad, 110, 300), 0);
			cr_assert_eq(box_append(&box, n + pad, 2, 110, 1), 0);
			n += pad + 2;
		}
		if (i % 5 == 4 || i == 25)
			cr_assert_eq(plog_sync(box.plog), 0);
		if (i == 12 || i == 20 || i == 33) {
			trimmed = i == 20 ? n : n - 15;
			cr_assert_eq(plog_trim(box.plog, trimmed), 0);
		}
		if (i == 38)
			cr_assert_eq(plog_retain(box.plog, -1, 100, 1, UINT64_MAX, &next), 0);
		promise(promises, &count, cut, trimmed);
	}
	return count;
}

/*
 * Whenever the power goes, and whatever the disk made of what was not synced: all that a sync had confirmed is there, what
 * was purged is not, nothing is torn or comes out of nowhere, and the log goes on.
 */
Test(plog_fault, power_cuts)
{
	struct promise promises[100], last = { 0 };
	int fd = box_dir(&box);
	struct powercut *cut = powercut_start(fd);
	size_t count = run_and_promise(promises, cut), p = 0;
	uint64_t lost;

	powercut_stop(cut);
	cr_assert_gt(powercut_count(cut), 150);
	for (size_t n = 0; n <= powercut_count(cut); n++) {
		while (p < count && promises[p].changes <= n)
			last = promises[p++];
		for (uint64_t seed = 0; seed < 6; seed++) {
			uint64_t random = seed < 2 ? seed : n * 6 + seed,
				 taken = p < count ? promises[p].taken : last.taken;
			struct box copy;
			int copy_fd;

			box_copy(&copy, &box);
			copy_fd = box_dir(&copy);
			tmpdir_clear(copy_fd);
			powercut_make(cut, n, random, copy_fd);
			close(copy_fd);
			cr_assert_eq(box_open(&copy), 0, "change %zu, seed %" PRIu64, n, random);
			cr_assert(box_stat(&copy).end >= last.synced && box_stat(&copy).end <= taken,
			    "change %zu, seed %" PRIu64 ": end %" PRIu64 ", synced %" PRIu64, n, random,
			    box_stat(&copy).end, last.synced);
			cr_assert_geq(box_stat(&copy).earliest, last.trimmed);
			cr_assert_leq(box_stat(&copy).synced, box_stat(&copy).end);
			box_check(&copy, 0, &lost);
			cr_assert_eq(lost, 0, "change %zu, seed %" PRIu64, n, random);
			cr_assert_eq(copy.errors, 0, "change %zu, seed %" PRIu64 ": %s", n, random, copy.text);
			cr_assert_eq(box_append(&copy, box_stat(&copy).end, 3, 5, 300), 0);
			cr_assert_eq(box_close(&copy), 0);
			cr_assert_eq(box_open(&copy), 0);
			box_check(&copy, 0, &lost);
			cr_assert_eq(lost + copy.errors, 0);
			box_remove(&copy);
		}
	}
	powercut_free(cut);
	close(fd);
}
