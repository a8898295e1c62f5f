/*
 * local_tree - see local_tree.h.
 */
#include "engine/local_tree.h"

#include <assert.h>

/* Random enough to balance a tree: a mix of the node's address and of how many there are. */
static uint32_t pick_rank(const struct tree *tree, const struct tree_node *node)
{
	uint64_t x = (uint64_t)(uintptr_t)node + (uint64_t)tree->count * 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return (uint32_t)(x >> 32) | 1;
}

/* Puts child (may be NULL) where node is below parent. */
static void replace(struct tree *tree, struct tree_node *parent, const struct tree_node *node, struct tree_node *child)
{
	if (parent == NULL)
		tree->root = child;
	else if (parent->left == node)
		parent->left = child;
	else
		parent->right = child;
	if (child != NULL)
		child->parent = parent;
}

/* node changes places with its parent. */
static void rotate_up(struct tree *tree, struct tree_node *node)
{
	struct tree_node *parent = node->parent;

	replace(tree, parent->parent, parent, node);
	if (parent->left == node) {
		parent->left = node->right;
		if (node->right != NULL)
			node->right->parent = parent;
		node->right = parent;
	} else {
		parent->right = node->left;
		if (node->left != NULL)
			node->left->parent = parent;
		node->left = parent;
	}
	parent->parent = node;
}

void tree_insert(struct tree *tree, struct tree_node *node)
{
	struct tree_node **link = &tree->root, *parent = NULL;

	assert(!tree_has(node));
	while (*link != NULL) {
		parent = *link;
		link = tree->before(node, parent) ? &parent->left : &parent->right;
	}
	*node = (struct tree_node){ .parent = parent, .rank = pick_rank(tree, node) };
	*link = node;
	tree->count++;
	while (node->parent != NULL && node->parent->rank < node->rank)
		rotate_up(tree, node);
}

void tree_remove(struct tree *tree, struct tree_node *node)
{
	if (!tree_has(node))
		return;
	while (node->left != NULL && node->right != NULL)
		rotate_up(tree, node->left->rank > node->right->rank ? node->left : node->right);
	replace(tree, node->parent, node, node->left != NULL ? node->left : node->right);
	*node = (struct tree_node){ 0 };
	tree->count--;
}

struct tree_node *tree_first(const struct tree *tree)
{
	struct tree_node *node = tree->root;

	while (node != NULL && node->left != NULL)
		node = node->left;
	return node;
}

struct tree_node *tree_next(const struct tree_node *node)
{
	struct tree_node *next = node->right;

	if (next != NULL) {
		while (next->left != NULL)
			next = next->left;
		return next;
	}
	for (next = node->parent; next != NULL && next->right == node; next = next->parent)
		node = next;
	return next;
}

struct tree_node *tree_prev(const struct tree_node *node)
{
	struct tree_node *prev = node->left;

	if (prev != NULL) {
		while (prev->right != NULL)
			prev = prev->right;
		return prev;
	}
	for (prev = node->parent; prev != NULL && prev->left == node; prev = prev->parent)
		node = prev;
	return prev;
}

struct tree_node *tree_find(
    const struct tree *tree, bool (*below)(const struct tree_node *node, const void *key), const void *key)
{
	struct tree_node *node = tree->root, *found = NULL;

	while (node != NULL) {
		if (below(node, key)) {
			node = node->right;
		} else {
			found = node;
			node = node->left;
		}
	}
	return found;
}
