/* Cutting writes into messages: tables for each rule, and random cuts against splitting the whole. */
#include "fs/frame.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "fs/buffer.h"
#include "tests/lib/alloc.h"

#define NO_LIMIT (1u << 20)
#define IDLE_MAX (16u << 10) /* what a framer may hold for later */

/* Collects messages as "[payload][payload]", so that a test can compare them at a glance. */
static void collect(struct buffer *got, const struct engine_batch *batch)
{
	const char *at = batch->data;
	for (uint32_t i = 0; i < batch->count; i++) {
		size_t left = batch->len - (size_t)(at - batch->data);
		const char *end = batch->lengths ? at + batch->lengths[i] : memchr(at, '\n', left);
		cr_assert(end && (size_t)(end - at) < left && *end == '\n', "every message ends in a newline");
		buffer_add_char(got, '[');
		buffer_add(got, at, (size_t)(end - at));
		buffer_add_char(got, ']');
		at = end + 1;
	}
	cr_assert_eq(at, batch->data + batch->len, "the batch has no other bytes");
}

/* One write by somebody who does what write(2) says: what it answers. */
static ssize_t write_once(struct framer *framer, const char *buf, size_t size, size_t limit, struct buffer *got)
{
	struct frame_scan scan;
	int err = framer_scan(framer, buf, size, limit, &scan);
	if (err)
		return err;
	cr_assert_leq(scan.taken, size);
	if (scan.batch.count > 0)
		collect(got, &scan.batch);
	ssize_t taken = (ssize_t)scan.taken;
	framer_commit(framer, &scan, 7);
	return taken;
}

static void expect_got(struct buffer *got, const char *expected, const char *what)
{
	buffer_add_char(got, '\0');
	cr_expect_str_eq(got->ptr, expected, "%s: %s instead of %s", what, got->ptr, expected);
	buffer_clear(got);
}

/* What writes give, one after the other through one framer with a limit of 5 bytes; - ends the list. */
static const struct {
	const char *what;
	struct {
		const char *bytes;
		ssize_t answer;
		const char *got;
	} writes[6];
	const char *last; /* what the last close gives, NULL for nothing */
} rows[] = {
	{ "whole lines", { { "a\nb\n", 4, "[a][b]" } }, NULL },
	{ "an empty line is an empty message", { { "\n", 1, "[]" }, { "\n\na\n", 4, "[][][a]" } }, NULL },
	{ "a trailing part waits", { { "a\nb", 3, "[a]" }, { "c", 1, "" }, { "\n", 1, "[bc]" } }, NULL },
	{ "the last close ends it", { { "a\nb", 3, "[a]" } }, "[b]" },
	{ "nothing written, nothing published", { { "", 0, "" } }, NULL },
	{ "CRLF stays", { { "a\r\n", 3, "[a\r]" } }, NULL },
	{ "exactly the limit", { { "12345\n", 6, "[12345]" }, { "12345", 5, "" }, { "\n", 1, "[12345]" } }, NULL },
	{ "a long message first", { { "123456\na\n", -EMSGSIZE, "" }, { "a\n", 2, "[a]" } }, NULL },
	{ "a long message after good ones: a short write, then the error",
	    { { "a\nb\n123456\nc\n", 4, "[a][b]" }, { "123456\nc\n", -EMSGSIZE, "" }, { "c\n", 2, "[c]" } }, NULL },
	{ "a long part after good ones", { { "a\n123456", 2, "[a]" }, { "123456", -EMSGSIZE, "" } }, NULL },
	{ "a part grows too long: it is dropped, and its rest is skipped",
	    { { "1234", 4, "" }, { "56", -EMSGSIZE, "" }, { "7", -EMSGSIZE, "" }, { "8\na\nb", 5, "[a]" } }, "[b]" },
	{ "a part ends too long: clean for the next",
	    { { "1234", 4, "" }, { "56\na\n", -EMSGSIZE, "" }, { "a\n", 2, "[a]" } }, NULL },
	{ "a line that is wholly swallowed by the rest of a bad one is refused, not lost in silence",
	    { { "123456", -EMSGSIZE, "" }, { "good\n", -EMSGSIZE, "" }, { "good\n", 5, "[good]" } }, NULL },
	{ "after the rest of a bad message another one: a short write",
	    { { "123456", -EMSGSIZE, "" }, { "7\n123456\n", 2, "" }, { "123456\n", -EMSGSIZE, "" },
		{ "a\n", 2, "[a]" } },
	    NULL },
	{ "the rest of a bad message, then a part",
	    { { "123456", -EMSGSIZE, "" }, { "7\nab", 4, "" }, { "c\n", 2, "[abc]" } }, NULL },
	{ "what is skipped at the last close is no message", { { "123456", -EMSGSIZE, "" } }, NULL },
};

/* Every rule of frame.h, write by write. */
Test(frame, table)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct framer framer;
		struct buffer got = BUFFER_INIT;
		struct engine_batch last;
		framer_init(&framer, FRAME_LINE);
		for (size_t j = 0; j < 6 && rows[i].writes[j].bytes; j++) {
			const char *bytes = rows[i].writes[j].bytes;
			ssize_t answer = write_once(&framer, bytes, strlen(bytes), 5, &got);
			cr_expect_eq(answer, rows[i].writes[j].answer, "%s, write %zu: %zd", rows[i].what, j, answer);
			expect_got(&got, rows[i].writes[j].got, rows[i].what);
		}
		bool left = framer_finish(&framer, &last);
		cr_expect_eq(left, rows[i].last != NULL, "%s", rows[i].what);
		if (left) {
			collect(&got, &last);
			expect_got(&got, rows[i].last ? rows[i].last : "", rows[i].what);
		}
		buffer_release(&got);
		framer_release(&framer);
	}
}

/* Whole lines with nothing kept are handed on where they are. */
Test(frame, copies_nothing)
{
	struct framer framer;
	struct frame_scan scan;
	const char buf[] = "one\ntwo\npart";
	framer_init(&framer, FRAME_LINE);
	cr_assert_eq(framer_scan(&framer, buf, 8, NO_LIMIT, &scan), 0);
	cr_expect_eq(scan.batch.data, buf);
	cr_expect_eq(scan.batch.len, 8);
	cr_expect_eq(scan.batch.count, 2);
	cr_expect_null(scan.batch.lengths);
	cr_expect_null(scan.batch.props);
	cr_expect_eq(scan.batch.ts_ms, -1);
	framer_commit(&framer, &scan, 1);
	cr_expect_null(framer.part, "no memory was needed");
	cr_assert_eq(framer_scan(&framer, buf, 12, NO_LIMIT, &scan), 0);
	cr_expect_eq(scan.batch.data, buf, "a tail does not change that");
	framer_commit(&framer, &scan, 1);
	cr_expect_eq(framer.part_len, 4);
	framer_release(&framer);
}

/* Without a commit a write leaves no trace: the part is what it was, in every framing. */
Test(frame, refused_write_leaves_no_trace)
{
	static const struct {
		enum framing framing;
		const char *part, *refused, *next;
		size_t part_len, refused_len, next_len;
		const char *got;
	} cases[] = {
		{ FRAME_LINE, "ab", "XX\nYY\nZZ", "c\n", 2, 8, 2, "[abc]" },
		{ FRAME_LINE, "ab", "XXXX", "c\n", 2, 4, 2, "[abc]" },
		{ FRAME_LINE, "", "X\nYY", "c\n", 0, 4, 2, "[c]" },
		{ FRAME_NUL, "a\nb", "XX\0Y\nY\0ZZ", "c\0", 3, 9, 2, "[a\nbc]" },
		{ FRAME_JSON, "{", "}\n{}\n{", "\"a\"}\n", 1, 6, 5, "[{\"a\"}]" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct framer framer;
		struct frame_scan scan;
		struct buffer got = BUFFER_INIT;
		framer_init(&framer, cases[i].framing);
		write_once(&framer, cases[i].part, cases[i].part_len, NO_LIMIT, &got);
		for (int again = 0; again < 3; again++)
			cr_assert_eq(framer_scan(&framer, cases[i].refused, cases[i].refused_len, NO_LIMIT, &scan), 0);
		write_once(&framer, cases[i].next, cases[i].next_len, NO_LIMIT, &got);
		expect_got(&got, cases[i].got, "after a refused write");
		buffer_release(&got);
		framer_release(&framer);
	}
}

/* A refused write in the middle of skipping goes on skipping, so that the write can be made again. */
Test(frame, refused_write_keeps_skipping)
{
	struct framer framer;
	struct frame_scan scan;
	struct buffer got = BUFFER_INIT;
	framer_init(&framer, FRAME_LINE);
	cr_assert_eq(write_once(&framer, "123456", 6, 5, &got), -EMSGSIZE);
	cr_assert_eq(framer_scan(&framer, "7\na\n", 4, 5, &scan), 0);
	cr_assert_eq(write_once(&framer, "7\na\n", 4, 5, &got), 4);
	expect_got(&got, "[a]", "the write made again");
	buffer_release(&got);
	framer_release(&framer);
}

/* With NUL as delimiter newlines belong to the payload, and lengths come only when a payload has one. */
Test(frame, nul)
{
	struct framer framer;
	struct frame_scan scan;
	struct engine_batch last;
	struct buffer got = BUFFER_INIT;
	framer_init(&framer, FRAME_NUL);
	cr_assert_eq(framer_scan(&framer, "a\0\0b\0", 5, NO_LIMIT, &scan), 0);
	cr_expect_null(scan.batch.lengths);
	collect(&got, &scan.batch);
	framer_commit(&framer, &scan, 1);
	expect_got(&got, "[a][][b]", "without newlines");
	cr_assert_eq(framer_scan(&framer, "a\nb\0c\0d\n", 8, NO_LIMIT, &scan), 0);
	cr_assert_not_null(scan.batch.lengths);
	collect(&got, &scan.batch);
	framer_commit(&framer, &scan, 1);
	expect_got(&got, "[a\nb][c]", "with newlines");
	cr_assert(framer_finish(&framer, &last));
	collect(&got, &last);
	expect_got(&got, "[d\n]", "the last one");
	buffer_release(&got);
	framer_release(&framer);
}

/* Who wrote the last bytes of the part is known; a part that its writer's death leaves can be dropped. */
Test(frame, pid_and_drop)
{
	struct framer framer;
	struct frame_scan scan;
	struct engine_batch last;
	framer_init(&framer, FRAME_LINE);
	framer_scan(&framer, "ab", 2, 5, &scan);
	framer_commit(&framer, &scan, 100);
	cr_expect_eq(framer.part_pid, 100);
	framer_scan(&framer, "c", 1, 5, &scan);
	framer_commit(&framer, &scan, 200);
	cr_expect_eq(framer.part_pid, 200);
	framer_drop(&framer);
	cr_expect_not(framer_finish(&framer, &last));
	cr_expect_eq(framer.part_pid, 0);
	cr_expect_eq(framer_scan(&framer, "123456", 6, 5, &scan), -EMSGSIZE);
	cr_expect(framer.skipping);
	framer_drop(&framer);
	cr_expect_not(framer.skipping);
	framer_release(&framer);
}

/* A lowered limit holds for what is kept already. */
Test(frame, limit_lowered)
{
	struct framer framer;
	struct buffer got = BUFFER_INIT;
	framer_init(&framer, FRAME_LINE);
	cr_expect_eq(write_once(&framer, "1234567", 7, 10, &got), 7);
	cr_expect_eq(write_once(&framer, "\n", 1, 5, &got), -EMSGSIZE);
	cr_expect_eq(write_once(&framer, "ab\n", 3, 5, &got), 3);
	expect_got(&got, "[ab]", "after it");
	buffer_release(&got);
	framer_release(&framer);
}

/* A bad record takes nothing good along: what comes before it is taken, the write ends there. */
Test(frame, refuse)
{
	static const struct {
		const char *part, *write;
		uint32_t index;
		ssize_t answer; /* of the write with message index refused */
		const char *got;
		size_t part_after;
	} cases[] = {
		{ "", "{a}\n{b}\n{c", 0, -EINVAL, "", 0 },
		{ "", "{a}\n{b}\n{c", 1, 4, "[{a}]", 0 },
		{ "", "{a}\n\n{b}\n", 2, 5, "[{a}][]", 0 },
		{ "{ab", "c}\n{b}\n{c", 0, -EINVAL, "", 3 }, /* kept for the same write again */
		{ "{ab", "c}\n{b}\n{c", 1, 3, "[{abc}]", 0 },
		{ "{ab", "\n{b}\n{c}\n", 2, 5, "[{ab][{b}]", 0 },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct framer framer;
		struct frame_scan scan;
		struct buffer got = BUFFER_INIT;
		framer_init(&framer, FRAME_JSON);
		write_once(&framer, cases[i].part, strlen(cases[i].part), NO_LIMIT, &got);
		cr_assert_eq(framer_scan(&framer, cases[i].write, strlen(cases[i].write), NO_LIMIT, &scan), 0);
		int err = framer_refuse(&framer, &scan, cases[i].index, -EINVAL);
		ssize_t answer = err ? err : (ssize_t)scan.taken;
		cr_expect_eq(answer, cases[i].answer, "case %zu: %zd", i, answer);
		if (!err) {
			collect(&got, &scan.batch);
			framer_commit(&framer, &scan, 1);
		}
		cr_expect_eq(framer.part_len, cases[i].part_after);
		cr_expect_not(framer.skipping);
		expect_got(&got, cases[i].got, "refuse");
		cr_expect_eq(write_once(&framer, "{n}\n", 4, NO_LIMIT, &got), 4);
		expect_got(&got, "[{n}]", "the next write");
		buffer_release(&got);
		framer_release(&framer);
	}
}

/* The same with NUL as delimiter, where what is taken may have newlines. */
Test(frame, refuse_nul)
{
	struct framer framer;
	struct frame_scan scan;
	struct buffer got = BUFFER_INIT;
	framer_init(&framer, FRAME_NUL);
	cr_assert_eq(framer_scan(&framer, "a\nb\0c\0d", 7, NO_LIMIT, &scan), 0);
	cr_assert_eq(framer_refuse(&framer, &scan, 1, -EINVAL), 0);
	cr_expect_eq(scan.taken, 4);
	collect(&got, &scan.batch);
	framer_commit(&framer, &scan, 1);
	expect_got(&got, "[a\nb]", "what came before");
	cr_expect_eq(framer.part_len, 0);
	buffer_release(&got);
	framer_release(&framer);
}

/* A write that was refused goes on with the part if it is made again, and with nothing if it is another. */
Test(frame, refused_and_made_again)
{
	struct framer framer;
	struct frame_scan scan;
	struct buffer got = BUFFER_INIT;
	framer_init(&framer, FRAME_LINE);
	write_once(&framer, "ab", 2, NO_LIMIT, &got);
	for (int again = 0; again < 2; again++) {
		cr_assert_eq(framer_scan(&framer, "cd\n", 3, NO_LIMIT, &scan), 0);
		cr_expect_eq(framer_refuse(&framer, &scan, 0, -EDQUOT), -EDQUOT);
	}
	cr_expect_eq(write_once(&framer, "cd\n", 3, NO_LIMIT, &got), 3);
	expect_got(&got, "[abcd]", "the same write");
	write_once(&framer, "ab", 2, NO_LIMIT, &got);
	cr_assert_eq(framer_scan(&framer, "cd\n", 3, NO_LIMIT, &scan), 0);
	cr_expect_eq(framer_refuse(&framer, &scan, 0, -EDQUOT), -EDQUOT);
	cr_expect_eq(write_once(&framer, "ef\n", 3, NO_LIMIT, &got), 3);
	expect_got(&got, "[ef]", "another write");
	buffer_release(&got);
	framer_release(&framer);
}

/* So it is with what a write left without an end. */
Test(frame, refused_part)
{
	struct framer framer;
	struct frame_scan scan;
	struct buffer got = BUFFER_INIT;
	framer_init(&framer, FRAME_LINE);
	write_once(&framer, "ab", 2, NO_LIMIT, &got);
	for (int again = 0; again < 2; again++) {
		cr_assert_eq(framer_scan(&framer, "cd", 2, NO_LIMIT, &scan), 0);
		struct frame_scan taken = scan;
		framer_commit(&framer, &scan, 7);
		cr_expect_eq(framer_refuse_part(&framer, &taken), 0);
	}
	write_once(&framer, "cd", 2, NO_LIMIT, &got);
	cr_expect_eq(write_once(&framer, "\nef", 3, NO_LIMIT, &got), 3);
	expect_got(&got, "[abcd]", "the same write");
	cr_assert_eq(framer_scan(&framer, "gh\nij", 5, NO_LIMIT, &scan), 0);
	struct frame_scan taken = scan;
	framer_commit(&framer, &scan, 7);
	cr_expect_eq(framer_refuse_part(&framer, &taken), 3, "what was whole stands");
	cr_expect_eq(framer.part_len, 0);
	buffer_release(&got);
	framer_release(&framer);
}

/* The kernel cuts a long write, and makes a refused last piece again: the end of a message is not one. */
Test(frame, piece_made_again)
{
	enum { PIECE = 1 << 20 };
	struct framer framer;
	struct buffer got = BUFFER_INIT;
	char *piece = malloc(PIECE);
	memset(piece, 'x', PIECE);
	framer_init(&framer, FRAME_LINE);
	cr_expect_eq(write_once(&framer, piece, PIECE, PIECE + 1, &got), PIECE);
	cr_expect_eq(write_once(&framer, "yz\na\n", 5, PIECE + 1, &got), -EMSGSIZE);
	cr_expect_eq(write_once(&framer, "yz\na\n", 5, PIECE + 1, &got), -EMSGSIZE);
	cr_expect_eq(write_once(&framer, "b\n", 2, PIECE + 1, &got), 2);
	expect_got(&got, "[b]", "after a message that was too long");
	free(piece);
	buffer_release(&got);
	framer_release(&framer);
}

/* A bad record right behind the rest of a long one: that rest is taken as done, the record is refused next time. */
Test(frame, refuse_after_skipping)
{
	struct framer framer;
	struct frame_scan scan;
	struct buffer got = BUFFER_INIT;
	framer_init(&framer, FRAME_JSON);
	cr_assert_eq(write_once(&framer, "123456", 6, 5, &got), -EMSGSIZE);
	cr_assert_eq(framer_scan(&framer, "7\n{x\n", 5, 5, &scan), 0);
	cr_assert_eq(framer_refuse(&framer, &scan, 0, -EINVAL), 0);
	cr_expect_eq(scan.batch.count, 0);
	cr_expect_eq(scan.taken, 2);
	framer_commit(&framer, &scan, 1);
	cr_assert_eq(framer_scan(&framer, "{x\n", 3, 5, &scan), 0);
	cr_expect_eq(framer_refuse(&framer, &scan, 0, -EINVAL), -EINVAL);
	buffer_release(&got);
	framer_release(&framer);
}

/*
 * The client of the random tests: writes a stream in pieces of random size, writes again what a short write left, and
 * after an error goes on behind the bad message or, if that has no end yet, with the next piece.
 */
static void pump(struct framer *framer, const char *stream, size_t size, size_t limit, size_t most, struct buffer *got)
{
	char end = framer->framing == FRAME_NUL ? '\0' : '\n';
	for (size_t at = 0; at < size;) {
		size_t piece = most > 1 ? 1 + (size_t)rand() % most : 1;
		piece = piece < size - at ? piece : size - at;
		char *copy = malloc(piece); /* so that the sanitizer sees a read past its end */
		memcpy(copy, stream + at, piece);
		ssize_t taken = write_once(framer, copy, piece, limit, got);
		if (taken == -EMSGSIZE) {
			const char *found = memchr(copy, end, piece);
			taken = found ? found + 1 - copy : (ssize_t)piece;
		}
		cr_assert_gt(taken, 0);
		at += (size_t)taken;
		cr_assert_leq(framer->part_len, limit);
		cr_assert_leq(framer->part_cap, limit + 1 > IDLE_MAX ? limit + 1 : IDLE_MAX);
		free(copy);
	}
	struct engine_batch last;
	if (framer_finish(framer, &last))
		collect(got, &last);
	framer_release(framer);
}

/* The messages of a stream that are not over the limit, found by splitting it whole. */
static void split_whole(const char *stream, size_t size, char end, size_t limit, struct buffer *expected)
{
	for (size_t at = 0; at < size;) {
		const char *found = memchr(stream + at, end, size - at);
		size_t len = found ? (size_t)(found - stream) - at : size - at;
		if (len <= limit) {
			buffer_add_char(expected, '[');
			buffer_add(expected, stream + at, len);
			buffer_add_char(expected, ']');
		}
		at += len + (found ? 1 : 0);
	}
}

static void expect_same(struct buffer *got, struct buffer *expected, unsigned seed)
{
	cr_assert_eq(got->len, expected->len, "seed %u: %zu bytes instead of %zu", seed, got->len, expected->len);
	cr_assert(got->len == 0 || memcmp(got->ptr, expected->ptr, got->len) == 0, "seed %u", seed);
	buffer_release(got);
	buffer_release(expected);
}

/* However a stream is cut, and however many of its messages are too long, the good ones come out, whole and in order. */
Test(frame, random_cuts)
{
	for (unsigned seed = 1; seed <= 3000; seed++) {
		srand(seed);
		char stream[4096];
		size_t size = (size_t)rand() % sizeof(stream), delimiters = 1 + (size_t)rand() % 40;
		for (size_t i = 0; i < size; i++)
			stream[i] = (size_t)rand() % delimiters == 0 ? "\n\0"[rand() % 2] : (char)rand();
		struct framer framer;
		struct buffer got = BUFFER_INIT, expected = BUFFER_INIT;
		enum framing framing = seed % 2 ? FRAME_LINE : FRAME_NUL;
		size_t limit = seed % 3 ? (size_t)rand() % 100 : sizeof(stream);
		framer_init(&framer, framing);
		pump(&framer, stream, size, limit, 1 + (size_t)rand() % 300, &got);
		split_whole(stream, size, framing == FRAME_NUL ? '\0' : '\n', limit, &expected);
		expect_same(&got, &expected, seed);
	}
}

/* dd bs=1 gives the same messages as one write. */
Test(frame, single_bytes)
{
	enum { SIZE = 200000 };
	char *stream = malloc(SIZE);
	struct framer framer;
	struct buffer got = BUFFER_INIT, expected = BUFFER_INIT;
	for (size_t i = 0; i < SIZE; i++)
		stream[i] = i % 5000 == 4999 || i % 7 == 6 ? '\n' : (char)('a' + i % 26);
	memset(stream + 50000, 'x', 100000); /* one long message among the short ones */
	framer_init(&framer, FRAME_LINE);
	pump(&framer, stream, SIZE, SIZE, 1, &got);
	split_whole(stream, SIZE, '\n', SIZE, &expected);
	expect_same(&got, &expected, 0);
	free(stream);
}

/* A gibibyte without a newline costs EMSGSIZE and no more memory than the limit; its end makes the channel good again. */
Test(frame, gibibyte_without_newline)
{
	enum { PIECE = 1 << 20, PIECES = 1024, LIMIT = 4 << 20 };
	char *piece = malloc(PIECE);
	memset(piece, 'x', PIECE);
	struct framer framer;
	struct buffer got = BUFFER_INIT;
	framer_init(&framer, FRAME_LINE);
	for (int i = 0; i < PIECES; i++) {
		ssize_t taken = write_once(&framer, piece, PIECE, LIMIT, &got);
		cr_assert_eq(taken, i < LIMIT / PIECE ? PIECE : -EMSGSIZE, "piece %d: %zd", i, taken);
		cr_assert_leq(framer.part_cap + framer.spare_cap, LIMIT + 1);
		cr_assert(i < LIMIT / PIECE || framer.part == NULL, "nothing is held while skipping");
	}
	cr_expect_eq(write_once(&framer, "end\ngood\n", 9, LIMIT, &got), 9);
	expect_got(&got, "[good]", "after the gibibyte");
	free(piece);
	buffer_release(&got);
	framer_release(&framer);
}

/* However much went through it, a framer holds little more than what it keeps. */
Test(frame, idle_is_small)
{
	enum { SIZE = 1 << 20 };
	char *piece = malloc(SIZE);
	memset(piece, 'x', SIZE);
	memset(piece + 1000, '\0', 20000); /* many messages: room for many lengths, as the first has a newline */
	piece[1] = '\n';
	struct framer framer;
	struct buffer got = BUFFER_INIT;
	framer_init(&framer, FRAME_NUL);
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(write_once(&framer, piece, SIZE / 2, SIZE, &got), SIZE / 2);
		piece[SIZE - 1] = '\0';
		cr_assert_eq(write_once(&framer, piece + SIZE / 2, SIZE / 2, SIZE, &got), SIZE / 2);
		cr_expect_eq(framer.part_len, 0);
		cr_expect_leq(framer.part_cap + framer.spare_cap + 4 * framer.lengths_cap, 2 * IDLE_MAX);
		piece[SIZE - 1] = 'x';
		cr_assert_eq(write_once(&framer, piece, SIZE / 2 - 7, SIZE, &got), SIZE / 2 - 7);
		cr_assert_eq(write_once(&framer, piece, 1500, SIZE, &got), 1500);
	}
	free(piece);
	buffer_release(&got);
	framer_release(&framer);
}

/* Without memory a write is refused, and nothing of it was taken: made again it gives what it would have given. */
Test(frame, no_memory)
{
	static const char stream[] =
	    "a\0bc\ne\0f\0jjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjj\0k\n\0l\nm\0n";
	static const size_t steps[] = { 1, 3, 8, 3, 30, 50 };
	bool reached = true;
	unsigned refused = 0;

	for (uint64_t n = 1; reached; n++) {
		struct buffer got = BUFFER_INIT, expected = BUFFER_INIT;
		struct framer framer;
		uint64_t left = n; /* allocations until one fails; 0: it has failed */

		framer_init(&framer, FRAME_NUL);
		for (size_t i = 0, at = 0, len; at < sizeof(stream) - 1; at += len) {
			struct frame_scan scan;
			uint64_t count;
			int err;

			len = sizeof(stream) - 1 - at < steps[i % 6] ? sizeof(stream) - 1 - at : steps[i % 6];
			i++;
			alloc_arm(left);
			err = framer_scan(&framer, stream + at, len, NO_LIMIT, &scan);
			count = alloc_disarm();
			cr_assert_eq(err, left > 0 && count >= left ? -ENOMEM : 0);
			left -= count < left ? count : left;
			refused += err != 0;
			if (err == 0) {
				collect(&got, &scan.batch);
				framer_commit(&framer, &scan, 7);
			} else {
				cr_assert_eq(write_once(&framer, stream + at, len, NO_LIMIT, &got), (ssize_t)(len));
			}
		}
		reached = left == 0;
		cr_assert_eq(framer.part_len, 1);
		buffer_add(&got, "[n]", 3);
		split_whole(stream, sizeof(stream) - 1, '\0', NO_LIMIT, &expected);
		expect_same(&got, &expected, (unsigned)n);
		framer_release(&framer);
	}
	cr_assert_geq(refused, 4);
}
