/*
 * plog_trim - the front of a log goes: purge and retention.
 *
 * First the file `start` says where the log begins from now on; once that is durable the messages are gone, whatever happens
 * next. Then the segments wholly below leave the list, and then their files, without holding anybody up: an unlink of a
 * large file takes a disk a while. What a crash leaves of them is removed at the next opening, since `start` is beyond it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/failpoint.h"
#include "engine/io.h"
#include "engine/plog_internal.h"

void plog_unlink_segment(const struct plog *plog, int dirfd, uint64_t base)
{
	int rc = segment_unlink(base, dirfd);

	if (rc)
		plog_notify(plog, -rc, "segment %020" PRIu64 ", which is no longer used, cannot be removed: %s", base,
		    strerror(-rc));
}

static int write_start(const struct plog *plog, int dirfd, uint64_t offset, uint64_t pos)
{
	struct index_start start = { .log_id = plog->options.id, .offset = offset, .pos = pos };
	uint8_t bytes[INDEX_SLOT];

	memcpy(start.uuid, plog->options.store_uuid, sizeof(start.uuid));
	index_put_start(bytes, &start);
	return io_write_file(dirfd, PLOG_START_NAME, bytes, sizeof(bytes));
}

/* What a trim takes away: the first n segments. */
struct front {
	size_t n;
	uint64_t *bases;
	bool boundary; /* the log begins where a segment does */
};

/* Nobody else takes segments out meanwhile, and new ones come at the end: it stays true. trim_mutex. */
static int find_below(struct plog *plog, uint64_t offset, struct front *ret_front)
{
	struct front front = { 0 };

	pthread_mutex_lock(&plog->mutex);
	front.bases = malloc(plog->count * sizeof(*front.bases));
	while (front.bases && front.n + 1 < plog->count && plog->segments[front.n + 1]->base <= offset) {
		front.bases[front.n] = plog->segments[front.n]->base;
		front.n++;
	}
	front.boundary = plog->segments[front.n]->base == offset;
	pthread_mutex_unlock(&plog->mutex);
	if (!front.bases)
		return -ENOMEM;
	*ret_front = front;
	return 0;
}

static void advance(struct plog *plog, uint64_t offset, uint64_t pos, size_t n)
{
	pthread_mutex_lock(&plog->mutex);
	plog->start_offset = offset;
	plog->start_pos = pos;
	if (plog->synced < offset)
		plog->synced = offset;
	plog_detach(plog, n);
	pthread_mutex_unlock(&plog->mutex);
}

/* Makes the log begin at offset, which is at pos. trim_mutex. */
static int begin_at(struct plog *plog, uint64_t offset, uint64_t pos)
{
	struct front front;
	int rc, dirfd = plog_open_dir(&plog->options);

	if (dirfd < 0)
		return dirfd;
	rc = plog_save_ids(plog, dirfd, offset);
	if (!rc)
		rc = find_below(plog, offset, &front);
	if (rc)
		goto out;
	rc = FAILPOINT("trim_before_start");
	if (!rc)
		rc = write_start(plog, dirfd, offset, pos);
	CRASHPOINT("trim_after_start");
	if (rc == -ENOSPC && front.boundary)
		rc = 0; /* a full disk must not keep what fills it; the files' names say it too */
	if (!rc) {
		advance(plog, offset, pos, front.n);
		for (size_t i = 0; i < front.n; i++)
			plog_unlink_segment(plog, dirfd, front.bases[i]);
		CRASHPOINT("trim_after_unlink");
		rc = front.n > 0 ? io->fsync(dirfd) : 0;
	}
	free(front.bases);
out:
	close(dirfd);
	return rc;
}

/* Replaces an active segment that ends at offset and is not empty. */
static int roll_at(struct plog *plog, uint64_t offset)
{
	int rc = 0;

	pthread_mutex_lock(&plog->mutex);
	if (offset == plog->end_offset && plog_active(plog)->base < offset)
		rc = plog_roll(plog, offset, plog_end_pos(plog));
	pthread_mutex_unlock(&plog->mutex);
	return rc;
}

static int trim(struct plog *plog, uint64_t before)
{
	uint64_t pos = 0;
	int rc = plog_position(plog, before, &pos);

	if (!rc)
		rc = roll_at(plog, before);
	return rc ? rc : begin_at(plog, before, pos);
}

static int error_of_trim(int rc)
{
	if (rc == -EDQUOT)
		return -ENOSPC;
	return io_is_damage(rc) ? -EIO : rc;
}

int plog_trim(struct plog *plog, uint64_t before)
{
	uint64_t start, end;
	bool closed;
	int rc = 0;

	pthread_mutex_lock(&plog->trim_mutex);
	pthread_mutex_lock(&plog->mutex);
	start = plog->start_offset;
	end = plog->end_offset;
	closed = plog->failed || plog->options.read_only;
	pthread_mutex_unlock(&plog->mutex);
	if (closed)
		rc = -EROFS;
	else if (before > end)
		rc = -ERANGE;
	else if (before > start)
		rc = error_of_trim(trim(plog, before));
	pthread_mutex_unlock(&plog->trim_mutex);
	return rc;
}

struct retention {
	int64_t ms, bytes, now_ms;
	uint64_t end_pos, limit;
};

static bool is_old(const struct retention *r, int64_t last_ms)
{
	return r->ms >= 0 && r->now_ms >= r->ms && last_ms <= r->now_ms - r->ms;
}

/* Whether segment i, which is at the front, may go. mutex. */
static int may_go(struct plog *plog, size_t i, const struct retention *r, bool *ret_go)
{
	int64_t last_ms = 0;
	int rc = 0;

	*ret_go = false;
	if (plog_segment_end(plog, i) > r->limit)
		return 0;
	if (plog_segment_end(plog, i) > plog->segments[i]->base) {
		rc = plog_last_ms(plog, i, &last_ms);
		if (rc)
			return rc;
		*ret_go = is_old(r, last_ms);
	}
	if (!*ret_go && r->bytes >= 0 && i + 1 < plog->count) {
		rc = plog_load(plog, i + 1, NULL);
		*ret_go = !rc && r->end_pos - plog->segments[i + 1]->base_pos >= (uint64_t)r->bytes;
	}
	return rc;
}

/* Finds where the log should begin; rolls if the active segment is to go too. mutex. */
static int find_front(struct plog *plog, const struct retention *r, uint64_t *ret_offset, uint64_t *ret_pos)
{
	size_t n = 0;
	bool go;
	int rc;

	for (; n < plog->count; n++) {
		rc = may_go(plog, n, r, &go);
		if (rc)
			return rc;
		if (!go)
			break;
	}
	if (n == plog->count) {
		rc = plog_roll(plog, plog->end_offset, plog_end_pos(plog));
		if (rc && --n == 0) /* those before it can go all the same */
			return rc;
	}
	rc = n > 0 ? plog_load(plog, n, NULL) : 0;
	if (rc)
		return rc;
	*ret_offset = n > 0 ? plog->segments[n]->base : plog->start_offset;
	*ret_pos = n > 0 ? plog->segments[n]->base_pos : plog->start_pos;
	return 0;
}

/* When time retention has to look again: when the last message of the first segment gets too old. mutex. */
static int64_t next_time(struct plog *plog, const struct retention *r)
{
	int64_t last_ms;

	if (plog_last_ms(plog, 0, &last_ms))
		return r->now_ms; /* soon */
	if (r->ms < 0 || plog->end_offset == plog->start_offset || last_ms > INT64_MAX - r->ms)
		return INT64_MAX;
	return last_ms + r->ms;
}

static int retain(struct plog *plog, struct retention *r, int64_t *ret_next_ms)
{
	uint64_t offset = 0, pos = 0, start;
	int rc;

	pthread_mutex_lock(&plog->mutex);
	r->end_pos = plog_end_pos(plog);
	start = plog->start_offset;
	rc = plog->failed || plog->options.read_only ? -EROFS : find_front(plog, r, &offset, &pos);
	pthread_mutex_unlock(&plog->mutex);
	if (!rc && offset > start)
		rc = begin_at(plog, offset, pos);
	if (rc)
		return rc;
	pthread_mutex_lock(&plog->mutex);
	*ret_next_ms = next_time(plog, r);
	pthread_mutex_unlock(&plog->mutex);
	return 0;
}

int plog_retain(struct plog *plog, int64_t retention_ms, int64_t retention_bytes, int64_t now_ms, uint64_t limit,
    int64_t *ret_next_ms)
{
	struct retention r = { .ms = retention_ms, .bytes = retention_bytes, .now_ms = now_ms, .limit = limit };
	int rc;

	pthread_mutex_lock(&plog->trim_mutex);
	rc = error_of_trim(retain(plog, &r, ret_next_ms));
	pthread_mutex_unlock(&plog->trim_mutex);
	return rc;
}
