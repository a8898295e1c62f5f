/*
 * Tests of what a partition log makes of crashes and of damaged files. Failing calls and power cuts are in
 * test_plog_fault.c.
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
#include "tests/lib/alloc.h"
#include "tests/lib/fault.h"
#include "tests/lib/nosync.h"
#include "tests/lib/plogbox.h"

#define MIB (1u << 20)
#define FILES ((const char *const[]){ "data", "index", "meta" })

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

TestSuite(plog_recover, .init = make, .fini = drop);

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

/*
 * A crash may cut any file of the last segment at any byte: then exactly those batches are lost that are not wholly there,
 * and what came after them.
 */
Test(plog_recover, cut_at_every_byte)
{
	struct index_entry entries[8];
	uint32_t count;

	box_fill(&box, 6);
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
			cr_assert_eq(box_stat(&copy).end, want, "%s cut at %" PRId64, FILES[f], size);
			cr_assert_eq(box_check(&copy, 0, NULL), want);
			cr_assert_leq(copy.events, 1);
			box_expect_working(&copy, 0);
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
	uint64_t end = box_fill(&box, 6);

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
			cr_assert_eq(box_stat(&copy).end, end, "%s cut at %" PRId64, FILES[f], size);
			cr_assert_eq(box_check(&copy, 0, &lost), want, "%s cut at %" PRId64, FILES[f], size);
			cr_assert_eq(lost, end - want);
			cr_assert_eq(copy.errors > 0, lost > 0);
			box_expect_working(&copy, lost);
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

	box_fill(&box, 6);
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
			cr_assert_eq(box_stat(&copy).end, want);
			cr_assert_eq(box_size(&copy, 0, "index"), INDEX_FIRST + INDEX_SLOT * i);
			cr_assert_eq(box_size(&copy, 0, "data"), entries[i].pos);
			box_expect_working(&copy, 0);
			box_remove(&copy);
		}
}

/* Data whose index is gone is not thrown away. */
Test(plog_recover, data_without_index_is_kept)
{
	int64_t size;

	box_fill(&box, 6);
	cr_assert_eq(box_close(&box), 0);
	size = box_size(&box, 0, "data");
	box_cut(&box, 0, "index", 50);
	cr_assert_eq(box_open(&box), 0);
	cr_assert_eq(box.errors, 1);
	cr_assert_eq(box_stat(&box).end, 0);
	cr_assert_eq(box_size(&box, 0, "lost"), size);
	box_expect_working(&box, 0);
}

/* The tail may hold anything: zeros, another tail, an entry of somewhere else. None of it becomes a message. */
Test(plog_recover, garbage_behind_the_end)
{
	uint64_t end = box_fill(&box, 6);
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
		cr_assert_eq(box_stat(&copy).end, end);
		cr_assert_eq(copy.events, 1);
		box_expect_working(&copy, 0);
		box_remove(&copy);
	}
	free(index);
	close(fd);
}

/* Of an append that became several entries, all survive or none. */
Test(plog_recover, divided_append_is_whole_or_absent)
{
	uint64_t end = box_fill(&box, 3);
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
		cr_assert_eq(box_stat(&copy).end, keep == count ? end + 20000 : end);
		box_expect_working(&copy, 0);
		box_remove(&copy);
	}
}

/* A bit that flips in what was synced costs the batch it belongs to: not one message more, and it is told once. */
Test(plog_recover, flipped_bits)
{
	struct index_entry entries[32];
	uint64_t end = box_fill(&box, 5);
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
			cr_assert_eq(box_stat(&copy).end_pos, box_stat(&box).end_pos);
			box_remove(&copy);
		}
}

/* The same for the last segment, which recovery looks at. */
Test(plog_recover, flipped_bits_of_the_last)
{
	uint64_t end = box_fill(&box, 5), right, lost;

	cr_assert_eq(plog_sync(box.plog), 0);
	for (size_t f = 0; f < 3; f++)
		for (int64_t byte = 0; byte < box_size(&box, 0, FILES[f]); byte++) {
			struct box copy;

			box_copy(&copy, &box);
			box_flip(&copy, 0, FILES[f], byte * 8 + byte % 8);
			cr_assert_eq(box_open(&copy), 0);
			right = box_check(&copy, 0, &lost);
			cr_assert(right + lost == end && lost <= 5, "%s byte %" PRId64, FILES[f], byte);
			box_expect_working(&copy, lost);
			box_remove(&copy);
		}
}

/* Header and mark of a segment both lost: its messages are still there, and so are their positions. */
Test(plog_recover, lost_front)
{
	char *before = malloc(MIB), *after = malloc(MIB);
	uint64_t bases[] = { 0, 0, 0 };

	bases[1] = box_fill(&box, 5);
	box_append(&box, bases[1], 10, 1, 1);
	bases[2] = box_stat(&box).end;
	box_append(&box, bases[2], 10, 1, 1);
	cr_assert_eq(plog_sync(box.plog), 0);
	cr_assert_eq(plog_pread(box.plog, 0, before, MIB), (ssize_t)box_stat(&box).end_pos);
	for (int k = 0; k < 3; k++) {
		struct box copy;

		box_copy(&copy, &box);
		box_flip(&copy, bases[k], "index", 8);
		box_flip(&copy, bases[k], "index", 64 * 8);
		cr_assert_eq(box_open(&copy), 0);
		cr_assert_eq(box_check(&copy, 0, NULL), box_stat(&box).end);
		cr_assert_eq(plog_pread(copy.plog, 0, after, MIB), (ssize_t)box_stat(&box).end_pos);
		cr_assert(!memcmp(before, after, box_stat(&box).end_pos));
		box_expect_working(&copy, 0);
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
	box_expect_working(&box, 30);
}

/*
 * Of the first and of the last segment, too, it is told when the index is gone, and the data is kept: it was removed, in silence, as what
 * a trim leaves. What a trim does leave goes.
 */
Test(plog_recover, missing_index_at_the_ends)
{
	static const uint64_t gone[] = { 0, 40 };

	for (uint64_t i = 0; i < 50; i += 10)
		box_append(&box, i, 10, 1, 1);
	cr_assert_eq(plog_sync(box.plog), 0);
	for (size_t i = 0; i < 2; i++) {
		struct box copy;
		int64_t size = box_size(&box, gone[i], "data");
		char name[64];
		int fd;

		box_copy(&copy, &box);
		fd = box_dir(&copy);
		snprintf(name, sizeof(name), "%020" PRIu64 ".index", gone[i]);
		unlinkat(fd, name, 0);
		close(fd);
		copy.options.read_only = true; /* as fsck.mqfs looks */
		cr_assert_eq(box_open(&copy), 0);
		cr_assert_eq(copy.errors, 1);
		cr_assert_eq(box_close(&copy), 0);
		cr_assert_eq(box_size(&copy, gone[i], "data"), size);
		copy.options.read_only = false;
		cr_assert_eq(box_open(&copy), 0);
		cr_assert_eq(copy.errors, 2);
		cr_assert_not_null(strstr(copy.text, ".lost"), "%s", copy.text);
		cr_assert_eq(box_size(&copy, gone[i], "lost"), size);
		cr_assert_eq(box_size(&copy, gone[i], "data"), -1);
		cr_assert_eq(box_check(&copy, 0, NULL), 40);
		box_expect_working(&copy, 0);
		cr_assert_eq(copy.errors, 2); /* once */
		box_remove(&copy);
	}
	box_remove(&box);
	box_make(&box);
	for (uint64_t i = 0; i < 50; i += 10)
		box_append(&box, i, 10, 1, 1);
	cr_assert_eq(plog_trim(box.plog, 25), 0);
	tmpdir_put(box.dir.fd, BOX_LOG "/00000000000000000000.data", "x\n", 2);
	cr_assert_eq(box_close(&box), 0);
	cr_assert_eq(box_open(&box), 0);
	cr_assert_eq(box.errors, 0);
	cr_assert_eq(box_size(&box, 0, "data") + box_size(&box, 0, "lost"), -2);
}

/* Data without an index that cannot be opened stays as it is; for want of descriptors or memory nothing is opened until there are some. */
Test(plog_recover, stray_that_cannot_be_opened)
{
	static const int errors[] = { EMFILE, ENOMEM, EACCES };
	int64_t size;
	int fd = box_dir(&box);

	for (uint64_t i = 0; i < 50; i += 10)
		box_append(&box, i, 10, 1, 1);
	cr_assert_eq(plog_sync(box.plog), 0);
	cr_assert_eq(box_close(&box), 0);
	size = box_size(&box, 40, "data");
	cr_assert_gt(size, 0);
	unlinkat(fd, "00000000000000000040.index", 0);
	close(fd);
	for (size_t i = 0; i < 3; i++) {
		struct box copy;
		int rc;

		box_copy(&copy, &box);
		alloc_arm_reads_of("00000000000000000040.data", 1, errors[i]);
		rc = box_open(&copy);
		cr_assert_geq(alloc_disarm_reads(), 1);
		cr_assert_eq(rc, errors[i] == EACCES ? 0 : -errors[i], "%d: %d", errors[i], rc);
		cr_assert_eq(box_size(&copy, 40, "data"), size);
		cr_assert_eq(box_size(&copy, 40, "lost"), -1);
		cr_assert_eq(copy.errors, 0);
		if (rc == 0)
			cr_assert_eq(box_close(&copy), 0);
		cr_assert_eq(box_open(&copy), 0);
		cr_assert_eq(box_size(&copy, 40, "lost"), size);
		cr_assert_eq(copy.errors, 1);
		cr_assert_eq(box_check(&copy, 0, NULL), 40);
		box_remove(&copy);
	}
}

/* A last segment that has lost its front is not taken for one without entries because these cannot be read just then. */
Test(plog_recover, lost_front_and_no_memory)
{
	uint64_t base = box_fill(&box, 5), n = 0, reads;
	unsigned failed = 0;

	box_append(&box, base, 10, 1, 1);
	cr_assert_eq(plog_sync(box.plog), 0);
	box_flip(&box, base, "index", 8);
	box_flip(&box, base, "index", 64 * 8);
	do {
		struct box copy;
		int rc;

		box_copy(&copy, &box);
		fault_arm(FAULT_READ, ++n, ENOMEM, false);
		rc = box_open(&copy);
		reads = fault_disarm();
		cr_assert(rc == 0 || rc == -ENOMEM, "read %" PRIu64 ": %d", n, rc);
		failed += rc < 0;
		if (rc < 0)
			cr_assert_eq(box_open(&copy), 0);
		cr_assert_eq(box_size(&copy, base, "lost"), -1);
		cr_assert_eq(box_check(&copy, 0, NULL), base + 10, "read %" PRIu64, n);
		box_remove(&copy);
	} while (reads >= n);
	cr_assert_geq(failed, 3, "%u", failed);
}

/* A segment that was just being made when the machine died is no segment. */
Test(plog_recover, crash_while_rolling)
{
	uint64_t end = box_fill(&box, 5);

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
		cr_assert_eq(box_stat(&copy).end, end);
		cr_assert_eq(box_size(&copy, end, "data"), -1);
		cr_assert_eq(copy.errors, 0);
		box_expect_working(&copy, 0);
		box_remove(&copy);
	}
}

/* A segment that was rolled but never synced is torn: the log ends there, whatever of the next one reached the disk. */
Test(plog_recover, torn_before_the_last)
{
	uint64_t end = box_fill(&box, 5);

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
		cr_assert_eq(box_stat(&copy).end, synced ? end + 5 : end - 5);
		cr_assert_eq(box_size(&copy, end, "data") < 0, !synced);
		box_expect_working(&copy, lost);
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
	cr_assert(box_stat(&copy).end == 30 && box_stat(&copy).synced == 0);
	fault_arm(FAULT_SYNC, 0, 0, false);
	cr_assert_eq(plog_sync(copy.plog), 0);
	cr_assert_geq(fault_disarm(), 6);
	cr_assert_eq(box_stat(&copy).synced, 30);
	box_expect_working(&copy, 0);
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
	cr_assert(box_stat(&copy).earliest == 55 && box_stat(&copy).end == 55);
	cr_assert_eq(box_stat(&copy).start_pos, box_stat(&box).start_pos);
	box_expect_working(&copy, 0);
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
	cr_assert_eq(box_stat(&box).earliest, 0);
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
	cr_assert_eq(box_stat(&copy).earliest, 35);
	cr_assert_eq(box_size(&copy, 0, "index"), -1);
	cr_assert_eq(box_size(&copy, 20, "data"), -1);
	box_expect_working(&copy, 0);
	box_remove(&copy);
}

/* A log of another store, of another id, or of a newer version is refused with a reason, and left as it is. */
Test(plog_recover, foreign)
{
	uint8_t *index;
	size_t size;
	int fd;

	box_fill(&box, 3);
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
	bytes_put32(index + 8, INDEX_VERSION_GAPS + 1);
	bytes_put32(index + 60, crc32c(0, index, 60));
	tmpdir_put(fd, "00000000000000000000.index", index, size);
	cr_assert_eq(box_open(&box), -EUCLEAN);
	cr_assert(strstr(engine_reason(), "newer"));
	bytes_put32(index + 8, INDEX_VERSION);
	bytes_put32(index + 60, crc32c(0, index, 60));
	tmpdir_put(fd, "00000000000000000000.index", index, size);
	cr_assert_eq(box_open(&box), 0);
	box_expect_working(&box, 0);
	free(index);
	close(fd);
}

/* An entry that is whole itself but tells of a meta record too short to be one ends the log, as one that is torn does. */
Test(plog_recover, meta_of_three_bytes)
{
	struct index_entry entries[8];
	uint8_t slot[INDEX_SLOT];
	struct box copy;
	uint32_t count;
	uint64_t end = box_fill(&box, 5), base = end - 5;
	char name[64];
	int fd;

	box_copy(&copy, &box);
	count = entries_of(&copy, 0, entries);
	entries[count - 1].meta_len = 3;
	index_put_entry(slot, &entries[count - 1]);
	snprintf(name, sizeof(name), "%s/%020d.index", BOX_LOG, 0);
	fd = openat(copy.dir.fd, name, O_WRONLY | O_CLOEXEC);
	cr_assert_eq(pwrite(fd, slot, sizeof(slot), INDEX_FIRST + (count - 1) * INDEX_SLOT), INDEX_SLOT);
	close(fd);
	cr_assert_eq(box_open(&copy), 0);
	cr_assert_eq(box_stat(&copy).end, base);
	box_expect_working(&copy, 0);
	box_remove(&copy);
}

/* A meta record larger than what is read at once is checked to its end. */
Test(plog_recover, large_meta)
{
	enum { SIZE = 300000 };
	char *value = calloc(1, SIZE);
	struct engine_header header = { { "name", 4 }, { value, SIZE } };
	struct engine_props props = ENGINE_PROPS_INIT;
	struct engine_batch batch = { .data = "x\n", .len = 2, .count = 1, .props = &props, .ts_ms = 1 };
	uint64_t offset;

	props.headers = &header;
	props.header_count = 1;
	cr_assert_eq(plog_append(box.plog, &batch, 0, MIB, &offset), 0);
	for (int torn = 0; torn < 2; torn++) {
		struct box copy;

		box_copy(&copy, &box);
		if (torn)
			box_flip(&copy, 0, "meta", 8 * (SIZE - 1));
		cr_assert_eq(box_open(&copy), 0);
		cr_assert_eq(box_stat(&copy).end, torn ? 0 : 1);
		box_remove(&copy);
	}
	free(value);
}

static bool never_lost(void *ctx, uint64_t mark)
{
	unsigned *asked = ctx;

	*asked += mark == 7;
	return false;
}

/* What cannot be read while it is looked whether a message of a commit is lost is not taken for lost: the opening fails, and nothing is cut. */
Test(plog_recover, marks_that_cannot_be_read)
{
	struct engine_props props = ENGINE_PROPS_INIT;
	const struct engine_batch batch = { .data = "x\n", .len = 2, .count = 1, .ts_ms = 1, .props = &props };
	unsigned asked = 0, failed = 0;
	uint64_t offset, n = 0, reads;
	int rc;

	props.mark = 7;
	cr_assert_eq(plog_append(box.plog, &batch, 0, MIB, &offset), 0);
	do {
		struct box copy;

		box_copy(&copy, &box);
		copy.options.is_lost = never_lost;
		copy.options.ctx = &asked;
		fault_arm(FAULT_READ, ++n, EIO, false);
		rc = box_open(&copy);
		reads = fault_disarm();
		cr_assert(rc == 0 || (rc == -EIO && reads >= n), "read %d: %d", (int)n, rc);
		failed += rc < 0;
		if (rc < 0)
			cr_assert_eq(box_open(&copy), 0);
		cr_assert_eq(box_stat(&copy).end, 1, "read %d", (int)n);
		box_remove(&copy);
	} while (reads >= n);
	cr_assert(
	    asked >= failed && failed >= 3, "%u, %u", asked, failed); /* entries, data, meta, and that once more */
}

static int open_index(const struct box *of, uint64_t base)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "%s/%020" PRIu64 ".index", BOX_LOG, base);
	fd = openat(of->dir.fd, name, O_RDWR | O_CLOEXEC);
	cr_assert_geq(fd, 0);
	return fd;
}

static void get_slot(const struct box *of, uint64_t base, uint32_t slot, struct index_entry *ret_entry)
{
	uint8_t bytes[INDEX_SLOT];
	int fd = open_index(of, base);

	cr_assert_eq(pread(fd, bytes, sizeof(bytes), INDEX_FIRST + slot * INDEX_SLOT), INDEX_SLOT);
	cr_assert_eq(index_get_entry(bytes, ret_entry), 0);
	close(fd);
}

static void put_slot(const struct box *of, uint64_t base, uint32_t slot, const struct index_entry *entry)
{
	uint8_t bytes[INDEX_SLOT];
	int fd = open_index(of, base);

	index_put_entry(bytes, entry);
	cr_assert_eq(pwrite(fd, bytes, sizeof(bytes), INDEX_FIRST + slot * INDEX_SLOT), INDEX_SLOT);
	close(fd);
}

/* An entry that is whole, and points behind the last, but begins at another offset is none of this tail: it was of an append that was taken back. */
Test(plog_recover, entry_of_another_offset)
{
	uint64_t end = box_fill(&box, 4);

	cr_assert_eq(box_append(&box, end, 3, 50, 1 << 20), 0);
	for (int by = -1; by <= 1; by++) {
		struct index_entry entry;
		struct box copy;

		box_copy(&copy, &box);
		get_slot(&copy, 0, 4, &entry);
		cr_assert_eq(entry.base_offset, end);
		entry.base_offset = end + (uint64_t)by;
		put_slot(&copy, 0, 4, &entry);
		cr_assert_eq(box_open(&copy), 0);
		cr_assert_eq(box_stat(&copy).end, by == 0 ? end + 3 : end, "by %d: %" PRIu64, by, box_stat(&copy).end);
		box_expect_working(&copy, 0);
		box_remove(&copy);
	}
}

/*
 * A whole entry that a disk wrote into the index of another segment costs the batch in whose place it is, and misleads nobody about
 * the others.
 */
Test(plog_recover, entry_of_another_segment)
{
	const uint64_t bases[] = { 0, 20, 40 };
	uint64_t lost;

	for (uint64_t i = 0; i < 60; i += 2) {
		cr_assert_eq(box_append(&box, i, 2, 1, i % 20 == 0 && i > 0 ? 1 : MIB), 0);
		cr_assert_eq(plog_sync(box.plog), 0);
	}
	for (size_t from = 0; from < 3; from++) {
		for (uint32_t slot = 0; slot < 10; slot++) {
			struct index_entry entry;
			struct box copy;

			box_copy(&copy, &box);
			get_slot(&copy, bases[from], slot, &entry);
			put_slot(&copy, bases[(from + 1) % 3], slot, &entry);
			cr_assert_eq(box_open(&copy), 0);
			cr_assert_eq(box_check(&copy, 0, &lost), 58, "slot %u of %" PRIu64, slot, bases[from]);
			cr_assert(lost == 2 && copy.errors == 1);
			box_remove(&copy);
		}
	}
}
