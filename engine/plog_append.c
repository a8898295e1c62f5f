/*
 * plog_append - a batch becomes entries of the active segment.
 *
 * What can be worked out without the log's state is, before the mutex is taken: the pieces of at most LIMIT_ENTRY_DATA the
 * batch is divided into, their CRCs and meta records. Under the mutex the plan gets its place and is written: data, meta,
 * entries. A crash between these leaves bytes no entry points to, or, of an append of several pieces, entries whose last
 * one is missing; recovery drops both, and so does plog_repair() after a write that failed.
 *
 * Messages that come one by one within the same millisecond from the same process would each cost an entry. They do not:
 * the last entry is extended in place, as long as no sync has covered it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/crc32c.h"
#include "engine/failpoint.h"
#include "engine/io.h"
#include "engine/meta.h"
#include "engine/plog_internal.h"

/* A divided batch. Offsets and positions in the entries count from the start of the batch. */
struct plan {
	struct index_entry *entries;
	uint8_t *slots; /* room for the same, encoded */
	uint32_t count, room;
	uint8_t *meta;
	uint32_t meta_len;
	struct index_entry one; /* what most batches need */
	uint8_t one_slot[INDEX_SLOT];
};

/* One piece while it is gathered. */
struct piece {
	uint32_t first, count;
	uint32_t pos, length;
	bool newlines; /* within payloads */
};

static void plan_release(struct plan *plan)
{
	if (plan->entries != &plan->one)
		free(plan->entries);
	if (plan->slots != plan->one_slot)
		free(plan->slots);
	free(plan->meta);
}

static int plan_reserve(struct plan *plan)
{
	struct index_entry *entries;
	uint32_t room = plan->room ? plan->room * 2 : 1;

	if (plan->count < plan->room)
		return 0;
	if (room == 1) {
		plan->entries = &plan->one;
	} else {
		entries = realloc(plan->entries == &plan->one ? NULL : plan->entries, room * sizeof(*entries));
		if (!entries)
			return -ENOMEM;
		if (plan->entries == &plan->one)
			entries[0] = plan->one;
		plan->entries = entries;
	}
	plan->room = room;
	return 0;
}

static int plan_meta(
    struct plan *plan, const struct engine_batch *batch, const struct piece *piece, struct index_entry *entry)
{
	uint8_t flags = meta_flags(batch, piece->first, piece->count, piece->newlines), *meta;
	uint64_t size;

	if (!flags)
		return 0;
	size = meta_size(batch, piece->first, piece->count, flags);
	if (plan->meta_len + size > LIMIT_SEGMENT_META)
		return -EMSGSIZE;
	meta = realloc(plan->meta, plan->meta_len + size);
	if (!meta)
		return -ENOMEM;
	plan->meta = meta;
	meta_put(meta + plan->meta_len, (uint32_t)size, batch, piece->first, piece->count, flags, entry->data_crc);
	entry->meta_pos = plan->meta_len;
	entry->meta_len = (uint32_t)size;
	plan->meta_len += (uint32_t)size;
	return 0;
}

static int plan_piece(struct plan *plan, const struct engine_batch *batch, uint64_t first_id, const struct piece *piece)
{
	struct index_entry entry = {
		.base_offset = piece->first,
		.first_id = first_id ? (first_id & ~PLOG_FLAGS) + piece->first : 0,
		.ts_ms = batch->ts_ms,
		.pos = piece->pos,
		.length = piece->length,
		.count = piece->count,
		.cred = batch->cred,
		.flags = INDEX_MORE /* of all but the last */ | (first_id & PLOG_STRAY ? INDEX_STRAY : 0) |
			 (first_id & PLOG_MOVED ? INDEX_MOVED : 0) | (first_id & PLOG_HEAD ? INDEX_HEAD : 0),
	};
	int rc = plan_reserve(plan);

	entry.data_crc = crc32c(0, batch->data + piece->pos, piece->length);
	if (!rc)
		rc = plan_meta(plan, batch, piece, &entry);
	if (rc)
		return rc;
	plan->entries[plan->count++] = entry;
	return 0;
}

/* Length with delimiter of the i-th message, which begins at pos. 0: the batch is not what it says. */
static uint32_t message_size(const struct engine_batch *batch, uint32_t i, uint32_t pos, bool *ret_newline)
{
	const char *p = batch->data + pos, *end;
	size_t left = batch->len - pos;

	if (!batch->lengths) {
		end = left ? memchr(p, '\n', left) : NULL;
		*ret_newline = false;
		return end ? (uint32_t)(end - p) + 1 : 0;
	}
	if (batch->lengths[i] >= left || p[batch->lengths[i]] != '\n')
		return 0;
	*ret_newline = memchr(p, '\n', batch->lengths[i]) != NULL;
	return batch->lengths[i] + 1;
}

static int plan_pieces(struct plan *plan, const struct engine_batch *batch, uint64_t first_id)
{
	struct piece piece = { 0 };
	int rc;

	for (uint32_t i = 0; i < batch->count; i++) {
		bool newline;
		uint32_t size = message_size(batch, i, piece.pos + piece.length, &newline);

		if (size == 0)
			return -EINVAL;
		if (piece.count > 0 && piece.length + size > LIMIT_ENTRY_DATA) {
			rc = plan_piece(plan, batch, first_id, &piece);
			if (rc)
				return rc;
			piece = (struct piece){ .first = i, .pos = piece.pos + piece.length };
		}
		piece.count++;
		piece.length += size;
		piece.newlines |= newline;
	}
	if (piece.pos + piece.length != batch->len)
		return -EINVAL;
	return plan_piece(plan, batch, first_id, &piece);
}

static int plan_make(struct plan *plan, const struct engine_batch *batch, uint64_t first_id)
{
	int rc;

	if (batch->count == 0 || batch->len < batch->count || batch->ts_ms < 0)
		return -EINVAL;
	if (batch->len > LIMIT_SEGMENT_DATA)
		return -EMSGSIZE;
	rc = plan_pieces(plan, batch, first_id);
	if (rc)
		return rc;
	plan->entries[plan->count - 1].flags &= (uint8_t)~INDEX_MORE;
	plan->slots = plan->count == 1 ? plan->one_slot : malloc((size_t)plan->count * INDEX_SLOT);
	return plan->slots ? 0 : -ENOMEM;
}

static bool must_roll(
    const struct plog *plog, const struct engine_batch *batch, const struct plan *plan, uint64_t limit)
{
	const struct segment *active = plog_active(plog);

	if (limit > LIMIT_SEGMENT_DATA)
		limit = LIMIT_SEGMENT_DATA;
	return active->slots > 0 &&
	       (active->data_end + batch->len > limit || active->slots + plan->count > LIMIT_SEGMENT_SLOTS ||
		   (uint64_t)active->meta_end + plan->meta_len > LIMIT_SEGMENT_META);
}

/* Whether the plan can be taken into the last entry. */
static bool may_extend(const struct plog *plog, const struct plan *plan)
{
	const struct index_entry *last = &plog->last, *add = &plan->entries[0];
	const uint8_t alone = INDEX_STRAY | INDEX_MOVED | INDEX_HEAD;

	return plan->count == 1 && last->count > 0 && !((last->flags | add->flags) & alone) &&
	       plog_active(plog)->slots > plog->frozen && last->meta_len == 0 && add->meta_len == 0 &&
	       last->length + add->length <= LIMIT_ENTRY_DATA && last->ts_ms == add->ts_ms &&
	       last->cred.uid == add->cred.uid && last->cred.gid == add->cred.gid && last->cred.pid == add->cred.pid &&
	       add->first_id == (last->first_id ? last->first_id + last->count : 0);
}

/* Writes the plan behind the ends of the active segment, which stay where they are. */
static int write_plan(
    struct plog *plog, const struct engine_batch *batch, struct plan *plan, struct index_entry *ret_last)
{
	struct segment *active = plog_active(plog);
	bool extend = may_extend(plog, plan);
	int rc = segment_write_data(active, batch->data, (uint32_t)batch->len);

	if (!rc && plan->meta_len > 0)
		rc = segment_create_meta(active, plog->dirfd);
	if (!rc && plan->meta_len > 0)
		rc = segment_write_meta(active, plan->meta, plan->meta_len);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < plan->count; i++) {
		struct index_entry entry = plan->entries[i];

		entry.base_offset += plog->end_offset;
		entry.pos += active->data_end;
		entry.meta_pos += active->meta_end;
		if (extend) {
			entry = plog->last;
			entry.count += plan->entries[0].count;
			entry.length += plan->entries[0].length;
			entry.data_crc = crc32c(entry.data_crc, batch->data, batch->len);
		} else if (entry.meta_len == 0) {
			entry.meta_pos = 0;
		}
		index_put_entry(plan->slots + (size_t)i * INDEX_SLOT, &entry);
		*ret_last = entry;
	}
	rc = FAILPOINT("append_after_data");
	if (!rc)
		rc = segment_write_slots(active, active->slots - extend, plan->slots, plan->count);
	if (!rc)
		active->slots += extend ? 0 : plan->count;
	return rc;
}

static int append(struct plog *plog, const struct engine_batch *batch, struct plan *plan, uint64_t segment_bytes)
{
	struct segment *active;
	struct index_entry last = { 0 };
	int rc;

	if (plog->failed || plog->options.read_only)
		return -EROFS;
	rc = plog_repair(plog);
	if (!rc && must_roll(plog, batch, plan, segment_bytes))
		rc = plog_roll(plog, plog->end_offset, plog_end_pos(plog));
	active = plog_active(plog);
	if (!rc && (!active->opened || (plan->meta_len > 0 && active->meta_fd < 0)))
		rc = plog_dir(plog);
	if (rc >= 0)
		rc = segment_open_files(active, plog->dirfd, true);
	if (rc < 0)
		return rc;
	rc = write_plan(plog, batch, plan, &last);
	if (rc) {
		plog->repair = true;
		(void)plog_repair(plog); /* else the next append tries again, before anything else */
		return rc;
	}
	active->data_end += (uint32_t)batch->len;
	active->meta_end += plan->meta_len;
	plog->end_offset += batch->count;
	plog->last = last;
	plog_recent_note(plog, batch);
	plog->mtime_ms = batch->ts_ms;
	plog->marked = plog->marked || (batch->props != NULL && batch->props[0].mark != 0);
	return 0;
}

void plog_follow(struct plog *plog)
{
	pthread_mutex_lock(&plog->mutex);
	plog->marked = true;
	pthread_mutex_unlock(&plog->mutex);
}

void plog_set_mark(struct plog *plog, struct plog_mark *ret_mark)
{
	const struct segment *active;

	pthread_mutex_lock(&plog->mutex);
	active = plog_active(plog);
	*ret_mark = (struct plog_mark){ .segment = active->base,
		.end_offset = plog->end_offset,
		.slots = active->slots,
		.data_end = active->data_end,
		.meta_end = active->meta_end,
		.frozen = plog->frozen,
		.last = plog->last,
		.mtime_ms = plog->mtime_ms };
	pthread_mutex_unlock(&plog->mutex);
}

int plog_take_back(struct plog *plog, const struct plog_mark *mark)
{
	struct segment *active;
	int rc = -EBUSY;

	pthread_mutex_lock(&plog->mutex);
	active = plog_active(plog);
	if (active->base == mark->segment && plog->frozen == mark->frozen) {
		active->slots = mark->slots;
		memset(plog->strays, 0, sizeof(plog->strays));
		active->data_end = mark->data_end;
		active->meta_end = mark->meta_end;
		plog->end_offset = mark->end_offset;
		plog->last = mark->last;
		plog->mtime_ms = mark->mtime_ms;
		plog->repair = true;
		(void)plog_repair(plog); /* else the next append tries again */
		rc = 0;
	}
	pthread_mutex_unlock(&plog->mutex);
	return rc;
}

static int error_of_append(int rc)
{
	switch (rc) {
	case -ENOSPC:
	case -EDQUOT:
	case -EFBIG: return -ENOSPC;
	case -EROFS:
	case -EINVAL:
	case -EMSGSIZE:
	case -ENOMEM:
	case -EMFILE:
	case -ENFILE: return rc;
	default: return -EIO;
	}
}

int plog_append(struct plog *plog, const struct engine_batch *batch, uint64_t first_id, uint64_t segment_bytes,
    uint64_t *ret_offset)
{
	struct plan plan = { 0 };
	uint64_t offset = 0;
	int rc = plan_make(&plan, batch, first_id);

	if (!rc) {
		pthread_mutex_lock(&plog->mutex);
		rc = append(plog, batch, &plan, segment_bytes);
		plog_put_dir(plog);
		offset = plog->end_offset - batch->count;
		pthread_mutex_unlock(&plog->mutex);
	}
	plan_release(&plan);
	if (rc)
		return error_of_append(rc);
	*ret_offset = offset;
	return 0;
}
