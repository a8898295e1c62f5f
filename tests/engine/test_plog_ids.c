/* Ids that outlive their messages: engine/plog_ids.c. */
#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/clock.h"
#include "engine/crc32c.h"
#include "engine/dedup.h"
#include "tests/lib/alloc.h"
#include "tests/lib/fault.h"
#include "tests/lib/means.h"
#include "tests/lib/nosync.h"
#include "tests/lib/plogbox.h"
#include "tests/lib/powercut.h"

#define WINDOW 1000000

static int append_id(struct box *box, unsigned i, int64_t ts_ms)
{
	char id[16], data[32];
	struct engine_props props = ENGINE_PROPS_INIT;
	struct engine_batch batch = { .data = data, .count = 1, .props = &props, .ts_ms = ts_ms };
	uint64_t offset;

	props.id = (struct engine_span){ id, (size_t)snprintf(id, sizeof(id), "id-%u", i) };
	batch.len = (size_t)snprintf(data, sizeof(data), "message %u\n", i);
	return plog_append(box->plog, &batch, 0, 200, &offset);
}

static int put(void *ctx, const struct dedup_hash *hash, uint32_t uid, int64_t ts_ms)
{
	return dedup_put(ctx, *hash, uid, ts_ms, clock_wall_ms());
}

static bool knows(const struct dedup *dedup, unsigned i)
{
	char id[16];
	struct engine_span span = { id, (size_t)snprintf(id, sizeof(id), "id-%u", i) };

	return dedup_has(dedup, dedup_hash_of(span), clock_wall_ms());
}

static struct dedup *all_of(struct box *box)
{
	int64_t now_ms = clock_wall_ms();
	struct dedup *dedup = dedup_new(WINDOW, NULL);

	cr_assert_eq(plog_each_id(box->plog, now_ms - WINDOW, true, put, dedup), 0);
	return dedup;
}

static void expect(struct box *box, unsigned from, unsigned to)
{
	struct dedup *dedup = all_of(box);

	for (unsigned i = from; i < to; i++)
		cr_assert(knows(dedup, i), "id %u is lost", i);
	cr_assert_not(knows(dedup, to));
	dedup_free(dedup);
}

static unsigned count_files(const struct box *box)
{
	unsigned count = 0;

	for (uint64_t before = 0; before < 200; before++)
		count += box_size(box, before, "ids") >= 0;
	return count;
}

/* Ids are found in messages, in those of many segments, and after they were trimmed away; few files keep them. */
Test(plog_ids, outlive_their_messages, .init = nosync_install)
{
	struct box box;

	box_make(&box);
	plog_keep_ids(box.plog, WINDOW);
	for (unsigned i = 0; i < 100; i++) {
		cr_assert_eq(append_id(&box, i, clock_wall_ms()), 0);
		if (i % 7 == 6)
			cr_assert_eq(plog_trim(box.plog, i - 3), 0);
		expect(&box, 0, i + 1);
	}
	cr_assert_eq(plog_trim(box.plog, 100), 0);
	cr_assert_eq(count_files(&box), 1);
	cr_assert_eq(box_close(&box), 0);
	cr_assert_eq(box_open(&box), 0);
	expect(&box, 0, 100);
	box_remove(&box);
}

/* What is too old is not kept, and a file of which nothing counts any more goes with the next trim. */
Test(plog_ids, old_ones_go, .init = nosync_install)
{
	int64_t now_ms = clock_wall_ms();
	struct dedup *dedup;
	struct box box;

	box_make(&box);
	plog_keep_ids(box.plog, WINDOW);
	cr_assert_eq(append_id(&box, 0, now_ms - WINDOW - 1000), 0);
	cr_assert_eq(append_id(&box, 1, now_ms), 0);
	cr_assert_eq(plog_trim(box.plog, 2), 0);
	dedup = all_of(&box);
	cr_assert(!knows(dedup, 0) && knows(dedup, 1));
	dedup_free(dedup);
	plog_keep_ids(box.plog, 1);
	usleep(2000);
	cr_assert_eq(append_id(&box, 2, now_ms - 10), 0);
	cr_assert_eq(plog_trim(box.plog, 3), 0);
	cr_assert_eq(count_files(&box), 0);
	box_remove(&box);
}

/* A file that is damaged costs its ids and is told of. */
Test(plog_ids, damage, .init = nosync_install)
{
	struct box box;

	for (int64_t bit = 0; bit < (64 + 24) * 8; bit += 37) {
		struct dedup *dedup;

		box_make(&box);
		plog_keep_ids(box.plog, WINDOW);
		cr_assert_eq(append_id(&box, 0, clock_wall_ms()), 0);
		cr_assert_eq(plog_trim(box.plog, 1), 0);
		cr_assert_eq(append_id(&box, 1, clock_wall_ms()), 0);
		box_flip(&box, 1, "ids", bit);
		dedup = all_of(&box);
		cr_assert(!knows(dedup, 0) && knows(dedup, 1));
		cr_assert_eq(box.errors, 1);
		dedup_free(dedup);
		box_remove(&box);
	}
}

/* A header that is whole and says what is not so: of another version, store, log, place, or of more ids than there can be. */
Test(plog_ids, headers_of_others, .init = nosync_install)
{
	static const size_t at[] = { 0, 8, 12, 28, 36, 52 };
	uint8_t *bytes;
	struct box box;
	size_t size;
	int dirfd;

	box_make(&box);
	plog_keep_ids(box.plog, WINDOW);
	cr_assert_eq(append_id(&box, 0, clock_wall_ms()), 0);
	cr_assert_eq(plog_trim(box.plog, 1), 0);
	dirfd = box_dir(&box);
	bytes = tmpdir_get(dirfd, "00000000000000000001.ids", &size);
	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		struct dedup *dedup;

		bytes[at[i] + 3] ^= 0x7f;
		bytes_put32(bytes + 60, crc32c(0, bytes, 60));
		tmpdir_put(dirfd, "00000000000000000001.ids", bytes, size);
		bytes[at[i] + 3] ^= 0x7f;
		dedup = all_of(&box);
		cr_assert(!knows(dedup, 0) && box.errors == i + 1, "header at %zu", at[i]);
		dedup_free(dedup);
	}
	bytes_put32(bytes + 60, crc32c(0, bytes, 60));
	tmpdir_put(dirfd, "00000000000000000001.ids", bytes, size);
	expect(&box, 0, 1);
	free(bytes);
	close(dirfd);
	box_remove(&box);
}

static int count_props(void *ctx, uint64_t offset, int64_t ts_ms, const struct engine_props *props)
{
	unsigned *count = ctx;

	(void)offset, (void)ts_ms, (void)props;
	++*count;
	return 0;
}

/* Bytes of the meta record of the first message; those of the first ten are alike. */
static int64_t meta_bytes(const struct box *box)
{
	int dirfd = box_dir(box);
	size_t size;
	uint8_t *bytes = tmpdir_get(dirfd, "00000000000000000000.meta", &size);
	int64_t len = bytes_get32(bytes + 4);

	free(bytes);
	close(dirfd);
	return len;
}

/* Entries and meta records that cannot be read cost their ids, and no others; what was trimmed away is not asked for. */
Test(plog_ids, damaged_segments, .init = nosync_install)
{
	struct dedup *dedup;
	unsigned count = 0;
	struct box box;

	box_make(&box);
	plog_keep_ids(box.plog, WINDOW);
	for (unsigned i = 0; i < 60; i++)
		cr_assert_eq(append_id(&box, i, clock_wall_ms()), 0);
	cr_assert_eq(plog_trim(box.plog, 3), 0);
	cr_assert_eq(plog_each_props(box.plog, 0, 10, count_props, &count), 0);
	cr_assert_geq(count, 7); /* and those before it that its segment still has */
	box_flip(&box, 0, "index", (INDEX_FIRST + 4 * INDEX_SLOT) * 8);
	dedup = all_of(&box);
	cr_assert(knows(dedup, 2) && knows(dedup, 3) && !knows(dedup, 4) && knows(dedup, 5) && knows(dedup, 59));
	dedup_free(dedup);
	box_flip(&box, 0, "meta", 8 * (5 * meta_bytes(&box) + 10));
	dedup = all_of(&box);
	cr_assert(knows(dedup, 2) && knows(dedup, 3) && !knows(dedup, 4) && !knows(dedup, 5) && knows(dedup, 6));
	dedup_free(dedup);
	box_cut(&box, 0, "meta", 0);
	dedup = all_of(&box);
	cr_assert(knows(dedup, 2) && !knows(dedup, 3) && !knows(dedup, 5) && knows(dedup, 59));
	dedup_free(dedup);
	box_cut(&box, 0, "index", INDEX_FIRST + 1);
	dedup = all_of(&box);
	cr_assert(knows(dedup, 2) && knows(dedup, 59));
	dedup_free(dedup);
	box_remove(&box);
}

/* A segment that cannot be opened costs what is in it, and no more; for want of descriptors it is said that not all were seen. */
Test(plog_ids, segments_that_cannot_be_opened, .init = nosync_install)
{
	static const int errs[] = { EMFILE, EIO };
	struct box box;

	box_make(&box);
	for (unsigned i = 0; i < 30; i++)
		cr_assert_eq(append_id(&box, i, clock_wall_ms()), 0);
	for (unsigned e = 0; e < 2; e++) {
		unsigned refused = 0, fewer = 0;
		bool reached = true;

		for (uint64_t n = 1; reached; n++) {
			unsigned count = 0;
			int rc;

			(void)box_close(&box); /* no file is open */
			cr_assert_eq(box_open(&box), 0);
			alloc_arm_reads(n, errs[e]);
			rc = plog_each_props(box.plog, 0, 30, count_props, &count);
			reached = alloc_disarm_reads() >= n;
			cr_assert(rc == 0 || (rc == -EMFILE && e == 0), "call %d: %d", (int)n, rc);
			cr_assert(reached || count == 30);
			refused += rc < 0;
			fewer += rc == 0 && count < 30;
			count = 0;
			cr_assert_eq(plog_each_props(box.plog, 0, 30, count_props, &count), 0);
			cr_assert_eq(count, 30, "call %d", (int)n);
		}
		cr_assert(e == 0 ? refused > 0 : fewer > 0);
	}
	box_remove(&box);
}

#define MANY 11000u /* so many that a file of them is not taken into the next */

/* One of ids that nobody has, of messages that were there before those of the box. */
static void put_large_file(struct box *box)
{
	size_t size = 64 + MANY * 24;
	uint8_t *bytes = calloc(1, size);
	int dirfd = box_dir(box);

	for (unsigned i = 0; i < MANY; i++) {
		bytes_put64(bytes + 64 + 24 * i, i);
		bytes_put64(bytes + 64 + 24 * i + 16, (uint64_t)clock_wall_ms());
	}
	memcpy(bytes, "MQFSIDS1", 8);
	bytes_put32(bytes + 8, 1);
	memcpy(bytes + 12, box->options.store_uuid, 16);
	bytes_put64(bytes + 28, BOX_ID);
	bytes_put64(bytes + 36, 1);
	bytes_put64(bytes + 44, (uint64_t)clock_wall_ms());
	bytes_put32(bytes + 52, MANY);
	bytes_put32(bytes + 56, crc32c(0, bytes + 64, size - 64));
	bytes_put32(bytes + 60, crc32c(0, bytes, 60));
	tmpdir_put(dirfd, "00000000000000000001.ids", bytes, size);
	close(dirfd);
	free(bytes);
}

/* Two files of ids, and messages. */
static void make_files(struct box *box)
{
	box_make(box);
	plog_keep_ids(box->plog, WINDOW);
	for (unsigned i = 0; i < 20; i++) {
		cr_assert_eq(append_id(box, i, clock_wall_ms()), 0);
		if (i == 10) {
			put_large_file(box);
			cr_assert_eq(plog_trim(box->plog, 8), 0);
			cr_assert_eq(count_files(box), 2);
		}
	}
}

static void expect_reopened(struct box *box)
{
	expect(box, 0, 20);
	(void)box_close(box);
	cr_assert_eq(box_open(box), 0);
	expect(box, 0, 20);
	box_remove(box);
}

/* Whatever fails in a trim: no id is lost. (A message that cannot be read takes its id along: there it is only asked that it ends.) */
Test(plog_ids, trim_fails)
{
	for (int means = MEANS_CHANGES; means <= MEANS_READS; means++) {
		bool reached = true;

		for (uint64_t n = 1; reached; n++) {
			struct box box;
			int rc;

			make_files(&box);
			means_arm(means, n);
			rc = plog_trim(box.plog, 15);
			reached = means_disarm(means, n);
			cr_assert(rc <= 0 && (rc == 0 || reached));
			(void)plog_trim(box.plog, 15); /* the file may be there already */
			if (means == MEANS_READS)
				box_remove(&box);
			else
				expect_reopened(&box);
		}
	}
}

/* Whatever fails while they are asked for: that says so, or it is told of, or they are those of messages that cannot be read. */
Test(plog_ids, asking_fails, .init = nosync_install)
{
	struct box box;

	make_files(&box);
	for (int means = MEANS_CHANGES; means <= MEANS_READS; means++) {
		bool reached = true;

		for (uint64_t n = 1; reached; n++) {
			int64_t now_ms = clock_wall_ms();
			struct dedup *dedup = dedup_new(WINDOW, NULL);
			int rc;

			(void)box_close(&box); /* no file is open */
			cr_assert_eq(box_open(&box), 0);
			box.errors = 0;
			means_arm(means, n);
			if (means == MEANS_CHANGES) /* there are none */
				alloc_arm_reads(n, EMFILE);
			rc = plog_each_id(box.plog, now_ms - WINDOW, true, put, dedup);
			reached = means_disarm(means, n);
			if (means == MEANS_CHANGES)
				reached = alloc_disarm_reads() >= n;
			for (unsigned i = 0; i < 8 && rc == 0 && box.errors == 0; i++)
				cr_assert(knows(dedup, i), "kind %d, call %d: id %u", means, (int)n, i);
			dedup_free(dedup);
		}
	}
	expect_reopened(&box);
}

/* As many are kept as fit into a file, and it is told how many are not. */
Test(plog_ids, more_than_a_file_has, .init = nosync_install)
{
	struct box box;

	box_make(&box);
	cr_assert_eq(box_close(&box), 0);
	box.options.ids_max = 20;
	cr_assert_eq(box_open(&box), 0);
	plog_keep_ids(box.plog, WINDOW);
	for (unsigned i = 0; i < 30; i++) {
		cr_assert_eq(append_id(&box, i, clock_wall_ms()), 0);
		if (i == 19)
			cr_assert_eq(plog_trim(box.plog, 20), 0);
	}
	cr_assert_eq(box.errors, 0);
	expect(&box, 0, 30);
	cr_assert_eq(plog_trim(box.plog, 23), 0); /* the 20 there are, and three */
	cr_assert_eq(box.errors, 1);
	cr_assert_not_null(strstr(box.text, "3 ids of messages that go are not kept"), "%s", box.text);
	for (unsigned times = 0; times < 2; times++) {
		struct dedup *dedup = all_of(&box);

		cr_assert(knows(dedup, 16) && !knows(dedup, 17) && knows(dedup, 20) && knows(dedup, 29));
		dedup_free(dedup);
		cr_assert_eq(box_close(&box), 0);
		cr_assert_eq(box_open(&box), 0);
	}
	box_remove(&box);
}

/* A power cut at any moment of a trim: an id whose message was on disk is known, whether that is there or not. */
Test(plog_ids, power_cut)
{
	struct powercut *cut;
	struct box box, after;
	int dirfd;

	box_make(&box);
	plog_keep_ids(box.plog, WINDOW);
	for (unsigned i = 0; i < 12; i++)
		cr_assert_eq(append_id(&box, i, clock_wall_ms()), 0);
	cr_assert_eq(plog_sync(box.plog), 0);
	dirfd = box_dir(&box);
	cut = powercut_start(dirfd);
	for (unsigned i = 12; i < 30; i++) {
		cr_assert_eq(append_id(&box, i, clock_wall_ms()), 0);
		if (i % 5 == 0)
			cr_assert_eq(plog_trim(box.plog, i - 10), 0);
	}
	powercut_stop(cut);
	for (size_t n = 0; n <= powercut_count(cut); n++) {
		for (uint64_t seed = 0; seed < 6; seed++) {
			int to;

			box_copy(&after, &box);
			to = box_dir(&after);
			for (uint64_t base = 0; base < 40; base++) {
				static const char *const suffixes[] = { "data", "index", "meta", "ids" };

				for (size_t s = 0; s < 4; s++) {
					char name[32];

					snprintf(
					    name, sizeof(name), "%020llu.%s", (unsigned long long)base, suffixes[s]);
					unlinkat(to, name, 0);
				}
			}
			unlinkat(to, "start", 0);
			powercut_make(cut, n, seed, to);
			close(to);
			cr_assert_eq(box_open(&after), 0);
			plog_keep_ids(after.plog, WINDOW);
			struct dedup *dedup = all_of(&after);
			for (unsigned i = 0; i < 12; i++)
				cr_assert(knows(dedup, i), "cut %zu, seed %llu: id %u is lost", n,
				    (unsigned long long)seed, i);
			dedup_free(dedup);
			box_remove(&after);
		}
	}
	powercut_free(cut);
	close(dirfd);
	box_remove(&box);
}

/* Appends count messages whose ids rise from first_id on, each a batch of its own. */
static void append_ids(struct box *with, uint64_t first_id, unsigned count)
{
	const struct engine_batch batch = { .data = "x\n", .len = 2, .count = 1, .ts_ms = 1 };
	uint64_t offset;

	for (unsigned i = 0; i < count; i++)
		cr_assert_eq(plog_append(with->plog, &batch, first_id + i, 1u << 20, &offset), 0);
}

static void expect_at(struct box *with, uint64_t id, uint64_t expected)
{
	uint64_t offset = 0;

	cr_assert_eq(plog_find_id(with->plog, id, &offset), 0, "%" PRIu64, id);
	cr_assert_eq(offset, expected, "%" PRIu64 " is at %" PRIu64, id, offset);
}

/*
 * Strays between what is in order are stepped over, but each is not read again for every id that is looked for. What was taken
 * back is none any more.
 */
Test(plog_ids, strays_are_stepped_over_once)
{
	struct box strays;
	struct plog_mark mark;
	uint64_t offset;

	box_make(&strays);
	append_ids(&strays, 1000, 50);
	append_ids(&strays, 1 | PLOG_STRAY, 400);
	append_ids(&strays, 2000, 50);
	append_ids(&strays, 500 | PLOG_STRAY, 300);
	fault_arm(FAULT_READ, 0, EIO, false);
	for (uint64_t i = 0; i < 50; i++) {
		expect_at(&strays, 1000 + i, i);
		expect_at(&strays, 2000 + i, 450 + i);
		cr_assert_eq(plog_find_id(strays.plog, 500 + i, &offset), -ENOENT);
		append_ids(&strays, (800 + i) | PLOG_STRAY, 1);
	}
	cr_assert_lt(fault_disarm(), 10000); /* a dozen for each; each stray anew were 50,000 and more */
	plog_set_mark(strays.plog, &mark);
	append_ids(&strays, 900 | PLOG_STRAY, 20);
	expect_at(&strays, 2049, 499);
	cr_assert_eq(plog_take_back(strays.plog, &mark), 0);
	append_ids(&strays, 3000, 5);
	append_ids(&strays, 950 | PLOG_STRAY, 5);
	for (uint64_t i = 0; i < 5; i++)
		expect_at(&strays, 3000 + i, 850 + i);
	box_remove(&strays);
}
