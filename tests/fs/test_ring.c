/* The last lines: numbering, what is lost, and many threads at once. */
#include "fs/ring.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/utf8.h"

static void add(struct ring *ring, const char *text)
{
	uint64_t number, end = ring_end(ring);
	cr_assert_eq(ring_add(ring, text, strlen(text), &number), 0);
	cr_assert_eq(number, end);
}

/* Reads and compares in one line: the text, the count, where to go on, and how many are gone. */
static void expect(
    struct ring *ring, uint64_t from, uint32_t max, const char *text, int count, uint64_t next, uint64_t lost)
{
	struct buffer out = BUFFER_INIT;
	uint64_t got_next = 999, got_lost = 999;
	int got = ring_read(ring, from, max, &out, &got_next, &got_lost);
	buffer_add_char(&out, '\0');
	cr_expect_str_eq(out.ptr, text);
	cr_expect(got == count && got_next == next && got_lost == lost, "from %d: %d, next %d, lost %d", (int)from, got,
	    (int)got_next, (int)got_lost);
	buffer_release(&out);
}

/* Lines are numbered from 0; who reads gets them from where it wants, and is told what is gone. */
Test(ring, table)
{
	struct ring ring;
	cr_assert_eq(ring_init(&ring, 3), 0);
	expect(&ring, 0, 0, "", 0, 0, 0);
	add(&ring, "zero");
	add(&ring, "one");
	expect(&ring, 0, 0, "zero\none\n", 2, 2, 0);
	expect(&ring, 1, 0, "one\n", 1, 2, 0);
	expect(&ring, 2, 0, "", 0, 2, 0);
	expect(&ring, 7, 0, "", 0, 7, 0);
	add(&ring, "");
	expect(&ring, 0, 2, "zero\none\n", 2, 2, 0);
	expect(&ring, 2, 2, "\n", 1, 3, 0);
	add(&ring, "three");
	add(&ring, "four");
	expect(&ring, 0, 0, "\nthree\nfour\n", 3, 5, 2);
	expect(&ring, 1, 1, "\n", 1, 3, 1);
	expect(&ring, 4, 0, "four\n", 1, 5, 0);
	expect(&ring, UINT64_MAX, 5, "", 0, UINT64_MAX, 0);
	ring_release(&ring);
	ring_release(&ring);
}

/* A ring of one line keeps the last one. */
Test(ring, smallest)
{
	struct ring ring;
	cr_assert_eq(ring_init(&ring, 1), 0);
	for (int i = 0; i < 10; i++)
		add(&ring, i == 9 ? "last" : "before");
	expect(&ring, 0, 0, "last\n", 1, 10, 9);
	ring_release(&ring);
}

/* A line is one line whatever is in it, and a long one is cut at a character. */
Test(ring, one_line_each)
{
	struct ring ring;
	struct buffer out = BUFFER_INIT;
	uint64_t next, lost;
	char text[RING_LINE_MAX + 10];
	cr_assert_eq(ring_init(&ring, 4), 0);
	cr_assert_eq(ring_add(&ring, "a\nb\r\0c\x1b", 7, NULL), 0);
	expect(&ring, 0, 0, "a b  c \n", 1, 1, 0);
	/* nor is there anything a terminal acts on: C1, what turns the direction of writing, bytes that are no UTF-8 */
	cr_assert_eq(ring_add(&ring,
			 "\xc2\x9b"
			 "2J \xe2\x80\xaegpj \xff '\\\"",
			 17, NULL),
	    0);
	expect(&ring, 1, 0, "\\xc2\\x9b2J \\xe2\\x80\\xaegpj \\xff '\\\"\n", 1, 2, 0);
	for (size_t shift = 0; shift < 4; shift++) {
		memset(text, 'x', shift);
		for (size_t at = shift; at + 4 <= sizeof(text); at += 4)
			memcpy(text + at, "\xf0\x9f\x93\xa8", 4);
		cr_assert_eq(ring_add(&ring, text, sizeof(text) - 4, NULL), 0);
		buffer_clear(&out);
		cr_assert_eq(ring_read(&ring, shift + 2, 0, &out, &next, &lost), 1);
		cr_expect_eq(out.len, RING_LINE_MAX + 1 - (4 - shift) % 4);
		cr_expect(utf8_valid(out.ptr, out.len));
	}
	buffer_release(&out);
	ring_release(&ring);
}

enum { WRITERS = 4, LINES = 3000, SIZE = 64 };

struct writer {
	struct ring *ring;
	int number;
	pthread_t thread;
};

static void *write_lines(void *arg)
{
	struct writer *writer = arg;
	char text[32];
	for (int i = 0; i < LINES; i++) {
		int len = snprintf(text, sizeof(text), "%d %d", writer->number, i);
		if (ring_add(writer->ring, text, (size_t)len, NULL))
			abort();
	}
	return NULL;
}

/* Takes lines apart and checks that each writer's come in order; returns how many there were. */
static int check_order(const struct buffer *out, int last[WRITERS])
{
	int count = 0, writer, line, used;
	for (const char *at = out->ptr; at < out->ptr + out->len; at += used + 1, count++) {
		cr_assert_eq(sscanf(at, "%d %d%n", &writer, &line, &used), 2);
		cr_assert(writer >= 0 && writer < WRITERS && line > last[writer] && line < LINES && at[used] == '\n');
		last[writer] = line;
	}
	return count;
}

/* With writers at work, a reader gets whole lines, in order, and gets or misses every one. */
Test(ring, threads)
{
	struct ring ring;
	struct writer writers[WRITERS];
	int last[WRITERS] = { -1, -1, -1, -1 };
	uint64_t next = 0, lost, seen = 0, missed = 0;
	cr_assert_eq(ring_init(&ring, SIZE), 0);
	for (int i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){ .ring = &ring, .number = i };
		cr_assert_eq(pthread_create(&writers[i].thread, NULL, write_lines, &writers[i]), 0);
	}
	while (next < (uint64_t)WRITERS * LINES) {
		struct buffer out = BUFFER_INIT;
		int count = ring_read(&ring, next, 0, &out, &next, &lost);
		cr_assert(count >= 0 && count <= SIZE);
		buffer_add_char(&out, '\0');
		out.len--;
		cr_assert_eq(check_order(&out, last), count);
		seen += (uint64_t)count;
		missed += lost;
		buffer_release(&out);
	}
	for (int i = 0; i < WRITERS; i++)
		pthread_join(writers[i].thread, NULL);
	cr_expect_eq(seen + missed, WRITERS * LINES);
	ring_release(&ring);
}
