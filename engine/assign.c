/*
 * assign - the sticky sharing of partitions. It needs no memory, so that it cannot fail: shares are counted when they are
 * asked for, and whoever asks for all of them goes over units times partitions.
 */
#include "engine/assign.h"

static uint32_t share_of(const uint32_t *owners, uint32_t partitions, uint32_t unit)
{
	uint32_t share = 0;

	for (uint32_t p = 0; p < partitions; p++)
		share += owners[p] == unit;
	return share;
}

static uint32_t next_free(const uint32_t *owners, uint32_t partitions, uint32_t from)
{
	while (from < partitions && owners[from] != ASSIGN_FREE)
		from++;
	return from;
}

static void give_up(uint32_t *owners, uint32_t partitions, uint32_t unit, uint32_t count)
{
	for (uint32_t p = partitions; p-- > 0 && count > 0;) {
		if (owners[p] != unit)
			continue;
		owners[p] = ASSIGN_FREE;
		count--;
	}
}

/* Nobody keeps more than least + 1, and no more than `extra` units as much as that. */
static void keep(uint32_t *owners, uint32_t partitions, uint32_t units, uint32_t least, uint32_t extra)
{
	uint32_t over = 0;

	for (uint32_t unit = 0; unit < units; unit++) {
		uint32_t share = share_of(owners, partitions, unit);

		over += share > least;
		if (share > least + 1)
			give_up(owners, partitions, unit, share - least - 1);
	}
	for (uint32_t unit = units; unit-- > 0 && over > extra;) {
		if (share_of(owners, partitions, unit) <= least)
			continue;
		give_up(owners, partitions, unit, 1);
		over--;
	}
}

/* Level by level, so that who has fewest comes first. */
static void give_free(uint32_t *owners, uint32_t partitions, uint32_t units, uint32_t least)
{
	uint32_t p = next_free(owners, partitions, 0);

	for (uint32_t level = 0; level <= least; level++) {
		for (uint32_t unit = 0; unit < units && p < partitions; unit++) {
			if (share_of(owners, partitions, unit) != level)
				continue;
			owners[p] = unit;
			p = next_free(owners, partitions, p);
		}
	}
}

void assign_sticky(uint32_t *owners, uint32_t partitions, uint32_t units)
{
	uint32_t shared = partitions - share_of(owners, partitions, ASSIGN_NOT);

	if (units == 0)
		return;
	keep(owners, partitions, units, shared / units, shared % units);
	give_free(owners, partitions, units, shared / units);
}
