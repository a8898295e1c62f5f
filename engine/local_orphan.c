/*
 * local_orphan - logs that no topic names are removed at the start, if there is nothing in them.
 *
 * A topic's logs are made before the catalog names them, and go after the catalog has forgotten them, so a crash in
 * between leaves logs without a topic. Those are empty: the first were never written to, and a topic that holds
 * messages is not removed. A log that a topic or queue names and that is not there is told of at once, though it would be missed only
 * when somebody wants it. A log with messages that no topic names is something else, a damaged catalog most likely,
 * and messages are not ours to throw away: it stays, and is told of. One that two name is not written to.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/failpoint.h"
#include "engine/io.h"
#include "engine/local_queue.h"

#define LOG_NAME_LEN 16 /* hex digits */

/* The ids of all logs that topics have, sorted; and of which there is a directory. */
struct known {
	uint64_t *ids;
	bool *there;
	size_t count;
};

static int compare_ids(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void release_known(struct known *known)
{
	free(known->ids);
	free(known->there);
}

static int find_known(struct local *local, struct known *ret_known)
{
	struct known known = { 0 };
	size_t room = 0;

	for (size_t i = 0; i < local->objects.count; i++) {
		if (local->objects.items[i]->kind == ENGINE_TOPIC)
			room += atomic_load(&topic_of_object(local->objects.items[i])->partitions);
		else if (local->objects.items[i]->kind == ENGINE_QUEUE)
			room += ENGINE_PRIORITIES;
	}
	known.ids = malloc((room + 1) * sizeof(*known.ids));
	known.there = calloc(room + 1, sizeof(*known.there));
	if (known.ids == NULL || known.there == NULL) {
		release_known(&known);
		return -ENOMEM;
	}
	for (size_t i = 0; i < local->objects.count; i++) {
		const struct topic *topic = topic_of_object(local->objects.items[i]);
		const struct queue *queue = queue_of_object(local->objects.items[i]);

		for (uint32_t p = 0; topic->object.kind == ENGINE_QUEUE && p < ENGINE_PRIORITIES; p++) {
			if (queue_lane(queue, p) != NULL)
				known.ids[known.count++] = queue_lane(queue, p)->log_id;
		}
		if (topic->object.kind != ENGINE_TOPIC)
			continue;
		for (uint32_t p = 0; p < atomic_load(&topic->partitions); p++)
			known.ids[known.count++] = topic_partition(topic, p)->log_id;
	}
	qsort(known.ids, known.count, sizeof(*known.ids), compare_ids);
	*ret_known = known;
	return 0;
}

/*
 * Two that write to one log would take each other's messages away: what is settled in the one, and too old in the other. No
 * crash leaves that, and which of them is right cannot be told. So nothing is opened that writes.
 */
int local_check_logs(struct local *local)
{
	struct known known;
	int rc = find_known(local, &known);

	for (size_t i = 1; rc == 0 && i < known.count; i++) {
		uint64_t id = known.ids[i];

		if (id == LOCAL_NO_LOG || id != known.ids[i - 1])
			continue;
		if (!local->read_only)
			rc = engine_explain(-EUCLEAN,
			    "log %016" PRIx64
			    " belongs to two objects of the catalog, and each would take away what the other keeps; "
			    "fsck.mqfs names them, and -o ro mounts the store",
			    id);
		else
			local_fault(local, EIO, "log %016" PRIx64 " belongs to two objects of the catalog", id);
	}
	if (rc != -ENOMEM)
		release_known(&known);
	return rc;
}

/* May a log have messages? If that cannot be found out it may. */
static bool may_have_messages(int logs_dirfd, const char *name)
{
	const struct dirent *entry;
	bool may = false;
	struct stat st;
	DIR *dir;

	if (io_open_dir(logs_dirfd, name, &dir) < 0)
		return true;
	while (!may && (errno = 0, entry = readdir(dir)) != NULL) {
		size_t len = strlen(entry->d_name);

		if (len < 5 || strcmp(entry->d_name + len - 5, ".data") != 0)
			continue;
		may = fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_size > 0;
	}
	may = may || errno != 0;
	closedir(dir);
	return may;
}

/* The id in the name of a log's directory; false: it is not one. */
static bool parse_name(const char *name, uint64_t *ret_id)
{
	if (strlen(name) != LOG_NAME_LEN || strspn(name, "0123456789abcdef") != LOG_NAME_LEN)
		return false;
	*ret_id = strtoull(name, NULL, 16);
	return true;
}

static void look_at(struct local *local, const struct known *known, const char *name)
{
	const uint64_t *found;
	uint64_t id;
	int rc;

	if (!parse_name(name, &id))
		return;
	found = bsearch(&id, known->ids, known->count, sizeof(id), compare_ids);
	if (found != NULL) {
		known->there[found - known->ids] = true;
		return;
	}
	if (may_have_messages(local->store.logs_dirfd, name)) {
		local_fault(
		    local, EIO, "log %s has messages, or cannot be read, but no topic has the log; it is kept", name);
		return;
	}
	if (local->read_only)
		return;
	CRASHPOINT("recover_orphan");
	rc = plog_destroy(local->store.logs_dirfd, id);
	if (rc < 0)
		local_notify(local, -rc, "log %s, which no topic has, cannot be removed: %s", name, strerror(-rc));
	else
		local_notify(local, 0, "removed the empty log %s, which no topic has: a crash left it", name);
}

static int look_at_all(struct local *local, const struct known *known)
{
	const struct dirent *entry;
	DIR *dir;
	int rc = io_open_dir(local->store.logs_dirfd, ".", &dir);

	if (rc < 0)
		return rc;
	while (errno = 0, (entry = readdir(dir)) != NULL)
		look_at(local, known, entry->d_name);
	rc = -errno;
	closedir(dir);
	return rc;
}

static void tell_if_gone(struct local *local, const struct known *known, const struct sync_point *point)
{
	const uint64_t *found = bsearch(&point->log_id, known->ids, known->count, sizeof(point->log_id), compare_ids);
	char what[120];

	if (point->log_id == LOCAL_NO_LOG || found == NULL || known->there[found - known->ids])
		return;
	snprintf(what, sizeof(what), "its log %016" PRIx64 " is gone%s", point->log_id,
	    point->known.is_known && !local->read_only ? "; fsck.mqfs -y makes it anew, empty" : "");
	log_fault(point, -ENOENT, what);
}

/* A log whose whole directory somebody took away: it is told of now, not when somebody wants it. */
static void tell_of_gone(struct local *local, const struct known *known)
{
	for (size_t i = 0; i < local->objects.count; i++) {
		struct object *object = local->objects.items[i];

		for (uint32_t k = 0; k < object_logs(object); k++) {
			if (object_log(object, k) != NULL)
				tell_if_gone(local, known, object_log(object, k));
		}
	}
}

int local_look_at_logs(struct local *local)
{
	struct known known;
	int rc = find_known(local, &known);

	if (rc < 0)
		return rc;
	rc = look_at_all(local, &known);
	if (rc == 0 && !local->remake_logs)
		tell_of_gone(local, &known);
	release_known(&known);
	if (rc == 0 || io_wants_means(rc))
		return rc;
	local_fault(local, -rc, "the logs cannot be listed, so some may be left that no topic has: %s", strerror(-rc));
	return 0; /* nothing needs them gone */
}
