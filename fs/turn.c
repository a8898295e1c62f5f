#include "fs/turn.h"

#include "engine/engine.h"
#include "fs/awake.h"

#define TICK_MS 1
#define IDLE_TICKS 20 /* without a request, until the watchman sleeps */

/* ---- the watchman ---- */

static void give_up(struct turn *turn)
{
	turn->taken = false;
	pthread_cond_signal(&turn->free);
}

/* Who executes what it was a tick ago loses the turn. */
static void take_away(struct turn *turn, uint64_t word)
{
	pthread_mutex_lock(&turn->lock);
	if (atomic_compare_exchange_strong(&turn->word, &word, word + 1))
		give_up(turn);
	pthread_mutex_unlock(&turn->lock);
}

/* True: until there is a request again. What began before it was seen that nobody watches is seen here. */
static bool may_sleep(struct turn *turn, uint64_t word)
{
	atomic_store(&turn->watched, false);
	if (atomic_load(&turn->word) == word) {
		awake_rest(turn->awake);
		return true;
	}
	atomic_store(&turn->watched, true);
	return false;
}

static bool sleep_until_watched(struct turn *turn)
{
	pthread_mutex_lock(&turn->lock);
	while (!turn->ended && !atomic_load(&turn->watched))
		pthread_cond_wait(&turn->watch, &turn->lock);
	bool ended = turn->ended;
	pthread_mutex_unlock(&turn->lock);
	return !ended;
}

static void *watch(void *arg)
{
	struct turn *turn = arg;
	while (sleep_until_watched(turn)) {
		uint64_t seen = atomic_load(&turn->word);
		int idle = 0;
		do {
			clock_sleep(TICK_MS);
			uint64_t word = atomic_load(&turn->word);
			bool some = awake_tick(turn->awake);
			idle = word == seen && !some ? idle + 1 : 0;
			if (word == seen && word % 2 == 1)
				take_away(turn, word);
			seen = word;
		} while (idle < IDLE_TICKS || !may_sleep(turn, seen));
	}
	return NULL;
}

/* ---- those who read ---- */

void turn_watch(struct turn *turn)
{
	if (atomic_load(&turn->watched))
		return;
	pthread_mutex_lock(&turn->lock);
	atomic_store(&turn->watched, true);
	pthread_cond_signal(&turn->watch);
	pthread_mutex_unlock(&turn->lock);
}

void turn_take(struct turn *turn)
{
	pthread_mutex_lock(&turn->lock);
	while (turn->taken)
		pthread_cond_wait(&turn->free, &turn->lock);
	turn->taken = true;
	pthread_mutex_unlock(&turn->lock);
}

void turn_pass(struct turn *turn)
{
	turn_watch(turn);
	pthread_mutex_lock(&turn->lock);
	give_up(turn);
	pthread_mutex_unlock(&turn->lock);
}

uint64_t turn_begin(struct turn *turn)
{
	uint64_t begun = atomic_load_explicit(&turn->word, memory_order_relaxed) + 1;
	atomic_store(&turn->word, begun);
	turn_watch(turn);
	return begun;
}

bool turn_end(struct turn *turn, uint64_t begun)
{
	return atomic_compare_exchange_strong(&turn->word, &begun, begun + 1);
}

/* ---- life ---- */

int turn_init(struct turn *turn, struct awake *awake)
{
	*turn = (struct turn){ .lock = PTHREAD_MUTEX_INITIALIZER,
		.free = PTHREAD_COND_INITIALIZER,
		.watch = PTHREAD_COND_INITIALIZER,
		.awake = awake };
	int err = -pthread_create(&turn->watchman, NULL, watch, turn);
	turn->has_watchman = !err;
	return err;
}

void turn_destroy(struct turn *turn)
{
	if (!turn->has_watchman)
		return;
	pthread_mutex_lock(&turn->lock);
	turn->ended = true;
	pthread_cond_signal(&turn->watch);
	pthread_mutex_unlock(&turn->lock);
	pthread_join(turn->watchman, NULL);
	turn->has_watchman = false;
}
