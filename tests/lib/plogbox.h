/*
 * plogbox - a partition log in a directory of its own, with short words for what tests do to it.
 *
 * Messages are made from numbers: message i of a box is box_payload(i), which no other number gives, so that a reader can
 * tell what it got. Most are a line; some are empty, some hold newlines.
 */
#ifndef MQFS_TEST_PLOGBOX_H
#define MQFS_TEST_PLOGBOX_H

#include "engine/plog.h"
#include "tests/lib/tmpdir.h"

#define BOX_ID 0x2aull
#define BOX_LOG "000000000000002a"

struct box {
	struct tmpdir dir; /* the store's logs/ */
	struct plog_options options;
	struct plog *plog;
	struct engine_scratch scratch;
	unsigned errors, events; /* notified */
	char text[256];          /* the last of them */
};

void box_make(struct box *box);                         /* created and open */
void box_copy(struct box *box, const struct box *from); /* its files as they are, not open */
void box_remove(struct box *box);                       /* closes what is open */
int box_open(struct box *box);
int box_close(struct box *box);
int box_dir(const struct box *box); /* a descriptor of the log's directory, for the caller to close */

/* Payload of message i; at most 64 bytes. */
size_t box_payload(uint64_t i, char out[64]);

/* Appends messages [first, first + count) as one batch with this time. Returns what plog_append did. */
int box_append(struct box *box, uint64_t first, uint32_t count, int64_t ts_ms, uint64_t segment_bytes);

/* Appends one message of size bytes, all of them c. */
int box_append_big(struct box *box, char c, size_t size, int64_t ts_ms, uint64_t segment_bytes);

/* Bytes of BASE.suffix, or -1 if there is no such file. */
int64_t box_size(const struct box *box, uint64_t base, const char *suffix);
void box_cut(const struct box *box, uint64_t base, const char *suffix, int64_t size);
void box_flip(const struct box *box, uint64_t base, const char *suffix, int64_t bit);

/*
 * Reads the whole log and compares: at offset o is message o + shift, or damage. Returns how many were right; aborts the test
 * where something is wrong. *ret_lost (may be NULL): how many were damaged.
 */
uint64_t box_check(struct box *box, uint64_t shift, uint64_t *ret_lost);

struct engine_partition_stat box_stat(const struct box *box);

/* Appends batches of 1 to 5 messages, each an entry of its own; some have meta. Returns where the log then ends. */
uint64_t box_fill(struct box *box, unsigned batches);

/*
 * The log works: messages can be added and read, and it looks the same after a kill, and after a reopening. lost: messages that
 * are damaged, and stay so.
 */
void box_expect_working(struct box *box, uint64_t lost);

#endif
