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

static const char *const cleanup_policies[] = { "delete", NULL };
static const char *const offset_resets[] = { "earliest", "latest", NULL };

/* Names and defaults are Kafka's where it has the setting. A limit of 0 is refused: it would delete everything at once. */
const struct engine_setting engine_settings[] = {
	{ "partitions", ENGINE_TOPIC, ENGINE_INT, 1, ENGINE_PARTITIONS_MAX, NO_NONE, NULL, "1", "",
	    "Number of partitions; it can only grow." },
	{ "linger.ms", ENGINE_TOPIC, ENGINE_INT, 0, 60000, NO_NONE, NULL, "5", "ms",
	    "How long one producer's messages without a key go to the same partition before the next one has its turn; "
	    "with 0 every write is a turn." },
	{ "batch.size", ENGINE_TOPIC, ENGINE_INT, 1, 16777216, NO_NONE, NULL, "262144", "bytes",
	    "After this much the turn of a partition ends, even if linger.ms has not passed." },
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
	    "What becomes of old messages: delete removes those beyond retention." },
	{ "max.message.bytes", ENGINE_TOPIC, ENGINE_INT, 1, ENGINE_MESSAGE_MAX, NO_NONE, NULL, "16777216", "bytes",
	    "The largest payload that is accepted; a longer one is refused with EMSGSIZE." },
	{ "auto.commit", ENGINE_GROUP, ENGINE_BOOL, 0, 0, NO_NONE, NULL, "false", "",
	    "Whether reading a message commits it, so that no ack is needed." },
	{ "auto.offset.reset", ENGINE_GROUP, ENGINE_CHOICE, 0, 0, NO_NONE, offset_resets, "earliest", "",
	    "Where a group that has been given nothing yet begins: at the earliest message, or at the latest, after "
	    "what is there." },
	{ "max.poll.records", ENGINE_GROUP, ENGINE_INT, 1, INT32_MAX, 0, NULL, "0", "messages",
	    "The most messages one opening of out gives; 0 sets no limit." },
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

/* The words a choice takes, as "a, b or c". */
static void list_choices(const char *const *choices, char *buf, size_t size)
{
	size_t used = 0;

	buf[0] = '\0';
	for (size_t i = 0; choices[i] != NULL && used < size; i++) {
		const char *link = i == 0 ? "" : choices[i + 1] == NULL ? " or " : ", ";

		used += (size_t)snprintf(buf + used, size - used, "%s%s", link, choices[i]);
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

static int parse_choice(
    const struct engine_setting *setting, struct engine_span value, char ret_value[ENGINE_VALUE_MAX])
{
	char words[96];

	for (size_t i = 0; setting->choices[i] != NULL; i++) {
		if (equals_word(value, setting->choices[i])) {
			snprintf(ret_value, ENGINE_VALUE_MAX, "%s", setting->choices[i]);
			return 0;
		}
	}
	list_choices(setting->choices, words, sizeof(words));
	return engine_explain(-EINVAL, "%s takes %s, not %s", setting->name, words, quote(value).text);
}

int engine_setting_parse(const struct engine_setting *setting, const char *text, char ret_value[ENGINE_VALUE_MAX])
{
	struct engine_span value = trim(text);

	switch (setting->type) {
	case ENGINE_INT: return parse_int(setting, value, ret_value);
	case ENGINE_BOOL: return parse_bool(setting, value, ret_value);
	case ENGINE_CHOICE: return parse_choice(setting, value, ret_value);
	}
	assert(!"a setting of no type");
	return -EINVAL;
}
