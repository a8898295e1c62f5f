/*
 * Tests of engine/journal: what was appended comes back after a close, a kill, a cut and a flipped bit.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/crc32c.h"
#include "engine/io.h"
#include "engine/journal.h"
#include "engine/journal_internal.h"
#include "tests/lib/alloc.h"
#include "tests/lib/tmpdir.h"

static const uint8_t uuid[16] = { 0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x42, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x14, 0x17,
	0x40, 0 };
static struct tmpdir dir;

/* What a replay gave and what was reported meanwhile. */
struct seen {
	size_t count, bytes;
	uint64_t sum;            /* of a CRC of every record, each times its place */
	uint64_t committed[512]; /* of cursors, by place */
	size_t reports, errors;
	char text[256]; /* of the last report */
	size_t fail_at; /* place at which the replay refuses */
};

static uint64_t record_sum(size_t place, int type, const void *record, size_t size)
{
	return (place + 1) * (uint64_t)crc32c((uint32_t)type, record, size);
}

static int see(void *ctx, enum journal_type type, const void *record, size_t size)
{
	struct seen *seen = ctx;
	struct journal_cursor cursor;

	if (seen->fail_at != 0 && seen->count == seen->fail_at)
		return -ENOTRECOVERABLE;
	cr_assert_eq((uintptr_t)record % 8, 0);
	if (type == JOURNAL_CURSOR && journal_decode_cursor(record, size, &cursor) == 0 && seen->count < 512)
		seen->committed[seen->count] = cursor.committed;
	seen->sum += record_sum(seen->count, (int)type, record, size);
	seen->count++;
	seen->bytes += size;
	return 0;
}

static void hear(void *ctx, int err, const char *text)
{
	struct seen *seen = ctx;

	seen->reports++;
	if (err)
		seen->errors++;
	snprintf(seen->text, sizeof(seen->text), "%s", text);
}

static int try_open_from(uint64_t from, bool read_only, struct seen *seen, struct journal **ret_journal)
{
	struct engine_notify notify = { .fn = hear, .ctx = seen };

	return journal_open(dir.fd, uuid, read_only, from, notify, see, seen, ret_journal);
}

static int try_open(bool read_only, struct seen *seen, struct journal **ret_journal)
{
	return try_open_from(0, read_only, seen, ret_journal);
}

static struct journal *open_journal(struct seen *seen)
{
	struct journal *journal;

	cr_assert_eq(try_open(false, seen, &journal), 0, "%s", engine_reason());
	return journal;
}

static void append(struct journal *journal, uint64_t committed)
{
	struct journal_cursor cursor = {
		.group_id = 7, .partition = 3, .committed = committed, .given = committed + 1
	};

	cr_assert_eq(journal_append_cursor(journal, &cursor, NULL), 0);
}

/* Makes file 1 with records 1..count and nothing else in the directory; returns its size. */
static size_t make_records(uint64_t count)
{
	struct seen seen = { 0 };
	struct journal *journal = open_journal(&seen);

	for (uint64_t i = 1; i <= count; i++)
		append(journal, i);
	cr_assert_eq(journal_close(journal), 0);
	return JOURNAL_HEADER + count * 48;
}

/* One more, in a file of its own. */
static void append_one(uint64_t committed)
{
	struct seen seen = { 0 };
	struct journal *journal = open_journal(&seen);

	append(journal, committed);
	cr_assert_eq(journal_close(journal), 0);
}

static size_t read_file(const char *name, uint8_t *buf, size_t size)
{
	int fd = openat(dir.fd, name, O_RDONLY);
	ssize_t n;

	cr_assert(fd >= 0, "%s: %s", name, strerror(errno));
	n = read(fd, buf, size);
	close(fd);
	cr_assert(n >= 0);
	return (size_t)n;
}

static void write_file(const char *name, const void *buf, size_t size)
{
	int fd = openat(dir.fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	cr_assert(fd >= 0);
	cr_assert_eq(write(fd, buf, size), (ssize_t)size);
	close(fd);
}

static bool exists(const char *name)
{
	return faccessat(dir.fd, name, F_OK, 0) == 0;
}

/* Opens what is there, and closes without a trace: the next look sees the same. */
static struct seen look(void)
{
	struct journal *journal;
	struct seen seen = { 0 };

	cr_assert_eq(try_open(true, &seen, &journal), 0, "%s", engine_reason());
	cr_assert_eq(journal_close(journal), 0);
	return seen;
}

static void init(void)
{
	tmpdir_make(&dir);
}

static void fini(void)
{
	io = &io_posix;
	tmpdir_remove(&dir);
}

TestSuite(journal, .init = init, .fini = fini, .timeout = 60);

/* Records of every size come back in order, over any number of openings. */
Test(journal, replays_what_was_appended)
{
	static const size_t sizes[] = { 0, 1, 7, 8, 9, 40, 4095, 65528, JOURNAL_RECORD_MAX };
	static uint8_t bytes[JOURNAL_RECORD_MAX];
	size_t count = 0, total = 0;
	uint64_t sum = 0;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 31);
	for (int round = 0; round < 3; round++) {
		struct seen seen = { 0 };
		struct journal *journal = open_journal(&seen);

		cr_assert_eq(seen.count, count);
		cr_assert_eq(seen.bytes, total);
		cr_assert_eq(seen.sum, sum);
		cr_assert_eq(seen.reports, 0, "%s", seen.text);
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			int type = round == 0 ? 200 : JOURNAL_CURSOR;

			cr_assert_eq(journal_append(journal, (enum journal_type)type, bytes, sizes[i], NULL), 0);
			sum += record_sum(count++, type, bytes, sizes[i]);
			total += sizes[i];
		}
		cr_assert_eq(journal_close(journal), 0);
	}
}

/* More than the reader holds at once, with records across every border of its window, comes back the same. */
Test(journal, replays_more_than_its_window)
{
	static uint8_t bytes[3000];
	struct seen seen = { 0 };
	struct journal *journal = open_journal(&seen);
	uint64_t sum = 0;
	size_t n = 1000;

	for (size_t i = 0; i < n; i++) {
		memset(bytes, (int)i, sizeof(bytes));
		cr_assert_eq(journal_append(journal, (enum journal_type)9, bytes, i * 3, NULL), 0);
		sum += record_sum(i, 9, bytes, i * 3);
	}
	cr_assert_eq(journal_close(journal), 0);
	seen = look();
	cr_assert_eq(seen.count, n);
	cr_assert_eq(seen.sum, sum);
	cr_assert_eq(seen.reports, 0);
}

/* Files below the number are passed over, and stay. What is begun later is not one of them, even if there is no file at all. */
Test(journal, begins_where_it_is_told)
{
	struct seen seen = { 0 };
	struct journal *journal = open_journal(&seen);
	uint64_t number;

	append(journal, 1);
	cr_assert_eq(journal_rotate(journal, &number), 0);
	append(journal, 20);
	cr_assert_eq(journal_close(journal), 0);
	cr_assert_eq(try_open_from(number, true, &seen, &journal), 0);
	cr_assert_eq(seen.count, 1);
	cr_assert_eq(seen.committed[0], 20);
	cr_assert_eq(journal_close(journal), 0);
	cr_assert_eq(look().count, 2);
	seen = (struct seen){ 0 };
	cr_assert_eq(try_open_from(100, false, &seen, &journal), 0);
	cr_assert_eq(seen.count, 0);
	append(journal, 300);
	cr_assert_eq(journal_close(journal), 0);
	seen = (struct seen){ 0 };
	cr_assert_eq(try_open_from(100, true, &seen, &journal), 0);
	cr_assert_eq(seen.count, 1);
	cr_assert_eq(journal_close(journal), 0);
}

/* The bytes of a file are those of mqfs-format(5). */
Test(journal, has_the_documented_bytes)
{
	static const uint8_t expected[] = {
		'm', 'q', 'f', 's', 'j', 'r', 'n', 'l', 0x01, 0, 0, 0, 0, 0, 0, 0,                           /* 0 */
		0x12, 0x3e, 0x45, 0x67, 0xe8, 0x9b, 0x42, 0xd3, 0xa4, 0x56, 0x42, 0x66, 0x14, 0x17, 0x40, 0, /* 16 */
		0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,                                           /* 32 */
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe8, 0xfd, 0x0d, 0x41,                                  /* 48 */
		0xc2, 0x81, 0x62, 0x36, 0x01, 0, 0x28, 0, 0x07, 0, 0, 0, 0, 0, 0, 0,                         /* 64 */
		0x02, 0x01, 0, 0, 0, 0, 0, 0, 0x04, 0x01, 0, 0, 0, 0, 0, 0,                                  /* 80 */
		0x05, 0, 0, 0, 0, 0, 0, 0, 0x03, 0, 0, 0, 0, 0, 0, 0,                                        /* 96 */
	};
	struct journal_cursor cursor = { .group_id = 7, .partition = 3, .committed = 0x102, .given = 0x104, .lost = 5 };
	struct seen seen = { 0 };
	struct journal *journal = open_journal(&seen);
	uint8_t bytes[256];
	size_t n;

	cr_assert_eq(journal_append_cursor(journal, &cursor, NULL), 0);
	cr_assert_eq(journal_close(journal), 0);
	n = read_file("0000000000000001", bytes, sizeof(bytes));
	cr_assert_eq(n, sizeof(expected));
	for (size_t i = 0; i < n; i++)
		cr_expect_eq(bytes[i], expected[i], "byte %zu is 0x%02x, not 0x%02x", i, bytes[i], expected[i]);
}

/* A cursor survives the way into a record and back; another size is EBADMSG. */
Test(journal, decodes_cursors)
{
	struct journal_cursor cursor = { .group_id = 0, .committed = 99 };
	uint8_t record[41] = { 0 };

	bytes_put64(record, UINT64_MAX);
	bytes_put64(record + 8, 1ull << 40);
	bytes_put64(record + 16, 2);
	bytes_put64(record + 24, 3);
	bytes_put32(record + 32, UINT32_MAX);
	cr_assert_eq(journal_decode_cursor(record, 39, &cursor), -EBADMSG);
	cr_assert_eq(journal_decode_cursor(record, 41, &cursor), -EBADMSG);
	cr_assert_eq(cursor.committed, 99);
	cr_assert_eq(journal_decode_cursor(record, 40, &cursor), 0);
	cr_assert_eq(cursor.group_id, UINT64_MAX);
	cr_assert_eq(cursor.committed, 1ull << 40);
	cr_assert_eq(cursor.given, 2);
	cr_assert_eq(cursor.lost, 3);
	cr_assert_eq(cursor.partition, UINT32_MAX);
}

/* What cannot be a record is refused and changes nothing. */
Test(journal, refuses_what_cannot_be_a_record)
{
	static uint8_t bytes[JOURNAL_RECORD_MAX + 1];
	struct seen seen = { 0 };
	struct journal *journal = open_journal(&seen);
	uint64_t pos = 77;

	cr_assert_eq(journal_append(journal, JOURNAL_CURSOR, bytes, sizeof(bytes), &pos), -EMSGSIZE);
	cr_assert_eq(journal_append(journal, (enum journal_type)0, bytes, 1, &pos), -EINVAL);
	cr_assert_eq(journal_append(journal, (enum journal_type)256, bytes, 1, &pos), -EINVAL);
	cr_assert_eq(pos, 77);
	cr_assert_eq(journal_end(journal), 0);
	cr_assert_eq(journal_close(journal), 0);
}

/* Positions rise with every record, and journal_synced follows only after a sync, or a rotate. */
Test(journal, tells_positions)
{
	struct seen seen = { 0 };
	struct journal *journal = open_journal(&seen);
	uint64_t first, second, number;

	cr_assert_eq(journal_append(journal, JOURNAL_CURSOR, "a", 1, &first), 0);
	cr_assert_eq(first, 16);
	cr_assert_eq(journal_append(journal, JOURNAL_CURSOR, "bcdefghij", 9, &second), 0);
	cr_assert_eq(second, 16 + 24);
	cr_assert_eq(journal_end(journal), second);
	cr_assert_eq(journal_synced(journal), 0);
	cr_assert_eq(journal_sync(journal), 0);
	cr_assert_eq(journal_synced(journal), second);
	append(journal, 1);
	cr_assert_lt(journal_synced(journal), journal_end(journal));
	cr_assert_eq(journal_rotate(journal, &number), 0);
	cr_assert_eq(journal_synced(journal), journal_end(journal));
	cr_assert_eq(journal_close(journal), 0);
}

/* A file cut at any byte gives the records that are whole, says so if it cut one, and the journal goes on. */
Test(journal, survives_a_cut_at_every_byte)
{
	size_t size = make_records(4);
	uint8_t bytes[512];

	cr_assert_eq(read_file("0000000000000001", bytes, sizeof(bytes)), size);
	for (size_t cut = 0; cut <= size; cut++) {
		size_t whole = cut < JOURNAL_HEADER ? 0 : (cut - JOURNAL_HEADER) / 48;
		bool torn = cut < JOURNAL_HEADER ? cut > 0 : (cut - JOURNAL_HEADER) % 48 != 0;
		struct seen seen = { 0 };
		struct journal *journal;

		write_file("0000000000000001", bytes, cut);
		journal = open_journal(&seen);
		cr_assert_eq(seen.count, whole, "cut at %zu: %zu records", cut, seen.count);
		for (size_t i = 0; i < whole; i++)
			cr_assert_eq(seen.committed[i], i + 1);
		cr_assert_eq(seen.reports, torn, "cut at %zu: %s", cut, seen.text);
		append(journal, 1000);
		cr_assert_eq(journal_close(journal), 0);
		seen = look();
		cr_assert_eq(seen.count, whole + 1);
		cr_assert_eq(seen.committed[whole], 1000);
		cr_assert_eq(unlinkat(dir.fd, "0000000000000002", 0), 0);
	}
}

/* Zero bytes at the end, as a crash leaves of a file that had grown, are passed over without a word. */
Test(journal, passes_over_a_zero_tail)
{
	static uint8_t bytes[8192];
	size_t size = make_records(3);
	struct seen seen;

	read_file("0000000000000001", bytes, sizeof(bytes));
	for (size_t zeros = 1; zeros < 5000; zeros += 611) {
		write_file("0000000000000001", bytes, size + zeros);
		seen = look();
		cr_assert_eq(seen.count, 3);
		cr_assert_eq(seen.reports, 0, "%s", seen.text);
	}
}

/* A flipped bit costs the record it is in and is reported; in the header it costs none. */
Test(journal, loses_one_record_by_a_flipped_bit)
{
	size_t size = make_records(5);
	uint8_t bytes[512];

	cr_assert_eq(read_file("0000000000000001", bytes, sizeof(bytes)), size);
	for (size_t at = 0; at < size; at++) {
		size_t hit = at < JOURNAL_HEADER ? SIZE_MAX : (at - JOURNAL_HEADER) / 48;
		struct seen seen;

		bytes[at] ^= (uint8_t)(1 << at % 8);
		write_file("0000000000000001", bytes, size);
		bytes[at] ^= (uint8_t)(1 << at % 8);
		seen = look();
		cr_assert_eq(seen.count, hit == SIZE_MAX ? 5 : 4, "byte %zu", at);
		for (size_t i = 0; i < seen.count; i++)
			cr_assert_eq(seen.committed[i], i < hit ? i + 1 : i + 2, "byte %zu", at);
		cr_assert_eq(seen.reports, 1);
		cr_assert_eq(seen.errors, hit == 4 ? 0 : 1, "%s", seen.text);
	}
}

/* Bytes inside of a record that look like one, even with the right CRC for another file, are none. */
Test(journal, finds_no_records_in_bodies)
{
	uint8_t forged[64] = { 0 };
	struct seen seen = { 0 };
	struct journal *journal = open_journal(&seen);
	uint8_t bytes[512];
	size_t n;

	bytes_put32(forged + 4, JOURNAL_CURSOR | 40u << 16);
	bytes_put32(forged, crc32c(journal_seed(uuid, 2), forged + 4, 44));
	cr_assert_eq(journal_append(journal, (enum journal_type)2, forged, sizeof(forged), NULL), 0);
	append(journal, 5);
	cr_assert_eq(journal_close(journal), 0);
	n = read_file("0000000000000001", bytes, sizeof(bytes));
	bytes[JOURNAL_HEADER] ^= 1; /* the outer record is lost */
	write_file("0000000000000001", bytes, n);
	seen = look();
	cr_assert_eq(seen.count, 1);
	cr_assert_eq(seen.committed[0], 5);
}

/* A newer format, a file of another store and a file under another's name are refused, with a sentence. */
Test(journal, refuses_files_that_are_not_its_own)
{
	static const struct {
		size_t at;
		uint8_t value;
		const char *word;
	} rows[] = {
		{ 8, 2, "format 2" },
		{ 16, 0xee, "another store" },
		{ 32, 9, "another name" },
	};
	size_t size = make_records(2);
	uint8_t good[512], bytes[512];

	read_file("0000000000000001", good, sizeof(good));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct seen seen = { 0 };
		struct journal *journal = NULL;

		memcpy(bytes, good, size);
		bytes[rows[i].at] = rows[i].value;
		bytes_put32(bytes + 60, crc32c(0, bytes, 60));
		write_file("0000000000000001", bytes, size);
		cr_assert_eq(try_open(false, &seen, &journal), -EUCLEAN);
		cr_assert_null(journal);
		cr_assert_not_null(strstr(engine_reason(), rows[i].word), "%s", engine_reason());
		cr_assert_eq(seen.count, 0);
		cr_assert_not(exists("0000000000000002"));
	}
}

/* Other names in the directory are nobody's business; a name with 16 digits is a file of ours. */
Test(journal, passes_over_other_names)
{
	struct seen seen;

	make_records(2);
	write_file("notes", "x", 1);
	write_file("000000000000000A", "x", 1);
	write_file("0000000000000001.bak", "x", 1);
	cr_assert_eq(mkdirat(dir.fd, "00000001", 0700), 0);
	seen = look();
	cr_assert_eq(seen.count, 2);
	cr_assert_eq(seen.reports, 0);
}

/* What a replay answers ends the opening. */
Test(journal, ends_with_the_error_of_the_replay)
{
	struct seen seen = { .fail_at = 2 };
	struct journal *journal = NULL;

	make_records(5);
	cr_assert_eq(try_open(false, &seen, &journal), -ENOTRECOVERABLE);
	cr_assert_eq(seen.count, 2);
	cr_assert_not(exists("0000000000000002"));
	append_one(6);
	seen = (struct seen){ .fail_at = 2 }; /* nor is the file after it looked at */
	cr_assert_eq(try_open(false, &seen, &journal), -ENOTRECOVERABLE);
	cr_assert_eq(seen.count, 2);
	cr_assert_eq(look().count, 6);
}

/* Read-only, the journal replays, takes nothing and makes nothing. */
Test(journal, changes_nothing_read_only)
{
	struct journal_cursor cursor = { .group_id = 1 };
	struct seen seen = { 0 };
	struct journal *journal;
	uint64_t number;

	make_records(3);
	cr_assert_eq(try_open(true, &seen, &journal), 0);
	cr_assert_eq(seen.count, 3);
	cr_assert_eq(journal_append_cursor(journal, &cursor, NULL), -EROFS);
	cr_assert_eq(journal_rotate(journal, &number), -EROFS);
	cr_assert_eq(journal_drop(journal, 100), -EROFS);
	cr_assert_eq(journal_sync(journal), 0);
	cr_assert_eq(journal_close(journal), 0);
	cr_assert_not(exists("0000000000000002"));
}

/* After a checkpoint only what came since is replayed; what was not dropped is replayed as well. */
Test(journal, drops_files_below_a_checkpoint)
{
	struct seen seen = { 0 };
	struct journal *journal = open_journal(&seen);
	uint64_t first, second;

	append(journal, 1);
	cr_assert_eq(journal_rotate(journal, &first), 0);
	append(journal, 2);
	cr_assert_eq(journal_rotate(journal, &second), 0);
	append(journal, 3);
	cr_assert_eq(first, 2);
	cr_assert_eq(second, 3);
	seen = look();
	cr_assert_eq(seen.count, 3);
	cr_assert_eq(journal_drop(journal, first), 0);
	seen = look();
	cr_assert_eq(seen.count, 2);
	cr_assert_eq(seen.committed[0], 2);
	cr_assert_eq(journal_drop(journal, 1000), 0); /* never the newest */
	append(journal, 4);
	cr_assert_eq(journal_close(journal), 0);
	seen = look();
	cr_assert_eq(seen.count, 2);
	cr_assert_eq(seen.committed[0], 3);
	cr_assert_eq(seen.committed[1], 4);
}

/* Openings without an append leave no files behind. */
Test(journal, leaves_no_empty_files)
{
	for (int i = 0; i < 5; i++) {
		struct seen seen = { 0 };

		cr_assert_eq(journal_close(open_journal(&seen)), 0);
	}
	cr_assert(exists("0000000000000005"));
	for (char name[] = "0000000000000001"; name[15] < '5'; name[15]++)
		cr_assert_not(exists(name));
}

static unsigned files_at_unlink[4], unlinks;

static int counting_unlink(int dirfd, const char *name, int flags)
{
	uint64_t *numbers;
	size_t count;

	cr_assert_eq(journal_list(dirfd, &numbers, &count), 0);
	free(numbers);
	if (unlinks < 4)
		files_at_unlink[unlinks++] = (unsigned)count;
	return io_posix.unlink(dirfd, name, flags);
}

/*
 * The file that the catalog names, and then one after it, is always there: that it is not, or is of zeros, is told of. It was passed
 * over as what a crash leaves, with all acks that were in it.
 */
Test(journal, tells_of_its_loss)
{
	static const uint8_t zeros[JOURNAL_HEADER];
	struct io_ops counting = io_posix;
	struct seen seen = { 0 };
	struct journal *journal = open_journal(&seen);
	uint64_t number;
	char name[JOURNAL_NAME_SIZE];

	append(journal, 1);
	cr_assert_eq(journal_rotate(journal, &number), 0);
	cr_assert_eq(journal_drop(journal, number), 0);
	cr_assert_eq(journal_close(journal), 0);
	counting.unlink = counting_unlink;
	io = &counting;
	for (int i = 0; i < 2; i++) { /* nothing is said while it is only empty; one of them is there at any moment */
		cr_assert_eq(try_open_from(number, false, &seen, &journal), 0);
		cr_assert_eq(seen.reports, 0, "%s", seen.text);
		cr_assert_eq(journal_close(journal), 0);
	}
	io = &io_posix;
	cr_assert_eq(unlinks, 2);
	cr_assert(files_at_unlink[0] == 2 && files_at_unlink[1] == 2);
	journal_file_name(name, number + 2);
	cr_assert_eq(unlinkat(dir.fd, name, 0), 0);
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(try_open_from(number, i == 0, &seen, &journal), 0);
		cr_assert_eq(seen.errors, i + 1);
		cr_assert_not_null(strstr(seen.text, "the journal is lost"));
		cr_assert_eq(journal_close(journal), 0);
	}
	cr_assert_eq(try_open_from(number, true, &seen, &journal), 0);
	cr_assert_eq(seen.errors, 2); /* now there is one again */
	cr_assert_eq(journal_close(journal), 0);
	for (size_t size = 0; size <= sizeof(zeros); size += sizeof(zeros)) {
		journal_file_name(name, number);
		tmpdir_put(dir.fd, name, zeros, size);
		seen = (struct seen){ 0 };
		cr_assert_eq(try_open_from(number, true, &seen, &journal), 0);
		cr_assert_eq(seen.errors, 1);
		cr_assert_not_null(strstr(seen.text, "it is empty"));
		cr_assert_eq(journal_close(journal), 0);
	}
}

/* Also where nobody hears of it the journal begins anew. */
Test(journal, tells_nobody_of_its_loss)
{
	struct engine_notify nobody = { 0 };
	struct seen seen = { 0 };
	struct journal *journal;

	cr_assert_eq(journal_open(dir.fd, uuid, false, 7, nobody, see, &seen, &journal), 0);
	append(journal, 1);
	cr_assert_eq(journal_close(journal), 0);
	cr_assert_eq(try_open_from(7, true, &seen, &journal), 0);
	cr_assert(seen.reports == 0 && seen.count == 1, "%s", seen.text);
	cr_assert_eq(journal_close(journal), 0);
}

/* Disk space is taken ahead of the records, and given back at the end. */
Test(journal, allocates_ahead)
{
	struct seen seen = { 0 };
	struct journal *journal = open_journal(&seen);
	struct stat st;

	append(journal, 1);
	cr_assert_eq(fstatat(dir.fd, "0000000000000001", &st, 0), 0);
	if (st.st_blocks * 512 < 1 << 20)
		cr_skip_test("SKIP: this file system does not allocate ahead");
	cr_assert_eq(st.st_size, JOURNAL_HEADER + 48);
	cr_assert_eq(journal_close(journal), 0);
	cr_assert_eq(fstatat(dir.fd, "0000000000000001", &st, 0), 0);
	cr_assert_lt(st.st_blocks * 512, 1 << 16);
}

/* ---------------------------------------------------------------------------------------------- faults */

static struct io_ops faulty;
static int pwritev_err, fdatasync_err, open_err;
static size_t fdatasyncs, fdatasyncs_good;

static ssize_t faulty_pwritev(int fd, const struct iovec *iov, int count, off_t pos)
{
	static int turn;

	if (pwritev_err == 0)
		return io_posix.pwritev(fd, iov, count, pos);
	if (turn++ % 2 == 0) { /* a part of it, the rest not */
		struct iovec part[3];

		memcpy(part, iov, (size_t)count * sizeof(*iov));
		part[count - 1].iov_len /= 2;
		return io_posix.pwritev(fd, part, count, pos);
	}
	return pwritev_err;
}

static int faulty_fdatasync(int fd)
{
	fdatasyncs++;
	if (fdatasyncs_good > 0 && fdatasyncs_good-- > 0)
		return io_posix.fdatasync(fd);
	return fdatasync_err ? fdatasync_err : io_posix.fdatasync(fd);
}

static int faulty_open(int dirfd, const char *name, int flags, mode_t mode)
{
	return open_err ? open_err : io_posix.open(dirfd, name, flags, mode);
}

static int ftruncate_err;
static int fallocate_err;
static unsigned fallocates, fsyncs;

static int faulty_ftruncate(int fd, off_t size)
{
	return ftruncate_err ? ftruncate_err : io_posix.ftruncate(fd, size);
}

static int faulty_fallocate(int fd, int mode, off_t pos, off_t size)
{
	fallocates++;
	return fallocate_err ? fallocate_err : io_posix.fallocate(fd, mode, pos, size);
}

static int faulty_fsync(int fd)
{
	fsyncs++;
	return io_posix.fsync(fd);
}

static void use_faulty_io(void)
{
	faulty = io_posix;
	faulty.pwritev = faulty_pwritev;
	faulty.fdatasync = faulty_fdatasync;
	faulty.ftruncate = faulty_ftruncate;
	faulty.fallocate = faulty_fallocate;
	faulty.fsync = faulty_fsync;
	faulty.open = faulty_open;
	io = &faulty;
}

/* A failed append leaves no trace, and the next one that fits is taken. */
Test(journal, undoes_a_failed_append)
{
	struct seen seen = { 0 };
	struct journal *journal = open_journal(&seen);
	uint8_t large[4000];
	uint64_t pos = 5;

	memset(large, 0xa5, sizeof(large));
	append(journal, 1);
	use_faulty_io();
	pwritev_err = -ENOSPC;
	cr_assert_eq(journal_append(journal, (enum journal_type)2, large, sizeof(large), &pos), -ENOSPC);
	cr_assert_eq(pos, 5);
	cr_assert_eq(journal_end(journal), 48);
	pwritev_err = 0;
	fallocates = 0;
	append(journal, 2);
	cr_assert_eq(fallocates, 1); /* what was allocated went with it */
	for (int closed = 0; closed < 2;
	     closed++) { /* as a kill leaves it, and at its end, which cuts what is behind the end */
		seen = look();
		cr_assert_eq(seen.count, 2);
		cr_assert_eq(seen.committed[1], 2);
		cr_assert_eq(seen.reports, 0, "%s", seen.text);
		if (closed == 0)
			cr_assert_eq(journal_close(journal), 0);
	}
}

/* If it cannot be undone, nothing comes behind it. */
Test(journal, takes_nothing_behind_half_a_record)
{
	struct seen seen = { 0 };
	struct journal *journal = open_journal(&seen);
	uint8_t large[4000] = { 1 };
	uint64_t pos = 5;

	append(journal, 1);
	use_faulty_io();
	pwritev_err = -ENOSPC;
	ftruncate_err = -EIO;
	cr_assert_eq(journal_append(journal, (enum journal_type)2, large, sizeof(large), &pos), -ENOSPC);
	pwritev_err = ftruncate_err = 0;
	cr_assert_eq(journal_append(journal, (enum journal_type)2, large, 8, &pos), -EROFS);
	seen = look();
	cr_assert_eq(seen.count, 1);
	(void)journal_close(journal);
}

/* A new file is on disk in its directory before there is a record in it. */
Test(journal, syncs_the_name_of_a_new_file)
{
	struct seen seen = { 0 };
	struct journal *journal;
	uint64_t number;

	use_faulty_io();
	journal = open_journal(&seen);
	cr_assert_eq(fsyncs, 1);
	append(journal, 1);
	cr_assert_eq(journal_rotate(journal, &number), 0);
	cr_assert_eq(fsyncs, 2);
	cr_assert_eq(journal_close(journal), 0);
}

/* After a failed sync nothing is taken, nothing is called synced, and it is said once. */
Test(journal, never_believes_a_sync_after_a_failed_one)
{
	struct journal_cursor cursor = { .group_id = 1 };
	struct seen seen = { 0 };
	struct journal *journal = open_journal(&seen);
	uint64_t synced, number;

	append(journal, 1);
	cr_assert_eq(journal_sync(journal), 0);
	synced = journal_synced(journal);
	append(journal, 2);
	use_faulty_io();
	fdatasync_err = -EIO;
	cr_assert_eq(journal_sync(journal), -EIO);
	fdatasync_err = 0;
	fdatasyncs = 0;
	cr_assert_eq(journal_sync(journal), -EIO);
	cr_assert_eq(fdatasyncs, 0);
	cr_assert_eq(journal_append_cursor(journal, &cursor, NULL), -EROFS);
	cr_assert_eq(journal_rotate(journal, &number), -EROFS);
	cr_assert_eq(journal_synced(journal), synced);
	cr_assert_eq(seen.errors, 1);
	cr_assert_eq(journal_close(journal), -EIO);
	seen = look();
	cr_assert_eq(seen.count, 2); /* still in the page cache, so not lost by this */
}

/* If the next file cannot be made the old one goes on. */
Test(journal, goes_on_when_a_rotate_fails)
{
	struct seen seen = { 0 };
	struct journal *journal = open_journal(&seen);
	uint64_t number = 5;

	append(journal, 1);
	use_faulty_io();
	open_err = -ENOSPC;
	cr_assert_eq(journal_rotate(journal, &number), -ENOSPC);
	cr_assert_eq(number, 5);
	open_err = 0;
	append(journal, 2);
	cr_assert_eq(journal_rotate(journal, &number), 0);
	cr_assert_eq(number, 2);
	append(journal, 3);
	cr_assert_eq(journal_close(journal), 0);
	cr_assert_eq(look().count, 3);
}

static int unlink_err;

static int faulty_unlink(int dirfd, const char *name, int flags)
{
	return unlink_err ? unlink_err : io_posix.unlink(dirfd, name, flags);
}

/* Where space cannot be taken ahead it is not asked for again; where there is none, it is, and no zeros are written before the records. */
Test(journal, goes_without_space_ahead)
{
	static const int errors[] = { -EOPNOTSUPP, -ENOSYS, -ENOSPC };
	uint64_t number = 1;

	use_faulty_io();
	faulty.fallocate = faulty_fallocate;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++, number++) {
		struct seen seen = { 0 };
		struct journal *journal;
		char name[JOURNAL_NAME_SIZE];
		struct stat st;

		fallocate_err = errors[i];
		journal = open_journal(&seen);
		fallocates = 0;
		append(journal, 1);
		cr_assert_eq(journal_sync(journal), 0);
		append(journal, 2);
		cr_expect_eq(fallocates > 0, errors[i] == -ENOSPC);
		journal_file_name(name, number);
		cr_assert_eq(fstatat(dir.fd, name, &st, 0), 0);
		cr_expect_eq(st.st_size, JOURNAL_HEADER + 2 * 48);
		cr_assert_eq(journal_close(journal), 0);
	}
	cr_assert_eq(look().count, 6);
}

/* Old files that cannot be synced at the start are named; if no new one can be made, it does not open, and what was there stays. */
Test(journal, tells_what_a_start_cannot_do)
{
	struct engine_notify nobody = { 0 };
	struct journal *journal = NULL;
	struct seen seen = { 0 };

	make_records(2);
	use_faulty_io();
	open_err = -EIO;
	cr_assert_eq(try_open(false, &seen, &journal), -EIO);
	cr_expect_eq(seen.errors, 1);
	cr_expect(strstr(seen.text, "cannot be synced") != NULL);
	cr_expect(strstr(engine_reason(), "cannot begin a file") != NULL);
	cr_assert_eq(journal_open(dir.fd, uuid, false, 0, nobody, see, &seen, &journal), -EIO);
	cr_assert_null(journal);
	open_err = 0;
	cr_assert_eq(look().count, 2);
}

/* Dropping ends at a file that cannot be removed, and never takes the one in use; the oldest is known, where there is one. */
Test(journal, drops_in_order)
{
	struct seen seen = { 0 };
	struct journal *journal;
	uint64_t number = 7;

	cr_assert_eq(journal_oldest(dir.fd, &number), -ENODATA);
	cr_assert_eq(number, 7);
	journal = open_journal(&seen);
	for (int i = 0; i < 3; i++) {
		append(journal, 1);
		cr_assert_eq(journal_rotate(journal, &number), 0);
	}
	use_faulty_io();
	faulty.unlink = faulty_unlink;
	unlink_err = -EIO;
	cr_assert_eq(journal_drop(journal, number), -EIO);
	cr_assert_eq(journal_oldest(dir.fd, &number), 0);
	cr_assert_eq(number, 1);
	unlink_err = 0;
	cr_assert_eq(journal_drop(journal, UINT64_MAX), 0);
	cr_assert_eq(journal_oldest(dir.fd, &number), 0);
	cr_assert_eq(number, 4);
	cr_assert_eq(journal_close(journal), 0);
}

/* A rotate whose sync of the old file fails is as final as a failed sync; nothing is, while the new one is not there. */
Test(journal, takes_a_failed_rotate_for_a_failed_sync)
{
	struct journal_cursor cursor = { .group_id = 1 };
	struct seen seen = { 0 };
	struct journal *journal = open_journal(&seen);
	uint64_t number = 5;

	append(journal, 1);
	use_faulty_io();
	fdatasync_err = -EIO; /* of the new file's header */
	cr_assert_eq(journal_rotate(journal, &number), -EIO);
	cr_assert_not(exists("0000000000000002"));
	append(journal, 2);
	fdatasyncs_good = 1; /* now only that */
	cr_assert_eq(journal_rotate(journal, &number), -EIO);
	cr_assert_eq(number, 5);
	cr_assert_eq(journal_append_cursor(journal, &cursor, NULL), -EROFS);
	cr_assert_eq(journal_synced(journal), 0);
	cr_assert_eq(seen.errors, 1);
	cr_assert_eq(journal_close(journal), -EIO);
	cr_assert_eq(look().count, 2);
}

/* Whatever cannot be read of two files: it does not open, or says what is missing; and all of both is there the next time. */
Test(journal, cannot_be_read)
{
	static const int errors[] = { EIO, ENOMEM };
	struct seen seen = { 0 };
	size_t missing = 0;

	make_records(2);
	append_one(3);
	for (size_t e = 0; e < sizeof(errors) / sizeof(errors[0]); e++) {
		bool reached = true;

		for (uint64_t n = 1; reached; n++) {
			struct journal *journal;
			int rc;

			seen = (struct seen){ 0 };
			alloc_arm_reads(n, errors[e]);
			rc = try_open(false, &seen, &journal);
			reached = alloc_disarm_reads() >= n;
			cr_assert(rc == 0 || (reached && rc == -errors[e]), "call %d: %d", (int)n, rc);
			cr_assert(rc < 0 || seen.errors == reached, "call %d: %s", (int)n, seen.text);
			if (rc == 0)
				cr_assert_eq(journal_close(journal), 0);
			if (rc == 0 && seen.count < 3) {
				cr_assert_eq(errors[e], EIO);
				cr_assert_not_null(strstr(seen.text, "cannot be read"), "%s", seen.text);
				missing++;
			}
			seen = look();
			cr_assert_eq(
			    seen.count, 3, "call %d, which is %s: %zu", (int)n, strerror(errors[e]), seen.count);
			cr_assert_eq(seen.reports, 0, "%s", seen.text);
		}
	}
	cr_assert_geq(missing, 2);
}

/* Without memory, or what it is in cannot be read: it does not open, it drops nothing, and the next time it does. */
Test(journal, wants_memory_and_its_directory)
{
	struct seen seen = { 0 };
	struct journal *journal = NULL;
	uint64_t number, oldest;
	bool reached = true;

	make_records(2);
	for (uint64_t n = 1; reached; n++) {
		alloc_arm(n);
		cr_assert_null(journal);
		if (try_open(false, &seen, &journal) == 0)
			cr_assert_eq(journal_close(journal), 0);
		reached = alloc_disarm() >= n;
		cr_assert_eq(reached, journal == NULL);
		cr_assert_eq(look().count, 2);
	}
	journal = open_journal(&seen);
	append(journal, 3);
	cr_assert_eq(journal_rotate(journal, &number), 0);
	for (uint64_t n = 1; n < 4; n++) { /* to open it, to list it, to list it on */
		alloc_arm_reads(n, EIO);
		cr_assert_eq(journal_drop(journal, number), -EIO);
		alloc_disarm_reads();
		cr_assert_eq(journal_oldest(dir.fd, &oldest), 0);
		cr_assert_eq(oldest, 1);
	}
	alloc_arm_reads(1, EIO);
	cr_assert_eq(journal_oldest(dir.fd, &oldest), -EIO);
	alloc_disarm_reads();
	cr_assert_eq(journal_drop(journal, number), 0);
	cr_assert_eq(journal_oldest(dir.fd, &oldest), 0);
	cr_assert_eq(oldest, number);
	cr_assert_eq(journal_close(journal), 0);
}

/* ------------------------------------------------------------------------------------------ kills and threads */

/* All that an append had accepted is there after kill -9. */
Test(journal, survives_kill_9)
{
	for (int round = 0; round < 5; round++) {
		struct seen seen;
		uint64_t told = 0, value;
		int pipes[2];
		pid_t pid;

		cr_assert_eq(pipe(pipes), 0);
		pid = fork();
		cr_assert(pid >= 0);
		if (pid == 0) {
			struct seen old = { 0 };
			struct journal *journal = open_journal(&old);

			for (value = old.count + 1;; value++) {
				append(journal, value);
				if (write(pipes[1], &value, sizeof(value)) != sizeof(value))
					_exit(1);
			}
		}
		close(pipes[1]);
		for (int i = 0; i < 100 * (round + 1); i++)
			cr_assert_eq(read(pipes[0], &told, sizeof(told)), sizeof(told));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		while (read(pipes[0], &value, sizeof(value)) == sizeof(value))
			told = value;
		close(pipes[0]);
		seen = look();
		cr_assert(seen.count == told || seen.count == told + 1, "%zu of %ju", seen.count, (uintmax_t)told);
		cr_assert_eq(seen.errors, 0, "%s", seen.text); /* but the kill may have cut the last append */
	}
}

struct worker {
	struct journal *journal;
	uint64_t id;
};

static void *append_and_sync(void *arg)
{
	struct worker *worker = arg;

	for (uint64_t i = 0; i < 200; i++) {
		struct journal_cursor cursor = { .group_id = worker->id, .committed = i };
		uint64_t pos;

		if (journal_append_cursor(worker->journal, &cursor, &pos) != 0)
			return (void *)1;
		if (i % 10 == 0 && (journal_sync(worker->journal) != 0 || journal_synced(worker->journal) < pos))
			return (void *)2;
	}
	return NULL;
}

/* Threads append and sync while another rotates: nothing is lost or doubled. */
Test(journal, is_used_by_many_threads)
{
	struct seen seen = { 0 };
	struct worker workers[6];
	pthread_t threads[6];
	struct journal *journal;

	use_faulty_io();
	journal = open_journal(&seen);
	for (uint64_t i = 0; i < 6; i++) {
		workers[i] = (struct worker){ journal, i };
		cr_assert_eq(pthread_create(&threads[i], NULL, append_and_sync, &workers[i]), 0);
	}
	for (int i = 0; i < 5; i++) {
		uint64_t number;

		cr_assert_eq(journal_rotate(journal, &number), 0);
	}
	for (int i = 0; i < 6; i++) {
		void *result;

		pthread_join(threads[i], &result);
		cr_assert_null(result);
	}
	cr_assert_eq(journal_close(journal), 0);
	seen = look();
	cr_assert_eq(seen.count, 6 * 200);
	cr_assert_eq(seen.reports, 0, "%s", seen.text);
}

/* A header that begins with a zero is damaged; one of zeros alone was just being made. What is not there is told of. */
Test(journal, headers_of_zeros)
{
	uint8_t header[JOURNAL_HEADER] = { 0 };
	struct seen seen = { 0 };
	struct journal_replay how = { .store_uuid = uuid, .notify = { hear, &seen }, .replay = see, .ctx = &seen };
	uint64_t end = 0;

	how.dirfd = dir.fd;
	cr_assert_eq(journal_replay_file(&how, 7, &end), -ENOENT);
	tmpdir_put(dir.fd, "0000000000000007", header, sizeof(header));
	cr_assert_eq(journal_replay_file(&how, 7, &end), 0);
	cr_assert_eq(seen.reports, 0);
	header[40] = 1;
	tmpdir_put(dir.fd, "0000000000000007", header, sizeof(header));
	cr_assert_eq(journal_replay_file(&how, 7, &end), 0);
	cr_assert_eq(end, JOURNAL_HEADER);
	cr_assert_eq(seen.reports, 1);
}

/* The file that the catalog names is not told to be empty where it cannot be read: that is told, once. */
Test(journal, the_named_file_cannot_be_read)
{
	struct seen seen = { 0 };
	struct journal_replay how = { .store_uuid = uuid, .notify = { hear, &seen }, .replay = see, .ctx = &seen };
	uint64_t end = 1;

	how.dirfd = dir.fd;
	how.from = 1;
	make_records(2);
	alloc_arm_reads(2, EIO); /* it is opened, and its first read fails */
	cr_assert_eq(journal_replay_file(&how, 1, &end), 0);
	cr_assert_eq(alloc_disarm_reads(), 2);
	cr_assert_eq(end, 0);
	cr_assert(seen.count == 0 && seen.reports == 1, "%zu: %s", seen.reports, seen.text);
	cr_assert_not_null(strstr(seen.text, "cannot be read"), "%s", seen.text);
}

/* ---- others ---- */

/* The file in use was removed by somebody: those before it are dropped all the same, and nothing else is looked for. */
Test(journal, drops_without_the_file_in_use)
{
	struct seen seen = { 0 };
	struct journal *journal = open_journal(&seen);
	char name[JOURNAL_NAME_SIZE];
	uint64_t number = 0;

	append(journal, 1);
	cr_assert_eq(journal_rotate(journal, &number), 0);
	journal_file_name(name, number);
	cr_assert_eq(unlinkat(dir.fd, name, 0), 0);
	cr_assert_eq(journal_drop(journal, number + 7), 0);
	cr_assert_eq(journal_oldest(dir.fd, &number), -ENODATA);
	(void)journal_close(journal);
}

static struct {
	struct journal *journal;
	pthread_t thread;
	_Atomic long tid;
	int rc;
} waiting;

static void *sync_too(void *arg)
{
	(void)arg;
	waiting.tid = syscall(SYS_gettid);
	waiting.rc = journal_sync(waiting.journal);
	return NULL;
}

/* Whether the thread is blocked in futex(), for a lock. */
static bool waits_for_lock(void)
{
	char path[64], text[32] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%ld/syscall", waiting.tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	(void)!read(fd, text, sizeof(text) - 1);
	close(fd);
	return strtol(text, NULL, 10) == SYS_futex && text[0] != 'r';
}

/* A sync that fails once another thread waits for it. */
static int fail_when_waited_for(int fd)
{
	(void)fd;
	cr_assert_eq(pthread_create(&waiting.thread, NULL, sync_too, NULL), 0);
	while (!waits_for_lock())
		sched_yield();
	return -EIO;
}

/* Who waits for the sync of another thread is told if that fails. */
Test(journal, sync_of_another_fails, .timeout = 60)
{
	struct io_ops failing = *io;
	const struct io_ops *before = io;
	struct seen seen = { 0 };

	waiting.journal = open_journal(&seen);
	append(waiting.journal, 1);
	failing.fdatasync = fail_when_waited_for;
	io = &failing;
	cr_assert_eq(journal_sync(waiting.journal), -EIO);
	io = before;
	cr_assert_eq(pthread_join(waiting.thread, NULL), 0);
	cr_assert_eq(waiting.rc, -EIO);
	cr_assert_eq(seen.errors, 1);
	cr_assert_eq(journal_close(waiting.journal), -EIO);
}

/* A sync during which a record comes. */
static int sync_and_append(int fd)
{
	int rc = fdatasync(fd);

	append(waiting.journal, 2);
	return rc;
}

/* What is appended while the disk syncs is not on it by that: who waits for that record waits for the next sync. */
Test(journal, a_sync_covers_what_was_there_before)
{
	const struct io_ops *before = io;
	struct io_ops appending = *io;
	struct seen seen = { 0 };
	uint64_t end;

	waiting.journal = open_journal(&seen);
	appending.fdatasync = sync_and_append;
	append(waiting.journal, 1);
	end = journal_end(waiting.journal);
	io = &appending;
	cr_assert_eq(journal_sync(waiting.journal), 0);
	io = before;
	cr_assert_eq(journal_synced(waiting.journal), end);
	cr_assert_eq(journal_sync(waiting.journal), 0);
	end = journal_end(waiting.journal);
	cr_assert_eq(journal_synced(waiting.journal), end);
	cr_assert_eq(journal_close(waiting.journal), 0);
}
