/*
 * engine - what all engines share: finding the one that a source names, and the sentence behind an errno.
 *
 * A source is either a path, which is the local engine's, or SCHEME:REST. Schemes are one table here; an engine over a
 * broker adds its row. A source of the form SCHEME:// that is in no row is refused rather than taken for a path, so that a
 * typing error in kafka:// never makes a directory of that name.
 *
 * The sentence lives in a thread-local buffer: an errno travels as a return value, and its sentence is asked for by the
 * same thread before its next call, so nothing has to be allocated, passed or freed. Whatever is put into it comes out on
 * one line of status/errors: control characters are escaped here, once, for every engine.
 */
#include "engine/engine.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/local.h"
#include "engine/memory.h"

#define REASON_SIZE 256u /* a sentence, not a page: it becomes one line of status/errors */

static _Thread_local char reason[REASON_SIZE];

/* Copies text, with what would break a line or a terminal written as \n or \x1b; cut off at whole escapes. */
static void escape_line(char *to, size_t size, const char *text)
{
	size_t used = 0;

	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)*text;
		char one[8];
		int len;

		if (c == '\n')
			len = snprintf(one, sizeof(one), "\\n");
		else if (c < 0x20 || c == 0x7f)
			len = snprintf(one, sizeof(one), "\\x%02x", c);
		else
			len = snprintf(one, sizeof(one), "%c", c);
		if (used + (size_t)len >= size)
			break;
		memcpy(to + used, one, (size_t)len);
		used += (size_t)len;
	}
	to[used] = '\0';
}

const char *engine_reason(void)
{
	return reason;
}

void engine_reason_clear(void)
{
	reason[0] = '\0';
}

int engine_explain(int err, const char *format, ...)
{
	char text[REASON_SIZE];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	escape_line(reason, sizeof(reason), text);
	return err;
}

const char *engine_kind_word(enum engine_kind kind)
{
	static const char *const words[ENGINE_KIND_COUNT] = { "store", "topic", "group", "queue", "consumer", "member",
		"exchange", "transaction" };

	return words[kind];
}

void engine_scratch_release(struct engine_scratch *scratch)
{
	free(scratch->mem);
	*scratch = (struct engine_scratch){ 0 };
}

/* An engine and the prefix of the sources that are its own; what follows the prefix is passed on. */
static const struct {
	const char *prefix;
	int (*open)(const char *rest, const struct engine_options *options, struct engine **ret_engine);
} engines[] = {
	{ "local:", engine_local_open },
	{ "memory:", engine_memory_open },
};

/* Length of SCHEME in SCHEME://..., 0 if source is not of this form (RFC 3986, 3.1). */
static size_t scheme_length(const char *source)
{
	size_t len = 0;

	if (!isalpha((unsigned char)source[0]))
		return 0;
	while (isalnum((unsigned char)source[len]) || (source[len] != '\0' && strchr("+-.", source[len]) != NULL))
		len++;
	return strncmp(source + len, "://", 3) == 0 ? len : 0;
}

int engine_open(const char *source, const struct engine_options *options, struct engine **ret_engine)
{
	size_t scheme = scheme_length(source);

	engine_reason_clear();
	for (size_t i = 0; i < sizeof(engines) / sizeof(engines[0]); i++) {
		size_t len = strlen(engines[i].prefix);

		/* local:// and memory:// are no URLs of ours: what follows the prefix would be a path like //host */
		if (scheme == 0 && strncmp(source, engines[i].prefix, len) == 0)
			return engines[i].open(source + len, options, ret_engine);
	}
	if (scheme > 0)
		return engine_explain(-EPROTONOSUPPORT,
		    "no engine for %.*s://: a source is a directory, local:DIRECTORY or memory:",
		    (int)(scheme > 32 ? 32 : scheme), source);
	return engine_local_open(source, options, ret_engine);
}

bool engine_may_hold(enum engine_kind parent, enum engine_kind kind)
{
	switch (kind) {
	case ENGINE_TOPIC: return parent == ENGINE_STORE;
	case ENGINE_GROUP: return parent == ENGINE_TOPIC;
	case ENGINE_QUEUE: return parent == ENGINE_STORE || parent == ENGINE_QUEUE || parent == ENGINE_GROUP;
	case ENGINE_CONSUMER: return parent == ENGINE_QUEUE;
	case ENGINE_MEMBER: return parent == ENGINE_GROUP;
	case ENGINE_EXCHANGE: return parent == ENGINE_STORE;
	case ENGINE_TX: return parent == ENGINE_STORE;
	case ENGINE_STORE:
	case ENGINE_KIND_COUNT: break;
	}
	return false;
}
