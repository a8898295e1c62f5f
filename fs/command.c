#include "fs/command.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/name.h"

#define NUMBERS_MAX 2u /* in one form */

/* ------------------------------------------------------------------------------------------ forms */

enum argument { NOTHING, OFFSET, TIME, FORWARD, BACK, ID, IDS };

#define IN(kind) (1u << (kind))
#define ACKS (IN(COMMAND_ACK_GROUP) | IN(COMMAND_ACK_PARTITION))
#define OFFSETS (IN(COMMAND_OFFSET_GROUP) | IN(COMMAND_OFFSET_PARTITION))
#define PURGES (IN(COMMAND_PURGE_TOPIC) | IN(COMMAND_PURGE_PARTITION))

/*
 * The forms a line may have. text: # is a decimal number, a blank is blanks, all else is itself. named: the first number
 * is the partition. argument: what the next number, or the two of a time with a fraction, say.
 */
static const struct form {
	unsigned kinds; /* where it is taken */
	const char *text;
	enum command_verb verb;
	enum engine_seek how;
	bool named;
	enum argument argument;
} forms[] = {
	{ ACKS | PURGES | IN(COMMAND_SETTLE), "all", COMMAND_ALL, 0, false, NOTHING },
	{ IN(COMMAND_ACK_PARTITION), "#", COMMAND_ACK, 0, false, OFFSET },
	{ ACKS, "#:#", COMMAND_ACK, 0, true, OFFSET },
	{ IN(COMMAND_OFFSET_GROUP), "# #", COMMAND_SEEK, ENGINE_SEEK_OFFSET, true, OFFSET },
	{ IN(COMMAND_OFFSET_PARTITION), "#", COMMAND_SEEK, ENGINE_SEEK_OFFSET, false, OFFSET },
	{ IN(COMMAND_OFFSET_PARTITION), "+#", COMMAND_SEEK, ENGINE_SEEK_RELATIVE, false, FORWARD },
	{ IN(COMMAND_OFFSET_PARTITION), "-#", COMMAND_SEEK, ENGINE_SEEK_RELATIVE, false, BACK },
	{ OFFSETS, "earliest", COMMAND_SEEK, ENGINE_SEEK_EARLIEST, false, NOTHING },
	{ OFFSETS, "latest", COMMAND_SEEK, ENGINE_SEEK_LATEST, false, NOTHING },
	{ OFFSETS, "@#", COMMAND_SEEK, ENGINE_SEEK_TIME, false, TIME },
	{ OFFSETS, "@#.#", COMMAND_SEEK, ENGINE_SEEK_TIME, false, TIME },
	{ IN(COMMAND_PURGE_PARTITION), "before #", COMMAND_BEFORE, 0, false, OFFSET },
	{ IN(COMMAND_SETTLE), "#", COMMAND_IDS, 0, false, ID },
	{ IN(COMMAND_SETTLE), "#-#", COMMAND_IDS, 0, false, IDS },
	{ .text = NULL },
};

static const struct {
	const char *usage;
	bool in_partition; /* the directory's partition is that of lines that name none */
} kinds[COMMAND_KIND_COUNT] = {
	[COMMAND_ACK_GROUP] = { "all or PARTITION:OFFSET", false },
	[COMMAND_ACK_PARTITION] = { "all, OFFSET or PARTITION:OFFSET", true },
	[COMMAND_OFFSET_GROUP] = { "PARTITION OFFSET, earliest, latest or @UNIXTIME", false },
	[COMMAND_OFFSET_PARTITION] = { "OFFSET, earliest, latest, @UNIXTIME, +N or -N", true },
	[COMMAND_PURGE_TOPIC] = { "all", false },
	[COMMAND_PURGE_PARTITION] = { "all or before OFFSET", true },
	[COMMAND_SETTLE] = { "all, ID or ID-ID", false },
};

struct number {
	const char *digits;
	size_t len;
	uint64_t value; /* UINT64_MAX if it is that or more: no number we take is so large */
};

enum match { MATCH_NOT, MATCH_BEGINNING, MATCH_WHOLE };

static size_t count_digits(const char *text, size_t len)
{
	size_t count = 0;
	while (count < len && text[count] >= '0' && text[count] <= '9')
		count++;
	return count;
}

static size_t count_blanks(const char *text, size_t len)
{
	size_t count = 0;
	while (count < len && (text[count] == ' ' || text[count] == '\t'))
		count++;
	return count;
}

static struct number number_of(const char *digits, size_t len)
{
	struct number number = { digits, len, 0 };
	for (size_t i = 0; i < len; i++)
		if (__builtin_mul_overflow(number.value, 10u, &number.value) ||
		    __builtin_add_overflow(number.value, (unsigned)(digits[i] - '0'), &number.value)) {
			number.value = UINT64_MAX;
			break;
		}
	return number;
}

static enum match match(const char *form, const char *text, size_t len, struct number numbers[NUMBERS_MAX])
{
	size_t at = count_blanks(text, len), taken, found = 0;
	for (; *form; form++, at += taken) {
		if (at == len)
			return MATCH_BEGINNING;
		switch (*form) {
		case '#':
			assert(found < NUMBERS_MAX);
			taken = count_digits(text + at, len - at);
			numbers[found++] = number_of(text + at, taken);
			break;
		case ' ': taken = count_blanks(text + at, len - at); break;
		default: taken = text[at] == *form; break;
		}
		if (taken == 0)
			return MATCH_NOT;
	}
	at += count_blanks(text + at, len - at);
	return at == len ? MATCH_WHOLE : MATCH_NOT;
}

/* ---------------------------------------------------------------------------------------- meaning */

/* Unix time in ms. What is finer is cut off: better a message too early than one missed. */
static int take_time(const struct number *seconds, const struct number *fraction, int64_t *ret_ms)
{
	int64_t ms = 0;
	for (size_t i = 0; i < 3; i++)
		ms = 10 * ms + (fraction->digits && i < fraction->len ? fraction->digits[i] - '0' : 0);
	if (seconds->value > INT64_MAX / 1000 - 1)
		return -ERANGE;
	*ret_ms = (int64_t)seconds->value * 1000 + ms;
	return 0;
}

/* One that is beyond all there can be is just one that is not known. */
static uint64_t id_of(const struct number *number)
{
	return number->value < UINT64_MAX ? number->value : UINT64_MAX - 1;
}

static int take_argument(const struct form *form, const struct number *numbers, struct command *command)
{
	bool seek = form->verb == COMMAND_SEEK;
	switch (form->argument) {
	case TIME: return take_time(&numbers[0], &numbers[1], &command->value);
	case NOTHING: return 0;
	case ID:
	case IDS:
		command->first = id_of(&numbers[0]);
		command->last = id_of(&numbers[form->argument == IDS]);
		return command->first <= command->last ? 0 : -EINVAL;
	default: break;
	}
	if (numbers[0].value > (seek ? INT64_MAX : ENGINE_OFFSET_NONE - 1))
		return -ERANGE;
	if (seek)
		command->value = form->argument == BACK ? -(int64_t)numbers[0].value : (int64_t)numbers[0].value;
	else
		command->offset = numbers[0].value;
	return 0;
}

static int take(const struct form *form, bool in_partition, uint32_t partition, const struct number *numbers,
    struct command *ret_command, char reason[COMMAND_REASON_MAX])
{
	struct command command = {
		.verb = form->verb, .how = form->how, .partition = in_partition ? partition : ENGINE_ANY
	};
	if (form->named) {
		if (numbers[0].value >= ENGINE_ANY)
			goto err_range;
		if (in_partition && numbers[0].value != partition) {
			snprintf(reason, COMMAND_REASON_MAX, "this directory is partition %u", partition);
			return -EINVAL;
		}
		command.partition = (uint32_t)numbers[0].value;
		numbers++;
	}
	int err = take_argument(form, numbers, &command);
	if (err == -EINVAL) {
		snprintf(reason, COMMAND_REASON_MAX, "the first number of a range is the lower one");
		return err;
	}
	if (err)
		goto err_range;
	*ret_command = command;
	return 0;
err_range:
	snprintf(reason, COMMAND_REASON_MAX, "the number is beyond any partition, offset or time there can be");
	return -ERANGE;
}

static int explain_usage(enum command_kind kind, const char *line, size_t len, char reason[COMMAND_REASON_MAX])
{
	char shown[64];
	name_escape(line, len, shown, sizeof(shown));
	snprintf(reason, COMMAND_REASON_MAX, "write %s, not \"%s\"", kinds[kind].usage, shown);
	return -EINVAL;
}

int command_parse(enum command_kind kind, uint32_t partition, const char *line, size_t len, struct command *ret_command,
    char reason[COMMAND_REASON_MAX])
{
	assert(kind < COMMAND_KIND_COUNT);
	for (const struct form *form = forms; form->text; form++) {
		struct number numbers[NUMBERS_MAX] = { 0 };
		if ((form->kinds & IN(kind)) && match(form->text, line, len, numbers) == MATCH_WHOLE)
			return take(form, kinds[kind].in_partition, partition, numbers, ret_command, reason);
	}
	return explain_usage(kind, line, len, reason);
}

int command_check_prefix(enum command_kind kind, const char *part, size_t len, char reason[COMMAND_REASON_MAX])
{
	assert(kind < COMMAND_KIND_COUNT);
	for (const struct form *form = forms; form->text; form++) {
		struct number numbers[NUMBERS_MAX];
		if ((form->kinds & IN(kind)) && match(form->text, part, len, numbers) != MATCH_NOT)
			return 0;
	}
	return explain_usage(kind, part, len, reason);
}

/* ------------------------------------------------------------------------------------------ lines */

/* Adds to what is kept. */
static int keep(struct line_buffer *lines, const char *bytes, size_t len)
{
	if (len > COMMAND_LINE_MAX - lines->len)
		return -EINVAL;
	if (!lines->part)
		lines->part = malloc(COMMAND_LINE_MAX);
	if (!lines->part)
		return -ENOMEM;
	memcpy(lines->part + lines->len, bytes, len);
	lines->len += len;
	return 0;
}

/* Executes a line of which these are the last bytes. */
static int execute(struct line_buffer *lines, const char *bytes, size_t len, const struct line_calls *calls)
{
	if (lines->len == 0)
		return len > COMMAND_LINE_MAX ? -EINVAL : calls->line(calls->ctx, bytes, len);
	int err = keep(lines, bytes, len);
	if (err)
		return err;
	len = lines->len;
	lines->len = 0;
	return calls->line(calls->ctx, lines->part, len);
}

static int keep_part(struct line_buffer *lines, const char *bytes, size_t len, const struct line_calls *calls)
{
	int err = keep(lines, bytes, len);
	if (err == 0 && calls->part)
		err = calls->part(calls->ctx, lines->part, lines->len);
	return err;
}

ssize_t line_buffer_write(struct line_buffer *lines, const char *buf, size_t size, const struct line_calls *calls)
{
	size_t done = 0;
	int err = 0;
	while (err == 0 && done < size) {
		const char *start = buf + done, *end = memchr(start, '\n', size - done);
		size_t len = end ? (size_t)(end - start) : size - done;
		err = end ? execute(lines, start, len, calls) : keep_part(lines, start, len, calls);
		if (err == 0)
			done += len + (end ? 1 : 0);
	}
	if (err)
		line_buffer_release(lines);
	return err && done == 0 ? err : (ssize_t)done;
}

int line_buffer_finish(struct line_buffer *lines, const struct line_calls *calls)
{
	int err = lines->len > 0 ? execute(lines, "", 0, calls) : 0;
	line_buffer_release(lines);
	return err;
}

void line_buffer_release(struct line_buffer *lines)
{
	free(lines->part);
	*lines = (struct line_buffer){ 0 };
}
