/* The lines of status/errors: whose go when there are too many. */
#include "fs/errors.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct errors errors;

static void set_up(void)
{
	errors_init(&errors);
}

static void tear_down(void)
{
	errors_release(&errors);
}

static void add(uint32_t uid, unsigned number)
{
	char line[32];
	int len = snprintf(line, sizeof line, "%u-%u", uid, number);
	cr_assert_eq(errors_add(&errors, uid, line, (size_t)len), 0);
}

/* How many lines of a user there are, of all that is read; they are in order. */
static unsigned count_of(uint32_t uid, unsigned *ret_first, unsigned *ret_last)
{
	struct buffer out = BUFFER_INIT;
	int all = errors_read(&errors, ERRORS_KEPT, &out), lines = 0;
	unsigned count = 0, of, number;
	buffer_add_char(&out, '\0');
	for (char *rest = out.ptr, *line; (line = strsep(&rest, "\n")) && *line; lines++) {
		cr_assert_eq(sscanf(line, "%u-%u", &of, &number), 2, "%s", line);
		if (of != uid)
			continue;
		cr_assert(count == 0 || number == *ret_last + 1);
		if (count++ == 0)
			*ret_first = number;
		*ret_last = number;
	}
	cr_assert_eq(all, lines);
	buffer_release(&out);
	return count;
}

/* As many as are kept, the last ones: of one user, and if there are several, what goes is of who has most. */
Test(errors, shares, .init = set_up, .fini = tear_down)
{
	unsigned first = 0, last = 0;
	for (unsigned i = 0; i < 300; i++)
		add(1, i);
	cr_assert(count_of(1, &first, &last) == 256 && first == 44 && last == 299);
	add(2, 0);
	cr_assert(count_of(1, &first, &last) == 255 && first == 45 && last == 299);
	for (unsigned i = 300; i < 1000; i++)
		add(1, i);
	cr_assert(count_of(2, &first, &last) == 1 && first == 0);
	for (unsigned i = 1; i < 1000; i++)
		add(2, i);
	cr_assert(count_of(1, &first, &last) == 128 && last == 999);
	cr_assert(count_of(2, &first, &last) == 128 && last == 999);
	for (unsigned uid = 3; uid < 3 + 400; uid++)
		add(uid, 0);
	cr_assert(count_of(402, &first, &last) == 1 && count_of(1, &first, &last) <= 1);
	struct buffer out = BUFFER_INIT;
	cr_assert_eq(errors_read(&errors, 2, &out), 2);
	buffer_add_char(&out, '\0');
	cr_assert_str_eq(out.ptr, "401-0\n402-0\n");
	buffer_release(&out);
}

/* A line is one line. */
Test(errors, lines, .init = set_up, .fini = tear_down)
{
	struct buffer out = BUFFER_INIT;
	cr_assert_eq(errors_read(&errors, 5, &out), 0);
	cr_assert_eq(errors_add(&errors, 1, "a\nb", 3), 0);
	cr_assert_eq(errors_read(&errors, 5, &out), 1);
	buffer_add_char(&out, '\0');
	cr_assert_str_eq(out.ptr, "a b\n");
	buffer_release(&out);
}
