/*
 * A log whose files are any bytes: it is refused, or opened, read to its end, written to, closed and opened again, with what
 * was read before and what was written.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "engine/bytes.h"
#include "engine/crc32c.h"
#include "engine/index.h"
#include "engine/io.h"
#include "engine/plog.h"
#include "tests/fuzz/fuzz.h"
#include "tests/lib/nosync.h"
#include "tests/lib/plogbox.h"

#define BASE "00000000000000000000"

/* Takes the next piece of the input as a file; its records get the CRCs they want, if asked to. */
static void put_file(int dirfd, struct fuzz_input *input, const char *suffix, bool crcs)
{
	size_t high = fuzz_byte(input) & 7, size = high << 8 | fuzz_byte(input);
	char name[64];
	uint8_t *bytes;

	if (size > input->size)
		size = input->size;
	bytes = malloc(size + 1);
	if (bytes == NULL)
		return;
	memcpy(bytes, input->data, size);
	input->data += size;
	input->size -= size;
	for (size_t at = 0; crcs && at + INDEX_SLOT <= size; at += INDEX_SLOT)
		bytes_put32(bytes + at + 60, crc32c(0, bytes + at, 60));
	snprintf(name, sizeof(name), "%s.%s", BASE, suffix);
	tmpdir_put(dirfd, name, bytes, size);
	free(bytes);
}

#define OFFSETS_MAX (1u << 20) /* a mark can say that more is lost than anybody could walk over */

/* Reads all; returns how many messages can be. */
static uint64_t read_all(struct box *box)
{
	struct engine_partition_stat stat = box_stat(box);
	uint64_t offset = stat.earliest, count = 0;

	while (offset < stat.end) {
		struct engine_view view = { 0 };
		int rc = plog_read(box->plog, offset, UINT32_MAX, &box->scratch, &view);

		if (view.batch.count == 0)
			break;
		FUZZ_ASSERT(view.offset + view.batch.count > offset && view.offset + view.batch.count <= stat.end);
		count += rc == 0 ? view.batch.count : 0;
		offset = view.offset + view.batch.count;
	}
	return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = { data, size };
	bool crcs = fuzz_byte(&input) & 1;
	struct box box;
	int dirfd;

	nosync_install();
	box_make(&box);
	FUZZ_ASSERT(box_close(&box) == 0);
	dirfd = box_dir(&box);
	put_file(dirfd, &input, "index", crcs);
	put_file(dirfd, &input, "data", false);
	put_file(dirfd, &input, "meta", false);
	if (input.size >= INDEX_SLOT)
		tmpdir_put(dirfd, "start", input.data, INDEX_SLOT);
	close(dirfd);
	if (box_open(&box) == 0 && box_stat(&box).end - box_stat(&box).earliest < OFFSETS_MAX) {
		uint64_t count = read_all(&box), end = box_stat(&box).end;
		int rc = end < UINT64_MAX / 4 ? box_append(&box, 3, 2, 5, 1 << 20) : -1;

		FUZZ_ASSERT(box_close(&box) == 0);
		FUZZ_ASSERT(box_open(&box) == 0);
		FUZZ_ASSERT(box_stat(&box).end == end + (rc == 0 ? 2 : 0));
		count += rc == 0 ? 2 : 0;
		/* Records that contradict each other, with the right CRCs, can hide what is behind them. */
		FUZZ_ASSERT(read_all(&box) == count || crcs);
	}
	box_remove(&box);
	return 0;
}
