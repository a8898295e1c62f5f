#include <criterion/criterion.h>

#include "fs/receive.h"

#define US 1000

static struct receive poller(void)
{
	return (struct receive){ .look_ns = 30 * US };
}

static void sleep_times(struct receive *receive, int64_t us, unsigned times)
{
	for (unsigned i = 0; i < times; i++)
		receive_slept(receive, us * US);
}

Test(receive, looks_once_requests_have_come_apart)
{
	struct receive receive = poller();
	cr_expect(!receive_looks(&receive, 0), "before it knows anything");
	sleep_times(&receive, 45, 3);
	cr_expect(!receive_looks(&receive, 0), "three might be chance");
	sleep_times(&receive, 45, 1);
	cr_expect(receive_looks(&receive, 0));
}

Test(receive, a_pause_ends_it)
{
	struct receive receive = poller();
	sleep_times(&receive, 45, 10);
	sleep_times(&receive, 5000, 1);
	cr_expect(!receive_looks(&receive, 0));
}

/* Of a shell on our processor most requests come at once, and some later. To look would move it to another one. */
Test(receive, who_is_on_our_processor_is_not_looked_for)
{
	struct receive receive = poller();
	for (int i = 0; i < 100; i++) {
		sleep_times(&receive, 4, 3);
		sleep_times(&receive, 20, 2);
		cr_assert(!receive_looks(&receive, 0));
	}
}

Test(receive, never_without_busy_poll)
{
	struct receive receive = { .look_ns = 0 };
	sleep_times(&receive, 45, 10);
	cr_expect(!receive_looks(&receive, 0));
}

Test(receive, who_looks_in_vain_looks_less)
{
	struct receive receive = poller();
	sleep_times(&receive, 45, 4);
	receive_looked(&receive, false, 0, US);
	sleep_times(&receive, 45, 1);
	cr_expect(!receive_looks(&receive, 0));
	sleep_times(&receive, 45, 1);
	cr_expect(receive_looks(&receive, 0));
	receive_looked(&receive, true, 0, US);
	cr_expect(receive_looks(&receive, 0));
}

Test(receive, nobody_looks_while_others_want_the_processor)
{
	struct receive receive = poller();
	sleep_times(&receive, 45, 4);
	receive_looked(&receive, true, 1000 * US, 500 * US);
	cr_expect(!receive_looks(&receive, 1000 * US));
	cr_expect(receive_looks(&receive, INT64_C(1000000) * US));
}
