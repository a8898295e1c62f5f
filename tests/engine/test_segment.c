/*
 * Tests of engine/segment: the bytes of its files, and finding entries among damaged ones.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/plog.h"
#include "engine/segment.h"
#include "tests/lib/tmpdir.h"

static int64_t example_time(void)
{
	return 1732300000000;
}

static void expect_file(int dirfd, const char *name, const char *hex)
{
	size_t size;
	uint8_t *bytes = tmpdir_get(dirfd, name, &size);
	char *got = calloc(1, size * 2 + 1);

	cr_assert(bytes && got);
	for (size_t i = 0; i < size; i++)
		snprintf(got + 2 * i, 3, "%02x", bytes[i]);
	cr_expect_str_eq(got, hex, "%s", name);
	free(bytes);
	free(got);
}

/* The example of mqfs-format(5): the appends it tells of give the bytes it shows. */
Test(segment, example_of_the_manual)
{
	static const struct clock_ops clock = { .wall_ms = example_time, .mono_ms = example_time };
	struct plog_options options = { .id = 42 };
	struct engine_props props = ENGINE_PROPS_INIT;
	uint32_t length = 3;
	struct engine_batch first = { .data = "hello\n\n", .len = 7, .count = 2, .ts_ms = 1732300000001 };
	struct engine_batch second = { .data = "a\nb\n", .len = 4, .count = 1, .ts_ms = 1732300000002 };
	struct tmpdir dir;
	struct plog *plog;
	uint64_t offset;
	int fd;

	clock_now = &clock;
	for (uint8_t i = 0; i < 16; i++)
		options.store_uuid[i] = i;
	tmpdir_make(&dir);
	options.logs_dirfd = dir.fd;
	first.cred = second.cred = (struct engine_cred){ 1000, 1000, 4242 };
	second.lengths = &length;
	second.props = &props;
	props.key = (struct engine_span){ "k", 1 };
	cr_assert_eq(plog_create(&options), 0);
	cr_assert_eq(plog_open(&options, &plog), 0);
	cr_assert_eq(plog_append(plog, &first, 0, 1 << 20, &offset), 0);
	cr_assert_eq(plog_append(plog, &second, 0, 1 << 20, &offset), 0);
	cr_assert_eq(plog_close(plog), 0);
	fd = openat(dir.fd, "000000000000002a", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	expect_file(fd, "00000000000000000000.data", "68656c6c6f0a0a610a620a");
	expect_file(fd, "00000000000000000000.index",
	    "4d5146534944583101000000000102030405060708090a0b0c0d0e0f2a000000"
	    "0000000000000000000000000000000000000000004b2055930100004a2af507"
	    "4d5146534d41524b03000000000000000000000000000000000100000b000000"
	    "0c0000000000000000000000000000000000000000000000000000007a85eda1"
	    "00000000000000000000000000000000014b2055930100000000000007000000"
	    "020000000000000000000000e8030000e8030000921000005f8bc727ace78df3"
	    "02000000000000000000000000000000024b2055930100000700000004000000"
	    "01000000000000000c000000e8030000e8030000921000000bfba452927ada7b");
	expect_file(fd, "00000000000000000000.meta", "4ed100c00c00000005016b03");
	close(fd);
	tmpdir_remove(&dir);
}

#define SLOTS 40u

static bool by_offset(const struct index_entry *entry, uint64_t key)
{
	return entry->base_offset <= key;
}

/* Entry i covers the ten offsets from 100 + 10 i on. */
static void write_entries(int fd, uint64_t damaged)
{
	for (uint32_t i = 0; i < SLOTS; i++) {
		struct index_entry entry = { .base_offset = 100 + 10 * i, .count = 10, .pos = 50 * i, .length = 50 };
		uint8_t slot[INDEX_SLOT];

		index_put_entry(slot, &entry);
		if (damaged & 1ull << i)
			slot[5] ^= 1;
		cr_assert_eq(pwrite(fd, slot, sizeof(slot), INDEX_FIRST + INDEX_SLOT * (off_t)i), sizeof(slot));
	}
}

/* Checks segment_locate and segment_search for every offset against what a plain walk over the entries says. */
static void compare_with_walk(const struct segment_reader *reader, uint64_t damaged, uint32_t hint)
{
	for (uint64_t offset = 100; offset < 100 + 10 * SLOTS; offset++) {
		uint32_t want = (uint32_t)(offset - 100) / 10, slot = 0, low = want, high = want;
		struct index_entry entry = { 0 };
		struct segment_lost lost = { 0 };
		int rc = segment_locate(reader, offset, hint, &slot, &entry, &lost);

		if (!(damaged & 1ull << want)) {
			cr_assert(!rc && slot == want && entry.base_offset == 100 + 10 * want);
		} else {
			while (low > 0 && damaged & 1ull << (low - 1))
				low--;
			while (high < SLOTS && damaged & 1ull << high)
				high++;
			cr_assert_eq(rc, -EBADMSG);
			cr_assert(lost.from == 100 + 10 * low && lost.to == 100 + 10 * high);
			cr_assert_eq(lost.pos, 50 * low);
		}
		while (want + 1 > 0 && damaged & 1ull << want)
			want--;
		rc = segment_search(reader, by_offset, offset, &slot, &entry);
		cr_assert(want == UINT32_MAX ? rc == -ENOENT : !rc && slot == want);
	}
}

/* Whichever entries are damaged, the others are found, and what is lost follows from the neighbours. */
Test(segment, finds_among_damaged_entries)
{
	struct tmpdir dir;
	struct segment_reader reader = { .base = 100, .end_offset = 100 + 10 * SLOTS, .slots = SLOTS };
	uint64_t random = 88172645463325252ull, all = (1ull << SLOTS) - 1;

	tmpdir_make(&dir);
	reader.index_fd = openat(dir.fd, "index", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	for (int round = 0; round < 60; round++) {
		uint64_t damaged = 0;

		for (int k = 0; k < 1 + round % 4; k++) {
			random ^= random << 13;
			random ^= random >> 7;
			random ^= random << 17;
			damaged = round % 3 == 0 ? random & all : (damaged | random) & all;
		}
		if (round == 1)
			damaged = all;
		if (round == 2)
			damaged = all & ~1ull;
		if (round == 4)
			damaged = all >> 1;
		write_entries(reader.index_fd, damaged);
		compare_with_walk(&reader, damaged, round % 2 ? UINT32_MAX : (uint32_t)(random % SLOTS));
	}
	close(reader.index_fd);
	tmpdir_remove(&dir);
}
