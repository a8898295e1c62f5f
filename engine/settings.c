/*
 * settings - the table of every setting, and the one place where a value given as text is checked.
 *
 * Listing a config directory, reading and writing its files, the errno and the sentence for a bad value and the tables of
 * the manual all come from engine_settings[]. To add a setting, add a row; the engine that acts on it reads its value by
 * name.
 *
 * Values are strict: a whole decimal number with an optional minus, one of the words of a choice, or a boolean. No units,
 * no hexadecimal, no plus sign, no fractions: what is not understood is refused, never guessed. Blanks and line ends
 * around the value are dropped, since echo adds one. The canonical form of what was accepted is what is stored and shown.
 */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "engine/engine.h"

#define QUOTE_BYTES 40u /* of a refused value that its sentence repeats */
#define NO_NONE 1       /* in column none: every value must be within min..max */

/* A hundred years: added to any time there is, it cannot overflow. */
#define MS_MAX INT64_C(3155760000000)

static const char *const cleanup_policies[] = { "delete", "compact", "compact,delete", NULL };
static const char *const offset_resets[] = { "earliest", "latest", NULL };

static const char *const overflows[] = { "drop-head", "reject-publish", "reject-publish-dlx", NULL };
static const char *const alternates[] = { "none", "exchanges/", NULL };
static const char *const dead_letter_targets[] = { "dlq", "none", "queues/", "exchanges/", NULL };

/*
 * Names and defaults are Kafka's where it has the setting, and RabbitMQ's in queues. A limit of 0 is refused: it would
 * delete everything at once.
 */
const struct engine_setting engine_settings[] = {
	{ "partitions", ENGINE_TOPIC, ENGINE_INT, 1, ENGINE_PARTITIONS_MAX, NO_NONE, NULL, "1", "",
	    "Number of partitions; it can only grow." },
	{ "linger.ms", ENGINE_TOPIC, ENGINE_INT, 0, 60000, NO_NONE, NULL, "5", "ms",
	    "How long what was appended with >> may wait for more before it goes to the log; with 0 it does not wait; "
	    "and "
	    "how long one producer's messages without a key go to the same partition before the next one has its "
	    "turn." },
	{ "batch.size", ENGINE_TOPIC, ENGINE_INT, 1, 16777216, NO_NONE, NULL, "262144", "bytes",
	    "After this much nothing waits for more, and the turn of a partition ends, even if linger.ms has not "
	    "passed." },
	{ "flush.messages", ENGINE_TOPIC, ENGINE_INT, 1, INT32_MAX, -1, NULL, "10000", "messages",
	    "A partition is synced to disk after this many messages; -1 leaves it to flush.ms and fsync." },
	{ "flush.ms", ENGINE_TOPIC, ENGINE_INT, 1, INT32_MAX, -1, NULL, "1000", "ms",
	    "A partition is synced to disk when its oldest unsynced message has this age; -1 leaves it to "
	    "flush.messages and fsync." },
	{ "retention.ms", ENGINE_TOPIC, ENGINE_INT, 1, INT64_MAX, -1, NULL, "604800000", "ms",
	    "Messages older than this are deleted; -1 keeps them for good." },
	{ "retention.bytes", ENGINE_TOPIC, ENGINE_INT, 1, INT64_MAX, -1, NULL, "-1", "bytes",
	    "The oldest messages of a partition are deleted while this much remains without them; -1 sets no limit." },
	{ "segment.bytes", ENGINE_TOPIC, ENGINE_INT, 4096, INT32_MAX, NO_NONE, NULL, "268435456", "bytes",
	    "A partition's log is cut into files of about this size; retention deletes whole files." },
	{ "cleanup.policy", ENGINE_TOPIC, ENGINE_CHOICE, 0, 0, NO_NONE, cleanup_policies, "delete", "",
	    "What becomes of old messages: delete removes those beyond retention; compact keeps the last one of each "
	    "key, "
	    "whatever its age; compact,delete does both." },
	{ "delete.retention.ms", ENGINE_TOPIC, ENGINE_INT, 0, MS_MAX, NO_NONE, NULL, "86400000", "ms",
	    "How long compaction keeps the tombstone of a key that was removed." },
	{ "max.message.bytes", ENGINE_TOPIC, ENGINE_INT, 1, ENGINE_MESSAGE_MAX, NO_NONE, NULL, "16777216", "bytes",
	    "The largest payload that is accepted; a longer one is refused with EMSGSIZE." },
	{ "dedup.window.ms", ENGINE_TOPIC, ENGINE_INT, 0, INT32_MAX, NO_NONE, NULL, "0", "ms",
	    "A message whose id was seen not longer ago than this is accepted and dropped; 0 looks at no ids." },
	{ "auto.commit", ENGINE_GROUP, ENGINE_BOOL, 0, 0, NO_NONE, NULL, "false", "",
	    "Whether reading a message commits it, so that no ack is needed." },
	{ "auto.offset.reset", ENGINE_GROUP, ENGINE_CHOICE, 0, 0, NO_NONE, offset_resets, "earliest", "",
	    "Where a group that has been given nothing yet begins: at the earliest message, or at the latest, after "
	    "what is there." },
	{ "max.poll.records", ENGINE_GROUP, ENGINE_INT, 1, INT32_MAX, 0, NULL, "0", "messages",
	    "The most messages one opening of out gives; 0 sets no limit." },
	{ "session.timeout.ms", ENGINE_GROUP, ENGINE_INT, 1, INT32_MAX, NO_NONE, NULL, "300000", "ms",
	    "How long a member that holds no session and has no file open may be silent before its partitions go to "
	    "others." },
	{ "max.priority", ENGINE_QUEUE, ENGINE_INT, 0, ENGINE_PRIORITIES - 1, NO_NONE, NULL, "9", "",
	    "The highest priority; a message with a higher one is taken with this." },
	{ "linger.ms", ENGINE_QUEUE, ENGINE_INT, 0, 60000, NO_NONE, NULL, "0", "ms",
	    "How long what was appended with >> may wait for more before it comes to the queue; with 0, or where "
	    "overflow "
	    "and a limit may refuse it, it does not wait." },
	{ "batch.size", ENGINE_QUEUE, ENGINE_INT, 1, 16777216, NO_NONE, NULL, "262144", "bytes",
	    "After this much nothing waits for more, even if linger.ms has not passed." },
	{ "flush.messages", ENGINE_QUEUE, ENGINE_INT, 1, INT32_MAX, -1, NULL, "1000", "messages",
	    "The queue is synced to disk after this many messages; -1 leaves it to flush.ms and fsync." },
	{ "flush.ms", ENGINE_QUEUE, ENGINE_INT, 1, INT32_MAX, -1, NULL, "10", "ms",
	    "The queue is synced to disk when its oldest unsynced message has this age; -1 leaves it to "
	    "flush.messages and fsync." },
	{ "message.ttl.ms", ENGINE_QUEUE, ENGINE_INT, 1, MS_MAX, -1, NULL, "-1", "ms",
	    "A message that was not delivered for this long expires; of this and its own ttl_ms the lower holds." },
	{ "max.length", ENGINE_QUEUE, ENGINE_INT, 1, INT64_MAX, -1, NULL, "-1", "messages",
	    "The most messages that may be ready; overflow says what becomes of more." },
	{ "max.length.bytes", ENGINE_QUEUE, ENGINE_INT, 1, INT64_MAX, -1, NULL, "-1", "bytes",
	    "The most bytes the messages that are ready may have together; overflow says what becomes of more." },
	{ "overflow", ENGINE_QUEUE, ENGINE_CHOICE, 0, 0, NO_NONE, overflows, "drop-head", "",
	    "What happens when the queue is full: drop-head makes room by dead-lettering the oldest of the lowest "
	    "priority, reject-publish refuses with EDQUOT, reject-publish-dlx dead-letters what comes." },
	{ "max.message.bytes", ENGINE_QUEUE, ENGINE_INT, 1, ENGINE_MESSAGE_MAX, NO_NONE, NULL, "16777216", "bytes",
	    "The largest payload that is accepted; a longer one is refused with EMSGSIZE." },
	{ "ack.timeout.ms", ENGINE_QUEUE, ENGINE_INT, 1, MS_MAX, NO_NONE, NULL, "300000", "ms",
	    "How long a message is leased to its reader; without an ack it is ready again after this." },
	{ "consumer.timeout.ms", ENGINE_QUEUE, ENGINE_INT, 1, MS_MAX, NO_NONE, NULL, "1800000", "ms",
	    "How long a lease lasts at most while its holder keeps a session or a stream open." },
	{ "delivery.limit", ENGINE_QUEUE, ENGINE_INT, 0, INT32_MAX, -1, NULL, "20", "",
	    "A message that comes back after more deliveries than this is dead-lettered; -1 sets no limit." },
	{ "prefetch", ENGINE_QUEUE, ENGINE_INT, 1, INT32_MAX, 0, NULL, "256", "messages",
	    "The most messages one consumer may hold unacknowledged; 0 sets no limit." },
	{ "auto.ack", ENGINE_QUEUE, ENGINE_BOOL, 0, 0, NO_NONE, NULL, "false", "",
	    "Whether a message is acknowledged as it is delivered." },
	{ "dead.letter.to", ENGINE_QUEUE, ENGINE_TEXT, 0, 0, NO_NONE, dead_letter_targets, "dlq", "",
	    "Where dead letters go: to the queue's own dlq, to another queue, through an exchange, or nowhere." },
	{ "dead.letter.routing.key", ENGINE_QUEUE, ENGINE_KEY, 0, 0, NO_NONE, NULL, "none", "",
	    "The routing key of dead letters that go through an exchange; none keeps their own." },
	{ "single.active.consumer", ENGINE_QUEUE, ENGINE_BOOL, 0, 0, NO_NONE, NULL, "false", "",
	    "Whether only one consumer at a time is given messages: who holds any; else of those there are, who came "
	    "first." },
	{ "redelivery.delay.ms", ENGINE_QUEUE, ENGINE_INT, 0, MS_MAX, NO_NONE, NULL, "0", "ms",
	    "How long a message that comes back waits before it is ready again." },
	{ "expires.ms", ENGINE_QUEUE, ENGINE_INT, 1, MS_MAX, -1, NULL, "-1", "ms",
	    "A queue that nobody has open and nobody changes for this long is removed, with what it holds." },
	{ "dedup.window.ms", ENGINE_QUEUE, ENGINE_INT, 0, INT32_MAX, NO_NONE, NULL, "0", "ms",
	    "A message whose id was seen not longer ago than this is accepted and dropped; 0 looks at no ids." },
	{ "prefetch", ENGINE_CONSUMER, ENGINE_INT, 1, INT32_MAX, 0, NULL, "", "messages",
	    "The most messages this consumer may hold unacknowledged; 0 sets no limit; empty, what the queue says." },
	{ "auto.ack", ENGINE_CONSUMER, ENGINE_BOOL, 0, 0, NO_NONE, NULL, "", "",
	    "Whether a message is acknowledged as it is delivered; empty, what the queue says." },
	{ "alternate.exchange", ENGINE_EXCHANGE, ENGINE_TEXT, 0, 0, NO_NONE, alternates, "none", "",
	    "Where a message goes that no binding matches." },
	{ "mandatory", ENGINE_EXCHANGE, ENGINE_BOOL, 0, 0, NO_NONE, NULL, "true", "",
	    "Whether a message that comes to no target is refused with EHOSTUNREACH; if not, it is dropped and "
	    "counted." },
	{ "tx.timeout.ms", ENGINE_TX, ENGINE_INT, 1, 86400000, NO_NONE, NULL, "60000", "ms",
	    "How long after its creation a transaction that is still open is rolled back." },
	{ 0 },
};

const struct engine_setting *engine_setting_find(enum engine_kind kind, const char *name)
{
	for (const struct engine_setting *s = engine_settings; s->name != NULL; s++) {
		if (s->kind == kind && strcmp(s->name, name) == 0)
			return s;
	}
	return NULL;
}

/* Text without the blanks around it; points into the text. */
static struct engine_span trim(const char *text)
{
	static const char blanks[] = " \t\r\n";
	size_t len;

	text += strspn(text, blanks);
	len = strlen(text);
	while (len > 0 && strchr(blanks, text[len - 1]) != NULL)
		len--;
	return (struct engine_span){ text, len };
}

/* A refused value in quotes, short, and in plain ASCII: a byte order mark or an escape sequence is to be seen. */
struct quoted {
	char text[QUOTE_BYTES * 4 + sizeof("\"\"...")];
};

static struct quoted quote(struct engine_span value)
{
	struct quoted q;
	size_t used = 0, shown = value.len < QUOTE_BYTES ? value.len : QUOTE_BYTES;

	q.text[used++] = '"';
	for (size_t i = 0; i < shown; i++) {
		unsigned char c = (unsigned char)value.ptr[i];

		if (c >= 0x20 && c < 0x7f)
			q.text[used++] = (char)c;
		else
			used += (size_t)snprintf(q.text + used, 5, "\\x%02x", c);
	}
	snprintf(q.text + used, sizeof(q.text) - used, "\"%s", shown < value.len ? "..." : "");
	return q;
}

static bool takes_name(const char *choice)
{
	return choice[strlen(choice) - 1] == '/';
}

/* The words a choice takes, as "a, b or c". */
static void list_choices(const char *const *choices, char *buf, size_t size)
{
	size_t used = 0;

	buf[0] = '\0';
	for (size_t i = 0; choices[i] != NULL; i++) {
		const char *link = i == 0 ? "" : choices[i + 1] == NULL ? " or " : ", ";

		used += (size_t)snprintf(
		    buf + used, size - used, "%s%s%s", link, choices[i], takes_name(choices[i]) ? "NAME" : "");
		assert(used < size); /* those of every row of the table fit */
	}
}

/* Decimal digits with an optional minus. EINVAL: something else; ERANGE: more than 64 bits hold. */
static int parse_int64(struct engine_span value, int64_t *ret_number)
{
	bool negative = value.len > 0 && value.ptr[0] == '-';
	size_t i = negative ? 1 : 0;
	bool over = false;
	int64_t number = 0;

	if (i == value.len)
		return -EINVAL;
	for (; i < value.len; i++) {
		int digit = value.ptr[i] - '0';

		if (digit < 0 || digit > 9)
			return -EINVAL;
		over = over || __builtin_mul_overflow(number, 10, &number) ||
		       __builtin_add_overflow(number, negative ? -digit : digit, &number);
	}
	if (over)
		return -ERANGE;
	*ret_number = number;
	return 0;
}

static int parse_int(const struct engine_setting *setting, struct engine_span value, char ret_value[ENGINE_VALUE_MAX])
{
	int64_t number = 0;
	int rc = parse_int64(value, &number);
	char none[32] = "";

	if (rc == 0 && !(setting->none != NO_NONE && number == setting->none) &&
	    (number < setting->min || number > setting->max))
		rc = -ERANGE;
	if (rc == 0) {
		snprintf(ret_value, ENGINE_VALUE_MAX, "%" PRId64, number);
		return 0;
	}
	if (setting->none != NO_NONE)
		snprintf(none, sizeof(none), ", or %" PRId64 " for no limit", setting->none);
	return engine_explain(rc, "%s takes a whole number from %" PRId64 " to %" PRId64 "%s, not %s", setting->name,
	    setting->min, setting->max, none, quote(value).text);
}

static bool equals_word(struct engine_span value, const char *word)
{
	return value.len == strlen(word) && strncasecmp(value.ptr, word, value.len) == 0;
}

static int parse_bool(const struct engine_setting *setting, struct engine_span value, char ret_value[ENGINE_VALUE_MAX])
{
	static const struct {
		const char *word;
		bool means;
	} words[] = {
		{ "true", true },
		{ "yes", true },
		{ "on", true },
		{ "1", true },
		{ "false", false },
		{ "no", false },
		{ "off", false },
		{ "0", false },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (equals_word(value, words[i].word)) {
			snprintf(ret_value, ENGINE_VALUE_MAX, "%s", words[i].means ? "true" : "false");
			return 0;
		}
	}
	return engine_explain(-EINVAL, "%s takes true or false, not %s", setting->name, quote(value).text);
}

static int refuse_choice(const struct engine_setting *setting, struct engine_span value)
{
	char words[96];

	list_choices(setting->choices, words, sizeof(words));
	return engine_explain(-EINVAL, "%s takes %s, not %s", setting->name, words, quote(value).text);
}

static int parse_choice(
    const struct engine_setting *setting, struct engine_span value, char ret_value[ENGINE_VALUE_MAX])
{
	for (size_t i = 0; setting->choices[i] != NULL; i++) {
		if (equals_word(value, setting->choices[i])) {
			snprintf(ret_value, ENGINE_VALUE_MAX, "%s", setting->choices[i]);
			return 0;
		}
	}
	return refuse_choice(setting, value);
}

/* May value be the name of an object? What names users may give is up to the tree; a value must stay one line. */
static bool is_name(struct engine_span value)
{
	if (value.len == 0 || value.len > ENGINE_NAME_MAX)
		return false;
	for (size_t i = 0; i < value.len; i++) {
		if ((unsigned char)value.ptr[i] < 0x20 || value.ptr[i] == '/')
			return false;
	}
	return true;
}

/* Is there just one choice that takes a name? */
static bool names_only(const struct engine_setting *setting, const char **ret_choice)
{
	size_t count = 0;

	for (size_t i = 0; setting->choices[i] != NULL; i++) {
		if (!takes_name(setting->choices[i]))
			continue;
		*ret_choice = setting->choices[i];
		count++;
	}
	return count == 1;
}

/* One of the words, or one that ends in a slash and a name. */
static int parse_text(const struct engine_setting *setting, struct engine_span value, char ret_value[ENGINE_VALUE_MAX])
{
	const char *only = NULL;

	for (size_t i = 0; setting->choices[i] != NULL; i++) {
		const char *choice = setting->choices[i];
		size_t len = strlen(choice);
		struct engine_span name = { value.ptr + len, value.len - len };

		if (!takes_name(choice) || value.len < len || memcmp(value.ptr, choice, len) != 0 || !is_name(name))
			continue;
		snprintf(ret_value, ENGINE_VALUE_MAX, "%s%.*s", choice, (int)name.len, name.ptr);
		return 0;
	}
	for (size_t i = 0; setting->choices[i] != NULL; i++) {
		if (equals_word(value, setting->choices[i]) && !takes_name(setting->choices[i]))
			return parse_choice(setting, value, ret_value);
	}
	if (names_only(setting, &only) && is_name(value)) { /* then the name alone says it all */
		snprintf(ret_value, ENGINE_VALUE_MAX, "%s%.*s", only, (int)value.len, value.ptr);
		return 0;
	}
	return refuse_choice(setting, value);
}

static int parse_key(const struct engine_setting *setting, struct engine_span value, char ret_value[ENGINE_VALUE_MAX])
{
	bool plain = value.len > 0;

	for (size_t i = 0; i < value.len && plain; i++)
		plain = (unsigned char)value.ptr[i] >= 0x20 && value.ptr[i] != 0x7f;
	if (!plain || value.len > ENGINE_KEY_MAX)
		return engine_explain(-EINVAL, "%s takes a routing key of 1 to %u bytes, or none, not %s",
		    setting->name, ENGINE_KEY_MAX, quote(value).text);
	snprintf(ret_value, ENGINE_VALUE_MAX, "%.*s", (int)value.len, value.ptr);
	return 0;
}

int engine_setting_parse(const struct engine_setting *setting, const char *text, char ret_value[ENGINE_VALUE_MAX])
{
	static int (*const parse[])(
	    const struct engine_setting *setting, struct engine_span value, char ret_value[ENGINE_VALUE_MAX]) = {
		[ENGINE_INT] = parse_int,
		[ENGINE_BOOL] = parse_bool,
		[ENGINE_CHOICE] = parse_choice,
		[ENGINE_TEXT] = parse_text,
		[ENGINE_KEY] = parse_key,
	};
	struct engine_span value = trim(text);

	if (value.len == 0 && engine_setting_inherits(setting)) {
		ret_value[0] = '\0';
		return 0;
	}
	return parse[setting->type](setting, value, ret_value);
}
