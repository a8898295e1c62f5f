/*
 * buffer - bytes that grow.
 *
 * What is printed for a reader (messages, metrics, lists of lines) is appended piece by piece. So that printing code
 * need not test every append, a failed allocation sticks: the buffer keeps what it had, ignores what is added after, and
 * buffer_error() tells at the end. Whoever hands the bytes on asks it first.
 *
 * A struct buffer that is all zero is an empty one. Not thread-safe.
 */
#ifndef MQFS_FS_BUFFER_H
#define MQFS_FS_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
	char *ptr; /* NULL while nothing was ever added; not NUL-terminated */
	size_t len, cap;
	bool failed;
};
#define BUFFER_INIT ((struct buffer){ 0 })

/* 0, or -ENOMEM if anything could not be added since buffer_clear(). */
int buffer_error(const struct buffer *buf);

/* Empties it and forgets a failure; memory is kept. */
void buffer_clear(struct buffer *buf);

/* Gives back what it has beyond its bytes, if it can. Invalidates pointers into it. */
void buffer_fit(struct buffer *buf);

/* Frees the memory; it is an empty buffer again. */
void buffer_release(struct buffer *buf);

/*
 * Makes room for size more bytes and returns where to write them (the caller then adds to len what it wrote), or
 * NULL if there is no memory. Grows by doubling. Invalidates pointers into the buffer.
 */
char *buffer_room(struct buffer *buf, size_t size);

void buffer_add(struct buffer *buf, const void *ptr, size_t len);
void buffer_add_char(struct buffer *buf, char c);
void buffer_add_text(struct buffer *buf, const char *text); /* without its NUL */
void buffer_add_u64(struct buffer *buf, uint64_t value);    /* as decimal */
void buffer_add_i64(struct buffer *buf, int64_t value);
void buffer_printf(struct buffer *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
