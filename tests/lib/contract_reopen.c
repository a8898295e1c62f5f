/* The contract of engines that keep what they have: all of it is there again when the engine is opened again. */
#include "tests/lib/contract.h"

#include <unistd.h>

static const struct engine_owner someone = { 1000, 100, 0750 };

static struct engine_object *topic_again(struct contract *c, const char *name)
{
	return contract_lookup(c, c->root, ENGINE_TOPIC, name);
}

/* Objects have their ids, names, kinds, parents and times again; the store its owner. */
void contract_test_reopen_objects(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "old", 3), *group = contract_group(c, topic, "g");
	uint64_t topic_id = contract_id(c, topic), group_id = contract_id(c, group);
	struct engine_stat before, after;
	struct engine_identity identity;

	assert_ok(c->ops->rename(topic, "new"));
	before = contract_stat(c, topic);
	c->ops->put(group);
	c->ops->put(topic);
	contract_reopen(c);
	topic = topic_again(c, "new");
	group = contract_lookup(c, topic, ENGINE_GROUP, "g");
	cr_assert_eq(contract_id(c, topic), topic_id);
	assert_ok(c->ops->identity(group, &identity));
	cr_assert_eq(identity.id, group_id);
	cr_assert_eq(identity.parent_id, topic_id);
	after = contract_stat(c, topic);
	cr_assert_eq(after.ctime_ms, before.ctime_ms);
	cr_assert_eq(after.partitions, 3);
	cr_assert_eq(contract_stat(c, c->root).owner.uid, 7);
	c->ops->put(group);
	c->ops->put(topic);
}

/* No id is given again, though its object was the newest and is gone. */
void contract_test_reopen_ids(struct contract *c)
{
	uint64_t last = ENGINE_ROOT_ID;

	for (int i = 0; i < 3; i++) {
		struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g");

		cr_assert_gt(contract_id(c, topic), last);
		cr_assert_gt(contract_id(c, group), contract_id(c, topic));
		last = contract_id(c, group);
		assert_ok(c->ops->remove(topic));
		c->ops->put(group);
		c->ops->put(topic);
		contract_reopen(c);
	}
}

/* Owners and modes of directories and files are kept, of the store as well. */
void contract_test_reopen_owners(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_owner owner;
	struct engine_stat stat;

	assert_ok(c->ops->set_owner(topic, "", &(struct engine_owner){ 5, 6, 0700 }));
	assert_ok(c->ops->set_owner(topic, "0/in", &(struct engine_owner){ 7, 8, 0640 }));
	assert_ok(c->ops->set_owner(c->root, "", &(struct engine_owner){ 9, 10, 0711 }));
	c->ops->put(topic);
	contract_reopen(c);
	topic = topic_again(c, "t");
	stat = contract_stat(c, topic);
	cr_assert(stat.owner.uid == 5 && stat.owner.gid == 6 && stat.owner.mode == 0700);
	cr_assert(stat.birth.uid == 1000 && stat.birth.gid == 100 && stat.birth.mode == 0750);
	assert_ok(c->ops->get_owner(topic, "0/in", &owner));
	cr_assert(owner.uid == 7 && owner.gid == 8 && owner.mode == 0640);
	assert_err(c->ops->get_owner(topic, "in", &owner), ENODATA);
	cr_assert_eq(contract_stat(c, c->root).owner.uid, 9);
	c->ops->put(topic);
}

/* Settings are kept, of objects and of defaults, and those that were never set are at their defaults. */
void contract_test_reopen_settings(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g"), *fresh = NULL;

	assert_ok(contract_set(c, topic, "linger.ms", "42"));
	assert_ok(contract_set(c, topic, "retention.bytes", "-1"));
	assert_ok(contract_set(c, group, "auto.commit", "true"));
	assert_ok(contract_set(c, c->ops->defaults(c->engine, ENGINE_TOPIC), "batch.size", "1000"));
	c->ops->put(group);
	c->ops->put(topic);
	contract_reopen(c);
	topic = topic_again(c, "t");
	group = contract_lookup(c, topic, ENGINE_GROUP, "g");
	assert_text(contract_get(c, topic, "linger.ms"), "42");
	assert_text(contract_get(c, topic, "retention.bytes"), "-1");
	assert_text(contract_get(c, topic, "batch.size"), "262144");
	assert_text(contract_get(c, topic, "flush.ms"), "1000");
	assert_text(contract_get(c, group, "auto.commit"), "true");
	assert_ok(c->ops->create(c->engine, c->root, ENGINE_TOPIC, "fresh", &someone, &fresh));
	assert_text(contract_get(c, fresh, "batch.size"), "1000");
	assert_text(contract_get(c, fresh, "linger.ms"), "5");
	c->ops->put(fresh);
	c->ops->put(group);
	c->ops->put(topic);
}

/* Messages have their offsets, positions and bytes again, and the next go on after them. */
void contract_test_reopen_messages(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 2);
	struct engine_partition_stat before, after;
	char buf[64];

	contract_send(c, topic, 0, "a\n\nc\n");
	contract_send(c, topic, 1, "x\n");
	for (int i = 0; i < 3; i++) {
		before = contract_partition(c, topic, 0);
		c->ops->put(topic);
		contract_reopen(c);
		topic = topic_again(c, "t");
		after = contract_partition(c, topic, 0);
		cr_assert(after.earliest == before.earliest && after.end == before.end);
		cr_assert(after.start_pos == before.start_pos && after.end_pos == before.end_pos);
		cr_assert_eq(after.mtime_ms, before.mtime_ms);
		contract_send(c, topic, 0, "more\n");
	}
	assert_text(contract_read(c, topic, 0, 0), "0=a 1= 2=c 3=more 4=more 5=more");
	assert_text(contract_read(c, topic, 1, 0), "0=x");
	cr_assert_eq(c->ops->partition_pread(topic, 0, 2, buf, 8), 8);
	cr_assert_eq(memcmp(buf, "\nc\nmore\n", 8), 0);
	cr_assert_eq(contract_stat(c, topic).messages, 7);
	cr_assert_eq(contract_stat(c, topic).published_total, 1, "totals count since the opening");
	c->ops->put(topic);
}

/* Keys, headers, times, producers, and newlines within payloads are kept. */
void contract_test_reopen_props(struct contract *c)
{
	static const uint32_t lengths[] = { 3, 0 };
	struct engine_header header = { { "n", 1 }, { "", 0 } };
	struct engine_props props[2] = { ENGINE_PROPS_INIT, ENGINE_PROPS_INIT };
	struct engine_batch batch = { .data = "a\nb\n\n",
		.len = 5,
		.count = 2,
		.lengths = lengths,
		.props = props,
		.cred = { 1, 2, 3 },
		.ts_ms = -1 };
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);
	struct engine_view view;

	props[0].key = (struct engine_span){ "k", 1 };
	props[0].headers = &header;
	props[0].header_count = 1;
	props[0].priority = 3;
	assert_ok(contract_send_batch(c, producer, &batch));
	c->ops->producer_close(producer);
	c->ops->put(topic);
	contract_reopen(c);
	topic = topic_again(c, "t");
	assert_text(contract_read(c, topic, 0, 0), "0=a\nb 1=");
	assert_ok(c->ops->partition_read(topic, 0, 0, 1, &c->scratch, &view));
	cr_assert(view.batch.cred.uid == 1 && view.batch.cred.gid == 2 && view.batch.cred.pid == 3);
	cr_assert_not_null(view.batch.props);
	cr_assert(view.batch.props->key.len == 1 && view.batch.props->key.ptr[0] == 'k');
	cr_assert_eq(view.batch.props->header_count, 1);
	cr_assert(view.batch.props->headers[0].name.len == 1 && view.batch.props->headers[0].value.len == 0);
	cr_assert_eq(view.batch.props->priority, 3);
	c->ops->put(topic);
}

/* A topic that grew has its partitions again, and may grow on. */
void contract_test_reopen_partitions(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 2);

	contract_send(c, topic, 1, "a\n");
	assert_ok(contract_set(c, topic, "partitions", "4"));
	contract_send(c, topic, 3, "b\n");
	c->ops->put(topic);
	contract_reopen(c);
	topic = topic_again(c, "t");
	assert_text(contract_get(c, topic, "partitions"), "4");
	assert_text(contract_read(c, topic, 1, 0), "0=a");
	assert_text(contract_read(c, topic, 3, 0), "0=b");
	assert_err(contract_set(c, topic, "partitions", "3"), EPERM);
	assert_ok(contract_set(c, topic, "partitions", "5"));
	contract_send(c, topic, 4, "c\n");
	assert_text(contract_read(c, topic, 4, 0), "0=c");
	c->ops->put(topic);
}

/* What was purged does not come back, and offsets and positions go on where they were. */
void contract_test_reopen_purge(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 2);
	struct engine_partition_stat stat;

	contract_send(c, topic, 0, "a\nb\nc\n");
	contract_send(c, topic, 1, "x\n");
	assert_ok(c->ops->partition_purge(topic, 0, 2));
	assert_ok(c->ops->partition_purge(topic, 1, ENGINE_OFFSET_NONE));
	c->ops->put(topic);
	contract_reopen(c);
	topic = topic_again(c, "t");
	stat = contract_partition(c, topic, 0);
	cr_assert(stat.earliest == 2 && stat.end == 3 && stat.start_pos == 4 && stat.end_pos == 6);
	stat = contract_partition(c, topic, 1);
	cr_assert(stat.earliest == 1 && stat.end == 1 && stat.start_pos == 2 && stat.end_pos == 2);
	contract_send(c, topic, 1, "y\n");
	assert_text(contract_read(c, topic, 0, 2), "2=c");
	assert_text(contract_read(c, topic, 1, 1), "1=y");
	c->ops->put(topic);
}

/* Stored offsets are kept, whichever call moved them, and so is what a group lost. */
void contract_test_reopen_cursors(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 3), *group = contract_group(c, topic, "g");
	struct engine_object *automatic = contract_group(c, topic, "auto");

	assert_ok(contract_set(c, automatic, "auto.commit", "true"));
	for (uint32_t p = 0; p < 3; p++)
		contract_send(c, topic, p, "a\nb\nc\n");
	contract_snapshot(c, group);
	contract_snapshot(c, automatic);
	assert_ok(c->ops->ack(group, 0, 1));
	assert_ok(c->ops->ack_all(group, 1));
	assert_ok(c->ops->seek(group, 2, ENGINE_SEEK_OFFSET, 1));
	c->ops->put(automatic);
	c->ops->put(group);
	c->ops->put(topic);
	for (int i = 0; i < 2; i++) {
		contract_reopen(c);
		topic = topic_again(c, "t");
		group = contract_lookup(c, topic, ENGINE_GROUP, "g");
		automatic = contract_lookup(c, topic, ENGINE_GROUP, "auto");
		cr_assert_eq(strncmp(contract_cursor(c, group, 0), "2 ", 2), 0);
		assert_text(contract_cursor(c, group, 1), "3 3 0");
		assert_text(contract_cursor(c, group, 2), "1 1 0");
		for (uint32_t p = 0; p < 3; p++)
			assert_text(contract_cursor(c, automatic, p), "3 3 0");
		c->ops->put(automatic);
		c->ops->put(group);
		c->ops->put(topic);
	}
	topic = topic_again(c, "t");
	group = contract_lookup(c, topic, ENGINE_GROUP, "g");
	assert_text(contract_snapshot(c, group), "0:2=c 2:1=b 2:2=c");
	c->ops->put(group);
	c->ops->put(topic);
}

/* A group that was given something before goes on at its stored offset, and can acknowledge what it is given again. */
void contract_test_reopen_given(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g");

	contract_send(c, topic, 0, "a\nb\n");
	assert_text(contract_snapshot(c, group), "0:0=a 0:1=b");
	c->ops->put(group);
	c->ops->put(topic);
	contract_reopen(c);
	topic = topic_again(c, "t");
	group = contract_lookup(c, topic, ENGINE_GROUP, "g");
	assert_text(contract_one(c, group), "0:0=a");
	assert_ok(c->ops->ack(group, 0, 0));
	assert_text(contract_snapshot(c, group), "0:1=b");
	c->ops->put(group);
	c->ops->put(topic);
}

/* A group at the end stays there, and one that was given nothing yet gets what came since. */
void contract_test_reopen_fresh_group(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *early = contract_group(c, topic, "early"), *late;

	contract_send(c, topic, 0, "a\n");
	assert_ok(contract_set(c, c->ops->defaults(c->engine, ENGINE_GROUP), "auto.offset.reset", "latest"));
	late = contract_group(c, topic, "late");
	c->ops->put(late);
	c->ops->put(early);
	c->ops->put(topic);
	contract_reopen(c);
	topic = topic_again(c, "t");
	early = contract_lookup(c, topic, ENGINE_GROUP, "early");
	late = contract_lookup(c, topic, ENGINE_GROUP, "late");
	contract_send(c, topic, 0, "b\n");
	assert_text(contract_snapshot(c, early), "0:0=a 0:1=b");
	assert_text(contract_snapshot(c, late), "0:1=b");
	c->ops->put(late);
	c->ops->put(early);
	c->ops->put(topic);
}

/* What was removed stays away, its settings and cursors too: a new object of its name starts from nothing. */
void contract_test_reopen_removed(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g"), *none = NULL;

	contract_send(c, topic, 0, "a\n");
	contract_one(c, group);
	assert_ok(c->ops->ack_all(group, ENGINE_ANY));
	assert_ok(contract_set(c, topic, "linger.ms", "9"));
	assert_ok(c->ops->set_owner(topic, "in", &someone));
	assert_ok(c->ops->remove(group));
	c->ops->put(group);
	c->ops->put(topic);
	contract_reopen(c);
	topic = topic_again(c, "t");
	assert_err(c->ops->lookup(c->engine, topic, ENGINE_GROUP, "g", &none), ENOENT);
	group = contract_group(c, topic, "g");
	assert_text(contract_one(c, group), "0:0=a");
	assert_ok(c->ops->partition_purge(topic, ENGINE_ANY, ENGINE_OFFSET_NONE));
	assert_ok(c->ops->remove(topic));
	c->ops->put(group);
	c->ops->put(topic);
	contract_reopen(c);
	assert_err(c->ops->lookup(c->engine, c->root, ENGINE_TOPIC, "t", &none), ENOENT);
	topic = contract_topic(c, "t", 1);
	assert_text(contract_get(c, topic, "linger.ms"), "5");
	assert_err(c->ops->get_owner(topic, "in", &(struct engine_owner){ 0 }), ENODATA);
	cr_assert_eq(contract_partition(c, topic, 0).end, 0);
	c->ops->put(topic);
}

/* Opened read-only, everything can be looked at, and what would change the store is EROFS. */
void contract_test_reopen_read_only(struct contract *c)
{
	struct engine_options options = { .read_only = true };
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g"), *none = NULL;
	struct engine_producer *producer = NULL;
	struct engine_batch batch = contract_batch("b\n");

	contract_send(c, topic, 0, "a\n");
	c->ops->put(group);
	c->ops->put(topic);
	contract_close(c);
	assert_ok(engine_open(c->source, &options, &c->engine));
	assert_ok(c->ops->get(c->engine, ENGINE_ROOT_ID, &c->root));
	topic = topic_again(c, "t");
	group = contract_lookup(c, topic, ENGINE_GROUP, "g");
	assert_text(contract_read(c, topic, 0, 0), "0=a");
	cr_assert_eq(contract_stat(c, topic).messages, 1);
	assert_err(c->ops->create(c->engine, c->root, ENGINE_TOPIC, "u", &someone, &none), EROFS);
	assert_err(c->ops->remove(group), EROFS);
	assert_err(c->ops->rename(topic, "u"), EROFS);
	assert_err(c->ops->set_owner(topic, "", &someone), EROFS);
	assert_err(contract_set(c, topic, "linger.ms", "1"), EROFS);
	assert_err(c->ops->partition_purge(topic, 0, ENGINE_OFFSET_NONE), EROFS);
	if (c->ops->producer_open(topic, 0, (struct engine_span){ NULL, 0 }, &producer) == 0) {
		assert_err(contract_send_batch(c, producer, &batch), EROFS);
		c->ops->producer_close(producer);
	}
	assert_err(c->ops->seek(group, 0, ENGINE_SEEK_LATEST, 0), EROFS);
	c->ops->put(group);
	c->ops->put(topic);
	contract_reopen(c);
	topic = topic_again(c, "t");
	assert_text(contract_read(c, topic, 0, 0), "0=a");
	c->ops->put(topic);
}

/* A store that is open is EBUSY, with the pid of who has it; one that is not there is ENOENT unless it is to be made. */
void contract_test_open_errors(struct contract *c)
{
	struct engine_options options = { .create = true };
	struct engine *second = NULL;
	char pid[32], absent[PATH_MAX + 64];

	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	assert_err(engine_open(c->source, &options, &second), EBUSY);
	cr_assert(strstr(engine_reason(), pid) != NULL, "%s", engine_reason());
	snprintf(absent, sizeof(absent), "%s/absent", c->dir.path);
	options.create = false;
	assert_err(engine_open(absent, &options, &second), ENOENT);
	cr_assert_neq(access(absent, F_OK), 0, "nothing was made");
	cr_assert_null(second);
}
