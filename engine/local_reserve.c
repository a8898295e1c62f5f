/*
 * local_reserve - room on the disk for what must work when it is full: acks, seeks, deletes, retention, settings.
 *
 * On a full disk all of these need a little room before they can give any back: a purge begins a segment and writes
 * `start`, an ack may be the one for which the journal grows, LMDB writes pages anew. So the file STORE/reserve holds
 * LIMIT_RESERVE bytes of really allocated space. An operation that meets ENOSPC has the file cut to nothing, and is
 * tried once more; a sync after the cut makes the file system free the blocks now, not at some later commit of its own.
 *
 * Messages must not take that room. So as long as the reserve is not whole, producing, new objects and new partitions
 * are refused with ENOSPC; and the room is given back only when no write of messages is going on: those hold `lock` for
 * reading, the loan takes it for writing. While an operation is being tried once more, nobody makes the reserve again,
 * or a busy producer would take away what was just given.
 *
 * It is made again when there is room for all of it: whoever is refused tries first, so that producing goes on at once
 * when space comes back; a timer tries meanwhile, for the sake of what health shows; and the next start does.
 *
 * What it leaves out: other users of the disk, and files that are being written into put/ before they become messages,
 * may take the room too. A file system that cannot allocate has no reserve, and works as if there were none.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/clock.h"
#include "engine/io.h"
#include "engine/limits.h"
#include "engine/local_internal.h"
#include "engine/store_guard.h"

#define RETRY_MS 1000 /* between two tries of the timer: health is right again within a second */
#define BLOCK 4096u

/* ---- making it; lock held for writing, or nobody else is there ---- */

/* LIMIT_RESERVE, but no more than its share of a small file system. */
static uint64_t choose_size(int dirfd)
{
	struct statvfs vfs;
	uint64_t share;

	if (fstatvfs(dirfd, &vfs) < 0 || vfs.f_blocks == 0)
		return LIMIT_RESERVE;
	share = (uint64_t)vfs.f_blocks * vfs.f_frsize / LIMIT_RESERVE_SHARE;
	return share < LIMIT_RESERVE ? share / BLOCK * BLOCK : LIMIT_RESERVE;
}

/* As the one before left it. */
static bool is_whole(const struct reserve *reserve)
{
	struct stat st;

	return fstat(reserve->fd, &st) == 0 && st.st_size >= 0 && (uint64_t)st.st_size >= reserve->bytes &&
	       (uint64_t)st.st_blocks * 512 >= reserve->bytes;
}

/* To ask is cheaper than to try: some file systems allocate what there is before they fail. */
static bool may_have_room(const struct reserve *reserve)
{
	struct statvfs vfs;

	return fstatvfs(reserve->fd, &vfs) < 0 || vfs.f_blocks == 0 ||
	       (uint64_t)vfs.f_bfree * vfs.f_frsize >= reserve->bytes;
}

static int allocate(struct local *local)
{
	struct reserve *reserve = &local->reserve;
	int err;

	if (reserve->fd < 0) {
		err = io->open(local->store.dirfd, STORE_RESERVE_NAME, O_RDWR | O_CREAT | O_NONBLOCK, 0600);
		if (err < 0)
			return err;
		reserve->fd = err;
	}
	if (is_whole(reserve))
		return 0;
	if (!may_have_room(reserve))
		return -ENOSPC;
	err = io->fallocate(reserve->fd, 0, 0, (off_t)reserve->bytes);
	if (err)
		io->ftruncate(reserve->fd, 0); /* what it got of it */
	return err;
}

/* ENOSPC: there is no room for it. */
static int make(struct local *local)
{
	struct reserve *reserve = &local->reserve;
	int err = reserve->users > 0 ? -ENOSPC : allocate(local);

	if (err == -ENOSPC || err == -EDQUOT || err == -EMFILE || err == -ENFILE)
		return -ENOSPC;
	reserve->state = err ? RESERVE_NONE : RESERVE_WHOLE;
	reserve->failure = err == -EOPNOTSUPP || err == -ENOSYS ? 0 : err;
	return 0;
}

/* ---- using it ---- */

/* True: its room is free. lock held for writing */
static bool give_back(struct reserve *reserve)
{
	if (reserve->state == RESERVE_WHOLE) {
		if (io->ftruncate(reserve->fd, 0))
			return false;
		io->fsync(reserve->fd); /* if that fails, so will what is tried once more */
		reserve->state = RESERVE_USED;
	}
	return reserve->state == RESERVE_USED; /* another may have had it given back just now */
}

bool reserve_again(struct local *local, int rc, bool *again)
{
	struct reserve *reserve = &local->reserve;
	bool lent = false;

	if (!*again && rc != -ENOSPC && rc != -EDQUOT)
		return false;
	pthread_rwlock_wrlock(&reserve->lock);
	if (*again)
		reserve->users--;
	else
		lent = give_back(reserve);
	if (lent)
		reserve->users++;
	pthread_rwlock_unlock(&reserve->lock);
	if (!lent)
		return false;
	*again = true;
	engine_reason_clear();
	timer_set_earlier(local, &reserve->timer, clock_mono_ms());
	return true;
}

/* ---- what has to wait for it ---- */

static int make_again(struct local *local)
{
	struct reserve *reserve = &local->reserve;
	int rc;

	pthread_rwlock_wrlock(&reserve->lock);
	rc = reserve->state == RESERVE_USED ? make(local) : 0;
	pthread_rwlock_unlock(&reserve->lock);
	return rc;
}

int reserve_enter(struct local *local)
{
	struct reserve *reserve = &local->reserve;
	int rc;

	for (;;) {
		pthread_rwlock_rdlock(&reserve->lock);
		if (reserve->state != RESERVE_USED)
			return 0;
		pthread_rwlock_unlock(&reserve->lock);
		rc = make_again(local);
		if (rc < 0)
			return engine_explain(rc,
			    "the disk is full: until %" PRIu64
			    " bytes are free, what is left is kept for acks and deletes",
			    reserve->bytes);
	}
}

void reserve_leave(struct local *local)
{
	pthread_rwlock_unlock(&local->reserve.lock);
}

int reserve_check(struct local *local)
{
	int rc = reserve_enter(local);

	if (rc == 0)
		reserve_leave(local);
	return rc;
}

/*
 * Blocks that count as free and that nobody gets, root neither: ext4 keeps a 50th of all for itself, 4096 at most
 * (ext4_calculate_resv_clusters). f_blocks lacks those of its tables and journal, a fifth of a small file system.
 */
static uint64_t held_back(const struct statfs *fs)
{
	uint64_t share = (uint64_t)fs->f_blocks * 3 / 100;

	return fs->f_type != EXT4_SUPER_MAGIC ? 0 : share < 4096 ? share : 4096;
}

bool reserve_leaves(struct local *local, uint64_t bytes, uint64_t files)
{
	struct statfs fs;
	uint64_t blocks, held;

	if (fstatfs(local->store.dirfd, &fs) < 0 || fs.f_blocks == 0)
		return true;
	held = geteuid() == 0 ? held_back(&fs) : 0;
	blocks = geteuid() == 0 ? (uint64_t)fs.f_bfree : (uint64_t)fs.f_bavail;
	if (fs.f_files > 0 && (uint64_t)fs.f_ffree < files)
		return false;
	return blocks > held && (blocks - held) * (uint64_t)fs.f_bsize >= bytes;
}

bool reserve_is_used(struct local *local)
{
	bool used;

	pthread_rwlock_rdlock(&local->reserve.lock);
	used = local->reserve.state == RESERVE_USED;
	pthread_rwlock_unlock(&local->reserve.lock);
	return used;
}

/* ---- what it tells ---- */

static void tell(struct local *local, bool used, int failure)
{
	struct reserve *reserve = &local->reserve;

	if (failure != 0 && !reserve->told_failure)
		local_notify(local, -failure, "no room is kept on the disk for acks and deletes when it is full: %s",
		    strerror(-failure));
	reserve->told_failure = failure != 0;
	if (used && !reserve->told_used)
		local_notify(local, 0,
		    "the disk is full: the reserve is in use, and messages are refused until %" PRIu64
		    " bytes are free",
		    reserve->bytes);
	if (!used && reserve->told_used)
		local_notify(local, 0, "there is room on the disk again, and messages are accepted");
	reserve->told_used = used;
}

static void fire(struct timer *timer)
{
	struct local *local = (struct local *)((char *)timer - offsetof(struct local, reserve.timer));
	struct reserve *reserve = &local->reserve;
	bool used = make_again(local) < 0;
	int failure;

	pthread_rwlock_rdlock(&reserve->lock);
	failure = reserve->failure;
	pthread_rwlock_unlock(&reserve->lock);
	tell(local, used, failure);
	if (!used)
		return;
	timer_set_earlier(local, timer, clock_mono_ms() + RETRY_MS);
	if (atomic_load(&local->checkpoint_set)) /* what was settled since the last gives its room back by it */
		timer_set_earlier(local, &local->checkpoint_timer, clock_mono_ms());
}

/* ---- life ---- */

void reserve_init(struct reserve *reserve)
{
	pthread_rwlockattr_t attr;

	*reserve = (struct reserve){ .fd = -1, .state = RESERVE_NONE };
	pthread_rwlockattr_init(&attr);
	/* An ack is not to wait until all producers happen to pause. */
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&reserve->lock, &attr);
	pthread_rwlockattr_destroy(&attr);
}

void reserve_release(struct reserve *reserve)
{
	assert(reserve->users == 0);
	if (reserve->fd >= 0)
		close(reserve->fd);
	pthread_rwlock_destroy(&reserve->lock);
}

int reserve_open(struct local *local)
{
	struct reserve *reserve = &local->reserve;
	int rc = timer_init(local, &reserve->timer, fire, NULL);

	if (rc < 0 || local->read_only)
		return rc;
	reserve->bytes = choose_size(local->store.dirfd);
	reserve->state = RESERVE_USED;
	if (make(local) < 0 || reserve->failure != 0)
		timer_set(local, &reserve->timer, clock_mono_ms());
	return 0;
}

#define MEMORY_TRIES 50
#define MEMORY_WAIT_MS 10

bool memory_again(int rc, unsigned int *tries)
{
	if (!io_wants_means(rc) || ++*tries > MEMORY_TRIES)
		return false;
	if (*tries > 1)
		clock_sleep(MEMORY_WAIT_MS);
	return true;
}
