#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "mount-helpers/mounts.h"

/* A line of mountinfo gives point, type, source and flags, with octal escapes taken back and optional fields passed over. */
Test(mounts, parse)
{
	char line[] = "36 35 0:42 / /m\\040q\\134x rw,nosuid,nodev,noexec,relatime shared:1 master:2 - fuse.mqfs "
		      "/var/my\\011store "
		      "ro,user_id=0,allow_other\n";
	struct mount_row row;

	cr_assert_eq(mounts_parse(line, &row), 0);
	cr_assert_str_eq(row.point, "/m q\\x");
	cr_assert_str_eq(row.source, "/var/my\tstore");
	cr_assert_str_eq(row.type, "fuse.mqfs");
	cr_assert_eq(row.flags, (unsigned long)(MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME));
	cr_assert(row.super_read_only);
}

/* What is no line of mountinfo is refused. */
Test(mounts, parse_bad)
{
	static const char *const lines[] = { "", "36 35 0:42 / /mq rw", "36 35 - fuse.mqfs x rw",
		"1 2 3 4 5 6 - fuse.mqfs" };

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		struct mount_row row;
		char line[256];

		strcpy(line, lines[i]);
		cr_assert_eq(mounts_parse(line, &row), -EINVAL, "%s", lines[i]);
	}
}

/* The root is a mount point, and of a type that is not ours. */
Test(mounts, find)
{
	struct mount_row row;

	cr_assert_eq(mounts_find_point("/proc", &row), 0);
	cr_assert_str_eq(row.type, "proc");
	cr_assert_eq(mounts_find_source("/no/such/store", &row), -ENOENT);
	cr_assert_eq(mounts_find_point("/no/such/point", &row), -ENOENT);
}

/* Paths become absolute, however they are written; a last component that does not exist is kept. */
Test(mounts, resolve)
{
	static const struct {
		const char *path, *resolved;
	} rows[] = {
		{ "/", "/" },
		{ "//", "/" },
		{ "/proc", "/proc" },
		{ "/proc/", "/proc" },
		{ "/proc/sys/..", "/proc" },
		{ "sys", "/proc/sys" },
		{ "./sys/", "/proc/sys" },
		{ ".", "/proc" },
		{ "no-such", "/proc/no-such" },
		{ "/no-such", "/no-such" },
	};
	char path[PATH_MAX];

	cr_assert_eq(chdir("/proc"), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		cr_assert_eq(mounts_resolve(rows[i].path, path), 0, "%s", rows[i].path);
		cr_assert_str_eq(path, rows[i].resolved, "%s: %s", rows[i].path, path);
	}
	cr_assert_eq(mounts_resolve("", path), -ENOENT);
	cr_assert_eq(mounts_resolve("no-such/store", path), -ENOENT);
}
