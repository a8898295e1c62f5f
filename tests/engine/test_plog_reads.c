/*
 * Reads of a partition log that fail for a reason that says nothing of its files: no memory, a signal, no permission. Whoever asked is told
 * that, and nothing else comes of it: no message is passed over or reported as damaged, nothing is removed, and the next call finds all.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/dedup.h"
#include "engine/plog_internal.h"
#include "tests/lib/fault.h"
#include "tests/lib/nosync.h"
#include "tests/lib/plogbox.h"

#define MESSAGES 60
#define SEGMENT 100
#define FIRST_ID 1000
#define DAY_MS ((int64_t)86400000)

static const int errors[] = { ENOMEM, EINTR, EACCES };
#define ERRORS (sizeof(errors) / sizeof(errors[0]))

static struct box box;
static int64_t begin_ms;

static size_t payload(uint64_t i, char out[32])
{
	return (size_t)snprintf(out, 32, "message %" PRIu64, i);
}

/* Message i has the id FIRST_ID + i, a key and an id for idempotent producing, and came in second i; three are an entry. */
static void fill(void)
{
	for (uint64_t i = 0; i < MESSAGES; i++) {
		struct engine_props props = ENGINE_PROPS_INIT;
		struct engine_batch batch = { .count = 1, .props = &props, .ts_ms = begin_ms + (int64_t)i * 1000 };
		char data[33], key[16], id[16];
		uint64_t offset;

		props.key = (struct engine_span){ key, (size_t)snprintf(key, sizeof(key), "%" PRIu64, i % 5) };
		props.id = (struct engine_span){ id, (size_t)snprintf(id, sizeof(id), "id %" PRIu64, i) };
		batch.data = data;
		batch.len = payload(i, data) + 1;
		data[batch.len - 1] = '\n';
		cr_assert_eq(plog_append(box.plog, &batch, FIRST_ID + i, SEGMENT, &offset), 0);
		cr_assert_eq(offset, i);
		if (i % 3 == 2)
			cr_assert_eq(plog_sync(box.plog), 0);
	}
}

static void make(void)
{
	tmpdir_in_memory();
	nosync_install();
	box_make(&box);
	begin_ms = clock_wall_ms();
	fill();
	cr_assert_eq(plog_sync(box.plog), 0);
	cr_assert_geq(box.plog->count, 7);
}

static void drop(void)
{
	box_remove(&box);
}

TestSuite(plog_reads, .init = make, .fini = drop);

/* ---- what is asked; each gives the first error, and fails the test if an answer is wrong ---- */

static int read_all(struct box *of)
{
	uint64_t offset = box_stat(of).earliest, id;
	char want[32], lent[256];
	int rc = 0;

	for (; rc == 0 && offset < MESSAGES; offset++) {
		struct engine_view view = { 0 };

		if (offset % 3 == 0) { /* as who reads whole batches does */
			of->scratch.lent = lent;
			of->scratch.lent_size = sizeof(lent);
		}
		rc = plog_read_ids(of->plog, offset, 1, &of->scratch, &view, &id);
		of->scratch.lent = NULL;
		if (rc != 0) {
			cr_assert_eq(view.batch.count, 0, "offset %" PRIu64 " is passed over", offset);
			continue;
		}
		cr_assert(view.offset == offset && id == FIRST_ID + offset);
		cr_assert_eq(view.batch.len, payload(offset, want) + 1);
		cr_assert_eq(memcmp(view.batch.data, want, view.batch.len - 1), 0);
	}
	return rc;
}

static int pread_all(struct box *of)
{
	struct engine_partition_stat stat = box_stat(of);
	char got[4096], want[33];
	size_t len = 0;
	ssize_t n = 0;

	for (uint64_t pos = stat.start_pos; pos < stat.end_pos; pos += (uint64_t)n, len += (size_t)n) {
		n = plog_pread(of->plog, pos, got + len, 150);
		if (n < 0)
			return (int)n;
		cr_assert_gt(n, 0);
	}
	for (uint64_t i = stat.earliest, at = 0; i < MESSAGES; i++) {
		size_t size = payload(i, want);

		want[size++] = '\n';
		cr_assert_eq(memcmp(got + at, want, size), 0);
		at += size;
	}
	return 0;
}

static int find_times(struct box *of)
{
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < MESSAGES; i += 7) {
		uint64_t offset;

		rc = plog_find_time(of->plog, begin_ms + (int64_t)i * 1000, &offset);
		cr_assert(rc != 0 || offset == i, "%" PRIu64 " is at %" PRIu64, i, offset);
	}
	return rc;
}

static int find_ids(struct box *of)
{
	uint64_t offset;
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < MESSAGES; i += 7) {
		rc = plog_find_id(of->plog, FIRST_ID + i, &offset);
		cr_assert(rc != 0 || offset == i);
	}
	return rc;
}

static int last_id(struct box *of)
{
	uint64_t id;
	int rc;

	of->plog->last.count = 0; /* it is read from the disk */
	rc = plog_last_id(of->plog, &id);
	cr_assert(rc != 0 || id == FIRST_ID + MESSAGES - 1);
	return rc;
}

static int entries(struct box *of)
{
	struct index_entry entry;
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < MESSAGES; i++) {
		rc = plog_entry(of->plog, i, &entry);
		cr_assert(rc != 0 || index_covers(&entry, i));
	}
	return rc;
}

static int positions(struct box *of)
{
	char unused[32];
	uint64_t pos, want = 0;
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i <= MESSAGES; i++) {
		rc = plog_pos_of(of->plog, i, &pos);
		cr_assert(rc != 0 || pos == want);
		want += payload(i, unused) + 1;
	}
	return rc;
}

static int count_props(void *ctx, uint64_t offset, int64_t ts_ms, const struct engine_props *props)
{
	uint64_t *count = ctx;

	(void)ts_ms;
	cr_assert(offset == *count && props->key.len == 1);
	++*count;
	return 0;
}

static int walk_props(struct box *of)
{
	uint64_t count = 0;
	int rc = plog_each_props(of->plog, 0, MESSAGES, count_props, &count);

	cr_assert(rc != 0 || count == MESSAGES, "%" PRIu64, count);
	return rc;
}

static int count_id(void *ctx, const struct dedup_hash *hash, uint32_t uid, int64_t ts_ms)
{
	(void)uid;
	(void)hash;
	(void)ts_ms;
	++*(uint64_t *)ctx;
	return 0;
}

/* Those that were kept and those of messages. */
static int walk_ids(struct box *of)
{
	uint64_t count = 0;
	int rc = plog_each_id(of->plog, 0, true, count_id, &count);

	cr_assert(rc != 0 || count >= MESSAGES, "%" PRIu64, count);
	return rc;
}

static int trim_some(struct box *of)
{
	int rc = plog_trim(of->plog, 31);

	cr_assert_eq(box_stat(of).earliest, rc == 0 ? 31 : 0);
	return rc;
}

/* All segments are older than the time, but their messages are not: none goes. */
static int retain_by_time(struct box *of)
{
	int64_t next;
	int rc = plog_retain(of->plog, 1000, -1, begin_ms + 1500, MESSAGES, &next);

	cr_assert_eq(box_stat(of).earliest, 0);
	return rc;
}

static int keep_latest(struct plog_compaction *how, uint64_t offset, int64_t ts_ms, const struct engine_props *props)
{
	(void)how;
	(void)ts_ms;
	(void)props;
	return offset >= MESSAGES - 10;
}

static int compact(struct box *of)
{
	struct plog_compaction how = { .segment_bytes = SEGMENT, .before = UINT64_MAX, .keep = keep_latest };
	int rc = plog_compact(of->plog, &how);

	cr_assert(rc != 0 || how.clean_offset > 0, "a segment is taken for damaged");
	return rc;
}

static const struct {
	const char *name;
	int (*run)(struct box *of);
	unsigned reads; /* at least */
} asks[] = { { "read", read_all, MESSAGES }, { "pread", pread_all, 10 }, { "find time", find_times, 10 },
	{ "find id", find_ids, 10 }, { "last id", last_id, 1 }, { "entry", entries, 30 }, { "position", positions, 30 },
	{ "properties", walk_props, 20 }, { "ids", walk_ids, 20 }, { "trim", trim_some, 3 },
	{ "retention", retain_by_time, 1 }, { "compaction", compact, 20 } };

/* Whichever read fails, of whatever is asked. */
Test(plog_reads, every_read_fails_once)
{
	for (size_t k = 0; k < sizeof(asks) / sizeof(asks[0]); k++) {
		uint64_t n = 0, reached;

		do {
			int err = errors[n % ERRORS], rc;
			struct box copy;

			box_copy(&copy, &box);
			cr_assert_eq(box_open(&copy), 0);
			plog_keep_ids(copy.plog, DAY_MS);
			fault_arm(FAULT_READ, ++n, err, false);
			rc = asks[k].run(&copy);
			reached = fault_disarm();
			/* Of bytes, those before come first. */
			cr_assert(rc == (n <= reached ? -err : 0) || (rc == 0 && asks[k].run == pread_all),
			    "%s, read %" PRIu64 " of %" PRIu64 ": %d and not %d", asks[k].name, n, reached, rc, -err);
			cr_assert_eq(copy.errors, 0, "%s, read %" PRIu64 ": %s", asks[k].name, n, copy.text);
			cr_assert_eq(asks[k].run(&copy), 0);
			if (asks[k].run == trim_some) /* their ids are kept */
				cr_assert_eq(walk_ids(&copy), 0);
			box_remove(&copy);
		} while (n <= reached);
		cr_assert_geq(reached, asks[k].reads, "%s: %" PRIu64, asks[k].name, reached);
	}
}

/* ---- opening ---- */

/* Opens copies of `from` with each read failing once: what a later opening finds is what one without a failure does. */
static void open_with_every_read_failing(const struct box *from, uint64_t end, uint64_t lost)
{
	uint64_t n = 0, reached, now_lost;

	do {
		n++;
		for (size_t e = 0; e <= ERRORS; e++) {
			int err = e < ERRORS ? errors[e] : EIO, rc;
			struct box copy;

			box_copy(&copy, from);
			fault_arm(FAULT_READ, n, err, false);
			rc = box_open(&copy);
			reached = fault_disarm();
			if (err != EIO) {
				cr_assert_eq(rc, n <= reached ? -err : 0, "read %" PRIu64 ": %d", n, rc);
			}
			if (rc != 0) {
				cr_assert(err == EIO || copy.errors == 0, "read %" PRIu64 ": %s", n, copy.text);
				cr_assert_eq(box_open(&copy), 0);
			}
			cr_assert_eq(box_stat(&copy).end, end, "read %" PRIu64 ", %s: the log ends at %" PRIu64, n,
			    strerror(err), box_stat(&copy).end);
			box_check(&copy, 0, &now_lost);
			cr_assert_eq(now_lost, lost);
			box_remove(&copy);
		}
	} while (n <= reached);
	cr_assert_gt(n, 20);
}

/*
 * A segment before the last is torn, and only the mark of the last says that what comes after it was synced: the torn one is damaged, and
 * nothing goes that comes after it; nor if that mark cannot be read.
 */
Test(plog_reads, opening_keeps_what_was_synced)
{
	struct box torn;
	uint64_t lost, bases[16];
	size_t count;

	box_make(&torn);
	for (uint64_t i = 0; i < 80; i += 4)
		cr_assert_eq(box_append(&torn, i, 4, 100, 150), 0);
	cr_assert_eq(plog_trim(torn.plog, 2), 0);
	count = torn.plog->count;
	cr_assert(count > 4 && count <= 16);
	for (size_t i = 0; i < count; i++)
		bases[i] = torn.plog->segments[i]->base;
	cr_assert_eq(box_close(&torn), 0);
	for (size_t i = 1; i + 1 < count; i++)
		box_flip(&torn, bases[i], "index", INDEX_SLOT * 8 + 100);
	box_cut(&torn, bases[1], "data", box_size(&torn, bases[1], "data") - 1);
	cr_assert_eq(box_open(&torn), 0);
	box_check(&torn, 0, &lost);
	cr_assert(box_stat(&torn).end == 80 && lost == 4, "%" PRIu64, lost);
	plog_free(torn.plog);
	torn.plog = NULL;
	open_with_every_read_failing(&torn, 80, 4);
	box_remove(&torn);
}
