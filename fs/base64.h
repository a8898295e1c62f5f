/*
 * base64 - RFC 4648 section 4, with padding, for payloads and keys that are not UTF-8.
 *
 * Decoding is strict: no line breaks, no blanks, padding complete, and unused bits zero, so that every sequence of bytes
 * has exactly one spelling.
 */
#ifndef MQFS_FS_BASE64_H
#define MQFS_FS_BASE64_H

#include <stddef.h>
#include <sys/types.h>

#define BASE64_ENCODED(len) (((len) + 2) / 3 * 4) /* characters that len bytes become */
#define BASE64_DECODED(len) ((len) / 4 * 3)       /* bytes that len characters become at most */

/* Writes exactly BASE64_ENCODED(len) characters, no NUL. */
void base64_encode(const void *in, size_t len, char *out);

/* Writes at most BASE64_DECODED(len) bytes; returns how many. EINVAL. */
ssize_t base64_decode(const char *in, size_t len, void *out);

#endif
