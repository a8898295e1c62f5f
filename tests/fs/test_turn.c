#include "fs/turn.h"

#include "fs/awake.h"

#include <criterion/criterion.h>
#include <semaphore.h>

static struct turn turn;
static struct awake awake = { .fd = -1 };
static sem_t begun, go_on;
static uint64_t order;

static void setup(void)
{
	cr_assert_eq(turn_init(&turn, &awake), 0);
	sem_init(&begun, 0, 0);
	sem_init(&go_on, 0, 0);
}

static void teardown(void)
{
	turn_destroy(&turn);
}

TestSuite(turn, .init = setup, .fini = teardown);

/* Takes as long as the test wants. Returns whether the turn was kept. */
static void *be_slow(void *arg)
{
	(void)arg;
	turn_take(&turn);
	uint64_t word = turn_begin(&turn);
	sem_post(&begun);
	while (sem_wait(&go_on)) {
	}
	return turn_end(&turn, word) ? &turn : NULL;
}

Test(turn, who_is_slow_loses_it)
{
	pthread_t thread;
	void *kept;
	for (int i = 0; i < 3; i++) { /* the watchman wakes again for the second and third */
		cr_assert_eq(pthread_create(&thread, NULL, be_slow, NULL), 0);
		while (sem_wait(&begun)) {
		}
		turn_take(&turn); /* comes back only if it is taken away from the other */
		cr_assert(turn_end(&turn, turn_begin(&turn)));
		sem_post(&go_on);
		pthread_join(thread, &kept);
		cr_assert_null(kept);
		turn_pass(&turn);
	}
}

Test(turn, what_is_executed_without_begin_is_never_interrupted)
{
	pthread_t thread;
	turn_take(&turn);
	uint64_t word = turn_begin(&turn);
	cr_assert(turn_end(&turn, word));
	cr_assert_eq(pthread_create(&thread, NULL, be_slow, NULL), 0);
	struct timespec limit;
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_nsec += 50000000;
	limit.tv_sec += limit.tv_nsec / 1000000000;
	limit.tv_nsec %= 1000000000;
	cr_assert_neq(sem_timedwait(&begun, &limit), 0, "it was taken away from who did not say that it may be");
	turn_pass(&turn);
	while (sem_wait(&begun)) {
	}
	sem_post(&go_on);
	pthread_join(thread, NULL);
}

#define THREADS 4
#define ROUNDS 20000

static void *take_turns(void *arg)
{
	(void)arg;
	bool has_turn = false;
	for (int i = 0; i < ROUNDS; i++) {
		if (!has_turn)
			turn_take(&turn);
		order++; /* only by who has the turn: the sum shows it */
		uint64_t word = turn_begin(&turn);
		has_turn = turn_end(&turn, word);
		if (has_turn && i % 3 == 0) {
			turn_pass(&turn);
			has_turn = false;
		}
	}
	if (has_turn)
		turn_pass(&turn);
	return NULL;
}

Test(turn, one_at_a_time)
{
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, take_turns, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	cr_assert_eq(order, (uint64_t)THREADS * ROUNDS);
}
