#include "tests/lib/plogbox.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/io.h"

static void notified(void *ctx, int err, const char *text)
{
	struct box *box = ctx;

	if (err)
		box->errors++;
	else
		box->events++;
	snprintf(box->text, sizeof(box->text), "%s", text);
}

static void init(struct box *box)
{
	memset(box, 0, sizeof(*box));
	tmpdir_make(&box->dir);
	box->options = (struct plog_options){ .logs_dirfd = box->dir.fd, .id = BOX_ID };
	memcpy(box->options.store_uuid, "store-uuid-of-16", 16);
	box->options.notify = (struct engine_notify){ notified, box };
}

void box_make(struct box *box)
{
	init(box);
	cr_assert_eq(plog_create(&box->options), 0);
	cr_assert_eq(box_open(box), 0);
}

void box_copy(struct box *box, const struct box *from)
{
	int from_fd = box_dir(from), to_fd;

	init(box);
	cr_assert_eq(mkdirat(box->dir.fd, BOX_LOG, 0700), 0);
	to_fd = box_dir(box);
	tmpdir_copy(from_fd, to_fd);
	close(from_fd);
	close(to_fd);
}

void box_remove(struct box *box)
{
	box_close(box);
	engine_scratch_release(&box->scratch);
	tmpdir_remove(&box->dir);
}

int box_open(struct box *box)
{
	return plog_open(&box->options, &box->plog);
}

int box_close(struct box *box)
{
	int rc = plog_close(box->plog);

	box->plog = NULL;
	return rc;
}

int box_dir(const struct box *box)
{
	int fd = openat(box->dir.fd, BOX_LOG, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	cr_assert_geq(fd, 0);
	return fd;
}

size_t box_payload(uint64_t i, char out[64])
{
	static const char *const shapes[] = { "message %" PRIu64, "%" PRIu64, "two\nlines %" PRIu64 "\n",
		"\n%" PRIu64 "\n\n" };

	if (i % 7 == 6)
		return 0;
	return (size_t)snprintf(out, 64, shapes[i % 7 < 4 ? 0 : i % 7 == 4 ? 2 : 3], i);
}

int box_append(struct box *box, uint64_t first, uint32_t count, int64_t ts_ms, uint64_t segment_bytes)
{
	char *data = malloc((size_t)count * 65);
	uint32_t *lengths = malloc(count * sizeof(*lengths));
	struct engine_batch batch = { .data = data, .count = count, .lengths = lengths, .ts_ms = ts_ms };
	uint64_t offset;
	int rc;

	for (uint32_t i = 0; i < count; i++) {
		char payload[64];

		lengths[i] = (uint32_t)box_payload(first + i, payload);
		memcpy(data + batch.len, payload, lengths[i]);
		batch.len += lengths[i];
		data[batch.len++] = '\n';
	}
	rc = plog_append(box->plog, &batch, 0, segment_bytes, &offset);
	free(data);
	free(lengths);
	return rc;
}

int box_append_big(struct box *box, char c, size_t size, int64_t ts_ms, uint64_t segment_bytes)
{
	char *data = malloc(size + 1);
	struct engine_batch batch = { .data = data, .len = size + 1, .count = 1, .ts_ms = ts_ms };
	uint64_t offset;
	int rc;

	memset(data, c, size);
	data[size] = '\n';
	rc = plog_append(box->plog, &batch, 0, segment_bytes, &offset);
	free(data);
	return rc;
}

static int open_file(const struct box *box, uint64_t base, const char *suffix)
{
	char name[64];

	snprintf(name, sizeof(name), "%s/%020" PRIu64 ".%s", BOX_LOG, base, suffix);
	return openat(box->dir.fd, name, O_RDWR | O_CLOEXEC);
}

int64_t box_size(const struct box *box, uint64_t base, const char *suffix)
{
	struct stat st;
	int fd = open_file(box, base, suffix);

	if (fd < 0)
		return -1;
	cr_assert_eq(fstat(fd, &st), 0);
	close(fd);
	return st.st_size;
}

void box_cut(const struct box *box, uint64_t base, const char *suffix, int64_t size)
{
	int fd = open_file(box, base, suffix);

	cr_assert(fd >= 0 && !ftruncate(fd, size));
	close(fd);
}

void box_flip(const struct box *box, uint64_t base, const char *suffix, int64_t bit)
{
	int fd = open_file(box, base, suffix);
	uint8_t byte;

	cr_assert_eq(pread(fd, &byte, 1, bit / 8), 1);
	byte ^= (uint8_t)(1 << bit % 8);
	cr_assert_eq(pwrite(fd, &byte, 1, bit / 8), 1);
	close(fd);
}

static void check_view(const struct engine_view *view, uint64_t shift)
{
	const char *p = view->batch.data;

	for (uint32_t i = 0; i < view->batch.count; i++) {
		char want[64];
		size_t len = box_payload(view->offset + i + shift, want);

		cr_assert_eq(view->batch.lengths[i], len, "offset %" PRIu64, view->offset + i);
		cr_assert(!memcmp(p, want, len) && p[len] == '\n', "offset %" PRIu64, view->offset + i);
		p += len + 1;
	}
	cr_assert_eq((size_t)(p - view->batch.data), view->batch.len);
}

uint64_t box_check(struct box *box, uint64_t shift, uint64_t *ret_lost)
{
	struct engine_partition_stat stat;
	uint64_t right = 0, lost = 0;

	plog_stat(box->plog, &stat);
	for (uint64_t offset = stat.earliest; offset < stat.end;) {
		struct engine_view view = { 0 };
		int rc = plog_read(box->plog, offset, UINT32_MAX, &box->scratch, &view);

		cr_assert(rc == 0 || (rc == -EIO && !view.batch.data), "offset %" PRIu64 ": %d", offset, rc);
		cr_assert(view.offset == offset && view.batch.count > 0);
		if (rc == 0) {
			check_view(&view, shift);
			right += view.batch.count;
		} else {
			lost += view.batch.count;
		}
		offset += view.batch.count;
		cr_assert_leq(offset, stat.end);
	}
	if (ret_lost)
		*ret_lost = lost;
	return right;
}

struct engine_partition_stat box_stat(const struct box *box)
{
	struct engine_partition_stat stat;

	plog_stat(box->plog, &stat);
	return stat;
}

uint64_t box_fill(struct box *box, unsigned batches)
{
	uint64_t n = box_stat(box).end;

	for (unsigned i = 0; i < batches; i++) {
		uint32_t count = 1 + i % 5;

		cr_assert_eq(box_append(box, n, count, (int64_t)n, 1 << 20), 0);
		n += count;
	}
	return n;
}

void box_expect_working(struct box *of, uint64_t lost)
{
	uint64_t end = box_stat(of).end, right = box_check(of, 0, NULL), now_lost;

	for (int round = 0; round < 2; round++) {
		struct box killed;

		cr_assert_eq(box_append(of, end + (uint64_t)round, 1, 99, 1 << 20), 0);
		box_copy(&killed, of);
		cr_assert_eq(box_open(&killed), 0);
		cr_assert_eq(box_check(&killed, 0, &now_lost), right + 1 + (uint64_t)round);
		cr_assert_eq(now_lost, lost);
		box_remove(&killed);
		cr_assert_eq(box_close(of), 0);
		cr_assert_eq(box_open(of), 0);
		cr_assert_eq(box_check(of, 0, &now_lost), right + 1 + (uint64_t)round);
		cr_assert_eq(now_lost, lost);
	}
}
