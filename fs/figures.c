#include "fs/figures.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct id_list {
	uint64_t *ids;
	size_t count, cap;
	bool failed;
};

static bool grow(void **items, size_t count, size_t *cap, size_t size)
{
	if (count < *cap)
		return true;
	size_t more = *cap ? *cap * 2 : 64;
	void *moved = realloc(*items, more * size);
	if (!moved)
		return false;
	*items = moved;
	*cap = more;
	return true;
}
/* The place of one more item at the end of figures->KINDs, all zero and not counted yet; NULL without memory. */
#define NEXT(figures, kind)                                                                                            \
	(grow((void **)&(figures)->kind##s, (figures)->kind##_count, &(figures)->kind##_cap,                           \
	     sizeof *(figures)->kind##s)                                                                               \
		? memset(&(figures)->kind##s[(figures)->kind##_count], 0, sizeof *(figures)->kind##s)                  \
		: NULL)

static bool add_id(void *ctx, const struct engine_dirent *entry)
{
	struct id_list *list = ctx;
	list->failed = !grow((void **)&list->ids, list->count, &list->cap, sizeof *list->ids);
	if (!list->failed)
		list->ids[list->count++] = entry->id;
	return !list->failed;
}

/* Calls visit for each child of a kind. */
static int each_child(struct fs *fs, struct engine_object *parent, enum engine_kind kind,
    int (*visit)(struct fs *fs, struct figures *figures, struct engine_object *child), struct figures *figures)
{
	struct id_list list = { 0 };
	struct engine_object *child;
	int err = fs->engine->ops->list(fs->engine, parent, kind, 0, add_id, &list);
	if (!err && list.failed)
		err = -ENOMEM;
	for (size_t i = 0; !err && i < list.count; i++) {
		if (fs->engine->ops->get(fs->engine, list.ids[i], &child))
			continue;
		err = visit(fs, figures, child);
		fs->engine->ops->put(child);
	}
	free(list.ids);
	return err == -EIDRM || err == -ENOENT ? 0 : err;
}

static bool was_used(const struct engine_queue_stat *stat)
{
	return stat->published + stat->moved_in > 0;
}

static int visit_queue(struct fs *fs, struct figures *figures, struct engine_object *queue)
{
	struct engine_identity self;
	struct figures_queue *row = NEXT(figures, queue);
	if (!row)
		return -ENOMEM;
	if (fs->engine->ops->identity(queue, &self) || find_record_name(fs, self.id, row->name) ||
	    fs->engine->ops->queue->queue_stat(queue, &row->stat))
		return 0;
	row->id = self.id;
	figures->queue_count++;
	return 0;
}

static int visit_dlq(struct fs *fs, struct figures *figures, struct engine_object *queue)
{
	size_t before = figures->queue_count;
	int err = visit_queue(fs, figures, queue);
	if (!err && figures->queue_count > before)
		figures->queues[before].is_dlq = true;
	return err;
}

static int visit_dlq_if_used(struct fs *fs, struct figures *figures, struct engine_object *queue)
{
	size_t before = figures->queue_count;
	int err = visit_dlq(fs, figures, queue);
	if (!err && figures->queue_count > before && !was_used(&figures->queues[before].stat))
		figures->queue_count = before;
	return err;
}

static int visit_queue_and_dlq(struct fs *fs, struct figures *figures, struct engine_object *queue)
{
	int err = visit_queue(fs, figures, queue);
	return err ? err : each_child(fs, queue, ENGINE_QUEUE, visit_dlq_if_used, figures);
}

static int visit_group(struct fs *fs, struct figures *figures, struct engine_object *group)
{
	struct engine_identity self, topic;
	struct figures_group *row = NEXT(figures, group);
	if (!row)
		return -ENOMEM;
	if (fs->engine->ops->identity(group, &self) || find_identity(fs, self.parent_id, &topic) ||
	    fs->engine->ops->stat(group, &row->stat))
		return 0;
	row->id = self.id;
	memcpy(row->name, self.name, sizeof row->name);
	memcpy(row->topic, topic.name, sizeof row->topic);
	size_t queues = figures->queue_count;
	int err = fs->engine->ops->queue ? each_child(fs, group, ENGINE_QUEUE, visit_dlq, figures) : 0;
	for (size_t i = queues; i < figures->queue_count; i++) {
		const struct engine_queue_stat *stat = &figures->queues[i].stat;
		row->dead += stat->ready + stat->unacked + stat->delayed;
	}
	figures->group_count++;
	return err;
}

static int visit_topic(struct fs *fs, struct figures *figures, struct engine_object *topic)
{
	struct engine_identity self;
	struct figures_topic *row = NEXT(figures, topic);
	if (!row)
		return -ENOMEM;
	if (fs->engine->ops->identity(topic, &self) || fs->engine->ops->stat(topic, &row->stat))
		return 0;
	row->id = self.id;
	memcpy(row->name, self.name, sizeof row->name);
	figures->topic_count++;
	size_t groups = figures->group_count;
	int err = each_child(fs, topic, ENGINE_GROUP, visit_group, figures);
	row->groups = (uint32_t)(figures->group_count - groups);
	return err;
}

static int visit_exchange(struct fs *fs, struct figures *figures, struct engine_object *exchange)
{
	struct engine_identity self;
	struct figures_exchange *row = NEXT(figures, exchange);
	if (!row)
		return -ENOMEM;
	if (fs->engine->ops->identity(exchange, &self) ||
	    fs->engine->ops->exchange->exchange_stat(exchange, &row->stat))
		return 0;
	memcpy(row->name, self.name, sizeof row->name);
	figures->exchange_count++;
	return 0;
}

static int visit_tx(struct fs *fs, struct figures *figures, struct engine_object *tx)
{
	struct engine_tx_stat stat;
	if (fs->engine->ops->tx->tx_stat(tx, &stat) == 0)
		figures->transactions[stat.state]++;
	return 0;
}

int figures_collect(struct fs *fs, struct figures *ret_figures)
{
	struct engine_object *store;
	*ret_figures = (struct figures){ 0 };
	int err = fs->engine->ops->get(fs->engine, ENGINE_ROOT_ID, &store);
	if (err)
		return err;
	if (fs->engine->ops->queue)
		err = each_child(fs, store, ENGINE_QUEUE, visit_queue_and_dlq, ret_figures);
	if (!err)
		err = each_child(fs, store, ENGINE_TOPIC, visit_topic, ret_figures);
	if (!err && fs->engine->ops->exchange)
		err = each_child(fs, store, ENGINE_EXCHANGE, visit_exchange, ret_figures);
	if (!err && fs->engine->ops->tx)
		err = each_child(fs, store, ENGINE_TX, visit_tx, ret_figures);
	fs->engine->ops->put(store);
	return err;
}

void figures_release(struct figures *figures)
{
	free(figures->topics);
	free(figures->groups);
	free(figures->queues);
	free(figures->exchanges);
	*figures = (struct figures){ 0 };
}

int64_t figures_age_ms(int64_t then_ms)
{
	int64_t age = then_ms > 0 ? clock_wall_ms() - then_ms : 0;
	return age > 0 ? age : 0;
}
