/*
 * journal_replay - reading the files of a journal when it is opened.
 *
 * Format: journal_internal.h. A file is read through a window that holds at least one record of the largest size. Where
 * there is no whole record, the search goes on at every multiple of 8 for the next one: it costs a CRC only where type and
 * size could be those of a record. If one is found, what lies between was damaged (or, without a sync, came too late
 * to the disk) and is reported; if none is, the file ends there, and only cut bytes other than zero are worth a word.
 *
 * What the disk cannot read is treated as damage up to the end of its file; for want of memory nothing is opened. Nothing here is
 * changed on the disk.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/bytes.h"

#include "engine/crc32c.h"
#include "engine/io.h"
#include "engine/journal_internal.h"

#define WINDOW (256u << 10) /* memory for reading; a record of the largest size fits several times */

_Static_assert(WINDOW >= 2 * (JOURNAL_RECORD_MAX + 16), "a record fits into the window wherever it begins");

uint32_t journal_seed(const uint8_t store_uuid[16], uint64_t number)
{
	uint8_t bytes[8];

	bytes_put64(bytes, number);
	return crc32c(crc32c(0, store_uuid, 16), bytes, sizeof(bytes));
}

void journal_file_name(char name[JOURNAL_NAME_SIZE], uint64_t number)
{
	snprintf(name, JOURNAL_NAME_SIZE, "%016" PRIx64, number);
}

/* ------------------------------------------------------------------------------------------- the directory */

static bool parse_name(const char *name, uint64_t *ret_number)
{
	if (strlen(name) != 16 || strspn(name, "0123456789abcdef") != 16)
		return false;
	*ret_number = strtoull(name, NULL, 16);
	return true;
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

int journal_list(int dirfd, uint64_t **ret_numbers, size_t *ret_count)
{
	uint64_t *numbers = NULL, number;
	size_t count = 0, size = 0;
	struct dirent *entry;
	DIR *dir;
	int err;

	err = io_open_dir(dirfd, ".", &dir);
	if (err)
		return err;
	while (errno = 0, (entry = readdir(dir)) != NULL) {
		if (!parse_name(entry->d_name, &number))
			continue;
		if (count == size) {
			uint64_t *more = realloc(numbers, (size = size ? size * 2 : 16) * sizeof(*numbers));

			if (more == NULL)
				break;
			numbers = more;
		}
		numbers[count++] = number;
	}
	err = entry == NULL ? -errno : -ENOMEM;
	closedir(dir);
	if (err) {
		free(numbers);
		return err;
	}
	if (count > 0)
		qsort(numbers, count, sizeof(*numbers), compare_numbers);
	*ret_numbers = numbers;
	*ret_count = count;
	return 0;
}

/* --------------------------------------------------------------------------------------------- one file */

struct reader {
	const struct journal_replay *how;
	uint64_t number;
	uint32_t seed;
	int fd;
	uint8_t *window;
	uint64_t base; /* position in the file of the window's first byte; a multiple of 8 */
	size_t len;    /* bytes in the window */
	int read_err;  /* what ended the file too early, 0 if its end did */
};

static void report(const struct reader *reader, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void report(const struct reader *reader, int err, const char *format, ...)
{
	const struct engine_notify *notify = &reader->how->notify;
	char text[200];
	va_list args;
	int n;

	if (notify->fn == NULL)
		return;
	n = snprintf(text, sizeof(text), "journal %016" PRIx64 ": ", reader->number);
	va_start(args, format);
	vsnprintf(text + n, sizeof(text) - (size_t)n, format, args);
	va_end(args);
	notify->fn(notify->ctx, err, text);
}

/* Makes as many of the `need` bytes at pos available as the file has. Returns how many, at most need. */
static size_t look(struct reader *reader, uint64_t pos, size_t need, const uint8_t **ret_bytes)
{
	if (pos + need > reader->base + reader->len && !reader->read_err) {
		size_t keep = pos < reader->base + reader->len ? (size_t)(reader->base + reader->len - pos) : 0;

		memmove(reader->window, reader->window + (reader->len - keep), keep);
		reader->base = pos;
		reader->len = keep;
		while (reader->len < need) {
			ssize_t n = io->pread(reader->fd, reader->window + reader->len, WINDOW - reader->len,
			    (off_t)(reader->base + reader->len));
			if (n < 0)
				reader->read_err = (int)-n;
			if (n <= 0)
				break;
			reader->len += (size_t)n;
		}
	}
	if (pos >= reader->base + reader->len)
		return 0;
	*ret_bytes = reader->window + (pos - reader->base);
	return reader->base + reader->len - pos < need ? (size_t)(reader->base + reader->len - pos) : need;
}

/* The record at pos, or NULL if there is no whole one; ret_size: of its body. */
static const uint8_t *record_at(struct reader *reader, uint64_t pos, size_t *ret_size)
{
	const uint8_t *record;
	size_t size, bytes;
	uint32_t type;

	if (look(reader, pos, JOURNAL_RECORD_HEADER, &record) < JOURNAL_RECORD_HEADER)
		return NULL;
	type = bytes_get32(record + 4) & 0xffff;
	if (type == 0 || type > JOURNAL_TYPE_MAX)
		return NULL;
	size = bytes_get32(record + 4) >> 16;
	bytes = journal_record_bytes(size);
	if (look(reader, pos, bytes, &record) < bytes)
		return NULL;
	if (bytes_get32(record) != crc32c(reader->seed, record + 4, bytes - 4))
		return NULL;
	*ret_size = size;
	return record;
}

/*
 * Position of the first whole record at or after pos; if there is none, the end of the file, and ret_cut says how many
 * bytes from pos on, up to the last one that is not zero, are lost with that.
 */
static uint64_t find_record(struct reader *reader, uint64_t pos, uint64_t *ret_cut)
{
	uint64_t start = pos, last = pos;
	const uint8_t *bytes;
	size_t size, n;

	while ((n = look(reader, pos, 8, &bytes)) > 0) {
		for (size_t i = 0; i < n; i++) {
			if (bytes[i] != 0)
				last = pos + i + 1;
		}
		if (n < 8) {
			pos += n;
			break;
		}
		if (record_at(reader, pos, &size) != NULL)
			break;
		pos += 8;
	}
	*ret_cut = last - start;
	return pos;
}

static bool all_zero(const uint8_t *bytes, size_t size)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

/*
 * A header that is damaged is reported and no more: what the records need of it is known without it. One that is not
 * there at all is what a crash leaves of a file that was just being made; but not of the one that the catalog names.
 */
static int check_header(struct reader *reader)
{
	const uint8_t *header = NULL;
	size_t n = look(reader, 0, JOURNAL_HEADER, &header);

	if (reader->read_err && !io_is_damage(-reader->read_err))
		return -reader->read_err;
	if (n == 0 || all_zero(header, n)) {
		if (reader->number == reader->how->from && !reader->read_err)
			report(reader, EIO, "it is empty: what it said is lost");
		return 0;
	}
	if (n < JOURNAL_HEADER || memcmp(header, JOURNAL_MAGIC, 8) != 0 ||
	    bytes_get32(header + 60) != crc32c(0, header, 60)) {
		report(reader, EIO, "its header is damaged");
		return 0;
	}
	if (bytes_get32(header + 8) > JOURNAL_FORMAT)
		return engine_explain(-EUCLEAN,
		    "journal %016" PRIx64 " is of format %u, and this program knows up to %u", reader->number,
		    bytes_get32(header + 8), JOURNAL_FORMAT);
	if (memcmp(header + 16, reader->how->store_uuid, 16) != 0 || bytes_get64(header + 32) != reader->number)
		return engine_explain(
		    -EUCLEAN, "journal %016" PRIx64 " belongs to another store, or had another name", reader->number);
	return 0;
}

static int replay_records(struct reader *reader, uint64_t *ret_end)
{
	uint64_t pos = JOURNAL_HEADER;
	const uint8_t *record;
	size_t size;
	int err = 0;

	for (;;) {
		record = record_at(reader, pos, &size);
		if (record == NULL) {
			uint64_t cut, next = find_record(reader, pos, &cut);

			record = record_at(reader, next, &size);
			if (reader->read_err && !io_is_damage(-reader->read_err))
				return -reader->read_err;
			if (record == NULL) {
				if (cut > 0)
					report(reader, 0,
					    "%" PRIu64 " bytes at its end are no whole record, and were left out", cut);
				break;
			}
			report(reader, EIO, "%" PRIu64 " bytes at %" PRIu64 " are damaged, and were left out",
			    next - pos, pos);
			pos = next;
		}
		err = reader->how->replay(reader->how->ctx, (enum journal_type)(bytes_get32(record + 4) & 0xffff),
		    record + JOURNAL_RECORD_HEADER, size);
		if (err < 0)
			return err;
		pos += journal_record_bytes(size);
	}
	if (reader->read_err)
		report(reader, reader->read_err, "it cannot be read beyond %" PRIu64 ": %s", pos,
		    strerror(reader->read_err));
	*ret_end = reader->read_err ? 0 : pos;
	return 0;
}

int journal_replay_file(const struct journal_replay *how, uint64_t number, uint64_t *ret_end)
{
	struct reader reader = { .how = how, .number = number, .seed = journal_seed(how->store_uuid, number) };
	char name[JOURNAL_NAME_SIZE];
	int err;

	journal_file_name(name, number);
	reader.fd = io_open_existing(how->dirfd, name, O_RDONLY | O_NOFOLLOW);
	if (reader.fd < 0)
		return engine_explain(
		    reader.fd, "journal %016" PRIx64 " cannot be opened: %s", number, strerror(-reader.fd));
	reader.window = malloc(WINDOW);
	err = reader.window == NULL ? -ENOMEM : check_header(&reader);
	if (!err)
		err = replay_records(&reader, ret_end);
	free(reader.window);
	close(reader.fd);
	return err;
}

/* ---- of which store it is ---- */

/* The uuid of a whole header. EBADMSG: it is none. */
static int uuid_of(int dirfd, uint64_t number, uint8_t ret_uuid[16])
{
	char name[JOURNAL_NAME_SIZE];
	uint8_t header[JOURNAL_HEADER];
	int fd, err;

	journal_file_name(name, number);
	fd = io_open_existing(dirfd, name, O_RDONLY | O_NOFOLLOW);
	err = fd < 0 ? fd : io_pread_all(fd, header, sizeof(header), 0);
	if (fd >= 0)
		close(fd);
	if (err)
		return io_wants_means(err) ? err : -EBADMSG;
	if (memcmp(header, JOURNAL_MAGIC, 8) != 0 || bytes_get32(header + 60) != crc32c(0, header, 60))
		return -EBADMSG;
	memcpy(ret_uuid, header + 16, 16);
	return 0;
}

int journal_uuid(int dirfd, uint8_t ret_uuid[16])
{
	uint64_t *numbers = NULL;
	uint8_t uuid[16];
	bool found = false;
	size_t count;
	int err = journal_list(dirfd, &numbers, &count);

	for (size_t i = 0; !err && i < count; i++) {
		err = uuid_of(dirfd, numbers[i], uuid);
		if (!err && found && memcmp(ret_uuid, uuid, sizeof(uuid)) != 0)
			err = -EUCLEAN;
		if (!err)
			memcpy(ret_uuid, uuid, sizeof(uuid));
		found = found || !err;
		err = err == -EBADMSG ? 0 : err;
	}
	free(numbers);
	return err ? err : found ? 0 : -ENODATA;
}
