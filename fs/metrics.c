/*
 * metrics - status/metrics: the state and the totals of everything, as OpenMetrics text.
 *
 * Made at open, family by family; within a family every topic and group has a sample. Names of objects are labels, and are
 * escaped; nothing of a message is in here.
 */
#include <stddef.h>
#include <stdio.h>

#include "fs/figures.h"
#include "fs/openmetrics.h"
#include "fs/quota.h"
#include "fs/text.h"
#include "fs/version.h"

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

static void print_sample(struct openmetrics *metrics, const struct family *family, const struct engine_stat *stat,
    const struct openmetrics_label *labels)
{
	const char *field = (const char *)stat + family->field;
	uint64_t value = family->width == sizeof(uint32_t) ? *(const uint32_t *)(const void *)field
							   : *(const uint64_t *)(const void *)field;
	openmetrics_u64(metrics, labels, family->group ? 2 : 1, value);
}

static void print_family(struct openmetrics *metrics, const struct family *family, const struct figures *figures)
{
	openmetrics_family(metrics, family->name, family->type, family->unit, family->help);
	for (size_t i = 0; !family->group && i < figures->topic_count; i++)
		print_sample(metrics, family, &figures->topics[i].stat,
		    (struct openmetrics_label[]){ { "topic", figures->topics[i].name } });
	for (size_t i = 0; family->group && i < figures->group_count; i++)
		print_sample(metrics, family, &figures->groups[i].stat,
		    (struct openmetrics_label[]){
			{ "topic", figures->groups[i].topic }, { "group", figures->groups[i].name } });
}

/* ------------------------------------------------------------------------------------------------- queues */

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

static void print_queue_age(struct openmetrics *metrics, const char *name, int64_t then_ms)
{
	openmetrics_ms(metrics, (struct openmetrics_label[]){ { "queue", name } }, 1, figures_age_ms(then_ms));
}

/* What is not a total; the ages are 0 while there is no such message. */
static void print_queue_gauges(struct openmetrics *metrics, const struct figures *figures)
{
	const struct figures_queue *rows = figures->queues;
	size_t count = figures->queue_count;
	openmetrics_family(metrics, "mqfs_queue_consumers", OPENMETRICS_GAUGE, "", "Consumers that have a file open.");
	for (size_t i = 0; i < count; i++)
		openmetrics_u64(
		    metrics, (struct openmetrics_label[]){ { "queue", rows[i].name } }, 1, rows[i].stat.consumers);
	openmetrics_family(metrics, "mqfs_queue_oldest_ready_seconds", OPENMETRICS_GAUGE, "seconds",
	    "How long ago the oldest waiting message was produced.");
	for (size_t i = 0; i < count; i++)
		print_queue_age(metrics, rows[i].name, rows[i].stat.oldest_ready_ms);
	openmetrics_family(metrics, "mqfs_queue_oldest_unacked_seconds", OPENMETRICS_GAUGE, "seconds",
	    "How long ago the oldest message that is not settled was delivered.");
	for (size_t i = 0; i < count; i++)
		print_queue_age(metrics, rows[i].name, rows[i].stat.oldest_unacked_ms);
}

static void print_queues(struct openmetrics *metrics, const struct figures *figures)
{
	for (size_t f = 0; f < sizeof queue_families / sizeof *queue_families; f++) {
		openmetrics_family(metrics, queue_families[f].name, queue_families[f].type, queue_families[f].unit,
		    queue_families[f].help);
		for (size_t i = 0; i < figures->queue_count; i++) {
			const char *stat = (const char *)&figures->queues[i].stat;
			openmetrics_u64(metrics, (struct openmetrics_label[]){ { "queue", figures->queues[i].name } },
			    1, *(const uint64_t *)(const void *)(stat + queue_families[f].field));
		}
	}
	print_queue_gauges(metrics, figures);
}

/* ----------------------------------------------------------------------------------------------- exchanges */

static const struct {
	const char *name, *help;
	enum openmetrics_type type;
	size_t field;
} exchange_families[] = {
#define EXCHANGE_FIELD(name) offsetof(struct engine_exchange_stat, name)
	{ "mqfs_exchange_bindings", "Bindings.", OPENMETRICS_GAUGE, EXCHANGE_FIELD(bindings) },
	{ "mqfs_exchange_published", "Messages published.", OPENMETRICS_COUNTER, EXCHANGE_FIELD(published) },
	{ "mqfs_exchange_routed", "Copies that went to topics and queues.", OPENMETRICS_COUNTER,
	    EXCHANGE_FIELD(routed) },
	{ "mqfs_exchange_unroutable", "Messages dropped because nothing matched.", OPENMETRICS_COUNTER,
	    EXCHANGE_FIELD(unroutable) },
	{ "mqfs_exchange_refused", "Messages refused.", OPENMETRICS_COUNTER, EXCHANGE_FIELD(refused) },
};

static void print_exchanges(struct openmetrics *metrics, const struct figures *figures)
{
	for (size_t f = 0; f < sizeof exchange_families / sizeof *exchange_families; f++) {
		openmetrics_family(
		    metrics, exchange_families[f].name, exchange_families[f].type, "", exchange_families[f].help);
		for (size_t i = 0; i < figures->exchange_count; i++) {
			const char *stat = (const char *)&figures->exchanges[i].stat;
			openmetrics_u64(metrics,
			    (struct openmetrics_label[]){ { "exchange", figures->exchanges[i].name } }, 1,
			    *(const uint64_t *)(const void *)(stat + exchange_families[f].field));
		}
	}
}

static void print_transactions(struct openmetrics *metrics, const struct figures *figures)
{
	static const char *const states[] = { "open", "committed", "aborted" };
	openmetrics_family(metrics, "mqfs_transactions", OPENMETRICS_GAUGE, "", "Transactions in tx/, by their state.");
	for (size_t i = 0; i < sizeof states / sizeof *states; i++)
		openmetrics_u64(
		    metrics, (struct openmetrics_label[]){ { "state", states[i] } }, 1, figures->transactions[i]);
}

/* -------------------------------------------------------------------------------------------------- users */

static const struct {
	const char *name, *unit, *help;
} user_families[QUOTA_KINDS] = {
	[QUOTA_HANDLES] = { "mqfs_user_open_files", "", "Files that a user has open." },
	[QUOTA_PARKED] = { "mqfs_user_waiting_reads", "", "Reads of a user that wait." },
	[QUOTA_PART_BYTES] = { "mqfs_user_part_bytes", "bytes", "Bytes a user has written that are no message yet." },
	[QUOTA_PUT_FILES] = { "mqfs_user_put_files", "", "Files in put/ that are no message yet." },
	[QUOTA_TX] = { "mqfs_user_transactions", "", "Open transactions that a user has made." },
	[QUOTA_TX_BYTES] = { "mqfs_user_staged_bytes", "bytes", "What is staged in them." },
	[QUOTA_UNACKED] = { "mqfs_user_unacked_messages", "",
	    "Messages of queues that a user has and did not acknowledge." },
	[QUOTA_READ_BYTES] = { "mqfs_user_read_bytes", "bytes",
	    "Bytes of long messages and texts that open files of a user keep." },
	[QUOTA_OBJECTS] = { "mqfs_user_objects", "",
	    "Topics, queues, groups, consumers, members, exchanges, their patterns and bindings, and transactions, "
	    "ended ones too, that a user has "
	    "made." },
};

static void print_user(void *ctx, uid_t uid, uint64_t used)
{
	char text[16];
	snprintf(text, sizeof text, "%u", uid);
	openmetrics_u64(ctx, (struct openmetrics_label[]){ { "uid", text } }, 1, used);
}

/* Only of users who have something open. */
static void print_users(struct openmetrics *metrics, struct quota *quota)
{
	for (enum quota_kind kind = 0; kind < QUOTA_KINDS; kind++) {
		openmetrics_family(metrics, user_families[kind].name, OPENMETRICS_GAUGE, user_families[kind].unit,
		    user_families[kind].help);
		quota_each(quota, kind, print_user, metrics);
	}
	openmetrics_family(
	    metrics, "mqfs_user_refused", OPENMETRICS_COUNTER, "", "Requests refused because a user was at a limit.");
	for (enum quota_kind kind = 0; kind < QUOTA_KINDS; kind++)
		openmetrics_u64(metrics, (struct openmetrics_label[]){ { "limit", quota_rows[kind].option } }, 1,
		    quota_refused(quota, kind));
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
	struct figures figures;
	struct openmetrics metrics;
	int err = figures_collect(fs, &figures);
	if (!err) {
		openmetrics_begin(&metrics, out);
		print_mount(&metrics, fs);
		print_users(&metrics, fs->quota);
		for (size_t i = 0; i < sizeof families / sizeof *families; i++)
			print_family(&metrics, &families[i], &figures);
		if (fs->engine->ops->queue)
			print_queues(&metrics, &figures);
		if (fs->engine->ops->exchange)
			print_exchanges(&metrics, &figures);
		if (fs->engine->ops->tx)
			print_transactions(&metrics, &figures);
		err = openmetrics_end(&metrics);
	}
	figures_release(&figures);
	return err;
}

static const struct text_calls metrics_calls = { .generate = print_metrics };

static int metrics_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	return text_open(fs, node, flags, cred, &metrics_calls, ret_handle);
}

const struct file_class class_metrics = { .open = metrics_open, TEXT_CLASS };
