/*
 * catalog_pages - see catalog_pages.h. The format is that of LMDB 0.9, data version 1, on machines with 64 bits.
 *
 * Pages 0 and 1 are metas, written in turn: each names the roots of two trees, of free pages and of rows, as they were after
 * one transaction. Pages of the last two are never overwritten. Looked at:
 *   - metas: all that LMDB reads of them. That a number of a transaction is right is told by its tree of free pages, whose
 *     greatest key is the last transaction, for each one frees some;
 *   - trees: every page carries its own number, is of the right kind and at the right depth; its nodes fill it without gaps or
 *     overlaps; keys rise, and lie between those of the branches above; the counts are those of the meta;
 *   - no page is in two places, or in use and free; lists of free pages fall; what is in use lies within the file.
 * The file may end before its last pages if they are free: LMDB never writes a page that a transaction took and gave back.
 *
 * Not looked at, since nothing reads it: free pages, the gaps in pages, the first key of a branch.
 */
#include "engine/catalog_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/io.h"

#define MAGIC 0xbeefc0deu
#define DATA_VERSION 1u
#define PAGE_MIN 256u
#define PAGE_MAX 32768u
#define PAGE_HEADER 16u
#define NODE_HEADER 8u
#define META_SIZE (PAGE_HEADER + 136u)
#define DEPTH_MAX 32u
#define NO_PAGE UINT64_MAX /* the root of an empty tree */
#define FREE_FLAGS 0x4008u /* MDB_NOSUBDIR, MDB_INTEGERKEY */

enum page_flags { BRANCH = 1, LEAF = 2, OVERFLOW = 4, META = 8 };
enum { NODE_BIG = 1 }; /* the value is on pages of its own */
enum which { FREE_PAGES, ROWS };

struct tree {
	uint32_t pad;
	uint16_t flags, depth;
	uint64_t branches, leaves, overflows, entries, root;
};

struct meta {
	struct tree trees[2];
	uint64_t last, txn;
};

struct walk {
	int fd;
	uint32_t page_size;
	uint64_t file_pages, last;
	uint8_t *seen;  /* a bit for each page up to last */
	uint8_t *pages; /* one for each level */
	enum which which;
	struct tree count; /* of what was met */
	uint64_t free_beyond, greatest_free;
	catalog_raw_row *row;
	void *ctx;
};

static uint32_t get16(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static int wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int wrong(const char *format, ...)
{
	char text[128];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return engine_explain(-EUCLEAN, "the catalog is damaged: %s", text);
}

/* ---- pages ---- */

/* Counts the page as met. 1: go on, and read it. */
static int meet(struct walk *w, uint64_t page)
{
	if (page < 2 || page > w->last)
		return wrong("a page %" PRIu64 " that there is not", page);
	if (w->seen[page / 8] & 1u << page % 8)
		return wrong("page %" PRIu64 " is in two places", page);
	w->seen[page / 8] |= (uint8_t)(1u << page % 8);
	return 1;
}

/* 1: it was read. */
static int get_page(struct walk *w, uint64_t page, uint8_t *into)
{
	int rc = meet(w, page);

	if (rc <= 0)
		return rc;
	if (page >= w->file_pages)
		return engine_explain(-EUCLEAN, "the catalog is cut short");
	rc = io_pread_all(w->fd, into, w->page_size, (off_t)(page * w->page_size));
	if (rc < 0)
		return engine_explain(rc, "the catalog cannot be read: %s", strerror(-rc));
	if (bytes_get64(into) != page)
		return wrong("page %" PRIu64 " says that it is another", page);
	return 1;
}

static uint32_t node_count(const uint8_t *page)
{
	return (get16(page + 12) - PAGE_HEADER) / 2;
}

static const uint8_t *node_at(const uint8_t *page, uint32_t i)
{
	return page + get16(page + PAGE_HEADER + 2 * i);
}

static struct engine_span node_key(const uint8_t *node)
{
	return (struct engine_span){ (const char *)node + NODE_HEADER, get16(node + 6) };
}

static uint64_t node_child(const uint8_t *node)
{
	return (uint64_t)bytes_get32(node) | (uint64_t)get16(node + 4) << 32;
}

static uint64_t node_size(const uint8_t *node, bool leaf)
{
	uint64_t size = NODE_HEADER + get16(node + 6);

	if (leaf)
		size += get16(node + 4) & NODE_BIG ? 8 : bytes_get32(node);
	return (size + 1) & ~UINT64_C(1);
}

/* That all nodes lie within the page, and fill its end. */
static bool nodes_are_whole(const struct walk *w, const uint8_t *page, bool leaf)
{
	uint32_t lower = get16(page + 12), upper = get16(page + 14), filled = 0;
	uint8_t used[PAGE_MAX / 16] = { 0 }; /* a bit for two bytes */

	if (lower % 2 != 0 || lower < PAGE_HEADER || lower > upper || upper > w->page_size)
		return false;
	for (uint32_t i = 0; i < node_count(page); i++) {
		uint32_t at = get16(page + PAGE_HEADER + 2 * i);
		uint64_t size;

		if (at % 2 != 0 || at < upper || at + NODE_HEADER > w->page_size)
			return false;
		size = node_size(page + at, leaf);
		if (at + size > w->page_size || (leaf && (get16(page + at + 4) & ~(uint32_t)NODE_BIG) != 0))
			return false;
		for (uint32_t half = at / 2; half < (at + size) / 2; half++) {
			if (used[half / 8] & 1u << half % 8)
				return false;
			used[half / 8] |= (uint8_t)(1u << half % 8);
		}
		filled += (uint32_t)size;
	}
	return filled == w->page_size - upper;
}

/* ---- keys ---- */

static int compare_keys(const struct walk *w, struct engine_span a, struct engine_span b)
{
	int diff;

	if (w->which == FREE_PAGES) {
		uint64_t x = bytes_get64((const uint8_t *)a.ptr), y = bytes_get64((const uint8_t *)b.ptr);

		return x < y ? -1 : x > y;
	}
	diff = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);
	return diff != 0 ? diff : a.len < b.len ? -1 : a.len > b.len;
}

/* Bounds of keys; ptr NULL: none. */
struct bounds {
	struct engine_span from, below;
};

static bool key_fits(const struct walk *w, struct engine_span key, const struct bounds *in)
{
	if (key.len == 0 || (w->which == FREE_PAGES && key.len != 8))
		return false;
	return (in->from.ptr == NULL || compare_keys(w, key, in->from) >= 0) &&
	       (in->below.ptr == NULL || compare_keys(w, key, in->below) < 0);
}

static bool keys_are_in_order(const struct walk *w, const uint8_t *page, bool leaf, const struct bounds *in)
{
	struct bounds rest = *in;

	for (uint32_t i = leaf ? 0 : 1; i < node_count(page); i++) {
		struct engine_span key = node_key(node_at(page, i));

		if (!key_fits(w, key, &rest))
			return false;
		if (i > (leaf ? 0 : 1) && compare_keys(w, key, rest.from) == 0)
			return false;
		rest.from = key;
	}
	return true;
}

/* ---- values ---- */

/* The pages of a long value, from what its node has. ret_value is to be freed. 1: it was read. */
static int get_long_value(struct walk *w, const uint8_t *node, uint64_t size, uint8_t **ret_value)
{
	uint64_t first = bytes_get64((const uint8_t *)node_key(node).ptr + node_key(node).len), pages, need;
	uint8_t *header = w->pages + (size_t)(DEPTH_MAX - 1) * w->page_size;
	int rc = get_page(w, first, header);

	if (rc <= 0)
		return rc;
	pages = bytes_get32(header + 12);
	need = (PAGE_HEADER - 1 + size) / w->page_size + 1;
	if (get16(header + 10) != OVERFLOW || pages < need || first + pages - 1 > w->last)
		return wrong("page %" PRIu64 " is no long value", first);
	for (uint64_t page = first + 1; page < first + pages; page++) {
		rc = meet(w, page);
		if (rc < 0)
			return rc;
	}
	w->count.overflows += pages;
	if (first + need > w->file_pages)
		return wrong("page %" PRIu64 " is cut short", first);
	*ret_value = malloc(size);
	if (*ret_value == NULL)
		return -ENOMEM;
	rc = io_pread_all(w->fd, *ret_value, size, (off_t)(first * w->page_size + PAGE_HEADER));
	return rc < 0 ? rc : 1;
}

/* A count, and as many numbers of pages, which fall. */
static int take_free_pages(struct walk *w, struct engine_span key, struct engine_span value)
{
	const uint8_t *list = (const uint8_t *)value.ptr;
	uint64_t count, before = UINT64_MAX;
	int rc = 1;

	w->greatest_free = bytes_get64((const uint8_t *)key.ptr);
	if (value.len < 8 || value.len % 8 != 0 || bytes_get64(list) > value.len / 8 - 1)
		return wrong("a list of free pages");
	count = bytes_get64(list);
	for (uint64_t i = 1; i <= count && rc == 1; i++) {
		uint64_t page = bytes_get64(list + 8 * i);

		if (page >= before)
			return wrong("a list of free pages is in disorder");
		before = page;
		rc = meet(w, page);
		w->free_beyond += page >= w->file_pages;
	}
	return rc < 0 ? rc : 0;
}

static int take_value(struct walk *w, struct engine_span key, struct engine_span value)
{
	w->count.entries++;
	if (w->which == FREE_PAGES)
		return take_free_pages(w, key, value);
	return w->row != NULL ? w->row(w->ctx, key, value) : 0;
}

static int take_node(struct walk *w, const uint8_t *node)
{
	struct engine_span key = node_key(node), value = { key.ptr + key.len, bytes_get32(node) };
	uint8_t *long_value = NULL;
	int rc = 1;

	if (get16(node + 4) & NODE_BIG) {
		rc = get_long_value(w, node, value.len, &long_value);
		value.ptr = (const char *)long_value;
	}
	if (rc == 1)
		rc = take_value(w, key, value);
	free(long_value);
	return rc;
}

/* ---- trees ---- */

static int walk_leaf(struct walk *w, const uint8_t *page, const struct bounds *in)
{
	int rc = 0;

	if (get16(page + 10) != LEAF || !nodes_are_whole(w, page, true) || node_count(page) == 0 ||
	    !keys_are_in_order(w, page, true, in))
		return wrong("page %" PRIu64 " is no leaf", bytes_get64(page));
	w->count.leaves++;
	for (uint32_t i = 0; i < node_count(page) && rc == 0; i++)
		rc = take_node(w, node_at(page, i));
	return rc;
}

static int walk_page(struct walk *w, uint64_t number, unsigned level, unsigned depth, const struct bounds *in);

static int walk_branch(struct walk *w, const uint8_t *page, unsigned level, unsigned depth, const struct bounds *in)
{
	uint32_t count;
	int rc = 0;

	if (get16(page + 10) != BRANCH || !nodes_are_whole(w, page, false) || node_count(page) < 2 ||
	    !keys_are_in_order(w, page, false, in))
		return wrong("page %" PRIu64 " is no branch", bytes_get64(page));
	w->count.branches++;
	count = node_count(page);
	for (uint32_t i = 0; i < count && rc == 0; i++) {
		const uint8_t *node = node_at(page, i);
		struct bounds part = *in;

		if (i > 0)
			part.from = node_key(node);
		if (i + 1 < count)
			part.below = node_key(node_at(page, i + 1));
		rc = walk_page(w, node_child(node), level + 1, depth, &part);
	}
	return rc;
}

static int walk_page(struct walk *w, uint64_t number, unsigned level, unsigned depth, const struct bounds *in)
{
	uint8_t *page = w->pages + (size_t)level * w->page_size;
	int rc = get_page(w, number, page);

	if (rc <= 0)
		return rc;
	return level + 1 < depth ? walk_branch(w, page, level, depth, in) : walk_leaf(w, page, in);
}

static int walk_tree(struct walk *w, const struct tree *tree, enum which which)
{
	const struct bounds all = { 0 };
	int rc = 0;

	w->which = which;
	w->count = (struct tree){ 0 };
	if (tree->depth >= DEPTH_MAX || (tree->root == NO_PAGE) != (tree->depth == 0))
		return wrong("the root of its tree");
	if (tree->root != NO_PAGE)
		rc = walk_page(w, tree->root, 0, tree->depth, &all);
	if (rc < 0)
		return rc;
	if (tree->branches != w->count.branches || tree->leaves != w->count.leaves ||
	    tree->overflows != w->count.overflows || tree->entries != w->count.entries)
		return wrong("it has %" PRIu64 " entries, and should have %" PRIu64, w->count.entries, tree->entries);
	return 0;
}

/* ---- metas ---- */

static void get_tree(const uint8_t *p, struct tree *ret_tree)
{
	*ret_tree = (struct tree){ .pad = bytes_get32(p),
		.flags = (uint16_t)get16(p + 4),
		.depth = (uint16_t)get16(p + 6),
		.branches = bytes_get64(p + 8),
		.leaves = bytes_get64(p + 16),
		.overflows = bytes_get64(p + 24),
		.entries = bytes_get64(p + 32),
		.root = bytes_get64(p + 40) };
}

static bool parse_meta(const uint8_t *page, uint64_t number, uint32_t page_size, struct meta *ret_meta)
{
	const uint8_t *p = page + PAGE_HEADER;

	get_tree(p + 24, &ret_meta->trees[FREE_PAGES]);
	get_tree(p + 72, &ret_meta->trees[ROWS]);
	ret_meta->last = bytes_get64(p + 120);
	ret_meta->txn = bytes_get64(p + 128);
	return bytes_get64(page) == number && get16(page + 10) == META && bytes_get32(p) == MAGIC &&
	       bytes_get32(p + 4) == DATA_VERSION && ret_meta->trees[FREE_PAGES].pad == page_size &&
	       ret_meta->trees[FREE_PAGES].flags == FREE_FLAGS && ret_meta->trees[ROWS].pad == 0 &&
	       ret_meta->trees[ROWS].flags == 0 && ret_meta->last >= 1 &&
	       (ret_meta->txn == 0 || (ret_meta->txn & 1) == number);
}

/* How large pages are is in the first meta, and in the second, and mostly what the system has. */
static uint32_t page_size_of(const uint8_t *start, size_t size)
{
	uint32_t page_size = bytes_get32(start + PAGE_HEADER + 24);
	bool sure = page_size >= PAGE_MIN && page_size <= PAGE_MAX && (page_size & (page_size - 1)) == 0 &&
		    size >= page_size + META_SIZE && bytes_get32(start + page_size + PAGE_HEADER + 24) == page_size;

	return sure ? page_size : (uint32_t)sysconf(_SC_PAGESIZE);
}

/* Room for a walk through one state: what is in use is another each time. */
static int begin_walk(struct walk *w, const struct meta *meta)
{
	/* That many pages cannot be free behind the end of the file: it need not be believed. */
	if (meta->last >= w->file_pages * 2 + 65536)
		return engine_explain(-EUCLEAN, "the catalog is cut short");
	free(w->seen);
	w->last = meta->last;
	w->free_beyond = w->greatest_free = 0;
	w->seen = calloc(1, (size_t)(meta->last / 8 + 1));
	return w->seen == NULL ? -ENOMEM : 0;
}

static int check_state(struct walk *w, const struct meta *meta, bool newest)
{
	int rc = begin_walk(w, meta);

	if (rc == 0)
		rc = walk_tree(w, &meta->trees[FREE_PAGES], FREE_PAGES);
	if (rc == 0 && w->greatest_free != meta->txn && (meta->txn > 1 || w->greatest_free > 0))
		rc = wrong("the number of its last transaction");
	if (rc < 0 || !newest)
		return rc;
	if (meta->last >= w->file_pages && w->free_beyond < meta->last + 1 - w->file_pages)
		return engine_explain(-EUCLEAN, "the catalog is cut short");
	return walk_tree(w, &meta->trees[ROWS], ROWS);
}

/* Are these the roots that came two transactions later, with the old number and last page? What its last page was is not known then. */
static bool is_undone(struct walk *w, const struct meta *meta)
{
	struct meta tried = *meta;

	tried.last = w->file_pages * 2 + 65535;
	return begin_walk(w, &tried) == 0 && walk_tree(w, &meta->trees[FREE_PAGES], FREE_PAGES) == 0 &&
	       w->greatest_free == meta->txn + 2;
}

static int check_older(struct walk *w, const struct meta *meta, uint64_t *ret_undone)
{
	int rc = check_state(w, meta, false);

	if (rc != -EUCLEAN || ret_undone == NULL || !is_undone(w, meta))
		return rc;
	engine_reason_clear();
	*ret_undone = meta->txn + 2;
	return 0;
}

/* Opens the file. good: which of the metas can be made sense of. */
static int open_walk(struct walk *w, int dirfd, const char *name, struct meta metas[2], bool good[2])
{
	uint8_t start[PAGE_MAX + META_SIZE] = { 0 };
	size_t size;
	struct stat st;
	int rc;

	w->fd = io_open_existing(dirfd, name, O_RDONLY);
	if (w->fd < 0)
		return w->fd;
	if (fstat(w->fd, &st) < 0)
		return -errno;
	size = (uint64_t)st.st_size < sizeof(start) ? (size_t)st.st_size : sizeof(start);
	rc = io_pread_all(w->fd, start, size, 0);
	if (rc < 0)
		return engine_explain(rc, "the catalog cannot be read: %s", strerror(-rc));
	w->page_size = page_size_of(start, size);
	if (w->page_size > PAGE_MAX)
		return engine_explain(-EUCLEAN, "the catalog has pages of a size that is not known here");
	w->file_pages = (uint64_t)st.st_size / w->page_size;
	for (unsigned i = 0; i < 2; i++)
		good[i] = i < w->file_pages && parse_meta(start + (size_t)i * w->page_size, i, w->page_size, &metas[i]);
	w->pages = malloc((size_t)DEPTH_MAX * w->page_size);
	return w->pages == NULL ? -ENOMEM : 0;
}

static void close_walk(struct walk *w)
{
	if (w->fd >= 0)
		close(w->fd);
	free(w->pages);
	free(w->seen);
}

int catalog_check_pages(int dirfd, const char *name, catalog_raw_row *row, void *ctx, uint64_t *ret_undone)
{
	struct walk w = { .row = row, .ctx = ctx };
	struct meta metas[2];
	bool good[2];
	unsigned newest;
	int rc = open_walk(&w, dirfd, name, metas, good);

	if (ret_undone != NULL)
		*ret_undone = 0;
	for (unsigned i = 0; i < 2 && rc == 0; i++)
		if (!good[i])
			rc = wrong("page %u is no beginning of one", i);
	if (rc == 0) {
		newest = metas[1].txn > metas[0].txn;
		if (metas[newest].txn > 0 && metas[newest].txn != metas[!newest].txn + 1)
			rc = wrong("the numbers of its last transactions");
		if (rc == 0)
			rc = check_older(&w, &metas[!newest], ret_undone);
		if (rc == 0)
			rc = check_state(&w, &metas[newest], true);
	}
	close_walk(&w);
	return rc;
}

/* ---- a meta, put back ---- */

_Static_assert(sizeof(((struct catalog_meta *)NULL)->bytes) == META_SIZE, "all of a meta is saved");

void catalog_save_meta(int fd, uint32_t page_size, uint64_t txn, struct catalog_meta *ret_meta)
{
	ret_meta->at = (off_t)(txn & 1) * page_size;
	ret_meta->saved = io_pread_all(fd, ret_meta->bytes, sizeof(ret_meta->bytes), ret_meta->at) == 0;
}

int catalog_put_meta_back(int dirfd, const char *name, const struct catalog_meta *meta)
{
	int fd, err;

	if (!meta->saved)
		return -ENODATA;
	fd = io_open_existing(dirfd, name, O_RDWR);
	if (fd < 0)
		return fd;
	err = io_pwrite_all(fd, meta->bytes, sizeof(meta->bytes), meta->at);
	if (!err)
		err = io->fdatasync(fd);
	close(fd);
	return err;
}
