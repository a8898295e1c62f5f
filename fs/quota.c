#define HASH_NONFATAL_OOM 1

#include "fs/quota.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <uthash.h>

#include "engine/engine.h"

/* An open fails as one beyond RLIMIT_NOFILE does; everything else as one beyond the quota of a disk. */
const struct quota_row quota_rows[QUOTA_KINDS] = {
	/* a service with a channel for each of a few thousand keys; an open file takes a few KiB, so about 30 MiB */
	[QUOTA_HANDLES] = { "user_handles", 4096, EMFILE, "open files" },
	/* a reader for each of a thousand groups; one that waits takes no thread */
	[QUOTA_PARKED] = { "user_parked", 1024, EDQUOT, "reads that wait" },
	/* sixteen of the longest messages that the default settings take */
	[QUOTA_PART_BYTES] = { "user_part_bytes", 256u << 20, EDQUOT, "bytes that are no message yet" },
	/* each is a file descriptor of the daemon, which needs some for the store; cp and tar write one at a time */
	[QUOTA_PUT_FILES] = { "user_put_files", 128, EDQUOT, "files in put/" },
	/* a thousand at once; each may be a file descriptor of the daemon, and up to 16 KiB of its memory */
	[QUOTA_TX] = { "user_tx", 1024, EDQUOT, "open transactions" },
	/* four of the largest; what is to be settled is in memory, and so is all of one while it is committed */
	[QUOTA_TX_BYTES] = { "user_tx_bytes", 256u << 20, EDQUOT, "bytes staged in transactions" },
	/* a thousand workers with a thousand messages each; each lease is up to 300 bytes of the daemon's memory */
	[QUOTA_UNACKED] = { "user_unacked", 1000000, EDQUOT, "unacknowledged messages" },
	/* sixteen of the longest messages that the default settings take; short ones do not count */
	[QUOTA_READ_BYTES] = { "user_read_bytes", 256u << 20, EDQUOT,
	    "bytes of long messages and texts in open files" },
	/* a transaction a second that nobody removes, for the day it is kept; each takes 2 to 4 KiB of the daemon's memory. What has
	 * ended is forgotten earlier by who needs the room: see struct engine_users */
	[QUOTA_OBJECTS] = { "user_objects", 100000, EDQUOT, "directories and bindings" },
};

struct quota_user {
	uint32_t uid; /* the key */
	struct quota *quota;
	bool unlimited;
	uint64_t entered; /* quota->lock; the user goes when it is 0 */
	_Atomic uint64_t used[QUOTA_KINDS];
	UT_hash_handle hh;
};

struct quota {
	pthread_mutex_t lock; /* users, and entered of each */
	struct quota_user *users;
	uid_t mounter;
	uint64_t limits[QUOTA_KINDS];
	_Atomic uint64_t refused[QUOTA_KINDS];
};

struct quota *quota_new(const uint64_t limits[QUOTA_KINDS], uid_t mounter)
{
	struct quota *quota = calloc(1, sizeof *quota);
	if (!quota)
		return NULL;
	pthread_mutex_init(&quota->lock, NULL);
	quota->mounter = mounter;
	for (int kind = 0; kind < QUOTA_KINDS; kind++)
		quota->limits[kind] = limits[kind];
	return quota;
}

void quota_free(struct quota *quota)
{
	if (!quota)
		return;
#ifdef MQFS_DEBUG
	assert(!quota->users); /* all was given back */
#endif
	struct quota_user *user, *next;
	HASH_ITER (hh, quota->users, user, next) {
		HASH_DEL(quota->users, user);
		free(user);
	}
	pthread_mutex_destroy(&quota->lock);
	free(quota);
}

static int refuse(struct quota *quota, enum quota_kind kind)
{
	quota->refused[kind]++;
	return engine_explain(-quota_rows[kind].err,
	    "the user has as many %s as one may have (mount option %s=%" PRIu64 ")", quota_rows[kind].what,
	    quota_rows[kind].option, quota->limits[kind]);
}

static int add(struct quota_user *user, enum quota_kind kind, uint64_t amount)
{
	uint64_t limit = user->quota->limits[kind];
	uint64_t now = atomic_fetch_add(&user->used[kind], amount) + amount;
	if (limit == 0 || user->unlimited || now <= limit)
		return 0;
	atomic_fetch_sub(&user->used[kind], amount);
	return refuse(user->quota, kind);
}

static void subtract(struct quota_user *user, enum quota_kind kind, uint64_t amount)
{
	uint64_t before = atomic_fetch_sub(&user->used[kind], amount);
	assert(before >= amount);
	(void)before;
}

static bool is_unlimited(const struct quota *quota, uid_t uid)
{
	return uid == 0 || uid == quota->mounter;
}

static struct quota_user *new_user_locked(struct quota *quota, uid_t uid)
{
	struct quota_user *user = calloc(1, sizeof *user);
	if (!user)
		return NULL;
	user->uid = uid;
	user->quota = quota;
	user->unlimited = is_unlimited(quota, uid);
	HASH_ADD(hh, quota->users, uid, sizeof user->uid, user);
	if (!user->hh.tbl) {
		free(user);
		return NULL;
	}
	return user;
}

static void free_if_gone_locked(struct quota_user *user)
{
	if (user->entered > 0)
		return;
#ifdef MQFS_DEBUG
	for (int kind = 0; kind < QUOTA_KINDS; kind++)
		assert(user->used[kind] == 0);
#endif
	HASH_DEL(user->quota->users, user);
	free(user);
}

static struct quota_user *find_locked(struct quota *quota, uid_t uid)
{
	uint32_t key = uid;
	struct quota_user *user;
	HASH_FIND(hh, quota->users, &key, sizeof key, user);
	return user;
}

int quota_enter(struct quota *quota, uid_t uid, enum quota_kind kind, struct quota_user **ret_user)
{
	pthread_mutex_lock(&quota->lock);
	struct quota_user *user = find_locked(quota, uid);
	if (!user)
		user = new_user_locked(quota, uid);
	int err = user ? add(user, kind, 1) : -ENOMEM;
	if (!err) {
		user->entered++;
		*ret_user = user;
	} else if (user) {
		free_if_gone_locked(user);
	}
	pthread_mutex_unlock(&quota->lock);
	return err;
}

void quota_leave(struct quota_user *user, enum quota_kind kind)
{
	if (!user)
		return;
	struct quota *quota = user->quota;
	pthread_mutex_lock(&quota->lock);
	subtract(user, kind, 1);
	user->entered--;
	free_if_gone_locked(user);
	pthread_mutex_unlock(&quota->lock);
}

int quota_look(struct quota *quota, uid_t uid, enum quota_kind kind)
{
	int err = 0;
	pthread_mutex_lock(&quota->lock);
	struct quota_user *user = find_locked(quota, uid);
	if (user && !user->unlimited && quota->limits[kind] > 0 && user->used[kind] >= quota->limits[kind])
		err = refuse(quota, kind);
	pthread_mutex_unlock(&quota->lock);
	return err;
}

int quota_charge(struct quota_user *user, enum quota_kind kind, uint64_t *charged, uint64_t amount)
{
	int err = 0;
	if (amount < *charged)
		subtract(user, kind, *charged - amount);
	else if (amount > *charged)
		err = add(user, kind, amount - *charged);
	if (!err)
		*charged = amount;
	return err;
}

int quota_room(struct quota_user *user, enum quota_kind kind, uint64_t charged)
{
	uint64_t limit = user->quota->limits[kind];
	if (limit == 0 || user->unlimited || user->used[kind] - charged < limit)
		return 0;
	return refuse(user->quota, kind);
}

void quota_hold(struct quota_user *user, enum quota_kind kind, uint64_t *charged, uint64_t amount)
{
	if (amount < *charged)
		subtract(user, kind, *charged - amount);
	else
		atomic_fetch_add(&user->used[kind], amount - *charged);
	*charged = amount;
}

void quota_each(struct quota *quota, enum quota_kind kind, void (*each)(void *ctx, uid_t uid, uint64_t used), void *ctx)
{
	struct quota_user *user, *next;
	pthread_mutex_lock(&quota->lock);
	HASH_ITER (hh, quota->users, user, next)
		if (user->entered > user->used[QUOTA_OBJECTS] || kind == QUOTA_OBJECTS)
			each(ctx, user->uid, user->used[kind]);
	pthread_mutex_unlock(&quota->lock);
}

/* ---- for the engine ---- */

static int enter_tx(void *ctx, uint32_t uid, void **ret_user)
{
	struct quota_user *user = NULL;
	int err = quota_enter(ctx, uid, QUOTA_TX, &user);
	if (!err)
		*ret_user = user;
	return err;
}

static int charge_tx(void *user, uint64_t *charged, uint64_t bytes)
{
	return quota_charge(user, QUOTA_TX_BYTES, charged, bytes);
}

static void leave_tx(void *user)
{
	quota_leave(user, QUOTA_TX);
}

/* Leases come and go many at a time, and outlive the file they were read from: each is entered. */
static int64_t lease(void *ctx, uint32_t uid, uint32_t count)
{
	struct quota *quota = ctx;
	uint64_t limit = quota->limits[QUOTA_UNACKED];
	int64_t granted = count;
	pthread_mutex_lock(&quota->lock);
	struct quota_user *user = find_locked(quota, uid);
	if (!user)
		user = new_user_locked(quota, uid);
	uint64_t used = user ? user->used[QUOTA_UNACKED] : 0;
	if (!user)
		granted = -ENOMEM;
	else if (limit > 0 && !user->unlimited && used >= limit)
		granted = refuse(quota, QUOTA_UNACKED);
	else if (limit > 0 && !user->unlimited && count > limit - used)
		granted = (int64_t)(limit - used);
	if (granted > 0) {
		user->used[QUOTA_UNACKED] += (uint64_t)granted;
		user->entered += (uint64_t)granted;
	}
	pthread_mutex_unlock(&quota->lock);
	return granted;
}

static void unlease(void *ctx, uint32_t uid, uint32_t count)
{
	struct quota *quota = ctx;
	pthread_mutex_lock(&quota->lock);
	struct quota_user *user = find_locked(quota, uid);
	assert(user && user->entered >= count);
	subtract(user, QUOTA_UNACKED, count);
	user->entered -= count;
	free_if_gone_locked(user);
	pthread_mutex_unlock(&quota->lock);
}

static int keep(void *ctx, uint32_t uid, enum engine_keep how)
{
	struct quota *quota = ctx;
	struct quota_user *user = NULL;
	int err = 0;
	if (how == ENGINE_KEEP_ANEW)
		return quota_enter(quota, uid, QUOTA_OBJECTS, &user);
	uint64_t limit = quota->limits[QUOTA_OBJECTS];
	pthread_mutex_lock(&quota->lock);
	user = find_locked(quota, uid);
	if (!user)
		user = new_user_locked(quota, uid);
	if (user && how == ENGINE_KEEP_IF_ROOM && limit > 0 && !user->unlimited && user->used[QUOTA_OBJECTS] >= limit) {
		err = -EDQUOT;
	} else if (user) {
		user->used[QUOTA_OBJECTS]++;
		user->entered++;
	} else {
		err = -ENOMEM;
	}
	pthread_mutex_unlock(&quota->lock);
	return err;
}

static void unkeep(void *ctx, uint32_t uid)
{
	struct quota *quota = ctx;
	pthread_mutex_lock(&quota->lock);
	struct quota_user *user = find_locked(quota, uid);
	assert(user && user->entered > 0);
	subtract(user, QUOTA_OBJECTS, 1);
	user->entered--;
	free_if_gone_locked(user);
	pthread_mutex_unlock(&quota->lock);
}

static bool unlimited(void *ctx, uint32_t uid)
{
	const struct quota *quota = ctx;
	return is_unlimited(quota, uid);
}

struct engine_users quota_of_engine(struct quota *quota)
{
	return (struct engine_users){ .ctx = quota,
		.enter = enter_tx,
		.charge = charge_tx,
		.leave = leave_tx,
		.lease = lease,
		.unlease = unlease,
		.keep = keep,
		.unkeep = unkeep,
		.unlimited = unlimited };
}

uint64_t quota_refused(struct quota *quota, enum quota_kind kind)
{
	return quota->refused[kind];
}
