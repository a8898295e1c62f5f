/*
 * catalog_copy - writing and reading the copy of the catalog. See catalog_copy.h.
 */
#include "engine/catalog_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/clock.h"
#include "engine/crc32c.h"
#include "engine/io.h"
#include "engine/store_guard.h"

#define MAGIC "MQFSCOPY"
#define VERSION 1u
#define HEADER 64u
#define BATCH_HEADER 32u
#define BATCH_ROWS (64u << 10) /* bytes of rows in one batch where all are written */
#define GROWS_BY (1u << 20)    /* beyond twice what it began with, before it is written anew */
#define REMOVED 0xffffu
#define ROOM_FIRST 4096u
#define ROOM_KEPT (64u << 10)

_Static_assert(CATALOG_ROW_MAX < REMOVED, "the length of a value fits");

struct copy {
	int dirfd, fd;                /* fd: -1 if there is none */
	bool behind;                  /* it lacks a change */
	bool unsynced;                /* something was written since the last sync */
	struct catalog_copied copied; /* what is in it */
	uint8_t uuid[16];             /* of the store it is in; zeros: of none yet */
	uint8_t of_uuid[16];          /* that it says; zeros: it is from before copies said so */
	uint64_t base;                /* bytes of it in which all rows are */
	uint32_t chain;               /* CRC of the last batch */
	struct catalog_batch batch;   /* of the change that is being made; its memory is kept */
};

/* ---- batches ---- */

static bool make_room(struct catalog_batch *batch, size_t more)
{
	size_t room = batch->room > 0 ? batch->room : ROOM_FIRST;
	uint8_t *grown;

	if (batch->len == 0)
		batch->len = BATCH_HEADER;
	while (room - batch->len < more)
		room *= 2;
	if (room == batch->room)
		return true;
	grown = realloc(batch->bytes, room);
	if (grown == NULL)
		return false;
	batch->bytes = grown;
	batch->room = room;
	return true;
}

/* Of the indexes of keys, which follow from the logs? */
static bool is_left_out(const MDB_val *key)
{
	uint8_t table = *(const uint8_t *)key->mv_data;

	return table == CATALOG_KEY || table == CATALOG_KEYED;
}

void catalog_batch_add(struct catalog_batch *batch, const MDB_val *key, const MDB_val *value)
{
	uint32_t lengths;
	uint8_t *out;

	if (batch == NULL || batch->failed || is_left_out(key))
		return;
	if (!make_room(batch, 4 + key->mv_size + (value != NULL ? value->mv_size : 0))) {
		batch->failed = true;
		return;
	}
	out = batch->bytes + batch->len;
	lengths = (uint32_t)key->mv_size | (value != NULL ? (uint32_t)value->mv_size : REMOVED) << 16;
	bytes_put32(out, lengths);
	memcpy(out + 4, key->mv_data, key->mv_size);
	batch->len += 4 + key->mv_size;
	if (value == NULL)
		return;
	memcpy(out + 4 + key->mv_size, value->mv_data, value->mv_size);
	batch->len += value->mv_size;
}

void catalog_batch_release(struct catalog_batch *batch)
{
	free(batch->bytes);
	*batch = (struct catalog_batch){ 0 };
}

static uint32_t batch_crc(uint32_t chain, const uint8_t *batch, size_t len)
{
	uint8_t before[4];

	bytes_put32(before, chain);
	return crc32c(crc32c(0, before, 4), batch + 4, len - 4);
}

/* Writes it at the end of what copied and chain say, which then say what is there with it. */
static int write_batch(
    int fd, struct catalog_batch *batch, uint64_t change, struct catalog_copied *copied, uint32_t *chain)
{
	int64_t now = clock_wall_ms();
	int err;

	if (!make_room(batch, 0))
		return -ENOMEM;
	bytes_put32(batch->bytes + 4, (uint32_t)(batch->len - BATCH_HEADER));
	bytes_put64(batch->bytes + 8, change);
	bytes_put64(batch->bytes + 16, copied->journal);
	bytes_put64(batch->bytes + 24, (uint64_t)now);
	bytes_put32(batch->bytes, batch_crc(*chain, batch->bytes, batch->len));
	err = io_pwrite_all(fd, batch->bytes, batch->len, (off_t)copied->size);
	if (err)
		return err;
	*chain = bytes_get32(batch->bytes);
	copied->size += batch->len;
	copied->change = change;
	copied->time_ms = now;
	batch->len = BATCH_HEADER;
	return 0;
}

/* ---- reading ---- */

static int read_rows(const uint8_t *rows, size_t len, uint64_t change, catalog_copy_row *row, void *ctx)
{
	int rc = 0;

	for (size_t pos = 0; pos < len && !rc;) {
		uint32_t lengths = len - pos >= 4 ? bytes_get32(rows + pos) : 0;
		struct engine_span key = { (const char *)rows + pos + 4, lengths & 0xffff }, value = { NULL, 0 };
		size_t size = lengths >> 16 == REMOVED ? 0 : lengths >> 16;

		if (key.len == 0 || len - pos - 4 < key.len + size)
			return engine_explain(-EUCLEAN, "the copy of the catalog has a row that is none");
		if (lengths >> 16 != REMOVED)
			value = (struct engine_span){ key.ptr + key.len, size };
		pos += 4 + key.len + size;
		rc = row != NULL ? row(ctx, change, key, value) : 0;
	}
	return rc;
}

/* The batch at the end of what was read. ENODATA: there is no whole one; it is the caller's to free. */
static int read_batch(int fd, uint64_t size, const struct copy *copy, uint8_t **ret_batch, size_t *ret_len)
{
	uint8_t header[BATCH_HEADER], *batch;
	uint64_t at = copy->copied.size, len;
	int err;

	if (size - at < BATCH_HEADER)
		return -ENODATA;
	err = io_pread_all(fd, header, sizeof(header), (off_t)at);
	len = BATCH_HEADER + (uint64_t)bytes_get32(header + 4);
	if (err || len > size - at)
		return err ? err : -ENODATA;
	batch = malloc((size_t)len);
	if (batch == NULL)
		return -ENOMEM;
	err = io_pread_all(fd, batch, (size_t)len, (off_t)at);
	if (!err && bytes_get32(batch) != batch_crc(copy->chain, batch, (size_t)len))
		err = -ENODATA;
	if (err) {
		free(batch);
		return err;
	}
	*ret_batch = batch;
	*ret_len = (size_t)len;
	return 0;
}

static int get_header(int fd, uint8_t header[HEADER])
{
	int err = io_pread_all(fd, header, HEADER, 0);

	if (err && err != -ENODATA)
		return engine_explain(err, "the copy of the catalog cannot be read: %s", strerror(-err));
	if (err || memcmp(header, MAGIC, 8) != 0 || bytes_get32(header + 60) != crc32c(0, header, 60))
		return engine_explain(-EUCLEAN, "the copy of the catalog is damaged, or none");
	if (bytes_get32(header + 8) > VERSION)
		return engine_explain(-EUCLEAN, "the copy of the catalog is of version %u, and this program knows %u",
		    bytes_get32(header + 8), VERSION);
	return 0;
}

static bool is_none(const uint8_t uuid[16])
{
	static const uint8_t none[16];

	return memcmp(uuid, none, sizeof(none)) == 0;
}

int catalog_copy_uuid(int store_dirfd, uint8_t ret_uuid[16])
{
	uint8_t header[HEADER];
	int fd = io_open_existing(store_dirfd, COPY_NAME, O_RDONLY | O_NOFOLLOW), err;

	if (fd < 0)
		return fd;
	err = get_header(fd, header);
	close(fd);
	if (!err && is_none(header + 32))
		err = -ENODATA;
	if (!err)
		memcpy(ret_uuid, header + 32, 16);
	return err;
}

static int read_header(int fd, struct copy *copy)
{
	uint8_t header[HEADER];
	int err = get_header(fd, header);

	if (err)
		return err;
	memcpy(copy->of_uuid, header + 32, sizeof(copy->of_uuid));
	if (!is_none(copy->of_uuid) && memcmp(copy->of_uuid, copy->uuid, sizeof(copy->uuid)) != 0)
		return engine_explain(-EUCLEAN, "the copy of the catalog is that of another store");
	copy->base = bytes_get64(header + 16);
	copy->chain = crc32c(0, header + 24, 8);
	copy->copied.size = HEADER;
	return 0;
}

static int read_all(int fd, uint64_t size, struct copy *copy, catalog_copy_row *row, void *ctx)
{
	int rc = read_header(fd, copy);

	while (!rc) {
		uint8_t *batch;
		size_t len;

		rc = read_batch(fd, size, copy, &batch, &len);
		if (rc)
			break;
		copy->chain = bytes_get32(batch);
		copy->copied.size += len;
		copy->copied.change = bytes_get64(batch + 8);
		copy->copied.journal = bytes_get64(batch + 16);
		copy->copied.time_ms = (int64_t)bytes_get64(batch + 24);
		rc = read_rows(batch + BATCH_HEADER, len - BATCH_HEADER, copy->copied.change, row, ctx);
		free(batch);
	}
	if (rc == -ENODATA)
		rc =
		    copy->copied.size < copy->base ? engine_explain(-EUCLEAN, "the copy of the catalog is damaged") : 0;
	copy->copied.cut = size - copy->copied.size;
	return rc;
}

static void find_uuid(int dirfd, uint8_t ret_uuid[16])
{
	if (store_read_format(dirfd, ".", ret_uuid) < 0) {
		memset(ret_uuid, 0, 16);
		engine_reason_clear();
	}
}

static int open_and_read(int dirfd, struct copy *copy, int flags, catalog_copy_row *row, void *ctx)
{
	struct stat st;

	find_uuid(dirfd, copy->uuid);
	copy->fd = io_open_existing(dirfd, COPY_NAME, flags | O_NOFOLLOW);
	if (copy->fd < 0)
		return engine_explain(copy->fd, "there is no copy of the catalog: %s", strerror(-copy->fd));
	if (fstat(copy->fd, &st) < 0 || !S_ISREG(st.st_mode))
		return engine_explain(-EUCLEAN, "the copy of the catalog is no file");
	return read_all(copy->fd, (uint64_t)st.st_size, copy, row, ctx);
}

int catalog_copy_read(int dirfd, catalog_copy_row *row, void *ctx, struct catalog_copied *ret_copied)
{
	struct copy copy = { .dirfd = dirfd, .fd = -1 };
	int err = open_and_read(dirfd, &copy, O_RDONLY, row, ctx);

	if (copy.fd >= 0)
		close(copy.fd);
	if (!err)
		*ret_copied = copy.copied;
	return err;
}

int catalog_look_at_copy(int store_dirfd, struct catalog_copied *ret_copied)
{
	return catalog_copy_read(store_dirfd, NULL, NULL, ret_copied);
}

/* ---- writing ---- */

struct copy *catalog_copy_open(int dirfd, uint64_t change)
{
	struct copy *copy = calloc(1, sizeof(*copy));
	int err;

	if (copy == NULL)
		return NULL;
	copy->dirfd = dirfd;
	err = open_and_read(dirfd, copy, O_RDWR, NULL, NULL);
	copy->behind = err || copy->copied.cut > 0 || copy->copied.change != change ||
		       memcmp(copy->of_uuid, copy->uuid, sizeof(copy->uuid)) != 0;
	copy->unsynced = true; /* by a daemon before */
	engine_reason_clear();
	if (!make_room(&copy->batch, 0)) {
		catalog_copy_close(copy);
		return NULL;
	}
	return copy;
}

void catalog_copy_close(struct copy *copy)
{
	if (copy == NULL)
		return;
	if (copy->fd >= 0)
		close(copy->fd);
	catalog_batch_release(&copy->batch);
	free(copy);
}

struct catalog_batch *catalog_copy_begin(struct copy *copy)
{
	if (copy == NULL)
		return NULL;
	if (copy->batch.room > ROOM_KEPT)
		catalog_batch_release(&copy->batch);
	copy->batch.len = 0;
	copy->batch.failed = false;
	return &copy->batch;
}

void catalog_copy_fall_behind(struct copy *copy)
{
	copy->behind = true;
}

void catalog_copy_append(struct copy *copy, uint64_t change)
{
	struct catalog_batch *batch = &copy->batch;

	if (copy->behind || copy->copied.change == change) /* the change has changed nothing */
		return;
	copy->unsynced = true;
	copy->behind = batch->failed || write_batch(copy->fd, batch, change, &copy->copied, &copy->chain) != 0;
}

static int write_rows(int fd, const struct catalog_txn *txn, struct copy *new)
{
	struct catalog_batch batch = { 0 };
	uint64_t change = mdb_txn_id(txn->mdb);
	MDB_val key, data;
	MDB_cursor *cursor;
	int err = catalog_errno(mdb_cursor_open(txn->mdb, txn->dbi, &cursor)), rc;

	if (err)
		return err;
	while (!err && (rc = mdb_cursor_get(cursor, &key, &data, MDB_NEXT)) == 0) {
		if (!catalog_row_is_whole(&key, &data)) /* the copy there is may have it */
			err = -EUCLEAN;
		else
			catalog_batch_add(&batch, &key, &data);
		if (!err && batch.failed)
			err = -ENOMEM;
		if (!err && batch.len >= BATCH_ROWS)
			err = write_batch(fd, &batch, change, &new->copied, &new->chain);
	}
	if (!err && rc != MDB_NOTFOUND)
		err = catalog_errno(rc);
	if (!err)
		err = write_batch(fd, &batch, change, &new->copied, &new->chain);
	mdb_cursor_close(cursor);
	catalog_batch_release(&batch);
	return err;
}

/* The header last: it says how much is there. */
static int write_file(int fd, const struct catalog_txn *txn, struct copy *new)
{
	uint8_t header[HEADER] = { 0 };
	int err;

	memcpy(header, MAGIC, 8);
	bytes_put32(header + 8, VERSION);
	bytes_put64(header + 24, (uint64_t)clock_wall_ms());
	memcpy(header + 32, new->uuid, sizeof(new->uuid));
	new->chain = crc32c(0, header + 24, 8);
	new->copied.size = HEADER;
	err = write_rows(fd, txn, new);
	if (err)
		return err;
	new->base = new->copied.size;
	bytes_put64(header + 16, new->base);
	bytes_put32(header + 60, crc32c(0, header, 60));
	err = io_pwrite_all(fd, header, sizeof(header), 0);
	return err ? err : io->fsync(fd);
}

static int write_anew(struct copy *copy, const struct catalog_txn *txn, uint64_t journal)
{
	struct copy new = { .dirfd = copy->dirfd, .copied = { .journal = journal } };
	int err;

	memcpy(new.uuid, copy->uuid, sizeof(new.uuid));
	new.fd = io->open(copy->dirfd, COPY_NEW_NAME, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (new.fd < 0)
		return new.fd;
	err = write_file(new.fd, txn, &new);
	if (!err)
		err = io->rename(copy->dirfd, COPY_NEW_NAME, copy->dirfd, COPY_NAME);
	if (err) {
		close(new.fd);
		io->unlink(copy->dirfd, COPY_NEW_NAME, 0);
		return err;
	}
	if (copy->fd >= 0)
		close(copy->fd);
	new.batch = copy->batch;
	*copy = new;
	return io->fsync(copy->dirfd);
}

/* An empty batch, if there is something to say, and a sync. */
static int settle(struct copy *copy, uint64_t journal)
{
	uint64_t before = copy->copied.journal;
	int err = 0;

	if (journal != before) {
		copy->unsynced = true;
		copy->copied.journal = journal;
		err = write_batch(copy->fd, catalog_copy_begin(copy), copy->copied.change, &copy->copied, &copy->chain);
	}
	if (!err && copy->unsynced)
		err = io->fdatasync(copy->fd);
	if (err) { /* what is in the file is not known */
		copy->copied.journal = before;
		copy->behind = true;
		return err;
	}
	copy->unsynced = false;
	return 0;
}

int catalog_copy_keep(struct copy *copy, const struct catalog_txn *txn, uint64_t journal)
{
	bool is_large = copy->copied.size > 2 * copy->base + GROWS_BY;
	int err = -EUCLEAN;

	if (copy->behind || is_large)
		err = write_anew(copy, txn, journal);
	if (err == -EUCLEAN && !copy->behind) /* it is in step, and a damaged catalog is not to be copied */
		err = settle(copy, journal);
	return err == -EUCLEAN ? 0 : err; /* the damage is told of */
}
