/* The settings table, and what is accepted as a value: pure functions, by tables. */
#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

/* Every row is whole: it is found by its name, its default is accepted and canonical, and it can be documented. */
Test(settings, table_is_whole)
{
	size_t count = 0;

	for (const struct engine_setting *s = engine_settings; s->name != NULL; s++, count++) {
		char value[ENGINE_VALUE_MAX] = "";

		cr_assert_eq(engine_setting_find(s->kind, s->name), s, "%s is there twice", s->name);
		cr_assert(s->kind == ENGINE_TOPIC || s->kind == ENGINE_GROUP || s->kind == ENGINE_QUEUE ||
			  s->kind == ENGINE_CONSUMER || s->kind == ENGINE_EXCHANGE || s->kind == ENGINE_TX);
		cr_assert_eq(engine_setting_parse(s, s->initial, value), 0, "%s: %s", s->name, engine_reason());
		cr_assert_str_eq(value, s->initial);
		cr_assert(s->none == 1 || (s->type == ENGINE_INT && s->none < s->min), "%s", s->name);
		cr_assert_eq(s->type == ENGINE_CHOICE || s->type == ENGINE_TEXT, s->choices != NULL);
		cr_assert_not_null(s->unit);
		cr_assert(strlen(s->text) > 20 && s->text[strlen(s->text) - 1] == '.', "%s", s->name);
	}
	cr_assert_gt(count, 10);
}

/* A setting belongs to one kind of object. */
Test(settings, find)
{
	cr_assert_not_null(engine_setting_find(ENGINE_TOPIC, "linger.ms"));
	cr_assert_null(engine_setting_find(ENGINE_GROUP, "linger.ms"));
	cr_assert_null(engine_setting_find(ENGINE_STORE, "linger.ms"));
	cr_assert_null(engine_setting_find(ENGINE_TOPIC, "linger"));
	cr_assert_null(engine_setting_find(ENGINE_TOPIC, "LINGER.MS"));
	cr_assert_null(engine_setting_find(ENGINE_TOPIC, ""));
}

/* The interface promises these. */
Test(settings, defaults)
{
	static const struct {
		enum engine_kind kind;
		const char *name, *value;
	} rows[] = {
		{ ENGINE_TOPIC, "partitions", "1" },
		{ ENGINE_TOPIC, "linger.ms", "5" },
		{ ENGINE_TOPIC, "batch.size", "262144" },
		{ ENGINE_TOPIC, "flush.messages", "10000" },
		{ ENGINE_TOPIC, "flush.ms", "1000" },
		{ ENGINE_TOPIC, "retention.ms", "604800000" },
		{ ENGINE_TOPIC, "retention.bytes", "-1" },
		{ ENGINE_TOPIC, "segment.bytes", "268435456" },
		{ ENGINE_TOPIC, "cleanup.policy", "delete" },
		{ ENGINE_TOPIC, "delete.retention.ms", "86400000" },
		{ ENGINE_TOPIC, "max.message.bytes", "16777216" },
		{ ENGINE_TOPIC, "dedup.window.ms", "0" },
		{ ENGINE_GROUP, "auto.commit", "false" },
		{ ENGINE_GROUP, "auto.offset.reset", "earliest" },
		{ ENGINE_GROUP, "max.poll.records", "0" },
		{ ENGINE_QUEUE, "max.priority", "9" },
		{ ENGINE_QUEUE, "linger.ms", "0" },
		{ ENGINE_QUEUE, "batch.size", "262144" },
		{ ENGINE_QUEUE, "flush.messages", "1000" },
		{ ENGINE_QUEUE, "flush.ms", "10" },
		{ ENGINE_QUEUE, "message.ttl.ms", "-1" },
		{ ENGINE_QUEUE, "max.length", "-1" },
		{ ENGINE_QUEUE, "max.length.bytes", "-1" },
		{ ENGINE_QUEUE, "overflow", "drop-head" },
		{ ENGINE_QUEUE, "max.message.bytes", "16777216" },
		{ ENGINE_QUEUE, "ack.timeout.ms", "300000" },
		{ ENGINE_QUEUE, "consumer.timeout.ms", "1800000" },
		{ ENGINE_QUEUE, "delivery.limit", "20" },
		{ ENGINE_QUEUE, "prefetch", "256" },
		{ ENGINE_QUEUE, "auto.ack", "false" },
		{ ENGINE_QUEUE, "dead.letter.to", "dlq" },
		{ ENGINE_QUEUE, "single.active.consumer", "false" },
		{ ENGINE_QUEUE, "redelivery.delay.ms", "0" },
		{ ENGINE_QUEUE, "expires.ms", "-1" },
		{ ENGINE_QUEUE, "dedup.window.ms", "0" },
		{ ENGINE_CONSUMER, "prefetch", "" },
		{ ENGINE_CONSUMER, "auto.ack", "" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct engine_setting *s = engine_setting_find(rows[i].kind, rows[i].name);

		cr_assert_not_null(s, "%s", rows[i].name);
		cr_assert_str_eq(s->initial, rows[i].value);
	}
}

static const struct {
	const char *name, *text;
	int rc;
	const char *value; /* canonical */
} values[] = {
	{ "linger.ms", "5", 0, "5" },
	{ "linger.ms", "5\n", 0, "5" },
	{ "linger.ms", " \t5 \r\n", 0, "5" },
	{ "linger.ms", "007", 0, "7" },
	{ "linger.ms", "00000000000000000000000000000000000000000000000000000000000000000000000000000000005", 0, "5" },
	{ "linger.ms", "0", 0, "0" },
	{ "linger.ms", "-0", 0, "0" },
	{ "linger.ms", "60000", 0, "60000" },
	{ "linger.ms", "60001", -ERANGE, NULL },
	{ "linger.ms", "-1", -ERANGE, NULL },
	{ "linger.ms", "9223372036854775808", -ERANGE, NULL },
	{ "linger.ms", "99999999999999999999999999", -ERANGE, NULL },
	{ "linger.ms", "-99999999999999999999999999", -ERANGE, NULL },
	{ "linger.ms", "4294967301", -ERANGE, NULL },           /* 5, if cut to 32 bits */
	{ "linger.ms", "18446744073709551621", -ERANGE, NULL }, /* 5, if cut to 64 */
	{ "linger.ms", "", -EINVAL, NULL },
	{ "linger.ms", " \n", -EINVAL, NULL },
	{ "linger.ms", "-", -EINVAL, NULL },
	{ "linger.ms", "--5", -EINVAL, NULL },
	{ "linger.ms", "+5", -EINVAL, NULL },
	{ "linger.ms", "abc", -EINVAL, NULL },
	{ "linger.ms", "5 ms", -EINVAL, NULL },
	{ "linger.ms", "5ms", -EINVAL, NULL },
	{ "linger.ms", "5.0", -EINVAL, NULL },
	{ "linger.ms", "1e3", -EINVAL, NULL },
	{ "linger.ms", "1e400", -EINVAL, NULL },
	{ "linger.ms", "0x10", -EINVAL, NULL },
	{ "linger.ms", "1,000", -EINVAL, NULL },
	{ "linger.ms", "5\n6", -EINVAL, NULL },
	{ "linger.ms", "5\v", -EINVAL, NULL },
	{ "linger.ms",
	    "\xef\xbb\xbf"
	    "5",
	    -EINVAL, NULL },
	{ "linger.ms", "\xd9\xa5", -EINVAL, NULL }, /* a digit, but not a decimal one of ours */
	{ "linger.ms", "true", -EINVAL, NULL },
	{ "linger.ms", "99999999999999999999999999x", -EINVAL, NULL },
	{ "retention.ms", "-1", 0, "-1" },
	{ "retention.ms", "0", -ERANGE, NULL },
	{ "retention.ms", "-2", -ERANGE, NULL },
	{ "retention.ms", "9223372036854775807", 0, "9223372036854775807" },
	{ "retention.ms", "-9223372036854775808", -ERANGE, NULL },
	{ "flush.messages", "-1", 0, "-1" },
	{ "flush.messages", "0", -ERANGE, NULL },
	{ "batch.size", "1", 0, "1" },
	{ "batch.size", "0", -ERANGE, NULL },
	{ "partitions", "1024", 0, "1024" },
	{ "partitions", "1025", -ERANGE, NULL },
	{ "segment.bytes", "4095", -ERANGE, NULL },
	{ "segment.bytes", "2147483647", 0, "2147483647" },
	{ "max.message.bytes", "536870912", 0, "536870912" },
	{ "max.message.bytes", "536870913", -ERANGE, NULL },
	{ "max.poll.records", "0", 0, "0" },
	{ "max.poll.records", "-1", -ERANGE, NULL },
	{ "cleanup.policy", "delete\n", 0, "delete" },
	{ "cleanup.policy", "Delete", 0, "delete" },
	{ "cleanup.policy", "compact", 0, "compact" },
	{ "cleanup.policy", "Compact,Delete", 0, "compact,delete" },
	{ "cleanup.policy", "del", -EINVAL, NULL },
	{ "cleanup.policy", "delete,compact", -EINVAL, NULL },
	{ "cleanup.policy", "", -EINVAL, NULL },
	{ "auto.offset.reset", "latest", 0, "latest" },
	{ "auto.offset.reset", "none", -EINVAL, NULL },
	{ "auto.commit", "true", 0, "true" },
	{ "auto.commit", "1\n", 0, "true" },
	{ "auto.commit", "YES", 0, "true" },
	{ "auto.commit", "on", 0, "true" },
	{ "auto.commit", "false", 0, "false" },
	{ "auto.commit", "0", 0, "false" },
	{ "auto.commit", "no", 0, "false" },
	{ "auto.commit", "Off", 0, "false" },
	{ "auto.commit", "2", -EINVAL, NULL },
	{ "auto.commit", "tru", -EINVAL, NULL },
	{ "auto.commit", "true false", -EINVAL, NULL },
	{ "auto.commit", "", -EINVAL, NULL },
	{ "max.priority", "0", 0, "0" },
	{ "max.priority", "10", -ERANGE, NULL },
	{ "max.length", "0", -ERANGE, NULL },
	{ "max.length", "-1", 0, "-1" },
	{ "message.ttl.ms", "9223372036854775807", -ERANGE, NULL },
	{ "ack.timeout.ms", "-1", -ERANGE, NULL },
	{ "delivery.limit", "0", 0, "0" },
	{ "delivery.limit", "-1", 0, "-1" },
	{ "prefetch", "0", 0, "0" },
	{ "prefetch", "", -EINVAL, NULL },
	{ "overflow", "reject-publish-dlx\n", 0, "reject-publish-dlx" },
	{ "overflow", "drop", -EINVAL, NULL },
	{ "dead.letter.to", "dlq\n", 0, "dlq" },
	{ "dead.letter.to", "None", 0, "none" },
	{ "dead.letter.to", " queues/other jobs \n", 0, "queues/other jobs" },
	{ "dead.letter.to", "queues/", -EINVAL, NULL },
	{ "dead.letter.to", "queues", -EINVAL, NULL },
	{ "dead.letter.to", "Queues/x", -EINVAL, NULL },
	{ "dead.letter.to", "queues/a/b", -EINVAL, NULL },
	{ "dead.letter.to", "queues/a\nb", -EINVAL, NULL },
	{ "dead.letter.to", "exchanges/e", 0, "exchanges/e" },
	{ "dead.letter.to", "topics/t", -EINVAL, NULL },
	{ "dead.letter.to", "dlq2", -EINVAL, NULL },
	{ "dead.letter.to", "", -EINVAL, NULL },
};

static const struct engine_setting *find(const char *name)
{
	static const enum engine_kind kinds[] = { ENGINE_TOPIC, ENGINE_GROUP, ENGINE_QUEUE };
	const struct engine_setting *s = NULL;

	for (size_t i = 0; s == NULL && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		s = engine_setting_find(kinds[i], name);
	return s;
}

/* What is a value of the type is brought into one form; what is none is EINVAL, what is out of range ERANGE. */
Test(settings, parse)
{
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		char value[ENGINE_VALUE_MAX] = "untouched";
		int rc = engine_setting_parse(find(values[i].name), values[i].text, value);

		cr_assert_eq(rc, values[i].rc, "%s \"%s\" gives %d", values[i].name, values[i].text, rc);
		cr_assert_str_eq(value, rc == 0 ? values[i].value : "untouched");
	}
}

/* A name of any length that an object may have fits into a value, and a longer one is refused. */
Test(settings, names)
{
	char text[ENGINE_NAME_MAX + 16] = "queues/", value[ENGINE_VALUE_MAX];

	memset(text + 7, 'n', ENGINE_NAME_MAX);
	cr_assert_eq(engine_setting_parse(find("dead.letter.to"), text, value), 0);
	cr_assert_str_eq(value, text);
	text[7 + ENGINE_NAME_MAX] = 'n';
	cr_assert_eq(engine_setting_parse(find("dead.letter.to"), text, value), -EINVAL);
}

/* A routing key is as long as a key may be, and has no control characters. */
Test(settings, keys)
{
	char text[ENGINE_KEY_MAX + 2], value[ENGINE_VALUE_MAX];

	memset(text, 'k', sizeof(text));
	text[ENGINE_KEY_MAX] = '\0';
	cr_assert_eq(engine_setting_parse(find("dead.letter.routing.key"), text, value), 0);
	cr_assert_str_eq(value, text);
	text[ENGINE_KEY_MAX] = 'k';
	text[ENGINE_KEY_MAX + 1] = '\0';
	cr_assert_eq(engine_setting_parse(find("dead.letter.routing.key"), text, value), -EINVAL);
	cr_assert_eq(engine_setting_parse(find("dead.letter.routing.key"), "a\177b", value), -EINVAL);
}

/* A setting that inherits takes an empty value, which is none of its own; others it checks as ever. */
Test(settings, inherited)
{
	const struct engine_setting *s = engine_setting_find(ENGINE_CONSUMER, "prefetch");
	char value[ENGINE_VALUE_MAX] = "untouched";

	cr_assert(engine_setting_inherits(s));
	cr_assert(!engine_setting_inherits(engine_setting_find(ENGINE_QUEUE, "prefetch")));
	cr_assert_eq(engine_setting_parse(s, "-1", value), -ERANGE);
	cr_assert_str_eq(value, "untouched");
	cr_assert_eq(engine_setting_parse(s, " \n", value), 0);
	cr_assert_str_eq(value, "");
	cr_assert_eq(engine_setting_parse(s, "7", value), 0);
	cr_assert_str_eq(value, "7");
}

/* The ends of every range are accepted, and one beyond is not. */
Test(settings, ranges)
{
	for (const struct engine_setting *s = engine_settings; s->name != NULL; s++) {
		char text[32], value[ENGINE_VALUE_MAX];

		if (s->type != ENGINE_INT)
			continue;
		snprintf(text, sizeof(text), "%" PRId64, s->min);
		cr_assert_eq(engine_setting_parse(s, text, value), 0);
		snprintf(text, sizeof(text), "%" PRId64, s->max);
		cr_assert_eq(engine_setting_parse(s, text, value), 0);
		if (s->max < INT64_MAX) {
			snprintf(text, sizeof(text), "%" PRId64, s->max + 1);
			cr_assert_eq(engine_setting_parse(s, text, value), -ERANGE);
		}
		snprintf(text, sizeof(text), "%" PRId64, s->min - 1);
		cr_assert_eq(engine_setting_parse(s, text, value), s->none == s->min - 1 ? 0 : -ERANGE, "%s", s->name);
	}
}

static const char *reason_for(const char *name, const char *text)
{
	char value[ENGINE_VALUE_MAX];

	cr_assert_lt(engine_setting_parse(find(name), text, value), 0);
	return engine_reason();
}

/* A refusal names the setting, what it takes, and what was given. */
Test(settings, reasons)
{
	cr_assert_str_eq(
	    reason_for("linger.ms", "60001"), "linger.ms takes a whole number from 0 to 60000, not \"60001\"");
	cr_assert_str_eq(reason_for("retention.bytes", " soon\n"),
	    "retention.bytes takes a whole number from 1 to 9223372036854775807, or -1 for no limit, not \"soon\"");
	cr_assert_str_eq(reason_for("auto.commit", "maybe"), "auto.commit takes true or false, not \"maybe\"");
	cr_assert_str_eq(reason_for("auto.offset.reset", ""), "auto.offset.reset takes earliest or latest, not \"\"");
	cr_assert_str_eq(
	    reason_for("cleanup.policy", "x"), "cleanup.policy takes delete, compact or compact,delete, not \"x\"");
	cr_assert_str_eq(reason_for("dead.letter.to", "topics/t"),
	    "dead.letter.to takes dlq, none, queues/NAME or exchanges/NAME, not \"topics/t\"");
}

/* What cannot be seen is shown as what it is, and a value of a megabyte by its beginning. */
Test(settings, reasons_are_one_short_line)
{
	char *large = malloc(1 << 20);

	cr_assert_not_null(large);
	cr_assert(strstr(reason_for("linger.ms", "\xef\xbb\xbf"
						 "5"),
		      "\"\\xef\\xbb\\xbf5\"") != NULL,
	    "%s", engine_reason());
	cr_assert(
	    strstr(reason_for("linger.ms", "5\n\x1b[31m6"), "\"5\\x0a\\x1b[31m6\"") != NULL, "%s", engine_reason());
	memset(large, '\xff', (1 << 20) - 1);
	large[(1 << 20) - 1] = '\0';
	cr_assert(strstr(reason_for("retention.ms", large), "\\xff") != NULL);
	cr_assert_lt(strlen(engine_reason()), 256);
	memset(large, 'a', (1 << 20) - 1);
	cr_assert(strstr(reason_for("retention.ms", large), "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"...") != NULL);
	memset(large, '7', (1 << 20) - 1);
	reason_for("retention.ms", large);
	free(large);
}
