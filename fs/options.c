/*
 * options - by argp; what follows -o is a table as well. mount(8) hands over options that are the kernel's or nobody's: those
 * that make no difference here are in the table to be ignored.
 */
#include "fs/options.h"

#include <argp.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/receive.h"
#include "fs/version.h"

#define THREADS_DEFAULT 6u /* two cores: some in the engine's disk calls, some free to answer */
#define THREADS_MAX 64ul

const char *argp_program_version = "mqfs " MQFS_VERSION;
error_t argp_err_exit_status = 1;

static int problem(char *ret_problem, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int problem(char *ret_problem, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(ret_problem, OPTIONS_PROBLEM, format, args);
	va_end(args);
	return -EINVAL;
}

static int set_ro(struct options *options, const char *value, char *ret_problem)
{
	(void)value;
	(void)ret_problem;
	options->read_only = true;
	return 0;
}

static int set_rw(struct options *options, const char *value, char *ret_problem)
{
	(void)value;
	(void)ret_problem;
	options->read_only = false;
	return 0;
}

static int set_allow_other(struct options *options, const char *value, char *ret_problem)
{
	(void)value;
	(void)ret_problem;
	options->allow_other = true;
	return 0;
}

static int set_noallow_other(struct options *options, const char *value, char *ret_problem)
{
	(void)value;
	(void)ret_problem;
	options->allow_other = false;
	return 0;
}

static int set_staging(struct options *options, const char *value, char *ret_problem)
{
	(void)value;
	(void)ret_problem;
	options->staging = true;
	return 0;
}

static int set_nostaging(struct options *options, const char *value, char *ret_problem)
{
	(void)value;
	(void)ret_problem;
	options->staging = false;
	return 0;
}

static int set_io_uring(struct options *options, const char *value, char *ret_problem)
{
	(void)value;
	(void)ret_problem;
	options->io_uring = true;
	return 0;
}

static int set_noio_uring(struct options *options, const char *value, char *ret_problem)
{
	(void)value;
	(void)ret_problem;
	options->io_uring = false;
	return 0;
}

static int set_pm_qos(struct options *options, const char *value, char *ret_problem)
{
	(void)value;
	(void)ret_problem;
	options->awake = AWAKE_ALWAYS;
	return 0;
}

static int set_nopm_qos(struct options *options, const char *value, char *ret_problem)
{
	(void)value;
	(void)ret_problem;
	options->awake = AWAKE_NEVER;
	return 0;
}

static int set_fsname(struct options *options, const char *value, char *ret_problem)
{
	if (*value == '\0')
		return problem(ret_problem, "fsname needs a value");
	options->fsname = value;
	return 0;
}

static int set_threads(struct options *options, const char *value, char *ret_problem)
{
	char *end;
	unsigned long threads = strtoul(value, &end, 10);
	if (*value == '\0' || *end != '\0' || threads < 2 || threads > THREADS_MAX)
		return problem(ret_problem, "threads=%s: a number from 2 to %lu is wanted", value, THREADS_MAX);
	options->threads = (unsigned)threads;
	return 0;
}

static int set_busy_poll(struct options *options, const char *value, char *ret_problem)
{
	char *end;
	unsigned long us = strtoul(value, &end, 10);
	if (*value == '\0' || *value == '-' || *end != '\0' || us > BUSY_POLL_MAX)
		return problem(ret_problem, "busy_poll=%s: microseconds are wanted, 0 to %lu", value, BUSY_POLL_MAX);
	options->busy_poll = (unsigned)us;
	return 0;
}

static int number_of(const char *option, const char *value, uint64_t *ret_number, char *ret_problem)
{
	char *end;
	errno = 0;
	unsigned long long number = strtoull(value, &end, 10);
	if (*value < '0' || *value > '9' || *end != '\0' || errno != 0)
		return problem(ret_problem, "%s=%s: a number is wanted, or 0 for no limit", option, value);
	*ret_number = number;
	return 0;
}

#define SET_QUOTA(option, kind)                                                                                        \
	static int set_##option(struct options *options, const char *value, char *ret_problem)                         \
	{                                                                                                              \
		return number_of(#option, value, &options->quota[kind], ret_problem);                                  \
	}
SET_QUOTA(user_handles, QUOTA_HANDLES)
SET_QUOTA(user_parked, QUOTA_PARKED)
SET_QUOTA(user_part_bytes, QUOTA_PART_BYTES)
SET_QUOTA(user_put_files, QUOTA_PUT_FILES)
SET_QUOTA(user_tx, QUOTA_TX)
SET_QUOTA(user_tx_bytes, QUOTA_TX_BYTES)
SET_QUOTA(user_unacked, QUOTA_UNACKED)
SET_QUOTA(user_read_bytes, QUOTA_READ_BYTES)
SET_QUOTA(user_objects, QUOTA_OBJECTS)

static int ignore(struct options *options, const char *value, char *ret_problem)
{
	(void)options;
	(void)value;
	(void)ret_problem;
	return 0;
}

static const struct mount_option {
	const char *name;
	int (*set)(struct options *options, const char *value, char *ret_problem);
	bool has_value;
} mount_options[] = {
	{ "ro", set_ro, false },
	{ "rw", set_rw, false },
	{ "allow_other", set_allow_other, false },
	{ "noallow_other", set_noallow_other, false },
	{ "staging", set_staging, false },
	{ "nostaging", set_nostaging, false },
	{ "io_uring", set_io_uring, false },
	{ "noio_uring", set_noio_uring, false },
	{ "pm_qos", set_pm_qos, false },
	{ "nopm_qos", set_nopm_qos, false },
	{ "fsname", set_fsname, true },
	{ "threads", set_threads, true },
	{ "busy_poll", set_busy_poll, true },
	{ "user_handles", set_user_handles, true },
	{ "user_parked", set_user_parked, true },
	{ "user_part_bytes", set_user_part_bytes, true },
	{ "user_put_files", set_user_put_files, true },
	{ "user_tx", set_user_tx, true },
	{ "user_tx_bytes", set_user_tx_bytes, true },
	{ "user_unacked", set_user_unacked, true },
	{ "user_read_bytes", set_user_read_bytes, true },
	{ "user_objects", set_user_objects, true },
	/* always so: messages are no programs and no devices */
	{ "default_permissions", ignore, false },
	{ "nosuid", ignore, false },
	{ "suid", ignore, false },
	{ "nodev", ignore, false },
	{ "dev", ignore, false },
	{ "noexec", ignore, false },
	{ "exec", ignore, false },
	/* nothing to do for: times are those of messages, and what is on disk when is a topic's own setting */
	{ "atime", ignore, false },
	{ "noatime", ignore, false },
	{ "relatime", ignore, false },
	{ "norelatime", ignore, false },
	{ "strictatime", ignore, false },
	{ "nostrictatime", ignore, false },
	{ "lazytime", ignore, false },
	{ "nolazytime", ignore, false },
	{ "diratime", ignore, false },
	{ "nodiratime", ignore, false },
	{ "sync", ignore, false },
	{ "async", ignore, false },
	{ "dirsync", ignore, false },
	{ "defaults", ignore, false },
	{ "auto", ignore, false },
	{ "noauto", ignore, false },
	{ "_netdev", ignore, false },
	{ "nofail", ignore, false },
	{ "user", ignore, false },
	{ "users", ignore, false },
	{ "nouser", ignore, false },
	{ "owner", ignore, false },
	{ "group", ignore, false },
	{ NULL, NULL, false },
};

static int apply_one(struct options *options, char *text, char *ret_problem)
{
	char *value = strchr(text, '=');
	if (value)
		*value++ = '\0';
	for (const struct mount_option *option = mount_options; option->name; option++) {
		if (strcmp(option->name, text) != 0)
			continue;
		if (option->has_value != (value != NULL))
			return problem(ret_problem, "option %s %s a value", text, value ? "takes no" : "needs");
		return option->set(options, value, ret_problem);
	}
	return strncmp(text, "x-", 2) == 0 || strncmp(text, "X-", 2) == 0
		   ? 0
		   : problem(ret_problem, "unknown option: %s", text);
}

int options_apply(struct options *options, char *list, char ret_problem[OPTIONS_PROBLEM])
{
	bool quoted = false;
	int err = 0;
	for (char *at = list, *word = list; !err && word; at++) {
		bool is_last = *at == '\0';
		if (*at == '"')
			quoted = !quoted;
		if (!is_last && (*at != ',' || quoted))
			continue;
		if (quoted)
			return problem(ret_problem, "a quote in the options is not closed");
		*at = '\0';
		if (*word)
			err = apply_one(options, word, ret_problem);
		word = is_last ? NULL : at + 1;
	}
	return err;
}

void options_standard(struct options *ret_options)
{
	*ret_options = (struct options){ .allow_other = geteuid() == 0,
		.staging = true,
		.threads = THREADS_DEFAULT,
		.busy_poll = BUSY_POLL_DEFAULT };
	for (int kind = 0; kind < QUOTA_KINDS; kind++)
		ret_options->quota[kind] = quota_rows[kind].standard;
}

static void apply_or_exit(struct options *options, char *list, struct argp_state *state)
{
	char why[OPTIONS_PROBLEM];
	if (options_apply(options, list, why))
		argp_failure(state, 1, 0, "%s", why);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct options *options = state->input;
	switch (key) {
	case 'f': options->foreground = true; return 0;
	case 'd': options->debug = options->foreground = true; return 0;
	case 'o': apply_or_exit(options, arg, state); return 0;
	case ARGP_KEY_ARG:
		if (state->arg_num == 0)
			options->source = arg;
		else if (state->arg_num == 1)
			options->mountpoint = arg;
		else
			argp_error(state, "one STORE and one DIR are wanted, and then there is %s", arg);
		return 0;
	case ARGP_KEY_END:
		if (state->arg_num < 2)
			argp_error(state, "STORE and DIR are wanted");
		return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

void options_parse(int argc, char **argv, struct options *ret_options)
{
	static const struct argp_option arguments[] = {
		{ "foreground", 'f', NULL, 0, "Stay in the foreground", 0 },
		{ "debug", 'd', NULL, 0, "Print every request (implies -f)", 0 },
		{ "options", 'o', "OPTIONS", 0,
		    "ro, rw, allow_other, noallow_other, staging, nostaging, io_uring, noio_uring, fsname=NAME, "
		    "threads=N, busy_poll=USEC, pm_qos, nopm_qos, user_handles=N, user_parked=N, user_part_bytes=N, "
		    "user_put_files=N, "
		    "user_tx=N, user_tx_bytes=N, user_unacked=N, user_read_bytes=N, user_objects=N, separated by "
		    "commas",
		    0 },
		{ 0 },
	};
	static const struct argp argp = { arguments, parse, "STORE DIR",
		"Mount the message store STORE, which is created if there is none, at DIR.\v"
		"Returns when the mount answers. `umount DIR` or SIGTERM ends it. STORE is a directory, or memory: for "
		"messages that last as long as the mount. See mqfs(8) and mqfs(7).",
		NULL, NULL, NULL };
	options_standard(ret_options);
	argp_parse(&argp, argc, argv, 0, NULL, ret_options);
}
