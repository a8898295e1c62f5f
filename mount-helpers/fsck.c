/*
 * fsck - checks a store, and repairs what can be.
 *
 * A damaged catalog is made anew from its copy, if there is one. Else repairing is what a mount does: the engine is opened, finishes what a crash left (cuts torn tails, replays the journal, finishes
 * moves and commits, removes leftovers), every log is looked at, and the engine is closed, which brings everything to rest. Then
 * it is checked again. Unlike a mount it makes logs anew that are gone. A damaged batch cannot be brought back by anyone; readers go past it. It stays, and the exit status says so.
 */
#include <argp.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/catalog.h"
#include "engine/engine.h"
#include "engine/journal.h"
#include "engine/store.h"
#include "mount-helpers/check.h"
#include "mount-helpers/say.h"
#include "mount-helpers/store_tool.h"

#define KEY_DUMP 0x100

struct fsck {
	struct check check;
	bool repair, ask;
};

static const struct argp_option fsck_options[] = {
	{ "auto", 'a', NULL, 0, "Repair what can be repaired without losing anything", 0 },
	{ "preen", 'p', NULL, 0, "The same", 0 },
	{ "yes", 'y', NULL, 0, "The same", 0 },
	{ "repair", 'r', NULL, 0, "Ask before repairing (the default on a terminal)", 0 },
	{ "no", 'n', NULL, 0, "Change nothing (the default elsewhere)", 0 },
	{ "force", 'f', NULL, 0, "Ignored: a store is always checked", 0 },
	{ "verbose", 'v', NULL, 0, "Say what a repair does", 0 },
	{ "progress", 'C', "FD", OPTION_ARG_OPTIONAL, "Show how far it is, on the descriptor FD", 0 },
	{ "dump", KEY_DUMP, NULL, 0, "Print what is in the store, changing nothing", 0 },
	{ 0 },
};

static int parse_fd(const char *text, struct argp_state *state)
{
	char *end;
	long fd = text != NULL ? strtol(text, &end, 10) : STDOUT_FILENO;

	if (text != NULL && (*text == '\0' || *end != '\0' || fd > 1 << 20))
		argp_error(state, "-C%s: the number of a descriptor is wanted", text);
	return fd > 0 ? (int)fd : STDOUT_FILENO; /* 0 and below: fsck(8) has no bar of its own */
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct fsck *fsck = state->input;

	switch (key) {
	case 'a':
	case 'p':
	case 'y':
		fsck->repair = true;
		fsck->ask = false;
		return 0;
	case 'r': fsck->repair = fsck->ask = true; return 0;
	case 'n': fsck->repair = fsck->ask = false; return 0;
	case 'f': return 0;
	case 'v': fsck->check.verbose = true; return 0;
	case 'C':
		fsck->check.progress_fd = parse_fd(arg, state);
		fsck->check.show_progress = true;
		return 0;
	case KEY_DUMP: fsck->check.dump = stdout; return 0;
	case ARGP_KEY_ARG:
		if (fsck->check.path != NULL)
			argp_error(state, "one store at a time");
		fsck->check.path = arg;
		return 0;
	case ARGP_KEY_END:
		if (fsck->check.path == NULL)
			argp_error(state, "which store?");
		if (fsck->check.dump != NULL) /* whatever else was asked for */
			fsck->repair = fsck->ask = false;
		return 0;
	default: return ARGP_ERR_UNKNOWN;
	}
}

/* ---- repairing ---- */

static void say_repair(void *ctx, int err, const char *text)
{
	const struct fsck *fsck = ctx;

	if (fsck->check.verbose || err != 0)
		printf("%s: %s\n", fsck->check.path, text);
}

struct ids {
	uint64_t *list;
	size_t count, room;
	bool failed;
};

static bool add_id(void *ctx, const struct engine_dirent *entry)
{
	struct ids *ids = ctx;

	if (ids->count == ids->room) {
		size_t room = ids->room > 0 ? ids->room * 2 : 64;
		uint64_t *grown = realloc(ids->list, room * sizeof(*grown));

		if (grown == NULL) {
			ids->failed = true;
			return false;
		}
		ids->list = grown;
		ids->room = room;
	}
	ids->list[ids->count++] = entry->id;
	return true;
}

/* A log is recovered by whoever looks at it first. */
static void look_at(struct engine *engine, struct engine_object *object)
{
	struct engine_identity identity;
	struct engine_stat stat;
	struct engine_partition_stat part;
	struct engine_queue_stat queue;

	if (engine->ops->identity(object, &identity) < 0 || engine->ops->stat(object, &stat) < 0)
		return;
	if (identity.kind == ENGINE_QUEUE)
		(void)engine->ops->queue->queue_stat(object, &queue);
	for (uint32_t i = 0; identity.kind == ENGINE_TOPIC && i < stat.partitions; i++)
		(void)engine->ops->partition_stat(object, i, &part);
}

static int visit(struct engine *engine, struct engine_object *object);

static int visit_children(struct engine *engine, struct engine_object *parent, enum engine_kind kind)
{
	struct ids ids = { 0 };
	int rc = engine->ops->list(engine, parent, kind, 0, add_id, &ids);

	if (ids.failed)
		rc = -ENOMEM;
	for (size_t i = 0; i < ids.count && rc == 0 && !check_cancelled; i++) {
		struct engine_object *object;

		if (engine->ops->get(engine, ids.list[i], &object) < 0)
			continue; /* it has expired meanwhile */
		rc = visit(engine, object);
		engine->ops->put(object);
	}
	free(ids.list);
	return rc;
}

/* Looks at all that has logs, from the top down: topics and queues, and the dead letters of groups and queues. */
static int visit(struct engine *engine, struct engine_object *object)
{
	struct engine_identity identity;
	int rc = engine->ops->identity(object, &identity);

	if (rc < 0)
		return 0;
	if (identity.kind == ENGINE_STORE) {
		rc = visit_children(engine, object, ENGINE_TOPIC);
		return rc < 0 ? rc : visit_children(engine, object, ENGINE_QUEUE);
	}
	look_at(engine, object);
	return visit_children(engine, object, identity.kind == ENGINE_TOPIC ? ENGINE_GROUP : ENGINE_QUEUE);
}

static void say_restored(const struct fsck *fsck, const struct catalog_copied *copied, const char *kept)
{
	const char *path = fsck->check.path;
	time_t seconds = (time_t)(copied->time_ms / 1000);
	char when[32] = "";
	struct tm tm;

	if (localtime_r(&seconds, &tm) != NULL)
		strftime(when, sizeof(when), "%F %T", &tm);
	printf("%s: the catalog is made anew from its copy, whose last change is of %s\n", path, when);
	if (kept[0] != '\0')
		printf("%s: the damaged one is kept as %s\n", path, kept);
	if (copied->cut > 0)
		printf("%s: the copy was damaged itself: what was made, named, set or removed after %s may be lost\n",
		    path, when);
	if (copied->lacks)
		printf("%s: the copy was behind: what was acknowledged after %s may be delivered again, and what was "
		       "made, named, set or removed be lost\n",
		    path, when);
}

static int restore_catalog(struct fsck *fsck)
{
	char kept[CATALOG_KEPT_SIZE];
	uint64_t oldest = UINT64_MAX; /* no file at all: it is not known what was in those there were */
	struct catalog_copied copied;
	struct store store;
	int rc = store_open(fsck->check.path, false, false, NULL, &store);

	if (rc < 0)
		return rc;
	rc = journal_oldest(store.journal_dirfd, &oldest);
	if (rc == 0 || rc == -ENODATA)
		rc = catalog_restore(store.dirfd, oldest, fsck->check.greatest_id + 1, &copied, kept);
	store_close(&store);
	if (rc == 0)
		say_restored(fsck, &copied, kept);
	return rc;
}

/* As a mount does it. */
static int finish(struct fsck *fsck)
{
	struct engine_options options = { .remake_logs = true, .notify = { say_repair, fsck } };
	struct engine_object *root;
	struct engine *engine;
	int rc = engine_open(fsck->check.path, &options, &engine), closed;

	if (rc < 0)
		return rc;
	rc = engine->ops->get(engine, ENGINE_ROOT_ID, &root);
	if (rc == 0) {
		rc = visit(engine, root);
		engine->ops->put(root);
	}
	closed = engine->ops->close(engine);
	return rc < 0 ? rc : closed;
}

static int repair(struct fsck *fsck)
{
	int rc;

	engine_reason_clear(); /* what was found has been said */
	rc = fsck->check.restorable ? restore_catalog(fsck) : 0;
	return rc < 0 ? rc : finish(fsck);
}

/* ---- all of it ---- */

static bool may_repair(const struct fsck *fsck)
{
	char line[16];

	if (fsck->check.unusable && !fsck->check.restorable)
		return false;
	if (!fsck->repair || !fsck->ask)
		return fsck->repair;
	printf("%s: repair it? [y/N] ", fsck->check.path);
	fflush(stdout);
	return fgets(line, sizeof(line), stdin) != NULL && (line[0] == 'y' || line[0] == 'Y');
}

static int failed(const struct fsck *fsck, int rc)
{
	say("%s: %s", fsck->check.path, engine_reason()[0] != '\0' ? engine_reason() : strerror(-rc));
	return FSCK_FAILED;
}

static void say_summary(const struct check *check)
{
	printf("%s: %" PRIu64 " objects, %" PRIu64 " logs, %" PRIu64 " messages, %" PRIu64 " MiB, %" PRIu64
	       " records in the journal\n",
	    check->path, check->objects, check->logs, check->messages, check->bytes >> 20, check->records);
	if (check_cancelled)
		printf("%s: a signal ended it: not all was looked at\n", check->path);
	else if (check->damaged > 0)
		printf("%s: %" PRIu64 " damaged\n", check->path, check->damaged);
	else if (check->unfinished > 0)
		printf("%s: not ended in order: a mount, or fsck -a, finishes what was under way\n", check->path);
	else
		printf("%s: clean\n", check->path);
}

static int look_afresh(struct check *check)
{
	check->objects = check->logs = check->messages = check->bytes = check->records = 0;
	check->unfinished = check->damaged = 0;
	return check_store(check);
}

/* Then there is a store, of which nothing is known yet. */
static int remake_format(struct fsck *fsck)
{
	int rc;

	engine_reason_clear();
	rc = store_remake_format(fsck->check.path);
	if (rc < 0)
		return rc;
	printf("%s: FORMAT is made anew, by what the other parts say\n", fsck->check.path);
	return look_afresh(&fsck->check);
}

static int check_again(struct fsck *fsck, int status)
{
	struct check *check = &fsck->check;
	int rc;

	rc = look_afresh(check);
	if (rc < 0)
		return status | failed(fsck, rc);
	return check->damaged > 0 || check->unfinished > 0 ? status | FSCK_UNCORRECTED : status;
}

static int run(struct fsck *fsck)
{
	struct check *check = &fsck->check;
	int status = FSCK_OK, rc = check_store(check);

	if (rc == 0 && check->no_format && may_repair(fsck)) {
		rc = remake_format(fsck);
		status = FSCK_CORRECTED;
	}
	if (rc < 0)
		return failed(fsck, rc);
	if (!check_cancelled && check->unfinished + check->damaged > 0) {
		if (!check->no_format && may_repair(fsck)) {
			rc = repair(fsck);
			if (rc < 0)
				return failed(fsck, rc);
			status = check_again(fsck, FSCK_CORRECTED);
		} else {
			status |= FSCK_UNCORRECTED;
		}
	}
	if (check->dump == NULL)
		say_summary(check);
	return check_cancelled ? status | FSCK_CANCELLED : status;
}

static void cancel(int signal)
{
	(void)signal;
	check_cancelled = 1;
}

int tool_fsck(int argc, char **argv)
{
	static const struct argp argp = { fsck_options, parse, "STORE",
		"Check the message store STORE, which must not be mounted."
		"\vExit status: the sum of 1 corrected, 4 left uncorrected, 8 could not be checked, 16 usage, 32 "
		"cancelled.\n"
		"See fsck.mqfs(8).",
		NULL, NULL, NULL };
	struct sigaction action = { .sa_handler = cancel };
	struct fsck fsck = { .check = { .progress_fd = STDOUT_FILENO } };
	int status;

	fsck.repair = fsck.ask = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	argp_err_exit_status = FSCK_USAGE;
	argp_parse(&argp, argc, argv, 0, NULL, &fsck);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	status = run(&fsck);
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	say("%s: what was found could not be printed: %s", fsck.check.path, strerror(errno));
	return status | FSCK_FAILED;
}
