/* Compaction of a log: engine/plog_compact.c and plog_swap.c. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/clock.h"
#include "engine/crc32c.h"
#include "engine/dedup.h"
#include "engine/index.h"
#include "engine/io.h"
#include "engine/plog_internal.h"
#include "tests/lib/alloc.h"
#include "tests/lib/fault.h"
#include "tests/lib/means.h"
#include "tests/lib/nosync.h"
#include "tests/lib/plogbox.h"
#include "tests/lib/powercut.h"

#define KEYS 16
#define MESSAGES 4096
#define SEGMENT 400 /* bytes: a dozen messages */

/* What was appended: message i has key i * 7 % keys, and a tombstone every so often. */
struct model {
	uint64_t count;
	unsigned keys;
	uint64_t latest[KEYS]; /* + 1 */
	bool tombstone[MESSAGES];
};

struct run {
	struct plog_compaction how; /* first */
	const struct model *model;
	bool drop_tombstones;
};

static unsigned key_of(const struct model *model, uint64_t i)
{
	return (unsigned)(i * 7 % model->keys);
}

static size_t payload_of(const struct model *model, uint64_t i, char out[64])
{
	if (model->tombstone[i])
		return 0;
	return (size_t)snprintf(out, 64, i % 5 == 0 ? "value\n%llu" : "value %llu", (unsigned long long)i);
}

static int append(struct box *box, struct model *model, bool tombstone)
{
	uint64_t i = model->count, offset = 0;
	char key[16], data[65];
	struct engine_props props = ENGINE_PROPS_INIT;
	uint32_t length;
	struct engine_batch batch = {
		.data = data, .count = 1, .lengths = &length, .props = &props, .ts_ms = clock_wall_ms()
	};
	int rc;

	model->tombstone[i] = tombstone;
	props.key = (struct engine_span){ key, (size_t)snprintf(key, sizeof(key), "key-%u", key_of(model, i)) };
	props.tombstone = tombstone;
	length = (uint32_t)payload_of(model, i, data);
	data[length] = '\n';
	batch.len = length + 1;
	rc = plog_append(box->plog, &batch, 0, SEGMENT, &offset);
	if (rc == 0) {
		cr_assert_eq(offset, i);
		model->latest[key_of(model, i)] = i + 1;
		model->count++;
	}
	return rc;
}

static void fill(struct box *box, struct model *model, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		cr_assert_eq(append(box, model, false), 0);
}

static int keep(struct plog_compaction *how, uint64_t offset, int64_t ts_ms, const struct engine_props *props)
{
	const struct run *run = (const struct run *)how;

	(void)ts_ms;
	if (run->model->latest[key_of(run->model, offset)] != offset + 1)
		return 0;
	return !(props->tombstone && run->drop_tombstones);
}

/* Into segments of this size: as many as fit become one. */
static int compact_to(struct box *box, const struct model *model, bool drop_tombstones, uint64_t segment_bytes)
{
	struct run run = { .how = { .segment_bytes = segment_bytes, .before = UINT64_MAX, .keep = keep },
		.model = model,
		.drop_tombstones = drop_tombstones };
	int rc = plog_sync(box->plog);

	return rc == 0 ? plog_compact(box->plog, &run.how) : rc;
}

static int compact(struct box *box, const struct model *model, bool drop_tombstones)
{
	return compact_to(box, model, drop_tombstones, SEGMENT);
}

/*
 * Reads the log: what is there is what was appended there, its bytes are those of `log`, and each key has its last value up to
 * `must`; without_tombstones: but for keys that were removed. Returns how many messages there are.
 */
static uint64_t check(struct box *box, const struct model *model, uint64_t must, bool without_tombstones)
{
	struct engine_partition_stat stat = box_stat(box);
	uint64_t count = 0, seen[KEYS] = { 0 }, offset = stat.earliest, pos = stat.start_pos;
	struct engine_view view;
	char payload[64], bytes[128];
	int rc;

	while ((rc = plog_read(box->plog, offset, UINT32_MAX, &box->scratch, &view)) == 0) {
		const char *data = view.batch.data;

		cr_assert_geq(view.offset, offset);
		for (uint32_t i = 0; i < view.batch.count; i++) {
			uint64_t at = view.offset + i;
			size_t len = payload_of(model, at, payload);

			cr_assert_lt(at, model->count);
			cr_assert_eq(view.batch.lengths[i], len);
			cr_assert_eq(memcmp(data, payload, len), 0);
			cr_assert_eq(view.batch.props[i].tombstone, model->tombstone[at]);
			cr_assert_eq(plog_pread(box->plog, pos, bytes, len + 1), (ssize_t)len + 1);
			cr_assert_eq(memcmp(bytes, data, len + 1), 0);
			data += len + 1;
			pos += len + 1;
			seen[key_of(model, at)] = at + 1;
			count++;
		}
		offset = view.offset + view.batch.count;
	}
	cr_assert_eq(rc, -ENODATA, "%d at %llu", rc, (unsigned long long)offset);
	cr_assert_eq(pos, stat.end_pos);
	for (unsigned k = 0; k < model->keys; k++) {
		uint64_t last = 0;

		for (uint64_t i = 0; i < must; i++)
			last = key_of(model, i) == k ? i + 1 : last;
		if (last > 0 && without_tombstones && model->tombstone[last - 1])
			cr_assert(seen[k] == 0 || seen[k] >= last, "key %u came to life again", k);
		else
			cr_assert_geq(
			    seen[k], last, "key %u: its last value %llu is lost", k, (unsigned long long)last);
	}
	return count;
}

static unsigned segments(const struct box *box)
{
	unsigned count = 0;

	for (uint64_t base = 0; base < MESSAGES; base++)
		count += box_size(box, base, "index") >= 0;
	return count;
}

/* Each key keeps its last value, at the offset it had; again and again, over reopenings; what is small becomes one file. */
Test(plog_compact, keeps_the_last, .init = nosync_install)
{
	struct model model = { .keys = KEYS };
	struct engine_partition_stat before, after;
	struct engine_view view;
	struct box box;

	box_make(&box);
	for (unsigned round = 0; round < 6; round++) {
		fill(&box, &model, 200 + round);
		before = box_stat(&box);
		cr_assert_eq(compact(&box, &model, false), 0);
		after = box_stat(&box);
		cr_assert_eq(after.end, before.end);
		cr_assert_eq(after.end_pos, before.end_pos);
		cr_assert_gt(after.start_pos, before.start_pos);
		cr_assert_eq(after.shifted_start, after.start_pos);
		cr_assert_leq(after.shifted_pos, after.end_pos);
		cr_assert(after.has_gaps);
		cr_assert_lt(check(&box, &model, model.count, false), 3 * KEYS + 20);
		cr_assert_lt(segments(&box), 6);
		cr_assert_eq(plog_read(box.plog, 0, 1, &box.scratch, &view), 0);
		cr_assert_gt(view.offset, 0);
		cr_assert_eq(box_close(&box), 0);
		cr_assert_eq(box_open(&box), 0);
		check(&box, &model, model.count, false);
		cr_assert_eq(box_stat(&box).start_pos, after.start_pos);
		cr_assert_eq(box_stat(&box).end_pos, after.end_pos);
	}
	cr_assert_eq(compact(&box, &model, false), 0);
	cr_assert_eq(box.errors, 0);
	box_remove(&box);
}

/* Tombstones go when they may, nothing they hid comes back, and the last message of what is sealed stays. */
Test(plog_compact, tombstones, .init = nosync_install)
{
	struct model model = { .keys = 3 };
	struct box box;

	box_make(&box);
	fill(&box, &model, 100);
	for (int k = 0; k < 2; k++)
		cr_assert_eq(append(&box, &model, true), 0);
	while (box_stat(&box).end_pos < 2000 || model.count % 3 != 0)
		cr_assert_eq(append(&box, &model, key_of(&model, model.count) != 1), 0);
	cr_assert_eq(compact(&box, &model, false), 0);
	check(&box, &model, model.count, false);
	cr_assert_eq(compact(&box, &model, true), 0);
	check(&box, &model, model.count, true);
	cr_assert_eq(box_close(&box), 0);
	cr_assert_eq(box_open(&box), 0);
	check(&box, &model, model.count, true);
	box_remove(&box);
}

/* A log that ends with a sealed segment has its end, and what comes goes on there. */
Test(plog_compact, empty_active_segment, .init = nosync_install)
{
	struct model model = { .keys = 1 };
	struct engine_view view;
	struct box box;

	box_make(&box);
	fill(&box, &model, 50);
	cr_assert_eq(append(&box, &model, true), 0);
	fill(&box, &model, 13);
	cr_assert_eq(compact(&box, &model, true), 0);
	cr_assert_eq(plog_read(box.plog, model.count - 1, 1, &box.scratch, &view), 0);
	cr_assert_eq(view.offset, model.count - 1);
	check(&box, &model, model.count, true);
	box_remove(&box);
}

/* Purging within, before and after gaps. */
Test(plog_compact, trim, .init = nosync_install)
{
	for (uint64_t before = 1; before < 320; before += 3) {
		struct model model = { .keys = KEYS };
		struct engine_partition_stat stat;
		struct box box;

		box_make(&box);
		fill(&box, &model, 300);
		cr_assert_eq(compact(&box, &model, false), 0);
		if (before > 300) {
			box_remove(&box);
			break;
		}
		cr_assert_eq(plog_trim(box.plog, before), 0);
		cr_assert_eq(box_stat(&box).earliest, before);
		check(&box, &model, 0, false);
		stat = box_stat(&box);
		cr_assert_eq(box_close(&box), 0);
		cr_assert_eq(box_open(&box), 0);
		check(&box, &model, 0, false);
		cr_assert_eq(box_stat(&box).start_pos, stat.start_pos);
		fill(&box, &model, 100);
		cr_assert_eq(compact(&box, &model, false), 0);
		check(&box, &model, 0, false);
		box_remove(&box);
	}
}

/* A damaged batch costs itself: its segment is left as it is, no tombstone goes, all else is compacted. */
Test(plog_compact, damage, .init = nosync_install)
{
	struct model model = { .keys = KEYS };
	struct engine_view view;
	uint64_t offset = 0, count = 0;
	struct box box;
	int rc;

	box_make(&box);
	fill(&box, &model, 200);
	cr_assert_eq(append(&box, &model, true), 0);
	fill(&box, &model, 200);
	cr_assert_eq(plog_sync(box.plog), 0);
	box_flip(&box, 0, "data", 8 * 100);
	model.latest[key_of(&model, 200)] = 201;
	rc = compact(&box, &model, true);
	cr_assert_eq(rc, 0, "%d", rc);
	for (; (rc = plog_read(box.plog, offset, 1, &box.scratch, &view)) != -ENODATA; count++) {
		cr_assert(rc == 0 || rc == -EIO);
		offset = view.offset + view.batch.count;
		if (rc == 0 && view.offset == 200)
			break;
	}
	cr_assert_eq(view.offset, 200, "the tombstone went though something before it could not be read");
	cr_assert_lt(count, 100);
	box_remove(&box);
}

/* Ids of messages that compaction removes are remembered. */
static int put_id(void *ctx, const struct dedup_hash *hash, uint32_t uid, int64_t ts_ms)
{
	return dedup_put(ctx, *hash, uid, ts_ms, clock_wall_ms());
}

Test(plog_compact, ids, .init = nosync_install)
{
	struct dedup *dedup = dedup_new(1000000, NULL);
	struct model model = { .keys = 1 };
	struct box box;
	char id[16];

	box_make(&box);
	plog_keep_ids(box.plog, 1000000);
	for (unsigned i = 0; i < 60; i++) {
		struct engine_props props = ENGINE_PROPS_INIT;
		struct engine_batch batch = {
			.data = "some payload\n", .len = 13, .count = 1, .props = &props, .ts_ms = clock_wall_ms()
		};
		uint64_t offset;

		props.key = (struct engine_span){ "k", 1 };
		props.id = (struct engine_span){ id, (size_t)snprintf(id, sizeof(id), "id-%u", i) };
		cr_assert_eq(plog_append(box.plog, &batch, 0, SEGMENT, &offset), 0);
		model.latest[0] = ++model.count;
	}
	cr_assert_eq(compact(&box, &model, false), 0);
	cr_assert_eq(plog_each_id(box.plog, 0, true, put_id, dedup), 0);
	for (unsigned i = 0; i < 60; i++) {
		struct engine_span span = { id, (size_t)snprintf(id, sizeof(id), "id-%u", i) };

		cr_assert(dedup_has(dedup, dedup_hash_of(span), clock_wall_ms()), "%u", i);
	}
	dedup_free(dedup);
	box_remove(&box);
}

/* Whichever call fails: nothing is lost then and there, nor after the next opening; and then it can be compacted. */
Test(plog_compact, every_call_fails_once, .timeout = 120)
{
	static struct model model;

	for (int sticky = 0; sticky < 2; sticky++) {
		bool reached = true;

		for (uint64_t n = 1; reached; n++) {
			struct box box;

			model = (struct model){ .keys = KEYS };
			box_make(&box);
			fill(&box, &model, 60);
			cr_assert_eq(compact(&box, &model, false), 0);
			fill(&box, &model, 40);
			cr_assert_eq(plog_sync(box.plog), 0);
			fault_arm(FAULT_ANY, n, n % 2 ? EIO : ENOSPC, sticky);
			(void)compact(&box, &model, false);
			reached = fault_disarm() >= n;
			check(&box, &model, model.count, false);
			(void)box_close(&box);
			cr_assert_eq(box_open(&box), 0);
			check(&box, &model, model.count, false);
			cr_assert_eq(compact(&box, &model, false), 0);
			cr_assert_lt(check(&box, &model, model.count, false), 50);
			fill(&box, &model, 5);
			check(&box, &model, model.count, false);
			box_remove(&box);
		}
	}
}

/* ---- what comes between ---- */

static struct {
	struct box *box;
	unsigned at; /* which question of keep() */
	int (*call)(struct box *box);
	const struct model *model;
} between;

static int keep_and_call(struct plog_compaction *how, uint64_t offset, int64_t ts_ms, const struct engine_props *props)
{
	(void)how, (void)ts_ms, (void)props;
	if (between.at > 0 && --between.at == 0)
		cr_assert_eq(between.call(between.box), 0);
	return between.model->latest[key_of(between.model, offset)] == offset + 1;
}

static int trim_some(struct box *box)
{
	return plog_trim(box->plog, 30);
}

static int trim_all(struct box *box)
{
	return plog_trim(box->plog, box_stat(box).end);
}

static int compact_meanwhile(struct box *box)
{
	return compact(box, between.model, false);
}

static int fail(struct box *box)
{
	cr_assert_eq(append(box, (struct model *)(uintptr_t)between.model, false), 0);
	fault_arm(FAULT_SYNC, 1, EIO, true);
	cr_assert_eq(plog_sync(box->plog), -EIO);
	fault_disarm();
	return 0;
}

/* A purge, another compaction or a failure comes while segments are copied: what was copied is thrown away, and all is as it is to be. */
Test(plog_compact, is_overtaken, .init = nosync_install)
{
	static int (*const calls[])(struct box * box) = { trim_some, trim_all, compact_meanwhile, fail };

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		for (unsigned at = 1; at < 60; at += 7) {
			struct model model = { .keys = KEYS };
			struct plog_compaction how = {
				.segment_bytes = 2 * SEGMENT, .before = UINT64_MAX, .keep = keep_and_call
			};
			struct box box;
			int rc;

			box_make(&box);
			fill(&box, &model, 100);
			cr_assert_eq(plog_sync(box.plog), 0);
			between.box = &box;
			between.at = at;
			between.call = calls[i];
			between.model = &model;
			rc = plog_compact(box.plog, &how);
			cr_assert_eq(between.at, 0);
			cr_assert(rc == 0 || rc == (calls[i] == fail ? -EROFS : -EAGAIN), "%zu, %u: %d", i, at, rc);
			check(&box, &model, calls[i] == trim_some || calls[i] == trim_all ? 0 : model.count, false);
			(void)box_close(&box);
			cr_assert_eq(box_open(&box), 0);
			check(&box, &model, calls[i] == trim_some || calls[i] == trim_all ? 0 : model.count, false);
			cr_assert_eq(compact(&box, &model, false), 0);
			box_remove(&box);
		}
	}
}

/* Unless it holds a lock just then: nobody comes between there. */
static void call_between(void *ctx)
{
	struct box *box = ctx;

	if (pthread_mutex_trylock(&box->plog->trim_mutex) != 0)
		return;
	pthread_mutex_unlock(&box->plog->trim_mutex);
	if (pthread_mutex_trylock(&box->plog->mutex) != 0)
		return;
	pthread_mutex_unlock(&box->plog->mutex);
	(void)alloc_disarm();
	cr_assert_eq(between.call(box), 0);
}

/* So does a purge that comes just when what was copied is to take its place, or at any other of the last allocations. */
Test(plog_compact, is_overtaken_at_the_end, .init = nosync_install)
{
	static int (*const calls[])(struct box * box) = { trim_some, trim_all, compact_meanwhile };
	unsigned overtaken[3] = { 0 };

	for (size_t i = 0; i < 3; i++) {
		uint64_t count = 1;

		for (uint64_t back = 0; back < 8 && back < count; back++) {
			struct model model = { .keys = KEYS };
			struct box box;
			int rc;

			box_make(&box);
			fill(&box, &model, 60);
			cr_assert_eq(plog_sync(box.plog), 0);
			between.call = calls[i];
			between.model = &model;
			alloc_arm_call(back == 0 ? UINT64_MAX : count - back, call_between, &box);
			rc = compact_to(&box, &model, false, 4096);
			count = back == 0 ? alloc_disarm() + 1 : count;
			cr_assert(rc == 0 || rc == -EAGAIN, "%d", rc);
			overtaken[i] += rc == -EAGAIN;
			check(&box, &model, back == 0 || i == 2 ? model.count : 0, false);
			cr_assert_eq(box_close(&box), 0);
			cr_assert_eq(box_open(&box), 0);
			check(&box, &model, back == 0 || i == 2 ? model.count : 0, false);
			cr_assert_eq(compact(&box, &model, false), 0);
			box_remove(&box);
		}
	}
	for (size_t i = 0; i < 3; i++)
		cr_assert_gt(overtaken[i], 0, "%zu", i);
}

/* The mark of a segment that was compacted is damaged: where it ends, and where all before it begins, follows from its entries; if these can be read. */
Test(plog_compact, damaged_mark, .init = nosync_install)
{
	static struct model model;
	bool reached = true;
	unsigned failed = 0, found = 0;
	struct box box;

	model = (struct model){ .keys = KEYS };
	box_make(&box);
	fill(&box, &model, 90);
	cr_assert_eq(compact(&box, &model, false), 0);
	fill(&box, &model, 110);
	cr_assert_geq(segments(&box), 4);
	cr_assert_eq(plog_trim(box.plog, 75), 0);
	cr_assert_eq(box_close(&box), 0);
	for (uint64_t base = 0; base < 200 && found < 2; base++) {
		if (box_size(&box, base, "index") >= 0 && ++found == 2)
			box_flip(&box, base, "index", INDEX_SLOT * 8 + 3);
	}
	cr_assert_eq(found, 2);
	for (uint64_t n = 1; reached; n++) {
		struct box copy;
		int rc;

		box_copy(&copy, &box);
		means_arm(MEANS_READS, n);
		rc = box_open(&copy);
		reached = means_disarm(MEANS_READS, n);
		cr_assert(rc == 0 || reached, "call %d: %d", (int)n, rc);
		failed += rc < 0;
		(void)box_close(&copy);
		cr_assert_eq(box_open(&copy), 0);
		cr_assert_geq(check(&copy, &model, 0, false), 110, "call %d", (int)n);
		box_remove(&copy);
	}
	cr_assert_gt(failed, 3);
	box_remove(&box);
}

/* ---- what a crash leaves ---- */

/* A log whose compaction was cut off at this rename or removal, as a copy: 2 to 4 at the files, 5 when what was replaced is to go. */
static void make_cut_off(struct box *box, struct model *model, uint64_t at)
{
	*model = (struct model){ .keys = KEYS };
	box_make(box);
	fill(box, model, 150);
	cr_assert_eq(plog_sync(box->plog), 0);
	fault_arm(FAULT_RENAME | FAULT_UNLINK, 1 + at, EIO, true); /* the first two write `clean` and `swap` */
	(void)compact_to(box, model, false, 4096);
	fault_disarm();
}

/* Whatever fails while that is finished: the opening says so or has finished it, and the next one finds all there is. */
Test(plog_compact, finishing_fails, .init = nosync_install, .timeout = 120)
{
	static struct model model;

	for (uint64_t at = 2; at < 6; at += 3) {
		struct box box;

		make_cut_off(&box, &model, at);
		for (int means = MEANS_CHANGES; means <= MEANS_READS; means++) {
			bool reached = true;

			for (uint64_t n = 1; reached; n++) {
				struct box copy;
				int rc;

				box_copy(&copy, &box);
				means_arm(means, n);
				rc = box_open(&copy);
				reached = means_disarm(means, n);
				cr_assert(rc == 0 || reached, "cut %d: %d", (int)at, rc);
				if (rc == 0)
					check(&copy, &model, model.count, false);
				(void)box_close(&copy);
				cr_assert_eq(box_open(&copy), 0);
				check(&copy, &model, model.count, false);
				cr_assert_eq(faccessat(copy.dir.fd, BOX_LOG "/swap", F_OK, 0), -1);
				box_remove(&copy);
			}
		}
		box_remove(&box);
	}
}

/* Records of another log, of a newer version, and damaged ones: refused, but for `clean`, of which that costs a compaction. */
Test(plog_compact, foreign_records, .init = nosync_install)
{
	static const size_t at[] = { 0, 8, 12, 28, 60 };
	static struct model model;

	for (int is_swap = 0; is_swap < 2; is_swap++) {
		const char *name = is_swap ? "swap" : "clean";
		struct box box;

		make_cut_off(&box, &model, 2);
		for (size_t i = 0; i <= sizeof(at) / sizeof(at[0]); i++) {
			bool damaged = i == 0 || i >= 4;
			struct box copy;
			uint8_t *bytes;
			size_t size;
			int dirfd;

			box_copy(&copy, &box);
			dirfd = box_dir(&copy);
			bytes = tmpdir_get(dirfd, name, &size);
			cr_assert_eq(size, INDEX_SLOT);
			if (i < 5)
				bytes[at[i]] ^= 2;
			if (i < 4)
				bytes_put32(bytes + 60, crc32c(0, bytes, 60));
			tmpdir_put(dirfd, name, bytes, i < 5 ? size : 7);
			cr_assert_eq(box_open(&copy), damaged && !is_swap ? 0 : -EUCLEAN, "%s: %zu", name, i);
			cr_assert_eq(copy.errors, damaged && is_swap);
			free(bytes);
			close(dirfd);
			box_remove(&copy);
		}
		box_remove(&box);
	}
}

/* What was put aside and is not needed goes, and a file of another name stays. */
Test(plog_compact, leftovers, .init = nosync_install)
{
	struct model model = { .keys = KEYS };
	struct box box;
	int dirfd;

	box_make(&box);
	fill(&box, &model, 30);
	dirfd = box_dir(&box);
	tmpdir_put(dirfd, "00000000000000000007.cdata", "x", 1);
	tmpdir_put(dirfd, "00000000000000000007.cindex", "x", 1);
	tmpdir_put(dirfd, "7.cmeta", "x", 1);
	tmpdir_put(dirfd, "000000000000000000007.cmeta", "x", 1);
	cr_assert_eq(box_close(&box), 0);
	cr_assert_eq(box_open(&box), 0);
	cr_assert_neq(faccessat(dirfd, "00000000000000000007.cdata", F_OK, 0), 0);
	cr_assert_neq(faccessat(dirfd, "00000000000000000007.cindex", F_OK, 0), 0);
	cr_assert_eq(unlinkat(dirfd, "7.cmeta", 0), 0);
	cr_assert_eq(unlinkat(dirfd, "000000000000000000007.cmeta", 0), 0);
	close(dirfd);
	check(&box, &model, model.count, false);
	box_remove(&box);
}

/* Whatever fails in a compaction for want of memory or of what can be read: nothing is lost, and then it can be done. */
Test(plog_compact, means_fail, .init = nosync_install, .timeout = 120)
{
	static struct model model;
	struct box box;

	model = (struct model){ .keys = KEYS };
	box_make(&box);
	fill(&box, &model, 60);
	cr_assert_eq(compact(&box, &model, false), 0);
	fill(&box, &model, 30);
	cr_assert_eq(plog_sync(box.plog), 0);
	for (int means = MEANS_MEMORY; means <= MEANS_READS; means++) {
		bool reached = true;

		for (uint64_t n = 1; reached; n++) {
			struct box copy;

			box_copy(&copy, &box);
			cr_assert_eq(box_open(&copy), 0);
			plog_keep_ids(copy.plog, 1000000);
			means_arm(means, n);
			(void)compact(&copy, &model, false);
			reached = means_disarm(means, n);
			check(&copy, &model, model.count, false);
			cr_assert_eq(box_close(&copy), 0);
			cr_assert_eq(box_open(&copy), 0);
			check(&copy, &model, model.count, false);
			cr_assert_eq(compact(&copy, &model, false), 0);
			cr_assert_lt(check(&copy, &model, model.count, false), 50);
			box_remove(&copy);
		}
	}
	box_remove(&box);
}

static uint64_t kept_below;

static int keep_some(struct plog_compaction *how, uint64_t offset, int64_t ts_ms, const struct engine_props *props)
{
	(void)how, (void)ts_ms, (void)props;
	return offset < kept_below || (offset >= 100 && offset < 130);
}

/* A group before the last one is compacted again: what has moved up to there does not move the mark down. */
Test(plog_compact, earlier_group, .init = nosync_install)
{
	struct plog_compaction how = { .segment_bytes = SEGMENT, .before = UINT64_MAX, .keep = keep_some };
	struct engine_partition_stat before, after;
	struct model model = { .keys = KEYS };
	struct box box;

	box_make(&box);
	fill(&box, &model, 200);
	kept_below = 30;
	cr_assert_eq(plog_sync(box.plog), 0);
	cr_assert_eq(plog_compact(box.plog, &how), 0);
	before = box_stat(&box);
	kept_below = 20;
	cr_assert_eq(plog_compact(box.plog, &how), 0);
	after = box_stat(&box);
	cr_assert_eq(after.shifted_pos, before.shifted_pos);
	cr_assert_gt(after.shifted_start, before.shifted_start);
	box_remove(&box);
}

/* A power cut at every step of two compactions with tombstones: each key has its last value, and what went stays gone. */
Test(plog_compact, power_cut, .timeout = 300)
{
	static struct model model;
	struct powercut *cut;
	struct box box, after;
	int dirfd, rc;

	model = (struct model){ .keys = 5 };
	box_make(&box);
	fill(&box, &model, 40);
	cr_assert_eq(append(&box, &model, true), 0);
	fill(&box, &model, 2);
	for (int i = 0; i < 24; i++) /* no more of the tombstone's key */
		cr_assert_eq(append(&box, &model, key_of(&model, model.count) == key_of(&model, 40)), 0);
	cr_assert_eq(plog_sync(box.plog), 0);
	dirfd = box_dir(&box);
	cut = powercut_start(dirfd);
	cr_assert_eq(compact(&box, &model, true), 0);
	cr_assert_eq(compact(&box, &model, true), 0);
	powercut_stop(cut);
	for (size_t n = 0; n <= powercut_count(cut); n++) {
		for (uint64_t seed = 0; seed < 4; seed++) {
			char path[PATH_MAX + 64];
			int to;

			memset(&after, 0, sizeof(after));
			box_copy(&after, &box);
			snprintf(path, sizeof(path), "rm -f %s/" BOX_LOG "/*", after.dir.path);
			cr_assert_eq(system(path), 0);
			to = box_dir(&after);
			powercut_make(cut, n, seed, to);
			close(to);
			after.options.read_only = true; /* then it is as it was before or after, or not to be had */
			rc = box_open(&after);
			cr_assert(rc == 0 || rc == -EINPROGRESS);
			if (rc == 0)
				check(&after, &model, model.count, true);
			cr_assert_eq(box_close(&after), 0);
			after.options.read_only = false;
			cr_assert_eq(
			    box_open(&after), 0, "cut %zu, seed %llu: %s", n, (unsigned long long)seed, after.text);
			check(&after, &model, model.count, true);
			cr_assert_eq(compact(&after, &model, true), 0);
			check(&after, &model, model.count, true);
			cr_assert_eq(
			    after.errors, 0, "cut %zu, seed %llu: %s", n, (unsigned long long)seed, after.text);
			box_remove(&after);
		}
	}
	powercut_free(cut);
	close(dirfd);
	box_remove(&box);
}
