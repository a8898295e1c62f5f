/* The contract of engines: settings, and what some of them do at once. */
#include "tests/lib/contract.h"

/* A new object has every setting of its kind, at the default of the table. */
void contract_test_settings_initial(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g");

	for (const struct engine_setting *s = engine_settings; s->name != NULL; s++) {
		struct engine_object *object = s->kind == ENGINE_TOPIC ? topic : group;
		char value[ENGINE_VALUE_MAX];

		if (s->kind != ENGINE_TOPIC && s->kind != ENGINE_GROUP)
			continue;
		assert_ok(c->ops->get_setting(object, s, value));
		cr_assert_str_eq(value, s->initial, "%s is %s", s->name, value);
		assert_ok(c->ops->get_setting(c->ops->defaults(c->engine, s->kind), s, value));
		cr_assert_str_eq(value, s->initial);
	}
	c->ops->put(group);
	c->ops->put(topic);
}

/* What was set is in force, in canonical form, in that object alone. */
void contract_test_settings_set(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *other = contract_topic(c, "u", 1);
	struct engine_object *group = contract_group(c, topic, "g");

	assert_ok(contract_set(c, topic, "linger.ms", "0"));
	assert_ok(contract_set(c, topic, "retention.ms", "-1"));
	assert_ok(contract_set(c, topic, "retention.bytes", " 0012 \n"));
	assert_ok(contract_set(c, group, "auto.commit", "on"));
	assert_ok(contract_set(c, group, "auto.offset.reset", "latest"));
	assert_text(contract_get(c, topic, "linger.ms"), "0");
	assert_text(contract_get(c, topic, "retention.ms"), "-1");
	assert_text(contract_get(c, topic, "retention.bytes"), "12");
	assert_text(contract_get(c, group, "auto.commit"), "true");
	assert_text(contract_get(c, group, "auto.offset.reset"), "latest");
	assert_text(contract_get(c, other, "linger.ms"), "5");
	assert_text(contract_get(c, other, "retention.bytes"), "-1");
	c->ops->put(group);
	c->ops->put(topic);
	c->ops->put(other);
}

/* A value that is refused has a reason, and the old one stays in force. */
void contract_test_settings_refused(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1);

	assert_ok(contract_set(c, topic, "linger.ms", "17"));
	assert_err(contract_set(c, topic, "linger.ms", "soon"), EINVAL);
	cr_assert(strstr(engine_reason(), "linger.ms") != NULL, "%s", engine_reason());
	assert_err(contract_set(c, topic, "linger.ms", "60001"), ERANGE);
	assert_err(contract_set(c, topic, "linger.ms", "-1"), ERANGE);
	assert_text(contract_get(c, topic, "linger.ms"), "17");
	assert_err(contract_set(c, topic, "cleanup.policy", "burn"), EINVAL);
	assert_text(contract_get(c, topic, "cleanup.policy"), "delete");
	assert_err(contract_set(c, topic, "partitions", "1025"), ERANGE);
	assert_err(contract_set(c, topic, "partitions", "0"), ERANGE);
	cr_assert_eq(contract_stat(c, topic).partitions, 1);
	c->ops->put(topic);
}

/* A topic has no settings of groups, a group none of topics, the store none at all. */
void contract_test_settings_of_other_kind(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group = contract_group(c, topic, "g");
	char value[ENGINE_VALUE_MAX];

	assert_err(contract_set(c, topic, "auto.commit", "true"), EINVAL);
	assert_err(contract_set(c, group, "linger.ms", "1"), EINVAL);
	assert_err(contract_set(c, c->root, "linger.ms", "1"), EINVAL);
	assert_err(c->ops->get_setting(group, engine_setting_find(ENGINE_TOPIC, "linger.ms"), value), EINVAL);
	c->ops->put(group);
	c->ops->put(topic);
}

/* Partitions are added at the end and start empty; fewer than there are is EPERM, as many is no error. */
void contract_test_partitions_grow(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 2);
	struct engine_partition_stat stat;

	contract_send(c, topic, 1, "a\n");
	assert_err(c->ops->partition_stat(topic, 2, &stat), ENOENT);
	assert_ok(contract_set(c, topic, "partitions", "5"));
	assert_text(contract_get(c, topic, "partitions"), "5");
	cr_assert_eq(contract_stat(c, topic).partitions, 5);
	stat = contract_partition(c, topic, 4);
	cr_assert(stat.earliest == 0 && stat.end == 0 && stat.start_pos == 0 && stat.end_pos == 0);
	contract_send(c, topic, 4, "b\n");
	assert_text(contract_read(c, topic, 1, 0), "0=a");
	assert_text(contract_read(c, topic, 4, 0), "0=b");
	assert_ok(contract_set(c, topic, "partitions", "5"));
	assert_err(contract_set(c, topic, "partitions", "4"), EPERM);
	assert_text(contract_get(c, topic, "partitions"), "5");
	cr_assert_eq(contract_stat(c, topic).partitions, 5);
	c->ops->put(topic);
}

/* Groups have the new partitions too, from their beginning, though they start at the end elsewhere; cursors stay. */
void contract_test_partitions_grow_under_group(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1), *group;

	contract_send(c, topic, 0, "a\nb\n");
	assert_ok(contract_set(c, c->ops->defaults(c->engine, ENGINE_GROUP), "auto.offset.reset", "latest"));
	group = contract_group(c, topic, "g");
	assert_ok(contract_set(c, topic, "partitions", "3"));
	contract_send(c, topic, 2, "x\n");
	assert_text(contract_cursor(c, group, 0), "2 2 0");
	assert_text(contract_cursor(c, group, 2), "0 0 0");
	assert_text(contract_snapshot(c, group), "2:0=x");
	assert_ok(c->ops->ack_all(group, ENGINE_ANY));
	assert_text(contract_cursor(c, group, 2), "1 1 0");
	c->ops->put(group);
	c->ops->put(topic);
}

/* max.message.bytes counts the payload alone, takes effect at once, and for producers that are open already. */
void contract_test_max_message_bytes(struct contract *c)
{
	struct engine_object *topic = contract_topic(c, "t", 1);
	struct engine_producer *producer = contract_producer(c, topic, ENGINE_ANY);
	struct engine_batch five = contract_batch("12345\n"), six = contract_batch("123456\n");

	assert_ok(contract_set(c, topic, "max.message.bytes", "5"));
	assert_ok(contract_send_batch(c, producer, &five));
	assert_err(contract_send_batch(c, producer, &six), EMSGSIZE);
	assert_ok(contract_set(c, topic, "max.message.bytes", "6"));
	assert_ok(contract_send_batch(c, producer, &six));
	assert_text(contract_read(c, topic, 0, 0), "0=12345 1=123456");
	c->ops->producer_close(producer);
	c->ops->put(topic);
}
