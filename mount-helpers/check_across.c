/*
 * check_across - what no part of a store can know of the others, compared, once each of them was read.
 *
 * Damage is what no crash leaves and no mount puts right: rows of the catalog that do not fit each other, logs that are missing among
 * a topic's, bindings to nothing, numbers that would be given twice. What a mount does put right is said to be unfinished: offsets beyond
 * the end of a log whose end a power cut took. What is not of the store at all hurts nobody, and is remarked.
 *
 * Not wrong: names of queues and exchanges where dead letters are to go, that are not there (a name may get its object later);
 * records of the journal about what was removed since.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bytes.h"
#include "engine/io.h"
#include "engine/stage_file.h"
#include "engine/store.h"
#include "fs/name.h"
#include "mount-helpers/check_internal.h"

#define SHOWN (4 * ENGINE_NAME_MAX + 64)

/* "topic 2 (orders)" */
static const char *describe(const struct catalog_object *object, char text[SHOWN])
{
	char name[4 * ENGINE_NAME_MAX + 1];

	name_escape(object->name, strlen(object->name), name, sizeof(name));
	snprintf(text, SHOWN, "%s %" PRIu64 " (%s)", check_kind_name(object->kind), object->id, name);
	return text;
}

static struct known_object *object_at(const struct check *check, size_t i)
{
	return (struct known_object *)check->known->objects.items + i;
}

static struct known_log *log_at(const struct check *check, size_t i)
{
	return (struct known_log *)check->known->logs.items + i;
}

/* ---- the tree ---- */

static int look_at_link(void *ctx, const struct catalog_link *link)
{
	struct check *check = ctx;
	struct known_object *object = check_find_object(check->known, link->id);
	char name[4 * ENGINE_NAME_MAX + 1];

	if (object != NULL && object->row.parent_id == link->parent_id && object->row.kind == link->kind &&
	    (!link->is_name || strcmp(object->row.name, link->name) == 0)) {
		object->named += link->is_name;
		object->listed += !link->is_name;
		return 0;
	}
	name_escape(link->name, strlen(link->name), name, sizeof(name));
	check_problem(check, EIO, "%s%s below %" PRIu64 " is said to be number %" PRIu64 ", which is %s",
	    link->is_name ? "the name " : "a child", name, link->parent_id, link->id,
	    object == NULL ? "not there" : "another");
	return 0;
}

static void check_dlq(struct check *check, const struct known_object *object)
{
	char text[SHOWN];

	if (object->has_dlq)
		return;
	if (object->row.kind == ENGINE_GROUP)
		check_problem(check, 0, "%s has no dead letters yet: a mount makes them", describe(&object->row, text));
	else
		check_problem(check, EIO, "%s has lost its dead letters (dlq): what dies is dropped",
		    describe(&object->row, text));
}

/* Of those that are made to the end. */
static void check_place(struct check *check, const struct known_object *object, uint64_t next_id)
{
	const struct catalog_object *row = &object->row;
	const struct known_object *parent = check_find_object(check->known, row->parent_id);
	char text[SHOWN];

	if (object->named != 1 || object->listed != 1)
		check_problem(check, EIO, "%s is not found by its name, or not listed: %s", describe(row, text),
		    object->named == 0 ? "the row of its name is lost" : "the row of the list is lost");
	if (next_id > 0 && row->id >= next_id)
		check_problem(check, EIO, "%s has a number that will be given again: the next is %" PRIu64,
		    describe(row, text), next_id);
	if (row->id == ENGINE_ROOT_ID || parent == NULL)
		return; /* told of */
	if (!engine_may_hold(parent->row.kind, row->kind))
		check_problem(check, EIO, "%s has no place below number %" PRIu64, describe(row, text), row->parent_id);
	else if (row->name[0] != '/' &&
		 (row->kind == ENGINE_GROUP || (row->kind == ENGINE_QUEUE && parent->row.kind == ENGINE_STORE)))
		check_dlq(check, object);
}

static int look_at_owner(void *ctx, char table, uint64_t id)
{
	struct check *check = ctx;

	if (check_find_object(check->known, id) == NULL)
		check_problem(check, EIO, "table '%c' has rows of object %" PRIu64 ", which is not there", table, id);
	return 0;
}

static int check_tree(struct check *check)
{
	uint64_t next_id = 0;
	int rc = catalog_see_next_id(check->catalog, &next_id);

	if (rc == -ENODATA)
		check_problem(check, EIO, "the number that is given next is lost");
	if (rc == -ENODATA || rc == -EIO) /* that was told */
		rc = 0;
	if (rc == 0)
		rc = catalog_each_link(check->catalog, look_at_link, check);
	for (size_t i = 0; i < check->known->objects.count && rc == 0; i++) {
		struct known_object *parent = check_find_object(check->known, object_at(check, i)->row.parent_id);

		if (parent != NULL && object_at(check, i)->row.kind == ENGINE_QUEUE)
			parent->has_dlq = true;
	}
	for (size_t i = 0; i < check->known->objects.count && rc == 0; i++)
		check_place(check, object_at(check, i), next_id);
	for (size_t i = 0; i < check->known->logs.count && rc == 0 && next_id > 0; i++) {
		if (log_at(check, i)->log_id >= next_id)
			check_problem(check, EIO, "log %016" PRIx64 " has a number that will be given again",
			    log_at(check, i)->log_id);
	}
	return rc == 0 ? catalog_each_owner(check->catalog, look_at_owner, check) : rc;
}

/* ---- logs of topics and queues ---- */

static int by_owner(const void *a, const void *b)
{
	const struct known_log *x = a, *y = b;

	if (x->object_id != y->object_id)
		return x->object_id < y->object_id ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

/* By owner and index; NULL: there is none. */
static const struct known_log *find_log(const struct check *check, uint64_t object_id, uint32_t index)
{
	const struct known_log sought = { .object_id = object_id, .index = index };

	if (check->known->logs.count == 0)
		return NULL;
	return bsearch(&sought, check->known->logs.items, check->known->logs.count, sizeof(sought), by_owner);
}

static void check_log_number(struct check *check, const struct known_log *log)
{
	struct known_object *object = check_find_object(check->known, log->object_id);
	uint32_t most = object->row.kind == ENGINE_TOPIC ? ENGINE_PARTITIONS_MAX : ENGINE_PRIORITIES;
	char text[SHOWN];

	if (log->index >= most) {
		check_problem(check, EIO, "%s: number %" PRIu32 " of its logs is more than it can have",
		    describe(&object->row, text), log->index);
		return;
	}
	object->logs++;
	object->last_log = log->index > object->last_log ? log->index : object->last_log;
}

/* Of a queue some may be missing, as they are made when there is a message. */
static void check_partitions(struct check *check, const struct known_object *object)
{
	char text[SHOWN];

	if (object->row.kind == ENGINE_TOPIC && object->row.name[0] != '/' && object->logs != object->last_log + 1)
		check_problem(check, EIO, "%s has lost a partition: there are %" PRIu32 ", up to number %" PRIu32,
		    describe(&object->row, text), object->logs, object->last_log);
}

/* Where logs end, with what a mount writes to them from the journal. They are sorted by id. */
static void raise_ends(struct check *check)
{
	const struct noted_end *ends = check->known->ends.items;

	for (size_t i = 0; i < check->known->ends.count; i++) {
		struct known_log *log = check_find_log(check->known, ends[i].log_id);

		if (log != NULL && log->end < ends[i].end)
			log->end = ends[i].end;
	}
}

static void check_message_ids(struct check *check)
{
	uint64_t next;

	if (check->known->greatest_message > 0 && catalog_see_message_ids(check->catalog, &next) == 0 &&
	    check->known->greatest_message >= next)
		check_problem(check, EIO,
		    "message %" PRIu64 " has a number that will be given again: the next is %" PRIu64,
		    check->known->greatest_message, next);
}

/* ---- stored offsets ---- */

static int by_cursor(const void *a, const void *b)
{
	const struct noted_cursor *x = a, *y = b;

	if (x->cursor.group_id != y->cursor.group_id)
		return x->cursor.group_id < y->cursor.group_id ? -1 : 1;
	if (x->cursor.partition != y->cursor.partition)
		return x->cursor.partition < y->cursor.partition ? -1 : 1;
	return x->order < y->order ? -1 : x->order > y->order;
}

static int add_cursor(void *ctx, const struct catalog_cursor *row)
{
	struct check *check = ctx;
	const struct noted_cursor noted = { .cursor = { .group_id = row->group_id,
						.partition = row->partition,
						.committed = row->committed,
						.given = row->given } }; /* order 0: before the journal */

	return check_list_add(&check->known->cursors, &noted, sizeof(noted));
}

static void check_cursor(struct check *check, const struct journal_cursor *cursor)
{
	const struct known_object *group = check_find_object(check->known, cursor->group_id);
	const struct known_log *log = group != NULL ? find_log(check, group->row.parent_id, cursor->partition) : NULL;
	char text[SHOWN];

	if (group == NULL || group->row.kind != ENGINE_GROUP)
		return; /* removed since; rows of the catalog were looked at */
	if (log == NULL)
		check_problem(check, EIO, "%s has an offset in partition %" PRIu32 ", which its topic has not",
		    describe(&group->row, text), cursor->partition);
	else if (log->read && cursor->committed > log->end)
		check_problem(check, 0,
		    "%s stands at %" PRIu64 " in partition %" PRIu32 ", beyond the end, %" PRIu64
		    ": a mount puts it there",
		    describe(&group->row, text), cursor->committed, cursor->partition, log->end);
}

static int check_cursors(struct check *check)
{
	struct list *cursors = &check->known->cursors;
	struct noted_cursor *all;
	int rc = 0;

	for (size_t i = 0; i < check->known->objects.count && rc == 0; i++) {
		if (object_at(check, i)->row.kind == ENGINE_GROUP)
			rc = catalog_each_cursor(check->catalog, object_at(check, i)->row.id, add_cursor, check);
	}
	if (rc < 0 || cursors->count == 0)
		return rc;
	all = cursors->items;
	qsort(all, cursors->count, sizeof(*all), by_cursor);
	for (size_t i = 0; i < cursors->count; i++) {
		if (i + 1 == cursors->count || all[i].cursor.group_id != all[i + 1].cursor.group_id ||
		    all[i].cursor.partition != all[i + 1].cursor.partition)
			check_cursor(check, &all[i].cursor);
	}
	return 0;
}

/* ---- what is known of messages of queues ---- */

static int look_at_queue_row(void *ctx, const struct catalog_queue_row *row)
{
	struct check *check = ctx;
	const struct known_log *log = find_log(check, row->queue_id, row->priority);
	const struct known_object *queue = check_find_object(check->known, row->queue_id);
	uint64_t to = 0;
	char text[SHOWN];

	if (row->what == CATALOG_OF_LANE && row->len >= 8)
		to = bytes_get64(row->value); /* touched below it */
	else if (row->what == CATALOG_OF_SPAN && row->len >= 4)
		to = row->first + bytes_get32(row->value);
	if (row->what == CATALOG_OF_QUEUE || to == 0)
		return 0;
	if (log == NULL)
		check_problem(check, EIO, "%s knows of messages of priority %u, which has no log",
		    describe(&queue->row, text), row->priority);
	else if (log->read && to > log->end)
		check_problem(check, 0,
		    "%s knows of messages up to %" PRIu64 " of priority %u, beyond the end, %" PRIu64
		    ": a mount leaves that out",
		    describe(&queue->row, text), to, row->priority, log->end);
	return 0;
}

static bool was_cut(const struct check *check, uint64_t queue_id)
{
	const uint64_t *cuts = check->known->cuts.items;

	for (size_t i = 0; i < check->known->cuts.count; i++) {
		if (cuts[i] == queue_id)
			return true;
	}
	return false;
}

static int check_queues(struct check *check)
{
	int rc = 0;

	for (size_t i = 0; i < check->known->objects.count && rc == 0; i++) {
		const struct catalog_object *object = &object_at(check, i)->row;

		if (object->kind == ENGINE_QUEUE && !was_cut(check, object->id))
			rc = catalog_each_queue_row(check->catalog, object->id, look_at_queue_row, check);
	}
	return rc;
}

/* ---- bindings ---- */

struct bindings_look {
	struct check *check;
	const struct catalog_object *exchange;
	char pattern[CATALOG_PATTERN_MAX + 1]; /* the last there was */
	bool has_pattern;
};

static int look_at_binding(void *ctx, const struct catalog_binding *row)
{
	struct bindings_look *look = ctx;
	const struct known_object *target = check_find_object(look->check->known, row->target_id);
	char text[SHOWN], name[4 * ENGINE_NAME_MAX + 1];

	if (row->name[0] == '\0') {
		memcpy(look->pattern, row->pattern, sizeof(look->pattern));
		look->has_pattern = true;
		return 0;
	}
	name_escape(row->name, strlen(row->name), name, sizeof(name));
	if (!look->has_pattern || strcmp(look->pattern, row->pattern) != 0)
		check_problem(look->check, EIO, "%s: the pattern of the binding %s is lost",
		    describe(look->exchange, text), name);
	if (target == NULL || (target->row.kind != ENGINE_TOPIC && target->row.kind != ENGINE_EXCHANGE &&
				  (target->row.kind != ENGINE_QUEUE || target->row.parent_id != ENGINE_ROOT_ID)))
		check_problem(look->check, EIO, "%s: the binding %s leads to number %" PRIu64 ", which is %s",
		    describe(look->exchange, text), name, row->target_id,
		    target == NULL ? "not there" : "nothing that can be bound");
	return 0;
}

static int check_bindings(struct check *check)
{
	int rc = 0;

	for (size_t i = 0; i < check->known->objects.count && rc == 0; i++) {
		struct bindings_look look = { .check = check, .exchange = &object_at(check, i)->row };

		if (look.exchange->kind == ENGINE_EXCHANGE)
			rc = catalog_each_binding(check->catalog, look.exchange->id, look_at_binding, &look);
	}
	return rc;
}

/* ---- names in directories ---- */

static const char *const store_names[] = { "FORMAT", "FORMAT.tmp", "lock", "catalog", "catalog-lock", "catalog.new",
	"catalog.new-lock", "catalog.copy", "catalog.copy.new", "journal", "logs", "reserve", "spool", STAGE_DIR,
	"lost+found" };

static bool belongs_to_store(const char *name)
{
	for (size_t i = 0; i < sizeof(store_names) / sizeof(store_names[0]); i++) {
		if (strcmp(name, store_names[i]) == 0)
			return true;
	}
	return strncmp(name, "catalog.damaged", strlen("catalog.damaged")) == 0;
}

static bool is_staging(const char *name)
{
	uint64_t number;
	char own[STAGE_NAME_SIZE];

	snprintf(own, sizeof(own), "%s", name);
	return stage_parse_name(own, &number) &&
	       (name[sizeof(own) - 1] == '\0' || strcmp(name + sizeof(own) - 1, STAGE_DAMAGED) == 0);
}

static void look_at_name(struct check *check, const char *dir, const char *name)
{
	char shown[4 * NAME_MAX + 1];
	bool top = strcmp(dir, ".") == 0;

	if (top ? belongs_to_store(name) : is_staging(name)) /* files of the journal have the same names */
		return;
	name_escape(name, strlen(name), shown, sizeof(shown));
	check_remark(check, "%s%s%s is no part of the store", top ? "" : dir, top ? "" : "/", shown);
}

static int check_names(struct check *check, const char *dir)
{
	struct dirent *entry;
	DIR *names;
	int rc = io_open_dir(check->store->dirfd, dir, &names);

	if (rc == -ENOENT) /* of an older store */
		return 0;
	if (io_wants_means(rc))
		return rc;
	if (rc < 0) {
		check_problem(check, EIO, "%s cannot be listed: %s", dir, strerror(-rc));
		return 0;
	}
	while (errno = 0, (entry = readdir(names)) != NULL) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			look_at_name(check, dir, entry->d_name);
	}
	if (errno != 0)
		check_problem(check, EIO, "%s cannot be listed: %s", dir, strerror(errno));
	closedir(names);
	return 0;
}

/* ---- all of it ---- */

static int check_catalog_across(struct check *check)
{
	struct list *logs = &check->known->logs;
	int rc;

	rc = check_tree(check);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < logs->count; i++)
		check_log_number(check, log_at(check, i));
	for (size_t i = 0; i < check->known->objects.count; i++)
		check_partitions(check, object_at(check, i));
	check_message_ids(check);
	if (logs->count > 0) /* no more is found by its id */
		qsort(logs->items, logs->count, sizeof(struct known_log), by_owner);
	rc = check_cursors(check);
	if (rc == 0)
		rc = check_queues(check);
	return rc == 0 ? check_bindings(check) : rc;
}

int check_across(struct check *check)
{
	static const char *const dirs[] = { ".", "journal", STAGE_DIR };
	int rc = 0;

	raise_ends(check);
	check->part = NULL;
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]) && rc == 0; i++)
		rc = check_names(check, dirs[i]);
	check->part = "catalog";
	return rc == 0 && check->catalog != NULL ? check_catalog_across(check) : rc;
}
