#include "fs/find.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/class.h"
#include "fs/key.h"
#include "fs/spool.h"

/* Calls of the engine on the object a directory belongs to. */
static int with_object(struct fs *fs, uint64_t id,
    int (*call)(struct engine_object *object, struct found *found, const struct node *parent), struct found *found,
    const struct node *parent)
{
	struct engine_object *object;
	int err = fs->engine->ops->get(fs->engine, id, &object);
	if (err)
		return err;
	err = call(object, found, parent);
	fs->engine->ops->put(object);
	return err == -EIDRM ? -ENOENT : err;
}

static int find_object(struct engine_object *parent_object, struct found *found, const struct node *parent)
{
	(void)parent;
	struct engine *engine = parent_object->engine;
	struct engine_object *object;
	struct engine_identity identity;
	int err = engine->ops->lookup(engine, parent_object, (enum engine_kind)found->row->arg, found->stem, &object);
	if (err)
		return err;
	err = engine->ops->identity(object, &identity);
	engine->ops->put(object);
	if (!err)
		found->object = identity.id;
	return err;
}

static int find_partition(struct engine_object *object, struct found *found, const struct node *parent)
{
	struct engine_stat stat;
	(void)parent;
	if (found->stem[0] == '0' && found->stem[1] != '\0')
		return -ENOENT; /* 0 and 00 are not two names of one directory */
	int err = object->engine->ops->stat(object, &stat);
	if (err)
		return err;
	return strtoull(found->stem, NULL, 10) < stat.partitions ? 0 : -ENOENT;
}

/* Is the message there, or has compaction taken it? */
static int find_beside_gaps(struct engine_object *object, uint32_t partition, uint64_t offset)
{
	struct engine_scratch scratch = { 0 };
	struct engine_view view;
	int err = object->engine->ops->partition_read(object, partition, offset, 1, &scratch, &view);
	engine_scratch_release(&scratch);
	if (err == -EIO)
		return 0; /* who reads it learns that it is damaged */
	return !err && view.offset == offset ? 0 : -ENOENT;
}

static int find_offset(struct engine_object *object, struct found *found, const struct node *parent)
{
	struct engine_partition_stat stat;
	errno = 0;
	uint64_t offset = strtoull(found->stem, NULL, 10);
	if (errno == ERANGE)
		return -ENOENT;
	int err = object->engine->ops->partition_stat(object, parent->partition, &stat);
	if (err)
		return err;
	snprintf(found->stem, sizeof found->stem, "%" PRIu64, offset);
	if (offset < stat.earliest || offset >= stat.end)
		return -ENOENT;
	return stat.has_gaps ? find_beside_gaps(object, parent->partition, offset) : 0;
}

/* Without a value it is there to be created. */
static int find_key(struct engine_object *object, struct found *found, const struct node *parent)
{
	struct engine_key key;
	(void)parent;
	if (!key_is_compacted(object)) /* nor has an exchange any */
		return -ENOENT;
	return object->engine->ops->key_find(object, (struct engine_span){ found->stem, strlen(found->stem) }, &key);
}

static int find_log(struct engine_object *object, struct found *found, const struct node *parent)
{
	struct engine_partition_stat stat;
	int err = object->engine->ops->partition_stat(object, parent->partition, &stat);
	if (!err)
		found->variant = stat.start_pos;
	return err;
}

static int find_setting(struct engine_object *object, struct found *found, const struct node *parent)
{
	struct engine_identity identity;
	enum engine_kind kind = (enum engine_kind)parent->row->arg;
	int err = 0;
	if (parent->row->what == DIR_CONFIG) {
		err = object->engine->ops->identity(object, &identity);
		if (err)
			return err;
		kind = identity.kind;
	}
	return engine_setting_find(kind, found->stem) ? 0 : -ENOENT;
}

static int find_priority(struct engine_object *object, struct found *found, const struct node *parent)
{
	char value[ENGINE_VALUE_MAX];
	(void)parent;
	int err = object->engine->ops->get_setting(object, engine_setting_find(ENGINE_QUEUE, "max.priority"), value);
	if (err)
		return err;
	return strtoul(found->stem, NULL, 10) <= strtoul(value, NULL, 10) ? 0 : -ENOENT;
}

int find_queue(struct engine_object *object, struct engine_object **ret_queue, uint64_t *ret_consumer)
{
	struct engine *engine = object->engine;
	struct engine_identity identity;
	int err = engine->ops->identity(object, &identity);
	if (err)
		return err;
	*ret_consumer = identity.kind == ENGINE_CONSUMER ? identity.id : 0;
	return engine->ops->get(engine, identity.kind == ENGINE_CONSUMER ? identity.parent_id : identity.id, ret_queue);
}

int find_identity(struct fs *fs, uint64_t id, struct engine_identity *ret_identity)
{
	struct engine_object *object;
	int err = fs->engine->ops->get(fs->engine, id, &object);
	if (err)
		return err;
	err = fs->engine->ops->identity(object, ret_identity);
	fs->engine->ops->put(object);
	return err;
}

int find_record_name(struct fs *fs, uint64_t id, char ret_name[FIND_RECORD_NAME_MAX])
{
	struct engine_identity self = { 0 }, above = { 0 }, top = { 0 };
	int err = find_identity(fs, id, &self);
	if (!err && (self.kind == ENGINE_CONSUMER || self.kind == ENGINE_MEMBER || self.kind == ENGINE_GROUP))
		return find_record_name(fs, self.parent_id, ret_name);
	if (!err && self.parent_id == ENGINE_ROOT_ID) {
		snprintf(ret_name, FIND_RECORD_NAME_MAX, "%s", self.name);
		return 0;
	}
	if (!err)
		err = find_identity(fs, self.parent_id, &above);
	if (!err && above.kind == ENGINE_GROUP)
		err = find_identity(fs, above.parent_id, &top);
	if (err)
		return err;
	if (above.kind == ENGINE_GROUP)
		snprintf(ret_name, FIND_RECORD_NAME_MAX, "%s/groups/%s/dlq", top.name, above.name);
	else
		snprintf(ret_name, FIND_RECORD_NAME_MAX, "%s/dlq", above.name);
	return 0;
}

int find_queue_by_id(struct fs *fs, uint64_t id, struct engine_object **ret_queue)
{
	struct engine_object *object;
	uint64_t consumer;
	int err = fs->engine->ops->get(fs->engine, id, &object);
	if (err)
		return err;
	err = find_queue(object, ret_queue, &consumer);
	fs->engine->ops->put(object);
	return err;
}

static int find_pattern(struct engine_object *exchange, struct found *found, const struct node *parent)
{
	uint64_t none;
	(void)parent;
	return exchange->engine->ops->exchange->binding(exchange, found->stem, NULL, &none);
}

static int find_binding(struct engine_object *exchange, struct found *found, const struct node *parent)
{
	return exchange->engine->ops->exchange->binding(exchange, parent->name, found->stem, &found->variant);
}

/* A message stands in the directory of its state; of its priority or its consumer, if the directory is of one. */
static int find_message(struct engine_object *object, struct found *found, const struct node *parent)
{
	struct engine_message_stat stat;
	struct engine_object *queue;
	uint64_t consumer;
	errno = 0;
	uint64_t id = strtoull(found->stem, NULL, 10);
	int err = errno == ERANGE ? -ENOENT : find_queue(object, &queue, &consumer);
	if (err)
		return err;
	err = object->engine->ops->queue->message_stat(queue, id, &stat);
	object->engine->ops->put(queue);
	if (err)
		return err;
	snprintf(found->stem, sizeof found->stem, "%" PRIu64, id);
	bool here = stat.state == (enum engine_message_state)parent->row->arg &&
		    (parent->partition == ENGINE_ANY || stat.priority == parent->partition) &&
		    (consumer == 0 || stat.consumer_id == consumer);
	return here ? 0 : -ENOENT;
}

int find_name(struct fs *fs, const struct node *parent, const char *name, uint32_t pid, struct found *ret_found)
{
	struct found found = { .object = parent->object };
	if (strlen(name) > ENGINE_KEY_MAX)
		return -ENAMETOOLONG;
	found.row = tree_find_row(parent->row->what, name, &found.framing, found.stem);
	if (!found.row || (parent->tx != 0 && !(found.row->flags & TREE_STAGED)))
		return -ENOENT;
	found.object = node_child_object(parent, found.row);
	int err = 0;
	switch (found.row->match) {
	case MATCH_OBJECT: err = with_object(fs, parent->object, find_object, &found, parent); break;
	case MATCH_PARTITION: err = with_object(fs, parent->object, find_partition, &found, parent); break;
	case MATCH_OFFSET: err = with_object(fs, parent->object, find_offset, &found, parent); break;
	case MATCH_SETTING: err = with_object(fs, parent->object, find_setting, &found, parent); break;
	case MATCH_SPOOL:
		err = spool_exists(fs->spool, parent->object, parent->tx, found.stem, pid) ? 0 : -ENOENT;
		break;
	case MATCH_KEY:
		err = parent->tx != 0 ? -ENOENT : with_object(fs, parent->object, find_key, &found, parent);
		break; /* in a transaction it is there to be created */
	case MATCH_PRIORITY: err = with_object(fs, parent->object, find_priority, &found, parent); break;
	case MATCH_ID: err = with_object(fs, parent->object, find_message, &found, parent); break;
	case MATCH_DLQ: err = with_object(fs, parent->object, find_object, &found, parent); break;
	case MATCH_PATTERN: err = with_object(fs, parent->object, find_pattern, &found, parent); break;
	case MATCH_BINDING: err = with_object(fs, parent->object, find_binding, &found, parent); break;
	case MATCH_LITERAL:
		if ((found.row->what == DIR_QUEUES && !fs->engine->ops->queue) ||
		    (found.row->what == DIR_EXCHANGES && !fs->engine->ops->exchange) ||
		    (found.row->what == DIR_TXS && !fs->engine->ops->tx) ||
		    (found.row->what == DIR_MEMBERS && !fs->engine->ops->member))
			err = -ENOENT;
		if (found.row->class == &class_log)
			err = with_object(fs, parent->object, find_log, &found, parent);
		break;
	}
	if (err)
		return err;
	*ret_found = found;
	return 0;
}

const struct tree_row *find_creatable(const struct node *parent)
{
	for (const struct tree_row *row = tree_rows; row->name; row++)
		if (row->where == parent->row->what && (row->match == MATCH_KEY || row->match == MATCH_SPOOL))
			return row;
	return NULL;
}
