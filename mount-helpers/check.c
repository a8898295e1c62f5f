#include "mount-helpers/check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/catalog.h"
#include "engine/io.h"
#include "engine/journal.h"
#include "engine/plog.h"
#include "engine/stage_file.h"
#include "engine/store.h"
#include "fs/name.h"
#include "mount-helpers/check_internal.h"

#define LOG_NAME_LEN 16 /* hex digits */

volatile sig_atomic_t check_cancelled;

/* ---- what was found ---- */

static void say_found(struct check *check, const char *text)
{
	progress_hide(&check->progress);
	if (strncmp(text, "log ", 4) == 0 || check->part == NULL)
		fprintf(stderr, "%s: %s\n", check->path, text);
	else
		fprintf(stderr, "%s: %s: %s\n", check->path, check->part, text);
}

static void on_notify(void *ctx, int err, const char *text)
{
	struct check *check = ctx;

	if (err != 0)
		check->damaged++;
	else
		check->unfinished++;
	say_found(check, text);
}

void check_problem(struct check *check, int err, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	on_notify(check, err, text);
}

void check_remark(struct check *check, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	say_found(check, text);
}

static const char *sentence(int rc)
{
	return engine_reason()[0] != '\0' ? engine_reason() : strerror(-rc);
}

/* ---- the catalog ---- */

static const char *const kinds[ENGINE_KIND_COUNT] = { "store", "topic", "group", "queue", "consumer", "member",
	"exchange", "transaction" };

const char *check_kind_name(enum engine_kind kind)
{
	return (unsigned)kind < ENGINE_KIND_COUNT && kinds[kind] != NULL ? kinds[kind] : "object";
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int check_list_add(struct list *list, const void *item, size_t size)
{
	if (list->count == list->room) {
		size_t room = list->room > 0 ? list->room * 2 : 64;
		void *grown = realloc(list->items, room * size);

		if (grown == NULL)
			return -ENOMEM;
		list->items = grown;
		list->room = room;
	}
	memcpy((char *)list->items + list->count++ * size, item, size);
	return 0;
}

static int compare_objects(const void *a, const void *b)
{
	return compare_numbers(&((const struct known_object *)a)->row.id, &((const struct known_object *)b)->row.id);
}

struct known_object *check_find_object(const struct check_logs *known, uint64_t id)
{
	const struct known_object sought = { .row = { .id = id } };

	if (known->objects.count == 0)
		return NULL;
	return bsearch(&sought, known->objects.items, known->objects.count, sizeof(sought), compare_objects);
}

/* The one that was added last. */
static uint64_t last_object(const struct check_logs *known)
{
	return ((const struct known_object *)known->objects.items)[known->objects.count - 1].row.id;
}

static int add_log(void *ctx, uint32_t index, uint64_t log_id)
{
	struct check *check = ctx;
	const struct known_log log = { .log_id = log_id, .object_id = last_object(check->known), .index = index };

	return check_list_add(&check->known->logs, &log, sizeof(log));
}

/* Its rows come after those of the logs. */
static int add_end(void *ctx, const struct catalog_end *end)
{
	struct check_logs *known = ((struct check *)ctx)->known;
	struct known_log *logs = known->logs.items;

	for (size_t i = known->logs.count; i > 0 && logs[i - 1].object_id == end->object_id; i--) {
		if (logs[i - 1].index == end->index)
			logs[i - 1].known = (struct plog_known){ end->end, end->pos, end->start, true };
	}
	return 0;
}

static int dump_setting(void *ctx, const char *name, const char *value)
{
	struct check *check = ctx;

	char shown[4 * ENGINE_VALUE_MAX + 1];

	name_escape(value, strlen(value), shown, sizeof(shown));
	fprintf(check->dump, "setting %" PRIu64 " %s %s\n", last_object(check->known), name, shown);
	return 0;
}

/* They come in ascending order of id, parents first. */
static int check_object(void *ctx, const struct catalog_object *object)
{
	struct check *check = ctx;
	struct check_logs *known = check->known;
	const struct known_object fresh = { .row = *object };
	char shown[4 * ENGINE_NAME_MAX + 1]; /* a store made by somebody else may hold anything */
	int rc;

	name_escape(object->name, strlen(object->name), shown, sizeof(shown));
	if (object->id != ENGINE_ROOT_ID && check_find_object(known, object->parent_id) == NULL)
		check_problem(check, EIO, "%s %" PRIu64 " (%s) has lost what it is part of, number %" PRIu64,
		    check_kind_name(object->kind), object->id, shown, object->parent_id);
	if (object->name[0] == '/') /* what is being made has no name yet */
		check_problem(
		    check, 0, "%s %" PRIu64 " was not made to the end", check_kind_name(object->kind), object->id);
	rc = check_list_add(&known->objects, &fresh, sizeof(fresh));
	if (rc < 0)
		return rc;
	check->objects++;
	if (check->dump != NULL) {
		fprintf(check->dump, "%s %" PRIu64 " in %" PRIu64 " owner %" PRIu32 ":%" PRIu32 " mode %04o %s\n",
		    check_kind_name(object->kind), object->id, object->parent_id, object->owner.uid, object->owner.gid,
		    object->owner.mode, shown);
		rc = catalog_each_setting(check->catalog, object->id, object->kind, dump_setting, check);
	}
	if (rc == 0 && (object->kind == ENGINE_TOPIC || object->kind == ENGINE_QUEUE))
		rc = catalog_each_partition(check->catalog, object->id, add_log, check);
	if (rc == 0 && (object->kind == ENGINE_TOPIC || object->kind == ENGINE_QUEUE))
		rc = catalog_each_end(check->catalog, object->id, add_end, check);
	return rc;
}

static int compare_logs(const void *a, const void *b)
{
	return compare_numbers(&((const struct known_log *)a)->log_id, &((const struct known_log *)b)->log_id);
}

/* Is there a copy of a damaged catalog? One of which a mount can use the rest only where that is in step with it. */
static void look_for_copy(struct check *check)
{
	struct catalog_copied copied;
	int rc = catalog_look_at_copy(check->store->dirfd, &copied);

	if (rc < 0) {
		say_found(check, sentence(rc));
		return;
	}
	if (check->catalog != NULL && (copied.cut > 0 || copied.change != catalog_last_change(check->catalog)))
		return;
	check->restorable = true;
	say_found(check, "there is a copy of it, from which fsck.mqfs -y makes it anew");
}

/* Of a whole catalog. A new store has none yet. */
static void check_copy(struct check *check)
{
	struct catalog_copied copied;
	int rc = catalog_look_at_copy(check->store->dirfd, &copied);

	if (rc < 0 && rc != -ENOENT)
		check_problem(check, 0, "%s: a mount writes it anew", sentence(rc));
	else if (rc == 0 && (copied.cut > 0 || copied.change != catalog_last_change(check->catalog)))
		check_problem(check, 0, "its copy is not in step with it: a mount writes that anew");
	engine_reason_clear();
}

/* What is wrong is no damage if the catalog is of a newer format. */
static int refused(struct check *check, int rc)
{
	if (io_wants_means(rc))
		return rc;
	check_problem(check, EIO, "%s", sentence(rc));
	check->unusable = true;
	if (catalog_check_newer(check->store->dirfd) == 0)
		look_for_copy(check);
	return 0;
}

static int check_catalog(struct check *check)
{
	struct engine_notify notify = { on_notify, check };
	struct check_logs *known = check->known;
	struct known_log *logs;
	int rc = catalog_open(check->store->dirfd, true, &check->catalog);

	check->part = "catalog";
	check->unusable = check->restorable = false;
	if (rc == 0)
		rc = catalog_claim(check->catalog, check->store->uuid);
	if (rc < 0) {
		catalog_close(check->catalog);
		check->catalog = NULL;
		return refused(check, rc);
	}
	catalog_set_notify(check->catalog, notify);
	if (catalog_damaged(check->catalog) > 0)
		look_for_copy(check);
	else
		check_copy(check);
	rc = catalog_each_object(check->catalog, check_object, check);
	logs = known->logs.items;
	if (rc == 0 && known->logs.count > 0)
		qsort(logs, known->logs.count, sizeof(*logs), compare_logs);
	for (size_t i = 1; i < known->logs.count; i++) {
		if (logs[i].log_id != logs[i - 1].log_id)
			continue;
		check_problem(check, EIO, "log %016" PRIx64 " belongs to %" PRIu64 " and to %" PRIu64, logs[i].log_id,
		    logs[i - 1].object_id, logs[i].object_id);
		check->unusable = true; /* neither is to write to it: it is nobody's to repair */
	}
	return rc;
}

struct known_log *check_find_log(const struct check_logs *known, uint64_t log_id)
{
	const struct known_log sought = { .log_id = log_id };

	if (known->logs.count == 0)
		return NULL;
	return bsearch(&sought, known->logs.items, known->logs.count, sizeof(sought), compare_logs);
}

/* ---- one log ---- */

static struct plog_options log_options(struct check *check, uint64_t id)
{
	struct plog_options options = {
		.logs_dirfd = check->store->logs_dirfd, .id = id, .read_only = true, .notify = { on_notify, check }
	};

	memcpy(options.store_uuid, check->store->uuid, sizeof(options.store_uuid));
	return options;
}

static void dump_batch(struct check *check, uint64_t log_id, const struct engine_view *view)
{
	const struct engine_batch *batch = &view->batch;

	fprintf(check->dump,
	    "batch %016" PRIx64 " offset %" PRIu64 " messages %" PRIu32 " bytes %zu time %" PRIi64 " uid %" PRIu32
	    " gid %" PRIu32 " pid %" PRIu32 "\n",
	    log_id, view->offset, batch->count, batch->len, batch->ts_ms, batch->cred.uid, batch->cred.gid,
	    batch->cred.pid);
}

/* Reads every batch. What is damaged the log reports itself. */
static int read_log(struct check *check, struct plog *plog, struct known_log *log)
{
	struct engine_scratch scratch = { 0 };
	struct engine_partition_stat stat;
	uint64_t offset;
	int rc = 0;

	plog_stat(plog, &stat);
	log->read = true;
	log->end = stat.end;
	log->start = stat.earliest;
	if (check->dump != NULL)
		fprintf(check->dump, "log %016" PRIx64 " earliest %" PRIu64 " end %" PRIu64 " bytes %" PRIu64 "\n",
		    log->log_id, stat.earliest, stat.end, stat.end_pos - stat.start_pos);
	for (offset = stat.earliest; offset < stat.end && !check_cancelled;) {
		struct engine_view view = { 0 };
		uint64_t id = 0;

		rc = plog_read_ids(plog, offset, UINT32_MAX, &scratch, &view, &id);
		if (view.batch.count == 0)
			break;
		if (rc == 0) {
			if (id > 0 && id + view.batch.count - 1 > check->known->greatest_message)
				check->known->greatest_message = id + view.batch.count - 1;
			check->messages += view.batch.count;
			check->bytes += view.batch.len;
			progress_add(&check->progress, view.batch.len);
			if (check->dump != NULL)
				dump_batch(check, log->log_id, &view);
		}
		offset = view.offset + view.batch.count;
		rc = 0;
	}
	engine_scratch_release(&scratch);
	return rc == -ENODATA ? 0 : rc;
}

static int compare_ends(const void *a, const void *b)
{
	const struct noted_end *x = a, *y = b;

	return x->log_id < y->log_id ? -1 : x->log_id > y->log_id;
}

/* What the journal says of where a log ends: from ret_from to below what is returned. They are sorted by log. */
static size_t find_ends(const struct check_logs *known, uint64_t log_id, size_t *ret_from)
{
	const struct noted_end *ends = known->ends.items;
	size_t from = 0, to = known->ends.count;

	while (from < to) {
		size_t middle = from + (to - from) / 2;

		if (ends[middle].log_id < log_id)
			from = middle + 1;
		else
			to = middle;
	}
	*ret_from = from;
	while (to < known->ends.count && ends[to].log_id == log_id)
		to++;
	return to;
}

/* Are messages gone with files that were there? One that the journal has, and the log has not, a mount writes to it, if its segment is there. */
static void check_end(struct check *check, const struct known_log *log, const struct plog *plog)
{
	const struct noted_end *ends = check->known->ends.items;
	uint64_t from = 0, to = 0;
	size_t i, i_end = find_ends(check->known, log->log_id, &i);
	struct stat st;
	char name[64];

	if (log->start < log->known.start)
		check_problem(check, EIO, "log %016" PRIx64 ": where it begins is lost, which was at %" PRIu64,
		    log->log_id, log->known.start);
	if (!plog_lost_end(plog, &from, &to))
		from = to = log->end;
	for (; i < i_end; i++) {
		if (ends[i].end <= to || ends[i].was_there)
			continue;
		snprintf(name, sizeof(name), "%016" PRIx64 "/%020" PRIu64 ".index", log->log_id, ends[i].base);
		if (fstatat(check->store->logs_dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			to = ends[i].end;
	}
	if (from < to)
		check_problem(check, EIO,
		    "log %016" PRIx64 ": messages %" PRIu64 " to %" PRIu64 " are lost with files that are gone",
		    log->log_id, from, to - 1);
}

/* The journal may know of more than the catalog. */
static void raise_known(struct check *check, struct known_log *log)
{
	const struct noted_end *ends = check->known->ends.items;
	size_t i, i_end = find_ends(check->known, log->log_id, &i);

	for (; i < i_end; i++) {
		if (ends[i].was_there && ends[i].end > log->known.end)
			log->known = (struct plog_known){ ends[i].end, log->known.pos, log->known.start, true };
	}
}

static int check_log(struct check *check, struct known_log *log)
{
	struct plog_options options = log_options(check, log->log_id);
	struct plog *plog;
	int rc;

	raise_known(check, log);
	options.known = log->known;
	rc = plog_open(&options, &plog);
	check->logs++;
	if (io_wants_means(rc))
		return rc;
	if (rc == -EINPROGRESS) { /* a crash leaves that */
		check_problem(check, 0, "%s", sentence(rc));
		return 0;
	}
	if (rc < 0) {
		check_problem(check, EIO, "log %016" PRIx64 " (number %" PRIu32 " of %" PRIu64 "): %s%s", log->log_id,
		    log->index, log->object_id, rc == -ENOENT ? "it is not there" : sentence(rc),
		    rc != -ENOENT         ? ""
		    : log->known.is_known ? "; fsck.mqfs -y makes it anew, empty"
					  : ", and nothing says where it ended");
		return 0;
	}
	rc = read_log(check, plog, log);
	check_end(check, log, plog);
	plog_close(plog);
	return rc;
}

/* ---- all logs ---- */

static bool parse_name(const char *name, uint64_t *ret_id)
{
	if (strlen(name) != LOG_NAME_LEN || strspn(name, "0123456789abcdef") != LOG_NAME_LEN)
		return false;
	*ret_id = strtoull(name, NULL, 16);
	return true;
}

/* Bytes of data. An error is that of listing it. */
static int size_of_log(int logs_dirfd, const char *name, uint64_t *ret_size)
{
	struct dirent *entry;
	uint64_t size = 0;
	struct stat st;
	DIR *dir;
	int rc = io_open_dir(logs_dirfd, name, &dir);

	if (rc < 0)
		return rc;
	while (errno = 0, (entry = readdir(dir)) != NULL) {
		size_t len = strlen(entry->d_name);

		if (len <= 5 || strcmp(entry->d_name + len - 5, ".data") != 0)
			continue;
		if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			break;
		size += (uint64_t)st.st_size;
	}
	rc = -errno;
	closedir(dir);
	if (rc == 0)
		*ret_size = size;
	return rc;
}

/* A log that no object names: empty, it is what a crash leaves of a topic that was being made or removed. */
static void check_stray(struct check *check, uint64_t id, uint64_t size)
{
	if (size == 0)
		check_problem(check, 0, "log %016" PRIx64 " belongs to nothing, and is empty", id);
	else
		check_problem(
		    check, EIO, "log %016" PRIx64 " belongs to nothing: %" PRIu64 " bytes of messages", id, size);
}

/* Looks at the names in logs/. Returns the bytes there are, or an error. */
static int list_logs(struct check *check, uint64_t *ret_bytes)
{
	struct dirent *entry;
	uint64_t id;
	DIR *dir;
	int rc = io_open_dir(check->store->logs_dirfd, ".", &dir), sized = 0;

	if (rc < 0)
		return rc;
	while (errno = 0, (entry = readdir(dir)) != NULL) {
		char shown[4 * NAME_MAX + 1];
		uint64_t size = 0;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (!parse_name(entry->d_name, &id)) {
			name_escape(entry->d_name, strlen(entry->d_name), shown, sizeof(shown));
			check_remark(check, "logs/%s is no log", shown);
			continue;
		}
		if (id > check->greatest_id)
			check->greatest_id = id;
		sized = size_of_log(check->store->logs_dirfd, entry->d_name, &size);
		if (io_wants_means(sized))
			break;
		if (sized < 0)
			check_problem(check, EIO, "log %016" PRIx64 " cannot be listed: %s", id, strerror(-sized));
		*ret_bytes += size;
		/* Without a catalog nothing is known of any; and one that cannot be listed may have messages. */
		if (check->catalog != NULL && sized == 0 && check_find_log(check->known, id) == NULL)
			check_stray(check, id, size);
	}
	rc = io_wants_means(sized) ? sized : -errno;
	closedir(dir);
	return rc;
}

static int check_logs(struct check *check)
{
	uint64_t bytes = 0;
	int rc;

	check->part = NULL;
	rc = list_logs(check, &bytes);
	if (check->known->ends.count > 0)
		qsort(check->known->ends.items, check->known->ends.count, sizeof(struct noted_end), compare_ends);
	progress_start(&check->progress, check->path, bytes, check->show_progress ? check->progress_fd : -1);
	for (size_t i = 0; i < check->known->logs.count && rc == 0 && !check_cancelled; i++)
		rc = check_log(check, (struct known_log *)check->known->logs.items + i);
	progress_end(&check->progress);
	return rc;
}

/* ---- the staging files ---- */

static void check_stage(struct check *check, const char *name, int fd)
{
	uint8_t bytes[STAGE_DATA];
	struct stage_header header;
	int rc = io_pread_all(fd, bytes, sizeof(bytes), 0), has = stage_has_data(fd);

	if (rc == 0)
		rc = stage_header_get(bytes, check->store->uuid, &header);
	if (rc < 0 && rc != -ENODATA && rc != -EBADMSG)
		check_problem(check, EIO, "staging file %s %s", name,
		    rc == -EUCLEAN ? "is of another store, or of a newer version" : strerror(-rc));
	else if (has < 0)
		check_problem(check, EIO, "staging file %s: %s", name, strerror(-has));
	else if (has == 0)
		check_problem(check, 0, "staging file %s is empty", name);
	else if (rc < 0)
		check_problem(check, EIO, "the header of staging file %s is damaged: a mount sets it aside", name);
	else if (check->catalog != NULL && check_find_object(check->known, header.target) == NULL)
		check_problem(
		    check, 0, "staging file %s is of number %" PRIu64 ", which was removed", name, header.target);
	else
		check_problem(check, 0, "staging file %s: what is not yet in a log of %" PRIu64 " is to be taken in",
		    name, header.target);
}

/* They are there while a daemon is. After it they have what producers wrote that it did not come to take in. */
static int check_stages(struct check *check)
{
	struct dirent *entry;
	uint64_t number;
	DIR *dir;
	int rc = io_open_dir(check->store->dirfd, STAGE_DIR, &dir);

	check->part = NULL;
	if (rc < 0) {
		if (rc != -ENOENT)
			check_problem(check, EIO, "staging/ cannot be listed: %s", strerror(-rc));
		return rc == -ENOMEM ? rc : 0;
	}
	while (errno = 0, (entry = readdir(dir)) != NULL) {
		int fd = stage_parse_name(entry->d_name, &number)
			     ? io_open_existing(dirfd(dir), entry->d_name, O_RDONLY | O_NOFOLLOW)
			     : -ENOENT;

		if (fd >= 0) {
			check_stage(check, entry->d_name, fd);
			close(fd);
		} else if (fd != -ENOENT && fd != -ELOOP) {
			check_problem(check, EIO, "staging file %s: %s", entry->d_name, strerror(-fd));
		}
	}
	rc = -errno;
	closedir(dir);
	return rc;
}

/* ---- the journal ---- */

/* How records look says mqfs-format(5). */
#define CUT_BYTES 32u
#define END_BYTES 24u

static int keep_end(struct check *check, enum journal_type type, const uint8_t *record, size_t size)
{
	struct noted_end end = { .was_there = true };
	struct plog_tail_end tail;

	if (type == JOURNAL_LOG && plog_record_end(record, size, &tail) == 0)
		end = (struct noted_end){ tail.log_id, tail.offset, tail.base, false };
	else if (type == JOURNAL_END && size == END_BYTES && bytes_get64(record + 8) <= INT64_MAX)
		end = (struct noted_end){ bytes_get64(record), bytes_get64(record + 8), 0, true };
	else
		return 0;
	return check_list_add(&check->known->ends, &end, sizeof(end));
}

static int keep_record(struct check *check, enum journal_type type, const uint8_t *record, size_t size)
{
	struct noted_cursor noted = { .order = check->known->cursors.count + 1 };
	uint64_t queue;

	if (type == JOURNAL_LOG || type == JOURNAL_END)
		return keep_end(check, type, record, size);
	if (type == JOURNAL_CURSOR && journal_decode_cursor(record, size, &noted.cursor) == 0)
		return check_list_add(&check->known->cursors, &noted, sizeof(noted));
	if (type != JOURNAL_CUT || size != CUT_BYTES)
		return 0;
	queue = bytes_get64(record);
	return check_list_add(&check->known->cuts, &queue, sizeof(queue));
}

static int count_record(void *ctx, enum journal_type type, const void *record, size_t size)
{
	struct check *check = ctx;

	check->records++;
	if (check->dump != NULL)
		fprintf(check->dump, "record type %d bytes %zu\n", (int)type, size);
	return keep_record(check, type, record, size);
}

static int check_journal(struct check *check)
{
	struct engine_notify notify = { on_notify, check };
	struct journal *journal;
	uint64_t from = 0;
	int rc;

	check->part = NULL;
	if (check->catalog != NULL)
		catalog_journal(check->catalog, &from); /* what is before is in the catalog, and a mount drops it */
	rc = journal_open(
	    check->store->journal_dirfd, check->store->uuid, true, from, notify, count_record, check, &journal);
	if (rc == 0)
		journal_close(journal);
	else if (!io_wants_means(rc))
		check_problem(check, EIO, "%s", sentence(rc));
	return io_wants_means(rc) ? rc : 0;
}

/* ---- FORMAT ---- */

/* The store was refused. Is that for its FORMAT, and says the rest which store it is? */
static int check_format(struct check *check, int refused)
{
	char reason[256];
	uint8_t uuid[16];
	int rc;

	snprintf(reason, sizeof(reason), "%s", engine_reason());
	engine_reason_clear();
	rc = store_find_uuid(check->path, uuid);
	if (io_wants_means(rc))
		return rc;
	if (rc < 0 && (rc == -EEXIST || strcmp(reason, engine_reason()) == 0))
		return engine_explain(refused, "%s", reason);
	if (rc < 0)
		return engine_explain(refused, "FORMAT is missing or damaged, and %s", engine_reason());
	check_problem(check, EIO,
	    "FORMAT is missing or damaged; the other parts say which store it is, and fsck.mqfs -y makes it anew");
	check->no_format = true;
	return 0;
}

/* ---- all of it ---- */

int check_store(struct check *check)
{
	struct check_logs known = { 0 };
	struct list *const lists[] = { &known.logs, &known.objects, &known.ends, &known.cursors, &known.cuts };
	struct store store;
	int rc = store_open(check->path, false, true, NULL, &store);

	check->no_format = false;
	if (rc == -EUCLEAN)
		return check_format(check, rc);
	if (rc < 0)
		return rc;
	check->store = &store;
	check->known = &known;
	if (store.spool_dirfd < 0)
		check_problem(check, 0, "spool/ is not there: a mount makes it");
	rc = check_catalog(check);
	if (rc == 0 && !check_cancelled)
		rc = check_journal(check);
	if (rc == 0 && !check_cancelled)
		rc = check_stages(check);
	if (rc == 0 && !check_cancelled)
		rc = check_logs(check);
	if (rc == 0 && !check_cancelled)
		rc = check_across(check);
	catalog_close(check->catalog);
	store_close(&store);
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		free(lists[i]->items);
	check->catalog = NULL;
	check->store = NULL;
	check->known = NULL;
	return rc;
}
