#include "fs/awake.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <unistd.h>

#define WINDOW 5 /* ticks */

static struct awake awake;
static int wrote; /* what it writes to the device */

static void setup(void)
{
	int ends[2];
	cr_assert_eq(pipe2(ends, O_NONBLOCK), 0);
	awake = (struct awake){ .fd = ends[1] };
	wrote = ends[0];
}

static void teardown(void)
{
	awake_destroy(&awake);
	close(wrote);
}

TestSuite(awake, .init = setup, .fini = teardown);

/* Windows with so many requests each, which come in the last tick but one. */
static void pass(int windows, int requests)
{
	for (int tick = 0; tick < windows * WINDOW; tick++) {
		for (int i = 0; i < requests && tick % WINDOW == 3; i++)
			awake_count(&awake);
		cr_assert_eq(awake_tick(&awake), requests > 0 && tick % WINDOW == 3, "whether there was one");
	}
}

/* Nothing was written, or just that. */
static bool was_written(const int32_t *latency_us)
{
	int32_t got[2];
	ssize_t size = read(wrote, got, sizeof got);
	return latency_us ? size == sizeof *latency_us && got[0] == *latency_us : size < 0;
}

static const int32_t none = 0, any = -1;

Test(awake, is_held_while_requests_come_in_numbers)
{
	pass(3, 9);
	cr_expect(was_written(NULL), "too few");
	pass(1, 10);
	cr_expect(was_written(&none));
	pass(20, 1000);
	cr_expect(was_written(NULL), "once is enough");
}

Test(awake, is_let_go_when_they_end_but_not_at_the_first_pause)
{
	pass(1, 10);
	cr_expect(was_written(&none));
	for (int i = 0; i < 3; i++) {
		pass(3, 0);
		pass(1, 10);
	}
	cr_expect(was_written(NULL));
	pass(4, 9);
	cr_expect(was_written(&any));
	pass(4, 0);
	cr_expect(was_written(NULL), "once is enough");
}

Test(awake, is_let_go_when_nobody_looks_any_more)
{
	pass(1, 10);
	cr_expect(was_written(&none));
	awake_rest(&awake);
	cr_expect(was_written(&any));
	pass(1, 10);
	cr_expect(was_written(&none), "and taken again");
}

Test(awake, nothing_is_held_where_it_cannot_be_had)
{
	close(awake.fd);
	awake.fd = -1;
	pass(2, 1000);
	cr_expect(was_written(NULL) || read(wrote, &(int){ 0 }, 1) == 0);
}

Test(awake, never_is_never)
{
	struct awake never;
	awake_init(&never, AWAKE_NEVER);
	cr_expect_eq(never.fd, -1);
	awake_destroy(&never);
}
