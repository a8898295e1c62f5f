/*
 * Tests of what a partition log makes of crashes, failing calls and damaged files.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/crc32c.h"
#include "engine/index.h"
#include "engine/io.h"
#include "tests/lib/fault.h"
#include "tests/lib/plogbox.h"
#include "tests/lib/powercut.h"

#define MIB (1u << 20)
#define FILES ((const char *const[]){ "data", "index", "meta" })

static struct box box;

static int no_sync(int fd)
{
	(void)fd;
	return 0;
}

/* The page cache is all these tests look at; a sync would only take time. */
static void make(void)
{
	static struct io_ops quick;

	quick = io_posix;
	quick.fsync = no_sync;
	quick.fdatasync = no_sync;
	io = &quick;
	box_make(&box);
}

static void drop(void)
{
	box_remove(&box);
}

TestSuite(plog_recover, .init = make, .fini = drop);

static struct engine_partition_stat stat_of(struct box *of)
{
	struct engine_partition_stat stat;

	plog_stat(of->plog, &stat);
	return stat;
}

/* Batches of 1 to 5 messages, each an entry of its own; some have meta. Returns the number of messages. */
static uint64_t fill(unsigned batches)
{
	uint64_t n = stat_of(&box).end;

	for (unsigned i = 0; i < batches; i++) {
		uint32_t count = 1 + i % 5;

		cr_assert_eq(box_append(&box, n, count, (int64_t)n, MIB), 0);
		n += count;
	}
	return n;
}

/* The entries of a segment as its index has them. */
static uint32_t entries_of(const struct box *of, uint64_t base, struct index_entry *ret_entries)
{
	char name[64];
	size_t size;
	uint8_t *bytes;
	uint32_t count = 0;

	snprintf(name, sizeof(name), "%s/%020" PRIu64 ".index", BOX_LOG, base);
	bytes = tmpdir_get(of->dir.fd, name, &size);
	for (size_t pos = INDEX_FIRST; pos + INDEX_SLOT <= size; pos += INDEX_SLOT)
		cr_assert_eq(index_get_entry(bytes + pos, &ret_entries[count++]), 0);
	free(bytes);
	return count;
}

/* Whether an entry is still wholly there when one of the files was cut. */
static bool survives(const struct index_entry *entry, uint32_t slot, const char *suffix, int64_t size)
{
	if (!strcmp(suffix, "index"))
		return size >= INDEX_FIRST + INDEX_SLOT * (slot + 1);
	if (!strcmp(suffix, "data"))
		return entry->pos + entry->length <= size;
	return entry->meta_len == 0 || entry->meta_pos + entry->meta_len <= size;
}

/* A log works: messages can be added and read, and it looks the same after a kill, and after a reopening. */
static void expect_working(struct box *of, uint64_t lost)
{
	uint64_t end = stat_of(of).end, right = box_check(of, 0, NULL), now_lost;

	for (int round = 0; round < 2; round++) {
		struct box killed;

		cr_assert_eq(box_append(of, end + (uint64_t)round, 1, 99, MIB), 0);
		box_copy(&killed, of);
		cr_assert_eq(box_open(&killed), 0);
		cr_assert_eq(box_check(&killed, 0, &now_lost), right + 1 + (uint64_t)round);
		cr_assert_eq(now_lost, lost);
		box_remove(&killed);
		cr_assert_eq(box_close(of), 0);
		cr_assert_eq(box_open(of), 0);
		cr_assert_eq(box_check(of, 0, &now_lost), right + 1 + (uint64_t)round);
		cr_assert_eq(now_lost, lost);
	}
}

/*
 * A crash may cut any file of the last segment at any byte: then exactly those batches are lost that are not wholly there,
 * and what came after them.
 */
Test(plog_recover, cut_at_every_byte)
{
	struct index_entry entries[8];
	uint32_t count;

	fill(6);
	count = entries_of(&box, 0, entries);
	cr_assert_eq(count, 6);
	cr_assert_gt(box_size(&box, 0, "meta"), 20);
	for (size_t f = 0; f < 3; f++)
		for (int64_t size = box_size(&box, 0, FILES[f]); size >= 0; size--) {
			struct box copy;
			uint64_t want = 0;

			for (uint32_t i = 0; i < count && survives(&entries[i], i, FILES[f], size); i++)
				want += entries[i].count;
			box_copy(&copy, &box);
			box_cut(&copy, 0, FILES[f], size);
			cr_assert_eq(box_open(&copy), 0, "%s cut at %" PRId64, FILES[f], size);
			cr_assert_eq(stat_of(&copy).end, want, "%s cut at %" PRId64, FILES[f], size);
			cr_assert_eq(box_check(&copy, 0, NULL), want);
			cr_assert_leq(copy.events, 1);
			expect_working(&copy, 0);
			box_remove(&copy);
		}
}

/*
 * Where that much had been synced, a file that has become shorter is damage: those batches cannot be read, the others can,
 * and no offset is given twice. Only an index without its mark cannot tell.
 */
Test(plog_recover, synced_and_cut)
{
	struct index_entry entries[8];
	uint32_t count;
	uint64_t end = fill(6);

	cr_assert_eq(plog_sync(box.plog), 0);
	count = entries_of(&box, 0, entries);
	for (size_t f = 0; f < 3; f++)
		for (int64_t size = box_size(&box, 0, FILES[f]); size >= (f == 1 ? INDEX_FIRST : 0); size--) {
			struct box copy;
			uint64_t want = 0, lost;

			for (uint32_t i = 0; i < count; i++)
				want += survives(&entries[i], i, FILES[f], size) ? entries[i].count : 0;
			box_copy(&copy, &box);
			box_cut(&copy, 0, FILES[f], size);
			cr_assert_eq(box_open(&copy), 0);
			cr_assert_eq(stat_of(&copy).end, end, "%s cut at %" PRId64, FILES[f], size);
			cr_assert_eq(box_check(&copy, 0, &lost), want, "%s cut at %" PRId64, FILES[f], size);
			cr_assert_eq(lost, end - want);
			cr_assert_eq(copy.errors > 0, lost > 0);
			expect_working(&copy, lost);
			box_remove(&copy);
		}
}

/*
 * A file system may grow a file and lose what was written there: where the bytes of a batch that was not synced are not
 * what they were, the log ends before it.
 */
Test(plog_recover, bytes_that_did_not_arrive)
{
	struct index_entry entries[8];
	uint32_t count;
	uint64_t want = 0;

	fill(6);
	count = entries_of(&box, 0, entries);
	for (uint32_t i = 0; i < count; want += entries[i++].count)
		for (size_t f = 0; f < 3; f++) {
			struct box copy;

			if (f == 2 && entries[i].meta_len == 0)
				continue;
			box_copy(&copy, &box);
			box_flip(&copy, 0, FILES[f],
			    8 * (f == 0      ? entries[i].pos + entries[i].length / 2
				    : f == 1 ? INDEX_FIRST + INDEX_SLOT * i + 20
					     : entries[i].meta_pos + entries[i].meta_len - 1));
			cr_assert_eq(box_open(&copy), 0);
			cr_assert_eq(stat_of(&copy).end, want);
			expect_working(&copy, 0);
			box_remove(&copy);
		}
}

/* Data whose index is gone is not thrown away. */
Test(plog_recover, data_without_index_is_kept)
{
	int64_t size;

	fill(6);
	cr_assert_eq(box_close(&box), 0);
	size = box_size(&box, 0, "data");
	box_cut(&box, 0, "index", 50);
	cr_assert_eq(box_open(&box), 0);
	cr_assert_eq(box.errors, 1);
	cr_assert_eq(stat_of(&box).end, 0);
	cr_assert_eq(box_size(&box, 0, "lost"), size);
	expect_working(&box, 0);
}

/* The tail may hold anything: zeros, another tail, an entry of somewhere else. None of it becomes a message. */
Test(plog_recover, garbage_behind_the_end)
{
	uint64_t end = fill(6);
	uint8_t garbage[3 * INDEX_SLOT] = { 0 };
	int fd = box_dir(&box);
	uint8_t *index;
	size_t size;

	index = tmpdir_get(fd, "00000000000000000000.index", &size);
	for (int what = 0; what < 3; what++) {
		struct box copy;
		char name[64];
		int index_fd;

		if (what == 1)
			memset(garbage, 0xa5, sizeof(garbage));
		if (what == 2)
			memcpy(garbage, index + INDEX_FIRST, sizeof(garbage));
		box_copy(&copy, &box);
		snprintf(name, sizeof(name), "%s/%020d.index", BOX_LOG, 0);
		index_fd = openat(copy.dir.fd, name, O_WRONLY | O_APPEND | O_CLOEXEC);
		cr_assert_eq(write(index_fd, garbage, sizeof(garbage)), sizeof(garbage));
		close(index_fd);
		cr_assert_eq(box_open(&copy), 0);
		cr_assert_eq(stat_of(&copy).end, end);
		cr_assert_eq(copy.events, 1);
		expect_working(&copy, 0);
		box_remove(&copy);
	}
	free(index);
	close(fd);
}

/* Of an append that became several entries, all survive or none. */
Test(plog_recover, divided_append_is_whole_or_absent)
{
	uint64_t end = fill(3);
	struct index_entry entries[64];
	uint32_t count;

	cr_assert_eq(box_append(&box, end, 20000, 5, MIB), 0);
	count = entries_of(&box, 0, entries);
	cr_assert_gt(count, 5);
	for (uint32_t keep = 3; keep <= count; keep++) {
		struct box copy;

		box_copy(&copy, &box);
		box_cut(&copy, 0, "index", INDEX_FIRST + INDEX_SLOT * keep);
		cr_assert_eq(box_open(&copy), 0);
		cr_assert_eq(stat_of(&copy).end, keep == count ? end + 20000 : end);
		expect_working(&copy, 0);
		box_remove(&copy);
	}
}

/* A bit that flips in what was synced costs the batch it belongs to: not one message more, and it is told once. */
Test(plog_recover, flipped_bits)
{
	struct index_entry entries[32];
	uint64_t end = fill(5);
	uint32_t count;

	box_append(&box, end, 5, 1, 1); /* a second segment; the first is sealed */
	cr_assert_eq(plog_sync(box.plog), 0);
	cr_assert_gt(box_size(&box, end, "index"), 0);
	count = entries_of(&box, 0, entries);
	for (size_t f = 0; f < 3; f++)
		for (int64_t byte = 0; byte < box_size(&box, 0, FILES[f]); byte++) {
			struct box copy;
			uint64_t want = 0, lost = 0;

			for (uint32_t i = 0; i < count; i++) {
				const struct index_entry *e = &entries[i];
				bool hit = f == 0 ? byte >= e->pos && byte < e->pos + e->length
					   : f == 1
					       ? byte / INDEX_SLOT == 2 + i
					       : e->meta_len && byte >= e->meta_pos && byte < e->meta_pos + e->meta_len;

				want += hit ? e->count : 0;
			}
			box_copy(&copy, &box);
			box_flip(&copy, 0, FILES[f], byte * 8 + byte % 8);
			cr_assert_eq(box_open(&copy), 0);
			for (int round = 0; round < 2; round++) {
				cr_assert_eq(box_check(&copy, 0, &lost) + lost, end + 5);
				cr_assert_eq(lost, want, "%s byte %" PRId64, FILES[f], byte);
				cr_assert_eq(copy.errors, want ? 1 : 0);
			}
			cr_assert_eq(stat_of(&copy).end_pos, stat_of(&box).end_pos);
			box_remove(&copy);
		}
}

/* The same for the last segment, which recovery looks at. */
Test(plog_recover, flipped_bits_of_the_last)
{
	uint64_t end = fill(5), right, lost;

	cr_assert_eq(plog_sync(box.plog), 0);
	for (size_t f = 0; f < 3; f++)
		for (int64_t byte = 0; byte < box_size(&box, 0, FILES[f]); byte++) {
			struct box copy;

			box_copy(&copy, &box);
			box_flip(&copy, 0, FILES[f], byte * 8 + byte % 8);
			cr_assert_eq(box_open(&copy), 0);
			right = box_check(&copy, 0, &lost);
			cr_assert(right + lost == end && lost <= 5, "%s byte %" PRId64, FILES[f], byte);
			expect_working(&copy, lost);
			box_remove(&copy);
		}
}

/* Header and mark of a segment both lost: its messages are still there, and so are their positions. */
Test(plog_recover, lost_front)
{
	char *before = malloc(MIB), *after = malloc(MIB);
	uint64_t bases[] = { 0, 0, 0 };

	bases[1] = fill(5);
	box_append(&box, bases[1], 10, 1, 1);
	bases[2] = stat_of(&box).end;
	box_append(&box, bases[2], 10, 1, 1);
	cr_assert_eq(plog_sync(box.plog), 0);
	cr_assert_eq(plog_pread(box.plog, 0, before, MIB), (ssize_t)stat_of(&box).end_pos);
	for (int k = 0; k < 3; k++) {
		struct box copy;

		box_copy(&copy, &box);
		box_flip(&copy, bases[k], "index", 8);
		box_flip(&copy, bases[k], "index", 64 * 8);
		cr_assert_eq(box_open(&copy), 0);
		cr_assert_eq(box_check(&copy, 0, NULL), stat_of(&box).end);
		cr_assert_eq(plog_pread(copy.plog, 0, after, MIB), (ssize_t)stat_of(&box).end_pos);
		cr_assert(!memcmp(before, after, stat_of(&box).end_pos));
		expect_working(&copy, 0);
		box_remove(&copy);
	}
	free(before);
	free(after);
}

/* Whole segments whose files are gone cost what was in them. */
Test(plog_recover, missing_files)
{
	uint64_t lost;
	int fd = box_dir(&box);

	for (uint64_t i = 0; i < 50; i += 10)
		box_append(&box, i, 10, 1, 1);
	cr_assert_eq(plog_sync(box.plog), 0);
	cr_assert_eq(box_close(&box), 0);
	unlinkat(fd, "00000000000000000010.data", 0);
	unlinkat(fd, "00000000000000000030.index", 0);
	unlinkat(fd, "00000000000000000040.data", 0);
	close(fd);
	cr_assert_eq(box_open(&box), 0);
	cr_assert_eq(box_check(&box, 0, &lost), 20);
	cr_assert_eq(lost, 30);
	expect_working(&box, 30);
}

/* A segment that was just being made when the machine died is no segment. */
Test(plog_recover, crash_while_rolling)
{
	uint64_t end = fill(5);

	for (int what = 0; what < 4; what++) {
		struct box copy;
		uint8_t zeros[INDEX_FIRST] = { 0 };
		char name[64];
		int fd;

		box_copy(&copy, &box);
		fd = box_dir(&copy);
		snprintf(name, sizeof(name), "%020" PRIu64 ".data", end);
		tmpdir_put(fd, name, "", 0);
		snprintf(name, sizeof(name), "%020" PRIu64 ".index", end);
		if (what > 0)
			tmpdir_put(fd, name, zeros, what == 1 ? 0 : what == 2 ? 100 : sizeof(zeros));
		close(fd);
		cr_assert_eq(box_open(&copy), 0);
		cr_assert_eq(stat_of(&copy).end, end);
		cr_assert_eq(box_size(&copy, end, "data"), -1);
		cr_assert_eq(copy.errors, 0);
		expect_working(&copy, 0);
		box_remove(&copy);
	}
}

/* A segment that was rolled but never synced is torn: the log ends there, whatever of the next one reached the disk. */
Test(plog_recover, torn_before_the_last)
{
	uint64_t end = fill(5);

	box_append(&box, end, 5, 1, 1);
	for (int synced = 0; synced < 2; synced++) {
		struct box copy;
		uint64_t lost;

		if (synced)
			cr_assert_eq(plog_sync(box.plog), 0);
		box_copy(&copy, &box);
		box_cut(&copy, 0, "data", box_size(&copy, 0, "data") - 1);
		cr_assert_eq(box_open(&copy), 0);
		box_check(&copy, 0, &lost);
		cr_assert_eq(lost, synced ? 5 : 0);
		cr_assert_eq(stat_of(&copy).end, synced ? end + 5 : end - 5);
		cr_assert_eq(box_size(&copy, end, "data") < 0, !synced);
		expect_working(&copy, lost);
		box_remove(&copy);
	}
}

/* What was rolled but not synced is not lost by a kill, and the next sync covers it. */
Test(plog_recover, kill_after_rolling)
{
	struct box copy;

	for (uint64_t i = 0; i < 30; i += 10)
		box_append(&box, i, 10, 1, 1);
	box_copy(&copy, &box);
	cr_assert_eq(box_open(&copy), 0);
	cr_assert(stat_of(&copy).end == 30 && stat_of(&copy).synced == 0);
	fault_arm(FAULT_SYNC, 0, 0, false);
	cr_assert_eq(plog_sync(copy.plog), 0);
	cr_assert_geq(fault_disarm(), 6);
	cr_assert_eq(stat_of(&copy).synced, 30);
	expect_working(&copy, 0);
	box_remove(&copy);
}

/* Purged, then the machine dies before the messages that were left got to the disk: offsets do not go back. */
Test(plog_recover, start_beyond_the_end)
{
	struct box copy;

	for (uint64_t i = 0; i < 100; i += 10)
		box_append(&box, i, 10, (int64_t)i, MIB);
	cr_assert_eq(plog_trim(box.plog, 55), 0);
	box_copy(&copy, &box);
	box_cut(&copy, 0, "index", INDEX_FIRST + 2 * INDEX_SLOT);
	cr_assert_eq(box_open(&copy), 0);
	cr_assert(stat_of(&copy).earliest == 55 && stat_of(&copy).end == 55);
	cr_assert_eq(stat_of(&copy).start_pos, stat_of(&box).start_pos);
	expect_working(&copy, 0);
	box_remove(&copy);
}

/* A damaged `start` costs no message: what was purged within the first segment comes back, and that is told. */
Test(plog_recover, damaged_start)
{
	char name[64];
	int fd;

	for (uint64_t i = 0; i < 100; i += 10)
		box_append(&box, i, 10, (int64_t)i, MIB);
	cr_assert_eq(plog_trim(box.plog, 55), 0);
	cr_assert_eq(box_close(&box), 0);
	snprintf(name, sizeof(name), "%s/start", BOX_LOG);
	fd = openat(box.dir.fd, name, O_WRONLY | O_CLOEXEC);
	cr_assert_eq(pwrite(fd, "x", 1, 40), 1);
	close(fd);
	cr_assert_eq(box_open(&box), 0);
	cr_assert_eq(box.errors, 1);
	cr_assert_eq(stat_of(&box).earliest, 0);
	cr_assert_eq(box_check(&box, 0, NULL), 100);
}

/* A trim that was interrupted between `start` and the removal of files is finished at the next opening. */
Test(plog_recover, interrupted_trim)
{
	struct box copy;

	for (uint64_t i = 0; i < 50; i += 10)
		box_append(&box, i, 10, 1, 1);
	fault_arm(FAULT_UNLINK, 1, EIO, true);
	cr_assert_eq(plog_trim(box.plog, 35), 0);
	fault_disarm();
	cr_assert_gt(box.errors, 0);
	box_copy(&copy, &box);
	cr_assert_geq(box_size(&copy, 0, "index"), 0);
	cr_assert_eq(box_open(&copy), 0);
	cr_assert_eq(stat_of(&copy).earliest, 35);
	cr_assert_eq(box_size(&copy, 0, "index"), -1);
	cr_assert_eq(box_size(&copy, 20, "data"), -1);
	expect_working(&copy, 0);
	box_remove(&copy);
}

/* A log of another store, of another id, or of a newer version is refused with a reason, and left as it is. */
Test(plog_recover, foreign)
{
	uint8_t *index;
	size_t size;
	int fd;

	fill(3);
	cr_assert_eq(box_close(&box), 0);
	box.options.store_uuid[3] ^= 1;
	cr_assert_eq(box_open(&box), -EUCLEAN);
	cr_assert(strstr(engine_reason(), "another store"));
	box.options.store_uuid[3] ^= 1;
	fd = box_dir(&box);
	index = tmpdir_get(fd, "00000000000000000000.index", &size);
	bytes_put64(index + 28, BOX_ID + 1);
	bytes_put32(index + 60, crc32c(0, index, 60));
	tmpdir_put(fd, "00000000000000000000.index", index, size);
	cr_assert_eq(box_open(&box), -EUCLEAN);
	bytes_put64(index + 28, BOX_ID);
	bytes_put32(index + 8, INDEX_VERSION + 1);
	bytes_put32(index + 60, crc32c(0, index, 60));
	tmpdir_put(fd, "00000000000000000000.index", index, size);
	cr_assert_eq(box_open(&box), -EUCLEAN);
	cr_assert(strstr(engine_reason(), "newer"));
	bytes_put32(index + 8, INDEX_VERSION);
	bytes_put32(index + 60, crc32c(0, index, 60));
	tmpdir_put(fd, "00000000000000000000.index", index, size);
	cr_assert_eq(box_open(&box), 0);
	expect_working(&box, 0);
	free(index);
	close(fd);
}

/* A sync that fails is final: it and all later ones say so, nothing more is taken, and what is there can be read. */
Test(plog_recover, failed_sync_is_final)
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
		cr_assert_eq(stat_of(of).end, h->count);
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
	rc = plog_retain(of->plog, -1, 200, 1, &next);
	cr_assert(!rc || rc == -EIO || rc == -ENOSPC || rc == -EROFS, "%d", rc);
	return first ? first : rc;
}

/* Every message taken and not trimmed is there, as it was; nothing else is. */
static void check_history(struct box *of, const struct history *h)
{
	struct engine_partition_stat stat = stat_of(of);
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
Test(plog_recover, every_call_fails_once)
{
	uint64_t n = 1;

	while (one_fault(n, n % 2 ? EIO : ENOSPC, false))
		n++;
	cr_assert_gt(n, 40);
}

/* The same when the disk is gone from that call on, until the log is opened again. */
Test(plog_recover, every_call_fails_from_there_on)
{
	for (uint64_t n = 1; one_fault(n, ENOSPC, true); n++)
		;
}

/* Whichever call fails while a log is created, nothing is left, or it can be created again. */
Test(plog_recover, create_fails)
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
Test(plog_recover, recovery_fails)
{
	struct box torn;
	uint64_t end = fill(5);

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
		cr_assert_eq(stat_of(&copy).end, end - 5);
		expect_working(&copy, 0);
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
	struct engine_partition_stat stat = stat_of(&box);

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
			cr_assert_eq(plog_retain(box.plog, -1, 100, 1, &next), 0);
		promise(promises, &count, cut, trimmed);
	}
	return count;
}

/*
 * Whenever the power goes, and whatever the disk made of what was not synced: all that a sync had confirmed is there, what
 * was purged is not, nothing is torn or comes out of nowhere, and the log goes on.
 */
Test(plog_recover, power_cuts)
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
			cr_assert(stat_of(&copy).end >= last.synced && stat_of(&copy).end <= taken,
			    "change %zu, seed %" PRIu64 ": end %" PRIu64 ", synced %" PRIu64, n, random,
			    stat_of(&copy).end, last.synced);
			cr_assert_geq(stat_of(&copy).earliest, last.trimmed);
			cr_assert_leq(stat_of(&copy).synced, stat_of(&copy).end);
			box_check(&copy, 0, &lost);
			cr_assert_eq(lost, 0, "change %zu, seed %" PRIu64, n, random);
			cr_assert_eq(copy.errors, 0, "change %zu, seed %" PRIu64 ": %s", n, random, copy.text);
			cr_assert_eq(box_append(&copy, stat_of(&copy).end, 3, 5, 300), 0);
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
