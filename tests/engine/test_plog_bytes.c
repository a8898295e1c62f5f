/* A log as the bytes of a file: what the disk gives is what was written, or EIO, and no more than the batch that is damaged. */
#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/io.h"
#include "tests/lib/fault.h"
#include "tests/lib/plogbox.h"

#define BATCHES 60u
#define EACH 4u
#define SEGMENT 1500u
#define ROOM 16384u

static struct box box;
static char want[ROOM];
static size_t size, ends[BATCHES]; /* of the log; of each batch */

static void append(unsigned batch)
{
	cr_assert_eq(box_append(&box, batch * EACH, EACH, 1, SEGMENT), 0);
	for (unsigned i = 0; i < EACH; i++) {
		size += box_payload(batch * EACH + i, want + size);
		want[size++] = '\n';
	}
	ends[batch] = size;
	cr_assert_lt(size, ROOM);
}

static void setup(void)
{
	box_make(&box);
	for (unsigned i = 0; i < BATCHES; i++) {
		append(i);
		if (i % 3 == 0) /* so that it is an entry of its own */
			cr_assert_eq(plog_sync(box.plog), 0);
	}
	cr_assert_eq(box_close(&box), 0);
}

static void teardown(void)
{
	box_remove(&box);
}

TestSuite(plog_bytes, .init = setup, .fini = teardown);

/* Reads all of it, so many bytes at a time, stepping over what is EIO by one byte. Returns how many could not be had. */
static size_t read_all(struct box *of, size_t step)
{
	char *got = malloc(step);
	size_t lost = 0;

	for (size_t pos = 0; pos < size;) {
		ssize_t n = plog_pread(of->plog, pos, got, step);

		if (n == -EIO) {
			lost++;
			pos++;
			continue;
		}
		cr_assert(n > 0 && (size_t)n <= step, "at %zu: %zd", pos, n);
		cr_assert_eq(memcmp(got, want + pos, (size_t)n), 0, "wrong bytes from %zu on", pos);
		pos += (size_t)n;
	}
	free(got);
	return lost;
}

static uint64_t base_of_segment(const struct box *of, unsigned n)
{
	for (uint64_t base = 0; base <= BATCHES * EACH; base++)
		if (box_size(of, base, "data") >= 0 && n-- == 0)
			return base;
	return UINT64_MAX;
}

/* Flips bits of all files of a kind, one at a time. Returns the most bytes that one of them cost. */
static size_t flip_each(const char *suffix, int64_t from, int64_t step, bool is_lost)
{
	static const size_t steps[] = { 1, 7, 100, 700, ROOM };
	size_t most = 0;
	unsigned tried = 0;

	for (unsigned n = 0; base_of_segment(&box, n) != UINT64_MAX; n++) {
		uint64_t base = base_of_segment(&box, n);

		for (int64_t bit = from; bit < box_size(&box, base, suffix) * 8; bit += step, tried++) {
			struct box copy;
			size_t lost, again;

			box_copy(&copy, &box);
			box_flip(&copy, base, suffix, bit);
			cr_assert_eq(box_open(&copy), 0);
			lost = read_all(&copy, steps[tried % 5]);
			cr_assert(lost > 0 || !is_lost, "%s of %" PRIu64 ", bit %" PRId64 " went unnoticed", suffix,
			    base, bit);
			if (is_lost)
				cr_assert_eq(copy.errors, 1, "told of %u times: %s", copy.errors, copy.text);
			again = read_all(&copy, steps[(tried + 2) % 5]);
			cr_assert_eq(again, lost);
			most = lost > most ? lost : most;
			box_remove(&copy);
		}
	}
	cr_assert_gt(tried, 200u);
	return most;
}

Test(plog_bytes, a_flipped_bit_of_data_costs_its_batch)
{
	size_t longest = 0;

	for (unsigned i = 3; i < BATCHES; i++)
		longest = ends[i] - ends[i - 3] > longest ? ends[i] - ends[i - 3] : longest;
	cr_assert_leq(flip_each("data", 5, 41, true), longest);
}

/* Each of which a batch cannot be found by; or it is harmless. */
Test(plog_bytes, a_flipped_bit_of_an_index_gives_no_wrong_byte)
{
	cr_assert_gt(flip_each("index", 128 * 8 + 3, 37, false), 0u);
}

static uint64_t reads_of(size_t step)
{
	fault_arm(FAULT_READ, UINT64_MAX, EIO, false);
	cr_assert_eq(read_all(&box, step), 0u);
	return fault_disarm();
}

/* Front to end, and again; the end by someone who follows it. */
Test(plog_bytes, what_was_right_is_not_checked_again)
{
	uint64_t first, second;

	cr_assert_eq(box_open(&box), 0);
	first = reads_of(200);
	second = reads_of(200);
	cr_assert_lt(second, first / 2, "%" PRIu64 " and then %" PRIu64, first, second);
	cr_assert_eq(box_close(&box), 0);
	cr_assert_eq(box_open(&box), 0);
	for (int round = 0; round < 2; round++) {
		char got[100];
		uint64_t count;

		fault_arm(FAULT_READ, UINT64_MAX, EIO, false);
		for (size_t pos = size - 600; pos < size; pos += sizeof(got))
			cr_assert_eq(plog_pread(box.plog, pos, got, sizeof(got)), (ssize_t)sizeof(got));
		count = fault_disarm();
		cr_assert(round == 0 ? count > 6 : count == 6, "round %d: %" PRIu64, round, count);
		cr_assert_eq(plog_pread(box.plog, 0, got, 1), 1); /* another range, which takes the place of neither */
	}
}

Test(plog_bytes, what_this_process_wrote_needs_no_look)
{
	size_t before = size;
	char got[ROOM];
	uint64_t count;

	cr_assert_eq(box_open(&box), 0);
	for (unsigned i = 0; i < 3; i++) {
		append(BATCHES - 1 - i);
		cr_assert_eq(plog_sync(box.plog), 0);
	}
	fault_arm(FAULT_READ, UINT64_MAX, EIO, false);
	cr_assert_eq(plog_pread(box.plog, before, got, ROOM), (ssize_t)(size - before));
	count = fault_disarm();
	cr_assert_eq(memcmp(got, want + before, size - before), 0);
	cr_assert_leq(count, 2u);
}
