/*
 * What crashes and damage leave of a log, each of it opened read-only, where nothing may change, and with each call that a recovery makes
 * failing once: then the next opening finds the same. What becomes of them otherwise is test_plog_recover.c's.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/crc32c.h"
#include "engine/index.h"
#include "tests/lib/means.h"
#include "tests/lib/nosync.h"
#include "tests/lib/plogbox.h"

static struct box box; /* three segments, of which the first is synced, and begins with what was purged */
static uint64_t bases[3];

static void make(void)
{
	nosync_install();
	box_make(&box);
	box_fill(&box, 4);
	cr_assert_eq(plog_sync(box.plog), 0);
	for (int i = 1; i < 3; i++) {
		bases[i] = box_stat(&box).end;
		box_append(&box, bases[i], 3, 50, 1);
		box_fill(&box, 3);
	}
	cr_assert_eq(plog_trim(box.plog, 2), 0);
}

static void drop(void)
{
	box_remove(&box);
}

TestSuite(plog_states, .init = make, .fini = drop);

static void put(const struct box *of, uint64_t base, const char *suffix, size_t size)
{
	uint8_t zeros[INDEX_FIRST] = { 0 };
	int fd = box_dir(of);
	char name[64];

	snprintf(name, sizeof(name), "%020" PRIu64 ".%s", base, suffix);
	tmpdir_put(fd, name, zeros, size);
	close(fd);
}

static void take(const struct box *of, uint64_t base, const char *suffix)
{
	int fd = box_dir(of);
	char name[64];

	snprintf(name, sizeof(name), "%020" PRIu64 ".%s", base, suffix);
	cr_assert_eq(unlinkat(fd, name, 0), 0);
	close(fd);
}

static void shorten(const struct box *of, uint64_t base, const char *suffix, int64_t by)
{
	box_cut(of, base, suffix, box_size(of, base, suffix) - by);
}

static void put_start(const struct box *of, uint64_t offset, uint64_t pos)
{
	struct index_start start = { .log_id = BOX_ID, .offset = offset, .pos = pos };
	uint8_t bytes[INDEX_SLOT];
	int fd = box_dir(of);

	memcpy(start.uuid, of->options.store_uuid, sizeof(start.uuid));
	index_put_start(bytes, &start);
	tmpdir_put(fd, "start", bytes, sizeof(bytes));
	close(fd);
}

/* The last segment alone, whose front is lost; with what it had, or nothing. */
static void leave_last(const struct box *of, bool empty)
{
	for (size_t i = 0; i < 2; i++) {
		take(of, bases[i], "index");
		take(of, bases[i], "data");
		take(of, bases[i], "meta");
	}
	box_flip(of, bases[2], "index", 8);
	box_flip(of, bases[2], "index", 64 * 8);
	if (empty) {
		box_cut(of, bases[2], "index", 9);
		box_cut(of, bases[2], "data", 0);
	}
}

/* Makes the i-th state of a copy; false if there are not so many. */
static bool spoil(const struct box *of, unsigned i)
{
	uint64_t end = box_stat(&box).end, last = bases[2];

	switch (i) {
	case 0: break;
	case 1: shorten(of, last, "data", 1); break;
	case 2: shorten(of, last, "index", INDEX_SLOT); break;
	case 3: shorten(of, last, "meta", 1); break;
	case 4: put(of, end, "data", 0); break;
	case 5: put(of, end, "data", 3), put(of, end, "index", INDEX_FIRST); break;
	case 6: put(of, end, "data", 0), put(of, end, "index", 9); break;
	case 7: shorten(of, bases[1], "data", 1); break; /* torn, and so is what comes behind it */
	case 8: take(of, last, "data"); break;
	case 9: take(of, bases[1], "index"); break;
	case 10: box_cut(of, 0, "index", INDEX_FIRST), take(of, bases[1], "index"), take(of, last, "index"); break;
	case 11: put(of, last, "index", INDEX_FIRST); break;
	case 12: box_flip(of, last, "index", 8), box_flip(of, last, "index", 64 * 8); break;
	case 13: put_start(of, bases[2], 1000); break; /* a trim was cut off */
	case 14: put_start(of, end + 10, 5000); break; /* what there was up to there is lost */
	case 15: leave_last(of, true), put_start(of, bases[2], 1000); break;
	case 16: leave_last(of, true), put_start(of, bases[1], 1000); break;
	case 17: leave_last(of, false); break;
	default: return false;
	}
	return true;
}

/* Of all that is in the directory. */
static uint32_t sum(const struct box *of)
{
	int fd = box_dir(of);
	DIR *dir = fdopendir(dup(fd));
	const struct dirent *entry;
	uint32_t all = 0;

	while ((entry = readdir(dir)) != NULL) {
		size_t size;
		uint8_t *bytes;

		if (entry->d_name[0] == '.')
			continue;
		bytes = tmpdir_get(fd, entry->d_name, &size);
		all += crc32c(crc32c(0, entry->d_name, strlen(entry->d_name)), bytes, size);
		free(bytes);
	}
	closedir(dir);
	close(fd);
	return all;
}

/* Read-only there is to see what there will be, and nothing changes. */
Test(plog_states, read_only)
{
	for (unsigned i = 0;; i++) {
		struct box copy, seen;
		struct engine_partition_stat stat;
		uint32_t before;
		int rc;

		box_copy(&copy, &box);
		if (!spoil(&copy, i)) {
			box_remove(&copy);
			break;
		}
		before = sum(&copy);
		box_copy(&seen, &copy);
		rc = box_open(&copy);
		cr_assert_eq(rc, 0, "state %u", i);
		seen.options.read_only = true;
		cr_assert_eq(box_open(&seen), 0, "state %u", i);
		stat = box_stat(&copy);
		if (box_stat(&box).end <
		    stat.end) /* all is lost up to where it begins: nothing can be made to begin there */
			stat.earliest = stat.end = box_stat(&box).end;
		cr_expect_eq(box_stat(&seen).end, stat.end, "state %u: %d", i, (int)box_stat(&seen).end);
		cr_expect_eq(box_stat(&seen).earliest, stat.earliest, "state %u: %d", i, (int)box_stat(&seen).earliest);
		cr_expect_eq(box_check(&seen, 0, NULL), box_check(&copy, 0, NULL), "state %u", i);
		cr_assert_eq(box_close(&seen), 0);
		cr_expect_eq(sum(&seen), before, "state %u", i);
		box_remove(&seen);
		box_remove(&copy);
	}
}

/* ret_stat: of the first call with n = 0, in which nothing fails. False: there is no such state. */
static bool fail_once(
    unsigned i, enum means means, uint64_t n, struct engine_partition_stat *stat, uint64_t *ret_reached)
{
	struct box copy;
	int rc;

	box_copy(&copy, &box);
	if (!spoil(&copy, i)) {
		box_remove(&copy);
		return false;
	}
	means_arm(means, n);
	rc = box_open(&copy);
	*ret_reached = means_disarm(means, n);
	cr_assert(rc == 0 || (n > 0 && *ret_reached), "state %u, kind %d, call %d: %d", i, means, (int)n, rc);
	if (rc == 0)
		box_close(&copy); /* it may say that it cannot */
	cr_assert_eq(box_open(&copy), 0, "state %u, kind %d, call %d", i, means, (int)n);
	if (n == 0)
		*stat = box_stat(&copy);
	cr_expect_eq(box_stat(&copy).end, stat->end, "state %u, kind %d, call %d: %d", i, means, (int)n,
	    (int)box_stat(&copy).end);
	cr_expect_eq(box_stat(&copy).earliest, stat->earliest, "state %u, kind %d, call %d", i, means, (int)n);
	box_check(&copy, 0, NULL);
	box_remove(&copy);
	return true;
}

/* Whatever cannot be read or written while it is opened, or no memory had: it opens, or says so, and the next time it is what it would have been. */
Test(plog_states, every_call_fails_once)
{
	for (unsigned i = 0;; i++) {
		struct engine_partition_stat stat = { 0 };
		for (int means = MEANS_CHANGES; means <= MEANS_READS; means++) {
			for (uint64_t n = means > 0, reached = true; reached; n++) {
				if (!fail_once(i, means, n, &stat, &reached))
					return;
			}
		}
	}
}
