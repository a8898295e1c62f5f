/* A batch as bytes: what comes back, what is refused, and bytes that are no batch. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/bytes.h"
#include "engine/packed.h"
#include "tests/lib/alloc.h"

#define SPAN(text) ((struct engine_span){ text, sizeof(text) - 1 })

static struct engine_batch small(void)
{
	return (struct engine_batch){ .data = "a\nbc\n", .len = 5, .count = 2, .cred = { 1, 2, 3 }, .ts_ms = -1 };
}

/* All of it comes back; a time that was not set is that of unpacking, one that was stays. */
Test(packed, round_trip)
{
	static const struct engine_header headers[] = { { { "n", 1 }, { "v", 1 } } };
	static const struct engine_death deaths[] = { { .queue = { "q", 1 }, .count = 2, .ts_ms = 3 } };
	static const uint32_t lengths[] = { 3, 0 };
	struct engine_props props[2] = { ENGINE_PROPS_INIT, ENGINE_PROPS_INIT };
	struct engine_batch batch = small();

	props[1].key = SPAN("k");
	props[1].headers = headers;
	props[1].header_count = 1;
	props[1].deaths = deaths;
	props[1].death_count = 1;
	for (int with = 0; with < 2; with++) {
		struct packed_batch back;
		uint8_t *bytes;
		size_t size;

		cr_assert_eq(packed_make(&batch, &bytes, &size), 0);
		cr_assert_eq(packed_open(bytes, size, 77, &back), 0);
		cr_assert_eq(back.batch.count, 2);
		cr_assert(back.batch.len == batch.len && memcmp(back.batch.data, batch.data, batch.len) == 0);
		cr_assert(back.batch.cred.uid == 1 && back.batch.cred.gid == 2 && back.batch.cred.pid == 3);
		cr_assert_eq(back.batch.ts_ms, with ? 5 : 77);
		cr_assert_eq(back.lengths[0], with ? 3 : 1);
		cr_assert_eq(back.props[1].key.len, with);
		cr_assert_eq(back.props[1].header_count, with);
		cr_assert_eq(back.props[1].death_count, with);
		packed_release(&back);
		free(bytes);
		batch = (struct engine_batch){ .data = "a\nb\n\n",
			.len = 5,
			.count = 2,
			.lengths = lengths,
			.props = props,
			.cred = { 1, 2, 3 },
			.ts_ms = 5 };
	}
}

/* A batch that contradicts itself is refused. */
Test(packed, contradictions)
{
	static const struct {
		const char *data;
		uint32_t count, lengths[2]; /* 99: without */
	} rows[] = { { "a\n", 2, { 99 } }, { "ab", 1, { 99 } }, { "a\nb\n", 1, { 99 } }, { "", 0, { 99 } },
		{ "a\n", 0, { 99 } }, { "a\n", 1, { 2 } }, { "a\n", 1, { 0 } }, { "a\nb\n", 2, { 1, 3 } },
		{ "a\nb\n", 1, { 1 } } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct engine_batch batch = {
			.data = rows[i].data, .len = strlen(rows[i].data), .count = rows[i].count
		};
		uint8_t *bytes = NULL;
		size_t size;

		batch.lengths = rows[i].lengths[0] == 99 ? NULL : rows[i].lengths;
		cr_expect_eq(packed_make(&batch, &bytes, &size), -EINVAL, "row %zu", i);
		cr_expect_null(bytes);
	}
}

/* Payloads, or what goes with them, that 32 bits cannot count. */
Test(packed, too_large)
{
	size_t half = (size_t)UINT32_MAX / 2 + 2;
	struct engine_props props = ENGINE_PROPS_INIT;
	uint32_t lengths[2] = { (uint32_t)half - 1, (uint32_t)half - 1 };
	char *data = mmap(NULL, 2 * half, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct engine_batch batch = { .data = data, .len = 2 * half, .count = 2, .lengths = lengths };
	uint8_t *bytes;
	size_t size;

	if (data == MAP_FAILED)
		cr_skip_test("SKIP: no 4 GiB of addresses");
	data[half - 1] = data[2 * half - 1] = '\n';
	cr_assert_eq(packed_make(&batch, &bytes, &size), -EMSGSIZE);
	munmap(data, 2 * half);
	batch = (struct engine_batch){ .data = "\n", .len = 1, .count = 1, .props = &props };
	props.key = (struct engine_span){ "k", (size_t)5 << 30 }; /* only counted */
	cr_assert_eq(packed_make(&batch, &bytes, &size), -EMSGSIZE);
}

/* Bytes that are cut, or say sizes that they do not have, are no batch. */
Test(packed, damage)
{
	static const struct {
		size_t at;
		uint64_t value; /* of 8 bytes, but at 0 and 4: of 4 */
	} rows[] = { { 0, 0 }, { 0, 3 }, { 4, UINT32_MAX }, { 4, 1 }, { 32, UINT64_MAX }, { 32, 4 }, { 40, 0 } };
	struct engine_batch batch = small();
	struct packed_batch back;
	uint8_t *bytes, *copy;
	size_t size;

	cr_assert_eq(packed_make(&batch, &bytes, &size), 0);
	for (size_t cut = 0; cut < size; cut++) {
		copy = malloc(cut + 1);
		memcpy(copy, bytes, cut);
		cr_assert_eq(packed_open(copy, cut, 0, &back), -EBADMSG, "of %zu", cut);
		free(copy);
	}
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		copy = malloc(size);
		memcpy(copy, bytes, size);
		if (rows[i].at < 8)
			bytes_put32(copy + rows[i].at, (uint32_t)rows[i].value);
		else
			bytes_put64(copy + rows[i].at, rows[i].value);
		cr_expect_eq(packed_open(copy, size, 0, &back), -EBADMSG, "row %zu", i);
		free(copy);
	}
	free(bytes);
}

/* Without memory: that is said, and nothing is left. */
Test(packed, no_memory)
{
	struct engine_batch batch = small();
	bool reached = true;

	for (uint64_t n = 1; reached; n++) {
		struct packed_batch back;
		uint8_t *bytes = NULL;
		size_t size;
		int rc;

		alloc_arm(n);
		rc = packed_make(&batch, &bytes, &size);
		if (rc == 0)
			rc = packed_open(bytes, size, 0, &back);
		reached = alloc_disarm() >= n;
		cr_assert_eq(rc, reached ? -ENOMEM : 0);
		if (rc == 0)
			packed_release(&back);
		free(bytes);
	}
}
