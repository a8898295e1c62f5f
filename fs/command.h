/*
 * command - what is written to control files: ack, offset, purge.
 *
 * A control file takes lines. Each line is one command and is executed when its newline comes, or at the last close if
 * none does. What is no command fails in the write, which is where a shell sees it: so even a line without its end is
 * checked as it comes, whether it can still become one (`printf bogus > ack` fails).
 *
 * Numbers are decimal without sign, leading zeros allowed; blanks (space, tab) are allowed at both ends of a line and,
 * one or more, where a form has one. The forms are a table in command.c, used for parsing and for checking beginnings.
 */
#ifndef MQFS_FS_COMMAND_H
#define MQFS_FS_COMMAND_H

#include "engine/engine.h"

#define COMMAND_REASON_MAX 160u /* bytes of a sentence, with its NUL */
#define COMMAND_LINE_MAX 4096u  /* bytes of a line, without its newline */

enum command_kind {
	COMMAND_ACK_GROUP,        /* all | PARTITION:OFFSET */
	COMMAND_ACK_PARTITION,    /* all | OFFSET | PARTITION:OFFSET, the partition being this one */
	COMMAND_OFFSET_GROUP,     /* PARTITION OFFSET | earliest | latest | @UNIXTIME */
	COMMAND_OFFSET_PARTITION, /* OFFSET | earliest | latest | @UNIXTIME | +N | -N */
	COMMAND_PURGE_TOPIC,      /* all */
	COMMAND_PURGE_PARTITION,  /* all | before OFFSET */
	COMMAND_SETTLE,           /* all | ID | ID-ID: ack, nack and reject of a queue, redrive of dead letters */
	COMMAND_KIND_COUNT
};

enum command_verb {
	COMMAND_ALL,    /* ack_all(partition), partition_purge(partition, ENGINE_OFFSET_NONE) */
	COMMAND_ACK,    /* ack(partition, offset) */
	COMMAND_SEEK,   /* seek(partition, how, value) */
	COMMAND_BEFORE, /* partition_purge(partition, offset) */
	COMMAND_IDS,    /* messages first to last */
};

struct command {
	enum command_verb verb;
	uint32_t partition;   /* ENGINE_ANY: all */
	uint64_t offset;      /* COMMAND_ACK, COMMAND_BEFORE; never ENGINE_OFFSET_NONE */
	enum engine_seek how; /* COMMAND_SEEK */
	int64_t value;        /* COMMAND_SEEK: offset, Unix time in ms (a finer fraction is cut off), or distance */
	uint64_t first, last; /* COMMAND_IDS: first <= last */
};

/*
 * Parses one line without its newline. partition: that of the directory, for the kinds that have one; else ignored.
 * EINVAL: no command of this kind (an empty line is none). ERANGE: a number beyond what can be. Then reason is a
 * sentence, safe to print.
 */
int command_parse(enum command_kind kind, uint32_t partition, const char *line, size_t len, struct command *ret_command,
    char reason[COMMAND_REASON_MAX]);

/* Can these bytes be the beginning of a line that command_parse() takes? 0 (also for none at all) or EINVAL with reason. */
int command_check_prefix(enum command_kind kind, const char *part, size_t len, char reason[COMMAND_REASON_MAX]);

/* ------------------------------------------------------------------------------- lines of an open control file */

/*
 * Assembles lines from the writes to one open file. All zero is an empty one. line() executes a complete line, part() (may
 * be NULL) checks one that is not complete yet; both return 0 or a negative errno. Not thread-safe.
 */
struct line_buffer {
	char *part; /* NULL when empty */
	size_t len;
};

struct line_calls {
	int (*line)(void *ctx, const char *line, size_t len);
	int (*part)(void *ctx, const char *part, size_t len);
	void *ctx;
};

/*
 * Executes the complete lines of a write in turn, and keeps what is left. Returns what to answer: size if all went well;
 * if a line (or the part) is refused, the count of bytes up to the end of the last line executed, so that the caller's
 * caller writes the rest again and gets the error then; or, if there is no such line, the error itself, and then nothing
 * is kept. EINVAL: a line longer than COMMAND_LINE_MAX. ENOMEM.
 */
ssize_t line_buffer_write(struct line_buffer *lines, const char *buf, size_t size, const struct line_calls *calls);

/* At the last close: executes what is kept as a line, if anything is. 0 or the line's error; nothing is kept after. */
int line_buffer_finish(struct line_buffer *lines, const struct line_calls *calls);

void line_buffer_release(struct line_buffer *lines);

#endif
