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
	struct dedup *dedup = dedup_new(1000, NOW);

	cr_assert_not(dedup_has(dedup, hash_of(1), NOW));
	cr_assert_eq(dedup_put(dedup, hash_of(1), NOW, NOW), 0);
	cr_assert(dedup_has(dedup, hash_of(1), NOW));
	cr_assert(dedup_has(dedup, hash_of(1), NOW + 999));
	cr_assert_not(dedup_has(dedup, hash_of(1), NOW + 1000));
	cr_assert_eq(dedup_put(dedup, hash_of(1), NOW - 500, NOW + 10), 0);
	cr_assert(dedup_has(dedup, hash_of(1), NOW + 999));
	cr_assert_eq(dedup_put(dedup, hash_of(1), NOW + 100, NOW + 100), 0);
	cr_assert(dedup_has(dedup, hash_of(1), NOW + 1099));
	cr_assert_eq(dedup_put(dedup, hash_of(2), NOW - 1000, NOW), 0);
	cr_assert_not(dedup_has(dedup, hash_of(2), NOW));
	dedup_free(dedup);
}

/* What is forgotten is gone, and the others are not. */
Test(dedup, forget)
{
	struct dedup *dedup = dedup_new(1000, NOW);

	for (uint64_t i = 0; i < 5000; i++)
		cr_assert_eq(dedup_put(dedup, hash_of(i), NOW, NOW), 0);
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
	struct dedup *dedup = dedup_new(INT32_MAX, NOW);
	const int64_t day = 86400000;

	for (int64_t i = 0; i < 200; i++)
		cr_assert_eq(dedup_put(dedup, hash_of((uint64_t)i), NOW + i * day, NOW + i * day), 0);
	for (int64_t i = 0; i < 200; i++)
		cr_assert_eq(dedup_has(dedup, hash_of((uint64_t)i), NOW + 199 * day), (199 - i) * day < INT32_MAX);
	cr_assert_eq(dedup_put(dedup, hash_of(1000), NOW + 100 * day, NOW + 100 * day), 0);
	cr_assert(dedup_has(dedup, hash_of(1000), NOW + 101 * day));
	cr_assert(dedup_has(dedup, hash_of(199), NOW + 101 * day));
	dedup_free(dedup);
}

/* There is room for a million ids, and a bound: what is over it is refused, and the ids of before stay; time makes room again. */
Test(dedup, bound)
{
	struct dedup *dedup = dedup_new(1000, NOW);
	uint64_t count = 0;
	int rc;

	while ((rc = dedup_put(dedup, hash_of(count), NOW, NOW)) == 0)
		count++;
	cr_assert_eq(rc, -EDQUOT);
	cr_assert_gt(count, 1400000);
	cr_assert_leq(count * 16, DEDUP_BYTES_MAX);
	for (uint64_t i = 0; i < count; i += 1000)
		cr_assert(dedup_has(dedup, hash_of(i), NOW));
	cr_assert_not(dedup_has(dedup, hash_of(count), NOW));
	cr_assert_eq(dedup_put(dedup, hash_of(count), NOW + 1000, NOW + 1000), 0);
	cr_assert_eq(dedup_sweep(dedup, NOW + 2000), 0);
	for (uint64_t i = 0; i < 1000000; i++)
		cr_assert_eq(dedup_put(dedup, hash_of(i), NOW + 2000, NOW + 2000), 0);
	dedup_free(dedup);
}
