/*
 * The order in which what a partition log does with names and ends of files reaches the disk. Power cuts (tests/lib/powercut.h) are
 * made as file systems with a journal make them, which keep the order of names in a directory; the log relies on its own syncs
 * instead, and these are seen here, at each call.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/io.h"
#include "tests/lib/fault.h"
#include "tests/lib/nosync.h"
#include "tests/lib/plogbox.h"

#define SEGMENT 150
#define PENDING 64u
#define FDS 4096

/* What was done since the last sync of a directory, and which files were cut since theirs. */
static struct {
	const struct io_ops *real;
	struct io_ops ops;
	char names[PENDING][80]; /* the last of each change, after '+' made, '=' renamed to, '-' removed */
	ino_t dirs[PENDING];     /* where */
	uint32_t count;
	bool cut[FDS];
	bool drops;                         /* recovery, which has its own order */
	unsigned swaps, ends, begins, cuts; /* steps that were looked at */
} order;

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), want = strlen(end);

	return len >= want && strcmp(text + len - want, end) == 0;
}

static ino_t inode_of(int fd)
{
	struct stat st;

	cr_assert_eq(fstat(fd, &st), 0);
	return st.st_ino;
}

static void add(char what, int dirfd, const char *name)
{
	cr_assert_lt(order.count, PENDING);
	order.dirs[order.count] = inode_of(dirfd);
	snprintf(order.names[order.count++], sizeof(order.names[0]), "%c%s", what, name);
}

/* Is a change not on disk whose name ends so? */
static bool is_pending(const char *end)
{
	for (uint32_t i = 0; i < order.count; i++) {
		if (ends_with(order.names[i], end))
			return true;
	}
	return false;
}

static int order_open(int dirfd, const char *name, int flags, mode_t mode)
{
	bool is_new = (flags & O_CREAT) && faccessat(dirfd, name, F_OK, 0) < 0;
	int rc;

	if (ends_with(name, ".cdata")) { /* a swap that is still on disk would take it for its own */
		cr_assert(!is_pending("-swap"), "%s is made before the end of the swap before is on disk", name);
		order.begins++;
	}
	rc = order.real->open(dirfd, name, flags, mode);
	if (rc >= 0 && is_new)
		add('+', dirfd, name);
	return rc;
}

static int order_mkdir(int dirfd, const char *name, mode_t mode)
{
	int rc = order.real->mkdir(dirfd, name, mode);

	if (rc == 0)
		add('+', dirfd, name);
	return rc;
}

static int order_rename(int old_dirfd, const char *old_name, int new_dirfd, const char *new_name)
{
	int rc;

	if (strcmp(new_name, "swap") == 0) {
		cr_assert(!is_pending(".cdata") && !is_pending(".cmeta") && !is_pending(".cindex"),
		    "the swap comes before the names of what it is about");
		order.swaps++;
	}
	rc = order.real->rename(old_dirfd, old_name, new_dirfd, new_name);
	if (rc == 0)
		add('=', new_dirfd, new_name);
	return rc;
}

static int order_unlink(int dirfd, const char *name, int flags)
{
	int rc;

	if (strcmp(name, "swap") == 0) {
		cr_assert_eq(order.count, 0, "the swap ends before %s is on disk", order.names[0]);
		order.ends++;
	}
	if (ends_with(name, ".index"))
		cr_assert(!is_pending("=start"), "%s goes before it is on disk that the log begins behind it", name);
	if (!order.drops && ends_with(name, ".data")) { /* a segment is there if its index is */
		char index[80];

		snprintf(index, sizeof(index), "%.20s.index", name);
		cr_assert(faccessat(dirfd, index, F_OK, 0) < 0, "%s goes before its index", name);
	}
	rc = order.real->unlink(dirfd, name, flags);
	if (rc == 0)
		add('-', dirfd, name);
	return rc;
}

static int order_ftruncate(int fd, off_t size)
{
	struct stat st;

	cr_assert(fd < FDS && fstat(fd, &st) == 0);
	if (st.st_size > size) {
		order.cut[fd] = true;
		order.cuts++;
	}
	return order.real->ftruncate(fd, size);
}

static int order_fdatasync(int fd)
{
	order.cut[fd] = false;
	return order.real->fdatasync(fd);
}

static int order_fsync(int fd)
{
	ino_t dir = inode_of(fd);
	uint32_t left = 0;

	for (uint32_t i = 0; i < order.count; i++) {
		if (order.dirs[i] == dir)
			continue;
		order.dirs[left] = order.dirs[i];
		memmove(order.names[left++], order.names[i], sizeof(order.names[0]));
	}
	order.count = left;
	order.cut[fd] = false;
	return order.real->fsync(fd);
}

static void look(void)
{
	memset(&order, 0, sizeof(order));
	order.real = io;
	order.ops = *io;
	order.ops.open = order_open;
	order.ops.mkdir = order_mkdir;
	order.ops.rename = order_rename;
	order.ops.unlink = order_unlink;
	order.ops.ftruncate = order_ftruncate;
	order.ops.fdatasync = order_fdatasync;
	order.ops.fsync = order_fsync;
	io = &order.ops;
}

static void look_away(void)
{
	io = order.real;
}

static struct box box;

static void make(void)
{
	tmpdir_in_memory();
	nosync_install();
	box_make(&box);
}

static void drop(void)
{
	box_remove(&box);
}

TestSuite(plog_order, .init = make, .fini = drop);

static int keep_few(struct plog_compaction *how, uint64_t offset, int64_t ts_ms, const struct engine_props *props)
{
	(void)how;
	(void)ts_ms;
	(void)props;
	return offset % 4 == 0;
}

/* Compacted segments are there by name before the swap says so, what they replace is gone before it ends, and it has ended before the next. */
Test(plog_order, compaction)
{
	struct plog_compaction how = { .segment_bytes = 2 * SEGMENT, .before = UINT64_MAX, .keep = keep_few };

	for (uint64_t i = 0; i < 200; i++) {
		struct engine_props props = ENGINE_PROPS_INIT;
		const struct engine_batch batch = {
			.data = "payload\n", .len = 8, .count = 1, .props = &props, .ts_ms = 1
		};
		uint64_t offset;

		props.key = (struct engine_span){ "k", 1 };
		cr_assert_eq(plog_append(box.plog, &batch, 0, SEGMENT, &offset), 0);
	}
	cr_assert_eq(plog_sync(box.plog), 0);
	look();
	cr_assert_eq(plog_compact(box.plog, &how), 0);
	cr_assert_eq(order.count, 0, "%s is not on disk", order.names[0]);
	look_away();
	cr_assert(order.swaps > 2 && order.ends == order.swaps && order.begins >= order.swaps, "%u", order.swaps);
}

/* Segments go when it is on disk that the log begins behind them, and are gone when a trim is over; also where the disk was too full to say so. */
Test(plog_order, trim)
{
	uint64_t base;

	for (uint64_t i = 0; i < 60; i += 4)
		cr_assert_eq(box_append(&box, i, 4, 100, SEGMENT), 0);
	look();
	cr_assert_eq(plog_trim(box.plog, 30), 0);
	cr_assert_eq(order.count, 0, "%s is not on disk", order.names[0]);
	base = plog_segment_base(box.plog, 50);
	fault_arm(FAULT_RENAME, 1, ENOSPC, false);
	cr_assert_eq(plog_trim(box.plog, base), 0);
	cr_assert_eq(fault_disarm(), 1);
	cr_assert_eq(order.count, 0, "%s is not on disk", order.names[0]);
	look_away();
	cr_assert_eq(box_stat(&box).earliest, base);
}

/* What recovery cuts off is cut on the disk before anything comes to its place: else the old tail could come back behind that. */
Test(plog_order, recovery)
{
	struct box torn;

	box_fill(&box, 9);
	box_copy(&torn, &box);
	box_flip(&torn, 0, "data", 8 * (box_size(&torn, 0, "data") / 2));
	look();
	cr_assert_eq(box_open(&torn), 0);
	cr_assert_geq(order.cuts, 3); /* of all three files */
	for (int fd = 0; fd < FDS; fd++)
		cr_assert(!order.cut[fd], "the %d-th file is cut in memory only", fd);
	look_away();
	cr_assert(box_stat(&torn).end > 0 && box_stat(&torn).end < box_stat(&box).end);
	box_remove(&torn);
}

/* Segments that recovery drops, behind a torn one or half made, are gone on the disk before anything is appended in their place. */
Test(plog_order, dropped_segments)
{
	for (int unborn = 0; unborn < 2; unborn++) {
		struct box left;

		if (unborn == 0) {
			for (uint64_t i = 0; i < 40; i += 4)
				cr_assert_eq(box_append(&box, i, 4, 100, SEGMENT), 0);
		}
		box_copy(&left, &box);
		if (unborn) {
			char name[64];
			int fd;

			snprintf(name, sizeof(name), "%s/%020d.index", BOX_LOG, 40);
			fd = openat(left.dir.fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
			cr_assert(fd >= 0 && close(fd) == 0);
		} else {
			box_cut(&left, 0, "data", box_size(&left, 0, "data") - 1);
		}
		look();
		order.drops = true;
		cr_assert_eq(box_open(&left), 0);
		cr_assert_eq(order.count, 0, "%s is not on disk", order.names[0]);
		look_away();
		cr_assert(unborn ? box_stat(&left).end == 40 : box_stat(&left).end < 40);
		box_remove(&left);
	}
}

/* A log that is made is there with all its names, before anything says that it is. */
Test(plog_order, creation)
{
	struct plog_options options = box.options;

	options.id++;
	look();
	cr_assert_eq(plog_create(&options), 0);
	cr_assert_eq(order.count, 0, "%s is not on disk", order.names[0]);
	look_away();
}
