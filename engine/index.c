/*
 * index - see index.h, which has the bytes.
 */
#include "engine/index.h"

#include <errno.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/crc32c.h"
#include "engine/limits.h"

#define CRC_AT (INDEX_SLOT - 4)
#define ENTRIES_END (INDEX_FIRST + INDEX_SLOT * (LIMIT_SEGMENT_SLOTS + 1))

static const char header_magic[8] = "MQFSIDX1", mark_magic[8] = "MQFSMARK", start_magic[8] = "MQFSTART";

static void seal(uint8_t out[INDEX_SLOT])
{
	bytes_put32(out + CRC_AT, crc32c(0, out, CRC_AT));
}

static bool whole(const uint8_t in[INDEX_SLOT])
{
	return bytes_get32(in + CRC_AT) == crc32c(0, in, CRC_AT);
}

static int check_version(const uint8_t in[INDEX_SLOT], const char magic[8], uint32_t last)
{
	uint32_t version = bytes_get32(in + 8);

	if (memcmp(in, magic, 8) || !whole(in))
		return -EBADMSG;
	return version >= INDEX_VERSION && version <= last ? 0 : -EUCLEAN;
}

void index_put_header(uint8_t out[INDEX_SLOT], const struct index_header *header)
{
	memcpy(out, header_magic, 8);
	bytes_put32(out + 8, header->gaps ? INDEX_VERSION_GAPS : INDEX_VERSION);
	memcpy(out + 12, header->uuid, 16);
	bytes_put64(out + 28, header->log_id);
	bytes_put64(out + 36, header->base_offset);
	bytes_put64(out + 44, header->base_pos);
	bytes_put64(out + 52, (uint64_t)header->created_ms);
	seal(out);
}

int index_get_header(const uint8_t in[INDEX_SLOT], struct index_header *ret_header)
{
	int rc = check_version(in, header_magic, INDEX_VERSION_GAPS);

	if (rc)
		return rc;
	memcpy(ret_header->uuid, in + 12, 16);
	ret_header->log_id = bytes_get64(in + 28);
	ret_header->base_offset = bytes_get64(in + 36);
	ret_header->base_pos = bytes_get64(in + 44);
	ret_header->created_ms = (int64_t)bytes_get64(in + 52);
	ret_header->gaps = bytes_get32(in + 8) == INDEX_VERSION_GAPS;
	return 0;
}

void index_put_mark(uint8_t out[INDEX_SLOT], const struct index_mark *mark)
{
	memset(out, 0, INDEX_SLOT);
	memcpy(out, mark_magic, 8);
	bytes_put64(out + 8, mark->end_offset);
	bytes_put64(out + 16, mark->base_pos);
	bytes_put32(out + 24, mark->index_end);
	bytes_put32(out + 28, mark->data_end);
	bytes_put32(out + 32, mark->meta_end);
	out[36] = mark->gaps;
	seal(out);
}

int index_get_mark(const uint8_t in[INDEX_SLOT], struct index_mark *ret_mark)
{
	struct index_mark mark;

	if (memcmp(in, mark_magic, 8) || !whole(in))
		return -EBADMSG;
	mark.end_offset = bytes_get64(in + 8);
	mark.base_pos = bytes_get64(in + 16);
	mark.index_end = bytes_get32(in + 24);
	mark.data_end = bytes_get32(in + 28);
	mark.meta_end = bytes_get32(in + 32);
	mark.gaps = in[36] != 0;
	if (mark.index_end < INDEX_FIRST || mark.index_end > ENTRIES_END || mark.index_end % INDEX_SLOT)
		return -EBADMSG;
	if (mark.data_end > LIMIT_SEGMENT_DATA || mark.meta_end > LIMIT_SEGMENT_META ||
	    (mark.index_end == INDEX_FIRST && (mark.data_end > 0 || mark.meta_end > 0)))
		return -EBADMSG;
	*ret_mark = mark;
	return 0;
}

void index_put_entry(uint8_t out[INDEX_SLOT], const struct index_entry *entry)
{
	bytes_put64(out, entry->base_offset);
	bytes_put64(out + 8, entry->first_id);
	bytes_put64(out + 16, (uint64_t)entry->ts_ms);
	bytes_put32(out + 24, entry->pos);
	bytes_put32(out + 28, entry->length);
	bytes_put32(out + 32, entry->count | (uint32_t)entry->flags << 24);
	bytes_put32(out + 36, entry->meta_pos);
	bytes_put32(out + 40, entry->meta_len);
	bytes_put32(out + 44, entry->cred.uid);
	bytes_put32(out + 48, entry->cred.gid);
	bytes_put32(out + 52, entry->cred.pid);
	bytes_put32(out + 56, entry->data_crc);
	seal(out);
}

int index_get_entry(const uint8_t in[INDEX_SLOT], struct index_entry *ret_entry)
{
	struct index_entry e;

	if (!whole(in))
		return -EBADMSG;
	e.base_offset = bytes_get64(in);
	e.first_id = bytes_get64(in + 8);
	e.ts_ms = (int64_t)bytes_get64(in + 16);
	e.pos = bytes_get32(in + 24);
	e.length = bytes_get32(in + 28);
	e.count = bytes_get32(in + 32) & INDEX_COUNT_MAX;
	e.flags = in[35];
	e.meta_pos = bytes_get32(in + 36);
	e.meta_len = bytes_get32(in + 40);
	e.cred.uid = bytes_get32(in + 44);
	e.cred.gid = bytes_get32(in + 48);
	e.cred.pid = bytes_get32(in + 52);
	e.data_crc = bytes_get32(in + 56);
	if (e.count == 0 || e.length < e.count || (uint64_t)e.pos + e.length > LIMIT_SEGMENT_DATA ||
	    (uint64_t)e.meta_pos + e.meta_len > LIMIT_SEGMENT_META || e.base_offset > INT64_MAX)
		return -EBADMSG;
	*ret_entry = e;
	return 0;
}

void index_put_start(uint8_t out[INDEX_SLOT], const struct index_start *start)
{
	memset(out, 0, INDEX_SLOT);
	memcpy(out, start_magic, 8);
	bytes_put32(out + 8, INDEX_VERSION);
	memcpy(out + 12, start->uuid, 16);
	bytes_put64(out + 28, start->log_id);
	bytes_put64(out + 36, start->offset);
	bytes_put64(out + 44, start->pos);
	seal(out);
}

int index_get_start(const uint8_t in[INDEX_SLOT], struct index_start *ret_start)
{
	int rc = check_version(in, start_magic, INDEX_VERSION);

	if (rc)
		return rc;
	memcpy(ret_start->uuid, in + 12, 16);
	ret_start->log_id = bytes_get64(in + 28);
	ret_start->offset = bytes_get64(in + 36);
	ret_start->pos = bytes_get64(in + 44);
	return 0;
}
