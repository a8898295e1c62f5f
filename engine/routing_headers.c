/* routing_headers - see routing_headers.h. */
#include "engine/routing_headers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct pair {
	struct engine_span name, value; /* value.ptr NULL: it has to be there, whatever it is */
};

static bool next_pair(const char **at, struct pair *ret_pair)
{
	size_t len = strcspn(*at, ",");
	const char *equals = memchr(*at, '=', len);

	if (**at == '\0')
		return false;
	ret_pair->name = (struct engine_span){ *at, equals != NULL ? (size_t)(equals - *at) : len };
	ret_pair->value = equals != NULL ? (struct engine_span){ equals + 1, len - ret_pair->name.len - 1 }
					 : (struct engine_span){ NULL, 0 };
	*at += len + ((*at)[len] == ',');
	return true;
}

static bool is_text(struct engine_span span, const char *text)
{
	return span.len == strlen(text) && memcmp(span.ptr, text, span.len) == 0;
}

static bool has_header(const struct pair *pair, const struct engine_header *headers, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (headers[i].name.len != pair->name.len ||
		    memcmp(headers[i].name.ptr, pair->name.ptr, pair->name.len) != 0)
			continue;
		if (pair->value.ptr == NULL || (headers[i].value.len == pair->value.len &&
						   memcmp(headers[i].value.ptr, pair->value.ptr, pair->value.len) == 0))
			return true;
	}
	return false;
}

bool headers_match(const struct headers_binding *binding, const struct engine_header *headers, uint32_t count)
{
	const char *at = binding->pattern;
	struct pair pair;

	while (next_pair(&at, &pair)) {
		if (is_text(pair.name, "x-match"))
			continue;
		if (!binding->with_x && pair.name.len >= 2 && memcmp(pair.name.ptr, "x-", 2) == 0)
			continue;
		if (has_header(&pair, headers, count) == binding->any)
			return binding->any;
	}
	return !binding->any;
}

int headers_add(struct headers_binding **list, const char *pattern, uint64_t target)
{
	struct headers_binding *binding;
	const char *at = pattern;
	struct pair pair;

	for (binding = *list; binding != NULL; binding = binding->next) {
		if (binding->target == target && strcmp(binding->pattern, pattern) == 0) {
			binding->count++;
			return 0;
		}
	}
	binding = calloc(1, sizeof(*binding) + strlen(pattern) + 1);
	if (binding == NULL)
		return -ENOMEM;
	strcpy(binding->pattern, pattern);
	binding->target = target;
	binding->count = 1;
	while (next_pair(&at, &pair)) {
		if (!is_text(pair.name, "x-match"))
			continue;
		binding->any = is_text(pair.value, "any") || is_text(pair.value, "any-with-x");
		binding->with_x = is_text(pair.value, "all-with-x") || is_text(pair.value, "any-with-x");
	}
	binding->next = *list;
	*list = binding;
	return 0;
}

void headers_remove(struct headers_binding **list, const char *pattern, uint64_t target)
{
	for (struct headers_binding **link = list; *link != NULL; link = &(*link)->next) {
		struct headers_binding *binding = *link;

		if (binding->target != target || strcmp(binding->pattern, pattern) != 0)
			continue;
		if (--binding->count == 0) {
			*link = binding->next;
			free(binding);
		}
		return;
	}
}

/* Is the name that of an earlier pair of the pattern as well? */
static bool stands_before(const char *pattern, struct engine_span name)
{
	struct pair earlier;

	for (const char *at = pattern; at < name.ptr;) {
		(void)next_pair(&at, &earlier);
		if (earlier.name.len == name.len && memcmp(earlier.name.ptr, name.ptr, name.len) == 0)
			return true;
	}
	return false;
}

int headers_check(const char *pattern)
{
	const char *at = pattern;
	struct pair pair;

	while (next_pair(&at, &pair)) {
		if (pair.name.len == 0)
			return engine_explain(-EINVAL, "a pattern of headers is NAME=VALUE,..., and no name is empty");
		if (is_text(pair.name, "x-match") &&
		    !(is_text(pair.value, "all") || is_text(pair.value, "any") || is_text(pair.value, "all-with-x") ||
			is_text(pair.value, "any-with-x")))
			return engine_explain(-EINVAL, "x-match is all, any, all-with-x or any-with-x");
		if (stands_before(pattern, pair.name))
			return engine_explain(-EINVAL, "a header stands twice in the pattern");
	}
	return at == pattern || at[-1] == ',' ? engine_explain(-EINVAL, "a pattern of headers is NAME=VALUE,...") : 0;
}
