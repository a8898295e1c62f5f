/* The contract of engines: objects, names, owners, references, defaults. */
#include "tests/lib/contract.h"

static const struct engine_owner someone = { 1000, 100, 0750 };

/* The store is the object with the first id, and has the owner it was made with. */
void contract_test_root(struct contract *c)
{
	struct engine_identity identity;
	struct engine_stat stat = contract_stat(c, c->root);

	assert_ok(c->ops->identity(c->root, &identity));
	cr_assert_eq(identity.id, ENGINE_ROOT_ID);
	cr_assert_eq(identity.kind, ENGINE_STORE);
	cr_assert_eq(stat.owner.uid, 7);
	cr_assert_eq(stat.owner.gid, 8);
	cr_assert_eq(stat.owner.mode, 0755);
	cr_assert_eq(stat.messages, 0);
}

/* What was created is found by name and by id, and is what was asked for. */
void contract_test_create_finds(struct contract *c)
{
	struct engine_object *topic = NULL, *group, *found = NULL;
	struct engine_identity identity;

	assert_ok(c->ops->create(c->engine, c->root, ENGINE_TOPIC, "orders", &someone, &topic));
	group = contract_group(c, topic, "billing");
	assert_ok(c->ops->identity(group, &identity));
	cr_assert_eq(identity.parent_id, contract_id(c, topic));
	cr_assert_eq(identity.kind, ENGINE_GROUP);
	cr_assert_str_eq(identity.name, "billing");
	assert_ok(c->ops->lookup(c->engine, topic, ENGINE_GROUP, "billing", &found));
	cr_assert_eq(contract_id(c, found), identity.id);
	c->ops->put(found);
	assert_ok(c->ops->get(c->engine, identity.id, &found));
	assert_ok(c->ops->identity(found, &identity));
	cr_assert_str_eq(identity.name, "billing");
	c->ops->put(found);
	c->ops->put(group);
	c->ops->put(topic);
}

/* A name is taken once per parent and kind; under another parent, or for a child, it is free. */
void contract_test_create_errors(struct contract *c)
{
	struct engine_object *a = contract_topic(c, "a", 1), *b = contract_topic(c, "b", 1), *none = NULL;
	struct engine_object *group_a = contract_group(c, a, "a"), *group_b = contract_group(c, b, "a");

	assert_err(c->ops->create(c->engine, c->root, ENGINE_TOPIC, "a", &someone, &none), EEXIST);
	assert_err(c->ops->create(c->engine, a, ENGINE_GROUP, "a", &someone, &none), EEXIST);
	cr_assert_null(none, "outputs stay untouched on failure");
	assert_ok(c->ops->remove(b));
	assert_err(c->ops->create(c->engine, b, ENGINE_GROUP, "c", &someone, &none), EIDRM);
	cr_assert_null(none);
	c->ops->put(group_a);
	c->ops->put(group_b);
	c->ops->put(a);
	c->ops->put(b);
}

/* What is not there is ENOENT, by name, by kind and by id. */
void contract_test_find_errors(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "a", 1), *none = NULL;

	assert_err(c->ops->lookup(c->engine, c->root, ENGINE_TOPIC, "b", &none), ENOENT);
	assert_err(c->ops->lookup(c->engine, c->root, ENGINE_TOPIC, "A", &none), ENOENT);
	assert_err(c->ops->lookup(c->engine, c->root, ENGINE_TOPIC, "", &none), ENOENT);
	assert_err(c->ops->lookup(c->engine, topic, ENGINE_GROUP, "a", &none), ENOENT);
	assert_err(c->ops->get(c->engine, 0, &none), ENOENT);
	assert_err(c->ops->get(c->engine, contract_id(c, topic) + 1000, &none), ENOENT);
	assert_err(c->ops->get(c->engine, UINT64_MAX, &none), ENOENT);
	cr_assert_null(none);
	c->ops->put(topic);
}

struct listing {
	char names[256];
	uint64_t last_id;
	unsigned count, stop_after;
};

static bool list_one(void *ctx, const struct engine_dirent *entry)
{
	struct listing *listing = ctx;

	listing->last_id = entry->id > listing->last_id ? entry->id : 0; /* 0: not in ascending order */
	strcat(listing->names, entry->name);
	return ++listing->count != listing->stop_after;
}

static struct listing list(
    struct contract *c, struct engine_object *parent, enum engine_kind kind, uint64_t after, unsigned stop_after)
{
	struct listing listing = { .stop_after = stop_after };

	assert_ok(c->ops->list(c->engine, parent, kind, after, list_one, &listing));
	return listing;
}

/* A listing has the children of one kind in ascending order of id, goes on after any id, and ends when told to. */
void contract_test_list(struct contract *c)
{
	struct engine_object *topics[3] = { contract_topic(c, "z", 1), contract_topic(c, "a", 1),
		contract_topic(c, "m", 1) };
	struct engine_object *group = contract_group(c, topics[0], "g");
	struct listing all = list(c, c->root, ENGINE_TOPIC, 0, 0);

	cr_assert_str_eq(all.names, "zam");
	cr_assert_eq(all.last_id, contract_id(c, topics[2]));
	cr_assert_str_eq(list(c, c->root, ENGINE_TOPIC, contract_id(c, topics[0]), 0).names, "am");
	cr_assert_str_eq(list(c, c->root, ENGINE_TOPIC, contract_id(c, topics[2]), 0).names, "");
	cr_assert_str_eq(list(c, c->root, ENGINE_TOPIC, 0, 2).names, "za");
	cr_assert_str_eq(list(c, c->root, ENGINE_GROUP, 0, 0).names, "");
	cr_assert_str_eq(list(c, topics[0], ENGINE_GROUP, 0, 0).names, "g");
	cr_assert_str_eq(list(c, topics[1], ENGINE_GROUP, 0, 0).names, "");
	assert_ok(c->ops->remove(topics[1]));
	cr_assert_str_eq(list(c, c->root, ENGINE_TOPIC, contract_id(c, topics[0]), 0).names, "m");
	c->ops->put(group);
	for (int i = 0; i < 3; i++)
		c->ops->put(topics[i]);
}

/* An id is never given twice, not even to an object of the same name. */
void contract_test_ids_are_new(struct contract *c)
{
	uint64_t last = ENGINE_ROOT_ID;

	for (int i = 0; i < 5; i++) {
		struct engine_object *topic = contract_topic(c, "again", 1);

		cr_assert_gt(contract_id(c, topic), last);
		last = contract_id(c, topic);
		assert_ok(c->ops->remove(topic));
		c->ops->put(topic);
	}
}

/* A name may be any bytes but NUL and '/'. */
void contract_test_any_name(struct contract *c)
{
	static const char *const names[] = { ".", "..", " ", "a b", "\x01\xff", "caf\xc3\xa9", "cafe\xcc\x81", "-rf",
		"%s%n", "A", "a" };
	char longest[ENGINE_NAME_MAX + 1];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct engine_object *topic = contract_topic(c, names[i], 1);
		struct engine_identity identity;

		assert_ok(c->ops->identity(topic, &identity));
		cr_assert_str_eq(identity.name, names[i]);
		contract_send(c, topic, 0, "m\n");
		c->ops->put(topic);
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct engine_object *topic = contract_lookup(c, c->root, ENGINE_TOPIC, names[i]);

		assert_text(contract_read(c, topic, 0, 0), "0=m");
		c->ops->put(topic);
	}
	memset(longest, 'x', ENGINE_NAME_MAX);
	longest[ENGINE_NAME_MAX] = '\0';
	c->ops->put(contract_topic(c, longest, 1));
	c->ops->put(contract_lookup(c, c->root, ENGINE_TOPIC, longest));
}

/* A renamed object is the same under its new name, with all that is in it; the old name is free. */
void contract_test_rename(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "old", 1), *group = contract_group(c, topic, "g"),
			     *found = NULL;
	struct engine_identity identity;
	uint64_t id = contract_id(c, topic);

	contract_send(c, topic, 0, "a\n");
	assert_ok(c->ops->rename(topic, "new"));
	assert_ok(c->ops->identity(topic, &identity));
	cr_assert_str_eq(identity.name, "new");
	cr_assert_eq(identity.id, id);
	assert_err(c->ops->lookup(c->engine, c->root, ENGINE_TOPIC, "old", &found), ENOENT);
	found = contract_lookup(c, c->root, ENGINE_TOPIC, "new");
	cr_assert_eq(contract_id(c, found), id);
	assert_text(contract_read(c, found, 0, 0), "0=a");
	c->ops->put(contract_lookup(c, found, ENGINE_GROUP, "g"));
	c->ops->put(found);
	c->ops->put(contract_topic(c, "old", 1));
	assert_ok(c->ops->rename(group, "h"));
	c->ops->put(contract_lookup(c, topic, ENGINE_GROUP, "h"));
	c->ops->put(group);
	c->ops->put(topic);
}

/* A name that is taken is EEXIST, an object's own name is no error, and what is gone is EIDRM. */
void contract_test_rename_errors(struct contract *c)
{
	struct engine_object *a = contract_topic(c, "a", 1), *b = contract_topic(c, "b", 1);
	struct engine_identity identity;

	assert_err(c->ops->rename(a, "b"), EEXIST);
	assert_ok(c->ops->rename(a, "a"));
	assert_ok(c->ops->identity(a, &identity));
	cr_assert_str_eq(identity.name, "a");
	assert_ok(c->ops->remove(b));
	assert_err(c->ops->rename(b, "c"), EIDRM);
	assert_ok(c->ops->rename(a, "b"));
	c->ops->put(a);
	c->ops->put(b);
}

/* What was removed is found no more, and its name is free at once, though handles to it are still held. */
void contract_test_remove(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *none = NULL, *again;
	uint64_t id = contract_id(c, topic);

	assert_ok(c->ops->remove(topic));
	assert_err(c->ops->lookup(c->engine, c->root, ENGINE_TOPIC, "t", &none), ENOENT);
	assert_err(c->ops->get(c->engine, id, &none), ENOENT);
	again = contract_topic(c, "t", 1);
	contract_send(c, again, 0, "a\n");
	assert_err(c->ops->remove(topic), EIDRM);
	assert_text(contract_read(c, again, 0, 0), "0=a");
	c->ops->put(topic);
	c->ops->put(again);
}

/* A topic that holds messages is not removed, and loses nothing by the attempt; an emptied one is. */
void contract_test_remove_not_empty(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 3);

	contract_send(c, topic, 2, "a\n");
	assert_err(c->ops->remove(topic), ENOTEMPTY);
	assert_text(contract_read(c, topic, 2, 0), "0=a");
	contract_send(c, topic, 2, "b\n");
	assert_ok(c->ops->partition_purge(topic, ENGINE_ANY, ENGINE_OFFSET_NONE));
	assert_ok(c->ops->remove(topic));
	c->ops->put(topic);
}

/* The groups of a topic go with it; a group goes alone, whatever the topic holds. */
void contract_test_remove_takes_groups(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *none = NULL;
	struct engine_object *g = contract_group(c, topic, "g"), *h = contract_group(c, topic, "h");
	uint64_t id = contract_id(c, h);

	contract_send(c, topic, 0, "a\n");
	assert_ok(c->ops->remove(g));
	assert_text(contract_snapshot(c, h), "0:0=a");
	assert_ok(c->ops->partition_purge(topic, 0, ENGINE_OFFSET_NONE));
	assert_ok(c->ops->remove(topic));
	assert_err(c->ops->ack_all(h, ENGINE_ANY), EIDRM);
	assert_err(c->ops->get(c->engine, id, &none), ENOENT);
	c->ops->put(g);
	c->ops->put(h);
	c->ops->put(topic);
}

/* Every call on a removed object, and on what was open on it, answers EIDRM. */
void contract_test_removed_answers_eidrm(struct contract *c)
{
	struct engine_object *t = contract_topic(c, "t", 1), *g = contract_group(c, t, "g");
	struct engine_producer *producer = contract_producer(c, t, ENGINE_ANY), *new_producer = NULL;
	struct engine_consumer *consumer = contract_consumer(c, g, ENGINE_ANY, ENGINE_CONSUME_STREAM),
			       *new_consumer = NULL;
	struct engine_batch batch = contract_batch("a\n");
	struct contract_waiter waiter;
	struct engine_partition_stat partition_stat;
	struct engine_cursor_stat cursor_stat;
	struct engine_identity identity;
	struct engine_owner owner;
	struct engine_stat stat;
	struct engine_view view;
	struct listing listing = { 0 };
	uint64_t offset;
	char buf[ENGINE_VALUE_MAX];

	contract_waiter_init(&waiter);
	assert_ok(c->ops->remove(t));
	assert_err(c->ops->identity(t, &identity), EIDRM);
	assert_err(c->ops->stat(t, &stat), EIDRM);
	assert_err(c->ops->stat(g, &stat), EIDRM);
	assert_err(c->ops->get_owner(t, "in", &owner), EIDRM);
	assert_err(c->ops->set_owner(t, "in", &someone), EIDRM);
	assert_err(c->ops->get_setting(t, engine_setting_find(ENGINE_TOPIC, "linger.ms"), buf), EIDRM);
	assert_err(contract_set(c, t, "linger.ms", "1"), EIDRM);
	assert_err(c->ops->list(c->engine, t, ENGINE_GROUP, 0, list_one, &listing), EIDRM);
	assert_err(c->ops->partition_stat(t, 0, &partition_stat), EIDRM);
	assert_err(c->ops->partition_read(t, 0, 0, 1, &c->scratch, &view), EIDRM);
	assert_err(c->ops->partition_pread(t, 0, 0, buf, sizeof(buf)), EIDRM);
	assert_err(c->ops->partition_find_time(t, 0, 0, &offset), EIDRM);
	assert_err(c->ops->partition_purge(t, 0, ENGINE_OFFSET_NONE), EIDRM);
	assert_err(c->ops->producer_open(t, ENGINE_ANY, (struct engine_span){ NULL, 0 }, &new_producer), EIDRM);
	assert_err(contract_send_batch(c, producer, &batch), EIDRM);
	assert_err(contract_sync(c, producer), EIDRM);
	assert_err(c->ops->consumer_open(g, ENGINE_ANY, ENGINE_CONSUME_ONE, &new_consumer), EIDRM);
	assert_err(c->ops->consumer_fetch(consumer, 1, 100, &c->scratch, &view), EIDRM);
	assert_err(c->ops->consumer_arm(consumer, &waiter.waiter), EIDRM);
	assert_err(c->ops->ack_all(g, ENGINE_ANY), EIDRM);
	assert_err(c->ops->ack(g, 0, 0), EIDRM);
	assert_err(c->ops->seek(g, 0, ENGINE_SEEK_EARLIEST, 0), EIDRM);
	assert_err(c->ops->cursor_stat(g, 0, &cursor_stat), EIDRM);
	assert_err(c->ops->group_sync(g, NULL), EIDRM);
	c->ops->consumer_close(consumer);
	c->ops->producer_close(producer);
	c->ops->put(g);
	c->ops->put(t);
}

/* A directory has the owner it was created with until it gets another; a file has none until it gets one. */
void contract_test_owners(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_owner owner = { 1, 2, 3 };
	struct engine_stat stat;

	assert_ok(c->ops->get_owner(topic, "", &owner));
	cr_assert(owner.uid == 1000 && owner.gid == 100 && owner.mode == 0750);
	owner.uid = 1;
	assert_err(c->ops->get_owner(topic, "in", &owner), ENODATA);
	cr_assert_eq(owner.uid, 1, "outputs stay untouched on failure");
	assert_ok(c->ops->set_owner(topic, "in", &(struct engine_owner){ 5, 6, 01640 }));
	assert_ok(c->ops->set_owner(topic, "0/in", &(struct engine_owner){ 50, 60, 0600 }));
	assert_ok(c->ops->get_owner(topic, "in", &owner));
	cr_assert(owner.uid == 5 && owner.gid == 6 && owner.mode == 01640);
	assert_ok(c->ops->set_owner(topic, "in", &(struct engine_owner){ 5, 7, 0400 }));
	assert_ok(c->ops->get_owner(topic, "in", &owner));
	cr_assert(owner.uid == 5 && owner.gid == 7 && owner.mode == 0400);
	assert_ok(c->ops->get_owner(topic, "0/in", &owner));
	cr_assert_eq(owner.uid, 50);
	assert_ok(c->ops->set_owner(topic, "", &(struct engine_owner){ 9, 10, 0700 }));
	stat = contract_stat(c, topic);
	cr_assert(stat.owner.uid == 9 && stat.owner.gid == 10 && stat.owner.mode == 0700);
	cr_assert(stat.birth.uid == 1000 && stat.birth.gid == 100 && stat.birth.mode == 0750, "birth stays");
	assert_ok(c->ops->set_owner(c->root, "topics", &(struct engine_owner){ 1, 1, 0711 }));
	assert_ok(c->ops->get_owner(c->root, "topics", &owner));
	cr_assert_eq(owner.mode, 0711);
	c->ops->put(topic);
}

/* An object is there as long as one reference is. */
void contract_test_references(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1);

	cr_assert_eq(c->ops->ref(topic), topic);
	c->ops->put(topic);
	cr_assert_eq(contract_stat(c, topic).partitions, 1);
	c->ops->put(topic);
	c->ops->put(NULL);
	topic = contract_lookup(c, c->root, ENGINE_TOPIC, "t");
	assert_ok(c->ops->remove(topic));
	c->ops->ref(topic);
	c->ops->put(topic);
	assert_err(c->ops->remove(topic), EIDRM);
	c->ops->put(topic);
}

/* A new object starts with the settings of the defaults; those that are there keep their own. */
void contract_test_defaults(struct contract *c)
{
	struct engine_object *defaults = c->ops->defaults(c->engine, ENGINE_TOPIC), *before, *after = NULL, *group;

	assert_text(contract_get(c, defaults, "linger.ms"), "5");
	before = contract_topic(c, "before", 1);
	assert_ok(contract_set(c, defaults, "linger.ms", "77"));
	assert_ok(contract_set(c, defaults, "partitions", "4"));
	assert_ok(contract_set(c, defaults, "partitions", "3")); /* there is nothing yet that could shrink */
	assert_ok(contract_set(c, c->ops->defaults(c->engine, ENGINE_GROUP), "auto.commit", "yes"));
	assert_ok(c->ops->create(c->engine, c->root, ENGINE_TOPIC, "after", &someone, &after));
	group = contract_group(c, after, "g");
	assert_text(contract_get(c, before, "linger.ms"), "5");
	assert_text(contract_get(c, after, "linger.ms"), "77");
	assert_text(contract_get(c, after, "partitions"), "3");
	cr_assert_eq(contract_stat(c, after).partitions, 3);
	assert_text(contract_get(c, group, "auto.commit"), "true");
	c->ops->put(before);
	c->ops->put(after);
	c->ops->put(group);
}

/* Defaults have settings, and all else about them is EINVAL. */
void contract_test_defaults_have_settings_only(struct contract *c)
{
	struct engine_object *topics = c->ops->defaults(c->engine, ENGINE_TOPIC), *none = NULL;
	struct engine_object *groups = c->ops->defaults(c->engine, ENGINE_GROUP);
	struct engine_identity identity;
	struct engine_partition_stat partition_stat;
	struct engine_consumer *consumer = NULL;
	struct engine_owner owner;
	struct engine_stat stat;

	assert_err(c->ops->identity(topics, &identity), EINVAL);
	assert_err(c->ops->stat(topics, &stat), EINVAL);
	assert_err(c->ops->get_owner(topics, "", &owner), EINVAL);
	assert_err(c->ops->set_owner(topics, "", &someone), EINVAL);
	assert_err(c->ops->rename(topics, "x"), EINVAL);
	assert_err(c->ops->remove(topics), EINVAL);
	assert_err(c->ops->create(c->engine, topics, ENGINE_GROUP, "x", &someone, &none), EINVAL);
	assert_err(c->ops->partition_stat(topics, 0, &partition_stat), EINVAL);
	assert_err(c->ops->consumer_open(groups, ENGINE_ANY, ENGINE_CONSUME_ONE, &consumer), EINVAL);
	assert_err(c->ops->ack_all(groups, ENGINE_ANY), EINVAL);
}

/* A new engine is well, says so in its first line, and stays within the buffer. */
void contract_test_health(struct contract *c)
{
	char buf[256], small[6];
	uint64_t total = 1, left = 2;
	size_t len = c->ops->health(c->engine, buf, sizeof(buf));

	cr_assert_eq(len, strlen(buf));
	cr_assert_eq(strncmp(buf, "state ok\n", 9), 0, "%s", buf);
	cr_assert_leq(c->ops->health(c->engine, small, sizeof(small)), 5);
	cr_assert_str_eq(small, "state");
	assert_ok(c->ops->space(c->engine, &total, &left));
	cr_assert_leq(left, total);
	cr_assert_not_null(c->ops->name);
}

/* Created and changed: times go forward, and producing changes a topic. */
void contract_test_times(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_stat before = contract_stat(c, topic), after;

	cr_assert_gt(before.ctime_ms, INT64_C(1600000000000), "it is Unix time in milliseconds");
	cr_assert_geq(before.mtime_ms, before.ctime_ms);
	contract_send(c, topic, 0, "a\n");
	after = contract_stat(c, topic);
	cr_assert_eq(after.ctime_ms, before.ctime_ms);
	cr_assert_geq(after.mtime_ms, before.mtime_ms);
	c->ops->put(topic);
}

/* A reason stays while what is left is closed and put; the next call that fails without one has none. */
void contract_test_reasons(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g"), *none = NULL;
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);
	struct engine_consumer *consumer = contract_consumer(c, group, ENGINE_ANY, ENGINE_CONSUME_ONE);

	assert_err(c->ops->ack(group, 0, 0), ERANGE);
	cr_assert_str_not_empty(engine_reason());
	c->ops->producer_close(producer);
	c->ops->consumer_close(consumer);
	c->ops->put(c->ops->ref(topic));
	c->ops->put(topic);
	c->ops->put(group);
	cr_assert_str_not_empty(engine_reason());
	assert_err(c->ops->lookup(c->engine, c->root, ENGINE_TOPIC, "absent", &none), ENOENT);
	cr_assert_str_empty(engine_reason());
}
