/*
 * local_tx_note - what a transaction settles, as bytes: the tail of its note in the journal (local_commit_journal.c). So is what a
 * reject of a group and a redrive settle, with no transaction: then its id is 0. Numbers are little-endian:
 *
 *    0  8  id of the transaction      8  8  Unix time of the commit    16  4  messages to be settled   20  4  cursors
 *   24     for each message: 8 id, 8 id of the queue, 8 id of the consumer, 8 priority << 56 | offset, 4 deliveries,
 *          4 how: 0 ack, 1 nack, 2 reject, 3 a dead letter that goes on through an exchange or back to its topic, which is
 *          no transaction: instead of the consumer there is the number of the last change of the queue before it
 *          for each cursor: 8 id of the group, 8 stored offset, 4 partition, 4 kind: 0 ack, 1 seek
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/local_commit.h"
#include "engine/local_tx.h"

#define HEAD 24u
#define SETTLE_BYTES 40u
#define CURSOR_BYTES 24u

static void put_settle(uint8_t *out, const struct staged_settle *settle, uint32_t how)
{
	bytes_put64(out, settle->id);
	bytes_put64(out + 8, settle->queue);
	bytes_put64(out + 16, settle->consumer);
	bytes_put64(out + 24, settle->place);
	bytes_put32(out + 32, settle->deliveries);
	bytes_put32(out + 36, how);
}

static void put_cursor(uint8_t *out, const struct staged_cursor *cursor)
{
	bytes_put64(out, cursor->group);
	bytes_put64(out + 8, cursor->offset);
	bytes_put32(out + 16, cursor->partition);
	bytes_put32(out + 20, cursor->seek);
}

uint32_t tx_note_takes_size(uint32_t count)
{
	return HEAD + count * SETTLE_BYTES;
}

void tx_note_takes(uint8_t *tail, uint64_t queue, uint64_t change, const struct commit_take *takes, uint32_t count)
{
	memset(tail, 0, HEAD);
	bytes_put32(tail + 16, count);
	for (uint32_t i = 0; i < count; i++) {
		const struct staged_settle settle = { .id = takes[i].id, .queue = queue, .consumer = change };

		put_settle(tail + HEAD + (size_t)i * SETTLE_BYTES, &settle, TX_TAKEN);
	}
}

void tx_note_put_cursor(uint8_t tail[TX_CURSOR_BYTES], const struct staged_cursor *cursor)
{
	static_assert(TX_CURSOR_BYTES == HEAD + CURSOR_BYTES, "a head, and one cursor");
	memset(tail, 0, HEAD);
	bytes_put32(tail + 20, 1);
	put_cursor(tail + HEAD, cursor);
}

int tx_note_make(const struct tx *tx, int64_t ts_ms, uint8_t **ret_tail, uint32_t *ret_size)
{
	const struct staged *staged = &tx->staged;
	uint64_t size = HEAD + (uint64_t)staged->settle_count * SETTLE_BYTES + staged->cursor_count * CURSOR_BYTES;
	uint8_t *tail = size <= UINT32_MAX ? malloc(size) : NULL, *out = tail;

	if (tail == NULL)
		return -ENOMEM;
	bytes_put64(out, tx->object.id);
	bytes_put64(out + 8, (uint64_t)ts_ms);
	bytes_put32(out + 16, (uint32_t)staged->settle_count);
	bytes_put32(out + 20, (uint32_t)staged->cursor_count);
	out += HEAD;
	for (size_t i = 0; i < staged->settle_count; i++, out += SETTLE_BYTES)
		put_settle(out, &staged->settles[i], staged->settles[i].how);
	for (size_t i = 0; i < staged->cursor_count; i++, out += CURSOR_BYTES)
		put_cursor(out, &staged->cursors[i]);
	*ret_tail = tail;
	*ret_size = (uint32_t)size;
	return 0;
}

int tx_note_read(const uint8_t *tail, size_t size, struct tx_note *ret_note)
{
	struct tx_note note;

	if (size < HEAD)
		return -EBADMSG;
	note = (struct tx_note){ .tx_id = bytes_get64(tail),
		.ts_ms = (int64_t)bytes_get64(tail + 8),
		.settle_count = bytes_get32(tail + 16),
		.cursor_count = bytes_get32(tail + 20),
		.settles = tail + HEAD };
	if (HEAD + (uint64_t)note.settle_count * SETTLE_BYTES + (uint64_t)note.cursor_count * CURSOR_BYTES != size)
		return -EBADMSG;
	note.cursors = note.settles + (size_t)note.settle_count * SETTLE_BYTES;
	*ret_note = note;
	return 0;
}

struct staged_settle tx_note_settle(const struct tx_note *note, uint32_t i)
{
	const uint8_t *in = note->settles + (size_t)i * SETTLE_BYTES;

	return (struct staged_settle){ .id = bytes_get64(in),
		.queue = bytes_get64(in + 8),
		.consumer = bytes_get64(in + 16),
		.place = bytes_get64(in + 24),
		.deliveries = bytes_get32(in + 32),
		.how = (enum engine_settle)bytes_get32(in + 36) };
}

struct staged_cursor tx_note_cursor(const struct tx_note *note, uint32_t i)
{
	const uint8_t *in = note->cursors + (size_t)i * CURSOR_BYTES;

	return (struct staged_cursor){ .group = bytes_get64(in),
		.offset = bytes_get64(in + 8),
		.partition = bytes_get32(in + 16),
		.seek = bytes_get32(in + 20) == 1 };
}
