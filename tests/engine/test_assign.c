/* Sharing partitions: balanced, and no more of them move than that needs. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assign.h"

#define PARTITIONS_MAX 40u
#define UNITS_MAX 12u

/* "0 1 . -": owners; '.' nobody, '-' not to be shared. */
static uint32_t parse(const char *text, uint32_t *owners)
{
	uint32_t count = 0;

	for (; *text != '\0'; text++) {
		if (*text != ' ')
			owners[count++] = *text == '.'   ? ASSIGN_FREE
					  : *text == '-' ? ASSIGN_NOT
							 : (uint32_t)(*text - '0');
	}
	return count;
}

static const struct {
	const char *before;
	uint32_t units;
	const char *after;
} rows[] = {
	{ ". . . .", 1, "0 0 0 0" },
	{ "0 0 0 0", 2, "0 0 1 1" },
	{ "0 0 1 1", 3, "0 0 1 2" }, /* of those with one too many the last gives it up */
	{ ". . 0 1", 2, "0 1 0 1" }, /* who was first is given first */
	{ "0 1 2 3", 5, "0 1 2 3" }, /* there is nothing for the fifth */
	{ "0 . 1 . .", 2, "0 0 1 1 0" },
	{ "- 0 - 0 0", 2, "- 0 - 0 1" },
	{ ". . .", 0, ". . ." },
	{ "- -", 2, "- -" },
	{ "", 3, "" },
};

Test(assign, table)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint32_t owners[PARTITIONS_MAX], expected[PARTITIONS_MAX], count = parse(rows[i].before, owners);

		parse(rows[i].after, expected);
		assign_sticky(owners, count, rows[i].units);
		cr_assert_eq(memcmp(owners, expected, count * sizeof(*owners)), 0, "%s among %" PRIu32, rows[i].before,
		    rows[i].units);
	}
}

static uint32_t share_of(const uint32_t *owners, uint32_t count, uint32_t unit)
{
	uint32_t share = 0;

	for (uint32_t p = 0; p < count; p++)
		share += owners[p] == unit;
	return share;
}

/* How many at the least must leave their units: what is above the share that each may keep. */
static uint32_t least_moves(const uint32_t *owners, uint32_t count, uint32_t units)
{
	uint32_t shared = count - share_of(owners, count, ASSIGN_NOT), least = shared / units, extra = shared % units;
	uint32_t moves = 0;

	for (uint32_t unit = 0; unit < units; unit++) {
		uint32_t share = share_of(owners, count, unit);

		if (share <= least)
			continue;
		moves += share - least;
		if (extra > 0) {
			moves--;
			extra--;
		}
	}
	return moves;
}

/* Of random sharings: all are owned, shares differ by one at most, and just as many move as must. */
Test(assign, random)
{
	unsigned seed = 1;

	for (int round = 0; round < 20000; round++) {
		uint32_t count = (uint32_t)rand_r(&seed) % PARTITIONS_MAX,
			 units = 1 + (uint32_t)rand_r(&seed) % UNITS_MAX;
		uint32_t before[PARTITIONS_MAX] = { 0 }, after[PARTITIONS_MAX], moved = 0, low = UINT32_MAX, high = 0;

		for (uint32_t p = 0; p < count; p++) {
			uint32_t unit = (uint32_t)rand_r(&seed) % (units + 2);

			before[p] = unit < units ? unit : unit == units ? ASSIGN_FREE : ASSIGN_NOT;
		}
		memcpy(after, before, sizeof(after));
		assign_sticky(after, count, units);
		for (uint32_t p = 0; p < count; p++) {
			cr_assert_eq(before[p] == ASSIGN_NOT, after[p] == ASSIGN_NOT);
			cr_assert(after[p] < units || after[p] == ASSIGN_NOT);
			moved += before[p] < units && before[p] != after[p];
		}
		for (uint32_t unit = 0; unit < units; unit++) {
			uint32_t share = share_of(after, count, unit);

			low = share < low ? share : low;
			high = share > high ? share : high;
		}
		cr_assert_leq(high - low, 1, "round %d", round);
		cr_assert_eq(moved, least_moves(before, count, units), "round %d", round);
	}
}
