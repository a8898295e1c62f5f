/*
 * dashboard - status/dashboard.html: how the mount does, as one HTML page for a browser.
 *
 * Made at open from the same figures as metrics, and a picture of that moment. The page needs nothing from elsewhere, and works
 * without its script, which only sorts and filters. It is a table of sections: to add one is to write its function and to add
 * a row. A section shows the SHOWN_MAX rows that matter most, and says how many there are.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/errors.h"
#include "fs/figures.h"
#include "fs/page.h"
#include "fs/text.h"
#include "fs/version.h"

#define SHOWN_MAX 200u
#define MEMBERS_SHOWN_MAX 16u
#define ERRORS_SHOWN 20u

struct section {
	const char *title;
	void (*print)(struct fs *fs, const struct figures *figures, struct buffer *out);
};

/* The heads of a table; a name that begins with '#' is over numbers. */
static void begin_table(struct buffer *out, const char *const *columns)
{
	buffer_add_text(out, "<div class=wide><table><thead><tr>");
	for (; *columns; columns++) {
		bool number = **columns == '#';
		buffer_printf(out, "<th%s>%s", number ? " class=n" : "", *columns + number);
	}
	buffer_add_text(out, "</thead><tbody>\n");
}

static void end_table(struct buffer *out, size_t shown, size_t count, const char *which)
{
	buffer_add_text(out, "</tbody></table></div>\n");
	if (count == 0)
		buffer_add_text(out, "<p class=note>None.</p>\n");
	if (shown < count)
		buffer_printf(out,
		    "<p class=note>The %zu %s, of %zu. <a href=metrics>status/metrics</a> has all of them.</p>\n",
		    shown, which, count);
}

/* ------------------------------------------------------------------------------------------------- sections */

static uint64_t topic_rank(const void *row)
{
	return ((const struct figures_topic *)row)->stat.messages;
}

static void print_topics(struct fs *fs, const struct figures *figures, struct buffer *out)
{
	static const char *const columns[] = { "Topic", "#Partitions", "#Messages", "#Bytes", "#Published", "#Groups",
		"#Producers", "Offsets by partition", NULL };
	const void *shown[SHOWN_MAX];
	size_t count =
	    page_top(figures->topics, figures->topic_count, sizeof *figures->topics, topic_rank, shown, SHOWN_MAX);
	begin_table(out, columns);
	for (size_t i = 0; i < count; i++) {
		const struct figures_topic *topic = shown[i];
		page_row(out);
		page_name(out, topic->name);
		page_number(out, topic->stat.partitions);
		page_number(out, topic->stat.messages);
		page_bytes(out, topic->stat.bytes);
		page_number(out, topic->stat.published_total);
		page_number(out, topic->groups);
		page_number(out, topic->stat.producers);
		page_partitions(fs, topic->id, topic->stat.partitions, out);
	}
	end_table(out, count, figures->topic_count, "topics with the most messages");
}

static uint64_t group_rank(const void *row)
{
	const struct figures_group *group = row;
	return group->stat.messages + group->dead;
}

static void print_groups(struct fs *fs, const struct figures *figures, struct buffer *out)
{
	static const char *const columns[] = { "Topic", "Group", "#Lag", "#Dead", "#Delivered", "#Acked", "#Lost",
		"#Readers", "Members", NULL };
	const void *shown[SHOWN_MAX];
	size_t count =
	    page_top(figures->groups, figures->group_count, sizeof *figures->groups, group_rank, shown, SHOWN_MAX);
	begin_table(out, columns);
	for (size_t i = 0; i < count; i++) {
		const struct figures_group *group = shown[i];
		page_row(out);
		page_name(out, group->topic);
		page_name(out, group->name);
		page_number(out, group->stat.messages);
		page_alarm(out, group->dead);
		page_number(out, group->stat.delivered_total);
		page_number(out, group->stat.acked_total);
		page_alarm(out, group->stat.lost);
		page_number(out, group->stat.readers);
		page_members(fs, group->id, MEMBERS_SHOWN_MAX, out);
	}
	end_table(out, count, figures->group_count, "groups with the most messages to read");
}

static uint64_t queue_rank(const void *row)
{
	const struct engine_queue_stat *stat = &((const struct figures_queue *)row)->stat;
	return stat->ready + stat->unacked + stat->delayed + stat->dead;
}

static void print_queues(struct fs *fs, const struct figures *figures, struct buffer *out)
{
	static const char *const columns[] = { "Queue", "#Ready", "#Unacked", "#Delayed", "#Dead", "#Bytes",
		"#Consumers", "#Oldest ready", "#Oldest unacked", "#Published", "#Delivered", "#Redelivered", "#Acked",
		"#Dead-lettered", "#Expired", "#Dropped", "#Moved in", "#Moved out", NULL };
	const void *shown[SHOWN_MAX];
	size_t count =
	    page_top(figures->queues, figures->queue_count, sizeof *figures->queues, queue_rank, shown, SHOWN_MAX);
	(void)fs;
	begin_table(out, columns);
	for (size_t i = 0; i < count; i++) {
		const struct figures_queue *queue = shown[i];
		const struct engine_queue_stat *stat = &queue->stat;
		page_row(out);
		page_name(out, queue->name);
		page_number(out, stat->ready);
		page_number(out, stat->unacked);
		page_number(out, stat->delayed);
		page_alarm(out, stat->dead);
		page_bytes(out, stat->bytes);
		page_number(out, stat->consumers);
		page_age(out, figures_age_ms(stat->oldest_ready_ms));
		page_age(out, figures_age_ms(stat->oldest_unacked_ms));
		const uint64_t totals[] = { stat->published, stat->delivered, stat->redelivered, stat->acked,
			stat->dead_lettered, stat->expired, stat->dropped, stat->moved_in, stat->moved_out };
		for (size_t k = 0; k < sizeof totals / sizeof *totals; k++)
			page_number(out, totals[k]);
	}
	end_table(out, count, figures->queue_count, "queues with the most messages");
}

static void print_errors(struct fs *fs, const struct figures *figures, struct buffer *out)
{
	struct buffer lines = BUFFER_INIT;
	(void)figures;
	int count = errors_read(fs->errors, ERRORS_SHOWN, &lines);
	buffer_add_text(out, count > 0 ? "<pre>" : "<p class=note>None since the mount.</p>\n");
	page_escape(out, lines.ptr, lines.len);
	buffer_add_text(out, count > 0 ? "</pre>\n" : "");
	buffer_release(&lines);
}

/* Most have none: dead letters that are empty are no news. */
static void drop_empty_dlqs(struct figures *figures)
{
	size_t kept = 0;
	for (size_t i = 0; i < figures->queue_count; i++)
		if (!figures->queues[i].is_dlq || queue_rank(&figures->queues[i]) > 0)
			figures->queues[kept++] = figures->queues[i];
	figures->queue_count = kept;
}

static const struct section sections[] = {
	{ "Queues", print_queues },
	{ "Topics", print_topics },
	{ "Groups", print_groups },
	{ "Last errors", print_errors },
};

/* ------------------------------------------------------------------------------------------------- the page */

static void print_health(struct fs *fs, struct buffer *out)
{
	char text[4096];
	size_t len = fs->engine->ops->health(fs->engine, text, sizeof text);
	len = len < sizeof text ? len : sizeof text - 1;
	const char *end = memchr(text, '\n', len);
	size_t first = end ? (size_t)(end - text) : len;
	bool ok = first == strlen("state ok") && memcmp(text, "state ok", first) == 0;
	buffer_printf(out, "<p class=\"state %s\">", ok ? "good" : "bad");
	page_escape(out, text, first);
	buffer_add_text(out, "</p>\n");
	if (first + 1 < len) {
		buffer_add_text(out, "<pre>");
		page_escape(out, text + first + 1, len - first - 1);
		buffer_add_text(out, "</pre>\n");
	}
}

static void print_sums(struct fs *fs, const struct figures *figures, struct buffer *out)
{
	uint64_t lag = 0, ready = 0, unacked = 0, dead = 0, queues = 0, total, room;
	for (size_t i = 0; i < figures->group_count; i++) {
		lag += figures->groups[i].stat.messages;
		dead += figures->groups[i].dead;
	}
	for (size_t i = 0; i < figures->queue_count; i++) {
		const struct figures_queue *queue = &figures->queues[i];
		if (queue->is_dlq)
			continue;
		queues++;
		ready += queue->stat.ready;
		unacked += queue->stat.unacked;
		dead += queue->stat.dead;
	}
	buffer_add_text(out, "<dl>");
	page_sum(out, "queues", queues);
	page_sum(out, "ready", ready);
	page_sum(out, "unacked", unacked);
	page_sum(out, "dead", dead);
	page_sum(out, "topics", figures->topic_count);
	page_sum(out, "groups", figures->group_count);
	page_sum(out, "lag", lag);
	page_sum(out, "open files", handle_count(fs->handles));
	if (fs->engine->ops->space(fs->engine, &total, &room) == 0 && total > 0)
		buffer_printf(out, "<div><dt>disk free<dd>%" PRIu64 " %%</div>", room / (total / 100 + 1));
	buffer_add_text(out, "</dl>\n");
}

static int print_dashboard(struct fs *fs, const struct node *node, struct buffer *out)
{
	struct figures figures;
	(void)node;
	int err = figures_collect(fs, &figures);
	if (!err) {
		page_begin(out);
		print_health(fs, out);
		print_sums(fs, &figures, out);
		drop_empty_dlqs(&figures);
		for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
			buffer_printf(out, "<h2>%s</h2>\n", sections[i].title);
			sections[i].print(fs, &figures, out);
		}
		page_end(out);
		err = buffer_error(out);
	}
	figures_release(&figures);
	return err;
}

static const struct text_calls dashboard_calls = { .generate = print_dashboard };

static int dashboard_open(
    struct fs *fs, const struct node *node, unsigned flags, const struct engine_cred *cred, struct handle **ret_handle)
{
	return text_open(fs, node, flags, cred, &dashboard_calls, ret_handle);
}

const struct file_class class_dashboard = { .open = dashboard_open, TEXT_CLASS };
