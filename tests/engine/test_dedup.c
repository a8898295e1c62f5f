/* The table of ids: engine/dedup.h. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/dedup.h"

#define NOW INT64_C(1700000000000)

static struct dedup_hash hash_of(uint64_t i)
{
	char id[32];
	int len = snprintf(id, sizeof(id), "order-%llu", (unsigned long long)i);

	return dedup_hash_of((struct engine_span){ id, (size_t)len });
}

/* An id is known from the moment it was seen until the window is over, to the millisecond; of two times the later counts. */
Test(dedup, window)
{
	struct dedup *dedup = dedup_new(1000, NULL);

	cr_assert_not(dedup_has(dedup, hash_of(1), NOW));
	cr_assert_eq(dedup_put(dedup, hash_of(1), 1, NOW, NOW), 0);
	cr_assert(dedup_has(dedup, hash_of(1), NOW));
	cr_assert(dedup_has(dedup, hash_of(1), NOW + 999));
	cr_assert_not(dedup_has(dedup, hash_of(1), NOW + 1000));
	cr_assert_eq(dedup_put(dedup, hash_of(1), 1, NOW - 500, NOW + 10), 0);
	cr_assert(dedup_has(dedup, hash_of(1), NOW + 999));
	cr_assert_eq(dedup_put(dedup, hash_of(1), 1, NOW + 100, NOW + 100), 0);
	cr_assert(dedup_has(dedup, hash_of(1), NOW + 1099));
	cr_assert_eq(dedup_put(dedup, hash_of(2), 1, NOW - 1000, NOW), 0);
	cr_assert_not(dedup_has(dedup, hash_of(2), NOW));
	dedup_free(dedup);
}

/* What is forgotten is gone, and the others are not. */
Test(dedup, forget)
{
	struct dedup *dedup = dedup_new(1000, NULL);

	for (uint64_t i = 0; i < 5000; i++)
		cr_assert_eq(dedup_put(dedup, hash_of(i), 1, NOW, NOW), 0);
	for (uint64_t i = 0; i < 5000; i += 3)
		dedup_forget(dedup, hash_of(i));
	for (uint64_t i = 0; i < 5000; i++)
		cr_assert_eq(dedup_has(dedup, hash_of(i), NOW), i % 3 != 0);
	cr_assert_eq(dedup_sweep(dedup, NOW), 5000 - 1667);
	dedup_free(dedup);
}

/* A clock that runs for months, and one that is set back, lose nothing that is within the window. */
Test(dedup, clock)
{
	struct dedup *dedup = dedup_new(INT32_MAX, NULL);
	const int64_t day = 86400000;

	for (int64_t i = 0; i < 200; i++)
		cr_assert_eq(dedup_put(dedup, hash_of((uint64_t)i), 1, NOW + i * day, NOW + i * day), 0);
	for (int64_t i = 0; i < 200; i++)
		cr_assert_eq(dedup_has(dedup, hash_of((uint64_t)i), NOW + 199 * day), (199 - i) * day < INT32_MAX);
	cr_assert_eq(dedup_put(dedup, hash_of(1000), 1, NOW + 100 * day, NOW + 100 * day), 0);
	cr_assert(dedup_has(dedup, hash_of(1000), NOW + 101 * day));
	cr_assert(dedup_has(dedup, hash_of(199), NOW + 101 * day));
	dedup_free(dedup);
}

/* There is room for a million ids, and a bound: what is over it is refused, and the ids of before stay; time makes room again. */
Test(dedup, bound)
{
	struct dedup *dedup = dedup_new(1000, NULL);
	uint64_t count = 0;
	int rc;

	while ((rc = dedup_put(dedup, hash_of(count), 1, NOW, NOW)) == 0)
		count++;
	cr_assert_eq(rc, -EDQUOT);
	cr_assert_gt(count, 1400000);
	cr_assert_leq(count * 16, DEDUP_BYTES_MAX);
	for (uint64_t i = 0; i < count; i += 1000)
		cr_assert(dedup_has(dedup, hash_of(i), NOW));
	cr_assert_not(dedup_has(dedup, hash_of(count), NOW));
	cr_assert_eq(dedup_put(dedup, hash_of(count), 1, NOW + 1000, NOW + 1000), 0);
	cr_assert_eq(dedup_sweep(dedup, NOW + 2000), 0);
	for (uint64_t i = 0; i < 1000000; i++)
		cr_assert_eq(dedup_put(dedup, hash_of(i), 1, NOW + 2000, NOW + 2000), 0);
	dedup_free(dedup);
}

static bool is_root(void *ctx, uint32_t uid)
{
	(void)ctx;
	return uid == 0;
}

static const struct engine_users users = { .unlimited = is_root };

/* Notes ids of a user, from a number of its own on, until one is refused; how many were not. */
static uint64_t flood(struct dedup *dedup, uint32_t uid)
{
	uint64_t count = 0;
	int rc;

	while ((rc = dedup_note(dedup, hash_of(((uint64_t)uid << 32) + count), uid, NOW)) == 0)
		count++;
	cr_assert_eq(rc, -EDQUOT);
	return count;
}

/*
 * Whoever floods, in however many objects: who comes later has room, half of what is left, and nobody's ids go. Root's share is all. What
 * is over gives the share back.
 */
Test(dedup, shares)
{
	struct dedup *one = dedup_new(1000, &users), *two = dedup_new(1000, &users);
	uint64_t first = flood(one, 1), again = flood(two, 1), second = flood(two, 2), third = flood(one, 3);

	cr_assert(first > 700000 && first < 900000, "%llu", (unsigned long long)first);
	cr_assert_lt(again, 10000); /* its share is one, whatever the object */
	cr_assert(second > first / 3 && second <= first / 2 + 10000, "%llu", (unsigned long long)second);
	cr_assert(third > first / 6, "%llu", (unsigned long long)third);
	cr_assert(strstr(engine_reason(), "of the user"));
	for (uint64_t i = 0; i < first; i += 100)
		cr_assert(dedup_has(one, hash_of((1ull << 32) + i), NOW));
	for (uint64_t i = 0; i < third; i += 100)
		cr_assert(dedup_has(one, hash_of((3ull << 32) + i), NOW));
	cr_assert_not(dedup_has(two, hash_of((1ull << 32) + first - 1), NOW));
	cr_assert_gt(flood(one, 0), 150000);
	cr_assert(strstr(engine_reason(), "fill the 32 MiB"));
	cr_assert_lt(flood(two, 4), 500);
	cr_assert_eq(dedup_sweep(two, NOW + 1000), 0);
	cr_assert_gt(flood(two, 4), 100000);
	dedup_free(one);
	dedup_free(two);
	one = dedup_new(1000, &users);
	cr_assert_gt(flood(one, 1), 700000);
	dedup_free(one);
}

/* More users than have a table of their own in an object are taken for one; an id is known whoever sent it. */
Test(dedup, many_users)
{
	struct dedup *dedup = dedup_new(1000, &users);

	for (uint32_t uid = 1; uid <= 1000; uid++)
		cr_assert_eq(dedup_note(dedup, hash_of(uid), uid, NOW), 0);
	for (uint32_t uid = 1; uid <= 1000; uid++)
		cr_assert(dedup_has(dedup, hash_of(uid), NOW + 999));
	cr_assert_lt(flood(dedup, 2000), 900000);
	cr_assert_lt(flood(dedup, 3000), 10000); /* the same share */
	dedup_forget(dedup, hash_of(1));
	cr_assert_not(dedup_has(dedup, hash_of(1), NOW));
	dedup_free(dedup);
}

/* What was taken before is known after a start, however much of it is one user's. */
Test(dedup, filled_over_the_share)
{
	struct dedup *dedup = dedup_new(1000, &users);

	for (uint64_t i = 0; i < 1200000; i++)
		cr_assert_eq(dedup_put(dedup, hash_of(i), 1, NOW, NOW), 0);
	cr_assert_eq(dedup_note(dedup, hash_of(0), 1, NOW), 0); /* needs no room */
	cr_assert_lt(flood(dedup, 1), 300000);
	cr_assert_gt(flood(dedup, 2), 10000);
	dedup_free(dedup);
}
