/*
 * plog_recent - the last batch of a log in memory, while somebody reads each as it comes.
 *
 * Who waits for a message is given it from here, and not from the file that it was just written to. The bytes are those that
 * the last entry tells of, or none. They are kept if the batch before was read while it was the last one, so a log that
 * nobody follows has nothing; and one at rest gives its memory back with its files.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/plog_internal.h"

#define ROOM_MIN 256u

void plog_recent_drop(struct plog_recent *recent)
{
	free(recent->data);
	*recent = (struct plog_recent){ 0 };
}

static void add(struct plog_recent *recent, const struct engine_batch *batch)
{
	uint32_t size = recent->size + (uint32_t)batch->len, room = recent->room > 0 ? recent->room : ROOM_MIN;
	char *data;

	while (room < size)
		room *= 2;
	if (room > recent->room) {
		data = realloc(recent->data, room);
		if (data == NULL) { /* then it is read from the file */
			recent->size = 0;
			return;
		}
		recent->data = data;
		recent->room = room;
	}
	memcpy(recent->data + recent->size, batch->data, batch->len);
	recent->size = size;
}

void plog_recent_note(struct plog *plog, const struct engine_batch *batch)
{
	struct plog_recent *recent = &plog->recent;
	const struct index_entry *last = &plog->last;
	bool begins = last->count == batch->count, follows = recent->size > 0 && recent->base == last->base_offset;

	if (begins && !recent->wanted) {
		plog_recent_drop(recent);
		return;
	}
	if (begins) {
		recent->wanted = false;
		recent->size = 0;
	}
	if (!begins && (!follows || recent->size + batch->len != last->length))
		recent->size = 0;
	else if (last->length > LIMIT_RECENT || last->meta_len > 0)
		recent->size = 0;
	else
		add(recent, batch);
	recent->base = last->base_offset;
	recent->crc = last->data_crc;
}

const char *plog_recent_get(struct plog *plog, uint64_t offset)
{
	struct plog_recent *recent = &plog->recent;
	const struct index_entry *last = &plog->last;

	if (!index_covers(last, offset))
		return NULL;
	recent->wanted = true;
	return recent->size == last->length && recent->base == last->base_offset && recent->crc == last->data_crc
		   ? recent->data
		   : NULL;
}
