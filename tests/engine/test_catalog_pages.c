/*
 * Tests of engine/catalog_pages: what LMDB writes is always found whole; a turned bit is found, or changes nothing, and never hurts LMDB.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/catalog.h"
#include "engine/catalog_internal.h"
#include "engine/catalog_pages.h"
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
		    catalog_check_pages(dir.fd, "catalog", NULL, NULL), 0, "change %u: %s", i, engine_reason());
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
