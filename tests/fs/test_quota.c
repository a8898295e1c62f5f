/* quota: what is charged is given back, a refusal changes nothing, and who leaves is gone. */
#include "fs/quota.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "engine/engine.h"

#define MOUNTER 7u

static struct quota *quota;
static unsigned users;
static uint64_t total;

static void set_up(void)
{
	quota = quota_new((const uint64_t[QUOTA_KINDS]){ 3, 2, 100, 0, 2, 1000, 5, 50, 2 }, MOUNTER);
	cr_assert(quota);
}

static void tear_down(void)
{
	quota_free(quota);
}

static void count(void *ctx, uid_t uid, uint64_t used)
{
	(void)ctx;
	(void)uid;
	users++;
	total += used;
}

static uint64_t sum_of(enum quota_kind kind)
{
	users = 0;
	total = 0;
	quota_each(quota, kind, count, NULL);
	return total;
}

TestSuite(quota, .init = set_up, .fini = tear_down);

/* Each user has limits of their own; beyond them is the kind's errno, with the option named, and nothing has changed. */
Test(quota, enter)
{
	struct quota_user *user, *other, *none = NULL;
	for (int i = 0; i < 3; i++)
		cr_assert_eq(quota_enter(quota, 1000, QUOTA_HANDLES, &user), 0);
	cr_assert_eq(quota_look(quota, 1000, QUOTA_HANDLES), -EMFILE);
	cr_assert_eq(quota_enter(quota, 1000, QUOTA_HANDLES, &none), -EMFILE);
	cr_assert_null(none);
	cr_assert(strstr(engine_reason(), "user_handles=3"));
	cr_assert_eq(quota_look(quota, 1001, QUOTA_HANDLES), 0);
	cr_assert_eq(quota_enter(quota, 1001, QUOTA_HANDLES, &other), 0);
	cr_assert_eq(sum_of(QUOTA_HANDLES), 4);
	cr_assert_eq(users, 2);
	cr_assert_eq(quota_refused(quota, QUOTA_HANDLES), 2);
	quota_leave(other, QUOTA_HANDLES);
	for (int i = 0; i < 3; i++)
		quota_leave(user, QUOTA_HANDLES);
	cr_assert_eq(sum_of(QUOTA_HANDLES), 0);
	cr_assert_eq(users, 0);
}

/* What is charged goes up and down; an increase that is refused leaves what was. */
Test(quota, charge)
{
	struct quota_user *user;
	uint64_t one = 0, two = 0;
	cr_assert_eq(quota_enter(quota, 1000, QUOTA_PUT_FILES, &user), 0);
	cr_assert_eq(quota_charge(user, QUOTA_PART_BYTES, &one, 60), 0);
	cr_assert_eq(quota_charge(user, QUOTA_PART_BYTES, &two, 40), 0);
	cr_assert_eq(quota_charge(user, QUOTA_PART_BYTES, &two, 41), -EDQUOT);
	cr_assert_eq(two, 40);
	cr_assert_eq(sum_of(QUOTA_PART_BYTES), 100);
	cr_assert_eq(quota_charge(user, QUOTA_PART_BYTES, &one, 59), 0);
	cr_assert_eq(quota_charge(user, QUOTA_PART_BYTES, &two, 41), 0);
	cr_assert_eq(quota_charge(user, QUOTA_PART_BYTES, &one, 0), 0);
	cr_assert_eq(quota_charge(user, QUOTA_PART_BYTES, &two, 0), 0);
	cr_assert_eq(sum_of(QUOTA_PART_BYTES), 0);
	quota_leave(user, QUOTA_PUT_FILES);
}

/* What is held is charged whatever it is, and asked for before: what is held at the same place already does not stand in the way. */
Test(quota, hold)
{
	struct quota_user *user;
	uint64_t one = 0, two = 0;
	cr_assert_eq(quota_enter(quota, 1000, QUOTA_HANDLES, &user), 0);
	cr_assert_eq(quota_room(user, QUOTA_READ_BYTES, one), 0);
	quota_hold(user, QUOTA_READ_BYTES, &one, 70);
	cr_assert_eq(quota_room(user, QUOTA_READ_BYTES, two), -EDQUOT);
	cr_assert(strstr(engine_reason(), "user_read_bytes=50"));
	cr_assert_eq(quota_look(quota, 1000, QUOTA_READ_BYTES), -EDQUOT);
	cr_assert_eq(quota_room(user, QUOTA_READ_BYTES, one), 0);
	quota_hold(user, QUOTA_READ_BYTES, &two, 10);
	quota_hold(user, QUOTA_READ_BYTES, &one, 30);
	cr_assert_eq(sum_of(QUOTA_READ_BYTES), 40);
	cr_assert_eq(quota_room(user, QUOTA_READ_BYTES, 0), 0);
	quota_hold(user, QUOTA_READ_BYTES, &one, 0);
	quota_hold(user, QUOTA_READ_BYTES, &two, 0);
	cr_assert_eq(sum_of(QUOTA_READ_BYTES), 0);
	quota_leave(user, QUOTA_HANDLES);
}

/* Root and who mounted are counted and never refused; a limit of 0 is none. */
Test(quota, unlimited)
{
	static const uid_t uids[] = { 0, MOUNTER };
	struct quota_user *user;
	for (size_t i = 0; i < 2; i++) {
		uint64_t charged = 0;
		for (int n = 0; n < 10; n++)
			cr_assert_eq(quota_enter(quota, uids[i], QUOTA_HANDLES, &user), 0);
		cr_assert_eq(quota_look(quota, uids[i], QUOTA_HANDLES), 0);
		cr_assert_eq(quota_charge(user, QUOTA_PART_BYTES, &charged, 1000), 0);
		cr_assert_eq(sum_of(QUOTA_HANDLES), 10);
		cr_assert_eq(quota_charge(user, QUOTA_PART_BYTES, &charged, 0), 0);
		for (int n = 0; n < 10; n++)
			quota_leave(user, QUOTA_HANDLES);
	}
	for (int n = 0; n < 10; n++)
		cr_assert_eq(quota_enter(quota, 1000, QUOTA_PUT_FILES, &user), 0);
	for (int n = 0; n < 10; n++)
		quota_leave(user, QUOTA_PUT_FILES);
	quota_leave(NULL, QUOTA_HANDLES);
}

/* The engine counts transactions, and what is staged in them, in the same way. */
Test(quota, engine)
{
	const struct engine_users users_of = quota_of_engine(quota);
	uint64_t charged = 0;
	void *one, *two, *none = NULL;
	cr_assert_eq(users_of.enter(users_of.ctx, 1000, &one), 0);
	cr_assert_eq(users_of.enter(users_of.ctx, 1000, &two), 0);
	cr_assert_eq(users_of.enter(users_of.ctx, 1000, &none), -EDQUOT);
	cr_assert(strstr(engine_reason(), "user_tx=2"));
	cr_assert_eq(users_of.charge(one, &charged, 1000), 0);
	cr_assert_eq(users_of.charge(two, &charged, 1001), -EDQUOT);
	cr_assert(strstr(engine_reason(), "user_tx_bytes=1000"));
	cr_assert_eq(charged, 1000);
	cr_assert_eq(sum_of(QUOTA_TX), 2);
	cr_assert_eq(sum_of(QUOTA_TX_BYTES), 1000);
	cr_assert_eq(users_of.charge(one, &charged, 0), 0);
	users_of.leave(one);
	users_of.leave(two);
	cr_assert_eq(sum_of(QUOTA_TX), 0);
	cr_assert_eq(users, 0);
}

/* Leases are counted many at a time: who wants more than there is gets what there is, and root and who mounted all. */
Test(quota, leases)
{
	const struct engine_users of = quota_of_engine(quota);
	cr_assert_eq(of.lease(of.ctx, 1000, 3), 3);
	cr_assert_eq(of.lease(of.ctx, 1000, 3), 2);
	cr_assert_eq(of.lease(of.ctx, 1000, 1), -EDQUOT);
	cr_assert(strstr(engine_reason(), "user_unacked=5"));
	cr_assert_eq(of.lease(of.ctx, 1001, 9), 5);
	cr_assert_eq(of.lease(of.ctx, MOUNTER, 9), 9);
	cr_assert_eq(sum_of(QUOTA_UNACKED), 19);
	cr_assert_eq(quota_refused(quota, QUOTA_UNACKED), 1);
	of.unlease(of.ctx, 1000, 4);
	cr_assert_eq(of.lease(of.ctx, 1000, 9), 4);
	of.unlease(of.ctx, 1000, 5);
	of.unlease(of.ctx, 1001, 5);
	of.unlease(of.ctx, MOUNTER, 9);
	cr_assert_eq(sum_of(QUOTA_UNACKED), 0);
	cr_assert_eq(users, 0);
}

/* Objects that are there already are counted over the limit; a user who has nothing else is listed for them only. */
Test(quota, objects)
{
	const struct engine_users of = quota_of_engine(quota);
	cr_assert_eq(of.keep(of.ctx, 1000, ENGINE_KEEP_THERE), 0);
	cr_assert_eq(of.keep(of.ctx, 1000, ENGINE_KEEP_ANEW), 0);
	cr_assert_eq(of.keep(of.ctx, 1000, ENGINE_KEEP_ANEW), -EDQUOT);
	cr_assert(strstr(engine_reason(), "user_objects=2"));
	cr_assert_eq(of.keep(of.ctx, 1000, ENGINE_KEEP_IF_ROOM), -EDQUOT);
	cr_assert_eq(quota_refused(quota, QUOTA_OBJECTS), 1);
	cr_assert(of.unlimited(of.ctx, 0) && of.unlimited(of.ctx, MOUNTER) && !of.unlimited(of.ctx, 1000));
	cr_assert_eq(of.keep(of.ctx, 1000, ENGINE_KEEP_THERE), 0);
	cr_assert_eq(of.keep(of.ctx, 0, ENGINE_KEEP_ANEW), 0);
	cr_assert_eq(sum_of(QUOTA_OBJECTS), 4);
	cr_assert_eq(users, 2);
	cr_assert_eq(sum_of(QUOTA_HANDLES), 0);
	cr_assert_eq(users, 0);
	of.unkeep(of.ctx, 0);
	for (int i = 0; i < 3; i++)
		of.unkeep(of.ctx, 1000);
	cr_assert_eq(sum_of(QUOTA_OBJECTS), 0);
	cr_assert_eq(users, 0);
}

static void *come_and_go(void *arg)
{
	struct quota_user *user;
	for (int i = 0; i < 5000; i++) {
		uint64_t charged = 0;
		if (quota_enter(quota, 1000 + (i & 1), QUOTA_HANDLES, &user))
			continue;
		if (quota_charge(user, QUOTA_PART_BYTES, &charged, 60) == 0)
			quota_charge(user, QUOTA_PART_BYTES, &charged, 0);
		quota_leave(user, QUOTA_HANDLES);
	}
	return arg;
}

/* Threads that come and go at a limit leave nothing behind. */
Test(quota, threads)
{
	pthread_t threads[4];
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, come_and_go, NULL);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(sum_of(QUOTA_HANDLES), 0);
	cr_assert_eq(users, 0);
}
