/*
 * local_keys - the key index of a compacted topic: where the latest message of each key is, in each partition.
 *
 * Nobody who produces knows of it. Who asks brings it up to date first: the meta records of the messages that came since
 * the last time are read, and what they say goes into a table in memory; when that is large, and when compaction has run, it is
 * written to the catalog, with the offset in each partition up to which that is complete. So at a start nothing is read, and at
 * the first use only what came after the last writing. The logs are synced before rows that point into them are written:
 * a row never tells of a message that a power cut could take.
 *
 * A key has one partition as long as nobody writes to another by number and partitions are not added. If it has several, its
 * value is the message with the latest time; of several of one millisecond, that in the highest partition.
 *
 * A row may outlive its message (a purge, compaction of a tombstone); it counts for nothing then, and keys_clean() removes it.
 */
#define HASH_NONFATAL_OOM 1

#include "engine/local_keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/local_queue.h"

#define WALK_AT_ONCE 20000u /* offsets read before looking whether the table is large */
#define TABLE_MAX 20000u    /* keys in memory, of some 100 bytes each */
#define WALKED_MAX 1000000u /* messages that a start would have to read again */
#define ROWS_AT_ONCE 2000u  /* of one transaction: its pages are in memory */
#define LIST_AT_ONCE 256u
#define LIST_TABLE_MAX 1000u /* a list sorts the table with every call */

struct keyed {
	uint64_t offset;
	int64_t ts_ms;
	bool tombstone;
	UT_hash_handle hh;
	uint32_t len;        /* of what follows: partition and key, by which it is found */
	unsigned char key[]; /* 4 bytes of the partition, then the key */
};

#define KEY_ROOM (4 + ENGINE_KEY_MAX)

void keys_init(struct topic_keys *keys)
{
	pthread_mutex_init(&keys->lock, NULL);
}

/* lock */
static void clear_table(struct topic_keys *keys)
{
	struct keyed *keyed, *next;

	HASH_ITER (hh, keys->table, keyed, next) {
		HASH_DEL(keys->table, keyed);
		free(keyed);
	}
	keys->count = 0;
	keys->walked = 0;
}

void keys_release(struct topic_keys *keys)
{
	clear_table(keys);
	free(keys->noted);
	pthread_mutex_destroy(&keys->lock);
}

static bool is_compacted(const struct topic *topic)
{
	return setting_value(&topic->object, SET_CLEANUP_POLICY) != POLICY_DELETE;
}

/* Fills room with what a key of a partition is found by; 0: such a key is not in the index. */
static uint32_t make_name(unsigned char room[KEY_ROOM], uint32_t partition, struct engine_span key)
{
	if (key.ptr == NULL || key.len > ENGINE_KEY_MAX)
		return 0;
	memcpy(room, &partition, 4);
	memcpy(room + 4, key.ptr, key.len);
	return (uint32_t)(4 + key.len);
}

static uint32_t partition_of(const struct keyed *keyed)
{
	uint32_t partition;

	memcpy(&partition, keyed->key, 4);
	return partition;
}

static struct engine_span key_of(const struct keyed *keyed)
{
	return (struct engine_span){ (const char *)keyed->key + 4, keyed->len - 4 };
}

/* ---- catching up; lock ---- */

static int note_covered(void *ctx, uint32_t partition, uint64_t covered)
{
	struct topic_keys *keys = ctx;

	if (partition < keys->partitions)
		keys->noted[partition] = covered;
	return 0;
}

static int grow(struct topic *topic, uint32_t partitions)
{
	struct topic_keys *keys = &topic->keys;
	bool first = keys->noted == NULL;
	uint64_t *noted;

	if (partitions <= keys->partitions)
		return 0;
	noted = realloc(keys->noted, partitions * sizeof(*noted));
	if (noted == NULL)
		return -ENOMEM;
	memset(noted + keys->partitions, 0, (partitions - keys->partitions) * sizeof(*noted));
	keys->noted = noted;
	keys->partitions = partitions;
	return first ? catalog_each_keyed(local_of(&topic->object)->catalog, topic->object.id, note_covered, keys) : 0;
}

struct walk {
	struct topic_keys *keys;
	uint32_t partition;
};

static int note(void *ctx, uint64_t offset, int64_t ts_ms, const struct engine_props *props)
{
	const struct walk *walk = ctx;
	struct topic_keys *keys = walk->keys;
	unsigned char name[KEY_ROOM];
	uint32_t len = make_name(name, walk->partition, props->key);
	struct keyed *keyed;

	if (len == 0)
		return 0;
	keys->walked++;
	HASH_FIND(hh, keys->table, name, len, keyed);
	if (keyed == NULL) {
		keyed = malloc(sizeof(*keyed) + len);
		if (keyed == NULL)
			return -ENOMEM;
		keyed->len = len;
		memcpy(keyed->key, name, len);
		HASH_ADD_KEYPTR(hh, keys->table, keyed->key, len, keyed);
		if (keyed->hh.tbl == NULL) {
			free(keyed);
			return -ENOMEM;
		}
		keys->count++;
	}
	keyed->offset = offset;
	keyed->ts_ms = ts_ms;
	keyed->tombstone = props->tombstone;
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	const struct keyed *left = *(struct keyed *const *)a, *right = *(struct keyed *const *)b;
	struct engine_span l = key_of(left), r = key_of(right);
	int order = memcmp(l.ptr, r.ptr, l.len < r.len ? l.len : r.len);

	if (order != 0 || l.len != r.len)
		return order != 0 ? order : (l.len > r.len) - (l.len < r.len);
	return (partition_of(left) > partition_of(right)) - (partition_of(left) < partition_of(right));
}

/* The entries of the table whose keys are above `after` (ptr NULL: all), sorted; the caller frees the list. */
static int sort_table(
    const struct topic_keys *keys, struct engine_span after, struct keyed ***ret_list, size_t *ret_count)
{
	struct keyed **list = malloc((keys->count + 1) * sizeof(struct keyed *));
	struct keyed *keyed;
	size_t count = 0;

	if (list == NULL)
		return -ENOMEM;
	for (keyed = keys->table; keyed != NULL; keyed = keyed->hh.next) {
		struct engine_span key = key_of(keyed);
		int order =
		    after.ptr == NULL ? 1 : memcmp(key.ptr, after.ptr, key.len < after.len ? key.len : after.len);

		if (order > 0 || (order == 0 && key.len > after.len))
			list[count++] = keyed;
	}
	qsort(list, count, sizeof(*list), compare_names);
	*ret_list = list;
	*ret_count = count;
	return 0;
}

static int sync_logs(struct topic *topic)
{
	struct sync_point *points[ENGINE_PARTITIONS_MAX];
	size_t count = 0;

	for (uint32_t p = 0; p < topic->keys.partitions; p++) {
		struct plog *plog = atomic_load(&topic_partition(topic, p)->plog);

		if (plog != NULL && plog_synced(plog) < topic->keys.noted[p])
			points[count++] = &topic_partition(topic, p)->sync;
	}
	return flusher_run(local_of(&topic->object), points, count);
}

static int put_rows(struct topic *topic, const struct catalog_keyed *rows, size_t count, bool last)
{
	struct local *local = local_of(&topic->object);
	int rc = 0;

	for (size_t i = 0; (i < count || (last && i == 0)) && rc == 0; i += ROWS_AT_ONCE) {
		bool end = i + ROWS_AT_ONCE >= count;
		bool again = false;

		do
			rc =
			    catalog_put_keys(local->catalog, topic->object.id, rows + i, end ? count - i : ROWS_AT_ONCE,
				end && last ? topic->keys.noted : NULL, end && last ? topic->keys.partitions : 0);
		while (reserve_again(local, rc, &again));
	}
	return rc == -ENOENT ? -EIDRM : rc;
}

/* Writes the table to the catalog. */
static int save(struct topic *topic)
{
	struct topic_keys *keys = &topic->keys;
	struct catalog_keyed *rows;
	struct keyed **list = NULL;
	size_t count = 0;
	int rc;

	if (local_of(&topic->object)->read_only || keys->walked == 0)
		return 0;
	rc = sync_logs(topic);
	if (rc == 0)
		rc = sort_table(keys, (struct engine_span){ NULL, 0 }, &list, &count);
	if (rc < 0)
		return rc;
	rows = malloc((count + 1) * sizeof(*rows));
	for (size_t i = 0; rows != NULL && i < count; i++)
		rows[i] = (struct catalog_keyed){ key_of(list[i]), partition_of(list[i]), list[i]->offset,
			list[i]->ts_ms, list[i]->tombstone };
	rc = rows != NULL ? put_rows(topic, rows, count, true) : -ENOMEM;
	free(rows);
	free(list);
	if (rc == 0)
		clear_table(keys);
	return rc;
}

static int catch_up_partition(struct topic *topic, uint32_t index)
{
	struct topic_keys *keys = &topic->keys;
	struct walk walk = { keys, index };
	struct engine_partition_stat stat;
	struct plog *plog;
	int rc = partition_open_log(topic_partition(topic, index), &plog);

	if (rc < 0)
		return rc;
	plog_stat(plog, &stat);
	if (keys->noted[index] < stat.earliest)
		keys->noted[index] = stat.earliest;
	if (keys->noted[index] > stat.end) /* only damage brings this about */
		keys->noted[index] = stat.end;
	while (keys->noted[index] < stat.end && rc == 0) {
		uint64_t to = keys->noted[index] + WALK_AT_ONCE;

		if (to > stat.end)
			to = stat.end;
		rc = plog_each_props(plog, keys->noted[index], to, note, &walk);
		if (rc == 0)
			keys->noted[index] = to;
		if (rc == 0 && (keys->count >= TABLE_MAX || keys->walked >= WALKED_MAX))
			rc = save(topic);
	}
	return rc;
}

/* lock */
static int catch_up(struct topic *topic)
{
	uint32_t partitions = atomic_load(&topic->partitions);
	int rc = grow(topic, partitions);

	for (uint32_t p = 0; p < partitions && rc == 0; p++)
		rc = catch_up_partition(topic, p);
	return rc;
}

int keys_catch_up(struct topic *topic)
{
	int rc;

	pthread_mutex_lock(&topic->keys.lock);
	rc = catch_up(topic);
	pthread_mutex_unlock(&topic->keys.lock);
	return rc;
}

int keys_save(struct topic *topic)
{
	int rc;

	pthread_mutex_lock(&topic->keys.lock);
	rc = catch_up(topic);
	if (rc == 0)
		rc = save(topic);
	pthread_mutex_unlock(&topic->keys.lock);
	return rc;
}

uint64_t keys_noted(struct topic *topic, uint32_t partition)
{
	uint64_t noted;

	pthread_mutex_lock(&topic->keys.lock);
	noted = partition < topic->keys.partitions ? topic->keys.noted[partition] : 0;
	pthread_mutex_unlock(&topic->keys.lock);
	return noted;
}

/* ---- asking ---- */

static uint64_t earliest_of(struct topic *topic, uint32_t index)
{
	uint64_t earliest, end;

	partition_bounds(topic_partition(topic, index), &earliest, &end);
	return earliest;
}

/* Of what a key has in several partitions, the value is the latest: in whatever order they are looked at. */
static bool is_later(const struct catalog_keyed *row, const struct catalog_keyed *than)
{
	if (than->offset == ENGINE_OFFSET_NONE || row->ts_ms != than->ts_ms)
		return than->offset == ENGINE_OFFSET_NONE || row->ts_ms > than->ts_ms;
	return row->partition >= than->partition;
}

/* The rows of a key by partition, from the table or the catalog. lock */
static int rows_of(struct topic *topic, struct engine_span key, struct catalog_keyed *rows)
{
	struct topic_keys *keys = &topic->keys;
	bool wanted[ENGINE_PARTITIONS_MAX];
	unsigned char name[KEY_ROOM];
	struct keyed *keyed;
	int rc;

	memset(wanted, true, sizeof(wanted));
	for (uint32_t p = 0; p < keys->partitions; p++) {
		HASH_FIND(hh, keys->table, name, make_name(name, p, key), keyed);
		wanted[p] = keyed == NULL;
	}
	rc = catalog_get_keys(local_of(&topic->object)->catalog, topic->object.id, key, wanted, keys->partitions, rows);
	for (uint32_t p = 0; p < keys->partitions && rc == 0; p++) {
		if (wanted[p])
			continue;
		HASH_FIND(hh, keys->table, name, make_name(name, p, key), keyed);
		rows[p] = (struct catalog_keyed){ key, p, keyed->offset, keyed->ts_ms, keyed->tombstone };
	}
	return rc;
}

/* lock */
static int find(struct topic *topic, struct engine_span key, struct catalog_keyed *ret_row)
{
	struct catalog_keyed best = { .offset = ENGINE_OFFSET_NONE }, *rows;
	int rc;

	rows = malloc(topic->keys.partitions * sizeof(*rows));
	rc = rows != NULL ? rows_of(topic, key, rows) : -ENOMEM;
	for (uint32_t p = 0; p < topic->keys.partitions && rc == 0; p++) {
		if (rows[p].offset != ENGINE_OFFSET_NONE && rows[p].offset >= earliest_of(topic, p) &&
		    is_later(&rows[p], &best))
			best = rows[p];
	}
	free(rows);
	if (rc == 0 && (best.offset == ENGINE_OFFSET_NONE || best.tombstone))
		rc = -ENOENT;
	if (rc == 0)
		*ret_row = best;
	return rc;
}

int local_key_find(struct engine_object *base, struct engine_span key, struct engine_key *ret_key)
{
	struct object *object = NULL;
	struct catalog_keyed row = { .offset = ENGINE_OFFSET_NONE };
	struct topic *topic;
	int rc = object_enter(base, ENGINE_TOPIC, &object);

	if (rc < 0)
		return rc;
	topic = topic_of_object(object);
	if (!is_compacted(topic) || key.len > ENGINE_KEY_MAX)
		return -ENOENT;
	pthread_mutex_lock(&topic->keys.lock);
	rc = catch_up(topic);
	if (rc == 0)
		rc = find(topic, key, &row);
	pthread_mutex_unlock(&topic->keys.lock);
	if (rc == 0)
		*ret_key = (struct engine_key){ key, row.partition, row.offset, row.ts_ms };
	return rc;
}

int keys_state(struct topic *topic, uint32_t partition, struct engine_span key, uint64_t offset, uint64_t synced,
    enum key_state *ret_state)
{
	struct topic_keys *keys = &topic->keys;
	struct catalog_keyed *rows = NULL;
	unsigned char name[KEY_ROOM];
	uint64_t latest = ENGINE_OFFSET_NONE;
	uint32_t len = make_name(name, partition, key);
	struct keyed *keyed = NULL;
	int rc = 0;

	*ret_state = KEY_UNKNOWN;
	if (len == 0)
		return 0;
	pthread_mutex_lock(&keys->lock);
	HASH_FIND(hh, keys->table, name, len, keyed);
	if (keyed != NULL) {
		latest = keyed->offset;
	} else {
		bool wanted[ENGINE_PARTITIONS_MAX] = { false };

		wanted[partition] = true;
		rows = malloc((partition + 1) * sizeof(*rows));
		rc = rows != NULL ? catalog_get_keys(local_of(&topic->object)->catalog, topic->object.id, key, wanted,
					partition + 1, rows)
				  : -ENOMEM;
		if (rc == 0)
			latest = rows[partition].offset;
		free(rows);
	}
	pthread_mutex_unlock(&keys->lock);
	if (rc == 0 && latest != ENGINE_OFFSET_NONE)
		*ret_state = latest > offset && latest < synced ? KEY_OLDER : KEY_LATEST;
	return rc;
}

/* ---- listing; lock ---- */

/* Rows of the catalog, a page at a time. */
struct pages {
	struct topic *topic;
	struct catalog_keyed rows[LIST_AT_ONCE];
	char names[LIST_AT_ONCE][ENGINE_KEY_MAX];
	size_t count, at;
	char last[ENGINE_KEY_MAX]; /* of the page before */
	struct engine_span after;
	uint32_t after_partition;
	bool over;
};

static int add_row(void *ctx, const struct catalog_keyed *row)
{
	struct pages *pages = ctx;
	size_t i = pages->count++;

	pages->rows[i] = *row;
	memcpy(pages->names[i], row->key.ptr, row->key.len);
	pages->rows[i].key.ptr = pages->names[i];
	return 0;
}

/* The row it is at; NULL at the end. */
static const struct catalog_keyed *page_row(struct pages *pages, int *rc)
{
	if (pages->at < pages->count)
		return &pages->rows[pages->at];
	if (pages->over || *rc < 0)
		return NULL;
	if (pages->count > 0) {
		const struct catalog_keyed *row = &pages->rows[pages->count - 1];

		memcpy(pages->last, row->key.ptr, row->key.len);
		pages->after = (struct engine_span){ pages->last, row->key.len };
		pages->after_partition = row->partition;
	}
	pages->count = pages->at = 0;
	*rc = catalog_list_keys(local_of(&pages->topic->object)->catalog, pages->topic->object.id, pages->after,
	    pages->after_partition, LIST_AT_ONCE, add_row, pages);
	pages->over = pages->count < LIST_AT_ONCE;
	return *rc == 0 && pages->count > 0 ? &pages->rows[0] : NULL;
}

static int compare_keys(struct engine_span a, struct engine_span b)
{
	int order = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);

	return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* Of a key that both have in a partition, the table's row counts. */
static void merge_row(struct topic *topic, const struct catalog_keyed *row, struct catalog_keyed *best)
{
	unsigned char name[KEY_ROOM];
	struct catalog_keyed newest = *row;
	struct keyed *keyed = NULL;

	HASH_FIND(hh, topic->keys.table, name, make_name(name, row->partition, row->key), keyed);
	if (keyed != NULL) {
		newest.offset = keyed->offset;
		newest.ts_ms = keyed->ts_ms;
		newest.tombstone = keyed->tombstone;
	}
	if (newest.partition < topic->keys.partitions && newest.offset >= earliest_of(topic, newest.partition) &&
	    is_later(&newest, best)) {
		newest.key = best->key;
		*best = newest;
	}
}

/* All rows of the lowest key there is in list[*at..] and the pages, as one; false: there is none. */
static bool next_key(struct topic *topic, struct pages *pages, struct keyed **list, size_t count, size_t *at,
    char name[ENGINE_KEY_MAX], struct catalog_keyed *ret_row, int *rc)
{
	const struct catalog_keyed *row = page_row(pages, rc);
	struct catalog_keyed best = { .offset = ENGINE_OFFSET_NONE };

	if (row == NULL && *at >= count)
		return false;
	if (row == NULL || (*at < count && compare_keys(key_of(list[*at]), row->key) < 0))
		best.key = key_of(list[*at]);
	else
		best.key = row->key;
	memcpy(name, best.key.ptr, best.key.len);
	best.key.ptr = name;
	for (; *at < count && compare_keys(key_of(list[*at]), best.key) == 0; (*at)++) {
		struct catalog_keyed of_table = { key_of(list[*at]), partition_of(list[*at]), list[*at]->offset,
			list[*at]->ts_ms, list[*at]->tombstone };

		merge_row(topic, &of_table, &best);
	}
	for (; (row = page_row(pages, rc)) != NULL && compare_keys(row->key, best.key) == 0; pages->at++)
		merge_row(topic, row, &best);
	*ret_row = best;
	return *rc == 0;
}

static int list_keys(
    struct topic *topic, struct engine_span after, bool (*each)(void *ctx, const struct engine_key *key), void *ctx)
{
	struct pages *pages = calloc(1, sizeof(*pages));
	struct catalog_keyed row;
	char name[ENGINE_KEY_MAX];
	struct keyed **list = NULL;
	size_t count = 0, at = 0;
	bool more = true;
	int rc = pages != NULL ? sort_table(&topic->keys, after, &list, &count) : -ENOMEM;

	if (rc == 0) {
		pages->topic = topic;
		pages->after = after;
		pages->after_partition =
		    ENGINE_PARTITIONS_MAX; /* no more, or keys that begin with `after` were below it */
	}
	while (rc == 0 && more && next_key(topic, pages, list, count, &at, name, &row, &rc)) {
		struct engine_key key = { row.key, row.partition, row.offset, row.ts_ms };

		if (row.offset != ENGINE_OFFSET_NONE && !row.tombstone)
			more = each(ctx, &key);
	}
	free(list);
	free(pages);
	return rc;
}

int local_key_list(struct engine_object *base, struct engine_span after,
    bool (*each)(void *ctx, const struct engine_key *key), void *ctx)
{
	struct object *object = NULL;
	struct topic *topic;
	int rc = object_enter(base, ENGINE_TOPIC, &object);

	if (rc < 0)
		return rc;
	topic = topic_of_object(object);
	if (!is_compacted(topic))
		return 0;
	pthread_mutex_lock(&topic->keys.lock);
	rc = catch_up(topic);
	if (rc == 0 && topic->keys.count > LIST_TABLE_MAX)
		rc = save(topic);
	if (rc == 0)
		rc = list_keys(topic, after, each, ctx);
	pthread_mutex_unlock(&topic->keys.lock);
	return rc;
}

/* ---- cleaning ---- */

struct cleaning {
	struct topic *topic;
	int64_t before_ms;
	const uint64_t *clean;
	struct catalog_keyed gone[LIST_AT_ONCE];
	char names[LIST_AT_ONCE + 1][ENGINE_KEY_MAX];
	size_t count, seen;
	struct engine_span last;
	uint32_t last_partition;
};

static int clean_row(void *ctx, const struct catalog_keyed *row)
{
	struct cleaning *c = ctx;
	uint32_t p = row->partition;
	bool gone = p < c->topic->keys.partitions &&
		    (row->offset < earliest_of(c->topic, p) ||
			(row->tombstone && row->ts_ms <= c->before_ms && row->offset < c->clean[p]));

	c->seen++;
	memcpy(c->names[LIST_AT_ONCE], row->key.ptr, row->key.len);
	c->last = (struct engine_span){ c->names[LIST_AT_ONCE], row->key.len };
	c->last_partition = p;
	if (!gone)
		return 0;
	memcpy(c->names[c->count], row->key.ptr, row->key.len);
	c->gone[c->count] =
	    (struct catalog_keyed){ { c->names[c->count], row->key.len }, p, ENGINE_OFFSET_NONE, 0, false };
	c->count++;
	return 0;
}

/* A page of rows; the lock is let go between pages. 1: there are more. */
static int clean_page(struct topic *topic, struct cleaning *c)
{
	struct local *local = local_of(&topic->object);
	int rc;

	c->count = c->seen = 0;
	pthread_mutex_lock(&topic->keys.lock);
	rc =
	    catalog_list_keys(local->catalog, topic->object.id, c->last, c->last_partition, LIST_AT_ONCE, clean_row, c);
	if (rc == 0 && c->count > 0)
		rc = put_rows(topic, c->gone, c->count, false);
	pthread_mutex_unlock(&topic->keys.lock);
	return rc < 0 ? rc : c->seen == LIST_AT_ONCE;
}

int keys_clean(struct topic *topic, int64_t before_ms, const uint64_t *clean)
{
	struct cleaning *c = calloc(1, sizeof(*c));
	int rc;

	if (c == NULL)
		return -ENOMEM;
	c->topic = topic;
	c->before_ms = before_ms;
	c->clean = clean;
	do
		rc = clean_page(topic, c);
	while (rc > 0);
	free(c);
	return rc;
}
