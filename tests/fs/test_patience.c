/* What the kernel's limits of a request come to: patience_limit(). That reads are ended in time is in tests/helpers/patience.bats. */
#include "fs/patience.h"

#include <criterion/criterion.h>
#include <limits.h>
#include <stdio.h>

#include "tests/lib/tmpdir.h"

static struct tmpdir dir;

static void setup(void)
{
	tmpdir_make(&dir);
}

static void teardown(void)
{
	tmpdir_remove(&dir);
}

TestSuite(patience, .init = setup, .fini = teardown);

static void write_sysctl(const char *name, const char *text)
{
	char path[PATH_MAX + 64];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", dir.path, name);
	file = fopen(path, "w");
	cr_assert_not_null(file);
	fputs(text, file);
	fclose(file);
}

static int64_t limit(const char *by_default, const char *most)
{
	write_sysctl("default_request_timeout", by_default);
	write_sysctl("max_request_timeout", most);
	return patience_limit(dir.path);
}

Test(patience, an_older_kernel_has_no_limit)
{
	cr_assert_eq(patience_limit(dir.path), 0);
}

Test(patience, the_limit_is_the_default_and_at_most_the_maximum)
{
	cr_assert_eq(limit("0\n", "0\n"), 0);
	cr_assert_eq(limit("60\n", "0\n"), 60000);
	cr_assert_eq(limit("0\n", "40\n"), 40000);
	cr_assert_eq(limit("60\n", "40\n"), 40000);
	cr_assert_eq(limit("30\n", "40\n"), 30000);
	cr_assert_eq(limit("65535\n", "0\n"), 65535000);
}

Test(patience, the_kernel_looks_each_15_seconds_and_takes_less_for_15)
{
	cr_assert_eq(limit("1\n", "0\n"), 15000);
	cr_assert_eq(limit("0\n", "5\n"), 15000);
	cr_assert_eq(limit("14\n", "3\n"), 15000);
}

Test(patience, one_begun_without_a_limit_watches_nothing)
{
	struct patience *patience = patience_new();

	cr_assert_not_null(patience);
	cr_assert_eq(patience_begin(patience, 0), 0);
	cr_assert_eq(patience_ms(patience), 0);
	patience_end(patience);
	patience_free(patience);
}

Test(patience, a_third_of_the_limit_is_waited)
{
	struct patience *patience = patience_new();

	cr_assert_not_null(patience);
	cr_assert_eq(patience_begin(patience, 15000), 0);
	cr_assert_eq(patience_ms(patience), 5000);
	patience_end(patience);
	patience_free(patience);
}
