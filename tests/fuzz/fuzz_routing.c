/*
 * Patterns of bindings, routing keys and headers: a pattern is taken or refused, with a sentence; one that is taken matches what a
 * matcher finds that tries, and when it is removed, nothing.
 */
#include <errno.h>
#include <string.h>

#include "engine/routing.h"
#include "tests/fuzz/fuzz.h"

#define PATTERNS 4u
#define HEADERS 4u

/* Does the rest of a topic pattern match no word at all? */
static bool matches_nothing(const char *pattern)
{
	while (pattern != NULL && pattern[0] == '#' && (pattern[1] == '.' || pattern[1] == '\0'))
		pattern = pattern[1] == '.' ? pattern + 2 : NULL;
	return pattern == NULL;
}

static bool tries(const char *pattern, const char *key)
{
	size_t plen = strcspn(pattern, "."), klen = strcspn(key, ".");
	const char *pnext = pattern[plen] != '\0' ? pattern + plen + 1 : NULL;
	const char *knext = key[klen] != '\0' ? key + klen + 1 : NULL;

	if (plen == 1 && pattern[0] == '#') {
		for (const char *rest = key; pnext != NULL && rest != NULL;
		     rest = rest[strcspn(rest, ".")] != '\0' ? rest + strcspn(rest, ".") + 1 : NULL) {
			if (tries(pnext, rest))
				return true;
		}
		return matches_nothing(pnext);
	}
	if (!(plen == 1 && pattern[0] == '*') && (plen != klen || memcmp(pattern, key, plen) != 0))
		return false;
	if (pnext == NULL || knext == NULL)
		return knext == NULL && matches_nothing(pnext);
	return tries(pnext, knext);
}

/* An empty key has no words. */
static bool topic_matches(const char *pattern, const char *key)
{
	return key[0] == '\0' ? matches_nothing(pattern) : tries(pattern, key);
}

/* Text of the input without NUL, as both come from names of files. */
static void take_text(struct fuzz_input *input, size_t max, char out[ENGINE_PATTERN_MAX + 2])
{
	size_t len;
	const uint8_t *bytes = fuzz_bytes(input, max, &len);

	memcpy(out, bytes, len);
	out[len] = '\0';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum engine_exchange_type types[] = { ENGINE_TOPIC_EXCHANGE, ENGINE_DIRECT, ENGINE_FANOUT,
		ENGINE_HEADERS };
	static char patterns[PATTERNS][ENGINE_PATTERN_MAX + 2], texts[2 * HEADERS][ENGINE_PATTERN_MAX + 2],
	    key[ENGINE_PATTERN_MAX + 2];
	struct fuzz_input input = { data, size };
	enum engine_exchange_type type = types[fuzz_byte(&input) % 4];
	struct engine_header headers[HEADERS];
	struct routing_match match = { 0 };
	struct routing *routing = routing_new(type);
	bool taken[PATTERNS], any = false;

	if (routing == NULL)
		return 0;
	take_text(&input, 40, key);
	for (size_t i = 0; i < PATTERNS; i++) {
		int rc;

		take_text(&input, i == 0 ? ENGINE_PATTERN_MAX + 1 : 40, patterns[i]);
		engine_reason_clear();
		rc = routing_check(type, patterns[i]);
		taken[i] = rc == 0;
		FUZZ_ASSERT(taken[i] || rc == -ENAMETOOLONG || (rc == -EINVAL && engine_reason()[0] != '\0'));
		if (taken[i])
			FUZZ_ASSERT(routing_add(routing, patterns[i], i) == 0);
	}
	for (size_t i = 0; i < HEADERS; i++) {
		take_text(&input, 20, texts[2 * i]);
		take_text(&input, 20, texts[2 * i + 1]);
		headers[i].name = (struct engine_span){ texts[2 * i], strlen(texts[2 * i]) };
		headers[i].value = (struct engine_span){ texts[2 * i + 1], strlen(texts[2 * i + 1]) };
	}
	FUZZ_ASSERT(
	    routing_find(routing, (struct engine_span){ key, strlen(key) }, headers, HEADERS, &match, &any) == 0);
	FUZZ_ASSERT(any == (match.count > 0));
	for (size_t i = 0; i < PATTERNS; i++) {
		bool found = false;

		for (size_t k = 0; k < match.count; k++)
			found = found || match.targets[k] == i;
		FUZZ_ASSERT(!found || taken[i]);
		if (taken[i] && type == ENGINE_TOPIC_EXCHANGE)
			FUZZ_ASSERT(found == topic_matches(patterns[i], key));
		if (taken[i] && type == ENGINE_DIRECT)
			FUZZ_ASSERT(found == (strcmp(patterns[i], key) == 0));
		if (taken[i])
			routing_remove(routing, patterns[i], i);
	}
	match.count = 0;
	FUZZ_ASSERT(
	    routing_find(routing, (struct engine_span){ key, strlen(key) }, headers, HEADERS, &match, &any) == 0);
	FUZZ_ASSERT(!any && match.count == 0);
	routing_match_release(&match);
	routing_free(routing);
	return 0;
}
