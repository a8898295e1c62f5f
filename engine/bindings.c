/* bindings - see bindings.h. */
#include "engine/bindings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int bindings_init(struct bindings *bindings, enum engine_exchange_type type)
{
	*bindings = (struct bindings){ .type = type, .routing = routing_new(type) };
	return bindings->routing != NULL ? 0 : -ENOMEM;
}

static void free_pattern(struct binding_pattern *pattern)
{
	for (size_t i = 0; i < pattern->count; i++)
		free(pattern->entries[i]);
	free(pattern->entries);
	free(pattern);
}

void bindings_release(struct bindings *bindings)
{
	for (size_t i = 0; i < bindings->count; i++)
		free_pattern(bindings->patterns[i]);
	free(bindings->patterns);
	routing_free(bindings->routing);
	*bindings = (struct bindings){ 0 };
}

int bindings_set_type(struct bindings *bindings, enum engine_exchange_type type)
{
	struct routing *routing;

	if (type == bindings->type)
		return 0;
	if (bindings->count > 0)
		return engine_explain(-EBUSY, "the exchange has bindings, whose patterns are of its type");
	routing = routing_new(type);
	if (routing == NULL)
		return -ENOMEM;
	routing_free(bindings->routing);
	bindings->routing = routing;
	bindings->type = type;
	return 0;
}

/* ---- arrays in order ---- */

/* Place of the first pattern that is not below text. */
static size_t pattern_place(const struct bindings *bindings, const char *text)
{
	size_t low = 0, high = bindings->count;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (strcmp(bindings->patterns[mid]->text, text) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static size_t entry_place(const struct binding_pattern *pattern, const char *name)
{
	size_t low = 0, high = pattern->count;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (strcmp(pattern->entries[mid]->name, name) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct binding_pattern *find_pattern(const struct bindings *bindings, const char *text)
{
	size_t place = pattern_place(bindings, text);

	if (place == bindings->count || strcmp(bindings->patterns[place]->text, text) != 0)
		return NULL;
	return bindings->patterns[place];
}

static struct binding_entry *find_entry(const struct binding_pattern *pattern, const char *name)
{
	size_t place = entry_place(pattern, name);

	if (place == pattern->count || strcmp(pattern->entries[place]->name, name) != 0)
		return NULL;
	return pattern->entries[place];
}

/* Makes room for one more in an array of pointers. */
static int make_room(void **array, size_t count, size_t *room)
{
	size_t more = *room > 0 ? *room * 2 : 4;
	void *grown;

	if (count < *room)
		return 0;
	grown = realloc(*array, more * sizeof(void *));
	if (grown == NULL)
		return -ENOMEM;
	*array = grown;
	*room = more;
	return 0;
}

/* ---- changes ---- */

int bindings_add_pattern(struct bindings *bindings, const char *text)
{
	int rc = routing_check(bindings->type, text);
	size_t place = pattern_place(bindings, text);
	struct binding_pattern *pattern;

	if (rc < 0)
		return rc;
	if (find_pattern(bindings, text) != NULL)
		return -EEXIST;
	pattern = calloc(1, sizeof(*pattern) + strlen(text) + 1);
	if (pattern == NULL || make_room((void **)&bindings->patterns, bindings->count, &bindings->room) < 0) {
		free(pattern);
		return -ENOMEM;
	}
	strcpy(pattern->text, text);
	memmove(bindings->patterns + place + 1, bindings->patterns + place,
	    (bindings->count - place) * sizeof(struct binding_pattern *));
	bindings->patterns[place] = pattern;
	bindings->count++;
	return 0;
}

int bindings_remove_pattern(struct bindings *bindings, const char *text)
{
	struct binding_pattern *pattern = find_pattern(bindings, text);
	size_t place = pattern_place(bindings, text);

	if (pattern == NULL)
		return -ENOENT;
	if (pattern->count > 0)
		return -ENOTEMPTY;
	free_pattern(pattern);
	bindings->count--;
	memmove(bindings->patterns + place, bindings->patterns + place + 1,
	    (bindings->count - place) * sizeof(struct binding_pattern *));
	return 0;
}

struct binding_entry *binding_entry_new(const char *name, uint64_t target)
{
	struct binding_entry *entry = malloc(sizeof(*entry) + strlen(name) + 1);

	if (entry == NULL)
		return NULL;
	entry->target = target;
	strcpy(entry->name, name);
	return entry;
}

/* There is room for it. */
static void put_entry(struct binding_pattern *pattern, struct binding_entry *entry)
{
	size_t place = entry_place(pattern, entry->name);

	memmove(pattern->entries + place + 1, pattern->entries + place,
	    (pattern->count - place) * sizeof(*pattern->entries));
	pattern->entries[place] = entry;
	pattern->count++;
}

static void drop_entry(struct binding_pattern *pattern, struct binding_entry *entry)
{
	size_t place = entry_place(pattern, entry->name);

	pattern->count--;
	memmove(pattern->entries + place, pattern->entries + place + 1,
	    (pattern->count - place) * sizeof(*pattern->entries));
	free(entry);
}

int bindings_add(struct bindings *bindings, const char *text, const char *name, uint64_t target)
{
	struct binding_pattern *pattern = find_pattern(bindings, text);
	struct binding_entry *entry;

	if (pattern == NULL)
		return -ENOENT;
	if (find_entry(pattern, name) != NULL)
		return -EEXIST;
	entry = binding_entry_new(name, target);
	if (entry == NULL || make_room((void **)&pattern->entries, pattern->count, &pattern->room) < 0 ||
	    routing_add(bindings->routing, text, target) < 0) {
		free(entry);
		return -ENOMEM;
	}
	put_entry(pattern, entry);
	bindings->total++;
	return 0;
}

int bindings_remove(struct bindings *bindings, const char *text, const char *name)
{
	struct binding_pattern *pattern = find_pattern(bindings, text);
	struct binding_entry *entry = pattern != NULL ? find_entry(pattern, name) : NULL;

	if (entry == NULL)
		return -ENOENT;
	routing_remove(bindings->routing, text, entry->target);
	drop_entry(pattern, entry);
	bindings->total--;
	return 0;
}

uint64_t bindings_rename(struct bindings *bindings, const char *text, const char *name, struct binding_entry *entry)
{
	struct binding_pattern *pattern = find_pattern(bindings, text);
	struct binding_entry *replaced = find_entry(pattern, entry->name);
	uint64_t target = replaced != NULL ? replaced->target : 0;

	if (replaced != NULL)
		bindings_remove(bindings, text, entry->name);
	drop_entry(pattern, find_entry(pattern, name)); /* routing goes on with its target */
	put_entry(pattern, entry);
	return target;
}

/* ---- reading ---- */

int bindings_find(const struct bindings *bindings, const char *text, const char *name, uint64_t *ret_target)
{
	const struct binding_pattern *pattern = find_pattern(bindings, text);
	const struct binding_entry *entry = pattern != NULL && name != NULL ? find_entry(pattern, name) : NULL;

	if (pattern == NULL || (name != NULL && entry == NULL))
		return -ENOENT;
	*ret_target = entry != NULL ? entry->target : 0;
	return 0;
}

int bindings_list(const struct bindings *bindings, const char *text, const char *after,
    bool (*each)(void *ctx, const char *name, uint64_t target), void *ctx)
{
	const struct binding_pattern *pattern = text != NULL ? find_pattern(bindings, text) : NULL;
	bool more = true;
	size_t i = 0;

	if (text == NULL) {
		if (after != NULL)
			i = pattern_place(bindings, after) + (find_pattern(bindings, after) != NULL);
		for (; i < bindings->count && more; i++)
			more = each(ctx, bindings->patterns[i]->text, 0);
		return 0;
	}
	if (pattern == NULL)
		return -ENOENT;
	if (after != NULL)
		i = entry_place(pattern, after) + (find_entry(pattern, after) != NULL);
	for (; i < pattern->count && more; i++)
		more = each(ctx, pattern->entries[i]->name, pattern->entries[i]->target);
	return 0;
}

/* ---- the way of a message ---- */

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/*
 * match->targets is the list of all that was reached, exchanges among them: each exchange is asked once, in the order in which
 * it was reached, and what it leads to joins the list if it is not in it. So even a circle, which binding refuses, would end.
 */
int bindings_route(const struct bindings_world *world, uint64_t exchange, struct engine_span key,
    const struct engine_header *headers, uint32_t header_count, struct routing_match *match)
{
	size_t kept = 0;
	int rc;

	match->count = 0;
	rc = routing_match_add(match, exchange);
	for (size_t i = 0; i < match->count && rc == 0; i++) {
		uint64_t from = match->targets[i], alternate;
		bool matched = false;

		if (!world->is_exchange(world->ctx, from))
			continue;
		rc = world->find(world->ctx, from, key, headers, header_count, match, &matched);
		if (rc == -ENOENT)
			rc = 0;
		if (rc == 0 && !matched && (alternate = world->alternate(world->ctx, from)) != 0)
			rc = routing_match_add(match, alternate);
	}
	for (size_t i = 0; i < match->count && rc == 0; i++) {
		if (!world->is_exchange(world->ctx, match->targets[i]))
			match->targets[kept++] = match->targets[i];
	}
	match->count = kept;
	if (rc == 0 && kept > 1)
		qsort(match->targets, kept, sizeof(*match->targets), ascending);
	return rc;
}

/* ---- circles ---- */

int bindings_add_exchanges(
    const struct bindings *bindings, const struct bindings_world *world, struct routing_match *match)
{
	int rc = 0;

	for (size_t i = 0; i < bindings->count; i++) {
		const struct binding_pattern *pattern = bindings->patterns[i];

		for (size_t j = 0; j < pattern->count && rc == 0; j++) {
			if (world->is_exchange(world->ctx, pattern->entries[j]->target))
				rc = routing_match_add(match, pattern->entries[j]->target);
		}
	}
	return rc;
}

int bindings_check_circle(const struct bindings_world *world, uint64_t from, uint64_t to)
{
	struct routing_match seen = { 0 };
	bool found = false;
	int rc = routing_match_add(&seen, from);

	for (size_t i = 0; i < seen.count && rc == 0 && !found; i++) {
		uint64_t exchange = seen.targets[i], alternate = world->alternate(world->ctx, exchange);

		found = exchange == to;
		if (!found)
			rc = world->exchanges(world->ctx, exchange, &seen);
		if (rc == 0 && alternate != 0)
			rc = routing_match_add(&seen, alternate);
	}
	routing_match_release(&seen);
	if (rc == 0 && found)
		return engine_explain(-ELOOP, "that would close a circle of exchanges");
	return rc;
}
