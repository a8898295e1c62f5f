#include "mount-helpers/options.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#define TIMEOUT_S 30
#define TIMEOUT_MAX_S 86400
#define NAME_MAX_LENGTH 40u

enum use {
	USE_DROP,    /* meant for mount(8), systemd or nobody */
	USE_PASS,    /* goes to the program */
	USE_REMOUNT, /* the helper's: change a mount that is there */
	USE_TIMEOUT, /* the helper's: seconds */
};

enum value { VALUE_NONE, VALUE_OPTIONAL, VALUE_NEEDED };

/* clang-format off */
static const struct row {
	const char *name;
	enum use use;
	enum value value;
	unsigned long set, clear; /* what the word means for the flags of a mount */
} rows[] = {
	{ "defaults",      USE_DROP,    VALUE_NONE,     0, 0 },
	{ "auto",          USE_DROP,    VALUE_NONE,     0, 0 },
	{ "noauto",        USE_DROP,    VALUE_NONE,     0, 0 },
	{ "_netdev",       USE_DROP,    VALUE_NONE,     0, 0 },
	{ "nofail",        USE_DROP,    VALUE_NONE,     0, 0 },
	{ "user",          USE_DROP,    VALUE_OPTIONAL, 0, 0 },
	{ "users",         USE_DROP,    VALUE_NONE,     0, 0 },
	{ "nouser",        USE_DROP,    VALUE_NONE,     0, 0 },
	{ "nousers",       USE_DROP,    VALUE_NONE,     0, 0 },
	{ "owner",         USE_DROP,    VALUE_NONE,     0, 0 },
	{ "noowner",       USE_DROP,    VALUE_NONE,     0, 0 },
	{ "group",         USE_DROP,    VALUE_NONE,     0, 0 },
	{ "nogroup",       USE_DROP,    VALUE_NONE,     0, 0 },
	{ "uhelper",       USE_DROP,    VALUE_OPTIONAL, 0, 0 },
	{ "helper",        USE_DROP,    VALUE_OPTIONAL, 0, 0 },
	/* What the kernel shows of a mount comes back to us at a remount without a line in fstab. */
	{ "user_id", USE_DROP, VALUE_NEEDED, 0, 0 },
	{ "group_id", USE_DROP, VALUE_NEEDED, 0, 0 },
	{ "max_read", USE_DROP, VALUE_NEEDED, 0, 0 },
	/* The times of messages are mqfs's own: reading changes none of them, whatever is asked for. */
	{ "atime",         USE_DROP,    VALUE_NONE,     0, MS_NOATIME },
	{ "noatime",       USE_DROP,    VALUE_NONE,     MS_NOATIME, 0 },
	{ "diratime",      USE_DROP,    VALUE_NONE,     0, MS_NODIRATIME },
	{ "nodiratime",    USE_DROP,    VALUE_NONE,     MS_NODIRATIME, 0 },
	{ "relatime",      USE_DROP,    VALUE_NONE,     0, 0 },
	{ "norelatime",    USE_DROP,    VALUE_NONE,     0, 0 },
	{ "strictatime",   USE_DROP,    VALUE_NONE,     0, 0 },
	{ "nostrictatime", USE_DROP,    VALUE_NONE,     0, 0 },
	{ "lazytime",      USE_DROP,    VALUE_NONE,     0, 0 },
	{ "nolazytime",    USE_DROP,    VALUE_NONE,     0, 0 },
	{ "default_permissions", USE_DROP, VALUE_NONE, 0, 0 },
	{ "async",         USE_DROP,    VALUE_NONE,     0, 0 },
	{ "silent",        USE_DROP,    VALUE_NONE,     0, 0 },
	{ "loud",          USE_DROP,    VALUE_NONE,     0, 0 },

	{ "ro",            USE_PASS,    VALUE_NONE,     MS_RDONLY, 0 },
	{ "rw",            USE_PASS,    VALUE_NONE,     0, MS_RDONLY },
	{ "suid",          USE_PASS,    VALUE_NONE,     0, MS_NOSUID },
	{ "nosuid",        USE_PASS,    VALUE_NONE,     MS_NOSUID, 0 },
	{ "dev",           USE_PASS,    VALUE_NONE,     0, MS_NODEV },
	{ "nodev",         USE_PASS,    VALUE_NONE,     MS_NODEV, 0 },
	{ "exec",          USE_PASS,    VALUE_NONE,     0, MS_NOEXEC },
	{ "noexec",        USE_PASS,    VALUE_NONE,     MS_NOEXEC, 0 },
	{ "sync",          USE_PASS,    VALUE_NONE,     0, 0 },
	{ "dirsync",       USE_PASS,    VALUE_NONE,     0, 0 },
	{ "allow_other",   USE_PASS,    VALUE_NONE,     0, 0 },
	{ "noallow_other", USE_PASS,    VALUE_NONE,     0, 0 },
	{ "staging",       USE_PASS,    VALUE_NONE,     0, 0 },
	{ "nostaging",     USE_PASS,    VALUE_NONE,     0, 0 },
	{ "io_uring",      USE_PASS,    VALUE_NONE,     0, 0 },
	{ "noio_uring",    USE_PASS,    VALUE_NONE,     0, 0 },
	{ "pm_qos",        USE_PASS,    VALUE_NONE,     0, 0 },
	{ "nopm_qos",      USE_PASS,    VALUE_NONE,     0, 0 },
	{ "busy_poll",     USE_PASS,    VALUE_NEEDED,   0, 0 },
	{ "threads",       USE_PASS,    VALUE_NEEDED,   0, 0 },
	{ "user_handles",  USE_PASS,    VALUE_NEEDED,   0, 0 },
	{ "user_parked",   USE_PASS,    VALUE_NEEDED,   0, 0 },
	{ "user_part_bytes", USE_PASS,  VALUE_NEEDED,   0, 0 },
	{ "user_put_files", USE_PASS,   VALUE_NEEDED,   0, 0 },
	{ "user_tx",        USE_PASS,   VALUE_NEEDED,   0, 0 },
	{ "user_tx_bytes",  USE_PASS,   VALUE_NEEDED,   0, 0 },
	{ "user_unacked",   USE_PASS,   VALUE_NEEDED,   0, 0 },
	{ "user_read_bytes", USE_PASS,  VALUE_NEEDED,   0, 0 },
	{ "user_objects",   USE_PASS,   VALUE_NEEDED,   0, 0 },
	{ "fsname",        USE_PASS,    VALUE_NEEDED,   0, 0 },

	{ "remount",       USE_REMOUNT, VALUE_NONE,     0, 0 },
	{ "mount-timeout", USE_TIMEOUT, VALUE_NEEDED,   0, 0 },
};
/* clang-format on */
#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

void options_init(struct mount_options *options)
{
	*options = (struct mount_options){ .timeout_s = TIMEOUT_S };
}

static const struct row *row_find(const char *name, size_t length)
{
	for (size_t i = 0; i < ROW_COUNT; i++)
		if (strlen(rows[i].name) == length && memcmp(rows[i].name, name, length) == 0)
			return &rows[i];
	return NULL;
}

/* Edit distance (Wagner and Fischer), one row of the matrix at a time. */
static size_t distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
	size_t row[NAME_MAX_LENGTH + 1];

	for (size_t j = 0; j <= b_length; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_length; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= b_length; j++) {
			size_t best = diagonal + (a[i - 1] != b[j - 1]);

			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diagonal = row[j];
			row[j] = best;
		}
	}
	return row[b_length];
}

const char *options_nearest(const char *name, size_t length)
{
	const char *nearest = NULL;
	size_t best = 1 + length / 3; /* further away is another word, not a slip */

	if (length > NAME_MAX_LENGTH)
		return NULL;
	for (size_t i = 0; i < ROW_COUNT; i++) {
		size_t far = distance(name, length, rows[i].name, strlen(rows[i].name));

		if (far <= best && (!nearest || far < best)) {
			best = far;
			nearest = rows[i].name;
		}
	}
	return nearest;
}

static int word_pass(struct mount_options *options, const char *word, size_t length)
{
	size_t used = strlen(options->passed);

	if (used + 1 + length + 1 > sizeof(options->passed))
		return -E2BIG;
	if (used > 0)
		options->passed[used++] = ',';
	memcpy(options->passed + used, word, length);
	options->passed[used + length] = '\0';
	return 0;
}

static int timeout_parse(const char *text, size_t length, int *ret_seconds)
{
	char digits[8];
	char *end;
	long seconds;

	if (length == 0 || length >= sizeof(digits))
		return -EINVAL;
	memcpy(digits, text, length);
	digits[length] = '\0';
	seconds = strtol(digits, &end, 10);
	if (digits[0] < '0' || digits[0] > '9' || *end != '\0' || seconds < 1 || seconds > TIMEOUT_MAX_S)
		return -EINVAL;
	*ret_seconds = (int)seconds;
	return 0;
}

static void explain_unknown(const char *word, size_t name_length, char *ret_problem, size_t problem_size)
{
	const char *nearest = options_nearest(word, name_length);

	snprintf(ret_problem, problem_size, "unknown option %.*s%s%s%s", (int)name_length, word,
	    nearest ? "; the nearest known one is " : "", nearest ? nearest : "",
	    nearest ? "" : "; mount.mqfs(8) lists them all");
}

static int word_add(
    struct mount_options *options, const char *word, size_t length, bool sloppy, char *ret_problem, size_t problem_size)
{
	const char *equals = memchr(word, '=', length);
	size_t name_length = equals ? (size_t)(equals - word) : length;
	const struct row *row = row_find(word, name_length);

	if (length >= 2 && (word[0] == 'x' || word[0] == 'X') && word[1] == '-')
		return 0;
	if (!row && sloppy)
		return 0;
	if (!row) {
		explain_unknown(word, name_length, ret_problem, problem_size);
		return -EINVAL;
	}
	if ((row->value == VALUE_NEEDED && (!equals || name_length + 1 == length)) ||
	    (row->value == VALUE_NONE && equals)) {
		snprintf(ret_problem, problem_size, "option %s %s", row->name,
		    row->value == VALUE_NONE ? "takes no value" : "needs a value");
		return -EINVAL;
	}

	options->set_flags = (options->set_flags & ~row->clear) | row->set;
	options->clear_flags = (options->clear_flags & ~row->set) | row->clear;
	switch (row->use) {
	case USE_DROP: return 0;
	case USE_REMOUNT: options->remount = true; return 0;
	case USE_TIMEOUT:
		if (timeout_parse(equals + 1, length - name_length - 1, &options->timeout_s) == 0)
			return 0;
		snprintf(ret_problem, problem_size, "mount-timeout is a number of seconds from 1 to %d", TIMEOUT_MAX_S);
		return -EINVAL;
	case USE_PASS: break;
	}
	if (word_pass(options, word, length) == 0)
		return 0;
	snprintf(ret_problem, problem_size, "the options are longer than %d bytes", OPTIONS_MAX - 1);
	return -EINVAL;
}

int options_add(struct mount_options *options, const char *list, bool sloppy, char *ret_problem, size_t problem_size)
{
	const char *word = list;
	bool quoted = false;

	for (const char *at = list;; at++) {
		int status = 0;

		if (*at == '"')
			quoted = !quoted;
		if (*at != '\0' && (*at != ',' || quoted))
			continue;
		if (quoted) { /* to the end: it would take in what follows, of another list as well */
			snprintf(ret_problem, problem_size, "a quote in the options is not closed");
			return -EINVAL;
		}
		if (at > word)
			status = word_add(options, word, (size_t)(at - word), sloppy, ret_problem, problem_size);
		if (status != 0)
			return status;
		if (*at == '\0')
			return 0;
		word = at + 1;
	}
}
