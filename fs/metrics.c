/*
 * metrics - status/metrics: the state and the totals of everything, as OpenMetrics text.
 *
 * Made at open, family by family; within a family every topic and group has a sample. Names of objects are labels, and are
 * escaped; nothing of a message is in here.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/openmetrics.h"
#include "fs/text.h"
#include "fs/version.h"

struct row {
	char topic[ENGINE_NAME_MAX + 1], group[ENGINE_NAME_MAX + 1];
	struct engine_stat stat;
};

struct rows {
	struct fs *fs;
	struct row *items;
	size_t count, cap;
};

struct id_list {
	uint64_t *ids;
	size_t count, cap;
	bool failed;
};

static bool add_id(void *ctx, const struct engine_dirent *entry)
{
	struct id_list *list = ctx;
	if (list->count == list->cap) {
		size_t cap = list->cap ? list->cap * 2 : 64;
		uint64_t *ids = realloc(list->ids, cap * sizeof *ids);
		list->failed = !ids;
		if (!ids)
			return false;
		list->ids = ids;
		list->cap = cap;
	}
	list->ids[list->count++] = entry->id;
	return true;
}

static int list_ids(struct fs *fs, struct engine_object *parent, enum engine_kind kind, struct id_list *ret_list)
{
	*ret_list = (struct id_list){ 0 };
	int err = fs->engine->ops->list(fs->engine, parent, kind, 0, add_id, ret_list);
	if (!err && ret_list->failed)
		err = -ENOMEM;
	if (err)
		free(ret_list->ids);
	return err;
}

static struct row *new_row(struct rows *rows)
{
	if (rows->count == rows->cap) {
		size_t cap = rows->cap ? rows->cap * 2 : 64;
		struct row *items = realloc(rows->items, cap * sizeof *items);
		if (!items)
			return NULL;
		rows->items = items;
		rows->cap = cap;
	}
	return &rows->items[rows->count];
}

/* Adds the row of one object, unless it was removed meanwhile; then its children of a kind, if it has some. */
static int collect(struct rows *rows, uint64_t id, const char *topic, enum engine_kind children)
{
	const struct engine_ops *ops = rows->fs->engine->ops;
	struct engine_object *object;
	struct engine_identity identity;
	if (ops->get(rows->fs->engine, id, &object))
		return 0;
	struct row *row = new_row(rows);
	int err = row ? 0 : -ENOMEM;
	if (!err && !ops->identity(object, &identity) && !ops->stat(object, &row->stat)) {
		memcpy(row->topic, topic ? topic : identity.name, sizeof row->topic);
		memcpy(row->group, topic ? identity.name : (char[sizeof row->group]){ "" }, sizeof row->group);
		rows->count++;
	}
	struct id_list list = { 0 };
	if (!err && children != ENGINE_STORE && list_ids(rows->fs, object, children, &list) == 0) {
		for (size_t i = 0; !err && i < list.count; i++)
			err = collect(rows, list.ids[i], identity.name, ENGINE_STORE);
		free(list.ids);
	}
	ops->put(object);
	return err;
}

static int collect_all(struct rows *rows)
{
	struct engine_object *store;
	struct id_list list;
	int err = rows->fs->engine->ops->get(rows->fs->engine, ENGINE_ROOT_ID, &store);
	if (err)
		return err;
	err = list_ids(rows->fs, store, ENGINE_TOPIC, &list);
	rows->fs->engine->ops->put(store);
	if (err)
		return err;
	for (size_t i = 0; !err && i < list.count; i++)
		err = collect(rows, list.ids[i], NULL, ENGINE_GROUP);
	free(list.ids);
	return err;
}

/* One family over topics or groups: which field of their stat. */
struct family {
	const char *name, *unit, *help;
	enum openmetrics_type type;
	bool group;
	size_t field, width; /* offset and size of the field in struct engine_stat */
};
#define FIELD(name) offsetof(struct engine_stat, name), sizeof((struct engine_stat *)0)->name

static const struct family families[] = {
	{ "mqfs_topic_messages", "", "Messages retained.", OPENMETRICS_GAUGE, false, FIELD(messages) },
	{ "mqfs_topic_bytes", "bytes", "Bytes of the retained messages.", OPENMETRICS_GAUGE, false, FIELD(bytes) },
	{ "mqfs_topic_partitions", "", "Partitions.", OPENMETRICS_GAUGE, false, FIELD(partitions) },
	{ "mqfs_topic_producers", "", "Channels open for producing.", OPENMETRICS_GAUGE, false, FIELD(producers) },
	{ "mqfs_topic_published", "", "Messages produced.", OPENMETRICS_COUNTER, false, FIELD(published_total) },
	{ "mqfs_topic_published_bytes", "bytes", "Bytes produced.", OPENMETRICS_COUNTER, false,
	    FIELD(published_bytes_total) },
	{ "mqfs_topic_deduplicated", "", "Messages dropped because their id was seen.", OPENMETRICS_COUNTER, false,
	    FIELD(deduplicated) },
	{ "mqfs_group_lag", "", "Messages not committed yet.", OPENMETRICS_GAUGE, true, FIELD(messages) },
	{ "mqfs_group_readers", "", "Consuming files open.", OPENMETRICS_GAUGE, true, FIELD(readers) },
	{ "mqfs_group_delivered", "", "Messages given to readers.", OPENMETRICS_COUNTER, true, FIELD(delivered_total) },
	{ "mqfs_group_acked", "", "Messages committed.", OPENMETRICS_COUNTER, true, FIELD(acked_total) },
	{ "mqfs_group_lost", "", "Messages that retention took before they were committed.", OPENMETRICS_COUNTER, true,
	    FIELD(lost) },
};

static void print_family(struct openmetrics *metrics, const struct family *family, const struct rows *rows)
{
	openmetrics_family(metrics, family->name, family->type, family->unit, family->help);
	for (size_t i = 0; i < rows->count; i++) {
		const struct row *row = &rows->items[i];
		bool group = *row->group != '\0';
		uint64_t value = 0;
		if (group != family->group)
			continue;
		const char *field = (const char *)&row->stat + family->field;
		if (family->width == sizeof(uint32_t))
			value = *(const uint32_t *)(const void *)field;
		else
			value = *(const uint64_t *)(const void *)field;
		struct openmetrics_label labels[] = { { "topic", row->topic }, { "group", row->group } };
		openmetrics_u64(metrics, labels, group ? 2 : 1, value);
	}
}

/* ------------------------------------------------------------------------------------------------- queues */

struct queue_row {
	char name[ENGINE_NAME_MAX + 1];
	struct engine_queue_stat stat;
};

/* One family over queues: which field of their stat. */
static const struct {
	const char *name, *unit, *help;
	enum openmetrics_type type;
	size_t field;
} queue_families[] = {
#define QUEUE_FIELD(name) offsetof(struct engine_queue_stat, name)
	{ "mqfs_queue_ready", "", "Messages waiting.", OPENMETRICS_GAUGE, QUEUE_FIELD(ready) },
	{ "mqfs_queue_unacked", "", "Messages delivered and not settled.", OPENMETRICS_GAUGE, QUEUE_FIELD(unacked) },
	{ "mqfs_queue_delayed", "", "Messages that are not due yet.", OPENMETRICS_GAUGE, QUEUE_FIELD(delayed) },
	{ "mqfs_queue_dead", "", "Dead letters.", OPENMETRICS_GAUGE, QUEUE_FIELD(dead) },
	{ "mqfs_queue_bytes", "bytes", "Bytes of the messages.", OPENMETRICS_GAUGE, QUEUE_FIELD(bytes) },
	{ "mqfs_queue_published", "", "Messages published.", OPENMETRICS_COUNTER, QUEUE_FIELD(published) },
	{ "mqfs_queue_delivered", "", "Deliveries.", OPENMETRICS_COUNTER, QUEUE_FIELD(delivered) },
	{ "mqfs_queue_redelivered", "", "Deliveries that were not the first.", OPENMETRICS_COUNTER,
	    QUEUE_FIELD(redelivered) },
	{ "mqfs_queue_acked", "", "Messages acknowledged.", OPENMETRICS_COUNTER, QUEUE_FIELD(acked) },
	{ "mqfs_queue_dead_lettered", "", "Messages that became dead letters.", OPENMETRICS_COUNTER,
	    QUEUE_FIELD(dead_lettered) },
	{ "mqfs_queue_expired", "", "Messages whose time was over.", OPENMETRICS_COUNTER, QUEUE_FIELD(expired) },
	{ "mqfs_queue_dropped", "", "Messages discarded.", OPENMETRICS_COUNTER, QUEUE_FIELD(dropped) },
	{ "mqfs_queue_moved_in", "", "Messages that came from another queue.", OPENMETRICS_COUNTER,
	    QUEUE_FIELD(moved_in) },
	{ "mqfs_queue_moved_out", "", "Messages that went to another queue.", OPENMETRICS_COUNTER,
	    QUEUE_FIELD(moved_out) },
	{ "mqfs_queue_deduplicated", "", "Messages dropped because their id was seen.", OPENMETRICS_COUNTER,
	    QUEUE_FIELD(deduplicated) },
};

/* A queue that was removed meanwhile is left out. */
static bool read_queue(struct fs *fs, uint64_t id, struct queue_row *ret_row)
{
	struct engine_object *queue;
	struct engine_identity identity;
	if (fs->engine->ops->get(fs->engine, id, &queue))
		return false;
	bool there =
	    !fs->engine->ops->identity(queue, &identity) && !fs->engine->ops->queue->queue_stat(queue, &ret_row->stat);
	fs->engine->ops->put(queue);
	if (there)
		memcpy(ret_row->name, identity.name, sizeof ret_row->name);
	return there;
}

static void print_queue_age(struct openmetrics *metrics, const struct queue_row *row, int64_t then_ms)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	int64_t age_ms = then_ms > 0 ? now.tv_sec * 1000 + now.tv_nsec / 1000000 - then_ms : 0;
	openmetrics_ms(metrics, (struct openmetrics_label[]){ { "queue", row->name } }, 1, age_ms > 0 ? age_ms : 0);
}

/* What is not a total; the ages are 0 while there is no such message. */
static void print_queue_gauges(struct openmetrics *metrics, const struct queue_row *rows, size_t count)
{
	openmetrics_family(metrics, "mqfs_queue_consumers", OPENMETRICS_GAUGE, "", "Consumers that have a file open.");
	for (size_t i = 0; i < count; i++)
		openmetrics_u64(
		    metrics, (struct openmetrics_label[]){ { "queue", rows[i].name } }, 1, rows[i].stat.consumers);
	openmetrics_family(metrics, "mqfs_queue_oldest_ready_seconds", OPENMETRICS_GAUGE, "seconds",
	    "How long ago the oldest waiting message was produced.");
	for (size_t i = 0; i < count; i++)
		print_queue_age(metrics, &rows[i], rows[i].stat.oldest_ready_ms);
	openmetrics_family(metrics, "mqfs_queue_oldest_unacked_seconds", OPENMETRICS_GAUGE, "seconds",
	    "How long ago the oldest message that is not settled was delivered.");
	for (size_t i = 0; i < count; i++)
		print_queue_age(metrics, &rows[i], rows[i].stat.oldest_unacked_ms);
}

static int print_queues(struct openmetrics *metrics, struct fs *fs)
{
	struct engine_object *store;
	struct id_list list;
	size_t count = 0;
	if (!fs->engine->ops->queue)
		return 0;
	int err = fs->engine->ops->get(fs->engine, ENGINE_ROOT_ID, &store);
	if (err)
		return err;
	err = list_ids(fs, store, ENGINE_QUEUE, &list);
	fs->engine->ops->put(store);
	if (err)
		return err;
	struct queue_row *rows = malloc((list.count + 1) * sizeof *rows);
	for (size_t i = 0; rows && i < list.count; i++)
		count += read_queue(fs, list.ids[i], &rows[count]);
	for (size_t f = 0; rows && f < sizeof queue_families / sizeof *queue_families; f++) {
		openmetrics_family(metrics, queue_families[f].name, queue_families[f].type, queue_families[f].unit,
		    queue_families[f].help);
		for (size_t i = 0; i < count; i++) {
			const char *stat = (const char *)&rows[i].stat;
			openmetrics_u64(metrics, (struct openmetrics_label[]){ { "queue", rows[i].name } }, 1,
			    *(const uint64_t *)(const void *)(stat + queue_families[f].field));
		}
	}
	if (rows)
		print_queue_gauges(metrics, rows, count);
	free(list.ids);
	err = rows ? 0 : -ENOMEM;
	free(rows);
	return err;
}

static void print_mount(struct openmetrics *metrics, struct fs *fs)
{
	uint64_t total = 0, free_bytes = 0;
	openmetrics_family(metrics, "mqfs_build", OPENMETRICS_INFO, "", "The program.");
	openmetrics_u64(metrics,
	    (struct openmetrics_label[]){ { "version", MQFS_VERSION }, { "engine", fs->engine->ops->name } }, 2, 1);
	openmetrics_family(metrics, "mqfs_open_files", OPENMETRICS_GAUGE, "", "Files open in the mount.");
	openmetrics_u64(metrics, NULL, 0, handle_count(fs->handles));
	openmetrics_family(metrics, "mqfs_start_time_seconds", OPENMETRICS_GAUGE, "seconds", "When it was mounted.");
	openmetrics_ms(metrics, NULL, 0, fs->started_ms);
	if (fs->engine->ops->space(fs->engine, &total, &free_bytes) || total == 0)
		return;
	openmetrics_family(
	    metrics, "mqfs_store_size_bytes", OPENMETRICS_GAUGE, "bytes", "Size of what the store is on.");
	openmetrics_u64(metrics, NULL, 0, total);
	openmetrics_family(metrics, "mqfs_store_free_bytes", OPENMETRICS_GAUGE, "bytes", "Room left there.");
	openmetrics_u64(metrics, NULL, 0, free_bytes);
}

static int print_metrics(struct fs *fs, const struct node *node, struct buffer *out)
{
	(void)node;
	struct rows rows = { .fs = fs };
	struct openmetrics metrics;
	int err = collect_all(&rows);
	if (!err) {
		openmetrics_begin(&metrics, out);
		print_mount(&metrics, fs);
		for (size_t i = 0; i < sizeof families / sizeof *families; i++)
			print_family(&metrics, &families[i], &rows);
		err = print_queues(&metrics, fs);
		int end = openmetrics_end(&metrics);
		err = err ? err : end;
	}
	free(rows.items);
	return err;
}

static const struct text_calls metrics_calls = { .generate = print_metrics };

static int metrics_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	return text_open(fs, node, flags, cred, &metrics_calls, ret_handle);
}

const struct file_class class_metrics = { .open = metrics_open, TEXT_CLASS };
