/*
 * Tests of engine/catalog_pages: what LMDB writes is always found whole; a turned bit is found, or changes nothing, and never hurts LMDB.
 */
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/catalog.h"
#include "engine/catalog_internal.h"
#include "engine/catalog_pages.h"
#include "tests/lib/means.h"
#include "tests/lib/nosync.h"
#include "tests/lib/tmpdir.h"

static const struct engine_owner owner = { .uid = 1, .gid = 2, .mode = 0751 };
static struct tmpdir dir;

static void init(void)
{
	nosync_install();
	tmpdir_in_memory();
	tmpdir_make(&dir);
}

static void fini(void)
{
	tmpdir_remove(&dir);
}

TestSuite(catalog_pages, .init = init, .fini = fini, .timeout = 120);

static struct catalog *make_catalog(void)
{
	struct catalog *catalog;

	cr_assert_eq(catalog_create(dir.fd, &owner), 0);
	cr_assert_eq(catalog_open(dir.fd, false, &catalog), 0, "%s", engine_reason());
	return catalog;
}

static unsigned pick(uint64_t *random, unsigned count)
{
	*random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (unsigned)(*random >> 33) % count;
}

/* Puts and removes some rows of all sizes; now and then very many. */
static int change_rows(struct catalog_txn *txn, void *arg)
{
	static const char value[CATALOG_VALUE_MAX];
	uint64_t *random = arg;
	unsigned count = pick(random, 40) == 0 ? 4000 : 1 + pick(random, 30), what = pick(random, 2);
	int rc = 0;

	for (unsigned i = 0; i < count && rc == 0; i++) {
		struct catalog_key key;

		catalog_key_init(&key, CATALOG_SETTING, 7 + pick(random, 3));
		catalog_key_add_be32(&key, pick(random, 6000));
		catalog_key_add_text(&key, value, key.bytes[key.len - 1]);
		rc = what == 0 ? catalog_put_row(txn, &key, value, pick(random, pick(random, 8) == 0 ? 1024 : 100))
			       : catalog_del_row(txn, &key);
		if (rc == -ENODATA)
			rc = 0;
	}
	return rc;
}

/* Trees of several levels, lists of free pages that are long, pages that were freed and used again. */
Test(catalog_pages, finds_whole_what_lmdb_writes)
{
	struct catalog *catalog = make_catalog();
	uint64_t random = 1;

	for (unsigned i = 0; i < 600; i++) {
		cr_assert_eq(catalog_change(catalog, CATALOG_GROWS, change_rows, &random), 0);
		cr_assert_eq(
		    catalog_check_pages(dir.fd, "catalog", NULL, NULL, NULL), 0, "change %u: %s", i, engine_reason());
	}
	catalog_close(catalog);
	cr_assert_eq(catalog_open(dir.fd, false, &catalog), 0, "%s", engine_reason());
	catalog_close(catalog);
}

struct seen {
	char text[2048];
	size_t len;
};

static int see_object(void *ctx, const struct catalog_object *object)
{
	struct seen *seen = ctx;

	seen->len += (size_t)snprintf(
	    seen->text + seen->len, sizeof(seen->text) - seen->len, "%" PRIu64 " %s\n", object->id, object->name);
	return 0;
}

static void put(struct catalog *catalog, uint64_t id)
{
	struct catalog_object object = { .id = id, .parent_id = 1, .kind = ENGINE_TOPIC };

	snprintf(object.name, sizeof(object.name), "topic%" PRIu64, id);
	(void)catalog_put_object(catalog, &object); /* a damaged row may be in its way */
}

/* Opens the damaged file. False: something is not as it was, and nobody was told. */
static bool try_damaged(const struct seen *good)
{
	struct catalog *catalog = NULL;
	struct seen seen = { 0 };
	int rc = catalog_open(dir.fd, false, &catalog);
	bool told;

	if (rc < 0)
		return rc == -EUCLEAN && engine_reason()[0] != '\0';
	told = catalog_damaged(catalog) > 0;
	rc = catalog_each_object(catalog, see_object, &seen);
	put(catalog, 100);
	put(catalog, 101);
	catalog_close(catalog);
	return told || (rc == 0 && strcmp(seen.text, good->text) == 0);
}

/* tests/long/long_damage does it to every bit, in a whole store. */
Test(catalog_pages, finds_turned_bits)
{
	struct catalog *catalog = make_catalog();
	struct seen good = { 0 };
	uint8_t *bytes;
	size_t size;

	for (uint64_t id = 10; id < 40; id++)
		put(catalog, id);
	cr_assert_eq(catalog_each_object(catalog, see_object, &good), 0);
	catalog_close(catalog);
	bytes = tmpdir_get(dir.fd, "catalog", &size);
	for (size_t bit = 0; bit < size * 8; bit += 97) {
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		tmpdir_put(dir.fd, "catalog", bytes, size);
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		cr_assert(try_damaged(&good), "bit %zu", bit);
	}
	/* All of what LMDB begins with; a bit of the number of the last transaction would bring back the state before it. */
	for (size_t bit = 16 * 8; bit < (16 + 136) * 8; bit++) {
		for (size_t meta = 0; meta < 2; meta++) {
			size_t at = meta * 4096 + bit / 8;

			bytes[at] ^= (uint8_t)(1 << bit % 8);
			tmpdir_put(dir.fd, "catalog", bytes, size);
			bytes[at] ^= (uint8_t)(1 << bit % 8);
			cr_assert(try_damaged(&good), "bit %zu of meta %zu", bit, meta);
		}
	}
	free(bytes);
}

/* ---- a file that is made by hand: two metas, and the pages that they tell of ---- */

enum { PAGE = 4096, PAGES = 8, FREE_LEAF = 2, ROWS_BRANCH = 3, FIRST_LEAF = 4, SECOND_LEAF = 5, LONG_VALUE = 6 };
enum { LONG_SIZE = 6000, IS_BRANCH = 1, IS_LEAF = 2, IS_LONG = 4, IN_LONG = 1 };
#define FREE_TREE (16 + 24) /* in a meta */
#define ROWS_TREE (16 + 72)
#define LAST_PAGE (16 + 120)
#define LAST_TXN (16 + 128)

static uint8_t file[PAGES][PAGE];

/* What sysconf() says of the size of pages; 0: the truth. The engine's calls come here. */
static long system_page;

long sysconf(int name)
{
	static long (*real)(int name);

	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "sysconf");
	return name == _SC_PAGESIZE && system_page != 0 ? system_page : real(name);
}

static void put16(uint8_t *at, uint32_t value)
{
	at[0] = (uint8_t)value;
	at[1] = (uint8_t)(value >> 8);
}

static uint32_t get16(const uint8_t *at)
{
	return at[0] | (uint32_t)at[1] << 8;
}

static void begin_page(unsigned number, uint32_t flags)
{
	memset(file[number], 0, PAGE);
	bytes_put64(file[number], number);
	put16(file[number] + 10, flags);
	put16(file[number] + 12, 16);
	put16(file[number] + 14, PAGE);
}

/* At the end of those there are. size: of the value, or the page that a node of a branch points to. */
static void add_node(unsigned page, const void *key, size_t key_len, const void *value, uint32_t size, uint32_t flags)
{
	bool branch = get16(file[page] + 10) == IS_BRANCH;
	size_t data = branch ? 0 : flags == IN_LONG ? 8 : size, at;
	uint32_t lower = get16(file[page] + 12);

	at = get16(file[page] + 14) - ((8 + key_len + data + 1) & ~(size_t)1);
	put16(file[page] + lower, (uint32_t)at);
	put16(file[page] + 12, lower + 2);
	put16(file[page] + 14, (uint32_t)at);
	bytes_put32(file[page] + at, size);
	put16(file[page] + at + 4, flags);
	put16(file[page] + at + 6, (uint32_t)key_len);
	if (key_len > 0)
		memcpy(file[page] + at + 8, key, key_len);
	if (data > 0)
		memcpy(file[page] + at + 8 + key_len, value, data);
}

static void put_tree(unsigned meta, size_t at, unsigned depth, unsigned branches, unsigned leaves, unsigned overflows,
    unsigned entries, uint64_t root)
{
	put16(file[meta] + at + 6, depth);
	bytes_put64(file[meta] + at + 8, branches);
	bytes_put64(file[meta] + at + 16, leaves);
	bytes_put64(file[meta] + at + 24, overflows);
	bytes_put64(file[meta] + at + 32, entries);
	bytes_put64(file[meta] + at + 40, root);
}

static void free_leaf(const void *key, size_t key_len, const void *list, uint32_t size)
{
	begin_page(FREE_LEAF, IS_LEAF);
	add_node(FREE_LEAF, key, key_len, list, size, 0);
	put_tree(0, FREE_TREE, 1, 0, 1, 0, 1, FREE_LEAF);
	bytes_put64(file[0] + LAST_PAGE, SECOND_LEAF);
}

static const uint8_t second[8] = { 2 }; /* the number of a transaction */

static void make_file(void)
{
	static const uint8_t at_long[8] = { LONG_VALUE };
	uint8_t *real;
	size_t size;

	(void)catalog_create(dir.fd, &owner); /* or it is there: its metas are all that is used of it */
	real = tmpdir_get(dir.fd, "catalog", &size);
	for (unsigned meta = 0; meta < 2; meta++) {
		memcpy(file[meta], real + (size_t)meta * PAGE, PAGE);
		put_tree(meta, FREE_TREE, 0, 0, 0, 0, 0, UINT64_MAX);
		put_tree(meta, ROWS_TREE, 0, 0, 0, 0, 0, UINT64_MAX);
		bytes_put64(file[meta] + LAST_PAGE, PAGES - 1);
		bytes_put64(file[meta] + LAST_TXN, 2 - meta);
	}
	put_tree(0, FREE_TREE, 1, 0, 1, 2, 1, FREE_LEAF);
	put_tree(0, ROWS_TREE, 2, 1, 2, 0, 4, ROWS_BRANCH);
	begin_page(FREE_LEAF, IS_LEAF);
	add_node(FREE_LEAF, second, 8, at_long, LONG_SIZE, IN_LONG);
	begin_page(ROWS_BRANCH, IS_BRANCH);
	add_node(ROWS_BRANCH, NULL, 0, NULL, FIRST_LEAF, 0);
	add_node(ROWS_BRANCH, "m", 1, NULL, SECOND_LEAF, 0);
	begin_page(FIRST_LEAF, IS_LEAF);
	add_node(FIRST_LEAF, "aa", 2, "value", 5, 0);
	add_node(FIRST_LEAF, "ab", 2, "value", 6, 0);
	begin_page(SECOND_LEAF, IS_LEAF);
	add_node(SECOND_LEAF, "m", 1, "value", 5, 0);
	add_node(SECOND_LEAF, "n", 1, "", 0, 0);
	begin_page(LONG_VALUE, IS_LONG);
	bytes_put32(file[LONG_VALUE] + 12, 2);
	memset(file[LONG_VALUE + 1], 0, PAGE);
	free(real);
}

static int check_file(unsigned pages)
{
	tmpdir_put(dir.fd, "catalog", file, (size_t)pages * PAGE);
	return catalog_check_pages(dir.fd, "catalog", NULL, NULL, NULL);
}

/* One 16-bit number of a page is another: it is refused, with this word. */
Test(catalog_pages, numbers_that_cannot_be)
{
	static const struct {
		unsigned page, at, value;
		const char *word;
	} rows[] = {
		{ 0, 0, 1, "no beginning" },
		{ 0, 10, IS_LEAF, "no beginning" },
		{ 0, FREE_TREE, 0, "no beginning" }, /* the size of pages */
		{ 0, FREE_TREE + 6, 32, "root" },    /* how deep it is */
		{ 0, ROWS_TREE + 6, 0, "root" },
		{ 0, ROWS_TREE + 8, 2, "entries" },
		{ 0, ROWS_TREE + 16, 3, "entries" },
		{ 0, FREE_TREE + 24, 1, "entries" },
		{ 0, ROWS_TREE + 32, 5, "entries" },
		{ 0, ROWS_TREE + 40, 1, "there is not" },
		{ 0, ROWS_TREE + 40, 9, "there is not" },
		{ 0, LAST_TXN, 4, "transactions" },
		{ 0, LAST_PAGE + 2, 2, "short" },
		{ FREE_LEAF, 10, IS_BRANCH, "no leaf" },
		{ FREE_LEAF, 12, 16, "no leaf" }, /* it has none */
		{ FREE_LEAF, 12, 17, "no leaf" },
		{ FREE_LEAF, 12, 14, "no leaf" },
		{ FREE_LEAF, 12, PAGE, "no leaf" },
		{ FREE_LEAF, 14, PAGE + 2, "no leaf" },
		{ FREE_LEAF, 14, PAGE - 26, "no leaf" },
		{ FREE_LEAF, 16, PAGE - 23, "no leaf" }, /* where the node is */
		{ FREE_LEAF, 16, PAGE - 6, "no leaf" },
		{ FREE_LEAF, 16, 100, "no leaf" },
		{ FREE_LEAF, PAGE - 24 + 4, 3, "no leaf" }, /* its flags */
		{ FREE_LEAF, PAGE - 24 + 6, 7, "no leaf" }, /* the length of its key */
		{ FREE_LEAF, PAGE - 24 + 6, 6, "no leaf" },
		{ FREE_LEAF, PAGE - 24 + 8, 3, "transaction" },
		{ FREE_LEAF, PAGE - 24 + 16, 4, "no long value" },
		{ FREE_LEAF, PAGE - 24 + 16, 0, "there is not" },
		{ FREE_LEAF, PAGE - 24 + 16, 7, "says that it is another" },
		{ ROWS_BRANCH, 10, IS_LEAF, "no branch" },
		{ ROWS_BRANCH, 12, 18, "no branch" },
		{ ROWS_BRANCH, PAGE - 8, 7, "two places" },
		{ ROWS_BRANCH, PAGE - 8 - 2, 'z', "no leaf" }, /* the key of the second: its leaf has those before */
		{ ROWS_BRANCH, PAGE - 8 - 2, 'a', "no leaf" }, /* the leaf before has those behind */
		{ ROWS_BRANCH, PAGE - 8 - 10 + 6, 0, "no branch" },
		{ FIRST_LEAF, PAGE - 16 + 8, 'a' | 'c' << 8, "no leaf" }, /* disorder */
		{ FIRST_LEAF, PAGE - 16 + 8, 'a' | 'b' << 8, "no leaf" }, /* twice the same */
		{ FIRST_LEAF, 18, PAGE - 16, "no leaf" },                 /* the same node */
		{ SECOND_LEAF, 0, FIRST_LEAF, "another" },
		{ LONG_VALUE, 10, IS_LEAF, "no long value" },
		{ LONG_VALUE, 12, 1, "no long value" },
		{ LONG_VALUE, 12, 3, "no long value" },
	};
	uint8_t good[2];

	make_file();
	cr_assert_eq(check_file(PAGES), 0, "%s", engine_reason());
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t *at = file[rows[i].page] + rows[i].at;
		int rc;

		memcpy(good, at, 2);
		put16(at, rows[i].value);
		rc = check_file(PAGES);
		memcpy(at, good, 2);
		cr_assert(rc == -EUCLEAN && strstr(engine_reason(), rows[i].word) != NULL, "row %zu: %d %s", i, rc,
		    engine_reason());
	}
	cr_assert_eq(check_file(PAGES), 0);
	for (unsigned pages = 0; pages < PAGES; pages++)
		cr_assert_eq(check_file(pages), -EUCLEAN, "%u pages", pages);
	bytes_put64(file[0] + LAST_TXN, 0);
	bytes_put64(file[1] + LAST_TXN, 0);
	cr_assert_eq(check_file(PAGES), -EUCLEAN, "rows, of no transaction");
	for (unsigned i = 0; i < 2; i++)
		for (unsigned tree = FREE_TREE; tree <= ROWS_TREE; tree += ROWS_TREE - FREE_TREE) {
			memset(file[i] + tree + 6, 0, 34); /* its depth, what it has */
			memset(file[i] + tree + 40, 0xff, 8);
		}
	cr_assert_eq(check_file(PAGES), 0, "it is as LMDB begins: %s", engine_reason());
}

/* Lists of free pages: keys and lengths that there are not, a count beyond its end, disorder, a page twice. */
Test(catalog_pages, lists_that_cannot_be)
{
	static const struct {
		size_t key_len;
		uint32_t size;
		uint64_t list[3];
		int rc;
	} rows[] = {
		{ 8, 8, { 0 }, 0 },
		{ 8, 16, { 0, 77 }, 0 },
		{ 8, 0, { 0 }, -EUCLEAN },
		{ 8, 4, { 0 }, -EUCLEAN },
		{ 8, 12, { 0 }, -EUCLEAN },
		{ 8, 8, { 1 }, -EUCLEAN },
		{ 8, 8, { UINT64_MAX }, -EUCLEAN },
		{ 7, 8, { 0 }, -EUCLEAN },
		{ 0, 8, { 0 }, -EUCLEAN },
		{ 8, 24, { 2, 4, 5 }, -EUCLEAN },
		{ 8, 16, { 1, FREE_LEAF }, -EUCLEAN },
		{ 8, 16, { 1, FIRST_LEAF }, -EUCLEAN },
	};

	make_file();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		free_leaf(second, rows[i].key_len, rows[i].list, rows[i].size);
		cr_assert_eq(check_file(PAGES), rows[i].rc, "row %zu: %s", i, engine_reason());
	}
}

/* Pages that are whole and have no node, or one where a branch has two, or keys in disorder. */
Test(catalog_pages, trees_that_cannot_be)
{
	make_file();
	begin_page(FREE_LEAF, IS_LEAF);
	cr_assert_eq(check_file(PAGES), -EUCLEAN);
	make_file();
	begin_page(ROWS_BRANCH, IS_BRANCH);
	add_node(ROWS_BRANCH, NULL, 0, NULL, FIRST_LEAF, 0);
	cr_assert_eq(check_file(PAGES), -EUCLEAN);
	add_node(ROWS_BRANCH, "m", 1, NULL, SECOND_LEAF, 0);
	cr_assert_eq(check_file(PAGES), 0);
	add_node(ROWS_BRANCH, "k", 1, NULL, LONG_VALUE, 0);
	cr_assert_eq(check_file(PAGES), -EUCLEAN);
	cr_assert_not_null(strstr(engine_reason(), "no branch"), "%s", engine_reason());
}

/* Two long values that share a page. */
Test(catalog_pages, long_values_share_a_page)
{
	static const uint8_t first[8] = { 1 }, here[8] = { LONG_VALUE + 1 }, before[8] = { LONG_VALUE };

	make_file();
	begin_page(FREE_LEAF, IS_LEAF);
	add_node(FREE_LEAF, first, 8, here, 16, IN_LONG);
	add_node(FREE_LEAF, second, 8, before, LONG_SIZE, IN_LONG);
	begin_page(LONG_VALUE + 1, IS_LONG);
	bytes_put32(file[LONG_VALUE + 1] + 12, 1);
	put_tree(0, FREE_TREE, 1, 0, 1, 3, 2, FREE_LEAF);
	cr_assert_eq(check_file(PAGES), -EUCLEAN);
	cr_assert_not_null(strstr(engine_reason(), "two places"), "%s", engine_reason());
}

/* Pages larger than LMDB knows, of a system that has such; and no file. */
Test(catalog_pages, pages_of_the_system)
{
	make_file();
	bytes_put32(file[0] + FREE_TREE, 77);
	system_page = 65536;
	cr_assert_eq(check_file(PAGES), -EUCLEAN);
	system_page = 0;
	cr_assert_not_null(strstr(engine_reason(), "pages of a size"), "%s", engine_reason());
	cr_assert_eq(catalog_check_pages(dir.fd, "none", NULL, NULL, NULL), -ENOENT);
}

/* Whatever cannot be read, or no memory had: it says so. */
Test(catalog_pages, looking_fails)
{
	make_file();
	for (int means = MEANS_MEMORY; means <= MEANS_READS; means++) {
		bool reached = true;

		for (uint64_t n = 1; reached; n++) {
			int rc;

			tmpdir_put(dir.fd, "catalog", file, sizeof(file));
			means_arm(means, n);
			rc = catalog_check_pages(dir.fd, "catalog", NULL, NULL, NULL);
			reached = means_disarm(means, n);
			cr_assert_eq(rc,
			    !reached               ? 0
			    : means == MEANS_READS ? -EIO
						   : -ENOMEM,
			    "kind %d, call %d", means, (int)n);
		}
	}
}
