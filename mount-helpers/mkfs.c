/*
 * mkfs - makes a store, as the first mount would: for who wants it made before, or owned otherwise.
 */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/store.h"
#include "mount-helpers/say.h"
#include "mount-helpers/store_tool.h"

struct mkfs {
	const char *path;
	bool quiet;
};

static const struct argp_option mkfs_options[] = {
	{ "quiet", 'q', NULL, 0, "Say nothing if all is well", 0 },
	{ "verbose", 'v', NULL, 0, "Ignored: mkfs(8) passes it on", 0 },
	{ 0 },
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct mkfs *mkfs = state->input;

	switch (key) {
	case 'q': mkfs->quiet = true; return 0;
	case 'v': return 0;
	case ARGP_KEY_ARG:
		if (mkfs->path != NULL)
			argp_error(state, "one store at a time; it has no size to be given");
		mkfs->path = arg;
		return 0;
	case ARGP_KEY_END:
		if (mkfs->path == NULL)
			argp_error(state, "which store?");
		return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

static void print_uuid(const uint8_t uuid[16])
{
	for (int i = 0; i < 16; i++)
		printf("%02x%s", uuid[i], i == 3 || i == 5 || i == 7 || i == 9 ? "-" : "");
}

/* Is there a store already? Then nothing is made: a store is emptied by removing what is in it. */
static int refuse_existing(const char *path)
{
	struct store store;
	int rc = store_open(path, false, true, NULL, &store);

	if (rc == 0)
		store_close(&store);
	if (rc == 0 || rc == -EBUSY) {
		say("%s is a store already", path);
		return -EEXIST;
	}
	return 0;
}

int tool_mkfs(int argc, char **argv)
{
	static const struct argp argp = { mkfs_options, parse, "STORE",
		"Make an empty message store in the directory STORE, which must not be there or be empty."
		"\vThe first mount makes a store as well. See mkfs.mqfs(8).",
		NULL, NULL, NULL };
	struct engine_owner owner = { geteuid(), getegid(), 0755 };
	struct mkfs mkfs = { 0 };
	struct store store;
	int rc;

	argp_err_exit_status = 1;
	argp_parse(&argp, argc, argv, 0, NULL, &mkfs);
	if (refuse_existing(mkfs.path) < 0)
		return 1;
	rc = store_open(mkfs.path, true, false, &owner, &store);
	if (rc < 0) {
		say("%s: %s", mkfs.path, engine_reason()[0] != '\0' ? engine_reason() : strerror(-rc));
		return 1;
	}
	if (!mkfs.quiet) {
		printf("%s: an empty store, uuid ", mkfs.path);
		print_uuid(store.uuid);
		printf("\n");
	}
	store_close(&store);
	return fflush(stdout) == 0 ? 0 : 1;
}
