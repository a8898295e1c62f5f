/* Control lines: what each kind takes, what it refuses, and how writes become lines. */
#include "fs/command.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/alloc.h"

#include "fs/buffer.h"

#define GROUP ENGINE_ANY
#define HERE 3 /* the partition of the directory */

/* A line and what it is parsed as; result != 0: refused. */
static const struct {
	enum command_kind kind;
	const char *line;
	int result;
	struct command expect;
} rows[] = {
	/* ack of a group */
	{ COMMAND_ACK_GROUP, "all", 0, { COMMAND_ALL, GROUP, 0, 0, 0, 0, 0 } },
	{ COMMAND_ACK_GROUP, " \tall\t ", 0, { COMMAND_ALL, GROUP, 0, 0, 0, 0, 0 } },
	{ COMMAND_ACK_GROUP, "0:0", 0, { COMMAND_ACK, 0, 0, 0, 0, 0, 0 } },
	{ COMMAND_ACK_GROUP, "2:17", 0, { COMMAND_ACK, 2, 17, 0, 0, 0, 0 } },
	{ COMMAND_ACK_GROUP, "002:0000000000000000000000000017", 0, { COMMAND_ACK, 2, 17, 0, 0, 0, 0 } },
	{ COMMAND_ACK_GROUP, "4294967294:18446744073709551614", 0,
	    { COMMAND_ACK, 4294967294u, UINT64_MAX - 1, 0, 0, 0, 0 } },
	{ COMMAND_ACK_GROUP, "4294967295:1", -ERANGE, { 0 } },
	{ COMMAND_ACK_GROUP, "0:18446744073709551615", -ERANGE, { 0 } },
	{ COMMAND_ACK_GROUP, "0:18446744073709551616", -ERANGE, { 0 } },
	{ COMMAND_ACK_GROUP, "0:99999999999999999999999999999999999999999", -ERANGE, { 0 } },
	{ COMMAND_ACK_GROUP, "", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, " ", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, "17", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, "ALL", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, "al", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, "alles", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, "all all", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, "0 : 17", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, "0: 17", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, "0:1 7", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, ":17", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, "0:", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, "0:-1", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, "+0:1", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, "0:+1", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, "0:1:2", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, "0x1:2", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, "0:1e3", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, "0:1.0", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, "0:17\r", -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP,
	    "\xef\xbb\xbf"
	    "all",
	    -EINVAL, { 0 } },
	{ COMMAND_ACK_GROUP, "\xd9\xa1:1", -EINVAL, { 0 } }, /* an Arabic digit */
	/* ack of one partition */
	{ COMMAND_ACK_PARTITION, "all", 0, { COMMAND_ALL, HERE, 0, 0, 0, 0, 0 } },
	{ COMMAND_ACK_PARTITION, "17", 0, { COMMAND_ACK, HERE, 17, 0, 0, 0, 0 } },
	{ COMMAND_ACK_PARTITION, "3:17", 0, { COMMAND_ACK, HERE, 17, 0, 0, 0, 0 } },
	{ COMMAND_ACK_PARTITION, "2:17", -EINVAL, { 0 } },
	{ COMMAND_ACK_PARTITION, "4294967295:17", -ERANGE, { 0 } },
	{ COMMAND_ACK_PARTITION, "18446744073709551615", -ERANGE, { 0 } },
	{ COMMAND_ACK_PARTITION, "-1", -EINVAL, { 0 } },
	/* offset of a group */
	{ COMMAND_OFFSET_GROUP, "earliest", 0, { COMMAND_SEEK, GROUP, 0, ENGINE_SEEK_EARLIEST, 0, 0, 0 } },
	{ COMMAND_OFFSET_GROUP, "latest ", 0, { COMMAND_SEEK, GROUP, 0, ENGINE_SEEK_LATEST, 0, 0, 0 } },
	{ COMMAND_OFFSET_GROUP, "2 17", 0, { COMMAND_SEEK, 2, 0, ENGINE_SEEK_OFFSET, 17, 0, 0 } },
	{ COMMAND_OFFSET_GROUP, "2 \t 17", 0, { COMMAND_SEEK, 2, 0, ENGINE_SEEK_OFFSET, 17, 0, 0 } },
	{ COMMAND_OFFSET_GROUP, "0 9223372036854775807", 0,
	    { COMMAND_SEEK, 0, 0, ENGINE_SEEK_OFFSET, INT64_MAX, 0, 0 } },
	{ COMMAND_OFFSET_GROUP, "0 9223372036854775808", -ERANGE, { 0 } },
	{ COMMAND_OFFSET_GROUP, "@1732300000", 0, { COMMAND_SEEK, GROUP, 0, ENGINE_SEEK_TIME, 1732300000000, 0, 0 } },
	{ COMMAND_OFFSET_GROUP, "@0", 0, { COMMAND_SEEK, GROUP, 0, ENGINE_SEEK_TIME, 0, 0, 0 } },
	{ COMMAND_OFFSET_GROUP, "@1.5", 0, { COMMAND_SEEK, GROUP, 0, ENGINE_SEEK_TIME, 1500, 0, 0 } },
	{ COMMAND_OFFSET_GROUP, "@1.05", 0, { COMMAND_SEEK, GROUP, 0, ENGINE_SEEK_TIME, 1050, 0, 0 } },
	{ COMMAND_OFFSET_GROUP, "@1732300000.123999999", 0,
	    { COMMAND_SEEK, GROUP, 0, ENGINE_SEEK_TIME, 1732300000123, 0, 0 } },
	{ COMMAND_OFFSET_GROUP, "@1.99999999999999999999999999", 0,
	    { COMMAND_SEEK, GROUP, 0, ENGINE_SEEK_TIME, 1999, 0, 0 } },
	{ COMMAND_OFFSET_GROUP, "@9223372036854774", 0,
	    { COMMAND_SEEK, GROUP, 0, ENGINE_SEEK_TIME, 9223372036854774000, 0, 0 } },
	{ COMMAND_OFFSET_GROUP, "@9223372036854775", -ERANGE, { 0 } },
	{ COMMAND_OFFSET_GROUP, "@99999999999999999999999", -ERANGE, { 0 } },
	{ COMMAND_OFFSET_GROUP, "@-1", -EINVAL, { 0 } },
	{ COMMAND_OFFSET_GROUP, "@", -EINVAL, { 0 } },
	{ COMMAND_OFFSET_GROUP, "@1.", -EINVAL, { 0 } },
	{ COMMAND_OFFSET_GROUP, "@.5", -EINVAL, { 0 } },
	{ COMMAND_OFFSET_GROUP, "@1e400", -EINVAL, { 0 } },
	{ COMMAND_OFFSET_GROUP, "@1 .5", -EINVAL, { 0 } },
	{ COMMAND_OFFSET_GROUP, "17", -EINVAL, { 0 } },
	{ COMMAND_OFFSET_GROUP, "+1", -EINVAL, { 0 } },
	{ COMMAND_OFFSET_GROUP, "2:17", -EINVAL, { 0 } },
	{ COMMAND_OFFSET_GROUP, "2 17 3", -EINVAL, { 0 } },
	{ COMMAND_OFFSET_GROUP, "2 -17", -EINVAL, { 0 } },
	{ COMMAND_OFFSET_GROUP, "2 latest", -EINVAL, { 0 } },
	{ COMMAND_OFFSET_GROUP, "all", -EINVAL, { 0 } },
	{ COMMAND_OFFSET_GROUP, "", -EINVAL, { 0 } },
	/* offset of one partition */
	{ COMMAND_OFFSET_PARTITION, "17", 0, { COMMAND_SEEK, HERE, 0, ENGINE_SEEK_OFFSET, 17, 0, 0 } },
	{ COMMAND_OFFSET_PARTITION, "earliest", 0, { COMMAND_SEEK, HERE, 0, ENGINE_SEEK_EARLIEST, 0, 0, 0 } },
	{ COMMAND_OFFSET_PARTITION, "@2.25", 0, { COMMAND_SEEK, HERE, 0, ENGINE_SEEK_TIME, 2250, 0, 0 } },
	{ COMMAND_OFFSET_PARTITION, "+10", 0, { COMMAND_SEEK, HERE, 0, ENGINE_SEEK_RELATIVE, 10, 0, 0 } },
	{ COMMAND_OFFSET_PARTITION, "-10", 0, { COMMAND_SEEK, HERE, 0, ENGINE_SEEK_RELATIVE, -10, 0, 0 } },
	{ COMMAND_OFFSET_PARTITION, "-0", 0, { COMMAND_SEEK, HERE, 0, ENGINE_SEEK_RELATIVE, 0, 0, 0 } },
	{ COMMAND_OFFSET_PARTITION, "-9223372036854775807", 0,
	    { COMMAND_SEEK, HERE, 0, ENGINE_SEEK_RELATIVE, -INT64_MAX, 0, 0 } },
	{ COMMAND_OFFSET_PARTITION, "-9223372036854775808", -ERANGE, { 0 } },
	{ COMMAND_OFFSET_PARTITION, "- 10", -EINVAL, { 0 } },
	{ COMMAND_OFFSET_PARTITION, "+-10", -EINVAL, { 0 } },
	{ COMMAND_OFFSET_PARTITION, "3 17", -EINVAL, { 0 } },
	/* purge */
	{ COMMAND_PURGE_TOPIC, "all", 0, { COMMAND_ALL, GROUP, 0, 0, 0, 0, 0 } },
	{ COMMAND_PURGE_TOPIC, "before 17", -EINVAL, { 0 } },
	{ COMMAND_PURGE_TOPIC, "yes", -EINVAL, { 0 } },
	{ COMMAND_PURGE_PARTITION, "all", 0, { COMMAND_ALL, HERE, 0, 0, 0, 0, 0 } },
	{ COMMAND_PURGE_PARTITION, "before 17", 0, { COMMAND_BEFORE, HERE, 17, 0, 0, 0, 0 } },
	{ COMMAND_PURGE_PARTITION, "before\t0", 0, { COMMAND_BEFORE, HERE, 0, 0, 0, 0, 0 } },
	/* ENGINE_OFFSET_NONE would mean all there is */
	{ COMMAND_PURGE_PARTITION, "before 18446744073709551615", -ERANGE, { 0 } },
	{ COMMAND_PURGE_PARTITION, "before 18446744073709551616", -ERANGE, { 0 } },
	{ COMMAND_PURGE_PARTITION, "before17", -EINVAL, { 0 } },
	{ COMMAND_PURGE_PARTITION, "before", -EINVAL, { 0 } },
	{ COMMAND_PURGE_PARTITION, "before -1", -EINVAL, { 0 } },
	{ COMMAND_PURGE_PARTITION, "17", -EINVAL, { 0 } },
	/* messages of a queue */
	{ COMMAND_SETTLE, "all", 0, { COMMAND_ALL, GROUP, 0, 0, 0, 0, 0 } },
	{ COMMAND_SETTLE, "17", 0, { COMMAND_IDS, GROUP, 0, 0, 0, 17, 17 } },
	{ COMMAND_SETTLE, "17-19", 0, { COMMAND_IDS, GROUP, 0, 0, 0, 17, 19 } },
	{ COMMAND_SETTLE, "19-17", -EINVAL, { 0 } },
	{ COMMAND_SETTLE, "17-", -EINVAL, { 0 } },
	{ COMMAND_SETTLE, "17 19", -EINVAL, { 0 } },
	/* beyond all there can be is one that is not known */
	{ COMMAND_SETTLE, "1-99999999999999999999", 0, { COMMAND_IDS, GROUP, 0, 0, 0, 1, UINT64_MAX - 1 } },
};

static bool same(const struct command *a, const struct command *b)
{
	return a->verb == b->verb && a->partition == b->partition && a->offset == b->offset && a->how == b->how &&
	       a->value == b->value && a->first == b->first && a->last == b->last;
}

/* Each line is what the table says; a refused one changes nothing and says why. */
Test(command, table)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct command untouched = { COMMAND_BEFORE, 1, 2, ENGINE_SEEK_TIME, 3, 0, 0 };
		struct command command = untouched;
		char reason[COMMAND_REASON_MAX] = "";
		size_t len = strlen(rows[i].line);
		char *line = malloc(len + 1);
		memcpy(line, rows[i].line, len);
		line = realloc(line, len > 0 ? len : 1);
		int result = command_parse(rows[i].kind, HERE, line, len, &command, reason);
		cr_expect_eq(result, rows[i].result, "\"%s\": %d", rows[i].line, result);
		cr_expect(same(&command, result ? &untouched : &rows[i].expect), "\"%s\"", rows[i].line);
		cr_expect_eq(reason[0] != '\0', result != 0, "\"%s\": %s", rows[i].line, reason);
		free(line);
	}
}

/* The sentence says what to write, and shows what was written without letting it at the terminal. */
Test(command, reasons)
{
	struct command command;
	char reason[COMMAND_REASON_MAX];
	command_parse(COMMAND_ACK_GROUP, 0, "\x1b[2J\n", 5, &command, reason);
	cr_expect_str_eq(reason, "write all or PARTITION:OFFSET, not \"\\x1b[2J\\x0a\"");
	command_parse(COMMAND_ACK_PARTITION, HERE, "2:17", 4, &command, reason);
	cr_expect_str_eq(reason, "this directory is partition 3");
	char *long_line = malloc(100000);
	memset(long_line, 0xff, 100000);
	cr_expect_eq(command_parse(COMMAND_OFFSET_PARTITION, 0, long_line, 100000, &command, reason), -EINVAL);
	cr_expect_lt(strlen(reason), COMMAND_REASON_MAX);
	cr_expect_eq(command_parse(COMMAND_ACK_GROUP, 0, "all\0", 4, &command, reason), -EINVAL);
	free(long_line);
}

/* Every beginning of a good line may still become one; so may no beginning at all. */
Test(command, prefixes_of_good_lines)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char reason[COMMAND_REASON_MAX];
		for (size_t len = 0; rows[i].result != -EINVAL && len <= strlen(rows[i].line); len++)
			cr_expect_eq(command_check_prefix(rows[i].kind, rows[i].line, len, reason), 0, "\"%.*s\"",
			    (int)len, rows[i].line);
	}
}

/* What can never become a command is told at once. */
Test(command, hopeless_prefixes)
{
	static const struct {
		enum command_kind kind;
		const char *part;
	} bad[] = {
		{ COMMAND_ACK_GROUP, "bogus" },
		{ COMMAND_ACK_GROUP, "b" },
		{ COMMAND_ACK_GROUP, "alx" },
		{ COMMAND_ACK_GROUP, "-" },
		{ COMMAND_ACK_GROUP, "0 " },
		{ COMMAND_ACK_GROUP, "0:x" },
		{ COMMAND_ACK_GROUP, "0::" },
		{ COMMAND_ACK_GROUP, "all a" },
		{ COMMAND_OFFSET_GROUP, "+" },
		{ COMMAND_OFFSET_GROUP, "e1" },
		{ COMMAND_OFFSET_PARTITION, "1 2" },
		{ COMMAND_OFFSET_PARTITION, "@x" },
		{ COMMAND_PURGE_TOPIC, "b" },
		{ COMMAND_PURGE_PARTITION, "beforex" },
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char reason[COMMAND_REASON_MAX] = "";
		cr_expect_eq(command_check_prefix(bad[i].kind, bad[i].part, strlen(bad[i].part), reason), -EINVAL, "%s",
		    bad[i].part);
		cr_expect(strstr(reason, "write "), "%s", reason);
	}
}

/* Does some ending of a good line make a command of it? */
static bool can_end_well(enum command_kind kind, const char *part)
{
	static const char *const good[] = { "all", "0", "0:0", "0 0", "earliest", "latest", "@0", "@0.0", "+0", "-0",
		"before 0", "0-9999" };
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		for (const char *ending = good[i];; ending++) {
			struct command command;
			char line[32], reason[COMMAND_REASON_MAX];
			int len = snprintf(line, sizeof(line), "%s%s", part, ending);
			int result = command_parse(kind, 0, line, (size_t)len, &command, reason);
			if (result == 0 ||
			    strstr(reason, "this directory")) /* another partition is for the whole line */
				return true;
			if (!*ending)
				break;
		}
	}
	return false;
}

/* The check of beginnings is exact: of all short texts, just those pass that some ending makes a command. */
Test(command, prefix_is_exact)
{
	static const char alphabet[] = "al01:@.+- x";
	enum { LETTERS = sizeof(alphabet) - 1 };
	for (enum command_kind kind = 0; kind < COMMAND_KIND_COUNT; kind++) {
		for (size_t len = 0, texts = 1; len <= 3; len++, texts *= LETTERS) {
			for (size_t n = 0; n < texts; n++) {
				char text[5] = "", reason[COMMAND_REASON_MAX];
				for (size_t i = 0, rest = n; i < len; i++, rest /= LETTERS)
					text[i] = alphabet[rest % LETTERS];
				bool passes = command_check_prefix(kind, text, len, reason) == 0;
				cr_assert_eq(passes, can_end_well(kind, text), "kind %d: \"%s\"", kind, text);
			}
		}
	}
}

/* --------------------------------------------------------------------------------------------- lines */

struct recorder {
	struct buffer got; /* "[line]" executed, "(part)" checked */
};

/* Refuses lines that begin with '!', and parts that begin with '?'. */
static int record_line(void *ctx, const char *line, size_t len)
{
	struct recorder *recorder = ctx;
	if (len > 0 && line[0] == '!')
		return -ERANGE;
	buffer_printf(&recorder->got, "[%.*s]", (int)len, line);
	return 0;
}

static int record_part(void *ctx, const char *part, size_t len)
{
	struct recorder *recorder = ctx;
	if (len > 0 && part[0] == '?')
		return -EINVAL;
	buffer_printf(&recorder->got, "(%.*s)", (int)len, part);
	return 0;
}

/* Writes one after the other, and the last close. */
static const struct {
	struct {
		const char *bytes;
		ssize_t answer;
	} writes[4];
	int finish;
	const char *got;
} line_rows[] = {
	{ { { "a\nb\n", 4 } }, 0, "[a][b]" },
	{ { { "\n", 1 } }, 0, "[]" },
	{ { { "a", 1 }, { "b", 1 }, { "c\nd", 3 } }, 0, "(a)(ab)[abc](d)[d]" },
	{ { { "", 0 } }, 0, "" },
	/* a refused line: what was executed before it counts, the rest comes again and fails */
	{ { { "a\n!x\nb\n", 2 }, { "!x\nb\n", -ERANGE }, { "b\n", 2 } }, 0, "[a][b]" },
	{ { { "!x", 2 }, { "y\n", -ERANGE }, { "b\n", 2 } }, 0, "(!x)[b]" },
	{ { { "!x", 2 } }, -ERANGE, "(!x)" },
	/* a part that can become nothing */
	{ { { "?x", -EINVAL }, { "a\n", 2 } }, 0, "[a]" },
	{ { { "a\n?x", 2 }, { "?x", -EINVAL } }, 0, "[a]" },
};

/* Lines are executed in turn, parts are checked as they come, and an error leaves nothing behind. */
Test(lines, table)
{
	for (size_t i = 0; i < sizeof(line_rows) / sizeof(line_rows[0]); i++) {
		struct recorder recorder = { BUFFER_INIT };
		struct line_buffer lines = { 0 };
		const struct line_calls calls = { record_line, record_part, &recorder };
		for (size_t j = 0; j < 4 && line_rows[i].writes[j].bytes; j++) {
			const char *bytes = line_rows[i].writes[j].bytes;
			ssize_t answer = line_buffer_write(&lines, bytes, strlen(bytes), &calls);
			cr_expect_eq(answer, line_rows[i].writes[j].answer, "row %zu, write %zu: %zd", i, j, answer);
		}
		cr_expect_eq(line_buffer_finish(&lines, &calls), line_rows[i].finish, "row %zu", i);
		buffer_add_char(&recorder.got, '\0');
		cr_expect_str_eq(recorder.got.ptr, line_rows[i].got);
		cr_expect_null(lines.part);
		buffer_release(&recorder.got);
	}
}

/* A line may have 4096 bytes, in one write or in many; one more is EINVAL, and nothing of it is kept. */
Test(lines, longest)
{
	char text[COMMAND_LINE_MAX + 2];
	memset(text, 'x', sizeof(text));
	for (size_t len = COMMAND_LINE_MAX; len <= COMMAND_LINE_MAX + 1; len++) {
		struct recorder recorder = { BUFFER_INIT };
		struct line_buffer lines = { 0 };
		const struct line_calls calls = { record_line, NULL, &recorder };
		bool fits = len <= COMMAND_LINE_MAX;
		text[len] = '\n';
		cr_expect_eq(line_buffer_write(&lines, text, len + 1, &calls), fits ? (ssize_t)len + 1 : -EINVAL);
		cr_expect_eq(line_buffer_write(&lines, text, len, &calls), fits ? (ssize_t)len : -EINVAL);
		cr_expect_eq(line_buffer_write(&lines, "\n", 1, &calls), 1);
		for (size_t i = 0; i < len; i++)
			cr_expect_eq(line_buffer_write(&lines, "y", 1, &calls), i < COMMAND_LINE_MAX ? 1 : -EINVAL);
		cr_expect_eq(line_buffer_finish(&lines, &calls), 0);
		cr_expect_eq(recorder.got.len, fits ? 3 * (len + 2) : 2);
		text[len] = 'x';
		buffer_release(&recorder.got);
	}
}

/* A line that comes in parts may have no byte more at its end either; and one for which there is no memory is refused. */
Test(lines, longest_in_parts)
{
	char text[COMMAND_LINE_MAX];
	struct recorder recorder = { BUFFER_INIT };
	struct line_buffer lines = { 0 };
	const struct line_calls calls = { record_line, NULL, &recorder };

	memset(text, 'x', sizeof(text));
	cr_expect_eq(line_buffer_write(&lines, text, sizeof(text), &calls), (ssize_t)sizeof(text));
	cr_expect_eq(line_buffer_write(&lines, "x\n", 2, &calls), -EINVAL);
	alloc_arm(1);
	cr_expect_eq(line_buffer_write(&lines, "y", 1, &calls), -ENOMEM);
	alloc_disarm();
	cr_expect_eq(line_buffer_write(&lines, "z\n", 2, &calls), 2);
	cr_expect_eq(line_buffer_finish(&lines, &calls), 0);
	cr_expect_eq(recorder.got.len, 3, "[z]");
	buffer_release(&recorder.got);
}
