/*
 * local_setting - the settings of objects: kept as numbers in memory, as text in the catalog.
 *
 * Producers and consumers read settings on every call, so a value is one atomic number: an integer, a boolean as 0 or
 * 1, a choice as its place in the table. It is written under the object's `change`, after the catalog has it.
 *
 * A new object takes over the values of the defaults, and from then on has its own: a change of the defaults does not
 * reach it. The catalog holds what differs from the table. How many partitions a topic has is the exception: its
 * partition rows say so.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/clock.h"
#include "engine/local_exchange.h"
#include "engine/local_member.h"
#include "engine/local_queue.h"

#define SETTINGS_MAX 32u /* of one kind */
#define NO_MEMORY 4095   /* in the place of a text: no choice, and no address */

/* Place of a setting among those of its kind. */
static size_t place_of(const struct engine_setting *setting)
{
	size_t place = 0;

	for (const struct engine_setting *s = engine_settings; s != setting; s++) {
		if (s->kind == setting->kind)
			place++;
	}
	return place;
}

/* The first setting of the kind from s on; its name is NULL at the end of the table. */
static const struct engine_setting *next_of_kind(const struct engine_setting *s, enum engine_kind kind)
{
	while (s->name != NULL && s->kind != kind)
		s++;
	return s;
}

/* A value that is a text: its number is where that is. It stays to the end of the engine, once for all who have it. */
struct local_text {
	struct local_text *next;
	char text[];
};

const char *settings_text(int64_t value)
{
	return value >= 4096 ? (const char *)(uintptr_t)value : NULL;
}

static int64_t keep_text(struct local *local, const char *text)
{
	struct local_text *kept;

	pthread_mutex_lock(&local->texts.lock);
	for (kept = local->texts.list; kept != NULL && strcmp(kept->text, text) != 0; kept = kept->next)
		;
	if (kept == NULL) {
		kept = malloc(sizeof(*kept) + strlen(text) + 1);
		if (kept != NULL) {
			strcpy(kept->text, text);
			kept->next = local->texts.list;
			local->texts.list = kept;
		}
	}
	pthread_mutex_unlock(&local->texts.lock);
	return kept != NULL ? (int64_t)(uintptr_t)kept->text : NO_MEMORY;
}

void settings_free_texts(struct local *local)
{
	struct local_text *next;

	for (struct local_text *kept = local->texts.list; kept != NULL; kept = next) {
		next = kept->next;
		free(kept);
	}
}

/* text is canonical. Needs no memory, unless its type is KEY or TEXT: then NO_MEMORY can come of it. */
static int64_t from_text(struct local *local, const struct engine_setting *setting, const char *text)
{
	int64_t choice = 0;

	if (text[0] == '\0' && engine_setting_inherits(setting))
		return SETTING_INHERITS;
	if (setting->type == ENGINE_INT)
		return strtoll(text, NULL, 10);
	if (setting->type == ENGINE_BOOL)
		return strcmp(text, "true") == 0;
	if (setting->type == ENGINE_KEY)
		return strcmp(text, "none") != 0 ? keep_text(local, text) : 0;
	while (setting->choices[choice] != NULL && strcmp(setting->choices[choice], text) != 0)
		choice++;
	if (setting->type == ENGINE_TEXT && setting->choices[choice] == NULL)
		return keep_text(local, text);
	return choice;
}

static bool is_out_of_memory(const struct engine_setting *setting, int64_t value)
{
	return value == NO_MEMORY && (setting->type == ENGINE_KEY || setting->type == ENGINE_TEXT);
}

static void to_text(const struct engine_setting *setting, int64_t value, char ret_text[ENGINE_VALUE_MAX])
{
	if (value == SETTING_INHERITS) {
		ret_text[0] = '\0';
		return;
	}
	switch (setting->type) {
	case ENGINE_INT: snprintf(ret_text, ENGINE_VALUE_MAX, "%" PRId64, value); break;
	case ENGINE_BOOL: snprintf(ret_text, ENGINE_VALUE_MAX, "%s", value != 0 ? "true" : "false"); break;
	case ENGINE_CHOICE: snprintf(ret_text, ENGINE_VALUE_MAX, "%s", setting->choices[value]); break;
	case ENGINE_KEY:
		snprintf(
		    ret_text, ENGINE_VALUE_MAX, "%s", settings_text(value) != NULL ? settings_text(value) : "none");
		break;
	case ENGINE_TEXT:
		snprintf(ret_text, ENGINE_VALUE_MAX, "%s",
		    settings_text(value) != NULL ? settings_text(value) : setting->choices[value]);
		break;
	}
}

int settings_bind(struct local *local)
{
	static const struct {
		enum engine_kind kind;
		const char *name;
	} known[LOCAL_SETTING_COUNT] = {
		[SET_PARTITIONS] = { ENGINE_TOPIC, "partitions" },
		[SET_LINGER_MS] = { ENGINE_TOPIC, "linger.ms" },
		[SET_BATCH_SIZE] = { ENGINE_TOPIC, "batch.size" },
		[SET_FLUSH_MESSAGES] = { ENGINE_TOPIC, "flush.messages" },
		[SET_FLUSH_MS] = { ENGINE_TOPIC, "flush.ms" },
		[SET_RETENTION_MS] = { ENGINE_TOPIC, "retention.ms" },
		[SET_RETENTION_BYTES] = { ENGINE_TOPIC, "retention.bytes" },
		[SET_SEGMENT_BYTES] = { ENGINE_TOPIC, "segment.bytes" },
		[SET_CLEANUP_POLICY] = { ENGINE_TOPIC, "cleanup.policy" },
		[SET_DELETE_RETENTION] = { ENGINE_TOPIC, "delete.retention.ms" },
		[SET_MAX_MESSAGE_BYTES] = { ENGINE_TOPIC, "max.message.bytes" },
		[SET_DEDUP_WINDOW] = { ENGINE_TOPIC, "dedup.window.ms" },
		[SET_AUTO_COMMIT] = { ENGINE_GROUP, "auto.commit" },
		[SET_AUTO_OFFSET_RESET] = { ENGINE_GROUP, "auto.offset.reset" },
		[SET_MAX_POLL_RECORDS] = { ENGINE_GROUP, "max.poll.records" },
		[SET_SESSION_TIMEOUT] = { ENGINE_GROUP, "session.timeout.ms" },
		[SET_QUEUE_MAX_PRIORITY] = { ENGINE_QUEUE, "max.priority" },
		[SET_QUEUE_LINGER_MS] = { ENGINE_QUEUE, "linger.ms" },
		[SET_QUEUE_BATCH_SIZE] = { ENGINE_QUEUE, "batch.size" },
		[SET_QUEUE_FLUSH_MESSAGES] = { ENGINE_QUEUE, "flush.messages" },
		[SET_QUEUE_FLUSH_MS] = { ENGINE_QUEUE, "flush.ms" },
		[SET_QUEUE_TTL] = { ENGINE_QUEUE, "message.ttl.ms" },
		[SET_QUEUE_MAX_LENGTH] = { ENGINE_QUEUE, "max.length" },
		[SET_QUEUE_MAX_LENGTH_BYTES] = { ENGINE_QUEUE, "max.length.bytes" },
		[SET_QUEUE_OVERFLOW] = { ENGINE_QUEUE, "overflow" },
		[SET_QUEUE_MAX_MESSAGE_BYTES] = { ENGINE_QUEUE, "max.message.bytes" },
		[SET_QUEUE_ACK_TIMEOUT] = { ENGINE_QUEUE, "ack.timeout.ms" },
		[SET_QUEUE_CONSUMER_TIMEOUT] = { ENGINE_QUEUE, "consumer.timeout.ms" },
		[SET_QUEUE_DELIVERY_LIMIT] = { ENGINE_QUEUE, "delivery.limit" },
		[SET_QUEUE_PREFETCH] = { ENGINE_QUEUE, "prefetch" },
		[SET_QUEUE_AUTO_ACK] = { ENGINE_QUEUE, "auto.ack" },
		[SET_QUEUE_DEAD_LETTER] = { ENGINE_QUEUE, "dead.letter.to" },
		[SET_QUEUE_DEAD_LETTER_KEY] = { ENGINE_QUEUE, "dead.letter.routing.key" },
		[SET_QUEUE_SINGLE_ACTIVE] = { ENGINE_QUEUE, "single.active.consumer" },
		[SET_QUEUE_REDELIVERY_DELAY] = { ENGINE_QUEUE, "redelivery.delay.ms" },
		[SET_QUEUE_EXPIRES] = { ENGINE_QUEUE, "expires.ms" },
		[SET_QUEUE_DEDUP_WINDOW] = { ENGINE_QUEUE, "dedup.window.ms" },
		[SET_CONSUMER_PREFETCH] = { ENGINE_CONSUMER, "prefetch" },
		[SET_CONSUMER_AUTO_ACK] = { ENGINE_CONSUMER, "auto.ack" },
		[SET_EXCHANGE_ALTERNATE] = { ENGINE_EXCHANGE, "alternate.exchange" },
		[SET_EXCHANGE_MANDATORY] = { ENGINE_EXCHANGE, "mandatory" },
		[SET_TX_TIMEOUT] = { ENGINE_TX, "tx.timeout.ms" },
	};

	for (size_t i = 0; i < LOCAL_SETTING_COUNT; i++) {
		const struct engine_setting *setting = engine_setting_find(known[i].kind, known[i].name);

		if (setting == NULL)
			return engine_explain(-EINVAL, "the table of settings has no %s", known[i].name);
		local->setting_index[i] = (int)place_of(setting);
	}
	return 0;
}

int settings_init(struct object *object, const struct object *defaults)
{
	const struct engine_setting *s = next_of_kind(engine_settings, object->kind);

	object->values = calloc(SETTINGS_MAX, sizeof(*object->values));
	if (object->values == NULL)
		return -ENOMEM;
	for (size_t i = 0; s->name != NULL; i++, s = next_of_kind(s + 1, object->kind)) {
		assert(i < SETTINGS_MAX);
		atomic_init(&object->values[i],
		    defaults != NULL ? atomic_load(&defaults->values[i]) : from_text(local_of(object), s, s->initial));
	}
	return 0;
}

static int load_one(void *ctx, const char *name, const char *value)
{
	struct object *object = ctx;
	const struct engine_setting *setting = engine_setting_find(object->kind, name);
	char canonical[ENGINE_VALUE_MAX];
	int64_t kept;

	/* A row this program does not know is left alone: a newer one wrote it. */
	if (setting == NULL)
		return 0;
	if (engine_setting_parse(setting, value, canonical) < 0) {
		local_notify(local_of(object), EIO,
		    "object %" PRIu64 ": the stored value of %s is not valid, the default is used", object->id, name);
		return 0;
	}
	kept = from_text(local_of(object), setting, canonical);
	if (is_out_of_memory(setting, kept))
		return -ENOMEM;
	atomic_store(&object->values[place_of(setting)], kept);
	return 0;
}

int settings_load(struct object *object)
{
	return catalog_each_setting(local_of(object)->catalog, object->id, object->kind, load_one, object);
}

int settings_store(struct object *object)
{
	const struct engine_setting *s = next_of_kind(engine_settings, object->kind);
	struct catalog_setting rows[SETTINGS_MAX];
	char texts[SETTINGS_MAX][ENGINE_VALUE_MAX];
	size_t count = 0;

	for (size_t i = 0; s->name != NULL; i++, s = next_of_kind(s + 1, object->kind)) {
		if (atomic_load(&object->values[i]) == from_text(local_of(object), s, s->initial))
			continue;
		to_text(s, atomic_load(&object->values[i]), texts[count]);
		rows[count] = (struct catalog_setting){ s->name, texts[count] };
		count++;
	}
	if (count == 0)
		return 0;
	return catalog_put_settings(local_of(object)->catalog, object->id, object->kind, rows, count);
}

void settings_put(struct object *object, enum local_setting setting, int64_t value)
{
	atomic_store(&object->values[local_of(object)->setting_index[setting]], value);
}

/* ---- calls ---- */

struct engine_object *local_defaults(struct engine *engine, enum engine_kind kind)
{
	return &((struct local *)engine)->defaults[kind]->base;
}

/* Settings are what defaults do have, so this is not object_enter(). */
static int enter(struct object *object, const struct engine_setting *setting)
{
	engine_reason_clear();
	if (setting->kind != object->kind)
		return -EINVAL;
	return atomic_load(&object->removed) ? -EIDRM : 0;
}

int local_get_setting(
    struct engine_object *base, const struct engine_setting *setting, char ret_value[ENGINE_VALUE_MAX])
{
	struct object *object = object_of(base);
	int rc = enter(object, setting);
	int64_t value;

	if (rc < 0)
		return rc;
	value = atomic_load(&object->values[place_of(setting)]);
	if (value == SETTING_INHERITS && !object->is_defaults) /* its queue's is in force */
		return local_get_setting(
		    &object->parent->base, engine_setting_find(object->parent->kind, setting->name), ret_value);
	to_text(setting, value, ret_value);
	return 0;
}

/* What a new value does at once, besides being there. */
static void apply(struct object *object, const struct engine_setting *setting)
{
	const struct local *local = local_of(object);
	int place = (int)place_of(setting);

	if (object->is_defaults)
		return;
	if (object->kind == ENGINE_TOPIC) {
		if (place == local->setting_index[SET_RETENTION_MS] ||
		    place == local->setting_index[SET_RETENTION_BYTES])
			topic_retain_soon(topic_of_object(object));
		if (place == local->setting_index[SET_FLUSH_MS] || place == local->setting_index[SET_FLUSH_MESSAGES])
			topic_flush_soon(topic_of_object(object));
		if (place == local->setting_index[SET_CLEANUP_POLICY])
			topic_retain_soon(topic_of_object(object));
		if (place == local->setting_index[SET_CLEANUP_POLICY] ||
		    place == local->setting_index[SET_DELETE_RETENTION] ||
		    place == local->setting_index[SET_SEGMENT_BYTES])
			cleaner_look_again(topic_of_object(object));
		if (place == local->setting_index[SET_DEDUP_WINDOW])
			local_dedup_changed(object);
	} else if (object->kind == ENGINE_GROUP) {
		if (place == local->setting_index[SET_AUTO_OFFSET_RESET])
			group_reset(group_of_object(object));
		if (place == local->setting_index[SET_SESSION_TIMEOUT])
			member_look_again(group_of_object(object));
	} else if (object->kind == ENGINE_QUEUE) {
		queue_setting_changed(queue_of_object(object));
		if (place == local->setting_index[SET_QUEUE_DEDUP_WINDOW])
			local_dedup_changed(object);
	} else if (object->kind == ENGINE_CONSUMER) {
		queue_setting_changed(queue_of_object(object->parent));
	}
}

static bool is_partitions(const struct object *object, const struct engine_setting *setting)
{
	return object->kind == ENGINE_TOPIC && !object->is_defaults &&
	       (int)place_of(setting) == local_of(object)->setting_index[SET_PARTITIONS];
}

static int grow(struct object *object, int64_t partitions)
{
	struct topic *topic = topic_of_object(object);
	uint32_t there = atomic_load(&topic->partitions);

	if (partitions < there)
		return engine_explain(-EPERM, "partitions can only grow: there are %" PRIu32 " already", there);
	return topic_grow(topic, (uint32_t)partitions);
}

/* What is compacted takes only messages with keys, and has an index of them; staging files know of neither. */
static bool is_compacting(const struct object *object, const struct engine_setting *setting, const char *canonical)
{
	return object->kind == ENGINE_TOPIC && !object->is_defaults &&
	       (int)place_of(setting) == local_of(object)->setting_index[SET_CLEANUP_POLICY] &&
	       strcmp(canonical, "delete") != 0;
}

/* Would a queue refuse messages, for more than their size, were this set? change */
static bool is_refusing(const struct object *object, const struct engine_setting *setting, int64_t value)
{
	static const enum local_setting of[] = { SET_QUEUE_OVERFLOW, SET_QUEUE_MAX_LENGTH, SET_QUEUE_MAX_LENGTH_BYTES };
	int64_t then[3];

	if (object->kind != ENGINE_QUEUE)
		return false;
	for (size_t i = 0; i < 3; i++)
		then[i] = (int)place_of(setting) == local_of(object)->setting_index[of[i]]
			      ? value
			      : setting_value(object, of[i]);
	return queue_refuses(then[0], then[1], then[2]);
}

/* change */
static int store(struct object *object, const struct engine_setting *setting, const char *canonical)
{
	struct local *local = local_of(object);
	struct catalog_setting row = { setting->name, canonical[0] != '\0' ? canonical : NULL };
	int64_t value = from_text(local, setting, canonical);
	bool again = false;
	int rc;

	if (atomic_load(&object->removed))
		return -EIDRM;
	if (is_out_of_memory(setting, value))
		return -ENOMEM;
	if (setting->type == ENGINE_TEXT &&
	    (strcmp(canonical, "dlq") == 0 || strncmp(canonical, "exchanges/", 10) == 0) &&
	    object->kind == ENGINE_QUEUE && !object->is_defaults && object->parent->kind != ENGINE_STORE)
		return engine_explain(-EINVAL, "a queue of dead letters has no dlq of its own");
	if (setting->type == ENGINE_TEXT && object->kind == ENGINE_EXCHANGE && !object->is_defaults) {
		rc = exchange_check_alternate(exchange_of_object(object), canonical);
		if (rc < 0)
			return rc;
	}
	if (is_partitions(object, setting))
		return grow(object, value);
	if (atomic_load(&object->staged) > 0 && is_refusing(object, setting, value))
		return engine_explain(-EBUSY,
		    "somebody who lingers has it open for appending, and what he writes must not be "
		    "refused; linger.ms 0 ends that for those who come");
	if (is_compacting(object, setting, canonical) && atomic_load(&object->staged) > 0)
		return engine_explain(-EBUSY, "somebody who lingers has it open for appending, and what he writes may "
					      "have no key; linger.ms 0 ends that for those who come");
	do
		rc = catalog_put_settings(local->catalog, object->id, object->kind, &row, 1);
	while (reserve_again(local, rc, &again));
	if (rc == 0)
		atomic_store(&object->values[place_of(setting)], value);
	return rc == -ENOENT ? -EIDRM : rc; /* a group whose topic is being removed */
}

/* What an exchange's settings lead to is decided with all that is bound. */
static void lock(struct object *object)
{
	if (object->kind == ENGINE_EXCHANGE && !object->is_defaults)
		pthread_mutex_lock(&object->parent->change);
	pthread_mutex_lock(&object->change);
}

static void unlock(struct object *object)
{
	pthread_mutex_unlock(&object->change);
	if (object->kind == ENGINE_EXCHANGE && !object->is_defaults)
		pthread_mutex_unlock(&object->parent->change);
}

int local_set_setting(struct engine_object *base, const struct engine_setting *setting, const char *value)
{
	struct object *object = object_of(base);
	char canonical[ENGINE_VALUE_MAX];
	int rc;

	queue_catch_up((struct local *)base->engine); /* by what was set until now */
	rc = enter(object, setting);
	if (rc == 0 && local_of(object)->read_only)
		rc = engine_explain(-EROFS, "the store is mounted read-only");
	if (rc == 0)
		rc = engine_setting_parse(setting, value, canonical);
	if (rc < 0)
		return rc;
	lock(object);
	rc = store(object, setting, canonical);
	unlock(object);
	if (is_partitions(object, setting)) /* even if not all could be made, streams were assigned anew */
		topic_wake(topic_of_object(object), NULL);
	if (rc < 0)
		return rc;
	object_changed(object);
	apply(object, setting);
	return 0;
}
