/* Notes of commits, byte by byte: what is read of them, and that none which contradicts itself is believed or read beyond its end. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/local_commit_note.h"
#include "engine/local_tx.h"
#include "engine/meta.h"

/* Where in the note of note_make() its first part, the target of that, and what follows have their numbers. */
#define PART NOTE_HEAD
#define MESSAGES (PART + 8)
#define TARGETS (PART + 12)
#define META_LEN (PART + 40)
#define DATA_LEN (PART + 48)
#define TARGET (PART + PART_HEAD)
#define FLAGS (TARGET + 8)
#define LOGS (TARGET + 12)
#define COUNT (TARGET + 16)
#define WHICH (TARGET + TARGET_HEAD + LOG_BYTES)
#define PLACE (WHICH + 4)

static const uint32_t two_lengths[] = { 1, 1 };
static const struct engine_batch two = { .data = "a\nb\n", .len = 4, .count = 2, .lengths = two_lengths };

/* A part of two messages, of which a target is to have the second. Returns its size. */
static size_t part_put(uint8_t *out, uint64_t mark)
{
	uint32_t meta = (uint32_t)meta_size(&two, 0, 2, META_LENGTHS);
	uint8_t *at = out + PART_HEAD;

	memset(out, 0, PART_HEAD + TARGET_HEAD + LOG_BYTES);
	bytes_put64(out, mark);
	bytes_put32(out + 8, 2);
	bytes_put32(out + 12, 1);
	bytes_put64(out + 16, 77);
	bytes_put32(out + 24, 1000);
	bytes_put64(out + 40, meta);
	bytes_put64(out + 48, two.len);
	bytes_put64(at, 9);
	bytes_put32(at + 8, TO_HEAD | SOME_ONLY);
	bytes_put32(at + 12, 1);
	bytes_put32(at + 16, 1);
	at += TARGET_HEAD + LOG_BYTES;
	bytes_put32(at, 1);
	bytes_put32(at + 4, 0);
	meta_put(at + 8, meta, &two, 0, 2, META_LENGTHS, NOTE_CRC);
	memcpy(at + 8 + meta, two.data, two.len);
	return (size_t)(at - out) + 8 + meta + two.len;
}

/* A whole note of so many parts, in memory of exactly its size, so that a sanitizer sees a read beyond it. */
static struct commit_pending note_make(uint32_t parts)
{
	static uint8_t bytes[16384];
	struct commit_pending pending = { .next = 1, .pieces = 1, .size = NOTE_HEAD };

	bytes_put32(bytes, parts);
	bytes_put32(bytes + 4, 0);
	for (uint32_t i = 0; i < parts; i++)
		pending.size += part_put(bytes + pending.size, 100 + 2 * i);
	pending.note = malloc(pending.size);
	memcpy(pending.note, bytes, pending.size);
	return pending;
}

static int add(struct noted_parts *parts, struct commit_pending *pending, size_t size)
{
	uint8_t *copy = malloc(size);
	struct commit_pending cut = *pending;
	int rc;

	memcpy(copy, pending->note, size);
	cut.note = copy;
	cut.size = size;
	rc = noted_parts_add(parts, &cut);
	free(copy);
	return rc;
}

/* Parts are read as they were noted, however many there are. */
Test(local_commit_note, reads_parts)
{
	struct commit_pending pending = note_make(30);
	struct noted_parts parts = { 0 };

	cr_assert_eq(noted_parts_add(&parts, &pending), 0);
	cr_assert_eq(parts.count, 30);
	for (uint32_t i = 0; i < 30; i++) {
		const struct noted_part *part = &parts.list[i];

		cr_assert_eq(part->mark, 100 + 2 * i);
		cr_assert(part->batch.count == 2 && part->batch.ts_ms == 77 && part->batch.cred.uid == 1000);
		cr_assert_eq(memcmp(part->batch.data, "a\nb\n", 4), 0);
		cr_assert_eq(part->target_count, 1);
		cr_assert(part->targets[0].id == 9 && part->targets[0].head && part->targets[0].count == 1);
		cr_assert_eq(noted_index(&part->targets[0], 0), 1);
		cr_assert_eq(part->targets[0].there[0], NOTED_FOR_OTHERS);
		cr_assert_eq(part->targets[0].there[1], 0);
	}
	noted_parts_release(&parts);
	free(pending.note);
}

/* Of a note that is not whole nothing is read; of one that was cut nothing is believed, wherever the cut is. */
Test(local_commit_note, cut)
{
	struct commit_pending pending = note_make(1);
	struct noted_parts parts = { 0 };

	for (size_t size = 0; size < pending.size; size++)
		cr_assert_eq(add(&parts, &pending, size), size < NOTE_HEAD ? 0 : -EBADMSG, "%zu", size);
	pending.pieces = 2;
	cr_assert_eq(add(&parts, &pending, pending.size), 0);
	cr_assert_eq(parts.count, 0);
	noted_parts_release(&parts);
	free(pending.note);
}

/* Numbers that contradict the rest of it. */
Test(local_commit_note, contradictions)
{
	static const struct {
		uint32_t at, value;
	} rows[] = { { MESSAGES, 0 }, { MESSAGES, 1 }, { MESSAGES, 3 }, { MESSAGES, UINT32_MAX }, { TARGETS, 2 },
		{ TARGETS, UINT32_MAX }, { META_LEN, 1 }, { META_LEN, UINT32_MAX }, { META_LEN + 4, 1 },
		{ DATA_LEN, 3 }, { DATA_LEN, 5 }, { DATA_LEN + 4, UINT32_MAX }, { FLAGS, TO_HEAD }, { LOGS, 0 },
		{ LOGS, UINT32_MAX }, { COUNT, 3 }, { COUNT, UINT32_MAX }, { WHICH, 2 }, { WHICH, UINT32_MAX } };
	struct noted_parts parts = { 0 };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct commit_pending pending = note_make(1);

		bytes_put32(pending.note + rows[i].at, rows[i].value);
		cr_expect_eq(add(&parts, &pending, pending.size), -EBADMSG, "row %zu", i);
		free(pending.note);
	}
	cr_assert_eq(parts.count, 0);
	noted_parts_release(&parts);
}

/* What was taken from its log is missed no more. */
Test(local_commit_note, gone)
{
	struct commit_pending pending = note_make(1);
	struct noted_parts parts = { 0 };

	bytes_put32(pending.note + PLACE, PLACE_GONE);
	cr_assert_eq(noted_parts_add(&parts, &pending), 0);
	cr_assert_eq(parts.list[0].targets[0].there[1], NOTED_GONE);
	noted_parts_release(&parts);
	free(pending.note);
}

/* The tail: what is settled comes back, and one of another size than it says is none. */
Test(local_commit_note, tail)
{
	static const struct commit_take takes[2] = { { .id = 5 }, { .id = 6 } };
	const struct staged_cursor cursor = { .group = 7, .offset = 8, .partition = 9, .seek = true };
	const struct tx large = { .staged.settle_count = UINT32_MAX / 40 };
	uint8_t tail[256], *made;
	uint32_t made_size;
	struct tx_note note;
	uint32_t size = tx_note_takes_size(2);

	tx_note_takes(tail, 3, 4, takes, 2);
	cr_assert_eq(tx_note_read(tail, size, &note), 0);
	cr_assert(note.settle_count == 2 && note.cursor_count == 0 && note.tx_id == 0);
	cr_assert(tx_note_settle(&note, 1).id == 6 && tx_note_settle(&note, 1).queue == 3);
	cr_assert_eq((uint32_t)tx_note_settle(&note, 1).how, TX_TAKEN);
	cr_assert_eq(tx_note_make(&large, 1, &made, &made_size), -ENOMEM); /* of 4 GiB and more: nothing is looked at */
	for (uint32_t other = 0; other < 2 * size; other++)
		cr_assert(other == size || tx_note_read(tail, other, &note) == -EBADMSG, "%u", other);
	bytes_put32(tail + 16, UINT32_MAX);
	bytes_put32(tail + 20, UINT32_MAX);
	cr_assert_eq(tx_note_read(tail, size, &note), -EBADMSG);
	tx_note_put_cursor(tail, &cursor);
	cr_assert_eq(tx_note_read(tail, TX_CURSOR_BYTES, &note), 0);
	cr_assert(tx_note_cursor(&note, 0).group == 7 && tx_note_cursor(&note, 0).offset == 8);
	cr_assert(tx_note_cursor(&note, 0).partition == 9 && tx_note_cursor(&note, 0).seek);
}

static int replay_piece(struct local *local, uint32_t piece)
{
	uint8_t record[COMMIT_PIECE_HEAD + 4] = { 0 };

	bytes_put64(record, 5);
	bytes_put32(record + 8, piece);
	bytes_put32(record + 12, 3);
	return commit_replay(local, record, sizeof(record));
}

/* A power cut or damage may have taken any record: a note with a piece missing is none, whichever it is, and whatever comes behind it. */
Test(local_commit_note, a_piece_is_missing)
{
	for (uint32_t missing = 0; missing < 3; missing++) {
		static struct local local;
		const struct commit_pending *pending;

		for (uint32_t piece = 0; piece < 3; piece++) {
			if (piece != missing)
				cr_assert_eq(replay_piece(&local, piece), 0);
		}
		pending = local.commits.pending;
		cr_assert_eq(pending == NULL, missing == 0);
		if (pending != NULL)
			cr_assert(!commit_is_whole(pending) && pending->next == missing && pending->size == 4 * missing,
			    "piece %u is missing, and %u are taken", missing, pending->next);
		commit_forget(&local);
	}
}
