/*
 * local_tree - an ordered tree of nodes that are embedded in what they order.
 *
 * The exceptions of a queue are ordered in several ways at once (by offset, by place, by the time they are due), come and
 * go all the time, and nothing may fail while they do: so the nodes are part of them, and no call here allocates. It is
 * a treap: a binary tree by order that is a heap by a random rank, hence balanced in all likelihood, whatever the order in
 * which nodes come. Equal nodes stay in the order in which they were put in.
 *
 * No locks: whoever owns a tree guards it.
 */
#ifndef MQFS_LOCAL_TREE_H
#define MQFS_LOCAL_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tree_node {
	struct tree_node *parent, *left, *right;
	uint32_t rank; /* 0: in no tree */
};

struct tree {
	struct tree_node *root;
	size_t count;
	bool (*before)(const struct tree_node *a, const struct tree_node *b); /* never changes */
};

static inline bool tree_has(const struct tree_node *node)
{
	return node->rank != 0;
}

void tree_insert(struct tree *tree, struct tree_node *node);
void tree_remove(struct tree *tree, struct tree_node *node); /* nothing if it is in no tree */
struct tree_node *tree_first(const struct tree *tree);       /* NULL: empty, as for the following at the ends */
struct tree_node *tree_next(const struct tree_node *node);
struct tree_node *tree_prev(const struct tree_node *node);
/* The first node that is not below key, if those that are come before those that are not. */
struct tree_node *tree_find(
    const struct tree *tree, bool (*below)(const struct tree_node *node, const void *key), const void *key);

#endif
