/*
 * plog_read - batches and times are looked for.
 *
 * A read finds its segment under the mutex, pins it and does the rest outside: one pread per entry looked at, one for the
 * data of the batch, one for its meta. The whole batch is read and checked, even for one message of it, and left in the
 * reader's block (plog_block.h): the next message costs no system call, and the next batch is looked for in the slot after
 * this one. So a batch is at most LIMIT_ENTRY_DATA, or one message. What was just appended may be had from memory. Who wants a batch whole
 * may have it read to a place of its own (struct engine_scratch): bulk is not copied once more, and nobody looks for its newlines.
 *
 * Damage costs the batch it is in: the reader gets EIO and learns what to go past, and it is reported once. An error that says nothing of
 * the files (io_is_damage()) is given to the reader as it is, and costs nothing: the next read finds what is there.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/crc32c.h"
#include "engine/io.h"
#include "engine/meta.h"
#include "engine/plog_block.h"
#include "engine/plog_internal.h"

/* What a reader's block holds: this, and behind it data, meta, lengths, properties, headers. */
struct cached {
	struct index_entry entry;
	uint64_t segment_base;
	uint32_t slot;
	const char *data;
	const uint32_t *lengths;
	const struct engine_props *props;   /* NULL: no message has any */
	struct engine_delivery *deliveries; /* NULL: the log has no ids */
	bool lent; /* data is in the place that a caller lent for one call, and lengths are not known */
};

/* Where in the block things are. */
struct layout {
	size_t data, meta, lengths, props, headers, deaths, deliveries, size;
};

static size_t aligned(size_t size)
{
	return (size + 15) & ~(size_t)15;
}

static struct layout lay_out(const struct index_entry *entry, const struct meta_shape *shape)
{
	struct layout at;
	bool props = shape->flags & (META_PROPS | META_KEY);

	at.data = aligned(sizeof(struct cached));
	at.meta = at.data + entry->length;
	at.lengths = aligned(at.meta + entry->meta_len);
	at.props = aligned(at.lengths + entry->count * sizeof(uint32_t));
	at.headers = aligned(at.props + (props ? entry->count * sizeof(struct engine_props) : 0));
	at.deaths = aligned(at.headers + shape->header_count * sizeof(struct engine_header));
	at.deliveries = aligned(at.deaths + shape->death_count * sizeof(struct engine_death));
	at.size = at.deliveries + (entry->first_id ? entry->count * sizeof(struct engine_delivery) : 0);
	return at;
}

/* Lengths of payloads without newlines. EBADMSG: there are not count of them. */
static int find_lengths(const char *data, uint32_t size, uint32_t count, uint32_t *lengths)
{
	const char *p = data, *end = data + size;

	for (uint32_t i = 0; i < count; i++) {
		const char *newline = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;

		if (!newline)
			return -EBADMSG;
		lengths[i] = (uint32_t)(newline - p);
		p = newline + 1;
	}
	return p == end ? 0 : -EBADMSG;
}

/* Reads what is whole, or damaged: EBADMSG. */
static int read_part(int fd, void *out, uint32_t len, off_t pos)
{
	int rc = io_pread_all(fd, out, len, pos);

	return io_is_damage(rc) ? -EBADMSG : rc;
}

static int read_data(const struct segment_reader *reader, const struct index_entry *entry, void *out)
{
	int rc = read_part(reader->data_fd, out, entry->length, entry->pos);

	return rc || crc32c(0, out, entry->length) == entry->data_crc ? rc : -EBADMSG;
}

/* Reads data and meta of entry to their places in block and checks them. EBADMSG. */
static int read_whole(const struct segment_reader *reader, const struct index_entry *entry, char *block,
    const struct layout *at, struct meta_shape *ret_shape)
{
	int rc = read_data(reader, entry, block + at->data);

	if (rc || entry->meta_len == 0)
		return rc;
	rc = read_part(reader->meta_fd, block + at->meta, entry->meta_len, entry->meta_pos);
	if (rc)
		return rc;
	return meta_check((const uint8_t *)block + at->meta, entry->meta_len, entry->count, entry->length,
	    entry->data_crc, ret_shape);
}

static bool reaches(int fd, uint64_t end)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && (uint64_t)st.st_size >= end;
}

/* Before memory is asked for: a large entry that the files cannot have is damaged, whatever its CRC says. */
static bool can_be(const struct segment_reader *reader, const struct index_entry *entry)
{
	return entry->count <= entry->length &&
	       (entry->length <= LIMIT_ENTRY_DATA || reaches(reader->data_fd, (uint64_t)entry->pos + entry->length)) &&
	       (entry->meta_len <= LIMIT_ENTRY_DATA ||
		   reaches(reader->meta_fd, (uint64_t)entry->meta_pos + entry->meta_len));
}

/* Data and meta are in the scratch: the rest follows from them. EBADMSG, ENOMEM. */
static int complete(const struct index_entry *entry, const struct meta_shape *shape, struct engine_scratch *scratch,
    struct cached **ret_cached)
{
	struct layout at = lay_out(entry, shape);
	char *block = plog_block_grow(scratch, at.size);
	struct cached *cached = (struct cached *)block;
	int rc = 0;

	if (!block)
		return -ENOMEM;
	*cached = (struct cached){ .entry = *entry, .data = block + at.data };
	cached->lengths = (uint32_t *)(block + at.lengths);
	if (shape->flags & (META_PROPS | META_KEY))
		cached->props = (struct engine_props *)(block + at.props);
	if (entry->first_id)
		cached->deliveries = (struct engine_delivery *)(block + at.deliveries);
	if (shape->flags)
		meta_get((uint8_t *)block + at.meta, entry->meta_len, entry->count, entry->ts_ms,
		    (uint32_t *)(block + at.lengths), (struct engine_props *)(block + at.props),
		    (struct engine_header *)(block + at.headers), (struct engine_death *)(block + at.deaths));
	if (!(shape->flags & META_LENGTHS))
		rc = find_lengths(cached->data, entry->length, entry->count, (uint32_t *)(block + at.lengths));
	*ret_cached = cached;
	return rc;
}

/* Fetches the batch of entry into the scratch. EBADMSG: damaged; ENOMEM. */
static int fetch(const struct segment_reader *reader, const struct index_entry *entry, struct engine_scratch *scratch,
    struct cached **ret_cached)
{
	struct meta_shape shape = { 0 };
	struct layout at = lay_out(entry, &shape);
	char *block;
	int rc;

	if (!can_be(reader, entry))
		return -EBADMSG;
	block = plog_block_begin(scratch, at.size);
	if (!block)
		return -ENOMEM;
	rc = read_whole(reader, entry, block, &at, &shape);
	return rc ? rc : complete(entry, &shape, scratch, ret_cached);
}

/* The same for the last batch, from memory. 0: it is not there; 1; ENOMEM. mutex */
static int fetch_recent(struct plog *plog, uint64_t offset, struct engine_scratch *scratch, struct cached **ret_cached)
{
	const struct meta_shape shape = { 0 };
	const char *data = plog_recent_get(plog, offset);
	struct layout at;
	char *block;
	int rc;

	if (!data)
		return 0;
	at = lay_out(&plog->last, &shape);
	block = plog_block_begin(scratch, at.size);
	if (!block)
		return -ENOMEM;
	memcpy(block + at.data, data, plog->last.length);
	rc = complete(&plog->last, &shape, scratch, ret_cached);
	if (rc)
		return rc;
	(*ret_cached)->slot = plog_active(plog)->slots - 1;
	(*ret_cached)->segment_base = plog_active(plog)->base;
	return 1;
}

/* Whether the batch can go to the place that was lent: it is nothing but payloads, and given whole to who asked from `from` to before end. */
static bool fits_lent(
    const struct index_entry *entry, uint64_t from, uint64_t end, const struct engine_scratch *scratch)
{
	return scratch->lent && entry->length <= scratch->lent_size && entry->meta_len == 0 && entry->first_id == 0 &&
	       entry->base_offset >= from && entry->base_offset + entry->count <= end;
}

/* As fetch, to the place that was lent. */
static int fetch_lent(const struct segment_reader *reader, const struct index_entry *entry,
    struct engine_scratch *scratch, struct cached **ret_cached)
{
	struct cached *cached = plog_block_begin(scratch, sizeof(*cached));

	if (!cached)
		return -ENOMEM;
	*cached = (struct cached){ .entry = *entry, .data = scratch->lent, .lent = true };
	*ret_cached = cached;
	return read_data(reader, entry, scratch->lent);
}

static void give_view(const struct cached *cached, uint64_t offset, uint32_t max_count, struct engine_view *ret_view)
{
	uint32_t skip = (uint32_t)(offset - cached->entry.base_offset), count = cached->entry.count - skip;
	size_t pos = skip, len;

	for (uint32_t i = 0; i < skip; i++)
		pos += cached->lengths[i];
	len = cached->entry.length - pos;
	if (count > max_count) {
		count = max_count;
		len = count;
		for (uint32_t i = 0; i < count; i++)
			len += cached->lengths[skip + i];
	}
	ret_view->offset = offset;
	ret_view->deliveries = cached->deliveries ? cached->deliveries + skip : NULL;
	ret_view->batch = (struct engine_batch){
		.data = cached->data + pos,
		.len = len,
		.count = count,
		.lengths = cached->lengths + skip,
		.props = cached->props ? cached->props + skip : NULL,
		.cred = cached->entry.cred,
		.ts_ms = cached->entry.ts_ms,
	};
}

/* What is trimmed is damaged no more. mutex. */
static void forget_trimmed(struct plog *plog)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < plog->damage_count; i++)
		if (plog->damage[i].to > plog->start_offset)
			plog->damage[kept++] = plog->damage[i];
	plog->damage_count = kept;
}

/* Whether damage that begins there has not been reported yet. mutex. */
static bool is_new_damage(struct plog *plog, const struct segment_lost *lost)
{
	struct plog_range *damage;

	for (uint32_t i = 0; i < plog->damage_count; i++) {
		if (plog->damage[i].from != lost->from)
			continue;
		if (plog->damage[i].to < lost->to)
			plog->damage[i].to = lost->to;
		return false;
	}
	forget_trimmed(plog);
	if (plog->damage_count >= LIMIT_DAMAGE_REPORTS)
		return false;
	damage = realloc(plog->damage, (plog->damage_count + 1) * sizeof(*damage));
	if (!damage)
		return false;
	plog->damage = damage;
	damage[plog->damage_count++] = (struct plog_range){ lost->from, lost->to };
	return true;
}

uint64_t plog_damaged(struct plog *plog, uint64_t *ret_first)
{
	uint64_t count = 0, first = UINT64_MAX;

	pthread_mutex_lock(&plog->mutex);
	forget_trimmed(plog);
	for (uint32_t i = 0; i < plog->damage_count; i++) {
		uint64_t from = plog->damage[i].from > plog->start_offset ? plog->damage[i].from : plog->start_offset;

		count += plog->damage[i].to - from;
		first = from < first ? from : first;
	}
	*ret_first = first;
	pthread_mutex_unlock(&plog->mutex);
	return count;
}

void plog_report_lost(struct plog *plog, const struct segment_lost *lost)
{
	bool tell;

	pthread_mutex_lock(&plog->mutex);
	tell = is_new_damage(plog, lost);
	pthread_mutex_unlock(&plog->mutex);
	if (tell)
		plog_notify(plog, EIO, "messages %" PRIu64 " to %" PRIu64 " are damaged and cannot be read", lost->from,
		    lost->to - 1);
}

static int give_damage(
    struct plog *plog, const struct segment_lost *lost, uint64_t offset, struct engine_view *ret_view)
{
	uint64_t count = lost->to - offset;

	plog_report_lost(plog, lost);
	ret_view->offset = offset;
	ret_view->batch = (struct engine_batch){ .count = count < UINT32_MAX ? (uint32_t)count : UINT32_MAX };
	return -EIO;
}

/*
 * The batch offset is in, from the disk; nothing is wanted from end on. EBADMSG: *ret_lost is what is damaged; ENOENT: it is
 * in a gap.
 */
static int find_and_fetch(const struct segment_reader *reader, uint64_t offset, uint64_t end, uint32_t hint,
    struct engine_scratch *scratch, struct cached **ret_cached, struct segment_lost *ret_lost)
{
	struct index_entry entry;
	uint32_t slot;
	int rc = segment_locate(reader, offset, hint, &slot, &entry, ret_lost);

	if (rc)
		return rc;
	rc = fits_lent(&entry, offset, end, scratch) ? fetch_lent(reader, &entry, scratch, ret_cached)
						     : fetch(reader, &entry, scratch, ret_cached);
	if (rc) {
		*ret_lost = (struct segment_lost){ entry.base_offset, entry.base_offset + entry.count, entry.pos };
		return rc;
	}
	(*ret_cached)->slot = slot;
	(*ret_cached)->segment_base = reader->base;
	return 0;
}

/* Pins the segment of offset, which must be within the log. EBADMSG as above. */
static int pin_for(struct plog *plog, uint64_t offset, struct segment_reader *ret_reader, struct segment_lost *ret_lost)
{
	size_t i = plog_find(plog, offset);
	int rc = plog_pin(plog, i, ret_reader);

	if (!io_is_damage(rc))
		return rc;
	*ret_lost = (struct segment_lost){ .from = plog->segments[i]->base, .to = plog_segment_end(plog, i) };
	return -EBADMSG;
}

static void unpin(struct plog *plog, struct segment *segment)
{
	pthread_mutex_lock(&plog->mutex);
	plog_unpin(plog, segment);
	pthread_mutex_unlock(&plog->mutex);
}

int plog_read(struct plog *plog, uint64_t offset, uint32_t max_count, struct engine_scratch *scratch,
    struct engine_view *ret_view)
{
	uint64_t first_id;

	return plog_read_ids(plog, offset, max_count, scratch, ret_view, &first_id);
}

int plog_fetch(const struct segment_reader *reader, const struct index_entry *entry, struct engine_scratch *scratch,
    struct engine_view *ret_view)
{
	struct cached *cached;
	int rc = fetch(reader, entry, scratch, &cached);

	if (!rc)
		give_view(cached, entry->base_offset, UINT32_MAX, ret_view);
	return rc;
}

/*
 * Finds the batch of *offset, or of the first message after it if it is in a gap: then *offset is that. Nothing is wanted from
 * end on. Errors as plog_read.
 */
static int find_batch(struct plog *plog, uint64_t *offset, uint64_t end, struct engine_scratch *scratch,
    struct cached **cached, struct engine_view *view)
{
	struct segment_reader reader = { 0 };
	struct segment_lost lost;
	uint32_t hint = UINT32_MAX;
	int rc = 0;

	do {
		if (rc == -ENOENT) /* *cached is what it was: nothing was fetched */
			*offset = lost.to;
		pthread_mutex_lock(&plog->mutex);
		if (*offset < plog->start_offset)
			rc = -ESTALE;
		else if (*offset >= plog->end_offset)
			rc = -ENODATA;
		else if ((rc = fetch_recent(plog, *offset, scratch, cached)) == 0)
			rc = pin_for(plog, *offset, &reader, &lost);
		pthread_mutex_unlock(&plog->mutex);
		if (rc == -EBADMSG)
			return give_damage(plog, &lost, *offset, view);
		if (rc)
			return rc < 0 ? rc : 0;
		if (*cached && (*cached)->segment_base == reader.base)
			hint = (*cached)->slot + 1;
		rc = find_and_fetch(&reader, *offset, end, hint, scratch, cached, &lost);
		unpin(plog, reader.segment);
	} while (rc == -ENOENT);
	return rc == -EBADMSG ? give_damage(plog, &lost, *offset, view) : rc;
}

int plog_read_ids(struct plog *plog, uint64_t offset, uint32_t max_count, struct engine_scratch *scratch,
    struct engine_view *ret_view, uint64_t *ret_first_id)
{
	struct cached *cached = plog_block_get(scratch, plog->token);
	int rc = 0;

	pthread_mutex_lock(&plog->mutex);
	if (offset < plog->start_offset)
		rc = -ESTALE;
	else if (offset >= plog->end_offset)
		rc = -ENODATA;
	pthread_mutex_unlock(&plog->mutex);
	if (rc)
		return rc;
	if (!cached || !index_covers(&cached->entry, offset)) {
		rc = find_batch(plog, &offset, offset + max_count, scratch, &cached, ret_view);
		if (rc)
			return rc;
		plog_block_own(scratch, plog->token);
	}
	give_view(cached, offset, max_count, ret_view);
	if (cached->lent)
		cached->entry.count = 0; /* it is not here; only which slot comes next is */
	*ret_first_id = cached->entry.first_id ? cached->entry.first_id + (offset - cached->entry.base_offset) : 0;
	return 0;
}

int plog_position(struct plog *plog, uint64_t offset, uint64_t *ret_pos)
{
	struct engine_scratch scratch = { 0 };
	struct segment_reader reader;
	struct segment_lost lost = { 0 };
	struct cached *cached;
	uint64_t pos = 0;
	int rc;

	pthread_mutex_lock(&plog->mutex);
	if (offset == plog->end_offset) {
		*ret_pos = plog_end_pos(plog);
		pthread_mutex_unlock(&plog->mutex);
		return 0;
	}
	rc = plog_pin(plog, plog_find(plog, offset), &reader);
	pthread_mutex_unlock(&plog->mutex);
	if (rc)
		return plog_damage_as_eio(rc);
	rc = offset == reader.base ? 0 : find_and_fetch(&reader, offset, offset, UINT32_MAX, &scratch, &cached, &lost);
	if (rc == -EBADMSG || rc == -ENOENT) {
		pos = lost.pos;
		rc = 0;
	} else if (!rc && offset != reader.base) {
		struct engine_view view;

		give_view(cached, offset, 1, &view);
		pos = cached->entry.pos + (uint64_t)(view.batch.data - cached->data);
	}
	free(scratch.mem);
	unpin(plog, reader.segment);
	if (!rc)
		*ret_pos = reader.base_pos + pos;
	return rc;
}

int plog_pos_of(struct plog *plog, uint64_t offset, uint64_t *ret_pos)
{
	uint64_t start, start_pos, end;

	pthread_mutex_lock(&plog->mutex);
	start = plog->start_offset;
	start_pos = plog->start_pos;
	end = plog->end_offset;
	pthread_mutex_unlock(&plog->mutex);
	if (offset < start)
		return -ESTALE;
	if (offset > end)
		return -ERANGE;
	if (offset > start)
		return plog_position(plog, offset, ret_pos);
	*ret_pos = start_pos;
	return 0;
}

static bool is_earlier(const struct index_entry *entry, uint64_t ts_ms)
{
	return entry->ts_ms < (int64_t)ts_ms;
}

/* The first entry of segment i that can be read. ENOENT if there is none. */
static int first_entry(struct plog *plog, size_t i, struct index_entry *ret_entry)
{
	struct segment_reader reader;
	int rc = plog_reader(plog, i, &reader);

	if (rc)
		return io_is_damage(rc) ? -ENOENT : rc;
	for (uint32_t slot = 0; slot < reader.slots; slot++) {
		rc = segment_read_entry(&reader, slot, ret_entry);
		if (rc != -EBADMSG)
			return rc;
	}
	return -ENOENT;
}

/* How many segments begin before ts_ms; those that cannot be read go with the one after them. */
static int count_earlier(struct plog *plog, int64_t ts_ms, size_t *ret_count)
{
	size_t low = 0, high = plog->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2, i = middle;
		struct index_entry entry;
		int rc = -ENOENT;

		while (i < high && (rc = first_entry(plog, i, &entry)) == -ENOENT)
			i++;
		if (rc && rc != -ENOENT)
			return rc;
		if (i < high && entry.ts_ms < ts_ms)
			low = i + 1;
		else
			high = middle;
	}
	*ret_count = low;
	return 0;
}

int plog_find_time(struct plog *plog, int64_t ts_ms, uint64_t *ret_offset)
{
	struct segment_reader reader = { 0 };
	struct index_entry entry;
	uint64_t offset = 0;
	uint32_t slot;
	size_t count;
	int rc;

	pthread_mutex_lock(&plog->mutex);
	rc = count_earlier(plog, ts_ms, &count);
	if (!rc && count > 0)
		rc = plog_reader(plog, count - 1, &reader);
	if (!rc && count > 0) {
		rc = segment_search(&reader, is_earlier, (uint64_t)ts_ms, &slot, &entry);
		if (!rc)
			offset = entry.base_offset + entry.count;
		rc = rc == -ENOENT ? 0 : rc;
	}
	if (!rc)
		*ret_offset = offset > plog->start_offset ? offset : plog->start_offset;
	pthread_mutex_unlock(&plog->mutex);
	return plog_damage_as_eio(rc);
}
