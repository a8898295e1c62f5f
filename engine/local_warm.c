/*
 * local_warm - descriptors of logs: kept for those that are used, as many as the process can afford.
 *
 * A log that was used may have files open: it is warm, and in a list. Every LOCAL_IDLE_MS those that were not used since the
 * last time give their files back and leave it. If there are more files than there may be, some log has to go at once: one
 * taken at random, unless it was used since it was last looked at. Not the one that was used longest ago: who writes to more
 * logs than there is room for, in turn, would then find every one of them closed, and this way most of them open.
 *
 * Other files take descriptors too: staging files, which may have half, files in put/, transactions. A new descriptor is the lowest that is
 * free, so its number tells how many there are at least. When that comes near the limit, logs give way (16 of them) and staging files are not
 * made. And if a descriptor could not be had after all, warm_again() closes logs, and the call is tried once more.
 *
 * What is not synced is noted in the journal before its files are closed, since an error of writing it back could be lost with them.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "engine/clock.h"
#include "engine/local_internal.h"
#include "engine/segment.h"

#define VICTIMS 16u      /* logs that are closed at a time */
#define LOOKS 8u         /* at logs that were used, before one of these goes */
#define FILES_PER_LOG 2u /* of most: data and index of the active segment */
#define OTHERS_SHARE 12u /* of the descriptors, and a few more, are for files in put/ and the like */
#define FILES_RESERVED 64u
#define FILES_MIN 32u
#define FILES_MAX (8u * 24576) /* as if all logs of twice the topics that we design for were read */
#define SPARE 64u /* descriptors, or a quarter of a few: with less than these left, logs give way to whatever it is */
#define SPARE_SHARE 4u
#define SQUEEZES 4u /* rounds of VICTIMS at a time when there is no descriptor left */
#define TRIES 3u    /* of a call that found none */

/* As many descriptors as the process may have: of these, all but some are for logs, as long as staging files do not take them. */
static size_t raise_files(int *ret_ceiling)
{
	struct rlimit limit;
	rlim_t others;

	*ret_ceiling = INT_MAX;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return FILES_MIN;
	if (limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit); /* if not, what was there has to do */
		getrlimit(RLIMIT_NOFILE, &limit);
	}
	others = limit.rlim_cur / SPARE_SHARE < SPARE ? limit.rlim_cur / SPARE_SHARE : SPARE;
	if (limit.rlim_cur < INT_MAX)
		*ret_ceiling = (int)(limit.rlim_cur - others);
	if (limit.rlim_cur > FILES_MAX)
		return FILES_MAX;
	others = limit.rlim_cur / OTHERS_SHARE + FILES_RESERVED;
	return limit.rlim_cur < others + FILES_MIN ? FILES_MIN : (size_t)(limit.rlim_cur - others);
}

void warm_start(struct local *local)
{
	pthread_mutex_init(&local->warm.lock, NULL);
	local->warm.files = raise_files(&local->warm.ceiling);
	local->warm.random = (uint64_t)clock_mono_ms() | 1;
}

size_t warm_share(const struct local *local)
{
	return local->warm.files - FILES_MIN;
}

bool warm_lend(struct local *local, int fd)
{
	if (fd >= local->warm.ceiling)
		return false;
	atomic_fetch_add(&local->warm.lent, 1);
	return true;
}

void warm_take_back(struct local *local)
{
	atomic_fetch_sub(&local->warm.lent, 1);
}

static size_t most_files(const struct local *local)
{
	size_t lent = atomic_load_explicit(&local->warm.lent, memory_order_relaxed);

	return local->warm.files > lent + FILES_MIN ? local->warm.files - lent : FILES_MIN;
}

void warm_stop(struct local *local)
{
	free(local->warm.list);
	pthread_mutex_destroy(&local->warm.lock);
}

/* ---- the list; all with warm.lock ---- */

#ifdef MQFS_DEBUG
#include <assert.h>

static void check_list(const struct local *local)
{
	assert(local->warm.count <= local->warm.room);
	for (size_t i = 0; i < local->warm.count; i++)
		assert(local->warm.list[i]->warm && local->warm.list[i]->place == i);
}
#else
static void check_list(const struct local *local)
{
	(void)local;
}
#endif

/* Without memory for it the log stays out of the list, and comes in when it is used again. */
static void enter(struct local *local, struct warm *warm)
{
	size_t room = local->warm.room > 0 ? local->warm.room * 2 : 64;
	struct warm **list;

	if (local->warm.count == local->warm.room) {
		list = realloc(local->warm.list, room * sizeof(struct warm *));
		if (list == NULL)
			return;
		local->warm.list = list;
		local->warm.room = room;
	}
	warm->place = local->warm.count;
	local->warm.list[local->warm.count++] = warm;
	atomic_store(&warm->warm, true);
	check_list(local);
}

static void leave(struct local *local, struct warm *warm)
{
	struct warm *last = local->warm.list[--local->warm.count];

	local->warm.list[warm->place] = last;
	last->place = warm->place;
	atomic_store(&warm->warm, false);
	check_list(local);
}

/* Takes it out of the list, with a reference to its object; not if that is going away just now. */
static bool take_out(struct local *local, struct warm *warm)
{
	if (!object_try_ref(warm->object))
		return false;
	leave(local, warm);
	return true;
}

/* xorshift64 */
static size_t any_place(struct local *local)
{
	uint64_t x = local->warm.random;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	local->warm.random = x;
	return (size_t)(x % local->warm.count);
}

/* Not `but`, which is about to be used. */
static bool take_any(struct local *local, const struct warm *but, struct warm **ret_victim)
{
	for (unsigned int i = 0; i <= LOOKS && local->warm.count > 0; i++) {
		struct warm *warm = local->warm.list[any_place(local)];

		if (warm == but || (atomic_exchange(&warm->used, false) && i < LOOKS) || !take_out(local, warm))
			continue;
		*ret_victim = warm;
		return true;
	}
	return false;
}

/* Are there more than there may be, or few descriptors left? */
static bool are_too_many(struct local *local)
{
	return segment_files_open() > most_files(local) || segment_last_fd() >= local->warm.ceiling;
}

/* As many as are too many. */
static size_t take_surplus(struct local *local, const struct warm *but, struct warm *ret_victims[VICTIMS])
{
	size_t files = segment_files_open(), most = most_files(local), count = 0, surplus;

	surplus = files > most ? (files - most + FILES_PER_LOG - 1) / FILES_PER_LOG : 0;
	if (segment_last_fd() >= local->warm.ceiling)
		surplus = VICTIMS;
	while (count < surplus && count < VICTIMS && take_any(local, but, &ret_victims[count]))
		count++;
	return count;
}

/* Those at *i and before that were not used. *i: where to go on, and 0 at the end. */
static size_t take_idle(struct local *local, size_t *i, struct warm *ret_victims[VICTIMS])
{
	size_t count = 0;

	if (*i > local->warm.count)
		*i = local->warm.count;
	for (; *i > 0 && count < VICTIMS; --*i) {
		struct warm *warm = local->warm.list[*i - 1];

		if (!atomic_exchange(&warm->used, false) && take_out(local, warm))
			ret_victims[count++] = warm;
	}
	return count;
}

/* ---- closing ---- */

/*
 * What is not on disk yet is noted in the journal first: the checkpoint that drops the note syncs it. (An error of the disk in
 * between is told to that, or to whoever opens and syncs the file next.) What is too much for that is synced now.
 */
static _Thread_local bool releasing; /* by this thread, which is not to begin with it again */

static void release_files(struct local *local, struct warm *const *victims, size_t count)
{
	uint8_t *record = NULL;

	releasing = true;
	for (size_t i = 0; i < count; i++) {
		struct plog *plog = atomic_load(victims[i]->plog);
		struct plog_tail to;

		if (plog != NULL && !plog_release_files(plog)) {
			if (record == NULL)
				record = malloc(NOTE_MAX);
			if (record == NULL || note_log(local, victims[i]->sync, record, &to) < 0)
				victims[i]->sync->run(victims[i]->sync); /* tells if it fails */
			plog_release_files(plog);
		}
		object_put(victims[i]->object);
	}
	free(record);
	releasing = false;
}

/* Closes some logs, whatever there may be. False: there is none that could be. */
static bool squeeze(struct local *local)
{
	struct warm *victims[VICTIMS];
	size_t before = segment_files_open(), count = VICTIMS;

	for (unsigned int i = 0; i < SQUEEZES && count > 0 && segment_files_open() + VICTIMS > before; i++) {
		pthread_mutex_lock(&local->warm.lock);
		for (count = 0; count < VICTIMS && take_any(local, NULL, &victims[count]);)
			count++;
		pthread_mutex_unlock(&local->warm.lock);
		release_files(local, victims, count);
	}
	return segment_files_open() < before;
}

bool warm_again(struct local *local, int rc, unsigned int *tries)
{
	if ((rc != -EMFILE && rc != -ENFILE) || releasing || ++*tries > TRIES || !squeeze(local))
		return false;
	engine_reason_clear();
	return true;
}

bool local_give_files(struct engine *engine)
{
	return squeeze((struct local *)engine);
}

void warm_init(struct warm *warm, struct sync_point *sync, struct plog *_Atomic *plog)
{
	warm->sync = sync;
	sync->warm = warm;
	warm->object = sync->object;
	warm->plog = plog;
}

void warm_touch(struct warm *warm)
{
	struct local *local = local_of(warm->object);
	struct warm *victims[VICTIMS];
	size_t count = 0;
	bool first = false;

	if (!atomic_load_explicit(&warm->used, memory_order_relaxed))
		atomic_store_explicit(&warm->used, true, memory_order_relaxed);
	if (releasing || (atomic_load_explicit(&warm->warm, memory_order_relaxed) && !are_too_many(local)))
		return;
	pthread_mutex_lock(&local->warm.lock);
	if (!atomic_load(&warm->warm)) {
		first = local->warm.count == 0;
		enter(local, warm);
	}
	count = take_surplus(local, warm, victims);
	pthread_mutex_unlock(&local->warm.lock);
	release_files(local, victims, count);
	if (first)
		timer_set_earlier(local, &local->idle_timer, clock_mono_ms() + LOCAL_IDLE_MS);
}

void warm_cool(struct warm *warm)
{
	struct local *local = local_of(warm->object);

	pthread_mutex_lock(&local->warm.lock);
	if (atomic_load(&warm->warm))
		leave(local, warm);
	pthread_mutex_unlock(&local->warm.lock);
}

void warm_idle_fire(struct timer *timer)
{
	struct local *local = (struct local *)((char *)timer - offsetof(struct local, idle_timer));
	struct warm *victims[VICTIMS];
	size_t i = SIZE_MAX, count;
	bool more;

	do {
		pthread_mutex_lock(&local->warm.lock);
		count = take_idle(local, &i, victims);
		more = local->warm.count > 0;
		pthread_mutex_unlock(&local->warm.lock);
		release_files(local, victims, count);
	} while (i > 0);
	if (more)
		timer_set_earlier(local, timer, clock_mono_ms() + LOCAL_IDLE_MS);
}
