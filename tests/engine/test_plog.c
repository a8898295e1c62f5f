/*
 * Tests of engine/plog: what goes in comes out, in every shape, over every roll, trim and reopening. What crashes and
 * broken disks leave is in test_plog_recover.c.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/limits.h"
#include "tests/lib/fault.h"
#include "tests/lib/plogbox.h"

#define MIB (1u << 20)

static struct box box;

static void make(void)
{
	box_make(&box);
}

static void drop(void)
{
	box_remove(&box);
}

TestSuite(plog, .init = make, .fini = drop);

static struct engine_partition_stat stat_of(void)
{
	struct engine_partition_stat stat;

	plog_stat(box.plog, &stat);
	return stat;
}

static void reopen(void)
{
	cr_assert_eq(box_close(&box), 0);
	cr_assert_eq(box_open(&box), 0);
}

/* A new log is empty, and so it is after a reopening. */
Test(plog, empty)
{
	struct engine_view view;
	uint64_t offset;
	char byte;

	for (int round = 0; round < 2; round++) {
		struct engine_partition_stat stat = stat_of();

		cr_assert(stat.earliest == 0 && stat.end == 0 && stat.start_pos == 0 && stat.end_pos == 0);
		cr_assert_eq(plog_read(box.plog, 0, 1, &box.scratch, &view), -ENODATA);
		cr_assert_eq(plog_pread(box.plog, 0, &byte, 1), 0);
		cr_assert(!plog_find_time(box.plog, 5, &offset) && offset == 0);
		cr_assert_eq(plog_sync(box.plog), 0);
		reopen();
	}
	cr_assert_eq(box.errors + box.events, 0);
}

/* Messages of all shapes come back as they were, in batches of all sizes, before and after a reopening. */
Test(plog, round_trip)
{
	uint64_t n = 0;

	for (uint32_t count = 1; count < 3000; count = count * 3 + 1) {
		cr_assert_eq(box_append(&box, n, count, (int64_t)count, MIB), 0);
		n += count;
	}
	cr_assert_eq(box_check(&box, 0, NULL), n);
	reopen();
	cr_assert_eq(box_check(&box, 0, NULL), n);
	cr_assert_eq(stat_of().synced, n);
	cr_assert_eq(box.errors + box.events, 0);
}

/* Read one by one, from any offset, a batch gives the same messages; at most as many as were asked for. */
Test(plog, any_offset)
{
	struct engine_view view;

	box_append(&box, 0, 500, 1, MIB);
	box_append(&box, 500, 500, 2, MIB);
	for (uint64_t offset = 0; offset < 1000; offset++) {
		char want[64];
		size_t len = box_payload(offset, want);

		cr_assert_eq(plog_read(box.plog, offset, 1, &box.scratch, &view), 0);
		cr_assert(view.offset == offset && view.batch.count == 1 && view.batch.len == len + 1);
		cr_assert(view.batch.lengths[0] == len && !memcmp(view.batch.data, want, len));
		cr_assert_eq(view.batch.ts_ms, offset < 500 ? 1 : 2);
	}
	cr_assert_eq(plog_read(box.plog, 490, 1000, &box.scratch, &view), 0);
	cr_assert_eq(view.batch.count, 10);
	cr_assert_eq(plog_read(box.plog, 1000, 1, &box.scratch, &view), -ENODATA);
}

/* A message may be far larger than a batch; beside it, others are not. Its reader's memory does not stay that large. */
Test(plog, big_messages)
{
	struct engine_view view;
	const size_t sizes[] = { LIMIT_ENTRY_DATA - 2, LIMIT_ENTRY_DATA - 1, LIMIT_ENTRY_DATA, 3 * MIB + 1 };

	for (size_t i = 0; i < 4; i++)
		cr_assert_eq(box_append_big(&box, (char)('a' + i), sizes[i], 1, 16 * MIB), 0);
	for (size_t i = 0; i < 4; i++) {
		cr_assert_eq(plog_read(box.plog, i, 10, &box.scratch, &view), 0);
		cr_assert(view.batch.count == 1 && view.batch.lengths[0] == sizes[i]);
		cr_assert(view.batch.data[0] == (char)('a' + i) && view.batch.data[sizes[i] - 1] == (char)('a' + i));
	}
	cr_assert_gt(box.scratch.size, 3 * MIB);
	cr_assert_eq(plog_read(box.plog, 0, 10, &box.scratch, &view), 0);
	cr_assert_leq(box.scratch.size, LIMIT_SCRATCH_KEEP);
}

/* A large batch becomes entries of at most LIMIT_ENTRY_DATA, so that no reader needs more at once. */
Test(plog, large_batch_is_divided)
{
	struct engine_view view;

	cr_assert_eq(box_append(&box, 0, 50000, 1, 16 * MIB), 0);
	for (uint64_t offset = 0; offset < 50000; offset += view.batch.count) {
		cr_assert_eq(plog_read(box.plog, offset, UINT32_MAX, &box.scratch, &view), 0);
		cr_assert_leq(view.batch.len, LIMIT_ENTRY_DATA);
	}
	cr_assert_eq(box_check(&box, 0, NULL), 50000);
}

/* Batches of lines only, an entry each; with a key, another. */
static void append_lines(const char *lines, uint32_t count, int64_t ts_ms, const struct engine_props *props)
{
	struct engine_batch batch = {
		.data = lines, .len = strlen(lines), .count = count, .props = props, .ts_ms = ts_ms
	};
	uint64_t offset;

	cr_assert_eq(plog_append(box.plog, &batch, 0, MIB, &offset), 0);
}

/* Reads into a place of size bytes. Was it taken? */
static bool read_lent(uint64_t offset, uint32_t max_count, size_t size, const char *want)
{
	char place[64] = "as it was";
	struct engine_view view;
	bool taken;

	box.scratch.lent = place;
	box.scratch.lent_size = size;
	cr_assert_eq(plog_read(box.plog, offset, max_count, &box.scratch, &view), 0);
	box.scratch.lent = NULL;
	taken = view.batch.data == place;
	cr_assert(view.batch.len == strlen(want) && !memcmp(view.batch.data, want, view.batch.len));
	cr_assert_eq(view.offset, offset);
	cr_assert(taken || (view.batch.lengths != NULL && strcmp(place, "as it was") == 0));
	return taken;
}

/* A batch that is given whole and is nothing but lines is read to the place that was lent; any other to where it ever is. */
Test(plog, lent)
{
	struct engine_props props = ENGINE_PROPS_INIT;
	struct engine_view view;

	props.key = (struct engine_span){ "key", 3 };
	append_lines("one\ntwo\n", 2, 1, NULL);
	append_lines("three\n", 1, 2, &props);
	append_lines("four\nfive\n", 2, 3, NULL);
	append_lines("the last is in memory\n", 1, 4, NULL);
	cr_assert(read_lent(0, UINT32_MAX, 8, "one\ntwo\n"));
	cr_assert(!read_lent(0, UINT32_MAX, 7, "one\ntwo\n"), "it does not fit");
	cr_assert(!read_lent(0, 1, 64, "one\n"), "it is not wanted whole");
	cr_assert(!read_lent(1, UINT32_MAX, 64, "two\n"), "its first was given");
	cr_assert(!read_lent(2, UINT32_MAX, 64, "three\n"), "it has more than lines");
	cr_assert(read_lent(3, 2, 64, "four\nfive\n"));
	cr_assert_eq(
	    plog_read(box.plog, 4, 9, &box.scratch, &view), 0, "what went to the place is not taken for what is here");
	cr_assert(view.batch.count == 1 && !memcmp(view.batch.data, "five\n", 5));
	read_lent(5, 9, 64, "the last is in memory\n");
	reopen();
	cr_assert(read_lent(0, UINT32_MAX, 64, "one\ntwo\n"));
	cr_assert(!read_lent(2, UINT32_MAX, 64, "three\n"));
	cr_assert_eq(plog_sync(box.plog), 0);
	box_flip(&box, 0, "data", 8 * 16);
	box.scratch.lent = (char[64]){ 0 };
	box.scratch.lent_size = 64;
	cr_assert_eq(plog_read(box.plog, 3, 9, &box.scratch, &view), -EIO);
	cr_assert(view.offset == 3 && view.batch.count == 2 && view.batch.data == NULL);
	box.scratch.lent = NULL;
	cr_assert_eq(box.errors, 1);
}

/* What travels with messages comes back with them, each message's its own, also from the middle of a batch. */
Test(plog, properties)
{
	const struct engine_header headers[2] = { { { "a", 1 }, { "b", 1 } }, { { "c", 1 }, { "", 0 } } };
	struct engine_props props[3] = { ENGINE_PROPS_INIT, ENGINE_PROPS_INIT, ENGINE_PROPS_INIT };
	struct engine_batch batch = { .data = "x\n\ny\n", .len = 5, .count = 3, .props = props, .ts_ms = 9 };
	struct engine_view view;
	uint64_t offset;

	batch.cred = (struct engine_cred){ 1, 2, 3 };
	props[1].key = (struct engine_span){ "key", 3 };
	props[1].headers = headers;
	props[1].header_count = 2;
	props[2].ts_ms = 4;
	cr_assert_eq(plog_append(box.plog, &batch, 77, MIB, &offset), 0);
	reopen();
	cr_assert_eq(plog_read(box.plog, 1, 10, &box.scratch, &view), 0);
	cr_assert(view.batch.count == 2 && view.batch.len == 3 && view.batch.lengths[0] == 0);
	cr_assert(view.batch.cred.uid == 1 && view.batch.cred.gid == 2 && view.batch.cred.pid == 3);
	cr_assert(view.batch.props[0].key.len == 3 && !memcmp(view.batch.props[0].key.ptr, "key", 3));
	cr_assert(view.batch.props[0].header_count == 2 && view.batch.props[0].headers[1].name.ptr[0] == 'c');
	cr_assert(view.batch.props[0].ts_ms == 9 && view.batch.props[1].ts_ms == 4);
	cr_assert_null(view.batch.props[1].key.ptr);
}

/* A batch that is not what it says is refused, and nothing of it is kept. */
Test(plog, wrong_batches)
{
	uint32_t lengths[2] = { 1, 1 };
	struct engine_batch wrong[] = {
		{ .data = "a\nb\n", .len = 4, .count = 3, .ts_ms = 1 },
		{ .data = "a\nb\n", .len = 4, .count = 1, .ts_ms = 1 },
		{ .data = "a\nbc", .len = 4, .count = 2, .ts_ms = 1 },
		{ .data = "a\nbc\n", .len = 5, .count = 2, .lengths = lengths, .ts_ms = 1 },
		{ .data = "a\nb\n", .len = 4, .count = 0, .ts_ms = 1 },
		{ .data = "a\nb\n", .len = 4, .count = 2, .ts_ms = -1 },
		{ .data = "a", .len = 1, .count = 2, .ts_ms = 1 },
	};
	uint64_t offset;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		cr_assert_eq(plog_append(box.plog, &wrong[i], 0, MIB, &offset), -EINVAL, "%zu", i);
	cr_assert_eq(box_size(&box, 0, "data"), 0);
}

static int append_line(const char *line, int64_t ts_ms, uint32_t pid, uint64_t first_id)
{
	struct engine_batch batch = { .data = line, .len = strlen(line), .count = 1, .ts_ms = ts_ms };
	uint64_t offset;

	batch.cred.pid = pid;
	return plog_append(box.plog, &batch, first_id, MIB, &offset);
}

static int64_t entries(void)
{
	return (box_size(&box, 0, "index") - 128) / 64;
}

/*
 * Messages of one process within one millisecond share an entry; those of another time, process, or run of ids, and those
 * after a sync, do not.
 */
Test(plog, small_appends_share_an_entry)
{
	struct engine_view view;

	for (int i = 0; i < 100; i++)
		append_line("one\n", 5, 1, 0);
	cr_assert_eq(entries(), 1);
	append_line("two\n", 6, 1, 0);
	cr_assert_eq(entries(), 2);
	append_line("three\n", 6, 2, 0);
	cr_assert_eq(entries(), 3);
	append_line("four\n", 6, 2, 10);
	append_line("four\n", 6, 2, 11);
	cr_assert_eq(entries(), 4);
	append_line("five\n", 6, 2, 13);
	cr_assert_eq(entries(), 5);
	cr_assert_eq(plog_sync(box.plog), 0);
	append_line("six\n", 6, 2, 14);
	cr_assert_eq(entries(), 6);
	append_line("seven\n", 6, 2, 15);
	cr_assert_eq(entries(), 6);
	cr_assert_eq(plog_read(box.plog, 0, 1000, &box.scratch, &view), 0);
	cr_assert_eq(view.batch.count, 100);
	reopen();
	append_line("eight\n", 6, 2, 16);
	cr_assert_eq(entries(), 7);
	cr_assert_eq(plog_read(box.plog, 105, 1000, &box.scratch, &view), 0);
	cr_assert(view.batch.count == 2 && !memcmp(view.batch.data, "six\nseven\n", 10));
}

/* A shared entry stops growing at LIMIT_ENTRY_DATA. */
Test(plog, shared_entry_is_bounded)
{
	for (int i = 0; i < 20; i++)
		box_append_big(&box, 'x', 9999, 5, MIB);
	cr_assert_eq(entries(), 4);
}

/* Who has read part of the last entry gets the rest when it has grown. */
Test(plog, reader_follows_a_growing_entry)
{
	struct engine_view view;

	for (uint64_t i = 0; i < 200; i++) {
		append_line("line\n", 5, 1, 0);
		cr_assert_eq(plog_read(box.plog, i, 10, &box.scratch, &view), 0);
		cr_assert(view.batch.count == 1 && view.batch.len == 5);
	}
	cr_assert_eq(entries(), 1);
}

/* Flips a bit of the log's last message, in the file. */
static void spoil(void)
{
	box_flip(&box, 0, "data", ((int64_t)stat_of().end_pos - 2) * 8);
}

/* Who reads each message as it comes is given it from memory; who reads later, or from a log at rest, from the file. */
Test(plog, recent_from_memory)
{
	struct engine_scratch other = { 0 };
	struct engine_view view;

	append_line("one\n", 5, 1, 0);
	spoil();
	cr_assert_eq(plog_read(box.plog, 0, 1, &box.scratch, &view), -EIO, "nobody had read before");
	append_line("two\n", 6, 1, 0);
	append_line("2nd\n", 6, 1, 0);
	spoil();
	cr_assert_eq(plog_read(box.plog, 2, 1, &box.scratch, &view), 0);
	cr_assert(view.batch.count == 1 && !memcmp(view.batch.data, "2nd\n", 4));
	cr_assert_eq(plog_read(box.plog, 1, 9, &other, &view), 0);
	cr_assert(view.batch.count == 2 && view.offset == 1 && !memcmp(view.batch.data, "two\n2nd\n", 8));
	append_line("three\n", 7, 1, 0);
	cr_assert_eq(plog_read(box.plog, 2, 1, &box.scratch, &view), 0, "it is the reader's");
	append_line("four\n", 8, 1, 0);
	spoil();
	engine_scratch_release(&other);
	cr_assert_eq(plog_read(box.plog, 4, 1, &other, &view), -EIO, "that before was not read while it was the last");
	append_line("five\n", 9, 1, 0);
	cr_assert_eq(plog_sync(box.plog), 0);
	spoil();
	plog_release_files(box.plog);
	cr_assert_eq(plog_read(box.plog, 5, 1, &other, &view), -EIO, "the log was at rest");
	engine_scratch_release(&other);
}

/* The last batch is not mixed up with one that was taken back, with another segment's, or with larger ones. */
Test(plog, recent_is_the_last)
{
	struct engine_scratch other = { 0 };
	struct plog_mark mark;
	struct engine_view view;

	append_line("one\n", 5, 1, 0);
	cr_assert_eq(plog_read(box.plog, 0, 1, &box.scratch, &view), 0);
	plog_set_mark(box.plog, &mark);
	append_line("two\n", 6, 1, 0);
	cr_assert_eq(plog_take_back(box.plog, &mark), 0);
	cr_assert_eq(plog_read(box.plog, 1, 1, &other, &view), -ENODATA);
	cr_assert_eq(plog_read(box.plog, 0, 1, &other, &view), 0);
	cr_assert(view.batch.len == 4 && !memcmp(view.batch.data, "one\n", 4));
	append_line("six\n", 6, 1, 0);
	cr_assert_eq(plog_read(box.plog, 1, 1, &other, &view), 0);
	cr_assert(view.batch.len == 4 && !memcmp(view.batch.data, "six\n", 4));
	for (uint64_t i = 0; i < 40; i++) { /* within an entry, beyond what is kept, over segments */
		uint32_t size = i < 20 ? 300 : 5000;

		box_append_big(&box, (char)('a' + i % 26), size, (int64_t)(7 + i / 25), 20000);
		engine_scratch_release(&other);
		cr_assert_eq(plog_read(box.plog, 2 + i, 9, &other, &view), 0);
		cr_assert_eq(view.batch.count, 1);
		cr_assert_eq(view.batch.data[0], (char)('a' + i % 26));
	}
	engine_scratch_release(&other);
}

/* The bytes of the log are those of its messages, over all segments, for reads of any size; none below the start. */
Test(plog, pread)
{
	char *want = malloc(MIB), *got = malloc(MIB);
	size_t size = 0;

	for (uint64_t i = 0; i < 3000; i++) {
		size += box_payload(i, want + size);
		want[size++] = '\n';
	}
	for (uint64_t i = 0; i < 3000; i += 10)
		cr_assert_eq(box_append(&box, i, 10, 1, 4000), 0);
	cr_assert_gt(size, 20000);
	for (int round = 0; round < 2; round++) {
		for (size_t step = 7; step < 3 * size; step = step * 5 + 3) {
			size_t done = 0;

			for (ssize_t n; (n = plog_pread(box.plog, done, got + done, step)) > 0; done += (size_t)n)
				cr_assert_leq((size_t)n, step);
			cr_assert_eq(done, size);
			cr_assert(!memcmp(want, got, size));
		}
		reopen();
	}
	cr_assert_eq(plog_trim(box.plog, 1234), 0);
	cr_assert_eq(plog_pread(box.plog, stat_of().start_pos - 1, got, 10), -ESTALE);
	cr_assert_eq(plog_pread(box.plog, stat_of().start_pos, got, MIB), (ssize_t)(size - stat_of().start_pos));
	cr_assert(!memcmp(got, want + stat_of().start_pos, size - stat_of().start_pos));
	cr_assert_eq(plog_pread(box.plog, size, got, 10), 0);
	cr_assert_eq(plog_pread(box.plog, size + 100, got, 10), 0);
	free(want);
	free(got);
}

/* Every offset has its position. */
Test(plog, positions)
{
	uint64_t pos = 0, got;
	char unused[64];

	for (uint64_t i = 0; i < 300; i += 3)
		box_append(&box, i, 3, (int64_t)i, 1000);
	for (uint64_t i = 0; i <= 300; i++) {
		cr_assert(!plog_pos_of(box.plog, i, &got) && got == pos, "%" PRIu64, i);
		pos += box_payload(i, unused) + 1;
	}
	cr_assert_eq(plog_pos_of(box.plog, 301, &got), -ERANGE);
	plog_trim(box.plog, 100);
	cr_assert_eq(plog_pos_of(box.plog, 99, &got), -ESTALE);
	cr_assert(!plog_pos_of(box.plog, 100, &got) && got == stat_of().start_pos);
}

/* The first message at or after a time is found, in any segment; the end if there is none. */
Test(plog, find_time)
{
	uint64_t offset;

	for (uint64_t i = 0; i < 300; i++)
		box_append(&box, i, 1, (int64_t)(1000 + i / 2 * 10), 500);
	for (int round = 0; round < 2; round++) {
		for (uint64_t i = 0; i < 300; i++) {
			int64_t ts_ms = (int64_t)(1000 + i / 2 * 10);

			cr_assert(!plog_find_time(box.plog, ts_ms, &offset) && offset == i / 2 * 2);
			cr_assert(!plog_find_time(box.plog, ts_ms + 1, &offset) && offset == i / 2 * 2 + 2);
		}
		cr_assert(!plog_find_time(box.plog, 0, &offset) && offset == 0);
		cr_assert(!plog_find_time(box.plog, INT64_MAX, &offset) && offset == 300);
		reopen();
	}
	plog_trim(box.plog, 151);
	cr_assert(!plog_find_time(box.plog, 0, &offset) && offset == 151);
}

/* A segment is rolled when a batch would take it past the size that is asked for; a larger batch is alone in one. */
Test(plog, roll)
{
	box_append(&box, 0, 3, 1, 40);
	box_append(&box, 3, 3, 2, 40);
	cr_assert_geq(box_size(&box, 3, "data"), 0);
	box_append_big(&box, 'x', 5000, 3, 100);
	cr_assert_eq(box_size(&box, 6, "data"), 5001);
	box_append(&box, 7, 1, 4, 100);
	cr_assert_geq(box_size(&box, 7, "data"), 0);
	cr_assert_eq(plog_sync(box.plog), 0);
	cr_assert_eq(plog_synced(box.plog), 8);
}

/* Wherever a log is trimmed, it begins there, before and after a reopening; the files wholly below are gone. */
Test(plog, trim)
{
	const uint64_t at[] = { 0, 5, 7, 99, 100, 101, 299, 300 };
	char unused[64];
	uint64_t pos = 0, i = 0;

	for (uint64_t k = 0; k < 300; k += 10)
		box_append(&box, k, 10, 1, 300);
	for (size_t t = 0; t < sizeof(at) / sizeof(*at); t++) {
		cr_assert_eq(plog_trim(box.plog, at[t]), 0);
		for (; i < at[t]; i++)
			pos += box_payload(i, unused) + 1;
		for (int round = 0; round < 2; round++) {
			cr_assert(stat_of().earliest == at[t] && stat_of().start_pos == pos && stat_of().end == 300);
			cr_assert_eq(box_check(&box, 0, NULL), 300 - at[t]);
			reopen();
		}
	}
	cr_assert_eq(plog_trim(box.plog, 301), -ERANGE);
	cr_assert_eq(plog_trim(box.plog, 17), 0);
	cr_assert_eq(stat_of().earliest, 300);
	cr_assert_eq(box_size(&box, 300, "data"), 0);
	cr_assert_eq(box_size(&box, 0, "data"), -1);
	box_append(&box, 300, 10, 1, 300);
	reopen();
	cr_assert_eq(box_check(&box, 0, NULL), 10);
	cr_assert_eq(box.errors + box.events, 0);
}

/* Segments go when their last message is too old; the active one too; and the next time to look is told. */
Test(plog, retain_by_time)
{
	int64_t next;

	for (uint64_t i = 0; i < 10; i++)
		box_append(&box, i, 1, (int64_t)(1000 + 100 * i), 1);
	cr_assert(!plog_retain(box.plog, 5000, -1, 5999, UINT64_MAX, &next) && next == 6000);
	cr_assert_eq(stat_of().earliest, 0);
	cr_assert(!plog_retain(box.plog, 5000, -1, 6250, UINT64_MAX, &next) && next == 6300);
	cr_assert_eq(stat_of().earliest, 3);
	reopen();
	cr_assert(!plog_retain(box.plog, -1, -1, 99999, UINT64_MAX, &next) && next == INT64_MAX);
	cr_assert_eq(stat_of().earliest, 3);
	cr_assert(!plog_retain(box.plog, 5000, -1, 99999, UINT64_MAX, &next) && next == INT64_MAX);
	cr_assert(stat_of().earliest == 10 && stat_of().end == 10);
	reopen();
	cr_assert(stat_of().earliest == 10 && stat_of().start_pos == stat_of().end_pos);
	cr_assert(!plog_retain(box.plog, 5000, -1, 99999, UINT64_MAX, &next) && next == INT64_MAX);
	box_append(&box, 10, 1, 99999, 1);
	cr_assert_eq(box_check(&box, 0, NULL), 1);
}

/* However old they are, and however much is held: what goes on behind the limit stays. */
Test(plog, retain_to_limit)
{
	int64_t next;

	for (uint64_t i = 0; i < 10; i++)
		box_append(&box, i, 1, (int64_t)(1000 + 100 * i), 1);
	cr_assert(!plog_retain(box.plog, 5000, -1, 99999, 0, &next) && stat_of().earliest == 0);
	cr_assert(!plog_retain(box.plog, 5000, -1, 99999, 3, &next) && stat_of().earliest == 3 && next == 6300);
	cr_assert(!plog_retain(box.plog, -1, 0, 99999, 5, &next) && stat_of().earliest == 5);
	cr_assert(!plog_retain(box.plog, 5000, -1, 99999, 9, &next) && stat_of().earliest == 9);
	cr_assert(!plog_retain(box.plog, 5000, -1, 99999, 10, &next) && stat_of().earliest == 10);
	box_append(&box, 10, 1, 99999, 1);
	cr_assert_eq(box_check(&box, 0, NULL), 1);
}

/* Segments go as long as enough is held without them; never the active one. */
Test(plog, retain_by_bytes)
{
	int64_t next;

	for (uint64_t i = 0; i < 10; i++)
		box_append_big(&box, 'x', 99, 1, 100);
	cr_assert(!plog_retain(box.plog, -1, 1000, 5, UINT64_MAX, &next) && stat_of().earliest == 0);
	cr_assert(!plog_retain(box.plog, -1, 951, 5, UINT64_MAX, &next) && stat_of().earliest == 0);
	cr_assert(!plog_retain(box.plog, -1, 650, 5, UINT64_MAX, &next) && stat_of().earliest == 3);
	cr_assert(!plog_retain(box.plog, -1, 0, 5, UINT64_MAX, &next) && stat_of().earliest == 9);
	reopen();
	cr_assert(stat_of().earliest == 9 && stat_of().start_pos == 900 && stat_of().end_pos == 1000);
}

static unsigned open_files(void)
{
	unsigned count = 0;

	for (int fd = 3; fd < 500; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* A log of many segments holds few descriptors while it is read and synced, and none when it is told so. */
Test(plog, few_descriptors)
{
	unsigned before = open_files();

	for (uint64_t i = 0; i < 100; i++)
		box_append(&box, i, 1, 1, 1);
	cr_assert_eq(plog_sync(box.plog), 0);
	cr_assert_eq(box_check(&box, 0, NULL), 100);
	cr_assert_leq(open_files(), before + 12);
	plog_release_files(box.plog);
	cr_assert_leq(open_files(), before);
	cr_assert_eq(box_check(&box, 0, NULL), 100);
	reopen();
	cr_assert_leq(open_files(), before);
	box_append(&box, 100, 1, 1, 1);
	plog_release_files(box.plog); /* not synced yet: an error of its write-back must not get lost */
	cr_assert_gt(open_files(), before);
}

/* A log opened for reading changes nothing and takes nothing. */
Test(plog, read_only)
{
	int64_t next;

	box_append(&box, 0, 10, 1, MIB);
	box_close(&box);
	box.options.read_only = true;
	fault_arm(FAULT_ANY, 1, EIO, true);
	cr_assert_eq(box_open(&box), 0);
	cr_assert_eq(box_check(&box, 0, NULL), 10);
	cr_assert_eq(box_append(&box, 10, 1, 1, MIB), -EROFS);
	cr_assert_eq(plog_trim(box.plog, 5), -EROFS);
	cr_assert_eq(plog_retain(box.plog, 0, 0, 100, UINT64_MAX, &next), -EROFS);
	cr_assert_eq(plog_sync(box.plog), 0);
	cr_assert_eq(box_close(&box), 0);
	cr_assert_eq(fault_disarm(), 0);
}

/* A destroyed log is gone; destroying it again is no error; one that holds messages is not created anew by mistake. */
Test(plog, create_and_destroy)
{
	box_append(&box, 0, 10, 1, 10);
	plog_trim(box.plog, 5);
	box_close(&box);
	cr_assert_eq(plog_create(&box.options), -EEXIST);
	cr_assert_eq(plog_destroy(box.dir.fd, BOX_ID), 0);
	cr_assert_neq(faccessat(box.dir.fd, BOX_LOG, F_OK, 0), 0);
	cr_assert_eq(plog_destroy(box.dir.fd, BOX_ID), 0);
	cr_assert_eq(box_open(&box), -ENOENT);
	cr_assert_eq(plog_create(&box.options), 0);
	cr_assert_eq(plog_create(&box.options), 0);
	cr_assert_eq(box_open(&box), 0);
}
