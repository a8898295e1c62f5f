/*
 * Tests of engine/catalog_panic: the last write of a commit fails, in LMDB itself, once or from then on. Among threads: tests/stress/catalog_panic.c.
 *
 * LMDB's own pwrite() is the one here, as this program's symbols come before those of the libraries.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/catalog.h"
#include "engine/catalog_internal.h"
#include "engine/io.h"
#include "tests/lib/catalogbox.h"

#define METAS_END 8192
#define TXN_AT (16 + 128) /* in a meta page: the number of its transaction */

static atomic_int good_metas; /* so many writes of a meta go well */
static atomic_int bad_metas;  /* so many fail then */

ssize_t pwrite_of_lmdb(int fd, const void *buf, size_t size, off_t pos) __asm__("pwrite");
ssize_t pwrite_of_lmdb(int fd, const void *buf, size_t size, off_t pos)
{
	if (pos < METAS_END && atomic_fetch_sub(&good_metas, 1) <= 0 && atomic_fetch_sub(&bad_metas, 1) > 0) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_pwrite64, fd, buf, size, pos);
}

struct told {
	unsigned count;
	char text[256];
};

static void tell(void *ctx, int err, const char *text)
{
	struct told *told = ctx;

	(void)err;
	told->count++;
	snprintf(told->text, sizeof(told->text), "%s", text);
}

static int put(struct catalog *catalog, uint64_t id)
{
	struct catalog_object object = { .id = id, .parent_id = 1, .kind = ENGINE_TOPIC };

	snprintf(object.name, sizeof(object.name), "topic%" PRIu64, id);
	return catalog_put_object(catalog, &object);
}

static int see(void *ctx, const struct catalog_object *object)
{
	char *text = ctx;

	snprintf(text + strlen(text), 1024 - strlen(text), "%" PRIu64 " ", object->id);
	return 0;
}

static void expect(struct catalog *catalog, const char *ids)
{
	char text[1024] = "";

	cr_assert_eq(catalog_each_object(catalog, see, text), 0);
	cr_assert_str_eq(text, ids);
}

TestSuite(catalog_panic, .init = catalogbox_init, .fini = catalogbox_fini, .timeout = 60);

/* The change says so and was not made; what comes after is as ever, over a remount, and the copy is in step. */
Test(catalog_panic, one_bad_write)
{
	struct catalog *catalog = catalogbox_make();
	struct catalog_copied copied;
	struct told told = { 0 };

	catalog_set_notify(catalog, (struct engine_notify){ tell, &told });
	for (unsigned even = 0; even < 2; even++) { /* each of the two metas */
		cr_assert_eq(put(catalog, 10 + even), 0);
		bad_metas = 1;
		cr_assert_eq(put(catalog, 20), -EIO);
		cr_assert_leq(bad_metas, 0);
		expect(catalog, even ? "1 10 11 " : "1 10 ");
	}
	cr_assert_eq(put(catalog, 20), 0);
	cr_assert_eq(told.count, 0);
	cr_assert(!catalog_has_failed(catalog));
	expect(catalog, "1 10 11 20 ");
	cr_assert_eq(catalog_keep_copy(catalog, 1), 0);
	cr_assert_eq(put(catalog, 21), 0);
	cr_assert_eq(catalog_look_at_copy(catalogbox_dir.fd, &copied), 0);
	cr_assert_eq(copied.change, catalog_last_change(catalog));
	catalog_close(catalog);
	catalog = catalogbox_open();
	expect(catalog, "1 10 11 20 21 ");
	catalog_close(catalog);
}

/* A map that has grown is not less afterwards. */
static int put_much(struct catalog_txn *txn, void *arg)
{
	char value[1000];
	int err = 0;

	(void)arg;
	memset(value, 'x', sizeof(value));
	for (uint32_t i = 0; i < 80000 && !err; i++) {
		struct catalog_key key;

		catalog_key_init(&key, CATALOG_SETTING, 7);
		catalog_key_add_be32(&key, i);
		err = catalog_put_row(txn, &key, value, sizeof(value));
	}
	return err;
}

Test(catalog_panic, with_a_map_that_has_grown)
{
	struct catalog *catalog = catalogbox_make();

	cr_assert_eq(catalog_change(catalog, CATALOG_GROWS, put_much, NULL), 0);
	bad_metas = 1;
	cr_assert_eq(put(catalog, 20), -EIO);
	cr_assert_eq(catalog_change(catalog, CATALOG_GROWS, put_much, NULL), 0);
	cr_assert_eq(put(catalog, 20), 0);
	catalog_close(catalog);
	catalog = catalogbox_open();
	expect(catalog, "1 20 ");
	catalog_close(catalog);
}

static ssize_t bad_write(int fd, const struct iovec *iov, int count, off_t pos)
{
	(void)fd, (void)iov, (void)count, (void)pos;
	return -EIO;
}

static int bad_sync(int fd)
{
	(void)fd;
	return -EIO;
}

/* Nor can it be put right: it is read, and each change is EIO. It is told once. The next mount has the state before the change. */
Test(catalog_panic, disk_stays_bad)
{
	for (unsigned i = 0; i < 2; i++) {
		struct catalog *catalog = i == 0 ? catalogbox_make() : catalogbox_open();
		struct told told = { 0 };
		struct io_ops bad;

		catalog_set_notify(catalog, (struct engine_notify){ tell, &told });
		cr_assert_eq(put(catalog, 10 + i), 0);
		if (i == 0)
			cr_assert_eq(catalog_keep_copy(catalog, 1), 0);
		bad_metas = 1;
		bad = io_posix;
		if (i == 0)
			bad.pwritev = bad_write;
		else
			bad.fdatasync = bad_sync;
		io = &bad;
		cr_assert_eq(put(catalog, 20), -EIO);
		io = &io_posix;
		cr_assert(catalog_has_failed(catalog));
		cr_assert_eq(told.count, 1);
		cr_assert_str_eq(told.text, CATALOG_FAILED);
		cr_assert_eq(put(catalog, 21), -EIO); /* although the disk would take it */
		cr_assert_eq(catalog_keep_copy(catalog, 1), 0);
		expect(catalog, i == 0 ? "1 10 " : "1 10 11 ");
		cr_assert_eq(told.count, 1);
		catalog_close(catalog);
	}
	struct catalog *catalog = catalogbox_open();
	expect(catalog, "1 10 11 ");
	cr_assert_eq(put(catalog, 20), 0);
	catalog_close(catalog);
	catalog = catalogbox_open();
	expect(catalog, "1 10 11 20 ");
	catalog_close(catalog);
}

/* What LMDB wrote back does not come to the disk either. The new page is there then, and nobody may see it before it is sure. */
Test(catalog_panic, old_number_is_not_written_back)
{
	struct catalog *catalog = catalogbox_make();

	cr_assert_eq(put(catalog, 10), 0);
	bad_metas = 2;
	cr_assert_eq(put(catalog, 20), -EIO);
	cr_assert_leq(bad_metas, 0);
	expect(catalog, "1 10 ");
	cr_assert_eq(put(catalog, 21), 0);
	catalog_close(catalog);
	catalog = catalogbox_open();
	expect(catalog, "1 10 21 ");
	catalog_close(catalog);
}

/* The same bytes by a turned bit, in the last change's number: it was made, as the copy says, and is not lost without a word. */
Test(catalog_panic, a_turned_bit_is_no_bad_write)
{
	struct catalog *catalog = catalogbox_make();
	uint64_t change;
	uint8_t number[8];
	int fd;

	cr_assert_eq(catalog_keep_copy(catalog, 1), 0);
	do
		cr_assert_eq(put(catalog, 10 + catalog_last_change(catalog)), 0);
	while ((catalog_last_change(catalog) & 2) == 0);
	change = catalog_last_change(catalog);
	catalog_close(catalog);
	fd = openat(catalogbox_dir.fd, "catalog", O_RDWR);
	bytes_put64(number, change - 2);
	cr_assert_eq(syscall(SYS_pwrite64, fd, number, 8, (change & 1) * 4096 + TXN_AT), 8);
	cr_assert_eq(catalog_open(catalogbox_dir.fd, false, &catalog), -EUCLEAN);
	cr_assert_str_eq(engine_reason(), "the catalog is damaged: the number of its last transaction");
	/* Where there is no copy to say it, as well. */
	cr_assert_eq(unlinkat(catalogbox_dir.fd, "catalog.copy", 0), 0);
	cr_assert_eq(catalog_open(catalogbox_dir.fd, false, &catalog), -EUCLEAN);
	close(fd);
}

/* While it is opened anew it cannot be opened: each call is EIO, and nothing crashes. */
Test(catalog_panic, cannot_be_opened_anew)
{
	struct catalog *catalog = catalogbox_make();
	struct told told = { 0 };
	char text[1024] = "";

	catalog_set_notify(catalog, (struct engine_notify){ tell, &told });
	cr_assert_eq(put(catalog, 10), 0);
	cr_assert_eq(renameat(catalogbox_dir.fd, "catalog", catalogbox_dir.fd, "away"), 0);
	bad_metas = 1;
	cr_assert_eq(put(catalog, 20), -EIO);
	cr_assert_eq(put(catalog, 20), -EIO);
	cr_assert_eq(catalog_each_object(catalog, see, text), -EIO);
	cr_assert_eq(catalog_keep_copy(catalog, 1), -EIO);
	cr_assert_eq(catalog_last_change(catalog), 0);
	cr_assert(catalog_has_failed(catalog));
	cr_assert_eq(told.count, 1);
	catalog_close(catalog);
	cr_assert_eq(renameat(catalogbox_dir.fd, "away", catalogbox_dir.fd, "catalog"), 0);
}

/* One that is being made is thrown away. */
Test(catalog_panic, while_it_is_made)
{
	for (int n = 0;; n++) {
		good_metas = n;
		bad_metas = 1;
		if (catalog_create(catalogbox_dir.fd, &catalogbox_owner) == 0) {
			cr_assert_eq(bad_metas, 1);
			cr_assert_geq(n, 2);
			break;
		}
		cr_assert_neq(faccessat(catalogbox_dir.fd, "catalog", F_OK, 0), 0);
		cr_assert_neq(faccessat(catalogbox_dir.fd, "catalog.new", F_OK, 0), 0);
	}
	bad_metas = 0;
	catalog_close(catalogbox_open());
}
