/*
 * page - the HTML of status/dashboard.html: its frame, its cells, and the choice of the rows that are shown.
 *
 * All text that users choose passes page_escape(). A number is a cell that the page's script sorts by its value.
 */
#ifndef MQFS_FS_PAGE_H
#define MQFS_FS_PAGE_H

#include "fs/buffer.h"
#include "fs/handle.h"

void page_begin(struct buffer *out);
void page_end(struct buffer *out);
void page_escape(struct buffer *out, const char *text, size_t len);

/*
 * The rows of the highest rank, the highest first, those of equal rank in their order: at most max of them. Returns how
 * many. Fewer without memory.
 */
size_t page_top(
    const void *rows, size_t count, size_t size, uint64_t (*rank)(const void *row), const void **ret_rows, size_t max);

/* A row begins, and its cells. */
void page_row(struct buffer *out);
void page_name(struct buffer *out, const char *name);
void page_number(struct buffer *out, uint64_t value);
void page_alarm(struct buffer *out, uint64_t value); /* a number that should be 0 */
void page_bytes(struct buffer *out, uint64_t value);
void page_age(struct buffer *out, int64_t ms); /* 0: none */
void page_partitions(struct fs *fs, uint64_t topic, uint32_t count, struct buffer *out);
void page_members(struct fs *fs, uint64_t group, size_t max, struct buffer *out);

/* One of the figures at the top. */
void page_sum(struct buffer *out, const char *name, uint64_t value);

#endif
