/* Which bindings match: RabbitMQ's documented examples, and a check against a matcher that tries every pattern. */
#include "engine/routing.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct engine_span span(const char *text)
{
	return (struct engine_span){ text, strlen(text) };
}

static bool matches(struct routing *routing, const char *key, uint64_t target)
{
	struct routing_match match = { 0 };
	bool any = false, found = false;

	cr_assert_eq(routing_find(routing, span(key), NULL, 0, &match, &any), 0);
	for (size_t i = 0; i < match.count; i++) {
		cr_expect(!found || match.targets[i] != target, "twice");
		found = found || match.targets[i] == target;
	}
	cr_expect_eq(any, match.count > 0);
	routing_match_release(&match);
	return found;
}

/* The examples are those of RabbitMQ's tutorial five and of its exchanges guide; then the corners. */
static const struct {
	const char *pattern, *key;
	bool match;
} topic_rows[] = {
	{ "*.orange.*", "quick.orange.rabbit", true }, { "*.*.rabbit", "quick.orange.rabbit", true },
	{ "lazy.#", "quick.orange.rabbit", false }, { "*.orange.*", "lazy.orange.elephant", true },
	{ "lazy.#", "lazy.orange.elephant", true }, { "*.orange.*", "quick.orange.fox", true },
	{ "*.*.rabbit", "quick.orange.fox", false }, { "lazy.#", "lazy.brown.fox", true },
	{ "*.*.rabbit", "lazy.pink.rabbit", true }, { "lazy.#", "lazy.pink.rabbit", true },
	{ "*.orange.*", "quick.brown.fox", false }, { "*.*.rabbit", "quick.brown.fox", false },
	{ "lazy.#", "quick.brown.fox", false }, { "*.orange.*", "orange", false },
	{ "*.orange.*", "quick.orange.new.rabbit", false }, { "lazy.#", "lazy.orange.new.rabbit", true },
	{ "*.stock.#", "usd.stock", true }, { "*.stock.#", "eur.stock.db", true },
	{ "*.stock.#", "stock.nasdaq", false }, { "kern.*", "kern.critical", true },
	{ "*.critical", "kern.critical", true }, { "regions.na.cities.*", "regions.na.cities.toronto", true },
	{ "audit.events.#", "audit.events.users.signup", true }, { "audit.events.#", "audit.events", true },
	{ "#", "", true }, { "#", "a", true }, { "#", "a.b.c", true }, { "*", "", false }, { "*", "a", true },
	{ "*", "a.b", false }, { "#.a", "a", true }, { "#.a", "b.a", true }, { "#.a", "a.a.a", true },
	{ "#.a", "a.b", false }, { "#.#", "", true }, { "#.#", "a.b", true }, { "#.*", "a", true },
	{ "#.*", "", false }, { "*.#", "a", true }, { "a.#.b", "a.b", true }, { "a.#.b", "a.x.y.b", true },
	{ "a.#.b", "a.b.c", false }, { "#.a.#.b.#", "x.a.y.b.z", true }, { "#.a.#.b.#", "x.b.y.a.z", false },
	{ "*.#.*", "a", false }, { "*.#.*", "a.b", true },
	{ "a*", "ab", false },                                                /* a star is one only as a whole word */
	{ "a*", "a*", true }, { "a", "A", false }, { "a.*.b", "a..b", true }, /* a key may have an empty word */
};

/* A topic pattern matches as RabbitMQ documents it. */
Test(routing, topic_examples)
{
	for (size_t i = 0; i < sizeof(topic_rows) / sizeof(topic_rows[0]); i++) {
		struct routing *routing = routing_new(ENGINE_TOPIC_EXCHANGE);

		cr_assert_eq(routing_check(ENGINE_TOPIC_EXCHANGE, topic_rows[i].pattern), 0);
		cr_assert_eq(routing_add(routing, topic_rows[i].pattern, 7), 0);
		cr_expect_eq(matches(routing, topic_rows[i].key, 7), topic_rows[i].match, "%s %s",
		    topic_rows[i].pattern, topic_rows[i].key);
		routing_remove(routing, topic_rows[i].pattern, 7);
		cr_expect_not(matches(routing, topic_rows[i].key, 7));
		routing_free(routing);
	}
}

/* A direct pattern is the key, dots and stars included; a fanout matches whatever the pattern is. */
Test(routing, direct_and_fanout)
{
	struct routing *direct = routing_new(ENGINE_DIRECT), *fanout = routing_new(ENGINE_FANOUT);

	cr_assert_eq(routing_add(direct, "a.*", 1), 0);
	cr_assert_eq(routing_add(direct, "#", 2), 0);
	cr_expect(matches(direct, "a.*", 1));
	cr_expect_not(matches(direct, "a.b", 1));
	cr_expect_not(matches(direct, "a.*", 2));
	cr_expect(matches(direct, "#", 2));
	cr_assert_eq(routing_add(fanout, "whatever", 3), 0);
	cr_expect(matches(fanout, "a.b", 3));
	cr_expect(matches(fanout, "", 3));
	routing_free(direct);
	routing_free(fanout);
}

/* A target that is bound twice is found once, and until both bindings are gone. */
Test(routing, counts_bindings)
{
	struct routing *routing = routing_new(ENGINE_TOPIC_EXCHANGE);

	cr_assert_eq(routing_add(routing, "a.#", 1), 0);
	cr_assert_eq(routing_add(routing, "a.#", 1), 0);
	cr_assert_eq(routing_add(routing, "#.b", 1), 0);
	cr_expect(matches(routing, "a.b", 1));
	routing_remove(routing, "a.#", 1);
	cr_expect(matches(routing, "a", 1));
	routing_remove(routing, "a.#", 1);
	cr_expect_not(matches(routing, "a", 1));
	cr_expect(matches(routing, "a.b", 1));
	routing_free(routing);
}

/* The same for headers; what is not bound is not taken away. */
Test(routing, counts_bindings_of_headers)
{
	static const struct engine_header header = { { "a", 1 }, { "b", 1 } };
	static const struct {
		const char *take;
		uint64_t of;
		bool any;
	} rows[] = { { "a=c", 1, true }, { "a=b", 2, true }, { "a=b", 1, true }, { "a=b", 1, false },
		{ "a=b", 1, false } };
	struct routing *routing = routing_new(ENGINE_HEADERS);

	cr_assert_eq(routing_add(routing, "a=b", 1), 0);
	cr_assert_eq(routing_add(routing, "x", 1), 0);
	cr_assert_eq(routing_add(routing, "a=d", 2), 0);
	cr_assert_eq(routing_add(routing, "a=b", 1), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct routing_match match = { 0 };
		bool any = false;

		routing_remove(routing, rows[i].take, rows[i].of);
		cr_assert_eq(routing_find(routing, span("k"), &header, 1, &match, &any), 0);
		cr_expect_eq(any, rows[i].any, "row %zu", i);
		routing_match_release(&match);
	}
	routing_free(routing);
}

static const struct {
	const char *pattern, *headers; /* headers as in a pattern */
	bool match;
} headers_rows[] = {
	{ "format=pdf,type=report", "format=pdf,type=report", true },
	{ "format=pdf,type=report", "format=pdf,type=log", false },
	{ "format=pdf,type=report", "format=pdf", false },
	{ "x-match=all,format=pdf", "format=pdf,other=1", true },
	{ "x-match=any,format=pdf,type=report", "type=report", true },
	{ "x-match=any,format=pdf,type=report", "type=log", false },
	{ "x-match=any,format=pdf,type=report", "", false },
	{ "format", "format=anything", true },
	{ "format", "type=pdf", false },
	{ "format=", "format=", true },
	{ "format=", "format=x", false },
	{ "a=1,b=2", "a=1,b=2", true },
	{ "x-a=1,b=2", "b=2", true }, /* x- headers do not count */
	{ "x-match=all-with-x,x-a=1,b=2", "b=2", false },
	{ "x-match=all-with-x,x-a=1,b=2", "b=2,x-a=1", true },
	{ "x-match=any-with-x,x-a=1", "x-a=1", true },
	{ "x-match=any,x-a=1", "x-a=1", false },
	{ "x-match=all", "a=b", true },
	{ "x-match=any", "a=b", false },
};

/* Headers match as RabbitMQ documents it. */
Test(routing, headers_examples)
{
	for (size_t i = 0; i < sizeof(headers_rows) / sizeof(headers_rows[0]); i++) {
		struct routing *routing = routing_new(ENGINE_HEADERS);
		struct routing_match match = { 0 };
		struct engine_header headers[8];
		uint32_t count = 0;
		bool any = false;

		for (const char *at = headers_rows[i].headers; *at != '\0';) {
			size_t len = strcspn(at, ","), name = strcspn(at, "=");

			headers[count].name = (struct engine_span){ at, name };
			headers[count++].value = (struct engine_span){ at + name + 1, len - name - 1 };
			at += len + (at[len] == ',');
		}
		cr_assert_eq(routing_check(ENGINE_HEADERS, headers_rows[i].pattern), 0);
		cr_assert_eq(routing_add(routing, headers_rows[i].pattern, 1), 0);
		cr_assert_eq(routing_find(routing, span("k"), headers, count, &match, &any), 0);
		cr_expect_eq(any, headers_rows[i].match, "%s %s", headers_rows[i].pattern, headers_rows[i].headers);
		cr_expect_eq(match.count, any ? 1u : 0u);
		routing_remove(routing, headers_rows[i].pattern, 1);
		routing_match_release(&match);
		routing_free(routing);
	}
}

/* What is no pattern is refused, with a sentence. */
Test(routing, bad_patterns)
{
	static const struct {
		enum engine_exchange_type type;
		const char *pattern;
	} rows[] = { { ENGINE_DIRECT, "" }, { ENGINE_FANOUT, "" }, { ENGINE_TOPIC_EXCHANGE, "" },
		{ ENGINE_TOPIC_EXCHANGE, "a..b" }, { ENGINE_TOPIC_EXCHANGE, ".a" }, { ENGINE_TOPIC_EXCHANGE, "a." },
		{ ENGINE_HEADERS, "" }, { ENGINE_HEADERS, "=b" }, { ENGINE_HEADERS, "a=b,,c=d" },
		{ ENGINE_HEADERS, "a=b," }, { ENGINE_HEADERS, "x-match=some,a=b" }, { ENGINE_HEADERS, "x-match,a=b" },
		{ ENGINE_HEADERS, "a=b,a=c" } };
	char long_one[ENGINE_PATTERN_MAX + 2];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		engine_reason_clear();
		cr_expect_eq(routing_check(rows[i].type, rows[i].pattern), -EINVAL, "%s", rows[i].pattern);
		cr_expect_str_not_empty(engine_reason());
	}
	memset(long_one, 'a', sizeof(long_one));
	long_one[sizeof(long_one) - 1] = '\0';
	cr_expect_eq(routing_check(ENGINE_DIRECT, long_one), -ENAMETOOLONG);
}

/* A matcher that is plainly right: by trying. */
static bool tries(const char *pattern, const char *key)
{
	size_t plen = strcspn(pattern, "."), klen = strcspn(key, ".");
	const char *pnext = pattern[plen] != '\0' ? pattern + plen + 1 : NULL;
	const char *knext = key[klen] != '\0' ? key + klen + 1 : NULL;

	if (plen == 1 && pattern[0] == '#') {
		for (const char *rest = key; rest != NULL;
		     rest = rest[strcspn(rest, ".")] != '\0' ? rest + strcspn(rest, ".") + 1 : NULL) {
			if (pnext != NULL && tries(pnext, rest))
				return true;
		}
		if (pnext == NULL)
			return true;
		while (pnext != NULL && strncmp(pnext, "#", strcspn(pnext, ".")) == 0)
			pnext = pnext[1] == '.' ? pnext + 2 : NULL;
		return pnext == NULL; /* the key has ended */
	}
	if (!(plen == 1 && pattern[0] == '*') && (plen != klen || memcmp(pattern, key, plen) != 0))
		return false;
	if (pnext != NULL && knext == NULL) {
		while (pnext != NULL && strncmp(pnext, "#", strcspn(pnext, ".")) == 0)
			pnext = pnext[1] == '.' ? pnext + 2 : NULL;
		return pnext == NULL;
	}
	return pnext == NULL ? knext == NULL : tries(pnext, knext);
}

static void random_words(char *text, const char *const *words, int count)
{
	int n = 1 + rand() % 5;

	*text = '\0';
	for (int i = 0; i < n; i++) {
		strcat(text, i > 0 ? "." : "");
		strcat(text, words[rand() % count]);
	}
}

/* Among random patterns that come and go, a key finds those that a matcher finds which tries them all. */
Test(routing, random)
{
	static const char *const pattern_words[] = { "a", "b", "*", "#", "c" }, *const key_words[] = { "a", "b", "c" };
	static char patterns[300][16];
	struct routing *routing = routing_new(ENGINE_TOPIC_EXCHANGE);
	unsigned seed = (unsigned)time(NULL);
	char key[16];

	printf("seed %u\n", seed);
	srand(seed);
	for (int round = 0; round < 20000; round++) {
		int i = rand() % 300;

		if (patterns[i][0] != '\0') {
			routing_remove(routing, patterns[i], (uint64_t)i);
			patterns[i][0] = '\0';
		} else {
			random_words(patterns[i], pattern_words, 5);
			cr_assert_eq(routing_add(routing, patterns[i], (uint64_t)i), 0);
		}
		random_words(key, key_words, 3);
		i = rand() % 300;
		if (patterns[i][0] != '\0')
			cr_assert_eq(matches(routing, key, (uint64_t)i), tries(patterns[i], key),
			    "seed %u round %d: %s %s", seed, round, patterns[i], key);
	}
	routing_free(routing);
}
