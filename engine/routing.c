/*
 * routing - see routing.h. The trie: a node for each word of a pattern, below the node of the words before it. Its
 * children are in a hash table by word; those for * and # are kept apart.
 *
 * A match goes through the words of the key once, with the set of nodes that the words so far lead to (the simulation of a
 * non-deterministic automaton). A # node stays in the set whatever word comes, and is entered together with its parent, since
 * it may be no word at all. In a tree each node but a # is reached from its parent alone, so only # nodes can be
 * met twice; these are looked for before they are added.
 */
#include "engine/routing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#define uthash_nonfatal_oom(element) (oom = true) /* of the function that adds */
#include <uthash.h>

#include "engine/routing_headers.h"

struct binding {
	uint64_t target;
	uint64_t count;
	struct binding *next;
};

struct node {
	struct node *parent;
	struct node *children; /* by word */
	struct node *star, *hash;
	struct binding *bindings;
	UT_hash_handle hh;
	size_t len;
	char word[];
};

struct routing {
	enum engine_exchange_type type;
	struct node *root;               /* TOPIC, DIRECT, FANOUT (where all is bound to the root) */
	struct headers_binding *headers; /* HEADERS */
};

/* ---- words ---- */

struct words {
	const char *at, *end;
	bool whole; /* all of it is one word */
	bool done;
};

static bool next_word(struct words *words, struct engine_span *ret_word)
{
	const char *dot;

	if (words->done)
		return false;
	dot = words->whole ? NULL : memchr(words->at, '.', (size_t)(words->end - words->at));
	*ret_word = (struct engine_span){ words->at, (size_t)((dot != NULL ? dot : words->end) - words->at) };
	words->done = dot == NULL;
	words->at = dot != NULL ? dot + 1 : words->end;
	return true;
}

static struct words words_of(const struct routing *routing, const char *text, size_t len)
{
	/* An empty key has no words for a topic exchange, so that # alone matches it. */
	return (struct words){ .at = text,
		.end = text + len,
		.whole = routing->type == ENGINE_DIRECT,
		.done = routing->type == ENGINE_FANOUT || (routing->type == ENGINE_TOPIC_EXCHANGE && len == 0) };
}

static bool is_word(const struct routing *routing, struct engine_span word, char special)
{
	return routing->type == ENGINE_TOPIC_EXCHANGE && word.len == 1 && word.ptr[0] == special;
}

/* ---- the trie ---- */

static struct node *new_node(struct node *parent, struct engine_span word)
{
	struct node *node = calloc(1, sizeof(*node) + word.len + 1);

	if (node == NULL)
		return NULL;
	node->parent = parent;
	node->len = word.len;
	if (word.len > 0)
		memcpy(node->word, word.ptr, word.len);
	return node;
}

static struct node *find_child(const struct routing *routing, const struct node *node, struct engine_span word)
{
	struct node *child = NULL;

	if (is_word(routing, word, '*'))
		return node->star;
	if (is_word(routing, word, '#'))
		return node->hash;
	HASH_FIND(hh, node->children, word.ptr, word.len, child);
	return child;
}

static struct node *add_child(const struct routing *routing, struct node *node, struct engine_span word)
{
	struct node *child = new_node(node, word);
	bool oom = false;

	if (child == NULL)
		return NULL;
	if (is_word(routing, word, '*')) {
		node->star = child;
	} else if (is_word(routing, word, '#')) {
		node->hash = child;
	} else {
		HASH_ADD_KEYPTR(hh, node->children, child->word, child->len, child);
		if (oom) {
			free(child);
			return NULL;
		}
	}
	return child;
}

/* Takes a node without anything below it out, and frees it. Returns its parent. */
static struct node *drop_node(struct node *node)
{
	struct node *parent = node->parent;

	if (parent != NULL && parent->star == node)
		parent->star = NULL;
	else if (parent != NULL && parent->hash == node)
		parent->hash = NULL;
	else if (parent != NULL)
		HASH_DEL(parent->children, node);
	free(node);
	return parent;
}

/* Takes away nodes that lead to nothing, from node upwards; the root stays. */
static void prune(struct node *node)
{
	while (node->parent != NULL && node->bindings == NULL && node->children == NULL && node->star == NULL &&
	       node->hash == NULL)
		node = drop_node(node);
}

static struct node *node_of(const struct routing *routing, const char *pattern)
{
	struct words words = words_of(routing, pattern, strlen(pattern));
	struct node *node = routing->root;
	struct engine_span word;

	while (node != NULL && next_word(&words, &word))
		node = find_child(routing, node, word);
	return node;
}

static int trie_add(struct routing *routing, const char *pattern, uint64_t target)
{
	struct words words = words_of(routing, pattern, strlen(pattern));
	struct node *node = routing->root, *child;
	struct binding *binding;
	struct engine_span word;

	while (next_word(&words, &word)) {
		child = find_child(routing, node, word);
		if (child == NULL)
			child = add_child(routing, node, word);
		if (child == NULL)
			goto no_memory;
		node = child;
	}
	for (binding = node->bindings; binding != NULL; binding = binding->next) {
		if (binding->target == target) {
			binding->count++;
			return 0;
		}
	}
	binding = malloc(sizeof(*binding));
	if (binding == NULL)
		goto no_memory;
	*binding = (struct binding){ target, 1, node->bindings };
	node->bindings = binding;
	return 0;
no_memory:
	prune(node);
	return -ENOMEM;
}

static void trie_remove(struct routing *routing, const char *pattern, uint64_t target)
{
	struct node *node = node_of(routing, pattern);

	for (struct binding **link = node != NULL ? &node->bindings : NULL; link != NULL && *link != NULL;
	     link = &(*link)->next) {
		struct binding *binding = *link;

		if (binding->target != target)
			continue;
		if (--binding->count == 0) {
			*link = binding->next;
			free(binding);
			prune(node);
		}
		return;
	}
}

/* Frees all below root and root, without recursion: a pattern may have a hundred words. */
static void trie_free(struct node *node)
{
	while (node != NULL) {
		struct node *below = node->star != NULL ? node->star : node->hash != NULL ? node->hash : node->children;

		if (below != NULL) {
			node = below;
			continue;
		}
		while (node->bindings != NULL) {
			struct binding *next = node->bindings->next;

			free(node->bindings);
			node->bindings = next;
		}
		node = drop_node(node);
	}
}

/* ---- what a match finds ---- */

int routing_match_add(struct routing_match *match, uint64_t target)
{
	uint64_t *grown;

	for (size_t i = 0; i < match->count; i++) {
		if (match->targets[i] == target)
			return 0;
	}
	if (match->count == match->room) {
		grown = realloc(match->targets, (match->room * 2 + 8) * sizeof(*grown));
		if (grown == NULL)
			return -ENOMEM;
		match->targets = grown;
		match->room = match->room * 2 + 8;
	}
	match->targets[match->count++] = target;
	return 0;
}

static int add_bindings(struct routing_match *match, const struct node *node, bool *matched)
{
	int rc = 0;

	for (const struct binding *binding = node->bindings; binding != NULL && rc == 0; binding = binding->next) {
		*matched = true;
		rc = routing_match_add(match, binding->target);
	}
	return rc;
}

/* ---- matching words ---- */

/* Two sets of nodes: those the words so far lead to, from 0 on, and those that the next word leads to, behind them. */
struct walk {
	struct routing_match *match;
	size_t now, next; /* how many of each */
};

static const struct node **places(const struct walk *walk)
{
	return walk->match->places;
}

static bool is_next(const struct walk *walk, const struct node *node)
{
	for (size_t i = walk->now; i < walk->now + walk->next; i++) {
		if (places(walk)[i] == node)
			return true;
	}
	return false;
}

/* Adds a node to the next set, and the # nodes that stand for no word behind it. */
static int enter(struct walk *walk, const struct node *node)
{
	for (; node != NULL; node = node->hash) {
		struct routing_match *match = walk->match;
		void *grown;

		if (node->parent != NULL && node->parent->hash == node && is_next(walk, node))
			return 0;
		if (walk->now + walk->next == match->place_room) {
			grown = realloc(match->places, (match->place_room * 2 + 32) * sizeof(node));
			if (grown == NULL)
				return -ENOMEM;
			match->places = grown;
			match->place_room = match->place_room * 2 + 32;
		}
		places(walk)[walk->now + walk->next++] = node;
	}
	return 0;
}

static void turn(struct walk *walk)
{
	if (walk->next > 0)
		memmove(places(walk), places(walk) + walk->now, walk->next * sizeof(struct node *));
	walk->now = walk->next;
	walk->next = 0;
}

static int step(const struct routing *routing, struct walk *walk, struct engine_span word)
{
	int rc = 0;

	for (size_t i = 0; i < walk->now && rc == 0; i++) {
		const struct node *node = places(walk)[i], *child = NULL;

		HASH_FIND(hh, node->children, word.ptr, word.len, child);
		if (child != NULL)
			rc = enter(walk, child);
		if (rc == 0 && routing->type == ENGINE_TOPIC_EXCHANGE)
			rc = enter(walk, node->star);
		if (rc == 0 && node->parent != NULL && node->parent->hash == node)
			rc = enter(walk, node);
	}
	turn(walk);
	return rc;
}

static int find_words(
    const struct routing *routing, struct engine_span key, struct routing_match *match, bool *ret_matched)
{
	struct words words = words_of(routing, key.ptr != NULL ? key.ptr : "", key.len);
	struct walk walk = { match, 0, 0 };
	struct engine_span word;
	int rc = enter(&walk, routing->root);

	turn(&walk);
	while (rc == 0 && walk.now > 0 && next_word(&words, &word))
		rc = step(routing, &walk, word);
	for (size_t i = 0; i < walk.now && rc == 0; i++)
		rc = add_bindings(match, places(&walk)[i], ret_matched);
	return rc;
}

/* ---- checking ---- */

static int check_words(const char *pattern)
{
	size_t len = strlen(pattern);

	if (len == 0 || pattern[0] == '.' || pattern[len - 1] == '.' || strstr(pattern, "..") != NULL)
		return engine_explain(-EINVAL, "a pattern is words divided by dots, and none of them is empty");
	return 0;
}

int routing_check(enum engine_exchange_type type, const char *pattern)
{
	if (strlen(pattern) > ENGINE_PATTERN_MAX)
		return -ENAMETOOLONG;
	switch (type) {
	case ENGINE_TOPIC_EXCHANGE: return check_words(pattern);
	case ENGINE_HEADERS: return headers_check(pattern);
	case ENGINE_DIRECT:
	case ENGINE_FANOUT: break;
	}
	return pattern[0] != '\0' ? 0 : engine_explain(-EINVAL, "a pattern has a byte at least");
}

/* ---- the routing ---- */

struct routing *routing_new(enum engine_exchange_type type)
{
	struct routing *routing = calloc(1, sizeof(*routing));

	if (routing == NULL)
		return NULL;
	routing->type = type;
	routing->root = new_node(NULL, (struct engine_span){ NULL, 0 });
	if (routing->root == NULL) {
		free(routing);
		return NULL;
	}
	return routing;
}

void routing_free(struct routing *routing)
{
	if (routing == NULL)
		return;
	trie_free(routing->root);
	while (routing->headers != NULL) {
		struct headers_binding *next = routing->headers->next;

		free(routing->headers);
		routing->headers = next;
	}
	free(routing);
}

int routing_add(struct routing *routing, const char *pattern, uint64_t target)
{
	if (routing->type == ENGINE_HEADERS)
		return headers_add(&routing->headers, pattern, target);
	return trie_add(routing, pattern, target);
}

void routing_remove(struct routing *routing, const char *pattern, uint64_t target)
{
	if (routing->type == ENGINE_HEADERS)
		headers_remove(&routing->headers, pattern, target);
	else
		trie_remove(routing, pattern, target);
}

int routing_find(const struct routing *routing, struct engine_span key, const struct engine_header *headers,
    uint32_t header_count, struct routing_match *match, bool *ret_matched)
{
	bool matched = false;
	int rc = 0;

	if (routing->type != ENGINE_HEADERS)
		rc = find_words(routing, key, match, &matched);
	for (const struct headers_binding *binding = routing->headers; binding != NULL && rc == 0;
	     binding = binding->next) {
		if (!headers_match(binding, headers, header_count))
			continue;
		matched = true;
		rc = routing_match_add(match, binding->target);
	}
	if (rc == 0)
		*ret_matched = matched;
	return rc;
}

void routing_match_release(struct routing_match *match)
{
	free(match->targets);
	free(match->places);
	*match = (struct routing_match){ 0 };
}
